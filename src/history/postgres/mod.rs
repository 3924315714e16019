//! The history in PostgreSQL, shared by any number of instances.
//!
//! Everything is in the schema `maint`, every table is named with it, and
//! every call is one transaction of its own with unnamed statements only:
//! so a pooler in transaction mode may stand in between.

mod hosts;
mod import;
mod migrate;
mod open;
mod owners;
mod pool;
pub(super) mod rows;
mod said;

use std::time::Duration;

use chrono::SubsecRound;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::{Query, QueryAs, QueryScalar};
use sqlx::{Arguments, FromRow, Postgres, Transaction};

use super::HistoryError;
use super::sql::{Access, Dialect, Statement, Value};
use hosts::Hosts;
use owners::For;

/// Longest time for one call, with everything that it waits for. The driver
/// would wait for ever for a server that vanished without a word.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// Longest wait for connections to be let go of at the end.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// What every transaction begins with: pinned before a name is looked up, since
/// the owner of the database chooses where it would be looked for; and only for
/// the transaction, since the session behind a pooler is somebody else's next. Servers
/// before 17 have no `transaction_timeout`.
macro_rules! pinned {
    ($begin:literal) => {
        concat!(
            $begin,
            "; SET LOCAL search_path = pg_catalog, pg_temp; SET LOCAL row_security = off; \
             SET LOCAL TimeZone = 'UTC'; SET LOCAL DateStyle = 'ISO, YMD'; \
             SET LOCAL IntervalStyle = 'postgres'; SET LOCAL extra_float_digits = 1; \
             SET LOCAL bytea_output = 'hex'; SET LOCAL standard_conforming_strings = on; \
             SET LOCAL transform_null_equals = off; SET LOCAL default_tablespace = ''; \
             SET LOCAL default_table_access_method = heap; \
             SET LOCAL idle_in_transaction_session_timeout = '60s'; \
             SELECT pg_catalog.set_config('transaction_timeout', '0', true) \
             WHERE pg_catalog.current_setting('transaction_timeout', true) IS NOT NULL"
        )
    };
}
use pinned;

/// Whatever the server is told to do must end before [`CALL_TIMEOUT`] does.
const BEGIN_WRITE: &str = pinned!(
    "BEGIN READ WRITE; SET LOCAL statement_timeout = '30s'; \
     SET LOCAL lock_timeout = '20s'; SET LOCAL synchronous_commit = on"
);
const BEGIN_READ: &str =
    pinned!("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = '30s'");

pub(super) struct PostgresStore {
    /// `host:port/database`, named in errors.
    place: String,
    hosts: Hosts,
}

/// A statement that is never prepared by name: the session behind a pooler
/// is somebody else's next time.
fn statement(sql: &'static str) -> Query<'static, Postgres, PgArguments> {
    sqlx::query(sql).persistent(false)
}

/// The same for a query that answers rows.
fn rows_of<T>(sql: &'static str) -> QueryAs<'static, Postgres, T, PgArguments>
where
    T: for<'r> FromRow<'r, PgRow>,
{
    sqlx::query_as(sql).persistent(false)
}

/// The same for a query that answers one column.
fn scalar<T>(sql: &'static str) -> QueryScalar<'static, Postgres, T, PgArguments>
where
    (T,): for<'r> FromRow<'r, PgRow>,
{
    sqlx::query_scalar(sql).persistent(false)
}

/// A statement of a call with its values, times to the millisecond.
pub(super) fn query(
    statement: &Statement,
) -> Result<Query<'static, Postgres, PgArguments>, sqlx::Error> {
    let mut arguments = PgArguments::default();
    for value in statement.values() {
        let added = match value {
            // A text cannot hold a NUL.
            Value::Text(Some(text)) if text.contains('\0') => {
                arguments.add(text.replace('\0', "\u{fffd}"))
            }
            Value::Text(text) => arguments.add(text.as_deref()),
            Value::Integer(number) => arguments.add(*number),
            Value::Real(number) => arguments.add(*number),
            Value::Flag(flag) => arguments.add(*flag),
            Value::Id(id) => arguments.add(*id),
            Value::Time(at) => arguments.add(at.map(|at| at.trunc_subsecs(3))),
            Value::Json(document) => arguments.add(rows::Json(document)),
        };
        added.map_err(sqlx::Error::Encode)?;
    }
    Ok(sqlx::query_with(statement.text(Dialect::Postgres), arguments).persistent(false))
}

impl PostgresStore {
    pub(super) fn failed(&self, operation: &'static str, error: sqlx::Error) -> HistoryError {
        HistoryError::from_postgres(&self.place, operation, error)
    }

    /// A transaction in a history that is known to be ours. One that reads
    /// sees one moment, whatever others write meanwhile.
    pub(super) async fn begin(
        &self,
        operation: &'static str,
        access: Access,
    ) -> Result<Transaction<'static, Postgres>, HistoryError> {
        let (begin, what_for) = match access {
            Access::Read => (BEGIN_READ, For::Reading),
            Access::Write => (BEGIN_WRITE, For::Writing),
        };
        let begun = self.hosts.begin(begin).await;
        let (mut begun, on) = begun.map_err(|error| self.failed(operation, error))?;
        on.known
            .refuse_strangers(&mut begun, &self.place, operation, what_for)
            .await?;
        Ok(begun)
    }

    /// Of a call that has been given up.
    pub(super) fn silent(&self, elapsed: tokio::time::error::Elapsed) -> HistoryError {
        HistoryError::OutOfReach {
            place: self.place.clone(),
            source: elapsed.into(),
        }
    }

    pub(super) async fn close(&self) {
        // A server that says nothing does not let go of what was asked of it.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, self.hosts.close()).await;
    }
}
