//! The history's server is replaced by its standby while a run is at work.

use std::process::Stdio;

use crate::support::patience::Patience;
use crate::support::servers::{connect, fresh_database, private_cluster};
use crate::support::standby::standby;
use crate::support::wire::{Mode, Wire};
use crate::support::workspace::Workspace;

async fn number(client: &tokio_postgres::Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).await.unwrap().get(0)
}

/// Of several hosts the history is on the one that was promoted last: found in the middle of a
/// run, and also when the old one is there again and takes writes.
#[tokio::test(flavor = "multi_thread")]
async fn the_history_follows_its_primary() {
    let target = fresh_database(17).await;
    target.execute("CREATE TABLE t (id int)").await;
    let cluster = private_cluster(17, &[("wal_level", "replica"), ("autovacuum", "off")]);
    let old = connect(&cluster.url("postgres")).await;
    let replica = standby(17, &cluster, |_| {}).await;
    let new = connect(&replica.url("postgres")).await;
    let wire = Wire::to(cluster.port()).await;
    let url: url::Url = replica.url("postgres").parse().unwrap();
    let second = format!("127.0.0.1:{}", url.port().unwrap());
    let hosts = format!("127.0.0.1:{},{second}", wire.port);
    let history = url.as_str().replacen(&second, &hosts, 1);
    let workspace = Workspace::new(&format!(
        "history: \"{history}\"\ntargets:\n  app: {{ engine: postgres, url: \"{}\" }}\n",
        target.url
    ))
    .task("analyze", "kind: analyze\ntarget: app\n")
    .task(
        "work",
        "kind: sql\ntarget: app\nlimits: { lock_timeout: 1h }\noptions:\n  statements:\n    \
         - name: wait\n      \
           sql: INSERT INTO public.t SELECT 1 FROM pg_catalog.pg_advisory_xact_lock(42)\n    \
         - name: later\n      sql: INSERT INTO public.t VALUES (2)\n",
    );
    target
        .client
        .batch_execute("SELECT pg_catalog.pg_advisory_lock(42)")
        .await
        .unwrap();
    let running = workspace
        .process(["run", "work", "--now", "--output", "json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let waiting = "SELECT count(*) FROM pg_catalog.pg_stat_activity
        WHERE datname = pg_catalog.current_database() AND wait_event = 'advisory'";
    let patience = Patience::until("the statement to wait");
    while target.number(waiting).await == 0 {
        patience.pause().await;
    }
    let tables = "SELECT count(*) FROM pg_class WHERE oid = to_regclass('maint.runs')";
    let patience = Patience::until("the run on the standby");
    while number(&new, tables).await == 0
        || number(&new, "SELECT count(*) FROM maint.runs").await == 0
    {
        patience.pause().await;
    }

    wire.set(Mode::Cut);
    new.batch_execute("SELECT pg_catalog.pg_promote(true, 60)")
        .await
        .unwrap();
    target
        .client
        .batch_execute("SELECT pg_catalog.pg_advisory_unlock(42)")
        .await
        .unwrap();
    let ended = tokio::task::spawn_blocking(|| running.wait_with_output().unwrap())
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{said}");
    let done = "SELECT count(*) FROM maint.runs WHERE status = 'succeeded'";
    assert_eq!(number(&new, done).await, 1, "{said}");
    assert_eq!(number(&old, done).await, 0);
    let spooled = std::fs::read_dir(workspace.path().join("maint-spool"));
    assert_eq!(spooled.map_or(0, |folder| folder.count()), 0, "{said}");

    // Two primaries: what is written goes to the one that was promoted.
    wire.set(Mode::Pass);
    workspace.run(["run", "analyze", "--now"]).expect(0);
    assert_eq!(number(&new, done).await, 2);
    assert_eq!(number(&old, done).await, 0);
    let listed = workspace.run(["history"]).expect(0).stdout;
    assert!(
        listed.contains("analyze") && listed.contains("work"),
        "{listed}"
    );
}
