//! Prints what tasks would do now and why, and what one run has time for; shared with the dry run.
//! Nothing on a target is changed here.

pub(in crate::cli) mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use self::text::text;
use super::context::Context;
use super::documents::plans::{PlanOfTask, Plans, Shown as ShownPlan};
use super::rehearse::of_target;
use super::run::worse;
use super::{Failure, documents};
use crate::config::{Config, Target, Task};
use crate::execute::Counts;
use crate::pipeline::Known;
use crate::plan::{Plan as Planned, forecast_shared};
use crate::report::text::{folded, shown};
use crate::values::Window;

/// Looks at the targets and prints what would happen and why.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  maint plan reindex\n  maint plan reindex --set min_bloat=20% --output json\n  maint plan --from-advice --save advice.json"
)]
pub(super) struct Plan {
    /// Tasks to plan; all that are enabled where none is given
    #[arg(value_name = "TASK")]
    tasks: Vec<String>,
    /// Write the plan into a file, for review and for `maint run --plan`
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Compare a saved plan with what would be done now; exit code 5 where that is something else
    #[arg(long, value_name = "FILE", conflicts_with_all = ["save", "tasks", "target"])]
    check: Option<PathBuf>,
    /// Make tasks of all open advice (`maint advise`), files that you can read and change, and plan
    /// those; none of them runs unless it is named
    #[arg(long, conflicts_with_all = ["check", "tasks"])]
    from_advice: bool,
    /// Only on this target
    #[arg(long)]
    target: Option<String>,
    /// Changes an option or limit for this once: `min_size=1MB`, `limits.jobs=4`
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
    /// Every step, and every object with the reason against it, however many there are
    #[arg(long)]
    all: bool,
    /// With `--output json`: also what only maint needs of a plan (queries, lanes, memories)
    #[arg(long)]
    full: bool,
}

/// How much of a plan is shown.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Extent {
    /// Count rows, which may take as long as reading them.
    pub(super) counting: bool,
    /// However long it is.
    pub(super) all: bool,
    /// In JSON also what people do not need.
    pub(super) full: bool,
}

impl Plan {
    pub(super) async fn call(&self, context: &Context<'_>) -> Result<u8, Failure> {
        let target = self.target.as_deref();
        let advised;
        let tasks = match self.from_advice {
            true => {
                advised = super::advised::write(context, target).await?;
                &advised
            }
            false => &self.tasks,
        };
        if self.save.is_some() || self.check.is_some() {
            let config = context.config().await?;
            if let Some(file) = &self.check {
                return super::saved::check(context, &config, file, &self.settings).await;
            }
            let work = context.tasks(&config, tasks, target, &self.settings)?;
            if let Some(file) = &self.save {
                context.tell_overwritten(&config, &work);
                return super::saved::save(context, &config, work, file).await;
            }
        }
        let extent = Extent {
            counting: false,
            all: self.all,
            full: self.full,
        };
        show_plans(context, tasks, target, &self.settings, extent).await
    }
}

/// What `plan` and `run --dry-run` print; only the latter counts rows.
pub(super) async fn show_plans(
    context: &Context<'_>,
    tasks: &[String],
    target: Option<&str>,
    settings: &[String],
    extent: Extent,
) -> Result<u8, Failure> {
    let Extent {
        counting,
        all,
        full,
    } = extent;
    let config = context.config().await?;
    let style = context.style(config.timezone);
    let mut shown = Vec::new();
    let work = context.tasks(&config, tasks, target, settings)?;
    if work.is_empty() {
        return Err(super::run::nothing_to_run(&config, 0));
    }
    context.tell_overwritten(&config, &work);
    let mut spread = Vec::new();
    // What is said of a server is said once, however many tasks are for it.
    let mut looked: BTreeSet<String> = BTreeSet::new();
    let mut code = 0;
    let several = work.len() > 1;
    for (task, target) in work {
        match crate::pipeline::spread(&task, &target).await {
            Ok(targets) => {
                if target.is_many() && looked.insert(target.name.clone()) {
                    tell_shut(&target).await;
                }
                spread.extend(
                    targets
                        .into_iter()
                        .map(|target| (Arc::clone(&task), target)),
                );
            }
            Err(error) if several => code = worse(code, refused(&task, &target, error)),
            Err(error) => return Err(of_target(&target, error)),
        }
    }
    let several = several || spread.len() > 1;
    // A history that does not exist yet has nothing to tell, and a plan creates nothing.
    let store = crate::history::open_existing(config.history.expose())
        .await
        .ok();
    let mut quiet: BTreeMap<(String, String), (usize, usize)> = BTreeMap::new();
    for of_one_task in spread.chunk_by(|(a, _), (b, _)| a.name == b.name) {
        let mut planned_here = Vec::new();
        for (task, target) in of_one_task {
            let mut known = match &store {
                Some(store) => {
                    Known::of(store.as_ref(), task, &target.name, config.timezone).await?
                }
                None => Known {
                    zone: config.timezone,
                    ..Known::default()
                },
            };
            known.whole = time_of(&config, task);
            let planned = match counting {
                true => crate::pipeline::dry_run(task, target, known).await,
                false => {
                    let plan = crate::pipeline::plan(task, target, known).await;
                    plan.map(|plan| (plan, Counts::default()))
                }
            };
            match planned {
                Ok((plan, counts)) => {
                    // What nobody could count may be more than anybody wants.
                    if !counts.untold.is_empty() {
                        code = worse(code, 1);
                    }
                    planned_here.push((task, target, plan, counts));
                }
                // What is wrong with one is no reason to say nothing of the others.
                Err(error) if several => code = worse(code, refused(task, target, error)),
                Err(error) => return Err(of_target(target, error)),
            }
        }
        together(&config, &mut planned_here);
        for (task, target, plan, counts) in planned_here {
            if target.database.is_some() && !context.json() {
                let nothing = plan.steps.is_empty() && plan.findings.is_empty() && !all;
                let of = (task.name.clone(), target.server().to_owned());
                let (quiet, planned) = quiet.entry(of).or_default();
                *planned += 1;
                if nothing {
                    *quiet += 1;
                    continue;
                }
            }
            if context.json() {
                let document = PlanOfTask {
                    task: task.name.clone(),
                    kind: task.kind.clone(),
                    target: target.name.clone(),
                    plan: ShownPlan::of(&plan, full),
                    rows: None,
                    counts: None,
                };
                shown.push(match counting {
                    true => document.counted(&counts),
                    false => document,
                });
            } else {
                out!(
                    "{}",
                    text(
                        (&task.name, &task.kind, &target.name),
                        &plan,
                        &counts,
                        target.engine,
                        all,
                        &style
                    )
                );
            }
        }
    }
    if context.json() {
        documents::print(&Plans { plans: &shown });
    }
    for ((task, server), (nothing, planned)) in quiet {
        if nothing > 0 {
            outln!(
                "{}",
                folded(&task, &server, nothing, planned, "nothing to do")
            );
        }
    }
    Ok(code)
}

/// Says which databases of a server no plan is made for, since they take no connections.
async fn tell_shut(target: &Target) {
    for (name, why) in crate::pipeline::shut(target).await.unwrap_or_default() {
        errln!("{}: {}", shown(&name), shown(&why));
    }
}

/// A task on a target, its plan, and how many rows its steps would change.
type Shown<'a> = (
    &'a Arc<Task>,
    &'a Target,
    Planned<serde_json::Value>,
    Counts,
);

/// Where several databases have the time of the task together: what there is time for.
fn together(config: &Config, plans: &mut [Shown<'_>]) {
    let time = plans
        .first()
        .and_then(|(task, ..)| Some((*task, time_of(config, task)?)));
    let Some((task, whole)) = time.filter(|_| plans.len() > 1) else {
        return;
    };
    let pairs: Vec<_> = plans
        .iter()
        .map(|(_, target, plan, _)| (*target, plan))
        .collect();
    let shares = crate::pipeline::shares(task, &pairs, whole);
    let mut plans: Vec<_> = plans.iter_mut().map(|(_, _, plan, _)| plan).collect();
    forecast_shared(&mut plans, &shares);
}

/// Says why there is no plan; the exit code that goes with it.
fn refused(task: &Task, target: &Target, error: crate::pipeline::PipelineError) -> u8 {
    let failure = Failure::from(error);
    let hint = failure.hint();
    let hint = hint.map_or_else(String::new, |hint| format!("\n  hint: {hint}"));
    errln!("{} on {}: {failure}{hint}", task.name, target.name);
    failure.code()
}

/// How much time a whole run of the task has: its budget, its window, that of
/// a schedule; the longest of its schedules counts.
fn time_of(config: &Config, task: &Task) -> Option<Duration> {
    let budget = task.limits.budget.as_ref().map(|budget| budget.get());
    let window = task.window.as_ref().map(Window::length);
    let schedules = config.schedules.values();
    let of_schedules: Vec<Option<Duration>> = schedules
        .filter(|schedule| schedule.tasks.contains(&task.name))
        .map(|schedule| schedule.window.as_ref().map(Window::length))
        .collect();
    // A schedule without a window has all the time there is.
    let longest = match of_schedules.iter().any(Option::is_none) {
        true => None,
        false => of_schedules.into_iter().flatten().max(),
    };
    budget.into_iter().chain(window).chain(longest).min()
}
