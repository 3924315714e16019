//! Space in the files of collections that nothing uses, given back: one
//! member at a time, secondaries first.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::common::{
    Collection, Shape, collections, empty, fill, is_empty, is_internal, not_allowed,
};
use crate::engines::EngineError;
use crate::engines::mongodb::{Members, Session, namespace};
use crate::plan::mongodb::{Body, Compact, Work};
use crate::plan::{Finding, Kind, Moment, Need, Plan, Site, Step};
use crate::values::{Bytes, Engine, NamePattern, Percent, TimeSpan};

/// Options of `kind: compact`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct CompactKind {
    /// Only collections that match one of these patterns.
    include: Vec<NamePattern>,
    /// No collections that match one of these patterns.
    exclude: Vec<NamePattern>,
    /// Less free space than this is not worth it.
    min_free: Bytes,
    /// A smaller share of free space than this is not worth it.
    min_share: Percent,
    /// Compact on the primary, too, after it has stepped down. Without it, the primary is left out.
    step_down: bool,
    /// How far a member may be behind before the next one is begun.
    caught_up_within: TimeSpan,
    /// A collection is not compacted again on the same member before this much time has passed.
    not_before: TimeSpan,
}

impl Default for CompactKind {
    fn default() -> Self {
        CompactKind {
            include: Vec::new(),
            exclude: Vec::new(),
            min_free: Bytes(100 << 20),
            min_share: Percent::new(20.0),
            step_down: false,
            caught_up_within: TimeSpan::from_secs(5),
            not_before: TimeSpan::from_mins(24 * 60),
        }
    }
}

/// What the decision is made from.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    database: String,
    alone: bool,
    /// Whether there is no collection but maint's own.
    empty: bool,
    /// By member, `host:port`, and name. Files differ from member to member.
    collections: BTreeMap<(String, String), Collection>,
    primary: Option<String>,
    findings: Vec<Finding>,
}

impl Kind for CompactKind {
    const NAME: &'static str = "compact";
    const SUMMARY: &'static str = "gives free space in the files of collections back, one member at a time, secondaries first";
    const ENGINE: Engine = Engine::Mongodb;
    type Session = Session;
    type Facts = Facts;

    fn includes(&self) -> &[NamePattern] {
        &self.include
    }

    async fn inspect(&self, site: &Site<Session>) -> Result<Facts, EngineError> {
        let db = &site.primary;
        let mut facts = Facts {
            database: db.database().to_owned(),
            alone: db.server.set.is_none(),
            ..Facts::default()
        };
        let members = Members::of(db).await?;
        facts.primary = members.primary().map(|member| member.name.clone());
        let mut places: Vec<(String, Session)> = Vec::new();
        if facts.alone {
            places.push((db.describe().to_owned(), db.clone()));
        }
        for member in members
            .0
            .iter()
            .filter(|member| member.healthy && member.reads())
        {
            match db.member(&member.name).await {
                Ok(session) => places.push((member.name.clone(), session)),
                Err(error) => facts.findings.push(not_allowed(
                    &error,
                    "what is free on this member",
                    &member.name,
                )),
            }
        }
        let all = collections(db, &facts.database).await?;
        facts.empty = is_empty(&all);
        for (place, session) in places {
            for (name, collection) in &all {
                if collection.shape == Shape::View
                    || is_internal(name)
                    || !self.wants(&facts.database, name)
                {
                    continue;
                }
                let mut here = collection.clone();
                fill(&session, &facts.database, name, &mut here).await?;
                facts
                    .collections
                    .insert((place.clone(), name.clone()), here);
            }
        }
        Ok(facts)
    }

    fn plan(&self, facts: Facts, at: &Moment) -> Plan<Body> {
        let mut plan = Plan {
            considered: facts.collections.len(),
            findings: facts.findings,
            fixed_order: true,
            ..Plan::default()
        };
        if facts.empty {
            plan.undone(empty(&facts.database));
        }
        let mut found: Vec<(&(String, String), &Collection)> = facts.collections.iter().collect();
        // Secondaries first; the largest amount of free space first.
        found.sort_by_key(|((place, name), collection)| {
            (
                Some(place) == facts.primary.as_ref(),
                std::cmp::Reverse(collection.free),
                place.clone(),
                name.clone(),
            )
        });
        let mut before: Option<Need> = None;
        for ((place, name), collection) in found {
            let object = match facts.alone {
                true => namespace(&facts.database, name),
                false => format!("{} on {place}", namespace(&facts.database, name)),
            };
            let free = u64::try_from(collection.free).unwrap_or(0);
            #[expect(clippy::cast_precision_loss, reason = "a share")]
            let share = collection.free as f64 / collection.bytes.max(1) as f64;
            if free < self.min_free.get() || share < self.min_share.share() {
                continue;
            }
            let shown = format!(
                "{} of {} are free",
                Bytes(free),
                Bytes(u64::try_from(collection.bytes).unwrap_or(0))
            );
            let is_primary = Some(place) == facts.primary.as_ref();
            if is_primary && !self.step_down {
                plan.skip(&object, format!("{shown}, and the member is primary: with `step_down: true` it steps down first"));
                continue;
            }
            let key = format!("compacted {object}");
            let last = at
                .memories
                .get(&key)
                .and_then(|value| value.get("at"))
                .and_then(serde_json::Value::as_i64);
            let pause = i64::try_from(self.not_before.get().as_secs()).unwrap_or(i64::MAX);
            if last.is_some_and(|last| at.now.timestamp() - last < pause) {
                plan.skip(&object, format!("{shown}, and it was compacted less than {} ago: the server gives no more back", self.not_before));
                continue;
            }
            let mut step = Step::new("compact", &object, "members one by one")
                .because(shown)
                .doing(Work::Compact(Compact {
                    database: facts.database.clone(),
                    collection: name.clone(),
                    member: (!facts.alone).then(|| place.clone()),
                    step_down: is_primary,
                    caught_up_seconds: self.caught_up_within.get().as_secs_f64(),
                }))
                .expecting(
                    collection.bytes + collection.index_bytes,
                    Some(collection.bytes + collection.index_bytes - collection.free),
                )
                .relying_on(&facts.database, name, &collection.uuid)
                .remembering(key, json!({ "at": at.now.timestamp() }));
            if is_primary && let Some(need) = &before {
                // Not while a secondary may still be busy, or has failed.
                step = step.needing(need.clone());
            }
            if !is_primary {
                before = Some(Need {
                    action: "compact".to_owned(),
                    object: object.clone(),
                });
            }
            plan.steps.push(step);
        }
        plan
    }
}

impl CompactKind {
    fn wants(&self, database: &str, name: &str) -> bool {
        let matches = |patterns: &[NamePattern]| patterns.iter().any(|p| p.matches(database, name));
        (self.include.is_empty() || matches(&self.include)) && !matches(&self.exclude)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn facts() -> Facts {
        let of = |free_mb: i64| Collection {
            bytes: 1 << 30,
            free: free_mb << 20,
            ..Collection::default()
        };
        let at = |member: &str, name: &str| (member.to_owned(), name.to_owned());
        Facts {
            empty: false,
            database: "app".to_owned(),
            alone: false,
            collections: BTreeMap::from([
                (at("a:1", "events"), of(500)),
                (at("b:1", "events"), of(400)),
                (at("c:1", "events"), of(600)),
                (at("c:1", "small"), of(50)),
            ]),
            primary: Some("a:1".to_owned()),
            findings: Vec::new(),
        }
    }

    fn moment() -> Moment {
        Moment {
            now: chrono::DateTime::from_timestamp(1_800_000_000, 0).unwrap(),
            round: 1,
            baselines: HashMap::new(),
            memories: HashMap::new(),
            zone: chrono_tz::UTC,
        }
    }

    #[test]
    fn secondaries_first_and_the_primary_only_if_it_may_step_down() {
        let mut kind = CompactKind::default();
        let plan = kind.plan(facts(), &moment());
        let objects: Vec<&str> = plan.steps.iter().map(|s| s.object.as_str()).collect();
        assert_eq!(objects, ["app.events on c:1", "app.events on b:1"]);
        assert_eq!(plan.skipped[0].object, "app.events on a:1");
        kind.step_down = true;
        let plan = kind.plan(facts(), &moment());
        let last = plan.steps.last().unwrap();
        assert_eq!(last.object, "app.events on a:1");
        assert_eq!(last.needs[0].object, "app.events on b:1");
        assert!(
            plan.steps
                .iter()
                .all(|step| step.lane == plan.steps[0].lane)
        );
    }
}
