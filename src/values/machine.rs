//! This machine, its processes and its clock.

use chrono::{DateTime, Utc};
use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;

/// What this machine calls itself.
pub fn host() -> String {
    gethostname::gethostname().to_string_lossy().into_owned()
}

/// Whether a process of this machine is alive, as far as its id tells: another one may have it by now.
/// Asking with signal 0 sends nothing.
fn has_process(pid: i64) -> bool {
    let Ok(pid) = i32::try_from(pid) else {
        return false;
    };
    kill(Pid::from_raw(pid), None) != Err(Errno::ESRCH)
}

/// Whether a process is alive that called its machine `host`: by what it has written of itself
/// ([`process`]), else by its id, where an older version wrote nothing else. `None` where nobody here can know.
pub fn is_alive(host: &str, pid: i64, process: Option<&str>) -> Option<bool> {
    if host != self::host() {
        return None;
    }
    match process {
        Some(process) => told(process),
        None => Some(has_process(pid)),
    }
}

/// A process of this machine, told apart from those of all others and of all times: what started, by the
/// kernel's own number of that, the space in which process ids mean something, the id, when it began by
/// the clock of that start, and the machine. Names of machines are often the same, the first such space
/// has the same number everywhere, and in a container each process may have the id 1.
pub fn process(pid: u32) -> String {
    let (boot, space) = of_this_start().unwrap_or_default();
    let began = began(i64::from(pid)).map_or_else(|| "?".to_owned(), |ticks| ticks.to_string());
    let machine = machine().unwrap_or_else(|| "?".to_owned());
    format!("{boot} {space} {pid} {began} {machine}")
}

/// What has started, and the space in which process ids mean what they mean here; none where the system
/// does not say it.
fn of_this_start() -> Option<(String, String)> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let space = std::fs::read_link("/proc/self/ns/pid").ok()?;
    Some((boot.trim().to_owned(), space.display().to_string()))
}

/// When a process began, in the kernel's ticks since this machine was started: field 22 of
/// `/proc/PID/stat` (proc(5)), counted behind the name, which may hold anything.
fn began(pid: i64) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let behind_name = stat.rsplit_once(')')?.1;
    behind_name.split_whitespace().nth(19)?.parse().ok()
}

/// What systemd calls this machine, whatever its name (machine-id(5)).
fn machine() -> Option<String> {
    let id = std::fs::read_to_string("/etc/machine-id").ok()?;
    let id = id.trim();
    (!id.is_empty() && !id.contains(char::is_whitespace)).then(|| id.to_owned())
}

/// The space of process ids that the machine itself lives in, which no container has unless it shares it
/// (`PROC_PID_INIT_INO` of the kernel).
const FIRST_SPACE: &str = "pid:[4026531836]";

/// Whether a process, as [`process`] has written it, may be alive.
pub fn may_be_alive(process: &str) -> bool {
    told(process) != Some(false)
}

/// Whether such a process is alive. That is known only where it was started here: its id is nobody's or
/// another's by now, or not. And it is no more where the machine itself, and no container of it, was
/// started anew since.
fn told(process: &str) -> Option<bool> {
    let mut words = process.split(' ');
    let (boot, space, pid) = (words.next()?, words.next()?, words.next()?.parse().ok()?);
    let (its_begin, its_machine) = (words.next(), words.next());
    let (our_boot, our_space) = of_this_start()?;
    if boot != our_boot {
        let is_ours = its_machine.is_some_and(|one| Some(one) == machine().as_deref());
        let is_first = [space, our_space.as_str()] == [FIRST_SPACE; 2];
        return (is_ours && is_first).then_some(false);
    }
    if space != our_space {
        return None;
    }
    let its_begin = its_begin.and_then(|ticks| ticks.parse::<u64>().ok());
    Some(match (its_begin, began(pid)) {
        (Some(then), Some(now)) => then == now,
        _ => has_process(pid),
    })
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
        let own = process(std::process::id());
        assert!(may_be_alive(&own), "{own}");
        let words: Vec<&str> = own.split(' ').collect();
        let [boot, space, pid, began, machine] = words[..] else {
            unreachable!("{own}");
        };
        // Another machine of the name, or another container: the first space of process ids has the
        // same number on every machine.
        let other = "0".repeat(boot.len());
        assert!(may_be_alive(&format!("{other} {space} 4000000 {began} ?")));
        assert!(may_be_alive(&format!(
            "{boot} pid:[1] 4000000 {began} {machine}"
        )));
        // The id is another process's by now.
        assert!(!may_be_alive(&format!("{boot} {space} {pid} 1 {machine}")));
        // As older versions wrote it.
        assert!(may_be_alive(&format!("{boot} {space} {pid}")));
        assert!(!may_be_alive(&format!("{boot} {space} 4000000")));
        for unknown in [
            "",
            "4000000",
            "pid:[4026531836] x",
            " 4000000",
            "a b c d e f",
        ] {
            assert!(may_be_alive(unknown), "{unknown}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn processes_of_a_machine_that_was_started_anew_are_no_more() {
        let (Some((boot, space)), Some(machine)) = (of_this_start(), machine()) else {
            return;
        };
        let earlier = "0".repeat(boot.len());
        let in_container = format!("{earlier} pid:[1] 1 5 {machine}");
        assert!(may_be_alive(&in_container), "{in_container}");
        let here = format!("{earlier} {FIRST_SPACE} 1 5 {machine}");
        assert_eq!(may_be_alive(&here), space != FIRST_SPACE, "{here}");
    }

    #[test]
    fn a_record_of_an_older_version_goes_by_its_process_id() {
        let here = host();
        let own = i64::from(std::process::id());
        assert_eq!(is_alive(&here, own, None), Some(true));
        assert_eq!(
            is_alive(&here, own, Some(&process(std::process::id()))),
            Some(true)
        );
        assert_eq!(is_alive(&here, 4_000_000, None), Some(false));
        assert_eq!(is_alive(&here, i64::MAX, None), Some(false));
        assert_eq!(is_alive("another machine", own, None), None);
    }
}
