//! Triggers and rules that change a row instead of letting it go: it is counted once, stays as it
//! was, and is named; the others go.

use serde_json::{Value, json};

use super::aftermath::{OLD, ways};
use super::{attempt, cleanup, finding, run, workspace};
use crate::support::servers::{TestDatabase, fresh_database};

const TABLE: &str = "(id int PRIMARY KEY, at timestamptz NOT NULL, del bool NOT NULL)";

async fn filled(db: &TestDatabase, rows: u32) {
    db.execute(&format!(
        "DROP TABLE IF EXISTS t, kept CASCADE; CREATE TABLE t {TABLE}; CREATE TABLE kept {TABLE};
         DROP SEQUENCE IF EXISTS tries; CREATE SEQUENCE tries;
         INSERT INTO t SELECT g, {OLD}, false FROM generate_series(1, {rows}) g"
    ))
    .await;
}

/// A soft delete of the rows that `which` names; how often it was tried is told by a sequence,
/// which no rollback sets back.
async fn softly(db: &TestDatabase, which: &str, table: &str) {
    db.execute(&format!(
        "CREATE OR REPLACE FUNCTION soft() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
            IF {which} THEN PERFORM pg_catalog.nextval('public.tries'); UPDATE public.{table} SET del = true WHERE id = old.id; RETURN NULL; END IF;
            RETURN old; END$$;
         CREATE TRIGGER soft BEFORE DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION soft()"
    ))
    .await;
}

/// Another function under the name of the one that the trigger calls.
async fn softly_again(db: &TestDatabase, which: &str) {
    db.execute(&format!(
        "CREATE OR REPLACE FUNCTION soft() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
            IF {which} THEN PERFORM pg_catalog.nextval('public.tries'); UPDATE public.t SET del = true WHERE id = old.id; RETURN NULL; END IF;
            RETURN old; END$$"
    ))
    .await;
}

async fn tries(db: &TestDatabase) -> i64 {
    db.number("SELECT last_value - CASE WHEN is_called THEN 0 ELSE 1 END FROM tries")
        .await
}

/// What is told where `stays` rows stay, and nothing of them has changed.
async fn left(db: &TestDatabase, run: &Value, gone: i64, stays: i64, case: &str) {
    assert_eq!(run["rows"].as_i64().unwrap_or(0), gone, "{case}: {run:#}");
    let told = finding(run, "rows.refused");
    assert!(
        told.starts_with(&format!("{stays} rows of public.t "))
            && told.contains(" soft")
            && told.contains("changes them instead"),
        "{case}: {told}"
    );
    assert_eq!(
        db.number("SELECT count(*) FROM t").await,
        stays,
        "{case}: {run:#}"
    );
    let changed = "SELECT count(*) FROM t WHERE del";
    assert_eq!(db.number(changed).await, 0, "{case}: {run:#}");
}

for_versions! {
    [pg15 = 15]
    /// Every third row is changed by a trigger instead of going, whatever becomes of the others.
    async fn a_soft_delete_is_counted_once_and_given_back(major: u32) {
        let db = fresh_database(major).await;
        let there = fresh_database(major).await;
        let folder = tempfile::tempdir().unwrap();
        let files = format!("file://{}", folder.path().display());
        for (name, kind, options) in ways(&files) {
            filled(&there, 0).await;
            filled(&db, 3_000).await;
            softly(&db, "old.id % 3 = 0", "t").await;
            let workspace = workspace(&db, &there, kind, &options);
            left(&db, &run(&workspace, kind, 1), 2_000, 1_000, name).await;
            assert!(tries(&db).await <= 3_000, "{name}: {}", tries(&db).await);
            let kept = db.number("SELECT count(*) FROM kept").await + there.number("SELECT count(*) FROM kept").await;
            assert_eq!(kept, if matches!(name, "table" | "database") { 2_000 } else { 0 }, "{name}");
            left(&db, &run(&workspace, kind, 1), 0, 1_000, name).await;
        }
        for walk in ["blocks", "key"] {
            filled(&db, 3_000).await;
            softly(&db, "old.id % 3 = 0", "t").await;
            let rules = json!([{ "table": "t", "column": "at", "older_than": "1y", "walk": walk }]);
            left(&db, &run(&cleanup(&db, &rules), "cleanup", 1), 2_000, 1_000, walk).await;
        }
    }
}

for_versions! {
    [pg18 = 18]
    /// Where nothing goes, it is not tried with every row of a large table, each night.
    async fn a_walk_ends_where_every_row_is_only_changed(major: u32) {
        let db = fresh_database(major).await;
        let folder = tempfile::tempdir().unwrap();
        let files = format!("file://{}", folder.path().display());
        for (name, kind, options) in ways(&files).into_iter().take(3) {
            filled(&db, 60_000).await;
            softly(&db, "true", "t").await;
            let workspace = workspace(&db, &db, kind, &options);
            let first = run(&workspace, kind, 1);
            let told = finding(&first, "rows.refused");
            assert!(told.contains("nothing more was tried"), "{name}: {told}");
            assert_eq!(first["rows"].as_i64().unwrap_or(0), 0, "{name}: {first:#}");
            assert!(tries(&db).await < 60_000, "{name}: {}", tries(&db).await);
            assert_eq!(db.number("SELECT count(*) FROM t WHERE NOT del").await, 60_000, "{name}");
            // Other rows are tried next, until it is believed of all of them.
            for _ in 0..2 {
                let before = tries(&db).await;
                run(&workspace, kind, 1);
                assert!(tries(&db).await > before, "{name}");
            }
            let before = tries(&db).await;
            let known = run(&workspace, kind, 1);
            assert!(finding(&known, "rows.refused").contains("Nothing was tried this time"), "{name}: {known:#}");
            assert_eq!((tries(&db).await, known["steps"].as_array().unwrap().len()), (before, 0), "{name}: {known:#}");
        }
    }
}

for_versions! {
    [pg17 = 17]
    /// A rule that does it: with a condition, and for all; and a trigger that moves the row into
    /// another partition.
    async fn a_rule_that_updates_instead_is_no_other(major: u32) {
        let db = fresh_database(major).await;
        let rules = json!([{ "table": "t", "column": "at", "older_than": "1y" }]);
        for (which, stays) in [("WHERE old.id % 3 = 0", 300), ("", 900)] {
            filled(&db, 900).await;
            db.execute(&format!("CREATE RULE soft AS ON DELETE TO t {which} DO INSTEAD UPDATE t SET del = true WHERE id = old.id")).await;
            let workspace = cleanup(&db, &rules);
            for gone in [900 - stays, 0] {
                left(&db, &run(&workspace, "cleanup", 1), gone, stays, which).await;
            }
        }
        // Nothing is changed by this one, and nothing has to be given back.
        filled(&db, 900).await;
        db.execute("CREATE RULE soft AS ON DELETE TO t WHERE old.id % 3 = 0 DO INSTEAD NOTHING").await;
        let told = run(&cleanup(&db, &rules), "cleanup", 1);
        assert!(finding(&told, "rows.refused").starts_with("300 rows of public.t "), "{told:#}");
        db.execute(&format!(
            "DROP TABLE t; CREATE TABLE t (id int NOT NULL, at timestamptz NOT NULL, del bool NOT NULL) PARTITION BY LIST (del);
             CREATE TABLE t_live PARTITION OF t FOR VALUES IN (false); CREATE TABLE t_del PARTITION OF t FOR VALUES IN (true);
             INSERT INTO t SELECT g, {OLD}, false FROM generate_series(1, 900) g"
        )).await;
        // A row that moves fires the trigger once more.
        softly(&db, "old.id % 3 = 0 AND pg_catalog.pg_trigger_depth() = 1", "t").await;
        let moved = attempt(&cleanup(&db, &rules), "cleanup");
        assert!(finding(&moved, "rows.refused").starts_with("300 rows of public.t_live "), "{moved:#}");
        assert_eq!(db.number("SELECT count(*) FROM t WHERE NOT del AND id % 3 = 0").await, 300, "{moved:#}");
        assert_eq!(db.number("SELECT count(*) FROM t").await, 300, "{moved:#}");
    }
}

for_versions! {
    [pg16 = 16]
    /// Where every row was only changed, it is told each night and not done again, until what
    /// hangs on the table is another.
    async fn what_is_known_to_be_in_vain_is_told_and_not_done_again(major: u32) {
        let db = fresh_database(major).await;
        let folder = tempfile::tempdir().unwrap();
        let files = format!("file://{}", folder.path().display());
        for (name, kind, options) in ways(&files).into_iter().take(3) {
            filled(&db, 300).await;
            softly(&db, "true", "t").await;
            let workspace = workspace(&db, &db, kind, &options);
            left(&db, &run(&workspace, kind, 1), 0, 300, name).await;
            let tried = tries(&db).await;
            assert!(tried > 0, "{name}");
            for _ in 0..2 {
                let known = run(&workspace, kind, 1);
                left(&db, &known, 0, 300, name).await;
                assert_eq!(known["status"], "failed", "{name}: {known:#}");
                assert!(finding(&known, "rows.refused").contains("Nothing was tried this time"), "{name}: {known:#}");
            }
            assert_eq!(tries(&db).await, tried, "{name}");
            // Another trigger of the name, and another function of the name, are looked at again.
            softly_again(&db, "old.id % 3 = 0").await;
            left(&db, &run(&workspace, kind, 1), 200, 100, name).await;
            left(&db, &run(&workspace, kind, 1), 0, 100, name).await;
            db.execute("DROP TRIGGER soft ON t").await;
            assert_eq!(run(&workspace, kind, 0)["rows"], 100, "{name}");
        }
    }
}
