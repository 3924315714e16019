//! Who is told what, and when: pure.

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use uuid::Uuid;

use crate::config::{Config, Event, Schedule};
use crate::history::{Alert, Notice, RunRecord, RunStatus, StepStatus};
use crate::plan::{Finding, Severity};
use crate::report::{Message, error_text, finding_text};

/// Steps of a failed run told one by one.
const MOST_STEPS: usize = 3;
/// Findings of one run told one by one.
const MOST_FINDINGS: usize = 5;

/// What the end of a run is worth telling as; `None` while it runs, and for
/// what a person did.
pub(super) fn event_of(status: RunStatus) -> Option<Event> {
    match status {
        RunStatus::Succeeded => Some(Event::Succeeded),
        RunStatus::Incomplete => Some(Event::Incomplete),
        RunStatus::Partial => Some(Event::Partial),
        RunStatus::Failed => Some(Event::Failed),
        RunStatus::Interrupted => Some(Event::Interrupted),
        RunStatus::Running | RunStatus::Skipped | RunStatus::Cancelled => None,
    }
}

/// Whether it opens an alert, which the next success closes.
pub(super) fn is_failure(status: RunStatus) -> bool {
    matches!(
        status,
        RunStatus::Failed | RunStatus::Partial | RunStatus::Interrupted
    )
}

/// The word of an event, as in `notify: on:`.
pub(super) const fn word(event: Event) -> &'static str {
    match event {
        Event::Succeeded => "succeeded",
        Event::Incomplete => "incomplete",
        Event::Partial => "partial",
        Event::Failed => "failed",
        Event::Interrupted => "interrupted",
        Event::Missed => "missed",
        Event::Warning => "warning",
        Event::Critical => "critical",
    }
}

pub(super) const RECOVERED: &str = "recovered";
pub(super) const ESCALATED: &str = "escalated";

/// The message that tells an event.
pub(super) fn message_of(event: &str) -> Message {
    match event {
        RECOVERED => Message::Recovered,
        ESCALATED => Message::Escalation,
        "missed" => Message::Missed,
        _ => Message::Failed,
    }
}

/// A notice about a run.
pub(super) fn notice(event: &str, run: &RunRecord, schedule: Option<&str>, text: String) -> Notice {
    Notice {
        id: Uuid::now_v7(),
        at: run.finished_at.unwrap_or(run.started_at),
        event: event.to_owned(),
        task: run.task.clone(),
        target: run.target.clone(),
        schedule: schedule.map(str::to_owned),
        run: Some(run.id),
        text,
    }
}

/// How a run ended, in a sentence; nothing of what rows contain.
pub(super) fn outcome(run: &RunRecord) -> String {
    if let Some(error) = &run.error {
        return error_text(error);
    }
    let failed: Vec<_> = run
        .steps
        .iter()
        .filter(|step| step.status == StepStatus::Failed)
        .collect();
    match run.status {
        RunStatus::Succeeded => format!("{} steps succeeded", run.steps.len()),
        RunStatus::Incomplete => {
            "Its time was up before its work was done; the rest comes first next time.".to_owned()
        }
        RunStatus::Interrupted => "Its process died.".to_owned(),
        _ if failed.is_empty() => "It failed.".to_owned(),
        _ => {
            let told: Vec<String> = failed
                .iter()
                .take(MOST_STEPS)
                .map(|step| {
                    let error = step.error.as_deref().map(error_text).unwrap_or_default();
                    format!("{} {}: {error}", step.action, step.object)
                })
                .collect();
            format!(
                "{} of {} steps failed: {}{}",
                failed.len(),
                run.steps.len(),
                told.join("; "),
                if failed.len() > MOST_STEPS {
                    "; …"
                } else {
                    ""
                }
            )
        }
    }
}

/// Findings of a severity, in a line each.
pub(super) fn noticed(findings: &[&Finding]) -> String {
    let mut told: Vec<String> = findings
        .iter()
        .take(MOST_FINDINGS)
        .map(|one| match one.object.as_str() {
            "" => finding_text(&one.message),
            object => format!("{object}: {}", finding_text(&one.message)),
        })
        // A line that somebody else has broken is still one.
        .map(|text| text.replace(['\n', '\r'], " "))
        .collect();
    let more = findings.len().saturating_sub(MOST_FINDINGS);
    if more > 0 {
        told.push(format!("… and {more} more"));
    }
    told.join("\n")
}

pub(super) fn of_severity(run: &RunRecord, severity: Severity) -> Vec<&Finding> {
    run.findings
        .iter()
        .filter(|finding| finding.severity == severity)
        .collect()
}

/// The schedule that an occurrence of a task belongs to.
pub fn schedule_of<'a>(
    config: &'a Config,
    task: &str,
    scheduled_for: Option<DateTime<Utc>>,
) -> Option<&'a Schedule> {
    let at = scheduled_for?;
    config.schedules.values().find(|schedule| {
        let zone = schedule.timezone.unwrap_or(config.timezone);
        schedule.enabled
            && schedule.tasks.iter().any(|one| one == task)
            && schedule.cron.latest_at_or_before(at, zone) == Some(at)
    })
}

/// Whether so many periods have passed without a success. Tasks without a
/// schedule have no periods.
pub(super) fn is_overdue(
    alert: &Alert,
    schedules: &[(&Schedule, Tz)],
    periods: u32,
    now: DateTime<Utc>,
) -> bool {
    let begin = alert
        .escalated_at
        .map_or(alert.since, |at| at.max(alert.since));
    periods > 0
        && schedules.iter().any(|(schedule, zone)| {
            let mut at = begin;
            (0..periods).all(|_| match schedule.cron.next_after(at, *zone) {
                Some(next) if next <= now => {
                    at = next;
                    true
                }
                _ => false,
            })
        })
}
