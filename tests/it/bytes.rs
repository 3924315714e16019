//! Databases that know no encoding: names that are not valid UTF-8 are left
//! alone and told, and stop nothing.

use serde_json::Value;

use crate::support::patience::Patience;
use crate::support::servers::{connect, private_cluster};
use crate::support::workspace::Workspace;

/// Names with the byte 0xE9 on everything that has a name.
const NAMED: &str = r#"
    CREATE EXTENSION pg_stat_statements; CREATE EXTENSION amcheck;
    CREATE TABLE good (id int PRIMARY KEY, at timestamptz NOT NULL);
    INSERT INTO good SELECT n, now() - n * interval '12 hours' FROM generate_series(1, 20000) n;
    CREATE INDEX good_at ON good (at);
    CREATE TABLE owned (id int PRIMARY KEY, at timestamptz NOT NULL);
    INSERT INTO owned SELECT n, now() FROM generate_series(1, 20000) n;
    CREATE MATERIALIZED VIEW seen AS SELECT count(*) FROM good;
    DO $$ DECLARE e text := chr(233); BEGIN
        EXECUTE format('CREATE TABLE %I (id int PRIMARY KEY, at timestamptz NOT NULL)', 'caf' || e);
        EXECUTE format('INSERT INTO %I SELECT n, now() - interval ''2 years'' FROM generate_series(1, 20000) n', 'caf' || e);
        EXECUTE format('DELETE FROM %I WHERE id %% 5 <> 0', 'caf' || e);
        EXECUTE format('CREATE TABLE columns (id int PRIMARY KEY, %I int, at timestamptz)', 'd' || e);
        EXECUTE 'INSERT INTO columns SELECT n, n FROM generate_series(1, 20000) n';
        EXECUTE format('CREATE INDEX ON columns (%I)', 'd' || e);
        EXECUTE format('CREATE INDEX %I ON good ((id + 1))', 'i' || e);
        EXECUTE format('CREATE MATERIALIZED VIEW %I AS SELECT count(*) FROM good', 'mv' || e);
        EXECUTE format('CREATE SEQUENCE %I', 'seq' || e);
        EXECUTE format('CREATE SCHEMA %I', 's' || e);
        EXECUTE format('CREATE TABLE %I.t (id int PRIMARY KEY)', 's' || e);
        EXECUTE format('INSERT INTO %I.t SELECT generate_series(1, 20000)', 's' || e);
        EXECUTE format('CREATE ROLE %I', 'r' || e);
        EXECUTE format('ALTER TABLE owned OWNER TO %I', 'r' || e);
        EXECUTE format('ALTER DATABASE renamed RENAME TO %I', 'db' || e);
    END $$;
    DELETE FROM good WHERE id % 5 <> 0 AND id > 10000; DELETE FROM owned WHERE id % 5 <> 0"#;

const KINDS: [&str; 8] = [
    "analyze",
    "vacuum",
    "reindex",
    "integrity",
    "snapshot",
    "refresh",
    "cleanup",
    "partitions",
];

fn workspace(url: &str) -> Workspace {
    Workspace::for_target(url)
        .task("analyze", "kind: analyze\ntarget: app\n")
        .task("vacuum", "kind: vacuum\ntarget: app\n")
        .task("reindex", "kind: reindex\ntarget: app\noptions: { min_size: 0MB }\n")
        .task("integrity", "kind: integrity\ntarget: app\noptions: { amcheck: full }\n")
        .task("snapshot", "kind: snapshot\ntarget: app\n")
        .task("refresh", "kind: refresh\ntarget: app\noptions: { always: true, allow_blocking: true }\n")
        .task("cleanup", "kind: cleanup\ntarget: app\noptions:\n  rules: [{ table: good, column: at, older_than: 2y }]\n")
        .task("partitions", "kind: partitions\ntarget: app\noptions: { tables: [parted], interval: month }\n")
}

fn run(workspace: &Workspace, task: &str) -> Value {
    let output = workspace.run(["run", task, "--now", "--output", "json"]);
    let ran = output.expect(0).json();
    let run = ran["runs"][0].clone();
    assert_eq!(run["status"], "succeeded", "{run:#}");
    run
}

#[tokio::test]
async fn names_that_are_no_utf8_stop_nothing() {
    let settings = [
        ("autovacuum", "off"),
        ("shared_preload_libraries", "pg_stat_statements"),
    ];
    let cluster = private_cluster(17, &settings);
    let admin = connect(&cluster.url("postgres")).await;
    for create in [
        "CREATE DATABASE bytes TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'",
        "CREATE DATABASE renamed TEMPLATE template0",
        "CREATE DATABASE text TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'",
    ] {
        admin.batch_execute(create).await.unwrap();
    }
    let client = connect(&cluster.url("bytes")).await;
    let parted = "CREATE TABLE parted (id int, at timestamptz NOT NULL) PARTITION BY RANGE (at);";
    client.batch_execute(parted).await.unwrap();
    client.batch_execute(NAMED).await.unwrap();
    // A session that stays hands its counts in later, in the middle of what is to come.
    drop(client);
    let patience = Patience::until("a session to end");
    let there = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'bytes'";
    while admin.query_one(there, &[]).await.unwrap().get::<_, i64>(0) > 0 {
        patience.pause().await;
    }

    let bytes = workspace(&cluster.url("bytes"));
    let mut told = Vec::new();
    for task in KINDS {
        let run = run(&bytes, task);
        let steps = run["steps"].as_array().unwrap();
        if !matches!(task, "snapshot" | "integrity") {
            let well = |name: &str| {
                steps
                    .iter()
                    .any(|s| s["object"].as_str().unwrap().contains(name))
            };
            assert!(["good", "seen", "parted"].into_iter().any(well), "{run:#}");
        }
        let of = |f: &&Value| f["code"] == "name.unreadable";
        let finding = run["findings"].as_array().unwrap().iter().find(of);
        told.extend(finding.map(|f| format!("{task}: {}", f["message"])));
        let document = run.to_string();
        assert!(!document.chars().any(|c| c >= '\u{10ff80}'), "{document}");
    }
    let told = told.join("\n");
    for (task, name) in [
        ("analyze", "caf\\\\xE9"),
        ("vacuum", "caf\\\\xE9"),
        ("reindex", "caf\\\\xE9"),
        ("refresh", "mv\\\\xE9"),
    ] {
        let line = told.lines().find(|l| l.starts_with(task));
        assert!(line.is_some_and(|l| l.contains(name)), "{task}: {told}");
    }
    // Of the table beside them what was to be done is done, and nothing twice.
    let left = "SELECT count(*) FROM good WHERE at < now() - interval '731 days'";
    let client = connect(&cluster.url("bytes")).await;
    let left: i64 = client.query_one(left, &[]).await.unwrap().get(0);
    assert_eq!(left, 0);
    let again = run(&bytes, "cleanup");
    assert_eq!(again["steps"], serde_json::json!([]), "{again:#}");
    let doctor = bytes.run(["doctor"]).stdout;
    assert!(!doctor.contains("would fail"), "{doctor}");
    bytes.run(["plan", "--all"]).expect(0);
    bytes.run(["history"]).expect(0);

    // The neighbour has to do with none of that but roles, databases and statements.
    let text = connect(&cluster.url("text")).await;
    let extension = "CREATE EXTENSION pg_stat_statements; CREATE TABLE t (id int PRIMARY KEY)";
    text.batch_execute(extension).await.unwrap();
    let text = workspace(&cluster.url("text"));
    for task in ["analyze", "vacuum", "reindex", "integrity", "snapshot"] {
        run(&text, task);
    }
}

/// Latin-1 in comments, roles, keys and triggers beside what can be named.
const BESIDE: &str = r#"
    CREATE TABLE pt (id int, at date NOT NULL) PARTITION BY RANGE (at);
    CREATE TABLE old (id int, at date NOT NULL) PARTITION BY RANGE (at);
    CREATE TABLE s (id int PRIMARY KEY, at timestamptz NOT NULL); CREATE TABLE s2 (LIKE s INCLUDING ALL); CREATE TABLE s3 (LIKE s INCLUDING ALL);
    INSERT INTO s SELECT n, '2020-01-01' FROM generate_series(1, 10) n; INSERT INTO s2 TABLE s; INSERT INTO s3 TABLE s;
    CREATE FUNCTION nods() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN old; END';
    DO $$ DECLARE e text := chr(233); y int := extract(year FROM now()); BEGIN
        EXECUTE format('CREATE TABLE pt_%s PARTITION OF pt FOR VALUES FROM (%L) TO (%L)', y, y || '-01-01', y + 1 || '-01-01');
        EXECUTE format('COMMENT ON TABLE pt_%s IS %L', y, 'B' || e || 'cher');
        EXECUTE format('CREATE ROLE %I', 'r' || e);
        EXECUTE format('GRANT SELECT ON pt_%s TO %I', y, 'r' || e);
        EXECUTE format('GRANT INSERT ON pt_%s TO pg_monitor', y);
        FOR n IN 2018..2019 LOOP
            EXECUTE format('CREATE TABLE old_%s PARTITION OF old FOR VALUES FROM (%L) TO (%L)', n, n || '-01-01', n + 1 || '-01-01');
            EXECUTE format('COMMENT ON TABLE old_%s IS %L', n, 'B' || e || 'cher');
        END LOOP;
        INSERT INTO old VALUES (1, '2018-05-05'), (2, '2019-05-05');
        EXECUTE format('CREATE TABLE points (id int CONSTRAINT %I REFERENCES s)', 'fk' || e);
        INSERT INTO points VALUES (3);
        EXECUTE format('CREATE TRIGGER %I BEFORE DELETE ON s2 FOR EACH ROW EXECUTE FUNCTION nods()', 'tr' || e);
        EXECUTE format('CREATE TABLE points_too (%I int REFERENCES s3)', 'col' || e);
    END $$"#;

/// What merely stands beside the work keeps nobody from it; what the work
/// would have to name is named, and the run has not succeeded.
#[tokio::test]
async fn what_stands_beside_is_done_without() {
    let cluster = private_cluster(17, &[("autovacuum", "off")]);
    let admin = connect(&cluster.url("postgres")).await;
    admin.batch_execute("CREATE DATABASE bytes TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'").await.unwrap();
    let client = connect(&cluster.url("bytes")).await;
    client.batch_execute(BESIDE).await.unwrap();
    let count = async |sql: &str| client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0);
    let cleanup = |table: &str, column: &str| {
        format!(
            "kind: cleanup\ntarget: app\noptions:\n  rules: [{{ table: {table}, column: {column}, older_than: 1y, time_zone: UTC }}]\n"
        )
    };
    let workspace = Workspace::for_target(&cluster.url("bytes"))
        .task("partitions", "kind: partitions\ntarget: app\noptions: { tables: [pt], interval: year, ahead: 1 }\n")
        .task("prune", "kind: partitions\ntarget: app\noptions: { tables: [old], interval: year, ahead: 0, keep: 1y, grace: 0s }\n")
        .task("key", &cleanup("s", "at"))
        .task("trigger", &cleanup("s2", "at"))
        .task("column", &cleanup("s3", "at"))
        .task("dropped", &cleanup("old", "at"));

    // Next year's partition is there, with the grant that can be named.
    let made = run(&workspace, "partitions");
    assert_eq!(made["steps"].as_array().unwrap().len(), 1, "{made:#}");
    let grants = "SELECT count(*) FROM pg_class c, aclexplode(c.relacl) a WHERE c.relispartition AND c.relname LIKE 'pt_y%' AND a.grantee = 'pg_monitor'::regrole";
    assert_eq!(count(grants).await, 1);
    let finding = &made["findings"][0];
    assert_eq!(finding["code"], "name.unreadable");
    let message = finding["message"].as_str().unwrap();
    assert!(
        message.contains("B\\xE9cher")
            && message.contains("r\\xE9")
            && !message.contains("pg_monitor"),
        "{message}"
    );
    assert_eq!(
        run(&workspace, "partitions")["steps"],
        serde_json::json!([])
    );

    // Partitions whose comment cannot be written go: by rule, and by age.
    let dropped = run(&workspace, "dropped");
    assert_eq!(dropped["rows"], 2, "{dropped:#}");
    client.batch_execute("CREATE TABLE old_2018 PARTITION OF old FOR VALUES FROM ('2018-01-01') TO ('2019-01-01');
        DO $$ BEGIN EXECUTE format('COMMENT ON TABLE old_2018 IS %L', 'B' || chr(233)); END $$; INSERT INTO old VALUES (1, '2018-05-05')").await.unwrap();
    // The last one stays until there is another: that is the next run's.
    run(&workspace, "prune");
    let pruned = run(&workspace, "prune");
    assert!(
        pruned["steps"].to_string().contains("old_2018"),
        "{pruned:#}"
    );
    assert_eq!(
        count("SELECT count(*) FROM pg_class WHERE relname = 'old_2018'").await,
        0
    );

    // A key and a trigger are only ever told of.
    let kept = run(&workspace, "key");
    assert_eq!(kept["rows"], 9, "{kept:#}");
    assert!(
        kept["findings"].to_string().contains("fk\\\\xE9"),
        "{kept:#}"
    );
    assert_eq!(count("SELECT sum(id)::int8 FROM s").await, 3);
    assert_eq!(run(&workspace, "trigger")["rows"], 10);

    // The column of the one that points at it has to be named: who is to
    // blame is said, and the work is left undone.
    let output = workspace.run(["run", "column", "--now", "--output", "json"]);
    let undone = output.expect(1).json()["runs"][0].clone();
    assert_ne!(undone["status"], "succeeded", "{undone:#}");
    let told = undone["findings"]
        .as_array()
        .unwrap()
        .iter()
        .find(|f| f["code"] == "name.unreadable")
        .unwrap();
    assert_eq!(told["object"], "public.s3");
    assert!(
        told["message"].as_str().unwrap().contains("name col\\xE9"),
        "{told:#}"
    );
    assert_eq!(count("SELECT count(*) FROM s3").await, 10);
}

/// A partition that cannot be named stays, and is told; the others leave, by rows and as a whole,
/// whatever bytes their bounds have.
#[tokio::test]
async fn one_partition_that_cannot_be_named_keeps_no_other() {
    let cluster = private_cluster(17, &[("autovacuum", "off")]);
    let admin = connect(&cluster.url("postgres")).await;
    admin.batch_execute("CREATE DATABASE bytes TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'").await.unwrap();
    let client = connect(&cluster.url("bytes")).await;
    client.batch_execute("
        CREATE TABLE ev (id int, at date NOT NULL) PARTITION BY RANGE (at);
        CREATE TABLE ev_old PARTITION OF ev FOR VALUES FROM ('2019-02-01') TO ('2019-03-01');
        CREATE TABLE ev_some PARTITION OF ev FOR VALUES FROM ('2019-03-01') TO (MAXVALUE);
        CREATE TABLE li (id int, at date NOT NULL, r text) PARTITION BY LIST (r);
        CREATE TABLE li_some PARTITION OF li FOR VALUES IN ('some');
        DO $$ DECLARE e text := chr(233); BEGIN
            EXECUTE format('CREATE TABLE %I PARTITION OF ev FOR VALUES FROM (''2019-01-01'') TO (''2019-02-01'')', 'ev_' || e);
            EXECUTE format('CREATE TABLE li_bytes PARTITION OF li FOR VALUES IN (%L)', 'caf' || e);
            EXECUTE format('CREATE TABLE %I PARTITION OF li FOR VALUES IN (''x'')', 'li_' || e);
            INSERT INTO li VALUES (1, '2019-01-01', 'some'), (2, '2019-01-01', 'caf' || e), (3, '2019-01-01', 'x'), (4, now()::date, 'some');
        END $$;
        INSERT INTO ev VALUES (1, '2019-01-05'), (2, '2019-02-05'), (3, '2019-05-05'), (4, now()::date)").await.unwrap();
    let ids = async |table: &str| {
        let sql = format!("SELECT string_agg(id::text, ' ' ORDER BY id) FROM {table}");
        client
            .query_one(&sql, &[])
            .await
            .unwrap()
            .get::<_, String>(0)
    };
    let workspace = Workspace::for_target(&cluster.url("bytes"))
        .task("cleanup", "kind: cleanup\ntarget: app\noptions: { rules: [{ table: ev, column: at, older_than: 1y }] }\n")
        .task("archive", "kind: archive\ntarget: app\noptions: { table: li, column: at, older_than: 1y, destination: { table: kept } }\n");
    // One of the archive's makes the table that the rows go to.
    for (task, table, first, stays) in [("cleanup", "ev", 2, "1 4"), ("archive", "li", 3, "3 4")] {
        for steps in [first, 0] {
            let done = run(&workspace, task);
            let codes = done["findings"].as_array().unwrap().iter();
            let codes: Vec<&str> = codes.map(|f| f["code"].as_str().unwrap()).collect();
            assert_eq!(codes, ["name.unreadable"], "{done:#}");
            assert_eq!(done["steps"].as_array().unwrap().len(), steps, "{done:#}");
            assert_eq!(ids(table).await, stays, "{done:#}");
        }
    }
    assert_eq!(ids("kept").await, "1 2");
}

/// What a trigger, a check or a value says may hold such bytes, too: the step that met it has
/// failed with what can be shown of it, and the rest goes on.
#[tokio::test]
async fn errors_that_are_no_utf8_are_told() {
    let cluster = private_cluster(17, &[("autovacuum", "off")]);
    let admin = connect(&cluster.url("postgres")).await;
    admin.batch_execute("CREATE DATABASE bytes TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'").await.unwrap();
    let client = connect(&cluster.url("bytes")).await;
    client.batch_execute(r#"
        CREATE TABLE fine (id int PRIMARY KEY, at timestamptz NOT NULL); INSERT INTO fine SELECT n, now() - interval '2 years' FROM generate_series(1, 5) n;
        CREATE TABLE raises (LIKE fine INCLUDING ALL); INSERT INTO raises SELECT * FROM fine;
        CREATE TABLE valued (id int PRIMARY KEY, at timestamptz NOT NULL, t text); INSERT INTO valued SELECT id, at, 'caf' || chr(233) FROM fine;
        CREATE TABLE same (id int PRIMARY KEY, at timestamptz NOT NULL, t text UNIQUE); INSERT INTO same VALUES (1, now(), 'caf' || chr(233));
        CREATE TABLE refers (t text); INSERT INTO refers VALUES ('th' || chr(233));
        ALTER TABLE refers ADD FOREIGN KEY (t) REFERENCES same (t) NOT VALID;
        CREATE TABLE checked (t text); INSERT INTO checked VALUES ('th' || chr(233)); ALTER TABLE checked ADD CHECK (t = 'tea') NOT VALID;
        CREATE FUNCTION held() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
            RAISE WARNING 'a warning of caf%', chr(233); RAISE EXCEPTION 'held for caf%', chr(233) USING HINT = 'th' || chr(233); END$$;
        CREATE TRIGGER held BEFORE DELETE ON raises FOR EACH ROW EXECUTE FUNCTION held()"#).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let files = format!("file://{}", folder.path().display());
    let rule =
        |table: &str| format!("{{ table: {table}, column: at, older_than: 1y, max_share: 100% }}");
    let workspace = Workspace::for_target(&cluster.url("bytes"))
        .task("cleanup", &format!("kind: cleanup\ntarget: app\noptions: {{ rules: [{}, {}] }}\n", rule("raises"), rule("fine")))
        .task("archive", &format!("kind: archive\ntarget: app\noptions: {{ table: valued, column: at, older_than: 1y, destination: {{ files: \"{files}\" }} }}\n"))
        .task("move", "kind: archive\ntarget: app\noptions: { table: valued, column: at, older_than: 1y, destination: { table: same } }\n")
        .task("integrity", "kind: integrity\ntarget: app\noptions: { validate: true }\n")
        .task("sql", "kind: sql\ntarget: app\noptions: { statements: [{ name: raise, sql: \"DELETE FROM public.raises\" }] }\n")
        .task("repack", "kind: repack\ntarget: app\noptions: { min_size: 8kB }\n");
    for (task, expected) in [
        ("cleanup", "trigger held"),
        ("archive", "5 rows refused to go"),
        ("move", "same_pkey"),
        ("integrity", "1 row of public.refers violates refers_t_fkey"),
        ("sql", "held for caf"),
        ("repack", "move_rows"),
    ] {
        workspace.run(["plan", task]).expect(0);
        workspace.run(["run", task, "--dry-run"]).expect(0);
        let output = workspace.run(["run", task, "--now", "--output", "json"]);
        let (run, code) = (
            output.json()["runs"][0].clone(),
            i32::from(!matches!(task, "integrity" | "repack")),
        );
        assert_eq!(output.code, code, "{run:#}");
        assert!(run.to_string().contains(expected), "{run:#}");
        if task == "integrity" {
            assert!(
                run.to_string()
                    .contains("1 row of public.checked violates checked_t_check"),
                "{run:#}"
            );
        }
    }
    let count = async |sql: &str| client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0);
    assert_eq!(
        count("SELECT count(*) FROM fine").await,
        0,
        "beside what raises, the rest goes"
    );
    assert_eq!(count("SELECT count(*) FROM raises").await, 5);
    // Bytes that no file can hold stay where they are.
    assert_eq!(count("SELECT count(*) FROM valued").await, 5);
    workspace.run(["show", "last"]).expect(0);
    workspace.run(["report"]).expect(0);
    workspace.run(["check", "--connect"]).expect(0);
}
