//! Tables: sizes, bloat, dead rows, the age of the oldest rows.

use chrono::{DateTime, Utc};

use super::super::common::{Selection, of_rows, rows};
use super::autovacuum::Autovacuum;
use super::{Snapshot, count};
use crate::engines::EngineError;
use crate::engines::postgres::catalog::{NOT_SYSTEM_SCHEMA, size_of};
use crate::engines::postgres::{RelationName, Session, each};
use crate::plan::{Finding, Measurement, Plan, Severity};

/// How many tables of one complaint are named; more than that is one problem.
const MOST: usize = 5;

/// What has only a few pages is never full, and that is no bloat.
pub(super) const FEWEST_BYTES: i64 = 1 << 20;

/// The largest tables, and the sum of all.
#[derive(Clone, Debug, Default)]
pub(super) struct Sizes {
    pub(super) total: i64,
    pub(super) largest: Vec<Size>,
}

/// One table, in bytes.
#[derive(Clone, Debug)]
pub(super) struct Size {
    pub(super) name: RelationName,
    pub(super) heap: i64,
    pub(super) toast: i64,
    pub(super) indexes: i64,
    /// What the rows would take if they stood side by side; none where
    /// nothing is known about them.
    pub(super) ideal: Option<f64>,
    /// As far as the server knows; none where it was never counted.
    pub(super) rows: Option<f64>,
    /// Blocks that were asked for, and those found in the server's cache.
    pub(super) fetched: i64,
    pub(super) hit: i64,
}

impl Default for Size {
    fn default() -> Self {
        Size {
            name: RelationName::new("", ""),
            heap: 0,
            toast: 0,
            indexes: 0,
            ideal: None,
            rows: None,
            fetched: 0,
            hit: 0,
        }
    }
}

impl Size {
    pub(super) fn bytes(&self) -> i64 {
        self.heap + self.toast + self.indexes
    }
}

// A row costs 4 bytes of line pointer and 24 of header; pages lose 24 bytes
// to their own. Widths are those that ANALYZE saw.
const SIZES: &str = "WITH main AS (
        SELECT c.oid, n.nspname, c.relname, c.reltoastrelid, c.reltuples, c.relnatts,
            coalesce((SELECT o.option_value::float8 FROM pg_catalog.pg_options_to_table(c.reloptions) o
                WHERE o.option_name = 'fillfactor'), 100) / 100 AS fill
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't' AND {not_system}),
    parts AS (
        SELECT m.oid AS main, 'heap' AS part, m.oid AS rel FROM main m
        UNION ALL SELECT m.oid, 'toast', m.reltoastrelid FROM main m WHERE m.reltoastrelid <> 0
        UNION ALL SELECT m.oid, 'toast', x.indexrelid FROM main m JOIN pg_catalog.pg_index x ON x.indrelid = m.reltoastrelid
            WHERE m.reltoastrelid <> 0
        UNION ALL SELECT m.oid, 'index', x.indexrelid FROM main m JOIN pg_catalog.pg_index x ON x.indrelid = m.oid),
    sized AS (
        SELECT p.main, p.part, {size} AS bytes FROM parts p JOIN pg_catalog.pg_class c ON c.oid = p.rel),
    tables AS (
        SELECT s.main, sum(s.bytes) AS total, coalesce(sum(s.bytes) FILTER (WHERE s.part = 'heap'), 0) AS heap,
            coalesce(sum(s.bytes) FILTER (WHERE s.part = 'toast'), 0) AS toast,
            coalesce(sum(s.bytes) FILTER (WHERE s.part = 'index'), 0) AS indexes
        FROM sized s GROUP BY s.main),
    largest AS (
        SELECT t.*, sum(t.total) OVER () AS everything FROM tables t ORDER BY t.total DESC, t.main LIMIT $1)
    SELECT m.nspname::text AS schema, m.relname::text AS name, l.heap::int8 AS heap, l.toast::int8 AS toast, l.indexes::int8 AS indexes, l.everything::int8 AS total,
        CASE WHEN m.reltuples >= 0 AND w.width IS NOT NULL
            THEN m.reltuples::float8 * (28 + w.width) / m.fill * 8192 / 8168 END AS ideal,
        CASE WHEN m.reltuples >= 0 THEN m.reltuples::float8 ELSE nullif(pg_catalog.pg_stat_get_live_tuples(m.oid), 0)::float8 END AS estimated_rows,
        coalesce(pg_catalog.pg_stat_get_blocks_fetched(m.oid), 0) AS fetched, coalesce(pg_catalog.pg_stat_get_blocks_hit(m.oid), 0) AS hit
    FROM largest l JOIN main m ON m.oid = l.main
    LEFT JOIN LATERAL (SELECT (ceil(sum((1 - s.null_frac) * s.avg_width) / 8) * 8)::float8 AS width
        FROM pg_catalog.pg_stats s WHERE s.schemaname = m.nspname AND s.tablename = m.relname AND NOT s.inherited
        -- Columns that nobody gathers statistics of, or whose the role may not see, would be none.
        HAVING count(*) >= (SELECT count(*) FROM pg_catalog.pg_attribute a
            WHERE a.attrelid = m.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated <> 'v')) w ON true
    ORDER BY l.total DESC, l.main";

/// Reads the sizes of all tables, and keeps the largest.
pub(super) async fn sizes(db: &Session, top: u32) -> Result<Sizes, EngineError> {
    let sql = SIZES
        .replace("{not_system}", NOT_SYSTEM_SCHEMA)
        .replace("{size}", &size_of("c"));
    let found = db
        .query("reading the sizes of tables", &sql, &[&i64::from(top)])
        .await?;
    Ok(Sizes {
        total: found.first().map_or(Ok(0), |row| row.named("total"))?,
        largest: each(&found, |row| {
            Ok(Size {
                name: row.relation("schema", "name")?,
                heap: row.named("heap")?,
                toast: row.named("toast")?,
                indexes: row.named("indexes")?,
                ideal: row.named("ideal")?,
                rows: row.named("estimated_rows")?,
                fetched: row.named("fetched")?,
                hit: row.named("hit")?,
            })
        })?,
    })
}

/// Puts the sizes into the time series.
pub(super) fn measure(sizes: &Sizes, plan: &mut Plan) {
    let mut note = |metric: &str, object: String, value: f64| {
        plan.measurements.push(Measurement {
            metric: metric.to_owned(),
            object,
            value,
        });
    };
    note("tables.bytes", String::new(), sizes.total as f64);
    for size in &sizes.largest {
        let object = size.name.to_string();
        note("table.bytes", object.clone(), size.bytes() as f64);
        note("table.index_bytes", object.clone(), size.indexes as f64);
        if let Some(rows) = size.rows {
            note("table.rows", object.clone(), rows);
        }
        // Of a table that was hardly read a share says nothing.
        if size.fetched >= 1_000 {
            let ratio = size.hit as f64 / size.fetched as f64;
            note("table.hit_ratio", object.clone(), ratio);
        }
        if let Some(ideal) = size.ideal.filter(|_| size.heap > FEWEST_BYTES) {
            note(
                "table.bloat",
                object,
                (1.0 - ideal / size.heap as f64).clamp(0.0, 1.0),
            );
        }
    }
}

/// A table with many dead rows.
#[derive(Clone, Debug)]
pub(super) struct Dead {
    name: RelationName,
    dead: i64,
    live: i64,
    vacuumed: Option<DateTime<Utc>>,
}

const DEAD: &str = "SELECT n.nspname::text AS schema, c.relname::text AS name, s.dead, s.live,
        greatest(pg_catalog.pg_stat_get_last_vacuum_time(c.oid), pg_catalog.pg_stat_get_last_autovacuum_time(c.oid)) AS vacuumed
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    CROSS JOIN LATERAL (SELECT coalesce(pg_catalog.pg_stat_get_dead_tuples(c.oid), 0) AS dead,
        coalesce(pg_catalog.pg_stat_get_live_tuples(c.oid), 0) AS live OFFSET 0) s
    WHERE c.relkind IN ('r', 'm') AND {not_system} AND s.dead >= $1::int8 AND s.dead > $2::float8 * (s.dead + s.live)
    ORDER BY s.dead DESC, c.oid LIMIT 100";

/// Tables with too many dead rows, the worst first.
pub(super) async fn dead(db: &Session, options: &Snapshot) -> Result<Vec<Dead>, EngineError> {
    let sql = DEAD.replace("{not_system}", NOT_SYSTEM_SCHEMA);
    let least = i64::try_from(options.min_dead_rows).unwrap_or(i64::MAX);
    let share = options.max_dead.share();
    let found = db
        .query("reading dead rows", &sql, &[&least, &share])
        .await?;
    each(&found, |row| {
        Ok(Dead {
            name: row.relation("schema", "name")?,
            dead: row.named("dead")?,
            live: row.named("live")?,
            vacuumed: row.named("vacuumed")?,
        })
    })
}

/// What is to be said about dead rows.
pub(super) fn judge_dead(
    tables: &[Dead],
    autovacuum: &Autovacuum,
    options: &Snapshot,
    plan: &mut Plan,
) {
    let selection = Selection::new(&options.include, &options.exclude, &options.schemas);
    for table in tables
        .iter()
        .filter(|t| selection.covers(&t.name))
        .take(MOST)
    {
        let vacuumed = table.vacuumed.map_or_else(
            || "it was never vacuumed".to_owned(),
            |at| format!("the last vacuum was on {}", at.format("%Y-%m-%d %H:%M UTC")),
        );
        let holder = autovacuum.holder(table.vacuumed);
        let held_back = holder.map_or_else(String::new, |holder| {
            format!("; a vacuum can remove none of them while {holder} is open")
        });
        plan.findings.push(Finding {
            code: "table.dead_rows".to_owned(),
            severity: Severity::Warning,
            object: table.name.to_string(),
            message: format!(
                "{} of {} of {} are dead ({:.0} %); {vacuumed}{held_back}",
                rows(table.dead as f64),
                of_rows((table.dead + table.live) as f64),
                table.name,
                100.0 * table.dead as f64 / (table.dead + table.live).max(1) as f64
            ),
            suggestion: match holder {
                Some(holder) => holder.end.clone(),
                None => Some(format!("VACUUM (ANALYZE) {}", table.name)),
            },
        });
    }
}

/// The oldest rows of the database, in transactions.
#[derive(Clone, Debug)]
pub(super) struct Oldest {
    table: RelationName,
    age: i64,
    multixact_age: i64,
}

// A TOAST table is frozen with its table.
const OLDEST: &str = "SELECT n.nspname::text AS schema, c.relname::text AS name, a.age, a.multixact_age
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_catalog.pg_class t ON t.oid = c.reltoastrelid
    CROSS JOIN LATERAL (SELECT
        greatest(pg_catalog.age(c.relfrozenxid), pg_catalog.age(t.relfrozenxid))::int8 AS age,
        greatest(pg_catalog.mxid_age(c.relminmxid), pg_catalog.mxid_age(t.relminmxid))::int8 AS multixact_age) a
    WHERE c.relkind IN ('r', 'm') AND c.relfrozenxid <> '0'::xid
    ORDER BY greatest(a.age, a.multixact_age) DESC, c.oid LIMIT 1";

/// The table with the oldest rows.
pub(super) async fn oldest(db: &Session) -> Result<Option<Oldest>, EngineError> {
    let found = db
        .query("reading the age of the oldest rows", OLDEST, &[])
        .await?;
    let Some(row) = found.first() else {
        return Ok(None);
    };
    Ok(Some(Oldest {
        table: row.relation("schema", "name")?,
        age: row.named("age")?,
        multixact_age: row.named("multixact_age")?,
    }))
}

/// At 1.6 billion the server's own failsafe starts.
pub(super) const AGE_CRITICAL: i64 = 1_200_000_000;

/// What is to be said about the age of the oldest rows.
pub(super) fn judge_oldest(oldest: &Oldest, options: &Snapshot, plan: &mut Plan) {
    let (age, what) = if oldest.age >= oldest.multixact_age {
        (oldest.age, "transaction")
    } else {
        (oldest.multixact_age, "multixact")
    };
    plan.measurements.push(Measurement {
        metric: "freeze.age".to_owned(),
        object: String::new(),
        value: age as f64,
    });
    if age <= i64::try_from(options.max_freeze_age).unwrap_or(i64::MAX) {
        return;
    }
    plan.findings.push(Finding {
        code: "freeze.age".to_owned(),
        severity: if age >= AGE_CRITICAL {
            Severity::Critical
        } else {
            Severity::Warning
        },
        object: oldest.table.to_string(),
        message: format!(
            "the oldest {what} id of {} is {} old; at about 2.1 G the server stops accepting writes",
            oldest.table,
            count(age)
        ),
        suggestion: Some(format!("VACUUM (FREEZE, VERBOSE) {}", oldest.table)),
    });
}
