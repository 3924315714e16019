//! What becomes of archived batches whose end nobody saw, and what is written down of manifests:
//! beside their files, and in the history.

use std::collections::HashMap;

use chrono::Utc;
use serde_json::Value;

use super::again::{self, Rows};
use super::export::ExportError;
use super::seen::Seen;
use super::{Job, begun, came, former, strangers};
use crate::engines::EngineError;
use crate::engines::postgres::timeline::Standpoint;
use crate::engines::postgres::{Session, first};
use crate::engines::storage::{Storage, StorageError};
use crate::history::{RunStatus, StepRecord, StepStatus};
use crate::plan::postgres::Settle;
use crate::plan::{Finding, Manifest, Memory, Severity};
use crate::values::with_causes;

/// Carries out [`Work::Settle`](crate::plan::Work::Settle).
pub(super) async fn carry_out(
    work: &Settle,
    job: Job<'_>,
    record: &mut StepRecord,
    findings: &mut Vec<Finding>,
) -> Result<(), EngineError> {
    record.attempts = 1;
    let settled = async {
        former::take_over(&work.former, job).await?;
        if let Some(beside) = &work.beside {
            strangers::look(beside, (&*work.source, work.oid), job, findings).await?;
        }
        settle(&work.pending, job, findings).await?;
        match work.look_back {
            true => {
                let (source, put_back) = (&work.source, &work.put_back);
                again::look_back(source, work.oid, put_back, job, findings).await
            }
            false => Ok(()),
        }
    };
    settled.await.map_err(ExportError::into_engine)?;
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
        let was = fate_of(job, manifest).await?;
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
                came::take_back(manifest, job).await?;
            }
            Some("aborted") => {
                discard(&Storage::open(&manifest.storage)?, job, manifest).await?;
            }
            other => {
                return Err(ExportError::Proof(format!(
                    "what became of transaction {} is not known ({}). {}",
                    manifest.transaction,
                    other.unwrap_or("too long ago"),
                    by_hand(manifest)
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

/// How a person settles what nobody else can.
pub(super) fn by_hand(manifest: &Manifest) -> String {
    format!(
        "See whether {} still has the {} rows of the archive {}, and say so: `maint archive settle {} --kept`, or `--gone` where it has not",
        manifest.table, manifest.rows, manifest.id, manifest.id
    )
}

/// What became of the transaction of a manifest: as the server says, or else as the rows do.
pub(super) async fn fate_of(
    job: Job<'_>,
    manifest: &Manifest,
) -> Result<Option<String>, ExportError> {
    let server = manifest.server.as_deref();
    let was = fate(job.session, &manifest.transaction, server).await?;
    let seen = again::look(manifest, None, job).await?;
    // Of a server that was set back the number is another transaction's, and of a database that was
    // put back it says what was so in the one before: what the rows say counts.
    let database = job.session.server.database_oid;
    let same = manifest.database_oid.is_none_or(|then| then == database);
    let known = same
        && !seen.elsewhere
        && !manifest.doubted
        && matches!(was.as_deref(), Some("committed" | "aborted"));
    Ok(match seen.rows {
        Rows::Gone => Some("committed".to_owned()),
        Rows::Back => Some("aborted".to_owned()),
        Rows::Between(..) | Rows::Unlike(_) | Rows::Unseen(_) | Rows::Away(_) if known => was,
        Rows::Between(_, why) | Rows::Unlike(why) | Rows::Unseen(why) | Rows::Away(why) => {
            let said = was.as_deref().unwrap_or("too long ago");
            Some(format!("{said}; {why}"))
        }
    })
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
    for file in &manifest.files {
        storage.remove(&file.path).await?;
    }
    storage.remove(&manifest.path()).await?;
    put(job, &manifest.key(), Value::Null).await
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
        .proof(target, kind, Utc::now(), &memory)
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
