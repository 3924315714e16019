//! A walk at work: what it needs for each batch, whether it may go on, and what it tells and
//! remembers of how far it is.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde_json::Value;

use super::export::Exporter;
use super::kept::Kept;
use super::send::Sender;
use super::stayers::Stayers;
use super::{Event, Job, end};
use crate::engines::EngineError;
use crate::engines::parquet::Column;
use crate::engines::postgres::Held;
use crate::history::{StepRecord, StepStatus};
use crate::plan::{Fate, Image, Memory, Walk, Without};
use crate::values::{several, wall_clock};

/// So often a walk goes on to an end that has moved.
pub(super) const MOST_ROUNDS: u32 = 100;

/// A walk, and where its rows are written first, if anywhere.
#[derive(Clone, Copy)]
pub(super) struct Way<'a> {
    pub(super) walk: &'a Walk,
    pub(super) exporter: Option<&'a Exporter<'a>>,
    pub(super) sender: Option<&'a Sender<'a>>,
    /// How rows that move within the database are compared.
    pub(super) image: &'a Image,
    /// Whether rows are weighed before they are fetched.
    pub(super) weighed: bool,
    /// Set once a row was met that others point at.
    pub(super) referenced: &'a AtomicBool,
    pub(super) kept: &'a Mutex<Kept>,
    /// Whether rows of the last batch stayed without an error: then it is looked which do, before
    /// the next is tried.
    pub(super) stay: &'a AtomicBool,
    /// How many rows may go at once, as far as a refusal has taught it.
    pub(super) most: &'a Mutex<Option<usize>>,
    /// What the session's settings were before code that hangs on the table ran, if any does.
    pub(super) held: Option<&'a Held>,
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
    pub(super) fn leave_out(&self, found: Stayers, without: &mut Without) -> Option<Left> {
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

    pub(super) fn has_most(&self) -> bool {
        let most = self.most.lock().unwrap_or_else(PoisonError::into_inner);
        most.is_some()
    }

    /// How many of so many rows may go at once.
    pub(super) fn most_at_once(&self, rows: usize) -> usize {
        let most = *self.most.lock().unwrap_or_else(PoisonError::into_inner);
        most.unwrap_or(rows).clamp(1, rows.max(1))
    }

    /// Nobody panics while he has it; what was counted stays counted.
    pub(super) fn kept(&self) -> MutexGuard<'a, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Rows that a batch leaves out because they stay without an error.
pub(super) struct Left {
    pub(super) rows: i64,
    /// Of these, those that are changed instead.
    pub(super) changed: i64,
    /// Whether there are no others.
    pub(super) all: bool,
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
    format!(
        "{} had gone before",
        several(record.rows.unwrap_or(0), "row")
    )
}

pub(super) fn remember(walk: &Walk, job: Job<'_>, value: Value) {
    keep(job, &walk.progress, value);
}

pub(super) fn keep(job: Job<'_>, key: &str, value: Value) {
    let execution = job.execution;
    let memory = [Memory {
        key: key.to_owned(),
        value,
    }];
    let (target, kind) = (&execution.target, &execution.kind);
    execution
        .history
        .remember(target, kind, wall_clock(), &memory);
}

pub(super) fn tell(job: Job<'_>, record: &StepRecord, done: i64, total: i64) {
    let rows = record.rows.unwrap_or(0);
    job.execution.observer.on(Event::Progress {
        seq: job.step.seq,
        phase: &format!("{} gone", several(rows, "row")),
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
