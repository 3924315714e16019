//! How many files this process may have open, connections included.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// More is of no use here, and programs that a task starts may count to their limit.
const ENOUGH: u64 = 65_536;
/// Left to the history, the targets, the files and the standard streams.
const RESERVED: u64 = 128;
/// However many files there may be.
const MOST_CONNECTIONS: u64 = 512;
/// However few.
const FEWEST_CONNECTIONS: u64 = 8;

/// Raises the limit on open files to what the system allows; the limit now.
pub fn raise_limit() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return 1024;
    };
    let wanted = hard.min(ENOUGH).max(soft);
    match setrlimit(Resource::RLIMIT_NOFILE, wanted, hard) {
        Ok(()) => wanted,
        Err(_) => soft,
    }
}

/// How many connections may be open at once with so many files.
pub(super) fn most_connections(files: u64) -> usize {
    let most = (files.saturating_sub(RESERVED) / 2).clamp(FEWEST_CONNECTIONS, MOST_CONNECTIONS);
    usize::try_from(most).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_files_to_the_work() {
        for (files, most) in [(65_536, 512), (1024, 448), (300, 86), (64, 8)] {
            assert_eq!(most_connections(files), most, "{files}");
        }
    }
}
