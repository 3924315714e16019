//! This machine, its processes and its clock.

use chrono::{DateTime, Utc};
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

/// The time on this machine's clock, which may step in both directions, and be wrong: what decides
/// over rows goes by the server's. Nothing else reads the clock, so that whoever decides is handed
/// the time as a fact.
#[allow(
    clippy::disallowed_methods,
    reason = "the one place that reads the clock"
)]
pub fn wall_clock() -> DateTime<Utc> {
    Utc::now()
}
