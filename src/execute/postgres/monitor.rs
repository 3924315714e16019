//! Watches our sessions from a connection of its own: who blocks them, how
//! far they are, who waits for them, and whether they hold up a vacuum that must not wait.

mod watcher;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::watcher::Watcher;
use super::Execution;
use super::reach::Way;
use crate::engines::EngineError;
use crate::engines::postgres::Session;
use crate::engines::postgres::repacking;
use crate::engines::postgres::watch::{self, Blocker, HIDDEN, Waiter};
use crate::plan::Step;
use crate::values::with_causes;

/// How long the end of a run waits for the last look.
const PATIENCE: Duration = Duration::from_secs(5);

/// Somebody in the way of one session of ours.
struct InTheWay {
    blocker: Blocker,
    /// The samples that it was seen in.
    samples: u32,
    /// Since when, as far as was seen.
    since: DateTime<Utc>,
}

/// What is known of one session of ours while it runs a statement.
#[derive(Default)]
struct Watched {
    seq: u32,
    /// Who was in the way, by pid.
    blockers: HashMap<i32, InTheWay>,
    /// Who is so now, in words, where anybody is.
    waits: Option<String>,
    /// Who waited for it, by pid, when it was told to give way.
    waiters: HashMap<i32, Waiter>,
    yields: bool,
    /// How many transactions old what it holds back is, where it was told to stop for that.
    too_old: Option<i64>,
    /// How much of the log may be kept for it.
    most_log: Option<i64>,
    /// How much was, where it was told to stop for that.
    too_much_log: Option<i64>,
    give_way: CancellationToken,
}

/// What was seen while a session of ours was watched.
#[derive(Default)]
pub(super) struct Seen {
    /// Who was in the way, and for how long it was seen there.
    pub(super) blockers: Vec<(Blocker, Duration)>,
    /// For whom it was told to step back.
    pub(super) waiters: Vec<Waiter>,
    /// Why nobody could see who waits for it, where it was told to stop for that.
    pub(super) blind: Option<String>,
    /// How many transactions old what it held back was, where it was told to stop for that.
    pub(super) too_old: Option<i64>,
    /// How much of the log was kept for it, where it was told to stop for that.
    pub(super) too_much_log: Option<i64>,
}

/// What the watching task and those who are watched have in common.
#[derive(Default)]
struct Table {
    sessions: HashMap<i32, Watched>,
    /// Why nothing has been seen for too long.
    blind: Option<String>,
}

type Shared = Arc<Mutex<Table>>;

/// The connection that looks on; another one, where it was lost.
type Eyes = Arc<Mutex<Arc<Session>>>;

/// The watching task.
pub(crate) struct Monitor {
    table: Shared,
    eyes: Eyes,
    every: Duration,
    end: CancellationToken,
    task: JoinHandle<()>,
}

impl Monitor {
    /// Starts watching. A lock timeout must not pass between two looks.
    pub(super) async fn start(way: Way, execution: &Execution) -> Result<Monitor, EngineError> {
        let max_block = execution.limits.max_block.get();
        let every = (execution.limits.lock_timeout.get() / 3)
            .min(max_block / 2)
            .clamp(Duration::from_millis(50), Duration::from_millis(500));
        let table = Shared::default();
        let eyes = Arc::new(Mutex::new(Arc::new(open(&way).await?)));
        let end = CancellationToken::new();
        let watcher = Watcher {
            way,
            eyes: Arc::clone(&eyes),
            table: Arc::clone(&table),
            max_block_ms: i64::try_from(max_block.as_millis()).unwrap_or(i64::MAX),
            max_xid_age: i64::from(execution.limits.max_xid_age),
            observer: Arc::clone(&execution.observer),
            awaited: execution.stop.awaited().clone(),
        };
        let ended = end.clone();
        let task = tokio::spawn(async move {
            tokio::select! {
                () = ended.cancelled() => {}
                () = watcher.watch(every) => {}
            }
        });
        Ok(Monitor {
            table,
            eyes,
            every,
            end,
            task,
        })
    }

    pub(super) async fn end(self) {
        self.end.cancel();
        // A panic in it has been reported by tokio.
        let mut task = self.task;
        if tokio::time::timeout(PATIENCE, &mut task).await.is_err() {
            task.abort();
        }
    }

    /// Watches a session that carries out a step until that is left, or dropped; its token tells it to
    /// give way. Where nobody sees who waits, it does so at once.
    pub(super) fn enter(&self, pid: i32, step: &Step) -> Entered<'_> {
        let give_way = CancellationToken::new();
        let watched = Watched {
            seq: step.seq,
            yields: step.body.yields_to_wraparound_vacuum,
            most_log: step.body.most_log,
            give_way: give_way.clone(),
            ..Watched::default()
        };
        let mut table = lock(&self.table);
        if table.blind.is_some() {
            give_way.cancel();
        }
        table.sessions.insert(pid, watched);
        Entered {
            monitor: self,
            pid,
            give_way,
        }
    }

    /// Ends watching; tells what was seen meanwhile.
    fn leave(&self, pid: i32) -> Seen {
        let mut table = lock(&self.table);
        let watched = table.sessions.remove(&pid).unwrap_or_default();
        let told = watched.give_way.is_cancelled();
        let blind = table.blind.clone().filter(|_| told);
        drop(table);
        let mut blockers: Vec<_> = watched
            .blockers
            .into_values()
            .map(|seen| (seen.blocker, self.every * seen.samples))
            .collect();
        blockers.sort_by_key(|(blocker, _)| blocker.pid);
        let mut waiters: Vec<_> = watched.waiters.into_values().collect();
        waiters.sort_by_key(|waiter| waiter.pid);
        Seen {
            blockers,
            waiters,
            blind,
            too_old: watched.too_old,
            too_much_log: watched.too_much_log,
        }
    }

    /// Who holds this relation now; empty where that cannot be told.
    pub(super) fn holders(
        &self,
        relation: u32,
        pid: i32,
        writers: bool,
    ) -> BoxFuture<'_, Vec<(Blocker, Duration)>> {
        let session = seeing(&self.eyes);
        Box::pin(async move {
            match watch::lock_holders(&session, relation, pid, writers).await {
                Ok(holders) => holders.into_iter().map(|b| (b, Duration::ZERO)).collect(),
                Err(error) => {
                    tracing::warn!(error = %with_causes(&error), "could not see who holds the table");
                    Vec::new()
                }
            }
        })
    }

    /// Who has the slots by which a table is followed while it is made anew; nobody where that cannot be told.
    pub(super) fn repacking(&self) -> BoxFuture<'_, Vec<(Blocker, Duration)>> {
        let session = seeing(&self.eyes);
        Box::pin(async move {
            match repacking::holders(&session).await {
                Ok(holders) => holders.into_iter().map(|b| (b, Duration::ZERO)).collect(),
                Err(error) => {
                    tracing::warn!(error = %with_causes(&error), "could not see who has the slots");
                    Vec::new()
                }
            }
        })
    }

    /// Who has been writing for longest, in any database; nobody where that cannot be told.
    pub(super) fn oldest_writer(&self) -> BoxFuture<'_, Vec<(Blocker, Duration)>> {
        let session = seeing(&self.eyes);
        Box::pin(async move {
            match watch::old_transaction(&session, 0, true, 0).await {
                Ok(oldest) => oldest.into_iter().map(|b| (b, Duration::ZERO)).collect(),
                Err(error) => {
                    tracing::warn!(error = %with_causes(&error), "could not see who writes");
                    Vec::new()
                }
            }
        })
    }
}

/// A session that is watched.
pub(super) struct Entered<'a> {
    monitor: &'a Monitor,
    pid: i32,
    /// Tells it to give way.
    pub(super) give_way: CancellationToken,
}

impl Entered<'_> {
    /// Ends watching; tells what was seen meanwhile.
    pub(super) fn leave(self) -> Seen {
        self.monitor.leave(self.pid)
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        lock(&self.monitor.table).sessions.remove(&self.pid);
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
    if blocker.state == HIDDEN {
        return format!(
            "pid {} ({}, {}; what it does, and since when, the server does not show this role: GRANT pg_read_all_stats lets it see)",
            blocker.pid, blocker.user, blocker.application
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

fn lock(table: &Shared) -> MutexGuard<'_, Table> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

fn seeing(eyes: &Eyes) -> Arc<Session> {
    Arc::clone(&eyes.lock().unwrap_or_else(PoisonError::into_inner))
}

async fn open(way: &Way) -> Result<Session, EngineError> {
    let session = way.open().await?;
    // Where `ALTER ROLE … SET role` makes another role of the one that logged in, that
    // other role sees nothing of our sessions.
    let doing = "watching as the role that logged in";
    session.execute(doing, "SET ROLE NONE").await?;
    Ok(session)
}
