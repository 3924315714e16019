//! What is so alike in many places is told once, with the places.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};

use super::super::documents::NotWell as Reason;
use crate::history::TrackedFinding;
use crate::plan::{Severity, tells_kept_out};
use crate::report::finding_text;

/// So many targets of one reason are named.
const MOST_NAMED: usize = 4;

/// Tasks that have not succeeded since they failed: on which target, and since when.
pub(super) fn failing(all: &[(&str, &str, DateTime<Utc>)]) -> Vec<Reason> {
    let mut by_task: BTreeMap<&str, (Vec<String>, DateTime<Utc>)> = BTreeMap::new();
    for (task, target, since) in all {
        let (targets, first) = by_task.entry(task).or_insert_with(|| (Vec::new(), *since));
        targets.push((*target).to_owned());
        *first = (*first).min(*since);
    }
    let reasons = by_task.into_iter().map(|(task, (targets, since))| Reason {
        severity: Severity::Critical,
        since: Some(since),
        text: format!(
            "{task} on {} has not succeeded since it failed",
            named(&targets)
        ),
        hint: Some(format!("maint history --task {task}")),
        targets,
    });
    reasons.collect()
}

/// A task whose time has come, and that never ran on some of its targets.
pub(super) fn never_ran(task: &str, targets: Vec<String>) -> Option<Reason> {
    let hint = match targets.as_slice() {
        [] => return None,
        [one] => format!("maint run {task} --target {one} --now"),
        _ => format!("maint run {task} --now"),
    };
    Some(Reason {
        severity: Severity::Warning,
        since: None,
        text: format!("{task} on {} has never run", named(&targets)),
        hint: Some(hint),
        targets,
    })
}

/// What the findings say that make it not well: one reason for the same on several targets, beside the first of them.
pub(super) fn findings(
    findings: Vec<TrackedFinding>,
    several: bool,
) -> Vec<(TrackedFinding, Reason)> {
    let mut folded: Vec<(TrackedFinding, Vec<String>)> = Vec::new();
    let mut places = HashMap::new();
    for one in findings {
        // Nothing has failed, and yet it does not get done.
        let left = tells_kept_out(&one.code) || one.code == "database.closed";
        let kept_out = one.severity == Severity::Warning && left;
        if one.severity != Severity::Critical && !kept_out {
            continue;
        }
        let same = (one.code.clone(), one.object.clone(), one.message.clone());
        let place = *places.entry(same).or_insert(folded.len());
        match folded.get_mut(place) {
            Some((_, targets)) => targets.push(one.target),
            None => {
                let targets = vec![one.target.clone()];
                folded.push((one, targets));
            }
        }
    }
    let reasons = folded.into_iter().map(|(one, mut targets)| {
        targets.sort();
        targets.dedup();
        let on = named(&targets);
        let text = match one.severity {
            Severity::Critical => {
                let object = match (one.object.as_str(), several) {
                    ("", _) => on,
                    (object, true) => format!("{object} on {on}"),
                    (object, false) => object.to_owned(),
                };
                format!("{object}: {} [{}]", finding_text(&one.message), one.code)
            }
            _ => format!("on {on}, {} [{}]", finding_text(&one.message), one.code),
        };
        let reason = Reason {
            severity: one.severity,
            since: None,
            text,
            hint: Some(format!("maint explain {}", one.code)),
            targets,
        };
        (one, reason)
    });
    reasons.collect()
}

/// The first of them by name, and how many there are besides.
fn named(targets: &[String]) -> String {
    match targets {
        [] => String::new(),
        [one] => one.clone(),
        all if all.len() > MOST_NAMED => {
            let first = all.get(..MOST_NAMED).unwrap_or_default();
            format!("{} and {} more", first.join(", "), all.len() - MOST_NAMED)
        }
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}
