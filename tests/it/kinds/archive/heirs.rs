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
        "CREATE ROLE {role}_own; GRANT {role}_own TO {role}; CREATE ROLE {role}_reads;
         CREATE SCHEMA app AUTHORIZATION {role}_own; GRANT CREATE ON DATABASE {} TO {role}_own;
         GRANT USAGE ON SCHEMA app TO {role}_reads;
         SET ROLE {role}_own;
         CREATE TABLE app.s (id int PRIMARY KEY, at timestamptz NOT NULL);
         INSERT INTO app.s SELECT n, '2020-01-01' FROM generate_series(1, 20) n;
         CREATE FUNCTION app.tf() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN old; END';
         CREATE TRIGGER t BEFORE DELETE ON app.s FOR EACH ROW EXECUTE FUNCTION app.tf();
         CREATE TABLE app.u (LIKE app.s); INSERT INTO app.u SELECT * FROM app.s;
         CREATE TRIGGER t BEFORE DELETE ON app.u FOR EACH ROW EXECUTE FUNCTION app.tf();
         RESET ROLE;
         ALTER DEFAULT PRIVILEGES FOR ROLE {role} IN SCHEMA app GRANT SELECT ON TABLES TO {role}_reads, PUBLIC",
        db.name
    ))
    .await;
    (role, url)
}

for_oldest_and_newest! {
    /// What is made for rows of an owner is the owner's: a role that has nothing beyond its only owner
    /// is trusted with that owner's code afterwards as before. Who could not read the rows cannot.
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
        let reads = |who: &str, table: &str| format!("SELECT has_table_privilege('{who}', 'app.{table}', 'SELECT')::int");
        assert_eq!(db.strings(&owner("s_old")).await, [format!("{role}_own")]);
        for who in [&format!("{role}_reads"), "public"] {
            assert_eq!(db.number(&reads(who, "s_old")).await, 0, "{who}");
        }
        // The same for files that come back into a table that is made.
        let folder = tempfile::tempdir().unwrap();
        db.execute("INSERT INTO app.s SELECT n, '2020-01-01' FROM generate_series(1, 20) n").await;
        db.execute(&format!("GRANT SELECT ON app.s TO {role}_reads")).await;
        let workspace = workspace.task("archive", &json!({
            "kind": "archive", "target": "app",
            "options": { "table": "app.s", "column": "at", "older_than": "1y", "destination": { "files": format!("file://{}", folder.path().display()) } },
        }).to_string());
        archive(&workspace);
        workspace.run(["archive", "restore", "--from", "app.s", "--into", "app.back"]).expect(0);
        assert_eq!(db.number("SELECT count(*) FROM app.back").await, 20);
        assert_eq!(db.strings(&owner("back")).await, [format!("{role}_own")]);
        assert_eq!(db.number(&reads("public", "back")).await, 0);
        // Who reads the one may read the other.
        assert_eq!(db.number(&reads(&format!("{role}_reads"), "back")).await, 1);
        db.execute("INSERT INTO app.u SELECT n, '2020-01-01' FROM generate_series(1, 20) n").await;
        workspace.run(["run", "cleanup", "--now"]).expect(0);
        assert_eq!(db.number("SELECT count(*) FROM app.u").await, 0);
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
