//! What ran, and what was learned from it.

mod carried_out;
mod clocks;
mod copy;
mod databases;
mod entry;
mod error;
mod learned;
mod location;
mod occurrence;
mod outbox;
mod outcomes;
mod overdue;
mod place;
mod postgres;
mod record;
mod recorder;
mod records;
mod runs;
mod spool;
mod sql;
mod sqlite;
mod standing;
mod store;
mod summary;
mod words;

use std::sync::Arc;

use futures_util::future::BoxFuture;

pub use crate::plan::Baseline;
pub use carried_out::carried_out;
pub use clocks::{Ahead, CLOCKS_DIFFER, Clocks, TimeAhead, surely_wrong};
pub use copy::{Copied, copy};
pub use databases::{DATABASES, Seen, databases_of, with_known_databases};
pub use entry::Entry;
pub use error::{Candidate, Cause, HistoryError};
pub use learned::{Learned, Measured};
pub use occurrence::{
    Calendar, Claim, DOES_ITS_WORK, Ended, Occurrence, OccurrenceFilter, OccurrenceStatus, Pause,
};
pub use outbox::{Alert, Letter, Notice, Outbox};
pub use outcomes::{is_alive, run, runs, task_totals};
pub use overdue::{Neglect, Overdue, overdue};
pub use place::Place;
pub use record::{LockWait, RunRecord, RunStatus, StepRecord, StepStatus, Throttled, Trigger};
pub use recorder::{Kept, LONG, Recorder, take_up};
pub use records::Records;
pub use runs::{Alive, BELIEVED_FOR, DeadRuns, FindingCounts, RunFilter, RunSummary, Runs};
pub use spool::waiting;
pub use store::Store;
pub use summary::{
    By, Day, FindingState, Gain, Outcome, Period, Series, Summaries, TaskTotals, TrackedFinding,
    TrackedFindings, Trouble,
};

use crate::engines::postgres::connect::Dial;
use crate::values::{redact, unreadable};
use location::Location;
use postgres::PostgresStore;
use sql::SqlStore;
use sqlite::SqliteStore;

/// Opens the history at `location`, and creates it where there is none.
///
/// `sqlite:maint.db` and `sqlite://maint.db` are relative to the current
/// folder, `sqlite:/var/lib/maint.db` and `sqlite:///var/lib/maint.db` are
/// not, `sqlite::memory:` forgets everything at the end. A file is created
/// readable by its owner only, and an older one is brought to the current
/// schema. `postgres://…` is a database, in which the schema `maint` is
/// created; URL, environment and TLS follow the rules of targets.
///
/// # Errors
///
/// Whatever keeps it from being used, each as a variant of its own:
/// see [`HistoryError`].
pub async fn open(location: &str) -> Result<Arc<dyn Store>, HistoryError> {
    open_as(location, Opening::CreateIfMissing).await
}

/// From so many runs of a kind is learned how long its steps take.
pub const LATEST_RUNS: u32 = 200;
/// From so many of their steps at most.
pub const LATEST_STEPS: u32 = 20_000;

/// Opens a history that must be there already, for commands that only look.
///
/// Where the file or its folder cannot be written, it is opened read-only.
///
/// # Errors
///
/// [`HistoryError::Missing`] instead of a new, empty file; otherwise as
/// [`open`].
pub async fn open_existing(location: &str) -> Result<Arc<dyn Store>, HistoryError> {
    open_as(location, Opening::MustExist).await
}

/// Whether the next run could write its records, and make what is not there of the history; nothing of what is tried
/// stays. Of a file that is not there its folder tells.
///
/// # Errors
///
/// Why it could not.
pub async fn could_be_written(location: &str) -> Result<(), HistoryError> {
    let url = match Location::parse(location)? {
        Location::SqliteMemory => return Ok(()),
        Location::SqliteFile(path) => {
            if path.exists() {
                open(location).await?.close().await;
            }
            return Ok(());
        }
        Location::Postgres(url) => url,
    };
    let dial = dial(url.expose())?;
    let rehearsed: BoxFuture<'_, _> =
        Box::pin(async move { PostgresStore::connect(&dial, true).await?.rehearse().await });
    rehearsed.await
}

/// The history at `location` without a look at it, for work that goes on
/// although the history does not answer: every call then fails until it does.
///
/// # Errors
///
/// When `location` names no place for a history.
pub fn open_unseen(location: &str) -> Result<Arc<dyn Store>, HistoryError> {
    let store = match Location::parse(location)? {
        Location::SqliteMemory => {
            return Err(HistoryError::Missing {
                place: Place::File(":memory:".into()),
            });
        }
        Location::SqliteFile(path) => SqlStore::Sqlite(SqliteStore::unseen(path)),
        Location::Postgres(url) => SqlStore::Postgres(PostgresStore::unseen(&dial(url.expose())?)?),
    };
    Ok(Arc::new(store))
}

/// The folder beside a history in which records are kept that it does not
/// take; `beside` is the folder of the configuration.
///
/// A SQLite file has it beside itself. For a server it is below
/// `$STATE_DIRECTORY`, which systemd sets, or `beside`.
pub fn spool_folder(location: &str, beside: &std::path::Path) -> std::path::PathBuf {
    match Location::parse(location) {
        Ok(Location::SqliteFile(path)) => {
            let mut name = path.into_os_string();
            name.push("-spool");
            name.into()
        }
        _ => std::env::var_os("STATE_DIRECTORY")
            .map_or_else(|| beside.to_owned(), Into::into)
            .join("maint-spool"),
    }
}

/// What to do where there is no history yet.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Opening {
    CreateIfMissing,
    MustExist,
}

async fn open_as(location: &str, opening: Opening) -> Result<Arc<dyn Store>, HistoryError> {
    let store = match Location::parse(location)? {
        // Boxed: through all these layers the compiler would not see that the
        // futures may go to another thread.
        Location::SqliteMemory => {
            let opened: BoxFuture<'_, _> = Box::pin(SqliteStore::memory());
            SqlStore::Sqlite(opened.await?)
        }
        Location::SqliteFile(path) => {
            let opened: BoxFuture<'_, _> = Box::pin(SqliteStore::file(path, opening));
            SqlStore::Sqlite(opened.await?)
        }
        Location::Postgres(url) => SqlStore::Postgres(open_postgres(url.expose(), opening).await?),
    };
    Ok(Arc::new(store))
}

async fn open_postgres(url: &str, opening: Opening) -> Result<PostgresStore, HistoryError> {
    let dial = dial(url)?;
    let opened: BoxFuture<'_, _> = Box::pin(PostgresStore::open(&dial, opening));
    opened.await
}

fn dial(url: &str) -> Result<Dial, HistoryError> {
    let env = |name: &str| std::env::var(name).ok();
    Dial::resolve(Some(url), &env).map_err(HistoryError::BadUrl)
}

/// The one gate for free text on its way into any history.
///
/// Secrets are kept out long before; should one slip through in a server's
/// message or a statement, it is masked here.
fn clean(text: &str) -> String {
    redact(&unreadable::escaped(text))
}
