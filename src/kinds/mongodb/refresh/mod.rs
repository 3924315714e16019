//! Results of aggregations kept in collections: made anew where the documents
//! that they are made from have changed.

mod obstacles;
mod options;
mod order;
mod pipeline;
mod result;

use std::collections::BTreeMap;

use mongodb::bson::doc;
use serde_json::{Value, json};

use self::obstacles::Found;
pub(crate) use self::options::Refresh;
use self::options::{Aggregation, ReadFrom};
use super::common::{Collection, Shape, collections, fill, not_allowed};
use crate::engines::EngineError;
use crate::engines::mongodb::{Added, Addition, Limit, Right, Session, namespace};
use crate::plan::mongodb::{
    Aggregate, Body, Measure, Work, adding, cut_off, left_by, set_back, to_mark, to_read, to_write,
};
use crate::plan::{Finding, Kind, Moment, Plan, Replacing, Scope, Severity, Site, Step, Unfit};
use crate::values::{Engine, several};

/// What the decision is made from.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    database: String,
    /// Whether it is one of many databases of a target.
    one_of_many: bool,
    /// Whether the URL would have a secondary read.
    prefers_secondaries: bool,
    /// By database and name.
    collections: BTreeMap<(String, String), Collection>,
    /// Results that are not there and cannot be made by their name, and why.
    unnameable: BTreeMap<(String, String), String>,
    /// Which server counts, and since when; unknown where it may not be asked.
    counts_since: Option<String>,
    /// What each view of those databases reads, by database and name.
    views: BTreeMap<(String, String), Vec<String>>,
    /// What was added to results, or was about to be.
    additions: Vec<Addition>,
    findings: Vec<Finding>,
}

impl Kind for Refresh {
    const NAME: &'static str = "refresh";
    const SUMMARY: &'static str =
        "makes the results of aggregations anew ($merge, $out), where their sources have changed";
    const ENGINE: Engine = Engine::Mongodb;
    type Session = Session;
    type Facts = Facts;

    fn check(&self) -> Result<(), Unfit> {
        Unfit::each(
            "aggregations",
            self.aggregations.iter().map(Aggregation::check),
        )?;
        match pipeline::clashing(&self.aggregations, "")
            .into_values()
            .next()
        {
            Some(why) => Err(Unfit::at("aggregations", why)),
            None => Ok(()),
        }
    }

    fn replaces(&self) -> Vec<Replacing> {
        let all = self.aggregations.iter();
        all.filter_map(Aggregation::replacing).collect()
    }

    fn rights(&self, own: &str) -> Vec<Right> {
        let mut rights = Vec::new();
        for one in &self.aggregations {
            for (database, name) in one.sources(own) {
                rights.extend(to_read(&database, &name));
            }
            let last = one.pipeline.last().and_then(|last| last.document().ok());
            if let (Some(into), Some(last)) = (one.result(own), last) {
                rights.extend(to_write(&last, &into.0, &into.1));
                if !one.repeatable(own, &into, &BTreeMap::new()) {
                    rights.extend(to_mark(own));
                }
            }
        }
        rights
    }

    async fn inspect(&self, site: &Site<Session>) -> Result<Facts, EngineError> {
        let db = &site.primary;
        let mut facts = Facts {
            database: db.database().to_owned(),
            one_of_many: site.scope == Scope::Database,
            prefers_secondaries: db.dial().prefers_secondaries(),
            ..Facts::default()
        };
        let mut named: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for aggregation in &self.aggregations {
            let places = aggregation
                .sources(&facts.database)
                .into_iter()
                .chain(aggregation.result(&facts.database));
            for (database, name) in places {
                named.entry(database).or_default().push(name);
            }
        }
        for (database, names) in named {
            for (name, mut collection) in collections(db, &database).await? {
                if collection.shape == Shape::View {
                    // Of what could not be read whole anything may be read.
                    let reads = match collection.left_out {
                        true => names.clone(),
                        false => pipeline::read_by_view(&collection.options),
                    };
                    facts.views.insert((database.clone(), name.clone()), reads);
                }
                if names.contains(&name) {
                    fill(db, &database, &name, &mut collection).await?;
                    facts
                        .collections
                        .insert((database.clone(), name), collection);
                }
            }
        }
        for aggregation in &self.aggregations {
            if let Some(into) = aggregation.result(&facts.database)
                && !facts.collections.contains_key(&into)
                && let Some(why) = db.unnameable(&into.0, &into.1).await?
            {
                facts.unnameable.insert(into, why);
            }
        }
        let added_to = self.aggregations.iter().filter_map(|one| {
            let into = one.result(&facts.database)?;
            let adds = !one.repeatable(&facts.database, &into, &facts.views);
            adds.then(|| namespace(&into.0, &into.1))
        });
        let added_to: Vec<String> = added_to.collect();
        if !added_to.is_empty() {
            facts.additions = db.additions(&added_to).await?;
        }
        // The counts begin anew whenever a server starts, and every member has its own.
        let ask = doc! { "serverStatus": 1, "repl": 0, "metrics": 0, "locks": 0, "wiredTiger": 0 };
        match db
            .command(
                "asking since when the server runs",
                "admin",
                ask,
                Limit::ASIDE,
            )
            .await
        {
            Ok(status) => {
                let now = status
                    .get_datetime("localTime")
                    .map(|t| t.timestamp_millis())
                    .unwrap_or(0);
                let up = crate::engines::mongodb::number(status.get("uptimeMillis")).unwrap_or(0);
                let host = status.get_str("host").unwrap_or_default();
                // The two clocks differ by some milliseconds from one question to the next.
                facts.counts_since = Some(format!(
                    "{host} {} {}",
                    crate::engines::mongodb::number(status.get("pid")).unwrap_or(0),
                    (now - up) / 60_000
                ));
            }
            Err(error) => facts.findings.push(not_allowed(
                &error,
                "whether sources have changed",
                &facts.database,
            )),
        }
        Ok(facts)
    }

    fn plan(&self, facts: Facts, at: &Moment) -> Plan<Body> {
        let mut plan = Plan {
            considered: self.aggregations.len(),
            findings: facts.findings.clone(),
            ..Plan::default()
        };
        let results: Vec<(String, String)> = self
            .aggregations
            .iter()
            .filter_map(|aggregation| aggregation.result(&facts.database))
            .collect();
        let clashing = pipeline::clashing(&self.aggregations, &facts.database);
        let mut made: Vec<((String, String), String)> = Vec::new();
        for (aggregation, into, object) in self.in_order(&facts.database) {
            let sources = aggregation.sources(&facts.database);
            let held = facts.collections.get(&into);
            let found = Found {
                facts: &facts,
                clashing: &clashing,
                made: &made,
            };
            if found.keeps(aggregation, &sources, &into, &object, &mut plan) {
                continue;
            }
            let repeatable = aggregation.repeatable(&facts.database, &into, &facts.views);
            let work = Aggregate {
                database: aggregation.database(&facts.database).to_owned(),
                collection: aggregation.collection.clone(),
                pipeline: aggregation.pipeline.clone(),
                allow_disk_use: aggregation.allow_disk_use,
                repeatable,
                from_secondary: match aggregation.read_from {
                    Some(from) => from == ReadFrom::Secondary,
                    None => facts.prefers_secondaries,
                },
            };
            let result = Measure {
                database: into.0.clone(),
                collection: into.1.clone(),
            };
            let (from, mark) = (work.from(), work.mark(&result));
            let whole = namespace(&into.0, &into.1);
            let key = format!("made {object} from {}", aggregation.collection);
            let additions = facts.additions.iter().filter(|_| !repeatable);
            let mut open = additions.filter(|other| {
                other.from == from && other.into == whole && other.added != Added::Whole
            });
            // What is empty has nothing that could be there twice.
            if let Some(open) = open
                .next()
                .filter(|_| held.is_some_and(|held| held.documents > 0))
            {
                let was_made =
                    open.memory.is_some() && open.memory.as_ref() == at.memories.get(&key);
                match open.added {
                    Added::CutOff if was_made => plan.undone(set_back(open, &facts.database)),
                    Added::CutOff => plan.undone(cut_off(open, &facts.database)),
                    _ => plan.skip(&object, adding(open)),
                }
                continue;
            }
            // Of what must not be made twice, the target itself says that it was made: a history may
            // be lost, or may not have been told.
            let made_before = facts
                .additions
                .iter()
                .find(|other| !repeatable && other.id == mark && other.added == Added::Whole);
            let before = made_before
                .and_then(|made| made.memory.as_ref())
                .or_else(|| at.memories.get(&key));
            let left = at.memories.get(&left_by(&key));
            let changed =
                held.and_then(|held| result::changed(held, left?, aggregation, repeatable));
            let by_others = held.filter(|_| aggregation.replaces());
            let by_others = by_others.and_then(|held| result::by_others(held, left?, &object));
            plan.findings.extend(by_others);
            let state = state(aggregation, &sources, &facts);
            // One that is made from another of this plan changes with it.
            let chained: Vec<&String> = made
                .iter()
                .filter(|(m, _)| sources.contains(m))
                .map(|(_, object)| object)
                .collect();
            let reason = if !facts.collections.contains_key(&into) {
                "it does not exist yet".to_owned()
            } else if aggregation.always {
                "it is made every time (`always`)".to_owned()
            } else if let Some(first) = chained.first() {
                format!("its source {first} is made anew")
            } else {
                match (before.and_then(|b| b.get("state")), &state) {
                    // What was told of the last time is told until it is not so any more.
                    (None, _) => match left.and_then(|left| left.get("documents")) {
                        None => "it was not made by maint yet",
                        Some(documents) if documents.as_i64() == Some(0) => {
                            "its pipeline gave no document when it was last made"
                        }
                        Some(_) => "something was found when it was last made",
                    }
                    .to_owned(),
                    (_, None) => "whether its sources have changed cannot be known".to_owned(),
                    (Some(then), Some(now)) if then != now => "its sources have changed".to_owned(),
                    _ => match changed {
                        Some(why) => why,
                        None => {
                            plan.skip(&object, "no source has changed since it was made");
                            continue;
                        }
                    },
                }
            };
            if let (Some(within), Some(made_at)) = (
                aggregation.fresh_within,
                before.and_then(|b| b.get("at")).and_then(Value::as_i64),
            ) {
                let age = at.now.timestamp() - made_at;
                if age > i64::try_from(within.get().as_secs()).unwrap_or(i64::MAX) {
                    plan.findings.push(Finding {
                        code: "view.stale".to_owned(),
                        severity: Severity::Warning,
                        object: object.clone(),
                        message: format!("{object} was made {} h ago, and should be no older than {within} once its sources have changed", age / 3600),
                        suggestion: None,
                    });
                }
            }
            // One after the other into one collection.
            let mut step = Step::new("refresh", &object, &whole)
                .because(reason)
                .doing(Work::Aggregate(work))
                .measuring(&into.0, &into.1)
                .remembering(key, json!({ "state": state, "at": at.now.timestamp() }));
            // What this task itself makes is another collection after each `$out`.
            for source in sources.iter().filter(|source| !results.contains(source)) {
                if let Some(collection) = facts.collections.get(source) {
                    step = step.relying_on(&source.0, &source.1, &collection.uuid);
                }
            }
            for object in chained {
                step = step.after("refresh", object.clone());
            }
            // Whoever names the wrong collection sees it before all that is in it is gone.
            if let Some(held) = held.filter(|held| held.documents > 0)
                && aggregation.replaces()
                && before.is_none()
            {
                step.details.push(format!(
                    "takes the place of all that is there, {} that maint has not made",
                    several(held.documents, "document")
                ));
            }
            if !repeatable {
                step.details.push(
                    "is not made again where it is cut off, or its answer lost: a second time could add twice"
                        .to_owned(),
                );
            }
            made.push((into, object));
            plan.steps.push(step);
        }
        plan
    }
}

/// What stays the same as long as no source changes; `None` where that cannot be known.
fn state(aggregation: &Aggregation, sources: &[(String, String)], facts: &Facts) -> Option<Value> {
    if aggregation.depends_on_time() {
        return None;
    }
    let mut counts = Vec::new();
    for source in sources {
        let collection = facts.collections.get(source)?;
        if collection.shape == Shape::View || collection.shape == Shape::TimeSeries {
            return None;
        }
        counts.push(json!([
            source.1,
            collection.uuid,
            collection.writes?,
            collection.documents
        ]));
    }
    let pipeline: Vec<&Value> = aggregation.pipeline.iter().map(|stage| &stage.0).collect();
    Some(json!({ "since": facts.counts_since.clone()?, "counts": counts, "pipeline": pipeline }))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]
mod tests;
