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
    /// From eight columns, the first of which is `first`.
    pub(super) fn of(row: &Row, first: usize) -> Result<Relation, EngineError> {
        Ok(Relation {
            oid: row.get(first)?,
            name: RelationName::new(row.get::<String>(first + 1)?, row.get::<String>(first + 2)?),
            partitioned: row.get(first + 3)?,
            unlogged: row.get(first + 4)?,
            bytes: row.get(first + 5)?,
            hidden: Hidden::of(row.get::<Option<String>>(first + 6)?.as_deref()),
            owned: row.get(first + 7)?,
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
    "SELECT k.conname::text, k.convalidated, k.connoinherit,
        CASE WHEN k.contype = 'n' THEN (SELECT pg_catalog.format('%I IS NOT NULL', a.attname)
                FROM pg_catalog.pg_attribute a WHERE a.attrelid = k.conrelid AND a.attnum = k.conkey[1])
            WHEN {held} THEN NULL ELSE pg_catalog.pg_get_expr(k.conbin, k.conrelid) END,
        c.oid, n.nspname::text, c.relname::text, c.relkind = 'p', c.relpersistence = 'u',
        {size}, {hidden}, pg_catalog.pg_has_role(c.relowner, 'USAGE'), k.oid
    FROM pg_catalog.pg_constraint k
    JOIN pg_catalog.pg_class c ON c.oid = k.conrelid
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE (k.contype = 'c' OR (k.contype = 'n' AND NOT k.convalidated)) AND k.coninhcount = 0
        AND c.relkind IN ('r', 'p') AND {enforced} AND {not_system}
    ORDER BY 6, 7, 1";

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
            let table = Relation::of(row, 4)?;
            // None as well where the table was dropped meanwhile: then nobody misses it.
            let Some(expression) = row.get(3)? else {
                if unread.last().is_none_or(|last| last.oid != table.oid) {
                    unread.push(table);
                }
                continue;
            };
            found.push(Constraint {
                oid: row.get(12)?,
                name: Identifier::new(row.get::<String>(0)?),
                validated: row.get(1)?,
                no_inherit: row.get(2)?,
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
const INDEXES: &str = "SELECT i.oid, n.nspname::text, i.relname::text, tn.nspname::text, t.relname::text, t.oid,
        am.amname::text, i.relkind = 'I', i.relpersistence = 'u', x.indisunique, x.indisvalid AND x.indisready,
        EXISTS (SELECT 1 FROM pg_catalog.pg_stat_progress_create_index g
            WHERE g.datname = pg_catalog.current_database() AND (g.relid IS NULL OR g.relid = t.oid)),
        {size}, {hidden},
        d.keys, d.filter, s.without_schema, s.without_name, s.invalid_schema, s.invalid_name, s.any_schema, s.any_name, t.relispopulated,
        coalesce(s.without_kind = 'p', false), NOT x.indisvalid AND i.oid IN (SELECT l.oid FROM ({half_built}) AS l), {twin}
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
    ORDER BY 2, 3";

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
    let part = |row: &Row, n: usize| {
        let (schema, name): (Option<String>, Option<String>) = (row.get(n)?, row.get(n + 1)?);
        let both = schema.zip(name);
        Ok::<_, EngineError>(both.map(|(schema, name)| RelationName::new(schema, name)))
    };
    each(&rows, |row| {
        let text = |n: usize| row.get::<String>(n);
        Ok(Index {
            oid: row.get(0)?,
            name: RelationName::new(text(1)?, text(2)?),
            table: RelationName::new(text(3)?, text(4)?),
            table_oid: row.get(5)?,
            method: row.get(6)?,
            partitioned: row.get(7)?,
            filled: row.get(22)?,
            parts: match row.get::<bool>(7)? {
                true => Some(Parts {
                    without: part(row, 16)?,
                    without_is_parted: row.get(23)?,
                    invalid: part(row, 18)?,
                    any: part(row, 20)?,
                }),
                false => None,
            },
            unlogged: row.get(8)?,
            unique: row.get(9)?,
            valid: row.get(10)?,
            half_built: row.get(24)?,
            twin: row.get(25)?,
            in_progress: row.get(11)?,
            bytes: row.get(12)?,
            readable: row.get::<Option<String>>(13)?.is_none(),
            unique_keys: row
                .get::<Option<String>>(14)?
                .zip(row.get(15)?)
                .map(|(keys, filter)| UniqueKeys { keys, filter }),
        })
    })
}

const TABLES: &str =
    "SELECT c.oid, n.nspname::text, c.relname::text, false, c.relpersistence = 'u',
        {size}, {hidden}, pg_catalog.pg_has_role(c.relowner, 'USAGE'), c.relispopulated
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_catalog.pg_am am ON am.oid = c.relam
    WHERE c.relkind IN ('r', 'm') AND am.amname = 'heap' AND {not_system}
    ORDER BY 2, 3";

/// All tables and materialized views that are heaps.
pub(super) async fn tables(db: &Session) -> Result<Vec<Relation>, EngineError> {
    let sql = TABLES
        .replace("{size}", &size_of("c"))
        .replace("{hidden}", &HIDDEN.replace("{c}", "c"))
        .replace("{not_system}", NOT_SYSTEM_SCHEMA);
    let rows = db.query("reading tables", &sql, &[]).await?;
    each(&rows, |row| {
        Ok(Relation {
            filled: row.get(8)?,
            ..Relation::of(row, 0)?
        })
    })
}
