//! A connection to a MongoDB database, and commands on it: each has a limit on the server, and none
//! is waited for without end.

use std::future::{Future, IntoFuture};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::TryStreamExt;
use mongodb::Client;
use mongodb::bson::{Bson, Document, RawDocumentBuf, doc};
use mongodb::options::{ClientOptions, ServerAddress};
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use super::error::said;
use super::masked::{of_a_write, without_values};
use super::names::CLAIMS;
use super::{Dial, MongoError, Refusal, probe};
use crate::engines::clocks;
use crate::values::{wall_clock, with_causes};

/// How long a question that reads only what the server knows of itself may take.
const ASIDE: Duration = Duration::from_secs(30);
/// How long the server may take to end an operation.
const KILLING: Duration = Duration::from_secs(10);

/// So much later than the server's own limit an answer may come. The driver waits for ever where a
/// network says nothing.
const LATE: Duration = Duration::from_secs(15);

/// How long until it is tried again to end one that goes on.
const KILL_AGAIN: Duration = Duration::from_millis(500);

/// How long a command may take on the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit(pub Duration);

impl Limit {
    /// For questions that read only what the server knows of itself.
    pub const ASIDE: Limit = Limit(ASIDE);

    fn millis(self) -> i64 {
        i64::try_from(self.0.as_millis())
            .unwrap_or(i64::from(i32::MAX))
            .clamp(1, i64::from(i32::MAX))
    }
}

/// Whom we talk to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// As the server writes it: `6.0.5`.
    pub version: String,
    /// Major and minor: `(6, 0)`.
    pub release: (u32, u32),
    /// Feature compatibility, where the role may ask for it: `6.0`.
    pub compatibility: Option<String>,
    /// The replica set, if it is one.
    pub set: Option<String>,
    /// Whether it may be written to: the primary, or a server that stands alone.
    pub writable: bool,
    /// Whether it is a shard of a cluster, so that it answers for a part of the documents only.
    pub shard: bool,
    /// By how many milliseconds this machine's clock is ahead of the server's,
    /// at least; negative where it is behind, 0 where both may be the same.
    pub clock_ahead_ms: i64,
}

impl Server {
    /// What is wrong where the two clocks are more than a few seconds apart:
    /// then nobody can tell how old a document is.
    pub fn clock_differs(&self) -> Option<String> {
        clocks::differ(self.clock_ahead_ms, "documents")
    }

    /// What the server's clock shows when ours shows `now`.
    pub fn clock(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        now - TimeDelta::milliseconds(self.clock_ahead_ms)
    }
}

/// A client of one target: several connections that the driver looks after,
/// to the primary of a replica set wherever it moves to. Cheap to clone.
#[derive(Clone)]
pub struct Session {
    client: Client,
    options: Arc<ClientOptions>,
    dial: Dial,
    name: Arc<str>,
    commands: Arc<AtomicU64>,
    /// Whom we talk to.
    pub server: Arc<Server>,
    pub(super) claimed: Arc<tokio::sync::Mutex<Option<Claim>>>,
    /// Cancelled when the claim is lost.
    pub(super) lost: CancellationToken,
}

/// `database.collection`, as the server writes it.
pub fn namespace(database: &str, collection: &str) -> String {
    format!("{database}.{collection}")
}

impl Session {
    /// Connects; `name` is what the client calls itself on the server.
    ///
    /// # Errors
    /// When that fails, with the reason.
    pub async fn open(dial: &Dial, name: &str) -> Result<Session, MongoError> {
        let (options, by_default) = dial.options(name).await?;
        Session::with(options, by_default, dial, name).await
    }

    /// A session on one member of the set, whatever its state.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub async fn member(&self, address: &str) -> Result<Session, MongoError> {
        let mut options = (*self.options).clone();
        let address =
            ServerAddress::parse(address).map_err(|error| MongoError::Url(said(&error)))?;
        options.hosts = vec![address];
        options.repl_set_name = None;
        options.direct_connection = Some(true);
        options.srv_max_hosts = None;
        Session::with(options, false, &self.dial, &self.name).await
    }

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

    async fn with(
        options: ClientOptions,
        by_default: bool,
        dial: &Dial,
        name: &str,
    ) -> Result<Session, MongoError> {
        let shown = match options.direct_connection {
            Some(true) => options
                .hosts
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(","),
            _ => dial.describe().to_owned(),
        };
        let client =
            Client::with_options(options.clone()).map_err(|error| MongoError::Url(said(&error)))?;
        let admin = client.database("admin");
        let hello = match admin.run_command(doc! { "hello": 1 }).await {
            Ok(hello) => hello,
            Err(seen) => return Err(probe::diagnose(&options, by_default, &shown, &seen).await),
        };
        if hello.get_str("msg").ok() == Some("isdbgrid") {
            return Err(MongoError::Connect {
                server: shown,
                refusal: Refusal::Other(
                    "this is a router of a sharded cluster (mongos), which maint does not look after: name a shard's replica set instead".to_owned(),
                ),
            });
        }
        // Needs no role, and is the first thing that needs us to be let in.
        let built = match admin.run_command(doc! { "buildInfo": 1 }).await {
            Ok(built) => built,
            Err(seen) => return Err(probe::diagnose(&options, by_default, &shown, &seen).await),
        };
        if options.credential.is_none() && keeps_out(&client, dial.database()).await {
            return Err(MongoError::Connect {
                server: shown,
                refusal: Refusal::NoUser,
            });
        }
        let version = built.get_str("version").unwrap_or_default().to_owned();
        let release = release(&version);
        if release < (4, 4) {
            return Err(MongoError::TooOld {
                server: shown,
                version,
            });
        }
        let compatibility = admin
            .run_command(doc! { "getParameter": 1, "featureCompatibilityVersion": 1 })
            .await
            .ok()
            .and_then(|answer| {
                let value = answer.get_document("featureCompatibilityVersion").ok()?;
                value.get_str("version").ok().map(str::to_owned)
            });
        // Asked once more: the first answer took as long as connecting does.
        let asked = wall_clock();
        let told = match admin.run_command(doc! { "hello": 1 }).await {
            Ok(hello) => hello,
            Err(seen) => return Err(probe::diagnose(&options, by_default, &shown, &seen).await),
        };
        let answered = wall_clock();
        let clock_ahead_ms = told.get_datetime("localTime").map_or(0, |there| {
            clocks::ahead(
                there.timestamp_millis(),
                asked.timestamp_millis(),
                answered.timestamp_millis(),
            )
        });
        Ok(Session {
            client,
            options: Arc::new(options),
            dial: dial.clone(),
            name: name.into(),
            commands: Arc::default(),
            server: Arc::new(Server {
                version,
                release,
                compatibility,
                set: hello.get_str("setName").ok().map(str::to_owned),
                shard: is_of_cluster(&told),
                writable: hello.get_bool("isWritablePrimary").unwrap_or(false),
                clock_ahead_ms,
            }),
            claimed: Arc::default(),
            lost: CancellationToken::new(),
        })
    }

    /// Whether only the server that the URL names is asked, whatever its state.
    pub fn is_direct(&self) -> bool {
        self.options.direct_connection == Some(true)
    }

    /// The same session, holding no claim.
    pub(super) fn alone(&self) -> Session {
        Session {
            claimed: Arc::default(),
            ..self.clone()
        }
    }

    /// How the target is reached.
    pub(crate) fn dial(&self) -> &Dial {
        &self.dial
    }

    /// The database to look after.
    pub fn database(&self) -> &str {
        self.dial.database()
    }

    /// What the client calls itself on the server.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The servers, for people.
    pub fn describe(&self) -> &str {
        self.dial.describe()
    }

    /// The host and port of a session on one member; the first of those in the URL otherwise.
    pub(crate) fn address(&self) -> String {
        let first = self.options.hosts.first();
        first.map(ToString::to_string).unwrap_or_default()
    }

    /// The driver's collection, for documents that have to stay as they are, to the byte.
    pub(crate) fn raw(
        &self,
        database: &str,
        collection: &str,
    ) -> mongodb::Collection<mongodb::bson::RawDocumentBuf> {
        self.client.database(database).collection(collection)
    }

    /// The driver's client, for transactions.
    pub(crate) fn client(&self) -> &Client {
        &self.client
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

    /// The database that our user was made in.
    pub fn lives_in(&self) -> &str {
        let credential = self.options.credential.as_ref();
        credential
            .and_then(|credential| credential.source.as_deref())
            .unwrap_or("admin")
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

    /// Every database but the server's own.
    ///
    /// # Errors
    /// When the server reports one, or cannot be asked.
    pub async fn databases(&self) -> Result<Vec<String>, MongoError> {
        let command = doc! { "listDatabases": 1, "nameOnly": true };
        let answer = self
            .command("listing databases", "admin", command, Limit::ASIDE)
            .await?;
        let all = answer.get_array("databases").into_iter().flatten();
        let names = all.filter_map(|one| one.as_document()?.get_str("name").ok());
        Ok(names
            .filter(|name| !matches!(*name, "admin" | "config" | "local"))
            .map(str::to_owned)
            .collect())
    }

    /// Whether our user may do this to a collection of a database, or to all of them.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub async fn may(&self, action: &str, database: &str) -> Result<bool, MongoError> {
        let command = doc! { "connectionStatus": 1, "showPrivileges": true };
        let doing = "asking for privileges";
        let answer = self.command(doing, "admin", command, Limit::ASIDE).await?;
        let info = answer.get_document("authInfo").cloned().unwrap_or_default();
        // Nobody logs in, and everybody may do everything.
        let nobody = info
            .get_array("authenticatedUsers")
            .map_or(true, Vec::is_empty);
        let privileges = info
            .get_array("authenticatedUserPrivileges")
            .into_iter()
            .flatten();
        Ok(nobody
            || privileges.filter_map(Bson::as_document).any(|privilege| {
                let has = privilege
                    .get_array("actions")
                    .is_ok_and(|actions| actions.iter().any(|one| one.as_str() == Some(action)));
                has && privilege.get_document("resource").is_ok_and(|on| {
                    let here = on
                        .get_str("db")
                        .is_ok_and(|on| on.is_empty() || on == database);
                    here || on.get_bool("anyResource").unwrap_or(false)
                })
            }))
    }

    /// Ends the connections, so that nothing is left to be done when the process ends.
    pub async fn close(self) {
        self.client.shutdown().immediate(true).await;
    }

    /// The names of the collections of a database, the server's own left out; none where
    /// they may not be listed.
    ///
    /// # Errors
    /// When the server reports one, or cannot be asked.
    pub async fn collection_names(
        &self,
        database: &str,
    ) -> Result<Option<Vec<String>>, MongoError> {
        let command = doc! { "listCollections": 1, "nameOnly": true };
        let doing = "listing collections";
        let found = match self.all(doing, database, command, Limit::ASIDE).await {
            Err(MongoError::Unauthorized { .. }) => return Ok(None),
            found => found?,
        };
        let names = found.iter().filter_map(|one| one.get_str("name").ok());
        Ok(Some(
            names
                .filter(|name| !name.starts_with("system."))
                .map(str::to_owned)
                .collect(),
        ))
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
    async fn answered<T>(
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
fn asked(command: &Document) -> Option<String> {
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

/// Whether a server does nothing for us, who have not logged in.
async fn keeps_out(client: &Client, database: &str) -> bool {
    let none = doc! { "_id": { "$in": [] } };
    let find = doc! { "find": CLAIMS, "filter": none, "limit": 1, "singleBatch": true };
    let asked = client.database(database).run_command(find).await;
    asked.is_err_and(|error| {
        matches!(
            MongoError::of_driver(&error),
            MongoError::Unauthorized { .. }
        )
    })
}

/// A number whatever its type.
pub fn number(value: Option<&Bson>) -> Option<i64> {
    match value? {
        Bson::Int32(n) => Some(i64::from(*n)),
        Bson::Int64(n) => Some(*n),
        Bson::Double(n) if n.is_finite() => Some(*n as i64),
        Bson::Boolean(yes) => Some(i64::from(*yes)),
        _ => None,
    }
}

/// Major and minor of a version such as `6.0.5` or `7.1.0-rc2`.
fn release(version: &str) -> (u32, u32) {
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

/// Whether the answer to `hello` is that of a member of a sharded cluster. Such a server adds the
/// newest time that a majority has reached to everything it answers, whoever asks, and no other
/// does.
pub(super) fn is_of_cluster(hello: &Document) -> bool {
    hello.contains_key("lastCommittedOpTime") || hello.contains_key("$configServerState")
}

/// A claim that is being renewed until this is dropped.
pub struct Claim {
    pub(super) session: Session,
    pub(super) task: String,
    pub(super) owner: String,
    pub(super) end: CancellationToken,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_far_as_they_matter() {
        assert_eq!(release("4.4.2"), (4, 4));
        assert_eq!(release("8.0.0-rc1"), (8, 0));
        assert_eq!(release(""), (0, 0));
    }

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
