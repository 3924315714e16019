//! Whom, when, how: what happened becomes notices, notices become letters,
//! and letters travel by mail, webhook or into a file. Whatever cannot be
//! handed over stays in the history and goes later, once.

mod delivery;
mod file;
mod mail;
mod ping;
mod smtp;
mod webhook;

pub use delivery::{Delivered, Delivery, deliver};
pub use mail::{Mail, Picture};
pub use ping::{Signal, ping};
pub use smtp::{Smtp, SmtpError};

/// What came of handing a letter over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It arrived.
    Sent,
    /// It did not, and may later: the other side is busy or out of reach.
    Later(String),
    /// It did not, and never will as things are configured.
    Refused(String),
}
