//! Which documents have no parent, and whether that is a mistake.

use std::ops::RangeInclusive;

use chrono::{DateTime, Utc};
use mongodb::bson::{Document, doc};

use super::super::super::fields::{self, Seen};
use super::super::rule::Rule;
use crate::engines::EngineError;
use crate::engines::mongodb::Session;
use crate::values::Epoch;

pub(super) fn orphan_stages(
    filter: Document,
    field: &str,
    parent: &str,
    parent_field: &str,
    count: bool,
) -> Vec<Document> {
    vec![
        doc! { "$match": filter },
        doc! { "$match": { field: { "$not": { "$type": "array" } } } },
        doc! { "$project": { "maint_points_at": format!("${field}") } },
        // Of an array around it a path makes an array.
        doc! { "$match": { "maint_points_at": { "$not": { "$type": "array" } } } },
        doc! { "$lookup": { "from": parent, "localField": "maint_points_at", "foreignField": parent_field, "as": "maint_parent" } },
        doc! { "$match": { "maint_parent": { "$size": 0 } } },
        if count {
            doc! { "$count": "n" }
        } else {
            doc! { "$limit": 1 }
        },
    ]
}

/// Why the numbers of a field are no times of our days in the unit of the rule, where they are such in
/// another one, or in none. The first document decides where the unit is right; where it is wrong, and
/// another is not, too.
pub(super) async fn mistaken(
    db: &Session,
    place: (&str, &str),
    rule: &Rule,
    now: DateTime<Utc>,
) -> Result<Option<String>, EngineError> {
    let (Some(field), Some(epoch)) = (&rule.field, rule.epoch) else {
        return Ok(None);
    };
    let is_there = async |range: RangeInclusive<i64>| is_within(db, place, field, range).await;
    if is_there(epoch.plausible(now)).await? {
        return Ok(None);
    }
    for other in epoch.others() {
        if is_there(other.of_our_days(now)).await? {
            return Ok(Some(epoch.mistaken(other, field)));
        }
    }
    let some = is_there(Epoch::times()).await?;
    Ok(some.then(|| epoch.unknown(field)))
}

/// A finer unit than the rule's in which some of its numbers are times of our days.
pub(super) async fn finer(
    db: &Session,
    place: (&str, &str),
    rule: &Rule,
    now: DateTime<Utc>,
) -> Result<Option<Epoch>, EngineError> {
    let (Some(field), Some(epoch)) = (&rule.field, rule.epoch) else {
        return Ok(None);
    };
    for finer in epoch.finer() {
        if is_within(db, place, field, finer.of_our_days(now)).await? {
            return Ok(Some(finer));
        }
    }
    Ok(None)
}

/// Whether any number of a field is in this range, as far as can be seen in time.
async fn is_within(
    db: &Session,
    place: (&str, &str),
    field: &str,
    range: RangeInclusive<i64>,
) -> Result<bool, EngineError> {
    let filter = doc! { field: { "$gte": *range.start(), "$lte": *range.end() } };
    let seen = fields::try_out(db, place, filter).await?;
    Ok(seen == Some(Seen::Somewhere))
}
