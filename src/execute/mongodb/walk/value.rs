//! A value that more documents have than fit into a batch: they are gone through by their ids.

use mongodb::bson::{Bson, Document, doc};

use super::{Batch, Going, MOST, Next, bad};
use crate::engines::EngineError;
use crate::engines::mongodb::{counted, counting, fitting_of, size_of};
use crate::history::StepRecord;

/// Documents that are looked for at once, and deleted batch by batch: each look passes by all that
/// has gone before, which the index still has for a while.
pub(super) struct Page {
    after: Option<Bson>,
    until: Option<Bson>,
    /// No document of the page has a greater value.
    last: Bson,
    /// All documents up to that value were on it.
    is_whole: bool,
    /// The condition that they met.
    filter: Document,
    /// What is still to go, the last first.
    ids: Vec<Bson>,
    /// Something of it has gone, or may have.
    any: bool,
}

impl Going<'_> {
    /// Deletes the next batch of the page that was begun; none where none was.
    pub(super) async fn rest_of_page(
        &mut self,
        record: &mut StepRecord,
        after: Option<&Bson>,
        until: Option<&Bson>,
    ) -> Result<Option<Option<Batch>>, EngineError> {
        let page = self.page.take();
        let fits = |page: &Page| page.after.as_ref() == after && page.until.as_ref() == until;
        match page.filter(fits) {
            Some(page) => self.turn(record, page).await.map(Some),
            None => Ok(None),
        }
    }

    /// Looks for the documents up to a value that spills over the batch, and deletes the first of them.
    pub(super) async fn page(
        &mut self,
        record: &mut StepRecord,
        (field, index): (&str, &str),
        (after, until): (Option<&Bson>, Option<&Bson>),
        last: Bson,
    ) -> Result<Option<Batch>, EngineError> {
        let walk = self.walk;
        // What is found is what is deleted, or the same would be found for ever.
        let filter = self.as_deleted(walk.within(after, Some(&last)).map_err(bad)?);
        if let Some(allowed) = self.allowed(record) {
            // Of those that are of one age, none goes rather than another.
            let most = Some(allowed.saturating_add(1));
            let count = counting(&walk.collection, filter.clone(), Some(index.into()), most);
            let doing = "counting the documents of one value";
            match self.give(record, doing, &count, &mut 0).await? {
                Some(answer) if counted(&answer) > allowed => return Ok(self.no_more(record)),
                Some(_) => {}
                None => return Ok(None),
            }
        }
        let find = doc! {
            "find": &walk.collection, "filter": filter.clone(), "sort": { field: 1 }, "hint": index,
            "limit": MOST, "batchSize": MOST, "projection": { "_id": 1 },
        };
        let doing = "looking for the documents of one value";
        let Some(found) = self.meet(record, (doing, None), &find).await? else {
            return Ok(None);
        };
        let is_whole = !found.cut && (found.all.len() as i64) < MOST;
        let ids = found.all.into_iter().rev().filter_map(|met| met.id);
        let page = Page {
            after: after.cloned(),
            until: until.cloned(),
            last,
            is_whole,
            filter,
            ids: ids.collect(),
            any: false,
        };
        self.turn(record, page).await
    }

    async fn turn(
        &mut self,
        record: &mut StepRecord,
        mut page: Page,
    ) -> Result<Option<Batch>, EngineError> {
        let allowed = self.allowed(record);
        if allowed == Some(0) && !page.ids.is_empty() {
            return Ok(self.no_more(record));
        }
        let size = self.size.min(allowed.unwrap_or(i64::MAX)).max(1);
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        // Few ids that are large are as many as fit into a command.
        let size = size.min(fitting_of(page.ids.iter().rev().map(size_of)));
        let rest = page.ids.len().saturating_sub(size);
        let ids = page.ids.split_off(rest);
        let is_over = page.ids.is_empty();
        let expected = ids.len() as i64;
        let batch = match ids.is_empty() {
            true => Batch::empty(Next::Same),
            false => {
                let filter = doc! { "$and": [page.filter.clone(), { "_id": { "$in": ids } }] };
                let gone = self.delete(record, filter, None, expected, Next::Same);
                let Some(batch) = gone.await? else {
                    return Ok(None);
                };
                batch
            }
        };
        page.any |= batch.gone > 0 || batch.lost > 0;
        // Where nothing of a whole page can be deleted, the walk does not stand there for ever.
        let next = match is_over && (page.is_whole || !page.any) {
            true => Next::Behind(page.last.clone()),
            false => Next::Same,
        };
        if !is_over {
            self.page = Some(page);
        }
        Ok(Some(Batch { next, ..batch }))
    }
}
