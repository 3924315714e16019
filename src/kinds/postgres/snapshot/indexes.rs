//! Indexes that nobody uses, that are there twice, and that are missing.

pub(super) mod read;

use std::collections::{BTreeMap, HashSet};

use chrono::{DateTime, TimeDelta, Utc};

use super::super::common::Selection;
use super::super::reindex::IndexFacts;
use super::Snapshot;
use super::memory::{recall, remember};
use super::tables::FEWEST_BYTES;
use super::trend::bytes;
use crate::engines::postgres::{Identifier, RelationName};
use crate::plan::{Finding, Measurement, Moment, Plan, Severity};

/// How many indexes of one complaint are named.
const MOST: usize = 10;

/// What is known about indexes.
#[derive(Clone, Debug, Default)]
pub(super) struct Indexes {
    idle: Vec<Idle>,
    /// Since when the servers have been counting; none where one of them
    /// could not be asked.
    counting: Option<Counting>,
    doubles: Vec<Double>,
    missing: Vec<Missing>,
    used: Vec<Used>,
    /// How many were never scanned since the server counts.
    never: i64,
}

/// How often one of the largest indexes is used.
#[derive(Clone, Debug)]
struct Used {
    name: RelationName,
    scans: i64,
    tuples: i64,
}

#[derive(Clone, Debug)]
struct Counting {
    /// The latest reset among the servers; none where none was ever reset.
    since: Option<DateTime<Utc>>,
    servers: usize,
}

/// An index without scans.
#[derive(Clone, Debug)]
struct Idle {
    name: RelationName,
    table: RelationName,
    bytes: i64,
    partitioned: bool,
}

/// An index that another one makes superfluous.
#[derive(Clone, Debug)]
struct Double {
    name: RelationName,
    table: RelationName,
    other: RelationName,
    bytes: i64,
    /// The same in every respect; else only the beginning of the other.
    same: bool,
    partitioned: bool,
}

/// A foreign key without an index to look up referring rows.
#[derive(Clone, Debug)]
struct Missing {
    constraint: Identifier,
    table: RelationName,
    referenced: RelationName,
    /// Quoted, in the order of the key.
    columns: Vec<String>,
    /// What an index has to have instead of those that are cast.
    indexed: Vec<String>,
    bytes: i64,
    partitioned: bool,
}

impl Missing {
    /// The columns of the index that serves it, and as many other keys of the table without one as can be: any order
    /// will do for a key, as long as its columns are the first ones.
    fn served_by<'a>(&'a self, all: &'a [Missing]) -> &'a [String] {
        let serves = |other: &&Missing| {
            other.table == self.table
                && other
                    .indexed
                    .get(..self.indexed.len())
                    .is_some_and(|first| self.indexed.iter().all(|column| first.contains(column)))
        };
        // Of as many columns the first one, so that it is the same for all that it serves.
        let longest = all.iter().filter(serves).rev();
        let longest = longest.max_by_key(|other| other.indexed.len());
        longest.map_or(&self.indexed, |other| &other.indexed)
    }
}

/// Puts the bloat of the largest indexes into the time series, as `reindex`
/// would estimate it.
pub(super) fn measure_bloat(largest: &[IndexFacts], at: &Moment, plan: &mut Plan) {
    for index in largest.iter().filter(|i| i.bytes > FEWEST_BYTES) {
        let object = index.name();
        if let Some(value) = index.estimated_bloat(at.baseline(&object, &index.made_as)) {
            plan.measurements.push(Measurement {
                metric: "index.bloat".to_owned(),
                object,
                value,
            });
        }
    }
}

/// Indexes of partitioned tables cannot be dropped concurrently.
fn drop_index(name: &RelationName, partitioned: bool) -> Option<String> {
    let how = if partitioned { "" } else { "CONCURRENTLY " };
    Some(format!("DROP INDEX {how}{name}"))
}

impl Indexes {
    pub(super) fn judge(&self, options: &Snapshot, at: &Moment, plan: &mut Plan) {
        let mut note = |metric: &str, object: String, value: i64| {
            plan.measurements.push(Measurement {
                metric: metric.to_owned(),
                object,
                value: value as f64,
            });
        };
        note("indexes.never_used", String::new(), self.never);
        for index in &self.used {
            note("index.scans", index.name.to_string(), index.scans);
            note("index.tuples", index.name.to_string(), index.tuples);
        }
        let selection = Selection::new(&options.include, &options.exclude, &options.schemas);
        let mut doubles: Vec<&Double> = self
            .doubles
            .iter()
            .filter(|d| selection.covers_any(&[&d.name, &d.table]))
            .collect();
        doubles.sort_by(|a, b| {
            (b.same, b.bytes)
                .cmp(&(a.same, a.bytes))
                .then_with(|| a.name.cmp(&b.name))
        });
        // The one that makes another superfluous has to stay, used or not.
        let spoken_for: HashSet<&RelationName> = self
            .doubles
            .iter()
            .flat_map(|d| [&d.name, &d.other])
            .collect();
        self.judge_idle(&selection, &spoken_for, options, at, plan);
        for double in doubles.into_iter().take(MOST) {
            let (code, what) = if double.same {
                ("index.duplicate", "is the same as")
            } else {
                ("index.overlapping", "is only the beginning of")
            };
            plan.findings.push(Finding {
                code: code.to_owned(),
                severity: Severity::Info,
                object: double.name.to_string(),
                message: format!(
                    "{} on {} {what} {}: it costs every write and {}",
                    double.name,
                    double.table,
                    double.other,
                    bytes(double.bytes)
                ),
                suggestion: drop_index(&double.name, double.partitioned),
            });
        }
        let missing = self.missing.iter().filter(|m| selection.covers(&m.table));
        for missing in missing.take(MOST) {
            let (how, blocks) = if missing.partitioned {
                ("", ". On a partitioned table building it blocks writes")
            } else {
                ("CONCURRENTLY ", "")
            };
            plan.findings.push(Finding {
                code: "index.missing_foreign_key".to_owned(),
                severity: Severity::Info,
                object: format!("{}.{}", missing.table, missing.constraint),
                message: format!(
                    "no index serves {} ({}): every delete in {} reads all of {} ({}){blocks}",
                    missing.constraint,
                    missing.columns.join(", "),
                    missing.referenced,
                    missing.table,
                    bytes(missing.bytes)
                ),
                suggestion: Some(format!(
                    "CREATE INDEX {how}ON {} ({})",
                    missing.table,
                    missing.served_by(&self.missing).join(", ")
                )),
            });
        }
    }

    /// The server does not know how old an index is, so it has to have been
    /// seen unused for as long as is asked for.
    fn judge_idle(
        &self,
        selection: &Selection<'_>,
        spoken_for: &HashSet<&RelationName>,
        options: &Snapshot,
        at: &Moment,
        plan: &mut Plan,
    ) {
        let known: BTreeMap<String, DateTime<Utc>> = recall(at, "unused");
        let Some(counting) = &self.counting else {
            // What is known stays known until all servers can be asked again.
            remember(plan, "unused", &known);
            return;
        };
        let limit =
            at.now - TimeDelta::from_std(options.unused_after.get()).unwrap_or(TimeDelta::MAX);
        let counted = counting.since.is_none_or(|since| since <= limit);
        let mut now = BTreeMap::new();
        let mut told = 0;
        for index in &self.idle {
            let object = index.name.to_string();
            let since = known.get(&object).copied().unwrap_or(at.now);
            now.insert(object.clone(), since);
            let due =
                counted && since <= limit && selection.covers_any(&[&index.name, &index.table]);
            if !due || spoken_for.contains(&index.name) || told == MOST {
                continue;
            }
            told += 1;
            let servers = match counting.servers {
                1 => String::new(),
                n => format!(" on any of {n} servers"),
            };
            plan.findings.push(Finding {
                code: "index.unused".to_owned(),
                severity: Severity::Info,
                object: object.clone(),
                message: format!(
                    "{object} on {} has not been used{servers} for {} or longer: it costs every write and {}",
                    index.table,
                    options.unused_after,
                    bytes(index.bytes)
                ),
                suggestion: drop_index(&index.name, index.partitioned),
            });
        }
        remember(plan, "unused", &now);
    }
}
