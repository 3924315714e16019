//! How a run writes its history without waiting for it.
//!
//! Entries are handed over and committed by one task: what gathers while a
//! commit is under way costs one commit together. Where the history does not
//! take them, they are kept in a file beside it, and the work goes on.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::spool::{self, Spool};
use super::{Baseline, Entry, HistoryError, Notice, RunRecord, StepRecord, Store};
use crate::plan::{Finding, Measurement, Memory};
use crate::values::with_causes;

/// How long one commit may take before the entries are kept in a file instead.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(10);

/// Pause before the history is tried again with what is kept in a file.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// How long entries gather before they are committed, unless somebody waits:
/// most steps on small objects have begun and ended by then, and are one row.
const GATHER: Duration = Duration::from_millis(10);

/// Entries of one commit: more would hold the write lock for too long.
const MOST_AT_ONCE: usize = 1_000;

/// How long [`Recorder::proof`] goes on asking a history that does not take it.
const PROOF_PATIENCE: Duration = Duration::from_secs(20);

/// Pause between two of its tries.
const PROOF_PAUSE: Duration = Duration::from_millis(500);

/// How long a run waits for an answer that it can do without.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a history that did not answer is not asked again.
const AWAY_FOR: Duration = Duration::from_secs(30);

/// What takes so long and comes to nothing is not tried again at once.
pub const LONG: Duration = Duration::from_secs(2);

type Done = oneshot::Sender<Result<(), HistoryError>>;

enum Message {
    Write(Entry),
    /// Written or refused, never kept aside: its sender decides by the answer.
    Proof(Box<Entry>, Done),
    /// Answered when all that came before is in the history or in a file.
    Settle(oneshot::Sender<Option<Kept>>),
}

/// Where records are that the history has not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// In this file, until the history takes them.
    InFile(PathBuf),
    /// In the log of this process only: the file could not be written either.
    Nowhere,
}

/// How long the history has to answer, or to take what is written, while the process is ending.
const LAST_TIMEOUT: Duration = Duration::from_secs(2);

/// Takes what runs write. Cheap to share; ends with its last owner, so
/// [`Recorder::settle`] comes first.
pub struct Recorder {
    store: Arc<dyn Store>,
    line: mpsc::UnboundedSender<Message>,
    /// Told when somebody waits for what was handed over.
    urgent: Arc<Notify>,
    /// Until when the history is not asked, because it did not answer.
    away: Away,
    /// Whether the process has no time left.
    hurried: CancellationToken,
}

impl Recorder {
    /// Writes into `store`, or into a file in `folder` while that cannot be written.
    pub fn start(store: Arc<dyn Store>, folder: PathBuf) -> Recorder {
        let (line, inbox) = mpsc::unbounded_channel();
        let urgent = Arc::new(Notify::new());
        let hurried = CancellationToken::new();
        let away = Away::default();
        let writer = Writer {
            hurried: hurried.clone(),
            store: Arc::clone(&store),
            urgent: Arc::clone(&urgent),
            spool: Spool::new(&folder),
            away: away.clone(),
            try_again_at: None,
            lost: false,
            written: HashMap::new(),
        };
        tokio::spawn(writer.work(inbox));
        Recorder {
            store,
            line,
            urgent,
            away,
            hurried,
        }
    }

    /// From here on the history is waited for only briefly: the process is ending. What it does
    /// not take is kept in the file.
    pub fn hurry(&self) {
        self.hurried.cancel();
    }

    /// Somebody has waited for the history in vain: it is left alone for a while.
    pub fn leave_alone(&self) {
        self.away.begins(LONG);
    }

    /// The history itself, for whoever reads, and for what is no record of a run.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// What the history answers; `None` where it does not, and the run has to
    /// go on without. It is then left alone for a while.
    pub async fn ask<T>(
        &self,
        question: impl Future<Output = Result<T, HistoryError>>,
    ) -> Option<T> {
        if self.away.until().is_some() {
            return None;
        }
        let began = Instant::now();
        let why = match within(ANSWER_TIMEOUT, &self.hurried, question).await {
            Ok(Ok(answer)) => return Some(answer),
            Ok(Err(error)) => error,
            Err(stalled) => stalled,
        };
        tracing::warn!(error = %with_causes(&why), "the history does not answer; going on without");
        self.away.begins(began.elapsed());
        None
    }

    /// Whether a run has ended, as far as the history knows; `false` where it does not answer, or has
    /// no such run: it may be of another history, or not written yet.
    pub async fn is_over(&self, run: Uuid) -> bool {
        let id = run.to_string();
        let known = async {
            match self.store.run(&id).await {
                Ok(record) => Ok(Some(record)),
                Err(HistoryError::UnknownRun { .. }) => Ok(None),
                Err(error) => Err(error),
            }
        };
        let record = self.ask(known).await.flatten();
        record.is_some_and(|record| record.finished_at.is_some())
    }

    /// What the history answers, asked again for a while where it does not:
    /// for work that must not be done without.
    ///
    /// # Errors
    /// When it has not answered in that time.
    pub async fn insist<T, F>(&self, ask: impl Fn() -> F) -> Result<T, HistoryError>
    where
        F: Future<Output = Result<T, HistoryError>>,
    {
        let until = Instant::now() + PROOF_PATIENCE;
        loop {
            let why = match within(ANSWER_TIMEOUT, &self.hurried, ask()).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => error,
                Err(stalled) => stalled,
            };
            if !why.is_retryable() || Instant::now() >= until {
                return Err(why);
            }
            tracing::warn!(error = %with_causes(&why), "the history does not answer; asking again");
            tokio::time::sleep(PROOF_PAUSE).await;
        }
    }

    /// Hands an entry over; it is in the history, or in a file, soon.
    pub fn write(&self, entry: Entry) {
        if self.line.send(Message::Write(entry)).is_err() {
            tracing::error!("a record was lost: the process is ending");
        }
    }

    /// A run begins.
    pub fn open_run(&self, run: &RunRecord) {
        self.write(Entry::Opened(Box::new(run.clone())));
    }

    /// How a step stands, or ended.
    pub fn step(&self, run: Uuid, step: &StepRecord) {
        self.write(Entry::Step {
            run,
            step: Box::new(step.clone()),
        });
    }

    /// What a run noticed.
    pub fn add_findings(&self, run: Uuid, findings: &[Finding]) {
        if !findings.is_empty() {
            self.write(Entry::Findings {
                run,
                findings: findings.to_vec(),
            });
        }
    }

    /// How a run ended.
    pub fn close_run(&self, run: &RunRecord) {
        self.write(Entry::Closed(Box::new(run.clone())));
    }

    /// The size of an object.
    pub fn learn(&self, target: &str, baseline: Baseline) {
        self.write(Entry::Baseline {
            target: target.to_owned(),
            baseline,
        });
    }

    /// What a kind wants to know next time.
    pub fn remember(&self, target: &str, kind: &str, at: DateTime<Utc>, memories: &[Memory]) {
        if !memories.is_empty() {
            self.write(memories_of(target, kind, at, memories));
        }
    }

    /// Numbers for the time series.
    pub fn add_measurements(&self, target: &str, at: DateTime<Utc>, measurements: &[Measurement]) {
        let finite = measurements.iter().filter(|one| one.value.is_finite());
        let measurements: Vec<Measurement> = finite.cloned().collect();
        if !measurements.is_empty() {
            self.write(Entry::Measurements {
                target: target.to_owned(),
                at,
                measurements,
            });
        }
    }

    /// What is worth telling.
    pub fn add_notices(&self, notices: Vec<Notice>) {
        if !notices.is_empty() {
            self.write(Entry::Notices(notices));
        }
    }

    /// Remembers what a statement that destroys rests on: on disk in the
    /// history when this returns. Tried again for a while where the history
    /// does not answer.
    ///
    /// # Errors
    /// When the history has not taken it; the statement must then not run.
    pub async fn proof(
        &self,
        target: &str,
        kind: &str,
        at: DateTime<Utc>,
        memories: &[Memory],
    ) -> Result<(), HistoryError> {
        let until = Instant::now() + PROOF_PATIENCE;
        loop {
            let (done, answer) = oneshot::channel();
            let entry = Box::new(memories_of(target, kind, at, memories));
            if self.line.send(Message::Proof(entry, done)).is_err() {
                return Err(HistoryError::Ended);
            }
            self.urgent.notify_one();
            match answer.await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) if !error.is_retryable() || Instant::now() >= until => {
                    return Err(error);
                }
                Ok(Err(error)) => {
                    tracing::warn!(error = %with_causes(&error), "the history has not taken a proof; trying again");
                    tokio::time::sleep(PROOF_PAUSE).await;
                }
                Err(_) => return Err(HistoryError::Ended),
            }
        }
    }

    /// Waits until all that was handed over is in the history; tells where it is
    /// otherwise.
    pub async fn settle(&self) -> Option<Kept> {
        let (told, answer) = oneshot::channel();
        self.line.send(Message::Settle(told)).ok()?;
        self.urgent.notify_one();
        answer.await.ok().flatten()
    }
}

/// Writes what processes that are gone have kept in `folder`.
///
/// # Errors
/// Only the history's own.
pub async fn take_up(folder: &Path, store: &dyn Store) -> Result<usize, HistoryError> {
    spool::take_up(folder, store).await
}

fn memories_of(target: &str, kind: &str, at: DateTime<Utc>, memories: &[Memory]) -> Entry {
    Entry::Memories {
        target: target.to_owned(),
        kind: kind.to_owned(),
        at,
        memories: memories.to_vec(),
    }
}

/// Until when the history is left alone, because somebody has waited for it in vain: known
/// to who asks and to who writes, so that a history that says nothing is waited for once.
#[derive(Clone, Default)]
struct Away(Arc<Mutex<Option<(Instant, bool)>>>);

impl Away {
    fn lock(&self) -> MutexGuard<'_, Option<(Instant, bool)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// After having waited for so long.
    fn begins(&self, waited: Duration) {
        *self.lock() = Some((Instant::now() + AWAY_FOR, waited >= LONG));
    }

    fn ends(&self) {
        *self.lock() = None;
    }

    /// None once it may be asked again.
    fn until(&self) -> Option<Instant> {
        self.lock()
            .map(|(until, _)| until)
            .filter(|until| Instant::now() < *until)
    }

    /// The same where it says nothing: one that says no at once costs nobody time.
    fn silent_until(&self) -> Option<Instant> {
        let silent = self.lock().filter(|(_, silent)| *silent);
        silent
            .map(|(until, _)| until)
            .filter(|until| Instant::now() < *until)
    }
}

/// The task that commits.
struct Writer {
    /// Until when the history is left alone.
    away: Away,
    /// Whether the process has no time left.
    hurried: CancellationToken,
    store: Arc<dyn Store>,
    urgent: Arc<Notify>,
    spool: Spool,
    /// While entries are kept in a file: when the history is tried next.
    try_again_at: Option<Instant>,
    /// Records could be kept nowhere.
    lost: bool,
    /// Steps of runs that have not ended, as they stand in the history.
    written: HashMap<Uuid, HashMap<u32, StepRecord>>,
}

impl Writer {
    async fn work(mut self, mut inbox: mpsc::UnboundedReceiver<Message>) {
        let mut gathered = Vec::new();
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
    async fn write(&mut self, entries: Vec<Entry>) {
        if entries.is_empty() {
            return;
        }
        let entries = latest(entries);
        if self.try_again_at.is_some() {
            self.keep(&entries);
            return;
        }
        if self.away.silent_until().is_some() {
            let seconds = ANSWER_TIMEOUT.as_secs();
            self.put_aside(&entries, &HistoryError::Stalled { seconds });
            return;
        }
        match self.commit(&self.news(&entries)).await {
            Ok(()) => self.note_written(entries),
            Err(error) => self.put_aside(&entries, &error),
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

    fn kept(&self) -> Option<Kept> {
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

    async fn commit(&self, entries: &[Entry]) -> Result<(), HistoryError> {
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

/// What comes within `most`, or within [`LAST_TIMEOUT`] once there is no time left.
async fn within<T>(
    most: Duration,
    hurried: &CancellationToken,
    work: impl Future<Output = T>,
) -> Result<T, HistoryError> {
    let last = async {
        hurried.cancelled().await;
        tokio::time::sleep(LAST_TIMEOUT).await;
    };
    let waited = tokio::select! {
        done = work => return Ok(done),
        () = tokio::time::sleep(most) => most,
        () = last => LAST_TIMEOUT,
    };
    Err(HistoryError::Stalled {
        seconds: waited.as_secs(),
    })
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
#[path = "recorder_tests.rs"]
mod tests;
