//! Records that the history could not take: kept in a file beside it, and
//! written once, later, by whoever comes first.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::{Entry, HistoryError, Store};
use crate::values::with_causes;

/// The end of the names of spool files.
const ENDING: &str = ".entries.jsonl";

/// The file of one process, made when it is first needed. It is locked as
/// long as the process lives, so that nobody else writes what it holds.
#[derive(Debug)]
pub(super) struct Spool {
    folder: PathBuf,
    file: Option<(File, PathBuf)>,
}

impl Spool {
    /// Nothing is made before the first entry.
    pub(super) fn new(folder: PathBuf) -> Spool {
        Spool { folder, file: None }
    }

    /// Where entries are kept, if there are any.
    pub(super) fn path(&self) -> Option<&Path> {
        self.file.as_ref().map(|(_, path)| path.as_path())
    }

    /// Keeps entries, one line each, on disk when it returns.
    ///
    /// # Errors
    /// When the file cannot be made or written.
    pub(super) fn keep<'a>(&mut self, entries: impl Iterator<Item = &'a Entry>) -> io::Result<()> {
        let mut lines = Vec::new();
        for entry in entries {
            serde_json::to_writer(&mut lines, entry)?;
            lines.push(b'\n');
        }
        let (file, _) = match &mut self.file {
            Some(open) => open,
            None => self.file.insert(make(&self.folder)?),
        };
        file.write_all(&lines)?;
        file.sync_data()
    }

    /// What is kept.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(super) fn entries(&mut self) -> io::Result<Vec<Entry>> {
        match &mut self.file {
            None => Ok(Vec::new()),
            Some((file, _)) => read(file),
        }
    }

    /// Forgets what is kept: it has been written.
    pub(super) fn clear(&mut self) {
        if let Some((_, path)) = self.file.take()
            && let Err(error) = fs::remove_file(&path)
        {
            // Written twice does no harm: each entry may be repeated.
            tracing::warn!(path = %path.display(), error = %with_causes(&error), "could not remove a spool file");
        }
    }
}

/// Writes what processes that are gone have kept in `folder`. Files that a
/// living process holds are left to it. Returns how many files were written.
///
/// # Errors
/// Only the history's own; a file that cannot be read is named in the log and kept.
pub(super) async fn take_up(folder: &Path, store: &dyn Store) -> Result<usize, HistoryError> {
    let Ok(found) = fs::read_dir(folder) else {
        // No folder: nobody ever had to keep anything.
        return Ok(0);
    };
    let mut paths: Vec<PathBuf> = found
        .filter_map(|one| Some(one.ok()?.path()))
        .filter(|path| path.to_string_lossy().ends_with(ENDING))
        .collect();
    // Ids sort by time.
    paths.sort();
    let mut taken = 0;
    for path in paths {
        let Some(mut file) = ours_to_take(&path) else {
            continue;
        };
        let entries = match read(&mut file) {
            Ok(entries) => entries,
            Err(error) => {
                tracing::error!(path = %path.display(), error = %with_causes(&error), "records kept beside the history cannot be read");
                continue;
            }
        };
        record(store, &entries).await?;
        if let Err(error) = fs::remove_file(&path) {
            tracing::warn!(path = %path.display(), error = %with_causes(&error), "could not remove a spool file");
        }
        tracing::info!(path = %path.display(), entries = entries.len(), "wrote what an earlier run had kept beside the history");
        taken += 1;
    }
    Ok(taken)
}

/// Writes entries, all in one commit. What belongs to a run that the history
/// does not know (any more) cannot be written by anybody: it is named in the
/// log, and the rest goes in.
pub(super) async fn record(store: &dyn Store, entries: &[Entry]) -> Result<(), HistoryError> {
    match store.record(entries).await {
        Err(HistoryError::NotOpened { .. }) => {}
        done => return done,
    }
    for entry in entries {
        match store.record(std::slice::from_ref(entry)).await {
            Err(error @ HistoryError::NotOpened { .. }) => {
                tracing::error!(error = %with_causes(&error), operation = entry.operation(), "a record was left out");
            }
            done => done?,
        }
    }
    Ok(())
}

/// Opens a file that nobody alive holds, and that is still there once it is locked.
fn ours_to_take(path: &Path) -> Option<File> {
    let file = File::options().read(true).write(true).open(path).ok()?;
    file.try_lock().ok()?;
    (file.metadata().ok()?.nlink() > 0).then_some(file)
}

fn make(folder: &Path) -> io::Result<(File, PathBuf)> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    let path = folder.join(format!("{}{ENDING}", Uuid::now_v7()));
    let file = OpenOptions::new()
        .read(true)
        .append(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)?;
    file.try_lock().map_err(io::Error::from)?;
    Ok((file, path))
}

/// A last line without an end was being written when its process died.
fn read(file: &mut File) -> io::Result<Vec<Entry>> {
    let mut text = String::new();
    file.seek(SeekFrom::Start(0))?;
    file.read_to_string(&mut text)?;
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole
        .lines()
        .map(|line| serde_json::from_str(line).map_err(io::Error::from))
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;
    use crate::history::{Baseline, open};

    fn learned(object: &str) -> Entry {
        Entry::Baseline {
            target: "app".to_owned(),
            baseline: Baseline {
                object: object.to_owned(),
                bytes: 8192,
                tuples: 10.0,
                learned_at: chrono::Utc::now(),
                rebuilt: true,
                made_as: None,
            },
        }
    }

    #[tokio::test]
    async fn what_a_dead_process_kept_is_written_once() {
        let folder = tempfile::tempdir().unwrap();
        let spool_folder = folder.path().join("spool");
        let store = open("sqlite::memory:").await.unwrap();
        let mut spool = Spool::new(spool_folder.clone());
        spool.keep([learned("a"), learned("b")].iter()).unwrap();
        let path = spool.path().unwrap().to_owned();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        // Its process is alive: nobody takes it away.
        assert_eq!(take_up(&spool_folder, store.as_ref()).await.unwrap(), 0);
        drop(spool);
        // It died while it wrote a third.
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"{\"baseline\":{\"tar").unwrap();
        drop(file);
        assert_eq!(take_up(&spool_folder, store.as_ref()).await.unwrap(), 1);
        let known = store.baselines("app").await.unwrap();
        assert_eq!(known.len(), 2, "{known:?}");
        assert!(!path.exists());
        assert_eq!(take_up(&spool_folder, store.as_ref()).await.unwrap(), 0);
    }
}
