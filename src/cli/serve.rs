//! The service: keeps the calendar, answers on HTTP, takes up changed files and sends what waits,
//! until it is told to stop.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use sd_notify::NotifyState;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::serving::Serving;
use super::Failure;
use super::context::{Context, spool_folder};
use super::signals::Signals;
use crate::config::Config;
use crate::execute::Live;
use crate::history::Recorder;
use crate::report::text::counted;
use crate::scheduler::{Options, PipelineWorker, Scheduler, SystemClock, with_reports};
use crate::values::{Secret, describe};
use crate::web::pages::{self, Access, NoAccess, Pages};
use crate::web::{Health, Metrics, Site, limited, raise_limit, router, serve};

mod files;
mod serving;
mod ticks;
mod token;

/// Longest grace of any task when the process is told to stop; Kubernetes
/// waits 30 seconds.
const LONGEST_GRACE: Duration = Duration::from_secs(25);

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
                watcher: Arc::clone(&metrics) as _,
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

/// Nobody listens where there is no systemd.
fn tell_systemd(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd could not be told");
    }
}
