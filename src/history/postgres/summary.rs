//! Sums over runs, steps, findings and measurements.

use async_trait::async_trait;
use sqlx::postgres::PgRow;
use sqlx::{FromRow, Row};

use super::rows::{time, unreadable, word_of};
use super::{PostgresStore, bounded, rows_of, statement};
use crate::history::summary::{
    Day, FindingState, Gain, Period, Series, Summaries, TaskTotals, Total, TrackedFinding,
    TrackedFindings, Trouble,
};
use crate::history::words::severity_from_word;
use crate::history::{HistoryError, LockWait, RunStatus};

const TOTALS: &str = "
    SELECT kind, status, count(*) AS runs, sum(duration_ms)::bigint AS duration_ms,
           sum(rows)::bigint AS rows, sum(bytes_before - bytes_after)::bigint AS bytes_reclaimed
      FROM maint.runs WHERE started_at >= $1 AND started_at < $2
     GROUP BY kind, status ORDER BY kind, status";

/// The last runs are looked up one by one through the index by task.
const TASKS: &str = "
    WITH sums AS (
        SELECT task, target,
               count(*) FILTER (WHERE started_at >= $1) AS runs,
               count(*) FILTER (WHERE started_at >= $1 AND status IN ('failed', 'interrupted')) AS failed,
               count(*) FILTER (WHERE started_at >= $1 AND status = 'partial') AS partial,
               count(*) FILTER (WHERE started_at >= $1 AND status = 'incomplete') AS incomplete,
               coalesce(sum(duration_ms) FILTER (WHERE started_at >= $1), 0)::bigint AS duration_ms,
               coalesce(sum(rows) FILTER (WHERE started_at >= $1), 0)::bigint AS rows,
               coalesce(sum(bytes_before - bytes_after) FILTER (WHERE started_at >= $1), 0)::bigint
                   AS bytes_reclaimed,
               max(started_at) FILTER (WHERE status = 'succeeded') AS last_success_at
          FROM maint.runs WHERE started_at < $2 GROUP BY task, target)
    SELECT sums.*, last.id AS last_run, last.kind, last.status AS last_status,
           last.started_at AS last_started_at, last.duration_ms AS last_duration_ms,
           ARRAY(SELECT duration_ms FROM maint.runs
                  WHERE task = sums.task AND target = sums.target AND started_at < $2
                    AND status IN ('succeeded', 'incomplete', 'partial', 'failed')
                  ORDER BY started_at DESC LIMIT $3) AS recent
      FROM sums CROSS JOIN LATERAL (
           SELECT id, kind, status, started_at, duration_ms FROM maint.runs
            WHERE task = sums.task AND target = sums.target AND started_at < $2
            ORDER BY started_at DESC, id DESC LIMIT 1) AS last
     ORDER BY task, target";

/// The best are chosen within the index, and only they are read.
const GAINS: &str = "
    WITH best AS MATERIALIZED (
        SELECT run_id, seq, bytes_before - bytes_after AS gain FROM maint.steps
         WHERE status = 'succeeded' AND bytes_before > bytes_after
           AND started_at >= $1 AND started_at < $2
         ORDER BY bytes_before - bytes_after DESC LIMIT $3)
    SELECT runs.id, runs.task, runs.target, steps.action, steps.object, steps.started_at,
           steps.bytes_before, steps.bytes_after
      FROM best JOIN maint.steps USING (run_id, seq) JOIN maint.runs ON runs.id = best.run_id
     ORDER BY best.gain DESC, run_id, seq";

const STEP_TROUBLES: &str = "
    WITH troubled AS (
        SELECT runs.id, runs.task, runs.target, steps.action, steps.object, steps.started_at AS at,
               count(*) OVER same AS times, row_number() OVER (same ORDER BY steps.started_at DESC) AS nth,
               steps.status = 'failed' AS failed, steps.error, steps.lock_waits::text AS lock_waits
          FROM maint.steps JOIN maint.runs ON runs.id = steps.run_id
         WHERE (steps.status = 'failed' OR steps.lock_waits::text <> '[]')
           AND steps.started_at >= $1 AND steps.started_at < $2
        WINDOW same AS (PARTITION BY runs.task, runs.target, steps.action, steps.object))
    SELECT * FROM troubled WHERE nth = 1 ORDER BY failed DESC, at DESC LIMIT $3";

const RUN_TROUBLES: &str = "
    WITH troubled AS (
        SELECT id, task, target, '' AS action, '' AS object, started_at AS at,
               count(*) OVER same AS times, row_number() OVER (same ORDER BY started_at DESC) AS nth,
               true AS failed, error, '[]' AS lock_waits
          FROM maint.runs
         WHERE error IS NOT NULL AND started_at >= $1 AND started_at < $2
           AND status IN ('failed', 'partial', 'interrupted')
        WINDOW same AS (PARTITION BY task, target, error))
    SELECT * FROM troubled WHERE nth = 1 ORDER BY at DESC LIMIT $3";

/// Shared by the list of findings and their counts: a finding is told by
/// target, code and object, because its words carry numbers that change.
macro_rules! tracked {
    ($last:literal) => {
        concat!(
            "
    WITH pairs AS (SELECT DISTINCT task, target FROM maint.runs
         WHERE cardinality($3::text[]) = 0 OR task = ANY ($3::text[])),
    looked AS (
        SELECT target,
               (SELECT id FROM maint.runs WHERE task = pairs.task AND target = pairs.target
                   AND started_at < $2
                   AND (status IN ('succeeded', 'incomplete', 'partial') OR status = 'failed'
                        AND EXISTS (SELECT 1 FROM maint.steps WHERE run_id = runs.id))
                 ORDER BY started_at DESC, id DESC LIMIT 1) AS now_run,
               (SELECT id FROM maint.runs WHERE task = pairs.task AND target = pairs.target
                   AND started_at < $1
                   AND (status IN ('succeeded', 'incomplete', 'partial') OR status = 'failed'
                        AND EXISTS (SELECT 1 FROM maint.steps WHERE run_id = runs.id))
                 ORDER BY started_at DESC, id DESC LIMIT 1) AS then_run
          FROM pairs),
    now AS (SELECT DISTINCT ON (target, code, object) looked.target, findings.*
              FROM looked JOIN maint.findings ON run_id = now_run
             ORDER BY target, code, object, run_id DESC, seq),
    earlier AS (SELECT DISTINCT ON (target, code, object) looked.target, findings.*
              FROM looked JOIN maint.findings ON run_id = then_run
             ORDER BY target, code, object, run_id DESC, seq),
    tracked AS (
        SELECT now.target, now.code, now.severity, now.object, now.message, now.suggestion, now.run_id,
               CASE WHEN earlier.code IS NULL THEN 'new' ELSE 'open' END AS state
          FROM now LEFT JOIN earlier USING (target, code, object)
        UNION ALL
        SELECT earlier.target, earlier.code, earlier.severity, earlier.object, earlier.message,
               earlier.suggestion, earlier.run_id, 'gone'
          FROM earlier LEFT JOIN now USING (target, code, object) WHERE now.code IS NULL) ",
            $last
        )
    };
}

const TRACKED: &str = tracked!(
    "SELECT * FROM tracked
      ORDER BY state = 'gone', CASE severity WHEN 'critical' THEN 0 WHEN 'warning' THEN 1 ELSE 2 END,
               state, target COLLATE \"C\", code COLLATE \"C\", object COLLATE \"C\" LIMIT $4"
);

const TRACKED_COUNTS: &str =
    tracked!("SELECT state, severity, count(*) AS n FROM tracked GROUP BY state, severity");

const SERIES: &str = "
    WITH ends AS (
        SELECT object, (array_agg(value ORDER BY measured_at DESC))[1] AS last,
               (array_agg(value ORDER BY measured_at))[1] AS first
          FROM maint.measurements
         WHERE target = $1 AND metric = $2 AND measured_at >= $3 AND measured_at < $4
         GROUP BY object),
    chosen AS (SELECT * FROM ends ORDER BY last DESC, object COLLATE \"C\" LIMIT $6)
    SELECT chosen.object, chosen.last, chosen.first,
           floor(extract(epoch FROM m.measured_at - $3) / extract(epoch FROM $4::timestamptz - $3) * $5)::bigint
               AS part,
           avg(m.value) AS value
      FROM chosen JOIN maint.measurements m ON m.target = $1 AND m.metric = $2
       AND m.object = chosen.object AND m.measured_at >= $3 AND m.measured_at < $4
     GROUP BY chosen.object, chosen.last, chosen.first, part
     ORDER BY chosen.last DESC, chosen.object COLLATE \"C\", part";

const DAYS: &str = "
    SELECT to_char(started_at AT TIME ZONE 'UTC', 'YYYY-MM-DD') AS day, status, count(*) AS runs
      FROM maint.runs WHERE started_at >= $1 AND started_at < $2
     GROUP BY 1, 2 ORDER BY 1, 2";

const TASK_DAYS: &str = "
    SELECT to_char(started_at AT TIME ZONE 'UTC', 'YYYY-MM-DD') AS day, status, count(*) AS runs
      FROM maint.runs WHERE started_at >= $1 AND started_at < $2 AND task = $3
     GROUP BY 1, 2 ORDER BY 1, 2";

#[async_trait]
impl Summaries for PostgresStore {
    async fn totals(&self, period: &Period) -> Result<Vec<Total>, HistoryError> {
        let query = rows_of(TOTALS)
            .bind(time(period.since))
            .bind(time(period.until));
        bounded(self, self.fetch("sum up runs", query)).await
    }

    async fn task_totals(
        &self,
        period: &Period,
        recent: u32,
    ) -> Result<Vec<TaskTotals>, HistoryError> {
        let query = rows_of(TASKS)
            .bind(time(period.since))
            .bind(time(period.until))
            .bind(i64::from(recent));
        bounded(self, self.fetch("sum up tasks", query)).await
    }

    async fn gains(&self, period: &Period, most: u32) -> Result<Vec<Gain>, HistoryError> {
        let query = rows_of(GAINS)
            .bind(time(period.since))
            .bind(time(period.until))
            .bind(i64::from(most));
        bounded(self, self.fetch("find gains", query)).await
    }

    async fn troubles(&self, period: &Period, most: u32) -> Result<Vec<Trouble>, HistoryError> {
        const OPERATION: &str = "find failures";
        let found = async {
            let mut reading = self.read(OPERATION).await?;
            let mut troubles: Vec<Trouble> = Vec::new();
            for sql in [RUN_TROUBLES, STEP_TROUBLES] {
                let found: Vec<Trouble> = rows_of(sql)
                    .bind(time(period.since))
                    .bind(time(period.until))
                    .bind(i64::from(most))
                    .fetch_all(&mut *reading)
                    .await
                    .map_err(self.failed(OPERATION))?;
                troubles.extend(found);
            }
            Ok(troubles)
        };
        let mut troubles = bounded(self, found).await?;
        troubles.sort_by_key(|one| (!one.failed, std::cmp::Reverse(one.at)));
        troubles.truncate(most as usize);
        Ok(troubles)
    }

    async fn tracked_findings(
        &self,
        period: &Period,
        tasks: &[String],
        most: u32,
    ) -> Result<TrackedFindings, HistoryError> {
        const OPERATION: &str = "compare findings";
        let (since, until) = (time(period.since), time(period.until));
        let compared = async {
            let mut reading = self.read(OPERATION).await?;
            let listed = rows_of(TRACKED)
                .bind(since)
                .bind(until)
                .bind(tasks)
                .bind(i64::from(most))
                .fetch_all(&mut *reading)
                .await
                .map_err(self.failed(OPERATION))?;
            let counts = statement(TRACKED_COUNTS)
                .bind(since)
                .bind(until)
                .bind(tasks)
                .fetch_all(&mut *reading)
                .await
                .map_err(self.failed(OPERATION))?;
            let counts: Result<Vec<_>, sqlx::Error> = counts
                .iter()
                .map(|row| {
                    Ok((
                        word_of(row, "state", FindingState::from_word)?,
                        word_of(row, "severity", severity_from_word)?,
                        row.try_get("n")?,
                    ))
                })
                .collect();
            Ok(TrackedFindings {
                listed,
                counts: counts.map_err(self.failed(OPERATION))?,
            })
        };
        bounded(self, compared).await
    }

    async fn series(
        &self,
        target: &str,
        metric: &str,
        period: &Period,
        parts: u32,
        most: u32,
    ) -> Result<Vec<Series>, HistoryError> {
        let query = rows_of::<(String, f64, f64, i64, f64)>(SERIES)
            .bind(target)
            .bind(metric)
            .bind(time(period.since))
            .bind(time(period.until))
            .bind(i64::from(parts))
            .bind(i64::from(most));
        let rows = bounded(self, self.fetch("read a time series", query)).await?;
        let mut all: Vec<Series> = Vec::new();
        for (object, last, first, part, value) in rows {
            if all.last().is_none_or(|series| series.object != object) {
                all.push(Series {
                    object,
                    first,
                    last,
                    points: Vec::new(),
                });
            }
            if let Some(series) = all.last_mut() {
                series.points.push((part, value));
            }
        }
        Ok(all)
    }

    async fn days(&self, period: &Period, task: Option<&str>) -> Result<Vec<Day>, HistoryError> {
        let query = match task {
            Some(task) => rows_of(TASK_DAYS)
                .bind(time(period.since))
                .bind(time(period.until))
                .bind(task),
            None => rows_of(DAYS)
                .bind(time(period.since))
                .bind(time(period.until)),
        };
        bounded(self, self.fetch("sum up days", query)).await
    }
}

impl FromRow<'_, PgRow> for Total {
    fn from_row(row: &PgRow) -> Result<Total, sqlx::Error> {
        Ok(Total {
            kind: row.try_get("kind")?,
            status: word_of(row, "status", RunStatus::from_word)?,
            runs: row.try_get("runs")?,
            duration_ms: row.try_get("duration_ms")?,
            rows: row.try_get("rows")?,
            bytes_reclaimed: row.try_get("bytes_reclaimed")?,
        })
    }
}

impl FromRow<'_, PgRow> for TaskTotals {
    fn from_row(row: &PgRow) -> Result<TaskTotals, sqlx::Error> {
        let mut recent_ms: Vec<i64> = row.try_get("recent")?;
        recent_ms.reverse();
        Ok(TaskTotals {
            task: row.try_get("task")?,
            target: row.try_get("target")?,
            kind: row.try_get("kind")?,
            runs: row.try_get("runs")?,
            failed: row.try_get("failed")?,
            partial: row.try_get("partial")?,
            incomplete: row.try_get("incomplete")?,
            duration_ms: row.try_get("duration_ms")?,
            rows: row.try_get("rows")?,
            bytes_reclaimed: row.try_get("bytes_reclaimed")?,
            last_run: row.try_get("last_run")?,
            last_status: word_of(row, "last_status", RunStatus::from_word)?,
            last_started_at: row.try_get("last_started_at")?,
            last_duration_ms: row.try_get("last_duration_ms")?,
            last_success_at: row.try_get("last_success_at")?,
            recent_ms,
        })
    }
}

impl FromRow<'_, PgRow> for Gain {
    fn from_row(row: &PgRow) -> Result<Gain, sqlx::Error> {
        Ok(Gain {
            run: row.try_get("id")?,
            task: row.try_get("task")?,
            target: row.try_get("target")?,
            action: row.try_get("action")?,
            object: row.try_get("object")?,
            at: row.try_get("started_at")?,
            bytes_before: row.try_get("bytes_before")?,
            bytes_after: row.try_get("bytes_after")?,
        })
    }
}

impl FromRow<'_, PgRow> for Trouble {
    fn from_row(row: &PgRow) -> Result<Trouble, sqlx::Error> {
        let waits: String = row.try_get("lock_waits")?;
        let waits: Vec<LockWait> =
            serde_json::from_str(&waits).map_err(|error| unreadable("lock_waits", error))?;
        Ok(Trouble {
            run: row.try_get("id")?,
            task: row.try_get("task")?,
            target: row.try_get("target")?,
            action: row.try_get("action")?,
            object: row.try_get("object")?,
            at: row.try_get("at")?,
            times: row.try_get("times")?,
            failed: row.try_get("failed")?,
            error: row.try_get("error")?,
            blocker: waits.into_iter().last(),
        })
    }
}

impl FromRow<'_, PgRow> for TrackedFinding {
    fn from_row(row: &PgRow) -> Result<TrackedFinding, sqlx::Error> {
        Ok(TrackedFinding {
            state: word_of(row, "state", FindingState::from_word)?,
            code: row.try_get("code")?,
            severity: word_of(row, "severity", severity_from_word)?,
            target: row.try_get("target")?,
            object: row.try_get("object")?,
            message: row.try_get("message")?,
            suggestion: row.try_get("suggestion")?,
            run: row.try_get("run_id")?,
        })
    }
}

impl FromRow<'_, PgRow> for Day {
    fn from_row(row: &PgRow) -> Result<Day, sqlx::Error> {
        Ok(Day {
            day: row.try_get("day")?,
            status: word_of(row, "status", RunStatus::from_word)?,
            runs: row.try_get("runs")?,
        })
    }
}
