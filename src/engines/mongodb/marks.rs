//! What became of a transaction: it writes a mark of its own, and so the mark
//! is there if, and only if, it was committed. Whoever wants to know and finds
//! none writes one that keeps it from being committed ever after.

use std::time::{Duration, Instant};

use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, DateTime, Document, doc};

use super::{Limit, MongoError, Session, number};
use crate::values::with_causes;

/// Where marks are kept, in the target's own database, beside the claims.
pub const MARKS: &str = "maint.archives";
/// Codes: there is such a collection; there is such a mark.
const EXISTS: i32 = 48;
const DUPLICATE: i32 = 11000;
/// How long one look may take: somebody else's transaction may be in the way.
pub(super) const LOOK: Limit = Limit(Duration::from_secs(20));
/// The server ends a transaction that nobody goes on with after 60 s, and
/// looks for such every 30 s; a step-down may come in between.
pub(super) const PATIENCE: Duration = Duration::from_secs(180);
pub(super) const PAUSE: Duration = Duration::from_millis(200);
/// A process that was away for longer than this has no transaction any more.
const KEPT: Duration = Duration::from_secs(86_400);
/// What the record says of itself of what a batch has deleted.
pub(super) const DELETED: &str = "deleted";
/// What a batch has deleted is asked for by whoever knows its mark still, be that after a long pause.
const KEPT_LONG: Duration = Duration::from_secs(90 * 86_400);

/// More bytes than a mark has beside the copies that it lists, and more marks than are read at once: whoever may
/// write to the database can write others.
const MOST_BYTES: i32 = 16 << 10;
pub(super) const MOST_MARKS: usize = 2000;

/// That these fields of a mark are no larger than ours: no other is read.
pub(super) fn is_small(fields: &[&str]) -> Document {
    let fields: Document = fields
        .iter()
        .map(|name| ((*name).to_owned(), Bson::String(format!("${name}"))))
        .collect();
    doc! { "$expr": { "$lte": [{ "$bsonSize": fields }, MOST_BYTES] } }
}

/// What a committed transaction writes.
pub(crate) fn mark(id: &str, source: &str) -> Document {
    doc! { "_id": id, "state": "committed", "source": source, "at": DateTime::now() }
}

impl Session {
    /// Makes the place where marks are kept.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn make_marks(&self) -> Result<(), MongoError> {
        self.make_marks_in(self.database()).await
    }

    /// The same in another database.
    pub(super) async fn make_marks_in(&self, database: &str) -> Result<(), MongoError> {
        let command = doc! { "create": MARKS, "writeConcern": concern() };
        let doing = "making room for marks";
        let made = self.command(doing, database, command, LOOK).await;
        match made {
            Err(error) if error.code() != Some(EXISTS) => Err(error),
            _ => Ok(()),
        }
    }

    /// Whether the transaction with this mark was committed. If not, it never will be.
    ///
    /// # Errors
    /// When the server cannot be asked for long.
    pub async fn was_committed(&self, database: &str, id: &str) -> Result<bool, MongoError> {
        let began = Instant::now();
        loop {
            let error = match self.fate(database, id).await {
                Ok(Some(committed)) => return Ok(committed),
                Ok(None) => None,
                Err(error) if error.is_passing() || error.is_out_of_time() => Some(error),
                Err(error) => return Err(error),
            };
            if let Some(error) = error {
                if began.elapsed() > PATIENCE {
                    return Err(error);
                }
                tracing::warn!(error = %with_causes(&error), "asking again what became of a transaction");
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn fate(&self, database: &str, id: &str) -> Result<Option<bool>, MongoError> {
        let doing = "asking what became of a transaction";
        // Finds all but a committed one. Of that the insert is refused: its id is taken.
        let other = doc! { "q": { "_id": id, "state": { "$ne": "committed" } },
        "u": { "$set": { "state": "aborted" }, "$currentDate": { "at": true } }, "upsert": true };
        let command = doc! { "update": MARKS, "updates": [other], "writeConcern": concern() };
        match self.command(doing, database, command, LOOK).await {
            Ok(_) => return Ok(Some(false)),
            Err(error) if error.code() == Some(DUPLICATE) => {}
            Err(error) => return Err(error),
        }
        // It counts once a majority has it.
        let command = doc! {
            "find": MARKS, "filter": { "_id": id, "state": "committed" }, "singleBatch": true,
            "projection": { "state": 1 }, "readConcern": { "level": "majority" },
        };
        let found = self.all(doing, database, command, LOOK).await?;
        let state = found.first().and_then(|mark| mark.get_str("state").ok());
        Ok(state.filter(|state| *state == "committed").map(|_| true))
    }

    /// The ids of marks of committed transactions; none where there are too many to tell, as whoever may
    /// write there can write others.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub async fn committed(&self, source: &str) -> Result<Option<Vec<String>>, MongoError> {
        let filter =
            doc! { "$and": [{ "state": "committed", "source": source }, is_small(&["_id"])] };
        let command = doc! {
            "find": MARKS, "filter": filter, "projection": { "_id": 1 }, "limit": MOST_MARKS as i64,
        };
        let doing = "looking for marks";
        let found = self.all(doing, self.database(), command, LOOK).await?;
        if found.len() >= MOST_MARKS {
            return Ok(None);
        }
        let ids = found.iter().filter_map(|mark| mark.get_str("_id").ok());
        Ok(Some(ids.map(str::to_owned).collect()))
    }

    /// Removes marks whose transactions nobody asks for any more, and those that are old.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn forget(&self, database: &str, ids: &[String]) -> Result<i64, MongoError> {
        // How long ago that was, no clock but the server's own says.
        let over = |states: &[&str], kept: Duration| {
            let kept = i64::try_from(kept.as_millis()).unwrap_or(i64::MAX);
            let old = doc! { "$lt": ["$at", { "$subtract": ["$$NOW", kept] }] };
            let over = doc! { "state": { "$in": states }, "at": { "$type": "date" }, "$expr": old };
            doc! { "q": over, "limit": 0 }
        };
        let deletes = vec![
            doc! { "q": { "_id": { "$in": ids } }, "limit": 0 },
            over(&["aborted", "gone"], KEPT),
            over(&[DELETED], KEPT_LONG),
        ];
        let command = doc! { "delete": MARKS, "deletes": deletes };
        let answer = self
            .command("removing marks", database, command, LOOK)
            .await?;
        Ok(number(answer.get("n")).unwrap_or(0))
    }

    /// Ends a session of our own user with all it has open. Who has none by
    /// that id is not in the way.
    pub async fn end_session(&self, id: &str) {
        let bytes: Option<Vec<u8>> = (0..id.len() / 2)
            .map(|n| u8::from_str_radix(id.get(2 * n..2 * n + 2)?, 16).ok())
            .collect();
        let Some(bytes) = bytes.filter(|bytes| bytes.len() == 16) else {
            return;
        };
        let id = Bson::Binary(Binary {
            subtype: BinarySubtype::Uuid,
            bytes,
        });
        let command = doc! { "killSessions": [{ "id": id }] };
        let ended = self
            .command("ending a session of ours", "admin", command, Limit::ASIDE)
            .await;
        if let Err(error) = ended {
            tracing::warn!(error = %with_causes(&error), "the server ends it by itself in a while");
        }
    }
}

pub(super) fn concern() -> Document {
    doc! { "w": "majority", "wtimeout": 15_000 }
}
