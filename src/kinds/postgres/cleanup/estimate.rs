//! How many rows a rule means, by the planner's estimate, and whether there
//! are any at all, where that can be told cheaply.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde_json::Value;
use tokio_postgres::types::ToSql;

use super::facts::{Member, Table};
use super::rule::{AgeType, Rule};
use crate::engines::EngineError;
use crate::engines::postgres::Session;
use crate::plan::Param;

/// Reading a table of this size to its end, in vain, takes well under a second.
const SMALL: i64 = 64 << 20;

/// What a look at the rows of one rule told.
#[derive(Clone, Debug, Default)]
pub(in crate::kinds::postgres) struct Look {
    /// Estimated rows that would go, by table.
    pub(in crate::kinds::postgres) rows: HashMap<u32, f64>,
    /// Whether there is such a row, by table; missing where nobody looked.
    pub(in crate::kinds::postgres) any: HashMap<u32, bool>,
    /// What the server says is wrong with the condition.
    pub(in crate::kinds::postgres) refused: Option<String>,
}

/// Looks with the rule's condition as it would be now. The plan's own moment
/// is a little earlier, so that it never means more rows than were looked for.
pub(in crate::kinds::postgres) async fn look(
    db: &Session,
    rule: &Rule,
    table: &Table,
    age: Option<AgeType>,
    now: DateTime<Utc>,
) -> Result<Look, EngineError> {
    let members: Vec<&Member> = table.members.iter().filter(|m| m.kind == "r").collect();
    let mut look = Look::default();
    if members.is_empty() {
        return Ok(look);
    }
    let (condition, params) = rule.condition(age, now);
    let from = |m: &Member| format!("ONLY {} AS {} WHERE {condition}", m.name, rule.alias());
    let params = bound(&params);
    // Nobody may have to wait for us, nor we for them; what cannot be told stays unknown.
    let begin =
        "BEGIN READ ONLY; SET LOCAL lock_timeout = '500ms'; SET LOCAL statement_timeout = '20s';
        SET LOCAL max_parallel_workers_per_gather = 0";
    let arms: Vec<String> = members
        .iter()
        .map(|m| format!("SELECT 1 FROM {}", from(m)))
        .collect();
    let explain = format!(
        "EXPLAIN (VERBOSE, FORMAT JSON) {}",
        arms.join(" UNION ALL ")
    );
    db.execute("beginning to look", begin).await?;
    let answer = db.query("estimating rows", &explain, &params).await;
    db.execute("ending the look", "ROLLBACK").await?;
    match answer {
        Ok(rows) => {
            if let Some(row) = rows.first() {
                let plan: Value = row.get(0);
                for member in &members {
                    let rows = rows_of(&plan[0]["Plan"], member, rule);
                    look.rows.insert(member.oid, rows.unwrap_or(0.0));
                }
            }
        }
        Err(error) => {
            if !too_late(&error) {
                look.refused = Some(error.to_string());
            }
            return Ok(look);
        }
    }

    let cheap: Vec<&Member> = members
        .into_iter()
        .filter(|m| m.bytes <= SMALL || (rule.by_age_alone() && led_by(m, rule)))
        .collect();
    if cheap.is_empty() {
        return Ok(look);
    }
    let arms: Vec<String> = cheap
        .iter()
        .map(|m| {
            format!(
                "SELECT {}::oid WHERE EXISTS (SELECT FROM {})",
                m.oid,
                from(m)
            )
        })
        .collect();
    db.execute("beginning to look", begin).await?;
    let answer = db
        .query("looking for rows", &arms.join(" UNION ALL "), &params)
        .await;
    db.execute("ending the look", "ROLLBACK").await?;
    match answer {
        Ok(rows) => {
            look.any = cheap.iter().map(|m| (m.oid, false)).collect();
            look.any.extend(rows.iter().map(|row| (row.get(0), true)));
        }
        Err(error) => {
            if !too_late(&error) {
                look.refused = Some(error.to_string());
            }
        }
    }
    Ok(look)
}

/// Whether an index begins with the column that tells the age.
fn led_by(member: &Member, rule: &Rule) -> bool {
    member
        .indexes
        .iter()
        .any(|i| i.columns.first().map(|c| &c.name) == rule.column.as_ref())
}

fn bound(params: &[Param]) -> Vec<&(dyn ToSql + Sync)> {
    params.iter().map(|p| p as &(dyn ToSql + Sync)).collect()
}

/// Whether the answer only came too late: a lock, or a long search.
fn too_late(error: &EngineError) -> bool {
    matches!(error.sqlstate(), Some("55P03" | "57014" | "40P01"))
}

/// The rows that the planner expects of this member: of the arm that reads it.
fn rows_of(plan: &Value, member: &Member, rule: &Rule) -> Option<f64> {
    let arms = match (plan["Node Type"].as_str(), plan["Plans"].as_array()) {
        (Some("Append"), Some(arms)) => arms.as_slice(),
        _ => std::slice::from_ref(plan),
    };
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
