//! Stops a run that somebody has asked to stop, in whatever process it is: the history is what both
//! of them see.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::AbortHandle;
use uuid::Uuid;

use super::Surroundings;
use crate::execute::StopReason;

/// How often the history is asked whether the run is to stop.
const EVERY: Duration = Duration::from_secs(2);

/// Watches until it is dropped.
pub(super) struct Watching(AbortHandle);

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Stops the run when somebody has asked for it with `maint cancel`: gently,
/// and at once after `grace`.
pub(super) fn watch(around: &Surroundings, run: Uuid, grace: Duration) -> Watching {
    let (store, stop) = (Arc::clone(around.history.store()), around.stop.clone());
    let task = tokio::spawn(async move {
        loop {
            tokio::time::sleep(EVERY).await;
            match store.cancel_asked(run).await {
                Ok(Some(by)) => {
                    tracing::warn!(%run, "asked to stop by {by}");
                    break;
                }
                Ok(None) => {}
                Err(error) => tracing::debug!(%error, "nobody could be heard"),
            }
        }
        stop.gently(StopReason::Asked);
        tokio::time::sleep(grace).await;
        stop.at_once(StopReason::Asked);
    });
    Watching(task.abort_handle())
}
