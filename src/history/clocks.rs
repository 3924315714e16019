//! The clock of a history, and times in it that no right clock can have written.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};

use super::HistoryError;

/// Clocks that are further apart are not the same: more than messages take on their way.
pub const CLOCKS_DIFFER: TimeDelta = TimeDelta::seconds(5);

/// Whether the clock that shows this is surely wrong, as one without a battery that begins in 1970
/// is: then it tells nothing of the times in a history.
pub fn surely_wrong(now: DateTime<Utc>) -> bool {
    const WRITTEN: i64 = 1_735_689_600;
    now.timestamp() < WRITTEN
}

/// What a clock that is wrong has to do with a history.
#[async_trait]
pub trait Clocks: Send + Sync {
    /// What the clock of a history says that several machines may share; `None` for a file, whose
    /// clock is that of its machine.
    async fn clock(&self) -> Result<Option<DateTime<Utc>>, HistoryError>;

    /// What holds schedules up by a time that lies later than `now`, or, of claims, by a lease that
    /// ends later than any may that was given for `lease`.
    async fn times_ahead(
        &self,
        now: DateTime<Utc>,
        lease: Duration,
    ) -> Result<Vec<TimeAhead>, HistoryError>;

    /// Sets them back to `now`. A pause keeps its length. A claim is held for one more `lease`:
    /// an owner that is alive renews it.
    async fn set_back(
        &self,
        ahead: &[TimeAhead],
        now: DateTime<Utc>,
        lease: Duration,
    ) -> Result<(), HistoryError>;
}

/// A time that is yet to come, written by a clock that was ahead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeAhead {
    /// What it is the time of.
    pub what: Ahead,
    /// Of which schedule.
    pub schedule: String,
    /// The time.
    pub at: DateTime<Utc>,
    /// When a pause ends, or when the occurrence that is claimed was planned for.
    pub other: Option<DateTime<Utc>>,
}

/// What a time belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ahead {
    /// Since when a schedule is known: nothing falls due before.
    Known,
    /// Since when it is paused: what falls due before is not skipped.
    Paused,
    /// Until when an occurrence is held by somebody who may be dead: the next ones wait for it.
    Claimed,
    /// An occurrence that ran before its time, and counts as done when that comes.
    Ran,
}

impl Ahead {
    const ALL: [Ahead; 4] = [Ahead::Known, Ahead::Paused, Ahead::Claimed, Ahead::Ran];

    const fn as_str(self) -> &'static str {
        match self {
            Ahead::Known => "known",
            Ahead::Paused => "paused",
            Ahead::Claimed => "claimed",
            Ahead::Ran => "ran",
        }
    }

    /// From the word in a row.
    pub(super) fn from_word(word: &str) -> Option<Ahead> {
        Self::ALL.into_iter().find(|one| one.as_str() == word)
    }
}
