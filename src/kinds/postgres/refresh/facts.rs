//! Which views there are, what they read, and what moved in it.

use std::collections::{BTreeMap, HashMap};

use super::super::rights::Rights;
use super::super::uncounted::Uncounted;
use super::calls;
use crate::engines::EngineError;
use crate::engines::postgres::catalog::{NOT_SYSTEM_SCHEMA, counting_as, may_reindex};
use crate::engines::postgres::trust::Standing;
use crate::engines::postgres::{RelationName, Session};

/// A plain or materialized view.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub(super) name: RelationName,
    pub(super) materialized: bool,
    pub(super) populated: bool,
    /// Whether it has the index that a concurrent refresh needs: unique,
    /// valid, over columns and all rows.
    pub(super) unique_index: bool,
    /// A column without duplicates, if statistics know one.
    pub(super) unique_column: Option<String>,
    pub(super) bytes: i64,
    pub(super) may: bool,
    pub(super) owner: String,
    /// What it reads, and its owner may not.
    pub(super) unreadable: Option<RelationName>,
    /// What in its definition may answer differently although no table
    /// changed: functions such as `now`, and system catalogs.
    pub(super) moods: Vec<String>,
    /// Changes with what it selects, and with the users' functions that it calls.
    pub(super) definition: i64,
}

/// What row security hides of a table, and what its virtual columns make of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Secured {
    /// Why the same rows may be hidden today, and others tomorrow.
    pub(super) moods: Vec<String>,
    /// Changes with the policies, with whom they are for, and with what virtual columns compute.
    pub(super) definition: i64,
}

/// A relation that holds rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Counters {
    /// What it is, if nobody counts its changes here.
    pub(super) uncounted: Option<String>,
    /// Changes with TRUNCATE and the like, which no counter shows.
    pub(super) filenode: u32,
    /// Rows inserted, updated and deleted since statistics were reset.
    pub(super) changes: i64,
}

/// What the decision is made from.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    pub(super) major: i32,
    pub(super) role: String,
    /// What may be advised where it may not.
    pub(super) rights: Rights,
    /// Views by object id.
    pub(super) views: BTreeMap<u32, View>,
    /// What a view reads, by its object id.
    pub(super) reads: HashMap<u32, Vec<u32>>,
    /// Children (partitions, inheriting tables) by parent.
    pub(super) children: HashMap<u32, Vec<u32>>,
    /// Since when the server has been counting.
    pub(super) epoch: String,
    /// What role and database say about how values are written and read.
    pub(super) settings: String,
    /// Tables with row security or virtual columns.
    pub(super) secured: HashMap<u32, Secured>,
    /// Everything that holds rows.
    pub(super) counters: HashMap<u32, Counters>,
    /// Whose event triggers a refresh would set off.
    pub(super) standing: Standing,
}

const VIEWS: &str =
    "SELECT c.oid, n.nspname::text AS schema, c.relname::text AS name, c.relkind = 'm' AS materialized, c.relispopulated AS populated,
        EXISTS (SELECT FROM pg_catalog.pg_index i
            JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
            JOIN pg_catalog.pg_am a ON a.oid = x.relam AND a.amname = 'btree'
            WHERE i.indrelid = c.oid AND i.indisunique AND i.indimmediate AND i.indisvalid
                AND i.indpred IS NULL AND 0 <> ALL (i.indkey::int2[])) AS unique_index,
        c.relpages::int8 * pg_catalog.current_setting('block_size')::int8 AS bytes, {may} AS may, pg_catalog.pg_get_userbyid(c.relowner)::text AS owner,
        u.schema AS unreached_schema, u.name AS unreached_name
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        -- What the owner may not read; who reads it through a view does as that one's owner.
        LEFT JOIN LATERAL (SELECT min(sn.nspname::text) AS schema, min(s.relname::text) AS name
            FROM pg_catalog.pg_rewrite r
                JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.objid = r.oid
                    AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid <> c.oid
                JOIN pg_catalog.pg_class s ON s.oid = d.refobjid AND s.relkind IN ('r', 'p', 'v', 'm', 'f')
                JOIN pg_catalog.pg_namespace sn ON sn.oid = s.relnamespace
            WHERE r.ev_class = c.oid AND NOT pg_catalog.has_table_privilege(c.relowner, s.oid, 'SELECT')
                AND NOT pg_catalog.has_any_column_privilege(c.relowner, s.oid, 'SELECT')
            GROUP BY s.oid ORDER BY 1, 2 LIMIT 1) AS u ON c.relkind = 'm'
    WHERE c.relkind IN ('m', 'v') AND {not_system}";

/// Columns of materialized views without duplicates.
const UNIQUE_COLUMNS: &str = "SELECT c.oid, min(s.attname::text)
    FROM pg_catalog.pg_stats s
        JOIN pg_catalog.pg_namespace n ON n.nspname = s.schemaname
        JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = s.tablename
    WHERE c.relkind = 'm' AND s.n_distinct = -1 AND s.null_frac = 0 GROUP BY c.oid";

const READS: &str = "SELECT DISTINCT r.ev_class, d.refobjid
    FROM pg_catalog.pg_rewrite r
        JOIN pg_catalog.pg_class c ON c.oid = r.ev_class AND c.relkind IN ('m', 'v')
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass
            AND d.objid = r.oid AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
            AND d.refobjid <> r.ev_class
    WHERE {not_system}";

const CHILDREN: &str = "SELECT inhparent, inhrelid FROM pg_catalog.pg_inherits ORDER BY 1, 2";

const COUNTERS: &str = "SELECT c.oid, c.relkind::text AS kind, c.relfilenode AS filenode,
        coalesce(pg_catalog.pg_stat_get_tuples_inserted(c.oid), 0)
            + coalesce(pg_catalog.pg_stat_get_tuples_updated(c.oid), 0)
            + coalesce(pg_catalog.pg_stat_get_tuples_deleted(c.oid), 0) AS changes
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'm', 'f', 'S') AND {not_system}";

/// What a session has where nobody pins it, of what decides the values that a query makes: the
/// pinned session knows it, too. `to_char` and the like read the locales.
const SETTINGS: &str = "SELECT coalesce(pg_catalog.md5(pg_catalog.string_agg(pg_catalog.concat(s.name, '=', s.reset_val), ' ' ORDER BY s.name)), '')
    FROM pg_catalog.pg_settings s
    WHERE s.name IN ('TimeZone', 'DateStyle', 'IntervalStyle', 'extra_float_digits', 'bytea_output', 'array_nulls',
        'xmlbinary', 'xmloption', 'lc_monetary', 'lc_numeric', 'lc_time', 'default_text_search_config',
        'timezone_abbreviations', 'transform_null_equals')";

/// Reads everything with one query each.
pub(super) async fn read(db: &Session) -> Result<Facts, EngineError> {
    let fill = |sql: &str| {
        sql.replace("{may}", &may_reindex(&db.server))
            .replace("{not_system}", NOT_SYSTEM_SCHEMA)
    };
    let mut facts = Facts {
        major: db.server.major(),
        role: db.server.role.clone(),
        rights: Rights::read(db).await?,
        ..Facts::default()
    };
    for row in db
        .query("reading which views there are", &fill(VIEWS), &[])
        .await?
    {
        let view = View {
            name: row.relation("schema", "name")?,
            materialized: row.named("materialized")?,
            populated: row.named("populated")?,
            unique_index: row.named("unique_index")?,
            unique_column: None,
            bytes: row.named("bytes")?,
            may: row.named("may")?,
            owner: row.named("owner")?,
            unreadable: row
                .named::<Option<String>>("unreached_schema")?
                .zip(row.named("unreached_name")?)
                .map(|(schema, name): (String, String)| RelationName::new(schema, name)),
            moods: Vec::new(),
            definition: 0,
        };
        facts.views.insert(row.named("oid")?, view);
    }
    if !facts.views.values().any(|view| view.materialized) {
        return Ok(facts);
    }
    let doing = "reading which columns of views are unique";
    for row in db.query(doing, UNIQUE_COLUMNS, &[]).await? {
        if let Some(view) = facts.views.get_mut(&row.get::<u32>(0)?) {
            view.unique_column = row.get(1)?;
        }
    }
    for row in db
        .query("reading what views read", &fill(READS), &[])
        .await?
    {
        facts
            .reads
            .entry(row.get(0)?)
            .or_default()
            .push(row.get(1)?);
    }
    for row in db
        .query("reading what views call", &calls::moods(), &[])
        .await?
    {
        let (of, mood): (u32, String) = (row.get(0)?, row.get(1)?);
        match facts.views.get_mut(&of) {
            Some(view) => view.moods.push(mood),
            None => facts.secured.entry(of).or_default().moods.push(mood),
        }
    }
    let doing = "reading how views are defined";
    for row in db.query(doing, &calls::definitions(), &[]).await? {
        let (of, definition): (u32, i64) = (row.get(0)?, row.get(1)?);
        match facts.views.get_mut(&of) {
            Some(view) => view.definition = definition,
            None => facts.secured.entry(of).or_default().definition = definition,
        }
    }
    for row in db.query("reading partitions", CHILDREN, &[]).await? {
        facts
            .children
            .entry(row.get(0)?)
            .or_default()
            .push(row.get(1)?);
    }
    let doing = "asking since when changes are counted";
    let sql = format!("SELECT {}", counting_as());
    if let Some(row) = db.query(doing, &sql, &[]).await?.first() {
        facts.epoch = row.get(0)?;
    }
    let doing = "reading the settings of role and database";
    if let Some(row) = db.query(doing, SETTINGS, &[]).await?.first() {
        facts.settings = row.get(0)?;
    }
    let uncounted = Uncounted::read(db).await?.text();
    let uncounted = uncounted.map(|text| format!("a table whose changes are not counted ({text})"));
    let doing = "reading how much changed";
    for row in db.query(doing, &fill(COUNTERS), &[]).await? {
        let counters = Counters {
            uncounted: match row.named::<String>("kind")?.as_str() {
                "f" => Some("a foreign table".to_owned()),
                "S" => Some("a sequence".to_owned()),
                _ => uncounted.clone(),
            },
            filenode: row.named("filenode")?,
            changes: row.named("changes")?,
        };
        facts.counters.insert(row.named("oid")?, counters);
    }
    Ok(facts)
}
