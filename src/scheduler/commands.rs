//! Programs of the user's around an occurrence.

use chrono::{DateTime, SecondsFormat, Utc};
use uuid::Uuid;

use super::job::Job;
use crate::config::Schedule;
use crate::execute::Stop;
use crate::history::{Ended, OccurrenceStatus, Trigger};
use crate::pipeline::run_command;

/// An occurrence with the programs around it.
pub(crate) struct Around<'a> {
    /// Whose programs they are.
    pub(crate) schedule: &'a Schedule,
    /// When it was planned for.
    pub(crate) at: DateTime<Utc>,
    /// Why it is carried out now.
    pub(crate) trigger: Trigger,
    /// How it is stopped.
    pub(crate) stop: &'a Stop,
}

/// What came of the tasks.
pub(crate) struct Came<'a> {
    /// `succeeded`, `failed`, `missed` or `skipped`.
    pub(crate) status: &'a str,
    /// Their runs.
    pub(crate) runs: &'a [Uuid],
    /// What is wrong with that.
    pub(crate) error: Option<&'a str>,
}

impl<'a> Came<'a> {
    /// As an occurrence says it that ended.
    pub(super) fn of(ended: &'a Ended) -> Came<'a> {
        Came {
            status: match (ended.succeeded, ended.status) {
                (Some(true), _) => "succeeded",
                (Some(false), _) => "failed",
                (None, OccurrenceStatus::Missed) => "missed",
                (None, _) => "skipped",
            },
            runs: &ended.runs,
            error: ended.reason.as_deref(),
        }
    }
}

/// What is wrong where these tasks did not end well.
pub(crate) fn not_well(tasks: &[String]) -> Option<String> {
    match tasks {
        [] => None,
        [one] => Some(format!("`{one}` did not succeed")),
        several => Some(format!("`{}` did not succeed", several.join("`, `"))),
    }
}

/// What came of the programs after the tasks.
pub(crate) struct After {
    /// Whether each of them ended well.
    pub(crate) well: bool,
    /// What is recorded of them.
    pub(crate) said: Vec<String>,
}

impl<'a> Around<'a> {
    /// Around what a job carries out.
    pub(super) fn of(job: &'a Job) -> Around<'a> {
        Around {
            schedule: &job.schedule,
            at: job.at,
            trigger: match job.catch_up {
                true => Trigger::CatchUp,
                false => Trigger::Schedule,
            },
            stop: &job.stop,
        }
    }

    /// Runs what comes before the first task, and says what is recorded of it.
    ///
    /// # Errors
    /// Why no task may be run: it failed, or did not end.
    pub(crate) async fn before(&self) -> Result<Vec<String>, String> {
        let Some(command) = &self.schedule.commands.before else {
            return Ok(Vec::new());
        };
        let nothing = Came {
            status: "running",
            runs: &[],
            error: None,
        };
        let known = self.known(&nothing);
        let ended = run_command("before", command, &known, self.stop.stopping()).await;
        match ended.well() {
            true => Ok(vec![ended.told()]),
            false => Err(format!("nothing was done: {}", ended.told())),
        }
    }

    /// Runs what comes after the last task.
    pub(crate) async fn after(&self, came: &Came<'_>) -> After {
        let mut after = After {
            well: true,
            said: Vec::new(),
        };
        let commands = &self.schedule.commands;
        let on_error = commands.on_error.as_ref();
        let on_error = on_error.filter(|_| came.status == "failed");
        let both = [("on_error", on_error), ("after", commands.after.as_ref())];
        for (name, command) in both {
            // There is no time left.
            if self.stop.is_now() {
                break;
            }
            let Some(command) = command else { continue };
            let known = self.known(came);
            let ended = run_command(name, command, &known, self.stop.now()).await;
            after.well &= ended.well();
            if !ended.well() {
                tracing::warn!(schedule = self.schedule.name, "{}", ended.told());
            }
            after.said.push(ended.told());
        }
        after
    }

    /// What a program knows of the occurrence.
    fn known(&self, came: &Came<'_>) -> Vec<(&'static str, String)> {
        let runs: Vec<String> = came.runs.iter().map(ToString::to_string).collect();
        let at = self.at.to_rfc3339_opts(SecondsFormat::Secs, true);
        vec![
            ("MAINT_SCHEDULE", self.schedule.name.clone()),
            ("MAINT_SCHEDULED_FOR", at),
            ("MAINT_TRIGGER", self.trigger.as_str().to_owned()),
            ("MAINT_STATUS", came.status.to_owned()),
            ("MAINT_RUNS", runs.join(" ")),
            ("MAINT_ERROR", came.error.unwrap_or_default().to_owned()),
        ]
    }
}
