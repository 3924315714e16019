//! Patterns for the databases of one server, and for those that are left out.

use std::fmt;
use std::str::FromStr;

use super::choice::Choice;
use super::text::{Invalid, written_as_text};

/// Which databases of a server are meant: `tenant_*`, and `!tenant_test` for those that are not.
///
/// `*` stands for any characters, `?` for one; everything else is itself, upper and lower case
/// told apart.
#[derive(Clone, Debug, PartialEq)]
pub struct DatabasePattern(Choice);

written_as_text!(
    DatabasePattern,
    ToString::to_string,
    "maint-database-pattern",
    "Databases to choose, with * and ?; behind a `!`, databases to leave out.",
    ["tenant_*", "!template*"]
);

impl DatabasePattern {
    /// Whether it leaves databases out.
    pub fn excludes(&self) -> bool {
        self.0.excludes
    }

    /// Whether the database is among those that all of the patterns together mean: one names it,
    /// and none leaves it out, in whatever order they stand.
    pub fn choose(patterns: &[DatabasePattern], database: &str) -> bool {
        Choice::of_all(patterns.iter().map(|one| &one.0), database)
    }
}

impl FromStr for DatabasePattern {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        Choice::read(text, "databases such as `tenant_*` or `!template*`").map(Self)
    }
}

/// As it was written.
impl fmt::Display for DatabasePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    fn chosen(patterns: &[&str], database: &str) -> bool {
        let patterns: Vec<DatabasePattern> = patterns.iter().map(|p| p.parse().unwrap()).collect();
        DatabasePattern::choose(&patterns, database)
    }

    #[test]
    fn whoever_is_left_out_by_one_is_chosen_by_none() {
        assert!(chosen(&["*"], "app"));
        assert!(chosen(&["*", "!template*"], "app"));
        assert!(!chosen(&["*", "!template*"], "template7"));
        assert!(!chosen(&["!template*", "*"], "template7"));
        assert!(chosen(&["tenant_?"], "tenant_a"));
        assert!(!chosen(&["tenant_?"], "tenant_ab"));
        assert!(!chosen(&["tenant_?"], "Tenant_a"));
        assert!(!chosen(&["!app"], "other"));
        assert!(!chosen(&[], "app"));
    }

    #[test]
    fn refuses_what_names_nothing() {
        for text in ["", " ", "!", "! "] {
            assert!(text.parse::<DatabasePattern>().is_err(), "{text}");
        }
    }
}
