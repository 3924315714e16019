//! What lies in a place: its files and folders.

use futures_util::TryStreamExt;
use object_store::path::Path as Key;

use super::disk::{below_folder, in_folder, on_disk};
use super::{Place, Storage, StorageError, key};

impl Storage {
    /// All files below a folder, by their paths; also what a write that broke
    /// off left, under the name of the file. None where there is no such folder.
    ///
    /// # Errors
    /// When it could not be read.
    pub async fn list(&self, folder: &str) -> Result<Vec<String>, StorageError> {
        let mut found = match &self.place {
            Place::Folder(root) => {
                let root = root.clone();
                let below = root.join(folder);
                on_disk(self.full(folder), "read", move || {
                    let mut found = Vec::new();
                    below_folder(&root, &below, &mut found)?;
                    Ok(found)
                })
                .await?
            }
            Place::Bucket(store, prefix) => {
                let root = key(prefix, folder.trim_end_matches('/'));
                let skip = if prefix.is_empty() {
                    0
                } else {
                    prefix.len() + 1
                };
                let all: Vec<_> = store
                    .list(Some(&root).filter(|root| !root.as_ref().is_empty()))
                    .try_collect()
                    .await
                    .map_err(self.refused(folder, "read"))?;
                let paths = all.iter().map(|meta| meta.location.as_ref());
                paths
                    .filter_map(|path| path.get(skip..).map(str::to_owned))
                    .collect()
            }
        };
        found.sort();
        found.dedup();
        Ok(found)
    }

    /// The files in a folder, by their paths, without those of the folders in it. None where there is
    /// no such folder.
    ///
    /// # Errors
    /// When it could not be read.
    pub async fn files_in(&self, folder: &str) -> Result<Vec<String>, StorageError> {
        Ok(self.entries(folder).await?.0)
    }

    /// The folders in this place, each with a `/` behind its name.
    ///
    /// # Errors
    /// When it could not be read.
    pub async fn folders(&self) -> Result<Vec<String>, StorageError> {
        Ok(self.entries("").await?.1)
    }

    /// The files and the folders in a folder.
    async fn entries(&self, folder: &str) -> Result<(Vec<String>, Vec<String>), StorageError> {
        let (mut files, mut folders) = match &self.place {
            Place::Folder(root) => {
                let (path, begins) = (root.join(folder), folder.to_owned());
                let read = move || in_folder(&path, &begins);
                on_disk(self.full(folder), "read", read).await?
            }
            Place::Bucket(store, prefix) => {
                let root = key(prefix, folder.trim_end_matches('/'));
                let root = Some(&root).filter(|root| !root.as_ref().is_empty());
                let skip = match prefix.is_empty() {
                    true => 0,
                    false => prefix.len() + 1,
                };
                let all = store.list_with_delimiter(root).await;
                let all = all.map_err(self.refused(folder, "read"))?;
                let below = |path: &Key| path.as_ref().get(skip..).map(str::to_owned);
                let files = all.objects.iter();
                let folders = all.common_prefixes.iter();
                (
                    files.filter_map(|meta| below(&meta.location)).collect(),
                    folders
                        .filter_map(|path| below(path).map(|path| format!("{path}/")))
                        .collect(),
                )
            }
        };
        files.sort();
        folders.sort();
        Ok((files, folders))
    }

    /// Whether there is any file below a folder.
    ///
    /// # Errors
    /// When it could not be read.
    pub async fn any(&self, folder: &str) -> Result<bool, StorageError> {
        match &self.place {
            Place::Folder(_) => Ok(!self.list(folder).await?.is_empty()),
            Place::Bucket(store, prefix) => {
                let root = key(prefix, folder.trim_end_matches('/'));
                let root = Some(&root).filter(|root| !root.as_ref().is_empty());
                let first = store.list(root).try_next().await;
                Ok(first.map_err(self.refused(folder, "read"))?.is_some())
            }
        }
    }
}
