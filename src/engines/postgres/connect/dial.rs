//! A connection fully described.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use tokio_postgres::config::ChannelBinding;

use super::tls::{TlsFiles, TlsMode};
use super::wire::Keepalive;

/// A connection fully resolved: hosts, port, role, password, database, TLS
/// policy, timeouts. Neither `Debug` nor [`Dial::describe`] shows a secret.
#[derive(Clone)]
pub struct Dial {
    pub(super) hosts: Vec<Host>,
    pub(super) role: String,
    pub(super) database: String,
    /// Whether the server has named it, when it was asked which there are.
    pub(super) listed: bool,
    pub(super) options: Option<String>,
    pub(super) tls: TlsFiles,
    pub(super) channel_binding: ChannelBinding,
    pub(super) session: SessionKind,
    /// Per address; `None` waits for ever.
    pub(super) timeout: Option<Duration>,
    pub(super) keepalive: Keepalive,
    pub(super) random_order: bool,
}

/// One server that may answer.
#[derive(Clone)]
pub(super) struct Host {
    pub(super) place: Place,
    pub(super) port: u16,
    pub(super) mode: TlsMode,
    /// Somebody set it, as against our default.
    pub(super) mode_was_given: bool,
    pub(super) password: Password,
}

/// Where a server listens.
#[derive(Clone)]
pub(super) enum Place {
    /// The directory of a Unix socket.
    Socket(PathBuf),
    /// A name for people and certificates, and the address if one was given.
    Tcp {
        name: String,
        address: Option<IpAddr>,
    },
}

/// A password, or where one was looked for in vain.
#[derive(Clone)]
pub(super) struct Password {
    pub(super) value: Option<SecretString>,
    /// Where it came from, or every place looked at.
    pub(super) sources: Vec<String>,
}

/// `target_session_attrs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SessionKind {
    Any,
    ReadWrite,
    ReadOnly,
    Primary,
    Standby,
    PreferStandby,
}

impl SessionKind {
    pub(super) fn word(self) -> &'static str {
        match self {
            SessionKind::Any => "any",
            SessionKind::ReadWrite => "read-write",
            SessionKind::ReadOnly => "read-only",
            SessionKind::Primary => "primary",
            SessionKind::Standby => "standby",
            SessionKind::PreferStandby => "prefer-standby",
        }
    }
}

impl Host {
    pub(super) fn name_and_port(&self) -> String {
        match &self.place {
            Place::Socket(directory) => format!("{}:{}", directory.display(), self.port),
            Place::Tcp { name, .. } if name.contains(':') => format!("[{name}]:{}", self.port),
            Place::Tcp { name, .. } => format!("{name}:{}", self.port),
        }
    }
}

impl Dial {
    /// `host:port/database as role`, never a secret.
    pub fn describe(&self) -> String {
        let hosts: Vec<String> = self.hosts.iter().map(Host::name_and_port).collect();
        format!("{}/{} as {}", hosts.join(","), self.database, self.role)
    }

    /// The role that logs in.
    pub fn role(&self) -> &str {
        &self.role
    }

    /// Of several hosts the primary, whichever that is when a session is
    /// opened, unless the address asks for something else.
    pub fn following_the_primary(mut self) -> Dial {
        if self.has_several_hosts() && self.session == SessionKind::Any {
            self.session = SessionKind::Primary;
        }
        self
    }

    /// The same, and of its hosts this one.
    pub(super) fn only(&self, host: &Host) -> Dial {
        Dial {
            hosts: vec![host.clone()],
            ..self.clone()
        }
    }

    /// Whether the server is one of several.
    pub fn has_several_hosts(&self) -> bool {
        self.hosts.len() > 1
    }

    /// Each host by itself, whatever it is, with so much time to answer at most.
    pub fn each_host(&self, most: Duration) -> Vec<Dial> {
        let alone = |host: &Host| Dial {
            session: SessionKind::Any,
            timeout: Some(self.timeout.map_or(most, |timeout| timeout.min(most))),
            ..self.only(host)
        };
        self.hosts.iter().map(alone).collect()
    }

    /// The same server and role, and a database that the server has named.
    #[must_use]
    pub fn to_database(mut self, name: &str) -> Dial {
        name.clone_into(&mut self.database);
        self.listed = true;
        self
    }
}

impl fmt::Debug for Dial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // `options` may set a parameter that is a secret, so it stays out.
        f.debug_struct("Dial")
            .field("server", &self.describe())
            .field(
                "tls",
                &self.hosts.iter().map(|host| host.mode).collect::<Vec<_>>(),
            )
            .field("session", &self.session)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
