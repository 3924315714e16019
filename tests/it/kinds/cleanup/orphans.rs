//! Orphans are found by one question and judged again as they go.

use std::process::{Child, Stdio};

use serde_json::{Value, json};

use super::{checksum, clean, nothing_is_left, workspace};
use crate::support::patience::Patience;
use crate::support::servers::{TestDatabase, fresh_database};
use crate::support::workspace::Workspace;

/// 3,500 children with a parent, and 2,500 without, mixed.
const FAMILY: &str = "CREATE TABLE parent (id bigint PRIMARY KEY);
    CREATE TABLE child (id bigint PRIMARY KEY, parent_id bigint NOT NULL, note text DEFAULT repeat('x', 100));
    INSERT INTO parent SELECT n FROM generate_series(1, 1000) n;
    INSERT INTO child SELECT n, CASE WHEN n % 12 < 5 THEN 90000 + n ELSE n % 1000 + 1 END FROM generate_series(1, 6000) n;
    ANALYZE parent, child";
const ORPHANS: &str =
    "SELECT count(*) FROM child c WHERE NOT EXISTS (SELECT FROM parent p WHERE p.id = c.parent_id)";
/// Somebody's transaction is in the way of a batch.
const WAITS: &str = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
    AND query LIKE 'DELETE FROM ONLY%' AND wait_event_type = 'Lock'";

fn task(db: &TestDatabase) -> Workspace {
    Workspace::for_target(&db.url).task(
        "cleanup",
        "kind: cleanup\ntarget: app\noptions: { rules: [{ table: child, orphaned: { columns: [parent_id], parent: parent } }] }\n\
         limits: { lock_timeout: 10min }\n",
    )
}

/// A run that has come to a row which somebody holds.
async fn waiting(db: &TestDatabase, workspace: &Workspace) -> Child {
    let mut process = workspace
        .process(["run", "cleanup", "--now", "--output", "json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let patience = Patience::until("a batch to wait for the row that is held");
    while db.number(WAITS).await == 0 {
        assert!(process.try_wait().unwrap().is_none(), "it ended");
        patience.pause().await;
    }
    process
}

for_oldest_and_newest! {
    /// Who got a parent after the question stays; who was only changed, and
    /// lies elsewhere since, goes all the same.
    async fn what_changes_meanwhile_is_judged_again(major: u32) {
        let db = fresh_database(major).await;
        db.execute(FAMILY).await;
        assert_eq!(db.number(ORPHANS).await, 2500);
        let workspace = task(&db);
        let plan = workspace.run(["plan", "cleanup", "--output", "json", "--full"]).expect(0).json();
        let step = &plan["plans"][0]["plan"]["steps"][0];
        assert_eq!(step["work"]["walk"]["sought"], true, "{step:#}");
        assert!(step["details"].to_string().contains("found by one question"), "{step:#}");
        let holder = db.connect().await;
        // Adopted, moved, and (without its own row being touched) given a parent.
        holder.batch_execute("BEGIN; UPDATE child SET parent_id = 7 WHERE id = 3000;
            UPDATE child SET note = repeat('y', 3000) WHERE id = 3001;
            INSERT INTO parent VALUES (93003)").await.unwrap();
        let process = waiting(&db, &workspace).await;
        let left = db.number(ORPHANS).await;
        assert!(left < 2500, "batches before that one are committed: {left}");
        holder.batch_execute("COMMIT").await.unwrap();
        let output = tokio::task::spawn_blocking(|| process.wait_with_output().unwrap()).await.unwrap();
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(0), "{document:#}");
        let run = &document["runs"][0];
        assert_eq!((&run["status"], &run["rows"]), (&json!("succeeded"), &json!(2498)), "{document:#}");
        assert_eq!(db.number(ORPHANS).await, 0);
        assert_eq!(db.number("SELECT count(*) FROM child").await, 3502);
        assert_eq!(db.number("SELECT count(*) FROM child WHERE id IN (3000, 3003)").await, 2);
        nothing_is_left(&workspace);
    }
}

for_oldest_and_newest! {
    /// What a killed run has not come to, the next one finds.
    async fn killed_half_way(major: u32) {
        let db = fresh_database(major).await;
        db.execute(FAMILY).await;
        let kept = checksum(&db, "SELECT * FROM child c WHERE EXISTS (SELECT FROM parent p WHERE p.id = c.parent_id)").await;
        let workspace = task(&db);
        let holder = db.connect().await;
        holder.batch_execute("BEGIN; SELECT * FROM child WHERE id = 3000 FOR UPDATE").await.unwrap();
        let mut process = waiting(&db, &workspace).await;
        process.kill().unwrap();
        process.wait().unwrap();
        let ended = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'maint%'";
        let patience = Patience::until("the sessions of the killed run to end");
        while db.number(ended).await > 0 {
            patience.pause().await;
        }
        holder.batch_execute("ROLLBACK").await.unwrap();
        let left = db.number(ORPHANS).await;
        assert!((1..2500).contains(&left), "{left}");
        let run = clean(&workspace);
        assert_eq!(run["rows"], left, "{run:#}");
        assert_eq!(checksum(&db, "SELECT * FROM child").await, kept);
        nothing_is_left(&workspace);
    }
}

for_oldest_and_newest! {
    /// Rows that another rule of the same run makes orphans were not there
    /// when the plan was made, and go all the same.
    async fn made_by_the_rule_before(major: u32) {
        let db = fresh_database(major).await;
        db.execute(FAMILY).await;
        let kept = checksum(&db, "SELECT * FROM child WHERE parent_id BETWEEN 101 AND 1000").await;
        let gone = db.number("SELECT count(*) FROM child WHERE parent_id NOT BETWEEN 101 AND 1000").await;
        let workspace = workspace(&db, &json!([
            { "table": "child", "orphaned": { "columns": ["parent_id"], "parent": "parent" }, "max_share": "100%" },
            { "table": "parent", "where": "id <= 100" },
        ]));
        let run = clean(&workspace);
        assert_eq!(run["rows"], gone + 100, "{run:#}");
        assert_eq!(checksum(&db, "SELECT * FROM child").await, kept);
        nothing_is_left(&workspace);
    }
}

for_oldest_and_newest! {
    /// What today's run orphans goes today, also where there was no orphan before; and what that orphans in turn.
    async fn what_this_run_leaves_behind_goes_too(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE sess (id int PRIMARY KEY, at timestamptz); CREATE TABLE kid (id int PRIMARY KEY, sess int); CREATE TABLE grand (kid int);
            INSERT INTO sess SELECT n, now() - CASE WHEN n <= 10 THEN interval '100 days' ELSE interval '1 day' END FROM generate_series(1, 100) n;
            INSERT INTO kid SELECT n, n FROM generate_series(1, 100) n; INSERT INTO grand SELECT generate_series(1, 100)").await;
        let orphans = |table: &str, column: &str, parent: &str| json!({ "table": table, "orphaned": { "columns": [column], "parent": parent } });
        let rules = json!([orphans("grand", "kid", "kid"), { "table": "sess", "column": "at", "older_than": "30d" }, orphans("kid", "sess", "sess")]);
        let workspace = workspace(&db, &rules);
        let done = clean(&workspace);
        let left = "SELECT (SELECT count(*) FROM sess) || ' ' || (SELECT count(*) FROM kid) || ' ' || (SELECT count(*) FROM grand)";
        assert_eq!(db.strings(left).await, ["90 90 90"], "{done:#}");
        assert_eq!(done["rows"], 30, "{done:#}");
        nothing_is_left(&workspace);
    }
}
