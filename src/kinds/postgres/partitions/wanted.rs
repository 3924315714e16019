//! Which partitions are missing: what the calendar asks for, and gaps.

use chrono::{Datelike, NaiveDate};

use super::calendar::{FIRST, Point};
use super::coverage::{Stretch, missing};
use super::{Partitions, Subject, finding};
use crate::plan::{Finding, Moment, Plan, Severity};

/// A partition that is to be.
pub(super) struct Wanted {
    pub(super) stretch: Stretch,
    /// The first day of the period it is in.
    pub(super) day: NaiveDate,
    /// Why it is wanted.
    pub(super) reason: String,
}

/// A gap that needs more partitions than this is no oversight.
const MOST_IN_A_GAP: usize = 1_000;

/// What an `integer` ends at, as a bound.
const INTEGER_ENDS: Point = i32::MAX as Point;

/// Those that the type of the key has numbers for: the server refuses a bound beyond its end, and
/// every row, too.
pub(super) fn within_type(
    subject: &Subject<'_>,
    mut wanted: Vec<Wanted>,
    plan: &mut Plan,
) -> Vec<Wanted> {
    if subject.table.key_type != "int4" {
        return wanted;
    }
    let beyond = clip(&mut wanted, (FIRST, INTEGER_ENDS));
    if beyond == 0 {
        return wanted;
    }
    let ends = subject.key.day(INTEGER_ENDS, subject.zone);
    let ends = ends.map_or_else(String::new, |day| format!(" ({day})"));
    let table = &subject.table.name;
    plan.findings.push(finding(
        "partitions.type_ends",
        Severity::Warning,
        subject,
        format!(
            "{beyond} of the partitions that are asked for reach beyond {INTEGER_ENDS}{ends}, where the type of {} ends: no row of {table} can be later, so none is made for that time. A key of partitions cannot be altered: make a table whose key is a bigint, partitioned as this one is, and move the rows to it before then",
            subject.column
        ),
        None,
    ));
    wanted
}

/// Leaves of each what lies within, and of those that lie beyond it altogether nothing. How many reached beyond.
fn clip(wanted: &mut Vec<Wanted>, (low, high): Stretch) -> usize {
    let beyond = |w: &&Wanted| w.stretch.0 < low || w.stretch.1 > high;
    let count = wanted.iter().filter(beyond).count();
    wanted.retain(|w| w.stretch.0 < high && w.stretch.1 > low);
    for one in wanted {
        one.stretch = (one.stretch.0.max(low), one.stretch.1.min(high));
    }
    count
}

/// Those that lie within what the table itself takes: a row that fits in a partition of it and not in the table comes
/// nowhere.
pub(super) fn within_table(
    subject: &Subject<'_>,
    mut wanted: Vec<Wanted>,
    plan: &mut Plan,
) -> Vec<Wanted> {
    let within = subject.within();
    let beyond = clip(&mut wanted, within);
    if beyond == 0 {
        return wanted;
    }
    let table = &subject.table.name;
    plan.findings.push(finding(
        "partitions.table_ends",
        Severity::Warning,
        subject,
        format!(
            "{beyond} of the partitions that are asked for reach beyond what {table} takes as a part of another table, {}: none is made for that time, as no row would come into it. What comes then has to have a table beside {table}, with partitions of its own: make that, and name it in `tables`",
            subject.shown(within)
        ),
        None,
    ));
    wanted
}

/// Those that are not over as soon as they are made: a part of a period may be, where another partition, or the
/// table itself, begins or ends within it.
pub(super) fn not_over(
    task: &Partitions,
    subject: &Subject<'_>,
    at: &Moment,
    mut wanted: Vec<Wanted>,
) -> Vec<Wanted> {
    if let Some(keep) = task.keep {
        let cut = subject.key.instant(keep.before(at.now), subject.zone);
        wanted.retain(|one| one.stretch.1 > cut);
    }
    wanted
}

/// Nobody makes partitions so many years ahead of those that are asked for.
const FAR: i32 = 100;

/// A partition that takes every value from somewhere in the periods that are asked for on: as
/// long as it is there, no other is ever needed, and none is ever over.
pub(super) fn catch_all(task: &Partitions, subject: &Subject<'_>, at: &Moment) -> Option<Finding> {
    let (key, zone) = (subject.key, subject.zone);
    let today = at.now.with_timezone(&zone).date_naive();
    let mut end = task.interval.start(today);
    for _ in 0..=task.ahead {
        end = task.interval.next(end);
    }
    let far = end.with_year(end.year().saturating_add(FAR)).unwrap_or(end);
    let (last, far) = (key.at(end, zone), key.at(far, zone));
    let (stretch, _, node) = subject
        .partitions
        .iter()
        .find(|((from, to), ..)| *from < last && *to > far)?;
    let table = &subject.table.name;
    Some(Finding {
        code: "partitions.catch_all".to_owned(),
        severity: Severity::Critical,
        object: node.name.to_string(),
        message: format!(
            "{} takes every value {}: while it is there no partition of {table} can be made for them, and its rows are never retired. Detach it, run this task again, which makes the partitions, and move its rows with INSERT INTO {table} SELECT; a DEFAULT partition takes what no other does, and is in nobody's way",
            node.name,
            subject.shown(*stretch)
        ),
        suggestion: Some(format!(
            "ALTER TABLE {table} DETACH PARTITION {}",
            node.name
        )),
    })
}

/// What the calendar asks for and no partition covers.
pub(super) fn wanted(
    task: &Partitions,
    subject: &Subject<'_>,
    at: &Moment,
    plan: &mut Plan,
) -> Vec<Wanted> {
    let (key, zone) = (subject.key, subject.zone);
    // What somebody is detaching takes no rows any more.
    let covered = subject.stretches();
    let today = at.now.with_timezone(&zone).date_naive();
    let current = task.interval.start(today);
    let mut wanted = Vec::new();
    let mut start = current;
    for ahead in 0..=task.ahead {
        let next = task.interval.next(start);
        for stretch in missing((key.at(start, zone), key.at(next, zone)), &covered) {
            let reason = match ahead {
                0 => "the current period has no partition".to_owned(),
                n => format!("{n} of {} ahead, and not there yet", task.ahead),
            };
            wanted.push(Wanted {
                stretch,
                day: start,
                reason,
            });
        }
        start = next;
    }
    let first_wanted = key.at(current, zone);
    // Nobody misses a partition that would be over at once.
    let cut = task.keep.map(|keep| key.instant(keep.before(at.now), zone));
    let cut = cut.and_then(|cut| key.day(cut, zone));
    let cut = cut.map(|day| key.at(task.interval.start(day), zone));
    for (from, to) in subject.gaps() {
        let from = cut.map_or(from, |cut| from.max(cut));
        let gap = (from, to.min(first_wanted));
        if gap.0 >= gap.1 {
            continue;
        }
        if !task.fill_gaps {
            plan.findings.push(finding(
                "partitions.gap",
                Severity::Warning,
                subject,
                format!("no partition covers the values {}", subject.shown(gap)),
                Some("set `fill_gaps: true`, or create the partition".to_owned()),
            ));
            continue;
        }
        let Some(mut day) = key.day(gap.0, zone).map(|day| task.interval.start(day)) else {
            continue;
        };
        let before = wanted.len();
        while key.at(day, zone) < gap.1 {
            if wanted.len() - before >= MOST_IN_A_GAP {
                wanted.truncate(before);
                plan.findings.push(finding(
                    "partitions.gap",
                    Severity::Warning,
                    subject,
                    format!(
                        "no partition covers the values {}: more than {MOST_IN_A_GAP} would be needed, so none is made",
                        subject.shown(gap)
                    ),
                    None,
                ));
                break;
            }
            let next = task.interval.next(day);
            let stretch = (key.at(day, zone).max(gap.0), key.at(next, zone).min(gap.1));
            if stretch.0 < stretch.1 {
                let reason = "between existing partitions, and covered by none".to_owned();
                wanted.push(Wanted {
                    stretch,
                    day,
                    reason,
                });
            }
            day = next;
        }
    }
    wanted.sort_by_key(|wanted| wanted.stretch);
    wanted
}
