//! What is seen of a TTL index, before it is decided what to do about it.

use chrono::{DateTime, Utc};
use mongodb::bson::doc;

use super::super::super::common::Collection;
use super::super::super::expiring::is_new;
use super::super::super::fields::{self, Seen};
use super::super::age::{Age, undated};
use super::super::ttl::{self, Ttl};
use super::LOOKING;
use super::ages::tells;
use super::ages::types;
use crate::engines::EngineError;
use crate::engines::mongodb::{Session, number};

pub(in crate::kinds::mongodb::cleanup) async fn ttl_look(
    db: &Session,
    ttl: &Ttl,
    (database, collection): (&str, &Collection),
    now: DateTime<Utc>,
) -> Result<ttl::Look, EngineError> {
    let overdue = chrono::TimeDelta::from_std(ttl.max_overdue.get()).unwrap_or_default();
    let count =
        doc! { "count": &ttl.collection, "query": ttl.expired_at(now - overdue), "limit": 1000 };
    let counted = db
        .command("looking for overdue documents", database, count, LOOKING)
        .await;
    let mut overdue = match counted {
        Ok(answer) => number(answer.get("n")).unwrap_or(0),
        // Without an index, which then is what is missing.
        Err(error) if error.is_out_of_time() => 0,
        Err(error) => return Err(error.into()),
    };
    if overdue > 0
        && let Some(index) = ttl.index(collection)
        && is_new(
            db,
            (database, &ttl.collection),
            &index.name,
            ttl.max_overdue,
            now,
        )
        .await
    {
        overdue = 0;
    }
    let mut expired = None;
    if ttl.max_rows.is_some() || !ttl.is_as_wanted(collection) {
        let count = doc! { "count": &ttl.collection, "query": ttl.expired_at(now) };
        let doing = "counting expired documents";
        expired = match db.command(doing, database, count, LOOKING).await {
            Ok(answer) => number(answer.get("n")),
            // That nobody knows how many go is told; a limit cannot be held without.
            Err(error) if ttl.max_rows.is_none() && error.is_out_of_time() => None,
            Err(error) => return Err(error.into()),
        };
    }
    // What would go at once, as soon as there is an index.
    let mut timeless = false;
    if !ttl.is_as_wanted(collection) {
        let place = (database, ttl.collection.as_str());
        let seen = fields::try_out(db, place, undated(&ttl.field)).await?;
        timeless = seen == Some(Seen::Somewhere);
    }
    let types = types(db, database, &ttl.collection, &ttl.field).await?;
    let dated = |(kind, _): &(String, i64)| matches!(kind.as_str(), "date" | "array");
    let told = match types.is_empty() || types.iter().any(dated) {
        true => None,
        false => tells(db, database, &ttl.collection, &ttl.field, Age::Date).await?,
    };
    Ok(ttl::Look {
        overdue,
        expired,
        timeless,
        types,
        told,
        monitor: None,
    })
}
