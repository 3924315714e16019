//! Commands within their limits, and what their answers say: also how far another member is told to be,
//! and how operations of ours are ended.

use std::future::{Future, IntoFuture};
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::TryStreamExt;
use mongodb::bson::{Bson, Document, RawDocumentBuf, doc};
use serde::de::DeserializeOwned;

use super::super::MongoError;
use super::super::masked::{of_a_write, without_values};
use super::{Limit, Session, namespace, number};
use crate::values::with_causes;

/// So much later than the server's own limit an answer may come. The driver waits for ever where a
/// network says nothing.
const LATE: Duration = Duration::from_secs(15);

/// How long until it is tried again to end one that goes on.
const KILL_AGAIN: Duration = Duration::from_millis(500);

/// How long the server may take to end an operation.
const KILLING: Duration = Duration::from_secs(10);

impl Session {
    /// How far this server has come, which another member of its set is told: of a time that it has
    /// not heard of yet, as right after a write or an election, a server says that it cannot be.
    ///
    /// # Errors
    /// When one of the two reports one, or cannot be asked.
    pub(crate) async fn tell_time(&self, member: &Session) -> Result<Option<Bson>, MongoError> {
        let doing = "asking how far the primary has come";
        let (ping, of, on, _) = self.dressed("admin", doc! { "ping": 1 }, Limit::ASIDE);
        let asked = async {
            let mut here = self.client.start_session().await?;
            let admin = self.client.database("admin");
            let answer = admin.run_command(ping.clone()).session(&mut here).await?;
            let mut there = member.client.start_session().await?;
            if let Some(time) = here.cluster_time() {
                there.advance_cluster_time(time);
            }
            let admin = member.client.database("admin");
            admin.run_command(ping).session(&mut there).await?;
            Ok(answer.get("operationTime").cloned())
        };
        asked
            .await
            .map_err(|error| self.error(doing, &of, &on, &error))
    }

    /// Dresses up an error of the driver.
    pub(crate) fn error(
        &self,
        doing: &str,
        command: &str,
        namespace: &str,
        error: &mongodb::error::Error,
    ) -> MongoError {
        MongoError::of(doing, command, namespace, self.describe(), error)
            .of_user_in(self.lives_in())
    }

    /// Runs one command within a limit; `doing` completes "while …". Errors that
    /// a write reports beside success are errors here.
    ///
    /// # Errors
    /// When the server reports one, or cannot be asked.
    pub async fn command(
        &self,
        doing: &str,
        database: &str,
        command: Document,
        limit: Limit,
    ) -> Result<Document, MongoError> {
        let (command, of, on, _) = self.dressed(database, command, limit);
        let database = self.client.database(database);
        let work = database.run_command(command).into_future();
        let answer = self.answered(limit, (doing, &of, &on), work).await?;
        refused(doing, &of, &on, &answer).map_err(|error| error.of_user_in(self.lives_in()))?;
        Ok(answer)
    }

    /// The same, ended on the server as soon as `stop` is: the answer then
    /// tells that it was killed, unless it had come to its end before.
    ///
    /// # Errors
    /// When the server reports one, or cannot be asked.
    pub async fn command_until(
        &self,
        doing: &str,
        database: &str,
        command: Document,
        limit: Limit,
        stop: impl Future<Output = ()> + Send,
    ) -> Result<Document, MongoError> {
        let (command, of, on, comment) = self.dressed(database, command, limit);
        let database = self.client.database(database);
        let work = database.run_command(command).into_future();
        let work = self.answered(limit, (doing, &of, &on), work);
        tokio::pin!(work);
        let answer = tokio::select! {
            answer = &mut work => answer,
            () = stop => loop {
                let ours = doc! { "command.comment": &comment };
                if let Err(error) = kill_operations(self, ours).await {
                    tracing::warn!(error = %with_causes(&error), "could not end an operation");
                }
                // It may have been on its way to the server still.
                tokio::select! {
                    answer = &mut work => break answer,
                    () = tokio::time::sleep(KILL_AGAIN) => {}
                }
            },
        }?;
        refused(doing, &of, &on, &answer).map_err(|error| error.of_user_in(self.lives_in()))?;
        Ok(answer)
    }

    /// All that a command with a cursor answers; for what is small.
    ///
    /// # Errors
    /// When the server reports one, or cannot be asked.
    pub async fn all(
        &self,
        doing: &str,
        database: &str,
        command: Document,
        limit: Limit,
    ) -> Result<Vec<Document>, MongoError> {
        self.all_of(doing, database, command, limit).await
    }

    /// The same as it came: what is not valid in one part keeps nobody from reading the others.
    pub(crate) async fn all_raw(
        &self,
        doing: &str,
        database: &str,
        command: Document,
        limit: Limit,
    ) -> Result<Vec<RawDocumentBuf>, MongoError> {
        self.all_of(doing, database, command, limit).await
    }

    /// The same one by one, as each came, for what may be large together; it ends where no more is wanted.
    ///
    /// # Errors
    /// When the server reports one, or cannot be asked.
    pub(crate) async fn each(
        &self,
        doing: &str,
        database: &str,
        command: Document,
        limit: Limit,
        mut wants_more: impl FnMut(RawDocumentBuf) -> bool + Send,
    ) -> Result<(), MongoError> {
        let (command, of, on, _) = self.dressed(database, command, limit);
        let database = self.client.database(database);
        let work = async {
            let cursor = database.run_cursor_command(command).await?;
            let mut cursor = cursor.with_type::<RawDocumentBuf>();
            while let Some(one) = cursor.try_next().await? {
                if !wants_more(one) {
                    break;
                }
            }
            Ok(())
        };
        self.answered(limit, (doing, &of, &on), work).await
    }

    async fn all_of<T: DeserializeOwned + Unpin + Send + Sync>(
        &self,
        doing: &str,
        database: &str,
        command: Document,
        limit: Limit,
    ) -> Result<Vec<T>, MongoError> {
        let (command, of, on, _) = self.dressed(database, command, limit);
        let database = self.client.database(database);
        let work = async {
            let cursor = database.run_cursor_command(command).await?;
            cursor.with_type::<T>().try_collect().await
        };
        self.answered(limit, (doing, &of, &on), work).await
    }

    /// What the driver answers; an error where nothing comes although its time is up.
    pub(super) async fn answered<T>(
        &self,
        limit: Limit,
        (doing, command, on): (&str, &str, &str),
        work: impl Future<Output = mongodb::error::Result<T>>,
    ) -> Result<T, MongoError> {
        match tokio::time::timeout(limit.0.saturating_add(LATE), work).await {
            Ok(answer) => answer.map_err(|error| self.error(doing, command, on, &error)),
            Err(_) => Err(MongoError::Lost {
                doing: doing.to_owned(),
                server: self.describe().to_owned(),
                message: "no answer has come, although the time for it is up".to_owned(),
            }),
        }
    }

    /// An aggregation's whole answer; for what is small.
    ///
    /// # Errors
    /// When the server reports one, or cannot be asked.
    pub async fn aggregate(
        &self,
        doing: &str,
        database: &str,
        collection: &str,
        pipeline: Vec<Document>,
        limit: Limit,
    ) -> Result<Vec<Document>, MongoError> {
        let command = doc! { "aggregate": collection, "pipeline": pipeline, "cursor": {}, "allowDiskUse": true };
        self.all(doing, database, command, limit).await
    }

    /// With limit and comment; the command's name, its namespace and its comment beside it.
    fn dressed(
        &self,
        database: &str,
        mut command: Document,
        limit: Limit,
    ) -> (Document, String, String, String) {
        let first = command.iter().next();
        let (of, on) = match first {
            Some((name, Bson::String(collection))) => {
                (name.clone(), namespace(database, collection))
            }
            Some((name, _)) => (name.clone(), database.to_owned()),
            None => (String::new(), database.to_owned()),
        };
        let of = asked(&command).unwrap_or(of);
        let comment = format!(
            "{} {}",
            self.name,
            self.commands.fetch_add(1, Ordering::Relaxed)
        );
        command.insert("maxTimeMS", limit.millis());
        command.insert("comment", comment.as_str());
        (command, of, on, comment)
    }
}

/// What an aggregation asks the server of itself, which takes other rights than reading does.
pub(super) fn asked(command: &Document) -> Option<String> {
    let stages = command.get_array("pipeline").ok()?;
    let (stage, _) = stages.first()?.as_document()?.iter().next()?;
    matches!(stage.as_str(), "$indexStats" | "$currentOp").then(|| stage.clone())
}

/// What a command that answers "ok" may still report.
fn refused(
    doing: &str,
    command: &str,
    namespace: &str,
    answer: &Document,
) -> Result<(), MongoError> {
    let first = answer
        .get_array("writeErrors")
        .ok()
        .and_then(|errors| errors.first().and_then(Bson::as_document));
    let Some(error) = first.or_else(|| answer.get_document("writeConcernError").ok()) else {
        return Ok(());
    };
    let code = number(error.get("code")).unwrap_or(0) as i32;
    if code == 13 {
        return Err(MongoError::Unauthorized {
            doing: doing.to_owned(),
            command: command.to_owned(),
            namespace: namespace.to_owned(),
            lives_in: "admin".to_owned(),
        });
    }
    let said = error.get_str("errmsg").unwrap_or_default();
    Err(MongoError::Command {
        doing: doing.to_owned(),
        code,
        name: error
            .get_str("codeName")
            .unwrap_or("write error")
            .to_owned(),
        message: match first {
            Some(_) => of_a_write(code, said),
            None => without_values(code, said),
        },
    })
}

/// Ends operations of our own user that match, and says how many.
///
/// # Errors
/// When the server cannot be asked.
pub async fn kill_operations(session: &Session, filter: Document) -> Result<usize, MongoError> {
    let doing = "looking for operations of ours";
    // Without `allUsers` nobody else's are seen, and no further role is needed.
    let pipeline = vec![
        doc! { "$currentOp": { "allUsers": false, "idleConnections": false } },
        doc! { "$match": filter },
    ];
    let command = doc! { "aggregate": 1, "pipeline": pipeline, "cursor": {} };
    let found = session.all(doing, "admin", command, Limit(KILLING)).await?;
    let mut killed = 0;
    for operation in found {
        // The question itself is among the answers.
        let asks = operation.get_document("command").is_ok_and(|c| {
            c.get_array("pipeline").is_ok_and(|p| {
                p.first()
                    .and_then(Bson::as_document)
                    .is_some_and(|stage| stage.contains_key("$currentOp"))
            })
        });
        let Some(id) = operation.get("opid").filter(|_| !asks) else {
            continue;
        };
        let command = doc! { "killOp": 1, "op": id.clone() };
        let doing = "ending an operation of ours";
        match session
            .command(doing, "admin", command, Limit(KILLING))
            .await
        {
            Ok(_) => killed += 1,
            // Whoever may end only his own is told so of one that has just ended by itself, too.
            Err(MongoError::Unauthorized { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(killed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_server_is_asked_of_itself_is_told_from_reading() {
        let of = |stage: &str| asked(&doc! { "aggregate": 1, "pipeline": [{ stage: {} }] });
        assert_eq!(of("$indexStats").as_deref(), Some("$indexStats"));
        assert_eq!(of("$currentOp").as_deref(), Some("$currentOp"));
        assert_eq!(of("$match"), None);
        assert_eq!(asked(&doc! { "find": "x" }), None);
    }

    #[test]
    fn what_a_write_reports_beside_success_is_an_error() {
        let fine = doc! { "ok": 1, "n": 3 };
        assert!(refused("x", "delete", "a.b", &fine).is_ok());
        let late = doc! { "ok": 1, "writeConcernError": { "code": 64, "codeName": "WriteConcernFailed", "errmsg": "waiting for replication timed out" } };
        let error = refused("x", "delete", "a.b", &late).err();
        assert_eq!(error.and_then(|e| e.code()), Some(64));
        let denied = doc! { "ok": 1, "writeErrors": [{ "index": 0, "code": 13, "errmsg": "no" }] };
        assert!(matches!(
            refused("x", "delete", "a.b", &denied),
            Err(MongoError::Unauthorized { .. })
        ));
    }
}
