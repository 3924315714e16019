//! The mark on what was taken out of its table and is on its way out: a comment that says so, and
//! what the history knows of it.

mod astray;

use std::collections::HashSet;

pub(in crate::kinds::postgres) use self::astray::Astray;

use super::facts::{Member, Table};
use crate::engines::postgres::trust::Use;
use crate::engines::postgres::{RelationName, literal};
use crate::kinds::postgres::common::still_there;
use crate::kinds::postgres::leaving::{Leaving, detached, on_one_line, one_line};
use crate::plan::{Finding, Memory, Moment, Param, Plan, Query, Severity, Statement, Step, Sweep};
use crate::values::unreadable;

/// A comment marks what was detached in order to be dropped, so that a run
/// that dies in between leaves nothing that nobody knows of. Its second line
/// names the table itself; what follows is the comment that was there before.
pub(in crate::kinds::postgres) const MARK: &str = "maint: expired partition of ";

/// Whether it is what was detached: a condition among others, whose values are numbered.
pub(super) const WAS_DETACHED: &str =
    "EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = $oid::oid AND NOT c.relispartition
        AND NOT EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE i.inhrelid = c.oid)
        AND c.relowner = (SELECT r.relowner FROM pg_catalog.pg_class r WHERE r.oid = $root::oid)
        AND pg_catalog.starts_with(pg_catalog.obj_description(c.oid, 'pg_class'), $mark::text))";

/// What an aborted detachment left: a mark on what is a partition still.
const MARKED: &str = "SELECT $2::text, $3::text FROM pg_catalog.pg_class c
    WHERE c.oid = $1::oid AND c.relispartition
        AND NOT EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE i.inhrelid = c.oid AND i.inhdetachpending)
        AND pg_catalog.obj_description(c.oid, 'pg_class') = $4::text";

/// The mark of a member on its way out.
pub(super) fn marked(mark: &str, member: &Member, table: &Table) -> String {
    let before = before(mark, member).unwrap_or_default();
    let end = if before.is_empty() { "" } else { "\n" };
    let itself = one_line(&member.name);
    format!("{}\nas {itself}{end}{before}", begins(mark, table))
}

/// What the mark of a partition of this table begins with.
pub(in crate::kinds::postgres) fn begins(mark: &str, table: &Table) -> String {
    format!("{mark}{}", one_line(&table.name))
}

pub(super) fn leaving<'a>(mark: &str, member: &'a Member, table: &'a Table) -> Leaving<'a> {
    Leaving {
        oid: member.oid,
        name: &member.name,
        of: table.oid,
        root: &table.name,
        mark: begins(mark, table),
        kind: "TABLE",
        before: before(mark, member).map_or("NULL".to_owned(), literal),
        bounds: member.bounds.as_deref(),
    }
}

/// The comment of a member without the mark. One that cannot be written is no
/// reason to keep the partition.
pub(super) fn before<'a>(mark: &str, member: &'a Member) -> Option<&'a str> {
    let comment = member
        .comment
        .as_deref()
        .filter(|c| !unreadable::is_in(c))?;
    match read_mark(mark, comment) {
        Some((_, _, before)) => before,
        None => Some(comment),
    }
}

/// Of a mark: the table, the partition where it says so, and the comment
/// that was there before.
pub(in crate::kinds::postgres) fn read_mark<'a>(
    mark: &str,
    comment: &'a str,
) -> Option<(&'a str, Option<&'a str>, Option<&'a str>)> {
    let mut lines = comment.strip_prefix(mark)?.splitn(2, '\n');
    let root = lines.next()?;
    let Some(rest) = lines.next() else {
        return Some((root, None, None));
    };
    let mut lines = rest.splitn(2, '\n');
    match lines.next().and_then(|line| line.strip_prefix("as ")) {
        Some(itself) => Some((root, Some(itself), lines.next())),
        None => Some((root, None, Some(rest))),
    }
}

pub(super) fn comment(name: &RelationName, text: Option<&str>) -> String {
    let text = text.map_or("NULL".to_owned(), literal);
    format!("COMMENT ON TABLE {name} IS {text}")
}

/// Takes the mark from members that are partitions again, or still: what
/// somebody detaches later is theirs.
pub(in crate::kinds::postgres) fn unmark<'a>(
    mark: &str,
    tables: impl Iterator<Item = &'a Table>,
    plan: &mut Plan,
) {
    for table in tables {
        for member in table.members.iter().filter(|m| !m.detached) {
            let is_marked = member
                .comment
                .as_deref()
                .is_some_and(|c| c.starts_with(mark));
            // Of what is pending nobody would know any more who began it.
            if !is_marked || member.pending || !table.owned || member.bounds.is_none() {
                continue;
            }
            let name = member.name.to_string();
            let mut steps = plan.steps.iter();
            if steps.any(|s| s.object == name && leaves(&s.action)) {
                continue;
            }
            let restored = comment(&member.name, before(mark, member));
            plan.steps.push(
                Step::new(
                    "unmark_partition",
                    member.name.to_string(),
                    format!("table {}", table.oid),
                )
                .because("it was marked as on its way out, and is a partition")
                .locking(member.oid)
                .only_if(
                    still_there(member.oid, &member.name),
                    "the partition has vanished, or has another name by now",
                )
                .touching(member.oid, Use::Command)
                .run(Statement::brief(restored)),
            );
        }
    }
}

/// Takes the mark from what is part of another table by now: what becomes of it, then and later,
/// is the business of whoever made it that. `restored` gives it the comment it had.
pub(in crate::kinds::postgres) fn disown(
    oid: u32,
    name: &RelationName,
    of: &str,
    restored: String,
) -> Step {
    Step::new("unmark_partition", name.to_string(), format!("table {oid}"))
        .because(format!(
            "it was marked as on its way out, and is part of {of} now"
        ))
        .locking(oid)
        .touching(oid, Use::Command)
        .only_if(
            still_there(oid, name),
            "the table has vanished, or has another name by now",
        )
        .run(Statement::brief(restored))
}

/// Has the history know which tables are going to be marked, before they are:
/// a comment alone proves nothing, as whoever owns a table can write one.
pub(in crate::kinds::postgres) fn remember<'a>(
    tables: impl Iterator<Item = &'a Table>,
    plan: &mut Plan,
) {
    let steps = plan.steps.iter().filter(|s| leaves(&s.action));
    let going: HashSet<&str> = steps.map(|s| &*s.object).collect();
    let mut leaving = Vec::new();
    let members = tables.flat_map(|table| table.members.iter().map(move |member| (table, member)));
    for (table, member) in members {
        if !member.detached && going.contains(&*member.name.to_string()) {
            let bounds = member.bounds.as_deref();
            leaving.extend(memories(member.oid, &member.name, table.oid, bounds));
        }
    }
    plan.memories.extend(leaving);
}

/// What is remembered of a table that is going to be marked, of which table it was a part, as that
/// one may be called something else tomorrow, and with which bounds: afterwards nobody else knows.
pub(in crate::kinds::postgres) fn memories(
    oid: u32,
    name: &RelationName,
    of: u32,
    bounds: Option<&str>,
) -> Vec<Memory> {
    let mut all = vec![
        Memory {
            key: key(oid),
            value: name.to_string().into(),
        },
        Memory {
            key: part_of(oid),
            value: of.into(),
        },
    ];
    all.extend(bounds.map(|bounds| Memory {
        key: bounds_of(oid),
        value: bounds.into(),
    }));
    all
}

/// The bounds that a table had before maint detached it; none where the history does not know.
pub(in crate::kinds::postgres) fn bounds(
    oid: u32,
    name: &RelationName,
    at: &Moment,
) -> Option<String> {
    bounds_as(oid, None, name, at)
}

/// The same of one that its mark calls by another name than it has now.
pub(in crate::kinds::postgres) fn bounds_as(
    oid: u32,
    former: Option<&str>,
    name: &RelationName,
    at: &Moment,
) -> Option<String> {
    let bounds = at.memories.get(&bounds_of(oid))?.as_str()?;
    is_known_as(oid, former, name, at).then(|| bounds.to_owned())
}

/// Whether the history knows that maint was about to mark this table. One that
/// a dump has brought back is another.
pub(in crate::kinds::postgres) fn is_known(oid: u32, name: &RelationName, at: &Moment) -> bool {
    is_known_as(oid, None, name, at)
}

/// The same of one that may have another name now than `former`, which its mark calls it, on one
/// line.
pub(in crate::kinds::postgres) fn is_known_as(
    oid: u32,
    former: Option<&str>,
    name: &RelationName,
    at: &Moment,
) -> bool {
    let known = at.memories.get(&key(oid)).and_then(|name| name.as_str());
    match (known, former) {
        (Some(known), Some(former)) => on_one_line(known) == former,
        (known, _) => known == Some(name.to_string().as_str()),
    }
}

/// Why what was renamed or moved since it was detached is left alone.
pub(in crate::kinds::postgres) fn has_another_name(former: &str) -> String {
    format!(
        "it was called {former} when it was detached, and who gave it another name or another schema may want to keep it; where that is so, take its comment away"
    )
}

/// Leaves alone what only says of itself that maint detached it.
pub(in crate::kinds::postgres) fn unknown(name: &RelationName, root: &str, plan: &mut Plan) {
    plan.skip(
        name.to_string(),
        "by its comment maint detached it, and the history does not know of that",
    );
    plan.findings.push(Finding {
        code: "partitions.unknown_mark".to_owned(),
        severity: Severity::Warning,
        object: name.to_string(),
        message: format!(
            "the comment of {name} says that maint detached it from {root} to have it leave, and the history knows nothing of that: somebody wrote the comment, an older version did, the target had another name then, the database was put back from a dump (ids of tables are others there), or the history is another one. Nothing is done with it: give the target the name that it had, attach it again, drop it by hand if its rows are not wanted, or take the comment away"
        ),
        suggestion: None,
    });
}

/// The id of the table that this was a part of; none where the history does not know.
pub(in crate::kinds::postgres) fn was_part_of(oid: u32, at: &Moment) -> Option<u32> {
    let of = at.memories.get(&part_of(oid))?.as_u64()?;
    u32::try_from(of).ok()
}

fn bounds_of(oid: u32) -> String {
    format!("bounds of {oid}")
}

fn part_of(oid: u32) -> String {
    format!("part of {oid}")
}

fn key(oid: u32) -> String {
    format!("marked {oid}")
}

pub(super) fn leaves(action: &str) -> bool {
    matches!(
        action,
        "drop_partition" | "archive_partition" | "retire_partition"
    )
}

/// Puts the comment back where a detachment came to nothing.
pub(in crate::kinds::postgres) fn unmarking(
    member: &Member,
    table: &Table,
    mark: &str,
) -> Option<Sweep> {
    Some(Sweep {
        piles_up: false,
        query: Query::new(
            MARKED,
            [
                Param::Oid(member.oid),
                Param::Text(member.name.to_string()),
                Param::Text(comment(&member.name, before(mark, member))),
                Param::Text(marked(mark, member, table)),
            ],
        ),
    })
}

/// Asked before a partition is archived: whether it is one still, or is what
/// was detached in order to be archived; and why not, otherwise.
pub(in crate::kinds::postgres) fn as_it_was(
    member: &Member,
    table: &Table,
    mark: &str,
) -> (Query, String) {
    let leaving = leaving(mark, member, table);
    if member.detached {
        let asked = leaving.still_detached();
        return (asked.query, asked.otherwise);
    }
    (leaving.attached(), leaving.otherwise())
}

/// Answers whether a table was detached, and is marked so.
pub(in crate::kinds::postgres) fn was_detached(oid: u32, table: &Table, mark: &str) -> Query {
    detached(oid, &begins(mark, table))
}
