//! A table that somebody drops, moves or renames in the middle of a step: where rows had gone, the step has failed
//! and says so; where none had, it is skipped.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::aftermath::ways;
use crate::kinds::throttle::Running;
use crate::support::patience::Patience;
use crate::support::servers::{TestDatabase, fresh_database};
use crate::support::workspace::Workspace;

/// Has each batch take its time, so that it is small and many are left.
const TABLE: &str = "DROP TABLE IF EXISTS t, other, parent CASCADE; DROP SCHEMA IF EXISTS away CASCADE; CREATE SCHEMA away;
    CREATE TABLE parent (id int PRIMARY KEY); INSERT INTO parent VALUES (0);
    CREATE TABLE t (id int PRIMARY KEY, parent int, at timestamptz NOT NULL, pad text);
    INSERT INTO t SELECT n, n, now() - interval '2 years', repeat('x', 500) FROM generate_series(1, 3000) n;
    CREATE OR REPLACE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.02); RETURN NULL; END';
    CREATE TRIGGER slow AFTER DELETE ON t FOR EACH STATEMENT EXECUTE FUNCTION slow(); ANALYZE t, parent";

/// What is done, and where the rows are then.
const CHANGES: [(&str, Option<&str>); 3] = [
    ("DROP TABLE t", None),
    ("ALTER TABLE t SET SCHEMA away", Some("away.t")),
    (
        "ALTER TABLE t RENAME TO other; CREATE TABLE t (LIKE other)",
        Some("other"),
    ),
];

/// A task that pauses while the file is there.
fn task(db: &TestDatabase, kind: &str, options: &Value) -> (Workspace, PathBuf) {
    let workspace = Workspace::for_target(&db.url);
    let pause = workspace.path().join("pause");
    let task = format!(
        "kind: {kind}\ntarget: app\noptions: {options}\nlimits: {{ lock_timeout: 5s }}\nthrottle: {{ pause_file: {} }}\n",
        pause.display()
    );
    workspace.file(&format!("tasks/{kind}.yaml"), &task);
    (workspace, pause)
}

/// The step of the table, once the run has ended with this code.
fn step(running: Running<'_>, code: i32) -> Value {
    let run = running.end(code)["runs"][0].clone();
    let steps = run["steps"].as_array().unwrap();
    let step = steps.iter().find(|step| step["object"] == "public.t");
    step.unwrap_or_else(|| panic!("{run:#}")).clone()
}

for_versions! {
    [pg17 = 17]
    /// By blocks, along a key, by places, by places that are asked for once.
    async fn however_it_is_walked(major: u32) {
        let db = fresh_database(major).await;
        let aged = |walk: &str| json!({ "table": "t", "column": "at", "older_than": "1y", "walk": walk });
        let rules = [
            ("blocks", aged("blocks")),
            ("key", aged("key")),
            ("places", json!({ "table": "t", "orphaned": { "columns": ["parent"], "parent": "parent" }, "max_share": "100%" })),
            ("once", json!({ "table": "t", "where": "id <> (SELECT max(id) + 1 FROM public.t)", "max_share": "100%" })),
        ];
        for (way, rule) in rules {
            for (change, left_in) in CHANGES {
                db.execute(TABLE).await;
                let (workspace, pause) = task(&db, "cleanup", &json!({ "rules": [rule], "batch_goal": "10ms" }));
                let mut running = Running::begin(&workspace, "cleanup");
                let patience = Patience::until("the first batches to be gone");
                while db.number("SELECT count(*) FROM t").await == 3_000 {
                    patience.pause().await;
                }
                std::fs::write(&pause, "").unwrap();
                running.until("paused: ");
                let left = db.number("SELECT count(*) FROM t").await;
                assert!((1..3_000).contains(&left), "{way}: {left}");
                db.execute(change).await;
                std::fs::remove_file(&pause).unwrap();
                let step = step(running, 1);
                assert_eq!((&step["status"], step["rows"].as_i64()), (&json!("failed"), Some(3_000 - left)), "{way} {change}: {step:#}");
                let why = step["error"].as_str().unwrap();
                let told = format!("{} rows had gone before", 3_000 - left);
                assert_eq!(why.matches(&told).count(), 1, "{way} {change}: {why}");
                assert!(why.contains("what is left was not looked at"), "{way} {change}: {why}");
                if let Some(place) = left_in {
                    assert_eq!(db.number(&format!("SELECT count(*) FROM {place}")).await, left, "{way} {change}");
                    // The next run says the same of a table that is not there, and takes nothing of what has another name.
                    workspace.run(["run", "cleanup", "--now"]);
                    assert_eq!(db.number(&format!("SELECT count(*) FROM {place}")).await, left, "{way} {change}");
                }
            }
        }
    }
}

for_versions! {
    [pg17 = 17]
    /// Before the first row has gone there is nothing to do any more.
    async fn before_the_first_row(major: u32) {
        let db = fresh_database(major).await;
        let folder = tempfile::tempdir().unwrap();
        db.execute("CREATE TABLE kept (id int, parent int, at timestamptz NOT NULL, pad text)").await;
        for (n, (change, _)) in CHANGES.into_iter().enumerate() {
            let files = format!("file://{}/{n}", folder.path().display());
            for (name, kind, options) in ways(&files) {
                if name == "database" {
                    continue;
                }
                db.execute(TABLE).await;
                let (workspace, _) = task(&db, kind, &options);
                // Whoever of the two finds that each waits for the other is to be maint, which tries again.
                let holder = db.connect().await;
                holder.batch_execute("SET deadlock_timeout = '10min'; BEGIN; SELECT FROM t WHERE id = 1 FOR UPDATE").await.unwrap();
                let running = Running::begin(&workspace, kind);
                let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
                let patience = Patience::until("the batch to wait for the row");
                while db.number(waits).await == 0 {
                    patience.pause().await;
                }
                holder.batch_execute(change).await.unwrap();
                holder.batch_execute("COMMIT").await.unwrap();
                let step = step(running, 0);
                assert_eq!((&step["status"], step["rows"].as_i64().unwrap_or(0)), (&json!("skipped"), 0), "{name} {change}: {step:#}");
                assert!(!step["error"].as_str().unwrap().contains("what is left"), "{name} {change}: {step:#}");
                assert_eq!(db.number("SELECT count(*) FROM kept").await, 0, "{name} {change}");
            }
        }
    }
}

for_versions! {
    [pg17 = 17]
    /// Rows that have moved to the front of their table are told, too, and are nowhere else.
    async fn while_rows_move_to_the_front(major: u32) {
        for (change, left_in) in CHANGES {
            let db = fresh_database(major).await;
            crate::kinds::repack::damaged(&db, 60_000).await;
            db.execute("DROP TABLE child; CREATE SCHEMA away; CREATE TABLE hold ()").await;
            // It waits as soon as the first rows have left the end.
            let end = db.number("SELECT max((ctid::text::point)[0])::int8 FROM t").await;
            db.execute(&format!("CREATE FUNCTION holds() RETURNS boolean LANGUAGE plpgsql SET search_path = public AS $$ BEGIN
                RETURN CASE WHEN to_regclass('hold') IS NOT NULL THEN (SELECT max((ctid::text::point)[0]) FROM t) < {end} ELSE false END; END $$")).await;
            let workspace = Workspace::for_target(&db.url).task("repack",
                "kind: repack\ntarget: app\noptions: { min_size: 100kB, way: move, batch_goal: 10ms }\nthrottle: { query: 'SELECT public.holds()' }\n");
            let rows = "SELECT count(*)::text || ' ' || sum(hashtextextended(ROW(x.*)::text, 0)::numeric)::text FROM";
            let before = db.strings(&format!("{rows} t x")).await;
            let mut running = Running::begin(&workspace, "repack");
            running.until("paused: ");
            db.execute(&format!("DROP TABLE hold; {change}")).await;
            let step = step(running, 1);
            let moved = step["rows"].as_i64().unwrap();
            assert!(step["status"] == "failed" && moved > 0, "{change}: {step:#}");
            let why = step["error"].as_str().unwrap();
            assert!(why.contains("what is left was not looked at") && why.matches(" moved").count() == 1, "{change}: {why}");
            if let Some(place) = left_in {
                assert_eq!(db.strings(&format!("{rows} {place} x")).await, before, "{change}");
            }
        }
    }
}

for_versions! {
    [pg16 = 16]
    /// Tenants that are dropped in the middle of a run: the one at work has failed, one to come is skipped, and the others
    /// are dealt with.
    async fn tenants_that_are_dropped(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.02); RETURN NULL; END'").await;
        let tenants = ["tenant_a", "tenant_b", "tenant_c"];
        for tenant in tenants {
            db.execute(&format!("CREATE SCHEMA {tenant}; CREATE TABLE {tenant}.t (id int PRIMARY KEY, at timestamptz NOT NULL, pad text);
                INSERT INTO {tenant}.t SELECT n, now() - interval '2 years', repeat('x', 500) FROM generate_series(1, 2000) n;
                CREATE TRIGGER slow AFTER DELETE ON {tenant}.t FOR EACH STATEMENT EXECUTE FUNCTION slow(); ANALYZE {tenant}.t")).await;
        }
        let options = json!({ "rules": [{ "table": "t", "schemas": ["tenant_*"], "column": "at", "older_than": "1y" }], "batch_goal": "10ms" });
        let workspace = Workspace::for_target(&db.url);
        let pause = workspace.path().join("pause");
        let task = format!("kind: cleanup\ntarget: app\noptions: {options}\nlimits: {{ jobs: 1, lock_timeout: 5s }}\nthrottle: {{ pause_file: {} }}\n", pause.display());
        workspace.file("tasks/cleanup.yaml", &task);
        let mut running = Running::begin(&workspace, "cleanup");
        let patience = Patience::until("the first batches to be gone");
        let left = async || {
            let mut left = Vec::new();
            for tenant in tenants {
                left.push(db.number(&format!("SELECT count(*) FROM {tenant}.t")).await);
            }
            left
        };
        while left().await.iter().all(|rows| *rows == 2_000) {
            patience.pause().await;
        }
        std::fs::write(&pause, "").unwrap();
        running.until("paused: ");
        let left = left().await;
        let at_work = left.iter().position(|rows| *rows < 2_000).unwrap();
        assert!(left[at_work] > 0, "{left:?}");
        let (gone, other) = (tenants[at_work], tenants[(at_work + 1) % 3]);
        db.execute(&format!("DROP SCHEMA {gone} CASCADE; DROP SCHEMA {other} CASCADE")).await;
        std::fs::remove_file(&pause).unwrap();
        let run = running.end(1)["runs"][0].clone();
        assert_eq!(run["status"], "partial", "{run:#}");
        let steps = run["steps"].as_array().unwrap();
        for tenant in tenants {
            let object = format!("{tenant}.t");
            let step = steps.iter().find(|step| step["object"] == *object).unwrap_or_else(|| panic!("{object}: {run:#}"));
            let expected = if tenant == gone { "failed" } else if tenant == other { "skipped" } else { "succeeded" };
            assert_eq!(step["status"], expected, "{object}: {step:#}");
        }
        let step = steps.iter().find(|step| step["object"] == format!("{gone}.t")).unwrap();
        assert_eq!(step["rows"], 2_000 - left[at_work], "{step:#}");
        assert!(step["error"].as_str().unwrap().contains("what is left was not looked at"), "{step:#}");
        workspace.run(["run", "cleanup", "--now"]).expect(0);
    }
}
