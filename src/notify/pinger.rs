//! Watchdogs are told beside the work: whoever does not answer holds nobody up.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::{Signal, ping};
use crate::values::Secret;

/// How long the signal before may still be on its way once there is another one for the same
/// watchdog: the order is kept, but nothing is told of a start that is long past.
const GIVE_WAY: Duration = Duration::from_secs(2);

/// What was sent last to the watchdog of each schedule. It holds what was sent before, if that is
/// still on its way, so that none outlives its successor.
type Lasts = BTreeMap<String, (Signal, AbortOnDropHandle<()>)>;

/// Tells watchdogs, each in the order of what happened.
#[derive(Clone, Default)]
pub(super) struct Pinger {
    lasts: Arc<Mutex<Lasts>>,
    ways: TaskTracker,
}

impl Pinger {
    fn lasts(&self) -> MutexGuard<'_, Lasts> {
        self.lasts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a signal on its way to the watchdog of a schedule.
    pub(super) fn send(&self, schedule: &str, url: &Secret, signal: Signal) {
        let (name, url) = (schedule.to_owned(), url.clone());
        let mut lasts = self.lasts();
        let before = lasts.remove(schedule);
        let way = self.ways.spawn(async move {
            if let Some((signal, way)) = before
                && tokio::time::timeout(GIVE_WAY, way).await.is_err()
            {
                not_told(&name, signal);
            }
            if let Err(why) = ping(url.expose(), signal).await {
                tracing::warn!(schedule = name, "{why}");
            }
        });
        lasts.insert(schedule.to_owned(), (signal, AbortOnDropHandle::new(way)));
    }

    /// Waits until all that is on its way has arrived, but not for longer than this.
    pub(super) async fn settle(&self, within: Duration) {
        self.ways.close();
        let settled = tokio::time::timeout(within, self.ways.wait()).await;
        self.ways.reopen();
        if settled.is_ok() {
            return;
        }
        for (schedule, (signal, way)) in std::mem::take(&mut *self.lasts()) {
            if !way.is_finished() {
                not_told(&schedule, signal);
            }
        }
    }
}

fn not_told(schedule: &str, signal: Signal) {
    let what = match signal {
        Signal::Start => "start",
        Signal::Success => "success",
        Signal::Fail => "failure",
    };
    tracing::warn!(
        schedule,
        "the watchdog has not answered in time: it was not told of the {what}"
    );
}
