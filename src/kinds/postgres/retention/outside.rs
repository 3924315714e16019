//! What is out of its table, or half out, and does not go on its way: its rows are missed by
//! whoever asks the table, and only a person can say what is to become of it.

use super::facts::{Member, Table};
use super::mark::{begins, is_known, leaves};
use crate::engines::postgres::RelationName;
use crate::engines::postgres::catalog::tree;
use crate::plan::postgres::out_of_its_table;
use crate::plan::{Finding, Moment, Need, Param, Plan, Query, Severity};

/// A table that was detached from `root`, or begun to be.
#[derive(Clone, Copy)]
pub(in crate::kinds::postgres) struct Outside<'a> {
    pub(in crate::kinds::postgres) name: &'a RelationName,
    pub(in crate::kinds::postgres) root: &'a str,
    /// The bounds that it had, where they are known.
    pub(in crate::kinds::postgres) bounds: Option<&'a str>,
    /// `TABLE`, or `FOREIGN TABLE`.
    pub(in crate::kinds::postgres) kind: &'a str,
    /// Whether the table has a default partition, which takes the rows of these bounds meanwhile.
    pub(in crate::kinds::postgres) beside_default: bool,
}

/// Whether it is half out, or out: marked both times. Its rows are those of the last look of VACUUM or ANALYZE,
/// or where there was none, as many as have been counted as they came.
const IS_OUTSIDE: &str = "SELECT $3::text AS object,
        CASE WHEN c.relispartition THEN $4::text ELSE $5::text END AS said,
        CASE WHEN c.relispartition THEN $6::text ELSE nullif($7::text, '') END AS help,
        c.relispartition AS half,
        (SELECT coalesce(pg_catalog.sum(CASE WHEN l.reltuples < 0 THEN pg_catalog.pg_stat_get_live_tuples(l.oid) ELSE l.reltuples::int8 END), 0)::int8
            FROM {below} b JOIN pg_catalog.pg_class l ON l.oid = b.relid AND l.relkind = 'r') AS about
    FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_inherits i ON i.inhrelid = c.oid
    WHERE c.oid = $1::pg_catalog.oid AND coalesce(i.inhdetachpending, NOT c.relispartition)
        AND pg_catalog.starts_with(pg_catalog.obj_description(c.oid, 'pg_class'), $2::text)";

impl Outside<'_> {
    fn attach(&self) -> Option<String> {
        let (root, name, bounds) = (self.root, self.name, self.bounds?);
        Some(format!(
            "ALTER TABLE {root} ATTACH PARTITION {name} {bounds}"
        ))
    }

    /// What attaching it again needs, besides its bounds.
    fn with(&self) -> String {
        let bounds = match self.bounds {
            Some(_) => "",
            None => " with the bounds that it had",
        };
        let moved = match self.beside_default {
            true => format!(
                "; the server refuses that while the default partition of {} has rows of these bounds: move them into {} first",
                self.root, self.name
            ),
            false => String::new(),
        };
        format!("{bounds}{moved}")
    }

    /// Finishes what was begun, and takes it back.
    fn back(&self) -> String {
        let attach = self.attach().map(|attach| format!("; {attach}"));
        let finalize = finalize(self.name, self.root);
        format!("{finalize}{}", attach.unwrap_or_default())
    }

    /// What was detached stays where it is, because `why`.
    pub(in crate::kinds::postgres) fn kept(&self, why: &str) -> Finding {
        let (name, root) = (self.name, self.root);
        let with = self.with();
        let message = format!(
            "an earlier run detached {name} from {root} to have it leave, and it stays: {why}. Its rows are not in {root} until somebody attaches it again{with}; where they are not wanted, drop it by hand: DROP {} {name}",
            self.kind
        );
        out_of_its_table(name.to_string(), message, self.attach())
    }

    /// What an earlier run began to detach is not to go any more.
    fn half_out(&self) -> Finding {
        let (name, root) = (self.name, self.root);
        let message = format!(
            "an earlier run began to detach {name} from {root} and could not finish, and today's rule does not have it leave. Its rows are not seen through {root} any more, and the server can only finish that: do so, and attach it again. No other partition can be detached concurrently before"
        );
        out_of_its_table(name.to_string(), message, Some(self.back()))
    }

    fn begun(&self) -> String {
        let (name, root) = (self.name, self.root);
        format!(
            "the detachment of {name} from {root} was begun and is not finished: its rows are not seen through {root} any more, and no other partition can be detached concurrently. The next run goes on with it; the suggestion has it back"
        )
    }

    /// What an earlier run began to detach, and this one goes on with: told where it does not get so far.
    pub(in crate::kinds::postgres) fn unfinished(&self) -> Finding {
        out_of_its_table(self.name.to_string(), self.begun(), Some(self.back()))
    }

    /// Answers with what a step has left outside: object, message, what would help, whether it is half out,
    /// and about how many rows it has.
    pub(in crate::kinds::postgres) fn left(&self, oid: u32, mark: &str) -> Query {
        let (name, root) = (self.name, self.root);
        let with = self.with();
        let out = format!(
            "{name} is detached from {root} and still there: its rows are not in {root}. The next run tries again; to have it back, attach it{with}"
        );
        Query::new(
            IS_OUTSIDE.replace("{below}", &tree("c.oid")),
            [
                Param::Oid(oid),
                Param::Text(mark.to_owned()),
                Param::Text(name.to_string()),
                Param::Text(self.begun()),
                Param::Text(out),
                Param::Text(self.back()),
                Param::Text(self.attach().unwrap_or_default()),
            ],
        )
    }
}

impl<'a> Outside<'a> {
    /// A member of a table.
    pub(in crate::kinds::postgres) fn of(
        member: &'a Member,
        table: &Table,
        root: &'a str,
    ) -> Outside<'a> {
        Outside {
            name: &member.name,
            root,
            bounds: member.bounds.as_deref(),
            kind: "TABLE",
            beside_default: table.has_default,
        }
    }
}

/// What somebody else began to detach from `of`, which is the table or a partition of it.
pub(in crate::kinds::postgres) fn pending(name: &RelationName, of: &RelationName) -> Finding {
    Finding {
        code: "partitions.pending".to_owned(),
        severity: Severity::Warning,
        object: name.to_string(),
        message: format!(
            "somebody began to detach {name} from {of} concurrently, and did not finish. Its rows are not seen through {of} any more, nothing is done with it, and no other partition of {of} can leave: finish it, and attach it again where its rows are wanted"
        ),
        suggestion: Some(finalize(name, of)),
    }
}

fn finalize(part: &RelationName, of: impl std::fmt::Display) -> String {
    format!("ALTER TABLE {of} DETACH PARTITION {part} FINALIZE")
}

/// Whether a member is a partition, or one that maint began to detach: what somebody else begins
/// to detach is theirs.
pub(in crate::kinds::postgres) fn can_leave(
    member: &Member,
    table: &Table,
    mark: &str,
    at: &Moment,
) -> bool {
    !member.pending || is_ours(member, table, mark, at)
}

fn is_ours(member: &Member, table: &Table, mark: &str, at: &Moment) -> bool {
    let comment = member.comment.as_deref().unwrap_or_default();
    comment.starts_with(&begins(mark, table)) && is_known(member.oid, &member.name, at)
}

/// Tells of partitions that are half out and not to go on, and has the others of their tables
/// wait: the server detaches one at a time. What is on its way comes first.
pub(in crate::kinds::postgres) fn heed<'a>(
    mark: &str,
    tables: impl Iterator<Item = &'a Table>,
    at: &Moment,
    plan: &mut Plan,
) {
    for table in tables {
        let root = table.name.to_string();
        let mut told: Vec<&RelationName> = Vec::new();
        for member in table.members.iter().filter(|m| m.pending && !m.detached) {
            let (part, of) = match &member.half_out {
                Some((part, of)) => (part, of),
                None => (&member.name, &table.name),
            };
            // Once for all that is below it.
            if told.contains(&part) {
                continue;
            }
            told.push(part);
            let name = part.to_string();
            let going = plan
                .steps
                .iter_mut()
                .find(|s| s.object == name && leaves(&s.action));
            let need = going.map(|step| {
                step.until_done
                    .push(Outside::of(member, table, &root).unfinished());
                Need {
                    action: step.action.clone(),
                    object: name.clone(),
                }
            });
            if need.is_none() {
                let ours = *part == member.name && is_ours(member, table, mark, at);
                plan.undone(match ours {
                    true => Outside::of(member, table, &root).half_out(),
                    false => pending(part, of),
                });
            }
            // What is further below keeps no partition of the table itself.
            if *of != table.name {
                continue;
            }
            let others: Vec<String> = table
                .members
                .iter()
                .filter(|other| other.oid != member.oid && !other.detached)
                .map(|other| other.name.to_string())
                .collect();
            let waits = |object: &String, action: &str| others.contains(object) && leaves(action);
            if let Some(need) = need {
                for step in &mut plan.steps {
                    if waits(&step.object, &step.action) {
                        step.needs.push(need.clone());
                    }
                }
                continue;
            }
            let (waiting, steps) = std::mem::take(&mut plan.steps)
                .into_iter()
                .partition(|step| waits(&step.object, &step.action));
            plan.steps = steps;
            for step in waiting {
                let why = format!("it waits until the detachment of {name} is finished");
                plan.skip(step.object, why);
            }
        }
    }
}
