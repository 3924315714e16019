//! What becomes of archived batches whose end nobody saw, and what is written down of manifests:
//! beside their files, and in the history.

use chrono::Utc;

use super::export::ExportError;
use super::seen::Seen;
use super::{Job, begun, naming, send};
use crate::engines::EngineError;
use crate::engines::postgres::{Session, first};
use crate::engines::storage::{Storage, StorageError};
use crate::history::{RunStatus, StepRecord, StepStatus};
use crate::plan::{Finding, Manifest, Memory, Severity};

/// Carries out [`Work::Settle`](crate::plan::Work::Settle).
pub(super) async fn carry_out(
    pending: &[Manifest],
    job: Job<'_>,
    record: &mut StepRecord,
    findings: &mut Vec<Finding>,
) -> Result<(), EngineError> {
    record.attempts = 1;
    settle(pending, job, findings)
        .await
        .map_err(ExportError::into_engine)?;
    record.status = StepStatus::Succeeded;
    Ok(())
}

/// Finds out what became of batches whose end nobody saw, and clears away
/// the files of those that were not deleted.
async fn settle(
    pending: &[Manifest],
    job: Job<'_>,
    findings: &mut Vec<Finding>,
) -> Result<(), ExportError> {
    for manifest in pending {
        let alive = job
            .execution
            .history
            .store()
            .run(&manifest.run.to_string())
            .await
            .is_ok_and(|run| run.status == RunStatus::Running);
        if alive && manifest.run != job.execution.run {
            continue;
        }
        if manifest.whole.is_some() {
            begun::settle(manifest, job, findings).await?;
            continue;
        }
        let was = fate_of(job.session, manifest).await?;
        match was.as_deref() {
            Some("committed") if manifest.received.is_some() => {
                let known = Manifest {
                    settled: true,
                    ..manifest.clone()
                };
                remember(job, &known).await?;
            }
            Some("committed") => {
                let storage = Storage::open(&manifest.storage)?;
                findings.extend(missing(&storage, manifest).await?);
                gone(&storage, manifest, job).await?;
            }
            Some("aborted") if manifest.received.is_some() => {
                send::take_back(manifest, job).await?;
            }
            Some("aborted") => {
                discard(&Storage::open(&manifest.storage)?, job, manifest).await?;
            }
            other => {
                return Err(ExportError::Proof(format!(
                    "what became of transaction {} is not known ({}). See whether {} still has the {} rows of the archive {}, and say so: `maint archive settle {} --kept`, or `--gone` where it has not",
                    manifest.transaction,
                    other.unwrap_or("too long ago"),
                    manifest.table,
                    manifest.rows,
                    manifest.id,
                    manifest.id
                )));
            }
        }
    }
    Ok(())
}

/// Files that are all there is of rows, and are not as they were written.
pub(super) async fn missing(
    storage: &Storage,
    manifest: &Manifest,
) -> Result<Option<Finding>, ExportError> {
    let wrong = Seen::default().wrong(storage, &manifest.files).await?;
    Ok(wrong.map(|why| Finding {
        code: "archive.files_missing".to_owned(),
        severity: Severity::Critical,
        object: manifest.table.clone(),
        message: format!(
            "{} rows of {} have gone, archived as {}, and their files are not as they were written: {why}. Bring the files back",
            manifest.rows, manifest.table, manifest.id
        ),
        suggestion: None,
    }))
}

/// What became of the transaction of a manifest.
pub(super) async fn fate_of(
    session: &Session,
    manifest: &Manifest,
) -> Result<Option<String>, EngineError> {
    fate(session, &manifest.transaction, manifest.server.as_deref()).await
}

/// What became of a transaction, in the server's words; or that this is not the server that knows.
pub(super) async fn fate(
    session: &Session,
    transaction: &str,
    server: Option<&str>,
) -> Result<Option<String>, EngineError> {
    if let Some(then) = server {
        let now = naming::server(session).await?;
        if now != then {
            return Ok(Some(format!(
                "it was on the server and timeline {then}, and this is {now}: the database has moved, or another server took over"
            )));
        }
    }
    let sql = "SELECT pg_catalog.pg_xact_status($1::text::xid8)";
    let doing = "asking what became of a transaction";
    let mut status = None;
    for _ in 0..50 {
        let rows = session.query(doing, sql, &[&transaction]).await?;
        status = first(&rows, 0)?.flatten();
        if status.as_deref() != Some("in progress") {
            break;
        }
        // The session of a killed process takes moments to notice.
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    Ok(status)
}

/// Puts the manifest beside the files.
pub(super) async fn beside(storage: &Storage, manifest: &Manifest) -> Result<(), ExportError> {
    let text = serde_json::to_vec_pretty(manifest).unwrap_or_default();
    Ok(storage.put(&manifest.path(), text.into()).await?)
}

/// Writes down that the rows of a manifest have left their table: beside the
/// files first, so that what the history says of them is never ahead.
pub(super) async fn gone(
    storage: &Storage,
    manifest: &Manifest,
    job: Job<'_>,
) -> Result<(), ExportError> {
    let manifest = Manifest {
        settled: true,
        ..manifest.clone()
    };
    beside(storage, &manifest).await?;
    remember(job, &manifest).await
}

/// Removes the files of a manifest, and then what is known of it.
pub(super) async fn discard(
    storage: &Storage,
    job: Job<'_>,
    manifest: &Manifest,
) -> Result<(), ExportError> {
    for file in &manifest.files {
        storage.remove(&file.path).await?;
    }
    storage.remove(&manifest.path()).await?;
    put(job, &manifest.key(), serde_json::Value::Null).await
}

pub(super) async fn remember(job: Job<'_>, manifest: &Manifest) -> Result<(), ExportError> {
    let value = serde_json::to_value(manifest).unwrap_or_default();
    put(job, &manifest.key(), value).await
}

pub(super) async fn put(
    job: Job<'_>,
    key: &str,
    value: serde_json::Value,
) -> Result<(), ExportError> {
    let execution = job.execution;
    let memory = [Memory {
        key: key.to_owned(),
        value,
    }];
    let (target, kind) = (&execution.target, &execution.kind);
    execution
        .history
        .proof(target, kind, Utc::now(), &memory)
        .await
        .map_err(|error| {
            ExportError::Proof(format!(
                "nothing was deleted, because the manifest could not be recorded: {error}"
            ))
        })
}

/// Puts a manifest beside its files, in place of what is there.
///
/// # Errors
/// When it cannot be written.
pub async fn put_beside(manifest: &Manifest) -> Result<(), StorageError> {
    let storage = Storage::open(&manifest.storage)?;
    let text = serde_json::to_vec_pretty(manifest).unwrap_or_default();
    storage.put(&manifest.path(), text.into()).await
}
