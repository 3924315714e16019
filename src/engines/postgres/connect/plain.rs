//! A connection in plain words, for a driver that opens its own sessions.

use std::path::PathBuf;

use futures_util::future::join_all;
use tokio_postgres::config::ChannelBinding;

use super::dial::{Dial, Place, SessionKind};
use super::dial_error::{DialError, Origin};
use super::error::ConnectError;
use super::tls::{RootSource, TlsMode};
use crate::values::Secret;

/// One server, and how to log in to it.
#[derive(Clone, Debug)]
pub struct Plain {
    /// Name, address, or the directory of a Unix socket.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The role.
    pub role: String,
    /// The database.
    pub database: String,
    /// The password, where there is one.
    pub password: Option<Secret>,
    /// libpq's `sslmode`; never `allow`.
    pub tls_mode: &'static str,
    /// A file of authorities to trust; without it the system's.
    pub authorities: Option<PathBuf>,
    /// Certificate and key to show.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// Settings of the session, as `-c name=value`.
    pub options: Option<String>,
}

impl Dial {
    /// The same connection, narrowed to the first host that accepts a
    /// session. With `writable`, and where nothing else was asked for, a
    /// server that can be written; of several such, which a failover leaves
    /// behind where the old primary comes back, the one that was promoted last.
    ///
    /// # Errors
    /// As [`Dial::connect`].
    pub async fn settle(
        &self,
        application_name: &str,
        writable: bool,
    ) -> Result<Dial, ConnectError> {
        let mut wanted = self.clone();
        if writable && wanted.session == SessionKind::Any {
            wanted.session = SessionKind::Primary;
        }
        let hosts: Vec<Dial> = wanted.hosts.iter().map(|host| wanted.only(host)).collect();
        let several = wanted.has_several_hosts();
        let looks = hosts.iter().map(|one| async move {
            let link = one.connect(application_name).await?;
            Ok(match several {
                true => link.timeline().await,
                false => None,
            })
        });
        let mut best: Option<(Option<u32>, &Dial)> = None;
        let mut last = None;
        for (one, looked) in hosts.iter().zip(join_all(looks).await) {
            match looked {
                Ok(timeline) if best.is_none_or(|(found, _)| timeline > found) => {
                    best = Some((timeline, one));
                }
                Ok(_) => {}
                Err(error) => last = Some(error),
            }
        }
        match (best, last) {
            (Some((_, one)), _) => Ok(one.clone()),
            (None, Some(error)) if wanted.hosts.len() == 1 => Err(error),
            // Every host is asked once more, for the error that names them all.
            (None, _) => wanted
                .connect(application_name)
                .await
                .map(|_| wanted.clone()),
        }
    }

    /// `host:port/database` of the first host.
    pub fn first_place(&self) -> String {
        self.hosts
            .first()
            .map_or_else(|| self.place(), |host| self.only(host).place())
    }

    /// The first host in plain words.
    ///
    /// # Errors
    /// Where the connection asks for protection that only our own driver
    /// gives: dropping it silently would be a lie.
    pub fn plain(&self) -> Result<Plain, DialError> {
        let unsupported = |name| DialError::Unsupported {
            name,
            origin: Origin::Url,
            reason: "connections to the history cannot do that",
        };
        if self.tls.direct {
            return Err(unsupported("sslnegotiation"));
        }
        if self.tls.revoked.is_some() {
            return Err(unsupported("sslcrl"));
        }
        if self.tls.tls13_only {
            return Err(unsupported("ssl_min_protocol_version"));
        }
        if self.channel_binding == ChannelBinding::Require {
            return Err(unsupported("channel_binding"));
        }
        let Some(host) = self.hosts.first() else {
            return Err(unsupported("host"));
        };
        let name = match &host.place {
            Place::Socket(directory) => directory.display().to_string(),
            Place::Tcp { name, address } => match address {
                // The name is what the certificate has to say; without a
                // certificate to check only the address matters.
                Some(address)
                    if !matches!(host.mode, TlsMode::VerifyFull)
                        || name == &address.to_string() =>
                {
                    address.to_string()
                }
                Some(_) => return Err(unsupported("hostaddr")),
                None => name.clone(),
            },
        };
        Ok(Plain {
            host: name,
            port: host.port,
            role: self.role.clone(),
            database: self.database.clone(),
            password: host
                .password
                .value
                .as_ref()
                .map(|value| Secret::new(secrecy::ExposeSecret::expose_secret(value))),
            tls_mode: match host.mode {
                TlsMode::Allow => TlsMode::Prefer.word(),
                mode => mode.word(),
            },
            authorities: match &self.tls.root {
                RootSource::File(file) => Some(file.clone()),
                RootSource::Default(file) => file.clone(),
                RootSource::System => None,
            },
            certificate: self.tls.certificate.clone(),
            options: self.options.clone(),
        })
    }

    /// `host:port/database` of every host, without the role.
    pub fn place(&self) -> String {
        let described = self.describe();
        match described.rsplit_once(" as ") {
            Some((place, _)) => place.to_owned(),
            None => described,
        }
    }
}
