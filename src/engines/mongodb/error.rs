//! What can go wrong between maint and MongoDB, in words that hold no password, no URL and nothing
//! of any document.

use mongodb::bson::error::ErrorKind as BsonErrorKind;
use mongodb::error::{Error, ErrorKind, IndexedWriteError, WriteFailure};

use super::masked::{BLOCKED, PASSING, is_of_the_server, of_a_write, without_values};
use super::names::CLAIMS;

/// Where users are made, if nothing else is said.
const ADMIN: &str = "admin";

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
    /// The one member that the URL has asked is not the primary.
    NotPrimary,
    /// The server is no member of a replica set, and the URL names one.
    NoSet,
    /// Something else; as the driver says it.
    Other(String),
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

/// Which role is missing: a run's record has errors without their hints.
fn role_text(command: &str, namespace: &str) -> String {
    let (role, on) = role_for(command, namespace);
    let narrower = match command {
        "findAndModify" if namespace.ends_with(&format!(".{CLAIMS}")) => format!(
            ", and so has a role of your own with find, insert, update and remove on {namespace}"
        ),
        _ => String::new(),
    };
    format!("the role {role} on {on} has that right{narrower}")
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
    /// Dresses up a driver error; `doing` completes "while …".
    pub(super) fn of(
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

    /// The same of a user who was made in this database.
    pub(super) fn of_user_in(self, database: &str) -> Self {
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

    /// The same, where only its class matters.
    pub(crate) fn of_driver(error: &Error) -> Self {
        MongoError::of("", "", "", "", error)
    }

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
            MongoError::Unauthorized { .. }
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

    /// What to do next, where there is something better to say than the error itself.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            MongoError::NoDatabase => {
                "write it behind the host: mongodb://host/DATABASE?authSource=admin".to_owned()
            }
            MongoError::TooOld { .. } => "upgrade the server".to_owned(),
            MongoError::Unauthorized {
                command,
                namespace,
                lives_in,
                ..
            } => {
                let (role, on) = role_for(command, namespace);
                format!("let the user: {}", grant(lives_in, role, &on))
            }
            MongoError::NoText { .. } => {
                "leave such documents out with `where` or `keep`, by another field, or write that text anew as UTF-8; MongoDB's own tools (mongoexport) say in which document it stands".to_owned()
            }
            MongoError::Lost { .. } => {
                "look whether the members are up and one of them is primary; then run the task again".to_owned()
            }
            MongoError::Connect { refusal, .. } => match refusal {
                Refusal::UnknownHost => "look at the spelling of the host in the target's `url`".to_owned(),
                Refusal::NoNames => "look at the spelling of the host in the target's `url` and at this machine's name server; without SRV records the members are named one by one: mongodb://a:27017,b:27017/DATABASE".to_owned(),
                Refusal::Refused => "look whether mongod runs there, on that port, and listens on that address (`net.bindIp`)".to_owned(),
                Refusal::NoAnswer => "look at firewalls between here and there; `connectTimeoutMS` in the URL changes how long maint waits".to_owned(),
                Refusal::NoTls { by_default: true } => "beyond this machine TLS is the default: turn it on in the server (`net.tls.mode`), or accept that everybody on the way can read along, with tls=false in the URL".to_owned(),
                Refusal::NoTls { by_default: false } => "turn TLS on in the server (`net.tls.mode`), or say tls=false in the URL".to_owned(),
                Refusal::WantsTls => "say tls=true in the URL, and tlsCAFile=FILE where its authority is one of your own".to_owned(),
                Refusal::Certificate(_) => "say with tlsCAFile=FILE in the URL which authority signed it; the host in the URL must be one that the certificate names".to_owned(),
                Refusal::OurCertificate => "look whether it is valid, and signed by an authority that the server trusts (`net.tls.CAFile` there)".to_owned(),
                Refusal::NoCertificate { .. } => "name a file with the certificate and its key in the URL: tlsCertificateKeyFile=FILE".to_owned(),
                Refusal::Credentials => "look at user, password and `authSource` (the database the user was made in, often admin)".to_owned(),
                Refusal::NoUser => "write user and password in front of the host: mongodb://USER:PASSWORD@host/DATABASE?authSource=admin".to_owned(),
                Refusal::NotPrimary => "name all members in the URL, with replicaSet=NAME and without directConnection=true: then the primary is found, whichever it is".to_owned(),
                Refusal::SetName(name) => format!("say replicaSet={name} in the URL"),
                Refusal::NoPrimary => "look at rs.status() on a member: a majority of the members must be up and see each other".to_owned(),
                Refusal::NoSet => "leave replicaSet out of the URL".to_owned(),
                Refusal::Other(_) => return None,
            },
            _ => return None,
        };
        Some(text)
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

/// The command that gives a role to a user who was made in this database.
pub fn grant(lives_in: &str, role: &str, on: &str) -> String {
    format!(
        "db.getSiblingDB({lives_in:?}).grantRolesToUser(USER, [{{ role: {role:?}, db: {on:?} }}])"
    )
}

/// The narrowest built-in role that allows a command, and the database it is granted on. A namespace
/// is a database, with the collection where one was named.
pub fn role_for(command: &str, namespace: &str) -> (&'static str, String) {
    let (database, collection) = namespace.split_once('.').unwrap_or((namespace, ""));
    let own = database.to_owned();
    let admin = "admin".to_owned();
    match command {
        "replSetGetStatus" | "replSetGetConfig" | "serverStatus" | "getParameter" | "currentOp"
        | "$indexStats" | "$currentOp" | "top" | "getCmdLineOpts" => ("clusterMonitor", admin),
        // What the profiler writes is the server's own, and not among what `read` may read.
        "find" | "aggregate" | "count" if collection == "system.profile" => {
            ("clusterMonitor", admin)
        }
        "replSetStepDown" | "replSetStateChange" => ("clusterManager", admin),
        "killOp" => ("hostManager", admin),
        "validate" | "compact" | "collMod" | "profile" => ("dbAdmin", own),
        "find" | "aggregate" | "count" | "collStats" | "dbStats" | "listIndexes"
        | "listCollections" => ("read", own),
        "indexStats" => ("clusterMonitor", admin),
        _ => ("readWrite", own),
    }
}

/// What the driver says, without what it says of itself; of a topology it goes on for lines, and the
/// reason is in front.
pub(super) fn said(error: &Error) -> String {
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
    fn what_is_not_allowed_names_the_role_that_would() {
        let error = MongoError::Unauthorized {
            doing: "checking it".to_owned(),
            command: "validate".to_owned(),
            namespace: "shop.orders".to_owned(),
            lives_in: "admin".to_owned(),
        };
        assert_eq!(
            error.hint().as_deref(),
            Some(
                "let the user: db.getSiblingDB(\"admin\").grantRolesToUser(USER, [{ role: \"dbAdmin\", db: \"shop\" }])"
            )
        );
        assert!(!error.is_unreachable() && !error.is_passing());
        // Who was made elsewhere is not found in `admin`.
        let hint = error.of_user_in("$external").hint().unwrap_or_default();
        assert!(hint.contains("getSiblingDB(\"$external\").grant"), "{hint}");
    }

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
