//! Partitions whose time is over.

use super::away;
use super::comment::{before, begins, comment, kind, marked};
use super::doubts::{Doubt, doubt};
use super::facts::{Facts, MARK, Node, bytes};
use super::unfinished::{attached, finalize, leaving, outside, step};
use super::{Expired, Partitions, Subject};
use crate::engines::postgres::trust::Use;
use crate::engines::postgres::{Identifier, RelationName};
use crate::kinds::postgres::leaving::try_to_drop;
use crate::kinds::postgres::retention::mark;
use crate::plan::{
    Finding, Moment, Param, Plan, Query, Required, Severity, Statement, Step, Sweep,
};

/// What an aborted detachment left: a mark on what is a partition still.
const MARKED: &str = "SELECT $2::text, $3::text FROM pg_catalog.pg_class c
    WHERE c.oid = $1::pg_catalog.oid AND c.relispartition
        AND NOT EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE i.inhrelid = c.oid AND i.inhdetachpending)
        AND pg_catalog.obj_description(c.oid, 'pg_class') = $4::text";

/// Plans what is to be detached, and what is to lose its mark.
pub(super) fn plan(
    task: &Partitions,
    subject: &Subject<'_>,
    facts: &Facts,
    at: &Moment,
    plan: &mut Plan,
) {
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
        if let (Expired::Drop, Some(which)) = (task.expired, away::foreign(*oid, &facts.nodes)) {
            let which = which.to_string();
            plan.undone(away::elsewhere(&node.name, root, (&which, &why), true));
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
        if let (Expired::Keep, Some(taken)) = (task.expired, facts.kept_already.get(oid)) {
            plan.undone(Finding {
                code: "partitions.name_taken".to_owned(),
                severity: Severity::Warning,
                object: node.name.to_string(),
                message: format!(
                    "{why}, and it is not detached, because it cannot be moved: {taken} exists already, and is something else; rename or move one of the two"
                ),
                suggestion: None,
            });
            continue;
        }
        let of = subject.table.oid;
        plan.memories
            .extend(mark::memories(*oid, &node.name, of, node.bounds.as_deref()));
        let doubt = doubt(subject, stretch.0, cut);
        let doubt = doubt.as_ref().filter(|_| node.kind != "f");
        let step = retire(task, subject, (*oid, node), doubt, facts, at);
        plan.steps.push(step.because(why));
    }
}

/// Detaches one partition, and drops it or moves it away. Where somebody else
/// has detached it meanwhile, it is left alone.
fn retire(
    task: &Partitions,
    subject: &Subject<'_>,
    (oid, node): (u32, &Node),
    doubt: Option<&Doubt>,
    facts: &Facts,
    at: &Moment,
) -> Step {
    let (root, foreign) = (&subject.table.name, node.kind == "f");
    let kind = kind(foreign);
    let attic = match (task.expired, &task.keep_in) {
        (Expired::Keep, Some(schema)) => Some(Identifier::new(schema)),
        _ => None,
    };
    let moved;
    let part = match &attic {
        Some(schema) => {
            moved = RelationName::new(schema.raw(), node.name.relation.raw());
            &moved
        }
        None => &node.name,
    };
    let named = |name| leaving(oid, name, node, subject);
    let goes = attic.is_none();
    let ours = |required, name| {
        let required = match doubt {
            Some(doubt) => doubt.without(required, name, &subject.column.to_string()),
            None => required,
        };
        match goes && node.kind == "p" {
            true => away::none_below(required, (oid, name), root, true),
            false => required,
        }
    };
    let drops = attic.is_none() && task.grace.get().is_zero();
    // What is too large to be read while others wait for the whole table is read once it has left, before it is dropped.
    let large =
        bytes(oid, &facts.nodes) > i64::try_from(task.max_default_size.get()).unwrap_or(i64::MAX);
    let apart = drops && (subject.default.is_none() || doubt.is_some() && large);
    let mut step = step("retire_partition", oid, node, subject)
        .expecting(bytes(oid, &facts.nodes), drops.then_some(0));
    if doubt.is_some() {
        step = step.touching(oid, Use::Read);
        // Rows that a policy of the partition hides are there all the same.
        step.body.under.all_rows = true;
    }
    let since = at.now.to_rfc3339();
    let marked = marked(root, node, &since);
    let root_name = root.to_string();
    let which = (foreign, subject.default.is_some());
    let left = outside(part, &root_name, node.bounds.as_deref(), which);
    step.body.outside = Some(left.left(oid, &begins(root)));
    // A detachment that comes to nothing leaves the comment that was there.
    step.body.on_abort = Some(Sweep {
        piles_up: false,
        query: Query::new(
            MARKED,
            [
                Param::Oid(oid),
                Param::Text(part.to_string()),
                Param::Text(comment(kind, part, before(node.comment.as_deref()))),
                Param::Text(marked.clone()),
            ],
        ),
    });
    // First of all, as a partition: what could not be moved is still there for
    // everybody who asks the table.
    if let Some(schema) = attic.as_ref().filter(|_| *part != node.name) {
        let sql = format!("ALTER {kind} {} SET SCHEMA {schema}", node.name);
        step = step.run(under(
            Statement::brief(sql),
            ours(named(&node.name).still_attached(), &node.name),
            (!foreign).then(|| format!("LOCK TABLE ONLY {} IN ACCESS EXCLUSIVE MODE", node.name)),
        ));
    }
    let dropped = |required| match &attic {
        None => named(part).droppable(required),
        Some(_) => required,
    };
    let still = dropped(named(part).still_attached());
    let leave = dropped(named(part).free_to_leave());
    let mark = comment(kind, part, Some(&marked));
    let detach = format!("ALTER TABLE {root} DETACH PARTITION {part}");
    if subject.default.is_some() {
        // The server cannot do it concurrently beside a default partition, and
        // what is detached takes any row. Sent as one, the two are one transaction.
        let sql = match (&attic, drops && !apart) {
            (Some(_), _) => detach,
            (None, true) => format!("{detach}; DROP TABLE {part}"),
            (None, false) => format!("{detach}; {mark}"),
        };
        let mut lock = None;
        if drops && !apart && doubt.is_some() {
            // A row may come until nobody can write any more. Where some are there already, nobody has to wait for
            // that to be found.
            let mark = Statement::brief(&mark).at_any_time_as(mark.replace(&since, "…"));
            step = step.run(mark.requiring(ours(still.clone(), part)));
            lock = Some(format!(
                "LOCK TABLE ONLY {root}, {part} IN ACCESS EXCLUSIVE MODE"
            ));
        }
        let detach = Statement::brief(&sql).at_any_time_as(sql.replace(&since, "…"));
        step = step.run(under(detach, ours(still, part), lock));
    } else {
        if attic.is_none() {
            let lock = format!("LOCK TABLE ONLY {part} IN SHARE UPDATE EXCLUSIVE MODE");
            let lock = Some(lock).filter(|_| !foreign);
            let still = ours(leave.clone(), part);
            let mark = Statement::brief(&mark).at_any_time_as(mark.replace(&since, "…"));
            step = step.run(under(mark, still, lock));
        }
        let detach = Statement::patient(
            format!("{detach} CONCURRENTLY"),
            // Foreign tables cannot be locked by name.
            match foreign {
                true => format!("LOCK TABLE ONLY {root} IN SHARE UPDATE EXCLUSIVE MODE"),
                false => try_to_drop(
                    format!("LOCK TABLE ONLY {root}, {part} IN SHARE UPDATE EXCLUSIVE MODE"),
                    part,
                    kind,
                    attic.is_none() && subject.table.watched,
                ),
            },
        );
        step = step
            .run(detach.requiring(leave).only_if(attached(oid, subject, 0)))
            .run(finalize(oid, part, subject));
    }
    match attic {
        Some(schema) => step
            .details
            .push(format!("detached, and moved to schema {schema}")),
        None if drops => step.details.push("detached, and dropped".to_owned()),
        None => step
            .details
            .push(format!("detached; it can be dropped after {}", task.grace)),
    }
    if apart {
        let drop = Statement::brief(format!("DROP TABLE {part}"));
        let lock = format!("LOCK TABLE {part} IN ACCESS EXCLUSIVE MODE");
        let still = ours(named(part).still_detached(), part);
        step = step.run(under(drop, still, Some(lock)));
    }
    step
}

pub(super) fn under(statement: Statement, required: Required, lock: Option<String>) -> Statement {
    let statement = statement.requiring(required);
    match lock {
        Some(lock) => statement.locking(lock),
        None => statement,
    }
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
        let restored = comment(
            kind(node.kind == "f"),
            &node.name,
            before(node.comment.as_deref()),
        );
        plan.steps.push(
            step("unmark_partition", *oid, node, subject)
                .because("it was marked as on its way out, and is a partition")
                .run(Statement::brief(restored)),
        );
    }
}
