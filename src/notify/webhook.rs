use std::time::Duration;

use serde_json::Value;
use url::Url;

use super::Outcome;
use super::smtp::percent_decoded;
use crate::values::{Masks, with_causes};

const ANSWER_WITHIN: Duration = Duration::from_secs(20);
/// How much of an answer is read, in bytes: a proxy's page may have no end.
const READ: usize = 4096;
/// How much of it is shown, in characters.
const SHOWN: usize = 200;

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
            // Masked before it is cut: half a secret is one, too.
            let said = said(answer, &masks(url)).await;
            let said = said.chars().filter(|c| !c.is_control());
            let said: String = said.take(SHOWN).collect();
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

/// How an answer begins, without what must not be shown.
async fn said(mut answer: reqwest::Response, masks: &Masks) -> String {
    let mut read = Vec::new();
    while read.len() <= READ
        && let Ok(Some(piece)) = answer.chunk().await
    {
        let room = (READ + 1).saturating_sub(read.len());
        read.extend_from_slice(piece.get(..room).unwrap_or(&piece));
    }
    let said = String::from_utf8_lossy(&read);
    match read.len() <= READ {
        true => masks.over(&said),
        false => masks.over_cut(&said),
    }
}

/// What a server must not be shown to repeat: pieces of the address it was asked at, of which a
/// path may be a secret, and user and password as HTTP writes them.
fn masks(url: &str) -> Masks {
    let behind = url.split_once("://").map_or(url, |(_, behind)| behind);
    let pieces = behind.split(['/', '?', '&', '=', '@', ':']).skip(1);
    let mut secrets: Vec<String> = pieces.map(str::to_owned).collect();
    if let Ok(url) = Url::parse(url) {
        let user = percent_decoded(url.username()).unwrap_or_default();
        let password = url.password().and_then(percent_decoded).unwrap_or_default();
        if !user.is_empty() || !password.is_empty() {
            secrets.push(format!("{user}:{password}"));
            secrets.push(password);
        }
    }
    Masks::of(secrets)
}
