//! Space in the files of collections that nothing uses, given back: one
//! member at a time, secondaries first.

mod release;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mongodb::bson::doc;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::common::{
    Collection, Shape, collections, empty, fill, is_empty, is_internal, not_answered,
};
use crate::engines::EngineError;
use crate::engines::mongodb::{
    Limit, Members, Right, STEP_DOWN, Session, is_compacting, namespace,
};
use crate::plan::mongodb::{Body, Compact, Work};
use crate::plan::{Finding, Kind, Moment, Need, Plan, Site, Step, Unfit};
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
    /// From MongoDB 8.0 on, each member that has a collection worth it is told to compact by itself
    /// (`autoCompact`), once, whatever of all its databases has `min_free` to give back. Older
    /// servers are compacted collection by collection.
    auto: bool,
}

/// How long a server may take to estimate what compaction would give back.
const ESTIMATING: Limit = Limit(Duration::from_secs(60));

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
            auto: false,
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
    /// Whether another member could be primary meanwhile.
    replaceable: bool,
    /// By member: files are compacted by the one that has them.
    releases: BTreeMap<String, (u32, u32)>,
    /// Members that compact by themselves just now.
    at_it: BTreeSet<String>,
    /// What the server estimates that compaction would give back, by member and name.
    estimates: BTreeMap<(String, String), i64>,
    findings: Vec<Finding>,
}

impl Kind for CompactKind {
    const NAME: &'static str = "compact";
    const SUMMARY: &'static str = "gives free space in the files of collections back, one member at a time, secondaries first";
    const ENGINE: Engine = Engine::Mongodb;
    type Session = Session;
    type Facts = Facts;

    fn check(&self) -> Result<(), Unfit> {
        if self.auto && !(self.include.is_empty() && self.exclude.is_empty()) {
            let why = "`auto` lets servers compact all that they have, and takes no `include` and no `exclude`";
            return Err(Unfit::at("auto", why));
        }
        Ok(())
    }

    fn includes(&self) -> &[NamePattern] {
        &self.include
    }

    fn excludes(&self) -> &[NamePattern] {
        &self.exclude
    }

    fn rights(&self, _own: &str) -> Vec<Right> {
        match self.step_down {
            true => Right::each("", "", &[STEP_DOWN]),
            false => Vec::new(),
        }
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
        facts.replaceable = members.secondaries().any(|member| member.electable);
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
                Err(error) => facts.findings.push(not_answered(
                    &error,
                    "what is free on this member",
                    &member.name,
                )),
            }
        }
        let all = collections(db, &facts.database).await?;
        facts.empty = is_empty(&all);
        let delayed = members.0.iter().filter(|member| member.is_delayed());
        let delayed: BTreeSet<&str> = delayed.map(|member| member.name.as_str()).collect();
        for (place, session) in places {
            let known = session.server.release;
            facts.releases.insert(place.clone(), known);
            if release::compacts_by_itself(known) && is_at_it(&session).await {
                facts.at_it.insert(place.clone());
            }
            for (name, collection) in &all {
                if collection.shape == Shape::View
                    || is_internal(name)
                    || !self.wants(&facts.database, name)
                {
                    continue;
                }
                // It has not come to what was made within its delay.
                if delayed.contains(place.as_str())
                    && session.identity(&facts.database, name).await?.is_none()
                {
                    continue;
                }
                let mut here = collection.clone();
                fill(&session, &facts.database, name, &mut here).await?;
                let at = (place.clone(), name.clone());
                if release::estimates(known)
                    && self.is_worth(here.free, &here)
                    && let Some(bytes) = estimated(&session, &facts.database, name).await
                {
                    facts.estimates.insert(at, bytes);
                }
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
        let mut told: BTreeSet<&String> = BTreeSet::new();
        for (at_place, collection) in found {
            let (place, name) = at_place;
            let release = facts.releases.get(place).copied().unwrap_or_default();
            let by_itself = self.auto && release::compacts_by_itself(release);
            let of = namespace(&facts.database, name);
            let object = match (facts.alone, by_itself) {
                (_, true) => place.clone(),
                (true, false) => of.clone(),
                (false, false) => format!("{of} on {place}"),
            };
            if !self.is_worth(collection.free, collection) {
                continue;
            }
            let mut shown = format!(
                "{} of {} are free",
                bytes(collection.free),
                bytes(collection.bytes)
            );
            let estimate = facts.estimates.get(at_place).copied();
            if let Some(estimate) = estimate {
                shown = format!("{shown}, and {} could be given back", bytes(estimate));
                if !self.is_worth(estimate, collection) {
                    plan.skip(&object, shown);
                    continue;
                }
            }
            if by_itself {
                shown = format!("{of}: {shown}");
                // One step is for all that a member has.
                if told.contains(place) {
                    continue;
                }
            }
            let is_primary = Some(place) == facts.primary.as_ref();
            if facts.at_it.contains(place) {
                plan.skip(
                    &object,
                    format!("{shown}, and the member compacts by itself just now (autoCompact)"),
                );
                continue;
            }
            // To step down where nobody takes over would leave everybody without a primary.
            let in_place = is_primary && !facts.replaceable;
            if in_place && !self.step_down {
                plan.skip(&object, format!("{shown}, and the member is primary with no other that could be: with `step_down: true` it is compacted as it is, while everybody uses it"));
                continue;
            }
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
            told.insert(place);
            let mut step = Step::new("compact", &object, "members one by one")
                .because(shown)
                .doing(Work::Compact(Compact {
                    database: facts.database.clone(),
                    collection: name.clone(),
                    member: (!facts.alone).then(|| place.clone()),
                    step_down: is_primary && !in_place,
                    in_place,
                    caught_up_seconds: self.caught_up_within.get().as_secs_f64(),
                    target_mb: release::target(release, self.min_free),
                    by_itself,
                }))
                .remembering(key, json!({ "at": at.now.timestamp() }));
            if !by_itself {
                let now = collection.bytes + collection.index_bytes;
                let gives = estimate.unwrap_or(collection.free);
                step = step.expecting(now, Some(now - gives)).relying_on(
                    &facts.database,
                    name,
                    &collection.uuid,
                );
            }
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

/// What the server estimates; none where it may not be asked.
async fn estimated(session: &Session, database: &str, name: &str) -> Option<i64> {
    let command = doc! { "compact": name, "dryRun": true };
    let doing = "asking what compaction would give back";
    match session.command(doing, database, command, ESTIMATING).await {
        Ok(answer) => release::estimate(&answer),
        Err(error) => {
            tracing::debug!(%error, "what is free is taken for what would be given back");
            None
        }
    }
}

async fn is_at_it(session: &Session) -> bool {
    let doing = "asking whether the server compacts by itself";
    let ask = doc! { "serverStatus": 1, "repl": 0, "metrics": 0, "locks": 0 };
    let status = session.command(doing, "admin", ask, Limit::ASIDE).await;
    status.is_ok_and(|status| is_compacting(&status))
}

fn bytes(n: i64) -> Bytes {
    Bytes(u64::try_from(n).unwrap_or(0))
}

impl CompactKind {
    /// Whether so much is worth it.
    fn is_worth(&self, gives: i64, of: &Collection) -> bool {
        #[expect(clippy::cast_precision_loss, reason = "a share")]
        let share = gives as f64 / of.bytes.max(1) as f64;
        bytes(gives) >= self.min_free && share >= self.min_share.share()
    }

    fn wants(&self, database: &str, name: &str) -> bool {
        let matches = |patterns: &[NamePattern]| patterns.iter().any(|p| p.matches(database, name));
        (self.include.is_empty() || matches(&self.include)) && !matches(&self.exclude)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests;
