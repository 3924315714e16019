//! Runs as a table of one line each.

use chrono::{DateTime, Utc};

use super::marks::run_ink;
use super::{Align, Cell, Columns, Cut, Ink, Style, age, human_bytes, human_duration_ms};
use crate::history::{FindingCounts, RunStatus, RunSummary};

/// A line per run, in the order given; `now` is what ages are counted from.
pub fn history_table(runs: &[RunSummary], now: DateTime<Utc>, style: &Style) -> String {
    if runs.is_empty() {
        return "No runs.\n".to_owned();
    }
    // What others say elsewhere is left out where it would not fit.
    let narrow = style.width.is_some_and(|width| width < 110);
    // What `maint show` says better, and the target where there is only one.
    let tight = style.width.is_some_and(|width| width < 90);
    let one_target = tight && runs.iter().all(|run| run.target == runs[0].target);
    let started = match narrow {
        true => "started".to_owned(),
        false => format!("started ({})", style.zone),
    };
    let mut table = Columns::new()
        .narrowest(if tight { 8 } else { 14 })
        .column("run", Align::Left, Cut::Never)
        .column(started, Align::Left, Cut::Never)
        .column("", Align::Left, Cut::Never)
        .column("task", Align::Left, Cut::Middle)
        .column("target", Align::Left, Cut::Middle)
        .column("trigger", Align::Left, Cut::Never)
        .column("status", Align::Left, Cut::Never)
        .column("time", Align::Right, Cut::Never)
        .column("steps", Align::Right, Cut::Never)
        .column("failed", Align::Right, Cut::Never)
        .column("reclaimed", Align::Right, Cut::Never)
        .column(
            if tight { "found" } else { "findings" },
            Align::Left,
            Cut::End,
        );
    for run in runs {
        let duration_ms = match run.status {
            RunStatus::Running => (now - run.started_at).num_milliseconds(),
            _ => run.duration_ms,
        };
        let (steps, failed) = (run.steps > 0 && !tight, run.failed > 0 && !tight);
        let sized = (run.bytes_before != 0 || run.bytes_after != 0) && !tight;
        table.row([
            Cell::new(Ink::Strong, &run.short_id),
            Cell::from(
                run.started_at
                    .with_timezone(&style.zone)
                    .format(if narrow {
                        "%m-%d %H:%M"
                    } else {
                        "%Y-%m-%d %H:%M"
                    })
                    .to_string(),
            ),
            match narrow {
                true => Cell::default(),
                false => Cell::new(Ink::Faint, age(run.started_at, now)),
            },
            Cell::from(&run.task),
            match one_target {
                true => Cell::default(),
                false => Cell::from(&run.target),
            },
            match narrow {
                true => Cell::default(),
                false => Cell::from(run.trigger.as_str()),
            },
            Cell::new(run_ink(run.status), run.status.as_str()),
            Cell::from(human_duration_ms(duration_ms)),
            Cell::from(if steps {
                format!("{}/{}", run.succeeded, run.steps)
            } else {
                String::new()
            }),
            Cell::new(
                Ink::Bad,
                if failed {
                    run.failed.to_string()
                } else {
                    String::new()
                },
            ),
            Cell::from(if sized {
                human_bytes(run.bytes_before.saturating_sub(run.bytes_after))
            } else {
                String::new()
            }),
            findings_cell(run.findings, tight),
        ]);
    }
    table.render(0, style)
}

/// All of them by severity; where there is no room only the worst.
fn findings_cell(counts: FindingCounts, tight: bool) -> Cell {
    let told: Vec<String> = [
        (counts.critical, "critical"),
        (counts.warning, "warning"),
        (counts.info, "info"),
    ]
    .into_iter()
    .filter(|(count, _)| *count > 0)
    .map(|(count, word)| match tight {
        true => format!("{count} {}", &word[..4]),
        false => format!("{count} {word}"),
    })
    .take(if tight { 1 } else { 3 })
    .collect();
    let ink = match counts {
        FindingCounts { critical: 1.., .. } => Ink::Bad,
        FindingCounts { warning: 1.., .. } => Ink::Warning,
        _ => Ink::Plain,
    };
    Cell::new(ink, told.join(", "))
}
