//! What is to be done about a schedule now: a pure decision from what is
//! known. No clock, no history.

mod folded;

use std::collections::VecDeque;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use sha2::{Digest, Sha256};

use self::folded::Folded;
use crate::config::{Opening, Schedule, TaskWindow, opening};
use crate::history::{DOES_ITS_WORK, Pause};

/// Up to so late an occurrence is on time: a tick may come late, and an
/// instance may be restarted.
const ON_TIME: TimeDelta = TimeDelta::seconds(60);

/// Longest default for `catch_up`.
const DAY: TimeDelta = TimeDelta::days(1);

/// Occurrences that are decided one by one. After a year of down-time a schedule
/// of every minute has half a million: those before the last ones have one record together.
const ONE_BY_ONE: usize = 1_000;

/// Occurrences that are counted at once.
const AT_ONCE: usize = 100_000;

/// How often a schedule is asked for again that waits for another one, or for
/// the occurrence before.
const WAITING: TimeDelta = TimeDelta::seconds(2);

/// What is known of a schedule.
#[derive(Clone, Debug)]
pub struct Known<'a> {
    /// Since when it is known as it is defined now. What it would have fired
    /// before is nobody's concern.
    pub since: DateTime<Utc>,
    /// The newest occurrence that is recorded, if it is not in the future.
    pub newest: Option<DateTime<Utc>>,
    /// One that has not ended yet.
    pub running: Option<Running>,
    /// Whether somebody stopped it for a while.
    pub pause: Option<&'a Pause>,
    /// The occurrence that we have been waiting with since it was due.
    pub attended: Option<DateTime<Utc>>,
    /// How the schedules of `after` stand.
    pub before: Before,
    /// The windows of its tasks, where they have their own.
    pub windows: Vec<TaskWindow>,
}

/// How an earlier occurrence stands that has not ended yet, with the time it
/// was planned for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Running {
    /// Its owner has given a sign of life since the next one is due.
    AtWork(DateTime<Utc>),
    /// Its owner may be dead, or was: it is waited for until it has ended,
    /// whoever ends it.
    Unproven(DateTime<Utc>),
}

/// How the schedules stand that must have ended well before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Before {
    /// Nothing is in the way.
    Done,
    /// One of them has not ended yet.
    Waiting(String),
    /// One of them did not end well.
    Failed(String),
}

/// What becomes of one occurrence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is carried out now.
    Start {
        /// When it was planned for.
        at: DateTime<Utc>,
        /// Whether nobody was there at that time.
        catch_up: bool,
    },
    /// It was not to run.
    Skip {
        /// When it was planned for.
        at: DateTime<Utc>,
        /// Why.
        reason: String,
    },
    /// It is over without having run.
    Miss {
        /// When it was planned for.
        at: DateTime<Utc>,
        /// Why.
        reason: String,
        /// Whether a later one does its work: then it is not worth a message.
        covered: bool,
        /// How many before it are over with it, and have no record of their own.
        with: usize,
    },
}

/// What to do now, and when to ask again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// Oldest first. A start is always the last.
    pub decisions: Vec<Decision>,
    /// Nothing changes before, unless somebody pauses, resumes or ends something.
    pub wake: Option<DateTime<Utc>>,
    /// The occurrence that is due and has to wait.
    pub waiting: Option<DateTime<Utc>>,
    /// What it waits for, in words.
    pub waits_for: Option<String>,
}

/// Decides about everything that is due at `now` and not recorded yet.
///
/// Only the newest occurrence can run: those before it would do the same
/// work. It runs at its time, or once later when nobody was there and it is
/// not older than `catch_up`. `seed` tells apart machines that share a
/// configuration, for the jitter.
pub fn due(
    schedule: &Schedule,
    zone: Tz,
    seed: &str,
    known: &Known<'_>,
    now: DateTime<Utc>,
) -> Due {
    let floor = known.newest.map_or(known.since, |at| at.max(known.since));
    let (mut list, mut folded) = (VecDeque::new(), Vec::new());
    let mut next = schedule.cron.next_after(floor, zone);
    let mut count = 0;
    while let Some(at) = next.filter(|at| *at <= now && count < AT_ONCE) {
        list.push_back(at);
        if list.len() > ONE_BY_ONE
            && let Some(old) = list.pop_front()
        {
            Folded::add(&mut folded, old, paused(known, old).is_some());
        }
        count += 1;
        next = schedule.cron.next_after(at, zone);
    }
    let delay = jitter(schedule, seed);
    let mut due = Due {
        decisions: Vec::new(),
        wake: next.map(|at| at.max(now)),
        waiting: None,
        waits_for: None,
    };
    let behind = next.is_some_and(|at| at <= now);
    // The newest stands for all before it, also where its turn is yet to come.
    let newest = match behind {
        true => schedule.cron.latest_at_or_before(now, zone),
        false => list.pop_back(),
    };
    let after = match behind {
        true => schedule.cron.next_after(now, zone),
        false => next,
    };
    let last = newest.map(|at| one(schedule, zone, known, now, at, after, delay));
    let covered = match &last {
        Some(One::Decided(Decision::Start { at, .. })) => {
            Some(format!("the one of {}", shown(*at, zone)))
        }
        // The next one may come before its turn, and stand for it as well.
        Some(One::Wait { .. }) => Some("a later one, which waits,".to_owned()),
        _ => None,
    };
    let last = last.filter(|_| !behind);
    folded.extend(list.into_iter().map(Folded::alone));
    for one in folded {
        let (at, others) = (one.last, one.others(zone));
        due.decisions.push(match paused(known, at) {
            Some(reason) => Decision::Skip {
                at,
                reason: reason + &others,
            },
            None => {
                let reason = match &covered {
                    Some(later) => format!("{later} {DOES_ITS_WORK}"),
                    None if known.attended == Some(at) => {
                        "it could not begin before the next one was due".to_owned()
                    }
                    None => "nobody was there at its time".to_owned(),
                };
                Decision::Miss {
                    at,
                    reason: reason + &others,
                    covered: covered.is_some(),
                    with: one.count - 1,
                }
            }
        });
    }
    match last {
        Some(One::Decided(decision)) => due.decisions.push(decision),
        Some(One::Wait { at, until, what }) => {
            due.waiting = Some(at);
            due.waits_for = Some(what);
            due.wake = due.wake.into_iter().chain([until]).min();
        }
        None => {}
    }
    due
}

enum One {
    Decided(Decision),
    Wait {
        at: DateTime<Utc>,
        until: DateTime<Utc>,
        what: String,
    },
}

/// What becomes of the newest occurrence.
fn one(
    schedule: &Schedule,
    zone: Tz,
    known: &Known<'_>,
    now: DateTime<Utc>,
    at: DateTime<Utc>,
    next: Option<DateTime<Utc>>,
    delay: TimeDelta,
) -> One {
    let skip = |reason: String| One::Decided(Decision::Skip { at, reason });
    let miss = |reason: String| {
        One::Decided(Decision::Miss {
            at,
            reason,
            covered: false,
            with: 0,
        })
    };
    if let Some(reason) = paused(known, at) {
        return skip(reason);
    }
    let attended = known.attended == Some(at);
    let on_time = attended || now - at <= delay + ON_TIME;
    let limit = catch_up(schedule, at, next);
    if !on_time && now - at > limit {
        return miss(match limit.is_zero() {
            true => "nobody was there at its time".to_owned(),
            false => format!("nobody was there within {} of its time", length(limit)),
        });
    }
    match known.running {
        Some(Running::AtWork(running)) => {
            return skip(format!(
                "the one of {} is still at work",
                shown(running, zone)
            ));
        }
        Some(Running::Unproven(running)) => {
            return One::Wait {
                at,
                until: now + WAITING,
                what: format!(
                    "the one of {} to end, or to be taken over where its owner is dead",
                    shown(running, zone)
                ),
            };
        }
        None => {}
    }
    if now < at + delay {
        let until = (at + delay).with_timezone(&zone);
        return One::Wait {
            at,
            until: at + delay,
            what: format!("its `jitter` to pass, at {}", until.format("%H:%M:%S %Z")),
        };
    }
    // Who was there at its time may wait for as long as it takes.
    let latest = match on_time {
        true => None,
        false => Some(at.checked_add_signed(limit).unwrap_or(at)),
    };
    match opening(
        schedule.window.as_ref(),
        &known.windows,
        zone,
        now,
        next,
        latest,
    ) {
        Opening::Now => {}
        Opening::At(opens) => {
            let until = opens.with_timezone(&zone);
            return One::Wait {
                at,
                until: opens,
                what: format!(
                    "its window, which opens at {}",
                    until.format("%a %Y-%m-%d %H:%M %Z")
                ),
            };
        }
        Opening::Never(closed) => return miss(closed),
    }
    match &known.before {
        Before::Waiting(name) => One::Wait {
            at,
            until: now + WAITING,
            what: format!("`{name}` to end, which comes before it"),
        },
        Before::Failed(why) => skip(why.clone()),
        Before::Done => One::Decided(Decision::Start {
            at,
            catch_up: !on_time,
        }),
    }
}

/// How old a missed occurrence may be: as configured, or as long as the
/// period, a day at most.
fn catch_up(schedule: &Schedule, at: DateTime<Utc>, next: Option<DateTime<Utc>>) -> TimeDelta {
    match schedule.catch_up {
        Some(limit) => delta(limit.get()),
        None => next.map_or(DAY, |next| (next - at).min(DAY)),
    }
}

fn paused(known: &Known<'_>, at: DateTime<Utc>) -> Option<String> {
    let pause = known.pause?;
    let holds = at >= pause.since && pause.until.is_none_or(|until| at < until);
    holds.then(|| format!("paused by {}", pause.by))
}

/// The delay of a schedule on a machine: always the same, and spread evenly.
pub fn jitter(schedule: &Schedule, seed: &str) -> TimeDelta {
    let longest = schedule.jitter.map_or(0, |jitter| {
        u64::try_from(jitter.get().as_millis()).unwrap_or(0)
    });
    if longest == 0 {
        return TimeDelta::zero();
    }
    let hash = Sha256::digest(format!("{seed}\n{}", schedule.name));
    let number = hash
        .iter()
        .take(8)
        .fold(0_u64, |number, byte| (number << 8) | u64::from(*byte));
    TimeDelta::milliseconds(i64::try_from(number % (longest + 1)).unwrap_or(0))
}

fn delta(length: Duration) -> TimeDelta {
    TimeDelta::from_std(length).unwrap_or(TimeDelta::MAX)
}

fn length(limit: TimeDelta) -> String {
    crate::values::TimeSpan::from(limit.to_std().unwrap_or_default()).to_string()
}

fn shown(at: DateTime<Utc>, zone: Tz) -> String {
    at.with_timezone(&zone).format("%Y-%m-%d %H:%M").to_string()
}
