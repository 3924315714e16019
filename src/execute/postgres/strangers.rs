//! Archives beside the files that the history knows nothing of: it was lost, or another
//! installation keeps its own. Rows of theirs that are in the table would be archived twice.

use super::Job;
use super::again::{self, Rows};
use super::export::ExportError;
use super::settle::known;
use crate::engines::storage::Storage;
use crate::plan::{Export, Finding, Manifest, Restored, Severity, archived};

/// Looks at them before the first rows go. Nothing of theirs is changed: a copy of the database
/// may be told to archive to the same place.
///
/// # Errors
/// When rows of theirs are in the table, or nobody can tell.
pub(super) async fn look(
    export: &Export,
    job: Job<'_>,
    findings: &mut Vec<Finding>,
) -> Result<(), ExportError> {
    // Another step of this run may have come first.
    let memories = known(job).await?;
    let is_of = |m: &Manifest| m.source == export.source || m.oid == Some(export.oid);
    if archived::among::<Manifest>(memories.iter())
        .iter()
        .any(is_of)
    {
        return Ok(());
    }
    let storage = Storage::open(&export.storage)?;
    let all = of_table(&storage, export, job).await?;
    let Some(newest) = all.last() else {
        return Ok(());
    };
    let rows: i64 = all.iter().map(|m| m.rows).sum();
    let place = &export.storage;
    let adopt = format!(
        "If the history was lost, and this is the database that they are of, say so: `maint archive adopt --files {place} --from {} --target {}`; its runs look after them then. If they are of another installation, or of the database that this one is a copy of, archive to a place of its own",
        export.source, job.execution.target
    );
    if again::keyed(newest, job.session).await?
        && let Rows::Back | Rows::Between(1.., _) = again::look(newest, job).await?
    {
        return Err(ExportError::Proof(format!(
            "{place} has {} archives of {}, {rows} rows, that the history does not know, and rows of the newest, {}, are in the table: they would be archived twice, and nothing was archived. {adopt}",
            all.len(),
            export.source,
            newest.id
        )));
    }
    findings.push(Finding {
        code: "archive.unknown_files".to_owned(),
        severity: Severity::Warning,
        object: export.source.clone(),
        message: format!(
            "{place} has {} archives of this table, {rows} rows, that the history does not know: runs do not see whether their rows come back, and they are listed and restored with `--files` only. {adopt}",
            all.len()
        ),
        suggestion: None,
    });
    Ok(())
}

/// The batches that have left a table of this name in a database of this name, for this target's
/// name where they say one; oldest first. What cannot be read is nobody's word.
async fn of_table(
    storage: &Storage,
    export: &Export,
    job: Job<'_>,
) -> Result<Vec<Manifest>, ExportError> {
    let folder = Manifest::folder_of(&export.source, &export.columns);
    let (target, database) = (&job.execution.target, &job.session.server.database);
    let mut found = Vec::new();
    for path in storage.list(&folder).await? {
        if !archived::is_at(&path) {
            continue;
        }
        let content = storage.get(&path, archived::MANIFEST).await?;
        let Ok(mut manifest) = serde_json::from_slice::<Manifest>(&content) else {
            continue;
        };
        let ours = manifest.source == export.source
            && manifest.target.as_ref().is_none_or(|of| of == target)
            && manifest.database.as_ref().is_none_or(|of| of == database);
        // What a person brought back is archived anew, and what was interrupted may be there.
        let back = |mark: &Restored| mark.into == manifest.source || mark.into == manifest.table;
        let left = manifest.settled && !manifest.restored.iter().any(back);
        if ours && left && manifest.received.is_none() && manifest.examine().is_ok() {
            export.storage.clone_into(&mut manifest.storage);
            found.push(manifest);
        }
    }
    found.sort_by_key(|manifest| manifest.id);
    Ok(found)
}
