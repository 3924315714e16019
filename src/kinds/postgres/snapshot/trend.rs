//! What earlier snapshots saw, and how much the database grew since.

use std::collections::BTreeMap;

use chrono::{NaiveDate, TimeDelta};
use serde::{Deserialize, Serialize};

use super::Snapshot;
use super::memory::{recall, remember};
use super::tables::Sizes;
use crate::plan::{Finding, Moment, Plan, Severity};
use crate::values::Bytes;

/// For how many days sizes are kept, one for each day.
const DAYS: usize = 36;

/// How many tables are kept for each day.
const TABLES: usize = 20;

/// The sizes of one day.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Day {
    database: i64,
    tables: BTreeMap<String, i64>,
}

/// Compares with the sizes a period ago, and keeps today's.
pub(super) fn growth(
    database: i64,
    sizes: &Sizes,
    options: &Snapshot,
    at: &Moment,
    plan: &mut Plan,
) {
    let mut days: BTreeMap<NaiveDate, Day> = recall(at, "sizes");
    let today = at.now.with_timezone(&at.zone).date_naive();
    let period = TimeDelta::from_std(options.growth_period.get()).unwrap_or(TimeDelta::MAX);
    let before = days.range(..=today - period).next_back();
    if let Some((day, before)) = before {
        let grown = database - before.database;
        let limit = (before.database as f64 * options.max_growth.share())
            .max(options.min_growth.get() as f64);
        if grown as f64 > limit {
            let most = sizes
                .largest
                .iter()
                .filter_map(|t| {
                    Some((t.bytes() - before.tables.get(&t.name.to_string())?, &t.name))
                })
                .max()
                .filter(|(more, _)| *more > 0)
                .map(|(more, name)| format!("; {name} grew most, by {}", bytes(more)))
                .unwrap_or_default();
            plan.findings.push(Finding {
                code: "disk.growth".to_owned(),
                severity: Severity::Warning,
                object: "database".to_owned(),
                message: format!(
                    "the database grew from {} to {} since {day}, by {:.0} %{most}",
                    bytes(before.database),
                    bytes(database),
                    100.0 * grown as f64 / (before.database as f64).max(1.0)
                ),
                suggestion: Some("SELECT c.oid::regclass, pg_size_pretty(pg_total_relation_size(c.oid)) FROM pg_class c WHERE c.relkind IN ('r', 'm') ORDER BY pg_total_relation_size(c.oid) DESC LIMIT 20".to_owned()),
            });
        }
    }
    let tables = sizes
        .largest
        .iter()
        .take(TABLES)
        .map(|t| (t.name.to_string(), t.bytes()));
    // The first snapshot of a day stands for it.
    days.entry(today).or_insert_with(|| Day {
        database,
        tables: tables.collect(),
    });
    while days.len() > DAYS {
        days.pop_first();
    }
    remember(plan, "sizes", &days);
}

/// A size for people.
pub(super) fn bytes(size: i64) -> String {
    Bytes(u64::try_from(size).unwrap_or(0)).to_string()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use chrono::DateTime;

    use super::super::tables::Size;
    use super::*;
    use crate::engines::postgres::RelationName;

    fn sizes(events: i64) -> Sizes {
        Sizes {
            total: events,
            largest: vec![Size {
                name: RelationName::new("public", "events"),
                heap: events,
                ..Size::default()
            }],
        }
    }

    #[test]
    fn growth_is_measured_over_its_period() {
        let mut at = Moment {
            now: DateTime::UNIX_EPOCH + TimeDelta::days(20_000),
            round: 1,
            baselines: HashMap::new(),
            memories: HashMap::new(),
            former: Default::default(),
            zone: chrono_tz::Europe::Berlin,
        };
        let options = Snapshot::default();
        let gib = 1 << 30;
        let mut told = Vec::new();
        // Half a GiB a day on top of ten: after a week more than 20 % of ten.
        for day in 0..60 {
            let mut plan = Plan::default();
            growth(
                10 * gib + day * gib / 2,
                &sizes(day * gib / 2),
                &options,
                &at,
                &mut plan,
            );
            for memory in plan.memories {
                at.memories.insert(memory.key, memory.value);
            }
            told.push(plan.findings.pop());
            at.now += TimeDelta::days(1);
        }
        assert!(told[..7].iter().all(Option::is_none), "no week has passed");
        let finding = told[7].as_ref().map(|f| f.message.as_str());
        assert!(
            finding.is_some_and(
                |m| m.contains("from 10 GB to 13.5 GB") || m.contains("from 10 GB to 14 GB")
            ),
            "{finding:?}"
        );
        assert!(
            finding.is_some_and(|m| m.contains("public.events grew most, by 3.5 GB")),
            "{finding:?}"
        );
        // Half a GiB a day is less than 20 % a week of a large database.
        assert!(told[59].is_none());
        let days: BTreeMap<NaiveDate, Day> = recall(&at, "sizes");
        assert_eq!(days.len(), DAYS);
    }
}
