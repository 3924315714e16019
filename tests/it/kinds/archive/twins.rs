//! What lies beside files may have been put there by whoever can write to the place, and may be the
//! same rows twice.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{archive, into_files};
use crate::support::servers::{TestDatabase, fresh_database};
use crate::support::workspace::Workspace;

const RULE: &str = "CREATE TABLE t (id int, at timestamptz NOT NULL);
    INSERT INTO t SELECT n, '2020-01-01' FROM generate_series(1, 50) n";

async fn archived(db: &TestDatabase) -> (Workspace, tempfile::TempDir) {
    db.execute(RULE).await;
    let rule = json!({ "table": "t", "column": "at", "older_than": "1y" });
    let (workspace, folder) = into_files(db, &rule);
    archive(&workspace);
    (workspace, folder)
}

fn manifest(folder: &Path) -> PathBuf {
    fs::read_dir(folder.join("table=public.t"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.to_string_lossy().ends_with(".manifest.json"))
        .unwrap()
}

/// Puts a changed copy of a manifest beside it; gives its id.
fn copied(of: &Path, change: impl FnOnce(&mut Value)) -> String {
    let mut copy: Value = serde_json::from_slice(&fs::read(of).unwrap()).unwrap();
    let id = uuid::Uuid::now_v7().to_string();
    copy["id"] = json!(id);
    change(&mut copy);
    let path = of.with_file_name(format!("_{id}.manifest.json"));
    fs::write(path, copy.to_string()).unwrap();
    id
}

/// The number of a transaction that the server knows to have been rolled back.
async fn aborted(db: &TestDatabase) -> String {
    let session = db.connect().await;
    let begin = "BEGIN; CREATE TABLE aborted (id int)";
    session.batch_execute(begin).await.unwrap();
    let number = "SELECT pg_current_xact_id()::text";
    let number = session.query_one(number, &[]).await.unwrap().get(0);
    session.batch_execute("ROLLBACK").await.unwrap();
    number
}

/// A second manifest of the same file, or of a copy of it, brings no row back twice.
#[tokio::test]
async fn rows_of_two_manifests_come_back_once() {
    let db = fresh_database(17).await;
    let (workspace, folder) = archived(&db).await;
    let place = format!("file://{}", folder.path().display());
    let first = manifest(folder.path());
    let own: Value = serde_json::from_slice(&fs::read(&first).unwrap()).unwrap();
    let id = own["id"].as_str().unwrap();
    let file = own["files"][0]["path"].as_str().unwrap();
    let copy = file.replace(".parquet", "x.parquet");
    fs::copy(folder.path().join(file), folder.path().join(&copy)).unwrap();
    for changed in [file, &copy] {
        let twin = copied(&first, |twin| twin["files"][0]["path"] = json!(changed));
        let restore = ["archive", "restore", "--files", &place, "--into", "back"];
        let said = workspace.run(restore).expect(2).stderr;
        assert!(
            said.contains("hold the same 50 rows") && said.contains(id) && said.contains(&twin),
            "{said}"
        );
        let there = "SELECT count(*) FROM pg_tables WHERE tablename = 'back'";
        assert_eq!(db.number(there).await, 0);
        fs::remove_file(first.with_file_name(format!("_{twin}.manifest.json"))).unwrap();
    }
    copied(&first, |_| {});
    workspace
        .run([
            "archive", "restore", id, "--files", &place, "--into", "back",
        ])
        .expect(0);
    assert_eq!(db.number("SELECT count(*) FROM back").await, 50);
}

/// Rows that went back into their table are archived once more: both archives hold them.
#[tokio::test]
async fn what_was_archived_once_more_comes_back_once() {
    let db = fresh_database(17).await;
    let (workspace, _folder) = archived(&db).await;
    let restore = |into: &str| workspace.run(["archive", "restore", "--from", "t", "--into", into]);
    restore("kept").expect(0);
    restore("t").expect(0);
    archive(&workspace);
    assert_eq!(db.number("SELECT count(*) FROM t").await, 0);
    let said = restore("kept").expect(2).stderr;
    assert!(said.contains("hold the same 50 rows"), "{said}");
    assert_eq!(db.number("SELECT count(*) FROM kept").await, 50);
}

/// What went home and was archived from there once more is not there any more: the later archive is what
/// comes, as often as it likes; where only files say so, a person chooses.
#[tokio::test]
async fn what_went_home_and_was_archived_again_goes_home_again() {
    let db = fresh_database(17).await;
    let (workspace, folder) = archived(&db).await;
    let restore = ["archive", "restore", "--from", "t", "--into", "t"];
    for _ in 0..2 {
        workspace.run(restore).expect(0);
        assert_eq!(db.number("SELECT count(*) FROM t").await, 50);
        let said = workspace.run(restore).expect(2).stderr;
        assert!(said.contains("is back already"), "{said}");
        assert_eq!(db.number("SELECT count(*) FROM t").await, 50);
        archive(&workspace);
        assert_eq!(db.number("SELECT count(*) FROM t").await, 0);
    }
    let place = format!("file://{}", folder.path().display());
    let by_files = ["archive", "restore", "--files", &place, "--into", "t"];
    let said = workspace.run(by_files).expect(2).stderr;
    assert!(said.contains("hold the same 50 rows"), "{said}");
    let by_files = [&by_files[..], &["--output", "json"]].concat();
    let said = workspace.run(by_files).expect(2).json();
    assert!(
        !said["error"].as_str().unwrap().contains("hint"),
        "{said:#}"
    );
    assert!(
        said["hint"].as_str().unwrap().contains("choose by id"),
        "{said:#}"
    );
    assert_eq!(db.number("SELECT count(*) FROM t").await, 0);
}

/// One that nobody can read keeps nobody from the others, and is told.
#[tokio::test]
async fn a_manifest_that_cannot_be_read_keeps_no_other_back() {
    let db = fresh_database(17).await;
    let (workspace, folder) = archived(&db).await;
    let place = format!("file://{}", folder.path().display());
    let first = manifest(folder.path());
    let id = first.file_name().unwrap().to_str().unwrap()[1..37].to_owned();
    let odd = first.with_file_name(format!("_{}.manifest.json", uuid::Uuid::now_v7()));
    fs::write(&odd, "{").unwrap();
    let elsewhere = copied(&first, |copy| {
        copy["files"][0]["path"] = json!("other/table=public.t/x.parquet");
    });
    let renamed = first.with_file_name(format!("_{}.manifest.json", uuid::Uuid::now_v7()));
    fs::rename(
        first.with_file_name(format!("_{elsewhere}.manifest.json")),
        renamed,
    )
    .unwrap();
    let told = "2 of what lies there as manifests";
    for (args, code) in [
        (vec!["list"], 0),
        (vec!["verify"], 1),
        (vec!["restore", "--into", "back", "--dry-run"], 1),
        (vec!["restore", "--into", "back"], 1),
    ] {
        let args = [&["archive"][..], &args, &["--files", &place]].concat();
        let said = workspace.run(args).expect(code).stdout;
        assert!(said.contains(told), "{said}");
    }
    assert_eq!(db.number("SELECT count(*) FROM back").await, 50);
    workspace
        .run([
            "archive", "restore", &id, "--files", &place, "--into", "other",
        ])
        .expect(0);
    assert_eq!(db.number("SELECT count(*) FROM other").await, 50);
    workspace
        .run(["archive", "verify", &id, "--files", &place])
        .expect(0);
    // Nothing but such ones: why is said.
    fs::remove_file(&first).unwrap();
    let said = workspace
        .run(["archive", "list", "--files", &place])
        .expect(2)
        .stderr;
    assert!(
        said.contains("is no manifest that this version can read")
            || said.contains("its name says another"),
        "{said}"
    );
}

/// What a manifest beside files says of a transaction counts for nothing once the history is lost:
/// the only files of rows stay.
#[tokio::test]
async fn what_a_manifest_says_of_its_end_counts_for_nothing() {
    let db = fresh_database(17).await;
    let (workspace, folder) = archived(&db).await;
    let place = format!("file://{}", folder.path().display());
    for end in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(format!("{}{end}", workspace.history().display()));
    }
    let number = aborted(&db).await;
    // A history of its own again, which says what lies there.
    workspace.run(["run", "archive", "--now"]);
    let first = manifest(folder.path());
    let mut forged: Value = serde_json::from_slice(&fs::read(&first).unwrap()).unwrap();
    forged["settled"] = json!(false);
    forged["transaction"] = json!(number);
    fs::write(&first, forged.to_string()).unwrap();
    let before = super::parquet_files(folder.path());
    workspace
        .run(["archive", "adopt", "--files", &place, "--target", "app"])
        .expect(0);
    workspace.run(["run", "archive", "--now"]);
    assert_eq!(super::parquet_files(folder.path()), before);
    let listed = workspace
        .run(["archive", "list", "--output", "json"])
        .expect(0);
    assert_eq!(listed.json()["archived"].as_array().unwrap().len(), 1);
}

/// Files of rows that are in their table, and that cannot be removed, keep nothing from being archived:
/// they are told until they are gone.
#[tokio::test]
async fn what_cannot_be_removed_keeps_nothing_from_being_archived() {
    let db = fresh_database(17).await;
    let (workspace, folder) = archived(&db).await;
    db.execute(
        "ALTER TABLE t ADD PRIMARY KEY (id);
         INSERT INTO t SELECT n, '2020-01-01' FROM generate_series(1, 50) n",
    )
    .await;
    // As if the batch had been given back, and nobody had seen it.
    let number = aborted(&db).await;
    let first = manifest(folder.path());
    let mut open: Value = serde_json::from_slice(&fs::read(&first).unwrap()).unwrap();
    open["settled"] = json!(false);
    open["transaction"] = json!(number);
    let id = open["id"].as_str().unwrap().to_owned();
    let file = folder
        .path()
        .join(open["files"][0]["path"].as_str().unwrap());
    workspace
        .knows("archive", format!("archive {id}"), open)
        .await;
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    let run = archive(&workspace);
    assert_eq!(run["rows"], 50, "{run:#}");
    assert_eq!(run["findings"][0]["code"], "archive.left_over", "{run:#}");
    // It is told each night, and what was archived is whole.
    let run = archive(&workspace);
    assert_eq!(run["findings"][0]["code"], "archive.left_over", "{run:#}");
    workspace
        .run(["archive", "restore", "--from", "t", "--into", "back"])
        .expect(0);
    assert_eq!(db.number("SELECT count(*) FROM back").await, 50);
    let kept = workspace.keep_history();
    let seen = ["archive", "settle", &id, "--seen-to"];
    assert!(
        workspace
            .run(seen)
            .expect(0)
            .stdout
            .contains("is not told any more")
    );
    assert_eq!(archive(&workspace)["findings"], json!([]));
    workspace.set_history_back(kept.path());
    fs::remove_dir(&file).unwrap();
    let run = archive(&workspace);
    assert_eq!(run["findings"], json!([]), "{run:#}");
    assert!(!first.exists());
    super::nothing_is_left(&workspace);
}
