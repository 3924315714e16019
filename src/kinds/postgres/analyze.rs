//! Refreshes planner statistics where enough has changed.

mod why;

use std::collections::{BTreeSet, HashMap, HashSet};

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::common::{Forbidden, Rights, Selection, forbid};
use super::uncounted::Uncounted;
use crate::engines::EngineError;
use crate::engines::postgres::catalog::{NOT_SYSTEM_SCHEMA, may_vacuum, size_of};
use crate::engines::postgres::{RelationName, Session, each};
use crate::plan::{Kind, Moment, Param, Plan, Query, Site, Statement, Step};
use crate::values::{Engine, NamePattern, Percent, SchemaPattern, TimeSpan};

/// How many changed rows make statistics stale.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Rule {
    /// `min_changed` of the table's rows.
    #[default]
    Share,
    /// The square root of 1,000 × the table's rows, or `min_changed` of them
    /// if that is less: large tables are refreshed long before a share of
    /// them has changed. The rule that SQL Server applies by itself since 2016.
    Sqrt,
}

/// Options of `kind: analyze`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Analyze {
    /// Only tables that match one of these patterns, such as `public.*` or `orders`.
    include: Vec<NamePattern>,
    /// No tables that match one of these patterns.
    exclude: Vec<NamePattern>,
    /// Only in schemas that one of these patterns names and none with a `!` does; all where there is none.
    schemas: Vec<SchemaPattern>,
    /// How many changed rows make statistics stale.
    rule: Rule,
    /// Share of rows changed since the last ANALYZE from which on statistics are stale.
    min_changed: Percent,
    /// Fewer changed rows than this never matter.
    min_changed_rows: u64,
    /// Statistics of a partitioned table as a whole are refreshed at least
    /// this often while its partitions change. The server counts changes for
    /// partitions only, and autovacuum never analyzes the parent.
    parent_max_age: TimeSpan,
}

impl Default for Analyze {
    fn default() -> Self {
        Analyze {
            include: Vec::new(),
            exclude: Vec::new(),
            schemas: Vec::new(),
            rule: Rule::Share,
            // Half of autovacuum's default: the point of a nightly task is to be ahead of it.
            min_changed: Percent::new(5.0),
            min_changed_rows: 500,
            parent_max_age: TimeSpan::from_mins(7 * 24 * 60),
        }
    }
}

/// What is known of one table.
#[derive(Clone, Debug)]
pub(crate) struct TableFacts {
    oid: u32,
    name: RelationName,
    partitioned: bool,
    /// The topmost partitioned table; the table itself where it is none's partition.
    root: u32,
    /// -1 where it was never counted.
    rows: f64,
    bytes: i64,
    changed: i64,
    last_analyze: Option<DateTime<Utc>>,
    /// As far as it matters: where there is no `last_analyze`.
    has_statistics: bool,
    /// Statistics that are missing: key, and what they are of.
    missing: Vec<(String, String)>,
    /// Not partitioned, and others inherit from it.
    has_children: bool,
    may: bool,
    owner: String,
}

/// What the decision is made from.
#[derive(Debug)]
pub(crate) struct Facts {
    major: i32,
    role: String,
    /// What may be advised where it may not.
    rights: Rights,
    tables: Vec<TableFacts>,
    /// Partitions and inheriting tables, by what they belong to.
    children: HashMap<u32, Vec<u32>>,
    /// The same of those on other servers, by name.
    foreign: HashMap<u32, Vec<String>>,
    /// SQL: whether the role may analyze the table `c`.
    may: String,
    uncounted: Uncounted,
}

const TABLES: &str =
    "SELECT c.oid, n.nspname::text AS schema, c.relname::text AS name, c.relkind = 'p' AS partitioned,
        CASE WHEN c.relispartition OR c.relkind = 'p'
             THEN pg_catalog.pg_partition_root(c.oid)::oid ELSE c.oid END AS root,
        c.reltuples::float8 AS estimated_rows, {size} AS bytes,
        coalesce(pg_catalog.pg_stat_get_mod_since_analyze(c.oid), 0) AS changed,
        greatest(pg_catalog.pg_stat_get_last_analyze_time(c.oid),
                 pg_catalog.pg_stat_get_last_autoanalyze_time(c.oid)) AS last_analyze,
        {may} AS may, c.relkind = 'r' AND c.relhassubclass AS has_children, pg_catalog.pg_get_userbyid(c.relowner)::text AS owner
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

impl Kind for Analyze {
    const NAME: &'static str = "analyze";
    const SUMMARY: &'static str = "refreshes planner statistics where enough rows changed";
    const ENGINE: Engine = Engine::Postgres;
    type Session = Session;
    type Facts = Facts;

    fn includes(&self) -> &[NamePattern] {
        &self.include
    }

    fn excludes(&self) -> &[NamePattern] {
        &self.exclude
    }

    fn schemas(&self) -> &[SchemaPattern] {
        &self.schemas
    }

    async fn inspect(&self, site: &Site<Session>) -> Result<Facts, EngineError> {
        let db = &site.primary;
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

    fn plan(&self, facts: Facts, at: &Moment) -> Plan {
        let selection = Selection::new(&self.include, &self.exclude, &self.schemas);
        let tables: Vec<&TableFacts> = facts
            .tables
            .iter()
            .filter(|t| selection.covers(&t.name))
            .collect();
        let mut plan = Plan {
            considered: tables.len(),
            ..Plan::default()
        };

        // Before 18, ANALYZE of a partitioned table also analyzes every partition.
        let covers_partitions = facts.major < 18;
        let by_oid: HashMap<u32, &TableFacts> = facts.tables.iter().map(|t| (t.oid, t)).collect();
        let ours: HashSet<u32> = tables.iter().map(|t| t.oid).collect();
        let mut wanted: Vec<(&TableFacts, String, i64)> = Vec::new();
        let mut covered: HashSet<u32> = HashSet::new();
        // Whoever is asked for first covers what is below.
        let mut parents: Vec<(usize, &TableFacts)> = tables
            .iter()
            .filter(|t| t.partitioned || t.has_children)
            .map(|t| (below(t.oid, &facts.children).len(), *t))
            .collect();
        parents.sort_by_key(|(size, t)| (std::cmp::Reverse(*size), t.oid));
        for (_, parent) in parents {
            if covered.contains(&parent.oid) {
                continue;
            }
            let below = below(parent.oid, &facts.children);
            let leaves: Vec<&TableFacts> = below
                .iter()
                .filter_map(|oid| by_oid.get(oid).copied())
                .filter(|t| !t.partitioned)
                .collect();
            if let Some(reason) = self.why_parent(parent, &leaves, &ours, at) {
                let bytes = leaves.iter().map(|t| t.bytes).sum::<i64>() + parent.bytes;
                wanted.push((parent, reason, bytes));
                covered.insert(parent.oid);
                // What may fail because of another server covers nothing.
                let alone = away(parent.oid, &below, &facts.foreign).is_empty();
                if covers_partitions && parent.partitioned && parent.may && alone {
                    let may = |oid: &&u32| by_oid.get(*oid).is_none_or(|t| t.may);
                    covered.extend(below.iter().filter(may));
                }
            }
        }
        for table in tables.iter().filter(|t| !t.partitioned) {
            if covered.contains(&table.oid) {
                continue;
            }
            if let Some(reason) = self.why(table, at) {
                wanted.push((table, reason, table.bytes));
            }
        }

        let mut asked: HashSet<u32> = wanted.iter().map(|(table, ..)| table.oid).collect();
        asked.extend(covered);
        let left = tables.iter().filter(|t| !asked.contains(&t.oid));
        let left = left.filter(|t| !t.partitioned && t.bytes > 0).count();
        facts.uncounted.tell(left, "ANALYZE", &mut plan);

        // Longest first, so that the last connection to finish is not left
        // alone with the largest table.
        wanted.sort_by(|a, b| b.2.cmp(&a.2).then_with(|| a.0.name.cmp(&b.0.name)));
        let mut forbidden = Vec::new();
        for (table, reason, bytes) in wanted {
            if !table.may {
                forbidden.push(Forbidden::table(&table.name, &table.owner));
                continue;
            }
            let only = if facts.major >= 18 { "ONLY " } else { "" };
            let below = below(table.oid, &facts.children);
            let whole = !below.is_empty();
            let mut statement = Statement::brief(format!("ANALYZE {only}{}", table.name));
            if whole {
                let sql = format!(
                    "SELECT EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = $1::pg_catalog.oid AND {})",
                    facts.may
                );
                statement = statement.but_for_parts(Query::new(sql, [Param::Oid(table.oid)]));
            }
            let mut step = Step::new(
                "analyze",
                table.name.to_string(),
                format!("table {}", table.root),
            )
            .because(reason)
            .locking(table.oid)
            .run(statement)
            .while_there(
                table.oid,
                &table.name,
                "the table has vanished, or has another name by now",
            )
            .remembering(
                table.name.to_string(),
                json!(table.missing.iter().map(|(key, _)| key).collect::<Vec<_>>()),
            )
            .expecting(bytes, None);
            step.body.away = away(table.oid, &below, &facts.foreign);
            plan.steps.push(step);
        }
        forbid(
            &mut plan,
            "analyze",
            (&facts.role, facts.major),
            &facts.rights,
            &forbidden,
        );
        plan.numbered(1)
    }
}

/// Tables on other servers that are read for the statistics of one.
fn away(oid: u32, below: &BTreeSet<u32>, foreign: &HashMap<u32, Vec<String>>) -> Vec<String> {
    let all = std::iter::once(&oid).chain(below);
    all.filter_map(|oid| foreign.get(oid))
        .flatten()
        .cloned()
        .collect()
}

/// Everything below a table, each once.
fn below(oid: u32, children: &HashMap<u32, Vec<u32>>) -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    let mut todo = vec![oid];
    while let Some(next) = todo.pop() {
        for child in children.get(&next).into_iter().flatten() {
            if found.insert(*child) {
                todo.push(*child);
            }
        }
    }
    found
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]
mod tests;
