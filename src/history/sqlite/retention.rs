//! The history's own cleanup.

use chrono::{DateTime, Utc};

use super::SqliteStore;
use super::rows::time;
use crate::history::HistoryError;

/// Each removes the oldest of its sort. Runs take their steps and findings
/// with them; a run that still runs stays, whatever its age.
const FORGET: &[&str] = &[
    "DELETE FROM runs WHERE id IN (SELECT id FROM runs
        WHERE started_at < ?1 AND status <> 'running' ORDER BY started_at LIMIT ?2)",
    "DELETE FROM occurrences WHERE (schedule, scheduled_for) IN
        (SELECT schedule, scheduled_for FROM occurrences
          WHERE scheduled_for < ?1 AND status <> 'running' ORDER BY scheduled_for LIMIT ?2)",
    "DELETE FROM measurements WHERE (target, metric, object, measured_at) IN
        (SELECT target, metric, object, measured_at FROM measurements
          WHERE measured_at < ?1 LIMIT ?2)",
    "DELETE FROM notices WHERE id IN (SELECT id FROM notices
        WHERE at < ?1 AND handled = 1 ORDER BY at LIMIT ?2)",
    "DELETE FROM letters WHERE id IN (SELECT id FROM letters
        WHERE created_at < ?1 AND state <> 'waiting' ORDER BY created_at LIMIT ?2)",
    "DELETE FROM cancellations WHERE run_id IN (SELECT run_id FROM cancellations
        WHERE asked_at < ?1 LIMIT ?2)",
];

impl SqliteStore {
    pub(super) async fn remove_old(
        &self,
        before: DateTime<Utc>,
        limit: u32,
    ) -> Result<u64, HistoryError> {
        let mut removed = 0;
        for sql in FORGET {
            removed += sqlx::query(*sql)
                .bind(time(before))
                .bind(limit)
                .execute(&self.writer)
                .await
                .map_err(self.failed("forget what is old"))?
                .rows_affected();
        }
        Ok(removed)
    }
}
