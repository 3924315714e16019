//! `maint run`.

mod all;
mod exit;
mod nothing;
mod pings;

use std::path::PathBuf;

pub(super) use self::all::{How, Ran, run_all, say_kept, tell};
use self::exit::NOT_STARTED;
pub(super) use self::exit::{exit_code, longest_grace, signal_code, worse};
use self::nothing::no_tasks;
pub(super) use self::nothing::nothing_to_run;
use super::Failure;
use super::context::Context;
use super::signals::Signals;
use crate::config::{Config, Schedule};

/// Runs tasks: inside their window, and once per occurrence, unless `--now` is given.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  maint run reindex --now\n  maint run analyze vacuum --now --output json\n  maint run reindex --now --set min_bloat=20% --set limits.jobs=2"
)]
pub(super) struct Run {
    /// Tasks to run
    #[arg(value_name = "TASK")]
    tasks: Vec<String>,
    /// All tasks that are enabled; without `--now` those that a schedule has
    #[arg(long, conflicts_with_all = ["tasks", "due"])]
    all: bool,
    /// At once, whatever window and schedule say
    #[arg(long)]
    now: bool,
    /// Everything that is due by the schedules, and what was missed
    #[arg(long, conflicts_with_all = ["now", "tasks", "target", "settings", "dry_run"])]
    due: bool,
    /// Carry out exactly the steps of a plan that `maint plan --save` wrote, at once; refused where
    /// the database has changed in a way that matters
    #[arg(long, value_name = "FILE", conflicts_with_all = ["tasks", "all", "due", "dry_run", "target", "now"])]
    plan: Option<PathBuf>,
    /// With `--due`: only of this schedule, or of `report:NAME`. For an entry of another
    /// scheduler; waits for its window and its jitter
    #[arg(long, requires = "due", value_name = "SCHEDULE")]
    schedule: Option<String>,
    /// Ends with 0 where nothing was started, instead of 4: for schedulers to whom every other code
    /// is a failure
    #[arg(long)]
    not_started_ok: bool,
    /// Print the plan and exactly how many rows would change, and stop
    #[arg(long)]
    dry_run: bool,
    /// Only on this target
    #[arg(long)]
    target: Option<String>,
    /// Changes an option or limit for this once: `min_size=1MB`, `limits.jobs=4`
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
}

impl Run {
    /// The exit code of the process, from what came of it.
    pub(super) fn ends_with(&self, code: u8) -> u8 {
        match code {
            NOT_STARTED if self.not_started_ok => 0,
            other => other,
        }
    }

    pub(super) async fn call(&self, context: &Context<'_>) -> Result<u8, Failure> {
        // Clap requires nothing that tasks by name rule out.
        if self.schedule.is_some() && !self.due {
            let why =
                "`--schedule` is for `--due`: tasks that are named run whatever schedule has them";
            return Err(Failure::Usage(why.to_owned()));
        }
        let target = self.target.as_deref();
        if self.dry_run {
            let extent = super::plan::Extent {
                counting: true,
                all: self.all,
                full: false,
            };
            return super::plan::show_plans(context, &self.tasks, target, &self.settings, extent)
                .await;
        }
        if self.due {
            return super::due::run(context, self.schedule.as_deref()).await;
        }
        let config = context.config().await?;
        if let Some(file) = &self.plan {
            let (saved, work) =
                super::saved::approved(context, &config, file, &self.settings).await?;
            let signals = Signals::within(longest_grace(&work));
            let how = How {
                approved: Some(&saved),
                ..How::at(true)
            };
            let ran = run_all(context, &config, work, how, &signals.stop).await?;
            if ran.code != 0 {
                super::saved::done::tell_left(&config, file, &saved).await?;
            }
            return Ok(ran.code);
        }
        if self.tasks.is_empty() && !self.all {
            return Err(which(&config));
        }
        let mut work = context.tasks(&config, &self.tasks, target, &self.settings)?;
        let mut code = 0;
        if self.all && !self.now {
            work.retain(|(task, _)| {
                let has =
                    |schedule: &Schedule| schedule.enabled && schedule.tasks.contains(&task.name);
                let scheduled = config.schedules.values().any(has);
                if !scheduled {
                    errln!(
                        "{}: not started: no schedule has it\n  hint: `--now` runs it at once",
                        task.name
                    );
                    code = NOT_STARTED;
                }
                scheduled
            });
        }
        if work.is_empty() {
            return Err(nothing_to_run(&config, code));
        }
        let signals = Signals::within(longest_grace(&work));
        let ran = run_all(context, &config, work, How::at(self.now), &signals.stop).await?;
        Ok(worse(code, ran.code))
    }
}

/// Nothing was named: what there is to name.
fn which(config: &Config) -> Failure {
    let mut lines: Vec<String> = Vec::new();
    for task in config.tasks.values() {
        let off = if task.enabled { "" } else { ", not enabled" };
        let about = task.description.as_deref().unwrap_or_default();
        lines.push(
            format!("\n  {}  ({}{off})  {about}", task.name, task.kind)
                .trim_end()
                .to_owned(),
        );
    }
    match lines.is_empty() {
        true => Failure::Usage(no_tasks(config)),
        false => Failure::Usage(format!(
            "which task?{}\n  hint: `maint run TASK`, `maint run --all` for all that are enabled, \
             `maint run --due` for what the schedules say",
            lines.concat()
        )),
    }
}
