//! Why statistics of a table are made anew.

use std::collections::HashSet;

use chrono::TimeDelta;

use super::super::common::{of_rows, rows};
use super::{Analyze, Rule, TableFacts};
use crate::plan::Moment;

impl Analyze {
    pub(super) fn why(&self, table: &TableFacts, at: &Moment) -> Option<String> {
        if table.bytes == 0 {
            // Nothing to sample: ANALYZE would leave no statistics behind,
            // and the table would be asked for again every night.
            return None;
        }
        if let Some(reason) = never(table) {
            return Some(reason);
        }
        let threshold = self.threshold(table.rows);
        if table.changed as f64 >= threshold {
            return Some(format!(
                "{} of {} changed since the last ANALYZE, from {} on it is due",
                rows(table.changed as f64),
                of_rows(table.rows.max(0.0)),
                rows(threshold)
            ));
        }
        missing_reason(table, table.rows, at)
    }

    pub(super) fn why_parent(
        &self,
        parent: &TableFacts,
        leaves: &[&TableFacts],
        ours: &HashSet<u32>,
        at: &Moment,
    ) -> Option<String> {
        if leaves.iter().all(|t| t.bytes == 0) && parent.bytes == 0 {
            return None;
        }
        if let Some(reason) = self.why(parent, at) {
            return Some(reason);
        }
        let counted: f64 = leaves.iter().map(|t| t.rows.max(0.0)).sum();
        let Some(last) = parent.last_analyze else {
            if !parent.partitioned {
                return missing_reason(parent, counted.max(1.0), at);
            }
            return Some(
                "the partitioned table as a whole was never analyzed, and autovacuum never does it"
                    .to_owned(),
            );
        };
        let (age, limit) = (at.now - last, self.parent_max_age.get());
        let limit = TimeDelta::from_std(limit).unwrap_or(TimeDelta::MAX);
        let changed: i64 = leaves.iter().map(|t| t.changed).sum();
        let threshold = self.threshold(counted);
        // Rows that partitions gained or lost count too: autovacuum resets
        // the partitions' counters, and never looks at the parent. Of a table
        // that others inherit from only its own rows are known.
        let drift = if parent.partitioned {
            (counted - parent.rows.max(0.0)).abs()
        } else {
            0.0
        };
        // Analyzing it does not set back what its children count, nor what partitions do that
        // belong to others, or to no task of ours.
        let resets = parent.partitioned && leaves.iter().all(|t| t.may && ours.contains(&t.oid));
        let due = resets || age > TimeDelta::hours(20);
        if due && (changed as f64).max(drift) >= threshold {
            return Some(format!(
                "{} of {} {} changed since the last ANALYZE of the whole",
                rows((changed as f64).max(drift)),
                of_rows(counted),
                if parent.partitioned {
                    "in its partitions"
                } else {
                    "of tables that inherit from it"
                }
            ));
        }
        let newer = leaves
            .iter()
            .filter(|t| {
                t.last_analyze
                    .is_some_and(|t| t - last > TimeDelta::minutes(1))
            })
            .count();
        if newer > 0 && age > limit {
            return Some(format!(
                "{newer} of the tables below it were analyzed since, the whole not for {} days",
                age.num_days()
            ));
        }
        missing_reason(parent, counted.max(1.0), at)
    }

    fn threshold(&self, rows: f64) -> f64 {
        let rows = rows.max(0.0);
        let share = rows * self.min_changed.share();
        let threshold = match self.rule {
            Rule::Share => share,
            Rule::Sqrt => share.min((1000.0 * rows).sqrt()),
        };
        threshold.max(self.min_changed_rows.max(1) as f64)
    }
}

/// Why a table is due whatever changed.
pub(super) fn never(table: &TableFacts) -> Option<String> {
    if table.last_analyze.is_some() || table.bytes == 0 {
        return None;
    }
    Some(if table.has_statistics {
        "the server counts changes anew since its statistics were gathered (a crash, another server, or a reset), so nobody knows how many there were".to_owned()
    } else {
        "never analyzed".to_owned()
    })
}

/// Statistics that are missing, and that no ANALYZE of ours has tried to gather.
fn missing_reason(table: &TableFacts, rows: f64, at: &Moment) -> Option<String> {
    // Of no rows there is nothing to be known.
    if rows < 1.0 {
        return None;
    }
    let tried: Vec<String> = at
        .memories
        .get(&table.name.to_string())
        .and_then(|value| serde_json::from_value(value.clone()).ok())
        .unwrap_or_default();
    let new = table.missing.iter().filter(|(key, _)| !tried.contains(key));
    let what: Vec<&str> = new.map(|(_, what)| what.as_str()).collect();
    let first = what.first()?;
    Some(match what.len() {
        1 => format!("there are no statistics of {first}"),
        n => format!("there are no statistics of {first} and {} more", n - 1),
    })
}
