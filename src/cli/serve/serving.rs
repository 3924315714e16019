//! The service at work: the calendar is looked at, files are read again, what waits is sent, what is
//! old is forgotten.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use futures_util::future::LocalBoxFuture;
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use uuid::Uuid;

use super::super::Failure;
use super::super::context::Context;
use super::super::signals::Signals;
use super::{files, tell_systemd, ticks};
use crate::config::Config;
use crate::history::{Notice, Store};
use crate::notify::REFUSED;
use crate::scheduler::{PipelineWorker, Scheduler, with_reports};
use crate::values::{redact, wall_clock, with_causes};
use crate::web::{Health, Metrics};

/// How often the files are looked at; a change is taken when it was seen
/// twice, so that nobody reads a file that is half written.
const LOOK_AT_FILES: Duration = Duration::from_secs(2);

/// How often messages are sent that wait.
const TELL: Duration = Duration::from_secs(20);

/// How often the history forgets, and how much at once.
const FORGET: Duration = Duration::from_secs(3600);
const FORGET_AT_ONCE: u32 = 500;

/// How soon the log is told again of trouble that has not changed.
const TELL_TROUBLE_AGAIN: Duration = Duration::from_secs(300);

pub(super) struct Serving<'a> {
    pub(super) context: &'a Context<'a>,
    /// The file that it began with: where that is gone for a moment, another that would be found instead
    /// is not meant.
    pub(super) path: PathBuf,
    pub(super) store: Arc<dyn Store>,
    pub(super) scheduler: Scheduler,
    pub(super) worker: Arc<PipelineWorker>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) health: Arc<Health>,
    pub(super) configs: watch::Sender<Arc<Config>>,
    pub(super) history: String,
    /// What keeps the calendar from being kept, and when the log was told.
    pub(super) troubled: Option<(String, Instant)>,
}

/// Why the configuration is read again.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Why {
    /// Files have changed, or somebody wants it.
    Changed,
    /// Commands and queries are asked once more which targets there are.
    Asked,
}

/// The configuration being read: commands and queries are waited for, and nothing else has to.
type Reading<'a> = LocalBoxFuture<'a, (Why, Result<Config, Failure>)>;

/// What has been read, once it has.
async fn ready(reading: &mut Option<Reading<'_>>) -> (Why, Result<Config, Failure>) {
    match reading {
        Some(reading) => reading.await,
        None => std::future::pending().await,
    }
}

impl<'a> Serving<'a> {
    /// Begins to read the configuration.
    fn read(&self, why: Why) -> Reading<'a> {
        let (context, path) = (self.context, self.path.clone());
        if why == Why::Changed {
            match NotifyState::monotonic_usec_now() {
                Ok(moment) => tell_systemd(&[NotifyState::Reloading, moment]),
                Err(_) => tell_systemd(&[NotifyState::Reloading]),
            }
        }
        Box::pin(async move { (why, context.config_at(&path).await) })
    }

    /// Whether there are commands or queries that say which targets there are.
    fn asks(&self) -> bool {
        self.configs.borrow().outside.every.is_some()
    }

    /// When they are asked again.
    fn next_asking(&self) -> Instant {
        let every = self.configs.borrow().outside.every.unwrap_or_default();
        Instant::now() + every.max(Duration::from_secs(1))
    }

    pub(super) async fn until_stopped(
        &mut self,
        signals: &Signals,
        seen: &mut files::Seen,
    ) -> Result<(), Failure> {
        let mut ticks = ticks::Ticks::begin().await?;
        let mut hangups = signal(SignalKind::hangup())
            .map_err(|error| Failure::Other(format!("SIGHUP cannot be received: {error}")))?;
        let mut look = every(LOOK_AT_FILES);
        let mut ask = self.next_asking();
        let mut reading: Option<Reading<'_>> = None;
        let mut tell = every(TELL);
        let mut forget = every(FORGET);
        let mut telling = tokio::spawn(async {});
        let mut forgetting = tokio::spawn(async {});
        let watchdog = sd_notify::watchdog_enabled().is_some();
        self.tick().await;
        tell_systemd(&[NotifyState::Ready]);
        loop {
            tokio::select! {
                () = signals.stop.stopping() => return Ok(()),
                tick = ticks.next() => {
                    tick?;
                    self.tick().await;
                    if watchdog {
                        tell_systemd(&[NotifyState::Watchdog]);
                    }
                }
                _ = hangups.recv() => {
                    seen.take();
                    reading = Some(self.read(Why::Changed));
                }
                _ = look.tick() => if seen.changed() {
                    reading = Some(self.read(Why::Changed));
                },
                () = tokio::time::sleep_until(ask.into()), if reading.is_none() && self.asks() => {
                    reading = Some(self.read(Why::Asked));
                }
                (why, read) = ready(&mut reading) => {
                    reading = None;
                    self.reload(why, read).await;
                    ask = self.next_asking();
                    seen.with(&self.configs.borrow().inventories);
                }
                _ = tell.tick() => if telling.is_finished() {
                    let (teller, store) = (self.worker.teller(), Arc::clone(&self.store));
                    telling = tokio::spawn(async move {
                        match teller.tell(store.as_ref(), wall_clock(), true).await {
                            Ok(done) => for problem in done.problems {
                                tracing::warn!("a message was not sent: {problem}");
                            },
                            Err(error) => tracing::error!(%error, "messages could not be sent"),
                        }
                    });
                },
                _ = forget.tick() => if forgetting.is_finished() {
                    let store = Arc::clone(&self.store);
                    let kept = self.scheduler.config().history_retention.get();
                    forgetting = tokio::spawn(async move { forget_old(store.as_ref(), kept).await });
                },
            }
        }
    }

    async fn tick(&mut self) {
        let trouble = match self.scheduler.tick().await {
            Ok(_) => {
                if self.troubled.take().is_some() {
                    tracing::info!("the calendar goes on");
                }
                None
            }
            Err(error) => {
                let told = redact(&with_causes(&error));
                // Each second the same would fill the very disk that is full.
                let again = self.troubled.as_ref().is_some_and(|(before, at)| {
                    *before == told && at.elapsed() < TELL_TROUBLE_AGAIN
                });
                if !again {
                    tracing::error!("{told}");
                    self.troubled = Some((told, Instant::now()));
                }
                Some(error.to_string())
            }
        };
        self.health.ticked(trouble);
    }

    /// Takes what was read. A broken configuration changes nothing.
    async fn reload(&mut self, why: Why, read: Result<Config, Failure>) {
        let answered = self.configs.borrow().outside.answered;
        match (why, &read) {
            (Why::Asked, Ok(config)) if config.outside.answered == answered => return,
            // Asked again soon; nobody has changed anything.
            (Why::Asked, Err(failure)) => {
                tracing::warn!(
                    "the targets known so far are kept:\n{}",
                    redact(&with_causes(&failure))
                );
                return;
            }
            _ => {}
        }
        let taken = match read {
            Ok(config) => self.take(config).await,
            Err(failure) => Err(redact(&with_causes(&failure))),
        };
        self.metrics.reloaded(taken.is_ok());
        match taken {
            Ok(()) => tracing::warn!("the configuration was read again"),
            Err(why) => {
                tracing::error!(
                    "the changed configuration is refused, the old one goes on:\n{why}"
                );
                self.note_refused(&why).await;
            }
        }
        tell_systemd(&[NotifyState::Ready]);
    }

    async fn take(&mut self, config: Config) -> Result<(), String> {
        if config.history.expose() != self.history {
            return Err("`history` has changed: that needs a restart".to_owned());
        }
        let config = Arc::new(config);
        self.scheduler
            .reload(Arc::new(with_reports(&config)))
            .await
            .map_err(|error| redact(&with_causes(&error)))?;
        let words = self.context.teller(&config);
        self.worker.reload(&words, self.context.templates(&config));
        self.configs.send_replace(config);
        Ok(())
    }

    /// Keeps it until somebody is told.
    async fn note_refused(&self, why: &str) {
        if self.configs.borrow().notify.is_none() {
            return;
        }
        let notice = Notice {
            id: Uuid::now_v7(),
            at: wall_clock(),
            event: REFUSED.to_owned(),
            task: String::new(),
            target: crate::values::host(),
            schedule: None,
            run: None,
            text: format!("What was in force before goes on.\n{why}"),
        };
        if let Err(error) = self.store.add_notices(&[notice]).await {
            tracing::error!(%error, "the notice could not be kept");
        }
    }
}

fn every(period: Duration) -> tokio::time::Interval {
    let mut interval = tokio::time::interval_at(tokio::time::Instant::now() + period, period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

async fn forget_old(store: &dyn Store, kept: Duration) {
    let Some(before) = TimeDelta::from_std(kept)
        .ok()
        .and_then(|kept| wall_clock().checked_sub_signed(kept))
    else {
        return;
    };
    loop {
        match store.forget(before, FORGET_AT_ONCE).await {
            Ok(0) => return,
            // Others use the history, too.
            Ok(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            Err(error) => {
                tracing::warn!(%error, "the history could not forget");
                return;
            }
        }
    }
}
