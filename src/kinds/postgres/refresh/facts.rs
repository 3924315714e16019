//! Which views there are, what they read, and what moved in it.

use std::collections::{BTreeMap, HashMap};

use super::super::common::Rights;
use crate::engines::EngineError;
use crate::engines::postgres::catalog::{COUNTING_SINCE, NOT_SYSTEM_SCHEMA, may_reindex};
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
    /// What in its definition may answer differently although no table
    /// changed: functions such as `now`, and system catalogs.
    pub(super) moods: Vec<String>,
    /// Changes with what it selects, and with the users' functions that it calls.
    pub(super) definition: i64,
}

/// A relation that holds rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Counters {
    /// What it is, if nobody counts its changes here.
    pub(super) uncounted: Option<&'static str>,
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
    /// Everything that holds rows.
    pub(super) counters: HashMap<u32, Counters>,
    /// Whose event triggers a refresh would set off.
    pub(super) standing: Standing,
}

const VIEWS: &str =
    "SELECT c.oid, n.nspname::text, c.relname::text, c.relkind = 'm', c.relispopulated,
        EXISTS (SELECT FROM pg_catalog.pg_index i
            JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
            JOIN pg_catalog.pg_am a ON a.oid = x.relam AND a.amname = 'btree'
            WHERE i.indrelid = c.oid AND i.indisunique AND i.indimmediate AND i.indisvalid
                AND i.indpred IS NULL AND 0 <> ALL (i.indkey::int2[])),
        c.relpages::int8 * pg_catalog.current_setting('block_size')::int8, {may}, pg_catalog.pg_get_userbyid(c.relowner)::text
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
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

/// Objects of the server itself are not in pg_depend, so the rule is read.
/// Volatile functions count; stable ones where they belong to a user, whose
/// function may read any table, or are known to read the clock, the session or
/// the catalogs. The stable functions of the server that only read the time
/// zone do not. A user's immutable function counts where its text reads
/// something all the same, and a sample of a table is another one each time.
const MOODS: &str = "SELECT r.ev_class, f.what
    FROM pg_catalog.pg_rewrite r
        JOIN pg_catalog.pg_class c ON c.oid = r.ev_class AND c.relkind IN ('m', 'v')
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        CROSS JOIN LATERAL (
            SELECT p.proname::text AS what
            FROM pg_catalog.regexp_matches(r.ev_action::text,
                    ':(?:funcid|opfuncid|aggfnoid|winfnoid) ([0-9]+)', 'g') m
                JOIN pg_catalog.pg_proc p ON p.oid = m[1]::pg_catalog.oid
                JOIN pg_catalog.pg_language l ON l.oid = p.prolang
            WHERE p.provolatile = 'v' OR (p.provolatile = 's' AND (p.oid >= 16384
                OR (p.proname ~ '^(now$|transaction_timestamp|statement_timestamp|current_|session_user|version$|txid_|pg_|has_|row_security_|inet_|to_reg|(table|schema|database)_to_xml|obj_description|col_description|shobj_description|format_type)'
                    AND p.proname NOT IN ('pg_typeof', 'pg_column_size', 'pg_client_encoding'))
                OR (p.proname = 'age' AND p.pronargs = 1)))
                OR (p.provolatile = 'i' AND p.oid >= 16384 AND l.lanname NOT IN ('c', 'internal')
                    AND (p.prosrc ~* '\\m(from|execute|perform)\\M' OR p.prosqlbody::text ~ ':relid [1-9]'))
            UNION SELECT 'a sample of a table'
                WHERE pg_catalog.strpos(r.ev_action::text, '{TABLESAMPLECLAUSE') > 0
            UNION SELECT 'current_date or the like'
                WHERE pg_catalog.strpos(r.ev_action::text, '{SQLVALUEFUNCTION') > 0
            UNION SELECT s.relname::text
            FROM pg_catalog.regexp_matches(r.ev_action::text, ':relid ([0-9]+)', 'g') m
                JOIN pg_catalog.pg_class s ON s.oid = m[1]::pg_catalog.oid AND s.oid < 16384
        ) f
    WHERE {not_system} ORDER BY 1, 2";

/// A view below may be replaced, and so may a function.
const DEFINITIONS: &str = "SELECT r.ev_class, pg_catalog.hashtextextended(pg_catalog.concat(r.ev_action::text,
            (SELECT pg_catalog.string_agg(pg_catalog.concat(p.oid, p.prosrc, p.probin, p.prosqlbody), ' ' ORDER BY p.oid)
             FROM pg_catalog.pg_proc p WHERE p.oid >= 16384 AND p.oid IN (SELECT m[1]::pg_catalog.oid
                FROM pg_catalog.regexp_matches(r.ev_action::text, ':(?:funcid|opfuncid|aggfnoid|winfnoid) ([0-9]+)', 'g') m))), 0)
    FROM pg_catalog.pg_rewrite r
        JOIN pg_catalog.pg_class c ON c.oid = r.ev_class AND c.relkind IN ('m', 'v')
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE r.ev_type = '1' AND {not_system}";

const CHILDREN: &str = "SELECT inhparent, inhrelid FROM pg_catalog.pg_inherits ORDER BY 1, 2";

const COUNTERS: &str = "SELECT c.oid, c.relkind::text, c.relfilenode,
        coalesce(pg_catalog.pg_stat_get_tuples_inserted(c.oid), 0)
            + coalesce(pg_catalog.pg_stat_get_tuples_updated(c.oid), 0)
            + coalesce(pg_catalog.pg_stat_get_tuples_deleted(c.oid), 0)
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'm', 'f', 'S') AND {not_system}";

const EPOCH: &str = "SELECT coalesce({counting_since}::text, ''), pg_catalog.current_setting('track_counts') = 'on'";

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
            name: RelationName::new(row.get::<String>(1)?, row.get::<String>(2)?),
            materialized: row.get(3)?,
            populated: row.get(4)?,
            unique_index: row.get(5)?,
            unique_column: None,
            bytes: row.get(6)?,
            may: row.get(7)?,
            owner: row.get(8)?,
            moods: Vec::new(),
            definition: 0,
        };
        facts.views.insert(row.get(0)?, view);
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
        .query("reading what views call", &fill(MOODS), &[])
        .await?
    {
        if let Some(view) = facts.views.get_mut(&row.get::<u32>(0)?) {
            view.moods.push(row.get(1)?);
        }
    }
    let doing = "reading how views are defined";
    for row in db.query(doing, &fill(DEFINITIONS), &[]).await? {
        if let Some(view) = facts.views.get_mut(&row.get::<u32>(0)?) {
            view.definition = row.get(1)?;
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
    let sql = EPOCH.replace("{counting_since}", COUNTING_SINCE);
    let mut counts = true;
    if let Some(row) = db.query(doing, &sql, &[]).await?.first() {
        facts.epoch = row.get(0)?;
        counts = row.get(1)?;
    }
    let doing = "reading how much changed";
    for row in db.query(doing, &fill(COUNTERS), &[]).await? {
        let counters = Counters {
            uncounted: match row.get::<String>(1)?.as_str() {
                "f" => Some("a foreign table"),
                "S" => Some("a sequence"),
                _ if !counts => Some("a table whose changes are not counted (track_counts is off)"),
                _ => None,
            },
            filenode: row.get(2)?,
            changes: row.get(3)?,
        };
        facts.counters.insert(row.get(0)?, counters);
    }
    Ok(facts)
}
