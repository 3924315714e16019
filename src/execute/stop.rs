//! How a run is stopped from outside: first nothing new is begun, then what is running is
//! cancelled; and the reason that is recorded for it.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use tokio_util::sync::CancellationToken;

use super::Awaited;

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
    /// Whether one of them was passed could not be seen.
    Unseen,
    /// Another instance has taken the occurrence over, and goes on with it.
    TakenOver,
    /// The server of the target says nothing any more.
    Silent,
}

/// How a run is stopped from outside: first gently, then at once.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    no_new_steps: CancellationToken,
    at_once: CancellationToken,
    reason: Arc<OnceLock<StopReason>>,
    /// Since when what is running has to be cancelled.
    since: Arc<OnceLock<Instant>>,
    /// What this is a part of; that may be a part again.
    outer: Option<Arc<Stop>>,
    awaited: Awaited,
}

impl Stop {
    /// A stop for a part: stopped with the whole, but not the other way round.
    pub fn part(&self) -> Stop {
        Stop {
            no_new_steps: self.no_new_steps.child_token(),
            at_once: self.at_once.child_token(),
            reason: Arc::default(),
            since: Arc::default(),
            outer: Some(Arc::new(self.clone())),
            awaited: Awaited::default(),
        }
    }

    /// What waits for the server: where it says nothing for too long, that is
    /// a reason to stop.
    pub fn awaited(&self) -> &Awaited {
        &self.awaited
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
        let _ = self.since.set(Instant::now());
        self.at_once.cancel();
    }

    /// Since when what is running has to be cancelled, once it has to be.
    pub fn since(&self) -> Option<Instant> {
        let outer = self.outer.as_ref().and_then(|outer| outer.since());
        outer.into_iter().chain(self.since.get().copied()).min()
    }

    /// Why, once it is being stopped.
    pub fn reason(&self) -> Option<StopReason> {
        let outer = self.outer.as_ref().and_then(|outer| outer.reason());
        // The whole comes first: a part also ends its claim when all is over.
        outer.or_else(|| self.reason.get().copied())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_part_knows_why_the_whole_is_stopped() {
        let whole = Stop::default();
        let part = whole.part();
        let smallest = part.part();
        assert_eq!(smallest.reason(), None);
        whole.gently(StopReason::Signal(15));
        part.gently(StopReason::ClaimLost);
        assert!(smallest.is_stopping() && !smallest.is_now());
        assert_eq!(smallest.reason(), Some(StopReason::Signal(15)));
    }

    #[test]
    fn the_whole_is_not_stopped_with_a_part() {
        let whole = Stop::default();
        let part = whole.part();
        part.part().at_once(StopReason::Asked);
        assert!(!part.is_stopping() && !whole.is_stopping());
        assert_eq!(part.reason(), None);
    }
}
