//! What can go wrong between maint and MongoDB, in words that hold no password, no URL and nothing
//! of any document.

mod helps;
mod said;

use self::helps::role_text;
pub use self::helps::{grant, role_for};
pub(super) use self::said::said;
use super::masked::PASSING;

/// Code: WriteConflict.
const CONFLICT: i32 = 112;

/// Why a server did not let us in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The name of a host means nothing.
    UnknownHost,
    /// What `mongodb+srv` looks up in the names service is not there.
    NoNames,
    /// Nothing listens there.
    Refused,
    /// No answer within the time that connecting may take.
    NoAnswer,
    /// The server speaks no TLS, and TLS was asked for, or is the default.
    NoTls {
        /// Whether the URL does not say `tls`, so that the default applied.
        by_default: bool,
    },
    /// The server speaks nothing but TLS, and the URL says `tls=false`.
    WantsTls,
    /// The certificate is not trusted; with what is wrong about it.
    Certificate(String),
    /// The server does not take the certificate that we come with.
    OurCertificate,
    /// The server wants a certificate of ours, and the URL names none.
    NoCertificate {
        /// Whether the server says so; else it ends the connection as soon as it is encrypted.
        said: bool,
    },
    /// User or password is wrong.
    Credentials,
    /// The URL names no user, and the server does nothing for who does not log in.
    NoUser,
    /// The replica set has another name; this one.
    SetName(String),
    /// The members answer, and none of them is primary.
    NoPrimary,
    /// A member answers, and the name that the set calls its primary by does not lead to it from here.
    Astray {
        /// The primary, as the set calls it.
        primary: String,
        /// The names that the set's members have, and that lead nowhere from here; each with why.
        lost: Vec<(String, String)>,
        /// Whether the member that answers is that primary.
        writable: bool,
    },
    /// The one member that the URL has asked is not the primary.
    NotPrimary,
    /// The server is no member of a replica set, and the URL names one.
    NoSet,
    /// Something else; as the driver says it.
    Other(String),
}

impl Refusal {
    /// Why one of several hosts is not reached, behind its name.
    pub(super) fn in_short(&self) -> String {
        let text = refusal_text("", self);
        text.strip_prefix(": ").unwrap_or(&text).to_owned()
    }
}

/// What can go wrong between maint and MongoDB. No text holds a password, a
/// URL, or the contents of documents.
#[derive(Clone, Debug, thiserror::Error)]
pub enum MongoError {
    /// The URL makes no sense.
    #[error("the `url` of this target is not one that MongoDB understands: {0}")]
    Url(String),
    /// The URL does not say which database.
    #[error("the `url` of this target does not say which database to look after")]
    NoDatabase,
    /// The database is not there, and none of this name can be made.
    #[error("the database `{database}` of this target is not there: {why}")]
    Unnameable {
        /// As the URL has it.
        database: String,
        /// Why the server makes none.
        why: String,
    },
    /// The server could not be reached, or did not let us in.
    #[error("{}", refusal_text(.server, .refusal))]
    Connect {
        /// Which server.
        server: String,
        /// Why.
        refusal: Refusal,
    },
    /// The server is older than maint knows.
    #[error("{server} runs MongoDB {version}; maint needs 4.4 or newer")]
    TooOld {
        /// Which server.
        server: String,
        /// What it runs.
        version: String,
    },
    /// The connection ended, or no member could take the command.
    #[error("{server} could not be asked while {doing}: {message}")]
    Lost {
        /// What was being done.
        doing: String,
        /// Which server.
        server: String,
        /// What the driver saw.
        message: String,
    },
    /// The role may not run a command.
    #[error("not authorised for `{command}` on {namespace} (while {doing}): {}", role_text(.command, .namespace))]
    Unauthorized {
        /// What was being done.
        doing: String,
        /// The name of the command.
        command: String,
        /// The database, with the collection where one was named.
        namespace: String,
        /// The database that the user was made in, where rights are granted.
        lives_in: String,
    },
    /// The server reported an error.
    #[error("{message} ({name}, code {code}, while {doing})")]
    Command {
        /// What was being done.
        doing: String,
        /// The server's code.
        code: i32,
        /// Its name.
        name: String,
        /// The server's message.
        message: String,
    },
    /// A document that was read holds what is no text, where text should be.
    #[error(
        "a document of {namespace} has text, or the name of a field, that is not valid UTF-8, as old drivers have written it, and it cannot be read (while {doing})"
    )]
    NoText {
        /// What was being done.
        doing: String,
        /// The collection, with its database.
        namespace: String,
    },
    /// The driver could not make sense of something.
    #[error("unexpected while {doing}: {message}")]
    Driver {
        /// What was being done.
        doing: String,
        /// What the driver saw.
        message: String,
    },
}

fn refusal_text(server: &str, refusal: &Refusal) -> String {
    match refusal {
        Refusal::UnknownHost => format!("{server}: there is no host of that name"),
        Refusal::NoNames => format!(
            "{server}: the members could not be looked up: there is no SRV record `_mongodb._tcp.` of that name, or no answer from the name server"
        ),
        Refusal::Refused => format!("{server}: connection refused; nothing listens there"),
        Refusal::NoAnswer => format!("{server}: no answer"),
        Refusal::NoTls { .. } => format!("{server}: the server does not offer TLS"),
        Refusal::WantsTls => format!("{server}: the server accepts nothing but TLS"),
        Refusal::Certificate(why) => {
            format!("{server}: the server's certificate is not trusted: {why}")
        }
        Refusal::OurCertificate => {
            format!("{server}: the server does not take the certificate in `tlsCertificateKeyFile`")
        }
        Refusal::NoCertificate { said: true } => {
            format!("{server}: the server demands a client certificate, and the URL names none")
        }
        Refusal::NoCertificate { said: false } => format!(
            "{server}: the server ends the connection as soon as it is encrypted, as it does where it demands a client certificate, and the URL names none"
        ),
        Refusal::Credentials => {
            format!("{server}: authentication failed; user or password is wrong")
        }
        Refusal::NoUser => format!(
            "{server}: the URL names no user, and the server does nothing for who does not log in"
        ),
        Refusal::SetName(name) => format!(
            "{server}: the URL names another replica set than `{name}`, which the server belongs to"
        ),
        Refusal::NoPrimary => {
            format!("{server}: the replica set has no primary; nothing can be written to it now")
        }
        Refusal::Astray {
            primary,
            lost,
            writable,
        } => {
            let who = match writable {
                true => "is the primary, and the replica set calls it",
                false => "answers, and the replica set calls its primary",
            };
            let lost = lost.iter().map(|(name, why)| format!("{name}: {why}"));
            format!(
                "{server}: this member {who} {primary}, where it is not reached from here ({})",
                lost.collect::<Vec<_>>().join("; ")
            )
        }
        Refusal::NotPrimary => format!(
            "{server}: this member is not the primary, and the URL has no other asked (`directConnection=true`)"
        ),
        Refusal::NoSet => {
            format!("{server}: the URL names a replica set, and the server belongs to none")
        }
        Refusal::Other(why) => format!("{server}: {why}"),
    }
}

impl MongoError {
    /// The server's code, where the server reported the error.
    pub fn code(&self) -> Option<i32> {
        match self {
            MongoError::Command { code, .. } => Some(*code),
            MongoError::Unauthorized { .. } => Some(13),
            _ => None,
        }
    }

    /// Whether the address itself is wrong, so that nobody was asked.
    pub fn is_address(&self) -> bool {
        matches!(self, MongoError::Url(_) | MongoError::NoDatabase)
    }

    /// Whether the same may succeed in a moment: a step-down, a failover, a
    /// lost connection.
    pub fn is_passing(&self) -> bool {
        match self {
            MongoError::Lost { .. } => true,
            MongoError::Command { code, .. } => PASSING.contains(code),
            _ => false,
        }
    }

    /// Whether others write the same documents at the same moment: it passes, and nobody has to act.
    pub(crate) fn is_conflict(&self) -> bool {
        self.code() == Some(CONFLICT)
    }

    /// What passes by itself, in words. What a server says of it may hold what documents hold.
    pub(crate) fn in_passing(&self) -> String {
        match self {
            MongoError::Command { code, name, .. } => {
                let words = match code {
                    &CONFLICT => "others write the same documents at the same moment",
                    91 | 189 | 10107 | 11600 | 11602 | 13435 | 13436 => {
                        "a member shuts down or is no primary any more, and another one is chosen"
                    }
                    6 | 7 | 89 | 262 | 9001 => "a member of the set did not answer another in time",
                    134 | 13388 => "the server is not ready for it yet",
                    251 => "the server has given the transaction up",
                    _ => return format!("{name} (code {code})"),
                };
                format!("{words} (code {code})")
            }
            MongoError::Lost { message, .. } => message.clone(),
            MongoError::Connect { .. } => self.to_string(),
            _ => "the driver was interrupted".to_owned(),
        }
    }

    /// Whether the server could not be reached, or was lost: exit code 3.
    pub fn is_unreachable(&self) -> bool {
        match self {
            MongoError::Url(_)
            | MongoError::NoDatabase
            | MongoError::Connect { .. }
            | MongoError::TooOld { .. }
            | MongoError::Lost { .. } => true,
            MongoError::Unnameable { .. }
            | MongoError::Unauthorized { .. }
            | MongoError::Command { .. }
            | MongoError::NoText { .. }
            | MongoError::Driver { .. } => false,
        }
    }

    /// Whether nobody answered there, or not any more.
    pub(crate) fn is_silence(&self) -> bool {
        match self {
            MongoError::Lost { .. } => true,
            MongoError::Connect { refusal, .. } => matches!(
                refusal,
                Refusal::UnknownHost | Refusal::Refused | Refusal::NoAnswer
            ),
            _ => false,
        }
    }

    /// Whether there is no such database, collection or index.
    pub fn is_vanished(&self) -> bool {
        // NamespaceNotFound, IndexNotFound, CollectionUUIDMismatch
        matches!(self.code(), Some(26 | 27 | 361))
    }

    /// Whether the time that the command was given has passed.
    pub fn is_out_of_time(&self) -> bool {
        // MaxTimeMSExpired
        self.code() == Some(50)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_down_passes_and_a_duplicate_key_does_not() {
        let of = |code| MongoError::Command {
            doing: String::new(),
            code,
            name: String::new(),
            message: String::new(),
        };
        for code in [189, 10107, 11602, 91] {
            assert!(of(code).is_passing(), "{code}");
        }
        for code in [11000, 50, 11601, 13] {
            assert!(!of(code).is_passing(), "{code}");
        }
    }
}
