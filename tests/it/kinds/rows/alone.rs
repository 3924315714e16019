//! One row that may not go, may not come, or is locked keeps nobody else.

use serde_json::{Value, json};

use super::{cleanup, finding, run, workspace};
use crate::support::servers::{TestDatabase, cluster, fresh_database};

fn rules(walk: &str) -> Value {
    json!([{ "table": "t", "column": "at", "older_than": "1y", "walk": walk }])
}

for_versions! {
    [pg16 = 16]
    /// A trigger may call its refusal whatever it likes, also as the server
    /// calls what has nothing to do with rows.
    async fn whatever_code_a_trigger_raises_one_row_stays(major: u32) {
        let db = fresh_database(major).await;
        for code in [
            "42501", "45000", "U0001", "55000", "2F003", "0A000", "28000", "54000", "39000", "42P01", "57014", "P0001", "23514",
        ] {
            db.execute(&format!("DROP TABLE IF EXISTS t; CREATE TABLE t (id int PRIMARY KEY, at timestamptz NOT NULL);
                INSERT INTO t SELECT g, now() - interval '2 years' FROM generate_series(1, 20) g;
                CREATE OR REPLACE FUNCTION guards() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                    IF old.id = 7 THEN RAISE EXCEPTION 'row is protected' USING ERRCODE = '{code}'; END IF; RETURN old; END $$;
                CREATE TRIGGER guard BEFORE DELETE ON t FOR EACH ROW EXECUTE FUNCTION guards()")).await;
            for (walk, rows) in [("blocks", 19), ("key", 0)] {
                let done = run(&cleanup(&db, &rules(walk)), "cleanup", 1);
                assert_eq!(done["rows"], rows, "{code} {walk} {done:#}");
                let told = finding(&done, "rows.refused");
                assert!(told.contains("1 row of") && told.contains("row is protected"), "{told}");
                assert_eq!(db.number("SELECT sum(id) FROM t").await, 7, "{code} {walk}");
            }
        }
        // A trigger that may do nothing for any row is no matter of rows.
        db.execute("CREATE OR REPLACE FUNCTION guards() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM * FROM public.nowhere; RETURN old; END $$").await;
        let done = run(&cleanup(&db, &rules("blocks")), "cleanup", 1);
        assert!(done["steps"][0]["error"].as_str().unwrap().contains("itself is still there"), "{done:#}");
    }
}

/// Destinations of an archive that refuse one row of a hundred: the others
/// move, and the one is named with what refuses it.
#[tokio::test]
async fn a_row_that_the_destination_refuses_stays() {
    let (db, there) = (fresh_database(17).await, fresh_database(17).await);
    for (kept, said) in [
        (
            "CREATE TABLE kept (id int, at timestamptz, CONSTRAINT not_7 CHECK (id <> 7))",
            "not_7",
        ),
        (
            "CREATE TABLE kept (id int CONSTRAINT only_once PRIMARY KEY, at timestamptz); INSERT INTO kept VALUES (7, now())",
            "only_once",
        ),
        (
            "CREATE TABLE kept (id int, at timestamptz) PARTITION BY LIST (id); CREATE TABLE kept_1 PARTITION OF kept FOR VALUES IN (1, 2, 3, 4, 5, 6);
             DO $$ BEGIN FOR n IN 8..100 LOOP EXECUTE format('CREATE TABLE kept_%s PARTITION OF kept FOR VALUES IN (%s)', n, n); END LOOP; END $$",
            "no partition",
        ),
    ] {
        for (elsewhere, walk) in [(false, "blocks"), (true, "key")] {
            db.execute("DROP TABLE IF EXISTS t, kept; CREATE TABLE t (id int PRIMARY KEY, at timestamptz NOT NULL);
                INSERT INTO t SELECT g, now() - interval '2 years' FROM generate_series(1, 100) g").await;
            there.execute("DROP TABLE IF EXISTS kept").await;
            let into: &TestDatabase = if elsewhere { &there } else { &db };
            into.execute(kept).await;
            let before = into.number("SELECT count(*) FROM kept").await;
            let destination = if elsewhere {
                json!({ "table": "kept", "database": "there" })
            } else {
                json!({ "table": "kept" })
            };
            let options = json!({ "table": "t", "column": "at", "older_than": "1y", "walk": walk, "destination": destination });
            let workspace = workspace(&db, &there, "archive", &options);
            for rows in [99, 0] {
                let done = run(&workspace, "archive", 1);
                assert_eq!(done["rows"], rows, "{said} {elsewhere} {walk} {done:#}");
                let told = finding(&done, "rows.refused");
                assert!(
                    told.contains("1 row of") && told.contains(said) && told.contains("ctid ("),
                    "{told}"
                );
                assert_eq!(db.number("SELECT sum(id) FROM t").await, 7);
                assert_eq!(
                    into.number("SELECT count(DISTINCT id) FROM kept WHERE id <> 7")
                        .await,
                    99
                );
                assert_eq!(into.number("SELECT count(*) FROM kept").await, 99 + before);
            }
        }
    }
}

/// A transaction that was prepared and forgotten holds one row: the others
/// go, and who it is can be read together with how to end it.
#[tokio::test]
async fn a_row_that_is_locked_keeps_nobody() {
    let db = fresh_database(17).await;
    db.execute(
        "CREATE TABLE t (id int PRIMARY KEY, at timestamptz NOT NULL, n int);
        INSERT INTO t SELECT g, now() - interval '2 years', 0 FROM generate_series(1, 5000) g",
    )
    .await;
    let gid = format!("forgotten in {}", db.name);
    let holder = db.connect().await;
    let lock = format!("BEGIN; UPDATE t SET n = 1 WHERE id = 77; PREPARE TRANSACTION '{gid}'");
    holder.batch_execute(&lock).await.unwrap();
    drop(holder);
    let workspace = cleanup(&db, &rules("blocks")).task(
        "cleanup",
        &format!(
            "kind: cleanup\ntarget: app\noptions: {}\nlimits: {{ lock_timeout: 3s, lock_retries: 0 }}\n",
            json!({ "rules": rules("blocks") })
        ),
    );
    let done = run(&workspace, "cleanup", 1);
    assert_eq!(done["rows"], 4999, "{done:#}");
    assert_eq!(db.strings("SELECT id::text FROM t").await, ["77"]);
    let told = finding(&done, "rows.locked");
    for part in ["1 row of", &gid, "ROLLBACK PREPARED", "COMMIT PREPARED"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let wait = &done["steps"][0]["lock_waits"][0];
    assert_eq!(wait["blocker_pid"], 0, "{wait:#}");
    assert_eq!(
        wait["blocker_application"],
        format!("prepared transaction '{gid}'")
    );
    let shown = workspace.run(["show", "last"]).expect(0).stdout;
    assert!(!shown.contains("pid 0"), "{shown}");
    let words = shown.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        words.contains("committed or rolled back by its name"),
        "{shown}"
    );
    // What it says to do helps.
    let end = crate::support::servers::connect(&cluster(17).url(&db.name)).await;
    let rollback = format!("ROLLBACK PREPARED '{gid}'");
    end.batch_execute(&rollback).await.unwrap();
    assert_eq!(run(&workspace, "cleanup", 0)["rows"], 1);
    assert_eq!(run(&workspace, "cleanup", 0)["steps"], json!([]));
}

/// A value that no file keeps, and one that cannot be read at all: its row
/// stays and is named, the others go, to files and elsewhere.
#[tokio::test]
async fn a_row_that_no_file_keeps_stays_alone() {
    let db = fresh_database(17).await;
    for walk in ["blocks", "key"] {
        db.execute("DROP TABLE IF EXISTS t; CREATE TABLE t (id int PRIMARY KEY, at timestamptz NOT NULL, n numeric(6, 2));
            INSERT INTO t SELECT g, now() - interval '2 years', CASE g WHEN 7 THEN 'NaN'::numeric ELSE g END FROM generate_series(1, 20) g").await;
        let folder = tempfile::tempdir().unwrap();
        let files = format!("file://{}", folder.path().display());
        let options = json!({ "table": "t", "column": "at", "older_than": "1y", "walk": walk, "destination": { "files": files } });
        let workspace = workspace(&db, &db, "archive", &options);
        for rows in [19, 0] {
            let done = run(&workspace, "archive", 1);
            assert_eq!(done["rows"], rows, "{walk} {done:#}");
            let told = finding(&done, "rows.refused");
            assert!(
                told.contains("1 row of") && told.contains("ctid (") && told.contains("column n"),
                "{told}"
            );
            assert_eq!(db.number("SELECT sum(id) FROM t").await, 7);
        }
        workspace.run(["archive", "verify"]).expect(0);
    }
}

/// The walk along a key finds its batches by the index, in the order of the
/// key, and whatever the table is called.
#[tokio::test]
async fn batches_along_a_key_have_the_size_that_they_say() {
    let db = fresh_database(17).await;
    for table in ["s", "c", "child", "pointing", "batch", "stays", "moved"] {
        db.execute(&format!("CREATE TABLE {table} (id bigint PRIMARY KEY, ts bigint NOT NULL);
            CREATE TABLE kid (id bigint, pid bigint REFERENCES {table}); CREATE INDEX ON kid (pid);
            INSERT INTO {table} SELECT g, g FROM generate_series(1, 3000) g; INSERT INTO kid VALUES (1, 77);
            CREATE TABLE sizes (n bigint);
            CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.sizes SELECT count(*) FROM gone; RETURN NULL; END $$;
            CREATE TRIGGER noted AFTER DELETE ON {table} REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION noted()")).await;
        let rules =
            json!([{ "table": table, "where": "ts <= 2700", "walk": "key", "max_share": "95%" }]);
        let done = run(&cleanup(&db, &rules), "cleanup", 0);
        assert_eq!(done["rows"], 2_699, "{table} {done:#}");
        assert!(
            finding(&done, "rows.referenced").contains("1 by"),
            "{done:#}"
        );
        // The first batch is 500 rows; how large later ones are is for the time they take to say.
        let first = db
            .number("SELECT n FROM sizes WHERE n > 0 ORDER BY ctid LIMIT 1")
            .await;
        assert!(first <= 500, "{table}: {first}");
        db.execute(&format!(
            "DROP TABLE kid, {table}, sizes; DROP FUNCTION noted"
        ))
        .await;
    }
}
