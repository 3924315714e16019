//! Batches along an index: where the next one ends is looked for while the one before goes.

use mongodb::bson::{Bson, Document, doc};

use super::{Batch, Going, Next, at, bad, same};
use crate::engines::EngineError;
use crate::engines::mongodb::{counted, counting};
use crate::history::StepRecord;
use crate::plan::mongodb::Walk;

/// What is being done while a batch's end is looked for.
const ENDS: &str = "looking where the next batch ends";

/// Where the batch after the one that goes ends, looked for while that one goes.
pub(super) struct Ahead {
    pub(super) after: Bson,
    pub(super) until: Option<Bson>,
    /// So many documents are in it.
    pub(super) size: i64,
    pub(super) end: End,
}

/// The last document of the next batch has this value.
pub(super) struct End {
    pub(super) last: Bson,
    /// More documents have it than the batch may hold.
    pub(super) spills: bool,
}

impl End {
    /// By the last document of a batch, and the one that comes after it.
    fn of(found: &[Document], field: &str) -> Option<End> {
        let mut values = found.iter().map(|document| at(document, field));
        let last = values.next()??;
        let spills = values.next().flatten().is_some_and(|next| {
            // What a decimal equals only the server says; that a value might go on costs little.
            let unsure = [&last, &next]
                .iter()
                .any(|value| matches!(value, Bson::Decimal128(_)));
            unsure || same(&last, &next)
        });
        Some(End { last, spills })
    }
}

impl Going<'_> {
    pub(super) async fn range(
        &mut self,
        record: &mut StepRecord,
        (field, index): (&str, &str),
        after: Option<&Bson>,
        until: Option<&Bson>,
    ) -> Result<Option<Batch>, EngineError> {
        if let Some(batch) = self.rest_of_page(record, after, until).await? {
            return Ok(batch);
        }
        let walk = self.walk;
        let rest = walk.within(after, until).map_err(bad)?;
        let allowed = self.allowed(record);
        let size = self.size.min(allowed.unwrap_or(i64::MAX)).max(1);
        let known = self.ahead.take().filter(|ahead| {
            let fits = allowed.is_none() && size / 2 <= ahead.size && ahead.size <= size / 4 * 5;
            fits && Some(&ahead.after) == after && ahead.until.as_ref() == until
        });
        let (size, end) = match known {
            Some(ahead) => (ahead.size, Some(ahead.end)),
            None => {
                let find = end_of(walk, rest.clone(), (field, index), size);
                let Some(found) = self.ask(record, ENDS, &walk.database, &find).await? else {
                    return Ok(None);
                };
                (size, End::of(&found, field))
            }
        };
        if let Some(End { last, spills: true }) = end {
            return self
                .page(record, (field, index), (after, until), last)
                .await;
        }
        let last = end.map(|end| end.last);
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
            return Ok(Some(Batch::empty(Next::End)));
        }
        if allowed.is_some_and(|allowed| expected > allowed) {
            return Ok(self.no_more(record));
        }
        let filter = self.as_deleted(filter);
        let Some(from) = last.clone().filter(|_| allowed.is_none()) else {
            return self
                .delete(record, filter, Some(index), expected, Next::behind(last))
                .await;
        };
        let next = walk.within(Some(&from), until).map_err(bad)?;
        let find = end_of(walk, next, (field, index), size);
        let (batch, found) = tokio::join!(
            self.delete(record, filter, Some(index), expected, Next::behind(last)),
            self.look_ahead(find),
        );
        self.ahead = found.and_then(|found| {
            Some(Ahead {
                after: from,
                until: until.cloned(),
                size,
                end: End::of(&found, field)?,
            })
        });
        batch
    }

    /// Nothing depends on it: what fails here is asked again when it is its turn.
    async fn look_ahead(&self, find: Document) -> Option<Vec<Document>> {
        let limit = self.ends.left()?;
        let database = self.walk.database.as_str();
        let found = self.job.session.all(ENDS, database, find, limit).await;
        found.ok()
    }
}

/// Asks for the last of the next `size` documents, and for the one after it.
fn end_of(walk: &Walk, filter: Document, (field, index): (&str, &str), size: i64) -> Document {
    doc! {
        "find": &walk.collection, "filter": filter, "sort": { field: 1 }, "hint": index,
        "skip": size - 1, "limit": 2, "singleBatch": true, "projection": { "_id": 0, field: 1 },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_spills_where_the_next_document_has_it_too() {
        let spills = |values: &[Bson]| {
            let found: Vec<Document> = values.iter().map(|v| doc! { "a": { "b": v } }).collect();
            End::of(&found, "a.b").map(|end| end.spills)
        };
        assert_eq!(spills(&[]), None);
        assert_eq!(spills(&[Bson::Int32(5)]), Some(false));
        assert_eq!(spills(&[Bson::Int32(5), Bson::Int32(6)]), Some(false));
        assert_eq!(spills(&[Bson::Int32(5), Bson::Double(5.0)]), Some(true));
    }
}
