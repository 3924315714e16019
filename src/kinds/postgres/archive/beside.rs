//! What lies in the place of the files: whether there is any, and manifests that the history does
//! not know. It was lost then, or set back to before them, or they are another's.

use uuid::Uuid;

use super::super::retention::facts::Table;
use super::columns::Found;
use crate::engines::parquet::Column;
use crate::engines::storage::Storage;
use crate::plan::archived::{self, Beside};
use crate::plan::{Finding, Manifest, Moment, Severity};
use crate::values::with_causes;

/// What there is of a table.
#[derive(Debug)]
pub(super) struct Place {
    url: String,
    folder: String,
    /// Whether there are files; why not known, if nobody could look.
    pub(super) has_files: Result<bool, String>,
    /// The ids of the manifests.
    manifests: Vec<Uuid>,
}

impl Place {
    /// Looks at names alone; at none where the address makes no sense, which the plan tells.
    pub(super) async fn read(url: &str, table: &Table, columns: &[Found]) -> Option<Place> {
        let storage = Storage::open(url).ok()?;
        let kept: Vec<Column> = columns.iter().filter_map(Found::kept).collect();
        let folder = Manifest::folder_of(&table.name.to_string(), &kept);
        let looked = async {
            let files = storage.files_in(&folder).await?;
            let some = !files.is_empty() || storage.any(&folder).await?;
            Ok::<_, crate::engines::storage::StorageError>((files, some))
        };
        let (files, has_files) = match looked.await {
            Ok((files, some)) => (files, Ok(some)),
            Err(error) => (Vec::new(), Err(with_causes(&error))),
        };
        Some(Place {
            url: url.to_owned(),
            folder,
            has_files,
            manifests: files
                .iter()
                .filter_map(|path| archived::id_at(path))
                .collect(),
        })
    }

    /// What the history does not know, under whatever name of the target.
    pub(super) fn unknown(&self, at: &Moment) -> Option<Beside> {
        let all = || std::iter::once(&at.memories).chain(at.former.values());
        let is_known = |id| all().any(|memories| archived::is_known(id, memories));
        Beside::unknown(&self.url, &self.folder, &self.manifests, is_known)
    }

    /// Tells that nobody could look.
    pub(super) fn unseen(&self, source: &str) -> Option<Finding> {
        let why = self.has_files.as_ref().err()?;
        Some(Finding {
            code: "archive.unknown_files".to_owned(),
            severity: Severity::Warning,
            object: source.to_owned(),
            message: format!(
                "whether {} has archives of this table that the history does not know cannot be seen: {why}",
                self.url
            ),
            suggestion: None,
        })
    }
}
