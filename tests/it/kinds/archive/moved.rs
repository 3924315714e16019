//! The database has moved, or another server took over, while nobody knew yet what became of a
//! batch: the number of its transaction is another one's there.

use serde_json::{Value, json};

use super::{database, into_files, parquet_files};
use crate::support::servers::fresh_database;
use crate::support::workspace::Workspace;

/// A table whose old rows are one batch.
const ROWS: &str = "CREATE TABLE t (id int PRIMARY KEY, at timestamptz NOT NULL);
    INSERT INTO t SELECT n, '2020-01-01'::timestamptz + n * interval '1 minute' FROM generate_series(1, 100) n";

/// The manifests that the history of a target knows, with their keys, oldest first.
pub(super) async fn manifests(workspace: &Workspace) -> Vec<(String, Value)> {
    remembered(workspace, "archive ").await
}

/// The same of a target of this name.
pub(super) async fn manifests_of(workspace: &Workspace, target: &str) -> Vec<(String, Value)> {
    remembered_of(workspace, target, "archive ").await
}

/// What the history remembers under keys that begin so.
pub(super) async fn remembered(workspace: &Workspace, begins: &str) -> Vec<(String, Value)> {
    remembered_of(workspace, "app", begins).await
}

async fn remembered_of(workspace: &Workspace, target: &str, begins: &str) -> Vec<(String, Value)> {
    let location = format!("sqlite:{}", workspace.history().display());
    let store = maint::history::open(&location).await.unwrap();
    let memories = store.memories(target, "archive").await.unwrap();
    store.close().await;
    let mut found: Vec<_> = memories
        .into_iter()
        .filter(|(key, value)| key.starts_with(begins) && !value.is_null())
        .collect();
    found.sort_by(|one, other| one.0.cmp(&other.0));
    found
}

/// The one manifest that there is.
async fn manifest(workspace: &Workspace) -> (String, Value) {
    let mut found = manifests(workspace).await;
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

pub(super) async fn know(workspace: &Workspace, key: &str, value: &Value) {
    let location = format!("sqlite:{}", workspace.history().display());
    let store = maint::history::open(&location).await.unwrap();
    let memory = [maint::plan::Memory {
        key: key.to_owned(),
        value: value.clone(),
    }];
    store
        .remember("app", "archive", chrono::Utc::now(), &memory)
        .await
        .unwrap();
    store.close().await;
}

/// What a run says that cannot tell what became of a batch.
fn not_known(workspace: &Workspace) {
    let output = workspace
        .run(["run", "archive", "--now", "--output", "json"])
        .expect(1);
    let run = &output.json()["runs"][0];
    assert_eq!(run["steps"][0]["status"], "failed", "{run:#}");
    assert_eq!(run["rows"], 0, "{run:#}");
    let error = run["steps"][0]["error"].as_str().unwrap();
    assert!(
        error.contains("the database has moved, or another server took over"),
        "{error}"
    );
}

for_versions! {
    [pg17 = 17]
    /// Files of rows that may have gone are not removed because another transaction with the same
    /// number came to nothing, and rows that may be there are not taken for gone.
    async fn files_stay_where_another_server_is_asked(major: u32) {
        let db = fresh_database(major).await;
        db.execute(ROWS).await;
        let rule = json!({ "table": "t", "column": "at", "older_than": "30d" });
        let (workspace, folder) = into_files(&db, &rule);
        workspace.run(["run", "archive", "--now"]).expect(0);
        let files = parquet_files(folder.path());
        assert!(!files.is_empty());
        let (key, mut known) = manifest(&workspace).await;
        let here = known["server"].as_str().unwrap().to_owned();
        let system = db.strings("SELECT system_identifier::text FROM pg_control_system()").await.remove(0);
        assert_eq!(here, format!("{system}/1"), "{known:#}");
        let client = db.connect().await;
        client.batch_execute("BEGIN").await.unwrap();
        let row = client.query_one("SELECT pg_current_xact_id()::text", &[]).await.unwrap();
        client.batch_execute("ROLLBACK").await.unwrap();
        known["settled"] = json!(false);
        known["transaction"] = json!(row.get::<_, String>(0));
        // Where some of the rows are there again, but not as they were, nobody can tell.
        let client = db.connect().await;
        client.batch_execute("INSERT INTO t VALUES (7, now())").await.unwrap();
        for other in [format!("{system}/2"), "7000000000000000000/1".to_owned()] {
            known["server"] = json!(other);
            know(&workspace, &key, &known).await;
            not_known(&workspace);
            assert_eq!(parquet_files(folder.path()), files);
        }
        workspace.run(["archive", "verify"]).expect(0);
        let id = known["id"].as_str().unwrap();
        // A person looks, and says what is so; nothing else is settled by it.
        workspace.run(["archive", "settle", id]).expect(2);
        workspace.run(["archive", "settle", id, "--gone", "--kept"]).expect(2);
        workspace.run(["archive", "settle", id, "--gone"]).expect(0);
        assert_eq!(parquet_files(folder.path()), files);
        let again = workspace.run(["archive", "settle", id, "--kept"]).expect(2);
        assert!(again.stderr.contains("is settled: its rows have left public.t"), "{again:?}");
        workspace.run(["run", "archive", "--now"]).expect(0);
        let listed = workspace.run(["archive", "list"]).expect(0).stdout;
        assert!(listed.contains(id) && !listed.contains("not settled"), "{listed}");
        know(&workspace, &key, &known).await;
        let kept = workspace.run(["archive", "settle", &id[..30], "--kept"]).expect(0);
        assert!(kept.stdout.contains("their files were removed"), "{kept:?}");
        assert_eq!(parquet_files(folder.path()), [""; 0]);
        assert!(!workspace.run(["archive", "list"]).stdout.contains(id));
        // The same once more, of the next batch.
        db.execute("INSERT INTO t SELECT n, '2020-01-01' FROM generate_series(101, 200) n").await;
        workspace.run(["run", "archive", "--now"]).expect(0);
        let files = parquet_files(folder.path());
        assert!(!files.is_empty());
        let (key, mut known) = manifest(&workspace).await;
        known["settled"] = json!(false);
        known["transaction"] = json!(row.get::<_, String>(0));
        // Another server that says so knows nothing of it: what is stored stays.
        known["server"] = json!(format!("{system}/2"));
        know(&workspace, &key, &known).await;
        workspace.run(["run", "archive", "--now"]).expect(0);
        assert_eq!(parquet_files(folder.path()), files);
        // The very server that it was on says that it came to nothing, and yet the rows have gone: whoever wrote
        // them has deleted them since, and a copy of them is no archive.
        known["server"] = json!(here);
        know(&workspace, &key, &known).await;
        workspace.run(["run", "archive", "--now"]).expect(0);
        assert_eq!(parquet_files(folder.path()), [""; 0]);
    }
}

/// Rows that another transaction with the same number wrote at the destination are not taken back.
#[tokio::test]
async fn rows_of_others_stay_at_the_destination() {
    let (db, there) = (fresh_database(17).await, fresh_database(16).await);
    db.execute(ROWS).await;
    let destination = json!({ "database": "warehouse", "table": "kept" });
    let rule =
        json!({ "table": "t", "column": "at", "older_than": "30d", "destination": destination });
    let workspace = database::task(&db, &there, rule);
    workspace.run(["run", "archive", "--now"]).expect(0);
    let kept = there.number("SELECT count(*) FROM kept").await;
    assert!(kept > 0);
    let (key, mut known) = manifest(&workspace).await;
    let client = db.connect().await;
    client.batch_execute("BEGIN").await.unwrap();
    let row = client
        .query_one("SELECT pg_current_xact_id()::text", &[])
        .await
        .unwrap();
    client.batch_execute("ROLLBACK").await.unwrap();
    known["settled"] = json!(false);
    known["transaction"] = json!(row.get::<_, String>(0));
    let server = known["received"]["server"].as_str().unwrap();
    known["received"]["server"] = json!(server.replace("/1", "/2"));
    // They have gone from here, so what is there is all there is of them.
    know(&workspace, &key, &known).await;
    workspace.run(["run", "archive", "--now"]).expect(0);
    assert_eq!(there.number("SELECT count(*) FROM kept").await, kept);
    // They are here: what is there would have to go, and may be somebody else's.
    db.execute("INSERT INTO t SELECT n, '2020-01-01'::timestamptz + n * interval '1 minute' FROM generate_series(1, 100) n").await;
    know(&workspace, &key, &known).await;
    not_known(&workspace);
    assert_eq!(there.number("SELECT count(*) FROM kept").await, kept);
}
