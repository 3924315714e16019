//! Archives beside the files that the history knows nothing of: it was lost, or set back to before
//! them, or another installation keeps its own. Rows of theirs that are in the table would be
//! archived twice.

use std::collections::HashSet;

use serde_json::json;

use super::Job;
use super::again::{self, Rows};
use super::known::known;
use super::lot::ExportError;
use crate::engines::postgres::first;
use crate::engines::storage::Storage;
use crate::history::HistoryError;
use crate::plan::archived::{self, Beside};
use crate::plan::{Finding, Manifest, Memory, Restored, Severity};
use crate::values::{several, wall_clock, with_causes};

/// What there is of a table.
#[derive(Default)]
struct Strangers {
    /// Batches of this table of this target, oldest first.
    ours: Vec<Manifest>,
    /// Those of others, to be read no more.
    others: Vec<Memory>,
    /// Paths of what is no manifest that can be read.
    unread: Vec<String>,
}

/// Looks at them before the first rows go. Nothing of theirs is changed: a copy of the database
/// may be told to archive to the same place.
///
/// # Errors
/// When rows of theirs are in the table, or nobody can tell.
pub(super) async fn look(
    beside: &Beside,
    (source, oid): (&str, u32),
    job: Job<'_>,
    findings: &mut Vec<Finding>,
) -> Result<(), ExportError> {
    let found = read(beside, source, job).await?;
    let (target, kind) = (&job.execution.target, &job.execution.kind);
    if !found.others.is_empty() {
        let history = &job.execution.history;
        history.remember(target, kind, wall_clock(), &found.others);
    }
    let place = &beside.storage;
    if let Some(first) = found.unread.first() {
        findings.push(Finding {
            code: "archive.unknown_files".to_owned(),
            severity: Severity::Warning,
            object: source.to_owned(),
            message: format!(
                "{place} has {} that the history does not know and this version cannot read, so that nobody knows whose rows they are of: {first}. See what they are; a newer version of maint may have written them",
                several(found.unread.len(), "manifest")
            ),
            suggestion: None,
        });
    }
    let (Some(oldest), Some(last)) = (found.ours.first(), found.ours.last()) else {
        return Ok(());
    };
    let rows: i64 = found.ours.iter().map(|m| m.rows).sum();
    let many = several(found.ours.len(), "archive");
    let rows = several(rows, "row");
    let adopt = format!(
        "If the history was lost, or set back to before them, and this is the database that they are of, say so: `maint archive adopt --files {place} --from {source} --target {target}`; its runs look after them then. If they are of another installation, or of the database that this one is a copy of, archive to a place of its own"
    );
    // What a person brought back is archived anew, and what was interrupted may be there.
    let back = |m: &Manifest, mark: &Restored| mark.into == m.source || mark.into == m.table;
    let left = |m: &&Manifest| m.settled && !m.restored.iter().any(|mark| back(m, mark));
    if let Some(newest) = found.ours.iter().rfind(left)
        && let Rows::Back | Rows::Between(1.., _) = again::look(newest, Some(oid), job).await?.rows
    {
        return Err(ExportError::Proof(format!(
            "{place} has {many} of {source}, {rows}, that the history does not know, and rows of the newest, {}, are in the table: they would be archived twice, and nothing was archived. {adopt}",
            newest.id
        )));
    }
    let at = |m: &Manifest| m.created_at.format("%Y-%m-%d %H:%M:%S UTC").to_string();
    findings.push(Finding {
        code: "archive.unknown_files".to_owned(),
        severity: Severity::Warning,
        object: source.to_owned(),
        message: format!(
            "{place} has {many} of this table, {rows}, that the history does not know, written from {} to {}: runs do not see whether their rows come back, and they are listed and restored with `--files` only. {adopt}",
            at(oldest),
            at(last)
        ),
        suggestion: None,
    });
    Ok(())
}

/// Reads them. Ours are those of a table of this name in a database of this name, for this target's
/// name where they say one.
async fn read(beside: &Beside, source: &str, job: Job<'_>) -> Result<Strangers, ExportError> {
    let storage = Storage::open(&beside.storage)?;
    let (target, database) = (&job.execution.target, &job.session.server.database);
    // Another run may have come first.
    let memories = known(job).await?;
    let mut found = Strangers::default();
    for id in &beside.ids {
        if archived::is_known(*id, &memories) {
            continue;
        }
        let path = beside.path(*id);
        let content = match storage.get(&path, archived::MANIFEST).await {
            Ok(content) => content,
            Err(error) if error.is_about_the_file() => {
                // Whoever wrote it may have taken it back meanwhile.
                if storage.stamp(&path).await?.is_some() {
                    found.unread.push(with_causes(&error));
                }
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let manifest = serde_json::from_slice::<Manifest>(&content).ok();
        let Some(mut manifest) = manifest.filter(|m| m.id == *id && m.examine().is_ok()) else {
            found.unread.push(storage.full(&path));
            continue;
        };
        let ours = manifest.source == source
            && manifest.target.as_ref().is_none_or(|of| of == target)
            && manifest.database.as_ref().is_none_or(|of| of == database);
        if ours && is_begun(&manifest, job).await? {
            continue;
        }
        if ours && manifest.received.is_none() {
            beside.storage.clone_into(&mut manifest.storage);
            found.ours.push(manifest);
        } else {
            found.others.push(Memory {
                key: archived::stranger_as(*id),
                value: json!({ "target": manifest.target, "database": manifest.database }),
            });
        }
    }
    if found.ours.iter().any(|manifest| manifest.target.is_none()) {
        let all = known_of_all(job).await?;
        found
            .ours
            .retain(|m| !all.contains(&archived::remembered_as(m.id)));
    }
    Ok(found)
}

/// Whether a manifest is of a partition on its way out, which has all its rows still. Who goes on
/// with it finds the manifest.
async fn is_begun(manifest: &Manifest, job: Job<'_>) -> Result<bool, ExportError> {
    let Some(whole) = manifest.whole.as_ref().filter(|_| !manifest.settled) else {
        return Ok(false);
    };
    let doing = "looking for a partition that was begun with";
    let sql = "SELECT EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = $1::oid)";
    let rows = job.session.query(doing, sql, &[&whole.oid]).await?;
    Ok(first(&rows, 0)? == Some(true))
}

/// What the history knows under any name: older manifests do not say of which target they are.
async fn known_of_all(job: Job<'_>) -> Result<HashSet<String>, ExportError> {
    let (store, kind) = (job.execution.history.store(), &job.execution.kind);
    let asked = async {
        let mut all = HashSet::new();
        for name in store.remembered(kind).await? {
            let memories = store.memories(&name, kind).await?.into_iter();
            let known = memories.filter(|(_, value)| !value.is_null());
            all.extend(known.map(|(key, _)| key));
        }
        Ok::<_, HistoryError>(all)
    };
    asked.await.map_err(|error| {
        ExportError::Proof(format!(
            "nothing was archived, because the history cannot be read: {error}"
        ))
    })
}
