//! How the work stands now: what is on record, and what a process that died could not record.

use super::{
    HistoryError, Outcome, Period, RunFilter, RunRecord, RunStatus, RunSummary, Store, TaskTotals,
};
use crate::values::{host, is_alive};

/// As [`Summaries::task_totals`](super::Summaries::task_totals), where a run of this machine that is on
/// record as at work and has no process any more was interrupted. The next run records that; until
/// then, and where none comes, nobody is to believe that it is at work.
///
/// # Errors
/// When the history cannot be read.
pub async fn task_totals(
    store: &dyn Store,
    period: &Period,
    recent: u32,
) -> Result<Vec<TaskTotals>, HistoryError> {
    let host = host();
    let (mut totals, dead) = tokio::try_join!(
        store.summaries().task_totals(period, recent),
        store.dead(&host, &is_alive),
    )?;
    for one in &mut totals {
        if one.last_status == RunStatus::Running && dead.contains(&one.last_run) {
            one.last_status = RunStatus::Interrupted;
            one.outcome = Some(Outcome {
                run: one.last_run,
                status: RunStatus::Interrupted,
                started_at: one.last_started_at,
            });
        }
    }
    Ok(totals)
}

/// What is said of a run whose process is gone without having recorded how it ended.
const GONE: &str = "its process is gone; the next run finds what it has left, and records that";

/// As [`Runs::runs`](super::Runs::runs), where a run of this machine that is on record as at work and has
/// no process any more was interrupted.
///
/// # Errors
/// When the history cannot be read.
pub async fn runs(store: &dyn Store, filter: &RunFilter) -> Result<Vec<RunSummary>, HistoryError> {
    let mut runs = store.runs(filter).await?;
    if runs.iter().any(|run| run.status == RunStatus::Running) {
        let dead = store.dead(&host(), &is_alive).await?;
        for run in &mut runs {
            if run.status == RunStatus::Running && dead.contains(&run.id) {
                run.status = RunStatus::Interrupted;
                run.error = Some(GONE.to_owned());
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
    if run.status == RunStatus::Running && store.dead(&host(), &is_alive).await?.contains(&run.id) {
        run.status = RunStatus::Interrupted;
        run.error = Some(GONE.to_owned());
    }
    Ok(run)
}
