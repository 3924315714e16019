//! Reports by mail.

use chrono::{DateTime, Utc};
use serde_json::json;

use super::delivery::letter;
use super::{Mail, Picture};
use crate::config::{Config, Report};
use crate::history::{HistoryError, Store};
use crate::plan::Memory;
use crate::report::{Asked, Pictures, Scope, Templates, compose, gather};

/// Under which kind the history remembers when a report was posted.
const POSTED: &str = "report";

/// Why a report was not posted.
#[derive(Debug, thiserror::Error)]
pub enum PostError {
    /// The history cannot be used.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// The built-in templates cannot be used.
    #[error("the report cannot be written")]
    Template(#[from] minijinja::Error),
    /// Nobody would take it along.
    #[error("there is no mail server: `smtp` is not configured, or its `url` is empty")]
    NoServer,
    /// Nobody would get it.
    #[error("the report `{0}` has no `email`, so nobody would get it")]
    NoRecipient(String),
}

/// When the report of this name was posted last.
///
/// # Errors
/// When the history cannot be read.
pub async fn last_posted(
    store: &dyn Store,
    name: &str,
) -> Result<Option<DateTime<Utc>>, HistoryError> {
    let known = store.memories("", POSTED).await?;
    let at = known.get(name).and_then(|value| value.as_str());
    Ok(at.and_then(|at| at.parse().ok()))
}

/// Writes a report and puts it into the post; [`super::deliver`] hands it over.
///
/// # Errors
/// When it cannot be written, or has no recipient.
pub async fn post_report(
    store: &dyn Store,
    config: &Config,
    templates: &Templates,
    (name, report): (&str, &Report),
    asked: Asked,
    now: DateTime<Utc>,
) -> Result<(), PostError> {
    let Some(email) = &report.email else {
        return Err(PostError::NoRecipient(name.to_owned()));
    };
    if config.smtp.is_none() {
        return Err(PostError::NoServer);
    }
    let last = last_posted(store, name).await?;
    let (period, text) = asked.period(now, config.timezone, last);
    let scope = Scope { period, text, now };
    let report = gather(store, config, &scope).await?;
    let composed = compose(&report, templates, config.timezone, Pictures::Attached)?;
    let mail = Mail {
        to: email.to.clone(),
        cc: email.cc.clone(),
        reply_to: email.reply_to.clone(),
        subject: composed.rendered.subject,
        text: composed.rendered.text,
        html: Some(composed.rendered.html),
        pictures: composed
            .pictures
            .into_iter()
            .map(|(cid, png)| Picture { cid, png })
            .collect(),
        thread: Some(format!("report:{name}")),
    };
    store
        .post(&[], &[letter("email", json!(mail), now)])
        .await?;
    let memory = Memory {
        key: name.to_owned(),
        value: json!(now),
    };
    store.remember("", POSTED, now, &[memory]).await?;
    Ok(())
}
