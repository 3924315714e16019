//! Rows that a rule keeps, and how many it may take, where rows take others of their table along;
//! and rows whose triggers meet an error of the server's own.

use serde_json::json;

use super::aftermath::{OLD, ways};
use super::{cleanup, finding, run, workspace};
use crate::support::patience::Patience;
use crate::support::servers::{connect, fresh_database, private_cluster};
use crate::support::workspace::Workspace;

for_oldest_and_newest! {
    /// A foreign key of the table to itself, or a trigger, deletes another row than the one that goes.
    async fn what_is_to_stay_is_not_taken_along(major: u32) {
        let db = fresh_database(major).await;
        let key = "ALTER TABLE t ADD FOREIGN KEY (up) REFERENCES t ON DELETE CASCADE";
        let fires = |which: &str| format!("CREATE OR REPLACE FUNCTION below() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN DELETE FROM public.t WHERE up = old.id; RETURN NULL; END';
            CREATE TRIGGER below AFTER DELETE ON t FOR EACH {which} EXECUTE FUNCTION below()");
        let keep = json!({ "table": "t", "column": "at", "older_than": "1y", "keep": ["held"] });
        let bound = json!({ "table": "t", "column": "at", "older_than": "1y", "max_rows": 1000 });
        for (made, code, told, more) in [(key.to_owned(), 0, "rows.referenced", 50), (fires("ROW"), 1, "rows.refused", 200)] {
            for (rule, row) in [(&keep, format!("(8, 7, {OLD}, true)")), (&bound, "(8, 7, now(), false)".to_owned())] {
                db.execute(&format!("DROP TABLE IF EXISTS t; CREATE TABLE t (id int PRIMARY KEY, up int, at timestamptz NOT NULL, held bool NOT NULL);
                    INSERT INTO t SELECT g, NULL, {OLD}, false FROM generate_series(1, 100) g WHERE g <> 8;
                    INSERT INTO t VALUES {row}, (101, {more}, {OLD}, false); CREATE INDEX ON t (up); {made}")).await;
                let workspace = cleanup(&db, &json!([rule]));
                let first = run(&workspace, "cleanup", code);
                assert_eq!(db.strings("SELECT id::text FROM t ORDER BY id").await, ["7", "8"], "{made}: {first:#}");
                assert_eq!(first["rows"], 99, "{made}: {first:#}");
                let told = finding(&first, told);
                assert!(told.contains("1 "), "{told}");
                let second = run(&workspace, "cleanup", code);
                assert_eq!(second["rows"].as_i64().unwrap_or(0), 0, "{second:#}");
                assert_eq!(db.number("SELECT count(*) FROM t").await, 2);
            }
        }
        // Where nothing is said of rows that stay, the key does what it was made for.
        db.execute(&format!("DROP TABLE t; CREATE TABLE t (id int PRIMARY KEY, up int, at timestamptz NOT NULL);
            INSERT INTO t VALUES (7, NULL, {OLD}), (8, 7, now()), (9, NULL, now()); CREATE INDEX ON t (up); {key}")).await;
        run(&cleanup(&db, &json!([{ "table": "t", "column": "at", "older_than": "1y" }])), "cleanup", 0);
        assert_eq!(db.number("SELECT sum(id) FROM t").await, 9);
    }
}

for_oldest_and_newest! {
    /// Code that is at work with one row may not, or does too much: that row stays and is named, the
    /// others go.
    async fn an_error_within_code_is_about_its_row(major: u32) {
        let (db, there) = (fresh_database(major).await, fresh_database(major).await);
        let folder = tempfile::tempdir().unwrap();
        let files = format!("file://{}", folder.path().display());
        let role = format!("may_not_{}", db.name);
        db.execute(&format!("CREATE ROLE {role}; CREATE TABLE closed (); CREATE TABLE two AS SELECT 1 AS n UNION SELECT 2;
            CREATE FUNCTION deeper() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN public.deeper(); END';
            CREATE FUNCTION refused() RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS 'BEGIN PERFORM FROM public.closed; END'; ALTER FUNCTION refused() OWNER TO {role}")).await;
        for (body, code) in [
            ("PERFORM public.refused()", "42501"), ("PERFORM public.deeper()", "54001"), ("PERFORM (SELECT n FROM public.two)", "21000"), ("SET LOCAL ROLE nobody_at_all", "22023"),
        ] {
            // One of them in every way; the others are judged alike.
            let ways = ways(&files).into_iter().take(if code == "42501" { 4 } else { 1 });
            for (name, kind, options) in ways {
                for one in [&db, &there] {
                    one.execute("DROP TABLE IF EXISTS t, kept; CREATE TABLE t (id int, at timestamptz NOT NULL);
                        CREATE TABLE kept (id int, at timestamptz NOT NULL)").await;
                }
                db.execute(&format!("INSERT INTO t SELECT g, {OLD} FROM generate_series(1, 100) g;
                    CREATE OR REPLACE FUNCTION acts() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN {body}; RETURN old; END$$;
                    CREATE TRIGGER acts BEFORE DELETE ON t FOR EACH ROW WHEN (old.id = 7) EXECUTE FUNCTION acts()")).await;
                let workspace = workspace(&db, &there, kind, &options);
                let first = run(&workspace, kind, 1);
                assert_eq!(db.strings("SELECT id::text FROM t").await, ["7"], "{name} {body}: {first:#}");
                assert_eq!(first["rows"], 99, "{name} {body}: {first:#}");
                let told = finding(&first, "rows.refused");
                assert!(told.starts_with("1 ") && told.contains(code), "{name} {told}");
                db.execute("DROP TRIGGER acts ON t").await;
                assert_eq!(run(&workspace, kind, 0)["rows"], 1, "{name} {body}");
                assert_eq!(db.number("SELECT count(*) FROM t").await, 0);
            }
        }
        db.execute(&format!("DROP OWNED BY {role} CASCADE; DROP ROLE {role}")).await;
    }
}

for_versions! {
    [pg18 = 18]
    /// A standby that has to confirm, and is not there: a commit waits for it no longer than the step may
    /// take, and what is recorded as gone has gone.
    async fn a_standby_that_is_away_is_not_waited_for_without_end(major: u32) {
        let cluster = private_cluster(major, &[("autovacuum", "off")]);
        let url = cluster.url("postgres");
        let client = connect(&url).await;
        for statement in [
            "CREATE TABLE d (id int, at timestamptz NOT NULL)", &format!("INSERT INTO d SELECT g, {OLD} FROM generate_series(1, 500) g"),
            "CREATE TABLE m (LIKE d)", "INSERT INTO m TABLE d", "CREATE TABLE f (LIKE d)", "INSERT INTO f TABLE d", "CREATE TABLE kept (LIKE d)",
            "ANALYZE d, m, f", "ALTER SYSTEM SET synchronous_standby_names = 'nobody'", "SELECT pg_reload_conf()",
        ] {
            client.batch_execute(statement).await.unwrap();
        }
        let patience = Patience::until("the setting to be read");
        while client.query_one("SHOW synchronous_standby_names", &[]).await.unwrap().get::<_, String>(0) != "nobody" {
            patience.pause().await;
        }
        let folder = tempfile::tempdir().unwrap();
        let files = format!("files: \"file://{}\"", folder.path().display());
        let limits = "limits: { step_timeout: 5s }\n";
        let archive = |table: &str, into: &str| format!(
            "kind: archive\ntarget: app\n{limits}options: {{ table: {table}, column: at, older_than: 1y, destination: {{ {into} }} }}\n");
        let workspace = Workspace::for_target(&url)
            .task("d", &format!("kind: cleanup\ntarget: app\n{limits}options: {{ rules: [{{ table: d, column: at, older_than: 1y }}] }}\n"))
            .task("m", &archive("m", "table: kept"))
            .task("f", &archive("f", &files));
        for task in ["d", "m", "f"] {
            let run = workspace.run(["run", task, "--now", "--output", "json"]).json()["runs"][0].clone();
            let left = client.query_one(&format!("SELECT 500 - count(*) FROM {task}"), &[]).await.unwrap();
            assert_eq!(run["rows"].as_i64(), Some(left.get(0)), "{run:#}");
            assert_eq!(run["rows"], 500, "{run:#}");
            let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND pid <> pg_backend_pid()";
            assert_eq!(client.query_one(waits, &[]).await.unwrap().get::<_, i64>(0), 0, "{run:#}");
        }
        let kept = client.query_one("SELECT count(DISTINCT id) FROM kept", &[]).await.unwrap();
        assert_eq!(kept.get::<_, i64>(0), 500);
    }
}
