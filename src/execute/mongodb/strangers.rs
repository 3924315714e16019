//! Archives beside the files that the history knows nothing of: it was lost, or set back to before
//! them, or another installation keeps its own.

use serde_json::json;

use super::Job;
use super::known::stored;
use crate::engines::EngineError;
use crate::engines::mongodb::namespace;
use crate::engines::storage::Storage;
use crate::history::{StepRecord, StepStatus};
use crate::plan::archived::{self, MANIFEST};
use crate::plan::mongodb::{Manifest, Stray};
use crate::plan::{Finding, Memory, Severity};
use crate::values::{several, wall_clock, with_causes};

/// Reads them, and tells which are this target's. Nothing of them is changed.
pub(super) async fn carry_out(
    strays: &[Stray],
    job: Job<'_>,
    record: &mut StepRecord,
    findings: &mut Vec<Finding>,
) -> Result<(), EngineError> {
    record.attempts = 1;
    for stray in strays {
        look(stray, job, findings).await?;
    }
    record.status = StepStatus::Succeeded;
    Ok(())
}

async fn look(stray: &Stray, job: Job<'_>, findings: &mut Vec<Finding>) -> Result<(), EngineError> {
    let execution = job.execution;
    let (target, kind) = (&execution.target, &execution.kind);
    let beside = &stray.beside;
    let storage = Storage::open(&beside.storage).map_err(stored)?;
    // Another run may have come first.
    let memories = execution.history.store().memories(target, kind).await;
    let memories = memories.map_err(|error| EngineError::Files {
        message: format!("what the history knows of archives cannot be read: {error}"),
    })?;
    let (mut ours, mut others, mut unread) = (Vec::new(), Vec::new(), Vec::new());
    for id in &beside.ids {
        if archived::is_known(*id, &memories) {
            continue;
        }
        let path = beside.path(*id);
        let content = match storage.get(&path, MANIFEST).await {
            Ok(content) => content,
            Err(error) if error.is_about_the_file() => {
                // Whoever wrote it may have taken it back meanwhile.
                if storage.stamp(&path).await.map_err(stored)?.is_some() {
                    unread.push(with_causes(&error));
                }
                continue;
            }
            Err(error) => return Err(stored(error)),
        };
        let manifest = serde_json::from_slice::<Manifest>(&content).ok();
        let Some(manifest) = manifest.filter(|m| m.id == *id && m.examine().is_ok()) else {
            unread.push(storage.full(&path));
            continue;
        };
        let same = manifest.database == stray.database && manifest.collection == stray.collection;
        if same && manifest.target == *target {
            ours.push(manifest);
        } else {
            others.push(Memory {
                key: archived::stranger_as(*id),
                value: json!({ "target": manifest.target, "database": manifest.database }),
            });
        }
    }
    if !others.is_empty() {
        execution
            .history
            .remember(target, kind, wall_clock(), &others);
    }
    let place = &beside.storage;
    let mut tell = |message: String| {
        findings.push(Finding {
            code: "archive.unknown_files".to_owned(),
            severity: Severity::Warning,
            object: namespace(&stray.database, &stray.collection),
            message,
            suggestion: None,
        });
    };
    if let Some(first) = unread.first() {
        tell(format!(
            "{place} has {} that the history does not know and this version cannot read, so that nobody knows whose documents they are of: {first}. See what they are; a newer version of maint may have written them",
            several(unread.len(), "manifest")
        ));
    }
    if let (Some(oldest), Some(newest)) = (ours.first(), ours.last()) {
        let at = |m: &Manifest| m.created_at.format("%Y-%m-%d %H:%M:%S UTC").to_string();
        let documents: i64 = ours.iter().map(|m| m.rows).sum();
        tell(format!(
            "{place} has {} of this collection, {}, that the history does not know, written from {} to {}: they are listed and restored with `--files` only, and where their documents are in the collection again, these are archived a second time. If the history was lost, or set back to before them, and this is the database that they are of, say so: `maint archive adopt --files {place} --from {} --target {target}`. If they are of another installation, or of the database that this one is a copy of, archive to a place of its own",
            several(ours.len(), "archive"),
            several(documents, "document"),
            at(oldest),
            at(newest),
            namespace(&stray.database, &stray.collection)
        ));
    }
    Ok(())
}
