//! What runs write.

use std::collections::{BTreeMap, HashMap};

use async_trait::async_trait;
use uuid::Uuid;

use super::dead::believed;
use super::row::Found;
use super::{Call, Rows, Sql, SqlStore, Value, clean};
use crate::history::words::severity_word;
use crate::history::{
    Baseline, Entry, HistoryError, Notice, Records, RunRecord, RunStatus, StepRecord,
};
use crate::plan::{Finding, Memory};

/// Leaves a known run alone: its record may be further on already.
static INSERT_RUN: Sql = Sql::new(
    "INSERT INTO maint.runs (id, task, kind, target, trigger, status, scheduled_for, started_at, finished_at,
                      duration_ms, inspect_ms, rows, bytes_before, bytes_after, error, host, pid, part,
                      process, schedule)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)
    ON CONFLICT (id) DO NOTHING",
);

static UPDATE_RUN: Sql = Sql::new(
    "UPDATE maint.runs
       SET status = $2, scheduled_for = $3, finished_at = $4, duration_ms = $5, inspect_ms = $6,
           rows = $7, bytes_before = $8, bytes_after = $9, error = $10,
           part = $11
     WHERE id = $1",
);

static PUT_STEPS: Rows = Rows::new(
    "INSERT INTO maint.steps (run_id, seq, object, action, status, reason, statement, rows, bytes_before,
                       bytes_after, started_at, duration_ms, attempts, error, lock_waits, throttled,
                       predicted_ms, cut_off, planned_bytes, kept_by)
    VALUES {rows}
    ON CONFLICT (run_id, seq) DO UPDATE
       SET object = excluded.object, action = excluded.action, status = excluded.status,
           reason = excluded.reason, statement = excluded.statement, rows = excluded.rows,
           bytes_before = excluded.bytes_before, bytes_after = excluded.bytes_after,
           started_at = excluded.started_at, duration_ms = excluded.duration_ms,
           attempts = excluded.attempts, error = excluded.error, lock_waits = excluded.lock_waits,
           throttled = excluded.throttled, predicted_ms = excluded.predicted_ms,
           cut_off = excluded.cut_off, planned_bytes = excluded.planned_bytes,
           kept_by = excluded.kept_by",
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
/// bytes per tuple than any filled one, and gives way to it. What was learned
/// of another object of the name gives way to anything.
static PUT_BASELINE: Sql = Sql::new(
    "INSERT INTO maint.baselines AS known (target, object, bytes, tuples, learned_at, rebuilt, made_as)
    VALUES ($1, $2, $3, $4, $5, $6, $7)
    ON CONFLICT (target, object) DO UPDATE
       SET bytes = excluded.bytes, tuples = excluded.tuples, learned_at = excluded.learned_at,
           rebuilt = excluded.rebuilt, made_as = excluded.made_as
     WHERE excluded.rebuilt OR excluded.made_as <> known.made_as
        OR excluded.bytes / CASE WHEN excluded.tuples > 1.0 THEN excluded.tuples ELSE 1.0 END
            < known.bytes / CASE WHEN known.tuples > 1.0 THEN known.tuples ELSE 1.0 END",
);

static REMEMBER: Rows = Rows::new(
    "INSERT INTO maint.memories (target, kind, key, value, remembered_at)
    VALUES {rows}
    ON CONFLICT (target, kind, key) DO UPDATE
       SET value = excluded.value, remembered_at = excluded.remembered_at",
);

static MEASURE: Rows = Rows::new(
    "INSERT INTO maint.measurements (target, metric, object, measured_at, value)
    VALUES {rows}
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
        let mut steps = steps_of(entries);
        for entry in entries {
            writing.operation = entry.operation();
            match entry {
                // All of a run at once, where the first of them stands.
                Entry::Step { run, .. } => {
                    if let Some(steps) = steps.remove(run) {
                        writing.known(*run).await?;
                        writing.put_steps(*run, steps).await?;
                    }
                }
                entry => writing.put(entry).await?,
            }
        }
        writing.commit().await
    }
}

/// The steps of each run, as the last entry about each has them.
fn steps_of(entries: &[Entry]) -> HashMap<Uuid, Steps<'_>> {
    let mut steps: HashMap<Uuid, Steps<'_>> = HashMap::new();
    for entry in entries {
        if let Entry::Step { run, step } = entry {
            steps.entry(*run).or_default().insert(step.seq, step);
        }
    }
    steps
}

/// Steps of one run by number.
type Steps<'a> = BTreeMap<u32, &'a StepRecord>;

impl Call<'_> {
    async fn put(&mut self, entry: &Entry) -> Result<(), HistoryError> {
        match entry {
            Entry::Opened(run) => self.insert(run).await,
            Entry::Step { run, step } => {
                self.known(*run).await?;
                self.put_steps(*run, Steps::from([(step.seq, step.as_ref())]))
                    .await
            }
            Entry::Findings { run, findings } => {
                self.known(*run).await?;
                self.add_findings(*run, findings).await
            }
            Entry::Closed(run) => {
                self.insert(run).await?;
                self.update(run).await?;
                let steps = run.steps.iter().map(|step| (step.seq, step)).collect();
                self.put_steps(run.id, steps).await?;
                self.add_findings(run.id, &run.findings).await
            }
            Entry::Baseline { target, baseline } => self.put_baseline(target, baseline).await,
            Entry::Memories {
                target,
                kind,
                at,
                memories,
            } => {
                let last: BTreeMap<&str, _> = memories
                    .iter()
                    .map(|Memory { key, value }| (key.as_str(), value))
                    .collect();
                let rows = last.into_iter().map(|(key, value)| {
                    let value = Value::Json(value.to_string());
                    [target.into(), kind.into(), key.into(), value, (*at).into()]
                });
                self.write_rows(&REMEMBER, rows.collect()).await
            }
            Entry::Measurements {
                target,
                at,
                measurements,
            } => {
                let finite = measurements.iter().filter(|one| one.value.is_finite());
                let last: BTreeMap<(&str, &str), f64> = finite
                    .map(|one| ((one.metric.as_str(), one.object.as_str()), one.value))
                    .collect();
                let rows = last.into_iter().map(|((metric, object), value)| {
                    [
                        target.into(),
                        metric.into(),
                        object.into(),
                        (*at).into(),
                        value.into(),
                    ]
                });
                self.write_rows(&MEASURE, rows.collect()).await
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
            run.part.as_deref().map(clean).into(),
            run.process.as_deref().map(clean).into(),
            (&run.schedule).into(),
        ]);
        self.execute(statement).await?;
        if run.status == RunStatus::Running {
            self.execute(believed(run.id)).await?;
        }
        Ok(())
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
            run.part.as_deref().map(clean).into(),
        ]);
        self.execute(statement).await.map(drop)
    }

    /// Refuses what belongs to a run that the history has not.
    async fn known(&mut self, run: Uuid) -> Result<(), HistoryError> {
        let known: Option<Found> = self.fetch_one(LOCK_RUN.with([run.into()])).await?;
        known.map(drop).ok_or(HistoryError::NotOpened { run })
    }

    async fn put_steps(&mut self, run: Uuid, steps: Steps<'_>) -> Result<(), HistoryError> {
        let rows = steps.into_values().map(|step| {
            [
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
                step.kept_by.map(|by| by.as_str().to_owned()).into(),
            ]
        });
        self.write_rows(&PUT_STEPS, rows.collect()).await
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
            (&baseline.made_as).into(),
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
