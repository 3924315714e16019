//! `maint cancel`, on a run of another process.

use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::support::servers::fresh_database;
use crate::support::workspace::Workspace;

#[tokio::test]
async fn a_run_is_stopped_from_another_process() {
    let db = fresh_database(17).await;
    db.execute("CREATE TABLE t (id int)").await;
    db.client
        .batch_execute("SELECT pg_catalog.pg_advisory_lock(42)")
        .await
        .unwrap();
    // It waits for a lock that the test never gives away.
    let workspace = Workspace::for_target(&db.url).task(
        "work",
        "kind: sql\ntarget: app\nlimits: { grace: 1s, lock_timeout: 1h }\noptions:\n  statements:\n    \
         - name: work\n      \
           sql: INSERT INTO public.t SELECT 1 FROM pg_catalog.pg_advisory_xact_lock(42)\n    \
         - name: later\n      sql: INSERT INTO public.t VALUES (2)\n",
    );
    let running = workspace
        .process(["run", "work", "--now", "--output", "json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let waiting = "SELECT count(*) FROM pg_catalog.pg_stat_activity
        WHERE datname = pg_catalog.current_database() AND wait_event = 'advisory'";
    let began = Instant::now();
    while db.number(waiting).await == 0 {
        assert!(began.elapsed() < Duration::from_secs(60), "it never begins");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    // The newest run is this one, which does not begin.
    workspace.run(["run", "work", "--now"]).expect(4);
    let asked = workspace.run(["cancel", "last"]).expect(0);
    assert!(asked.stdout.contains("asked to stop"), "{asked:#?}");
    let ended = running.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(130), "{ended:?}");
    let said: serde_json::Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!(said["runs"][0]["status"], "cancelled", "{said:#}");
    // The server is rid of it, and nothing was done, neither now nor later.
    assert_eq!(db.number(waiting).await, 0);
    assert_eq!(db.number("SELECT count(*) FROM t").await, 0);
    let id = said["runs"][0]["id"].as_str().unwrap();
    let shown = workspace.run(["show", id, "--output", "json"]).expect(0);
    assert_eq!(shown.json()["runs"][0]["status"], "cancelled", "{shown:#?}");
    // Too late now.
    workspace.run(["cancel", "last"]).expect(4);
}
