//! The report as data: what every form of it (mail, page, terminal, JSON)
//! shows. Its JSON is a contract.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use crate::history::{Gain, Outcome, Period, RunStatus, TrackedFinding, Trouble};
use crate::plan::Severity;
use crate::values::Engine;

/// Whether anybody has to do anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Nothing to do for anybody.
    Well,
    /// Something to look at in the coming days.
    Watch,
    /// Something to do now.
    Attention,
}

/// Why the verdict is what it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Reason {
    /// How much it matters.
    pub verdict: Verdict,
    /// One sentence.
    pub text: String,
}

/// What came of a period, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Numbers {
    /// Runs that began, without skipped ones.
    pub runs: i64,
    /// Runs that succeeded.
    pub succeeded: i64,
    /// Runs that failed or were interrupted.
    pub failed: i64,
    /// Runs of which some steps failed.
    pub partial: i64,
    /// Runs that ran out of window or budget.
    pub incomplete: i64,
    /// Runs that a person stopped.
    pub cancelled: i64,
    /// Runs that did not begin, because another one was at work or the window was closed.
    pub skipped: i64,
    /// Occurrences that did not run and are not made up for.
    pub missed: i64,
    /// Time spent, in milliseconds.
    pub duration_ms: i64,
    /// Rows deleted or moved away.
    pub rows_removed: i64,
    /// Bytes before minus bytes afterwards.
    pub bytes_reclaimed: i64,
}

/// How it stands with a task on a target, worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// Its work has failed, or was interrupted.
    Failed,
    /// Its work has failed in part.
    Partly,
    /// Its last look has found something critical.
    Critical,
    /// It has left work for the next run.
    Incomplete,
    /// It has never run.
    Never,
    /// Its work is done, though not each of its runs in the period came to that, or not the last one.
    Mixed,
    /// All its runs have succeeded.
    Well,
    /// It is switched off, or is configured no more.
    Off,
}

/// One task on one target.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct TaskLine {
    /// Name of the task.
    pub task: String,
    /// Name of the target.
    pub target: String,
    /// Its engine, where the target is still configured.
    pub engine: Option<Engine>,
    /// What it does.
    pub kind: String,
    /// Whether the configuration has it and has it switched on.
    pub enabled: bool,
    /// How it stands with it: the lines are in this order, and in that of their names.
    pub standing: Standing,
    /// Runs within the period.
    pub runs: i64,
    /// Runs that failed, wholly or in part, or were interrupted.
    pub failed: i64,
    /// Runs that ran out of time.
    pub incomplete: i64,
    /// The last run, if there ever was one.
    pub last: Option<LastRun>,
    /// What its work has come to last: whoever was skipped, cancelled or is at work now says
    /// nothing of that.
    pub outcome: Option<Outcome>,
    /// When it last succeeded, if it ever did.
    pub last_success_at: Option<DateTime<Utc>>,
    /// When a schedule runs it next, if one does.
    pub next_at: Option<DateTime<Utc>>,
    /// Rows it touched in the period.
    pub rows: i64,
    /// Bytes before minus bytes afterwards, in the period.
    pub bytes_reclaimed: i64,
    /// Durations of its last runs, oldest first, in milliseconds.
    pub recent_ms: Vec<i64>,
    /// How the last duration compares with the usual one (the median of those
    /// before): 1 is the same, 2 twice as long. Absent with fewer than three.
    pub against_usual: Option<f64>,
}

/// The last run of a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LastRun {
    /// Its id.
    pub id: Uuid,
    /// How it stands or ended.
    pub status: RunStatus,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// How long it took, in milliseconds.
    pub duration_ms: i64,
}

/// Work that failed or had to wait, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct TroubleLine {
    /// What happened.
    #[serde(flatten)]
    pub trouble: Trouble,
    /// Other targets on which the same happened.
    pub also_on: Vec<String>,
    /// Other objects to which the same happened, for the same cause.
    pub also_objects: Vec<String>,
    /// What a person can do.
    pub advice: String,
    /// The command that tries again.
    pub command: String,
}

/// Findings of one severity, counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct FindingNumbers {
    /// How much they matter.
    pub severity: Severity,
    /// Not there before.
    pub new: i64,
    /// There before, and still.
    pub open: i64,
    /// There before, and no more.
    pub gone: i64,
}

/// What was noticed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Findings {
    /// How many of each severity, worst first.
    pub counts: Vec<FindingNumbers>,
    /// The most serious ones.
    pub listed: Vec<FindingLine>,
    /// How many more there are.
    pub more: i64,
}

/// A finding, once for all targets on which it is the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct FindingLine {
    /// As it was found on one of them.
    #[serde(flatten)]
    pub finding: TrackedFinding,
    /// The others.
    pub also_on: Vec<String>,
}

impl FindingLine {
    /// All targets.
    pub fn targets(&self) -> impl Iterator<Item = &String> {
        std::iter::once(&self.finding.target).chain(&self.also_on)
    }
}

/// What a number of a trend counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Milliseconds.
    Ms,
    /// A share, 1 for all of it.
    Share,
    /// A plain count.
    Count,
}

impl Unit {
    /// The word used in JSON and in templates.
    pub const fn as_str(self) -> &'static str {
        match self {
            Unit::Bytes => "bytes",
            Unit::Ms => "ms",
            Unit::Share => "share",
            Unit::Count => "count",
        }
    }
}

/// One metric over the period.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Trend {
    /// Of which target.
    pub target: String,
    /// Its engine, where it is still configured.
    pub engine: Option<Engine>,
    /// The metric's name in the history.
    pub metric: String,
    /// The metric in words.
    pub title: String,
    /// What is counted.
    pub unit: Unit,
    /// The object; empty for the whole target.
    pub object: String,
    /// The first value of the period.
    pub first: f64,
    /// The last value of the period.
    pub last: f64,
    /// Whether the change is for the worse; absent where there is none to speak of.
    pub worse: Option<bool>,
    /// Values over the period, each with the middle of its part.
    pub points: Vec<Point>,
}

/// One value of a trend.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Point {
    /// When.
    pub at: DateTime<Utc>,
    /// How much.
    pub value: f64,
}

/// How the runs of a day ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DayLine {
    /// The day (UTC), as `2026-03-01`.
    pub day: String,
    /// Runs that succeeded.
    pub succeeded: i64,
    /// Runs that ran out of time, or were cancelled.
    pub early: i64,
    /// Runs of which some steps failed.
    pub partly: i64,
    /// Runs that failed or were interrupted.
    pub failed: i64,
}

/// What is going to happen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Planned {
    /// When.
    pub at: DateTime<Utc>,
    /// By which schedule.
    pub schedule: String,
    /// Which tasks.
    pub tasks: Vec<String>,
    /// Whether the schedule is paused then, so that nothing will run.
    pub paused: bool,
}

/// The report of a period.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Report {
    /// What it is about.
    pub period: Period,
    /// The period in words: `the last 7 days`, `October 2026`.
    pub period_text: String,
    /// When it was made.
    pub made_at: DateTime<Utc>,
    /// The time zone that its texts tell times in.
    pub zone: String,
    /// Whether anybody has to do anything.
    pub verdict: Verdict,
    /// The verdict in one sentence.
    pub headline: String,
    /// Why, worst first.
    pub reasons: Vec<Reason>,
    /// How many tasks there are.
    pub tasks_total: i64,
    /// How many tasks are switched on.
    pub tasks_enabled: i64,
    /// Where people reach the status page, without a slash at the end, if that is known.
    pub page_url: Option<String>,
    /// The period in numbers.
    pub summary: Numbers,
    /// The period before, of the same length, in numbers.
    pub before: Numbers,
    /// The tasks, by name.
    pub tasks: Vec<TaskLine>,
    /// How runs ended, by day, oldest first.
    pub days: Vec<DayLine>,
    /// What became smaller, the most first.
    pub gains: Vec<Gain>,
    /// What failed or had to wait.
    pub troubles: Vec<TroubleLine>,
    /// What was noticed.
    pub findings: Findings,
    /// How the targets change.
    pub trends: Vec<Trend>,
    /// What comes next, soonest first.
    pub planned: Vec<Planned>,
}
