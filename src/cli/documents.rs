//! What `--output json` prints, as types: the schemas that `maint schema` gives of it are made from
//! these, so that neither can say what the other does not.

pub(super) mod plans;

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use crate::history::{Occurrence, Pause, RunRecord, RunSummary, StepRecord, TrackedFinding};
use crate::plan::{Finding, Severity};
use crate::values::{Problem, Problems};

/// Prints a document.
pub(super) fn print(document: &impl Serialize) {
    outln!("{}", serde_json::json!(document));
}

/// What `maint run` did.
#[derive(Serialize, JsonSchema)]
pub(super) struct Runs<'a> {
    /// One for each task and target, in the order in which they ended.
    pub(super) runs: &'a [RunRecord],
    /// What did not become a run.
    pub(super) not_started: &'a [NotStarted],
}

/// A task that did not become a run, and why.
#[derive(Serialize, JsonSchema)]
pub(super) struct NotStarted {
    /// The task.
    pub(super) task: String,
    /// The target.
    pub(super) target: String,
    /// Why not.
    pub(super) reason: String,
    /// What helps.
    pub(super) hint: Option<String>,
}

/// What `maint run --due` did.
#[derive(Serialize, JsonSchema)]
pub(super) struct DueRuns<'a> {
    /// The runs, in the order in which they ended.
    pub(super) runs: &'a [RunRecord],
    /// What became of the occurrences that were due or had been missed.
    pub(super) occurrences: &'a [Occurrence],
    /// What is due, and waits.
    pub(super) waiting: &'a [Waiting],
}

/// A schedule with an occurrence that is due and waits.
#[derive(Serialize, JsonSchema)]
pub(super) struct Waiting {
    /// Its name.
    pub(super) schedule: String,
    /// For what, in words.
    pub(super) waits_for: String,
}

/// What `maint plan --save` wrote.
#[derive(Serialize, JsonSchema)]
pub(super) struct Saved<'a> {
    /// The file.
    pub(super) file: &'a std::path::Path,
    /// The hash of the document.
    pub(super) hash: &'a str,
    /// How many steps all plans have.
    pub(super) steps: usize,
    /// What is asked for and cannot be done, each with its reason.
    pub(super) unfollowed: &'a [String],
}

/// What `maint plan --check` found.
#[derive(Serialize, JsonSchema)]
pub(super) struct Checked<'a> {
    /// Whether the same would be done now.
    pub(super) same: bool,
    /// In which ways not.
    pub(super) differences: &'a [String],
    /// Databases with nothing to do that the saved plan does not know.
    pub(super) new_databases: BTreeSet<&'a str>,
}

/// What `maint history` lists.
#[derive(Serialize, JsonSchema)]
pub(super) struct History<'a> {
    /// The runs, the newest first.
    pub(super) runs: &'a [RunSummary],
}

/// What `maint show` shows of a run.
#[derive(Serialize, JsonSchema)]
pub(super) struct Show<'a> {
    /// The run, alone.
    pub(super) runs: [&'a RunRecord; 1],
}

/// What `maint show` shows of a step.
#[derive(Serialize, JsonSchema)]
pub(super) struct ShowStep<'a> {
    /// The run it belongs to.
    pub(super) run: RunOfStep<'a>,
    /// The step.
    pub(super) step: &'a StepRecord,
    /// Which locks its statement takes, where the engine of the target is known.
    pub(super) locks: Option<Vec<String>>,
    /// What was noticed about its object.
    pub(super) findings: Vec<&'a Finding>,
}

/// The run that a step belongs to.
#[derive(Serialize, JsonSchema)]
pub(super) struct RunOfStep<'a> {
    /// Its id.
    pub(super) id: Uuid,
    /// Its task.
    pub(super) task: &'a str,
    /// The kind of the task.
    pub(super) kind: &'a str,
    /// Its target.
    pub(super) target: &'a str,
}

/// What `maint next` expects.
#[derive(Serialize, JsonSchema)]
pub(super) struct Next<'a> {
    /// What comes next, soonest first.
    pub(super) next: Vec<Firing<'a>>,
    /// What is at work.
    pub(super) running: &'a [Occurrence],
    /// What should have begun, and has not.
    pub(super) overdue: Vec<Overdue<'a>>,
    /// What was missed, newest first.
    pub(super) missed: &'a [Occurrence],
    /// What is paused.
    pub(super) paused: &'a [Pause],
    /// Tasks that are switched on and in no schedule.
    pub(super) unscheduled: Vec<&'a str>,
}

/// A schedule that will fire.
#[derive(Serialize, JsonSchema)]
pub(super) struct Firing<'a> {
    /// The schedule; `report:` and its name for a report.
    pub(super) schedule: String,
    /// When.
    pub(super) at: DateTime<Utc>,
    /// When it begins, where a window is closed at its time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) waits_until: Option<DateTime<Utc>>,
    /// Its tasks that are switched on.
    pub(super) tasks: Vec<&'a String>,
}

/// A schedule that should have fired.
#[derive(Serialize, JsonSchema)]
pub(super) struct Overdue<'a> {
    /// The schedule.
    pub(super) schedule: &'a str,
    /// When it should have.
    pub(super) at: DateTime<Utc>,
}

/// What `maint check` found.
#[derive(Serialize, JsonSchema)]
pub(super) struct Check<'a> {
    /// What is wrong in the files; nothing, or the document is an error.
    pub(super) problems: [Problem; 0],
    /// What is allowed, and perhaps not meant.
    pub(super) warnings: &'a [String],
    /// With `--connect`: what cannot be used, and why.
    pub(super) unreachable: Vec<String>,
    /// With `--connect`: what was found at each place.
    pub(super) found: Vec<FoundThere<'a>>,
    /// With `--connect`: what else there is to know.
    pub(super) notes: Vec<Noted<'a>>,
}

/// What a place that was connected to is.
#[derive(Serialize, JsonSchema)]
pub(super) struct FoundThere<'a> {
    /// A target, the history, a channel.
    pub(super) place: &'a str,
    /// Whether it can be used.
    pub(super) ok: bool,
    /// What is there, or why it cannot be used.
    pub(super) text: &'a str,
    /// What helps.
    pub(super) hint: Option<&'a str>,
}

/// What there is to know of a place.
#[derive(Serialize, JsonSchema)]
pub(super) struct Noted<'a> {
    /// A target, the history, a channel.
    pub(super) place: &'a str,
    /// What to know.
    pub(super) text: &'a str,
}

/// What `maint doctor` found.
#[derive(Serialize, JsonSchema)]
pub(super) struct Doctor<'a> {
    /// One line each.
    pub(super) checks: Vec<Checkup<'a>>,
}

/// One thing that was looked at.
#[derive(Serialize, JsonSchema)]
pub(super) struct Checkup<'a> {
    /// The target; `history` of the place where runs are recorded.
    pub(super) target: &'a str,
    /// `ok`, `note` or `problem`.
    pub(super) level: &'static str,
    /// What was found.
    pub(super) text: &'a str,
}

/// An error, whichever command it ended.
#[derive(Serialize, JsonSchema)]
pub(super) struct Error<'a> {
    /// What happened.
    pub(super) error: String,
    /// Why, from the nearest cause to the first.
    pub(super) because: Vec<String>,
    /// What helps.
    pub(super) hint: Option<String>,
    /// What is wrong in which files.
    pub(super) problems: Option<&'a Problems>,
}

/// Whether all is well, as `maint status` says.
#[derive(Serialize, JsonSchema)]
pub(super) struct Status<'a> {
    /// Whether it is.
    pub(super) well: bool,
    /// Since when it is not, where that is known.
    pub(super) since: Option<DateTime<Utc>>,
    /// What is not as it should be, the worst first.
    pub(super) reasons: &'a [NotWell],
}

/// Something that is not as it should be.
#[derive(Serialize, JsonSchema)]
pub(super) struct NotWell {
    /// How much it matters.
    pub(super) severity: Severity,
    /// Since when, where that is known.
    pub(super) since: Option<DateTime<Utc>>,
    /// What is so.
    pub(super) text: String,
    /// What helps, or says more.
    pub(super) hint: Option<String>,
    /// All targets that it is so on; left out where it is about none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) targets: Vec<String>,
}

/// All open advice.
#[derive(Serialize, JsonSchema)]
pub(super) struct Advice<'a> {
    /// Findings with a statement that would help.
    pub(super) advice: Vec<&'a TrackedFinding>,
}

/// What was archived, as `maint archive list` shows it.
#[derive(Serialize, JsonSchema)]
pub(super) struct Archives<'a> {
    /// What the history, or the folder that was named, knows.
    pub(super) archived: Vec<Archive<'a>>,
    /// What lies where archives go and the history does not know; left out, as the next two, where
    /// there is nothing of the three.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) unknown: Option<Vec<UnknownArchive<'a>>>,
    /// What cannot be read there as a manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) unread: Option<&'a [String]>,
    /// Places that cannot be looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) unseen: Option<Vec<Unseen<'a>>>,
}

/// An archive: what one batch, or one partition, was written as.
#[derive(Serialize, JsonSchema)]
pub(super) struct Archive<'a> {
    /// The target it is of; none where a folder was named.
    pub(super) target: Option<&'a str>,
    /// Whether that target is configured still.
    pub(super) configured: bool,
    /// Whether it is of a database that had this name before.
    pub(super) former: bool,
    /// The manifest, as it lies beside the files.
    pub(super) manifest: Value,
}

/// An archive that the history does not know.
#[derive(Serialize, JsonSchema)]
pub(super) struct UnknownArchive<'a> {
    /// The target it is likely of.
    pub(super) target: Option<&'a str>,
    /// Where it lies.
    pub(super) storage: String,
    /// The manifest, as it lies beside the files.
    pub(super) manifest: Value,
}

/// A place that cannot be looked at.
#[derive(Serialize, JsonSchema)]
pub(super) struct Unseen<'a> {
    /// Which.
    pub(super) storage: &'a str,
    /// Why not.
    pub(super) problem: &'a str,
}
