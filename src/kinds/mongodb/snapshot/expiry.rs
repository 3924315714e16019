//! TTL indexes that no task names: whether documents expire by them.

use chrono::{DateTime, TimeDelta, Utc};
use mongodb::bson::{Bson, DateTime as BsonDate, Document, doc};

use super::super::common::{Index, Shape, not_allowed};
use super::super::expiring::{is_new, monitor};
use super::Snapshot;
use super::facts::{Expiry, Facts};
use super::say;
use crate::engines::mongodb::{Limit, Session, namespace, number};
use crate::plan::mongodb::{Body, shell_name, shell_text};
use crate::plan::{Plan, Severity};
use crate::values::{TimeSpan, several};

/// How long counting what is overdue may take, by one index.
const COUNTING: Limit = Limit(std::time::Duration::from_secs(10));
/// No more are counted.
const MANY: i64 = 1000;

/// Looks at every TTL index of the database.
pub(super) async fn look(db: &Session, most: TimeSpan, now: DateTime<Utc>, facts: &mut Facts) {
    // The server goes by its own clock.
    let now = db.server.clock(now);
    let mut found = Vec::new();
    for (name, collection) in &facts.collections {
        if collection.shape == Shape::TimeSeries {
            continue;
        }
        for index in &collection.indexes {
            let Some(after) = index.expires else {
                continue;
            };
            let mut expiry = Expiry {
                collection: name.clone(),
                index: index.name.clone(),
                nan: after.is_nan(),
                overdue: 0,
            };
            if let Some(query) = overdue(index, after, most, now) {
                let count =
                    doc! { "count": name, "query": query, "limit": MANY, "hint": &index.name };
                let doing = "looking for overdue documents";
                match db.command(doing, &facts.database, count, COUNTING).await {
                    Ok(answer) => {
                        let n = number(answer.get("n")).unwrap_or(0);
                        let of = (facts.database.as_str(), name.as_str());
                        if n > 0 && !is_new(db, of, &index.name, most, now).await {
                            expiry.overdue = n;
                        }
                    }
                    Err(error) if error.is_out_of_time() || error.is_vanished() => {}
                    Err(error) => {
                        let object = namespace(&facts.database, name);
                        let what = "whether documents expire";
                        facts.findings.push(not_allowed(&error, what, &object));
                        continue;
                    }
                }
            }
            found.push(expiry);
        }
    }
    if !found.is_empty() {
        facts.ttl_monitor = monitor(db).await;
    }
    facts.expiries = found;
}

/// What should have gone by an index, so long ago that the server has had its time.
fn overdue(index: &Index, after: f64, most: TimeSpan, now: DateTime<Utc>) -> Option<Document> {
    let (field, _) = index.keys.first()?;
    if !after.is_finite() || index.hidden {
        return None;
    }
    let most = i64::try_from(most.get().as_secs()).ok()?;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a server takes 2^31 at most"
    )]
    let seconds = (after as i64)
        .clamp(0, i64::from(i32::MAX))
        .checked_add(most)?;
    let limit = now.checked_sub_signed(TimeDelta::try_seconds(seconds)?)?;
    let mut parts =
        vec![doc! { field: { "$lt": BsonDate::from_millis(limit.timestamp_millis()) } }];
    if let Ok(part) = index.whole.get_document("partialFilterExpression") {
        parts.push(part.clone());
    }
    Some(doc! { "$and": parts.into_iter().map(Bson::Document).collect::<Vec<_>>() })
}

impl Snapshot {
    /// What does not expire although an index says that it should.
    pub(super) fn expiry(&self, facts: &Facts, plan: &mut Plan<Body>) {
        if facts.ttl_monitor == Some(false) {
            say(
                plan,
                ("ttl.monitor_off", Severity::Critical),
                &facts.database,
                "the server's TTL monitor is off: nothing expires in any collection".to_owned(),
                Some("db.adminCommand({setParameter: 1, ttlMonitorEnabled: true})".to_owned()),
            );
        }
        for expiry in &facts.expiries {
            if !self.wants(&facts.database, &expiry.collection) {
                continue;
            }
            let object = namespace(&facts.database, &expiry.collection);
            let shell = shell_name(&facts.database, &expiry.collection);
            if expiry.nan {
                say(
                    plan,
                    ("ttl.conflict", Severity::Critical),
                    &object,
                    format!(
                        "the TTL index `{}` has expireAfterSeconds: NaN, with which some versions delete nothing and others everything",
                        expiry.index
                    ),
                    Some(format!(
                        "db.getSiblingDB({}).runCommand({{collMod: {}, index: {{name: {}, expireAfterSeconds: SECONDS}}}})",
                        shell_text(&facts.database),
                        shell_text(&expiry.collection),
                        shell_text(&expiry.index)
                    )),
                );
            }
            if expiry.overdue > 0 && facts.ttl_monitor != Some(false) {
                let many = match expiry.overdue {
                    n if n >= MANY => format!("at least {MANY} documents"),
                    n => several(n, "document"),
                };
                say(
                    plan,
                    ("ttl.stalled", Severity::Critical),
                    &object,
                    format!(
                        "{many} should have expired by the TTL index `{}` more than {} ago, and did not: the TTL monitor is held up by a long index build or by load",
                        expiry.index, self.max_overdue
                    ),
                    Some(format!(
                        "{shell}.getIndexes(); db.serverStatus().metrics.ttl"
                    )),
                );
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    #[test]
    fn what_is_overdue_is_asked_for_by_the_index_and_its_part() {
        let index = Index {
            keys: vec![("at".to_owned(), Bson::Int32(1))],
            whole: doc! { "partialFilterExpression": { "kind": "draft" } },
            ..Index::default()
        };
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let hour = TimeSpan::from_mins(60);
        let asked = overdue(&index, 60.0, hour, now).unwrap();
        let limit = BsonDate::from_millis((1_800_000_000 - 3660) * 1000);
        assert_eq!(
            asked,
            doc! { "$and": [{ "at": { "$lt": limit } }, { "kind": "draft" }] }
        );
        assert!(overdue(&index, f64::NAN, hour, now).is_none());
    }
}
