//! Work that moves documents elsewhere: copied, read back, compared byte by
//! byte, and only then deleted, in a transaction that looks once more whether
//! they are still the ones that were copied.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use chrono::Utc;
use futures_util::TryStreamExt;
use mongodb::Collection;
use mongodb::bson::{Bson, RawDocumentBuf, doc};
use mongodb::error::{Error, ErrorKind, TRANSIENT_TRANSACTION_ERROR};
use mongodb::options::ReadConcern;

use super::export::Exporter;
use super::gate::{Ends, may_go_on};
use super::source::{FAILOVER, Most, Source, id_of, majority, passes, passing, value_at};
use super::{Event, Job, end};
use crate::engines::EngineError;
use crate::engines::mongodb::{Json, MongoError, Session, namespace};
use crate::history::{StepRecord, StepStatus};
use crate::plan::mongodb::{Destination, Export, Path, Walk};
use crate::plan::{Finding, Memory, Severity};

/// Documents of one batch, at most.
const MOST: i64 = 1000;
/// Bytes of one batch; a single document may have as many.
const MOST_BYTES: usize = 16 << 20;

/// Moves documents into another collection.
pub(super) async fn carry_out(
    walk: &Walk,
    into: &Destination,
    job: Job<'_>,
    record: &mut StepRecord,
    findings: &mut Vec<Finding>,
) -> Result<(), EngineError> {
    let elsewhere = match &into.target {
        None => None,
        Some(name) => {
            let target =
                job.execution
                    .elsewhere
                    .get(name)
                    .ok_or_else(|| EngineError::NotVisible {
                        what: format!("there is no target `{name}` to archive to"),
                    })?;
            Some(Session::open(&super::dial(target)?, job.session.name()).await?)
        }
    };
    let there = elsewhere.as_ref().unwrap_or(job.session);
    let mover = Mover {
        source: source(walk, &into.collection, job),
        copy: there.raw(&into.database, &into.collection),
        there,
        into,
    };
    if let Some(why) = mover.misplaced().await? {
        misplaced(walk, &why, record, findings);
        return Ok(());
    }
    let keeper = Keeper::Collection(Box::new(mover));
    let whole = namespace(&into.database, &into.collection);
    go(walk, keeper, &whole, job, record, findings).await
}

/// Moves documents into files.
pub(super) async fn into_files(
    walk: &Walk,
    export: &Export,
    job: Job<'_>,
    record: &mut StepRecord,
    findings: &mut Vec<Finding>,
) -> Result<(), EngineError> {
    let source = source(walk, &export.storage, job);
    let exporter = Exporter::open(source, export).await?;
    let keeper = Keeper::Files(Box::new(exporter));
    go(walk, keeper, &export.storage, job, record, findings).await
}

/// Nothing goes, or goes on, and everybody is told why.
fn misplaced(walk: &Walk, why: &str, record: &mut StepRecord, findings: &mut Vec<Finding>) {
    end(record, StepStatus::Failed, why);
    findings.push(Finding {
        code: "archive.rule".to_owned(),
        severity: Severity::Critical,
        object: namespace(&walk.database, &walk.collection),
        message: format!(
            "{} documents were archived, and no more: {why}",
            record.rows.unwrap_or(0)
        ),
        suggestion: None,
    });
}

fn source<'a>(walk: &'a Walk, to: &'a str, job: Job<'a>) -> Source<'a> {
    Source {
        job,
        walk,
        client: job.session.client(),
        collection: job.session.raw(&walk.database, &walk.collection),
        to,
    }
}

async fn go(
    walk: &Walk,
    mut keeper: Keeper<'_>,
    into: &str,
    job: Job<'_>,
    record: &mut StepRecord,
    findings: &mut Vec<Finding>,
) -> Result<(), EngineError> {
    record.rows = Some(0);
    let ends = Ends::of(job.execution);
    let mut after: Option<Bson> = None;
    // Documents left where they are that have the value the walk stands at.
    let mut left: Vec<Bson> = Vec::new();
    let (mut differing, mut rejected, mut refused) = (Vec::new(), Vec::new(), Vec::new());
    loop {
        job.hold(record).await?;
        let so_far = format!(
            "{} documents had been archived before, and the next run goes on from there",
            record.rows.unwrap_or(0)
        );
        if !may_go_on(job, ends, record, &so_far) {
            return Ok(());
        }
        let began = Instant::now();
        let so_far = record.rows.unwrap_or(0);
        let allowed = walk.most.map(|most| (most - so_far).max(0));
        let batch = loop {
            let tried = keeper.batch(ends, after.as_ref(), &left, allowed).await;
            match tried {
                Ok(batch) => break batch,
                Err(BatchError::Driver(error))
                    if passes(&error)
                        && began.elapsed() < FAILOVER
                        && !job.execution.stop.is_now() =>
                {
                    tracing::warn!(error = passing(&error), "trying again");
                    record.attempts = record.attempts.max(1) + 1;
                    tokio::time::sleep(Duration::from_millis(300)).await;
                }
                Err(BatchError::Asking(error))
                    if error.is_passing()
                        && began.elapsed() < FAILOVER
                        && !job.execution.stop.is_now() =>
                {
                    tracing::warn!(%error, "trying again");
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
                Err(BatchError::Stopped) => {
                    let why = format!(
                        "the run was stopped; {so_far} documents had been archived before, and the next run goes on from there"
                    );
                    end(record, StepStatus::Cancelled, why);
                    return Ok(());
                }
                Err(BatchError::Engine(error)) => return Err(error),
                Err(BatchError::Driver(error)) => {
                    let on = namespace(&walk.database, &walk.collection);
                    let error = job
                        .session
                        .error("archiving a batch", "insert", &on, &error);
                    return super::gate::over(error, job.execution, ends, record);
                }
            }
        };
        if batch.too_many {
            // More has come in than the plan had counted.
            end(
                record,
                StepStatus::Deferred,
                format!(
                    "{so_far} documents have been archived, more are there than were counted, and `max_rows` or `max_share` allows no more"
                ),
            );
            return Ok(());
        }
        record.rows = Some(record.rows.unwrap_or(0) + batch.gone);
        let rows = record.rows.unwrap_or(0);
        job.execution.observer.on(Event::Progress {
            seq: job.step.seq,
            phase: &format!("{rows} documents archived"),
            done: rows,
            total: walk.documents.unwrap_or(0),
        });
        differing.extend(batch.differing);
        rejected.extend(batch.rejected);
        refused.extend(batch.refused);
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
            history.remember(target, kind, Utc::now(), &memory);
        }
        job.execution.history.step(job.execution.run, record);
        after = Some(last);
    }
    record.status = StepStatus::Succeeded;
    let stay = [
        (differing, "holds other documents with the same _id"),
        (
            rejected,
            "did not take them: a unique index has their values already",
        ),
        (
            refused,
            "did not take them: its validator, or an index that cannot hold their values, refuses them",
        ),
    ];
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
        let Some(first) = stay.first() else { continue };
        let why = format!("{} documents stay: {into} {why}", stay.len());
        findings.push(Finding {
            code: "archive.differs".to_owned(),
            severity: Severity::Warning,
            object: namespace(&walk.database, &walk.collection),
            message: format!("{why}; the `_id` of the first is {first}"),
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
            format!("{why}; {archived} documents were archived"),
        );
    }
}

/// Where documents are kept.
enum Keeper<'a> {
    Collection(Box<Mover<'a>>),
    Files(Box<Exporter<'a>>),
}

impl Keeper<'_> {
    async fn batch(
        &mut self,
        ends: Ends,
        after: Option<&Bson>,
        left: &[Bson],
        allowed: Option<i64>,
    ) -> Result<Batch, BatchError> {
        match self {
            Keeper::Collection(mover) => {
                let most = allowed.unwrap_or(MOST).clamp(0, MOST);
                mover.batch(ends, after, left, most).await
            }
            Keeper::Files(exporter) => exporter.batch(ends, after, left, allowed).await,
        }
    }
}

/// Why nothing came of a batch.
pub(super) enum BatchError {
    /// What the driver says; the same may succeed in a moment.
    Driver(Error),
    /// A question that was not answered; it may be in a moment.
    Asking(MongoError),
    /// Documents do not stay, or are already, where they are to go.
    Misplaced(String),
    /// Something else.
    Engine(EngineError),
    /// The run was stopped.
    Stopped,
}

impl From<Error> for BatchError {
    fn from(error: Error) -> Self {
        BatchError::Driver(error)
    }
}

impl From<MongoError> for BatchError {
    fn from(error: MongoError) -> Self {
        BatchError::Asking(error)
    }
}

impl From<EngineError> for BatchError {
    fn from(error: EngineError) -> Self {
        BatchError::Engine(error)
    }
}

/// What a server says of one document of many that its collection does not take:
/// DocumentValidationFailure, an entry that is too long for an index, one that a geometric index
/// cannot read, a document that is too large.
const REFUSED: [i32; 4] = [121, 17280, 16755, 10334];

struct Mover<'a> {
    source: Source<'a>,
    copy: Collection<RawDocumentBuf>,
    there: &'a Session,
    into: &'a Destination,
}

/// What came of a batch.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) gone: i64,
    /// There are documents left, and none of them may go.
    pub(super) too_many: bool,
    /// The place that it came to; none at the end.
    pub(super) last: Option<Bson>,
    /// Ids at that place that were left where they are.
    pub(super) left: Vec<Bson>,
    /// Ids of which the destination holds another document.
    pub(super) differing: Vec<String>,
    /// Those that the destination did not take.
    pub(super) rejected: Vec<String>,
    /// Documents that the collection there does not take as they are.
    pub(super) refused: Vec<String>,
}

impl Mover<'_> {
    /// Why documents may not go there, if so. Names say nothing: one server can be reached by
    /// many, and a collection that holds its own documents would pass for their copy.
    async fn misplaced(&self) -> Result<Option<String>, MongoError> {
        let (walk, into) = (self.source.walk, self.into);
        let Some(held) = self.there.held(&into.database, &into.collection).await? else {
            return Ok(None);
        };
        let whole = namespace(&into.database, &into.collection);
        if let Some(why) = held.unfit {
            return Ok(Some(format!("{whole} cannot keep them: {why}")));
        }
        let here = self.source.job.session;
        let own = here.identity(&walk.database, &walk.collection).await?;
        Ok((own.is_some() && own == held.uuid).then(|| {
            format!(
                "{whole}{} is where the documents are already: it is the same collection by another name; name another as the `destination`",
                into.target
                    .as_ref()
                    .map(|target| format!(" of target {target}"))
                    .unwrap_or_default()
            )
        }))
    }

    async fn batch(
        &self,
        ends: Ends,
        after: Option<&Bson>,
        left: &[Bson],
        allowed: i64,
    ) -> Result<Batch, BatchError> {
        let most = Most {
            documents: allowed.max(1),
            bytes: MOST_BYTES,
        };
        let (documents, more) = self.source.read(ends, after, left, most).await?;
        if documents.is_empty() {
            return Ok(Batch::default());
        }
        if allowed == 0 {
            return Ok(Batch {
                too_many: true,
                ..Batch::default()
            });
        }
        let place = |document: &RawDocumentBuf| self.source.place(document);
        let last = documents.last().and_then(place).filter(|_| more);
        let (mine, refused) = self.insert(&documents).await?;
        let ids: Vec<Bson> = documents
            .iter()
            .filter_map(|d| value_at(d, "_id"))
            .collect();
        // Read back as a majority has it: what is not there word for word does not go here.
        let found = self
            .copy
            .find(doc! { "_id": { "$in": ids } })
            .read_concern(ReadConcern::majority())
            .comment(self.source.comment())
            .await?;
        let found: Vec<RawDocumentBuf> = found.try_collect().await?;
        let copies: HashMap<String, RawDocumentBuf> = found
            .into_iter()
            .filter_map(|d| Some((id_of(&d)?, d)))
            .collect();
        let mut proved = HashMap::new();
        let mut batch = Batch {
            last,
            ..Batch::default()
        };
        for document in &documents {
            let Some(id) = id_of(document) else { continue };
            match copies.get(&id) {
                Some(copy) if copy.as_bytes() == document.as_bytes() => {
                    proved.insert(id, document);
                }
                copy => {
                    let is_refused = refused.contains(&id);
                    let shown = value_at(document, "_id").map_or(id, |id| id.to_string());
                    match copy {
                        Some(_) => batch.differing.push(shown),
                        None if is_refused => batch.refused.push(shown),
                        None => batch.rejected.push(shown),
                    }
                    if place(document) == batch.last {
                        batch.left.extend(value_at(document, "_id"));
                    }
                }
            }
        }
        // Collections may have been renamed since the run began.
        if let Some(why) = self.misplaced().await? {
            return Err(BatchError::Misplaced(why));
        }
        let changed = self.delete(&proved, &mut batch).await?;
        for id in changed {
            let Some(document) = proved.get(&id) else {
                continue;
            };
            if place(document) == batch.last {
                batch.left.extend(value_at(document, "_id"));
            }
            // It was changed after it was copied: the copy is of no use.
            if mine.contains(&id)
                && let Some(id) = value_at(document, "_id")
            {
                self.copy
                    .delete_one(doc! { "_id": id })
                    .write_concern(majority())
                    .await?;
            }
        }
        Ok(batch)
    }

    /// Copies what is not there yet, and tells the ids of what it copied, and of what is not taken
    /// there.
    async fn insert(
        &self,
        documents: &[RawDocumentBuf],
    ) -> Result<(HashSet<String>, HashSet<String>), Error> {
        let all = documents.iter().filter_map(id_of).collect::<Vec<_>>();
        let inserted = self
            .copy
            .insert_many(documents)
            .ordered(false)
            .write_concern(majority())
            .comment(self.source.comment())
            .await;
        let Err(error) = inserted else {
            return Ok((all.into_iter().collect(), HashSet::new()));
        };
        let ErrorKind::InsertMany(report) = error.kind.as_ref() else {
            return Err(error);
        };
        let errors = report.write_errors.as_deref().unwrap_or_default();
        // Somebody was here before: an interrupted batch, or somebody else's document.
        if report.write_concern_error.is_some()
            || errors.is_empty()
            || errors
                .iter()
                .any(|e| e.code != 11000 && !REFUSED.contains(&e.code))
        {
            return Err(error);
        }
        let not_copied: HashSet<usize> = errors.iter().map(|e| e.index).collect();
        let refused = errors.iter().filter(|e| e.code != 11000);
        let refused = refused.filter_map(|e| documents.get(e.index).and_then(id_of));
        let refused = refused.collect();
        let copied = documents.iter().enumerate();
        let copied = copied.filter(|(n, _)| !not_copied.contains(n));
        let copied = copied.filter_map(|(_, document)| id_of(document)).collect();
        Ok((copied, refused))
    }

    /// Deletes what is still as it was copied, and tells what is not.
    async fn delete(
        &self,
        proved: &HashMap<String, &RawDocumentBuf>,
        batch: &mut Batch,
    ) -> Result<Vec<String>, Error> {
        if proved.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<Bson> = proved.values().filter_map(|d| value_at(d, "_id")).collect();
        let began = Instant::now();
        let changed = loop {
            match self.transaction(&ids, proved).await {
                Ok(changed) => break changed,
                Err(error)
                    if (passes(&error) || error.contains_label(TRANSIENT_TRANSACTION_ERROR))
                        && began.elapsed() < FAILOVER
                        && !self.source.job.execution.stop.is_now() =>
                {
                    tracing::warn!(error = passing(&error), "trying again");
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                Err(error) => return Err(error),
            }
        };
        batch.gone = i64::try_from(proved.len() - changed.len()).unwrap_or(0);
        Ok(changed)
    }

    async fn transaction(
        &self,
        ids: &[Bson],
        proved: &HashMap<String, &RawDocumentBuf>,
    ) -> Result<Vec<String>, Error> {
        let mut session = self.source.client.start_session().await?;
        session
            .start_transaction()
            .read_concern(ReadConcern::snapshot())
            .write_concern(majority())
            .await?;
        let mut cursor = self
            .source
            .collection
            .find(doc! { "_id": { "$in": ids.to_vec() } })
            .session(&mut session)
            .await?;
        let (mut same, mut changed) = (Vec::new(), Vec::new());
        while let Some(document) = cursor.next(&mut session).await.transpose()? {
            let Some(id) = id_of(&document) else { continue };
            match proved.get(&id) {
                Some(copied) if copied.as_bytes() == document.as_bytes() => {
                    same.extend(value_at(&document, "_id"))
                }
                _ => changed.push(id),
            }
        }
        if !same.is_empty() {
            self.source
                .collection
                .delete_many(doc! { "_id": { "$in": same } })
                .session(&mut session)
                .await?;
        }
        session.commit_transaction().await?;
        Ok(changed)
    }
}
