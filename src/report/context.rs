//! What the templates of a report are given.

use chrono_tz::Tz;
use minijinja::value::Serde;
use minijinja::{Value, context};

use super::chart::{self, Chart};
use super::filters::TEXT_WIDTH;
use super::model::Report;
use super::tables;

/// Lines of tables in a mail; whoever has more tasks reads the page.
const MOST_TASKS: usize = 50;

const MOST_TRENDS: usize = 40;

/// How the HTML carries its charts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pictures {
    /// As parts of the same mail, by `cid:`.
    Attached,
    /// Drawn within the page.
    Inline,
}

pub(super) fn context_of(
    report: &Report,
    zone: Tz,
    pictures: Pictures,
    attached: &mut Vec<(String, Vec<u8>)>,
) -> Value {
    let mut placed = |chart: Chart| place(chart, pictures, attached);
    let days = chart::days(report).map(&mut placed);
    let gains = chart::gains(report).map(&mut placed);
    let sizes: Vec<Value> = chart::sizes(report).into_iter().map(&mut placed).collect();
    context! {
        report => Value::from(Serde(report)),
        tables => tables::all(report, zone, TEXT_WIDTH),
        removed => tables::removed(report),
        task_lines => Value::from(Serde(&tables::folded(&report.tasks))),
        charts => context! { days, gains, sizes },
        most_tasks => MOST_TASKS,
        most_trends => MOST_TRENDS,
    }
}

fn place(chart: Chart, pictures: Pictures, attached: &mut Vec<(String, Vec<u8>)>) -> Value {
    let alt = minijinja::HtmlEscape(&chart.alt).to_string();
    let html = match pictures {
        Pictures::Inline => chart.svg,
        Pictures::Attached => match chart::png(&chart.svg) {
            Some(png) => {
                attached.push((chart.id.clone(), png));
                format!(r#"<img src="cid:{}" alt="{alt}" width="440">"#, chart.id)
            }
            None => alt,
        },
    };
    context! {
        id => chart.id,
        alt => chart.alt,
        html => Value::from_safe_string(html),
    }
}
