use chrono::Utc;

use super::Failure;
use super::context::Context;
use crate::history::{RunFilter, RunSummary};
use crate::report::text::{Align, Cell, Columns, Cut, history_table, run_details};

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
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Moves a SQLite history into PostgreSQL; may be repeated
    Copy {
        /// The file; the configured history where it is left out
        #[arg(long, value_name = "sqlite:FILE")]
        from: Option<String>,
        /// The database, as `history:` names it; the configured history where it is left out
        #[arg(
            long,
            value_name = "URL",
            env = "MAINT_HISTORY_TO",
            hide_env_values = true
        )]
        to: Option<String>,
    },
}

impl History {
    pub(super) async fn call(&self, context: &Context<'_>) -> Result<u8, Failure> {
        if let Some(Verb::Copy { from, to }) = &self.verb {
            return copy(context, from.as_deref(), to.as_deref()).await;
        }
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

async fn copy(context: &Context<'_>, from: Option<&str>, to: Option<&str>) -> Result<u8, Failure> {
    let configured = match (from, to) {
        (Some(_), Some(_)) => String::new(),
        _ => context.config()?.history.expose().to_owned(),
    };
    let copied =
        crate::history::copy(from.unwrap_or(&configured), to.unwrap_or(&configured)).await?;
    if context.json() {
        println!("{}", serde_json::json!({ "copied": copied }));
        return Ok(0);
    }
    let mut table = Columns::new()
        .column("table", Align::Left, Cut::Never)
        .column("rows", Align::Right, Cut::Never)
        .column("new", Align::Right, Cut::Never);
    for one in &copied {
        table.row([
            Cell::from(&one.table),
            Cell::from(&one.rows.to_string()),
            Cell::from(&one.new.to_string()),
        ]);
    }
    print!("{}", table.render(0, &context.style(chrono_tz::Tz::UTC)));
    Ok(0)
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
