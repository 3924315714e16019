//! Takes back what a batch has copied that did not come to its end.

use mongodb::bson::doc;

use super::super::batch::CLEARING;
use super::super::copies::{Seen, Taken, ended, take_back};
use super::super::source::session_id;
use super::Mover;
use crate::engines::mongodb::{MongoError, kill_operations};
use crate::plan::Finding;

impl Mover<'_> {
    /// Takes back what a batch has copied that did not come to its end, and gives what was found
    /// by doing so. What is left then is for the next run.
    pub(in crate::execute::mongodb) async fn give_back(&mut self) -> Vec<Finding> {
        let give_up = async {
            self.give_up(false).await?;
            if let Some((id, sealed)) = self.done.take() {
                ended(&id, &sealed, self.source.job).await;
            }
            Ok::<_, MongoError>(())
        };
        match tokio::time::timeout(CLEARING, give_up).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "copies of a batch that was broken off stay until the next run");
            }
            Err(_) => {
                tracing::warn!(
                    "copies of a batch that was broken off stay until the next run: they could not be reached"
                );
            }
        }
        std::mem::take(&mut self.findings)
    }

    /// The same for a batch that was broken off in its middle. So many documents had gone; none
    /// where that is not known.
    pub(in crate::execute::mongodb) async fn cut_off(&mut self) -> Option<i64> {
        // What was on its way must not come in after it was looked for.
        let ours = doc! { "command.comment": self.source.comment() };
        let ended = tokio::time::timeout(CLEARING, async {
            kill_operations(self.there(), ours.clone()).await?;
            kill_operations(self.source.job.session, ours).await
        });
        match (self.open.is_some(), ended.await) {
            (_, Ok(Ok(_))) => {}
            // There was nothing under way that could have changed anything.
            (false, _) => return Some(self.went),
            (true, _) => {
                // It stays marked as begun.
                self.open = None;
                return None;
            }
        }
        match tokio::time::timeout(CLEARING, self.give_up(false)).await {
            Ok(Ok(gone)) => Some(self.went.max(gone)),
            Ok(Err(_)) | Err(_) => {
                self.open = None;
                None
            }
        }
    }

    /// Ends what a failed batch may have left open, and takes its copies back; it may be tried `again`. So many
    /// documents have gone by it all the same.
    pub(super) async fn give_up(&mut self, again: bool) -> Result<i64, MongoError> {
        if self.open.is_none() {
            return Ok(0);
        }
        // A commit that failed may have left its transaction open, which would keep the mark from
        // being changed; and the driver aborts none after that.
        let here = self.source.job.session;
        if let Some(id) = session_id(self.session.id()) {
            here.end_session(&id).await;
        }
        let session = here.client().start_session().await;
        self.session = session.map_err(|error| {
            here.error("opening a session", "startSession", here.database(), &error)
        })?;
        let seen = !self.committing;
        self.take_back(seen, again).await
    }

    /// The batch itself has seen `whole` which originals are left, or its mark and what is written down of it tell.
    pub(super) async fn take_back(&mut self, whole: bool, again: bool) -> Result<i64, MongoError> {
        let (Some(mark), Some(sealed)) = (&self.open, &self.sealed) else {
            return Ok(0);
        };
        let job = self.source.job;
        let there = self.elsewhere.as_ref().unwrap_or(job.session);
        let seen = Seen {
            whole,
            erased: Some(&self.vanished),
        };
        let taken: Taken = take_back(job, there, (&mark.id, sealed), &seen).await?;
        let left = taken.left;
        let told = match again {
            true => taken.tried_again(),
            false => taken,
        };
        self.findings.extend(told.findings(mark));
        let gone = mark.copies.len().saturating_sub(left);
        let gone = i64::try_from(gone).unwrap_or(i64::MAX);
        self.open = None;
        Ok(gone)
    }
}
