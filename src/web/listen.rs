//! Accepting connections, so that nobody who opens many of them keeps probes, pages or the
//! nightly work from going on.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::files::most_connections;

/// A request has to be told within this time, and the next one on the same connection.
const HEAD: Duration = Duration::from_secs(10);
/// What is sent has to be taken within this time.
const TAKEN: Duration = Duration::from_secs(30);
/// Longest head of a request, in bytes.
const LONGEST_HEAD: usize = 32 << 10;
/// How long to wait where no connection can be accepted.
const PAUSE: Duration = Duration::from_millis(100);
/// How often trouble is told that goes on.
const TELL_AGAIN: Duration = Duration::from_secs(60);

/// Who sent a request: the other end of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Peer(pub SocketAddr);

/// Answers what comes in until it is over; then ends every connection after its answer.
///
/// There are never more connections than the limit on open files, `files`, leaves to them: one
/// more closes the one that was silent for longest.
pub async fn serve(listener: TcpListener, app: Router, files: u64, over: CancellationToken) {
    let most = most_connections(files);
    let open = Arc::new(Open::default());
    let tracker = TaskTracker::new();
    let mut told: Option<Instant> = None;
    let mut tell = |text: String| {
        if told.is_none_or(|at| at.elapsed() > TELL_AGAIN) {
            told = Some(Instant::now());
            tracing::warn!("{text}");
        }
    };
    loop {
        let accepted = tokio::select! {
            () = over.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) if is_of_one_connection(&error) => continue,
            Err(error) => {
                let why = out_of_files(&error, files).unwrap_or_else(|| error.to_string());
                tell(format!("no connection can be accepted: {why}"));
                open.close_longest_silent();
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        if open.count() >= most {
            tell(format!(
                "{most} connections are open, as many as may be; each new one closes the one \
                 that was silent for longest"
            ));
            open.close_longest_silent();
        }
        set_up(&stream);
        let connection = open.add();
        let (app, over) = (app.clone(), over.clone());
        tracker.spawn(async move { answer(stream, peer, app, &connection, over).await });
    }
    tracker.close();
    tracker.wait().await;
}

async fn answer(
    stream: TcpStream,
    peer: SocketAddr,
    app: Router,
    connection: &Connection,
    over: CancellationToken,
) {
    let app = TowerToHyperService::new(app);
    let service = service_fn(|request: hyper::Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(Peer(peer));
        app.call(request)
    });
    let stream = Watched {
        stream,
        active: Arc::clone(&connection.active),
        began: connection.began,
    };
    let conversation = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(LONGEST_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    let mut conversation = std::pin::pin!(conversation);
    tokio::select! {
        // Whoever hangs up in mid-sentence is nobody's trouble.
        _ = conversation.as_mut() => return,
        () = connection.close.cancelled() => return,
        () = over.cancelled() => conversation.as_mut().graceful_shutdown(),
    }
    let _ = conversation.await;
}

fn set_up(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    // Who stops reading is cut off by the system.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let _ = SockRef::from(stream).set_tcp_user_timeout(Some(TAKEN));
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _ = SockRef::from(stream).set_keepalive(true);
}

/// The trouble of a single connection, which is gone already.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

/// In words, where the process or the system has no more files to give.
fn out_of_files(error: &io::Error, files: u64) -> Option<String> {
    match crate::values::FilesUsedUp::of(error)? {
        crate::values::FilesUsedUp::Process => Some(format!(
            "this process has used up its {files} open files; raise the limit \
             (`LimitNOFILE=` of systemd, `ulimit -n`)"
        )),
        crate::values::FilesUsedUp::System => {
            Some("this machine has used up its open files (`fs.file-max`)".to_owned())
        }
    }
}

/// All connections that are open.
#[derive(Default)]
struct Open(Mutex<HashMap<u64, Entry>>, AtomicU64);

struct Entry {
    active: Arc<AtomicU64>,
    began: Instant,
    close: CancellationToken,
}

/// One of them; it is forgotten when this is dropped.
struct Connection {
    open: Arc<Open>,
    id: u64,
    /// Milliseconds from `began` to the last byte in either direction.
    active: Arc<AtomicU64>,
    began: Instant,
    close: CancellationToken,
}

impl Open {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self) -> usize {
        self.lock().len()
    }

    fn add(self: &Arc<Self>) -> Connection {
        let id = self.1.fetch_add(1, Ordering::Relaxed);
        let began = Instant::now();
        let active = Arc::new(AtomicU64::new(0));
        let close = CancellationToken::new();
        let entry = Entry {
            active: Arc::clone(&active),
            began,
            close: close.clone(),
        };
        self.lock().insert(id, entry);
        Connection {
            open: Arc::clone(self),
            id,
            active,
            began,
            close,
        }
    }

    /// It counts as closed from now on, and its file is free as soon as its task has seen it.
    fn close_longest_silent(&self) {
        let mut all = self.lock();
        let silent = all.iter().min_by_key(|(id, entry)| {
            let active = Duration::from_millis(entry.active.load(Ordering::Relaxed));
            (entry.began + active, **id)
        });
        if let Some(id) = silent.map(|(id, _)| *id)
            && let Some(entry) = all.remove(&id)
        {
            entry.close.cancel();
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.open.lock().remove(&self.id);
    }
}

/// A connection that notes when something last moved on it.
struct Watched {
    stream: TcpStream,
    active: Arc<AtomicU64>,
    began: Instant,
}

impl Watched {
    fn note<T>(&self, moved: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Poll::Ready(Ok(_)) = &moved {
            let since = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.active.store(since, Ordering::Relaxed);
        }
        moved
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.note(read)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.note(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
