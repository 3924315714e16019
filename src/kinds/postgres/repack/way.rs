//! By which way a table can be made smaller, and if by none, why.

mod rebuilds;

use chrono::{DateTime, Utc};

pub(super) use self::rebuilds::rebuilds;
use super::column;
use super::facts::{ServerFacts, TableFacts};
use super::verdict::{Waste, bytes, share};
use super::{Facts, Repack, Way, fires};
use crate::engines::postgres::Identifier;
use crate::engines::postgres::trust::Use;
use crate::kinds::postgres::common::still_there;
use crate::kinds::postgres::rights::grant;
use crate::kinds::postgres::{horizon, reindex};
use crate::plan::{Finding, Moment, Param, Query, Severity, Shrink, Statement, Step};
use crate::values::{Bytes, TimeSpan, unreadable};

/// Table and TOAST table. Indexes are another kind's business.
const MEASURE: &str = "SELECT pg_catalog.pg_relation_size(c.oid)
            + coalesce(pg_catalog.pg_relation_size(nullif(c.reltoastrelid, 0)), 0),
        c.reltuples::float8
    FROM pg_catalog.pg_class c WHERE c.oid = $1::oid";

/// What the step that moves rows is called.
const MOVE: &str = "move_rows";

/// How a table is made smaller.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Road {
    /// The server's own.
    Repack,
    /// Rows move to the front; this column is written, quoted, and this is why
    /// it is not the server's own way.
    Move(String, String),
    /// `VACUUM (FULL)`, and why nothing else.
    Blocking(String),
    /// Not now, or not worth it.
    Not(String),
    /// Never, whatever the role may and the task says: nothing is left undone by that.
    Never(String),
    /// Not as the task is written.
    None(String),
}

impl Repack {
    pub(super) fn road(
        &self,
        table: &TableFacts,
        waste: &Waste,
        facts: &Facts,
        at: &Moment,
    ) -> Road {
        let repack = match self.way {
            Way::Move => Err("the task says `way: move`".to_owned()),
            Way::Auto | Way::Repack => can_repack(table, &facts.server).and_then(|()| {
                let copy = waste.after().saturating_add(table.index_bytes);
                match facts.server.most_log {
                    Some(most) if copy > most => Err(format!(
                        "REPACK (CONCURRENTLY) writes a copy of {} to the log, and the server keeps no more than {} of it for the slot that follows it (max_slot_wal_keep_size): it would end without having done anything",
                        bytes(copy),
                        bytes(most)
                    )),
                    _ => Ok(()),
                }
            }),
        };
        let no_repack = match repack {
            Ok(()) => return Road::Repack,
            Err(why) => why,
        };
        let mut ever = true;
        let no_move = match self.way {
            Way::Repack => None,
            Way::Auto | Way::Move => {
                let after = waste.heap_after.saturating_add(table.toast_bytes);
                if share(table.bytes(), after) < self.min_bloat.share() {
                    ever = false;
                    Some(format!(
                        "{} of it are lost in TOAST, where no row can be moved, and {} outside of it, which is less than `min_bloat` ({})",
                        bytes(waste.in_toast(table)),
                        bytes(table.heap_bytes - waste.heap_after),
                        self.min_bloat
                    ))
                } else {
                    match self.can_move(table, facts) {
                        Ok(column) => return Road::Move(column, no_repack),
                        Err(why) => Some(why),
                    }
                }
            }
        };
        let why = match no_move {
            Some(no_move) => format!("{no_move}; {no_repack}"),
            None => no_repack,
        };
        match &self.blocking_window {
            Some(window) if self.allow_blocking => {
                if window.contains(at.now, at.zone) {
                    Road::Blocking(why)
                } else {
                    Road::Not(format!(
                        "only VACUUM (FULL) can do that, and only within `blocking_window` ({window}): {why}"
                    ))
                }
            }
            _ if ever => Road::None(why),
            _ => Road::Never(why),
        }
    }

    /// What is said of waste that stays, because it is where no row can be moved: as much as would make the task
    /// work on the table, if it could.
    pub(super) fn only_in_toast(
        &self,
        table: &TableFacts,
        waste: &Waste,
        road: &Road,
        server: &ServerFacts,
    ) -> Option<Finding> {
        let lost = waste.in_toast(table);
        let (stays, best) = match road {
            Road::Repack | Road::Blocking(_) => return None,
            Road::Move(..) => (
                waste.heap_after.saturating_add(table.toast_bytes),
                waste.after(),
            ),
            Road::Never(_) => (table.bytes(), waste.after()),
            // What is lost outside of TOAST waits for something else.
            Road::Not(_) | Road::None(_) => (table.bytes(), table.bytes() - lost),
        };
        // A task that asks for every table once asks for nothing that stays.
        let least = match self.min_bloat.share() {
            0.0 => Repack::default().min_bloat,
            _ => self.min_bloat,
        };
        if lost <= 0 || share(stays, best) < least.share() {
            return None;
        }
        let name = &table.name;
        let (help, suggestion) = match can_repack(table, server) {
            Ok(()) => (
                "REPACK (CONCURRENTLY) can, as this task does it with `way: auto`".to_owned(),
                format!("REPACK (CONCURRENTLY) {name}"),
            ),
            Err(why) => (
                format!(
                    "VACUUM (FULL) can (nobody reads or writes the table meanwhile; this task does it with `allow_blocking`), and so can the extension pg_repack. The server's own way is not open: {why}"
                ),
                format!("VACUUM (FULL, ANALYZE) {name}"),
            ),
        };
        Some(Finding {
            code: "table.bloat".to_owned(),
            severity: Severity::Warning,
            object: name.to_string(),
            message: format!(
                "{} of the {} that {name} has lost are in its TOAST table, where large values are kept: {:.0}% of {}, `min_bloat` is {}. Moving rows cannot give that back; {help}",
                bytes(lost),
                bytes(table.bytes() - waste.after()),
                share(stays, best) * 100.0,
                bytes(stays),
                self.min_bloat
            ),
            suggestion: Some(suggestion),
        })
    }

    /// The column to write, or why no row can be moved.
    fn can_move(&self, table: &TableFacts, facts: &Facts) -> Result<String, String> {
        let server = &facts.server;
        if let Some(rights) = lacks(table) {
            return Err(format!(
                "rows cannot be moved: the role lacks {rights} on it (GRANT {rights} ON {} TO {})",
                table.name,
                Identifier::new(&facts.role)
            ));
        }
        if table.policies {
            return Err(
                "rows cannot be moved: row security hides rows from the role (BYPASSRLS, or the owner without FORCE)"
                    .to_owned(),
            );
        }
        let fires = |when: char| fires::fires(when, server.may_quiet);
        if let Some((what, _)) = table.hooks.iter().find(|(_, when)| fires(*when)) {
            let help = if server.may_quiet {
                "it fires whatever `session_replication_role` says"
            } else {
                "GRANT SET ON PARAMETER session_replication_role (15 and newer) keeps it from firing"
            };
            return Err(format!("rows cannot be moved: {what} would fire; {help}"));
        }
        if let Some(name) = table.unproved.first() {
            return Err(format!(
                "rows cannot be moved: constraint {name} is NOT VALID, and rows that break it cannot be written again; VALIDATE it"
            ));
        }
        if let Some(why) = table.unpublishable.first() {
            return Err(format!(
                "rows cannot be moved: the server refuses every UPDATE: {}",
                unreadable::escaped(why)
            ));
        }
        if let Some(slot) = table.slots.first().filter(|_| !self.allow_replicated) {
            return Err(format!(
                "rows cannot be moved: logical slot {slot} would decode every one (allow_replicated: true)"
            ));
        }
        column::to_write(table).map(|column| column.name.clone())
    }
}

/// What the role lacks to move rows of a table.
fn lacks(table: &TableFacts) -> Option<&'static str> {
    match (table.may_write, table.unread) {
        (true, _) => None,
        (false, true) => Some("SELECT, UPDATE"),
        (false, false) => Some("UPDATE"),
    }
}

/// That tables stay as they are because the role may not move their rows; `why` of the first of them.
pub(super) fn lacking(tables: &[(&TableFacts, String)], facts: &Facts) -> Option<Finding> {
    let ((first, why), more) = tables.split_first()?;
    let others = match more.len() {
        0 => String::new(),
        1 => "; 1 more stays for the like of it".to_owned(),
        n => format!("; {n} more stay for the like of it"),
    };
    let role = Identifier::new(&facts.role);
    let all: Vec<_> = tables.iter().map(|(table, _)| &table.name).collect();
    // The longer of the two lists, where one of them needs that.
    let rights = tables.iter().filter_map(|(table, _)| lacks(table)).min();
    Some(Finding {
        code: "privilege.missing".to_owned(),
        severity: Severity::Warning,
        object: first.name.to_string(),
        message: format!("{}: {why}{others}", first.name),
        suggestion: rights.map(|rights| grant(rights, "", &all, &role)),
    })
}

fn can_repack(table: &TableFacts, server: &ServerFacts) -> Result<(), String> {
    if let Some(why) = &server.no_repack {
        return Err(why.clone());
    }
    if !table.may_repack {
        return Err("REPACK is for the owner, or who has MAINTAIN on it".to_owned());
    }
    if table.unlogged {
        return Err(
            "REPACK (CONCURRENTLY) follows changes in the log, and it is unlogged".to_owned(),
        );
    }
    if !table.identity {
        return Err(
            "REPACK (CONCURRENTLY) needs a primary key or a replica identity index".to_owned(),
        );
    }
    Ok(())
}

/// The step that goes this road. What blocks everybody ends `until` then; what follows the log lets the
/// server keep so much. A batch of moved rows should take as long as the goal: so long they
/// are locked.
pub(super) fn step(
    table: &TableFacts,
    waste: &Waste,
    road: Road,
    facts: &Facts,
    goal: TimeSpan,
    most_log: Bytes,
    until: Option<DateTime<Utc>>,
) -> Step {
    let name = table.name.to_string();
    let (oid, major) = (table.oid, facts.major);
    let lane = format!("table {oid}");
    let copy = bytes(waste.after().saturating_add(table.index_bytes));
    let (step, why, after) = match road {
        Road::Repack => {
            let probe = format!("LOCK TABLE ONLY {name} IN SHARE UPDATE EXCLUSIVE MODE");
            let sql = format!("REPACK (CONCURRENTLY) {name}");
            // The server goes on counting the dead rows of the old file, and knows of no page
            // of the new one whether everybody sees all its rows.
            let counted = Statement::brief(format!("VACUUM (ANALYZE) {name}"));
            // The server has one slot of replication for each, and builds one table at a time.
            let step = Step::new("repack", name, "repack")
                .touching(oid, Use::Command)
                .run(Statement::patient(sql, probe).waiting_everywhere())
                .run(counted);
            let mut step = step;
            let most_log = i64::try_from(most_log.get()).unwrap_or(i64::MAX);
            // The server itself gives the slot up only at its next checkpoint.
            let (most_log, whose) = match facts.server.most_log {
                Some(most) if most < most_log => (most, "the server's max_slot_wal_keep_size"),
                _ => (most_log, "`max_slot_retention`"),
            };
            step.details = vec![
                "locks: SHARE UPDATE EXCLUSIVE; ACCESS EXCLUSIVE for a moment at the end"
                    .to_owned(),
                format!(
                    "disk: {copy} for the copy with its indexes, and the log written meanwhile, which is kept until the end: of more than {} it is cancelled ({whose})",
                    bytes(most_log)
                ),
            ];
            step.body.most_log = Some(most_log);
            (step, "by REPACK (CONCURRENTLY)".to_owned(), waste.after())
        }
        Road::Move(column, why) => {
            let blocks = waste.heap_after / 8192;
            let share = share(table.heap_bytes, waste.heap_after);
            let shrink = Shrink {
                table: name.clone(),
                oid,
                held_by_now: Some(fires::now(
                    oid,
                    &table.name,
                    &column,
                    facts.server.may_quiet,
                )),
                column,
                quiet: facts.server.may_quiet,
                vacuum: vacuum_options(major),
                vacuumed: if major >= 18 && table.has_children {
                    format!("ONLY {name}")
                } else {
                    name.clone()
                },
                goal_blocks: blocks,
                goal_ms: u64::try_from(goal.get().as_millis()).unwrap_or(u64::MAX),
                holders: Query::new(horizon::OLDER_THAN, []),
            };
            let mut step = Step::new(MOVE, name, lane)
                .touching(oid, Use::Rewrite)
                .shrinking(shrink);
            step.body.under.all_rows = true;
            // Each version that is written is checked once more by the table's constraints.
            step.body.under.their_time = true;
            step.details = vec![
                "locks: rows of a batch for a moment; ACCESS EXCLUSIVE only while nobody waits, when the vacuum gives the end back".to_owned(),
                format!(
                    "disk: no copy; every moved row gets new entries in all indexes, which may grow by up to {}: those that grow by more than a tenth are rebuilt afterwards",
                    bytes((table.index_bytes as f64 * share.min(0.5)) as i64)
                ),
            ];
            let after = waste.heap_after.saturating_add(table.toast_bytes);
            (step, format!("by moving rows, since {why}"), after)
        }
        Road::Blocking(why) | Road::Not(why) | Road::Never(why) | Road::None(why) => {
            let sql = format!("VACUUM (FULL, ANALYZE) {name}");
            let mut step = Step::new("vacuum_full", name, lane)
                .touching(oid, Use::Command)
                .run(Statement::brief(sql));
            step.body.until = until;
            step.details = vec![
                "locks: ACCESS EXCLUSIVE all the time: nobody reads or writes".to_owned(),
                format!("disk: {copy} for the copy with its indexes"),
            ];
            if let Some(until) = until {
                let until = until.format("%Y-%m-%d %H:%M:%S UTC");
                step.details.push(format!(
                    "cancelled at {until}, when `blocking_window` closes"
                ));
            }
            (
                step,
                format!("by VACUUM (FULL), since {why}"),
                waste.after(),
            )
        }
    };
    let mut step = step
        .because(format!("{}; {why}", waste.reason))
        .locking(oid)
        .only_if(
            still_there(oid, &table.name),
            "the table has vanished, or has another name by now",
        )
        .measured_by(Query::new(MEASURE, [Param::Oid(oid)]))
        .expecting(table.bytes(), Some(after));
    step = step.learning(&table.made_as);
    let table = table.name.to_string();
    let which = "one of its unique indexes, which the error of the step names";
    step.body.if_twice = Some(reindex::twice(&table, &table, which));
    step.body.yields_to_wraparound_vacuum = true;
    step
}

/// Dead entries of indexes have to go, or the end is not empty. Nobody queues
/// for a table that somebody else holds.
fn vacuum_options(major: i32) -> Vec<String> {
    let mut options = vec!["SKIP_LOCKED", "INDEX_CLEANUP ON", "TRUNCATE ON"];
    if major >= 16 {
        options.push("SKIP_DATABASE_STATS");
    }
    options.into_iter().map(str::to_owned).collect()
}
