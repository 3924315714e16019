//! Whether integers count what a rule says: in another unit every row would be old, or none ever.
//! Where some do and some do not, these are left alone.

use chrono::{DateTime, Utc};

use super::facts::Member;
use super::glance::begin;
use super::rule::{AgeType, Rule};
use crate::engines::EngineError;
use crate::engines::postgres::trust::Guard;
use crate::engines::postgres::{Identifier, Session};
use crate::values::Epoch;

/// What the numbers of a table count.
#[derive(Clone, Debug)]
pub(super) enum Unit {
    /// What the rule says.
    Right,
    /// What the rule says, but for some whose age nobody knows.
    Mixed,
    /// Something else: what is to be said of it.
    Wrong(String),
}

/// For each of these tables, which differ in nothing but schemas, what its numbers count; none where
/// they could not be asked together. The first row decides where the unit is
/// right; where it is wrong, and another is not, too. What cannot be told of one table in the time
/// of a look is no time of our days.
///
/// # Errors
/// When the server reports one, or the connection is gone.
pub(super) async fn look(
    db: &Session,
    rule: &Rule,
    age: Option<AgeType>,
    tables: &[&[&Member]],
    (guard, settings): (Option<&Guard>, &str),
    now: DateTime<Utc>,
) -> Result<Option<Vec<Unit>>, EngineError> {
    let mut units = vec![Unit::Right; tables.len()];
    let (Some(AgeType::Integer), Some(column), Some(epoch)) = (age, &rule.column, rule.epoch)
    else {
        return Ok(Some(units));
    };
    let column_name = Identifier::new(column.as_str());
    let any = |places: &[usize]| {
        let of = places.iter().filter_map(|n| Some((n, tables.get(*n)?)));
        let each: Vec<String> = of
            .map(|(n, members)| {
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
                format!("SELECT {n}::int8 WHERE EXISTS ({})", arms.join(" UNION ALL "))
            })
            .collect();
        each.join(" UNION ALL ")
    };
    // Those that have such a row.
    let with = async |places: &[usize], range: std::ops::RangeInclusive<i64>| {
        if places.is_empty() {
            return Ok(Some(Vec::new()));
        }
        if !begin(db, guard, settings).await? {
            return Ok(None);
        }
        let doing = "looking what the numbers count";
        let sql = any(places);
        let answer = db.query(doing, &sql, &[range.start(), range.end()]).await;
        db.execute("ending the look", "ROLLBACK").await?;
        match answer {
            Ok(rows) => {
                let found = rows.iter().map(|row| row.get::<i64>(0));
                let found: Result<Vec<i64>, EngineError> = found.collect();
                let found = found?.into_iter().filter_map(|n| usize::try_from(n).ok());
                Ok(Some(found.collect::<Vec<usize>>()))
            }
            Err(error) if error.is_unreachable() => Err(error),
            Err(_) => Ok(None),
        }
    };
    let alone = tables.len() == 1;
    let mut wondering: Vec<usize> = (0..tables.len()).collect();
    let right = match with(&wondering, epoch.plausible(now)).await? {
        None if !alone => return Ok(None),
        right => right.unwrap_or_default(),
    };
    wondering.retain(|n| !right.contains(n));
    let some = match with(&right, epoch.doubtful()).await? {
        None if !alone => return Ok(None),
        some => some.unwrap_or_default(),
    };
    for n in some {
        if let Some(place) = units.get_mut(n) {
            *place = Unit::Mixed;
        }
    }
    for other in epoch.others() {
        let wrong = match with(&wondering, other.of_our_days(now)).await? {
            None if !alone => return Ok(None),
            wrong => wrong.unwrap_or_default(),
        };
        wondering.retain(|n| !wrong.contains(n));
        for n in wrong {
            if let Some(place) = units.get_mut(n) {
                *place = Unit::Wrong(epoch.mistaken(other, column));
            }
        }
    }
    // What is left has no time of our days in any unit; where it has numbers, they count something else.
    let some = match with(&wondering, Epoch::times()).await? {
        None if !alone => return Ok(None),
        some => some.unwrap_or_default(),
    };
    wondering.retain(|n| !some.contains(n));
    for n in some {
        if let Some(place) = units.get_mut(n) {
            *place = Unit::Wrong(epoch.unknown(column));
        }
    }
    // Zero and less stand for no time.
    let none = match with(&wondering, epoch.doubtful()).await? {
        None if !alone => return Ok(None),
        none => none.unwrap_or_default(),
    };
    for n in none {
        if let Some(place) = units.get_mut(n) {
            *place = Unit::Mixed;
        }
    }
    Ok(Some(units))
}
