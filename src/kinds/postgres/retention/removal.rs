//! How the rows of one table leave that a rule means: the step that walks through them.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::estimate::Look;
use super::facts::{Member, Table};
use super::rule::{AgeType, Rule};
use super::ties::Ties;
use super::way;
use crate::engines::postgres::Identifier;
use crate::engines::postgres::trust::Use;
use crate::kinds::postgres::common::{of_rows, still_below, still_there};
use crate::plan::postgres::Under;
use crate::plan::{
    Fate, Finding, Found, InVain, Moment, Most, Path, Query, Severity, Step, Vain, Walk,
};
use crate::values::{TimeSpan, several, that_meet, unreadable};

/// Nothing went, because too much would have gone.
pub(in crate::kinds::postgres) fn too_many(object: &str, why: &str) -> Finding {
    Finding {
        code: "rows.too_many".to_owned(),
        severity: Severity::Critical,
        object: object.to_owned(),
        message: format!("nothing of {object} was touched: {why}"),
        suggestion: None,
    }
}

/// Tells of rows that stay because nobody knows how old they are.
pub(in crate::kinds::postgres) fn doubted(
    rule: &Rule,
    table: &Table,
    look: &Look,
) -> Option<Finding> {
    let column = rule.column.as_ref().filter(|_| look.doubted)?;
    let (message, before) = match (rule.epoch, look.never.before) {
        (Some(epoch), _) => (epoch.doubted(column), epoch.earliest().to_string()),
        (None, Some(before)) => (
            format!(
                "some times in `{column}` are before {before}, as -infinity, 0001-01-01 and mostly 1970-01-01 are, which stand for never as often as not: nobody knows how old these rows are, and they stay. Where they are to go, a rule with a `where` for them and without `column` takes them"
            ),
            format!("'{before}'"),
        ),
        (None, None) => return None,
    };
    let name = &table.name;
    Some(Finding {
        code: "rows.doubted".to_owned(),
        severity: Severity::Warning,
        object: name.to_string(),
        message,
        suggestion: Some(format!(
            "SELECT * FROM {name} WHERE {} < {before}",
            Identifier::new(column.as_str()),
        )),
    })
}

/// What dropping a partition passes by, for the plan.
pub(in crate::kinds::postgres) fn passes_by(
    ties: &Ties,
    table: &Table,
    member: &Member,
) -> Option<String> {
    let bypassed = ties.bypassed(table, member);
    (!bypassed.is_empty()).then(|| {
        format!(
            "dropped because of `drop_partitions: true`: that passes by {}",
            bypassed.join(", ")
        )
    })
}

/// After so long it is tried again whether rows go that were only changed.
const AGAIN: TimeDelta = TimeDelta::days(7);
/// So often in a row nothing went, before it is believed of rows that were not tried.
const ENOUGH: u32 = 3;

fn in_vain(key: &str, at: &Moment) -> Option<InVain> {
    InVain::deserialize(at.memories.get(key)?).ok()
}

/// How many rows of the table a rule may take, the same for all that it takes.
pub(in crate::kinds::postgres) fn most(
    (rule, age): (&Rule, Option<AgeType>),
    table: &Table,
    rows: Option<i64>,
    at: &Moment,
) -> Option<Most> {
    let (condition, _) = rule.condition(age, at.now);
    rows.map(|rows| Most {
        rule: short(&format!("{}\n{condition}", table.oid)),
        rows,
    })
}

/// How the rows of one member are gone through, whatever becomes of them.
pub(in crate::kinds::postgres) struct Removal<'a> {
    pub(in crate::kinds::postgres) rule: &'a Rule,
    pub(in crate::kinds::postgres) table: &'a Table,
    pub(in crate::kinds::postgres) ties: &'a Ties,
    pub(in crate::kinds::postgres) age: Option<AgeType>,
    pub(in crate::kinds::postgres) member: &'a Member,
    /// How many rows are expected to go, if anything tells.
    pub(in crate::kinds::postgres) victims: Option<f64>,
    pub(in crate::kinds::postgres) goal: TimeSpan,
    /// How the condition is read.
    pub(in crate::kinds::postgres) under: Under,
    /// What it reads and calls, with a number for the definition of each.
    pub(in crate::kinds::postgres) named: Option<&'a BTreeMap<String, i64>>,
    /// Functions that it calls, of which nobody can tell what they call in turn.
    pub(in crate::kinds::postgres) hiding: &'a [String],
    /// How many rows of the table the rule may take.
    pub(in crate::kinds::postgres) most: Option<i64>,
    /// Rows that were found while they were counted; none where they are not
    /// to be found first.
    pub(in crate::kinds::postgres) found: Option<Found>,
    /// Whether they are found once, and no other goes.
    pub(in crate::kinds::postgres) once: bool,
}

impl Removal<'_> {
    /// The step that goes through the rows; `why` is told of the number expected.
    ///
    /// # Errors
    /// A text where the table cannot be gone through.
    pub(in crate::kinds::postgres) fn step(
        &self,
        action: &str,
        fate: Fate,
        why: impl FnOnce(&str) -> String,
        at: &Moment,
    ) -> Result<Step, String> {
        let (rule, member) = (self.rule, self.member);
        let (path, mut chosen) = way::choose(member, rule, self.victims)?;
        let (condition, params) = rule.condition(self.age, at.now);
        let progress = progress(member, &condition, &path);
        let obstructed = self.ties.obstructed(self.table, member);
        let vain = (!obstructed.is_empty()).then(|| self.vain(&condition, at));
        #[expect(
            clippy::cast_possible_truncation,
            reason = "row counts are far below 2^63"
        )]
        let victims = self.victims.map(|n| n as i64);
        // What is archived takes nothing along that nobody archives.
        let spares = !rule.keep.is_empty() || self.most.is_some();
        let references = match fate {
            Fate::Delete if spares => self.ties.sparing(member.oid),
            _ => self.ties.references(member.oid, fate != Fate::Delete),
        };
        let kept = fate != Fate::Delete;
        let through = self.ties.through(self.table, member);
        let through = through.then(|| self.table.name.to_string());
        // Rows of a table that is its own parent are told anew in each batch:
        // what goes makes orphans of others.
        let sought = self.once || (self.found.is_some() && !references.iter().any(|r| r.own));
        if sought {
            chosen = "by places: what goes is found by one question, and judged again as it goes"
                .to_owned();
        }
        if self.once {
            chosen.push_str("; its condition reads the table itself, or what changes along, and no other row goes");
        }
        let walk = Walk {
            table: member.name.to_string(),
            oid: member.oid,
            through: through.clone(),
            alias: rule.alias().to_string(),
            condition,
            params,
            fate,
            newest: None,
            path,
            goal_ms: u64::try_from(self.goal.get().as_millis()).unwrap_or(u64::MAX),
            rows: victims,
            snapshot: rule.looks_elsewhere() || references.iter().any(|r| r.takes),
            start: at
                .memories
                .get(&progress)
                .filter(|v| !v.is_null() && !sought)
                .cloned(),
            careful: at.memories.get(&Walk::cut_off_under(&progress)) == Some(&true.into()),
            progress,
            guarded: references.iter().any(|r| r.takes),
            fires: self.ties.fires(self.table, member),
            spares,
            stands: Some(self.ties.stands(self.table, member, kept)),
            references,
            obstructed,
            vain,
            most: most((rule, self.age), self.table, self.most, at),
            sought,
            once: self.once,
            found: self.found.clone().unwrap_or_default(),
        };
        let expected = self
            .victims
            .map_or("an unknown number of rows".to_owned(), |n| {
                format!("about {}", of_rows(n))
            });
        let (still, otherwise) = match member.oid == self.table.oid || member.detached {
            true => (
                still_there(member.oid, &member.name),
                "the table has vanished, or has another name by now".to_owned(),
            ),
            // What somebody has detached is not meant by a rule for the table.
            false => (
                still_below(member.oid, &member.name, self.table.oid),
                format!(
                    "it is no part of {} any more: somebody dropped, renamed or detached it",
                    self.table.name
                ),
            ),
        };
        let mut step = Step::new(
            action,
            member.name.to_string(),
            format!("table {}", member.oid),
        )
        .because(why(&expected))
        .locking(member.oid)
        .only_if(still, otherwise)
        .counted_by(count(rule, self.age, member, through.as_deref(), at))
        .reading(self.under.clone())
        .expecting(member.bytes, None)
        .expecting_rows(self.victims.map(|n| n as i64))
        .touching(member.oid, Use::Delete)
        .walking(walk);
        step.may_stay = self.ties.may_keep(self.table, member);
        step.details.push(format!("walks {chosen}"));
        Ok(self.relying(step))
    }

    /// What is remembered where nothing comes of it but changes that are given back.
    fn vain(&self, condition: &str, at: &Moment) -> Vain {
        let key = format!("in vain {} {}", self.member.oid, short(condition));
        let print = self.ties.print(self.table, self.member);
        let known = in_vain(&key, at).filter(|known| known.print == print);
        Vain {
            before: known.map_or(0, |known| known.times),
            key,
            print,
        }
    }

    /// What is told, instead of trying it again, where it is known that what hangs on the table only
    /// changes the rows: of all of them, or of the first of them night by night. Once a week it is
    /// tried all the same: triggers decide by more than can be seen from here.
    fn in_vain(&self, at: &Moment) -> Option<Finding> {
        let (condition, _) = self.rule.condition(self.age, at.now);
        let vain = self.vain(&condition, at);
        let known = in_vain(&vain.key, at).filter(|known| known.print == vain.print)?;
        let again = known.at + AGAIN;
        if !(known.all || known.times >= ENOUGH) || at.now >= again {
            return None;
        }
        let name = &self.member.name;
        let table = unreadable::escaped(&name.to_string()).into_owned();
        Some(Finding {
            code: "rows.refused".to_owned(),
            severity: Severity::Critical,
            object: name.to_string(),
            message: format!(
                "{} on {}: {}. Nothing was tried this time, as nothing that hangs on the table has changed since; it is tried again from {} on. What is to stay is said with `keep`",
                that_meet(known.rows, &table, ("refused to go", "refused to go")),
                known.at.format("%Y-%m-%d"),
                known.why,
                again.format("%Y-%m-%d"),
            ),
            suggestion: None,
        })
    }

    /// What is told instead of trying, where it is known that none of the rows would go.
    pub(in crate::kinds::postgres) fn hopeless(&self, at: &Moment) -> Option<Finding> {
        let refused = self.unpublishable().or_else(|| self.unguarded());
        refused.or_else(|| self.in_vain(at))
    }

    /// Rows would go that others point at, and nobody would be told.
    fn unguarded(&self) -> Option<Finding> {
        let keys = self.ties.asleep(self.member.oid);
        let name = &self.member.name;
        let table = unreadable::escaped(&name.to_string()).into_owned();
        (!keys.is_empty()).then(|| Finding {
            code: "rows.unguarded".to_owned(),
            severity: Severity::Critical,
            object: name.to_string(),
            message: format!(
                "nothing of {table} is touched: triggers of foreign keys that point at it are switched off there, so rows would go that others point at, and the keys would hold no longer: {}",
                keys.join(", ")
            ),
            suggestion: Some(format!("ALTER TABLE {name} ENABLE TRIGGER ALL")),
        })
    }

    /// The server refuses to delete any row.
    fn unpublishable(&self) -> Option<Finding> {
        let why = self.ties.unpublishable(self.table, self.member);
        let first = why.first()?;
        let name = &self.member.name;
        let table = unreadable::escaped(&name.to_string()).into_owned();
        let more = match why.len() {
            1 => String::new(),
            n => format!("; and {}", several(n - 1, "more cause")),
        };
        Some(Finding {
            code: "publication.refuses".to_owned(),
            severity: Severity::Critical,
            object: name.to_string(),
            message: format!("the server refuses to delete any row of {table}: {first}{more}"),
            suggestion: None,
        })
    }

    /// Has a saved plan keep what tells the table, and the columns that the rule names, from others
    /// of their names: by these it is told which rows go.
    fn relying(&self, mut step: Step) -> Step {
        let (rule, table) = (self.rule, self.table);
        if self.member.oid != table.oid {
            step = step.relying_on(table.oid, &table.name);
        }
        let named = table.columns.iter().filter(|(name, _)| rule.names(name));
        for (name, column) in named {
            step = step.relying_on_column(column.number, name, &table.name);
        }
        for (name, definition) in self.named.into_iter().flatten() {
            step = step.relying_on_definition(*definition, name);
        }
        if !self.hiding.is_empty() {
            step.details.push(format!(
                "a saved plan does not hold what {} in turn by names that are put together at run time, or in a language that is not read",
                match self.hiding {
                    [one] => format!("{one} calls"),
                    all => format!("{} call", all.join(", ")),
                }
            ));
        }
        if let Some(orphaned) = &rule.orphaned {
            let columns = orphaned.parent_columns.iter().zip(&orphaned.numbers);
            for (name, number) in columns {
                step = step.relying_on_column(*number, name, &orphaned.parent);
            }
        }
        step
    }
}

pub(in crate::kinds::postgres) fn count(
    rule: &Rule,
    age: Option<AgeType>,
    member: &Member,
    through: Option<&str>,
    at: &Moment,
) -> Query {
    let (condition, params) = rule.condition(age, at.now);
    let alias = rule.alias();
    let from = match through {
        None => format!("ONLY {} AS {alias} WHERE", member.name),
        Some(root) => format!(
            "{root} AS {alias} WHERE {alias}.tableoid = {}::oid AND",
            member.oid
        ),
    };
    Query::new(
        format!("SELECT pg_catalog.count(*) FROM {from} ({condition})"),
        params,
    )
}

/// Under which key the place is remembered: another condition or another path
/// is another walk.
fn progress(member: &Member, condition: &str, path: &Path) -> String {
    let path = match path {
        Path::Blocks { .. } => "blocks".to_owned(),
        Path::Key(columns) => columns.iter().map(|c| format!("{} ", c.name)).collect(),
    };
    let short = short(&format!("{condition}\n{path}"));
    format!("walk {} {short}", member.oid)
}

fn short(text: &str) -> String {
    let digest = Sha256::digest(text);
    digest.iter().take(6).map(|b| format!("{b:02x}")).collect()
}
