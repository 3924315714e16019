//! A partition leaves as a whole: it is detached, its rows are stored, and in
//! one transaction it is locked, compared with what was stored, and dropped.
//!
//! The manifest is written down before anything else is done, and again after
//! each part. Whenever the process dies, it tells the next run how far this
//! one came; files that it does not name are removed. Nothing is deleted
//! before the end, so nothing can get lost: the rows are in the table until
//! the transaction commits that drops it, and whether it did is asked of the
//! server. Right before that every file is looked at once more.
//!
//! One run at a time works on a partition, from whatever task or target: a
//! lock in the database says so. Who holds it may go on with what a dead run
//! left, since a run that lives would hold it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::Event;
use super::again;
use super::attempts::{Attempt, ends, until_done};
use super::begun::{begin, clear, settled};
use super::export::Exporter;
use super::gate::{self, Halt, Outcome};
use super::known::{beside, discard, put, remember};
use super::living::claim_of_the_living;
use super::lot::{Batch, ExportError};
use super::seen::Seen;
use super::size::BatchSize;
use super::statements;
use super::way::{may_go_on, too_large};
use super::weight;
use super::{Job, ask, end};
use crate::engines::EngineError;
use crate::engines::parquet::Checksum;
use crate::engines::postgres::{claim, first};
use crate::engines::storage::Storage;
use crate::execute::Door;
use crate::history::{StepRecord, StepStatus};
use crate::plan::archived::MANIFEST;
use crate::plan::{Fate, Finding, Manifest, Path, Range, Retire, Statement, Without};
use crate::values::{several, several_do, with_causes};

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
    retire: &'a Retire,
    exporter: Option<Exporter<'a>>,
    /// Whether rows are weighed before they are fetched.
    weighed: AtomicBool,
    manifest: Mutex<Manifest>,
    /// Files of the manifest that were read, and were as they should be.
    seen: Seen,
}

/// What came of storing a range.
enum Stored {
    All,
    TooMany,
    Stopped,
}

/// Carries it out; `record.rows` are the rows that have gone with the table.
pub(super) async fn carry_out(
    retire: &Retire,
    job: Job<'_>,
    record: &mut StepRecord,
    findings: &mut Vec<Finding>,
) -> Result<(), EngineError> {
    if let Some(walk) = &retire.walk {
        again::first(walk, job, findings).await?;
    }
    if let Some(holder) = claim_of_the_living(retire.oid, job).await? {
        match holder.stranger {
            None => {
                let why = format!("another run is archiving it: {}", holder.who);
                end(record, StepStatus::Skipped, why);
            }
            Some(why) => {
                let why = format!(
                    "the lock by which runs that archive {} exclude each other is held by {}: {why}",
                    retire.table, holder.who
                );
                end(record, StepStatus::Failed, why);
            }
        }
        return Ok(());
    }
    let done = alone(retire, job, record).await;
    if done.as_ref().is_err_and(EngineError::is_unreachable) {
        // The lock has gone with the session.
        return done;
    }
    let released = claim::release_partition(job.session, retire.oid).await;
    done?;
    released
}

/// Whether the place of the files takes what is written there, and gives it back: asked while all rows
/// are in their table yet. The manifest lies there from then on, without files.
async fn tried(storage: &Storage, manifest: &Manifest) -> Result<(), ExportError> {
    beside(storage, manifest).await?;
    storage.get(&manifest.path(), MANIFEST).await?;
    Ok(())
}

/// The same, while nobody else works on the partition.
async fn alone(retire: &Retire, job: Job<'_>, record: &mut StepRecord) -> Result<(), EngineError> {
    // Who had the lock before may have been at it.
    if let Some(why) = job.door.unneeded(job.session, job.step).await? {
        end(record, StepStatus::Skipped, why);
        return Ok(());
    }
    let exporter = match retire.walk.as_ref().map(|walk| (walk, &walk.fate)) {
        Some((walk, Fate::Export(export))) => Some(
            Exporter::open(walk, export, job)
                .await
                .map_err(ExportError::into_engine)?,
        ),
        _ => None,
    };
    let seen = Seen::default();
    let begun = begin(retire, exporter.as_ref(), &seen, job).await;
    let begun = begun.map_err(ExportError::into_engine)?;
    let retirer = Retirer {
        retire,
        exporter,
        weighed: AtomicBool::new(false),
        manifest: Mutex::new(begun.manifest),
        seen,
    };
    if let Some(exporter) = &retirer.exporter
        && weight::can_be_heavy(exporter.walk, job).await?
    {
        retirer.weighed.store(true, Ordering::Relaxed);
        let all = Range::Blocks(0, i64::from(u32::MAX));
        let weight = weight::of(exporter.walk, &exporter.export.columns, &all, job).await?;
        if let Some((place, bytes)) = weight.heavy.first() {
            let why = format!(
                "nothing was detached or deleted: {} has {} larger than the {} MB that are kept in memory: ctid {place} with {} MB",
                retire.table,
                several(weight.heavy.len(), "row"),
                weight::MOST_ROW_BYTES >> 20,
                bytes >> 20
            );
            end(record, StepStatus::Failed, why);
            return Ok(());
        }
    }
    let manifest = retirer.manifest().clone();
    if let (false, Some(exporter)) = (retire.detach.is_empty(), &retirer.exporter)
        && let Err(why) = tried(&exporter.storage, &manifest).await
    {
        // Nothing was stored, and nothing has to be gone on with.
        let forgotten = put(job, &manifest.key(), serde_json::Value::Null).await;
        forgotten.map_err(ExportError::into_engine)?;
        let why = format!("{} was not detached: {}", retire.table, with_causes(&why));
        end(record, StepStatus::Failed, why);
        return Ok(());
    }
    if !retire.detach.is_empty() && !statements::each(&retire.detach, job, record).await? {
        if retirer.manifest().files.is_empty() {
            let gave_up = retirer.forget(job).await;
            gave_up.map_err(ExportError::into_engine)?;
        }
        return Ok(());
    }
    if let Some(walk) = &retire.walk
        && let Path::Blocks { extent } = &walk.path
    {
        record.status = StepStatus::Running;
        let mut pace = BatchSize::of(walk);
        let doing = "asking how large the table is";
        let answer = ask(job.session, doing, extent).await?;
        let all: Option<i64> = match answer.first() {
            Some(row) => row.get(0)?,
            None => None,
        };
        let all = all.unwrap_or(0);
        loop {
            let from = retirer.place();
            if from >= all {
                break;
            }
            let stored = format!(
                "{} stored before",
                several_do(retirer.rows(), "row", ("was", "were"))
            );
            job.hold(record).await?;
            if !may_go_on(job, record, pace.began, &stored) {
                return Ok(());
            }
            let range = Range::Blocks(from, from.saturating_add(pace.now).min(all));
            let (began, attempts) = (Instant::now(), record.attempts.max(1));
            match part(&retirer, Part::Store(&range), job, record).await? {
                None => return Ok(()),
                Some(Batch::TooLarge) if pace.now == 1 => return Err(too_large()),
                Some(Batch::TooLarge) => {
                    pace.too_large();
                    continue;
                }
                Some(Batch::SteppedBack) => {
                    pace.conflict();
                    continue;
                }
                Some(Batch::Rows(_)) => {}
            }
            pace.adapt(began.elapsed(), record.attempts - attempts + 1);
            job.execution.observer.on(Event::Progress {
                seq: job.step.seq,
                phase: &format!("{} stored", several(retirer.rows(), "row")),
                done: retirer.place(),
                total: all,
            });
        }
    }
    if part(&retirer, Part::Drop, job, record).await?.is_some() {
        record.status = StepStatus::Succeeded;
        record.rows = Some(retirer.rows());
        record.error = begun.anew.map(|why| format!("warning: {why}"));
    }
    Ok(())
}

/// Carries out one part; `None` where that ended the step.
async fn part(
    retirer: &Retirer<'_>,
    part: Part<'_>,
    job: Job<'_>,
    record: &mut StepRecord,
) -> Result<Option<Batch>, EngineError> {
    let mut retiring = Retiring { retirer, part };
    let done = until_done(&mut retiring, ends(job), job, record).await?;
    if done.is_none() {
        let why = record.error.take().unwrap_or_default();
        let stored = format!(
            "{why}; {} stored before",
            several_do(retirer.rows(), "row", ("was", "were"))
        );
        record.error = Some(stored);
    }
    Ok(done)
}

/// One part, to be tried.
struct Retiring<'a> {
    retirer: &'a Retirer<'a>,
    part: Part<'a>,
}

#[async_trait]
impl Attempt for Retiring<'_> {
    type Done = Batch;

    async fn once(
        &mut self,
        job: Job<'_>,
        step_ends: Instant,
        give_way: &CancellationToken,
    ) -> Outcome<Batch> {
        let retirer = self.retirer;
        retirer.pass(self.part, job, step_ends, give_way).await
    }
}

impl Retirer<'_> {
    fn manifest(&self) -> MutexGuard<'_, Manifest> {
        self.manifest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self) -> i64 {
        self.manifest().whole.as_ref().map_or(0, |w| w.place)
    }

    fn rows(&self) -> i64 {
        self.manifest().rows
    }

    /// Takes away what is known of a manifest that nothing was stored for.
    async fn forget(&self, job: Job<'_>) -> Result<(), ExportError> {
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

    async fn pass(
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

    async fn store(&self, range: &Range, job: Job<'_>) -> Result<Outcome<Batch>, ExportError> {
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
