//! The two parts of it that are tried, and tried again: rows of some blocks are stored; the table is locked,
//! compared with what was stored, and dropped.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio_util::sync::CancellationToken;

use super::super::begun::{clear, settled};
use super::super::export::Exporter;
use super::super::gate::{self, Halt, Outcome};
use super::super::known::{beside, discard, remember};
use super::super::lot::{Batch, ExportError};
use super::super::seen::Seen;
use super::super::{Job, ask, weight};
use crate::engines::parquet::Checksum;
use crate::engines::postgres::first;
use crate::plan::{Manifest, Range, Retire, Statement, Without};

/// Rows that the role may not see must not be dropped with the table: the
/// server then refuses to answer.
const ALL_ROWS: &str = "SET LOCAL row_security = off";

/// What is tried, and tried again, as one.
#[derive(Clone, Copy)]
pub(super) enum Part<'a> {
    /// Storing the rows of some blocks.
    Store(&'a Range),
    /// Locking, comparing, dropping.
    Drop,
}

/// A partition on its way out.
pub(super) struct Retirer<'a> {
    pub(super) retire: &'a Retire,
    pub(super) exporter: Option<Exporter<'a>>,
    /// Whether rows are weighed before they are fetched.
    pub(super) weighed: AtomicBool,
    pub(super) manifest: Mutex<Manifest>,
    /// Files of the manifest that were read, and were as they should be.
    pub(super) seen: Seen,
}

/// What came of storing a range.
enum Stored {
    All,
    TooMany,
    Stopped,
}

impl Retirer<'_> {
    pub(super) fn manifest(&self) -> MutexGuard<'_, Manifest> {
        self.manifest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn place(&self) -> i64 {
        self.manifest().whole.as_ref().map_or(0, |w| w.place)
    }

    pub(super) fn rows(&self) -> i64 {
        self.manifest().rows
    }

    /// Takes away what is known of a manifest that nothing was stored for.
    pub(super) async fn forget(&self, job: Job<'_>) -> Result<(), ExportError> {
        let manifest = self.manifest().clone();
        match &self.exporter {
            Some(exporter) => discard(&exporter.storage, job, &manifest).await,
            None => Ok(()),
        }
    }

    /// Fails where a file of the manifest is not as it was written.
    async fn look(&self) -> Result<(), ExportError> {
        let Some(exporter) = &self.exporter else {
            return Ok(());
        };
        let files = self.manifest().files.clone();
        match self.seen.wrong(&exporter.storage, &files).await? {
            None => Ok(()),
            Some(why) => Err(ExportError::Changed(format!(
                "nothing was deleted: {why}. What was stored of {} is removed, and the next run begins again",
                self.retire.table
            ))),
        }
    }

    pub(super) async fn pass(
        &self,
        part: Part<'_>,
        job: Job<'_>,
        step_ends: Instant,
        give_way: &CancellationToken,
    ) -> Outcome<Batch> {
        gate::limit(job.session, job.execution, step_ends).await?;
        let done = match part {
            Part::Store(range) => self.store(range, job).await,
            Part::Drop => self.drop_table(job, step_ends, give_way).await,
        };
        match done {
            Ok(outcome) => outcome,
            Err(error) => Err(error.judge(job, step_ends, give_way)),
        }
    }

    pub(super) async fn store(
        &self,
        range: &Range,
        job: Job<'_>,
    ) -> Result<Outcome<Batch>, ExportError> {
        let Some(exporter) = &self.exporter else {
            return Ok(Ok(Batch::Rows(0)));
        };
        let mut next = self.manifest().clone();
        let session = job.session;
        let begin = format!("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {ALL_ROWS}");
        session.execute("opening a transaction", &begin).await?;
        if let Some(guard) = &job.step.body.guard
            && let Err(error) = guard.take(session).await
        {
            session.execute("rolling back", "ROLLBACK").await?;
            return Err(error.into());
        }
        let stored = self.in_pieces(exporter, range, job, &mut next).await;
        // Nothing was written.
        let ended = session.execute("ending a transaction", "ROLLBACK").await;
        match stored? {
            Stored::All => ended?,
            Stored::TooMany => {
                ended?;
                return Ok(Ok(Batch::TooLarge));
            }
            Stored::Stopped => return Ok(Err(Halt::Stopped)),
        };
        if let (Some(whole), Range::Blocks(_, to)) = (&mut next.whole, range) {
            whole.place = *to;
        }
        remember(job, &next).await?;
        *self.manifest() = next.clone();
        beside(&exporter.storage, &next).await?;
        Ok(Ok(Batch::Rows(0)))
    }

    /// Stores the rows of a range: at once, or where a single block holds
    /// too much, some at a time.
    async fn in_pieces(
        &self,
        exporter: &Exporter<'_>,
        range: &Range,
        job: Job<'_>,
        next: &mut Manifest,
    ) -> Result<Stored, ExportError> {
        let (walk, columns) = (exporter.walk, &exporter.export.columns);
        let single = matches!(range, Range::Blocks(from, to) if to - from <= 1);
        let mut pieces = vec![range.clone()];
        if self.weighed.load(Ordering::Relaxed) {
            let weight = weight::of(walk, columns, range, job).await?;
            if weight.bytes > weight::BATCH_BYTES {
                if !single {
                    return Ok(Stored::TooMany);
                }
                pieces = weight::pieces(walk, columns, range, job).await?;
            }
        }
        for piece in &pieces {
            // Of this run alone: no other, dead or alive, writes to its files.
            let name = format!("{}-{}-{:05}", next.id, job.execution.run, next.files.len());
            let files = exporter
                .read(piece, &Without::default(), job, &name)
                .await?;
            let Some(files) = files else {
                return Ok(Stored::TooMany);
            };
            if job.execution.stop.is_now() {
                return Ok(Stored::Stopped);
            }
            let entries: Vec<_> = files.iter().map(|file| file.entry.clone()).collect();
            if !exporter.store(files, job, &self.seen).await? {
                return Ok(Stored::Stopped);
            }
            next.rows += entries.iter().map(|entry| entry.rows).sum::<i64>();
            next.files.extend(entries);
        }
        Ok(Stored::All)
    }

    /// In one transaction: nobody writes any more, the table holds what was
    /// stored, the table goes.
    async fn drop_table(
        &self,
        job: Job<'_>,
        step_ends: Instant,
        give_way: &CancellationToken,
    ) -> Result<Outcome<Batch>, ExportError> {
        let session = job.session;
        // Reading files of earlier runs may take its time: nobody waits for it.
        if let Err(error) = self.look().await {
            return self.undo(Err(error), job).await;
        }
        let begin = format!("BEGIN; {ALL_ROWS}");
        session.execute("opening a transaction", &begin).await?;
        if let Some(guard) = &job.step.body.guard
            && let Err(error) = guard.take(session).await
        {
            session.execute("rolling back", "ROLLBACK").await?;
            return Err(error.into());
        }
        let dropped = self.within(job, step_ends, give_way).await;
        if let Ok(Ok(_)) = dropped {
            gate::commit(session, job.execution, step_ends, give_way).await?;
            if let Some(exporter) = &self.exporter {
                let manifest = self.manifest().clone();
                settled(&exporter.storage, &manifest, job).await?;
            }
            return Ok(Ok(Batch::Rows(0)));
        }
        let rolled_back = session.execute("rolling back", "ROLLBACK").await;
        match (dropped, rolled_back) {
            // What went wrong first is what matters.
            (Err(first), Err(_)) => Err(first),
            (Ok(_), Err(error)) => Err(error.into()),
            (dropped, Ok(_)) => self.undo(dropped, job).await,
        }
    }

    /// The table is there, with all its rows: what was stored is kept for the
    /// next try, or removed where it is not what there is.
    async fn undo(
        &self,
        dropped: Result<Outcome<Batch>, ExportError>,
        job: Job<'_>,
    ) -> Result<Outcome<Batch>, ExportError> {
        if let Some(exporter) = &self.exporter {
            let mut manifest = self.manifest().clone();
            if let Err(ExportError::Changed(_)) = &dropped {
                clear(&exporter.storage, &manifest).await?;
                discard(&exporter.storage, job, &manifest).await?;
            } else if !manifest.transaction.is_empty() {
                manifest.transaction.clear();
                manifest.server = None;
                remember(job, &manifest).await?;
                *self.manifest() = manifest;
            }
        }
        dropped
    }

    async fn within(
        &self,
        job: Job<'_>,
        step_ends: Instant,
        give_way: &CancellationToken,
    ) -> Result<Outcome<Batch>, ExportError> {
        let (session, retire) = (job.session, self.retire);
        let run = async |sql: String| {
            let statement = Statement::brief(sql);
            gate::pass(session, &statement, job.execution, step_ends, give_way).await
        };
        match run(retire.lock()).await {
            Ok(_) => {}
            Err(halt) => return Ok(Err(halt)),
        }
        let looking = "looking whether it is detached";
        let answer = ask(session, looking, &retire.detached).await?;
        if first(&answer, 0)? != Some(Some(true)) {
            return Err(ExportError::Proof(format!(
                "nothing was deleted: {} is a partition again, does not say any more that it is to be archived, or has other columns than when the plan was made; the next run looks at it anew",
                retire.table
            )));
        }
        if let Some(older) = &retire.older {
            let answer = ask(session, "looking how old its rows are", &older.query).await?;
            if first(&answer, 0)? != Some(Some(true)) {
                return Err(ExportError::Proof(format!(
                    "nothing was deleted: {}",
                    older.otherwise
                )));
            }
        }
        let Some((rows, checksum)) = self.sum(job).await? else {
            return Ok(Err(Halt::Stopped));
        };
        let (stored, expected) = {
            let manifest = self.manifest();
            let mut sum = Checksum::default();
            for file in &manifest.files {
                sum.merge(file.checksum.parse().map_err(ExportError::Proof)?);
            }
            (manifest.rows, sum)
        };
        if (rows, checksum) != (stored, expected) {
            return Err(ExportError::Changed(format!(
                "nothing was deleted: {stored} rows of {} were stored, with checksum {expected}, and now it holds {rows} with {checksum}; somebody has written to it since, and the next run begins again",
                retire.table
            )));
        }
        // Comparing took its time, too. What was seen before costs a glance.
        self.look().await?;
        if let Some(exporter) = &self.exporter {
            let mut manifest = self.manifest().clone();
            let named = exporter.naming.name(session).await?;
            manifest.transaction = named.id;
            manifest.server = Some(named.server);
            manifest.since = Some(named.since);
            // From here on the next run knows what to ask.
            remember(job, &manifest).await?;
            *self.manifest() = manifest;
        }
        Ok(run(retire.drop_table()).await.map(|_| Batch::Rows(0)))
    }

    /// What the table holds now; `None` where the run was stopped meanwhile.
    async fn sum(&self, job: Job<'_>) -> Result<Option<(i64, Checksum)>, ExportError> {
        let (mut rows, mut sum) = (0_i64, Checksum::default());
        let columns = self.exporter.as_ref().map(|e| &*e.export.columns);
        let what = self.exporter.as_ref().map(Exporter::selected);
        let query = format!(
            "SELECT {} FROM ONLY {}",
            what.unwrap_or_default(),
            self.retire.table
        );
        let reading = job.session.stream("comparing rows", &query, &[], |fields| {
            sum.add(columns.unwrap_or_default(), fields.iter().copied());
            rows += 1;
            true
        });
        tokio::select! {
            result = reading => result?,
            () = job.execution.stop.now() => {
                job.session.cancel().await?;
                return Ok(None);
            }
        }
        Ok(Some((rows, sum)))
    }
}
