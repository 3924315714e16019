//! Partitions whose time is over.

use chrono::{DateTime, TimeDelta, Utc};

use super::facts::{Facts, MARK, Node, Retired};
use super::{Expired, Partitions, Subject};
use crate::engines::postgres::trust::Use;
use crate::engines::postgres::{Identifier, RelationName, literal};
use crate::kinds::postgres::cleanup::partition;
use crate::kinds::postgres::common::still_there;
use crate::plan::{Finding, Moment, Param, Plan, Query, Severity, Statement, Step, Sweep};
use crate::values::unreadable;

const ATTACHED: &str = "SELECT EXISTS (SELECT FROM pg_catalog.pg_inherits
    WHERE inhrelid = $1::pg_catalog.oid AND inhparent = $2::pg_catalog.oid AND inhdetachpending = ($3 = '1'))";

/// What an aborted detachment left: a mark on what is a partition still.
const MARKED: &str = "SELECT $2::text, $3::text FROM pg_catalog.pg_class c
    WHERE c.oid = $1::pg_catalog.oid AND c.relispartition
        AND NOT EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE i.inhrelid = c.oid AND i.inhdetachpending)
        AND pg_catalog.obj_description(c.oid, 'pg_class') = $4::text";

const DETACHED: &str =
    "SELECT NOT c.relispartition FROM pg_catalog.pg_class c WHERE c.oid = $1::pg_catalog.oid";

/// Plans the end of what somebody began to detach. It comes first: until then
/// nothing else can take its place.
pub(super) fn finish(subject: &Subject<'_>, plan: &mut Plan) {
    for (_, oid, node) in &subject.pending {
        plan.steps.push(
            step("finish_detach", *oid, node, subject)
                .because("somebody began to detach it concurrently, and did not finish")
                .run(finalize(*oid, node, subject)),
        );
    }
}

/// Plans what is to be detached, and what is to be dropped.
pub(super) fn plan(
    task: &Partitions,
    subject: &Subject<'_>,
    facts: &Facts,
    at: &Moment,
    plan: &mut Plan,
) {
    drop_retired(task, subject, facts, at, plan);
    expire(task, subject, facts, at, plan);
    unmark(subject, plan);
}

/// Plans what is to be detached.
fn expire(task: &Partitions, subject: &Subject<'_>, facts: &Facts, at: &Moment, plan: &mut Plan) {
    let root = &subject.table.name;
    let Some(keep) = task.keep else {
        return;
    };
    let cut = subject.key.instant(keep.before(at.now), subject.zone);
    let attached = subject.partitions.iter();
    let all = attached.clone().count();
    let mut expired: Vec<_> = attached.filter(|((_, to), ..)| *to <= cut).collect();
    if expired.len() == all && expired.pop().is_some() {
        plan.skip(root.to_string(), "its last partition is never retired");
    }
    if expired.is_empty() {
        return;
    }
    if let Some(from) = subject.table.referenced_by.first() {
        plan.undone(Finding {
            code: "partitions.referenced".to_owned(),
            severity: Severity::Warning,
            object: root.to_string(),
            message: format!(
                "{} partitions are older than {keep}, but the foreign key of {from} points at {root}; rows there would lose what they refer to",
                expired.len()
            ),
            suggestion: None,
        });
        return;
    }
    if let (Expired::Keep, Some(schema)) = (task.expired, &task.keep_in)
        && !facts.schemas.contains(schema)
    {
        plan.undone(Finding {
            code: "partitions.no_schema".to_owned(),
            severity: Severity::Critical,
            object: root.to_string(),
            message: format!("{} partitions are older than {keep}, but the schema to keep them in does not exist", expired.len()),
            suggestion: Some(format!("CREATE SCHEMA {}", Identifier::new(schema))),
        });
        return;
    }
    for (stretch, oid, node) in expired {
        let why = format!(
            "every value {} is older than {keep}",
            subject.shown(*stretch)
        );
        if task.expired == Expired::Archive {
            plan.skip(
                node.name.to_string(),
                format!("{why}; left to the archive task"),
            );
            continue;
        }
        if let (Expired::Drop, Some(dependents)) = (task.expired, facts.dependents.get(oid)) {
            // Detached and not dropped, its rows would be gone from the table.
            plan.undone(Finding {
                code: "partitions.depended_on".to_owned(),
                severity: Severity::Warning,
                object: node.name.to_string(),
                message: format!(
                    "{why}, and it is not detached, because it could not be dropped: {} depends on it; drop that first",
                    dependents.join(", ")
                ),
                suggestion: None,
            });
            continue;
        }
        plan.memories.push(partition::memory(*oid, &node.name));
        plan.steps
            .push(retire(task, subject, *oid, node, at).because(why));
    }
}

/// Detaches one partition, and drops it or moves it away.
fn retire(task: &Partitions, subject: &Subject<'_>, oid: u32, node: &Node, at: &Moment) -> Step {
    let (root, part) = (&subject.table.name, &node.name);
    let kind = kind(node.kind == "f");
    let marked = marked(root, node, at);
    let mark = Statement::brief(comment(kind, part, Some(&marked)));
    let detach = if subject.default.is_some() {
        // The server cannot do it concurrently beside a default partition.
        Statement::brief(format!("ALTER TABLE {root} DETACH PARTITION {part}"))
    } else {
        Statement::patient(
            format!("ALTER TABLE {root} DETACH PARTITION {part} CONCURRENTLY"),
            // Foreign tables cannot be locked by name.
            match node.kind.as_str() {
                "f" => format!("LOCK TABLE ONLY {root} IN SHARE UPDATE EXCLUSIVE MODE"),
                _ => format!("LOCK TABLE ONLY {root}, {part} IN SHARE UPDATE EXCLUSIVE MODE"),
            },
        )
    };
    let step = step("retire_partition", oid, node, subject).expecting(node.bytes, None);
    let mut step = match task.expired {
        Expired::Drop => step.run(mark),
        _ => step,
    };
    // A detachment that comes to nothing leaves the comment that was there.
    step.body.on_abort = Some(Sweep {
        query: Query::new(
            MARKED,
            [
                Param::Oid(oid),
                Param::Text(part.to_string()),
                Param::Text(comment(kind, part, before(node))),
                Param::Text(marked),
            ],
        ),
    });
    let mut step = step
        .run(detach.only_if(attached(oid, subject, 0)))
        .run(finalize(oid, node, subject));
    match (task.expired, &task.keep_in) {
        (Expired::Keep, Some(schema)) => {
            let schema = Identifier::new(schema);
            step.details
                .push(format!("detached, and moved to schema {schema}"));
            step.run(Statement::brief(format!(
                "ALTER {kind} {part} SET SCHEMA {schema}"
            )))
        }
        _ if task.grace.get().is_zero() => {
            step.details.push("detached, and dropped".to_owned());
            step.run(drop_table(oid, part, kind))
        }
        _ => {
            step.details
                .push(format!("detached; it can be dropped after {}", task.grace));
            step
        }
    }
}

fn step(action: &str, oid: u32, node: &Node, subject: &Subject<'_>) -> Step {
    Step::new(
        action,
        node.name.to_string(),
        format!("table {}", subject.table.oid),
    )
    .locking(subject.table.oid)
    .touching(subject.table.oid, Use::Command)
    .only_if(still_there(oid, &node.name), "the partition has vanished")
}

fn attached(oid: u32, subject: &Subject<'_>, pending: i64) -> Query {
    Query::new(
        ATTACHED,
        [
            Param::Oid(oid),
            Param::Oid(subject.table.oid),
            Param::Int(pending),
        ],
    )
}

fn finalize(oid: u32, node: &Node, subject: &Subject<'_>) -> Statement {
    let sql = format!(
        "ALTER TABLE {} DETACH PARTITION {} FINALIZE",
        subject.table.name, node.name
    );
    Statement::brief(sql).only_if(attached(oid, subject, 1))
}

/// What it is called in SQL. Dropping a foreign table drops what this server
/// knows of it; its rows stay where they are.
fn kind(foreign: bool) -> &'static str {
    if foreign { "FOREIGN TABLE" } else { "TABLE" }
}

fn drop_table(oid: u32, name: &RelationName, kind: &str) -> Statement {
    Statement::brief(format!("DROP {kind} {name}")).only_if(Query::new(DETACHED, [Param::Oid(oid)]))
}

/// The mark of a partition on its way out. Its second line names the
/// partition itself; what follows is the comment that was there before.
fn marked(root: &RelationName, node: &Node, at: &Moment) -> String {
    let since = at.now.to_rfc3339();
    let mark = format!("{MARK}{root} since {since}\nas {}", node.name);
    match before(node) {
        Some(before) => format!("{mark}\n{before}"),
        None => mark,
    }
}

/// The comment of a partition without the mark. One that cannot be written is
/// no reason to keep the partition.
fn before(node: &Node) -> Option<&str> {
    let comment = node.comment.as_deref().filter(|c| !unreadable::is_in(c))?;
    if !comment.starts_with(MARK) {
        return Some(comment);
    }
    let rest = comment.split_once('\n')?.1;
    match rest.split_once('\n') {
        _ if !rest.starts_with("as ") => Some(rest),
        Some((_, before)) => Some(before),
        None => None,
    }
}

fn comment(kind: &str, name: &RelationName, text: Option<&str>) -> String {
    let text = text.map_or("NULL".to_owned(), literal);
    format!("COMMENT ON {kind} {name} IS {text}")
}

/// Takes the mark from what is a partition again, or still: what somebody
/// detaches later is theirs.
fn unmark(subject: &Subject<'_>, plan: &mut Plan) {
    for (_, oid, node) in &subject.partitions {
        let is_marked = node.comment.as_deref().is_some_and(|c| c.starts_with(MARK));
        let leaves = plan
            .steps
            .iter()
            .any(|s| s.object == node.name.to_string() && s.action == "retire_partition");
        if !is_marked || leaves {
            continue;
        }
        let restored = comment(kind(node.kind == "f"), &node.name, before(node));
        plan.steps.push(
            step("unmark_partition", *oid, node, subject)
                .because("it was marked as on its way out, and is a partition")
                .run(Statement::brief(restored)),
        );
    }
}

/// Drops what was detached long enough ago.
fn drop_retired(
    task: &Partitions,
    subject: &Subject<'_>,
    facts: &Facts,
    at: &Moment,
    plan: &mut Plan,
) {
    let root = &subject.table.name;
    let grace = TimeDelta::from_std(task.grace.get()).unwrap_or(TimeDelta::MAX);
    for retired in &facts.retired {
        let Some((_, since)) = since(retired).filter(|(of, _)| *of == root.to_string()) else {
            continue;
        };
        plan.considered += 1;
        if !partition::is_known(retired.oid, &retired.name, at) {
            partition::unknown(&retired.name, &root.to_string(), plan);
            continue;
        }
        let name = retired.name.to_string();
        let day = since.format("%Y-%m-%d");
        if at.now - since < grace {
            plan.skip(
                name,
                format!("detached on {day}, and kept for {}", task.grace),
            );
            continue;
        }
        let Some(keep) = task.keep else {
            plan.skip(
                name,
                format!("detached on {day}, and nothing is retired by age any more"),
            );
            continue;
        };
        let cut = subject.key.instant(keep.before(at.now), subject.zone);
        if let Some(dependents) = facts.dependents.get(&retired.oid) {
            let root = root.to_string();
            plan.undone(partition::depended_on(&retired.name, &root, dependents));
            continue;
        }
        let judged = if retired.foreign {
            still_there(retired.oid, &retired.name)
        } else {
            let all = format!(
                "SELECT NOT EXISTS (SELECT FROM {} WHERE ({} >= {}) IS NOT FALSE)",
                retired.name,
                subject.column,
                subject.key.literal(cut)
            );
            Query::new(all, [])
        };
        plan.steps.push(
            Step::new("drop_partition", name, format!("table {}", retired.oid))
                .because(format!("detached on {day}, more than {} ago", task.grace))
                .locking(retired.oid)
                .touching(retired.oid, Use::Command)
                .only_if(
                    judged,
                    format!("it has rows that are younger than {keep}: attach it again, or drop it by hand"),
                )
                .run(drop_table(
                    retired.oid,
                    &retired.name,
                    kind(retired.foreign),
                ))
                .expecting(retired.bytes, Some(0)),
        );
    }
}

/// Of which table it was a partition, and when it was detached.
fn since(retired: &Retired) -> Option<(&str, DateTime<Utc>)> {
    let mut lines = retired.mark.splitn(3, '\n');
    let (of, since) = lines.next()?.rsplit_once(" since ")?;
    // Renamed, or moved: somebody has something else in mind with it.
    let itself = lines.next().and_then(|line| line.strip_prefix("as "));
    let same = itself.is_none_or(|itself| itself == retired.name.to_string());
    Some((of, since.parse().ok()?)).filter(|_| same)
}
