//! Brings archived documents back into a collection.

mod bringing;
mod kept_out;

use std::collections::HashMap;

use mongodb::bson::RawDocumentBuf;

use self::bringing::Bringing;
use self::kept_out::KeptOut;
use super::copies::named;
use super::files::{compare, unpack};
use super::source::{is_filled_in, same_id, value_at};
use super::versions::Versions;
use crate::engines::EngineError;
use crate::engines::mongodb::{Session, namespace};
use crate::engines::storage::Storage;
use crate::plan::archived::Manifested;
use crate::plan::mongodb::{Manifest, Restored};
use crate::values::{several_do, wall_clock, with_causes};

/// What the client calls itself on the server.
pub(crate) const NAME: &str = "maint restore";
/// What is brought back at once.
const MOST: usize = 1_000;
const MOST_BYTES: usize = 8 << 20;

/// A collection that documents come back into.
pub(crate) struct Place {
    /// Its database.
    pub(crate) database: String,
    /// Its name.
    pub(crate) collection: String,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&namespace(&self.database, &self.collection))
    }
}

/// The identity of a collection; none where it does not exist.
///
/// # Errors
/// When documents would not stay in it as they are, or the server cannot be asked.
pub(crate) async fn look(session: &Session, into: &Place) -> Result<Option<String>, EngineError> {
    let held = session.held(&into.database, &into.collection).await?;
    let unfit = match &held {
        Some(held) => held.unfit.clone(),
        None => session.unmakeable(),
    };
    if let Some(why) = unfit {
        return Err(files(format!(
            "{into} cannot hold what comes back: {why}; restore into another collection"
        )));
    }
    Ok(held.and_then(|held| held.uuid))
}

/// Whether documents of a manifest are back in this very collection, or were
/// put back into the one that they came from.
///
/// # Errors
/// When the server cannot be asked.
pub(crate) async fn is_back(
    session: &Session,
    manifest: &Manifest,
    into: &Place,
) -> Result<Option<Restored>, EngineError> {
    for mark in &manifest.restored {
        let marked = Place {
            database: mark.database.clone(),
            collection: mark.collection.clone(),
        };
        let here = marked.to_string() == into.to_string();
        if !here && marked.to_string() != manifest.source() {
            continue;
        }
        // One that was dropped and made anew is another.
        let uuid = session.identity(&marked.database, &marked.collection);
        if matches!(uuid.await, Ok(Some(uuid)) if uuid == mark.uuid) {
            return Ok(Some(mark.clone()));
        }
    }
    Ok(None)
}

/// Copies the documents of these manifests into a collection. Those that are
/// there already as they are archived stay, so that a restore that was broken
/// off can be given again; where others of the same `_id` are there, nothing
/// is restored. `note` writes down, at the end, that they are back. Gives how
/// many came back now.
///
/// # Errors
/// When a file is missing or not what its manifest says, or the server refuses.
pub(crate) async fn restore(
    session: &Session,
    into: &Place,
    manifests: &[Manifest],
    note: impl AsyncFnOnce(Restored) -> Result<(), EngineError>,
) -> Result<i64, EngineError> {
    look(session, into).await?;
    let collection = session.raw(&into.database, &into.collection);
    let bringing = Bringing {
        session,
        into,
        collection,
    };
    // All files are looked at before the first document comes back.
    let mut differing = Vec::new();
    let mut versions = Versions::of(manifests);
    each(manifests, true, async |_, documents| {
        let all: Vec<&RawDocumentBuf> = documents.iter().collect();
        let there = bringing.there(&all).await?;
        differing.extend(others(&all, &there));
        versions.see(&documents);
        Ok(())
    })
    .await?;
    if !differing.is_empty() {
        return Err(files(format!(
            "nothing was restored: {into} holds other documents with the same _id as {} of those to come back: {}; restore into another collection",
            differing.len(),
            named(&differing)
        )));
    }
    if manifests.len() > 1 {
        alone(manifests, versions).await?;
    }
    let (mut back, mut kept_out) = (0, KeptOut::default());
    each(manifests, false, async |_, documents| {
        back += bringing.insert(&documents, &mut kept_out).await?;
        Ok(())
    })
    .await?;
    if !kept_out.ids.is_empty() {
        let all = manifests.iter().map(|manifest| manifest.rows).sum();
        return Err(files(kept_out.told(into, all)));
    }
    let Some(uuid) = look(session, into).await? else {
        return Err(files(format!("{into} has vanished")));
    };
    let mark = Restored {
        at: wall_clock(),
        database: into.database.clone(),
        collection: into.collection.clone(),
        uuid,
    };
    note(mark).await?;
    Ok(back)
}

/// Makes sure that no two of the archives have other versions of one document: one of the two would
/// come back, and the other would be in its way.
async fn alone(manifests: &[Manifest], mut versions: Versions) -> Result<(), EngineError> {
    while versions.goes_on() {
        each(manifests, false, async |_, documents| {
            versions.see(&documents);
            Ok(())
        })
        .await?;
    }
    if !versions.differ() {
        return Ok(());
    }
    each(manifests, false, async |archive, documents| {
        versions.look_for(archive, &documents);
        Ok(())
    })
    .await?;
    Err(files(format!(
        "nothing was restored: {} in several of these archives, with other content in each, and a collection holds one document of an `_id`: {}; restore the archives one by one, each by its id, into collections of their own",
        several_do(versions.count(), "document", ("is", "are")),
        versions.told(manifests)
    )))
}

/// Gives the documents of all files, a few at a time, each with the place of its archive.
async fn each(
    manifests: &[Manifest],
    examine: bool,
    mut with: impl AsyncFnMut(usize, Vec<RawDocumentBuf>) -> Result<(), EngineError>,
) -> Result<(), EngineError> {
    for (archive, manifest) in manifests.iter().enumerate() {
        let storage = Storage::open(&manifest.storage).map_err(|e| caused(&e))?;
        for file in &manifest.files {
            let content = storage.get(&file.path, file.size()).await;
            let content = content.map_err(|e| caused(&e))?;
            let wrong = |why: String| files(format!("{}: {why}", storage.full(&file.path)));
            let (format, fields) = (manifest.format, &manifest.columns);
            if examine {
                compare(content.clone(), file, format, fields, None).map_err(wrong)?;
            } else if super::files::sha256(&content) != file.sha256 {
                return Err(wrong("it was changed meanwhile".to_owned()));
            }
            let mut documents = unpack(content, format, fields).map_err(wrong)?;
            let mut next = documents.next().transpose().map_err(wrong)?;
            while next.is_some() {
                let (mut some, mut bytes) = (Vec::new(), 0);
                while let Some(document) = next.take() {
                    bytes += document.as_bytes().len();
                    let full = some.len() >= MOST || bytes > MOST_BYTES;
                    if full && !some.is_empty() {
                        next = Some(document);
                        break;
                    }
                    some.push(document);
                    next = documents.next().transpose().map_err(wrong)?;
                }
                with(archive, some).await?;
            }
        }
    }
    Ok(())
}

/// The ids of documents of which others are there; one that only lacks its empty timestamps is of a
/// restore that was broken off.
fn others(documents: &[&RawDocumentBuf], there: &HashMap<String, RawDocumentBuf>) -> Vec<String> {
    documents
        .iter()
        .filter_map(|document| {
            let found = there.get(&same_id(document)?)?;
            let shown = || value_at(document, "_id").map(|id| id.to_string());
            (found.as_bytes() != document.as_bytes() && !is_filled_in(found, document))
                .then(|| shown().unwrap_or_default())
        })
        .collect()
}

/// What is wrong with the files of a manifest, if anything.
pub(crate) async fn problem(manifest: &Manifest) -> Option<String> {
    let storage = match Storage::open(&manifest.storage) {
        Ok(storage) => storage,
        Err(error) => return Some(with_causes(&error)),
    };
    for file in &manifest.files {
        let content = match storage.get(&file.path, file.size()).await {
            Ok(content) => content,
            Err(error) => return Some(with_causes(&error)),
        };
        if let Err(why) = compare(content, file, manifest.format, &manifest.columns, None) {
            return Some(format!("{}: {why}", storage.full(&file.path)));
        }
    }
    None
}

fn files(message: String) -> EngineError {
    EngineError::Files { message }
}

fn caused(error: &dyn std::error::Error) -> EngineError {
    files(with_causes(error))
}
