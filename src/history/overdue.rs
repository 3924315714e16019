//! Schedules whose time has come, and that nobody has looked after since.

use chrono::{DateTime, TimeDelta, Utc};

use super::{HistoryError, OccurrenceFilter, OccurrenceStatus, Store};
use crate::config::{Config, Opening, opening, windows_of};

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
    /// How it came to that.
    pub why: Neglect,
}

/// How nobody looks after a schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Neglect {
    /// Nobody ever has, by this history.
    Never,
    /// Nobody has since.
    NotSince,
    /// Somebody began, and has not been heard of since: so the owner of the claim is called.
    LeftBehind(String),
    /// Its window was over before anybody began: it waits until then.
    Waits(DateTime<Utc>),
}

impl Overdue {
    /// What is wrong, as a sentence without its end.
    pub fn text(&self) -> String {
        let name = &self.schedule;
        match &self.why {
            Neglect::NotSince => format!("schedule {name} was due and nobody has looked"),
            Neglect::Never => {
                format!("schedule {name} was due, and nobody has ever looked after it here")
            }
            Neglect::LeftBehind(owner) => format!(
                "schedule {name} was begun by {owner}, which has not been heard of since, and is not finished"
            ),
            Neglect::Waits(until) => format!(
                "schedule {name} was due, nobody began it while its window was open, and it waits until {}",
                until.format("%Y-%m-%d %H:%M UTC")
            ),
        }
    }

    /// What helps.
    pub fn hint(&self) -> String {
        match self.why {
            Neglect::NotSince => {
                "is `maint serve` running, or the CronJob or timer of the schedule?".to_owned()
            }
            Neglect::Never => {
                "start `maint serve`, or what `maint export` writes; `enabled: false` where it is not to run".to_owned()
            }
            Neglect::LeftBehind(_) => format!("maint run --due --schedule {}", self.schedule),
            Neglect::Waits(_) => {
                "`maint run TASK --now` does the work of a task whatever its window".to_owned()
            }
        }
    }
}

/// What somebody has begun and left behind, and what has fallen due since the newest recorded occurrence of
/// each schedule, or, where it has none, since it is known; of schedules that nobody has ever looked after, since the first run
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
    let left = store.orphaned_occurrences().await?;
    let mut overdue = Vec::new();
    for schedule in config.schedules.values().filter(|one| one.enabled) {
        // Whoever looks after the schedule takes it over with the next tick.
        let behind = left.iter().find(|one| {
            one.schedule == schedule.name && one.lease_until.is_some_and(|end| end <= now - LATE)
        });
        if let Some(one) = behind {
            overdue.push(Overdue {
                schedule: schedule.name.clone(),
                at: vec![one.scheduled_for],
                why: Neglect::LeftBehind(one.claimed_by.clone().unwrap_or_default()),
            });
            continue;
        }
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
        let windows = windows_of(config, schedule);
        let begins = |at: DateTime<Utc>, from: DateTime<Utc>| {
            let next = schedule.cron.next_after(at, zone);
            opening(schedule.window.as_ref(), &windows, zone, from, next, None)
        };
        // What waits for its window is not late before that opens.
        due.retain(|at| !matches!(begins(*at, *at), Opening::At(then) if then > late));
        let waits = match due.as_slice() {
            // Whoever looks after it has recorded those before.
            [only] => match begins(*only, now) {
                Opening::At(then) => Some(then),
                Opening::Now | Opening::Never(_) => None,
            },
            _ => None,
        };
        if !due.is_empty() {
            overdue.push(Overdue {
                schedule: schedule.name.clone(),
                at: due,
                why: match (waits, looked) {
                    (Some(then), Some(_)) => Neglect::Waits(then),
                    (None, Some(_)) => Neglect::NotSince,
                    (_, None) => Neglect::Never,
                },
            });
        }
    }
    overdue.sort_by(|a, b| (&a.at, &a.schedule).cmp(&(&b.at, &b.schedule)));
    Ok(overdue)
}
