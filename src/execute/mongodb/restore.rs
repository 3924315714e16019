//! Brings archived documents back into a collection.

use std::collections::{BTreeMap, HashMap};

use futures_util::TryStreamExt;
use mongodb::Collection;
use mongodb::bson::{Bson, RawDocumentBuf, doc};
use mongodb::error::ErrorKind;
use mongodb::options::ReadConcern;

use super::copies::named;
use super::files::{compare, unpack};
use super::source::{
    can_be_stamped, is_filled_in, is_misnamed_for, majority, same_id, stamp, value_at,
};
use super::versions::Versions;
use crate::engines::EngineError;
use crate::engines::mongodb::{Session, is_of_the_server, namespace};
use crate::engines::storage::Storage;
use crate::plan::archived::Manifested;
use crate::plan::mongodb::{Manifest, Restored};
use crate::values::{several, several_do, wall_clock, with_causes};

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

/// A document of the same value under a unique index is there already.
const UNIQUE: i32 = 11000;

/// Why one document does not come back, where others do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Why {
    /// The server's code: its own words may hold the document.
    Refused(i32),
    /// The server is too old for the name of a field.
    Name,
    /// The server fills in an empty timestamp that cannot be put back.
    Stamp,
    /// Another document has its `_id`.
    Taken,
}

impl Why {
    fn told(self) -> String {
        match self {
            Why::Refused(UNIQUE) => {
                "a unique index keeps a document out, as another one has the same there".to_owned()
            }
            Why::Refused(121) => {
                "the validation rules of the collection keep a document out".to_owned()
            }
            Why::Refused(code) => format!(
                "the server refuses a document (code {code}), as it does where an index cannot hold a value, or versions have other rules for names of fields"
            ),
            Why::Name => "servers before MongoDB 5.0 refuse a document with a field whose name begins with `$` or has a dot".to_owned(),
            Why::Stamp => "the server fills in an empty timestamp at the top of a document, and where the name of its field is empty, begins with `$` or has a dot, it cannot be made empty again".to_owned(),
            Why::Taken => "another document of the same `_id` is there, which somebody has written meanwhile, or the server keeps the document in another form".to_owned(),
        }
    }

    /// What helps.
    fn helps(self) -> &'static str {
        match self {
            Why::Refused(_) | Why::Taken => "restore into another collection",
            Why::Name => "restore into a target that is newer",
            Why::Stamp => "the files of the archive have it whole",
        }
    }
}

/// Documents that do not come back, one by one.
#[derive(Default)]
struct KeptOut {
    ids: BTreeMap<Why, Vec<String>>,
}

impl KeptOut {
    fn add(&mut self, why: Why, document: &RawDocumentBuf) {
        let shown = value_at(document, "_id").map(|id| id.to_string());
        self.ids
            .entry(why)
            .or_default()
            .push(shown.unwrap_or_default());
    }

    /// Which stay out and why, and how many of all came back.
    fn told(&self, into: &Place, all: i64) -> String {
        let out: usize = self.ids.values().map(Vec::len).sum();
        let each = self.ids.iter().map(|(why, ids)| {
            let (told, helps) = (why.told(), why.helps());
            format!("{told}; their `_id`: {}; {helps}", named(ids))
        });
        let each: Vec<String> = each.collect();
        format!(
            "{} not come back into {into}: {}; all others are back ({})",
            several_do(out as i64, "document", ("does", "do")),
            each.join("; "),
            several(all - out as i64, "document")
        )
    }
}

struct Bringing<'a> {
    session: &'a Session,
    into: &'a Place,
    collection: Collection<RawDocumentBuf>,
}

impl Bringing<'_> {
    /// What is there of these documents, by id.
    async fn there(
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
    async fn insert(
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
