//! An address is asked whether the work may go on.

use std::time::Duration;

use super::{Held, Throttler};
use crate::values::describe;

/// How long an address may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

impl Throttler {
    /// Why the address does not say that the work may go on.
    pub(super) async fn not_answered(&self, url: &str) -> Option<Held> {
        // Whatever follows the host may be a secret.
        let shown = reqwest::Url::parse(url).map(|url| url.origin().ascii_serialization());
        let shown = shown.unwrap_or_else(|_| "an address that makes no sense".to_owned());
        let client = match &self.client {
            Ok(client) => client,
            Err(why) => {
                return Some(Held {
                    for_good: true,
                    text: why.clone(),
                });
            }
        };
        match client.get(url).send().await {
            Ok(answer) if answer.status().is_success() => None,
            Ok(answer) => Some(Held {
                for_good: false,
                text: format!("{shown} answered {}", answer.status()),
            }),
            Err(error) => Some(Held {
                for_good: true,
                text: format!("{shown} did not answer: {}", unanswered(&error)),
            }),
        }
    }
}

/// Trusts what the system trusts, and follows no redirects.
pub(super) fn client() -> Result<reqwest::Client, String> {
    // Decided once for the process; a second time says that it was decided.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .timeout(ANSWER_WITHIN)
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("maint/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| format!("no HTTP client could be made: {error}"))
}

/// Why there was no answer, in words of ours as far as there are some.
fn unanswered(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return format!("not within {} s", ANSWER_WITHIN.as_secs());
    }
    let mut cause = std::error::Error::source(error);
    let mut last = None;
    while let Some(next) = cause {
        last = Some(match next.downcast_ref::<std::io::Error>() {
            Some(why) if why.kind() == std::io::ErrorKind::ConnectionRefused => {
                "nothing listens there (the connection was refused)".to_owned()
            }
            Some(why) => describe(why),
            None => next.to_string(),
        });
        cause = next.source();
    }
    last.unwrap_or_else(|| "the connection failed".to_owned())
}
