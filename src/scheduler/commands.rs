//! Programs of the user's around an occurrence.

use chrono::SecondsFormat;

use super::job::Job;
use crate::history::{Ended, OccurrenceStatus, Trigger};
use crate::pipeline::run_command;

/// What came of the programs after the tasks.
pub(super) struct After {
    /// Whether each of them ended well.
    pub(super) well: bool,
    /// What is recorded of them.
    pub(super) said: Vec<String>,
}

/// Runs what comes before the first task, and says what is recorded of it.
///
/// # Errors
/// Why no task may be run: it failed, or did not end.
pub(super) async fn before(job: &Job) -> Result<Vec<String>, String> {
    let Some(command) = &job.schedule.commands.before else {
        return Ok(Vec::new());
    };
    let known = known(job, "running", None);
    let ended = run_command("before", command, &known, job.stop.stopping()).await;
    match ended.well() {
        true => Ok(vec![ended.told()]),
        false => Err(format!("nothing was done: {}", ended.told())),
    }
}

/// Runs what comes after the last task.
pub(super) async fn after(job: &Job, ended: &Ended) -> After {
    let mut after = After {
        well: true,
        said: Vec::new(),
    };
    let commands = &job.schedule.commands;
    let on_error = commands.on_error.as_ref();
    let on_error = on_error.filter(|_| ended.succeeded == Some(false));
    let status = match (ended.succeeded, ended.status) {
        (Some(true), _) => "succeeded",
        (Some(false), _) => "failed",
        (None, OccurrenceStatus::Missed) => "missed",
        (None, _) => "skipped",
    };
    let both = [("on_error", on_error), ("after", commands.after.as_ref())];
    for (name, command) in both {
        // There is no time left.
        if job.stop.is_now() {
            break;
        }
        let Some(command) = command else { continue };
        let known = known(job, status, Some(ended));
        let ended = run_command(name, command, &known, job.stop.now()).await;
        after.well &= ended.well();
        if !ended.well() {
            tracing::warn!(schedule = job.schedule.name, "{}", ended.told());
        }
        after.said.push(ended.told());
    }
    after
}

/// What a program knows of the occurrence.
fn known(job: &Job, status: &str, ended: Option<&Ended>) -> Vec<(&'static str, String)> {
    let runs = ended.map_or(&[][..], |ended| &ended.runs);
    let runs: Vec<String> = runs.iter().map(ToString::to_string).collect();
    let error = ended.and_then(|ended| ended.reason.clone());
    let trigger = match job.catch_up {
        true => Trigger::CatchUp,
        false => Trigger::Schedule,
    };
    vec![
        ("MAINT_SCHEDULE", job.schedule.name.clone()),
        (
            "MAINT_SCHEDULED_FOR",
            job.at.to_rfc3339_opts(SecondsFormat::Secs, true),
        ),
        ("MAINT_TRIGGER", trigger.as_str().to_owned()),
        ("MAINT_STATUS", status.to_owned()),
        ("MAINT_RUNS", runs.join(" ")),
        ("MAINT_ERROR", error.unwrap_or_default()),
    ]
}
