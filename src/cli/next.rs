//! What the calendar holds: upcoming occurrences, those that were missed, and those that are
//! overdue because nobody looked after them.

use chrono::{DateTime, Utc};

use super::Failure;
use super::context::Context;
use super::documents;
use crate::history::{HistoryError, Neglect, Overdue, Pause, overdue};
use crate::report::text::{Align, Cell, Columns, Cut, wrapped};
use crate::scheduler::{Coming, outlook, with_reports, zone_of};
use crate::values::wall_clock;

/// Upcoming occurrences, soonest first, and what was missed in the last 30 days.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  maint next\n  maint next --count 5\n  maint next --output json"
)]
pub(super) struct Next {
    /// How many of each schedule
    #[arg(long, default_value_t = 1, value_parser = super::usage::size, allow_negative_numbers = true)]
    count: usize,
    /// How many missed ones at most
    #[arg(long, default_value_t = 20, value_parser = super::usage::count, allow_negative_numbers = true)]
    missed: u32,
}

impl Next {
    pub(super) async fn call(&self, context: &Context<'_>) -> Result<u8, Failure> {
        let config = context.config_for_looking().await?;
        let now = wall_clock();
        let opened = crate::history::open_existing(config.history.expose()).await;
        let (store, unknown) = match opened {
            Ok(store) => (Some(store), None),
            // Nothing has run yet, so nothing was missed.
            Err(HistoryError::Missing { .. }) => (None, None),
            Err(error) => (None, Some(error)),
        };
        let scheduled = with_reports(&config);
        let planned = outlook(&scheduled, store.as_deref(), now, self.count, self.missed).await?;
        let overdue = match &store {
            Some(store) => overdue(&config, store.as_ref(), now).await?,
            None => Vec::new(),
        };
        let mut late: Vec<(DateTime<Utc>, &Overdue)> = Vec::new();
        for one in &overdue {
            late.extend(one.at.iter().map(|at| (*at, one)));
        }
        late.sort_by(|a, b| (a.0, &a.1.schedule).cmp(&(b.0, &b.1.schedule)));
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
            let firing = |one: &'_ Coming| documents::Firing {
                tasks: tasks(&one.schedule),
                schedule: one.schedule.clone(),
                at: one.at,
                waits_until: one.waits_until,
            };
            let overdue = late.iter().map(|(at, one)| documents::Overdue {
                schedule: &one.schedule,
                at: *at,
            });
            documents::print(&documents::Next {
                next: planned.next.iter().map(firing).collect(),
                running: &planned.running,
                overdue: overdue.collect(),
                missed: &planned.missed,
                paused: &planned.pauses,
                unscheduled: config
                    .unscheduled()
                    .map(|task| task.name.as_str())
                    .collect(),
            });
            return unknown.map_or(Ok(0), |error| Err(error.into()));
        }
        let style = context.style(config.timezone);
        let shown = |at: DateTime<Utc>, schedule: &str| {
            let zone = scheduled
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
        for one in &planned.next {
            let (at, schedule) = (one.at, &one.schedule);
            let paused = planned.pauses.iter().find(|pause| {
                &pause.schedule == schedule && pause.until.is_none_or(|until| at < until)
            });
            let shown_task = |task: &String| match runs(task) {
                true => task.clone(),
                false => format!("{task} (off)"),
            };
            let tasks: Vec<String> = named(schedule).iter().map(shown_task).collect();
            // A report is a schedule without a task.
            let tasks = match config.schedules.contains_key(schedule) {
                true => tasks.join(", "),
                false => "the report".to_owned(),
            };
            let waits = match (one.waits_until, &one.never) {
                (Some(until), _) => {
                    format!(", waits for its window until {}", shown(until, schedule))
                }
                (None, Some(why)) => format!(", does not run: {why}"),
                (None, None) => String::new(),
            };
            table.row([
                Cell::from(&shown(at, schedule)),
                Cell::from(schedule),
                Cell::from(&match paused {
                    Some(Pause { by, until, .. }) => {
                        let until = match until {
                            Some(until) => shown(*until, schedule),
                            None => format!("`maint resume {schedule}`"),
                        };
                        format!("paused by {by} until {until} ({tasks})")
                    }
                    None => format!("{tasks}{waits}"),
                }),
            ]);
        }
        match planned.next.is_empty() {
            true if scheduled.schedules.is_empty() => outln!(
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
        for (at, one) in &late {
            behind.row([
                Cell::from(&shown(*at, &one.schedule)),
                Cell::from(&one.schedule),
                Cell::from(&match &one.why {
                    Neglect::NotSince => {
                        "due, and nobody has looked yet: is `maint serve` running?".to_owned()
                    }
                    Neglect::Never => {
                        "due, and nobody has ever looked after it: start `maint serve`".to_owned()
                    }
                    Neglect::LeftBehind(owner) => {
                        format!("begun by {owner}, which has not been heard of since")
                    }
                    Neglect::Waits(until) => format!(
                        "not begun while its window was open: waits until {}",
                        shown(*until, &one.schedule)
                    ),
                }),
            ]);
        }
        for one in &planned.missed {
            behind.row([
                Cell::from(&shown(one.scheduled_for, &one.schedule)),
                Cell::from(&one.schedule),
                Cell::from(one.reason.as_deref().unwrap_or_default()),
            ]);
        }
        if !late.is_empty() || !planned.missed.is_empty() {
            outln!();
            out!("{}", behind.render(0, &style));
        }
        let unscheduled: Vec<&str> = config
            .unscheduled()
            .map(|task| task.name.as_str())
            .collect();
        if !unscheduled.is_empty() && !config.schedules.is_empty() {
            outln!();
            let text = format!(
                "In no schedule, so not run by itself: {}",
                unscheduled.join(", ")
            );
            for line in wrapped(&text, style.width) {
                outln!("{line}");
            }
        }
        unknown.map_or(Ok(0), |error| Err(error.into()))
    }
}
