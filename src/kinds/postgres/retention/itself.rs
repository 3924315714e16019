//! Rules whose conditions read the table that the rows go from, or one whose rows go or change along. What such a condition means changes with
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

/// Whether a plan for rows of these members, one arm for each, reads more of the table than they are, or puts
/// rows together of a table whose rows go or change `along` (`schema.table`).
pub(super) fn is_read(
    plan: &Value,
    table: &Table,
    members: &[&Member],
    along: &HashSet<String>,
) -> bool {
    let mut scans: HashMap<(&str, &str), usize> = HashMap::new();
    count(plan, &mut scans);
    let root = (table.name.schema.raw(), table.name.relation.raw());
    let all = table.members.iter();
    let all = all.map(|m| (m.name.schema.raw(), m.name.relation.raw()));
    let arms: HashSet<(&str, &str)> = members
        .iter()
        .map(|m| (m.name.schema.raw(), m.name.relation.raw()))
        .collect();
    let own: HashSet<(&str, &str)> = all.chain([root]).collect();
    is_gathered(plan, false, &|schema, relation| {
        !own.contains(&(schema, relation)) && along.contains(&format!("{schema}.{relation}"))
    }) || own
        .iter()
        .any(|name| scans.get(name).copied().unwrap_or(0) > usize::from(arms.contains(name)))
}

/// What puts many rows together, so that each of them counts for all: an average, the newest, the first ten. A join
/// looks at those that belong to the row, and they go with it alone.
const GATHER: [&str; 6] = [
    "Aggregate",
    "WindowAgg",
    "Group",
    "Unique",
    "SetOp",
    "Limit",
];

/// Whether rows of such a relation are put together.
fn is_gathered(node: &Value, within: bool, concerns: &dyn Fn(&str, &str) -> bool) -> bool {
    let word = |key: &str| node.get(key).and_then(Value::as_str);
    let within = within || word("Node Type").is_some_and(|kind| GATHER.contains(&kind));
    if within
        && let (Some(schema), Some(relation)) = (word("Schema"), word("Relation Name"))
        && concerns(schema, relation)
    {
        return true;
    }
    let below = node.get("Plans").and_then(Value::as_array);
    below
        .into_iter()
        .flatten()
        .any(|node| is_gathered(node, within, concerns))
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
