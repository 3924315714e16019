//! A report as a message: what its templates are given.

use chrono_tz::Tz;
use minijinja::value::Serde;
use minijinja::{Error, Value, context};

use super::chart::{self, Chart};
use super::model::Report;
use super::tables;
use super::templates::{Message, Rendered, Templates};

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

/// A report in all its forms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Composed {
    /// Its texts.
    pub rendered: Rendered,
    /// PNG by name, for [`Pictures::Attached`].
    pub pictures: Vec<(String, Vec<u8>)>,
}

/// Writes a report.
///
/// # Errors
/// When the built-in templates cannot be used.
pub fn compose(
    report: &Report,
    templates: &Templates,
    zone: Tz,
    pictures: Pictures,
) -> Result<Composed, Error> {
    let mut attached = Vec::new();
    let context = context_of(report, zone, pictures, &mut attached);
    let rendered = templates.message(Message::Report, &context, zone)?;
    // A template of one's own may leave charts out.
    attached.retain(|(id, _)| rendered.html.contains(&format!("cid:{id}")));
    Ok(Composed {
        rendered,
        pictures: attached,
    })
}

/// Writes a report as a page that a server shows, its styles left in their
/// sheet. `more` is what the layout needs of the request.
///
/// # Errors
/// When the built-in templates cannot be used.
pub fn compose_page(
    report: &Report,
    templates: &Templates,
    zone: Tz,
    more: Value,
) -> Result<String, Error> {
    let own = context_of(report, zone, Pictures::Inline, &mut Vec::new());
    let context = context! { ..own, ..more };
    templates.render("report/html.html.j2", &context, zone)
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
        tables => tables::all(report, zone),
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
