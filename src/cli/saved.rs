//! Plans as documents: written for review, compared, carried out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use super::Failure;
use super::context::Context;
use super::documents;
use super::rehearse::of_target;
use super::written;
use crate::config::{Config, Target, Task};
use crate::history::{RunFilter, RunStatus, StepStatus};
use crate::pipeline::{self, Known, PipelineError};
use crate::plan::{APPLIED, Finding, Saved, SavedPlan, SavedStep};
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

/// What of one plan of a document was carried out already.
#[derive(Default)]
struct Done {
    /// That all of it was, as it is told.
    line: Option<String>,
    /// The steps that were, by what is done and with what.
    steps: BTreeSet<(String, String)>,
}

/// What of each plan was carried out already: it was approved for once. One that says the same and was saved later
/// is another one.
async fn done_before(config: &Config, saved: &Saved) -> Result<Vec<Done>, Failure> {
    let Ok(store) = crate::history::open_existing(config.history.expose()).await else {
        return Ok(saved.plans.iter().map(|_| Done::default()).collect());
    };
    let mut all = Vec::new();
    for plan in &saved.plans {
        let mut done = Done::default();
        let filter = RunFilter {
            task: Some(plan.task.clone()),
            target: Some(plan.target.clone()),
            since: Some(saved.created_at),
            limit: Some(MOST_RUNS),
            ..RunFilter::default()
        };
        let runs = match plan.steps.is_empty() {
            true => Vec::new(),
            false => store.runs(&filter).await?,
        };
        for run in runs {
            let record = store.run(&run.id.to_string()).await?;
            let applied = |one: &Finding| one.code == APPLIED && one.message.contains(&saved.hash);
            if !record.findings.iter().any(applied) {
                continue;
            }
            let steps = record.steps.iter();
            let steps = steps.filter(|step| step.status == StepStatus::Succeeded);
            done.steps
                .extend(steps.map(|step| (step.action.clone(), step.object.clone())));
            let is_done = |step: &SavedStep| {
                let key = (step.action.clone(), step.object.clone());
                done.steps.contains(&key)
            };
            if done.line.is_none()
                && (run.status == RunStatus::Succeeded || plan.steps.iter().all(is_done))
            {
                let at = run.started_at.with_timezone(&config.timezone);
                let line = format!(
                    "was carried out already, at {}: `maint show {}`",
                    at.format("%Y-%m-%d %H:%M %Z"),
                    run.short_id
                );
                done.line = Some(of(plan, &line));
            }
        }
        all.push(done);
    }
    Ok(all)
}

/// Leaves out of a document what was carried out already, where something is left: whether there is.
fn leave_out(saved: &mut Saved, work: &mut Work, done: &[Done]) -> bool {
    let left = |plan: &SavedPlan, done: &Done| done.line.is_none() && !plan.steps.is_empty();
    let mut all = saved.plans.iter().zip(done);
    if done
        .iter()
        .all(|one| one.line.is_none() && one.steps.is_empty())
    {
        return true;
    }
    if !all.any(|(plan, done)| left(plan, done)) {
        return false;
    }
    let plans = std::mem::take(&mut saved.plans).into_iter();
    let rest = plans.zip(std::mem::take(work)).zip(done);
    for ((mut plan, one), done) in rest.filter(|(_, done)| done.line.is_none()) {
        plan.steps.retain(|step| {
            !done
                .steps
                .contains(&(step.action.clone(), step.object.clone()))
        });
        saved.plans.push(plan);
        work.push(one);
    }
    true
}

/// Says what is left of a plan after a run of it that did not do all.
pub(super) async fn tell_left(config: &Config, file: &Path, saved: &Saved) -> Result<(), Failure> {
    let done = done_before(config, saved).await?;
    let mut left = Vec::new();
    for (plan, done) in saved.plans.iter().zip(&done) {
        let steps = plan.steps.iter();
        let steps = steps.filter(|step| {
            !done
                .steps
                .contains(&(step.action.clone(), step.object.clone()))
        });
        let steps = steps.count();
        if done.line.is_none() && steps > 0 {
            let steps = counted(steps, "step");
            left.push(format!("{} on {} ({steps})", plan.task, plan.target));
        }
    }
    if !left.is_empty() {
        errln!(
            "left of {}: {}\n  hint: `maint run --plan {}` goes on with what is left, and does nothing twice; where it does not fit any more, it says so",
            file.display(),
            left.join(", "),
            file.display()
        );
    }
    Ok(())
}

/// So many runs since a plan was saved are looked at.
const MOST_RUNS: u32 = 100;

/// What a task is for now and was not when plans for all databases of a server were saved.
async fn new_databases(config: &Config, saved: &Saved, work: &Work) -> Result<Work, Failure> {
    let mut new = Work::new();
    let mut looked: BTreeSet<(&str, &str)> = BTreeSet::new();
    for (plan, (task, target)) in saved.plans.iter().zip(work) {
        let server = target.server();
        if !plan.with_all || !looked.insert((&task.name, server)) {
            continue;
        }
        let Some(many) = config.targets.get(server).filter(|one| one.is_many()) else {
            continue;
        };
        let there = match pipeline::spread(task, many).await {
            Ok(there) => there,
            // Those that are gone are told.
            Err(PipelineError::NoDatabase { .. }) => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        let known = |one: &Target| {
            let of = |plan: &SavedPlan| plan.task == task.name && plan.target == one.name;
            saved.plans.iter().any(of)
        };
        let unknown = there.into_iter().filter(|one| !known(one));
        new.extend(unknown.map(|one| (Arc::clone(task), one)));
    }
    Ok(new)
}

/// What is said of a plan whose database was dropped.
const GONE: &str = "the database is not there any more, or takes no connections now";

/// What the databases of each server are called as targets.
type Servers = BTreeMap<String, BTreeSet<String>>;

/// Whether it is one of the databases of a server, and is not there any more.
async fn is_gone(config: &Config, target: &Target, servers: &mut Servers) -> Result<bool, Failure> {
    let server = target.database.as_ref().map(|one| &one.server);
    let Some(server) = server.and_then(|name| config.targets.get(name)) else {
        return Ok(false);
    };
    if !servers.contains_key(&server.name) {
        let found = match pipeline::look_up(server).await {
            Ok(found) => found,
            Err(PipelineError::NoDatabase { .. }) => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        let names = found.into_iter().map(|one| one.name).collect();
        servers.insert(server.name.clone(), names);
    }
    let there = servers.get(&server.name);
    Ok(there.is_some_and(|there| !there.contains(&target.name)))
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
