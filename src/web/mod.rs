//! What a running `maint serve` tells over HTTP.

mod health;
mod metrics;
pub mod pages;

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::sync::watch;

use crate::config::Config;
use crate::history::Store;

pub use health::Health;
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

async fn metrics_page(State(site): State<Site>) -> Response {
    let config = site.config.borrow().clone();
    match site.metrics.page(&config, site.store.as_ref()).await {
        Ok(page) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], page).into_response(),
        Err(why) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{why}\n")).into_response(),
    }
}
