//! Records that the history could not take: kept in a file beside it, and
//! written once, later, by whoever comes first.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{Entry, HistoryError, Store};
use crate::values::with_causes;

/// The end of the names of spool files.
const ENDING: &str = ".entries.jsonl";

/// The files of one process, made when they are first needed. They are locked as
/// long as the process lives, so that nobody else writes what they hold. A second one is in another
/// place, where the first can take no more: who has no room for the history has none beside it.
#[derive(Debug)]
pub(super) struct Spool {
    /// Where files may be made, in the order in which that is tried.
    places: Vec<PathBuf>,
    files: Vec<(File, PathBuf)>,
}

impl Spool {
    /// Nothing is made before the first entry.
    pub(super) fn new(folder: &Path) -> Spool {
        Spool {
            places: places(folder),
            files: Vec::new(),
        }
    }

    /// Where entries are kept, if there are any.
    pub(super) fn path(&self) -> Option<&Path> {
        self.files.last().map(|(_, path)| path.as_path())
    }

    /// Keeps entries, one line each, on disk when it returns.
    ///
    /// # Errors
    /// When no file can be made or written.
    pub(super) fn keep<'a>(&mut self, entries: impl Iterator<Item = &'a Entry>) -> io::Result<()> {
        let mut lines = Vec::new();
        for entry in entries {
            serde_json::to_writer(&mut lines, entry)?;
            lines.push(b'\n');
        }
        let mut failed = None;
        if let Some((file, path)) = self.files.last_mut() {
            match add(file, &lines) {
                Ok(()) => return Ok(()),
                Err(error) => {
                    tracing::warn!(path = %path.display(), error = %with_causes(&error), "a spool file takes no more");
                    failed = Some(error);
                }
            }
        }
        for folder in &self.places {
            match begin(folder, &lines) {
                Ok(made) => {
                    self.files.push(made);
                    return Ok(());
                }
                Err(error) => {
                    failed.get_or_insert(error);
                }
            }
        }
        Err(failed.unwrap_or_else(|| io::Error::from(io::ErrorKind::NotFound)))
    }

    /// What is kept.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub(super) fn entries(&mut self) -> io::Result<Vec<Entry>> {
        let mut all = Vec::new();
        for (file, _) in &mut self.files {
            all.append(&mut read(file)?);
        }
        Ok(all)
    }

    /// Forgets what is kept: it has been written.
    pub(super) fn clear(&mut self) {
        for (_, path) in self.files.drain(..) {
            if let Err(error) = fs::remove_file(&path) {
                // Written twice does no harm: each entry may be repeated.
                tracing::warn!(path = %path.display(), error = %with_causes(&error), "could not remove a spool file");
            }
        }
    }
}

/// Where files may be made: beside the history, and where there is no room or no right to, among the
/// temporary files, in a folder of this user's and of this history's.
fn places(folder: &Path) -> Vec<PathBuf> {
    let whole = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let digest = Sha256::digest(whole.as_os_str().as_bytes());
    let name: String = digest
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let user = nix::unistd::geteuid();
    let elsewhere = std::env::temp_dir().join(format!("maint-spool-{user}-{name}"));
    vec![folder.to_owned(), elsewhere]
}

/// Whether a folder is nobody else's: among the temporary files anybody may make one.
fn is_ours(folder: &Path) -> bool {
    fs::symlink_metadata(folder).is_ok_and(|found| {
        found.is_dir()
            && found.uid() == nix::unistd::geteuid().as_raw()
            && found.mode() & 0o022 == 0
    })
}

/// How many records wait beside the history in `folder`, or elsewhere because there was no room, until
/// it takes them. Nothing is changed, and nobody's file is held up.
pub fn waiting(folder: &Path) -> usize {
    let places = places(folder).into_iter().enumerate();
    let found = places
        .filter(|(n, place)| *n == 0 || is_ours(place))
        .filter_map(|(_, place)| fs::read_dir(place).ok());
    found
        .flatten()
        .filter_map(|one| Some(one.ok()?.path()))
        .filter(|path| path.to_string_lossy().ends_with(ENDING))
        .filter_map(|path| fs::read(path).ok())
        .map(|text| text.iter().filter(|byte| **byte == b'\n').count())
        .sum()
}

/// Writes what processes that are gone have kept in `folder`, or elsewhere because there was no room.
/// Files that a living process holds are left to it. Returns how many files were written.
///
/// # Errors
/// When the history is away. A file that cannot be read, or that the history does not take, is named in the log and
/// kept.
pub(super) async fn take_up(folder: &Path, store: &dyn Store) -> Result<usize, HistoryError> {
    let places = places(folder).into_iter().enumerate();
    // No folder: nobody ever had to keep anything.
    let found = places
        .filter(|(n, place)| *n == 0 || is_ours(place))
        .filter_map(|(_, place)| fs::read_dir(place).ok());
    let mut paths: Vec<PathBuf> = found
        .flatten()
        .filter_map(|one| Some(one.ok()?.path()))
        .filter(|path| path.to_string_lossy().ends_with(ENDING))
        .collect();
    // Ids sort by time.
    paths.sort_by(|a, b| a.file_name().cmp(&b.file_name()));
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
        match record(store, &entries).await {
            Ok(()) => {}
            // What one file holds may be what the history never takes: that keeps nothing else from its way.
            Err(error) if !error.is_away() => {
                tracing::error!(path = %path.display(), error = %with_causes(&error), "the history does not take what an earlier run had kept beside it; it stays there");
                continue;
            }
            Err(error) => return Err(error),
        }
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

/// A new file with these lines; none is left where they do not go in.
fn begin(folder: &Path, lines: &[u8]) -> io::Result<(File, PathBuf)> {
    let (mut file, path) = make(folder)?;
    match add(&mut file, lines) {
        Ok(()) => Ok((file, path)),
        Err(error) => {
            let _ = fs::remove_file(&path);
            Err(error)
        }
    }
}

/// Adds whole lines, on disk when it returns, or nothing: half a line would spoil what follows.
fn add(file: &mut File, lines: &[u8]) -> io::Result<()> {
    let before = file.metadata()?.len();
    let added = file.write_all(lines).and_then(|()| file.sync_data());
    if added.is_err() {
        let _ = file.set_len(before);
    }
    added
}

fn make(folder: &Path) -> io::Result<(File, PathBuf)> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    if folder.starts_with(std::env::temp_dir()) && !is_ours(folder) {
        return Err(io::Error::other("the folder belongs to somebody else"));
    }
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
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::history::{Baseline, open};
    use crate::values::wall_clock;

    fn learned(object: &str) -> Entry {
        Entry::Baseline {
            target: "app".to_owned(),
            baseline: Baseline {
                object: object.to_owned(),
                bytes: 8192,
                tuples: 10.0,
                learned_at: wall_clock(),
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
        let mut spool = Spool::new(&spool_folder);
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

    /// Where there is no room beside the history, a file elsewhere takes what comes, and what is
    /// whole in the first stays whole.
    #[tokio::test]
    async fn what_has_no_room_is_kept_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        let beside = folder.path().join("beside");
        // A file where the folder would be.
        fs::write(&beside, "").unwrap();
        let store = open("sqlite::memory:").await.unwrap();
        let mut spool = Spool::new(&beside);
        spool.keep([learned("a")].iter()).unwrap();
        let path = spool.path().unwrap().to_owned();
        assert!(path.starts_with(std::env::temp_dir()), "{}", path.display());
        let elsewhere = path.parent().unwrap().to_owned();
        assert_eq!(fs::metadata(&elsewhere).unwrap().mode() & 0o777, 0o700);
        assert_eq!(spool.entries().unwrap().len(), 1);
        drop(spool);
        assert_eq!(take_up(&beside, store.as_ref()).await.unwrap(), 1);
        assert_eq!(store.baselines("app").await.unwrap().len(), 1);
        assert!(!path.exists());
        // What somebody else could have put there is not taken.
        fs::set_permissions(&elsewhere, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(!is_ours(&elsewhere));
        fs::remove_dir(&elsewhere).unwrap();
    }

    #[test]
    fn half_a_line_is_taken_back() {
        let folder = tempfile::tempdir().unwrap();
        let (mut file, path) = begin(folder.path(), b"whole\n").unwrap();
        // A file that takes no more, as a full disk does.
        let limited = File::options().read(true).open(&path).unwrap();
        let mut limited = std::mem::replace(&mut file, limited);
        add(&mut limited, b"more\n").unwrap();
        assert!(add(&mut file, b"not\n").is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "whole\nmore\n");
    }
}
