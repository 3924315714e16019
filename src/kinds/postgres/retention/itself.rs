//! Rules whose conditions read the table that the rows go from, one whose rows go or change along, or one that a
//! trigger changes. What such a condition means changes with every row that goes (an average, the newest of each): asked
//! anew for every batch, it would go on until it has taken what nobody meant. So which rows go is asked once, for all.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::apart::reached_sql;
use super::facts::{Member, Table};
use super::rule::Rule;
use crate::engines::EngineError;
use crate::engines::postgres::meaning::words;
use crate::engines::postgres::{Session, each};

/// Triggers of these relations, or of those by these names (`schema.table`), that fire when rows go or change: what
/// their functions are called. A relation with rules leads to what they do.
const FIRING: &str = "SELECT DISTINCT pg_catalog.lower(p.proname::text) AS function, NULL::oid AS ruled FROM pg_catalog.pg_trigger t
        JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid AND p.oid >= 16384
        WHERE NOT t.tgisinternal AND t.tgenabled <> 'D' AND t.tgtype & 24 <> 0 AND t.tgrelid IN ({these})
    UNION ALL SELECT DISTINCT NULL, w.ev_class FROM pg_catalog.pg_rewrite w
        WHERE w.ev_type IN ('2', '4') AND w.ev_enabled <> 'D' AND w.ev_class IN ({these})";
const THESE: &str = "SELECT c.oid FROM pg_catalog.pg_class c WHERE c.oid = ANY ($1::oid[])
    UNION ALL SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname::text || '.' || c.relname::text = ANY ($2::text[])";

/// Which tables a rule's conditions read out of sight, and which are changed by what fires when rows go.
#[derive(Default)]
pub(super) struct Unseen {
    /// The tables that functions read which the conditions may call, by id: `schema.table`.
    called: HashMap<u32, String>,
    /// The tables that triggers and rules may change, `schema.table`.
    fired: HashSet<String>,
}

impl Unseen {
    /// Looks for them, for a rule whose rows are in these `tables` and take those of others `along` (`schema.table`).
    ///
    /// # Errors
    /// When the server reports one, or the connection is gone.
    pub(super) async fn read(
        db: &Session,
        rule: &Rule,
        tables: &[u32],
        along: &[&str],
    ) -> Result<Unseen, EngineError> {
        let mut unseen = Unseen::default();
        let said: Vec<String> = rule.texts().flat_map(words).collect();
        if said.is_empty() {
            return Ok(unseen);
        }
        unseen.called = reached(db, &said, &[]).await?;
        let asks = said.iter().any(|word| word == "select" || word == "table");
        if !asks && unseen.called.is_empty() {
            return Ok(unseen);
        }
        let doing = "looking what fires when rows go";
        let sql = FIRING.replace("{these}", THESE);
        let (mut functions, mut ruled) = (Vec::new(), Vec::new());
        for row in db.query(doing, &sql, &[&tables, &along]).await? {
            functions.extend(row.named::<Option<String>>("function")?);
            ruled.extend(row.named::<Option<u32>>("ruled")?);
        }
        if !functions.is_empty() || !ruled.is_empty() {
            let fired = reached(db, &functions, &ruled).await?;
            unseen.fired = fired.into_values().collect();
        }
        Ok(unseen)
    }

    /// Whether a function reads the table, one whose rows go or change `along`, or one that is changed by what fires.
    pub(super) fn is_called(&self, table: &Table, along: &HashSet<String>) -> bool {
        let relations = table.relations();
        self.called.iter().any(|(oid, name)| {
            relations.contains(oid) || along.contains(name) || self.fired.contains(name)
        })
    }
}

/// The tables that functions of these names read, or that rules of these relations lead to.
async fn reached(
    db: &Session,
    functions: &[String],
    ruled: &[u32],
) -> Result<HashMap<u32, String>, EngineError> {
    let doing = "looking which tables a condition reads";
    let rows = db
        .query(doing, &reached_sql(), &[&functions, &ruled, &false])
        .await?;
    let found = each(&rows, |row| {
        let (schema, name): (String, String) = (row.named("schema")?, row.named("name")?);
        Ok((row.named::<u32>("oid")?, format!("{schema}.{name}")))
    });
    Ok(found?.into_iter().collect())
}

/// Whether rows of these members, one arm of the plan for each, are not chosen by themselves alone: the plan reads
/// more of the table than they are, puts rows together of a table whose rows go or change `along` (`schema.table`), or
/// reads one that is changed by what fires.
pub(super) fn is_read(
    plan: &Value,
    table: &Table,
    members: &[&Member],
    (along, unseen): (&HashSet<String>, &Unseen),
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
    let fired = || {
        let mut others = scans.keys().filter(|name| !own.contains(*name));
        others.any(|(schema, relation)| unseen.fired.contains(&format!("{schema}.{relation}")))
    };
    let gathered = || {
        is_gathered(plan, false, &|schema, relation| {
            !own.contains(&(schema, relation)) && along.contains(&format!("{schema}.{relation}"))
        })
    };
    let more = |name: &(&str, &str)| {
        scans.get(name).copied().unwrap_or(0) > usize::from(arms.contains(name))
    };
    fired() || gathered() || own.iter().any(more)
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
