//! Which copies a batch is about to put into another collection: a mark that is written before the
//! first of them is, and that the transaction which deletes the originals changes. Whenever the
//! process dies, it tells which copies stand beside originals that were not deleted.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, DateTime, Document, doc};

use super::marks::{LOOK, MARKS, MOST_MARKS, PATIENCE, PAUSE, concern, is_small, mark};
use super::{MongoError, Session, counted, counting, number};
use crate::values::with_causes;

/// What is read of marks where the copies that they list are of no matter.
const FIELDS: [&str; 5] = ["_id", "owner", "session", "from", "into"];

/// One copy, as it was written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Copy {
    /// Its `_id`.
    pub(crate) id: Bson,
    /// SHA-256 of the document.
    pub(crate) hash: Vec<u8>,
}

/// The copies of a batch, and where they are.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CopyMark {
    /// The mark's own id.
    pub(crate) id: String,
    /// The run that copies, as it is called on the server.
    pub(crate) owner: String,
    /// The session whose transaction deletes the originals, in hexadecimal digits.
    pub(crate) session: Option<String>,
    /// Where the originals are: database and collection.
    pub(crate) from: (String, String),
    /// The target that has the copies; none: the same.
    pub(crate) target: Option<String>,
    /// Where the copies are: database and collection.
    pub(crate) into: (String, String),
    /// The identity of that collection.
    pub(crate) uuid: String,
    /// Whether the batch has made all of the copies that are listed; before that, somebody else may have put them there.
    pub(crate) made: bool,
    /// The copies.
    pub(crate) copies: Vec<Copy>,
}

/// What there is of marks of batches that were broken off.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct LeftCopies {
    /// Those that were looked at, without the copies that they list.
    pub(crate) marks: Vec<CopyMark>,
    /// There may be more: who may write there can write as many as they like.
    pub(crate) more: bool,
    /// So many are larger than any of ours, and are not read.
    pub(crate) large: i64,
}

/// What a batch's mark says of its transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// It has not been committed.
    Copying,
    /// The originals of the copies that are named were not deleted, and will not be.
    Left,
    /// All originals were deleted.
    Gone,
}

impl Stage {
    /// As the mark has it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Stage::Copying => "copying",
            Stage::Left => "left",
            Stage::Gone => "gone",
        }
    }

    /// What a mark says.
    pub(crate) fn of(mark: &Document) -> Option<Stage> {
        let word = mark.get_str("state").ok()?;
        [Stage::Copying, Stage::Left, Stage::Gone]
            .into_iter()
            .find(|stage| stage.word() == word)
    }
}

impl CopyMark {
    fn document(&self) -> Document {
        doc! {
            "_id": &self.id,
            "state": Stage::Copying.word(),
            "at": DateTime::now(),
            "owner": &self.owner,
            "session": self.session.as_deref(),
            "from": { "database": &self.from.0, "collection": &self.from.1 },
            "into": {
                "target": self.target.as_deref(), "database": &self.into.0,
                "collection": &self.into.1, "uuid": &self.uuid,
            },
            "made": self.made,
            "copies": listed(&self.copies),
        }
    }

    /// What a transaction on another server writes with the copies: that the batch has made all of them.
    pub(crate) fn made_there(&self) -> Document {
        mark(&self.made_as(), &self.uuid)
    }

    /// By which id that is there: one database may have the marks of both.
    fn made_as(&self) -> String {
        format!("{} made", self.id)
    }

    /// Reads a mark; none where it is another kind of mark, or was written by somebody else.
    pub(crate) fn read(mark: &Document) -> Option<CopyMark> {
        let text = |of: &Document, name: &str| of.get_str(name).ok().map(str::to_owned);
        let (from, into) = (
            mark.get_document("from").ok()?,
            mark.get_document("into").ok()?,
        );
        let name = |of: &Document| Some((text(of, "database")?, text(of, "collection")?));
        Some(CopyMark {
            id: text(mark, "_id")?,
            owner: text(mark, "owner")?,
            session: text(mark, "session"),
            from: name(from)?,
            target: text(into, "target"),
            into: name(into)?,
            uuid: text(into, "uuid")?,
            made: mark.get_bool("made").unwrap_or(false),
            copies: copies_of(mark),
        })
    }
}

/// Copies as a mark lists them.
pub(crate) fn listed(copies: &[Copy]) -> Vec<Document> {
    let one = |copy: &Copy| {
        let hash = Binary {
            subtype: BinarySubtype::Generic,
            bytes: copy.hash.clone(),
        };
        doc! { "id": copy.id.clone(), "hash": hash }
    };
    copies.iter().map(one).collect()
}

/// The copies that a mark lists.
pub(crate) fn copies_of(mark: &Document) -> Vec<Copy> {
    let all = mark.get_array("copies").into_iter().flatten();
    let one = |entry: &Bson| {
        let entry = entry.as_document()?;
        let Bson::Binary(hash) = entry.get("hash")? else {
            return None;
        };
        Some(Copy {
            id: entry.get("id")?.clone(),
            hash: hash.bytes.clone(),
        })
    };
    all.filter_map(one).collect()
}

impl Session {
    /// Writes the mark of a batch.
    ///
    /// # Errors
    /// When the server refuses: then nothing may be copied.
    pub(crate) async fn mark_copies(&self, mark: &CopyMark) -> Result<(), MongoError> {
        let command =
            doc! { "insert": MARKS, "documents": [mark.document()], "writeConcern": concern() };
        self.command(
            "writing down what will be copied",
            self.database(),
            command,
            LOOK,
        )
        .await
        .map(|_| ())
    }

    /// Writes down that the batch has made these copies, and no others: those were there before. Not where
    /// another run has seized the mark meanwhile.
    ///
    /// # Errors
    /// When the server refuses.
    pub(crate) async fn narrow_copies(&self, mark: &CopyMark) -> Result<bool, MongoError> {
        let own = doc! { "_id": &mark.id, "state": Stage::Copying.word() };
        let update =
            doc! { "q": own, "u": { "$set": { "made": true, "copies": listed(&mark.copies) } } };
        let command = doc! { "update": MARKS, "updates": [update], "writeConcern": concern() };
        let doing = "writing down what was copied";
        let answer = self.command(doing, self.database(), command, LOOK).await?;
        Ok(number(answer.get("n")).unwrap_or(0) > 0)
    }

    /// Whether the transaction was committed, on this server, that makes the copies of a batch. If not, it never will
    /// be. Where nobody may ask, nobody has written it either.
    ///
    /// # Errors
    /// When the server cannot be asked for long.
    pub(crate) async fn has_made(&self, mark: &CopyMark) -> Result<bool, MongoError> {
        match self.was_committed(&mark.into.0, &mark.made_as()).await {
            Err(MongoError::Unauthorized { .. }) => Ok(false),
            made => made,
        }
    }

    /// Removes what is written down of that on this server, once the mark itself says it, or nobody asks any more.
    pub(crate) async fn forget_made(&self, mark: &CopyMark) {
        if let Err(error) = self.forget(&mark.into.0, &[mark.made_as()]).await {
            tracing::debug!(%error, "a mark remains for now");
        }
    }

    /// Removes the mark of a batch.
    ///
    /// # Errors
    /// When the server refuses.
    pub(crate) async fn forget_copies(&self, id: &str) -> Result<(), MongoError> {
        let delete = doc! { "q": { "_id": id }, "limit": 1 };
        let command = doc! { "delete": MARKS, "deletes": [delete], "writeConcern": concern() };
        let doing = "removing the mark of a batch";
        self.command(doing, self.database(), command, LOOK)
            .await
            .map(|_| ())
    }

    /// Keeps the transaction of a batch from being committed ever after, and gives the copies whose
    /// originals it has not deleted; none where it has deleted all of them.
    ///
    /// # Errors
    /// When the server cannot be asked for long.
    pub(crate) async fn seize_copies(&self, id: &str) -> Result<Option<CopyMark>, MongoError> {
        let open =
            doc! { "_id": id, "state": { "$in": [Stage::Copying.word(), Stage::Left.word()] } };
        // A transaction that has written the mark is waited for; any other cannot write it any more.
        let command = doc! {
            "findAndModify": MARKS, "query": open,
            "update": { "$set": { "state": Stage::Left.word() }, "$currentDate": { "at": true } },
            "new": true, "writeConcern": concern(),
        };
        let doing = "asking which copies stand beside their originals";
        let began = Instant::now();
        let mut pause = PAUSE;
        loop {
            match self
                .command(doing, self.database(), command.clone(), LOOK)
                .await
            {
                Ok(answer) => {
                    let value = answer.get_document("value").ok();
                    return Ok(value.and_then(CopyMark::read));
                }
                Err(error)
                    if (error.is_passing() || error.is_out_of_time())
                        && began.elapsed() < PATIENCE =>
                {
                    tracing::warn!(error = %with_causes(&error), "asking again which copies were left");
                }
                Err(error) => return Err(error),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(2));
        }
    }

    /// Marks of batches whose runs are no more: as many as are looked at.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub(crate) async fn left_copies(&self) -> Result<LeftCopies, MongoError> {
        let open = doc! { "state": { "$in": [Stage::Copying.word(), Stage::Left.word()] } };
        let small = doc! { "$and": [open.clone(), is_small(&FIELDS)] };
        let mut marks = match self.copies_among(small).await {
            // Who may not read marks has written none.
            Err(MongoError::Unauthorized { .. }) => return Ok(LeftCopies::default()),
            found => found?,
        };
        let more = marks.len() >= MOST_MARKS;
        if !marks.is_empty() {
            let alive = self.at_work(marks.iter().map(|mark| &mark.owner)).await?;
            marks.retain(|mark| !alive.contains(&mark.owner));
        }
        let small = is_small(&FIELDS).get("$expr").cloned();
        let large = doc! { "$and": [open, { "$expr": { "$not": small } }] };
        let most = i64::try_from(MOST_MARKS).ok();
        let command = counting(MARKS, large, None, most);
        let doing = "looking for marks that are none of ours";
        let large = counted(&self.command(doing, self.database(), command, LOOK).await?);
        Ok(LeftCopies { marks, more, large })
    }

    /// The marks with these ids, whoever else has written others, and however many; those of runs that
    /// are at work, too.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub(crate) async fn copies_by_id(&self, ids: &[String]) -> Result<Vec<CopyMark>, MongoError> {
        let mut marks = Vec::new();
        for some in ids.chunks(MOST_MARKS) {
            let ours = doc! { "_id": { "$in": some.to_vec() } };
            let ours = doc! { "$and": [ours, is_small(&FIELDS)] };
            marks.extend(self.copies_among(ours).await?);
        }
        Ok(marks)
    }

    /// Those of these marks that do not name copies any more, or are not there: whatever else is by their ids, none of
    /// maint has written it.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub(crate) async fn ended_copies(&self, ids: &[String]) -> Result<Vec<String>, MongoError> {
        let mut ended = ids.to_vec();
        for some in ids.chunks(MOST_MARKS) {
            let other =
                doc! { "_id": { "$in": some.to_vec() }, "state": { "$ne": Stage::Gone.word() } };
            let command = doc! {
                "find": MARKS, "filter": other, "projection": { "_id": 1 },
                "readConcern": { "level": "majority" },
            };
            let doing = "looking for marks of batches that came to their end";
            let found = self.all(doing, self.database(), command, LOOK).await?;
            let there: HashSet<&str> = found.iter().filter_map(|m| m.get_str("_id").ok()).collect();
            ended.retain(|id| !there.contains(id.as_str()));
        }
        Ok(ended)
    }

    /// Whether there is a mark with this id, whatever it says.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub(crate) async fn is_marked(&self, id: &str) -> Result<bool, MongoError> {
        let command = doc! {
            "find": MARKS, "filter": { "_id": id }, "projection": { "_id": 1 }, "limit": 1,
        };
        let doing = "looking for the mark of a batch";
        let found = self.all_raw(doing, self.database(), command, LOOK).await?;
        Ok(!found.is_empty())
    }

    /// What of marks tells where copies are. What cannot be read none of us has written.
    async fn copies_among(&self, filter: Document) -> Result<Vec<CopyMark>, MongoError> {
        let read = FIELDS.map(|name| (name.to_owned(), Bson::Int32(1)));
        let read: Document = read.into_iter().collect();
        let command = doc! {
            "find": MARKS, "filter": filter, "projection": read, "sort": { "_id": 1 },
            "limit": MOST_MARKS as i64,
        };
        let doing = "looking for batches that were broken off";
        let found = self.all_raw(doing, self.database(), command, LOOK).await?;
        let read = found
            .iter()
            .filter_map(|mark| Document::try_from(mark).ok());
        Ok(read.filter_map(|mark| CopyMark::read(&mark)).collect())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_as_it_was_written() {
        let mark = CopyMark {
            id: "m".to_owned(),
            owner: "maint 1".to_owned(),
            session: None,
            from: ("app".to_owned(), "a.b".to_owned()),
            target: Some("cold".to_owned()),
            into: ("old".to_owned(), "a.b".to_owned()),
            uuid: "u".to_owned(),
            made: true,
            copies: vec![Copy {
                id: Bson::Document(doc! { "k": [1] }),
                hash: vec![1, 2],
            }],
        };
        let document = mark.document();
        assert_eq!(CopyMark::read(&document).as_ref(), Some(&mark));
        assert_eq!(Stage::of(&document), Some(Stage::Copying));
        let other = super::super::mark("x", "app.a");
        assert_eq!(CopyMark::read(&other), None);
    }
}
