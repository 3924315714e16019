//! Reading which tables there are, how they have changed, and which statistics they have.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};

use super::super::rights::Rights;
use super::super::uncounted::Uncounted;
use super::{Facts, TableFacts};
use crate::engines::EngineError;
use crate::engines::postgres::catalog::{NOT_SYSTEM_SCHEMA, may_vacuum, size_of};
use crate::engines::postgres::{RelationName, Session, each};

const TABLES: &str =
    "SELECT c.oid, n.nspname::text AS schema, c.relname::text AS name, c.relkind = 'p' AS partitioned,
        CASE WHEN c.relispartition OR c.relkind = 'p'
             THEN pg_catalog.pg_partition_root(c.oid)::oid ELSE c.oid END AS root,
        c.reltuples::float8 AS estimated_rows, {size} AS bytes,
        coalesce(pg_catalog.pg_stat_get_mod_since_analyze(c.oid), 0) AS changed,
        greatest(pg_catalog.pg_stat_get_last_analyze_time(c.oid),
                 pg_catalog.pg_stat_get_last_autoanalyze_time(c.oid)) AS last_analyze,
        {may} AS may, NOT pg_catalog.has_table_privilege(c.oid, 'SELECT') AS unread, pg_catalog.row_security_active(c.oid) AS filtered,
        c.relkind = 'r' AND c.relhassubclass AS has_children, pg_catalog.pg_get_userbyid(c.relowner)::text AS owner
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'm', 'p') AND c.relpersistence <> 't' AND {not_system}";

/// Which tables have statistics: of their own rows, or of their partitions' too.
const STATISTICS: &str = "SELECT s.schemaname::text, s.tablename::text
    FROM pg_catalog.pg_stats s JOIN pg_catalog.pg_namespace n ON n.nspname = s.schemaname
    WHERE {not_system} GROUP BY 1, 2";

/// Statistics that are missing although ANALYZE could gather them: of a
/// column that came later, of rows in inheriting tables, extended ones, and
/// those of an index over expressions. Each with a key that tells it from
/// another one of the same name. Where the role may not see what there is,
/// nothing is missing; nor where somebody said that nothing is to be gathered
/// (`SET STATISTICS 0`), or a partial index holds no row.
const MISSING: &str = "SELECT c.oid, 'c' || a.attnum AS key, 'the column ' || pg_catalog.quote_ident(a.attname) AS what
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE c.relkind IN ('r', 'm', 'p') AND c.relpersistence <> 't' AND {not_system} AND {visible}
        AND coalesce(a.attstattarget, -1) <> 0 AND a.attgenerated <> 'v'
        AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_stats s WHERE s.schemaname = n.nspname AND s.tablename = c.relname
            AND s.attname = a.attname AND s.inherited = (c.relkind = 'p'))
    UNION ALL SELECT c.oid, 'h', 'the rows of the tables that inherit from it'
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'r' AND c.relhassubclass AND {not_system} AND {visible}
        AND EXISTS (SELECT 1 FROM pg_catalog.pg_inherits i WHERE i.inhparent = c.oid)
        AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_stats s WHERE s.schemaname = n.nspname AND s.tablename = c.relname AND s.inherited)
    UNION ALL SELECT c.oid, 's' || x.oid, pg_catalog.format('the extended statistics %I.%I', xn.nspname, x.stxname)
    FROM pg_catalog.pg_statistic_ext x JOIN pg_catalog.pg_namespace xn ON xn.oid = x.stxnamespace
        JOIN pg_catalog.pg_class c ON c.oid = x.stxrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE {not_system} AND {visible} AND coalesce(x.stxstattarget, -1) <> 0
        AND NOT EXISTS (SELECT 1 FROM pg_catalog.unnest(x.stxkeys) k (att) JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.att
            WHERE a.attstattarget = 0)
        AND {unbuilt}
    UNION ALL SELECT c.oid, 'i' || x.oid, pg_catalog.format('the expressions of the index %I.%I', xn.nspname, x.relname)
    FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid JOIN pg_catalog.pg_namespace xn ON xn.oid = x.relnamespace
        JOIN pg_catalog.pg_class c ON c.oid = i.indrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE i.indexprs IS NOT NULL AND i.indisvalid AND x.relkind = 'i' AND {not_system} AND {visible} AND pg_catalog.pg_has_role(x.relowner, 'USAGE')
        AND NOT (i.indpred IS NOT NULL AND x.reltuples < 1)
        AND EXISTS (SELECT 1 FROM pg_catalog.pg_attribute a WHERE a.attrelid = x.oid AND a.attnum BETWEEN 1 AND i.indnkeyatts
            AND i.indkey[a.attnum - 1] = 0 AND coalesce(a.attstattarget, -1) <> 0)
        AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_stats s WHERE s.schemaname = xn.nspname AND s.tablename = x.relname)
    ORDER BY 1, 2";

/// The role sees all statistics of `c`.
const VISIBLE: &str = "(pg_catalog.has_table_privilege(c.oid, 'SELECT') AND NOT pg_catalog.row_security_active(c.oid))";

/// From 15 on there is a row once something was gathered.
const UNBUILT: &str =
    "NOT EXISTS (SELECT 1 FROM pg_catalog.pg_stats_ext e WHERE e.statistics_schemaname = xn.nspname
            AND e.statistics_name = x.stxname AND e.inherited = (c.relkind = 'p'))";

/// Before, the row is always there. What was gathered may be nothing, so this
/// finds some that were built; they are asked for once.
const UNBUILT_14: &str = "NOT EXISTS (SELECT 1 FROM pg_catalog.pg_stats_ext e WHERE e.statistics_schemaname = xn.nspname AND e.statistics_name = x.stxname
            AND (e.n_distinct IS NOT NULL OR e.dependencies IS NOT NULL OR e.most_common_vals IS NOT NULL))
        AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_stats_ext_exprs e WHERE e.statistics_schemaname = xn.nspname
            AND e.statistics_name = x.stxname AND e.null_frac IS NOT NULL)";

const CHILDREN: &str = "SELECT i.inhparent, i.inhrelid FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
    WHERE c.relkind IN ('r', 'm', 'p') ORDER BY 1, 2";

const FOREIGN: &str = "SELECT i.inhparent, n.nspname::text, c.relname::text FROM pg_catalog.pg_inherits i
    JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'f' ORDER BY 1, 2, 3";

impl Facts {
    /// Reads them.
    pub(super) async fn read(db: &Session) -> Result<Facts, EngineError> {
        let fill = |sql: &str| {
            sql.replace("{may}", &may_vacuum(&db.server))
                .replace("{size}", &size_of("c"))
                .replace("{not_system}", NOT_SYSTEM_SCHEMA)
        };
        let doing = "reading which tables there are";
        let tables = db.query(doing, &fill(TABLES), &[]).await?;
        // Whether a table has statistics matters where nobody knows of an ANALYZE. The server goes
        // through those of all columns for it.
        let all: Vec<(i64, Option<DateTime<Utc>>)> = each(&tables, |row| {
            Ok((row.named("bytes")?, row.named("last_analyze")?))
        })?;
        let some = all.iter().any(|(bytes, at)| *bytes > 0 && at.is_none());
        let doing = "reading which tables have statistics";
        let statistics = match some {
            true => db.query(doing, &fill(STATISTICS), &[]).await?,
            false => Vec::new(),
        };
        let unbuilt = if db.server.major() >= 15 {
            UNBUILT
        } else {
            UNBUILT_14
        };
        let sql = MISSING
            .replace("{visible}", VISIBLE)
            .replace("{unbuilt}", unbuilt);
        let doing = "reading which statistics are missing";
        let absent = db.query(doing, &fill(&sql), &[]).await?;
        let doing = "reading partitions";
        let below = db.query(doing, CHILDREN, &[]).await?;

        let known = each(&statistics, |row| Ok((row.get(0)?, row.get(1)?)))?;
        let known: HashSet<(String, String)> = known.into_iter().collect();
        let mut missing: HashMap<u32, Vec<(String, String)>> = HashMap::new();
        for row in &absent {
            let entry = missing.entry(row.get(0)?).or_default();
            entry.push((row.get(1)?, row.get(2)?));
        }
        let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
        for row in &below {
            children.entry(row.get(0)?).or_default().push(row.get(1)?);
        }
        let mut foreign: HashMap<u32, Vec<String>> = HashMap::new();
        for row in db.query(doing, FOREIGN, &[]).await? {
            let name = RelationName::new(row.get::<String>(1)?, row.get::<String>(2)?);
            foreign
                .entry(row.get(0)?)
                .or_default()
                .push(name.to_string());
        }
        let tables = each(&tables, |row| {
            let key: (String, String) = (row.named("schema")?, row.named("name")?);
            Ok(TableFacts {
                oid: row.named("oid")?,
                has_statistics: known.contains(&key),
                missing: missing
                    .remove(&row.named::<u32>("oid")?)
                    .unwrap_or_default(),
                name: RelationName::new(key.0, key.1),
                partitioned: row.named("partitioned")?,
                root: row.named("root")?,
                rows: row.named("estimated_rows")?,
                bytes: row.named("bytes")?,
                changed: row.named("changed")?,
                last_analyze: row.named("last_analyze")?,
                may: row.named("may")?,
                unread: row.named::<Option<bool>>("unread")?.unwrap_or(true),
                filtered: row.named::<Option<bool>>("filtered")?.unwrap_or_default(),
                has_children: row.named("has_children")?,
                owner: row.named("owner")?,
            })
        })?;
        Ok(Facts {
            major: db.server.major(),
            role: db.server.role.clone(),
            rights: Rights::read(db).await?,
            tables,
            children,
            foreign,
            may: may_vacuum(&db.server),
            uncounted: Uncounted::read(db).await?,
        })
    }
}
