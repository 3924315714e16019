//! A target that is a standby: what only reads does its work there, and what
//! writes says why it does not.

use serde_json::Value;

use super::integrity::found;
use crate::support::servers::{connect, private_cluster};
use crate::support::standby::standby;
use crate::support::workspace::Workspace;

#[tokio::test]
async fn what_only_reads_works_there() {
    let cluster = private_cluster(17, &[("wal_level", "replica"), ("autovacuum", "off")]);
    let client = connect(&cluster.url("postgres")).await;
    client
        .batch_execute(
            "CREATE EXTENSION amcheck; CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child (id int PRIMARY KEY, parent int);
             INSERT INTO child SELECT g, g FROM generate_series(1, 20) g; INSERT INTO parent SELECT generate_series(1, 15);
             ALTER TABLE child ADD CONSTRAINT there FOREIGN KEY (parent) REFERENCES parent NOT VALID;
             CREATE TABLE sound (id int CHECK (id > 0)); INSERT INTO sound VALUES (1); ALTER TABLE sound ADD CONSTRAINT late CHECK (id > -1) NOT VALID;
             CREATE UNLOGGED TABLE fleeting (id int PRIMARY KEY CHECK (id > 5)); INSERT INTO fleeting VALUES (6);
             CREATE SEQUENCE few MAXVALUE 10; SELECT setval('few', 9)",
        )
        .await
        .unwrap();
    let replica = standby(17, &cluster, |_| {}).await;
    let workspace = Workspace::for_target(&replica.url("postgres"))
        .task("integrity", "kind: integrity\ntarget: app\noptions: { amcheck: full, parent_check: true, catalogs: true, validate: true }\n")
        .task("snapshot", "kind: snapshot\ntarget: app\noptions: { max_connections: 100% }\n")
        .task("vacuum", "kind: vacuum\ntarget: app\n");
    let run = |task: &str| -> Value {
        let output = workspace.run(["run", task, "--now", "--output", "json"]);
        output.expect(0).json()
    };
    let document = run("integrity");
    let steps = document["runs"][0]["steps"].as_array().unwrap();
    let all = |of: &str| steps.iter().filter(|s| s["action"] == of).count();
    assert_eq!(document["runs"][0]["status"], "succeeded", "{document:#}");
    assert!(
        all("check_foreign_key") == 1
            && all("check_table") >= 3
            && all("check_index") >= 2
            && all("check_catalogs") > 0,
        "{document:#}"
    );
    assert!(
        all("check_index_levels") == 0 && !document.to_string().contains("fleeting"),
        "{document:#}"
    );
    let told = found(&document);
    assert!(
        told.iter()
            .any(|l| l.starts_with("foreign_key.") && l.contains("there")),
        "{told:#?}"
    );
    assert!(
        told.iter().any(|l| l.starts_with("sequence.near_end")),
        "{told:#?}"
    );
    // What was found in order is not looked at again; nobody has validated anything.
    let again = run("integrity");
    assert_eq!(
        again["runs"][0]["steps"].as_array().unwrap().len(),
        1,
        "{again:#}"
    );
    let plan = workspace
        .run(["plan", "integrity", "--all"])
        .expect(0)
        .stdout;
    assert!(
        plan.contains("fleeting") && plan.contains("parent_check"),
        "{plan}"
    );
    let invalid: i64 = client
        .query_one(
            "SELECT count(*) FROM pg_constraint WHERE NOT convalidated",
            &[],
        )
        .await
        .unwrap()
        .get(0);
    assert_eq!(invalid, 2);

    let document = run("snapshot");
    assert_eq!(document["runs"][0]["status"], "succeeded", "{document:#}");
    assert!(
        !found(&document)
            .iter()
            .any(|l| l.starts_with("replication.")),
        "{document:#}"
    );
    let store = maint::history::open_existing(&format!("sqlite:{}", workspace.history().display()))
        .await
        .unwrap();
    for (metric, object) in [
        ("table.bytes", "public.child"),
        ("replication.lag_ms", "this server"),
        ("database.bytes", ""),
    ] {
        let values = store
            .measurements("app", metric, chrono::DateTime::UNIX_EPOCH)
            .await
            .unwrap();
        assert!(
            values.iter().any(|m| m.measurement.object == object),
            "{metric}: {values:#?}"
        );
    }
    store.close().await;

    let output = workspace.run(["run", "vacuum", "--now"]);
    assert_ne!(output.code, 0);
    let words = format!("{}{}", output.stdout, output.stderr);
    assert!(
        words.contains("is a standby") && words.contains("integrity and snapshot"),
        "{words}"
    );
}

/// Rows can neither come back into a standby nor go into one: both are said before anything is done, by dry runs, too.
#[tokio::test]
async fn rows_neither_come_back_into_a_standby_nor_go_there() {
    let cluster = private_cluster(18, &[("wal_level", "replica")]);
    let client = connect(&cluster.url("postgres")).await;
    client
        .batch_execute("CREATE TABLE events (id int PRIMARY KEY, at timestamptz NOT NULL); INSERT INTO events SELECT g, '2020-01-01' FROM generate_series(1, 20) g")
        .await
        .unwrap();
    let replica = standby(18, &cluster, |_| {}).await;
    let files = tempfile::tempdir().unwrap();
    let config = |url: &str| {
        format!(
            "history: sqlite:maint.db\ntargets:\n  app: {{ engine: postgres, url: \"{url}\" }}\n  copy: {{ engine: postgres, url: \"{}\" }}\n",
            replica.url("postgres")
        )
    };
    let task = |destination: &str| {
        format!(
            "kind: archive\ntarget: app\noptions: {{ table: events, column: at, older_than: 90d, destination: {destination} }}\n"
        )
    };
    let workspace = Workspace::new(&config(&cluster.url("postgres")))
        .task("there", &task("{ database: copy, table: kept }"))
        .task(
            "files",
            &task(&format!(
                "{{ files: \"file://{}\" }}",
                files.path().display()
            )),
        );
    let failed = workspace.run(["run", "there", "--now"]).expect(1);
    let told = format!("{}{}", failed.stdout, failed.stderr);
    assert!(
        told.contains("is a standby (in recovery), where nothing can be changed"),
        "{told}"
    );
    let count = "SELECT count(*) FROM events";
    let rows: i64 = client.query_one(count, &[]).await.unwrap().get(0);
    assert_eq!(rows, 20, "{told}");
    workspace.run(["run", "files", "--now"]).expect(0);
    std::fs::write(
        workspace.path().join("schedules.yaml"),
        config(&replica.url("postgres")),
    )
    .unwrap();
    for more in [&["--dry-run"][..], &[]] {
        let mut words = vec![
            "archive",
            "restore",
            "--from",
            "public.events",
            "--into",
            "public.back",
        ];
        words.extend_from_slice(more);
        let refused = workspace.run(words);
        assert_ne!(refused.code, 0, "{refused:#?}");
        assert!(
            refused
                .stderr
                .contains("is a standby (in recovery), where nothing can be changed"),
            "{refused:#?}"
        );
    }
}
