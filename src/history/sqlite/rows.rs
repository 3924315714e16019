//! What SQLite keeps as a text.

use chrono::{DateTime, Utc};
use sqlx::sqlite::SqliteRow;
use sqlx::{Error, Row};
use uuid::Uuid;

use crate::history::sql::unreadable;

pub(in crate::history) fn id(row: &SqliteRow, column: &str) -> Result<Option<Uuid>, Error> {
    let text: Option<String> = row.try_get(column)?;
    text.map(|text| Uuid::try_parse(&text).map_err(|error| unreadable(column, error)))
        .transpose()
}

pub(in crate::history) fn time(
    row: &SqliteRow,
    column: &str,
) -> Result<Option<DateTime<Utc>>, Error> {
    let text: Option<String> = row.try_get(column)?;
    let parsed = text.map(|text| DateTime::parse_from_rfc3339(&text));
    match parsed.transpose() {
        Ok(at) => Ok(at.map(|at| at.to_utc())),
        Err(error) => Err(unreadable(column, error)),
    }
}
