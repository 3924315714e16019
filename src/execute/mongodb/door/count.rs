//! How many documents a step would delete or move, counted beforehand.

use std::time::Duration;

use mongodb::bson::{Bson, Document, doc};

use super::given::bad;
use crate::engines::EngineError;
use crate::engines::mongodb::{Limit, Session, counted, counting, number};
use crate::plan::mongodb::Walk;

/// What a dry run may take to count the documents of one step.
pub(super) const COUNTING: Limit = Limit(Duration::from_secs(600));

/// What it may take where a plan is saved, or compared with a saved one.
pub(super) const REVIEWING: Limit = Limit(Duration::from_secs(60));

/// What was counted; none where that was not to be had in time, or not at all.
pub(super) fn soon(counted: Result<i64, EngineError>) -> Result<Option<i64>, EngineError> {
    match counted {
        Ok(n) => Ok(Some(n)),
        Err(EngineError::NotVisible { .. }) => Ok(None),
        Err(EngineError::Mongo(error)) if error.is_out_of_time() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Exactly how many documents would go.
pub(super) async fn count(session: &Session, walk: &Walk, most: Limit) -> Result<i64, EngineError> {
    if let Some(known) = walk.documents {
        return Ok(known);
    }
    let filter = walk.filter.document().map_err(bad)?;
    let Some(orphans) = &walk.orphans else {
        let command = counting(&walk.collection, filter, None, None);
        let answer = session
            .command("counting documents", &walk.database, command, most)
            .await?;
        return Ok(counted(&answer));
    };
    if orphans.parent_database != walk.database {
        return Err(EngineError::NotVisible {
            what: format!(
                "orphans of a parent in another database ({}) are not counted beforehand",
                orphans.parent_database
            ),
        });
    }
    let found = session
        .aggregate(
            "counting orphans",
            &walk.database,
            &walk.collection,
            orphans_pipeline(
                filter,
                &orphans.field,
                &orphans.parent,
                &orphans.parent_field,
                "count",
            ),
            most,
        )
        .await?;
    Ok(found.first().and_then(|d| number(d.get("n"))).unwrap_or(0))
}

/// Those whose parent is gone; with `last` as the stage that ends it.
fn orphans_pipeline(
    filter: Document,
    field: &str,
    parent: &str,
    parent_field: &str,
    last: &str,
) -> Vec<Document> {
    let present =
        doc! { field: { "$exists": true, "$ne": Bson::Null, "$not": { "$type": "array" } } };
    let mut stages = vec![
        doc! { "$match": { "$and": [filter, present] } },
        doc! { "$lookup": { "from": parent, "localField": field, "foreignField": parent_field, "as": "maint_parent" } },
        doc! { "$match": { "maint_parent": { "$size": 0 } } },
    ];
    if last == "count" {
        stages.push(doc! { "$count": "n" });
    }
    stages
}
