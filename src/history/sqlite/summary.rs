//! Sums over runs, steps, findings and measurements.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, Row};

use super::SqliteStore;
use super::rows::{id_of, maybe_time_of, time, time_of, unreadable, word_of};
use crate::history::summary::{
    Day, FindingState, Gain, Period, Series, Summaries, TaskTotals, Total, TrackedFinding,
    TrackedFindings, Trouble,
};
use crate::history::words::severity_from_word;
use crate::history::{HistoryError, LockWait, RunStatus};

const TOTALS: &str = "
    SELECT kind, status, count(*) AS runs, sum(duration_ms) AS duration_ms, sum(rows) AS rows,
           sum(bytes_before - bytes_after) AS bytes_reclaimed
      FROM runs WHERE started_at >= ?1 AND started_at < ?2
     GROUP BY kind, status ORDER BY kind, status";

/// The last runs are looked up one by one through the index by task.
const TASKS: &str = "
    WITH sums AS (
        SELECT task, target,
               sum(started_at >= ?1) AS runs,
               sum(started_at >= ?1 AND status IN ('failed', 'interrupted')) AS failed,
               sum(started_at >= ?1 AND status = 'partial') AS partial,
               sum(started_at >= ?1 AND status = 'incomplete') AS incomplete,
               sum(CASE WHEN started_at >= ?1 THEN duration_ms ELSE 0 END) AS duration_ms,
               sum(CASE WHEN started_at >= ?1 THEN rows ELSE 0 END) AS rows,
               sum(CASE WHEN started_at >= ?1 THEN bytes_before - bytes_after ELSE 0 END) AS bytes_reclaimed,
               max(CASE WHEN status = 'succeeded' THEN started_at END) AS last_success_at
          FROM runs INDEXED BY runs_task_sums WHERE started_at < ?2 GROUP BY task, target)
    SELECT sums.*, last.id AS last_run, last.kind, last.status AS last_status,
           last.started_at AS last_started_at, last.duration_ms AS last_duration_ms,
           (SELECT json_group_array(duration_ms)
              FROM (SELECT duration_ms FROM runs
                     WHERE task = sums.task AND target = sums.target AND started_at < ?2
                       AND status IN ('succeeded', 'incomplete', 'partial', 'failed')
                     ORDER BY started_at DESC LIMIT ?3)) AS recent
      FROM sums JOIN runs last
        ON last.id = (SELECT id FROM runs
                       WHERE task = sums.task AND target = sums.target AND started_at < ?2
                       ORDER BY started_at DESC, id DESC LIMIT 1)
     ORDER BY task, target";

/// The best are chosen within the index, and only they are read.
const GAINS: &str = "
    WITH best AS MATERIALIZED (
        SELECT run_id, seq, bytes_before - bytes_after AS gain FROM steps INDEXED BY steps_gains
         WHERE status = 'succeeded' AND bytes_before > bytes_after
           AND started_at >= ?1 AND started_at < ?2
         ORDER BY bytes_before - bytes_after DESC LIMIT ?3)
    SELECT runs.id, runs.task, runs.target, steps.action, steps.object, steps.started_at,
           steps.bytes_before, steps.bytes_after
      FROM best JOIN steps USING (run_id, seq) JOIN runs ON runs.id = best.run_id
     ORDER BY best.gain DESC, run_id, seq";

const STEP_TROUBLES: &str = "
    SELECT runs.id, runs.task, runs.target, steps.action, steps.object,
           max(steps.started_at) AS at, count(*) AS times,
           steps.status = 'failed' AS failed, steps.error, steps.lock_waits
      FROM steps JOIN runs ON runs.id = steps.run_id
     WHERE (steps.status = 'failed' OR steps.lock_waits <> '[]')
       AND steps.started_at >= ?1 AND steps.started_at < ?2
     GROUP BY runs.task, runs.target, steps.action, steps.object
     ORDER BY failed DESC, at DESC LIMIT ?3";

const RUN_TROUBLES: &str = "
    SELECT id, task, target, '' AS action, '' AS object, max(started_at) AS at, count(*) AS times,
           1 AS failed, error, '[]' AS lock_waits
      FROM runs
     WHERE error IS NOT NULL AND started_at >= ?1 AND started_at < ?2
       AND status IN ('failed', 'partial', 'interrupted')
     GROUP BY task, target, error ORDER BY at DESC LIMIT ?3";

/// Shared by the list of findings and their counts: a finding is told by
/// target, code and object, because its words carry numbers that change.
macro_rules! tracked {
    ($last:literal) => {
        concat!(
            "
    WITH pairs AS (SELECT DISTINCT task, target FROM runs
         WHERE ?3 = '[]' OR task IN (SELECT value FROM json_each(?3))),
    looked AS (
        SELECT target,
               (SELECT id FROM runs WHERE task = pairs.task AND target = pairs.target AND started_at < ?2
                   AND (status IN ('succeeded', 'incomplete', 'partial')
                        OR status = 'failed' AND EXISTS (SELECT 1 FROM steps WHERE run_id = runs.id))
                 ORDER BY started_at DESC, id DESC LIMIT 1) AS now_run,
               (SELECT id FROM runs WHERE task = pairs.task AND target = pairs.target AND started_at < ?1
                   AND (status IN ('succeeded', 'incomplete', 'partial')
                        OR status = 'failed' AND EXISTS (SELECT 1 FROM steps WHERE run_id = runs.id))
                 ORDER BY started_at DESC, id DESC LIMIT 1) AS then_run
          FROM pairs),
    now AS (SELECT looked.target, findings.*, max(run_id) FROM looked
              JOIN findings ON run_id = now_run GROUP BY target, code, object),
    earlier AS (SELECT looked.target, findings.*, max(run_id) FROM looked
              JOIN findings ON run_id = then_run GROUP BY target, code, object),
    tracked AS (
        SELECT now.target, now.code, now.severity, now.object, now.message, now.suggestion, now.run_id,
               CASE WHEN earlier.code IS NULL THEN 'new' ELSE 'open' END AS state
          FROM now LEFT JOIN earlier USING (target, code, object)
        UNION ALL
        SELECT target, code, severity, object, message, suggestion, run_id, 'gone'
          FROM earlier WHERE (target, code, object) NOT IN (SELECT target, code, object FROM now)) ",
            $last
        )
    };
}

const TRACKED: &str = tracked!(
    "SELECT * FROM tracked
      ORDER BY state = 'gone', CASE severity WHEN 'critical' THEN 0 WHEN 'warning' THEN 1 ELSE 2 END,
               state, target, code, object LIMIT ?4"
);

const TRACKED_COUNTS: &str =
    tracked!("SELECT state, severity, count(*) AS n FROM tracked GROUP BY state, severity");

/// Bare columns beside a single max() or min() come from its row; so the last
/// value is asked for apart from the first.
const SERIES: &str = "
    WITH chosen AS (
        SELECT object, value AS last, max(measured_at) FROM measurements
         WHERE target = ?1 AND metric = ?2 AND measured_at >= ?3 AND measured_at < ?4
         GROUP BY object ORDER BY value DESC, object LIMIT ?6)
    SELECT chosen.object, chosen.last,
           (SELECT value FROM measurements m WHERE m.target = ?1 AND m.metric = ?2
               AND m.object = chosen.object AND m.measured_at >= ?3
             ORDER BY m.measured_at LIMIT 1) AS first,
           CAST((julianday(m.measured_at) - julianday(?3)) / (julianday(?4) - julianday(?3)) * ?5 AS INTEGER) AS part,
           avg(m.value) AS value
      FROM chosen JOIN measurements m ON m.target = ?1 AND m.metric = ?2 AND m.object = chosen.object
       AND m.measured_at >= ?3 AND m.measured_at < ?4
     GROUP BY chosen.object, part ORDER BY chosen.last DESC, chosen.object, part";

const DAYS: &str = "
    SELECT substr(started_at, 1, 10) AS day, status, count(*) AS runs
      FROM runs WHERE started_at >= ?1 AND started_at < ?2
     GROUP BY day, status ORDER BY day, status";

const TASK_DAYS: &str = "
    SELECT substr(started_at, 1, 10) AS day, status, count(*) AS runs
      FROM runs WHERE started_at >= ?1 AND started_at < ?2 AND task = ?3
     GROUP BY day, status ORDER BY day, status";

#[async_trait]
impl Summaries for SqliteStore {
    async fn totals(&self, period: &Period) -> Result<Vec<Total>, HistoryError> {
        sqlx::query_as(TOTALS)
            .bind(time(period.since))
            .bind(time(period.until))
            .fetch_all(&self.readers)
            .await
            .map_err(self.failed("sum up runs"))
    }

    async fn task_totals(
        &self,
        period: &Period,
        recent: u32,
    ) -> Result<Vec<TaskTotals>, HistoryError> {
        sqlx::query_as(TASKS)
            .bind(time(period.since))
            .bind(time(period.until))
            .bind(recent)
            .fetch_all(&self.readers)
            .await
            .map_err(self.failed("sum up tasks"))
    }

    async fn gains(&self, period: &Period, most: u32) -> Result<Vec<Gain>, HistoryError> {
        sqlx::query_as(GAINS)
            .bind(time(period.since))
            .bind(time(period.until))
            .bind(most)
            .fetch_all(&self.readers)
            .await
            .map_err(self.failed("find gains"))
    }

    async fn troubles(&self, period: &Period, most: u32) -> Result<Vec<Trouble>, HistoryError> {
        const OPERATION: &str = "find failures";
        let mut reading = self.read(OPERATION).await?;
        let mut troubles: Vec<Trouble> = Vec::new();
        for sql in [RUN_TROUBLES, STEP_TROUBLES] {
            let found: Vec<Trouble> = sqlx::query_as(sql)
                .bind(time(period.since))
                .bind(time(period.until))
                .bind(most)
                .fetch_all(&mut *reading)
                .await
                .map_err(self.failed(OPERATION))?;
            troubles.extend(found);
        }
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
        let mut reading = self.read(OPERATION).await?;
        let tasks = serde_json::json!(tasks).to_string();
        let (since, until) = (time(period.since), time(period.until));
        let listed = sqlx::query_as(TRACKED)
            .bind(&since)
            .bind(&until)
            .bind(&tasks)
            .bind(most)
            .fetch_all(&mut *reading)
            .await
            .map_err(self.failed(OPERATION))?;
        let counts = sqlx::query(TRACKED_COUNTS)
            .bind(&since)
            .bind(&until)
            .bind(&tasks)
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
    }

    async fn series(
        &self,
        target: &str,
        metric: &str,
        period: &Period,
        parts: u32,
        most: u32,
    ) -> Result<Vec<Series>, HistoryError> {
        let rows = sqlx::query(SERIES)
            .bind(target)
            .bind(metric)
            .bind(time(period.since))
            .bind(time(period.until))
            .bind(parts)
            .bind(most)
            .fetch_all(&self.readers)
            .await
            .map_err(self.failed("read a time series"))?;
        let mut all: Vec<Series> = Vec::new();
        for row in &rows {
            let object: String = row.get("object");
            if all.last().is_none_or(|series| series.object != object) {
                all.push(Series {
                    object,
                    first: row.get("first"),
                    last: row.get("last"),
                    points: Vec::new(),
                });
            }
            if let Some(series) = all.last_mut() {
                series.points.push((row.get("part"), row.get("value")));
            }
        }
        Ok(all)
    }

    async fn days(&self, period: &Period, task: Option<&str>) -> Result<Vec<Day>, HistoryError> {
        let query = match task {
            Some(task) => sqlx::query_as(TASK_DAYS)
                .bind(time(period.since))
                .bind(time(period.until))
                .bind(task),
            None => sqlx::query_as(DAYS)
                .bind(time(period.since))
                .bind(time(period.until)),
        };
        query
            .fetch_all(&self.readers)
            .await
            .map_err(self.failed("sum up days"))
    }
}

impl FromRow<'_, SqliteRow> for Total {
    fn from_row(row: &SqliteRow) -> Result<Total, sqlx::Error> {
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

impl FromRow<'_, SqliteRow> for TaskTotals {
    fn from_row(row: &SqliteRow) -> Result<TaskTotals, sqlx::Error> {
        let recent: String = row.try_get("recent")?;
        let mut recent_ms: Vec<i64> =
            serde_json::from_str(&recent).map_err(|error| unreadable("recent", error))?;
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
            last_run: id_of(row, "last_run")?,
            last_status: word_of(row, "last_status", RunStatus::from_word)?,
            last_started_at: time_of(row, "last_started_at")?,
            last_duration_ms: row.try_get("last_duration_ms")?,
            last_success_at: maybe_time_of(row, "last_success_at")?,
            recent_ms,
        })
    }
}

impl FromRow<'_, SqliteRow> for Gain {
    fn from_row(row: &SqliteRow) -> Result<Gain, sqlx::Error> {
        Ok(Gain {
            run: id_of(row, "id")?,
            task: row.try_get("task")?,
            target: row.try_get("target")?,
            action: row.try_get("action")?,
            object: row.try_get("object")?,
            at: time_of(row, "started_at")?,
            bytes_before: row.try_get("bytes_before")?,
            bytes_after: row.try_get("bytes_after")?,
        })
    }
}

impl FromRow<'_, SqliteRow> for Trouble {
    fn from_row(row: &SqliteRow) -> Result<Trouble, sqlx::Error> {
        let waits: String = row.try_get("lock_waits")?;
        let waits: Vec<LockWait> =
            serde_json::from_str(&waits).map_err(|error| unreadable("lock_waits", error))?;
        let at: DateTime<Utc> = time_of(row, "at")?;
        Ok(Trouble {
            run: id_of(row, "id")?,
            task: row.try_get("task")?,
            target: row.try_get("target")?,
            action: row.try_get("action")?,
            object: row.try_get("object")?,
            at,
            times: row.try_get("times")?,
            failed: row.try_get("failed")?,
            error: row.try_get("error")?,
            blocker: waits.into_iter().last(),
        })
    }
}

impl FromRow<'_, SqliteRow> for TrackedFinding {
    fn from_row(row: &SqliteRow) -> Result<TrackedFinding, sqlx::Error> {
        Ok(TrackedFinding {
            state: word_of(row, "state", FindingState::from_word)?,
            code: row.try_get("code")?,
            severity: word_of(row, "severity", severity_from_word)?,
            target: row.try_get("target")?,
            object: row.try_get("object")?,
            message: row.try_get("message")?,
            suggestion: row.try_get("suggestion")?,
            run: id_of(row, "run_id")?,
        })
    }
}

impl FromRow<'_, SqliteRow> for Day {
    fn from_row(row: &SqliteRow) -> Result<Day, sqlx::Error> {
        Ok(Day {
            day: row.try_get("day")?,
            status: word_of(row, "status", RunStatus::from_word)?,
            runs: row.try_get("runs")?,
        })
    }
}
