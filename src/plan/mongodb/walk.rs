//! Work on many documents, as data: which go, how a batch is cut out, and where the walk has to
//! end.

use mongodb::bson::{Bson, Document, doc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Export, shell_json, shell_key, shell_name};
use crate::engines::mongodb::Json;

/// Deals with the documents of one collection that meet a condition, batch by
/// batch, always forward, so that no batch looks again at what an earlier one
/// has dealt with. One that begins in the middle, because an earlier walk was
/// interrupted there, makes up for the part before at its end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Walk {
    /// The database.
    pub database: String,
    /// The collection.
    pub collection: String,
    /// Which documents go.
    pub filter: Json,
    /// The limit of the age in that condition, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age: Option<AgeLimit>,
    /// How a batch is cut out.
    pub path: Path,
    /// Of those, only the ones whose parent is gone.
    pub orphans: Option<Orphans>,
    /// How long a batch should take, in milliseconds; its size follows.
    pub goal_ms: u64,
    /// Documents expected to go, where they were counted.
    pub documents: Option<i64>,
    /// The walk ends before more than this have gone.
    pub most: Option<i64>,
    /// Under which key the place is remembered that the walk has come to.
    pub progress: String,
    /// Where an interrupted walk stopped, as remembered.
    pub start: Option<Json>,
    /// Where the documents are kept before they go, if in a collection.
    pub into: Option<Destination>,
    /// Where they are kept, if in files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<Export>,
}

/// The limit of an age.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AgeLimit {
    /// The field that tells the age.
    pub field: String,
    /// The limit, as the condition has it.
    pub limit: Json,
    /// How it is reckoned, in words.
    pub words: String,
}

impl AgeLimit {
    /// The condition with the words in the place of the limit.
    fn in_words(&self, condition: &Value) -> Value {
        match condition {
            Value::Object(map) => {
                let part = |(key, value): (&String, &Value)| {
                    let is_limit = *key == self.field && value.get("$lt") == Some(&self.limit.0);
                    let mut value = if is_limit {
                        value.clone()
                    } else {
                        self.in_words(value)
                    };
                    if is_limit && let Some(limit) = value.get_mut("$lt") {
                        *limit = Value::String(self.words.clone());
                    }
                    (key.clone(), value)
                };
                Value::Object(map.iter().map(part).collect())
            }
            Value::Array(values) => values.iter().map(|value| self.in_words(value)).collect(),
            other => other.clone(),
        }
    }
}

/// Another collection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Destination {
    /// The target; otherwise the same.
    pub target: Option<String>,
    /// The database.
    pub database: String,
    /// The collection.
    pub collection: String,
}

/// How batches are cut out of a collection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Path {
    /// Ranges of a field, along its index. The condition has to pin the
    /// field's type: values of other types are not in the ranges.
    Range {
        /// The field.
        field: String,
        /// The name of the index.
        index: String,
    },
    /// Every document, in the order of `_id`.
    Ids,
}

/// Documents whose parent is gone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Orphans {
    /// The field that points at the parent; without a value there, there is no parent to miss.
    pub field: String,
    /// The parent's database.
    pub parent_database: String,
    /// The parent's collection.
    pub parent: String,
    /// The field pointed at.
    pub parent_field: String,
    /// The rule itself says how many may go.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub limited: bool,
}

/// Conditions under which a dotted path leads to one value: no part of it is an array. An
/// array of dates matches a comparison where any of them does, and has no single age.
pub fn single(field: &str) -> Vec<Document> {
    let dots = field.match_indices('.').map(|(at, _)| at);
    dots.chain([field.len()])
        .filter_map(|end| field.get(..end))
        // That never is one.
        .filter(|part| *part != "_id")
        .map(|part| doc! { part: { "$not": { "$type": "array" } } })
        .collect()
}

impl Walk {
    /// The condition, within a range of the field that is walked along:
    /// behind `after`, up to and with `until`.
    ///
    /// # Errors
    /// When the condition in the plan is not a document.
    pub fn within(&self, after: Option<&Bson>, until: Option<&Bson>) -> Result<Document, String> {
        let mut parts = vec![Bson::Document(self.filter.document()?)];
        if let Path::Range { field, .. } = &self.path {
            if let Some(after) = after {
                parts.push(Bson::Document(
                    doc! { field.as_str(): { "$gt": after.clone() } },
                ));
            }
            if let Some(until) = until {
                parts.push(Bson::Document(
                    doc! { field.as_str(): { "$lte": until.clone() } },
                ));
            }
        }
        Ok(match parts.len() {
            1 => self.filter.document()?,
            _ => doc! { "$and": parts },
        })
    }

    /// One batch, the same at any time as long as the same documents are meant.
    pub fn at_any_time(&self) -> String {
        let filter = match &self.age {
            Some(age) => Json(age.in_words(&self.filter.0)),
            None => self.filter.clone(),
        };
        self.text_of(&filter)
    }

    /// One batch, as shown to people.
    pub fn text(&self) -> String {
        self.text_of(&self.filter)
    }

    fn text_of(&self, filter: &Json) -> String {
        let within = match &self.path {
            Path::Range { field, .. } => format!("{{{}: {{$gt: …, $lte: …}}}}", shell_key(field)),
            Path::Ids => "{_id: {$in: […]}}".to_owned(),
        };
        let condition = match filter.is_empty() {
            true => within,
            false => format!("{{$and: [{}, {within}]}}", shell_json(filter)),
        };
        if let Some(into) = &self.into {
            return format!(
                "{}.insertMany({}.find({condition})); deleteMany of what was compared, in a transaction",
                shell_name(&into.database, &into.collection),
                shell_name(&self.database, &self.collection)
            );
        }
        if let Some(files) = &self.files {
            return format!(
                "{}.find({condition}) into {}; deleteMany of what was read back, in a transaction",
                shell_name(&self.database, &self.collection),
                files.storage
            );
        }
        format!(
            "{}.deleteMany({condition}, {{writeConcern: {{w: \"majority\"}}}})",
            shell_name(&self.database, &self.collection)
        )
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn no_part_of_a_path_may_be_an_array() {
        let not = |part: &str| doc! { part: { "$not": { "$type": "array" } } };
        assert_eq!(single("_id"), []);
        assert_eq!(single("at"), [not("at")]);
        assert_eq!(single("a.b.c"), [not("a"), not("a.b"), not("a.b.c")]);
        assert_eq!(single("_id.at"), [not("_id.at")]);
    }

    #[test]
    fn a_batch_is_the_condition_within_a_range() {
        let walk = Walk {
            database: "shop".to_owned(),
            collection: "events".to_owned(),
            filter: Json(json!({ "kind": "x" })),
            age: None,
            path: Path::Range {
                field: "at".to_owned(),
                index: "at_1".to_owned(),
            },
            orphans: None,
            goal_ms: 250,
            documents: None,
            most: None,
            progress: "p".to_owned(),
            start: None,
            into: None,
            files: None,
        };
        assert_eq!(walk.within(None, None).unwrap(), doc! { "kind": "x" });
        let (from, to) = (Bson::Int64(5), Bson::Int64(9));
        assert_eq!(
            walk.within(Some(&from), Some(&to)).unwrap(),
            doc! { "$and": [{ "kind": "x" }, { "at": { "$gt": 5_i64 } }, { "at": { "$lte": 9_i64 } }] }
        );
        insta::assert_snapshot!(walk.text(), @r#"db.getSiblingDB("shop").getCollection("events").deleteMany({$and: [{kind: "x"}, {at: {$gt: …, $lte: …}}]}, {writeConcern: {w: "majority"}})"#);
    }
    #[test]
    fn a_limit_that_moves_with_the_time_is_written_in_words() {
        let limit = json!({ "$date": { "$numberLong": "5" } });
        let filter = json!({ "$and": [
            { "a.at": { "$lt": limit } },
            { "b": { "$lt": limit } },
            { "$nor": [{ "a.at": { "$gt": limit } }] },
        ] });
        let age = AgeLimit {
            field: "a.at".to_owned(),
            limit: Json(limit.clone()),
            words: "90d before the run".to_owned(),
        };
        let words = json!({ "$and": [
            { "a.at": { "$lt": "90d before the run" } },
            { "b": { "$lt": limit } },
            { "$nor": [{ "a.at": { "$gt": limit } }] },
        ] });
        assert_eq!(age.in_words(&filter), words);
    }
}
