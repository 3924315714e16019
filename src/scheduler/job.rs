//! An occurrence on its way, and who carries it out.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::BoxFuture;

use crate::config::{Config, Schedule};
use crate::execute::Stop;
use crate::history::{Ended, Occurrence, RunRecord};

/// An occurrence that was claimed and is to be carried out.
#[derive(Clone)]
pub struct Job {
    /// The configuration when it was claimed.
    pub config: Arc<Config>,
    /// The schedule.
    pub schedule: Schedule,
    /// When it was planned for.
    pub at: DateTime<Utc>,
    /// Whether nobody was there at that time.
    pub catch_up: bool,
    /// How often it was claimed: more than once where an owner died.
    pub claims: u32,
    /// How it is stopped.
    pub stop: Stop,
}

/// What came of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is over.
    Ended(Ended),
    /// It was stopped before it was over; somebody else may go on with it.
    Unfinished,
}

/// Who carries occurrences out.
pub trait Worker: Send + Sync {
    /// Carries one out. The future may be dropped only after `job.stop`.
    fn carry_out(&self, job: Job) -> BoxFuture<'static, Outcome>;
}

/// Something that whoever watches may want to count.
#[derive(Clone, Debug)]
pub enum Happened<'a> {
    /// The calendar was looked at.
    Ticked,
    /// An occurrence was claimed, so long after its time and its jitter.
    Started(&'a Occurrence, TimeDelta),
    /// A run ended.
    Ran(&'a RunRecord),
    /// An occurrence ended, or was recorded as skipped or missed.
    Over(&'a Occurrence),
    /// Our clock was compared with that of the history: how far it is ahead.
    Compared(TimeDelta),
    /// The history could not be used.
    HistoryFailed,
}

/// Is told what happens, and must return quickly.
pub trait Watcher: Send + Sync {
    /// Takes note.
    fn on(&self, happened: Happened<'_>);
}

/// Counts nothing.
pub struct Silence;

impl Watcher for Silence {
    fn on(&self, _: Happened<'_>) {}
}
