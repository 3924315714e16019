//! How templates write numbers, times and names.

use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Rest, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Output, State, Value};

use super::text::{age, counted, human_bytes, human_count, human_duration_ms, shown, wrapped};
use crate::values::with_causes;

/// Columns of a text message, and the most of one on a terminal.
pub(super) const TEXT_WIDTH: usize = 80;

pub(super) fn add_to(environment: &mut Environment<'_>, zone: Tz, columns: usize) {
    environment.set_auto_escape_callback(|name| {
        if name.ends_with(".html.j2") {
            AutoEscape::Html
        } else if name.ends_with(".json.j2") {
            AutoEscape::Json
        } else {
            AutoEscape::None
        }
    });
    environment.set_formatter(format);
    let syntax = SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build();
    match syntax {
        Ok(syntax) => environment.set_syntax(syntax),
        // Only delimiters can be wrong, and none is changed.
        Err(error) => {
            tracing::error!(error = %with_causes(&error), "templates keep their line breaks")
        }
    }
    environment.add_filter("bytes", |n: f64| human_bytes(n as i64));
    environment.add_filter("count", |n: f64| human_count(n.round() as i64));
    environment.add_filter("counted", |n: f64, noun: String| {
        counted(n.round().max(0.0) as usize, &noun)
    });
    environment.add_filter("duration", |n: f64| human_duration_ms(n as i64));
    environment.add_filter("value", |n: f64, unit: String| value(n, &unit));
    environment.add_filter("percent", percent);
    environment.add_filter("short", |id: String| {
        id.chars().take(13).collect::<String>()
    });
    environment.add_filter("slack", slack);
    environment.add_filter("plain", |text: String| shown(&text).to_string());
    environment.add_filter("urlencode", |text: String| {
        url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>()
    });
    environment.add_filter("cut", cut);
    environment.add_filter("wrap", move |text: String, indent: usize| {
        wrap(text, indent, columns)
    });
    environment.add_filter("ago", |at: String, now: String| {
        Ok::<_, Error>(age(moment(&at)?, moment(&now)?))
    });
    let in_zone = move |at: String, format: Rest<String>| {
        let format = format
            .first()
            .map_or("%a %Y-%m-%d %H:%M %Z", String::as_str);
        let mut text = String::new();
        write!(text, "{}", moment(&at)?.with_timezone(&zone).format(format)).map_err(|_| {
            Error::new(
                ErrorKind::InvalidOperation,
                format!("`{format}` is no format of a time"),
            )
        })?;
        Ok::<_, Error>(text)
    };
    environment.add_filter("when", in_zone);
}

/// Whatever comes from a database is made safe to show before it is escaped:
/// no table name may move the cursor or turn the reading direction.
fn format(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    if value.is_undefined() || value.is_none() {
        return Ok(());
    }
    if value.is_safe() || value.kind() != ValueKind::String {
        return minijinja::escape_formatter(out, state, value);
    }
    let text = value.as_str().unwrap_or_default();
    let safe = if *state.auto_escape() == AutoEscape::Json {
        text.into()
    } else {
        shown(text)
    };
    minijinja::escape_formatter(out, state, &Value::from(safe.as_ref()))
}

fn moment(text: &str) -> Result<DateTime<Utc>, Error> {
    DateTime::parse_from_rfc3339(text)
        .map(|at| at.to_utc())
        .map_err(|why| {
            Error::new(
                ErrorKind::InvalidOperation,
                format!("`{text}` is no time: {why}"),
            )
        })
}

/// A number in its unit.
pub(super) fn value(n: f64, unit: &str) -> String {
    match unit {
        "bytes" => human_bytes(n as i64),
        "ms" if n.abs() < 10.0 => format!("{n:.2} ms"),
        "ms" => human_duration_ms(n as i64),
        "seconds" => human_duration_ms((n * 1000.0) as i64),
        "share" => format!("{:.1} %", n * 100.0),
        _ => human_count(n.round() as i64),
    }
}

/// From one number to another, in per cent: `+12 %`; nothing where the first
/// is zero.
pub(super) fn percent(from: f64, to: f64) -> String {
    if from == 0.0 {
        return String::new();
    }
    let change = (to - from) / from.abs() * 100.0;
    if change.abs() < 0.5 {
        return "±0 %".to_owned();
    }
    let sign = if change > 0.0 { "+" } else { "−" };
    if change.abs() >= 1000.0 {
        return format!("{sign}×{:.0}", (to / from).abs());
    }
    format!("{sign}{:.0} %", change.abs())
}

/// Nothing in it means anything to Slack: no mention, no link.
fn slack(text: String) -> String {
    shown(&text)
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// At most so many characters, with `…` where some are missing.
fn cut(text: String, most: usize) -> String {
    if text.chars().count() <= most {
        return text;
    }
    let kept: String = text.chars().take(most.saturating_sub(1)).collect();
    format!("{}…", kept.trim_end())
}

/// Lines of a text message; those after the first are indented. The first
/// begins after so many columns.
fn wrap(text: String, indent: usize, columns: usize) -> Value {
    let text = shown(&text).into_owned();
    let lines = wrapped(&text, Some(columns.saturating_sub(indent).max(20)));
    Value::from_safe_string(lines.join(&format!("\n{}", " ".repeat(indent))))
}
