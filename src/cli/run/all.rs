//! Several tasks, one after another, each on several of its targets at once.

mod running;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt, stream};

use self::running::Running;
use super::exit::{signal_code, worse};
use super::pings::Pings;
use crate::cli::Failure;
use crate::cli::context::Context;
use crate::cli::documents;
use crate::cli::screen::Bars;
use crate::config::{Config, Target, Task};
use crate::execute::Stop;
use crate::history::{Kept, RunRecord, Store, Trigger};
use crate::notify::Teller;
use crate::pipeline::Lanes;
use crate::plan::Saved;
use crate::values::wall_clock;

/// What came of several tasks.
pub(in crate::cli) struct Ran {
    /// The exit code.
    pub(in crate::cli) code: u8,
    /// The runs, in order.
    pub(in crate::cli) records: Vec<RunRecord>,
}

/// How tasks are run by hand.
#[derive(Clone, Copy)]
pub(in crate::cli) struct How<'a> {
    /// Whatever window and schedule say.
    pub(super) now: bool,
    /// Exactly these steps.
    pub(super) approved: Option<&'a Saved>,
    /// Who asks for them.
    pub(super) trigger: Trigger,
}

impl How<'_> {
    /// With plans made from what is there.
    pub(in crate::cli) fn at(now: bool) -> Self {
        How {
            now,
            approved: None,
            trigger: Trigger::Manual,
        }
    }

    /// Because a schedule says so, whose calendar cannot be asked.
    pub(in crate::cli) fn by_schedule() -> Self {
        How {
            trigger: Trigger::Schedule,
            ..How::at(false)
        }
    }
}

/// Runs the tasks one after another, each on several of its targets at once,
/// and prints what came of each.
pub(in crate::cli) async fn run_all(
    context: &Context<'_>,
    config: &Config,
    work: Vec<(Arc<Task>, Target)>,
    how: How<'_>,
    stop: &Stop,
) -> Result<Ran, Failure> {
    let history = context.recorder(config).await?;
    let store = Arc::clone(history.store());
    let teller = Arc::new(context.teller(config));
    let running = Running {
        context,
        config,
        how,
        stop,
        style: context.style(config.timezone),
        pings: Pings::new(&teller),
        bars: Bars::new(),
        history: Arc::clone(&history),
        teller: Arc::clone(&teller),
        refused: Mutex::default(),
        quiet: Mutex::default(),
        changed: Mutex::default(),
    };
    let mut code = 0;
    let mut done = Vec::new();
    let mut failures = Vec::new();
    for of_one_task in work.chunk_by(|(a, _), (b, _)| a.name == b.name) {
        let Some((task, _)) = of_one_task.first() else {
            continue;
        };
        let lanes = Lanes::of(&task.limits);
        let spread = running.spread(of_one_task).await;
        code = worse(code, spread.code);
        let of_one_task = &spread.work;
        let named = of_one_task.len() > 1;
        let among = running.share(task, of_one_task).await;
        let shared = among.shared.as_ref();
        let in_turn = among.order.iter();
        let in_turn = in_turn.filter_map(|n| Some((*n, of_one_task.get(*n)?)));
        let tried = in_turn.map(|(n, work)| {
            let (running, lanes) = (&running, &lanes);
            async move {
                let (task, target) = (&*work.task, &work.target);
                let _leave = lanes.enter(target, &task.limits, running.stop).await;
                let one = running.one(work, named, shared).await;
                if let Some(shared) = shared {
                    shared.release(&target.name);
                }
                (n, one)
            }
        });
        let mut tried = stream::iter(tried).buffer_unordered(of_one_task.len().max(1));
        done.extend(spread.records);
        let mut records = Vec::new();
        while let Some((n, one)) = tried.next().await {
            match one {
                Ok((more, record)) => {
                    code = worse(code, more);
                    records.extend(record.map(|record| (n, record)));
                }
                // What is wrong with one target is no reason to leave the others.
                Err(failure) if named => {
                    let target = &of_one_task[n].target;
                    let what = format!("{} on {}", task.name, target.name);
                    let hint = failure.hint();
                    running.refuse(task, target, &what, &failure.to_string(), hint.as_deref());
                    failures.push(failure);
                }
                Err(failure) => {
                    running.pings.finish();
                    teller.pinged(stop).await;
                    return Err(failure);
                }
            }
        }
        running.say_folded(&task.name);
        records.sort_by_key(|(n, _)| *n);
        done.extend(records.into_iter().map(|(_, record)| record));
    }
    running.pings.finish();
    match history.settle().await {
        Some(kept) => code = worse(code, say_kept(&kept)),
        None => {
            if !tell(&teller, store.as_ref(), stop).await {
                code = worse(code, signal_code(stop));
            }
        }
    }
    teller.pinged(stop).await;
    store.close().await;
    if done.is_empty()
        && let Some(failure) = failures.pop()
    {
        return Err(failure);
    }
    for failure in &failures {
        code = worse(code, failure.code());
    }
    if context.json() {
        let refused = running
            .refused
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        documents::print(&documents::Runs {
            runs: &done,
            not_started: &refused,
        });
    }
    Ok(Ran {
        code,
        records: done,
    })
}

/// How long messages may still be on their way once a signal has come.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// Sends what is to be told. What could not be sent is kept, and said here. The answer is whether
/// a signal left it time to the end: whoever waits for us is not to wait for a mail server.
pub(in crate::cli) async fn tell(teller: &Teller, store: &dyn Store, stop: &Stop) -> bool {
    let late = async {
        stop.stopping().await;
        tokio::time::sleep(LAST_WORDS).await;
    };
    tokio::select! {
        told = teller.tell(store, wall_clock(), false) => {
            match told {
                Ok(done) => {
                    for problem in done.problems {
                        errln!("note: a message was not sent: {problem}");
                    }
                }
                Err(error) => tracing::error!(%error, "messages could not be sent"),
            }
            true
        }
        () = late => {
            errln!("note: stopped before all messages were sent; they are kept, and go out with the next run");
            false
        }
    }
}

/// Says where records are that the history has not taken; the exit code that this means.
pub(in crate::cli) fn say_kept(kept: &Kept) -> u8 {
    match kept {
        Kept::InFile(kept) => {
            errln!(
                "note: the history could not be written; the records are in {} and go in with the next run",
                kept.display()
            );
            0
        }
        Kept::Nowhere => {
            errln!(
                "error: neither the history nor a file beside it could be written; what was done is told here and in the log, and nowhere else"
            );
            3
        }
    }
}
