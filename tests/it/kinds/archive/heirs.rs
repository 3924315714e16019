//! Tables that are made for rows of others: whose they are, and who reads them. And a place that takes
//! nothing, which is found out before anything is detached.

use std::fs;

use serde_json::json;

use super::{archive, workspace};
use crate::support::servers::{TestDatabase, fresh_database};
use crate::support::workspace::Workspace;

const CLEANUP: &str = "kind: cleanup\ntarget: app\noptions:\n  rules:\n    - { table: app.u, column: at, older_than: 1y }\n";

/// The only member of an owner whose tables have triggers, and the URL for it.
async fn member(db: &TestDatabase) -> (String, String) {
    let (role, url) = crate::settings::role(db, "").await;
    db.execute(&format!(
        "CREATE ROLE {role}_own; GRANT {role}_own TO {role};
         CREATE SCHEMA app AUTHORIZATION {role}_own; GRANT CREATE ON DATABASE {} TO {role}_own;
         SET ROLE {role}_own;
         CREATE TABLE app.s (id int PRIMARY KEY, at timestamptz NOT NULL);
         INSERT INTO app.s SELECT n, '2020-01-01' FROM generate_series(1, 20) n;
         CREATE FUNCTION app.tf() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN old; END';
         CREATE TRIGGER t BEFORE DELETE ON app.s FOR EACH ROW EXECUTE FUNCTION app.tf();
         CREATE TABLE app.u (LIKE app.s); INSERT INTO app.u SELECT * FROM app.s;
         CREATE TRIGGER t BEFORE DELETE ON app.u FOR EACH ROW EXECUTE FUNCTION app.tf();
         RESET ROLE",
        db.name
    ))
    .await;
    (role, url)
}

for_versions! {
    [pg16 = 16]
    /// What is made for rows of an owner is the owner's: a role that has nothing beyond its only owner
    /// is trusted with that owner's code afterwards as before.
    async fn a_table_that_is_made_belongs_to_who_had_the_rows(major: u32) {
        let db = fresh_database(major).await;
        let (role, url) = member(&db).await;
        let workspace = Workspace::for_target(&url)
            .task("cleanup", CLEANUP)
            .task("archive", &json!({
                "kind": "archive", "target": "app",
                "options": { "table": "app.s", "column": "at", "older_than": "1y", "destination": { "table": "app.s_old" } },
            }).to_string());
        archive(&workspace);
        assert_eq!(db.number("SELECT count(*) FROM app.s_old").await, 20);
        workspace.run(["run", "cleanup", "--now"]).expect(0);
        assert_eq!(db.number("SELECT count(*) FROM app.u").await, 0);
        let owner = |table: &str| format!("SELECT tableowner FROM pg_tables WHERE schemaname = 'app' AND tablename = '{table}'");
        assert_eq!(db.strings(&owner("s_old")).await, [format!("{role}_own")]);
        // The same for files that come back into a table that is made.
        let folder = tempfile::tempdir().unwrap();
        db.execute("INSERT INTO app.s SELECT n, '2020-01-01' FROM generate_series(1, 20) n").await;
        let workspace = workspace.task("archive", &json!({
            "kind": "archive", "target": "app",
            "options": { "table": "app.s", "column": "at", "older_than": "1y", "destination": { "files": format!("file://{}", folder.path().display()) } },
        }).to_string());
        archive(&workspace);
        workspace.run(["archive", "restore", "--from", "app.s", "--into", "app.back"]).expect(0);
        assert_eq!(db.number("SELECT count(*) FROM app.back").await, 20);
        assert_eq!(db.strings(&owner("back")).await, [format!("{role}_own")]);
        db.execute("INSERT INTO app.u SELECT n, '2020-01-01' FROM generate_series(1, 20) n").await;
        workspace.run(["run", "cleanup", "--now"]).expect(0);
        assert_eq!(db.number("SELECT count(*) FROM app.u").await, 0);
    }
}

/// Default privileges give the rows of a table to nobody who could not read that table.
#[tokio::test]
async fn who_could_not_read_the_rows_cannot_read_the_new_table() {
    let db = fresh_database(17).await;
    let (own, _) = crate::settings::role(&db, "").await;
    db.execute(&format!(
        "CREATE ROLE {own}_may; CREATE ROLE {own}_not;
         CREATE TABLE t (id int PRIMARY KEY, at timestamptz NOT NULL);
         INSERT INTO t SELECT n, '2020-01-01' FROM generate_series(1, 20) n;
         GRANT SELECT ON t TO {own}_may;
         CREATE SCHEMA kept; ALTER DEFAULT PRIVILEGES IN SCHEMA kept GRANT SELECT ON TABLES TO {own}_may, {own}_not, PUBLIC"
    ))
    .await;
    let folder = tempfile::tempdir().unwrap();
    let files = json!({ "files": format!("file://{}", folder.path().display()) });
    let options = |destination: &serde_json::Value| json!({ "table": "t", "column": "at", "older_than": "1y", "destination": destination });
    let first = workspace(&db, &options(&json!({ "table": "kept.t" })));
    archive(&first);
    db.execute("INSERT INTO t SELECT n, '2020-01-01' FROM generate_series(21, 40) n")
        .await;
    let second = workspace(&db, &options(&files));
    archive(&second);
    second
        .run(["archive", "restore", "--from", "t", "--into", "kept.back"])
        .expect(0);
    for table in ["kept.t", "kept.back"] {
        assert_eq!(
            db.number(&format!("SELECT count(*) FROM {table}")).await,
            20
        );
        for (who, may) in [
            (format!("{own}_may"), 1),
            (format!("{own}_not"), 0),
            ("public".to_owned(), 0),
        ] {
            let reads =
                format!("SELECT has_table_privilege('{who}', '{table}', 'SELECT')::int::int8");
            assert_eq!(db.number(&reads).await, may, "{who} {table}");
        }
    }
}

/// A mistyped place takes no row from anybody: nothing is detached before it has taken a manifest.
#[tokio::test]
async fn nothing_is_detached_for_a_place_that_takes_nothing() {
    let db = fresh_database(17).await;
    db.execute(
        "CREATE TABLE e (id int, at timestamptz NOT NULL) PARTITION BY RANGE (at);
         CREATE TABLE e1 PARTITION OF e FOR VALUES FROM ('2020-01-01') TO ('2020-02-01');
         CREATE TABLE e2 PARTITION OF e FOR VALUES FROM ('2020-02-01') TO ('2020-03-01');
         CREATE TABLE e3 PARTITION OF e FOR VALUES FROM ('2020-03-01') TO ('2100-01-01');
         INSERT INTO e SELECT n, '2020-01-15'::timestamptz + n % 2 * interval '1 month' FROM generate_series(1, 40) n",
    )
    .await;
    let folder = tempfile::tempdir().unwrap();
    // A file stands where the folder would be.
    fs::write(folder.path().join("taken"), "").unwrap();
    let options = |place: &str| json!({ "table": "e", "column": "at", "older_than": "1y", "destination": { "files": format!("file://{}/{place}", folder.path().display()) } });
    let refused = workspace(&db, &options("taken"));
    for _ in 0..2 {
        let output = refused.run(["run", "archive", "--now", "--output", "json"]);
        let run = output.expect(1).json()["runs"][0].clone();
        let failed: Vec<&str> = run["steps"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|step| step["error"].as_str())
            .collect();
        assert!(
            failed
                .iter()
                .filter(|why| why.contains("was not detached"))
                .count()
                >= 2,
            "{run:#}"
        );
        assert_eq!(db.number("SELECT count(*) FROM e").await, 40);
    }
    let good = serde_json::to_string(
        &json!({ "kind": "archive", "target": "app", "options": options("good") }),
    );
    let workspace = refused.task("archive", &good.unwrap());
    archive(&workspace);
    assert_eq!(db.number("SELECT count(*) FROM e").await, 0);
    super::nothing_is_left(&workspace);
    workspace
        .run(["archive", "restore", "--from", "e", "--into", "back"])
        .expect(0);
    assert_eq!(db.number("SELECT count(*) FROM back").await, 40);
}
