use chrono::{DateTime, SecondsFormat, Utc};
use sqlx::sqlite::SqliteRow;
use sqlx::{Error, Row};
use uuid::Uuid;

use crate::history::rows::{Cells, Plain, unreadable};

/// A time as the file holds it. Always 24 characters, so that comparing the
/// texts compares the times.
pub(super) fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}

impl Cells for SqliteRow {
    fn cell<T: Plain>(&self, column: &str) -> Result<T, Error> {
        self.try_get(column)
    }

    fn maybe_id(&self, column: &str) -> Result<Option<Uuid>, Error> {
        let text: Option<String> = self.try_get(column)?;
        text.map(|text| Uuid::try_parse(&text).map_err(|error| unreadable(column, error)))
            .transpose()
    }

    fn maybe_time(&self, column: &str) -> Result<Option<DateTime<Utc>>, Error> {
        let text: Option<String> = self.try_get(column)?;
        let parsed = text.map(|text| DateTime::parse_from_rfc3339(&text));
        match parsed.transpose() {
            Ok(at) => Ok(at.map(|at| at.to_utc())),
            Err(error) => Err(unreadable(column, error)),
        }
    }
}
