//! What can be done from a page: only with the token.

pub(super) mod pausing;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{self, FromRequest, Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::{Extension, Json};
use minijinja::value::Serde;
use minijinja::{Value, context};
use serde::Deserialize;
use uuid::Uuid;

use super::access::Refused;
use super::guard::{Origin, Visit, refuse};
use super::{Pages, Sorry};
use crate::config::{Target, Task};
use crate::history::Trigger;
use crate::pipeline::{self, Known, Request, Surroundings};
use crate::scheduler::Happened;
use crate::values::{wall_clock, with_causes};

/// A run that has begun is shown; where it takes longer to begin, the first page is.
const UNTIL_IT_RUNS: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(50);

/// More than anybody reads before a run; `maint plan` has all.
const MOST_OF_A_PLAN: usize = 100;

/// The fields of a form. A program may send none at all.
#[derive(Default)]
struct Sent {
    form_token: Option<String>,
    token: String,
    /// `TASK@TARGET`, as the form has it.
    what: String,
    /// Everything, as it came.
    body: String,
}

impl Sent {
    fn read(body: &str) -> Sent {
        let mut sent = Sent {
            body: body.to_owned(),
            ..Sent::default()
        };
        for (name, value) in url::form_urlencoded::parse(body.as_bytes()) {
            match name.as_ref() {
                "form_token" => sent.form_token = Some(value.into_owned()),
                "token" => sent.token = value.into_owned(),
                "what" => sent.what = value.into_owned(),
                _ => {}
            }
        }
        sent
    }
}

/// What somebody sent who may act, and from where; nobody else gets as far as an action.
pub(super) struct Allowed(Sent, Origin);

impl Allowed {
    /// Who is named as the one who did something.
    fn by(&self) -> String {
        format!("the status page, from {}", self.1)
    }

    /// Says in the log what is done, and from where.
    fn log(&self, what: &str) {
        tracing::info!(from = %self.1, "{what}");
    }
}

impl FromRequest<Pages> for Allowed {
    type Rejection = Response;

    async fn from_request(request: extract::Request, pages: &Pages) -> Result<Allowed, Response> {
        let visit = request.extensions().get::<Visit>().cloned();
        let path = request.uri().path().to_owned();
        let body = String::from_request(request, pages)
            .await
            .map_err(IntoResponse::into_response)?;
        let sent = Sent::read(&body);
        let Some(visit) = visit else {
            return Err(Sorry::broken(&"a request that nobody guarded").into_response());
        };
        match visit.must_act(sent.form_token.as_deref()) {
            Ok(()) => Ok(Allowed(sent, visit.peer)),
            Err(sorry) => {
                tracing::warn!(from = %visit.peer, path, "refused: {}", sorry.text);
                Err(sorry.into_response())
            }
        }
    }
}

pub(super) async fn login_page(
    State(pages): State<Pages>,
    Extension(visit): Extension<Visit>,
) -> Result<Response, Sorry> {
    pages.show(&visit, "login", context! { wrong => false })
}

pub(super) async fn login(
    State(pages): State<Pages>,
    Extension(visit): Extension<Visit>,
    headers: HeaderMap,
    body: String,
) -> Result<Response, Sorry> {
    let sent = Sent::read(&body);
    if let Err(refused) = pages.access.try_token(&sent.token, visit.peer.ip) {
        let mut answer = refuse(refused, &visit.peer).await;
        let wait = match refused {
            Refused::WrongToken => None,
            Refused::TooMany(wait) => Some(wait.as_secs() + 1),
        };
        let page = pages.show(&visit, "login", context! { wrong => true, wait })?;
        answer.extensions_mut().remove::<Sorry>();
        *answer.body_mut() = page.into_body();
        let html = HeaderValue::from_static("text/html; charset=utf-8");
        answer.headers_mut().insert(header::CONTENT_TYPE, html);
        answer.headers_mut().remove(header::CONTENT_LENGTH);
        return Ok(answer);
    }
    tracing::info!(from = %visit.peer, "somebody logged in");
    // Behind a proxy that speaks TLS the cookie never goes without.
    let secure = headers
        .get("x-forwarded-proto")
        .is_some_and(|proto| proto.as_bytes() == b"https");
    let cookie = pages.access.begin(secure);
    Ok(([(header::SET_COOKIE, cookie)], Redirect::to("/")).into_response())
}

pub(super) async fn logout(
    State(pages): State<Pages>,
    headers: HeaderMap,
    allowed: Allowed,
) -> impl IntoResponse {
    allowed.log("somebody logged out");
    let cookie = pages.access.end(&headers);
    ([(header::SET_COOKIE, cookie)], Redirect::to("/"))
}

/// A task on a target, as `TASK@TARGET` names them.
async fn named(pages: &Pages, what: &str) -> Result<(Task, Target), Sorry> {
    let config = pages.config_with_databases().await?;
    let missing = || not_found("there is no such task on such a target");
    let (task, target) = what.split_once('@').ok_or_else(missing)?;
    let task = config.tasks.get(task).ok_or_else(missing)?;
    let known = task.targets.iter().any(|one| one == target);
    let target = config.targets.get(target).filter(|_| known);
    let target = target.ok_or_else(missing)?;
    if !target.is_many() {
        return Ok((task.clone(), target.clone()));
    }
    match task.looks_at_server {
        true => Ok((task.clone(), target.of_server())),
        false => Err(Sorry::new(
            StatusCode::CONFLICT,
            format!(
                "the databases of {} are not known yet: the next run by a schedule, or `maint run`, looks them up",
                target.name
            ),
        )),
    }
}

async fn newest(pages: &Pages, task: &str, target: &str) -> Option<Uuid> {
    let run = pages.store.last_run(task, target).await;
    run.ok().flatten().map(|run| run.id)
}

/// Starts a task at once, as `maint run --now` does, and shows its run.
pub(super) async fn start(State(pages): State<Pages>, allowed: Allowed) -> Result<Response, Sorry> {
    let what = allowed.0.what.clone();
    let (task, target) = named(&pages, &what).await?;
    let around = Surroundings {
        history: Arc::clone(&pages.recorder),
        stop: pages.stop.part(),
        observer: pages.live.observer(&task.name, &target.name),
        host: pages.host.clone(),
        teller: pages.teller.clone(),
    };
    let off = match task.enabled {
        true => None,
        false => Some(format!(
            "`{}` has `enabled: false`; it is run because it was asked for by name",
            task.name
        )),
    };
    allowed.log(&match &off {
        Some(off) => format!("{what} is started: {off}"),
        None => format!("{what} is started"),
    });
    let done = |next: &str| noted(done(next), off.as_deref());
    let zone = pages.config().timezone;
    let (task_name, target_name) = (task.name.clone(), target.name.clone());
    let before = newest(&pages, &task_name, &target_name).await;
    let watcher = Arc::clone(&pages.watcher);
    let ended = pages.runs.spawn(async move {
        let request = Request {
            approved: None,
            patience: Duration::ZERO,
            task: &task,
            target: &target,
            trigger: Trigger::Manual,
            scheduled_for: None,
            schedule: None,
            again: true,
            closes_at: None,
            zone,
            news: &[],
            shared: None,
        };
        let _seats = pipeline::seats(&target, &task.limits, &around.stop).await;
        match pipeline::run(&request, &around).await {
            Ok((record, _)) => {
                watcher.on(Happened::Ran(&record));
                Some(record.id)
            }
            Err(error) => {
                tracing::error!(
                    task = task.name,
                    target = target.name,
                    "{}",
                    with_causes(&error)
                );
                None
            }
        }
    });
    // Its page shows how it goes, or why it was not started.
    let deadline = Instant::now() + UNTIL_IT_RUNS;
    while Instant::now() < deadline {
        if ended.is_finished() {
            let id = ended.await.ok().flatten();
            return Ok(done(&id.map_or("/".to_owned(), |id| format!("/runs/{id}"))));
        }
        let now = newest(&pages, &task_name, &target_name).await;
        if let Some(id) = now.filter(|id| Some(*id) != before) {
            return Ok(done(&format!("/runs/{id}")));
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(done("/"))
}

/// Which plan is asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PlanAsked {
    /// `TASK@TARGET`, as the form has it.
    what: String,
}

/// What a task would do now; only for who could start it, because it asks the target.
pub(super) async fn plan(
    State(pages): State<Pages>,
    Extension(visit): Extension<Visit>,
    Query(asked): Query<PlanAsked>,
) -> Result<Response, Sorry> {
    visit.must_act(visit.form_token())?;
    let (task, target) = named(&pages, &asked.what).await?;
    let zone = pages.config().timezone;
    let known = Known::of(pages.store.as_ref(), &task, &target.name, zone).await?;
    let plan = pipeline::plan(&task, &target, known)
        .await
        .map_err(|error| {
            tracing::warn!(
                task = task.name,
                target = target.name,
                "{}",
                with_causes(&error)
            );
            Sorry::new(StatusCode::BAD_GATEWAY, with_causes(&error))
        })?;
    let own = context! {
        task => task.name.as_str(),
        target => target.name.as_str(),
        plan => Value::from(Serde(&plan)),
        most => MOST_OF_A_PLAN,
    };
    pages.show(&visit, "plan", own)
}

/// Asks a run to stop, wherever it is at work.
pub(super) async fn cancel(
    State(pages): State<Pages>,
    Path(id): Path<String>,
    allowed: Allowed,
) -> Result<Response, Sorry> {
    let run = pages.store.run(&id).await?;
    allowed.log(&format!("run {} is to be cancelled", run.id));
    let by = allowed.by();
    if !pages.store.ask_to_cancel(run.id, &by, wall_clock()).await? {
        return Err(Sorry::new(
            StatusCode::CONFLICT,
            format!("this run has ended already: {}", run.status),
        ));
    }
    Ok(done(&format!("/runs/{}", run.id)))
}

fn not_found(text: &str) -> Sorry {
    Sorry::new(StatusCode::NOT_FOUND, text)
}

/// The same with what a program should know; a browser shows the run.
fn noted(answer: Response, note: Option<&str>) -> Response {
    let Some(note) = note else { return answer };
    let body = Json(serde_json::json!({ "done": true, "note": note })).into_response();
    let (mut parts, _) = answer.into_parts();
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, body.into_body())
}

/// Where a browser goes on; a program reads that it was done.
fn done(next: &str) -> Response {
    let mut answer = Json(serde_json::json!({ "done": true })).into_response();
    if let Ok(next) = next.parse() {
        *answer.status_mut() = StatusCode::SEE_OTHER;
        answer.headers_mut().insert(header::LOCATION, next);
    }
    answer
}
