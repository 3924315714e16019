//! Sums over runs, steps, findings and measurements.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::rows::finding_count;
use super::series::{DAYS_BY_KIND, DAYS_BY_TASK, SERIES};
use super::{Sql, SqlStore, Value, time_text};
use crate::history::HistoryError;
use crate::history::summary::{
    By, Day, Gain, Period, Series, Summaries, TaskTotals, TrackedFindings, Trouble, series_of,
};

/// Every task with its targets, found by jumping from one to the next in the
/// index, so that the number of runs does not matter. The last of each is NULL.
macro_rules! of_pairs {
    ($($rest:expr),+) => {
        concat!(
            "WITH RECURSIVE names(task) AS (
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

/// Sums come as JSON, because several of them cannot be asked for at once
/// otherwise without sorting all runs.
static TASKS: Sql = Sql::new(of_pairs!(
    "
    ends AS (
        SELECT (SELECT id FROM maint.runs
                 WHERE task = pairs.task AND target = pairs.target AND started_at < $2
                 ORDER BY started_at DESC, id DESC LIMIT 1) AS last_run,
               (SELECT id FROM maint.runs
                 WHERE task = pairs.task AND target = pairs.target AND started_at < $2
                   AND status IN ('succeeded', 'incomplete', 'partial', 'failed', 'interrupted')
                 ORDER BY started_at DESC, id DESC LIMIT 1) AS outcome_run
          FROM pairs WHERE target IS NOT NULL)
    SELECT last.task, last.target, last.id AS last_run, last.kind, last.status AS last_status,
           last.started_at AS last_started_at, last.duration_ms AS last_duration_ms,
           outcome.id AS outcome_run, outcome.status AS outcome_status,
           outcome.started_at AS outcome_started_at,
           (SELECT {sqlite: json_array}{postgres: json_build_array}(
                       count(*), count(*) FILTER (WHERE status IN ('failed', 'interrupted')),
                       count(*) FILTER (WHERE status = 'partial'),
                       count(*) FILTER (WHERE status = 'incomplete'),
                       sum(duration_ms), sum(rows), sum(bytes_before - bytes_after))
              FROM maint.runs {sqlite: INDEXED BY runs_task_sums}
             WHERE task = last.task AND target = last.target
               AND started_at >= $1 AND started_at < $2) AS sums,
           (SELECT started_at FROM maint.runs
             WHERE task = last.task AND target = last.target AND started_at < $2
               AND status = 'succeeded' ORDER BY started_at DESC LIMIT 1) AS last_success_at,
           (SELECT {sqlite: json_group_array(duration_ms)}{postgres:
                    coalesce(json_agg(duration_ms ORDER BY started_at DESC), '[]')}
              FROM (SELECT duration_ms, started_at FROM maint.runs
                     WHERE task = last.task AND target = last.target AND started_at < $2
                       AND status IN ('succeeded', 'incomplete', 'partial', 'failed')
                     ORDER BY started_at DESC LIMIT $3) AS latest) AS recent
      FROM ends JOIN maint.runs AS last ON last.id = ends.last_run
           LEFT JOIN maint.runs AS outcome ON outcome.id = ends.outcome_run
     ORDER BY last.task {bytewise}, last.target {bytewise}"
));

/// The best are chosen within the index, and only they are read. A view that is smaller since it
/// was refreshed has fewer rows, and has given nothing back.
static GAINS: Sql = Sql::new(
    "WITH best AS MATERIALIZED (
        SELECT run_id, seq, bytes_before - bytes_after AS gain
          FROM maint.steps {sqlite: INDEXED BY steps_gains}
         WHERE status = 'succeeded' AND bytes_before > bytes_after AND action <> 'refresh'
           AND started_at >= $1 AND started_at < $2
         ORDER BY bytes_before - bytes_after DESC LIMIT $3)
    SELECT runs.id, runs.task, runs.target, steps.action, steps.object, steps.started_at,
           steps.bytes_before, steps.bytes_after
      FROM best JOIN maint.steps USING (run_id, seq) JOIN maint.runs ON runs.id = best.run_id
     ORDER BY best.gain DESC, run_id, seq",
);

/// Counting needs the index alone, and only what is shown is read from the
/// steps with its texts.
static STEP_TROUBLES: Sql = Sql::new(
    "WITH troubled AS (
        SELECT runs.id, runs.task, runs.target, steps.seq, steps.action, steps.object,
               steps.started_at AS at, count(*) OVER same AS times,
               row_number() OVER (same ORDER BY steps.started_at DESC) AS nth,
               steps.status = 'failed' AS failed, steps.status = 'skipped' AS left_undone
          FROM maint.steps {sqlite: INDEXED BY steps_troubled} JOIN maint.runs ON runs.id = steps.run_id
         WHERE (steps.status = 'failed' OR steps.lock_waits{postgres:::text} <> '[]')
           AND steps.started_at >= $1 AND steps.started_at < $2
        WINDOW same AS (PARTITION BY runs.task, runs.target, steps.action, steps.object)),
    shown AS MATERIALIZED (
        SELECT * FROM troubled WHERE nth = 1 ORDER BY failed DESC, at DESC LIMIT $3)
    SELECT shown.*, steps.error, steps.lock_waits
      FROM shown JOIN maint.steps ON steps.run_id = shown.id AND steps.seq = shown.seq
     ORDER BY failed DESC, at DESC",
);

static RUN_TROUBLES: Sql = Sql::new(
    "WITH troubled AS (
        SELECT id, task, target, '' AS action, '' AS object, started_at AS at,
               count(*) OVER same AS times, row_number() OVER (same ORDER BY started_at DESC) AS nth,
               TRUE AS failed, FALSE AS left_undone, error, '[]' AS lock_waits
          FROM maint.runs
         WHERE error IS NOT NULL AND started_at >= $1 AND started_at < $2
           AND status IN ('failed', 'partial', 'interrupted')
        WINDOW same AS (PARTITION BY task, target, error))
    SELECT * FROM troubled WHERE nth = 1 ORDER BY at DESC LIMIT $3",
);

/// The findings of the run named in a column of `looked`, and of those that looked at a part
/// since then, one of each sort: what a part of the task does not say is not gone. Of runs that
/// were limited in the same words, the last one counts.
macro_rules! seen_by {
    ($run:literal, $moment:literal) => {
        concat!(
            "(SELECT * FROM (
                SELECT seen.target, findings.*,
                       row_number() OVER (PARTITION BY seen.target, findings.code, findings.object
                                          ORDER BY run_id DESC, seq) AS nth
                  FROM (SELECT target, ",
            $run,
            " AS id FROM looked
                        UNION ALL
                        SELECT target, id FROM (
                            SELECT looked.target, runs.id,
                                   row_number() OVER (PARTITION BY runs.task, runs.target, runs.part
                                                      ORDER BY runs.started_at DESC, runs.id DESC) AS nth
                              FROM looked JOIN maint.runs ON runs.task = looked.task
                               AND runs.target = looked.target AND runs.started_at < ",
            $moment,
            "                  AND runs.part IS NOT NULL AND ",
            got_to_look!(),
            "              WHERE NOT EXISTS (SELECT 1 FROM maint.runs AS whole WHERE whole.id = looked.",
            $run,
            "                                   AND whole.started_at >= runs.started_at)) AS parts
                         WHERE nth = 1) AS seen
                  JOIN maint.findings ON run_id = seen.id) AS every WHERE nth = 1)"
        )
    };
}

/// Whether a run got as far as looking: a failed one that has steps, or has found something
/// other than who has the lock.
macro_rules! got_to_look {
    () => {
        "(runs.status IN ('succeeded', 'incomplete', 'partial') OR runs.status = 'failed'
          AND (EXISTS (SELECT 1 FROM maint.steps WHERE run_id = runs.id)
            OR EXISTS (SELECT 1 FROM maint.findings WHERE run_id = runs.id AND code NOT IN ('claim.stranger', 'claim.left_over'))))"
    };
}

/// The last run of a pair before a moment that looked at all of the task.
macro_rules! looked_before {
    ($moment:literal) => {
        concat!(
            "(SELECT id FROM maint.runs
               WHERE task = pairs.task AND target = pairs.target AND part IS NULL AND started_at < ",
            $moment,
            "    AND ",
            got_to_look!(),
            "  ORDER BY started_at DESC, id DESC LIMIT 1)"
        )
    };
}

/// Shared by the list of findings and their counts: a finding is told by
/// target, code and object, because its words carry numbers that change.
macro_rules! tracked {
    ($last:literal) => {
        of_pairs!(
            "
    looked AS (
        SELECT task, target, ",
            looked_before!("$2"),
            " AS now_run, ",
            looked_before!("$1"),
            " AS then_run
          FROM pairs WHERE target IS NOT NULL
           AND (NOT EXISTS (SELECT 1 FROM {each}($3)) OR task IN (SELECT value FROM {each}($3)))),
    now AS ",
            seen_by!("now_run", "$2"),
            ",
    earlier AS ",
            seen_by!("then_run", "$1"),
            ",
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

static TRACKED: Sql = Sql::new(tracked!(
    "SELECT * FROM tracked
      ORDER BY state = 'gone', CASE severity WHEN 'critical' THEN 0 WHEN 'warning' THEN 1 ELSE 2 END,
               state, target {bytewise}, code {bytewise}, object {bytewise} LIMIT $4"
));

static TRACKED_COUNTS: Sql = Sql::new(tracked!(
    "SELECT state, severity, count(*) AS n FROM tracked GROUP BY state, severity"
));

/// Runs of the task and target of the run `$1`.
macro_rules! of_its_pair {
    ($seen:literal) => {
        concat!(
            "maint.runs JOIN pair ON runs.task = pair.task AND runs.target = pair.target
              WHERE runs.started_at > $4 AND ",
            $seen,
            " EXISTS (SELECT 1 FROM maint.findings WHERE run_id = runs.id AND code = $2 AND object = $3)"
        )
    };
}

static SEEN_SINCE: Sql = Sql::new(concat!(
    "WITH pair AS (SELECT task, target FROM maint.runs WHERE id = $1),
          unseen AS (SELECT runs.started_at FROM ",
    of_its_pair!("runs.part IS NULL AND NOT"),
    "           AND ",
    got_to_look!(),
    "         ORDER BY runs.started_at DESC LIMIT 1)
     SELECT runs.started_at FROM ",
    of_its_pair!(""),
    "   AND NOT EXISTS (SELECT 1 FROM unseen WHERE unseen.started_at >= runs.started_at)
      ORDER BY runs.started_at LIMIT 1",
));

/// The period and so many.
fn most_in(period: &Period, most: u32) -> [Value; 3] {
    [period.since.into(), period.until.into(), most.into()]
}

fn json(list: &impl serde::Serialize) -> Value {
    Value::Json(serde_json::json!(list).to_string())
}

#[async_trait]
impl Summaries for SqlStore {
    async fn days(&self, period: &Period, by: By) -> Result<Vec<Day>, HistoryError> {
        let sql = match by {
            By::Kind => &DAYS_BY_KIND,
            By::Task => &DAYS_BY_TASK,
        };
        let days = sql.with([period.since.into(), period.until.into()]);
        self.fetch("sum up days", days).await
    }

    async fn task_totals(
        &self,
        period: &Period,
        recent: u32,
    ) -> Result<Vec<TaskTotals>, HistoryError> {
        self.fetch("sum up tasks", TASKS.with(most_in(period, recent)))
            .await
    }

    async fn gains(&self, period: &Period, most: u32) -> Result<Vec<Gain>, HistoryError> {
        self.fetch("find gains", GAINS.with(most_in(period, most)))
            .await
    }

    async fn troubles(&self, period: &Period, most: u32) -> Result<Vec<Trouble>, HistoryError> {
        let mut reading = self.read("find failures").await?;
        let mut troubles: Vec<Trouble> = Vec::new();
        for sql in [&RUN_TROUBLES, &STEP_TROUBLES] {
            troubles.extend(
                reading
                    .fetch::<Trouble>(sql.with(most_in(period, most)))
                    .await?,
            );
        }
        reading.commit().await?;
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
        let (since, until) = (period.since.into(), period.until.into());
        let listed = TRACKED.with([since, until, json(&tasks), most.into()]);
        let (since, until) = (period.since.into(), period.until.into());
        let counts = TRACKED_COUNTS.with([since, until, json(&tasks)]);
        let mut reading = self.read("compare findings").await?;
        let found = TrackedFindings {
            listed: reading.fetch(listed).await?,
            counts: reading.fetch_by(counts, finding_count).await?,
        };
        reading.commit().await?;
        Ok(found)
    }

    async fn seen_since(
        &self,
        run: Uuid,
        code: &str,
        object: &str,
        since: DateTime<Utc>,
    ) -> Result<Option<DateTime<Utc>>, HistoryError> {
        let asked = SEEN_SINCE.with([run.into(), code.into(), object.into(), since.into()]);
        let first = self.fetch_by("look up since when a finding is seen", asked, |row| {
            row.time("started_at")
        });
        Ok(first.await?.pop())
    }

    async fn series(
        &self,
        targets: &[String],
        metrics: &[(&str, u32)],
        period: &Period,
        parts: u32,
    ) -> Result<Vec<Series>, HistoryError> {
        let parts = period.parts(parts);
        let parts = parts
            .iter()
            .map(|part| [time_text(part.since), time_text(part.until)]);
        let values = [
            json(&targets),
            json(&metrics),
            period.since.into(),
            period.until.into(),
            json(&parts.collect::<Vec<_>>()),
        ];
        self.fetch("read time series", SERIES.with(values))
            .await
            .map(series_of)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Dialect;
    use super::super::plans::scans;
    use super::*;

    #[tokio::test]
    async fn sums_do_not_read_the_whole_history() {
        for sql in [
            &DAYS_BY_KIND,
            &DAYS_BY_TASK,
            &TASKS,
            &STEP_TROUBLES,
            &RUN_TROUBLES,
            &TRACKED,
            &TRACKED_COUNTS,
            &SEEN_SINCE,
            &SERIES,
        ] {
            let sql = sql.spelled(Dialect::Sqlite);
            assert_eq!(scans(sql).await, [""; 0], "{sql}");
        }
        // The best gains come first in their index, so it is left early.
        let gains = scans(GAINS.spelled(Dialect::Sqlite)).await;
        assert!(
            matches!(&gains[..], [only] if only.contains("steps_gains")),
            "{gains:?}"
        );
    }
}
