//! What a step holds is carried out: the one place where all works are told apart.

use super::super::attempts::ends;
use super::super::reach::is_elsewhere;
use super::super::{
    Job, bounds, check, damage, outside, raised, room, settle, shrink, statements, vanished, walk,
    whole,
};
use crate::engines::EngineError;
use crate::execute::step::end;
use crate::history::{StepRecord, StepStatus};
use crate::plan::{Finding, Severity, Step, Work};
use crate::values::with_causes;

fn out_of_reach(step: &Step, error: &EngineError) -> Finding {
    let away = step.body.away.join(", ");
    Finding {
        code: "foreign.unreachable".to_owned(),
        severity: Severity::Warning,
        object: step.object.clone(),
        message: format!(
            "{} of {} came to nothing, as it reads tables on other servers as well ({away}): {error}. What this server has of it is dealt with all the same",
            step.action.replace('_', " "),
            step.object
        ),
        suggestion: None,
    }
}

/// Carries out the work of a step, whichever it is, within the bounds of its rule; what went wrong is named as what it is.
///
/// # Errors
/// When it fails, or the connection is gone.
pub(super) async fn work(
    job: Job<'_>,
    record: &mut StepRecord,
    findings: &mut Vec<Finding>,
) -> Result<(), EngineError> {
    let rows_go = matches!(
        job.step.body.work,
        Work::Walk(_) | Work::Retire(_) | Work::Settle(_)
    );
    job.session.take_any_bytes(!rows_go).await?;
    let done = within_bounds(job, record, findings).await;
    if let Some(query) = &job.step.body.outside
        && !done.as_ref().is_err_and(EngineError::is_unreachable)
        && (done.is_err() || record.status != StepStatus::Succeeded)
    {
        let all = done.is_err() || ends_short(job.step, record.status);
        // What cannot be asked is found by the next run.
        if let Err(error) = outside::tell(query, all, job, record, findings).await {
            tracing::warn!(error = %with_causes(&error), "what the step left outside of its table is not known");
        }
    }
    match done {
        Err(error) if !job.step.body.away.is_empty() && is_elsewhere(&error) => {
            findings.push(out_of_reach(job.step, &error));
            end(record, StepStatus::Skipped, with_causes(&error));
            Ok(())
        }
        Err(error) if vanished::explains(&error, job.session, job.step).await => {
            vanished::ends(job, record);
            Ok(())
        }
        Err(error) => {
            findings.extend(damage::met(&error, job.step));
            Err(raised::named(error, job.step, job.session).await)
        }
        done => done,
    }
}

/// Whether a step ended before its end, and does not go on by itself: the rows of a partition may
/// be stored over many nights.
fn ends_short(step: &Step, status: StepStatus) -> bool {
    match step.body.work {
        Work::Retire(_) => matches!(status, StepStatus::Failed | StepStatus::Skipped),
        _ => status != StepStatus::Succeeded,
    }
}

/// Carries it out unless it would take more rows than its rule may.
async fn within_bounds(
    job: Job<'_>,
    record: &mut StepRecord,
    findings: &mut Vec<Finding>,
) -> Result<(), EngineError> {
    let taken = match bounds::allow_whole(job, ends(job)).await? {
        Ok(taken) => taken,
        Err(finding) => {
            end(record, StepStatus::Failed, finding.message.clone());
            findings.push(finding);
            return Ok(());
        }
    };
    let done = carried_out(job, record, findings).await;
    if let (Some(most), Some(taken)) = (&job.step.body.most, taken) {
        // One that came to nothing leaves its rows to others.
        let went = match record.status {
            StepStatus::Succeeded => taken.max(record.rows.unwrap_or(0)),
            _ => 0,
        };
        job.door.gone.settle(most, taken, went);
    }
    done
}

async fn carried_out(
    job: Job<'_>,
    record: &mut StepRecord,
    findings: &mut Vec<Finding>,
) -> Result<(), EngineError> {
    match &job.step.body.work {
        Work::Each(_) if !room::is_there(job, record).await? => Ok(()),
        Work::Each(statements) => {
            let done = statements::each_told(statements, job, record, findings)
                .await
                .map(drop);
            let done = match done {
                Err(error) => statements::unless_done(error, job, record, findings).await,
                done => done,
            };
            if let Some(leaves) = &job.step.body.leaves
                && !done.as_ref().is_err_and(EngineError::is_unreachable)
            {
                let looked = statements::left(leaves, job, record, findings).await;
                return done.and(looked);
            }
            done
        }
        Work::Together(statements) => statements::together(statements, job, record).await,
        Work::Check(check) => check::carry_out(check, job, record, findings).await,
        Work::Walk(way) => walk::carry_out(way, job, record, findings).await,
        Work::Shrink(way) => shrink::carry_out(way, job, record, findings).await,
        Work::Retire(retire) => whole::carry_out(retire, job, record, findings).await,
        Work::Settle(settle) => settle::carry_out(settle, job, record, findings).await,
    }
}
