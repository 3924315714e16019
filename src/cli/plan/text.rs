//! A plan for people: its steps, how long they take, what is left alone and why.

use crate::execute::Counts;
use crate::plan::{Basis, Plan as Planned, Skip, Step};
use crate::report::text::{
    Align, Cell, Columns, Cut, Ink, Style, counted, human_bytes, human_duration_ms, within, wrapped,
};
use crate::values::Engine;

/// Of a long plan so many steps are shown: the most urgent ones.
const MOST_STEPS: usize = 40;

/// How large what is worked on is, and how large it is expected to be.
pub(in crate::cli) fn sizes_of(plan: &Planned<serde_json::Value>) -> String {
    let (mut before, mut won) = (0_i64, 0_i64);
    for step in &plan.steps {
        let bytes = step.estimate.bytes.unwrap_or(0);
        before = before.saturating_add(bytes);
        if let Some(after) = step.estimate.bytes_after {
            won = won.saturating_add(bytes.saturating_sub(after));
        }
    }
    match (before, won) {
        (0, _) => String::new(),
        (before, won) if won > 0 => {
            format!(
                " on {}, about {} of it to win back",
                human_bytes(before),
                human_bytes(won)
            )
        }
        (before, _) => format!(" on {}", human_bytes(before)),
    }
}

/// How long a step is predicted to take; guesses are marked.
fn takes(step: &Step<serde_json::Value>) -> String {
    let time = step.predicted_ms.map(human_duration_ms);
    match (time, step.predicted_from) {
        (Some(time), Some(Basis::Nothing)) => format!("{time}?"),
        (time, _) => time.unwrap_or_default(),
    }
}

/// How long all takes, and what will not fit.
fn forecast(plan: &Planned<serde_json::Value>, most: usize) -> String {
    let Some(forecast) = &plan.forecast else {
        return String::new();
    };
    let time = |ms: i64| human_duration_ms(ms);
    let mut out = format!("  predicted to take {}", time(forecast.predicted_ms));
    if let Some(available) = forecast.available_ms {
        let whose = match forecast.shared_by {
            None => "a run has".to_owned(),
            Some(many) => format!("{} have together", counted(many, "database")),
        };
        out.push_str(&format!(" of the {} that {whose}", time(available)));
    }
    if plan
        .steps
        .iter()
        .any(|s| s.predicted_from == Some(Basis::Nothing))
    {
        out.push_str("; `?`: nothing is known yet of such steps");
    }
    if let Some(said) = forecast.error.and_then(|error| error.said()) {
        out.push_str(&format!("; {said}"));
    }
    out.push('\n');
    if !forecast.will_not_fit.is_empty() {
        out.push_str("  will not fit, and is left for another run:\n");
        for skip in forecast.will_not_fit.iter().take(most) {
            out.push_str(&format!(
                "    {}: {}\n",
                crate::report::text::shown(&skip.object),
                crate::report::text::shown(&skip.reason)
            ));
        }
        if let Some(more @ 1..) = forecast.will_not_fit.len().checked_sub(most) {
            out.push_str(&format!(
                "    … and {}: `--all` shows them\n",
                counted(more, "more step")
            ));
        }
    }
    out
}

pub(super) fn text(
    (task, kind, target): (&str, &str, &str),
    plan: &Planned<serde_json::Value>,
    counts: &Counts,
    engine: Engine,
    all: bool,
    style: &Style,
) -> String {
    let steps = match plan.steps.len() {
        0 if !plan.refused.is_empty() => "nothing can be done".to_owned(),
        0 => "nothing to do".to_owned(),
        n => format!("{}{}", counted(n, "step"), sizes_of(plan)),
    };
    let heading = format!(
        "{task}  {kind} on {target}: {steps} ({} looked at)",
        counted(plan.considered, "object")
    );
    // Wrapped before it is painted: what paints takes no room.
    let heading = within(&heading, style.width);
    let mut out = match heading.strip_prefix(task) {
        Some(rest) => format!("{}{rest}", style.paint(Ink::Strong, task)),
        None => heading,
    };
    let most = if all { usize::MAX } else { MOST_STEPS };
    if !plan.steps.is_empty() {
        let mut table = Columns::new()
            .column("#", Align::Right, Cut::Never)
            .column("action", Align::Left, Cut::Never)
            .column("object", Align::Left, Cut::Middle)
            .column("size", Align::Right, Cut::Never)
            .column("expected", Align::Right, Cut::Never)
            .column("takes", Align::Right, Cut::Never)
            .column("why", Align::Left, Cut::End);
        for step in plan.steps.iter().take(most) {
            let size = |bytes: Option<i64>| bytes.map(human_bytes).unwrap_or_default();
            table.row([
                Cell::new(Ink::Faint, step.seq.to_string()),
                Cell::from(&step.action),
                Cell::from(&step.object),
                Cell::from(&size(step.estimate.bytes)),
                Cell::from(&size(step.estimate.bytes_after)),
                Cell::from(&takes(step)),
                Cell::from(&step.reason),
            ]);
        }
        out.push_str(&table.render(2, style));
        out.push_str(&within(&forecast(plan, most), style.width));
        let mut details = String::new();
        if let Some(more @ 1..) = plan.steps.len().checked_sub(most) {
            details.push_str(&format!(
                "  … and {}: `--all` shows them\n",
                counted(more, "more step")
            ));
        }
        for step in plan.steps.iter().take(most) {
            let rows = counts.rows.get(&step.seq);
            let untold = counts.untold.get(&step.seq);
            if step.details.is_empty() && rows.is_none() && untold.is_none() {
                continue;
            }
            details.push_str(&format!(
                "  {} {}:\n",
                step.action,
                crate::report::text::shown(&step.object)
            ));
            if let Some(rows) = rows {
                let rows = counted(usize::try_from(*rows).unwrap_or(0), engine.counted());
                let stay = step.may_stay.join(", ");
                details.push_str(&match stay.is_empty() {
                    true => format!("    exactly {rows} now\n"),
                    false => format!(
                        "    at most {rows} now; some may stay because of {}\n",
                        crate::report::text::shown(&stay)
                    ),
                });
            }
            if let Some(why) = untold {
                details.push_str(&format!(
                    "    not counted: {}\n",
                    crate::report::text::shown(why)
                ));
            }
            for line in &step.details {
                details.push_str(&format!("    {}\n", crate::report::text::shown(line)));
            }
        }
        out.push_str(&within(&details, style.width));
    }
    // What a finding or the list of what is left alone says is not said twice.
    let said = |left: &Skip| {
        plan.findings.iter().any(|f| f.message == left.reason)
            || plan.skipped.iter().any(|s| s == left)
    };
    let refused: Vec<Skip> = plan.refused.iter().filter(|r| !said(r)).cloned().collect();
    for (title, list) in [
        ("decided after that", &plan.pending),
        ("cannot be done", &refused),
        ("left alone", &plan.skipped),
    ] {
        if !list.is_empty() {
            let mut told = format!("  {title}:\n");
            for skip in list.iter().take(most) {
                told.push_str(&format!(
                    "    {}: {}\n",
                    crate::report::text::shown(&skip.object),
                    crate::report::text::shown(&skip.reason)
                ));
            }
            if let Some(more @ 1..) = list.len().checked_sub(most) {
                told.push_str(&format!(
                    "    … and {}: `--all` shows them\n",
                    counted(more, "more object")
                ));
            }
            out.push_str(&within(&told, style.width));
        }
    }
    for finding in &plan.findings {
        let message = crate::report::text::shown(&finding.message);
        let object = crate::report::text::shown(&finding.object);
        let of = match object.is_empty() || message.contains(&*object) {
            true => String::new(),
            false => format!("{object}: "),
        };
        let told = format!(
            "{}: {of}{message} [{}]",
            finding.severity.as_str(),
            finding.code
        );
        let room = style.width.map(|width| width.saturating_sub(4).max(20));
        for (n, line) in wrapped(&told, room).iter().enumerate() {
            out.push_str(&format!("{}{line}\n", if n == 0 { "  " } else { "    " }));
        }
        if let Some(suggestion) = &finding.suggestion {
            out.push_str(&format!(
                "    try: {}\n",
                crate::report::text::shown(suggestion)
            ));
        }
    }
    out.push('\n');
    out
}
