//! A materialized view is refreshed when anything it is made of has changed, and no row has.

use serde_json::Value;

use crate::support::servers::{fresh_database, has_19};
use crate::support::workspace::Workspace;

fn refreshed(workspace: &Workspace) -> usize {
    let run = workspace
        .run(["run", "refresh", "--now", "--output", "json"])
        .expect(0)
        .json();
    let steps = run["runs"][0]["steps"].as_array().unwrap().clone();
    assert!(
        steps.iter().all(|s| s["status"] == "succeeded"),
        "{steps:#?}"
    );
    steps.len()
}

for_versions! {
    [pg14 = 14, pg15 = 15, pg18 = 18]
    async fn what_it_is_made_of_is_more_than_rows(major: u32) {
        let db = fresh_database(major).await;
        let owner = format!("owner_{}", db.name);
        db.execute(&format!("CREATE ROLE {owner}; GRANT CREATE, USAGE ON SCHEMA public TO {owner};
            CREATE TYPE mood AS ENUM ('good', 'bad'); CREATE TABLE t (id int, m mood); INSERT INTO t SELECT g, 'good' FROM generate_series(1, 10) g;
            CREATE FUNCTION inner_one(x int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT x + 1';
            CREATE FUNCTION outer_one(x int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN public.inner_one (x); END';
            CREATE FUNCTION adds(s int, x int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT s + x';
            CREATE AGGREGATE total (int) (sfunc = adds, stype = int, initcond = '0');
            CREATE MATERIALIZED VIEW nested AS SELECT outer_one(id) AS v FROM t; CREATE MATERIALIZED VIEW summed AS SELECT total(id) AS v FROM t;
            CREATE MATERIALIZED VIEW labelled AS SELECT m::text AS v FROM t; CREATE MATERIALIZED VIEW plain AS SELECT id AS v FROM t;
            CREATE TABLE secured (id int); INSERT INTO secured SELECT generate_series(1, 10); ALTER TABLE secured ENABLE ROW LEVEL SECURITY;
            CREATE POLICY half ON secured USING (id > 5); GRANT SELECT ON secured TO {owner};
            CREATE MATERIALIZED VIEW hidden AS SELECT id AS v FROM secured; ALTER MATERIALIZED VIEW hidden OWNER TO {owner}")).await;
        let workspace = Workspace::for_target(&db.url).task("refresh", "kind: refresh\ntarget: app\noptions: { allow_blocking: true }\n");
        assert_eq!(refreshed(&workspace), 5);
        for (change, view, shows) in [
            ("CREATE OR REPLACE FUNCTION inner_one(x int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT x + 100'", "nested", "110"),
            ("CREATE OR REPLACE FUNCTION adds(s int, x int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT s + 2 * x'", "summed", "110"),
            ("ALTER TYPE mood RENAME VALUE 'good' TO 'splendid'", "labelled", "splendid"),
            ("ALTER POLICY half ON secured USING (id < 3)", "hidden", "2"),
            ("DROP POLICY half ON secured", "hidden", "none"),
            ("ALTER TABLE secured DISABLE ROW LEVEL SECURITY", "hidden", "10"),
        ] {
            assert_eq!(refreshed(&workspace), 0, "before {change}");
            db.execute(change).await;
            assert_eq!(refreshed(&workspace), 1, "{change}");
            let seen = db.strings(&format!("SELECT coalesce(max(v)::text, 'none') FROM {view}")).await;
            assert_eq!(seen, [shows], "{change}");
        }
        assert_eq!(refreshed(&workspace), 0);
    }
}

for_versions! {
    [pg16 = 16]
    /// What words mean to a search, which attributes a row has, under which settings a function runs, who
    /// is a member of whom a policy is for: each is of the view that shows it, and of no other.
    async fn what_no_relation_holds_is_seen_too(major: u32) {
        let db = fresh_database(major).await;
        let (owner, team) = (format!("owner_{}", db.name), format!("team_{}", db.name));
        db.execute(&format!("CREATE TABLE t (id int, words text); INSERT INTO t VALUES (1, 'the cats');
            CREATE TEXT SEARCH DICTIONARY stems (TEMPLATE = snowball, language = english);
            CREATE TEXT SEARCH CONFIGURATION tsc (COPY = english); ALTER TEXT SEARCH CONFIGURATION tsc ALTER MAPPING FOR asciiword WITH stems;
            CREATE MATERIALIZED VIEW searched AS SELECT to_tsvector('public.tsc', words)::text AS v FROM t;
            CREATE TYPE pair AS (a int); CREATE TABLE pairs (p pair); INSERT INTO pairs VALUES (ROW(1));
            CREATE MATERIALIZED VIEW paired AS SELECT p::text AS v FROM pairs;
            CREATE MATERIALIZED VIEW whole AS SELECT to_jsonb(t)::text AS v FROM t;
            CREATE FUNCTION said(x date) RETURNS text IMMUTABLE LANGUAGE plpgsql SET datestyle = 'ISO' AS 'BEGIN RETURN x::text; END';
            CREATE MATERIALIZED VIEW dated AS SELECT said(date '2026-02-01') AS v FROM t;
            CREATE ROLE {owner}; CREATE ROLE {team}; GRANT CREATE, USAGE ON SCHEMA public TO {owner};
            CREATE TABLE secured (id int); INSERT INTO secured VALUES (7); ALTER TABLE secured ENABLE ROW LEVEL SECURITY;
            CREATE POLICY ours ON secured TO {team} USING (true); GRANT SELECT ON secured TO {owner};
            CREATE MATERIALIZED VIEW hidden AS SELECT id::text AS v FROM secured; ALTER MATERIALIZED VIEW hidden OWNER TO {owner}")).await;
        let workspace = Workspace::for_target(&db.url).task("refresh", "kind: refresh\ntarget: app\noptions: { allow_blocking: true }\n");
        assert_eq!(refreshed(&workspace), 5);
        let joins = format!("GRANT {team} TO {owner}");
        for (change, view, shows) in [
            ("ALTER TEXT SEARCH DICTIONARY stems (StopWords = english)", "searched", "'cat':2"),
            ("ALTER TEXT SEARCH CONFIGURATION tsc ALTER MAPPING FOR asciiword WITH simple", "searched", "'cats':2 'the':1"),
            ("ALTER TYPE pair ADD ATTRIBUTE b int", "paired", "(1,)"),
            ("ALTER TABLE t RENAME COLUMN words TO said", "whole", "{\"id\": 1, \"said\": \"the cats\"}"),
            ("ALTER FUNCTION said(date) SET datestyle = 'German'", "dated", "01.02.2026"),
            (joins.as_str(), "hidden", "7"),
        ] {
            assert_eq!(refreshed(&workspace), 0, "before {change}");
            db.execute(change).await;
            assert_eq!(refreshed(&workspace), 1, "{change}");
            let seen = db.strings(&format!("SELECT coalesce(max(v), 'none') FROM {view}")).await;
            assert_eq!(seen, [shows], "{change}");
        }
        assert_eq!(refreshed(&workspace), 0);
    }
}

for_each_version! {
    /// An immutable function that calls a stable one is not sure to answer the same tomorrow.
    async fn who_calls_what_changes_may_change(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE t (id int); INSERT INTO t VALUES (1);
            CREATE FUNCTION of_today() RETURNS date STABLE LANGUAGE sql AS 'SELECT CURRENT_DATE';
            CREATE FUNCTION sure(x int) RETURNS text IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN x || public.of_today()::text; END';
            CREATE FUNCTION clock(x int) RETURNS text IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN x || current_timestamp::text; END';
            CREATE MATERIALIZED VIEW one AS SELECT sure(id) AS v FROM t; CREATE MATERIALIZED VIEW two AS SELECT clock(id) AS v FROM t;
            CREATE MATERIALIZED VIEW three AS SELECT id AS v FROM t").await;
        let workspace = Workspace::for_target(&db.url).task("refresh", "kind: refresh\ntarget: app\noptions: { allow_blocking: true, uncounted_max_age: 0s }\n");
        assert_eq!(refreshed(&workspace), 3);
        for _ in 0..2 {
            let run = workspace.run(["run", "refresh", "--now", "--output", "json"]).expect(0).json();
            let mut objects: Vec<Value> = run["runs"][0]["steps"].as_array().unwrap().iter().map(|s| s["object"].clone()).collect();
            objects.sort_by_key(ToString::to_string);
            assert_eq!(objects, ["public.one", "public.two"], "{run:#}");
        }
    }
}

/// A virtual column computes something else, and no row has changed.
async fn counts_what_virtual_columns_compute(major: u32) {
    let db = fresh_database(major).await;
    db.execute("CREATE TABLE t (id int, g int GENERATED ALWAYS AS (id * 2)); INSERT INTO t (id) SELECT generate_series(1, 10);
        CREATE TABLE p (id int, g int GENERATED ALWAYS AS (id * 2)) PARTITION BY RANGE (id);
        CREATE TABLE p_1 PARTITION OF p FOR VALUES FROM (0) TO (100); INSERT INTO p (id) SELECT generate_series(1, 10);
        ALTER TABLE p ENABLE ROW LEVEL SECURITY;
        CREATE VIEW through AS SELECT g FROM t; CREATE MATERIALIZED VIEW of_t AS SELECT g AS v FROM through;
        CREATE MATERIALIZED VIEW of_p AS SELECT g AS v FROM p; CREATE MATERIALIZED VIEW other AS SELECT 1 AS v").await;
    let task = "kind: refresh\ntarget: app\noptions: { allow_blocking: true }\n";
    let workspace = Workspace::for_target(&db.url).task("refresh", task);
    refreshed(&workspace);
    for (table, view, times) in [("t", "of_t", 3), ("p", "of_p", 5)] {
        assert_eq!(refreshed(&workspace), 0, "before {table}");
        let change = format!("ALTER TABLE {table} ALTER g SET EXPRESSION AS (id * {times})");
        db.execute(&change).await;
        assert_eq!(refreshed(&workspace), 1, "{change}");
        let seen = db.number(&format!("SELECT max(v)::int8 FROM {view}")).await;
        assert_eq!(seen, 10 * times, "{change}");
    }
    assert_eq!(refreshed(&workspace), 0);
}

#[tokio::test]
async fn virtual_columns_count_on_18() {
    counts_what_virtual_columns_compute(18).await;
}

#[tokio::test]
async fn virtual_columns_count_on_19() {
    if has_19() {
        counts_what_virtual_columns_compute(19).await;
    }
}
