//! How it stands with each task on each target, worst first. Pure.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::model::{LastRun, Standing, TaskLine};
use crate::config::Config;
use crate::history::{FindingState, Pause, RunStatus, TaskTotals, TrackedFinding};
use crate::plan::Severity;
use crate::values::natural;

/// What ran, and what is configured but never did. Tasks that are neither
/// configured nor ran in the period are history.
pub(super) fn lines(
    config: &Config,
    totals: Vec<TaskTotals>,
    found: &[TrackedFinding],
) -> Vec<TaskLine> {
    let mut lines: BTreeMap<(String, String), TaskLine> = BTreeMap::new();
    for task in config.tasks.values() {
        for target in &task.targets {
            let configured = config.targets.get(target).is_some_and(|one| one.configured);
            let line = TaskLine {
                task: task.name.clone(),
                target: target.clone(),
                engine: Some(task.engine),
                kind: task.kind.clone(),
                enabled: task.enabled && configured,
                standing: Standing::Never,
                runs: 0,
                failed: 0,
                incomplete: 0,
                last: None,
                outcome: None,
                last_success_at: None,
                next_at: None,
                rows: 0,
                bytes_reclaimed: 0,
                recent_ms: Vec::new(),
                against_usual: None,
            };
            lines.insert((task.name.clone(), target.clone()), line);
        }
    }
    for sum in totals {
        let key = (sum.task.clone(), sum.target.clone());
        if sum.runs == 0 && !lines.contains_key(&key) {
            continue;
        }
        let enabled = lines.get(&key).is_some_and(|line| line.enabled);
        let engine = config.target(&sum.target).map(|target| target.engine);
        let against_usual = against_usual(&sum.recent_ms);
        let line = TaskLine {
            task: sum.task,
            target: sum.target,
            engine,
            kind: sum.kind,
            enabled,
            standing: Standing::Never,
            runs: sum.runs,
            failed: sum.failed + sum.partial,
            incomplete: sum.incomplete,
            last: Some(LastRun {
                id: sum.last_run,
                status: sum.last_status,
                started_at: sum.last_started_at,
                duration_ms: sum.last_duration_ms,
            }),
            outcome: sum.outcome,
            last_success_at: sum.last_success_at,
            next_at: None,
            rows: sum.rows,
            bytes_reclaimed: sum.bytes_reclaimed,
            recent_ms: sum.recent_ms,
            against_usual,
        };
        lines.insert(key, line);
    }
    let shown = |line: &TaskLine| line.enabled || line.runs > 0;
    let mut lines: Vec<TaskLine> = lines.into_values().filter(shown).collect();
    let critical: BTreeSet<Uuid> = found
        .iter()
        .filter(|one| one.severity == Severity::Critical && one.state != FindingState::Gone)
        .map(|one| one.run)
        .collect();
    for line in &mut lines {
        line.standing = standing(line, &critical);
    }
    // What is well may be folded, and is read last.
    lines.sort_by(|a, b| {
        let by_name = || natural(&a.task, &b.task).then_with(|| natural(&a.target, &b.target));
        a.standing.cmp(&b.standing).then_with(by_name)
    });
    lines
}

/// How it stands with a task; runs that found something critical are given.
fn standing(line: &TaskLine, critical: &BTreeSet<Uuid>) -> Standing {
    if !line.enabled {
        return Standing::Off;
    }
    let Some(last) = &line.last else {
        return Standing::Never;
    };
    let outcome = line.outcome.as_ref();
    let found = outcome.is_some_and(|one| critical.contains(&one.run));
    let as_ever = line.failed + line.incomplete == 0 && last.status == RunStatus::Succeeded;
    match outcome.map(|one| one.status) {
        Some(RunStatus::Failed | RunStatus::Interrupted) => Standing::Failed,
        Some(RunStatus::Partial) => Standing::Partly,
        _ if found || critical.contains(&last.id) => Standing::Critical,
        Some(RunStatus::Incomplete) => Standing::Incomplete,
        _ if as_ever => Standing::Well,
        _ => Standing::Mixed,
    }
}

fn against_usual(recent_ms: &[i64]) -> Option<f64> {
    let (last, earlier) = recent_ms.split_last()?;
    let mut earlier = earlier.to_vec();
    earlier.sort_unstable();
    let usual = *earlier.get(earlier.len() / 2)?;
    (earlier.len() >= 2 && usual > 0).then(|| *last as f64 / usual as f64)
}

/// When the first of its schedules that is not paused then runs a task next.
pub(super) fn next_run(
    config: &Config,
    task: &str,
    pauses: &[Pause],
    now: DateTime<Utc>,
) -> Option<DateTime<Utc>> {
    config
        .schedules
        .values()
        .filter(|schedule| schedule.enabled && schedule.tasks.iter().any(|one| one == task))
        .filter_map(|schedule| {
            let zone = schedule.timezone.unwrap_or(config.timezone);
            let pause = pauses.iter().find(|one| one.schedule == schedule.name);
            let from = match pause {
                // What falls due at its very end runs.
                Some(pause) => now.max(pause.until? - TimeDelta::seconds(1)),
                None => now,
            };
            schedule.cron.next_after(from, zone)
        })
        .min()
}
