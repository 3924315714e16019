//! What rows say: foreign keys and check constraints.

use super::constraints;
use super::domains;
use super::facts::{Constraint, Hidden};
use super::foreign_keys::ForeignKey;
use super::options::Integrity;
use super::order::{Candidate, Class};
use super::spread;
use super::unlooked;
use super::{Facts, located};
use crate::engines::postgres::trust::Use;
use crate::engines::postgres::{Identifier, RelationName};
use crate::kinds::postgres::common::{Selection, still_there};
use crate::kinds::postgres::held;
use crate::kinds::postgres::rights::grant;
use crate::plan::{Finding, Plan, Severity, Step};

impl Integrity {
    /// Tables whose check constraints only those know who hold them.
    pub(super) fn held(&self, facts: &Facts, plan: &mut Plan) {
        let selection = Selection::new(&self.include, &self.exclude, &self.schemas);
        for table in facts.unread.iter().filter(|t| selection.covers(&t.name)) {
            let who = facts.holders.get(&table.oid).map_or("", String::as_str);
            let left_out = "its check constraints could not be read, and were not checked";
            plan.undone(held::finding(&table.name, who, left_out));
        }
    }

    /// What rows say: foreign keys and check constraints.
    pub(super) fn rows(
        &self,
        facts: &Facts,
        candidates: &mut Vec<Candidate>,
        unreadable: &mut Vec<(RelationName, Hidden)>,
        plan: &mut Plan,
    ) {
        let selection = Selection::new(&self.include, &self.exclude, &self.schemas);
        let keys: Vec<&ForeignKey> = facts
            .foreign_keys
            .iter()
            .filter(|k| k.covered(&selection))
            .collect();
        let constraints: Vec<&Constraint> = facts
            .constraints
            .iter()
            .filter(|c| selection.covers(&c.table.name))
            .collect();
        plan.findings
            .extend(constraints::not_valid(&keys, &constraints, self.validate));
        plan.findings
            .extend(domains::not_valid(&facts.domains, &selection));
        plan.findings
            .extend(unlooked::told(&facts.unlooked, &selection));
        for key in keys {
            let scope = key.scope();
            for relation in [&key.table, &key.referenced] {
                if let Some(why) = relation.hidden {
                    unreadable.push((relation.name.clone(), why));
                }
            }
            // A standby has nothing of unlogged tables.
            if !scope.readable || (scope.unlogged && facts.in_recovery) {
                continue;
            }
            let mut check = key.check();
            let validate = self.validate && !facts.in_recovery && !key.validated && key.table.owned;
            if validate {
                check = check.then(constraints::validation(&key.table, &key.name));
            }
            let step = Step::new(
                "check_foreign_key",
                key.object(),
                format!("table {}", key.table.oid),
            )
            .touching(key.table.oid, touched(validate))
            .touching(key.referenced.oid, Use::Read)
            .only_if(
                still_there(key.table.oid, &key.table.name),
                "the table has vanished, or has another name by now",
            );
            let place = self.place(facts, scope.unlogged || validate);
            let what = if key.validated {
                "orphans in spite of a valid foreign key"
            } else {
                "a foreign key that was never validated"
            };
            candidates.push(Candidate::new(
                Class::ForeignKey,
                located(step, check, place),
                facts
                    .identities
                    .of(&[key.table.oid, key.referenced.oid], &[key.oid]),
                key.table.bytes + key.referenced.bytes,
                what.to_owned(),
            ));
        }
        let (readable, not): (Vec<_>, Vec<_>) = constraints
            .into_iter()
            .filter(|c| !(c.table.unlogged && facts.in_recovery))
            .partition(|c| c.table.hidden.is_none());
        let hidden = not.into_iter().map(|c| &c.table);
        unreadable.extend(hidden.filter_map(|t| Some((t.name.clone(), t.hidden?))));
        for batch in constraints::batches(
            &readable,
            self.validate && !facts.in_recovery,
            &facts.spread,
        ) {
            let table = batch.table;
            let place = self.place(facts, table.unlogged || !batch.check.when_clean.is_empty());
            let mut step = Step::new(
                "check_constraints",
                batch.object,
                format!("table {}", table.oid),
            )
            .touching(table.oid, touched(!batch.check.when_clean.is_empty()))
            .only_if(
                spread::all_there(table, &batch.parts),
                match batch.parts.as_slice() {
                    [] => "the table has vanished, or has another name by now",
                    _ => "the table, or a table below it, has vanished, or has another name by now",
                },
            );
            step.body.away = batch.away;
            candidates.push(Candidate::new(
                Class::Constraints,
                located(step, batch.check, place),
                facts.identities.of(&[table.oid], &batch.constraints),
                table.bytes,
                "rows that violate a check constraint".to_owned(),
            ));
        }
    }
}

/// Validating changes the definition, and so sets off event triggers.
fn touched(validate: bool) -> Use {
    if validate { Use::Define } else { Use::Read }
}

/// One finding for all tables that the role cannot read whole.
pub(super) fn unreadable_finding(role: &str, tables: &[(RelationName, Hidden)]) -> Option<Finding> {
    let mut tables: Vec<&(RelationName, Hidden)> = tables.iter().collect();
    tables.sort();
    tables.dedup();
    let (first, _) = tables.first()?;
    let others = match tables.len() - 1 {
        0 => String::new(),
        n => format!(" and {n} more"),
    };
    let role = Identifier::new(role);
    let of = |why: Hidden| {
        let these = tables.iter().filter(move |(_, hidden)| *hidden == why);
        these.map(|(name, _)| name).collect::<Vec<_>>()
    };
    let (closed, by_policies) = (of(Hidden::Closed), of(Hidden::ByPolicies));
    let mut help = Vec::new();
    if !closed.is_empty() {
        help.push(grant("SELECT", "", &closed, &role));
    }
    if !by_policies.is_empty() {
        help.push(format!("ALTER ROLE {role} BYPASSRLS"));
    }
    Some(Finding {
        code: "privilege.missing".to_owned(),
        severity: Severity::Warning,
        object: first.to_string(),
        message: format!(
            "{role} cannot read all rows of {first}{others}: the privilege is missing, or row security hides some. Constraints there were not checked"
        ),
        suggestion: Some(help.join("; ")),
    })
}
