//! Rows of either database, by the names of their columns.

use chrono::{DateTime, Utc};
use serde::de::DeserializeOwned;
use sqlx::error::UnexpectedNullError;
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use sqlx::{Decode, Error, Postgres, Row as _, Sqlite, Type};
use uuid::Uuid;

use super::unreadable::unreadable;
use crate::history::{postgres, sqlite};

/// A type that every database has.
pub(super) trait Plain:
    Type<Sqlite> + Type<Postgres> + for<'r> Decode<'r, Sqlite> + for<'r> Decode<'r, Postgres>
{
}

impl<T> Plain for T where
    T: Type<Sqlite> + Type<Postgres> + for<'r> Decode<'r, Sqlite> + for<'r> Decode<'r, Postgres>
{
}

/// A row of either database. Only ids, times and JSON are kept differently.
pub(super) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

impl Row {
    pub(super) fn cell<T: Plain>(&self, column: &str) -> Result<T, Error> {
        match self {
            Row::Sqlite(row) => row.try_get(column),
            Row::Postgres(row) => row.try_get(column),
        }
    }

    pub(super) fn maybe_id(&self, column: &str) -> Result<Option<Uuid>, Error> {
        match self {
            Row::Sqlite(row) => sqlite::rows::id(row, column),
            Row::Postgres(row) => row.try_get(column),
        }
    }

    pub(super) fn maybe_time(&self, column: &str) -> Result<Option<DateTime<Utc>>, Error> {
        match self {
            Row::Sqlite(row) => sqlite::rows::time(row, column),
            Row::Postgres(row) => row.try_get(column),
        }
    }

    /// JSON as it was written, whether it is kept as such or as a text.
    pub(super) fn document(&self, column: &str) -> Result<String, Error> {
        match self {
            Row::Sqlite(row) => row.try_get(column),
            Row::Postgres(row) => postgres::rows::document(row, column),
        }
    }

    pub(super) fn id(&self, column: &str) -> Result<Uuid, Error> {
        self.maybe_id(column)?
            .ok_or_else(|| unreadable(column, UnexpectedNullError))
    }

    pub(super) fn time(&self, column: &str) -> Result<DateTime<Utc>, Error> {
        self.maybe_time(column)?
            .ok_or_else(|| unreadable(column, UnexpectedNullError))
    }

    /// One of a few words.
    pub(super) fn word<T>(
        &self,
        column: &str,
        from_word: fn(&str) -> Option<T>,
    ) -> Result<T, Error> {
        let word: String = self.cell(column)?;
        from_word(&word)
            .ok_or_else(|| unreadable(column, format!("unknown word `{}`", word.escape_debug())))
    }

    /// A number that is never negative.
    pub(super) fn count(&self, column: &str) -> Result<u32, Error> {
        let number: i64 = self.cell(column)?;
        u32::try_from(number).map_err(|error| unreadable(column, error))
    }

    /// What JSON says.
    pub(super) fn json<T: DeserializeOwned>(&self, column: &str) -> Result<T, Error> {
        serde_json::from_str(&self.document(column)?).map_err(|error| unreadable(column, error))
    }
}

/// A record that is read from one row.
pub(super) trait FromRow: Sized {
    fn read(row: &Row) -> Result<Self, Error>;
}

/// That there is such a row.
pub(super) struct Found;

impl FromRow for Found {
    fn read(_: &Row) -> Result<Found, Error> {
        Ok(Found)
    }
}
