//! What the planner estimated, or was counted, of each rule.

use std::collections::HashMap;

use serde_json::Value;

use super::super::counting::Counted;
use super::super::facts::Member;
use super::super::itself::{self, Unseen};
use super::super::proof;
use super::super::rule::Rule;
use super::{Asked, Look, Subject};
use crate::engines::EngineError;
use crate::engines::postgres::Session;

/// Which rows go is asked once, and they are too many, or in tables whose rows have no places.
const UNFOUND: &str = "its condition reads the table that the rows go from, or one that changes along, and means others as they go: so which rows go is asked once for all of them, and here that is more than eight million rows, or a table that is no heap. Have the condition read a copy of what it needs (a materialized view, say), or let fewer rows go at a time by `older_than`";

/// What the rules, which differ in nothing but schemas, read out of sight, and what is changed out of sight.
pub(super) async fn unseen(db: &Session, asked: &[Asked<'_>]) -> Result<Unseen, EngineError> {
    let Some(one) = asked.first() else {
        return Ok(Unseen::default());
    };
    let tables: Vec<u32> = asked.iter().flat_map(|one| one.table.relations()).collect();
    let along = asked.iter().flat_map(|one| &one.along);
    let along: Vec<&str> = along.map(String::as_str).collect();
    Unseen::read(db, one.rule, &tables, &along).await
}

/// What the planner estimates, and whether the condition reads the table itself.
pub(super) fn estimated(
    looks: &mut [Look],
    subjects: &[(usize, Subject<'_>)],
    rule: &Rule,
    plan: &Value,
    unseen: &Unseen,
) {
    let arms = arms_of(plan);
    for (n, subject) in subjects {
        let Some(look) = looks.get_mut(*n) else {
            continue;
        };
        for member in &subject.members {
            let rows = rows_of(arms, member, rule);
            look.rows.insert(member.oid, rows.unwrap_or(0.0));
        }
        let table = subject.asked.table;
        // What goes makes orphans of others, and those are meant, too.
        let own = rule.orphaned.as_ref();
        let own = own.is_some_and(|orphaned| orphaned.parent == rule.table);
        let along = &subject.asked.along;
        let read = itself::is_read(plan, table, &subject.members, (along, unseen));
        look.itself = (read && !own) || unseen.is_called(table, along);
    }
}

/// What was counted, in place of estimates; there is nothing left to look for.
pub(super) fn count_in(
    looks: &mut [Look],
    subjects: &[(usize, Subject<'_>)],
    mut counted: Counted,
) {
    for (n, subject) in subjects {
        let Some(look) = looks.get_mut(*n) else {
            continue;
        };
        let (rule, reading) = (subject.asked.rule, &subject.asked.reading);
        if look.itself
            && subject
                .members
                .iter()
                .any(|m| !counted.found.contains_key(&m.oid))
        {
            look.refused = Some(UNFOUND.to_owned());
            continue;
        }
        let sum = |counts: &HashMap<u32, i64>| {
            let members = subject.members.iter();
            members.filter_map(|m| counts.get(&m.oid)).sum::<i64>()
        };
        let (going, all) = (sum(&counted.going), sum(&counted.all));
        look.most = proof::most(rule, all);
        look.too_many = proof::too_many(rule, reading.parent_is_empty, going, all);
        // Counted is better than estimated, and there is nothing left to look for.
        for member in &subject.members {
            let rows = counted.going.get(&member.oid).copied().unwrap_or(0);
            #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
            look.rows.insert(member.oid, rows as f64);
            look.any.insert(member.oid, rows > 0);
            if let Some(found) = counted.found.remove(&member.oid) {
                look.found.insert(member.oid, found);
            }
        }
    }
}

/// What of a plan reads one table each.
fn arms_of(plan: &Value) -> &[Value] {
    match (plan["Node Type"].as_str(), plan["Plans"].as_array()) {
        (Some("Append"), Some(arms)) => arms.as_slice(),
        _ => std::slice::from_ref(plan),
    }
}

/// The rows that the planner expects of this member: of the arm that reads it.
fn rows_of(arms: &[Value], member: &Member, rule: &Rule) -> Option<f64> {
    arms.iter()
        .find(|arm| reads(arm, member, rule))
        .and_then(|arm| arm["Plan Rows"].as_f64())
}

fn reads(node: &Value, member: &Member, rule: &Rule) -> bool {
    let alias = node["Alias"].as_str().unwrap_or_default();
    let here = node["Schema"].as_str() == Some(member.name.schema.raw())
        && node["Relation Name"].as_str() == Some(member.name.relation.raw())
        && alias.starts_with(rule.alias().raw());
    let below = node["Plans"].as_array();
    here || below.is_some_and(|below| below.iter().any(|node| reads(node, member, rule)))
}
