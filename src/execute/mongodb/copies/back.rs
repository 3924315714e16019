//! Copies go where their originals are known to live, or to have been erased; every other one stays, and is told.

use std::collections::{HashMap, HashSet};

use futures_util::TryStreamExt;
use mongodb::bson::{Bson, Document, RawDocumentBuf, doc};
use mongodb::error::Error;
use mongodb::options::ReadConcern;

use super::super::source::{id_of, key_of, majority, session_id, value_at};
use super::shown;
use super::taken::Taken;
use crate::engines::mongodb::{Copy, CopyMark, Session, in_parts};
use crate::plan::mongodb::copies::Sealed;

/// Copies that are taken back.
pub(super) struct Back<'a> {
    pub(super) here: &'a Session,
    pub(super) there: &'a Session,
    pub(super) mark: &'a CopyMark,
    pub(super) sealed: &'a Sealed,
    /// Whether it is known which originals were not deleted.
    pub(super) proved: bool,
    pub(super) erased: Option<&'a HashSet<String>>,
}

impl Back<'_> {
    /// Takes them back, and tells of those that stay.
    pub(super) async fn removed(&self, taken: &mut Taken) -> Result<(), Error> {
        let mark = self.mark;
        taken.clear();
        if mark.copies.is_empty() {
            return Ok(());
        }
        // The name may have been given to another collection since.
        let database = self.there.client().database(&mark.into.0);
        let mut listed = database
            .run_cursor_command(doc! { "listCollections": 1 })
            .await?;
        let mut name = None;
        while let Some(one) = listed.try_next().await? {
            let uuid = one
                .get_document("info")
                .ok()
                .and_then(|info| info.get("uuid"));
            if uuid.is_some_and(|uuid| uuid.to_string() == mark.uuid) {
                name = one.get_str("name").ok().map(str::to_owned);
            }
        }
        let Some(name) = name else {
            taken.astray = true;
            return Ok(());
        };
        let copies = self.there.raw(&mark.into.0, &name);
        if !mark.made {
            // Nobody knows who has put them there: the batch, or somebody who goes by them.
            let all: Vec<&Copy> = mark.copies.iter().collect();
            taken.unsure = self.as_written(&copies, &all).await?;
            return Ok(());
        }
        let live = self.live().await?;
        let is_erased = |key: &String| self.erased.is_some_and(|erased| erased.contains(key));
        let (mut written, mut lone, mut doubtful) = (HashMap::new(), Vec::new(), Vec::new());
        for copy in &mark.copies {
            let Some(key) = key_of(&copy.id) else {
                continue;
            };
            match live.get(&key) {
                Some(hash) if hash.as_ref().is_none_or(|hash| *hash == copy.hash) => {
                    written.insert(key, copy);
                }
                Some(_) => doubtful.push(copy),
                None if is_erased(&key) => {
                    written.insert(key, copy);
                }
                None => lone.push(copy.id.clone()),
            }
        }
        for some in in_parts(&lone) {
            let found = copies
                .find(doc! { "_id": { "$in": some.to_vec() } })
                .projection(doc! { "_id": 1 });
            let found: Vec<RawDocumentBuf> = found.await?.try_collect().await?;
            taken.alone.extend(found.iter().map(shown));
        }
        taken.doubtful = self.as_written(&copies, &doubtful).await?;
        let written = Written {
            sealed: self.sealed,
            written,
        };
        if written.written.is_empty() {
            return Ok(());
        }
        match self.there.server.set {
            Some(_) => together(self.there, &copies, &written, taken).await,
            None => one_by_one(&copies, &written, taken).await,
        }
    }

    /// What there is by the ids of the copies where they come from; with its hash where it has to be what was copied.
    async fn live(&self) -> Result<HashMap<String, Option<Vec<u8>>>, Error> {
        let (mark, mut live) = (self.mark, HashMap::new());
        let ids: Vec<Bson> = mark.copies.iter().map(|copy| copy.id.clone()).collect();
        for some in in_parts(&ids) {
            let originals = self.here.raw(&mark.from.0, &mark.from.1);
            let mut find = originals
                .find(doc! { "_id": { "$in": some.to_vec() } })
                .read_concern(ReadConcern::majority());
            if self.proved {
                find = find.projection(doc! { "_id": 1 });
            }
            let mut found = find.await?;
            while let Some(document) = found.try_next().await? {
                let hash = (!self.proved).then(|| self.sealed.hash(&document));
                live.extend(id_of(&document).map(|id| (id, hash)));
            }
        }
        Ok(live)
    }

    /// Those of these copies that are there as they were written.
    async fn as_written(
        &self,
        there: &mongodb::Collection<RawDocumentBuf>,
        copies: &[&Copy],
    ) -> Result<Vec<String>, Error> {
        let by_key = copies
            .iter()
            .filter_map(|copy| Some((key_of(&copy.id)?, *copy)));
        let written = Written {
            sealed: self.sealed,
            written: by_key.collect(),
        };
        let mut all = Vec::new();
        if written.written.is_empty() {
            return Ok(all);
        }
        let mut found = there.find(ids_of(&written)).await?;
        while let Some(document) = found.try_next().await? {
            if is_same(&written, &document) == Some(true) {
                all.push(shown(&document));
            }
        }
        Ok(all)
    }
}

/// Copies beside their originals, by their ids.
struct Written<'a> {
    sealed: &'a Sealed,
    written: HashMap<String, &'a Copy>,
}

fn ids_of(written: &Written<'_>) -> Document {
    let ids: Vec<Bson> = written
        .written
        .values()
        .map(|copy| copy.id.clone())
        .collect();
    doc! { "_id": { "$in": ids } }
}

/// Whether it is still what was written; none where nothing was written by that id.
fn is_same(written: &Written<'_>, document: &RawDocumentBuf) -> Option<bool> {
    let copy = written.written.get(&id_of(document)?)?;
    Some(copy.hash == written.sealed.hash(document))
}

/// In a transaction: what is written meanwhile is not deleted.
async fn together(
    there: &Session,
    copies: &mongodb::Collection<RawDocumentBuf>,
    written: &Written<'_>,
    taken: &mut Taken,
) -> Result<(), Error> {
    let mut session = there.client().start_session().await?;
    session
        .start_transaction()
        .read_concern(ReadConcern::snapshot())
        .write_concern(majority())
        .await?;
    let mut cursor = copies.find(ids_of(written)).session(&mut session).await?;
    let mut same = Vec::new();
    while let Some(document) = cursor.next(&mut session).await.transpose()? {
        match is_same(written, &document) {
            Some(true) => same.extend(value_at(&document, "_id")),
            Some(false) => taken.strangers.push(shown(&document)),
            None => {}
        }
    }
    let mut back = 0;
    if !same.is_empty() {
        let delete = copies.delete_many(doc! { "_id": { "$in": same } });
        back = delete.session(&mut session).await?.deleted_count;
    }
    if let Err(error) = session.commit_transaction().await {
        // A commit that was refused leaves its transaction open, and all copies would wait for it.
        if let Some(id) = session_id(session.id()) {
            there.end_session(&id).await;
        }
        return Err(error);
    }
    taken.back += i64::try_from(back).unwrap_or(0);
    Ok(())
}

/// Where there are no transactions: each under the condition that it is what was read.
async fn one_by_one(
    copies: &mongodb::Collection<RawDocumentBuf>,
    written: &Written<'_>,
    taken: &mut Taken,
) -> Result<(), Error> {
    let mut cursor = copies.find(ids_of(written)).await?;
    while let Some(document) = cursor.try_next().await? {
        match is_same(written, &document) {
            None => continue,
            Some(false) => {
                taken.strangers.push(shown(&document));
                continue;
            }
            Some(true) => {}
        }
        let whole = Document::try_from(&document).map_err(Error::custom)?;
        // Not `$eq`: 5.0 takes that for a comparison of a field, and fails to find its name.
        let same = doc! { "$in": ["$$ROOT", [{ "$literal": whole }]] };
        let Some(id) = value_at(&document, "_id") else {
            continue;
        };
        let delete = copies.delete_one(doc! { "_id": id, "$expr": same });
        match delete.write_concern(majority()).await?.deleted_count {
            0 => taken.strangers.push(shown(&document)),
            _ => taken.back += 1,
        }
    }
    Ok(())
}
