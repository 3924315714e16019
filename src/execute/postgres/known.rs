//! What is written down of manifests, beside their files and in the history, and what is known of
//! them.

use std::collections::HashMap;

use serde_json::Value;

use super::Job;
use super::lot::ExportError;
use super::seen::Seen;
use crate::engines::EngineError;
use crate::engines::postgres::timeline::Standpoint;
use crate::engines::postgres::{Session, first};
use crate::engines::storage::{Storage, StorageError};
use crate::plan::archived::{cannot_be_removed, left_over_as};
use crate::plan::{Finding, Manifest, Memory, Severity};
use crate::values::{several, wall_clock, with_causes};

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
            "{} of {} {} gone, archived as {}, and their files are not as they were written: {why}. Bring the files back",
            several(manifest.rows, "row"), manifest.table, if manifest.rows == 1 { "has" } else { "have" }, manifest.id
        ),
        suggestion: None,
    }))
}

/// How a person settles what nobody else can.
pub(super) fn by_hand(manifest: &Manifest) -> String {
    format!(
        "See whether {} still has the {} of the archive {}, and say so: `maint archive settle {} --kept`, or `--gone` where it has not",
        manifest.table,
        several(manifest.rows, "row"),
        manifest.id,
        manifest.id
    )
}

/// What became of a transaction, in the server's words; or that this is not the server that knows.
pub(super) async fn fate(
    session: &Session,
    transaction: &str,
    server: Option<&str>,
) -> Result<Option<String>, EngineError> {
    if let Some(then) = server {
        let now = Standpoint::of(session).await?.server;
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
        let rows = match session.query(doing, sql, &[&transaction]).await {
            Ok(rows) => rows,
            // It has not come to that number yet: it was set back.
            Err(error) if error.sqlstate() == Some("22023") => {
                return Ok(Some(
                    "the server has not come to it yet: it was set back to before that".to_owned(),
                ));
            }
            Err(error) => return Err(error),
        };
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
    removed(storage, manifest).await?;
    put(job, &manifest.key(), Value::Null).await
}

async fn removed(storage: &Storage, manifest: &Manifest) -> Result<(), StorageError> {
    for file in &manifest.files {
        storage.remove(&file.path).await?;
    }
    storage.remove(&manifest.path()).await
}

/// The same for rows that are in their table: files that cannot be removed keep nobody from archiving.
/// They are kept in mind instead, and told, until they are gone.
pub(super) async fn give_back(
    job: Job<'_>,
    manifest: &Manifest,
    findings: &mut Vec<Finding>,
) -> Result<(), ExportError> {
    let storage = Storage::open(&manifest.storage)?;
    match discard(&storage, job, manifest).await {
        Err(ExportError::Storage(why)) => keep_in_mind(job, manifest, &why, findings).await,
        done => done,
    }
}

/// Remembers that files of rows that are in their table could not be removed, and why.
pub(super) async fn keep_in_mind(
    job: Job<'_>,
    manifest: &Manifest,
    why: &StorageError,
    findings: &mut Vec<Finding>,
) -> Result<(), ExportError> {
    let value = serde_json::to_value(manifest).unwrap_or_default();
    put(job, &left_over_as(manifest.id), value).await?;
    put(job, &manifest.key(), Value::Null).await?;
    findings.push(left_over(manifest, why));
    Ok(())
}

/// Removes such files once more.
pub(super) async fn clear_away(
    job: Job<'_>,
    manifest: &Manifest,
    findings: &mut Vec<Finding>,
) -> Result<(), ExportError> {
    let storage = Storage::open(&manifest.storage)?;
    match removed(&storage, manifest).await {
        Err(why) => {
            findings.push(left_over(manifest, &why));
            Ok(())
        }
        Ok(()) => put(job, &left_over_as(manifest.id), Value::Null).await,
    }
}

fn left_over(manifest: &Manifest, why: &StorageError) -> Finding {
    let of = ("rows", &*manifest.table);
    cannot_be_removed(manifest, of, &manifest.storage, &with_causes(why))
}

/// What the history remembers of this kind on this target, now.
pub(super) async fn known(job: Job<'_>) -> Result<HashMap<String, Value>, ExportError> {
    let execution = job.execution;
    let store = execution.history.store();
    let memories = store.memories(&execution.target, &execution.kind).await;
    memories.map_err(|error| {
        ExportError::Proof(format!(
            "nothing was detached or deleted, because the history cannot be read: {}",
            with_causes(&error)
        ))
    })
}

pub(super) async fn remember(job: Job<'_>, manifest: &Manifest) -> Result<(), ExportError> {
    let value = serde_json::to_value(manifest).unwrap_or_default();
    put(job, &manifest.key(), value).await
}

pub(super) async fn put(job: Job<'_>, key: &str, value: Value) -> Result<(), ExportError> {
    let execution = job.execution;
    let memory = [Memory {
        key: key.to_owned(),
        value,
    }];
    let (target, kind) = (&execution.target, &execution.kind);
    execution
        .history
        .proof(target, kind, wall_clock(), &memory)
        .await
        .map_err(|error| {
            ExportError::Proof(format!(
                "nothing was deleted, because the manifest could not be recorded: {}",
                with_causes(&error)
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
