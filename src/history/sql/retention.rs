//! The history's own cleanup, and its end.

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::{Sql, SqlStore};
use crate::history::{HistoryError, Store};

/// Each removes the oldest of its sort. Runs take their steps and findings
/// with them; a run that still runs stays, whatever its age.
static FORGET: [Sql; 6] = [
    Sql::new(
        "DELETE FROM maint.runs WHERE id IN (SELECT id FROM maint.runs
            WHERE started_at < $1 AND status <> 'running' ORDER BY started_at LIMIT $2)",
    ),
    Sql::new(
        "DELETE FROM maint.occurrences WHERE (schedule, scheduled_for) IN
            (SELECT schedule, scheduled_for FROM maint.occurrences
              WHERE scheduled_for < $1 AND status <> 'running' ORDER BY scheduled_for LIMIT $2)",
    ),
    Sql::new(
        "DELETE FROM maint.measurements WHERE (target, metric, object, measured_at) IN
            (SELECT target, metric, object, measured_at FROM maint.measurements
              WHERE measured_at < $1 LIMIT $2)",
    ),
    Sql::new(
        "DELETE FROM maint.notices WHERE id IN (SELECT id FROM maint.notices
            WHERE at < $1 AND handled ORDER BY at LIMIT $2)",
    ),
    Sql::new(
        "DELETE FROM maint.letters WHERE id IN (SELECT id FROM maint.letters
            WHERE created_at < $1 AND state <> 'waiting' ORDER BY created_at LIMIT $2)",
    ),
    Sql::new(
        "DELETE FROM maint.cancellations WHERE run_id IN (SELECT run_id FROM maint.cancellations
            WHERE asked_at < $1 LIMIT $2)",
    ),
];

#[async_trait]
impl Store for SqlStore {
    async fn forget(&self, before: DateTime<Utc>, limit: u32) -> Result<u64, HistoryError> {
        let mut removed = 0;
        for sql in &FORGET {
            let statement = sql.with([before.into(), limit.into()]);
            removed += self.execute("forget what is old", statement).await?;
        }
        Ok(removed)
    }

    async fn close(&self) {
        match self {
            SqlStore::Sqlite(store) => store.close().await,
            SqlStore::Postgres(store) => store.close().await,
        }
    }
}
