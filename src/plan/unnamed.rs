//! Objects whose name cannot be written: they are left alone, and told; the
//! rest of the plan stays.

use std::collections::BTreeSet;
use std::io::{self, Write};

use serde::Serialize;
use serde_json::Value;

use super::{Body, Finding, Plan, Severity, Skip};
use crate::values::unreadable;

/// The code of the finding.
const UNREADABLE: &str = "name.unreadable";
/// More names than this are counted.
const MOST_TOLD: usize = 10;

/// Takes out of a plan what has a name that is not valid UTF-8, such as a
/// database with the encoding SQL_ASCII lets in: no statement could name it.
/// Where the object itself can be named and something that belongs to it
/// cannot, work is left undone that somebody expects.
pub(super) fn leave<B: Body>(plan: &mut Plan<B>) {
    let mut names = BTreeSet::new();
    let mut gone = BTreeSet::new();
    let mut undone = Vec::new();
    let mut steps = std::mem::take(&mut plan.steps);
    // What needs a step that is left out is left out, too.
    loop {
        let before = steps.len();
        steps.retain(|step| {
            let unreadable = holds(&(&step.object, &step.body, &step.needs, &step.remember));
            let needs =
                |need: &super::Need| gone.contains(&(need.action.clone(), need.object.clone()));
            if !unreadable && !step.needs.iter().any(needs) {
                return true;
            }
            if unreadable && unreadable::is_in(&step.object) {
                names.insert(unreadable::escaped(&step.object).into_owned());
            } else if unreadable {
                undone.push(refusal(step));
            }
            gone.insert((step.action.clone(), step.object.clone()));
            false
        });
        if steps.len() == before {
            break;
        }
    }
    for step in &mut steps {
        escape(&mut step.reason);
        escape(&mut step.lane);
        step.details.iter_mut().for_each(escape);
    }
    plan.steps = steps;
    for finding in undone {
        plan.skip(finding.object.clone(), finding.message.clone());
        plan.undone(finding);
    }
    for skip in plan
        .pending
        .iter()
        .chain(&plan.skipped)
        .chain(&plan.refused)
    {
        if unreadable::is_in(&skip.object) {
            names.insert(unreadable::escaped(&skip.object).into_owned());
        }
    }
    // It would be pending for ever.
    plan.pending.retain(|skip| !unreadable::is_in(&skip.object));
    for Skip { object, reason } in plan.skipped.iter_mut().chain(&mut plan.refused) {
        escape(object);
        escape(reason);
    }
    plan.observations.retain(|seen| !holds(seen));
    plan.measurements.retain(|one| !holds(one));
    plan.memories.retain(|one| !holds(one));
    for finding in &mut plan.findings {
        if unreadable::is_in(&finding.object) {
            names.insert(unreadable::escaped(&finding.object).into_owned());
        }
        escape_finding(finding);
    }
    let Some(first) = names.first().cloned() else {
        return;
    };
    for name in &names {
        if !plan.skipped.iter().any(|skip| skip.object == *name) {
            plan.skip(
                name.clone(),
                "its name, or one that belongs to it, is not valid UTF-8",
            );
        }
    }
    let told: Vec<&str> = names.iter().take(MOST_TOLD).map(String::as_str).collect();
    let more = match names.len().saturating_sub(MOST_TOLD) {
        0 => String::new(),
        n => format!(" and {n} more"),
    };
    plan.findings.push(Finding {
        code: UNREADABLE.to_owned(),
        severity: Severity::Warning,
        object: first,
        message: format!(
            "left alone, because no statement of maint's can name it: {}{more}. A name there has bytes that are not valid UTF-8, shown as \\x..; rename it, with the encoding of the session set to that of the name",
            told.join(", ")
        ),
        suggestion: None,
    });
}

/// Why a step cannot be carried out, with the names that are to blame.
fn refusal<B: Body>(step: &super::Step<B>) -> Finding {
    let mut culprits = BTreeSet::new();
    let all = (&step.body, &step.needs, &step.remember);
    if let Ok(all) = serde_json::to_value(all) {
        blame(&all, &mut culprits);
    }
    let told: Vec<&str> = culprits
        .iter()
        .take(MOST_TOLD)
        .map(String::as_str)
        .collect();
    Finding {
        code: UNREADABLE.to_owned(),
        severity: Severity::Warning,
        object: step.object.clone(),
        message: format!(
            "{} of {} is not done, because a statement for it would have to name {}: its bytes are not valid UTF-8, shown as \\x..; rename it, with the encoding of the session set to that of the name",
            step.action.replace('_', " "),
            step.object,
            told.join(", ")
        ),
        suggestion: None,
    }
}

/// The words with what could not be read, in all texts of a value.
fn blame(value: &Value, culprits: &mut BTreeSet<String>) {
    match value {
        Value::String(text) => {
            let ends = |c: char| c.is_whitespace() || "\"'(),;".contains(c);
            let words = text.split(ends).filter(|word| unreadable::is_in(word));
            culprits.extend(words.map(|word| unreadable::escaped(word).into_owned()));
        }
        Value::Array(values) => values.iter().for_each(|value| blame(value, culprits)),
        Value::Object(fields) => fields.values().for_each(|value| blame(value, culprits)),
        _ => {}
    }
}

/// Shows what could not be read; a statement with such a name would be wrong.
pub(crate) fn escape_finding(finding: &mut Finding) {
    escape(&mut finding.object);
    escape(&mut finding.message);
    finding.suggestion.take_if(|todo| unreadable::is_in(todo));
}

fn escape(text: &mut String) {
    if unreadable::is_in(text) {
        *text = unreadable::escaped(text).into_owned();
    }
}

/// Whether there is something in it that could not be read.
fn holds(value: &impl Serialize) -> bool {
    let mut look = Look::default();
    // Writing fails only where the search has ended.
    let _ = serde_json::to_writer(&mut look, value);
    look.found
}

/// Looks through what is written, and keeps none of it. The writer gives whole
/// characters, so that a mark is never cut in two.
#[derive(Default)]
struct Look {
    found: bool,
}

impl Write for Look {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        self.found |= unreadable::is_in_bytes(piece);
        match self.found {
            true => Err(io::ErrorKind::Other.into()),
            false => Ok(piece.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Statement, Step};

    #[test]
    fn one_bad_name_leaves_the_others_alone() {
        let bad = unreadable::read(b"public.caf\xe9");
        let step = |object: &str| Step::new("vacuum", object, "lane");
        let mut plan = Plan {
            steps: vec![
                step("public.good"),
                step(&bad),
                step("public.caf").run(Statement::brief(format!("VACUUM {bad}"))),
                Step::new("analyze", "public.caf", "lane").after("vacuum", "public.caf"),
            ],
            ..Plan::default()
        };
        plan.skip(bad.clone(), "why");
        leave(&mut plan);
        let left: Vec<&str> = plan.steps.iter().map(|s| s.object.as_str()).collect();
        assert_eq!(left, ["public.good"]);
        assert_eq!(plan.findings.len(), 2);
        let (undone, left) = (&plan.findings[0], &plan.findings[1]);
        assert_eq!(undone.object, "public.caf");
        assert!(
            undone.message.contains("name public.caf\\xE9:"),
            "{}",
            undone.message
        );
        assert_eq!(plan.refused.len(), 1);
        assert_eq!(left.object, "public.caf\\xE9");
        assert_eq!(plan.skipped[0].object, "public.caf\\xE9");
    }

    #[test]
    fn a_plan_of_readable_names_stays_as_it_is() {
        let mut plan: Plan = Plan {
            steps: vec![Step::new("vacuum", "public.für", "lane")],
            ..Plan::default()
        };
        let before = plan.clone();
        leave(&mut plan);
        assert_eq!(plan, before);
    }
}
