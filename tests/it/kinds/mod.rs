//! The main job on real servers: damage, run, prove what changed and what
//! did not, run again, prove that nothing happens.

mod advice;
mod cast_keys;
mod catch_all;
mod damage;
mod dependents;
mod detached;
mod evidence;
mod failover;
mod foreign;
mod full;
mod forgotten;
mod grown_indexes;
mod guarded;
mod half_built;
mod half_out;
mod held;
mod integrity;
mod kept_out;
mod archive;
mod as_written;
mod at_the_step;
mod behind;
mod blind;
mod budget;
mod cleanup;
pub(crate) mod ledger;
mod made_like;
mod many_tables;
mod missing;
mod nineteen;
mod numbers;
mod odd;
mod out_of_order;
mod outside;
mod on_standby;
mod partitioned_tenants;
mod partitions;
mod over_at_once;
mod over_by_bounds;
mod owners;
mod pooler;
mod referring;
mod refresh;
mod refresh_again;
mod refresh_settings;
mod reached;
mod reindex;
mod repack;
mod repack_column;
mod repack_meanwhile;
mod rights;
mod room;
mod rows;
mod schemas;
mod served;
mod siblings;
mod slots;
mod snapshot;
mod sql;
mod stepping_back;
mod stopping;
mod strays;
mod subscribers;
mod ten_thousand;
mod their_days;
pub(crate) mod throttle;
mod trust;
mod whose;
mod wider;
mod wraparound;

use std::collections::BTreeSet;
use std::process::Stdio;

use serde_json::Value;

use crate::support::patience::Patience;
use crate::support::servers::{TestDatabase, fresh_database, wait_for_statistics};
use crate::support::workspace::Workspace;

const REINDEX: &str = "kind: reindex\ntarget: app\noptions: { min_size: 100kB }\n\
limits: { lock_timeout: 300ms, lock_retries: 1 }\n";
const VACUUM: &str =
    "kind: vacuum\ntarget: app\nlimits: { lock_timeout: 300ms, lock_retries: 1 }\n";
const ANALYZE: &str = "kind: analyze\ntarget: app\n";

fn workspace(db: &TestDatabase) -> Workspace {
    Workspace::for_target(&db.url)
        .task("reindex", REINDEX)
        .task("vacuum", VACUUM)
        .task("analyze", ANALYZE)
        .task("integrity", "kind: integrity\ntarget: app\n")
        .task("snapshot", "kind: snapshot\ntarget: app\n")
}

/// Objects of the run's steps with this action and status.
fn objects(document: &Value, action: &str, status: &str) -> BTreeSet<String> {
    document["runs"][0]["steps"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|s| s["action"] == action && s["status"] == status)
        .map(|s| s["object"].as_str().unwrap().to_owned())
        .collect()
}

/// The first finding of the first run with this code.
fn finding<'a>(run: &'a Value, code: &str) -> &'a Value {
    run["runs"][0]["findings"]
        .as_array()
        .unwrap()
        .iter()
        .find(|finding| finding["code"] == code)
        .unwrap_or_else(|| panic!("no {code} in {run:#}"))
}

for_versions! {
    [pg14 = 14, pg18 = 18]
    /// Of 200 indexes exactly the 24 bloated ones are rebuilt, once; all stay
    /// valid and sound, and every rebuilt one really shrank.
    async fn rebuilds_the_bloated_and_no_other(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE EXTENSION amcheck").await;
        // 25 tables of 8 indexes; 3 of the tables lose most rows after the indexes were built.
        for n in 0..25 {
            db.execute(&format!(
                "CREATE TABLE t{n} (id bigint PRIMARY KEY, many int, few int, name text, at timestamptz, flag bool);
                 INSERT INTO t{n} SELECT g, g % 97, g % 3, md5(g::text), '2026-01-01'::timestamptz + g * interval '1 min', g % 2 = 0
                     FROM generate_series(1, 20000) g;
                 CREATE INDEX t{n}_many ON t{n} (many);
                 CREATE INDEX t{n}_plain ON t{n} (many) WITH (deduplicate_items = off);
                 CREATE INDEX t{n}_name ON t{n} (name);
                 CREATE UNIQUE INDEX t{n}_unique ON t{n} (name, id);
                 CREATE INDEX t{n}_lower ON t{n} (lower(name));
                 CREATE INDEX t{n}_part ON t{n} (at) WHERE flag;
                 CREATE INDEX t{n}_two ON t{n} (few, at);"
            )).await;
        }
        for n in [3, 7, 11] {
            db.execute(&format!("DELETE FROM t{n} WHERE id % 5 <> 0")).await;
            db.execute(&format!("VACUUM t{n}")).await;
        }
        db.execute("ANALYZE").await;
        let bloated: BTreeSet<String> = [3, 7, 11]
            .iter()
            .flat_map(|n| {
                ["pkey", "many", "plain", "name", "unique", "lower", "part", "two"]
                    .map(|index| format!("public.t{n}_{index}"))
            })
            .collect();
        assert_eq!(db.number("SELECT count(*) FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid WHERE c.relname ~ '^t[0-9]+$'").await, 200);
        let sizes = "SELECT sum(pg_relation_size(indexrelid))::int8 FROM pg_index JOIN pg_class c ON c.oid = indrelid WHERE c.relname IN ('t3', 't7', 't11')";
        let before = db.number(sizes).await;

        let workspace = workspace(&db);
        let first = workspace.run(["run", "reindex", "--now", "--output", "json"]);
        assert_eq!(first.code, 0, "{first:#?}");
        let document = first.json();
        assert_eq!(objects(&document, "reindex", "succeeded"), bloated);
        let run = &document["runs"][0];
        assert_eq!(run["status"], "succeeded");
        let after = db.number(sizes).await;
        assert_eq!(run["bytes_before"], before);
        assert_eq!(run["bytes_after"], after);
        assert!(after * 2 < before, "{before} -> {after}");
        assert_eq!(db.number("SELECT count(*) FROM pg_index WHERE NOT indisvalid").await, 0);
        db.execute("SELECT bt_index_check(i.indexrelid::regclass, true) FROM pg_index i
            JOIN pg_class c ON c.oid = i.indexrelid WHERE c.relname ~ '^t[0-9]+_'").await;
        // Statistics of the expression survived.
        assert_eq!(db.number("SELECT count(*) FROM pg_stats WHERE tablename = 't3_lower'").await, 1);

        let second = workspace.run(["run", "reindex", "--now", "--output", "json"]);
        assert_eq!(second.code, 0, "{second:#?}");
        assert_eq!(second.json()["runs"][0]["steps"], serde_json::json!([]));
    }
}

for_each_version! {
    /// Names that break scripts are data here, in every kind.
    async fn hostile_names_are_data(major: u32) {
        let db = fresh_database(major).await;
        let long = "ü".repeat(31);
        for (schema, table) in [
            ("select", "weird \"name; DROP TABLE x"),
            ("public", "MixedCase"),
            ("public", long.as_str()),
            ("Ünïcode", "table"),
        ] {
            let quote = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
            let (schema, table) = (quote(schema), quote(table));
            db.execute(&format!(
                "CREATE SCHEMA IF NOT EXISTS {schema};
                 CREATE TABLE {schema}.{table} (\"Key\" bigint PRIMARY KEY, \"order\" text);
                 INSERT INTO {schema}.{table} SELECT g, md5(g::text) FROM generate_series(1, 20000) g;
                 CREATE INDEX ON {schema}.{table} (upper(\"order\"));
                 DELETE FROM {schema}.{table} WHERE \"Key\" % 5 <> 0"
            )).await;
        }
        let workspace = workspace(&db);
        for (task, action, steps) in [("analyze", "analyze", 4), ("reindex", "reindex", 8), ("vacuum", "vacuum", 4)] {
            wait_for_statistics(&db.url);
            let first = workspace.run(["run", task, "--now", "--output", "json"]);
            assert_eq!(first.code, 0, "{first:#?}");
            assert_eq!(objects(&first.json(), action, "succeeded").len(), steps, "{first:#?}");
            // What the run has done is on its way, too; on 14 by datagrams, of which a busy machine loses some.
            let tries = if major == 14 { 3 } else { 1 };
            let mut again = serde_json::Value::Null;
            for _ in 0..tries {
                db.execute("SELECT 1").await;
                wait_for_statistics(&db.url);
                let second = workspace.run(["run", task, "--now", "--output", "json"]);
                again = second.json()["runs"][0]["steps"].clone();
                if again == serde_json::json!([]) {
                    break;
                }
            }
            assert_eq!(again, serde_json::json!([]), "{task}");
        }
    }
}

for_versions! {
    [pg14 = 14, pg15 = 15, pg18 = 18]
    /// Somebody who holds a table delays only the step on that table; the
    /// record names them, the run is partial, and the exit code is 1.
    async fn a_locked_table_fails_only_its_own_step(major: u32) {
        let db = fresh_database(major).await;
        for table in ["free", "held"] {
            db.execute(&format!(
                "CREATE TABLE {table} (id bigint); INSERT INTO {table} SELECT generate_series(1, 20000);
                 CREATE INDEX {table}_id ON {table} (id); DELETE FROM {table} WHERE id % 5 <> 0")).await;
            db.execute(&format!("VACUUM ANALYZE {table}")).await;
        }
        let holder = db.connect().await;
        // Asked before the transaction: inside of it, the open portal would hold a snapshot.
        let pid: i32 = holder.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
        holder.batch_execute("SET application_name = 'nightly report'; BEGIN; LOCK TABLE held IN ACCESS EXCLUSIVE MODE").await.unwrap();

        let workspace = workspace(&db);
        let output = workspace.run(["run", "reindex", "--now", "--output", "json"]);
        assert_eq!(output.code, 1, "{output:#?}");
        let document = output.json();
        assert_eq!(document["runs"][0]["status"], "partial");
        assert_eq!(objects(&document, "reindex", "succeeded"), BTreeSet::from(["public.free_id".to_owned()]));
        let steps = document["runs"][0]["steps"].as_array().unwrap();
        let held = steps.iter().find(|s| s["object"] == "public.held_id").unwrap();
        assert_eq!(held["status"], "failed");
        assert_eq!(held["attempts"], 2);
        let wait = &held["lock_waits"][0];
        assert_eq!(wait["blocker_pid"], pid);
        assert_eq!(wait["blocker_application"], "nightly report");
        assert!(wait["blocker_query_age_ms"].as_i64().unwrap() > 0);
        let shown = workspace.run(["show", "last"]);
        assert!(shown.stdout.contains("nightly report") && shown.stdout.contains(&pid.to_string()), "{shown:#?}");

        holder.batch_execute("ROLLBACK").await.unwrap();
        let again = workspace.run(["run", "reindex", "--now", "--output", "json"]);
        assert_eq!(objects(&again.json(), "reindex", "succeeded"), BTreeSet::from(["public.held_id".to_owned()]));
    }
}

for_versions! {
    [pg14 = 14, pg15 = 15, pg18 = 18]
    /// A killed process leaves a half-built index; the next run records the
    /// interruption, removes the leftover, and rebuilds. Meanwhile a second
    /// instance is refused.
    async fn a_killed_run_is_cleaned_up_by_the_next(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE big (id bigint); INSERT INTO big SELECT generate_series(1, 20000);
            CREATE INDEX big_id ON big (id); DELETE FROM big WHERE id % 5 <> 0").await;
        db.execute("VACUUM ANALYZE big").await;
        // A writer's open transaction keeps the rebuild from getting past its first phase.
        let writer = db.connect().await;
        writer.batch_execute("BEGIN; INSERT INTO big VALUES (0)").await.unwrap();

        let workspace = workspace(&db);
        let mut process = workspace.process(["run", "reindex", "--now"]).stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        let patience = Patience::until("the half-built index");
        while db.number("SELECT count(*) FROM pg_class WHERE relname = 'big_id_ccnew'").await == 0 {
            patience.pause().await;
        }
        let second = workspace.run(["run", "reindex", "--now"]);
        assert_eq!(second.code, 4, "{second:#?}");
        assert!(second.stdout.contains("already at work") && second.stdout.contains("pid"), "{second:#?}");
        process.kill().unwrap();
        process.wait().unwrap();
        assert_eq!(db.number("SELECT count(*) FROM pg_class WHERE relname = 'big_id_ccnew'").await, 1);
        writer.batch_execute("ROLLBACK").await.unwrap();
        // The server notices by and by that nobody is there any more.
        let patience = Patience::until("the sessions of the killed run to end");
        while db.number("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'maint %'").await > 0 {
            patience.pause().await;
        }

        let next = workspace.run(["run", "reindex", "--now", "--output", "json"]);
        assert_eq!(next.code, 0, "{next:#?}");
        let document = next.json();
        let rebuilt = objects(&document, "reindex", "succeeded");
        let dropped = objects(&document, "drop_leftover", "succeeded");
        // The server may have finished the orphaned rebuild in the instant
        // between the writer's end and its own: then nothing is left to do.
        if dropped.is_empty() {
            assert!(rebuilt.is_empty() || rebuilt.contains("public.big_id"), "{next:#?}");
        } else {
            assert_eq!(dropped, BTreeSet::from(["public.big_id_ccnew".to_owned()]));
            assert_eq!(rebuilt, BTreeSet::from(["public.big_id".to_owned()]));
        }
        assert_eq!(db.number("SELECT count(*) FROM pg_index WHERE NOT indisvalid").await, 0);
        let history = workspace.run(["history", "--output", "json"]).json();
        let statuses: Vec<&str> = history["runs"].as_array().unwrap().iter().map(|r| r["status"].as_str().unwrap()).collect();
        assert_eq!(statuses, ["succeeded", "skipped", "interrupted"]);
    }
}
