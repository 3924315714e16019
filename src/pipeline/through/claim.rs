//! The lock of the task: waited for, and watched while the run goes on.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use super::super::failover::Failover;
use super::super::{Request, Surroundings, dead};
use crate::engines::EngineError;
use crate::execute::{Door, Holder, Stop, StopReason};

/// How often the lock of the task is asked for, where that is waited for.
const ASK_FOR_CLAIM: Duration = Duration::from_millis(500);

/// Takes the lock of the task; tells who has it when patience is over. A session that the server
/// has kept of a run which is over is ended at once: that run will never let go.
pub(super) async fn claim_patiently<D: Door>(
    request: &Request<'_>,
    around: &Surroundings,
    door: &D,
    session: &D::Session,
) -> Result<Option<Holder>, EngineError> {
    let until = Instant::now() + request.patience;
    let mut over: Option<Uuid> = None;
    let mut failover = Failover::until(Some(&around.stop));
    loop {
        let claimed = door.claim(session, &request.task.name).await;
        if let Err(error) = &claimed
            && failover.passes(door, error).await
        {
            continue;
        }
        let Some(mut holder) = claimed? else {
            return Ok(None);
        };
        if let Some(run) = holder.run.filter(|run| over != Some(*run))
            && dead::let_go(run, around, door, session).await?
        {
            over = Some(run);
            continue;
        }
        if Instant::now() >= until || around.stop.is_stopping() {
            if holder.run.is_some() && holder.run == over {
                holder.finding = Some(dead::left_over(&request.task.name, &holder));
            } else if let Some(run) = holder.run
                && around.history.is_unknown(run).await
            {
                holder.who.push_str("; this history does not know that run");
            }
            return Ok(Some(holder));
        }
        tokio::time::sleep(ASK_FOR_CLAIM).await;
    }
}

/// Stops the run when the connection that holds its claim ends, for as long as
/// the answer is kept: a run that is over lets go of its claim by itself.
pub(super) fn watch_claim(lost: CancellationToken, stop: &Stop) -> AbortOnDropHandle<()> {
    let stop = stop.clone();
    AbortOnDropHandle::new(tokio::spawn(async move {
        lost.cancelled().await;
        stop.at_once(StopReason::ClaimLost);
    }))
}
