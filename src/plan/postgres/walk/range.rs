//! The part of a table that a batch covers, and the place behind it.

use serde_json::{Value, json};

/// The part of a table that a batch covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Range {
    /// From this block up to, and without, that one.
    Blocks(i64, i64),
    /// These rows, by their places.
    Rows(Vec<String>),
    /// Behind this key, up to and with that one; all to the left or right
    /// where there is none.
    Keys(Option<Vec<String>>, Option<Vec<String>>),
}

impl Range {
    /// The place behind this range, to be remembered; `None` at the end.
    pub fn behind(&self) -> Option<Value> {
        match self {
            Range::Blocks(_, to) => Some(json!({ "block": to })),
            Range::Rows(_) => None,
            Range::Keys(_, until) => until.as_ref().map(|key| json!({ "key": key })),
        }
    }
}

/// Places as the server reads an array of them.
pub(in crate::plan::postgres) fn array(places: &[String]) -> String {
    let quoted: Vec<String> = places.iter().map(|p| format!("\"{p}\"")).collect();
    format!("{{{}}}", quoted.join(","))
}

/// The block that a remembered place names.
pub fn block_of(place: &Value) -> Option<i64> {
    place.get("block")?.as_i64()
}

/// The key that a remembered place names, if it has so many columns.
pub fn key_of(place: &Value, columns: usize) -> Option<Vec<String>> {
    let key: Option<Vec<String>> = place
        .get("key")?
        .as_array()?
        .iter()
        .map(|value| value.as_str().map(str::to_owned))
        .collect();
    key.filter(|key| key.len() == columns)
}
