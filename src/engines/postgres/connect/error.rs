//! Why a session could not be opened, in sentences.

mod helps;

use std::io;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::values::FilesUsedUp;

/// The error underneath, for logs. Never holds a secret.
pub(super) type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why a session could not be opened (or a statement not be cancelled).
///
/// `server` is always `host:port/database as role`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(
    missing_docs,
    reason = "the sentence above each variant's fields says it"
)]
pub enum ConnectError {
    /// The name server knows no such host, or does not answer.
    #[error("cannot connect to {server}: the host name `{host}` cannot be resolved")]
    UnknownHost {
        server: String,
        host: String,
        source: io::Error,
    },
    /// Nobody listens on that port.
    #[error("cannot connect to {server}: nothing accepts connections there")]
    Refused { server: String, source: io::Error },
    /// There is no Unix socket of that name.
    #[error("cannot connect to {server}: there is no server socket {path}")]
    NoSocket {
        server: String,
        path: String,
        source: io::Error,
    },
    /// This process or this machine has no file left to open, and a connection is one.
    #[error("cannot connect to {server}: {} has used up its open files", whose(*used_up))]
    OutOfFiles {
        server: String,
        used_up: FilesUsedUp,
        source: io::Error,
    },
    /// The network does not lead there, or broke.
    #[error("cannot connect to {server}: the network connection failed")]
    Network { server: String, source: io::Error },
    /// The time for one address ran out.
    #[error("cannot connect to {server}: no result after {after:?} of {stage}")]
    TimedOut {
        server: String,
        after: Duration,
        stage: &'static str,
    },
    /// The server did not accept the password.
    #[error("{server} rejects the password from {}", password_from.join(", "))]
    WrongPassword {
        server: String,
        password_from: Vec<String>,
        certificate_sent: bool,
        source: Cause,
    },
    /// The server wants a password and there is none.
    #[error("{server} asks for a password, and none is given; looked at: {}", looked_at.join(", "))]
    NoPassword {
        server: String,
        looked_at: Vec<String>,
        source: Cause,
    },
    /// The login failed in another way than by a wrong password.
    #[error("{server} cannot be logged in to: {reason}")]
    Login {
        server: String,
        reason: String,
        source: Cause,
    },
    /// The database does not exist.
    #[error("cannot connect to {server}: there is no database `{database}`")]
    NoSuchDatabase {
        server: String,
        database: String,
        /// Whether the server had named it a moment before.
        listed: bool,
        source: Cause,
    },
    /// The role does not exist, or may not log in.
    #[error("cannot connect to {server} as `{role}`: {message}")]
    NoLogin {
        server: String,
        role: String,
        message: String,
        source: Cause,
    },
    /// `pg_hba.conf` does not let this role in from here.
    #[error("{server} does not admit this role from this address ({}): {message}", tls.words())]
    NotAdmitted {
        server: String,
        tls: TlsUse,
        certificate_sent: bool,
        message: String,
        source: Cause,
    },
    /// `pg_hba.conf` does not let this role in from here without TLS, which was not asked
    /// for. Whether it would over TLS, nobody knows: the server says the same of a line that
    /// rejects, of none at all, and of one for TLS alone.
    #[error(
        "{server} does not admit this role from this address without TLS, which `sslmode={mode}` did not ask for: {message}"
    )]
    EncryptionDemanded {
        server: String,
        mode: &'static str,
        message: String,
        source: Cause,
    },
    /// Every connection slot is taken.
    #[error("{server} has no free connection: {message}")]
    TooManyConnections {
        server: String,
        message: String,
        source: Cause,
    },
    /// A pooler had no connection to the server free for as long as it lets wait for one.
    #[error(
        "{server} is reached through a pooler (PgBouncer) that had no connection to the server free for as long as its `query_wait_timeout` lets wait: a run needs three at once, for the task's lock, for what watches, and for a step; one more for each further one of `limits.jobs`, one with `throttle`, one beside a step that archives"
    )]
    PoolFull { server: String, source: Cause },
    /// The server starts, stops or recovers.
    #[error("{server} is not accepting sessions at the moment: {message}")]
    NotAccepting {
        server: String,
        message: String,
        source: Cause,
    },
    /// The server has TLS switched off and the mode insists on it.
    #[error("{server} does not offer TLS, and {}", demanded_by(mode, *mode_was_given))]
    TlsNotOffered {
        server: String,
        mode: &'static str,
        mode_was_given: bool,
    },
    /// The server could not prove who it is.
    #[error("the certificate of {server} is not trusted: {fault}")]
    Untrusted {
        server: String,
        fault: Box<CertificateFault>,
        source: Cause,
    },
    /// The handshake ended because a client certificate was wanted, as proxies do;
    /// PostgreSQL says so after it.
    #[error("{server} asks for a client certificate, and none was sent")]
    ClientCertificateRequired { server: String, source: Cause },
    /// The server does not accept the client certificate it got.
    #[error("{server} rejects the client certificate: {reason}")]
    ClientCertificateRejected {
        server: String,
        reason: String,
        source: Cause,
    },
    /// A certificate, key or revocation list cannot be used.
    #[error("cannot connect to {server}: {problem}")]
    TlsFiles {
        server: String,
        problem: String,
        next_step: &'static str,
        source: Option<Cause>,
    },
    /// The handshake failed for another reason than the certificate.
    #[error("the TLS handshake with {server} failed: {reason}")]
    Handshake {
        server: String,
        reason: String,
        direct: bool,
        source: Cause,
    },
    /// Something answers there, but not in PostgreSQL's protocol.
    #[error("what answers at {server} does not speak PostgreSQL's protocol: {reason}")]
    NotPostgres {
        server: String,
        reason: String,
        source: Option<Cause>,
    },
    /// A standby where a primary was wanted, or the reverse.
    #[error("{server} is not what `target_session_attrs={wanted}` asks for")]
    WrongKind {
        server: String,
        wanted: &'static str,
    },
    /// The role is known, and may not use that database.
    #[error("{server} refused the session: {role} may not connect to the database {database}")]
    MayNotConnect {
        server: String,
        database: String,
        role: String,
        source: Cause,
    },
    /// Any other refusal by the server.
    #[error("{server} refused the session: {message} (SQLSTATE {code})")]
    Server {
        server: String,
        code: String,
        message: String,
        source: Cause,
    },
    /// None of several hosts gave a session.
    #[error("no host of {server} gave a session: {}", join(failures))]
    NoHost {
        server: String,
        failures: Vec<ConnectError>,
    },
}

/// Whether a session that was refused spoke TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsUse {
    /// It did.
    Spoken,
    /// The server was asked for it, and has none.
    NotOffered,
    /// Nobody asked the server for it.
    NotAsked,
}

impl TlsUse {
    fn words(self) -> &'static str {
        match self {
            TlsUse::Spoken => "over TLS",
            TlsUse::NotOffered => "without TLS, which the server does not offer",
            TlsUse::NotAsked => "without TLS",
        }
    }
}

/// What is wrong with a server's certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateFault {
    /// No trusted authority signed it.
    #[error("it was issued by an authority that is not trusted here")]
    UnknownIssuer,
    /// Its time has passed.
    #[error("it expired{}", at(*.0))]
    Expired(Option<DateTime<Utc>>),
    /// Its time has not come.
    #[error("it is not valid yet{}", at(*.0))]
    NotYetValid(Option<DateTime<Utc>>),
    /// It is for another host.
    #[error("it is not for `{expected}`, {}", names(presented))]
    WrongName {
        /// The host name of the connection.
        expected: String,
        /// The names in the certificate.
        presented: Vec<String>,
    },
    /// Its authority has withdrawn it.
    #[error("its authority has revoked it")]
    Revoked,
    /// It is a certificate authority's own certificate.
    #[error("it is the certificate of an authority, used as a server's")]
    Authority,
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

fn at(time: Option<DateTime<Utc>>) -> String {
    time.map(|time| format!(" ({})", time.format("%Y-%m-%d %H:%M:%SZ")))
        .unwrap_or_default()
}

fn names(presented: &[String]) -> String {
    if presented.is_empty() {
        "and it names no host".to_owned()
    } else {
        format!("but for {}", presented.join(", "))
    }
}

fn whose(used_up: FilesUsedUp) -> &'static str {
    match used_up {
        FilesUsedUp::Process => "this process",
        FilesUsedUp::System => "this machine",
    }
}

fn demanded_by(mode: &str, was_given: bool) -> String {
    if was_given {
        format!("`sslmode={mode}` insists on it")
    } else {
        format!("maint insists on it unless told otherwise (`sslmode={mode}`, as none is set)")
    }
}

fn join(failures: &[ConnectError]) -> String {
    failures
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("; ")
}

impl ConnectError {
    /// Whether the server, or one of several, is up and has no connection free.
    pub fn is_full(&self) -> bool {
        match self {
            ConnectError::TooManyConnections { .. } | ConnectError::PoolFull { .. } => true,
            ConnectError::NoHost { failures, .. } => failures.iter().any(ConnectError::is_full),
            _ => false,
        }
    }

    /// Whether the server, or each of several, is up and has no database of that name.
    pub fn has_no_such_database(&self) -> bool {
        match self {
            ConnectError::NoSuchDatabase { .. } => true,
            ConnectError::NoHost { failures, .. } => {
                !failures.is_empty() && failures.iter().all(ConnectError::has_no_such_database)
            }
            _ => false,
        }
    }

    /// Whether a pooler let wait for a connection until it gave up: whoever asks again waits as long.
    pub fn has_waited(&self) -> bool {
        match self {
            ConnectError::PoolFull { .. } => true,
            ConnectError::NoHost { failures, .. } => failures.iter().any(ConnectError::has_waited),
            _ => false,
        }
    }

    /// Whether another host of the list may do better.
    pub(super) fn tries_next_host(&self) -> bool {
        use ConnectError as E;
        matches!(
            self,
            E::UnknownHost { .. }
                | E::Refused { .. }
                | E::NoSocket { .. }
                | E::Network { .. }
                | E::TimedOut { .. }
                | E::NotAccepting { .. }
                | E::WrongKind { .. }
                // A proxy whose server is gone takes the connection, and ends it.
                | E::NotPostgres { .. }
        )
    }
}
