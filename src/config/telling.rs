//! Who is told what, and by which way.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::values::{MailAddress, Secret, TimeSpan};

/// Who gets a mail.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Email {
    /// The recipients.
    #[schemars(length(min = 1))]
    pub to: Vec<MailAddress>,
    /// Recipients of a copy.
    #[serde(default)]
    pub cc: Vec<MailAddress>,
    /// Where answers go.
    pub reply_to: Option<MailAddress>,
}

/// The mail server.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Smtp {
    /// `smtp://…` (STARTTLS) or `smtps://…`, with user and password where needed. Empty, as
    /// `"${SMTP_URL:-}"` may be: no mail is sent.
    pub url: Secret,
    /// The sender.
    pub from: MailAddress,
}

/// Who is told what at once.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Notify {
    /// What is worth a message.
    #[serde(default = "default_events")]
    pub on: Vec<Event>,
    /// By mail.
    pub email: Option<Email>,
    /// By a POST with JSON.
    pub webhook: Option<Webhook>,
    /// By requests that a watchdog service waits for (`…/start`, the address itself after
    /// success, `…/fail`), for every schedule without a `ping` of its own.
    pub ping: Option<Hook>,
    /// Into this file, one JSON document per line; relative to this file.
    pub file: Option<PathBuf>,
    /// How long news wait for more of them, so that an outage of many targets is one message.
    #[serde(default = "group_wait")]
    pub group_wait: TimeSpan,
    /// How many messages go out per hour and way at most; what is left is told together later.
    #[serde(default = "max_per_hour")]
    #[schemars(range(min = 1))]
    pub max_per_hour: u32,
    /// After how many periods of its schedule without a success a task is told again, to
    /// `escalate_to`; 0 for never.
    #[serde(default = "escalate_after")]
    pub escalate_after: u32,
    /// Who is told then; the recipients of `email` where it is left out.
    pub escalate_to: Option<Email>,
}

fn group_wait() -> TimeSpan {
    TimeSpan::from_mins(1)
}

fn max_per_hour() -> u32 {
    6
}

fn escalate_after() -> u32 {
    3
}

/// An address that JSON is posted to.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// `https://…`; empty: nobody is called.
    pub url: Secret,
    /// How the JSON is shaped.
    #[serde(default)]
    pub format: WebhookFormat,
}

/// How the JSON of a webhook is shaped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WebhookFormat {
    /// Everything there is to know, for programs of one's own.
    #[default]
    Generic,
    /// As Slack and what speaks like it want it.
    Slack,
    /// As Microsoft Teams wants it.
    Teams,
    /// As ntfy wants it; the address is that of the topic, such as `https://ntfy.sh/TOPIC`.
    Ntfy,
    /// As an Apprise server wants it; the address is `https://HOST/notify/KEY`.
    Apprise,
}

fn default_events() -> Vec<Event> {
    vec![
        Event::Failed,
        Event::Partial,
        Event::Missed,
        Event::Critical,
    ]
}

/// What can be worth a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A run succeeded.
    Succeeded,
    /// A run ran out of window or budget.
    Incomplete,
    /// Some steps of a run failed.
    Partial,
    /// A run failed.
    Failed,
    /// The process of a run died.
    Interrupted,
    /// An occurrence did not run and is not made up for.
    Missed,
    /// A finding wants attention in the coming days.
    Warning,
    /// A finding wants attention now.
    Critical,
}

/// An address that is called.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hook {
    /// `https://…`; empty: nobody is called.
    pub url: Secret,
}
