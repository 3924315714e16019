//! Copies that are made on the server of their originals: in one transaction with the word in their mark that they are
//! the batch's own. Whatever becomes of it, a copy that somebody else has put there is never taken for one of them.

use std::time::Instant;

use mongodb::bson::{RawDocumentBuf, doc};
use mongodb::error::{Error, ErrorKind, TRANSIENT_TRANSACTION_ERROR};
use mongodb::options::ReadConcern;

use super::super::gate::Again;
use super::super::source::{FAILOVER, majority};
use super::Mover;
use super::delete::lost;
use crate::engines::mongodb::{MongoError, Stage, is_of_the_server};

impl Mover<'_> {
    /// Inserts all of them, or none: where the collection does not take one of them as it is, or has one already.
    pub(super) async fn put_at_once(
        &mut self,
        documents: &[&RawDocumentBuf],
    ) -> Result<bool, Error> {
        let (began, mut again) = (Instant::now(), Again::default());
        loop {
            match self.try_at_once(documents).await {
                Err(error)
                    if error.contains_label(TRANSIENT_TRANSACTION_ERROR)
                        && began.elapsed() < FAILOVER
                        && !self.source.job.execution.stop.is_now() =>
                {
                    again.tell(&MongoError::of_driver(&error));
                    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
                }
                done => return done,
            }
        }
    }

    async fn try_at_once(&mut self, documents: &[&RawDocumentBuf]) -> Result<bool, Error> {
        self.session
            .start_transaction()
            .read_concern(ReadConcern::snapshot())
            .write_concern(majority())
            .await?;
        let done = self.insert_marked(documents).await;
        if matches!(done, Ok(true)) {
            self.session.commit_transaction().await?;
        } else if let Err(error) = self.session.abort_transaction().await {
            // The server ends by itself what it could not be told to end.
            tracing::debug!(%error, "a transaction could not be aborted");
        }
        done
    }

    async fn insert_marked(&mut self, documents: &[&RawDocumentBuf]) -> Result<bool, Error> {
        let Some(mark) = &self.open else {
            return Ok(false);
        };
        let inserted = self
            .copy
            .insert_many(documents.iter().copied())
            .comment(self.source.comment())
            .session(&mut self.session)
            .await;
        if let Err(error) = inserted {
            return match is_about_documents(&error) {
                true => Ok(false),
                false => Err(error),
            };
        }
        let own = doc! { "_id": &mark.id, "state": Stage::Copying.word() };
        let made = doc! { "$set": { "made": true } };
        let update = self.marks.update_one(own, made).session(&mut self.session);
        match update.await?.matched_count {
            0 => Err(lost()),
            _ => Ok(true),
        }
    }
}

/// Whether the collection has refused a document, whatever the reason, and not the server the transaction.
fn is_about_documents(error: &Error) -> bool {
    if error.contains_label(TRANSIENT_TRANSACTION_ERROR) {
        return false;
    }
    let ErrorKind::InsertMany(report) = error.kind.as_ref() else {
        return false;
    };
    let errors = report.write_errors.as_deref().unwrap_or_default();
    report.write_concern_error.is_none()
        && !errors.is_empty()
        && !errors.iter().any(|error| is_of_the_server(error.code))
}
