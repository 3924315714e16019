//! What a task would do now on one of its targets, and what keeps it from more.

use serde_json::Value;

use super::Failure;
use crate::config::{Config, Target, Task};
use crate::engines::EngineError;
use crate::engines::postgres::trust;
use crate::history::Store;
use crate::pipeline::{self, Known, Level, Line, PipelineError};
use crate::plan::codes::{self, Keeps};
use crate::plan::{Finding, Plan};
use crate::report::text::counted;
use crate::values::with_causes;

/// Of one task on one target so many things are told one by one.
const MOST_TOLD: usize = 5;

async fn planned(
    config: &Config,
    task: &Task,
    target: &Target,
    history: Option<&dyn Store>,
) -> Result<Plan<Value>, String> {
    let asked = match history {
        Some(store) => Known::of(store, task, &target.name, config.timezone)
            .await
            .ok(),
        None => None,
    };
    // Without a history, or with one that cannot be read now, nothing is known.
    let known = asked.unwrap_or_else(|| Known {
        zone: config.timezone,
        ..Known::default()
    });
    match pipeline::plan(task, target, known).await {
        Ok(plan) => Ok(plan),
        Err(PipelineError::Engine(error)) => Err(with_hint(&error)),
        Err(other) => Err(with_causes(&other)),
    }
}

/// Everything that is to be said of a task on a target; `history` tells what earlier runs have seen.
pub(super) async fn all_of(
    config: &Config,
    task: &Task,
    target: &Target,
    history: Option<&dyn Store>,
) -> Vec<Line> {
    let plan = match planned(config, task, target, history).await {
        Ok(plan) => plan,
        Err(why) => return vec![(Level::Problem, format!("would fail: {why}"))],
    };
    let mut lines = Vec::new();
    match pipeline::held(task, target).await {
        Ok(held) => lines.extend(held.into_iter().map(|held| match held.for_good {
            true => (Level::Problem, held.text),
            false => (Level::Note, held.text),
        })),
        Err(why) => lines.push((Level::Problem, with_causes(&why))),
    }
    let hindered: Vec<_> = plan
        .findings
        .iter()
        .filter(|one| codes::keeps(&one.code).is_some())
        .collect();
    for one in hindered.iter().take(MOST_TOLD) {
        let object = match one.object.as_str() {
            "" => String::new(),
            object => format!("{object}: "),
        };
        let todo = one
            .suggestion
            .as_ref()
            .map_or_else(String::new, |todo| format!("; {todo}"));
        let level = match codes::keeps(&one.code) {
            Some(Keeps::FromAll) => Level::Problem,
            Some(Keeps::FromSome) | None => Level::Note,
        };
        lines.push((level, format!("{object}{}{todo}", one.message)));
    }
    // What is not done at all, and no finding says so.
    let unsaid = plan.refused.iter().filter(|left| {
        let said = |one: &&Finding| one.message == left.reason || one.object == left.object;
        !hindered.iter().any(said)
    });
    for left in unsaid.clone().take(MOST_TOLD) {
        lines.push((Level::Problem, format!("{}: {}", left.object, left.reason)));
    }
    if let Some(more @ 1..) = hindered.len().checked_sub(MOST_TOLD) {
        let text = format!("… and {more} more like that: maint plan {}", task.name);
        lines.push((Level::Problem, text));
    }
    if hindered.is_empty() && plan.refused.is_empty() {
        let steps = counted(plan.steps.len(), "step");
        // Whoever would wait, or end, does not work: one verdict, not two.
        match lines.first_mut() {
            None => lines.push((Level::Ok, format!("works: {steps} to do now"))),
            Some((_, held)) => held.push_str(&format!("; else it works: {steps} to do now")),
        }
    }
    lines
}

/// Only which code of others it would leave tables alone for, as its plan says
/// it; or why that cannot be known.
pub(super) async fn code_of_others(config: &Config, task: &Task, target: &Target) -> Vec<String> {
    match planned(config, task, target, None).await {
        Ok(plan) => {
            let found = plan.findings.into_iter();
            let found = found.filter(|one| one.code == trust::FINDING);
            found.map(|one| one.message).collect()
        }
        Err(why) => vec![format!("cannot be planned: {why}")],
    }
}

/// An address that makes no sense, with the name of its target: there may be many.
pub(super) fn of_target(target: &Target, error: PipelineError) -> Failure {
    match error {
        PipelineError::Engine(error) if error.is_address() => {
            Failure::Usage(format!("target `{}`: {}", target.name, with_hint(&error)))
        }
        other => other.into(),
    }
}

pub(super) fn with_hint(error: &EngineError) -> String {
    match error.hint() {
        Some(hint) => format!("{} ({hint})", with_causes(error)),
        None => with_causes(error),
    }
}
