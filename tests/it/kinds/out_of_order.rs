//! Partitions whose bounds, absence or drop are not what they seem.

use serde_json::{Value, json};

use crate::support::servers::{TestDatabase, connect, fresh_database};
use crate::support::workspace::Workspace;

fn run(workspace: &Workspace, task: &str) -> Value {
    let output = workspace.run(["run", task, "--now", "--output", "json"]);
    output.json()["runs"][0].clone()
}

fn workspace(db: &TestDatabase, rule: &Value) -> (Workspace, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let mut archive = rule.clone();
    archive["destination"] = json!({ "files": format!("file://{}", folder.path().display()) });
    let partitions = json!({ "tables": [rule["table"]], "interval": "year", "keep": "1y", "grace": "0s", "time_zone": "UTC" });
    let workspace = Workspace::for_target(&db.url)
        .task(
            "partitions",
            &format!("kind: partitions\ntarget: app\noptions: {partitions}\n"),
        )
        .task(
            "archive",
            &format!("kind: archive\ntarget: app\noptions: {archive}\n"),
        )
        .task(
            "cleanup",
            &format!(
                "kind: cleanup\ntarget: app\noptions: {}\n",
                json!({ "rules": [rule] })
            ),
        );
    (workspace, folder)
}

for_oldest_and_newest! {
    /// Bounds in the order of somebody's operator class do not say how old rows are: nothing leaves by them.
    async fn an_order_of_ones_own_says_nothing_of_age(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE FUNCTION revcmp(timestamptz, timestamptz) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT pg_catalog.timestamptz_cmp($2, $1)';
            CREATE OPERATOR CLASS rev FOR TYPE timestamptz USING btree AS OPERATOR 1 >, OPERATOR 2 >=, OPERATOR 3 =, OPERATOR 4 <=, OPERATOR 5 <,
                FUNCTION 1 revcmp(timestamptz, timestamptz);
            CREATE TABLE r (id int, at timestamptz) PARTITION BY RANGE (at rev);
            CREATE TABLE r_new PARTITION OF r FOR VALUES FROM (MINVALUE) TO ('2021-01-01');
            CREATE TABLE r_old PARTITION OF r FOR VALUES FROM ('2021-01-01') TO (MAXVALUE);
            INSERT INTO r VALUES (1, now()), (2, now()), (3, '2019-05-05'), (4, '2019-06-06')").await;
        assert_eq!(db.number("SELECT count(*) FROM r_new").await, 2, "what is new lies below its bound");
        let (workspace, _folder) = workspace(&db, &json!({ "table": "r", "column": "at", "older_than": "1y" }));
        let refused = run(&workspace, "partitions");
        let told = refused["findings"].to_string();
        assert!(told.contains("partitions.unsuitable") && told.contains("public.rev"), "{refused:#}");
        assert_eq!(db.number("SELECT count(*) FROM r").await, 4);
        let archived = run(&workspace, "archive");
        assert_eq!(archived["rows"], 2, "{archived:#}");
        assert_eq!(db.strings("SELECT id::text FROM r ORDER BY 1").await, ["1", "2"]);
        db.execute("INSERT INTO r VALUES (5, '2019-05-05')").await;
        let cleaned = run(&workspace, "cleanup");
        assert_eq!(cleaned["rows"], 1, "{cleaned:#}");
        assert_eq!(db.strings("SELECT id::text FROM r ORDER BY 1").await, ["1", "2"]);
        assert_eq!(db.number("SELECT count(*) FROM pg_inherits WHERE inhparent = 'r'::regclass").await, 2);
    }
}

for_oldest_and_newest! {
    /// Where an event trigger keeps tables from being dropped, no partition is detached in vain.
    async fn what_may_not_be_dropped_is_not_detached(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE e (id int, at timestamptz) PARTITION BY RANGE (at);
            CREATE TABLE e_2019 PARTITION OF e FOR VALUES FROM ('2019-01-01 00:00+00') TO ('2020-01-01 00:00+00');
            CREATE TABLE e_2020 PARTITION OF e FOR VALUES FROM ('2020-01-01 00:00+00') TO ('2021-01-01 00:00+00');
            CREATE TABLE e_2021 PARTITION OF e FOR VALUES FROM ('2021-01-01 00:00+00') TO ('2200-01-01 00:00+00');
            INSERT INTO e VALUES (1, '2019-05-05'), (2, '2020-05-05'), (3, now());
            CREATE FUNCTION no_drops() RETURNS event_trigger LANGUAGE plpgsql AS $$DECLARE o record; BEGIN
                FOR o IN SELECT * FROM pg_catalog.pg_event_trigger_dropped_objects() WHERE object_type = 'table' AND object_name LIKE 'e\\_%' LOOP
                    RAISE EXCEPTION 'no drops in production: %', o.object_identity; END LOOP; END $$;
            CREATE EVENT TRIGGER no_drops ON sql_drop EXECUTE FUNCTION no_drops()").await;
        let (workspace, _folder) = workspace(&db, &json!({ "table": "e", "column": "at", "older_than": "1y" }));
        for task in ["cleanup", "archive", "partitions"] {
            let refused = run(&workspace, task);
            let steps = refused["steps"].to_string();
            assert!(steps.matches("no drops in production").count() >= 2, "{task}: {refused:#}");
            assert_eq!(refused["status"], "failed", "{task}");
            assert_eq!(db.number("SELECT count(*) FROM pg_inherits WHERE inhparent = 'e'::regclass").await, 3, "{task}");
            assert_eq!(db.strings("SELECT id::text FROM e ORDER BY 1").await, ["1", "2", "3"], "{task}");
            let marks = "SELECT count(*) FROM pg_class WHERE relname LIKE 'e%' AND obj_description(oid, 'pg_class') IS NOT NULL";
            assert_eq!(db.number(marks).await, 0, "{task}");
        }
        db.execute("DROP EVENT TRIGGER no_drops").await;
        assert_eq!(run(&workspace, "archive")["rows"], 2);
        assert_eq!(db.strings("SELECT id::text FROM e").await, ["3"]);
        assert_eq!(db.number("SELECT count(*) FROM pg_inherits WHERE inhparent = 'e'::regclass").await, 1);
    }
}

for_versions! {
    [pg16 = 16]
    /// Parents in a partition that is about to leave, or has left and may come back, are parents.
    async fn what_is_out_of_sight_has_children(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE p (id int, at timestamptz) PARTITION BY RANGE (at);
            CREATE TABLE p_2019 PARTITION OF p FOR VALUES FROM ('2019-01-01 00:00+00') TO ('2020-01-01 00:00+00');
            CREATE TABLE p_2020 PARTITION OF p FOR VALUES FROM ('2020-01-01 00:00+00') TO ('2200-01-01 00:00+00');
            INSERT INTO p SELECT g, '2019-05-05' FROM generate_series(1, 10) g; INSERT INTO p SELECT g, now() FROM generate_series(11, 100) g;
            CREATE VIEW v AS SELECT id FROM p; CREATE VIEW above AS SELECT id FROM v WHERE id > 0;
            CREATE FUNCTION has(wanted int) RETURNS bool STABLE LANGUAGE sql AS 'SELECT EXISTS (SELECT FROM public.p WHERE id = wanted)';
            CREATE TABLE c (id int PRIMARY KEY, pid int); INSERT INTO c SELECT g, g FROM generate_series(1, 100) g; INSERT INTO c VALUES (101, 777)").await;
        // However somebody asks for them: directly, through views, or through a function.
        let rules = [
            json!({ "table": "c", "orphaned": { "columns": ["pid"], "parent": "above" }, "max_share": "100%" }),
            json!({ "table": "c", "where": "NOT EXISTS (SELECT FROM public.p AS q WHERE q.id = pid)" }),
            json!({ "table": "c", "where": "pid NOT IN (TABLE public.v)" }),
            json!({ "table": "c", "where": "true", "keep": ["public.has(pid)"] }),
            json!({ "table": "c", "orphaned": { "columns": ["pid"], "parent": "p" } }),
        ];
        let partitions = json!({ "tables": ["p"], "interval": "year", "keep": "1y", "grace": "7d", "time_zone": "UTC" });
        let workspace = Workspace::for_target(&db.url)
            .task("partitions", &format!("kind: partitions\ntarget: app\noptions: {partitions}\n"))
            .task("other", "kind: cleanup\ntarget: app\noptions: { rules: [{ table: c, where: \"(c.pid = 778)\" }] }\n");
        let by = |rule: &Value| {
            let task = format!("kind: cleanup\ntarget: app\noptions: {}\n", json!({ "rules": [rule] }));
            workspace.file("tasks/cleanup.yaml", &task);
            run(&workspace, "cleanup")
        };
        let refused = |part: &'static str| {
            for rule in &rules {
                let run = by(rule);
                let told = run["findings"].to_string();
                assert!(told.contains("cleanup.rule") && told.contains(part), "{rule}: {run:#}");
                assert_eq!(run["rows"], 0, "{rule}: {run:#}");
            }
            // Who looks at nothing of it is not kept from his work.
            assert_eq!(run(&workspace, "other")["status"], "succeeded");
        };
        // Somebody begins to detach one, and breaks off.
        let reader = connect(&db.url).await;
        reader.batch_execute("BEGIN; SELECT count(*) FROM p").await.unwrap();
        let other = connect(&db.url).await;
        other.batch_execute("SET statement_timeout = '1s'").await.unwrap();
        let broken = other.batch_execute("ALTER TABLE p DETACH PARTITION p_2019 CONCURRENTLY").await;
        assert!(broken.is_err());
        reader.batch_execute("ROLLBACK").await.unwrap();
        assert_eq!(db.number("SELECT count(*) FROM pg_inherits WHERE inhdetachpending").await, 1);
        refused("FINALIZE");
        assert_eq!(db.number("SELECT count(*) FROM c").await, 101);
        db.execute("ALTER TABLE p DETACH PARTITION p_2019 FINALIZE").await;
        db.execute("ALTER TABLE p ATTACH PARTITION p_2019 FOR VALUES FROM ('2019-01-01 00:00+00') TO ('2020-01-01 00:00+00')").await;
        // maint has detached it, and keeps it for a while.
        run(&workspace, "partitions");
        assert_eq!(db.number("SELECT count(*) FROM pg_inherits WHERE inhrelid = 'p_2019'::regclass").await, 0);
        refused("public.p_2019");
        assert_eq!(db.number("SELECT count(*) FROM c").await, 101);
        db.execute("ALTER TABLE p ATTACH PARTITION p_2019 FOR VALUES FROM ('2019-01-01 00:00+00') TO ('2020-01-01 00:00+00')").await;
        for rule in &rules {
            assert_eq!(by(rule)["rows"], 1, "{rule}");
            assert_eq!(db.number("SELECT count(*) FROM c WHERE pid = 777").await, 0);
            db.execute("INSERT INTO c VALUES (101, 777)").await;
        }
        assert_eq!(run(&workspace, "other")["rows"], 0);
        assert_eq!(db.number("SELECT count(*) FROM c").await, 101);
    }
}
