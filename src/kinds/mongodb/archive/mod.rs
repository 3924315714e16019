//! Keeps old documents in another collection, database or target, or in files,
//! before they go.

mod beside;
mod into;
mod left;
mod outlived;
mod sampled;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use self::beside::Place;
use self::into::Into;
use self::left::{clear_away, settle_first, take_back_first};
use self::sampled::Seen;
use super::cleanup::rule::Rule;
use super::cleanup::{self, Cleanup};
use crate::engines::EngineError;
use crate::engines::mongodb::{LeftCopies, Limit, Right, Session, namespace};
use crate::engines::storage::Storage;
use crate::plan::mongodb::{Body, Destination, Export, Manifest, Work, to_keep, to_mark};
use crate::plan::{Ageing, Finding, Gone, Kind, Moment, Plan, Severity, Site, Unfit, archived};
use crate::values::{Bytes, Engine};

/// Options of `kind: archive` on MongoDB.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Archive {
    /// Which documents are archived.
    #[schemars(length(min = 1))]
    rules: Vec<Rule>,
    /// Where they are kept.
    destination: Into,
    /// A larger collection is not read from one end to the other: an index is needed.
    #[serde(default = "one_gigabyte")]
    max_scan: Bytes,
}

/// How long it may take to look at fields and their types.
const LOOKING: Limit = Limit(Duration::from_secs(60));

fn one_gigabyte() -> Bytes {
    Bytes(1 << 30)
}

/// What the decision is made from.
pub(crate) struct Facts {
    cleanup: cleanup::Facts,
    own: String,
    replicated: bool,
    /// Destinations, on the same server, that cannot hold documents as they are.
    unfit: Vec<(String, String)>,
    /// Batches of runs that are no more, whose copies may stand beside their originals.
    left: LeftCopies,
    /// What lies in the place of the files of each collection.
    places: Vec<Place>,
    /// What was seen of the fields of a collection, where that says which columns there are.
    seen: BTreeMap<(String, String), Seen>,
}

impl Archive {
    fn cleanup(&self) -> Cleanup {
        Cleanup::of_rules(self.rules.clone(), self.max_scan)
    }

    fn into(&self, own: &str, collection: &str) -> Destination {
        Destination {
            target: self.destination.target.clone(),
            // Of another target, its own is known only there.
            database: self
                .destination
                .database
                .clone()
                .unwrap_or_else(|| own.to_owned()),
            collection: self
                .destination
                .collection
                .clone()
                .unwrap_or_else(|| collection.to_owned()),
        }
    }
}

impl Kind for Archive {
    const NAME: &'static str = "archive";
    const SUMMARY: &'static str = "moves old documents to another collection, database or target, or into files: copied, compared to the byte, then deleted";
    const ENGINE: Engine = Engine::Mongodb;
    const REMOVES_ROWS: bool = true;
    type Session = Session;
    type Facts = Facts;

    fn rests_on_history(&self) -> bool {
        self.destination.files.is_some()
    }

    fn ages(&self) -> Vec<Ageing> {
        let rules = self.rules.iter();
        rules.filter_map(|rule| rule.ages(Gone::Kept)).collect()
    }

    fn check(&self) -> Result<(), Unfit> {
        self.destination
            .check()
            .map_err(|why| Unfit::at("destination", why))?;
        if self.destination.files.is_none()
            && self.destination.collection.is_none()
            && self.destination.database.is_none()
            && self.destination.target.is_none()
        {
            return Err(Unfit::at(
                "destination",
                "the `destination` is where the documents are already: name a `collection`, a `database` or a `target`, or `files`",
            ));
        }
        Unfit::each(
            "rules",
            self.rules.iter().map(|rule| match rule.orphaned {
                Some(_) => Err(Unfit::at(
                    "orphaned",
                    format!(
                        "the rule for `{}` archives orphans, which only `cleanup` deals with",
                        rule.collection
                    ),
                )),
                None => Ok(()),
            }),
        )?;
        if self.destination.collection.is_some() && self.rules.len() > 1 {
            let why = "documents of several rules would go to one `collection`; make it one task for each";
            return Err(Unfit::at("destination", why));
        }
        if self.destination.target.is_some() && self.destination.database.is_none() {
            let why = "`destination` names a `target`, and not which `database` there";
            return Err(Unfit::at("destination", why));
        }
        self.cleanup().check()
    }

    fn rights(&self, own: &str) -> Vec<Right> {
        let mut rights = to_mark(own);
        for rule in &self.rules {
            rights.extend(rule.rights(own));
            // Of another target, another user is asked.
            if self.destination.files.is_none() && self.destination.target.is_none() {
                rights.extend(to_keep(&self.into(own, &rule.collection)));
            }
        }
        rights
    }

    async fn inspect(&self, site: &Site<Session>) -> Result<Facts, EngineError> {
        let db = &site.primary;
        let own = db.database().to_owned();
        let mut unfit = Vec::new();
        if self.destination.target.is_none() && self.destination.files.is_none() {
            for rule in &self.rules {
                let into = self.into(&own, &rule.collection);
                let (_, why) = db.to_keep(&into.database, &into.collection).await?;
                if let Some(why) = why {
                    unfit.push((namespace(&into.database, &into.collection), why));
                }
            }
        }
        let mut places: Vec<Place> = Vec::new();
        if let Some(url) = &self.destination.files
            && let Ok(storage) = Storage::open(url)
        {
            let of = |rule: &'_ Rule| {
                let database = rule.database.clone();
                (
                    database.unwrap_or_else(|| own.clone()),
                    rule.collection.clone(),
                )
            };
            let collections: BTreeSet<(String, String)> = self.rules.iter().map(of).collect();
            for (database, collection) in &collections {
                places.push(Place::read(url, &storage, (database, collection)).await);
            }
        }
        let cleanup = self.cleanup().inspect(site).await?;
        let mut seen = BTreeMap::new();
        if self.destination.samples() {
            for (at, condition) in self.cleanup().conditions(&cleanup) {
                // Who cannot be looked at in time has the one column of everything.
                let found = sampled::look(db, &at, &condition, LOOKING).await?;
                seen.insert(at, found.unwrap_or_default());
            }
        }
        Ok(Facts {
            left: db.left_copies().await?,
            places,
            seen,
            cleanup,
            replicated: db.server.set.is_some(),
            own,
            unfit,
        })
    }

    fn plan(&self, facts: Facts, at: &Moment) -> Plan<Body> {
        let identities = facts.cleanup.identities();
        let expires = outlived::told(&self.rules, &facts.cleanup, &facts.own, at.now);
        let mut plan = self.cleanup().plan(facts.cleanup, at);
        plan.findings
            .extend(facts.places.iter().filter_map(|place| place.finding(at)));
        plan.findings.extend(expires);
        let manifests = archived::among::<Manifest>(at.memories.iter());
        if self.destination.files.is_some() {
            let replaced = beside::replaced(&manifests, &identities, &self.rules, &facts.own);
            plan.findings.extend(replaced);
        }
        let mut refused = Vec::new();
        for step in &mut plan.steps {
            let Work::Walk(walk) = &mut step.body.work else {
                continue;
            };
            let into = self.into(&facts.own, &walk.collection);
            let whole = namespace(&into.database, &into.collection);
            let opened = self.destination.files.as_deref().map(Storage::open);
            let why = if !facts.replicated {
                Some("archiving needs transactions, which a server that stands alone does not have: make it a replica set of one".to_owned())
            } else if let Some(Err(error)) = &opened {
                Some(error.to_string())
            } else if opened.is_some() {
                None
            } else if into.target.is_none()
                && (into.database == walk.database && into.collection == walk.collection)
            {
                Some(format!("{whole} is where the documents are already"))
            } else {
                facts
                    .unfit
                    .iter()
                    .find(|(name, _)| *name == whole)
                    .map(|(name, why)| format!("{name} cannot keep them: {why}"))
            };
            if let Some(why) = why {
                refused.push((step.object.clone(), why));
                continue;
            }
            step.action = step.action.replace("delete", "archive");
            // What one walk has left behind is found again by its condition alone.
            walk.start = None;
            if let Some(url) = &self.destination.files {
                step.details
                    .push(format!("writes to {url}, reads back, and deletes"));
                let of = (walk.database.clone(), walk.collection.clone());
                let mut columns = self.destination.columns();
                if let Some(seen) = facts.seen.get(&of) {
                    let known = sampled::known(&manifests, &of);
                    columns.extend(known.into_iter().filter(|known| {
                        let declared = &self.destination.columns;
                        !declared.contains_key(&known.name)
                    }));
                    let schema = seen.schema(columns);
                    step.details.push(schema.told());
                    plan.findings.extend(schema.finding(&step.object));
                    columns = schema.fields;
                }
                walk.files = Some(Export {
                    storage: url.clone(),
                    format: self.destination.format.unwrap_or_default(),
                    columns,
                    // By which this very rule goes: of several rules each has its own.
                    age: walk.age.as_ref().map(|age| age.field.clone()),
                });
                continue;
            }
            step.details.push(format!(
                "copies to {whole}{}, compares, and deletes",
                into.target
                    .as_ref()
                    .map(|target| format!(" of target {target}"))
                    .unwrap_or_default()
            ));
            walk.into = Some(into);
        }
        plan.steps
            .retain(|step| !refused.iter().any(|(object, _)| *object == step.object));
        for (object, why) in refused {
            plan.refuse(&object, &why);
            plan.findings.push(Finding {
                code: "archive.rule".to_owned(),
                severity: Severity::Critical,
                object,
                message: format!("nothing was archived: {why}"),
                suggestion: None,
            });
        }
        clear_away(&mut plan, &facts.own, at);
        settle_first(&mut plan, &facts.own, at);
        beside::read_first(&mut plan, &facts.own, &facts.places, at);
        take_back_first(&mut plan, &facts.own, &facts.left, at);
        plan
    }
}

/// Which documents, by database and collection, a task of these options puts where on another target.
pub(crate) fn elsewhere(options: &Value, own: &str) -> Vec<((String, String), Destination)> {
    let Ok(archive) = serde_json::from_value::<Archive>(options.clone()) else {
        return Vec::new();
    };
    let place = |rule: &Rule| {
        let from = rule.database.clone().unwrap_or_else(|| own.to_owned());
        let into = Archive::into(&archive, own, &rule.collection);
        into.target
            .is_some()
            .then(|| ((from, rule.collection.clone()), into))
    };
    archive.rules.iter().filter_map(place).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_destination_has_to_be_elsewhere() {
        let rule = json!({ "collection": "events", "field": "at", "older_than": "6mo" });
        for (destination, fits) in [
            (json!({}), false),
            (json!({ "collection": "old" }), true),
            (json!({ "database": "old" }), true),
            (json!({ "target": "other" }), false),
            (json!({ "target": "other", "database": "old" }), true),
            (json!({ "files": "file:///srv/x" }), true),
            (
                json!({ "files": "s3://b/x", "format": "parquet", "columns": { "at": "date" } }),
                true,
            ),
            (json!({ "files": "srv/x" }), false),
            (json!({ "files": "file:///" }), false),
            (json!({ "files": "s3:///x" }), false),
            (json!({ "files": "file:///x", "collection": "old" }), false),
            (
                json!({ "files": "file:///x", "columns": { "at": "date" } }),
                false,
            ),
            (
                json!({ "files": "file:///x", "format": "parquet", "columns": { "_id": "long" } }),
                false,
            ),
            (json!({ "collection": "old", "format": "jsonl" }), false),
            (
                json!({ "files": "file:///x", "format": "parquet", "schema": "sample" }),
                true,
            ),
            (json!({ "files": "file:///x", "schema": "sample" }), false),
            (json!({ "collection": "old", "schema": "sample" }), false),
            (
                json!({ "files": "file:///x", "format": "parquet", "columns": { "a": "rest", "b": "rest" } }),
                false,
            ),
        ] {
            let kind: Archive =
                serde_json::from_value(json!({ "rules": [rule], "destination": destination }))
                    .unwrap();
            assert_eq!(kind.check().is_ok(), fits, "{destination}");
        }
    }
}
