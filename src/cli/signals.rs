use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;

use crate::execute::{Stop, StopReason};

/// Listens to Ctrl-C and SIGTERM for as long as a command works.
pub(super) struct Signals {
    /// Stopped by the first signal gently, and at once by the second or when
    /// the grace has passed.
    pub(super) stop: Stop,
    task: JoinHandle<()>,
}

impl Signals {
    /// From here on signals no longer end the process: whoever listens has to
    /// look at `stop`.
    pub(super) fn listen(grace: Duration) -> Signals {
        let stop = Stop::default();
        let pair = (
            signal(SignalKind::interrupt()),
            signal(SignalKind::terminate()),
        );
        let task = match pair {
            (Ok(interrupt), Ok(terminate)) => {
                tokio::spawn(obey(stop.clone(), grace, interrupt, terminate))
            }
            _ => {
                tracing::error!("signals cannot be received; Ctrl-C will not clean up");
                tokio::spawn(async {})
            }
        };
        Signals { stop, task }
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn obey(stop: Stop, grace: Duration, mut interrupt: Signal, mut terminate: Signal) {
    let number = tokio::select! {
        _ = interrupt.recv() => 2,
        _ = terminate.recv() => 15,
    };
    stop.gently(StopReason::Signal(number));
    eprintln!(
        "stopping: no new step begins; what is running is cancelled in {} s, or at once if you ask again",
        grace.as_secs()
    );
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        () = tokio::time::sleep(grace) => {}
    }
    stop.at_once(StopReason::Signal(number));
}
