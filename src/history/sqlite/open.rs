//! Opens a history in a file or in memory: makes sure that it is ours, no newer than this program,
//! and safe beside other processes.

use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, SqliteConnection};

use super::{FileId, Readers, SqliteStore};
use crate::history::{HistoryError, Opening, Place, standing};

/// A new migration file is picked up when this file is compiled again.
static MIGRATIONS: Migrator = sqlx::migrate!("src/history/migrations/sqlite");

/// `mntH`, as the first migration writes it.
const APPLICATION_ID: i64 = 1_835_955_272;

const READ_APPLICATION_ID: &str = "SELECT application_id FROM pragma_application_id";
const COUNT_TABLES: &str = "SELECT count(*) FROM sqlite_master";
const READ_APPLIED: &str = "SELECT version FROM _sqlx_migrations ORDER BY version";
const READ_JOURNAL_MODE: &str = "SELECT journal_mode FROM pragma_journal_mode";
const USE_WAL: &str = "PRAGMA journal_mode = WAL";

/// How long a statement waits for other processes before it gives up.
///
/// Writes take milliseconds, so only a stuck process or a backup that locks
/// the file gets near this, and losing a record is worse than waiting.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);

/// Pause between two tries to switch to WAL, the one lock that
/// [`BUSY_TIMEOUT`] does not wait for.
const WAL_RETRY_PAUSE: Duration = Duration::from_millis(20);

/// Connections that read at the same time: `maint serve` answers a handful
/// of pages at once, everything else needs one.
const READERS: u32 = 4;

/// Longer than anybody waits for a connection.
const NEVER_SLOW: Duration = Duration::from_secs(3600);

impl SqliteStore {
    pub(in crate::history) async fn memory() -> Result<SqliteStore, HistoryError> {
        let path = PathBuf::from(":memory:");
        // The database lives and dies with its connection: keep exactly one.
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_with(options(&path).in_memory(true))
            .await
            .map_err(|error| opening_failed(&path, error))?;
        let mut connection = pool
            .acquire()
            .await
            .map_err(|error| opening_failed(&path, error))?;
        migrate(&path, &mut connection).await?;
        drop(connection);
        Ok(SqliteStore {
            path,
            writer: pool.clone(),
            readers: Readers::of(pool),
            opened: Arc::default(),
        })
    }

    /// Opened with the first call, if it can be opened then.
    pub(in crate::history) fn unseen(path: PathBuf) -> SqliteStore {
        with_pools(path.clone(), options(&path))
    }

    pub(in crate::history) async fn file(
        path: PathBuf,
        opening: Opening,
    ) -> Result<SqliteStore, HistoryError> {
        if let Some(what) = no_file(&path) {
            let place = Place::File(path);
            return Err(HistoryError::NoFile { place, what });
        }
        let missing = !path.exists();
        if missing && opening == Opening::MustExist {
            return Err(HistoryError::Missing {
                place: Place::File(path),
            });
        }
        if missing {
            create(&path)?;
        }
        match prepare(&path, &options(&path)).await {
            Ok(()) => Ok(with_pools(path.clone(), options(&path))),
            Err(error) if opening == Opening::MustExist && not_writable(&error) => {
                read_only(path, error).await
            }
            Err(error) => Err(error),
        }
    }
}

/// What is at the place of a file, where it is none: nothing can ever be written there.
fn no_file(path: &Path) -> Option<&'static str> {
    let found = std::fs::metadata(path).ok()?;
    match (found.is_file(), found.is_dir()) {
        (true, _) => None,
        (_, true) => Some("a folder"),
        (_, false) => Some("a device or a pipe"),
    }
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(BUSY_TIMEOUT)
        .foreign_keys(true)
        // FULL syncs every commit, where NORMAL in WAL mode may lose the last
        // ones with the power. The record of a rebuild under way is what the
        // next run cleans up by, and a run commits a few times per step: the
        // price is not measurable.
        .synchronous(SqliteSynchronous::Full)
        .disable_statement_logging()
}

fn with_pools(path: PathBuf, options: SqliteConnectOptions) -> SqliteStore {
    let opened = Arc::<Mutex<Option<FileId>>>::default();
    let (seen, named) = (opened.clone(), path.clone());
    let writer = SqlitePoolOptions::new()
        .max_connections(1)
        .after_connect(move |_, _| {
            *seen.lock().unwrap_or_else(PoisonError::into_inner) = FileId::of(&named);
            Box::pin(async { Ok(()) })
        })
        .before_acquire(|connection, _| Box::pin(async { Ok(fit(connection)) }))
        // Whoever waits in vain says so in words of ours.
        .acquire_slow_threshold(NEVER_SLOW)
        // The lock of another process is waited for while holding the one
        // connection, so those in line behind it need more than one turn.
        .acquire_timeout(BUSY_TIMEOUT * 3)
        .connect_lazy_with(options.clone());
    let reading = options.pragma("query_only", "ON");
    let readers = Readers::at(&path, move || {
        SqlitePoolOptions::new()
            .max_connections(READERS)
            .before_acquire(|connection, _| Box::pin(async { Ok(fit(connection)) }))
            .acquire_slow_threshold(NEVER_SLOW)
            .connect_lazy_with(reading.clone())
    });
    SqliteStore {
        path,
        writer,
        readers,
        opened,
    }
}

/// Whether another transaction may begin there. SQLite itself takes a transaction back where the disk is full or
/// cannot be read; the driver then cannot, counts it as open for ever, and refuses the next.
/// <https://www.sqlite.org/lang_transaction.html>, section 2.3.
fn fit(connection: &SqliteConnection) -> bool {
    !connection.is_in_transaction()
}

/// Creates an empty file that only its owner can read, before SQLite would
/// create one that everybody can. Its `-wal` and `-shm` copy the mode.
fn create(path: &Path) -> Result<(), HistoryError> {
    let created = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    let Err(error) = created else { return Ok(()) };
    let path = path.to_owned();
    match error.kind() {
        // Another process was faster; the file is as good as ours.
        ErrorKind::AlreadyExists => Ok(()),
        ErrorKind::NotFound | ErrorKind::NotADirectory => Err(HistoryError::NoFolder { path }),
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            Err(HistoryError::ReadOnly {
                place: Place::File(path),
                source: error.into(),
            })
        }
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Err(HistoryError::DiskFull {
            place: Place::File(path),
            source: error.into(),
        }),
        _ => Err(HistoryError::CannotOpen {
            path,
            source: error.into(),
        }),
    }
}

/// Checks the file and brings it to the current schema.
async fn prepare(path: &Path, options: &SqliteConnectOptions) -> Result<(), HistoryError> {
    let mut connection = options
        .connect()
        .await
        .map_err(|error| opening_failed(path, error))?;
    let behind = is_behind(path, &mut connection).await?;
    use_wal(path, &mut connection).await?;
    if behind {
        migrate(path, &mut connection).await?;
    }
    connection
        .close()
        .await
        .map_err(|error| opening_failed(path, error))
}

/// Whether migrations have not been applied; all of them to an empty file.
async fn is_behind(path: &Path, connection: &mut SqliteConnection) -> Result<bool, HistoryError> {
    let failed = |error| opening_failed(path, error);
    let id: i64 = sqlx::query_scalar(READ_APPLICATION_ID)
        .fetch_one(&mut *connection)
        .await
        .map_err(failed)?;
    if id != APPLICATION_ID {
        let tables: i64 = sqlx::query_scalar(COUNT_TABLES)
            .fetch_one(&mut *connection)
            .await
            .map_err(failed)?;
        // The two reads see two moments: another process may have filled the
        // empty file in between.
        let id: i64 = sqlx::query_scalar(READ_APPLICATION_ID)
            .fetch_one(&mut *connection)
            .await
            .map_err(failed)?;
        if id != APPLICATION_ID {
            return if tables == 0 {
                Ok(true)
            } else {
                Err(HistoryError::NotAHistory {
                    path: path.to_owned(),
                })
            };
        }
    }
    let applied: Vec<i64> = sqlx::query_scalar(READ_APPLIED)
        .fetch_all(&mut *connection)
        .await
        .map_err(failed)?;
    standing::is_behind(&MIGRATIONS, &applied, || Place::File(path.to_owned()))
}

/// Switches the file to a write-ahead log, so that readers and the writer
/// do not wait for each other. The file remembers.
async fn use_wal(path: &Path, connection: &mut SqliteConnection) -> Result<(), HistoryError> {
    let began = Instant::now();
    loop {
        let switched = async {
            let mode: String = sqlx::query_scalar(READ_JOURNAL_MODE)
                .fetch_one(&mut *connection)
                .await?;
            if mode != "wal" {
                sqlx::query(USE_WAL).execute(&mut *connection).await?;
            }
            Ok(())
        };
        match switched.await.map_err(|error| opening_failed(path, error)) {
            Err(HistoryError::Busy { .. }) if began.elapsed() < BUSY_TIMEOUT => {
                tokio::time::sleep(WAL_RETRY_PAUSE).await;
            }
            outcome => return outcome,
        }
    }
}

/// Applies what is missing. sqlx locks nothing on SQLite, so the write lock
/// is taken around all of it: of several processes one migrates, the others
/// wait and find it done.
async fn migrate(path: &Path, connection: &mut SqliteConnection) -> Result<(), HistoryError> {
    let failed = |error| HistoryError::from_sqlite(path, "update the schema", error);
    let mut transaction = connection
        .begin_with("BEGIN IMMEDIATE")
        .await
        .map_err(failed)?;
    match MIGRATIONS.run_direct(None, &mut *transaction, false).await {
        Ok(()) => transaction.commit().await.map_err(failed),
        Err(MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)) => {
            Err(failed(error))
        }
        // Somebody newer was faster.
        Err(MigrateError::VersionMissing(found)) => {
            let place = || Place::File(path.to_owned());
            standing::is_behind(&MIGRATIONS, &[found], place).map(drop)
        }
        Err(other) => Err(HistoryError::Failed {
            operation: "update the schema",
            place: Place::File(path.to_owned()),
            source: other.into(),
        }),
    }
}

fn not_writable(error: &HistoryError) -> bool {
    matches!(
        error,
        HistoryError::ReadOnly { .. } | HistoryError::CannotOpen { .. }
    )
}

/// Opens a file that we cannot write, after `first` was met.
///
/// `immutable` makes SQLite read without its `-shm` file, which it cannot
/// create here. It then misses what still stands in a `-wal`, so the plain
/// read-only way is tried before.
async fn read_only(path: PathBuf, first: HistoryError) -> Result<SqliteStore, HistoryError> {
    let plain = options(&path).read_only(true);
    for options in [plain.clone(), plain.immutable(true)] {
        let Ok(mut connection) = options.connect().await else {
            continue;
        };
        match is_behind(&path, &mut connection).await {
            Ok(false) => {}
            Ok(true) => {
                return Err(HistoryError::OlderSchema {
                    place: Place::File(path),
                });
            }
            Err(error) if not_writable(&error) => continue,
            Err(error) => return Err(error),
        }
        let anew = move || {
            SqlitePoolOptions::new()
                .max_connections(READERS)
                .connect_lazy_with(options.clone())
        };
        return Ok(SqliteStore {
            writer: anew(),
            readers: Readers::at(&path, anew),
            path,
            opened: Arc::default(),
        });
    }
    Err(first)
}

fn opening_failed(path: &Path, error: sqlx::Error) -> HistoryError {
    HistoryError::from_sqlite(path, "open the file", error)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests;
