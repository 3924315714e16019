//! Rows become files, and go only when the files are proved to hold them.
//!
//! One transaction with one snapshot covers a batch: what it selects is what
//! it deletes. Its id is written down, with all there is to know about the
//! files, before the first file is written. Whenever the process dies, the
//! server can be asked what became of that transaction: then the files are
//! kept, or removed, and no row is lost or doubled.

mod files;

use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::files::File;
use super::Job;
use super::aftermath::Before;
use super::attempts::Attempt;
use super::deferred::settle_within;
use super::gate::{self, Did, Halt, Outcome};
use super::known::{beside, discard, gone, remember};
use super::lot::{Batch, ExportError, beside_it, sha256, unless_over};
use super::naming::{Named, Naming};
use super::parts::Parts;
use super::seen::Seen;
use super::standing;
use crate::engines::EngineError;
use crate::engines::parquet::{self, Column};
use crate::engines::storage::Storage;
use crate::plan::{ArchivedFile, Export, Manifest, Range, Walk, Without};
use crate::values::{several, wall_clock, with_causes};

/// What came of a batch, or why the delete did not pass the gate.
type Archived = Outcome<Batch>;

/// Where files go, opened once for a walk.
pub(super) struct Exporter<'a> {
    pub(super) walk: &'a Walk,
    pub(super) export: &'a Export,
    pub(super) storage: Storage,
    pub(super) naming: Naming,
}

/// One batch of a walk, to be archived.
pub(super) struct Exporting<'a> {
    pub(super) exporter: &'a Exporter<'a>,
    pub(super) range: &'a Range,
    pub(super) without: &'a Without,
    /// Whether fewer rows can be tried.
    pub(super) splits: bool,
}

#[async_trait]
impl Attempt for Exporting<'_> {
    type Done = Batch;

    fn shrinks(&self) -> bool {
        true
    }

    fn less(&self) -> Option<Batch> {
        self.splits.then_some(Batch::SteppedBack)
    }

    async fn once(
        &mut self,
        job: Job<'_>,
        step_ends: Instant,
        give_way: &CancellationToken,
    ) -> Outcome<Batch> {
        let exporter = self.exporter;
        exporter
            .pass(self.range, self.without, job, step_ends, give_way)
            .await
    }
}

impl<'a> Exporter<'a> {
    pub(super) async fn open(
        walk: &'a Walk,
        export: &'a Export,
        job: Job<'_>,
    ) -> Result<Self, ExportError> {
        Ok(Exporter {
            naming: Naming::with(job.door.another().await?).await?,
            walk,
            export,
            storage: Storage::open(&export.storage)?,
        })
    }

    /// Archives one batch.
    async fn pass(
        &self,
        range: &Range,
        without: &Without,
        job: Job<'_>,
        step_ends: Instant,
        give_way: &CancellationToken,
    ) -> Outcome<Batch> {
        gate::limit(job.session, job.execution, step_ends).await?;
        match self.batch(range, without, job, step_ends, give_way).await {
            Ok(archived) => archived,
            Err(error) => Err(error.judge(job, step_ends, give_way)),
        }
    }

    async fn batch(
        &self,
        range: &Range,
        without: &Without,
        job: Job<'_>,
        step_ends: Instant,
        give_way: &CancellationToken,
    ) -> Result<Archived, ExportError> {
        let session = job.session;
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ";
        let opened = standing::open(begin, self.walk, job, step_ends, give_way).await;
        if let Err(halt) = opened {
            return Ok(Err(halt));
        }
        if let Some(guard) = &job.step.body.guard
            && let Err(error) = guard.take(session).await
        {
            session.execute("rolling back", "ROLLBACK").await?;
            return Err(error.into());
        }
        let looked = standing::look(self.walk, job, step_ends, give_way).await;
        if let Err(halt) = looked {
            session.execute("rolling back", "ROLLBACK").await?;
            return Ok(Err(halt));
        }
        let mut manifest = None;
        let result = self
            .within(range, without, job, step_ends, give_way, &mut manifest)
            .await;
        let commit = gate::commit(session, job.execution, step_ends, give_way);
        let result = match result {
            Ok(Ok(Batch::Rows(rows))) => match commit.await {
                Ok(()) => Ok(Ok(Batch::Rows(rows))),
                // The server's word that nothing has gone.
                Err(error) if !error.is_unreachable() => Err(error.into()),
                // Whatever came of it is asked of the server, not assumed.
                Err(error) => return Err(error.into()),
            },
            other => other,
        };
        match result {
            Ok(Ok(Batch::Rows(rows))) => {
                if let Some(manifest) = manifest
                    && let Err(error) = gone(&self.storage, &manifest, job).await
                {
                    // The rows are stored and gone; the next run writes that down.
                    tracing::warn!(error = %with_causes(&error), "a batch was archived, and its manifest not finished");
                }
                Ok(Ok(Batch::Rows(rows)))
            }
            other => {
                let rolled_back = session.execute("rolling back", "ROLLBACK").await;
                if let Some(manifest) = manifest {
                    // Without the server's word that all rows are back, the files stay.
                    if rolled_back.is_ok()
                        && let Err(error) = discard(&self.storage, job, &manifest).await
                    {
                        // What went wrong first is what matters; the manifest
                        // stays, and with it the next run finds the files.
                        tracing::warn!(error = %with_causes(&error), "files of a batch that was given back remain for now");
                        if other.is_ok() {
                            return Err(error);
                        }
                    }
                }
                match (&other, rolled_back) {
                    (Ok(_), Err(error)) => Err(error.into()),
                    _ => other,
                }
            }
        }
    }

    async fn within(
        &self,
        range: &Range,
        without: &Without,
        job: Job<'_>,
        step_ends: Instant,
        give_way: &CancellationToken,
        noted: &mut Option<Manifest>,
    ) -> Result<Archived, ExportError> {
        let session = job.session;
        let name = Uuid::now_v7().to_string();
        let fetching = self.fetch(range, without, job);
        let parts = match unless_over(fetching, job, step_ends, give_way).await {
            Ok(parts) => parts?,
            Err(halt) => {
                // The rest of the answer is of no use, and would keep the transaction open.
                job.session.cancel().await?;
                return Ok(Err(halt));
            }
        };
        let Some(parts) = parts else {
            return Ok(Ok(Batch::TooLarge));
        };
        let rows: i64 = parts.0.values().map(|part| part.writer.rows()).sum();
        if rows == 0 {
            return Ok(Ok(Batch::Rows(0)));
        }
        let transaction = self.naming.name(session).await?;
        let delete = self.walk.delete(range, without);
        let before = match self.walk.fires {
            true => Some(Before::of(session, self.walk).await?),
            false => None,
        };
        let deleting = async {
            let did = gate::pass(session, &delete, job.execution, step_ends, give_way).await?;
            if i64::try_from(did.rows) == Ok(rows) {
                settle_within(session, job.execution, step_ends, give_way).await?;
                if let Some(before) = &before {
                    let same = before.compare(session, self.walk, rows).await;
                    same.map_err(Halt::Failed)?;
                }
            }
            Ok(did)
        };
        let seen = Seen::default();
        let keeping = self.keep(parts, &name, rows, transaction, job, noted, &seen);
        let keeping = unless_over(keeping, job, step_ends, give_way);
        // The proof has to be there before the transaction ends, and no sooner:
        // on a disk the server deletes meanwhile. What a bucket takes its time
        // for is not to hold the locks of rows.
        let (kept, gone): (_, Outcome<Did>) = if self.storage.is_on_disk() {
            let (kept, gone) = futures_util::future::join(keeping, deleting).await;
            match kept {
                Ok(kept) => (kept?, gone),
                Err(halt) => return Ok(Err(halt)),
            }
        } else {
            match keeping.await {
                Ok(Ok(true)) => {}
                Ok(Ok(false)) => return Ok(Err(Halt::Stopped)),
                Ok(Err(error)) => return Err(error),
                Err(halt) => return Ok(Err(halt)),
            }
            (true, deleting.await)
        };
        match gone {
            _ if !kept => Ok(Err(Halt::Stopped)),
            Ok(did) if i64::try_from(did.rows) == Ok(rows) => {
                // The delete may have taken its time.
                let files = noted.as_ref().map(|m| &*m.files).unwrap_or_default();
                match seen.wrong(&self.storage, files).await? {
                    Some(why) => Err(ExportError::Proof(format!("nothing was deleted: {why}"))),
                    None => Ok(Ok(Batch::Rows(rows))),
                }
            }
            Ok(Did { rows: gone, .. }) => Err(ExportError::Stayed { rows, gone }),
            Err(halt) => Ok(Err(halt)),
        }
    }

    /// Writes down what there is to know of a batch, writes its files and
    /// proves them; `false` where the run was stopped meanwhile.
    #[expect(
        clippy::too_many_arguments,
        reason = "all of it is what a manifest says, and where it is noted"
    )]
    async fn keep(
        &self,
        parts: Parts,
        name: &str,
        rows: i64,
        transaction: Named,
        job: Job<'_>,
        noted: &mut Option<Manifest>,
        seen: &Seen,
    ) -> Result<bool, ExportError> {
        let files = self.finish(parts, name).await?;
        let manifest = Manifest {
            id: Uuid::now_v7(),
            run: job.execution.run,
            maint: env!("CARGO_PKG_VERSION").to_owned(),
            created_at: wall_clock(),
            settled: false,
            doubted: false,
            source: self.export.source.clone(),
            oid: Some(self.export.oid),
            table: self.walk.table.clone(),
            table_oid: Some(self.walk.oid),
            condition: job.execution.filled.over(&self.walk.condition),
            columns: self.export.columns.clone(),
            rows,
            transaction: transaction.id,
            server: Some(transaction.server),
            since: Some(transaction.since),
            storage: self.export.storage.clone(),
            received: None,
            whole: None,
            target: Some(job.execution.target.clone()),
            database: Some(job.session.server.database.clone()),
            database_oid: Some(job.session.server.database_oid),
            restored: Vec::new(),
            files: files.iter().map(|f| f.entry.clone()).collect(),
        };
        // From here on the next run knows what to look for. Unlike the rest
        // of the history, the work depends on it.
        remember(job, &manifest).await?;
        let manifest: &Manifest = noted.insert(manifest);
        if !self.store(files, job, seen).await? {
            return Ok(false);
        }
        beside(&self.storage, manifest).await?;
        Ok(true)
    }

    /// Writes files and reads them back; `false` where the run was stopped meanwhile.
    pub(super) async fn store(
        &self,
        files: Vec<File>,
        job: Job<'_>,
        seen: &Seen,
    ) -> Result<bool, ExportError> {
        for file in files {
            if job.execution.stop.is_now() {
                return Ok(false);
            }
            self.storage.put(&file.entry.path, file.content).await?;
            let stamp = self.storage.stamp(&file.entry.path).await?;
            prove(&self.storage, &file.entry, &self.export.columns).await?;
            seen.note(&file.entry.path, stamp);
        }
        Ok(true)
    }

    /// Whether a file takes a row as it is.
    ///
    /// # Errors
    /// When it does not, or the row cannot be read.
    pub(super) async fn takes(&self, place: &str, job: Job<'_>) -> Result<(), EngineError> {
        let range = Range::Rows(vec![place.to_owned()]);
        let fetched = self.fetch(&range, &Without::default(), job).await;
        fetched.map(drop).map_err(ExportError::into_engine)
    }
}

/// Reads a file back: the same bytes, and in them the same rows.
///
/// # Errors
/// A text where it differs.
async fn prove(
    storage: &Storage,
    file: &ArchivedFile,
    columns: &[Column],
) -> Result<(), ExportError> {
    let content = storage.get(&file.path, file.size()).await?;
    let (file, columns) = (file.clone(), columns.to_vec());
    let full = storage.full(&file.path);
    let checked = beside_it(move || check(content, &file, &columns)).await?;
    checked.map_err(|why| ExportError::Proof(format!("{full}: {why}")))
}

/// Compares a file with what its manifest says of it.
///
/// # Errors
/// What differs.
pub fn check(content: Bytes, file: &ArchivedFile, columns: &[Column]) -> Result<(), String> {
    let found = sha256(&content);
    if found != file.sha256 {
        return Err(format!(
            "its SHA-256 is {found}, not {} as written",
            file.sha256
        ));
    }
    let (rows, sum) = parquet::sum(content, columns).map_err(|e| with_causes(&e))?;
    if rows != file.rows || sum.to_string() != file.checksum {
        return Err(format!(
            "it has {} with checksum {sum}, not {} with {}",
            several(rows, "row"),
            file.rows,
            file.checksum
        ));
    }
    Ok(())
}
