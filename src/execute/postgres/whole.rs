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

mod parts;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use self::parts::{Part, Retirer};
use super::Event;
use super::again;
use super::attempts::{Attempt, ends, until_done};
use super::begun::begin;
use super::export::Exporter;
use super::gate::Outcome;
use super::known::{beside, give_back, put};
use super::living::claim_of_the_living;

use super::lot::{Batch, ExportError};
use super::seen::Seen;
use super::size::BatchSize;
use super::statements;
use super::way::{may_go_on, too_large};
use super::weight;
use super::{Job, ask, end};
use crate::engines::EngineError;
use crate::engines::postgres::claim;
use crate::engines::storage::Storage;
use crate::execute::Door;
use crate::history::{StepRecord, StepStatus};
use crate::plan::archived::MANIFEST;
use crate::plan::{Fate, Finding, Manifest, Path, Range, Retire};
use crate::values::{several, several_do, with_causes};

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
    let done = alone(retire, job, record, findings).await;
    if done.as_ref().is_err_and(EngineError::is_unreachable) {
        // The lock has gone with the session.
        return done;
    }
    let released = claim::release_partition(job.session, retire.oid).await;
    done?;
    released
}

/// Whether the place of the files takes what is written there, and gives it back: asked while all rows
/// are in their table yet. The manifest lies there from then on, without files. Why it does not is the answer;
/// then nothing of it is left there, or what is left is kept in mind.
async fn refused_by(
    storage: &Storage,
    manifest: &Manifest,
    job: Job<'_>,
    findings: &mut Vec<Finding>,
) -> Result<Option<String>, ExportError> {
    let written = beside(storage, manifest).await;
    let read = storage.get(&manifest.path(), MANIFEST).await;
    let why = match (&written, &read) {
        (Ok(()), Ok(_)) => return Ok(None),
        (Err(why), _) => with_causes(why),
        (Ok(()), Err(why)) => with_causes(why),
    };
    // A store that refuses may have taken it, and only its answer was lost.
    let nothing_there = read.is_err_and(|why| why.is_about_the_file());
    match written.is_err() && nothing_there {
        true => put(job, &manifest.key(), serde_json::Value::Null).await?,
        false => give_back(job, manifest, findings).await?,
    }
    Ok(Some(why))
}

/// The same, while nobody else works on the partition.
async fn alone(
    retire: &Retire,
    job: Job<'_>,
    record: &mut StepRecord,
    findings: &mut Vec<Finding>,
) -> Result<(), EngineError> {
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
        && let Some(why) = refused_by(&exporter.storage, &manifest, job, findings)
            .await
            .map_err(ExportError::into_engine)?
    {
        let why = format!("{} was not detached: {why}", retire.table);
        end(record, StepStatus::Failed, why);
        return Ok(());
    }
    if !retire.detach.is_empty()
        && !statements::each_told(&retire.detach, job, record, findings).await?
    {
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
