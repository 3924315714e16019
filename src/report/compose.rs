//! A report as a message: what its templates are given.

use chrono_tz::Tz;
use minijinja::{Error, Value, context};

use super::context::{Pictures, context_of};
use super::message::{Message, Rendered};
use super::model::Report;
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
