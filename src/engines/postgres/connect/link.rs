//! An open session: its notices, its end, and how to cancel what it does.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use std::{fmt, io};

use futures_util::StreamExt;
use futures_util::stream::poll_fn;
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::sync::mpsc::{self, UnboundedReceiver};
use tokio_postgres::error::Severity;
use tokio_postgres::tls::NoTls;
use tokio_postgres::{AsyncMessage, CancelToken, Client, Connection, SimpleQueryMessage};
use tokio_util::sync::CancellationToken;

use super::error::ConnectError;
use super::wire::{Endpoint, Keepalive, Wire, connector, open, request_tls};
use crate::engines::postgres::timeline::TIMELINE;

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
    /// Whether the database holds bytes without saying in which encoding, and
    /// so hands them out only to who does not ask for one.
    pub bytes: bool,
}

impl Link {
    /// The timeline that the server writes, where it tells one. Nothing is pinned yet: the
    /// question names no operator, and every function by its schema.
    pub(super) async fn timeline(&self) -> Option<u32> {
        let messages = self
            .client
            .simple_query(&format!("SELECT {TIMELINE}"))
            .await
            .ok()?;
        let row = messages.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        })?;
        u32::from_str_radix(row.try_get(0).ok()??, 16).ok()
    }
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

impl Notice {
    /// What a record keeps of it: the words and the code, as of an error.
    pub fn with_code(&self) -> String {
        format!("{} (SQLSTATE {})", self.message, self.code)
    }
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
        let bytes = connection.parameter("server_encoding") == Some("SQL_ASCII");
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
            bytes,
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
    /// ended already. When this returns, the session has been told.
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
        if let Some((_, _, direct)) = &self.tls
            && !direct
            && request_tls(&mut wire).await.map_err(network)? != b'S'
        {
            return Err(ConnectError::TlsNotOffered {
                server: self.server.clone(),
                mode: "require",
                mode_was_given: true,
            });
        }
        let wire = SharedWire(Arc::new(Mutex::new(wire)));
        let asked = match &self.tls {
            None => self.token.cancel_query_raw(wire.clone(), NoTls).await,
            Some((config, host, _)) => {
                let tls = connector(config.clone(), host);
                self.token.cancel_query_raw(wire.clone(), tls).await
            }
        };
        asked.map_err(failed)?;
        // The server hangs up when it has told the session. A request still under way would
        // hit whatever the session does next, such as clearing away.
        let _ = tokio::time::timeout(TOLD, wire.closed()).await;
        Ok(())
    }
}

/// A server that does not hang up after a request to cancel has this long.
const TOLD: Duration = Duration::from_secs(5);

/// A wire that can still be looked at after it was given away.
#[derive(Clone)]
struct SharedWire(Arc<Mutex<Wire>>);

impl SharedWire {
    fn with<T>(&self, work: impl FnOnce(Pin<&mut Wire>) -> T) -> T {
        let mut wire = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        work(Pin::new(&mut *wire))
    }

    /// Waits until the other end has hung up.
    async fn closed(mut self) {
        let mut ignored = [0; 64];
        while matches!(self.read(&mut ignored).await, Ok(1..)) {}
    }
}

impl AsyncRead for SharedWire {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.with(|wire| wire.poll_read(context, buffer))
    }
}

impl AsyncWrite for SharedWire {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.with(|wire| wire.poll_write(context, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|wire| wire.poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|wire| wire.poll_shutdown(context))
    }
}
