//! What the transaction of a batch has deleted: it writes that down itself, where the originals were, and apart from
//! the batch's mark. A mark can come back from a dump that was made in the middle of its batch, and says then that
//! nothing was deleted.

use mongodb::bson::{DateTime, Document, doc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::copies::{Copy, copies_of, listed};
use super::marks::{DELETED, LOOK, MARKS, concern};
use super::rights::Rights;
use super::{MongoError, Session};

/// Where it is told what becomes of a batch, and that these are the collections in which it was to be told: what was
/// dropped and restored is another one, and may be as it was before the end of the batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Evidence {
    /// Which collection has the mark.
    marks: String,
    /// The database that has the record.
    database: String,
    /// Which collection has the record.
    records: String,
}

/// What is known of a batch's transaction.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Fate {
    /// It was not committed.
    Open,
    /// It was committed, and has left the originals of these copies.
    Committed(Vec<Copy>),
    /// Nothing proves either.
    Unknown,
}

fn id_of(mark: &str) -> String {
    format!("{mark} {DELETED}")
}

impl Evidence {
    /// The database that has the record.
    pub(crate) fn database(&self) -> &str {
        &self.database
    }

    /// What the transaction of the batch with this mark writes, which leaves the originals of these copies.
    pub(crate) fn record(mark: &str, left: &[Copy]) -> Document {
        doc! { "_id": id_of(mark), "state": DELETED, "at": DateTime::now(), "copies": listed(left) }
    }
}

impl Session {
    /// Where it will be told what becomes of batches that delete in this database: there, where that may be written,
    /// and else beside their marks.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub(crate) async fn evidence(&self, source: &str) -> Result<Option<Evidence>, MongoError> {
        let own = self.database();
        let database = match source != own && self.may_record(source).await? {
            true => source,
            false => own,
        };
        let marks = self.incarnation(own).await?;
        let records = self.incarnation(database).await?;
        Ok(marks.zip(records).map(|(marks, records)| Evidence {
            marks,
            database: database.to_owned(),
            records,
        }))
    }

    /// What tells the marks of a database from others in their place: the identity of their collection, which a dump
    /// can bring back, and the file that the server has made for it, which it cannot. Where the server does not say
    /// which that is, or another member does, they are not known to be the same.
    async fn incarnation(&self, database: &str) -> Result<Option<String>, MongoError> {
        let Some(identity) = self.identity(database, MARKS).await? else {
            return Ok(None);
        };
        let command = doc! { "collStats": MARKS };
        let doing = "looking which collection has the marks";
        let stats = match self.command(doing, database, command, LOOK).await {
            Ok(stats) => Some(stats),
            Err(MongoError::Unauthorized { .. }) => None,
            Err(error) => return Err(error),
        };
        let engine = stats
            .as_ref()
            .and_then(|s| s.get_document("wiredTiger").ok());
        let file = engine.and_then(|engine| engine.get_str("uri").ok());
        // No other has that.
        let file = file.map_or_else(|| Uuid::new_v4().to_string(), str::to_owned);
        Ok(Some(format!("{identity} {file}")))
    }

    async fn may_record(&self, database: &str) -> Result<bool, MongoError> {
        let rights = Rights::of(self).await?;
        let all = ["find", "insert", "remove"];
        let may = |rights: &Rights| all.iter().all(|action| rights.has(action, database, MARKS));
        if !rights.as_ref().is_none_or(may) {
            return Ok(false);
        }
        match self.make_marks_in(database).await {
            Ok(()) => Ok(true),
            Err(MongoError::Unauthorized { .. }) => {
                Ok(self.identity(database, MARKS).await?.is_some())
            }
            Err(error) => Err(error),
        }
    }

    /// What has become of the transaction of a batch that cannot be committed any more, whatever its mark says.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub(crate) async fn fate_of(
        &self,
        mark: &str,
        evidence: Option<&Evidence>,
    ) -> Result<Fate, MongoError> {
        let Some(evidence) = evidence else {
            return Ok(Fate::Unknown);
        };
        let command = doc! {
            "find": MARKS, "filter": { "_id": id_of(mark) }, "limit": 1,
            "readConcern": { "level": "majority" },
        };
        let doing = "asking what a batch has deleted";
        let found = self
            .all_raw(doing, &evidence.database, command, LOOK)
            .await?;
        if let Some(record) = found.first() {
            // What cannot be read none of us has written: nothing is known of what was left.
            let record = Document::try_from(record).unwrap_or_default();
            return Ok(Fate::Committed(copies_of(&record)));
        }
        let marks = self.incarnation(self.database()).await?;
        let records = self.incarnation(&evidence.database).await?;
        let same =
            marks.as_ref() == Some(&evidence.marks) && records.as_ref() == Some(&evidence.records);
        Ok(match same {
            true => Fate::Open,
            false => Fate::Unknown,
        })
    }

    /// Removes what is written down of a batch that has come to its end, as nobody asks for it any more.
    ///
    /// # Errors
    /// When the server refuses.
    pub(crate) async fn forget_batch(
        &self,
        mark: &str,
        evidence: Option<&Evidence>,
    ) -> Result<(), MongoError> {
        self.forget_copies(mark).await?;
        let Some(evidence) = evidence else {
            return Ok(());
        };
        let delete = doc! { "q": { "_id": id_of(mark), "state": DELETED }, "limit": 1 };
        let command = doc! { "delete": MARKS, "deletes": [delete], "writeConcern": concern() };
        let doing = "removing what was written down of a batch";
        self.command(doing, &evidence.database, command, LOOK)
            .await
            .map(|_| ())
    }
}
