//! What is known of each collection: read from the server and from a sample of its documents.

use chrono::{DateTime, Utc};
use mongodb::bson::{Bson, Document, RawDocument, doc};

use crate::engines::EngineError;
use crate::engines::mongodb::{Limit, Session, number};

/// A collection whose documents could be told by their age.
#[derive(Clone, Debug, Default)]
pub(super) struct Collection {
    pub(super) name: String,
    pub(super) bytes: i64,
    pub(super) documents: i64,
    pub(super) indexes: Vec<Index>,
    /// Fields that hold dates in every document looked at.
    pub(super) dates: Vec<String>,
    /// When its first document by `_id` was made, where that tells.
    pub(super) since: Option<DateTime<Utc>>,
    /// Capped, a view, or of time series: nothing goes there one by one.
    pub(super) special: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Index {
    /// The first of its fields, where all documents are in it.
    pub(super) leads: Option<String>,
    /// Its only field, and after how many seconds documents expire.
    pub(super) expires: Option<(String, i64)>,
}

/// The collections by name, and whether they are of a special kind.
pub(super) async fn list(session: &Session) -> Result<Vec<(String, bool)>, EngineError> {
    let command = doc! { "listCollections": 1, "authorizedCollections": false };
    let mut all = Vec::new();
    // Validators may be large, and nothing of them is looked at.
    let read = session.each(
        "looking at collections",
        session.database(),
        command,
        Limit::ASIDE,
        |one| {
            all.extend(listed(&one));
            true
        },
    );
    read.await?;
    all.sort();
    Ok(all)
}

/// The name of a collection, unless it is the server's or maint's own, and whether it is of a special kind.
fn listed(one: &RawDocument) -> Option<(String, bool)> {
    let name = one.get_str("name").ok()?.to_owned();
    let plain = one.get_str("type").is_ok_and(|kind| kind == "collection");
    let options = one.get_document("options").ok();
    let capped = options.is_some_and(|o| o.get_bool("capped").unwrap_or(false));
    let own = name.starts_with("system.") || name.starts_with("maint.");
    (!own).then_some((name, !plain || capped))
}

pub(super) async fn fill(
    session: &Session,
    collection: &mut Collection,
) -> Result<(), EngineError> {
    if collection.special {
        return Ok(());
    }
    let database = session.database();
    let listed = session
        .all(
            "looking at indexes",
            database,
            doc! { "listIndexes": collection.name.as_str() },
            Limit::ASIDE,
        )
        .await?;
    collection.indexes = listed.iter().map(index).collect();
    let of = |pipeline| {
        session.aggregate(
            "looking at a collection",
            database,
            &collection.name,
            pipeline,
            Limit::ASIDE,
        )
    };
    let stats = of(vec![doc! { "$collStats": { "storageStats": {} } }]).await?;
    if let Some(stats) = stats
        .first()
        .and_then(|d| d.get_document("storageStats").ok())
    {
        collection.bytes = number(stats.get("storageSize")).unwrap_or(0);
        collection.documents = number(stats.get("count")).unwrap_or(0);
    }
    // Names of fields and their types, of the newest documents; the values stay on the server.
    let types = of(vec![
        doc! { "$sort": { "_id": -1 } },
        doc! { "$limit": 50 },
        doc! { "$project": { "_id": 0, "f": { "$map": {
            "input": { "$objectToArray": "$$ROOT" },
            "in": { "k": "$$this.k", "t": { "$type": "$$this.v" } },
        } } } },
    ])
    .await?;
    collection.dates = dates(&types);
    let first = of(vec![
        doc! { "$sort": { "_id": 1 } },
        doc! { "$limit": 1 },
        doc! { "$match": { "_id": { "$type": "objectId" } } },
        doc! { "$project": { "_id": 0, "at": { "$toDate": "$_id" } } },
    ])
    .await?;
    collection.since = first
        .first()
        .and_then(|d| d.get_datetime("at").ok())
        .and_then(|at| DateTime::from_timestamp_millis(at.timestamp_millis()));
    Ok(())
}

fn index(document: &Document) -> Index {
    let keys = document.get_document("key").cloned().unwrap_or_default();
    let whole = !document.contains_key("partialFilterExpression")
        && !document.get_bool("hidden").unwrap_or(false)
        && !document.contains_key("collation");
    let first = keys
        .iter()
        .next()
        .filter(|(_, way)| matches!(number(Some(way)), Some(1 | -1)))
        .map(|(name, _)| name.clone());
    Index {
        expires: first
            .clone()
            .zip(number(document.get("expireAfterSeconds")))
            .filter(|_| keys.len() == 1 && whole),
        leads: first.filter(|_| whole),
    }
}

/// Fields that are dates wherever they are, and are in most of the documents.
fn dates(documents: &[Document]) -> Vec<String> {
    let mut seen: Vec<(String, usize, usize)> = Vec::new();
    for document in documents {
        let Ok(fields) = document.get_array("f") else {
            continue;
        };
        for field in fields.iter().filter_map(Bson::as_document) {
            let (Ok(name), Ok(kind)) = (field.get_str("k"), field.get_str("t")) else {
                continue;
            };
            // A dot or a dollar in a name cannot be asked for.
            if name.contains(['.', '$']) {
                continue;
            }
            let date = usize::from(kind == "date");
            match seen.iter_mut().find(|(known, ..)| known == name) {
                Some((_, all, dates)) => {
                    *all += 1;
                    *dates += date;
                }
                None => seen.push((name.to_owned(), 1, date)),
            }
        }
    }
    seen.into_iter()
        .filter(|(_, all, dates)| all == dates && all * 10 >= documents.len() * 9)
        .map(|(name, ..)| name)
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_plain_collection_is_special() {
        let of = |name: &str, kind: &str, capped: bool| {
            let one = doc! { "name": name, "type": kind, "options": { "capped": capped } };
            listed(&mongodb::bson::RawDocumentBuf::try_from(&one).unwrap())
        };
        assert_eq!(of("a", "collection", false), Some(("a".to_owned(), false)));
        assert_eq!(of("a", "collection", true), Some(("a".to_owned(), true)));
        assert_eq!(of("a", "view", false), Some(("a".to_owned(), true)));
        assert_eq!(of("maint.claims", "collection", false), None);
    }

    #[test]
    fn dates_are_told_by_type_not_by_name() {
        let of = |fields: &[(&str, &str)]| {
            let fields: Vec<Document> = fields
                .iter()
                .map(|(k, t)| doc! { "k": *k, "t": *t })
                .collect();
            doc! { "f": fields }
        };
        let documents = [
            of(&[("at", "date"), ("created_at", "string"), ("maybe", "date")]),
            of(&[("at", "date"), ("created_at", "date")]),
        ];
        assert_eq!(dates(&documents), ["at"]);
    }
}
