//! Columns of answers are read by name: a column that is added in the middle moves those behind it, and where two
//! neighbours are of one type nothing fails.

use std::collections::BTreeSet;

/// The highest number that a column may be read by, counted from 0.
const HIGHEST: usize = 2;

/// Files that read columns by higher numbers, and why they may.
const KNOWN: [(&str, &str); 1] = [(
    "execute/postgres/check.rs",
    "the questions are a plan's, and one that was saved says its columns in this order",
)];

/// What reads a column by its number: `row.get(7)`, `row.get::<Option<String>>(7)`, `first(&rows, 7)`.
fn by_number(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for reader in ["get", "try_get", "first"] {
        for (at, _) in text.match_indices(reader) {
            let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if text[..at].ends_with(word) {
                continue;
            }
            let rest = &text[at + reader.len()..];
            let Some(called) = arguments(rest) else {
                continue;
            };
            let last = called.rsplit(',').find(|one| !one.trim().is_empty());
            let number = last.and_then(|one| one.trim().parse::<usize>().ok());
            if number.is_some_and(|number| number > HIGHEST) {
                found.push(format!("{reader}({called})"));
            }
        }
    }
    found
}

/// What stands between the parentheses of a call, after its name: behind the type, where one is given.
fn arguments(text: &str) -> Option<&str> {
    let mut text = text;
    if let Some(typed) = text.strip_prefix("::<") {
        let mut open = 1;
        let end = typed.find(|c| {
            open += match c {
                '<' => 1,
                '>' => -1,
                _ => 0,
            };
            open == 0
        })?;
        text = &typed[end + 1..];
    }
    let inside = text.strip_prefix('(')?;
    inside.split(')').next()
}

#[test]
fn columns_of_answers_are_read_by_name() {
    let known: BTreeSet<&str> = KNOWN.iter().map(|(file, _)| *file).collect();
    let mut excepted = BTreeSet::new();
    let mut wrong = Vec::new();
    for (name, text) in super::files() {
        for one in by_number(&text) {
            match known.get(name.as_str()) {
                Some(file) => drop(excepted.insert(*file)),
                None => wrong.push(format!("{name}: {one}")),
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "read these by name, with `AS` in the SQL and `row.named(…)`: {wrong:#?}"
    );
    assert_eq!(excepted, known, "take out what reads by name by now");
    assert!(KNOWN.iter().all(|(_, why)| !why.is_empty()));
}

#[test]
fn a_number_is_found_however_it_is_read() {
    let text = "let a = row.get(2)?;\nlet b: T = row.get(3)?;\nrow\n.get::<Option<Vec<f32>>>(14)?\nfirst(&rows, 4)?;
        first::<bool>(&rows, 5,\n)?;\nrow.try_get(6)?;\nrow.named(\"n\")?;\nbudget(7);\nrow.get(n)?;\nfirst(&rows, 0)?;";
    let found: Vec<String> = by_number(text);
    assert_eq!(
        found,
        [
            "get(3)",
            "get(14)",
            "try_get(6)",
            "first(&rows, 4)",
            "first(&rows, 5,\n)"
        ]
    );
}
