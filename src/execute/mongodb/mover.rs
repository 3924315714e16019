//! Batches of documents on their way into another collection.
//!
//! What a batch will copy is written down before the first copy is, and the transaction that
//! deletes the originals changes that mark. So whatever becomes of a batch, copies whose originals
//! were not deleted are known, and are taken back: at once, or by the next run.

mod back;
mod delete;
mod at_once;
mod insert;
mod origins;

use std::collections::{HashMap, HashSet};

use futures_util::TryStreamExt;
use mongodb::bson::{Bson, Document, RawDocumentBuf, doc};
use mongodb::error::Error;
use mongodb::options::ReadConcern;
use mongodb::{ClientSession, Collection, Cursor};

use super::Job;
use super::batch::{Batch, BatchError};
use super::copies::{self, forget_ended, shown};
use super::gate::{Ends, make_marks};
use super::source::{Most, Source, id_of, is_misnamed_for, value_at};
use super::under_way::Watch;
use crate::engines::EngineError;
use crate::engines::mongodb::{
    ArchiveSource, CopyMark, Evidence, MARKS, MongoError, Session, namespace,
};
use crate::plan::Finding;
use crate::plan::mongodb::copies::Sealed;
use crate::plan::mongodb::{Destination, Walk};

/// Documents of one batch, at most.
const MOST: i64 = 1000;
/// Bytes of one batch; a single document may have as many.
const MOST_BYTES: usize = 16 << 20;
/// Bytes that the `_id`s of one batch may have: its mark, a document, lists them.
const MOST_IDS: usize = 8 << 20;

/// Moves the documents of a walk into another collection.
pub(super) struct Mover<'a> {
    source: Source<'a>,
    /// Where it is looked which documents are copies of batches under way.
    watch: Watch,
    into: &'a Destination,
    /// Another target that keeps them.
    elsewhere: Option<Session>,
    copy: Collection<RawDocumentBuf>,
    marks: Collection<Document>,
    /// Where it is told what becomes of batches, and the records of that.
    evidence: Option<Evidence>,
    records: Option<Collection<Document>>,
    /// In which the transactions are, so that it can be ended when we are no more.
    session: ClientSession,
    /// The mark of a batch that has not come to its end.
    open: Option<CopyMark>,
    /// What the history knows of that mark.
    sealed: Option<Sealed>,
    /// Whether its transaction may have been committed.
    committing: bool,
    /// The mark of a batch that has come to its end, which the history does not know yet.
    done: Option<(String, Sealed)>,
    /// Whether the history has not answered.
    unheard: bool,
    /// Into which collection it is written down that documents of this one go, and as what; none
    /// where that may not be written.
    noted: Option<(String, Option<ArchiveSource>)>,
    /// Documents that have gone in the batch under way.
    went: i64,
    /// Those of it that were gone before its transaction: somebody else has removed them, and a copy that was
    /// made of one would bring back what was erased, or double what is kept elsewhere.
    vanished: HashSet<String>,
    /// What attempts without a mark were to delete, whose end nobody has seen.
    sent: HashSet<String>,
    /// What was found while copies were taken back.
    findings: Vec<Finding>,
}

impl<'a> Mover<'a> {
    pub(super) async fn open(
        walk: &'a Walk,
        into: &'a Destination,
        job: Job<'a>,
    ) -> Result<Self, EngineError> {
        let elsewhere = match &into.target {
            None => None,
            Some(name) => Some(copies::open(name, job).await?),
        };
        let there = elsewhere.as_ref().unwrap_or(job.session);
        let copy = there.raw(&into.database, &into.collection);
        let here = job.session;
        // Where copies may not be taken back, or originals not deleted, they would be there twice.
        here.may_remove(&walk.database, &walk.collection).await?;
        there.may_remove(&into.database, &into.collection).await?;
        make_marks(job).await?;
        let evidence = here.evidence(&walk.database).await?;
        forget_ended(job).await?;
        let away = elsewhere
            .as_ref()
            .map(|there| (there, into.database.as_str()));
        for (session, database) in [(here, here.database())].into_iter().chain(away) {
            if let Err(error) = session.forget(database, &[]).await {
                tracing::debug!(%error, "marks remain for now");
            }
        }
        let session = here.client().start_session().await.map_err(|error| {
            here.error("opening a session", "startSession", here.database(), &error)
        })?;
        Ok(Mover {
            source: Source::of(walk, &into.collection, job),
            watch: Watch::default(),
            into,
            copy,
            marks: here.client().database(here.database()).collection(MARKS),
            records: evidence.as_ref().map(|evidence| {
                here.client()
                    .database(evidence.database())
                    .collection(MARKS)
            }),
            evidence,
            elsewhere,
            session,
            open: None,
            sealed: None,
            committing: false,
            done: None,
            unheard: false,
            noted: None,
            went: 0,
            vanished: HashSet::new(),
            sent: HashSet::new(),
            findings: Vec::new(),
        })
    }

    pub(super) fn watch(&self) -> &Watch {
        &self.watch
    }

    fn there(&self) -> &Session {
        self.elsewhere.as_ref().unwrap_or(self.source.job.session)
    }

    /// Why documents may not go there, if so. Names say nothing: one server can be reached by
    /// many, and a collection that holds its own documents would pass for their copy.
    pub(super) async fn misplaced(&self) -> Result<Option<String>, MongoError> {
        let (walk, into) = (self.source.walk, self.into);
        let there = self.there();
        let whole = namespace(&into.database, &into.collection);
        let (held, unfit) = there.to_keep(&into.database, &into.collection).await?;
        if let Some(why) = unfit {
            return Ok(Some(format!("{whole} cannot keep them: {why}")));
        }
        let Some(held) = held else {
            return Ok(None);
        };
        let here = self.source.job.session;
        let own = here.identity(&walk.database, &walk.collection).await?;
        Ok((own.is_some() && own == held.uuid).then(|| {
            format!(
                "{whole}{} is where the documents are already: it is the same collection by another name; name another as the `destination`",
                into.target
                    .as_ref()
                    .map(|target| format!(" of target {target}"))
                    .unwrap_or_default()
            )
        }))
    }

    /// Moves one batch. Documents that change meanwhile stay.
    pub(super) async fn batch(
        &mut self,
        ends: Ends,
        after: Option<&Bson>,
        left: &[Bson],
        allowed: Option<i64>,
    ) -> Result<Batch, BatchError> {
        self.went = 0;
        // An attempt before this one may have failed anywhere.
        let before = self.give_up(true).await?;
        let allowed = allowed.map(|most| (most - before).max(0));
        let most = Most {
            documents: allowed.unwrap_or(MOST).clamp(1, MOST),
            bytes: MOST_BYTES,
        };
        let (mut documents, mut more) = self.source.read(ends, after, left, most).await?;
        if documents.is_empty() {
            return Ok(Batch {
                gone: before,
                ..Batch::default()
            });
        }
        if allowed == Some(0) {
            return Ok(Batch {
                gone: before,
                too_many: true,
                ..Batch::default()
            });
        }
        more |= shorten(&mut documents);
        let (unreadable, last) = self.source.set_aside(&mut documents, after);
        let mut batch = Batch {
            gone: before,
            last: last.filter(|_| more),
            unreadable,
            ..Batch::default()
        };
        for document in self.watch.keep_back(&self.source, &mut documents).await? {
            batch.copies.push(shown(&document));
            self.leave(&document, &mut batch);
        }
        if documents.is_empty() {
            return Ok(batch);
        }
        let mut inserted = self.insert(&documents).await?;
        batch.codes = std::mem::take(&mut inserted.codes);
        // Read back as a majority has it: what is not there word for word does not go here.
        let found = self
            .copy
            .find(ids_of(&documents))
            .read_concern(ReadConcern::majority())
            .comment(self.source.comment())
            .await?;
        let copies = compared(found, &documents).await?;
        let mut proved = HashMap::new();
        let release = self.there().server.release;
        for document in &documents {
            let Some(id) = id_of(document) else { continue };
            let shown = || shown(document);
            match copies.get(&id) {
                // The batch that has copied it deletes the original, or takes its copy back.
                _ if inserted.others.contains(&id) => {}
                // It was there before: who says that it is the copy of this one?
                Some(true) if !inserted.mine.contains(&id) && inserted.origins.are_doubtful() => {
                    batch.doubled.push(shown());
                    batch.sources = inserted.origins.told();
                }
                Some(true) => {
                    proved.insert(id, document);
                    continue;
                }
                Some(false) => batch.differing.push(shown()),
                None if inserted.mine.contains(&id) => batch.taken.push(shown()),
                None if !inserted.refused.contains(&id) => batch.rejected.push(shown()),
                None if is_misnamed_for(release, document) => batch.misnamed.push(shown()),
                None => batch.refused.push(shown()),
            }
            self.leave(document, &mut batch);
        }
        // Collections may have been renamed since the run began.
        if let Some(why) = self.misplaced().await? {
            return Err(BatchError::Misplaced(why));
        }
        let changed = self.delete(&proved, &inserted.mine).await?;
        let stay = changed.len() + self.vanished.len();
        batch.gone += i64::try_from(proved.len().saturating_sub(stay)).unwrap_or(0);
        self.went = batch.gone;
        for id in &changed {
            if let Some(document) = proved.get(id) {
                self.leave(document, &mut batch);
            }
        }
        let mut useless = changed.iter().chain(&self.vanished);
        if useless.any(|id| inserted.mine.contains(id)) {
            // They were changed, or removed by somebody else, after they were copied: the copies are of no use.
            self.take_back(true, false).await?;
        } else if let Some(mark) = self.open.take() {
            // All that it named is in one place only, and its mark says so: that it goes, too, is
            // nothing that a batch has to wait for. The history forgets it first.
            self.done = self.sealed.take().map(|sealed| (mark.id, sealed));
        }
        Ok(batch)
    }

    /// A document that is left where it is, and that the next batch must not meet again.
    fn leave(&self, document: &RawDocumentBuf, batch: &mut Batch) {
        if self.source.place(document) == batch.last {
            batch.left.extend(value_at(document, "_id"));
        }
    }
}

/// Whether what was found by the ids of documents is the same to the byte, by those ids. None of it is kept:
/// others may have put there what is larger.
async fn compared(
    mut found: Cursor<RawDocumentBuf>,
    documents: &[RawDocumentBuf],
) -> Result<HashMap<String, bool>, Error> {
    let own = documents.iter().filter_map(|d| Some((id_of(d)?, d)));
    let own: HashMap<String, &RawDocumentBuf> = own.collect();
    let mut copies = HashMap::new();
    while let Some(copy) = found.try_next().await? {
        if let Some(id) = id_of(&copy) {
            let same = own
                .get(&id)
                .is_some_and(|d| d.as_bytes() == copy.as_bytes());
            copies.insert(id, same);
        }
    }
    Ok(copies)
}

/// Leaves no more documents in a batch than its mark can list; whether some were left out.
fn shorten(documents: &mut Vec<RawDocumentBuf>) -> bool {
    let mut bytes = 0;
    let fit = documents.iter().take_while(|document| {
        let id = document.get("_id").ok().flatten();
        bytes += match id {
            Some(mongodb::bson::RawBsonRef::Document(id)) => id.as_bytes().len(),
            Some(mongodb::bson::RawBsonRef::String(id)) => id.len(),
            Some(mongodb::bson::RawBsonRef::Binary(id)) => id.bytes.len(),
            _ => 16,
        };
        bytes <= MOST_IDS
    });
    let fit = fit.count().max(1);
    let less = fit < documents.len();
    documents.truncate(fit);
    less
}

fn ids_of(documents: &[RawDocumentBuf]) -> Document {
    let ids: Vec<Bson> = documents
        .iter()
        .filter_map(|d| value_at(d, "_id"))
        .collect();
    doc! { "_id": { "$in": ids } }
}
