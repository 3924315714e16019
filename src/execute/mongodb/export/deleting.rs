//! All documents of a batch go in one transaction, with the mark that says so, or none.

use std::collections::HashMap;
use std::time::Instant;

use mongodb::ClientSession;
use mongodb::bson::{Bson, Document, RawDocumentBuf, doc};
use mongodb::error::{Error, TRANSIENT_TRANSACTION_ERROR};
use mongodb::options::ReadConcern;

use super::super::batch::{Key, key_of};
use super::super::gate::Again;
use super::super::source::{FAILOVER, Source, majority, value_at};
use super::Exporter;
use crate::engines::mongodb::{MARKS, MongoError, mark};
use crate::plan::archived::Manifested;
use crate::plan::mongodb::Manifest;
use crate::values::several_do;

const AGAIN: std::time::Duration = std::time::Duration::from_millis(200);

impl<'a> Exporter<'a> {
    /// Deletes all of these documents, if all of them are still what was
    /// stored. If not, none, and tells which are not.
    pub(super) async fn delete(
        &mut self,
        documents: &[RawDocumentBuf],
        manifest: &Manifest,
    ) -> Result<Vec<Key>, Error> {
        let began = Instant::now();
        let mut tried = Again::default();
        loop {
            let error = match self.transaction(documents, manifest).await {
                Ok(changed) => return Ok(changed),
                Err(error) => error,
            };
            let again = error.contains_label(TRANSIENT_TRANSACTION_ERROR)
                && began.elapsed() < FAILOVER
                && !self.source.job.execution.stop.is_now();
            if !again {
                return Err(error);
            }
            tried.tell(&MongoError::of_driver(&error));
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn transaction(
        &mut self,
        documents: &[RawDocumentBuf],
        manifest: &Manifest,
    ) -> Result<Vec<Key>, Error> {
        let session = &mut self.session;
        session
            .start_transaction()
            .read_concern(ReadConcern::snapshot())
            .write_concern(majority())
            .await?;
        let done = within(&self.source, session, documents, manifest).await;
        match done {
            Ok(changed) if changed.is_empty() => {
                session.commit_transaction().await?;
                Ok(changed)
            }
            other => {
                // The server ends by itself what it could not be told to end.
                if let Err(error) = session.abort_transaction().await {
                    tracing::debug!(%error, "a transaction could not be aborted");
                }
                other
            }
        }
    }
}

async fn within(
    source: &Source<'_>,
    session: &mut ClientSession,
    documents: &[RawDocumentBuf],
    manifest: &Manifest,
) -> Result<Vec<Key>, Error> {
    let ids: Vec<Bson> = documents
        .iter()
        .filter_map(|document| value_at(document, "_id"))
        .collect();
    let mut stored: HashMap<Key, &RawDocumentBuf> =
        documents.iter().map(|d| (key_of(d), d)).collect();
    let mut cursor = source
        .collection
        .find(doc! { "_id": { "$in": ids.clone() } })
        .comment(source.comment())
        .session(&mut *session)
        .await?;
    while let Some(document) = cursor.next(&mut *session).await.transpose()? {
        let key = key_of(&document);
        if stored
            .get(&key)
            .is_some_and(|d| d.as_bytes() == document.as_bytes())
        {
            stored.remove(&key);
        }
    }
    if !stored.is_empty() {
        return Ok(stored.into_keys().collect());
    }
    let count = ids.len();
    let deleted = source
        .collection
        .delete_many(doc! { "_id": { "$in": ids } })
        .comment(source.comment())
        .session(&mut *session)
        .await?;
    if usize::try_from(deleted.deleted_count) != Ok(count) {
        return Err(Error::custom(format!(
            "{} to go, and {} would have gone",
            several_do(count, "document", ("was", "were")),
            deleted.deleted_count
        )));
    }
    let marks = source
        .client
        .database(&manifest.marks)
        .collection::<Document>(MARKS);
    marks
        .insert_one(mark(&manifest.id.to_string(), &manifest.source()))
        .session(&mut *session)
        .await?;
    Ok(Vec::new())
}
