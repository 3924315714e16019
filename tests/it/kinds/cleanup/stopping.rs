//! Stopped, killed, out of time, among writers: nothing is lost, nothing is
//! done twice, nobody is in the way for long.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use super::{checksum, clean, nothing_is_left, workspace};
use crate::support::patience::Patience;
use crate::support::servers::{TestDatabase, fresh_database};
use crate::support::workspace::Workspace;

const OLD: &str = "at < now() - interval '90 days'";

/// A third of the rows is old. Each deleted row takes a moment, so that there
/// is a middle to be stopped in.
async fn slow(db: &TestDatabase) {
    db.execute(
        "DROP TABLE IF EXISTS t; CREATE TABLE t (id bigint PRIMARY KEY, at timestamptz NOT NULL, name text);
         INSERT INTO t SELECT n, now() - CASE WHEN n % 3 = 0 THEN interval '100 days' ELSE interval '1 day' END - n * interval '1 second',
            repeat('x', 100) FROM generate_series(1, 9000) n;
         CREATE INDEX t_at ON t (at);
         CREATE OR REPLACE FUNCTION pause() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.001); RETURN old; END';
         CREATE TRIGGER slow BEFORE DELETE ON t FOR EACH ROW EXECUTE FUNCTION pause(); ANALYZE t",
    )
    .await;
}

fn task(db: &TestDatabase, walk: &str) -> Workspace {
    Workspace::for_target(&db.url).task("cleanup", &format!(
        "kind: cleanup\ntarget: app\noptions: {{ batch_goal: 30ms, rules: [{{ table: t, column: at, older_than: 90d, walk: {walk} }}] }}\n\
         limits: {{ lock_timeout: 10min }}\n"
    ))
}

for_versions! {
    [pg15 = 15]
    /// Killed half-way, the run is recorded with the rows that had gone; the
    /// next one goes on behind them, and every row is counted exactly once.
    async fn killed_half_way(major: u32) {
        let db = fresh_database(major).await;
        for walk in ["blocks", "key"] {
            slow(&db).await;
            let kept = checksum(&db, &format!("SELECT * FROM t WHERE NOT ({OLD})")).await;
            let workspace = task(&db, walk);
            // Somebody holds a row in the middle: there it waits, behind at least one batch.
            let holder = db.connect().await;
            holder.batch_execute("BEGIN; SELECT * FROM t WHERE id = 6000 FOR UPDATE").await.unwrap();
            let mut process = workspace.process(["run", "cleanup", "--now"])
                .stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            let old = format!("SELECT count(*) FROM t WHERE {OLD}");
            let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'DELETE FROM ONLY%' AND wait_event_type = 'Lock'";
            while db.number(waits).await == 0 {
                assert!(process.try_wait().unwrap().is_none(), "it ended");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            // What has gone is written down while the work goes on, not before: it comes soon.
            let gone = 3000 - db.number(&old).await;
            let asked = Instant::now();
            let written = || {
                let shown = workspace.run(["show", "last", "--output", "json"]).json();
                shown["runs"][0]["steps"][0]["rows"].as_i64()
            };
            while written() != Some(gone) {
                assert!(asked.elapsed() < Duration::from_secs(60), "{gone} rows have gone, and {:?} are written down", written());
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            process.kill().unwrap();
            process.wait().unwrap();
            // The server would notice later; and nothing may go meanwhile.
            let orphans = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'maint%'";
            let patience = Patience::until("the sessions of the killed run to end");
            while db.number(orphans).await > 0 {
                patience.pause().await;
            }
            holder.batch_execute("ROLLBACK").await.unwrap();
            let plan = workspace.run(["plan", "cleanup", "--output", "json", "--full"]).expect(0).json();
            let step = &plan["plans"][0]["plan"]["steps"][0];
            assert!(step["work"]["walk"]["start"].is_object(), "{step:#}");
            assert!(step["details"].to_string().contains("goes on where an earlier run stopped"), "{step:#}");
            // Behind its back an old row has come in where it has already been.
            db.execute("ALTER TABLE t DISABLE TRIGGER slow").await;
            db.execute("VACUUM t").await;
            db.execute("INSERT INTO t SELECT 100000, now() - interval '1 year', 'late'").await;
            let run = clean(&workspace);
            assert_eq!(db.number(&old).await, 0);
            assert_eq!(checksum(&db, "SELECT * FROM t").await, kept);
            let history = workspace.run(["history", "--output", "json"]).expect(0).json();
            let before = &history["runs"][1];
            assert_eq!(before["status"], "interrupted");
            let counted = before["rows"].as_i64().unwrap() + run["rows"].as_i64().unwrap();
            assert_eq!(counted, 3001, "{history:#}");
            assert!(before["rows"].as_i64().unwrap() > 0, "{history:#}");
            nothing_is_left(&workspace);
        }
    }
}

for_versions! {
    [pg15 = 15]
    /// A signal ends it between two batches, a budget too; the next run goes on.
    async fn stopped_and_out_of_time(major: u32) {
        let db = fresh_database(major).await;
        slow(&db).await;
        let workspace = task(&db, "blocks");
        let process = workspace.process(["run", "cleanup", "--now", "--output", "json"])
            .stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let old = format!("SELECT count(*) FROM t WHERE {OLD}");
        let patience = Patience::until("the first rows to go");
        while db.number(&old).await > 2500 {
            patience.pause().await;
        }
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(process.id() as i32), nix::sys::signal::Signal::SIGTERM).unwrap();
        let output = tokio::task::spawn_blocking(|| process.wait_with_output().unwrap()).await.unwrap();
        assert_eq!(output.status.code(), Some(143), "{output:?}");
        let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let step = &document["runs"][0]["steps"][0];
        assert_eq!(step["status"], "cancelled");
        assert!(step["error"].as_str().unwrap().contains("goes on from there"), "{step:#}");
        assert_eq!(step["rows"].as_i64().unwrap(), 3000 - db.number(&old).await);

        let left = db.number(&old).await;
        let run = workspace.run(["run", "cleanup", "--now", "--set", "limits.budget=300ms", "--output", "json"]).expect(0).json();
        assert_eq!(run["runs"][0]["status"], "incomplete", "{run:#}");
        let some = run["runs"][0]["rows"].as_i64().unwrap();
        assert_eq!(some, left - db.number(&old).await);
        let rest = clean(&workspace);
        assert_eq!(rest["rows"].as_i64().unwrap(), left - some);
        assert_eq!(rest["steps"][0]["status"], "succeeded");
        nothing_is_left(&workspace);
    }
}

for_versions! {
    [pg17 = 17]
    /// A row that somebody holds is waited for briefly, again and again; what
    /// had gone before stays gone, and the blocker is named.
    async fn a_held_row_delays_and_is_told(major: u32) {
        let db = fresh_database(major).await;
        slow(&db).await;
        db.execute("ALTER TABLE t DISABLE TRIGGER slow").await;
        let holder = db.connect().await;
        holder.batch_execute("SET application_name = 'support desk'; BEGIN; SELECT * FROM t WHERE id = 6000 FOR UPDATE").await.unwrap();
        let workspace = workspace(&db, &json!([{ "table": "t", "column": "at", "older_than": "90d", "walk": "blocks" }]));
        // Long enough for a busy machine to see who is in the way.
        let short = ["--set", "limits.lock_timeout=3s", "--set", "limits.lock_retries=1"];
        let output = workspace.run(["run", "cleanup", "--now", "--output", "json"].into_iter().chain(short)).expect(1).json();
        let step = &output["runs"][0]["steps"][0];
        assert_eq!(step["status"], "failed");
        assert!(step["error"].as_str().unwrap().contains("support desk"), "{step:#}");
        let gone = step["rows"].as_i64().unwrap();
        assert!(gone > 0);
        assert_eq!(db.number(&format!("SELECT count(*) FROM t WHERE {OLD}")).await, 3000 - gone);
        holder.batch_execute("COMMIT").await.unwrap();
        assert_eq!(clean(&workspace)["rows"], 3000 - gone);
        nothing_is_left(&workspace);
    }
}

for_versions! {
    [pg15 = 15]
    /// Writers work on the same rows all the while. A row that is no longer
    /// old, or got its parent, when its batch comes stays.
    async fn among_writers(major: u32) {
        let db = fresh_database(major).await;
        slow(&db).await;
        db.execute("ALTER TABLE t ADD touched bigint DEFAULT 0; CREATE TABLE saved (id bigint PRIMARY KEY)").await;
        let stop = Arc::new(AtomicBool::new(false));
        let mut writers = Vec::new();
        for seed in 0..3_i64 {
            let (client, stop) = (db.connect().await, Arc::clone(&stop));
            writers.push(tokio::spawn(async move {
                let mut n = seed;
                while !stop.load(Ordering::Relaxed) {
                    n += 7;
                    let id = n * 31 % 9000 + 1;
                    // Young rows change, some old ones are saved just in time, new ones come.
                    client.execute("UPDATE t SET touched = touched + 1 WHERE id = $1 AND id % 3 <> 0", &[&id]).await.unwrap();
                    client.execute("WITH s AS (UPDATE t SET at = now() WHERE id = $1 AND id % 3 = 0 AND at < now() - interval '90 days' RETURNING id)
                        INSERT INTO saved SELECT id FROM s ON CONFLICT DO NOTHING", &[&id]).await.unwrap();
                    client.execute("INSERT INTO t (id, at) VALUES ($1, now())", &[&(1_000_000 + n * 3 + seed)]).await.unwrap();
                }
            }));
        }
        let workspace = workspace(&db, &json!([{ "table": "t", "column": "at", "older_than": "90d", "walk": "blocks", "keep": ["name = 'none'"] }]));
        let run = {
            let output = workspace.process(["run", "cleanup", "--now", "--output", "json", "--set", "limits.lock_retries=50"])
                .stdout(Stdio::piped()).spawn().unwrap();
            tokio::task::spawn_blocking(|| output.wait_with_output().unwrap()).await.unwrap()
        };
        stop.store(true, Ordering::Relaxed);
        for writer in writers {
            writer.await.unwrap();
        }
        assert_eq!(run.status.code(), Some(0), "{run:?}");
        let document: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
        let saved = db.number("SELECT count(*) FROM saved").await;
        assert_eq!(document["runs"][0]["rows"].as_i64().unwrap(), 3000 - saved);
        assert_eq!(db.number("SELECT count(*) FROM t WHERE id <= 9000 AND id % 3 <> 0").await, 6000);
        assert_eq!(db.number("SELECT count(*) FROM t JOIN saved USING (id)").await, saved);
        assert_eq!(db.number("SELECT count(*) FROM t WHERE id <= 9000 AND id % 3 = 0").await, saved);
    }
}

for_versions! {
    [pg17 = 17]
    /// Where the first batch takes longer than a run has, the next run begins with as little as can be, and gets something
    /// done; once nothing is slow, all goes.
    async fn what_is_too_slow_for_a_batch_gets_on_all_the_same(major: u32) {
        let db = fresh_database(major).await;
        // Four rows to a block, and fewer blocks than a first batch has: it would take 40 s, and one block 0.4 s.
        db.execute("CREATE TABLE gate (); CREATE TABLE t (id int, at timestamptz NOT NULL, pad text);
            ALTER TABLE t ALTER pad SET STORAGE PLAIN;
            INSERT INTO t SELECT n, now() - interval '1 year', repeat('x', 1900) FROM generate_series(1, 200) n;
            INSERT INTO t SELECT n, now(), 'kept' FROM generate_series(201, 203) n;
            CREATE FUNCTION slow(int) RETURNS boolean LANGUAGE plpgsql AS
                'BEGIN IF to_regclass(''public.gate'') IS NOT NULL THEN PERFORM pg_sleep(0.2); END IF; RETURN true; END';
            ANALYZE t").await;
        let task = |budget: &str| {
            let rule = json!({ "table": "t", "column": "at", "older_than": "90d", "where": "public.slow(id)", "walk": "blocks" });
            Workspace::for_target(&db.url).task("cleanup", &format!(
                "kind: cleanup\ntarget: app\noptions: {{ rules: [{rule}] }}\nlimits: {{ jobs: 1, budget: {budget} }}\n"
            ))
        };
        let workspace = task("8s");
        let left = "SELECT count(*) FROM t WHERE id <= 200";
        let first = clean(&workspace);
        assert_eq!((&first["steps"][0]["cut_off"], db.number(left).await), (&json!(true), 200), "{first:#}");
        let second = clean(&workspace);
        let rest = db.number(left).await;
        assert!(rest < 200, "{second:#}");
        assert_eq!(second["steps"][0]["rows"], 200 - rest, "{second:#}");
        db.execute("DROP TABLE gate").await;
        let last = clean(&workspace);
        assert_eq!(last["steps"][0]["status"], "succeeded", "{last:#}");
        assert_eq!((db.number(left).await, db.number("SELECT count(*) FROM t").await), (0, 3), "{last:#}");
        nothing_is_left(&workspace);
    }
}
