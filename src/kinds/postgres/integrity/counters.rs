//! Numbers that run out: sequences, the columns they feed, and integer keys.

mod read;

use std::collections::BTreeMap;

pub(super) use self::read::{keys, sequences, unseen};

use super::super::common::Selection;
use super::super::rights::grant;
use super::Integrity;
use super::columns::Column;
use crate::engines::postgres::{Identifier, RelationName};
use crate::plan::{Finding, Severity};

/// A sequence, with one column that takes its numbers if there is one.
#[derive(Clone, Debug)]
pub(super) struct Sequence {
    name: RelationName,
    /// The share of its numbers that is used, as far as the column can hold
    /// them; none where the role may not look.
    used: Option<f64>,
    /// The last number, and the last possible one.
    last: i64,
    end: i64,
    column: Option<Column>,
    /// The column ends before the sequence does.
    column_ends_first: bool,
    /// Where it would end by itself.
    own_end: i64,
    /// The last number that the column can hold; none where there is no such column.
    column_end: Option<i64>,
    /// It counts upwards.
    up: bool,
    /// What the sequence counts in: `integer`.
    kind: String,
    locked: bool,
}

/// An integer column of a key, with the share of its type that is used.
#[derive(Clone, Debug)]
pub(super) struct Key {
    column: Column,
    used: f64,
}

/// A table with integer keys of which cannot be seen how far they are.
#[derive(Clone, Debug)]
pub(super) struct Unseen {
    table: RelationName,
    /// The role may read them, and row-level security hides their statistics.
    filtered: bool,
}

impl Sequence {
    /// Makes it as long as its column allows. A wider type alone leaves a
    /// limit where it is that somebody has set.
    fn lengthened(&self, kind: &str) -> String {
        let limit = if self.up {
            " NO MAXVALUE"
        } else {
            " NO MINVALUE"
        };
        // The limit of its type goes with the type.
        let natural = match self.kind.as_str() {
            "smallint" => i64::from(i16::MAX),
            "integer" => i64::from(i32::MAX),
            _ => i64::MAX,
        };
        let by_type = self.own_end == natural || self.own_end == -natural - 1;
        let limit = if by_type && self.kind != kind {
            ""
        } else {
            limit
        };
        let kind = if self.kind == kind {
            String::new()
        } else {
            format!(" AS {kind}")
        };
        format!("ALTER SEQUENCE {}{kind}{limit}", self.name)
    }

    /// The statements after which there are more numbers, and nothing less
    /// would do; none where nothing helps.
    fn remedy(&self) -> Option<String> {
        // As wide as it can be made.
        if self.end == i64::MAX || self.end == i64::MIN {
            return None;
        }
        let own_end = self.own_end;
        let Some(column) = &self.column else {
            return Some(self.lengthened("bigint"));
        };
        match self.column_end {
            // The column has room that the sequence does not use.
            Some(end) if end.unsigned_abs() > own_end.unsigned_abs() => {
                let kind = if column.domain {
                    "bigint"
                } else {
                    &*column.kind
                };
                Some(self.lengthened(kind))
            }
            None => Some(self.lengthened("bigint")),
            Some(_) => {
                let column = column.widened()?;
                let ends_later = own_end == i64::MAX || own_end == i64::MIN;
                Some(if ends_later {
                    column
                } else {
                    format!("{column}; {}", self.lengthened("bigint"))
                })
            }
        }
    }
}

/// What is close to its end, the worst of it for each object.
pub(super) fn near_end(
    options: &Integrity,
    sequences: &[Sequence],
    keys: &[Key],
    (unseen, role): (&[Unseen], &str),
) -> Vec<Finding> {
    let selection = Selection::new(&options.include, &options.exclude, &options.schemas);
    let mut found: BTreeMap<String, (f64, Finding)> = BTreeMap::new();
    let mut note = |used: f64, object: String, message: String, suggestion: Option<String>| {
        if used < options.near_end.share()
            || found.get(&object).is_some_and(|(worse, _)| *worse >= used)
        {
            return;
        }
        let severity = if used >= options.almost_at_end.share() {
            Severity::Critical
        } else {
            Severity::Warning
        };
        let finding = Finding {
            code: "sequence.near_end".to_owned(),
            severity,
            object: object.clone(),
            message,
            suggestion,
        };
        found.insert(object, (used, finding));
    };
    let mut unreadable = Vec::new();
    for sequence in sequences {
        let covered = match &sequence.column {
            Some(column) => selection.covers_any(&[&sequence.name, &column.table]),
            None => selection.covers(&sequence.name),
        };
        if !covered || sequence.locked {
            continue;
        }
        let Some(used) = sequence.used else {
            unreadable.push(&sequence.name);
            continue;
        };
        let column = sequence.column.as_ref();
        let ends = match column.filter(|_| sequence.column_ends_first) {
            Some(column) => format!(
                "its column {} is {} and holds no more than {}",
                column.object(),
                column.kind,
                sequence.end
            ),
            None => format!("it ends at {}", sequence.end),
        };
        let suggestion = sequence.remedy();
        let in_the_way = match (&suggestion, column) {
            (Some(remedy), Some(column)) if remedy.starts_with("ALTER TABLE") => {
                column.in_the_way()
            }
            (None, Some(column)) => column.in_the_way(),
            _ => String::new(),
        };
        note(
            used,
            column.map_or_else(|| sequence.name.to_string(), Column::object),
            format!(
                "the sequence {} has used {:.1} % of its numbers, the last one is {}: {ends}. After that every INSERT that needs one fails{in_the_way}",
                sequence.name,
                // Never rounded up to a hundred.
                (used * 1000.0).floor() / 10.0,
                sequence.last
            ),
            suggestion,
        );
    }
    for key in keys
        .iter()
        .filter(|key| selection.covers(&key.column.table))
    {
        note(
            key.used,
            key.column.object(),
            format!(
                "the key column {} is {} and has used {:.1} % of its range. After that every INSERT of a larger number fails{}",
                key.column.object(),
                key.column.kind,
                (key.used * 1000.0).floor() / 10.0,
                key.column.in_the_way()
            ),
            // The sequence that feeds it has to go on as far.
            sequences
                .iter()
                .find(|s| {
                    s.column
                        .as_ref()
                        .is_some_and(|c| c.object() == key.column.object())
                        && s.own_end != i64::MAX
                })
                .map_or_else(
                    || key.column.widened(),
                    |s| {
                        let column = key.column.widened()?;
                        Some(format!("{column}; {}", s.lengthened("bigint")))
                    },
                ),
        );
    }
    let mut findings: Vec<Finding> = found.into_values().map(|(_, finding)| finding).collect();
    unreadable.dedup();
    if let Some(first) = unreadable.first() {
        let role = Identifier::new(role);
        let others = match unreadable.len() - 1 {
            0 => String::new(),
            n => format!(" and {n} more"),
        };
        findings.push(Finding {
            code: "privilege.missing".to_owned(),
            severity: Severity::Info,
            object: first.to_string(),
            message: format!("{role} cannot read the sequence {first}{others}: whether its numbers run out is not known"),
            suggestion: Some(grant("SELECT", "SEQUENCE ", &unreadable, &role)),
        });
    }
    let role = Identifier::new(role);
    for filtered in [false, true] {
        let these = unseen.iter().filter(|one| one.filtered == filtered);
        let these = these.map(|one| &one.table);
        let these: Vec<&RelationName> = these.filter(|table| selection.covers(table)).collect();
        let Some(first) = these.first() else {
            continue;
        };
        let others = match these.len() - 1 {
            0 => String::new(),
            n => format!(" and {n} more"),
        };
        let (why, suggestion) = match filtered {
            true => (
                "row-level security is in force for it there, which hides the statistics, too",
                format!("ALTER ROLE {role} BYPASSRLS"),
            ),
            false => (
                "it may not read the keys",
                grant("SELECT", "", &these, &role),
            ),
        };
        findings.push(Finding {
            code: "privilege.missing".to_owned(),
            severity: Severity::Info,
            object: first.to_string(),
            message: format!("whether the numbers in keys of {first}{others} run out is not known to {role}: {why}"),
            suggestion: Some(suggestion),
        });
    }
    findings
}
