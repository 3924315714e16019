//! What a run has left for the next one, and what kept it from doing it.

use std::collections::BTreeMap;

use crate::execute::Pace;
use crate::history::{RunRecord, RunStatus, StepRecord, StepStatus};
use crate::plan::{Finding, KeptBy, Severity, predict};

/// So many steps are named.
const MOST_NAMED: usize = 5;
/// What is kept out so many times in a row does not get done by itself.
const IN_A_ROW: u32 = 3;

/// Tells what is left, by what kept it, and for how many runs in a row. `pace` knows of those before.
pub(super) fn tell(record: &mut RunRecord, pace: Option<&Pace>) {
    let ended = matches!(
        record.status,
        RunStatus::Succeeded | RunStatus::Incomplete | RunStatus::Partial | RunStatus::Failed
    );
    if !ended {
        return;
    }
    let mut by: BTreeMap<KeptBy, Vec<(&StepRecord, u32)>> = BTreeMap::new();
    for step in &record.steps {
        let Some(kept) = step.kept_by.filter(|one| one.code().is_some()) else {
            continue;
        };
        let before = pace.map_or(0, |pace| pace.kept_out(&step.action, &step.object));
        let times = before.saturating_add(1);
        // A table that somebody uses just now is skipped, and no news.
        if step.status == StepStatus::Skipped && times < IN_A_ROW {
            continue;
        }
        by.entry(kept).or_default().push((step, times));
    }
    let findings: Vec<Finding> = by
        .into_iter()
        .filter_map(|(kept, steps)| finding(kept, steps))
        .collect();
    let incomplete = record.status == RunStatus::Incomplete;
    if let (true, None, Some(first)) = (incomplete, &record.error, findings.first()) {
        record.error = Some(first.message.clone());
    }
    let left = match incomplete {
        true => left_over(&record.steps, pace),
        false => None,
    };
    record.findings.extend(findings);
    record.findings.extend(left);
}

/// Those that have waited longest come first.
fn finding(kept: KeptBy, mut steps: Vec<(&StepRecord, u32)>) -> Option<Finding> {
    steps.sort_by_key(|(_, times)| std::cmp::Reverse(*times));
    let (first, most) = *steps.first()?;
    let object = match steps.as_slice() {
        [(step, _)] => step.object.clone(),
        _ => String::new(),
    };
    let row = match most >= IN_A_ROW {
        true => format!(
            " ({} for {most} runs in a row, so by itself it will not get done)",
            named(&[first])
        ),
        false => String::new(),
    };
    let why = first.error.as_deref().map(|why| format!(": {why}"));
    let steps: Vec<&StepRecord> = steps.into_iter().map(|(step, _)| step).collect();
    Some(Finding {
        code: kept.code()?.to_owned(),
        severity: match most >= IN_A_ROW {
            true => Severity::Warning,
            false => Severity::Info,
        },
        object,
        message: format!(
            "{} {}{row}{}",
            kept.said(),
            named(&steps),
            why.unwrap_or_default()
        ),
        suggestion: None,
    })
}

fn named(steps: &[&StepRecord]) -> String {
    let named: Vec<String> = steps
        .iter()
        .take(MOST_NAMED)
        .map(|step| format!("{} {}", step.action, step.object))
        .collect();
    let more = match steps.len().checked_sub(named.len()) {
        Some(more @ 1..) => format!(" and {more} more"),
        _ => String::new(),
    };
    format!("{}{more}", named.join(", "))
}

/// What there was no time for.
fn left_over(steps: &[StepRecord], pace: Option<&Pace>) -> Option<Finding> {
    let left = |step: &&StepRecord| {
        matches!(step.status, StepStatus::Deferred | StepStatus::Cancelled)
            && step.kept_by.is_none_or(|by| by.code().is_none())
    };
    let left: Vec<&StepRecord> = steps.iter().filter(left).collect();
    let takes: i64 = left.iter().filter_map(|step| step.predicted_ms).sum();
    let takes = match takes {
        0 => String::new(),
        ms => format!("; predicted to take about {}", predict::human(ms)),
    };
    let pauses = steps.iter().flat_map(|step| &step.throttled);
    let paused = match pauses.map(|pause| pause.waited_ms).sum::<i64>() {
        0 => String::new(),
        ms => format!(
            "; {} of its time the run was paused by `throttle`",
            predict::human(ms)
        ),
    };
    let idle = steps.iter().all(|step| step.started_at.is_none());
    let still = |step: &&StepRecord| pace.map_or(0, |pace| pace.stands_still(step, idle));
    let stuck = left.iter().copied().max_by_key(still);
    let stuck = stuck.map(|step| (step, still(&step)));
    let stuck = stuck.filter(|(_, times)| *times >= IN_A_ROW);
    let row = stuck.map_or_else(String::new, |(step, times)| {
        format!(
            "; {} got nothing done in {times} runs in a row, so by itself it may never end",
            named(&[step])
        )
    });
    (!left.is_empty()).then(|| Finding {
        code: "time.left_over".to_owned(),
        severity: match stuck {
            Some(_) => Severity::Warning,
            None => Severity::Info,
        },
        object: String::new(),
        message: format!(
            "left for the next run, which begins with it: {}{row}{takes}{paused}",
            named(&left)
        ),
        suggestion: stuck.map(|_| {
            "a wider window, or a larger `limits.budget` or `limits.step_timeout`; `maint show last` says which of them ended it".to_owned()
        }),
    })
}
