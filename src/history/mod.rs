//! What ran, and what was learned from it.

mod error;
mod location;
mod outbox;
mod record;
mod sqlite;
mod store;

use std::sync::Arc;

pub use crate::plan::Baseline;
pub use error::{Candidate, Cause, HistoryError};
pub use outbox::{Alert, Letter, Notice};
pub use record::{LockWait, RunRecord, RunStatus, StepRecord, StepStatus, Trigger};
pub use store::{FindingCounts, Measured, RunFilter, RunSummary, Store};

use crate::values::redact;
use location::Location;
use sqlite::{Opening, SqliteStore};

/// Opens the history at `location`, and creates it where there is none.
///
/// `sqlite:maint.db` and `sqlite://maint.db` are relative to the current
/// folder, `sqlite:/var/lib/maint.db` and `sqlite:///var/lib/maint.db` are
/// not, `sqlite::memory:` forgets everything at the end. A file is created
/// readable by its owner only, and an older one is brought to the current
/// schema.
///
/// # Errors
///
/// Whatever keeps the file from being used, each as a variant of its own:
/// see [`HistoryError`].
pub async fn open(location: &str) -> Result<Arc<dyn Store>, HistoryError> {
    open_as(location, Opening::CreateIfMissing).await
}

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

async fn open_as(location: &str, opening: Opening) -> Result<Arc<dyn Store>, HistoryError> {
    match Location::parse(location)? {
        Location::SqliteMemory => Ok(Arc::new(SqliteStore::memory().await?)),
        Location::SqliteFile(path) => Ok(Arc::new(SqliteStore::file(path, opening).await?)),
    }
}

/// The one gate for free text on its way into any history.
///
/// Secrets are kept out long before; should one slip through in a server's
/// message or a statement, it is masked here.
fn clean(text: &str) -> String {
    redact(text)
}
