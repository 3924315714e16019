//! Publications that have the server refuse to delete any row: whoever asks beforehand is told.

use serde_json::json;

use super::aftermath::ways;
use super::{attempt, cleanup, finding, run, workspace};
use crate::support::servers::{TestDatabase, connect, fresh_database};

/// Takes what an earlier case has made away, and makes this one: rows that are too old.
async fn make(db: &TestDatabase, sql: &str) {
    db.execute("DROP PUBLICATION IF EXISTS news; DROP TABLE IF EXISTS child, t")
        .await;
    db.execute(sql).await;
    db.execute("INSERT INTO t (id, v, at) SELECT g, g, now() - interval '2 years' FROM generate_series(1, 30) g")
        .await;
}

/// What the server says of deleting the rows: its code, none where they go.
async fn refusal(db: &TestDatabase) -> Option<String> {
    let client = connect(&db.url).await;
    client.batch_execute("BEGIN").await.unwrap();
    let answer = client.execute("DELETE FROM t", &[]).await;
    client.batch_execute("ROLLBACK").await.unwrap();
    answer
        .err()
        .map(|error| error.code().unwrap().code().to_owned())
}

const KEYED: &str = "CREATE TABLE t (id int PRIMARY KEY, v int, at timestamptz NOT NULL)";
const BARE: &str = "CREATE TABLE t (id int NOT NULL, v int, at timestamptz NOT NULL)";
const PARTS: &str = "CREATE TABLE t (id int, v int, at timestamptz NOT NULL, PRIMARY KEY (id, at)) PARTITION BY RANGE (at)";

/// What is made, from which version on, and whether the server refuses.
fn cases() -> Vec<(u32, bool, String)> {
    let all = |table: &str, more: &str| format!("{table}; {more}");
    let news = |what: &str| format!("CREATE PUBLICATION news {what}");
    vec![
        (14, true, all(BARE, &news("FOR TABLE t"))),
        (14, true, all(BARE, &news("FOR ALL TABLES"))),
        (14, false, all(BARE, &news("FOR TABLE t WITH (publish = 'insert, update')"))),
        (14, false, all(BARE, &format!("ALTER TABLE t REPLICA IDENTITY FULL; {}", news("FOR TABLE t")))),
        (14, false, all(BARE, &format!("CREATE UNIQUE INDEX one ON t (id); ALTER TABLE t REPLICA IDENTITY USING INDEX one; {}", news("FOR TABLE t")))),
        (14, false, all(BARE, &format!("ALTER TABLE t SET UNLOGGED; {}", news("FOR ALL TABLES")))),
        (14, false, all(KEYED, &news("FOR TABLE t"))),
        (14, true, all(KEYED, &format!("ALTER TABLE t REPLICA IDENTITY NOTHING; {}", news("FOR TABLE t")))),
        (14, true, all(BARE, &format!("ALTER TABLE t ADD PRIMARY KEY (id) DEFERRABLE; {}", news("FOR TABLE t")))),
        (14, true, all(KEYED, &format!("CREATE TABLE child (id int REFERENCES t ON DELETE CASCADE); CREATE INDEX ON child (id); {}", news("FOR TABLE child")))),
        (14, true, all(KEYED, &format!("CREATE TABLE child (id int REFERENCES t ON DELETE SET NULL); CREATE INDEX ON child (id); {}", news("FOR TABLE child")))),
        (14, false, all(KEYED, &format!("CREATE TABLE child (id int REFERENCES t ON DELETE SET NULL); CREATE INDEX ON child (id); {}", news("FOR TABLE child WITH (publish = 'delete')")))),
        (15, true, all(BARE, &news("FOR TABLES IN SCHEMA public"))),
        (15, true, all(KEYED, &news("FOR TABLE t WHERE (v > 0)"))),
        (15, true, all(KEYED, &news("FOR TABLE t WHERE (id > 0 AND v IS NOT NULL)"))),
        (15, false, all(KEYED, &news("FOR TABLE t WHERE (id > 0)"))),
        (15, false, all(KEYED, &news("FOR TABLE t WHERE (v > 0) WITH (publish = 'insert')"))),
        (15, false, all(BARE, &format!("ALTER TABLE t REPLICA IDENTITY FULL; {}", news("FOR TABLE t WHERE (v > 0)")))),
        (15, true, all(KEYED, &news("FOR TABLE t (v, at)"))),
        (15, false, all(KEYED, &news("FOR TABLE t (id, at)"))),
        (15, true, all(BARE, &format!("ALTER TABLE t REPLICA IDENTITY FULL; {}", news("FOR TABLE t (id, v, at)")))),
        // The filter is the root's, and the columns of the partition stand in another order.
        (15, true, all(PARTS, &format!("CREATE TABLE part (gone int, at timestamptz NOT NULL, v int, id int NOT NULL);
            ALTER TABLE part DROP COLUMN gone; ALTER TABLE t ATTACH PARTITION part FOR VALUES FROM (MINVALUE) TO (MAXVALUE);
            {}", news("FOR TABLE t WHERE (v > 0) WITH (publish_via_partition_root = true)")))),
        (15, false, all(PARTS, &format!("CREATE TABLE part (gone int, at timestamptz NOT NULL, v int, id int NOT NULL);
            ALTER TABLE part DROP COLUMN gone; ALTER TABLE t ATTACH PARTITION part FOR VALUES FROM (MINVALUE) TO (MAXVALUE);
            {}", news("FOR TABLE t WHERE (id > 0) WITH (publish_via_partition_root = true)")))),
        (18, true, all(BARE, &format!("ALTER TABLE t ADD twice int GENERATED ALWAYS AS (id * 2) STORED NOT NULL; CREATE UNIQUE INDEX one ON t (twice);
            ALTER TABLE t REPLICA IDENTITY USING INDEX one; {}", news("FOR TABLE t")))),
        (18, false, all(BARE, &format!("ALTER TABLE t ADD twice int GENERATED ALWAYS AS (id * 2) STORED NOT NULL; CREATE UNIQUE INDEX one ON t (twice);
            ALTER TABLE t REPLICA IDENTITY USING INDEX one; {}", news("FOR TABLE t WITH (publish_generated_columns = stored)")))),
        (18, true, all(BARE, &format!("ALTER TABLE t ADD twice int GENERATED ALWAYS AS (id * 2) STORED; ALTER TABLE t REPLICA IDENTITY FULL; {}", news("FOR TABLE t")))),
        (18, true, all(BARE, &format!("ALTER TABLE t ADD twice int GENERATED ALWAYS AS (id * 2) VIRTUAL; ALTER TABLE t REPLICA IDENTITY FULL; {}", news("FOR TABLE t")))),
    ]
}

for_versions! {
    [pg17 = 17]
    /// What the server refuses is told instead of tried, and nothing else is.
    async fn what_the_server_would_refuse_is_not_promised(major: u32) {
        let db = fresh_database(major).await;
        let rules = json!([{ "table": "t", "column": "at", "older_than": "1y" }]);
        for (since, refuses, sql) in cases().into_iter().filter(|(since, ..)| *since <= major) {
            make(&db, &sql).await;
            let code = refusal(&db).await;
            assert_eq!(code.is_some(), refuses, "{since}: the server says {code:?} to {sql}");
            let workspace = cleanup(&db, &rules);
            let done = attempt(&workspace, "cleanup");
            let rows = db.number("SELECT count(*) FROM t").await;
            match refuses {
                false => assert_eq!((&done["status"], rows), (&json!("succeeded"), 0), "{sql}: {done:#}"),
                true => {
                    let told = finding(&done, "publication.refuses");
                    assert!(told.contains("publication news tells of it"), "{told}");
                    assert_eq!((done["steps"].as_array().map(Vec::len), rows), (Some(0), 30), "{sql}: {done:#}");
                    assert_ne!(done["status"], "succeeded", "{sql}: {done:#}");
                }
            }
        }
    }
}

for_versions! {
    [pg18 = 18]
    /// So it is for archives, wherever they go; and for `repack`, which would write rows anew.
    async fn nobody_tries_what_a_publication_forbids(major: u32) {
        let (db, there) = (fresh_database(major).await, fresh_database(major).await);
        let folder = tempfile::tempdir().unwrap();
        let files = format!("file://{}", folder.path().display());
        for one in [&db, &there] {
            one.execute("CREATE TABLE kept (id int, v int, at timestamptz NOT NULL)").await;
        }
        for (name, kind, options) in ways(&files) {
            make(&db, &format!("{BARE}; CREATE PUBLICATION news FOR TABLE t")).await;
            let workspace = workspace(&db, &there, kind, &options);
            let done = run(&workspace, kind, 1);
            let told = finding(&done, "publication.refuses");
            assert!(told.contains("no replica identity"), "{name}: {told}");
            assert_eq!(db.number("SELECT count(*) FROM t").await, 30, "{name}");
            db.execute("ALTER TABLE t REPLICA IDENTITY FULL").await;
            assert_eq!(run(&workspace, kind, 0)["rows"], 30, "{name}");
        }
        make(&db, &format!("{BARE}; CREATE PUBLICATION news FOR TABLE t")).await;
        db.execute("INSERT INTO t SELECT g, g, now() FROM generate_series(31, 60000) g; ALTER TABLE t REPLICA IDENTITY FULL;
            DELETE FROM t WHERE id % 5 > 0").await;
        db.execute("ALTER TABLE t REPLICA IDENTITY DEFAULT; ANALYZE t").await;
        let options = json!({ "include": ["public.t"], "min_size": "100kB", "way": "move" });
        let plan = workspace(&db, &there, "repack", &options).run(["plan", "repack", "--output", "json"]).json();
        let told = plan.to_string();
        assert!(told.contains("the server refuses every UPDATE: publication news tells of it"), "{plan:#}");
    }
}

for_oldest_and_newest! {
    /// A publication that takes in every new table sends the rows of one that maint makes at once: whoever subscribes and
    /// has no such table would stop there, with all tables.
    async fn no_table_is_made_that_would_be_published(major: u32) {
        let (db, there) = (fresh_database(major).await, fresh_database(major).await);
        let folder = tempfile::tempdir().unwrap();
        let files = format!("file://{}", folder.path().display());
        for one in [&db, &there] {
            one.execute("CREATE TABLE t (id int PRIMARY KEY, at timestamptz NOT NULL); INSERT INTO t SELECT g, now() - interval '2 years' FROM generate_series(1, 50) g;
                CREATE PUBLICATION everything FOR ALL TABLES").await;
        }
        for destination in [json!({ "table": "kept" }), json!({ "table": "kept", "database": "there" })] {
            let options = json!({ "table": "t", "column": "at", "older_than": "1y", "destination": destination });
            let workspace = workspace(&db, &there, "archive", &options);
            let done = run(&workspace, "archive", 1);
            let said = done.to_string();
            assert!(said.contains("the publication everything takes in every new table there") && said.contains("REFRESH PUBLICATION"), "{done:#}");
            let into = if destination["database"].is_string() { &there } else { &db };
            assert_eq!(into.number("SELECT count(*) FROM pg_class WHERE relname = 'kept'").await, 0);
            assert_eq!(db.number("SELECT count(*) FROM t").await, 50);
            // Made by hand, as whoever makes it at the subscribers as well does.
            into.execute("CREATE TABLE kept (LIKE t)").await;
            let done = run(&workspace, "archive", 0);
            assert_eq!(done["rows"], 50, "{done:#}");
            into.execute("DROP TABLE kept").await;
            db.execute("INSERT INTO t SELECT g, now() - interval '2 years' FROM generate_series(1, 50) g").await;
        }
        let options = json!({ "table": "t", "column": "at", "older_than": "1y", "destination": { "files": files } });
        let workspace = workspace(&db, &there, "archive", &options);
        assert_eq!(run(&workspace, "archive", 0)["rows"], 50);
        let refused = workspace.run(["archive", "restore", "--files", &files, "--into", "back", "--target", "app"]);
        assert_ne!(refused.code, 0);
        assert!(refused.stderr.contains("the publication everything takes in every new table"), "{}", refused.stderr);
        assert_eq!(db.number("SELECT count(*) FROM pg_class WHERE relname = 'back'").await, 0);
        db.execute("CREATE TABLE back (LIKE t)").await;
        workspace.run(["archive", "restore", "--files", &files, "--into", "back", "--target", "app"]).expect(0);
        assert_eq!(db.number("SELECT count(*) FROM back").await, 50);
    }
}
