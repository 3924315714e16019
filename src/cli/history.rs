use chrono::Utc;

use super::Failure;
use super::context::Context;
use crate::history::{RunFilter, RunSummary};
use crate::report::text::{history_table, run_details};

/// What ran, newest first.
#[derive(Debug, clap::Args)]
pub(super) struct History {
    /// Only runs of this task
    #[arg(long)]
    task: Option<String>,
    /// Only runs on this target
    #[arg(long)]
    target: Option<String>,
    /// How many at most
    #[arg(long, default_value_t = 20)]
    limit: u32,
}

impl History {
    pub(super) async fn call(&self, context: &Context<'_>) -> Result<u8, Failure> {
        let config = context.config()?;
        let store = crate::history::open_existing(config.history.expose()).await?;
        let filter = RunFilter {
            task: self.task.clone(),
            target: self.target.clone(),
            limit: Some(self.limit),
            ..RunFilter::default()
        };
        let runs: Vec<RunSummary> = store.runs(&filter).await?;
        if context.json() {
            println!("{}", serde_json::json!({ "runs": runs }));
        } else {
            print!(
                "{}",
                history_table(&runs, Utc::now(), &context.style(config.timezone))
            );
        }
        Ok(0)
    }
}

/// One run with its steps and findings.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  maint show last\n  maint show 0197c1")]
pub(super) struct Show {
    /// The beginning of a run's id, or `last`
    run: String,
}

impl Show {
    pub(super) async fn call(&self, context: &Context<'_>) -> Result<u8, Failure> {
        let config = context.config()?;
        let store = crate::history::open_existing(config.history.expose()).await?;
        let run = store.run(&self.run).await?;
        if context.json() {
            println!("{}", serde_json::json!({ "runs": [run] }));
        } else {
            print!("{}", run_details(&run, &context.style(config.timezone)));
        }
        Ok(0)
    }
}
