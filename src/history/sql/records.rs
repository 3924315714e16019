//! What runs write.

use async_trait::async_trait;
use uuid::Uuid;

use super::row::Found;
use super::{Call, Sql, SqlStore, Value, clean};
use crate::history::words::severity_word;
use crate::history::{Baseline, Entry, HistoryError, Notice, Records, RunRecord, StepRecord};
use crate::plan::{Finding, Measurement, Memory};

/// Leaves a known run alone: its record may be further on already.
static INSERT_RUN: Sql = Sql::new(
    "INSERT INTO maint.runs (id, task, kind, target, trigger, status, scheduled_for, started_at, finished_at,
                      duration_ms, inspect_ms, rows, bytes_before, bytes_after, error, host, pid)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
    ON CONFLICT (id) DO NOTHING",
);

static UPDATE_RUN: Sql = Sql::new(
    "UPDATE maint.runs
       SET status = $2, scheduled_for = $3, finished_at = $4, duration_ms = $5, inspect_ms = $6,
           rows = $7, bytes_before = $8, bytes_after = $9, error = $10
     WHERE id = $1",
);

static PUT_STEP: Sql = Sql::new(
    "INSERT INTO maint.steps (run_id, seq, object, action, status, reason, statement, rows, bytes_before,
                       bytes_after, started_at, duration_ms, attempts, error, lock_waits, throttled,
                       predicted_ms, cut_off, planned_bytes)
    SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19
      FROM maint.runs WHERE id = $1
    ON CONFLICT (run_id, seq) DO UPDATE
       SET object = excluded.object, action = excluded.action, status = excluded.status,
           reason = excluded.reason, statement = excluded.statement, rows = excluded.rows,
           bytes_before = excluded.bytes_before, bytes_after = excluded.bytes_after,
           started_at = excluded.started_at, duration_ms = excluded.duration_ms,
           attempts = excluded.attempts, error = excluded.error, lock_waits = excluded.lock_waits,
           throttled = excluded.throttled, predicted_ms = excluded.predicted_ms,
           cut_off = excluded.cut_off, planned_bytes = excluded.planned_bytes",
);

/// Locks the run, so that two writers do not number their findings alike; in
/// a file only one writes at a time.
static LOCK_RUN: Sql = Sql::new("SELECT id FROM maint.runs WHERE id = $1 {postgres: FOR UPDATE}");

static ADD_FINDING: Sql = Sql::new(
    "INSERT INTO maint.findings (run_id, seq, code, severity, object, message, suggestion)
    SELECT $1, (SELECT coalesce(max(seq), 0) + 1 FROM maint.findings WHERE run_id = $1), $2, $3, $4, $5, $6
     WHERE NOT EXISTS (SELECT 1 FROM maint.findings
                        WHERE run_id = $1 AND code = $2 AND object = $4 AND message = $5)",
);

/// Objects without tuples count as one: an empty index then has far more
/// bytes per tuple than any filled one, and gives way to it.
static PUT_BASELINE: Sql = Sql::new(
    "INSERT INTO maint.baselines AS known (target, object, bytes, tuples, learned_at, rebuilt)
    VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT (target, object) DO UPDATE
       SET bytes = excluded.bytes, tuples = excluded.tuples,
           learned_at = excluded.learned_at, rebuilt = excluded.rebuilt
     WHERE excluded.rebuilt
        OR excluded.bytes / CASE WHEN excluded.tuples > 1.0 THEN excluded.tuples ELSE 1.0 END
            < known.bytes / CASE WHEN known.tuples > 1.0 THEN known.tuples ELSE 1.0 END",
);

static REMEMBER: Sql = Sql::new(
    "INSERT INTO maint.memories (target, kind, key, value, remembered_at)
    VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (target, kind, key) DO UPDATE
       SET value = excluded.value, remembered_at = excluded.remembered_at",
);

static MEASURE: Sql = Sql::new(
    "INSERT INTO maint.measurements (target, metric, object, measured_at, value)
    VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (target, metric, object, measured_at) DO UPDATE SET value = excluded.value",
);

static ADD_NOTICE: Sql = Sql::new(
    "INSERT INTO maint.notices (id, at, event, task, target, schedule, run_id, text)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (id) DO NOTHING",
);

#[async_trait]
impl Records for SqlStore {
    async fn record(&self, entries: &[Entry]) -> Result<(), HistoryError> {
        let Some(first) = entries.first() else {
            return Ok(());
        };
        let mut writing = self.write(first.operation()).await?;
        for entry in entries {
            writing.operation = entry.operation();
            writing.put(entry).await?;
        }
        writing.commit().await
    }
}

impl Call<'_> {
    async fn put(&mut self, entry: &Entry) -> Result<(), HistoryError> {
        match entry {
            Entry::Opened(run) => self.insert(run).await,
            Entry::Step { run, step } => match self.put_step(*run, step).await? {
                0 => Err(HistoryError::NotOpened { run: *run }),
                _ => Ok(()),
            },
            Entry::Findings { run, findings } => {
                let known: Option<Found> = self.fetch_one(LOCK_RUN.with([(*run).into()])).await?;
                if known.is_none() {
                    return Err(HistoryError::NotOpened { run: *run });
                }
                self.add_findings(*run, findings).await
            }
            Entry::Closed(run) => {
                self.insert(run).await?;
                self.update(run).await?;
                for step in &run.steps {
                    self.put_step(run.id, step).await?;
                }
                self.add_findings(run.id, &run.findings).await
            }
            Entry::Baseline { target, baseline } => self.put_baseline(target, baseline).await,
            Entry::Memories {
                target,
                kind,
                at,
                memories,
            } => {
                for Memory { key, value } in memories {
                    let value = Value::Json(value.to_string());
                    let values = [target.into(), kind.into(), key.into(), value, (*at).into()];
                    self.execute(REMEMBER.with(values)).await?;
                }
                Ok(())
            }
            Entry::Measurements {
                target,
                at,
                measurements,
            } => {
                for Measurement {
                    metric,
                    object,
                    value,
                } in measurements.iter().filter(|one| one.value.is_finite())
                {
                    let values = [
                        target.into(),
                        metric.into(),
                        object.into(),
                        (*at).into(),
                        (*value).into(),
                    ];
                    self.execute(MEASURE.with(values)).await?;
                }
                Ok(())
            }
            Entry::Notices(notices) => self.add_notices(notices).await,
        }
    }

    async fn insert(&mut self, run: &RunRecord) -> Result<(), HistoryError> {
        let statement = INSERT_RUN.with([
            run.id.into(),
            (&run.task).into(),
            (&run.kind).into(),
            (&run.target).into(),
            run.trigger.as_str().into(),
            run.status.as_str().into(),
            run.scheduled_for.into(),
            run.started_at.into(),
            run.finished_at.into(),
            run.duration_ms.into(),
            run.inspect_ms.into(),
            run.rows.into(),
            run.bytes_before.into(),
            run.bytes_after.into(),
            run.error.as_deref().map(clean).into(),
            (&run.host).into(),
            run.pid.into(),
        ]);
        self.execute(statement).await.map(drop)
    }

    async fn update(&mut self, run: &RunRecord) -> Result<(), HistoryError> {
        let statement = UPDATE_RUN.with([
            run.id.into(),
            run.status.as_str().into(),
            run.scheduled_for.into(),
            run.finished_at.into(),
            run.duration_ms.into(),
            run.inspect_ms.into(),
            run.rows.into(),
            run.bytes_before.into(),
            run.bytes_after.into(),
            run.error.as_deref().map(clean).into(),
        ]);
        self.execute(statement).await.map(drop)
    }

    /// Returns how many steps were written: none where the run is unknown.
    async fn put_step(&mut self, run: Uuid, step: &StepRecord) -> Result<u64, HistoryError> {
        let statement = PUT_STEP.with([
            run.into(),
            step.seq.into(),
            (&step.object).into(),
            (&step.action).into(),
            step.status.as_str().into(),
            (&step.reason).into(),
            clean(&step.statement).into(),
            step.rows.into(),
            step.bytes_before.into(),
            step.bytes_after.into(),
            step.started_at.into(),
            step.duration_ms.into(),
            step.attempts.into(),
            step.error.as_deref().map(clean).into(),
            Value::Json(serde_json::json!(step.lock_waits).to_string()),
            Value::Json(serde_json::json!(step.throttled).to_string()),
            step.predicted_ms.into(),
            step.cut_off.into(),
            step.planned_bytes.into(),
        ]);
        self.execute(statement).await
    }

    async fn add_findings(&mut self, run: Uuid, findings: &[Finding]) -> Result<(), HistoryError> {
        for finding in findings {
            let statement = ADD_FINDING.with([
                run.into(),
                (&finding.code).into(),
                severity_word(finding.severity).into(),
                (&finding.object).into(),
                clean(&finding.message).into(),
                finding.suggestion.as_deref().map(clean).into(),
            ]);
            self.execute(statement).await?;
        }
        Ok(())
    }

    async fn put_baseline(
        &mut self,
        target: &str,
        baseline: &Baseline,
    ) -> Result<(), HistoryError> {
        if !baseline.tuples.is_finite() || baseline.tuples < 0.0 {
            return Ok(());
        }
        let statement = PUT_BASELINE.with([
            target.into(),
            (&baseline.object).into(),
            baseline.bytes.into(),
            baseline.tuples.into(),
            baseline.learned_at.into(),
            baseline.rebuilt.into(),
        ]);
        self.execute(statement).await.map(drop)
    }

    async fn add_notices(&mut self, notices: &[Notice]) -> Result<(), HistoryError> {
        for notice in notices {
            let statement = ADD_NOTICE.with([
                notice.id.into(),
                notice.at.into(),
                (&notice.event).into(),
                (&notice.task).into(),
                (&notice.target).into(),
                (&notice.schedule).into(),
                notice.run.into(),
                clean(&notice.text).into(),
            ]);
            self.execute(statement).await?;
        }
        Ok(())
    }
}
