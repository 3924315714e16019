//! What makes documents expire: the server's TTL monitor, and since when it could have acted by an index.

use chrono::{DateTime, TimeDelta, Utc};
use mongodb::bson::{Bson, doc};

use crate::engines::mongodb::{Limit, Session};
use crate::values::TimeSpan;

/// Whether the TTL monitor is on, where that may be asked.
pub(super) async fn monitor(db: &Session) -> Option<bool> {
    let ask = doc! { "getParameter": 1, "ttlMonitorEnabled": 1 };
    let answer = db
        .command("asking for the TTL monitor", "admin", ask, Limit::ASIDE)
        .await
        .ok()?;
    answer.get_bool("ttlMonitorEnabled").ok()
}

/// Whether the server has had less than `most` for what should have expired by an index: the index
/// was made or changed since, the server started, or the primary was elected. `now` is by the
/// server's clock; where it may not be asked the answer is no.
pub(super) async fn is_new(
    db: &Session,
    (database, collection): (&str, &str),
    index: &str,
    most: TimeSpan,
    now: DateTime<Utc>,
) -> bool {
    let most = TimeDelta::from_std(most.get()).unwrap_or(TimeDelta::MAX);
    let began = [
        counted_since(db, database, collection, index).await,
        elected(db).await,
    ];
    let began = began.into_iter().flatten().max();
    // Of a clock that was ahead then, nothing is believed.
    began.is_some_and(|began| (TimeDelta::zero()..most).contains(&(now - began)))
}

/// Since when the primary has counted how an index is used: since it was made or changed, or the
/// server started. Of several shards the latest.
async fn counted_since(
    db: &Session,
    database: &str,
    collection: &str,
    index: &str,
) -> Option<DateTime<Utc>> {
    let pipeline = vec![
        doc! { "$indexStats": {} },
        doc! { "$match": { "name": { "$eq": index } } },
    ];
    let doing = "looking since when an index is there";
    let found = db
        .aggregate(doing, database, collection, pipeline, Limit::ASIDE)
        .await
        .inspect_err(|error| tracing::debug!(%error, "the age of an index is not known"))
        .ok()?;
    let since = |index: &mongodb::bson::Document| {
        let at = index.get_document("accesses").ok()?.get_datetime("since");
        DateTime::from_timestamp_millis(at.ok()?.timestamp_millis())
    };
    found.iter().filter_map(since).max()
}

/// When the primary was elected: only a primary lets documents expire.
async fn elected(db: &Session) -> Option<DateTime<Utc>> {
    db.server.set.as_ref()?;
    let ask = doc! { "replSetGetStatus": 1 };
    let status = db
        .command("looking at the members", "admin", ask, Limit::ASIDE)
        .await
        .inspect_err(|error| tracing::debug!(%error, "since when the primary is one is not known"))
        .ok()?;
    let members = status.get_array("members").ok()?;
    let at = members
        .iter()
        .filter_map(Bson::as_document)
        .find_map(|member| member.get_datetime("electionDate").ok())?;
    DateTime::from_timestamp_millis(at.timestamp_millis())
}
