//! Documents as extended JSON, which files and plans can hold: each value has to come back as what
//! it was, as far as MongoDB tells values apart.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
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
        Json(members(document))
    }

    /// Any value as JSON. Of numbers only the value is kept, which is what MongoDB compares.
    pub fn of_value(value: &Bson) -> Json {
        Json(any(value))
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

fn members(of: &Document) -> Value {
    let members = of.iter().map(|(key, value)| (key.clone(), any(value)));
    Value::Object(members.collect())
}

fn any(value: &Bson) -> Value {
    match value {
        Bson::Document(document) => members(document),
        Bson::Array(values) => values.iter().map(any).collect(),
        // JSON has no such numbers: they would become null, which others have.
        Bson::Double(number) if !number.is_finite() => {
            let text = match number {
                _ if number.is_nan() => "NaN",
                _ if *number > 0.0 => "Infinity",
                _ => "-Infinity",
            };
            serde_json::json!({ "$numberDouble": text })
        }
        // Written as a list of numbers it would be one.
        Bson::Binary(of) => {
            let subtype = format!("{:02x}", u8::from(of.subtype));
            serde_json::json!({ "$binary": { "base64": STANDARD.encode(&of.bytes), "subType": subtype } })
        }
        other => serde_json::to_value(other).unwrap_or_default(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;
    use mongodb::bson::doc;

    #[test]
    fn bytes_are_kept_with_their_kind() {
        for subtype in [0_u8, 2, 3, 4, 5, 128] {
            let bytes = Bson::Binary(mongodb::bson::Binary {
                subtype: subtype.into(),
                bytes: vec![7; 16],
            });
            let kept = Json::of(&doc! { "token": { "$in": [bytes.clone()] } });
            let read = kept.document().unwrap();
            assert_eq!(read, doc! { "token": { "$in": [bytes.clone()] } });
            assert_eq!(Json::of_value(&bytes).value().unwrap(), bytes);
        }
    }

    #[test]
    fn numbers_that_json_lacks_are_kept() {
        for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1.5] {
            let kept = Json::of(&doc! { "a": [{ "$gt": number }] });
            let read = kept.document().unwrap();
            let read = read.get_array("a").unwrap().first().unwrap();
            let read = read.as_document().unwrap().get_f64("$gt").unwrap();
            assert!(
                read.total_cmp(&number).is_eq() || (read.is_nan() && number.is_nan()),
                "{kept:?}"
            );
            let alone = Json::of_value(&Bson::Double(number)).value().unwrap();
            let alone = alone.as_f64().unwrap();
            assert_eq!(alone.is_nan(), number.is_nan());
        }
    }
}
