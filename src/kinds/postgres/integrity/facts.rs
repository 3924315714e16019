//! What the catalogs say about tables, constraints and indexes.

use super::super::half_built;
use super::super::held::{AGAIN, LOOKS};
use crate::engines::EngineError;
use crate::engines::postgres::catalog::{NOT_SYSTEM_SCHEMA, enforced, held, size_of};
use crate::engines::postgres::{Identifier, RelationName, Row, Session, each};

/// SQL that tells why the role cannot read all rows of `{c}` (`pg_class`); NULL where it can.
/// Row security that applies to it would hide some.
pub(super) const HIDDEN: &str =
    "CASE WHEN NOT (pg_catalog.has_schema_privilege({c}.relnamespace, 'USAGE')
            AND pg_catalog.has_table_privilege({c}.oid, 'SELECT')) THEN 'closed'
        WHEN pg_catalog.row_security_active({c}.oid) THEN 'policies' END";

/// Why the role cannot read all rows of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Hidden {
    /// It has no privilege, or the table is gone.
    Closed,
    /// Row security hides some.
    ByPolicies,
}

impl Hidden {
    fn of(word: Option<&str>) -> Option<Hidden> {
        word.map(|word| match word {
            "policies" => Hidden::ByPolicies,
            _ => Hidden::Closed,
        })
    }
}

/// A table.
#[derive(Clone, Debug)]
pub(super) struct Relation {
    pub(super) oid: u32,
    pub(super) name: RelationName,
    pub(super) partitioned: bool,
    /// A standby has no rows of it.
    pub(super) unlogged: bool,
    /// Without its partitions.
    pub(super) bytes: i64,
    /// Why the role cannot read all its rows, where it cannot.
    pub(super) hidden: Option<Hidden>,
    pub(super) owned: bool,
    /// Not a materialized view that was never filled.
    pub(super) filled: bool,
}

impl Relation {
    /// From the columns `oid`, `schema`, `name`, `partitioned`, `unlogged`, `bytes`, `hidden` and `owned`,
    /// with `of` before each.
    pub(super) fn of(row: &Row, of: &str) -> Result<Relation, EngineError> {
        let column = |name: &str| format!("{of}{name}");
        let hidden: Option<String> = row.named(&column("hidden"))?;
        Ok(Relation {
            oid: row.named(&column("oid"))?,
            name: row.relation(&column("schema"), &column("name"))?,
            partitioned: row.named(&column("partitioned"))?,
            unlogged: row.named(&column("unlogged"))?,
            bytes: row.named(&column("bytes"))?,
            hidden: Hidden::of(hidden.as_deref()),
            owned: row.named(&column("owned"))?,
            filled: true,
        })
    }

    /// As it stands after FROM: the table itself without tables that inherit
    /// from it, to which foreign keys do not extend; all of its partitions.
    pub(super) fn from(&self) -> String {
        if self.partitioned {
            self.name.to_string()
        } else {
            format!("ONLY {}", self.name)
        }
    }
}

/// A check constraint or, from 18 on, a NOT NULL constraint that was never
/// validated; as declared on the topmost table.
#[derive(Clone, Debug)]
pub(super) struct Constraint {
    pub(super) oid: u32,
    pub(super) name: Identifier,
    pub(super) table: Relation,
    pub(super) validated: bool,
    /// Holds for this table, not for those that inherit from it.
    pub(super) no_inherit: bool,
    /// What must not be false.
    pub(super) expression: String,
}

const CONSTRAINTS: &str =
    "SELECT k.conname::text AS constraint_name, k.convalidated AS validated, k.connoinherit AS no_inherit,
        CASE WHEN k.contype = 'n' THEN (SELECT pg_catalog.format('%I IS NOT NULL', a.attname)
                FROM pg_catalog.pg_attribute a WHERE a.attrelid = k.conrelid AND a.attnum = k.conkey[1])
            WHEN {held} THEN NULL ELSE pg_catalog.pg_get_expr(k.conbin, k.conrelid) END AS expression,
        c.oid, n.nspname::text AS schema, c.relname::text AS name, c.relkind = 'p' AS partitioned, c.relpersistence = 'u' AS unlogged,
        {size} AS bytes, {hidden} AS hidden, pg_catalog.pg_has_role(c.relowner, 'USAGE') AS owned, k.oid AS constraint_oid
    FROM pg_catalog.pg_constraint k
    JOIN pg_catalog.pg_class c ON c.oid = k.conrelid
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE (k.contype = 'c' OR (k.contype = 'n' AND NOT k.convalidated)) AND k.coninhcount = 0
        AND c.relkind IN ('r', 'p') AND {enforced} AND {not_system}
    ORDER BY schema, name, constraint_name";

/// All constraints on single rows that the server enforces, and the tables of which some could
/// not be read because somebody holds the table.
pub(super) async fn constraints(
    db: &Session,
) -> Result<(Vec<Constraint>, Vec<Relation>), EngineError> {
    let sql = CONSTRAINTS
        .replace("{enforced}", &enforced(&db.server, "k"))
        .replace("{held}", &held("c.oid"))
        .replace("{size}", &size_of("c"))
        .replace("{hidden}", &HIDDEN.replace("{c}", "c"))
        .replace("{not_system}", NOT_SYSTEM_SCHEMA);
    let mut look = 1;
    loop {
        let rows = db.query("reading check constraints", &sql, &[]).await?;
        let (mut found, mut unread) = (Vec::new(), Vec::<Relation>::new());
        for row in &rows {
            let table = Relation::of(row, "")?;
            // None as well where the table was dropped meanwhile: then nobody misses it.
            let Some(expression) = row.named("expression")? else {
                if unread.last().is_none_or(|last| last.oid != table.oid) {
                    unread.push(table);
                }
                continue;
            };
            found.push(Constraint {
                oid: row.named("constraint_oid")?,
                name: Identifier::new(row.named::<String>("constraint_name")?),
                validated: row.named("validated")?,
                no_inherit: row.named("no_inherit")?,
                expression,
                table,
            });
        }
        if unread.is_empty() || look == LOOKS {
            return Ok((found, unread));
        }
        look += 1;
        tokio::time::sleep(AGAIN).await;
    }
}

/// What an index of a partitioned table is made of: only when every
/// partition has its valid part, and one of them is attached, it becomes valid.
#[derive(Clone, Debug)]
pub(super) struct Parts {
    /// A partition that has no part of it.
    without: Option<RelationName>,
    /// Whether that has partitions itself, on which nothing can be built concurrently.
    without_is_parted: bool,
    /// A part that is invalid.
    invalid: Option<RelationName>,
    /// Any part.
    any: Option<RelationName>,
}

impl Parts {
    /// What is wrong with the index, and the statement that helps.
    pub(super) fn mended(&self, index: &RelationName) -> (String, Option<String>) {
        match self {
            Parts {
                without: Some(table),
                without_is_parted: true,
                ..
            } => (
                format!(
                    "is invalid: {table} has no part of it, and has partitions itself, on which nothing can be built CONCURRENTLY. Build an index like it on each of those (there CREATE INDEX CONCURRENTLY blocks nobody), then one with CREATE INDEX … ON ONLY {table}, which builds nothing, and let each become part of the one above: ALTER INDEX … ATTACH PARTITION …, at the end ALTER INDEX {index} ATTACH PARTITION with the name of the one on {table}"
                ),
                None,
            ),
            Parts {
                without: Some(table),
                ..
            } => (
                format!(
                    "is invalid: {table} has no part of it. Build an index like it there (CREATE INDEX CONCURRENTLY blocks nobody), then ALTER INDEX {index} ATTACH PARTITION with its name"
                ),
                None,
            ),
            Parts {
                invalid: Some(part),
                ..
            } => (
                format!("is invalid, because its part {part} is"),
                Some(format!(
                    "REINDEX INDEX CONCURRENTLY {part}; ALTER INDEX {index} ATTACH PARTITION {part}"
                )),
            ),
            Parts {
                any: Some(part), ..
            } => (
                // Attaching once more what is attached only looks again.
                "is invalid although all of its parts are there and valid: the server looks only when one is attached".to_owned(),
                Some(format!("ALTER INDEX {index} ATTACH PARTITION {part}")),
            ),
            _ => ("is invalid, and has no parts".to_owned(), None),
        }
    }
}

/// An index of any kind.
#[derive(Clone, Debug)]
pub(super) struct Index {
    pub(super) oid: u32,
    pub(super) name: RelationName,
    pub(super) table: RelationName,
    pub(super) table_oid: u32,
    /// `btree`, `gin`, …
    pub(super) method: String,
    /// Has partitions instead of pages.
    pub(super) partitioned: bool,
    /// Its table is not a materialized view that was never filled.
    pub(super) filled: bool,
    /// What it is made of, where it has partitions and is invalid.
    pub(super) parts: Option<Parts>,
    pub(super) unlogged: bool,
    pub(super) unique: bool,
    pub(super) valid: bool,
    /// A concurrent rebuild of another index left it.
    pub(super) half_built: bool,
    /// Somebody is building it right now.
    /// A valid index that is defined alike.
    pub(super) twin: Option<String>,
    pub(super) in_progress: bool,
    pub(super) bytes: i64,
    /// What must be there only once; for unique indexes with the default
    /// notion of equality.
    pub(super) unique_keys: Option<UniqueKeys>,
    pub(super) readable: bool,
}

/// What a unique index keeps apart.
#[derive(Clone, Debug)]
pub(super) struct UniqueKeys {
    /// `("order"), (lower(name)) COLLATE …`
    keys: String,
    /// ` WHERE …`: the rows it is about; empty for all.
    filter: String,
}

impl UniqueKeys {
    /// `SELECT …` that counts the keys which `table` has more than once.
    pub(super) fn count(&self, table: &RelationName) -> String {
        let UniqueKeys { keys, filter } = self;
        format!(
            "SELECT count(*) FROM (SELECT 1 FROM ONLY {table}{filter} GROUP BY {keys} HAVING count(*) > 1) twice"
        )
    }

    /// `SELECT …` that lists them, and where rows of theirs are. It reads the
    /// table and never the index: a subquery with an OFFSET is planned by
    /// itself, and no index knows where a row is.
    pub(super) fn list(&self, table: &RelationName) -> String {
        let UniqueKeys { keys, filter } = self;
        format!(
            "SELECT count(*), min(ctid), max(ctid), {keys} FROM (SELECT ctid, * FROM ONLY {table} OFFSET 0) {}{filter} GROUP BY {keys} HAVING count(*) > 1",
            table.relation
        )
    }
}

// `t.relkind`: an index of a materialized view may be damaged as well.
const INDEXES: &str = "SELECT i.oid, n.nspname::text AS schema, i.relname::text AS name, tn.nspname::text AS table_schema, t.relname::text AS table_name, t.oid AS table_oid,
        am.amname::text AS method, i.relkind = 'I' AS partitioned, i.relpersistence = 'u' AS unlogged, x.indisunique AS is_unique, x.indisvalid AND x.indisready AS valid,
        EXISTS (SELECT 1 FROM pg_catalog.pg_stat_progress_create_index g
            WHERE g.datname = pg_catalog.current_database() AND (g.relid IS NULL OR g.relid = t.oid)) AS in_progress,
        {size} AS bytes, {hidden} AS hidden,
        d.keys, d.filter, s.without_schema, s.without_name, s.invalid_schema, s.invalid_name, s.any_schema, s.any_name, t.relispopulated AS filled,
        coalesce(s.without_kind = 'p', false) AS without_is_parted, NOT x.indisvalid AND i.oid IN (SELECT l.oid FROM ({half_built}) AS l) AS half_built, {twin} AS twin
    FROM pg_catalog.pg_index x
    JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid
    JOIN pg_catalog.pg_namespace n ON n.oid = i.relnamespace
    JOIN pg_catalog.pg_class t ON t.oid = x.indrelid
    JOIN pg_catalog.pg_namespace tn ON tn.oid = t.relnamespace
    JOIN pg_catalog.pg_am am ON am.oid = i.relam
    LEFT JOIN LATERAL (SELECT pg_catalog.string_agg(k.key || k.collation, ', ') AS keys,
            coalesce(' WHERE ' || nullif(pg_catalog.concat_ws(' AND ', '(' || pg_catalog.pg_get_expr(x.indpred, x.indrelid) || ')',
                CASE WHEN {nulls_distinct} THEN pg_catalog.string_agg(k.key || ' IS NOT NULL', ' AND ') END), ''), '') AS filter
        FROM (SELECT pg_catalog.format('(%s)', pg_catalog.pg_get_indexdef(i.oid, p, true)) AS key,
                coalesce((SELECT pg_catalog.format(' COLLATE %I.%I', cn.nspname, co.collname)
                    FROM pg_catalog.pg_collation co JOIN pg_catalog.pg_namespace cn ON cn.oid = co.collnamespace
                    WHERE co.oid = x.indcollation[p - 1]), '') AS collation,
                (SELECT oc.opcdefault FROM pg_catalog.pg_opclass oc WHERE oc.oid = x.indclass[p - 1]) AS usual
            FROM pg_catalog.generate_series(1, x.indnkeyatts::int4) p WHERE NOT {held}) k
        HAVING pg_catalog.bool_and(k.usual)) d ON {wanted} AND x.indisunique AND x.indisvalid AND i.relkind = 'i'
    LEFT JOIN LATERAL (SELECT r.names[1] AS any_schema, r.names[2] AS any_name, r.invalid[1] AS invalid_schema, r.invalid[2] AS invalid_name,
            w.names[1] AS without_schema, w.names[2] AS without_name, w.names[3] AS without_kind
        FROM (SELECT min(ARRAY[cn.nspname::text, ci.relname::text]) AS names,
                min(ARRAY[cn.nspname::text, ci.relname::text]) FILTER (WHERE NOT cx.indisvalid AND ci.relkind = 'i') AS invalid
            FROM pg_catalog.pg_inherits h JOIN pg_catalog.pg_index cx ON cx.indexrelid = h.inhrelid
            JOIN pg_catalog.pg_class ci ON ci.oid = h.inhrelid JOIN pg_catalog.pg_namespace cn ON cn.oid = ci.relnamespace
            WHERE h.inhparent = i.oid AND (cx.indisvalid OR ci.relkind = 'i')) r,
            (SELECT min(ARRAY[pn.nspname::text, pc.relname::text, pc.relkind::text]) AS names
            FROM pg_catalog.pg_inherits p JOIN pg_catalog.pg_class pc ON pc.oid = p.inhrelid JOIN pg_catalog.pg_namespace pn ON pn.oid = pc.relnamespace
            WHERE p.inhparent = t.oid AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_inherits h JOIN pg_catalog.pg_index cx ON cx.indexrelid = h.inhrelid
                WHERE h.inhparent = i.oid AND cx.indrelid = p.inhrelid)) w) s ON i.relkind = 'I' AND NOT x.indisvalid
    WHERE {not_system}
    ORDER BY schema, name";

/// All indexes; how to count keys that are there twice only where that is `wanted`.
pub(super) async fn indexes(db: &Session, wanted: bool) -> Result<Vec<Index>, EngineError> {
    let nulls = if db.server.major() >= 15 {
        "NOT x.indnullsnotdistinct"
    } else {
        "true"
    };
    let sql = INDEXES
        .replace("{nulls_distinct}", nulls)
        .replace("{wanted}", if wanted { "true" } else { "false" })
        .replace("{half_built}", &half_built::sql("true"))
        .replace("{twin}", &half_built::twin("x", "i"))
        .replace("{held}", &held("t.oid"))
        .replace("{size}", &size_of("i"))
        .replace("{hidden}", &HIDDEN.replace("{c}", "t"))
        .replace("{not_system}", NOT_SYSTEM_SCHEMA);
    let rows = db.query("reading indexes", &sql, &[]).await?;
    let part = |row: &Row, of: &str| {
        let column = |name: &str| row.named::<Option<String>>(&format!("{of}_{name}"));
        let (schema, name) = (column("schema")?, column("name")?);
        let both = schema.zip(name);
        Ok::<_, EngineError>(both.map(|(schema, name)| RelationName::new(schema, name)))
    };
    each(&rows, |row| {
        Ok(Index {
            oid: row.named("oid")?,
            name: row.relation("schema", "name")?,
            table: row.relation("table_schema", "table_name")?,
            table_oid: row.named("table_oid")?,
            method: row.named("method")?,
            partitioned: row.named("partitioned")?,
            filled: row.named("filled")?,
            parts: match row.named::<bool>("partitioned")? {
                true => Some(Parts {
                    without: part(row, "without")?,
                    without_is_parted: row.named("without_is_parted")?,
                    invalid: part(row, "invalid")?,
                    any: part(row, "any")?,
                }),
                false => None,
            },
            unlogged: row.named("unlogged")?,
            unique: row.named("is_unique")?,
            valid: row.named("valid")?,
            half_built: row.named("half_built")?,
            twin: row.named("twin")?,
            in_progress: row.named("in_progress")?,
            bytes: row.named("bytes")?,
            readable: row.named::<Option<String>>("hidden")?.is_none(),
            unique_keys: row
                .named::<Option<String>>("keys")?
                .zip(row.named("filter")?)
                .map(|(keys, filter)| UniqueKeys { keys, filter }),
        })
    })
}

const TABLES: &str =
    "SELECT c.oid, n.nspname::text AS schema, c.relname::text AS name, false AS partitioned, c.relpersistence = 'u' AS unlogged,
        {size} AS bytes, {hidden} AS hidden, pg_catalog.pg_has_role(c.relowner, 'USAGE') AS owned, c.relispopulated AS filled
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_catalog.pg_am am ON am.oid = c.relam
    WHERE c.relkind IN ('r', 'm') AND am.amname = 'heap' AND {not_system}
    ORDER BY schema, name";

/// All tables and materialized views that are heaps.
pub(super) async fn tables(db: &Session) -> Result<Vec<Relation>, EngineError> {
    let sql = TABLES
        .replace("{size}", &size_of("c"))
        .replace("{hidden}", &HIDDEN.replace("{c}", "c"))
        .replace("{not_system}", NOT_SYSTEM_SCHEMA);
    let rows = db.query("reading tables", &sql, &[]).await?;
    each(&rows, |row| {
        Ok(Relation {
            filled: row.named("filled")?,
            ..Relation::of(row, "")?
        })
    })
}
