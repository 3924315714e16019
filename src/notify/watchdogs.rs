//! What a teller tells watchdogs.

use std::time::Duration;

use super::{Signal, Teller};
use crate::execute::Stop;

/// How long the end of a process waits for watchdogs that have not answered yet.
const PINGED: Duration = Duration::from_secs(5);

/// The same once a signal has come.
const PINGED_ON_STOP: Duration = Duration::from_secs(1);

impl Teller {
    /// The same, in place of one before it: what that has sent to watchdogs stays on its way.
    #[must_use]
    pub fn in_place_of(&self, before: &Teller) -> Teller {
        let mut teller = self.clone();
        teller.pinger = before.pinger.clone();
        teller
    }

    /// Tells the watchdog of a schedule, if it has one, beside whatever the caller does next:
    /// see [`Self::pinged`]. That it could not be told is logged: the watchdog will say so itself.
    pub fn ping(&self, schedule: &str, signal: Signal) {
        let schedules = &self.config.schedules;
        let hook = schedules.get(schedule).and_then(|one| one.ping.as_ref());
        if let Some(hook) = hook {
            self.pinger.send(schedule, &hook.url, signal);
        }
    }

    /// Gives what was sent to watchdogs the time to arrive, at the end of a process: not much
    /// of it, and less where a signal wants it to end.
    pub async fn pinged(&self, stop: &Stop) {
        let late = async {
            stop.stopping().await;
            self.pinger.settle(PINGED_ON_STOP).await;
        };
        tokio::select! {
            () = self.pinger.settle(PINGED) => {}
            () = late => {}
        }
    }
}
