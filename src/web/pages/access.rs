//! Who may see, and who may do.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, header};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::values::Secret;

/// The cookie of a session.
const COOKIE: &str = "maint_session";
/// After so long one has to say who one is again.
const SESSION: Duration = Duration::from_secs(12 * 3600);
/// More at once would be an attempt to fill the memory.
const MOST_SESSIONS: usize = 1000;

/// Who may see the pages, and who may do anything there.
pub struct Access {
    token: Option<Secret>,
    /// Whether reading needs the token, too: whoever listens to the world.
    guard_reading: bool,
    sessions: Mutex<HashMap<String, Session>>,
}

struct Session {
    form_token: String,
    until: Instant,
}

/// What the sender of a request may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Viewer {
    /// Look, where nobody else listens.
    Reader,
    /// Everything, from a browser: forms carry this word.
    Actor {
        /// A page of somebody else cannot know it.
        form_token: String,
    },
    /// Everything, from a program that sends the token with every request.
    Program,
}

impl Access {
    /// For a server that listens there.
    ///
    /// # Errors
    /// In words, where it listens beyond this machine without a token.
    pub fn new(token: Option<Secret>, listen: SocketAddr) -> Result<Access, String> {
        let token = token.filter(|token| !token.expose().is_empty());
        let local = listen.ip().is_loopback();
        if !local && token.is_none() {
            return Err(format!(
                "{listen} can be reached from other machines, and there is no token; \
                 set MAINT_TOKEN, or listen on 127.0.0.1"
            ));
        }
        Ok(Access {
            token,
            guard_reading: !local,
            sessions: Mutex::default(),
        })
    }

    /// Whether anybody can be allowed to do anything.
    pub(super) fn has_token(&self) -> bool {
        self.token.is_some()
    }

    pub(super) fn guards_reading(&self) -> bool {
        self.guard_reading
    }

    /// Whether it is the token. Takes as long for any word.
    pub(super) fn is_token(&self, given: &str) -> bool {
        self.token
            .as_ref()
            .is_some_and(|token| same(token.expose(), given))
    }

    pub(super) fn viewer(&self, headers: &HeaderMap) -> Viewer {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let bearer = text(header::AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer "));
        if bearer.is_some_and(|token| self.is_token(token.trim())) {
            return Viewer::Program;
        }
        let sessions = self.lock();
        session_of(headers)
            .and_then(|id| sessions.get(id))
            .filter(|session| session.until > Instant::now())
            .map_or(Viewer::Reader, |session| Viewer::Actor {
                form_token: session.form_token.clone(),
            })
    }

    /// Begins a session; the value of a `Set-Cookie` header.
    pub(super) fn begin(&self, secure: bool) -> String {
        let id = unguessable();
        let mut sessions = self.lock();
        let now = Instant::now();
        sessions.retain(|_, session| session.until > now);
        if sessions.len() >= MOST_SESSIONS {
            sessions.clear();
        }
        let session = Session {
            form_token: unguessable(),
            until: now + SESSION,
        };
        sessions.insert(id.clone(), session);
        let secure = if secure { "; Secure" } else { "" };
        format!(
            "{COOKIE}={id}; Path=/; HttpOnly; SameSite=Strict; Max-Age={}{secure}",
            SESSION.as_secs()
        )
    }

    /// Ends a session; the value of a `Set-Cookie` header.
    pub(super) fn end(&self, headers: &HeaderMap) -> String {
        if let Some(id) = session_of(headers) {
            self.lock().remove(id);
        }
        format!("{COOKIE}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0")
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Session>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Viewer {
    /// Whether they may do anything, with what their form said.
    pub(super) fn may_act(&self, form_token: Option<&str>) -> bool {
        match self {
            Viewer::Reader => false,
            Viewer::Program => true,
            Viewer::Actor { form_token: ours } => form_token.is_some_and(|given| same(ours, given)),
        }
    }
}

fn session_of(headers: &HeaderMap) -> Option<&str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find_map(|(name, value)| (name == COOKIE).then_some(value))
}

/// Compares digests without stopping early, so that neither the time nor the
/// length tells how much of a guess was right.
fn same(ours: &str, given: &str) -> bool {
    let (ours, given) = (Sha256::digest(ours), Sha256::digest(given));
    let differences = ours
        .iter()
        .zip(given.iter())
        .fold(0, |all, (a, b)| all | (a ^ b));
    differences == 0
}

/// 148 random bits from the system, without the times that they come with.
pub(super) fn unguessable() -> String {
    let mut digest = Sha256::new();
    digest.update(Uuid::now_v7().as_bytes());
    digest.update(Uuid::now_v7().as_bytes());
    let digest = digest.finalize();
    digest
        .iter()
        .take(24)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_needs_no_token() {
        let token = || Some(Secret::new("geheim"));
        assert!(Access::new(None, "127.0.0.1:1".parse().unwrap()).is_ok());
        assert!(Access::new(None, "[::1]:1".parse().unwrap()).is_ok());
        for listen in ["0.0.0.0:1", "[::]:1", "10.0.0.1:1"] {
            let listen: SocketAddr = listen.parse().unwrap();
            let refused = Access::new(None, listen).err().unwrap();
            assert!(refused.contains("MAINT_TOKEN"), "{refused}");
            assert!(Access::new(Some(Secret::new("")), listen).is_err());
            assert!(Access::new(token(), listen).unwrap().guards_reading());
        }
    }

    #[test]
    fn a_form_needs_the_word_of_its_session() {
        let access =
            Access::new(Some(Secret::new("geheim")), "127.0.0.1:1".parse().unwrap()).unwrap();
        let cookie = access.begin(false);
        let mut headers = HeaderMap::new();
        assert_eq!(access.viewer(&headers), Viewer::Reader);
        assert!(!access.viewer(&headers).may_act(Some("")));
        let pair = cookie.split(';').next().unwrap();
        headers.insert(header::COOKIE, format!("a=b; {pair}").parse().unwrap());
        let viewer = access.viewer(&headers);
        let Viewer::Actor { form_token } = &viewer else {
            unreachable!("{viewer:?}");
        };
        assert!(viewer.may_act(Some(form_token)));
        assert!(!viewer.may_act(None) && !viewer.may_act(Some("guess")));
        access.end(&headers);
        assert_eq!(access.viewer(&headers), Viewer::Reader);
        headers.insert(header::AUTHORIZATION, "Bearer geheim".parse().unwrap());
        assert!(access.viewer(&headers).may_act(None));
        headers.insert(header::AUTHORIZATION, "Bearer geheim2".parse().unwrap());
        assert!(!access.viewer(&headers).may_act(None));
    }
}
