//! Runs whose process died.

use chrono::Utc;

use super::{PipelineError, Request, Surroundings, note};
use crate::execute::{Door, run_name};

/// Closes what a killed process left of this task, on the server and in the history.
pub(super) async fn take_over<D: Door>(
    request: &Request<'_>,
    around: &Surroundings,
    door: &D,
    session: &D::Session,
) -> Result<(), PipelineError> {
    let (task, target) = (&request.task.name, &request.target.name);
    let (history, store) = (&around.history, around.history.store());
    let interrupted = store.interrupt_running(task, target, Utc::now());
    let mut dead = history.ask(interrupted).await.unwrap_or_default();
    for run in &dead {
        note(around, run).await;
    }
    // However the last one ended: its connection may have been cut, and the
    // server not have noticed yet that nobody waits for the statement.
    dead.extend(history.ask(store.last_run(task, target)).await.flatten());
    for run in &dead {
        let orphans = door.end_orphans(session, &run_name(run.id)).await?;
        if orphans > 0 {
            tracing::warn!(run = %run.id, orphans, "sessions of an earlier run were ended");
        }
    }
    Ok(())
}
