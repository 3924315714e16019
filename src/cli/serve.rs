//! The service: keeps the calendar, answers on HTTP, takes up changed files and sends what waits,
//! until it is told to stop.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use chrono::TimeDelta;
use futures_util::future::LocalBoxFuture;
use sd_notify::NotifyState;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::Failure;
use super::context::{Context, spool_folder};
use super::signals::Signals;
use crate::config::Config;
use crate::execute::Live;
use crate::history::{Notice, Recorder, Store};
use crate::notify::REFUSED;
use crate::report::text::counted;
use crate::scheduler::{Options, PipelineWorker, Scheduler, SystemClock, with_reports};
use crate::values::{Secret, describe, redact, wall_clock, with_causes};
use crate::web::pages::{self, Access, NoAccess, Pages};
use crate::web::{Health, Metrics, Site, limited, raise_limit, router, serve};

mod files;
mod ticks;
mod token;

/// How often the files are looked at; a change is taken when it was seen
/// twice, so that nobody reads a file that is half written.
const LOOK_AT_FILES: Duration = Duration::from_secs(2);

/// How often messages are sent that wait.
const TELL: Duration = Duration::from_secs(20);

/// How often the history forgets, and how much at once.
const FORGET: Duration = Duration::from_secs(3600);
const FORGET_AT_ONCE: u32 = 500;

/// Longest grace of any task when the process is told to stop; Kubernetes
/// waits 30 seconds.
const LONGEST_GRACE: Duration = Duration::from_secs(25);

/// How soon the log is told again of trouble that has not changed.
const TELL_TROUBLE_AGAIN: Duration = Duration::from_secs(300);

/// Runs the schedules until it is stopped, and answers on HTTP.
///
/// SIGHUP or a changed file reloads the configuration; a broken one is
/// refused. SIGTERM begins nothing new and stops what runs cleanly.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  maint serve\n  maint serve --listen 0.0.0.0:8288 --token-file /run/secrets/maint-token   # in a container\n\nHTTP: / (the status page), /healthz, /readyz, /metrics"
)]
pub(super) struct Serve {
    /// Where /metrics and the probes are answered
    #[arg(
        long,
        value_name = "ADDRESS",
        default_value = "127.0.0.1:8288",
        value_parser = super::usage::address,
        env = "MAINT_LISTEN"
    )]
    listen: SocketAddr,
    /// File with the token that reading and acting on the page need, 16 characters at least; the
    /// variable MAINT_TOKEN may hold the token itself
    #[arg(long, value_name = "FILE", env = "MAINT_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// Refused: whoever lists the processes of this machine would read it
    #[arg(long, value_name = "SECRET", hide = true)]
    token: Option<Secret>,
}

impl Serve {
    pub(super) async fn call(&self, context: &Context<'_>) -> Result<u8, Failure> {
        let files = raise_limit();
        let token = token::read(self.token.is_some(), self.token_file.as_deref())?;
        // Before anything is read: a change from here on is seen.
        let path = context.config_path()?;
        let mut seen = files::Seen::new(path.clone());
        let config = Arc::new(context.config_at(&path).await?);
        seen.with(&config.inventories);
        let store = context.history(&config).await?;
        let spool = spool_folder(&config);
        let recorder = Arc::new(Recorder::start(Arc::clone(&store), spool));
        let listener = TcpListener::bind(self.listen).await.map_err(|error| {
            Failure::Other(format!(
                "{} cannot be listened on: {}",
                self.listen,
                describe(&error)
            ))
        })?;
        let signals = Signals::without_hangup(patience(&config), grace(&config));
        let (configs, configured) = watch::channel(Arc::clone(&config));
        let metrics = Arc::new(Metrics::default());
        let health = Arc::new(Health::default());
        let scheduled = Arc::new(with_reports(&config));
        metrics.begin(&scheduled, store.as_ref()).await?;
        let host = crate::values::host();
        let live = Live::default();
        let worker = Arc::new(PipelineWorker::new(
            Arc::clone(&recorder),
            Arc::clone(&metrics) as _,
            host.clone(),
            live.clone(),
            Arc::new(context.teller(&config)),
            context.templates(&config),
        ));
        let scheduler = Scheduler::new(
            scheduled,
            Arc::clone(&store),
            Arc::new(SystemClock),
            Arc::clone(&worker) as _,
            Arc::clone(&metrics) as _,
            Options::for_host(&host),
            signals.stop.clone(),
        )
        .await?;
        let mut app = Router::new();
        let started = TaskTracker::new();
        let access = match Access::new(token, self.listen, config.web.public) {
            Ok(access) => Some(Arc::new(access)),
            Err(error @ NoAccess::ShortToken(_)) => return Err(Failure::Usage(error.to_string())),
            // Without a token metrics are for everybody who reaches them.
            Err(why) => {
                tracing::warn!("there is no status page: {why}");
                None
            }
        };
        if let Some(access) = &access {
            app = app.merge(pages::router(Pages {
                recorder: Arc::clone(&recorder),
                store: Arc::clone(&store),
                config: configured.clone(),
                live,
                access: Arc::clone(access),
                templates: Arc::new(context.templates(&config)),
                stop: signals.stop.clone(),
                runs: started.clone(),
                host,
                teller: Some(worker.teller()),
                watched: Arc::default(),
            }));
        }
        let site = Site {
            store: Arc::clone(&store),
            config: configured,
            health: Arc::clone(&health),
            metrics: Arc::clone(&metrics),
            access,
        };
        app = app.merge(router(site));
        let over = CancellationToken::new();
        let address = listener.local_addr().unwrap_or(self.listen);
        let web = {
            let over = over.clone();
            tokio::spawn(async move { serve(listener, limited(app), files, over).await })
        };
        errln!(
            "maint {} serves {}; http://{address}",
            env!("CARGO_PKG_VERSION"),
            counted(
                config.schedules.values().filter(|one| one.enabled).count(),
                "schedule"
            ),
        );
        let mut serving = Serving {
            context,
            path,
            store: Arc::clone(&store),
            scheduler,
            worker: Arc::clone(&worker),
            metrics,
            health,
            configs,
            history: config.history.expose().to_owned(),
            troubled: None,
        };
        let served = serving.until_stopped(&signals, &mut seen).await;
        tell_systemd(&[NotifyState::Stopping]);
        serving.scheduler.idle().await;
        started.close();
        started.wait().await;
        over.cancel();
        // Nobody is kept waiting by a client that does not hang up.
        let _ = tokio::time::timeout(Duration::from_secs(2), web).await;
        let teller = worker.teller();
        super::run::tell(&teller, store.as_ref(), &signals.stop).await;
        teller.pinged(&signals.stop).await;
        store.close().await;
        served?;
        // Being told to stop is how a service ends well.
        Ok(0)
    }
}

struct Serving<'a> {
    context: &'a Context<'a>,
    /// The file that it began with: where that is gone for a moment, another that would be found instead
    /// is not meant.
    path: PathBuf,
    store: Arc<dyn Store>,
    scheduler: Scheduler,
    worker: Arc<PipelineWorker>,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    configs: watch::Sender<Arc<Config>>,
    history: String,
    /// What keeps the calendar from being kept, and when the log was told.
    troubled: Option<(String, Instant)>,
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

    async fn until_stopped(
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

/// How long steps may go on, by the longest grace of any task, within what a supervisor waits for.
fn patience(config: &Config) -> Duration {
    let longest = config.tasks.values().map(|task| task.limits.patience());
    longest.max().unwrap_or_default().min(LONGEST_GRACE / 5)
}

/// How long the process may take to end.
fn grace(config: &Config) -> Duration {
    let longest = config.tasks.values().map(|task| task.limits.grace.get());
    longest.max().unwrap_or_default().max(LONGEST_GRACE)
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

/// Nobody listens where there is no systemd.
fn tell_systemd(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd could not be told");
    }
}
