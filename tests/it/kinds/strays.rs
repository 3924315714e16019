//! Rows of the default partition that something keeps there.

use serde_json::{Value, json};

use super::finding;
use crate::support::servers::{cluster, fresh_database, has_19};
use crate::support::workspace::Workspace;

fn workspace(url: &str) -> Workspace {
    Workspace::for_target(url).task(
        "work",
        "kind: partitions\ntarget: app\noptions: { tables: [e], interval: month, ahead: 0, move_default_rows: true }\n",
    )
}

fn run(workspace: &Workspace, code: i32) -> Value {
    let output = workspace.run(["run", "work", "--now", "--output", "json"]);
    output.expect(code).json()
}

for_oldest_and_newest! {
    /// Triggers, rules and policies that keep rows are named; nothing is made
    /// halfway, and without them the rows move.
    async fn who_keeps_rows_in_the_default_is_named(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE e (id int, at date NOT NULL) PARTITION BY RANGE (at); CREATE TABLE e_rest PARTITION OF e DEFAULT;
            INSERT INTO e SELECT n, current_date FROM generate_series(1, 30) n;
            CREATE FUNCTION keeps() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN IF old.id = 7 THEN RETURN NULL; END IF; RETURN old; END'").await;
        let all_are_there = async || {
            assert_eq!(db.number("SELECT count(*) FROM ONLY e_rest").await, 30);
            assert_eq!(db.number("SELECT count(*) FROM pg_inherits WHERE inhparent = 'e'::regclass").await, 1);
        };
        db.execute("CREATE TRIGGER keep BEFORE DELETE ON e_rest FOR EACH ROW EXECUTE FUNCTION keeps()").await;
        let document = run(&workspace(&db.url), 1);
        assert_eq!(document["runs"][0]["steps"], json!([]));
        let told = finding(&document, "partitions.default_in_the_way")["message"].as_str().unwrap();
        assert!(told.contains("would fire trigger keep of public.e_rest"), "{told}");
        all_are_there().await;
        db.execute("DROP TRIGGER keep ON e_rest; CREATE RULE stay AS ON DELETE TO e_rest DO INSTEAD NOTHING").await;
        let document = run(&workspace(&db.url), 1);
        assert_eq!(document["runs"][0]["steps"], json!([]));
        let told = finding(&document, "partitions.default_in_the_way")["message"].as_str().unwrap();
        assert!(told.contains("rule stay of public.e_rest keeps them there"), "{told}");
        all_are_there().await;
        // Its owner sees only what a policy shows, and could move only that.
        let owner = format!("owner_of_{}", db.name);
        db.execute(&format!("DROP RULE stay ON e_rest; CREATE ROLE {owner} LOGIN PASSWORD 'x'; GRANT ALL ON SCHEMA public TO {owner};
            ALTER TABLE e OWNER TO {owner}; ALTER TABLE e_rest OWNER TO {owner};
            ALTER TABLE e_rest ENABLE ROW LEVEL SECURITY; ALTER TABLE e_rest FORCE ROW LEVEL SECURITY; CREATE POLICY shown ON e_rest USING (id < 20)")).await;
        let port = cluster(major).port();
        let theirs = format!("postgres://{owner}:x@127.0.0.1:{port}/{}?sslmode=disable", db.name);
        let document = run(&workspace(&theirs), 1);
        let told = finding(&document, "privilege.missing");
        assert!(told["message"].as_str().unwrap().contains("is subject to row-level security there"), "{told}");
        assert_eq!(told["suggestion"], format!("ALTER ROLE {owner} BYPASSRLS"));
        all_are_there().await;
        db.execute("ALTER TABLE e_rest NO FORCE ROW LEVEL SECURITY").await;
        run(&workspace(&theirs), 0);
        assert_eq!(db.number("SELECT count(*) FROM ONLY e_rest").await, 0);
        assert_eq!(db.number("SELECT count(*) FROM e").await, 30);
        assert_eq!(run(&workspace(&theirs), 0)["runs"][0]["steps"], json!([]));
        db.execute(&format!("DROP TABLE e; DROP OWNED BY {owner}; DROP ROLE {owner}")).await;
    }
}

for_oldest_and_newest! {
    /// Rows that move have not been deleted: who would believe it, triggers and
    /// subscribers, is named, and nothing moves.
    async fn who_would_take_them_for_deleted_is_named(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE e (id int, at date NOT NULL) PARTITION BY RANGE (at); CREATE TABLE e_rest PARTITION OF e DEFAULT;
            CREATE TABLE kid (id int); INSERT INTO kid SELECT generate_series(1, 30);
            INSERT INTO e SELECT n, current_date FROM generate_series(1, 30) n;
            CREATE FUNCTION cascades() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN DELETE FROM kid WHERE id = old.id; RETURN NULL; END';
            CREATE FUNCTION counts() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN DELETE FROM kid; RETURN NULL; END'").await;
        let obstacles = [
            ("CREATE TRIGGER gone AFTER DELETE ON e FOR EACH ROW EXECUTE FUNCTION cascades()", "would fire trigger gone of e_rest", "DROP TRIGGER gone ON e"),
            ("CREATE TRIGGER \"All gone\" AFTER UPDATE OR DELETE ON e_rest FOR EACH STATEMENT EXECUTE FUNCTION counts()",
                "would fire trigger \"All gone\" of e_rest", "DROP TRIGGER \"All gone\" ON e_rest"),
            ("CREATE PUBLICATION feed FOR TABLE e WITH (publish_via_partition_root = true)", "subscribers of publication feed", "DROP PUBLICATION feed"),
            ("CREATE PUBLICATION feed FOR TABLE e", "subscribers of publication feed", "DROP PUBLICATION feed"),
            ("CREATE PUBLICATION feed FOR ALL TABLES", "subscribers of publication feed", "DROP PUBLICATION feed"),
            // The rows come in a table that is no partition yet, and that subscribers do not have.
            ("CREATE PUBLICATION feed FOR ALL TABLES WITH (publish = 'insert')", "subscribers of publication feed", "DROP PUBLICATION feed"),
            ("CREATE PUBLICATION feed FOR TABLE e WITH (publish = 'insert', publish_via_partition_root = true)",
                "subscribers of publication feed", "DROP PUBLICATION feed"),
        ];
        for (made, words, gone) in obstacles {
            db.execute(made).await;
            let document = run(&workspace(&db.url), 1);
            assert_eq!(document["runs"][0]["steps"], json!([]), "{made}: {document:#}");
            let told = finding(&document, "partitions.default_in_the_way")["message"].as_str().unwrap();
            assert!(told.replace("public.", "").contains(words), "{told}");
            assert_eq!(db.number("SELECT count(*) FROM ONLY e_rest").await, 30);
            assert_eq!(db.number("SELECT count(*) FROM kid").await, 30);
            db.execute(gone).await;
        }
        // Who hears neither of what comes nor of what goes is not misled.
        db.execute("CREATE PUBLICATION news FOR ALL TABLES WITH (publish = 'update, truncate')").await;
        run(&workspace(&db.url), 0);
        assert_eq!(db.number("SELECT count(*) FROM ONLY e_rest").await, 0);
        assert_eq!(db.number("SELECT count(*) FROM e").await, 30);
        assert_eq!(db.number("SELECT count(*) FROM kid").await, 30);
        assert_eq!(run(&workspace(&db.url), 0)["runs"][0]["steps"], json!([]));
    }
}

for_oldest_and_newest! {
    /// A foreign key may point at the table, above it, or at the default partition itself:
    /// the rows that move would take the rows that refer to them along.
    async fn whoever_refers_to_them_is_named(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE above (id int, k int, at date, PRIMARY KEY (k, at, id)) PARTITION BY LIST (k);
            CREATE TABLE e PARTITION OF above FOR VALUES IN (1) PARTITION BY RANGE (at); CREATE TABLE e_rest PARTITION OF e DEFAULT;
            INSERT INTO above SELECT n, 1, current_date FROM generate_series(1, 30) n").await;
        for (table, action) in [("above", "CASCADE"), ("e", "SET NULL"), ("e_rest", "CASCADE")] {
            db.execute(&format!("CREATE TABLE kid (id int, k int, at date, FOREIGN KEY (k, at, id) REFERENCES {table} ON DELETE {action});
                INSERT INTO kid SELECT id, k, at FROM above")).await;
            let document = run(&workspace(&db.url), 1);
            assert_eq!(document["runs"][0]["steps"], json!([]), "{table}: {document:#}");
            let told = finding(&document, "partitions.default_in_the_way")["message"].as_str().unwrap();
            assert!(told.contains("would set off the foreign key of ") && told.contains("kid"), "{told}");
            assert_eq!(db.number("SELECT count(k) FROM kid").await, 30);
            assert_eq!(db.number("SELECT count(*) FROM ONLY e_rest").await, 30);
            db.execute("DROP TABLE kid").await;
        }
        run(&workspace(&db.url), 0);
        assert_eq!(db.number("SELECT count(*) FROM ONLY e_rest").await, 0);
        assert_eq!(db.number("SELECT count(*) FROM above").await, 30);
        assert_eq!(run(&workspace(&db.url), 0)["runs"][0]["steps"], json!([]));
    }
}

for_oldest_and_newest! {
    /// A default partition that nobody could look into is not told to be empty, nor is one that
    /// is too large to be looked into.
    async fn a_default_that_was_not_read_is_not_empty(major: u32) {
        let db = fresh_database(major).await;
        let (keeper, url) = crate::settings::role(&db, "").await;
        let (other, _) = crate::settings::role(&db, "").await;
        db.execute(&format!("CREATE TABLE e (id int, at date NOT NULL) PARTITION BY RANGE (at); CREATE TABLE e_rest PARTITION OF e DEFAULT;
            INSERT INTO e SELECT n, '2001-01-01' FROM generate_series(1, 30000) n;
            GRANT ALL ON SCHEMA public TO {keeper}; ALTER TABLE e OWNER TO {keeper}; ALTER TABLE e_rest OWNER TO {other}")).await;
        let task = |options: &str| format!("kind: partitions\ntarget: app\ntrust_owners: [{other}]\noptions: {{ tables: [e], interval: month, ahead: 0{options} }}\n");
        let theirs = Workspace::for_target(&url).task("work", &task(""));
        let partitions = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'e'::regclass";
        for made in [1, 0] {
            let document = run(&theirs, 0);
            let run = &document["runs"][0];
            assert_eq!(run["steps"].as_array().unwrap().len(), made, "{document:#}");
            assert_eq!(db.number(partitions).await, 2);
            let told = finding(&document, "privilege.missing");
            assert_eq!(told["object"], "public.e_rest");
            assert_eq!(told["suggestion"], format!("GRANT SELECT ON public.e_rest TO {keeper}"));
        }
        db.execute(&format!("GRANT SELECT ON public.e_rest TO {keeper}")).await;
        let document = run(&theirs, 0);
        let told = finding(&document, "partitions.default_rows")["message"].as_str().unwrap();
        assert!(told.starts_with("30000 rows of public.e sit in its default partition"), "{told}");
        theirs.file("tasks/work.yaml", &task(", max_default_size: 1MB"));
        let document = run(&theirs, 0);
        let told = finding(&document, "partitions.default_rows")["message"].as_str().unwrap();
        assert!(told.contains("is larger than max_default_size (1 MB), and so is not read"), "{told}");
        db.execute("TRUNCATE e_rest").await;
        assert_eq!(run(&theirs, 0)["runs"][0]["findings"], json!([]));
    }
}

/// A publication of all tables that leaves the partitioned one out takes in the new table, which is none of its
/// partitions while rows come into it.
#[tokio::test]
async fn who_takes_in_new_tables_is_named_pg19() {
    if !has_19() {
        return;
    }
    let db = fresh_database(19).await;
    db.execute("CREATE TABLE e (id int, at date NOT NULL) PARTITION BY RANGE (at); CREATE TABLE e_rest PARTITION OF e DEFAULT;
        INSERT INTO e SELECT n, current_date FROM generate_series(1, 30) n; CREATE PUBLICATION feed FOR ALL TABLES EXCEPT (TABLE e)").await;
    let document = run(&workspace(&db.url), 1);
    assert_eq!(document["runs"][0]["steps"], json!([]), "{document:#}");
    let told = finding(&document, "partitions.default_in_the_way")["message"]
        .as_str()
        .unwrap();
    assert!(told.contains("subscribers of publication feed"), "{told}");
    assert_eq!(db.number("SELECT count(*) FROM ONLY e_rest").await, 30);
    db.execute("DROP PUBLICATION feed").await;
    run(&workspace(&db.url), 0);
    assert_eq!(db.number("SELECT count(*) FROM ONLY e_rest").await, 0);
}
