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

for_oldest_and_newest! {
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

for_oldest_and_newest! {
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

for_versions! {
    [pg17 = 17]
    /// Renamed or moved, it stays, and is told each time, until its comment is gone; with its own name it goes.
    async fn what_was_renamed_on_its_way_out_is_told(major: u32) {
        for (kind, name, change, back) in [
            ("partitions", "public.kept", "ALTER TABLE ev_2020 RENAME TO kept", "ALTER TABLE kept RENAME TO ev_2020"),
            ("partitions", "q.ev_2020", "ALTER TABLE ev_2020 SET SCHEMA q", "ALTER TABLE q.ev_2020 SET SCHEMA public"),
            ("cleanup", "public.kept", "ALTER TABLE ev_2020 RENAME TO kept", "ALTER TABLE kept RENAME TO ev_2020"),
            ("cleanup", "q.ev_2020", "ALTER TABLE ev_2020 SET SCHEMA q", "ALTER TABLE q.ev_2020 SET SCHEMA public"),
            ("archive", "public.kept", "ALTER TABLE ev_2020 RENAME TO kept", "ALTER TABLE kept RENAME TO ev_2020"),
            ("archive", "q.ev_2020", "ALTER TABLE ev_2020 SET SCHEMA q", "ALTER TABLE q.ev_2020 SET SCHEMA public"),
        ] {
            let db = fresh_database(major).await;
            let folder = tempfile::tempdir().unwrap();
            let folder = folder.path().to_str().unwrap().to_owned();
            let workspace = Workspace::for_target(&db.url).task(kind, &file(kind, &options(kind, "ev", &folder)));
            detached(&db, &workspace, kind).await;
            let bounds = "FOR VALUES FROM ('2020-01-01 00:00:00+00') TO ('2021-01-01 00:00:00+00')";
            workspace.knows_bounds(kind, &db, "public.ev_2020", bounds).await;
            db.execute("CREATE SCHEMA q").await;
            db.execute(change).await;
            for _ in 0..2 {
                let run = run(&workspace, kind);
                assert_eq!((actions(&run), told(&run)), (vec![], vec!["partitions.outside"]), "{kind} {name}: {run:#}");
                let finding = &run["findings"][0];
                assert_eq!(finding["object"], name, "{run:#}");
                assert!(finding["message"].as_str().unwrap().contains("it was called public.ev_2020 when it was detached"), "{run:#}");
                assert_eq!(finding["suggestion"], format!("ALTER TABLE public.ev ATTACH PARTITION {name} {bounds}"), "{run:#}");
            }
            // Whose comment is gone is the business of whoever took it away.
            let comment = db.strings(&format!("SELECT obj_description('{name}'::regclass)")).await.remove(0);
            db.execute(&format!("COMMENT ON TABLE {name} IS NULL")).await;
            let quiet = run(&workspace, kind);
            assert_eq!((actions(&quiet).len(), told(&quiet).len()), (0, 0), "{kind} {name}: {quiet:#}");
            assert_eq!(db.number(&format!("SELECT count(*) FROM {name}")).await, 10);
            db.execute(&format!("COMMENT ON TABLE {name} IS '{comment}'; {back}")).await;
            run(&workspace, kind);
            assert_eq!(db.number("SELECT count(*) FROM pg_class WHERE relname = 'ev_2020'").await, 0, "{kind} {name}");
        }
    }
}

for_oldest_and_newest! {
    /// A table that says of itself that it was another, of which the history knows nothing; and one that was
    /// attached to another table under its new name.
    async fn what_only_says_so_under_another_name_is_told(major: u32) {
        for kind in ["partitions", "cleanup", "archive"] {
            let db = fresh_database(major).await;
            let folder = tempfile::tempdir().unwrap();
            let folder = folder.path().to_str().unwrap().to_owned();
            let workspace = Workspace::for_target(&db.url).task(kind, &file(kind, &options(kind, "ev", &folder)));
            detached(&db, &workspace, kind).await;
            db.execute("ALTER TABLE ev_2020 RENAME TO kept").await;
            db.execute("CREATE TABLE like_it (LIKE ev)").await;
            let comment = db.strings("SELECT obj_description('kept'::regclass)").await.remove(0);
            db.execute(&format!("COMMENT ON TABLE like_it IS '{comment}'")).await;
            db.execute("CREATE TABLE other (LIKE ev) PARTITION BY RANGE (at);
                ALTER TABLE other ATTACH PARTITION kept FOR VALUES FROM ('2020-01-01 00:00+00') TO ('2021-01-01 00:00+00')").await;
            let first = run(&workspace, kind);
            assert_eq!((actions(&first), told(&first)), (vec!["unmark_partition public.kept succeeded".to_owned()], vec!["partitions.unknown_mark"]), "{kind}: {first:#}");
            assert_eq!(first["findings"][0]["object"], "public.like_it", "{first:#}");
            assert_eq!(db.strings("SELECT obj_description('kept'::regclass)").await, ["old events"]);
            let second = run(&workspace, kind);
            assert_eq!((actions(&second), told(&second)), (vec![], vec!["partitions.unknown_mark"]), "{kind}: {second:#}");
            assert_eq!(db.number("SELECT count(*) FROM other").await, 10);
        }
    }
}

for_versions! {
    [pg14 = 14]
    /// A table given to another role takes its partitions along, and not what waits outside: that stays, and is told
    /// each time until both belong to one role again.
    async fn what_belongs_to_another_role_than_its_table_is_told(major: u32) {
        for kind in ["partitions", "cleanup", "archive"] {
            for given in ["ev", "ev_2020"] {
                let db = fresh_database(major).await;
                let folder = tempfile::tempdir().unwrap();
                let folder = folder.path().to_str().unwrap().to_owned();
                let workspace = Workspace::for_target(&db.url).task(kind, &file(kind, &options(kind, "ev", &folder)));
                detached(&db, &workspace, kind).await;
                workspace.knows_part(kind, &db, "public.ev_2020", "public.ev").await;
                let role = format!("{}_new", db.name);
                db.execute(&format!("CREATE ROLE {role}; ALTER TABLE {given} OWNER TO {role}")).await;
                for _ in 0..2 {
                    let run = run(&workspace, kind);
                    assert_eq!((actions(&run), told(&run)), (vec![], vec!["partitions.outside"]), "{kind} {given}: {run:#}");
                    assert_eq!(run["status"], "failed", "{kind} {given}: {run:#}");
                    assert!(run["findings"][0]["message"].as_str().unwrap().contains("has got another owner"), "{run:#}");
                }
                assert_eq!(db.number("SELECT count(*) FROM ev_2020").await, 10);
                db.execute(&format!("ALTER TABLE ev OWNER TO {role}; ALTER TABLE ev_2020 OWNER TO {role}; ALTER TABLE ev_now OWNER TO {role}")).await;
                let run = run(&workspace, kind);
                assert_eq!(run["status"], "succeeded", "{kind} {given}: {run:#}");
                assert_eq!(db.number("SELECT count(*) FROM pg_class WHERE relname = 'ev_2020'").await, 0, "{kind} {given}");
                db.execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
            }
        }
    }
}

/// What was detached from a table that no task names any more is told by `doctor`: whatever its table is called, and
/// only where the history knows of it. What a task goes on with is not.
#[tokio::test]
async fn what_no_task_goes_on_with_is_told_by_doctor() {
    for kind in ["partitions", "cleanup", "archive"] {
        let db = fresh_database(17).await;
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().to_str().unwrap().to_owned();
        let task = |table: &str| file(kind, &options(kind, table, &folder));
        let workspace = Workspace::for_target(&db.url).task(kind, &task("ev"));
        detached(&db, &workspace, kind).await;
        workspace
            .knows_part(kind, &db, "public.ev_2020", "public.ev")
            .await;
        let bounds = "FOR VALUES FROM ('2020-01-01 00:00:00+00') TO ('2021-01-01 00:00:00+00')";
        workspace
            .knows_bounds(kind, &db, "public.ev_2020", bounds)
            .await;
        db.execute("CREATE TABLE other (id int, at timestamptz NOT NULL) PARTITION BY RANGE (at);
            CREATE TABLE other_now PARTITION OF other FOR VALUES FROM ('2021-01-01 00:00+00') TO ('2100-01-01 00:00+00');
            CREATE TABLE forged (LIKE ev)").await;
        let mark = db
            .strings("SELECT obj_description('ev_2020'::regclass)")
            .await
            .remove(0);
        let mark = mark.replace("ev_2020", "forged").replace('\n', "\\n");
        db.execute(&format!("COMMENT ON TABLE forged IS E'{mark}'"))
            .await;
        let of_it = |workspace: &Workspace| -> Vec<Value> {
            let said = workspace.run(["doctor", "--output", "json"]).json();
            let checks = said["checks"].as_array().unwrap().iter();
            let of = |check: &&Value| check["text"].as_str().unwrap().contains("names public.");
            checks.filter(of).cloned().collect()
        };
        assert_eq!(of_it(&workspace), Vec::<Value>::new(), "{kind}");
        // Only its table has another name than the task says, and then the task has it again.
        db.execute("ALTER TABLE ev RENAME TO events").await;
        let told = of_it(&workspace);
        assert_eq!(
            (told.len(), &told[0]["level"]),
            (1, &"problem".into()),
            "{kind}: {told:#?}"
        );
        let text = told[0]["text"].as_str().unwrap();
        let attach = format!("ALTER TABLE public.events ATTACH PARTITION public.ev_2020 {bounds}");
        for part in [
            format!("no task of kind {kind} names public.events any more"),
            "DROP TABLE public.ev_2020".to_owned(),
            attach.clone(),
        ] {
            assert!(text.contains(&part), "{kind}: {part}: {text}");
        }
        assert_eq!(
            text.contains("2021-01-01T00:00:00+00:00"),
            kind == "partitions",
            "{text}"
        );
        let workspace = workspace.task(kind, &task("events"));
        assert_eq!(of_it(&workspace), Vec::<Value>::new(), "{kind}");
        let workspace = workspace.task(kind, &task("other"));
        assert_eq!(of_it(&workspace), told, "{kind}");
        let workspace = workspace.task(kind, &format!("enabled: false\n{}", task("events")));
        assert_eq!(of_it(&workspace), told, "{kind}");
        assert_eq!(db.number("SELECT count(*) FROM ev_2020").await, 10);
        db.execute(&attach).await;
        let marked = "SELECT count(*) FROM pg_description WHERE description LIKE 'maint:%'";
        assert_eq!(db.number(marked).await, 2);
        assert_eq!(of_it(&workspace), Vec::<Value>::new(), "{kind}");
    }
}
