//! A report as a message: what its templates are given.

use chrono_tz::Tz;
use minijinja::{Error, Value, context};

use super::context::{Pictures, context_of};
use super::message::{Message, Rendered};
use super::model::Report;
use super::tables;
use super::templates::Templates;

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
    let own = context_of(report, zone, pictures, &mut attached);
    let tables = tables::all(report, zone, templates.columns());
    let context = context! { tables, ..own };
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use unicode_width::UnicodeWidthStr;

    use super::*;
    use crate::report::sample;

    #[test]
    fn no_line_of_a_table_is_wider_than_the_terminal() {
        let mut report = sample::report();
        for line in &mut report.tasks {
            line.task = format!("{}-of-everything-there-is", line.task);
            line.target = format!("production-{}-in-frankfurt", line.target);
        }
        for one in &mut report.planned {
            one.schedule = format!("{}-of-everything-there-is", one.schedule);
        }
        for width in [40, 60, 80] {
            let tables = tables::all(&report, Tz::UTC, width);
            for name in ["numbers", "tasks", "gains", "findings", "trends", "planned"] {
                let text = tables.get_attr(name).unwrap().to_string();
                for line in text.lines() {
                    assert!(line.width() <= width, "{name} at {width}: {line}");
                }
            }
            let templates = Templates::built_in().on_terminal(Some(width));
            let composed = compose(&report, &templates, Tz::UTC, Pictures::Inline).unwrap();
            let tasks = tables.get_attr("tasks").unwrap().to_string();
            assert!(composed.rendered.text.contains(&tasks), "{width}");
            // What has no room in a line stands in the next.
            for line in &report.tasks {
                let status = line
                    .last
                    .as_ref()
                    .map_or("never", |last| last.status.as_str());
                assert!(tasks.contains(status), "{tasks}");
            }
        }
    }
}
