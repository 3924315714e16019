//! A server is set back to a snapshot of its disks, and gives ids of transactions anew: rows of
//! another transaction with the same id are not those of a batch.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::moved::{know, manifests};
use super::undone::told;
use super::{archive, database};
use crate::kinds::failover::number;
use crate::support::servers::{TestDatabase, connect, fresh_database, private_cluster};
use crate::support::standby::{Server, restarted};
use crate::support::workspace::Workspace;

/// Copies the files of a server that is stopped.
fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-a").arg(from).arg(to).output();
    assert!(done.as_ref().unwrap().status.success(), "{done:?}");
}

/// Puts a copy in the place of what a server has.
fn put_back(data: &Path, snapshot: &Path) {
    fs::remove_dir_all(data).unwrap();
    copy(snapshot, data);
    let _ = fs::remove_file(data.join("postmaster.pid"));
}

/// Has a server come to a transaction with this id, which then does `sql`.
async fn as_transaction(url: &str, id: u64, sql: &str) {
    let client = connect(url).await;
    let next = "SELECT pg_current_xact_id()::text::int8";
    let id = i64::try_from(id).unwrap();
    loop {
        client.batch_execute("BEGIN").await.unwrap();
        let now = number(&client, next).await;
        assert!(now <= id, "{now} has passed {id}");
        if now == id {
            break;
        }
        client.batch_execute("COMMIT").await.unwrap();
    }
    client.batch_execute(sql).await.unwrap();
    client.batch_execute("COMMIT").await.unwrap();
}

/// Has the task archive from here into the table `a` of a server that moves.
fn task(workspace: &Workspace, here: &str, there: &str, days: u32) {
    workspace.file(
        "schedules.yaml",
        &format!(
            "history: sqlite:maint.db\ntargets:\n  app: {{ engine: postgres, url: \"{here}\" }}\n  warehouse: {{ engine: postgres, url: \"{there}\" }}\n"
        ),
    );
    let options = json!({ "table": "a", "column": "at", "older_than": format!("{days}d"),
        "destination": { "database": "warehouse", "table": "a" } });
    workspace.file(
        "tasks/archive.yaml",
        &format!("kind: archive\ntarget: app\noptions: {options}\n"),
    );
}

const ROWS: &str = "CREATE TABLE a (id int PRIMARY KEY, at timestamptz NOT NULL, v text);
    INSERT INTO a SELECT n, now() - n * interval '1 day' + interval '12 hours', 'v' FROM generate_series(1, 100) n";

fn id_of(manifest: &Value) -> u64 {
    manifest["received"]["transaction"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap()
}

/// A server whose disks are kept as they were once.
struct Kept {
    major: u32,
    server: Server,
    _cluster: maint::demo::Cluster,
    snapshots: tempfile::TempDir,
}

impl Kept {
    fn new(major: u32) -> Kept {
        let cluster = private_cluster(major, &[("autovacuum", "off")]);
        let server = restarted(major, &cluster, |_| {});
        Kept {
            major,
            server,
            _cluster: cluster,
            snapshots: tempfile::tempdir().unwrap(),
        }
    }

    fn url(&self) -> String {
        self.server.url("postgres")
    }

    /// Keeps how it is now.
    fn keep(&mut self) {
        let to = self.snapshots.path().join("data");
        self.server.again(self.major, |data| copy(data, &to));
    }

    /// Sets it back to what was kept.
    fn set_back(&mut self) {
        let from = self.snapshots.path().join("data");
        self.server.again(self.major, |data| put_back(data, &from));
    }
}

/// A batch that a destination has lost is told also where another transaction has got its id since,
/// and a start alone tells nothing.
async fn a_batch_is_missed_although_its_id_was_used_anew(major: u32) {
    let mut there = Kept::new(major);
    let db = fresh_database(major).await;
    db.execute(ROWS).await;
    let workspace = Workspace::new("targets: {}\n");
    task(&workspace, &db.url, &there.url(), 80);
    assert_eq!(archive(&workspace)["rows"], 20);
    there.keep();
    // It has been started anew, and has all that came.
    task(&workspace, &db.url, &there.url(), 60);
    let run = archive(&workspace);
    assert_eq!(
        (told(&run), &run["rows"]),
        ((vec!["archive"], vec![]), &json!(20)),
        "{run:#}"
    );
    let id = id_of(&manifests(&workspace).await[1].1);
    there.set_back();
    let others = "INSERT INTO a SELECT n, '2001-01-01', 'other' FROM generate_series(1001, 1020) n";
    as_transaction(&there.url(), id, others).await;
    let client = connect(&there.url()).await;
    assert_eq!(
        number(
            &client,
            &format!("SELECT count(*) FROM a WHERE xmin::text = '{id}'")
        )
        .await,
        20
    );
    task(&workspace, &db.url, &there.url(), 40);
    let run = archive(&workspace);
    assert_eq!(
        told(&run),
        (vec!["archive"], vec!["archive.lost_there"]),
        "{run:#}"
    );
    let said = run["findings"][0]["message"].as_str().unwrap();
    assert!(
        said.contains("was started anew, and perhaps set back"),
        "{said}"
    );
    assert!(said.contains("of the 20 rows of the last batch,"), "{said}");
    assert!(said.contains(", 0 are there as they came"), "{said}");
    assert_eq!(run["findings"][0]["severity"], "warning", "{run:#}");
    assert_eq!(
        number(&client, "SELECT count(*) FROM a WHERE v = 'other'").await,
        20
    );
}

#[tokio::test]
async fn a_batch_is_missed_although_its_id_was_used_anew_14() {
    a_batch_is_missed_although_its_id_was_used_anew(14).await;
}

#[tokio::test]
async fn a_batch_is_missed_although_its_id_was_used_anew_18() {
    a_batch_is_missed_although_its_id_was_used_anew(18).await;
}

for_versions! {
    [pg14 = 14]
    /// What another transaction with the same id has written is not taken back.
    async fn rows_with_the_id_of_a_batch_are_not_taken_back(major: u32) {
    let (db, there): (TestDatabase, TestDatabase) =
        (fresh_database(major).await, fresh_database(major).await);
    db.execute(ROWS).await;
    let destination = json!({ "database": "warehouse", "table": "a" });
    let rule =
        json!({ "table": "a", "column": "at", "older_than": "80d", "destination": destination });
    let workspace = database::task(&db, &there, rule);
    assert_eq!(archive(&workspace)["rows"], 20);
    // The server that it came from says that the batch was given back, and no key finds its rows.
    let client = db.connect().await;
    client.batch_execute("BEGIN").await.unwrap();
    let row = client
        .query_one("SELECT pg_current_xact_id()::text", &[])
        .await
        .unwrap();
    client.batch_execute("ROLLBACK").await.unwrap();
    db.execute("ALTER TABLE a DROP CONSTRAINT a_pkey; ALTER TABLE a ALTER v TYPE varchar")
        .await;
    let (key, mut known) = manifests(&workspace).await.remove(0);
    let others = "INSERT INTO a SELECT n, '2001-01-01', 'other' FROM generate_series(1001, 1020) n";
    let client = there.connect().await;
    client.batch_execute("BEGIN").await.unwrap();
    let other = client
        .query_one("SELECT pg_current_xact_id()::text", &[])
        .await
        .unwrap();
    client.batch_execute(others).await.unwrap();
    client.batch_execute("COMMIT").await.unwrap();
    known["settled"] = json!(false);
    known["transaction"] = json!(row.get::<_, String>(0));
    known["received"]["transaction"] = json!(other.get::<_, String>(0));
    know(&workspace, &key, &known).await;
    for _ in 0..2 {
        let output = workspace
            .run(["run", "archive", "--now", "--output", "json"])
            .expect(1);
        let said = output.json()["runs"][0]["steps"][0]["error"]
            .as_str()
            .unwrap()
            .to_owned();
        assert!(
            said.contains("nothing was taken back") && said.contains("another transaction's"),
            "{said}"
        );
        assert!(said.contains("maint archive settle"), "{said}");
        assert_eq!(
            there
                .number("SELECT count(*) FROM a WHERE v = 'other'")
                .await,
            20
        );
        assert_eq!(there.number("SELECT count(*) FROM a").await, 40);
    }
    // Of a batch that is there as it came, all is taken back.
    let own = there
        .strings("SELECT DISTINCT xmin::text FROM a WHERE v = 'v'")
        .await
        .remove(0);
    known["received"]["transaction"] = json!(own);
    know(&workspace, &key, &known).await;
    archive(&workspace);
    assert_eq!(
        there
            .number("SELECT count(*) FROM a WHERE v = 'other'")
            .await,
        20
    );
    assert_eq!(there.number("SELECT count(*) FROM a").await, 20);
}
}

/// Rows that have left for another database, and that a source which was set back has again, are
/// there once afterwards: no number tells that it was, once it has gone on.
async fn a_source_that_was_set_back_sends_nothing_twice(major: u32) {
    let mut here = Kept::new(major);
    let there = fresh_database(major).await;
    connect(&here.url())
        .await
        .batch_execute(ROWS)
        .await
        .unwrap();
    let workspace = Workspace::new("targets: {}\n");
    task(&workspace, &here.url(), &there.url, 80);
    assert_eq!(archive(&workspace)["rows"], 20);
    here.keep();
    task(&workspace, &here.url(), &there.url, 60);
    let run = archive(&workspace);
    assert_eq!(
        (told(&run), &run["rows"]),
        ((vec!["archive"], vec![]), &json!(20)),
        "{run:#}"
    );
    let last = manifests(&workspace).await.remove(1).1;
    here.set_back();
    let id: u64 = last["transaction"].as_str().unwrap().parse().unwrap();
    as_transaction(&here.url(), id + 10, "SELECT 1").await;
    task(&workspace, &here.url(), &there.url, 40);
    let run = archive(&workspace);
    assert_eq!(
        told(&run),
        (vec!["archive"], vec!["archive.undone"]),
        "{run:#}"
    );
    assert_eq!(run["rows"], 40, "{run:#}");
    assert_eq!(there.number("SELECT count(*) FROM a").await, 60);
    assert_eq!(there.number("SELECT count(DISTINCT id) FROM a").await, 60);
}

#[tokio::test]
async fn a_source_that_was_set_back_sends_nothing_twice_15() {
    a_source_that_was_set_back_sends_nothing_twice(15).await;
}

#[tokio::test]
async fn a_source_that_was_set_back_sends_nothing_twice_17() {
    a_source_that_was_set_back_sends_nothing_twice(17).await;
}
