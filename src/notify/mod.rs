//! Whom, when, how: what happened becomes notices, notices become letters,
//! and letters travel by mail, webhook or into a file. Whatever cannot be
//! handed over stays in the history and goes later, once.

mod bounded;
mod delivery;
mod file;
mod mail;
mod ping;
mod pinger;
mod reports;
mod rules;
mod smtp;
mod smtp_door;
mod teller;
mod watchdogs;
mod webhook;

pub use delivery::{Delivered, Delivery, deliver, hand_over};
pub use mail::{Mail, Picture};
pub use ping::Signal;
use ping::ping;
pub use reports::{PostError, last_posted, post_report};
pub use rules::schedule_of;
pub use smtp::{Smtp, SmtpError};
pub use teller::{Teller, delivery};

pub use crate::report::REFUSED;

/// What came of handing a letter over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It arrived.
    Sent,
    /// It did not, and may later: the other side is busy or out of reach.
    Later(String),
    /// It did not, and never will as things are configured.
    Refused(String),
    /// It arrived, but not at these addresses.
    Partly {
        /// Whom the server asks to wait.
        later: Option<Left>,
        /// Whom it refuses.
        refused: Option<Left>,
    },
}

/// Recipients who have not got a mail.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// Their addresses.
    pub to: Vec<String>,
    /// Why not, in words that name each of them.
    pub why: String,
}

impl Left {
    /// One more of them.
    fn add(left: &mut Option<Left>, address: String, why: &str) {
        let left = left.get_or_insert_default();
        if !left.why.is_empty() {
            left.why.push_str("; ");
        }
        left.why.push_str(&format!("{address}: {why}"));
        left.to.push(address);
    }
}
