use std::sync::Arc;

use chrono::Utc;

use super::Failure;
use super::context::Context;
use super::screen::Screen;
use crate::config::{Config, Task};
use crate::execute::{Observer, Silent, Stop, StopReason};
use crate::history::{RunStatus, Trigger};
use crate::pipeline::{self, Request, Surroundings};
use crate::report::text::run_summary;

/// Runs tasks: inside their window, and once per occurrence, unless `--now` is given.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  maint run reindex --now\n  maint run analyze vacuum --now --output json\n  maint run reindex --now --set min_bloat=20% --set limits.jobs=2"
)]
pub(super) struct Run {
    /// Tasks to run; all that are enabled where none is given
    #[arg(value_name = "TASK")]
    tasks: Vec<String>,
    /// At once, whatever window and schedule say
    #[arg(long)]
    now: bool,
    /// Print the plan and stop
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
    pub(super) async fn call(&self, context: &Context<'_>) -> Result<u8, Failure> {
        let target = self.target.as_deref();
        if self.dry_run {
            return super::plan::show_plans(context, &self.tasks, target, &self.settings).await;
        }
        let config = context.config()?;
        let work = context.tasks(&config, &self.tasks, target, &self.settings)?;
        run_all(context, &config, work, self.now).await
    }
}

/// Runs the tasks one after another and prints what came of each.
pub(super) async fn run_all(
    context: &Context<'_>,
    config: &Config,
    work: Vec<(Task, crate::config::Target)>,
    now: bool,
) -> Result<u8, Failure> {
    let store = context.history(config).await?;
    let style = context.style(config.timezone);
    let mut documents = Vec::new();
    let mut code = 0;
    for (task, target) in &work {
        let mut request = Request {
            task,
            target,
            trigger: Trigger::Manual,
            scheduled_for: None,
            closes_at: None,
            zone: config.timezone,
        };
        if !now {
            match due(config, task, &target.name, store.as_ref()).await? {
                Due::Now {
                    scheduled_for,
                    closes_at,
                } => {
                    request.scheduled_for = scheduled_for;
                    request.closes_at = closes_at;
                }
                Due::Done(text) => {
                    eprintln!("{}: nothing to do: {text}", task.name);
                    continue;
                }
                Due::Outside(text) => {
                    eprintln!(
                        "{}: not started: {text}\n  hint: `--now` runs it at once",
                        task.name
                    );
                    code = worse(code, 4);
                    continue;
                }
            }
        }
        let observer: Arc<dyn Observer> = if context.json() {
            Arc::new(Silent)
        } else {
            Arc::new(Screen::new())
        };
        let around = Surroundings {
            store: Arc::clone(&store),
            stop: Stop::default(),
            observer,
            host: gethostname::gethostname().to_string_lossy().into_owned(),
        };
        let signals = tokio::spawn(listen(around.stop.clone(), task.limits.grace.get()));
        let ended = pipeline::run(&request, &around).await;
        signals.abort();
        let (record, unreachable) = ended?;
        code = worse(
            code,
            exit_code(&record.status, unreachable.is_some(), &around.stop),
        );
        if context.json() {
            documents.push(serde_json::to_value(&record).unwrap_or_default());
        } else {
            print!("{}", run_summary(&record, &style));
            if let Some(hint) = unreachable.and_then(|error| error.hint()) {
                println!("  hint: {hint}");
            }
            println!();
        }
        if matches!(around.stop.reason(), Some(StopReason::Signal(_))) {
            break;
        }
    }
    store.close().await;
    if context.json() {
        println!("{}", serde_json::json!({ "runs": documents }));
    }
    Ok(code)
}

enum Due {
    Now {
        scheduled_for: Option<chrono::DateTime<Utc>>,
        closes_at: Option<chrono::DateTime<Utc>>,
    },
    Done(String),
    Outside(String),
}

/// Without `--now`: only inside the window, and only once per occurrence.
async fn due(
    config: &Config,
    task: &Task,
    target: &str,
    store: &dyn crate::history::Store,
) -> Result<Due, Failure> {
    let now = Utc::now();
    let schedules = config
        .schedules
        .values()
        .filter(|s| s.enabled && s.tasks.contains(&task.name));
    let mut latest: Option<(chrono::DateTime<Utc>, &crate::config::Schedule)> = None;
    for schedule in schedules {
        let zone = schedule.timezone.unwrap_or(config.timezone);
        if let Some(at) = schedule.cron.latest_at_or_before(now, zone)
            && latest.as_ref().is_none_or(|(other, _)| at > *other)
        {
            latest = Some((at, schedule));
        }
    }
    let zone = latest
        .as_ref()
        .and_then(|(_, schedule)| schedule.timezone)
        .unwrap_or(config.timezone);
    let scheduled_for = latest.as_ref().map(|(at, _)| *at);
    if let Some(at) = scheduled_for
        && let Some(run) = store.occurrence(&task.name, target, at).await?
    {
        return Ok(Due::Done(format!(
            "the occurrence of {} ran already: {} ({})",
            at.with_timezone(&zone).format("%Y-%m-%d %H:%M"),
            run.status,
            run.id
        )));
    }
    let window = task
        .window
        .as_ref()
        .or(latest.as_ref().and_then(|(_, s)| s.window.as_ref()));
    let Some(window) = window else {
        return Ok(Due::Now {
            scheduled_for,
            closes_at: None,
        });
    };
    if !window.contains(now, zone) {
        let next = window
            .next_opening(now, zone)
            .map_or_else(String::new, |at| {
                format!(
                    ", which opens next at {}",
                    at.with_timezone(&zone).format("%Y-%m-%d %H:%M %Z")
                )
            });
        return Ok(Due::Outside(format!("outside its window `{window}`{next}")));
    }
    Ok(Due::Now {
        scheduled_for,
        closes_at: window.closes_at(now, zone),
    })
}

/// First signal: no new step, and what is running is cancelled after the
/// grace. Second signal: at once.
async fn listen(stop: Stop, grace: std::time::Duration) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    ) else {
        tracing::error!("signals cannot be received; Ctrl-C will not clean up");
        return;
    };
    let number = tokio::select! {
        _ = interrupt.recv() => 2,
        _ = terminate.recv() => 15,
    };
    stop.gently(StopReason::Signal(number));
    eprintln!(
        "stopping: no new step begins; what is running is cancelled in {} s, or at once if you ask again",
        grace.as_secs()
    );
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        () = tokio::time::sleep(grace) => {}
    }
    stop.at_once(StopReason::Signal(number));
}

fn exit_code(status: &RunStatus, unreachable: bool, stop: &Stop) -> u8 {
    match (status, stop.reason()) {
        (RunStatus::Cancelled, Some(StopReason::Signal(15))) => 143,
        (RunStatus::Cancelled, _) => 130,
        (RunStatus::Failed, _) if unreachable => 3,
        (RunStatus::Failed | RunStatus::Partial | RunStatus::Interrupted, _) => 1,
        (RunStatus::Skipped, _) => 4,
        _ => 0,
    }
}

/// The exit code of several runs: a signal before a failure before an
/// unreachable target before one not started.
fn worse(a: u8, b: u8) -> u8 {
    const ORDER: [u8; 6] = [143, 130, 1, 3, 4, 0];
    ORDER
        .into_iter()
        .find(|code| *code == a || *code == b)
        .unwrap_or(a.max(b))
}
