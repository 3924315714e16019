//! Everything that was recorded of a run, or of one of its steps, as text.

use super::marks::{step_ink, step_mark};
use super::parts::{
    Page, findings, grew, heading, moment, next_step, rows_of, saved_bytes, short_id, sizes, totals,
};
use super::waits::{blocker, waiter};
use super::words::counted;
use super::{Ink, Style, human_bytes, human_count, human_duration_ms, shown};
use crate::history::{RunRecord, RunStatus, StepRecord, StepStatus};
use crate::values::Engine;

/// Everything recorded of a run: each step with its reason, statement,
/// timing, attempts and lock waits, and every finding.
pub fn run_details(run: &RunRecord, engine: Engine, style: &Style) -> String {
    let steps: Vec<&StepRecord> = run.steps.iter().collect();
    details(run, &steps, engine, style)
}

/// The same, of a run with many steps only of those that did not end well, failures first, and of
/// some of the others.
pub fn run_details_folded(run: &RunRecord, engine: Engine, style: &Style) -> String {
    let mut steps: Vec<&StepRecord> = run.steps.iter().collect();
    if steps.len() > MOST_STEPS {
        steps.sort_by_key(|step| match step.status {
            StepStatus::Failed => (0, step.seq),
            StepStatus::Succeeded => (2, step.seq),
            _ => (1, step.seq),
        });
        steps.truncate(MOST_STEPS);
    }
    details(run, &steps, engine, style)
}

/// So many steps are told in full.
const MOST_STEPS: usize = 40;

fn details(run: &RunRecord, steps: &[&StepRecord], engine: Engine, style: &Style) -> String {
    let mut page = Page {
        text: String::new(),
        style,
    };
    heading(&mut page, run);
    page.line("");
    page.field(2, "id", &run.id.to_string());
    page.field(2, "process", &format!("pid {} on {}", run.pid, run.host));
    if let Some(part) = &run.part {
        page.field(2, "limited", part);
    }
    if let Some(finished) = run.finished_at {
        page.field(2, "finished", &moment(finished, style));
    }
    // Nothing is known of it before it has come to an end.
    if run.status != RunStatus::Running || run.inspect_ms > 0 {
        page.field(2, "inspected", &human_duration_ms(run.inspect_ms));
    }
    if run.steps.len() > MOST_STEPS {
        page.field(2, "steps", &by_status(run));
    }
    for step in steps {
        page.line("");
        tell(&mut page, run, step, engine);
    }
    if let Some(more @ 1..) = run.steps.len().checked_sub(steps.len()) {
        page.line("");
        page.line(&format!(
            "  … and {}: maint show {} --all",
            counted(more, "more step"),
            short_id(run)
        ));
    }
    findings(&mut page, run, usize::MAX);
    totals(&mut page, run, engine);
    page.text
}

/// How many steps there are, and how they ended, failures first.
fn by_status(run: &RunRecord) -> String {
    let mut counts: Vec<(StepStatus, usize)> = Vec::new();
    for step in &run.steps {
        match counts.iter_mut().find(|(status, _)| *status == step.status) {
            Some((_, count)) => *count += 1,
            None => counts.push((step.status, 1)),
        }
    }
    counts.sort_by_key(|(status, count)| (*status != StepStatus::Failed, *count));
    let counts = counts.iter().map(|(status, count)| {
        let count = human_count(i64::try_from(*count).unwrap_or(i64::MAX));
        format!("{count} {}", status.as_str())
    });
    format!(
        "{}: {}",
        human_count(i64::try_from(run.steps.len()).unwrap_or(i64::MAX)),
        counts.collect::<Vec<_>>().join(", ")
    )
}

/// Everything recorded of one step, the locks that its statement takes, and
/// what was noticed of its object.
pub fn step_details(
    run: &RunRecord,
    step: &StepRecord,
    engine: Engine,
    locks: Option<&[String]>,
    style: &Style,
) -> String {
    let mut page = Page {
        text: String::new(),
        style,
    };
    page.field(
        0,
        "run",
        &format!("{} ({} on {})", run.id, run.task, run.target),
    );
    tell(&mut page, run, step, engine);
    let unknown = ["not known: the target is not in the configuration any more".to_owned()];
    for lock in locks.unwrap_or(&unknown) {
        page.field(4, "locks", lock);
    }
    if let (Some(predicted), true) = (step.predicted_ms, step.started_at.is_some()) {
        let off = step.duration_ms.saturating_sub(predicted);
        let off = match off {
            0 => "exactly as predicted".to_owned(),
            1.. => format!("{} longer than predicted", human_duration_ms(off)),
            _ => format!(
                "{} less than predicted",
                human_duration_ms(off.saturating_neg())
            ),
        };
        page.field(4, "time", &off);
    }
    for finding in run.findings.iter().filter(|one| one.object == step.object) {
        page.field(
            4,
            "noticed",
            &format!("{} [{}]", finding.message, finding.code),
        );
    }
    page.text
}

fn tell(page: &mut Page<'_>, run: &RunRecord, step: &StepRecord, engine: Engine) {
    let style = page.style;
    let ink = step_ink(step.status);
    let what = format!("{} {}", shown(&step.action), shown(&step.object));
    page.line(&format!(
        "{} {} {}: {}",
        style.paint(ink, step_mark(step.status)),
        style.paint(Ink::Faint, &step.seq.to_string()),
        style.paint(Ink::Strong, &what),
        style.paint(ink, step.status.as_str())
    ));
    page.field(4, "reason", &step.reason);
    if let Some(predicted) = step.predicted_ms {
        page.field(4, "predicted", &human_duration_ms(predicted));
    }
    if let Some(started) = step.started_at {
        let took = human_duration_ms(step.duration_ms);
        let attempts = counted(step.attempts as usize, "attempt");
        let took = match step.status {
            StepStatus::Running => format!("at it for {took}"),
            _ => format!("took {took}"),
        };
        page.field(
            4,
            "started",
            &format!("{}, {took}, {attempts}", moment(started, style)),
        );
    }
    let size = match saved_bytes(step) {
        Some(saved) if saved < 0 => {
            format!("{}, {}", sizes(step), grew(run, saved))
        }
        Some(saved) => format!("{}, saved {}", sizes(step), human_bytes(saved)),
        None => sizes(step),
    };
    if !size.is_empty() {
        page.field(4, "size", &size);
    }
    if let Some(rows) = rows_of(step) {
        page.field(4, &format!("{}s", engine.counted()), &rows);
    }
    for wait in &step.lock_waits {
        let (name, who) = match wait.stepped_back {
            true => ("stepped back", waiter(wait)),
            false => ("blocker", blocker(wait)),
        };
        page.field(4, name, &format!("attempt {}: {who}", wait.attempt));
    }
    for pause in &step.throttled {
        page.field(
            4,
            "paused",
            &format!(
                "{}: {} (`throttle.{}`)",
                human_duration_ms(pause.waited_ms),
                pause.reason,
                pause.setting
            ),
        );
    }
    if let Some(error) = &step.error {
        page.field(
            4,
            if step.status == StepStatus::Failed {
                "cause"
            } else {
                "why"
            },
            error,
        );
    }
    if step.status == StepStatus::Failed {
        next_step(page, run, step);
    }
    page.statement(4, "statement", &step.statement);
}
