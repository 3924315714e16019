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

/// Where records go is looked at by whoever is asked whether all is well: a standby has them all, and takes none; a
/// server that is not there has none; a place that takes them is no problem.
#[tokio::test(flavor = "multi_thread")]
async fn a_history_that_takes_no_records_is_told_beforehand() {
    let target = fresh_database(17).await;
    target.execute("CREATE TABLE t (id int)").await;
    let cluster = private_cluster(17, &[("wal_level", "replica"), ("autovacuum", "off")]);
    let replica = standby(17, &cluster, |_| {}).await;
    let workspace = |history: &str| {
        Workspace::new(&format!(
            "history: \"{history}\"\ntargets:\n  app: {{ engine: postgres, url: \"{}\" }}\n",
            target.url
        ))
        .task("analyze", "kind: analyze\ntarget: app\n")
    };
    let told = |workspace: &Workspace, words: &[&str]| {
        let said = workspace.run([words, &["--output", "json"]].concat());
        let all = said.json();
        let of = all["checks"].as_array().unwrap().iter();
        let of: Vec<String> = of
            .filter(|one| one["target"] == "history")
            .map(|one| {
                format!(
                    "{} {}",
                    one["level"].as_str().unwrap(),
                    one["text"].as_str().unwrap()
                )
            })
            .collect();
        assert_eq!(of.len(), 1, "{all:#}");
        (said.code, of[0].clone())
    };
    let there = workspace(&cluster.url("postgres"));
    let (_, text) = told(&there, &["doctor"]);
    assert!(
        text.starts_with("ok ") && text.contains("the first run makes"),
        "{text}"
    );
    let old = connect(&cluster.url("postgres")).await;
    let made = "SELECT count(*) FROM pg_namespace WHERE nspname = 'maint'";
    assert_eq!(number(&old, made).await, 0);
    there.run(["run", "analyze", "--now"]).expect(0);
    let (_, text) = told(&there, &["doctor"]);
    assert!(
        text.starts_with("ok ") && text.contains("the newest run began"),
        "{text}"
    );

    old.batch_execute(
        "CREATE ROLE looks LOGIN PASSWORD 'p'; GRANT USAGE ON SCHEMA maint TO looks;
         GRANT SELECT ON ALL TABLES IN SCHEMA maint TO looks",
    )
    .await
    .unwrap();
    let mut url: url::Url = cluster.url("postgres").parse().unwrap();
    url.set_username("looks").unwrap();
    url.set_password(Some("p")).unwrap();
    let looks = workspace(url.as_str());
    let (code, text) = told(&looks, &["doctor"]);
    assert_eq!(code, 3, "{text}");
    assert!(
        text.starts_with("problem ")
            && text.contains("runs")
            && text.contains("GRANT SELECT, INSERT"),
        "{text}"
    );
    let granted = "GRANT INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA maint TO looks";
    old.batch_execute(granted).await.unwrap();
    let (_, text) = told(&looks, &["doctor"]);
    assert!(text.starts_with("ok "), "{text}");
    looks.run(["run", "analyze", "--now"]).expect(0);
    assert!(!looks.path().join("maint-spool").exists());

    let new = connect(&replica.url("postgres")).await;
    let patience = Patience::until("the run on the standby");
    let tables = "SELECT count(*) FROM pg_class WHERE oid = to_regclass('maint.runs')";
    while number(&new, tables).await == 0
        || number(&new, "SELECT count(*) FROM maint.runs").await == 0
    {
        patience.pause().await;
    }
    let asleep = workspace(&replica.url("postgres"));
    let (code, text) = told(&asleep, &["doctor"]);
    assert_eq!(code, 3, "{text}");
    assert!(
        text.starts_with("problem ") && text.contains("primary"),
        "{text}"
    );
    let checked = asleep.run(["check", "--connect"]).expect(3);
    assert!(
        checked.stderr.contains("history") && checked.stderr.contains("primary"),
        "{checked:#?}"
    );
    asleep.run(["history"]).expect(0);

    let gone = workspace("postgres://nobody@127.0.0.1:1/nowhere");
    let (code, text) = told(&gone, &["doctor"]);
    assert_eq!(code, 3, "{text}");
    assert!(
        text.starts_with("problem ") && text.contains("out of reach"),
        "{text}"
    );
    let file = workspace("sqlite:maint.db");
    let (_, text) = told(&file, &["doctor"]);
    assert!(text.starts_with("ok "), "{text}");
    assert!(!file.path().join("maint.db").exists());
}
