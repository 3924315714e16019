//! What becomes of archived batches whose end nobody saw, and of files that could not be removed.

use super::Job;
use super::copies::named;
use super::known::{gone, put, removed, stored};
use super::whereabouts::{self, Whereabouts};
use crate::engines::EngineError;
use crate::engines::storage::{Storage, StorageError};
use crate::history::{RunStatus, StepRecord, StepStatus};
use crate::plan::archived::{self, Manifested};
use crate::plan::mongodb::Manifest;
use crate::plan::{Finding, Severity};
use crate::values::{several_do, with_causes};

/// Carries out [`Work::Settle`](crate::plan::mongodb::Work::Settle).
pub(super) async fn carry_out(
    pending: &[Manifest],
    job: Job<'_>,
    record: &mut StepRecord,
    findings: &mut Vec<Finding>,
) -> Result<(), EngineError> {
    record.attempts = 1;
    let mut as_left = true;
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
        let became = fate(&storage, manifest, job).await?;
        as_left &= !matches!(became, Fate::Only(_));
        see_to(became, &storage, manifest, job, findings).await?;
    }
    ended(as_left, record);
    Ok(())
}

fn ended(as_left: bool, record: &mut StepRecord) {
    match as_left {
        true => record.status = StepStatus::Succeeded,
        false => super::end(record, StepStatus::Failed, NOT_AS_LEFT),
    }
}

const NOT_AS_LEFT: &str =
    "documents were nowhere but in the files of a batch whose mark is gone, and count as archived";

/// What became of a batch whose end nobody saw.
pub(super) enum Fate {
    /// Its documents have left their collection.
    Committed,
    /// They have not.
    Back,
    /// Nothing says that they have, and so many of them are in its files only.
    Only(Vec<String>),
    /// Nothing says that they have, its files cannot be read, and why.
    Unseen(String),
}

/// What became of a batch: as its mark says, and where there is none, as the documents do.
///
/// # Errors
/// When the server cannot be asked.
pub(super) async fn fate(
    storage: &Storage,
    manifest: &Manifest,
    job: Job<'_>,
) -> Result<Fate, EngineError> {
    let id = manifest.id.to_string();
    if job.session.was_committed(&manifest.marks, &id).await? {
        return Ok(Fate::Committed);
    }
    Ok(match whereabouts::of(storage, manifest, job).await? {
        Whereabouts::Archived => Fate::Committed,
        Whereabouts::InCollection => Fate::Back,
        Whereabouts::OnlyHere(ids) => Fate::Only(ids),
        Whereabouts::Unseen(why) => Fate::Unseen(why),
    })
}

/// Does what is to be done of it. What is nowhere else is kept, as any archive is.
async fn see_to(
    became: Fate,
    storage: &Storage,
    manifest: &Manifest,
    job: Job<'_>,
    findings: &mut Vec<Finding>,
) -> Result<(), EngineError> {
    match became {
        Fate::Committed => gone(storage, manifest, job).await,
        Fate::Back => give_back(storage, job, manifest, findings).await,
        Fate::Only(ids) => {
            gone(storage, manifest, job).await?;
            findings.push(only_copy(manifest, &ids));
            Ok(())
        }
        Fate::Unseen(why) => {
            keep_in_mind(job, manifest).await?;
            findings.push(unseen(manifest, &why));
            put(job, &manifest.key(), serde_json::Value::Null).await
        }
    }
}

/// Files that are looked at again by each run.
async fn keep_in_mind(job: Job<'_>, manifest: &Manifest) -> Result<(), EngineError> {
    let value = serde_json::to_value(manifest).unwrap_or_default();
    put(job, &archived::left_over_as(manifest.id), value).await
}

fn only_copy(manifest: &Manifest, ids: &[String]) -> Finding {
    let (of, all) = (manifest.source(), manifest.rows);
    Finding {
        code: "archive.only_copy".to_owned(),
        severity: Severity::Warning,
        object: of.clone(),
        message: format!(
            "{} in {of} any more, of the {all} of a batch whose end nobody saw, and `maint.archives` does not say that it was archived: its mark was removed, or the history was put back from a backup, or somebody has deleted them since. What was written to {} is all there is of them: it stays, and counts as archived ({}); what is in the collection still is archived again. Their `_id`: {}",
            several_do(ids.len(), "document", ("is not", "are not")),
            manifest.storage,
            manifest.id,
            named(ids)
        ),
        suggestion: None,
    }
}

fn unseen(manifest: &Manifest, why: &str) -> Finding {
    let (of, id, rows) = (manifest.source(), manifest.id, manifest.rows);
    Finding {
        code: "archive.left_over".to_owned(),
        severity: Severity::Warning,
        object: of.clone(),
        message: format!(
            "files of {rows} documents of {of}, of a batch whose end nobody saw, lie in {} and cannot be read, so that nobody knows whether they are all there is of them: {why}. They stay, and each run looks again",
            manifest.storage
        ),
        suggestion: Some(format!("maint archive settle {id} --seen-to")),
    }
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
        keep_in_mind(job, manifest).await?;
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
    let mut as_left = true;
    for manifest in left {
        let storage = Storage::open(&manifest.storage).map_err(stored)?;
        let key = archived::left_over_as(manifest.id);
        // Much may have happened since it was looked for them.
        match whereabouts::of(&storage, manifest, job).await? {
            Whereabouts::Unseen(why) => {
                findings.push(unseen(manifest, &why));
                continue;
            }
            Whereabouts::InCollection => {
                if let Err(why) = removed(&storage, manifest).await {
                    findings.push(left_over(manifest, &why));
                    continue;
                }
            }
            Whereabouts::Archived => gone(&storage, manifest, job).await?,
            Whereabouts::OnlyHere(ids) => {
                gone(&storage, manifest, job).await?;
                findings.push(only_copy(manifest, &ids));
                as_left = false;
            }
        }
        put(job, &key, serde_json::Value::Null).await?;
    }
    ended(as_left, record);
    Ok(())
}
