//! Whether integers count what a rule says: in another unit every row would be old, or none ever.

use chrono::{DateTime, Utc};

use super::facts::Member;
use super::glance::begin;
use super::rule::{AgeType, Rule};
use crate::engines::EngineError;
use crate::engines::postgres::trust::Guard;
use crate::engines::postgres::{Identifier, Session, first};

/// The first row decides where the unit is right; where it is wrong, and another is not, too.
/// What cannot be told in the time of a look is no time of our days.
///
/// # Errors
/// When the server reports one, or the connection is gone.
pub(super) async fn mistaken(
    db: &Session,
    rule: &Rule,
    age: Option<AgeType>,
    members: &[&Member],
    (guard, settings): (Option<&Guard>, &str),
    now: DateTime<Utc>,
) -> Result<Option<String>, EngineError> {
    let (Some(AgeType::Integer), Some(column), Some(epoch)) = (age, &rule.column, rule.epoch)
    else {
        return Ok(None);
    };
    let column_name = Identifier::new(column.as_str());
    let arms: Vec<String> = members
        .iter()
        .map(|m| {
            format!(
                "SELECT 1 FROM ONLY {} AS {} WHERE {column_name} >= $1::int8 AND {column_name} <= $2::int8",
                m.name,
                rule.alias()
            )
        })
        .collect();
    let any = format!("SELECT EXISTS ({})", arms.join(" UNION ALL "));
    let is_there = async |range: std::ops::RangeInclusive<i64>| {
        if !begin(db, guard, settings).await? {
            return Ok(None);
        }
        let doing = "looking what the numbers count";
        let answer = db.query(doing, &any, &[range.start(), range.end()]).await;
        db.execute("ending the look", "ROLLBACK").await?;
        match answer {
            Ok(rows) => first(&rows, 0),
            Err(error) if error.is_unreachable() => Err(error),
            Err(_) => Ok(None),
        }
    };
    if is_there(epoch.plausible(now)).await? == Some(true) {
        return Ok(None);
    }
    for other in epoch.others() {
        if is_there(other.of_our_days(now)).await? == Some(true) {
            return Ok(Some(epoch.mistaken(other, column)));
        }
    }
    Ok(None)
}
