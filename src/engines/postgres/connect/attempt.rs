//! One address, one try: socket, TLS, login.
//!
//! The TLS negotiation is ours rather than the driver's, because the driver
//! takes every answer that is not yes for a no: it cannot tell a server
//! without TLS from something that is no PostgreSQL at all, and it does not
//! fall back the way `prefer` and `allow` ask for.

use std::io;

use futures_util::future::BoxFuture;
use rustls::ClientConfig;
use secrecy::ExposeSecret;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tokio_postgres::config::{SslMode, SslNegotiation};
use tokio_postgres::tls::{NoTls, TlsConnect, TlsStream};
use tokio_postgres::{Connection, SimpleQueryMessage};

use super::dial::{Dial, Host, Place, SessionKind};
use super::error::{ConnectError, TlsUse};
use super::link::{Canceller, Link};
use super::tls::{TlsMode, client_config};
use super::wire::{Endpoint, Wire, connector, open, request_tls};

/// How one try treats TLS.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Encryption {
    Never,
    /// In the clear if the server says that it has no TLS.
    IfOffered,
    Always,
}

/// Everything one try needs to know.
pub(super) struct Attempt<'a> {
    pub(super) dial: &'a Dial,
    pub(super) host: &'a Host,
    pub(super) server: &'a str,
    pub(super) endpoint: Endpoint,
    pub(super) session: SessionKind,
    pub(super) application_name: &'a str,
    pub(super) deadline: Option<Instant>,
}

impl Attempt<'_> {
    pub(super) fn over_tcp(&self) -> bool {
        matches!(self.endpoint, Endpoint::Tcp(_))
    }

    pub(super) async fn run(&self) -> Result<Link, ConnectError> {
        match self.host.mode {
            TlsMode::Disable => self.once(Encryption::Never).await,
            TlsMode::Prefer => match self.once(Encryption::IfOffered).await {
                Err(first) if wants_other_encryption(&first) => {
                    self.second(Encryption::Never, first).await
                }
                decided => decided,
            },
            TlsMode::Allow => match self.once(Encryption::Never).await {
                Err(first) if wants_other_encryption(&first) => {
                    self.second(Encryption::Always, first).await
                }
                decided => decided,
            },
            TlsMode::Require | TlsMode::VerifyCa | TlsMode::VerifyFull => {
                self.once(Encryption::Always).await
            }
        }
    }

    /// Tries the other way, and reports whichever try came further.
    async fn second(
        &self,
        encryption: Encryption,
        first: ConnectError,
    ) -> Result<Link, ConnectError> {
        match self.once(encryption).await {
            Err(ConnectError::TlsNotOffered { .. }) => Err(not_for_want_of_tls(first)),
            Err(ConnectError::TimedOut { .. }) => Err(first),
            // Of the two the one over TLS: without it the server says less of what it wants.
            Err(second) if wants_other_encryption(&second) => Err(match encryption {
                Encryption::Never => first,
                Encryption::IfOffered | Encryption::Always => second,
            }),
            decided => decided,
        }
    }

    fn once(&self, encryption: Encryption) -> BoxFuture<'_, Result<Link, ConnectError>> {
        Box::pin(async move {
            // Before the network: a key with wrong permissions is a mistake
            // even where the server turns out to have no TLS.
            let tls = match encryption {
                Encryption::Never => None,
                Encryption::IfOffered | Encryption::Always => Some(
                    client_config(&self.dial.tls, self.host.mode)
                        .map_err(|fault| self.file_error(*fault))?,
                ),
            };
            let opened = self.in_time(
                "opening the connection",
                Box::pin(open(&self.endpoint, &self.dial.keepalive)),
            );
            let wire = opened.await?.map_err(|error| self.network_error(error))?;
            self.in_time(
                "waiting for the server's answer",
                Box::pin(self.start(wire, encryption, tls)),
            )
            .await?
        })
    }

    async fn in_time<T>(
        &self,
        stage: &'static str,
        work: BoxFuture<'_, T>,
    ) -> Result<T, ConnectError> {
        let (Some(deadline), Some(after)) = (self.deadline, self.dial.timeout) else {
            return Ok(work.await);
        };
        tokio::time::timeout_at(deadline, work)
            .await
            .map_err(|_| ConnectError::TimedOut {
                server: self.server.to_owned(),
                after,
                stage,
            })
    }

    async fn start(
        &self,
        mut wire: Wire,
        encryption: Encryption,
        tls: Option<ClientConfig>,
    ) -> Result<Link, ConnectError> {
        let (tls, spoken) = match tls {
            Some(tls) if self.negotiate(&mut wire, encryption).await? => {
                (Some(tls), TlsUse::Spoken)
            }
            Some(_) => (None, TlsUse::NotOffered),
            None => (None, TlsUse::NotAsked),
        };
        let mut config = tokio_postgres::Config::new();
        config
            .user(&self.dial.role)
            .dbname(&self.dial.database)
            .application_name(self.application_name)
            .channel_binding(self.dial.channel_binding);
        if let Some(options) = &self.dial.options {
            config.options(options);
        }
        if let Some(password) = &self.host.password.value {
            config.password(password.expose_secret());
        }
        match tls {
            None => {
                config.ssl_mode(SslMode::Disable);
                self.log_in(&config, wire, NoTls, None, spoken).await
            }
            Some(tls) => {
                // The negotiation is done; "direct" makes the driver go on
                // with the handshake at once.
                config
                    .ssl_mode(SslMode::Require)
                    .ssl_negotiation(SslNegotiation::Direct);
                let connector = connector(tls.clone(), self.host_name());
                self.log_in(&config, wire, connector, Some(tls), spoken)
                    .await
            }
        }
    }

    /// Whether the connection goes on with a TLS handshake.
    async fn negotiate(
        &self,
        wire: &mut Wire,
        encryption: Encryption,
    ) -> Result<bool, ConnectError> {
        if self.dial.tls.direct {
            return Ok(true);
        }
        let not_postgres = |reason: String, source: Option<io::Error>| ConnectError::NotPostgres {
            server: self.server.to_owned(),
            reason,
            source: source.map(Into::into),
        };
        match request_tls(wire).await {
            Ok(b'S') => Ok(true),
            Ok(b'N') if encryption == Encryption::IfOffered => Ok(false),
            Ok(b'N') => Err(ConnectError::TlsNotOffered {
                server: self.server.to_owned(),
                mode: self.host.mode.word(),
                mode_was_given: self.host.mode_was_given,
            }),
            // An error before TLS is unauthenticated text: it is not shown.
            Ok(b'E') => Err(not_postgres(
                "it answers a request for TLS with an error".to_owned(),
                None,
            )),
            Ok(byte) => Err(not_postgres(
                format!("it answers a request for TLS with {:?}", char::from(byte)),
                None,
            )),
            Err(error) => Err(not_postgres(
                "it ended the connection when asked for TLS".to_owned(),
                Some(error),
            )),
        }
    }

    /// The name a certificate must have.
    fn host_name(&self) -> &str {
        match &self.host.place {
            Place::Tcp { name, .. } => name,
            Place::Socket(_) => "localhost",
        }
    }

    fn log_in<'a, T>(
        &'a self,
        config: &'a tokio_postgres::Config,
        wire: Wire,
        connector: T,
        tls: Option<ClientConfig>,
        spoken: TlsUse,
    ) -> BoxFuture<'a, Result<Link, ConnectError>>
    where
        T: TlsConnect<Wire> + Send + 'a,
        T::Future: Send,
        T::Stream: TlsStream + Unpin + Send + 'static,
    {
        Box::pin(async move {
            let (client, connection) = config
                .connect_raw(wire, connector)
                .await
                .map_err(|error| self.startup_error(error, spoken))?;
            let reported = reported_kind(&connection);
            let canceller = Canceller::new(
                client.cancel_token(),
                self.endpoint.clone(),
                self.dial.keepalive.clone(),
                tls.map(|config| (config, self.host_name().to_owned(), self.dial.tls.direct)),
                self.dial.timeout,
                self.server.to_owned(),
            );
            let link = Link::start(client, connection, canceller);
            if self.session != SessionKind::Any {
                let kind = match reported {
                    Some(kind) => kind,
                    None => self.ask_kind(&link, spoken).await?,
                };
                if !kind.fits(self.session) {
                    return Err(ConnectError::WrongKind {
                        server: self.server.to_owned(),
                        wanted: self.dial.session.word(),
                    });
                }
            }
            Ok(link)
        })
    }

    /// Asks where a pooler in between hides what the server reports.
    async fn ask_kind(&self, link: &Link, spoken: TlsUse) -> Result<Kind, ConnectError> {
        // Nothing is pinned yet: not even an operator may be looked for in the search path.
        const QUERY: &str = "SELECT pg_catalog.pg_is_in_recovery(), \
             pg_catalog.current_setting('transaction_read_only'::pg_catalog.text)";
        let messages = link
            .client
            .simple_query(QUERY)
            .await
            .map_err(|error| self.startup_error(error, spoken))?;
        let row = messages.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        let says =
            |column, word| row.and_then(|row| row.try_get(column).ok().flatten()) == Some(word);
        Ok(Kind {
            standby: says(0, "t"),
            read_only: says(1, "on"),
        })
    }
}

/// A refusal without TLS by a server that has since said that it has none.
fn not_for_want_of_tls(refused: ConnectError) -> ConnectError {
    match refused {
        ConnectError::EncryptionDemanded {
            server,
            mode: _,
            message,
            source,
        } => ConnectError::NotAdmitted {
            server,
            tls: TlsUse::NotOffered,
            certificate_sent: false,
            message,
            source,
        },
        other => other,
    }
}

/// Whether a try with the other answer to "TLS?" may succeed.
///
/// A wrong password is not among them: it would only be sent again, this
/// time for everybody to read. Nor is a server that has no TLS: there is no other answer.
fn wants_other_encryption(error: &ConnectError) -> bool {
    matches!(
        error,
        ConnectError::NotAdmitted {
            tls: TlsUse::Spoken | TlsUse::NotAsked,
            ..
        } | ConnectError::EncryptionDemanded { .. }
            | ConnectError::ClientCertificateRequired { .. }
            | ConnectError::ClientCertificateRejected { .. }
            | ConnectError::Handshake { .. }
    )
}

/// What a server says about itself.
#[derive(Clone, Copy)]
struct Kind {
    standby: bool,
    read_only: bool,
}

impl Kind {
    fn fits(self, wanted: SessionKind) -> bool {
        match wanted {
            SessionKind::Any | SessionKind::PreferStandby => true,
            SessionKind::ReadWrite => !self.read_only,
            SessionKind::ReadOnly => self.read_only,
            SessionKind::Primary => !self.standby,
            SessionKind::Standby => self.standby,
        }
    }
}

/// What the server reported at startup, as it does since version 14.
fn reported_kind<S, T>(connection: &Connection<S, T>) -> Option<Kind>
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    let standby = connection.parameter("in_hot_standby")? == "on";
    let read_only = connection.parameter("default_transaction_read_only")? == "on";
    Some(Kind {
        standby,
        read_only: standby || read_only,
    })
}
