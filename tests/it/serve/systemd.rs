//! What systemd is told: a socket of the test stands in for it.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::{Served, TASK, schedules};
use crate::support::workspace::Workspace;

/// Reads until a message holds the line; what came before, and the message.
fn told(socket: &UnixDatagram, line: &str) -> (Vec<String>, String) {
    let mut before = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let read = socket.recv(&mut buffer).unwrap_or_else(|error| {
            panic!("systemd was never told `{line}`: {error}; before: {before:?}")
        });
        let message = String::from_utf8(buffer[..read].to_vec()).unwrap();
        if message.lines().any(|one| one == line) {
            return (before, message);
        }
        before.push(message);
    }
}

#[test]
fn systemd_is_told_how_the_service_stands() {
    let workspace = Workspace::new("targets: {}\n").task("analyze", TASK);
    let path = workspace.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    let workspace = workspace
        .env("NOTIFY_SOCKET", path.to_str().unwrap())
        .env("WATCHDOG_USEC", "60000000");
    let history = format!("sqlite:{}", workspace.history().display());
    let yaml = schedules("postgres://127.0.0.1:1/none", &["daily"])
        .replace("sqlite:/var/tmp/none.db", &history);
    workspace.file("schedules.yaml", &yaml);
    let served = Served::start(&workspace, &workspace.path().join("schedules.yaml"));

    let (before, _) = told(&socket, "READY=1");
    assert!(before.is_empty(), "{before:?}");
    told(&socket, "WATCHDOG=1");

    served.signal(Signal::SIGHUP);
    let (before, message) = told(&socket, "RELOADING=1");
    assert!(
        before.iter().all(|one| one.trim() == "WATCHDOG=1"),
        "{before:?}"
    );
    // `Type=notify-reload` wants to know when it began.
    let moment = message
        .lines()
        .find_map(|line| line.strip_prefix("MONOTONIC_USEC="))
        .unwrap();
    assert!(moment.parse::<u64>().unwrap() > 0, "{message}");
    told(&socket, "READY=1");

    let (code, said) = served.stop();
    assert_eq!(code, Some(0), "{said}");
    told(&socket, "STOPPING=1");
}

#[test]
fn who_asks_for_no_watchdog_gets_none() {
    let workspace = Workspace::new("targets: {}\n").task("analyze", TASK);
    let path = workspace.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    let workspace = workspace.env("NOTIFY_SOCKET", path.to_str().unwrap());
    let history = format!("sqlite:{}", workspace.history().display());
    let yaml = schedules("postgres://127.0.0.1:1/none", &["daily"])
        .replace("sqlite:/var/tmp/none.db", &history);
    workspace.file("schedules.yaml", &yaml);
    let served = Served::start(&workspace, &workspace.path().join("schedules.yaml"));
    told(&socket, "READY=1");
    // It has ticked again after that, and so would have answered a watchdog.
    let tick = "maint_scheduler_last_tick_timestamp_seconds";
    let first = served.metric(tick);
    super::wait_until("it ticks", || served.metric(tick) > first + 2.0);
    assert_eq!(served.stop().0, Some(0));
    let (before, _) = told(&socket, "STOPPING=1");
    assert_eq!(before, [""; 0]);
}

/// A machine that was suspended, a container that was paused, a disk that did not answer.
#[test]
fn the_calendar_goes_on_after_the_process_stood_still() {
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    let workspace = Workspace::new("targets: {}\n").task("analyze", TASK);
    let history = format!("sqlite:{}", workspace.history().display());
    let yaml = schedules("postgres://127.0.0.1:1/none", &["daily"])
        .replace("sqlite:/var/tmp/none.db", &history);
    workspace.file("schedules.yaml", &yaml);
    let served = Served::start(&workspace, &workspace.path().join("schedules.yaml"));
    let tick = "maint_scheduler_last_tick_timestamp_seconds";
    let pid = Pid::from_raw(served.process.id().cast_signed());
    kill(pid, Signal::SIGSTOP).unwrap();
    // This is the damage: several ticks that nobody could make.
    std::thread::sleep(Duration::from_secs(4));
    kill(pid, Signal::SIGCONT).unwrap();
    let first = served.metric(tick);
    super::wait_until("it ticks again", || served.metric(tick) > first + 6.0);
    assert_eq!(served.stop().0, Some(0));
}
