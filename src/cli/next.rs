//! What the calendar holds: upcoming occurrences, those that were missed, and those that are
//! overdue because nobody looked after them.

use chrono::{DateTime, Utc};

use super::Failure;
use super::context::Context;
use super::documents;
use crate::config::Config;
use crate::history::{HistoryError, Occurrence, Store};
use crate::report::text::{Align, Cell, Columns, Cut};
use crate::scheduler::{outlook, zone_of};

/// Upcoming occurrences, soonest first, and what was missed in the last 30 days.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  maint next\n  maint next --count 5\n  maint next --output json"
)]
pub(super) struct Next {
    /// How many of each schedule
    #[arg(long, default_value_t = 1, value_parser = super::usage::size)]
    count: usize,
    /// How many missed ones at most
    #[arg(long, default_value_t = 20, value_parser = super::usage::count)]
    missed: u32,
}

impl Next {
    pub(super) async fn call(&self, context: &Context<'_>) -> Result<u8, Failure> {
        let config = context.config_for_looking().await?;
        let now = Utc::now();
        let opened = crate::history::open_existing(config.history.expose()).await;
        let (store, unknown) = match opened {
            Ok(store) => (Some(store), None),
            // Nothing has run yet, so nothing was missed.
            Err(HistoryError::Missing { .. }) => (None, None),
            Err(error) => (None, Some(error)),
        };
        let planned = outlook(&config, store.as_deref(), now, self.count, self.missed).await?;
        let overdue = match &store {
            Some(store) => overdue(&config, store.as_ref(), now).await?,
            None => Vec::new(),
        };
        let named = |schedule: &str| {
            let schedule = config.schedules.get(schedule);
            schedule.map_or(&[][..], |schedule| &schedule.tasks)
        };
        let runs = |task: &String| config.tasks.get(task).is_none_or(|task| task.enabled);
        let tasks = |schedule: &str| -> Vec<&String> {
            let named = named(schedule).iter();
            named.filter(|task| runs(task)).collect()
        };
        if context.json() {
            let firing = |(at, schedule)| documents::Firing {
                schedule,
                at,
                tasks: tasks(schedule),
            };
            let late = |(at, schedule)| documents::Overdue { schedule, at };
            let next = planned
                .next
                .iter()
                .map(|(at, schedule)| (*at, schedule.as_str()));
            let overdue = overdue
                .iter()
                .map(|(at, schedule)| (*at, schedule.as_str()));
            documents::print(&documents::Next {
                next: next.map(firing).collect(),
                running: &planned.running,
                overdue: overdue.map(late).collect(),
                missed: &planned.missed,
                paused: &planned.pauses,
            });
            return unknown.map_or(Ok(0), |error| Err(error.into()));
        }
        let style = context.style(config.timezone);
        let shown = |at: DateTime<Utc>, schedule: &str| {
            let zone = config
                .schedules
                .get(schedule)
                .map_or(config.timezone, |schedule| zone_of(&config, schedule));
            at.with_timezone(&zone)
                .format("%a %Y-%m-%d %H:%M %Z")
                .to_string()
        };
        let mut table = Columns::new()
            .column("when", Align::Left, Cut::Never)
            .column("schedule", Align::Left, Cut::Never)
            .column("tasks", Align::Left, Cut::End);
        for (at, schedule) in &planned.next {
            let paused = planned.pauses.iter().any(|pause| {
                &pause.schedule == schedule && pause.until.is_none_or(|until| *at < until)
            });
            let shown_task = |task: &String| match runs(task) {
                true => task.clone(),
                false => format!("{task} (off)"),
            };
            let tasks: Vec<String> = named(schedule).iter().map(shown_task).collect();
            let tasks = tasks.join(", ");
            table.row([
                Cell::from(&shown(*at, schedule)),
                Cell::from(schedule),
                Cell::from(&match paused {
                    true => format!("paused ({tasks})"),
                    false => tasks,
                }),
            ]);
        }
        match planned.next.is_empty() {
            true if config.schedules.is_empty() => outln!(
                "No schedules: {} has none, so nothing runs by itself.",
                config.path.display()
            ),
            true => outln!("Nothing is planned: no schedule is enabled."),
            false => out!("{}", table.render(0, &style)),
        }
        let mut behind = Columns::new()
            .column("not run", Align::Left, Cut::Never)
            .column("schedule", Align::Left, Cut::Never)
            .column("why", Align::Left, Cut::End);
        for (at, schedule) in &overdue {
            behind.row([
                Cell::from(&shown(*at, schedule)),
                Cell::from(schedule),
                Cell::from("due, and nobody has looked yet: is `maint serve` running?"),
            ]);
        }
        for one in &planned.missed {
            behind.row([
                Cell::from(&shown(one.scheduled_for, &one.schedule)),
                Cell::from(&one.schedule),
                Cell::from(one.reason.as_deref().unwrap_or_default()),
            ]);
        }
        if !overdue.is_empty() || !planned.missed.is_empty() {
            outln!();
            out!("{}", behind.render(0, &style));
        }
        unknown.map_or(Ok(0), |error| Err(error.into()))
    }
}

/// How many overdue occurrences of a schedule are listed.
const MOST_OVERDUE: usize = 5;

/// What has fallen due since the newest recorded occurrence of schedules that
/// somebody looked after once.
pub(super) async fn overdue(
    config: &Config,
    store: &dyn Store,
    now: DateTime<Utc>,
) -> Result<Vec<(DateTime<Utc>, String)>, HistoryError> {
    let names: Vec<String> = config.schedules.keys().cloned().collect();
    let newest = store.newest_occurrences(&names, now, now).await?;
    // A tick or a jitter later than that is no reason to worry.
    let late = now - chrono::TimeDelta::minutes(2);
    let mut overdue = Vec::new();
    for schedule in config.schedules.values().filter(|one| one.enabled) {
        let Some(Occurrence { scheduled_for, .. }) = newest.get(&schedule.name) else {
            continue;
        };
        let mut at = *scheduled_for;
        for _ in 0..MOST_OVERDUE {
            match schedule.cron.next_after(at, zone_of(config, schedule)) {
                Some(next) if next <= late => {
                    overdue.push((next, schedule.name.clone()));
                    at = next;
                }
                _ => break,
            }
        }
    }
    overdue.sort();
    Ok(overdue)
}
