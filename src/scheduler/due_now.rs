//! Whether a task that somebody asks for may run now.

use chrono::{DateTime, Utc};

use super::on_targets::open_windows;
use super::zone_of;
use crate::config::{Config, Schedule, Task};
use crate::history::{Recorder, carried_out};
use crate::values::wall_clock;

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DueNow<'a> {
    /// It may.
    Now {
        /// The occurrence it stands for.
        scheduled_for: Option<DateTime<Utc>>,
        /// The schedule that this is of.
        schedule: Option<&'a str>,
        /// When its windows close.
        closes_at: Option<DateTime<Utc>>,
    },
    /// Its latest occurrence ran already; the text says which run that was.
    Done(String),
    /// A window is closed; the text says which, and when it opens.
    Outside(String),
}

/// Only inside the windows of the task and of its schedule, and only once for
/// each occurrence, as [`carried_out`] tells; what a history out of reach would
/// know does not count.
pub async fn due_now<'a>(
    config: &'a Config,
    task: &Task,
    target: &str,
    history: &Recorder,
) -> DueNow<'a> {
    let now = wall_clock();
    let schedules = config.schedules.values();
    let mut latest: Option<(DateTime<Utc>, &Schedule)> = None;
    for schedule in schedules.filter(|s| s.enabled && s.tasks.contains(&task.name)) {
        let zone = zone_of(config, schedule);
        if let Some(at) = schedule.cron.latest_at_or_before(now, zone)
            && latest.is_none_or(|(other, _)| at > other)
        {
            latest = Some((at, schedule));
        }
    }
    let zone = latest.map_or(config.timezone, |(_, schedule)| zone_of(config, schedule));
    let schedule = latest.map(|(_, schedule)| schedule);
    let name = schedule.map(|schedule| &*schedule.name);
    if let Some((at, _)) = latest
        && let Some(run) = history
            .ask(carried_out(
                history.store().as_ref(),
                &task.name,
                target,
                at,
                name,
            ))
            .await
            .flatten()
    {
        return DueNow::Done(format!(
            "the occurrence of {} ran already: {} ({})",
            at.with_timezone(&zone).format("%Y-%m-%d %H:%M"),
            run.status,
            run.id
        ));
    }
    match open_windows(schedule, task, zone, now) {
        Ok(closes_at) => DueNow::Now {
            scheduled_for: latest.map(|(at, _)| at),
            schedule: name,
            closes_at,
        },
        Err(closed) => DueNow::Outside(closed),
    }
}
