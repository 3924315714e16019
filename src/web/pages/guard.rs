//! What every request passes, and what every answer carries.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use chrono::Utc;
use minijinja::{Value, context};

use super::access::{Viewer, unguessable};
use super::{Pages, Sorry};

/// One request: who asks, and the word that its scripts and styles carry.
#[derive(Clone, Debug)]
pub(super) struct Visit {
    pub(super) viewer: Viewer,
    nonce: String,
    path: String,
}

impl Visit {
    pub(super) fn context(&self, pages: &Pages) -> Value {
        let form_token = match &self.viewer {
            Viewer::Actor { form_token } => Some(form_token.as_str()),
            _ => None,
        };
        context! {
            nonce => self.nonce.as_str(),
            path => self.path.as_str(),
            form_token,
            may_act => self.viewer != Viewer::Reader,
            has_token => pages.access.has_token(),
            instance => pages.host.as_str(),
            now => Utc::now().to_rfc3339(),
        }
    }

    /// Refuses whoever may not act.
    pub(super) fn must_act(&self, form_token: Option<&str>) -> Result<(), Sorry> {
        if self.viewer.may_act(form_token) {
            return Ok(());
        }
        let text = match &self.viewer {
            Viewer::Reader => "this needs the token: log in, or send `Authorization: Bearer …`",
            _ => "this form does not belong to your session: load the page again",
        };
        Err(Sorry::new(StatusCode::FORBIDDEN, text))
    }
}

pub(super) async fn guard(
    State(pages): State<Pages>,
    mut request: Request,
    next: Next,
) -> Response {
    if !pages.access.guards_reading() && !is_local(request.headers(), request.uri()) {
        // Else a page anywhere could have its name point at this machine, and
        // read what only this machine may.
        let text = "this server answers to localhost only; MAINT_TOKEN lets it listen elsewhere";
        return Sorry::new(StatusCode::MISDIRECTED_REQUEST, text).into_response();
    }
    let visit = Visit {
        viewer: pages.access.viewer(request.headers()),
        nonce: unguessable(),
        path: request.uri().path().to_owned(),
    };
    let nonce = visit.nonce.clone();
    let outside = pages.access.guards_reading() && visit.viewer == Viewer::Reader;
    let mut answer = if outside && visit.path != "/login" {
        Redirect::to("/login").into_response()
    } else {
        request.extensions_mut().insert(visit);
        next.run(request).await
    };
    protect(answer.headers_mut(), &nonce);
    answer
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
fn is_local(headers: &HeaderMap, uri: &Uri) -> bool {
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
