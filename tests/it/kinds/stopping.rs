//! Stopping in the middle: nothing is left behind, and the next run goes on.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio_postgres::Client;

use super::objects;
use crate::support::patience::Patience;
use crate::support::servers::{TestDatabase, fresh_database};
use crate::support::workspace::Workspace;

const HALF_BUILT: &str = "SELECT count(*) FROM pg_class WHERE relname LIKE '%\\_ccnew'";
const INVALID: &str = "SELECT count(*) FROM pg_index WHERE NOT indisvalid";

/// Two tables with one bloated index each.
async fn bloated(db: &TestDatabase) {
    for table in ["alpha", "beta"] {
        db.execute(&format!(
            "CREATE TABLE {table} (id bigint); INSERT INTO {table} SELECT generate_series(1, 20000);
             CREATE INDEX {table}_id ON {table} (id); DELETE FROM {table} WHERE id % 5 <> 0"
        ))
        .await;
        db.execute(&format!("VACUUM ANALYZE {table}")).await;
    }
}

/// An old snapshot: a concurrent rebuild waits for it at the very end, with
/// the new index already there.
async fn old_snapshot(db: &TestDatabase) -> Client {
    let client = db.connect().await;
    client
        .batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1")
        .await
        .unwrap();
    client
}

fn workspace(db: &TestDatabase, grace: &str) -> Workspace {
    Workspace::for_target(&db.url).task(
        "reindex",
        &format!("kind: reindex\ntarget: app\noptions: {{ min_size: 100kB, min_bloat: 30% }}\nlimits: {{ grace: {grace} }}\n"),
    )
}

async fn rebuilding(db: &TestDatabase, workspace: &Workspace) -> Child {
    let mut process = workspace
        .process(["run", "reindex", "--now", "--output", "json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'maint %'
        AND query LIKE 'REINDEX%' AND wait_event_type = 'Lock'";
    let patience = Patience::until("the rebuild to wait for the writer");
    while db.number(HALF_BUILT).await == 0 || db.number(waits).await == 0 {
        if process.try_wait().unwrap().is_some() {
            panic!("it ended: {:?}", process.wait_with_output());
        }
        patience.pause().await;
    }
    process
}

fn signal(process: &Child, signal: Signal) {
    kill(Pid::from_raw(process.id() as i32), signal).unwrap();
}

async fn end(process: Child) -> (Option<i32>, serde_json::Value, String) {
    let output = tokio::task::spawn_blocking(|| process.wait_with_output().unwrap())
        .await
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    let document =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}\n{said}"));
    (output.status.code(), document, said)
}

for_each_version! {
    /// SIGTERM: no new step, the grace, the statement is cancelled, its
    /// half-built index is gone, the record says so. The next run does it all.
    async fn a_signal_stops_cleanly(major: u32) {
        let db = fresh_database(major).await;
        bloated(&db).await;
        let holder = old_snapshot(&db).await;
        let workspace = workspace(&db, "500ms");
        for (number, code) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130)] {
            let process = rebuilding(&db, &workspace).await;
            signal(&process, number);
            let (exit, document, said) = end(process).await;
            assert_eq!(exit, Some(code), "{said}");
            assert!(said.contains("stopping: no new step begins"), "{said}");
            let run = &document["runs"][0];
            assert_eq!(run["status"], "cancelled", "{run:#}");
            let rebuilds: Vec<&str> = run["steps"].as_array().unwrap().iter()
                .filter(|step| step["action"] == "reindex")
                .map(|step| step["status"].as_str().unwrap())
                .collect();
            // The second may still wait for statistics; then it is not in the plan yet.
            assert!(["cancelled", "deferred"].starts_with(&rebuilds) && !rebuilds.is_empty(), "{run:#}");
            assert_eq!(db.number(HALF_BUILT).await, 0);
            assert_eq!(db.number(INVALID).await, 0);
            // The claim is free again, and no session of ours is left.
            assert_eq!(db.number("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' \
                AND database = (SELECT oid FROM pg_database WHERE datname = current_database())").await, 0);
        }
        holder.batch_execute("COMMIT").await.unwrap();
        let next = workspace.run(["run", "reindex", "--now", "--output", "json"]).expect(0).json();
        let both = BTreeSet::from(["public.alpha_id".to_owned(), "public.beta_id".to_owned()]);
        assert_eq!(objects(&next, "reindex", "succeeded"), both);
        let third = workspace.run(["run", "reindex", "--now", "--output", "json"]).expect(0).json();
        assert!(objects(&third, "reindex", "succeeded").is_empty());
    }
}

for_oldest_and_newest! {
    /// Who asks twice does not wait for the grace.
    async fn a_second_signal_stops_at_once(major: u32) {
        let db = fresh_database(major).await;
        bloated(&db).await;
        let _holder = old_snapshot(&db).await;
        let workspace = workspace(&db, "1h");
        let mut process = rebuilding(&db, &workspace).await;
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        signal(&process, Signal::SIGTERM);
        // The first has been heard as soon as the process says so; a second
        // one that came before would be one and the same.
        let lines = tokio::task::spawn_blocking(move || {
            assert!(lines.any(|line| line.unwrap().contains("stopping: no new step begins")));
            lines
        }).await.unwrap();
        signal(&process, Signal::SIGTERM);
        let (exit, document, _) = end(process).await;
        assert_eq!(exit, Some(143));
        // Until here the process had a reader for what it says.
        drop(lines);
        assert_eq!(objects(&document, "reindex", "cancelled").len(), 1, "{document:#}");
        assert_eq!(db.number(HALF_BUILT).await, 0);
    }
}

for_each_version! {
    /// A killed process, and a server that has ended its orphan: the next run
    /// records the interruption, removes the leftover, and rebuilds.
    async fn a_leftover_of_the_dead_is_removed(major: u32) {
        let db = fresh_database(major).await;
        bloated(&db).await;
        let holder = old_snapshot(&db).await;
        let workspace = workspace(&db, "1s");
        let mut process = rebuilding(&db, &workspace).await;
        // Steps that can be repeated reach the history a moment after they begin.
        let patience = Patience::until("the step to be on record");
        while objects(&workspace.run(["show", "last", "--output", "json"]).json(), "reindex", "running").is_empty() {
            patience.pause().await;
        }
        process.kill().unwrap();
        process.wait().unwrap();
        // What the server does by itself a little later, when it looks for its client.
        db.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'maint %'").await;
        let patience = Patience::until("the sessions of the run to end");
        while db.number("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'maint %'").await > 0 {
            patience.pause().await;
        }
        assert_eq!(db.number(HALF_BUILT).await, 1);
        holder.batch_execute("COMMIT").await.unwrap();

        let next = workspace.run(["run", "reindex", "--now", "--output", "json"]).expect(0).json();
        let dropped = objects(&next, "drop_leftover", "succeeded");
        assert_eq!(dropped.len(), 1, "{next:#}");
        let both = BTreeSet::from(["public.alpha_id".to_owned(), "public.beta_id".to_owned()]);
        assert_eq!(objects(&next, "reindex", "succeeded"), both);
        assert_eq!(db.number(HALF_BUILT).await, 0);
        assert_eq!(db.number(INVALID).await, 0);
        let history = workspace.run(["history", "--output", "json"]).json();
        let statuses: Vec<&str> = history["runs"].as_array().unwrap().iter().map(|r| r["status"].as_str().unwrap()).collect();
        assert_eq!(statuses, ["succeeded", "interrupted"]);
        let first = history["runs"][1]["id"].as_str().unwrap();
        let shown = workspace.run(["show", first, "--output", "json"]).json();
        assert_eq!(objects(&shown, "reindex", "cancelled").len(), 1, "{shown:#}");
    }
}

/// The one step of the run with this object.
fn step<'a>(document: &'a serde_json::Value, object: &str) -> &'a serde_json::Value {
    let steps = document["runs"][0]["steps"].as_array().unwrap();
    steps.iter().find(|s| s["object"] == object).unwrap()
}

const TOO_LONG: &str = "took longer than `limits.step_timeout` (10s) and was cancelled; \
    the next run tries it again, and a larger `step_timeout` gives it more time";

/// A step that takes too long is cancelled, the others go on, and the record
/// says what to do. What it had to leave is removed by the next run.
#[tokio::test]
async fn a_step_that_takes_too_long_fails_alone() {
    let db = fresh_database(17).await;
    bloated(&db).await;
    // A rebuild waits for who writes into its table.
    let writer = db.connect().await;
    writer
        .batch_execute("BEGIN; INSERT INTO alpha VALUES (0)")
        .await
        .unwrap();
    let workspace = Workspace::for_target(&db.url).task(
        "reindex",
        "kind: reindex\ntarget: app\noptions: { min_size: 100kB }\nlimits: { jobs: 1, step_timeout: 10s }\n",
    );
    let document = workspace
        .run(["run", "reindex", "--now", "--output", "json"])
        .expect(1)
        .json();
    assert_eq!(document["runs"][0]["status"], "partial");
    let late = step(&document, "public.alpha_id");
    assert_eq!(late["status"], "failed", "{document:#}");
    // The writer is in the way of clearing up, too.
    let left = "public.alpha_id_ccnew was left behind: canceling statement due to lock timeout (SQLSTATE 55P03, while removing what it left); the next run removes it";
    assert_eq!(late["error"], format!("{TOO_LONG}; {left}"));
    assert_eq!(
        step(&document, "public.beta_id")["status"],
        "succeeded",
        "{document:#}"
    );
    let shown = workspace.run(["show", "last"]).expect(0).stdout;
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words(&shown).contains(TOO_LONG), "{shown}");

    writer.batch_execute("ROLLBACK").await.unwrap();
    let next = workspace
        .run(["run", "reindex", "--now", "--output", "json"])
        .expect(0)
        .json();
    assert_eq!(
        objects(&next, "reindex", "succeeded"),
        BTreeSet::from(["public.alpha_id".to_owned()])
    );
    assert_eq!(objects(&next, "drop_leftover", "succeeded").len(), 1);
    assert_eq!(db.number(HALF_BUILT).await, 0);
    assert_eq!(db.number(INVALID).await, 0);
}

/// The same holds for what only reads.
#[tokio::test]
async fn a_check_that_takes_too_long_fails_alone() {
    let db = fresh_database(14).await;
    let workspace = Workspace::for_target(&db.url).task(
        "integrity",
        "kind: integrity\ntarget: app\nlimits: { jobs: 1, step_timeout: 10s }\n\
         options: { amcheck: off, queries: [{ name: a, sql: SELECT pg_sleep(6000) }, { name: b, sql: SELECT 1 WHERE false }] }\n",
    );
    let document = workspace
        .run(["run", "integrity", "--now", "--output", "json"])
        .expect(1)
        .json();
    assert_eq!(document["runs"][0]["status"], "partial");
    assert_eq!(step(&document, "a")["status"], "failed", "{document:#}");
    assert_eq!(step(&document, "a")["error"], TOO_LONG);
    assert_eq!(step(&document, "b")["status"], "succeeded");
    let asleep = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%pg_sleep(6000)%' AND pid <> pg_backend_pid()";
    assert_eq!(db.number(asleep).await, 0);
}

for_oldest_and_newest! {
    /// Whoever has read the table in a transaction that is still open holds what is to be cleared
    /// away: it is tried again for as long as the grace lasts.
    async fn what_a_reader_holds_is_cleared_away_when_it_lets_go(major: u32) {
        let db = fresh_database(major).await;
        bloated(&db).await;
        db.execute("DROP TABLE beta").await;
        let reader = db.connect().await;
        reader.batch_execute("BEGIN; SELECT count(*) FROM alpha").await.unwrap();
        let workspace = workspace(&db, "60s");
        let process = workspace
            .process(["run", "reindex", "--now", "--output", "json"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let ours = |what: &str| format!("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
            AND application_name LIKE 'maint %' AND query LIKE '{what}' AND state = 'active' AND wait_event_type = 'Lock'");
        let patience = Patience::until("the rebuild to wait for the reader");
        while db.number(&ours("REINDEX%")).await == 0 || db.number(INVALID).await == 0 {
            patience.pause().await;
        }
        signal(&process, Signal::SIGTERM);
        // A second one cuts the patience with the step short, not the clearing.
        signal(&process, Signal::SIGTERM);
        // Twice it cannot have the lock.
        let drop = ours("DROP INDEX%");
        let patience = Patience::until("the clearing to be tried");
        for waits in [true, false, true] {
            while (db.number(&drop).await > 0) != waits {
                patience.pause().await;
            }
        }
        reader.batch_execute("COMMIT").await.unwrap();
        let (code, document, said) = end(process).await;
        assert_eq!(code, Some(143), "{said}");
        let step = &document["runs"][0]["steps"][0];
        assert_eq!(step["status"], "cancelled", "{document:#}");
        assert_eq!(step["error"], "the run was stopped", "{document:#}");
        assert_eq!(db.number(INVALID).await, 0, "{document:#}");
        assert_eq!(db.number(HALF_BUILT).await, 0);
    }
}
