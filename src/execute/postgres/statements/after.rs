//! What is asked when a statement is over, whether it failed or not.

use super::super::gate::{self, Did, answer};
use super::super::{Job, end, raised};
use super::succeeded;
use crate::engines::EngineError;
use crate::history::{StepRecord, StepStatus};
use crate::plan::{Finding, Query, Severity};
use crate::values::with_causes;

/// Looks for what the step must not leave, and tells it.
pub(in crate::execute::postgres) async fn left(
    query: &Query,
    job: Job<'_>,
    record: &mut StepRecord,
    findings: &mut Vec<Finding>,
) -> Result<(), EngineError> {
    let doing = "looking for what it left";
    let mut objects = Vec::new();
    for row in gate::ask_aside(job.session, job.execution, doing, query).await? {
        let (object, wrong): (String, String) = (row.get(0)?, row.get(1)?);
        findings.push(Finding {
            code: "statement.left".to_owned(),
            severity: Severity::Warning,
            object: object.clone(),
            message: format!(
                "{wrong}. `{}` has left it, or met it and passed it by",
                job.step.object
            ),
            suggestion: row.get(2)?,
        });
        objects.push(object);
    }
    if !objects.is_empty() {
        let why = format!(
            "{} {} not as the statement wants it: see the findings",
            objects.join(", "),
            if objects.len() == 1 { "is" } else { "are" }
        );
        let status = match record.status {
            StepStatus::Cancelled => StepStatus::Cancelled,
            _ => StepStatus::Failed,
        };
        end(record, status, why);
    }
    Ok(())
}

/// A step whose statement failed after the server had done and committed what it is for has succeeded,
/// and tells of that; any other error stays what it is.
pub(in crate::execute::postgres) async fn unless_done(
    error: EngineError,
    job: Job<'_>,
    record: &mut StepRecord,
    findings: &mut Vec<Finding>,
) -> Result<(), EngineError> {
    let Some(query) = job.step.body.done.as_ref() else {
        return Err(error);
    };
    if error.is_unreachable() {
        return Err(error);
    }
    let doing = "looking whether it has been done all the same";
    let asked = gate::ask_aside(job.session, job.execution, doing, query).await;
    if !asked.is_ok_and(|rows| answer(&rows).unwrap_or(false)) {
        return Err(error);
    }
    let why = with_causes(&raised::named(error, job.step, job.session).await);
    succeeded(record, Did::default());
    record.error = Some(format!("warning: done, and then an error came: {why}"));
    findings.push(Finding {
        code: "statement.failed_after".to_owned(),
        severity: Severity::Warning,
        object: job.step.object.clone(),
        message: format!(
            "{} of {} is done and committed; what failed came after it: {why}",
            job.step.action.replace('_', " "),
            job.step.object
        ),
        suggestion: None,
    });
    Ok(())
}
