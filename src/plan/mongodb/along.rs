//! The index that a walk goes along: which one it was when the plan was made.

use mongodb::bson::Document;

use crate::engines::mongodb::Json;

/// Under which words a step relies on the index that it goes along.
pub const ALONG: &str = "the index that it goes along";

/// An index, as the server lists it, by its name and keys, and what else makes it another one, in words.
pub fn index_described(index: &Document) -> String {
    let keys = index.get_document("key").cloned().unwrap_or_default();
    let is = |name: &str| index.get_bool(name).unwrap_or(false);
    let also = [
        (is("unique"), " unique"),
        (is("sparse"), " sparse"),
        (index.contains_key("partialFilterExpression"), " partial"),
        (is("hidden"), " hidden"),
    ];
    let also = also.iter().filter(|(is, _)| *is).map(|(_, word)| *word);
    let also: String = also.collect();
    let name = index.get_str("name").unwrap_or_default();
    format!("{name} {}{also}", Json::of(&keys).0)
}
