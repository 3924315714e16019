//! All that a history can do, as one trait: the rest of the program does not know where it is kept.

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::{Calendar, Clocks, DeadRuns, HistoryError, Learned, Outbox, Records, Runs, Summaries};

/// Where runs are recorded: the sum of what a history can do. One conformance
/// suite holds for every place it may be kept in.
///
/// Times are kept to the millisecond. Every write is on disk when its call
/// returns, and may be repeated without harm. The only errors are those of
/// the storage itself, unless a method says otherwise.
#[async_trait]
pub trait Store:
    Records + Runs + DeadRuns + Learned + Outbox + Calendar + Clocks + Summaries
{
    /// Removes the oldest of what is older than `before`, `limit` of each
    /// sort at most. What waits to be told or sent stays. Returns how much
    /// was removed; nothing is left when that is 0.
    async fn forget(&self, before: DateTime<Utc>, limit: u32) -> Result<u64, HistoryError>;

    /// Lets go of the storage, so that the file is complete without its
    /// `-wal` companion. Without it nothing is lost.
    async fn close(&self);
}

impl<'s> dyn Store + 's {
    /// The sums that reports and pages are made from.
    pub fn summaries(&self) -> &(dyn Summaries + 's) {
        self
    }
}
