//! Expired partitions leave as a whole: detached, stored, compared under a
//! lock, dropped.

use std::process::Stdio;

use serde_json::{Value, json};

use super::stopping::{archived, kill_often, nothing_else};
use super::{
    archive, checksum, into_files, nothing_is_left, parquet_files, waiting, workspace as task,
};
use crate::support::patience::Patience;
use crate::support::s3::{BUCKET, S3};
use crate::support::servers::{TestDatabase, fresh_database};
use crate::support::workspace::Workspace;

pub(super) const MARK: &str = "maint: to be archived, once a partition of";

/// Two partitions; the older one has expired, and of the other one some rows.
pub(super) async fn two_partitions(db: &TestDatabase) -> String {
    db.execute("CREATE TABLE e (id int, at timestamptz NOT NULL, tags text[]) PARTITION BY RANGE (at);
        CREATE TABLE \"E 1\" PARTITION OF e FOR VALUES FROM ('2020-01-01 00:00+00') TO ('2020-02-01 00:00+00');
        CREATE TABLE e2 PARTITION OF e FOR VALUES FROM ('2020-02-01 00:00+00') TO ('2100-01-01 00:00+00');
        INSERT INTO e SELECT n, '2020-01-15 00:00+00'::timestamptz + n * interval '1 hour', ARRAY[n::text, NULL] FROM generate_series(1, 600) n;
        INSERT INTO e VALUES (1000, now())").await;
    checksum(db, "SELECT * FROM e WHERE id < 1000").await
}

pub(super) fn options() -> Value {
    json!({ "table": "e", "column": "at", "older_than": "1y" })
}

pub(super) async fn exists(db: &TestDatabase, table: &str) -> bool {
    let sql = format!("SELECT count(*) FROM pg_class WHERE relname = '{table}'");
    db.number(&sql).await == 1
}

pub(super) async fn comes_back(db: &TestDatabase, workspace: &Workspace, old: &str) {
    workspace.run(["archive", "verify"]).expect(0);
    let restore = ["archive", "restore", "--from", "e", "--into", "back"];
    workspace.run(restore).expect(0);
    assert_eq!(checksum(db, "SELECT * FROM back").await, old);
}

for_versions! {
    [pg14 = 14]
    /// Detached concurrently where the server can, stored and dropped; of the
    /// partition in which the limit lies only the old rows go.
    async fn stored_and_dropped(major: u32) {
        for default in [false, true] {
            let db = fresh_database(major).await;
            let old = two_partitions(&db).await;
            if default {
                db.execute("CREATE TABLE e3 PARTITION OF e DEFAULT").await;
            }
            let (workspace, folder) = into_files(&db, &options());
            let dry = workspace.run(["run", "archive", "--dry-run", "--output", "json"]).expect(0).json();
            assert_eq!(dry["plans"][0]["rows"], 600);
            let statement = dry["plans"][0]["plan"]["steps"].to_string();
            assert_eq!(statement.contains("CONCURRENTLY"), !default, "{statement}");
            let run = archive(&workspace);
            assert_eq!(run["rows"], 600, "{run:#}");
            assert!(!exists(&db, "E 1").await);
            assert_eq!(db.number("SELECT count(*) FROM e").await, 1);
            nothing_is_left(&workspace);
            let whole = archived(&workspace).into_iter().find(|a| a["manifest"]["whole"].is_object()).unwrap();
            assert_eq!(whole["manifest"]["table"], "public.\"E 1\"");
            assert_eq!(whole["manifest"]["settled"], true);
            assert!(parquet_files(folder.path()).iter().all(|f| f.starts_with("table=public.e/year=2020/month=0")));
            nothing_else(&workspace, folder.path());
            comes_back(&db, &workspace, &old).await;
        }
    }
}

/// The expired partition is detached and stored, and cannot be dropped,
/// because somebody reads it in a transaction. The reader is gone afterwards.
pub(super) async fn stopped_before_the_drop(db: &TestDatabase) -> (Workspace, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let mut all = options();
    all["destination"] = json!({ "files": format!("file://{}", folder.path().display()) });
    let workspace = waiting(db, &all, "300ms");
    db.execute(&format!(
        "ALTER TABLE e DETACH PARTITION \"E 1\"; COMMENT ON TABLE \"E 1\" IS '{MARK} public.e'"
    ))
    .await;
    workspace.knows_mark("archive", db, "public.\"E 1\"").await;
    let reader = db.connect().await;
    reader
        .batch_execute("BEGIN; SELECT count(*) FROM \"E 1\"")
        .await
        .unwrap();
    let output = workspace
        .run(["run", "archive", "--now", "--output", "json"])
        .expect(1);
    // From one o'clock of the 15th on, one each hour.
    let stored = "407 rows were stored before";
    assert!(output.stdout.contains(stored), "{output:#?}");
    reader.batch_execute("ROLLBACK").await.unwrap();
    (workspace, folder)
}

for_versions! {
    [pg18 = 18]
    /// A detached partition that the history knows nothing of is told and left
    /// alone; one that it knows is gone on with, and what was stored of it is
    /// found by the manifest beside the files.
    async fn found_again_without_history(major: u32) {
        let db = fresh_database(major).await;
        two_partitions(&db).await;
        let (workspace, folder) = stopped_before_the_drop(&db).await;
        let stored = parquet_files(folder.path());
        assert!(stored.iter().any(|f| f.contains("month=01")), "{stored:#?}");
        std::fs::remove_file(workspace.history()).unwrap();
        let unknown = archive(&workspace);
        assert_eq!(unknown["findings"][0]["code"], "partitions.unknown_mark", "{unknown:#}");
        assert!(exists(&db, "E 1").await);
        workspace.knows_mark("archive", &db, "public.\"E 1\"").await;
        let run = archive(&workspace);
        assert_eq!(run["steps"][1]["action"], "archive_partition", "{run:#}");
        // Of the other partition rows had gone, and a person says whose those are.
        let told = &run["findings"][0];
        assert_eq!(told["code"], "archive.unknown_files", "{run:#}");
        assert!(told["message"].as_str().unwrap().contains("has 1 archive of this table, 193 rows"), "{run:#}");
        assert!(!exists(&db, "E 1").await);
        // The same files: nothing was stored twice.
        assert_eq!(parquet_files(folder.path()), stored);
        let place = format!("file://{}", folder.path().display());
        workspace.run(["archive", "adopt", "--files", &place, "--target", "app"]).expect(0);
        assert_eq!(archive(&workspace)["steps"][0]["action"], "settle");
        nothing_is_left(&workspace);
        assert_eq!(db.number("SELECT count(*) FROM e").await, 1);
    }
}

for_oldest_and_newest! {
    /// Killed after the partition was dropped, and before that was written down: the server says that
    /// it was, and the other rows of the table, which has no key, are no reason to ask a person.
    async fn dropped_and_not_written_down(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE t (id int, at timestamptz NOT NULL) PARTITION BY RANGE (at);
            CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM ('2020-01-01 00:00:00+00') TO ('2020-02-01 00:00:00+00');
            CREATE TABLE t_2 PARTITION OF t FOR VALUES FROM ('2020-02-01 00:00:00+00') TO ('2100-01-01 00:00:00+00');
            INSERT INTO t SELECT n, '2020-01-05' FROM generate_series(1, 50) n;
            INSERT INTO t SELECT n, now() FROM generate_series(51, 90) n").await;
        let (workspace, folder) = into_files(&db, &json!({ "table": "t", "column": "at", "older_than": "1y" }));
        assert_eq!(archive(&workspace)["rows"], 50);
        assert!(!exists(&db, "t_1").await);
        let mut manifest = archived(&workspace)[0]["manifest"].clone();
        assert!(manifest["whole"].is_object(), "{manifest:#}");
        manifest["settled"] = json!(false);
        let key = format!("archive {}", manifest["id"].as_str().unwrap());
        workspace.knows("archive", key, manifest).await;
        let stored = parquet_files(folder.path());
        let run = archive(&workspace);
        assert_eq!(run["status"], "succeeded", "{run:#}");
        assert_eq!(run["steps"][0]["action"], "settle", "{run:#}");
        assert_eq!(archived(&workspace)[0]["manifest"]["settled"], true);
        assert_eq!(parquet_files(folder.path()), stored);
        assert_eq!(db.number("SELECT count(*) FROM t").await, 40);
        nothing_is_left(&workspace);
    }
}

/// Attached again, and kept for longer: what was stored of it goes, the rows stay.
#[tokio::test]
async fn attached_again() {
    let db = fresh_database(17).await;
    two_partitions(&db).await;
    let before = checksum(&db, "SELECT * FROM \"E 1\"").await;
    let (workspace, folder) = stopped_before_the_drop(&db).await;
    db.execute("ALTER TABLE e ATTACH PARTITION \"E 1\" FOR VALUES FROM ('2020-01-01 00:00+00') TO ('2020-02-01 00:00+00')").await;
    let task = std::fs::read_to_string(workspace.path().join("tasks/archive.yaml")).unwrap();
    workspace.file(
        "tasks/archive.yaml",
        &task.replace("\"older_than\":\"1y\"", "\"older_than\":\"100y\""),
    );
    let run = archive(&workspace);
    assert_eq!(run["steps"][0]["action"], "settle", "{run:#}");
    assert_eq!(checksum(&db, "SELECT * FROM \"E 1\"").await, before);
    nothing_else(&workspace, folder.path());
    nothing_is_left(&workspace);
}

for_versions! {
    [pg15 = 15]
    /// Rows come into a partition that was detached and stored: it stays, and
    /// the next run stores it as it is now.
    async fn somebody_writes_meanwhile(major: u32) {
        let db = fresh_database(major).await;
        two_partitions(&db).await;
        db.execute(&format!("ALTER TABLE e DETACH PARTITION \"E 1\"; COMMENT ON TABLE \"E 1\" IS '{MARK} public.e'")).await;
        let folder = tempfile::tempdir().unwrap();
        let mut all = options();
        all["destination"] = json!({ "files": format!("file://{}", folder.path().display()) });
        let workspace = task(&db, &all);
        workspace.knows_mark("archive", &db, "public.\"E 1\"").await;
        let writer = db.connect().await;
        writer.batch_execute("BEGIN; UPDATE \"E 1\" SET tags = '{changed}' WHERE id = 7").await.unwrap();
        let process = workspace.process(["run", "archive", "--now", "--output", "json"])
            .stdout(Stdio::piped()).spawn().unwrap();
        let patience = Patience::until("LOCK TABLE that waits for a writer");
        while db.number("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LOCK TABLE%' AND wait_event_type = 'Lock'").await == 0 {
            patience.pause().await;
        }
        writer.batch_execute("COMMIT").await.unwrap();
        let output = tokio::task::spawn_blocking(|| process.wait_with_output().unwrap()).await.unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("somebody has written to it since"), "{said}");
        assert!(exists(&db, "E 1").await);
        assert!(!parquet_files(folder.path()).iter().any(|f| f.contains("month=01")));
        archive(&workspace);
        assert!(!exists(&db, "E 1").await);
        nothing_is_left(&workspace);
        workspace.run(["archive", "restore", "--from", "e", "--into", "back"]).expect(0);
        assert_eq!(db.number("SELECT count(*) FROM back").await, 600);
        assert_eq!(db.number("SELECT count(*) FROM back WHERE id = 7 AND tags = '{changed}'").await, 1);
    }
}

for_oldest_and_newest! {
    /// A partition on its way to another table that gets a row after it was
    /// detached: the row moves, too, before the partition goes.
    async fn into_a_table(major: u32) {
        let db = fresh_database(major).await;
        let old = two_partitions(&db).await;
        db.execute(&format!("ALTER TABLE e DETACH PARTITION \"E 1\"; COMMENT ON TABLE \"E 1\" IS '{MARK} public.e'")).await;
        let mut all = options();
        all["destination"] = json!({ "table": "old" });
        let workspace = task(&db, &all);
        workspace.knows_mark("archive", &db, "public.\"E 1\"").await;
        archive(&workspace);
        assert!(!exists(&db, "E 1").await);
        assert_eq!(checksum(&db, "SELECT * FROM old").await, old);
        nothing_is_left(&workspace);
    }
}

/// Three partitions of another quarter, with rows; `original` keeps a copy.
async fn another_quarter(db: &TestDatabase, lot: i64) {
    let month = |n: i64| {
        let months = lot * 3 + n;
        format!("{}-{:02}-01 00:00+00", 1990 + months / 12, 1 + months % 12)
    };
    for n in 0..3 {
        db.execute(&format!(
            "CREATE TABLE t_{lot}_{n} PARTITION OF t FOR VALUES FROM ('{}') TO ('{}')",
            month(n),
            month(n + 1)
        ))
        .await;
    }
    db.execute(&format!(
        "WITH made AS (INSERT INTO t SELECT {lot} * 10000 + n, '{}'::timestamptz + n * interval '10 minutes', repeat(md5(n::text), 4)
            FROM generate_series(1, 9000) n RETURNING *) INSERT INTO original SELECT * FROM made", month(0)
    )).await;
}

/// Killed at any moment of it: in the end every row is stored once, no table
/// is left, and no file that no manifest names.
async fn killed(times: u32, s3: bool) {
    let db = fresh_database(17).await;
    db.execute("CREATE TABLE t (id bigint, at timestamptz NOT NULL, v text) PARTITION BY RANGE (at); CREATE TABLE original (id bigint, at timestamptz, v text)").await;
    another_quarter(&db, 0).await;
    let mut options =
        json!({ "table": "t", "column": "at", "older_than": "30d", "batch_goal": "1ms" });
    let (store, folder) = (S3::start(), tempfile::tempdir().unwrap());
    let (url, place) = if s3 {
        let below = store.folder.path().join(BUCKET).join("a");
        (format!("s3://{BUCKET}/a"), below)
    } else {
        (
            format!("file://{}", folder.path().display()),
            folder.path().to_owned(),
        )
    };
    options["destination"] = json!({ "files": url });
    let workspace = store.known_to(task(&db, &options));
    kill_often(&db, &workspace, times, async |lot| {
        another_quarter(&db, lot).await
    })
    .await;
    assert_eq!(
        db.number("SELECT count(*) FROM pg_class WHERE relname ~ '^t_'")
            .await,
        0
    );
    assert!(
        archived(&workspace)
            .iter()
            .all(|a| a["manifest"]["settled"] == true)
    );
    nothing_else(&workspace, &place);
    workspace.run(["archive", "verify"]).expect(0);
    workspace
        .run(["archive", "restore", "--into", "back"])
        .expect(0);
    let original = checksum(&db, "SELECT * FROM original").await;
    assert_eq!(checksum(&db, "SELECT * FROM back").await, original);
}

#[tokio::test]
async fn killed_on_the_way_to_disk() {
    killed(25, false).await;
}

#[tokio::test]
async fn killed_on_the_way_to_s3() {
    killed(25, true).await;
}

for_versions! {
    [pg17 = 17]
    /// What is detached takes any row: one that is younger than the rule, which nobody sees through the table, does
    /// not go with the others. Moved into the table, it stays there, and the rest goes.
    async fn a_younger_row_that_came_meanwhile_does_not_go(major: u32) {
        let db = fresh_database(major).await;
        two_partitions(&db).await;
        db.execute("CREATE TABLE e_rest PARTITION OF e DEFAULT").await;
        let (workspace, _folder) = stopped_before_the_drop(&db).await;
        db.execute("INSERT INTO \"E 1\" VALUES (2000, now(), NULL); INSERT INTO e VALUES (2001, '2020-01-20 00:00+00')").await;
        for _ in 0..2 {
            let output = workspace.run(["run", "archive", "--now", "--output", "json"]).expect(1);
            let run = output.json()["runs"][0].clone();
            assert!(run["steps"].to_string().contains("are not older than the rule says: move them into public.e"), "{run:#}");
            let findings = run["findings"].as_array().unwrap();
            let told = findings.iter().find(|f| f["code"] == "partitions.outside").unwrap();
            assert!(told["message"].as_str().unwrap().contains("while the default partition of public.e has rows of these bounds"), "{told:#}");
            assert_eq!(db.number("SELECT count(*) FROM \"E 1\" WHERE id = 2000").await, 1);
        }
        db.execute("WITH gone AS (DELETE FROM \"E 1\" WHERE id = 2000 RETURNING *) INSERT INTO e SELECT * FROM gone").await;
        for _ in 0..2 {
            workspace.run(["run", "archive", "--now"]);
        }
        assert!(!exists(&db, "E 1").await);
        assert_eq!(db.strings("SELECT id::text FROM e ORDER BY id").await, ["1000", "2000"]);
    }
}
