//! From the calendar to runs: what is due is computed here and claimed in the
//! history, so that any number of instances may do the same.

mod clock;
mod commands;
mod due;
mod due_now;
mod engine;
mod job;
mod missed;
mod on_targets;
mod worker;

pub use clock::{Clock, SystemClock};
pub(crate) use commands::{Around, Came, not_well};
pub use due::{Before, Decision, Due, Known, Running, due, jitter};
pub use due_now::{DueNow, due_now};
pub use engine::{LEASE, Options, Scheduler, Ticked, set_right, times_ahead, troubles};
pub use job::{Happened, Job, Outcome, Silence, Watcher, Worker};
pub use missed::{Coming, Planned, outlook};
pub(crate) use on_targets::went_well;
pub use worker::PipelineWorker;

use crate::config::{Commands, Config, Schedule};

/// The schedules that fire, with what tells a changed one from an unchanged
/// one: when it fires, on which clocks.
pub fn definitions(config: &Config) -> Vec<(String, String)> {
    config
        .schedules
        .values()
        .filter(|schedule| schedule.enabled)
        .map(|schedule| {
            let zone = zone_of(config, schedule);
            (schedule.name.clone(), format!("{} {zone}", schedule.cron))
        })
        .collect()
}

/// The configuration with its reports as schedules: they fall due, are
/// claimed and are made up for like everything else.
pub fn with_reports(config: &Config) -> Config {
    let mut config = config.clone();
    for (name, report) in &config.reports {
        let schedule = Schedule {
            name: format!("{}{name}", worker::REPORT),
            cron: report.cron.clone(),
            tasks: Vec::new(),
            window: None,
            timezone: None,
            catch_up: None,
            jitter: None,
            after: Vec::new(),
            ping: None,
            commands: Commands::default(),
            enabled: report.enabled && report.email.is_some(),
        };
        config.schedules.insert(schedule.name.clone(), schedule);
    }
    config
}

/// The clocks a schedule goes by.
pub fn zone_of(config: &Config, schedule: &Schedule) -> chrono_tz::Tz {
    schedule.timezone.unwrap_or(config.timezone)
}
