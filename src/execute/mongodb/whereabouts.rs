//! Where the documents of a batch are whose transaction has no mark: its files go only where
//! nothing would be lost with them. The mark alone does not say it: whoever may write to the database
//! may remove one, and a history that is put back from a backup asks for marks that are no more.

use std::collections::HashSet;

use futures_util::TryStreamExt;
use mongodb::bson::{Bson, RawDocumentBuf, doc};
use mongodb::options::ReadConcern;

use super::Job;
use super::files::{sha256, unpack};
use super::known::aside;
use super::source::{same_id, value_at};
use crate::engines::EngineError;
use crate::engines::mongodb::{in_parts, key};
use crate::engines::storage::{Storage, StorageError};
use crate::plan::archived::{ArchivedFile, MANIFEST, Manifested};
use crate::plan::mongodb::Manifest;
use crate::values::with_causes;

/// What files hold that are of a batch without a mark.
pub(super) enum Whereabouts {
    /// All of it is in the collection, or there are no files.
    InCollection,
    /// It is known that it has left the collection: the manifest beside the files says so.
    Archived,
    /// So many documents that are nowhere else.
    OnlyHere(Vec<String>),
    /// They could not be read, and why.
    Unseen(String),
}

/// Looks for the documents of a batch.
///
/// # Errors
/// When the server cannot be asked.
pub(super) async fn of(
    storage: &Storage,
    manifest: &Manifest,
    job: Job<'_>,
) -> Result<Whereabouts, EngineError> {
    match storage.get(&manifest.path(), MANIFEST).await {
        Ok(content) => {
            let beside = serde_json::from_slice::<Manifest>(&content).ok();
            if beside.is_some_and(|beside| beside.id == manifest.id && beside.settled) {
                return Ok(Whereabouts::Archived);
            }
        }
        Err(error) if error.is_about_the_file() => {}
        Err(error) => return Ok(Whereabouts::Unseen(with_causes(&error))),
    }
    let mut lone = Vec::new();
    for file in &manifest.files {
        let ids = match ids_in(storage, manifest, file).await {
            Ok(ids) => ids,
            Err(why) => return Ok(Whereabouts::Unseen(why)),
        };
        let there = there(manifest, &ids, job).await?;
        let gone = ids.iter().filter(|id| !there.contains(&key(id)));
        lone.extend(gone.map(ToString::to_string));
    }
    Ok(match lone.is_empty() {
        true => Whereabouts::InCollection,
        false => Whereabouts::OnlyHere(lone),
    })
}

/// The ids of the documents in a file; none where it was never written.
async fn ids_in(
    storage: &Storage,
    manifest: &Manifest,
    file: &ArchivedFile,
) -> Result<Vec<Bson>, String> {
    let content = match storage.get(&file.path, file.size()).await {
        Ok(content) => content,
        Err(error) => {
            let said = |error: &StorageError| with_causes(error);
            if !error.is_about_the_file() {
                return Err(said(&error));
            }
            // What is there and cannot be read may be all there is of them.
            return match storage.look(&file.path, file.size()).await {
                Err(StorageError::Odd { .. }) => Err(said(&error)),
                Err(other) if !other.is_about_the_file() => Err(said(&other)),
                Ok(()) => Err(said(&error)),
                Err(_) => Ok(Vec::new()),
            };
        }
    };
    let full = storage.full(&file.path);
    let (format, fields) = (manifest.format, manifest.columns.clone());
    let written = file.sha256.clone();
    let read = move || -> Result<Vec<Bson>, String> {
        let found = sha256(&content);
        if found != written {
            return Err(format!("its SHA-256 is {found}, not {written} as written"));
        }
        let mut ids = Vec::new();
        for document in unpack(content, format, &fields)? {
            // One whose id cannot be read is never deleted by a batch.
            ids.extend(value_at(&document?, "_id"));
        }
        Ok(ids)
    };
    let read = aside(read).await.map_err(|error| with_causes(&error))?;
    read.map_err(|why| format!("{full}: {why}"))
}

/// Which of these ids documents of the collection have.
async fn there(
    manifest: &Manifest,
    ids: &[Bson],
    job: Job<'_>,
) -> Result<HashSet<String>, EngineError> {
    let collection = job.session.raw(&manifest.database, &manifest.collection);
    let mut found = HashSet::new();
    for some in in_parts(ids) {
        let find = async {
            let cursor = collection
                .find(doc! { "_id": { "$in": some.to_vec() } })
                .projection(doc! { "_id": 1 })
                .read_concern(ReadConcern::majority())
                .comment(Bson::String(job.session.name().to_owned()))
                .await?;
            cursor.try_collect::<Vec<RawDocumentBuf>>().await
        };
        let some = find.await.map_err(|error| {
            let doing = "looking for the documents of a batch";
            let session = job.session;
            session.error(doing, "find", &manifest.source(), &error)
        })?;
        found.extend(some.iter().filter_map(same_id));
    }
    Ok(found)
}
