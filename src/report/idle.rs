//! What is not looked after, although nothing has failed: schedules that nobody carries out, that
//! are paused for long, and targets without a URL. Pure.

use chrono::{DateTime, TimeDelta, Utc};

use super::material::Scope;
use super::model::{Reason, TaskLine, Verdict};
use super::text::{age, shown};
use crate::config::Config;
use crate::history::{Overdue, Pause};

/// A schedule that is paused for longer is told.
const LONG_PAUSE: TimeDelta = TimeDelta::days(7);

/// The pauses of enabled schedules that have lasted for long, and do not end soon.
pub fn long_pauses<'a>(
    config: &Config,
    pauses: &'a [Pause],
    now: DateTime<Utc>,
) -> impl Iterator<Item = &'a Pause> {
    pauses.iter().filter(move |pause| {
        let ends_soon = pause.until.is_some_and(|until| until - now <= LONG_PAUSE);
        let known = config.schedules.get(&pause.schedule);
        known.is_some_and(|one| one.enabled) && now - pause.since > LONG_PAUSE && !ends_soon
    })
}

/// What is said where targets have no URL, so that their tasks are skipped. Those on which enabled
/// tasks have `ran` are told one by one; where there is no other target, all of them together.
pub fn without_url(config: &Config, ran: impl Fn(&str, &str) -> bool) -> Vec<(&str, String)> {
    let silent = config.targets.values().filter(|one| !one.configured);
    let mut told: Vec<(&str, String)> = silent
        .filter(|target| {
            let mut tasks = config.tasks.values();
            tasks.any(|task| {
                task.enabled && task.targets.contains(&target.name) && ran(&task.name, &target.name)
            })
        })
        .map(|target| {
            let text = format!(
                "target {} is not configured any more (its `url` is empty, or its variable is not set here), and its tasks are skipped",
                target.name
            );
            (target.name.as_str(), text)
        })
        .collect();
    let none = !config.targets.is_empty() && !config.targets.values().any(|one| one.configured);
    if told.is_empty() && none {
        let text = format!(
            "no target is configured: the `url` of {} is empty, and nothing is looked after",
            match config.targets.len() {
                1 => "the only one".to_owned(),
                n => format!("all {n}"),
            }
        );
        told.push(("", text));
    }
    told
}

/// A task that no schedule has was run by somebody when it ran last; for so long somebody may be
/// thought to do so again.
const LONG_UNRUN: TimeDelta = TimeDelta::days(35);

/// What helps against that.
pub const FORGOTTEN: &str = "list it in a schedule, or set `enabled: false`";

/// Tasks that no schedule has and that nobody runs either: by name, with what is said of each.
pub fn forgotten(
    config: &Config,
    last: impl Fn(&str) -> Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Vec<(&str, String)> {
    let told = config.unscheduled().filter_map(|task| {
        let name = task.name.as_str();
        let ran = match last(name) {
            None => "has never run".to_owned(),
            Some(at) if now - at > LONG_UNRUN => format!("last ran {}", age(at, now)),
            Some(_) => return None,
        };
        Some((name, format!("task {name} is in no schedule, and {ran}")))
    });
    told.collect()
}

/// Why a period in which nothing failed was not a good one.
pub(super) fn reasons(
    config: &Config,
    tasks: &[TaskLine],
    overdue: &[Overdue],
    pauses: &[Pause],
    scope: &Scope,
) -> Vec<Reason> {
    let attention = |text: String| Reason {
        verdict: Verdict::Attention,
        text,
    };
    let shown_at = |at: &DateTime<Utc>| {
        at.with_timezone(&config.timezone)
            .format("%a %Y-%m-%d %H:%M %Z")
            .to_string()
    };
    let mut told = Vec::new();
    for one in overdue {
        let Some(first) = one.at.first().filter(|at| **at < scope.period.until) else {
            continue;
        };
        told.push(attention(format!(
            "{}, first on {}: {}",
            one.text(),
            shown_at(first),
            one.hint()
        )));
    }
    let began = |pause: &&Pause| pause.since < scope.period.until;
    for pause in long_pauses(config, pauses, scope.now).filter(began) {
        told.push(attention(format!(
            "schedule {} is paused by {} since {}: `maint resume {}`",
            pause.schedule,
            shown(&pause.by),
            shown_at(&pause.since),
            pause.schedule
        )));
    }
    let ran = |task: &str, target: &str| {
        let mut lines = tasks.iter();
        lines.any(|line| line.task == task && line.target == target && line.last.is_some())
    };
    let silent = without_url(config, ran).into_iter();
    told.extend(silent.map(|(_, text)| attention(text)));
    // Before anything has run nothing is late.
    if tasks.iter().any(|line| line.last.is_some()) {
        let last = |task: &str| {
            let lines = tasks.iter().filter(|line| line.task == task);
            lines
                .filter_map(|line| Some(line.last.as_ref()?.started_at))
                .max()
        };
        let forgotten = forgotten(config, last, scope.now).into_iter();
        told.extend(forgotten.map(|(_, text)| attention(format!("{text}: {FORGOTTEN}"))));
    }
    told
}
