//! A socket to an address: how it is opened, kept alive, and asked for TLS.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls::ClientConfig;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_util::either::Either;

/// Bytes to and from a server.
pub(super) type Wire = Either<TcpStream, UnixStream>;

/// An address that can be opened without asking anybody.
#[derive(Clone, Debug)]
pub(super) enum Endpoint {
    Tcp(SocketAddr),
    Socket(PathBuf),
}

impl Endpoint {
    pub(super) fn socket_path(&self) -> Option<&Path> {
        match self {
            Endpoint::Tcp(_) => None,
            Endpoint::Socket(path) => Some(path),
        }
    }
}

/// How a dead peer is noticed while nothing is being said.
#[derive(Clone, Debug)]
pub(super) struct Keepalive {
    pub(super) on: bool,
    pub(super) idle: Option<Duration>,
    pub(super) interval: Option<Duration>,
    pub(super) count: Option<u32>,
    pub(super) user_timeout: Option<Duration>,
}

impl Keepalive {
    /// Whether nobody has set anything.
    fn is_ours(&self) -> bool {
        self.on && self.idle.is_none() && self.interval.is_none() && self.count.is_none()
    }
}

/// Silence after which the peer is probed, where nobody set another.
///
/// Linux waits two hours, longer than most firewalls remember a silent
/// connection; a long `REINDEX` is silent.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(20);

/// Between probes, and how many may stay without an answer. Linux takes more
/// than ten minutes; whoever waits for a server that is gone holds the task's
/// claim, and stands still.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);

const KEEPALIVE_COUNT: u32 = 4;

/// The same for what was sent and not acknowledged.
const USER_TIMEOUT: Duration = Duration::from_secs(40);

/// Opens the socket.
pub(super) async fn open(endpoint: &Endpoint, keepalive: &Keepalive) -> io::Result<Wire> {
    let address = match endpoint {
        Endpoint::Socket(path) => return Ok(Either::Right(UnixStream::connect(path).await?)),
        Endpoint::Tcp(address) => address,
    };
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let socket = SockRef::from(&stream);
    if keepalive.on {
        let probes = TcpKeepalive::new()
            .with_time(keepalive.idle.unwrap_or(KEEPALIVE_IDLE))
            .with_interval(keepalive.interval.unwrap_or(KEEPALIVE_INTERVAL))
            .with_retries(keepalive.count.unwrap_or(KEEPALIVE_COUNT));
        socket.set_tcp_keepalive(&probes)?;
    }
    // Whoever says how probes go knows best how long that takes; the other
    // setting would cut it short.
    #[cfg(target_os = "linux")]
    if let Some(timeout) = keepalive.user_timeout {
        socket.set_tcp_user_timeout(Some(timeout))?;
    } else if keepalive.is_ours() {
        socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    }
    Ok(Either::Left(stream))
}

/// Asks for TLS and returns the server's one-byte answer.
pub(super) async fn request_tls(wire: &mut Wire) -> io::Result<u8> {
    /// Length 8, then the magic number 80877103.
    const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
    wire.write_all(&SSL_REQUEST).await?;
    wire.flush().await?;
    wire.read_u8().await
}

/// The connector for one handshake, for certificates that name `host`.
pub(super) fn connector(
    config: ClientConfig,
    host: &str,
) -> <MakeRustlsConnect as MakeTlsConnect<Wire>>::TlsConnect {
    let mut make = MakeRustlsConnect::new(config);
    match MakeTlsConnect::<Wire>::make_tls_connect(&mut make, host) {
        Ok(connector) => connector,
        Err(never) => match never {},
    }
}
