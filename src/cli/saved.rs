//! Plans as documents: written for review, compared, carried out.

mod databases;
pub(super) mod done;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use self::databases::{GONE, Servers, is_gone, new_databases};
use self::done::{done_before, leave_out};
use super::context::Context;
use super::rehearse::of_target;
use super::{Failure, documents, written};
use crate::config::{Config, Target, Task};
use crate::pipeline::{self, Known};
use crate::plan::{Saved, SavedPlan};
use crate::report::text::{counted, shown};
use crate::values::{read_text, several_do, wall_clock};

/// What `plan --check` ends with where the plan is another one now.
pub(super) const DIFFERS: u8 = 5;

type Work = Vec<(Arc<Task>, Target)>;

/// Writes what the tasks would do now into a new file.
pub(super) async fn save(
    context: &Context<'_>,
    config: &Config,
    work: Work,
    file: &Path,
) -> Result<u8, Failure> {
    written::may_take(file, SAVED, is_saved)?;
    let mut plans = Vec::new();
    for (task, target) in &work {
        for one in pipeline::spread(task, target).await? {
            plans.push(SavedPlan {
                with_all: target.is_many(),
                ..now(config, task, &one).await?
            });
        }
    }
    let saved =
        Saved::new(plans, wall_clock()).map_err(|error| Failure::Other(error.to_string()))?;
    let mut text =
        serde_json::to_string_pretty(&saved).map_err(|error| Failure::Other(error.to_string()))?;
    text.push('\n');
    written::write(file, &text, SAVED, is_saved)?;
    let steps: usize = saved.plans.iter().map(|plan| plan.steps.len()).sum();
    let unfollowed: Vec<String> = saved
        .plans
        .iter()
        .flat_map(|plan| {
            let lines = plan.unfollowed.iter();
            lines.map(|one| of(plan, &format!("{}: {}", one.object, one.reason)))
        })
        .collect();
    if context.json() {
        documents::print(&documents::Saved {
            file,
            hash: &saved.hash,
            steps,
            unfollowed: &unfollowed,
        });
    } else {
        outln!(
            "{}: {} of {}, {}\ncarry it out with: maint run --plan {}",
            file.display(),
            counted(steps, "step"),
            counted(saved.plans.len(), "plan"),
            saved.hash,
            file.display()
        );
        for line in &unfollowed {
            outln!("not in it, since it cannot be done: {}", shown(line));
        }
    }
    Ok(0)
}

/// What a plan may be written over.
const SAVED: &str = "a saved plan of maint";

/// Whether a text is a saved plan, of whatever version, and whether or not somebody edited it.
fn is_saved(text: &str) -> bool {
    let document: serde_json::Value = match serde_json::from_str(text) {
        Ok(document) => document,
        Err(_) => return false,
    };
    let has = |key: &str| document.get(key).is_some();
    has("version") && has("maint") && has("hash") && has("plans")
}

/// Tells what is different now; changes nothing.
pub(super) async fn check(
    context: &Context<'_>,
    config: &Config,
    file: &Path,
    settings: &[String],
) -> Result<u8, Failure> {
    let (saved, work) = read(context, config, file, settings)?;
    let done = done_before(config, &saved).await?;
    let mut differences: Vec<String> = done.into_iter().filter_map(|one| one.line).collect();
    let mut servers = Servers::new();
    for (plan, (task, target)) in saved.plans.iter().zip(&work) {
        if is_gone(config, target, &mut servers).await? {
            differences.push(of(plan, GONE));
            continue;
        }
        let lines = plan.differences(&now(config, task, target).await?);
        differences.extend(lines.into_iter().map(|line| of(plan, &line)));
    }
    let new = new_databases(config, &saved, &work).await?;
    for one in &new {
        let (task, target) = (&one.0, &one.1);
        // Where nothing is to be done in it, the same would be done.
        let steps = now(config, task, target).await?.steps.len();
        if steps > 0 {
            differences.push(format!(
                "{} on {}: the database is new since the plan was saved, and is not in it: {} would be done there",
                task.name,
                target.name,
                counted(steps, "step")
            ));
        }
    }
    let names: BTreeSet<&str> = new.iter().map(|(_, target)| target.name.as_str()).collect();
    if context.json() {
        documents::print(&documents::Checked {
            same: differences.is_empty(),
            differences: &differences,
            new_databases: names,
        });
    } else if differences.is_empty() {
        outln!("{}: the same would be done now", file.display());
        if !names.is_empty() {
            let names: Vec<&str> = names.into_iter().collect();
            outln!(
                "note: new since the plan was saved, with nothing to do: {}",
                names.join(", ")
            );
        }
    } else {
        outln!("{}: something else would be done now", file.display());
        for line in &differences {
            outln!("  {line}");
        }
    }
    Ok(if differences.is_empty() { 0 } else { DIFFERS })
}

/// Reads a saved plan, and finds its tasks and targets in the configuration.
/// Refuses it where it does not fit the databases any more.
pub(super) async fn approved(
    context: &Context<'_>,
    config: &Config,
    file: &Path,
    settings: &[String],
) -> Result<(Saved, Work), Failure> {
    let (mut saved, mut work) = read(context, config, file, settings)?;
    let done = done_before(config, &saved).await?;
    let before: Vec<(String, usize)> = saved
        .plans
        .iter()
        .map(|plan| (of(plan, ""), plan.steps.len()))
        .collect();
    let mut drift = match leave_out(&mut saved, &mut work, &done) {
        true => {
            for line in done.iter().filter_map(|one| one.line.as_ref()) {
                errln!("{line}");
            }
            for plan in &saved.plans {
                let name = of(plan, "");
                let had = before.iter().find(|(one, _)| *one == name);
                let done = had.map_or(0, |(_, had)| had - plan.steps.len());
                if done > 0 {
                    errln!(
                        "{name}{} before, and not again",
                        several_do(done, "step", ("was done", "were done"))
                    );
                }
            }
            Vec::new()
        }
        // Nothing is left of it.
        false => done.into_iter().filter_map(|one| one.line).collect(),
    };
    let mut servers = Servers::new();
    for (plan, (task, target)) in saved.plans.iter_mut().zip(&work) {
        if is_gone(config, target, &mut servers).await? {
            drift.push(of(plan, GONE));
            continue;
        }
        let now = now(config, task, target).await?;
        let lines = plan.drift(&now);
        drift.extend(lines.into_iter().map(|line| of(plan, &line)));
        plan.made = now.made;
    }
    if drift.is_empty() {
        return Ok((saved, work));
    }
    Err(Failure::Usage(format!(
        "{} does not fit any more, and nothing was touched:\n  {}\n  hint: look at it again with `maint plan --check {}`, or write a new one with `maint plan --save`",
        file.display(),
        drift.join("\n  "),
        file.display()
    )))
}

fn of(plan: &SavedPlan, line: &str) -> String {
    format!("{} on {}: {line}", plan.task, plan.target)
}

/// The largest plan that is read, in bytes: one of a hundred thousand steps is smaller.
const LARGEST_PLAN: u64 = 256 << 20;

fn read(
    context: &Context<'_>,
    config: &Config,
    file: &Path,
    settings: &[String],
) -> Result<(Saved, Work), Failure> {
    let refused = |why: String| Failure::Usage(format!("{}: {why}", file.display()));
    let text = read_text(file, LARGEST_PLAN).map_err(|why| refused(format!("it {why}")))?;
    let saved = Saved::read(&text).map_err(|why| refused(format!("it {why}")))?;
    let mut work = Vec::new();
    for plan in &saved.plans {
        let names = std::slice::from_ref(&plan.task);
        let found = context.tasks(config, names, Some(&plan.target), settings)?;
        // A plan names every database that it is for. Of their server it is for the server.
        let exactly = |target: Target| match target.is_many() {
            true => target.of_server(),
            false => target,
        };
        work.extend(
            found
                .into_iter()
                .map(|(task, target)| (task, exactly(target))),
        );
    }
    if work.len() != saved.plans.len() {
        return Err(refused("it names a task twice on one target".to_owned()));
    }
    Ok((saved, work))
}

async fn now(config: &Config, task: &Task, target: &Target) -> Result<SavedPlan, Failure> {
    let known = match crate::history::open_existing(config.history.expose()).await {
        Ok(store) => Known::of(store.as_ref(), task, &target.name, config.timezone).await?,
        Err(_) => Known {
            zone: config.timezone,
            ..Known::default()
        },
    };
    let saved = pipeline::saved(task, target, known).await;
    saved.map_err(|error| of_target(target, error))
}
