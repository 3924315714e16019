//! Check constraints: counted whether or not the server believes them, and
//! validated on request.

use std::collections::{BTreeMap, HashMap};

use super::facts::{Constraint, Relation};
use super::foreign_keys::ForeignKey;
use super::spread::Spread;
use crate::engines::postgres::{Identifier, RelationName};
use crate::plan::{Check, Finding, Query, Severity, Statement};

/// How many constraints are looked at in one pass over a table: a query has
/// no more than 1,664 columns, and nobody reads a longer statement.
const AT_ONCE: usize = 100;

/// What is looked at in one pass over a table.
pub(super) struct Batch<'a> {
    pub(super) object: String,
    pub(super) table: &'a Relation,
    pub(super) check: Check,
    /// The constraints, by their oids.
    pub(super) constraints: Vec<u32>,
    /// What it reads of the table, where that is not the whole.
    pub(super) parts: Vec<RelationName>,
    /// Foreign tables among what it reads.
    pub(super) away: Vec<String>,
}

/// Puts constraints together that one pass over their table can answer. Those
/// that are to be validated stand alone.
/// Where a table has foreign ones below it (`spread`), each of those stands alone.
pub(super) fn batches<'a>(
    constraints: &[&'a Constraint],
    validate: bool,
    spread: &HashMap<u32, Spread>,
) -> Vec<Batch<'a>> {
    let alone = |c: &Constraint| validate && !c.validated && c.table.owned;
    let mut out = Vec::new();
    let mut tables: BTreeMap<(String, bool), Vec<&'a Constraint>> = BTreeMap::new();
    for &constraint in constraints {
        if alone(constraint) {
            let validation = validation(&constraint.table, &constraint.name);
            let mut parts = apart(object(constraint), &[constraint], spread);
            // What the server validates are the tables that it has itself.
            if let Some(first) = parts.first_mut() {
                first.check = std::mem::take(&mut first.check).then(validation);
            }
            out.extend(parts);
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
            out.extend(apart(object, some, spread));
        }
    }
    out
}

/// One pass over the table, or one over what is here and one over each table elsewhere.
fn apart<'a>(
    object: String,
    constraints: &[&'a Constraint],
    spread: &HashMap<u32, Spread>,
) -> Vec<Batch<'a>> {
    let Some(first) = constraints.first() else {
        return Vec::new();
    };
    let table = &first.table;
    let spread = spread.get(&table.oid).filter(|_| !first.no_inherit);
    let oids: Vec<u32> = constraints.iter().map(|c| c.oid).collect();
    let batch = |object, check, parts: &[RelationName], away: &[RelationName]| Batch {
        object,
        constraints: oids.clone(),
        table,
        check,
        parts: parts.to_vec(),
        away: away.iter().map(ToString::to_string).collect(),
    };
    match spread {
        Some(spread) if spread.readable => {
            let here = check(constraints, &spread.here);
            let mut out = match spread.here.as_slice() {
                [] => Vec::new(),
                _ => vec![batch(object.clone(), here, &spread.here, &[])],
            };
            out.extend(spread.away.iter().map(|one| {
                let alone = std::slice::from_ref(one);
                let object = format!("{object} ({one})");
                batch(object, check(constraints, alone), alone, alone)
            }));
            out
        }
        _ => {
            let away = spread.map_or(&[][..], |spread| &spread.away);
            vec![batch(object, check(constraints, &[]), &[], away)]
        }
    }
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

/// Looks at the table, or at these parts of it alone.
fn check(constraints: &[&Constraint], parts: &[RelationName]) -> Check {
    let Some(from) = constraints.first().map(|c| source(c)) else {
        return Check::new();
    };
    // NULL satisfies a check constraint.
    let counts: Vec<String> = constraints
        .iter()
        .enumerate()
        .map(|(n, c)| {
            format!(
                "count(*) FILTER (WHERE ({}) IS FALSE) AS c{n}",
                c.expression
            )
        })
        .collect();
    let counts = counts.join(", ");
    let sql = match parts {
        [] => format!("SELECT {counts} FROM {from}"),
        [one] => format!("SELECT {counts} FROM ONLY {one}"),
        _ => {
            let each: Vec<String> = parts
                .iter()
                .map(|part| format!("SELECT {counts} FROM ONLY {part}"))
                .collect();
            let sums: Vec<String> = (0..constraints.len())
                .map(|n| format!("pg_catalog.sum(u.c{n})::pg_catalog.int8"))
                .collect();
            format!(
                "SELECT {} FROM ({}) u",
                sums.join(", "),
                each.join(" UNION ALL ")
            )
        }
    };
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
            "{{rows}} of {} {{violate}} {}, {why}",
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
            // The rows are looked at after this: where some violate it, the statement fails.
            suggestion: Some(format!(
                "`validate: true` does it, as soon as no row violates it; by hand: {}",
                validation(table, name).sql
            )),
        })
        .collect()
}
