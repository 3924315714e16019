//! The history in a database that speaks SQL: what is asked is written once,
//! whichever it is.

mod calendar;
mod dead;
mod learned;
mod outbox;
mod records;
mod retention;
mod rows;
mod runs;
mod series;
mod statement;
mod summaries;
mod text;

use tokio::time::{Instant, timeout_at};

use super::postgres::{self, PostgresStore};
use super::sqlite::{self, SqliteStore};
use super::{HistoryError, clean};
use rows::{FromRow, Row};
use statement::Builder;
use text::Sql;

pub(super) use rows::unreadable;
pub(super) use statement::{Statement, Value, time_text};
pub(super) use text::Dialect;

/// A history, and the one implementation of all that it promises.
pub(super) enum SqlStore {
    Sqlite(SqliteStore),
    Postgres(PostgresStore),
}

/// What a call is going to do.
#[derive(Clone, Copy)]
pub(super) enum Access {
    Read,
    Write,
}

impl SqlStore {
    async fn begin(
        &self,
        operation: &'static str,
        access: Access,
    ) -> Result<Call<'_>, HistoryError> {
        let (transaction, until) = match self {
            SqlStore::Sqlite(store) => (Begun::Sqlite(store.begin(operation, access).await?), None),
            SqlStore::Postgres(store) => {
                let until = Instant::now() + postgres::CALL_TIMEOUT;
                let begun = timeout_at(until, store.begin(operation, access));
                let begun = begun.await.map_err(|elapsed| store.silent(elapsed))??;
                (Begun::Postgres(begun), Some(until))
            }
        };
        Ok(Call {
            store: self,
            operation,
            until,
            transaction,
        })
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
        let mut writing = self.write(operation).await?;
        let changed = writing.execute(statement).await?;
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
        let mut reading = self.read(operation).await?;
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
    transaction: Begun,
}

enum Begun {
    Sqlite(sqlx::Transaction<'static, sqlx::Sqlite>),
    Postgres(sqlx::Transaction<'static, sqlx::Postgres>),
}

impl Call<'_> {
    /// Runs a statement. Returns how many rows it changed.
    async fn execute(&mut self, statement: Statement) -> Result<u64, HistoryError> {
        let work = async {
            Ok(match &mut self.transaction {
                Begun::Sqlite(on) => {
                    let done = sqlite::query(&statement)?.execute(&mut **on).await?;
                    done.rows_affected()
                }
                Begun::Postgres(on) => {
                    let done = postgres::query(&statement)?.execute(&mut **on).await?;
                    done.rows_affected()
                }
            })
        };
        in_time(self.store, self.operation, self.until, work).await
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
            match &mut self.transaction {
                Begun::Sqlite(on) => {
                    let rows = sqlite::query(&statement)?.fetch_all(&mut **on).await?;
                    let rows = rows.into_iter().map(Row::Sqlite);
                    rows.map(|row| read(&row)).collect()
                }
                Begun::Postgres(on) => {
                    let rows = postgres::query(&statement)?.fetch_all(&mut **on).await?;
                    let rows = rows.into_iter().map(Row::Postgres);
                    rows.map(|row| read(&row)).collect()
                }
            }
        };
        in_time(self.store, self.operation, self.until, work).await
    }

    async fn commit(self) -> Result<(), HistoryError> {
        let work = async {
            match self.transaction {
                Begun::Sqlite(on) => on.commit().await,
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
