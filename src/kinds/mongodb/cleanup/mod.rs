//! Deletes documents that are too old or whose parent is gone, in batches that
//! only ever go forward; and sees to it that those expire which the server
//! itself is to remove.

mod parents;
pub(super) mod rule;
#[cfg(test)]
mod tests;
mod ttl;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use chrono::{DateTime, Utc};
use mongodb::bson::{Bson, Document, doc};
use schemars::JsonSchema;
use serde::Deserialize;

use self::parents::{ORPHANS, Pointing};
use self::rule::{Rule, older};
use self::ttl::Ttl;
use super::common::{Collection, Index, Shape, collections, fill};
use crate::engines::EngineError;
use crate::engines::mongodb::{Json, Limit, MongoError, Session, namespace, number};
use crate::plan::mongodb::{AgeLimit, Body, Path, Walk, Work, shell_name};
use crate::plan::{Finding, Kind, Moment, Plan, Severity, Site, Step};
use crate::values::{Bytes, Engine, Percent, TimeSpan};

/// How long a look at one collection may take.
const LOOKING: Limit = Limit(Duration::from_secs(60));
/// How long counting orphans may take: every child is read, and its parent looked for.
const COUNTING: Limit = Limit(Duration::from_secs(600));
/// How many documents are looked at for the types of their fields.
const SAMPLE: i32 = 200;

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
#[derive(Debug, Default)]
pub(crate) struct Facts {
    database: String,
    release: (u32, u32),
    /// By database and name.
    collections: BTreeMap<(String, String), Collection>,
    /// By the place of the rule.
    looks: HashMap<usize, Look>,
    ttl_looks: HashMap<usize, ttl::Look>,
    /// What could not be looked at, and why: the others are.
    closed: HashMap<Thing, Closed>,
    at: DateTime<Utc>,
}

/// Something that is looked at by itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Thing {
    Database(String),
    Collection(String, String),
    Rule(usize),
    Ttl(usize),
}

/// Why something could not be looked at.
#[derive(Clone, Debug, PartialEq)]
struct Closed {
    code: &'static str,
    message: String,
    hint: Option<String>,
}

impl Closed {
    /// What concerns one thing alone; else the error of everything.
    fn of(error: EngineError) -> Result<Closed, EngineError> {
        match &error {
            EngineError::Mongo(of) if !of.is_unreachable() && !of.is_passing() => Ok(Closed {
                code: match of {
                    MongoError::Unauthorized { .. } => "privilege.missing",
                    _ => "cleanup.rule",
                },
                message: of.to_string(),
                hint: of.hint(),
            }),
            _ => Err(error),
        }
    }
}

/// What was seen of one rule.
#[derive(Clone, Debug, Default)]
struct Look {
    types: Vec<(String, i64)>,
    /// Whether any document tells an age, where none of those looked at does.
    told: Option<bool>,
    /// Whether anything is to go; unknown where that is too dear to ask.
    any: Option<bool>,
    /// How many, where a limit wants to know.
    count: Option<i64>,
    /// Whether the field is an array in some documents, as its index tells.
    multikey: bool,
    /// What children point at; none where nobody could look in time.
    pointing: Option<Pointing>,
}

impl Kind for Cleanup {
    const NAME: &'static str = "cleanup";
    const SUMMARY: &'static str = "deletes documents that are too old or orphaned, in small batches, and keeps TTL indexes at work";
    const ENGINE: Engine = Engine::Mongodb;
    const REMOVES_ROWS: bool = true;
    type Session = Session;
    type Facts = Facts;

    fn check(&self) -> Result<(), String> {
        if self.rules.is_empty() && self.ttl.is_empty() {
            return Err("there is nothing to do: give it `rules` or `ttl`".to_owned());
        }
        if self.batch_goal.get() < Duration::from_millis(10) {
            return Err(format!(
                "batch_goal is {}; expected at least 10ms",
                self.batch_goal
            ));
        }
        self.rules.iter().try_for_each(Rule::check)?;
        self.ttl.iter().try_for_each(Ttl::check)
    }

    async fn inspect(&self, site: &Site<Session>) -> Result<Facts, EngineError> {
        let db = &site.primary;
        let mut facts = Facts {
            database: db.database().to_owned(),
            release: db.server.release,
            at: Utc::now(),
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
                && collection.shape.undeletable().is_none()
            {
                match self.look(db, rule, &at.0, collection, facts.at).await {
                    Ok(look) => {
                        facts.looks.insert(n, look);
                    }
                    Err(error) => {
                        facts.closed.insert(Thing::Rule(n), Closed::of(error)?);
                    }
                }
            }
        }
        let monitor = monitor(db).await;
        for (n, ttl) in self.ttl.iter().enumerate() {
            let at = self.place(ttl.database.as_ref(), &ttl.collection, &facts.database);
            if facts
                .collections
                .get(&at)
                .is_some_and(|c| c.shape.undeletable().is_none())
            {
                match ttl_look(db, ttl, &at.0, facts.at).await {
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
            ttl.plan(&key.0, collection, &look, facts.release, &mut plan);
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
            match self.step(rule, &key, &action, facts.looks.get(&n), &facts, at) {
                Ok(Some(step)) => plan.steps.push(step),
                Ok(None) => {}
                Err(refused) => {
                    plan.refuse(namespace(&key.0, &key.1), refused.message.clone());
                    plan.findings.push(refused);
                }
            }
            if let Some(look) = facts.looks.get(&n) {
                types_told(rule, &key, look, facts.collections.get(&key), &mut plan);
            }
        }
        plan
    }
}

impl Facts {
    /// Why a rule cannot be followed, where what it needs could not be looked at.
    fn closed<'a>(
        &self,
        places: impl IntoIterator<Item = &'a (String, String)>,
        thing: Thing,
    ) -> Option<&Closed> {
        let of = |(database, name): &(String, String)| {
            let whole = self.closed.get(&Thing::Database(database.clone()));
            whole.or_else(|| {
                let thing = Thing::Collection(database.clone(), name.clone());
                self.closed.get(&thing)
            })
        };
        let mut found = places.into_iter().filter_map(of);
        found.next().or_else(|| self.closed.get(&thing))
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
            let age = rule.age(&look.types).ok()?;
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

    async fn look(
        &self,
        db: &Session,
        rule: &Rule,
        database: &str,
        collection: &Collection,
        now: DateTime<Utc>,
    ) -> Result<Look, EngineError> {
        let mut look = Look::default();
        if let Some(field) = &rule.field {
            look.types = types(db, database, &rule.collection, field).await?;
        }
        if let (Some(field), Ok(Some(age))) = (&rule.field, rule.age(&look.types))
            && !look.types.is_empty()
            && !look.types.iter().any(|(kind, _)| age.fits(kind))
        {
            let filter = doc! { field.as_str(): { "$type": age.types().to_vec() } };
            let find = doc! { "find": &rule.collection, "filter": filter, "limit": 1, "projection": { "_id": 1 } };
            let doing = "looking for documents that tell an age";
            look.told = match db.all(doing, database, find, LOOKING).await {
                Ok(found) => Some(!found.is_empty()),
                Err(error) if error.is_out_of_time() => None,
                Err(error) => return Err(error.into()),
            };
        }
        let (Ok(age), Ok(path)) = (rule.age(&look.types), rule.path(collection, self.max_scan))
        else {
            return Ok(look);
        };
        let mut filter = rule.filter(age, now, &path).map_err(bad)?;
        let hint = match &path {
            Path::Range { index, .. } => Some(index.as_str()),
            Path::Ids => None,
        };
        if let Some(hint) = hint {
            let explain = doc! {
                "explain": { "find": &rule.collection, "filter": filter.clone(), "hint": hint },
                "verbosity": "queryPlanner",
            };
            let explained = db
                .command("asking how the index is used", database, explain, LOOKING)
                .await?;
            let field = rule.field.as_deref().unwrap_or_default();
            look.multikey = is_multikey(&Bson::Document(explained), field);
        }
        let limited = is_limited(rule);
        if let Some(orphans) = rule.orphans(database) {
            let name = &rule.collection;
            look.pointing = parents::look(db, name, database, &filter, &orphans).await?;
            let Some(pointing) = &look.pointing else {
                return Ok(look);
            };
            if pointing
                .refused(rule, &orphans, is_collated(collection))
                .is_some()
            {
                return Ok(look);
            }
            filter = pointing.within(filter, &orphans.field);
            if orphans.parent_database != database {
                if limited {
                    look.count =
                        parents::count_elsewhere(db, name, database, &filter, &orphans).await?;
                    look.any = look.count.map(|n| n > 0);
                }
            } else {
                let stages = orphan_stages(
                    filter,
                    &orphans.field,
                    &orphans.parent,
                    &orphans.parent_field,
                    limited,
                );
                let found = db
                    .aggregate(
                        "looking for orphans",
                        database,
                        &rule.collection,
                        stages,
                        COUNTING,
                    )
                    .await;
                match found {
                    Ok(found) if limited => {
                        let n = found.first().and_then(|d| number(d.get("n"))).unwrap_or(0);
                        look.count = Some(n);
                        look.any = Some(n > 0);
                    }
                    Ok(found) => look.any = Some(!found.is_empty()),
                    // The walk itself is not bound to ten minutes.
                    Err(error) if error.is_out_of_time() => {}
                    Err(error) => return Err(error.into()),
                }
            }
            return Ok(look);
        }
        if limited {
            let mut count = doc! { "count": &rule.collection, "query": filter };
            if let Some(hint) = hint {
                count.insert("hint", hint);
            }
            match db
                .command("counting documents", database, count, LOOKING)
                .await
            {
                Ok(answer) => {
                    let n = number(answer.get("n")).unwrap_or(0);
                    look.count = Some(n);
                    look.any = Some(n > 0);
                }
                Err(error) if error.is_out_of_time() => {}
                Err(error) => return Err(error.into()),
            }
            return Ok(look);
        }
        let mut find = doc! { "find": &rule.collection, "filter": filter, "limit": 1, "singleBatch": true, "projection": { "_id": 1 } };
        if let Some(hint) = hint {
            find.insert("hint", hint);
        }
        match db
            .all("looking for documents to delete", database, find, LOOKING)
            .await
        {
            Ok(found) => look.any = Some(!found.is_empty()),
            Err(error) if error.is_out_of_time() => {}
            Err(error) => return Err(error.into()),
        }
        Ok(look)
    }

    fn step(
        &self,
        rule: &Rule,
        (database, name): &(String, String),
        action: &str,
        look: Option<&Look>,
        facts: &Facts,
        at: &Moment,
    ) -> Result<Option<Step<Body>>, Finding> {
        let object = namespace(database, name);
        let refuse = |code: &str, message: String, suggestion: Option<String>| Finding {
            code: code.to_owned(),
            severity: Severity::Critical,
            object: object.clone(),
            message: format!("the rule for {object} cannot be followed: {message}"),
            suggestion,
        };
        let invalid = |why: String| refuse("cleanup.rule", why, None);
        let Some(collection) = facts.collections.get(&(database.clone(), name.clone())) else {
            return Err(invalid("there is no such collection".to_owned()));
        };
        if let Some(why) = collection.shape.undeletable() {
            return Err(invalid(why.to_owned()));
        }
        let look = look.cloned().unwrap_or_default();
        let age = rule.age(&look.types).map_err(&invalid)?;
        let orphans = rule.orphans(database);
        if let Some(orphans) = &orphans {
            let parent = facts
                .collections
                .get(&(orphans.parent_database.clone(), orphans.parent.clone()));
            let whole = namespace(&orphans.parent_database, &orphans.parent);
            match parent {
                // Without it, every child would be an orphan.
                None => return Err(invalid(format!("its parent {whole} does not exist"))),
                Some(parent) if parent.options.contains_key("collation") => {
                    return Err(invalid(format!(
                        "its parent {whole} compares texts by a collation, and equal is then not the same for both sides"
                    )));
                }
                Some(parent) if parent.shape == Shape::View => {
                    return Err(invalid(format!("its parent {whole} is a view")));
                }
                Some(parent)
                    if parent.documents > 10_000
                        && !parent
                            .indexes
                            .iter()
                            .any(|i| i.orders(&orphans.parent_field)) =>
                {
                    return Err(refuse(
                        "cleanup.index",
                        format!(
                            "every parent would be read for every child: {whole} has no index that begins with `{}`",
                            orphans.parent_field
                        ),
                        Some(format!(
                            "{}.createIndex({{{:?}: 1}})",
                            shell_name(&orphans.parent_database, &orphans.parent),
                            orphans.parent_field
                        )),
                    ));
                }
                Some(_) => {}
            }
        }
        let path = rule.path(collection, self.max_scan).map_err(|why| {
            let field = rule.field.as_ref().filter(|_| orphans.is_none());
            refuse(
                "cleanup.index",
                why,
                field.map(|field| {
                    format!(
                        "{}.createIndex({{{field:?}: 1}})",
                        shell_name(database, name)
                    )
                }),
            )
        })?;
        if look.multikey {
            return Err(invalid(format!(
                "`{}` is an array in some documents, or in one around it, and has no single age",
                rule.field.as_deref().unwrap_or_default()
            )));
        }
        if let Some(orphans) = &orphans {
            let Some(pointing) = &look.pointing else {
                return Err(invalid(
                    "what its documents point at could not be looked at within ten minutes"
                        .to_owned(),
                ));
            };
            if let Some(why) = pointing.refused(rule, orphans, is_collated(collection)) {
                return Err(invalid(why));
            }
        }
        if look.any == Some(false) {
            return Ok(None);
        }
        if is_limited(rule) && look.count.is_none() {
            let why = match &orphans {
                None => {
                    "how many documents would go could not be counted within a minute, and `max_rows` or `max_share` limits that"
                }
                Some(_) => {
                    "how many orphans there are could not be counted within ten minutes, or they point at more than a million different values in another database; half of the documents may go unless the rule says `max_share`, and with `max_share: 100%` and without `max_rows` nothing is counted"
                }
            };
            return Err(refuse("cleanup.too_many", why.to_owned(), None));
        }
        if let Some(count) = look.count
            && let Some(why) = too_many(rule, count, collection.documents)
        {
            return Err(refuse("cleanup.too_many", why, None));
        }
        let mut filter = rule.filter(age, at.now, &path).map_err(&invalid)?;
        if let (Some(orphans), Some(pointing)) = (&orphans, &look.pointing) {
            filter = pointing.within(filter, &orphans.field);
        }
        let along = match &path {
            Path::Range { field, index } => format!("goes along `{index}`, by `{field}`"),
            Path::Ids => "reads every document, in the order of `_id`".to_owned(),
        };
        let progress = format!("{action} {object} {along}");
        let start = at
            .memories
            .get(&progress)
            .filter(|place| !place.is_null())
            .cloned();
        let mut reason = Vec::new();
        if let (Some(field), Some(span)) = (&rule.field, rule.older_than) {
            reason.push(format!("`{field}` is older than {span}"));
        }
        if rule.only.is_some() {
            reason.push("matches `where`".to_owned());
        }
        if let Some(orphans) = &orphans {
            reason.push(format!(
                "`{}` points at no document of {}",
                orphans.field,
                namespace(&orphans.parent_database, &orphans.parent)
            ));
        }
        let mut because = reason.join(", ");
        if let Some(count) = look.count {
            because = format!("{count} documents: {because}");
        }
        let age = match (&rule.field, rule.older_than, age) {
            (Some(field), Some(span), Some(age)) => Some(AgeLimit {
                field: field.clone(),
                limit: Json::of(&older(age, span.before(at.now))).part("$lt"),
                words: format!("{span} before the run"),
            }),
            _ => None,
        };
        let mut relies_on = Vec::new();
        relies_on.push((database.as_str(), name.as_str(), &collection.uuid));
        let parent = orphans.as_ref().map(|of| (&of.parent_database, &of.parent));
        if let Some((database, name)) = parent
            && let Some(parent) = facts.collections.get(&(database.clone(), name.clone()))
        {
            relies_on.push((database, name, &parent.uuid));
        }
        let index = match &path {
            Path::Range { index, .. } => collection.indexes.iter().find(|i| i.name == *index),
            Path::Ids => None,
        };
        let index = index.map(Index::described);
        let walk = Walk {
            database: database.clone(),
            collection: name.clone(),
            filter: Json::of(&filter),
            age,
            path,
            orphans: orphans.clone(),
            goal_ms: u64::try_from(self.batch_goal.get().as_millis()).unwrap_or(250),
            documents: look.count,
            most: most(rule, collection.documents.max(look.count.unwrap_or(0))),
            progress,
            start: start.map(Json),
            into: None,
            files: None,
        };
        let mut step = Step::new(action, &object, &object)
            .because(because)
            .doing(Work::Walk(Box::new(walk)))
            .measuring(database, name);
        for (database, name, uuid) in relies_on {
            step = step.relying_on(database, name, uuid);
        }
        if let Some(index) = index {
            let relies_on = &mut step.body.relies_on;
            relies_on.insert("the index that it goes along".to_owned(), index);
        }
        step.details.push(along);
        Ok(Some(step))
    }
}

/// The share that may go at the most; orphans have one even where the rule says nothing.
fn share_of(rule: &Rule) -> Option<Percent> {
    rule.max_share
        .or_else(|| rule.orphaned.is_some().then_some(ORPHANS))
}

/// Whether it has to be known how many would go.
fn is_limited(rule: &Rule) -> bool {
    let all = |share: Percent| share.share() >= 1.0;
    rule.max_rows.is_some()
        || rule
            .max_share
            .is_some_and(|share| rule.orphaned.is_none() || !all(share))
        || (rule.max_share.is_none() && rule.orphaned.is_some())
}

/// Whether a collection compares its texts otherwise than byte by byte.
fn is_collated(collection: &Collection) -> bool {
    collection.options.contains_key("collation")
}

/// How many may go at the most, where the rule limits that.
fn most(rule: &Rule, all: i64) -> Option<i64> {
    let rows = rule.max_rows.and_then(|n| i64::try_from(n).ok());
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "a share of what fits; rounded down"
    )]
    let share = share_of(rule)
        .filter(|_| is_limited(rule))
        .map(|share| (share.share() * all as f64 + 1e-6) as i64);
    [rows, share].into_iter().flatten().min()
}

fn too_many(rule: &Rule, count: i64, all: i64) -> Option<String> {
    if let Some(most) = rule.max_rows
        && u64::try_from(count).unwrap_or(0) > most
    {
        return Some(format!(
            "{count} documents would go, more than `max_rows` ({most})"
        ));
    }
    if let Some(most) = share_of(rule) {
        #[expect(clippy::cast_precision_loss, reason = "a share")]
        let share = count as f64 / all.max(count).max(1) as f64;
        if share > most.share() {
            let limit = match rule.max_share {
                Some(_) => format!("`max_share` ({most})"),
                None => format!("orphans may be ({most}) unless the rule says `max_share`"),
            };
            return Some(format!(
                "{count} of {all} documents would go ({:.1} %), more than {limit}",
                share * 100.0
            ));
        }
    }
    None
}

/// Documents whose age cannot be told never go: that should be known.
fn types_told(
    rule: &Rule,
    (database, name): &(String, String),
    look: &Look,
    collection: Option<&Collection>,
    plan: &mut Plan<Body>,
) {
    if let (Some(pointing), Some(of)) = (&look.pointing, &rule.orphaned)
        && !pointing.parent_is_empty
        && !pointing.met.is_empty()
    {
        for (kind, n) in &pointing.strays {
            plan.findings.push(Finding {
                code: "cleanup.types".to_owned(),
                severity: Severity::Warning,
                object: namespace(database, name),
                message: format!(
                    "{n} documents have a {kind} in `{}`, and no document of {} has one in `{}`: whether their parent is gone cannot be told, and they stay",
                    of.field, of.parent, of.parent_field
                ),
                suggestion: None,
            });
        }
    }
    let Ok(Some(age)) = rule.age(&look.types) else {
        return;
    };
    let fits = |kind: &str| age.fits(kind);
    let all: i64 = look.types.iter().map(|(_, n)| n).sum();
    let wrong: Vec<String> = look
        .types
        .iter()
        .filter(|(kind, _)| !fits(kind))
        .map(|(kind, n)| format!("{n} {kind}"))
        .collect();
    if !wrong.is_empty() {
        let field = rule.field.as_deref().unwrap_or_default();
        // An index says that somebody knows the field, which may be in no document today.
        let known = collection.is_some_and(|collection| {
            let mut keys = collection.indexes.iter().flat_map(|index| &index.keys);
            keys.any(|(name, _)| name == field)
        });
        let absent = |kind: &str| matches!(kind, "missing" | "null" | "undefined");
        let other = look.types.iter().any(|(kind, _)| !absent(kind));
        if look.told == Some(false) && (other || !known) {
            let object = namespace(database, name);
            plan.undone(Finding {
                code: "cleanup.types".to_owned(),
                severity: Severity::Critical,
                message: format!(
                    "nothing can become old enough: no document of {object} tells an age in `{field}` ({}). Look at the spelling of the field, and at `epoch`",
                    wrong.join(", ")
                ),
                object,
                suggestion: None,
            });
            return;
        }
        plan.findings.push(Finding {
            code: "cleanup.types".to_owned(),
            severity: Severity::Info,
            object: namespace(database, name),
            message: format!(
                "of {all} documents looked at, some tell no age in `{field}` ({}): those stay for ever",
                wrong.join(", ")
            ),
            suggestion: None,
        });
    }
}

/// The types in a field, of a sample.
async fn types(
    db: &Session,
    database: &str,
    collection: &str,
    field: &str,
) -> Result<Vec<(String, i64)>, EngineError> {
    let stages = vec![
        doc! { "$sample": { "size": SAMPLE } },
        doc! { "$group": { "_id": { "$type": format!("${field}") }, "n": { "$sum": 1 } } },
        doc! { "$sort": { "n": -1, "_id": 1 } },
    ];
    let found = db
        .aggregate("looking at types", database, collection, stages, LOOKING)
        .await?;
    Ok(found
        .iter()
        .filter_map(|d| Some((d.get_str("_id").ok()?.to_owned(), number(d.get("n"))?)))
        .collect())
}

fn orphan_stages(
    filter: Document,
    field: &str,
    parent: &str,
    parent_field: &str,
    count: bool,
) -> Vec<Document> {
    vec![
        doc! { "$match": filter },
        doc! { "$match": { field: { "$not": { "$type": "array" } } } },
        doc! { "$project": { "maint_points_at": format!("${field}") } },
        // Of an array around it a path makes an array.
        doc! { "$match": { "maint_points_at": { "$not": { "$type": "array" } } } },
        doc! { "$lookup": { "from": parent, "localField": "maint_points_at", "foreignField": parent_field, "as": "maint_parent" } },
        doc! { "$match": { "maint_parent": { "$size": 0 } } },
        if count {
            doc! { "$count": "n" }
        } else {
            doc! { "$limit": 1 }
        },
    ]
}

async fn ttl_look(
    db: &Session,
    ttl: &Ttl,
    database: &str,
    now: DateTime<Utc>,
) -> Result<ttl::Look, EngineError> {
    let overdue = chrono::TimeDelta::from_std(ttl.max_overdue.get()).unwrap_or_default();
    let count =
        doc! { "count": &ttl.collection, "query": ttl.expired_at(now - overdue), "limit": 1000 };
    let counted = db
        .command("looking for overdue documents", database, count, LOOKING)
        .await;
    let overdue = match counted {
        Ok(answer) => number(answer.get("n")).unwrap_or(0),
        // Without an index, which then is what is missing.
        Err(error) if error.is_out_of_time() => 0,
        Err(error) => return Err(error.into()),
    };
    let mut expired = None;
    if ttl.max_rows.is_some() {
        let count = doc! { "count": &ttl.collection, "query": ttl.expired_at(now) };
        let answer = db
            .command("counting expired documents", database, count, LOOKING)
            .await?;
        expired = number(answer.get("n"));
    }
    Ok(ttl::Look {
        overdue,
        expired,
        types: types(db, database, &ttl.collection, &ttl.field).await?,
        monitor: None,
    })
}

/// Whether the TTL monitor is on, where that may be asked.
async fn monitor(db: &Session) -> Option<bool> {
    let ask = doc! { "getParameter": 1, "ttlMonitorEnabled": 1 };
    let answer = db
        .command("asking for the TTL monitor", "admin", ask, Limit::ASIDE)
        .await
        .ok()?;
    answer.get_bool("ttlMonitorEnabled").ok()
}

/// Whether an explanation says that a document has several entries for this field in the index:
/// other fields of the index may be arrays.
fn is_multikey(value: &Bson, field: &str) -> bool {
    match value {
        Bson::Document(document) => {
            let arrays = document.get_document("multiKeyPaths");
            let here = document.get_bool("isMultiKey").unwrap_or(false)
                && arrays
                    .and_then(|paths| paths.get_array(field))
                    .map_or(true, |of_field| !of_field.is_empty());
            here || document.iter().any(|(_, value)| is_multikey(value, field))
        }
        Bson::Array(values) => values.iter().any(|value| is_multikey(value, field)),
        _ => false,
    }
}

fn bad(message: String) -> EngineError {
    MongoError::Driver {
        doing: "reading the rule".to_owned(),
        message,
    }
    .into()
}
