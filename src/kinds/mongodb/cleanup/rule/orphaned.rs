//! Documents that point at nothing.

use schemars::JsonSchema;
use serde::Deserialize;

/// Children whose parent is gone.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Orphaned {
    /// The field that points at the parent. A document without a value there has none.
    pub(in crate::kinds::mongodb::cleanup) field: String,
    /// The parent collection.
    pub(in crate::kinds::mongodb::cleanup) parent: String,
    /// Its database, where it is not the child's.
    #[serde(default)]
    pub(in crate::kinds::mongodb::cleanup) parent_database: Option<String>,
    /// The field pointed at.
    #[serde(default = "id")]
    pub(in crate::kinds::mongodb::cleanup) parent_field: String,
}

fn id() -> String {
    "_id".to_owned()
}
