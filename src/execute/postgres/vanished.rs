//! What somebody has dropped or renamed in the middle of a step is no failure of it, whatever the server
//! says where it was met.

use super::{Job, end};
use crate::engines::EngineError;
use crate::engines::postgres::{Fault, Session, first};
use crate::history::{StepRecord, StepStatus};
use crate::plan::{Step, Work};
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
    let doing = "looking whether it is still there";
    let gone = session.query(doing, GONE, &[&ids, &step.object]).await;
    gone.is_ok_and(|rows| first(&rows, 0).is_ok_and(|gone| gone == Some(true)))
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

/// Ends the step with that: rows that had gone before it are told, and somebody has to look where they were to
/// come from.
pub(super) fn ends(job: Job<'_>, record: &mut StepRecord) {
    let why = said(job.step);
    match record.rows {
        Some(rows @ 1..) => {
            let why = format!(
                "{why}; {} had gone before, and what is left was not looked at",
                several(rows, "row")
            );
            end(record, StepStatus::Failed, why);
        }
        _ => end(record, StepStatus::Skipped, why),
    }
}
