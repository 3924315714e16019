//! Runs and their steps as they are recorded: the words for how they stand are a contract with
//! whoever reads them elsewhere.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::plan::{Finding, KeptBy};
use crate::values::Filled;

/// How a run stands or ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// Still at work, or its process died and nobody has looked since.
    Running,
    /// Every step succeeded, or there was nothing to do.
    Succeeded,
    /// Ran out of window or budget; the rest is carried over.
    Incomplete,
    /// Some steps failed.
    Partial,
    /// Nothing could be done, or every step failed.
    Failed,
    /// Not started: somebody else holds it, or it is outside its window.
    Skipped,
    /// Stopped by a signal or by `maint cancel`.
    Cancelled,
    /// The process died, which the next one records; or it was given up for
    /// dead, and another instance went on.
    Interrupted,
}

impl RunStatus {
    /// Every one of them, in the order of the contract.
    pub const ALL: &[RunStatus] = &[
        RunStatus::Running,
        RunStatus::Succeeded,
        RunStatus::Incomplete,
        RunStatus::Partial,
        RunStatus::Failed,
        RunStatus::Skipped,
        RunStatus::Cancelled,
        RunStatus::Interrupted,
    ];

    /// The word used in JSON, in the history and on the terminal.
    pub const fn as_str(self) -> &'static str {
        match self {
            RunStatus::Running => "running",
            RunStatus::Succeeded => "succeeded",
            RunStatus::Incomplete => "incomplete",
            RunStatus::Partial => "partial",
            RunStatus::Failed => "failed",
            RunStatus::Skipped => "skipped",
            RunStatus::Cancelled => "cancelled",
            RunStatus::Interrupted => "interrupted",
        }
    }

    /// The reverse of [`Self::as_str`]; `None` for any other word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|one| one.as_str() == word)
    }
}

impl std::fmt::Display for RunStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StepStatus {
    /// Still at work, or its process died.
    Running,
    /// Done.
    Succeeded,
    /// Tried and given up; `error` says why.
    Failed,
    /// Not needed any more, or not possible now; `error` says why.
    Skipped,
    /// Left for the next run, where it comes first; `kept_by` says by what.
    Deferred,
    /// Stopped half-way, and cleaned up.
    Cancelled,
}

impl RunRecord {
    /// How long has gone by so far, where the run, or a step of it, is at work at this moment.
    pub fn still_running(&mut self, now: DateTime<Utc>) {
        let since = |began: DateTime<Utc>| (now - began).num_milliseconds().max(0);
        if self.status == RunStatus::Running {
            self.duration_ms = since(self.started_at);
            for step in &mut self.steps {
                if let (StepStatus::Running, Some(began)) = (step.status, step.started_at) {
                    step.duration_ms = since(began);
                }
            }
        }
    }
}

impl StepStatus {
    /// Every one of them, in the order of the contract.
    pub const ALL: &[StepStatus] = &[
        StepStatus::Running,
        StepStatus::Succeeded,
        StepStatus::Failed,
        StepStatus::Skipped,
        StepStatus::Deferred,
        StepStatus::Cancelled,
    ];

    /// The word used in JSON, in the history and on the terminal.
    pub const fn as_str(self) -> &'static str {
        match self {
            StepStatus::Running => "running",
            StepStatus::Succeeded => "succeeded",
            StepStatus::Failed => "failed",
            StepStatus::Skipped => "skipped",
            StepStatus::Deferred => "deferred",
            StepStatus::Cancelled => "cancelled",
        }
    }

    /// The reverse of [`Self::as_str`]; `None` for any other word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|one| one.as_str() == word)
    }
}

impl std::fmt::Display for StepStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What set a run off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// A tick of the scheduler, at its time.
    Schedule,
    /// A person.
    Manual,
    /// An occurrence that was due while nobody was there to run it.
    CatchUp,
}

impl Trigger {
    /// Every one of them, in the order of the contract.
    pub const ALL: &[Trigger] = &[Trigger::Schedule, Trigger::Manual, Trigger::CatchUp];

    /// The word used in JSON, in the history and on the terminal.
    pub const fn as_str(self) -> &'static str {
        match self {
            Trigger::Schedule => "schedule",
            Trigger::Manual => "manual",
            Trigger::CatchUp => "catch_up",
        }
    }

    /// The reverse of [`Self::as_str`]; `None` for any other word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|one| one.as_str() == word)
    }
}

impl std::fmt::Display for Trigger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Somebody held a lock that a step needed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LockWait {
    /// Which attempt of the step was waiting, from 1.
    pub attempt: u32,
    /// Process id of the session in the way.
    pub blocker_pid: i32,
    /// Role of the session in the way.
    pub blocker_user: String,
    /// Its `application_name`; empty where it gave none.
    pub blocker_application: String,
    /// Its state: `active`, `idle in transaction`, …
    pub blocker_state: String,
    /// Age of its current or last query when it was seen, in milliseconds.
    pub blocker_query_age_ms: i64,
    /// Age of its transaction when it was seen, in milliseconds.
    pub blocker_transaction_age_ms: i64,
    /// How long the step waited for it, in milliseconds; or it for the step,
    /// where `stepped_back`.
    pub waited_ms: i64,
    /// Whether it was the other way round: that session waited for the step,
    /// which stepped back for it.
    #[serde(default)]
    pub stepped_back: bool,
    /// What was waited for, where that is a table or an index.
    #[serde(default)]
    pub relation: Option<String>,
}

/// A step left the server to others for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Throttled {
    /// The setting below `throttle` that asked for it: `max_active_sessions`, …
    pub setting: String,
    /// What was seen last.
    pub reason: String,
    /// How long, in milliseconds, all pauses for this reason together.
    pub waited_ms: i64,
}

/// One step as carried out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StepRecord {
    /// Place in the plan, from 1.
    pub seq: u32,
    /// What was worked on, quoted where SQL would need it.
    pub object: String,
    /// What was done: `reindex`, `vacuum`, `analyze`, `drop_leftover`, …
    pub action: String,
    /// How it ended.
    pub status: StepStatus,
    /// Why the plan contained it.
    pub reason: String,
    /// The statements, separated by `; `.
    pub statement: String,
    /// Rows touched, where the server says so.
    pub rows: Option<i64>,
    /// Size of the object before, in bytes.
    pub bytes_before: Option<i64>,
    /// Size of the object afterwards, in bytes.
    pub bytes_after: Option<i64>,
    /// Start of the first attempt; absent where the step never started.
    pub started_at: Option<DateTime<Utc>>,
    /// From the first attempt to the end of the last, in milliseconds.
    pub duration_ms: i64,
    /// How often it was tried.
    pub attempts: u32,
    /// Why it did not succeed.
    pub error: Option<String>,
    /// Who was in the way.
    pub lock_waits: Vec<LockWait>,
    /// When it left the server to others.
    #[serde(default)]
    pub throttled: Vec<Throttled>,
    /// How long it was predicted to take, in milliseconds; absent where that
    /// rested on nothing.
    #[serde(default)]
    pub predicted_ms: Option<i64>,
    /// Size of the object as the plan knew it, in bytes.
    #[serde(default)]
    pub planned_bytes: Option<i64>,
    /// Whether its time was up before it was done.
    #[serde(default)]
    pub cut_off: bool,
    /// What kept it from being done, where it is left for another run.
    #[serde(default)]
    pub kept_by: Option<KeptBy>,
    /// Whether something half-made is left, and whatever else is begun in its lane may leave one
    /// more. Known while the run is at work only.
    #[serde(skip)]
    pub piled_up: bool,
}

impl StepRecord {
    /// Says everything as the configuration writes it, whatever variables hold.
    pub fn hide(&mut self, filled: &Filled) {
        for text in [&mut self.reason, &mut self.statement] {
            filled.hide(text);
        }
        if let Some(error) = &mut self.error {
            filled.hide(error);
        }
    }
}

/// One plan carried out and recorded. Its JSON is a contract.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunRecord {
    /// UUIDv7: sorts by start.
    pub id: Uuid,
    /// Name of the task.
    pub task: String,
    /// Kind of the task.
    pub kind: String,
    /// Name of the target.
    pub target: String,
    /// What set it off.
    pub trigger: Trigger,
    /// How it stands or ended.
    pub status: RunStatus,
    /// The occurrence it stands for.
    pub scheduled_for: Option<DateTime<Utc>>,
    /// The schedule that this is of; null where an older version has written the record.
    #[serde(default)]
    pub schedule: Option<String>,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
    /// From start to end, in milliseconds.
    pub duration_ms: i64,
    /// Time spent reading facts, in milliseconds.
    pub inspect_ms: i64,
    /// Sum over the steps.
    pub rows: i64,
    /// Sum over the steps that measured both sizes.
    pub bytes_before: i64,
    /// Sum over the steps that measured both sizes.
    pub bytes_after: i64,
    /// Why the run as a whole could not do its work.
    pub error: Option<String>,
    /// Host name of the process that ran it.
    pub host: String,
    /// Its process id there.
    pub pid: i64,
    /// The process, told apart from those of other machines of the name, of other containers and of other
    /// starts of the machine; null where an older version has written the record.
    #[serde(default)]
    pub process: Option<String>,
    /// What limited it to a part of what its task looks at, as it was asked for:
    /// `--set include=…`, a saved plan. What it does not say is not gone.
    #[serde(default)]
    pub part: Option<String>,
    /// The steps, by `seq`.
    pub steps: Vec<StepRecord>,
    /// What was noticed.
    pub findings: Vec<Finding>,
}
