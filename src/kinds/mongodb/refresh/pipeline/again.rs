//! Whether a pipeline may run a second time: also where the first was broken off.

use std::collections::BTreeMap;

use mongodb::bson::{Bson, Document};

use super::super::Aggregation;
use super::reads::through_views;
use crate::engines::mongodb::number;

impl Aggregation {
    /// Whether a second time gives what the first gave, also where the first was broken off.
    pub(in crate::kinds::mongodb::refresh) fn repeatable(
        &self,
        own: &str,
        into: &(String, String),
        views: &BTreeMap<(String, String), Vec<String>>,
    ) -> bool {
        let stages: Vec<Document> = self
            .pipeline
            .iter()
            .filter_map(|stage| stage.document().ok())
            .collect();
        let Some((last, before)) = stages.split_last() else {
            return false;
        };
        let Some(merge) = last.get("$merge") else {
            return true;
        };
        let nothing = Document::new();
        let merge = merge.as_document().unwrap_or(&nothing);
        let fails = |key| merge.get_str(key).is_ok_and(|does| does == "fail");
        let adds = match merge.get("whenMatched") {
            // With `let`, its names may stand for anything.
            Some(Bson::Array(stages)) => {
                merge.contains_key("let") || stages.iter().any(reads_what_is_there)
            }
            _ => false,
        };
        let on_id = match merge.get("on") {
            None => true,
            Some(Bson::String(field)) => field == "_id",
            Some(Bson::Array(fields)) => fields.iter().all(|field| field.as_str() == Some("_id")),
            Some(_) => false,
        };
        // What has no `_id` gets another one each time.
        let inserts = merge.get_str("whenNotMatched").unwrap_or("insert") == "insert";
        let database = self.database(own);
        let names = self.sources(own).into_iter().map(|(_, name)| name);
        let reads_itself =
            into.0 == database && through_views(names.collect(), database, views).contains(&into.1);
        let anew = on_id && inserts && lacks_id(before);
        !(adds || fails("whenMatched") || fails("whenNotMatched") || reads_itself || anew)
    }
}

/// Whether a stage of `whenMatched` looks at the document that is there, so that a second time may
/// give something else; not if it takes all from the one that comes.
fn reads_what_is_there(stage: &Bson) -> bool {
    match stage {
        Bson::String(text) => {
            let of_the_new = ["$$new", "$$NOW", "$$CLUSTER_TIME", "$$REMOVE"];
            text.starts_with('$')
                && !of_the_new.iter().any(|name| {
                    let rest = text.strip_prefix(name);
                    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
                })
        }
        Bson::Document(document) => document.iter().any(|(key, value)| {
            // These read it without a sign of it.
            matches!(key.as_str(), "$getField" | "$function" | "$rand")
                || reads_what_is_there(value)
        }),
        Bson::Array(values) => values.iter().any(reads_what_is_there),
        _ => false,
    }
}

/// Whether documents may come out of these stages without an `_id`.
fn lacks_id(stages: &[Document]) -> bool {
    let is_off = |value: &Bson| *value == Bson::Boolean(false) || number(Some(value)) == Some(0);
    let is_on =
        |value: &Bson| matches!(value, Bson::Boolean(true)) || number(Some(value)).is_some();
    stages.iter().fold(false, |lacks, stage| {
        let Some((name, what)) = stage.iter().next() else {
            return lacks;
        };
        let id = what.as_document().and_then(|what| what.get("_id"));
        match name.as_str() {
            "$group" | "$bucket" | "$bucketAuto" | "$sortByCount" => false,
            "$count" | "$facet" | "$replaceRoot" | "$replaceWith" | "$densify" | "$documents" => {
                !what
                    .as_document()
                    .map(|what| what.get_document("newRoot").unwrap_or(what))
                    .is_some_and(|root| root.contains_key("_id"))
            }
            "$project" => id.map_or(lacks, |id| is_off(id) || (lacks && is_on(id))),
            "$set" | "$addFields" => lacks && id.is_none(),
            "$unset" => {
                let unset = |value: &Bson| value.as_str() == Some("_id");
                lacks
                    || unset(what)
                    || what
                        .as_array()
                        .is_some_and(|fields| fields.iter().any(unset))
            }
            _ => lacks,
        }
    })
}
