//! Batches by their ids, a page of them at a time: also those whose parent is gone.

use std::collections::HashSet;
use std::time::Instant;

use mongodb::bson::{Bson, Document, doc};

use super::super::end;
use super::super::gate::{Again, may_go_on};
use super::{Batch, Going, Next, at, bad, same};
use crate::engines::EngineError;
use crate::engines::mongodb::{fitting_of, in_parts, key, size_of};
use crate::history::{StepRecord, StepStatus};
use crate::plan::mongodb::Orphans;
use crate::values::several_do;

impl Going<'_> {
    pub(super) async fn ids(
        &mut self,
        record: &mut StepRecord,
        after: Option<&Bson>,
        until: Option<&Bson>,
    ) -> Result<Option<Batch>, EngineError> {
        // Nothing comes behind it, and the server takes no range that would be empty.
        if matches!(after, Some(Bson::MaxKey)) {
            return Ok(Some(Batch::empty(Next::End)));
        }
        let walk = self.walk;
        let condition = walk.filter.document().map_err(bad)?;
        let Some(mut page) = self.page_of_ids(record, &condition, after).await? else {
            return Ok(None);
        };
        // A page may be short for other reasons than that nothing comes after it.
        let mut more = !page.is_empty();
        if let Some(until) = until
            && let Some(place) = page.iter().position(|(id, _)| same(id, until))
        {
            page.truncate(place + 1);
            more = false;
        }
        let mut last = page.last().map(|(id, _)| id).cloned().filter(|_| more);
        let (ids, values) = match &walk.orphans {
            None => (page.into_iter().map(|(id, _)| id).collect(), None),
            Some(orphans) => match self.orphaned(record, orphans, page).await? {
                Some((ids, values)) => (ids, Some((orphans.field.as_str(), values))),
                None => return Ok(None),
            },
        };
        let mut ids: Vec<Bson> = ids;
        if let (Some(orphans), Some(allowed), false) =
            (&walk.orphans, self.allowed(record), ids.is_empty())
        {
            let Some(parents) = self.any_parent(record, orphans).await? else {
                return Ok(None);
            };
            let too_many = ids.len() as i64 > allowed;
            if parents && too_many && orphans.limited {
                return Ok(self.no_more(record));
            }
            if !parents || too_many {
                return Ok(self.parents_are_away(record, orphans, parents));
            }
        } else if let Some(allowed) = self.allowed(record)
            && ids.len() as i64 > allowed
        {
            ids.truncate(usize::try_from(allowed).unwrap_or(0));
            last = ids.last().cloned();
            if ids.is_empty() {
                return Ok(self.no_more(record));
            }
        }
        if ids.is_empty() {
            return Ok(Some(Batch::empty(Next::behind(last))));
        }
        let expected = ids.len() as i64;
        let mut parts = vec![condition, doc! { "_id": { "$in": ids } }];
        if let Some((field, values)) = values {
            // A document that was given another parent meanwhile stays.
            parts.push(doc! { field: { "$in": values } });
        }
        let filter = self.as_deleted(doc! { "$and": parts });
        self.delete(record, filter, None, expected, Next::behind(last))
            .await
    }

    /// The next ids, as many as fit into a command, each with what its document points at.
    async fn page_of_ids(
        &mut self,
        record: &mut StepRecord,
        condition: &Document,
        after: Option<&Bson>,
    ) -> Result<Option<Vec<(Bson, Option<Bson>)>>, EngineError> {
        let walk = self.walk;
        let size = self.size.max(1);
        let field = walk.orphans.as_ref().map(|of| of.field.as_str());
        let mut projection = doc! { "_id": 1 };
        if let Some(field) = field {
            projection.insert(field, 1);
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
        let mut passed = 0;
        loop {
            let Some(met) = self.meet(record, (doing, field), &find).await? else {
                return Ok(None);
            };
            let (n, met) = (met.all.len(), met.all.into_iter());
            let mut page: Vec<(Bson, Option<Bson>)> =
                met.filter_map(|met| Some((met.id?, met.value))).collect();
            // The lower bound is part of what it bounds.
            let bound = page.first().zip(after);
            if passed == 0 && bound.is_some_and(|((first, _), after)| same(first, after)) {
                page.remove(0);
            }
            // Where nobody can ask for any of a page, others may come behind it.
            if page.is_empty() && n > usize::from(passed == 0 && after.is_some()) {
                passed += n as i64;
                find.insert("skip", passed);
                continue;
            }
            // Few ids that are large are as many as fit into a command.
            let size = |(id, value): &(Bson, Option<Bson>)| {
                size_of(id) + value.as_ref().map_or(0, size_of)
            };
            page.truncate(fitting_of(page.iter().map(size)));
            return Ok(Some(page));
        }
    }

    /// Whether there is any parent at all.
    async fn any_parent(
        &self,
        record: &mut StepRecord,
        orphans: &Orphans,
    ) -> Result<Option<bool>, EngineError> {
        let find = doc! {
            "find": &orphans.parent, "limit": 1, "singleBatch": true, "projection": { "_id": 1 },
        };
        let doing = "looking whether there are parents";
        let found = self.ask(record, doing, &orphans.parent_database, &find);
        Ok(found.await?.map(|parents| !parents.is_empty()))
    }

    /// Far more children are without a parent than the plan had counted, or all of them: whoever
    /// fills the parents anew takes them away first.
    fn parents_are_away(
        &self,
        record: &mut StepRecord,
        orphans: &Orphans,
        some: bool,
    ) -> Option<Batch> {
        let rows = record.rows.unwrap_or(0);
        let parent = &orphans.parent;
        let what = match some {
            true => format!("far more point at no document of {parent} than the plan had counted"),
            false => format!("{parent} is empty by now"),
        };
        end(
            record,
            StepStatus::Failed,
            format!(
                "{} gone, and no other goes: {what}. Where it is filled anew just now, run this task at another time; where these are to go, say how many may with `max_rows` or `max_share`",
                several_do(rows, "document", ("has", "have"))
            ),
        );
        None
    }

    /// Those of a page whose parent is gone: their ids, and what they point at.
    async fn orphaned(
        &self,
        record: &mut StepRecord,
        orphans: &Orphans,
        page: Vec<(Bson, Option<Bson>)>,
    ) -> Result<Option<(Vec<Bson>, Vec<Bson>)>, EngineError> {
        let pointing: Vec<(Bson, Bson)> = page
            .into_iter()
            .filter_map(|(id, value)| Some((id, value?)))
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
        for wanted in in_parts(&wanted)
            .into_iter()
            .flat_map(|part| part.chunks(1000))
        {
            let find = doc! {
                "find": &orphans.parent, "filter": { field: { "$in": wanted.to_vec() } },
                "projection": { "_id": 0, field: 1 },
            };
            let mut has = |value: &Bson| {
                let key = key(value);
                if seen.contains(&key) {
                    found.insert(key);
                }
            };
            let met = |parent: Document| match at(&parent, field) {
                Some(Bson::Array(values)) => values.iter().for_each(&mut has),
                Some(value) => has(&value),
                None => {}
            };
            if !self.meet_parents(record, orphans, &find, met).await? {
                return Ok(None);
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
                ids.push(id);
                values.push(value);
            }
        }
        Ok(Some((ids, values)))
    }

    /// Gives each parent that is found to `met`, and keeps none: a field of theirs may be a long list. `false`:
    /// the step is over.
    async fn meet_parents(
        &self,
        record: &mut StepRecord,
        orphans: &Orphans,
        find: &Document,
        mut met: impl FnMut(Document) + Send,
    ) -> Result<bool, EngineError> {
        let (began, mut again) = (Instant::now(), Again::default());
        loop {
            let Some(limit) = self.ends.left() else {
                let so_far = "nothing of this batch has gone";
                may_go_on(self.job, self.ends, record, so_far);
                return Ok(false);
            };
            let (session, place) = (self.job.session, &orphans.parent_database);
            let doing = "looking for parents";
            // What cannot be read is found by nobody, and the server is asked for the rest once more.
            let read = session.each(doing, place, find.clone(), limit, |parent| {
                Document::try_from(&parent)
                    .ok()
                    .into_iter()
                    .for_each(&mut met);
                true
            });
            match read.await {
                Ok(()) => return Ok(true),
                Err(error) => {
                    if !self.asks_again(error, began, &mut again, record).await? {
                        return Ok(false);
                    }
                }
            }
        }
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
}
