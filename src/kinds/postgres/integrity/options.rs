//! What can be asked of the kind.

use crate::plan::Unfit;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::values::{NamePattern, Percent, SchemaPattern, TimeSpan};

/// How closely amcheck looks.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    /// Not at all.
    Off,
    /// Every page of tables and indexes is read and checked by itself. Blocks
    /// nobody; costs one pass over the files.
    #[default]
    Light,
    /// Also whether every row is in its indexes and every TOAST value is
    /// there, and unique keys for being there twice. Blocks nobody; costs
    /// several passes and memory. Where the target has replicas, only there.
    Full,
}

/// A query of one's own.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OwnQuery {
    /// What it is called in findings.
    pub(super) name: String,
    /// One SELECT that must return no rows. Names in it need their schema.
    pub(super) sql: String,
}

/// Options of `kind: integrity`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Integrity {
    /// Only tables that match one of these patterns, such as `public.*` or `orders`.
    pub(super) include: Vec<NamePattern>,
    /// No tables that match one of these patterns.
    pub(super) exclude: Vec<NamePattern>,
    /// Only in schemas that one of these patterns names and none with a `!` does; all where there is none.
    pub(super) schemas: Vec<SchemaPattern>,
    /// Whether to count the rows that violate foreign keys and check
    /// constraints, whether or not those count as valid.
    pub(super) constraints: bool,
    /// Whether constraints that are NOT VALID are validated once no row
    /// violates them. Takes a lock that does not block reads or writes.
    pub(super) validate: bool,
    /// How closely amcheck looks, where it is installed.
    pub(super) amcheck: Level,
    /// Also looks whether the levels of B-trees fit together. The lock for
    /// that blocks writes to the table: never on by itself, and never on a replica.
    pub(super) parent_check: bool,
    /// Whether the system catalogs are looked at, too.
    pub(super) catalogs: bool,
    /// From this share of its numbers on a sequence or an integer key is close to its end.
    pub(super) near_end: Percent,
    /// From this share on that is critical.
    pub(super) almost_at_end: Percent,
    /// Queries that must return no rows.
    pub(super) queries: Vec<OwnQuery>,
    /// What was found in order less than this ago is not looked at again.
    pub(super) recheck_after: TimeSpan,
    /// What was not found in order for this long counts as not covered.
    pub(super) cover_within: TimeSpan,
}

impl Default for Integrity {
    fn default() -> Self {
        Integrity {
            include: Vec::new(),
            exclude: Vec::new(),
            schemas: Vec::new(),
            constraints: true,
            validate: false,
            amcheck: Level::Light,
            parent_check: false,
            catalogs: true,
            near_end: Percent::new(80.0),
            almost_at_end: Percent::new(95.0),
            queries: Vec::new(),
            // Shorter than a day, so that a daily task looks at everything every day.
            recheck_after: TimeSpan::from_mins(20 * 60),
            cover_within: TimeSpan::from_mins(30 * 24 * 60),
        }
    }
}

impl Integrity {
    /// Whether the options make sense together.
    pub(super) fn sensible(&self) -> Result<(), Unfit> {
        if self.parent_check && self.amcheck == Level::Off {
            return Err(Unfit::at(
                "parent_check",
                "`parent_check: true` needs `amcheck: light` or `full`",
            ));
        }
        if self.near_end > self.almost_at_end {
            return Err(Unfit::at(
                "near_end",
                format!(
                    "`near_end` ({}) is beyond `almost_at_end` ({})",
                    self.near_end, self.almost_at_end
                ),
            ));
        }
        let queries = self.queries.iter().enumerate();
        Unfit::each(
            "queries",
            queries.map(|(n, query)| {
                if query.name.trim().is_empty() || query.sql.trim().is_empty() {
                    return Err("every one of `queries` needs a `name` and `sql`".to_owned());
                }
                let before = self.queries.iter().take(n);
                match before.map(|one| &one.name).any(|name| *name == query.name) {
                    true => Err(format!("two of `queries` are called `{}`", query.name)),
                    false => Ok(()),
                }
            }),
        )
    }
}
