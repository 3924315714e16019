//! Rules for the table of one name in many schemas: what each of them stands for today, and what is
//! told of it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::super::by_schema::{self, is_meant};
use super::super::retention::facts::Table;
use super::super::retention::rule::Rule;
use crate::engines::EngineError;
use crate::engines::postgres::Session;
use crate::plan::{Plan, tell_schemas};
use crate::values::{SchemaPattern, TableName};

/// More tables of which the same is told are told together.
const MOST_ALONE: usize = 10;

/// A rule as it is followed, and which of the task's it comes from.
#[derive(Clone, Debug)]
pub(super) struct Followed {
    pub(super) rule: Rule,
    /// The place of the rule in the task, from 0.
    pub(super) of: usize,
}

/// The rules of a task as they are followed today, with one question however many schemas there are.
///
/// # Errors
/// When the server reports one, or the connection is gone.
pub(super) async fn spread(db: &Session, rules: &[Rule]) -> Result<Vec<Followed>, EngineError> {
    let wanted: BTreeSet<&str> = rules
        .iter()
        .filter(|rule| !rule.schemas.is_empty())
        .map(|rule| &*rule.table.table)
        .collect();
    let there = by_schema::where_there(db, &wanted).await?;
    let mut all = Vec::new();
    for (of, rule) in rules.iter().enumerate() {
        if rule.schemas.is_empty() {
            let rule = rule.clone();
            all.push(Followed { rule, of });
            continue;
        }
        let schemas = there.get(&rule.table.table).into_iter().flatten();
        let meant = schemas.filter(|schema| is_meant(&rule.schemas, schema));
        all.extend(meant.map(|schema| Followed {
            rule: rule.of_schema(schema),
            of,
        }));
    }
    Ok(all)
}

/// Leaves out what is a part of another table of the same rule: its rows are that one's.
pub(super) fn without_parts(followed: &mut Vec<Followed>, tables: &HashMap<TableName, Table>) {
    let parts: HashSet<(usize, u32)> = followed
        .iter()
        .filter(|one| !one.rule.schemas.is_empty())
        .filter_map(|one| Some((one.of, tables.get(&*one.rule.table)?)))
        .flat_map(|(of, table)| {
            let parts = table.members.iter().filter(|m| m.oid != table.oid);
            parts.map(move |member| (of, member.oid))
        })
        .collect();
    followed.retain(|one| {
        let oid = tables.get(&*one.rule.table).map(|table| table.oid);
        !oid.is_some_and(|oid| parts.contains(&(one.of, oid)))
    });
}

/// Rows of a schema that the rule leaves out, where they are part of a table that it means.
pub(super) fn of_others(rule: &Rule, table: &Table) -> Option<String> {
    let left_out = |schema: &str| {
        let mut excluding = rule.schemas.iter().filter(|pattern| pattern.excludes());
        excluding.any(|pattern| pattern.meets(schema))
    };
    let member = table.members.iter();
    let mut member = member.filter(|m| m.oid != table.oid && left_out(m.name.schema.raw()));
    let name = &member.next()?.name;
    Some(format!(
        "{name} is a part of it, by inheritance or as a partition, and `schemas` leaves that schema out"
    ))
}

/// Tells which rules mean no schema, or no table.
pub(super) fn tell(rules: &[Rule], followed: &[Followed], schemas: &[String], plan: &mut Plan) {
    let mut told: Vec<&[SchemaPattern]> = Vec::new();
    for (n, rule) in rules.iter().enumerate() {
        if rule.schemas.is_empty() || followed.iter().any(|one| one.of == n) {
            continue;
        }
        if let Some(finding) = by_schema::nowhere(&rule.schemas, schemas, &rule.table.table) {
            plan.undone(finding);
        }
    }
    for rule in rules.iter().filter(|rule| !rule.schemas.is_empty()) {
        if !told.contains(&&*rule.schemas) {
            told.push(&rule.schemas);
            tell_schemas(&rule.schemas, schemas, plan);
        }
    }
}

/// Tells once what two rules meet, and together what is the same of a table in many schemas.
pub(super) fn fold(plan: &mut Plan) {
    let mut alike: BTreeMap<(String, String, String), Vec<usize>> = BTreeMap::new();
    for (n, finding) in plan.findings.iter().enumerate() {
        let said = match finding.code.as_str() {
            "cleanup.rule" => &*finding.message,
            // How large the table is says the rest.
            "foreign_key.unindexed" => finding.message.split(':').next().unwrap_or_default(),
            _ => continue,
        };
        let (schema, table) = finding.object.rsplit_once('.').unwrap_or_default();
        let said = said.replace(&format!("{schema}."), "");
        let all = alike.entry((finding.code.clone(), table.to_owned(), said));
        all.or_default().push(n);
    }
    let mut gone: HashSet<usize> = HashSet::new();
    for mut places in alike.into_values() {
        let mut met: HashSet<&str> = HashSet::new();
        places.retain(|n| {
            let object = plan.findings.get(*n).map(|finding| &*finding.object);
            let new = object.is_none_or(|object| met.insert(object));
            gone.extend((!new).then_some(*n));
            new
        });
        if places.len() <= MOST_ALONE {
            continue;
        }
        let (first, others) = (places.first(), places.len() - 1);
        gone.extend(places.iter().skip(1));
        if let Some(finding) = first.and_then(|first| plan.findings.get_mut(*first)) {
            finding.message = format!(
                "{}; the same holds for {others} tables of this name in other schemas",
                finding.message
            );
        }
    }
    let mut n = 0;
    plan.findings.retain(|_| {
        n += 1;
        !gone.contains(&(n - 1))
    });
}
