//! Why the history could not be opened, read or written, and what to do about it; no text repeats a
//! password.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{Place, RunStatus};
use crate::engines::postgres::Identifier;
use crate::engines::postgres::connect::DialError;
use nix::sys::statvfs::{FsFlags, statvfs};

/// Why the history could not be opened, read or written.
///
/// Causes are in `source()`; [`HistoryError::hint`] says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HistoryError {
    /// The configured place is none we know; only its scheme is repeated,
    /// because the rest may hold a password.
    #[error("`history:` names no place for a history{}", quoted_scheme(.scheme))]
    BadLocation {
        /// What stood before the first colon; empty where there was none.
        scheme: String,
    },
    /// What is named is there, and no file.
    #[error("the history cannot be in {place}: that is {what}")]
    NoFile {
        /// Where it is said to be.
        place: Place,
        /// What is there.
        what: &'static str,
    },
    /// The URL of a history in PostgreSQL makes no sense; it is not repeated.
    #[error("the URL of the history: {0}")]
    BadUrl(#[source] DialError),
    /// No session could be opened, for a reason that is known.
    #[error("the history at {place} is out of reach")]
    NoConnection {
        /// `host:port/database`.
        place: String,
        /// What to do.
        hint: String,
        /// Why.
        source: Cause,
    },
    /// The server went away, or does not answer in time.
    #[error("the history at {place} is out of reach")]
    OutOfReach {
        /// `host:port/database`.
        place: String,
        /// What the driver said.
        source: Cause,
    },
    /// The role may not do what is needed.
    #[error("the role may not {operation} in the history at {place}")]
    NotAllowed {
        /// What was to be done.
        operation: &'static str,
        /// `host:port/database`.
        place: String,
        /// What the server said.
        source: Cause,
    },
    /// The schema or a table is somebody else's, or has code of somebody else.
    #[error(
        "the history at {place} is not ours: {what} belongs to {owner}, who could have code run with the rights of {role}, and say what ran"
    )]
    NotOurs {
        /// `host:port/database`.
        place: String,
        /// Which object.
        what: String,
        /// Whose it is.
        owner: String,
        /// The role that maint connects as.
        role: String,
    },
    /// The database keeps texts in an encoding that not every name fits into.
    #[error(
        "the history at {place} is in a database with the encoding {encoding}, which cannot hold every name: a record with another one would keep all others out"
    )]
    Encoding {
        /// `host:port/database`.
        place: String,
        /// As the server calls it.
        encoding: String,
    },
    /// A copy between places that do not fit.
    #[error("a history is copied from a SQLite file to PostgreSQL")]
    CannotCopy,
    /// There is none, and only looking at it was asked for.
    #[error("there is no history at {}", .place.name())]
    Missing {
        /// Where it is, or would be.
        place: Place,
    },
    /// The folder that should hold the file is not there.
    #[error("the folder of the history {} does not exist", .path.display())]
    NoFolder {
        /// The file to be created.
        path: PathBuf,
    },
    /// It may be read but not written.
    #[error("the history {place} cannot be written")]
    ReadOnly {
        /// Where it is, or would be.
        place: Place,
        /// What the system said.
        source: Cause,
    },
    /// Any other reason why the file did not open.
    #[error("the history {} cannot be opened", .path.display())]
    CannotOpen {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: Cause,
    },
    /// Bytes that are no SQLite database, or no sound one.
    #[error("the history {} is damaged", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: Cause,
    },
    /// A sound SQLite database of somebody else.
    #[error("{} is a database, but not a history of maint", .path.display())]
    NotAHistory {
        /// The file.
        path: PathBuf,
    },
    /// Written by a newer maint.
    #[error("the history {place} has schema {found}, this maint knows only up to {known}")]
    NewerSchema {
        /// Where it is, or would be.
        place: Place,
        /// Version found in it.
        found: i64,
        /// Newest version this program can use.
        known: i64,
    },
    /// Written by an older maint, and it could not be brought up to date
    /// because it cannot be written.
    #[error("the history {place} has an older schema and cannot be written")]
    OlderSchema {
        /// Where it is, or would be.
        place: Place,
    },
    /// No room was left for the write.
    #[error("no space left for the history {place}")]
    DiskFull {
        /// Where it is, or would be.
        place: Place,
        /// What SQLite said.
        source: Cause,
    },
    /// Somebody else held it for longer than we wait.
    #[error("the history {place} {}", busy(.place))]
    Busy {
        /// Where it is, or would be.
        place: Place,
        /// What SQLite said.
        source: Cause,
    },
    /// The file has another name now, or none, and another may stand in its place.
    #[error("the history {} was removed or replaced while it was in use: what went into it since cannot be found", .path.display())]
    Replaced {
        /// The file that it was.
        path: PathBuf,
    },
    /// A write did not end in time.
    #[error("the history has not answered for {seconds} s")]
    Stalled {
        /// How long it was waited for.
        seconds: u64,
    },
    /// Nobody writes into the history any more, because the process ends.
    #[error("the history is closed: the process is ending")]
    Ended,
    /// No run has an id like that.
    #[error("no run has an id beginning with `{}`{}", .given.escape_debug(), listed(.latest, "latest runs"))]
    UnknownRun {
        /// What was asked for.
        given: String,
        /// The newest runs.
        latest: Vec<Candidate>,
    },
    /// `last` was asked for, and nothing ever ran.
    #[error("nothing has run yet")]
    NoRuns,
    /// More than one run has an id like that.
    #[error("more than one run has an id beginning with `{}`{}", .given.escape_debug(), listed(.candidates, "these"))]
    AmbiguousRun {
        /// What was asked for.
        given: String,
        /// Those it could mean, newest first; at most ten.
        candidates: Vec<Candidate>,
    },
    /// A step or finding was handed in for a run that was never opened.
    #[error("run {run} is not in the history")]
    NotOpened {
        /// Its id.
        run: Uuid,
    },
    /// A value in it is none this program can read.
    #[error("the history {place} holds a value that cannot be read")]
    Unreadable {
        /// Where it is, or would be.
        place: Place,
        /// Which column, and what is wrong with it.
        source: Cause,
    },
    /// Anything else a statement can meet.
    #[error("cannot {operation} in the history {place}")]
    Failed {
        /// What was to be done: `open a run`.
        operation: &'static str,
        /// Where it is, or would be.
        place: Place,
        /// What the driver said.
        source: Cause,
    },
}

/// What the system or the driver said.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// What an error means for whoever meets it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// The same call may succeed later by itself.
    Passing,
    /// Not usable just now, though its place makes sense.
    Away,
    /// Somebody has to act on the history.
    Unusable,
    /// Somebody has to ask otherwise.
    Usage,
}

/// A run that an id could have meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its id.
    pub id: Uuid,
    /// Its task.
    pub task: String,
    /// Its target.
    pub target: String,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// How it stands.
    pub status: RunStatus,
}

impl HistoryError {
    /// What a person can do about it, where that is known.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            HistoryError::NoFile { .. } => {
                "name a file, which need not be there yet: `history: sqlite:maint.db`".to_owned()
            }
            HistoryError::BadLocation { .. } => "write `history: sqlite:maint.db` or `history: postgres://user@host/database`".to_owned(),
            HistoryError::BadUrl(error) => error.hint(),
            HistoryError::CannotCopy => {
                "maint history copy --from sqlite:maint.db --to postgres://user@host/database".to_owned()
            }
            HistoryError::NoConnection { hint, .. } => hint.clone(),
            HistoryError::OutOfReach { .. } => {
                "see whether that server runs and answers; a pooler in statement mode cannot be used".to_owned()
            }
            HistoryError::NotAllowed { .. } => {
                "as the owner of that database: CREATE SCHEMA maint AUTHORIZATION ROLE, with the role of the history's URL; or grant it CREATE on the database once".to_owned()
            }
            HistoryError::Encoding { .. } => {
                "name another database in `history:`, made with CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0; runs that are here already can be read as before, and pg_dump with psql brings them along".to_owned()
            }
            HistoryError::NotOurs { owner, role, .. } => {
                let (owner, role) = (Identifier::new(&**owner), Identifier::new(&**role));
                format!("look at what it is; then ALTER … OWNER TO {role}, or connect as {owner}, or add options=-crole={owner} to the URL if {owner} is what maint is to be there; or DROP it, or name another database")
            }
            HistoryError::Missing { place: Place::File(_) } => {
                "nothing has run here yet, or `history:` names another file than the one `maint run` wrote".to_owned()
            }
            HistoryError::Missing { place: Place::Server(_) } => {
                "nothing has run here yet, or `history:` names another database than the one `maint run` wrote to".to_owned()
            }
            HistoryError::NoFolder { path } => {
                format!("mkdir -p {}", path.parent().unwrap_or(Path::new(".")).display())
            }
            HistoryError::ReadOnly { place: Place::Server(_), .. } => {
                "name the primary: a standby cannot be written".to_owned()
            }
            HistoryError::ReadOnly { place: Place::File(path), .. } => format!(
                "{} and its folder must be writable by this user: SQLite keeps two more files beside it",
                path.display()
            ),
            HistoryError::OlderSchema { place: Place::File(_) } => {
                "run any maint command once as a user who may write it".to_owned()
            }
            HistoryError::OlderSchema { place: Place::Server(_) } => {
                "run any maint command once, at the primary, as the role that owns the schema `maint`".to_owned()
            }
            HistoryError::Damaged { path, .. } => format!(
                "move it away to start a new one; `sqlite3 {} .recover` may save what it holds",
                path.display()
            ),
            HistoryError::NotAHistory { .. } => "name another file in `history:`".to_owned(),
            HistoryError::NewerSchema { place: Place::File(_), .. } => {
                "use the newer maint everywhere, or name another file in `history:`".to_owned()
            }
            HistoryError::NewerSchema { place: Place::Server(_), .. } => {
                "use the newer maint everywhere, or name another database in `history:`".to_owned()
            }
            HistoryError::DiskFull { place: Place::File(_), .. } => {
                "make room on that disk; nothing already recorded is lost".to_owned()
            }
            HistoryError::DiskFull { place: Place::Server(_), .. } => {
                "make room on the disk of that server; nothing already recorded is lost".to_owned()
            }
            HistoryError::Replaced { .. } => {
                "put the file back while maint is not at work; what an archive has stored lies beside its files, too".to_owned()
            }
            HistoryError::Busy { place: Place::File(_), .. } => {
                "see who holds it with `fuser` or `lsof`".to_owned()
            }
            HistoryError::Busy { place: Place::Server(_), .. } => {
                "see in pg_stat_activity and pg_locks who holds locks on tables of the schema `maint`, and how busy the server is".to_owned()
            }
            HistoryError::AmbiguousRun { .. } => "give more of the id".to_owned(),
            HistoryError::UnknownRun { .. } => "`maint history` lists the runs; `last` means the newest".to_owned(),
            HistoryError::CannotOpen { .. }
            | HistoryError::Stalled { .. }
            | HistoryError::Ended
            | HistoryError::NoRuns
            | HistoryError::NotOpened { .. }
            | HistoryError::Unreadable { .. }
            | HistoryError::Failed { .. } => return None,
        };
        Some(hint)
    }

    /// Whether the same call may succeed later without anybody acting on
    /// this history: callers may spool the record and try again.
    pub fn is_retryable(&self) -> bool {
        self.standing() == Standing::Passing
    }

    /// Whether the history cannot be used just now although its place makes
    /// sense: work that does not rest on it goes on without.
    pub fn is_away(&self) -> bool {
        matches!(self.standing(), Standing::Passing | Standing::Away)
    }

    /// Whether it is what was asked for, or how, that is wrong, and the
    /// history itself answers or is not what it is about.
    pub fn is_usage(&self) -> bool {
        self.standing() == Standing::Usage
    }

    /// The one place that says of each what it means for whoever meets it.
    fn standing(&self) -> Standing {
        match self {
            HistoryError::Busy { .. }
            | HistoryError::Replaced { .. }
            | HistoryError::DiskFull { .. }
            | HistoryError::NoConnection { .. }
            | HistoryError::OutOfReach { .. }
            | HistoryError::Stalled { .. } => Standing::Passing,
            HistoryError::ReadOnly { .. } | HistoryError::CannotOpen { .. } => Standing::Away,
            HistoryError::BadLocation { .. }
            | HistoryError::NoFile { .. }
            | HistoryError::BadUrl(_)
            | HistoryError::CannotCopy
            | HistoryError::UnknownRun { .. }
            | HistoryError::NoRuns
            | HistoryError::AmbiguousRun { .. } => Standing::Usage,
            HistoryError::NotAllowed { .. }
            | HistoryError::NotOurs { .. }
            | HistoryError::Encoding { .. }
            | HistoryError::Missing { .. }
            | HistoryError::NoFolder { .. }
            | HistoryError::Damaged { .. }
            | HistoryError::NotAHistory { .. }
            | HistoryError::NewerSchema { .. }
            | HistoryError::OlderSchema { .. }
            | HistoryError::Ended
            | HistoryError::NotOpened { .. }
            | HistoryError::Unreadable { .. }
            | HistoryError::Failed { .. } => Standing::Unusable,
        }
    }

    /// Sorts what SQLite said about `path` while we tried to `operation`.
    pub(super) fn from_sqlite(
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

impl HistoryError {
    /// Sorts what PostgreSQL said while we tried to `operation`.
    pub(super) fn from_postgres(
        place: &str,
        operation: &'static str,
        error: sqlx::Error,
    ) -> HistoryError {
        let code = match &error {
            sqlx::Error::Database(inner) => inner.code().map(|code| code.into_owned()),
            _ => None,
        };
        let (server, place) = (Place::Server(place.to_owned()), place.to_owned());
        // https://www.postgresql.org/docs/current/errcodes-appendix.html
        match (&error, code.as_deref().unwrap_or_default()) {
            (sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_), _) => {
                HistoryError::Unreadable {
                    place: server,
                    source: said(error),
                }
            }
            (sqlx::Error::PoolTimedOut, _) => HistoryError::OutOfReach {
                place,
                source:
                    "no connection could be had in time: the server takes none, or says nothing"
                        .into(),
            },
            (
                sqlx::Error::Io(_)
                | sqlx::Error::Tls(_)
                | sqlx::Error::PoolClosed
                | sqlx::Error::Protocol(_)
                | sqlx::Error::BeginFailed,
                _,
            ) => HistoryError::OutOfReach {
                place,
                source: said(error),
            },
            // Shutdowns, no more connections, a database closed for a while.
            (_, "57P01" | "57P02" | "57P03" | "57P05" | "53300" | "55000" | "3D000") => {
                HistoryError::OutOfReach {
                    place,
                    source: said(error),
                }
            }
            (_, code) if code.starts_with("08") || code.starts_with("28") => {
                HistoryError::OutOfReach {
                    place,
                    source: said(error),
                }
            }
            (_, "25006") => HistoryError::ReadOnly {
                place: server,
                source: said(error),
            },
            (_, "42501") => HistoryError::NotAllowed {
                operation,
                place,
                source: said(error),
            },
            (_, "53100") => HistoryError::DiskFull {
                place: server,
                source: said(error),
            },
            // Lock and statement timeouts, deadlocks, serialization.
            (_, "55P03" | "57014" | "40P01" | "40001") => HistoryError::Busy {
                place: server,
                source: said(error),
            },
            _ => HistoryError::Failed {
                operation,
                place: server,
                source: said(error),
            },
        }
    }
}

/// What the server says, without what its driver adds: the line of the server's own source.
fn said(error: sqlx::Error) -> Cause {
    match &error {
        sqlx::Error::Database(inner) => match inner.code() {
            Some(code) => format!("{} (SQLSTATE {code})", inner.message()).into(),
            None => inner.message().into(),
        },
        _ => error.into(),
    }
}

const PERM: i32 = 3;
const BUSY: i32 = 5;
const LOCKED: i32 = 6;
const READONLY: i32 = 8;
const IOERR: i32 = 10;
const CORRUPT: i32 = 11;
const FULL: i32 = 13;
const CANTOPEN: i32 = 14;
const NOTADB: i32 = 26;

/// Completes "the history …": who is in the way of a file, and of a server.
fn busy(place: &Place) -> &'static str {
    match place {
        Place::File(_) => "is locked by another process",
        Place::Server(_) => "is too busy: a lock, or an answer, could not be had in time",
    }
}

fn quoted_scheme(scheme: &str) -> String {
    if scheme.is_empty() {
        String::new()
    } else {
        format!(": `{}:…`", scheme.escape_debug())
    }
}

fn listed(runs: &[Candidate], heading: &str) -> String {
    let mut text = String::new();
    if !runs.is_empty() {
        let _ = write!(text, "; {heading}:");
    }
    for run in runs {
        let _ = write!(
            text,
            "\n  {}  {}  {} on {}  {}",
            run.id,
            run.started_at.format("%Y-%m-%d %H:%M:%S UTC"),
            run.task.escape_debug(),
            run.target.escape_debug(),
            run.status
        );
    }
    text
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
