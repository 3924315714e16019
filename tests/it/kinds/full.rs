//! A server that is up, and lets nobody in any more, has not gone away.

use std::process::Stdio;

use super::failover::number;
use crate::support::patience::Patience;
use crate::support::servers::{connect, fresh_database, private_cluster};
use crate::support::workspace::Workspace;

#[tokio::test]
async fn a_server_without_a_free_connection_has_not_gone_away() {
    let cluster = private_cluster(17, &[]);
    let admin = cluster.url("postgres");
    let client = connect(&admin).await;
    client
        .batch_execute(
            "CREATE TABLE gate (id int); INSERT INTO gate VALUES (1);
             CREATE ROLE worker LOGIN PASSWORD 'worker'; GRANT SELECT ON gate TO worker",
        )
        .await
        .unwrap();
    let mut url: url::Url = admin.parse().unwrap();
    url.set_username("worker").unwrap();
    url.set_password(Some("worker")).unwrap();
    let workspace = Workspace::new(&format!(
        "history: sqlite:maint.db\ntargets:\n  app: {{ engine: postgres, url: \"{url}\" }}\n"
    ))
    .task(
        "wait",
        "kind: sql\ntarget: app\noptions:\n  statements:\n    - { name: wait, sql: SELECT pg_catalog.pg_sleep(3600) FROM public.gate }\n",
    );
    let running = workspace
        .process(["run", "wait", "--now", "--output", "json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let sleeps = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(3600)%' AND state = 'active' AND pid <> pg_backend_pid()";
    let patience = Patience::until("the statement at work");
    while number(&client, sleeps).await == 0 {
        patience.pause().await;
    }
    // From now on its connections are refused as where all are taken (53300), whatever others do.
    // The limit is there before anybody comes back: two statements sent as one would be one transaction.
    for statement in [
        "ALTER ROLE worker CONNECTION LIMIT 0",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'worker'",
    ] {
        client.batch_execute(statement).await.unwrap();
    }
    let ended = tokio::task::spawn_blocking(|| running.wait_with_output().unwrap())
        .await
        .unwrap();
    let document: serde_json::Value = serde_json::from_slice(&ended.stdout)
        .unwrap_or_else(|error| panic!("{error} {}", String::from_utf8_lossy(&ended.stderr)));
    let run = &document["runs"][0];
    assert_eq!(run["status"], "failed", "{document:#}");
    let told = run["error"].as_str().unwrap();
    assert!(
        told.contains("the server is up, and had no connection free"),
        "{document:#}"
    );

    client
        .batch_execute("ALTER ROLE worker CONNECTION LIMIT -1; DELETE FROM gate")
        .await
        .unwrap();
    let next = workspace
        .run(["run", "wait", "--now", "--output", "json"])
        .expect(0)
        .json();
    assert_eq!(next["runs"][0]["status"], "succeeded", "{next:#}");
}

/// A database that somebody drops while a run is at work in it: told as what it is, and the others have their turn.
#[tokio::test]
async fn a_database_that_is_dropped_in_mid_run_is_told() {
    let db = fresh_database(17).await;
    let name = &db.name;
    for tenant in ["a", "b"] {
        db.execute(&format!("CREATE DATABASE {name}_{tenant}"))
            .await;
    }
    let workspace = Workspace::new(&format!(
        "history: sqlite:maint.db\ntargets:\n  app: {{ engine: postgres, url: \"{}\", databases: [\"{name}_*\"] }}\n",
        db.url
    ))
    .task("wait", "kind: sql\ntarget: app\noptions: { statements: [{ name: wait, sql: \"SELECT CASE WHEN pg_catalog.current_database() LIKE '%_a' THEN pg_catalog.pg_sleep(600) END\" }] }\n");
    let process = workspace
        .process(["run", "wait", "--now", "--output", "json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let asleep = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = '{name}_a'"
    );
    let patience = Patience::until("the statement to begin");
    while db.number(&asleep).await == 0 {
        patience.pause().await;
    }
    db.execute(&format!("DROP DATABASE {name}_a WITH (FORCE)"))
        .await;
    let ended = tokio::task::spawn_blocking(|| process.wait_with_output().unwrap())
        .await
        .unwrap();
    let document: serde_json::Value = serde_json::from_slice(&ended.stdout).unwrap();
    let of = |tenant: &str| {
        let runs = document["runs"].as_array().unwrap().iter();
        let mut of = runs.filter(|run| run["target"] == format!("app/{name}_{tenant}"));
        of.next().unwrap_or_else(|| panic!("{document:#}")).clone()
    };
    assert_eq!(of("a")["status"], "failed", "{document:#}");
    let told = of("a")["error"].as_str().unwrap().to_owned();
    assert!(told.contains("its database is there no more"), "{told}");
    assert_eq!(of("b")["status"], "succeeded", "{document:#}");
    workspace.run(["run", "wait", "--now"]).expect(0);
    workspace.run(["status"]).expect(0);
    db.execute(&format!("DROP DATABASE {name}_b WITH (FORCE)"))
        .await;
}
