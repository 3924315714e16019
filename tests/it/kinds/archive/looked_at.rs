//! Before rows go, their files are looked at once more; and one run at a time
//! works on a partition.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::json;

use super::stopping::{archived, nothing_else};
use super::whole::{MARK, comes_back, exists, options, stopped_before_the_drop, two_partitions};
use super::{archive, checksum, into_files, nothing_is_left, parquet_files};
use crate::support::patience::Patience;
use crate::support::servers::{TestDatabase, fresh_database};
use crate::support::workspace::Workspace;

/// The one file of the partition that is on its way out.
fn january(folder: &Path) -> PathBuf {
    let files = parquet_files(folder);
    let mut month = files.iter().filter(|f| f.contains("month=01"));
    let file = month.next().unwrap();
    assert_eq!(month.next(), None, "{files:#?}");
    folder.join(file)
}

async fn waits(db: &TestDatabase, statement: &str) {
    let patience = Patience::until(&format!("{statement} that waits for a lock"));
    while db.number(&format!("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '{statement}%' AND wait_event_type = 'Lock'")).await == 0 {
        patience.pause().await;
    }
}

async fn ends(process: std::process::Child) -> (Option<i32>, String) {
    let output = tokio::task::spawn_blocking(|| process.wait_with_output().unwrap())
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.code(), said)
}

/// Detached by an earlier run that has stored nothing yet.
async fn detached(db: &TestDatabase) -> (Workspace, tempfile::TempDir) {
    db.execute(&format!(
        "ALTER TABLE e DETACH PARTITION \"E 1\"; COMMENT ON TABLE \"E 1\" IS '{MARK} public.e'"
    ))
    .await;
    let (workspace, folder) = into_files(db, &options());
    workspace.knows_mark("archive", db, "public.\"E 1\"").await;
    (workspace, folder)
}

for_versions! {
    [pg14 = 14]
    /// What an earlier run stored of a partition has vanished, or is not what
    /// it was: it is stored again, and told.
    async fn files_of_an_earlier_run(major: u32) {
        for damage in ["removed", "changed"] {
            let db = fresh_database(major).await;
            let old = two_partitions(&db).await;
            let (workspace, folder) = stopped_before_the_drop(&db).await;
            let file = january(folder.path());
            if damage == "removed" {
                std::fs::remove_file(&file).unwrap();
            } else {
                let mut content = std::fs::read(&file).unwrap();
                let middle = content.len() / 2;
                content[middle] ^= 1;
                std::fs::write(&file, content).unwrap();
            }
            let run = archive(&workspace);
            let said = run["steps"][0]["error"].as_str().unwrap_or_default();
            let name = file.file_name().unwrap().to_str().unwrap();
            assert!(said.starts_with("warning: 407 rows") && said.contains(name), "{run:#}");
            assert!(!exists(&db, "E 1").await);
            nothing_else(&workspace, folder.path());
            comes_back(&db, &workspace, &old).await;
            nothing_is_left(&workspace);
        }
    }
}

for_versions! {
    [pg18 = 18]
    /// The destination has changed in between: nothing is left in the first
    /// place, all of it is in the second.
    async fn another_destination(major: u32) {
        let db = fresh_database(major).await;
        let old = two_partitions(&db).await;
        let (workspace, folder) = stopped_before_the_drop(&db).await;
        assert!(january(folder.path()).exists());
        let second = tempfile::tempdir().unwrap();
        let task = std::fs::read_to_string(workspace.path().join("tasks/archive.yaml")).unwrap();
        let moved = task.replace(
            &folder.path().display().to_string(),
            &second.path().display().to_string(),
        );
        assert_ne!(task, moved);
        workspace.file("tasks/archive.yaml", &moved);
        let run = archive(&workspace);
        let step = run["steps"].as_array().unwrap().iter().find(|s| s["action"] == "archive_partition");
        let said = step.unwrap()["error"].as_str().unwrap_or_default().to_owned();
        assert!(said.contains("goes to") && !said.contains("remain"), "{run:#}");
        assert!(!exists(&db, "E 1").await);
        assert!(january(second.path()).exists());
        let first = parquet_files(folder.path());
        assert!(!first.iter().any(|f| f.contains("month=01")), "{first:#?}");
        comes_back(&db, &workspace, &old).await;
        nothing_is_left(&workspace);
    }
}

for_versions! {
    [pg15 = 15]
    /// A file vanishes after it was proved and before the partition is
    /// dropped: nothing goes, and the next run stores it again.
    async fn a_file_vanishes_before_the_drop(major: u32) {
        let db = fresh_database(major).await;
        let old = two_partitions(&db).await;
        let (workspace, folder) = detached(&db).await;
        let writer = db.connect().await;
        writer.batch_execute("BEGIN; LOCK TABLE \"E 1\" IN ROW EXCLUSIVE MODE").await.unwrap();
        let process = workspace.process(["run", "archive", "--now", "--output", "json"])
            .stdout(Stdio::piped()).spawn().unwrap();
        waits(&db, "LOCK TABLE").await;
        let file = january(folder.path());
        std::fs::remove_file(&file).unwrap();
        writer.batch_execute("ROLLBACK").await.unwrap();
        let (code, said) = ends(process).await;
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("nothing was deleted") && said.contains(file.file_name().unwrap().to_str().unwrap()), "{said}");
        assert_eq!(db.number("SELECT count(*) FROM \"E 1\"").await, 407);
        archive(&workspace);
        assert!(!exists(&db, "E 1").await);
        nothing_else(&workspace, folder.path());
        comes_back(&db, &workspace, &old).await;
        nothing_is_left(&workspace);
    }
}

for_oldest_and_newest! {
    /// The same for rows that go batch by batch: the file of a batch vanishes
    /// while its delete waits.
    async fn a_file_vanishes_before_its_batch_commits(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE t (id int PRIMARY KEY, at timestamptz); INSERT INTO t SELECT n, '2020-01-15' FROM generate_series(1, 50) n; CREATE TABLE before AS TABLE t").await;
        let old = checksum(&db, "SELECT * FROM before").await;
        let (workspace, folder) = into_files(&db, &json!({ "table": "t", "column": "at", "older_than": "1y" }));
        let locker = db.connect().await;
        locker.batch_execute("BEGIN; SELECT FROM t WHERE id = 7 FOR UPDATE").await.unwrap();
        let process = workspace.process(["run", "archive", "--now", "--output", "json"])
            .stdout(Stdio::piped()).spawn().unwrap();
        let patience = Patience::until("the manifest of the batch");
        let written = || {
            let place = folder.path().join("table=public.t");
            let entries = std::fs::read_dir(place).map(|all| all.flatten().collect::<Vec<_>>());
            entries.unwrap_or_default().iter().any(|e| e.file_name().to_string_lossy().ends_with(".manifest.json"))
        };
        while !written() {
            patience.pause().await;
        }
        std::fs::remove_file(january(folder.path())).unwrap();
        locker.batch_execute("ROLLBACK").await.unwrap();
        let (code, said) = ends(process).await;
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("nothing was deleted"), "{said}");
        assert_eq!(checksum(&db, "SELECT * FROM t").await, old);
        assert_eq!(archive(&workspace)["rows"], 50);
        workspace.run(["archive", "verify"]).expect(0);
        workspace.run(["archive", "restore", "--into", "back"]).expect(0);
        assert_eq!(checksum(&db, "SELECT * FROM back").await, old);
        nothing_is_left(&workspace);
    }
}

/// A batch whose end nobody saw has gone, and so has its file: that is told.
#[tokio::test]
async fn what_is_settled_is_looked_at() {
    let db = fresh_database(17).await;
    db.execute("CREATE TABLE t (id int PRIMARY KEY, at timestamptz); INSERT INTO t SELECT n, '2020-01-15' FROM generate_series(1, 50) n").await;
    let (workspace, folder) = into_files(
        &db,
        &json!({ "table": "t", "column": "at", "older_than": "1y" }),
    );
    archive(&workspace);
    let mut manifest = archived(&workspace)[0]["manifest"].clone();
    manifest["settled"] = json!(false);
    let id = manifest["id"].as_str().unwrap();
    know(
        &workspace,
        "app",
        &format!("archive {id}"),
        manifest.clone(),
    )
    .await;
    std::fs::remove_file(january(folder.path())).unwrap();
    let run = archive(&workspace);
    assert_eq!(run["steps"][0]["action"], "settle", "{run:#}");
    let codes = run["findings"].as_array().unwrap();
    let said = codes
        .iter()
        .find(|f| f["code"] == "archive.files_missing")
        .unwrap();
    assert!(
        said["message"].as_str().unwrap().contains("50 rows"),
        "{run:#}"
    );
    nothing_is_left(&workspace);
}

/// Has the history of a target know something.
async fn know(workspace: &Workspace, target: &str, key: &str, value: serde_json::Value) {
    let location = format!("sqlite:{}", workspace.history().display());
    let store = maint::history::open(&location).await.unwrap();
    let key = key.to_owned();
    let memory = [maint::plan::Memory { key, value }];
    let noted = store.remember(target, "archive", chrono::Utc::now(), &memory);
    noted.await.unwrap();
    store.close().await;
}

for_versions! {
    [pg14 = 14]
    /// Two tasks for one table: the second leaves the partition alone that the
    /// first is at, and each row is stored once.
    async fn one_run_at_a_time(major: u32) {
        let db = fresh_database(major).await;
        let old = two_partitions(&db).await;
        let (workspace, folder) = detached(&db).await;
        let task = std::fs::read_to_string(workspace.path().join("tasks/archive.yaml")).unwrap();
        workspace.file("tasks/second.yaml", &task);
        let reader = db.connect().await;
        reader.batch_execute("BEGIN; SELECT count(*) FROM \"E 1\"").await.unwrap();
        let process = workspace.process(["run", "archive", "--now", "--output", "json"])
            .stdout(Stdio::piped()).spawn().unwrap();
        waits(&db, "DROP TABLE").await;
        let second = workspace.run(["run", "second", "--now", "--output", "json"]).expect(0).json();
        let steps = second["runs"][0]["steps"].as_array().unwrap();
        let step = steps.iter().find(|s| s["action"] == "archive_partition").unwrap();
        assert_eq!(step["status"], "skipped", "{second:#}");
        assert!(step["error"].as_str().unwrap().starts_with("another run is archiving it: pid "), "{second:#}");
        reader.batch_execute("ROLLBACK").await.unwrap();
        let (code, said) = ends(process).await;
        assert_eq!(code, Some(0), "{said}");
        assert!(!exists(&db, "E 1").await);
        nothing_else(&workspace, folder.path());
        comes_back(&db, &workspace, &old).await;
        let again = workspace.run(["run", "second", "--now", "--output", "json"]).expect(0).json();
        assert_eq!(again["runs"][0]["steps"], json!([]), "{again:#}");
    }
}

for_versions! {
    [pg17 = 17]
    /// Two targets of one database: what the first had stored of a partition
    /// is no use once the second has archived it, and goes.
    async fn two_targets_of_one_database(major: u32) {
        let db = fresh_database(major).await;
        let old = two_partitions(&db).await;
        let (workspace, folder) = stopped_before_the_drop(&db).await;
        let url = &db.url;
        workspace.file("schedules.yaml", &format!(
            "history: sqlite:maint.db\ntargets:\n  app: {{ engine: postgres, url: \"{url}\" }}\n  wh: {{ engine: postgres, url: \"{url}\" }}\n"
        ));
        let task = std::fs::read_to_string(workspace.path().join("tasks/archive.yaml")).unwrap();
        workspace.file("tasks/second.yaml", &task.replace("target: app", "target: wh"));
        let oid = db.number("SELECT '\"E 1\"'::regclass::oid::int8").await;
        know(&workspace, "wh", &format!("marked {oid}"), json!("public.\"E 1\"")).await;
        workspace.run(["run", "second", "--now"]).expect(0);
        assert!(!exists(&db, "E 1").await);
        let run = archive(&workspace);
        assert_eq!(run["steps"][0]["action"], "settle", "{run:#}");
        january(folder.path());
        nothing_else(&workspace, folder.path());
        nothing_is_left(&workspace);
        let files = format!("file://{}", folder.path().display());
        workspace.run(["archive", "restore", "--files", &files, "--target", "app", "--of", "wh", "--into", "back"]).expect(0);
        assert_eq!(db.number("SELECT count(*) FROM back").await, 407);
        workspace.run(["archive", "restore", "--files", &files, "--target", "app", "--of", "app", "--into", "back"]).expect(0);
        assert_eq!(checksum(&db, "SELECT * FROM back").await, old);
    }
}

/// Who only calls itself a run holds the lock: that is no run, and told.
#[tokio::test]
async fn a_stranger_holds_the_lock() {
    let db = fresh_database(17).await;
    two_partitions(&db).await;
    let (workspace, folder) = detached(&db).await;
    let oid = db.number("SELECT '\"E 1\"'::regclass::oid::int8").await;
    let stranger = db.connect().await;
    let lock = format!("SELECT pg_advisory_lock(1835955250, hashtext('{oid}'))");
    stranger.batch_execute(&lock).await.unwrap();
    let output = workspace.run(["run", "archive", "--now", "--output", "json"]);
    let run = output.expect(1).json()["runs"][0].clone();
    let steps = run["steps"].as_array().unwrap();
    let step = steps.iter().find(|s| s["action"] == "archive_partition");
    let said = step.unwrap()["error"].as_str().unwrap();
    assert!(said.contains("does not call itself a run"), "{run:#}");
    assert!(exists(&db, "E 1").await);
    assert!(
        !parquet_files(folder.path())
            .iter()
            .any(|f| f.contains("month=01"))
    );
    drop(stranger);
    let patience = Patience::until("the stranger to be gone");
    while db
        .number(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = 1835955250",
        )
        .await
        > 0
    {
        patience.pause().await;
    }
    archive(&workspace);
    assert!(!exists(&db, "E 1").await);
}

/// A session of another task's run that is over holds the lock: the server keeps it, and no run
/// would ever let go.
#[tokio::test]
async fn the_lock_is_left_of_a_run_that_is_over() {
    let db = fresh_database(17).await;
    two_partitions(&db).await;
    let (workspace, _folder) = detached(&db).await;
    let workspace = workspace.task(
        "other",
        "kind: sql\ntarget: app\noptions:\n  statements: [{ name: one, sql: SELECT 1 }]\n",
    );
    let ran = workspace.run(["run", "other", "--now", "--output", "json"]);
    let over = ran.expect(0).json()["runs"][0]["id"].clone();
    let oid = db.number("SELECT '\"E 1\"'::regclass::oid::int8").await;
    let taken = |name: String| {
        let db = &db;
        async move {
            let session = db.connect().await;
            let lock = format!(
                "SET application_name = '{name}'; SELECT pg_advisory_lock(1835955250, hashtext('{oid}'))"
            );
            session.batch_execute(&lock).await.unwrap();
            session
        }
    };
    let living = taken("maint 0190a4c0-0000-7000-8000-000000000000".to_owned()).await;
    let output = workspace.run(["run", "archive", "--now", "--output", "json"]);
    let run = output.expect(0).json()["runs"][0].clone();
    assert!(
        run.to_string().contains("another run is archiving it"),
        "{run:#}"
    );
    living.query("SELECT 1", &[]).await.unwrap();
    assert!(exists(&db, "E 1").await);
    drop(living);
    let held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = 1835955250
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    let patience = Patience::until("the session of an unknown run to be gone");
    while db.number(held).await > 0 {
        patience.pause().await;
    }
    let left = taken(format!("maint {}", over.as_str().unwrap())).await;
    archive(&workspace);
    assert!(left.query("SELECT 1", &[]).await.is_err());
    assert!(!exists(&db, "E 1").await);
    nothing_is_left(&workspace);
}

for_versions! {
    [pg18 = 18]
    /// The table gets a column, and loses one, after a partition was detached
    /// and stored in part: it goes with the columns that it has.
    async fn the_table_has_other_columns_since(major: u32) {
        for into_table in [false, true] {
            let db = fresh_database(major).await;
            let old = two_partitions(&db).await;
            let (mut workspace, folder) = detached(&db).await;
            let files = format!("file://{}", folder.path().display());
            if into_table {
                let task = std::fs::read_to_string(workspace.path().join("tasks/archive.yaml")).unwrap();
                let destination = format!("{{\"files\":\"{files}\"}}");
                assert!(task.contains(&destination), "{task}");
                workspace = workspace.task("archive", &task.replace(&destination, "{\"table\":\"kept\"}"));
                db.execute("CREATE TABLE kept (id int, at timestamptz, tags text[], extra int, more text)").await;
            }
            db.execute("ALTER TABLE e ADD COLUMN extra int DEFAULT 5, ADD COLUMN more text").await;
            archive(&workspace);
            assert!(!exists(&db, "E 1").await);
            if into_table {
                assert_eq!(checksum(&db, "SELECT id, at, tags FROM kept").await, old);
                assert_eq!(db.number("SELECT count(extra) FROM kept").await, 600 - 407);
            } else {
                workspace.run(["archive", "verify"]).expect(0);
                workspace.run(["archive", "restore", "--from", "e", "--into", "back"]).expect(0);
                assert_eq!(checksum(&db, "SELECT id, at, tags FROM back").await, old);
                assert_eq!(db.number("SELECT count(extra) FROM back").await, 600 - 407);
            }
            nothing_is_left(&workspace);
        }
    }
}
