//! Partitions to come: how they are called, and what they are made of.

use std::collections::HashSet;

use super::calendar::Interval;
use super::coverage::Stretch;
use super::facts::{Facts, Node, a_held, bytes};
use super::make::{
    LONGEST_NAME, Names, afterwards, cut, ends_below, make, not_to_be_copied, not_wider,
    own_default, owned, secure, stored,
};
use super::planned::{as_planned, still_wanted};
use super::wanted::{Wanted, catch_all, not_over, wanted, within_table, within_type};
use super::without::{not_had, take_unnamed, without};
use super::{Partitions, Subject, default, finding, midnights, subscribers, unfinished};
use crate::engines::postgres::trust::Use;
use crate::engines::postgres::{Identifier, RelationName};
use crate::kinds::postgres::held;
use crate::plan::{Moment, Plan, Severity, Statement, Step};
use crate::values::several;

/// What a statement begins with that moves rows out of the default partition.
const MOVES: &str = "WITH moved AS ";

/// What the table should have, and has not.
fn missing(task: &Partitions, subject: &Subject<'_>, at: &Moment, plan: &mut Plan) -> Vec<Wanted> {
    let wanted = wanted(task, subject, at, plan);
    let wanted = within_table(subject, within_type(subject, wanted, plan), plan);
    not_over(task, subject, at, wanted)
}

/// Whether any partition is to be made.
pub(super) fn is_needed(task: &Partitions, subject: &Subject<'_>, at: &Moment) -> bool {
    !missing(task, subject, at, &mut Plan::default()).is_empty()
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
    let wanted = missing(task, subject, at, plan);
    let stretches: Vec<Stretch> = wanted.iter().map(|wanted| wanted.stretch).collect();
    default::rows_elsewhere(subject, &stretches, plan);
    default::unread(task, subject, facts, &stretches, plan);
    if let Some(finding) = catch_all(task, subject, at) {
        plan.undone(finding);
    }
    if wanted.is_empty() {
        return;
    }
    if let Some(finding) = midnights::differ(task, subject, wanted.len()) {
        plan.undone(finding);
        return;
    }
    let newest = subject
        .partitions
        .iter()
        .rev()
        .find(|(_, _, n)| n.kind != "f");
    let template = newest.map(|(_, _, node)| *node);
    // What cannot be looked at cannot be made once more, and beside a default partition
    // nothing is attached without it.
    let needed = newest.map(|(_, oid, _)| *oid);
    let mut needed = needed.into_iter().chain(subject.table.default);
    if let Some(oid) = needed.find_map(|oid| a_held(oid, &facts.nodes, &facts.held))
        && let (Some(node), Some(who)) = (facts.nodes.get(&oid), facts.held.get(&oid))
    {
        let left_out = format!(
            "{} new partitions of {} are needed and were not made, because that needs a look at it",
            wanted.len(),
            subject.table.name
        );
        plan.undone(held::finding(&node.name, who, &left_out));
        return;
    }
    if let Some(why) = template.and_then(|node| not_to_be_copied(node, facts)) {
        plan.undone(finding(
            "partitions.unsuitable",
            Severity::Critical,
            subject,
            format!("{} new partitions are needed, but {why}", wanted.len()),
            None,
        ));
        return;
    }
    let largest = i64::try_from(task.max_default_size.get()).unwrap_or(i64::MAX);
    let default_bytes = subject
        .table
        .default
        .map_or(0, |oid| bytes(oid, &facts.nodes));
    if let Some(default) = subject.default.filter(|_| default_bytes > largest) {
        plan.undone(finding(
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
    let lacks = to_make(subject, facts);
    if !lacks.is_empty() {
        let role = Identifier::new(&facts.role);
        let why = match &subject.table.may_not_create {
            Some(_) => format!("{role} may not create tables in the schema of their table"),
            None => format!(
                "they are to be their siblings' owner's, and {role} may not give them to it"
            ),
        };
        plan.undone(finding(
            "privilege.missing",
            Severity::Critical,
            subject,
            format!(
                "{} new partitions of {} are needed and were not made: {why}",
                wanted.len(),
                subject.table.name
            ),
            Some(lacks.join("; ")),
        ));
        return;
    }
    let before = plan.steps.len();
    for wanted in wanted {
        let rows = default::rows_in(subject, wanted.stretch);
        if rows > 0 && !default::may_move(task, subject, wanted.stretch, rows, plan) {
            continue;
        }
        let names = free_names(task, subject, template, facts, &wanted, taken);
        let (step, unnamed) = step(subject, facts, template, &wanted, &names, rows);
        if !unnamed.is_empty() {
            plan.findings.push(without(&step.object, &unnamed));
        }
        plan.steps.push(step);
        not_had(subject, template, &names, rows, facts, plan);
    }
    let made = plan.steps.len() - before;
    if made > 0 {
        plan.findings
            .extend(subscribers::to_be_told(subject, template, facts, made));
    }
}

/// The statements that let the role make a partition, where it may not.
pub(super) fn to_make(subject: &Subject<'_>, facts: &Facts) -> Vec<String> {
    let mut lacks: Vec<String> = subject.table.may_not_create.iter().cloned().collect();
    for grant in unheritable(subject, facts) {
        if !lacks.contains(&grant) {
            lacks.push(grant);
        }
    }
    lacks
}

/// The statements that let the role give what a new partition is made of to whom it is to belong.
fn unheritable(subject: &Subject<'_>, facts: &Facts) -> Vec<String> {
    let newest = subject
        .partitions
        .iter()
        .rev()
        .find(|(_, _, n)| n.kind != "f");
    let like = newest.map(|(_, _, node)| *node);
    let mut of: Vec<&Node> = like
        .or_else(|| facts.nodes.get(&subject.table.oid))
        .into_iter()
        .collect();
    let mut lacks: Vec<String> = Vec::new();
    while let Some(node) = of.pop() {
        // Without a sibling only the table itself is repeated, and nothing below it.
        if like.is_some() {
            of.extend(node.children.iter().filter_map(|oid| facts.nodes.get(oid)));
        }
        let new = node.unheritable.iter().filter(|one| !lacks.contains(one));
        let new: Vec<String> = new.cloned().collect();
        lacks.extend(new);
    }
    lacks
}

/// The names of a new partition and of all below it, none of which anything
/// else bears. The table's part of it is cut, never the period's or what tells
/// those below apart; what is still taken gets a number.
fn free_names(
    task: &Partitions,
    subject: &Subject<'_>,
    template: Option<&Node>,
    facts: &Facts,
    wanted: &Wanted,
    taken: &mut HashSet<(String, String)>,
) -> Names {
    let table = &subject.table.name;
    let schema = table.schema.raw();
    let default = format!("{{table}}{}", task.interval.suffix());
    let pattern = Interval::name(task.name.as_deref().unwrap_or(&default), wanted.day);
    let ends = template.map_or_else(Vec::new, |node| ends_below(node, facts));
    let longest = ends.iter().map(String::len).max().unwrap_or(0);
    // Names of tables are cut by hand: the server would cut the period away.
    let fitting = |number: &str| {
        let rest = pattern.replace("{table}", "").len() + number.len() + longest;
        let room = LONGEST_NAME.saturating_sub(rest);
        pattern.replace("{table}", cut(table.relation.raw(), room)) + number
    };
    let mut number = 1;
    loop {
        let own = match number {
            1 => fitting(""),
            n => fitting(&format!("_{n}")),
        };
        let names: Vec<String> = std::iter::once(own.clone())
            .chain(ends.iter().map(|end| {
                // An end as long as a name leaves nothing of what it belongs to.
                format!("{}{end}", cut(&own, LONGEST_NAME.saturating_sub(end.len())))
            }))
            .collect();
        let all: HashSet<&String> = names.iter().collect();
        let free = all.len() == names.len()
            && names
                .iter()
                .all(|name| !taken.contains(&(schema.to_owned(), name.clone())));
        number += 1;
        if free {
            taken.extend(names.iter().map(|name| (schema.to_owned(), name.clone())));
            return names
                .into_iter()
                .map(|name| RelationName::new(schema, name))
                .collect();
        }
    }
}

fn step(
    subject: &Subject<'_>,
    facts: &Facts,
    template: Option<&Node>,
    wanted: &Wanted,
    names: &Names,
    rows: i64,
) -> (Step, Vec<String>) {
    let table = &subject.table.name;
    let mut names_below = names.clone();
    let name = &names_below.pop_front().unwrap_or_else(|| table.clone());
    // Siblings without a tablespace are in that of the database, whatever the role prefers.
    let mut sql = vec!["SET LOCAL default_tablespace = ''".to_owned()];
    // The first partition has what the table itself has, as far as it can have it.
    let root = facts.nodes.get(&subject.table.oid);
    let mut like = format!(
        "(LIKE {table} INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING GENERATED INCLUDING STORAGE INCLUDING COMPRESSION INCLUDING COMMENTS)"
    );
    if let Some(root) = root.filter(|_| template.is_none()) {
        like.push_str(&stored(root));
    }
    make(name, &like, template, facts, &mut names_below, &mut sql);
    if let Some(root) = root.filter(|_| template.is_none()) {
        match subject.default {
            // It is the only sibling there is, and rows may come from it.
            Some(default) => secure(name, default, facts, &mut sql),
            // What the owner would give by default is the owner's to say, not ours.
            None if root.owner != facts.role => own_default(name, root, facts, &mut sql),
            None => not_wider(name, root, facts, &mut sql),
        }
        owned(name, root, facts, &mut sql);
    }
    if rows > 0
        && let Some(default) = subject.default
    {
        let columns = subject.table.columns.join(", ");
        // The rows are checked by the new partition's constraints, which may go by the days of whoever wrote them.
        sql.push("SET LOCAL TimeZone = DEFAULT".to_owned());
        // Tells the server that it need not read the rows again.
        let check = format!(
            "CONSTRAINT maint_bounds CHECK ({column} IS NOT NULL AND {})",
            default::condition(subject, wanted.stretch),
            column = subject.column
        );
        sql.push(format!("ALTER TABLE {name} ADD {check}"));
        let moved = format!(
            "{MOVES}(DELETE FROM {} WHERE {} RETURNING {columns}) INSERT INTO {name} ({columns}) SELECT {columns} FROM moved",
            default.name,
            default::condition(subject, wanted.stretch)
        );
        sql.push(format!("LOCK TABLE {} IN ROW EXCLUSIVE MODE", default.name));
        sql.push(moved.clone());
        // Then what came meanwhile: nobody may put more rows there until the partition is
        // attached, or it never could be. Who writes to the table waits there, and is then led to
        // the new partition; who waited for the default one would be told that its row may not
        // be in it.
        sql.push(format!(
            "LOCK TABLE ONLY {table} IN SHARE ROW EXCLUSIVE MODE"
        ));
        sql.push(format!(
            "LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE",
            default.name
        ));
        sql.push(moved);
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
    afterwards(
        name,
        template.or(root.filter(|_| template.is_none())),
        &mut sql,
    );
    let unnamed = take_unnamed(&mut sql);
    let as_planned = as_planned(subject, facts, template, names);
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
    .touching(subject.table.oid, Use::Define)
    .touching(subject.table.oid, Use::Insert)
    .only_if(
        still_wanted(subject, name),
        "the table has vanished or has another name, or somebody has made that partition of it by now",
    )
    .together(
        sql.into_iter()
            .enumerate()
            .map(|(n, sql)| match sql.starts_with(MOVES) {
                true => Statement::brief(sql).requiring(default::unhindered(subject)),
                false if n == 0 => Statement::brief(sql).requiring(as_planned.clone()),
                false => Statement::brief(sql),
            })
            .collect(),
    );
    for (.., pending) in subject
        .pending
        .iter()
        .filter(|((from, to), ..)| *from < wanted.stretch.1 && *to > wanted.stretch.0)
    {
        step = step.after(unfinished::FINISH, pending.name.to_string());
    }
    if rows > 0 {
        if let Some((oid, default)) = subject.table.default.zip(subject.default) {
            step = step.relying_on(oid, &default.name);
        }
        step.details.push(format!(
            "moves {} out of the default partition",
            several(rows, "row")
        ));
    }
    (step, unnamed)
}
