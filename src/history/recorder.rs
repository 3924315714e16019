//! How a run writes its history without waiting for it.
//!
//! Entries are handed over and committed by one task: what gathers while a
//! commit is under way costs one commit together. Where the history does not
//! take them, they are kept in a file beside it, and the work goes on.

mod away;
mod writer;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::away::Away;
use self::writer::Writer;
use super::spool::{self, Spool};
use super::{BELIEVED_FOR, Baseline, Entry, HistoryError, Notice, RunRecord, StepRecord, Store};
use crate::plan::{Finding, Measurement, Memory};
use crate::values::with_causes;

/// How long [`Recorder::proof`] goes on asking a history that does not take it.
const PROOF_PATIENCE: Duration = Duration::from_secs(20);

/// Pause between two of its tries.
const PROOF_PAUSE: Duration = Duration::from_millis(500);

/// How long a run waits for an answer that it can do without.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// How often it is said that runs are at work: several times before nobody believes it any more.
const SAY_AGAIN: Duration = Duration::from_secs(BELIEVED_FOR.as_secs() / 5);

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
        Self::saying(SAY_AGAIN, store, folder)
    }

    fn saying(say_again: Duration, store: Arc<dyn Store>, folder: PathBuf) -> Recorder {
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
            say_again,
            at_work: HashSet::new(),
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

    /// Whether the process is ending.
    pub fn is_hurried(&self) -> bool {
        self.hurried.is_cancelled()
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
        let record = self.ask(self.known(run)).await.flatten();
        record.is_some_and(|record| record.finished_at.is_some())
    }

    /// Whether the history answers that it has no such run.
    pub async fn is_unknown(&self, run: Uuid) -> bool {
        matches!(self.ask(self.known(run)).await, Some(None))
    }

    async fn known(&self, run: Uuid) -> Result<Option<RunRecord>, HistoryError> {
        match self.store.run(&run.to_string()).await {
            Ok(record) => Ok(Some(record)),
            Err(HistoryError::UnknownRun { .. }) => Ok(None),
            Err(error) => Err(error),
        }
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
#[path = "recorder_tests.rs"]
mod tests;
