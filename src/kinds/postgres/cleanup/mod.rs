//! Deletes rows that are too old or whose parent is gone: in small
//! transactions that only ever go forward, or by the partition.

mod order;
mod steps;

use std::collections::{HashMap, HashSet};

use chrono::Utc;
use schemars::JsonSchema;
use serde::Deserialize;

use super::retention::clearing;
use super::retention::effects::{self, ForeignKey, Trigger};
use super::retention::estimate::{self, Look};
use super::retention::facts::{self, Table};
use super::retention::leftover::{self, Leftover};
use super::retention::mark;
use super::retention::outside;
use super::retention::proof;
use super::retention::rule::Rule;
use super::retention::ties::Ties;
use super::retention::{age_of, clock_differs, invalid};
use super::trust;
use crate::engines::EngineError;
use crate::engines::postgres::Session;
use crate::engines::postgres::trust::{Standing, Touch, Use};
use crate::plan::{Kind, Moment, Plan, Site, Unfit};
use crate::values::{Bytes, Engine, TableName, TimeSpan};

/// Options of `kind: cleanup`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cleanup {
    /// Which rows go.
    #[schemars(length(min = 1))]
    rules: Vec<Rule>,
    /// How long one transaction should take; the number of rows in it follows.
    #[serde(default = "quarter_second")]
    batch_goal: TimeSpan,
    /// Delete although a foreign key without an index points here, so that the server reads the
    /// whole referencing table for each row.
    #[serde(default)]
    allow_unindexed_cascade: bool,
    /// Whether an expired partition is dropped as a whole: `true` also where deleting its rows
    /// would fire triggers, obey policies or be published; `false` never. By default, only where
    /// nothing but its rows would be lost.
    #[serde(default)]
    drop_partitions: Option<bool>,
    /// A referencing table up to this size may be read for each row.
    #[serde(default = "one_megabyte")]
    max_unindexed: Bytes,
}

/// Row locks are held until the batch commits, and nobody notices a quarter of a second.
fn quarter_second() -> TimeSpan {
    TimeSpan::from_millis(250)
}

/// Reading a megabyte takes a third of a millisecond: ten thousand rows then cost three seconds.
fn one_megabyte() -> Bytes {
    Bytes(1 << 20)
}

/// What the decision is made from.
#[derive(Debug)]
pub(crate) struct Facts {
    role: String,
    /// What is wrong with the clocks.
    clock: Option<String>,
    /// As in the options, with how their orphans are told.
    rules: Vec<Rule>,
    standing: Standing,
    /// Parents of orphans, by name.
    parents: HashMap<TableName, u32>,
    tables: HashMap<TableName, Table>,
    /// By the place of the rule.
    looks: HashMap<usize, Look>,
    foreign_keys: Vec<ForeignKey>,
    triggers: Vec<Trigger>,
    leftovers: Vec<Leftover>,
    ties: Ties,
}

impl Kind for Cleanup {
    const NAME: &'static str = "cleanup";
    const SUMMARY: &'static str =
        "deletes rows that are too old or orphaned, in small batches, or by the partition";
    const ENGINE: Engine = Engine::Postgres;
    const REMOVES_ROWS: bool = true;
    type Session = Session;
    type Facts = Facts;

    fn check(&self) -> Result<(), Unfit> {
        if self.batch_goal.get() < std::time::Duration::from_millis(10) {
            return Err(Unfit::at(
                "batch_goal",
                format!("batch_goal is {}; expected at least 10ms", self.batch_goal),
            ));
        }
        Unfit::each("rules", self.rules.iter().map(Rule::check))
    }

    async fn inspect(&self, site: &Site<Session>) -> Result<Facts, EngineError> {
        let db = &site.primary;
        let mut names: Vec<TableName> = self.rules.iter().map(|r| r.table.clone()).collect();
        names.sort();
        names.dedup();
        let tables = facts::tables(db, &names).await?;
        let parents = facts::parents(db, &self.rules).await?;
        let relations = tables.values().flat_map(Table::relations);
        let leftovers = leftover::leftovers(db, mark::MARK).await?;
        let relations = relations.chain(parents.values().copied());
        let standing = trust::read(site, relations.chain(leftovers.iter().map(|l| l.oid))).await?;
        let mut looks = HashMap::new();
        let mut rules = self.rules.clone();
        for (n, rule) in rules.iter_mut().enumerate() {
            if let Some(table) = tables.get(&rule.table)
                && let Ok(age) = age_of(rule, table)
            {
                let parent = rule.orphaned.as_ref().and_then(|o| parents.get(&o.parent));
                let also: Vec<Touch> = parent
                    .map(|p| Touch::new(*p, Use::Read))
                    .into_iter()
                    .collect();
                let allowed = estimate::Allowed {
                    standing: &standing,
                    also: &also,
                };
                if !also.iter().all(|touch| standing.code(*touch).is_empty()) {
                    looks.insert(n, Look::default());
                    continue;
                }
                let guard = standing.guard(&also);
                let reading = proof::read(db, rule, table, guard.as_ref()).await?;
                let now = Utc::now();
                let look = estimate::look(db, rule, table, age, reading, now, allowed).await?;
                looks.insert(n, look);
            }
        }
        let members: HashSet<u32> = tables
            .values()
            .flat_map(|t| t.members.iter().map(|m| m.oid))
            .collect();
        let members: Vec<u32> = members.into_iter().collect();
        Ok(Facts {
            role: db.server.role.clone(),
            clock: db.server.clock_differs(),
            rules,
            standing,
            parents,
            foreign_keys: effects::foreign_keys(db, tables.values()).await?,
            triggers: effects::triggers(db, &members).await?,
            ties: Ties::read(db, tables.values(), &leftovers).await?,
            leftovers,
            tables,
            looks,
        })
    }

    fn plan(&self, facts: Facts, at: &Moment) -> Plan {
        let mut plan = Plan::default();
        let mut planned = Vec::new();
        let mut met: HashMap<&TableName, u32> = HashMap::new();
        for (n, rule) in facts.rules.iter().enumerate() {
            let nth = met.entry(&rule.table).or_default();
            *nth += 1;
            let action = match *nth {
                1 => "delete".to_owned(),
                n => format!("delete_{n}"),
            };
            let Some(table) = facts.tables.get(&rule.table) else {
                invalid(&mut plan, rule, "there is no such table");
                continue;
            };
            plan.considered += table.members.len();
            if let (Some(why), Some(_)) = (&facts.clock, rule.older_than) {
                clock_differs(&mut plan, rule, why);
                continue;
            }
            let age = match age_of(rule, table) {
                Ok(age) => age,
                Err(why) => {
                    invalid(&mut plan, rule, &why);
                    continue;
                }
            };
            let steps = steps::of_rule(
                self,
                &steps::Subject {
                    rule,
                    table,
                    age,
                    look: facts.looks.get(&n),
                    action: &action,
                },
                &facts,
                at,
                &mut plan,
            );
            planned.push((rule, steps));
        }
        plan.steps = order::children_first(planned, &facts);
        outside::heed(mark::MARK, facts.tables.values(), at, &mut plan);
        mark::unmark(mark::MARK, facts.tables.values(), &mut plan);
        for leftover in &facts.leftovers {
            if leftover.part_of.is_some() {
                leftover::disown(leftover, &facts.tables, at, &mut plan);
                continue;
            }
            if leftover::follow(leftover, mark::MARK, &facts.tables, at, &mut plan) {
                continue;
            }
            if leftover::renamed(leftover, &facts.tables, at, &mut plan) {
                continue;
            }
            let dependents = facts.ties.dependents(leftover.oid);
            if leftover::is_free(leftover, &facts.tables, dependents, at, &mut plan) {
                let today = clearing::Today {
                    rules: &self.rules,
                    tables: &facts.tables,
                    ties: &facts.ties,
                    drop_partitions: self.drop_partitions,
                };
                clearing::decide(leftover, &today, at, &mut plan);
            }
        }
        trust::heed(&mut plan, &facts.standing);
        mark::remember(facts.tables.values(), &mut plan);
        plan.numbered(1)
    }
}
