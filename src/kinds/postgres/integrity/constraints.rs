//! Check constraints: counted whether or not the server believes them, and
//! validated on request.

use std::collections::BTreeMap;

use super::facts::{Constraint, Relation};
use super::foreign_keys::ForeignKey;
use crate::engines::postgres::Identifier;
use crate::plan::{Check, Finding, Query, Severity, Statement};

/// How many constraints are looked at in one pass over a table: a query has
/// no more than 1,664 columns, and nobody reads a longer statement.
const AT_ONCE: usize = 100;

/// What is looked at in one pass over a table.
pub(super) struct Batch<'a> {
    pub(super) object: String,
    pub(super) table: &'a Relation,
    pub(super) check: Check,
}

/// Puts constraints together that one pass over their table can answer. Those
/// that are to be validated stand alone.
pub(super) fn batches<'a>(constraints: &[&'a Constraint], validate: bool) -> Vec<Batch<'a>> {
    let alone = |c: &Constraint| validate && !c.validated && c.table.owned;
    let mut out = Vec::new();
    let mut tables: BTreeMap<(String, bool), Vec<&'a Constraint>> = BTreeMap::new();
    for &constraint in constraints {
        if alone(constraint) {
            out.push(Batch {
                object: object(constraint),
                table: &constraint.table,
                check: check(&[constraint]).then(validation(&constraint.table, &constraint.name)),
            });
        } else {
            let key = (constraint.table.name.to_string(), constraint.no_inherit);
            tables.entry(key).or_default().push(constraint);
        }
    }
    for of_table in tables.values() {
        for (n, some) in of_table.chunks(AT_ONCE).enumerate() {
            let Some(first) = some.first() else { continue };
            let mut object = first.table.name.to_string();
            if first.no_inherit {
                object.push_str(" (itself)");
            }
            if n > 0 {
                object.push_str(&format!(" ({})", n + 1));
            }
            out.push(Batch {
                object,
                table: &first.table,
                check: check(some),
            });
        }
    }
    out
}

fn object(constraint: &Constraint) -> String {
    format!("{}.{}", constraint.table.name, constraint.name)
}

fn source(constraint: &Constraint) -> String {
    if constraint.no_inherit {
        format!("ONLY {}", constraint.table.name)
    } else {
        constraint.table.name.to_string()
    }
}

fn check(constraints: &[&Constraint]) -> Check {
    let Some(from) = constraints.first().map(|c| source(c)) else {
        return Check::new();
    };
    // NULL satisfies a check constraint.
    let counts: Vec<String> = constraints
        .iter()
        .map(|c| format!("count(*) FILTER (WHERE ({}) IS FALSE)", c.expression))
        .collect();
    let sql = format!("SELECT {} FROM {from}", counts.join(", "));
    let findings = constraints.iter().map(|c| violated(c)).collect();
    Check::new().counting(Query::new(sql, []), findings)
}

fn violated(constraint: &Constraint) -> Finding {
    let (severity, why) = if constraint.validated {
        (
            Severity::Critical,
            "although it counts as valid: what it calls has changed, or the table is damaged",
        )
    } else {
        (Severity::Warning, "which was never validated")
    };
    Finding {
        code: "constraint.violated".to_owned(),
        severity,
        object: object(constraint),
        message: format!(
            "{{n}} rows of {} violate {}, {why}",
            constraint.table.name, constraint.name
        ),
        suggestion: Some(format!(
            "SELECT * FROM {} WHERE ({}) IS FALSE",
            source(constraint),
            constraint.expression
        )),
    }
}

pub(super) fn validation(table: &Relation, name: &Identifier) -> Statement {
    Statement::brief(format!(
        "ALTER TABLE {} VALIDATE CONSTRAINT {name}",
        table.name
    ))
}

/// What is to be said of constraints that were never validated, and are not
/// going to be now.
pub(super) fn not_valid(
    foreign_keys: &[&ForeignKey],
    constraints: &[&Constraint],
    validate: bool,
) -> Vec<Finding> {
    let foreign_keys = foreign_keys
        .iter()
        .map(|k| (k.validated, &k.table, &k.name));
    let constraints = constraints.iter().map(|c| (c.validated, &c.table, &c.name));
    foreign_keys
        .chain(constraints)
        .filter(|(validated, table, _)| !(*validated || validate && table.owned))
        .map(|(_, table, name)| Finding {
            code: "constraint.not_valid".to_owned(),
            severity: Severity::Warning,
            object: format!("{}.{name}", table.name),
            message: format!(
                "{name} of {} is NOT VALID: it holds for new rows only, and the planner does not rely on it{}",
                table.name,
                if validate {
                    "; only the owner of the table can validate it"
                } else {
                    ""
                }
            ),
            suggestion: Some(validation(table, name).sql),
        })
        .collect()
}
