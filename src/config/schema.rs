//! JSON Schemas of the files, for editors: generated from the types that read them.

use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::model::{SchedulesFile, TaskFile};
use crate::plan::KindInfo;

/// The schema of `schedules.yaml`.
pub fn schema_for_schedules() -> Schema {
    schema_with_id(
        SchemaGenerator::default().into_root_schema_for::<SchedulesFile>(),
        "schedules",
    )
}

/// With what it is known by: a name, not a place, since the schema of a version is where that
/// version is.
pub fn schema_with_id(mut schema: Schema, name: &str) -> Schema {
    schema.insert("$id".to_owned(), format!("urn:maint:schema:{name}").into());
    schema
}

/// The schema of a file in `tasks/`: once `kind` is written, its options are known.
///
/// Where two engines have a kind of the same name, the options of either are accepted.
pub fn schema_for_task(kinds: &[KindInfo]) -> Schema {
    let mut schema = SchemaGenerator::default().into_root_schema_for::<TaskFile>();
    let mut names: Vec<&str> = kinds.iter().map(|kind| kind.name).collect();
    names.sort_unstable();
    names.dedup();
    let mut definitions = Map::new();
    let mut rules = Vec::new();
    for name in &names {
        let mut options: Vec<Value> = kinds
            .iter()
            .filter(|kind| kind.name == *name)
            .map(|kind| options_of(kind, &mut definitions))
            .collect();
        let options = match options.len() {
            1 => options.remove(0),
            _ => json!({ "anyOf": options }),
        };
        let mut then = json!({ "properties": { "options": options } });
        let demanding = then
            .pointer("/properties/options/required")
            .and_then(Value::as_array)
            .is_some_and(|required| !required.is_empty());
        if demanding {
            then["required"] = json!(["options"]);
        }
        rules.push(json!({
            "if": { "properties": { "kind": { "const": name } }, "required": ["kind"] },
            "then": then,
        }));
    }
    let described: Vec<Value> = names
        .iter()
        .map(|name| {
            let summaries = kinds
                .iter()
                .filter(|kind| kind.name == *name)
                .map(|kind| kind.summary);
            json!({ "const": name, "description": summaries.collect::<Vec<_>>().join(" · ") })
        })
        .collect();
    let fields = schema.ensure_object();
    if let Some(kind) = fields.get_mut("properties").and_then(|p| p.get_mut("kind")) {
        *kind = json!({ "description": "What is done.", "oneOf": described });
    }
    fields.insert("allOf".to_owned(), Value::Array(rules));
    if let Some(Value::Object(present)) = fields.get_mut("$defs") {
        present.extend(definitions);
    } else if !definitions.is_empty() {
        fields.insert("$defs".to_owned(), Value::Object(definitions));
    }
    schema_with_id(schema, "task")
}

/// The options of a kind with their definitions moved to where the whole schema keeps them.
fn options_of(kind: &KindInfo, definitions: &mut Map<String, Value>) -> Value {
    let mut options = (kind.options_schema)().to_value();
    let prefix = format!("{}.{}.", kind.engine, kind.name);
    rename_references(&mut options, &prefix);
    if let Some(fields) = options.as_object_mut() {
        fields.shift_remove("$schema");
        if let Some(Value::Object(own)) = fields.shift_remove("$defs") {
            definitions.extend(
                own.into_iter()
                    .map(|(name, def)| (format!("{prefix}{name}"), def)),
            );
        }
    }
    options
}

fn rename_references(schema: &mut Value, prefix: &str) {
    match schema {
        Value::Object(fields) => {
            for (key, value) in fields {
                match (key.as_str(), &*value) {
                    ("$ref", Value::String(target)) => {
                        *value =
                            Value::String(target.replace("#/$defs/", &format!("#/$defs/{prefix}")));
                    }
                    _ => rename_references(value, prefix),
                }
            }
        }
        Value::Array(items) => items
            .iter_mut()
            .for_each(|item| rename_references(item, prefix)),
        _ => {}
    }
}
