//! Sums over runs, steps, findings and measurements.

use async_trait::async_trait;

use super::SqliteStore;
use super::rows::time;
use crate::history::HistoryError;
use crate::history::rows::finding_count;
use crate::history::summary::{
    By, Day, Gain, Period, Series, Summaries, TaskTotals, TrackedFindings, Trouble, series_of,
};

/// Every task with its targets, found by jumping from one to the next in the
/// index, so that the number of runs does not matter. The last of each is NULL.
macro_rules! of_pairs {
    ($($rest:expr),+) => {
        concat!(
            "
    WITH RECURSIVE names(task) AS (
        SELECT min(task) FROM runs
        UNION ALL
        SELECT (SELECT min(runs.task) FROM runs WHERE runs.task > names.task)
          FROM names WHERE names.task IS NOT NULL),
    pairs(task, target) AS (
        SELECT names.task, (SELECT min(runs.target) FROM runs WHERE runs.task = names.task)
          FROM names WHERE names.task IS NOT NULL
        UNION ALL
        SELECT pairs.task, (SELECT min(runs.target) FROM runs
                             WHERE runs.task = pairs.task AND runs.target > pairs.target)
          FROM pairs WHERE pairs.target IS NOT NULL),",
            $($rest),+
        )
    };
}

/// Sums come as JSON, because several of them cannot be asked for at once
/// otherwise without sorting all runs.
const TASKS: &str = of_pairs!(
    "
    ends AS (
        SELECT *, (SELECT id FROM runs
                    WHERE task = pairs.task AND target = pairs.target AND started_at < ?2
                    ORDER BY started_at DESC, id DESC LIMIT 1) AS last_run
          FROM pairs WHERE target IS NOT NULL)
    SELECT last.task, last.target, last.id AS last_run, last.kind, last.status AS last_status,
           last.started_at AS last_started_at, last.duration_ms AS last_duration_ms,
           (SELECT json_array(count(*), sum(status IN ('failed', 'interrupted')),
                              sum(status = 'partial'), sum(status = 'incomplete'),
                              sum(duration_ms), sum(rows), sum(bytes_before - bytes_after))
              FROM runs INDEXED BY runs_task_sums
             WHERE task = last.task AND target = last.target
               AND started_at >= ?1 AND started_at < ?2) AS sums,
           (SELECT started_at FROM runs
             WHERE task = last.task AND target = last.target AND started_at < ?2
               AND status = 'succeeded' ORDER BY started_at DESC LIMIT 1) AS last_success_at,
           (SELECT json_group_array(duration_ms)
              FROM (SELECT duration_ms FROM runs
                     WHERE task = last.task AND target = last.target AND started_at < ?2
                       AND status IN ('succeeded', 'incomplete', 'partial', 'failed')
                     ORDER BY started_at DESC LIMIT ?3)) AS recent
      FROM ends JOIN runs last ON last.id = ends.last_run
     ORDER BY last.task, last.target"
);

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

/// Bare columns beside a single max() come from its row. Counting needs the
/// index alone, and only what is shown is read from the steps.
const STEP_TROUBLES: &str = "
    SELECT troubled.*, runs.id, steps.error, steps.lock_waits
      FROM (SELECT runs.task, runs.target, steps.run_id, steps.seq, steps.action, steps.object,
                   max(steps.started_at) AS at, count(*) AS times, steps.status = 'failed' AS failed
              FROM steps INDEXED BY steps_troubled JOIN runs ON runs.id = steps.run_id
             WHERE (steps.status = 'failed' OR steps.lock_waits <> '[]')
               AND steps.started_at >= ?1 AND steps.started_at < ?2
             GROUP BY runs.task, runs.target, steps.action, steps.object
             ORDER BY failed DESC, at DESC LIMIT ?3) AS troubled
      JOIN steps USING (run_id, seq) JOIN runs ON runs.id = troubled.run_id
     ORDER BY failed DESC, at DESC";

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
        of_pairs!(
            "
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
          FROM pairs WHERE target IS NOT NULL
           AND (?3 = '[]' OR task IN (SELECT value FROM json_each(?3)))),
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

/// The last value of every object is looked up in the index, and only those of
/// the highest are read, part by part.
const SERIES: &str = "
    WITH RECURSIVE objects(nth, target, mth, metric, most, object) AS (
        SELECT t.key, t.value, k.key, k.value ->> 0, k.value ->> 1,
               (SELECT min(object) FROM measurements WHERE target = t.value AND metric = k.value ->> 0)
          FROM json_each(?1) t, json_each(?2) k
        UNION ALL
        SELECT nth, target, mth, metric, most,
               (SELECT min(m.object) FROM measurements m
                 WHERE m.target = objects.target AND m.metric = objects.metric
                   AND m.object > objects.object)
          FROM objects WHERE object IS NOT NULL),
    ends AS (
        SELECT *, (SELECT value FROM measurements m
                    WHERE m.target = objects.target AND m.metric = objects.metric
                      AND m.object = objects.object AND m.measured_at >= ?3 AND m.measured_at < ?4
                    ORDER BY m.measured_at DESC LIMIT 1) AS last
          FROM objects WHERE object IS NOT NULL),
    ranked AS (
        SELECT *, row_number() OVER (PARTITION BY nth, mth ORDER BY last DESC, object) AS place
          FROM ends WHERE last IS NOT NULL),
    chosen AS MATERIALIZED (
        SELECT *, (SELECT value FROM measurements m
                    WHERE m.target = ranked.target AND m.metric = ranked.metric
                      AND m.object = ranked.object AND m.measured_at >= ?3
                    ORDER BY m.measured_at LIMIT 1) AS first
          FROM ranked WHERE place <= most),
    points AS MATERIALIZED (
        SELECT chosen.*, part.key AS part,
               (SELECT avg(m.value) FROM measurements m
                 WHERE m.target = chosen.target AND m.metric = chosen.metric
                   AND m.object = chosen.object AND m.measured_at >= part.value ->> 0
                   AND m.measured_at < part.value ->> 1) AS value
          FROM chosen, json_each(?5) part)
    SELECT target, metric, object, first, last, part, value FROM points
     WHERE value IS NOT NULL ORDER BY nth, mth, place, part";

/// Days come from an index in their order, so that nothing is sorted but sums.
macro_rules! days {
    ($name:literal) => {
        concat!(
            "SELECT day, ",
            $name,
            " AS name, status, sum(runs) AS runs, sum(duration_ms) AS duration_ms,
                    sum(rows) AS rows, sum(bytes_reclaimed) AS bytes_reclaimed
               FROM (SELECT substr(started_at, 1, 10) AS day, task, kind, status, count(*) AS runs,
                            sum(duration_ms) AS duration_ms, sum(rows) AS rows,
                            sum(bytes_before - bytes_after) AS bytes_reclaimed
                       FROM runs INDEXED BY runs_by_day
                      WHERE substr(started_at, 1, 10) BETWEEN substr(?1, 1, 10) AND substr(?2, 1, 10)
                        AND started_at >= ?1 AND started_at < ?2
                      GROUP BY substr(started_at, 1, 10), task, kind, status)
              GROUP BY day, name, status ORDER BY day, name, status"
        )
    };
}
const DAYS_BY_KIND: &str = days!("kind");
const DAYS_BY_TASK: &str = days!("task");

#[async_trait]
impl Summaries for SqliteStore {
    async fn days(&self, period: &Period, by: By) -> Result<Vec<Day>, HistoryError> {
        let sql = match by {
            By::Kind => DAYS_BY_KIND,
            By::Task => DAYS_BY_TASK,
        };
        sqlx::query_as(sql)
            .bind(time(period.since))
            .bind(time(period.until))
            .fetch_all(&self.readers)
            .await
            .map_err(self.failed("sum up days"))
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
        let counts: Result<Vec<_>, sqlx::Error> = counts.iter().map(finding_count).collect();
        Ok(TrackedFindings {
            listed,
            counts: counts.map_err(self.failed(OPERATION))?,
        })
    }

    async fn series(
        &self,
        targets: &[String],
        metrics: &[(&str, u32)],
        period: &Period,
        parts: u32,
    ) -> Result<Vec<Series>, HistoryError> {
        let parts: Vec<_> = period
            .parts(parts)
            .iter()
            .map(|part| [time(part.since), time(part.until)])
            .collect();
        sqlx::query_as(SERIES)
            .bind(serde_json::json!(targets).to_string())
            .bind(serde_json::json!(metrics).to_string())
            .bind(time(period.since))
            .bind(time(period.until))
            .bind(serde_json::json!(parts).to_string())
            .fetch_all(&self.readers)
            .await
            .map(series_of)
            .map_err(self.failed("read time series"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::scans;
    use super::*;

    #[tokio::test]
    async fn sums_do_not_read_the_whole_history() {
        for sql in [
            DAYS_BY_KIND,
            DAYS_BY_TASK,
            TASKS,
            STEP_TROUBLES,
            RUN_TROUBLES,
            TRACKED,
            TRACKED_COUNTS,
            SERIES,
        ] {
            assert_eq!(scans(sql).await, [""; 0], "{sql}");
        }
        // The best gains come first in their index, so it is left early.
        let gains = scans(GAINS).await;
        assert!(
            matches!(&gains[..], [only] if only.contains("steps_gains")),
            "{gains:?}"
        );
    }
}
