//! Copies of batches that have not come to their end: their originals live, and the batch may take them back.
//! Neither do they prove anything, nor may another archive take them for documents.

use std::collections::HashSet;

use futures_util::TryStreamExt;
use mongodb::Collection;
use mongodb::bson::{Document, RawDocumentBuf, doc};
use mongodb::error::Error;
use mongodb::options::ReadConcern;

use super::batch::BatchError;
use super::copies::named;
use super::source::{Source, id_of, key_of};
use crate::engines::mongodb::{MARKS, Stage, copies_of, namespace};
use crate::plan::mongodb::Walk;
use crate::plan::{Finding, Severity};
use crate::values::several_do;

impl Source<'_> {
    /// Takes those out of what was read that a batch of another archive has put there, and which it may take
    /// back: it is at work, or was broken off. Marks are written before the copies are, and so they are looked
    /// at behind them.
    pub(super) async fn keep_back(
        &self,
        documents: &mut Vec<RawDocumentBuf>,
    ) -> Result<Vec<RawDocumentBuf>, BatchError> {
        let (here, walk) = (self.job.session, self.walk);
        let identity = here.identity(&walk.database, &walk.collection).await?;
        let Some(uuid) = identity.filter(|_| !documents.is_empty()) else {
            return Ok(Vec::new());
        };
        let marks = here.client().database(here.database()).collection(MARKS);
        let named = named_by(&marks, &uuid, None, documents).await?;
        let is_free = |d: &RawDocumentBuf| id_of(d).is_none_or(|id| !named.contains(&id));
        let (free, kept) = std::mem::take(documents).into_iter().partition(is_free);
        *documents = free;
        Ok(kept)
    }
}

/// The ids, among those of these documents, of copies in the collection of this identity that batches, at work or
/// broken off, may take back; but for `own`.
pub(super) async fn named_by(
    marks: &Collection<Document>,
    uuid: &str,
    own: Option<&str>,
    documents: &[RawDocumentBuf],
) -> Result<HashSet<String>, Error> {
    let wanted: HashSet<String> = documents.iter().filter_map(id_of).collect();
    let states = [Stage::Copying.word(), Stage::Left.word()];
    let open = doc! { "into.uuid": uuid, "state": { "$in": states }, "_id": { "$ne": own } };
    let marks = marks.clone_with_type::<RawDocumentBuf>();
    let mut marks = marks
        .find(open)
        .read_concern(ReadConcern::majority())
        .await?;
    let mut ids = HashSet::new();
    while let Some(mark) = marks.try_next().await? {
        // What cannot be read none of us has written.
        let Ok(mark) = Document::try_from(&mark) else {
            continue;
        };
        let named = copies_of(&mark);
        let named = named.iter().filter_map(|copy| key_of(&copy.id));
        ids.extend(named.filter(|id| wanted.contains(id)));
    }
    Ok(ids)
}

/// Tells of documents that are copies still, with originals of their own; `database` has their marks.
pub(super) fn under_way(walk: &Walk, copies: &[String], database: &str) -> Option<Finding> {
    let object = namespace(&walk.database, &walk.collection);
    let many = several_do(copies.len(), "document", ("stays", "stay"));
    (!copies.is_empty()).then(|| Finding {
        code: "archive.under_way".to_owned(),
        severity: Severity::Warning,
        message: format!(
            "{many} in {object}: another archive has put them there in batches that have not come to their end, as `{MARKS}` of {database} says, and may take them back. Their originals are still where they came from. Where no such archive is at work, let it run once more; their `_id`: {}",
            named(copies)
        ),
        object,
        suggestion: None,
    })
}
