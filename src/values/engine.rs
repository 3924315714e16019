//! The database systems there are, as a word in files and in records.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The database systems maint can look after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// PostgreSQL 14 to 19.
    Postgres,
    /// MongoDB 4.4 to 8.
    Mongodb,
}

impl Engine {
    /// What is counted where something goes or is moved: one of it.
    pub fn counted(self) -> &'static str {
        match self {
            Engine::Postgres => "row",
            Engine::Mongodb => "document",
        }
    }
}

impl std::fmt::Display for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Engine::Postgres => "postgres",
            Engine::Mongodb => "mongodb",
        })
    }
}
