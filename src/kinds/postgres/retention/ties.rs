//! What hangs on a table so that deleting its rows is more than that: foreign
//! keys that keep rows, triggers, rules, policies, publications, views.

mod dropping;
mod read;

use std::collections::HashMap;

use super::facts::{Member, Table};
use super::standing;
use crate::engines::postgres::RelationName;
use crate::engines::postgres::catalog::with_ancestors;
use crate::kinds::postgres::common::{still_below, still_there};
use crate::plan::{Query, Reference};

/// What hangs on one table.
#[derive(Clone, Debug, Default)]
pub(super) struct Tie {
    /// Triggers that see each row before it goes.
    before: Vec<String>,
    /// Other triggers that deletes fire.
    triggers: Vec<String>,
    /// Of all triggers, those that fire once for a statement.
    statement: Vec<String>,
    rules: Vec<String>,
    /// Of the rules, those that do something instead.
    instead: Vec<String>,
    /// Whether policies decide what the role sees and deletes.
    policies: bool,
    /// Publications that tell of deleted rows.
    publications: Vec<String>,
    /// Why they have the server refuse to delete any row.
    unpublishable: Vec<String>,
    /// Foreign keys that point here, and whose triggers are switched off.
    asleep: Vec<String>,
    /// What a `DROP TABLE` would be refused for.
    dependents: Vec<String>,
    /// Tells its triggers and rules, with what they do, from others of their names.
    print: String,
}

/// What hangs on tables and their members, by oid.
#[derive(Clone, Debug, Default)]
pub(in crate::kinds::postgres) struct Ties {
    hanging: HashMap<u32, Tie>,
    references: HashMap<u32, Vec<Reference>>,
    /// Foreign keys that point at a member, by their ids.
    keys: HashMap<u32, Vec<u32>>,
    /// A number for the columns of a member.
    columns: HashMap<u32, i64>,
    /// SQL that is true while all that decides whether a member may be dropped is as it was.
    leaving: HashMap<u32, String>,
    /// Why the server refuses what foreign keys would do when rows of a member go.
    unfollowed: HashMap<u32, Vec<String>>,
}

impl Ties {
    /// Foreign keys that keep rows of a member; with `all`, also those that
    /// would rather take along, or change, the rows that point at it.
    pub(super) fn references(&self, member: u32, all: bool) -> Vec<Reference> {
        self.references_that(member, |r| all || !r.takes)
    }

    /// The same where rows of the table are said to stay, or how many may go: none of them is to go
    /// along with another.
    pub(super) fn sparing(&self, member: u32) -> Vec<Reference> {
        self.references_that(member, |r| !r.takes || (r.own && r.cascades))
    }

    fn references_that(&self, member: u32, which: impl Fn(&Reference) -> bool) -> Vec<Reference> {
        let found = self.references.get(&member).into_iter().flatten();
        found.filter(|r| which(r)).cloned().collect()
    }

    /// Why an expired partition goes row by row: who points at it, or at a table above it.
    pub(in crate::kinds::postgres) fn pointed_at(&self, member: u32) -> Option<String> {
        let mut all: Vec<String> = self
            .references
            .get(&member)
            .into_iter()
            .flatten()
            .map(|r| format!("{} of {}", r.constraint, r.child))
            .collect();
        all.sort();
        all.dedup();
        (!all.is_empty()).then(|| {
            format!(
                "it is not dropped, because foreign keys point at it, or at the whole table: {}",
                all.join(", ")
            )
        })
    }

    /// Whether rows of a member are reached through the table that the rule
    /// names: its policies are meant, and its triggers expected.
    pub(super) fn through(&self, table: &Table, member: &Member) -> bool {
        let root = self.hanging.get(&table.oid);
        member.oid != table.oid
            && !member.detached
            && root.is_some_and(|root| root.policies || !root.statement.is_empty())
    }

    /// What may keep rows of a member from going, without an error.
    pub(super) fn obstructed(&self, table: &Table, member: &Member) -> Vec<String> {
        let mut all = Vec::new();
        let through = self.through(table, member);
        if let Some(tie) = self.hanging.get(&member.oid) {
            all.extend(tie.before.iter().map(|name| format!("trigger {name}")));
            all.extend(tie.rules.iter().map(|name| format!("rule {name}")));
            if tie.policies && !through {
                all.push(format!("row-level security of {}", member.name));
            }
        }
        if let (true, Some(tie)) = (through, self.hanging.get(&table.oid)) {
            all.extend(tie.rules.iter().map(|name| format!("rule {name}")));
            if tie.policies {
                all.push(format!("row-level security of {}", table.name));
            }
        }
        all
    }

    /// What may keep rows of a member from going, with an error or without: only trying tells.
    pub(super) fn may_keep(&self, table: &Table, member: &Member) -> Vec<String> {
        let references = self.references.get(&member.oid).into_iter().flatten();
        let mut all: Vec<String> = references
            .map(|r| match r.takes {
                false => format!("rows of {} that point at them ({})", r.child, r.constraint),
                true => format!(
                    "rows of {} that go or change with them, and may be kept ({})",
                    r.child, r.constraint
                ),
            })
            .collect();
        all.extend(self.obstructed(table, member));
        let through = self.through(table, member).then_some(table.oid);
        let ties = [Some(member.oid), through].into_iter().flatten();
        for tie in ties.filter_map(|oid| self.hanging.get(&oid)) {
            all.extend(tie.triggers.iter().map(|name| format!("trigger {name}")));
        }
        let mut told = Vec::new();
        for one in all {
            if !told.contains(&one) {
                told.push(one);
            }
        }
        told
    }

    /// SQL: whether a member has the columns that it had when the plan was made.
    pub(in crate::kinds::postgres) fn same_columns(&self, member: &Member) -> String {
        let columns = standing::columns(&member.oid.to_string());
        let known = self.columns.get(&member.oid).copied().unwrap_or(0);
        format!("({columns} = '{known}'::pg_catalog.int8)")
    }

    /// The question before a member is dropped, or leaves to be dropped, with whether nothing has changed that
    /// decided so; and what is said where it has.
    pub(in crate::kinds::postgres) fn unchanged(
        &self,
        member: &Member,
        (mut query, otherwise): (Query, String),
    ) -> (Query, String) {
        let Some(same) = self.leaving.get(&member.oid) else {
            return (query, otherwise);
        };
        query.sql = format!("SELECT ({}) AND {same}", query.sql);
        let otherwise = format!(
            "{otherwise}; or its bounds, triggers, rules, policies or publications have changed since the plan was made, and the next run looks at it anew"
        );
        (query, otherwise)
    }

    /// Asks, while a lock keeps it so, whether a member goes by its name and is still a part of the table, and
    /// whether a foreign key has come since that takes rows along or changes them; where the values are
    /// `kept`, also whether its columns are the same.
    pub(in crate::kinds::postgres) fn stands(
        &self,
        table: &Table,
        member: &Member,
        kept: bool,
    ) -> Query {
        let known = self.keys.get(&member.oid).map_or(&[][..], Vec::as_slice);
        let known: Vec<String> = known.iter().map(ToString::to_string).collect();
        let part = match member.oid == table.oid || member.detached {
            true => still_there(member.oid, &member.name),
            false => still_below(member.oid, &member.name, table.oid),
        };
        let sql = format!(
            "SELECT coalesce(({}), false) AS is_named_so, coalesce(({}), false) AS is_a_part, {} AS has_its_columns,
                (SELECT pg_catalog.min(pg_catalog.format('%I of %s', con.conname, con.conrelid::pg_catalog.regclass)) FROM pg_catalog.pg_constraint con
                    WHERE con.contype = 'f' AND con.confdeltype IN ('c', 'n', 'd') AND con.oid <> ALL (ARRAY[{}]::pg_catalog.oid[])
                        AND con.confrelid IN {}) AS takes_along",
            still_there(member.oid, &member.name).sql,
            part.sql,
            match kept {
                true => self.same_columns(member),
                false => "true".to_owned(),
            },
            known.join(", "),
            with_ancestors("$1::pg_catalog.oid")
        );
        Query::new(sql, part.params)
    }

    /// Foreign keys that point at rows of a member and would not be asked when they go.
    pub(super) fn asleep(&self, member: u32) -> &[String] {
        self.hanging.get(&member).map_or(&[], |tie| &tie.asleep)
    }

    /// Why the server refuses to delete any row of a member: publications that could not tell of it. Where
    /// rows are reached through the table, those of its other members have the same say.
    pub(super) fn unpublishable(&self, table: &Table, member: &Member) -> Vec<String> {
        let mut all = Vec::new();
        let through = self.through(table, member);
        let beside = table.members.iter().filter(|other| {
            through && other.kind == "r" && other.oid != member.oid && !other.detached
        });
        for one in std::iter::once(member).chain(beside) {
            let own = self.hanging.get(&one.oid);
            all.extend(
                own.into_iter()
                    .flat_map(|tie| &tie.unpublishable)
                    .map(|why| match one.oid == member.oid {
                        true => why.clone(),
                        false => {
                            format!("rows go through {}, and of {}: {why}", table.name, one.name)
                        }
                    }),
            );
        }
        all.extend(
            self.unfollowed
                .get(&member.oid)
                .into_iter()
                .flatten()
                .cloned(),
        );
        all
    }

    /// Tells the triggers and rules that deletes of a member's rows meet from others: another text
    /// where one of them was changed.
    pub(super) fn print(&self, table: &Table, member: &Member) -> String {
        let of = |oid: u32| self.hanging.get(&oid).map_or("", |tie| &*tie.print);
        format!("{}/{}", of(member.oid), of(table.oid))
    }

    /// Whether triggers or rules run when rows of a member are deleted, or may run because rows of
    /// others go along.
    pub(super) fn fires(&self, table: &Table, member: &Member) -> bool {
        if self.references(member.oid, true).iter().any(|r| r.takes) {
            return true;
        }
        let through = self.through(table, member).then_some(table.oid);
        [Some(member.oid), through]
            .into_iter()
            .flatten()
            .filter_map(|oid| self.hanging.get(&oid))
            .any(|tie| !(tie.before.is_empty() && tie.triggers.is_empty() && tie.rules.is_empty()))
    }

    /// A rule of the table that a member's rows are deleted from, with that table: any, or one that does
    /// something instead. What is deleted cannot be given back there.
    pub(in crate::kinds::postgres) fn rule<'a>(
        &'a self,
        table: &'a Table,
        member: &'a Member,
        any: bool,
    ) -> Option<(&'a str, &'a RelationName)> {
        let of = match self.through(table, member) {
            true => (table.oid, &table.name),
            false => (member.oid, &member.name),
        };
        let tie = self.hanging.get(&of.0)?;
        let rules = if any { &tie.rules } else { &tie.instead };
        Some((rules.first()?, of.1))
    }
}
