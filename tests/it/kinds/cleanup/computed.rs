//! Columns that are computed when they are read (18 on), in another way in a member than in its table.

use serde_json::{Value, json};

use super::workspace;
use crate::support::servers::{TestDatabase, fresh_database};

async fn tables(db: &TestDatabase) {
    db.execute(
        "CREATE TABLE q (id int, a int, at timestamptz NOT NULL, twice int GENERATED ALWAYS AS (a * 2) VIRTUAL,
             day date GENERATED ALWAYS AS ((at AT TIME ZONE 'UTC')::date) VIRTUAL) PARTITION BY RANGE (id);
         CREATE TABLE q_other (id int, a int, at timestamptz NOT NULL, twice int GENERATED ALWAYS AS (a * 100) VIRTUAL,
             day date GENERATED ALWAYS AS ((at AT TIME ZONE 'UTC' - interval '10 years')::date) VIRTUAL);
         ALTER TABLE q ATTACH PARTITION q_other FOR VALUES FROM (0) TO (100);
         INSERT INTO q (id, a, at) SELECT n, n, now() FROM generate_series(1, 9) n;
         CREATE TABLE p (id int, a int, at timestamptz NOT NULL, hold bool GENERATED ALWAYS AS (a > 5) VIRTUAL);
         CREATE TABLE p_more (hold bool GENERATED ALWAYS AS (a > 100) VIRTUAL) INHERITS (p);
         INSERT INTO p_more (id, a, at) SELECT n, n, '2020-05-05' FROM generate_series(1, 9) n;
         CREATE TABLE parents (id int PRIMARY KEY); INSERT INTO parents SELECT generate_series(1, 9);
         CREATE TABLE alike (b int, a int, at timestamptz NOT NULL, twice int GENERATED ALWAYS AS (a * 2) VIRTUAL) PARTITION BY RANGE (b);
         CREATE TABLE alike_1 (twice int GENERATED ALWAYS AS (a * 2) VIRTUAL, at timestamptz NOT NULL, a int, b int);
         ALTER TABLE alike ATTACH PARTITION alike_1 FOR VALUES FROM (0) TO (100);
         INSERT INTO alike (b, a, at) SELECT n, n, '2020-05-05' FROM generate_series(1, 9) n",
    )
    .await;
}

/// Nothing goes by a value that the table which is named does not show, and why is told; who computes alike in another
/// order of columns is followed, and so is who names the member itself.
#[tokio::test]
async fn what_is_computed_otherwise_where_rows_are_stored_decides_nothing() {
    let db = fresh_database(18).await;
    tables(&db).await;
    for (table, column, rule) in [
        (
            "q",
            "twice",
            json!({ "table": "q", "where": "twice >= 800" }),
        ),
        (
            "q",
            "day",
            json!({ "table": "q", "column": "day", "older_than": "1y" }),
        ),
        (
            "q",
            "twice",
            json!({ "table": "q", "orphaned": { "columns": ["twice"], "parent": "parents", "parent_columns": ["id"] }, "max_share": "100%" }),
        ),
        (
            "p",
            "hold",
            json!({ "table": "p", "column": "at", "older_than": "1y", "keep": ["hold"] }),
        ),
    ] {
        let workspace = workspace(&db, &json!([rule]));
        let done = workspace
            .run(["run", "cleanup", "--now", "--output", "json"])
            .expect(1)
            .json();
        let told = done["runs"][0]["findings"].to_string();
        assert!(told.contains(&format!("it goes by {column}, which is computed when it is read (VIRTUAL), in public.{table}_")), "{rule} {done:#}");
        let count = format!("SELECT count(*) FROM {table}");
        assert_eq!(db.number(&count).await, 9, "{rule} {done:#}");
    }
    for (rule, table, stay) in [
        (
            json!({ "table": "q_other", "where": "twice >= 800" }),
            "q",
            7,
        ),
        (
            json!({ "table": "p", "column": "at", "older_than": "1y", "keep": ["a > 5"] }),
            "p",
            4,
        ),
        (
            json!({ "table": "alike", "column": "at", "older_than": "1y", "keep": ["twice > 8"] }),
            "alike",
            5,
        ),
    ] {
        let workspace = workspace(&db, &json!([rule]));
        let done: Value = workspace
            .run(["run", "cleanup", "--now", "--output", "json"])
            .expect(0)
            .json();
        let count = format!("SELECT count(*) FROM {table}");
        assert_eq!(db.number(&count).await, stay, "{rule} {done:#}");
    }
}
