use std::sync::{Arc, OnceLock};

use tokio_util::sync::CancellationToken;

/// Why a run is being stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// A signal, by its number: 2 for Ctrl-C, 15 for SIGTERM.
    Signal(i32),
    /// Somebody asked for it, with `maint cancel`.
    Asked,
    /// The connection that holds the task's lock has ended, so somebody else
    /// may start the same task.
    ClaimLost,
    /// One of the limits that end a run was passed.
    TooMuch,
    /// Another instance has taken the occurrence over, and goes on with it.
    TakenOver,
}

/// How a run is stopped from outside: first gently, then at once.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    no_new_steps: CancellationToken,
    at_once: CancellationToken,
    reason: Arc<OnceLock<StopReason>>,
    /// Why everything is being stopped, of which this is a part.
    outer: Option<Arc<OnceLock<StopReason>>>,
}

impl Stop {
    /// A stop for a part: stopped with the whole, but not the other way round.
    pub fn part(&self) -> Stop {
        Stop {
            no_new_steps: self.no_new_steps.child_token(),
            at_once: self.at_once.child_token(),
            reason: Arc::default(),
            outer: Some(Arc::clone(&self.reason)),
        }
    }

    /// Starts no new step.
    pub fn gently(&self, reason: StopReason) {
        // The first reason is the one that counts.
        let _ = self.reason.set(reason);
        self.no_new_steps.cancel();
    }

    /// Also cancels what is running.
    pub fn at_once(&self, reason: StopReason) {
        self.gently(reason);
        self.at_once.cancel();
    }

    /// Why, once it is being stopped.
    pub fn reason(&self) -> Option<StopReason> {
        let outer = self.outer.as_ref().and_then(|outer| outer.get());
        // The whole comes first: a part also ends its claim when all is over.
        outer.or(self.reason.get()).copied()
    }

    /// Whether no new step may start.
    pub fn is_stopping(&self) -> bool {
        self.no_new_steps.is_cancelled()
    }

    /// Resolves when no new step, and no new attempt, may start.
    pub async fn stopping(&self) {
        self.no_new_steps.cancelled().await;
    }

    /// Resolves when what is running has to be cancelled.
    pub async fn now(&self) {
        self.at_once.cancelled().await;
    }

    /// Whether what is running has to be cancelled.
    pub fn is_now(&self) -> bool {
        self.at_once.is_cancelled()
    }
}
