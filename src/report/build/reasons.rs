//! Why not all is well: the worst first, the same on several targets as one.

use super::super::model::{Findings, Numbers, Reason, TaskLine, TroubleLine, Verdict};
use super::super::text::{counted, shown};
use super::super::troubles::left_behind;
use crate::config::Config;
use crate::history::{FindingState, RunStatus};
use crate::plan::Severity;
use crate::values::natural;

/// Reasons told one by one before they are only counted.
const MOST_REASONS: usize = 8;

pub(super) fn reasons(
    tasks: &[TaskLine],
    findings: &Findings,
    troubles: &[TroubleLine],
    summary: &Numbers,
) -> Vec<Reason> {
    let mut told = Vec::new();
    // What is said before the target, the target, and what is said behind it.
    let mut add = |verdict, before: &str, target: &str, behind: String| {
        told.push((verdict, before.to_owned(), target.to_owned(), behind));
    };
    for line in tasks.iter().filter(|line| line.enabled) {
        let Some(last) = &line.outcome else { continue };
        let (task, target) = (&line.task, &line.target);
        let cause = troubles
            .iter()
            .find(|one| {
                let there = one.trouble.run == last.run || one.also_on.contains(target);
                there && one.trouble.task == *task && one.trouble.failed
            })
            .and_then(|one| one.trouble.error.as_deref())
            .map_or_else(String::new, |error| format!(": {}", shown(error)));
        match last.status {
            RunStatus::Failed => add(Verdict::Attention, task, target, format!(" failed{cause}")),
            RunStatus::Interrupted => add(
                Verdict::Attention,
                task,
                target,
                " was interrupted: its process died".to_owned(),
            ),
            RunStatus::Partial => add(
                Verdict::Attention,
                task,
                target,
                format!(" failed in part{cause}"),
            ),
            RunStatus::Incomplete => add(
                Verdict::Watch,
                task,
                target,
                " left work for the next run, which begins with it".to_owned(),
            ),
            RunStatus::Succeeded => {
                if let Some(left) = left_behind(last.run, troubles) {
                    add(Verdict::Watch, task, target, left);
                }
            }
            _ => {}
        }
    }
    if summary.missed > 0 {
        let missed = counted(usize::try_from(summary.missed).unwrap_or(0), "occurrence");
        add(Verdict::Attention, "", "", format!("{missed} did not run"));
    }
    for line in &findings.listed {
        let finding = &line.finding;
        let verdict = match (finding.severity, finding.state) {
            (_, FindingState::Gone) => continue,
            (Severity::Critical, _) => Verdict::Attention,
            (Severity::Warning, FindingState::New) => Verdict::Watch,
            _ => continue,
        };
        let object = shown(&finding.object);
        for target in line.targets() {
            let behind = format!(": {}", shown(&finding.message));
            add(verdict, &object, target, behind);
        }
    }
    let mut reasons = together(told);
    reasons.sort_by_key(|reason| std::cmp::Reverse(reason.verdict));
    reasons
}

/// The same of several targets is one reason.
fn together(told: Vec<(Verdict, String, String, String)>) -> Vec<Reason> {
    let mut groups: Vec<(Verdict, String, Vec<String>, String)> = Vec::new();
    for (verdict, before, target, behind) in told {
        let same = groups.iter_mut().find(|(known, what, targets, rest)| {
            (*known, what, rest) == (verdict, &before, &behind) && !targets.contains(&target)
        });
        match same {
            Some((_, _, targets, _)) => targets.push(target),
            None => groups.push((verdict, before, vec![target], behind)),
        }
    }
    groups
        .into_iter()
        .map(|(verdict, before, mut targets, behind)| {
            targets.sort_by(|a, b| natural(a, b));
            let where_ = match targets.as_slice() {
                [one] => shown(one).into_owned(),
                [one, two] => format!("{} and {}", shown(one), shown(two)),
                [first, .., last] => {
                    format!(
                        "{} targets ({} … {})",
                        targets.len(),
                        shown(first),
                        shown(last)
                    )
                }
                [] => String::new(),
            };
            let text = match (before.is_empty(), where_.is_empty()) {
                (true, _) => format!("{where_}{behind}"),
                (false, true) => format!("{before}{behind}"),
                (false, false) => format!("{before} on {where_}{behind}"),
            };
            Reason { verdict, text }
        })
        .collect()
}

/// Enabled tasks whose time by a schedule has come since anything ran here,
/// and that never ran on one of their targets.
pub(super) fn never_ran(
    config: &Config,
    tasks: &[TaskLine],
    now: chrono::DateTime<chrono::Utc>,
) -> Vec<Reason> {
    let began = tasks.iter().filter_map(|line| line.last.as_ref());
    let Some(began) = began.map(|last| last.started_at).min() else {
        return Vec::new();
    };
    let due = |line: &&TaskLine| {
        let schedules = config.schedules.values();
        let mut times = schedules
            .filter(|one| one.enabled && one.tasks.contains(&line.task))
            .filter_map(|one| {
                let zone = one.timezone.unwrap_or(config.timezone);
                one.cron.latest_at_or_before(now, zone)
            });
        times.any(|at| at >= began)
    };
    let never = tasks
        .iter()
        .filter(|line| line.enabled && line.last.is_none());
    never
        .filter(due)
        .map(|line| Reason {
            verdict: Verdict::Attention,
            text: format!("{} on {} has never run", line.task, shown(&line.target)),
        })
        .collect()
}

/// Beyond a few, reasons are only counted: the lists below have them.
pub(super) fn shorten(reasons: &mut Vec<Reason>) {
    let more = reasons.len().saturating_sub(MOST_REASONS);
    if more > 1 {
        let worst = reasons[MOST_REASONS..]
            .iter()
            .map(|reason| reason.verdict)
            .max();
        reasons.truncate(MOST_REASONS);
        reasons.push(Reason {
            verdict: worst.unwrap_or(Verdict::Watch),
            text: format!("and {more} more, told below"),
        });
    }
}
