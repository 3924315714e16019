use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;

use super::Failure;
use super::context::Context;
use super::screen::Screen;
use super::signals::Signals;
use crate::config::{Config, Schedule, Task};
use crate::execute::{Observer, Silent, Stop, StopReason};
use crate::history::{RunRecord, RunStatus, Store, Trigger};
use crate::notify::{Signal, Teller, schedule_of};
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
    /// Everything that is due by the schedules, and what was missed
    #[arg(long, conflicts_with_all = ["now", "tasks", "target", "settings", "dry_run"])]
    due: bool,
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
    pub(super) async fn call(&self, context: &Context<'_>) -> Result<u8, Failure> {
        let target = self.target.as_deref();
        if self.dry_run {
            return super::plan::show_plans(context, &self.tasks, target, &self.settings, true)
                .await;
        }
        if self.due {
            return super::due::run(context).await;
        }
        let config = context.config()?;
        let work = context.tasks(&config, &self.tasks, target, &self.settings)?;
        let signals = Signals::listen(longest_grace(&work));
        let ran = run_all(context, &config, work, self.now, &signals.stop).await?;
        Ok(ran.code)
    }
}

/// What came of several tasks.
pub(super) struct Ran {
    /// The exit code.
    pub(super) code: u8,
    /// The runs, in order.
    pub(super) records: Vec<RunRecord>,
}

/// Runs the tasks one after another and prints what came of each.
pub(super) async fn run_all(
    context: &Context<'_>,
    config: &Config,
    work: Vec<(Task, crate::config::Target)>,
    now: bool,
    stop: &Stop,
) -> Result<Ran, Failure> {
    let store = context.history(config).await?;
    let style = context.style(config.timezone);
    let teller = Arc::new(context.teller(config));
    let mut pings = Pings::new(&teller);
    let mut records = Vec::new();
    let mut code = 0;
    for (task, target) in &work {
        if stop.is_stopping() {
            eprintln!("{}: not started: stopped by a signal", task.name);
            code = worse(code, signal_code(stop));
            continue;
        }
        let mut request = Request {
            task,
            target,
            trigger: Trigger::Manual,
            scheduled_for: None,
            again: now,
            closes_at: None,
            zone: config.timezone,
            patience: Duration::ZERO,
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
            stop: stop.part(),
            observer,
            host: host(),
            teller: Some(Arc::clone(&teller)),
        };
        let schedule = schedule_of(config, &task.name, request.scheduled_for);
        pings.start(schedule).await;
        let ran = pipeline::run(&request, &around).await;
        pings.ended(schedule, ran.as_ref().ok().map(|(record, _)| record.status));
        let (record, unreachable) = match ran {
            Ok(ran) => ran,
            Err(error) => {
                pings.finish().await;
                return Err(error.into());
            }
        };
        code = worse(
            code,
            exit_code(&record.status, unreachable.is_some(), &around.stop),
        );
        if !context.json() {
            print!("{}", run_summary(&record, &style));
            if let Some(hint) = unreachable.and_then(|error| error.hint()) {
                println!("  hint: {hint}");
            }
            println!();
        }
        records.push(record);
    }
    pings.finish().await;
    tell(&teller, store.as_ref()).await;
    store.close().await;
    if context.json() {
        println!("{}", serde_json::json!({ "runs": records }));
    }
    Ok(Ran { code, records })
}

/// Sends what is to be told. What could not be sent is kept, and said here.
pub(super) async fn tell(teller: &Teller, store: &dyn Store) {
    match teller.tell(store, Utc::now(), false).await {
        Ok(done) => {
            for problem in done.problems {
                eprintln!("note: a message was not sent: {problem}");
            }
        }
        Err(error) => tracing::error!(%error, "messages could not be sent"),
    }
}

/// What this machine calls itself.
pub(super) fn host() -> String {
    gethostname::gethostname().to_string_lossy().into_owned()
}

/// Tells the watchdogs of schedules: once at the beginning of the first of
/// its tasks, once at the end of all.
struct Pings<'a> {
    teller: &'a Teller,
    schedules: BTreeMap<String, bool>,
}

impl<'a> Pings<'a> {
    fn new(teller: &'a Teller) -> Pings<'a> {
        Pings {
            teller,
            schedules: BTreeMap::new(),
        }
    }

    async fn start(&mut self, schedule: Option<&Schedule>) {
        if let Some(schedule) = schedule
            && !self.schedules.contains_key(&schedule.name)
        {
            self.schedules.insert(schedule.name.clone(), true);
            self.teller.ping(&schedule.name, Signal::Start).await;
        }
    }

    fn ended(&mut self, schedule: Option<&Schedule>, status: Option<RunStatus>) {
        let good = matches!(
            status,
            Some(RunStatus::Succeeded | RunStatus::Incomplete | RunStatus::Skipped)
        );
        if let Some(well) = schedule.and_then(|one| self.schedules.get_mut(&one.name)) {
            *well &= good;
        }
    }

    async fn finish(&self) {
        for (schedule, well) in &self.schedules {
            let signal = if *well { Signal::Success } else { Signal::Fail };
            self.teller.ping(schedule, signal).await;
        }
    }
}

/// The longest grace of any task: how long a first signal is patient.
pub(super) fn longest_grace(work: &[(Task, crate::config::Target)]) -> Duration {
    work.iter()
        .map(|(task, _)| task.limits.grace.get())
        .max()
        .unwrap_or_default()
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
    // The task's window and the schedule's: both must be open, and the first
    // to close ends the run.
    let windows = [
        task.window.as_ref(),
        latest.as_ref().and_then(|(_, s)| s.window.as_ref()),
    ];
    let mut closes_at: Option<chrono::DateTime<Utc>> = None;
    for window in windows.into_iter().flatten() {
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
        closes_at = closes_at
            .into_iter()
            .chain(window.closes_at(now, zone))
            .min();
    }
    Ok(Due::Now {
        scheduled_for,
        closes_at,
    })
}

pub(super) fn exit_code(status: &RunStatus, unreachable: bool, stop: &Stop) -> u8 {
    match (status, stop.reason()) {
        (RunStatus::Cancelled, _) => signal_code(stop),
        (RunStatus::Failed, _) if unreachable => 3,
        (RunStatus::Failed | RunStatus::Partial | RunStatus::Interrupted, _) => 1,
        (RunStatus::Skipped, _) => 4,
        _ => 0,
    }
}

/// 143 for SIGTERM, 130 for Ctrl-C.
pub(super) fn signal_code(stop: &Stop) -> u8 {
    match stop.reason() {
        Some(StopReason::Signal(15)) => 143,
        _ => 130,
    }
}

/// The exit code of several runs: a signal before a failure before an
/// unreachable target before one not started.
pub(super) fn worse(a: u8, b: u8) -> u8 {
    const ORDER: [u8; 6] = [143, 130, 1, 3, 4, 0];
    ORDER
        .into_iter()
        .find(|code| *code == a || *code == b)
        .unwrap_or(a.max(b))
}
