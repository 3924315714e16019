//! Schedules whose times are never within their window: each occurrence waits for the next opening, which is
//! seldom what was meant.

use chrono::{DateTime, TimeDelta, Utc};

use super::types::{Config, Schedule};

/// So many openings, and so many times, are looked at.
const LOOKED_AT: usize = 60;

/// What is to be said of such schedules.
pub(super) fn never_within(config: &Config, now: DateTime<Utc>) -> Vec<String> {
    let enabled = config.schedules.values().filter(|one| one.enabled);
    enabled.filter_map(|one| said(config, one, now)).collect()
}

fn said(config: &Config, schedule: &Schedule, now: DateTime<Utc>) -> Option<String> {
    let window = schedule.window.as_ref()?;
    let zone = schedule.timezone.unwrap_or(config.timezone);
    let first = schedule.cron.next_after(now, zone)?;
    let mut at = Some(first);
    for _ in 0..LOOKED_AT {
        let Some(time) = at else { break };
        if window.contains(time, zone) {
            return None;
        }
        at = schedule.cron.next_after(time, zone);
    }
    // Times that come more often than the window opens may all have been before it.
    let mut opening = window.next_opening(now, zone);
    for _ in 0..LOOKED_AT {
        let Some(opens) = opening else { break };
        let within = schedule
            .cron
            .next_after(opens - TimeDelta::seconds(1), zone);
        if within.is_some_and(|time| window.contains(time, zone)) {
            return None;
        }
        let closes = window.closes_at(opens, zone)?;
        opening = window.next_opening(closes, zone);
    }
    let shown = |at: DateTime<Utc>| at.with_timezone(&zone).format("%a %Y-%m-%d %H:%M %Z");
    let begins = window.next_opening(first, zone)?;
    Some(format!(
        "schedule `{}`: none of its times is within its window `{window}`, so each waits until that opens: the one of {} until {}",
        schedule.name,
        shown(first),
        shown(begins)
    ))
}
