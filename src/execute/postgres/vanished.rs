//! What somebody has dropped or renamed in the middle of a step is no failure of it, whatever the server
//! says where it was met.

use super::{Job, ask, end};
use crate::engines::EngineError;
use crate::engines::postgres::{Fault, Session, first};
use crate::history::{StepRecord, StepStatus};
use crate::plan::{Query, Step, Work};
use crate::values::several;

/// Whether one of these is there no more, or the first goes by another name.
const GONE: &str = "SELECT (SELECT pg_catalog.count(*) FROM pg_catalog.pg_class c WHERE c.oid = ANY ($1)) < pg_catalog.cardinality($1)
    OR pg_catalog.to_regclass($2)::pg_catalog.oid IS DISTINCT FROM ($1)[1]";

/// Whether the step's own table is gone, or has another name, and that is why a name led nowhere.
pub(super) async fn explains(error: &EngineError, session: &Session, step: &Step) -> bool {
    if Fault::of(error) != Fault::Missing {
        return false;
    }
    let Some(own) = step.body.own(&step.object) else {
        return false;
    };
    let ids: Vec<u32> = std::iter::once(own).chain(step.body.relation).collect();
    is_gone(session, &ids, &step.object).await.unwrap_or(false)
}

/// Whether one of these is there no more, or the first goes by another name than this quoted one.
pub(super) async fn is_gone(
    session: &Session,
    ids: &[u32],
    name: &str,
) -> Result<bool, EngineError> {
    let doing = "looking whether it is still there";
    let rows = session.query(doing, GONE, &[&ids, &name]).await?;
    Ok(first(&rows, 0)? == Some(true))
}

/// How it is said.
pub(super) fn said(step: &Step) -> String {
    let part = matches!(step.body.work, Work::Retire(_));
    format!(
        "{} has vanished, or has another name by now: somebody dropped or renamed {} in the middle of the run",
        step.object,
        if part { "the partition" } else { "it" }
    )
}

/// Ends the step with that.
pub(super) fn ends(job: Job<'_>, record: &mut StepRecord) {
    let (status, why) = judged(said(job.step), job, record);
    end(record, status, why);
}

/// How a step ends whose object is not there any more, because `why`: it is skipped. Where it has taken rows before,
/// it has failed: somebody has to look at where they were to come from.
pub(super) fn judged(why: String, job: Job<'_>, record: &StepRecord) -> (StepStatus, String) {
    match record.rows {
        Some(1..) => {
            let why = format!(
                "{why}; {}, and what is left was not looked at. Where the table has another name or schema now, correct it in the task file",
                so_far(job, record)
            );
            (StepStatus::Failed, why)
        }
        _ => (StepStatus::Skipped, why),
    }
}

/// What the step has done with rows.
fn so_far(job: Job<'_>, record: &StepRecord) -> String {
    let rows = several(record.rows.unwrap_or(0), "row");
    match job.step.body.work {
        Work::Shrink(_) => format!("{rows} moved"),
        _ => format!("{rows} had gone before"),
    }
}

/// How many blocks a table has; where it is gone, the step has ended with that.
pub(super) async fn extent(
    extent: &Query,
    job: Job<'_>,
    record: &mut StepRecord,
) -> Result<Option<i64>, EngineError> {
    let doing = "asking how large the table is";
    let answer = ask(job.session, doing, extent).await?;
    // A table that is gone has no size.
    let blocks = first::<Option<i64>>(&answer, 0)?.flatten();
    if blocks.is_none() {
        ends(job, record);
    }
    Ok(blocks)
}
