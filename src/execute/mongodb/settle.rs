//! What becomes of archived batches whose end nobody saw, and of files that could not be removed.

use super::Job;
use super::known::{gone, put, removed, stored};
use crate::engines::EngineError;
use crate::engines::storage::{Storage, StorageError};
use crate::history::{RunStatus, StepRecord, StepStatus};
use crate::plan::Finding;
use crate::plan::archived::{self, Manifested};
use crate::plan::mongodb::Manifest;
use crate::values::with_causes;

/// Carries out [`Work::Settle`](crate::plan::mongodb::Work::Settle).
pub(super) async fn carry_out(
    pending: &[Manifest],
    job: Job<'_>,
    record: &mut StepRecord,
    findings: &mut Vec<Finding>,
) -> Result<(), EngineError> {
    record.attempts = 1;
    for manifest in pending {
        if job.execution.stop.is_stopping() {
            super::end(record, StepStatus::Cancelled, "the run was stopped");
            return Ok(());
        }
        let store = job.execution.history.store();
        let run = store.run(&manifest.run.to_string()).await;
        let alive = run.is_ok_and(|run| run.status == RunStatus::Running);
        if alive && manifest.run != job.execution.run {
            continue;
        }
        let storage = Storage::open(&manifest.storage).map_err(stored)?;
        // Its transaction may be open still, and keep others waiting.
        if let Some(session) = &manifest.session {
            job.session.end_session(session).await;
        }
        let id = manifest.id.to_string();
        match job.session.was_committed(&manifest.marks, &id).await? {
            true => gone(&storage, manifest, job).await?,
            false => give_back(&storage, job, manifest, findings).await?,
        }
    }
    record.status = StepStatus::Succeeded;
    Ok(())
}

/// Removes the files of a batch whose documents are in their collection, and what is known of it. Files
/// that cannot be removed keep nobody from archiving: they are kept in mind instead, and told.
async fn give_back(
    storage: &Storage,
    job: Job<'_>,
    manifest: &Manifest,
    findings: &mut Vec<Finding>,
) -> Result<(), EngineError> {
    if let Err(why) = removed(storage, manifest).await {
        let value = serde_json::to_value(manifest).unwrap_or_default();
        put(job, &archived::left_over_as(manifest.id), value).await?;
        findings.push(left_over(manifest, &why));
    }
    put(job, &manifest.key(), serde_json::Value::Null).await
}

fn left_over(manifest: &Manifest, why: &StorageError) -> Finding {
    let (of, why) = (manifest.source(), with_causes(why));
    archived::cannot_be_removed(manifest, ("documents", &of), &manifest.storage, &why)
}

/// Carries out [`Work::Clear`](crate::plan::mongodb::Work::Clear).
pub(super) async fn clear(
    left: &[Manifest],
    job: Job<'_>,
    record: &mut StepRecord,
    findings: &mut Vec<Finding>,
) -> Result<(), EngineError> {
    record.attempts = 1;
    for manifest in left {
        let storage = Storage::open(&manifest.storage).map_err(stored)?;
        match removed(&storage, manifest).await {
            Err(why) => findings.push(left_over(manifest, &why)),
            Ok(()) => {
                let key = archived::left_over_as(manifest.id);
                put(job, &key, serde_json::Value::Null).await?;
            }
        }
    }
    record.status = StepStatus::Succeeded;
    Ok(())
}
