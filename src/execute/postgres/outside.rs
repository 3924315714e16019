//! What a step has taken out of its table, wholly or by half, when it ended before its end.

use super::attempts::held_up;
use super::{Job, end, gate};
use crate::engines::EngineError;
use crate::history::{StepRecord, StepStatus};
use crate::plan::{Finding, Query, Severity};
use crate::values::several_do;

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
    let doing = "looking what is out of its table";
    for row in gate::ask_aside(job.session, job.execution, doing, query).await? {
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
        findings.push(Finding {
            code: "partitions.outside".to_owned(),
            severity: Severity::Critical,
            object,
            message,
            suggestion: row.named("help")?,
        });
    }
    Ok(())
}
