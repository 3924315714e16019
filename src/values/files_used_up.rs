//! Tells the limit on open files from other errors, wherever one comes up: it has its own remedy.

use std::io;

use nix::errno::Errno;

/// Whose limit on open files has been reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilesUsedUp {
    /// That of this process.
    Process,
    /// That of the whole machine.
    System,
}

impl FilesUsedUp {
    /// Whether an error means that no more files can be opened, connections included.
    pub fn of(error: &io::Error) -> Option<FilesUsedUp> {
        match error.raw_os_error().map(Errno::from_raw)? {
            Errno::EMFILE => Some(FilesUsedUp::Process),
            Errno::ENFILE => Some(FilesUsedUp::System),
            _ => None,
        }
    }
}
