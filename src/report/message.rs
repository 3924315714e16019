//! What can be sent.

/// What can be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// The report of a period.
    Report,
    /// Something failed, or a finding is critical.
    Failed,
    /// What failed before has succeeded.
    Recovered,
    /// An occurrence did not run.
    Missed,
    /// Something keeps failing.
    Escalation,
    /// Asked for, to see whether it arrives.
    Test,
}

impl Message {
    /// Every one of them.
    pub const ALL: &[Message] = &[
        Message::Report,
        Message::Failed,
        Message::Recovered,
        Message::Missed,
        Message::Escalation,
        Message::Test,
    ];

    /// The name of its folder.
    pub const fn folder(self) -> &'static str {
        match self {
            Message::Report => "report",
            Message::Failed => "failed",
            Message::Recovered => "recovered",
            Message::Missed => "missed",
            Message::Escalation => "escalation",
            Message::Test => "test",
        }
    }
}

/// A message in all its forms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// One line.
    pub subject: String,
    /// For terminals, 80 columns wide.
    pub text: String,
    /// For mail programs and browsers, with its styles inlined.
    pub html: String,
}
