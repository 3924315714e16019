//! What somebody detaches by hand is theirs; what maint has detached is dropped
//! only if nobody has changed it since.

use serde_json::{Value, json};

use super::throttle::Running;
use crate::support::patience::Patience;
use crate::support::servers::{TestDatabase, fresh_database};
use crate::support::workspace::Workspace;

/// Partitions of 2020 and 2021 with old rows, and one for today.
async fn years(db: &TestDatabase, default: bool) {
    db.execute("CREATE TABLE ev (id int, at timestamptz NOT NULL, note text) PARTITION BY RANGE (at);
        CREATE TABLE ev_2020 PARTITION OF ev FOR VALUES FROM ('2020-01-01 00:00+00') TO ('2021-01-01 00:00+00');
        CREATE TABLE ev_2021 PARTITION OF ev FOR VALUES FROM ('2021-01-01 00:00+00') TO ('2022-01-01 00:00+00');
        CREATE TABLE ev_now PARTITION OF ev FOR VALUES FROM ('2022-01-01 00:00+00') TO ('2100-01-01 00:00+00');
        INSERT INTO ev SELECT n, '2020-06-01 00:00+00', 'old' FROM generate_series(1, 100) n;
        INSERT INTO ev SELECT n, '2021-06-01 00:00+00', 'old' FROM generate_series(101, 200) n;
        INSERT INTO ev VALUES (1000, now(), 'new'); COMMENT ON TABLE ev_2021 IS 'of 2021'").await;
    if default {
        db.execute("CREATE TABLE ev_rest PARTITION OF ev DEFAULT")
            .await;
    }
}

/// One task of this kind, which pauses before its first step while `pause` exists.
fn task(db: &TestDatabase, kind: &str, options: &str) -> Workspace {
    let workspace = Workspace::for_target(&db.url);
    let pause = workspace.path().join("pause");
    let yaml = format!(
        "kind: {kind}\ntarget: app\noptions: {options}\nlimits: {{ jobs: 1, lock_timeout: 1s, lock_retries: 20 }}\nthrottle: {{ pause_file: {} }}\n",
        pause.display()
    );
    workspace.task(kind, &yaml)
}

fn run(workspace: &Workspace, kind: &str) -> Value {
    let output = workspace.run(["run", kind, "--now", "--output", "json"]);
    output.expect(0).json()["runs"][0].clone()
}

fn step<'a>(run: &'a Value, object: &str) -> &'a Value {
    let steps = run["steps"].as_array().unwrap();
    let mut found = steps.iter().filter(|s| s["object"] == object);
    found.next().unwrap_or_else(|| panic!("{object}: {run:#}"))
}

async fn rows(db: &TestDatabase, table: &str) -> i64 {
    db.number(&format!("SELECT count(*) FROM {table}")).await
}

async fn exists(db: &TestDatabase, table: &str) -> bool {
    let sql = format!("SELECT count(*) FROM pg_class WHERE relname = '{table}'");
    db.number(&sql).await == 1
}

async fn comment(db: &TestDatabase, table: &str) -> String {
    let sql = format!("SELECT coalesce(obj_description('{table}'::regclass, 'pg_class'), 'none')");
    db.strings(&sql).await.remove(0)
}

fn options(kind: &str, folder: &std::path::Path) -> String {
    let rule = json!({ "table": "ev", "column": "at", "older_than": "1y" });
    match kind {
        "cleanup" => json!({ "rules": [rule] }).to_string(),
        "archive" => {
            let mut rule = rule;
            rule["destination"] = json!({ "files": format!("file://{}", folder.display()) });
            rule.to_string()
        }
        _ => {
            json!({ "tables": ["ev"], "interval": "year", "ahead": 0, "keep": "3y", "grace": "0s" })
                .to_string()
        }
    }
}

for_versions! {
    [pg15 = 15]
    /// Detached by hand after the plan was made: the table, its rows and its
    /// comment stay; the other one goes.
    async fn by_hand_before_its_step(major: u32) {
        for (kind, default) in [("cleanup", false), ("cleanup", true), ("archive", false), ("archive", true), ("partitions", false), ("partitions", true)] {
            let db = fresh_database(major).await;
            years(&db, default).await;
            let folder = tempfile::tempdir().unwrap();
            let workspace = task(&db, kind, &options(kind, folder.path()));
            let pause = workspace.path().join("pause");
            std::fs::write(&pause, "").unwrap();
            let mut running = Running::begin(&workspace, kind);
            running.until("paused: ");
            db.execute("ALTER TABLE ev DETACH PARTITION ev_2020; COMMENT ON TABLE ev_2020 IS 'lawsuit: keep'").await;
            std::fs::remove_file(&pause).unwrap();
            let document = running.end(0);
            let skipped = step(&document["runs"][0], "public.ev_2020");
            assert_eq!(skipped["status"], "skipped", "{kind} {default}: {document:#}");
            assert!(skipped["error"].as_str().unwrap().contains("no partition of public.ev any more"), "{document:#}");
            assert_eq!(step(&document["runs"][0], "public.ev_2021")["status"], "succeeded", "{document:#}");
            assert_eq!(rows(&db, "ev_2020").await, 100);
            assert_eq!(comment(&db, "ev_2020").await, "lawsuit: keep");
            assert!(!exists(&db, "ev_2021").await);
            assert_eq!(rows(&db, "ev").await, 1);
            let again = run(&workspace, kind);
            assert_eq!(again["steps"], json!([]), "{kind} {default}: {again:#}");
            assert_eq!(rows(&db, "ev_2020").await, 100);
        }
    }
}

for_versions! {
    [pg18 = 18]
    /// Attached again with other bounds after the plan was made, by which it is young: it stays, whatever becomes
    /// of what retires.
    async fn with_other_bounds_before_its_step(major: u32) {
        let grace: &[(&str, &str)] = &[("grace", "7d")];
        let attic: &[(&str, &str)] = &[("grace", "1d"), ("expired", "keep"), ("keep_in", "attic")];
        for (default, more) in [(false, &[][..]), (true, &[]), (false, grace), (true, attic)] {
            let db = fresh_database(major).await;
            years(&db, default).await;
            db.execute("CREATE SCHEMA attic").await;
            let options = options("partitions", workspace_folder());
            let mut options: Value = serde_json::from_str(&options).unwrap();
            for (option, value) in more {
                options[option] = (*value).into();
            }
            let options = options.to_string();
            let workspace = task(&db, "partitions", &options);
            let pause = workspace.path().join("pause");
            std::fs::write(&pause, "").unwrap();
            let mut running = Running::begin(&workspace, "partitions");
            running.until("paused: ");
            db.execute("ALTER TABLE ev DETACH PARTITION ev_2020; UPDATE ev_2020 SET at = '2100-06-01 00:00+00';
                ALTER TABLE ev ATTACH PARTITION ev_2020 FOR VALUES FROM ('2100-01-01 00:00+00') TO ('2101-01-01 00:00+00')").await;
            std::fs::remove_file(&pause).unwrap();
            let document = running.end(0);
            let skipped = step(&document["runs"][0], "public.ev_2020");
            assert_eq!(skipped["status"], "skipped", "{default} {more:?}: {document:#}");
            assert!(skipped["error"].as_str().unwrap().contains("other bounds than the plan saw"), "{document:#}");
            assert_eq!(step(&document["runs"][0], "public.ev_2021")["status"], "succeeded", "{document:#}");
            assert_eq!(rows(&db, "ev").await, 101, "{default} {more:?}: {document:#}");
            assert_eq!(comment(&db, "ev_2020").await, "none");
            let again = run(&workspace, "partitions");
            assert_eq!(again["steps"], json!([]), "{default} {more:?}: {again:#}");
        }
    }
}

/// What somebody changes after the plan was made, what is said of the old partitions then, and how many rows
/// their table has in the end.
const MEANWHILE: [(&str, &str, &str, i64); 3] = [
    (
        "ALTER TABLE ev RENAME TO former; CREATE TABLE ev (LIKE former) PARTITION BY RANGE (at)",
        "renamed its table",
        "former",
        201,
    ),
    (
        "CREATE TABLE ev_rest PARTITION OF ev DEFAULT",
        "has got a default partition",
        "ev",
        201,
    ),
    (
        "CREATE VIEW of_2020 AS SELECT * FROM ev_2020; CREATE VIEW of_2021 AS SELECT * FROM ev_2021",
        "depends on",
        "ev",
        201,
    ),
];

for_oldest_and_newest! {
    /// The table is another, has a default partition, or a partition could not be dropped any more: said so, and
    /// nothing is detached, without advice that would take along what others made.
    async fn a_table_that_changes_before_the_step(major: u32) {
        for (change, words, table, left) in MEANWHILE {
            let db = fresh_database(major).await;
            years(&db, false).await;
            let options = options("partitions", workspace_folder()).replace("\"ahead\":0", "\"ahead\":80");
            let workspace = task(&db, "partitions", &options);
            let pause = workspace.path().join("pause");
            std::fs::write(&pause, "").unwrap();
            let mut running = Running::begin(&workspace, "partitions");
            running.until("paused: ");
            db.execute(change).await;
            std::fs::remove_file(&pause).unwrap();
            let document = running.end(0);
            for name in ["public.ev_2020", "public.ev_2021"] {
                let step = step(&document["runs"][0], name);
                assert_eq!(step["status"], "skipped", "{change}: {document:#}");
                let error = step["error"].as_str().unwrap();
                assert!(error.contains(words) && !error.contains("CASCADE"), "{change}: {document:#}");
            }
            let made = document["runs"][0]["steps"].as_array().unwrap().iter().filter(|s| s["action"] == "create_partition");
            let expected = if change.contains("former") { "skipped" } else { "succeeded" };
            for one in made {
                assert_eq!(one["status"], expected, "{change}: {document:#}");
            }
            assert_eq!(rows(&db, table).await, left, "{change}: {document:#}");
        }
    }
}

for_oldest_and_newest! {
    /// Detached by hand between the mark and the detachment: the mark goes, and
    /// the comment that was there before is back.
    async fn by_hand_between_mark_and_detachment(major: u32) {
        for kind in ["cleanup", "archive", "partitions"] {
            let db = fresh_database(major).await;
            years(&db, false).await;
            db.execute("DROP TABLE ev_2020").await;
            let folder = tempfile::tempdir().unwrap();
            let workspace = task(&db, kind, &options(kind, folder.path()));
            let mut dba = db.connect().await;
            let dba = dba.transaction().await.unwrap();
            dba.batch_execute("LOCK TABLE ONLY ev IN SHARE UPDATE EXCLUSIVE MODE").await.unwrap();
            let running = Running::begin(&workspace, kind);
            let patience = Patience::until("the mark on ev_2021");
            while !comment(&db, "ev_2021").await.starts_with("maint: ") {
                patience.pause().await;
            }
            dba.batch_execute("ALTER TABLE ev DETACH PARTITION ev_2021").await.unwrap();
            dba.commit().await.unwrap();
            let document = running.end(0);
            let skipped = step(&document["runs"][0], "public.ev_2021");
            assert_eq!(skipped["status"], "skipped", "{kind}: {document:#}");
            assert_eq!(rows(&db, "ev_2021").await, 100);
            assert_eq!(comment(&db, "ev_2021").await, "of 2021");
            let again = run(&workspace, kind);
            assert_eq!(again["steps"], json!([]), "{kind}: {again:#}");
            assert_eq!(rows(&db, "ev_2021").await, 100);
        }
    }
}

for_oldest_and_newest! {
    /// A row that is fresh comes into a table that was detached, while the drop
    /// waits for the writer: the table stays, and the row.
    async fn a_fresh_row_keeps_what_was_detached(major: u32) {
        for (kind, mark) in [
            ("partitions", "maint: retired partition of public.ev since 2020-01-01T00:00:00+00:00"),
            ("cleanup", "maint: expired partition of public.ev"),
        ] {
            let db = fresh_database(major).await;
            years(&db, true).await;
            db.execute(&format!("DROP TABLE ev_2021; ALTER TABLE ev DETACH PARTITION ev_2020; COMMENT ON TABLE ev_2020 IS E'{mark}\\nas public.ev_2020'")).await;
            let workspace = task(&db, kind, &options(kind, workspace_folder()));
            workspace.knows_mark(kind, &db, "public.ev_2020").await;
            let mut writer = db.connect().await;
            let writer = writer.transaction().await.unwrap();
            writer.batch_execute("INSERT INTO ev_2020 VALUES (77, now(), 'fresh')").await.unwrap();
            let running = Running::begin(&workspace, kind);
            let patience = Patience::until("the lock that waits for the writer");
            while db.number("SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'ev_2020'::regclass").await == 0 {
                patience.pause().await;
            }
            writer.commit().await.unwrap();
            let document = running.end(0);
            let skipped = step(&document["runs"][0], "public.ev_2020");
            assert_eq!(skipped["status"], "skipped", "{kind}: {document:#}");
            assert_eq!(skipped["rows"], Value::Null, "{kind}: {document:#}");
            assert_eq!(rows(&db, "ev_2020").await, 101);
            // Without it the table goes.
            db.execute("DELETE FROM ev_2020 WHERE note = 'fresh'").await;
            let gone = run(&workspace, kind);
            assert_eq!(step(&gone, "public.ev_2020")["status"], "succeeded", "{gone:#}");
            assert!(!exists(&db, "ev_2020").await);
            assert_eq!(rows(&db, "ev").await, 1);
            assert_eq!(run(&workspace, kind)["steps"], json!([]));
        }
    }
}

fn workspace_folder() -> &'static std::path::Path {
    std::path::Path::new("/nowhere")
}

for_oldest_and_newest! {
    /// Where the schema to keep them in has a table of that name, nothing is
    /// detached: the rows are still where everybody looks, and it is told again.
    async fn kept_in_a_schema_where_the_name_is_taken(major: u32) {
        for default in [false, true] {
            let db = fresh_database(major).await;
            years(&db, default).await;
            db.execute("DROP TABLE ev_2021; CREATE SCHEMA attic; CREATE TABLE attic.ev_2020 (x int)").await;
            let options = json!({ "tables": ["ev"], "interval": "year", "ahead": 0, "keep": "3y", "expired": "keep", "keep_in": "attic" });
            let workspace = task(&db, "partitions", &options.to_string());
            for _ in 0..2 {
                let output = workspace.run(["run", "partitions", "--now", "--output", "json"]);
                let failed = output.expect(1).json()["runs"][0].clone();
                let findings = failed["findings"].as_array().unwrap();
                let told = findings.iter().find(|f| f["code"] == "partitions.name_taken" && f["object"] == "public.ev_2020");
                assert!(told.unwrap()["message"].as_str().unwrap().contains("attic.ev_2020 exists already"), "{failed:#}");
                assert_eq!(failed["steps"], json!([]), "{failed:#}");
                assert_eq!(rows(&db, "ev").await, 101);
            }
            db.execute("DROP TABLE attic.ev_2020").await;
            run(&workspace, "partitions");
            assert_eq!(rows(&db, "attic.ev_2020").await, 100);
            assert_eq!(rows(&db, "ev").await, 1);
            assert_eq!(comment(&db, "attic.ev_2020").await, "none");
            assert_eq!(run(&workspace, "partitions")["steps"], json!([]));
        }
    }
}

for_oldest_and_newest! {
    /// Names with line breaks, and with backslashes, of partition and table:
    /// what was detached is found again, and dropped.
    async fn names_with_line_breaks(major: u32) {
        let db = fresh_database(major).await;
        for root in ["ev", "e\nv", "e\\nv"] {
            db.execute(&format!("CREATE TABLE \"{root}\" (at timestamptz NOT NULL) PARTITION BY RANGE (at);
                CREATE TABLE \"{root}\n2020\" PARTITION OF \"{root}\" FOR VALUES FROM ('2020-01-01 00:00+00') TO ('2021-01-01 00:00+00');
                CREATE TABLE \"{root}\\2021\" PARTITION OF \"{root}\" FOR VALUES FROM ('2021-01-01 00:00+00') TO ('2022-01-01 00:00+00');
                CREATE TABLE \"{root} now\" PARTITION OF \"{root}\" FOR VALUES FROM ('2022-01-01 00:00+00') TO ('2100-01-01 00:00+00');
                INSERT INTO \"{root}\" VALUES ('2020-06-01'), ('2021-06-01'), (now())")).await;
            let name = format!("\"{root}\"");
            let options = json!({ "tables": [name], "interval": "year", "ahead": 0, "keep": "3y", "grace": "1d" });
            let workspace = task(&db, "partitions", &options.to_string());
            assert_eq!(run(&workspace, "partitions")["steps"].as_array().unwrap().len(), 2, "{root:?}");
            assert_eq!(rows(&db, &name).await, 1);
            let dropped = workspace.run(["run", "partitions", "--now", "--set", "grace=0s", "--output", "json"]).expect(0).json();
            let steps = dropped["runs"][0]["steps"].as_array().unwrap();
            assert!(steps.len() == 2 && steps.iter().all(|s| s["action"] == "drop_partition"), "{root:?}: {dropped:#}");
            assert_eq!(db.number("SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace").await, 1);
            assert_eq!(run(&workspace, "partitions")["steps"], json!([]));
            db.execute(&format!("DROP TABLE {name}")).await;
        }
    }
}

/// Rows of a partition on another server stay, and that is told; one that holds
/// only what is younger than the rule is nothing to tell.
#[tokio::test]
async fn foreign_partitions_are_told() {
    let db = fresh_database(17).await;
    db.execute("CREATE EXTENSION file_fdw; CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
        CREATE TABLE ev (id int, at timestamptz NOT NULL) PARTITION BY RANGE (at);
        CREATE FOREIGN TABLE ev_2019 PARTITION OF ev FOR VALUES FROM ('2019-01-01 00:00+00') TO ('2020-01-01 00:00+00') SERVER files OPTIONS (filename '/dev/null');
        CREATE FOREIGN TABLE ev_later PARTITION OF ev FOR VALUES FROM ('2090-01-01 00:00+00') TO ('2100-01-01 00:00+00') SERVER files OPTIONS (filename '/dev/null');
        CREATE TABLE ev_now PARTITION OF ev FOR VALUES FROM ('2020-01-01 00:00+00') TO ('2090-01-01 00:00+00');
        INSERT INTO ev VALUES (1, '2020-06-01'), (2, now())").await;
    for kind in ["cleanup", "archive"] {
        let folder = tempfile::tempdir().unwrap();
        let workspace = task(&db, kind, &options(kind, folder.path()));
        let output = workspace.run(["run", kind, "--now", "--output", "json"]);
        let run = output.expect(1).json()["runs"][0].clone();
        let told: Vec<&Value> = run["findings"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|f| f["code"] == "rows.foreign")
            .collect();
        assert_eq!(told.len(), 1, "{run:#}");
        assert_eq!(told[0]["object"], "public.ev_2019", "{run:#}");
        assert_eq!(db.number("SELECT count(*) FROM ev_now").await, 1);
    }
}

for_oldest_and_newest! {
    /// A part of a table that somebody detaches before its rows are deleted
    /// one by one keeps them.
    async fn rows_of_what_was_detached_by_hand(major: u32) {
        let db = fresh_database(major).await;
        years(&db, false).await;
        let rule = json!({ "table": "ev", "column": "at", "older_than": "1y", "where": "id > 0" });
        let workspace = task(&db, "cleanup", &json!({ "rules": [rule] }).to_string());
        let pause = workspace.path().join("pause");
        std::fs::write(&pause, "").unwrap();
        let mut running = Running::begin(&workspace, "cleanup");
        running.until("paused: ");
        db.execute("ALTER TABLE ev DETACH PARTITION ev_2020").await;
        std::fs::remove_file(&pause).unwrap();
        let document = running.end(0);
        assert_eq!(step(&document["runs"][0], "public.ev_2020")["status"], "skipped", "{document:#}");
        assert_eq!(rows(&db, "ev_2020").await, 100);
        assert_eq!(rows(&db, "ev").await, 1);
    }
}

for_oldest_and_newest! {
    /// Made part of another table while it waits: it is that table's, its mark
    /// goes, and it stays also when it leaves there again.
    async fn part_of_another_table_by_now(major: u32) {
        let others = [
            ("CREATE TABLE other (LIKE ev) PARTITION BY RANGE (at);
                ALTER TABLE other ATTACH PARTITION ev_2021 FOR VALUES FROM ('2021-01-01 00:00+00') TO ('2022-01-01 00:00+00')",
            "ALTER TABLE other DETACH PARTITION ev_2021"),
            ("CREATE TABLE other (LIKE ev); ALTER TABLE ev_2021 INHERIT other", "ALTER TABLE ev_2021 NO INHERIT other"),
        ];
        for (joins, leaves) in others {
            let db = fresh_database(major).await;
            years(&db, false).await;
            let patient = json!({ "tables": ["ev"], "interval": "year", "ahead": 0, "keep": "3y", "grace": "1d" });
            let workspace = task(&db, "partitions", &patient.to_string());
            run(&workspace, "partitions");
            db.execute(joins).await;
            let hasty = ["run", "partitions", "--now", "--set", "grace=0s", "--output", "json"];
            let run = workspace.run(hasty).expect(0).json()["runs"][0].clone();
            assert_eq!(step(&run, "public.ev_2020")["action"], "drop_partition", "{run:#}");
            assert_eq!(step(&run, "public.ev_2021")["action"], "unmark_partition", "{run:#}");
            let reason = step(&run, "public.ev_2021")["reason"].as_str().unwrap();
            assert!(reason.contains("part of public.other now"), "{reason}");
            assert_eq!(rows(&db, "other").await, 100);
            assert_eq!(comment(&db, "ev_2021").await, "of 2021");
            db.execute(leaves).await;
            let run = workspace.run(hasty).expect(0).json()["runs"][0].clone();
            assert_eq!(run["steps"], json!([]), "{run:#}");
            assert_eq!(rows(&db, "ev_2021").await, 100);
        }
    }
}

for_oldest_and_newest! {
    /// The same after the plan was made.
    async fn part_of_another_table_before_its_step(major: u32) {
        let db = fresh_database(major).await;
        years(&db, false).await;
        let workspace = task(&db, "partitions", &options("partitions", std::path::Path::new("")).replace("0s", "1s"));
        run(&workspace, "partitions");
        let grace = Patience::until("the grace to be over");
        while db.number("SELECT count(*) FROM pg_class WHERE oid = 'ev_2021'::regclass
            AND substring(obj_description(oid, 'pg_class') FROM ' since ([^\n]*)')::timestamptz < now() - interval '2 s'").await == 0 {
            grace.pause().await;
        }
        let pause = workspace.path().join("pause");
        std::fs::write(&pause, "").unwrap();
        let mut running = Running::begin(&workspace, "partitions");
        running.until("paused: ");
        db.execute("CREATE TABLE other (LIKE ev); ALTER TABLE ev_2021 INHERIT other").await;
        std::fs::remove_file(&pause).unwrap();
        let document = running.end(0);
        assert_eq!(step(&document["runs"][0], "public.ev_2020")["status"], "succeeded", "{document:#}");
        assert_eq!(step(&document["runs"][0], "public.ev_2021")["status"], "skipped", "{document:#}");
        assert_eq!(rows(&db, "other").await, 100);
    }
}

for_oldest_and_newest! {
    /// The same for what a run of `cleanup` or `archive` has detached, and did not come to drop.
    async fn what_was_left_is_part_of_another_table(major: u32) {
        for (kind, mark) in [("cleanup", "maint: expired partition of "), ("archive", "maint: to be archived, once a partition of ")] {
            let db = fresh_database(major).await;
            years(&db, false).await;
            let folder = tempfile::tempdir().unwrap();
            let workspace = task(&db, kind, &options(kind, folder.path()));
            workspace.run(["run", kind, "--now", "--dry-run"]).expect(0);
            workspace.knows_mark(kind, &db, "public.ev_2021").await;
            db.execute(&format!("ALTER TABLE ev DETACH PARTITION ev_2021;
                COMMENT ON TABLE ev_2021 IS E'{mark}public.ev\\nas public.ev_2021\\nof 2021';
                CREATE TABLE other (LIKE ev); ALTER TABLE ev_2021 INHERIT other")).await;
            let first = run(&workspace, kind);
            assert_eq!(step(&first, "public.ev_2021")["action"], "unmark_partition", "{kind}: {first:#}");
            assert!(!exists(&db, "ev_2020").await);
            assert_eq!(rows(&db, "other").await, 100);
            assert_eq!(comment(&db, "ev_2021").await, "of 2021");
            db.execute("ALTER TABLE ev_2021 NO INHERIT other").await;
            assert_eq!(run(&workspace, kind)["steps"], json!([]), "{kind}");
            assert_eq!(rows(&db, "ev_2021").await, 100);
        }
    }
}

for_oldest_and_newest! {
    /// Partitions that go as a whole take no more rows than their rule may, whatever comes into them after the
    /// plan was made: together, and whether they are dropped or stored.
    async fn no_more_rows_go_with_partitions_than_the_rule_may_take(major: u32) {
        for (kind, default) in [("cleanup", false), ("cleanup", true), ("archive", false)] {
            let db = fresh_database(major).await;
            years(&db, default).await;
            let folder = tempfile::tempdir().unwrap();
            let mut rule: Value = serde_json::from_str(&options(kind, folder.path())).unwrap();
            let limits = if kind == "cleanup" { &mut rule["rules"][0] } else { &mut rule };
            limits["max_rows"] = json!(220);
            let workspace = task(&db, kind, &rule.to_string());
            let pause = workspace.path().join("pause");
            std::fs::write(&pause, "").unwrap();
            let mut running = Running::begin(&workspace, kind);
            running.until("paused: ");
            db.execute("INSERT INTO ev SELECT n, '2021-07-01 00:00+00', 'late' FROM generate_series(2000, 2999) n").await;
            std::fs::remove_file(&pause).unwrap();
            let run = running.end(1)["runs"][0].clone();
            assert!(!exists(&db, "ev_2020").await, "{run:#}");
            assert_eq!(step(&run, "public.ev_2020")["rows"], 100, "{run:#}");
            // It is a partition still, with all that it holds.
            assert_eq!(rows(&db, "ev").await, 1101, "{run:#}");
            assert_eq!(comment(&db, "ev_2021").await, "of 2021");
            let told = run["findings"].to_string();
            let words = "stopped at public.ev_2021: 100 rows have gone, 1100 more would go next, and the rule's `max_rows` or `max_share` allows 220";
            assert!(told.contains("rows.too_many") && told.contains(words), "{run:#}");
        }
    }
}
