//! What was noted becomes letters, and is sent.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use uuid::Uuid;

use super::super::delivery::{LONGEST_PAUSE, letter};
use super::super::rules::message_of;
use super::super::{Delivered, Mail, Outcome, deliver, hand_over};
use super::{Teller, delivery};
use crate::config::{Email, Notify, WebhookFormat};
use crate::history::{HistoryError, Letter, Notice, Store, surely_wrong};
use crate::report::{Digest, Message, Rendered, Shape};
use crate::values::{wall_clock, with_causes};

impl Teller {
    /// Makes letters of what is to be told, and hands over every letter that
    /// is due. With `wait`, news wait for more of them first; a process that
    /// is about to end does not.
    ///
    /// # Errors
    /// When the history cannot be used. What cannot be sent is kept.
    pub async fn tell(
        &self,
        store: &dyn Store,
        now: DateTime<Utc>,
        wait: bool,
    ) -> Result<Delivered, HistoryError> {
        if !surely_wrong(now) && store.set_outbox_back(now, LONGEST_PAUSE).await? > 0 {
            tracing::warn!(
                "messages waited for a time that is yet to come, set by a clock that was ahead; \
                 they wait no longer"
            );
        }
        self.escalate(store, now).await?;
        self.write(store, now, wait).await?;
        let delivery = match delivery(&self.config) {
            Ok(delivery) => delivery,
            Err(why) => {
                return Ok(Delivered {
                    sent: 0,
                    problems: vec![with_causes(&why)],
                });
            }
        };
        deliver(&delivery, store, now).await
    }

    async fn write(
        &self,
        store: &dyn Store,
        now: DateTime<Utc>,
        wait: bool,
    ) -> Result<(), HistoryError> {
        let Some(notify) = self.notify() else {
            return Ok(());
        };
        let pending = store.pending_notices().await?;
        let Some(oldest) = pending.first() else {
            return Ok(());
        };
        let group_wait = TimeDelta::from_std(notify.group_wait.get()).unwrap_or_default();
        if wait && now - oldest.at < group_wait {
            return Ok(());
        }
        // What goes beyond the limit stays, and is told together later.
        for channel in ["email", "webhook"] {
            let lately = store
                .letters_since(channel, now - TimeDelta::hours(1))
                .await?;
            if lately >= notify.max_per_hour {
                return Ok(());
            }
        }
        let ids: Vec<Uuid> = pending.iter().map(|notice| notice.id).collect();
        let mut letters = Vec::new();
        for (message, notices) in by_message(pending) {
            let page = self.config.web.url.as_deref();
            let digest = Digest::of(&notices, &self.host, now).linked_to(page);
            letters.extend(self.letters(notify, message, &digest, now));
        }
        // Where another process was faster, it has told them.
        store.post(&ids, &letters).await?;
        Ok(())
    }

    /// Tells at once, without a history that would keep it until it is told. What could not be handed over by every
    /// way is the answer: somebody else has to tell it, whom it may reach twice.
    pub async fn tell_alone(&self, notices: Vec<Notice>) -> Vec<Notice> {
        let (Some(notify), Ok(delivery)) = (self.notify(), delivery(&self.config)) else {
            return notices;
        };
        let now = wall_clock();
        let mut untold = Vec::new();
        for (message, notices) in by_message(notices) {
            if !self.alone.may_tell(now, notify.max_per_hour) {
                untold.extend(notices);
                continue;
            }
            let page = self.config.web.url.as_deref();
            let digest = Digest::of(&notices, &self.host, now).linked_to(page);
            let letters = self.letters(notify, message, &digest, now);
            let mut told = !letters.is_empty();
            for letter in letters {
                match hand_over(&delivery, &letter).await {
                    Outcome::Sent => {}
                    Outcome::Later(why) | Outcome::Refused(why) => {
                        tracing::warn!("a message was not sent: {why}");
                        told = false;
                    }
                    Outcome::Partly { later, refused } => {
                        for left in later.iter().chain(&refused) {
                            tracing::warn!("a message was not sent to everybody: {}", left.why);
                        }
                        told &= later.is_none();
                    }
                }
            }
            if !told {
                untold.extend(notices);
            }
        }
        untold
    }

    /// One letter for each way that is configured.
    pub fn letters(
        &self,
        notify: &Notify,
        message: Message,
        digest: &Digest,
        now: DateTime<Utc>,
    ) -> Vec<Letter> {
        let mut letters = Vec::new();
        let zone = self.config.timezone;
        let to = match message {
            Message::Escalation => notify.escalate_to.as_ref().or(notify.email.as_ref()),
            _ => notify.email.as_ref(),
        };
        // Without a mail server a mail would wait for one until nobody wants it any more.
        if let Some(to) = to.filter(|_| self.config.smtp.is_some()) {
            match self.templates.digest(message, digest, zone) {
                Ok(rendered) => letters.push(letter("email", mail(to, rendered, "alerts"), now)),
                Err(error) => {
                    tracing::error!(error = %with_causes(&error), "a mail could not be written")
                }
            }
        }
        if let Some(hook) = &notify.webhook {
            let shape = match hook.format {
                WebhookFormat::Generic => Shape::Generic,
                WebhookFormat::Slack => Shape::Slack,
                WebhookFormat::Teams => Shape::Teams,
                WebhookFormat::Ntfy => Shape::Ntfy,
                WebhookFormat::Apprise => Shape::Apprise,
            };
            match self.templates.webhook(shape, message, digest, zone) {
                Ok(body) => letters.push(letter("webhook", body, now)),
                Err(error) => {
                    tracing::error!(error = %with_causes(&error), "a webhook could not be written")
                }
            }
        }
        if notify.file.is_some() {
            let body = json!({ "message": message.folder(), "digest": digest });
            letters.push(letter("file", body, now));
        }
        letters
    }

    /// What `maint notify test` sends.
    pub fn test_letters(&self, now: DateTime<Utc>) -> Vec<Letter> {
        let digest = Digest {
            headline: "a test".to_owned(),
            ..Digest::of(&[], &self.host, now)
        }
        .linked_to(self.config.web.url.as_deref());
        self.notify()
            .map(|notify| self.letters(notify, Message::Test, &digest, now))
            .unwrap_or_default()
    }
}

/// What belongs into one message, in the order of those.
fn by_message(notices: Vec<Notice>) -> Vec<(Message, Vec<Notice>)> {
    let mut all: BTreeMap<&str, (Message, Vec<Notice>)> = BTreeMap::new();
    for notice in notices {
        let message = message_of(&notice.event);
        let (_, these) = all
            .entry(message.folder())
            .or_insert_with(|| (message, Vec::new()));
        these.push(notice);
    }
    all.into_values().collect()
}

fn mail(to: &Email, rendered: Rendered, thread: &str) -> Value {
    let mail = Mail {
        to: to.to.clone(),
        cc: to.cc.clone(),
        reply_to: to.reply_to.clone(),
        subject: rendered.subject,
        text: rendered.text,
        html: Some(rendered.html),
        pictures: Vec::new(),
        thread: Some(thread.to_owned()),
    };
    json!(mail)
}
