//! A mail as data, and how it becomes what mail servers take: kept whole, so that it can wait in
//! the history until it can be sent.

use chrono::{DateTime, Utc};
use lettre::Message;
use lettre::message::header::{ContentType, Header, HeaderName, HeaderValue};
use lettre::message::{Attachment, Mailbox, MultiPart, SinglePart};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::values::MailAddress;

/// A mail, whole but for its sender and its dates.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mail {
    /// The recipients.
    pub to: Vec<MailAddress>,
    /// Recipients of a copy.
    #[serde(default)]
    pub cc: Vec<MailAddress>,
    /// Where answers go.
    #[serde(default)]
    pub reply_to: Option<MailAddress>,
    /// One line.
    pub subject: String,
    /// For terminals, and for who prefers text.
    pub text: String,
    /// For everybody else.
    #[serde(default)]
    pub html: Option<String>,
    /// What the HTML shows by `cid:`.
    #[serde(default)]
    pub pictures: Vec<Picture>,
    /// Mails with the same word here are one conversation to mail programs.
    #[serde(default)]
    pub thread: Option<String>,
}

/// A picture within a mail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Picture {
    /// How the HTML refers to it.
    pub cid: String,
    /// The PNG.
    #[serde(with = "as_base64")]
    pub png: Vec<u8>,
}

mod as_base64 {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(png: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&STANDARD.encode(png))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(from)?;
        STANDARD.decode(text).map_err(D::Error::custom)
    }
}

/// A header that lettre has no type for.
macro_rules! header {
    ($type:ident, $name:literal) => {
        #[derive(Clone)]
        struct $type(String);

        impl Header for $type {
            fn name() -> HeaderName {
                HeaderName::new_from_ascii_str($name)
            }

            fn parse(text: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
                Ok($type(text.to_owned()))
            }

            fn display(&self) -> HeaderValue {
                HeaderValue::new(Self::name(), self.0.clone())
            }
        }
    };
}

header!(ListId, "List-Id");
// RFC 3834: keeps "I am on holiday" from answering.
header!(AutoSubmitted, "Auto-Submitted");

impl Mail {
    /// The mail as it travels.
    ///
    /// # Errors
    /// What is wrong with an address, in words.
    pub fn message(
        &self,
        id: Uuid,
        from: &MailAddress,
        at: DateTime<Utc>,
    ) -> Result<Message, String> {
        let domain = from.address().rsplit('@').next().unwrap_or("localhost");
        let mut message = Message::builder()
            .from(mailbox(from)?)
            .date(at.into())
            .message_id(Some(format!("<{id}@{domain}>")))
            .subject(one_line(&self.subject))
            .header(ListId(format!("maint <maint.{domain}>")))
            .header(AutoSubmitted("auto-generated".to_owned()));
        for to in &self.to {
            message = message.to(mailbox(to)?);
        }
        for cc in &self.cc {
            message = message.cc(mailbox(cc)?);
        }
        if let Some(reply_to) = &self.reply_to {
            message = message.reply_to(mailbox(reply_to)?);
        }
        if let Some(thread) = &self.thread {
            // A mail that never existed, but the same for all of a thread.
            let root = format!(
                "<{}@{domain}>",
                Uuid::new_v5(&Uuid::NAMESPACE_URL, thread.as_bytes())
            );
            message = message.references(root.clone()).in_reply_to(root);
        }
        let text = SinglePart::plain(self.text.clone());
        let built = match &self.html {
            None => message.singlepart(text),
            Some(html) => {
                let mut related = MultiPart::related().singlepart(SinglePart::html(html.clone()));
                for picture in &self.pictures {
                    let kind = ContentType::parse("image/png").map_err(|why| why.to_string())?;
                    let name = format!("{}.png", picture.cid);
                    related = related.singlepart(
                        Attachment::new_inline_with_name(picture.cid.clone(), name)
                            .body(picture.png.clone(), kind),
                    );
                }
                message.multipart(MultiPart::alternative().singlepart(text).multipart(related))
            }
        };
        built.map_err(|why| why.to_string())
    }
}

fn mailbox(address: &MailAddress) -> Result<Mailbox, String> {
    let bare = address
        .address()
        .parse()
        .map_err(|why| format!("`{}` is no mail address: {why}", address.address()))?;
    Ok(Mailbox::new(address.name().map(str::to_owned), bare))
}

/// A line break in a subject would begin another header.
fn one_line(subject: &str) -> String {
    subject
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}
