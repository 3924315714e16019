//! Bringing the schema up to date, once, whoever comes first.

use futures_util::future::BoxFuture;
use sqlx::migrate::Migrator;
use sqlx::{Executor, PgConnection};

use super::owners::{For, refuse_strangers};
use super::{PostgresStore, pinned, rows_of, statement};
use crate::history::sql::Access;
use crate::history::standing::is_behind;
use crate::history::{HistoryError, Place};

/// A new migration file is picked up when this file is compiled again.
static MIGRATIONS: Migrator = sqlx::migrate!("src/history/migrations/postgres");

/// Held by a migrating transaction until its end; `maint` in hexadecimal.
const LOCK: i64 = 0x6d_6169_6e74;

const BEGIN: &str = pinned!(
    "BEGIN READ WRITE; SET LOCAL statement_timeout = '55s'; SET LOCAL lock_timeout = '50s'; \
     SET LOCAL synchronous_commit = on"
);
const TAKE_LOCK: &str = "SELECT pg_catalog.pg_advisory_xact_lock($1)";
/// Read from the catalog itself: `to_regnamespace` may answer from a cache
/// that does not know yet what somebody committed while we waited.
const FIND: &str = "SELECT
    EXISTS (SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = 'maint'),
    EXISTS (SELECT 1 FROM pg_catalog.pg_class
             JOIN pg_catalog.pg_namespace ON pg_namespace.oid = relnamespace
            WHERE nspname = 'maint' AND relname = 'migrations')";
const CREATE_SCHEMA: &str = "CREATE SCHEMA maint";
const CREATE_MIGRATIONS: &str = "CREATE TABLE maint.migrations (
    version    bigint NOT NULL PRIMARY KEY,
    title      text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT pg_catalog.now())";
/// The publications that send rows of the table of migrations.
const TELL_OF_IT: &str = "SELECT pg_catalog.string_agg(pg_catalog.quote_ident(p.pubname), ', ' ORDER BY p.pubname)
    FROM pg_catalog.pg_publication p JOIN pg_catalog.pg_publication_tables t ON t.pubname = p.pubname
    WHERE p.pubinsert AND t.schemaname = 'maint' AND t.tablename = 'migrations'";
/// Tables of ours that the role may not write.
const CLOSED: &str = "SELECT pg_catalog.string_agg(pg_catalog.quote_ident(c.relname), ', ' ORDER BY c.relname)
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'maint' AND c.relkind = 'r' AND c.relname <> 'migrations'
        AND NOT (pg_catalog.has_table_privilege(c.oid, 'INSERT') AND pg_catalog.has_table_privilege(c.oid, 'UPDATE')
            AND pg_catalog.has_table_privilege(c.oid, 'DELETE'))";
const APPLIED: &str = "SELECT version FROM maint.migrations ORDER BY version";
const RECORD: &str = "INSERT INTO maint.migrations (version, title) VALUES ($1, $2)";

/// How the schema in the database stands to this program.
pub(super) enum Standing {
    /// There is none.
    Absent,
    /// Some migrations have not been applied.
    Behind,
    /// Nothing is to be done.
    Current,
}

/// What texts are kept as in this database.
const ENCODING: &str = "SELECT pg_catalog.getdatabaseencoding()";

/// Encodings that hold whatever objects are called; `SQL_ASCII` keeps bytes as they come.
const HOLD_ALL: [&str; 2] = ["UTF8", "SQL_ASCII"];

impl PostgresStore {
    /// Refuses a database that could not keep every name: a record with another one would never go in,
    /// nor would any that wait behind it.
    pub(super) async fn refuse_encodings(&self) -> Result<(), HistoryError> {
        const OPERATION: &str = "read the encoding";
        let failed = |error| self.failed(OPERATION, error);
        let mut reading = self.begin(OPERATION, Access::Read).await?;
        let encoding: String = super::scalar(ENCODING)
            .fetch_one(&mut *reading)
            .await
            .map_err(failed)?;
        reading.commit().await.map_err(failed)?;
        match HOLD_ALL.contains(&encoding.as_str()) {
            true => Ok(()),
            false => Err(HistoryError::Encoding {
                place: self.place.clone(),
                encoding,
            }),
        }
    }

    pub(super) async fn standing(&self) -> Result<Standing, HistoryError> {
        const OPERATION: &str = "read the schema";
        let failed = |error| self.failed(OPERATION, error);
        let mut reading = self.begin(OPERATION, Access::Read).await?;
        let (_, there) = found(&mut reading).await.map_err(failed)?;
        let standing = if there {
            let applied = applied(&mut reading).await.map_err(failed)?;
            match is_behind(&MIGRATIONS, &applied, || Place::Server(self.place.clone()))? {
                true => Standing::Behind,
                false => Standing::Current,
            }
        } else {
            Standing::Absent
        };
        reading.commit().await.map_err(failed)?;
        Ok(standing)
    }

    /// Applies what is missing, all or nothing. The lock belongs to the
    /// transaction, so of several instances one migrates, the others wait and
    /// find it done.
    ///
    /// Boxed: see `open_as`.
    pub(super) fn migrate(&self) -> BoxFuture<'_, Result<(), HistoryError>> {
        Box::pin(self.apply())
    }

    /// Makes what is missing of the schema and takes it back at once: whether the next run could make
    /// it, and write there.
    pub(in crate::history) async fn rehearse(&self) -> Result<(), HistoryError> {
        const OPERATION: &str = "make its tables in the schema `maint`";
        let failed = |error| self.failed(OPERATION, error);
        self.refuse_encodings().await?;
        let (mut writing, _) = self.hosts.begin(BEGIN).await.map_err(failed)?;
        self.begin_schema(&mut writing, OPERATION).await?;
        let closed: Option<String> = super::scalar(CLOSED)
            .fetch_one(&mut *writing)
            .await
            .map_err(failed)?;
        writing.rollback().await.map_err(failed)?;
        match closed {
            None => Ok(()),
            Some(tables) => Err(HistoryError::NotAllowed {
                operation: "write records",
                place: self.place.clone(),
                source: format!(
                    "it may not INSERT, UPDATE and DELETE in {tables} of the schema `maint`"
                )
                .into(),
            }),
        }
    }

    /// The schema with the table of migrations, where they are not there yet.
    async fn begin_schema(
        &self,
        writing: &mut PgConnection,
        operation: &'static str,
    ) -> Result<(), HistoryError> {
        let failed = |error| self.failed(operation, error);
        refuse_strangers(writing, &self.place, operation, For::Migrating).await?;
        let (schema, table) = found(writing).await.map_err(failed)?;
        if !schema {
            run(writing, CREATE_SCHEMA).await.map_err(failed)?;
        }
        if !table {
            run(writing, CREATE_MIGRATIONS).await.map_err(failed)?;
            self.refuse_publications(writing, operation).await?;
        }
        Ok(())
    }

    /// Refuses a database in which what has just been made is told to subscribers: those that have no
    /// such tables stop at the first row, with all others.
    async fn refuse_publications(
        &self,
        writing: &mut PgConnection,
        operation: &'static str,
    ) -> Result<(), HistoryError> {
        let failed = |error| self.failed(operation, error);
        let named: Option<String> = super::scalar(TELL_OF_IT)
            .fetch_one(writing)
            .await
            .map_err(failed)?;
        match named {
            None => Ok(()),
            Some(publications) => Err(HistoryError::Published {
                place: self.place.clone(),
                publications,
            }),
        }
    }

    async fn apply(&self) -> Result<(), HistoryError> {
        const OPERATION: &str = "update the schema";
        let failed = |error| self.failed(OPERATION, error);
        let (mut writing, _) = self.hosts.begin(BEGIN).await.map_err(failed)?;
        statement(TAKE_LOCK)
            .bind(LOCK)
            .execute(&mut *writing)
            .await
            .map_err(failed)?;
        // Once more, under the lock, and with what commands would set off.
        self.begin_schema(&mut writing, OPERATION).await?;
        let applied = applied(&mut writing).await.map_err(failed)?;
        is_behind(&MIGRATIONS, &applied, || Place::Server(self.place.clone()))?;
        for migration in MIGRATIONS.iter() {
            if applied.contains(&migration.version) {
                continue;
            }
            writing
                .execute(migration.sql.clone())
                .await
                .map_err(failed)?;
            statement(RECORD)
                .bind(migration.version)
                .bind(migration.description.as_ref())
                .execute(&mut *writing)
                .await
                .map_err(failed)?;
        }
        writing.commit().await.map_err(failed)
    }
}

/// Whether the schema and the table of migrations are there.
async fn found(connection: &mut PgConnection) -> Result<(bool, bool), sqlx::Error> {
    rows_of(FIND).fetch_one(connection).await
}

async fn applied(connection: &mut PgConnection) -> Result<Vec<i64>, sqlx::Error> {
    super::scalar(APPLIED).fetch_all(connection).await
}

async fn run(connection: &mut PgConnection, sql: &'static str) -> Result<(), sqlx::Error> {
    statement(sql).execute(connection).await.map(drop)
}
