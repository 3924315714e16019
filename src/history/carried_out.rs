//! Which run has an occurrence.

use chrono::{DateTime, Utc};

use super::{HistoryError, RunRecord, RunStatus, Store};

/// The run that an occurrence of a schedule, or of any, has been had by: of several that have a task at the same
/// time, each has its own. One that died with its process does not count, nor
/// one that was cut short with it; what a person has stopped stays stopped.
///
/// # Errors
/// Only the history's own.
pub async fn carried_out(
    store: &dyn Store,
    task: &str,
    target: &str,
    at: DateTime<Utc>,
    schedule: Option<&str>,
) -> Result<Option<RunRecord>, HistoryError> {
    let Some(run) = store.occurrence(task, target, at, schedule).await? else {
        return Ok(None);
    };
    let counts = match run.status {
        RunStatus::Interrupted => false,
        RunStatus::Cancelled => store.cancel_asked(run.id).await?.is_some(),
        _ => true,
    };
    Ok(counts.then_some(run))
}
