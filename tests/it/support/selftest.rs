//! The test suite's own ground: if this fails, look at the servers first.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::servers::{binaries, connect, fresh_database, private_cluster};
use super::workspace::{Workspace, maint};

for_each_version! {
    async fn a_database_of_ones_own(major: u32) {
        let db = fresh_database(major).await;
        assert_eq!(db.number("SELECT 1::bigint").await, 1);
        assert_eq!(db.number("SELECT current_setting('server_version_num')::bigint / 10000").await, i64::from(major));
        db.execute("CREATE EXTENSION amcheck; CREATE EXTENSION pgstattuple; CREATE EXTENSION pg_stat_statements").await;
        db.number("SELECT count(*) FROM pg_stat_statements").await;
        assert_eq!(db.strings("SELECT current_database()::text").await, std::slice::from_ref(&db.name));
        db.connect().await.batch_execute("SELECT 1").await.unwrap();
    }
}

#[tokio::test]
async fn a_stopped_cluster_leaves_nothing() {
    let cluster = private_cluster(17, &[("work_mem", "1MB")]);
    let client = connect(&cluster.url("postgres")).await;
    let row = client.query_one("SHOW work_mem", &[]).await.unwrap();
    assert_eq!(row.get::<_, String>(0), "1MB");
    let (pid, folder) = (
        cluster.pid(),
        cluster.data_dir().parent().unwrap().to_owned(),
    );
    cluster.stop().unwrap();
    assert!(!running(pid));
    assert!(!folder.exists());
}

#[tokio::test]
async fn a_detached_cluster_stays() {
    let cluster = private_cluster(17, &[]);
    let (pid, url) = (cluster.pid(), cluster.url("postgres"));
    let folder = cluster.detach();
    connect(&url).await.batch_execute("SELECT 1").await.unwrap();
    assert!(running(pid));
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(pid.cast_signed()),
        nix::sys::signal::Signal::SIGQUIT,
    )
    .unwrap();
    wait_until("the server stops", || !running(pid));
    std::fs::remove_dir_all(folder).unwrap();
}

/// Holds a cluster until somebody kills it; only the next test runs it, as a
/// process of its own.
#[test]
#[ignore = "the other half of a_killed_owner_leaves_nothing"]
fn held_until_killed() {
    let cluster = private_cluster(17, &[]);
    println!(
        "holding {} {}",
        cluster.pid(),
        cluster.data_dir().parent().unwrap().display()
    );
    std::thread::sleep(Duration::from_secs(60));
}

#[test]
fn a_killed_owner_leaves_nothing() {
    binaries(17);
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args([
            "--ignored",
            "--nocapture",
            "--exact",
            "support::selftest::held_until_killed",
        ])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let said = BufReader::new(owner.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap)
        // The test harness writes its own words on the same line.
        .find_map(|line| line.split_once("holding ").map(|(_, rest)| rest.to_owned()))
        .unwrap();
    let (pid, folder) = said.split_once(' ').unwrap();
    let pid: u32 = pid.parse().unwrap();
    assert!(running(pid));
    owner.kill().unwrap();
    owner.wait().unwrap();
    wait_until("the server and its folder are gone", || {
        !running(pid) && !std::path::Path::new(folder).exists()
    });
}

#[test]
fn a_missing_setting_is_told_with_the_servers_words() {
    let options = maint::demo::ClusterOptions {
        settings: vec![("no_such_setting".to_owned(), "1".to_owned())],
        ..Default::default()
    };
    let error = maint::demo::Cluster::start(&binaries(17), options)
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("The PostgreSQL server ended while it was starting"),
        "{error}"
    );
    assert!(
        error.contains("unrecognized configuration parameter \"no_such_setting\""),
        "{error}"
    );
}

#[test]
fn a_workspace_runs_maint_without_our_environment() {
    let workspace = Workspace::for_target("postgres://127.0.0.1:1/none")
        .task("analyze", "kind: analyze\ntarget: app\n");
    assert!(workspace.path().join("tasks/analyze.yaml").is_file());
    workspace
        .process(["--version"])
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(maint().get_envs().any(|(name, _)| name == "TZ"));
}

/// A process that ended and that nobody waited for yet does not run any more.
fn running(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        !stat
            .rsplit_once(") ")
            .is_some_and(|(_, rest)| rest.starts_with('Z'))
    })
}

fn wait_until(what: &str, reached: impl Fn() -> bool) {
    let began = Instant::now();
    while !reached() {
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "waited in vain until {what}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}
