//! The history in one SQLite file, shared by any number of maint processes
//! on the same machine.

mod open;
pub(super) mod rows;
mod said;

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

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
    readers: Readers,
    /// Which file `writer` has open; none before it has, and where there is no file.
    opened: Arc<Mutex<Option<FileId>>>,
}

/// Which file it is, whatever its name: device and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileId(u64, u64);

impl FileId {
    fn of(path: &Path) -> Option<FileId> {
        let about = std::fs::metadata(path).ok()?;
        Some(FileId(about.dev(), about.ino()))
    }
}

/// Connections that only read, all to the file that has the name now: one that was replaced is still there for who
/// has it open, and nothing is ever written into it any more.
struct Readers {
    /// How another pool is made; none where there is no file.
    anew: Option<Box<dyn Fn() -> SqlitePool + Send + Sync>>,
    open: Mutex<(SqlitePool, Option<FileId>)>,
}

impl Readers {
    /// Of what has no file.
    fn of(pool: SqlitePool) -> Readers {
        Readers {
            anew: None,
            open: Mutex::new((pool, None)),
        }
    }

    /// Of the file at this path.
    fn at(path: &Path, anew: impl Fn() -> SqlitePool + Send + Sync + 'static) -> Readers {
        let open = Mutex::new((anew(), FileId::of(path)));
        Readers {
            anew: Some(Box::new(anew)),
            open,
        }
    }

    /// Those to what is at the path now. The old ones are closed when nobody reads by them any more; SQLite leaves
    /// what lies beside the name alone where the file behind it is another.
    fn pool(&self, path: &Path) -> SqlitePool {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(anew) = &self.anew {
            let now = FileId::of(path);
            if open.1 != now {
                *open = (anew(), now);
            }
        }
        open.0.clone()
    }
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
        if access == Access::Write {
            self.still_there(operation).await?;
        }
        let begun = match access {
            Access::Write => self.writer.begin_with("BEGIN IMMEDIATE").await,
            Access::Read => self.readers.pool(&self.path).begin().await,
        };
        begun.map_err(|error| self.failed(operation, error))
    }

    /// A connection on which each statement is a transaction by itself.
    pub(super) async fn connection(
        &self,
        operation: &'static str,
        access: Access,
    ) -> Result<PoolConnection<Sqlite>, HistoryError> {
        if access == Access::Write {
            self.still_there(operation).await?;
        }
        let pool = match access {
            Access::Write => self.writer.clone(),
            Access::Read => self.readers.pool(&self.path),
        };
        let connection = pool.acquire().await;
        connection.map_err(|error| self.failed(operation, error))
    }

    /// Whether what is written goes into the file that has the name. Into one that was removed or replaced
    /// meanwhile SQLite writes without a word, and nobody will ever read it.
    async fn still_there(&self, operation: &'static str) -> Result<(), HistoryError> {
        let connection = self.writer.acquire().await;
        let connection = connection.map_err(|error| self.failed(operation, error))?;
        let opened = *self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if opened.is_none() || opened == FileId::of(&self.path) {
            return Ok(());
        }
        // The next call opens what is there now. The old file is not closed: SQLite would remove the `-wal` of its
        // name, which may be the new one's.
        std::mem::forget(connection.detach());
        Err(HistoryError::Replaced {
            path: self.path.clone(),
        })
    }

    /// Lets go of the file, so that it is complete without its `-wal` companion.
    pub(super) async fn close(&self) {
        self.readers.pool(&self.path).close().await;
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
