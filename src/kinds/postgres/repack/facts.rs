//! What is read about tables, with a number of queries that does not depend on
//! how many there are.

use std::collections::HashMap;

use super::super::common::Unmeasured;
use super::super::rights::Forbidden;
use super::fires::{COMPUTES_ALL, HOOKS, RECOMPUTES, replaceable};
use crate::engines::EngineError;
use crate::engines::postgres::catalog::{
    NOT_SYSTEM_SCHEMA, enforced, may_reindex, may_vacuum, size_of,
};
use crate::engines::postgres::publications::{Published, published, refusals};
use crate::engines::postgres::{Identifier, RelationName, Session, each, first};

/// One table with storage of its own.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TableFacts {
    pub(super) oid: u32,
    pub(super) name: RelationName,
    pub(super) heap_bytes: i64,
    /// Of its TOAST table; 0 where it has none.
    pub(super) toast_bytes: i64,
    /// Chunks in the TOAST table; -1 where they were never counted.
    pub(super) toast_chunks: f64,
    pub(super) index_bytes: i64,
    /// -1 where they were never counted.
    pub(super) rows: f64,
    /// Rows changed since they were counted.
    pub(super) changed: i64,
    /// Changes have been counted since the rows were.
    pub(super) counted: bool,
    /// In percent.
    pub(super) fillfactor: f64,
    pub(super) age: i64,
    /// Whether the role may vacuum it, and repack it.
    pub(super) may: bool,
    pub(super) may_repack: bool,
    /// Whether the role may write its rows.
    pub(super) may_write: bool,
    pub(super) owner: String,
    /// Whether the role may not read its rows, and so sees no statistics of its columns either.
    pub(super) unread: bool,
    /// Whether policies hide them, and so those statistics.
    pub(super) filtered: bool,
    pub(super) has_children: bool,
    pub(super) unlogged: bool,
    /// Whether a primary key or a replica identity index tells rows apart, at
    /// once: one that is checked at the end of the transaction does not do, nor
    /// does a primary key where REPLICA IDENTITY FULL is set.
    pub(super) identity: bool,
    /// Whether policies apply to the role.
    pub(super) policies: bool,
    /// Triggers and rules that an UPDATE sets off, with `pg_trigger.tgenabled`.
    pub(super) hooks: Vec<(String, char)>,
    /// Constraints that hold only for new rows.
    pub(super) unproved: Vec<String>,
    /// Logical slots that would decode every moved row.
    pub(super) slots: Vec<String>,
    /// Why publications have the server refuse to change any row.
    pub(super) unpublishable: Vec<String>,
    pub(super) columns: Vec<ColumnFacts>,
    /// Whether a trigger before an update has the server compute every generated column anew, whichever column
    /// is written, and whether or not it fires.
    pub(super) computes_all: bool,
    /// Which table it is, and of which columns its rows are.
    pub(super) made_as: String,
    /// What its rows would take without gaps, as measured by pgstattuple.
    pub(super) measured_bytes: Option<f64>,
}

impl TableFacts {
    /// What the role is told where it may not work on it.
    pub(super) fn forbidden(&self) -> Forbidden {
        Forbidden::table(&self.name, &self.owner)
    }

    /// Table and TOAST table.
    pub(super) fn bytes(&self) -> i64 {
        self.heap_bytes.saturating_add(self.toast_bytes)
    }
}

/// One column, dropped ones included.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ColumnFacts {
    /// Quoted.
    pub(super) name: String,
    /// Bytes, or -1 for values of varying length.
    pub(super) length: i16,
    /// `c`, `s`, `i` or `d`: 1, 2, 4 or 8 bytes.
    pub(super) alignment: char,
    pub(super) dropped: bool,
    /// Share of nulls and average width, where ANALYZE gathered them.
    pub(super) statistics: Option<(f64, f64)>,
    /// ANALYZE is told to gather nothing.
    pub(super) never_gathered: bool,
    /// Generated, or always an identity: nobody writes it.
    pub(super) made: bool,
    /// A generated column or a check is made from it.
    pub(super) computed_from: bool,
    /// Indexes, keys, views, policies or sequences use it.
    pub(super) used: bool,
    /// It is computed from others and stored, by a function, an operator or rules of text that somebody may have
    /// replaced since.
    pub(super) replaceable: bool,
    /// Such a column is made from it.
    pub(super) recomputes: bool,
}

// What died is told by pg_stat; where an UPDATE would be decoded, by slots of this database. That of a REPACK
// at work decodes its own table only, which nobody else can touch.
const TABLES: &str = "SELECT c.oid, n.nspname::text AS schema, c.relname::text AS name, {size} AS heap_bytes, {toast_size} AS toast_bytes, coalesce(t.reltuples, 0)::float8 AS toast_chunks,
        coalesce((SELECT sum({index_size}) FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
            WHERE i.indrelid = c.oid), 0)::int8 AS index_bytes,
        c.reltuples::float8 AS table_rows, coalesce(pg_catalog.pg_stat_get_mod_since_analyze(c.oid), 0) AS changed,
        greatest(pg_catalog.pg_stat_get_last_analyze_time(c.oid), pg_catalog.pg_stat_get_last_autoanalyze_time(c.oid),
            pg_catalog.pg_stat_get_last_vacuum_time(c.oid), pg_catalog.pg_stat_get_last_autovacuum_time(c.oid)) IS NOT NULL
            OR coalesce(pg_catalog.pg_stat_get_live_tuples(c.oid), 0) >= c.reltuples AS counted,
        coalesce((SELECT o.option_value FROM pg_catalog.pg_options_to_table(c.reloptions) o WHERE o.option_name = 'fillfactor'), '100')::float8 AS fillfactor,
        pg_catalog.age(c.relfrozenxid)::int8 AS age, {may_vacuum} AS may, {may_repack} AS may_repack,
        pg_catalog.has_table_privilege(c.oid, 'SELECT') AND pg_catalog.has_table_privilege(c.oid, 'UPDATE')
            AND pg_catalog.has_schema_privilege(c.relnamespace, 'USAGE') AS may_write,
        pg_catalog.pg_get_userbyid(c.relowner)::text AS owner,
        NOT pg_catalog.has_table_privilege(c.oid, 'SELECT') AS unread,
        c.relhassubclass AS has_children, c.relpersistence = 'u' AS unlogged,
        EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indisvalid
            AND i.indimmediate AND CASE c.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident ELSE false END) AS identity,
        pg_catalog.row_security_active(c.oid) AS filtered,
        ARRAY({hooks} ORDER BY 1) AS hooks,
        ARRAY(SELECT k.conname::text FROM pg_catalog.pg_constraint k
            WHERE k.conrelid = c.oid AND k.contype IN ('c', 'n') AND NOT k.convalidated AND {enforced} ORDER BY 1) AS unproved,
        ARRAY(SELECT s.slot_name::text FROM pg_catalog.pg_replication_slots s
            WHERE s.slot_type = 'logical' AND s.database = pg_catalog.current_database()
                AND s.plugin <> 'pgrepack' AND (s.plugin <> 'pgoutput' OR p.published) ORDER BY 1) AS slots,
        {unpublishable} AS unpublishable,
        {computes_all} AS computes_all,
        pg_catalog.concat_ws('/', $2::oid, c.oid, pg_catalog.hashtextextended(pg_catalog.concat_ws('/', c.relam, c.reloptions,
            (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(':', a.atttypid, a.atttypmod), ' ' ORDER BY a.attnum)
                FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0)), 0)) AS made_as
    FROM pg_catalog.pg_class c
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        LEFT JOIN pg_catalog.pg_class t ON t.oid = c.reltoastrelid
        CROSS JOIN LATERAL (SELECT EXISTS (SELECT FROM pg_catalog.pg_publication b WHERE b.pubupdate AND {published}) AS published) p
    WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND {not_system} AND {size} + coalesce({toast_size}, 0) >= $1::int8
    ORDER BY heap_bytes DESC, oid";

const COLUMNS: &str = "SELECT a.attrelid AS table_oid, a.attname::text AS name, a.attlen AS length, a.attalign::text AS alignment, a.attisdropped AS dropped,
        s.null_frac::float8 AS nulls, s.avg_width::float8 AS width, coalesce(a.attstattarget, -1) = 0 AS never_gathered,
        a.attgenerated <> '' OR a.attidentity = 'a' AS made,
        EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
            AND d.refobjid = a.attrelid AND d.refobjsubid = a.attnum
            AND (d.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass AND NOT EXISTS (SELECT FROM pg_catalog.pg_attrdef e
                    WHERE e.oid = d.objid AND e.adrelid = a.attrelid AND e.adnum = a.attnum)
                OR d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = a.attrelid
                OR d.classid = 'pg_catalog.pg_constraint'::pg_catalog.regclass AND EXISTS (SELECT FROM pg_catalog.pg_constraint k
                    WHERE k.oid = d.objid AND k.contype = 'c'))) AS computed_from,
        EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
            AND d.refobjid = a.attrelid AND d.refobjsubid = a.attnum AND d.classid <> 'pg_catalog.pg_attrdef'::pg_catalog.regclass) AS used,
        a.attnum = ANY (g.columns) AS replaceable,
        {recomputes} AS recomputes
    FROM pg_catalog.pg_attribute a
        CROSS JOIN LATERAL (SELECT ARRAY({replaceable})) AS g (columns)
        JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        LEFT JOIN pg_catalog.pg_stats s ON s.schemaname = n.nspname AND s.tablename = c.relname
            AND s.attname = a.attname AND NOT s.inherited
    WHERE a.attrelid = ANY ($1::oid[]) AND a.attnum > 0
    ORDER BY a.attrelid, a.attnum";

/// Reads the tables that take at least so many bytes, the largest first.
pub(super) async fn tables(db: &Session, min_bytes: i64) -> Result<Vec<TableFacts>, EngineError> {
    let sql = TABLES
        .replace("{may_vacuum}", &may_vacuum(&db.server))
        .replace("{may_repack}", &may_reindex(&db.server))
        .replace("{not_system}", NOT_SYSTEM_SCHEMA)
        .replace("{hooks}", HOOKS)
        .replace("{computes_all}", COMPUTES_ALL)
        .replace("{enforced}", &enforced(&db.server, "k"))
        .replace("{unpublishable}", &refusals(&db.server, Published::Update))
        .replace("{published}", &published(&db.server, "b", "c.oid"))
        .replace("{index_size}", &size_of("x"))
        .replace("{toast_size}", &size_of("t"))
        .replace("{size}", &size_of("c"));
    let doing = "reading which tables there are";
    let rows = db
        .query(doing, &sql, &[&min_bytes, &db.server.database_oid])
        .await?;
    each(&rows, |row| {
        Ok(TableFacts {
            oid: row.named("oid")?,
            name: row.relation("schema", "name")?,
            heap_bytes: row.named("heap_bytes")?,
            toast_bytes: row.named::<Option<i64>>("toast_bytes")?.unwrap_or(0),
            toast_chunks: row.named("toast_chunks")?,
            index_bytes: row.named("index_bytes")?,
            rows: row.named("table_rows")?,
            changed: row.named("changed")?,
            counted: row.named("counted")?,
            fillfactor: row.named("fillfactor")?,
            age: row.named("age")?,
            may: row.named("may")?,
            may_repack: row.named("may_repack")?,
            may_write: row.named("may_write")?,
            owner: row.named("owner")?,
            unread: row.named::<Option<bool>>("unread")?.unwrap_or(true),
            has_children: row.named("has_children")?,
            unlogged: row.named("unlogged")?,
            identity: row.named("identity")?,
            policies: row.named("filtered")?,
            filtered: row.named("filtered")?,
            hooks: row
                .named::<Vec<String>>("hooks")?
                .iter()
                .map(|h| hook(h))
                .collect(),
            unproved: row.named("unproved")?,
            slots: row.named("slots")?,
            unpublishable: row.named("unpublishable")?,
            made_as: row.named("made_as")?,
            columns: Vec::new(),
            computes_all: row.named("computes_all")?,
            measured_bytes: None,
        })
    })
}

/// `trigger audit/O`: what it is, and when it fires.
fn hook(text: &str) -> (String, char) {
    match text.rsplit_once('/') {
        Some((what, when)) => (what.to_owned(), when.chars().next().unwrap_or('A')),
        None => (text.to_owned(), 'A'),
    }
}

/// Reads the columns of these tables.
pub(super) async fn add_columns(
    db: &Session,
    tables: &mut [TableFacts],
) -> Result<(), EngineError> {
    let oids: Vec<u32> = tables.iter().map(|t| t.oid).collect();
    let doing = "reading the statistics of columns";
    let sql = COLUMNS
        .replace("{replaceable}", &replaceable("a.attrelid"))
        .replace("{recomputes}", RECOMPUTES);
    let rows = db.query(doing, &sql, &[&oids]).await?;
    let mut columns: HashMap<u32, Vec<ColumnFacts>> = HashMap::new();
    for row in &rows {
        let nulls: Option<f64> = row.named("nulls")?;
        columns
            .entry(row.named("table_oid")?)
            .or_default()
            .push(ColumnFacts {
                name: Identifier::new(row.named::<String>("name")?).to_string(),
                length: row.named("length")?,
                alignment: row
                    .named::<String>("alignment")?
                    .chars()
                    .next()
                    .unwrap_or('i'),
                dropped: row.named("dropped")?,
                statistics: nulls.zip(Some(row.named::<Option<f64>>("width")?.unwrap_or(0.0))),
                never_gathered: row.named("never_gathered")?,
                made: row.named("made")?,
                computed_from: row.named("computed_from")?,
                used: row.named("used")?,
                replaceable: row.named("replaceable")?,
                recomputes: row.named("recomputes")?,
            });
    }
    for table in tables {
        table.columns = columns.remove(&table.oid).unwrap_or_default();
    }
    Ok(())
}

/// What holds for all tables.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ServerFacts {
    /// Whether the role may keep triggers from firing.
    pub(super) may_quiet: bool,
    /// Why the server's own REPACK cannot be used; it has none before 19.
    pub(super) no_repack: Option<String>,
    pub(super) freeze_max_age: i64,
    /// So many bytes of the log the server keeps for a slot, which is of no use with more; none where
    /// it keeps whatever is needed.
    pub(super) most_log: Option<i64>,
}

/// Reads what holds for all tables.
pub(super) async fn server(db: &Session) -> Result<ServerFacts, EngineError> {
    let quiet = if db.server.major() >= 15 {
        "pg_catalog.has_parameter_privilege('session_replication_role', 'SET')"
    } else {
        "(SELECT r.rolsuper FROM pg_catalog.pg_roles r WHERE r.rolname = current_user)"
    };
    let sql = format!(
        "SELECT {quiet} AS may_quiet, pg_catalog.current_setting('autovacuum_freeze_max_age')::int8 AS freeze_max_age,
            pg_catalog.current_setting('wal_level') AS wal_level, pg_catalog.current_setting('max_repack_replication_slots', true) AS slots,
            (SELECT s.setting::int8 << 20 FROM pg_catalog.pg_settings s WHERE s.name = 'max_slot_wal_keep_size' AND s.setting::int8 >= 0) AS most_log"
    );
    let doing = "reading what the server and the role can do";
    let rows = db.query(doing, &sql, &[]).await?;
    let Some(row) = rows.first() else {
        return Ok(ServerFacts::default());
    };
    let (wal_level, slots): (String, Option<String>) =
        (row.named("wal_level")?, row.named("slots")?);
    let no_repack = match slots.as_deref() {
        _ if db.server.major() < 19 => {
            Some("the server has no REPACK (CONCURRENTLY); 19 and newer have".to_owned())
        }
        Some("0") => Some("max_repack_replication_slots is 0".to_owned()),
        _ if wal_level == "minimal" => Some("wal_level is minimal".to_owned()),
        _ => None,
    };
    Ok(ServerFacts {
        may_quiet: row.named("may_quiet")?,
        freeze_max_age: row.named("freeze_max_age")?,
        no_repack,
        most_log: row.named("most_log")?,
    })
}

/// Its schema, where the function there is the extension's own.
const EXTENSION: &str = "SELECT n.nspname::text FROM pg_catalog.pg_extension e
    JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
    WHERE e.extname = 'pgstattuple' AND EXISTS (SELECT FROM pg_catalog.pg_depend d
        JOIN pg_catalog.pg_proc p ON p.oid = d.objid AND p.pronamespace = e.extnamespace
        WHERE d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND d.refobjid = e.oid AND d.deptype = 'e'
            AND d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND p.proname = 'pgstattuple_approx'
            AND pg_catalog.oidvectortypes(p.proargtypes) = 'regclass')";

/// What is free or dead is lost; of full pages only as much as the fill factor asks for is.
const MEASURE: &str =
    "SELECT ((s.table_len - s.approx_free_space - s.dead_tuple_len) * 100 / $2::float8)::float8
    FROM {schema}.pgstattuple_approx($1::oid::regclass) s";

/// Measures these tables page by page, all but those pages of which the
/// visibility map says that nothing on them is dead. Why it cannot, otherwise.
pub(super) async fn measure(
    db: &Session,
    tables: &mut [TableFacts],
) -> Result<Option<Unmeasured>, EngineError> {
    let found = db.query("looking for pgstattuple", EXTENSION, &[]).await?;
    let Some(schema) = first::<String>(&found, 0)?.map(Identifier::new) else {
        return Ok(Some(Unmeasured::NotInstalled));
    };
    let sql = MEASURE.replace("{schema}", &schema.to_string());
    for table in tables {
        let doing = format!("measuring {}", table.name);
        match db
            .query(&doing, &sql, &[&table.oid, &table.fillfactor])
            .await
        {
            Ok(rows) => table.measured_bytes = first(&rows, 0)?.flatten(),
            Err(error) if error.sqlstate() == Some("42501") => {
                return Ok(Some(Unmeasured::Forbidden));
            }
            // Vanished, or being dropped: the executor would find out too.
            Err(error) if error.sqlstate().is_some() => {
                tracing::debug!(table = %table.name, %error, "could not be measured");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}
