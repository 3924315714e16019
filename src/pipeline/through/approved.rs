//! Saved plans: what is written down of one, and what of a fresh plan one lets be carried out.

use super::super::{Approved, PipelineError};
use crate::config::Task;
use crate::execute::{BodyOf, Door};
use crate::plan::{APPLIED, Body, Finding, Plan, SavedPlan, SavedStep, Severity, Step};

pub(super) async fn document<D: Door>(
    task: &Task,
    target: &str,
    (door, session): (&D, &D::Session),
    plan: &Plan<BodyOf<D>>,
) -> Result<SavedPlan, PipelineError> {
    let names = (task.name.as_str(), task.kind.as_str(), target);
    let system = door.identity(session).await?;
    let rows = door.count_for_review(session, &plan.steps).await?;
    let options = (&task.options, &task.filled);
    Ok(SavedPlan::of(names, &system, options, plan, &rows))
}

/// Leaves of the plan what was approved, in that order, and nothing for a
/// second round. Says whether that is less than there was.
///
/// What plans of the same document did before may be why a step would not be done any more: rows went, and
/// the statistics are out of date. It is done as it was made before the first of them began. Not so
/// what takes something away, or what cannot be done now.
pub(super) fn only_approved<B: Body>(
    approved: &Approved<'_>,
    found: &SavedPlan,
    plan: &mut Plan<B>,
) -> Result<bool, PipelineError> {
    let behind_own = |step: &SavedStep| {
        let made = approved.plan.made.steps::<B>().iter();
        let mut made = made.filter(|one| step.is(&one.action, &one.object));
        approved.behind_own
            && !found.refused.contains(&step.object)
            && made.any(|one| !one.body.destroys())
    };
    let drift = approved.plan.drift_without(found, &behind_own);
    if !drift.is_empty() {
        return Err(PipelineError::Drifted { drift });
    }
    let place = |step: &Step<B>| approved.plan.place(&step.action, &step.object);
    let same = |a: &Step<B>, b: &Step<B>| a.action == b.action && a.object == b.object;
    let made = approved.plan.made.steps::<B>().iter();
    let gone = made.filter(|step| place(step).is_some());
    let gone: Vec<Step<B>> = gone
        .filter(|step| !plan.steps.iter().any(|other| same(step, other)))
        .cloned()
        .collect();
    plan.steps.extend(gone);
    let all = plan.steps.len();
    let (named, others): (Vec<_>, Vec<_>) = std::mem::take(&mut plan.steps)
        .into_iter()
        .partition(|step| place(step).is_some());
    plan.steps = named;
    for finding in others.into_iter().flat_map(|step| step.until_done) {
        plan.undone(finding);
    }
    plan.steps.sort_by_key(place);
    let pending = !std::mem::take(&mut plan.pending).is_empty();
    Ok(pending || plan.steps.len() < all)
}

/// Which document a run has carried out.
pub(super) fn applied(approved: &SavedPlan) -> Finding {
    Finding {
        code: APPLIED.to_owned(),
        severity: Severity::Info,
        object: String::new(),
        message: format!("carried out a saved plan, {}", approved.document),
        suggestion: None,
    }
}
