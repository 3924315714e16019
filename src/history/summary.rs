//! What reports and pages are made from: numbers that the history sums up by
//! itself, so that nobody loads a million steps to count them.

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{HistoryError, LockWait, RunStatus};
use crate::plan::Severity;

/// A stretch of time, from `since` on, before `until`. Runs belong to the
/// period in which they began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Period {
    /// Its first instant.
    pub since: DateTime<Utc>,
    /// The first instant after it.
    pub until: DateTime<Utc>,
}

impl Period {
    /// The period of the same length right before.
    pub fn before(&self) -> Period {
        Period {
            since: self.since - (self.until - self.since),
            until: self.since,
        }
    }

    /// The period in parts of equal length, to the millisecond.
    pub fn parts(&self, count: u32) -> Vec<Period> {
        let length = (self.until - self.since).num_milliseconds();
        let begin = |part: u32| {
            self.since + TimeDelta::milliseconds(length * i64::from(part) / i64::from(count))
        };
        (0..count)
            .map(|part| Period {
                since: begin(part),
                until: begin(part + 1),
            })
            .collect()
    }
}

/// One task on one target.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskTotals {
    /// Name of the task.
    pub task: String,
    /// Name of the target.
    pub target: String,
    /// Kind of the task in its last run.
    pub kind: String,
    /// Runs within the period, whatever came of them.
    pub runs: i64,
    /// How many of them failed or were interrupted.
    pub failed: i64,
    /// How many of them failed in part.
    pub partial: i64,
    /// How many of them ran out of window or budget.
    pub incomplete: i64,
    /// Time they took together, in milliseconds.
    pub duration_ms: i64,
    /// Rows they touched.
    pub rows: i64,
    /// Bytes before minus bytes afterwards.
    pub bytes_reclaimed: i64,
    /// Id of the last run before the end of the period.
    pub last_run: Uuid,
    /// How it stands or ended.
    pub last_status: RunStatus,
    /// When it began.
    pub last_started_at: DateTime<Utc>,
    /// How long it took, in milliseconds.
    pub last_duration_ms: i64,
    /// What the work has come to last: whoever was skipped, cancelled or is at work now says
    /// nothing of that.
    pub outcome: Option<Outcome>,
    /// When the last run that succeeded began.
    pub last_success_at: Option<DateTime<Utc>>,
    /// Durations of the last runs that did work, oldest first, in milliseconds.
    pub recent_ms: Vec<i64>,
}

/// A run that came to an end of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Outcome {
    /// Its id.
    pub run: Uuid,
    /// How it ended: in success or failure, in part, or out of time.
    pub status: RunStatus,
    /// When it began.
    pub started_at: DateTime<Utc>,
}

/// A step that made something smaller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Gain {
    /// The run it belongs to.
    pub run: Uuid,
    /// Name of the task.
    pub task: String,
    /// Name of the target.
    pub target: String,
    /// What was done.
    pub action: String,
    /// To what.
    pub object: String,
    /// When it began.
    pub at: DateTime<Utc>,
    /// Size before, in bytes.
    pub bytes_before: i64,
    /// Size afterwards, in bytes.
    pub bytes_after: i64,
}

/// Work that failed or had to wait for somebody, the same thing once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Trouble {
    /// The last run in which it happened.
    pub run: Uuid,
    /// Name of the task.
    pub task: String,
    /// Name of the target.
    pub target: String,
    /// What was done; empty where the run as a whole failed.
    pub action: String,
    /// To what; empty where the run as a whole failed.
    pub object: String,
    /// When it happened last.
    pub at: DateTime<Utc>,
    /// How often it happened in the period.
    pub times: i64,
    /// Whether it failed the last time; otherwise it only had to wait.
    pub failed: bool,
    /// Whether it was left undone the last time, because it waited in vain.
    #[serde(default)]
    pub left: bool,
    /// Why it failed the last time.
    pub error: Option<String>,
    /// Who was in the way the last time.
    pub blocker: Option<LockWait>,
}

/// How a finding compares with the period before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FindingState {
    /// It was not there before.
    New,
    /// It was there before, and still is.
    Open,
    /// It was there before, and is no more.
    Gone,
}

impl FindingState {
    /// Every one of them.
    pub const ALL: &[FindingState] = &[FindingState::New, FindingState::Open, FindingState::Gone];

    /// The word used in JSON and in queries.
    pub const fn as_str(self) -> &'static str {
        match self {
            FindingState::New => "new",
            FindingState::Open => "open",
            FindingState::Gone => "gone",
        }
    }

    /// The reverse of [`Self::as_str`]; `None` for any other word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|one| one.as_str() == word)
    }
}

/// A finding with what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TrackedFinding {
    /// What became of it.
    pub state: FindingState,
    /// Stable, dotted.
    pub code: String,
    /// How much it matters.
    pub severity: Severity,
    /// On which target.
    pub target: String,
    /// What it is about.
    pub object: String,
    /// What was seen.
    pub message: String,
    /// A statement that would help.
    pub suggestion: Option<String>,
    /// The run that saw it last.
    pub run: Uuid,
}

/// Findings, the most serious first, and how many there are in all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrackedFindings {
    /// As many as were asked for.
    pub listed: Vec<TrackedFinding>,
    /// How many there are of each state and severity.
    pub counts: Vec<(FindingState, Severity, i64)>,
}

/// One metric of one object over a period.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// The target it was measured on.
    pub target: String,
    /// What was measured.
    pub metric: String,
    /// The object; empty for the whole target.
    pub object: String,
    /// The first value of the period.
    pub first: f64,
    /// The last value of the period.
    pub last: f64,
    /// Mean values of equally long parts of the period, by the number of the
    /// part, from 0; parts without a value are left out.
    pub points: Vec<(i64, f64)>,
}

/// What the runs of a day are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// By the kind of their task.
    Kind,
    /// By their task.
    Task,
}

/// The runs that began on one day (UTC), are of one kind or task, and ended
/// the same way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Day {
    /// The day, as `2026-03-01`.
    pub day: String,
    /// Their kind or task.
    pub name: String,
    /// How they ended.
    pub status: RunStatus,
    /// How many there are.
    pub runs: i64,
    /// Time they took together, in milliseconds.
    pub duration_ms: i64,
    /// Rows they touched.
    pub rows: i64,
    /// Bytes before minus bytes afterwards.
    pub bytes_reclaimed: i64,
}

/// A history that can sum itself up. Every method reads one moment of it, and
/// answers quickly whatever its size.
#[async_trait]
pub trait Summaries: Send + Sync {
    /// The runs of a period, by day, kind or task, and status.
    async fn days(&self, period: &Period, by: By) -> Result<Vec<Day>, HistoryError>;

    /// Every task and target that ever ran before the end of the period, by
    /// name, with at most so many recent durations each.
    async fn task_totals(
        &self,
        period: &Period,
        recent: u32,
    ) -> Result<Vec<TaskTotals>, HistoryError>;

    /// The steps that made something smaller, the largest difference first.
    async fn gains(&self, period: &Period, most: u32) -> Result<Vec<Gain>, HistoryError>;

    /// What failed or had to wait, failures first, then the latest first.
    async fn troubles(&self, period: &Period, most: u32) -> Result<Vec<Trouble>, HistoryError>;

    /// What the last run of each task saw, compared with what its last run
    /// before the period saw. Only these tasks; none means all. Runs that did
    /// not get as far as looking do not count.
    async fn tracked_findings(
        &self,
        period: &Period,
        tasks: &[String],
        most: u32,
    ) -> Result<TrackedFindings, HistoryError>;

    /// Since when the runs of a task see a finding that this run has seen: the first that saw it after the last that
    /// looked and did not, at the earliest `since`. None where the run is unknown, or has not seen it.
    async fn seen_since(
        &self,
        run: Uuid,
        code: &str,
        object: &str,
        since: DateTime<Utc>,
    ) -> Result<Option<DateTime<Utc>>, HistoryError>;

    /// Metrics of targets, both in the order given: of each metric so many
    /// objects as stand beside it, those with the highest last value, in so
    /// many parts of equal length.
    async fn series(
        &self,
        targets: &[String],
        metrics: &[(&str, u32)],
        period: &Period,
        parts: u32,
    ) -> Result<Vec<Series>, HistoryError>;
}

/// A point of a series as it is read.
pub(super) struct SeriesPoint {
    pub(super) target: String,
    pub(super) metric: String,
    pub(super) object: String,
    pub(super) first: f64,
    pub(super) last: f64,
    /// The number of the part, from 0.
    pub(super) part: i64,
    pub(super) value: f64,
}

/// Puts the points of each series together; they come in order.
pub(super) fn series_of(points: Vec<SeriesPoint>) -> Vec<Series> {
    let mut all: Vec<Series> = Vec::new();
    for point in points {
        let known = all.last_mut().filter(|one| {
            (&one.target, &one.metric, &one.object) == (&point.target, &point.metric, &point.object)
        });
        match known {
            Some(one) => one.points.push((point.part, point.value)),
            None => all.push(Series {
                target: point.target,
                metric: point.metric,
                object: point.object,
                first: point.first,
                last: point.last,
                points: vec![(point.part, point.value)],
            }),
        }
    }
    all
}
