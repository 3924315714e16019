//! Killed at any moment: what has left the table is in the archive, what is
//! in the archive has left the table.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{archive, checksum, parquet_files, workspace as task};
use crate::support::patience::Patience;
use crate::support::s3::{BUCKET, S3};
use crate::support::servers::{TestDatabase, connect, fresh_database, private_cluster};
use crate::support::workspace::Workspace;

const ROWS: i64 = 12_000;

pub(super) async fn rows(db: &TestDatabase) -> String {
    db.execute(
        "CREATE TABLE t (id bigint PRIMARY KEY, at timestamptz NOT NULL, v text); CREATE INDEX ON t (at);
         CREATE TABLE original (LIKE t)",
    )
    .await;
    more_rows(db, 0).await;
    checksum(db, "SELECT * FROM t").await
}

/// A fresh lot; `original` keeps a copy.
pub(super) async fn more_rows(db: &TestDatabase, lot: i64) {
    db.execute(&format!(
        "WITH made AS (INSERT INTO t SELECT {lot} * {ROWS} + n, '2020-01-01'::timestamptz + n * interval '10 minutes',
                repeat(md5(n::text), 4) FROM generate_series(1, {ROWS}) n RETURNING *)
            INSERT INTO original SELECT * FROM made"
    ))
    .await;
    db.execute("ANALYZE t").await;
}

/// Runs the task again and again and kills it each time after another while,
/// until it has been killed so often; at last lets it finish. `more` makes
/// another lot of rows whenever they have run out.
pub(super) async fn kill_often(
    db: &TestDatabase,
    workspace: &Workspace,
    times: u32,
    more: impl AsyncFn(i64),
) {
    // What it takes to come to work, however fast the machine.
    let began = Instant::now();
    workspace.run(["plan", "archive"]).expect(0);
    let start = began.elapsed();
    let (mut killed, mut lot, mut n) = (0, 0, 0);
    while killed < times {
        let mut process = workspace
            .process(["run", "archive", "--now"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // From before it has connected to well into its batches.
        n += 1;
        tokio::time::sleep(start * (50 + n * 137 % 250) / 100).await;
        killed += u32::from(process.try_wait().unwrap().is_none());
        process.kill().unwrap();
        process.wait().unwrap();
        if db.number("SELECT count(*) FROM t").await < 2_000 {
            lot += 1;
            more(lot).await;
        }
    }
    archive(workspace);
    assert_eq!(db.number("SELECT count(*) FROM t").await, 0);
}

pub(super) fn archived(workspace: &Workspace) -> Vec<Value> {
    let listed = workspace
        .run(["archive", "list", "--output", "json"])
        .expect(0);
    listed.json()["archived"].as_array().unwrap().clone()
}

/// The files in this folder are those that the manifests name.
pub(super) fn nothing_else(workspace: &Workspace, folder: &std::path::Path) {
    let all = archived(workspace);
    let files = all
        .iter()
        .flat_map(|a| a["manifest"]["files"].as_array().unwrap());
    let known: BTreeSet<String> = files
        .map(|f| f["path"].as_str().unwrap().to_owned())
        .collect();
    let there = parquet_files(folder).into_iter();
    let there: BTreeSet<String> = there.filter(|f| !f.contains(".s3s-")).collect();
    assert_eq!(there, known);
}

/// Thirty kills while it writes to S3: in the end the store holds every row
/// once, the table none, and there is no file that no manifest names.
#[tokio::test]
async fn killed_thirty_times_on_the_way_to_s3() {
    let db = fresh_database(17).await;
    rows(&db).await;
    let s3 = S3::start();
    let options = json!({ "table": "t", "column": "at", "older_than": "30d", "batch_goal": "20ms", "walk": "key",
        "destination": { "files": format!("s3://{BUCKET}/a") } });
    let workspace = s3.known_to(task(&db, &options));
    kill_often(&db, &workspace, 30, async |lot| more_rows(&db, lot).await).await;
    let all = archived(&workspace);
    let sum: i64 = all
        .iter()
        .map(|a| a["manifest"]["rows"].as_i64().unwrap())
        .sum();
    assert_eq!(sum, db.number("SELECT count(*) FROM original").await);
    assert!(all.iter().all(|a| a["manifest"]["settled"] == true));
    workspace.run(["archive", "verify"]).expect(0);
    nothing_else(&workspace, &s3.folder.path().join(BUCKET).join("a"));
    workspace
        .run(["archive", "restore", "--into", "back"])
        .expect(0);
    let original = checksum(&db, "SELECT * FROM original").await;
    assert_eq!(checksum(&db, "SELECT * FROM back").await, original);
}

/// The same on the way to files, and to another table.
#[tokio::test]
async fn killed_thirty_times_on_the_way_to_disk_and_table() {
    for destination in ["files", "table"] {
        let db = fresh_database(17).await;
        rows(&db).await;
        let folder = tempfile::tempdir().unwrap();
        let value = match destination {
            "files" => format!("file://{}", folder.path().display()),
            _ => "old".to_owned(),
        };
        let options = json!({ "table": "t", "column": "at", "older_than": "30d", "batch_goal": "20ms", "walk": "blocks",
            "destination": { destination: value } });
        let workspace = task(&db, &options);
        kill_often(&db, &workspace, 15, async |lot| more_rows(&db, lot).await).await;
        if destination == "files" {
            workspace.run(["archive", "verify"]).expect(0);
            workspace
                .run(["archive", "restore", "--into", "old"])
                .expect(0);
            let known: usize = archived(&workspace)
                .iter()
                .map(|a| a["manifest"]["files"].as_array().unwrap().len())
                .sum();
            assert_eq!(parquet_files(folder.path()).len(), known);
        }
        let original = checksum(&db, "SELECT * FROM original").await;
        assert_eq!(checksum(&db, "SELECT * FROM old").await, original);
    }
}

for_versions! {
    [pg14 = 14]
    /// The server ends the session in the middle of a batch: the run fails,
    /// nothing is lost, the next one goes on.
    async fn the_connection_is_cut(major: u32) {
        let db = fresh_database(major).await;
        let original = rows(&db).await;
        // The delete takes long enough to be met.
        db.execute("CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.002); RETURN old; END';
            CREATE TRIGGER slow BEFORE DELETE ON t FOR EACH ROW EXECUTE FUNCTION wait()").await;
        let folder = tempfile::tempdir().unwrap();
        let workspace = task(&db, &json!({ "table": "t", "column": "at", "older_than": "30d", "walk": "key",
            "destination": { "files": format!("file://{}", folder.path().display()) } }));
        let process = workspace.process(["run", "archive", "--now", "--output", "json"])
            .stdout(Stdio::piped()).spawn().unwrap();
        let patience = Patience::until("the DELETE of a batch");
        while db.number("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'DELETE FROM ONLY%' AND state = 'active'").await == 0 {
            patience.pause().await;
        }
        let output = tokio::task::spawn_blocking(|| process.wait_with_output().unwrap()).await.unwrap();
        assert_ne!(output.status.code(), Some(0), "{output:?}");
        db.execute("DROP TRIGGER slow ON t").await;
        let unsettled = archived(&workspace).iter().filter(|a| a["manifest"]["settled"] == false).count();
        assert_eq!(unsettled, 1);
        let run = archive(&workspace);
        assert_eq!(run["steps"][0]["action"], "settle", "{run:#}");
        assert_eq!(db.number("SELECT count(*) FROM t").await, 0);
        workspace.run(["archive", "restore", "--into", "back"]).expect(0);
        assert_eq!(checksum(&db, "SELECT * FROM back").await, original);
        let known: usize = archived(&workspace).iter().map(|a| a["manifest"]["files"].as_array().unwrap().len()).sum();
        assert_eq!(parquet_files(folder.path()).len(), known);
    }
}

for_versions! {
    [pg16 = 16]
    /// Somebody changes a row while its batch is being written: the batch is
    /// given back and taken again, and holds the row as it is now.
    async fn a_row_changes_meanwhile(major: u32) {
        let db = fresh_database(major).await;
        rows(&db).await;
        let folder = tempfile::tempdir().unwrap();
        let workspace = Workspace::for_target(&db.url).task("archive", &format!(
            "kind: archive\ntarget: app\noptions: {}\nlimits: {{ lock_timeout: 5min, lock_retries: 5 }}\n",
            json!({ "table": "t", "column": "at", "older_than": "30d", "walk": "blocks", "destination": { "files": format!("file://{}", folder.path().display()) } })));
        let writer = db.connect().await;
        writer.batch_execute("BEGIN; UPDATE t SET v = 'changed' WHERE id = 10; UPDATE t SET at = now() WHERE id = 11").await.unwrap();
        let process = workspace.process(["run", "archive", "--now", "--output", "json"])
            .stdout(Stdio::piped()).spawn().unwrap();
        let patience = Patience::until("the DELETE that waits for a row");
        while db.number("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'DELETE FROM ONLY%' AND wait_event_type = 'Lock'").await == 0 {
            patience.pause().await;
        }
        writer.batch_execute("COMMIT").await.unwrap();
        let output = tokio::task::spawn_blocking(|| process.wait_with_output().unwrap()).await.unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert_eq!(db.number("SELECT id FROM t").await, 11);
        workspace.run(["archive", "verify"]).expect(0);
        workspace.run(["archive", "restore", "--into", "back"]).expect(0);
        assert_eq!(db.number("SELECT count(*) FROM back").await, ROWS - 1);
        assert_eq!(db.number("SELECT count(*) FROM back WHERE id = 10 AND v = 'changed'").await, 1);
        let known: usize = archived(&workspace).iter().map(|a| a["manifest"]["files"].as_array().unwrap().len()).sum();
        assert_eq!(parquet_files(folder.path()).len(), known);
    }
}

for_versions! {
    [pg14 = 14]
    /// The server crashes in the middle of a batch, and afterwards gives the
    /// transactions of others the ids that nobody had used before the crash:
    /// what became of the batch is not mistaken for what became of them.
    async fn a_crash_gives_ids_of_transactions_away(major: u32) {
        let cluster = private_cluster(major, &[("autovacuum", "off"), ("restart_after_crash", "on"), ("checkpoint_timeout", "1h")]);
        let url = cluster.url("postgres");
        let client = connect(&url).await;
        client.batch_execute("CREATE TABLE t (id bigint PRIMARY KEY, at timestamptz NOT NULL); INSERT INTO t SELECT n, '2020-01-01' FROM generate_series(1, 100) n;
            CREATE TABLE gate (open bool); CREATE TABLE other (id int);
            CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN WHILE EXISTS (SELECT FROM pg_stat_activity WHERE application_name = ''holds the gate'') LOOP PERFORM pg_sleep(0.05); PERFORM pg_stat_clear_snapshot(); END LOOP; RETURN old; END';
            CREATE TRIGGER slow BEFORE DELETE ON t FOR EACH ROW EXECUTE FUNCTION wait()").await.unwrap();
        let holder = connect(&url).await;
        holder.batch_execute("SET application_name = 'holds the gate'").await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let workspace = Workspace::for_target(&url).task("archive", &format!("kind: archive\ntarget: app\noptions: {}\n",
            json!({ "table": "t", "column": "at", "older_than": "30d", "walk": "key", "destination": { "files": format!("file://{}", folder.path().display()) } })));
        let mut process = workspace.process(["run", "archive", "--now"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let began = Instant::now();
        let pid: i32 = loop {
            assert!(began.elapsed() < Duration::from_secs(120), "no delete was seen");
            let rows = client.query("SELECT pid FROM pg_stat_activity WHERE query LIKE 'DELETE FROM ONLY%' AND state = 'active'", &[]).await.unwrap();
            if let Some(row) = rows.first() { break row.get(0); }
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        // Files are written, and proved, while the server deletes.
        let patience = Patience::until("the batch to be written down");
        while archived(&workspace).is_empty() {
            patience.pause().await;
        }
        process.kill().unwrap();
        process.wait().unwrap();
        let unsettled = archived(&workspace);
        let name: i64 = unsettled[0]["manifest"]["transaction"].as_str().unwrap().parse().unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
        while !client.is_closed() {
            assert!(began.elapsed() < Duration::from_secs(120), "the server did not notice the crash");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let client = crate::kinds::ledger::reconnect(&url).await;
        // Others come past the id.
        loop {
            client.batch_execute("INSERT INTO other VALUES (1)").await.unwrap();
            let now: i64 = client.query_one("SELECT pg_current_xact_id()::text::int8", &[]).await.unwrap().get(0);
            if now > name { break; }
        }
        archive(&workspace);
        workspace.run(["archive", "verify"]).expect(0);
        workspace.run(["archive", "restore", "--into", "back"]).expect(0);
        let counted: i64 = client.query_one("SELECT (SELECT count(*) FROM t) + (SELECT count(*) FROM back)", &[]).await.unwrap().get(0);
        assert_eq!(counted, 100);
    }
}

/// The same of a transaction that brings rows back: undone by a crash after it
/// was written down, it must not count as done once its id is another's.
#[tokio::test]
async fn a_crash_undoes_a_restore_that_was_written_down() {
    let cluster = private_cluster(
        17,
        &[
            ("autovacuum", "off"),
            ("restart_after_crash", "on"),
            ("checkpoint_timeout", "1h"),
            ("wal_writer_delay", "10s"),
        ],
    );
    let url = cluster.url("postgres");
    let client = connect(&url).await;
    client.batch_execute("CREATE TABLE t (id bigint PRIMARY KEY, at timestamptz NOT NULL); INSERT INTO t SELECT n, '2020-01-01' FROM generate_series(1, 100) n;
        CREATE TABLE other (id int); CREATE TABLE back (LIKE t)").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let workspace = Workspace::for_target(&url).task("archive", &format!("kind: archive\ntarget: app\noptions: {}\n",
        json!({ "table": "t", "column": "at", "older_than": "30d", "destination": { "files": format!("file://{}", folder.path().display()) } })));
    archive(&workspace);
    // While somebody writes into the history, the mark waits, and the transaction with it.
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(workspace.history());
    let mut writer = sqlx::ConnectOptions::connect(&options).await.unwrap();
    sqlx::query("BEGIN IMMEDIATE")
        .execute(&mut writer)
        .await
        .unwrap();
    let process = workspace
        .process(["archive", "restore", "--into", "back"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let patience = Patience::until("the mark of the restore");
    let pid: i32 = loop {
        let rows = client.query("SELECT pid FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND state = 'idle in transaction' AND clock_timestamp() - state_change > interval '1s'", &[]).await.unwrap();
        if let Some(row) = rows.first() {
            break row.get(0);
        }
        patience.pause().await;
    };
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(pid),
        nix::sys::signal::Signal::SIGKILL,
    )
    .unwrap();
    let patience = Patience::until("the crash of the server");
    while !client.is_closed() {
        patience.pause().await;
    }
    sqlx::query("ROLLBACK").execute(&mut writer).await.unwrap();
    let ended = tokio::task::spawn_blocking(|| process.wait_with_output().unwrap())
        .await
        .unwrap();
    assert_ne!(ended.status.code(), Some(0));
    let client = crate::kinds::ledger::reconnect(&url).await;
    for _ in 0..20 {
        client
            .batch_execute("INSERT INTO other VALUES (1)")
            .await
            .unwrap();
    }
    workspace
        .run(["archive", "restore", "--into", "back"])
        .expect(0);
    let back: i64 = client
        .query_one("SELECT count(*) FROM back", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(back, 100);
}
