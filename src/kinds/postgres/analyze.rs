//! Refreshes planner statistics where enough has changed.

mod read;
mod why;

use std::collections::{BTreeSet, HashMap, HashSet};

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::common::Selection;
use super::rights::{Forbidden, Rights, Unseen, forbid};
use super::uncounted::Uncounted;
use crate::engines::EngineError;
use crate::engines::postgres::{RelationName, Session};
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
    /// The role may not read it, and so sees no statistics of it.
    unread: bool,
    /// Row-level security is in force there, which hides them, too.
    filtered: bool,
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
        Facts::read(&site.primary).await
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
        // Whoever owns it gathers nothing for who may not, and is told that elsewhere.
        let mut unseen = Unseen::default();
        for table in left.clone().filter(|t| t.may && t.rows != 0.0) {
            unseen.add(&table.name, (table.unread, table.filtered));
        }
        let unknown = (
            "whether statistics are missing of columns, extended statistics, index expressions or partitions of",
            "",
        );
        let unseen = unseen.findings(unknown, &facts.role, &facts.rights);
        plan.findings.extend(unseen);
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
