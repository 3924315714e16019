//! Statement triggers that refuse to let many rows go at once, as a guard against a DELETE without
//! a condition: fewer at a time go.

use serde_json::{Value, json};

use super::aftermath::{OLD, ways};
use super::{cleanup, finding, run, workspace};
use crate::support::servers::{TestDatabase, fresh_database};

/// How often the guard refused is told by a sequence, which no rollback sets back.
async fn filled(db: &TestDatabase, rows: u32, most: u32) {
    db.execute(&format!(
        "DROP TABLE IF EXISTS t, kept; DROP SEQUENCE IF EXISTS refused; CREATE SEQUENCE refused;
         CREATE TABLE t (id int PRIMARY KEY, at timestamptz NOT NULL); CREATE TABLE kept (id int, at timestamptz NOT NULL);
         INSERT INTO t SELECT g, {OLD} FROM generate_series(1, {rows}) g;
         CREATE OR REPLACE FUNCTION guards() RETURNS trigger LANGUAGE plpgsql AS $$DECLARE n int; BEGIN
            SELECT count(*) INTO n FROM gone;
            IF n > {most} THEN PERFORM pg_catalog.nextval('public.refused'); RAISE EXCEPTION 'mass delete of % rows', n; END IF;
            IF EXISTS (SELECT FROM gone WHERE id = 1777) THEN RAISE EXCEPTION 'held by legal'; END IF; RETURN NULL; END$$;
         CREATE TRIGGER guard AFTER DELETE ON t REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION guards()"
    ))
    .await;
}

async fn refused(db: &TestDatabase) -> i64 {
    db.number("SELECT last_value - CASE WHEN is_called THEN 0 ELSE 1 END FROM refused")
        .await
}

/// All have gone but the one that is held, and the limit was learned once.
async fn gone(db: &TestDatabase, run: &Value, rows: i64, case: &str) {
    let left = db.strings("SELECT string_agg(id::text, ' ') FROM t").await;
    assert_eq!(left, ["1777"], "{case}: {run:#}");
    assert_eq!(run["rows"], rows - 1, "{case}: {run:#}");
    let told = finding(run, "rows.refused");
    assert!(
        told.starts_with("1 row of public.t") && told.contains("held by legal"),
        "{case}: {told}"
    );
    assert!(refused(db).await < 20, "{case}: {}", refused(db).await);
}

for_versions! {
    [pg16 = 16]
    /// Fewer rows than a block holds, and more; one row is held by itself.
    async fn a_guard_against_large_deletes_lets_small_ones_pass(major: u32) {
        let db = fresh_database(major).await;
        let there = fresh_database(major).await;
        let folder = tempfile::tempdir().unwrap();
        let files = format!("file://{}", folder.path().display());
        for ((name, kind, options), most) in ways(&files).into_iter().zip([60, 700, 60, 700]) {
            filled(&there, 0, 1_000_000).await;
            filled(&db, 2_000, most).await;
            let workspace = workspace(&db, &there, kind, &options);
            gone(&db, &run(&workspace, kind, 1), 2_000, &format!("{name} {most}")).await;
            let kept = db.number("SELECT count(DISTINCT id) FROM kept").await + there.number("SELECT count(DISTINCT id) FROM kept").await;
            assert_eq!(kept, if matches!(name, "table" | "database") { 1_999 } else { 0 }, "{name}");
        }
        filled(&db, 2_000, 60).await;
        let rules = json!([{ "table": "t", "column": "at", "older_than": "1y", "walk": "key" }]);
        gone(&db, &run(&cleanup(&db, &rules), "cleanup", 1), 2_000, "key").await;
    }
}
