//! Watches our sessions from a connection of its own: who blocks them, how
//! far they are, who waits for them, and whether they hold up a vacuum that must not wait.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::reach::Way;
use super::{Event, Execution, Observer};
use crate::engines::EngineError;
use crate::engines::postgres::Session;
use crate::engines::postgres::repacking;
use crate::engines::postgres::watch::{self, Blocker, HIDDEN, Waiter};
use crate::execute::{Awaited, Wait};
use crate::plan::Step;
use crate::values::{wall_clock, with_causes};

/// How long the end of a run waits for the last look.
const PATIENCE: Duration = Duration::from_secs(5);
/// A look that takes longer than this has not seen anything: the connection is made anew.
const LOOK_WITHIN: Duration = Duration::from_secs(10);
/// How long a new connection may take.
const OPEN_WITHIN: Duration = Duration::from_secs(5);
/// Between two tries to connect.
const OPEN_AGAIN: Duration = Duration::from_secs(1);
/// Nothing goes on for longer than this without anybody seeing who waits for it.
const BLIND: Duration = Duration::from_secs(30);

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

/// Whom a session waits for, since when; `None` where it waits for nobody.
fn waits_for(blockers: &HashMap<i32, InTheWay>, now: &[i32]) -> Option<String> {
    let mut all: Vec<&InTheWay> = now.iter().filter_map(|pid| blockers.get(pid)).collect();
    all.sort_by_key(|seen| (seen.since, seen.blocker.pid));
    let first = all.first()?;
    let more = match all.len() {
        1 => String::new(),
        n => format!(" and {} more", n - 1),
    };
    Some(format!(
        "waits since {} for {}{more}",
        first.since.format("%H:%M:%S UTC"),
        describe(&first.blocker)
    ))
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

/// The watching task's own.
struct Watcher {
    way: Way,
    eyes: Eyes,
    table: Shared,
    max_block_ms: i64,
    max_xid_age: i64,
    observer: Arc<dyn Observer>,
    awaited: Awaited,
}

impl Watcher {
    /// Looks on, for ever. Where it sees nothing, it connects anew; where that goes on for
    /// too long, whoever is watched is told to stop.
    async fn watch(&self, every: Duration) {
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut seen = Instant::now();
        // From the first look in vain to the next that sees something it is one wait.
        let mut looking: Option<Wait> = None;
        loop {
            ticks.tick().await;
            let pids: Vec<i32> = lock(&self.table).sessions.keys().copied().collect();
            let lost = seeing(&self.eyes).closed().is_cancelled();
            if pids.is_empty() && looking.is_none() && !lost {
                seen = Instant::now();
                continue;
            }
            if looking.is_none() {
                looking = Some(self.awaited.aside("who waits for whom"));
            }
            let session = seeing(&self.eyes);
            let look = tokio::time::timeout(LOOK_WITHIN, self.look(&session, &pids));
            let (why, again) = match look.await {
                Ok(Ok(())) => {
                    (seen, looking) = (Instant::now(), None);
                    lock(&self.table).blind = None;
                    continue;
                }
                Ok(Err(error)) => (with_causes(&error), error.is_unreachable() || lost),
                Err(_) => (
                    format!("no answer within {} s", LOOK_WITHIN.as_secs()),
                    true,
                ),
            };
            tracing::warn!(error = why, "it is not seen who waits for whom");
            let why = match again {
                true => self.connect().await.err().unwrap_or(why),
                false => why,
            };
            if seen.elapsed() >= BLIND {
                self.blind(&why);
            }
        }
    }

    /// Makes the connection anew.
    async fn connect(&self) -> Result<(), String> {
        let why = match tokio::time::timeout(OPEN_WITHIN, open(&self.way)).await {
            Ok(Ok(session)) => {
                tracing::info!("who waits for whom is seen through a new connection");
                *self.eyes.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(session);
                return Ok(());
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no new connection within {} s", OPEN_WITHIN.as_secs()),
        };
        tokio::time::sleep(OPEN_AGAIN).await;
        Err(why)
    }

    /// Nothing has been seen for too long: nobody is to be held up unseen.
    fn blind(&self, why: &str) {
        let mut table = lock(&self.table);
        if table.blind.is_none() {
            tracing::warn!(
                error = why,
                "what is at work stops, since nobody sees who waits for it"
            );
        }
        table.blind = Some(why.to_owned());
        for watched in table.sessions.values() {
            watched.give_way.cancel();
        }
    }

    async fn look(&self, session: &Session, pids: &[i32]) -> Result<(), EngineError> {
        // First, because somebody waits.
        for waiter in watch::waiters(session, pids, self.max_block_ms).await? {
            if let Some(watched) = lock(&self.table).sessions.get_mut(&waiter.our_pid) {
                watched.give_way.cancel();
                watched.waiters.insert(waiter.pid, waiter);
            }
        }
        let mut in_the_way: HashMap<i32, Vec<i32>> = HashMap::new();
        for blocker in watch::blockers(session, pids).await? {
            let (ours, pid) = (blocker.waiter_pid, blocker.pid);
            in_the_way.entry(ours).or_default().push(pid);
            if let Some(watched) = lock(&self.table).sessions.get_mut(&ours) {
                let before = watched.blockers.get(&pid);
                let seen = InTheWay {
                    samples: before.map_or(1, |seen| seen.samples.saturating_add(1)),
                    since: before.map_or_else(wall_clock, |seen| seen.since),
                    blocker,
                };
                watched.blockers.insert(pid, seen);
            }
        }
        let progress = watch::progress(session, pids).await?;
        for pid in pids {
            let now = in_the_way.get(pid).map(Vec::as_slice).unwrap_or_default();
            self.tell(*pid, now, progress.iter().find(|p| p.pid == *pid));
        }
        let yielding: Vec<i32> = lock(&self.table)
            .sessions
            .iter()
            .filter(|(_, watched)| watched.yields)
            .map(|(pid, _)| *pid)
            .collect();
        if !yielding.is_empty() {
            for pid in watch::holding_up_wraparound(session, &yielding).await? {
                if let Some(watched) = lock(&self.table).sessions.get(&pid) {
                    watched.give_way.cancel();
                }
            }
            for (pid, age) in watch::holds_back(session, &yielding).await? {
                if age > self.max_xid_age
                    && let Some(watched) = lock(&self.table).sessions.get_mut(&pid)
                {
                    watched.too_old = Some(age);
                    watched.give_way.cancel();
                }
            }
        }
        let following: Vec<i32> = lock(&self.table)
            .sessions
            .iter()
            .filter(|(_, watched)| watched.most_log.is_some())
            .map(|(pid, _)| *pid)
            .collect();
        if !following.is_empty() {
            for (pid, kept) in repacking::keeps_log(session, &following).await? {
                if let Some(watched) = lock(&self.table).sessions.get_mut(&pid)
                    && watched.most_log.is_some_and(|most| kept > most)
                {
                    watched.too_much_log = Some(kept);
                    watched.give_way.cancel();
                }
            }
        }
        Ok(())
    }

    /// Tells whom a session of ours waits for, for as long as it does, and else how far it is.
    fn tell(&self, pid: i32, now: &[i32], progress: Option<&watch::Progress>) {
        let (seq, waits, before) = {
            let mut table = lock(&self.table);
            let Some(watched) = table.sessions.get_mut(&pid) else {
                return;
            };
            let waits = waits_for(&watched.blockers, now);
            let before = std::mem::replace(&mut watched.waits, waits.clone());
            if waits.is_none() {
                // Who comes back is in the way anew.
                for seen in watched.blockers.values_mut() {
                    seen.since = wall_clock();
                }
            }
            (watched.seq, waits, before)
        };
        let (phase, done, total) =
            progress.map_or(("", 0, 0), |p| (p.phase.as_str(), p.done, p.total));
        match waits {
            Some(who) => {
                let news = before.is_none();
                self.observer.on(Event::Blocked {
                    seq,
                    who: &who,
                    news,
                });
            }
            None if before.is_some() || progress.is_some() => {
                self.observer.on(Event::Progress {
                    seq,
                    phase,
                    done,
                    total,
                });
            }
            None => {}
        }
    }
}
