//! Sums by day and time series: the two databases find them by different indexes.

use super::Sql;

/// In SQLite days come from an index in their order, so that nothing is sorted
/// but sums.
macro_rules! days {
    ($name:literal) => {
        Sql::pair(
            concat!(
                "SELECT day, ",
                $name,
                " AS name, status, sum(runs) AS runs, sum(duration_ms) AS duration_ms,
                    sum(rows) AS rows, sum(bytes_reclaimed) AS bytes_reclaimed
               FROM (SELECT substr(started_at, 1, 10) AS day, task, kind, status, count(*) AS runs,
                            sum(duration_ms) AS duration_ms, sum(rows) AS rows,
                            sum(bytes_before - bytes_after) AS bytes_reclaimed
                       FROM runs INDEXED BY runs_by_day
                      WHERE substr(started_at, 1, 10) BETWEEN substr($1, 1, 10) AND substr($2, 1, 10)
                        AND started_at >= $1 AND started_at < $2
                      GROUP BY substr(started_at, 1, 10), task, kind, status)
              GROUP BY day, name, status ORDER BY day, name, status"
            ),
            concat!(
                "SELECT to_char(started_at AT TIME ZONE 'UTC', 'YYYY-MM-DD') AS day, ",
                $name,
                " AS name, status, count(*) AS runs, sum(duration_ms)::bigint AS duration_ms,
                    sum(rows)::bigint AS rows,
                    sum(bytes_before - bytes_after)::bigint AS bytes_reclaimed
               FROM maint.runs WHERE started_at >= $1 AND started_at < $2
              GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
            ),
        )
    };
}
pub(super) static DAYS_BY_KIND: Sql = days!("kind");
pub(super) static DAYS_BY_TASK: Sql = days!("task");

/// The last value of every object is looked up in the index, and only those of
/// the highest are read, part by part. Targets, metrics with their number of
/// objects, and parts with their beginning and end come as JSON.
pub(super) static SERIES: Sql = Sql::new(
    "WITH RECURSIVE objects(nth, target, mth, metric, most, object) AS (
        SELECT t.key, t.value, k.key, k.value ->> 0, CAST(k.value ->> 1 AS bigint),
               (SELECT min(object) FROM maint.measurements
                 WHERE target = t.value AND metric = k.value ->> 0)
          FROM {sqlite: json_each($1) AS t, json_each($2) AS k}{postgres:
               json_array_elements_text($1) WITH ORDINALITY AS t (value, key),
               json_array_elements($2) WITH ORDINALITY AS k (value, key)}
        UNION ALL
        SELECT nth, target, mth, metric, most,
               (SELECT min(m.object) FROM maint.measurements m
                 WHERE m.target = objects.target AND m.metric = objects.metric
                   AND m.object > objects.object)
          FROM objects WHERE object IS NOT NULL),
    ends AS (
        SELECT *, (SELECT value FROM maint.measurements m
                    WHERE m.target = objects.target AND m.metric = objects.metric
                      AND m.object = objects.object AND m.measured_at >= $3 AND m.measured_at < $4
                    ORDER BY m.measured_at DESC LIMIT 1) AS last
          FROM objects WHERE object IS NOT NULL),
    ranked AS (
        SELECT *, row_number() OVER (PARTITION BY nth, mth
                                     ORDER BY last DESC, object {bytewise}) AS place
          FROM ends WHERE last IS NOT NULL),
    chosen AS MATERIALIZED (
        SELECT *, (SELECT value FROM maint.measurements m
                    WHERE m.target = ranked.target AND m.metric = ranked.metric
                      AND m.object = ranked.object AND m.measured_at >= $3
                    ORDER BY m.measured_at LIMIT 1) AS first
          FROM ranked WHERE place <= most),
    points AS MATERIALIZED (
        SELECT chosen.*, part.key AS part,
               (SELECT avg(m.value) FROM maint.measurements m
                 WHERE m.target = chosen.target AND m.metric = chosen.metric
                   AND m.object = chosen.object
                   AND m.measured_at >= {sqlite: part.value ->> 0}{postgres: (part.value ->> 0)::timestamptz}
                   AND m.measured_at < {sqlite: part.value ->> 1}{postgres: (part.value ->> 1)::timestamptz}
               ) AS value
          FROM chosen, {sqlite: json_each($5) AS part}{postgres:
               (SELECT value, nth - 1 AS key FROM json_array_elements($5) WITH ORDINALITY AS one (value, nth)) AS part})
    SELECT target, metric, object, first, last, part, value FROM points
     WHERE value IS NOT NULL ORDER BY nth, mth, place, part",
);
