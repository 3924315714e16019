//! What may not go keeps nobody else; partitions leave only as their rows would.

use serde_json::{Value, json};

use super::{cleanup, finding, run};
use crate::support::servers::{TestDatabase, cluster, fresh_database};

/// One parent of many that a recent child points at, by every kind of foreign
/// key: the others go, the one is named.
#[tokio::test]
async fn one_row_keeps_nobody() {
    let db = fresh_database(17).await;
    for (key, name) in [
        ("REFERENCES p", "k_pid_fkey"),
        ("REFERENCES p ON DELETE RESTRICT", "k_pid_fkey"),
        ("REFERENCES p DEFERRABLE INITIALLY DEFERRED", "k_pid_fkey"),
    ] {
        for walk in ["blocks", "key"] {
            db.execute(&format!(
                "DROP TABLE IF EXISTS k, p; CREATE TABLE p (id int PRIMARY KEY, at timestamptz NOT NULL);
                 CREATE TABLE k (id int, pid int {key}); CREATE INDEX ON k (pid);
                 INSERT INTO p SELECT g, now() - interval '2 years' FROM generate_series(1, 20000) g;
                 INSERT INTO k VALUES (1, 777), (2, NULL), (3, 777)"
            )).await;
            let workspace = cleanup(
                &db,
                &json!([{ "table": "p", "column": "at", "older_than": "1y", "walk": walk }]),
            );
            let first = run(&workspace, "cleanup", 0);
            assert_eq!(first["rows"], 19_999, "{key}: {first:#}");
            assert_eq!(db.number("SELECT sum(id) FROM p").await, 777);
            let told = finding(&first, "rows.referenced");
            assert!(told.contains(name) && told.contains("1 by"), "{told}");
            assert_eq!(run(&workspace, "cleanup", 0)["rows"], 0);
        }
    }
}

/// Trees of any depth and order within the table, over many batches.
#[tokio::test]
async fn what_one_delete_could_remove_the_batches_remove() {
    let db = fresh_database(17).await;
    for parent in [
        "g - 1",
        "CASE WHEN g < 20000 THEN g + 1 END",
        "CASE WHEN g % 2 = 0 THEN g - 1 ELSE nullif(g + 2, 20001) END",
    ] {
        for walk in ["blocks", "key"] {
            db.execute(&format!(
                "DROP TABLE IF EXISTS tree; CREATE TABLE tree (id int PRIMARY KEY, up int, at timestamptz NOT NULL);
                 INSERT INTO tree SELECT g, nullif({parent}, 0), now() - interval '2 years' FROM generate_series(1, 20000) g;
                 ALTER TABLE tree ADD FOREIGN KEY (up) REFERENCES tree; CREATE INDEX ON tree (up);
                 INSERT INTO tree VALUES (30001, NULL, now() - interval '2 years'), (30002, 30001, now() - interval '2 years'), (30003, 30002, now())"
            )).await;
            let workspace = cleanup(
                &db,
                &json!([{ "table": "tree", "column": "at", "older_than": "1y", "walk": walk }]),
            );
            let run = run(&workspace, "cleanup", 0);
            assert_eq!(
                db.strings("SELECT string_agg(id::text, ' ' ORDER BY id) FROM tree")
                    .await,
                ["30001 30002 30003"],
                "{parent}: {run:#}"
            );
            assert_eq!(run["rows"], 20_000);
            assert!(
                finding(&run, "rows.referenced").contains("2 by tree_up_fkey"),
                "{run:#}"
            );
        }
    }
}

/// Monthly partitions, all expired, with every third row held.
async fn held(db: &TestDatabase) {
    db.execute("DROP TABLE IF EXISTS ev CASCADE; DROP TABLE IF EXISTS audit;
        CREATE TABLE ev (id int, at timestamptz NOT NULL, held bool NOT NULL) PARTITION BY RANGE (at);
        CREATE TABLE ev_1 PARTITION OF ev FOR VALUES FROM ('2020-01-01 00:00+00') TO ('2020-02-01 00:00+00');
        CREATE TABLE ev_2 PARTITION OF ev FOR VALUES FROM ('2020-02-01 00:00+00') TO ('2020-03-01 00:00+00');
        CREATE TABLE audit (id int);
        INSERT INTO ev SELECT g, '2020-01-01 00:00+00'::timestamptz + g * interval '14 hours', g % 3 = 0 FROM generate_series(1, 100) g").await;
}

fn actions(run: &Value) -> Vec<&str> {
    let steps = run["steps"].as_array().unwrap();
    steps
        .iter()
        .map(|s| s["action"].as_str().unwrap())
        .collect()
}

/// Where dropping would pass by something, rows are deleted; where it is
/// asked for, the plan says what is passed by; dropped rows are counted.
#[tokio::test]
async fn partitions_leave_as_their_rows_would() {
    let db = fresh_database(17).await;
    let rules = json!([{ "table": "ev", "column": "at", "older_than": "1y" }]);
    db.execute("CREATE FUNCTION guards() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN
        IF old.held THEN RETURN NULL; END IF; INSERT INTO public.audit VALUES (old.id); RETURN old; END';
        CREATE FUNCTION counts() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.audit SELECT id FROM gone; RETURN NULL; END'").await;
    // A trigger for each row, which also holds some.
    held(&db).await;
    db.execute("CREATE TRIGGER guard BEFORE DELETE ON ev FOR EACH ROW EXECUTE FUNCTION guards()")
        .await;
    let workspace = cleanup(&db, &rules);
    let first = run(&workspace, "cleanup", 1);
    assert_eq!(actions(&first), ["delete", "delete"], "{first:#}");
    assert_eq!(db.number("SELECT count(*) FROM ev WHERE held").await, 33);
    assert_eq!(db.number("SELECT count(*) FROM ev").await, 33);
    assert_eq!(db.number("SELECT count(*) FROM audit").await, 67);
    assert!(
        finding(&first, "rows.refused").contains("trigger guard"),
        "{first:#}"
    );
    // A trigger for each statement on the table itself.
    held(&db).await;
    db.execute("CREATE TRIGGER told AFTER DELETE ON ev REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION counts()").await;
    let first = run(&workspace, "cleanup", 0);
    assert_eq!(first["rows"], 100, "{first:#}");
    assert_eq!(db.number("SELECT count(*) FROM audit").await, 100);
    assert_eq!(actions(&run(&workspace, "cleanup", 0)).len(), 0);
    // A view, without which the partition could not be dropped.
    held(&db).await;
    db.execute("CREATE VIEW seen AS SELECT * FROM ev_1").await;
    let first = run(&workspace, "cleanup", 0);
    assert_eq!(first["rows"], 100, "{first:#}");
    assert_eq!(db.number("SELECT count(*) FROM ev").await, 0);
    assert_eq!(
        db.number("SELECT count(*) FROM pg_class WHERE relname = 'ev_1' AND relispartition")
            .await,
        1
    );
    // Asked for.
    held(&db).await;
    db.execute("CREATE TRIGGER guard BEFORE DELETE ON ev FOR EACH ROW EXECUTE FUNCTION guards()")
        .await;
    let asked = super::workspace(
        &db,
        &db,
        "cleanup",
        &json!({ "rules": rules, "drop_partitions": true }),
    );
    let plan = asked.run(["plan", "cleanup"]).expect(0).stdout;
    assert!(plan.contains("passes by trigger guard"), "{plan}");
    let first = run(&asked, "cleanup", 0);
    assert_eq!(
        actions(&first),
        ["drop_partition", "drop_partition"],
        "{first:#}"
    );
    assert_eq!(first["rows"], 100, "{first:#}");
}

/// Policies of the table that the rule names decide, also for its owner under FORCE.
#[tokio::test]
async fn policies_of_the_named_table_decide() {
    let db = fresh_database(17).await;
    held(&db).await;
    let owner = format!("owner_of_{}", db.name);
    db.execute(&format!(
        "CREATE ROLE {owner} LOGIN PASSWORD 'x'; ALTER TABLE ev OWNER TO {owner}; ALTER TABLE ev_1 OWNER TO {owner}; ALTER TABLE ev_2 OWNER TO {owner};
         GRANT ALL ON SCHEMA public TO {owner};
         ALTER TABLE ev ENABLE ROW LEVEL SECURITY; ALTER TABLE ev FORCE ROW LEVEL SECURITY; CREATE POLICY free ON ev USING (NOT held)"
    )).await;
    let workspace = cleanup(
        &db,
        &json!([{ "table": "ev", "column": "at", "older_than": "1y" }]),
    );
    let port = cluster(17).port();
    let url = format!(
        "postgres://{owner}:x@127.0.0.1:{port}/{}?sslmode=disable",
        db.name
    );
    workspace.file(
        "schedules.yaml",
        &format!(
            "history: sqlite:maint.db\ntargets:\n  app: {{ engine: postgres, url: \"{url}\" }}\n"
        ),
    );
    // What a policy hides from its owner is not got round by naming the
    // partitions, and does not count as gone: nothing goes, and it is said.
    let first = run(&workspace, "cleanup", 1);
    let told = finding(&first, "cleanup.rule");
    assert!(
        told.contains("policy free") && told.contains("NO FORCE ROW LEVEL SECURITY"),
        "{told}"
    );
    assert_eq!(first["steps"], json!([]));
    assert_eq!(db.number("SELECT count(*) FROM ev").await, 100);
    // Without FORCE it does not hold for the owner, who may have all of them.
    db.execute("ALTER TABLE ev NO FORCE ROW LEVEL SECURITY")
        .await;
    assert_eq!(run(&workspace, "cleanup", 0)["rows"], 100);
    assert_eq!(db.number("SELECT count(*) FROM ev").await, 0);
    db.execute(&format!(
        "DROP TABLE ev; DROP OWNED BY {owner}; DROP ROLE {owner}"
    ))
    .await;
}

/// What was detached is judged by today's rule; a mark keeps the comment that
/// was there, and goes when the partition is attached again.
#[tokio::test]
async fn yesterdays_mark_drops_nothing() {
    let db = fresh_database(17).await;
    held(&db).await;
    let strict = cleanup(
        &db,
        &json!([{ "table": "ev", "column": "at", "older_than": "50y" }]),
    );
    let today = cleanup(
        &db,
        &json!([{ "table": "ev", "column": "at", "older_than": "1y" }]),
    );
    db.execute("COMMENT ON TABLE ev_2 IS 'ours'; ALTER TABLE ev DETACH PARTITION ev_1;
        COMMENT ON TABLE ev_1 IS E'maint: expired partition of public.ev\\nas public.ev_1\\nof the application'").await;
    // The history knows nothing of it: the comment alone proves nothing.
    let unknown = run(&strict, "cleanup", 0);
    assert_eq!(actions(&unknown).len(), 0, "{unknown:#}");
    assert_eq!(unknown["findings"][0]["code"], "partitions.unknown_mark");
    strict.knows_mark("cleanup", &db, "public.ev_1").await;
    let kept = run(&strict, "cleanup", 0);
    assert_eq!(kept["steps"][0]["status"], "skipped", "{kept:#}");
    assert!(
        kept["steps"][0]["error"]
            .as_str()
            .unwrap()
            .contains("today's rule"),
        "{kept:#}"
    );
    assert!(db.number("SELECT count(*) FROM ev_1").await > 0);
    // Attached again: the mark goes, and a later detachment is somebody's own.
    db.execute("ALTER TABLE ev ATTACH PARTITION ev_1 FOR VALUES FROM ('2020-01-01 00:00+00') TO ('2020-02-01 00:00+00')").await;
    run(&strict, "cleanup", 0);
    let comment = "SELECT coalesce(obj_description('ev_1'::regclass, 'pg_class'), '')";
    assert_eq!(db.strings(comment).await, ["of the application"]);
    db.execute("ALTER TABLE ev DETACH PARTITION ev_1").await;
    run(&today, "cleanup", 0);
    assert!(db.number("SELECT count(*) FROM ev_1").await > 0);
    assert_eq!(
        db.number("SELECT count(*) FROM pg_class WHERE relname = 'ev_2'")
            .await,
        0
    );
    // The mark of another's table, and of one that was renamed since, count for nothing.
    db.execute("CREATE ROLE rows_stranger; CREATE TABLE fake (id int, at timestamptz); INSERT INTO fake VALUES (1, '2020-01-01'); ALTER TABLE fake OWNER TO rows_stranger;
        COMMENT ON TABLE fake IS 'maint: expired partition of public.ev';
        CREATE TABLE other (id int, at timestamptz); COMMENT ON TABLE other IS E'maint: expired partition of public.ev\\nas public.ev_7'").await;
    assert_eq!(actions(&run(&today, "cleanup", 0)).len(), 0);
    db.execute("DROP TABLE fake; DROP ROLE rows_stranger").await;
}

/// Others change rows all the time: batches become smaller, and the work is done.
#[tokio::test]
async fn changed_rows_make_batches_smaller() {
    let db = fresh_database(17).await;
    db.execute(
        "CREATE TABLE t (id int PRIMARY KEY, at timestamptz NOT NULL, n int NOT NULL DEFAULT 0);
        INSERT INTO t SELECT g, now() - interval '2 years' FROM generate_series(1, 100000) g",
    )
    .await;
    let folder = tempfile::tempdir().unwrap();
    let options = json!({ "table": "t", "column": "at", "older_than": "1y", "batch_goal": "2s", "destination": { "files": format!("file://{}", folder.path().display()) } });
    let workspace = super::workspace(&db, &db, "archive", &options);
    let writer = db.connect().await;
    let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
    let writing = tokio::spawn(async move {
        let mut n = 0_i32;
        while stopped.try_recv().is_err() {
            n = (n + 7_919) % 100_000;
            let sql = format!("UPDATE t SET n = n + 1 WHERE id = {n}");
            writer.batch_execute(&sql).await.unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    });
    let first = tokio::task::spawn_blocking(move || {
        let first = run(&workspace, "archive", 0);
        (first, workspace)
    });
    let (first, workspace) = first.await.unwrap();
    stop.send(()).unwrap();
    writing.await.unwrap();
    assert_eq!(first["steps"][0]["status"], "succeeded");
    // One that was changed into a place behind the walk's back waits for the next run.
    assert!(first["rows"].as_i64().unwrap() > 99_900, "{first:#}");
    run(&workspace, "archive", 0);
    assert_eq!(db.number("SELECT count(*) FROM t").await, 0);
}

/// A partition that was retired is dropped only if today's task means it; its
/// mark goes when it is attached again, and leaves the comment that was there.
#[tokio::test]
async fn a_retired_partition_is_judged_again() {
    let db = fresh_database(17).await;
    db.execute("CREATE TABLE pt (id int, at timestamptz NOT NULL) PARTITION BY RANGE (at);
        DO $$ BEGIN FOR n IN 0..14 LOOP EXECUTE format('CREATE TABLE pt_%s PARTITION OF pt FOR VALUES FROM (%L) TO (%L)', n,
            date_trunc('month', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' - (n || ' months')::interval,
            date_trunc('month', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' - ((n - 1) || ' months')::interval); END LOOP; END $$;
        COMMENT ON TABLE pt_14 IS 'ours';
        INSERT INTO pt SELECT n, now() - n * interval '1 month' FROM generate_series(0, 13) n").await;
    let task = |keep: &str| {
        let options = json!({ "tables": ["pt"], "interval": "month", "ahead": 1, "keep": keep, "grace": "0s", "time_zone": "UTC" });
        super::workspace(&db, &db, "partitions", &options)
    };
    let bounds = db
        .strings("SELECT pg_get_expr(relpartbound, oid) FROM pg_class WHERE relname = 'pt_13'")
        .await
        .remove(0);
    // As a run leaves it that ended between the detachment and the drop.
    db.execute("ALTER TABLE pt DETACH PARTITION pt_13; COMMENT ON TABLE pt_13 IS E'maint: retired partition of public.pt since 2020-01-01T00:00:00+00:00\\nas public.pt_13\\nold words'").await;
    let long = task("10y");
    let unknown = run(&long, "partitions", 0);
    let told = unknown["findings"].as_array().unwrap();
    assert!(
        told.iter()
            .any(|f| f["code"] == "partitions.unknown_mark" && f["object"] == "public.pt_13"),
        "{unknown:#}"
    );
    assert!(
        !unknown["steps"].to_string().contains("pt_13"),
        "{unknown:#}"
    );
    long.knows_mark("partitions", &db, "public.pt_13").await;
    let kept = run(&long, "partitions", 0);
    assert!(
        kept["steps"].to_string().contains("younger than 10y"),
        "{kept:#}"
    );
    assert_eq!(
        db.number("SELECT count(*) FROM pg_class WHERE relname = 'pt_13'")
            .await,
        1
    );
    db.execute(&format!("ALTER TABLE pt ATTACH PARTITION pt_13 {bounds}"))
        .await;
    run(&task("10y"), "partitions", 0);
    assert_eq!(
        db.strings("SELECT obj_description('pt_13'::regclass, 'pg_class')")
            .await,
        ["old words"]
    );
    db.execute("ALTER TABLE pt DETACH PARTITION pt_13").await;
    run(&task("6mo"), "partitions", 0);
    assert_eq!(
        db.number("SELECT count(*) FROM pg_class WHERE relname = 'pt_13'")
            .await,
        1
    );
    assert_eq!(
        db.number("SELECT count(*) FROM pg_class WHERE relname = 'pt_14'")
            .await,
        0
    );
}

/// A trigger that keeps some rows from going: the others are archived, those
/// stay and are told with their number and the trigger, and nothing of them is
/// in the archive.
#[tokio::test]
async fn rows_that_a_trigger_keeps_are_left_out_of_the_archive() {
    for place in ["files", "database"] {
        for walk in ["key", "blocks"] {
            let (db, there) = (fresh_database(17).await, fresh_database(17).await);
            db.execute("CREATE TABLE t (id int PRIMARY KEY, at timestamptz NOT NULL, held bool); INSERT INTO t SELECT g, '2020-01-01', g % 100 = 0 FROM generate_series(1, 3000) g;
                CREATE FUNCTION guards() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN IF old.held THEN RETURN NULL; END IF; RETURN old; END';
                CREATE TRIGGER guard BEFORE DELETE ON t FOR EACH ROW EXECUTE FUNCTION guards()").await;
            let folder = tempfile::tempdir().unwrap();
            let destination = match place {
                "files" => json!({ "files": format!("file://{}", folder.path().display()) }),
                _ => json!({ "database": "there", "table": "kept" }),
            };
            let workspace = super::workspace(
                &db,
                &there,
                "archive",
                &json!({ "table": "t", "column": "at", "older_than": "1y", "walk": walk, "destination": destination }),
            );
            for times in 0..2 {
                let run = super::run(&workspace, "archive", 1);
                assert_eq!(
                    run["rows"],
                    if times == 0 { 2970 } else { 0 },
                    "{place} {walk} {run:#}"
                );
                let told = super::finding(&run, "rows.refused");
                assert!(told.contains("30 rows") && told.contains("guard"), "{told}");
            }
            assert_eq!(
                db.number("SELECT count(*) FILTER (WHERE held) * 1000 + count(*) FROM t")
                    .await,
                30_030
            );
            let archived = if place == "files" {
                workspace.run(["archive", "verify"]).expect(0);
                workspace
                    .run(["archive", "restore", "--into", "back"])
                    .expect(0);
                db.number("SELECT count(DISTINCT id) * 10000 + count(*) FROM back WHERE NOT held")
                    .await
            } else {
                there
                    .number("SELECT count(DISTINCT id) * 10000 + count(*) FROM kept WHERE NOT held")
                    .await
            };
            assert_eq!(archived, 29_702_970, "{place} {walk}");
        }
    }
}
