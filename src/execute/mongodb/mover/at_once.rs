//! Copies that are made in one transaction with the word that they are the batch's own: in their mark where that is on
//! the same server, beside them on another. Whatever becomes of it, a copy that somebody else has put there is never
//! taken for one of them.

use std::time::Instant;

use mongodb::bson::{Bson, Document, RawDocumentBuf, doc};
use mongodb::error::{Error, ErrorKind, TRANSIENT_TRANSACTION_ERROR};
use mongodb::options::ReadConcern;
use mongodb::{ClientSession, Collection};

use super::super::gate::Again;
use super::super::source::{FAILOVER, majority, session_id};
use super::Mover;
use super::delete::lost;
use crate::engines::mongodb::{CopyMark, MARKS, MongoError, Stage, is_of_the_server};

impl Mover<'_> {
    /// Whether there are transactions where the copies go, and the word may be written there.
    pub(super) fn can_be_at_once(&self) -> bool {
        self.elsewhere.as_ref().is_none_or(|there| {
            let noted = self.noted.as_ref();
            there.server.set.is_some() && noted.is_some_and(|(_, source)| source.is_some())
        })
    }

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
        let Mover {
            source,
            into,
            elsewhere,
            copy,
            marks,
            session,
            open,
            ..
        } = self;
        let Some(mark) = open else {
            return Ok(false);
        };
        let mut away = match elsewhere {
            Some(there) => Some(there.client().start_session().await?),
            None => None,
        };
        let session = away.as_mut().unwrap_or(session);
        session
            .start_transaction()
            .read_concern(ReadConcern::snapshot())
            .write_concern(majority())
            .await?;
        let word = match elsewhere {
            Some(there) => Word::There(there.client().database(&into.database).collection(MARKS)),
            None => Word::Mark(marks),
        };
        let done = insert_marked(copy, documents, source.comment(), (mark, &word), session).await;
        if matches!(done, Ok(true)) {
            let committed = session.commit_transaction().await;
            if let (Err(_), Some(there), Some(id)) =
                (&committed, elsewhere, session_id(session.id()))
            {
                // Whoever asks what became of it would wait for it.
                there.end_session(&id).await;
            }
            committed?;
        } else if let Err(error) = session.abort_transaction().await {
            // The server ends by itself what it could not be told to end.
            tracing::debug!(%error, "a transaction could not be aborted");
        }
        done
    }
}

/// Where the transaction writes that the copies are the batch's own.
enum Word<'a> {
    /// Into the mark of the batch, which is on the same server.
    Mark(&'a Collection<Document>),
    /// Among the marks of the database that the copies go to.
    There(Collection<Document>),
}

async fn insert_marked(
    copy: &Collection<RawDocumentBuf>,
    documents: &[&RawDocumentBuf],
    comment: Bson,
    (mark, word): (&CopyMark, &Word<'_>),
    session: &mut ClientSession,
) -> Result<bool, Error> {
    let inserted = copy
        .insert_many(documents.iter().copied())
        .comment(comment)
        .session(&mut *session)
        .await;
    if let Err(error) = inserted {
        return match is_about_documents(&error) {
            true => Ok(false),
            false => Err(error),
        };
    }
    match word {
        Word::Mark(marks) => {
            let own = doc! { "_id": &mark.id, "state": Stage::Copying.word() };
            let made = doc! { "$set": { "made": true } };
            let update = marks.update_one(own, made).session(session);
            if update.await?.matched_count == 0 {
                return Err(lost());
            }
        }
        Word::There(marks) => {
            marks.insert_one(mark.made_there()).session(session).await?;
        }
    }
    Ok(true)
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
