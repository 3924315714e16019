//! Partitions to come: which, how they are called, and what they are made of.

use std::collections::HashSet;

use chrono::NaiveDate;

use super::calendar::Interval;
use super::coverage::{Stretch, missing};
use super::facts::{Facts, Node};
use super::make::{LONGEST_NAME, afterwards, cut, make, not_to_be_copied};
use super::{Partitions, Subject};
use crate::engines::postgres::{Identifier, RelationName};
use crate::plan::{Finding, Moment, Param, Plan, Query, Severity, Statement, Step};

/// A partition that is to be.
struct Wanted {
    stretch: Stretch,
    /// The first day of the period it is in.
    day: NaiveDate,
    /// Why it is wanted.
    reason: String,
}

/// Plans the partitions of one table that are missing.
pub(super) fn plan(
    task: &Partitions,
    subject: &Subject<'_>,
    facts: &Facts,
    at: &Moment,
    taken: &mut HashSet<(String, String)>,
    plan: &mut Plan,
) {
    let wanted = wanted(task, subject, at, plan);
    strays_elsewhere(subject, &wanted, plan);
    if wanted.is_empty() {
        return;
    }
    let template = subject
        .partitions
        .iter()
        .rev()
        .find(|(_, _, n)| n.kind != "f")
        .map(|(_, _, node)| *node);
    if let Some(why) = template.and_then(|node| not_to_be_copied(node, facts)) {
        plan.findings.push(finding(
            "partitions.unsuitable",
            Severity::Critical,
            subject,
            format!("{} new partitions are needed, but {why}", wanted.len()),
            None,
        ));
        return;
    }
    let largest = i64::try_from(task.max_default_size.get()).unwrap_or(i64::MAX);
    if let Some(default) = subject.default.filter(|default| default.bytes > largest) {
        plan.findings.push(finding(
            "partitions.default_large",
            Severity::Critical,
            subject,
            format!(
                "{} new partitions are needed, but while one is attached nobody could use {}, which is larger than max_default_size ({})",
                wanted.len(), default.name, task.max_default_size
            ),
            None,
        ));
        return;
    }
    for wanted in wanted {
        let rows = strays(subject, wanted.stretch);
        if rows > 0 && !may_move(task, subject, &wanted, rows, plan) {
            continue;
        }
        let name = free_name(task, subject, &wanted, taken);
        let step = step(subject, facts, template, &wanted, &name, rows);
        plan.steps.push(step);
        published_in_part(template, &name, plan);
    }
}

/// What the calendar asks for and no partition covers.
fn wanted(task: &Partitions, subject: &Subject<'_>, at: &Moment, plan: &mut Plan) -> Vec<Wanted> {
    let (key, zone) = (subject.key, subject.zone);
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
    for (from, to) in subject.gaps() {
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
        while key.at(day, zone) < gap.1 {
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

/// Rows of the default partition in this stretch.
fn strays(subject: &Subject<'_>, (from, to): Stretch) -> i64 {
    let within = |bucket: &i64| (from..to).contains(&subject.key.of_bucket(*bucket));
    subject
        .table
        .strays
        .iter()
        .filter(|(b, _)| within(b))
        .map(|(_, rows)| rows)
        .sum()
}

/// Rows of the default partition that no new partition is for.
fn strays_elsewhere(subject: &Subject<'_>, wanted: &[Wanted], plan: &mut Plan) {
    let Some(default) = subject.default else {
        return;
    };
    let elsewhere = |bucket: i64| {
        let place = subject.key.of_bucket(bucket);
        !wanted
            .iter()
            .any(|w| (w.stretch.0..w.stretch.1).contains(&place))
    };
    let strays = subject
        .table
        .strays
        .iter()
        .filter(|(bucket, _)| elsewhere(*bucket));
    let (mut rows, mut ends) = (0, None);
    for (bucket, count) in strays {
        rows += count;
        let place = subject.key.of_bucket(*bucket);
        let (first, _) = ends.unwrap_or((place, place));
        ends = Some((first, place));
    }
    if let Some((first, last)) = ends {
        // Literals of places that are a quarter of an hour wide.
        let about = match first == last {
            true => subject.key.literal(first),
            false => subject.shown((first, last)),
        };
        plan.findings.push(Finding {
            code: "partitions.default_rows".to_owned(),
            severity: Severity::Warning,
            object: default.name.to_string(),
            message: format!(
                "{rows} rows of {} sit in its default partition, about {about}: no partition covers them, so none is ever retired",
                subject.table.name
            ),
            suggestion: None,
        });
    }
}

/// Whether the rows in the way may be moved; otherwise it is told.
fn may_move(
    task: &Partitions,
    subject: &Subject<'_>,
    wanted: &Wanted,
    rows: i64,
    plan: &mut Plan,
) -> bool {
    let default = subject
        .default
        .map_or_else(String::new, |d| d.name.to_string());
    let why = if !task.move_default_rows {
        "`move_default_rows: true` moves them".to_owned()
    } else if rows > i64::from(task.max_moved_rows) {
        format!("that is more than max_moved_rows ({})", task.max_moved_rows)
    } else if let Some(from) = subject.table.referenced_by.first() {
        format!("moving them would set off the foreign key of {from}")
    } else {
        return true;
    };
    plan.findings.push(Finding {
        code: "partitions.default_in_the_way".to_owned(),
        severity: Severity::Critical,
        object: default,
        message: format!(
            "{rows} rows {} keep the partition of {} for them from being created; {why}",
            subject.shown(wanted.stretch),
            subject.table.name
        ),
        suggestion: Some(format!(
            "SELECT count(*) FROM {} WHERE {}",
            subject.default.map_or(&subject.table.name, |d| &d.name),
            condition(subject, wanted.stretch)
        )),
    });
    false
}

fn condition(subject: &Subject<'_>, (from, to): Stretch) -> String {
    let (column, key) = (subject.column, subject.key);
    format!(
        "{column} >= {} AND {column} < {}",
        key.literal(from),
        key.literal(to)
    )
}

/// A name by the pattern that nothing else bears. The table's part of it is
/// cut, never the period's; what is still taken gets a number.
fn free_name(
    task: &Partitions,
    subject: &Subject<'_>,
    wanted: &Wanted,
    taken: &mut HashSet<(String, String)>,
) -> RelationName {
    let table = &subject.table.name;
    let schema = table.schema.raw().to_owned();
    let default = format!("{{table}}{}", task.interval.suffix());
    let pattern = Interval::name(task.name.as_deref().unwrap_or(&default), wanted.day);
    // Names of tables are cut by hand: the server would cut the period away.
    let fitting = |end: &str| {
        let room = LONGEST_NAME.saturating_sub(pattern.replace("{table}", "").len() + end.len());
        pattern.replace("{table}", cut(table.relation.raw(), room)) + end
    };
    let numbered = (1..).map(|n| {
        if n == 1 {
            String::new()
        } else {
            format!("_{n}")
        }
    });
    let free = numbered
        .map(|end| fitting(&end))
        .find(|name| taken.insert((schema.clone(), name.clone())))
        .unwrap_or_default();
    RelationName::new(schema, free)
}

fn step(
    subject: &Subject<'_>,
    facts: &Facts,
    template: Option<&Node>,
    wanted: &Wanted,
    name: &RelationName,
    rows: i64,
) -> Step {
    let table = &subject.table.name;
    let mut sql = Vec::new();
    let like = format!(
        "(LIKE {table} INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING GENERATED INCLUDING STORAGE INCLUDING COMPRESSION INCLUDING COMMENTS)"
    );
    make(name, &like, template, facts, &mut sql);
    if rows > 0
        && let Some(default) = subject.default
    {
        let columns = subject.table.columns.join(", ");
        // Tells the server that it need not read the rows again.
        let check = format!(
            "CONSTRAINT maint_bounds CHECK ({column} IS NOT NULL AND {})",
            condition(subject, wanted.stretch),
            column = subject.column
        );
        sql.push(format!("ALTER TABLE {name} ADD {check}"));
        sql.push(format!(
            "WITH moved AS (DELETE FROM {} WHERE {} RETURNING {columns}) INSERT INTO {name} ({columns}) SELECT {columns} FROM moved",
            default.name, condition(subject, wanted.stretch)
        ));
    }
    let (from, to) = wanted.stretch;
    sql.push(format!(
        "ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM ({}) TO ({})",
        subject.key.literal(from),
        subject.key.literal(to)
    ));
    if rows > 0 {
        sql.push(format!("ALTER TABLE {name} DROP CONSTRAINT maint_bounds"));
    }
    afterwards(name, template, &mut sql);
    let free = Query::new(
        "SELECT NOT EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                WHERE n.nspname = $2 AND c.relname = $3)
            AND EXISTS (SELECT FROM pg_catalog.pg_class WHERE oid = $1::pg_catalog.oid)",
        [
            Param::Oid(subject.table.oid),
            Param::Text(name.schema.raw().to_owned()),
            Param::Text(name.relation.raw().to_owned()),
        ],
    );
    let mut step = Step::new(
        "create_partition",
        name.to_string(),
        format!("table {}", subject.table.oid),
    )
    .because(format!(
        "{}: {}",
        wanted.reason,
        subject.shown(wanted.stretch)
    ))
    .locking(subject.table.oid)
    .only_if(
        free,
        "the table has vanished, or something else bears that name by now",
    )
    .together(sql.into_iter().map(Statement::brief).collect());
    if rows > 0 {
        step.details
            .push(format!("moves {rows} rows out of the default partition"));
    }
    step
}

/// A publication of some rows or columns is not copied: nobody knows what it meant.
fn published_in_part(template: Option<&Node>, name: &RelationName, plan: &mut Plan) {
    let all = template.iter().flat_map(|node| &node.publications);
    for (publication, _) in all.filter(|(_, some)| *some) {
        let publication = Identifier::new(publication);
        plan.findings.push(Finding {
            code: "partitions.publication".to_owned(),
            severity: Severity::Warning,
            object: name.to_string(),
            message: format!("publication {publication} has some rows or columns of its siblings; it was not given this partition"),
            suggestion: Some(format!("ALTER PUBLICATION {publication} ADD TABLE {name}")),
        });
    }
}

fn finding(
    code: &str,
    severity: Severity,
    subject: &Subject<'_>,
    message: String,
    suggestion: Option<String>,
) -> Finding {
    Finding {
        code: code.to_owned(),
        severity,
        object: subject.table.name.to_string(),
        message,
        suggestion,
    }
}
