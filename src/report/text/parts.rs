//! What a summary and the details of a run have in common.

use chrono::{DateTime, Utc};

use super::columns::{within, wrapped};
use super::marks::{run_ink, run_mark};
use super::waits::in_the_way;
use super::words::{counted, shell_word};
use super::{Ink, Style, human_bytes, human_count, human_duration_ms, shown};
use crate::history::{RunRecord, RunStatus, StepRecord, StepStatus};
use crate::kinds::removes_rows;
use crate::plan::{Finding, Severity};
use crate::values::Engine;

/// Text that grows by lines.
pub(super) struct Page<'a> {
    pub(super) text: String,
    pub(super) style: &'a Style,
}

impl Page<'_> {
    pub(super) fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    /// A named value, indented; it is escaped, and what is longer than the
    /// terminal goes on below itself.
    pub(super) fn field(&mut self, indent: usize, name: &str, value: &str) {
        let value = shown(value);
        let used = indent + FIELD_NAME + 1;
        // On a very narrow terminal the terminal's own wrapping reads better.
        let room = self
            .style
            .width
            .map(|width| width.saturating_sub(used).max(20));
        self.lines_of_field(indent, name, &wrapped(&value, room));
    }

    /// A statement, ready to paste: never wrapped, its own line breaks kept.
    pub(super) fn statement(&mut self, indent: usize, name: &str, statement: &str) {
        let lines: Vec<String> = statement
            .lines()
            .map(|line| shown(line).into_owned())
            .collect();
        self.lines_of_field(indent, name, &lines);
    }

    fn lines_of_field(&mut self, indent: usize, name: &str, lines: &[String]) {
        let mut label =
            self.style.paint(Ink::Faint, name) + &" ".repeat(FIELD_NAME.saturating_sub(name.len()));
        for line in lines {
            self.line(format!("{}{label} {line}", " ".repeat(indent)).trim_end());
            label = " ".repeat(FIELD_NAME);
        }
    }
}

/// Width of the names of fields; the longest is `statement`.
const FIELD_NAME: usize = 9;

/// The kind whose steps only look: what they found says more than that they were done.
pub(super) const CHECKS: &str = "integrity";

/// The two lines everything about a run begins with, and its error.
pub(super) fn heading(page: &mut Page<'_>, run: &RunRecord) {
    let took = human_duration_ms(run.duration_ms);
    let count = |status| {
        run.steps
            .iter()
            .filter(|step| step.status == status)
            .count()
    };
    let skipped = count(StepStatus::Skipped);
    let verdict = match run.status {
        // What only looks never has anything to do.
        RunStatus::Succeeded if run.steps.is_empty() && !run.findings.is_empty() => format!(
            "nothing changed, {} (looked for {})",
            counted(run.findings.len(), "finding"),
            human_duration_ms(run.inspect_ms)
        ),
        RunStatus::Succeeded if run.steps.is_empty() => format!(
            "nothing to do: no object needs it now (looked for {})",
            human_duration_ms(run.inspect_ms)
        ),
        RunStatus::Succeeded if skipped == run.steps.len() && run.rows == 0 => {
            let all = match skipped {
                1 => "its only step was".to_owned(),
                n => format!("all {} were", counted(n, "step")),
            };
            format!("nothing was done: {all} skipped (after {took})")
        }
        RunStatus::Succeeded if run.kind == CHECKS => format!(
            "{}, {} in {took}",
            counted(count(StepStatus::Succeeded), "check"),
            match run.findings.len() {
                0 => "all passed".to_owned(),
                n => counted(n, "finding"),
            }
        ),
        RunStatus::Succeeded if skipped > 0 => {
            format!("succeeded in {took}, {} skipped", counted(skipped, "step"))
        }
        RunStatus::Succeeded => format!("succeeded in {took}"),
        RunStatus::Incomplete => format!(
            "incomplete after {took}, {} left for the next run",
            counted(count(StepStatus::Deferred), "step")
        ),
        RunStatus::Partial if count(StepStatus::Failed) == 0 => {
            format!("partial after {took}, what else was asked for could not be done")
        }
        RunStatus::Partial => {
            format!(
                "partial after {took}, {} failed",
                counted(count(StepStatus::Failed), "step")
            )
        }
        RunStatus::Failed => format!("failed after {took}"),
        RunStatus::Skipped => "skipped".to_owned(),
        RunStatus::Cancelled => format!("cancelled after {took}"),
        RunStatus::Interrupted => format!("interrupted, last seen at work after {took}"),
        RunStatus::Running => format!("running for {took}"),
    };
    let style = page.style;
    // Somebody was in the way: nobody is to think that the work is done.
    let in_vain =
        |step: &StepRecord| step.status == StepStatus::Skipped && !step.lock_waits.is_empty();
    let ink = match run.status {
        RunStatus::Succeeded if run.steps.iter().any(in_vain) => Ink::Warning,
        status => run_ink(status),
    };
    let whose = format!("{} on {}:", shown(&run.task), shown(&run.target));
    let plain = format!("{} {whose} {verdict}", run_mark(run.status));
    // Wrapped before it is painted: what paints takes no room.
    let mut lines = within(&plain, style.width);
    let begin = format!("{} {whose}", run_mark(run.status));
    if let Some(rest) = lines.strip_prefix(&begin).map(str::to_owned) {
        let verdict = rest.lines().map(|line| match line.trim_start() {
            "" => String::new(),
            words => {
                let indent = &line[..line.len() - words.len()];
                format!("{indent}{}", style.paint(ink, words))
            }
        });
        lines = format!(
            "{} {}{}\n",
            style.paint(ink, run_mark(run.status)),
            style.paint(Ink::Strong, &whose),
            verdict.collect::<Vec<_>>().join("\n")
        );
    }
    page.text.push_str(&lines);
    let trigger = match run.scheduled_for {
        Some(due) => format!("{} for {}", run.trigger, moment(due, style)),
        None => run.trigger.to_string(),
    };
    let about = format!(
        "{} · {trigger} · started {} · {}",
        shown(&run.kind),
        moment(run.started_at, style),
        short_id(run)
    );
    let room = style.width.map(|width| width.saturating_sub(2).max(20));
    for line in wrapped(&about, room) {
        page.line(&style.paint(Ink::Faint, &format!("  {line}")));
    }
    if let Some(error) = &run.error {
        page.line("");
        page.field(2, "error", error);
    }
}

/// A time to the second in the reader's zone: `2026-03-01 04:00:00 CET`.
pub(super) fn moment(at: DateTime<Utc>, style: &Style) -> String {
    at.with_timezone(&style.zone)
        .format("%Y-%m-%d %H:%M:%S %Z")
        .to_string()
}

/// Enough of the id for `maint show`: the start to the millisecond.
pub(super) fn short_id(run: &RunRecord) -> String {
    run.id.to_string().chars().take(13).collect()
}

/// What a step gave back; `None` where nothing was measured, or has changed.
pub(super) fn saved_bytes(step: &StepRecord) -> Option<i64> {
    let saved = step.bytes_before?.saturating_sub(step.bytes_after?);
    (saved != 0).then_some(saved)
}

/// What `rows` counts.
pub(super) fn rows_of(step: &StepRecord) -> Option<String> {
    let count = step.rows.map(human_count)?;
    Some(match step.action.starts_with("vacuum") {
        true => format!("{count} dead"),
        false => count,
    })
}

pub(super) fn sizes(step: &StepRecord) -> String {
    match (step.bytes_before, step.bytes_after) {
        // What has stayed as it is would read as a failure.
        (Some(before), Some(after)) if before == after => human_bytes(before),
        (Some(before), Some(after)) => format!("{} → {}", human_bytes(before), human_bytes(after)),
        (Some(before), None) => human_bytes(before),
        (None, Some(after)) => format!("→ {}", human_bytes(after)),
        (None, None) => String::new(),
    }
}

/// What to do about a step that failed, and the command to try it again on
/// a line of its own, so that it can be copied.
pub(super) fn next_step(page: &mut Page<'_>, run: &RunRecord, step: &StepRecord) {
    let advice = match in_the_way(step) {
        // It has no session that could come to an end.
        Some(wait) if wait.blocker_pid == 0 => format!(
            "have {} committed or rolled back by its name: it keeps its locks until somebody does, over restarts too",
            shown(&wait.blocker_application)
        ),
        Some(wait) if wait.blocker_state.starts_with("idle in transaction") => format!(
            "have pid {} commit or roll back: it keeps its lock without working",
            wait.blocker_pid
        ),
        Some(wait) => format!(
            "wait until pid {} is done, or leave it to the next run",
            wait.blocker_pid
        ),
        None => "remove the cause: the next run tries it again".to_owned(),
    };
    page.field(4, "next", &advice);
    let again = format!(
        "maint run {} --target {} --now",
        shell_word(&run.task),
        shell_word(&run.target)
    );
    page.statement(4, "then", &again);
}

/// Findings, worst first, at most so many.
pub(super) fn findings(page: &mut Page<'_>, run: &RunRecord, most: usize) {
    if run.findings.is_empty() {
        return;
    }
    let mut sorted: Vec<&Finding> = run.findings.iter().collect();
    sorted.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    let counts: Vec<String> = [Severity::Critical, Severity::Warning, Severity::Info]
        .into_iter()
        .map(|severity| {
            (
                severity,
                sorted
                    .iter()
                    .filter(|finding| finding.severity == severity)
                    .count(),
            )
        })
        .filter(|(_, count)| *count > 0)
        .map(|(severity, count)| format!("{count} {}", severity_look(severity).0))
        .collect();
    let style = page.style;
    page.line("");
    page.line(&format!(
        "{} {}",
        style.paint(Ink::Strong, "Findings:"),
        counts.join(", ")
    ));
    for finding in sorted.iter().take(most) {
        let (word, ink) = severity_look(finding.severity);
        page.line(&format!(
            "  {} {}  {}",
            style.paint(ink, word),
            shown(&finding.code),
            shown(&finding.object)
        ));
        let room = style.width.map(|width| width.saturating_sub(4).max(20));
        for line in wrapped(&shown(&finding.message), room) {
            page.line(&format!("    {line}"));
        }
        for line in finding
            .suggestion
            .iter()
            .flat_map(|suggestion| suggestion.lines())
        {
            page.line(&format!("    {}", style.paint(Ink::Strong, &shown(line))));
        }
    }
    if let Some(more @ 1..) = sorted.len().checked_sub(most) {
        page.line(&format!(
            "  … and {more} more: maint show {}",
            short_id(run)
        ));
    }
}

fn severity_look(severity: Severity) -> (&'static str, Ink) {
    match severity {
        Severity::Critical => ("critical", Ink::Bad),
        Severity::Warning => ("warning", Ink::Warning),
        Severity::Info => ("info", Ink::Plain),
    }
}

/// Steps by status, rows and bytes, on one line; nothing where nothing was done.
pub(super) fn totals(page: &mut Page<'_>, run: &RunRecord, engine: Engine) {
    let mut parts = Vec::new();
    if !run.steps.is_empty() {
        let by_status: Vec<String> = StepStatus::ALL
            .iter()
            .map(|status| {
                (
                    status,
                    run.steps
                        .iter()
                        .filter(|step| step.status == *status)
                        .count(),
                )
            })
            .filter(|(_, count)| *count > 0)
            .map(|(status, count)| {
                format!(
                    "{} {status}",
                    human_count(i64::try_from(count).unwrap_or(i64::MAX))
                )
            })
            .collect();
        parts.push(format!(
            "{} ({})",
            counted(run.steps.len(), "step"),
            by_status.join(", ")
        ));
    }
    if run.rows != 0 {
        // Of one that died there is only what it had recorded.
        let least = match run.status {
            RunStatus::Interrupted => "at least ",
            _ => "",
        };
        parts.push(format!(
            "{least}{} {}{}",
            human_count(run.rows),
            engine.counted(),
            if run.rows == 1 { "" } else { "s" }
        ));
    }
    if run.bytes_before != 0 || run.bytes_after != 0 {
        let (before, after) = (human_bytes(run.bytes_before), human_bytes(run.bytes_after));
        parts.push(match run.bytes_before == run.bytes_after {
            true => before,
            false => format!("{before} → {after}, {}", reclaimed(run)),
        });
    }
    if !parts.is_empty() {
        page.line("");
        page.line(&format!(
            "{} {}",
            page.style.paint(Ink::Strong, "Total:"),
            parts.join(" · ")
        ));
    }
}

fn reclaimed(run: &RunRecord) -> String {
    match run.bytes_before.saturating_sub(run.bytes_after) {
        grown if grown < 0 => grew(run, grown),
        less => format!("reclaimed {}", human_bytes(less)),
    }
}

/// By how much what was worked on has grown. Where rows went, their space is still there.
pub(super) fn grew(run: &RunRecord, saved: i64) -> String {
    let by = human_bytes(saved.saturating_neg());
    match removes_rows(&run.kind) {
        true => format!("grew by {by}: what is left free is filled again, and not given back"),
        false => format!("grew by {by}"),
    }
}
