//! Files that somebody names to have something written into them: what stands there already is theirs,
//! unless it is what would be written again.

use std::io::ErrorKind;
use std::path::Path;

use super::Failure;
use crate::values::{describe, read_text};

/// The largest file that is looked into, in bytes: larger is nothing of ours.
const LARGEST: u64 = 256 << 20;

/// Refuses a file that holds something else than `what`. One that is empty, and what is no file, such as
/// a pipe, holds nothing that could be lost.
///
/// # Errors
/// By its name; nothing was written.
pub(super) fn may_take(file: &Path, what: &str, is_ours: fn(&str) -> bool) -> Result<(), Failure> {
    let holds = file.metadata();
    if !holds.is_ok_and(|one| one.is_file() && one.len() > 0) {
        return Ok(());
    }
    if read_text(file, LARGEST).is_ok_and(|text| is_ours(&text)) {
        return Ok(());
    }
    Err(Failure::Usage(format!(
        "{} is there already, and is not {what}: nothing was written\n  hint: name another file, or remove that one",
        file.display()
    )))
}

/// Writes it, in place of what [`may_take`] lets it take.
///
/// # Errors
/// Where it cannot be written: the name is the user's.
pub(super) fn write(
    file: &Path,
    text: &str,
    what: &str,
    is_ours: fn(&str) -> bool,
) -> Result<(), Failure> {
    // Somebody else may have been there since the first look.
    may_take(file, what, is_ours)?;
    std::fs::write(file, text).map_err(|why| {
        let folder = file.parent().filter(|one| !one.as_os_str().is_empty());
        let why = match folder {
            Some(folder) if why.kind() == ErrorKind::NotFound && !folder.exists() => {
                format!("the folder {} does not exist", folder.display())
            }
            _ => describe(&why),
        };
        Failure::Usage(format!("{} cannot be written: {why}", file.display()))
    })
}
