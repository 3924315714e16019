//! Work that is a walk: cut out a batch, delete it, remember the place, and
//! let the time the batch took decide the size of the next.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::Utc;
use serde_json::Value;

use super::Event;
use super::again;
use super::attempts::{ends, until_done};
use super::batch::Portion;
use super::bounds;
use super::export::{Batch, ExportError, Exporter, Exporting};
use super::kept::{self, Kept, is_about_a_row, is_reference};
use super::pieces;
use super::seek;
use super::send::{Sender, Sending};
use super::size::BatchSize;
use super::statements::One;
use super::stayers::{self, Stayers};
use super::weight;
use super::{Job, ask, end, guarded, naming};
use crate::engines::EngineError;
use crate::engines::parquet::Column;
use crate::engines::postgres::{Held, first};
use crate::history::{StepRecord, StepStatus};
use crate::plan::{
    Fate, Finding, InVain, KeyColumn, Memory, Path, Range, Walk, Without, block_of, key_of,
};

/// So often a walk goes on to an end that has moved.
pub(super) const MOST_ROUNDS: u32 = 100;
/// Carries the walk out; `record.rows` counts what has gone and is committed.
pub(super) async fn carry_out(
    walk: &Walk,
    job: Job<'_>,
    record: &mut StepRecord,
    findings: &mut Vec<Finding>,
) -> Result<(), EngineError> {
    if walk.fate != Fate::Delete {
        return all(walk, job, record, findings).await;
    }
    // A batch that a crash of the server undoes is simply deleted again, so
    // none has to wait for the disk, and hold its row locks meanwhile.
    let session = job.session;
    let faster = "SET synchronous_commit = off";
    session.execute("setting up batches", faster).await?;
    let done = all(walk, job, record, findings).await;
    // A commit that waits, waits for all before it: what is recorded as gone
    // is gone for good.
    let durable = async {
        // Not RESET: the role's own default may be `off`.
        let wait = "SET synchronous_commit = on";
        session.execute("ending batches", wait).await?;
        naming::flush(session).await
    };
    match (done, durable.await) {
        (Ok(()), Err(error)) => Err(error),
        (done, _) => done,
    }
}

async fn all(
    walk: &Walk,
    job: Job<'_>,
    record: &mut StepRecord,
    findings: &mut Vec<Finding>,
) -> Result<(), EngineError> {
    record.rows = Some(0);
    let mut pace = BatchSize::of(walk);
    let exporter = match &walk.fate {
        Fate::Export(export) => Some(
            Exporter::open(walk, export, job)
                .await
                .map_err(ExportError::into_engine)?,
        ),
        _ => None,
    };
    let sender = match &walk.fate {
        Fate::Send(send) => {
            let opened = async {
                let sender = Sender::open(walk, send, job).await?;
                findings.extend(sender.look(job).await?);
                Ok(sender)
            };
            Some(opened.await.map_err(ExportError::into_engine)?)
        }
        _ => None,
    };
    again::first(walk, job, findings).await?;
    let (referenced, kept) = (AtomicBool::new(walk.guarded), Mutex::default());
    let (stay, most) = (AtomicBool::new(false), Mutex::default());
    let held = match walk.fires || matches!(walk.fate, Fate::Move { .. }) {
        true => Some(job.session.hold().await?),
        false => None,
    };
    let weighed = exporter.is_some() || sender.is_some();
    let weighed = weighed && weight::can_be_heavy(walk, job).await?;
    let way = Way {
        walk,
        exporter: exporter.as_ref(),
        sender: sender.as_ref(),
        weighed,
        referenced: &referenced,
        kept: &kept,
        stay: &stay,
        most: &most,
        held: held.as_ref(),
    };
    let mut finished = match &walk.path {
        _ if walk.sought => seek::carry_out(way, job, record, &mut pace).await?,
        Path::Blocks { extent } => {
            let doing = "asking how large the table is";
            let answer = ask(job.session, doing, extent).await?;
            // A table that is gone has no size.
            let all: Option<i64> = match answer.first() {
                Some(row) => row.get(0)?,
                None => None,
            };
            let all = all.unwrap_or(0);
            let start = walk.start.as_ref().and_then(block_of).unwrap_or(0);
            // What an earlier walk did not come to, then what came in behind its back.
            let start = start.clamp(0, all);
            let mut done = blocks(way, job, record, &mut pace, (start, all), all).await?
                && blocks(way, job, record, &mut pace, (0, start), all).await?;
            // Rows that somebody changed meanwhile have moved behind the end.
            let mut to = all;
            for _ in 0..MOST_ROUNDS {
                let answer = ask(job.session, "asking how large the table is", extent).await?;
                let now = first::<i64>(&answer, 0)?.unwrap_or(0);
                if !done || now <= to {
                    break;
                }
                done = blocks(way, job, record, &mut pace, (to, now), now).await?;
                to = now;
            }
            done
        }
        Path::Key(columns) => {
            let start = walk.start.as_ref().and_then(|p| key_of(p, columns.len()));
            let from_start = keys(way, columns, job, record, &mut pace, start.clone(), None);
            from_start.await?
                && (start.is_none()
                    || keys(way, columns, job, record, &mut pace, None, start).await?)
        }
    };
    // Rows of the table that pointed at others have gone by now.
    let own = walk.references.iter().any(|reference| reference.own);
    let mut backward = true;
    while finished && own && way.kept().referenced() > 0 {
        let before = record.rows;
        *way.kept() = Kept::default();
        finished = once_more(way, job, record, &mut pace, backward).await?;
        backward = !backward;
        // Neither from the one end nor from the other.
        if record.rows == before && backward {
            break;
        }
    }
    findings.extend(way.kept().take_beyond());
    if finished {
        remember(walk, job, Value::Null);
        record.status = StepStatus::Succeeded;
    }
    if finished || way.kept().is_in_vain() {
        let gone = record.rows.unwrap_or(0);
        if let Some(vain) = &walk.vain
            && gone == 0
            && let Some((rows, why)) = way.kept().only_changed(walk)
        {
            let value = InVain {
                print: vain.print.clone(),
                times: vain.before.saturating_add(1),
                all: finished,
                rows,
                why,
                at: Utc::now(),
            };
            keep(
                job,
                &vain.key,
                serde_json::to_value(value).unwrap_or_default(),
            );
        }
        way.kept().tell(walk, record, findings);
    }
    Ok(())
}

/// Goes through all blocks again, from the one end or from the other.
async fn once_more(
    way: Way<'_>,
    job: Job<'_>,
    record: &mut StepRecord,
    pace: &mut BatchSize,
    backward: bool,
) -> Result<bool, EngineError> {
    let extent = Walk::extent(way.walk.oid);
    let answer = ask(job.session, "asking how large the table is", &extent).await?;
    let all = first::<i64>(&answer, 0)?.unwrap_or(0);
    if !backward {
        return blocks(way, job, record, pace, (0, all), all).await;
    }
    let mut to = all;
    while to > 0 {
        let from = to.saturating_sub(pace.now).max(0);
        match batch(way, job, record, pace, &Range::Blocks(from, to)).await? {
            Went::On => to = from,
            Went::Again => {}
            Went::NoFurther => return Ok(false),
        }
        tell(job, record, all - to, all);
    }
    Ok(true)
}

async fn blocks(
    way: Way<'_>,
    job: Job<'_>,
    record: &mut StepRecord,
    pace: &mut BatchSize,
    (mut from, end): (i64, i64),
    all: i64,
) -> Result<bool, EngineError> {
    while from < end {
        let to = from.saturating_add(pace.now).min(end);
        match batch(way, job, record, pace, &Range::Blocks(from, to)).await? {
            Went::On => from = to,
            Went::Again => {}
            Went::NoFurther => return Ok(false),
        }
        tell(job, record, from, all);
    }
    Ok(true)
}

/// Goes from behind `after` up to, and with, `end`.
async fn keys(
    way: Way<'_>,
    columns: &[KeyColumn],
    job: Job<'_>,
    record: &mut StepRecord,
    pace: &mut BatchSize,
    mut after: Option<Vec<String>>,
    end: Option<Vec<String>>,
) -> Result<bool, EngineError> {
    loop {
        if !may_go_on(job, record, pace.began, &gone(record)) {
            return Ok(false);
        }
        let rest = Range::Keys(after, end.clone());
        let query = way.walk.bound(columns, &rest, pace.now);
        let doing = "looking where the next batch ends";
        let answer = guarded(job, doing, &query).await?;
        let last: Option<Vec<String>> = match answer.first() {
            Some(row) => Some(
                (0..columns.len())
                    .map(|n| row.get(n))
                    .collect::<Result<_, _>>()?,
            ),
            None => None,
        };
        let Range::Keys(begin, _) = rest else {
            return Ok(false);
        };
        let range = Range::Keys(begin.clone(), last.clone().or_else(|| end.clone()));
        match batch(way, job, record, pace, &range).await? {
            Went::On => {}
            Went::Again => {
                after = begin;
                continue;
            }
            Went::NoFurther => return Ok(false),
        }
        tell(
            job,
            record,
            record.rows.unwrap_or(0),
            way.walk.rows.unwrap_or(0),
        );
        if last.is_none() {
            return Ok(true);
        }
        after = last;
    }
}

/// A walk, and where its rows are written first, if anywhere.
#[derive(Clone, Copy)]
pub(super) struct Way<'a> {
    pub(super) walk: &'a Walk,
    pub(super) exporter: Option<&'a Exporter<'a>>,
    pub(super) sender: Option<&'a Sender<'a>>,
    /// Whether rows are weighed before they are fetched.
    weighed: bool,
    /// Set once a row was met that others point at.
    referenced: &'a AtomicBool,
    kept: &'a Mutex<Kept>,
    /// Whether rows of the last batch stayed without an error: then it is looked which do, before
    /// the next is tried.
    stay: &'a AtomicBool,
    /// How many rows may go at once, as far as a refusal has taught it.
    pub(super) most: &'a Mutex<Option<usize>>,
    /// What the session's settings were before code that hangs on the table ran, if any does.
    held: Option<&'a Held>,
}

impl<'a> Way<'a> {
    /// What is fetched of each row.
    pub(super) fn columns(&self) -> &'a [Column] {
        match &self.walk.fate {
            Fate::Export(export) => &export.columns,
            Fate::Send(send) => &send.columns,
            Fate::Delete | Fate::Move { .. } => &[],
        }
    }

    /// Rows that were met and stay.
    pub(super) fn stayed(&self) -> i64 {
        self.kept().all()
    }

    /// What stays is about to be met again.
    pub(super) fn forget_kept(&self) {
        *self.kept() = Kept::default();
    }

    /// Has the batch leave out what stays; none where nothing does.
    fn leave_out(&self, found: Stayers, without: &mut Without) -> Option<Left> {
        if found.places.is_empty() {
            return None;
        }
        self.stay.store(true, Ordering::Relaxed);
        let rows = i64::try_from(found.places.len()).unwrap_or(i64::MAX);
        without.rows.extend(found.places);
        Some(Left {
            rows,
            changed: if found.changed { rows } else { 0 },
            all: found.all,
        })
    }

    fn has_most(&self) -> bool {
        let most = self.most.lock().unwrap_or_else(PoisonError::into_inner);
        most.is_some()
    }

    /// How many of so many rows may go at once.
    pub(super) fn most_at_once(&self, rows: usize) -> usize {
        let most = *self.most.lock().unwrap_or_else(PoisonError::into_inner);
        most.unwrap_or(rows).clamp(1, rows.max(1))
    }

    /// Nobody panics while he has it; what was counted stays counted.
    fn kept(&self) -> MutexGuard<'a, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Rows that a batch leaves out because they stay without an error.
struct Left {
    rows: i64,
    /// Of these, those that are changed instead.
    changed: i64,
    /// Whether there are no others.
    all: bool,
}

/// What came of a batch.
pub(super) enum Went {
    /// It is done; on to the next.
    On,
    /// It was too large.
    Again,
    /// The walk ends here; the record says why.
    NoFurther,
}

/// Deals with one batch and remembers the place behind it, if so many rows may go.
pub(super) async fn batch(
    way: Way<'_>,
    job: Job<'_>,
    record: &mut StepRecord,
    pace: &mut BatchSize,
    range: &Range,
) -> Result<Went, EngineError> {
    job.hold(record).await?;
    if !may_go_on(job, record, pace.began, &gone(record)) {
        return Ok(Went::NoFurther);
    }
    let taken = match bounds::allow(way.walk, range, job).await? {
        Ok(taken) => taken,
        Err(finding) => {
            end(record, StepStatus::Failed, finding.message.clone());
            way.kept().beyond(finding);
            return Ok(Went::NoFurther);
        }
    };
    let before = record.rows.unwrap_or(0);
    let went = counted(way, job, record, pace, range).await;
    if let (Some(most), Some(taken)) = (&way.walk.most, taken) {
        let rows = record.rows.unwrap_or(0) - before;
        job.door.gone.settle(most, taken, rows);
    }
    went
}

/// Deals with one batch, once it may go.
pub(super) async fn counted(
    way: Way<'_>,
    job: Job<'_>,
    record: &mut StepRecord,
    pace: &mut BatchSize,
    range: &Range,
) -> Result<Went, EngineError> {
    let walk = way.walk;
    if !may_go_on(job, record, pace.began, &gone(record)) {
        return Ok(Went::NoFurther);
    }
    let mut heavy = Vec::new();
    if way.weighed && !matches!(range, Range::Rows(_)) {
        let weight = weight::of(walk, way.columns(), range, job).await?;
        if weight.bytes > weight::BATCH_BYTES {
            if pace.now > 1 {
                pace.shrink();
                return Ok(Went::Again);
            }
            way.kept().heavy(&weight.heavy);
            return pieces::by_weight(way, job, record, pace, range).await;
        }
        way.kept().heavy(&weight.heavy);
        heavy = weight.heavy.into_iter().map(|(place, _)| place).collect();
    }
    let mut without = Without {
        referenced: way.referenced.load(Ordering::Relaxed),
        rows: heavy.clone(),
    };
    let known = match range {
        Range::Rows(places) => way.most_at_once(places.len()) < places.len(),
        _ => way.has_most(),
    };
    if known {
        return pieces::by_number(way, job, record, pace, range, without).await;
    }
    let (mut conflicts, mut left, mut looked, mut probed) = (0, None, false, false);
    let mut first = Some(Instant::now());
    if way.stay.swap(false, Ordering::Relaxed) {
        // Whatever is in the way of looking is met again, and judged, by the batch itself.
        if let Ok(found) = stayers::look(walk, range, &without, job).await {
            left = way.leave_out(found, &mut without);
        }
    }
    let (done, began, tried) = loop {
        let (began, tried) = (
            first.take().unwrap_or_else(Instant::now),
            record.attempts.max(1),
        );
        if left.as_ref().is_some_and(|left| left.all) {
            break (Some(Batch::Rows(0)), began, tried);
        }
        let before = record.status;
        let error = match one(way, range, &without, job, record).await {
            // Waited for in vain, as often as is allowed: is it a few of the rows?
            Ok(None)
                if record.status == StepStatus::Failed
                    && !record.cut_off
                    && !looked
                    && way.kept().may_wait_again() =>
            {
                looked = true;
                // Where even that cannot be had, the whole table is held.
                let places = kept::locked(walk, range, &without, job).await;
                let places = places.unwrap_or_default();
                if places.is_empty() {
                    break (None, began, tried);
                }
                let why = record.error.take().unwrap_or_default();
                record.status = before;
                way.kept().locked(places.len(), why);
                without.rows.extend(places);
                continue;
            }
            Ok(done) => break (done, began, tried),
            Err(error) => error,
        };
        // What the server says of a foreign key may hold a name that cannot be read.
        let unread = error.sqlstate() == Some("22021");
        if (is_reference(&error) || unread) && !without.referenced && !walk.references.is_empty() {
            way.referenced.store(true, Ordering::Relaxed);
            without.referenced = true;
        } else if is_conflict(&error)
            // A trigger that raises it may mean one row, and always.
            && (conflicts < job.execution.limits.lock_retries || !is_about_a_row(&error))
        {
            conflicts += 1;
            if conflicts > job.execution.limits.lock_retries {
                return Err(error);
            }
            if pace.now > 1 {
                pace.conflict();
                return Ok(Went::Again);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        } else if matches!(error, EngineError::Stayed { .. }) && left.is_none() {
            let found = stayers::look(walk, range, &without, job).await?;
            left = way.leave_out(found, &mut without);
            if left.is_none() {
                return Err(error);
            }
        } else if is_about_a_row(&error) && !probed {
            if pace.now > 1 {
                pace.refused(way.stayed());
                return Ok(Went::Again);
            }
            let mut kept = std::mem::take(&mut *way.kept());
            let found = kept.probe(way, range, &without, job).await;
            *way.kept() = kept;
            let found = found?;
            // Each row by itself may go: together they are too many.
            if found.is_empty() {
                return match pieces::learn(way, range, &without, job).await? {
                    true => pieces::by_number(way, job, record, pace, range, without).await,
                    false => Err(error),
                };
            }
            probed = true;
            without.rows.extend(found);
        } else {
            return Err(error);
        }
    };
    let Some(done) = done else {
        let why = record.error.take().unwrap_or_default();
        record.error = Some(format!("{why}; {}", gone(record)));
        return Ok(Went::NoFurther);
    };
    let rows = match done {
        Batch::Rows(rows) => rows,
        Batch::TooLarge if pace.now == 1 => return Err(too_large()),
        Batch::TooLarge => {
            pace.too_large();
            return Ok(Went::Again);
        }
    };
    let (stays, changed) = left.map_or((0, 0), |left| (left.rows, left.changed));
    way.kept().silent(stays);
    if without.referenced && !walk.references.is_empty() {
        let mut kept = std::mem::take(&mut *way.kept());
        let counted = kept.count(walk, range, job).await;
        *way.kept() = kept;
        counted?;
    }
    record.rows = Some(record.rows.unwrap_or(0).saturating_add(rows));
    if let Some(place) = range.behind() {
        remember(walk, job, place);
    }
    // A process that is killed here leaves the rows counted so far.
    let execution = job.execution;
    execution.history.step(execution.run, record);
    if way.kept().changed(changed, record.rows.unwrap_or(0)) {
        return Ok(Went::NoFurther);
    }
    pace.passed(way.stayed());
    pace.adapt(began.elapsed(), record.attempts - tried + 1);
    Ok(Went::On)
}

/// Whether it may go another time.
fn is_conflict(error: &EngineError) -> bool {
    matches!(error.sqlstate(), Some("40001" | "55P03" | "40P01"))
}

/// Tries one batch, in the way of the walk; what is set in the session afterwards is what was.
async fn one(
    way: Way<'_>,
    range: &Range,
    without: &Without,
    job: Job<'_>,
    record: &mut StepRecord,
) -> Result<Option<Batch>, EngineError> {
    let done = tried(way, range, without, job, record).await;
    if let (Some(held), true) = (
        way.held,
        !done.as_ref().is_err_and(EngineError::is_unreachable),
    ) {
        job.session.put_back(held).await?;
    }
    done
}

async fn tried(
    way: Way<'_>,
    range: &Range,
    without: &Without,
    job: Job<'_>,
    record: &mut StepRecord,
) -> Result<Option<Batch>, EngineError> {
    let (walk, ends) = (way.walk, ends(job));
    if let Some(exporter) = way.exporter {
        let mut exporting = Exporting {
            exporter,
            range,
            without,
        };
        return until_done(&mut exporting, ends, job, record).await;
    }
    if let Some(sender) = way.sender {
        let mut sending = Sending {
            sender,
            range,
            without,
        };
        return until_done(&mut sending, ends, job, record).await;
    }
    let alone = walk.fate == Fate::Delete
        && !walk.snapshot
        && !walk.fires
        && walk.obstructed.is_empty()
        && job.step.body.guard.is_none();
    if alone && *without == Without::default() {
        // Nothing can come of it but what the server answers.
        let statement = walk.delete(range, without);
        let done = until_done(&mut One::new(&statement), ends, job, record).await?;
        let done = done.map(Option::unwrap_or_default);
        return Ok(done.map(|did| Batch::Rows(i64::try_from(did.rows).unwrap_or(i64::MAX))));
    }
    let mut portion = Portion {
        walk,
        range,
        without,
        kept: 0,
    };
    let done = until_done(&mut portion, ends, job, record).await;
    way.kept().silent(portion.kept);
    done
}

/// Looks between batches whether the run may go on.
pub(super) fn may_go_on(
    job: Job<'_>,
    record: &mut StepRecord,
    began: Instant,
    so_far: &str,
) -> bool {
    let execution = job.execution;
    let limit = execution.limits.step_timeout;
    let (status, why) = if execution.stop.is_stopping() {
        (StepStatus::Cancelled, "the run was stopped".to_owned())
    } else if execution.deadline.is_some_and(|d| Instant::now() >= d) {
        (StepStatus::Deferred, "the run's time was up".to_owned())
    } else if began.elapsed() >= limit.get() {
        (
            StepStatus::Deferred,
            format!("`limits.step_timeout` ({limit}) was reached"),
        )
    } else {
        return true;
    };
    record.cut_off = status == StepStatus::Deferred;
    end(
        record,
        status,
        format!("{why}; {so_far}, and the next run goes on from there"),
    );
    false
}

pub(super) fn gone(record: &StepRecord) -> String {
    format!("{} rows had gone before", record.rows.unwrap_or(0))
}

pub(super) fn remember(walk: &Walk, job: Job<'_>, value: Value) {
    keep(job, &walk.progress, value);
}

fn keep(job: Job<'_>, key: &str, value: Value) {
    let execution = job.execution;
    let memory = [Memory {
        key: key.to_owned(),
        value,
    }];
    let (target, kind) = (&execution.target, &execution.kind);
    execution
        .history
        .remember(target, kind, Utc::now(), &memory);
}

pub(super) fn tell(job: Job<'_>, record: &StepRecord, done: i64, total: i64) {
    let rows = record.rows.unwrap_or(0);
    job.execution.observer.on(Event::Progress {
        seq: job.step.seq,
        phase: &format!("{rows} rows gone"),
        done,
        total,
    });
}

pub(super) fn too_large() -> EngineError {
    EngineError::Files {
        message: "the smallest possible batch holds more than fits into memory; walk along a key"
            .to_owned(),
    }
}
