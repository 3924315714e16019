//! Work that is a walk: cut out a batch, delete it, remember the place, and
//! let the time the batch took decide the size of the next.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use mongodb::bson::{Bson, DateTime, Document, doc};
use serde_json::Value;

use super::gate::{Again, Ends, may_go_on, over, pass};
use super::vanished::Begun;
use super::{Event, Job, end};
use crate::engines::EngineError;
use crate::engines::mongodb::{
    DAMAGED, Json, Limit, MongoError, at_moment, counted, counting, key,
};
use crate::execute::goal::towards;
use crate::history::{StepRecord, StepStatus};
use crate::plan::mongodb::{Orphans, Path, Walk, single};
use crate::plan::{KeptBy, Memory};
use crate::values::{several, several_do, wall_clock};

/// Documents of the first batch.
const FIRST: i64 = 500;
/// What a batch costs beside its documents, such as a majority's answer, does
/// not become less with fewer of them.
const LEAST: i64 = 100;
/// However quick a server is, its members have to follow.
const MOST: i64 = 50_000;
/// How long a majority may take to confirm a batch, in milliseconds.
const CONFIRMED: i64 = 60_000;
/// How long counting what is left of a batch may take, beyond the time of the step.
const PART: Limit = Limit(Duration::from_secs(3));
/// What is being done while a batch's end is looked for.
const ENDS: &str = "looking where the next batch ends";

/// Carries the walk out; `record.rows` counts what has gone, confirmed by a majority.
pub(super) async fn carry_out(
    walk: &Walk,
    begun: &Begun<'_>,
    job: Job<'_>,
    record: &mut StepRecord,
) -> Result<(), EngineError> {
    record.rows = Some(0);
    let mut going = Going {
        walk,
        begun,
        job,
        ends: Ends::of(job.execution),
        size: FIRST,
        ahead: None,
    };
    let start = walk.start.as_ref().and_then(|place| place.value().ok());
    let done = going.on(record, start.clone(), None).await?
        // What an interrupted walk had dealt with, and what came in behind its back.
        && (start.is_none() || going.on(record, None, start).await?);
    if done {
        going.remember(Value::Null);
        record.status = StepStatus::Succeeded;
    }
    Ok(())
}

struct Going<'a> {
    walk: &'a Walk,
    begun: &'a Begun<'a>,
    job: Job<'a>,
    ends: Ends,
    size: i64,
    ahead: Option<Ahead>,
}

/// Where the batch after the one that goes ends, looked for while that one goes.
struct Ahead {
    after: Bson,
    until: Option<Bson>,
    /// So many documents are in it.
    size: i64,
    last: Bson,
}

impl Going<'_> {
    /// Goes from behind `after` up to, and with, `end`; `false`: the step is
    /// over, and the record says why.
    async fn on(
        &mut self,
        record: &mut StepRecord,
        mut after: Option<Bson>,
        until: Option<Bson>,
    ) -> Result<bool, EngineError> {
        loop {
            self.job.hold(record).await?;
            let so_far = format!(
                "{} had gone before, and the next run goes on from there",
                several(record.rows.unwrap_or(0), "document")
            );
            if !may_go_on(self.job, self.ends, record, &so_far) {
                return Ok(false);
            }
            let began = Instant::now();
            let batch = match &self.walk.path {
                Path::Range { field, index } => {
                    self.range(record, (field, index), after.as_ref(), until.as_ref())
                        .await?
                }
                Path::Ids => self.ids(record, after.as_ref(), until.as_ref()).await?,
            };
            let Some(batch) = batch else {
                return Ok(false);
            };
            record.rows = Some(record.rows.unwrap_or(0).saturating_add(batch.gone));
            let execution = self.job.execution;
            let rows = record.rows.unwrap_or(0);
            execution.observer.on(Event::Progress {
                seq: self.job.step.seq,
                phase: &format!("{} gone", several(rows, "document")),
                done: rows,
                total: self.walk.documents.unwrap_or(0),
            });
            let Some(last) = batch.last else {
                return Ok(true);
            };
            self.remember(Json::of_value(&last).0);
            // A process that is killed here leaves what was counted so far.
            execution.history.step(execution.run, record);
            self.adapt(began.elapsed(), batch.lost);
            after = Some(last);
        }
    }

    async fn range(
        &mut self,
        record: &mut StepRecord,
        (field, index): (&str, &str),
        after: Option<&Bson>,
        until: Option<&Bson>,
    ) -> Result<Option<Batch>, EngineError> {
        let walk = self.walk;
        let rest = walk.within(after, until).map_err(bad)?;
        let allowed = self.allowed(record);
        let size = self.size.min(allowed.unwrap_or(i64::MAX)).max(1);
        let known = self.ahead.take().filter(|ahead| {
            let fits = allowed.is_none() && size / 2 <= ahead.size && ahead.size <= size / 4 * 5;
            fits && Some(&ahead.after) == after && ahead.until.as_ref() == until
        });
        let (size, last) = match known {
            Some(ahead) => (ahead.size, Some(ahead.last)),
            None => {
                let find = end_of(walk, rest.clone(), (field, index), size);
                let Some(found) = self.ask(record, ENDS, &walk.database, &find).await? else {
                    return Ok(None);
                };
                (size, found.first().and_then(|document| at(document, field)))
            }
        };
        let filter = match &last {
            Some(last) => walk.within(after, Some(last)).map_err(bad)?,
            None => rest,
        };
        let expected = match last {
            Some(_) if allowed.is_none() => size,
            _ => {
                // The last batch is as large as it is, in case its answer is lost; and
                // where no more may go than allowed, many may have the value it ends at.
                let most = allowed.map(|allowed| allowed.saturating_add(1));
                let along = Some(Bson::from(index));
                let count = counting(&walk.collection, filter.clone(), along, most);
                match self
                    .give(record, "counting the batch", &count, &mut 0)
                    .await?
                {
                    Some(answer) => counted(&answer),
                    None => return Ok(None),
                }
            }
        };
        if expected == 0 {
            return Ok(Some(Batch {
                gone: 0,
                last: None,
                lost: 0,
            }));
        }
        if allowed.is_some_and(|allowed| expected > allowed) {
            return Ok(self.no_more(record));
        }
        let Some(from) = last.clone().filter(|_| allowed.is_none()) else {
            return self
                .delete(record, filter, Some(index), expected, last)
                .await;
        };
        let next = walk.within(Some(&from), until).map_err(bad)?;
        let find = end_of(walk, next, (field, index), size);
        let (batch, found) = tokio::join!(
            self.delete(record, filter, Some(index), expected, last),
            self.look_ahead(find),
        );
        self.ahead = found.and_then(|found| {
            Some(Ahead {
                after: from,
                until: until.cloned(),
                size,
                last: at(&found, field)?,
            })
        });
        batch
    }

    /// Nothing depends on it: what fails here is asked again when it is its turn.
    async fn look_ahead(&self, find: Document) -> Option<Document> {
        let limit = self.ends.left()?;
        let database = self.walk.database.as_str();
        let found = self.job.session.all(ENDS, database, find, limit).await;
        found.ok()?.into_iter().next()
    }

    async fn ids(
        &self,
        record: &mut StepRecord,
        after: Option<&Bson>,
        until: Option<&Bson>,
    ) -> Result<Option<Batch>, EngineError> {
        let walk = self.walk;
        let size = self.size.max(1);
        let condition = walk.filter.document().map_err(bad)?;
        let mut projection = doc! { "_id": 1 };
        if let Some(orphans) = &walk.orphans {
            projection.insert(orphans.field.as_str(), 1);
        }
        let mut find = doc! {
            "find": &walk.collection, "filter": condition.clone(), "sort": { "_id": 1 }, "hint": { "_id": 1 },
            "limit": size + 1, "batchSize": size + 1, "projection": projection,
        };
        // Unlike a comparison, these go through all types of ids in their order.
        if let Some(after) = after {
            find.insert("min", doc! { "_id": after.clone() });
        }
        let doing = "looking for the next batch";
        let Some(mut page) = self.ask(record, doing, &walk.database, &find).await? else {
            return Ok(None);
        };
        // The lower bound is part of what it bounds.
        if let (Some(first), Some(after)) = (page.first().and_then(|d| d.get("_id")), after)
            && same(first, after)
        {
            page.remove(0);
        }
        // A page may be short for other reasons than that nothing comes after it.
        let mut more = !page.is_empty();
        if let Some(until) = until
            && let Some(place) = page
                .iter()
                .position(|d| d.get("_id").is_some_and(|id| same(id, until)))
        {
            page.truncate(place + 1);
            more = false;
        }
        let mut last = page
            .last()
            .and_then(|d| d.get("_id"))
            .cloned()
            .filter(|_| more);
        let (ids, values) = match &walk.orphans {
            None => (
                page.iter().filter_map(|d| d.get("_id").cloned()).collect(),
                None,
            ),
            Some(orphans) => match self.orphaned(record, orphans, &page).await? {
                Some((ids, values)) => (ids, Some((orphans.field.as_str(), values))),
                None => return Ok(None),
            },
        };
        let mut ids: Vec<Bson> = ids;
        if let Some(allowed) = self.allowed(record)
            && ids.len() as i64 > allowed
        {
            ids.truncate(usize::try_from(allowed).unwrap_or(0));
            last = ids.last().cloned();
            if ids.is_empty() {
                return Ok(self.no_more(record));
            }
        }
        if ids.is_empty() {
            return Ok(Some(Batch {
                gone: 0,
                last,
                lost: 0,
            }));
        }
        let expected = ids.len() as i64;
        let mut parts = vec![condition, doc! { "_id": { "$in": ids } }];
        if let Some((field, values)) = values {
            // A document that was given another parent meanwhile stays.
            parts.push(doc! { field: { "$in": values } });
        }
        self.delete(record, doc! { "$and": parts }, None, expected, last)
            .await
    }

    /// Those of a page whose parent is gone: their ids, and what they point at.
    async fn orphaned(
        &self,
        record: &mut StepRecord,
        orphans: &Orphans,
        page: &[Document],
    ) -> Result<Option<(Vec<Bson>, Vec<Bson>)>, EngineError> {
        let pointing: Vec<(&Bson, Bson)> = page
            .iter()
            .filter_map(|d| Some((d.get("_id")?, at(d, &orphans.field)?)))
            .filter(|(_, value)| !matches!(value, Bson::Null | Bson::Undefined | Bson::Array(_)))
            .collect();
        let mut wanted: Vec<Bson> = Vec::new();
        let mut seen = HashSet::new();
        for (_, value) in &pointing {
            if seen.insert(key(value)) {
                wanted.push(value.clone());
            }
        }
        let field = orphans.parent_field.as_str();
        let mut found = HashSet::new();
        for wanted in wanted.chunks(1000) {
            let find = doc! {
                "find": &orphans.parent, "filter": { field: { "$in": wanted.to_vec() } },
                "projection": { "_id": 0, field: 1 },
            };
            let doing = "looking for parents";
            let Some(parents) = self
                .ask(record, doing, &orphans.parent_database, &find)
                .await?
            else {
                return Ok(None);
            };
            for parent in parents {
                match at(&parent, field) {
                    Some(Bson::Array(values)) => found.extend(values.iter().map(key)),
                    Some(value) => {
                        found.insert(key(&value));
                    }
                    None => {}
                }
            }
        }
        wanted.retain(|value| !found.contains(&key(value)));
        let Some(gone) = self.without_parent(record, orphans, wanted).await? else {
            return Ok(None);
        };
        let gone: HashSet<String> = gone.iter().map(key).collect();
        let mut values = Vec::new();
        let mut ids = Vec::new();
        for (id, value) in pointing {
            if gone.contains(&key(&value)) {
                ids.push(id.clone());
                values.push(value);
            }
        }
        Ok(Some((ids, values)))
    }

    /// Those of which the server itself finds no parent. What is equal is for the
    /// server to say: 5 as a decimal, 0 and -0, numbers within a document. Mostly
    /// that is one question that nothing answers; else it is asked by halves.
    async fn without_parent(
        &self,
        record: &mut StepRecord,
        orphans: &Orphans,
        values: Vec<Bson>,
    ) -> Result<Option<Vec<Bson>>, EngineError> {
        let field = orphans.parent_field.as_str();
        let mut gone = Vec::new();
        let mut open = vec![values];
        while let Some(values) = open.pop() {
            if values.is_empty() {
                continue;
            }
            let find = doc! {
                "find": &orphans.parent, "filter": { field: { "$in": values.clone() } },
                "limit": 1, "singleBatch": true, "projection": { "_id": 1 },
            };
            let doing = "making sure that there is no parent";
            let Some(parents) = self
                .ask(record, doing, &orphans.parent_database, &find)
                .await?
            else {
                return Ok(None);
            };
            if parents.is_empty() {
                gone.extend(values);
            } else if values.len() > 1 {
                let (one, other) = values.split_at(values.len() / 2);
                open.push(one.to_vec());
                open.push(other.to_vec());
            }
        }
        Ok(Some(gone))
    }

    async fn delete(
        &self,
        record: &mut StepRecord,
        filter: Document,
        index: Option<&str>,
        expected: i64,
        last: Option<Bson>,
    ) -> Result<Option<Batch>, EngineError> {
        let walk = self.walk;
        let mut filter = filter;
        if let Path::Range { field, .. } = &walk.path {
            // The index was in order when the plan was made; an array may have come in since.
            let mut parts = vec![filter];
            parts.extend(single(field));
            filter = doc! { "$and": parts };
        }
        let server = &self.job.session.server;
        if server.release < (6, 0) {
            let now = server.clock(wall_clock()).timestamp_millis();
            filter = at_moment(filter, DateTime::from_millis(now));
        }
        let mut delete = doc! { "q": filter, "limit": 0 };
        if let Some(index) = index {
            delete.insert("hint", index);
        }
        let command = doc! {
            "delete": &walk.collection, "deletes": [delete],
            "writeConcern": { "w": "majority", "wtimeout": CONFIRMED },
        };
        let mut lost = 0;
        let given = self
            .give(record, "deleting a batch", &command, &mut lost)
            .await;
        let answer = match given {
            Ok(Some(answer)) => answer,
            // Ended in the middle, it has deleted what it had come to.
            broken => {
                // Many may have the value that a range ends at, and were not counted.
                let is_exact = index.is_none() || last.is_none() || walk.most.is_some();
                let failure = broken.as_ref().err();
                self.count_part(record, &command, (expected, is_exact), failure)
                    .await;
                return broken.map(|_| None);
            }
        };
        let deleted = counted(&answer);
        // What an attempt deleted whose answer was lost, the next one did not find any more.
        let gone = if lost > 0 {
            deleted.max(expected)
        } else {
            deleted
        };
        Ok(Some(Batch { gone, last, lost }))
    }

    /// Adds to the record what a batch has deleted that did not come to its end: what is there
    /// no more of what was to go. The server does not say how far it came.
    async fn count_part(
        &self,
        record: &mut StepRecord,
        command: &Document,
        (expected, is_exact): (i64, bool),
        failure: Option<&EngineError>,
    ) {
        let execution = self.job.execution;
        // A collection that was dropped has lost its documents to somebody else.
        let ended = matches!(record.status, StepStatus::Deferred | StepStatus::Cancelled);
        if !ended && failure.is_none_or(EngineError::is_unreachable) {
            return;
        }
        // What an index counts that is damaged is nothing to go by.
        let is_damaged = |error: &EngineError| matches!(error, EngineError::Mongo(error) if error.code() == Some(DAMAGED));
        if failure.is_some_and(is_damaged) || self.begun.became(self.job).await.is_some() {
            return;
        }
        // Who wants to end at once does not wait for a number.
        let left = match (
            counting_rest(&self.walk.collection, command),
            execution.stop.is_now(),
        ) {
            (Some(count), false) => {
                let doing = "counting what is left of a batch that was cut off";
                let database = self.walk.database.as_str();
                let asked = self.job.session.command(doing, database, count, PART);
                asked.await.ok().map(|answer| counted(&answer))
            }
            _ => None,
        };
        let gone = left.map_or(0, |left| expected.saturating_sub(left).max(0));
        let rows = record.rows.unwrap_or(0).saturating_add(gone);
        record.rows = Some(rows);
        if failure.is_some() && gone == 0 {
            return;
        }
        let least = match left {
            Some(_) if is_exact => "",
            _ => "at least ",
        };
        let why = format!(
            "{least}{} gone, and the next run goes on from there",
            several_do(rows, "document", ("has", "have"))
        );
        record.error = Some(match record.error.take() {
            Some(error) => format!("{error}; {why}"),
            None => why,
        });
    }

    async fn give(
        &self,
        record: &mut StepRecord,
        doing: &str,
        command: &Document,
        lost: &mut u32,
    ) -> Result<Option<Document>, EngineError> {
        let at = (doing, self.walk.database.as_str());
        pass(
            self.job,
            self.job.session,
            self.ends,
            record,
            at,
            command,
            lost,
        )
        .await
    }

    /// A question with a cursor, asked again where its answer was lost.
    async fn ask(
        &self,
        record: &mut StepRecord,
        doing: &str,
        database: &str,
        command: &Document,
    ) -> Result<Option<Vec<Document>>, EngineError> {
        let began = Instant::now();
        let mut again = Again::default();
        loop {
            let Some(limit) = self.ends.left() else {
                may_go_on(
                    self.job,
                    self.ends,
                    record,
                    "nothing of this batch has gone",
                );
                return Ok(None);
            };
            match self
                .job
                .session
                .all(doing, database, command.clone(), limit)
                .await
            {
                Ok(found) => return Ok(Some(found)),
                Err(error)
                    if error.is_passing()
                        && began.elapsed() < Duration::from_secs(60)
                        && !self.job.execution.stop.is_now() =>
                {
                    again.tell(&error);
                    record.attempts = record.attempts.max(1) + 1;
                    tokio::time::sleep(Duration::from_millis(300)).await;
                }
                Err(error) => {
                    return over(error, self.job.execution, self.ends, record).map(|()| None);
                }
            }
        }
    }

    fn remember(&self, value: Value) {
        let execution = self.job.execution;
        let memory = [Memory {
            key: self.walk.progress.clone(),
            value,
        }];
        let (target, kind) = (&execution.target, &execution.kind);
        let history = &execution.history;
        history.remember(target, kind, wall_clock(), &memory);
    }

    /// How many more may go, where that is limited.
    fn allowed(&self, record: &StepRecord) -> Option<i64> {
        let most = self.walk.most?;
        Some((most - record.rows.unwrap_or(0)).max(0))
    }

    /// More has come in than the plan had counted.
    fn no_more(&self, record: &mut StepRecord) -> Option<Batch> {
        let rows = record.rows.unwrap_or(0);
        record.kept_by = Some(KeptBy::Limit);
        end(
            record,
            StepStatus::Deferred,
            format!(
                "{} gone, more are there than were counted, and `max_rows` or `max_share` allows no more",
                several_do(rows, "document", ("has", "have"))
            ),
        );
        None
    }

    fn adapt(&mut self, took: Duration, lost: u32) {
        self.size = next_size(
            self.size,
            Duration::from_millis(self.walk.goal_ms.max(1)),
            took,
            lost,
        );
    }
}

/// Counts what a command that deletes would still delete.
fn counting_rest(collection: &str, command: &Document) -> Option<Document> {
    let delete = command.get_array("deletes").ok()?.first()?.as_document()?;
    let filter = delete.get_document("q").ok()?.clone();
    let along = delete.get("hint").cloned();
    Some(counting(collection, filter, along, None))
}

/// What came of a batch.
struct Batch {
    gone: i64,
    /// The place behind it; none at the end.
    last: Option<Bson>,
    /// Attempts whose answer was lost.
    lost: u32,
}

/// The size of the next batch; half of it after an answer that was lost.
fn next_size(size: i64, goal: Duration, took: Duration, lost: u32) -> i64 {
    match lost {
        0 => towards(goal, size, took).clamp(LEAST, MOST),
        _ => (size / 2).max(LEAST),
    }
}

/// Asks for the last of the next `size` documents.
fn end_of(walk: &Walk, filter: Document, (field, index): (&str, &str), size: i64) -> Document {
    doc! {
        "find": &walk.collection, "filter": filter, "sort": { field: 1 }, "hint": index,
        "skip": size - 1, "limit": 1, "singleBatch": true, "projection": { "_id": 0, field: 1 },
    }
}

/// The value at a dotted path.
fn at(document: &Document, path: &str) -> Option<Bson> {
    let mut parts = path.split('.');
    let mut value = document.get(parts.next()?)?;
    for part in parts {
        value = value.as_document()?.get(part)?;
    }
    Some(value.clone())
}

fn same(a: &Bson, b: &Bson) -> bool {
    a == b || key(a) == key(b)
}

fn bad(message: String) -> EngineError {
    MongoError::Driver {
        doing: "reading the condition of the plan".to_owned(),
        message,
    }
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_follows_the_time_and_shrinks_where_answers_were_lost() {
        let goal = Duration::from_millis(250);
        assert_eq!(next_size(100, goal, Duration::from_millis(1), 0), 200);
        assert_eq!(next_size(200, goal, Duration::from_secs(60), 0), LEAST);
        assert_eq!(next_size(200, goal, Duration::from_millis(200), 0), 200);
        assert_eq!(next_size(200, goal, Duration::from_millis(400), 0), 100);
        assert_eq!(next_size(400, goal, Duration::from_millis(1), 1), 200);
        assert_eq!(next_size(40_000, goal, Duration::ZERO, 0), MOST);
    }

    #[test]
    fn numbers_are_the_same_whatever_their_type() {
        assert!(same(&Bson::Int32(5), &Bson::Int64(5)));
        assert!(same(&Bson::Double(5.0), &Bson::Int64(5)));
        assert!(!same(
            &Bson::Int64(9_007_199_254_740_993),
            &Bson::Int64(9_007_199_254_740_992)
        ));
        assert!(!same(&Bson::String("5".to_owned()), &Bson::Int64(5)));
        assert!(same(&Bson::Double(f64::NAN), &Bson::Double(f64::NAN)));
    }

    #[test]
    fn a_path_leads_into_documents() {
        let document = doc! { "a": { "b": 7 }, "c": [1] };
        assert_eq!(at(&document, "a.b"), Some(Bson::Int32(7)));
        assert_eq!(at(&document, "c.0"), None);
    }
}
