//! Reads how far sequences and integer keys are.

use super::super::columns::{self, Around, Column};
use super::{Key, Sequence, Unseen};
use crate::engines::EngineError;
use crate::engines::postgres::catalog::NOT_SYSTEM_SCHEMA;
use crate::engines::postgres::{Identifier, RelationName, Session, each};

// Whoever alters a sequence holds it, and would hold up this look at all others.
const SEQUENCES: &str = "WITH RECURSIVE whole(oid, base) AS (SELECT t.oid, t.oid FROM pg_catalog.pg_type t WHERE t.oid IN (20, 21, 23)
        UNION ALL SELECT t.oid, w.base FROM whole w JOIN pg_catalog.pg_type t ON t.typbasetype = w.oid AND t.typtype = 'd'),
    feeds AS (
        SELECT d.objid AS seq, d.refobjid AS rel, d.refobjsubid::int2 AS att FROM pg_catalog.pg_depend d
        WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
            AND d.deptype IN ('a', 'i') AND d.refobjsubid > 0
        UNION SELECT d.refobjid, f.adrelid, f.adnum FROM pg_catalog.pg_depend d
        JOIN pg_catalog.pg_attrdef f ON f.oid = d.objid
        WHERE d.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass),
    sequences AS (
        SELECT s.oid, n.nspname, s.relname, q.seqmin, q.seqmax, q.seqincrement > 0 AS up, pg_catalog.format_type(q.seqtypid, NULL) AS kind,
            s.oid = ANY (ARRAY(SELECT l.relation FROM pg_catalog.pg_locks l WHERE l.locktype = 'relation'
                AND l.mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock'))) AS locked,
            pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND pg_catalog.has_sequence_privilege(s.oid, 'SELECT,USAGE') AS readable
        FROM pg_catalog.pg_sequence q JOIN pg_catalog.pg_class s ON s.oid = q.seqrelid
        JOIN pg_catalog.pg_namespace n ON n.oid = s.relnamespace
        WHERE NOT q.seqcycle AND s.relpersistence <> 't' AND {not_system}),
    last AS (
        SELECT s.*, CASE WHEN s.readable AND NOT s.locked THEN pg_catalog.pg_sequence_last_value(s.oid) END AS last FROM sequences s)
    SELECT s.nspname::text AS schema, s.relname::text AS name, s.kind, s.readable, s.locked, s.up,
        s.seqmin AS lowest, s.seqmax AS highest, coalesce(s.last, CASE WHEN s.up THEN s.seqmin ELSE s.seqmax END) AS last,
        tn.nspname::text AS table_schema, t.relname::text AS table_name, a.attname::text AS column_name, pg_catalog.format_type(a.atttypid, NULL) AS column_type,
        CASE w.base WHEN 21 THEN 32767 WHEN 23 THEN 2147483647 WHEN 20 THEN 9223372036854775807 END AS most,
        coalesce(ty.typtype = 'd', false) AS in_domain, f.rel AS place_table, f.att AS place_column
    FROM last s
    -- A column that is inherited can only be changed where it is declared.
    LEFT JOIN feeds f ON f.seq = s.oid AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_attribute h
        WHERE h.attrelid = f.rel AND h.attnum = f.att AND h.attinhcount > 0
            AND EXISTS (SELECT 1 FROM feeds parent JOIN pg_catalog.pg_inherits i ON i.inhparent = parent.rel WHERE i.inhrelid = f.rel AND parent.seq = f.seq))
    LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = f.rel AND a.attnum = f.att
    LEFT JOIN pg_catalog.pg_type ty ON ty.oid = a.atttypid
    LEFT JOIN whole w ON w.oid = a.atttypid
    LEFT JOIN pg_catalog.pg_class t ON t.oid = f.rel
    LEFT JOIN pg_catalog.pg_namespace tn ON tn.oid = t.relnamespace
    ORDER BY schema, name, table_schema, table_name, column_name";

// What ANALYZE saw: a look at the tables themselves would cost one query each.
// All conditions are repeated where the values are read, because the server may
// read them before it has compared all names. An index on an expression has
// statistics and columns of its own, and a column's type there is that of what
// the index stores: whole numbers for words. So values have to look like numbers too.
const KEYS: &str = "WITH RECURSIVE whole(oid, base) AS (SELECT t.oid, t.oid FROM pg_catalog.pg_type t WHERE t.oid IN (20, 21, 23)
        UNION ALL SELECT t.oid, w.base FROM whole w JOIN pg_catalog.pg_type t ON t.typbasetype = w.oid AND t.typtype = 'd'),
    keyed AS MATERIALIZED (
        SELECT n.nspname, t.relname, a.attname, a.atttypid, a.attrelid, a.attnum, w.oid <> w.base AS domain,
            CASE w.base WHEN 21 THEN 32767 WHEN 23 THEN 2147483647 ELSE 9223372036854775807 END AS most
        FROM (SELECT DISTINCT k.conrelid, u.att FROM pg_catalog.pg_constraint k, pg_catalog.unnest(k.conkey) u(att)
              WHERE k.contype IN ('p', 'u', 'f')) k
        JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = k.att
        JOIN whole w ON w.oid = a.atttypid
        JOIN pg_catalog.pg_class t ON t.oid = a.attrelid AND t.relkind IN ('r', 'p')
        JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace
        WHERE NOT t.relispartition AND {not_system})
    SELECT k.nspname::text AS schema, k.relname::text AS name, k.attname::text AS column_name, pg_catalog.format_type(k.atttypid, NULL) AS column_type,
        max(v.largest / k.most)::float8 AS used, k.attrelid AS table_oid, k.attnum AS number, k.domain AS in_domain
    FROM keyed k
    JOIN pg_catalog.pg_stats s ON s.schemaname = k.nspname AND s.tablename = k.relname AND s.attname = k.attname
    -- The largest of each column first: sorting what columns are called for every value is slow.
    CROSS JOIN LATERAL (SELECT max(e.value) AS largest FROM pg_catalog.unnest(CASE
        WHEN s.schemaname = k.nspname AND s.tablename = k.relname AND s.attname = k.attname
            AND coalesce(s.histogram_bounds::text, '') || coalesce(s.most_common_vals::text, '') ~ '^[-0-9,{}]*$'
        THEN s.histogram_bounds::text::pg_catalog.numeric[] || s.most_common_vals::text::pg_catalog.numeric[] END) e(value)) v
    GROUP BY 1, 2, 3, 4, k.attrelid, k.attnum, k.domain
    HAVING max(v.largest / k.most) >= $1::float8::numeric
    ORDER BY schema, name, column_name";

// Tables whose statistics the role may not see: those of columns that it may not read, or where row security is in
// force for it. A column that takes the numbers of a sequence is judged by that.
const UNSEEN: &str = "SELECT n.nspname::text AS schema, t.relname::text AS name,
        pg_catalog.bool_and(pg_catalog.has_column_privilege(t.oid, a.attnum, 'SELECT')) AS filtered
    FROM pg_catalog.pg_constraint k CROSS JOIN LATERAL pg_catalog.unnest(k.conkey) u(att)
        JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.att AND a.atttypid IN (21, 23)
        JOIN pg_catalog.pg_class t ON t.oid = k.conrelid AND t.relkind IN ('r', 'p') AND NOT t.relispartition
        JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace
    WHERE k.contype IN ('p', 'u', 'f') AND t.reltuples <> 0 AND {not_system}
        AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
            AND d.refobjid = a.attrelid AND d.refobjsubid = a.attnum AND d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.deptype IN ('a', 'i'))
        AND (NOT pg_catalog.has_column_privilege(t.oid, a.attnum, 'SELECT') OR pg_catalog.row_security_active(t.oid))
    GROUP BY schema, name ORDER BY schema, name";

/// Tables with integer keys of which cannot be seen how far they are.
pub(in crate::kinds::postgres::integrity) async fn unseen(
    db: &Session,
) -> Result<Vec<Unseen>, EngineError> {
    let sql = UNSEEN.replace("{not_system}", NOT_SYSTEM_SCHEMA);
    let doing = "reading which integer keys cannot be seen";
    let found = db.query(doing, &sql, &[]).await?;
    each(&found, |row| {
        Ok(Unseen {
            table: row.relation("schema", "name")?,
            filtered: row.named("filtered")?,
        })
    })
}

/// All sequences that do not start again at their end; of those beyond the share `from`, what changes with their
/// columns.
pub(in crate::kinds::postgres::integrity) async fn sequences(
    db: &Session,
    from: f64,
) -> Result<Vec<Sequence>, EngineError> {
    let sql = SEQUENCES.replace("{not_system}", NOT_SYSTEM_SCHEMA);
    let found = db.query("reading sequences", &sql, &[]).await?;
    let mut sequences = each(&found, |row| {
        let (readable, locked, up): (bool, bool, bool) = (
            row.named("readable")?,
            row.named("locked")?,
            row.named("up")?,
        );
        let (low, high, last): (i64, i64, i64) = (
            row.named("lowest")?,
            row.named("highest")?,
            row.named("last")?,
        );
        let limit: Option<i64> = row.named("most")?;
        let domain: bool = row.named("in_domain")?;
        let start = if up { low } else { high };
        let own_end = if up { high } else { low };
        let end = match limit {
            Some(limit) if up => own_end.min(limit),
            Some(limit) => own_end.max(-limit - 1),
            None => own_end,
        };
        let span = |to: i64| (i128::from(to) - i128::from(start)).unsigned_abs() as f64;
        Ok(Sequence {
            name: row.relation("schema", "name")?,
            kind: row.named("kind")?,
            used: readable.then(|| span(last) / span(end).max(1.0)),
            last,
            end,
            column: match row.named::<Option<String>>("column_name")? {
                Some(name) => Some(Column {
                    table: RelationName::new(
                        row.named::<Option<String>>("table_schema")?
                            .unwrap_or_default(),
                        row.named::<Option<String>>("table_name")?
                            .unwrap_or_default(),
                    ),
                    name: Identifier::new(name),
                    kind: row
                        .named::<Option<String>>("column_type")?
                        .unwrap_or_default(),
                    domain,
                    place: (row.named("place_table")?, row.named("place_column")?),
                    around: Around::default(),
                }),
                None => None,
            },
            column_ends_first: end != own_end,
            own_end,
            column_end: limit.map(|limit| if up { limit } else { -limit - 1 }),
            up,
            locked,
        })
    })?;
    let near = sequences
        .iter_mut()
        .filter(|s| s.used.is_some_and(|used| used >= from));
    columns::read_around(db, near.filter_map(|s| s.column.as_mut())).await?;
    Ok(sequences)
}

/// Integer columns of keys that hold values beyond the share `from`.
pub(in crate::kinds::postgres::integrity) async fn keys(
    db: &Session,
    from: f64,
) -> Result<Vec<Key>, EngineError> {
    let sql = KEYS.replace("{not_system}", NOT_SYSTEM_SCHEMA);
    let found = db
        .query("reading the statistics of integer keys", &sql, &[&from])
        .await?;
    let mut keys = each(&found, |row| {
        Ok(Key {
            column: Column {
                table: row.relation("schema", "name")?,
                name: Identifier::new(row.named::<String>("column_name")?),
                kind: row.named("column_type")?,
                domain: row.named("in_domain")?,
                place: (row.named("table_oid")?, row.named("number")?),
                around: Around::default(),
            },
            used: row.named("used")?,
        })
    })?;
    columns::read_around(db, keys.iter_mut().map(|key| &mut key.column)).await?;
    Ok(keys)
}
