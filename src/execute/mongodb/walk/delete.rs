//! A batch is deleted, confirmed by a majority; what went of one that was cut off is counted.

use std::time::Duration;

use mongodb::bson::{DateTime, Document, doc};

use super::{Batch, Going, Next};
use crate::engines::EngineError;
use crate::engines::mongodb::{DAMAGED, Limit, at_moment, counted, counting};
use crate::history::{StepRecord, StepStatus};
use crate::plan::mongodb::{Path, single};
use crate::values::{several_do, wall_clock};

/// How long a majority may take to confirm a batch, in milliseconds.
const CONFIRMED: i64 = 60_000;

/// How long counting what is left of a batch may take, beyond the time of the step.
const PART: Limit = Limit(Duration::from_secs(3));

impl Going<'_> {
    /// The condition of a batch, as the server is given it.
    pub(super) fn as_deleted(&self, filter: Document) -> Document {
        let mut filter = filter;
        if let Path::Range { field, .. } = &self.walk.path {
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
        filter
    }

    /// Deletes what meets a condition that [`Going::as_deleted`] has made.
    pub(super) async fn delete(
        &self,
        record: &mut StepRecord,
        filter: Document,
        index: Option<&str>,
        expected: i64,
        next: Next,
    ) -> Result<Option<Batch>, EngineError> {
        let walk = self.walk;
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
                // Since it was seen where a range ends, more may have come in that was not counted.
                let is_exact = index.is_none() || matches!(next, Next::End) || walk.most.is_some();
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
        Ok(Some(Batch { gone, next, lost }))
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
}

/// Counts what a command that deletes would still delete.
fn counting_rest(collection: &str, command: &Document) -> Option<Document> {
    let delete = command.get_array("deletes").ok()?.first()?.as_document()?;
    let filter = delete.get_document("q").ok()?.clone();
    let along = delete.get("hint").cloned();
    Some(counting(collection, filter, along, None))
}
