//! Copies of batches that have not come to their end: their originals live, and the batch may take them back.
//! Neither do they prove anything, nor may another archive take them for documents.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use futures_util::TryStreamExt;
use mongodb::Collection;
use mongodb::bson::{Document, RawDocumentBuf, doc};
use mongodb::error::Error;
use mongodb::options::ReadConcern;

use super::Job;
use super::batch::BatchError;
use super::copies::{named, open};
use super::source::{Source, id_of, key_of};
use crate::engines::mongodb::{
    ArchiveSource, MARKS, MongoError, Session, Stage, copies_of, namespace,
};
use crate::plan::mongodb::Walk;
use crate::plan::{Finding, Severity};
use crate::values::{several, several_do, with_causes};

/// More databases of one server are not searched for marks; of those that put documents here it is written down where
/// theirs are.
const MOST: usize = 1_000;

/// Where marks of batches are looked for that put documents into the collection that a step archives.
#[derive(Default)]
pub(super) struct Watch {
    /// Databases of this server that have marks; none before they were looked for.
    databases: Option<BTreeSet<String>>,
    /// Other targets of the configuration, from which documents come.
    targets: BTreeMap<String, Session>,
    /// Whose marks named documents that were left.
    said: BTreeSet<String>,
    /// Whose marks could not be read, and why.
    unread: BTreeMap<String, String>,
}

impl Watch {
    /// Takes those out of what was read that a batch of another archive has put there, and which it may take
    /// back: it is at work, or was broken off. Marks are written before the copies are seen, and so they are looked
    /// at behind them.
    pub(super) async fn keep_back(
        &mut self,
        source: &Source<'_>,
        documents: &mut Vec<RawDocumentBuf>,
    ) -> Result<Vec<RawDocumentBuf>, BatchError> {
        let (here, walk) = (source.job.session, source.walk);
        let identity = here.identity(&walk.database, &walk.collection).await?;
        let Some(uuid) = identity.filter(|_| !documents.is_empty()) else {
            return Ok(Vec::new());
        };
        let mut databases = match self.databases.take() {
            Some(known) => known,
            None => {
                let (marked, more) = marked(here).await?;
                if more > 0 {
                    let rest = several(more as i64, "more database");
                    let why = format!("only {MOST} are searched");
                    self.unread.insert(format!("{rest} of this server"), why);
                }
                marked
            }
        };
        databases.insert(here.database().to_owned());
        let mut elsewhere: Vec<(String, String)> = Vec::new();
        match here.sources_of(&walk.database, &uuid).await {
            Ok((sources, more)) => {
                for one in &sources {
                    self.follow(one, source.job, &mut databases, &mut elsewhere)
                        .await;
                }
                if more {
                    let all = namespace(&walk.database, MARKS);
                    let why = "it names more sources than are looked at";
                    self.unread.insert(all, why.to_owned());
                }
            }
            Err(error @ MongoError::Unauthorized { .. }) => {
                let all = namespace(&walk.database, MARKS);
                self.unread.insert(all, with_causes(&error));
            }
            Err(error) => return Err(error.into()),
        }
        let mut found = HashSet::new();
        for database in &databases {
            let marks = here.client().database(database).collection(MARKS);
            let asked = named_by(&marks, &uuid, None, documents).await;
            let place = namespace(database, MARKS);
            self.note(asked, here, &place, &mut found)?;
        }
        for (target, database) in elsewhere {
            let Some(there) = self.targets.get(&target) else {
                continue;
            };
            let marks = there.client().database(&database).collection(MARKS);
            let asked = named_by(&marks, &uuid, None, documents).await;
            let place = format!("{} of target {target}", namespace(&database, MARKS));
            let error = |error: &Error| there.error("looking at marks", "find", &place, error);
            match asked {
                Ok(named) if named.is_empty() => {}
                Ok(named) => {
                    self.said.insert(place);
                    found.extend(named);
                }
                Err(why) => {
                    let why = with_causes(&error(&why));
                    self.unread.insert(place, why);
                }
            }
        }
        self.databases = Some(databases);
        let is_free = |d: &RawDocumentBuf| id_of(d).is_none_or(|id| !found.contains(&id));
        let (free, kept) = std::mem::take(documents).into_iter().partition(is_free);
        *documents = free;
        Ok(kept)
    }

    /// Finds where a collection that documents come from has the marks of its batches: on this server, or on another
    /// target of the configuration.
    async fn follow(
        &mut self,
        source: &ArchiveSource,
        job: Job<'_>,
        databases: &mut BTreeSet<String>,
        elsewhere: &mut Vec<(String, String)>,
    ) {
        // Older versions have not written down where, and the target's own database is the usual place.
        let database = source.marks.as_ref().unwrap_or(&source.database);
        let here = source.set == job.session.server.set;
        let known = |name: &str| job.execution.elsewhere.contains_key(name);
        let server = source.target.split('/').next().unwrap_or_default();
        let name = [source.target.as_str(), server]
            .into_iter()
            .find(|n| known(n));
        if here {
            databases.insert(database.clone());
            // Sets of one name may be several.
            if source.target == job.execution.target || name.is_none() {
                return;
            }
        }
        let place = format!("{} of target {}", namespace(database, MARKS), source.target);
        let Some(name) = name.filter(|_| source.target != job.execution.target) else {
            let why = "this configuration has no such target, or another server by its name";
            self.unread.insert(place, why.to_owned());
            return;
        };
        if !self.targets.contains_key(name) {
            if self.unread.contains_key(&place) {
                return;
            }
            match open(name, job).await {
                Ok(session) => {
                    self.targets.insert(name.to_owned(), session);
                }
                Err(error) => {
                    self.unread.insert(place, with_causes(&error));
                    return;
                }
            }
        }
        elsewhere.push((name.to_owned(), database.clone()));
    }

    /// What marks of this server have named; those that may not be read are told.
    fn note(
        &mut self,
        asked: Result<HashSet<String>, Error>,
        here: &Session,
        place: &str,
        found: &mut HashSet<String>,
    ) -> Result<(), BatchError> {
        match asked {
            Ok(named) if named.is_empty() => Ok(()),
            Ok(named) => {
                self.said.insert(place.to_owned());
                found.extend(named);
                Ok(())
            }
            Err(error) => match here.error("looking at marks", "find", place, &error) {
                why @ MongoError::Unauthorized { .. } => {
                    let why = with_causes(&why);
                    self.unread.insert(place.to_owned(), why);
                    Ok(())
                }
                _ => Err(error.into()),
            },
        }
    }

    /// Tells of documents that are copies still, with originals of their own, and of which that is not known.
    pub(super) fn findings(&self, walk: &Walk, copies: &[String]) -> Vec<Finding> {
        let object = namespace(&walk.database, &walk.collection);
        let told = |severity, message| Finding {
            code: "archive.under_way".to_owned(),
            severity,
            object: object.clone(),
            message,
            suggestion: None,
        };
        let mut findings = Vec::new();
        if !copies.is_empty() {
            let many = several_do(copies.len(), "document", ("stays", "stay"));
            let said: Vec<&str> = self.said.iter().map(String::as_str).collect();
            findings.push(told(Severity::Warning, format!(
                "{many} in {object}: another archive has put them there in batches that have not come to their end, as is said by {}, and may take them back. Their originals are still where they came from. Where no such archive is at work, let it run once more; their `_id`: {}",
                said.join(", "),
                named(copies)
            )));
        }
        if !self.unread.is_empty() {
            let unread = self.unread.iter();
            let unread: Vec<String> = unread.map(|(at, why)| format!("{at} ({why})")).collect();
            findings.push(told(Severity::Warning, format!(
                "other archives put documents into {object}, and whether some of them are copies of batches that have not come to their end is not known as far as these could not be read: {}. Such copies would be archived twice. Let the user read there, or let those archives and this one work at different times; where such an archive is no more, remove what `{MARKS}` of {} says of it",
                unread.join("; "),
                walk.database
            )));
        }
        findings
    }
}

/// Databases that our user sees and that have marks; and how many were not looked at.
async fn marked(here: &Session) -> Result<(BTreeSet<String>, usize), MongoError> {
    let mut marked = BTreeSet::new();
    // Who may not list them works in some only: of those that put documents here it is written down which.
    let Ok(all) = here.databases().await else {
        return Ok((marked, 0));
    };
    let more = all.len().saturating_sub(MOST);
    for database in all.into_iter().take(MOST) {
        match here.identity(&database, MARKS).await {
            Ok(Some(_)) => {
                marked.insert(database);
            }
            Ok(None) | Err(MongoError::Unauthorized { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok((marked, more))
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
