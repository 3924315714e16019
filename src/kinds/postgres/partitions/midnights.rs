//! Whose midnights the bounds of existing partitions are: new ones at others would overlap, or leave gaps.

use std::collections::BTreeSet;

use chrono_tz::{TZ_VARIANTS, Tz};

use super::calendar::{DAY, FIRST, Key, LAST, Point};
use super::make::{LONGEST_NAME, cut};
use super::{Partitions, Subject};
use crate::engines::postgres::RelationName;
use crate::plan::{Finding, Severity};

/// Why none of `wanted` new partitions is made: those that are there begin and end otherwise.
pub(super) fn differ(task: &Partitions, subject: &Subject<'_>, wanted: usize) -> Option<Finding> {
    let (message, suggestion) = match another_zone(task, subject) {
        Some(zone) => (
            format!(
                "{wanted} new partitions are needed, but the existing ones begin and end at midnight in {zone}, and those would in {}: say with `time_zone` which is meant; nothing is created until then",
                subject.zone
            ),
            format!("time_zone: {zone}"),
        ),
        None => off_midnight(task, subject, wanted)?,
    };
    Some(Finding {
        code: "partitions.time_zone".to_owned(),
        severity: Severity::Critical,
        object: subject.table.name.to_string(),
        message,
        suggestion: Some(suggestion),
    })
}

/// What is said where the newest partition begins and ends beside midnight, and the column has no time zone
/// that would tell why; with the partition that leads to the next midnight.
fn off_midnight(
    task: &Partitions,
    subject: &Subject<'_>,
    wanted: usize,
) -> Option<(String, String)> {
    if subject.key != Key::Timestamp {
        return None;
    }
    let (stretch, _, node) = subject.partitions.last()?;
    let beside = |point: Point| point != FIRST && point != LAST && point.rem_euclid(DAY) != 0;
    if !(beside(stretch.0) && beside(stretch.1)) {
        return None;
    }
    let table = &subject.table.name;
    let within = task
        .interval
        .start(subject.key.day(stretch.1, subject.zone)?);
    let next = task.interval.next(within);
    let ends = subject.key.at(next, subject.zone);
    let suffix = format!("_to_{next}");
    let name = format!(
        "{}{suffix}",
        cut(table.relation.raw(), LONGEST_NAME - suffix.len())
    );
    let message = format!(
        "{wanted} new partitions are needed, and would begin and end at midnight, but {} does not ({}): midnights of another time zone, it may be, which a column without one does not tell. Nothing is created until one is there that ends at midnight; make it, and the others follow",
        node.name,
        subject.shown(*stretch)
    );
    let suggestion = format!(
        "CREATE TABLE {} PARTITION OF {table} FOR VALUES FROM ({}) TO ({})",
        RelationName::new(table.schema.raw(), &*name),
        subject.key.literal(stretch.1),
        subject.key.literal(ends)
    );
    Some((message, suggestion))
}

/// The zone whose midnights the existing bounds are, where they are not those
/// of the zone that is configured, and the task does not say which is meant.
fn another_zone(task: &Partitions, subject: &Subject<'_>) -> Option<Tz> {
    if task.time_zone.is_some() || matches!(subject.key, Key::Date | Key::Timestamp) {
        return None;
    }
    let finite = |point: &Point| *point != FIRST && *point != LAST;
    let newest = subject.partitions.iter().rev().take(24);
    let edges: BTreeSet<Point> = newest
        .flat_map(|((from, to), ..)| [*from, *to])
        .filter(finite)
        .collect();
    // Weeks may begin on Sundays, and quarters with the fiscal year.
    let begins = |zone: Tz, edge: Point| {
        let day = subject.key.day(edge, zone);
        day.is_some_and(|day| subject.key.at(day, zone) == edge)
    };
    let midnights = |zone: Tz| edges.iter().filter(|edge| begins(zone, **edge)).count();
    let ours = midnights(subject.zone);
    // One bound may be anything; several at the same midnight are no accident.
    if edges.len() < 2 {
        return None;
    }
    let mut others = std::iter::once(Tz::UTC).chain(TZ_VARIANTS);
    if ours == edges.len() {
        // Days of one season look alike in many zones: which of them is meant is told by how
        // far back, from the newest on, all begin at its midnight.
        let unbroken = |zone: Tz| {
            let all = subject.partitions.iter().rev();
            let mut all = all.flat_map(|((from, to), ..)| [*to, *from]).filter(finite);
            all.position(|edge| !begins(zone, edge))
        };
        let ours = unbroken(subject.zone)?;
        return others.find(|zone| unbroken(*zone).is_none_or(|theirs| theirs > ours));
    }
    let (best, zone) = others
        .map(|zone| (midnights(zone), zone))
        .reduce(|best, next| if next.0 > best.0 { next } else { best })?;
    (best > ours && best >= 2).then_some(zone)
}
