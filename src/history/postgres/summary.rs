//! Sums over runs, steps, findings and measurements.

use async_trait::async_trait;

use super::rows::time;
use super::{PostgresStore, bounded, rows_of, statement};
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
        SELECT min(task) FROM maint.runs
        UNION ALL
        SELECT (SELECT min(runs.task) FROM maint.runs WHERE runs.task > names.task)
          FROM names WHERE names.task IS NOT NULL),
    pairs(task, target) AS (
        SELECT names.task, (SELECT min(runs.target) FROM maint.runs WHERE runs.task = names.task)
          FROM names WHERE names.task IS NOT NULL
        UNION ALL
        SELECT pairs.task, (SELECT min(runs.target) FROM maint.runs
                             WHERE runs.task = pairs.task AND runs.target > pairs.target)
          FROM pairs WHERE pairs.target IS NOT NULL),",
            $($rest),+
        )
    };
}

const TASKS: &str = of_pairs!(
    "
    ends AS (
        SELECT (SELECT id FROM maint.runs
                 WHERE task = pairs.task AND target = pairs.target AND started_at < $2
                 ORDER BY started_at DESC, id DESC LIMIT 1) AS last_run
          FROM pairs WHERE target IS NOT NULL)
    SELECT last.task, last.target, last.id AS last_run, last.kind, last.status AS last_status,
           last.started_at AS last_started_at, last.duration_ms AS last_duration_ms,
           (SELECT json_build_array(count(*), count(*) FILTER (WHERE status IN ('failed', 'interrupted')),
                                    count(*) FILTER (WHERE status = 'partial'),
                                    count(*) FILTER (WHERE status = 'incomplete'), sum(duration_ms),
                                    sum(rows), sum(bytes_before - bytes_after))::text
              FROM maint.runs
             WHERE task = last.task AND target = last.target
               AND started_at >= $1 AND started_at < $2) AS sums,
           (SELECT started_at FROM maint.runs
             WHERE task = last.task AND target = last.target AND started_at < $2
               AND status = 'succeeded' ORDER BY started_at DESC LIMIT 1) AS last_success_at,
           (SELECT coalesce(json_agg(duration_ms ORDER BY started_at DESC), '[]')::text
              FROM (SELECT duration_ms, started_at FROM maint.runs
                     WHERE task = last.task AND target = last.target AND started_at < $2
                       AND status IN ('succeeded', 'incomplete', 'partial', 'failed')
                     ORDER BY started_at DESC LIMIT $3) AS latest) AS recent
      FROM ends JOIN maint.runs last ON last.id = ends.last_run
     ORDER BY last.task COLLATE \"C\", last.target COLLATE \"C\""
);

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

/// Only what is shown is read from the steps with its texts.
const STEP_TROUBLES: &str = "
    WITH troubled AS (
        SELECT runs.id, runs.task, runs.target, steps.seq, steps.action, steps.object,
               steps.started_at AS at, count(*) OVER same AS times,
               row_number() OVER (same ORDER BY steps.started_at DESC) AS nth,
               steps.status = 'failed' AS failed
          FROM maint.steps JOIN maint.runs ON runs.id = steps.run_id
         WHERE (steps.status = 'failed' OR steps.lock_waits::text <> '[]')
           AND steps.started_at >= $1 AND steps.started_at < $2
        WINDOW same AS (PARTITION BY runs.task, runs.target, steps.action, steps.object)),
    shown AS MATERIALIZED (
        SELECT * FROM troubled WHERE nth = 1 ORDER BY failed DESC, at DESC LIMIT $3)
    SELECT shown.*, steps.error, steps.lock_waits::text AS lock_waits
      FROM shown JOIN maint.steps ON steps.run_id = shown.id AND steps.seq = shown.seq
     ORDER BY failed DESC, at DESC";

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
        of_pairs!(
            "
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
          FROM pairs WHERE target IS NOT NULL
           AND (cardinality($3::text[]) = 0 OR task = ANY ($3::text[]))),
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

/// The last value of every object is looked up in the index, and only those of
/// the highest are read, part by part.
const SERIES: &str = "
    WITH RECURSIVE objects(nth, target, mth, metric, most, object) AS (
        SELECT t.nth, t.target, m.mth, m.metric, m.most,
               (SELECT min(object) FROM maint.measurements
                 WHERE target = t.target AND metric = m.metric)
          FROM unnest($1::text[]) WITH ORDINALITY AS t (target, nth),
               unnest($2::text[], $3::bigint[]) WITH ORDINALITY AS m (metric, most, mth)
        UNION ALL
        SELECT nth, target, mth, metric, most,
               (SELECT min(m.object) FROM maint.measurements m
                 WHERE m.target = objects.target AND m.metric = objects.metric
                   AND m.object > objects.object)
          FROM objects WHERE object IS NOT NULL),
    ends AS (
        SELECT *, (SELECT value FROM maint.measurements m
                    WHERE m.target = objects.target AND m.metric = objects.metric
                      AND m.object = objects.object AND m.measured_at >= $4 AND m.measured_at < $5
                    ORDER BY m.measured_at DESC LIMIT 1) AS last
          FROM objects WHERE object IS NOT NULL),
    ranked AS (
        SELECT *, row_number() OVER (PARTITION BY nth, mth
                                     ORDER BY last DESC, object COLLATE \"C\") AS place
          FROM ends WHERE last IS NOT NULL),
    chosen AS MATERIALIZED (
        SELECT *, (SELECT value FROM maint.measurements m
                    WHERE m.target = ranked.target AND m.metric = ranked.metric
                      AND m.object = ranked.object AND m.measured_at >= $4
                    ORDER BY m.measured_at LIMIT 1) AS first
          FROM ranked WHERE place <= most)
    SELECT chosen.target, chosen.metric, chosen.object, chosen.first, chosen.last,
           part.nth - 1, part_of.value
      FROM chosen
     CROSS JOIN unnest($6::timestamptz[], $7::timestamptz[]) WITH ORDINALITY AS part (since, until, nth)
     CROSS JOIN LATERAL (
           SELECT avg(m.value) AS value FROM maint.measurements m
            WHERE m.target = chosen.target AND m.metric = chosen.metric
              AND m.object = chosen.object AND m.measured_at >= part.since
              AND m.measured_at < part.until) AS part_of
     WHERE part_of.value IS NOT NULL
     ORDER BY chosen.nth, chosen.mth, chosen.place, part.nth";

macro_rules! days {
    ($name:literal) => {
        concat!(
            "SELECT to_char(started_at AT TIME ZONE 'UTC', 'YYYY-MM-DD') AS day, ",
            $name,
            " AS name, status, count(*) AS runs, sum(duration_ms)::bigint AS duration_ms,
                    sum(rows)::bigint AS rows,
                    sum(bytes_before - bytes_after)::bigint AS bytes_reclaimed
               FROM maint.runs WHERE started_at >= $1 AND started_at < $2
              GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
        )
    };
}
const DAYS_BY_KIND: &str = days!("kind");
const DAYS_BY_TASK: &str = days!("task");

#[async_trait]
impl Summaries for PostgresStore {
    async fn days(&self, period: &Period, by: By) -> Result<Vec<Day>, HistoryError> {
        let sql = match by {
            By::Kind => DAYS_BY_KIND,
            By::Task => DAYS_BY_TASK,
        };
        let query = rows_of(sql)
            .bind(time(period.since))
            .bind(time(period.until));
        bounded(self, self.fetch("sum up days", query)).await
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
            let counts: Result<Vec<_>, sqlx::Error> = counts.iter().map(finding_count).collect();
            Ok(TrackedFindings {
                listed,
                counts: counts.map_err(self.failed(OPERATION))?,
            })
        };
        bounded(self, compared).await
    }

    async fn series(
        &self,
        targets: &[String],
        metrics: &[(&str, u32)],
        period: &Period,
        parts: u32,
    ) -> Result<Vec<Series>, HistoryError> {
        let (names, most): (Vec<&str>, Vec<i64>) = metrics
            .iter()
            .map(|(name, most)| (*name, i64::from(*most)))
            .unzip();
        let (begins, ends): (Vec<_>, Vec<_>) = period
            .parts(parts)
            .iter()
            .map(|part| (time(part.since), time(part.until)))
            .unzip();
        let query = rows_of(SERIES)
            .bind(targets)
            .bind(names)
            .bind(most)
            .bind(time(period.since))
            .bind(time(period.until))
            .bind(begins)
            .bind(ends);
        let rows = bounded(self, self.fetch("read time series", query)).await?;
        Ok(series_of(rows))
    }
}
