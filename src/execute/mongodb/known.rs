//! What is written down of manifests, beside their files and in the history.

use super::Job;
use crate::engines::EngineError;
use crate::engines::storage::{Storage, StorageError};
use crate::plan::Memory;
use crate::plan::archived::Manifested;
use crate::plan::mongodb::Manifest;
use crate::values::{several_do, wall_clock, with_causes};

pub(super) fn failed(message: String) -> EngineError {
    EngineError::Files { message }
}

pub(super) fn stored(error: StorageError) -> EngineError {
    failed(format!(
        "nothing was deleted that is not safely stored: {}",
        with_causes(&error)
    ))
}

/// Puts the manifest beside the files.
pub(super) async fn beside(storage: &Storage, manifest: &Manifest) -> Result<(), StorageError> {
    let text = serde_json::to_vec_pretty(manifest).unwrap_or_default();
    storage.put(&manifest.path(), text.into()).await
}

/// Writes down that documents have left their collection: beside the files
/// first, so that what the history says of them is never ahead. Only then is
/// the mark of no more use.
pub(super) async fn gone(
    storage: &Storage,
    manifest: &Manifest,
    job: Job<'_>,
) -> Result<(), EngineError> {
    let manifest = Manifest {
        settled: true,
        ..manifest.clone()
    };
    let gone = |why: String| {
        let (rows, of, id) = (manifest.rows, manifest.source(), manifest.id);
        failed(format!(
            "{} moved from {of} to {}, and that could not be written down, which the next run does ({id}): {why}",
            several_do(rows, "document", ("was", "were")),
            manifest.storage
        ))
    };
    let written = beside(storage, &manifest).await;
    written.map_err(|error| gone(with_causes(&error)))?;
    let value = serde_json::to_value(&manifest).unwrap_or_default();
    put(job, &manifest.key(), value)
        .await
        .map_err(|error| gone(error.to_string()))?;
    let id = manifest.id.to_string();
    if let Err(error) = job.session.forget(&manifest.marks, &[id]).await {
        tracing::debug!(%error, "a mark remains for now");
    }
    Ok(())
}

/// Removes the files of a manifest, and then what is known of it.
pub(super) async fn discard(
    storage: &Storage,
    job: Job<'_>,
    manifest: &Manifest,
) -> Result<(), EngineError> {
    let removed = removed(storage, manifest).await;
    removed.map_err(|error| {
        failed(format!(
            "files of a batch that was given back could not be removed: {}",
            with_causes(&error)
        ))
    })?;
    put(job, &manifest.key(), serde_json::Value::Null).await
}

pub(super) async fn removed(storage: &Storage, manifest: &Manifest) -> Result<(), StorageError> {
    for file in &manifest.files {
        storage.remove(&file.path).await?;
    }
    storage.remove(&manifest.path()).await
}

pub(super) async fn remember(job: Job<'_>, manifest: &Manifest) -> Result<(), EngineError> {
    let value = serde_json::to_value(manifest).unwrap_or_default();
    let noted = put(job, &manifest.key(), value).await;
    noted.map_err(|error| failed(format!("nothing was deleted: {error}")))
}

pub(super) async fn put(
    job: Job<'_>,
    key: &str,
    value: serde_json::Value,
) -> Result<(), EngineError> {
    let execution = job.execution;
    let memory = [Memory {
        key: key.to_owned(),
        value,
    }];
    let (target, kind) = (&execution.target, &execution.kind);
    let noted = execution
        .history
        .proof(target, kind, wall_clock(), &memory)
        .await;
    noted.map_err(|error| {
        failed(format!(
            "what is known of a batch could not be recorded: {error}"
        ))
    })
}

/// Work that takes a while, away from what has to go on meanwhile.
pub(super) async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, EngineError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| failed(with_causes(&error)))
}
