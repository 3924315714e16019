//! Documents are written into a collection, and it is looked whether they are there as they were.

use std::collections::HashMap;

use futures_util::TryStreamExt;
use mongodb::Collection;
use mongodb::bson::{Bson, RawDocumentBuf, doc};
use mongodb::error::ErrorKind;
use mongodb::options::ReadConcern;

use super::super::source::{
    can_be_stamped, is_filled_in, is_misnamed_for, majority, same_id, stamp, value_at,
};
use super::kept_out::{KeptOut, UNIQUE, Why};
use super::{NAME, Place, files};
use crate::engines::EngineError;
use crate::engines::mongodb::{Session, is_of_the_server};

pub(super) struct Bringing<'a> {
    pub(super) session: &'a Session,
    pub(super) into: &'a Place,
    pub(super) collection: Collection<RawDocumentBuf>,
}

impl Bringing<'_> {
    /// What is there of these documents, by id.
    pub(super) async fn there(
        &self,
        documents: &[&RawDocumentBuf],
    ) -> Result<HashMap<String, RawDocumentBuf>, EngineError> {
        let ids: Vec<Bson> = documents
            .iter()
            .filter_map(|d| value_at(d, "_id"))
            .collect();
        let find = async {
            let found = self
                .collection
                .find(doc! { "_id": { "$in": ids } })
                .read_concern(ReadConcern::majority())
                .comment(NAME)
                .await?;
            found.try_collect::<Vec<RawDocumentBuf>>().await
        };
        let found = find.await.map_err(|error| {
            let on = self.into.to_string();
            let doing = "looking for documents that are back";
            EngineError::from(self.session.error(doing, "find", &on, &error))
        })?;
        Ok(found
            .into_iter()
            .filter_map(|document| Some((same_id(&document)?, document)))
            .collect())
    }

    /// Inserts what is not there, and looks whether all is there as it was. What cannot be brought
    /// back by itself keeps no other out. Gives how many came back now.
    pub(super) async fn insert(
        &self,
        documents: &[RawDocumentBuf],
        kept_out: &mut KeptOut,
    ) -> Result<i64, EngineError> {
        let (documents, filled): (Vec<&RawDocumentBuf>, Vec<_>) =
            documents.iter().partition(|d| can_be_stamped(d));
        self.stay_filled(&filled, kept_out).await?;
        if documents.is_empty() {
            return Ok(0);
        }
        let inserted = self
            .collection
            .insert_many(documents.iter().copied())
            .ordered(false)
            .write_concern(majority())
            .comment(Bson::String(NAME.to_owned()))
            .await;
        let refused = match inserted {
            Ok(_) => HashMap::new(),
            Err(error) => self.one_by_one(&error)?,
        };
        let mut there = self.there(&documents).await?;
        // An empty timestamp at the top of a document is filled in by the server when it is
        // inserted; it is put back as it was, also where an earlier restore was broken off before.
        let found = |document: &RawDocumentBuf| {
            let id = same_id(document)?;
            there.get(&id)
        };
        let to_stamp = documents.iter().copied();
        let to_stamp: Vec<&RawDocumentBuf> = to_stamp
            .filter(|document| found(document).is_some_and(|found| is_filled_in(found, document)))
            .collect();
        if !to_stamp.is_empty() {
            for document in &to_stamp {
                stamp(&self.collection, document)
                    .await
                    .map_err(|error| self.refused(&error))?;
            }
            there.extend(self.there(&to_stamp).await?);
        }
        let mut back = 0;
        for (index, document) in documents.into_iter().enumerate() {
            let code = refused.get(&index).copied();
            let found = same_id(document).and_then(|id| there.get(&id));
            match (found, code) {
                // Of the same `_id` there may be the same document, which was back before.
                (Some(found), code) if found.as_bytes() == document.as_bytes() => {
                    back += i64::from(code.is_none());
                }
                (_, Some(code)) if code != UNIQUE => {
                    let misnamed = is_misnamed_for(self.session.server.release, document);
                    let why = if misnamed {
                        Why::Name
                    } else {
                        Why::Refused(code)
                    };
                    kept_out.add(why, document);
                }
                (Some(_), _) => kept_out.add(Why::Taken, document),
                (None, Some(code)) => kept_out.add(Why::Refused(code), document),
                (None, None) => {
                    return Err(files(format!(
                        "documents that were just written into {} are not there: somebody removes them, or they expire",
                        self.into
                    )));
                }
            }
        }
        Ok(back)
    }

    /// Those that the server would change for good are left out, unless they are there.
    async fn stay_filled(
        &self,
        documents: &[&RawDocumentBuf],
        kept_out: &mut KeptOut,
    ) -> Result<(), EngineError> {
        if documents.is_empty() {
            return Ok(());
        }
        let there = self.there(documents).await?;
        for document in documents {
            match same_id(document).and_then(|id| there.get(&id)) {
                Some(found) if found.as_bytes() == document.as_bytes() => {}
                Some(found) if !is_filled_in(found, document) => {
                    kept_out.add(Why::Taken, document);
                }
                _ => kept_out.add(Why::Stamp, document),
            }
        }
        Ok(())
    }

    /// What the server says of single documents, by their places.
    ///
    /// # Errors
    /// Where it says it of more.
    fn one_by_one(
        &self,
        error: &mongodb::error::Error,
    ) -> Result<HashMap<usize, i32>, EngineError> {
        let errors = match error.kind.as_ref() {
            ErrorKind::InsertMany(report) if report.write_concern_error.is_none() => {
                report.write_errors.as_deref().unwrap_or_default()
            }
            _ => &[],
        };
        if errors.is_empty() || errors.iter().any(|e| is_of_the_server(e.code)) {
            return Err(self.refused(error));
        }
        Ok(errors.iter().map(|e| (e.index, e.code)).collect())
    }

    fn refused(&self, error: &mongodb::error::Error) -> EngineError {
        let on = self.into.to_string();
        let doing = "restoring documents";
        self.session.error(doing, "insert", &on, error).into()
    }
}
