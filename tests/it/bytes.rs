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
    INSERT INTO good SELECT n, now() - n * interval '1 day' FROM generate_series(1, 20000) n;
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
