//! What became of every planned firing of a schedule.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// How an occurrence stands or ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
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

/// One planned firing of a schedule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
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
    /// At most so many.
    pub limit: Option<u32>,
}

/// A schedule that somebody stopped for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
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
