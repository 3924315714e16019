//! Partitions that leave with all their rows: which, and how.

use super::super::common::rows;
use super::super::retention::facts::{Member, Table};
use super::super::retention::outside::{self, Outside};
use super::super::retention::rule::{AgeType, Rule};
use super::super::retention::ties::Ties;
use super::super::retention::{mark, partition, way};
use super::{Archive, Facts};
use crate::engines::postgres::trust::Use;
use crate::plan::{Fate, Manifest, Moment, Query, Retire, Step, Walk};

/// Marks what was detached in order to be archived, so that a run that dies in
/// between leaves nothing that nobody knows of.
pub(in crate::kinds::postgres) const MARK: &str = "maint: to be archived, once a partition of ";

/// Whether all rows of a member are over, and the role may let it go.
pub(super) fn expired(
    rule: &Rule,
    table: &Table,
    member: &Member,
    age: Option<AgeType>,
    at: &Moment,
) -> bool {
    partition::expired(member, table, rule, age, at.now) && table.owned
}

/// Why an expired partition goes row by row.
pub(super) fn by_rows(
    options: &Archive,
    table: &Table,
    member: &Member,
    facts: &Facts,
) -> Option<String> {
    let pointed_at = facts.ties.pointed_at(member.oid);
    let ties = &facts.ties;
    pointed_at.or_else(|| ties.by_rows(table, member, options.drop_partitions))
}

/// Whether a member goes with its rows.
pub(super) fn goes(
    options: &Archive,
    rule: &Rule,
    table: &Table,
    member: &Member,
    age: Option<AgeType>,
    facts: &Facts,
    at: &Moment,
) -> bool {
    // What was detached, and cannot be dropped, gives up its rows and stays.
    if member.detached {
        return facts.ties.dependents(member.oid).is_empty()
            && stays(options, rule, table, member, age, facts, at).is_none();
    }
    expired(rule, table, member, age, at)
        && by_rows(options, table, member, facts).is_none()
        && outside::can_leave(member, table, MARK, at)
}

/// Why what an earlier run detached does not go on its way: today's options would not have it
/// leave as a whole either, if it were a partition.
pub(super) fn stays(
    options: &Archive,
    rule: &Rule,
    table: &Table,
    member: &Member,
    age: Option<AgeType>,
    facts: &Facts,
    at: &Moment,
) -> Option<String> {
    let by_age = rule.by_age_alone();
    if !by_age || (member.bounds.is_some() && !partition::expired(member, table, rule, age, at.now))
    {
        return Some(partition::not_meant(by_age));
    }
    // What depends on it is told beside the rows that go one by one.
    if !facts.ties.dependents(member.oid).is_empty() {
        return None;
    }
    let detached = (member.oid, &member.name);
    facts
        .ties
        .kept_from_dropping(table, detached, options.drop_partitions)
}

/// Whether a member is exported as it is and dropped, instead of row by row.
pub(super) fn leaves_whole(
    options: &Archive,
    rule: &Rule,
    table: &Table,
    member: &Member,
    age: Option<AgeType>,
    facts: &Facts,
    at: &Moment,
) -> bool {
    let goes = goes(options, rule, table, member, age, facts, at);
    goes && options.destination.files.is_some() && member.heap && member.may
}

/// Exports a partition and drops it.
pub(super) fn whole(
    ties: &Ties,
    table: &Table,
    member: &Member,
    fate: &Fate,
    goal_ms: u64,
    begun: &[Manifest],
    why: &str,
) -> Step {
    let begun = begun
        .iter()
        .find(|m| m.whole.as_ref().is_some_and(|w| w.oid == member.oid));
    let walk = Walk {
        table: member.name.to_string(),
        oid: member.oid,
        through: None,
        references: Vec::new(),
        guarded: false,
        obstructed: Vec::new(),
        vain: None,
        fires: false,
        spares: false,
        stands: None,
        most: None,
        sought: false,
        once: false,
        found: crate::plan::Found::default(),
        alias: table.name.relation.to_string(),
        condition: "true".to_owned(),
        params: Vec::new(),
        fate: fate.clone(),
        newest: None,
        path: way::blocks(member),
        goal_ms,
        rows: None,
        snapshot: false,
        start: None,
        progress: String::new(),
    };
    let to = match fate {
        Fate::Export(export) => export.storage.as_str(),
        _ => "",
    };
    let same = ties.same_columns(member);
    let mut step = retire(ties, table, member, Some((walk, same)), begun.cloned())
        .because(match (begun, member.detached) {
            (None, false) => {
                format!("all its rows to {to}: {why}, and the partition ends before that")
            }
            (Some(begun), _) => format!(
                "an earlier run detached it and stored {} of its rows in {to}",
                rows(begun.rows as f64)
            ),
            (None, true) => format!("an earlier run detached it to be stored in {to}"),
        })
        .counted_by(Query::new(
            format!("SELECT pg_catalog.count(*) FROM ONLY {}", member.name),
            [],
        ));
    step.details.push(
        "its rows are written, read back and compared; then it is locked, compared with what was written, and dropped, in one transaction".to_owned(),
    );
    step
}

/// Detaches and drops a partition, with what `walk` stores of it, where it does; beside it is what holds as
/// long as the partition has the columns that are stored.
pub(super) fn retire(
    ties: &Ties,
    table: &Table,
    member: &Member,
    walk: Option<(Walk, String)>,
    begun: Option<Manifest>,
) -> Step {
    let mut detached = mark::was_detached(member.oid, table, MARK);
    let walk = walk.map(|(walk, same_columns)| {
        detached.sql = format!("SELECT ({}) AND {same_columns}", detached.sql);
        walk
    });
    let detach = if member.detached {
        Vec::new()
    } else {
        partition::detach(member, table, MARK)
    };
    let mut asked = mark::as_it_was(member, table, MARK);
    if !member.detached {
        asked = ties.unchanged(member, asked);
    }
    let (query, otherwise) = asked;
    let mut step = Step::new(
        "archive_partition",
        member.name.to_string(),
        format!("table {}", table.oid),
    )
    .locking(table.oid)
    .relying_on(member.oid, &member.name)
    .only_if(query, otherwise)
    .expecting(member.bytes, Some(0))
    .touching(member.oid, Use::Define)
    .touching(table.oid, Use::Command)
    .retiring(Retire {
        table: member.name.to_string(),
        oid: member.oid,
        source: table.name.to_string(),
        bounds: member.bounds.clone(),
        detach,
        walk,
        detached,
        begun,
    });
    if !member.detached {
        step.body.on_abort = mark::unmarking(member, table, MARK);
    }
    let (root, begins) = (table.name.to_string(), mark::begins(MARK, table));
    step.body.outside = Some(Outside::of(member, &root).left(member.oid, &begins));
    step
}
