//! Reading what is known about indexes, on the primary and on replicas.

use std::collections::HashSet;

use chrono::{DateTime, Utc};

use super::super::Snapshot;
use super::{Counting, Double, Idle, Indexes, Missing, Used};
use crate::engines::EngineError;
use crate::engines::postgres::catalog::{
    COUNTING_SINCE, NOT_SYSTEM_SCHEMA, enforced, serves, size_of, tree, without_index,
};
use crate::engines::postgres::compared::indexed;
use crate::engines::postgres::{Identifier, Session, each, first};
use crate::plan::Site;

// Partitions of an index are used and dropped together. What enforces
// something or identifies rows has its use without a scan.
const IDLE: &str = "WITH leaves AS (
        SELECT i.oid, CASE WHEN i.relispartition THEN pg_catalog.pg_partition_root(i.oid)::oid ELSE i.oid END AS root, {size} AS bytes,
            coalesce(pg_catalog.pg_stat_get_numscans(i.oid), 0) > 0 AND {recently} AS used
        FROM pg_catalog.pg_index x JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid
        JOIN pg_catalog.pg_namespace n ON n.oid = i.relnamespace
        WHERE i.relkind = 'i' AND x.indisvalid AND NOT x.indisunique AND NOT x.indisexclusion AND NOT x.indisreplident
            AND i.relpersistence <> 't' AND {not_system})
    SELECT n.nspname::text AS schema, i.relname::text AS name, tn.nspname::text AS table_schema, t.relname::text AS table_name, l.bytes::int8 AS bytes, i.relkind = 'I' AS partitioned, l.leaves
    FROM (SELECT root, sum(bytes) AS bytes, pg_catalog.array_agg(oid) AS leaves FROM leaves GROUP BY root
          HAVING NOT pg_catalog.bool_or(used) AND sum(bytes) >= $1::int8 ORDER BY sum(bytes) DESC, root LIMIT 500) l
    JOIN pg_catalog.pg_class i ON i.oid = l.root JOIN pg_catalog.pg_namespace n ON n.oid = i.relnamespace
    JOIN pg_catalog.pg_index x ON x.indexrelid = i.oid
    JOIN pg_catalog.pg_class t ON t.oid = x.indrelid JOIN pg_catalog.pg_namespace tn ON tn.oid = t.relnamespace
    WHERE NOT EXISTS (SELECT 1 FROM pg_catalog.pg_constraint k WHERE k.conindid = i.oid) AND NOT x.indisclustered
        AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend d WHERE d.deptype = 'e'
            AND d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = i.oid)
        -- Without it the next delete of a row that is referred to would read the whole table, or a
        -- whole partition: that may have keys and an order of columns of its own.
        AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_index x
            CROSS JOIN LATERAL (SELECT f.* FROM pg_catalog.pg_constraint f WHERE f.conrelid = x.indrelid AND f.contype = 'f' OFFSET 0) AS k
            WHERE x.indexrelid = ANY (l.leaves) AND {enforced} AND {serves_k})
    ORDER BY l.bytes DESC, schema, name";

const USAGE: &str = "SELECT n.nspname::text AS schema, i.relname::text AS name, u.scans, coalesce(pg_catalog.pg_stat_get_tuples_returned(i.oid), 0) AS tuples,
        count(*) FILTER (WHERE u.scans = 0) OVER () AS never
    FROM pg_catalog.pg_index x JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid
    JOIN pg_catalog.pg_namespace n ON n.oid = i.relnamespace
    CROSS JOIN LATERAL (SELECT coalesce(pg_catalog.pg_stat_get_numscans(i.oid), 0) AS scans OFFSET 0) u
    WHERE i.relkind = 'i' AND i.relpersistence <> 't' AND {not_system}
    ORDER BY i.relpages DESC, i.oid LIMIT $1";

const USED: &str = "SELECT o.oid FROM pg_catalog.unnest($1::oid[]) o(oid)
    WHERE coalesce(pg_catalog.pg_stat_get_numscans(o.oid), 0) > 0 AND {recently}";

/// The same columns in the same order, or their beginning: what an index
/// with more columns can answer as well. Nothing but its space may be lost
/// with the one that goes: no constraint or rule of uniqueness (NULLS NOT
/// DISTINCT is another rule, and a deferrable one holds later and serves no
/// ON CONFLICT), no order the table is clustered by, no identity of rows for
/// replication, no options of its operator classes, and nothing that depends on it.
const DOUBLES: &str = "WITH pairs AS MATERIALIZED (
        SELECT a.indexrelid, b.indexrelid AS other, a.indrelid, a.indisunique, b.indisunique AS other_unique,
            b.indimmediate AS other_immediate, {nulls_a} = {nulls_b} AS nulls_alike,
            b.indisreplident OR b.indisclustered AS other_stays, a.indnatts > a.indnkeyatts AS includes, s.same
        FROM pg_catalog.pg_index a
        -- One look into the catalog's index for each, whatever the planner knows of the catalog.
        CROSS JOIN LATERAL (SELECT x.* FROM pg_catalog.pg_index x WHERE x.indrelid = a.indrelid AND x.indexrelid <> a.indexrelid
            AND x.indisvalid AND x.indisready AND x.indislive AND NOT x.indisexclusion OFFSET 0) b
        CROSS JOIN LATERAL (SELECT (b.indkey::text, b.indclass::text, b.indcollation::text, b.indoption::text, b.indnkeyatts, {exprs_b})
            = (a.indkey::text, a.indclass::text, a.indcollation::text, a.indoption::text, a.indnkeyatts, {exprs_a}) AS same) s
        WHERE a.indisvalid AND NOT a.indisexclusion AND NOT a.indisreplident AND NOT a.indisclustered
            AND {pred_b} = {pred_a}
            AND (s.same OR (b.indnkeyatts > a.indnkeyatts AND a.indexprs IS NULL AND b.indexprs IS NULL
                AND b.indkey::text || ' ' LIKE a.indkey::text || ' %' AND b.indclass::text || ' ' LIKE a.indclass::text || ' %'
                AND b.indcollation::text || ' ' LIKE a.indcollation::text || ' %' AND b.indoption::text || ' ' LIKE a.indoption::text || ' %')))
    SELECT DISTINCT ON (p.indexrelid) n.nspname::text AS schema, i.relname::text AS name, tn.nspname::text AS table_schema, t.relname::text AS table_name,
        bn.nspname::text AS other_schema, o.relname::text AS other_name, z.bytes::int8 AS bytes, p.same, i.relkind = 'I' AS partitioned
    FROM pairs p
    JOIN pg_catalog.pg_class i ON i.oid = p.indexrelid JOIN pg_catalog.pg_namespace n ON n.oid = i.relnamespace
    JOIN pg_catalog.pg_class o ON o.oid = p.other JOIN pg_catalog.pg_namespace bn ON bn.oid = o.relnamespace
    JOIN pg_catalog.pg_class t ON t.oid = p.indrelid JOIN pg_catalog.pg_namespace tn ON tn.oid = t.relnamespace
    JOIN pg_catalog.pg_am am ON am.oid = i.relam
    CROSS JOIN LATERAL (SELECT CASE WHEN i.relkind = 'I'
        THEN (SELECT coalesce(sum({leaf_size}), 0) FROM {below_i} pt JOIN pg_catalog.pg_class l ON l.oid = pt.relid AND l.relkind <> 'I')
        ELSE {size} END AS bytes OFFSET 0) z
    WHERE o.relam = i.relam AND NOT i.relispartition AND NOT o.relispartition AND {not_system} AND z.bytes >= $1::int8
        AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_constraint k WHERE k.conindid = p.indexrelid)
        -- What belongs to an extension, and what something else needs, cannot be dropped.
        AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend d WHERE d.deptype = 'e'
            AND d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = p.indexrelid)
        AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend d WHERE d.deptype = 'n'
            AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid = p.indexrelid)
        -- A B-tree's storage parameters change only its size; those of the others what it can answer, and how well.
        AND (am.amname = 'btree' OR i.reloptions IS NOT DISTINCT FROM o.reloptions)
        AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_attribute ca JOIN pg_catalog.pg_attribute cb ON cb.attrelid = o.oid AND cb.attnum = ca.attnum
            WHERE ca.attrelid = i.oid AND (ca.attoptions IS DISTINCT FROM cb.attoptions
                OR ca.attstattarget IS DISTINCT FROM cb.attstattarget))
        AND CASE WHEN p.same THEN (NOT p.indisunique OR (p.other_unique AND p.other_immediate AND p.nulls_alike))
                -- Of two that are alike the one goes that is stored in a way of its own, else the younger one.
                AND ((o.reloptions IS NOT NULL, p.other) < (i.reloptions IS NOT NULL, p.indexrelid) OR p.other_stays OR (p.other_unique AND NOT p.indisunique)
                    OR EXISTS (SELECT 1 FROM pg_catalog.pg_constraint k WHERE k.conindid = p.other))
            ELSE am.amname = 'btree' AND NOT p.includes AND NOT p.indisunique END
    ORDER BY p.indexrelid, p.same DESC, p.other LIMIT 500";

const MISSING: &str = "SELECT k.conname::text AS constraint_name, n.nspname::text AS schema, c.relname::text AS name, pn.nspname::text AS referenced_schema, p.relname::text AS referenced_name,
        ARRAY(SELECT pg_catalog.quote_ident(a.attname)
            FROM pg_catalog.unnest(k.conkey) WITH ORDINALITY u(att, place)
            JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.att ORDER BY u.place) AS columns,
        ARRAY(SELECT {indexed}
            FROM ROWS FROM (pg_catalog.unnest(k.conkey), pg_catalog.unnest(k.conpfeqop)) WITH ORDINALITY u (att, op, place)
            JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.att
            CROSS JOIN LATERAL (SELECT w.* FROM pg_catalog.pg_operator w WHERE w.oid = u.op OFFSET 0) AS o ORDER BY u.place) AS indexed,
        s.bytes::int8 AS bytes, c.relkind = 'p' AS partitioned
    FROM pg_catalog.pg_constraint k
    JOIN pg_catalog.pg_class c ON c.oid = k.conrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_catalog.pg_class p ON p.oid = k.confrelid JOIN pg_catalog.pg_namespace pn ON pn.oid = p.relnamespace
    CROSS JOIN LATERAL (SELECT CASE WHEN c.relkind = 'p'
        THEN (SELECT coalesce(sum({leaf_size}), 0)::int8 FROM {below_c} pt JOIN pg_catalog.pg_class l ON l.oid = pt.relid AND l.relkind <> 'p')
        ELSE {size} END AS bytes) s
    WHERE k.contype = 'f' AND k.conparentid = 0 AND {not_system} AND s.bytes >= $1::int8
        AND {enforced} AND {without_index}
    ORDER BY s.bytes DESC, schema, name, constraint_name LIMIT 100";

/// SQL for a stored expression without the places in the text it came from.
fn stored(expression: &str) -> String {
    format!(
        "coalesce(pg_catalog.regexp_replace({expression}::text, ':location -?[0-9]+', '', 'g'), '')"
    )
}

pub(in crate::kinds::postgres::snapshot) async fn read(
    site: &Site<Session>,
    options: &Snapshot,
) -> Result<Indexes, EngineError> {
    let db = &site.primary;
    let fill = |sql: &str, relation: &str| {
        sql.replace("{not_system}", NOT_SYSTEM_SCHEMA)
            .replace("{size}", &size_of(relation))
            .replace("{leaf_size}", &size_of("l"))
            .replace("{below_i}", &tree("i.oid"))
            .replace("{below_c}", &tree("c.oid"))
            .replace("{enforced}", &enforced(&db.server, "k"))
            .replace("{indexed}", &indexed())
            .replace("{without_index}", &without_index("k"))
            .replace("{serves_k}", &serves("k", "x.indrelid"))
    };
    // From 16 on the server knows when an index was last used.
    let recently = |db: &Session, oid: &str| {
        if db.server.major() >= 16 {
            format!(
                "pg_catalog.pg_stat_get_lastscan({oid}) > pg_catalog.now() - pg_catalog.make_interval(secs => {})",
                options.unused_after.get().as_secs()
            )
        } else {
            "true".to_owned()
        }
    };
    let least = i64::try_from(options.min_size.get()).unwrap_or(i64::MAX);
    let sql = fill(IDLE, "i").replace("{recently}", &recently(db, "i.oid"));
    let idle = db
        .query("reading which indexes are not used", &sql, &[&least])
        .await?;
    let mut parts = Vec::new();
    for row in &idle {
        parts.push(row.named::<Vec<u32>>("leaves")?);
    }
    let leaves = parts.concat();
    let mut used: HashSet<u32> = HashSet::new();
    // Missing answers make no index unused.
    let mut counting = site.findings.is_empty().then_some(Counting {
        since: None,
        servers: 1 + site.replicas.len(),
    });
    for session in std::iter::once(db).chain(site.replicas.iter().map(|(_, session)| session)) {
        let rows = session
            .query(
                "asking since when indexes are counted",
                &format!("SELECT {COUNTING_SINCE}"),
                &[],
            )
            .await?;
        let reset: Option<DateTime<Utc>> = first(&rows, 0)?.flatten();
        if let Some(counting) = &mut counting {
            counting.since = counting.since.max(reset);
        }
    }
    for (_, session) in &site.replicas {
        let sql = USED.replace("{recently}", &recently(session, "o.oid"));
        let rows = session
            .query("asking which indexes the replica uses", &sql, &[&leaves])
            .await?;
        for row in &rows {
            used.insert(row.get(0)?);
        }
    }
    let nulls_not_distinct = |index: &str| {
        if db.server.major() >= 15 {
            format!("{index}.indnullsnotdistinct")
        } else {
            "false".to_owned()
        }
    };
    let doubles = db
        .query(
            "comparing indexes",
            &fill(DOUBLES, "i")
                .replace("{nulls_a}", &nulls_not_distinct("a"))
                .replace("{nulls_b}", &nulls_not_distinct("b"))
                .replace("{exprs_a}", &stored("a.indexprs"))
                .replace("{exprs_b}", &stored("b.indexprs"))
                .replace("{pred_a}", &stored("a.indpred"))
                .replace("{pred_b}", &stored("b.indpred")),
            &[&least],
        )
        .await?;
    let missing = db
        .query(
            "looking for foreign keys without an index",
            &fill(MISSING, "c"),
            &[&least],
        )
        .await?;
    let usage = db
        .query(
            "reading how often indexes are used",
            &fill(USAGE, "i"),
            &[&i64::from(options.top)],
        )
        .await?;
    let mut unused = Vec::new();
    for (row, leaves) in idle.iter().zip(&parts) {
        if !leaves.iter().any(|leaf| used.contains(leaf)) {
            unused.push(Idle {
                name: row.relation("schema", "name")?,
                table: row.relation("table_schema", "table_name")?,
                bytes: row.named("bytes")?,
                partitioned: row.named("partitioned")?,
            });
        }
    }
    Ok(Indexes {
        idle: unused,
        counting,
        never: usage.first().map_or(Ok(0), |row| row.named("never"))?,
        used: each(&usage, |row| {
            Ok(Used {
                name: row.relation("schema", "name")?,
                scans: row.named("scans")?,
                tuples: row.named("tuples")?,
            })
        })?,
        doubles: each(&doubles, |row| {
            Ok(Double {
                name: row.relation("schema", "name")?,
                table: row.relation("table_schema", "table_name")?,
                other: row.relation("other_schema", "other_name")?,
                bytes: row.named("bytes")?,
                same: row.named("same")?,
                partitioned: row.named("partitioned")?,
            })
        })?,
        missing: each(&missing, |row| {
            Ok(Missing {
                constraint: Identifier::new(row.named::<String>("constraint_name")?),
                table: row.relation("schema", "name")?,
                referenced: row.relation("referenced_schema", "referenced_name")?,
                columns: row.named("columns")?,
                indexed: row.named("indexed")?,
                bytes: row.named("bytes")?,
                partitioned: row.named("partitioned")?,
            })
        })?,
    })
}
