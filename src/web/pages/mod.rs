//! The status page: written by the server, without a build step, and without
//! JavaScript; with it, what is at work moves.

pub(super) mod access;
mod actions;
mod fleet;
pub(super) mod guard;
mod guesses;
mod heat;
mod lists;
mod live;
mod outsiders;
mod overview;
mod run;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::middleware;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use minijinja::{Value, context};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

pub use access::{Access, NoAccess};
pub use live::Watched;

use self::guard::Visit;
use crate::config::Config;
use crate::execute::{Live, Stop};
use crate::history::{HistoryError, Recorder, Store, with_known_databases};
use crate::notify::Teller;
use crate::report::Templates;
use crate::scheduler::Watcher;
use crate::values::with_causes;

/// Longest form, in bytes.
const LONGEST_FORM: usize = 64 << 10;

/// What pages are made from. Cheap to clone.
#[derive(Clone)]
pub struct Pages {
    /// Where runs are recorded.
    pub store: Arc<dyn Store>,
    /// Where runs that are started here are recorded.
    pub recorder: Arc<Recorder>,
    /// The configuration in force.
    pub config: watch::Receiver<Arc<Config>>,
    /// What is at work in this process.
    pub live: Live,
    /// Who may do what.
    pub access: Arc<Access>,
    /// What pages look like.
    pub templates: Arc<Templates>,
    /// How runs that are started here are stopped with the process.
    pub stop: Stop,
    /// Those that have not ended: the process waits for them.
    pub runs: TaskTracker,
    /// Name of this machine.
    pub host: String,
    /// Who notes what is worth telling.
    pub teller: Option<Arc<Teller>>,
    /// Who counts what ran.
    pub watcher: Arc<dyn Watcher>,
    /// What all who watch are shown.
    pub watched: Arc<Watched>,
}

/// Every page.
pub fn router(pages: Pages) -> Router {
    Router::new()
        .route("/", get(overview::page))
        .route("/live", get(live::stream))
        .route("/runs", get(lists::runs).post(actions::start))
        .route("/runs/{id}", get(run::page))
        .route("/runs/{id}/cancel", post(actions::cancel))
        .route("/tasks", get(lists::tasks))
        .route("/findings", get(lists::findings))
        .route("/fleet", get(fleet::page))
        .route("/trends", get(lists::trends))
        .route("/report", get(lists::report))
        .route("/next", get(lists::next))
        .route("/schedules/{name}/pause", post(actions::pausing::pause))
        .route("/schedules/{name}/resume", post(actions::pausing::resume))
        .route("/login", get(actions::login_page).post(actions::login))
        .route("/logout", post(actions::logout))
        .route("/plan", get(actions::plan))
        .fallback(unknown)
        .layer(middleware::from_fn_with_state(pages.clone(), guard::guard))
        .layer(DefaultBodyLimit::max(LONGEST_FORM))
        .with_state(pages)
}

async fn unknown() -> Sorry {
    Sorry::new(StatusCode::NOT_FOUND, "the address leads nowhere")
}

impl Pages {
    fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.borrow())
    }

    /// The same, with the databases that are known in place of the targets that stand for them.
    async fn config_with_databases(&self) -> Result<Arc<Config>, HistoryError> {
        let config = self.config();
        match config.has_servers() {
            true => Ok(Arc::new(
                with_known_databases(&config, self.store.as_ref()).await?,
            )),
            false => Ok(config),
        }
    }

    /// A page by its template, with what every page needs.
    fn show(&self, visit: &Visit, template: &str, own: Value) -> Result<Response, Sorry> {
        let zone = self.config().timezone;
        let context = context! { ..own, ..visit.context(self) };
        let html = self
            .templates
            .render(&format!("page/{template}.html.j2"), &context, zone)
            .map_err(|error| Sorry::broken(&error))?;
        Ok(Html(html).into_response())
    }
}

/// Why there is no such page.
#[derive(Clone, Debug)]
pub(in crate::web) struct Sorry {
    status: StatusCode,
    text: String,
}

impl Sorry {
    fn new(status: StatusCode, text: impl Into<String>) -> Sorry {
        Sorry {
            status,
            text: text.into(),
        }
    }

    fn broken(error: &dyn std::fmt::Display) -> Sorry {
        tracing::error!(%error, "a page could not be written");
        Sorry::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "this page could not be written; the log says why",
        )
    }
}

impl From<HistoryError> for Sorry {
    fn from(error: HistoryError) -> Sorry {
        match &error {
            HistoryError::UnknownRun { .. }
            | HistoryError::AmbiguousRun { .. }
            | HistoryError::NoRuns => Sorry::new(StatusCode::NOT_FOUND, error.to_string()),
            _ => {
                tracing::error!(error = %with_causes(&error), "the history could not be read");
                Sorry::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "the history is out of reach; the log says why",
                )
            }
        }
    }
}

impl IntoResponse for Sorry {
    /// Plain text, so that nothing in it can be markup; `guard` makes a page of it for who
    /// reads pages.
    fn into_response(self) -> Response {
        let mut answer = (self.status, format!("{}\n", self.text)).into_response();
        answer.extensions_mut().insert(self);
        answer
    }
}

impl Sorry {
    fn title(&self) -> &'static str {
        match self.status {
            StatusCode::NOT_FOUND => "There is no such page",
            StatusCode::FORBIDDEN => "That is not allowed",
            StatusCode::BAD_REQUEST => "That cannot be asked for",
            StatusCode::CONFLICT => "It is over already",
            StatusCode::TOO_MANY_REQUESTS => "Too many wrong tokens",
            StatusCode::BAD_GATEWAY => "The target did not answer as it should",
            StatusCode::SERVICE_UNAVAILABLE => "The history is out of reach",
            _ => "This did not work",
        }
    }
}
