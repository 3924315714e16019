//! Which collections are validated, and on which member: each member has files of its own, and
//! damage in them is seen by who reads that one only.

use std::collections::BTreeMap;

use serde_json::json;

use super::{Depth, Facts, Integrity, Shape};
use crate::engines::mongodb::{grant, namespace, role_for};
use crate::plan::mongodb::{Body, Look, Validate, Work};
use crate::plan::{Finding, Measurement, Moment, Plan, Severity, Step};

/// In place of a member where the server stands alone.
const ALONE: &str = "";

/// When a collection was last validated on each member, in seconds.
fn known(object: &str, at: &Moment) -> BTreeMap<String, i64> {
    let Some(memory) = at.memories.get(&key(object)) else {
        return BTreeMap::new();
    };
    let members = memory
        .get("members")
        .and_then(|members| members.as_object());
    members
        .into_iter()
        .flatten()
        .filter_map(|(member, when)| Some((member.clone(), when.as_i64()?)))
        .collect()
}

fn key(object: &str) -> String {
    format!("validated {object}")
}

/// Where the server keeps what is measured: it validates nothing by the name of a time-series collection, which
/// is a view of that.
const BUCKETS: &str = "system.buckets.";

impl Facts {
    /// By which name the server validates a collection.
    fn validated_as(&self, name: &str) -> String {
        match self.collections.get(name) {
            Some(collection) if collection.shape == Shape::TimeSeries => format!("{BUCKETS}{name}"),
            _ => name.to_owned(),
        }
    }
}

impl Integrity {
    /// Those not validated for the longest time first, each on the member where that is longest ago.
    pub(super) fn validations(&self, facts: &Facts, at: &Moment, plan: &mut Plan<Body>) {
        if self.validate == Depth::Off {
            return;
        }
        let is_set = !facts.members.is_empty();
        let secondaries = facts.members.iter().filter(|(_, primary)| !primary);
        let secondaries: Vec<&str> = secondaries.map(|(name, _)| name.as_str()).collect();
        let mut full = self.validate == Depth::Full;
        if full && secondaries.is_empty() {
            full = false;
            plan.findings.push(Finding {
                code: "integrity.no_secondary".to_owned(),
                severity: Severity::Warning,
                object: facts.database.clone(),
                message: "a full validation locks a collection, and there is no secondary to do it on: collections are validated in the background".to_owned(),
                suggestion: None,
            });
        }
        // A full one keeps everybody else out, which a primary must not do.
        let on: Vec<&str> = match (is_set, full) {
            (false, _) => vec![ALONE],
            (true, true) => secondaries,
            (true, false) => facts
                .members
                .iter()
                .map(|(name, _)| name.as_str())
                .collect(),
        };
        // By when, the collection, and the member: one of each collection at a time.
        let mut due: Vec<(i64, &String, &str)> = Vec::new();
        let (mut all, mut covered, mut begun) = (0_u32, 0_u32, false);
        let within = i64::try_from(self.cover_within.get().as_secs()).unwrap_or(i64::MAX);
        let wanted = |name: &&String| self.wants(&facts.database, name);
        let collections = facts.collections.iter().filter(|(name, _)| wanted(name));
        for (name, _) in collections {
            let known = known(&namespace(&facts.database, name), at);
            let when = |member: &&str| known.get(*member).copied().unwrap_or(0);
            for member in &on {
                let last = when(member);
                all += 1;
                covered += u32::from(last > 0 && at.now.timestamp() - last <= within);
                begun |= last > 0;
            }
            if let Some(member) = on.iter().min_by_key(|member| when(member)) {
                due.push((when(member), name, *member));
            }
        }
        due.sort();
        if facts.no_validate && !due.is_empty() {
            let (role, on) = role_for("validate", &facts.database);
            plan.undone(Finding {
                code: "privilege.missing".to_owned(),
                severity: Severity::Critical,
                object: facts.database.clone(),
                message: format!("no collection was validated: the user may not, and the role {role} on {on} has that right"),
                suggestion: Some(grant(&facts.lives_in, role, &on)),
            });
            return;
        }
        self.coverage((all, covered, begun), plan);
        for (last, name, member) in due {
            let object = namespace(&facts.database, name);
            let place = match member {
                ALONE => String::new(),
                member => format!(" on {member}"),
            };
            let reason = match chrono::DateTime::from_timestamp(last, 0).filter(|_| last > 0) {
                Some(when) => format!("last validated{place} on {}", when.format("%Y-%m-%d")),
                None => format!("never validated{place}"),
            };
            let mut members = known(&object, at);
            // One that has left the set is no part of it any more.
            members.retain(|name, _| !is_set || facts.members.iter().any(|(one, _)| one == name));
            members.insert(member.to_owned(), at.now.timestamp());
            plan.steps.push(
                Step::new("validate", &object, &object)
                    .because(reason)
                    .doing(Work::Look(Look::Validate(Validate {
                        database: facts.database.clone(),
                        collection: facts.validated_as(name),
                        full,
                        background: !full,
                        member: Some(member.to_owned()).filter(|member| member != ALONE),
                    })))
                    .remembering(key(&object), json!({ "members": members })),
            );
        }
    }

    /// How much was validated lately: as numbers always, as a finding once something is left out.
    fn coverage(&self, (all, covered, begun): (u32, u32, bool), plan: &mut Plan<Body>) {
        for (metric, value) in [("integrity.objects", all), ("integrity.verified", covered)] {
            plan.measurements.push(Measurement {
                metric: metric.to_owned(),
                object: "collections".to_owned(),
                value: f64::from(value),
            });
        }
        // Before the first run has been through, nothing can have been covered.
        if begun && covered < all {
            plan.findings.push(Finding {
                code: "integrity.coverage".to_owned(),
                severity: Severity::Info,
                object: "coverage".to_owned(),
                message: format!(
                    "before this run, the last {} had validated {covered} of {all} collections, each member's counted by itself. Every run takes the member whose turn it is; what is left out for longest comes first",
                    self.cover_within
                ),
                suggestion: None,
            });
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use std::collections::HashMap;

    use serde_json::Value;

    use super::super::Collection;
    use super::*;
    use crate::plan::Kind;

    fn moment(now: i64, memories: HashMap<String, Value>) -> Moment {
        Moment {
            now: chrono::DateTime::from_timestamp(now, 0).unwrap(),
            round: 1,
            baselines: HashMap::new(),
            memories,
            former: Default::default(),
            zone: chrono_tz::UTC,
        }
    }

    fn facts() -> Facts {
        let members = [("a:1", true), ("b:1", false), ("c:1", false)];
        Facts {
            database: "app".to_owned(),
            collections: ["x", "y"]
                .map(|name| (name.to_owned(), Collection::default()))
                .into(),
            members: members.map(|(name, first)| (name.to_owned(), first)).into(),
            ..Facts::default()
        }
    }

    /// Runs one after the other: on which member the collection `x` is validated in each.
    fn turns(kind: &Integrity, runs: i64) -> (Vec<String>, Vec<f64>) {
        let mut memories = HashMap::new();
        let (mut turns, mut shares) = (Vec::new(), Vec::new());
        for n in 0..runs {
            let plan = kind.plan(
                facts(),
                &moment(1_800_000_000 + n * 86_400, memories.clone()),
            );
            let numbers: Vec<f64> = plan.measurements.iter().map(|one| one.value).collect();
            shares.push(numbers[1] / numbers[0]);
            for step in &plan.steps {
                let memory = step.remember.clone().unwrap();
                memories.insert(memory.key, memory.value);
                let Work::Look(Look::Validate(of)) = &step.body.work else {
                    unreachable!("{step:?}");
                };
                if of.collection == "x" {
                    turns.push(of.member.clone().unwrap());
                }
            }
            let told = plan.findings.iter().any(|f| f.code == "integrity.coverage");
            assert_eq!(told, n > 0 && shares[shares.len() - 1] < 1.0, "run {n}");
        }
        (turns, shares)
    }

    #[test]
    fn time_series_are_validated_by_their_buckets() {
        let mut facts = facts();
        if let Some(x) = facts.collections.get_mut("x") {
            x.shape = Shape::TimeSeries;
        }
        let plan = Integrity::default().plan(facts, &moment(1_800_000_000, HashMap::new()));
        let names = plan.steps.iter().map(|step| match &step.body.work {
            Work::Look(Look::Validate(of)) => (step.object.clone(), of.collection.clone()),
            other => unreachable!("{other:?}"),
        });
        let names: Vec<(String, String)> = names.collect();
        let named = |object: &str, name: &str| (object.to_owned(), name.to_owned());
        assert_eq!(
            names,
            [named("app.x", "system.buckets.x"), named("app.y", "y")]
        );
        assert_eq!(plan.measurements[0].value, 6.0);
    }

    #[test]
    fn who_was_made_elsewhere_is_granted_there() {
        let facts = Facts {
            no_validate: true,
            lives_in: "$external".to_owned(),
            ..facts()
        };
        let plan = Integrity::default().plan(facts, &moment(1_800_000_000, HashMap::new()));
        let told = plan.findings.iter().find_map(|f| f.suggestion.clone());
        let grant = "db.getSiblingDB(\"$external\").grantRolesToUser(USER, [{ role: \"dbAdmin\", db: \"app\" }])";
        assert_eq!(told.as_deref(), Some(grant));
    }

    #[test]
    fn every_member_has_its_turn_and_full_ones_are_for_secondaries() {
        let (background, shares) = turns(&Integrity::default(), 4);
        assert_eq!(background, ["a:1", "b:1", "c:1", "a:1"]);
        assert!(
            shares[0] == 0.0 && shares[1] > 0.3 && shares[3] > 0.99,
            "{shares:?}"
        );
        let full = Integrity {
            validate: Depth::Full,
            ..Integrity::default()
        };
        let (full, _) = turns(&full, 3);
        assert_eq!(full, ["b:1", "c:1", "b:1"]);
    }
}
