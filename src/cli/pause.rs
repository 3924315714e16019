//! What people ask of running instances through the history: to rest a schedule, to let it go on,
//! to stop a run.

use super::Failure;
use super::context::Context;
use crate::history::{HistoryError, Pause as Paused, RunFilter, RunStatus};
use crate::values::{TimeSpan, wall_clock};

/// Stops a schedule for a while, in every instance; what falls due meanwhile is skipped.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  maint pause nightly\n  maint pause nightly --for 2d")]
pub(super) struct Pause {
    /// The schedule
    schedule: String,
    /// For how long; without it until `maint resume`
    #[arg(long = "for", value_name = "DURATION")]
    length: Option<TimeSpan>,
}

/// Lets a paused schedule go on.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  maint resume nightly")]
pub(super) struct Resume {
    /// The schedule
    schedule: String,
}

/// Asks a running run to stop: no new step begins, what runs is cancelled after its grace.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  maint cancel last\n  maint cancel 0197c1")]
pub(super) struct Cancel {
    /// The beginning of a run's id, or `last`
    run: String,
}

impl Pause {
    pub(super) async fn call(&self, context: &Context<'_>) -> Result<u8, Failure> {
        let config = context.config_for_looking().await?;
        known(&config, &self.schedule)?;
        let store = context.history(&config).await?;
        let now = wall_clock();
        let until = self.length.map(|length| {
            let end = Paused::end_after(length, now);
            end.map_err(|why| Failure::Usage(format!("`--for {length}`: {why}")))
        });
        let until = until.transpose()?;
        let pause = Paused {
            schedule: self.schedule.clone(),
            since: now,
            until,
            by: somebody(),
        };
        store.pause_schedule(&pause).await?;
        store.close().await;
        if context.json() {
            outln!("{}", serde_json::json!({ "paused": pause }));
        } else {
            let zone = config.timezone;
            let until = until.map_or_else(
                || format!("until `maint resume {}`", self.schedule),
                |at| {
                    format!(
                        "until {}",
                        at.with_timezone(&zone).format("%a %Y-%m-%d %H:%M %Z")
                    )
                },
            );
            outln!("{}: paused {until}", self.schedule);
        }
        Ok(0)
    }
}

impl Resume {
    pub(super) async fn call(&self, context: &Context<'_>) -> Result<u8, Failure> {
        let config = context.config_for_looking().await?;
        known(&config, &self.schedule)?;
        let store = context.history(&config).await?;
        let resumed = store.resume_schedule(&self.schedule).await?;
        store.close().await;
        if context.json() {
            outln!("{}", serde_json::json!({ "resumed": resumed }));
        } else if resumed {
            outln!("{}: goes on", self.schedule);
        } else {
            outln!("{}: was not paused", self.schedule);
        }
        Ok(0)
    }
}

impl Cancel {
    pub(super) async fn call(&self, context: &Context<'_>) -> Result<u8, Failure> {
        let config = context.config_for_looking().await?;
        let store = match crate::history::open_existing(config.history.expose()).await {
            Err(HistoryError::Missing { .. }) => return Err(HistoryError::NoRuns.into()),
            opened => opened?,
        };
        // The newest may be one that was skipped because of the run that is meant.
        let at_work = RunFilter {
            statuses: vec![RunStatus::Running],
            limit: Some(1),
            ..RunFilter::default()
        };
        let at_work = match self.run.as_str() {
            "last" => store
                .runs(&at_work)
                .await?
                .pop()
                .map(|run| run.id.to_string()),
            _ => None,
        };
        let run = store.run(at_work.as_deref().unwrap_or(&self.run)).await?;
        let asked = store
            .ask_to_cancel(run.id, &somebody(), wall_clock())
            .await?;
        store.close().await;
        if context.json() {
            outln!("{}", serde_json::json!({ "run": run.id, "asked": asked }));
        } else if asked {
            outln!(
                "{} on {}: asked to stop; `maint show {}` tells how it ended",
                run.task,
                run.target,
                run.id
            );
        } else {
            outln!(
                "{} on {}: does not run any more ({})",
                run.task,
                run.target,
                run.status
            );
        }
        Ok(if asked { 0 } else { 4 })
    }
}

fn known(config: &crate::config::Config, schedule: &str) -> Result<(), Failure> {
    if config.schedules.contains_key(schedule) {
        return Ok(());
    }
    Err(super::context::unknown(
        "schedule",
        schedule,
        config.schedules.keys(),
    ))
}

/// Who asks, for people who read it later.
fn somebody() -> String {
    let user = nix::unistd::User::from_uid(nix::unistd::getuid());
    let name = user
        .ok()
        .flatten()
        .map_or_else(|| "somebody".to_owned(), |user| user.name);
    format!("{name}@{}", crate::values::host())
}
