//! What the history says that is not well, and since when.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};

use super::super::documents::NotWell as Reason;
use super::alike;
use crate::config::Config;
use crate::history::{
    FindingState, HistoryError, Letter, Neglect, Occurrence, OccurrenceFilter, OccurrenceStatus,
    Period, RunFilter, RunStatus, Store, TaskTotals, overdue, task_totals, with_known_databases,
};
use crate::plan::Severity;
use crate::report::text::counted;
use crate::report::{FORGOTTEN, forgotten, long_pauses, without_url};
use crate::scheduler::{troubles, with_reports, zone_of};

/// How a run ends that has not done what it was to do.
const FAILURES: [RunStatus; 3] = [
    RunStatus::Failed,
    RunStatus::Partial,
    RunStatus::Interrupted,
];

/// So many runs are read at once.
const PAGE: u32 = 1_000;

/// So many findings are read, the worst first.
const MOST_FINDINGS: u32 = 5_000;

/// Of so many findings it is looked up since when they are there: each costs a question.
const MOST_DATED: usize = 50;

/// Findings of earlier runs count for so long.
const LOOK_BACK: TimeDelta = TimeDelta::days(90);

/// Clocks of machines may differ by so much.
const CLOCKS_DIFFER: TimeDelta = TimeDelta::minutes(5);

/// Messages that were given up count for so long, or until one goes out.
const LOST_FOR: TimeDelta = TimeDelta::days(14);

/// A server that is busy for a moment, or lets strangers wait, has taken a message by then.
const GOES_WITHIN: TimeDelta = TimeDelta::minutes(10);

pub(super) async fn look(
    config: &Config,
    store: &dyn Store,
    now: DateTime<Utc>,
) -> Result<Vec<Reason>, HistoryError> {
    let config = &with_known_databases(config, store).await?;
    let mut reasons = Vec::new();
    let alerts = store.alerts().await?;
    let ever = Period {
        since: DateTime::UNIX_EPOCH,
        until: now + TimeDelta::seconds(1),
    };
    let totals = task_totals(store, &ever, 0).await?;
    let mut failing = Vec::new();
    for one in &totals {
        let outcome = one.outcome.as_ref();
        let failed = outcome.is_some_and(|last| FAILURES.contains(&last.status));
        let alert = alerts
            .iter()
            .find(|alert| alert.task == one.task && alert.target == one.target);
        // A task that is gone or off cannot succeed again, nor can one in a database that is gone.
        let task = config.tasks.get(&one.task).filter(|task| task.enabled);
        let enabled = task.is_some_and(|task| config.covers(task, &one.target));
        if enabled && (failed || alert.is_some()) {
            let since = match alert {
                Some(alert) => alert.since,
                None => failing_since(store, one).await?,
            };
            failing.push((one.task.as_str(), one.target.as_str(), since));
        }
    }
    reasons.extend(alike::failing(&failing));
    let period = Period {
        since: now - LOOK_BACK,
        until: now,
    };
    let tasks: Vec<String> = config.tasks.keys().cloned().collect();
    let summaries = store.summaries();
    if !tasks.is_empty() {
        let findings = summaries
            .tracked_findings(&period, &tasks, MOST_FINDINGS)
            .await?;
        let open = findings.listed.into_iter();
        let open =
            open.filter(|one| one.state != FindingState::Gone && !config.is_gone(&one.target));
        let told = alike::findings(open.collect(), config.targets.len() > 1);
        for (n, (one, mut reason)) in told.into_iter().enumerate() {
            if n < MOST_DATED {
                let seen = summaries.seen_since(one.run, &one.code, &one.object, period.since);
                reason.since = seen.await?;
            }
            reasons.push(reason);
        }
    }
    for text in troubles(store, now).await? {
        reasons.push(Reason {
            targets: Vec::new(),
            severity: Severity::Warning,
            since: None,
            text,
            hint: None,
        });
    }
    reasons.extend(begun_later(store, now).await?);
    reasons.extend(unsent(
        store
            .stuck_letters(now - LOST_FOR, now - GOES_WITHIN)
            .await?,
    ));
    for one in overdue(config, store, now).await? {
        reasons.push(Reason {
            targets: Vec::new(),
            severity: match one.why {
                Neglect::NotSince | Neglect::LeftBehind(_) => Severity::Critical,
                Neglect::Never | Neglect::Waits(_) => Severity::Warning,
            },
            since: one.at.first().copied(),
            text: one.text(),
            hint: Some(one.hint()),
        });
    }
    for name in scheduled(&with_reports(config)) {
        let Some(one) = newest_over(store, name, now).await? else {
            continue;
        };
        let left = one
            .reason
            .as_deref()
            .filter(|_| one.succeeded == Some(false));
        if let Some(left) = left {
            reasons.push(Reason {
                targets: Vec::new(),
                severity: Severity::Warning,
                since: Some(one.scheduled_for),
                text: format!("schedule {name} did not do all that it was to do: {left}"),
                hint: Some("maint next".to_owned()),
            });
        }
        if one.status == OccurrenceStatus::Missed {
            reasons.push(Reason {
                targets: Vec::new(),
                severity: Severity::Warning,
                since: Some(one.scheduled_for),
                text: format!(
                    "schedule {} was missed, and has not run since: {}",
                    one.schedule,
                    one.reason.as_deref().unwrap_or("nobody was there")
                ),
                hint: Some(format!("maint run --due --schedule {name}")),
            });
        }
    }
    for pause in long_pauses(config, &store.pauses().await?, now) {
        reasons.push(Reason {
            targets: Vec::new(),
            severity: Severity::Warning,
            since: Some(pause.since),
            text: format!("schedule {} is paused by {}", pause.schedule, pause.by),
            hint: Some(format!("maint resume {}", pause.schedule)),
        });
    }
    reasons.extend(unconfigured(config, &totals));
    reasons.extend(never_ran(config, &totals, now));
    if !totals.is_empty() {
        let last = |task: &str| {
            let all = totals.iter().filter(|one| one.task == task);
            all.map(|one| one.last_started_at).max()
        };
        let told = forgotten(config, last, now).into_iter();
        reasons.extend(told.map(|(task, text)| Reason {
            targets: Vec::new(),
            severity: Severity::Warning,
            since: last(task),
            text,
            hint: Some(format!(
                "{FORGOTTEN}; `maint run {task} --now` runs it once"
            )),
        }));
    }
    Ok(reasons)
}

/// Runs that began later than now: the clock was set back since, or another machine's is ahead. What became of them
/// counts for nothing until then, and a task that failed would be taken for well.
async fn begun_later(
    store: &dyn Store,
    now: DateTime<Utc>,
) -> Result<Option<Reason>, HistoryError> {
    let filter = RunFilter {
        since: Some(now + CLOCKS_DIFFER),
        limit: Some(PAGE),
        ..RunFilter::default()
    };
    let runs = store.runs(&filter).await?;
    let Some(newest) = runs.first() else {
        return Ok(None);
    };
    Ok(Some(Reason {
        targets: Vec::new(),
        severity: Severity::Warning,
        since: None,
        text: format!(
            "{} of the history began later than now, the newest ({} on {}) on {}: a clock was ahead, or this one is behind, and what became of them does not count until then",
            counted(runs.len(), "run"),
            newest.task,
            newest.target,
            newest.started_at.format("%Y-%m-%d %H:%M UTC"),
        ),
        hint: Some(
            "set the clocks (NTP), and run these tasks again: `maint run TASK --now`".to_owned(),
        ),
    }))
}

/// Messages that nobody gets: who waits for one would hear of nothing.
fn unsent(letters: Vec<Letter>) -> Vec<Reason> {
    let mut by_channel: BTreeMap<String, Vec<Letter>> = BTreeMap::new();
    for letter in letters {
        let of_channel = by_channel.entry(letter.channel.clone()).or_default();
        of_channel.push(letter);
    }
    let reasons = by_channel.into_iter().map(|(channel, letters)| {
        let why = letters
            .iter()
            .rev()
            .find_map(|one| one.last_error.as_deref());
        Reason {
            targets: Vec::new(),
            severity: Severity::Critical,
            since: letters.first().map(|one| one.created_at),
            text: format!(
                "{} did not go out ({channel}): {}",
                counted(letters.len(), "message"),
                why.unwrap_or("nobody knows why")
            ),
            hint: Some("`maint notify test` once that is mended".to_owned()),
        }
    });
    reasons.collect()
}

/// When a task failed first that has not succeeded since.
async fn failing_since(store: &dyn Store, one: &TaskTotals) -> Result<DateTime<Utc>, HistoryError> {
    let well = RunFilter {
        task: Some(one.task.clone()),
        target: Some(one.target.clone()),
        statuses: vec![RunStatus::Succeeded, RunStatus::Incomplete],
        limit: Some(1),
        ..RunFilter::default()
    };
    let well_at = store.runs(&well).await?.pop().map(|run| run.started_at);
    let mut page = RunFilter {
        statuses: FAILURES.to_vec(),
        since: well_at,
        limit: Some(PAGE),
        ..well
    };
    let last = one.outcome.as_ref();
    let mut first = last.map_or(one.last_started_at, |last| last.started_at);
    loop {
        let runs = store.runs(&page).await?;
        let Some(last) = runs.last() else {
            return Ok(first);
        };
        first = last.started_at;
        page.after = Some((last.started_at, last.id));
    }
}

fn scheduled(config: &Config) -> impl Iterator<Item = &String> {
    let enabled = config.schedules.iter().filter(|(_, one)| one.enabled);
    enabled.map(|(name, _)| name)
}

/// The newest occurrence of a schedule that is over and was not skipped.
async fn newest_over(
    store: &dyn Store,
    schedule: &str,
    now: DateTime<Utc>,
) -> Result<Option<Occurrence>, HistoryError> {
    let over = OccurrenceFilter {
        schedule: Some(schedule.to_owned()),
        statuses: vec![
            OccurrenceStatus::Missed,
            OccurrenceStatus::Ran,
            OccurrenceStatus::CaughtUp,
        ],
        since: Some(now - LOOK_BACK),
        until: Some(now),
        limit: Some(1),
    };
    Ok(store.occurrences(&over).await?.pop())
}

/// Targets without a URL on which enabled tasks have run, or that are all there are.
fn unconfigured(config: &Config, totals: &[TaskTotals]) -> Vec<Reason> {
    let last = |target: &str| {
        let there = totals.iter().filter(|one| one.target == target);
        there.map(|one| one.last_started_at).max()
    };
    let ran = |task: &str, target: &str| {
        let mut all = totals.iter();
        all.any(|one| one.task == task && one.target == target)
    };
    let silent = without_url(config, ran).into_iter();
    let reasons = silent.map(|(target, text)| Reason {
        targets: Vec::new(),
        severity: Severity::Warning,
        since: last(target),
        text,
        hint: None,
    });
    reasons.collect()
}

/// Enabled tasks that a schedule has, whose time has come since anything ran here, and that never
/// ran on one of their targets.
fn never_ran(config: &Config, totals: &[TaskTotals], now: DateTime<Utc>) -> Vec<Reason> {
    let first = totals.iter().map(|one| one.last_started_at).min();
    let mut reasons = Vec::new();
    for task in config.tasks.values().filter(|task| task.enabled) {
        let due = config
            .schedules
            .values()
            .filter(|one| one.enabled && one.tasks.contains(&task.name))
            .filter_map(|one| one.cron.latest_at_or_before(now, zone_of(config, one)))
            .max();
        let Some(due) = due else { continue };
        if task.targets.is_empty() {
            reasons.push(Reason {
                targets: Vec::new(),
                severity: Severity::Warning,
                since: None,
                text: format!(
                    "{} runs nowhere: the group {} has no members",
                    task.name, task.target
                ),
                hint: Some("maint check".to_owned()),
            });
        }
        let never = task.targets.iter().filter(|target| {
            let configured = config
                .targets
                .get(*target)
                .is_some_and(|one| one.configured);
            let ran = totals
                .iter()
                .any(|one| one.task == task.name && one.target == **target);
            !ran && configured && first.is_some_and(|first| due >= first)
        });
        reasons.extend(alike::never_ran(&task.name, never.cloned().collect()));
    }
    reasons
}
