//! What catalogs and statistics say of a database. Nothing that others wrote is evaluated:
//! expressions are compared as the catalog keeps them, and no row of a table is read.

use chrono::{DateTime, Utc};

use crate::engines::EngineError;
use crate::engines::postgres::catalog::{COUNTING_SINCE, NOT_SYSTEM_SCHEMA, size_of};
use crate::engines::postgres::{RelationName, Session};
use crate::kinds::postgres::ON_THEIR_WAY_OUT;
use crate::values::TableName;

/// The database as a whole.
#[derive(Clone, Debug, Default)]
pub(super) struct Overview {
    pub(super) tables: i64,
    pub(super) indexes: i64,
    pub(super) index_bytes: i64,
    pub(super) bytes: i64,
    pub(super) foreign_keys: i64,
    /// Tables whose statistics the role may not see.
    pub(super) unseen: i64,
    /// Tables whose statistics row-level security hides from the role.
    pub(super) filtered: i64,
    /// Tables that autovacuum leaves alone.
    pub(super) no_autovacuum: i64,
    /// The time zone that sessions get.
    pub(super) zone: String,
    pub(super) counting_since: Option<DateTime<Utc>>,
    /// Installed extensions that matter here.
    pub(super) extensions: Vec<String>,
}

/// A column of a table that holds times.
#[derive(Clone, Debug)]
pub(super) struct TimeColumn {
    pub(super) name: String,
    /// `timestamptz`, `timestamp` or `date`.
    pub(super) kind: String,
    pub(super) not_null: bool,
    /// Its default is the moment of the insert.
    pub(super) now: bool,
    /// An index begins with it.
    pub(super) indexed: bool,
    /// Times that cut the rows into parts of about the same size, oldest first, as text.
    pub(super) bounds: Vec<String>,
}

/// A table with such columns, without partitions.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub(super) name: TableName,
    pub(super) bytes: i64,
    pub(super) rows: f64,
    pub(super) inserted: i64,
    pub(super) updated: i64,
    /// Tables whose foreign keys point at it.
    pub(super) referenced_by: Vec<String>,
    pub(super) columns: Vec<TimeColumn>,
    /// It was a partition, and a run has taken it out of its table.
    pub(super) on_its_way_out: bool,
}

/// A table with partitions.
#[derive(Clone, Debug)]
pub(super) struct Partitioned {
    pub(super) name: TableName,
    /// `r`, `l` or `h`.
    pub(super) strategy: String,
    pub(super) key_columns: i32,
    /// The type of the first column of its key.
    pub(super) key_type: String,
    /// Bounds of its newest partitions, as the server writes them in UTC.
    pub(super) bounds: Vec<String>,
    pub(super) count: i64,
    /// It was a partition, and a run has taken it out of its table.
    pub(super) on_its_way_out: bool,
}

/// A materialized view.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub(super) name: RelationName,
    /// Whether it can be refreshed without blocking its readers.
    pub(super) concurrently: bool,
}

const DOING: &str = "looking at the database";

pub(super) async fn overview(session: &Session) -> Result<Overview, EngineError> {
    let size = size_of("c");
    let sql = format!(
        "SELECT count(*) FILTER (WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition)::int8 AS tables,
            count(*) FILTER (WHERE c.relkind = 'i')::int8 AS indexes,
            coalesce(sum({size}) FILTER (WHERE c.relkind = 'i'), 0)::int8 AS index_bytes,
            coalesce(sum({size}), 0)::int8 AS bytes,
            (SELECT count(*) FROM pg_catalog.pg_constraint k WHERE k.contype = 'f' AND k.conparentid = 0)::int8 AS foreign_keys,
            count(*) FILTER (WHERE c.relkind IN ('r', 'm') AND NOT pg_catalog.has_table_privilege(c.oid, 'SELECT'))::int8 AS unseen,
            count(*) FILTER (WHERE c.relkind = 'r' AND NOT coalesce((SELECT o.option_value::bool FROM pg_catalog.pg_options_to_table(c.reloptions) o WHERE o.option_name = 'autovacuum_enabled'), true))::int8 AS no_autovacuum,
            (SELECT s.reset_val FROM pg_catalog.pg_settings s WHERE s.name = 'TimeZone') AS zone,
            {COUNTING_SINCE} AS counting_since,
            ARRAY(SELECT e.extname::text FROM pg_catalog.pg_extension e ORDER BY 1) AS extensions,
            count(*) FILTER (WHERE c.relkind IN ('r', 'm') AND pg_catalog.row_security_active(c.oid))::int8 AS filtered
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p', 'i', 'm', 't') AND c.relpersistence <> 't'
            AND ({NOT_SYSTEM_SCHEMA} OR c.relkind = 't')"
    );
    let rows = session.query(DOING, &sql, &[]).await?;
    let Some(row) = rows.first() else {
        return Ok(Overview::default());
    };
    let number = |column: &str| row.named::<i64>(column);
    Ok(Overview {
        tables: number("tables")?,
        indexes: number("indexes")?,
        index_bytes: number("index_bytes")?,
        bytes: number("bytes")?,
        foreign_keys: number("foreign_keys")?,
        unseen: number("unseen")?,
        no_autovacuum: number("no_autovacuum")?,
        zone: row.named::<Option<String>>("zone")?.unwrap_or_default(),
        counting_since: row.named("counting_since")?,
        extensions: row.named("extensions")?,
        filtered: number("filtered")?,
    })
}

/// SQL: whether a table bears the mark of a run that is to drop or archive it; `$n` has how those begin.
fn on_its_way_out(n: u32) -> String {
    format!(
        "coalesce((SELECT pg_catalog.bool_or(pg_catalog.starts_with(pg_catalog.obj_description(c.oid, 'pg_class'), m.mark))
            FROM pg_catalog.unnest(${n}::text[]) AS m (mark)), false)"
    )
}

/// So many tables are looked at closely, the largest first.
const MOST_TABLES: i64 = 500;

/// Tables with a column of time, the largest first.
pub(super) async fn tables(session: &Session) -> Result<Vec<Table>, EngineError> {
    // The functions by number: now(), transaction_timestamp(), statement_timestamp(),
    // clock_timestamp(). A default is compared as the catalog keeps it, and never run.
    let sql = format!(
        "WITH c AS (SELECT c.oid, c.relname, n.nspname, c.reltuples, {size} AS bytes
            FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
            WHERE c.relkind = 'r' AND NOT c.relispartition AND c.relpersistence = 'p' AND {NOT_SYSTEM_SCHEMA}
                AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend x WHERE x.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
                    AND x.objid = c.oid AND x.deptype = 'e')
            ORDER BY bytes DESC, n.nspname, c.relname LIMIT $1::int8)
        SELECT c.nspname::text AS schema, c.relname::text AS name, c.bytes::int8 AS bytes, c.reltuples::float8 AS estimated_rows,
            coalesce(s.n_tup_ins, 0)::int8 AS inserted, coalesce(s.n_tup_upd, 0)::int8 AS updated,
            ARRAY(SELECT DISTINCT pg_catalog.format('%I.%I', fn.nspname, f.relname) FROM pg_catalog.pg_constraint k
                JOIN pg_catalog.pg_class f ON f.oid = k.conrelid JOIN pg_catalog.pg_namespace fn ON fn.oid = f.relnamespace
                WHERE k.contype = 'f' AND k.confrelid = c.oid AND k.conrelid <> c.oid AND k.conparentid = 0 ORDER BY 1) AS referenced_by,
            a.attname::text AS column_name, t.typname::text AS column_type, a.attnotnull AS not_null,
            coalesce(d.adbin::text ~ '(SQLVALUEFUNCTION|:funcid (1299|2647|2648|2649) )', false) AS now,
            EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indisvalid AND i.indpred IS NULL
                AND i.indkey[0] = a.attnum) AS indexed,
            coalesce(st.histogram_bounds::text::text[], ARRAY[]::text[]) AS bounds, {marked} AS on_its_way_out
        FROM c JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
                AND a.attgenerated = ''
            JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
                AND t.oid IN ('pg_catalog.timestamptz'::pg_catalog.regtype, 'pg_catalog.timestamp'::pg_catalog.regtype, 'pg_catalog.date'::pg_catalog.regtype)
            LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
            LEFT JOIN pg_catalog.pg_stat_user_tables s ON s.relid = c.oid
            LEFT JOIN pg_catalog.pg_stats st ON st.schemaname = c.nspname AND st.tablename = c.relname
                AND st.attname = a.attname AND NOT st.inherited
        ORDER BY c.bytes DESC, schema, name, a.attnum",
        size = size_of("c"),
        marked = on_its_way_out(2),
    );
    let mut tables: Vec<Table> = Vec::new();
    for row in session
        .query(DOING, &sql, &[&MOST_TABLES, &&ON_THEIR_WAY_OUT[..]])
        .await?
    {
        let name = TableName {
            schema: row.named("schema")?,
            table: row.named("name")?,
        };
        let column = TimeColumn {
            name: row.named("column_name")?,
            kind: row.named("column_type")?,
            not_null: row.named("not_null")?,
            now: row.named("now")?,
            indexed: row.named("indexed")?,
            bounds: row.named("bounds")?,
        };
        match tables.last_mut().filter(|table| table.name == name) {
            Some(table) => table.columns.push(column),
            None => tables.push(Table {
                name,
                bytes: row.named("bytes")?,
                rows: row.named("estimated_rows")?,
                inserted: row.named("inserted")?,
                updated: row.named("updated")?,
                referenced_by: row.named("referenced_by")?,
                columns: vec![column],
                on_its_way_out: row.named("on_its_way_out")?,
            }),
        }
    }
    Ok(tables)
}

/// Partitioned tables that are no partitions themselves.
pub(super) async fn partitioned(session: &Session) -> Result<Vec<Partitioned>, EngineError> {
    let sql = format!(
        "SELECT n.nspname::text AS schema, c.relname::text AS name, p.partstrat::text AS strategy, p.partnatts::int4 AS key_columns, coalesce(t.typname::text, '') AS key_type,
            ARRAY(SELECT pg_catalog.pg_get_expr(b.relpartbound, 0) FROM pg_catalog.pg_inherits i
                JOIN pg_catalog.pg_class b ON b.oid = i.inhrelid
                WHERE i.inhparent = c.oid AND b.relpartbound IS NOT NULL ORDER BY b.oid DESC LIMIT 100) AS bounds,
            (SELECT count(*) FROM pg_catalog.pg_inherits i WHERE i.inhparent = c.oid)::int8 AS count, {marked} AS on_its_way_out
        FROM pg_catalog.pg_partitioned_table p JOIN pg_catalog.pg_class c ON c.oid = p.partrelid
            JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
            LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = p.partattrs[0] AND a.attnum > 0
            LEFT JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
        WHERE NOT c.relispartition AND c.relpersistence <> 't' AND {NOT_SYSTEM_SCHEMA}
        ORDER BY schema, name",
        marked = on_its_way_out(1),
    );
    let mut found = Vec::new();
    for row in session
        .query(DOING, &sql, &[&&ON_THEIR_WAY_OUT[..]])
        .await?
    {
        found.push(Partitioned {
            name: TableName {
                schema: row.named("schema")?,
                table: row.named("name")?,
            },
            strategy: row.named("strategy")?,
            key_columns: row.named("key_columns")?,
            key_type: row.named("key_type")?,
            bounds: row.named("bounds")?,
            count: row.named("count")?,
            on_its_way_out: row.named("on_its_way_out")?,
        });
    }
    Ok(found)
}

pub(super) async fn views(session: &Session) -> Result<Vec<View>, EngineError> {
    let sql = format!(
        "SELECT n.nspname::text, c.relname::text,
            c.relispopulated AND EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indisunique
                AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL)
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind = 'm' AND {NOT_SYSTEM_SCHEMA} ORDER BY 1, 2"
    );
    let mut found = Vec::new();
    for row in session.query(DOING, &sql, &[]).await? {
        found.push(View {
            name: RelationName::new(row.get::<String>(0)?, row.get::<String>(1)?),
            concurrently: row.get(2)?,
        });
    }
    Ok(found)
}
