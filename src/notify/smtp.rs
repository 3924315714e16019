//! Hands mails to a mail server: reads its URL, keeps to a time for each mail, and shows none of
//! the secrets that the server may repeat.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use lettre::Message;
use lettre::address::Envelope;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use url::Url;

use super::smtp_door::{Door, DoorError, Protection};
use super::{Left, Outcome};
use crate::values::{Masks, TimeSpan, redact, trusted_certificates, with_causes};

/// How long handing one mail over may take in all. The library's own limit
/// is for connecting only.
const SEND_WITHIN: TimeSpan = TimeSpan::from_secs(60);

/// After so long no further recipient of a mail is tried alone: together with the last one it has
/// to be over before somebody else takes the mail up.
const EACH_WITHIN: Duration = Duration::from_secs(150);

/// Why an `smtp: url` cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SmtpError {
    /// It is no URL for mail.
    #[error(
        "`{url}` is no address of a mail server: {why}; expected `smtp://user:password@host:587` or `smtps://…`"
    )]
    Url {
        /// The URL without its password.
        url: String,
        /// What is wrong.
        why: String,
    },
    /// The file of certificates cannot be used.
    #[error("`ca={path}`: {why}; expected a file of certificates in PEM")]
    Certificates {
        /// Which file.
        path: String,
        /// What is wrong.
        why: String,
    },
}

/// A mail server.
pub struct Smtp {
    door: Door,
    server: String,
    has_credentials: bool,
    /// The server may repeat what it was sent.
    masks: Masks,
    send_within: TimeSpan,
}

impl Smtp {
    /// Reads a URL: `smtp://` is STARTTLS (port 587), `smtps://` is TLS from
    /// the start (port 465). `?auth=xoauth2` sends the password as an OAuth
    /// token, `?ca=FILE` trusts these certificates instead of the system's,
    /// `?tls=none` is for a relay on this machine,
    /// and `?timeout=10s` is how long handing one mail over may take.
    ///
    /// # Errors
    /// When it makes no sense.
    pub fn new(url: &str) -> Result<Smtp, SmtpError> {
        let wrong = |why: &str| SmtpError::Url {
            url: redact(url),
            why: why.to_owned(),
        };
        let parsed = Url::parse(url).map_err(|why| wrong(&why.to_string()))?;
        let host = parsed
            .host_str()
            .filter(|host| !host.is_empty())
            .ok_or_else(|| wrong("it names no host"))?
            .trim_matches(['[', ']'])
            .to_owned();
        let mut protection = match parsed.scheme() {
            "smtp" => Protection::StartTls,
            "smtps" => Protection::Implicit,
            _ => return Err(wrong("it is neither `smtp://` nor `smtps://`")),
        };
        let mut mechanisms = vec![Mechanism::Plain, Mechanism::Login];
        let mut ca = None;
        let mut send_within = SEND_WITHIN;
        for (key, value) in parsed.query_pairs() {
            match (key.as_ref(), value.as_ref()) {
                ("auth", "plain") => mechanisms = vec![Mechanism::Plain],
                ("auth", "login") => mechanisms = vec![Mechanism::Login],
                ("auth", "xoauth2") => mechanisms = vec![Mechanism::Xoauth2],
                ("auth", other) => {
                    return Err(wrong(&format!(
                        "`auth={other}` is none of plain, login, xoauth2"
                    )));
                }
                ("tls", "required") => {}
                ("tls", "none") if is_this_machine(&host) => protection = Protection::None,
                ("tls", "none") => {
                    return Err(wrong("`tls=none` is only for a relay on this machine"));
                }
                ("ca", path) => ca = Some(PathBuf::from(path)),
                ("timeout", value) => {
                    let span: Option<TimeSpan> = value.parse().ok();
                    let span = span.filter(|span| !span.get().is_zero());
                    send_within = span.ok_or_else(|| {
                        wrong(&format!(
                            "`timeout={value}` is no time such as `30s`, and more than none"
                        ))
                    })?;
                }
                (other, _) => {
                    return Err(wrong(&format!(
                        "`{other}` is none of auth, tls, ca, timeout"
                    )));
                }
            }
        }
        let trusted = match &ca {
            Some(path) => {
                Some(
                    trusted_certificates(path).map_err(|why| SmtpError::Certificates {
                        path: path.display().to_string(),
                        why,
                    })?,
                )
            }
            None => None,
        };
        let port = match protection {
            Protection::Implicit => 465,
            Protection::StartTls => 587,
            Protection::None => 25,
        };
        let port = parsed.port().unwrap_or(port);
        let decoded = |text: &str| {
            percent_decoded(text).ok_or_else(|| wrong("user or password is not encoded well"))
        };
        let user = decoded(parsed.username())?;
        let mut log_in = None;
        let mut masks = Masks::default();
        if !user.is_empty() {
            let password = decoded(parsed.password().unwrap_or_default())?;
            masks = Masks::of([
                // AUTH PLAIN, AUTH XOAUTH2, AUTH LOGIN.
                format!("\0{user}\0{password}"),
                format!("user={user}\x01auth=Bearer {password}\x01\x01"),
                password.clone(),
            ]);
            log_in = Some((Credentials::new(user, password), mechanisms));
        }
        Ok(Smtp {
            server: format!("{host}:{port}"),
            has_credentials: log_in.is_some(),
            masks,
            door: Door {
                host,
                port,
                protection,
                trusted,
                log_in,
                // Longer than all of it may take, so that it is always the whole that ends,
                // whatever it was waiting for.
                patience: send_within.get() * 2,
            },
            send_within,
        })
    }

    /// Connects, and logs in where there is a user; sends nothing. What is there, or why not.
    ///
    /// # Errors
    /// As a text for people.
    pub async fn try_out(&self) -> Result<String, String> {
        let server = &self.server;
        let tried = async {
            let mut connection = self.door.open().await?;
            let answers = connection.test_connected().await;
            connection.abort().await;
            Ok::<_, DoorError>(answers)
        };
        match tokio::time::timeout(self.send_within.get(), tried).await {
            Ok(Ok(true)) if self.has_credentials => Ok(format!("{server} answers and lets us in")),
            Ok(Ok(true)) => Ok(format!("{server} answers")),
            Ok(Ok(false)) => Err(format!("{server} does not answer as a mail server does")),
            Ok(Err(error)) => {
                let said = self.masks.over(&with_causes(&error));
                Err(format!("{server}: {said}"))
            }
            Err(_) => Err(format!(
                "{server} does not answer within {}",
                self.send_within
            )),
        }
    }

    /// Hands one mail over: to all of its recipients at once, and where the server refuses, to
    /// each of them alone, so that an address which is gone stops nobody else's mail.
    pub async fn send(&self, message: Message) -> Outcome {
        let whole = self
            .send_once(message.envelope(), &message.formatted())
            .await;
        let envelope = message.envelope();
        let answered = !matches!(whole, (Outcome::Sent, _)) && whole.1;
        if !answered || envelope.to().len() < 2 {
            return whole.0;
        }
        let one_by_one = self.to_each(&message).await;
        match (one_by_one.arrived, one_by_one.later, one_by_one.refused) {
            (true, None, None) => Outcome::Sent,
            (true, later, refused) => Outcome::Partly { later, refused },
            // Who is refused for good is told apart once the others have got it.
            (false, Some(later), refused) => {
                let refused = refused.map(|left| left.why);
                let why = [later.why].into_iter().chain(refused);
                Outcome::Later(why.collect::<Vec<_>>().join("; "))
            }
            (false, None, refused) => {
                Outcome::Refused(refused.map(|left| left.why).unwrap_or_default())
            }
        }
    }

    /// Hands one mail over to each of its recipients alone. Where the server answers no more, or
    /// takes too long over it, the others are left for later: who hands over must be done before
    /// the mail counts as nobody's.
    async fn to_each(&self, message: &Message) -> OneByOne {
        let (envelope, mail) = (message.envelope(), message.formatted());
        let until = Instant::now() + EACH_WITHIN;
        let mut done = OneByOne::default();
        let mut silent: Option<String> = None;
        for recipient in envelope.to() {
            let address = recipient.to_string();
            if silent.is_none() && Instant::now() > until {
                let server = &self.server;
                silent = Some(format!(
                    "the mail server {server} took too long over the others"
                ));
            }
            if let Some(why) = &silent {
                Left::add(&mut done.later, address, why);
                continue;
            }
            let from = envelope.from().cloned();
            let (outcome, answered) = match Envelope::new(from, vec![recipient.clone()]) {
                Ok(envelope) => self.send_once(&envelope, &mail).await,
                Err(error) => (Outcome::Refused(with_causes(&error)), true),
            };
            match outcome {
                Outcome::Sent => done.arrived = true,
                Outcome::Refused(why) => Left::add(&mut done.refused, address, &why),
                Outcome::Later(why) => {
                    Left::add(&mut done.later, address, &why);
                    silent = (!answered).then_some(why);
                }
                Outcome::Partly { .. } => {}
            }
        }
        done
    }

    /// One attempt, and whether the server itself answered: then nobody has got the mail.
    async fn send_once(&self, envelope: &Envelope, mail: &[u8]) -> (Outcome, bool) {
        let sending = async {
            let mut connection = self.door.open().await?;
            connection.send(envelope, mail).await?;
            connection.abort().await;
            Ok::<_, DoorError>(())
        };
        let sent = tokio::time::timeout(self.send_within.get(), sending).await;
        let error = match sent {
            Ok(Ok(())) => return (Outcome::Sent, true),
            Ok(Err(error)) => error,
            Err(_) => {
                let why = format!(
                    "the mail server {} did not take the mail within {}",
                    self.server, self.send_within
                );
                return (Outcome::Later(why), false);
            }
        };
        let server = &self.server;
        let (code, ours) = match &error {
            DoorError::Mail(error) => (error.status().map(u16::from), error.is_client()),
            DoorError::Certificate(_) | DoorError::Closed(_) => (None, false),
        };
        let said = self.masks.over(&with_causes(&error));
        let outcome = match code {
            Some(530 | 534 | 535 | 538) if self.has_credentials => Outcome::Refused(format!(
                "the mail server {server} does not accept user and password of `smtp: url` ({said})"
            )),
            Some(530 | 534 | 535 | 538) => Outcome::Refused(format!(
                "the mail server {server} wants user and password, and `smtp: url` has none ({said})"
            )),
            Some(500..) => Outcome::Refused(format!(
                "the mail server {server} refuses the mail for good ({said})"
            )),
            Some(_) => Outcome::Later(format!(
                "the mail server {server} wants the mail later ({said})"
            )),
            None if said.contains("certificate") || said.contains("UnknownIssuer") => {
                // A server that is being repaired has the same name again tomorrow.
                Outcome::Later(format!(
                    "the certificate of the mail server {server} is not trusted ({said}); `?ca=FILE` names the certificates to trust"
                ))
            }
            None if ours => Outcome::Refused(format!(
                "the mail server {server} cannot do what is asked of it ({said})"
            )),
            None => Outcome::Later(format!("the mail server {server} is out of reach ({said})")),
        };
        // Who is not let in at all need not knock once for each recipient.
        let at_the_door = matches!(code, Some(530 | 534 | 535 | 538));
        (outcome, code.is_some() && !at_the_door)
    }
}

/// What came of handing a mail over to each of its recipients.
#[derive(Default)]
struct OneByOne {
    arrived: bool,
    later: Option<Left>,
    refused: Option<Left>,
}

fn is_this_machine(host: &str) -> bool {
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback())
}

pub(super) fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        if *first == b'%' {
            let digits = std::str::from_utf8(tail.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &tail[2..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    #[test]
    fn urls_that_make_no_sense_are_refused_without_their_password() {
        for (url, why) in [
            (
                "http://u:geheim@h",
                "it is neither `smtp://` nor `smtps://`",
            ),
            (
                "smtp://u:geheim@h?auth=ntlm",
                "`auth=ntlm` is none of plain, login, xoauth2",
            ),
            (
                "smtp://u:geheim@h?tls=none",
                "`tls=none` is only for a relay on this machine",
            ),
            ("smtp://u:geheim@h?timeout=0s", "`timeout=0s` is no time"),
            (
                "smtp://u:geheim@h?tsl=none",
                "`tsl` is none of auth, tls, ca, timeout",
            ),
        ] {
            let error = Smtp::new(url).err().unwrap().to_string();
            assert!(error.contains(why), "{error}");
            assert!(!error.contains("geheim"), "{error}");
        }
        assert!(Smtp::new("smtp://127.0.0.1:2525?tls=none").is_ok());
        assert!(Smtp::new("smtps://a%40b:p%3Ass@mail.example.com").is_ok());
    }
}
