//! This machine and its processes.

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;

/// What this machine calls itself.
pub fn host() -> String {
    gethostname::gethostname().to_string_lossy().into_owned()
}

/// Whether a process of this machine is alive. Asking with signal 0 sends nothing.
pub fn is_alive(pid: i64) -> bool {
    let Ok(pid) = i32::try_from(pid) else {
        return false;
    };
    kill(Pid::from_raw(pid), None) != Err(Errno::ESRCH)
}
