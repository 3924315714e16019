//! Rules whose conditions read the table that the rows go from. What such a condition means changes with
//! every row that goes (an average, the newest of each): asked anew for every batch, it would go on
//! until it has taken what nobody meant. So which rows go is asked once, for all of them.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::apart::reached_sql;
use super::facts::{Member, Table};
use super::rule::Rule;
use crate::engines::EngineError;
use crate::engines::postgres::meaning::words;
use crate::engines::postgres::{Session, each};

/// The tables that functions read which the conditions of a rule may call.
///
/// # Errors
/// When the server reports one, or the connection is gone.
pub(super) async fn by_functions(db: &Session, rule: &Rule) -> Result<HashSet<u32>, EngineError> {
    let said: Vec<String> = rule.texts().flat_map(words).collect();
    if said.is_empty() {
        return Ok(HashSet::new());
    }
    let nothing: Vec<u32> = Vec::new();
    let doing = "looking which tables a condition reads";
    let rows = db
        .query(doing, &reached_sql(), &[&said, &nothing, &false])
        .await?;
    Ok(each(&rows, |row| row.named("oid"))?.into_iter().collect())
}

/// Whether a plan for rows of these members, one arm for each, reads more of the table than they are.
pub(super) fn is_read(plan: &Value, table: &Table, members: &[&Member]) -> bool {
    let mut scans: HashMap<(&str, &str), usize> = HashMap::new();
    count(plan, &mut scans);
    let root = (table.name.schema.raw(), table.name.relation.raw());
    let all = table.members.iter();
    let all = all.map(|m| (m.name.schema.raw(), m.name.relation.raw()));
    let arms: HashSet<(&str, &str)> = members
        .iter()
        .map(|m| (m.name.schema.raw(), m.name.relation.raw()))
        .collect();
    all.chain([root])
        .any(|name| scans.get(&name).copied().unwrap_or(0) > usize::from(arms.contains(&name)))
}

/// Counts the scans of each relation, by schema and name.
fn count<'a>(node: &'a Value, scans: &mut HashMap<(&'a str, &'a str), usize>) {
    let word = |key: &str| node.get(key).and_then(Value::as_str);
    if let (Some(schema), Some(relation)) = (word("Schema"), word("Relation Name")) {
        *scans.entry((schema, relation)).or_default() += 1;
    }
    for below in node
        .get("Plans")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        count(below, scans);
    }
}
