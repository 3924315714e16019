//! The watching task: it looks on, tells, and has sessions give way.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::super::reach::Way;
use super::super::{Event, Observer};
use super::{Eyes, InTheWay, Shared, describe, lock, open, seeing};
use crate::engines::EngineError;
use crate::engines::postgres::watch;
use crate::engines::postgres::{Fault, Session, repacking};
use crate::execute::{Awaited, Wait};
use crate::values::{wall_clock, with_causes};

/// A look that takes longer than this has not seen anything: the connection is made anew.
const LOOK_WITHIN: Duration = Duration::from_secs(10);

/// How long a new connection may take.
const OPEN_WITHIN: Duration = Duration::from_secs(5);

/// Between two tries to connect.
const OPEN_AGAIN: Duration = Duration::from_secs(1);

/// Nothing goes on for longer than this without anybody seeing who waits for it.
const BLIND: Duration = Duration::from_secs(30);

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

/// The watching task's own.
pub(super) struct Watcher {
    pub(super) way: Way,
    pub(super) eyes: Eyes,
    pub(super) table: Shared,
    pub(super) max_block_ms: i64,
    pub(super) max_xid_age: i64,
    pub(super) observer: Arc<dyn Observer>,
    pub(super) awaited: Awaited,
}

impl Watcher {
    /// Looks on, for ever. Where it sees nothing, it connects anew; where that goes on for
    /// too long, whoever is watched is told to stop.
    pub(super) async fn watch(&self, every: Duration) {
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut seen = Instant::now();
        // From the first look in vain to the next that sees something it is one wait.
        let mut looking: Option<Wait> = None;
        // Why nothing is seen, as far as it has been said: one look in vain is as another.
        let mut said = String::new();
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
            let mut for_ever = false;
            let (why, again) = match look.await {
                Ok(Ok(())) => {
                    (seen, looking) = (Instant::now(), None);
                    said.clear();
                    lock(&self.table).blind = None;
                    continue;
                }
                Ok(Err(error)) => {
                    // What somebody has taken away meanwhile does not come back by itself.
                    for_ever = Fault::of(&error) == Fault::Forbidden;
                    (with_causes(&error), error.is_unreachable() || lost)
                }
                Err(_) => (
                    format!("no answer within {} s", LOOK_WITHIN.as_secs()),
                    true,
                ),
            };
            if said != why {
                tracing::warn!(error = why, "it is not seen who waits for whom");
                said.clone_from(&why);
            }
            let why = match again {
                true => self.connect().await.err().unwrap_or(why),
                false => why,
            };
            if for_ever || seen.elapsed() >= BLIND {
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
    pub(super) fn blind(&self, why: &str) {
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
