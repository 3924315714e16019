//! Slow operations, as each member's profiler has recorded them, by their
//! shape: which fields are asked for, never which values.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use mongodb::bson::{Bson, DateTime as BsonDate, Document, doc};

use crate::engines::mongodb::{Limit, MongoError, Session, number};

/// Where the profiler of a database writes.
pub(super) const PROFILE: &str = "system.profile";
/// How far back is looked.
pub(super) const HOURS: i64 = 24;
/// Of a collection that somebody has made large, the newest part will do.
const MOST_READ: i64 = 100_000;
/// Shapes that one member answers with, those first that took most.
const MOST_SHAPES: i64 = 100;
/// A shape is for people, and for one line.
const LONGEST: usize = 300;

/// Operations of one shape.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Slow {
    /// Recorded on all members.
    pub(super) calls: i64,
    pub(super) total_ms: i64,
    pub(super) max_ms: i64,
    /// Documents and index entries looked at.
    pub(super) examined: i64,
}

impl Slow {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    pub(super) fn mean_ms(&self) -> f64 {
        self.total_ms as f64 / self.calls.max(1) as f64
    }
}

/// By namespace and shape.
pub(super) type Shapes = BTreeMap<(String, String), Slow>;

/// Adds what one member has recorded of this database.
pub(super) async fn read(
    member: &Session,
    database: &str,
    now: DateTime<Utc>,
    shapes: &mut Shapes,
) -> Result<(), MongoError> {
    let since = BsonDate::from_millis(now.timestamp_millis() - HOURS * 3_600_000);
    // The names of the stages are part of the shape; the server's own hash knows only the first ones.
    let stages = doc! { "$cond": [
        { "$isArray": "$command.pipeline" },
        { "$map": { "input": "$command.pipeline", "as": "stage", "in": {
            "$cond": [{ "$eq": [{ "$type": "$$stage" }, "object"] },
                { "$map": { "input": { "$objectToArray": "$$stage" }, "as": "part", "in": "$$part.k" } }, Bson::Null],
        } } },
        Bson::Null,
    ] };
    let pipeline = vec![
        doc! { "$limit": MOST_READ },
        doc! { "$match": {
            "ts": { "$gte": since },
            "ns": { "$ne": format!("{database}.{PROFILE}") },
            // maint's own work is in its history.
            "appName": { "$not": { "$regex": "^maint " } },
        } },
        doc! { "$group": {
            "_id": { "ns": "$ns", "op": "$op", "hash": "$queryHash", "stages": stages },
            "calls": { "$sum": 1 }, "total": { "$sum": "$millis" }, "max": { "$max": "$millis" },
            "examined": { "$sum": { "$add": [{ "$ifNull": ["$docsExamined", 0] }, { "$ifNull": ["$keysExamined", 0] }] } },
            "command": { "$first": { "$ifNull": ["$originatingCommand", "$command"] } },
        } },
        doc! { "$sort": { "total": -1 } },
        doc! { "$limit": MOST_SHAPES },
    ];
    // The newest first.
    let command = doc! {
        "aggregate": PROFILE, "pipeline": pipeline, "cursor": {}, "allowDiskUse": true,
        "hint": { "$natural": -1 },
    };
    let found = member
        .all(
            "looking at slow operations",
            database,
            command,
            Limit::ASIDE,
        )
        .await?;
    for group in &found {
        let id = group.get_document("_id").cloned().unwrap_or_default();
        let empty = Document::new();
        let command = group.get_document("command").unwrap_or(&empty);
        let text = shape(id.get_str("op").unwrap_or_default(), command);
        let ns = id.get_str("ns").unwrap_or_default().to_owned();
        let of = |key: &str| number(group.get(key)).unwrap_or(0);
        let slow = shapes.entry((ns, text)).or_default();
        slow.calls += of("calls");
        slow.total_ms += of("total");
        slow.max_ms = slow.max_ms.max(of("max"));
        slow.examined += of("examined");
    }
    Ok(())
}

/// An operation without its values.
fn shape(op: &str, command: &Document) -> String {
    let first = command.keys().next().map_or("", String::as_str);
    let filter = |key: &str| command.get(key).map(of_filter).unwrap_or_default();
    let text = match (op, first) {
        ("update" | "remove", _) => format!("{op} {}", filter("q")),
        ("insert", _) => "insert".to_owned(),
        (_, "find") => {
            let sort = match command.get_document("sort") {
                Ok(sort) if !sort.is_empty() => format!(" sort {}", keys(sort)),
                _ => String::new(),
            };
            format!("find {}{sort}", filter("filter"))
        }
        (_, "aggregate") => {
            let stages = command.get_array("pipeline").map(Vec::as_slice);
            let stages = stages.unwrap_or_default().iter();
            let stages: Vec<String> = stages.filter_map(Bson::as_document).map(stage).collect();
            format!("aggregate [{}]", stages.join(", "))
        }
        (_, "count" | "findAndModify" | "findandmodify") => format!("{first} {}", filter("query")),
        (_, "distinct") => format!(
            "distinct {} {}",
            command.get_str("key").unwrap_or_default(),
            filter("query")
        ),
        // What the profiler has cut off.
        (_, "" | "$truncated") => op.to_owned(),
        (_, other) => other.to_owned(),
    };
    let text = match op {
        "getmore" => format!("getMore of {text}"),
        _ => text,
    };
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

fn stage(stage: &Document) -> String {
    let Some((name, value)) = stage.iter().next() else {
        return "{}".to_owned();
    };
    match (name.as_str(), value) {
        ("$match", value) => format!("$match {}", of_filter(value)),
        ("$sort", Bson::Document(sort)) => format!("$sort {}", keys(sort)),
        _ => name.clone(),
    }
}

/// Names and ways of a sort.
fn keys(sort: &Document) -> String {
    let keys: Vec<String> = sort
        .iter()
        .map(|(name, way)| match number(Some(way)) {
            Some(way @ (1 | -1)) => format!("{name}: {way}"),
            _ => format!("{name}: ?"),
        })
        .collect();
    format!("{{{}}}", keys.join(", "))
}

/// Operators and fields of a condition.
fn of_filter(value: &Bson) -> String {
    match value {
        Bson::Document(document) => {
            let parts: Vec<String> = document
                .iter()
                .map(|(key, value)| match key.as_str() {
                    "$and" | "$or" | "$nor" | "$not" | "$elemMatch" => {
                        format!("{key}: {}", of_filter(value))
                    }
                    // What an operator is given is a value, whatever it looks like.
                    _ if key.starts_with('$') => format!("{key}: ?"),
                    _ => match value {
                        Bson::Document(inner) if operators(inner) => {
                            format!("{key}: {}", of_filter(value))
                        }
                        _ => format!("{key}: ?"),
                    },
                })
                .collect();
            format!("{{{}}}", parts.join(", "))
        }
        Bson::Array(values) => {
            let mut parts: Vec<String> = values.iter().map(of_filter).collect();
            parts.dedup();
            format!("[{}]", parts.join(", "))
        }
        _ => "?".to_owned(),
    }
}

/// `{$gt: …}`, not a document to be equal to, whose keys are data.
fn operators(document: &Document) -> bool {
    !document.is_empty() && document.keys().all(|key| key.starts_with('$'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_has_fields_and_operators_and_no_value() {
        let secret = "secret";
        let find = doc! {
            "find": "users",
            "filter": { "mail": secret, "age": { "$gt": 7, "$lt": 9 }, "tags": { "$in": [secret, "b"] },
                "$or": [{ "a": 1 }, { "a": 2 }, { "b": { "secret": 1 } }], "name": { "$regex": secret } },
            "sort": { "age": -1, "score": { "$meta": secret } },
        };
        assert_eq!(
            shape("query", &find),
            "find {mail: ?, age: {$gt: ?, $lt: ?}, tags: {$in: ?}, $or: [{a: ?}, {b: ?}], name: {$regex: ?}} sort {age: -1, score: ?}"
        );
        let aggregate = doc! { "aggregate": "users", "pipeline": [
            { "$match": { "$expr": { "$eq": ["$a", secret] } } }, { "$group": { "_id": secret } }, { "$sort": { "n": 1 } },
        ] };
        assert_eq!(
            shape("command", &aggregate),
            "aggregate [$match {$expr: ?}, $group, $sort {n: 1}]"
        );
        let update = doc! { "q": { "_id": 7 }, "u": { "$set": { "x": secret } } };
        assert_eq!(shape("update", &update), "update {_id: ?}");
        assert_eq!(
            shape("getmore", &find)
                .split(' ')
                .take(3)
                .collect::<Vec<_>>(),
            ["getMore", "of", "find"]
        );
        assert_eq!(shape("command", &doc! { "$truncated": secret }), "command");
        let long = doc! { "count": "c", "query": { "x".repeat(400): 1 } };
        assert_eq!(shape("command", &long).chars().count(), LONGEST + 1);
    }
}
