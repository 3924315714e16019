//! Deletes rows that are too old or whose parent is gone: in small
//! transactions that only ever go forward, or by the partition.

mod look;
mod order;
mod steps;
mod tenants;

use std::collections::{HashMap, HashSet};

use schemars::JsonSchema;
use serde::Deserialize;

use self::look::{look, lots};
use super::by_schema;
use super::retention::clearing;
use super::retention::effects::{self, ForeignKey, Trigger};
use super::retention::estimate::Look;
use super::retention::facts::{self, Table};
use super::retention::leftover::{self, Leftover};
use super::retention::mark;
use super::retention::outside;
use super::retention::rule::{AgeType, Rule};
use super::retention::ties::Ties;
use super::retention::{age_of, clock_differs, invalid};
use super::trust;
use crate::engines::EngineError;
use crate::engines::postgres::Session;
use crate::engines::postgres::trust::Standing;
use crate::plan::{Ageing, Gone, Kind, Moment, Plan, Scope, Site, Speaks, Step, Unfit};
use crate::values::{Bytes, Engine, TableName, TimeSpan, unreadable};
use tenants::Followed;

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
    /// Those of the options as they are followed, with how their orphans are told.
    rules: Vec<Followed>,
    /// The names of all schemas, where rules name some and every one of them is to be found here.
    schemas: Option<Vec<String>>,
    standing: Standing,
    /// Parents of orphans, by name.
    parents: HashMap<TableName, u32>,
    tables: HashMap<TableName, Table>,
    /// By the place of the rule.
    looks: HashMap<usize, Look>,
    /// By the table of a rule.
    foreign_keys: HashMap<u32, Vec<ForeignKey>>,
    triggers: Vec<Trigger>,
    leftovers: Vec<Leftover>,
    ties: Ties,
}

impl Facts {
    /// The foreign keys that deletes in the table of a rule have to look at.
    fn of_root(&self, root: u32) -> &[ForeignKey] {
        self.foreign_keys.get(&root).map_or(&[], Vec::as_slice)
    }
}

impl Cleanup {
    /// Plans for orphans that there are none of yet, where rows of their parent go in this very run. `followed` are
    /// the rules that were planned for: their places, how their age is told, and what their steps are called.
    fn left_behind(
        &self,
        planned: &mut [(&Rule, Vec<Step>)],
        followed: &[(usize, Option<AgeType>, String)],
        facts: &Facts,
        at: &Moment,
    ) {
        // Orphans of those leave others behind.
        for _ in 0..planned.len() {
            let going = planned.iter().filter(|(_, steps)| !steps.is_empty());
            let going: HashSet<TableName> = going.map(|(rule, _)| (*rule.table).clone()).collect();
            let mut more = false;
            for ((rule, steps), (n, age, action)) in planned.iter_mut().zip(followed) {
                let Some(orphaned) = rule.orphaned.as_ref().filter(|_| steps.is_empty()) else {
                    continue;
                };
                let own = orphaned.parent == rule.table;
                let (Some(table), Some(look)) =
                    (facts.tables.get(&*rule.table), facts.looks.get(n))
                else {
                    continue;
                };
                let parent = facts.parents.get(&*orphaned.parent).copied();
                let keys = facts.of_root(parent.unwrap_or(0)).iter();
                let tied = keys.into_iter().any(|fk| fk.child_oid == table.oid);
                if own || tied || !going.contains(&*orphaned.parent) {
                    continue;
                }
                let mut look = look.clone();
                look.any.clear();
                look.found.clear();
                let subject = steps::Subject {
                    rule,
                    table,
                    age: *age,
                    look: Some(&look),
                    action,
                };
                // What stands in the way has been told.
                *steps = steps::of_rule(self, &subject, facts, at, &mut Plan::default());
                for step in &mut *steps {
                    let why = "rows of its parent go in this run, and may leave some behind";
                    step.details.push(why.to_owned());
                }
                more |= !steps.is_empty();
            }
            if !more {
                break;
            }
        }
    }
}

impl Kind for Cleanup {
    const NAME: &'static str = "cleanup";
    const SUMMARY: &'static str =
        "deletes rows that are too old or orphaned, in small batches, or by the partition";
    const ENGINE: Engine = Engine::Postgres;
    const REMOVES_ROWS: bool = true;
    type Session = Session;
    type Facts = Facts;

    fn ages(&self) -> Vec<Ageing> {
        let rules = self.rules.iter();
        rules.filter_map(|rule| rule.ages(Gone::Lost)).collect()
    }

    fn goes_on_with(&self, schema: &str, table: &str) -> bool {
        let mut rules = self.rules.iter();
        rules.any(|rule| by_schema::is_named(&rule.table, &rule.schemas, (schema, table)))
    }

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
        let mut rules = tenants::spread(db, &self.rules).await?;
        let many = self.rules.iter().any(|rule| !rule.schemas.is_empty());
        // Of many databases of a server not every one has everything.
        let schemas = match many && site.scope == Scope::Whole {
            true => Some(db.schemas().await?),
            false => None,
        };
        let mut names: Vec<TableName> = rules.iter().map(|r| (*r.rule.table).clone()).collect();
        names.sort();
        names.dedup();
        let tables = facts::tables(db, &names).await?;
        tenants::without_parts(&mut rules, &tables);
        let parents = facts::parents(db, rules.iter().map(|r| &r.rule)).await?;
        let relations = tables.values().flat_map(Table::relations);
        let leftovers = leftover::leftovers(db, mark::MARK).await?;
        let relations = relations.chain(parents.values().copied());
        let standing = trust::read(site, relations.chain(leftovers.iter().map(|l| l.oid))).await?;
        let all_keys = effects::foreign_keys(db, tables.values()).await?;
        let mut looks = HashMap::new();
        let all: Vec<(usize, &mut Followed)> = rules.iter_mut().enumerate().collect();
        for (_, lot) in lots(all, &tables) {
            let told = look(db, lot, (&tables, &parents, &all_keys), &standing).await?;
            looks.extend(told);
        }
        let members: HashSet<u32> = tables
            .values()
            .flat_map(|t| t.members.iter().map(|m| m.oid))
            .collect();
        let members: Vec<u32> = members.into_iter().collect();
        let triggers = effects::triggers(db, &members, &all_keys).await?;
        let mut foreign_keys: HashMap<u32, Vec<ForeignKey>> = HashMap::new();
        for fk in all_keys {
            foreign_keys.entry(fk.root).or_default().push(fk);
        }
        Ok(Facts {
            role: db.server.role.clone(),
            clock: db.server.clock_differs(),
            rules,
            standing,
            parents,
            schemas,
            foreign_keys,
            triggers,
            ties: Ties::read(db, tables.values(), &leftovers).await?,
            leftovers,
            tables,
            looks,
        })
    }

    fn plan(&self, facts: Facts, at: &Moment) -> Plan {
        let mut plan = Plan::default();
        let (mut planned, mut followed) = (Vec::new(), Vec::new());
        let mut met: HashMap<&TableName, u32> = HashMap::new();
        for (n, Followed { rule, .. }) in facts.rules.iter().enumerate() {
            let nth = met.entry(&rule.table).or_default();
            *nth += 1;
            let action = match *nth {
                1 => "delete".to_owned(),
                n => format!("delete_{n}"),
            };
            let Some(table) = facts.tables.get(&*rule.table) else {
                match unreadable::is_in(&rule.table.schema) {
                    true => invalid(&mut plan, rule, UNNAMED),
                    false if rule.schemas.is_empty() => {
                        invalid(&mut plan, rule, "there is no such table");
                    }
                    // It was there a moment ago.
                    false => plan.skip(rule.table.to_string(), "it has vanished"),
                }
                continue;
            };
            plan.considered += table.members.len();
            if let Some(why) = tenants::of_others(rule, table) {
                invalid(&mut plan, rule, &why);
                continue;
            }
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
            let subject = steps::Subject {
                rule,
                table,
                age,
                look: facts.looks.get(&n),
                action: &action,
            };
            let steps = steps::of_rule(self, &subject, &facts, at, &mut plan);
            planned.push((rule, steps));
            followed.push((n, age, action));
        }
        self.left_behind(&mut planned, &followed, &facts, at);
        plan.steps = order::children_first(planned, &facts);
        if let Some(schemas) = &facts.schemas {
            tenants::tell(&self.rules, &facts.rules, schemas, &mut plan);
        }
        tenants::fold(&mut plan);
        let rules: Vec<&Rule> = facts.rules.iter().map(|followed| &followed.rule).collect();
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
                    rules: &rules,
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

/// Why a table of a schema is left alone.
const UNNAMED: &str = "the name of its schema is not valid UTF-8, and no statement could name it";
