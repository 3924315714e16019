//! What has changed since a plan was saved, in words.

use serde_json::Value;

use super::body::{DEFINITION_OF, ID_OF, NUMBER_OF_COLUMN};
use super::{SavedPlan, SavedStep};
use crate::values::Bytes;

/// A step may change so many rows more than twice what was looked at: time goes on, and a few
/// rows are soon twice as many.
const A_FEW_ROWS: i64 = 100;

/// The same of what goes as a whole, and whose rows nobody counts.
const A_FEW_BYTES: i64 = 1 << 20;

impl SavedPlan {
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
        let (then, holds) = (&self.variables, &now.variables);
        let other = then
            .iter()
            .filter(|(name, sum)| holds.get(*name).is_some_and(|now| now != *sum));
        for (name, _) in other {
            lines.push(format!(
                "`{name}`, which stands in the options of task `{}`, holds something else than when the plan was made",
                self.task
            ));
        }
        lines
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
        let all = |step: &SavedStep| step.bytes.filter(|_| step.bytes_after == Some(0));
        if let (None, None, Some(then), Some(now)) = (self.rows, now.rows, all(self), all(now))
            && now > then.saturating_mul(2).saturating_add(A_FEW_BYTES)
        {
            let shown = |bytes: i64| Bytes(u64::try_from(bytes).unwrap_or(0)).to_string();
            lines.push(format!(
                "{what}: {} would go, and {} were to go when the plan was made: more than twice as much",
                shown(now),
                shown(then)
            ));
        }
        lines
    }
}

/// What has become of a definition that conditions rest on: its number tells nobody anything.
fn replaced(then: Option<&Value>, now: Option<&Value>) -> &'static str {
    match (then, now) {
        (Some(_), Some(_)) => "another one than when the plan was made",
        (Some(_), None) => "not there any more",
        (None, _) => {
            "new: nothing of that name was there when the plan was made, or an older version of maint saved it"
        }
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests;
