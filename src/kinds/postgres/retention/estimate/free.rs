//! Whether any row may go by itself.

use super::super::facts::Table;
use super::super::rule::{AgeType, Rule};
use super::super::ties::Ties;
use super::{bound, too_late};
use crate::engines::EngineError;
use crate::engines::postgres::{Session, first};
use crate::plan::postgres::Under;
use crate::values::wall_clock;

/// Whether a row meets the rule that no other points at with a foreign key
/// which would take the other along, or change it. What cannot be told in
/// time may be so.
pub(in crate::kinds::postgres) async fn any_free(
    db: &Session,
    rule: &Rule,
    table: &Table,
    age: Option<AgeType>,
    ties: &Ties,
    under: &Under,
) -> Result<bool, EngineError> {
    let (condition, params) = rule.condition(age, wall_clock());
    let params = bound(&params);
    let alias = rule.alias();
    let members = table.members.iter();
    for member in members.filter(|m| m.kind == "r" && !m.is_unnamed()) {
        let references = ties.references(member.oid, true);
        let points: Vec<String> = references
            .iter()
            .filter(|r| r.takes)
            .map(|r| format!(" AND NOT {}", r.points_at(&alias.to_string())))
            .collect();
        if points.is_empty() {
            continue;
        }
        let sql = format!(
            "SELECT EXISTS (SELECT FROM ONLY {} AS {alias} WHERE ({condition}){})",
            member.name,
            points.concat()
        );
        let begin = format!(
            "BEGIN READ ONLY; SET LOCAL lock_timeout = '500ms'; SET LOCAL statement_timeout = '20s'; {}",
            under.settings("SET LOCAL")
        );
        db.execute("beginning to look", &begin).await?;
        let answer = db
            .query("looking for rows that may go", &sql, &params)
            .await;
        db.execute("ending the look", "ROLLBACK").await?;
        match answer {
            Ok(rows) if first(&rows, 0)? == Some(true) => return Ok(true),
            Err(error) if too_late(&error) => return Ok(true),
            // What is wrong with the condition is told elsewhere.
            _ => {}
        }
    }
    Ok(false)
}
