//! Partitions that leave with all their rows: which, and how.

use super::super::common::rows;
use super::super::retention::facts::{Member, Table};
use super::super::retention::outside::{self, Outside};
use super::super::retention::rule::{AgeType, Rule};
use super::super::retention::ties::Ties;
use super::super::retention::{mark, partition, way};
use super::{Archive, Facts, MARK};
use crate::engines::postgres::trust::Use;
use crate::plan::{Fate, Manifest, Moment, Query, Required, Retire, Step, Walk};

/// A member of a table that may leave with all its rows, and all that this is judged by.
#[derive(Clone, Copy)]
pub(super) struct Candidate<'a> {
    pub(super) options: &'a Archive,
    pub(super) rule: &'a Rule,
    pub(super) table: &'a Table,
    pub(super) member: &'a Member,
    pub(super) age: Option<AgeType>,
    pub(super) facts: &'a Facts,
    pub(super) at: &'a Moment,
}

impl Candidate<'_> {
    /// Whether by its bounds all its rows are over.
    fn is_over(&self) -> bool {
        let never = &self.facts.look.never;
        partition::expired(
            self.member,
            self.table,
            self.rule,
            self.age,
            never,
            self.at.now,
        )
    }

    /// Whether all its rows are over, and the role may let it go.
    pub(super) fn expired(&self) -> bool {
        self.is_over() && self.table.owned
    }

    /// Why it goes row by row once it is expired.
    pub(super) fn by_rows(&self) -> Option<String> {
        let ties = &self.facts.ties;
        let pointed_at = ties.pointed_at(self.member.oid);
        pointed_at.or_else(|| ties.by_rows(self.table, self.member, self.options.drop_partitions))
    }

    /// Whether it goes with its rows.
    pub(super) fn goes(&self) -> bool {
        // What was detached, and cannot be dropped, gives up its rows and stays.
        if self.member.detached {
            return self.facts.ties.dependents(self.member.oid).is_empty()
                && self.stays().is_none();
        }
        self.expired()
            && self.by_rows().is_none()
            && outside::can_leave(self.member, self.table, MARK, self.at)
    }

    /// Why what an earlier run detached does not go on its way: today's options would not have it
    /// leave as a whole either, if it were a partition.
    pub(super) fn stays(&self) -> Option<String> {
        let by_age = self.rule.by_age_alone();
        if !by_age || (self.member.bounds.is_some() && !self.is_over()) {
            return Some(partition::not_meant(by_age));
        }
        let ties = &self.facts.ties;
        // What depends on it is told beside the rows that go one by one.
        if !ties.dependents(self.member.oid).is_empty() {
            return None;
        }
        let detached = (self.member.oid, &self.member.name);
        ties.kept_from_dropping(self.table, detached, self.options.drop_partitions)
    }

    /// Whether it is exported as it is and dropped, instead of row by row.
    pub(super) fn leaves_whole(&self) -> bool {
        let into_files = self.options.destination.files.is_some();
        self.goes() && into_files && self.member.heap && self.member.may
    }
}

/// Exports a partition and drops it.
pub(super) fn whole(
    ties: &Ties,
    table: &Table,
    member: &Member,
    fate: &Fate,
    goal_ms: u64,
    (begun, older): (&[Manifest], Option<Required>),
    why: &str,
) -> Step {
    let begun = begun
        .iter()
        .find(|m| m.whole.as_ref().is_some_and(|w| w.oid == member.oid));
    let walk = Walk {
        alias: table.name.relation.to_string(),
        ..Walk::of_all(
            member.name.to_string(),
            member.oid,
            fate.clone(),
            way::blocks(member),
            goal_ms,
        )
    };
    let to = match fate {
        Fate::Export(export) => export.storage.as_str(),
        _ => "",
    };
    let same = ties.same_columns(member);
    let mut step = retire(
        ties,
        table,
        member,
        Some((walk, same, older)),
        begun.cloned(),
    )
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
    walk: Option<(Walk, String, Option<Required>)>,
    begun: Option<Manifest>,
) -> Step {
    let mut detached = mark::was_detached(member.oid, table, MARK);
    let mut older = None;
    let walk = walk.map(|(walk, same_columns, required)| {
        older = required;
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
        older,
        begun,
    });
    if !member.detached {
        step.body.on_abort = mark::unmarking(member, table, MARK);
    }
    let (root, begins) = (table.name.to_string(), mark::begins(MARK, table));
    step.body.outside = Some(Outside::of(member, table, &root).left(member.oid, &begins));
    step
}
