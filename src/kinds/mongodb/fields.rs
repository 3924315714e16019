//! Whether any document has the fields that a rule or a check names: a misspelt one keeps nothing,
//! and matches nothing, or everything.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mongodb::bson::{Document, doc};
use serde_json::json;

use super::common::Collection;
use crate::engines::EngineError;
use crate::engines::mongodb::{Limit, Session};
use crate::plan::{Memory, Moment};

/// How long a field may be looked for in a whole collection.
const LOOKING: Limit = Limit(Duration::from_secs(10));

/// Whether any document has a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// One has, with a value that can be what it is compared with.
    Somewhere,
    /// Those that have it have values of other types.
    Otherwise,
    /// None has.
    Nowhere,
    /// Nobody could look at all of them in time.
    Unknown,
}

/// The types of values that a field is compared with, as `$type` takes them; none where it may be
/// anything.
pub(super) type Kinds = Option<BTreeSet<&'static str>>;

/// Which of these fields any document has. A field that none has is left out where an index or the
/// schema of the collection names it, since somebody knows it, where it is null for now, and where
/// there is no document at all.
pub(super) async fn look(
    db: &Session,
    (database, name): (&str, &str),
    collection: &Collection,
    fields: Vec<(String, Kinds)>,
) -> Result<BTreeMap<String, Seen>, EngineError> {
    let mut seen = BTreeMap::new();
    for (field, kinds) in fields {
        let one = match of_field(db, (database, name), &field, &kinds).await {
            Ok(Some(Seen::Nowhere)) if is_known(collection, &field) => None,
            Ok(one) => one,
            Err(EngineError::Mongo(error)) if error.is_out_of_time() => Some(Seen::Unknown),
            Err(error) => return Err(error),
        };
        seen.extend(one.map(|one| (field, one)));
    }
    let unseen = seen.values().any(|one| *one != Seen::Somewhere);
    if unseen && !find(db, database, name, doc! {}).await? {
        seen.clear();
    }
    Ok(seen)
}

/// Whether any document meets a filter, as far as can be seen in time; none where there is no
/// document at all.
pub(super) async fn try_out(
    db: &Session,
    (database, name): (&str, &str),
    filter: Document,
) -> Result<Option<Seen>, EngineError> {
    match find(db, database, name, filter).await {
        Ok(true) => Ok(Some(Seen::Somewhere)),
        Ok(false) => {
            let any = find(db, database, name, doc! {}).await?;
            Ok(any.then_some(Seen::Nowhere))
        }
        Err(EngineError::Mongo(error)) if error.is_out_of_time() => Ok(Some(Seen::Unknown)),
        Err(error) => Err(error),
    }
}

/// None where the field is null wherever it is.
async fn of_field(
    db: &Session,
    (database, name): (&str, &str),
    field: &str,
    kinds: &Kinds,
) -> Result<Option<Seen>, EngineError> {
    let there = doc! { "$exists": true };
    let Some(kinds) = kinds else {
        return Ok(Some(
            match find(db, database, name, doc! { field: there }).await? {
                true => Seen::Somewhere,
                false => Seen::Nowhere,
            },
        ));
    };
    let kinds: Vec<&str> = kinds.iter().copied().collect();
    if find(db, database, name, doc! { field: { "$type": kinds } }).await? {
        return Ok(Some(Seen::Somewhere));
    }
    let other = doc! { "$exists": true, "$not": { "$type": "null" } };
    if find(db, database, name, doc! { field: other }).await? {
        return Ok(Some(Seen::Otherwise));
    }
    let null = find(db, database, name, doc! { field: there }).await?;
    Ok((!null).then_some(Seen::Nowhere))
}

async fn find(
    db: &Session,
    database: &str,
    name: &str,
    filter: Document,
) -> Result<bool, EngineError> {
    let find = doc! {
        "find": name, "filter": filter, "limit": 1, "singleBatch": true, "projection": { "_id": 1 },
    };
    let doing = "looking for documents with a field";
    // What is found is not read: its `_id` may be no valid text.
    let found = db.all_raw(doing, database, find, LOOKING).await?;
    Ok(!found.is_empty())
}

/// Whether an index or the schema of the collection names a field, one above it or one below.
fn is_known(collection: &Collection, field: &str) -> bool {
    let below = |outer: &str, inner: &str| {
        inner
            .strip_prefix(outer)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    let mut keys = collection.indexes.iter().flat_map(|index| &index.keys);
    if field == "_id" || keys.any(|(key, _)| below(field, key)) {
        return true;
    }
    let schema = collection.options.get_document("validator").ok();
    let mut schema = schema.and_then(|of| of.get_document("$jsonSchema").ok());
    field.split('.').all(|part| {
        schema = schema
            .and_then(|of| of.get_document("properties").ok())
            .and_then(|of| of.get_document(part).ok());
        schema.is_some()
    })
}

/// Whether any document had the field in an earlier run: then it is spelt as it should be.
pub(super) fn was_seen(at: &Moment, object: &str, field: &str, kinds: &Kinds) -> bool {
    at.memories.contains_key(&key(object, field, kinds))
}

/// That a document has the field.
pub(super) fn memory(object: &str, field: &str, kinds: &Kinds) -> Memory {
    Memory {
        key: key(object, field, kinds),
        value: json!(true),
    }
}

fn key(object: &str, field: &str, kinds: &Kinds) -> String {
    match kinds {
        None => format!("field {field} of {object}"),
        Some(kinds) => format!("field {field} of {object} as {}", listed(kinds)),
    }
}

/// Types, for people.
pub(super) fn listed(kinds: &BTreeSet<&'static str>) -> String {
    kinds.iter().copied().collect::<Vec<_>>().join(" or ")
}

/// The types of one and of the other.
pub(super) fn both(one: Kinds, other: Kinds) -> Kinds {
    let (one, other) = (one?, other?);
    Some(one.into_iter().chain(other).collect())
}
