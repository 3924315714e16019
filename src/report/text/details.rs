//! Everything that was recorded of a run, or of one of its steps, as text.

use super::parts::{
    Page, blocker, findings, grew, heading, moment, next_step, rows_of, saved_bytes, sizes,
    step_ink, step_mark, totals, waiter,
};
use super::words::counted;
use super::{Ink, Style, human_bytes, human_duration_ms, shown};
use crate::history::{RunRecord, StepRecord, StepStatus};
use crate::values::Engine;

/// Everything recorded of a run: each step with its reason, statement,
/// timing, attempts and lock waits, and every finding.
pub fn run_details(run: &RunRecord, engine: Engine, style: &Style) -> String {
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
    page.field(2, "inspected", &human_duration_ms(run.inspect_ms));
    for step in &run.steps {
        page.line("");
        tell(&mut page, run, step, engine);
    }
    findings(&mut page, run, usize::MAX);
    totals(&mut page, run, engine);
    page.text
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
        page.field(
            4,
            "started",
            &format!("{}, took {took}, {attempts}", moment(started, style)),
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
