//! Where documents come from that are in the archive already: an equal one that another collection
//! may have put there is no copy of ours, and who had it would be lost with the original.

use super::super::batch::BatchError;
use super::Mover;
use crate::engines::mongodb::{ArchiveSource, MARKS, MongoError, namespace};

/// What is known of the sources of an archive.
pub(super) enum Origins {
    /// This one alone puts documents there.
    Own,
    /// Others do, too.
    Others(Vec<String>),
    /// Nobody may write down who does.
    Unknown,
    /// More than are looked at are written down, in this collection.
    TooMany(String),
}

impl Origins {
    /// Whether a document that was there before may be from somewhere else.
    pub(super) fn are_doubtful(&self) -> bool {
        match self {
            Origins::Own => false,
            Origins::Others(_) | Origins::Unknown | Origins::TooMany(_) => true,
        }
    }

    /// For whom it may have been put there, for people.
    pub(super) fn told(&self) -> String {
        match self {
            Origins::Own => String::new(),
            Origins::Others(all) => all.join(", "),
            Origins::Unknown => "nobody may write down whom, in `maint.archives` there".to_owned(),
            Origins::TooMany(place) => format!(
                "{place} names more than are looked at: others than maint have written there, remove what is none of its"
            ),
        }
    }
}

impl Mover<'_> {
    /// Writes down, once, that documents of this collection go into that one.
    pub(super) async fn note_source(&mut self, into: &str) -> Result<(), BatchError> {
        if self.noted.as_ref().is_some_and(|(noted, _)| noted == into) {
            return Ok(());
        }
        let source = self.own().await?;
        let there = self.there();
        let marked = there.mark_source(&self.into.database, into, &source);
        let known = match marked.await {
            Ok(()) => Some(source),
            // A role may be for the archive's collection alone.
            Err(MongoError::Unauthorized { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        self.noted = Some((into.to_owned(), known));
        Ok(())
    }

    async fn own(&self) -> Result<ArchiveSource, MongoError> {
        let (job, walk) = (self.source.job, self.source.walk);
        let uuid = job.session.identity(&walk.database, &walk.collection);
        Ok(ArchiveSource {
            target: job.execution.target.clone(),
            set: job.session.server.set.clone(),
            database: walk.database.clone(),
            collection: walk.collection.clone(),
            // Documents of a collection that is no more are not deleted either.
            uuid: uuid.await?.unwrap_or_default(),
            marks: Some(job.session.database().to_owned()),
        })
    }

    /// Who puts documents there.
    pub(super) async fn origins(&self, into: &str) -> Result<Origins, BatchError> {
        let Some((_, Some(own))) = &self.noted else {
            return Ok(Origins::Unknown);
        };
        let there = self.there();
        let (all, more) = there.sources_of(&self.into.database, into).await?;
        if more {
            return Ok(Origins::TooMany(namespace(&self.into.database, MARKS)));
        }
        let others: Vec<String> = all
            .iter()
            .filter(|source| !source.is_same(own))
            .map(ArchiveSource::shown)
            .collect();
        Ok(match others.is_empty() {
            true => Origins::Own,
            false => Origins::Others(others),
        })
    }
}
