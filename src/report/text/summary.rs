//! What a run came to, on one screen: the verdict, a line per step, failures and findings in short.

use super::marks::{step_ink, step_mark};
use super::parts::{
    CHECKS, Page, findings, heading, next_step, rows_of, saved_bytes, short_id, sizes, totals,
};
use super::waits::{blocker, in_the_way};
use super::words::counted;
use super::{Align, Cell, Columns, Cut, Ink, Style, human_bytes, human_duration_ms, shown};
use crate::history::{RunRecord, StepRecord, StepStatus};
use crate::values::Engine;

/// Findings and failures told in full before pointing to `maint show`: more
/// would push the table of steps off the screen.
const MOST_TOLD: usize = 10;

/// What a run came to: the verdict, a line per step, failures with cause,
/// blocker and what to do, findings, totals.
pub fn run_summary(run: &RunRecord, engine: Engine, style: &Style) -> String {
    let mut page = Page {
        text: String::new(),
        style,
    };
    heading(&mut page, run);
    let (steps, more) = worth_a_line(run);
    if !steps.is_empty() {
        page.line("");
        page.text.push_str(&steps_table(&steps, engine, style));
    }
    if more > 0 && !steps.is_empty() {
        page.line(&format!(
            "  … and {}: maint show {}",
            counted(more, "more step"),
            short_id(run)
        ));
    }
    failures(&mut page, run);
    findings(&mut page, run, MOST_TOLD);
    totals(&mut page, run, engine);
    if !run.steps.is_empty() || !run.findings.is_empty() {
        page.line(&style.paint(
            Ink::Faint,
            &format!("Details: maint show {}", short_id(run)),
        ));
    }
    page.text
}

/// So many steps have a line of their own.
const MOST_STEPS: usize = 40;

/// The steps to be listed, and how many are not: those that ended otherwise than well, then the first
/// of the others. Checks that passed are a number.
fn worth_a_line(run: &RunRecord) -> (Vec<&StepRecord>, usize) {
    let well = |step: &&StepRecord| step.status == StepStatus::Succeeded;
    let mut steps: Vec<&StepRecord> = run.steps.iter().filter(|step| !well(step)).collect();
    let room = match run.kind == CHECKS {
        true => 0,
        false => MOST_STEPS.saturating_sub(steps.len()),
    };
    steps.extend(run.steps.iter().filter(well).take(room));
    steps.truncate(MOST_STEPS);
    steps.sort_by_key(|step| step.seq);
    let more = run.steps.len() - steps.len();
    (steps, more)
}

fn steps_table(steps: &[&StepRecord], engine: Engine, style: &Style) -> String {
    let mut table = Columns::new()
        .column("#", Align::Right, Cut::Never)
        .column("", Align::Left, Cut::Never)
        .column("object", Align::Left, Cut::Middle)
        .column("action", Align::Left, Cut::Never)
        .column("before → after", Align::Left, Cut::Never)
        .column("saved", Align::Right, Cut::Never)
        .column(format!("{}s", engine.counted()), Align::Right, Cut::Never)
        .column("time", Align::Right, Cut::Never)
        .column("note", Align::Left, Cut::End);
    for step in steps {
        let ink = step_ink(step.status);
        let time = if step.attempts > 0 {
            human_duration_ms(step.duration_ms)
        } else {
            String::new()
        };
        table.row([
            Cell::new(Ink::Faint, step.seq.to_string()),
            Cell::new(ink, step_mark(step.status)),
            Cell::from(&step.object),
            Cell::from(&step.action),
            Cell::from(sizes(step)),
            saved_bytes(step).map_or_else(Cell::default, |saved| {
                Cell::new(
                    if saved < 0 { Ink::Warning } else { Ink::Plain },
                    human_bytes(saved),
                )
            }),
            rows_of(step).map_or_else(Cell::default, Cell::from),
            Cell::from(time),
            Cell::new(ink, note(step)),
        ]);
    }
    table.render(2, style)
}

/// What the mark alone does not say.
fn note(step: &StepRecord) -> String {
    if step.status == StepStatus::Succeeded {
        return if step.attempts > 1 {
            format!("{} attempts", step.attempts)
        } else {
            String::new()
        };
    }
    let status = step.status;
    match &step.error {
        // Told in full below; here it would only cut the name of the object.
        _ if status == StepStatus::Failed => status.to_string(),
        Some(error) => format!("{status}: {}", error.lines().next().unwrap_or_default()),
        None => status.to_string(),
    }
}

fn failures(page: &mut Page<'_>, run: &RunRecord) {
    let failed: Vec<&StepRecord> = run
        .steps
        .iter()
        .filter(|step| step.status == StepStatus::Failed)
        .collect();
    if failed.is_empty() {
        return;
    }
    let style = page.style;
    page.line("");
    page.line(&style.paint(Ink::Strong, "Failed:"));
    for step in failed.iter().take(MOST_TOLD) {
        page.line(&format!(
            "  {} {} {}",
            style.paint(Ink::Bad, &step.seq.to_string()),
            shown(&step.action),
            shown(&step.object)
        ));
        page.field(4, "cause", step.error.as_deref().unwrap_or("not recorded"));
        if let Some(wait) = in_the_way(step) {
            page.field(4, "blocker", &blocker(wait));
        }
        if step.attempts > 1 {
            page.field(4, "tried", &counted(step.attempts as usize, "time"));
        }
        next_step(page, run, step);
    }
    if let Some(more @ 1..) = failed.len().checked_sub(MOST_TOLD) {
        page.line(&format!(
            "  … and {more} more: maint show {}",
            short_id(run)
        ));
    }
}
