//! Tables on other servers below one of this server.

use serde_json::json;

use super::{finding, objects};
use crate::support::servers::fresh_database;
use crate::support::workspace::Workspace;

for_oldest_and_newest! {
    /// A partition that cannot be read keeps statistics of the whole from being
    /// gathered, and nothing else: that is told, and no failure.
    async fn a_partition_out_of_reach_keeps_only_the_whole(major: u32) {
        let db = fresh_database(major).await;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("old.csv");
        db.execute(&format!("CREATE EXTENSION file_fdw; CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
            CREATE TABLE e (id int, at date) PARTITION BY RANGE (at);
            CREATE FOREIGN TABLE e_old PARTITION OF e FOR VALUES FROM (MINVALUE) TO ('2020-01-01') SERVER files OPTIONS (filename '{}', format 'csv');
            CREATE TABLE e_new PARTITION OF e FOR VALUES FROM ('2020-01-01') TO (MAXVALUE);
            CREATE TABLE beside (id int);
            INSERT INTO e_new SELECT g, '2024-01-01' FROM generate_series(1, 2000) g; INSERT INTO beside SELECT generate_series(1, 2000)", file.display())).await;
        let workspace = Workspace::for_target(&db.url).task("work", "kind: analyze\ntarget: app\n");
        let run = || workspace.run(["run", "work", "--now", "--output", "json"]).expect(0).json();
        let statistics = "SELECT DISTINCT tablename::text FROM pg_stats WHERE schemaname = 'public' AND tablename <> 'e_old' ORDER BY 1";
        let first = run();
        assert_eq!(first["runs"][0]["status"], "succeeded", "{first:#}");
        let done = objects(&first, "analyze", "succeeded");
        assert_eq!(done.into_iter().collect::<Vec<_>>(), ["public.beside", "public.e_new"], "{first:#}");
        let told = finding(&first, "foreign.unreachable");
        assert_eq!(told["object"], "public.e");
        assert!(told["message"].as_str().unwrap().contains("public.e_old"), "{told:#}");
        assert_eq!(db.strings(statistics).await, ["beside", "e_new"]);
        // Once it can be read the whole is analyzed, and then nothing is left to do.
        std::fs::write(&file, "1,2019-01-01\n").unwrap();
        let second = run();
        assert_eq!(objects(&second, "analyze", "succeeded").into_iter().collect::<Vec<_>>(), ["public.e"], "{second:#}");
        assert_eq!(second["runs"][0]["findings"], json!([]));
        assert_eq!(db.strings(statistics).await, ["beside", "e", "e_new"]);
        assert_eq!(run()["runs"][0]["steps"], json!([]));
    }
}

/// A table with three partitions, one of which is on a server that is not there; and one beside it.
const AWAY: &str = "CREATE EXTENSION postgres_fdw; CREATE SERVER away FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '127.0.0.1', port '1', dbname 'x');
    CREATE TABLE e (id int, at date NOT NULL, n int CONSTRAINT positive CHECK (n > 0), CONSTRAINT small CHECK (n < 1000000)) PARTITION BY RANGE (at);
    CREATE FOREIGN TABLE e_old PARTITION OF e FOR VALUES FROM (MINVALUE) TO ('2020-01-01') SERVER away OPTIONS (table_name 'e_old');
    CREATE TABLE e_2020 (n int, at date NOT NULL, id int, CONSTRAINT positive CHECK (n > 0), CONSTRAINT small CHECK (n < 1000000));
    ALTER TABLE e ATTACH PARTITION e_2020 FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
    CREATE TABLE e_new PARTITION OF e FOR VALUES FROM ('2021-01-01') TO (MAXVALUE);
    CREATE TABLE beside (id int PRIMARY KEY, CONSTRAINT few CHECK (id < 100));
    INSERT INTO e_2020 SELECT g, '2020-06-01', g FROM generate_series(1, 2000) g;
    INSERT INTO e_new SELECT g, '2022-06-01', g FROM generate_series(1, 2000) g;
    INSERT INTO beside SELECT generate_series(1, 50)";

for_oldest_and_newest! {
    /// What this server has of a table is checked, and damage there is found, whether or not the rest can be reached;
    /// of the rest it is said that nothing is known.
    async fn what_is_here_is_checked(major: u32) {
        let db = fresh_database(major).await;
        db.execute(AWAY).await;
        // Two ways in which nothing can be read over there: nobody to be there, and nobody there.
        for mapping in ["", "CREATE USER MAPPING FOR PUBLIC SERVER away OPTIONS (user 'x', password 'x')"] {
            db.execute(mapping).await;
            let workspace = Workspace::for_target(&db.url).task("work", "kind: integrity\ntarget: app\noptions: { recheck_after: 0s }\n");
            let run = || workspace.run(["run", "work", "--now", "--output", "json"]).expect(0).json();
            let done = run();
            let checked = objects(&done, "check_constraints", "succeeded");
            assert_eq!(checked.into_iter().collect::<Vec<_>>(), ["public.beside", "public.e"], "{done:#}");
            assert_eq!(objects(&done, "check_constraints", "skipped").into_iter().collect::<Vec<_>>(), ["public.e (public.e_old)"], "{done:#}");
            let told = finding(&done, "foreign.unreachable");
            assert_eq!(told["object"], "public.e (public.e_old)");
            assert_eq!(objects(&done, "check_constraints", "failed").len(), 0, "{done:#}");
            // Loaded behind the server's back, in two partitions with columns in another order.
            db.execute("ALTER TABLE e DROP CONSTRAINT positive; INSERT INTO e_2020 (id, at, n) VALUES (1, '2020-02-02', -1); INSERT INTO e_new VALUES (1, '2022-02-02', -1), (2, '2022-02-02', 0);
                ALTER TABLE e ADD CONSTRAINT positive CHECK (n > 0) NOT VALID").await;
            let done = run();
            let found = finding(&done, "constraint.violated");
            assert!(found["message"].as_str().unwrap().starts_with("3 rows of public.e violate positive"), "{done:#}");
            db.execute("DELETE FROM e_2020 WHERE n < 1; DELETE FROM e_new WHERE n < 1").await;
            assert!(!run()["runs"][0]["findings"].to_string().contains("constraint.violated"));
        }
    }
}

for_oldest_and_newest! {
    /// Everything else that works on such a table does its work on the rest of it.
    async fn no_kind_stumbles_over_a_server_that_is_away(major: u32) {
        let db = fresh_database(major).await;
        db.execute(AWAY).await;
        db.execute("CREATE USER MAPPING FOR PUBLIC SERVER away OPTIONS (user 'x', password 'x'); INSERT INTO e_new SELECT g, '2100-06-01', 7 FROM generate_series(1, 10) g").await;
        let folder = tempfile::tempdir().unwrap();
        let files = format!("file://{}", folder.path().display());
        for (kind, options, code) in [
            ("analyze", json!({}), 0),
            ("snapshot", json!({}), 0),
            ("vacuum", json!({}), 0),
            ("reindex", json!({}), 0),
            ("repack", json!({ "min_size": "1kB" }), 0),
            // Rows that meet the rule stay over there: that is work left undone.
            ("archive", json!({ "table": "e", "column": "at", "older_than": "5y", "destination": { "files": files } }), 1),
            ("cleanup", json!({ "rules": [{ "table": "e", "column": "at", "older_than": "4y" }] }), 1),
        ] {
            let workspace = Workspace::for_target(&db.url).task("work", &format!("kind: {kind}\ntarget: app\noptions: {options}\n"));
            let output = workspace.run(["run", "work", "--now", "--output", "json"]);
            let done = output.expect(code).json();
            let steps = done["runs"][0]["steps"].as_array().unwrap();
            assert!(steps.iter().all(|step| step["status"] != "failed"), "{kind}: {done:#}");
        }
        assert_eq!(db.number("SELECT count(*) FROM pg_class WHERE relname = 'e_2020'").await, 0);
        assert_eq!(db.number("SELECT count(*) FROM e_new").await, 10);
    }
}
