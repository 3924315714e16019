//! How the work stands now: what is on record, and what a process that died could not record.

use super::{HistoryError, Outcome, Period, RunStatus, Store, TaskTotals};
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
