//! What was detached is gone on with, whatever its table is called by now; where nobody can know
//! what that is, it is told.

use serde_json::{Value, json};

use crate::support::servers::{TestDatabase, fresh_database};
use crate::support::workspace::Workspace;

/// A task of this kind for a table, which keeps what it detaches for a while.
fn options(kind: &str, table: &str, folder: &str) -> Value {
    match kind {
        "partitions" => {
            json!({ "tables": [table], "interval": "year", "ahead": 0, "keep": "2y", "time_zone": "UTC" })
        }
        "cleanup" => {
            json!({ "rules": [{ "table": table, "column": "at", "older_than": "2y", "time_zone": "UTC" }] })
        }
        _ => {
            json!({ "table": table, "column": "at", "older_than": "2y", "time_zone": "UTC", "destination": { "files": format!("file://{folder}") } })
        }
    }
}

fn file(kind: &str, options: &Value) -> String {
    format!("kind: {kind}\ntarget: app\noptions: {options}\n")
}

fn run(workspace: &Workspace, kind: &str) -> Value {
    let document = workspace.run(["run", kind, "--now", "--output", "json"]);
    document.json()["runs"][0].clone()
}

fn actions(run: &Value) -> Vec<String> {
    let steps = run["steps"].as_array().unwrap().iter();
    steps
        .map(|s| {
            format!(
                "{} {} {}",
                s["action"].as_str().unwrap(),
                s["object"].as_str().unwrap(),
                s["status"].as_str().unwrap()
            )
        })
        .collect()
}

fn told(run: &Value) -> Vec<&str> {
    let findings = run["findings"].as_array().unwrap().iter();
    findings.map(|f| f["code"].as_str().unwrap()).collect()
}

/// A table with a partition of this year, and one that a run has detached and died over.
async fn detached(db: &TestDatabase, workspace: &Workspace, kind: &str) {
    db.execute("CREATE TABLE ev (id int, at timestamptz NOT NULL) PARTITION BY RANGE (at);
        CREATE TABLE ev_now PARTITION OF ev FOR VALUES FROM ('2021-01-01 00:00+00') TO (date_trunc('year', now() + interval '1 year'));
        CREATE TABLE ev_2020 (LIKE ev); INSERT INTO ev_2020 SELECT g, '2020-03-03' FROM generate_series(1, 10) g").await;
    let mark = match kind {
        "partitions" => "maint: retired partition of public.ev since 2021-01-01T00:00:00+00:00",
        "cleanup" => "maint: expired partition of public.ev",
        _ => "maint: to be archived, once a partition of public.ev",
    };
    db.execute(&format!(
        "COMMENT ON TABLE ev_2020 IS E'{mark}\\nas public.ev_2020\\nold events'"
    ))
    .await;
    workspace.knows_mark(kind, db, "public.ev_2020").await;
}

for_each_version! {
    async fn a_renamed_table_goes_on_with_what_was_its_own(major: u32) {
        for kind in ["partitions", "cleanup", "archive"] {
            let db = fresh_database(major).await;
            let folder = tempfile::tempdir().unwrap();
            let folder = folder.path().to_str().unwrap().to_owned();
            let workspace = Workspace::for_target(&db.url).task(kind, &file(kind, &options(kind, "events", &folder)));
            detached(&db, &workspace, kind).await;
            workspace.knows_part(kind, &db, "public.ev_2020", "public.ev").await;
            db.execute("ALTER TABLE ev RENAME TO events").await;
            let first = run(&workspace, kind);
            assert_eq!(actions(&first), ["mark_partition public.ev_2020 succeeded"], "{kind}: {first:#}");
            assert_eq!(db.number("SELECT count(*) FROM ev_2020").await, 10);
            let comment = db.strings("SELECT obj_description('ev_2020'::regclass)").await.remove(0);
            assert!(comment.contains("public.events") && comment.ends_with("\nas public.ev_2020\nold events"), "{comment}");
            let second = run(&workspace, kind);
            assert_eq!(second["status"], "succeeded", "{kind}: {second:#}");
            assert_eq!(db.number("SELECT count(*) FROM pg_class WHERE relname = 'ev_2020'").await, 0, "{kind}: {second:#}");
            assert_eq!(actions(&run(&workspace, kind)), Vec::<String>::new(), "{kind}");
        }
    }
}

for_each_version! {
    /// Its table is called something else, and nobody knows what: it stays, and is told each time.
    async fn what_nobody_knows_the_table_of_is_told(major: u32) {
        for kind in ["partitions", "cleanup", "archive"] {
            let db = fresh_database(major).await;
            let folder = tempfile::tempdir().unwrap();
            let folder = folder.path().to_str().unwrap().to_owned();
            let workspace = Workspace::for_target(&db.url).task(kind, &file(kind, &options(kind, "events", &folder)));
            detached(&db, &workspace, kind).await;
            // Somebody else's table of the same kind is none of ours.
            db.execute("CREATE TABLE other (LIKE ev); COMMENT ON TABLE other IS E'maint: retired partition of public.gone since 2021-01-01T00:00:00+00:00\\nas public.other'").await;
            db.execute("ALTER TABLE ev RENAME TO events").await;
            for _ in 0..2 {
                let run = run(&workspace, kind);
                assert_eq!(actions(&run), Vec::<String>::new(), "{kind}: {run:#}");
                assert_eq!((told(&run), run["status"].as_str().unwrap()), (vec!["partitions.forgotten"], "succeeded"), "{kind}: {run:#}");
            }
            assert_eq!(db.number("SELECT count(*) FROM ev_2020").await, 10);
        }
    }
}
