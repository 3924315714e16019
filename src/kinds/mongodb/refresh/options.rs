//! The options of `refresh` on MongoDB.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::engines::mongodb::Json;
use crate::values::TimeSpan;

/// Options of `kind: refresh` on MongoDB.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Refresh {
    /// What is made, and from what.
    #[schemars(length(min = 1))]
    pub(super) aggregations: Vec<Aggregation>,
}

/// An aggregation whose result is kept.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Aggregation {
    /// The collection it begins with.
    pub(super) collection: String,
    /// Its database, where it is not the one in the target's `url`.
    #[serde(default)]
    pub(super) database: Option<String>,
    /// The stages; the last one is `$merge` or `$out`.
    #[schemars(length(min = 1))]
    pub(super) pipeline: Vec<Json>,
    /// How old the result may be once its sources have changed.
    #[serde(default)]
    pub(super) fresh_within: Option<TimeSpan>,
    /// Whether the server may use files for what does not fit into memory.
    #[serde(default = "yes")]
    pub(super) allow_disk_use: bool,
    /// Make it anew even where no source has changed.
    #[serde(default)]
    pub(super) always: bool,
    /// Which member reads the sources; the result is always written to the primary. By default
    /// the primary, or a secondary where the `readPreference` in the target's `url` is for one.
    #[serde(default)]
    pub(super) read_from: Option<ReadFrom>,
}

/// Who reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum ReadFrom {
    /// The primary.
    Primary,
    /// The secondary that is least behind, once it has everything that the primary has when the
    /// step begins; the primary where there is none.
    Secondary,
}

fn yes() -> bool {
    true
}
