//! Replication slots and standbys that keep dead rows: nothing tells since when they do.

use std::io::Write;

use serde_json::Value;

use super::objects;
use crate::support::patience::Patience;
use crate::support::servers::{connect, private_cluster};
use crate::support::standby::standby;
use crate::support::workspace::Workspace;

/// A standby's query keeps dead rows, and its slot goes on with that once the standby is gone. A
/// vacuum without effect says so, once; it is not done again until the slot has moved on.
#[tokio::test]
async fn a_slot_that_keeps_dead_rows_is_named_and_no_vacuum_done_in_vain() {
    let cluster = private_cluster(17, &[("autovacuum", "off"), ("fsync", "off")]);
    let url = cluster.url("postgres");
    let primary = connect(&url).await;
    let setup = "CREATE TABLE t AS SELECT g AS id FROM generate_series(1, 20000) g; SELECT pg_create_physical_replication_slot('left_behind')";
    primary.batch_execute(setup).await.unwrap();
    let mut replica = standby(17, &cluster, |data| {
        let settings = "\nprimary_slot_name = 'left_behind'\nhot_standby_feedback = on\nwal_receiver_status_interval = 1s\n";
        let file = data.join("postgresql.auto.conf");
        let mut file = std::fs::OpenOptions::new().append(true).open(file).unwrap();
        file.write_all(settings.as_bytes()).unwrap();
    })
    .await;
    let reader = connect(&replica.url("postgres")).await;
    let reads = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM t";
    reader.batch_execute(reads).await.unwrap();
    until(
        &primary,
        "the slot to hold a view",
        "SELECT xmin IS NOT NULL FROM pg_replication_slots",
    )
    .await;
    // In a session of its own, whose counts arrive as it ends.
    let writer = connect(&url).await;
    writer
        .batch_execute("DELETE FROM t WHERE id % 2 = 0")
        .await
        .unwrap();
    drop(writer);
    until(
        &primary,
        "the dead rows to be counted",
        "SELECT n_dead_tup = 10000 FROM pg_stat_user_tables",
    )
    .await;
    let workspace = Workspace::for_target(&url).task("vacuum", "kind: vacuum\ntarget: app\n");
    let dead = "SELECT n_dead_tup = 10000 FROM pg_stat_user_tables";

    let first = run(&workspace);
    assert_eq!(objects(&first, "vacuum", "succeeded").len(), 1, "{first:#}");
    named(&first);
    // It is not done again, with the standby and without it.
    let again = run(&workspace);
    assert_eq!(
        again["runs"][0]["steps"],
        serde_json::json!([]),
        "{again:#}"
    );
    named(&again);
    replica.stop();
    until(
        &primary,
        "the standby to be gone",
        "SELECT NOT active FROM pg_replication_slots",
    )
    .await;
    let alone = run(&workspace);
    assert_eq!(
        alone["runs"][0]["steps"],
        serde_json::json!([]),
        "{alone:#}"
    );
    let told = named(&alone);
    assert!(
        told["message"]
            .as_str()
            .unwrap()
            .contains("replication slot left_behind"),
        "{told:#}"
    );
    assert!(
        told["suggestion"]
            .as_str()
            .unwrap()
            .contains("pg_drop_replication_slot"),
        "{told:#}"
    );
    until(&primary, "the dead rows to be there still", dead).await;

    primary
        .batch_execute("SELECT pg_drop_replication_slot('left_behind')")
        .await
        .unwrap();
    let last = run(&workspace);
    assert_eq!(objects(&last, "vacuum", "succeeded").len(), 1, "{last:#}");
    assert_eq!(
        last["runs"][0]["findings"],
        serde_json::json!([]),
        "{last:#}"
    );
    until(
        &primary,
        "the dead rows to be gone",
        "SELECT n_dead_tup = 0 FROM pg_stat_user_tables",
    )
    .await;
    assert_eq!(run(&workspace)["runs"][0]["steps"], serde_json::json!([]));
}

fn run(workspace: &Workspace) -> Value {
    workspace
        .run(["run", "vacuum", "--now", "--output", "json"])
        .expect(0)
        .json()
}

/// What is told of who keeps the rows of the table.
fn named(document: &Value) -> &Value {
    let findings = document["runs"][0]["findings"].as_array().unwrap();
    let told = findings
        .iter()
        .find(|one| one["code"] == "vacuum.held_back");
    let told = told.unwrap_or_else(|| panic!("nobody is named: {document:#}"));
    assert_eq!(told["object"], "public.t");
    told
}

async fn until(client: &tokio_postgres::Client, what: &str, sql: &str) {
    let patience = Patience::until(what);
    while !client.query_one(sql, &[]).await.unwrap().get::<_, bool>(0) {
        patience.pause().await;
    }
}
