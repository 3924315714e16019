//! Into a table of another database, on another server.

use serde_json::json;

use super::stopping::{kill_often, more_rows, rows};
use super::{EVERY_TYPE, archive, checksum, nothing_is_left};
use crate::support::servers::{TestDatabase, fresh_database};
use crate::support::workspace::Workspace;

pub(super) fn task(
    db: &TestDatabase,
    there: &TestDatabase,
    options: serde_json::Value,
) -> Workspace {
    let workspace = Workspace::for_target(&db.url).task(
        "archive",
        &format!("kind: archive\ntarget: app\noptions: {options}\n"),
    );
    workspace.file(
        "schedules.yaml",
        &format!(
            "history: sqlite:maint.db\ntargets:\n  app: {{ engine: postgres, url: \"{}\" }}\n  warehouse: {{ engine: postgres, url: \"{}\" }}\n",
            db.url, there.url
        ),
    );
    workspace
}

for_versions! {
    [pg14 = 14, pg17 = 17, pg18 = 18]
    /// Every type that can be kept arrives as it was, in a table that is made.
    async fn every_type_arrives(major: u32) {
        let (db, there) = (fresh_database(major).await, fresh_database(if major == 18 { 14 } else { major + 1 }).await);
        db.execute(EVERY_TYPE).await;
        // Types of its own have to be there, too.
        there.execute("CREATE TYPE mood AS ENUM ('fine', 'it''s \"odd\"', '\\back'); CREATE DOMAIN price AS numeric(12, 4); CREATE DOMAIN tag AS text; CREATE SCHEMA old").await;
        let columns = "SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute WHERE attrelid = 'everything'::regclass AND attnum > 0 AND attgenerated = ''";
        let columns = db.strings(columns).await.remove(0);
        let old = checksum(&db, &format!("SELECT {columns} FROM everything WHERE at < now() - interval '1 day'")).await;
        let workspace = task(&db, &there, json!({ "table": "everything", "column": "at", "older_than": "1d",
            "destination": { "database": "warehouse", "table": "old.everything" } }));
        let run = archive(&workspace);
        assert_eq!(run["rows"], 503, "{run:#}");
        assert_eq!(checksum(&there, "SELECT * FROM old.everything").await, old);
        assert_eq!(db.number("SELECT count(*) FROM everything").await, 1);
        nothing_is_left(&workspace);
        let listed = workspace.run(["archive", "list"]).expect(0).stdout;
        assert!(listed.contains("old.everything on warehouse"), "{listed}");
    }
}

/// A label that the enum there has not: told with the column and the label, nothing is deleted, and
/// once it is there the rows go.
#[tokio::test]
async fn a_label_that_is_missing_there_is_named() {
    let (db, there) = (fresh_database(18).await, fresh_database(17).await);
    db.execute("CREATE TYPE mood AS ENUM ('fine', 'new', 'odd'); CREATE TABLE t (id int, at timestamptz NOT NULL, m mood);
        INSERT INTO t SELECT g, '2019-05-01', CASE g WHEN 7 THEN 'new' ELSE 'fine' END::mood FROM generate_series(1, 10) g").await;
    there.execute("CREATE TYPE mood AS ENUM ('fine', 'odd'); CREATE TABLE old (id int, at timestamptz NOT NULL, m mood)").await;
    let workspace = task(
        &db,
        &there,
        json!({ "table": "t", "column": "at", "older_than": "1y",
        "destination": { "database": "warehouse", "table": "old" } }),
    );
    let run = workspace
        .run(["run", "archive", "--now", "--output", "json"])
        .expect(1)
        .json();
    let told = run["runs"][0]["steps"].to_string();
    assert!(told.contains("column m of public.old on target warehouse is of type public.mood, which lacks what the column here may hold: 'new'"), "{run:#}");
    assert!(
        told.contains("ALTER TYPE public.mood ADD VALUE 'new'"),
        "{run:#}"
    );
    assert_eq!(
        (
            db.number("SELECT count(*) FROM t").await,
            there.number("SELECT count(*) FROM old").await
        ),
        (1, 9),
        "one row that may not go keeps no other"
    );
    there.execute("ALTER TYPE mood ADD VALUE 'new'").await;
    assert_eq!(archive(&workspace)["rows"], 1);
    assert_eq!(
        (
            db.number("SELECT count(*) FROM t").await,
            there
                .number("SELECT count(*) FROM old WHERE m = 'new'")
                .await
        ),
        (0, 1)
    );
    nothing_is_left(&workspace);
}

/// Another target may be this very database, and the destination a partition of the source: it is
/// neither filled with its own table's rows nor dropped as one that has expired.
#[tokio::test]
async fn a_partition_of_the_source_is_no_destination() {
    let db = fresh_database(17).await;
    db.execute(
        "CREATE TABLE ev (id int, at timestamptz NOT NULL) PARTITION BY RANGE (at);
        CREATE TABLE ev_old PARTITION OF ev FOR VALUES FROM ('2018-01-01') TO ('2019-01-01');
        CREATE TABLE ev_next PARTITION OF ev FOR VALUES FROM ('2019-01-01') TO ('2020-01-01');
        INSERT INTO ev SELECT g, '2019-05-01' FROM generate_series(1, 10) g",
    )
    .await;
    let workspace = task(
        &db,
        &db,
        json!({ "table": "ev", "column": "at", "older_than": "1y",
        "destination": { "database": "warehouse", "table": "ev_old" } }),
    );
    let run = workspace
        .run(["run", "archive", "--now", "--output", "json"])
        .json();
    let error = run["runs"][0].to_string();
    assert!(
        error.contains("public.ev_old is called what the destination is"),
        "{run:#}"
    );
    assert_eq!(run["runs"][0]["status"], "failed", "{run:#}");
    assert_eq!(db.number("SELECT count(*) FROM pg_inherits").await, 2);
    assert_eq!(db.number("SELECT count(*) FROM ev_next").await, 10);
}

/// A table there that does not take rows as they are, and a target that is
/// not there: nothing is deleted, nothing stays.
#[tokio::test]
async fn what_does_not_fit_is_refused() {
    let (db, there) = (fresh_database(17).await, fresh_database(16).await);
    rows(&db).await;
    let count = db.number("SELECT count(*) FROM t").await;
    for (make, destination, part) in [
        ("CREATE TABLE t (id bigint, at timestamptz)", json!({ "database": "warehouse", "table": "t" }), "no column v of type text"),
        ("CREATE TABLE t (id int, at timestamptz, v text)", json!({ "database": "warehouse", "table": "t" }), "no column id of type bigint"),
        ("CREATE TABLE t (id bigint, at timestamptz, v text);
          CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN new.v = upper(new.v); RETURN new; END';
          CREATE TRIGGER f BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f()", json!({ "database": "warehouse", "table": "t" }), "checksum"),
        ("CREATE TABLE stored (id bigint, at timestamptz, v text); CREATE VIEW t AS SELECT * FROM stored", json!({ "database": "warehouse", "table": "t" }), "is a view, and rows are proved where they are stored"),
    ] {
        there.execute("DROP TABLE IF EXISTS t").await;
        there.execute(make).await;
        let workspace = task(&db, &there, json!({ "table": "t", "column": "at", "older_than": "30d", "destination": destination }));
        let output = workspace.run(["run", "archive", "--now", "--output", "json"]).expect(1);
        assert!(output.stdout.contains(part), "{part}: {output:#?}");
        assert_eq!(db.number("SELECT count(*) FROM t").await, count);
        assert_eq!(there.number("SELECT count(*) FROM t").await, 0);
    }
}

for_versions! {
    [pg17 = 17]
    /// What a crash of the server would empty is no archive: not the table, not a partition of it.
    async fn an_unlogged_table_is_no_archive(major: u32) {
        let (db, there) = (fresh_database(major).await, fresh_database(major).await);
        rows(&db).await;
        let count = db.number("SELECT count(*) FROM t").await;
        let make = [
            "CREATE UNLOGGED TABLE kept (id bigint, at timestamptz, v text)",
            "CREATE TABLE kept (id bigint, at timestamptz, v text) PARTITION BY RANGE (at); CREATE UNLOGGED TABLE kept_all PARTITION OF kept DEFAULT",
        ];
        for (make, destination) in make.iter().flat_map(|m| [(m, json!({ "table": "kept" })), (m, json!({ "database": "warehouse", "table": "kept" }))]) {
            for place in [&db, &there] {
                place.execute("DROP TABLE IF EXISTS kept").await;
                place.execute(make).await;
            }
            let workspace = task(&db, &there, json!({ "table": "t", "column": "at", "older_than": "30d", "destination": destination }));
            let output = workspace.run(["run", "archive", "--now", "--output", "json"]).expect(1);
            assert!(output.stdout.contains("is UNLOGGED"), "{output:#?}");
            assert_eq!(db.number("SELECT count(*) FROM t").await, count);
        }
    }
}

/// Thirty kills on the way: every row is in exactly one of the two.
#[tokio::test]
async fn killed_thirty_times_on_the_way() {
    let (db, there) = (fresh_database(17).await, fresh_database(15).await);
    rows(&db).await;
    let workspace = task(
        &db,
        &there,
        json!({ "table": "t", "column": "at", "older_than": "30d", "batch_goal": "20ms",
        "walk": "key", "destination": { "database": "warehouse", "table": "old" } }),
    );
    kill_often(&db, &workspace, 30, async |lot| more_rows(&db, lot).await).await;
    let original = checksum(&db, "SELECT * FROM original").await;
    assert_eq!(checksum(&there, "SELECT * FROM old").await, original);
}

/// A target that is not there is named by `maint check`, with its place.
#[test]
fn the_other_target_is_checked() {
    let workspace = |database: &str| {
        let workspace = Workspace::new(
            "targets:\n  app: { engine: postgres, url: postgres://h/a }\n  warehouse: { engine: postgres, url: postgres://h/b }\n  \
             content: { engine: mongodb, url: mongodb://h/c }\ngroups:\n  both: [app, warehouse]\n",
        );
        workspace.task("archive", &format!(
            "kind: archive\ntarget: app\noptions:\n  table: t\n  column: at\n  older_than: 1y\n  destination: {{ database: {database}, table: old }}\n"
        ))
    };
    workspace("warehouse").run(["check"]).expect(0);
    for (database, message) in [
        (
            "wharehouse",
            "archive.yaml:7:28: unknown target `wharehouse`",
        ),
        (
            "both",
            "archive.yaml:7:28: `both` is a group; expected one target",
        ),
        (
            "content",
            "archive.yaml:7:28: target `content` is no postgres database",
        ),
    ] {
        let said = workspace(database).run(["check"]).expect(2).stderr;
        assert!(said.contains(message), "{said}");
        let known = said.lines().any(|line| line == "  known: app, warehouse");
        assert!(known, "{said}");
        let guess = said.contains("did you mean `warehouse`?");
        assert_eq!(guess, database == "wharehouse", "{said}");
    }
}

/// A character that the database there cannot hold: nothing is deleted, and it is said what can hold it.
#[tokio::test]
async fn a_character_that_is_unknown_there_is_told() {
    let db = fresh_database(17).await;
    let there = format!("{}_latin1", db.name);
    db.client
        .batch_execute(&format!(
            "CREATE DATABASE {there} ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
        ))
        .await
        .unwrap();
    db.execute("CREATE TABLE t (id int, at timestamptz NOT NULL, v text); INSERT INTO t VALUES (1, '2019-05-01', 'ü'), (2, '2019-05-01', '5 €')").await;
    let workspace = Workspace::for_target(&db.url).task(
        "archive",
        "kind: archive\ntarget: app\noptions: { table: t, column: at, older_than: 1y, destination: { database: warehouse, table: public.old } }\n",
    );
    let url = db.url.replace(&db.name, &there);
    workspace.file(
        "schedules.yaml",
        &format!(
            "history: sqlite:maint.db\ntargets:\n  app: {{ engine: postgres, url: \"{}\" }}\n  warehouse: {{ engine: postgres, url: \"{url}\" }}\n",
            db.url
        ),
    );
    let output = workspace.run(["run", "archive", "--now"]).expect(1);
    let text = format!("{}{}", output.stdout, output.stderr);
    assert!(
        text.contains("1 row refused to go") && text.contains("has no such character"),
        "{text}"
    );
    assert!(
        !text.contains("SQL_ASCII") && !text.contains("5 €"),
        "{text}"
    );
    assert_eq!(db.strings("SELECT v FROM t").await, ["5 €"]);
    db.client
        .batch_execute(&format!("DROP DATABASE {there} WITH (FORCE)"))
        .await
        .unwrap();
}

/// Of a table whose every column the server computes nothing could be sent: refused, and all rows are there.
#[tokio::test]
async fn a_table_of_computed_columns_only_is_refused() {
    let (db, there) = (fresh_database(17).await, fresh_database(17).await);
    db.execute("CREATE TABLE t (at timestamptz GENERATED ALWAYS AS ('2019-05-01 00:00+00'::timestamptz) STORED); INSERT INTO t SELECT FROM generate_series(1, 5)")
        .await;
    there.execute("CREATE TABLE old (at timestamptz)").await;
    let workspace = task(
        &db,
        &there,
        json!({ "table": "t", "column": "at", "older_than": "1y",
        "destination": { "database": "warehouse", "table": "old" } }),
    );
    let run = workspace
        .run(["run", "archive", "--now", "--output", "json"])
        .expect(1)
        .json();
    assert_eq!(run["runs"][0]["steps"], json!([]), "{run:#}");
    let told = run["runs"][0]["findings"].to_string();
    assert!(
        told.contains("the server computes each of its columns")
            && told.contains("archive it into files"),
        "{run:#}"
    );
    assert_eq!(
        (
            db.number("SELECT count(*) FROM t").await,
            there.number("SELECT count(*) FROM old").await
        ),
        (5, 0)
    );
}
