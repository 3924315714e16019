use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::rows::time;
use super::{PostgresStore, rows_of, statement};
use crate::history::{HistoryError, RunRecord};

const OPERATION: &str = "record dead runs";

const RUNNING_OF_TASK: &str = "
    SELECT * FROM maint.runs WHERE task = $1 AND target = $2 AND status = 'running' ORDER BY id";

const RUNNING_ON_HOST: &str =
    "SELECT * FROM maint.runs WHERE host = $1 AND status = 'running' ORDER BY id";

/// Repeats the status, because another process may have been faster.
const INTERRUPT_RUN: &str = "
    UPDATE maint.runs
       SET status = 'interrupted',
           finished_at = $2,
           duration_ms = greatest(0, coalesce((
               SELECT max(round(extract(epoch FROM steps.started_at - runs.started_at) * 1000)
                          + steps.duration_ms)
                 FROM maint.steps
                WHERE steps.run_id = runs.id AND steps.started_at IS NOT NULL), inspect_ms))::bigint,
           rows = (SELECT coalesce(sum(steps.rows), 0)::bigint FROM maint.steps
                    WHERE steps.run_id = runs.id),
           bytes_before = (SELECT coalesce(sum(steps.bytes_before), 0)::bigint FROM maint.steps
                            WHERE steps.run_id = runs.id AND steps.bytes_after IS NOT NULL),
           bytes_after = (SELECT coalesce(sum(steps.bytes_after), 0)::bigint FROM maint.steps
                           WHERE steps.run_id = runs.id AND steps.bytes_before IS NOT NULL),
           error = coalesce(error, 'the process died')
     WHERE id = $1 AND status = 'running'";

const CANCEL_STEPS: &str = "
    UPDATE maint.steps
       SET status = 'cancelled', error = coalesce(error, 'the process died')
     WHERE run_id = $1 AND status = 'running'";

impl PostgresStore {
    pub(super) async fn running_of_task(
        &self,
        task: &str,
        target: &str,
    ) -> Result<Vec<Uuid>, HistoryError> {
        let query = rows_of::<RunRecord>(RUNNING_OF_TASK)
            .bind(task)
            .bind(target);
        let running = self.fetch(OPERATION, query).await?;
        Ok(running.into_iter().map(|run| run.id).collect())
    }

    pub(super) async fn running_on_host(&self, host: &str) -> Result<Vec<RunRecord>, HistoryError> {
        let query = rows_of(RUNNING_ON_HOST).bind(host);
        self.fetch(OPERATION, query).await
    }

    /// Closes those of `dead` that are still running, oldest first.
    pub(super) async fn interrupt(
        &self,
        dead: Vec<Uuid>,
        at: DateTime<Utc>,
    ) -> Result<Vec<RunRecord>, HistoryError> {
        let mut closed = Vec::new();
        if dead.is_empty() {
            return Ok(closed);
        }
        let mut transaction = self.write(OPERATION).await?;
        for id in dead {
            let interrupted = statement(INTERRUPT_RUN)
                .bind(id)
                .bind(time(at))
                .execute(&mut *transaction)
                .await
                .map_err(self.failed(OPERATION))?;
            if interrupted.rows_affected() == 0 {
                continue;
            }
            statement(CANCEL_STEPS)
                .bind(id)
                .execute(&mut *transaction)
                .await
                .map_err(self.failed(OPERATION))?;
            closed.extend(self.load(&mut transaction, id).await?);
        }
        transaction.commit().await.map_err(self.failed(OPERATION))?;
        Ok(closed)
    }
}
