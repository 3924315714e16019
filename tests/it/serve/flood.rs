//! Somebody opens many connections and says nothing.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use maint::history::{RunStatus, open};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::{Served, TASK, schedules, wait_until};
use crate::support::servers::fresh_database;
use crate::support::workspace::Workspace;

const HALF_OPEN: usize = 1_100;
const TOKEN: &str = "a-token-of-the-tests";

/// The same `maint`, which may have `files` files open and no more.
fn with_files(files: u32) -> impl FnOnce(Command) -> Command {
    move |process| {
        let mut shell = Command::new("sh");
        shell
            .args(["-c", &format!("ulimit -n {files} && exec \"$0\" \"$@\"")])
            .arg(process.get_program())
            .args(process.get_args())
            .current_dir(process.get_current_dir().unwrap())
            .env_clear();
        for (name, value) in process.get_envs() {
            if let Some(value) = value {
                shell.env(name, value);
            }
        }
        shell
    }
}

#[tokio::test]
async fn half_open_connections_keep_nothing_from_going_on() {
    // This process holds the other ends.
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(8192), hard).unwrap();
    let db = fresh_database(17).await;
    db.execute("CREATE TABLE t (id int); INSERT INTO t SELECT generate_series(1, 5000)")
        .await;
    let workspace = Workspace::new("targets: {}\n")
        .task("analyze", TASK)
        .env("MAINT_TOKEN", TOKEN);
    let history = format!("sqlite:{}", workspace.history().display());
    let yaml = schedules(&db.url, &["daily"]).replace("sqlite:/var/tmp/none.db", &history);
    workspace.file("schedules.yaml", &yaml);
    let file = workspace.path().join("schedules.yaml");
    let served = Served::start_with(&workspace, &file, with_files(300));

    let began = Instant::now();
    let mut held = Vec::new();
    for n in 0..HALF_OPEN {
        let mut stream = TcpStream::connect(("127.0.0.1", served.port)).unwrap();
        // Some say nothing at all, some begin.
        if n % 2 == 0 {
            stream.write_all(b"GET /healthz HTTP/1.1\r\n").unwrap();
        }
        held.push(stream);
    }
    for path in ["/healthz", "/readyz"] {
        let asked = Instant::now();
        assert_eq!(served.get(path).0, 200, "{path}");
        assert!(asked.elapsed() < Duration::from_secs(5), "{path}");
    }
    let bearer = format!("Authorization: Bearer {TOKEN}");
    let started = served.ask("POST", "/runs", &[&bearer], "what=analyze%40app");
    assert_eq!(started.code, 303, "{started:?}");
    let store = open(&history).await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    let run = loop {
        let last = store.last_run("analyze", "app").await.unwrap();
        if let Some(run) = last.filter(|run| run.status != RunStatus::Running) {
            break run;
        }
        assert!(Instant::now() < deadline, "the run did not end");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    store.close().await;
    assert_eq!(run.status, RunStatus::Succeeded, "{run:?}");
    // Whoever started it, it is counted.
    loop {
        let page = served.ask("GET", "/metrics", &[&bearer], "");
        let counted = page.body.lines().any(|line| {
            line.starts_with("maint_runs_total{")
                && line.contains("task=\"analyze\"")
                && line.ends_with(" 1")
        });
        if counted {
            break;
        }
        assert!(
            Instant::now() < deadline,
            "the run is not counted: {page:?}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    // The last one is hung up on as well, soon after the time for a request is over.
    let mut last = held.pop().unwrap();
    last.set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let mut told = Vec::new();
    let _ = last.read_to_end(&mut told);
    assert!(began.elapsed() < Duration::from_secs(30), "{told:?}");
    let (code, said) = served.stop();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("connections are open"), "{said}");
}

#[test]
fn who_has_no_files_left_says_so() {
    let workspace =
        Workspace::for_target("postgres://somebody@127.0.0.1:1/none").task("analyze", TASK);
    // How many files are open when it connects differs from run to run (a file of the history
    // may be closed before or after), so each number is tried until one of them is too small.
    let mut told = Vec::new();
    let said = (9..40).cycle().take(31 * 5).find_map(|files| {
        let process = workspace.process(["run", "analyze", "--now"]);
        let output = with_files(files)(process).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let full = said.contains("this process has used up its open files");
        if said.contains("cannot connect to") && !full {
            // What suffices for the connection is told as what it is.
            assert!(
                said.contains("nothing accepts connections"),
                "{files}: {said}"
            );
        }
        told.push((files, said.clone()));
        (said.contains("cannot connect to") && full).then_some(said)
    });
    let said = said.unwrap_or_else(|| panic!("never told: {told:?}"));
    // Nor is the user of this process taken for one that does not exist.
    let nameless = Workspace::for_target("postgres://127.0.0.1:1/none").task("analyze", TASK);
    for files in 9..16 {
        let process = nameless.process(["run", "analyze", "--now"]);
        let output = with_files(files)(process).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(!said.contains("has no name for user id"), "{said}");
    }
    assert!(said.contains("ulimit -n"), "{said}");
}

#[test]
fn a_slow_request_is_hung_up_on_and_a_watched_page_is_not() {
    let workspace = Workspace::new("targets: {}\n").task("analyze", TASK);
    let history = format!("sqlite:{}", workspace.history().display());
    let yaml = schedules("postgres://127.0.0.1:1/none", &["daily"])
        .replace("sqlite:/var/tmp/none.db", &history);
    workspace.file("schedules.yaml", &yaml);
    let served = Served::start(&workspace, &workspace.path().join("schedules.yaml"));
    let connect = || {
        let stream = TcpStream::connect(("127.0.0.1", served.port)).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_millis(200)))
            .unwrap();
        stream
    };
    let mut watched = connect();
    watched
        .write_all(b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    let (mut slow, began) = (connect(), Instant::now());
    slow.write_all(b"GET / HTTP/1.1\r\n").unwrap();
    // A letter at a time: every pause is short, and the head never ends.
    wait_until("the slow one is hung up on", || {
        let mut slow = &slow;
        let _ = slow.write_all(b"x");
        matches!(slow.read(&mut [0; 100]), Ok(0)) || slow.write_all(b"x").is_err()
    });
    assert!(began.elapsed() > Duration::from_secs(5));
    assert!(began.elapsed() < Duration::from_secs(30));
    // Longer than a request may take: it is still told that it is being watched.
    watched
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let mut seen = String::new();
    while began.elapsed() < Duration::from_secs(14) || !seen.contains("\n:\n") {
        let mut some = [0; 1024];
        let read = watched.read(&mut some).unwrap();
        assert!(read > 0, "the watched page was hung up on: {seen}");
        seen.push_str(&String::from_utf8_lossy(&some[..read]));
        assert!(began.elapsed() < Duration::from_secs(60), "{seen}");
    }
    assert_eq!(served.stop().0, Some(0));
}
