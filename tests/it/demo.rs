//! The demo: its report, its signals, and what it leaves.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::support::patience::Patience;
use crate::support::workspace::maint;

fn demo(folder: &TempDir, scale: &str, more: &[&str]) -> Child {
    demo_with(folder, scale, more, "none")
}

/// With this mongod beside PostgreSQL.
fn demo_with(folder: &TempDir, scale: &str, more: &[&str], mongod: &str) -> Child {
    let command = maint();
    let mut process = std::process::Command::new(command.get_program());
    process
        .args(["demo", "--scale", scale, "--folder", "out"])
        .args(more)
        .current_dir(folder.path())
        .env("TMPDIR", folder.path())
        .env(
            "MAINT_PG_BIN",
            std::env::var("MAINT_TEST_PG_BIN_17").unwrap(),
        )
        .env("MAINT_MONGOD", mongod)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    // The server's user has to find its way to its folder.
    std::fs::set_permissions(
        folder.path(),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    process.spawn().unwrap()
}

/// What is in the folder for temporary files: each cluster has one there.
fn clusters(folder: &TempDir) -> usize {
    std::fs::read_dir(folder.path())
        .unwrap()
        .filter(|entry| {
            entry
                .as_ref()
                .unwrap()
                .file_name()
                .to_string_lossy()
                .starts_with("maint-demo-")
        })
        .count()
}

#[test]
fn it_ends_with_its_report_and_leaves_no_server() {
    let folder = tempfile::tempdir().unwrap();
    let output = demo(&folder, "0.01", &[]).wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(
        said.contains("What SELECT pg_relation_size says of tables and indexes"),
        "{said}"
    );
    assert!(said.contains("came back"), "{said}");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        told.contains("without the platform's MongoDB part: MAINT_MONGOD is `none`"),
        "{told}"
    );
    assert!(
        !folder
            .path()
            .join("out/tasks/content-cleanup.yaml")
            .exists()
    );
    assert_eq!(clusters(&folder), 0);
    let report = std::fs::read_to_string(folder.path().join("out/report.txt")).unwrap();
    assert!(
        report.contains("reindex") && report.contains("vacuum"),
        "{report}"
    );
    let page = std::fs::read_to_string(folder.path().join("out/report.html")).unwrap();
    assert!(
        page.contains("this demo") && page.contains("<svg"),
        "{page}"
    );
    let last = said.trim_end().lines().last().unwrap();
    let shown = last.strip_prefix("the report:    ").unwrap();
    assert!(std::path::Path::new(shown).is_absolute(), "{said}");
    assert_eq!(std::fs::read_to_string(shown).unwrap(), page);
    // The lines it prints can be pasted, wherever one is.
    for (what, expected) in [("look at a run: ", "snapshot"), ("what ran: ", "reindex")] {
        let line = said.lines().find_map(|line| line.strip_prefix(what));
        let pasted = std::process::Command::new("sh")
            .args(["-c", line.unwrap()])
            .current_dir("/")
            .output()
            .unwrap();
        assert!(pasted.status.success(), "{pasted:?}");
        let printed = String::from_utf8_lossy(&pasted.stdout);
        assert!(printed.contains(expected), "{printed}");
    }
    // A second demo replaces the first; a folder of somebody else is left alone.
    std::fs::create_dir(folder.path().join("mine")).unwrap();
    maint()
        .current_dir(folder.path())
        .args(["demo", "--folder", "mine"])
        .assert()
        .code(2);
}

/// Documents of a collection before and after, from the line that tells them.
fn documents(said: &str, name: &str) -> Vec<u64> {
    let line = said
        .lines()
        .find(|line| line.trim_start().starts_with(&format!("{name} ")))
        .unwrap_or_else(|| panic!("{name} is not told: {said}"));
    let numbers = line.split_whitespace().skip(1);
    numbers.map(|number| number.parse().unwrap()).collect()
}

#[test]
fn mongodb_is_maintained_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let mongod = std::env::var("MAINT_TEST_MONGOD_60").unwrap();
    let output = demo_with(&folder, "0.02", &[], &mongod)
        .wait_with_output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let events = documents(&said, "content.learning_events");
    let archived = documents(&said, "content_archive.learning_events");
    assert_eq!((events[0], archived[0]), (5000, 0), "{said}");
    assert!(events[1] > 2000 && events[1] < 3000, "{said}");
    assert_eq!(events[1] + archived[1], 5000, "{said}");
    let metrics = documents(&said, "content.dashboard_metrics");
    assert!(metrics[0] == 0 && metrics[1] > 0, "{said}");
    assert!(documents(&said, "content.sessions")[0] == 1000, "{said}");
    let report = std::fs::read_to_string(folder.path().join("out/report.txt")).unwrap();
    for task in [
        "content-cleanup",
        "dashboard-metrics",
        "archive-learning-events",
        "content-snapshot",
    ] {
        assert!(report.contains(task), "{task}: {report}");
    }
    assert!(report.contains("create_ttl"), "{report}");
    // Neither server is left, nor its folder.
    assert_eq!(clusters(&folder), 0);
    assert!(!said.contains("mongodb://"), "{said}");
}

#[test]
fn a_mongod_that_is_none_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let output = demo_with(&folder, "0.01", &[], "/bin/false")
        .wait_with_output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_ne!(output.status.code(), Some(0), "{told}");
    assert!(
        told.contains("MAINT_MONGOD=/bin/false") && told.contains("`none`"),
        "{told}"
    );
    assert_eq!(clusters(&folder), 0);
}

#[test]
fn a_signal_ends_it_with_its_server() {
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let folder = tempfile::tempdir().unwrap();
        let mut process = demo(&folder, "1", &[]);
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("loading users")));
        assert_eq!(clusters(&folder), 1);
        kill(Pid::from_raw(process.id() as i32), signal).unwrap();
        // Whatever it still says must find a reader.
        let reader = std::thread::spawn(move || lines.count());
        assert_eq!(process.wait().unwrap().code(), Some(code));
        assert_eq!(clusters(&folder), 0);
        reader.join().unwrap();
    }
}

#[tokio::test]
async fn kept_it_can_be_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    let process = demo(&folder, "0.01", &["--keep"]);
    let output = tokio::task::spawn_blocking(|| process.wait_with_output().unwrap())
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let url = said
        .split("psql '")
        .nth(1)
        .unwrap()
        .split('\'')
        .next()
        .unwrap();
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    let users: i64 = client
        .query_one("SELECT count(*) FROM users", &[])
        .await
        .unwrap()
        .get(0);
    assert!(users > 0);
    let cluster = said
        .split("Its folder: ")
        .nth(1)
        .unwrap()
        .lines()
        .next()
        .unwrap();
    let pid = std::fs::read_to_string(format!("{cluster}/data/postmaster.pid")).unwrap();
    let pid: i32 = pid.lines().next().unwrap().parse().unwrap();
    kill(Pid::from_raw(pid), Signal::SIGQUIT).unwrap();
    let patience = Patience::until("the server to end");
    while kill(Pid::from_raw(pid), None).is_ok() {
        patience.pause().await;
    }
}
