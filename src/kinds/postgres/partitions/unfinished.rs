//! Detachments that somebody began and did not finish, and what is told of partitions that are out of their table.

use super::calendar::Point;
use super::comment::{before, begins, kind};
use super::facts::{Facts, Node};
use super::{Expired, Partitions, Subject};
use crate::engines::postgres::trust::Use;
use crate::engines::postgres::{RelationName, literal};
use crate::kinds::postgres::common::still_there;
use crate::kinds::postgres::leaving::Leaving;
use crate::kinds::postgres::retention::mark;
use crate::kinds::postgres::retention::outside::{Outside, pending};
use crate::plan::{Finding, Moment, Param, Plan, Query, Statement, Step};

/// The step that finishes a detachment.
pub(super) const FINISH: &str = "finish_detach";

const ATTACHED: &str = "SELECT EXISTS (SELECT FROM pg_catalog.pg_inherits
    WHERE inhrelid = $1::pg_catalog.oid AND inhparent = $2::pg_catalog.oid AND inhdetachpending = ($3 = '1'))";

/// Plans the end of what somebody began to detach. It comes first: until then
/// nothing else can take its place.
pub(super) fn finish(task: &Partitions, subject: &Subject<'_>, at: &Moment, plan: &mut Plan) {
    let root = subject.table.name.to_string();
    for ((_, to), oid, node) in &subject.pending {
        let comment = node.comment.as_deref().unwrap_or_default();
        let ours = comment.starts_with(&begins(&subject.table.name))
            && mark::is_known(*oid, &node.name, at);
        if let (true, Some(why)) = (ours, stays(task, Some(*to), subject, at)) {
            let which = (node.kind == "f", subject.default.is_some());
            let outside = outside(&node.name, &root, node.bounds.as_deref(), which);
            plan.undone(outside.kept(&why));
        }
        // Where it has vanished there is nothing to be told of it.
        let mut step = step(FINISH, *oid, node, subject)
            .only_if(
                still_there(*oid, &node.name),
                "the partition has vanished, or has another name by now",
            )
            .because("somebody began to detach it concurrently, and did not finish")
            .run(finalize(*oid, &node.name, subject));
        if ours {
            let which = (node.kind == "f", subject.default.is_some());
            let half = outside(&node.name, &root, node.bounds.as_deref(), which);
            step.body.outside = Some(half.left(*oid, &begins(&subject.table.name)));
        }
        plan.steps.push(step);
    }
}

/// Tells of what is half out where the step that finishes it comes to nothing, or there is none.
pub(super) fn half_out(facts: &Facts, plan: &mut Plan) {
    for table in facts.names.iter().filter_map(|name| facts.tables.get(name)) {
        let root = table.name.to_string();
        let children = facts.nodes.get(&table.oid).map(|root| &root.children);
        let nodes = children.into_iter().flatten();
        let nodes = nodes.filter_map(|oid| facts.nodes.get(oid));
        for node in nodes.filter(|node| node.detach_pending) {
            let which = (node.kind == "f", table.default.is_some());
            let so = outside(&node.name, &root, node.bounds.as_deref(), which).unfinished();
            let told = |one: &Finding| one.code == so.code && one.object == so.object;
            if plan.findings.iter().any(told) {
                continue;
            }
            let mut steps = plan.steps.iter_mut();
            match steps.find(|s| s.action == FINISH && s.object == so.object) {
                Some(step) => step.until_done.push(so),
                None => plan.undone(so),
            }
        }
        further_down(table.oid, facts, plan);
    }
}

/// Tells of what is half out of a partition of the table, at any depth: nothing finishes that but a person.
fn further_down(root: u32, facts: &Facts, plan: &mut Plan) {
    let mut above: Vec<(&Node, bool)> = facts
        .nodes
        .get(&root)
        .map(|root| (root, true))
        .into_iter()
        .collect();
    while let Some((node, is_root)) = above.pop() {
        for part in node.children.iter().filter_map(|oid| facts.nodes.get(oid)) {
            if part.detach_pending && !is_root {
                plan.undone(pending(&part.name, &node.name));
            }
            above.push((part, false));
        }
    }
}

/// A partition that is out of its table, wholly or by half, for what is told of it; whether it is a foreign table, and
/// whether its table has a partition for all other rows.
pub(super) fn outside<'a>(
    name: &'a RelationName,
    root: &'a str,
    bounds: Option<&'a str>,
    (foreign, beside_default): (bool, bool),
) -> Outside<'a> {
    Outside {
        name,
        root,
        bounds,
        kind: kind(foreign),
        beside_default,
    }
}

/// Why what was detached in order to be dropped is not: today's options would not have it leave.
/// `to` is where it ends, if that is known.
pub(super) fn stays(
    task: &Partitions,
    to: Option<Point>,
    subject: &Subject<'_>,
    at: &Moment,
) -> Option<String> {
    if task.expired != Expired::Drop {
        return Some("the task does not say `expired: drop` any more".to_owned());
    }
    let Some(keep) = task.keep else {
        return Some("nothing is retired by age any more".to_owned());
    };
    let cut = subject.key.instant(keep.before(at.now), subject.zone);
    (to? > cut).then(|| format!("it holds what is younger than {keep}, the `keep` of today"))
}

/// A partition that leaves its table.
pub(super) fn leaving<'a>(
    oid: u32,
    name: &'a RelationName,
    node: &'a Node,
    subject: &'a Subject<'_>,
) -> Leaving<'a> {
    Leaving {
        oid,
        name,
        of: subject.table.oid,
        root: &subject.table.name,
        mark: begins(&subject.table.name),
        kind: kind(node.kind == "f"),
        before: before(node.comment.as_deref()).map_or("NULL".to_owned(), literal),
        bounds: node.bounds.as_deref(),
    }
}

/// A step on a partition, which is done only as long as that is one, by its name.
pub(super) fn step(action: &str, oid: u32, node: &Node, subject: &Subject<'_>) -> Step {
    Step::new(
        action,
        node.name.to_string(),
        format!("table {}", subject.table.oid),
    )
    .locking(subject.table.oid)
    .relying_on(oid, &node.name)
    .touching(subject.table.oid, Use::Command)
    .only_if(
        leaving(oid, &node.name, node, subject).attached(),
        leaving(oid, &node.name, node, subject).otherwise(),
    )
}

/// Whether a partition is attached still, or, where it is `pending`, half detached.
pub(super) fn attached(oid: u32, subject: &Subject<'_>, pending: i64) -> Query {
    Query::new(
        ATTACHED,
        [
            Param::Oid(oid),
            Param::Oid(subject.table.oid),
            Param::Int(pending),
        ],
    )
}

/// The statement that finishes a detachment.
pub(super) fn finalize(oid: u32, name: &RelationName, subject: &Subject<'_>) -> Statement {
    let sql = format!(
        "ALTER TABLE {} DETACH PARTITION {name} FINALIZE",
        subject.table.name
    );
    Statement::brief(sql).only_if(attached(oid, subject, 1))
}
