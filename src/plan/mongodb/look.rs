//! Questions to MongoDB that change nothing, as data, with what their answers mean.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{shell_name, shell_stages};
use crate::engines::mongodb::Json;
use crate::plan::Finding;

/// A question that changes nothing, and what its answer means.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Look {
    /// `validate`: whether data and indexes of a collection are whole.
    Validate(Validate),
    /// An aggregation; each document that it answers with is one finding too many.
    Any {
        /// The database.
        database: String,
        /// The collection.
        collection: String,
        /// The stages.
        pipeline: Vec<Json>,
        /// The finding where anything is answered; `{n}` stands for how many.
        finding: Box<Finding>,
    },
}

/// Validation of one collection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Validate {
    /// The database.
    pub database: String,
    /// The collection.
    pub collection: String,
    /// Every document and every page, under an exclusive lock.
    pub full: bool,
    /// From the last checkpoint, beside the work of others.
    pub background: bool,
    /// On which member, `host:port`; otherwise the primary.
    pub member: Option<String>,
}

impl Look {
    /// The question, as shown to people.
    pub fn text(&self) -> String {
        match self {
            Look::Validate(of) => format!(
                "{}.validate({{full: {}, background: {}}})",
                shell_name(&of.database, &of.collection),
                of.full,
                of.background
            ),
            Look::Any {
                database,
                collection,
                pipeline,
                ..
            } => format!(
                "{}.aggregate({})",
                shell_name(database, collection),
                shell_stages(pipeline)
            ),
        }
    }
}
