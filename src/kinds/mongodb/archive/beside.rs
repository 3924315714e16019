//! What lies in the place of the files: whether there is any, and manifests that the history does
//! not know. It was lost then, or set back to before them, or they are another's.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::super::cleanup::rule::Rule;
use crate::engines::mongodb::namespace;
use crate::engines::storage::{Storage, StorageError};
use crate::plan::archived::{self, Beside};
use crate::plan::mongodb::{Body, Manifest, Stray, Work};
use crate::plan::{Finding, Moment, Plan, Severity, Step};
use crate::values::{several, several_do, with_causes};

/// What there is of a collection.
#[derive(Debug)]
pub(super) struct Place {
    url: String,
    database: String,
    collection: String,
    folder: String,
    /// Whether there are files; why not known, if nobody could look.
    has_files: Result<bool, String>,
    /// The ids of the manifests.
    manifests: Vec<Uuid>,
}

impl Place {
    /// Looks at names alone.
    pub(super) async fn read(
        url: &str,
        storage: &Storage,
        (database, collection): (&str, &str),
    ) -> Place {
        let folder = Manifest::folder_of(database, collection);
        let looked = async {
            let files = storage.files_in(&folder).await?;
            let some = !files.is_empty() || storage.any(&folder).await?;
            Ok::<_, StorageError>((files, some))
        };
        let (files, has_files) = match looked.await {
            Ok((files, some)) => (files, Ok(some)),
            Err(error) => (Vec::new(), Err(with_causes(&error))),
        };
        let ids = files.iter().filter_map(|path| archived::id_at(path));
        Place {
            url: url.to_owned(),
            database: database.to_owned(),
            collection: collection.to_owned(),
            manifests: ids.collect(),
            folder,
            has_files,
        }
    }

    /// What was archived to a place where there is nothing now, the disk of another machine or a
    /// folder that was cleared; or that nobody could look.
    pub(super) fn finding(&self, at: &Moment) -> Option<Finding> {
        let known: Vec<i64> = archived::among::<Manifest>(at.memories.iter())
            .into_iter()
            .filter(|m| m.settled && m.storage == self.url)
            .filter(|m| m.database == self.database && m.collection == self.collection)
            .map(|m| m.rows)
            .collect();
        let why = match &self.has_files {
            Ok(true) => return None,
            Ok(false) if known.is_empty() => return None,
            Ok(false) => "there is nothing there".to_owned(),
            Err(error) => format!("it cannot be read: {error}"),
        };
        let url = &self.url;
        let (code, severity, message) = match known.is_empty() {
            true => (
                "archive.unknown_files",
                Severity::Warning,
                format!(
                    "whether {url} has archives of this collection that the history does not know cannot be seen: {why}"
                ),
            ),
            false => (
                "archive.files_missing",
                Severity::Critical,
                format!(
                    "{} archived to {url} in {}, and {why}. Bring the files back before they are needed; what is archived from now on may be lost the same way",
                    several_do(known.iter().sum::<i64>(), "document", ("was", "were")),
                    several(known.len(), "part")
                ),
            ),
        };
        Some(Finding {
            code: code.to_owned(),
            severity,
            object: namespace(&self.database, &self.collection),
            message,
            suggestion: None,
        })
    }

    fn stray(&self, at: &Moment) -> Option<Stray> {
        let is_known = |id| archived::is_known(id, &at.memories);
        let beside = Beside::unknown(&self.url, &self.folder, &self.manifests, is_known)?;
        Some(Stray {
            database: self.database.clone(),
            collection: self.collection.clone(),
            beside,
        })
    }
}

/// Tells of collections that are others than the documents of their archives came from: one that
/// was dropped and put back from a backup has those documents again.
pub(super) fn replaced(
    manifests: &[Manifest],
    identities: &BTreeMap<(String, String), String>,
    rules: &[Rule],
    own: &str,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (at, now) in identities {
        let named = |rule: &Rule| {
            let database = rule.database.as_deref().unwrap_or(own);
            database == at.0 && rule.collection == at.1
        };
        if !rules.iter().any(named) {
            continue;
        }
        let of = |m: &&Manifest| m.settled && m.database == at.0 && m.collection == at.1;
        let mut known: Vec<&Manifest> = manifests.iter().filter(of).collect();
        known.sort_by_key(|manifest| manifest.id);
        // Once something of this very one is archived, it has been told.
        let Some(last) = known.last().and_then(|last| last.uuid.as_ref()) else {
            continue;
        };
        if last == now {
            continue;
        }
        let others = known.iter().filter(|m| m.uuid.as_ref() != Some(now));
        let documents: i64 = others.map(|manifest| manifest.rows).sum();
        let object = namespace(&at.0, &at.1);
        findings.push(Finding {
            code: "archive.replaced".to_owned(),
            severity: Severity::Warning,
            message: format!(
                "{object} is another collection than the one of that name that {documents} documents were archived from: its UUID was {last}, and is {now}. If it was put back from a backup, documents that are archived already are in it again, and are archived once more; a restore brings back one of each that are the same"
            ),
            object,
            suggestion: Some("maint archive list".to_owned()),
        });
    }
    findings
}

/// Has a run read what the history does not know.
pub(super) fn read_first(plan: &mut Plan<Body>, own: &str, places: &[Place], at: &Moment) {
    let strays: Vec<Stray> = places.iter().filter_map(|place| place.stray(at)).collect();
    if strays.is_empty() {
        return;
    }
    let step = Step::new("read manifests", own, own)
        .because("the place of the files has archives that the history does not know")
        .doing(Work::Strays(strays));
    plan.steps.insert(0, step);
}
