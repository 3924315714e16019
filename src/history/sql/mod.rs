//! The history in a database that speaks SQL: what is asked is written once,
//! whichever it is.

mod calendar;
mod clocks;
mod dead;
mod learned;
mod outbox;
mod records;
mod retention;
mod row;
mod rows;
mod runs;
mod series;
mod statement;
mod summaries;
mod text;
mod unreadable;

use sqlx::pool::PoolConnection;
use sqlx::{PgConnection, Postgres, Sqlite, SqliteConnection, Transaction};
use tokio::time::{Instant, timeout_at};

use super::postgres::{self, PostgresStore};
use super::sqlite::{self, SqliteStore};
use super::{HistoryError, clean};
use row::{FromRow, Row};
use statement::{Builder, Rows};
use text::Sql;

pub(super) use statement::{Access, Statement, Value, time_text};
pub(super) use text::Dialect;
pub(super) use unreadable::unreadable;

/// A history, and the one implementation of all that it promises.
pub(super) enum SqlStore {
    Sqlite(SqliteStore),
    Postgres(PostgresStore),
}

impl SqlStore {
    async fn begin(
        &self,
        operation: &'static str,
        access: Access,
    ) -> Result<Call<'_>, HistoryError> {
        match self {
            SqlStore::Sqlite(store) => {
                let begun = Begun::Sqlite(store.begin(operation, access).await?);
                Ok(self.call(operation, begun, None))
            }
            SqlStore::Postgres(store) => {
                let until = Instant::now() + postgres::CALL_TIMEOUT;
                let begun = timeout_at(until, store.begin(operation, access));
                let begun = begun.await.map_err(|elapsed| store.silent(elapsed))??;
                Ok(self.call(operation, Begun::Postgres(begun), Some(until)))
            }
        }
    }

    /// A call of one statement, which is a transaction by itself in a file.
    async fn alone(
        &self,
        operation: &'static str,
        access: Access,
    ) -> Result<Call<'_>, HistoryError> {
        match self {
            SqlStore::Sqlite(store) => {
                let on = Begun::Alone(store.connection(operation, access).await?);
                Ok(self.call(operation, on, None))
            }
            SqlStore::Postgres(_) => self.begin(operation, access).await,
        }
    }

    fn call(&self, operation: &'static str, begun: Begun, until: Option<Instant>) -> Call<'_> {
        Call {
            store: self,
            operation,
            until,
            begun,
        }
    }

    /// A call that writes: all or nothing, on disk once it has been committed.
    async fn write(&self, operation: &'static str) -> Result<Call<'_>, HistoryError> {
        self.begin(operation, Access::Write).await
    }

    /// A call that sees one moment, whatever others write meanwhile.
    async fn read(&self, operation: &'static str) -> Result<Call<'_>, HistoryError> {
        self.begin(operation, Access::Read).await
    }

    /// One statement in a call of its own. Returns how many rows it changed.
    async fn execute(
        &self,
        operation: &'static str,
        statement: Statement,
    ) -> Result<u64, HistoryError> {
        let mut writing = self.alone(operation, Access::Write).await?;
        let changed = writing.execute(statement).await?;
        writing.commit().await?;
        Ok(changed)
    }

    /// The same for a statement that answers with the row that it changed.
    async fn change<T: FromRow + Send>(
        &self,
        operation: &'static str,
        statement: Statement,
    ) -> Result<Option<T>, HistoryError> {
        let mut writing = self.alone(operation, Access::Write).await?;
        let changed = writing.fetch_one(statement).await?;
        writing.commit().await?;
        Ok(changed)
    }

    /// One question in a call of its own.
    async fn fetch<T: FromRow + Send>(
        &self,
        operation: &'static str,
        statement: Statement,
    ) -> Result<Vec<T>, HistoryError> {
        self.fetch_by(operation, statement, T::read).await
    }

    /// The same where the rows are no records.
    async fn fetch_by<T: Send>(
        &self,
        operation: &'static str,
        statement: Statement,
        read: fn(&Row) -> Result<T, sqlx::Error>,
    ) -> Result<Vec<T>, HistoryError> {
        let mut reading = self.alone(operation, Access::Read).await?;
        let found = reading.fetch_by(statement, read).await?;
        reading.commit().await?;
        Ok(found)
    }

    fn failed(&self, operation: &'static str, error: sqlx::Error) -> HistoryError {
        match self {
            SqlStore::Sqlite(store) => store.failed(operation, error),
            SqlStore::Postgres(store) => store.failed(operation, error),
        }
    }
}

/// A call is one transaction; dropped before it is committed, it has done nothing.
struct Call<'s> {
    store: &'s SqlStore,
    /// Named in errors.
    operation: &'static str,
    /// When it is given up.
    until: Option<Instant>,
    begun: Begun,
}

enum Begun {
    Sqlite(Transaction<'static, Sqlite>),
    /// For the one statement that is to come.
    Alone(PoolConnection<Sqlite>),
    Postgres(Transaction<'static, Postgres>),
}

enum Connection<'c> {
    Sqlite(&'c mut SqliteConnection),
    Postgres(&'c mut PgConnection),
}

impl Begun {
    fn connection(&mut self) -> Connection<'_> {
        match self {
            Begun::Sqlite(on) => Connection::Sqlite(on),
            Begun::Alone(on) => Connection::Sqlite(on),
            Begun::Postgres(on) => Connection::Postgres(on),
        }
    }
}

impl Call<'_> {
    /// Runs a statement. Returns how many rows it changed.
    async fn execute(&mut self, statement: Statement) -> Result<u64, HistoryError> {
        let work = async {
            Ok(match self.begun.connection() {
                Connection::Sqlite(on) => {
                    let done = sqlite::query(&statement)?.execute(on).await?;
                    done.rows_affected()
                }
                Connection::Postgres(on) => {
                    let done = postgres::query(&statement)?.execute(on).await?;
                    done.rows_affected()
                }
            })
        };
        in_time(self.store, self.operation, self.until, work).await
    }

    /// Writes several rows; no two of them may be the same to the database.
    async fn write_rows<const N: usize>(
        &mut self,
        text: &Rows,
        rows: Vec<[Value; N]>,
    ) -> Result<(), HistoryError> {
        for statement in text.all(rows) {
            self.execute(statement).await?;
        }
        Ok(())
    }

    /// What a question is answered.
    async fn fetch<T: FromRow + Send>(
        &mut self,
        statement: Statement,
    ) -> Result<Vec<T>, HistoryError> {
        self.fetch_by(statement, T::read).await
    }

    /// The same where at most one row answers.
    async fn fetch_one<T: FromRow + Send>(
        &mut self,
        statement: Statement,
    ) -> Result<Option<T>, HistoryError> {
        Ok(self.fetch(statement).await?.pop())
    }

    /// The same where the rows are no records.
    async fn fetch_by<T: Send>(
        &mut self,
        statement: Statement,
        read: fn(&Row) -> Result<T, sqlx::Error>,
    ) -> Result<Vec<T>, HistoryError> {
        let work = async {
            match self.begun.connection() {
                Connection::Sqlite(on) => {
                    let rows = sqlite::query(&statement)?.fetch_all(on).await?;
                    let rows = rows.into_iter().map(Row::Sqlite);
                    rows.map(|row| read(&row)).collect()
                }
                Connection::Postgres(on) => {
                    let rows = postgres::query(&statement)?.fetch_all(on).await?;
                    let rows = rows.into_iter().map(Row::Postgres);
                    rows.map(|row| read(&row)).collect()
                }
            }
        };
        in_time(self.store, self.operation, self.until, work).await
    }

    async fn commit(self) -> Result<(), HistoryError> {
        let work = async {
            match self.begun {
                Begun::Sqlite(on) => on.commit().await,
                Begun::Alone(_) => Ok(()),
                Begun::Postgres(on) => on.commit().await,
            }
        };
        in_time(self.store, self.operation, self.until, work).await
    }
}

/// Ends what would wait for ever for a server that vanished without a word.
async fn in_time<T>(
    store: &SqlStore,
    operation: &'static str,
    until: Option<Instant>,
    work: impl Future<Output = Result<T, sqlx::Error>> + Send,
) -> Result<T, HistoryError> {
    let done = match (store, until) {
        (SqlStore::Postgres(server), Some(until)) => timeout_at(until, work)
            .await
            .map_err(|elapsed| server.silent(elapsed))?,
        _ => work.await,
    };
    done.map_err(|error| store.failed(operation, error))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod plans {
    use super::*;

    /// The large tables that a query reads from front to back, as SQLite plans
    /// it before it knows anything of the sizes.
    pub(super) async fn scans(sql: &str) -> Vec<String> {
        const LARGE: &[&str] = &["runs", "steps", "findings", "measurements", "m", "last"];
        let store = SqliteStore::memory().await.unwrap();
        let mut reading = store.begin("explain", Access::Read).await.unwrap();
        let explain = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}"));
        let lines: Vec<(i64, i64, i64, String)> = sqlx::query_as(explain)
            .fetch_all(&mut *reading)
            .await
            .unwrap();
        let large = |line: &String| match line.strip_prefix("SCAN ") {
            Some(rest) => LARGE.contains(&rest.split(' ').next().unwrap_or_default()),
            None => false,
        };
        lines.into_iter().map(|line| line.3).filter(large).collect()
    }
}
