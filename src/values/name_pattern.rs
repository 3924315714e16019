//! Patterns for tables and indexes, by schema and name, read the same here and on the server.

use std::fmt;
use std::str::FromStr;

use wildmatch::WildMatch;

use super::dotted;
use super::text::{Invalid, written_as_text};

/// Which tables or indexes are meant: `audit.*`, `events_*`.
///
/// `*` stands for any characters, `?` for one; everything else is itself, upper and lower case
/// told apart as the server does. Without a dot the pattern is for names in any schema. A name
/// that itself contains a dot or a quote is put in double quotes, quotes in it doubled:
/// `"my.schema".*`.
#[derive(Clone, Debug, PartialEq)]
pub struct NamePattern {
    text: String,
    schema: Option<WildMatch>,
    name: WildMatch,
}

written_as_text!(
    NamePattern,
    ToString::to_string,
    "maint-name-pattern",
    "Names to choose: `schema.name` with * and ?; without a dot, in any schema.",
    ["audit.*", "events_*"]
);

impl NamePattern {
    /// The schema, if one is said, and the name as regular expressions of POSIX.
    pub fn regexes(&self) -> (Option<String>, String) {
        let regex = |pattern: &WildMatch| {
            let mut out = String::from("^");
            for c in pattern.to_string().chars() {
                match c {
                    '*' => out.push_str(".*"),
                    '?' => out.push('.'),
                    c if c.is_ascii_punctuation() => out.extend(['\\', c]),
                    c => out.push(c),
                }
            }
            out + "$"
        };
        (self.schema.as_ref().map(regex), regex(&self.name))
    }

    /// Whether it stands for one thing, wherever that is: a name, or all of a schema. Else it is
    /// for some names of many, which may be there now and then.
    pub fn names_one_thing(&self) -> bool {
        let plain = |pattern: &WildMatch| !pattern.to_string().contains(['*', '?']);
        match &self.schema {
            Some(schema) if self.name == "*" => plain(schema),
            _ => plain(&self.name),
        }
    }

    /// Whether the object `name` in `schema`, both unquoted as in the catalogs, is meant.
    pub fn matches(&self, schema: &str, name: &str) -> bool {
        self.name.matches(name) && self.schema.as_ref().is_none_or(|s| s.matches(schema))
    }
}

impl FromStr for NamePattern {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let (schema, name) = dotted::split(text, "a pattern such as `audit.*` or `events_*`")?;
        Ok(Self {
            text: text.trim().to_owned(),
            schema: schema.map(|schema| WildMatch::new(&schema)),
            name: WildMatch::new(&name),
        })
    }
}

/// As it was written.
impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    #[test]
    fn chooses_by_schema_and_name() {
        let chosen = |pattern: &str, schema: &str, name: &str| {
            pattern
                .parse::<NamePattern>()
                .unwrap()
                .matches(schema, name)
        };
        assert!(chosen("audit.*", "audit", "log"));
        assert!(!chosen("audit.*", "public", "log"));
        assert!(chosen("events_*", "any", "events_2026"));
        assert!(!chosen("events_*", "any", "Events_2026"));
        assert!(chosen("*.tmp?", "a", "tmp1"));
        assert!(!chosen("*.tmp?", "a", "tmp12"));
        assert!(chosen("we[ir]d.*", "we[ir]d", "x"));
        assert!(chosen("\"my.schema\".*", "my.schema", "x"));
        assert!(chosen("\"a \"\"b\"\".*\"", "any", "a \"b\".c"));
    }

    #[test]
    fn refuses_what_can_match_nothing() {
        for text in ["", ".", "a.", ".b", "a.b.c", "\"a"] {
            assert!(text.parse::<NamePattern>().is_err(), "{text}");
        }
    }
}
