//! How the age of documents is told: by dates, numbers or ids, of one kind or of several.

use std::time::Instant;

use mongodb::bson::{Bson, Document, doc};

use super::super::age::Age;
use super::{COUNTED, LOOKING, SAMPLE, SAMPLING, TRYING};
use crate::engines::EngineError;
use crate::engines::mongodb::{Limit, Session, counted, counting, number};

/// Every type that a value may be of, as the server names them; but those of no value.
const TYPES: [&str; 19] = [
    "double",
    "string",
    "object",
    "array",
    "binData",
    "objectId",
    "bool",
    "date",
    "regex",
    "dbPointer",
    "javascript",
    "symbol",
    "javascriptWithScope",
    "int",
    "timestamp",
    "long",
    "decimal",
    "minKey",
    "maxKey",
];

/// Whether all that was looked at tells its age in the same way.
pub(super) fn are_of_one_age(types: &[(String, i64)]) -> bool {
    match types {
        [] => true,
        [(kind, _)] => Age::Date.fits(kind) || Age::ObjectId.fits(kind),
        _ => false,
    }
}

/// How many dates and how many ObjectIds there are in a field, each up to a limit: a sample says
/// nothing of a field that few documents have, and something else each time of one that has both.
pub(super) async fn ages(
    db: &Session,
    database: &str,
    collection: &str,
    field: &str,
) -> Result<Option<(i64, i64)>, EngineError> {
    let mut counts = [0, 0];
    for (age, n) in [Age::Date, Age::ObjectId].into_iter().zip(&mut counts) {
        let of_type = doc! { field: { "$type": age.types().to_vec() } };
        let count = doc! { "count": collection, "query": of_type, "limit": COUNTED };
        let doing = "counting documents that tell an age";
        match db.command(doing, database, count, LOOKING).await {
            Ok(answer) => *n = number(answer.get("n")).unwrap_or(0),
            Err(error) if error.is_out_of_time() => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
    let [dates, ids] = counts;
    Ok(Some((dates, ids)))
}

/// Documents whose number is no time that could come, up to a limit; none where that is not to be
/// had in time.
pub(super) async fn timeless(
    db: &Session,
    database: &str,
    collection: &str,
    field: &str,
) -> Result<i64, EngineError> {
    let beyond = [
        doc! { field: f64::NAN },
        doc! { field: { "$lt": -9.0e18 } },
        doc! { field: { "$gt": 9.0e18 } },
    ];
    let query = doc! { "$or": beyond.to_vec() };
    let count = doc! { "count": collection, "query": query, "limit": COUNTED };
    let doing = "counting numbers that are no time";
    match db.command(doing, database, count, TRYING).await {
        Ok(answer) => Ok(number(answer.get("n")).unwrap_or(0)),
        Err(error) if error.is_out_of_time() => Ok(0),
        Err(error) => Err(error.into()),
    }
}

/// Documents that tell no age in this way, by type, as an index tells it; none where that is not to
/// be had in time.
pub(super) async fn ageless(
    db: &Session,
    (database, collection): (&str, &str),
    (field, index): (&str, &str),
    age: Age,
) -> Result<Option<Vec<(String, i64)>>, EngineError> {
    let others: Vec<&str> = TYPES.into_iter().filter(|kind| !age.fits(kind)).collect();
    let none = ("missing or null", doc! { field: Bson::Null });
    // Mostly there is nothing of any other type, which is one question.
    let mut asked = vec![none, ("", doc! { field: { "$type": others.clone() } })];
    let began = Instant::now();
    let mut found = Vec::new();
    while let Some((kind, filter)) = asked.pop() {
        let Some(left) = TRYING.0.checked_sub(began.elapsed()) else {
            return Ok(None);
        };
        let count = counting(collection, filter, Some(index.into()), Some(COUNTED));
        let doing = "counting documents that tell no age";
        match db.command(doing, database, count, Limit(left)).await {
            Ok(answer) => match (counted(&answer), kind) {
                (0, _) => {}
                (_, "") => asked.extend(others.iter().map(|kind| {
                    let of_type = doc! { field: { "$type": kind } };
                    (*kind, of_type)
                })),
                (n, kind) => found.push((kind.to_owned(), n)),
            },
            Err(error) if error.is_out_of_time() => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Some(found))
}

/// Whether any document tells its age in this way; none where that is not to be had in time.
pub(super) async fn tells(
    db: &Session,
    database: &str,
    collection: &str,
    field: &str,
    age: Age,
) -> Result<Option<bool>, EngineError> {
    let filter = doc! { field: { "$type": age.types().to_vec() } };
    let find =
        doc! { "find": collection, "filter": filter, "limit": 1, "projection": { "_id": 1 } };
    let doing = "looking for documents that tell an age";
    match db.all_raw(doing, database, find, LOOKING).await {
        Ok(found) => Ok(Some(!found.is_empty())),
        Err(error) if error.is_out_of_time() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The types in a field, of a sample.
pub(super) async fn types(
    db: &Session,
    database: &str,
    collection: &str,
    field: &str,
) -> Result<Vec<(String, i64)>, EngineError> {
    let of = |chosen: Vec<Document>| {
        let counted = [
            doc! { "$group": { "_id": { "$type": format!("${field}") }, "n": { "$sum": 1 } } },
            doc! { "$sort": { "n": -1, "_id": 1 } },
        ];
        chosen.into_iter().chain(counted).collect::<Vec<_>>()
    };
    let doing = "looking at types";
    let random = of(vec![doc! { "$sample": { "size": SAMPLE } }]);
    let sampled = db.aggregate(doing, database, collection, random, SAMPLING);
    let found = match sampled.await {
        // Where many documents have just gone, chance meets none for long: then the last ones.
        Err(error) if error.is_out_of_time() => {
            let last = vec![doc! { "$sort": { "_id": -1 } }, doc! { "$limit": SAMPLE }];
            db.aggregate(doing, database, collection, of(last), LOOKING)
                .await?
        }
        found => found?,
    };
    Ok(found
        .iter()
        .filter_map(|d| Some((d.get_str("_id").ok()?.to_owned(), number(d.get("n"))?)))
        .collect())
}
