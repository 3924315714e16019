//! Groups of many targets: several at once, and one that fails stops no other.

mod inventory;
mod server;
mod sources;
mod together;

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::support::servers::{TestDatabase, fresh_database};
use crate::support::workspace::Workspace;

/// Memory that a fleet may need, in kB: most of it is the program itself.
const AT_MOST: u64 = 256 << 10;

/// Targets by name, and a group `fleet` of all of them.
fn fleet(urls: &[String]) -> String {
    let mut yaml = "history: sqlite:maint.db\ntargets:\n".to_owned();
    for (n, url) in urls.iter().enumerate() {
        yaml.push_str(&format!(
            "  t{n:04}: {{ engine: postgres, url: \"{url}\" }}\n"
        ));
    }
    let names: Vec<String> = (0..urls.len()).map(|n| format!("t{n:04}")).collect();
    yaml + &format!("groups:\n  fleet: [{}]\n", names.join(", "))
}

async fn databases(count: usize) -> Vec<TestDatabase> {
    let mut databases = Vec::new();
    for _ in 0..count {
        let db = fresh_database(17).await;
        db.execute("CREATE TABLE t (id int)").await;
        databases.push(db);
    }
    databases
}

/// Most memory that a process has had so far, in kB.
fn peak(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse().ok()
}

#[tokio::test]
async fn of_a_thousand_targets_the_dead_ones_stop_nobody() {
    let databases = databases(25).await;
    // Every twentieth is alive; two on one database are far from each other.
    let urls: Vec<String> = (0..1_000)
        .map(|n| match n % 20 {
            7 => databases[n / 20 % 25].url.clone(),
            _ => "postgres://nobody@127.0.0.1:1/none".to_owned(),
        })
        .collect();
    let workspace = Workspace::new(&fleet(&urls)).task(
        "work",
        "kind: sql\ntarget: fleet\noptions:\n  statements:\n    - name: work\n      \
         sql: INSERT INTO public.t VALUES (1)\n",
    );
    let said = workspace.path().join("said.json");
    let mut process = workspace
        .process(["run", "work", "--now", "--output", "json"])
        .stdout(std::fs::File::create(&said).unwrap())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut most = 0;
    let code = loop {
        most = most.max(peak(process.id()).unwrap_or(0));
        if let Some(status) = process.try_wait().unwrap() {
            break status.code();
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert_eq!(code, Some(3), "most could not be reached");
    let said: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(said).unwrap()).unwrap();
    let runs = said["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 1_000);
    for (n, run) in runs.iter().enumerate() {
        assert_eq!(run["target"], format!("t{n:04}"), "in their order");
        let expected = if n % 20 == 7 { "succeeded" } else { "failed" };
        assert_eq!(run["status"], expected, "{run:#}");
    }
    for db in &databases {
        assert_eq!(db.number("SELECT count(*) FROM t").await, 2);
    }
    assert!(most > 0 && most < AT_MOST, "{most} kB");
}

#[tokio::test]
async fn as_many_targets_are_worked_on_at_once_as_the_limit_says() {
    let databases = databases(5).await;
    for db in &databases {
        let lock = "SELECT pg_catalog.pg_advisory_lock(42)";
        db.client.batch_execute(lock).await.unwrap();
    }
    let urls: Vec<String> = databases.iter().map(|db| db.url.clone()).collect();
    let workspace = Workspace::new(&fleet(&urls)).task(
        "work",
        "kind: sql\ntarget: fleet\nlimits: { parallel_targets: 3, lock_timeout: 1h }\noptions:\n  \
         statements:\n    - name: work\n      \
         sql: INSERT INTO public.t SELECT 1 FROM pg_catalog.pg_advisory_xact_lock(42)\n",
    );
    let running = workspace
        .process(["run", "work", "--now"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Which of the databases somebody is at work in, waiting for our lock.
    let names: Vec<String> = databases.iter().map(|db| db.name.clone()).collect();
    let watch = &databases[0];
    let at_work = || async {
        watch
            .strings(&format!(
                "SELECT datname::text FROM pg_catalog.pg_stat_activity
                  WHERE wait_event = 'advisory' AND datname IN ('{}') ORDER BY 1",
                names.join("', '")
            ))
            .await
    };
    let mut finished = BTreeSet::new();
    // Three begin; each that is let go makes room for one more.
    for expected in [3, 3, 3, 2, 1] {
        let began = Instant::now();
        let waiting = loop {
            let waiting = at_work().await;
            assert!(waiting.len() <= 3, "{waiting:?}");
            let old = waiting.iter().any(|name| finished.contains(name));
            if waiting.len() == expected && !old {
                break waiting;
            }
            assert!(
                began.elapsed() < Duration::from_secs(180),
                "{waiting:?} instead of {expected}"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        let free = databases.iter().find(|db| db.name == waiting[0]).unwrap();
        let unlock = "SELECT pg_catalog.pg_advisory_unlock(42)";
        free.client.batch_execute(unlock).await.unwrap();
        finished.insert(free.name.clone());
    }
    let ended = running.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert_eq!(finished.len(), 5);
    let lines = String::from_utf8(ended.stderr).unwrap();
    for n in 0..5 {
        // Who speaks is told on every line.
        assert!(lines.contains(&format!("t{n:04}: [1/1] ")), "{lines}");
        assert!(lines.contains(&format!("t{n:04}:   done ")), "{lines}");
    }
}
