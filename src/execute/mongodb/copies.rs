//! Copies whose originals were not deleted: taken back, where they are still as they were written.

mod back;
mod taken;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use mongodb::bson::{RawDocumentBuf, doc};
use mongodb::error::TRANSIENT_TRANSACTION_ERROR;

use self::back::Back;
pub(super) use self::taken::{Taken, place_of};
use super::gate::Again;
use super::source::{FAILOVER, passes, value_at};
use super::{Job, end};
use crate::engines::EngineError;
use crate::engines::mongodb::{CopyMark, Fate, MongoError, Session, kill_operations, namespace};
use crate::history::{StepRecord, StepStatus};
use crate::plan::mongodb::TakeBack;
use crate::plan::mongodb::copies::{Sealed, forgotten};
use crate::plan::{Finding, Severity};
use crate::values::wall_clock;

/// How many ids are named where there may be many.
const NAMED: usize = 5;
/// How much of one is shown: an `_id` may be a document.
const SHOWN: usize = 80;
const AGAIN: Duration = Duration::from_millis(200);

/// Some of these ids, and how many more there are.
pub(super) fn named(ids: &[String]) -> String {
    let short = |id: &String| match id.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{}…", id.get(..at).unwrap_or_default()),
        None => id.clone(),
    };
    let some: Vec<String> = ids.iter().take(NAMED).map(short).collect();
    let some = some.join(", ");
    match ids.len().saturating_sub(NAMED) {
        0 => some,
        more => format!("{some} and {more} more"),
    }
}

/// Carries out [`Work::TakeBack`](crate::plan::mongodb::Work::TakeBack).
pub(super) async fn carry_out(
    work: &TakeBack,
    job: Job<'_>,
    record: &mut StepRecord,
    findings: &mut Vec<Finding>,
) -> Result<(), EngineError> {
    record.attempts = 1;
    let execution = job.execution;
    let memories = execution.history.store();
    let memories = memories.memories(&execution.target, &execution.kind).await;
    let memories = memories.map_err(|error| EngineError::Files {
        message: format!("what the history knows of copies cannot be read: {error}"),
    })?;
    let mut known = Sealed::all(&memories);
    known.retain(|id, _| work.marks.contains(id));
    let alive = job.session.at_work(known.values().map(Sealed::owner));
    let alive = alive.await?;
    known.retain(|_, sealed| !alive.contains(sealed.owner()));
    let ids: Vec<String> = known.keys().cloned().collect();
    let there = job.session.copies_by_id(&ids).await?;
    for (id, sealed) in known {
        let Some(mark) = there.iter().find(|mark| mark.id == id) else {
            // Only what is not there at all has come to its end.
            if !job.session.is_marked(&id).await? {
                ended(&id, &sealed, job).await;
            }
            continue;
        };
        // Whoever may write to the database can write a mark, or change one.
        if !sealed.fits(mark) {
            continue;
        }
        if job.execution.stop.is_stopping() {
            end(record, StepStatus::Cancelled, "the run was stopped");
            return Ok(());
        }
        match one(mark, &sealed, job).await {
            Ok(taken) => {
                let into = place_of(mark);
                tracing::info!(into, copies = taken.back, "copies were taken back");
                findings.extend(taken.findings(mark));
            }
            Err(EngineError::Mongo(error)) if error.is_passing() => return Err(error.into()),
            // What cannot be reached any more must not keep everything else from being archived.
            Err(error) => findings.push(Finding {
                code: "archive.differs".to_owned(),
                severity: Severity::Warning,
                object: namespace(&mark.from.0, &mark.from.1),
                message: format!(
                    "a batch was broken off after it had been copied into {}, and its copies could not be taken back; the next run tries it again: {error}",
                    place_of(mark)
                ),
                suggestion: None,
            }),
        }
    }
    record.status = StepStatus::Succeeded;
    Ok(())
}

async fn one(mark: &CopyMark, sealed: &Sealed, job: Job<'_>) -> Result<Taken, EngineError> {
    let elsewhere = match &mark.target {
        None => None,
        Some(name) => Some(open(name, job).await?),
    };
    let there = elsewhere.as_ref().unwrap_or(job.session);
    // Its insert may be at work still, where only the target itself was looked after.
    if elsewhere.is_some()
        && let Err(error) = kill_operations(there, doc! { "appName": &mark.owner }).await
    {
        tracing::debug!(%error, "operations of a run that is no more end by themselves");
    }
    // Its transaction may be open still, and keep others waiting.
    if let Some(session) = &mark.session {
        job.session.end_session(session).await;
    }
    Ok(take_back(job, there, (&mark.id, sealed), &Seen::default()).await?)
}

/// A session of another target, by its name in the configuration.
pub(super) async fn open(name: &str, job: Job<'_>) -> Result<Session, EngineError> {
    let target = job.execution.elsewhere.get(name);
    let target = target.ok_or_else(|| EngineError::NotVisible {
        what: format!("there is no target `{name}` to archive to"),
    })?;
    super::dial::elsewhere(name, target, job.session.name()).await
}

/// What the batch itself has seen, where it is the one that takes its copies back.
#[derive(Default)]
pub(super) struct Seen<'a> {
    /// Whether it knows of its own which originals were not deleted.
    pub(super) whole: bool,
    /// Those that somebody else had removed before its transaction.
    pub(super) erased: Option<&'a HashSet<String>>,
}

/// Has the history forget the mark of a batch that has come to its end, and removes then what is written down of it:
/// a mark that is known and not there any more could be restored, and would be believed.
pub(super) async fn ended(id: &str, sealed: &Sealed, job: Job<'_>) {
    let execution = job.execution;
    let (target, kind) = (&execution.target, &execution.kind);
    let memory = [forgotten(id)];
    let history = &execution.history;
    let known = history.proof(target, kind, wall_clock(), &memory).await;
    if let Err(error) = known {
        tracing::debug!(%error, "a mark remains until the history has forgotten it");
        return;
    }
    removed_marks(id, sealed, job).await;
}

/// Removes the mark of a batch that nobody knows any more, and the record of what it has deleted.
pub(super) async fn removed_marks(id: &str, sealed: &Sealed, job: Job<'_>) {
    let forgotten = job.session.forget_batch(id, sealed.evidence());
    if let Err(error) = forgotten.await {
        tracing::debug!(%error, "a mark remains for now");
    }
}

/// Has the history forget marks of runs that are no more, and whose batches have come to their end: they were
/// killed before they could.
pub(super) async fn forget_ended(job: Job<'_>) -> Result<(), MongoError> {
    let execution = job.execution;
    let (target, kind) = (&execution.target, &execution.kind);
    let memories = execution.history.store().memories(target, kind).await;
    let mut known = memories.map_or_else(|_| Default::default(), |all| Sealed::all(&all));
    if known.is_empty() {
        return Ok(());
    }
    let here = job.session;
    let alive = here.at_work(known.values().map(Sealed::owner)).await?;
    known.retain(|_, sealed| !alive.contains(sealed.owner()));
    let ids: Vec<String> = known.keys().cloned().collect();
    for id in here.ended_copies(&ids).await? {
        if let Some(sealed) = known.get(&id) {
            ended(&id, sealed, job).await;
        }
    }
    Ok(())
}

/// Takes the copies of a mark back whose originals were not deleted and live, and those of originals that were
/// erased before; and removes the mark. Any other copy without an original is the only one there is, and stays. So
/// does a copy beside another document of its `_id`, where nothing proves that its original was not deleted.
pub(super) async fn take_back(
    job: Job<'_>,
    there: &Session,
    (id, sealed): (&str, &Sealed),
    seen: &Seen<'_>,
) -> Result<Taken, MongoError> {
    let here = job.session;
    let Some(mut mark) = here.seize_copies(id).await? else {
        ended(id, sealed, job).await;
        return Ok(Taken::default());
    };
    if !sealed.fits(&mark) {
        // Somebody has changed it just now: it is told as one that nobody knows.
        return Ok(Taken {
            left: usize::MAX,
            ..Taken::default()
        });
    }
    let fate = match seen.whole {
        true => Fate::Open,
        false => here.fate_of(id, sealed.evidence()).await?,
    };
    let proved = fate != Fate::Unknown;
    let other = there.server.set.is_some() && mark.target.is_some();
    if other && !mark.made {
        mark.made = there.has_made(&mark).await?;
    }
    if let Fate::Committed(left) = fate {
        // Whatever the mark names, these alone were not deleted.
        mark.copies = left;
    }
    let mut taken = Taken {
        left: mark.copies.len(),
        ..Taken::default()
    };
    let began = Instant::now();
    let mut again = Again::default();
    let back = Back {
        here,
        there,
        mark: &mark,
        sealed,
        proved,
        erased: seen.erased,
    };
    loop {
        match back.removed(&mut taken).await {
            Ok(()) => break,
            Err(error)
                if (passes(&error) || error.contains_label(TRANSIENT_TRANSACTION_ERROR))
                    && began.elapsed() < FAILOVER =>
            {
                again.tell(&MongoError::of_driver(&error));
                tokio::time::sleep(AGAIN).await;
            }
            Err(error) => {
                let doing = "taking copies back";
                let on = namespace(&mark.into.0, &mark.into.1);
                return Err(there.error(doing, "delete", &on, &error));
            }
        }
    }
    if other {
        there.forget_made(&mark).await;
    }
    ended(id, sealed, job).await;
    Ok(taken)
}

/// The `_id` of a document, for people.
pub(super) fn shown(document: &RawDocumentBuf) -> String {
    let id = value_at(document, "_id");
    id.map(|id| id.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_are_named_and_all_are_counted() {
        let ids = |n: usize| (0..n).map(|n| n.to_string()).collect::<Vec<_>>();
        assert_eq!(named(&ids(2)), "0, 1");
        assert_eq!(named(&ids(5)), "0, 1, 2, 3, 4");
        assert_eq!(named(&ids(105)), "0, 1, 2, 3, 4 and 100 more");
        let long = named(&["ü".repeat(200)]);
        assert_eq!(long, format!("{}…", "ü".repeat(80)));
    }
}
