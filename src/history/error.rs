//! Why the history could not be opened, read or written, and what to do about it; no text repeats a
//! password.

mod helps;

use std::fmt::Write as _;
use std::path::PathBuf;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{Place, RunStatus};
use crate::engines::postgres::connect::DialError;

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
    /// Whatever is made in the database is sent to subscribers.
    #[error(
        "the history at {place} would be in a database where the publication {publications} takes in every new table: whoever subscribes to it and has no tables of the schema `maint` would stop at their first row, with all other tables"
    )]
    Published {
        /// `host:port/database`.
        place: String,
        /// Which, quoted.
        publications: String,
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
    /// A file of something else: it does not begin as SQLite databases do.
    #[error("{} is no SQLite database", .path.display())]
    NotADatabase {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: Cause,
    },
    /// A SQLite database that is not sound.
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
    /// It did not answer a moment ago, and is not asked again yet.
    #[error("the history did not answer a moment ago, and is left alone for some seconds")]
    Silent,
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
            | HistoryError::Stalled { .. }
            | HistoryError::Silent => Standing::Passing,
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
            | HistoryError::Published { .. }
            | HistoryError::Missing { .. }
            | HistoryError::NoFolder { .. }
            | HistoryError::NotADatabase { .. }
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
}

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
