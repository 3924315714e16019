//! Aggregations whose result is kept in a collection.

use mongodb::bson::{Bson, Document, doc};

use super::gate::{Ends, over, pass};
use super::{Job, end};
use crate::engines::EngineError;
use crate::engines::mongodb::{Limit, Members, MongoError, Session};
use crate::history::{StepRecord, StepStatus};
use crate::plan::mongodb::Aggregate;

/// Carries it out, on a secondary where the plan says so and there is one.
pub(super) async fn carry_out(
    work: &Aggregate,
    job: Job<'_>,
    record: &mut StepRecord,
) -> Result<(), EngineError> {
    let ends = Ends::of(job.execution);
    let stages: Result<Vec<Document>, String> =
        work.pipeline.iter().map(|stage| stage.document()).collect();
    let mut command = doc! {
        "aggregate": &work.collection, "pipeline": stages.map_err(bad)?, "cursor": {},
        "allowDiskUse": work.allow_disk_use, "writeConcern": { "w": "majority", "wtimeout": 60_000 },
    };
    let reader = match work.from_secondary {
        true => reader(job.session).await,
        false => None,
    };
    if let Some((_, since)) = &reader {
        // A secondary is behind. What the plan has seen as a change must be in the result,
        // or the next run would hold it to be up to date.
        command.insert(
            "readConcern",
            doc! { "level": "majority", "afterClusterTime": since.clone() },
        );
    }
    let session = reader.as_ref().map_or(job.session, |(session, _)| session);
    let at = ("refreshing it", work.database.as_str());
    if work.repeatable {
        if pass(job, session, ends, record, at, &command, &mut 0)
            .await?
            .is_some()
        {
            record.status = StepStatus::Succeeded;
        }
        return Ok(());
    }
    let Some(limit) = ends.left() else {
        end(record, StepStatus::Deferred, "no time was left");
        return Ok(());
    };
    record.attempts = 1;
    let stop = job.execution.stop.now();
    match session
        .command_until(at.0, at.1, command, limit, stop)
        .await
    {
        Ok(_) => {
            record.status = StepStatus::Succeeded;
            Ok(())
        }
        Err(error) => over(error, job.execution, ends, record),
    }
}

/// A session on the secondary that is least behind, and what it has to have
/// reached before it reads. None where there is none that answers: the primary
/// reads then, which is slower for others, but right.
async fn reader(primary: &Session) -> Option<(Session, Bson)> {
    let members = match Members::of(primary).await {
        Ok(members) => members,
        Err(error) => {
            tracing::warn!(%error, "the primary reads: the secondaries are not known");
            return None;
        }
    };
    for member in members.readers() {
        let session = match primary.member(&member.name).await {
            Ok(session) => session,
            Err(error) => {
                tracing::warn!(%error, "this secondary cannot read");
                continue;
            }
        };
        let doing = "asking how far the primary has come";
        let answer = primary
            .command(doing, "admin", doc! { "ping": 1 }, Limit::ASIDE)
            .await;
        let since = answer.ok()?.get("operationTime").cloned()?;
        tracing::debug!(member = %member.name, "a secondary reads");
        return Some((session, since));
    }
    None
}

fn bad(message: String) -> EngineError {
    MongoError::Driver {
        doing: "reading the plan".to_owned(),
        message,
    }
    .into()
}
