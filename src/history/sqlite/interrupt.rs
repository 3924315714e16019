use chrono::{DateTime, Utc};

use super::SqliteStore;
use super::rows::time;
use crate::history::{HistoryError, RunRecord};

const OPERATION: &str = "record dead runs";

const RUNNING_OF_TASK: &str = "
    SELECT id FROM runs WHERE task = ?1 AND target = ?2 AND status = 'running' ORDER BY id";

const RUNNING_ON_HOST: &str =
    "SELECT * FROM runs WHERE host = ?1 AND status = 'running' ORDER BY id";

/// Repeats the status, because another process may have been faster.
const INTERRUPT_RUN: &str = "
    UPDATE runs
       SET status = 'interrupted',
           finished_at = ?2,
           duration_ms = max(0, coalesce((
               SELECT max(round((julianday(steps.started_at) - julianday(runs.started_at)) * 86400000)
                          + steps.duration_ms)
                 FROM steps WHERE steps.run_id = runs.id AND steps.started_at IS NOT NULL), inspect_ms)),
           rows = (SELECT coalesce(sum(steps.rows), 0) FROM steps WHERE steps.run_id = runs.id),
           bytes_before = (SELECT coalesce(sum(steps.bytes_before), 0) FROM steps
                            WHERE steps.run_id = runs.id AND steps.bytes_after IS NOT NULL),
           bytes_after = (SELECT coalesce(sum(steps.bytes_after), 0) FROM steps
                           WHERE steps.run_id = runs.id AND steps.bytes_before IS NOT NULL),
           error = coalesce(error, 'the process died')
     WHERE id = ?1 AND status = 'running'";

const CANCEL_STEPS: &str = "
    UPDATE steps
       SET status = 'cancelled', error = coalesce(error, 'the process died')
     WHERE run_id = ?1 AND status = 'running'";

impl SqliteStore {
    pub(super) async fn running_of_task(
        &self,
        task: &str,
        target: &str,
    ) -> Result<Vec<uuid::Uuid>, HistoryError> {
        let ids: Vec<String> = sqlx::query_scalar(RUNNING_OF_TASK)
            .bind(task)
            .bind(target)
            .fetch_all(&self.readers)
            .await
            .map_err(self.failed(OPERATION))?;
        ids.iter()
            .map(|id| uuid::Uuid::try_parse(id))
            .collect::<Result<_, _>>()
            .map_err(|error| HistoryError::Unreadable {
                path: self.path.clone(),
                source: error.into(),
            })
    }

    pub(super) async fn running_on_host(&self, host: &str) -> Result<Vec<RunRecord>, HistoryError> {
        sqlx::query_as(RUNNING_ON_HOST)
            .bind(host)
            .fetch_all(&self.readers)
            .await
            .map_err(self.failed(OPERATION))
    }

    /// Closes those of `dead` that are still running, oldest first.
    pub(super) async fn interrupt(
        &self,
        dead: Vec<uuid::Uuid>,
        at: DateTime<Utc>,
    ) -> Result<Vec<RunRecord>, HistoryError> {
        let mut closed = Vec::new();
        if dead.is_empty() {
            return Ok(closed);
        }
        let mut transaction = self.write(OPERATION).await?;
        for id in dead {
            let id = id.to_string();
            let interrupted = sqlx::query(INTERRUPT_RUN)
                .bind(&id)
                .bind(time(at))
                .execute(&mut *transaction)
                .await
                .map_err(self.failed(OPERATION))?;
            if interrupted.rows_affected() == 0 {
                continue;
            }
            sqlx::query(CANCEL_STEPS)
                .bind(&id)
                .execute(&mut *transaction)
                .await
                .map_err(self.failed(OPERATION))?;
            closed.extend(self.load(&mut transaction, &id).await?);
        }
        transaction.commit().await.map_err(self.failed(OPERATION))?;
        Ok(closed)
    }
}
