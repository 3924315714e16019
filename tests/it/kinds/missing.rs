//! A name that leads nowhere: whose object is gone, and whose is not.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::servers::{TestDatabase, fresh_database};
use crate::support::workspace::Workspace;

fn workspace(db: &TestDatabase, kind: &str, options: &Value, limits: &str) -> Workspace {
    let task = format!("kind: {kind}\ntarget: app\noptions: {options}\nlimits: {{ {limits} }}\n");
    Workspace::for_target(&db.url).task("work", &task)
}

fn run(workspace: &Workspace) -> (i32, Value) {
    let output = workspace.run(["run", "work", "--now", "--output", "json"]);
    let document = output.json();
    (output.code, document["runs"][0].clone())
}

/// The work failed, and says whose code has to be mended.
fn failed(workspace: &Workspace, function: &str) {
    let (code, run) = run(workspace);
    assert_ne!(code, 0, "{run:#}");
    assert_ne!(run["status"], "succeeded", "{run:#}");
    let steps = run["steps"].as_array().unwrap();
    let step = steps
        .iter()
        .find(|step| step["status"] == "failed")
        .unwrap_or_else(|| panic!("no step has failed: {run:#}"));
    let error = step["error"].as_str().unwrap();
    for part in [
        "42P01",
        "itself is still there",
        function,
        "SET search_path",
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
}

async fn wait_for(db: &TestDatabase, what: &str, sql: &str, number: i64) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while db.number(sql).await != number {
        assert!(Instant::now() < deadline, "{what} did not come");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

const WAITING: &str = "SELECT count(*) FROM pg_locks WHERE NOT granted
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";

const OLD: &str = "CREATE TABLE audit (id int);
    CREATE TABLE t (id int PRIMARY KEY, at timestamptz NOT NULL);
    INSERT INTO t SELECT n, '2020-01-01' FROM generate_series(1, 10) n";

fn expired() -> Value {
    json!({ "rules": [{ "table": "t", "column": "at", "older_than": "75d" }] })
}

for_oldest_and_newest! {
    /// A trigger that cannot find its table is no table that has vanished.
    async fn a_trigger_that_misses_a_table_fails_the_step(major: u32) {
        let db = fresh_database(major).await;
        db.execute(OLD).await;
        db.execute("CREATE FUNCTION note_it() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN INSERT INTO audit VALUES (OLD.id); RETURN OLD; END $$;
            CREATE TRIGGER note_it BEFORE DELETE ON t FOR EACH ROW EXECUTE FUNCTION note_it()").await;
        let workspace = workspace(&db, "cleanup", &expired(), "lock_retries: 0");
        failed(&workspace, "note_it");
        assert_eq!(db.number("SELECT count(*) FROM t").await, 10);
        // What it says to do helps.
        db.execute("ALTER FUNCTION note_it() SET search_path = public").await;
        let (code, after) = run(&workspace);
        assert_eq!((code, after["rows"].as_i64()), (0, Some(10)), "{after:#}");
        assert_eq!(db.number("SELECT count(*) FROM audit").await, 10);
    }
}

for_oldest_and_newest! {
    async fn an_event_trigger_that_misses_a_table_fails_the_step(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE audit (id int);
            CREATE TABLE t (id int, at timestamptz NOT NULL) PARTITION BY RANGE (at);
            CREATE TABLE t_old PARTITION OF t FOR VALUES FROM ('2020-01-01') TO ('2020-02-01');
            CREATE TABLE t_new PARTITION OF t FOR VALUES FROM ('2021-01-01') TO (MAXVALUE);
            INSERT INTO t VALUES (1, '2020-01-05'), (2, now());
            CREATE FUNCTION watch_drops() RETURNS event_trigger LANGUAGE plpgsql AS
                $$ BEGIN INSERT INTO audit VALUES (1); END $$;
            CREATE EVENT TRIGGER watch_drops ON sql_drop EXECUTE FUNCTION watch_drops()").await;
        let workspace = workspace(&db, "cleanup", &expired(), "lock_retries: 0");
        failed(&workspace, "watch_drops");
        assert_eq!(db.number("SELECT count(*) FROM t_old").await, 1);
    }
}

for_oldest_and_newest! {
    async fn a_view_that_misses_a_table_fails_the_step(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE names (id int); INSERT INTO names VALUES (1);
            CREATE FUNCTION all_names() RETURNS bigint LANGUAGE plpgsql SET search_path = public AS
                $$ BEGIN RETURN (SELECT count(*) FROM names); END $$;
            CREATE MATERIALIZED VIEW v AS SELECT id, all_names() FROM names;
            CREATE UNIQUE INDEX ON v (id);
            ALTER FUNCTION all_names() RESET search_path").await;
        failed(&workspace(&db, "refresh", &json!({}), "lock_retries: 0"), "all_names");
    }
}

for_oldest_and_newest! {
    async fn an_index_that_misses_a_table_fails_the_step(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE names (id int); CREATE TABLE t (id int); INSERT INTO t VALUES (1);
            CREATE FUNCTION name_of(int) RETURNS bigint LANGUAGE plpgsql IMMUTABLE SET search_path = public AS
                $$ BEGIN RETURN (SELECT count(*) FROM names); END $$;
            CREATE INDEX t_name ON t (name_of(id));
            ALTER FUNCTION name_of(int) RESET search_path").await;
        let options = json!({ "min_size": "0MB", "min_bloat": "0%" });
        failed(&workspace(&db, "reindex", &options, "lock_retries: 0"), "name_of");
        assert_eq!(db.number("SELECT count(*) FROM pg_index WHERE NOT indisvalid").await, 0);
    }
}

for_oldest_and_newest! {
    async fn a_check_that_misses_a_table_fails_the_step(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE names (id int);
            CREATE FUNCTION is_named(int) RETURNS boolean LANGUAGE plpgsql SET search_path = public AS
                $$ BEGIN RETURN (SELECT count(*) >= 0 FROM names); END $$;
            CREATE TABLE t (id int CHECK (is_named(id))); INSERT INTO t VALUES (1);
            ALTER FUNCTION is_named(int) RESET search_path").await;
        failed(&workspace(&db, "integrity", &json!({}), "lock_retries: 0"), "is_named");
    }
}

for_oldest_and_newest! {
    /// A table that goes while its step waits for it has vanished, and that is
    /// no failure.
    async fn a_table_that_is_dropped_meanwhile_is_skipped(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE t (id int); INSERT INTO t SELECT generate_series(1, 50000)").await;
        let workspace = workspace(&db, "analyze", &json!({}), "lock_timeout: 1min");
        let holder = db.connect().await;
        // What is locked exclusively is not planned; so the lock grows afterwards.
        let lock = "BEGIN; LOCK TABLE t IN SHARE UPDATE EXCLUSIVE MODE";
        holder.batch_execute(lock).await.unwrap();
        let work = tokio::task::spawn_blocking(move || run(&workspace));
        wait_for(&db, "the wait for the table", WAITING, 1).await;
        holder.batch_execute("DROP TABLE t; COMMIT").await.unwrap();
        let (code, run) = work.await.unwrap();
        assert_eq!(code, 0, "{run:#}");
        let step = &run["steps"][0];
        assert_eq!(step["status"], "skipped", "{run:#}");
        assert!(step["error"].as_str().unwrap().starts_with("vanished: "), "{run:#}");
    }
}

for_oldest_and_newest! {
    /// A table that gets another name in the middle of a walk: some rows have gone, the others were not looked at.
    async fn a_table_that_is_renamed_in_mid_walk_fails_the_step(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE t (id int PRIMARY KEY, at timestamptz); INSERT INTO t SELECT g, now() - interval '2 years' FROM generate_series(1, 30000) g").await;
        let rule = json!({ "batch_goal": "10ms", "rules": [{ "table": "t", "column": "at", "older_than": "1y", "walk": "blocks", "max_share": "100%" }] });
        let workspace = workspace(&db, "cleanup", &rule, "lock_timeout: 1min");
        let holder = db.connect().await;
        // Whoever of the two finds that each waits for the other is to be maint, which tries again.
        holder.batch_execute("SET deadlock_timeout = '10min'; BEGIN; SELECT FROM t WHERE id = 29990 FOR UPDATE").await.unwrap();
        let work = tokio::task::spawn_blocking(move || run(&workspace));
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        wait_for(&db, "the wait for the row", waiting, 1).await;
        holder.batch_execute("ALTER TABLE t RENAME TO other; COMMIT").await.unwrap();
        let (code, run) = work.await.unwrap();
        let left = db.number("SELECT count(*) FROM other").await;
        assert!((1..30_000).contains(&left), "{left} {run:#}");
        assert_eq!(code, 1, "{run:#}");
        let step = &run["steps"][0];
        assert_eq!((&step["status"], step["rows"].as_i64()), (&"failed".into(), Some(30_000 - left)), "{run:#}");
        let why = step["error"].as_str().unwrap();
        assert!(why.starts_with("vanished: ") && why.contains("had gone before, and what is left was not looked at"), "{run:#}");
    }
}

for_oldest_and_newest! {
    /// What goes, or gets another name, while a step before it is at work is met as it is then,
    /// although the names of many steps are asked for at once.
    async fn what_changes_during_another_step_is_skipped(major: u32) {
        let db = fresh_database(major).await;
        for (table, rows) in [("t", 50_000), ("u", 20_000), ("v", 10_000), ("w", 5_000)] {
            db.execute(&format!("CREATE TABLE {table} (id int); INSERT INTO {table} SELECT generate_series(1, {rows})")).await;
        }
        let workspace = workspace(&db, "analyze", &json!({}), "lock_timeout: 1min, jobs: 1");
        let holder = db.connect().await;
        let lock = "BEGIN; LOCK TABLE t IN SHARE UPDATE EXCLUSIVE MODE";
        holder.batch_execute(lock).await.unwrap();
        let work = tokio::task::spawn_blocking(move || run(&workspace));
        wait_for(&db, "the wait for the table", WAITING, 1).await;
        db.execute("DROP TABLE u; ALTER TABLE v RENAME TO other; CREATE TABLE v (id int)").await;
        holder.batch_execute("COMMIT").await.unwrap();
        let (code, run) = work.await.unwrap();
        assert_eq!(code, 0, "{run:#}");
        let ended: Vec<_> = run["steps"].as_array().unwrap().iter().map(|s| (s["object"].as_str().unwrap(), s["status"].as_str().unwrap())).collect();
        assert_eq!(ended[0], ("public.t", "succeeded"), "{run:#}");
        assert_eq!(ended[1], ("public.u", "skipped"), "{run:#}");
        assert_eq!(ended[3], ("public.w", "succeeded"), "{run:#}");
        // Asked for a moment before, or now: nothing comes of it but statistics of another.
        assert_eq!(ended[2].0, "public.v", "{run:#}");
        let analyzed = "SELECT count(*) FROM pg_statistic WHERE starelid = 'other'::regclass";
        assert_eq!(db.number(analyzed).await, 0);
    }
}

for_oldest_and_newest! {
    /// `lock_retries` counts waits: a step of many statements has as many for
    /// each of them as one that has only one.
    async fn statements_before_are_no_retries(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE t (id int, at timestamptz NOT NULL) PARTITION BY RANGE (at);
            CREATE TABLE t_old PARTITION OF t FOR VALUES FROM ('2020-01-01') TO ('2020-02-01');
            CREATE TABLE t_rest PARTITION OF t DEFAULT;
            INSERT INTO t VALUES (1, '2020-01-05')").await;
        let limits = "lock_retries: 1, lock_timeout: 300ms";
        let workspace = workspace(&db, "cleanup", &expired(), limits);
        // The first statement marks the partition; the second wants the table.
        let holder = db.connect().await;
        holder.batch_execute("BEGIN; LOCK TABLE ONLY t IN ACCESS SHARE MODE").await.unwrap();
        let work = tokio::task::spawn_blocking(move || run(&workspace));
        wait_for(&db, "the wait for the table", WAITING, 1).await;
        wait_for(&db, "the end of the first attempt", WAITING, 0).await;
        holder.batch_execute("COMMIT").await.unwrap();
        let (code, run) = work.await.unwrap();
        assert_eq!(code, 0, "{run:#}");
        let steps = run["steps"].as_array().unwrap();
        let step = steps.iter().find(|s| s["action"] == "drop_partition").unwrap();
        assert_eq!((&step["status"], &step["attempts"]), (&json!("succeeded"), &json!(2)), "{run:#}");
        assert_eq!(db.number("SELECT count(*) FROM pg_class WHERE relname = 't_old'").await, 0);
    }
}
