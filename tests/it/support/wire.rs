//! A TCP proxy that passes everything on, holds it back, or cuts it off.

use std::sync::atomic::{AtomicI64, AtomicU8, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What happens to whatever comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// It is passed on.
    Pass = 0,
    /// Connections stay open, and nothing moves.
    Stall = 1,
    /// Connections are ended, and new ones too.
    Cut = 2,
}

/// Stands between a client and a server of this machine.
pub(crate) struct Wire {
    pub(crate) port: u16,
    mode: Arc<AtomicU8>,
    /// So many bytes still pass, in both directions together.
    spare: Arc<AtomicI64>,
    /// What the server says, and what is heard instead.
    said: Said,
}

/// Bytes that are replaced by as many others, where they come within one piece.
type Said = Arc<Mutex<Option<(Vec<u8>, Vec<u8>)>>>;

impl Wire {
    /// Leads to this port.
    pub(crate) async fn to(port: u16) -> Wire {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = listener.local_addr().unwrap().port();
        let mode = Arc::new(AtomicU8::new(Mode::Pass as u8));
        let seen = Arc::clone(&mode);
        let spare = Arc::new(AtomicI64::new(i64::MAX));
        let left = Arc::clone(&spare);
        let said = Said::default();
        let heard = Arc::clone(&said);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (mode, left) = (Arc::clone(&seen), Arc::clone(&left));
                let (heard, nothing) = (Arc::clone(&heard), Said::default());
                tokio::spawn(async move {
                    if is(&mode, Mode::Cut) {
                        return;
                    }
                    let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else {
                        return;
                    };
                    let (client_read, client_write) = client.into_split();
                    let (server_read, server_write) = server.into_split();
                    tokio::select! {
                        () = pass(client_read, server_write, &mode, &left, &nothing) => {}
                        () = pass(server_read, client_write, &mode, &left, &heard) => {}
                    }
                });
            }
        });
        Wire {
            port: own,
            mode,
            spare,
            said,
        }
    }

    /// From now on the server is heard to say `as_if` where it says `said`.
    pub(crate) fn heard(&self, said: &[u8], as_if: &[u8]) {
        assert_eq!(said.len(), as_if.len());
        *self.said.lock().unwrap() = Some((said.to_vec(), as_if.to_vec()));
    }

    /// The server is heard as it speaks.
    pub(crate) fn heard_truly(&self) {
        *self.said.lock().unwrap() = None;
    }

    /// Lets so many more bytes pass, and nothing after them.
    pub(crate) fn stall_after(&self, bytes: i64) {
        self.spare.store(bytes, SeqCst);
    }

    /// Whether nothing moves.
    pub(crate) fn is_stalled(&self) -> bool {
        is(&self.mode, Mode::Stall)
    }

    pub(crate) fn set(&self, mode: Mode) {
        self.mode.store(mode as u8, SeqCst);
    }
}

fn is(mode: &AtomicU8, wanted: Mode) -> bool {
    mode.load(SeqCst) == wanted as u8
}

async fn pass(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    mode: &AtomicU8,
    spare: &AtomicI64,
    said: &Mutex<Option<(Vec<u8>, Vec<u8>)>>,
) {
    let mut piece = [0; 16 * 1024];
    loop {
        let read = tokio::select! {
            read = from.read(&mut piece) => read,
            () = until(mode, Mode::Cut) => return,
        };
        let Ok(bytes @ 1..) = read else {
            return;
        };
        let passed = i64::try_from(bytes).unwrap();
        if spare.fetch_sub(passed, SeqCst) < passed && is(mode, Mode::Pass) {
            mode.store(Mode::Stall as u8, SeqCst);
        }
        while is(mode, Mode::Stall) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        if let Some((said, as_if)) = &*said.lock().unwrap() {
            while let Some(at) = piece[..bytes]
                .windows(said.len())
                .position(|part| part == said)
            {
                piece[at..at + said.len()].copy_from_slice(as_if);
            }
        }
        if is(mode, Mode::Cut) || to.write_all(&piece[..bytes]).await.is_err() {
            return;
        }
    }
}

async fn until(mode: &AtomicU8, wanted: Mode) {
    while !is(mode, wanted) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
