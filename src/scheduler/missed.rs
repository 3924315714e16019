//! What lies ahead, and what was left behind.

use chrono::{DateTime, Utc};

use super::zone_of;
use crate::config::{Config, Opening, Schedule, opening, windows_of};
use crate::history::{HistoryError, Occurrence, OccurrenceFilter, OccurrenceStatus, Pause, Store};

/// Occurrences of the past that are worth a look.
const LOOK_BACK_DAYS: i64 = 30;

/// The calendar of a configuration as seen from now.
#[derive(Clone, Debug)]
pub struct Planned {
    /// What comes next, soonest first.
    pub next: Vec<Coming>,
    /// What was missed in the last days, newest first.
    pub missed: Vec<Occurrence>,
    /// What is at work.
    pub running: Vec<Occurrence>,
    /// What is paused.
    pub pauses: Vec<Pause>,
}

/// An occurrence that is to come.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Coming {
    /// When it is due.
    pub at: DateTime<Utc>,
    /// Of which schedule.
    pub schedule: String,
    /// When it begins, where a window is closed at its time.
    pub waits_until: Option<DateTime<Utc>>,
    /// Why it does not begin at all, where its windows never open for it.
    pub never: Option<String>,
}

fn coming(config: &Config, schedule: &Schedule, at: DateTime<Utc>) -> Coming {
    let zone = zone_of(config, schedule);
    let windows = windows_of(config, schedule);
    let following = schedule.cron.next_after(at, zone);
    let window = schedule.window.as_ref();
    let (waits_until, never) = match opening(window, &windows, zone, at, following, None) {
        Opening::Now => (None, None),
        Opening::At(begins) => (Some(begins), None),
        Opening::Never(why) => (None, Some(why)),
    };
    Coming {
        at,
        schedule: schedule.name.clone(),
        waits_until,
        never,
    }
}

/// What was due already, and waits for its window to open for the first time since.
async fn waiting(
    config: &Config,
    store: &dyn Store,
    now: DateTime<Utc>,
) -> Result<Vec<Coming>, HistoryError> {
    let names: Vec<String> = config.schedules.keys().cloned().collect();
    let newest = store.newest_occurrences(&names, now, now).await?;
    let known = store.known_schedules().await?;
    let mut found = Vec::new();
    for schedule in config.schedules.values().filter(|s| s.enabled) {
        let Some(at) = schedule
            .cron
            .latest_at_or_before(now, zone_of(config, schedule))
        else {
            continue;
        };
        let newest = newest.get(&schedule.name).map(|one| one.scheduled_for);
        let is_open = newest.is_none_or(|newest| newest < at)
            && known.get(&schedule.name).is_some_and(|known| *known < at);
        let one = coming(config, schedule, at);
        if is_open && one.waits_until.is_some_and(|begins| begins > now) {
            found.push(one);
        }
    }
    Ok(found)
}

/// Looks `count` occurrences of each schedule ahead, and at most `limit`
/// missed ones back.
///
/// # Errors
/// When the history cannot be read.
pub async fn outlook(
    config: &Config,
    store: Option<&dyn Store>,
    now: DateTime<Utc>,
    count: usize,
    limit: u32,
) -> Result<Planned, HistoryError> {
    let mut next = Vec::new();
    if let Some(store) = store {
        next.extend(waiting(config, store, now).await?);
    }
    for schedule in config.schedules.values().filter(|s| s.enabled) {
        let zone = zone_of(config, schedule);
        let mut after = now;
        for _ in 0..count {
            let Some(at) = schedule.cron.next_after(after, zone) else {
                break;
            };
            next.push(coming(config, schedule, at));
            after = at;
        }
    }
    next.sort();
    let mut planned = Planned {
        next,
        missed: Vec::new(),
        running: Vec::new(),
        pauses: Vec::new(),
    };
    if let Some(store) = store {
        let mut filter = OccurrenceFilter {
            statuses: vec![OccurrenceStatus::Missed],
            since: Some(now - chrono::TimeDelta::days(LOOK_BACK_DAYS)),
            until: Some(now),
            limit: Some(limit),
            ..OccurrenceFilter::default()
        };
        planned.missed = store.occurrences(&filter).await?;
        filter.statuses = vec![OccurrenceStatus::Running];
        filter.until = None;
        planned.running = store.occurrences(&filter).await?;
        planned.pauses = store.pauses().await?;
    }
    Ok(planned)
}
