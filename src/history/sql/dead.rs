//! Runs whose process died.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::runs::RUN;
use super::{Sql, SqlStore};
use crate::history::{Alive, DeadRuns, HistoryError, RunRecord, StepRecord};

const OPERATION: &str = "record dead runs";

static RUNNING_OF_TASK: Sql = Sql::new(
    "SELECT * FROM maint.runs WHERE task = $1 AND target = $2 AND status = 'running' ORDER BY id",
);

static RUNNING_ON_HOST: Sql =
    Sql::new("SELECT * FROM maint.runs WHERE host = $1 AND status = 'running' ORDER BY id");

/// Repeats the status, because another process may have been faster.
static INTERRUPT: Sql = Sql::new(
    "UPDATE maint.runs
       SET status = 'interrupted', finished_at = $2, error = coalesce(error, 'the process died')
     WHERE id = $1 AND status = 'running'",
);

/// Between two records of a step more is done than the last one counts.
static CANCEL_STEPS: Sql = Sql::new(
    "UPDATE maint.steps
       SET status = 'cancelled',
           error = coalesce(error, CASE WHEN rows > 0
               THEN 'the process died; its rows are those of its last record, and there may be more'
               ELSE 'the process died' END)
     WHERE run_id = $1 AND status = 'running'",
);

static PUT_SUMS: Sql = Sql::new(
    "UPDATE maint.runs SET duration_ms = $2, rows = $3, bytes_before = $4, bytes_after = $5
     WHERE id = $1",
);

#[async_trait]
impl DeadRuns for SqlStore {
    async fn interrupt_running(
        &self,
        task: &str,
        target: &str,
        at: DateTime<Utc>,
    ) -> Result<Vec<RunRecord>, HistoryError> {
        let running = RUNNING_OF_TASK.with([task.into(), target.into()]);
        let running: Vec<RunRecord> = self.fetch(OPERATION, running).await?;
        self.interrupt(running.into_iter().map(|run| run.id).collect(), at)
            .await
    }

    async fn dead(&self, host: &str, alive: &Alive<'_>) -> Result<Vec<Uuid>, HistoryError> {
        let running = RUNNING_ON_HOST.with([host.into()]);
        let running: Vec<RunRecord> = self.fetch(OPERATION, running).await?;
        let dead = running
            .into_iter()
            .filter(|run| !alive(run.pid, run.process.as_deref()));
        Ok(dead.map(|run| run.id).collect())
    }

    async fn interrupt_dead(
        &self,
        host: &str,
        alive: &Alive<'_>,
        at: DateTime<Utc>,
    ) -> Result<Vec<RunRecord>, HistoryError> {
        self.interrupt(self.dead(host, alive).await?, at).await
    }
}

impl SqlStore {
    /// Closes those of `dead` that are still running, oldest first.
    async fn interrupt(
        &self,
        dead: Vec<Uuid>,
        at: DateTime<Utc>,
    ) -> Result<Vec<RunRecord>, HistoryError> {
        let mut closed = Vec::new();
        if dead.is_empty() {
            return Ok(closed);
        }
        let mut writing = self.write(OPERATION).await?;
        for id in dead {
            if writing
                .execute(INTERRUPT.with([id.into(), at.into()]))
                .await?
                == 0
            {
                continue;
            }
            writing.execute(CANCEL_STEPS.with([id.into()])).await?;
            let Some(run) = writing.fetch_one(RUN.with([id.into()])).await? else {
                continue;
            };
            let mut run = writing.complete(run).await?;
            sum_up(&mut run);
            let sums = PUT_SUMS.with([
                id.into(),
                run.duration_ms.into(),
                run.rows.into(),
                run.bytes_before.into(),
                run.bytes_after.into(),
            ]);
            writing.execute(sums).await?;
            closed.push(run);
        }
        writing.commit().await?;
        Ok(closed)
    }
}

/// What the steps tell of a run that could not tell it any more. It ended at
/// its last sign of life.
fn sum_up(run: &mut RunRecord) {
    let sum = |of: &dyn Fn(&StepRecord) -> Option<i64>| {
        let values = run.steps.iter().filter_map(of);
        values.fold(0, i64::saturating_add)
    };
    let measured = |one: &StepRecord| Some((one.bytes_before?, one.bytes_after?));
    let rows = sum(&|one| one.rows);
    let bytes_before = sum(&|one| measured(one).map(|(before, _)| before));
    let bytes_after = sum(&|one| measured(one).map(|(_, after)| after));
    let signs = run.steps.iter().filter_map(|one| {
        let into = one.started_at? - run.started_at;
        Some(into.num_milliseconds().saturating_add(one.duration_ms))
    });
    run.duration_ms = signs.max().unwrap_or(run.inspect_ms).max(0);
    (run.rows, run.bytes_before, run.bytes_after) = (rows, bytes_before, bytes_after);
}
