//! Files that were proved to hold rows, looked at again right before the rows
//! go: until then somebody may have removed one, or put another in its place.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::lot::{ExportError, beside_it, sha256};
use crate::engines::storage::{Stamp, Storage};
use crate::plan::ArchivedFile;
use crate::values::with_causes;

/// By path, which content was seen to be as it was written.
#[derive(Debug, Default)]
pub(super) struct Seen(Mutex<HashMap<String, Stamp>>);

impl Seen {
    fn stamps(&self) -> MutexGuard<'_, HashMap<String, Stamp>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes which content a file has: taken before it is read, so that what
    /// comes afterwards is noticed.
    pub(super) fn note(&self, path: &str, stamp: Option<Stamp>) {
        match stamp {
            Some(stamp) => drop(self.stamps().insert(path.to_owned(), stamp)),
            None => drop(self.stamps().remove(path)),
        }
    }

    /// What is wrong with the first of these files that is not as it was
    /// written. One that was seen before and has not changed is not read again.
    ///
    /// # Errors
    /// When the place could not be asked: then nothing is known of its files.
    pub(super) async fn wrong(
        &self,
        storage: &Storage,
        files: &[ArchivedFile],
    ) -> Result<Option<String>, ExportError> {
        for file in files {
            let stamp = storage.stamp(&file.path).await?;
            if stamp.is_some() && stamp.as_ref() == self.stamps().get(&file.path) {
                continue;
            }
            let content = match storage.get(&file.path, file.size()).await {
                Ok(content) => content,
                Err(error) if error.is_about_the_file() => return Ok(Some(with_causes(&error))),
                Err(error) => return Err(error.into()),
            };
            let found = beside_it(move || sha256(&content)).await?;
            if found != file.sha256 {
                return Ok(Some(format!(
                    "{}: its SHA-256 is {found}, not {} as written",
                    storage.full(&file.path),
                    file.sha256
                )));
            }
            self.note(&file.path, stamp);
        }
        Ok(None)
    }
}
