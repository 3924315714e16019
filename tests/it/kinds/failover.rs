//! Another server becomes the primary while a run is at work.

use std::process::Stdio;

use maint::engines::postgres::connect::Dial;
use maint::engines::postgres::{Session, copies};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::patience::Patience;
use crate::support::servers::{connect, private_cluster};
use crate::support::standby::standby;
use crate::support::wire::{Mode, Wire};
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

/// Of several hosts only one may be the primary: an old one that is there again is never taken for
/// the new one, neither when a run begins nor in the middle of it.
#[tokio::test(flavor = "multi_thread")]
async fn an_old_primary_that_comes_back_is_left_alone() {
    let cluster = private_cluster(17, &[("wal_level", "replica"), ("autovacuum", "off")]);
    let old = connect(&cluster.url("postgres")).await;
    old.batch_execute(
        "CREATE TABLE ev (id int PRIMARY KEY, at timestamptz); INSERT INTO ev SELECT n, now() - interval '1 year' FROM generate_series(1, 100) n;
         CREATE TABLE more AS TABLE ev; CREATE TABLE other AS TABLE ev; CREATE TABLE gate ()",
    )
    .await
    .unwrap();
    old.batch_execute("CREATE DATABASE source").await.unwrap();
    let mut replica = standby(17, &cluster, |_| {}).await;
    let new = connect(&replica.url("postgres")).await;
    let patience = Patience::until("the rows on the standby");
    while number(&new, "SELECT count(*) FROM pg_class WHERE relname = 'gate'").await == 0 {
        patience.pause().await;
    }
    // What cuts the old one off is what brings it back.
    let wire = Wire::to(cluster.port()).await;
    let mut url: url::Url = replica.url("postgres").parse().unwrap();
    url.set_query(Some("sslmode=disable"));
    let second = place(&replica.url("postgres"));
    let hosts = format!("127.0.0.1:{},{second}", wire.port);
    let url = url.as_str().replacen(&second, &hosts, 1);
    let workspace = Workspace::new(&format!(
        "history: sqlite:maint.db\ntargets:\n  app: {{ engine: postgres, url: \"{url}\" }}\n"
    ))
    .task(
        "clean",
        "kind: cleanup\ntarget: app\noptions: { rules: [{ table: public.ev, column: at, older_than: 90d }] }\n",
    )
    .task(
        "both",
        "kind: cleanup\ntarget: app\noptions: { rules: [{ table: public.more, column: at, older_than: 90d }, { table: public.other, column: at, older_than: 90d }] }\n",
    );
    new.batch_execute("SELECT pg_catalog.pg_promote(true, 60)")
        .await
        .unwrap();

    let rows = "SELECT count(*) FROM ev";
    for command in [
        ["plan", "clean"].as_slice(),
        &["run", "clean", "--now"],
        &["check", "--connect"],
        &["doctor"],
    ] {
        let said = workspace.run(command);
        assert_ne!(said.code, 0, "{command:?}: {}{}", said.stdout, said.stderr);
        let said = format!("{}{}", said.stdout, said.stderr);
        let words = said.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(
            words.contains("more than one host") && words.contains("timelines 1 and 2"),
            "{command:?}: {said}"
        );
        assert_eq!(number(&old, rows).await, 100, "{command:?}");
        assert_eq!(number(&new, rows).await, 100, "{command:?}");
    }

    wire.set(Mode::Cut);
    workspace.run(["run", "clean", "--now"]).expect(0);
    new.batch_execute("CREATE TABLE stored AS SELECT 1 AS id, now() - interval '1 year' AS at")
        .await
        .unwrap();
    let files = format!("file://{}", workspace.path().join("files").display());
    let workspace = workspace.task(
        "store",
        &format!("kind: archive\ntarget: app\noptions: {{ table: public.stored, column: at, older_than: 90d, destination: {{ files: \"{files}\" }} }}\n"),
    );
    workspace.run(["run", "store", "--now"]).expect(0);
    assert_eq!(number(&old, rows).await, 100);
    assert_eq!(number(&new, rows).await, 0);

    // One statement is at work when the old one comes back and its session ends.
    new.batch_execute(
        "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_catalog.pg_sleep(3600); RETURN NULL; END';
         CREATE TRIGGER wait BEFORE DELETE ON more FOR EACH STATEMENT EXECUTE FUNCTION wait();
         CREATE TRIGGER wait BEFORE DELETE ON other FOR EACH STATEMENT EXECUTE FUNCTION wait()",
    )
    .await
    .unwrap();
    let running = workspace
        .process(["run", "both", "--now", "--output", "json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let sleeps = "FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND pid <> pg_backend_pid()";
    let patience = Patience::until("the statement on the new primary");
    while number(&new, &format!("SELECT count(*) {sleeps}")).await == 0 {
        patience.pause().await;
    }
    wire.set(Mode::Pass);
    new.batch_execute(&format!("SELECT pg_terminate_backend(pid) {sleeps}"))
        .await
        .unwrap();
    let ended = tokio::task::spawn_blocking(|| running.wait_with_output().unwrap())
        .await
        .unwrap();
    let document: serde_json::Value = serde_json::from_slice(&ended.stdout)
        .unwrap_or_else(|error| panic!("{error} {}", String::from_utf8_lossy(&ended.stderr)));
    assert_eq!(document["runs"][0]["status"], "failed", "{document:#}");
    assert!(
        document
            .to_string()
            .contains("an older copy of the database (timeline 1, the run began on 2)"),
        "{document:#}"
    );
    for server in [&old, &new] {
        for table in ["more", "other"] {
            let rows = format!("SELECT count(*) FROM {table}");
            assert_eq!(number(server, &rows).await, 100, "{table}");
        }
    }

    // Then the new one is away, and whoever asks is answered by the old one alone.
    let source = cluster.url("source");
    let client = connect(&source).await;
    client
        .batch_execute("CREATE TABLE went (id int PRIMARY KEY, at timestamptz); INSERT INTO went VALUES (1, now() - interval '1 year')")
        .await
        .unwrap();
    let targets = |url: &str| {
        format!(
            "history: sqlite:maint.db\ntargets:\n  app: {{ engine: postgres, url: \"{url}\" }}\n  source: {{ engine: postgres, url: \"{source}\" }}\n"
        )
    };
    let schedules = workspace.path().join("schedules.yaml");
    std::fs::write(&schedules, targets(&url)).unwrap();
    let workspace = workspace.task(
        "move",
        "kind: archive\ntarget: source\noptions: { table: went, column: at, older_than: 90d, destination: { database: app, table: public.kept } }\n",
    );
    replica.stop();
    let more = "SELECT count(*) FROM more";
    for command in [
        ["plan", "both"].as_slice(),
        &["run", "both", "--now"],
        &["run", "move", "--now"],
        &["archive", "restore", "--from", "stored", "--into", "back"],
        &["check", "--connect"],
        &["doctor"],
    ] {
        let said = workspace.run(command);
        assert_ne!(said.code, 0, "{command:?}: {}{}", said.stdout, said.stderr);
        let said = format!("{}{}", said.stdout, said.stderr);
        let words = said.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(
            words
                .contains("older copy of the database (timeline 1; earlier runs have worked on 2)"),
            "{command:?}: {said}"
        );
        assert_eq!(number(&old, more).await, 100, "{command:?}");
        assert_eq!(number(&client, "SELECT count(*) FROM went").await, 1);
    }
    // Who names it alone means it, and from then on it is the one.
    let mut alone: url::Url = cluster.url("postgres").parse().unwrap();
    alone.set_query(Some("sslmode=disable"));
    std::fs::write(&schedules, targets(alone.as_str())).unwrap();
    workspace.run(["run", "both", "--now"]).expect(0);
    assert_eq!(number(&old, more).await, 0);
    std::fs::write(&schedules, targets(&url)).unwrap();
    workspace.run(["run", "both", "--now"]).expect(0);
    workspace.run(["run", "move", "--now"]).expect(0);
    assert_eq!(number(&old, "SELECT count(*) FROM kept").await, 1);
}

/// Of one address with several hosts, two sessions may be with two servers.
#[tokio::test(flavor = "multi_thread")]
async fn two_sessions_are_with_one_server() {
    let clusters = [private_cluster(17, &[]), private_cluster(17, &[])];
    let urls = clusters.each_ref().map(|one| one.url("postgres"));
    let env = |_: &str| None;
    let of = |url: &str| Dial::resolve(Some(url), &env).unwrap();
    let several = of(&format!(
        "postgres://postgres@{},{}/postgres",
        place(&urls[0]),
        place(&urls[1])
    ));
    let [one, other] = urls.each_ref().map(|url| of(url));
    let first = Session::open(&one, "maint test").await.unwrap();
    let same = Session::open(&one, "maint test").await.unwrap();
    let second = Session::open(&other, "maint test").await.unwrap();
    copies::both_with_one(&several, &first, &same)
        .await
        .unwrap();
    let error = copies::both_with_one(&several, &first, &second)
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("two different servers"),
        "{error}"
    );
}
