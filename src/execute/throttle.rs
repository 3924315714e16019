//! Leaves the server to others while it has enough to do.

mod outside;

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, OnceCell};

use self::outside::client;
use super::{Busy, Door, Event, Execution, StopReason};
use crate::config::Throttle;
use crate::engines::EngineError;
use crate::history::{StepRecord, Throttled};
use crate::values::with_causes;

/// How often the server is asked while something waits, or is at work.
const EVERY: Duration = Duration::from_secs(1);
/// What takes no longer than this is asked anew before each batch: then a limit is passed by one at most.
const CHEAP: Duration = Duration::from_millis(100);
/// Other answers hold for so many times what it took to get them, and no longer than [`EVERY`]: little
/// time goes into asking.
const SHARE: u32 = 4;
/// So often in a row it may be unknown whether a run has to end.
const UNSEEN: u32 = 5;
/// How long all questions to the server may take; each has a limit there as well, which one that
/// says nothing does not keep.
const ASKED_WITHIN: Duration = Duration::from_secs(60);

/// The conditions under which a run pauses, and what was last seen of them.
/// Shared by all steps of a run.
pub struct Throttler {
    settings: Throttle,
    /// Of these, what pauses a run.
    pausing: Throttle,
    seen: Mutex<Seen>,
    client: Result<reqwest::Client, String>,
    aborted: OnceLock<String>,
    /// Whether it has been looked, before the first step, for what ends a run.
    looked: OnceCell<()>,
    /// What it waited for when the time of the run was up.
    to_the_end: OnceLock<String>,
}

/// What a run would be held up by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Whether that is not likely to pass by itself.
    pub for_good: bool,
    /// What it is, and by which setting.
    pub text: String,
}

#[derive(Default)]
struct Seen {
    at: Option<Instant>,
    /// How long it took to see it.
    took: Duration,
    reason: Option<Busy>,
}

impl Throttler {
    /// A throttler for a task with these settings.
    pub fn new(settings: Throttle) -> Throttler {
        let client = match &settings.http {
            Some(_) => client(),
            None => Err(String::new()),
        };
        Throttler {
            pausing: settings.pausing(),
            settings,
            seen: Mutex::default(),
            client,
            aborted: OnceLock::new(),
            looked: OnceCell::new(),
            to_the_end: OnceLock::new(),
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
        self.looked
            .get_or_try_init(|| self.end_before_the_first(door, execution))
            .await?;
        let mut told = None;
        let mut last = None;
        loop {
            let late = execution.deadline.is_some_and(|d| Instant::now() >= d);
            if let (true, Some(text)) = (late, &last) {
                let _ = self.to_the_end.set(String::clone(text));
            }
            if late || execution.stop.is_stopping() {
                return Ok(());
            }
            let Some(reason) = self.reason(door).await? else {
                return Ok(());
            };
            if reason.abort {
                self.abort(&reason, StopReason::TooMuch, execution);
                return Ok(());
            }
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
            last = Some(format!("{} (`throttle.{}`)", reason.text, reason.setting));
        }
    }

    /// Ends the run where there is a reason to before anything was done: whoever looks on beside the
    /// steps may see it only when the first of them is over.
    async fn end_before_the_first<D: Door>(
        &self,
        door: &D,
        execution: &Execution,
    ) -> Result<(), EngineError> {
        if let Some(limits) = self.settings.aborting()
            && let Some(reason) = too_much(door, &limits).await?
        {
            self.abort(&reason, StopReason::TooMuch, execution);
        }
        Ok(())
    }

    /// Ends the run once there is a reason to; never ends itself. Carried on
    /// beside the steps, so that what is at work is cancelled, too.
    pub(super) async fn end_when_too_much<D: Door>(&self, door: &D, execution: &Execution) {
        let Some(limits) = self.settings.aborting() else {
            return std::future::pending().await;
        };
        let mut unseen = 0;
        while !execution.stop.is_stopping() {
            match too_much(door, &limits).await {
                Ok(Some(reason)) => self.abort(&reason, StopReason::TooMuch, execution),
                Ok(None) => unseen = 0,
                Err(error) => {
                    unseen += 1;
                    tracing::warn!(%error, unseen, "cannot see whether the run has to end");
                    if unseen >= UNSEEN {
                        let reason = Busy {
                            abort: true,
                            passing: false,
                            setting: "abort_*",
                            text: format!(
                                "it could not be seen whether the run has to end: {error}"
                            ),
                        };
                        self.abort(&reason, StopReason::Unseen, execution);
                    }
                }
            }
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = execution.stop.stopping() => {}
            }
        }
        std::future::pending().await
    }

    fn abort(&self, reason: &Busy, why: StopReason, execution: &Execution) {
        let text = format!("{} (`throttle.{}`)", reason.text, reason.setting);
        // The first reason is the one that counts.
        let _ = self.aborted.set(text);
        execution.stop.at_once(why);
    }

    /// What answers how much is free on the disk of the server.
    pub fn free_disk_query(&self) -> Option<&str> {
        self.settings.free_disk_query.as_deref()
    }

    /// Why the run was ended.
    pub fn aborted(&self) -> Option<&str> {
        self.aborted.get().map(String::as_str)
    }

    /// What the run waited for when its time was up.
    pub(super) fn to_the_end(&self) -> Option<&str> {
        self.to_the_end.get().map(String::as_str)
    }

    /// Asks everything once that a run would ask before each step, for who looks beforehand.
    pub async fn look<D: Door>(&self, door: &D) -> Vec<Held> {
        let mut all = Vec::new();
        if let Some(file) = self
            .settings
            .pause_file
            .as_ref()
            .filter(|file| file.exists())
        {
            all.push(Held {
                for_good: false,
                text: format!(
                    "would wait: {} exists (`throttle.pause_file`)",
                    file.display()
                ),
            });
        }
        if let Some(url) = &self.settings.http
            && let Some(held) = self.not_answered(url).await
        {
            all.push(Held {
                text: format!("would wait: {} (`throttle.http`)", held.text),
                ..held
            });
        }
        let pausing = Some(&self.pausing).filter(|all| all.asks_the_server());
        let aborting = self.settings.aborting();
        for (limits, ends) in [(pausing, false), (aborting.as_ref(), true)] {
            let Some(limits) = limits else { continue };
            let asked = tokio::time::timeout(ASKED_WITHIN, door.busy(limits)).await;
            let held = match asked.unwrap_or_else(|_| Err(overdue())) {
                Ok(None) => continue,
                Ok(Some(reason)) if reason.abort || (ends && reason.setting != "replica_gone") => {
                    let setting = match reason.abort {
                        true => reason.setting,
                        false => aborting_name(reason.setting),
                    };
                    Held {
                        for_good: true,
                        text: format!(
                            "would end before its first step: {} (`throttle.{setting}`)",
                            reason.text
                        ),
                    }
                }
                Ok(Some(reason)) => Held {
                    for_good: reason.setting == "replica_gone",
                    text: format!(
                        "would wait: {} (`throttle.{}`)",
                        reason.text, reason.setting
                    ),
                },
                Err(error) => Held {
                    for_good: true,
                    text: format!("each step would fail: {}", with_causes(&error)),
                },
            };
            if !all.contains(&held) {
                all.push(held);
            }
        }
        all
    }

    async fn reason<D: Door>(&self, door: &D) -> Result<Option<Busy>, EngineError> {
        if let Some(file) = &self.settings.pause_file
            && file.exists()
        {
            return Ok(Some(Busy {
                abort: false,
                passing: false,
                setting: "pause_file",
                text: format!("{} exists", file.display()),
            }));
        }
        if let Some(url) = &self.settings.http
            && let Some(held) = self.not_answered(url).await
        {
            return Ok(Some(Busy {
                abort: false,
                passing: false,
                setting: "http",
                text: held.text,
            }));
        }
        if !self.pausing.asks_the_server() {
            return Ok(None);
        }
        // Steps that wait here for each other would ask the same.
        let mut seen = self.seen.lock().await;
        let holds = match seen.took < CHEAP {
            true => Duration::ZERO,
            false => EVERY.min(seen.took * SHARE),
        };
        if seen.at.is_some_and(|at| at.elapsed() < holds) {
            return Ok(seen.reason.clone());
        }
        let began = Instant::now();
        let asked = tokio::time::timeout(ASKED_WITHIN, door.busy(&self.pausing));
        let reason = asked.await.unwrap_or_else(|_| Err(overdue()))?;
        seen.took = began.elapsed();
        seen.at = Some(Instant::now());
        seen.reason.clone_from(&reason);
        Ok(reason)
    }
}

/// The reason to end a run that there is now.
async fn too_much<D: Door>(door: &D, limits: &Throttle) -> Result<Option<Busy>, EngineError> {
    let asked = tokio::time::timeout(ASKED_WITHIN, door.busy(limits)).await;
    Ok(match asked.unwrap_or_else(|_| Err(overdue()))? {
        // What a pause is for ends nothing.
        Some(reason) if reason.setting == "replica_gone" && !reason.abort => None,
        Some(reason) if reason.passing => None,
        found => found.map(|reason| Busy {
            setting: aborting_name(reason.setting),
            ..reason
        }),
    })
}

fn overdue() -> EngineError {
    EngineError::NotVisible {
        what: format!(
            "what `throttle` asks for had no answer within {} s",
            ASKED_WITHIN.as_secs()
        ),
    }
}

/// The setting that ends a run, by the one that would pause it.
fn aborting_name(setting: &'static str) -> &'static str {
    match setting {
        "max_replica_lag" => "abort_replica_lag",
        "max_replica_lag_bytes" => "abort_replica_lag_bytes",
        "max_active_sessions" => "abort_active_sessions",
        "max_wal_rate" => "abort_wal_rate",
        "min_free_disk" => "abort_free_disk",
        "query" => "abort_query",
        other => other,
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
