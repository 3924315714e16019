use std::time::Duration;

use serde_json::Value;

use super::Outcome;
use crate::values::with_causes;

const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// An HTTP client that trusts what the system trusts, follows no redirects
/// (a letter goes where it was addressed to), and says who it is.
pub(super) fn client() -> Result<reqwest::Client, String> {
    // Decided once for the process; a second time says that it was decided.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .timeout(ANSWER_WITHIN)
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("maint/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|why| format!("no HTTP client could be made: {why}"))
}

/// Posts a JSON document. The URL is never shown: its path is often a secret.
pub(super) async fn post(url: &str, body: &Value) -> Outcome {
    let client = match client() {
        Ok(client) => client,
        Err(why) => return Outcome::Later(why),
    };
    let answer = client.post(url).json(body).send().await;
    match answer {
        Ok(answer) if answer.status().is_success() => Outcome::Sent,
        Ok(answer) => {
            let status = answer.status();
            let said = answer.text().await.unwrap_or_default();
            // Masked before it is cut: half a secret is one, too.
            let said = without(&said, url);
            let said: String = said.chars().filter(|c| !c.is_control()).take(200).collect();
            let text = format!("the webhook answered {status}: {said}");
            match status.as_u16() {
                408 | 425 | 429 | 500.. => Outcome::Later(text),
                _ => Outcome::Refused(text),
            }
        }
        Err(why) => Outcome::Later(format!(
            "the webhook is out of reach: {}",
            with_causes(&why.without_url())
        )),
    }
}

/// What a server says, unless it repeats the address it was asked at, or a piece of it: a path
/// that is a secret.
fn without(said: &str, url: &str) -> String {
    let behind = url.split_once("://").map_or(url, |(_, behind)| behind);
    let pieces = behind.split(['/', '?', '&', '=', '@', ':']).skip(1);
    let mut said = crate::values::redact(said);
    for piece in pieces.filter(|piece| piece.len() > 3) {
        said = said.replace(piece, "***");
    }
    said
}
