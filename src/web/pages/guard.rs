//! What every request passes, and what every answer carries.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use minijinja::{Value, context};

use super::access::{Refused, Viewer, unguessable};
use super::{Pages, Sorry};
use crate::values::wall_clock;
use crate::web::Peer;

/// Whoever guesses has to wait.
const AFTER_A_WRONG_TOKEN: Duration = Duration::from_millis(500);

/// What whoever did not say who they are is told.
const NEEDS_THE_TOKEN: &str = "this needs the token: log in, or send `Authorization: Bearer …`";

/// Where a request came from, for people: the other end of the connection, and what a proxy
/// there says of its own other end, which anybody can claim.
#[derive(Clone, Debug)]
pub(in crate::web) struct Origin {
    pub(in crate::web) ip: Option<IpAddr>,
    claimed: Option<String>,
}

impl Origin {
    pub(in crate::web) fn of(request: &Request) -> Origin {
        let claimed = request.headers().get("x-forwarded-for");
        Origin {
            ip: request.extensions().get::<Peer>().map(|peer| peer.0.ip()),
            claimed: claimed.and_then(|value| value.to_str().ok()).map(|text| {
                let plain = |c: &char| c.is_ascii_hexdigit() || matches!(c, '.' | ':' | ',' | ' ');
                text.chars().filter(plain).take(100).collect()
            }),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ip {
            Some(ip) => write!(f, "{ip}")?,
            None => f.write_str("an unknown address")?,
        }
        match &self.claimed {
            Some(claimed) => write!(f, " (which says it asks for {claimed})"),
            None => Ok(()),
        }
    }
}

/// What whoever sent a wrong token is told, and the log is told of them.
pub(in crate::web) async fn refuse(refused: Refused, from: &Origin) -> Response {
    match refused {
        Refused::WrongToken => {
            tracing::warn!(%from, "a wrong token was sent");
            tokio::time::sleep(AFTER_A_WRONG_TOKEN).await;
            let text = "that is not the token";
            Sorry::new(StatusCode::FORBIDDEN, text).into_response()
        }
        Refused::TooMany(wait) => {
            tracing::debug!(%from, "a token was not looked at after many wrong ones");
            let seconds = wait.as_secs() + 1;
            let text = format!("too many wrong tokens came from there; wait {seconds} s");
            let mut answer = Sorry::new(StatusCode::TOO_MANY_REQUESTS, text).into_response();
            answer
                .headers_mut()
                .insert(header::RETRY_AFTER, seconds.into());
            answer
        }
    }
}

/// One request: who asks, and the word that its scripts and styles carry.
#[derive(Clone, Debug)]
pub(super) struct Visit {
    pub(super) viewer: Viewer,
    pub(super) peer: Origin,
    nonce: String,
    path: String,
}

impl Visit {
    pub(super) fn context(&self, pages: &Pages) -> Value {
        let form_token = self.form_token();
        context! {
            nonce => self.nonce.as_str(),
            path => self.path.as_str(),
            form_token,
            may_act => self.viewer != Viewer::Reader,
            has_token => pages.access.has_token(),
            instance => pages.host.as_str(),
            now => wall_clock().to_rfc3339(),
        }
    }

    /// The word that the forms of this session carry.
    pub(super) fn form_token(&self) -> Option<&str> {
        match &self.viewer {
            Viewer::Actor { form_token } => Some(form_token),
            _ => None,
        }
    }

    /// Refuses whoever may not act.
    pub(super) fn must_act(&self, form_token: Option<&str>) -> Result<(), Sorry> {
        if self.viewer.may_act(form_token) {
            return Ok(());
        }
        let text = match &self.viewer {
            Viewer::Reader => NEEDS_THE_TOKEN,
            _ => "this form does not belong to your session: load the page again",
        };
        Err(Sorry::new(StatusCode::FORBIDDEN, text))
    }
}

/// What is said to who asks by another name. Else a page anywhere could have its name point at this
/// machine, and read what only this machine may.
pub(in crate::web) const LOCAL_ONLY: &str =
    "this server answers to localhost only; MAINT_TOKEN lets it listen elsewhere";

pub(super) async fn guard(
    State(pages): State<Pages>,
    mut request: Request,
    next: Next,
) -> Response {
    let public = pages.config().web.public;
    if pages.access.answers_localhost_only(public) && !is_local(request.headers(), request.uri()) {
        return Sorry::new(StatusCode::MISDIRECTED_REQUEST, LOCAL_ONLY).into_response();
    }
    let peer = Origin::of(&request);
    let viewer = match pages.access.viewer(request.headers(), peer.ip) {
        Ok(viewer) => viewer,
        Err(refused) => return refuse(refused, &peer).await,
    };
    let visit = Visit {
        viewer,
        peer,
        nonce: unguessable(),
        path: request.uri().path().to_owned(),
    };
    let nonce = visit.nonce.clone();
    let reads_pages = request
        .headers()
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|accepted| accepted.contains("text/html"));
    let seen = visit.clone();
    let outside = pages.access.guards_reading(public) && visit.viewer == Viewer::Reader;
    let mut answer = if outside && visit.path != "/login" {
        // For a program, to be sent elsewhere after an action means that it was done.
        match request.method() {
            &Method::GET | &Method::HEAD => Redirect::to("/login").into_response(),
            _ => {
                tracing::warn!(from = %visit.peer, path = visit.path, "refused: no token was sent");
                Sorry::new(StatusCode::FORBIDDEN, NEEDS_THE_TOKEN).into_response()
            }
        }
    } else {
        request.extensions_mut().insert(visit);
        next.run(request).await
    };
    if reads_pages && let Some(sorry) = answer.extensions_mut().remove::<Sorry>() {
        answer = as_page(&pages, &seen, &sorry, answer);
    }
    protect(answer.headers_mut(), &nonce);
    answer
}

/// The same answer as a page, where one can be written.
fn as_page(pages: &Pages, visit: &Visit, sorry: &Sorry, answer: Response) -> Response {
    let error = context! {
        title => sorry.title(),
        text => sorry.text.as_str(),
        status => sorry.status.as_u16(),
    };
    let Ok(page) = pages.show(visit, "error", context! { error }) else {
        return answer;
    };
    let (mut head, _) = answer.into_parts();
    let (page_head, body) = page.into_parts();
    head.headers.remove(header::CONTENT_LENGTH);
    head.headers.extend(page_head.headers);
    Response::from_parts(head, body)
}

fn protect(headers: &mut HeaderMap, nonce: &str) {
    let policy = format!(
        "default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; \
         img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; \
         frame-ancestors 'none'"
    );
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "same-origin"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

/// Whether the request was meant for this machine by a name of this machine.
pub(in crate::web) fn is_local(headers: &HeaderMap, uri: &Uri) -> bool {
    let host = headers
        .get(header::HOST)
        .and_then(|value| value.to_str().ok())
        .or(uri.host());
    let Some(host) = host else { return false };
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost")
        || name
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback())
}
