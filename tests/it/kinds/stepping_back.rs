//! Sessions of the application that wait for a step are let through.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::throttle::Running;
use crate::settings::role;
use crate::support::patience::Patience;
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
    lets_through(major, holds, false).await;
}

/// The rebuild of a run; where the server's counters came late, an ANALYZE comes before it.
fn rebuild(said: &serde_json::Value) -> &serde_json::Value {
    let mut steps = said["runs"][0]["steps"].as_array().unwrap().iter();
    let found = steps.find(|step| step["action"] == "reindex");
    found.unwrap_or_else(|| panic!("nothing was rebuilt: {said:#}"))
}

/// With `ordinary`, by a role that is shown nothing of what sessions of others do.
async fn lets_through(major: u32, holds: &str, ordinary: bool) {
    let db = fresh_database(major).await;
    db.execute(
        "CREATE TABLE t (id bigint); INSERT INTO t SELECT generate_series(1, 20000);
         CREATE INDEX t_id ON t (id); DELETE FROM t WHERE id % 5 <> 0",
    )
    .await;
    db.execute("VACUUM ANALYZE t").await;
    let mut url = db.url.clone();
    if ordinary {
        let (keeper, its) = role(&db, "").await;
        db.execute(&format!("ALTER TABLE t OWNER TO {keeper}"))
            .await;
        url = its;
    }
    let workspace = Workspace::for_target(&url).task(
        "reindex",
        "kind: reindex\ntarget: app\noptions: { min_size: 100kB, min_bloat: 30% }\n\
         limits: { max_block: 500ms, lock_timeout: 300ms, lock_retries: 50 }\n",
    );
    // The rebuild waits for this snapshot at its end, and holds its lock on the table meanwhile.
    let snapshot = db.connect().await;
    snapshot
        .batch_execute(
            "SET application_name = 'report'; BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1",
        )
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
    let step = rebuild(&said);
    assert_eq!(step["status"], "succeeded", "{said:#}");
    assert!(step["error"].is_null(), "{said:#}");
    // Whoever was in the way is named, whatever the server shows of it.
    let waits = step["lock_waits"].as_array().unwrap();
    let report = waits
        .iter()
        .find(|wait| wait["blocker_application"] == "report" && wait["stepped_back"] == false)
        .unwrap_or_else(|| panic!("nobody is named that was in the way: {said:#}"));
    let hidden = report["blocker_state"] == "hidden from this role";
    assert_eq!(hidden, ordinary, "{said:#}");
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

#[tokio::test]
async fn an_ordinary_role_lets_others_through_14() {
    lets_through(14, "", true).await;
}

#[tokio::test]
async fn an_ordinary_role_lets_others_through_17() {
    lets_through(17, "", true).await;
}

const AT_WORK: &str = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
    AND application_name LIKE 'maint %' AND wait_event = 'PgSleep'";

/// Ends the session by which a run sees who waits for it.
const BLINDED: &str = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name LIKE 'maint %'
        AND (query LIKE '%pg_blocking_pids%' OR query LIKE '%pg_stat_progress%')";

fn slow(url: &str) -> Workspace {
    Workspace::for_target(url).task(
        "slow",
        "kind: sql\ntarget: app\nlimits: { max_block: 100ms, lock_retries: 0 }\noptions:\n  statements:\n    \
         - { name: slow, sql: \"UPDATE public.t SET id = id FROM (SELECT pg_catalog.pg_sleep(300)) AS s\" }\n",
    )
}

/// Who waits is seen again after the connection that looks on was lost.
#[tokio::test]
async fn a_lost_watch_is_made_anew() {
    for major in [14, 17] {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE t (id bigint); INSERT INTO t VALUES (1)")
            .await;
        let workspace = slow(&db.url);
        let running = workspace
            .process(["run", "slow", "--now", "--output", "json"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        until(&db, "the step never begins", AT_WORK).await;
        until(&db, "nobody looks on", BLINDED).await;
        let application = db.connect().await;
        application
            .batch_execute("BEGIN; SET LOCAL lock_timeout = '60s'; LOCK TABLE public.t IN ACCESS EXCLUSIVE MODE; COMMIT")
            .await
            .unwrap();
        let ended = running.wait_with_output().unwrap();
        let said: serde_json::Value = serde_json::from_slice(&ended.stdout).unwrap();
        let step = &said["runs"][0]["steps"][0];
        assert_eq!(step["kept_by"], "sessions", "{said:#}");
    }
}

/// Where nobody can see who waits, and that lasts, nothing goes on.
#[tokio::test]
async fn nothing_goes_on_unseen() {
    let db = fresh_database(17).await;
    let (keeper, url) = role(&db, "").await;
    db.execute(&format!(
        "CREATE TABLE t (id bigint); INSERT INTO t VALUES (1); ALTER TABLE t OWNER TO {keeper}"
    ))
    .await;
    let workspace = slow(&url);
    let running = workspace
        .process(["run", "slow", "--now", "--output", "json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    until(&db, "the step never begins", AT_WORK).await;
    db.execute(&format!("ALTER ROLE {keeper} CONNECTION LIMIT 0"))
        .await;
    until(&db, "nobody looks on", BLINDED).await;
    let ended = tokio::task::spawn_blocking(|| running.wait_with_output().unwrap());
    let ended = tokio::time::timeout(Duration::from_secs(170), ended).await;
    let ended = ended.expect("the step goes on unseen").unwrap();
    let said: serde_json::Value = serde_json::from_slice(&ended.stdout).unwrap();
    let step = &said["runs"][0]["steps"][0];
    assert_eq!(step["status"], "deferred", "{said:#}");
    assert_eq!(step["kept_by"], "server", "{said:#}");
    let why = step["error"].as_str().unwrap();
    assert!(
        why.contains("nobody could see whether others wait"),
        "{why}"
    );
}

/// One run does not step back for another: that one gives up by itself.
#[tokio::test]
async fn a_run_does_not_step_back_for_another_run() {
    for major in [14, 17] {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE t (id bigint); CREATE TABLE flag (id int)")
            .await;
        let workspace = Workspace::for_target(&db.url)
            .task(
                "holds",
                "kind: sql\ntarget: app\nlimits: { max_block: 100ms, lock_retries: 0 }\noptions:\n  statements:\n    \
                 - { name: holds, sql: \"DO $$ BEGIN LOCK TABLE public.t; WHILE NOT EXISTS (SELECT FROM public.flag) LOOP PERFORM pg_catalog.pg_sleep(0.05); END LOOP; END $$\" }\n",
            )
            .task(
                "waits",
                "kind: sql\ntarget: app\nlimits: { lock_timeout: 3s, lock_retries: 0 }\noptions:\n  statements:\n    \
                 - { name: waits, sql: \"ALTER TABLE public.t ADD note text\" }\n",
            );
        let holds = workspace
            .process(["run", "holds", "--now", "--output", "json"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let patience = Patience::until("the lock");
        let held = "SELECT count(*) FROM pg_locks WHERE relation = 't'::regclass AND granted AND mode = 'AccessExclusiveLock'";
        while db.number(held).await == 0 {
            patience.pause().await;
        }
        let waits = workspace.run(["run", "waits", "--now", "--output", "json"]);
        let waits = waits.expect(1).json();
        assert_eq!(
            waits["runs"][0]["steps"][0]["status"], "failed",
            "{waits:#}"
        );
        db.execute("INSERT INTO flag VALUES (1)").await;
        let ended = holds.wait_with_output().unwrap();
        let said: serde_json::Value = serde_json::from_slice(&ended.stdout).unwrap();
        let step = &said["runs"][0]["steps"][0];
        assert_eq!(step["status"], "succeeded", "{said:#}");
        assert_eq!(step["attempts"], 1, "{said:#}");
        assert_eq!(step["lock_waits"], serde_json::json!([]), "{said:#}");
    }
}

/// Who is in our way is named while we wait, not only at the end.
#[tokio::test]
async fn who_is_in_the_way_is_on_the_line() {
    for major in [14, 18] {
        let db = fresh_database(major).await;
        db.execute(
            "CREATE TABLE t (id bigint); INSERT INTO t SELECT generate_series(1, 20000);
             CREATE INDEX t_id ON t (id); DELETE FROM t WHERE id % 5 <> 0",
        )
        .await;
        db.execute("VACUUM ANALYZE t").await;
        let workspace = Workspace::for_target(&db.url).task(
            "reindex",
            "kind: reindex\ntarget: app\noptions: { min_size: 100kB, min_bloat: 30% }\n",
        );
        let snapshot = db.connect().await;
        snapshot
            .batch_execute(
                "SET application_name = 'report'; BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1",
            )
            .await
            .unwrap();
        let pid = snapshot
            .query_one("SELECT pg_catalog.pg_backend_pid()", &[])
            .await
            .unwrap();
        let pid: i32 = pid.get(0);
        let mut running = Running::begin(&workspace, "reindex");
        let line = running.until("waits since");
        assert!(
            line.contains(&format!("pid {pid} (postgres, report, idle in transaction")),
            "{line}"
        );
        assert!(line.contains("public.t_id"), "{line}");
        // It goes on waiting: this was not said at its end.
        assert_eq!(
            db.number("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'REINDEX%' AND wait_event_type = 'Lock'")
                .await,
            1
        );
        snapshot.batch_execute("COMMIT").await.unwrap();
        running.end(0);
    }
}

/// Somebody who asks for the table again and again, each time for a moment, until told to stop.
struct Asking {
    stop: Arc<AtomicBool>,
    asked: tokio::task::JoinHandle<u32>,
}

impl Asking {
    async fn begin(db: &TestDatabase) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (session, stopped) = (db.connect().await, stop.clone());
        let asked = tokio::spawn(async move {
            let mut asked = 0;
            let set = "SET application_name = 'shop'; SET lock_timeout = '60s'";
            session.batch_execute(set).await.unwrap();
            while !stopped.load(Ordering::Relaxed) {
                let ask = "BEGIN; LOCK TABLE t IN SHARE MODE; COMMIT";
                session.batch_execute(ask).await.unwrap();
                asked += 1;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            asked
        });
        Asking { stop, asked }
    }

    async fn end(self) -> u32 {
        self.stop.store(true, Ordering::Relaxed);
        self.asked.await.unwrap()
    }
}

/// A batch for which others wait too long is tried with fewer rows, until it is short enough for them: asked
/// for all the time, the table is worked on all the same.
async fn batches_become_small_enough(kind: &str, options: &str, after: &str) {
    let db = fresh_database(17).await;
    db.execute(&format!(
        "CREATE FUNCTION slow(i bigint) RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS $$BEGIN
             IF pg_catalog.current_setting('session_replication_role') = 'replica' THEN PERFORM pg_catalog.pg_sleep(0.006); END IF;
             RETURN i; END$$;
         CREATE FUNCTION told() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM pg_catalog.pg_sleep(0.006); RETURN OLD; END$$;
         CREATE TABLE t (id bigint NOT NULL, at timestamptz NOT NULL, pad text);
         INSERT INTO t SELECT n, now() - interval '2 years', repeat('x', 1500) FROM generate_series(1, 1200) n;
         {after}"
    ))
    .await;
    db.execute("VACUUM ANALYZE t").await;
    let workspace = Workspace::for_target(&db.url).task(
        kind,
        &format!("kind: {kind}\ntarget: app\noptions: {options}\nlimits: {{ max_block: 200ms, lock_timeout: 300ms, lock_retries: 4 }}\n"),
    );
    let asking = Asking::begin(&db).await;
    let run = workspace.run(["run", kind, "--now", "--output", "json"]);
    let asked = asking.end().await;
    let said = run.expect(0).json();
    let steps = said["runs"][0]["steps"].as_array().unwrap();
    let step = steps.iter().find(|step| step["rows"].as_i64() > Some(0));
    let step = step.unwrap_or_else(|| panic!("no row went: {said:#}"));
    assert_eq!(step["status"], "succeeded", "{said:#}");
    assert!(step["error"].is_null(), "{said:#}");
    let waits = step["lock_waits"].as_array().unwrap();
    let stepped_back = waits.iter().filter(|wait| wait["stepped_back"] == true);
    assert!(stepped_back.count() > 1, "nobody waited for it: {said:#}");
    assert!(asked > 5, "{asked}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_of_a_cleanup_becomes_small_enough() {
    let options = r#"{ rules: [{ table: t, column: at, older_than: 1y }] }"#;
    let trigger = "CREATE TRIGGER told BEFORE DELETE ON t FOR EACH ROW EXECUTE FUNCTION told()";
    batches_become_small_enough("cleanup", options, trigger).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_of_rows_that_move_becomes_small_enough() {
    let options = "{ min_size: 100kB, way: move }";
    let index = "CREATE INDEX t_slow ON t (slow(id)); DELETE FROM t WHERE id < 900 AND id % 8 <> 0";
    batches_become_small_enough("repack", options, index).await;
}
