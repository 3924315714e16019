//! Rows of the default partition that something keeps there.

use serde_json::{Value, json};

use super::finding;
use crate::support::servers::{cluster, fresh_database};
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

for_each_version! {
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
        let error = document["runs"][0]["steps"][0]["error"].as_str().unwrap();
        assert!(error.contains("rows do not leave public.e_rest: trigger keep of public.e_rest keeps them"), "{error}");
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
        let told = finding(&document, "partitions.default_in_the_way")["message"].as_str().unwrap();
        assert!(told.contains("row-level security of public.e_rest keeps them there"), "{told}");
        all_are_there().await;
        db.execute("ALTER TABLE e_rest NO FORCE ROW LEVEL SECURITY").await;
        run(&workspace(&theirs), 0);
        assert_eq!(db.number("SELECT count(*) FROM ONLY e_rest").await, 0);
        assert_eq!(db.number("SELECT count(*) FROM e").await, 30);
        assert_eq!(run(&workspace(&theirs), 0)["runs"][0]["steps"], json!([]));
        db.execute(&format!("DROP TABLE e; DROP OWNED BY {owner}; DROP ROLE {owner}")).await;
    }
}
