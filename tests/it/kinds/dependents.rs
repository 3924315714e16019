//! What cannot be dropped is not detached: its rows stay where they are
//! looked for, and what is in the way is named.

use serde_json::{Value, json};

use super::finding;
use crate::support::servers::{TestDatabase, fresh_database};
use crate::support::workspace::Workspace;

/// Yearly partitions of which 2019 and 2020 are over; 2020 is partitioned
/// itself, and each partition has a serial number of its own.
const TABLE: &str = "DROP SCHEMA IF EXISTS s CASCADE; CREATE SCHEMA s;
    CREATE TABLE s.ev (id int NOT NULL, at date NOT NULL, region text NOT NULL) PARTITION BY RANGE (at);
    CREATE TABLE s.ev_2019 (LIKE s.ev, own serial); ALTER TABLE s.ev_2019 DROP COLUMN own;
    CREATE TABLE s.ev_2020 (LIKE s.ev) PARTITION BY LIST (region);
    CREATE TABLE s.ev_2020_eu PARTITION OF s.ev_2020 FOR VALUES IN ('eu'); ALTER TABLE s.ev_2020_eu ADD UNIQUE (id);
    CREATE SEQUENCE s.numbers OWNED BY s.ev_2020_eu.id;
    ALTER TABLE s.ev ATTACH PARTITION s.ev_2019 FOR VALUES FROM ('2019-01-01') TO ('2020-01-01');
    ALTER TABLE s.ev ATTACH PARTITION s.ev_2020 FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
    CREATE TABLE s.ev_now PARTITION OF s.ev FOR VALUES FROM ('2021-01-01') TO ('2090-01-01') PARTITION BY LIST (region);
    CREATE TABLE s.ev_now_eu PARTITION OF s.ev_now FOR VALUES IN ('eu');
    INSERT INTO s.ev VALUES (1, '2019-05-05', 'eu'), (2, '2020-05-05', 'eu'), (3, now(), 'eu')";

/// Dependents, how they are named, and what takes them away.
const DEPENDENTS: [(&str, &str, &str); 12] = [
    (
        "CREATE EXTENSION IF NOT EXISTS hstore; ALTER EXTENSION hstore ADD TABLE s.ev_2020",
        "extension hstore",
        "ALTER EXTENSION hstore DROP TABLE s.ev_2020",
    ),
    (
        "CREATE EXTENSION IF NOT EXISTS hstore; ALTER EXTENSION hstore ADD TABLE s.ev_2020_eu",
        "extension hstore",
        "ALTER EXTENSION hstore DROP TABLE s.ev_2020_eu",
    ),
    (
        "CREATE VIEW s.v AS SELECT * FROM s.ev_2020",
        "view s.v",
        "DROP VIEW s.v",
    ),
    (
        "CREATE VIEW s.v AS SELECT * FROM s.ev_2020_eu",
        "view s.v",
        "DROP VIEW s.v",
    ),
    (
        "CREATE MATERIALIZED VIEW s.v AS SELECT * FROM s.ev_2020_eu",
        "materialized view s.v",
        "DROP MATERIALIZED VIEW s.v",
    ),
    (
        "CREATE TABLE s.k (id int CONSTRAINT points REFERENCES s.ev_2020_eu (id)); INSERT INTO s.k VALUES (2)",
        "constraint points on table s.k",
        "DROP TABLE s.k",
    ),
    (
        "CREATE TABLE s.o (x s.ev_2020)",
        "column x of table s.o",
        "DROP TABLE s.o",
    ),
    (
        "CREATE TABLE s.o (x s.ev_2020_eu[])",
        "column x of table s.o",
        "DROP TABLE s.o",
    ),
    (
        "CREATE FUNCTION s.f() RETURNS SETOF s.ev_2020 LANGUAGE sql AS 'SELECT NULL::s.ev_2020'",
        "function s.f()",
        "DROP FUNCTION s.f()",
    ),
    (
        "CREATE FUNCTION s.f(s.ev_2020) RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "function s.f(s.ev_2020)",
        "DROP FUNCTION s.f(s.ev_2020)",
    ),
    (
        "CREATE TYPE s.pair AS (a int, b s.ev_2020[])",
        "column b of composite type s.pair",
        "DROP TYPE s.pair",
    ),
    (
        "CREATE TABLE s.o (id int DEFAULT nextval('s.numbers'))",
        "default value for column id of table s.o",
        "DROP TABLE s.o",
    ),
];

fn partitions(db: &TestDatabase, grace: &str) -> Workspace {
    Workspace::for_target(&db.url).task(
        "work",
        &format!(
            "kind: partitions\ntarget: app\noptions: {{ tables: [s.ev], interval: year, ahead: 0, keep: 1y, grace: {grace} }}\n"
        ),
    )
}

fn run(workspace: &Workspace, code: i32) -> Value {
    let output = workspace.run(["run", "work", "--now", "--output", "json"]);
    output.expect(code).json()
}

fn steps(document: &Value) -> Vec<String> {
    let steps = document["runs"][0]["steps"].as_array().unwrap();
    steps
        .iter()
        .map(|s| {
            format!(
                "{} {}",
                s["action"].as_str().unwrap(),
                s["object"].as_str().unwrap()
            )
        })
        .collect()
}

async fn rows(db: &TestDatabase) -> i64 {
    db.number("SELECT sum(id) FROM s.ev").await
}

for_versions! {
    [pg16 = 16]
    /// A partition with dependents stays, the other one goes; once nothing
    /// depends on it any more it goes, too, and then nothing is left to do.
    async fn partitions_with_dependents_stay_attached(major: u32) {
        let db = fresh_database(major).await;
        for (dependent, named, away) in DEPENDENTS {
            db.execute(TABLE).await;
            db.execute(dependent).await;
            let workspace = partitions(&db, "0s");
            let first = run(&workspace, 1);
            assert_eq!(steps(&first), ["retire_partition s.ev_2019"], "{dependent} {first:#}");
            let told = finding(&first, "partitions.depended_on");
            assert_eq!(told["object"], "s.ev_2020");
            let message = told["message"].as_str().unwrap();
            assert!(message.contains(named), "{named}: {message}");
            assert_eq!(rows(&db).await, 5);
            assert_eq!(steps(&run(&workspace, 1)).len(), 0);
            db.execute(away).await;
            assert_eq!(steps(&run(&workspace, 0)), ["retire_partition s.ev_2020"], "{dependent}");
            assert_eq!(rows(&db).await, 3);
            assert_eq!(db.number("SELECT count(*) FROM pg_class WHERE relname LIKE 'ev\\_20%'").await, 0);
            assert_eq!(steps(&run(&workspace, 0)).len(), 0);
        }
        // One that came while the partition waited to be dropped.
        db.execute(TABLE).await;
        let waiting = partitions(&db, "100d");
        assert_eq!(steps(&run(&waiting, 0)).len(), 2);
        db.execute("CREATE VIEW s.v AS SELECT * FROM s.ev_2020_eu").await;
        db.execute("DO $$ DECLARE t text; BEGIN FOREACH t IN ARRAY ARRAY['s.ev_2019', 's.ev_2020'] LOOP
            EXECUTE format('COMMENT ON TABLE %s IS %L', t, regexp_replace(obj_description(t::regclass), 'since [^\\n]*', 'since 2021-01-01T00:00:00+00:00')); END LOOP; END $$").await;
        let after = run(&waiting, 1);
        assert_eq!(steps(&after), ["drop_partition s.ev_2019"], "{after:#}");
        let message = finding(&after, "partitions.depended_on")["message"].as_str().unwrap();
        assert!(message.contains("view s.v") && message.contains("attach it again"), "{message}");
        assert_eq!(db.number("SELECT count(*) FROM s.ev_2020").await, 1);
    }
}

for_versions! {
    [pg15 = 15]
    /// Where rows go by rule, they are deleted, or archived, and the partition stays.
    async fn rows_go_and_what_is_depended_on_stays(major: u32) {
        let db = fresh_database(major).await;
        for (dependent, named, _) in DEPENDENTS {
            if named.contains("points") {
                // Its rows are kept by the key, not by the drop.
                continue;
            }
            for kind in ["cleanup", "archive"] {
                db.execute(TABLE).await;
                // Both kinds drop plain partitions.
                db.execute("ALTER TABLE s.ev DETACH PARTITION s.ev_2020; ALTER TABLE s.ev_2020 DETACH PARTITION s.ev_2020_eu;
                    DROP TABLE s.ev_2020; ALTER TABLE s.ev_2020_eu RENAME TO ev_2020;
                    ALTER TABLE s.ev ATTACH PARTITION s.ev_2020 FOR VALUES FROM ('2020-01-01') TO ('2021-01-01')").await;
                db.execute(&dependent.replace("ev_2020_eu", "ev_2020")).await;
                let folder = tempfile::tempdir().unwrap();
                let options = match kind {
                    "cleanup" => json!({ "rules": [{ "table": "s.ev", "column": "at", "older_than": "1y", "time_zone": "UTC" }] }),
                    _ => json!({ "table": "s.ev", "column": "at", "older_than": "1y", "time_zone": "UTC",
                        "destination": { "files": format!("file://{}", folder.path().display()) } }),
                };
                let workspace = Workspace::for_target(&db.url)
                    .task("work", &format!("kind: {kind}\ntarget: app\noptions: {options}\n"));
                let first = run(&workspace, 0);
                assert_eq!(rows(&db).await, 3, "{kind} {dependent} {first:#}");
                assert_eq!(
                    db.strings("SELECT relname::text FROM pg_class WHERE relname LIKE 'ev\\_20__' ORDER BY 1").await,
                    ["ev_2020"],
                    "{kind} {dependent} {first:#}"
                );
                assert_eq!(steps(&run(&workspace, 0)).len(), 0);
            }
        }
    }
}
