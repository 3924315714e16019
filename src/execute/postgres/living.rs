//! The lock of a partition, which a run that is over must not keep.

use super::Job;
use crate::engines::EngineError;
use crate::engines::postgres::claim;
use crate::execute::run_name;

/// Takes the lock of a partition; tells who has it. A session that the server has kept of a run
/// which is over, of whatever task, is ended first: that run will never let go.
pub(super) async fn claim_of_the_living(
    oid: u32,
    job: Job<'_>,
) -> Result<Option<claim::Holder>, EngineError> {
    let held = claim::claim_partition(job.session, oid).await?;
    let Some(run) = held.as_ref().and_then(|holder| holder.run) else {
        return Ok(held);
    };
    if !job.execution.history.is_over(run).await {
        return Ok(held);
    }
    let orphans = claim::end_orphans(job.session, &run_name(run)).await?;
    tracing::warn!(%run, orphans, "a partition was held by sessions of a run that is over; they were ended");
    let mut held = claim::claim_partition(job.session, oid).await?;
    if let Some(holder) = held.as_mut().filter(|holder| holder.run == Some(run)) {
        holder.stranger = Some(left_over(holder.end.as_deref()));
    }
    Ok(held)
}

/// That the run whose session it is will never let go.
fn left_over(end: Option<&str>) -> String {
    let mut why = "a session of a run that is over as the history has it, and maint may not end it: it logged in as another role".to_owned();
    if let Some(end) = end {
        why = format!("{why}. This ends it: {end}");
    }
    why
}
