//! Runs whose process died.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::Error;
use uuid::Uuid;

use super::row::{FromRow, Row};
use super::runs::RUN;
use super::{Sql, SqlStore, Statement};
use crate::history::{Alive, BELIEVED_FOR, DeadRuns, HistoryError, RunRecord, StepRecord};

const OPERATION: &str = "record dead runs";

static RUNNING_OF_TASK: Sql = Sql::new(
    "SELECT * FROM maint.runs WHERE task = $1 AND target = $2 AND status = 'running' ORDER BY id",
);

/// Who is silent has not said for long that it is at work; older versions never did.
static RUNNING: Sql = Sql::new(
    "SELECT runs.*, coalesce(alive_until <= {now}, FALSE) AS silent
      FROM maint.runs AS runs WHERE status = 'running' ORDER BY id",
);

static BELIEVE: Sql = Sql::new(
    "UPDATE maint.runs SET alive_until = {lease_end} WHERE id = $2 AND status = 'running'",
);

const DIED: &str = "the process died";

/// Repeats the status, because another process may have been faster.
static INTERRUPT: Sql = Sql::new(
    "UPDATE maint.runs
       SET status = 'interrupted', finished_at = $2, error = coalesce(error, $3)
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
        let running = running.into_iter().map(|run| (run.id, DIED.to_owned()));
        self.interrupt(running.collect(), at).await
    }

    async fn believe(&self, runs: &[Uuid]) -> Result<(), HistoryError> {
        let mut writing = self.write(OPERATION).await?;
        for run in runs {
            writing.execute(believed(*run)).await?;
        }
        writing.commit().await
    }

    async fn dead(&self, alive: &Alive<'_>) -> Result<Vec<RunRecord>, HistoryError> {
        let running: Vec<Running> = self.fetch(OPERATION, RUNNING.with([])).await?;
        let dead = running
            .into_iter()
            .filter_map(|Running { mut run, silent }| {
                let why = match (alive(&run), silent) {
                    (Some(false), _) => GONE.to_owned(),
                    (None, true) => silence(&run),
                    (Some(true), _) | (None, false) => return None,
                };
                run.error = Some(why);
                Some(run)
            });
        Ok(dead.collect())
    }

    async fn interrupt_dead(
        &self,
        alive: &Alive<'_>,
        at: DateTime<Utc>,
    ) -> Result<Vec<RunRecord>, HistoryError> {
        let dead = self.dead(alive).await?.into_iter().map(|run| {
            let why = match alive(&run) {
                Some(_) => DIED.to_owned(),
                None => silence(&run),
            };
            (run.id, why)
        });
        self.interrupt(dead.collect(), at).await
    }
}

/// What is said of a run whose process is gone without having recorded how it ended.
const GONE: &str = "its process is gone; the next run finds what it has left, and records that";

/// The same of one that nobody here can know of.
fn silence(run: &RunRecord) -> String {
    format!(
        "nothing has been heard for {} minutes of its process on {}: it died, or does not reach the history",
        BELIEVED_FOR.as_secs() / 60,
        run.host
    )
}

/// Says that a run is at work.
pub(super) fn believed(run: Uuid) -> Statement {
    let millis = i64::try_from(BELIEVED_FOR.as_millis()).unwrap_or(i64::MAX);
    BELIEVE.with([millis.into(), run.into()])
}

/// A run that is on record as at work.
struct Running {
    run: RunRecord,
    silent: bool,
}

impl FromRow for Running {
    fn read(row: &Row) -> Result<Self, Error> {
        Ok(Running {
            run: RunRecord::read(row)?,
            silent: row.cell("silent")?,
        })
    }
}

impl SqlStore {
    /// Closes those of `dead` that are still running, each with the reason, oldest first.
    async fn interrupt(
        &self,
        dead: Vec<(Uuid, String)>,
        at: DateTime<Utc>,
    ) -> Result<Vec<RunRecord>, HistoryError> {
        let mut closed = Vec::new();
        if dead.is_empty() {
            return Ok(closed);
        }
        let mut writing = self.write(OPERATION).await?;
        for (id, why) in dead {
            if writing
                .execute(INTERRUPT.with([id.into(), at.into(), why.into()]))
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
