use std::collections::HashMap;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde_json::Value;
use uuid::Uuid;

use super::{
    Alert, Baseline, Claim, Ended, Entry, HistoryError, Letter, Notice, Occurrence,
    OccurrenceFilter, Pause, RunRecord, RunStatus, StepRecord, Summaries, Trigger,
};
use crate::plan::{Finding, Measurement, Memory, Past};

/// Where runs are recorded. One conformance suite holds for every
/// implementation.
///
/// Times are kept to the millisecond. Every write is on disk when its call
/// returns, and may be repeated without harm. The only errors are those of
/// the storage itself, unless a method says otherwise.
#[async_trait]
pub trait Store: Send + Sync {
    /// Writes entries in this order, all or nothing, in one transaction: what
    /// has gathered costs one commit. The methods below write one each.
    ///
    /// # Errors
    ///
    /// [`HistoryError::NotOpened`] where a step or finding is of a run that is unknown.
    async fn record(&self, entries: &[Entry]) -> Result<(), HistoryError>;

    /// Records a run that begins, without its steps. A run already known is
    /// left as it is.
    async fn open_run(&self, run: &RunRecord) -> Result<(), HistoryError> {
        self.record(&[Entry::Opened(Box::new(run.clone()))]).await
    }

    /// Records a step that begins, before its first statement.
    ///
    /// # Errors
    ///
    /// [`HistoryError::NotOpened`] where the run is unknown.
    async fn open_step(&self, run: Uuid, step: &StepRecord) -> Result<(), HistoryError> {
        self.record(&[Entry::Step {
            run,
            step: Box::new(step.clone()),
        }])
        .await
    }

    /// Records how a step ended; inserts it where it was never opened.
    ///
    /// # Errors
    ///
    /// [`HistoryError::NotOpened`] where the run is unknown.
    async fn close_step(&self, run: Uuid, step: &StepRecord) -> Result<(), HistoryError> {
        self.record(&[Entry::Step {
            run,
            step: Box::new(step.clone()),
        }])
        .await
    }

    /// Adds findings to a run, in this order. One that is already there is
    /// not added twice.
    ///
    /// # Errors
    ///
    /// [`HistoryError::NotOpened`] where the run is unknown.
    async fn add_findings(&self, run: Uuid, findings: &[Finding]) -> Result<(), HistoryError> {
        self.record(&[Entry::Findings {
            run,
            findings: findings.to_vec(),
        }])
        .await
    }

    /// Records how a run ended, with the steps and findings it carries, all
    /// or nothing. Whatever could not be recorded earlier is made up for:
    /// this call alone is a complete record.
    async fn close_run(&self, run: &RunRecord) -> Result<(), HistoryError> {
        self.record(&[Entry::Closed(Box::new(run.clone()))]).await
    }

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

    /// Closes the running runs of this host, of any task, whose process is
    /// gone; otherwise like [`Store::interrupt_running`]. `alive` is asked
    /// for the process id of each.
    async fn interrupt_dead(
        &self,
        host: &str,
        alive: &(dyn Fn(i64) -> bool + Sync),
        at: DateTime<Utc>,
    ) -> Result<Vec<RunRecord>, HistoryError>;

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

    /// The newest run that stands for this occurrence, in whatever state.
    /// Runs that never got to work do not count, so that the occurrence can
    /// still be carried out: `skipped` ones, and failed ones without a step.
    async fn occurrence(
        &self,
        task: &str,
        target: &str,
        scheduled_for: DateTime<Utc>,
    ) -> Result<Option<RunRecord>, HistoryError>;

    /// The newest run of this task on this target, in whatever state but
    /// `skipped`: a skipped run has no steps to carry over.
    async fn last_run(&self, task: &str, target: &str) -> Result<Option<RunRecord>, HistoryError>;

    /// What is known of the objects of a target, by object.
    async fn baselines(&self, target: &str) -> Result<HashMap<String, Baseline>, HistoryError>;

    /// Remembers a baseline. One just rebuilt always replaces what is known,
    /// one merely observed only if it has fewer bytes per tuple. A tuple
    /// count that is no count (negative, not finite) is not remembered.
    async fn learn(&self, target: &str, baseline: &Baseline) -> Result<(), HistoryError> {
        self.record(&[Entry::Baseline {
            target: target.to_owned(),
            baseline: baseline.clone(),
        }])
        .await
    }

    /// The steps of the latest runs of this kind on this target, newest
    /// first: of no more than [`LATEST_RUNS`](super::LATEST_RUNS) runs, and
    /// no more than [`LATEST_STEPS`](super::LATEST_STEPS).
    async fn past_steps(&self, target: &str, kind: &str) -> Result<Vec<Past>, HistoryError>;

    /// What a kind asked to remember about a target, by key.
    async fn memories(
        &self,
        target: &str,
        kind: &str,
    ) -> Result<HashMap<String, Value>, HistoryError>;

    /// Remembers, in place of what was known under the same keys.
    async fn remember(
        &self,
        target: &str,
        kind: &str,
        at: DateTime<Utc>,
        memories: &[Memory],
    ) -> Result<(), HistoryError> {
        self.record(&[Entry::Memories {
            target: target.to_owned(),
            kind: kind.to_owned(),
            at,
            memories: memories.to_vec(),
        }])
        .await
    }

    /// One metric of a target since then, by object, oldest first.
    async fn measurements(
        &self,
        target: &str,
        metric: &str,
        since: DateTime<Utc>,
    ) -> Result<Vec<Measured>, HistoryError>;

    /// Adds to the time series. Values that are no numbers are left out.
    async fn add_measurements(
        &self,
        target: &str,
        at: DateTime<Utc>,
        measurements: &[Measurement],
    ) -> Result<(), HistoryError> {
        self.record(&[Entry::Measurements {
            target: target.to_owned(),
            at,
            measurements: measurements.to_vec(),
        }])
        .await
    }

    /// Keeps what happened until somebody is told.
    async fn add_notices(&self, notices: &[Notice]) -> Result<(), HistoryError> {
        self.record(&[Entry::Notices(notices.to_vec())]).await
    }

    /// What nobody has been told yet, oldest first.
    async fn pending_notices(&self) -> Result<Vec<Notice>, HistoryError>;

    /// Posts letters in place of the notices they tell, all or nothing.
    /// `false` where another process was faster with one of the notices:
    /// then nothing is posted.
    async fn post(&self, handled: &[Uuid], letters: &[Letter]) -> Result<bool, HistoryError>;

    /// The letter that is due for longest, counted as tried, and left to the
    /// caller alone until `until`.
    async fn claim_letter(
        &self,
        now: DateTime<Utc>,
        until: DateTime<Utc>,
    ) -> Result<Option<Letter>, HistoryError>;

    /// The letter has been handed over.
    async fn letter_sent(&self, id: Uuid, at: DateTime<Utc>) -> Result<(), HistoryError>;

    /// The letter could not be handed over; it is tried again.
    async fn letter_later(
        &self,
        id: Uuid,
        next: DateTime<Utc>,
        why: &str,
    ) -> Result<(), HistoryError>;

    /// The letter cannot be handed over, and is not tried again.
    async fn letter_given_up(
        &self,
        id: Uuid,
        at: DateTime<Utc>,
        why: &str,
    ) -> Result<(), HistoryError>;

    /// How many letters were posted on a channel since then.
    async fn letters_since(&self, channel: &str, since: DateTime<Utc>)
    -> Result<u32, HistoryError>;

    /// What has failed and not succeeded since, longest first.
    async fn alerts(&self) -> Result<Vec<Alert>, HistoryError>;

    /// Opens an alert, or notes when it was escalated; `since` stays.
    async fn put_alert(&self, alert: &Alert) -> Result<(), HistoryError>;

    /// Closes an alert; `false` where there was none.
    async fn clear_alert(&self, task: &str, target: &str) -> Result<bool, HistoryError>;

    /// The sums that reports and pages are made from.
    fn summaries(&self) -> &dyn Summaries;

    /// Since when each of these schedules, given with its definition, is known.
    /// One that is new, or whose definition has changed, is known from `now`.
    async fn know_schedules(
        &self,
        schedules: &[(String, String)],
        now: DateTime<Utc>,
    ) -> Result<HashMap<String, DateTime<Utc>>, HistoryError>;

    /// Claims an occurrence that nobody has, or whose owner has let its lease
    /// run out, or that a clock which was ahead took for missed. `None` where it is somebody else's, or over.
    ///
    /// A history that several machines share goes by its own clock, not by
    /// theirs.
    async fn claim_occurrence(&self, claim: &Claim) -> Result<Option<Occurrence>, HistoryError>;

    /// Extends the lease of a claim from now on; `false` where it is lost.
    async fn renew_occurrence(&self, claim: &Claim) -> Result<bool, HistoryError>;

    /// Records how a claimed occurrence ended; `false` where the claim is
    /// lost, and somebody else will say.
    async fn finish_occurrence(&self, claim: &Claim, ended: &Ended) -> Result<bool, HistoryError>;

    /// Gives a claim back as if it had not been made; the next one may have
    /// it at once.
    async fn release_occurrence(&self, claim: &Claim) -> Result<(), HistoryError>;

    /// Records occurrences that were skipped or missed. Returns those that
    /// nobody had recorded before.
    async fn record_occurrences(
        &self,
        occurrences: &[Occurrence],
    ) -> Result<Vec<Occurrence>, HistoryError>;

    /// The occurrences that pass the filter, newest first.
    async fn occurrences(&self, filter: &OccurrenceFilter)
    -> Result<Vec<Occurrence>, HistoryError>;

    /// The newest occurrence of each of these schedules that is planned for
    /// `until` at the latest. What was recorded after `now` was recorded by a
    /// clock that was wrong, and does not count.
    async fn newest_occurrences(
        &self,
        schedules: &[String],
        until: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<HashMap<String, Occurrence>, HistoryError>;

    /// Occurrences whose owner has let its lease run out.
    async fn orphaned_occurrences(&self) -> Result<Vec<Occurrence>, HistoryError>;

    /// Stops a schedule for a while, or changes for how long.
    async fn pause_schedule(&self, pause: &Pause) -> Result<(), HistoryError>;

    /// Lets it go on; `false` where it was not paused.
    async fn resume_schedule(&self, schedule: &str) -> Result<bool, HistoryError>;

    /// The schedules that are paused, by name.
    async fn pauses(&self) -> Result<Vec<Pause>, HistoryError>;

    /// Asks a running run to stop; `false` where it does not run any more.
    async fn ask_to_cancel(
        &self,
        run: Uuid,
        by: &str,
        at: DateTime<Utc>,
    ) -> Result<bool, HistoryError>;

    /// Who asked this run to stop, if somebody did.
    async fn cancel_asked(&self, run: Uuid) -> Result<Option<String>, HistoryError>;

    /// The end of the newest run of each task and target that succeeded, or
    /// did what its time allowed.
    async fn last_successes(&self) -> Result<Vec<(String, String, DateTime<Utc>)>, HistoryError>;

    /// Removes the oldest of what is older than `before`, `limit` of each
    /// sort at most. What waits to be told or sent stays. Returns how much
    /// was removed; nothing is left when that is 0.
    async fn forget(&self, before: DateTime<Utc>, limit: u32) -> Result<u64, HistoryError>;

    /// Lets go of the storage, so that the file is complete without its
    /// `-wal` companion. Without it nothing is lost.
    async fn close(&self);
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

/// A number of a time series with its time.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Measured {
    /// When it was measured.
    pub at: DateTime<Utc>,
    /// What was measured.
    pub measurement: Measurement,
}

/// How many findings of each severity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct FindingCounts {
    /// Worth knowing.
    pub info: u32,
    /// Wants attention in the coming days.
    pub warning: u32,
    /// Wants attention now.
    pub critical: u32,
}

/// A run as a line of a list: counts instead of steps and findings.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
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
