use mongodb::bson::{Bson, Document};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A document as MongoDB's extended JSON: how filters and pipelines are written
/// in task files and kept in plans.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Json(pub Value);

impl Json {
    /// The document as JSON; types that JSON lacks are written as `{ $date: … }` and the like.
    pub fn of(document: &Document) -> Json {
        Json(serde_json::to_value(document).unwrap_or_default())
    }

    /// Any value as JSON. Of numbers only the value is kept, which is what MongoDB compares.
    pub fn of_value(value: &Bson) -> Json {
        Json(serde_json::to_value(value).unwrap_or_default())
    }

    /// The document it stands for.
    ///
    /// # Errors
    /// When it is not a document, or says something like `{ $oid: 1 }`; tells what.
    pub fn document(&self) -> Result<Document, String> {
        match self.value()? {
            Bson::Document(document) => Ok(document),
            _ => Err("expected a document".to_owned()),
        }
    }

    /// The value it stands for.
    ///
    /// # Errors
    /// When it says something like `{ $oid: 1 }`; tells what.
    pub fn value(&self) -> Result<Bson, String> {
        serde_json::from_value(self.0.clone()).map_err(|error| error.to_string())
    }

    /// The value of a key; null where it is not there.
    pub fn part(&self, key: &str) -> Json {
        Json(self.0.get(key).cloned().unwrap_or_default())
    }

    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        self.0.as_object().is_none_or(serde_json::Map::is_empty)
    }
}

impl std::fmt::Display for Json {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}
