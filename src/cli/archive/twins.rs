//! Archives with the same content, of which one was brought back already.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::plan::archived::ArchivedFile;
use crate::plan::{Manifest, Restored};

/// An archive that is in a table already.
pub(super) struct There<'m> {
    manifest: &'m Manifest,
    /// When it went back into the very table that it came from, if it did.
    home: Option<DateTime<Utc>>,
}

impl<'m> There<'m> {
    /// What of an archive is in the table of this name, by where it was brought back to; `recorded`, where
    /// the history says so, and nobody who writes to the place of the files.
    pub(super) fn of(
        manifest: &'m Manifest,
        later: &[Restored],
        name: &str,
        recorded: bool,
    ) -> Option<There<'m>> {
        let marks = manifest.restored.iter().chain(later);
        let mark = marks
            .filter(|mark| mark.into == name)
            .max_by_key(|m| m.at)?;
        let home = recorded && mark.home && mark.into == manifest.source;
        Some(There {
            manifest,
            home: home.then_some(mark.at),
        })
    }

    /// Whether its rows have left the table since, and are in the other archive.
    fn is_in(&self, other: &Manifest) -> bool {
        self.home.is_some_and(|at| other.created_at > at) && other.source == self.manifest.source
    }
}

/// Two archives with a file of the same content, one of which is to come: whoever can write to the place
/// may have made the one from the other, and rows that went back into their table are archived once more.
pub(super) fn twins<'m>(
    there: &'m [There<'m>],
    coming: &'m [Manifest],
) -> Option<(Uuid, Uuid, &'m ArchivedFile)> {
    let with_rows = |m: &'m Manifest| m.files.iter().filter(|file| file.rows > 0);
    let mut seen: HashMap<&str, (Uuid, Option<&There<'m>>)> = HashMap::new();
    for archive in there {
        let id = archive.manifest.id;
        seen.extend(with_rows(archive.manifest).map(|f| (f.sha256.as_str(), (id, Some(archive)))));
    }
    for manifest in coming {
        for file in with_rows(manifest) {
            let Some((other, there)) = seen.insert(&file.sha256, (manifest.id, None)) else {
                continue;
            };
            if other != manifest.id && !there.is_some_and(|there| there.is_in(manifest)) {
                return Some((other, manifest.id, file));
            }
        }
    }
    None
}
