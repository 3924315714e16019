//! How the work stands now: what is on record, and what a process that died could not record.

use super::{
    HistoryError, Outcome, Period, RunFilter, RunRecord, RunStatus, RunSummary, Store, TaskTotals,
};
use crate::values::is_alive as is_process_alive;

/// Whether the process of a run is alive; `None` where nobody here can know.
pub fn is_alive(run: &RunRecord) -> Option<bool> {
    is_process_alive(&run.host, run.pid, run.process.as_deref())
}

/// As [`Summaries::task_totals`](super::Summaries::task_totals), where a run that is on record as at work
/// and has no process any more, as far as can be known, was interrupted. The next run records that; until
/// then, and where none comes, nobody is to believe that it is at work, nor that all is well because
/// somebody else found the task at work and was skipped.
///
/// # Errors
/// When the history cannot be read.
pub async fn task_totals(
    store: &dyn Store,
    period: &Period,
    recent: u32,
) -> Result<Vec<TaskTotals>, HistoryError> {
    let (mut totals, dead) = tokio::try_join!(
        store.summaries().task_totals(period, recent),
        store.dead(&is_alive),
    )?;
    for run in dead.iter().filter(|run| run.started_at < period.until) {
        let of_run = |one: &&mut TaskTotals| one.task == run.task && one.target == run.target;
        if let Some(one) = totals.iter_mut().find(of_run) {
            add_interrupted(one, run, period);
        }
    }
    Ok(totals)
}

/// A run that was interrupted counts as one that has failed, and as what the work came to last where
/// nothing that began later has come to more.
fn add_interrupted(totals: &mut TaskTotals, run: &RunRecord, period: &Period) {
    if run.started_at >= period.since {
        totals.failed = totals.failed.saturating_add(1);
    }
    if totals.last_run == run.id {
        totals.last_status = RunStatus::Interrupted;
    }
    let later = |outcome: &Outcome| outcome.started_at > run.started_at;
    if !totals.outcome.as_ref().is_some_and(later) {
        totals.outcome = Some(Outcome {
            run: run.id,
            status: RunStatus::Interrupted,
            started_at: run.started_at,
        });
    }
}

/// As [`Runs::runs`](super::Runs::runs), where a run that is on record as at work and has no process any
/// more, as far as can be known, was interrupted.
///
/// # Errors
/// When the history cannot be read.
pub async fn runs(store: &dyn Store, filter: &RunFilter) -> Result<Vec<RunSummary>, HistoryError> {
    let mut runs = store.runs(filter).await?;
    if runs.iter().any(|run| run.status == RunStatus::Running) {
        let dead = store.dead(&is_alive).await?;
        for run in &mut runs {
            if let Some(one) = dead.iter().find(|one| one.id == run.id) {
                run.status = RunStatus::Interrupted;
                run.error.clone_from(&one.error);
            }
        }
    }
    Ok(runs)
}

/// The same of one run, as [`Runs::run`](super::Runs::run) finds it.
///
/// # Errors
/// When there is no such run, and when the history cannot be read.
pub async fn run(store: &dyn Store, named: &str) -> Result<RunRecord, HistoryError> {
    let mut run = store.run(named).await?;
    if run.status == RunStatus::Running {
        let dead = store.dead(&is_alive).await?;
        if let Some(one) = dead.into_iter().find(|one| one.id == run.id) {
            run.status = RunStatus::Interrupted;
            run.error = one.error;
        }
    }
    Ok(run)
}
