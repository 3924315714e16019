//! Times that stand for never as often as not, as `-infinity`, 0001-01-01 and 1970-01-01 do: nobody knows
//! how old such a row is.

use std::collections::HashMap;

use chrono::{DateTime, NaiveDate, Utc};

use super::facts::{Member, Table};
use super::glance::{begin, which};
use super::rule::{AgeType, Rule};
use crate::engines::EngineError;
use crate::engines::postgres::trust::Guard;
use crate::engines::postgres::{Identifier, Session};

/// Whether tables have rows with such a time.
#[derive(Clone, Debug, Default)]
pub(in crate::kinds::postgres) struct Never {
    /// What is before this is one, where the rule goes by times.
    pub(in crate::kinds::postgres) before: Option<&'static str>,
    /// By table; missing where nobody knows.
    pub(in crate::kinds::postgres) any: HashMap<u32, bool>,
}

/// Looks for them in the tables; beside each is whether it can be asked at once. What cannot be told in the time of a look is
/// not known.
///
/// # Errors
/// When the connection is gone.
pub(super) async fn look(
    db: &Session,
    (rule, age): (&Rule, Option<AgeType>),
    tables: Vec<(&Table, &Member, bool)>,
    (guard, settings): (Option<&Guard>, &str),
    now: DateTime<Utc>,
) -> Result<Never, EngineError> {
    let before = rule.cut_off(now).and_then(|cut| age?.earliest(cut));
    let (Some(column), Some(before)) = (&rule.column, before) else {
        return Ok(Never::default());
    };
    let mut never = Never {
        before: Some(before),
        any: HashMap::new(),
    };
    let mut asked: Vec<&Member> = Vec::new();
    for (table, member, soon) in tables {
        match (may_hold(member, table, rule, before), soon) {
            (false, _) => drop(never.any.insert(member.oid, false)),
            (true, true) => asked.push(member),
            (true, false) => {}
        }
    }
    if asked.is_empty() || !begin(db, guard, settings).await? {
        return Ok(never);
    }
    let column = Identifier::new(column.as_str());
    let arms = asked.iter().map(|m| {
        format!(
            "SELECT {}::oid WHERE EXISTS (SELECT FROM ONLY {} AS {} WHERE {column} < '{before}')",
            m.oid,
            m.name,
            rule.alias()
        )
    });
    let arms: Vec<String> = arms.collect();
    match which(db, "looking for times that stand for never", &arms, &[]).await {
        Ok(found) => {
            never
                .any
                .extend(asked.iter().map(|m| (m.oid, found.contains(&m.oid))));
        }
        Err(error) if error.is_unreachable() => return Err(error),
        Err(_) => {}
    }
    Ok(never)
}

/// Whether it can hold times before this one, by its bounds.
pub(super) fn may_hold(member: &Member, table: &Table, rule: &Rule, before: &str) -> bool {
    let by_age = table.partitioned_by.is_some() && table.partitioned_by == rule.column;
    let first = member.bounds.as_deref().filter(|_| by_age).and_then(lower);
    let first = first.and_then(|first| {
        let date = first.get(..first.len().min(10))?;
        date.parse::<NaiveDate>()
            .ok()
            .filter(|_| !first.ends_with("BC"))
    });
    match (first, before.parse::<NaiveDate>()) {
        // A day on either side, for time zones.
        (Some(first), Ok(before)) => first <= before,
        _ => true,
    }
}

/// The literal of `FOR VALUES FROM ('…') TO (…)` with one column.
pub(super) fn lower(bounds: &str) -> Option<String> {
    let from = bounds.strip_prefix("FOR VALUES FROM (")?;
    let literal = from.split_once(") TO (")?.0;
    let literal = literal
        .strip_prefix('\'')
        .and_then(|l| l.strip_suffix('\''))
        .unwrap_or(literal);
    (!literal.contains(['\'', '(', ','])).then(|| literal.to_owned())
}
