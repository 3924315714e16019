//! What is to be told to people, kept until it is told.

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::HistoryError;

/// Keeps what is to be told until it is told.
#[async_trait]
pub trait Outbox: Send + Sync {
    /// What nobody has been told yet, oldest first.
    async fn pending_notices(&self) -> Result<Vec<Notice>, HistoryError>;

    /// Posts letters in place of the notices they tell, all or nothing.
    /// `false` where another process was faster with one of the notices:
    /// then nothing is posted.
    async fn post(&self, handled: &[Uuid], letters: &[Letter]) -> Result<bool, HistoryError>;

    /// The letter that is due for longest, counted as tried, and left to the
    /// caller alone until `until`.
    async fn claim_letter(
        &self,
        now: DateTime<Utc>,
        until: DateTime<Utc>,
    ) -> Result<Option<Letter>, HistoryError>;

    /// The letter has been handed over.
    async fn letter_sent(&self, id: Uuid, at: DateTime<Utc>) -> Result<(), HistoryError>;

    /// The letter could not be handed over; it is tried again.
    async fn letter_later(
        &self,
        id: Uuid,
        next: DateTime<Utc>,
        why: &str,
    ) -> Result<(), HistoryError>;

    /// The letter cannot be handed over, and is not tried again.
    async fn letter_given_up(
        &self,
        id: Uuid,
        at: DateTime<Utc>,
        why: &str,
    ) -> Result<(), HistoryError>;

    /// Lets nothing wait for a time that only a clock which was ahead can have set: notices,
    /// letters and alerts of later than `now` are of `now`, and letters that were to be tried
    /// later than `longest` from now are due. Returns how many times were set back.
    async fn set_outbox_back(
        &self,
        now: DateTime<Utc>,
        longest: TimeDelta,
    ) -> Result<u64, HistoryError>;

    /// How many letters were posted on a channel since then.
    async fn letters_since(&self, channel: &str, since: DateTime<Utc>)
    -> Result<u32, HistoryError>;

    /// Letters that have not gone out in spite of several tries, or of one where they were written before `before`, and
    /// those that were given up after `since` where nothing has gone out that way afterwards; oldest first, some
    /// hundreds at most.
    async fn stuck_letters(
        &self,
        since: DateTime<Utc>,
        before: DateTime<Utc>,
    ) -> Result<Vec<Letter>, HistoryError>;

    /// What has failed and not succeeded since, longest first.
    async fn alerts(&self) -> Result<Vec<Alert>, HistoryError>;

    /// Opens an alert, or notes when it was escalated; `since` stays.
    async fn put_alert(&self, alert: &Alert) -> Result<(), HistoryError>;

    /// Closes an alert; `false` where there was none.
    async fn clear_alert(&self, task: &str, target: &str) -> Result<bool, HistoryError>;
}

/// Something that happened and may be worth a message. Many notices make one
/// letter: an outage of forty shards is told once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// Its id, in the order of time.
    pub id: Uuid,
    /// When it happened.
    pub at: DateTime<Utc>,
    /// What, in the words of `notify: on:`, or `recovered`, or `escalated`.
    pub event: String,
    /// Name of the task.
    pub task: String,
    /// Name of the target.
    pub target: String,
    /// The schedule that set it off, if one did.
    pub schedule: Option<String>,
    /// The run, if there was one.
    pub run: Option<Uuid>,
    /// What happened, in a sentence; never a secret, never row contents.
    pub text: String,
}

/// A message on its way. It stays in the history until it has been handed
/// over, whatever happens to the process.
#[derive(Clone, Debug, PartialEq)]
pub struct Letter {
    /// Its id; also the base of its `Message-ID`, so that a letter that was
    /// sent twice because of a crash is recognised.
    pub id: Uuid,
    /// When it was written.
    pub created_at: DateTime<Utc>,
    /// How it travels: `email`, `webhook`, `file`.
    pub channel: String,
    /// The whole message, without any credentials.
    pub body: Value,
    /// How often it has been tried.
    pub attempts: u32,
    /// Not before.
    pub next_attempt_at: DateTime<Utc>,
    /// Why the last attempt failed.
    pub last_error: Option<String>,
}

/// A task that has failed on a target and has not succeeded since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    /// Name of the task.
    pub task: String,
    /// Name of the target.
    pub target: String,
    /// Since when.
    pub since: DateTime<Utc>,
    /// When it was escalated, if it was.
    pub escalated_at: Option<DateTime<Utc>>,
}
