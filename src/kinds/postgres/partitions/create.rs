//! Partitions to come: how they are called, and what they are made of.

use std::collections::HashSet;

use super::calendar::Interval;
use super::coverage::Stretch;
use super::facts::{Facts, ITSELF, Node, a_held, bytes};
use super::make::{
    LONGEST_NAME, Names, afterwards, cut, ends_below, make, not_to_be_copied, not_wider,
    own_default, owned, secure, stored,
};
use super::wanted::{Wanted, catch_all, wanted, within_type};
use super::{Partitions, Subject, default, finding, midnights, subscribers};
use crate::engines::postgres::trust::Use;
use crate::engines::postgres::{Identifier, RelationName};
use crate::kinds::postgres::held;
use crate::plan::{Finding, Moment, Param, Plan, Query, Severity, Statement, Step};
use crate::values::{several, unreadable};

/// What a statement begins with that moves rows out of the default partition.
const MOVES: &str = "WITH moved AS ";

/// Plans the partitions of one table that are missing.
pub(super) fn plan(
    task: &Partitions,
    subject: &Subject<'_>,
    facts: &Facts,
    at: &Moment,
    taken: &mut HashSet<(String, String)>,
    plan: &mut Plan,
) {
    let wanted = within_type(subject, wanted(task, subject, at, plan), plan);
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
    let lacks = unheritable(subject, facts);
    if !lacks.is_empty() {
        plan.undone(finding(
            "privilege.missing",
            Severity::Critical,
            subject,
            format!(
                "{} new partitions of {} are needed and were not made: they are to be their siblings' owner's, and {} may not give them to it",
                wanted.len(),
                subject.table.name,
                Identifier::new(&facts.role)
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

/// The statements that let the role give what a new partition is made of to whom it is to belong.
pub(super) fn unheritable(subject: &Subject<'_>, facts: &Facts) -> Vec<String> {
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
    let free = Query::new(
        "SELECT NOT EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                WHERE n.nspname = $2::text AND c.relname = ANY (pg_catalog.string_to_array($3::text, E'\\n')))
            AND NOT EXISTS (SELECT FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
                WHERE n.nspname = $2::text AND t.typcategory <> 'A' AND t.typname = ANY (pg_catalog.string_to_array($3::text, E'\\n')))
            AND (pg_catalog.pg_identify_object('pg_catalog.pg_class'::pg_catalog.regclass, $1::pg_catalog.oid, 0)).identity
                = pg_catalog.format('%I.%I', $4::text, $5::text)",
        [
            Param::Oid(subject.table.oid),
            Param::Text(name.schema.raw().to_owned()),
            Param::Text(
                names
                    .iter()
                    .map(|name| name.relation.raw())
                    .collect::<Vec<_>>()
                    .join("\n"),
            ),
            Param::Text(subject.table.name.schema.raw().to_owned()),
            Param::Text(subject.table.name.relation.raw().to_owned()),
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
    .touching(subject.table.oid, Use::Define)
    .touching(subject.table.oid, Use::Insert)
    .only_if(
        free,
        "the table has vanished or has another name, or something else bears that of the partition by now",
    )
    .together(
        sql.into_iter()
            .map(|sql| match sql.starts_with(MOVES) {
                true => Statement::brief(sql).requiring(default::unhindered(subject)),
                false => Statement::brief(sql),
            })
            .collect(),
    );
    for (.., pending) in subject
        .pending
        .iter()
        .filter(|((from, to), ..)| *from < wanted.stretch.1 && *to > wanted.stretch.0)
    {
        step = step.after("finish_detach", pending.name.to_string());
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

/// Takes out the statements that a partition can do without, and that would
/// have to name what cannot be written: rows need it more than its comment.
fn take_unnamed(sql: &mut Vec<String>) -> Vec<String> {
    const EXTRAS: [&str; 3] = ["COMMENT ON ", "GRANT ", "ALTER PUBLICATION "];
    let extra = |sql: &String| EXTRAS.iter().any(|extra| sql.starts_with(extra));
    let (unnamed, rest) = std::mem::take(sql)
        .into_iter()
        .partition(|sql: &String| unreadable::is_in(sql) && extra(sql));
    *sql = rest;
    unnamed
}

/// Tells what a partition is made without.
fn without(partition: &str, unnamed: &[String]) -> Finding {
    let shown: Vec<_> = unnamed.iter().map(|sql| unreadable::escaped(sql)).collect();
    Finding {
        code: "name.unreadable".to_owned(),
        severity: Severity::Warning,
        object: partition.to_owned(),
        message: format!(
            "{partition} is made without what its siblings have, because bytes there are not valid UTF-8, shown as \\x..; with the encoding of the session set to theirs: {}",
            shown.join("; ")
        ),
        suggestion: None,
    }
}

/// What its siblings have, and it cannot be given: told, for it must not keep
/// rows from having a partition.
fn not_had(
    subject: &Subject<'_>,
    template: Option<&Node>,
    names: &Names,
    rows: i64,
    facts: &Facts,
    plan: &mut Plan,
) {
    let root = facts.nodes.get(&subject.table.oid);
    let Some((name, like)) = names.front().zip(template.or(root)) else {
        return;
    };
    let mut told = |code: &str, message: String, suggestion: String| {
        plan.findings.push(Finding {
            code: code.to_owned(),
            severity: Severity::Warning,
            object: name.to_string(),
            message,
            suggestion: Some(suggestion).filter(|suggestion| !suggestion.is_empty()),
        });
    };
    if let Some(tablespace) = like.tablespace.as_ref().filter(|_| !like.may_tablespace) {
        let tablespace = Identifier::new(tablespace);
        told(
            "partitions.tablespace",
            format!(
                "{} in the tablespace {tablespace}, where {} may create nothing; it is in that of the database",
                match template {
                    Some(_) => "its siblings are".to_owned(),
                    None => format!("new partitions of {} are meant to be", subject.table.name),
                },
                Identifier::new(&facts.role)
            ),
            format!(
                "GRANT CREATE ON TABLESPACE {tablespace} TO {}",
                Identifier::new(&facts.role)
            ),
        );
    }
    let Some(template) = template else {
        return;
    };
    let besides = &template.attached.besides;
    if !besides.is_empty() {
        let what: Vec<&str> = besides.iter().map(|(what, _)| what.as_str()).collect();
        let sql: Vec<String> = besides
            .iter()
            .filter(|(_, sql)| !sql.is_empty())
            .map(|(_, sql)| sql.replace(ITSELF, &name.to_string()))
            .collect();
        told(
            "partitions.besides",
            format!(
                "{} has {} of its own, and {} has not; the new partition is made without",
                unreadable::escaped(&template.name.to_string()),
                unreadable::escaped(&what.join(", ")),
                subject.table.name
            ),
            sql.join("; "),
        );
    }
    if rows > 0 && template.replica_nullable {
        told(
            "partitions.besides",
            format!(
                "{name} gets rows of the default partition; where one of them is null in a column of the replica identity that its siblings have, the new partition is made without NOT NULL there and without that identity, and rows that are published can be neither updated nor deleted"
            ),
            format!(
                "look with \\d {name} whether it has a replica identity; if not, give these rows a value, then set NOT NULL and REPLICA IDENTITY as its siblings have them"
            ),
        );
    }
    for publication in &template.publications {
        let why = match publication {
            // Nobody knows what it meant.
            p if p.some.is_some() => "has some rows or columns of its siblings",
            p if !p.may => "has its siblings, and belongs to another role",
            _ => continue,
        };
        let some = publication.some.as_deref().map(|some| format!(" {some}"));
        let publication = Identifier::new(&publication.name);
        told(
            "partitions.publication",
            format!("publication {publication} {why}; it was not given this partition"),
            format!(
                "ALTER PUBLICATION {publication} ADD TABLE ONLY {name}{}",
                some.unwrap_or_default()
            ),
        );
    }
}
