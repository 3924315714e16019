use sqlx::PgConnection;
use uuid::Uuid;

use super::PostgresStore;
use super::memory::{put_measurements, put_memories};
use super::outbox::put_notices;
use super::rows::time;
use super::{clean, scalar, statement};
use crate::history::entry::{Entry, NotWritten};
use crate::history::words::severity_word;
use crate::history::{Baseline, HistoryError, RunRecord, StepRecord};
use crate::plan::Finding;

/// Leaves a known run alone: its record may be further on already.
const INSERT_RUN: &str = "
    INSERT INTO maint.runs (id, task, kind, target, trigger, status, scheduled_for, started_at, finished_at,
                      duration_ms, inspect_ms, rows, bytes_before, bytes_after, error, host, pid)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
    ON CONFLICT (id) DO NOTHING";

const UPDATE_RUN: &str = "
    UPDATE maint.runs
       SET status = $2, scheduled_for = $3, finished_at = $4, duration_ms = $5, inspect_ms = $6,
           rows = $7, bytes_before = $8, bytes_after = $9, error = $10
     WHERE id = $1";

const PUT_STEP: &str = "
    INSERT INTO maint.steps (run_id, seq, object, action, status, reason, statement, rows, bytes_before,
                       bytes_after, started_at, duration_ms, attempts, error, lock_waits, throttled,
                       predicted_ms, cut_off, planned_bytes)
    SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15::text::json, $16::text::json, $17, $18, $19
      FROM maint.runs WHERE id = $1
    ON CONFLICT (run_id, seq) DO UPDATE
       SET object = excluded.object, action = excluded.action, status = excluded.status,
           reason = excluded.reason, statement = excluded.statement, rows = excluded.rows,
           bytes_before = excluded.bytes_before, bytes_after = excluded.bytes_after,
           started_at = excluded.started_at, duration_ms = excluded.duration_ms,
           attempts = excluded.attempts, error = excluded.error, lock_waits = excluded.lock_waits,
           throttled = excluded.throttled, predicted_ms = excluded.predicted_ms,
           cut_off = excluded.cut_off, planned_bytes = excluded.planned_bytes";

/// Locks the run, so that two writers do not number their findings alike.
const LOCK_RUN: &str = "SELECT true FROM maint.runs WHERE id = $1 FOR UPDATE";

const ADD_FINDING: &str = "
    INSERT INTO maint.findings (run_id, seq, code, severity, object, message, suggestion)
    SELECT $1, (SELECT coalesce(max(seq), 0) + 1 FROM maint.findings WHERE run_id = $1), $2, $3, $4, $5, $6
     WHERE NOT EXISTS (SELECT 1 FROM maint.findings
                        WHERE run_id = $1 AND code = $2 AND object = $4 AND message = $5)";

/// Objects without tuples count as one: an empty index then has far more
/// bytes per tuple than any filled one, and gives way to it.
const PUT_BASELINE: &str = "
    INSERT INTO maint.baselines (target, object, bytes, tuples, learned_at, rebuilt)
    VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT (target, object) DO UPDATE
       SET bytes = excluded.bytes, tuples = excluded.tuples,
           learned_at = excluded.learned_at, rebuilt = excluded.rebuilt
     WHERE excluded.rebuilt
        OR excluded.bytes / greatest(excluded.tuples, 1.0)
            < baselines.bytes / greatest(baselines.tuples, 1.0)";

impl PostgresStore {
    /// All or nothing, in this order, in one transaction.
    pub(super) async fn put_entries(&self, entries: &[Entry]) -> Result<(), HistoryError> {
        let Some(first) = entries.first() else {
            return Ok(());
        };
        let mut writing = self.write(first.operation()).await?;
        for entry in entries {
            put(&mut writing, entry).await.map_err(|why| match why {
                NotWritten::NotOpened(run) => HistoryError::NotOpened { run },
                NotWritten::Sql(error) => self.failed(entry.operation())(error),
            })?;
        }
        writing
            .commit()
            .await
            .map_err(self.failed(first.operation()))
    }
}

async fn put(connection: &mut PgConnection, entry: &Entry) -> Result<(), NotWritten> {
    match entry {
        Entry::Opened(run) => insert(connection, run).await?,
        Entry::Step { run, step } => {
            if put_step(connection, *run, step).await? == 0 {
                return Err(NotWritten::NotOpened(*run));
            }
        }
        Entry::Findings { run, findings } => {
            let known: Option<bool> = scalar(LOCK_RUN)
                .bind(*run)
                .fetch_optional(&mut *connection)
                .await?;
            if known.is_none() {
                return Err(NotWritten::NotOpened(*run));
            }
            for finding in findings {
                add_finding(connection, *run, finding).await?;
            }
        }
        Entry::Closed(run) => {
            insert(connection, run).await?;
            update(connection, run).await?;
            for step in &run.steps {
                put_step(connection, run.id, step).await?;
            }
            for finding in &run.findings {
                add_finding(connection, run.id, finding).await?;
            }
        }
        Entry::Baseline { target, baseline } => put_baseline(connection, target, baseline).await?,
        Entry::Memories {
            target,
            kind,
            at,
            memories,
        } => put_memories(connection, target, kind, *at, memories).await?,
        Entry::Measurements {
            target,
            at,
            measurements,
        } => put_measurements(connection, target, *at, measurements).await?,
        Entry::Notices(notices) => put_notices(connection, notices).await?,
    }
    Ok(())
}

async fn insert(connection: &mut PgConnection, run: &RunRecord) -> Result<(), sqlx::Error> {
    statement(INSERT_RUN)
        .bind(run.id)
        .bind(&run.task)
        .bind(&run.kind)
        .bind(&run.target)
        .bind(run.trigger.as_str())
        .bind(run.status.as_str())
        .bind(run.scheduled_for.map(time))
        .bind(time(run.started_at))
        .bind(run.finished_at.map(time))
        .bind(run.duration_ms)
        .bind(run.inspect_ms)
        .bind(run.rows)
        .bind(run.bytes_before)
        .bind(run.bytes_after)
        .bind(run.error.as_deref().map(clean))
        .bind(&run.host)
        .bind(run.pid)
        .execute(connection)
        .await?;
    Ok(())
}

async fn update(connection: &mut PgConnection, run: &RunRecord) -> Result<(), sqlx::Error> {
    statement(UPDATE_RUN)
        .bind(run.id)
        .bind(run.status.as_str())
        .bind(run.scheduled_for.map(time))
        .bind(run.finished_at.map(time))
        .bind(run.duration_ms)
        .bind(run.inspect_ms)
        .bind(run.rows)
        .bind(run.bytes_before)
        .bind(run.bytes_after)
        .bind(run.error.as_deref().map(clean))
        .execute(connection)
        .await?;
    Ok(())
}

/// Returns how many steps were written: none where the run is unknown.
async fn put_step(
    connection: &mut PgConnection,
    run: Uuid,
    step: &StepRecord,
) -> Result<u64, sqlx::Error> {
    let lock_waits = serde_json::to_string(&step.lock_waits)
        .map_err(|error| sqlx::Error::Encode(error.into()))?;
    let throttled = serde_json::to_string(&step.throttled)
        .map_err(|error| sqlx::Error::Encode(error.into()))?;
    let done = statement(PUT_STEP)
        .bind(run)
        .bind(i64::from(step.seq))
        .bind(&step.object)
        .bind(&step.action)
        .bind(step.status.as_str())
        .bind(&step.reason)
        .bind(clean(&step.statement))
        .bind(step.rows)
        .bind(step.bytes_before)
        .bind(step.bytes_after)
        .bind(step.started_at.map(time))
        .bind(step.duration_ms)
        .bind(i64::from(step.attempts))
        .bind(step.error.as_deref().map(clean))
        .bind(lock_waits)
        .bind(throttled)
        .bind(step.predicted_ms)
        .bind(step.cut_off)
        .bind(step.planned_bytes)
        .execute(connection)
        .await?;
    Ok(done.rows_affected())
}

async fn add_finding(
    connection: &mut PgConnection,
    run: Uuid,
    finding: &Finding,
) -> Result<(), sqlx::Error> {
    statement(ADD_FINDING)
        .bind(run)
        .bind(&finding.code)
        .bind(severity_word(finding.severity))
        .bind(&finding.object)
        .bind(clean(&finding.message))
        .bind(finding.suggestion.as_deref().map(clean))
        .execute(connection)
        .await?;
    Ok(())
}

async fn put_baseline(
    connection: &mut PgConnection,
    target: &str,
    baseline: &Baseline,
) -> Result<(), sqlx::Error> {
    if !baseline.tuples.is_finite() || baseline.tuples < 0.0 {
        return Ok(());
    }
    statement(PUT_BASELINE)
        .bind(target)
        .bind(&baseline.object)
        .bind(baseline.bytes)
        .bind(baseline.tuples)
        .bind(time(baseline.learned_at))
        .bind(baseline.rebuilt)
        .execute(connection)
        .await?;
    Ok(())
}
