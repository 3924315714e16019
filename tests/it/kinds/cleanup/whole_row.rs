//! Conditions that take the row of the table as one value.

use serde_json::json;

use super::{clean, nothing_is_left, workspace};
use crate::support::servers::{TestDatabase, fresh_database};

const KEPT: i64 = 50;

async fn tables(db: &TestDatabase) {
    db.execute(
        "CREATE TABLE q (a int, at timestamptz NOT NULL, b text) PARTITION BY RANGE (at);
         CREATE TABLE q_other (b text, a int, at timestamptz NOT NULL);
         ALTER TABLE q ATTACH PARTITION q_other FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
         CREATE TABLE q_like PARTITION OF q FOR VALUES FROM ('2021-01-01') TO ('2022-01-01');
         INSERT INTO q SELECT n, '2020-05-01', 'x' FROM generate_series(1, 25) n;
         INSERT INTO q SELECT n, '2021-05-01', 'x' FROM generate_series(26, 50) n;
         CREATE TABLE hold AS SELECT md5(q::text) AS h FROM q;
         CREATE TABLE p (id int PRIMARY KEY, at timestamptz); CREATE TABLE p_more (more text) INHERITS (p);
         INSERT INTO p SELECT n, '2020-01-01' FROM generate_series(1, 25) n;
         INSERT INTO p_more SELECT n, '2020-01-01', NULL FROM generate_series(26, 50) n;
         CREATE TABLE alike (a int, at timestamptz NOT NULL) PARTITION BY RANGE (at);
         CREATE TABLE alike_2020 PARTITION OF alike FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
         INSERT INTO alike SELECT n, '2020-05-01' FROM generate_series(1, 50) n",
    )
    .await;
}

async fn left(db: &TestDatabase, table: &str) -> i64 {
    db.number(&format!("SELECT count(*) FROM {table}")).await
}

/// Where rows lie under other columns than those of their table, what `keep` names would go: nothing does, and the
/// way to say it is told.
#[tokio::test]
async fn rows_that_a_condition_takes_as_a_whole_stay_where_they_are_other_rows() {
    let db = fresh_database(14).await;
    tables(&db).await;
    for (table, keep) in [
        (
            "q",
            "pg_catalog.md5(q::text) IN (SELECT h FROM public.hold)",
        ),
        ("q", "q::text LIKE '(1,%'"),
        ("q", "(q.*) IS NOT NULL"),
        ("p", "p IS NOT NULL"),
    ] {
        let rules =
            json!([{ "table": table, "column": "at", "older_than": "30d", "keep": [keep] }]);
        let workspace = workspace(&db, &rules).task(
            "archive",
            &format!("kind: archive\ntarget: app\noptions: {{ table: {table}, column: at, older_than: 30d, keep: [\"{keep}\"], destination: {{ table: elsewhere }} }}\n"),
        );
        for task in ["cleanup", "archive"] {
            let done = workspace.run(["run", task, "--now", "--output", "json"]);
            let done = done.json()["runs"][0].clone();
            let told = done["findings"].to_string();
            assert!(
                told.contains(&format!("takes a row of {table} as a whole"))
                    && told.contains(&format!("`{table}::public.{table}`")),
                "{table} {keep} {task}: {done:#}"
            );
            assert_eq!(left(&db, table).await, KEPT, "{table} {keep} {task}");
        }
    }
    // As it is told to be written, it means what it says: the same as with SQL.
    for (table, keep, stay) in [
        (
            "q",
            "pg_catalog.md5((q::public.q)::text) IN (SELECT h FROM public.hold)",
            50,
        ),
        (
            "q",
            "q::public.q = ROW(1, '2020-05-01'::timestamptz, 'x')::public.q",
            1,
        ),
        ("p", "p::public.p IS NOT NULL", 50),
        ("alike", "alike::text LIKE '(1,%'", 1),
    ] {
        let rules = json!([{ "table": table, "column": "at", "older_than": "30d", "keep": [keep], "max_share": "100%" }]);
        let workspace = workspace(&db, &rules);
        let done = clean(&workspace);
        assert_eq!(left(&db, table).await, stay, "{table} {keep}: {done:#}");
        nothing_is_left(&workspace);
    }
}
