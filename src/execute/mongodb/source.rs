//! Documents of a walk: read batch by batch, and deleted where they are still
//! what was read.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::TryStreamExt;
use mongodb::bson::{
    Bson, Document, RawBson, RawBsonRef, RawDocument, RawDocumentBuf, Timestamp, doc,
};
use mongodb::error::Error;
use mongodb::options::{Hint, ReadConcern, WriteConcern};
use mongodb::{Client, Collection};

use super::Job;
use super::batch::key_of as key_of_bytes;
use super::gate::Ends;
use crate::engines::mongodb::{MongoError, key};
use crate::plan::mongodb::{Path, Walk, single};

/// How long a step-down may keep a batch from its end.
pub(super) const FAILOVER: Duration = Duration::from_secs(60);

/// How much a batch may hold.
#[derive(Clone, Copy)]
pub(super) struct Most {
    pub(super) documents: i64,
    /// A single document may have more.
    pub(super) bytes: usize,
}

/// What one walk goes through.
pub(super) struct Source<'a> {
    pub(super) job: Job<'a>,
    pub(super) walk: &'a Walk,
    pub(super) client: &'a Client,
    pub(super) collection: Collection<RawDocumentBuf>,
    /// Where documents go, for comments.
    pub(super) to: &'a str,
}

impl<'a> Source<'a> {
    pub(super) fn of(walk: &'a Walk, to: &'a str, job: Job<'a>) -> Self {
        Source {
            job,
            walk,
            client: job.session.client(),
            collection: job.session.raw(&walk.database, &walk.collection),
            to,
        }
    }

    /// The documents behind a place, except those left there; and whether there are more.
    pub(super) async fn read(
        &self,
        ends: Ends,
        after: Option<&Bson>,
        left: &[Bson],
        most: Most,
    ) -> Result<(Vec<RawDocumentBuf>, bool), Error> {
        let walk = self.walk;
        // Nothing comes behind it, and the server takes no range that would be empty.
        if matches!((&walk.path, after), (Path::Ids, Some(Bson::MaxKey))) {
            return Ok((Vec::new(), false));
        }
        let mut filter = walk.filter.document().map_err(Error::custom)?;
        let mut find = match &walk.path {
            Path::Range { field, index } => {
                // The index was in order when the plan was made; an array may have come in since.
                let mut parts = vec![filter];
                parts.extend(single(field));
                if let Some(after) = after {
                    parts.push(doc! { field.as_str(): { "$gte": after.clone() } });
                    if !left.is_empty() {
                        parts.push(doc! { "_id": { "$nin": left.to_vec() } });
                    }
                }
                filter = doc! { "$and": parts };
                self.collection
                    .find(filter)
                    .sort(doc! { field.as_str(): 1 })
                    .hint(Hint::Name(index.clone()))
            }
            Path::Ids => {
                let find = self
                    .collection
                    .find(filter)
                    .sort(doc! { "_id": 1 })
                    .hint(Hint::Keys(doc! { "_id": 1 }));
                match after {
                    Some(after) => find.min(doc! { "_id": after.clone() }),
                    None => find,
                }
            }
        };
        if let Some(limit) = ends.left() {
            find = find.max_time(limit.0);
        }
        let mut cursor = find
            .limit(most.documents + 2)
            .read_concern(ReadConcern::majority())
            .comment(self.comment())
            .await?;
        let (mut documents, mut bytes, mut more) = (Vec::new(), 0, false);
        while let Some(document) = cursor.try_next().await? {
            // The lower bound is part of what it bounds.
            if matches!(walk.path, Path::Ids)
                && after.is_some()
                && value_at(&document, "_id").as_ref() == after
            {
                continue;
            }
            bytes += document.as_bytes().len();
            if documents.len() as i64 >= most.documents
                || (bytes > most.bytes && !documents.is_empty())
            {
                more = true;
                break;
            }
            documents.push(document);
            // Nothing more is fetched than fits: whether there is more, the next look tells.
            if bytes >= most.bytes {
                more = true;
                break;
            }
        }
        Ok((documents, more))
    }

    /// Takes those out of what was read that nobody can ask for, as their `_id` is no valid text, and
    /// gives where they are; and the place to go on from, none at the end.
    pub(super) fn set_aside(
        &self,
        documents: &mut Vec<RawDocumentBuf>,
        after: Option<&Bson>,
    ) -> (BTreeMap<[u8; 32], String>, Option<Bson>) {
        let last = documents.iter().rev().find_map(|d| self.place(d));
        let mut aside = BTreeMap::new();
        documents.retain(|document| {
            let readable = askable_id(document).is_some();
            if !readable {
                let place = self.place(document).map(|place| place.to_string());
                let place = place.map_or_else(String::new, |at| format!(" {at}"));
                aside.insert(
                    key_of_bytes(document),
                    format!("(unreadable, {}{place})", self.along()),
                );
            }
            readable
        });
        // They are met again wherever the walk goes on from their place.
        let stands = documents.is_empty() && last.as_ref() == after;
        (aside, last.filter(|_| !stands))
    }

    /// The field that the walk goes along.
    pub(super) fn along(&self) -> &str {
        match &self.walk.path {
            Path::Range { field, .. } => field.as_str(),
            Path::Ids => "_id",
        }
    }

    /// Where on its way the walk meets a document.
    pub(super) fn place(&self, document: &RawDocumentBuf) -> Option<Bson> {
        value_at(document, self.along())
    }

    pub(super) fn comment(&self) -> Bson {
        Bson::String(format!("{} to {}", self.job.session.name(), self.to))
    }
}

/// The empty timestamps at the top of a document: the server fills them in when it is inserted,
/// but for that of its `_id`.
fn empty_stamps(document: &RawDocumentBuf) -> Document {
    let empty = Timestamp {
        time: 0,
        increment: 0,
    };
    document
        .iter()
        .filter_map(Result::ok)
        .filter(|(_, value)| matches!(value, RawBsonRef::Timestamp(at) if *at == empty))
        .map(|(name, _)| (name.as_str().to_owned(), Bson::Timestamp(empty)))
        .filter(|(name, _)| name != "_id")
        .collect()
}

/// Whether a field of this name can be set by itself.
fn can_be_set(name: &str) -> bool {
    !name.is_empty() && !name.contains(['.', '$'])
}

/// Whether [`stamp`] can put back all that the server fills in.
pub(super) fn can_be_stamped(document: &RawDocumentBuf) -> bool {
    empty_stamps(document).keys().all(|name| can_be_set(name))
}

/// The first release that takes fields by any name.
const ANY_NAME: (u32, u32) = (5, 0);

/// Whether a server of this release refuses a document for what its fields are called.
pub(super) fn is_misnamed_for(release: (u32, u32), document: &RawDocumentBuf) -> bool {
    release < ANY_NAME && has_odd_name(document)
}

fn has_odd_name(document: &RawDocument) -> bool {
    document.iter().filter_map(Result::ok).any(|(name, value)| {
        let name = name.as_str();
        let odd = name.contains('.') || name.starts_with('$');
        odd || match value {
            RawBsonRef::Document(inner) => has_odd_name(inner),
            RawBsonRef::Array(inner) => inner
                .into_iter()
                .filter_map(Result::ok)
                .any(|value| matches!(value, RawBsonRef::Document(inner) if has_odd_name(inner))),
            _ => false,
        }
    })
}

/// Whether a document is another one, but for what the server has filled in where it had empty
/// timestamps when it was inserted.
pub(super) fn is_filled_in(found: &RawDocumentBuf, document: &RawDocumentBuf) -> bool {
    let (found, bytes) = (found.as_bytes(), document.as_bytes());
    if found.len() != bytes.len() || found == bytes {
        return false;
    }
    let mut filled = found.to_vec();
    // The length of the whole comes first.
    let mut at = 4;
    for element in document.iter_elements() {
        let Ok(element) = element else { return false };
        let (name, size) = (element.key().as_str(), element.size());
        // Its type, its name with what ends that, its value.
        let begin = at + 1 + name.len() + 1;
        at = begin + size;
        let empty = matches!(
            element.value(),
            Ok(RawBsonRef::Timestamp(Timestamp {
                time: 0,
                increment: 0
            }))
        );
        if empty
            && name != "_id"
            && let Some(stamp) = filled.get_mut(begin..at)
        {
            stamp.fill(0);
        }
    }
    filled == bytes
}

/// Puts empty timestamps back as they were, in a document that has just been inserted.
pub(super) async fn stamp(
    collection: &Collection<RawDocumentBuf>,
    document: &RawDocumentBuf,
) -> Result<(), Error> {
    let fields = empty_stamps(document).into_iter();
    let fields: Document = fields.filter(|(name, _)| can_be_set(name)).collect();
    let Some(id) = value_at(document, "_id").filter(|_| !fields.is_empty()) else {
        return Ok(());
    };
    collection
        .update_one(doc! { "_id": id }, doc! { "$set": fields })
        .write_concern(majority())
        .await
        .map(drop)
}

pub(super) fn majority() -> WriteConcern {
    let mut concern = WriteConcern::majority();
    concern.w_timeout = Some(FAILOVER);
    concern
}

/// Whether the same may succeed in a moment.
pub(super) fn passes(error: &Error) -> bool {
    MongoError::of_driver(error).is_passing()
}

/// The value at a dotted path. What cannot be read is not there.
pub(super) fn value_at(document: &RawDocumentBuf, path: &str) -> Option<Bson> {
    let mut parts = path.split('.');
    let first = document.get(parts.next()?).ok()??;
    let mut value = Bson::try_from(first).ok()?;
    for part in parts {
        value = match value {
            Bson::Document(inner) => inner.get(part)?.clone(),
            _ => return None,
        };
    }
    Some(value)
}

/// The `_id` of a document as it can be asked for; none where it is no valid text, and where it is another one
/// when it is read and written again, as a list is whose places are not numbered 0, 1, 2, ….
pub(super) fn askable_id(document: &RawDocumentBuf) -> Option<Bson> {
    let raw = document.get("_id").ok()??;
    let id = Bson::try_from(raw).ok()?;
    let again = RawBson::try_from(id.clone()).ok()?;
    let same = match (raw, &again) {
        (RawBsonRef::Document(raw), RawBson::Document(again)) => raw.as_bytes() == again.as_bytes(),
        _ => true,
    };
    same.then_some(id)
}

/// The `_id`, the same for those that the server holds to be the same, as far as that can be told.
pub(super) fn same_id(document: &RawDocumentBuf) -> Option<String> {
    value_at(document, "_id").map(|id| key(&id))
}

/// An `_id` by its value, as [`id_of`] has it of its document.
pub(super) fn key_of(id: &Bson) -> Option<String> {
    let id = RawBson::try_from(id.clone()).ok()?;
    Some(format!("{id:?}"))
}

/// An id, told apart from every other.
pub(super) fn id_of(document: &RawDocumentBuf) -> Option<String> {
    let id = document.get("_id").ok()??;
    Some(format!("{:?}", RawBson::from(id)))
}

/// The id of a session, in hexadecimal digits.
pub(super) fn session_id(id: &Document) -> Option<String> {
    let Some(Bson::Binary(id)) = id.get("id") else {
        return None;
    };
    Some(id.bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    fn stamped(time: u32) -> Bson {
        Bson::Timestamp(Timestamp { time, increment: 0 })
    }

    #[test]
    fn only_an_empty_timestamp_at_the_top_may_have_been_filled_in() {
        let raw = |document: Document| RawDocumentBuf::try_from(&document).unwrap();
        let of = |t: u32, inner: u32, v: i32| {
            raw(
                doc! { "_id": stamped(0), "a.b": stamped(t), "v": v, "in": { "t": stamped(inner) } },
            )
        };
        assert!(is_filled_in(&of(7, 0, 1), &of(0, 0, 1)));
        // The same is not filled in, and neither is one that had a time.
        assert!(!is_filled_in(&of(0, 0, 1), &of(0, 0, 1)));
        assert!(!is_filled_in(&of(8, 0, 1), &of(7, 0, 1)));
        assert!(!is_filled_in(&of(7, 5, 1), &of(0, 0, 1)));
        assert!(!is_filled_in(&of(7, 0, 2), &of(0, 0, 1)));
        let other_id = raw(doc! { "_id": stamped(1), "v": 1 });
        assert!(!is_filled_in(
            &other_id,
            &raw(doc! { "_id": stamped(0), "v": 1 })
        ));
    }
}
