//! Work that is a walk: cut out a batch, delete it, remember the place, and
//! let the time the batch took decide the size of the next.

mod delete;
mod ids;
mod met;
mod range;
mod value;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use mongodb::bson::{Bson, Document};
use serde_json::Value;

use self::range::Ahead;
use self::value::Page;
use super::batch::Key;
use super::gate::{Again, Ends, FAILOVER, may_go_on, over, pass};
use super::vanished::Begun;
use super::{Event, Job, end};
use crate::engines::EngineError;
use crate::engines::mongodb::{Json, MongoError, key, size_of};
use crate::execute::goal::towards;
use crate::history::{StepRecord, StepStatus};
use crate::plan::mongodb::{Path, Walk};
use crate::plan::{Finding, KeptBy, Memory};
use crate::values::{several, several_do, wall_clock};

/// Documents of the first batch.
const FIRST: i64 = 500;
/// What a batch costs beside its documents, such as a majority's answer, does
/// not become less with fewer of them.
const LEAST: i64 = 100;
/// However quick a server is, its members have to follow.
const MOST: i64 = 50_000;

/// Carries the walk out; `record.rows` counts what has gone, confirmed by a majority.
pub(super) async fn carry_out(
    walk: &Walk,
    begun: &Begun<'_>,
    job: Job<'_>,
    record: &mut StepRecord,
    findings: &mut Vec<Finding>,
) -> Result<(), EngineError> {
    record.rows = Some(0);
    let mut going = Going {
        walk,
        begun,
        job,
        ends: Ends::of(job.execution),
        size: FIRST,
        ahead: None,
        page: None,
        aside: HashSet::new(),
    };
    let start = walk.start.as_ref().and_then(|place| place.value().ok());
    let done = going.on(record, start.clone(), None).await?
        // What an interrupted walk had dealt with, and what came in behind its back.
        && (start.is_none() || going.on(record, None, start).await?);
    if done {
        going.remember(Value::Null);
        record.status = StepStatus::Succeeded;
        going.tell_aside(record, findings);
    }
    Ok(())
}

/// How large a place may be that is remembered, in bytes: a walk that goes on from an earlier one only
/// goes through more.
const MOST_PLACE: usize = 64 << 10;

struct Going<'a> {
    walk: &'a Walk,
    begun: &'a Begun<'a>,
    job: Job<'a>,
    ends: Ends,
    size: i64,
    ahead: Option<Ahead>,
    page: Option<Page>,
    /// Documents that nobody can ask for, by what tells them apart.
    aside: HashSet<Key>,
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
            match batch.next {
                Next::End => return Ok(true),
                Next::Same => {}
                Next::Behind(last) => {
                    // The history is no place for what documents hold.
                    if size_of(&last) <= MOST_PLACE {
                        self.remember(Json::of_value(&last).0);
                    }
                    after = Some(last);
                }
            }
            // A process that is killed here leaves what was counted so far.
            execution.history.step(execution.run, record);
            self.adapt(began.elapsed(), batch.lost);
        }
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
                Err(error) => {
                    if !self.asks_again(error, began, &mut again, record).await? {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// Whether a question is asked again after this error; if not, the step is over, and the record says why.
    async fn asks_again(
        &self,
        error: MongoError,
        began: Instant,
        again: &mut Again,
        record: &mut StepRecord,
    ) -> Result<bool, EngineError> {
        let execution = self.job.execution;
        let passes = error.is_passing() && began.elapsed() < FAILOVER;
        if !passes || execution.stop.is_now() {
            return over(error, execution, self.ends, record).map(|()| false);
        }
        again.tell(&error);
        record.attempts = record.attempts.max(1) + 1;
        tokio::time::sleep(Duration::from_millis(300)).await;
        Ok(true)
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

/// What came of a batch.
struct Batch {
    gone: i64,
    next: Next,
    /// Attempts whose answer was lost.
    lost: u32,
}

impl Batch {
    /// There was nothing to delete.
    fn empty(next: Next) -> Batch {
        Batch {
            gone: 0,
            next,
            lost: 0,
        }
    }
}

/// Where the walk goes on after a batch.
enum Next {
    /// Nowhere: it was the last one.
    End,
    /// Where it was: of the value that the batch ended at there may be more.
    Same,
    /// Behind this place.
    Behind(Bson),
}

impl Next {
    fn behind(last: Option<Bson>) -> Next {
        last.map_or(Next::End, Next::Behind)
    }
}

/// The size of the next batch; half of it after an answer that was lost.
fn next_size(size: i64, goal: Duration, took: Duration, lost: u32) -> i64 {
    match lost {
        0 => towards(goal, size, took).clamp(LEAST, MOST),
        _ => (size / 2).max(LEAST),
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

/// Whether two values are the same to the server, as far as that can be told here.
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
    use mongodb::bson::doc;

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
    fn a_path_leads_into_documents() {
        let document = doc! { "a": { "b": 7 }, "c": [1] };
        assert_eq!(at(&document, "a.b"), Some(Bson::Int32(7)));
        assert_eq!(at(&document, "c.0"), None);
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
}
