//! How the hosts of a connection are tried in turn.

use std::hash::{BuildHasher, RandomState};

use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::attempt::Attempt;
use super::dial::{Dial, Host, Place, SessionKind};
use super::environment::socket_file;
use super::error::ConnectError;
use super::link::Link;
use super::wire::Endpoint;

impl Dial {
    /// Opens a session with the first server that accepts one.
    ///
    /// As in libpq, the next host is tried when one cannot be reached, is
    /// not accepting sessions, is of the wrong kind or speaks another protocol; a server that says
    /// no (wrong password, no such database) has the last word.
    pub fn connect<'a>(
        &'a self,
        application_name: &'a str,
    ) -> BoxFuture<'a, Result<Link, ConnectError>> {
        Box::pin(async move {
            let passes: &[SessionKind] = match self.session {
                SessionKind::PreferStandby => &[SessionKind::Standby, SessionKind::Any],
                ref other => std::slice::from_ref(other),
            };
            let mut failures = Vec::new();
            for session in passes {
                failures.clear();
                for host in self.hosts_in_order() {
                    match self.connect_host(host, *session, application_name).await {
                        Ok(link) => return Ok(link),
                        Err(error) if error.tries_next_host() => failures.push(error),
                        Err(error) => return Err(error),
                    }
                }
            }
            match failures.len() {
                1 => Err(failures.remove(0)),
                _ => Err(ConnectError::NoHost {
                    server: self.describe(),
                    failures,
                }),
            }
        })
    }

    fn hosts_in_order(&self) -> Vec<&Host> {
        let mut hosts: Vec<&Host> = self.hosts.iter().collect();
        if self.random_order {
            // Spreading sessions needs no better randomness than this.
            let state = RandomState::new();
            hosts.sort_by_cached_key(|host| state.hash_one(host.name_and_port()));
        }
        hosts
    }

    fn connect_host<'a>(
        &'a self,
        host: &'a Host,
        session: SessionKind,
        application_name: &'a str,
    ) -> BoxFuture<'a, Result<Link, ConnectError>> {
        Box::pin(async move {
            let server = format!(
                "{}/{} as {}",
                host.name_and_port(),
                self.database,
                self.role
            );
            let mut failure = None;
            for endpoint in self.endpoints(host, &server).await? {
                let attempt = Attempt {
                    dial: self,
                    host,
                    server: &server,
                    endpoint,
                    session,
                    application_name,
                    deadline: self.timeout.map(|timeout| Instant::now() + timeout),
                };
                match attempt.run().await {
                    Err(error) if error.tries_next_host() => failure = Some(error),
                    decided => return decided,
                }
            }
            Err(failure.unwrap_or_else(|| ConnectError::UnknownHost {
                host: host.name_and_port(),
                server: server.clone(),
                source: std::io::Error::from(std::io::ErrorKind::NotFound),
            }))
        })
    }

    async fn endpoints(&self, host: &Host, server: &str) -> Result<Vec<Endpoint>, ConnectError> {
        let (name, address) = match &host.place {
            Place::Socket(directory) => {
                return Ok(vec![Endpoint::Socket(socket_file(directory, host.port))]);
            }
            Place::Tcp { name, address } => (name, address),
        };
        if let Some(address) = address {
            return Ok(vec![Endpoint::Tcp((*address, host.port).into())]);
        }
        let lookup = tokio::net::lookup_host((name.as_str(), host.port));
        let found =
            match self.timeout {
                Some(after) => tokio::time::timeout(after, lookup).await.map_err(|_| {
                    ConnectError::TimedOut {
                        server: server.to_owned(),
                        after,
                        stage: "looking up the host name",
                    }
                })?,
                None => lookup.await,
            };
        match found {
            Ok(addresses) => Ok(addresses.map(Endpoint::Tcp).collect()),
            Err(source) => Err(ConnectError::UnknownHost {
                server: server.to_owned(),
                host: name.clone(),
                source,
            }),
        }
    }
}
