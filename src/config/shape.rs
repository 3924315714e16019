//! A JSON Schema as the walk sees it: references followed, "or nothing" taken off.

use serde_json::{Map, Value};

/// What a place may hold.
pub(super) enum Shape<'s> {
    /// One of these words.
    Words(Vec<&'s str>),
    /// A value that fits any of these.
    Either(Vec<&'s Value>),
    /// A value of this JSON type, by the rest of its schema.
    Typed(&'s str, &'s Map<String, Value>),
    /// Anything.
    Any,
}

/// The shape a schema describes. `root` is the document that holds its `$defs`.
pub(super) fn shape<'s>(schema: &'s Value, root: &'s Value) -> Shape<'s> {
    let Some(fields) = schema.as_object() else {
        return Shape::Any;
    };
    if let Some(found) = fields.get("$ref").and_then(|target| follow(target, root)) {
        return shape(found, root);
    }
    if let Some([single]) = fields
        .get("allOf")
        .and_then(Value::as_array)
        .map(Vec::as_slice)
    {
        return shape(single, root);
    }
    for keyword in ["anyOf", "oneOf"] {
        let Some(branches) = fields.get(keyword).and_then(Value::as_array) else {
            continue;
        };
        let mut branches: Vec<&Value> = branches.iter().filter(|b| !is_null(b)).collect();
        let words: Option<Vec<Vec<&str>>> = branches.iter().map(|b| words(b)).collect();
        return match (words, branches.len()) {
            (Some(words), _) => Shape::Words(words.concat()),
            (None, 1) => shape(branches.remove(0), root),
            _ => Shape::Either(branches),
        };
    }
    if let Some(words) = words(schema) {
        return Shape::Words(words);
    }
    let type_name = match fields.get("type") {
        Some(Value::String(name)) => Some(name.as_str()),
        Some(Value::Array(names)) => {
            let mut names = names
                .iter()
                .filter_map(Value::as_str)
                .filter(|name| *name != "null");
            // Several types at once say nothing that could be checked here; serde decides.
            names.next().filter(|_| names.next().is_none())
        }
        _ => None,
    };
    type_name.map_or(Shape::Any, |name| Shape::Typed(name, fields))
}

fn follow<'s>(target: &Value, root: &'s Value) -> Option<&'s Value> {
    root.pointer(target.as_str()?.strip_prefix('#')?)
}

fn is_null(schema: &Value) -> bool {
    schema.get("type").and_then(Value::as_str) == Some("null")
}

fn words(schema: &Value) -> Option<Vec<&str>> {
    if let Some(word) = schema.get("const") {
        return word.as_str().map(|word| vec![word]);
    }
    // An optional enumeration lists `null` among its words.
    let listed = schema
        .get("enum")?
        .as_array()?
        .iter()
        .filter(|word| !word.is_null());
    listed.map(Value::as_str).collect()
}

/// Whether this place, or its list, holds secrets.
pub(super) fn is_secret(schema: &Value, root: &Value) -> bool {
    match shape(schema, root) {
        Shape::Typed("array", fields) => fields.get("items").is_some_and(|s| is_secret(s, root)),
        Shape::Typed(_, fields) => {
            fields.get("format").and_then(Value::as_str) == Some(super::formats::SECRET)
        }
        _ => false,
    }
}
