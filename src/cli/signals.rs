//! Signals ask a command to stop.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use tokio::runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use crate::config::Limits;
use crate::execute::{Stop, StopReason};

/// Listens to Ctrl-C, SIGTERM and, but for a daemon, SIGHUP for as long as a command works.
pub(super) struct Signals {
    /// Stopped by the first signal gently, and at once by the second or when
    /// the grace has passed.
    pub(super) stop: Stop,
    /// Whether nothing runs that would have to be cancelled.
    idle: Arc<AtomicBool>,
    /// Nobody listens any longer once this is gone.
    _listening: oneshot::Sender<()>,
}

impl Signals {
    /// From here on signals no longer end the process: whoever listens has to
    /// look at `stop`. A terminal that is closed (SIGHUP) asks the same as
    /// SIGTERM does, unless it was told not to matter, as by `nohup`.
    pub(super) fn listen(patience: Duration) -> Signals {
        let grace = Grace {
            patience,
            whole: None,
        };
        Signals::start(grace, !hangup_is_ignored())
    }

    /// The same for tasks with this grace, after which the process ends, whoever is waited for.
    pub(super) fn within(grace: Duration) -> Signals {
        Signals::start(Grace::of(grace), !hangup_is_ignored())
    }

    /// The same for a daemon, to which SIGHUP means something else. Steps go on for `patience`.
    pub(super) fn without_hangup(patience: Duration, grace: Duration) -> Signals {
        let grace = Grace {
            patience,
            ..Grace::of(grace)
        };
        Signals::start(grace, false)
    }

    /// Notes whether nothing runs, which is said to whoever asks to stop.
    pub(super) fn idle(&self, idle: bool) {
        self.idle.store(idle, Ordering::Relaxed);
    }

    fn start(grace: Grace, hangup: bool) -> Signals {
        let stop = Stop::default();
        let idle = Arc::new(AtomicBool::new(false));
        let (listening, over) = oneshot::channel();
        let (told, begun) = mpsc::channel();
        let (asked, nothing_runs) = (stop.clone(), Arc::clone(&idle));
        // On a thread of its own, so that whatever the work is busy with is told.
        let thread = std::thread::Builder::new().name("signals".to_owned());
        let started =
            thread.spawn(move || listen((asked, nothing_runs), grace, hangup, over, &told));
        if let Err(error) = started.and_then(|_| begun.recv().unwrap_or(Ok(()))) {
            tracing::error!(%error, "signals cannot be received; Ctrl-C will not clean up");
        }
        Signals {
            stop,
            idle,
            _listening: listening,
        }
    }
}

/// However short the grace is: where the server answers, clearing away and writing it down have
/// so much time.
const LEAST: Duration = Duration::from_secs(15);

/// How much time a signal leaves.
#[derive(Clone, Copy)]
struct Grace {
    /// Until what runs is cancelled.
    patience: Duration,
    /// From then on until the process ends in any case.
    whole: Option<Duration>,
}

impl Grace {
    fn of(grace: Duration) -> Grace {
        let limits = Limits {
            grace: grace.into(),
            ..Limits::default()
        };
        let patience = limits.patience();
        Grace {
            patience,
            whole: Some(grace.saturating_sub(patience).max(LEAST)),
        }
    }
}

/// Listens until nobody needs it any longer, and tells when it has begun to.
fn listen(
    (stop, idle): (Stop, Arc<AtomicBool>),
    grace: Grace,
    hangup: bool,
    over: oneshot::Receiver<()>,
    told: &mpsc::Sender<std::io::Result<()>>,
) {
    let runtime = match runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = told.send(Err(error));
            return;
        }
    };
    runtime.block_on(async {
        let (heard, begun) = match heard(hangup) {
            Ok(heard) => (Some(heard), Ok(())),
            Err(error) => (None, Err(error)),
        };
        // Whoever asked waits for this.
        let _ = told.send(begun);
        if let Some(heard) = heard {
            tokio::select! {
                () = obey(stop, &idle, grace, heard) => {}
                _ = over => {}
            }
        }
    });
}

/// Whether whoever started us said that SIGHUP is to be ignored.
fn hangup_is_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // The lowest bit is signal 1.
    mask.is_some_and(|mask| mask & 1 == 1)
}

struct Heard {
    interrupt: Signal,
    terminate: Signal,
    hangup: Option<Signal>,
}

fn heard(hangup: bool) -> std::io::Result<Heard> {
    let hangup = hangup.then(|| signal(SignalKind::hangup())).transpose()?;
    Ok(Heard {
        interrupt: signal(SignalKind::interrupt())?,
        terminate: signal(SignalKind::terminate())?,
        hangup,
    })
}

impl Heard {
    /// The number of the next one; a closed terminal counts as SIGTERM.
    async fn next(&mut self) -> i32 {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => 2,
            _ = self.terminate.recv() => 15,
            _ = hangup => 15,
        }
    }
}

async fn obey(stop: Stop, idle: &AtomicBool, grace: Grace, mut heard: Heard) {
    let number = heard.next().await;
    let idle = idle.load(Ordering::Relaxed);
    stop.gently(StopReason::Signal(number));
    match idle {
        true => errln!("stopping: nothing is at work, and what waits does not begin"),
        false => errln!(
            "stopping: no new step begins; what is running is cancelled in {} s, or at once if you ask again",
            grace.patience.as_secs()
        ),
    }
    tokio::select! {
        _ = heard.next() => {}
        () = tokio::time::sleep(grace.patience) => {}
    }
    stop.at_once(StopReason::Signal(number));
    let over = async {
        match grace.whole {
            Some(whole) => tokio::time::sleep(whole).await,
            None => std::future::pending().await,
        }
    };
    let why = tokio::select! {
        _ = heard.next() => "asked once more",
        () = over => "`limits.grace` is over, and somebody does not answer",
    };
    errln!("{why}: leaving without clearing away; the next run does it");
    std::process::exit(128 + number);
}
