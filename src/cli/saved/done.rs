//! What runs of a saved plan have done before, and what they have left.

use std::collections::BTreeSet;
use std::path::Path;

use super::super::Failure;
use super::{Work, of};
use crate::config::Config;
use crate::history::{RunFilter, RunStatus, StepStatus};
use crate::plan::{APPLIED, Finding, Saved, SavedPlan, SavedStep};
use crate::report::text::counted;

/// What of one plan of a document was carried out already.
#[derive(Default)]
pub(super) struct Done {
    /// That all of it was, as it is told.
    pub(super) line: Option<String>,
    /// The steps that were, by what is done and with what.
    pub(super) steps: BTreeSet<(String, String)>,
}

/// What of each plan was carried out already: it was approved for once. One that says the same and was saved later
/// is another one.
pub(super) async fn done_before(config: &Config, saved: &Saved) -> Result<Vec<Done>, Failure> {
    let Ok(store) = crate::history::open_existing(config.history.expose()).await else {
        return Ok(saved.plans.iter().map(|_| Done::default()).collect());
    };
    let mut all = Vec::new();
    for plan in &saved.plans {
        let mut done = Done::default();
        let filter = RunFilter {
            task: Some(plan.task.clone()),
            target: Some(plan.target.clone()),
            since: Some(saved.created_at),
            limit: Some(MOST_RUNS),
            ..RunFilter::default()
        };
        let runs = match plan.steps.is_empty() {
            true => Vec::new(),
            false => store.runs(&filter).await?,
        };
        for run in runs {
            let record = store.run(&run.id.to_string()).await?;
            let applied = |one: &Finding| one.code == APPLIED && one.message.contains(&saved.hash);
            if !record.findings.iter().any(applied) {
                continue;
            }
            let steps = record.steps.iter();
            let steps = steps.filter(|step| step.status == StepStatus::Succeeded);
            done.steps
                .extend(steps.map(|step| (step.action.clone(), step.object.clone())));
            let is_done = |step: &SavedStep| {
                let key = (step.action.clone(), step.object.clone());
                done.steps.contains(&key)
            };
            if done.line.is_none()
                && (run.status == RunStatus::Succeeded || plan.steps.iter().all(is_done))
            {
                let at = run.started_at.with_timezone(&config.timezone);
                let line = format!(
                    "was carried out already, at {}: `maint show {}`",
                    at.format("%Y-%m-%d %H:%M %Z"),
                    run.short_id
                );
                done.line = Some(of(plan, &line));
            }
        }
        all.push(done);
    }
    Ok(all)
}

/// Leaves out of a document what was carried out already, where something is left: whether there is.
pub(super) fn leave_out(saved: &mut Saved, work: &mut Work, done: &[Done]) -> bool {
    let left = |plan: &SavedPlan, done: &Done| done.line.is_none() && !plan.steps.is_empty();
    let mut all = saved.plans.iter().zip(done);
    if done
        .iter()
        .all(|one| one.line.is_none() && one.steps.is_empty())
    {
        return true;
    }
    if !all.any(|(plan, done)| left(plan, done)) {
        return false;
    }
    let plans = std::mem::take(&mut saved.plans).into_iter();
    let rest = plans.zip(std::mem::take(work)).zip(done);
    for ((mut plan, one), done) in rest.filter(|(_, done)| done.line.is_none()) {
        plan.steps.retain(|step| {
            !done
                .steps
                .contains(&(step.action.clone(), step.object.clone()))
        });
        saved.plans.push(plan);
        work.push(one);
    }
    true
}

/// Says what is left of a plan after a run of it that did not do all.
pub(in crate::cli) async fn tell_left(
    config: &Config,
    file: &Path,
    saved: &Saved,
) -> Result<(), Failure> {
    let done = done_before(config, saved).await?;
    let mut left = Vec::new();
    for (plan, done) in saved.plans.iter().zip(&done) {
        let steps = plan.steps.iter();
        let steps = steps.filter(|step| {
            !done
                .steps
                .contains(&(step.action.clone(), step.object.clone()))
        });
        let steps = steps.count();
        if done.line.is_none() && steps > 0 {
            let steps = counted(steps, "step");
            left.push(format!("{} on {} ({steps})", plan.task, plan.target));
        }
    }
    if !left.is_empty() {
        errln!(
            "left of {}: {}\n  hint: `maint run --plan {}` goes on with what is left, and does nothing twice; where it does not fit any more, it says so",
            file.display(),
            left.join(", "),
            file.display()
        );
    }
    Ok(())
}

/// So many runs since a plan was saved are looked at.
const MOST_RUNS: u32 = 100;
