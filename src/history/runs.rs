//! The parts of the history that find runs, and that close those whose process has died.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{HistoryError, RunRecord, RunStatus, Trigger};

/// Finds runs.
#[async_trait]
pub trait Runs: Send + Sync {
    /// One run with steps and findings, by its id, the beginning of its id
    /// (with or without dashes), or the word `last`.
    ///
    /// # Errors
    ///
    /// [`HistoryError::UnknownRun`], [`HistoryError::AmbiguousRun`],
    /// [`HistoryError::NoRuns`].
    async fn run(&self, id_prefix: &str) -> Result<RunRecord, HistoryError>;

    /// The runs that pass the filter, newest first.
    async fn runs(&self, filter: &RunFilter) -> Result<Vec<RunSummary>, HistoryError>;

    /// When the oldest run began that is still on record.
    async fn first_run_at(&self) -> Result<Option<DateTime<Utc>>, HistoryError>;

    /// The newest run that stands for this occurrence of a schedule, or of any, in whatever state.
    /// Runs that never got to work do not count, so that the occurrence can
    /// still be carried out: `skipped` ones, and failed ones without a step.
    async fn occurrence(
        &self,
        task: &str,
        target: &str,
        scheduled_for: DateTime<Utc>,
        schedule: Option<&str>,
    ) -> Result<Option<RunRecord>, HistoryError>;

    /// The newest run of this task on this target, in whatever state but
    /// `skipped`: a skipped run has no steps to carry over.
    async fn last_run(&self, task: &str, target: &str) -> Result<Option<RunRecord>, HistoryError>;

    /// Its id: without its steps, of which there may be thousands.
    async fn last_run_id(&self, task: &str, target: &str) -> Result<Option<Uuid>, HistoryError>;

    /// The same, of those that were not limited to a part of their task.
    async fn last_whole_run(
        &self,
        task: &str,
        target: &str,
    ) -> Result<Option<RunRecord>, HistoryError>;

    /// The end of the newest run of each task and target that succeeded, or
    /// did what its time allowed.
    async fn last_successes(&self) -> Result<Vec<(String, String, DateTime<Utc>)>, HistoryError>;
}

/// Whether the process of a run is alive; `None` where nobody here can know.
pub type Alive<'a> = dyn Fn(&RunRecord) -> Option<bool> + Sync + 'a;

/// So long a run at work is believed to be after its process has said so.
pub const BELIEVED_FOR: Duration = Duration::from_secs(300);

/// Records that processes died in the middle of their runs.
#[async_trait]
pub trait DeadRuns: Send + Sync {
    /// Closes the running runs of this task and target as `interrupted`.
    /// The caller holds their lock, so their process is dead.
    ///
    /// Their running steps become `cancelled`, `finished_at` is `at`, and the
    /// duration ends at the last sign of life, because the moment of death is
    /// not known. Sums are made from the steps. Returns the closed runs,
    /// oldest first.
    async fn interrupt_running(
        &self,
        task: &str,
        target: &str,
        at: DateTime<Utc>,
    ) -> Result<Vec<RunRecord>, HistoryError>;

    /// Says that these runs are at work, for [`BELIEVED_FOR`] from now on by the clock of the history.
    async fn believe(&self, runs: &[Uuid]) -> Result<(), HistoryError>;

    /// The runs that are on record as running, and whose process is gone, or unknown here and silent for
    /// longer than it is believed without a word. Oldest first, without steps and findings, and with the
    /// reason as their error.
    async fn dead(&self, alive: &Alive<'_>) -> Result<Vec<RunRecord>, HistoryError>;

    /// Closes the running runs, of any task, whose process is gone ([`DeadRuns::dead`]); otherwise like
    /// [`DeadRuns::interrupt_running`].
    async fn interrupt_dead(
        &self,
        alive: &Alive<'_>,
        at: DateTime<Utc>,
    ) -> Result<Vec<RunRecord>, HistoryError>;
}

/// Which runs to list. The default is all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunFilter {
    /// Only this task.
    pub task: Option<String>,
    /// Only this target.
    pub target: Option<String>,
    /// Only these statuses; empty means any.
    pub statuses: Vec<RunStatus>,
    /// Only runs that began then or later.
    pub since: Option<DateTime<Utc>>,
    /// Only runs that began before.
    pub until: Option<DateTime<Utc>>,
    /// Only runs that come after this one in the list, by start and id: the
    /// last of the page before.
    pub after: Option<(DateTime<Utc>, Uuid)>,
    /// At most so many.
    pub limit: Option<u32>,
}

/// How many findings of each severity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
pub struct FindingCounts {
    /// Worth knowing.
    pub info: u32,
    /// Wants attention in the coming days.
    pub warning: u32,
    /// Wants attention now.
    pub critical: u32,
}

/// A run as a line of a list: counts instead of steps and findings.
#[derive(Clone, Debug, PartialEq, serde::Serialize, schemars::JsonSchema)]
pub struct RunSummary {
    /// Its id.
    pub id: Uuid,
    /// The beginning of its id that no other recorded run shares; at least
    /// 13 characters, which is its start to the millisecond.
    pub short_id: String,
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
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
    /// From start to end, in milliseconds; 0 while it runs.
    pub duration_ms: i64,
    /// Sum over the steps.
    pub rows: i64,
    /// Sum over the steps that measured both sizes.
    pub bytes_before: i64,
    /// Sum over the steps that measured both sizes.
    pub bytes_after: i64,
    /// Why the run as a whole could not do its work.
    pub error: Option<String>,
    /// How many steps are recorded, whatever their status.
    pub steps: u32,
    /// How many of them succeeded.
    pub succeeded: u32,
    /// How many of them failed.
    pub failed: u32,
    /// Its findings by severity.
    pub findings: FindingCounts,
}
