//! Who may see, and who may do.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, header};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::guesses::Guesses;
use crate::values::Secret;

/// The cookie of a session.
const COOKIE: &str = "maint_session";
/// After so long one has to say who one is again.
const SESSION: Duration = Duration::from_secs(12 * 3600);
/// More at once would be an attempt to fill the memory.
const MOST_SESSIONS: usize = 1000;

/// Shorter words can be guessed. `openssl rand -hex 16` makes a good one.
const SHORTEST_TOKEN: usize = 16;

/// Who may see the pages, and who may do anything there.
pub struct Access {
    token: Option<Secret>,
    /// Whether others than this machine can reach it.
    beyond: bool,
    guesses: Guesses,
    sessions: Mutex<HashMap<String, Session>>,
}

struct Session {
    form_token: String,
    until: Instant,
}

/// What the sender of a request may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::web) enum Viewer {
    /// Look, where reading is for everybody.
    Reader,
    /// Everything, from a browser: forms carry this word.
    Actor {
        /// A page of somebody else cannot know it.
        form_token: String,
    },
    /// Everything, from a program that sends the token with every request.
    Program,
}

/// Why a request that carries a token goes no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::web) enum Refused {
    /// It is another token.
    WrongToken,
    /// Too many were wrong; the next is looked at after this time.
    TooMany(Duration),
}

/// Why there can be no pages with this token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoAccess {
    /// It is too short to be a secret.
    #[error(
        "the token has {0} characters; it needs at least {SHORTEST_TOKEN} \
         (`openssl rand -hex 16` makes one)"
    )]
    ShortToken(usize),
    /// Others could read, and nobody said that they may.
    #[error(
        "{0} can be reached from other machines, and there is no token: set MAINT_TOKEN or \
         --token-file, say `web: {{ public: true }}`, or listen on 127.0.0.1"
    )]
    NoToken(SocketAddr),
}

impl Access {
    /// For a server that listens there; `public`: everybody may read.
    ///
    /// # Errors
    /// With a token that can be guessed, and without one where others could read what is not
    /// public.
    pub fn new(
        token: Option<Secret>,
        listen: SocketAddr,
        public: bool,
    ) -> Result<Access, NoAccess> {
        let token = token.filter(|token| !token.expose().is_empty());
        let beyond = !listen.ip().is_loopback();
        if let Some(token) = &token {
            let characters = token.expose().chars().count();
            if characters < SHORTEST_TOKEN {
                return Err(NoAccess::ShortToken(characters));
            }
        } else if beyond && !public {
            return Err(NoAccess::NoToken(listen));
        }
        Ok(Access {
            token,
            beyond,
            guesses: Guesses::default(),
            sessions: Mutex::default(),
        })
    }

    /// Whether anybody can be allowed to do anything.
    pub(super) fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// Whether reading needs the token, too.
    pub(in crate::web) fn guards_reading(&self, public: bool) -> bool {
        !public && (self.token.is_some() || self.beyond)
    }

    /// Whether it only answers whoever asks for this machine by a name of this machine: where
    /// there is no token, and nobody else is meant to read.
    pub(in crate::web) fn answers_localhost_only(&self, public: bool) -> bool {
        !public && self.token.is_none() && !self.beyond
    }

    /// Looks at a token that came from there. Takes as long for any word, and does not look at
    /// many wrong ones.
    pub(super) fn try_token(&self, given: &str, from: Option<IpAddr>) -> Result<(), Refused> {
        let now = Instant::now();
        self.guesses.may_try(from, now).map_err(Refused::TooMany)?;
        let right = self
            .token
            .as_ref()
            .is_some_and(|token| same(token.expose(), given));
        if right {
            return Ok(());
        }
        self.guesses.was_wrong(from, now);
        Err(Refused::WrongToken)
    }

    /// Who sent a request, from there.
    ///
    /// # Errors
    /// When it carries a token that is wrong, or may not be looked at now.
    pub(in crate::web) fn viewer(
        &self,
        headers: &HeaderMap,
        from: Option<IpAddr>,
    ) -> Result<Viewer, Refused> {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        // The name of the scheme is spelled in any way.
        let bearer = text(header::AUTHORIZATION)
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        if let Some((_, token)) = bearer.filter(|_| self.has_token()) {
            self.try_token(token.trim(), from)?;
            return Ok(Viewer::Program);
        }
        let sessions = self.lock();
        let viewer = session_of(headers)
            .and_then(|id| sessions.get(id))
            .filter(|session| session.until > Instant::now())
            .map_or(Viewer::Reader, |session| Viewer::Actor {
                form_token: session.form_token.clone(),
            });
        Ok(viewer)
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

    const TOKEN: &str = "geheimes-langes-wort";

    fn access(token: Option<&str>, listen: &str, public: bool) -> Result<Access, NoAccess> {
        Access::new(token.map(Secret::new), listen.parse().unwrap(), public)
    }

    #[test]
    fn only_this_machine_needs_no_token() {
        for listen in ["127.0.0.1:1", "[::1]:1"] {
            let open = access(None, listen, false).unwrap();
            assert!(!open.guards_reading(false) && open.answers_localhost_only(false));
            let guarded = access(Some(TOKEN), listen, false).unwrap();
            assert!(guarded.guards_reading(false) && !guarded.guards_reading(true));
            assert!(!guarded.answers_localhost_only(false));
        }
        for listen in ["0.0.0.0:1", "[::]:1", "10.0.0.1:1"] {
            let refused = access(None, listen, false).err().unwrap().to_string();
            assert!(refused.contains("MAINT_TOKEN"), "{refused}");
            assert!(access(Some(""), listen, false).is_err());
            assert!(access(None, listen, true).is_ok());
            let guarded = access(Some(TOKEN), listen, false).unwrap();
            assert!(guarded.guards_reading(false) && !guarded.guards_reading(true));
        }
    }

    #[test]
    fn a_token_that_can_be_guessed_is_refused() {
        for short in ["a", "fifteen-letters", "äöüäöüäöüäöüäöü"] {
            let refused = access(Some(short), "127.0.0.1:1", true).err();
            let length = short.chars().count();
            assert_eq!(refused, Some(NoAccess::ShortToken(length)), "{short}");
        }
        assert!(access(Some("sixteen-letters!"), "127.0.0.1:1", false).is_ok());
    }

    #[test]
    fn a_form_needs_the_word_of_its_session() {
        let access = access(Some(TOKEN), "127.0.0.1:1", false).unwrap();
        let cookie = access.begin(false);
        let mut headers = HeaderMap::new();
        let viewer = |headers: &HeaderMap| access.viewer(headers, None);
        assert_eq!(viewer(&headers), Ok(Viewer::Reader));
        assert!(!Viewer::Reader.may_act(Some("")));
        let pair = cookie.split(';').next().unwrap();
        headers.insert(header::COOKIE, format!("a=b; {pair}").parse().unwrap());
        let actor = viewer(&headers).unwrap();
        let Viewer::Actor { form_token } = &actor else {
            unreachable!("{actor:?}");
        };
        assert!(actor.may_act(Some(form_token)));
        assert!(!actor.may_act(None) && !actor.may_act(Some("guess")));
        access.end(&headers);
        assert_eq!(viewer(&headers), Ok(Viewer::Reader));
        for scheme in ["Bearer", "bearer"] {
            let value = format!("{scheme} {TOKEN}");
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
            assert_eq!(viewer(&headers), Ok(Viewer::Program));
        }
        let wrong = format!("Bearer {TOKEN}2");
        headers.insert(header::AUTHORIZATION, wrong.parse().unwrap());
        assert_eq!(viewer(&headers), Err(Refused::WrongToken));
    }

    #[test]
    fn wrong_tokens_are_soon_not_looked_at() {
        let access = access(Some(TOKEN), "127.0.0.1:1", false).unwrap();
        let from = Some("10.0.0.1".parse().unwrap());
        let bearer = |token: &str| {
            let mut headers = HeaderMap::new();
            let value = format!("Bearer {token}").parse().unwrap();
            headers.insert(header::AUTHORIZATION, value);
            access.viewer(&headers, from)
        };
        let mut looked_at = 0;
        for n in 0..100 {
            match bearer(&format!("guess {n}")) {
                Err(Refused::WrongToken) => looked_at += 1,
                refused => assert!(matches!(refused, Err(Refused::TooMany(_))), "{refused:?}"),
            }
        }
        assert_eq!(looked_at, 10);
        // Else a guess that is refused would tell that it is wrong.
        assert!(matches!(bearer(TOKEN), Err(Refused::TooMany(_))));
        // Logins and programs guess at the same word.
        assert!(matches!(
            access.try_token(TOKEN, from),
            Err(Refused::TooMany(_))
        ));
        assert!(
            access
                .try_token(TOKEN, Some("10.0.0.2".parse().unwrap()))
                .is_ok()
        );
    }
}
