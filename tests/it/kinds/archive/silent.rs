//! Who keeps the rows accepts what it is sent, and says nothing: the run ends all the same.

use std::process::{Child, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use super::stopping::rows;
use super::{archive, checksum, nothing_is_left};
use crate::support::patience::Patience;
use crate::support::s3::{BUCKET, Fault, S3};
use crate::support::servers::{TestDatabase, fresh_database};
use crate::support::wire::{Mode, Wire};
use crate::support::workspace::Workspace;

fn task(urls: &[(&str, &str)], rule: &Value, limits: &str) -> Workspace {
    let workspace = Workspace::for_target(urls[0].1).task(
        "archive",
        &format!("kind: archive\ntarget: app\noptions: {rule}\nlimits: {limits}\n"),
    );
    let targets: String = urls
        .iter()
        .map(|(name, url)| format!("  {name}: {{ engine: postgres, url: \"{url}\" }}\n"))
        .collect();
    let text = format!("history: sqlite:maint.db\ntargets:\n{targets}");
    workspace.file("schedules.yaml", &text);
    workspace
}

fn start(workspace: &Workspace) -> Child {
    let mut process = workspace.process(["run", "archive", "--now", "--output", "json"]);
    process.stdout(Stdio::piped()).stderr(Stdio::null());
    process.spawn().unwrap()
}

/// The step of a run that ends although nobody answers.
async fn ended(process: Child) -> Value {
    let ended = tokio::task::spawn_blocking(|| process.wait_with_output().unwrap());
    // Without a bound of its own it would take minutes more than any limit.
    let ended = tokio::time::timeout(Duration::from_secs(120), ended).await;
    let ended = ended.expect("the run goes on and on").unwrap();
    let said: Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{said:#}");
    let steps = said["runs"][0]["steps"].as_array().unwrap();
    let step = steps.iter().find(|step| step["status"] == "failed");
    step.unwrap_or_else(|| panic!("{said:#}")).clone()
}

async fn all_are_here(db: &TestDatabase) {
    let missing = "SELECT count(*) FROM (SELECT * FROM original EXCEPT SELECT * FROM t) AS m";
    assert_eq!(db.number(missing).await, 0);
}

async fn a_bucket(major: u32) {
    let db = fresh_database(major).await;
    let before = rows(&db).await;
    let s3 = S3::start();
    let rule = json!({ "table": "t", "column": "at", "older_than": "30d",
        "destination": { "files": format!("s3://{BUCKET}/a") } });
    let workspace = s3.known_to(task(&[("app", &db.url)], &rule, "{ step_timeout: 5s }"));
    s3.fail(Fault::Silent, 0);
    let process = start(&workspace);
    let step = ended(process).await;
    let why = step["error"].as_str().unwrap();
    assert!(
        why.contains("does not answer") && why.contains(BUCKET),
        "{why}"
    );
    all_are_here(&db).await;
    s3.fail(Fault::None, 0);
    let workspace = workspace.task(
        "archive",
        &format!("kind: archive\ntarget: app\noptions: {rule}\n"),
    );
    archive(&workspace);
    nothing_is_left(&workspace);
    assert_eq!(db.number("SELECT count(*) FROM t").await, 0);
    workspace
        .run(["archive", "restore", "--into", "back"])
        .expect(0);
    assert_eq!(checksum(&db, "SELECT * FROM back").await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_bucket_holds_no_run() {
    a_bucket(17).await;
}

async fn a_database(major: u32) {
    let (db, there) = (fresh_database(major).await, fresh_database(major).await);
    let before = rows(&db).await;
    there
        .execute("CREATE TABLE t (id bigint, at timestamptz NOT NULL, v text)")
        .await;
    let mut url: url::Url = there.url.parse().unwrap();
    let wire = Wire::to(url.port().unwrap()).await;
    url.set_host(Some("127.0.0.1")).unwrap();
    url.set_port(Some(wire.port)).unwrap();
    let rule = json!({ "table": "t", "column": "at", "older_than": "30d",
        "destination": { "database": "warehouse", "table": "public.t" } });
    let urls = [("app", db.url.as_str()), ("warehouse", url.as_str())];
    let workspace = task(&urls, &rule, "{ step_timeout: 10s, lock_timeout: 5min }");
    let holder = there.connect().await;
    holder
        .batch_execute("BEGIN; LOCK TABLE t IN EXCLUSIVE MODE")
        .await
        .unwrap();
    let process = start(&workspace);
    let patience = Patience::until("the first batch");
    let waits = "SELECT count(*) FROM pg_locks WHERE relation = 't'::regclass AND NOT granted";
    while there.number(waits).await == 0 {
        patience.pause().await;
    }
    wire.set(Mode::Stall);
    let step = ended(process).await;
    let why = step["error"].as_str().unwrap();
    assert!(
        why.contains("does not answer") && why.contains("warehouse"),
        "{why}"
    );
    all_are_here(&db).await;
    wire.set(Mode::Cut);
    holder.batch_execute("ROLLBACK").await.unwrap();
    wire.set(Mode::Pass);
    let workspace = workspace.task(
        "archive",
        &format!("kind: archive\ntarget: app\noptions: {rule}\n"),
    );
    archive(&workspace);
    nothing_is_left(&workspace);
    assert_eq!(db.number("SELECT count(*) FROM t").await, 0);
    assert_eq!(checksum(&there, "SELECT * FROM t").await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_database_holds_no_run_14() {
    a_database(14).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_database_holds_no_run_17() {
    a_database(17).await;
}

/// While rows are on their way into a bucket that takes its time, whoever needs the table gets it.
async fn others_are_let_through(major: u32) {
    let db = fresh_database(major).await;
    let before = rows(&db).await;
    let s3 = S3::start();
    let rule = json!({ "table": "t", "column": "at", "older_than": "30d",
        "destination": { "files": format!("s3://{BUCKET}/a") } });
    let limits = "{ step_timeout: 1h, max_block: 200ms, lock_retries: 0 }";
    let workspace = s3.known_to(task(&[("app", &db.url)], &rule, limits));
    s3.fail(Fault::Slow, 0);
    let mut process = start(&workspace);
    let patience = Patience::until("an upload that nobody answers");
    // Whoever only looks while the plan is made takes a weaker lock.
    let uploads = "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid)
        WHERE l.relation = 't'::regclass AND l.granted AND l.mode = 'RowExclusiveLock' AND a.application_name LIKE 'maint %' AND a.state = 'idle in transaction'";
    while db.number(uploads).await == 0 {
        assert!(process.try_wait().unwrap().is_none(), "it ended too early");
        patience.pause().await;
    }
    // In a session of the application, which waits until it has the table.
    db.execute("SET lock_timeout = '120s'; ALTER TABLE t ADD new int")
        .await;
    db.execute("ALTER TABLE t DROP new").await;
    let said = tokio::task::spawn_blocking(|| process.wait_with_output().unwrap())
        .await
        .unwrap();
    let said: Value = serde_json::from_slice(&said.stdout).unwrap();
    let step = &said["runs"][0]["steps"][0];
    assert_eq!(step["status"], "deferred", "{said:#}");
    assert_eq!(step["kept_by"], "sessions", "{said:#}");
    let why = step["error"].as_str().unwrap();
    assert!(why.contains("limits.max_block"), "{why}");
    all_are_here(&db).await;
    s3.fail(Fault::None, 0);
    archive(&workspace);
    nothing_is_left(&workspace);
    assert_eq!(db.number("SELECT count(*) FROM t").await, 0);
    workspace
        .run(["archive", "restore", "--into", "back"])
        .expect(0);
    assert_eq!(checksum(&db, "SELECT * FROM back").await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn others_are_let_through_while_a_bucket_takes_its_time_14() {
    others_are_let_through(14).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn others_are_let_through_while_a_bucket_takes_its_time_18() {
    others_are_let_through(18).await;
}
