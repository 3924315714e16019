//! Documents become files, and go only when the files are proved to hold them.
//!
//! One transaction deletes a batch, and writes a mark with the id of its
//! manifest. The manifest is written down, with all there is to know about the
//! file, before the file is. Whenever the process dies, the mark tells what
//! became of that transaction: then the file is kept, or removed, and no
//! document is lost or doubled.

mod deleting;

use std::collections::HashSet;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use mongodb::ClientSession;
use mongodb::bson::{Bson, RawDocumentBuf};
use uuid::Uuid;

use super::batch::{Batch, BatchError, CLEARING, Key, key_of};
use super::copies::shown;
use super::files::{self, Sum};
use super::gate::{Ends, make_marks};
use super::known::{aside, beside, discard, failed, gone, remember, stored};
use super::settle::{Fate, fate};
use super::source::{Most, Source, session_id, value_at};
use super::under_way::Watch;
use crate::engines::EngineError;
use crate::engines::storage::Storage;
use crate::plan::archived::{self, ArchivedFile, Manifested};
use crate::plan::mongodb::{Export, Manifest, uuid_of};
use crate::values::{Engine, wall_clock};

/// What a batch may hold. It is in memory several times over: as read, as
/// packed, as read back, and as the server has it in the end.
const MOST: Most = Most {
    documents: 10_000,
    bytes: 8 << 20,
};

/// So many marks are removed at once.
const AT_ONCE: usize = 2_000;

/// Where files go, opened once for a walk.
pub(super) struct Exporter<'a> {
    source: Source<'a>,
    /// Where it is looked which documents are copies of batches under way.
    watch: Watch,
    export: &'a Export,
    storage: Storage,
    /// In which the transactions are, so that it can be ended when we are no more.
    session: ClientSession,
    /// The manifest of a batch of which it is not known yet whether it has gone.
    open: Option<Manifest>,
    /// Documents that have gone in the batch under way.
    went: i64,
}

impl<'a> Exporter<'a> {
    pub(super) fn watch(&self) -> &Watch {
        &self.watch
    }

    pub(super) async fn open(source: Source<'a>, export: &'a Export) -> Result<Self, EngineError> {
        let job = source.job;
        let storage = Storage::open(&export.storage).map_err(stored)?;
        make_marks(job).await?;
        tidy(&source).await;
        let session = source.client.start_session().await;
        let session = session.map_err(|error| {
            let on = job.session.database();
            job.session
                .error("opening a session", "startSession", on, &error)
        })?;
        Ok(Exporter {
            source,
            watch: Watch::default(),
            export,
            storage,
            session,
            open: None,
            went: 0,
        })
    }

    /// Archives one batch. Documents that change meanwhile stay.
    pub(super) async fn batch(
        &mut self,
        ends: Ends,
        after: Option<&Bson>,
        left: &[Bson],
        allowed: Option<i64>,
    ) -> Result<Batch, BatchError> {
        self.went = 0;
        let most = Most {
            documents: allowed.unwrap_or(i64::MAX).clamp(1, MOST.documents),
            ..MOST
        };
        let (mut documents, more) = self.source.read(ends, after, left, most).await?;
        if documents.is_empty() {
            return Ok(Batch::default());
        }
        if allowed == Some(0) {
            return Ok(Batch {
                too_many: true,
                ..Batch::default()
            });
        }
        let (unreadable, last) = self.source.set_aside(&mut documents, after);
        let mut batch = Batch {
            last: last.filter(|_| more),
            unreadable,
            ..Batch::default()
        };
        let mut stay = Vec::new();
        for document in self.watch.keep_back(&self.source, &mut documents).await? {
            batch.copies.push(shown(&document));
            stay.push((self.source.place(&document), value_at(&document, "_id")));
        }
        for tried in 1.. {
            if documents.is_empty() {
                break;
            }
            let count = documents.len();
            let (kept, changed) = self.once(documents).await?;
            documents = kept;
            if changed.is_empty() {
                batch.gone = i64::try_from(count).unwrap_or(i64::MAX);
                break;
            }
            let changed: HashSet<Key> = changed.into_iter().collect();
            documents.retain(|document| {
                let same = !changed.contains(&key_of(document));
                if !same {
                    stay.push((self.source.place(document), value_at(document, "_id")));
                }
                same
            });
            // Where others write all the time, less is tried at once; the rest is read again.
            if tried > 1 && documents.len() > 1 {
                documents.truncate(documents.len() / 2);
                batch.last = documents.last().and_then(|d| self.source.place(d));
            }
        }
        let here = stay.into_iter().filter(|(place, _)| *place == batch.last);
        batch.left.extend(here.filter_map(|(_, id)| id));
        Ok(batch)
    }

    /// Gives back what was begun of a batch that was broken off in its middle. So many documents
    /// had gone; none where that is not known, which the next run finds out.
    pub(super) async fn cut_off(&mut self) -> Option<i64> {
        let Some(manifest) = self.open.take() else {
            return Some(self.went);
        };
        let job = self.source.job;
        let session = session_id(self.session.id());
        let became = tokio::time::timeout(CLEARING, async {
            // Its transaction may be open still.
            if let Some(id) = session {
                job.session.end_session(&id).await;
            }
            fate(&self.storage, &manifest, job).await
        });
        // What nobody knows, and what is nowhere but in the files, the next run sees to, and tells.
        let committed = match became.await {
            Ok(Ok(Fate::Committed)) => true,
            Ok(Ok(Fate::Back)) => false,
            Ok(Ok(Fate::Only(_) | Fate::Unseen(_)) | Err(_)) | Err(_) => return None,
        };
        let rest = async {
            match committed {
                true => gone(&self.storage, &manifest, job).await,
                false => discard(&self.storage, job, &manifest).await,
            }
        };
        match tokio::time::timeout(CLEARING, rest).await {
            Ok(Ok(())) => {}
            // The manifest stays as it is, and the next run goes on with it.
            Ok(Err(error)) => {
                tracing::warn!(%error, "a batch that was broken off is cleared away by the next run")
            }
            Err(_) => tracing::warn!(
                "a batch that was broken off is cleared away by the next run: its files could not be reached"
            ),
        }
        Some(if committed { manifest.rows } else { 0 })
    }

    /// Stores these documents and deletes them, or none of them: then tells
    /// which are not any more what was stored.
    async fn once(
        &mut self,
        documents: Vec<RawDocumentBuf>,
    ) -> Result<(Vec<RawDocumentBuf>, Vec<Key>), BatchError> {
        let job = self.source.job;
        let (format, fields) = (self.export.format, self.export.columns.clone());
        let packing = move || {
            let content = files::pack(format, &fields, &documents);
            (documents, content)
        };
        let (documents, content) = aside(packing).await?;
        let content = content.map_err(failed)?;
        let manifest = self.manifest(&documents, &content);
        // From here on the next run knows what to look for. Unlike the rest
        // of the history, the work depends on it.
        self.open = Some(manifest.clone());
        remember(job, &manifest).await?;
        let stored = self.store(&manifest, documents, content).await;
        let documents = match stored {
            Ok(documents) if !job.execution.stop.is_now() => documents,
            other => {
                self.discard(&manifest).await;
                self.open = None;
                return Err(other.err().unwrap_or(BatchError::Stopped));
            }
        };
        match self.delete(&documents, &manifest).await {
            Ok(changed) if changed.is_empty() => {}
            Ok(changed) => {
                self.discard(&manifest).await;
                self.open = None;
                return Ok((documents, changed));
            }
            // Whatever came of it is asked of the server, not assumed.
            Err(error) => match fate(&self.storage, &manifest, job).await? {
                Fate::Committed => {}
                Fate::Back => {
                    self.discard(&manifest).await;
                    self.open = None;
                    return Err(error.into());
                }
                // Nobody goes on as if nothing had happened; the next run sees to it, and tells.
                Fate::Only(_) | Fate::Unseen(_) => {
                    self.open = None;
                    let error = job.session.error(
                        "archiving a batch",
                        "commitTransaction",
                        &manifest.source(),
                        &error,
                    );
                    let why = format!(
                        "whether the last batch was archived is not known, and the next run finds out: {error}"
                    );
                    return Err(failed(why).into());
                }
            },
        }
        // Once its mark is removed, nobody may ask what became of it.
        self.open = None;
        self.went = manifest.rows;
        if let Err(error) = gone(&self.storage, &manifest, job).await {
            // They are stored and gone; the next run writes that down.
            tracing::warn!(%error, "a batch was archived, and its manifest not finished");
        }
        Ok((documents, Vec::new()))
    }

    fn manifest(&self, documents: &[RawDocumentBuf], content: &Bytes) -> Manifest {
        let (job, walk) = (self.source.job, self.source.walk);
        let mut sum = Sum::default();
        documents.iter().for_each(|document| sum.add(document));
        let times = || {
            let field = self.export.age.as_deref();
            documents
                .iter()
                .filter_map(move |d| moment(&value_at(d, field?)?))
        };
        let shown = |at: DateTime<Utc>| at.format("%Y-%m-%d %H:%M:%S").to_string();
        let folder = Manifest::folder_of(&walk.database, &walk.collection);
        let file = ArchivedFile {
            path: format!("{folder}{}{}", Uuid::now_v7(), self.export.format.ending()),
            rows: sum.documents,
            bytes: i64::try_from(content.len()).unwrap_or(i64::MAX),
            sha256: files::sha256(content),
            checksum: sum.checksum(),
            span: times()
                .min()
                .zip(times().max())
                .map(|(a, b)| (shown(a), shown(b))),
        };
        Manifest {
            id: Uuid::now_v7(),
            run: job.execution.run,
            maint: env!("CARGO_PKG_VERSION").to_owned(),
            created_at: wall_clock(),
            engine: Engine::Mongodb,
            settled: false,
            target: job.execution.target.clone(),
            database: walk.database.clone(),
            collection: walk.collection.clone(),
            uuid: job
                .step
                .body
                .relies_on
                .get(&uuid_of(&walk.database, &walk.collection))
                .cloned(),
            condition: walk.filter.clone(),
            format: self.export.format,
            columns: self.export.columns.clone(),
            rows: sum.documents,
            marks: job.session.database().to_owned(),
            session: session_id(self.session.id()),
            storage: self.export.storage.clone(),
            restored: Vec::new(),
            files: vec![file],
        }
    }

    /// Writes the file and reads it back, document by document.
    async fn store(
        &self,
        manifest: &Manifest,
        documents: Vec<RawDocumentBuf>,
        content: Bytes,
    ) -> Result<Vec<RawDocumentBuf>, BatchError> {
        let Some(file) = manifest.files.first().cloned() else {
            return Ok(documents);
        };
        self.storage
            .put(&file.path, content)
            .await
            .map_err(stored)?;
        let content = self.storage.get(&file.path, file.size()).await;
        let content = content.map_err(stored)?;
        let full = self.storage.full(&file.path);
        let (format, fields) = (manifest.format, manifest.columns.clone());
        let proving = move || {
            let same = files::compare(content, &file, format, &fields, Some(&documents));
            (documents, same)
        };
        let (documents, same) = aside(proving).await?;
        same.map_err(|why| failed(format!("{full}: {why}")))?;
        beside(&self.storage, manifest).await.map_err(stored)?;
        Ok(documents)
    }

    /// Removes the file of a batch that was given back.
    async fn discard(&self, manifest: &Manifest) {
        if let Err(error) = discard(&self.storage, self.source.job, manifest).await {
            // The manifest stays, and with it the next run finds the file.
            tracing::warn!(%error, "files of a batch that was given back remain for now");
        }
    }
}

/// The time that a value tells; none for what no calendar has.
fn moment(value: &Bson) -> Option<DateTime<Utc>> {
    let millis = match value {
        Bson::DateTime(at) => at.timestamp_millis(),
        Bson::ObjectId(id) => id.timestamp().timestamp_millis(),
        _ => return None,
    };
    DateTime::from_timestamp_millis(millis)
}

/// Removes marks that nobody asks for any more: their manifests say it.
async fn tidy(source: &Source<'_>) {
    let job = source.job;
    let name = crate::engines::mongodb::namespace(&source.walk.database, &source.walk.collection);
    let execution = job.execution;
    let known = execution.history.store();
    let known = known.memories(&execution.target, &execution.kind).await;
    let (Ok(known), Ok(marks)) = (known, job.session.committed(&name).await) else {
        return;
    };
    let settled: Vec<String> = archived::among::<Manifest>(known.iter())
        .into_iter()
        .filter(|manifest| manifest.settled)
        .map(|manifest| manifest.id.to_string())
        .filter(|id| marks.as_ref().is_none_or(|marks| marks.contains(id)))
        .collect();
    // What is old goes, too, also where nothing else does.
    for some in settled
        .chunks(AT_ONCE)
        .chain(settled.is_empty().then_some(&[][..]))
    {
        if let Err(error) = job.session.forget(job.session.database(), some).await {
            tracing::debug!(%error, "marks remain for now");
            return;
        }
    }
}
