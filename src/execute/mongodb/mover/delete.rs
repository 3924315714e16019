//! The originals of a batch are deleted in one transaction with the change of its mark: only those that are still
//! as they were copied.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use mongodb::bson::{Bson, RawDocumentBuf, doc};
use mongodb::error::{Error, TRANSIENT_TRANSACTION_ERROR};
use mongodb::options::ReadConcern;

use super::super::gate::Again;
use super::super::source::{FAILOVER, id_of, key_of, majority, passes, value_at};
use super::Mover;
use crate::engines::mongodb::{Copy, Evidence, MongoError, Stage, copies_of, listed};
use crate::values::several_do;

impl<'a> Mover<'a> {
    /// Deletes what is still as it was copied, and tells what is not. What somebody else had removed
    /// before is in neither: it has [vanished](Mover::vanished).
    pub(super) async fn delete(
        &mut self,
        proved: &HashMap<String, &RawDocumentBuf>,
        mine: &HashSet<String>,
    ) -> Result<Vec<String>, Error> {
        self.vanished.clear();
        self.sent.clear();
        if proved.is_empty() {
            return Ok(Vec::new());
        }
        let began = Instant::now();
        let mut again = Again::default();
        loop {
            match self.transaction(proved, mine).await {
                Ok(changed) => return Ok(changed),
                Err(error)
                    if (passes(&error) || error.contains_label(TRANSIENT_TRANSACTION_ERROR))
                        && began.elapsed() < FAILOVER
                        && !self.source.job.execution.stop.is_now() =>
                {
                    again.tell(&MongoError::of_driver(&error));
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    pub(super) async fn transaction(
        &mut self,
        proved: &HashMap<String, &RawDocumentBuf>,
        mine: &HashSet<String>,
    ) -> Result<Vec<String>, Error> {
        self.session
            .start_transaction()
            .read_concern(ReadConcern::snapshot())
            .write_concern(majority())
            .await?;
        let (end, done) = match self.within(proved, mine).await {
            Ok(Done::Now(changed)) => (true, Ok(changed)),
            // It was committed, and the answer was lost. What it had not met, it has left, too.
            Ok(Done::Before(mut left)) => {
                left.retain(|id| !self.vanished.contains(id));
                (false, Ok(left))
            }
            Err(error) => (false, Err(error)),
        };
        if end {
            self.committing = true;
            self.session.commit_transaction().await?;
        } else if let Err(error) = self.session.abort_transaction().await {
            // The server ends by itself what it could not be told to end.
            tracing::debug!(%error, "a transaction could not be aborted");
        }
        done
    }

    async fn within(
        &mut self,
        proved: &HashMap<String, &RawDocumentBuf>,
        mine: &HashSet<String>,
    ) -> Result<Done, Error> {
        let session = &mut self.session;
        if let Some(mark) = &self.open {
            let own = doc! { "_id": &mark.id };
            let found = self.marks.find_one(own).session(&mut *session).await?;
            match found.as_ref().and_then(Stage::of) {
                Some(Stage::Copying) => {}
                Some(Stage::Gone) => return Ok(Done::Before(Vec::new())),
                Some(Stage::Left) => {
                    let left = found.iter().flat_map(copies_of);
                    return Ok(Done::Before(left.filter_map(|c| key_of(&c.id)).collect()));
                }
                None => return Err(lost()),
            }
        }
        let ids: Vec<Bson> = proved.values().filter_map(|d| value_at(d, "_id")).collect();
        let mut cursor = self
            .source
            .collection
            .find(doc! { "_id": { "$in": ids } })
            .session(&mut *session)
            .await?;
        let (mut same, mut changed) = (Vec::new(), Vec::new());
        let (mut to_go, mut vanished) = (HashSet::new(), HashSet::new());
        vanished.extend(proved.keys().cloned());
        while let Some(document) = cursor.next(&mut *session).await.transpose()? {
            let Some(id) = id_of(&document) else { continue };
            vanished.remove(&id);
            match proved.get(&id) {
                Some(copied) if copied.as_bytes() == document.as_bytes() => {
                    same.extend(value_at(&document, "_id"));
                    to_go.insert(id);
                }
                _ => changed.push(id),
            }
        }
        // Without a mark nothing says what became of an attempt before this one.
        vanished.retain(|id| !self.sent.contains(id));
        self.vanished = vanished;
        if !same.is_empty() {
            let count = same.len();
            let delete = self
                .source
                .collection
                .delete_many(doc! { "_id": { "$in": same } });
            let deleted = delete.session(&mut *session).await?.deleted_count;
            if usize::try_from(deleted) != Ok(count) {
                return Err(Error::custom(format!(
                    "{} to go, and {deleted} would have gone",
                    several_do(count, "document", ("was", "were"))
                )));
            }
        }
        if let Some(mark) = &self.open {
            let vanished = &self.vanished;
            let stays = |copy: &&Copy| {
                key_of(&copy.id).is_some_and(|key| {
                    mine.contains(&key) && (changed.contains(&key) || vanished.contains(&key))
                })
            };
            let left: Vec<Copy> = mark.copies.iter().filter(stays).cloned().collect();
            let stage = match left.is_empty() {
                true => Stage::Gone,
                false => Stage::Left,
            };
            let own = doc! { "_id": &mark.id, "state": Stage::Copying.word() };
            let set = doc! { "$set": { "state": stage.word(), "copies": listed(&left) }, "$currentDate": { "at": true } };
            let update = self.marks.update_one(own, set).session(&mut *session);
            if update.await?.matched_count == 0 {
                return Err(lost());
            }
            if let Some(records) = &self.records {
                let record = Evidence::record(&mark.id, &left);
                records.insert_one(record).session(&mut *session).await?;
            }
        } else {
            self.sent.extend(to_go);
        }
        Ok(Done::Now(changed))
    }
}

/// What a transaction comes to.
enum Done {
    /// Documents that are not any more what was copied.
    Now(Vec<String>),
    /// An earlier attempt has been committed: what its mark says that it has left.
    Before(Vec<String>),
}

pub(super) fn lost() -> Error {
    Error::custom(
        "another run has taken this batch back, as this one seemed to be no more; nothing of it was deleted",
    )
}
