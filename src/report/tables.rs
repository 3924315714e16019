//! The tables of a report as text.

use chrono_tz::Tz;
use minijinja::{Value, context};

use super::filters::{percent, value};
use super::model::{Report, Standing, TaskLine};
use super::text::{Align, Cell, Columns, Cut, Style, human_bytes, human_count, human_duration_ms};
use crate::kinds;
use crate::values::Engine;

pub(super) fn all(report: &Report, zone: Tz, columns: usize) -> Value {
    let style = Style {
        color: false,
        width: Some(columns),
        zone,
    };
    let table = |columns: Columns| {
        let text = columns.render(2, &style);
        Value::from_safe_string(text.trim_end().to_owned())
    };
    context! {
        numbers => table(numbers(report)),
        tasks => table(tasks(report, zone)),
        gains => table(gains(report)),
        findings => table(findings(report)),
        trends => table(trends(report)),
        planned => table(planned(report, zone)),
    }
}

/// What has gone from the databases, in the words of those that it went from.
pub(super) fn removed(report: &Report) -> String {
    let went = report
        .tasks
        .iter()
        .filter(|task| task.rows != 0 && kinds::removes_rows(&task.kind));
    let mut words: Vec<&str> = went
        .filter_map(|task| task.engine)
        .map(Engine::counted)
        .collect();
    words.sort_unstable_by(|a, b| b.cmp(a));
    words.dedup();
    match words.as_slice() {
        [] => "rows removed".to_owned(),
        words => format!("{}s removed", words.join("s and ")),
    }
}

fn numbers(report: &Report) -> Columns {
    let mut table = Columns::new()
        .column("", Align::Left, Cut::Never)
        .column("this period", Align::Right, Cut::Never)
        .column("before", Align::Right, Cut::Never)
        .column("change", Align::Right, Cut::Never);
    let (now, before) = (&report.summary, &report.before);
    let mut row = |name: &str, now: i64, before: i64, write: fn(i64) -> String| {
        table.row([
            Cell::from(name),
            Cell::from(write(now)),
            Cell::from(write(before)),
            Cell::from(percent(before as f64, now as f64)),
        ]);
    };
    row("runs", now.runs, before.runs, human_count);
    row("succeeded", now.succeeded, before.succeeded, human_count);
    row("incomplete", now.incomplete, before.incomplete, human_count);
    row("failed in part", now.partial, before.partial, human_count);
    row("failed", now.failed, before.failed, human_count);
    row("missed", now.missed, before.missed, human_count);
    row("skipped", now.skipped, before.skipped, human_count);
    row(
        "time spent",
        now.duration_ms,
        before.duration_ms,
        human_duration_ms,
    );
    row(
        &removed(report),
        now.rows_removed,
        before.rows_removed,
        human_count,
    );
    row(
        "space reclaimed",
        now.bytes_reclaimed,
        before.bytes_reclaimed,
        human_bytes,
    );
    table.row([
        Cell::from("tasks enabled"),
        Cell::from(human_count(report.tasks_enabled)),
    ]);
    table
}

fn tasks(report: &Report, zone: Tz) -> Columns {
    let mut table = Columns::new()
        .column("task", Align::Left, Cut::Middle)
        .column("target", Align::Left, Cut::Middle)
        .column("last run", Align::Left, Cut::Never)
        .column("status", Align::Left, Cut::Never)
        .column("time", Align::Right, Cut::Never)
        .column("× usual", Align::Right, Cut::Never)
        .column("runs", Align::Right, Cut::Never)
        .column("failed", Align::Right, Cut::Never);
    for line in &folded(&report.tasks) {
        let TaskLine { last, .. } = line;
        table.row([
            Cell::from(&line.task),
            Cell::from(&line.target),
            Cell::from(last.as_ref().map_or_else(
                || "never".to_owned(),
                |last| {
                    let at = last.started_at.with_timezone(&zone);
                    at.format("%m-%d %H:%M").to_string()
                },
            )),
            Cell::from(last.as_ref().map_or("", |last| last.status.as_str())),
            Cell::from(
                last.as_ref()
                    .map_or_else(String::new, |last| human_duration_ms(last.duration_ms)),
            ),
            Cell::from(
                line.against_usual
                    .map_or_else(String::new, |times| format!("{times:.1}")),
            ),
            Cell::from(human_count(line.runs)),
            Cell::from(if line.failed > 0 {
                human_count(line.failed)
            } else {
                String::new()
            }),
        ]);
    }
    table
}

/// From so many targets of a task on those that are well are one line.
const FOLDED_FROM: usize = 4;

/// The lines of tasks, with the targets on which all is well as one line each: a fleet of shards is
/// not a list to be read every week. Those of one task that are well stand together.
pub(super) fn folded(lines: &[TaskLine]) -> Vec<TaskLine> {
    let well = |line: &TaskLine| line.standing == Standing::Well;
    let mut out: Vec<TaskLine> = Vec::new();
    for fleet in lines.chunk_by(|a, b| a.task == b.task && well(a) && well(b)) {
        let Some(first) = fleet.first().filter(|_| fleet.len() >= FOLDED_FROM) else {
            out.extend_from_slice(fleet);
            continue;
        };
        let newest = fleet.iter().filter_map(|line| line.last.as_ref());
        let newest = newest.max_by_key(|last| last.started_at).cloned();
        let longest = fleet
            .iter()
            .filter_map(|line| Some(line.last.as_ref()?.duration_ms))
            .max();
        out.push(TaskLine {
            target: format!("{} targets", fleet.len()),
            runs: fleet.iter().map(|line| line.runs).sum(),
            rows: fleet.iter().map(|line| line.rows).sum(),
            bytes_reclaimed: fleet.iter().map(|line| line.bytes_reclaimed).sum(),
            last: newest.map(|newest| super::model::LastRun {
                duration_ms: longest.unwrap_or(newest.duration_ms),
                ..newest
            }),
            against_usual: None,
            ..first.clone()
        });
    }
    out
}

fn gains(report: &Report) -> Columns {
    let mut table = Columns::new()
        .column("object", Align::Left, Cut::Middle)
        .column("target", Align::Left, Cut::Middle)
        .column("before", Align::Right, Cut::Never)
        .column("after", Align::Right, Cut::Never)
        .column("won", Align::Right, Cut::Never);
    for gain in &report.gains {
        table.row([
            Cell::from(&gain.object),
            Cell::from(&gain.target),
            Cell::from(human_bytes(gain.bytes_before)),
            Cell::from(human_bytes(gain.bytes_after)),
            Cell::from(human_bytes(gain.bytes_before - gain.bytes_after)),
        ]);
    }
    table
}

fn findings(report: &Report) -> Columns {
    let mut table = Columns::new()
        .column("", Align::Left, Cut::Never)
        .column("new", Align::Right, Cut::Never)
        .column("still open", Align::Right, Cut::Never)
        .column("resolved", Align::Right, Cut::Never);
    for line in &report.findings.counts {
        table.row([
            Cell::from(line.severity.as_str()),
            Cell::from(human_count(line.new)),
            Cell::from(human_count(line.open)),
            Cell::from(human_count(line.gone)),
        ]);
    }
    table
}

fn trends(report: &Report) -> Columns {
    let mut table = Columns::new()
        .column("", Align::Left, Cut::Never)
        .column("target", Align::Left, Cut::Middle)
        .column("object", Align::Left, Cut::Middle)
        .column("at first", Align::Right, Cut::Never)
        .column("now", Align::Right, Cut::Never)
        .column("change", Align::Right, Cut::Never);
    for trend in &report.trends {
        let unit = trend.unit.as_str();
        table.row([
            Cell::from(&trend.title),
            Cell::from(&trend.target),
            Cell::from(&trend.object),
            Cell::from(value(trend.first, unit)),
            Cell::from(value(trend.last, unit)),
            Cell::from(percent(trend.first, trend.last)),
        ]);
    }
    table
}

fn planned(report: &Report, zone: Tz) -> Columns {
    let mut table = Columns::new()
        .column("when", Align::Left, Cut::Never)
        .column("schedule", Align::Left, Cut::Middle)
        .column("tasks", Align::Left, Cut::End);
    for one in &report.planned {
        let at = one.at.with_timezone(&zone);
        table.row([
            Cell::from(at.format("%a %Y-%m-%d %H:%M %Z").to_string()),
            Cell::from(&one.schedule),
            Cell::from(match one.paused {
                true => format!("paused ({})", one.tasks.join(", ")),
                false => one.tasks.join(", "),
            }),
        ]);
    }
    table
}
