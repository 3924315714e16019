//! What the driver says becomes an error of ours.

use mongodb::bson::error::ErrorKind as BsonErrorKind;
use mongodb::error::{Error, ErrorKind, IndexedWriteError, WriteFailure};

use super::super::masked::{BLOCKED, is_of_the_server, of_a_write, without_values};
use super::helps::ADMIN;
use super::{MongoError, Refusal};

impl MongoError {
    /// Dresses up a driver error; `doing` completes "while …".
    pub(in crate::engines::mongodb) fn of(
        doing: &str,
        command: &str,
        namespace: &str,
        server: &str,
        error: &Error,
    ) -> Self {
        let doing = doing.to_owned();
        // The last says whether it is about what was to be written.
        let of_document =
            |e: &IndexedWriteError| (e.code, e.code_name.clone(), e.message.clone(), true);
        let told = match error.kind.as_ref() {
            ErrorKind::Command(e) => {
                Some((e.code, Some(e.code_name.clone()), e.message.clone(), false))
            }
            ErrorKind::Write(WriteFailure::WriteError(e)) => {
                Some((e.code, e.code_name.clone(), e.message.clone(), true))
            }
            ErrorKind::Write(WriteFailure::WriteConcernError(e)) => {
                Some((e.code, Some(e.code_name.clone()), e.message.clone(), false))
            }
            ErrorKind::InsertMany(e) => {
                let errors = e.write_errors.as_deref().unwrap_or_default();
                let worst = errors.iter().find(|e| is_of_the_server(e.code));
                let written = worst.or(errors.first()).map(of_document);
                written.or_else(|| {
                    let e = e.write_concern_error.as_ref()?;
                    Some((e.code, Some(e.code_name.clone()), e.message.clone(), false))
                })
            }
            _ => None,
        };
        let told = told.map(|(code, name, message, written)| {
            let name = match name.unwrap_or_default() {
                name if name.is_empty() => "write error".to_owned(),
                name => name,
            };
            let message = match (code, written) {
                (BLOCKED, _) => "the server takes no writes of users: setUserWriteBlockMode is on, as tools for migrations and backups leave it; db.adminCommand({setUserWriteBlockMode: 1, global: false}) ends that".to_owned(),
                // DatabaseDifferCase
                (13297, _) => format!(
                    "{}: names of databases may not differ in upper and lower case only; write it as it is there, in the `url` of the target or in `database`",
                    without_values(code, &message)
                ),
                (code, true) => of_a_write(code, &message),
                (code, false) => without_values(code, &message),
            };
            (code, name, message)
        });
        match (told, error.kind.as_ref()) {
            (Some((13, ..)), _) => MongoError::Unauthorized {
                doing,
                command: command.to_owned(),
                namespace: namespace.to_owned(),
                lives_in: ADMIN.to_owned(),
            },
            (Some((code, name, message)), _) => MongoError::Command {
                doing,
                code,
                name,
                message,
            },
            (None, ErrorKind::Authentication { .. }) => MongoError::Connect {
                server: server.to_owned(),
                refusal: Refusal::Credentials,
            },
            (
                None,
                ErrorKind::Io(_)
                | ErrorKind::ConnectionPoolCleared { .. }
                | ErrorKind::ServerSelection { .. }
                | ErrorKind::DnsResolve { .. }
                | ErrorKind::Shutdown,
            ) => MongoError::Lost {
                doing,
                server: server.to_owned(),
                message: said(error),
            },
            (None, kind) if is_no_text(kind) => MongoError::NoText {
                doing,
                namespace: namespace.to_owned(),
            },
            (None, _) => MongoError::Driver {
                doing,
                message: said(error),
            },
        }
    }

    /// The same, where only its class matters.
    pub(crate) fn of_driver(error: &Error) -> Self {
        MongoError::of("", "", "", "", error)
    }

    /// The same of a user who was made in this database.
    pub(in crate::engines::mongodb) fn of_user_in(self, database: &str) -> Self {
        match self {
            MongoError::Unauthorized {
                doing,
                command,
                namespace,
                ..
            } => MongoError::Unauthorized {
                doing,
                command,
                namespace,
                lives_in: database.to_owned(),
            },
            other => other,
        }
    }
}

/// Whether the driver has met bytes that are no UTF-8. Where it reads into a type of ours, it has
/// that in the text of its error alone.
fn is_no_text(kind: &ErrorKind) -> bool {
    let (ErrorKind::BsonDeserialization(error) | ErrorKind::Bson(error)) = kind else {
        return false;
    };
    matches!(error.kind, BsonErrorKind::Utf8Encoding { .. }) || error.to_string().contains("UTF-8")
}

/// What the driver says, without what it says of itself; of a topology it goes on for lines, and the
/// reason is in front.
pub(in crate::engines::mongodb) fn said(error: &Error) -> String {
    if matches!(error.kind.as_ref(), ErrorKind::ServerSelection { .. }) {
        return "no member that could do it was found in time: none is primary, or none answers"
            .to_owned();
    }
    let text = error.kind.to_string();
    // What reads TLS, which is our own, says so where the other side just goes away.
    if text.contains("close_notify") {
        return "the connection was closed".to_owned();
    }
    let text = text.split(". Topology:").next().unwrap_or(&text);
    // Nor where the manual of its TLS explains it.
    let text = text.split(": https://docs.rs/").next().unwrap_or(text);
    text.chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_error_has_the_drivers_own_marks() {
        let lost = std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "unexpected end of file");
        let error = MongoError::of("asking", "find", "a.b", "h:1", &Error::from(lost)).to_string();
        assert!(error.contains("unexpected end of file"), "{error}");
        let manual =
            "peer closed connection: https://docs.rs/rustls/latest/rustls/manual/index.html";
        let lost = std::io::Error::new(std::io::ErrorKind::UnexpectedEof, manual);
        let told = MongoError::of("asking", "find", "a.b", "h:1", &Error::from(lost)).to_string();
        assert!(
            told.contains("peer closed connection") && !told.contains("docs.rs"),
            "{told}"
        );
        for mark in ["Kind:", "labels:", "source:", "server response"] {
            assert!(!error.contains(mark), "{error}");
        }
    }
}
