//! What the tasks of a draft would do now.

use std::collections::BTreeMap;

use super::Place;
use crate::cli::plan::text::sizes_of;
use crate::config::Config;
use crate::init::{Draft, DraftTask};
use crate::pipeline::{self, Known};
use crate::plan::Plan;
use crate::plan::codes::{self, Keeps};
use crate::report::text::{counted, shown};
use crate::values::{redact, with_causes};

/// What a task would do now.
pub(super) enum Rehearsed {
    Steps(String),
    Fails(String),
}

/// What every task that is enabled would do now: as a comment in its file, and to be told.
pub(super) async fn rehearse(
    draft: &mut Draft,
    config: &Config,
    place: &Place,
) -> BTreeMap<String, Rehearsed> {
    let here: Vec<String> = draft
        .targets
        .iter()
        .filter(|target| target.variable == place.variable)
        .map(|target| target.name.clone())
        .collect();
    let mut tried = BTreeMap::new();
    let mut grants: Vec<String> = Vec::new();
    for task in &mut draft.tasks {
        let (Some(known), Some(target)) = (
            config.tasks.get(&task.name),
            config.targets.get(&task.target),
        ) else {
            continue;
        };
        if !task.enabled || !here.contains(&task.target) {
            continue;
        }
        let moment = Known {
            zone: config.timezone,
            ..Known::default()
        };
        let what = match pipeline::plan(known, target, moment).await {
            Ok(plan) => {
                missing(task, &plan, &mut grants);
                let steps = match plan.steps.len() {
                    0 if !plan.findings.is_empty() => {
                        format!("nothing to do, {}", counted(plan.findings.len(), "finding"))
                    }
                    0 => "nothing to do".to_owned(),
                    n => format!("{}{}", counted(n, "step"), sizes_of(&plan)),
                };
                let later = match plan.pending.len() {
                    0 => String::new(),
                    n => format!(", then {} to decide on", counted(n, "object")),
                };
                let text = format!(
                    "{steps}{later} ({} looked at)",
                    counted(plan.considered, "object")
                );
                task.why.push(format!("When this was written: {text}."));
                task.why.extend(evidence(&plan));
                Rehearsed::Steps(text)
            }
            Err(error) => {
                let text = redact(&with_causes(&error));
                task.why.push(format!(
                    "When this was written it would have failed: {text}"
                ));
                Rehearsed::Fails(text)
            }
        };
        tried.insert(task.name.clone(), what);
    }
    grants.sort();
    grants.dedup();
    draft.notes.extend(grants);
    tried
}

/// So many objects are named in a file.
const MOST_NAMED: usize = 5;

/// What the count is made of: the first objects by name, with the reason for each.
fn evidence(plan: &Plan<serde_json::Value>) -> Vec<String> {
    let one_line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let steps = plan.steps.iter().map(|step| {
        let (action, object) = (&step.action, shown(&step.object));
        format!("{action} {object}: {}", one_line(&shown(&step.reason)))
    });
    let pending = plan.pending.iter();
    let pending =
        pending.map(|one| format!("{}: {}", shown(&one.object), one_line(&shown(&one.reason))));
    let all = plan.steps.len() + plan.pending.len();
    let mut named: Vec<String> = steps.chain(pending).take(MOST_NAMED).collect();
    if let Some(more @ 1..) = all.checked_sub(MOST_NAMED) {
        named.push(format!("and {more} more"));
    }
    named
}

/// What keeps the task from its work, and what would help.
fn missing(task: &mut DraftTask, plan: &Plan<serde_json::Value>, grants: &mut Vec<String>) {
    // Extensions that are missing are told where the task is drafted.
    let hinders = |code: &str| codes::keeps(code) == Some(Keeps::FromAll);
    for finding in plan.findings.iter().filter(|one| hinders(&one.code)) {
        let help = match &finding.suggestion {
            Some(help) => format!(": {help}"),
            None => String::new(),
        };
        task.why
            .push(format!("{}: {}{help}", finding.code, finding.message));
        let told = matches!(
            finding.code.as_str(),
            "privilege.missing" | "role.untrusted_code"
        );
        if told && let Some(help) = &finding.suggestion {
            grants.push(format!("{}: {help}", task.name));
        }
    }
    for refused in &plan.refused {
        task.why.push(format!(
            "Left undone: {}: {}",
            refused.object, refused.reason
        ));
    }
}
