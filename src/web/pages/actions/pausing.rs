//! Schedules are paused, and go on.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use chrono::{DateTime, Utc};
use serde::Deserialize;

use super::super::{Pages, Sorry};
use super::{Allowed, done, not_found};
use crate::history::Pause;
use crate::values::{TimeSpan, wall_clock};

/// Stops a schedule until it is resumed, or for as long as the body says.
pub(in crate::web::pages) async fn pause(
    State(pages): State<Pages>,
    Path(schedule): Path<String>,
    allowed: Allowed,
) -> Result<Response, Sorry> {
    let schedule = known_schedule(&pages, schedule)?;
    let now = wall_clock();
    let asked = Asked::read(&allowed.0.body)
        .and_then(|asked| asked.end(now).map(|until| (until, asked.reason)))
        .map_err(|why| Sorry::new(StatusCode::BAD_REQUEST, why))?;
    let (until, reason) = asked;
    allowed.log(&format!("schedule {schedule} is paused"));
    let reason = reason.map(|text| text.trim().to_owned());
    let by = match reason.filter(|text| !text.is_empty()) {
        Some(reason) => format!("{} ({reason})", allowed.by()),
        None => allowed.by(),
    };
    let pause = Pause {
        schedule,
        since: now,
        until,
        by,
    };
    pages.store.pause_schedule(&pause).await?;
    Ok(done("/next"))
}

/// How a schedule is to be paused: a JSON document, or the fields of a form.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Asked {
    /// When it goes on by itself, as in RFC 3339.
    until: Option<String>,
    /// For how long instead: `2d`.
    r#for: Option<String>,
    /// Why, for people.
    reason: Option<String>,
    /// Of the page's own form.
    pub(super) form_token: Option<String>,
}

impl Asked {
    /// The error says what is wrong with it.
    pub(super) fn read(body: &str) -> Result<Asked, String> {
        let text = body.trim();
        if text.starts_with('{') {
            return serde_json::from_str(text).map_err(|why| {
                format!(
                    "the body is not understood: {why}; it may have `until`, `for` and `reason`"
                )
            });
        }
        let mut asked = Asked::default();
        for (name, value) in url::form_urlencoded::parse(text.as_bytes()) {
            let value = Some(value.into_owned()).filter(|value| !value.is_empty());
            match name.as_ref() {
                "until" => asked.until = value,
                "for" => asked.r#for = value,
                "reason" => asked.reason = value,
                "form_token" => asked.form_token = value,
                other => {
                    return Err(format!(
                        "`{other}` is not understood; the body may have `until`, `for` and `reason`"
                    ));
                }
            }
        }
        Ok(asked)
    }

    /// When it is over.
    pub(super) fn end(&self, now: DateTime<Utc>) -> Result<Option<DateTime<Utc>>, String> {
        let end = match (&self.until, &self.r#for) {
            (None, None) => return Ok(None),
            (Some(_), Some(_)) => {
                return Err("`until` and `for` say the same thing: leave one out".to_owned());
            }
            (Some(text), None) => {
                let end = DateTime::parse_from_rfc3339(text.trim()).map_err(|_| {
                    format!(
                        "`until` is `{text}`, which is no moment such as `2026-12-24T18:00:00Z`"
                    )
                })?;
                Pause::end_at(end.with_timezone(&Utc), now)
            }
            (None, Some(text)) => {
                let length: TimeSpan = text
                    .parse()
                    .map_err(|_| format!("`for` is `{text}`, which is no duration such as `2d`"))?;
                Pause::end_after(length, now)
            }
        };
        end.map(Some)
    }
}

/// Lets a schedule go on.
pub(in crate::web::pages) async fn resume(
    State(pages): State<Pages>,
    Path(schedule): Path<String>,
    allowed: Allowed,
) -> Result<Response, Sorry> {
    let schedule = known_schedule(&pages, schedule)?;
    allowed.log(&format!("schedule {schedule} goes on"));
    pages.store.resume_schedule(&schedule).await?;
    Ok(done("/next"))
}

fn known_schedule(pages: &Pages, schedule: String) -> Result<String, Sorry> {
    match pages.config().schedules.contains_key(&schedule) {
        true => Ok(schedule),
        false => Err(not_found("there is no such schedule")),
    }
}
