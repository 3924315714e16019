//! What a step has taken out of its table, wholly or by half, when it ended before its end.

use super::attempts::held_up;
use super::{Job, ask_under, end, gate};
use crate::engines::EngineError;
use crate::engines::postgres::Session;
use crate::history::{StepRecord, StepStatus};
use crate::plan::postgres::out_of_its_table;
use crate::plan::{Finding, Query};
use crate::values::several_do;

const DOING: &str = "looking what is out of its table";

/// Whether any of it is half out still.
pub(super) async fn is_half_out(session: &Session, query: &Query) -> Result<bool, EngineError> {
    let mut half = false;
    for row in ask_under(session, None, DOING, query).await? {
        half |= row.named::<bool>("half")?;
    }
    Ok(half)
}

/// Tells what the step has taken out of its table, and not brought to its end. What is half out
/// shows no rows through its table, whatever ended the step: it has failed then, unless it was stopped. What is
/// out altogether is told where `all` of it is to be.
pub(super) async fn tell(
    query: &Query,
    all: bool,
    job: Job<'_>,
    record: &mut StepRecord,
    findings: &mut Vec<Finding>,
) -> Result<(), EngineError> {
    for row in gate::ask_aside(job.session, job.execution, DOING, query).await? {
        let (object, mut message): (String, String) = (row.named("object")?, row.named("said")?);
        let (half, rows): (bool, i64) = (row.named("half")?, row.named("about")?);
        if !half && !all {
            continue;
        }
        let rows = several_do(rows, "row", ("is", "are"));
        message = format!("{message}. About {rows} outside");
        if half {
            if let Some(who) = held_up(&record.lock_waits) {
                message = format!("{message}. It waited for {who}");
            }
            // How long others keep it says nothing of how long it takes.
            record.cut_off = false;
            if record.status == StepStatus::Deferred {
                let why = format!("{object} is half detached: see the findings");
                end(record, StepStatus::Failed, why);
            }
        }
        findings.push(out_of_its_table(object, message, row.named("help")?));
    }
    Ok(())
}
