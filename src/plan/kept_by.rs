//! What kept a step from being done.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What kept a step from being done, so that it is left for another run.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum KeptBy {
    /// The window, the budget or `limits.step_timeout` ended before it did.
    Time,
    /// The run was stopped.
    Stop,
    /// Sessions of others: they had waited long enough for it, or did not let go of what it needs.
    Sessions,
    /// A transaction that was open for too long.
    Transaction,
    /// A condition of `throttle`, until the time of the run was up or the run was ended.
    Throttle,
    /// More rows than were counted, and a limit that lets no more go.
    Limit,
    /// A server that was not ready for it.
    Server,
}

impl KeptBy {
    /// Every one of them.
    pub const ALL: &[KeptBy] = &[
        KeptBy::Time,
        KeptBy::Stop,
        KeptBy::Sessions,
        KeptBy::Transaction,
        KeptBy::Throttle,
        KeptBy::Limit,
        KeptBy::Server,
    ];

    /// The word used in JSON and in the history.
    pub const fn as_str(self) -> &'static str {
        match self {
            KeptBy::Time => "time",
            KeptBy::Stop => "stop",
            KeptBy::Sessions => "sessions",
            KeptBy::Transaction => "transaction",
            KeptBy::Throttle => "throttle",
            KeptBy::Limit => "limit",
            KeptBy::Server => "server",
        }
    }

    /// The reverse of [`Self::as_str`]; `None` for any other word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|one| one.as_str() == word)
    }

    /// The finding that tells it; `None` where more time, or another run, is all that it takes.
    pub const fn code(self) -> Option<&'static str> {
        match self {
            KeptBy::Time | KeptBy::Stop => None,
            KeptBy::Sessions => Some("kept_out.sessions"),
            KeptBy::Transaction => Some("kept_out.transaction"),
            KeptBy::Throttle => Some("kept_out.throttle"),
            KeptBy::Limit => Some("kept_out.limit"),
            KeptBy::Server => Some("kept_out.server"),
        }
    }

    /// What is said of steps that were kept out by it.
    pub const fn said(self) -> &'static str {
        match self {
            KeptBy::Time => "no time was left for",
            KeptBy::Stop => "the run was stopped before the end of",
            KeptBy::Sessions => "sessions of others kept out",
            KeptBy::Transaction => "an old transaction kept out",
            KeptBy::Throttle => "a condition of `throttle` kept out",
            KeptBy::Limit => "a limit on how many go kept from the end",
            KeptBy::Server => "a server that was not ready kept out",
        }
    }
}

/// Whether a finding that is a warning tells of work that nothing fails at and that does not get
/// done by itself, whatever keeps it out.
pub fn tells_kept_out(code: &str) -> bool {
    const BY_TIME: [&str; 2] = ["time.left_over", "time.never_fits"];
    BY_TIME.contains(&code) || KeptBy::ALL.iter().any(|by| by.code() == Some(code))
}
