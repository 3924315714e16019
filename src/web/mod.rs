//! What a running `maint serve` tells over HTTP.

mod files;
mod health;
mod listen;
mod measured;
mod metrics;
pub mod pages;
mod shared;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::sync::watch;

use self::pages::Access;
use self::pages::access::Viewer;
use self::pages::guard::{LOCAL_ONLY, Origin, is_local, refuse};
use crate::config::Config;
use crate::history::{Store, with_known_databases};

pub use files::raise_limit;
pub use health::Health;
pub use listen::{Peer, serve};
pub use metrics::Metrics;

/// What pages and probes are made from. Cheap to clone.
#[derive(Clone)]
pub struct Site {
    /// Where runs are recorded.
    pub store: Arc<dyn Store>,
    /// The configuration in force; another one after a reload.
    pub config: watch::Receiver<Arc<Config>>,
    /// Whether the scheduler is alive.
    pub health: Arc<Health>,
    /// What it counts.
    pub metrics: Arc<Metrics>,
    /// Who may read what it counts; without it, everybody.
    pub access: Option<Arc<Access>>,
}

/// A request that is not answered within this time never is.
const ANSWERED: Duration = Duration::from_secs(60);

/// Pages and probes with a time limit on each answer, and on the telling of each request.
pub fn limited(app: Router) -> Router {
    app.layer(middleware::from_fn(in_time))
}

async fn in_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(ANSWERED, next.run(request)).await {
        Ok(answer) => answer,
        Err(_) => {
            let text = format!("no answer within {} s\n", ANSWERED.as_secs());
            (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
        }
    }
}

/// `/healthz`, `/readyz` and `/metrics`; pages are merged to it.
pub fn router(site: Site) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics_page))
        .with_state(site)
}

/// Whether the process does its work; restarting it would help otherwise.
async fn healthz(State(site): State<Site>) -> Response {
    answer(site.health.alive())
}

/// Whether the process can do its work.
async fn readyz(State(site): State<Site>) -> Response {
    answer(site.health.alive().and_then(|()| site.health.ready()))
}

fn answer(asked: Result<(), String>) -> Response {
    match asked {
        Ok(()) => (StatusCode::OK, "ok\n").into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

async fn metrics_page(State(site): State<Site>, request: Request) -> Response {
    let config = site.config.borrow().clone();
    if let Some(access) = &site.access {
        if access.answers_localhost_only(config.web.public)
            && !is_local(request.headers(), request.uri())
        {
            let text = format!("{LOCAL_ONLY}\n");
            return (StatusCode::MISDIRECTED_REQUEST, text).into_response();
        }
        let from = Origin::of(&request);
        match access.viewer(request.headers(), from.ip) {
            Err(refused) => return refuse(refused, &from).await,
            Ok(Viewer::Reader) if access.guards_reading(config.web.public) => {
                let text = "this needs the token (`Authorization: Bearer …`), or \
                            `web: { public: true }` in schedules.yaml\n";
                let asks = [(header::WWW_AUTHENTICATE, "Bearer")];
                return (StatusCode::UNAUTHORIZED, asks, text).into_response();
            }
            Ok(_) => {}
        }
    }
    let known = match config.has_servers() {
        true => with_known_databases(&config, site.store.as_ref())
            .await
            .map(Arc::new),
        false => Ok(config),
    };
    let config = match known {
        Ok(config) => config,
        Err(why) => {
            return (StatusCode::INTERNAL_SERVER_ERROR, format!("{why}\n")).into_response();
        }
    };
    match site.metrics.page(&config, site.store.as_ref()).await {
        Ok(page) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], page).into_response(),
        Err(why) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{why}\n")).into_response(),
    }
}
