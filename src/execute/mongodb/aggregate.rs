//! Aggregations whose result is kept in a collection, which is looked at afterwards.

mod made;

use std::time::Duration;

use mongodb::bson::{Bson, Document, doc};
use serde_json::{Value, json};

use self::made::Made;
use super::additions::Adding;
use super::gate::{Ends, over, pass};
use super::{Job, end};
use crate::engines::EngineError;
use crate::engines::mongodb::{Limit, Members, MongoError, Session, identity_of, number, writes};
use crate::history::{StepRecord, StepStatus};
use crate::plan::mongodb::{Aggregate, Measure, left_by, to_read, to_write};
use crate::plan::{Finding, Memory};
use crate::values::wall_clock;

/// How long it may take to find out whether a pipeline gives anything at all.
const LOOKING: Duration = Duration::from_secs(60);

/// What a secondary says of a read that it cannot give (InvalidOptions), before it has done anything:
/// that nobody has told it yet of the time that it is to have reached.
const NOT_THERE: i32 = 72;
/// From here on a secondary takes `$out`.
const OUT_ELSEWHERE: (u32, u32) = (5, 0);

/// Carries it out, on a secondary where the plan says so and there is one.
pub(super) async fn carry_out(
    work: &Aggregate,
    job: Job<'_>,
    record: &mut StepRecord,
    findings: &mut Vec<Finding>,
) -> Result<(), EngineError> {
    let ends = Ends::of(job.execution);
    let stages: Result<Vec<Document>, String> =
        work.pipeline.iter().map(|stage| stage.document()).collect();
    let stages = stages.map_err(bad)?;
    let command = doc! {
        "aggregate": &work.collection, "pipeline": stages.clone(), "cursor": {},
        "allowDiskUse": work.allow_disk_use, "writeConcern": { "w": "majority", "wtimeout": 60_000 },
    };
    let replaces = stages
        .last()
        .is_some_and(|stage| stage.contains_key("$out"));
    let mut reader = match work.from_secondary {
        true => reader(job.session, replaces).await,
        false => None,
    };
    let before = match &job.step.body.measure {
        Some(result) => held(job.session, result).await,
        None => None,
    };
    let adding = match (work.repeatable, &job.step.body.measure) {
        (true, _) | (_, None) => None,
        (false, Some(into)) => {
            let empty = before
                .as_ref()
                .is_some_and(|before| !before.exists || before.documents == 0);
            match Adding::begin(work, into, empty, job, record, findings).await? {
                Some(adding) => Some(adding),
                None => return Ok(()),
            }
        }
    };
    let mut answered = false;
    let made = loop {
        let reader_of = (reader.as_ref(), &mut answered);
        let made = make(work, &command, reader_of, job, ends, record).await;
        match (&made, &reader) {
            (Err(EngineError::Mongo(error)), Some(_)) if error.code() == Some(NOT_THERE) => {
                tracing::warn!(%error, "the primary reads: the secondary cannot");
                reader = None;
            }
            _ => break made,
        }
    };
    if let (Some(adding), Some(into)) = (adding, &job.step.body.measure) {
        let whole = matches!(made, Ok(true));
        let nothing = match whole || answered {
            true => {
                let after = held(job.session, into).await;
                let both = before.as_ref().zip(after);
                both.is_some_and(|(was, is)| is.is_as(was))
            }
            false => false,
        };
        adding.end(whole, nothing, job, findings).await;
    }
    if !made? {
        return Ok(());
    }
    let session = reader.as_ref().map_or(job.session, |(session, _)| session);
    record.status = StepStatus::Succeeded;
    // What cannot be looked at was made all the same.
    let after = match &job.step.body.measure {
        Some(result) => held(job.session, result).await,
        None => None,
    };
    remember(job, after.as_ref());
    if let (Some(result), Some(before), Some(after)) = (&job.step.body.measure, before, after) {
        let made = Made {
            result,
            before,
            after,
            replaces,
        };
        record.reason = format!("{}; {}", record.reason, made.told());
        record.rows = made.replaces.then_some(made.after.documents);
        let nothing = made.is_untouched() && gives_nothing(session, work, &stages, ends).await;
        findings.extend(made.finding(nothing, work));
    }
    Ok(())
}

/// Keeps what the result was when it was made: somebody may empty it, or put another in its place.
fn remember(job: Job<'_>, result: Option<&Holds>) {
    let Some(memory) = &job.step.remember else {
        return;
    };
    let value = match result {
        Some(held) if held.exists => json!({ "uuid": held.uuid, "documents": held.counted }),
        _ => Value::Null,
    };
    let key = left_by(&memory.key);
    let execution = job.execution;
    let (target, kind) = (&execution.target, &execution.kind);
    let memory = [Memory { key, value }];
    execution
        .history
        .remember(target, kind, wall_clock(), &memory);
}

/// Gives the command, to the reader where there is one; `false`: the step is over, and the record
/// says why. Of what is not given again, the server has `answered` where it is no more at it.
async fn make(
    work: &Aggregate,
    command: &Document,
    (reader, answered): (Option<&(Session, Bson)>, &mut bool),
    job: Job<'_>,
    ends: Ends,
    record: &mut StepRecord,
) -> Result<bool, EngineError> {
    let mut command = command.clone();
    if let Some((_, since)) = reader {
        // A secondary is behind. What the plan has seen as a change must be in the result,
        // or the next run would hold it to be up to date.
        command.insert(
            "readConcern",
            doc! { "level": "majority", "afterClusterTime": since.clone() },
        );
    }
    let session = reader.map_or(job.session, |(session, _)| session);
    let at = ("refreshing it", work.database.as_str());
    if work.repeatable {
        let done = pass(job, session, ends, record, at, &command, &mut 0).await;
        return match done {
            Err(EngineError::Mongo(error)) => Err(denied(work, job, error).await.into()),
            done => Ok(done?.is_some()),
        };
    }
    let Some(limit) = ends.left() else {
        *answered = true;
        end(record, StepStatus::Deferred, "no time was left");
        return Ok(false);
    };
    record.attempts = 1;
    let stop = job.execution.stop.now();
    let done = session.command_until(at.0, at.1, command, limit, stop);
    match done.await {
        Ok(_) => Ok(true),
        Err(error) => {
            // What a secondary has sent to the primary may still be on its way.
            let here = reader.is_none() || matches!(error.code(), Some(13 | NOT_THERE));
            *answered = here && error.code().is_some() && !error.is_passing();
            let error = denied(work, job, error).await;
            over(error, job.execution, ends, record).map(|()| false)
        }
    }
}

/// A refusal with the right that is missing: it may be one on the result.
async fn denied(work: &Aggregate, job: Job<'_>, error: MongoError) -> MongoError {
    let mut rights = to_read(&work.database, &work.collection);
    let last = work.pipeline.last().and_then(|last| last.document().ok());
    if let (Some(into), Some(last)) = (&job.step.body.measure, last) {
        rights.extend(to_write(&last, &into.database, &into.collection));
    }
    job.session.denied(error, &rights).await
}

/// What a result holds.
#[derive(Clone, Debug, PartialEq)]
struct Holds {
    exists: bool,
    /// Which collection it is.
    uuid: String,
    documents: i64,
    /// How many the statistics say that there are.
    counted: i64,
    /// What the server counts of it since it started.
    writes: Option<i64>,
}

impl Holds {
    /// Whether nothing was written to it since, as far as its server tells.
    fn is_as(&self, before: &Holds) -> bool {
        match (self.exists, before.exists) {
            (false, false) => true,
            (true, true) => self.writes.is_some() && self == before,
            _ => false,
        }
    }
}

/// What a collection holds; none where that cannot be told.
async fn held(session: &Session, of: &Measure) -> Option<Holds> {
    let doing = "looking at the result";
    let list = doc! {
        "listCollections": 1, "filter": { "name": &of.collection },
    };
    let found = session
        .all(doing, &of.database, list, Limit::ASIDE)
        .await
        .ok()?;
    let count = doc! { "count": &of.collection };
    let counted = session
        .command(doing, &of.database, count, Limit::ASIDE)
        .await;
    let measure = vec![doc! { "$collStats": { "storageStats": {} } }];
    let stats = session
        .aggregate(doing, &of.database, &of.collection, measure, Limit::ASIDE)
        .await;
    let stats = stats.unwrap_or_default();
    let stats = stats
        .first()
        .and_then(|stats| stats.get_document("storageStats").ok());
    Some(Holds {
        exists: !found.is_empty(),
        uuid: found.first().and_then(identity_of).unwrap_or_default(),
        counted: stats
            .and_then(|stats| number(stats.get("count")))
            .unwrap_or(0),
        documents: number(counted.ok()?.get("n"))?,
        writes: stats.and_then(writes),
    })
}

/// Whether the pipeline gives no document; not if that is not known in time.
async fn gives_nothing(
    session: &Session,
    work: &Aggregate,
    stages: &[Document],
    ends: Ends,
) -> bool {
    let Some(limit) = ends.left() else {
        return false;
    };
    let mut stages: Vec<Document> = match stages.split_last() {
        Some((_, before)) => before.to_vec(),
        None => Vec::new(),
    };
    stages.push(doc! { "$limit": 1 });
    let limit = Limit(limit.0.min(LOOKING));
    let doing = "looking whether the pipeline gives anything";
    let found = session.aggregate(doing, &work.database, &work.collection, stages, limit);
    found.await.is_ok_and(|found| found.is_empty())
}

/// A session on the secondary that is least behind, and what it has to have
/// reached before it reads. None where there is none that answers: the primary
/// reads then, which is slower for others, but right.
async fn reader(primary: &Session, replaces: bool) -> Option<(Session, Bson)> {
    if replaces && primary.server.release < OUT_ELSEWHERE {
        tracing::warn!("the primary reads: before MongoDB 5.0 no secondary takes `$out`");
        return None;
    }
    let members = match Members::of(primary).await {
        Ok(members) => members,
        Err(error) => {
            tracing::warn!(%error, "the primary reads: the secondaries are not known");
            return None;
        }
    };
    let wanted = primary.dial().tag_sets();
    let readers = members.tagged_readers(wanted);
    if readers.is_empty() && !wanted.is_empty() {
        tracing::warn!("the primary reads: no secondary has the tags that the URL asks for");
    }
    for member in readers {
        let session = match primary.member(&member.name).await {
            Ok(session) => session,
            Err(error) => {
                tracing::warn!(%error, "this secondary cannot read");
                continue;
            }
        };
        let since = match primary.tell_time(&session).await {
            Ok(since) => since?,
            Err(error) => {
                tracing::warn!(%error, "this secondary cannot read");
                continue;
            }
        };
        tracing::debug!(member = %member.name, "a secondary reads");
        return Some((session, since));
    }
    None
}

fn bad(message: String) -> EngineError {
    MongoError::Driver {
        doing: "reading the plan".to_owned(),
        message,
    }
    .into()
}
