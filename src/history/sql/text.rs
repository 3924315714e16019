//! One text for both databases.
//!
//! Texts are written for PostgreSQL, where every table is named with its
//! schema `maint`; SQLite gets them without. What only one of the two
//! understands stands between `{sqlite:` or `{postgres:` and `}`, and a few
//! words of ours stand for what both can say but spell differently.

use std::sync::OnceLock;

/// A database that keeps a history.
#[derive(Clone, Copy)]
pub(in crate::history) enum Dialect {
    Sqlite,
    Postgres,
}

/// Our words, and how SQLite and PostgreSQL spell them.
const WORDS: &[(&str, [&str; 2])] = &[
    ("maint.", ["", "maint."]),
    // What the clock of the history says. That of a file is that of its machine.
    (
        "{now}",
        [
            "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')",
            "pg_catalog.date_trunc('milliseconds', pg_catalog.clock_timestamp())",
        ],
    ),
    // So many milliseconds after that as `$1` says.
    (
        "{lease_end}",
        [
            "strftime('%Y-%m-%dT%H:%M:%fZ', 'now', printf('%.3f seconds', $1 / 1000.0))",
            "pg_catalog.clock_timestamp() + $1 * interval '1 millisecond'",
        ],
    ),
    // The rows of a JSON array of texts, in the column `value`.
    (
        "{each}",
        ["json_each", "pg_catalog.json_array_elements_text"],
    ),
    // How texts are compared everywhere in SQLite.
    ("{bytewise}", ["", "COLLATE \"C\""]),
];

/// A statement's text, spelled for a database when it is first asked for.
pub(in crate::history) struct Sql {
    written: [&'static str; 2],
    spelled: [OnceLock<String>; 2],
}

impl Sql {
    /// The same for both.
    pub(super) const fn new(text: &'static str) -> Sql {
        Sql::pair(text, text)
    }

    /// For a question that the two are asked in different ways.
    pub(super) const fn pair(sqlite: &'static str, postgres: &'static str) -> Sql {
        Sql {
            written: [sqlite, postgres],
            spelled: [OnceLock::new(), OnceLock::new()],
        }
    }

    pub(in crate::history) fn spelled(&'static self, dialect: Dialect) -> &'static str {
        let n = dialect as usize;
        self.spelled[n].get_or_init(|| spell(self.written[n], dialect))
    }
}

/// A text as a database understands it.
pub(super) fn spell(text: &str, dialect: Dialect) -> String {
    let mut spelled = text.to_owned();
    for (word, spellings) in WORDS {
        spelled = spelled.replace(word, spellings[dialect as usize]);
    }
    let (ours, theirs) = match dialect {
        Dialect::Sqlite => ("sqlite:", "postgres:"),
        Dialect::Postgres => ("postgres:", "sqlite:"),
    };
    let mut rest = spelled.as_str();
    let mut whole = String::with_capacity(rest.len());
    while let Some((before, from)) = rest.split_once('{') {
        let (inside, after) = from.split_once('}').unwrap_or((from, ""));
        whole.push_str(before);
        if let Some(word) = inside.strip_prefix(ours) {
            whole.push_str(word);
        } else if !inside.starts_with(theirs) {
            // Marked for nobody: the server will say so.
            whole.push_str(inside);
        }
        rest = after;
    }
    whole.push_str(rest);
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_database_gets_its_own_words() {
        let text = "SELECT a FROM maint.runs {sqlite: INDEXED BY b} WHERE c <= {now}{postgres: FOR UPDATE}";
        assert_eq!(
            spell(text, Dialect::Sqlite),
            "SELECT a FROM runs  INDEXED BY b WHERE c <= strftime('%Y-%m-%dT%H:%M:%fZ', 'now')"
        );
        assert_eq!(
            spell(text, Dialect::Postgres),
            "SELECT a FROM maint.runs  WHERE c <= \
             pg_catalog.date_trunc('milliseconds', pg_catalog.clock_timestamp()) FOR UPDATE"
        );
    }
}
