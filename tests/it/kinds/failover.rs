//! Another server becomes the primary while a run is at work.

use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::patience::Patience;
use crate::support::servers::{connect, private_cluster};
use crate::support::standby::standby;
use crate::support::workspace::Workspace;

/// `host:port` of an address.
pub(super) fn place(url: &str) -> String {
    let url: url::Url = url.parse().unwrap();
    format!("{}:{}", url.host_str().unwrap(), url.port().unwrap())
}

pub(super) async fn number(client: &tokio_postgres::Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn several_hosts_follow_the_primary() {
    let cluster = private_cluster(17, &[("wal_level", "replica"), ("autovacuum", "off")]);
    let first = cluster.url("postgres");
    let client = connect(&first).await;
    client
        .batch_execute(
            "CREATE TABLE marks (id int); CREATE TABLE gate (id int); INSERT INTO gate VALUES (1)",
        )
        .await
        .unwrap();
    let replica = standby(17, &cluster, |_| {}).await;
    let second = replica.url("postgres");
    // The standby is asked first, and passed over.
    let mut url: url::Url = first.parse().unwrap();
    url.set_query(Some("sslmode=disable"));
    let hosts = format!("{},{}", place(&second), place(&first));
    let url = url.as_str().replacen(&place(&first), &hosts, 1);
    let workspace = Workspace::new(&format!(
        "history: sqlite:maint.db\ntargets:\n  app: {{ engine: postgres, url: \"{url}\" }}\n"
    ))
    .task(
        "mark",
        "kind: sql\ntarget: app\noptions:\n  statements:\n    - { name: mark, sql: INSERT INTO public.marks VALUES (1) }\n    - { name: wait, sql: SELECT pg_catalog.pg_sleep(3600) FROM public.gate }\n",
    );
    let running = workspace
        .process(["run", "mark", "--now", "--output", "json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let sleeps = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(3600)%' AND state = 'active' AND pid <> pg_backend_pid()";
    let patience = Patience::until("the statement on the primary");
    while number(&client, sleeps).await == 0 {
        patience.pause().await;
    }
    let promoted = connect(&second).await;
    let patience = Patience::until("the mark on the standby");
    while number(&promoted, "SELECT count(*) FROM marks").await == 0 {
        patience.pause().await;
    }
    kill(Pid::from_raw(cluster.pid().cast_signed()), Signal::SIGQUIT).unwrap();
    let ended = tokio::task::spawn_blocking(|| running.wait_with_output().unwrap())
        .await
        .unwrap();
    let document: serde_json::Value = serde_json::from_slice(&ended.stdout)
        .unwrap_or_else(|error| panic!("{error} {}", String::from_utf8_lossy(&ended.stderr)));
    let run = &document["runs"][0];
    // Whether the first statement still counts depends on who notices first.
    let status = run["status"].as_str().unwrap();
    assert!(["failed", "partial"].contains(&status), "{document:#}");
    assert!(
        run["error"]
            .as_str()
            .unwrap()
            .contains("the server went away"),
        "{document:#}"
    );

    promoted
        .batch_execute("SELECT pg_catalog.pg_promote(true, 60)")
        .await
        .unwrap();
    promoted.batch_execute("DELETE FROM gate").await.unwrap();
    let next = workspace
        .run(["run", "mark", "--now", "--output", "json"])
        .expect(0)
        .json();
    assert_eq!(next["runs"][0]["status"], "succeeded", "{next:#}");
    assert_eq!(number(&promoted, "SELECT count(*) FROM marks").await, 2);
}
