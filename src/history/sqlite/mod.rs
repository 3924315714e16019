//! The history in one SQLite file, shared by any number of maint processes
//! on the same machine.

mod open;
pub(super) mod rows;

use std::path::PathBuf;

use sqlx::pool::PoolConnection;
use sqlx::query::Query;
use sqlx::sqlite::SqliteArguments;
use sqlx::{Arguments, Sqlite, SqlitePool, Transaction};

use super::HistoryError;
use super::sql::{Access, Dialect, Statement, Value, time_text};

pub(super) struct SqliteStore {
    /// Named in errors; `:memory:` where there is no file.
    path: PathBuf,
    /// One connection: SQLite lets one write at a time anyhow, and waiting
    /// for our own pool is cheaper and fairer than waiting for its lock.
    writer: SqlitePool,
    readers: SqlitePool,
}

impl SqliteStore {
    pub(super) fn failed(&self, operation: &'static str, error: sqlx::Error) -> HistoryError {
        HistoryError::from_sqlite(&self.path, operation, error)
    }

    /// A transaction that writes takes the write lock at once: taken later,
    /// after a read, another writer in between would fail it instead of
    /// delaying it. One that reads sees one moment, whatever others write
    /// meanwhile.
    pub(super) async fn begin(
        &self,
        operation: &'static str,
        access: Access,
    ) -> Result<Transaction<'static, Sqlite>, HistoryError> {
        let begun = match access {
            Access::Write => self.writer.begin_with("BEGIN IMMEDIATE").await,
            Access::Read => self.readers.begin().await,
        };
        begun.map_err(|error| self.failed(operation, error))
    }

    /// A connection on which each statement is a transaction by itself.
    pub(super) async fn connection(
        &self,
        operation: &'static str,
        access: Access,
    ) -> Result<PoolConnection<Sqlite>, HistoryError> {
        let pool = match access {
            Access::Write => &self.writer,
            Access::Read => &self.readers,
        };
        let connection = pool.acquire().await;
        connection.map_err(|error| self.failed(operation, error))
    }

    /// Lets go of the file, so that it is complete without its `-wal` companion.
    pub(super) async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

/// A statement with its values as the file holds them.
pub(super) fn query(
    statement: &Statement,
) -> Result<Query<'static, Sqlite, SqliteArguments>, sqlx::Error> {
    let mut arguments = SqliteArguments::default();
    for value in statement.values() {
        let added = match value {
            Value::Text(text) => arguments.add(text.as_deref()),
            Value::Integer(number) => arguments.add(*number),
            Value::Real(number) => arguments.add(*number),
            Value::Flag(flag) => arguments.add(*flag),
            Value::Id(id) => arguments.add(id.map(|id| id.to_string())),
            Value::Time(at) => arguments.add(at.map(time_text)),
            Value::Json(document) => arguments.add(document.as_str()),
        };
        added.map_err(sqlx::Error::Encode)?;
    }
    Ok(sqlx::query_with(statement.text(Dialect::Sqlite), arguments))
}
