//! Walks of which nothing came but changes that were given back.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is remembered of a walk of which nothing came but changes that were given back, so that the
/// same is not done every night.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Vain {
    /// Under which key.
    pub key: String,
    /// Tells what hung on the table then from what hangs there now.
    pub print: String,
    /// How often in a row it came to that before.
    pub before: u32,
}

/// What came of such a walk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InVain {
    /// As [`Vain::print`].
    pub print: String,
    /// How often in a row.
    pub times: u32,
    /// Whether every row was tried; else it ended where so many only changed.
    pub all: bool,
    /// Rows that were tried.
    pub rows: i64,
    /// What keeps them, in words.
    pub why: String,
    /// When.
    pub at: DateTime<Utc>,
}
