//! Tables that only ever grow, and the column that says how old their rows are.

use chrono::{DateTime, Datelike, Utc};

use super::bounds::moment;
use super::facts::{Table, TimeColumn};
use crate::init::yaml::scalar;
use crate::report::text::{human_bytes, human_count};

/// Rows that came in since the server counts, above which a table grows.
const MANY_ROWS: i64 = 10_000;
/// A table that large grows whatever the server has counted.
const LARGE: i64 = 64 << 20;

/// Names of columns that say when a row is over.
const ENDS: [&str; 10] = [
    "expires_at",
    "expires",
    "expires_on",
    "expired_at",
    "expire_at",
    "expiry",
    "expiration",
    "expiration_date",
    "valid_until",
    "valid_to",
];

/// Words of columns that say when a row came to be.
const BEGINS: [&str; 22] = [
    "created",
    "inserted",
    "added",
    "logged",
    "occurred",
    "happened",
    "received",
    "recorded",
    "registered",
    "started",
    "sent",
    "emitted",
    "measured",
    "observed",
    "computed",
    "published",
    "event",
    "timestamp",
    "ts",
    "time",
    "at",
    "date",
];

/// Words of columns that say something else.
const OTHERS: [&str; 15] = [
    "updated",
    "modified",
    "changed",
    "deleted",
    "seen",
    "login",
    "birth",
    "due",
    "paid",
    "confirmed",
    "verified",
    "scheduled",
    "next",
    "last",
    "until",
];

/// What a rule could be for a table.
#[derive(Clone, Debug)]
pub(super) struct Rule<'a> {
    pub(super) column: &'a TimeColumn,
    pub(super) older_than: &'static str,
    /// What speaks for it, in words.
    pub(super) why: String,
}

/// Whether the table grows, and is not mostly changed.
pub(super) fn grows(table: &Table) -> bool {
    (table.bytes >= LARGE || table.inserted >= MANY_ROWS || table.rows >= MANY_ROWS as f64)
        && table.updated <= table.inserted.max(table.rows as i64)
}

/// The rule that a table could have; `None` where no column tells the age.
pub(super) fn rule(table: &Table, now: DateTime<Utc>) -> Option<Rule<'_>> {
    let ends = |column: &&TimeColumn| ENDS.contains(&column.name.to_lowercase().as_str());
    if let Some(column) = table.columns.iter().find(ends) {
        return Some(Rule {
            column,
            older_than: "0d",
            why: format!(
                "{}; {} says when a row is over",
                evidence(table),
                column.name
            ),
        });
    }
    let column = table
        .columns
        .iter()
        .filter_map(|column| Some((score(column)?, column)))
        // Of equals the first: it is the one that people wrote first.
        .rev()
        .max_by_key(|(score, _)| *score)
        .map(|(_, column)| column)?;
    let (older_than, reach) = retention(column, now);
    let index = match column.indexed {
        true => "",
        false => ", no index begins with it",
    };
    Some(Rule {
        column,
        older_than,
        why: format!(
            "{}; age by {}{index}; {reach}",
            evidence(table),
            column.name
        ),
    })
}

/// How sure it is that a column says when a row came to be.
fn score(column: &TimeColumn) -> Option<u32> {
    let name = column.name.to_lowercase();
    let words: Vec<&str> = name.split(|c: char| !c.is_alphanumeric()).collect();
    let has = |list: &[&str]| words.iter().any(|word| list.contains(word));
    if has(&OTHERS) || !(has(&BEGINS) || column.now) {
        return None;
    }
    Some(
        4 * u32::from(column.now)
            + 2 * u32::from(column.indexed)
            + 2 * u32::from(has(&BEGINS[..13]))
            + u32::from(column.not_null),
    )
}

fn evidence(table: &Table) -> String {
    let mut text = human_bytes(table.bytes);
    if table.rows > 0.0 {
        text.push_str(&format!(", about {} rows", human_count(table.rows as i64)));
    }
    if table.inserted > 0 {
        text.push_str(&format!(
            ", {} came in since the server counts",
            human_count(table.inserted)
        ));
    }
    text
}

/// A retention that some of the rows are beyond, and how far they go back. Months are enough to
/// decide, and no value of a row is told.
fn retention(column: &TimeColumn, now: DateTime<Utc>) -> (&'static str, String) {
    let times: Vec<_> = column
        .bounds
        .iter()
        .filter_map(|text| moment(text))
        .collect();
    let Some(oldest) = times.first() else {
        return (
            "12mo",
            "how far the rows go back is not known (no statistics, or none that the role may see)"
                .to_owned(),
        );
    };
    let now = now.naive_utc();
    let days = (now - *oldest).num_days();
    let (older_than, limit) = [("24mo", 730), ("12mo", 365), ("6mo", 183)]
        .into_iter()
        .find(|(_, limit)| days > *limit)
        .unwrap_or(("90d", 90));
    let cut = now - chrono::TimeDelta::days(limit);
    let older = times.iter().filter(|at| **at < cut).count();
    (
        older_than,
        format!(
            "rows go back to {}-{:02}, about {:.0}% are older than {older_than}",
            oldest.year(),
            oldest.month(),
            older as f64 * 100.0 / times.len() as f64
        ),
    )
}

/// The rule as a line of YAML.
pub(super) fn line(table: &Table, rule: &Rule<'_>, zone: &str) -> String {
    let zone = match rule.column.kind.as_str() {
        // On whose clocks it was written nobody knows; those of the sessions are likely.
        "timestamptz" => String::new(),
        _ if zone == "UTC" => String::new(),
        _ => format!(", time_zone: {zone}"),
    };
    format!(
        "- {{ table: {}, column: {}, older_than: {}{zone} }}",
        scalar(&table.name.to_string()),
        scalar(&rule.column.name),
        rule.older_than
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;
    use crate::values::TableName;

    fn column(name: &str, now: bool, indexed: bool) -> TimeColumn {
        TimeColumn {
            name: name.to_owned(),
            kind: "timestamptz".to_owned(),
            not_null: true,
            now,
            indexed,
            bounds: vec![
                "2024-01-01 00:00:00+00".to_owned(),
                "2026-01-01 00:00:00+00".to_owned(),
            ],
        }
    }

    fn table(columns: Vec<TimeColumn>) -> Table {
        Table {
            name: TableName {
                schema: "public".to_owned(),
                table: "t".to_owned(),
            },
            bytes: 1 << 20,
            rows: 20_000.0,
            inserted: 20_000,
            updated: 0,
            referenced_by: Vec::new(),
            columns,
            on_its_way_out: false,
        }
    }

    #[test]
    fn the_column_that_tells_the_age() {
        let now = "2026-07-01T00:00:00Z".parse().unwrap();
        let chosen = |columns: Vec<TimeColumn>| {
            let table = table(columns);
            rule(&table, now).map(|rule| (rule.column.name.clone(), rule.older_than))
        };
        let name = |name: &str| column(name, false, false);
        assert_eq!(
            chosen(vec![name("updated_at"), name("created_at")]).unwrap(),
            ("created_at".to_owned(), "24mo")
        );
        assert_eq!(
            chosen(vec![column("x", true, false), name("created_at")])
                .unwrap()
                .0,
            "x"
        );
        assert_eq!(
            chosen(vec![name("created_at"), name("expires_at")]).unwrap(),
            ("expires_at".to_owned(), "0d")
        );
        assert_eq!(chosen(vec![name("birth_date"), name("last_seen_at")]), None);
        assert_eq!(chosen(vec![name("holiday")]), None);
    }

    #[test]
    fn what_is_mostly_changed_is_no_log() {
        let mut counters = table(vec![column("created_at", true, true)]);
        assert!(grows(&counters));
        counters.updated = 1_000_000;
        assert!(!grows(&counters));
        counters.updated = 0;
        counters.inserted = 10;
        counters.rows = 10.0;
        assert!(!grows(&counters));
    }
}
