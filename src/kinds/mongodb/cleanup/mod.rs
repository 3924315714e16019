//! Deletes documents that are too old or whose parent is gone, in batches that
//! only ever go forward; and sees to it that those expire which the server
//! itself is to remove.

mod age;
mod clock;
mod closed;
mod forms;
mod limits;
mod look;
mod parents;
pub(super) mod rule;
mod step;
#[cfg(test)]
mod tests;
mod told;
mod ttl;
#[cfg(test)]
mod ttl_tests;
mod uses;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use chrono::{DateTime, Utc};
use mongodb::bson::Document;
use schemars::JsonSchema;
use serde::Deserialize;

use self::clock::clock_differs;
use self::closed::Closed;
use self::look::{Look, all_of, ttl_look};
use self::rule::Rule;
use self::told::{fields_told, types_told};
use self::ttl::Ttl;
use super::common::{Collection, collections, fill};
use super::expiring;
use crate::engines::EngineError;
use crate::engines::mongodb::{Right, Session, namespace};
use crate::plan::mongodb::Body;
use crate::plan::{Ageing, Finding, Gone, Kind, Moment, Plan, Severity, Site, Unfit};
use crate::values::{Bytes, Engine, TimeSpan, wall_clock};

/// Options of `kind: cleanup` on MongoDB.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cleanup {
    /// Which documents go.
    #[serde(default)]
    rules: Vec<Rule>,
    /// Which documents the server removes by itself: TTL indexes that have to be there, and at work.
    #[serde(default)]
    ttl: Vec<Ttl>,
    /// How long one batch should take; the number of documents in it follows.
    #[serde(default = "quarter_second")]
    batch_goal: TimeSpan,
    /// A larger collection is not read from one end to the other: an index is needed.
    #[serde(default = "one_gigabyte")]
    max_scan: Bytes,
}

/// Members have to follow, and nobody notices a quarter of a second.
fn quarter_second() -> TimeSpan {
    TimeSpan::from_millis(250)
}

fn one_gigabyte() -> Bytes {
    Bytes(1 << 30)
}

/// What the decision is made from.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    database: String,
    release: (u32, u32),
    /// Whether it is a member of a replica set.
    replicated: bool,
    /// Whether the server holds a part of a cluster's documents only.
    shard: bool,
    /// By database and name.
    collections: BTreeMap<(String, String), Collection>,
    /// By the place of the rule.
    looks: HashMap<usize, Look>,
    ttl_looks: HashMap<usize, ttl::Look>,
    /// What could not be looked at, and why: the others are.
    closed: HashMap<Thing, Closed>,
    at: DateTime<Utc>,
    /// What is wrong where nobody can tell how old documents are.
    clock: Option<String>,
}

/// Something that is looked at by itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Thing {
    Database(String),
    Collection(String, String),
    Rule(usize),
    Ttl(usize),
}

impl Kind for Cleanup {
    const NAME: &'static str = "cleanup";
    const SUMMARY: &'static str = "deletes documents that are too old or orphaned, in small batches, and keeps TTL indexes at work";
    const ENGINE: Engine = Engine::Mongodb;
    const REMOVES_ROWS: bool = true;
    type Session = Session;
    type Facts = Facts;

    fn ages(&self) -> Vec<Ageing> {
        let by_rule = self.rules.iter().filter_map(|rule| rule.ages(Gone::Lost));
        by_rule.chain(self.ttl.iter().map(Ttl::ages)).collect()
    }

    fn check(&self) -> Result<(), Unfit> {
        if self.rules.is_empty() && self.ttl.is_empty() {
            return Err("there is nothing to do: give it `rules` or `ttl`".into());
        }
        if self.batch_goal.get() < Duration::from_millis(10) {
            return Err(Unfit::at(
                "batch_goal",
                format!("batch_goal is {}; expected at least 10ms", self.batch_goal),
            ));
        }
        Unfit::each("rules", self.rules.iter().map(Rule::check))?;
        Unfit::each("ttl", self.ttl.iter().map(Ttl::check))?;
        let again = |n: usize, ttl: &Ttl| self.ttl.iter().take(n).any(|one| one.is_for_same(ttl));
        let each = self
            .ttl
            .iter()
            .enumerate()
            .map(|(n, ttl)| match again(n, ttl) {
                true => Err(Unfit::from(format!(
                    "`ttl` names `{}` of `{}` twice: an index expires by one time",
                    ttl.field, ttl.collection
                ))),
                false => Ok(()),
            });
        Unfit::each("ttl", each)
    }

    fn rights(&self, own: &str) -> Vec<Right> {
        let rules = self.rules.iter().flat_map(|rule| rule.rights(own));
        rules
            .chain(self.ttl.iter().flat_map(|ttl| ttl.rights(own)))
            .collect()
    }

    async fn inspect(&self, site: &Site<Session>) -> Result<Facts, EngineError> {
        let db = &site.primary;
        let mut facts = Facts {
            database: db.database().to_owned(),
            release: db.server.release,
            replicated: db.server.set.is_some(),
            shard: db.server.shard,
            at: wall_clock(),
            clock: db.server.clock_differs(),
            ..Facts::default()
        };
        let named = self.named(&facts.database);
        for (database, names) in &named {
            let all = match collections(db, database).await {
                Ok(all) => all,
                Err(error) => {
                    let thing = Thing::Database(database.clone());
                    facts.closed.insert(thing, Closed::of(error)?);
                    continue;
                }
            };
            for (name, mut collection) in all {
                if !names.contains(&name) {
                    continue;
                }
                if let Err(error) = fill(db, database, &name, &mut collection).await {
                    let thing = Thing::Collection(database.clone(), name);
                    facts.closed.insert(thing, Closed::of(error)?);
                    continue;
                }
                let at = (database.clone(), name);
                facts.collections.insert(at, collection);
            }
        }
        for (n, rule) in self.rules.iter().enumerate() {
            let at = self.place(rule.database.as_ref(), &rule.collection, &facts.database);
            if let Some(collection) = facts.collections.get(&at)
                && collection.undeletable().is_none()
                && !(facts.shard && rule.orphaned.is_some())
            {
                match self.look(db, rule, &at.0, collection, facts.at).await {
                    Ok(mut look) => {
                        let count = look.count.unwrap_or(0);
                        if limits::is_near(rule, count, collection.documents) {
                            look.all = all_of(db, &at.0, &at.1).await?;
                        }
                        facts.looks.insert(n, look);
                    }
                    Err(error) => {
                        facts.closed.insert(Thing::Rule(n), Closed::of(error)?);
                    }
                }
            }
        }
        let monitor = expiring::monitor(db).await;
        // The server itself lets documents expire, by its own clock.
        let there = db.server.clock(facts.at);
        for (n, ttl) in self.ttl.iter().enumerate() {
            let at = self.place(ttl.database.as_ref(), &ttl.collection, &facts.database);
            let collection = facts.collections.get(&at);
            if let Some(collection) = collection.filter(|c| c.undeletable().is_none()) {
                match ttl_look(db, ttl, (&at.0, collection), there).await {
                    Ok(mut look) => {
                        look.monitor = monitor;
                        facts.ttl_looks.insert(n, look);
                    }
                    Err(error) => {
                        facts.closed.insert(Thing::Ttl(n), Closed::of(error)?);
                    }
                }
            }
        }
        Ok(facts)
    }

    fn plan(&self, facts: Facts, at: &Moment) -> Plan<Body> {
        let mut plan = Plan {
            considered: facts.collections.len(),
            ..Plan::default()
        };
        for (n, ttl) in self.ttl.iter().enumerate() {
            let key = self.place(ttl.database.as_ref(), &ttl.collection, &facts.database);
            if let Some(closed) = facts.closed([&key], Thing::Ttl(n)) {
                let object = namespace(&key.0, &key.1);
                plan.undone(Finding {
                    code: closed.code.to_owned(),
                    severity: Severity::Critical,
                    message: format!(
                        "`ttl` for {object} could not be looked at: {}",
                        closed.message
                    ),
                    object,
                    suggestion: closed.hint.clone(),
                });
                continue;
            }
            let Some(collection) = facts.collections.get(&key) else {
                let object = namespace(&key.0, &key.1);
                plan.undone(Finding {
                    code: "cleanup.rule".to_owned(),
                    severity: Severity::Critical,
                    message: format!("`ttl` names {object}, and there is no such collection"),
                    object,
                    suggestion: None,
                });
                continue;
            };
            let look = facts.ttl_looks.get(&n).cloned().unwrap_or_default();
            let server = ttl::Server {
                release: facts.release,
                replicated: facts.replicated,
            };
            ttl.plan(&key.0, collection, &look, server, at, &mut plan);
        }
        let mut met: HashMap<(String, String), u32> = HashMap::new();
        for (n, rule) in self.rules.iter().enumerate() {
            let key = self.place(rule.database.as_ref(), &rule.collection, &facts.database);
            let nth = met.entry(key.clone()).or_default();
            *nth += 1;
            let action = match *nth {
                1 => "delete".to_owned(),
                n => format!("delete_{n}"),
            };
            let parent = rule
                .orphans(&key.0)
                .map(|of| (of.parent_database, of.parent));
            let places = [Some(&key), parent.as_ref()].into_iter().flatten();
            if let Some(closed) = facts.closed(places, Thing::Rule(n)) {
                let object = namespace(&key.0, &key.1);
                plan.undone(Finding {
                    code: closed.code.to_owned(),
                    severity: Severity::Critical,
                    message: format!(
                        "the rule for {object} cannot be followed: {}",
                        closed.message
                    ),
                    object,
                    suggestion: closed.hint.clone(),
                });
                continue;
            }
            if let (Some(why), Some(_)) = (&facts.clock, rule.older_than) {
                clock_differs(&mut plan, &namespace(&key.0, &key.1), why);
                continue;
            }
            let object = namespace(&key.0, &key.1);
            if let Some(look) = facts.looks.get(&n)
                && let Err(refused) = fields_told(rule, &object, look, at, &mut plan)
            {
                plan.undone(refused);
                continue;
            }
            match self.step(rule, &key, &action, facts.looks.get(&n), &facts, at) {
                Ok(Some(step)) => plan.steps.push(step),
                Ok(None) => {}
                Err(refused) => {
                    plan.refuse(namespace(&key.0, &key.1), refused.message.clone());
                    plan.findings.push(refused);
                }
            }
            if let Some(look) = facts.looks.get(&n) {
                let collection = facts.collections.get(&key);
                types_told(rule, &key, look, collection, at, &mut plan);
            }
        }
        plan
    }
}

impl Facts {
    /// A collection that was looked at.
    pub(super) fn collection(&self, database: &str, name: &str) -> Option<&Collection> {
        let at = (database.to_owned(), name.to_owned());
        self.collections.get(&at)
    }

    /// The identity of each collection that was looked at.
    pub(super) fn identities(&self) -> BTreeMap<(String, String), String> {
        let all = self.collections.iter();
        all.map(|(at, collection)| (at.clone(), collection.uuid.clone()))
            .collect()
    }
}

impl Cleanup {
    /// The same choice of documents for another kind.
    pub(super) fn of_rules(rules: Vec<Rule>, max_scan: Bytes) -> Cleanup {
        Cleanup {
            rules,
            ttl: Vec::new(),
            batch_goal: quarter_second(),
            max_scan,
        }
    }

    /// What each rule that can be followed asks for, by where.
    pub(super) fn conditions(&self, facts: &Facts) -> Vec<((String, String), Document)> {
        let condition = |(n, rule): (usize, &Rule)| {
            let at = self.place(rule.database.as_ref(), &rule.collection, &facts.database);
            let (look, collection) = (facts.looks.get(&n)?, facts.collections.get(&at)?);
            if look.any == Some(false) {
                return None;
            }
            let age = look.age(rule).ok()?;
            let path = rule.path(collection, self.max_scan).ok()?;
            Some((at, rule.filter(age, facts.at, &path).ok()?))
        };
        let rules = self.rules.iter().enumerate();
        rules.filter_map(condition).collect()
    }

    fn place(&self, database: Option<&String>, collection: &str, own: &str) -> (String, String) {
        (
            database.map_or(own, String::as_str).to_owned(),
            collection.to_owned(),
        )
    }

    /// Every collection that is looked at, parents included, by database.
    fn named(&self, own: &str) -> BTreeMap<String, Vec<String>> {
        let mut named: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut note = |(database, collection): (String, String)| {
            named.entry(database).or_default().push(collection)
        };
        for rule in &self.rules {
            let (database, collection) = self.place(rule.database.as_ref(), &rule.collection, own);
            if let Some(orphans) = rule.orphans(&database) {
                note((orphans.parent_database, orphans.parent));
            }
            note((database, collection));
        }
        for ttl in &self.ttl {
            note(self.place(ttl.database.as_ref(), &ttl.collection, own));
        }
        named
    }
}

/// Whether a collection compares its texts otherwise than byte by byte.
fn is_collated(collection: &Collection) -> bool {
    collection.options.contains_key("collation")
}
