//! A connection to a mail server whose answers have an end: what says more than any mail server
//! needs to is cut off before it fills the memory.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use lettre::transport::smtp::client::AsyncTokioStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// How many bytes one answer of a mail server may have, certificates included.
const MOST: usize = 1 << 18;

/// A connection that ends where an answer does not: the library reads a line to its end before it
/// looks how long it is.
#[derive(Debug)]
pub(super) struct Bounded {
    stream: TcpStream,
    /// How much came since something was said last.
    came: usize,
}

impl Bounded {
    pub(super) fn new(stream: TcpStream) -> Bounded {
        Bounded { stream, came: 0 }
    }
}

impl AsyncRead for Bounded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, into))?;
        self.came += into.filled().len() - before;
        if self.came > MOST {
            return Poll::Ready(Err(io::Error::other(format!(
                "it answers with more than {} kB, as no mail server does",
                MOST >> 10
            ))));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Bounded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.came = 0;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl AsyncTokioStream for Bounded {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.stream.peer_addr()
    }
}
