//! Who writes what runs say into the history, one after the other; what cannot be written is kept beside it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, MissedTickBehavior, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::super::spool::{self, Spool};
use super::super::{Entry, HistoryError, StepRecord, Store};
use super::away::Away;
use super::{Kept, LONG, Message, within};
use crate::values::with_causes;

/// How long entries gather before they are committed, unless somebody waits:
/// most steps on small objects have begun and ended by then, and are one row.
const GATHER: Duration = Duration::from_millis(10);

/// Entries of one commit: more would hold the write lock for too long.
const MOST_AT_ONCE: usize = 1_000;

/// Pause before the history is tried again with what is kept in a file.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// How long one commit may take before the entries are kept in a file instead.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(10);

/// The task that commits.
pub(super) struct Writer {
    /// Until when the history is left alone.
    pub(super) away: Away,
    /// Whether the process has no time left.
    pub(super) hurried: CancellationToken,
    pub(super) store: Arc<dyn Store>,
    pub(super) urgent: Arc<Notify>,
    pub(super) spool: Spool,
    /// While entries are kept in a file: when the history is tried next.
    pub(super) try_again_at: Option<Instant>,
    /// Records could be kept nowhere.
    pub(super) lost: bool,
    /// How often it is said that runs are at work.
    pub(super) say_again: Duration,
    /// Those runs.
    pub(super) at_work: HashSet<Uuid>,
    /// Steps of runs that have not ended, as they stand in the history.
    pub(super) written: HashMap<Uuid, HashMap<u32, StepRecord>>,
}

impl Writer {
    pub(super) async fn work(mut self, mut inbox: mpsc::UnboundedReceiver<Message>) {
        let mut gathered = Vec::new();
        let mut again = tokio::time::interval_at(Instant::now() + self.say_again, self.say_again);
        again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let waiting = async {
                match self.try_again_at {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            let came = tokio::select! {
                came = inbox.recv_many(&mut gathered, MOST_AT_ONCE) => came,
                () = waiting => {
                    self.write_kept().await;
                    continue;
                }
                _ = again.tick() => {
                    self.say_at_work().await;
                    continue;
                }
            };
            if came == 0 {
                return;
            }
            if gathered.iter().all(|one| matches!(one, Message::Write(_))) {
                // Nobody waits; a word from earlier only ends this too early.
                let _ = timeout(GATHER, self.urgent.notified()).await;
                while gathered.len() < MOST_AT_ONCE
                    && let Ok(more) = inbox.try_recv()
                {
                    gathered.push(more);
                }
            }
            self.handle(&mut gathered).await;
        }
    }

    async fn handle(&mut self, gathered: &mut Vec<Message>) {
        let mut entries = Vec::new();
        for message in gathered.drain(..) {
            match message {
                Message::Write(entry) => entries.push(entry),
                Message::Proof(entry, done) => {
                    self.write(std::mem::take(&mut entries)).await;
                    // Nobody waits for it where the run has been ended.
                    let _ = done.send(self.commit(std::slice::from_ref(&*entry)).await);
                }
                Message::Settle(told) => {
                    self.write(std::mem::take(&mut entries)).await;
                    // What was not taken a moment ago would not be taken now.
                    let is_away = self.away.silent_until().is_some();
                    if self.try_again_at.is_none() || !(is_away || self.hurried.is_cancelled()) {
                        self.write_kept().await;
                    }
                    let _ = told.send(self.kept());
                }
            }
        }
        self.write(entries).await;
    }

    /// Into the history, or into the file.
    pub(super) async fn write(&mut self, entries: Vec<Entry>) {
        if entries.is_empty() {
            return;
        }
        let entries = latest(entries);
        for entry in &entries {
            match entry {
                Entry::Opened(run) => self.at_work.insert(run.id),
                Entry::Closed(run) => self.at_work.remove(&run.id),
                _ => continue,
            };
        }
        if self.try_again_at.is_some() {
            self.keep(&entries);
            return;
        }
        if self.away.silent_until().is_some() {
            self.put_aside(&entries, &HistoryError::Silent);
            return;
        }
        match self.commit(&self.news(&entries)).await {
            Ok(()) => self.note_written(entries),
            Err(error) => self.put_aside(&entries, &error),
        }
    }

    /// Says in the history that runs are at work: otherwise nobody elsewhere can know.
    async fn say_at_work(&self) {
        if self.at_work.is_empty() || self.away.silent_until().is_some() {
            return;
        }
        let runs: Vec<Uuid> = self.at_work.iter().copied().collect();
        let said = within(COMMIT_TIMEOUT, &self.hurried, self.store.believe(&runs));
        if let Err(error) = said.await.unwrap_or_else(Err) {
            tracing::debug!(error = %with_causes(&error), "the history does not take that runs are at work");
        }
    }

    /// The same entries; a run that has ended without the steps that stand in
    /// the history as they are.
    fn news(&self, entries: &[Entry]) -> Vec<Entry> {
        let mut news = entries.to_vec();
        for entry in &mut news {
            if let Entry::Closed(run) = entry
                && let Some(written) = self.written.get(&run.id)
            {
                run.steps
                    .retain(|step| written.get(&step.seq) != Some(step));
            }
        }
        news
    }

    fn note_written(&mut self, entries: Vec<Entry>) {
        for entry in entries {
            match entry {
                Entry::Step { run, step } => {
                    self.written.entry(run).or_default().insert(step.seq, *step);
                }
                Entry::Closed(run) => {
                    self.written.remove(&run.id);
                }
                _ => {}
            }
        }
    }

    fn put_aside(&mut self, entries: &[Entry], error: &HistoryError) {
        self.keep(entries);
        self.try_again_at = Some(self.later());
        let place = match self.kept() {
            Some(Kept::InFile(path)) => path.display().to_string(),
            _ => "the log only".to_owned(),
        };
        tracing::error!(
            error = %error,
            "the history cannot be written; the work goes on, and its records are kept in {place}",
        );
    }

    pub(super) fn kept(&self) -> Option<Kept> {
        if self.lost {
            return Some(Kept::Nowhere);
        }
        let path = self.spool.path()?;
        Some(Kept::InFile(path.to_owned()))
    }

    fn keep(&mut self, entries: &[Entry]) {
        if let Err(error) = self.spool.keep(entries.iter()) {
            self.lost = true;
            for entry in entries {
                let text = serde_json::to_string(entry).unwrap_or_default();
                tracing::error!(error = %with_causes(&error), record = text, "a record could be kept nowhere but here");
            }
        }
    }

    /// Writes what is kept in the file, if there is any.
    async fn write_kept(&mut self) {
        if self.spool.path().is_none() {
            self.try_again_at = None;
            return;
        }
        let entries = match self.spool.entries() {
            Ok(entries) => latest(entries),
            Err(error) => {
                tracing::error!(error = %with_causes(&error), "records kept beside the history cannot be read");
                self.try_again_at = None;
                return;
            }
        };
        match self.commit(&entries).await {
            Ok(()) => {
                tracing::info!("the history is written again, with all that was kept beside it");
                self.spool.clear();
                self.try_again_at = None;
            }
            Err(_) => self.try_again_at = Some(self.later()),
        }
    }

    pub(super) async fn commit(&self, entries: &[Entry]) -> Result<(), HistoryError> {
        let began = Instant::now();
        let recorded = spool::record(self.store.as_ref(), entries);
        let committed = within(COMMIT_TIMEOUT, &self.hurried, recorded)
            .await
            .unwrap_or_else(Err);
        match &committed {
            Ok(()) => self.away.ends(),
            Err(_) if began.elapsed() >= LONG => self.away.begins(began.elapsed()),
            Err(_) => {}
        }
        committed
    }

    /// When the history is tried next.
    fn later(&self) -> Instant {
        let soon = Instant::now() + TRY_AGAIN_AFTER;
        self.away
            .silent_until()
            .map_or(soon, |until| until.max(soon))
    }
}

/// Of several states of a step only the last is written, in the place of the first.
fn latest(entries: Vec<Entry>) -> Vec<Entry> {
    let mut places: HashMap<(Uuid, u32), usize> = HashMap::new();
    let mut kept: Vec<Entry> = Vec::with_capacity(entries.len());
    for entry in entries {
        if let Entry::Step { run, step } = &entry {
            let key = (*run, step.seq);
            if let Some(place) = places.get(&key) {
                kept[*place] = entry;
                continue;
            }
            places.insert(key, kept.len());
        }
        kept.push(entry);
    }
    kept
}
