//! What goes by days goes by those of whoever wrote the rows, not by UTC.

use serde_json::Value;

use super::{objects, workspace};
use crate::support::servers::{TestDatabase, fresh_database};
use crate::support::workspace::Workspace;

async fn at_new_york(major: u32) -> TestDatabase {
    let db = fresh_database(major).await;
    db.execute(&format!(
        "ALTER DATABASE {} SET timezone = 'America/New_York'; SET timezone = 'America/New_York'",
        db.name
    ))
    .await;
    db
}

for_oldest_and_newest! {
    /// A key between a day and a moment, and a condition that makes a day of a moment.
    async fn rows_that_are_held_by_their_days_stay(major: u32) {
        let db = at_new_york(major).await;
        db.execute("CREATE TABLE p (d timestamptz PRIMARY KEY); INSERT INTO p VALUES ('2026-01-01'), ('2026-02-01');
            CREATE TABLE c (id int PRIMARY KEY, d date REFERENCES p); INSERT INTO c VALUES (1, '2026-01-01'), (2, '2026-02-01');
            CREATE TABLE q (d timestamptz PRIMARY KEY); INSERT INTO q VALUES ('2026-07-01');
            CREATE TABLE e (id int PRIMARY KEY, d timestamp REFERENCES q); INSERT INTO e VALUES (1, '2026-07-01');
            ALTER TABLE e DROP CONSTRAINT e_d_fkey; INSERT INTO e VALUES (2, '2026-07-02'); ALTER TABLE e ADD FOREIGN KEY (d) REFERENCES q NOT VALID;
            CREATE TABLE t (id int PRIMARY KEY, at timestamptz, day date); INSERT INTO t SELECT g, '2026-01-01 22:00', '2026-01-01' FROM generate_series(1, 5) g;
            INSERT INTO t VALUES (6, '2026-01-01 22:00', '2026-01-02')").await;
        let orphans = |table: &str, parent: &str| format!("{{ table: {table}, orphaned: {{ columns: [d], parent: {parent}, parent_columns: [d] }}, max_share: 100% }}");
        let rules = [orphans("c", "p"), orphans("e", "q"), "{ table: t, where: \"true\", keep: [\"day = at::date\"], max_share: 100% }".to_owned()];
        let workspace = workspace(&db)
            .task("clean", &format!("kind: cleanup\ntarget: app\noptions: {{ rules: [{}] }}\n", rules.join(", ")))
            .task("sound", "kind: integrity\ntarget: app\noptions: { catalogs: false, queries: [{ name: day, sql: \"SELECT FROM public.t WHERE day <> at::date\" }] }\n")
            .task("wait", "kind: cleanup\ntarget: app\nthrottle: { query: \"SELECT current_setting('TimeZone') <> 'America/New_York'\" }\noptions: { rules: [{ table: t, where: \"id = 1\" }] }\n");
        let run = |task: &str, code: i32| workspace.run(["run", task, "--now", "--output", "json"]).expect(code).json();
        let told = |document: &Value| -> Vec<String> {
            let findings = document["runs"][0]["findings"].as_array().unwrap().iter();
            let findings = findings.filter(|f| ["query.rows", "foreign_key.orphans", "constraint.violated"].contains(&f["code"].as_str().unwrap()));
            let mut told: Vec<String> = findings.map(|f| format!("{} {}", f["code"].as_str().unwrap(), f["object"].as_str().unwrap())).collect();
            told.sort();
            told
        };
        let found = told(&run("sound", 0));
        assert!(found.iter().any(|one| one == "query.rows day") && !found.iter().any(|one| one.contains("public.c")), "{found:?}");
        let dry = workspace.run(["run", "clean", "--now", "--dry-run"]).expect(0);
        assert!(dry.stdout.contains("public.e") && !dry.stdout.contains("public.c"), "{dry:#?}");
        for rows in [2, 0] {
            let done = run("clean", 0);
            assert_eq!(done["runs"][0]["rows"], rows, "{done:#}");
        }
        for (sql, left) in [("SELECT count(*) FROM c", 2), ("SELECT sum(id) FROM e", 1), ("SELECT count(*) FROM t WHERE id < 6", 5), ("SELECT count(*) FROM t", 5)] {
            assert_eq!(db.number(sql).await, left, "{sql}");
        }
        let found = told(&run("sound", 0));
        assert!(found.is_empty(), "{found:?}");
        let done = run("wait", 0);
        assert_eq!(objects(&done, "delete", "succeeded").len(), 1, "{done:#}");
    }
}

for_oldest_and_newest! {
    /// Constraints that make a day of a moment hold for rows that somebody moves.
    async fn constraints_by_days_hold_where_rows_move(major: u32) {
        let db = at_new_york(major).await;
        db.execute("CREATE TABLE ev (at timestamptz NOT NULL, day date, CHECK (day = at::date)) PARTITION BY RANGE (at);
            CREATE TABLE ev_rest PARTITION OF ev DEFAULT; CREATE TABLE ev_one PARTITION OF ev FOR VALUES FROM ('2026-01-01 00:00+00') TO ('2026-02-01 00:00+00');
            INSERT INTO ev SELECT date_trunc('month', now() AT TIME ZONE 'UTC') + interval '3 days 3 hours', NULL; UPDATE ev SET day = at::date;
            CREATE TABLE full_of_holes (id int PRIMARY KEY, at timestamptz, day date, pad text, CHECK (day = at::date));
            INSERT INTO full_of_holes SELECT g, '2026-01-01 22:00', '2026-01-01', repeat('x', 500) FROM generate_series(1, 8000) g;
            DELETE FROM full_of_holes WHERE id % 4 <> 0").await;
        db.execute("VACUUM ANALYZE full_of_holes").await;
        let workspace = workspace(&db)
            .task("ahead", "kind: partitions\ntarget: app\noptions: { tables: [ev], interval: month, ahead: 0, time_zone: UTC, move_default_rows: true }\n")
            .task("repack", "kind: repack\ntarget: app\noptions: { include: [full_of_holes], min_size: 1MB, way: move }\n")
            .task("sound", "kind: integrity\ntarget: app\noptions: { catalogs: false }\n");
        let run = |task: &str| workspace.run(["run", task, "--now", "--output", "json"]).expect(0).json();
        run("ahead");
        assert_eq!(db.number("SELECT count(*) FROM ev_rest").await, 0);
        assert_eq!(db.number("SELECT count(*) FROM ev").await, 1);
        let done = run("repack");
        assert_eq!(objects(&done, "move_rows", "succeeded").len(), 1, "{done:#}");
        assert_eq!(db.number("SELECT count(*) FROM full_of_holes").await, 2000);
        let found = run("sound");
        let violated = found["runs"][0]["findings"].as_array().unwrap().iter().filter(|f| f["code"] == "constraint.violated");
        assert_eq!(violated.count(), 0, "{found:#}");
    }
}

for_oldest_and_newest! {
    /// What an archive keeps goes by their days, wherever the rows go, and what it holds is as it was.
    async fn archives_keep_what_is_held_by_their_days(major: u32) {
        let (db, there) = (at_new_york(major).await, fresh_database(major).await);
        for table in ["within", "files", "sent", "ranges"] {
            let (more, value) = match table {
                "ranges" => (", span tstzrange", ", '[2026-01-01,2026-02-01)'"),
                _ => ("", ""),
            };
            db.execute(&format!("SET timezone = 'America/New_York'; CREATE TABLE {table} (id int PRIMARY KEY, at timestamptz, day date{more});
                INSERT INTO {table} SELECT g, '2026-01-01 22:00', '2026-01-01'{value} FROM generate_series(1, 5) g;
                INSERT INTO {table} SELECT g, '2026-01-01 22:00', '2026-01-02'{value} FROM generate_series(6, 8) g")).await;
        }
        db.execute("CREATE TABLE aged (LIKE ranges); INSERT INTO aged TABLE ranges").await;
        there.execute("CREATE TABLE sent (id int PRIMARY KEY, at timestamptz, day date)").await;
        let mut workspace = Workspace::new(&format!(
            "history: sqlite:maint.db\ntargets:\n  app: {{ engine: postgres, url: \"{}\" }}\n  other: {{ engine: postgres, url: \"{}\" }}\n", db.url, there.url));
        let task = |table: &str, which: &str, destination: &str| format!(
            "kind: archive\ntarget: app\noptions: {{ table: {table}, column: at, older_than: 30d, {which}destination: {{ {destination} }} }}\n");
        let keep = "keep: [\"day = at::date\"], ";
        let files = format!("files: \"file://{}\"", workspace.path().join("archive").display());
        for (table, destination) in [("within", "table: archive.within"), ("files", &files), ("sent", "database: other, table: sent"), ("ranges", &files)] {
            workspace = workspace.task(table, &task(table, keep, destination));
        }
        let workspace = workspace.task("aged", &task("aged", "", &files));
        let run = |task: &str, code: i32| workspace.run(["run", task, "--now", "--output", "json"]).expect(code).json();
        for table in ["within", "files", "sent"] {
            let dry = workspace.run(["run", table, "--now", "--dry-run"]).expect(0);
            assert!(dry.stdout.contains("3 rows"), "{dry:#?}");
            for rows in [3, 0] {
                let done = run(table, 0);
                assert_eq!(done["runs"][0]["rows"], rows, "{done:#}");
            }
            assert_eq!(db.number(&format!("SELECT sum(id) FROM {table}")).await, 15, "{table}");
        }
        assert_eq!(db.number("SELECT sum(id) FROM archive.within").await, 21);
        let moments = there.strings("SELECT (at AT TIME ZONE 'UTC')::text || ' ' || day::text FROM sent").await;
        assert_eq!(moments, ["2026-01-02 03:00:00 2026-01-02"; 3]);
        let back = |source: &str| {
            workspace.run(["archive", "restore", "--from", source, "--into", "back"])
        };
        db.execute("CREATE TABLE back (LIKE files)").await;
        back("files").expect(0);
        assert_eq!(db.number("SELECT count(*) FROM back b WHERE at = '2026-01-01 22:00-05' AND day = '2026-01-02' AND id > 5").await, 3);
        // A range of moments is written by the zone: nobody may choose what it says.
        let refused = run("ranges", 1);
        let told = refused["runs"][0]["findings"].as_array().unwrap().iter().find(|f| f["code"] == "cleanup.rule").unwrap();
        let message = told["message"].as_str().unwrap();
        assert!(message.contains("America/New_York") && message.contains("span (tstzrange)"), "{message}");
        assert_eq!(db.number("SELECT count(*) FROM ranges").await, 8);
        // By age alone nothing goes by days, and the ranges are as they were.
        assert_eq!(run("aged", 0)["runs"][0]["rows"], 8);
        db.execute("DROP TABLE back; CREATE TABLE back (LIKE aged)").await;
        back("aged").expect(0);
        assert_eq!(db.number("SELECT count(*) FROM back WHERE span = '[2026-01-01 00:00-05,2026-02-01 00:00-05)'").await, 8);
        db.execute(&format!("ALTER DATABASE {} SET timezone = 'UTC'", db.name)).await;
        // By UTC it is the others that are held.
        assert_eq!(run("ranges", 0)["runs"][0]["rows"], 5);
        assert_eq!(db.number("SELECT sum(id) FROM ranges").await, 21);
    }
}
