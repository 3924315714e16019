//! What became of every planned firing of a schedule.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::HistoryError;
use crate::values::TimeSpan;

/// Claims on planned firings, pauses, and requests to stop.
#[async_trait]
pub trait Calendar: Send + Sync {
    /// Since when each of these schedules, given with its definition, is known.
    /// One that is new, or whose definition has changed, is known from `now`.
    async fn know_schedules(
        &self,
        schedules: &[(String, String)],
        now: DateTime<Utc>,
    ) -> Result<HashMap<String, DateTime<Utc>>, HistoryError>;

    /// Since when each schedule is known that somebody has looked after.
    async fn known_schedules(&self) -> Result<HashMap<String, DateTime<Utc>>, HistoryError>;

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
    /// nobody had recorded before, but for a clock that was ahead.
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
}

/// How an occurrence stands or ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OccurrenceStatus {
    /// Somebody has claimed it and is at work.
    Running,
    /// It ran at its time.
    Ran,
    /// It ran late, because nobody was there at its time.
    CaughtUp,
    /// It was not to run: paused, or the one before was still at work.
    Skipped,
    /// Nobody was there at its time, and it was not made up for.
    Missed,
}

impl OccurrenceStatus {
    /// Every one of them.
    pub const ALL: &[OccurrenceStatus] = &[
        OccurrenceStatus::Running,
        OccurrenceStatus::Ran,
        OccurrenceStatus::CaughtUp,
        OccurrenceStatus::Skipped,
        OccurrenceStatus::Missed,
    ];

    /// The word used in JSON, in the history and on the terminal.
    pub const fn as_str(self) -> &'static str {
        match self {
            OccurrenceStatus::Running => "running",
            OccurrenceStatus::Ran => "ran",
            OccurrenceStatus::CaughtUp => "caught_up",
            OccurrenceStatus::Skipped => "skipped",
            OccurrenceStatus::Missed => "missed",
        }
    }

    /// The reverse of [`Self::as_str`]; `None` for any other word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|one| one.as_str() == word)
    }
}

impl std::fmt::Display for OccurrenceStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How the reason ends of a missed occurrence whose work a later one does.
pub const DOES_ITS_WORK: &str = "does its work";

impl Occurrence {
    /// Whether it was missed and a later one does its work: then nobody needs to be told.
    pub fn is_covered(&self) -> bool {
        let reason = self.reason.as_deref().unwrap_or_default();
        self.status == OccurrenceStatus::Missed && reason.ends_with(DOES_ITS_WORK)
    }
}

/// One planned firing of a schedule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Occurrence {
    /// The schedule.
    pub schedule: String,
    /// When it was to fire.
    pub scheduled_for: DateTime<Utc>,
    /// What became of it.
    pub status: OccurrenceStatus,
    /// Whether it is, or was, being made up for.
    pub catch_up: bool,
    /// Which instance claimed it last.
    pub claimed_by: Option<String>,
    /// Until when that instance is believed to be alive.
    pub lease_until: Option<DateTime<Utc>>,
    /// How often it was claimed: more than once where an owner died.
    pub claims: u32,
    /// When it was first recorded.
    pub recorded_at: DateTime<Utc>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
    /// Whether all of its runs ended well; `None` where there was none.
    pub succeeded: Option<bool>,
    /// Why it was skipped or missed.
    pub reason: Option<String>,
    /// Its runs.
    pub runs: Vec<Uuid>,
}

/// The wish to carry out an occurrence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The schedule.
    pub schedule: String,
    /// When it was to fire.
    pub scheduled_for: DateTime<Utc>,
    /// Whether it is made up for.
    pub catch_up: bool,
    /// Who wants it: unique among all instances that ever were.
    pub owner: String,
    /// How long nobody else may have it without a renewal.
    pub lease: Duration,
    /// What the clock of who claims it says.
    pub now: DateTime<Utc>,
}

/// How a claimed occurrence ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// `Ran`, `CaughtUp` or, where nothing was to be done after all, `Skipped`.
    pub status: OccurrenceStatus,
    /// Whether all of its runs ended well.
    pub succeeded: Option<bool>,
    /// What there is to say.
    pub reason: Option<String>,
    /// Its runs.
    pub runs: Vec<Uuid>,
}

/// Which occurrences to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OccurrenceFilter {
    /// Only of this schedule.
    pub schedule: Option<String>,
    /// Only these statuses; empty means any.
    pub statuses: Vec<OccurrenceStatus>,
    /// Only those planned for then or later.
    pub since: Option<DateTime<Utc>>,
    /// Only those planned for then or earlier.
    pub until: Option<DateTime<Utc>>,
    /// At most so many.
    pub limit: Option<u32>,
}

/// A schedule that somebody stopped for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Pause {
    /// The schedule.
    pub schedule: String,
    /// Since when.
    pub since: DateTime<Utc>,
    /// Until when; `None`: until it is resumed.
    pub until: Option<DateTime<Utc>>,
    /// By whom.
    pub by: String,
}

impl Pause {
    /// When a pause is over that lasts so long from `now`.
    ///
    /// # Errors
    /// In words, when that is no moment later than `now`.
    pub fn end_after(length: TimeSpan, now: DateTime<Utc>) -> Result<DateTime<Utc>, String> {
        let end = chrono::TimeDelta::from_std(length.get())
            .ok()
            .and_then(|length| now.checked_add_signed(length))
            .ok_or_else(|| format!("`for` is `{length}`, which is too long"))?;
        Pause::end_at(end, now)
    }

    /// The same of one that lasts until then.
    ///
    /// # Errors
    /// In words, when that is past.
    pub fn end_at(end: DateTime<Utc>, now: DateTime<Utc>) -> Result<DateTime<Utc>, String> {
        match end > now {
            true => Ok(end),
            false => Err(format!(
                "the pause would be over at {}, which is past",
                end.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
            )),
        }
    }
}
