//! Copies are written down first, and made then; what came of each is known.

use std::collections::{BTreeSet, HashSet};

use futures_util::TryStreamExt;
use mongodb::bson::{RawDocumentBuf, doc};
use mongodb::error::{Error, ErrorKind};
use mongodb::options::ReadConcern;
use uuid::Uuid;

use super::super::batch::BatchError;
use super::super::copies::removed_marks;
use super::super::source::{can_be_stamped, id_of, key_of, majority, session_id, stamp, value_at};
use super::super::under_way::named_by;
use super::delete::lost;
use super::origins::Origins;
use super::{Mover, ids_of};
use crate::engines::EngineError;
use crate::engines::mongodb::{Copy, CopyMark, Limit, is_of_the_server, namespace};
use crate::plan::Memory;
use crate::plan::mongodb::copies::{Sealed, forgotten, hash};
use crate::values::wall_clock;

/// There is a collection of that name.
const EXISTS: i32 = 48;

/// What an insert has come to.
pub(super) struct Inserted {
    /// Ids of what was copied.
    pub(super) mine: HashSet<String>,
    /// Ids of what the collection there does not take as it is.
    pub(super) refused: HashSet<String>,
    /// What the server says of those.
    pub(super) codes: BTreeSet<i32>,
    /// Ids of copies that another batch may take back.
    pub(super) others: HashSet<String>,
    /// Who may have put there what was there before.
    pub(super) origins: Origins,
}

impl<'a> Mover<'a> {
    /// The identity of the collection there, which is made where it does not exist.
    pub(super) async fn place(&self) -> Result<String, BatchError> {
        let (there, into) = (self.there(), self.into);
        if let Some(uuid) = there.identity(&into.database, &into.collection).await? {
            return Ok(uuid);
        }
        let command = doc! { "create": &into.collection, "writeConcern": { "w": "majority", "wtimeout": 15_000 } };
        let doing = "making the collection that documents go to";
        let made = there.command(doing, &into.database, command, Limit::ASIDE);
        match made.await {
            Err(error) if error.code() != Some(EXISTS) => return Err(error.into()),
            _ => {}
        }
        let uuid = there.identity(&into.database, &into.collection).await?;
        Ok(uuid.ok_or_else(|| EngineError::NotVisible {
            what: format!(
                "{} was made to keep documents, and is not to be seen",
                namespace(&into.database, &into.collection)
            ),
        })?)
    }

    /// Copies what is not there yet, and tells what came of it.
    pub(super) async fn insert(
        &mut self,
        documents: &[RawDocumentBuf],
    ) -> Result<Inserted, BatchError> {
        let uuid = self.place().await?;
        self.note_source(&uuid).await?;
        let there = self
            .copy
            .find(ids_of(documents))
            .projection(doc! { "_id": 1 })
            .read_concern(ReadConcern::majority())
            .comment(self.source.comment())
            .await?;
        let there: Vec<RawDocumentBuf> = there.try_collect().await?;
        let there: HashSet<String> = there.iter().filter_map(id_of).collect();
        let is_new = |d: &&RawDocumentBuf| id_of(d).is_some_and(|id| !there.contains(&id));
        let new = documents.iter().filter(is_new);
        let (new, other): (Vec<&RawDocumentBuf>, Vec<_>) = new.partition(|d| can_be_stamped(d));
        let mut inserted = Inserted {
            mine: HashSet::new(),
            refused: other.into_iter().filter_map(id_of).collect(),
            codes: BTreeSet::new(),
            others: HashSet::new(),
            origins: Origins::Own,
        };
        let mut met = !there.is_empty();
        if !new.is_empty() {
            let (mark, sealed) = self.mark(&new, &uuid);
            self.make_known(&mark, &sealed).await;
            self.sealed = Some(sealed);
            self.committing = false;
            self.vanished.clear();
            // From here on the next run knows what to look for.
            self.source.job.session.mark_copies(&mark).await?;
            self.open = Some(mark);
            let at_once = self.can_be_at_once() && self.put_at_once(&new).await?;
            match at_once {
                true => inserted.mine = new.iter().filter_map(|d| id_of(d)).collect(),
                false => met |= self.put(&new, &mut inserted).await?,
            }
            if !at_once || self.elsewhere.is_some() {
                // What somebody else has put there meanwhile is not ours to take back.
                if let Some(mark) = &mut self.open {
                    let mine = &inserted.mine;
                    let is_mine =
                        |copy: &Copy| key_of(&copy.id).is_some_and(|key| mine.contains(&key));
                    mark.copies.retain(is_mine);
                    if !self.source.job.session.narrow_copies(mark).await? {
                        return Err(lost().into());
                    }
                }
            }
            if let Some(mark) = &mut self.open {
                mark.made = true;
                if let Some(there) = self.elsewhere.as_ref().filter(|_| at_once) {
                    there.forget_made(mark).await;
                }
            }
            // What the server has filled in is put back before anybody compares it.
            for document in new {
                if id_of(document).is_some_and(|id| inserted.mine.contains(&id)) {
                    stamp(&self.copy, document).await?;
                }
            }
        }
        if met {
            inserted.others = self.of_others(&uuid, documents).await?;
            inserted.origins = self.origins(&uuid).await?;
        }
        Ok(inserted)
    }

    fn mark(&self, documents: &[&RawDocumentBuf], uuid: &str) -> (CopyMark, Sealed) {
        let secret = Uuid::new_v4();
        let (job, walk, into) = (self.source.job, self.source.walk, self.into);
        let copies = documents.iter().filter_map(|document| {
            Some(Copy {
                id: value_at(document, "_id")?,
                hash: hash(secret, document),
            })
        });
        let mark = CopyMark {
            id: Uuid::now_v7().to_string(),
            owner: job.session.name().to_owned(),
            session: session_id(self.session.id()),
            from: (walk.database.clone(), walk.collection.clone()),
            target: into.target.clone(),
            into: (into.database.clone(), into.collection.clone()),
            uuid: uuid.to_owned(),
            made: false,
            copies: copies.collect(),
        };
        let sealed = Sealed::of(&mark, secret, self.evidence.clone());
        (mark, sealed)
    }

    /// Has the history know the mark, which would be believed by nobody else. Where it cannot, the
    /// copies of a run that is killed stay beside their originals, and are told.
    async fn make_known(&mut self, mark: &CopyMark, sealed: &Sealed) {
        if self.unheard {
            return;
        }
        let execution = self.source.job.execution;
        let (target, kind) = (&execution.target, &execution.kind);
        let done = self.done.take();
        let over = done.iter().map(|(id, _)| forgotten(id));
        let memory: Vec<Memory> = over.chain([sealed.memory(&mark.id)]).collect();
        let history = &execution.history;
        let known = history.proof(target, kind, wall_clock(), &memory);
        if let Err(error) = known.await {
            // It is waited for once. The mark of the batch before is kept for as long as it is known.
            self.unheard = true;
            tracing::warn!(%error, "the history does not know the marks of these batches");
        } else if let Some((id, sealed)) = done {
            removed_marks(&id, &sealed, self.source.job).await;
        }
    }

    /// Inserts them; whether some of them had come in meanwhile.
    async fn put(
        &self,
        documents: &[&RawDocumentBuf],
        inserted: &mut Inserted,
    ) -> Result<bool, Error> {
        let result = self
            .copy
            .insert_many(documents.iter().copied())
            .ordered(false)
            .write_concern(majority())
            .comment(self.source.comment())
            .await;
        let all = documents.iter().map(|document| id_of(document));
        let Err(error) = result else {
            inserted.mine = all.flatten().collect();
            return Ok(false);
        };
        let ErrorKind::InsertMany(report) = error.kind.as_ref() else {
            return Err(error);
        };
        let errors = report.write_errors.as_deref().unwrap_or_default();
        // Each error is about its document, whatever it says of it, unless it is about the server. A
        // key that is there twice: another batch was here before, or somebody else's document is.
        if report.write_concern_error.is_some()
            || errors.is_empty()
            || errors.iter().any(|e| is_of_the_server(e.code))
        {
            return Err(error);
        }
        let not_copied: HashSet<usize> = errors.iter().map(|e| e.index).collect();
        let refused = errors.iter().filter(|e| e.code != 11000);
        inserted.codes.extend(refused.clone().map(|e| e.code));
        let refused = refused.filter_map(|e| id_of(documents.get(e.index)?));
        inserted.refused.extend(refused);
        let copied = all.enumerate().filter(|(n, _)| !not_copied.contains(n));
        inserted.mine = copied.filter_map(|(_, id)| id).collect();
        Ok(errors.iter().any(|e| e.code == 11000))
    }

    /// The ids of copies there that other batches, at work or broken off, may take back: nothing
    /// is proved by them.
    async fn of_others(
        &self,
        uuid: &str,
        documents: &[RawDocumentBuf],
    ) -> Result<HashSet<String>, Error> {
        let own = self.open.as_ref().map(|mark| mark.id.as_str());
        named_by(&self.marks, uuid, own, documents).await
    }
}
