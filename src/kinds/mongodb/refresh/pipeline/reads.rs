//! Which collections stages read, also through views.

use std::collections::BTreeMap;

use mongodb::bson::{Bson, Document};

/// Collections that a stage, or one within it, reads.
pub(super) fn read_by(document: &Document, names: &mut Vec<String>) {
    for (key, value) in document {
        match (key.as_str(), value) {
            ("$lookup" | "$graphLookup", Bson::Document(lookup)) => {
                if let Ok(from) = lookup.get_str("from") {
                    names.push(from.to_owned());
                }
                read_by(lookup, names);
            }
            ("$unionWith", Bson::String(name)) => names.push(name.clone()),
            ("$unionWith", Bson::Document(union)) => {
                if let Ok(name) = union.get_str("coll") {
                    names.push(name.to_owned());
                }
                read_by(union, names);
            }
            (_, Bson::Document(inner)) => read_by(inner, names),
            (_, Bson::Array(values)) => values
                .iter()
                .filter_map(Bson::as_document)
                .for_each(|d| read_by(d, names)),
            _ => {}
        }
    }
}

/// What a view reads, directly.
pub(in crate::kinds::mongodb::refresh) fn read_by_view(options: &Document) -> Vec<String> {
    let mut names = Vec::new();
    if let Ok(on) = options.get_str("viewOn") {
        names.push(on.to_owned());
    }
    if let Ok(stages) = options.get_array("pipeline") {
        let stages = stages.iter().filter_map(Bson::as_document);
        stages.for_each(|stage| read_by(stage, &mut names));
    }
    names
}

/// These, and all that is read where they are views.
pub(super) fn through_views(
    mut names: Vec<String>,
    database: &str,
    views: &BTreeMap<(String, String), Vec<String>>,
) -> Vec<String> {
    let mut at = 0;
    while let Some(name) = names.get(at) {
        let more = views.get(&(database.to_owned(), name.clone()));
        for name in more.into_iter().flatten() {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        at += 1;
    }
    names
}
