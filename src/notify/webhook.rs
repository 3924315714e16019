//! Posts messages to addresses that are secrets themselves: neither an address nor what a server
//! repeats of it is ever shown.

use std::time::Duration;

use serde_json::Value;
use url::Url;

use super::Outcome;
use super::smtp::percent_decoded;
use crate::config::{Webhook, WebhookFormat};
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
pub(super) async fn post(hook: &Webhook, body: &Value) -> Outcome {
    let url = hook.url.expose();
    match hook.format {
        WebhookFormat::Ntfy => match published(url, body) {
            Some((server, message)) => post_to(server.as_str(), &message, &masks(url)).await,
            None => Outcome::Refused(NO_TOPIC.to_owned()),
        },
        WebhookFormat::Generic
        | WebhookFormat::Slack
        | WebhookFormat::Teams
        | WebhookFormat::Apprise => post_to(url, body, &masks(url)).await,
    }
}

/// What is wrong with the address of an ntfy server alone.
const NO_TOPIC: &str = "the webhook is the address of no topic of ntfy: it ends with the topic, as in https://ntfy.sh/TOPIC";

/// ntfy takes JSON at the address of the server, with the topic in it (docs.ntfy.sh/publish, "Publish
/// as JSON"): the last part of the address goes into the message.
fn published(url: &str, body: &Value) -> Option<(Url, Value)> {
    let (server, topic) = split_topic(url)?;
    let mut message = body.as_object()?.clone();
    message.insert("topic".to_owned(), Value::String(topic));
    Some((server, Value::Object(message)))
}

fn split_topic(url: &str) -> Option<(Url, String)> {
    let mut server = Url::parse(url).ok()?;
    let topic = server
        .path_segments()?
        .rfind(|part| !part.is_empty())
        .and_then(percent_decoded)?;
    let mut parts = server.path_segments_mut().ok()?;
    parts.pop_if_empty().pop().push("");
    drop(parts);
    Some((server, topic))
}

async fn post_to(url: &str, body: &Value, masks: &Masks) -> Outcome {
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
            let said = said(answer, masks).await;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_topic_of_ntfy_goes_into_the_message() {
        let of = |url: &str| split_topic(url).map(|(server, topic)| (server.to_string(), topic));
        let found = |server: &str, topic: &str| Some((server.to_owned(), topic.to_owned()));
        assert_eq!(of("https://ntfy.sh/dba"), found("https://ntfy.sh/", "dba"));
        assert_eq!(of("https://ntfy.sh/dba/"), found("https://ntfy.sh/", "dba"));
        assert_eq!(
            of("https://u:p@example.com/ntfy/dba?auth=x"),
            found("https://u:p@example.com/ntfy/?auth=x", "dba")
        );
        assert_eq!(of("https://ntfy.sh"), None);
        assert_eq!(of("https://ntfy.sh/"), None);
    }
}
