//! What is at work now.

use std::convert::Infallible;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use chrono::Utc;
use futures_util::{Stream, stream};
use minijinja::value::Serde;
use minijinja::{Value, context};

use super::guard::Visit;
use super::{Pages, Sorry};
use crate::history::{RunFilter, RunStatus};

/// How often a page that is watched is written anew.
const EVERY: Duration = Duration::from_secs(1);
/// More than anybody reads.
const MOST_RUNNING: u32 = 50;

/// The runs at work, with what this process knows of them.
pub(super) async fn at_work(pages: &Pages) -> Result<Value, Sorry> {
    let filter = RunFilter {
        statuses: vec![RunStatus::Running],
        limit: Some(MOST_RUNNING),
        ..RunFilter::default()
    };
    let runs = pages.store.runs(&filter).await?;
    let live = pages.live.now();
    let now = Utc::now();
    let runs: Vec<Value> = runs
        .iter()
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

/// The same part of the page again and again, for whoever watches.
pub(super) async fn stream(
    State(pages): State<Pages>,
    Extension(visit): Extension<Visit>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let events = stream::unfold((pages, visit, String::new()), |state| async move {
        let (pages, visit, mut last) = state;
        loop {
            if pages.stop.is_stopping() {
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
    let zone = pages.config().timezone;
    let context = context! { running => at_work(pages).await?, ..visit.context(pages) };
    pages
        .templates
        .render("page/running.html.j2", &context, zone)
        .map_err(|error| Sorry::broken(&error))
}
