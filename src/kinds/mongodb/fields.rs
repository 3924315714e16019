//! Whether any document has the fields that a rule or a check names: a misspelt one keeps nothing,
//! and matches nothing, or everything.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mongodb::bson::{Bson, Document, doc};
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
    Ok(!db.all(doing, database, find, LOOKING).await?.is_empty())
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

/// What a filter makes of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Met {
    /// Whether it may match a document that has none of that name, or of another type.
    pub(super) absent: bool,
    /// What the field is compared with.
    pub(super) kinds: Kinds,
}

/// The fields that a filter names, and what it makes of them.
pub(super) fn named(filter: &Document) -> BTreeMap<String, Met> {
    let mut found = BTreeMap::new();
    of_filter(filter, "", false, &mut found);
    found
}

/// Takes in what else is made of a field.
fn note(found: &mut BTreeMap<String, Met>, path: String, absent: bool, kinds: Kinds) {
    match found.get_mut(&path) {
        Some(met) => {
            met.absent |= absent;
            met.kinds = both(met.kinds.take(), kinds);
        }
        None => {
            found.insert(path, Met { absent, kinds });
        }
    }
}

/// The types of one and of the other.
pub(super) fn both(one: Kinds, other: Kinds) -> Kinds {
    let (one, other) = (one?, other?);
    Some(one.into_iter().chain(other).collect())
}

fn of_filter(filter: &Document, above: &str, negated: bool, found: &mut BTreeMap<String, Met>) {
    for (key, value) in filter {
        match (key.as_str(), value) {
            ("$and" | "$or" | "$nor", Bson::Array(parts)) => {
                for part in parts.iter().filter_map(Bson::as_document) {
                    of_filter(part, above, negated || key == "$nor", found);
                }
            }
            ("$expr", value) => of_expression(value, found),
            (key, value) if !key.starts_with('$') => {
                let path = format!("{above}{key}");
                let inner = value.as_document().and_then(|of| of.get("$elemMatch"));
                if let Some(inner) = inner.and_then(Bson::as_document) {
                    of_filter(inner, &format!("{path}."), negated, found);
                }
                let absent = negated || matches_nothing(value);
                note(found, path, absent, kinds_of(value));
            }
            _ => {}
        }
    }
}

/// Whether a condition on a field is met by a document without it.
fn matches_nothing(condition: &Bson) -> bool {
    let Bson::Document(operators) = condition else {
        return *condition == Bson::Null;
    };
    operators
        .iter()
        .any(|(operator, value)| match (operator.as_str(), value) {
            ("$ne" | "$nin" | "$not", _) => true,
            ("$eq" | "$gte" | "$lte", value) => *value == Bson::Null,
            ("$in", Bson::Array(values)) => values.contains(&Bson::Null),
            ("$exists", Bson::Boolean(exists)) => !exists,
            ("$exists", Bson::Int32(0) | Bson::Int64(0)) => true,
            _ => false,
        })
}

/// The types of what a condition compares a field with.
fn kinds_of(condition: &Bson) -> Kinds {
    let Bson::Document(operators) = condition else {
        return kind_of(condition);
    };
    let each = operators
        .iter()
        .map(|(operator, value)| match (operator.as_str(), value) {
            ("$eq" | "$ne" | "$gt" | "$gte" | "$lt" | "$lte", value) => kind_of(value),
            ("$in" | "$nin", Bson::Array(values)) => {
                values.iter().map(kind_of).reduce(both).flatten()
            }
            ("$not", value) => kinds_of(value),
            _ => None,
        });
    each.reduce(both).flatten()
}

fn kind_of(value: &Bson) -> Kinds {
    let kinds: &[&'static str] = match value {
        Bson::String(_) => &["string"],
        Bson::Int32(_) | Bson::Int64(_) | Bson::Double(_) | Bson::Decimal128(_) => &["number"],
        Bson::Boolean(_) => &["bool"],
        Bson::DateTime(_) => &["date"],
        Bson::ObjectId(_) => &["objectId"],
        _ => return None,
    };
    Some(kinds.iter().copied().collect())
}

/// Paths in an expression. What is not there is less than everything else: nobody knows what it is
/// compared with.
fn of_expression(expression: &Bson, found: &mut BTreeMap<String, Met>) {
    match expression {
        Bson::String(text) => {
            let path = ["$$ROOT.", "$$CURRENT.", "$"]
                .iter()
                .find_map(|start| text.strip_prefix(start));
            if let Some(path) = path.filter(|path| !path.is_empty() && !path.starts_with('$')) {
                note(found, path.to_owned(), true, None);
            }
        }
        Bson::Array(parts) => parts.iter().for_each(|part| of_expression(part, found)),
        Bson::Document(parts) => {
            let parts = parts.iter().filter(|(key, _)| *key != "$literal");
            parts.for_each(|(_, part)| of_expression(part, found));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_wherever_a_filter_names_them() {
        let told = |filter: Document| -> Vec<String> {
            let named = named(&filter).into_iter();
            let shown = |(field, met): (String, Met)| {
                let kinds = met.kinds.map_or("anything".to_owned(), |all| listed(&all));
                match met.absent {
                    true => format!("{field}: {kinds}, or none"),
                    false => format!("{field}: {kinds}"),
                }
            };
            named.map(shown).collect()
        };
        assert_eq!(
            told(doc! { "a": 1, "b.c": { "$gt": "x" }, "$comment": "d" }),
            ["a: number", "b.c: string"]
        );
        assert_eq!(
            told(
                doc! { "$or": [{ "a": Bson::Null }, { "$and": [{ "b": { "$ne": true } }] }], "c": { "$in": [1, Bson::Null] } }
            ),
            [
                "a: anything, or none",
                "b: bool, or none",
                "c: anything, or none"
            ]
        );
        assert_eq!(
            told(
                doc! { "$nor": [{ "a": 1 }, { "a": "x" }], "b": { "$exists": false }, "c": { "$exists": true } }
            ),
            [
                "a: number or string, or none",
                "b: anything, or none",
                "c: anything"
            ]
        );
        assert_eq!(
            told(doc! { "a": { "$elemMatch": { "b": 1 } }, "c": { "$in": ["x", "y"] } }),
            ["a: anything", "a.b: number", "c: string"]
        );
        assert_eq!(
            told(
                doc! { "$expr": { "$lt": ["$a.b", { "$add": ["$$ROOT.c", "$$NOW", { "$literal": "$d" }] }] } }
            ),
            ["a.b: anything, or none", "c: anything, or none"]
        );
    }
}
