//! What a vacuum is decided on: what the server counts of each table, and who may still see what died.

use chrono::{DateTime, Utc};

use super::super::horizon::{self, Holder};
use super::super::rights::Rights;
use super::super::uncounted::Uncounted;
use crate::engines::EngineError;
use crate::engines::postgres::catalog::{NOT_SYSTEM_SCHEMA, may_vacuum, size_of};
use crate::engines::postgres::{RelationName, Row, Session, each};

/// What is known of one table, or of its TOAST table.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heap {
    pub(super) oid: u32,
    pub(super) bytes: i64,
    pub(super) live: f64,
    pub(super) dead: i64,
    pub(super) inserted: i64,
    pub(super) xid_age: i64,
    pub(super) multixact_age: i64,
    pub(super) last_vacuum: Option<DateTime<Utc>>,
    pub(super) last_analyze: Option<DateTime<Utc>>,
    /// Whether its `vacuum_index_cleanup` is off: what pointed at dead rows stays then, and ANALYZE counts it as them.
    pub(super) uncleaned: bool,
    /// Rows updated and deleted since the server began to count.
    pub(super) changed: i64,
}

/// What is known of one table with what belongs to it.
#[derive(Clone, Debug)]
pub(crate) struct TableFacts {
    pub(super) name: RelationName,
    pub(super) heap: Heap,
    pub(super) toast: Option<Heap>,
    /// Whether other tables inherit from it; 18 would vacuum those as well.
    pub(super) has_children: bool,
    pub(super) system: bool,
    pub(super) may: bool,
    pub(super) owner: String,
    /// The server has counted nothing of it since it began to count.
    pub(super) uncounted: bool,
}

/// What the decision is made from.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(super) major: i32,
    pub(super) role: String,
    /// What may be advised where it may not.
    pub(super) rights: Rights,
    pub(super) database: String,
    pub(super) database_age: i64,
    pub(super) database_multixact_age: i64,
    pub(super) freeze_max_age: i64,
    pub(super) freeze_max_multixact_age: i64,
    pub(super) holders: Vec<Holder>,
    pub(super) tables: Vec<TableFacts>,
    pub(super) uncounted: Uncounted,
}

const TABLES: &str = "SELECT c.oid, n.nspname::text AS schema, c.relname::text AS name,
        {size} AS bytes, c.reltuples::float8 AS live,
        coalesce(pg_catalog.pg_stat_get_dead_tuples(c.oid), 0) AS dead,
        coalesce(pg_catalog.pg_stat_get_ins_since_vacuum(c.oid), 0) AS inserted,
        pg_catalog.age(c.relfrozenxid)::int8 AS xid_age, pg_catalog.mxid_age(c.relminmxid)::int8 AS multixact_age,
        greatest(pg_catalog.pg_stat_get_last_vacuum_time(c.oid),
                 pg_catalog.pg_stat_get_last_autovacuum_time(c.oid)) AS last_vacuum,
        greatest(pg_catalog.pg_stat_get_last_analyze_time(c.oid), pg_catalog.pg_stat_get_last_autoanalyze_time(c.oid)) AS last_analyze,
        {c_uncleaned} AS uncleaned,
        coalesce(pg_catalog.pg_stat_get_tuples_updated(c.oid) + pg_catalog.pg_stat_get_tuples_deleted(c.oid), 0) AS changed,
        t.oid AS toast_oid, {toast_size} AS toast_bytes, t.reltuples::float8 AS toast_live,
        coalesce(pg_catalog.pg_stat_get_dead_tuples(t.oid), 0) AS toast_dead,
        coalesce(pg_catalog.pg_stat_get_ins_since_vacuum(t.oid), 0) AS toast_inserted,
        pg_catalog.age(t.relfrozenxid)::int8 AS toast_xid_age, pg_catalog.mxid_age(t.relminmxid)::int8 AS toast_multixact_age,
        greatest(pg_catalog.pg_stat_get_last_vacuum_time(t.oid),
                 pg_catalog.pg_stat_get_last_autovacuum_time(t.oid)) AS toast_last_vacuum,
        greatest(pg_catalog.pg_stat_get_last_analyze_time(t.oid), pg_catalog.pg_stat_get_last_autoanalyze_time(t.oid)) AS toast_last_analyze,
        {t_uncleaned} AS toast_uncleaned,
        coalesce(pg_catalog.pg_stat_get_tuples_updated(t.oid) + pg_catalog.pg_stat_get_tuples_deleted(t.oid), 0) AS toast_changed,
        c.relhassubclass AS has_children, NOT ({not_system}) AS system, {may} AS may, pg_catalog.pg_get_userbyid(c.relowner)::text AS owner,
        coalesce(pg_catalog.pg_stat_get_live_tuples(c.oid), 0) AS counted, pg_catalog.pg_stat_get_last_analyze_time(c.oid) IS NULL
            AND pg_catalog.pg_stat_get_last_autoanalyze_time(c.oid) IS NULL AS never_analyzed
    FROM pg_catalog.pg_class c
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        LEFT JOIN pg_catalog.pg_class t ON t.oid = c.reltoastrelid
    WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't'";

/// Whether VACUUM leaves the indexes of a table, and so what they point at, as they are: where it has none, nothing
/// points at dead rows.
const UNCLEANED: &str = "coalesce({t}.relhasindex AND EXISTS (SELECT FROM pg_catalog.pg_options_to_table({t}.reloptions) o
            WHERE o.option_name = 'vacuum_index_cleanup' AND pg_catalog.lower(o.option_value) IN ('off', 'false', 'no', '0')), false)";

const DATABASE: &str =
    "SELECT pg_catalog.age(datfrozenxid)::int8 AS xid_age, pg_catalog.mxid_age(datminmxid)::int8 AS multixact_age,
        pg_catalog.current_setting('autovacuum_freeze_max_age')::int8 AS freeze_max_age,
        pg_catalog.current_setting('autovacuum_multixact_freeze_max_age')::int8 AS freeze_max_multixact_age
    FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()";

/// Reads it.
pub(super) async fn read(db: &Session) -> Result<Facts, EngineError> {
    let sql = TABLES
        .replace("{may}", &may_vacuum(&db.server))
        .replace("{size}", &size_of("c"))
        .replace("{toast_size}", &size_of("t"))
        .replace("{c_uncleaned}", &UNCLEANED.replace("{t}", "c"))
        .replace("{t_uncleaned}", &UNCLEANED.replace("{t}", "t"))
        .replace("{not_system}", NOT_SYSTEM_SCHEMA);
    let tables = db
        .query("reading which tables there are", &sql, &[])
        .await?;
    let doing = "reading the age of the database";
    let database = db.query(doing, DATABASE, &[]).await?;
    let heap = |row: &Row, of: &str, oid: u32| {
        let column = |name: &str| format!("{of}{name}");
        Ok::<_, EngineError>(Heap {
            oid,
            bytes: row.named(&column("bytes"))?,
            live: row.named(&column("live"))?,
            dead: row.named(&column("dead"))?,
            inserted: row.named(&column("inserted"))?,
            xid_age: row.named(&column("xid_age"))?,
            multixact_age: row.named(&column("multixact_age"))?,
            last_vacuum: row.named(&column("last_vacuum"))?,
            last_analyze: row.named(&column("last_analyze"))?,
            uncleaned: row.named(&column("uncleaned"))?,
            changed: row.named(&column("changed"))?,
        })
    };
    let tables = each(&tables, |row| {
        Ok(TableFacts {
            name: row.relation("schema", "name")?,
            heap: heap(row, "", row.named("oid")?)?,
            toast: match row.named("toast_oid")? {
                Some(oid) => Some(heap(row, "toast_", oid)?),
                None => None,
            },
            has_children: row.named("has_children")?,
            system: row.named("system")?,
            may: row.named("may")?,
            owner: row.named("owner")?,
            uncounted: row.named::<i64>("counted")? == 0 && row.named("never_analyzed")?,
        })
    })?;
    let age = |column: &str| database.first().map_or(Ok(0), |row| row.named(column));
    Ok(Facts {
        major: db.server.major(),
        role: db.server.role.clone(),
        rights: Rights::read(db).await?,
        database: db.server.database.clone(),
        database_age: age("xid_age")?,
        database_multixact_age: age("multixact_age")?,
        freeze_max_age: age("freeze_max_age")?,
        freeze_max_multixact_age: age("freeze_max_multixact_age")?,
        holders: horizon::holders(db).await?,
        tables,
        uncounted: Uncounted::read(db).await?,
    })
}
