//! Hands letters over, and keeps those that could not be.

use std::path::PathBuf;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;
use uuid::Uuid;

use super::{Left, Mail, Outcome, Smtp, file, webhook};
use crate::config::Webhook;
use crate::history::{HistoryError, Letter, Store};
use crate::report::text::counted;
use crate::values::{MailAddress, wall_clock};

/// How long a letter is left alone while somebody tries to hand it over.
const LEASE: TimeDelta = TimeDelta::minutes(5);
/// After so long nobody wants the news any more.
const GIVE_UP_AFTER: TimeDelta = TimeDelta::days(3);
/// How long after the first refusals it is tried again: somebody may be mending the configuration right now.
const MENDING: TimeDelta = TimeDelta::minutes(30);
/// The longest pause between two attempts.
pub(super) const LONGEST_PAUSE: TimeDelta = TimeDelta::hours(4);

/// Where letters can be handed over.
#[derive(Default)]
pub struct Delivery {
    /// The mail server, and who writes.
    pub smtp: Option<(Smtp, MailAddress)>,
    /// Where JSON is posted to.
    pub webhook: Option<Webhook>,
    /// The file that lines are appended to.
    pub file: Option<PathBuf>,
}

/// What came of going through the letters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delivered {
    /// How many were handed over.
    pub sent: usize,
    /// Why others were not.
    pub problems: Vec<String>,
}

/// Hands over every letter that is due. Each is tried at most once.
///
/// # Errors
/// When the history cannot be used; a letter that cannot be handed over is
/// no error but kept.
pub async fn deliver(
    delivery: &Delivery,
    store: &dyn Store,
    now: DateTime<Utc>,
) -> Result<Delivered, HistoryError> {
    let mut done = Delivered::default();
    while let Some(letter) = store.claim_letter(now, now + LEASE).await? {
        let outcome = hand_over(delivery, &letter).await;
        match outcome {
            Outcome::Sent => {
                store.letter_sent(letter.id, wall_clock()).await?;
                done.sent += 1;
            }
            Outcome::Partly { later, refused } => {
                let mut rest = Vec::new();
                if let Some(left) = &later {
                    rest.extend(for_the_rest(&letter, left, now + pause(letter.attempts)));
                    done.problems
                        .push(format!("{}; tried again later", left.why));
                }
                if let Some(left) = refused {
                    rest.extend(for_the_rest(&letter, &left, now + MENDING));
                    done.problems.push(left.why);
                }
                // First those for the rest: twice is better than never.
                store.post(&[], &rest).await?;
                store.letter_sent(letter.id, wall_clock()).await?;
                done.sent += 1;
            }
            Outcome::Later(why) if now - letter.created_at < GIVE_UP_AFTER => {
                let next = now + pause(letter.attempts);
                store.letter_later(letter.id, next, &why).await?;
                done.problems.push(format!("{why}; tried again later"));
            }
            Outcome::Later(why) => {
                store.letter_given_up(letter.id, wall_clock(), &why).await?;
                done.problems.push(format!(
                    "{why}; given up after {}",
                    counted(letter.attempts as usize, "attempt")
                ));
            }
            // Passwords expire at night, and are mended by day.
            Outcome::Refused(why) if now - letter.created_at < GIVE_UP_AFTER => {
                let next = now + mended(letter.attempts);
                store.letter_later(letter.id, next, &why).await?;
                done.problems.push(why);
            }
            Outcome::Refused(why) => {
                store.letter_given_up(letter.id, wall_clock(), &why).await?;
                done.problems.push(format!("{why}; not tried again"));
            }
        }
    }
    Ok(done)
}

/// The same letter for those who have not got it, to be tried again at its time.
fn for_the_rest(letter: &Letter, left: &Left, next: DateTime<Utc>) -> Option<Letter> {
    let mut mail: Mail = serde_json::from_value(letter.body.clone()).ok()?;
    let is_left = |one: &MailAddress| left.to.iter().any(|address| address == one.address());
    mail.to.retain(is_left);
    mail.cc.retain(is_left);
    if mail.to.is_empty() {
        mail.to = std::mem::take(&mut mail.cc);
    }
    let body = serde_json::to_value(mail).ok()?;
    let mut rest = self::letter("email", body, letter.created_at);
    rest.next_attempt_at = next;
    rest.last_error = Some(left.why.clone());
    Some(rest)
}

/// One minute after the first attempt, then twice as long each time.
fn pause(attempts: u32) -> TimeDelta {
    let minutes = 1_i64 << attempts.saturating_sub(1).min(10);
    TimeDelta::minutes(minutes).min(LONGEST_PAUSE)
}

/// How long after a refusal it is tried again.
fn mended(attempts: u32) -> TimeDelta {
    match attempts {
        0..3 => MENDING,
        _ => LONGEST_PAUSE,
    }
}

/// Hands one letter over, once, and keeps nothing.
pub async fn hand_over(delivery: &Delivery, letter: &Letter) -> Outcome {
    match letter.channel.as_str() {
        "email" => {
            let Some((smtp, from)) = &delivery.smtp else {
                return Outcome::Later(
                    "there is no mail server: `smtp` is not configured".to_owned(),
                );
            };
            let mail: Mail = match serde_json::from_value(letter.body.clone()) {
                Ok(mail) => mail,
                Err(why) => {
                    return Outcome::Refused(format!("the kept mail is not readable: {why}"));
                }
            };
            match mail.message(letter.id, from, letter.created_at) {
                Ok(message) => smtp.send(message).await,
                Err(why) => Outcome::Refused(why),
            }
        }
        "webhook" => match &delivery.webhook {
            Some(hook) => webhook::post(hook, &letter.body).await,
            None => Outcome::Later("there is no webhook configured any more".to_owned()),
        },
        "file" => match &delivery.file {
            Some(path) => file::append(path, &letter.body),
            None => Outcome::Later("there is no file configured any more".to_owned()),
        },
        other => Outcome::Refused(format!("nobody knows how to send by `{other}`")),
    }
}

pub(super) fn letter(channel: &str, body: Value, now: DateTime<Utc>) -> Letter {
    Letter {
        id: Uuid::now_v7(),
        created_at: now,
        channel: channel.to_owned(),
        body,
        attempts: 0,
        next_attempt_at: now,
        last_error: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_limit() {
        let minutes: Vec<i64> = [1, 2, 3, 8, 9, 40].map(|n| pause(n).num_minutes()).to_vec();
        assert_eq!(minutes, [1, 2, 4, 128, 240, 240]);
    }
}
