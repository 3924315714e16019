//! Watches our sessions from a connection of its own: who blocks them, how
//! far they are, and whether they hold up a vacuum that must not wait.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Event, Execution, Observer};
use crate::engines::postgres::Session;
use crate::engines::postgres::watch::{self, Blocker, Waiter};
use crate::execute::Awaited;

/// How long the end of a run waits for the last look.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is known of one session of ours while it runs a statement.
#[derive(Default)]
struct Watched {
    seq: u32,
    /// Blockers by pid, with the samples they were seen in.
    blockers: HashMap<i32, (Blocker, u32)>,
    /// Who waited for it, by pid, when it was told to give way.
    waiters: HashMap<i32, Waiter>,
    yields: bool,
    give_way: CancellationToken,
}

/// What was seen while a session of ours was watched.
#[derive(Default)]
pub(super) struct Seen {
    /// Who was in the way, and for how long it was seen there.
    pub(super) blockers: Vec<(Blocker, Duration)>,
    /// For whom it was told to step back.
    pub(super) waiters: Vec<Waiter>,
}

type Table = Arc<Mutex<HashMap<i32, Watched>>>;

/// The watching task.
pub(crate) struct Monitor {
    table: Table,
    session: Arc<Session>,
    every: Duration,
    end: CancellationToken,
    task: JoinHandle<()>,
}

impl Monitor {
    /// Starts watching. A lock timeout must not pass between two looks.
    pub(super) fn start(session: Session, execution: &Execution) -> Monitor {
        let max_block = execution.limits.max_block.get();
        let every = (execution.limits.lock_timeout.get() / 3)
            .min(max_block / 2)
            .clamp(Duration::from_millis(50), Duration::from_millis(500));
        let table: Table = Table::default();
        let session = Arc::new(session);
        let end = CancellationToken::new();
        let task = tokio::spawn(watch(
            Arc::clone(&session),
            Arc::clone(&table),
            every,
            i64::try_from(max_block.as_millis()).unwrap_or(i64::MAX),
            end.clone(),
            Arc::clone(&execution.observer),
            execution.stop.awaited().clone(),
        ));
        Monitor {
            table,
            session,
            every,
            end,
            task,
        }
    }

    pub(super) async fn end(self) {
        self.end.cancel();
        // It ends within one look, unless the server says nothing any more; a panic in it
        // has been reported by tokio.
        let mut task = self.task;
        if tokio::time::timeout(PATIENCE, &mut task).await.is_err() {
            task.abort();
        }
    }

    /// Watches a session until [`Monitor::leave`]; the token tells it to give way.
    pub(super) fn enter(&self, pid: i32, seq: u32, yields: bool) -> CancellationToken {
        let give_way = CancellationToken::new();
        let watched = Watched {
            seq,
            yields,
            give_way: give_way.clone(),
            ..Watched::default()
        };
        lock(&self.table).insert(pid, watched);
        give_way
    }

    /// Ends watching; tells what was seen meanwhile.
    pub(super) fn leave(&self, pid: i32) -> Seen {
        let watched = lock(&self.table).remove(&pid).unwrap_or_default();
        let mut blockers: Vec<_> = watched
            .blockers
            .into_values()
            .map(|(blocker, samples)| (blocker, self.every * samples))
            .collect();
        blockers.sort_by_key(|(blocker, _)| blocker.pid);
        let mut waiters: Vec<_> = watched.waiters.into_values().collect();
        waiters.sort_by_key(|waiter| waiter.pid);
        Seen { blockers, waiters }
    }

    /// Who holds this relation now; empty where that cannot be told.
    pub(super) fn holders(
        &self,
        relation: u32,
        pid: i32,
        writers: bool,
    ) -> BoxFuture<'_, Vec<(Blocker, Duration)>> {
        Box::pin(async move {
            match watch::lock_holders(&self.session, relation, pid, writers).await {
                Ok(holders) => holders.into_iter().map(|b| (b, Duration::ZERO)).collect(),
                Err(error) => {
                    tracing::warn!(%error, "could not see who holds the table");
                    Vec::new()
                }
            }
        })
    }
}

impl Monitor {
    /// Who has been writing for longest, in any database; nobody where that cannot be told.
    pub(super) fn oldest_writer(&self) -> BoxFuture<'_, Vec<(Blocker, Duration)>> {
        Box::pin(async move {
            match watch::old_transaction(&self.session, 0, true, 0).await {
                Ok(oldest) => oldest.into_iter().map(|b| (b, Duration::ZERO)).collect(),
                Err(error) => {
                    tracing::warn!(%error, "could not see who writes");
                    Vec::new()
                }
            }
        })
    }
}

/// Somebody in the way, for people.
pub(super) fn describe(blocker: &Blocker) -> String {
    if let Some(name) = watch::prepared(&blocker.application) {
        return format!(
            "the prepared transaction {name} of {}, {} s old, which somebody has to end with ROLLBACK PREPARED {name} or COMMIT PREPARED {name}",
            blocker.user,
            blocker.transaction_age_ms / 1000
        );
    }
    format!(
        "pid {} ({}, {}, {}, query {} s old)",
        blocker.pid,
        blocker.user,
        blocker.application,
        blocker.state,
        blocker.query_age_ms / 1000
    )
}

fn lock(table: &Table) -> MutexGuard<'_, HashMap<i32, Watched>> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn watch(
    session: Arc<Session>,
    table: Table,
    every: Duration,
    max_block_ms: i64,
    end: CancellationToken,
    observer: Arc<dyn Observer>,
    awaited: Awaited,
) {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = end.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let pids: Vec<i32> = lock(&table).keys().copied().collect();
        if pids.is_empty() {
            continue;
        }
        let _looking = awaited.aside("who waits for whom");
        if let Err(error) = look(&session, &table, &pids, max_block_ms, observer.as_ref()).await {
            // The work goes on without: only blockers and progress stay unknown.
            tracing::warn!(%error, "watching the run failed");
            if error.is_unreachable() {
                return;
            }
        }
    }
}

async fn look(
    session: &Session,
    table: &Table,
    pids: &[i32],
    max_block_ms: i64,
    observer: &dyn Observer,
) -> Result<(), crate::engines::EngineError> {
    // First, because somebody waits.
    for waiter in watch::waiters(session, pids, max_block_ms).await? {
        if let Some(watched) = lock(table).get_mut(&waiter.our_pid) {
            watched.give_way.cancel();
            watched.waiters.insert(waiter.pid, waiter);
        }
    }
    for blocker in watch::blockers(session, pids).await? {
        let mut news = None;
        if let Some(watched) = lock(table).get_mut(&blocker.waiter_pid) {
            let pid = blocker.pid;
            let samples = watched.blockers.get(&pid).map_or(0, |(_, n)| *n);
            if samples == 0 {
                news = Some((watched.seq, format!("waits for {}", describe(&blocker))));
            }
            watched.blockers.insert(pid, (blocker, samples + 1));
        }
        if let Some((seq, phase)) = news {
            let (done, total) = (0, 0);
            let phase = &phase;
            observer.on(Event::Progress {
                seq,
                phase,
                done,
                total,
            });
        }
    }
    for progress in watch::progress(session, pids).await? {
        let seq = lock(table).get(&progress.pid).map(|watched| watched.seq);
        if let Some(seq) = seq {
            observer.on(Event::Progress {
                seq,
                phase: &progress.phase,
                done: progress.done,
                total: progress.total,
            });
        }
    }
    let yielding: Vec<i32> = lock(table)
        .iter()
        .filter(|(_, watched)| watched.yields)
        .map(|(pid, _)| *pid)
        .collect();
    if !yielding.is_empty() {
        for pid in watch::holding_up_wraparound(session, &yielding).await? {
            if let Some(watched) = lock(table).get(&pid) {
                watched.give_way.cancel();
            }
        }
    }
    Ok(())
}
