//! Patterns for the schemas of a database, and for those that are left out.

use std::fmt;
use std::str::FromStr;

use super::choice::Choice;
use super::text::{Invalid, written_as_text};

/// Which schemas of a database are meant: `tenant_*`, and `!tenant_test` for those that are not.
///
/// `*` stands for any characters, `?` for one; everything else is itself, upper and lower case
/// told apart.
#[derive(Clone, Debug, PartialEq)]
pub struct SchemaPattern(Choice);

written_as_text!(
    SchemaPattern,
    ToString::to_string,
    "maint-schema-pattern",
    "Schemas to choose, with * and ?; behind a `!`, schemas to leave out.",
    ["tenant_*", "!tenant_test"]
);

impl SchemaPattern {
    /// Whether it leaves schemas out.
    pub fn excludes(&self) -> bool {
        self.0.excludes
    }

    /// Whether it names this schema, be it to leave it out.
    pub fn meets(&self, schema: &str) -> bool {
        self.0.meets(schema)
    }

    /// Whether the schema is among those that all of the patterns together mean: one names it,
    /// and none leaves it out, in whatever order they stand.
    pub fn choose(patterns: &[SchemaPattern], schema: &str) -> bool {
        Choice::of_all(patterns.iter().map(|one| &one.0), schema)
    }
}

impl FromStr for SchemaPattern {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        Choice::read(text, "schemas such as `tenant_*` or `!tenant_test`").map(Self)
    }
}

/// As it was written.
impl fmt::Display for SchemaPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_schema_is_meant_where_one_names_it_and_none_leaves_it_out() {
        let texts = ["!tenant_test*", "tenant_*", "two words"];
        let patterns = texts.map(|p| p.parse::<SchemaPattern>().unwrap());
        let chosen = |name: &str| SchemaPattern::choose(&patterns, name);
        assert!(chosen("tenant_1") && chosen("tenant_ü\"; --") && chosen("two words"));
        assert!(!chosen("tenant_test2") && !chosen("Tenant_1") && !chosen("public"));
        assert!("!".parse::<SchemaPattern>().is_err() && " ".parse::<SchemaPattern>().is_err());
    }
}
