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

/// A process of this machine, told apart from those of all others: what started, by the kernel's own
/// number of that, the space in which process ids mean something, and the id. Names of machines are often
/// the same, and the first such space has the same number everywhere.
pub fn process(pid: u32) -> String {
    format!("{} {pid}", of_this_start().unwrap_or_default())
}

/// Where process ids mean what they mean here; none where the system does not say it.
fn of_this_start() -> Option<String> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let space = std::fs::read_link("/proc/self/ns/pid").ok()?;
    Some(format!("{} {}", boot.trim(), space.display()))
}

/// Whether a process, as [`process`] has written it, may be alive: that one is not is known only where
/// it was started here, since this machine was.
pub fn may_be_alive(process: &str) -> bool {
    let known = process.rsplit_once(' ').and_then(|(space, pid)| {
        let here = of_this_start().is_some_and(|here| here == space);
        here.then_some(pid)?.parse::<i64>().ok()
    });
    known.is_none_or(is_alive)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn only_a_process_of_this_machine_is_known_to_be_no_more() {
        let gone = process(4_000_000);
        assert!(!may_be_alive(&gone), "{gone}");
        assert!(may_be_alive(&process(std::process::id())));
        // The first space of process ids has the same number on every machine.
        let (boot, rest) = gone.split_once(' ').unwrap_or_default();
        assert!(may_be_alive(&format!("{} {rest}", "0".repeat(boot.len()))));
        assert!(may_be_alive(rest));
        assert!(may_be_alive("pid:[4026531836] x"));
    }
}
