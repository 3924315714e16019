//! Sessions of the application that wait for a step are let through.

use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::support::servers::{TestDatabase, fresh_database};
use crate::support::workspace::Workspace;

/// Waits until `sql` counts something; says for what it waited in vain.
async fn until(db: &TestDatabase, what: &str, sql: &str) {
    let began = Instant::now();
    while db.number(sql).await == 0 {
        assert!(began.elapsed() < Duration::from_secs(120), "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// `holds` is what the application does before it gives its lock back.
async fn lets_others_through(major: u32, holds: &str) {
    let db = fresh_database(major).await;
    db.execute(
        "CREATE TABLE t (id bigint); INSERT INTO t SELECT generate_series(1, 20000);
         CREATE INDEX t_id ON t (id); DELETE FROM t WHERE id % 5 <> 0",
    )
    .await;
    db.execute("VACUUM ANALYZE t").await;
    let workspace = Workspace::for_target(&db.url).task(
        "reindex",
        "kind: reindex\ntarget: app\noptions: { min_size: 100kB, min_bloat: 30% }\n\
         limits: { max_block: 500ms, lock_timeout: 300ms, lock_retries: 50 }\n",
    );
    // The rebuild waits for this snapshot at its end, and holds its lock on the table meanwhile.
    let snapshot = db.connect().await;
    snapshot
        .batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1")
        .await
        .unwrap();
    let running = workspace
        .process(["run", "reindex", "--now", "--output", "json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    until(
        &db,
        "the rebuild never waits for the snapshot",
        "SELECT count(*) FROM pg_stat_activity a JOIN pg_locks l USING (pid)
          WHERE a.datname = current_database() AND a.application_name LIKE 'maint %'
            AND a.query LIKE 'REINDEX%' AND l.locktype = 'virtualxid' AND NOT l.granted",
    )
    .await;
    // Without anybody stepping back this would wait for as long as the snapshot lives.
    let application = db.connect().await;
    application
        .batch_execute(&format!(
            "SET application_name = 'shop'; SET lock_timeout = '60s';
             BEGIN; ALTER TABLE t ADD note text; {holds}; COMMIT"
        ))
        .await
        .unwrap();
    snapshot.batch_execute("COMMIT").await.unwrap();
    let ended = running.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    let said: serde_json::Value = serde_json::from_slice(&ended.stdout).unwrap();
    let step = &said["runs"][0]["steps"][0];
    assert_eq!(step["status"], "succeeded", "{said:#}");
    assert!(step["error"].is_null(), "{said:#}");
    let waited = step["lock_waits"]
        .as_array()
        .unwrap()
        .iter()
        .find(|wait| wait["stepped_back"] == true)
        .unwrap_or_else(|| panic!("nobody is named for whom it stepped back: {said:#}"));
    assert_eq!(waited["blocker_application"], "shop", "{said:#}");
    assert_eq!(waited["relation"], "public.t", "{said:#}");
    let shown = workspace.run(["show", "last"]).expect(0);
    assert!(shown.stdout.contains("stepped back"), "{}", shown.stdout);
    let left = "SELECT count(*) FROM pg_class WHERE relname LIKE 't\\_id\\_cc%'";
    assert_eq!(db.number(left).await, 0, "a half-built index stays");
    assert_eq!(
        db.number("SELECT count(*) FROM pg_index WHERE NOT indisvalid")
            .await,
        0
    );
}

#[tokio::test]
async fn who_waits_too_long_is_let_through_14() {
    lets_others_through(14, "").await;
}

#[tokio::test]
async fn who_waits_too_long_is_let_through_17() {
    lets_others_through(17, "").await;
}

/// What the attempt left cannot be removed at once while the application has the table: it goes
/// later, before the next attempt.
#[tokio::test]
async fn what_an_attempt_left_goes_once_the_table_is_free() {
    for major in [14, 18] {
        lets_others_through(major, "SELECT pg_sleep(4)").await;
    }
}

/// A step that others keep waiting for is given up, and comes first next time.
#[tokio::test]
async fn what_always_stands_in_the_way_is_deferred() {
    let db = fresh_database(17).await;
    db.execute("CREATE TABLE t (id bigint); INSERT INTO t SELECT generate_series(1, 1000)")
        .await;
    let workspace = Workspace::for_target(&db.url).task(
        "slow",
        "kind: sql\ntarget: app\nlimits: { max_block: 100ms, lock_retries: 1 }\noptions:\n  statements:\n    \
         - { name: slow, sql: \"UPDATE public.t SET id = id FROM (SELECT pg_catalog.pg_sleep(300)) AS s\" }\n    \
         - { name: other, sql: \"SELECT 1\" }\n",
    );
    let running = workspace
        .process(["run", "slow", "--now", "--output", "json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    for attempt in 1..=2 {
        until(
            &db,
            &format!("attempt {attempt} never begins"),
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                AND application_name LIKE 'maint %' AND wait_event = 'PgSleep'",
        )
        .await;
        let application = db.connect().await;
        application
            .batch_execute("BEGIN; SET LOCAL lock_timeout = '60s'; LOCK TABLE public.t IN ACCESS EXCLUSIVE MODE; COMMIT")
            .await
            .unwrap();
    }
    let ended = running.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    let said: serde_json::Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!(said["runs"][0]["status"], "incomplete", "{said:#}");
    let step = &said["runs"][0]["steps"][0];
    assert_eq!(step["status"], "deferred", "{said:#}");
    let why = step["error"].as_str().unwrap();
    assert!(why.contains("limits.max_block"), "{why}");
    assert_eq!(step["kept_by"], "sessions", "{said:#}");
    let told: Vec<&str> = said["runs"][0]["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| f["code"].as_str().unwrap())
        .collect();
    assert_eq!(told, ["kept_out.sessions"], "{said:#}");
}
