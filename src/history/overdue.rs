//! Schedules whose time has come, and that nobody has looked after since.

use chrono::{DateTime, TimeDelta, Utc};

use super::{HistoryError, OccurrenceFilter, OccurrenceStatus, Store};
use crate::config::Config;

/// How many overdue occurrences of a schedule are listed.
const MOST: usize = 5;
/// A tick or a jitter later than that is no reason to worry.
const LATE: TimeDelta = TimeDelta::minutes(2);

/// A schedule that was due, and that nobody has looked after since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overdue {
    /// Its name.
    pub schedule: String,
    /// The first occurrences that nobody has looked after, oldest first; never empty.
    pub at: Vec<DateTime<Utc>>,
    /// Whether anybody ever has looked after this schedule, by this history.
    pub ever: bool,
}

impl Overdue {
    /// What is wrong, as a sentence without its end.
    pub fn text(&self) -> String {
        match self.ever {
            true => format!("schedule {} was due and nobody has looked", self.schedule),
            false => format!(
                "schedule {} was due, and nobody has ever looked after it here",
                self.schedule
            ),
        }
    }

    /// What helps.
    pub const fn hint(&self) -> &'static str {
        match self.ever {
            true => "is `maint serve` running, or the CronJob or timer of the schedule?",
            false => {
                "start `maint serve`, or what `maint export` writes; `enabled: false` where it is not to run"
            }
        }
    }
}

/// What has fallen due since the newest recorded occurrence of each schedule, or, where it has
/// none, since it is known; of schedules that nobody has ever looked after, since the first run
/// here and the last change of the file.
///
/// # Errors
/// When the history cannot be read.
pub async fn overdue(
    config: &Config,
    store: &dyn Store,
    now: DateTime<Utc>,
) -> Result<Vec<Overdue>, HistoryError> {
    let names: Vec<String> = config.schedules.keys().cloned().collect();
    let newest = store.newest_occurrences(&names, now, now).await?;
    let known = store.known_schedules().await?;
    let first_run = store.first_run_at().await?;
    let written = std::fs::metadata(&config.path).and_then(|file| file.modified());
    let written = written.ok().map(DateTime::<Utc>::from);
    let running = OccurrenceFilter {
        statuses: vec![OccurrenceStatus::Running],
        ..OccurrenceFilter::default()
    };
    let running = store.occurrences(&running).await?;
    let alive = |name: &String| {
        let mut of = running.iter().filter(|one| one.schedule == *name);
        of.any(|one| one.lease_until.is_some_and(|until| until > now))
    };
    let mut overdue = Vec::new();
    for schedule in config.schedules.values().filter(|one| one.enabled) {
        // Its next one waits for them, with somebody who will say what became of it.
        if alive(&schedule.name) || schedule.after.iter().any(alive) {
            continue;
        }
        let jitter = schedule.jitter.map_or(TimeDelta::zero(), |jitter| {
            TimeDelta::from_std(jitter.get()).unwrap_or(TimeDelta::zero())
        });
        let late = now - LATE - jitter;
        let newest = newest.get(&schedule.name).map(|one| one.scheduled_for);
        // A clock that was ahead proves nothing.
        let known = known.get(&schedule.name).copied().min(Some(now));
        let looked = newest.max(known);
        // Before anything ran, nobody wanted it; before it was written, nobody could.
        let Some(mut at) =
            looked.or_else(|| first_run.map(|run| written.map_or(run, |at| at.max(run))))
        else {
            continue;
        };
        let zone = schedule.timezone.unwrap_or(config.timezone);
        let mut due = Vec::new();
        while due.len() < MOST {
            match schedule.cron.next_after(at, zone) {
                Some(next) if next <= late => {
                    due.push(next);
                    at = next;
                }
                _ => break,
            }
        }
        if !due.is_empty() {
            overdue.push(Overdue {
                schedule: schedule.name.clone(),
                at: due,
                ever: looked.is_some(),
            });
        }
    }
    overdue.sort_by(|a, b| (&a.at, &a.schedule).cmp(&(&b.at, &b.schedule)));
    Ok(overdue)
}
