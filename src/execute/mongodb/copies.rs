//! Copies whose originals were not deleted: taken back, where they are still as they were written.

mod taken;

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use futures_util::TryStreamExt;
use mongodb::bson::{Bson, Document, RawDocumentBuf, doc};
use mongodb::error::{Error, TRANSIENT_TRANSACTION_ERROR};
use mongodb::options::ReadConcern;

pub(super) use self::taken::{Taken, place_of};
use super::gate::Again;
use super::source::{FAILOVER, id_of, key_of, majority, passes, value_at};
use super::{Job, end};
use crate::engines::EngineError;
use crate::engines::mongodb::{
    Copy, CopyMark, MongoError, Session, in_parts, kill_operations, namespace,
};
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
                forget(&id, job);
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
    let erased = HashSet::new();
    Ok(take_back(job, there, (&mark.id, sealed), &erased).await?)
}

/// A session of another target, by its name in the configuration.
pub(super) async fn open(name: &str, job: Job<'_>) -> Result<Session, EngineError> {
    let target = job.execution.elsewhere.get(name);
    let target = target.ok_or_else(|| EngineError::NotVisible {
        what: format!("there is no target `{name}` to archive to"),
    })?;
    super::dial::elsewhere(name, target, job.session.name()).await
}

/// Has the history forget a mark.
fn forget(id: &str, job: Job<'_>) {
    let execution = job.execution;
    let (target, kind) = (&execution.target, &execution.kind);
    let history = &execution.history;
    history.remember(target, kind, wall_clock(), &[forgotten(id)]);
}

/// Takes the copies of a mark back whose originals live, and those of originals that were `erased`, as the
/// transaction of the batch itself has seen; and removes the mark. Any other copy without an original is
/// the only one there is: it stays.
pub(super) async fn take_back(
    job: Job<'_>,
    there: &Session,
    (id, sealed): (&str, &Sealed),
    erased: &HashSet<String>,
) -> Result<Taken, MongoError> {
    let here = job.session;
    let Some(mark) = here.seize_copies(id).await? else {
        forget(id, job);
        return Ok(Taken::default());
    };
    if !sealed.fits(&mark) {
        // Somebody has changed it just now: it is told as one that nobody knows.
        return Ok(Taken {
            left: usize::MAX,
            ..Taken::default()
        });
    }
    let mut taken = Taken {
        left: mark.copies.len(),
        ..Taken::default()
    };
    let began = Instant::now();
    let mut again = Again::default();
    loop {
        let tried = removed(here, there, (&mark, sealed), erased, &mut taken).await;
        match tried {
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
    here.forget_copies(&mark.id).await?;
    forget(id, job);
    Ok(taken)
}

async fn removed(
    here: &Session,
    there: &Session,
    (mark, sealed): (&CopyMark, &Sealed),
    erased: &HashSet<String>,
    taken: &mut Taken,
) -> Result<(), Error> {
    taken.strangers.clear();
    taken.alone.clear();
    let ids: Vec<Bson> = mark.copies.iter().map(|copy| copy.id.clone()).collect();
    if ids.is_empty() {
        return Ok(());
    }
    // The name may have been given to another collection since.
    let database = there.client().database(&mark.into.0);
    let mut listed = database
        .run_cursor_command(doc! { "listCollections": 1 })
        .await?;
    let mut name = None;
    while let Some(one) = listed.try_next().await? {
        let uuid = one
            .get_document("info")
            .ok()
            .and_then(|info| info.get("uuid"));
        if uuid.is_some_and(|uuid| uuid.to_string() == mark.uuid) {
            name = one.get_str("name").ok().map(str::to_owned);
        }
    }
    let Some(name) = name else {
        taken.astray = true;
        return Ok(());
    };
    let live = here
        .raw(&mark.from.0, &mark.from.1)
        .find(doc! { "_id": { "$in": ids } })
        .projection(doc! { "_id": 1 })
        .read_concern(ReadConcern::majority())
        .await?;
    let live: Vec<RawDocumentBuf> = live.try_collect().await?;
    let live: HashSet<String> = live.iter().filter_map(id_of).collect();
    let written = mark.copies.iter().filter_map(|copy: &Copy| {
        let key = key_of(&copy.id);
        let key = key.filter(|key| live.contains(key) || erased.contains(key))?;
        Some((key, copy))
    });
    let written: HashMap<String, &Copy> = written.collect();
    let copies = there.raw(&mark.into.0, &name);
    let lone = mark.copies.iter().filter(|copy| {
        let key = key_of(&copy.id);
        key.is_some_and(|key| !written.contains_key(&key))
    });
    let lone: Vec<Bson> = lone.map(|copy| copy.id.clone()).collect();
    for some in in_parts(&lone) {
        let found = copies
            .find(doc! { "_id": { "$in": some.to_vec() } })
            .projection(doc! { "_id": 1 });
        let found: Vec<RawDocumentBuf> = found.await?.try_collect().await?;
        taken.alone.extend(found.iter().map(shown));
    }
    let written = Written { sealed, written };
    if written.written.is_empty() {
        return Ok(());
    }
    match there.server.set {
        Some(_) => together(there, &copies, &written, taken).await,
        None => one_by_one(&copies, &written, taken).await,
    }
}

/// Copies beside their originals, by their ids.
struct Written<'a> {
    sealed: &'a Sealed,
    written: HashMap<String, &'a Copy>,
}

fn ids_of(written: &Written<'_>) -> Document {
    let ids: Vec<Bson> = written
        .written
        .values()
        .map(|copy| copy.id.clone())
        .collect();
    doc! { "_id": { "$in": ids } }
}

/// Whether it is still what was written; none where nothing was written by that id.
fn is_same(written: &Written<'_>, document: &RawDocumentBuf) -> Option<bool> {
    let copy = written.written.get(&id_of(document)?)?;
    Some(copy.hash == written.sealed.hash(document))
}

/// The `_id` of a document, for people.
pub(super) fn shown(document: &RawDocumentBuf) -> String {
    let id = value_at(document, "_id");
    id.map(|id| id.to_string()).unwrap_or_default()
}

/// In a transaction: what is written meanwhile is not deleted.
async fn together(
    there: &Session,
    copies: &mongodb::Collection<RawDocumentBuf>,
    written: &Written<'_>,
    taken: &mut Taken,
) -> Result<(), Error> {
    let mut session = there.client().start_session().await?;
    session
        .start_transaction()
        .read_concern(ReadConcern::snapshot())
        .write_concern(majority())
        .await?;
    let mut cursor = copies.find(ids_of(written)).session(&mut session).await?;
    let mut same = Vec::new();
    while let Some(document) = cursor.next(&mut session).await.transpose()? {
        match is_same(written, &document) {
            Some(true) => same.extend(value_at(&document, "_id")),
            Some(false) => taken.strangers.push(shown(&document)),
            None => {}
        }
    }
    let mut back = 0;
    if !same.is_empty() {
        let delete = copies.delete_many(doc! { "_id": { "$in": same } });
        back = delete.session(&mut session).await?.deleted_count;
    }
    session.commit_transaction().await?;
    taken.back += i64::try_from(back).unwrap_or(0);
    Ok(())
}

/// Where there are no transactions: each under the condition that it is what was read.
async fn one_by_one(
    copies: &mongodb::Collection<RawDocumentBuf>,
    written: &Written<'_>,
    taken: &mut Taken,
) -> Result<(), Error> {
    let mut cursor = copies.find(ids_of(written)).await?;
    while let Some(document) = cursor.try_next().await? {
        match is_same(written, &document) {
            None => continue,
            Some(false) => {
                taken.strangers.push(shown(&document));
                continue;
            }
            Some(true) => {}
        }
        let whole = Document::try_from(&document).map_err(Error::custom)?;
        // Not `$eq`: 5.0 takes that for a comparison of a field, and fails to find its name.
        let same = doc! { "$in": ["$$ROOT", [{ "$literal": whole }]] };
        let Some(id) = value_at(&document, "_id") else {
            continue;
        };
        let delete = copies.delete_one(doc! { "_id": id, "$expr": same });
        match delete.write_concern(majority()).await?.deleted_count {
            0 => taken.strangers.push(shown(&document)),
            _ => taken.back += 1,
        }
    }
    Ok(())
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
