//! A lot of rows on its way out of a table, and what may keep it from it.

use std::time::Instant;

use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use super::Job;
use super::gate::{self, Halt, Outcome};
use crate::engines::EngineError;
use crate::engines::parquet::ParquetError;
use crate::engines::storage::StorageError;
use crate::values::{several_do, with_causes};

/// Why a batch was not archived. Nothing of it is deleted.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExportError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("nothing was deleted that is not safely stored: {0}")]
    Storage(#[from] StorageError),
    #[error("{0}")]
    Parquet(#[from] ParquetError),
    #[error("{0}")]
    Proof(String),
    /// The rows are not those that were stored.
    #[error("{0}")]
    Changed(String),
    /// Of the rows that were stored some did not go.
    #[error(
        "{} stored, but {gone} would have gone: nothing was deleted. A trigger or rule keeps some of them, or the condition does not mean the same rows twice",
        several_do(*.rows, "row", ("was", "were"))
    )]
    Stayed { rows: i64, gone: u64 },
}

impl ExportError {
    /// As an error of the step.
    pub(super) fn into_engine(self) -> EngineError {
        match self {
            ExportError::Engine(error) => error,
            stayed @ ExportError::Stayed { .. } => EngineError::Stayed {
                message: stayed.to_string(),
            },
            ExportError::Parquet(error @ ParquetError::Value { .. }) => EngineError::NotKept {
                message: format!("{error}; a table as destination takes it as it is"),
            },
            other => EngineError::Files {
                message: with_causes(&other),
            },
        }
    }

    /// As the end of an attempt.
    pub(super) fn judge(
        self,
        job: Job<'_>,
        step_ends: Instant,
        give_way: &CancellationToken,
    ) -> Halt {
        match self {
            ExportError::Engine(error) => gate::judge(error, job.execution, step_ends, give_way),
            other => Halt::Failed(other.into_engine()),
        }
    }
}

/// What came of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Batch {
    /// So many rows are stored, and gone.
    Rows(i64),
    /// It holds too many rows, and nothing came of it.
    TooLarge,
    /// Others waited for it, and nothing came of it: fewer rows take less time.
    SteppedBack,
}

/// Waits for what is done elsewhere, or is read here to be kept there: no longer than the step has
/// time, and not while others wait for the transaction that is open meanwhile.
pub(super) async fn unless_over<T>(
    work: impl Future<Output = T>,
    job: Job<'_>,
    step_ends: Instant,
    give_way: &CancellationToken,
) -> Outcome<T> {
    let (ends, limit) = gate::first_limit(job.execution, step_ends);
    tokio::select! {
        biased;
        done = work => Ok(done),
        () = give_way.cancelled() => Err(Halt::GaveWay),
        () = tokio::time::sleep_until(ends.into()) => Err(Halt::OutOfTime(limit)),
    }
}

pub(super) fn sha256(content: &[u8]) -> String {
    let digest = Sha256::digest(content);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Computes something in a thread of its own, so that the server is listened to meanwhile.
pub(super) async fn beside_it<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ExportError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| {
        ExportError::Proof(format!("nothing was deleted: {}", with_causes(&error)))
    })
}
