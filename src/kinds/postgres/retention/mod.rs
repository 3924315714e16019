//! Rows whose time is over: which rule means them, which tables hold them, how they are found and
//! counted, and what hangs on them. Deleting and archiving share it.

mod apart;
pub(super) mod clearing;
mod computed;
mod counting;
pub(super) mod effects;
pub(super) mod estimate;
pub(super) mod facts;
mod glance;
mod itself;
mod keys;
pub(super) mod leftover;
pub(super) mod mark;
pub(super) mod never;
pub(super) mod outside;
pub(super) mod partition;
pub(super) mod proof;
pub(super) mod removal;
pub(super) mod rights;
pub(super) mod rule;
mod standing;
pub(super) mod ties;
mod unit;
pub(super) mod way;
mod whole_row;

use self::facts::Table;
use self::rule::{AgeType, Rule};
use crate::plan::{Finding, Plan, Severity};
use crate::values::Bytes;

/// The type that tells the age of the rows of a rule, if it goes by age.
pub(super) fn age_of(rule: &Rule, table: &Table) -> Result<Option<AgeType>, String> {
    if !matches!(table.kind.as_str(), "r" | "p") {
        return Err(format!("{} is no table", table.name));
    }
    for column in rule.orphaned.iter().flat_map(|o| &o.columns) {
        if !table.columns.contains_key(column) {
            return Err(format!("{} has no column `{column}`", table.name));
        }
    }
    let Some(name) = &rule.column else {
        return Ok(None);
    };
    let Some(column) = table.columns.get(name) else {
        return Err(format!("{} has no column `{name}`", table.name));
    };
    let Some(age) = AgeType::of(&column.base_type) else {
        return Err(format!(
            "column `{name}` of {} is of type {}; expected a timestamp, a date, a UUIDv7, or an integer",
            table.name, column.shown_type
        ));
    };
    if age == AgeType::Integer && rule.epoch.is_none() {
        return Err(format!(
            "column `{name}` of {} is an integer; say with `epoch` whether it counts seconds, millis or micros since 1970",
            table.name
        ));
    }
    Ok(Some(age))
}

/// With two clocks that disagree nobody can tell what is old.
pub(super) fn clock_differs(plan: &mut Plan, rule: &Rule, why: &str) {
    plan.skip(rule.table.to_string(), why);
    plan.refuse(rule.table.to_string(), why);
    if plan.findings.iter().all(|f| f.code != "clock.differs") {
        plan.findings.push(Finding {
            code: "clock.differs".to_owned(),
            severity: Severity::Critical,
            object: rule.table.to_string(),
            message: why.to_owned(),
            suggestion: None,
        });
    }
}

/// A rule that cannot be followed is not passed over in silence.
pub(super) fn invalid(plan: &mut Plan, rule: &Rule, why: &str) {
    refused(plan, rule, why, None);
}

/// The same, with the statements that would help.
pub(super) fn refused(plan: &mut Plan, rule: &Rule, why: &str, remedy: Option<&str>) {
    plan.skip(rule.table.to_string(), why);
    plan.refuse(rule.table.to_string(), why);
    plan.findings.push(Finding {
        code: "cleanup.rule".to_owned(),
        severity: Severity::Critical,
        object: rule.table.to_string(),
        message: format!("the rule for {} cannot be followed: {why}", rule.table),
        suggestion: remedy.map(str::to_owned),
    });
}

/// A size as people read it.
pub(super) fn size(bytes: i64) -> String {
    Bytes(u64::try_from(bytes).unwrap_or(0)).to_string()
}
