//! Leaves the server to others while it has enough to do.

use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use super::{Busy, Door, Event, Execution};
use crate::config::Throttle;
use crate::engines::EngineError;
use crate::history::{StepRecord, Throttled};

/// How often the server is asked; between two questions the last answer holds.
const EVERY: Duration = Duration::from_secs(1);

/// The conditions under which a run pauses, and what was last seen of them.
/// Shared by all steps of a run.
pub struct Throttler {
    settings: Throttle,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    at: Option<Instant>,
    reason: Option<Busy>,
}

impl Throttler {
    /// A throttler for a task with these settings.
    pub fn new(settings: Throttle) -> Throttler {
        Throttler {
            settings,
            seen: Mutex::default(),
        }
    }

    /// Waits while there is a reason to pause, and notes it in the record.
    /// Returns early when the run is stopped, or its time is up.
    ///
    /// # Errors
    /// When a condition cannot be asked for: going on regardless could do the
    /// harm that it is there to prevent.
    pub(super) async fn hold<D: Door>(
        &self,
        door: &D,
        execution: &Execution,
        record: &mut StepRecord,
    ) -> Result<(), EngineError> {
        if self.settings == Throttle::default() {
            return Ok(());
        }
        let mut told = None;
        loop {
            let late = execution.deadline.is_some_and(|d| Instant::now() >= d);
            if late || execution.stop.is_stopping() {
                return Ok(());
            }
            let Some(reason) = self.reason(door, execution).await? else {
                return Ok(());
            };
            let began = Instant::now();
            if told != Some(reason.setting) {
                told = Some(reason.setting);
                let text = format!("paused: {} (`throttle.{}`)", reason.text, reason.setting);
                execution.observer.on(Event::Waiting(record, &text));
            }
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = execution.stop.stopping() => {}
            }
            note(record, &reason, began.elapsed());
        }
    }

    async fn reason<D: Door>(
        &self,
        door: &D,
        execution: &Execution,
    ) -> Result<Option<Busy>, EngineError> {
        if let Some(file) = &self.settings.pause_file
            && file.exists()
        {
            return Ok(Some(Busy {
                setting: "pause_file",
                text: format!("{} exists", file.display()),
            }));
        }
        let only_file = Throttle {
            pause_file: self.settings.pause_file.clone(),
            ..Throttle::default()
        };
        if self.settings == only_file {
            return Ok(None);
        }
        // Steps that wait here for each other would ask the same.
        let mut seen = self.seen.lock().await;
        if seen.at.is_some_and(|at| at.elapsed() < EVERY) {
            return Ok(seen.reason.clone());
        }
        let reason = door.busy(&self.settings, execution).await?;
        seen.at = Some(Instant::now());
        seen.reason.clone_from(&reason);
        Ok(reason)
    }
}

fn note(record: &mut StepRecord, reason: &Busy, waited: Duration) {
    let waited_ms = i64::try_from(waited.as_millis()).unwrap_or(i64::MAX);
    let known = record.throttled.iter_mut();
    match known.into_iter().find(|p| p.setting == reason.setting) {
        Some(pause) => {
            pause.reason.clone_from(&reason.text);
            pause.waited_ms = pause.waited_ms.saturating_add(waited_ms);
        }
        None => record.throttled.push(Throttled {
            setting: reason.setting.to_owned(),
            reason: reason.text.clone(),
            waited_ms,
        }),
    }
}
