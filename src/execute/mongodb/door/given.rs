//! Commands that are given as they stand.

use super::super::gate::{Ends, pass};
use super::Job;
use crate::engines::EngineError;
use crate::engines::mongodb::MongoError;
use crate::history::{StepRecord, StepStatus};
use crate::plan::mongodb::Command;

/// Gives them one after another.
pub(super) async fn given(
    commands: &[Command],
    job: Job<'_>,
    record: &mut StepRecord,
) -> Result<(), EngineError> {
    let ends = Ends::of(job.execution);
    for command in commands {
        let document = command.command.document().map_err(bad)?;
        let at = ("running it", command.database.as_str());
        let mut lost = 0;
        if pass(job, job.session, ends, record, at, &document, &mut lost)
            .await?
            .is_none()
        {
            return Ok(());
        }
    }
    record.status = StepStatus::Succeeded;
    Ok(())
}

pub(super) fn bad(message: String) -> EngineError {
    MongoError::Driver {
        doing: "reading the plan".to_owned(),
        message,
    }
    .into()
}
