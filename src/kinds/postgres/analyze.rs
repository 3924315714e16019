//! Refreshes planner statistics where enough has changed.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, TimeDelta, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::{Selection, permission_finding, rows, still_there};
use crate::engines::EngineError;
use crate::engines::postgres::catalog::{NOT_SYSTEM_SCHEMA, may_vacuum, size_of};
use crate::engines::postgres::{RelationName, Session};
use crate::plan::{Kind, Moment, Plan, Site, Statement, Step};
use crate::values::{Engine, NamePattern, Percent, TimeSpan};

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
    has_statistics: bool,
    /// Names of extended statistics that were never built.
    unbuilt: Vec<String>,
    may: bool,
}

/// What the decision is made from.
#[derive(Debug)]
pub(crate) struct Facts {
    major: i32,
    role: String,
    tables: Vec<TableFacts>,
}

const TABLES: &str =
    "SELECT c.oid, n.nspname::text, c.relname::text, c.relkind = 'p' AS partitioned,
        CASE WHEN c.relispartition OR c.relkind = 'p'
             THEN pg_catalog.pg_partition_root(c.oid)::oid ELSE c.oid END AS root,
        c.reltuples::float8, {size},
        coalesce(pg_catalog.pg_stat_get_mod_since_analyze(c.oid), 0),
        greatest(pg_catalog.pg_stat_get_last_analyze_time(c.oid),
                 pg_catalog.pg_stat_get_last_autoanalyze_time(c.oid)),
        {may}
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'm', 'p') AND c.relpersistence <> 't' AND {not_system}";

/// Which tables have statistics: of their own rows, or of their partitions' too.
const STATISTICS: &str = "SELECT s.schemaname::text, s.tablename::text
    FROM pg_catalog.pg_stats s JOIN pg_catalog.pg_namespace n ON n.nspname = s.schemaname
    WHERE {not_system} GROUP BY 1, 2";

/// Extended statistics without data. Only ndistinct objects tell: the other
/// kinds may be built and still empty.
const UNBUILT: &str = "SELECT s.schemaname::text, s.tablename::text, s.statistics_name::text
    FROM pg_catalog.pg_stats_ext s
    WHERE 'd' = ANY (s.kinds) GROUP BY 1, 2, 3 HAVING count(s.n_distinct) = 0";

impl Kind for Analyze {
    const NAME: &'static str = "analyze";
    const SUMMARY: &'static str = "refreshes planner statistics where enough rows changed";
    const ENGINE: Engine = Engine::Postgres;
    type Session = Session;
    type Facts = Facts;

    async fn inspect(&self, site: &Site<Session>) -> Result<Facts, EngineError> {
        let db = &site.primary;
        let fill = |sql: &str| {
            sql.replace("{may}", &may_vacuum(&db.server))
                .replace("{size}", &size_of("c"))
                .replace("{not_system}", NOT_SYSTEM_SCHEMA)
        };
        let doing = "reading which tables there are";
        let tables = db.query(doing, &fill(TABLES), &[]).await?;
        let doing = "reading which tables have statistics";
        let statistics = db.query(doing, &fill(STATISTICS), &[]).await?;
        let doing = "reading extended statistics";
        let unbuilt = db.query(doing, UNBUILT, &[]).await?;

        let known: HashSet<(String, String)> = statistics
            .iter()
            .map(|row| (row.get(0), row.get(1)))
            .collect();
        let mut missing: HashMap<(String, String), Vec<String>> = HashMap::new();
        for row in &unbuilt {
            missing
                .entry((row.get(0), row.get(1)))
                .or_default()
                .push(row.get(2));
        }
        let tables = tables
            .iter()
            .map(|row| {
                let key: (String, String) = (row.get(1), row.get(2));
                TableFacts {
                    oid: row.get(0),
                    has_statistics: known.contains(&key),
                    unbuilt: missing.remove(&key).unwrap_or_default(),
                    name: RelationName::new(key.0, key.1),
                    partitioned: row.get(3),
                    root: row.get(4),
                    rows: row.get(5),
                    bytes: row.get(6),
                    changed: row.get(7),
                    last_analyze: row.get(8),
                    may: row.get(9),
                }
            })
            .collect();
        Ok(Facts {
            major: db.server.major(),
            role: db.server.role.clone(),
            tables,
        })
    }

    fn plan(&self, facts: Facts, at: &Moment) -> Plan {
        let selection = Selection::new(&self.include, &self.exclude);
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
        let mut wanted: Vec<(&TableFacts, String, i64)> = Vec::new();
        let mut covered: HashSet<u32> = HashSet::new();
        for parent in tables.iter().filter(|t| t.partitioned && t.root == t.oid) {
            let partitions: Vec<&TableFacts> = facts
                .tables
                .iter()
                .filter(|t| t.root == parent.oid && !t.partitioned)
                .collect();
            if let Some(reason) = self.why_parent(parent, &partitions, at.now) {
                let bytes = partitions.iter().map(|t| t.bytes).sum();
                wanted.push((parent, reason, bytes));
                if covers_partitions && parent.may {
                    covered.insert(parent.oid);
                }
            }
        }
        for table in tables.iter().filter(|t| !t.partitioned) {
            if table.root != table.oid && covered.contains(&table.root) {
                continue;
            }
            if let Some(reason) = self.why(table) {
                wanted.push((table, reason, table.bytes));
            }
        }

        // Longest first, so that the last connection to finish is not left
        // alone with the largest table.
        wanted.sort_by(|a, b| b.2.cmp(&a.2).then_with(|| a.0.name.cmp(&b.0.name)));
        let mut forbidden = Vec::new();
        for (table, reason, bytes) in wanted {
            if !table.may {
                forbidden.push(table.name.to_string());
                continue;
            }
            let only = if facts.major >= 18 { "ONLY " } else { "" };
            plan.steps.push(
                Step::new(
                    "analyze",
                    table.name.to_string(),
                    format!("table {}", table.root),
                )
                .because(reason)
                .locking(table.oid)
                .run(Statement::brief(format!("ANALYZE {only}{}", table.name)))
                .only_if(
                    still_there(table.oid, &table.name),
                    "the table has vanished",
                )
                .expecting(bytes, None),
            );
        }
        plan.findings.extend(permission_finding(
            "analyze",
            &facts.role,
            facts.major,
            &forbidden,
        ));
        plan.numbered(1)
    }
}

impl Analyze {
    fn why(&self, table: &TableFacts) -> Option<String> {
        if table.bytes == 0 {
            // Nothing to sample: ANALYZE would leave no statistics behind,
            // and the table would be asked for again every night.
            return None;
        }
        if table.last_analyze.is_none() && !table.has_statistics {
            return Some("never analyzed".to_owned());
        }
        let threshold = self.threshold(table.rows);
        if table.changed as f64 >= threshold {
            return Some(format!(
                "{} of {} rows changed since the last ANALYZE, from {} on it is due",
                rows(table.changed as f64),
                rows(table.rows.max(0.0)),
                rows(threshold)
            ));
        }
        unbuilt_reason(&table.unbuilt)
    }

    fn why_parent(
        &self,
        parent: &TableFacts,
        partitions: &[&TableFacts],
        now: DateTime<Utc>,
    ) -> Option<String> {
        if partitions.iter().all(|t| t.bytes == 0) {
            return None;
        }
        let Some(last) = parent.last_analyze else {
            return (!parent.has_statistics).then(|| {
                "the partitioned table as a whole was never analyzed, and autovacuum never does it"
                    .to_owned()
            });
        };
        let changed: i64 = partitions.iter().map(|t| t.changed).sum();
        let counted: f64 = partitions.iter().map(|t| t.rows.max(0.0)).sum();
        let threshold = self.threshold(counted);
        // Rows that partitions gained or lost count too: autovacuum resets
        // the partitions' counters, and never looks at the parent.
        let drift = (counted - parent.rows.max(0.0)).abs();
        if (changed as f64).max(drift) >= threshold {
            return Some(format!(
                "{} of {} rows in its partitions changed since the last ANALYZE of the whole",
                rows((changed as f64).max(drift)),
                rows(counted)
            ));
        }
        let age = now - last;
        let newer = partitions
            .iter()
            .filter(|t| {
                t.last_analyze
                    .is_some_and(|t| t - last > TimeDelta::minutes(1))
            })
            .count();
        let limit = TimeDelta::from_std(self.parent_max_age.get()).unwrap_or(TimeDelta::MAX);
        if newer > 0 && age > limit {
            return Some(format!(
                "{newer} partitions were analyzed since, the whole not for {} days",
                age.num_days()
            ));
        }
        unbuilt_reason(&parent.unbuilt)
    }

    fn threshold(&self, rows: f64) -> f64 {
        let rows = rows.max(0.0);
        let share = rows * self.min_changed.share();
        let threshold = match self.rule {
            Rule::Share => share,
            Rule::Sqrt => share.min((1000.0 * rows).sqrt()),
        };
        threshold.max(self.min_changed_rows.max(1) as f64)
    }
}

fn unbuilt_reason(unbuilt: &[String]) -> Option<String> {
    (!unbuilt.is_empty())
        .then(|| format!("extended statistics never built: {}", unbuilt.join(", ")))
}
