//! Somebody has a table for themselves while everything is looked at: that one waits, the others
//! do not.

use serde_json::{Value, json};

use crate::support::servers::{TestDatabase, fresh_database};
use crate::support::workspace::Workspace;

const LIMITS: &str = "limits: { lock_timeout: 300ms, lock_retries: 1 }\n";

fn workspace(db: &TestDatabase, kind: &str, options: &str) -> Workspace {
    Workspace::for_target(&db.url).task(
        kind,
        &format!("kind: {kind}\ntarget: app\noptions: {options}\n{LIMITS}"),
    )
}

fn run(workspace: &Workspace, kind: &str) -> Value {
    let document = workspace.run(["run", kind, "--now", "--output", "json"]);
    document.json()["runs"][0].clone()
}

fn of<'a>(run: &'a Value, list: &str, key: &str, value: &str) -> Vec<&'a Value> {
    let all = run[list].as_array().unwrap().iter();
    all.filter(|one| one[key] == value).collect()
}

/// Two of everything: `free`, and `held` with an expression, a check, a key and partitions.
async fn twice(db: &TestDatabase) {
    for name in ["free", "held"] {
        db.execute(&format!("CREATE TABLE {name} (id int NOT NULL, at timestamptz NOT NULL, v text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
            CREATE TABLE {name}_2020 PARTITION OF {name} FOR VALUES FROM ('2020-01-01 00:00+00') TO ('2021-01-01 00:00+00');
            CREATE TABLE {name}_now PARTITION OF {name} FOR VALUES FROM ('2021-01-01 00:00+00') TO (date_trunc('month', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC');
            CREATE TABLE {name}_flat (id int PRIMARY KEY, v text, at timestamptz DEFAULT '2020-02-02'); CREATE INDEX {name}_lower ON {name}_flat (lower(v)) WHERE id > 0;
            INSERT INTO {name} SELECT g, '2020-05-05', 'x' FROM generate_series(1, 2000) g; INSERT INTO {name}_flat SELECT g, md5(g::text) FROM generate_series(1, 5000) g;
            ALTER TABLE {name}_flat ADD CONSTRAINT small CHECK (id < 5000) NOT VALID; ALTER TABLE {name} ADD CONSTRAINT positive CHECK (id > 1) NOT VALID;
            CREATE TRIGGER t BEFORE INSERT ON {name}_now FOR EACH ROW WHEN (NEW.id < 0) EXECUTE FUNCTION suppress_redundant_updates_trigger();
            CREATE MATERIALIZED VIEW {name}_seen AS SELECT count(*) FROM {name}_flat")).await;
    }
    db.execute("ANALYZE").await;
}

for_versions! {
    [pg17 = 17]
    /// No kind fails as a whole, and each does its work where nobody is in the way.
    async fn one_table_stops_one_table(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE EXTENSION amcheck").await;
        twice(&db).await;
        let holder = db.connect().await;
        holder.batch_execute("SET application_name = 'nightly report'; BEGIN; LOCK TABLE held, held_flat IN ACCESS EXCLUSIVE MODE").await.unwrap();

        let integrity = run(&workspace(&db, "integrity", "{ amcheck: full }"), "integrity");
        assert_eq!(integrity["status"], "partial", "{integrity:#}");
        let violated: Vec<_> = of(&integrity, "findings", "code", "constraint.violated");
        let objects: Vec<_> = violated.iter().map(|f| f["object"].as_str().unwrap()).collect();
        assert_eq!(objects, ["public.free.positive", "public.free_flat.small"], "{integrity:#}");
        let held = of(&integrity, "findings", "code", "table.held");
        assert_eq!(held.iter().map(|f| f["object"].as_str().unwrap()).collect::<Vec<_>>(), ["public.held", "public.held_flat"], "{integrity:#}");
        assert!(held.iter().all(|f| f["message"].as_str().unwrap().contains("nightly report")), "{held:#?}");

        let options = "{ tables: [held, free], interval: month, ahead: 0, keep: 1y, grace: 0s, time_zone: UTC }";
        let partitions = run(&workspace(&db, "partitions", options), "partitions");
        assert_eq!(partitions["status"], "partial", "{partitions:#}");
        assert_eq!(of(&partitions, "findings", "code", "table.held").len(), 1, "{partitions:#}");
        let steps = partitions["steps"].as_array().unwrap();
        assert!(steps.len() == 2 && steps.iter().all(|s| s["status"] == "succeeded"), "{partitions:#}");

        let rules = "{ rules: [{ table: held_flat, column: at, older_than: 1y }, { table: free_flat, column: at, older_than: 1y }] }";
        for (kind, options) in [("snapshot", "{ min_size: 1kB }"), ("reindex", "{ min_size: 8kB, min_bloat: 1% }"), ("vacuum", "{}"), ("analyze", "{}"),
            ("refresh", "{ allow_blocking: true }"), ("repack", "{ min_size: 8kB }"), ("cleanup", rules)] {
            let done = run(&workspace(&db, kind, options), kind);
            assert!(done["status"] == "succeeded" || done["status"] == "partial", "{kind}: {done:#}");
            assert_eq!(done["error"], Value::Null, "{kind}: {done:#}");
            let failed: Vec<_> = of(&done, "steps", "status", "failed").iter().map(|s| s["object"].as_str().unwrap().to_owned()).collect();
            assert!(failed.iter().all(|object| object.contains("held")), "{kind}: {done:#}");
        }
        assert_eq!(db.number("SELECT count(*) FROM free_flat").await, 0);

        holder.batch_execute("ROLLBACK").await.unwrap();
        assert_eq!(db.number("SELECT count(*) FROM held_flat").await, 5000);
        let again = run(&workspace(&db, "integrity", "{}"), "integrity");
        let objects: Vec<_> = of(&again, "findings", "code", "constraint.violated").iter().map(|f| f["object"].clone()).collect();
        assert_eq!(objects, [json!("public.held.positive"), json!("public.held_flat.small")], "{again:#}");
    }
}

for_oldest_and_newest! {
    /// One partition that somebody holds stops what needs it, and not what happens beside it.
    async fn one_partition_stops_what_needs_it(major: u32) {
        let db = fresh_database(major).await;
        twice(&db).await;
        let holder = db.connect().await;
        holder.batch_execute("BEGIN; LOCK TABLE ONLY held_now IN ACCESS EXCLUSIVE MODE").await.unwrap();
        let options = "{ tables: [held, free], interval: month, ahead: 0, keep: 1y, grace: 0s, time_zone: UTC }";
        let workspace = workspace(&db, "partitions", options);
        let held = run(&workspace, "partitions");
        assert_eq!(held["status"], "partial", "{held:#}");
        let told = of(&held, "findings", "code", "table.held");
        assert!(told.len() == 1 && told[0]["object"] == "public.held_now", "{held:#}");
        let created = of(&held, "steps", "action", "create_partition");
        assert!(created.len() == 1 && created[0]["object"].as_str().unwrap().contains("free_y"), "{held:#}");
        assert_eq!(db.number("SELECT count(*) FROM pg_class WHERE relname IN ('held_2020', 'free_2020')").await, 0);
        holder.batch_execute("ROLLBACK").await.unwrap();
        let then = run(&workspace, "partitions");
        assert_eq!(then["status"], "succeeded", "{then:#}");
        assert_eq!(of(&then, "steps", "action", "create_partition").len(), 1, "{then:#}");
    }
}

for_oldest_and_newest! {
    /// A table that somebody holds, and that nobody has looked at before, is not taken for empty.
    async fn what_cannot_be_measured_is_not_empty(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE new (id int, v text); INSERT INTO new SELECT g, md5(g::text) FROM generate_series(1, 20000) g").await;
        let holder = db.connect().await;
        holder.batch_execute("SET application_name = 'nightly report'; BEGIN; LOCK TABLE new IN ACCESS EXCLUSIVE MODE").await.unwrap();
        for (kind, options) in [("analyze", "{}"), ("repack", "{ min_size: 100kB, min_bloat: 1% }")] {
            let done = run(&workspace(&db, kind, options), kind);
            assert_ne!(done["status"], "succeeded", "{kind}: {done:#}");
            assert!(done.to_string().contains("nightly report"), "{kind}: {done:#}");
        }
        holder.batch_execute("ROLLBACK").await.unwrap();
        assert_eq!(of(&run(&workspace(&db, "analyze", "{}"), "analyze"), "steps", "object", "public.new").len(), 1);
    }
}

for_versions! {
    [pg18 = 18]
    /// However the table is held, a vacuum of it is left out, and whoever is in the way is named.
    async fn a_vacuum_steps_over_what_is_held_in_any_mode(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE t (id int); INSERT INTO t SELECT g FROM generate_series(1, 20000) g").await;
        db.execute("VACUUM t").await;
        db.execute("DELETE FROM t WHERE id < 15000").await;
        crate::support::servers::wait_for_statistics(&db.url);
        let workspace = workspace(&db, "vacuum", "{}");
        for mode in ["SHARE UPDATE EXCLUSIVE", "ACCESS EXCLUSIVE"] {
            let holder = db.connect().await;
            holder.batch_execute(&format!("SET application_name = 'nightly report'; BEGIN; LOCK TABLE t IN {mode} MODE")).await.unwrap();
            let done = run(&workspace, "vacuum");
            let steps = done["steps"].as_array().unwrap();
            let of_t: Vec<_> = steps.iter().filter(|step| step["object"] == "public.t").collect();
            assert!(!of_t.is_empty() && of_t.iter().all(|step| step["status"] == "skipped"), "{mode}: {done:#}");
            for step in of_t {
                let why = step["error"].as_str().unwrap();
                assert!(why.contains("SQLSTATE 55P03") && why.contains("nightly report"), "{mode}: {why}");
            }
            holder.batch_execute("ROLLBACK").await.unwrap();
        }
        let done = run(&workspace, "vacuum");
        assert_eq!(of(&done, "steps", "object", "public.t")[0]["status"], "succeeded", "{done:#}");
    }
}
