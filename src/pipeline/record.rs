//! The record of a run: begun, summed up, closed, and what of it is worth telling.

use super::{Request, Surroundings, run_id};
use crate::config::Task;
use crate::execute::{Stop, StopReason};
use crate::history::{Kept, RunRecord, RunStatus, StepRecord, StepStatus};
use crate::plan::Skip;
use crate::values::{process, redact, wall_clock, with_causes};

/// The record of a run that has just begun.
pub(super) fn blank(request: &Request<'_>, around: &Surroundings) -> RunRecord {
    RunRecord {
        id: run_id::next(),
        task: request.task.name.clone(),
        kind: request.task.kind.clone(),
        target: request.target.name.clone(),
        trigger: request.trigger,
        status: RunStatus::Running,
        scheduled_for: request.scheduled_for,
        schedule: request.schedule.map(str::to_owned),
        started_at: wall_clock(),
        finished_at: None,
        duration_ms: 0,
        inspect_ms: 0,
        rows: 0,
        bytes_before: 0,
        bytes_after: 0,
        error: None,
        host: around.host.clone(),
        pid: i64::from(std::process::id()),
        process: Some(process(std::process::id())),
        part: part(request.task),
        steps: Vec::new(),
        findings: Vec::new(),
    }
}

/// What limits a run to a part of its task, as it was asked for.
fn part(task: &Task) -> Option<String> {
    let changed = task.changed.iter().map(|one| format!("--set {one}"));
    let changed = redact(&changed.collect::<Vec<_>>().join(" "));
    (!changed.is_empty()).then_some(changed)
}

/// Writes down how a run has ended, and notes what is worth telling.
pub(super) async fn closed(mut record: RunRecord, around: &Surroundings) -> RunRecord {
    record.finished_at = Some(wall_clock());
    around.history.close_run(&record);
    if note(around, &record).await == Some(Kept::Nowhere) {
        for finding in &mut record.findings {
            if finding.code == "history.unreachable" {
                finding.message = "the history did not answer, and no file beside it could be written: this run decided without what earlier runs had learned, and its records are in the log of this process, and nowhere else".to_owned();
            }
        }
    }
    record
}

/// Notes what is worth telling, once the record is in the history. Where it
/// is only beside it, it is told at once, without what the history knows of earlier failures; what cannot be is kept
/// there, too. Tells where the records are, if not in the history.
pub(super) async fn note(around: &Surroundings, run: &RunRecord) -> Option<Kept> {
    let kept = around.history.settle().await;
    let Some(teller) = &around.teller else {
        return kept;
    };
    if kept.is_none() {
        match teller.note(around.history.store().as_ref(), run).await {
            Ok(()) => return None,
            Err(error) => {
                tracing::warn!(error = %with_causes(&error), "what is worth telling is kept for later")
            }
        }
    }
    let notices = teller.notices_alone(run);
    // The history may be away for days, and the file with it, as where a pod ends: it is told now.
    let untold = match around.history.is_hurried() {
        true => notices,
        false => teller.tell_alone(notices).await,
    };
    around.history.add_notices(untold);
    around.history.settle().await
}

/// Says how a run has ended, and what its steps did together.
pub(super) fn sum_up(record: &mut RunRecord, refused: &[Skip], stop: &Stop) {
    let count = |status: StepStatus| record.steps.iter().filter(|s| s.status == status).count();
    let (failed, deferred) = (count(StepStatus::Failed), count(StepStatus::Deferred));
    let cancelled = count(StepStatus::Cancelled);
    record.status = match stop.reason() {
        Some(StopReason::Signal(_) | StopReason::Asked)
            if cancelled + deferred > 0 || record.steps.is_empty() =>
        {
            RunStatus::Cancelled
        }
        Some(StopReason::TakenOver) if cancelled + deferred > 0 || record.steps.is_empty() => {
            record.error = Some(
                "its claim was not renewed in time, and another instance took it over".to_owned(),
            );
            RunStatus::Interrupted
        }
        // What was cancelled is tried again like what was left.
        Some(StopReason::TooMuch) if cancelled + deferred > 0 => RunStatus::Incomplete,
        // The next run would see no more.
        Some(StopReason::Unseen) if cancelled + deferred > 0 => {
            match count(StepStatus::Succeeded) {
                0 => RunStatus::Failed,
                _ => RunStatus::Partial,
            }
        }
        Some(StopReason::ClaimLost) => {
            record.error = Some("the connection that held the task's lock was lost".to_owned());
            RunStatus::Failed
        }
        // Whoever cancelled them, they have not done their work.
        None if cancelled > 0 => RunStatus::Cancelled,
        // What was skipped because of it is no part of the work that was done.
        _ if failed > 0 && count(StepStatus::Succeeded) + deferred == 0 => RunStatus::Failed,
        // Steps that did something, but not all that was asked for.
        _ if !refused.is_empty() => {
            record.error = refused
                .first()
                .map(|left| format!("{}: {}", left.object, left.reason));
            if count(StepStatus::Succeeded) > 0 {
                RunStatus::Partial
            } else {
                RunStatus::Failed
            }
        }
        _ if failed > 0 => RunStatus::Partial,
        _ if deferred > 0 => RunStatus::Incomplete,
        _ => RunStatus::Succeeded,
    };
    record.rows = record.steps.iter().filter_map(|s| s.rows).sum();
    let measured = |s: &&StepRecord| s.bytes_before.is_some() && s.bytes_after.is_some();
    let sum = |of: fn(&StepRecord) -> Option<i64>| {
        record.steps.iter().filter(measured).filter_map(of).sum()
    };
    record.bytes_before = sum(|s| s.bytes_before);
    record.bytes_after = sum(|s| s.bytes_after);
}
