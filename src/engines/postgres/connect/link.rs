//! An open session: its notices, its end, and how to cancel what it does.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::poll_fn;
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc::{self, UnboundedReceiver};
use tokio_postgres::error::Severity;
use tokio_postgres::tls::NoTls;
use tokio_postgres::{AsyncMessage, CancelToken, Client, Connection};
use tokio_util::sync::CancellationToken;

use super::attempt::{Endpoint, Keepalive, Wire, connector, open, request_tls};
use super::error::ConnectError;

/// An open session.
///
/// The session ends when `client` is dropped.
pub struct Link {
    /// Sends statements.
    pub client: Client,
    /// Cancels the statement that runs.
    pub canceller: Canceller,
    /// What the server says on the side.
    pub notices: UnboundedReceiver<Notice>,
    /// Cancelled when the connection ends, for whatever reason.
    pub closed: CancellationToken,
    /// What the server said of its version, `17.10`, before it was asked anything.
    pub version: Option<String>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("server", &self.canceller.0.server)
            .finish_non_exhaustive()
    }
}

/// A notice, warning or other message beside the results.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Whether it is a warning, rather than a mere note.
    pub is_warning: bool,
    /// The SQLSTATE.
    pub code: String,
    /// The text, in the language of the server.
    pub message: String,
    /// The source file of the server that raised it.
    pub file: Option<String>,
    /// The function in there.
    pub routine: Option<String>,
}

impl Link {
    /// Drives the connection in a task of its own until it ends.
    pub(super) fn start<T>(
        client: Client,
        mut connection: Connection<Wire, T>,
        canceller: Canceller,
    ) -> Link
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, notices) = mpsc::unbounded_channel();
        let closed = CancellationToken::new();
        // A guard, so that even a task that is torn down says so.
        let guard = closed.clone().drop_guard();
        let server = canceller.0.server.clone();
        let version = connection.parameter("server_version").map(str::to_owned);
        tokio::spawn(async move {
            let _guard = guard;
            let mut messages = poll_fn(move |context| connection.poll_message(context));
            while let Some(message) = messages.next().await {
                match message {
                    Ok(AsyncMessage::Notice(notice)) => {
                        // Nobody has to listen.
                        let _ = sender.send(Notice {
                            is_warning: notice.parsed_severity() == Some(Severity::Warning),
                            code: notice.code().code().to_owned(),
                            message: notice.message().to_owned(),
                            file: notice.file().map(str::to_owned),
                            routine: notice.routine().map(str::to_owned),
                        });
                    }
                    Ok(_) => {}
                    Err(error) => {
                        tracing::debug!(%server, error = ?error, "connection ended");
                        break;
                    }
                }
            }
        });
        Link {
            client,
            canceller,
            notices,
            closed,
            version,
        }
    }
}

/// Cancels the statement that runs in a session, from anywhere.
#[derive(Clone)]
pub struct Canceller(Arc<Inner>);

struct Inner {
    token: CancelToken,
    endpoint: Endpoint,
    keepalive: Keepalive,
    /// Configuration, host name, and whether TLS starts unasked.
    tls: Option<(ClientConfig, String, bool)>,
    timeout: Option<Duration>,
    server: String,
}

impl Canceller {
    pub(super) fn new(
        token: CancelToken,
        endpoint: Endpoint,
        keepalive: Keepalive,
        tls: Option<(ClientConfig, String, bool)>,
        timeout: Option<Duration>,
        server: String,
    ) -> Self {
        Canceller(Arc::new(Inner {
            token,
            endpoint,
            keepalive,
            tls,
            timeout,
            server,
        }))
    }

    /// Asks the server to cancel the statement.
    ///
    /// Goes to the address the session goes to, and over TLS with the same
    /// checks if the session uses TLS: the key that cancels is a secret. The
    /// server does not answer; the statement ends with an error, or it had
    /// ended already.
    pub async fn cancel(&self) -> Result<(), ConnectError> {
        let work = self.0.cancel();
        let Some(after) = self.0.timeout else {
            return work.await;
        };
        tokio::time::timeout(after, work).await.unwrap_or_else(|_| {
            Err(ConnectError::TimedOut {
                server: self.0.server.clone(),
                after,
                stage: "asking for a statement to be cancelled",
            })
        })
    }
}

impl Inner {
    async fn cancel(&self) -> Result<(), ConnectError> {
        let network = |source| ConnectError::Network {
            server: self.server.clone(),
            source,
        };
        let failed = |error: tokio_postgres::Error| ConnectError::Handshake {
            server: self.server.clone(),
            reason: "the request to cancel a statement was not taken".to_owned(),
            direct: false,
            source: error.into(),
        };
        let mut wire = open(&self.endpoint, &self.keepalive)
            .await
            .map_err(network)?;
        let Some((config, host, direct)) = &self.tls else {
            return self
                .token
                .cancel_query_raw(wire, NoTls)
                .await
                .map_err(failed);
        };
        if !direct && request_tls(&mut wire).await.map_err(network)? != b'S' {
            return Err(ConnectError::TlsNotOffered {
                server: self.server.clone(),
                mode: "require",
                mode_was_given: true,
            });
        }
        self.token
            .cancel_query_raw(wire, connector(config.clone(), host))
            .await
            .map_err(failed)
    }
}
