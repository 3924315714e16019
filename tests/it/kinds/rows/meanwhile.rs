//! What somebody changes about the table between two batches holds for the next one.

use super::aftermath::ways;
use super::{cleanup, workspace};
use crate::kinds::throttle::Running;
use crate::support::patience::Patience;
use crate::support::servers::{TestDatabase, fresh_database};

/// What is done between two batches, and what becomes of the step: its status, and words of its error.
const CHANGES: [(&str, &str, &str); 8] = [
    (
        "ALTER TABLE t DETACH PARTITION t1",
        "failed",
        "no part of its table any more",
    ),
    (
        "ALTER TABLE t DETACH PARTITION t1; ALTER TABLE keepers ATTACH PARTITION t1 DEFAULT",
        "failed",
        "no part of its table any more",
    ),
    (
        "ALTER TABLE h NO INHERIT t",
        "failed",
        "no part of its table any more",
    ),
    (
        "ALTER TABLE t1 RENAME TO gone; CREATE TABLE t1 (LIKE gone)",
        "failed",
        "another name now",
    ),
    ("DROP TABLE t1", "failed", "vanished"),
    (
        "CREATE SCHEMA IF NOT EXISTS away; ALTER TABLE t1 SET SCHEMA away; ALTER TABLE t DETACH PARTITION away.t1",
        "failed",
        "vanished",
    ),
    (
        "ALTER TABLE t DROP COLUMN at",
        "failed",
        "itself is still there|columns of public.t1 have changed",
    ),
    (
        "CREATE TABLE child (id int, at timestamptz, FOREIGN KEY (id, at) REFERENCES t1 ON DELETE CASCADE); INSERT INTO child SELECT id, at FROM t1",
        "failed",
        "child_id_at_fkey of public.child has come",
    ),
];

/// Has each batch take its time, so that it is small and many are left.
fn slow(table: &str) -> String {
    format!(
        "CREATE OR REPLACE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.02); RETURN NULL; END';
         CREATE TRIGGER slow AFTER DELETE ON {table} FOR EACH STATEMENT EXECUTE FUNCTION slow()"
    )
}

async fn fill(db: &TestDatabase, heir: bool) {
    let made = match heir {
        true => {
            "CREATE TABLE t (id int, at timestamptz NOT NULL, pad text); CREATE TABLE h (PRIMARY KEY (id, at)) INHERITS (t)"
        }
        false => {
            "CREATE TABLE t (id int, at timestamptz NOT NULL, pad text, PRIMARY KEY (id, at)) PARTITION BY LIST (pad); CREATE TABLE t1 PARTITION OF t (PRIMARY KEY (id, at)) DEFAULT"
        }
    };
    let made = made.replace(", PRIMARY KEY (id, at)) PARTITION", ") PARTITION");
    let into = if heir { "h" } else { "t" };
    db.execute(&format!(
        "DROP TABLE IF EXISTS child, t, h, t1, gone, keepers CASCADE; DROP SCHEMA IF EXISTS away CASCADE; {made};
         CREATE TABLE keepers (id int, at timestamptz NOT NULL, pad text) PARTITION BY LIST (pad);
         INSERT INTO {into} SELECT n, now() - interval '2 years', repeat('x', 500) FROM generate_series(1, 3000) n; {}; ANALYZE",
        slow(if heir { "h" } else { "t1" })
    ))
    .await;
}

for_versions! {
    [pg15 = 15]
    /// A partition or heir that leaves, a table that is renamed, a foreign key that takes rows along: from the
    /// next batch on nothing goes.
    async fn what_changes_between_batches_holds(major: u32) {
        let (db, there) = (fresh_database(major).await, fresh_database(major).await);
        let folder = tempfile::tempdir().unwrap();
        for (n, (change, status, words)) in CHANGES.into_iter().enumerate() {
            let object = if change.contains(" h ") { "h" } else { "t1" };
            for (name, kind, mut options) in ways(&format!("file://{}/{n}", folder.path().display())) {
                fill(&db, object == "h").await;
                for one in [&db, &there] {
                    one.execute("DROP TABLE IF EXISTS kept; CREATE TABLE kept (id int, at timestamptz NOT NULL, pad text)").await;
                }
                options["batch_goal"] = "10ms".into();
                let workspace = workspace(&db, &there, kind, &options);
                let pause = workspace.path().join("pause");
                workspace.file(
                    &format!("tasks/{kind}.yaml"),
                    &format!("kind: {kind}\ntarget: app\noptions: {options}\nlimits: {{ lock_timeout: 5s }}\nthrottle: {{ pause_file: {} }}\n", pause.display()),
                );
                let mut running = Running::begin(&workspace, kind);
                let before = format!("SELECT count(*) FROM {object}");
                let patience = Patience::until("the first batches to be gone");
                while db.number(&before).await == 3_000 {
                    patience.pause().await;
                }
                std::fs::write(&pause, "").unwrap();
                running.until("paused: ");
                db.execute(change).await;
                let count = match change {
                    "DROP TABLE t1" => "SELECT 1::int8".to_owned(),
                    _ if change.contains("gone") => "SELECT count(*) FROM gone".to_owned(),
                    _ if change.contains("away") => "SELECT count(*) FROM away.t1".to_owned(),
                    _ => format!("SELECT count(*) FROM {object}"),
                };
                let left = db.number(&count).await;
                std::fs::remove_file(&pause).unwrap();
                let done = running.end(i32::from(status == "failed"))["runs"][0].clone();
                assert!(left > 0, "{name} {change}: everything had gone");
                let now = db.number(&count).await;
                assert_eq!(now, left, "{name} {change}: {done:#}");
                let steps = done["steps"].as_array().unwrap();
                let step = steps.iter().find(|s| s["object"] == format!("public.{object}")).unwrap();
                assert_eq!(step["status"], status, "{name} {change}: {step:#}");
                let why = step["error"].as_str().unwrap();
                assert!(words.split('|').any(|words| why.contains(words)), "{name} {change}: {why}");
                if !change.contains("COLUMN") && !change.contains("child") {
                    let told = format!("{} rows had gone before", step["rows"]);
                    assert_eq!(why.matches(&told).count(), 1, "{name} {change}: {why}");
                    assert!(why.contains("what is left was not looked at"), "{name} {change}: {why}");
                }
                if change.contains("child") {
                    assert_eq!(db.number("SELECT count(*) FROM child").await, left);
                }
            }
        }
    }
}

/// What is done between the plan and the step that would drop a partition, and which of its ten rows are there afterwards.
const BEFORE_THE_DROP: [&str; 4] = [
    "CREATE FUNCTION holds() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; CREATE TRIGGER holds BEFORE DELETE ON ev FOR EACH ROW EXECUTE FUNCTION holds()",
    "CREATE RULE stays AS ON DELETE TO p1 DO INSTEAD NOTHING",
    "CREATE PUBLICATION follows FOR TABLE ev",
    "ALTER TABLE ev DETACH PARTITION p1; UPDATE p1 SET at = '2090-06-01'; ALTER TABLE ev ATTACH PARTITION p1 FOR VALUES FROM ('2090-01-01') TO ('2091-01-01')",
];

for_versions! {
    [pg16 = 16]
    /// A partition that was to be dropped as a whole stays where somebody has changed meanwhile what decided that.
    async fn what_changes_before_the_drop_holds(major: u32) {
        let db = fresh_database(major).await;
        let folder = tempfile::tempdir().unwrap();
        for (n, change) in BEFORE_THE_DROP.into_iter().enumerate() {
            for (name, kind, options) in ways(&format!("file://{}/{n}", folder.path().display())) {
                if !matches!(name, "delete" | "files") {
                    continue;
                }
                db.execute("DROP PUBLICATION IF EXISTS follows; DROP TABLE IF EXISTS ev CASCADE; DROP FUNCTION IF EXISTS holds; CREATE TABLE ev (id int, at timestamptz NOT NULL) PARTITION BY RANGE (at);
                    CREATE TABLE p1 PARTITION OF ev FOR VALUES FROM ('2019-01-01') TO ('2020-01-01'); CREATE TABLE p2 PARTITION OF ev FOR VALUES FROM ('2020-01-01') TO ('2090-01-01');
                    INSERT INTO ev SELECT n, '2019-06-01' FROM generate_series(1, 10) n").await;
                let options = options.to_string().replace("\"t\"", "\"ev\"");
                let workspace = cleanup(&db, &serde_json::json!([]));
                let pause = workspace.path().join("pause");
                let task = format!("kind: {kind}\ntarget: app\noptions: {options}\nthrottle: {{ pause_file: {} }}\n", pause.display());
                workspace.file("tasks/cleanup.yaml", &task);
                let planned = workspace.run(["plan", "cleanup"]).expect(0).stdout;
                assert!(planned.contains("_partition  public.p1"), "{planned}");
                std::fs::write(&pause, "").unwrap();
                let mut running = Running::begin(&workspace, "cleanup");
                running.until("paused: ");
                db.execute(change).await;
                std::fs::remove_file(&pause).unwrap();
                let done = running.end(0)["runs"][0].clone();
                assert_eq!(db.number("SELECT count(*) FROM p1").await, 10, "{name} {change}: {done:#}");
                let step = &done["steps"][0];
                assert_eq!(step["status"], "skipped", "{step:#}");
                assert!(step["error"].as_str().unwrap().contains("have changed since the plan was made"), "{step:#}");
            }
        }
    }
}

for_versions! {
    [pg16 = 16]
    /// An archive stores all of each row, as it is: columns that come, or get another type, between two batches
    /// end the step.
    async fn columns_that_change_between_batches_end_an_archive(major: u32) {
        let (db, there) = (fresh_database(major).await, fresh_database(major).await);
        let folder = tempfile::tempdir().unwrap();
        for (n, change) in ["ALTER TABLE t ADD COLUMN more text; UPDATE t SET more = 'm' || id", "ALTER TABLE t ALTER n TYPE real USING n"].into_iter().enumerate() {
            for (name, kind, mut options) in ways(&format!("file://{}/{n}", folder.path().display())) {
                if n == 1 && matches!(name, "delete" | "table") {
                    continue;
                }
                db.execute(&format!("DROP TABLE IF EXISTS t; CREATE TABLE t (id int, n int, at timestamptz NOT NULL, pad text);
                    INSERT INTO t SELECT n, n, now() - interval '2 years', repeat('x', 500) FROM generate_series(1, 3000) n; {}; ANALYZE t", slow("t"))).await;
                for one in [&db, &there] {
                    one.execute("DROP TABLE IF EXISTS kept; CREATE TABLE kept (id int, n int, at timestamptz NOT NULL, pad text)").await;
                }
                options["batch_goal"] = "10ms".into();
                let workspace = workspace(&db, &there, kind, &options);
                let pause = workspace.path().join("pause");
                let task = format!("kind: {kind}\ntarget: app\noptions: {options}\nlimits: {{ lock_timeout: 5s }}\nthrottle: {{ pause_file: {} }}\n", pause.display());
                workspace.file(&format!("tasks/{kind}.yaml"), &task);
                let mut running = Running::begin(&workspace, kind);
                let patience = Patience::until("the first batches to be gone");
                while db.number("SELECT count(*) FROM t").await == 3_000 {
                    patience.pause().await;
                }
                std::fs::write(&pause, "").unwrap();
                running.until("paused: ");
                db.execute(change).await;
                let left = db.number("SELECT count(*) FROM t").await;
                std::fs::remove_file(&pause).unwrap();
                assert!(left > 0, "{name}: everything had gone");
                if kind == "cleanup" {
                    // What goes for good goes with whatever columns.
                    running.end(0);
                    assert!(db.number("SELECT count(*) FROM t").await < left);
                    continue;
                }
                let done = running.end(1)["runs"][0].clone();
                assert_eq!(db.number("SELECT count(*) FROM t").await, left, "{name} {change}: {done:#}");
                let why = done["steps"][0]["error"].as_str().unwrap();
                assert!(why.contains("the columns of public.t have changed"), "{why}");
            }
        }
    }
}
