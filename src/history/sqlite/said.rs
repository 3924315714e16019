//! What SQLite says, sorted by its codes.

use std::io::Read;
use std::path::Path;

use nix::sys::statvfs::{FsFlags, statvfs};

use super::super::{HistoryError, Place};

const PERM: i32 = 3;
const BUSY: i32 = 5;
const LOCKED: i32 = 6;
const READONLY: i32 = 8;
const IOERR: i32 = 10;
const CORRUPT: i32 = 11;
const FULL: i32 = 13;
const CANTOPEN: i32 = 14;
const NOTADB: i32 = 26;

impl HistoryError {
    /// Sorts what SQLite said about `path` while we tried to `operation`.
    pub(in crate::history) fn from_sqlite(
        path: &Path,
        operation: &'static str,
        error: sqlx::Error,
    ) -> HistoryError {
        let code = match &error {
            sqlx::Error::Database(inner) => inner.code().and_then(|code| code.parse::<i32>().ok()),
            _ => None,
        };
        let (path, place) = (path.to_owned(), Place::File(path.to_owned()));
        if let sqlx::Error::PoolTimedOut = error {
            return HistoryError::Busy {
                place,
                source: "somebody has been writing into it for too long".into(),
            };
        }
        if matches!(
            error,
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_)
        ) {
            return HistoryError::Unreadable {
                place,
                source: error.into(),
            };
        }
        // The lower byte is the primary code, https://sqlite.org/rescode.html
        match code.map(|code| code & 0xff) {
            Some(BUSY | LOCKED) => HistoryError::Busy {
                place,
                source: error.into(),
            },
            Some(READONLY | PERM) => HistoryError::ReadOnly {
                place,
                source: error.into(),
            },
            // It says so of a page that it cannot read, too.
            Some(NOTADB) if !begins_as_one(&path) => HistoryError::NotADatabase {
                path,
                source: error.into(),
            },
            Some(CORRUPT | NOTADB) => HistoryError::Damaged {
                path,
                source: error.into(),
            },
            Some(FULL) => HistoryError::DiskFull {
                place,
                source: error.into(),
            },
            // A disk without a free page fails in this way where SQLite wants shared memory.
            Some(CANTOPEN | IOERR) if free_bytes(&path).is_some_and(|free| free < PAGES) => {
                HistoryError::DiskFull {
                    place,
                    source: error.into(),
                }
            }
            Some(CANTOPEN | IOERR) => HistoryError::CannotOpen {
                path,
                source: error.into(),
            },
            _ => HistoryError::Failed {
                operation,
                place,
                source: error.into(),
            },
        }
    }
}

/// Whether a file begins as SQLite databases do, <https://sqlite.org/fileformat.html>; what cannot be read may.
fn begins_as_one(path: &Path) -> bool {
    let mut first = [0; 16];
    let read = std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut first));
    match read {
        Ok(()) => &first == b"SQLite format 3\0",
        Err(error) => error.kind() != std::io::ErrorKind::UnexpectedEof,
    }
}

/// What a file beside the history takes at once; less is a full disk.
const PAGES: u64 = 32 * 1024;

/// How much a file at `path` may still grow, where the system says so.
fn free_bytes(path: &Path) -> Option<u64> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let about = statvfs(folder.unwrap_or(Path::new("."))).ok()?;
    // What has no size or cannot be written has nothing free, and is not full.
    if about.blocks() == 0 || about.flags().contains(FsFlags::ST_RDONLY) {
        return None;
    }
    Some(about.blocks_available() as u64 * about.fragment_size() as u64)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use sqlx::{Connection, SqliteConnection};

    use super::*;

    #[test]
    fn only_what_has_a_size_can_be_full() {
        let folder = tempfile::tempdir().unwrap();
        assert!(free_bytes(&folder.path().join("maint.db")).is_some_and(|free| free > PAGES));
        assert!(free_bytes(Path::new("maint.db")).is_some());
        assert_eq!(free_bytes(Path::new("/proc/maint.db")), None);
        assert_eq!(free_bytes(Path::new("/not/there/maint.db")), None);
    }

    /// A page limit fails a write with the same code as a full disk.
    #[tokio::test]
    async fn a_full_disk_is_told_from_other_failures() {
        let mut connection = SqliteConnection::connect("sqlite::memory:").await.unwrap();
        sqlx::raw_sql("CREATE TABLE t (x); PRAGMA max_page_count = 4")
            .execute(&mut connection)
            .await
            .unwrap();
        let full = sqlx::query("INSERT INTO t VALUES (zeroblob(100000))")
            .execute(&mut connection)
            .await
            .unwrap_err();
        let error = HistoryError::from_sqlite(Path::new("maint.db"), "open a run", full);
        assert!(matches!(error, HistoryError::DiskFull { .. }), "{error:?}");
        assert!(error.is_retryable());

        let wrong = sqlx::query("SELECT nonsense")
            .execute(&mut connection)
            .await
            .unwrap_err();
        let error = HistoryError::from_sqlite(Path::new("maint.db"), "list runs", wrong);
        assert_eq!(
            error.to_string(),
            "cannot list runs in the history maint.db"
        );
        assert!(std::error::Error::source(&error).is_some());
    }
}
