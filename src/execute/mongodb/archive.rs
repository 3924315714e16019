//! Work that moves documents elsewhere: copied, read back, compared byte by
//! byte, and only then deleted, in a transaction that looks once more whether
//! they are still the ones that were copied.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use mongodb::bson::Bson;

use super::batch::{Batch, BatchError};
use super::copies::named;
use super::export::Exporter;
use super::gate::{Again, Ends, may_go_on};
use super::mover::Mover;
use super::source::{FAILOVER, Source, passes};
use super::under_way::Watch;
use super::{Event, Job, end};
use crate::engines::EngineError;
use crate::engines::mongodb::{Json, MongoError, namespace};
use crate::history::{StepRecord, StepStatus};
use crate::plan::mongodb::{Destination, Export, Path, Walk};
use crate::plan::{Finding, KeptBy, Memory, Severity};
use crate::values::{several, several_do, wall_clock};

/// Moves documents into another collection.
pub(super) async fn carry_out(
    walk: &Walk,
    into: &Destination,
    job: Job<'_>,
    record: &mut StepRecord,
    findings: &mut Vec<Finding>,
) -> Result<(), EngineError> {
    let ends = Ends::of(job.execution);
    let look = async {
        let mover = Mover::open(walk, into, job).await?;
        let why = mover.misplaced().await?;
        Ok::<_, EngineError>((mover, why))
    };
    let (mover, why) = tokio::select! {
        opened = look => opened?,
        () = ends.passed(job.execution) => {
            ends.cut_off(job.execution, record, "nothing was archived: where documents go did not answer");
            return Ok(());
        }
    };
    if let Some(why) = why {
        misplaced(walk, &why, record, findings);
        return Ok(());
    }
    let mut keeper = Keeper::Collection(Box::new(mover));
    let whole = namespace(&into.database, &into.collection);
    let done = go(walk, &mut keeper, (&whole, ends), job, record, findings).await;
    if let Keeper::Collection(mover) = &mut keeper {
        findings.extend(mover.give_back().await);
    }
    done
}

/// Moves documents into files.
pub(super) async fn into_files(
    walk: &Walk,
    export: &Export,
    job: Job<'_>,
    record: &mut StepRecord,
    findings: &mut Vec<Finding>,
) -> Result<(), EngineError> {
    let here = job.session;
    here.may_remove(&walk.database, &walk.collection).await?;
    let source = Source::of(walk, &export.storage, job);
    let exporter = Exporter::open(source, export).await?;
    let mut keeper = Keeper::Files(Box::new(exporter));
    let to = (export.storage.as_str(), Ends::of(job.execution));
    go(walk, &mut keeper, to, job, record, findings).await
}

/// Nothing goes, or goes on, and everybody is told why.
fn misplaced(walk: &Walk, why: &str, record: &mut StepRecord, findings: &mut Vec<Finding>) {
    end(record, StepStatus::Failed, why);
    findings.push(Finding {
        code: "archive.rule".to_owned(),
        severity: Severity::Critical,
        object: namespace(&walk.database, &walk.collection),
        message: format!(
            "{} archived, and no more: {why}",
            several_do(record.rows.unwrap_or(0), "document", ("was", "were"))
        ),
        suggestion: None,
    });
}

async fn go(
    walk: &Walk,
    keeper: &mut Keeper<'_>,
    (into, ends): (&str, Ends),
    job: Job<'_>,
    record: &mut StepRecord,
    findings: &mut Vec<Finding>,
) -> Result<(), EngineError> {
    record.rows = Some(0);
    let mut after: Option<Bson> = None;
    // Documents left where they are that have the value the walk stands at.
    let mut left: Vec<Bson> = Vec::new();
    let (mut differing, mut rejected, mut refused) = (Vec::new(), Vec::new(), Vec::new());
    let (mut misnamed, mut doubled, mut sources) = (Vec::new(), Vec::new(), String::new());
    let (mut codes, mut unreadable) = (BTreeSet::new(), BTreeMap::new());
    let (mut copies, mut taken) = (Vec::new(), Vec::new());
    let mut again = Again::default();
    loop {
        job.hold(record).await?;
        let so_far = format!(
            "{} had been archived before, and the next run goes on from there",
            several(record.rows.unwrap_or(0), "document")
        );
        if !may_go_on(job, ends, record, &so_far) {
            return Ok(());
        }
        let began = Instant::now();
        let so_far = record.rows.unwrap_or(0);
        let allowed = walk.most.map(|most| (most - so_far).max(0));
        let batch = loop {
            let tried = tokio::select! {
                biased;
                tried = keeper.batch(ends, after.as_ref(), &left, allowed) => tried,
                () = ends.passed(job.execution) => Err(BatchError::CutOff),
            };
            match tried {
                Ok(batch) => break batch,
                Err(BatchError::Driver(error))
                    if passes(&error)
                        && began.elapsed() < FAILOVER
                        && !job.execution.stop.is_now() =>
                {
                    again.tell(&MongoError::of_driver(&error));
                    record.attempts = record.attempts.max(1) + 1;
                    tokio::time::sleep(Duration::from_millis(300)).await;
                }
                Err(BatchError::Asking(error))
                    if error.is_passing()
                        && began.elapsed() < FAILOVER
                        && !job.execution.stop.is_now() =>
                {
                    again.tell(&error);
                    record.attempts = record.attempts.max(1) + 1;
                    tokio::time::sleep(Duration::from_millis(300)).await;
                }
                Err(BatchError::Asking(error)) => {
                    return super::gate::over(error, job.execution, ends, record);
                }
                Err(BatchError::Misplaced(why)) => {
                    misplaced(walk, &why, record, findings);
                    return Ok(());
                }
                Err(BatchError::CutOff) => {
                    let last = keeper.cut_off().await;
                    let rows = so_far + last.unwrap_or(0);
                    record.rows = Some(rows);
                    let known = match last {
                        Some(_) => "",
                        None => ", and what has become of the last batch the next run finds out",
                    };
                    let so_far = format!(
                        "{} had been archived before{known}; the next run goes on from there",
                        several(rows, "document")
                    );
                    ends.cut_off(job.execution, record, &so_far);
                    return Ok(());
                }
                Err(BatchError::Stopped) => {
                    let why = format!(
                        "the run was stopped; {} had been archived before, and the next run goes on from there",
                        several(so_far, "document")
                    );
                    end(record, StepStatus::Cancelled, why);
                    return Ok(());
                }
                Err(BatchError::Engine(error)) => return Err(error),
                Err(BatchError::Driver(error)) => {
                    let on = namespace(&walk.database, &walk.collection);
                    let session = job.session;
                    let error = session.error("archiving a batch", "insert", &on, &error);
                    let rights = walk.rights(session.database());
                    let error = session.denied(error, &rights).await;
                    return super::gate::over(error, job.execution, ends, record);
                }
            }
        };
        record.rows = Some(record.rows.unwrap_or(0) + batch.gone);
        let rows = record.rows.unwrap_or(0);
        if batch.too_many {
            // More has come in than the plan had counted.
            record.kept_by = Some(KeptBy::Limit);
            end(
                record,
                StepStatus::Deferred,
                format!(
                    "{} been archived, more are there than were counted, and `max_rows` or `max_share` allows no more",
                    several_do(rows, "document", ("has", "have"))
                ),
            );
            return Ok(());
        }
        job.execution.observer.on(Event::Progress {
            seq: job.step.seq,
            phase: &format!("{} archived", several(rows, "document")),
            done: rows,
            total: walk.documents.unwrap_or(0),
        });
        differing.extend(batch.differing);
        if !batch.doubled.is_empty() {
            sources = batch.sources;
        }
        doubled.extend(batch.doubled);
        rejected.extend(batch.rejected);
        refused.extend(batch.refused);
        misnamed.extend(batch.misnamed);
        copies.extend(batch.copies);
        taken.extend(batch.taken);
        unreadable.extend(batch.unreadable);
        codes.extend(batch.codes);
        let Some(last) = batch.last else { break };
        if after.as_ref() != Some(&last) {
            left.clear();
        }
        left.extend(batch.left);
        if let (Path::Ids, value) = (&walk.path, Json::of_value(&last).0) {
            let memory = [Memory {
                key: walk.progress.clone(),
                value,
            }];
            let (target, kind) = (&job.execution.target, &job.execution.kind);
            let history = &job.execution.history;
            history.remember(target, kind, wall_clock(), &memory);
        }
        job.execution.history.step(job.execution.run, record);
        after = Some(last);
    }
    record.status = StepStatus::Succeeded;
    let codes: Vec<String> = codes.iter().map(ToString::to_string).collect();
    let codes = match codes.as_slice() {
        [] => String::new(),
        [one] => format!(" (the server's code {one})"),
        several => format!(" (the server's codes {})", several.join(", ")),
    };
    let refuses = format!(
        "did not take them: its validator, or an index that cannot hold their values, refuses them, or the server would fill in empty timestamps under names that cannot be set{codes}"
    );
    let twice = format!(
        "holds equal documents that were there before, and documents of others go there, too ({sources}): one of each would be left, and nobody would know of whom. Give each source a `destination` of its own"
    );
    let unreadable = unreadable.into_values().collect();
    let stay = [
        (differing, "holds other documents with the same _id"),
        (doubled, &twice),
        (
            unreadable,
            "cannot be asked for them, as their `_id` is text that is not valid UTF-8, or holds a list whose places are not numbered 0, 1, 2, …: give them another one",
        ),
        (
            rejected,
            "did not take them: a unique index has their values already",
        ),
        (refused, &refuses),
        (
            taken,
            "took them, and does not have them any more: somebody else has removed the copies from there meanwhile",
        ),
        (
            misnamed,
            "is on a server before MongoDB 5.0, which refuses fields whose names begin with `$` or have a dot: name a newer target or `files` as the `destination`",
        ),
    ];
    findings.extend(keeper.watch().findings(walk, &copies));
    tell_stayed(walk, into, &stay, record, findings);
    Ok(())
}

/// Tells which documents should have left and stay: the step has not done its work.
fn tell_stayed(
    walk: &Walk,
    into: &str,
    stay: &[(Vec<String>, &str)],
    record: &mut StepRecord,
    findings: &mut Vec<Finding>,
) {
    let mut reasons = Vec::new();
    for (stay, why) in stay {
        if stay.is_empty() {
            continue;
        }
        let many = several_do(stay.len(), "document", ("stays", "stay"));
        let why = format!("{many}: {into} {why}");
        findings.push(Finding {
            code: "archive.differs".to_owned(),
            severity: Severity::Warning,
            object: namespace(&walk.database, &walk.collection),
            message: format!("{why}; their `_id`: {}", named(stay)),
            suggestion: None,
        });
        reasons.push(why);
    }
    if !reasons.is_empty() {
        let archived = record.rows.unwrap_or(0);
        let why = reasons.join("; ");
        end(
            record,
            StepStatus::Failed,
            format!(
                "{why}; {} archived",
                several_do(archived, "document", ("was", "were"))
            ),
        );
    }
}

/// Where documents are kept.
enum Keeper<'a> {
    Collection(Box<Mover<'a>>),
    Files(Box<Exporter<'a>>),
}

impl Keeper<'_> {
    fn watch(&self) -> &Watch {
        match self {
            Keeper::Collection(mover) => mover.watch(),
            Keeper::Files(exporter) => exporter.watch(),
        }
    }

    async fn batch(
        &mut self,
        ends: Ends,
        after: Option<&Bson>,
        left: &[Bson],
        allowed: Option<i64>,
    ) -> Result<Batch, BatchError> {
        match self {
            Keeper::Collection(mover) => mover.batch(ends, after, left, allowed).await,
            Keeper::Files(exporter) => exporter.batch(ends, after, left, allowed).await,
        }
    }

    /// Gives back what a batch has begun that was broken off. So many documents had gone all the
    /// same; none where that is not to be had within seconds.
    async fn cut_off(&mut self) -> Option<i64> {
        match self {
            Keeper::Collection(mover) => mover.cut_off().await,
            Keeper::Files(exporter) => exporter.cut_off().await,
        }
    }
}
