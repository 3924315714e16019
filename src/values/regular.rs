//! Files that somebody names: read only where they are files, and no larger than makes sense.

use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// The bytes of a file that is one: devices and pipes never end, and something of the wrong name
/// may be huge. The error says what is wrong as the end of a sentence.
pub fn read_regular(path: &Path, most_bytes: u64) -> Result<Vec<u8>, String> {
    let cannot = |why: std::io::Error| format!("cannot be read: {}", describe(&why));
    // Asked before it is opened: opening a pipe waits for somebody to write.
    let found = std::fs::metadata(path).map_err(cannot)?;
    if !found.is_file() {
        let what = if found.is_dir() {
            "a folder"
        } else {
            "not a regular file"
        };
        return Err(format!("cannot be read: it is {what}"));
    }
    let size = |bytes: u64| match bytes >> 20 {
        0 => format!("{} kB", bytes >> 10),
        megabytes => format!("{megabytes} MB"),
    };
    if found.len() > most_bytes {
        let (large, most) = (size(found.len()), size(most_bytes));
        return Err(match large == most {
            true => format!("is larger than the {most} that are read"),
            false => format!("is {large} large; at most {most} are read"),
        });
    }
    let mut bytes = Vec::new();
    // Some that call themselves regular are not, such as those of a kernel's log: they would wait for
    // something to be written.
    let file = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
        .map_err(cannot)?;
    // It may grow meanwhile.
    file.take(most_bytes + 1)
        .read_to_end(&mut bytes)
        .map_err(cannot)?;
    match bytes.len() as u64 > most_bytes {
        true => Err(format!(
            "is larger than the {} that are read",
            size(most_bytes)
        )),
        false => Ok(bytes),
    }
}

/// Refuses what is no file, or far too large, for who reads it in a way of his own.
///
/// # Errors
/// Why it is not to be read.
pub fn regular(path: &Path, most_bytes: u64) -> std::io::Result<()> {
    let found = std::fs::metadata(path)?;
    if !found.is_file() {
        return Err(std::io::Error::other("it is not a regular file"));
    }
    if found.len() > most_bytes {
        return Err(std::io::Error::other(format!(
            "it is larger than the {} kB that are read",
            most_bytes >> 10
        )));
    }
    Ok(())
}

/// The same as text.
///
/// # Errors
/// The end of a sentence about the file.
pub fn read_text(path: &Path, most_bytes: u64) -> Result<String, String> {
    let bytes = read_regular(path, most_bytes)?;
    String::from_utf8(bytes).map_err(|_| "is not UTF-8 text".to_owned())
}

/// What somebody writes to us, to its end, as long as that is not beyond all measure.
///
/// # Errors
/// The end of a sentence about what is read.
pub fn read_stream(from: impl std::io::Read, most_bytes: u64) -> Result<String, String> {
    let mut text = String::new();
    from.take(most_bytes + 1)
        .read_to_string(&mut text)
        .map_err(|why| format!("cannot be read: {}", describe(&why)))?;
    match text.len() as u64 > most_bytes {
        true => Err(format!(
            "is longer than the {} MB that are read",
            most_bytes >> 20
        )),
        false => Ok(text),
    }
}

/// What went wrong, without the number that only programmers need.
pub fn describe(why: &std::io::Error) -> String {
    match why.kind() {
        std::io::ErrorKind::NotFound => "it does not exist".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        std::io::ErrorKind::IsADirectory => "it is a folder".to_owned(),
        std::io::ErrorKind::NotADirectory => "it is not a folder".to_owned(),
        // The kind of this one has no name that may be used yet.
        _ if why.raw_os_error() == Some(libc::ELOOP) => {
            "its symbolic links lead in a circle".to_owned()
        }
        std::io::ErrorKind::StorageFull => "the disk is full".to_owned(),
        std::io::ErrorKind::ReadOnlyFilesystem => "the file system is read-only".to_owned(),
        _ => {
            let text = why.to_string();
            match text.split_once(" (os error") {
                Some((words, _)) => words.to_owned(),
                None => text,
            }
        }
    }
}
