//! Keeps old documents in another collection, database or target before they go.

use schemars::JsonSchema;
use serde::Deserialize;

use super::cleanup::rule::Rule;
use super::cleanup::{self, Cleanup};
use super::common::{Shape, collections};
use crate::engines::EngineError;
use crate::engines::mongodb::{Session, namespace};
use crate::plan::mongodb::{Body, Destination, Work};
use crate::plan::{Finding, Kind, Moment, Plan, Severity, Site};
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

/// Where documents are kept. At least one of these has to differ from where they come from.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Into {
    /// The collection; made where it does not exist. By default of the same name.
    #[serde(default)]
    collection: Option<String>,
    /// Its database; by default the one that the target's `url` names.
    #[serde(default)]
    database: Option<String>,
    /// Another target, whose server keeps them.
    #[serde(default)]
    #[schemars(extend("format" = "maint-target"))]
    target: Option<String>,
}

fn one_gigabyte() -> Bytes {
    Bytes(1 << 30)
}

/// What the decision is made from.
pub(crate) struct Facts {
    cleanup: cleanup::Facts,
    own: String,
    replicated: bool,
    /// Destinations, on the same server, that cannot hold documents as they are.
    unfit: Vec<(String, &'static str)>,
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
    const SUMMARY: &'static str = "moves old documents to another collection, database or target: copied, compared to the byte, then deleted";
    const ENGINE: Engine = Engine::Mongodb;
    const REMOVES_ROWS: bool = true;
    type Session = Session;
    type Facts = Facts;

    fn check(&self) -> Result<(), String> {
        if self.destination.collection.is_none()
            && self.destination.database.is_none()
            && self.destination.target.is_none()
        {
            return Err("the `destination` is where the documents are already: name a `collection`, a `database` or a `target`".to_owned());
        }
        if let Some(rule) = self.rules.iter().find(|rule| rule.orphaned.is_some()) {
            return Err(format!(
                "the rule for `{}` archives orphans, which only `cleanup` deals with",
                rule.collection
            ));
        }
        if self.destination.collection.is_some() && self.rules.len() > 1 {
            return Err("documents of several rules would go to one `collection`; make it one task for each".to_owned());
        }
        if self.destination.target.is_some() && self.destination.database.is_none() {
            return Err(
                "`destination` names a `target`, and not which `database` there".to_owned(),
            );
        }
        self.cleanup().check()
    }

    async fn inspect(&self, site: &Site<Session>) -> Result<Facts, EngineError> {
        let db = &site.primary;
        let own = db.database().to_owned();
        let mut unfit = Vec::new();
        if self.destination.target.is_none() {
            for rule in &self.rules {
                let into = self.into(&own, &rule.collection);
                let known = collections(db, &into.database).await?;
                if let Some(there) = known.get(&into.collection) {
                    let why = match there.shape {
                        Shape::Capped => "it is capped: what is archived there would be removed",
                        Shape::View => "it is a view",
                        Shape::TimeSeries => {
                            "it is a time-series collection, which stores documents in another shape"
                        }
                        Shape::Plain | Shape::Clustered => continue,
                    };
                    unfit.push((namespace(&into.database, &into.collection), why));
                }
            }
        }
        Ok(Facts {
            cleanup: self.cleanup().inspect(site).await?,
            replicated: db.server.set.is_some(),
            own,
            unfit,
        })
    }

    fn plan(&self, facts: Facts, at: &Moment) -> Plan<Body> {
        let mut plan = self.cleanup().plan(facts.cleanup, at);
        let mut refused = Vec::new();
        for step in &mut plan.steps {
            let Work::Walk(walk) = &mut step.body.work else {
                continue;
            };
            let into = self.into(&facts.own, &walk.collection);
            let whole = namespace(&into.database, &into.collection);
            let why = if !facts.replicated {
                Some("archiving needs transactions, which a server that stands alone does not have: make it a replica set of one".to_owned())
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
            step.details.push(format!(
                "copies to {whole}{}, compares, and deletes",
                into.target
                    .as_ref()
                    .map(|target| format!(" of target {target}"))
                    .unwrap_or_default()
            ));
            // What one walk has left behind is found again by its condition alone.
            walk.start = None;
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
        plan
    }
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
        ] {
            let kind: Archive =
                serde_json::from_value(json!({ "rules": [rule], "destination": destination }))
                    .unwrap();
            assert_eq!(kind.check().is_ok(), fits, "{destination}");
        }
    }
}
