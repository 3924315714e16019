//! Files in a folder of this machine.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::StorageError;

/// What the name of a file ends with until it is complete.
const PART: &str = ".part";

/// Whether a folder may be made in this one.
pub(super) fn may_make(folder: &Path) -> std::io::Result<()> {
    if !folder.is_dir() {
        return Err(std::io::ErrorKind::NotADirectory.into());
    }
    let writable = nix::unistd::AccessFlags::W_OK | nix::unistd::AccessFlags::X_OK;
    Ok(nix::unistd::access(folder, writable)?)
}

/// The files and the folders in a folder, with what their paths begin with.
pub(super) fn in_folder(
    folder: &Path,
    begins: &str,
) -> std::io::Result<(Vec<String>, Vec<String>)> {
    let entries = match std::fs::read_dir(folder) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Default::default()),
        entries => entries?,
    };
    let (mut files, mut folders) = (Vec::new(), Vec::new());
    for entry in entries {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        match entry.file_type()?.is_dir() {
            true => folders.push(format!("{begins}{name}/")),
            false => files.push(format!("{begins}{name}")),
        }
    }
    Ok((files, folders))
}

/// Opens a plain file for reading that lies in the folder itself; why not, where it is something else.
pub(super) fn within(folder: &Path, file: &Path) -> std::io::Result<Result<File, String>> {
    let (folder, real) = (folder.canonicalize()?, file.canonicalize()?);
    if !real.starts_with(&folder) {
        return Ok(Err("it lies outside of the folder".to_owned()));
    }
    // Opening a pipe would wait for somebody to write to it.
    if !real.metadata()?.is_file() {
        return Ok(Err("it is no plain file".to_owned()));
    }
    let open = File::open(&real)?;
    match open.metadata()?.is_file() {
        true => Ok(Ok(open)),
        false => Ok(Err("it is no plain file".to_owned())),
    }
}

pub(super) fn below_folder(
    root: &Path,
    folder: &Path,
    found: &mut Vec<String>,
) -> std::io::Result<()> {
    let entries = match std::fs::read_dir(folder) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            below_folder(root, &path, found)?;
        } else if let Some(path) = path.strip_prefix(root).ok().and_then(Path::to_str) {
            found.push(path.strip_suffix(PART).unwrap_or(path).to_owned());
        }
    }
    Ok(())
}

pub(super) fn part(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(PART);
    PathBuf::from(name)
}

pub(super) fn write(file: &Path, content: &[u8]) -> std::io::Result<()> {
    let folder = file.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(folder)?;
    let unfinished = part(file);
    let mut open = std::fs::File::create(&unfinished)?;
    open.write_all(content)?;
    open.sync_all()?;
    std::fs::rename(&unfinished, file)?;
    // The name has to be on disk, too, before anything is deleted for it.
    std::fs::File::open(folder)?.sync_all()
}

pub(super) async fn on_disk<T: Send + 'static>(
    path: String,
    doing: &'static str,
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, StorageError> {
    let done = tokio::task::spawn_blocking(work).await;
    let done = done.unwrap_or_else(|panicked| Err(std::io::Error::other(panicked)));
    done.map_err(|source| StorageError::Disk {
        path,
        doing,
        source,
    })
}
