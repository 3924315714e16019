//! What ran: the list of runs, one run or one step in full, and the copy of a history in SQLite
//! into PostgreSQL.

use std::path::Path;

use super::Failure;
use super::context::{Context, spool_folder};
use super::documents;
use crate::config::Config;
use crate::history::{self, HistoryError, RunFilter, RunRecord, RunSummary, Store};
use crate::plan::Finding;
use crate::report::text::{
    Align, Cell, Columns, Cut, counted, history_table, run_details, run_details_folded, shown,
    step_details,
};
use crate::values::{redact, wall_clock};

/// What ran, newest first.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  maint history\n  maint history --task reindex --target app --limit 5\n  maint history copy --to postgres://maint@db.example.com/maint"
)]
pub(super) struct History {
    /// Only runs of this task
    #[arg(long)]
    task: Option<String>,
    /// Only runs on this target
    #[arg(long)]
    target: Option<String>,
    /// How many at most
    #[arg(long, default_value_t = 20, value_parser = super::usage::some, allow_negative_numbers = true)]
    limit: u32,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Moves a SQLite history into PostgreSQL; may be repeated
    #[command(
        after_help = "Examples:\n  maint history copy --to postgres://maint@db.example.com/maint\n  maint history copy --from sqlite:/var/lib/maint/maint.db"
    )]
    Copy {
        /// The file, with or without `sqlite:` before it; the configured history where it is left out
        #[arg(long, value_name = "FILE")]
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
        let config = context.config_for_looking().await?;
        let store = match crate::history::open_existing(config.history.expose()).await {
            Ok(store) => store,
            // That nothing has run yet is an answer, too.
            Err(error @ HistoryError::Missing { .. }) => {
                match context.json() {
                    true => documents::print(&documents::History { runs: &[] }),
                    false => outln!("No runs: {error}, so nothing has run yet."),
                }
                tell_waiting(&config);
                return Ok(0);
            }
            Err(error) => {
                tell_waiting(&config);
                return Err(error.into());
            }
        };
        let filter = RunFilter {
            task: self.task.clone(),
            target: self.target.clone(),
            limit: Some(self.limit),
            ..RunFilter::default()
        };
        let runs: Vec<RunSummary> = history::runs(store.as_ref(), &filter).await?;
        if context.json() {
            documents::print(&documents::History { runs: &runs });
        } else if runs.is_empty() && (self.task.is_some() || self.target.is_some()) {
            self.tell_none(&config, store.as_ref()).await?;
        } else {
            out!(
                "{}",
                history_table(&runs, wall_clock(), &context.style(config.timezone))
            );
        }
        tell_waiting(&config);
        Ok(0)
    }
}

/// Says that there is more than what is listed: records that the history has not taken yet.
pub(super) fn tell_waiting(config: &Config) {
    if let Some(waiting) = waiting(config) {
        errln!("note: {waiting}, until it takes them: the next run writes them down");
    }
}

/// How many records the history has not taken yet, and where they are; none where it has all.
pub(super) fn waiting(config: &Config) -> Option<String> {
    let folder = spool_folder(config);
    let count = crate::history::waiting(&folder);
    (count > 0).then(|| {
        format!(
            "{} of what ran {} beside the history, in {} (or among the temporary files)",
            counted(count, "record"),
            if count == 1 { "waits" } else { "wait" },
            shown(&folder.display().to_string())
        )
    })
}

impl History {
    /// Nothing fits what was asked for: what there is.
    async fn tell_none(&self, config: &Config, store: &dyn Store) -> Result<(), Failure> {
        let all = store.runs(&RunFilter::default()).await?;
        let names = |configured: Vec<&String>, of: fn(&RunSummary) -> &String| {
            let mut names: Vec<&String> = all.iter().map(of).chain(configured).collect();
            names.sort();
            names.dedup();
            names
                .into_iter()
                .map(String::as_str)
                .collect::<Vec<_>>()
                .join(", ")
        };
        let asked = [("task", &self.task), ("target", &self.target)];
        let asked = asked
            .iter()
            .filter_map(|(what, name)| Some(format!("{what} {}", name.as_ref()?)));
        outln!("No runs of {}.", asked.collect::<Vec<_>>().join(" on "));
        outln!(
            "  tasks: {}",
            names(config.tasks.keys().collect(), |run| &run.task)
        );
        outln!(
            "  targets: {}",
            names(config.targets.keys().collect(), |run| &run.target)
        );
        Ok(())
    }
}

/// What `--from` names, as `history:` would: a plain name is that of a file, which has to be there.
fn source(from: &str) -> Result<String, Failure> {
    let file = match from.strip_prefix("sqlite:") {
        Some(file) => file.strip_prefix("//").unwrap_or(file),
        None if from.contains("://") => {
            return Err(Failure::Usage(
                "`--from` names no file that a history can be copied from\n  hint: write `--from maint.db`, or `--from sqlite:/var/lib/maint/maint.db`"
                    .to_owned(),
            ));
        }
        None => from,
    };
    if !Path::new(file).exists() {
        return Err(Failure::Usage(format!(
            "`--from` names {}, and there is no such file",
            redact(file)
        )));
    }
    Ok(format!("sqlite:{file}"))
}

/// What `--to` names, which is not repeated: it may hold a password.
fn destination(to: &str) -> Result<&str, Failure> {
    let is_database = ["postgres://", "postgresql://"]
        .iter()
        .any(|scheme| to.starts_with(scheme));
    is_database.then_some(to).ok_or_else(|| {
        Failure::Usage(
            "`--to` (or MAINT_HISTORY_TO) names no database that a history can be copied to\n  hint: write `--to postgres://user@host/database`"
                .to_owned(),
        )
    })
}

async fn copy(context: &Context<'_>, from: Option<&str>, to: Option<&str>) -> Result<u8, Failure> {
    let from = from.map(source).transpose()?;
    let to = to.map(destination).transpose()?;
    let configured = match (&from, to) {
        (Some(_), Some(_)) => String::new(),
        _ => context
            .config_for_looking()
            .await?
            .history
            .expose()
            .to_owned(),
    };
    let copied = crate::history::copy(
        from.as_deref().unwrap_or(&configured),
        to.unwrap_or(&configured),
    )
    .await?;
    if context.json() {
        outln!("{}", serde_json::json!({ "copied": copied }));
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
    out!("{}", table.render(0, &context.style(chrono_tz::Tz::UTC)));
    Ok(0)
}

/// One run with its steps and findings.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  maint show last\n  maint show 0197c1\n  maint show last 3    # why, with what, and how it went: one step"
)]
pub(super) struct Show {
    /// The beginning of a run's id, or `last`
    run: String,
    /// The number of a step: all that is known of it
    #[arg(value_parser = super::usage::count, allow_negative_numbers = true)]
    step: Option<u32>,
    /// Every step, where there are many: otherwise those that did not end well first, and only
    /// some of the others
    #[arg(long)]
    all: bool,
}

impl Show {
    pub(super) async fn call(&self, context: &Context<'_>) -> Result<u8, Failure> {
        let config = context.config_for_looking().await?;
        let store = match crate::history::open_existing(config.history.expose()).await {
            Err(HistoryError::Missing { .. }) => return Err(HistoryError::NoRuns.into()),
            opened => opened?,
        };
        let mut run = history::run(store.as_ref(), &self.run).await?;
        if !context.json() {
            run.still_running(wall_clock());
        }
        if let Some(seq) = self.step {
            return show_step(context, &config, &run, seq);
        }
        if context.json() {
            documents::print(&documents::Show { runs: [&run] });
        } else {
            let tell = match self.all {
                true => run_details,
                false => run_details_folded,
            };
            let engine = config.engine_of(&run.target);
            out!("{}", tell(&run, engine, &context.style(config.timezone)));
        }
        Ok(0)
    }
}

/// Everything that is known of one step.
fn show_step(
    context: &Context<'_>,
    config: &Config,
    run: &RunRecord,
    seq: u32,
) -> Result<u8, Failure> {
    let Some(step) = run.steps.iter().find(|step| step.seq == seq) else {
        return Err(Failure::Usage(format!(
            "run {} has no step {seq}: {}",
            run.id,
            match run.steps.len() {
                0 => "it has none".to_owned(),
                n => format!("it has {}", counted(n, "step")),
            }
        )));
    };
    let engine = config.target(&run.target).map(|target| target.engine);
    let locks = engine.map(|engine| crate::pipeline::locks(engine, &step.statement));
    if context.json() {
        let of_step = |finding: &&Finding| finding.object == step.object;
        let findings: Vec<&Finding> = run.findings.iter().filter(of_step).collect();
        documents::print(&documents::ShowStep {
            run: documents::RunOfStep {
                id: run.id,
                task: &run.task,
                kind: &run.kind,
                target: &run.target,
            },
            step,
            locks,
            findings,
        });
    } else {
        let style = context.style(config.timezone);
        out!(
            "{}",
            step_details(
                run,
                step,
                config.engine_of(&run.target),
                locks.as_deref(),
                &style
            )
        );
    }
    Ok(0)
}
