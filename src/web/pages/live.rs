//! What is at work now.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Extension;
use axum::extract::State;
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use futures_util::{Stream, stream};
use minijinja::value::Serde;
use minijinja::{Value, context};
use uuid::Uuid;

use super::guard::Visit;
use super::{Pages, Sorry};
use crate::history::{self, RunFilter, RunStatus};
use crate::values::wall_clock;
use crate::web::shared::Shared;

/// How often a page that is watched is written anew.
const EVERY: Duration = Duration::from_secs(1);
/// After so long a browser has to ask again.
const LONGEST: Duration = Duration::from_secs(300);
/// No word of a session: those are hexadecimal.
const FORM_TOKEN: &str = "word-of-the-session";
/// More than anybody reads.
const MOST_RUNNING: u32 = 50;

/// The runs at work, or the one, with what this process knows of them.
pub(super) async fn at_work(pages: &Pages, only: Option<Uuid>) -> Result<Value, Sorry> {
    let filter = RunFilter {
        statuses: vec![RunStatus::Running],
        limit: Some(MOST_RUNNING),
        ..RunFilter::default()
    };
    let mut runs = history::runs(&*pages.store, &filter).await?;
    runs.retain(|run| run.status == RunStatus::Running);
    let live = pages.live.now();
    let now = wall_clock();
    let runs: Vec<Value> = runs
        .iter()
        .filter(|run| only.is_none_or(|only| run.id == only))
        .map(|run| {
            let here = live
                .iter()
                .find(|one| one.task == run.task && one.target == run.target);
            context! {
                run => Value::from(Serde(run)),
                for_ms => (now - run.started_at).num_milliseconds(),
                here => here.map(|one| Value::from(Serde(one))),
                steps => here.map(|one| {
                    one.steps.values().map(|step| Value::from(Serde(step))).collect::<Vec<_>>()
                }),
            }
        })
        .collect();
    Ok(Value::from(runs))
}

/// What all who watch are shown, so that it is made once for all of them.
#[derive(Default)]
pub struct Watched {
    /// For whoever may act: with [`FORM_TOKEN`] in place of their own.
    acting: Shared<Arc<str>>,
    reading: Shared<Arc<str>>,
}

/// The same part of the page again and again, for whoever watches.
pub(super) async fn stream(
    State(pages): State<Pages>,
    Extension(visit): Extension<Visit>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    // A browser asks again, and is asked again who it is.
    let until = Instant::now() + LONGEST;
    let events = stream::unfold((pages, visit, String::new()), move |state| async move {
        let (pages, visit, mut last) = state;
        loop {
            if pages.stop.is_stopping() || Instant::now() > until {
                return None;
            }
            if let Ok(html) = fragment(&pages, &visit).await
                && html != last
            {
                last.clone_from(&html);
                return Some((Ok(Event::default().data(html)), (pages, visit, last)));
            }
            tokio::time::sleep(EVERY).await;
        }
    });
    Sse::new(events).keep_alive(KeepAlive::default())
}

async fn fragment(pages: &Pages, visit: &Visit) -> Result<String, Sorry> {
    match visit.form_token() {
        Some(own) => {
            let made = render(pages, Some(FORM_TOKEN));
            let html = pages.watched.acting.get(EVERY, made).await?;
            Ok(html.replace(FORM_TOKEN, own))
        }
        None => {
            let made = render(pages, None);
            Ok(pages.watched.reading.get(EVERY, made).await?.to_string())
        }
    }
}

async fn render(pages: &Pages, form_token: Option<&str>) -> Result<Arc<str>, Sorry> {
    let zone = pages.config().timezone;
    let context = context! { running => at_work(pages, None).await?, form_token };
    let html = pages
        .templates
        .render("page/running.html.j2", &context, zone)
        .map_err(|error| Sorry::broken(&error))?;
    Ok(html.into())
}
