//! The history's own cleanup.

use chrono::{DateTime, Utc};

use super::rows::time;
use super::{PostgresStore, statement};
use crate::history::HistoryError;

/// Each removes the oldest of its sort. Runs take their steps and findings
/// with them; a run that still runs stays, whatever its age.
const FORGET: &[&str] = &[
    "DELETE FROM maint.runs WHERE id IN (SELECT id FROM maint.runs
        WHERE started_at < $1 AND status <> 'running' ORDER BY started_at LIMIT $2)",
    "DELETE FROM maint.occurrences WHERE (schedule, scheduled_for) IN
        (SELECT schedule, scheduled_for FROM maint.occurrences
          WHERE scheduled_for < $1 AND status <> 'running' ORDER BY scheduled_for LIMIT $2)",
    "DELETE FROM maint.measurements WHERE (target, metric, object, measured_at) IN
        (SELECT target, metric, object, measured_at FROM maint.measurements
          WHERE measured_at < $1 LIMIT $2)",
    "DELETE FROM maint.notices WHERE id IN (SELECT id FROM maint.notices
        WHERE at < $1 AND handled ORDER BY at LIMIT $2)",
    "DELETE FROM maint.letters WHERE id IN (SELECT id FROM maint.letters
        WHERE created_at < $1 AND state <> 'waiting' ORDER BY created_at LIMIT $2)",
    "DELETE FROM maint.cancellations WHERE run_id IN (SELECT run_id FROM maint.cancellations
        WHERE asked_at < $1 LIMIT $2)",
];

impl PostgresStore {
    pub(super) async fn remove_old(
        &self,
        before: DateTime<Utc>,
        limit: u32,
    ) -> Result<u64, HistoryError> {
        let mut removed = 0;
        for sql in FORGET {
            let query = statement(sql).bind(time(before)).bind(i64::from(limit));
            removed += self.execute("forget what is old", query).await?;
        }
        Ok(removed)
    }
}
