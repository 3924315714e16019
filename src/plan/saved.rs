//! A plan as a document of its own: reviewed by people, carried out later.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::body::{DEFINITION_OF, ID_OF, NUMBER_OF_COLUMN};
use super::{Body, Plan, Skip, Step};

/// A step may change so many rows more than twice what was looked at: time goes on, and a few
/// rows are soon twice as many.
const A_FEW_ROWS: i64 = 100;

/// The code of the finding that says which document a run has carried out.
pub const APPLIED: &str = "plan.applied";

/// The version of the document that this program writes and reads.
pub const SAVED_VERSION: u32 = 1;

/// What `maint plan --save` writes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Saved {
    /// Version of this document.
    pub version: u32,
    /// Version of maint that wrote it.
    pub maint: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// `sha256:` and the digest of `plans`, so that an edited document is
    /// told from a reviewed one.
    pub hash: String,
    /// One for each task and target.
    pub plans: Vec<SavedPlan>,
}

/// What one task would do on one target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SavedPlan {
    /// The task.
    pub task: String,
    /// Its kind.
    pub kind: String,
    /// The target.
    pub target: String,
    /// Which database it was made for, whatever its address: for PostgreSQL
    /// the system identifier and the name of the database.
    pub system: String,
    /// The kind's options.
    pub options: Value,
    /// Whether it was made together with those for all other databases of its server that the
    /// task is for.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub with_all: bool,
    /// The steps, in order.
    pub steps: Vec<SavedStep>,
    /// The hash of the document it was read from; not part of it.
    #[serde(skip)]
    pub document: String,
    /// What is left alone, and why; not part of the document.
    #[serde(skip)]
    pub left: Vec<Skip>,
    /// The objects of which something is asked for that cannot be done; not part of the document.
    #[serde(skip)]
    pub refused: Vec<String>,
    /// The steps themselves, where they were made just now; not part of the document.
    #[serde(skip)]
    pub made: Made,
}

/// Steps of some engine.
#[derive(Clone, Default)]
pub struct Made(Option<Arc<dyn Any + Send + Sync>>);

impl Made {
    /// These.
    pub fn of<B: Body>(steps: Vec<Step<B>>) -> Made {
        Made(Some(Arc::new(steps)))
    }

    /// Those of this engine.
    pub fn steps<B: Body>(&self) -> &[Step<B>] {
        let steps = self.0.as_ref();
        let steps = steps.and_then(|steps| steps.downcast_ref::<Vec<Step<B>>>());
        steps.map_or(&[], Vec::as_slice)
    }
}

impl fmt::Debug for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Made" } else { "NotMade" })
    }
}

/// They say nothing that the plan does not say.
impl PartialEq for Made {
    fn eq(&self, _: &Made) -> bool {
        true
    }
}

/// One step, with the facts it rests on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SavedStep {
    /// What is done.
    pub action: String,
    /// What is worked on.
    pub object: String,
    /// Why, with the numbers of that moment.
    pub reason: String,
    /// What runs. A limit that moves with the time is written as it is reckoned.
    pub statement: String,
    /// What else tells the object from another of its name, such as its id, or
    /// by name everything that the step relies on.
    pub identity: Value,
    /// How many rows it would change, where that was counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<i64>,
    /// Size of the object then, in bytes.
    pub bytes: Option<i64>,
    /// Expected size afterwards, in bytes.
    pub bytes_after: Option<i64>,
    /// What it changes besides its own rows: triggers that fire, rows of other tables that go or
    /// change with its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sets_off: Vec<String>,
    /// Further lines: how it walks, what it is expected to set off.
    pub details: Vec<String>,
}

impl SavedPlan {
    /// The plan of this task on this target, as it is now; with how many rows its steps would
    /// change, by their `seq`, where that is known.
    pub fn of<B: Body>(
        (task, kind, target): (&str, &str, &str),
        system: &str,
        options: &Value,
        plan: &Plan<B>,
        rows: &BTreeMap<u32, i64>,
    ) -> SavedPlan {
        let steps = plan.steps.iter().map(|step| SavedStep {
            action: step.action.clone(),
            object: step.object.clone(),
            reason: step.reason.clone(),
            statement: step.body.at_any_time(),
            identity: step.body.identity(),
            rows: rows.get(&step.seq).copied(),
            bytes: step.estimate.bytes,
            bytes_after: step.estimate.bytes_after,
            sets_off: step.body.sets_off(),
            details: step.details.clone(),
        });
        SavedPlan {
            task: task.to_owned(),
            kind: kind.to_owned(),
            target: target.to_owned(),
            system: system.to_owned(),
            options: options.clone(),
            with_all: false,
            steps: steps.collect(),
            document: String::new(),
            refused: plan.refused.iter().map(|one| one.object.clone()).collect(),
            made: Made::default(),
            left: plan
                .refused
                .iter()
                .chain(&plan.skipped)
                .cloned()
                .chain(plan.findings.iter().map(|one| Skip {
                    object: one.object.clone(),
                    reason: one.message.clone(),
                }))
                .collect(),
        }
    }

    /// What keeps this plan from being carried out, given what the same task
    /// would do `now`; one line each, empty where it can be. Steps that have
    /// come up since are no reason: they are not carried out.
    pub fn drift(&self, now: &SavedPlan) -> Vec<String> {
        self.drift_without(now, &|_| false)
    }

    /// The same where steps for which `expected` holds need not be there `now`.
    pub fn drift_without(
        &self,
        now: &SavedPlan,
        expected: &dyn Fn(&SavedStep) -> bool,
    ) -> Vec<String> {
        let mut lines = self.strangeness(now);
        for step in &self.steps {
            let what = format!("{} {}", step.action, step.object);
            match now.steps.iter().find(|other| other.is_same_work(step)) {
                None if expected(step) => {}
                None => {
                    let why = self.why_not(step, now);
                    let why = why.map(|why| format!(": {why}"));
                    lines.push(format!(
                        "{what}: would not be done any more{} (it was to be done because of: {})",
                        why.unwrap_or_default(),
                        step.reason
                    ));
                }
                Some(other) => lines.extend(step.differences(other)),
            }
        }
        lines
    }

    /// Why a step is not there `now`: as the plan says of its object, by what else is done with that,
    /// or by what is said of another object and names it.
    fn why_not(&self, step: &SavedStep, now: &SavedPlan) -> Option<String> {
        let said = now.left.iter().find(|left| left.object == step.object);
        if let Some(said) = said {
            return Some(said.reason.clone());
        }
        let others = now.steps.iter();
        let mut others = others.filter(|other| other.object == step.object);
        let instead = others.find(|other| !self.steps.iter().any(|one| one.is_same_work(other)));
        if let Some(instead) = instead {
            let mut words = vec![instead.reason.as_str()];
            words.extend(instead.details.iter().map(String::as_str));
            return Some(format!("instead {}: {}", instead.action, words.join("; ")));
        }
        let mut others = now.left.iter();
        let named = others.find(|left| names(&left.reason, &step.object));
        named.map(|left| format!("{}: {}", left.object, left.reason))
    }

    /// Every difference to what the same task would do `now`, new steps included.
    pub fn differences(&self, now: &SavedPlan) -> Vec<String> {
        let mut lines = self.drift(now);
        for step in &now.steps {
            if !self.steps.iter().any(|other| other.is_same_work(step)) {
                lines.push(format!(
                    "{} {}: new, because of: {}",
                    step.action, step.object, step.reason
                ));
            }
        }
        lines
    }

    fn strangeness(&self, now: &SavedPlan) -> Vec<String> {
        let mut lines = Vec::new();
        if self.system != now.system {
            lines.push(format!(
                "target `{}` is another database: the plan was made for {}, this is {}",
                self.target, self.system, now.system
            ));
        }
        if self.kind != now.kind || self.options != now.options {
            let mut changes = Vec::new();
            changed("", &self.options, &now.options, &mut changes);
            if self.kind != now.kind {
                changes.insert(
                    0,
                    format!("the kind is {}, and was {}", now.kind, self.kind),
                );
            }
            lines.push(format!(
                "the options of task `{}` have changed: {}",
                self.task,
                changes.join("; ")
            ));
        }
        lines
    }

    /// The place of a step with this action and object in this plan.
    pub fn place(&self, action: &str, object: &str) -> Option<usize> {
        self.steps
            .iter()
            .position(|step| step.action == action && step.object == object)
    }
}

/// Whether a text names an object, and not one whose name only begins so.
fn names(text: &str, object: &str) -> bool {
    let ends = |rest: &str| !rest.starts_with(|c: char| c.is_alphanumeric() || "_$.".contains(c));
    !object.is_empty()
        && text
            .match_indices(object)
            .any(|(at, found)| text.get(at + found.len()..).is_some_and(ends))
}

impl SavedStep {
    /// Whether it does this with that object.
    pub fn is(&self, action: &str, object: &str) -> bool {
        self.action == action && self.object == object
    }

    fn is_same_work(&self, other: &SavedStep) -> bool {
        self.action == other.action && self.object == other.object
    }

    fn differences(&self, now: &SavedStep) -> Vec<String> {
        let what = format!("{} {}", self.action, self.object);
        let mut lines = Vec::new();
        match (&self.identity, &now.identity) {
            (then, now) if then == now => {}
            (Value::Object(then), Value::Object(now)) => {
                let mut names: Vec<&String> = then.keys().chain(now.keys()).collect();
                names.sort();
                names.dedup();
                let of = |of: Option<&Value>| of.map_or("none".to_owned(), plainly);
                for name in names {
                    let (then, now) = (then.get(name), now.get(name));
                    if then != now && name.starts_with(DEFINITION_OF) {
                        lines.push(format!("{what}: {name} is {}", replaced(then, now)));
                    } else if then != now {
                        lines.push(format!(
                            "{what}: {name} is {}, and was {}{}",
                            of(now),
                            of(then),
                            taken(name)
                        ));
                    }
                }
            }
            (Value::Number(_), Value::Object(_)) => lines.push(format!(
                "{what}: the plan does not tell all that it relies on from others of their names, as an older version of maint saved it; save it once more with `maint plan --save`"
            )),
            (then, now) => lines.push(format!(
                "{what}: another object has taken the name (id {now} was {then})"
            )),
        }
        if self.statement != now.statement {
            lines.push(format!(
                "{what}: would run `{}` instead of `{}`",
                now.statement, self.statement
            ));
        }
        for line in now.sets_off.iter().filter(|l| !self.sets_off.contains(l)) {
            lines.push(format!("{what}: {line}, which the plan does not know of"));
        }
        for line in self.sets_off.iter().filter(|l| !now.sets_off.contains(l)) {
            lines.push(format!("{what}: not so any more: {line}"));
        }
        if let (Some(then), Some(now)) = (self.rows, now.rows)
            && now > then.saturating_mul(2).saturating_add(A_FEW_ROWS)
        {
            lines.push(format!(
                "{what}: {now} would go, and {then} were to go when the plan was made: more than twice as many"
            ));
        }
        lines
    }
}

impl Saved {
    /// The document of these plans.
    ///
    /// # Errors
    /// When they cannot be written as JSON.
    pub fn new(plans: Vec<SavedPlan>, at: DateTime<Utc>) -> Result<Saved, serde_json::Error> {
        Ok(Saved {
            version: SAVED_VERSION,
            maint: env!("CARGO_PKG_VERSION").to_owned(),
            created_at: at,
            hash: hash(&plans)?,
            plans,
        })
    }

    /// Reads a document.
    ///
    /// # Errors
    /// When it is none, one of another version, or was changed after it was made.
    pub fn read(text: &str) -> Result<Saved, String> {
        let document: Value = serde_json::from_str(text).map_err(|_| {
            "is no saved plan: it is not JSON; `maint plan --save FILE` writes one".to_owned()
        })?;
        let version = document.get("version").and_then(Value::as_u64);
        if version != Some(u64::from(SAVED_VERSION)) {
            return Err(format!(
                "is no saved plan of version {SAVED_VERSION}: write a new one with `maint plan --save`"
            ));
        }
        let mut saved: Saved = serde_json::from_value(document)
            .map_err(|error| format!("is no saved plan: {error}"))?;
        let found = hash(&saved.plans).map_err(|error| error.to_string())?;
        if found != saved.hash {
            return Err(format!(
                "was changed after it was made: its hash is {found}, it says {}",
                saved.hash
            ));
        }
        for plan in &mut saved.plans {
            plan.document.clone_from(&saved.hash);
        }
        Ok(saved)
    }
}

/// What has become of a definition that conditions rest on: its number tells nobody anything.
fn replaced(then: Option<&Value>, now: Option<&Value>) -> &'static str {
    match (then, now) {
        (Some(_), Some(_)) => "another one than when the plan was made",
        (Some(_), None) => "not there any more",
        (None, _) => "new: nothing of that name was there when the plan was made",
    }
}

/// What it means that something which a step relies on is another one.
fn taken(name: &str) -> &'static str {
    if name.starts_with(ID_OF) {
        ": another object has taken the name"
    } else if name.starts_with(NUMBER_OF_COLUMN) {
        ": another column has taken the name"
    } else {
        ""
    }
}

/// What is different between two values, by the place of it within them.
fn changed(place: &str, then: &Value, now: &Value, changes: &mut Vec<String>) {
    match (then, now) {
        (then, now) if then == now => {}
        (Value::Object(then), Value::Object(now)) => {
            let mut keys: Vec<&String> = then.keys().chain(now.keys()).collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                let dot = if place.is_empty() { "" } else { "." };
                let of = |map: &serde_json::Map<String, Value>| map.get(key).cloned();
                changed(
                    &format!("{place}{dot}{key}"),
                    &of(then).unwrap_or_default(),
                    &of(now).unwrap_or_default(),
                    changes,
                );
            }
        }
        (Value::Array(then), Value::Array(now)) => {
            for n in 0..then.len().max(now.len()) {
                let of = |values: &[Value]| values.get(n).cloned().unwrap_or_default();
                changed(&format!("{place}[{n}]"), &of(then), &of(now), changes);
            }
        }
        (then, now) => changes.push(format!(
            "{} is {}, and was {}",
            if place.is_empty() { "all of it" } else { place },
            plainly(now),
            plainly(then)
        )),
    }
}

/// A value as people write it in a task.
fn plainly(value: &Value) -> String {
    match value {
        Value::Null => "not set".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn hash(plans: &[SavedPlan]) -> Result<String, serde_json::Error> {
    let digest = Sha256::digest(serde_json::to_vec(plans)?);
    let digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("sha256:{digits}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::plan::Step;
    use crate::values::wall_clock;

    /// What it runs, and what it relies on.
    #[derive(Clone, Debug, Default, Serialize)]
    struct Doing(String, Value);

    impl Body for Doing {
        fn text(&self) -> String {
            self.0.clone()
        }

        fn identity(&self) -> Value {
            self.1.clone()
        }

        fn until(&self) -> Option<DateTime<Utc>> {
            None
        }

        fn elsewhere(&self) -> Option<String> {
            None
        }

        fn keeps_what_it_did(&self) -> bool {
            false
        }

        fn destroys(&self) -> bool {
            true
        }
    }

    fn step(object: &str, statement: &str, identity: Value) -> Step<Doing> {
        let mut step = Step::new("reindex", object, "lane").because("60% bloat");
        step.body = Doing(statement.to_owned(), identity);
        step
    }

    fn plan(steps: &[(&str, &str, u32)]) -> SavedPlan {
        let steps = steps
            .iter()
            .map(|(object, statement, id)| step(object, statement, json!(id)));
        of(steps.collect(), &[])
    }

    fn of(steps: Vec<Step<Doing>>, rows: &[i64]) -> SavedPlan {
        let plan = Plan {
            steps,
            ..Plan::default()
        };
        SavedPlan::of(
            ("weekly", "reindex", "app"),
            "7/app",
            &json!({ "min_size": "10MB" }),
            &plan.numbered(1),
            &(1..).zip(rows.iter().copied()).collect(),
        )
    }

    #[test]
    fn what_a_step_relies_on_is_told_by_name() {
        let then = of(
            vec![step(
                "a",
                "x",
                json!({ "the index": "i", "the id of a": 1 }),
            )],
            &[10],
        );
        let now = of(vec![step("a", "x", json!({ "the id of a": 2 }))], &[120]);
        assert_eq!(
            then.drift(&now),
            [
                "reindex a: the id of a is 2, and was 1: another object has taken the name",
                "reindex a: the index is none, and was i"
            ]
        );
        let many = of(
            vec![step(
                "a",
                "x",
                json!({ "the index": "i", "the id of a": 1 }),
            )],
            &[121],
        );
        assert_eq!(
            then.drift(&many),
            [
                "reindex a: 121 would go, and 10 were to go when the plan was made: more than twice as many"
            ]
        );
    }

    #[test]
    fn what_is_not_done_any_more_is_told_with_its_reason() {
        let then = of(vec![step("app.t_1", "x", json!(1))], &[]);
        let left = |object: &str, reason: &str| Skip {
            object: object.to_owned(),
            reason: reason.to_owned(),
        };
        let told = |left: Vec<Skip>, steps: Vec<Step<Doing>>| {
            let now = SavedPlan {
                left,
                ..of(steps, &[])
            };
            then.drift(&now).join("\n")
        };
        let begins = "reindex app.t_1: would not be done any more";
        let ends = " (it was to be done because of: 60% bloat)";
        assert_eq!(told(vec![], vec![]), format!("{begins}{ends}"));
        assert_eq!(
            told(vec![left("app.t_1", "it is held")], vec![]),
            format!("{begins}: it is held{ends}")
        );
        assert_eq!(
            told(
                vec![left("app.t", "app.t_1 is in the way of app.t_10")],
                vec![]
            ),
            format!("{begins}: app.t: app.t_1 is in the way of app.t_10{ends}")
        );
        assert_eq!(
            told(vec![left("app.t", "app.t_10 is in the way")], vec![]),
            format!("{begins}{ends}")
        );
        let mut other = step("app.t_1", "x", json!(1));
        other.action = "cleanup".to_owned();
        other.details = vec!["it is not dropped: view v depends on it".to_owned()];
        assert_eq!(
            told(vec![], vec![other]),
            format!(
                "{begins}: instead cleanup: 60% bloat; it is not dropped: view v depends on it{ends}"
            )
        );
    }

    #[test]
    fn changed_options_are_told_by_their_place() {
        let then = json!({ "rules": [{ "field": "at", "older_than": "90d" }], "x": 1 });
        let now = json!({ "rules": [{ "field": "at", "older_than": "30d" }, { "field": "b" }] });
        let mut changes = Vec::new();
        changed("", &then, &now, &mut changes);
        assert_eq!(
            changes,
            [
                "rules[0].older_than is 30d, and was 90d",
                r#"rules[1] is {"field":"b"}, and was not set"#,
                "x is not set, and was 1"
            ]
        );
    }

    #[test]
    fn what_matters_is_told_and_nothing_else() {
        let saved = plan(&[("a", "REINDEX a", 1), ("b", "REINDEX b", 2)]);
        assert!(saved.differences(&saved).is_empty());
        let grown = plan(&[
            ("a", "REINDEX a", 1),
            ("b", "REINDEX b", 2),
            ("c", "REINDEX c", 3),
        ]);
        assert!(saved.drift(&grown).is_empty());
        assert_eq!(
            saved.differences(&grown),
            ["reindex c: new, because of: 60% bloat"]
        );
        let other = plan(&[("a", "REINDEX TABLE a", 9)]);
        assert_eq!(
            saved.drift(&other),
            [
                "reindex a: another object has taken the name (id 9 was 1)",
                "reindex a: would run `REINDEX TABLE a` instead of `REINDEX a`",
                "reindex b: would not be done any more (it was to be done because of: 60% bloat)",
            ]
        );
        let elsewhere = SavedPlan {
            system: "8/app".to_owned(),
            ..saved.clone()
        };
        assert_eq!(
            saved.drift(&elsewhere),
            ["target `app` is another database: the plan was made for 7/app, this is 8/app"]
        );
        let options = SavedPlan {
            options: json!({}),
            ..saved.clone()
        };
        assert_eq!(saved.drift(&options).len(), 1);
    }

    #[test]
    fn an_edited_document_is_refused() {
        let saved = Saved::new(vec![plan(&[("a", "REINDEX a", 1)])], wall_clock()).unwrap();
        let text = serde_json::to_string_pretty(&saved).unwrap();
        let read = Saved::read(&text).unwrap();
        assert_eq!(
            (&read.hash, &read.plans[0].steps),
            (&saved.hash, &saved.plans[0].steps)
        );
        assert_eq!(read.plans[0].document, saved.hash);
        let edited = text.replace("REINDEX a", "DROP TABLE a");
        assert!(Saved::read(&edited).unwrap_err().contains("changed after"));
        assert!(Saved::read("{}").unwrap_err().contains("version 1"));
        assert!(
            Saved::read("nonsense")
                .unwrap_err()
                .contains("no saved plan")
        );
    }
}
