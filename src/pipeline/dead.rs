//! Runs whose process died.

use uuid::Uuid;

use super::{PipelineError, Request, Surroundings, note};
use crate::engines::EngineError;
use crate::execute::{Door, Holder, run_name};
use crate::plan::{Finding, Severity};
use crate::values::wall_clock;

/// Closes what a killed process left of this task, on the server and in the history.
pub(super) async fn take_over<D: Door>(
    request: &Request<'_>,
    around: &Surroundings,
    door: &D,
    session: &D::Session,
) -> Result<(), PipelineError> {
    let (task, target) = (&request.task.name, &request.target.name);
    let (history, store) = (&around.history, around.history.store());
    let interrupted = store.interrupt_running(task, target, wall_clock());
    let interrupted = history.ask(interrupted).await.unwrap_or_default();
    for run in &interrupted {
        note(around, run).await;
    }
    let mut dead: Vec<Uuid> = interrupted.into_iter().map(|run| run.id).collect();
    // However the last one ended: its connection may have been cut, and the
    // server not have noticed yet that nobody waits for the statement.
    dead.extend(history.ask(store.last_run_id(task, target)).await.flatten());
    for run in dead {
        let orphans = door.end_orphans(session, &run_name(run)).await?;
        if orphans > 0 {
            tracing::warn!(%run, orphans, "sessions of an earlier run were ended");
        }
    }
    Ok(())
}

/// Ends the sessions of a run that is over as far as the history knows: the way to them was cut,
/// and the server still waits for a client that will never say anything. Says whether it is over.
pub(super) async fn let_go<D: Door>(
    run: Uuid,
    around: &Surroundings,
    door: &D,
    session: &D::Session,
) -> Result<bool, EngineError> {
    if !around.history.is_over(run).await {
        return Ok(false);
    }
    let orphans = door.end_orphans(session, &run_name(run)).await?;
    tracing::warn!(%run, orphans, "the task was held by sessions of a run that is over; they were ended");
    Ok(true)
}

/// That the lock is with a run that is over, and could not be taken from it.
pub(super) fn left_over(task: &str, holder: &Holder) -> Finding {
    Finding {
        code: "claim.left_over".to_owned(),
        severity: Severity::Critical,
        object: String::new(),
        message: format!(
            "the lock by which runs of `{task}` exclude each other is held by {}, in the name of a run that is over as the history has it, and it could not be taken from it: it is a session that logged in as another role, which the server keeps until it notices that nobody is there, or somebody takes the lock in that name again and again. The task does not run until that ends",
            holder.who
        ),
        suggestion: holder.end.clone(),
    }
}
