//! What adds to a collection, and so must not be made twice: a mark that is written before, and says
//! afterwards that it was made. Whenever the process dies, a mark that does not say so is left, and
//! nobody adds to that collection again unseen.

use std::time::Instant;

use mongodb::bson::{Bson, DateTime, Document, doc};
use serde_json::Value;

use super::marks::{LOOK, MARKS, PATIENCE, PAUSE, concern};
use super::{MongoError, Session};
use crate::values::with_causes;

/// Code: there is such a mark.
const DUPLICATE: i32 = 11000;
/// More bytes than the marks of all additions to some collections have.
const MOST_BYTES: usize = 16 << 20;
/// What a mark says while its addition is made, and when it was.
const ADDING: &str = "adding";
const MADE: &str = "made";

/// What a mark says of an addition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Added {
    /// A run is at it.
    Now,
    /// Its run is no more, and how much of it was made, nobody has seen.
    CutOff,
    /// All of it.
    Whole,
}

/// Something that was added to a collection, or was about to be.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Addition {
    /// The mark's own id.
    pub(crate) id: String,
    /// Where it is made from, and where it goes: whole names.
    pub(crate) from: String,
    /// The collection that is added to.
    pub(crate) into: String,
    /// The run, as it is called on the server.
    pub(crate) owner: String,
    /// When it began, by this machine's clock.
    pub(crate) since: Option<DateTime>,
    /// How far it has come.
    pub(crate) added: Added,
    /// What is to be remembered of one that was made.
    pub(crate) memory: Option<Value>,
}

impl Addition {
    fn read(mark: &Document) -> Option<Addition> {
        let text = |name: &str| mark.get_str(name).ok().map(str::to_owned);
        let memory = text("memory").and_then(|text| serde_json::from_str(&text).ok());
        Some(Addition {
            id: text("_id")?,
            from: text("from")?,
            into: text("into")?,
            owner: text("owner").unwrap_or_default(),
            since: mark.get_datetime("at").ok().copied(),
            added: match text("state")?.as_str() {
                MADE => Added::Whole,
                _ => Added::CutOff,
            },
            memory,
        })
    }
}

impl Session {
    /// The marks of additions to these collections, by their whole names.
    ///
    /// # Errors
    /// When there are more of them, or larger ones, than are read, or the server cannot be asked.
    pub(crate) async fn additions(&self, into: &[String]) -> Result<Vec<Addition>, MongoError> {
        let filter = doc! { "state": { "$in": [ADDING, MADE] }, "into": { "$in": into.to_vec() } };
        let fields = ["_id", "from", "into", "owner", "at", "state", "memory"];
        let read = fields.map(|name| (name.to_owned(), Bson::Int32(1)));
        let read: Document = read.into_iter().collect();
        let command =
            doc! { "find": MARKS, "filter": filter, "projection": read, "sort": { "_id": 1 } };
        let doing = "looking for additions that were cut off";
        let (mut found, mut bytes) = (Vec::new(), 0);
        let read = self.each(doing, self.database(), command, LOOK, |mark| {
            bytes += mark.as_bytes().len();
            // What cannot be read none of us has written.
            found.extend(Document::try_from(&mark).ok());
            bytes <= MOST_BYTES
        });
        match read.await {
            // Who may not read marks has written none.
            Err(MongoError::Unauthorized { .. }) => return Ok(Vec::new()),
            read => read?,
        }
        if bytes > MOST_BYTES {
            return Err(MongoError::Driver {
                doing: doing.to_owned(),
                message: format!(
                    "the marks of additions to {} in {MARKS} of {} have more than {} MB: others than maint have written there. Look at them, and remove those that are none of maint's",
                    into.join(", "),
                    self.database(),
                    MOST_BYTES >> 20
                ),
            });
        }
        let mut marks: Vec<Addition> = found.iter().filter_map(Addition::read).collect();
        if marks.iter().any(|mark| mark.added == Added::CutOff) {
            let open = marks.iter().filter(|mark| mark.added == Added::CutOff);
            let alive = self.at_work(open.map(|mark| &mark.owner)).await?;
            let open = marks.iter_mut().filter(|mark| mark.added == Added::CutOff);
            for mark in open.filter(|mark| alive.contains(&mark.owner)) {
                mark.added = Added::Now;
            }
        }
        Ok(marks)
    }

    /// Writes the mark of an addition that is about to be made. `false`: one is there that does not
    /// say that it was made, and nothing may be added. `step` is unique to the attempt.
    ///
    /// # Errors
    /// When the server refuses, or cannot be asked for long: nothing may be added.
    pub(crate) async fn begin_addition(
        &self,
        mark: &Addition,
        step: &str,
    ) -> Result<bool, MongoError> {
        let mut set = doc! {
            "state": ADDING, "at": DateTime::now(), "owner": &mark.owner, "step": step,
            "from": &mark.from, "into": &mark.into,
        };
        if let Some(memory) = &mark.memory {
            set.insert("memory", memory.to_string());
        }
        // Finds none but one that was made, and our own where its answer was lost. Of any other the
        // insert is refused: its id is taken.
        let free = doc! { "q": { "_id": &mark.id, "$or": [{ "state": MADE }, { "step": step }] }, "u": { "$set": set }, "upsert": true };
        let command = doc! { "update": MARKS, "updates": [free], "writeConcern": concern() };
        match self.write_mark("marking what is added", command).await {
            Err(error) if error.code() == Some(DUPLICATE) => Ok(false),
            written => written.map(|()| true),
        }
    }

    /// Says that all of it was added.
    ///
    /// # Errors
    /// When the server refuses, or cannot be asked for long.
    pub(crate) async fn addition_made(&self, id: &str, step: &str) -> Result<(), MongoError> {
        let made = doc! { "q": { "_id": id, "step": step }, "u": { "$set": { "state": MADE }, "$unset": { "step": "" } } };
        let command = doc! { "update": MARKS, "updates": [made], "writeConcern": concern() };
        self.write_mark("marking what was added", command).await
    }

    /// Removes the mark of one of which nothing was added.
    ///
    /// # Errors
    /// When the server refuses, or cannot be asked for long.
    pub(crate) async fn nothing_added(&self, id: &str, step: &str) -> Result<(), MongoError> {
        let ours = doc! { "q": { "_id": id, "step": step }, "limit": 1 };
        let command = doc! { "delete": MARKS, "deletes": [ours], "writeConcern": concern() };
        self.write_mark("removing a mark", command).await
    }

    /// Removes the marks of what was cut off between these two, of which nothing is left.
    ///
    /// # Errors
    /// When the server refuses, or cannot be asked for long.
    pub(crate) async fn nothing_left(&self, from: &str, into: &str) -> Result<(), MongoError> {
        let all = self.additions(&[into.to_owned()]).await?;
        let at_work = all.iter().filter(|mark| mark.added == Added::Now);
        let mut alive: Vec<&str> = at_work.map(|mark| mark.owner.as_str()).collect();
        alive.retain(|owner| *owner != self.name());
        let over = doc! { "state": ADDING, "from": from, "into": into, "owner": { "$nin": alive } };
        let command = doc! {
            "delete": MARKS, "deletes": [{ "q": over, "limit": 0 }], "writeConcern": concern(),
        };
        self.write_mark("removing marks", command).await
    }

    /// Gives a command that may be given twice, until it is answered.
    async fn write_mark(&self, doing: &str, command: Document) -> Result<(), MongoError> {
        let began = Instant::now();
        loop {
            let given = self.command(doing, self.database(), command.clone(), LOOK);
            match given.await {
                Ok(_) => return Ok(()),
                Err(error)
                    if (error.is_passing() || error.is_out_of_time())
                        && began.elapsed() < PATIENCE =>
                {
                    tracing::warn!(error = %with_causes(&error), "writing a mark again");
                }
                Err(error) => return Err(error),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_mark_that_does_not_say_that_it_was_made_was_cut_off() {
        let mark = |state: &str| doc! { "_id": "a", "from": "d.a", "into": "d.b", "state": state, "memory": "{\"at\":1}" };
        let whole = Addition::read(&mark("made")).unwrap();
        assert_eq!(whole.added, Added::Whole);
        assert_eq!(whole.memory, Some(serde_json::json!({ "at": 1 })));
        assert_eq!(
            Addition::read(&mark("adding")).unwrap().added,
            Added::CutOff
        );
        assert_eq!(Addition::read(&doc! { "_id": "a", "state": "made" }), None);
    }
}
