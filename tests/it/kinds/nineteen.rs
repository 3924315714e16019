//! PostgreSQL 19: every kind plans, runs, and finds nothing to do the second
//! time; what is new there is used. Left out where the server cannot be had.

use std::collections::BTreeSet;

use maint::engines::postgres::settings::{DEMANDED, LEFT, PINNED};
use serde_json::{Value, json};

use super::{finding, objects};
use crate::support::patience::Patience;
use crate::support::servers::{connect, fresh_database, has_19, private_cluster};
use crate::support::workspace::Workspace;

fn run(workspace: &Workspace, task: &str) -> Value {
    workspace
        .run(["run", task, "--now", "--output", "json"])
        .expect(0)
        .json()
}

fn workspace(url: &str) -> Workspace {
    let archive = tempfile::tempdir().unwrap().keep();
    let archive = archive.display();
    Workspace::for_target(url)
        .task("analyze", "kind: analyze\ntarget: app\n")
        .task("vacuum", "kind: vacuum\ntarget: app\n")
        .task("reindex", "kind: reindex\ntarget: app\noptions: { min_size: 100kB }\n")
        .task("repack", "kind: repack\ntarget: app\noptions: { min_size: 100kB }\n")
        .task("refresh", "kind: refresh\ntarget: app\n")
        .task("snapshot", "kind: snapshot\ntarget: app\n")
        .task("integrity", "kind: integrity\ntarget: app\n")
        .task("sql", "kind: sql\ntarget: app\noptions: { statements: [{ name: one, sql: \"DELETE FROM public.logs WHERE id < 0\" }] }\n")
        .task("cleanup", "kind: cleanup\ntarget: app\noptions: { rules: [{ table: logs, column: at, older_than: 30d }] }\n")
        .task("partitions", "kind: partitions\ntarget: app\noptions: { tables: [events], interval: month, ahead: 3 }\n")
        .task("archive", &format!("kind: archive\ntarget: app\noptions: {{ table: old, column: at, older_than: 30d, destination: {{ files: \"file://{archive}\" }} }}\n"))
}

#[tokio::test]
async fn every_kind_works_there() {
    if !has_19() {
        return;
    }
    let db = fresh_database(19).await;
    db.execute(
        "CREATE EXTENSION amcheck;
         CREATE TABLE logs (id bigint PRIMARY KEY, at timestamptz NOT NULL, note text);
         INSERT INTO logs SELECT g, now() - g * interval '5 minutes', md5(g::text) FROM generate_series(1, 20000) g;
         CREATE INDEX logs_note ON logs (note);
         CREATE TABLE old (LIKE logs INCLUDING ALL); INSERT INTO old SELECT * FROM logs;
         CREATE TABLE bare (id bigint, note text); INSERT INTO bare SELECT g, md5(g::text) FROM generate_series(1, 20000) g;
         CREATE TABLE events (id bigint, at timestamptz NOT NULL) PARTITION BY RANGE (at);
         CREATE MATERIALIZED VIEW sums AS SELECT count(*) AS n FROM logs; CREATE UNIQUE INDEX ON sums (n)",
    )
    .await;
    let workspace = workspace(&db.url);
    for (task, action) in [
        ("cleanup", "delete"),
        ("archive", "archive"),
        ("partitions", "create_partition"),
    ] {
        let first = run(&workspace, task);
        let steps = first["runs"][0]["steps"].as_array().unwrap();
        assert!(!steps.is_empty(), "{task} ({action}): {first:#}");
        let again = run(&workspace, task);
        let rows: i64 = again["runs"][0]["rows"].as_i64().unwrap_or(0);
        assert_eq!(rows, 0, "{task}: {again:#}");
    }
    assert_eq!(
        db.number("SELECT count(*) FROM logs WHERE at < now() - interval '31 days'")
            .await,
        0
    );
    assert_eq!(
        db.number("SELECT count(*) FROM old WHERE at < now() - interval '31 days'")
            .await,
        0
    );
    db.execute("DELETE FROM bare WHERE id % 10 > 1").await;
    for task in ["vacuum", "analyze", "repack", "reindex", "refresh"] {
        let first = run(&workspace, task);
        assert!(
            !first["runs"][0]["steps"].as_array().unwrap().is_empty(),
            "{task}: {first:#}"
        );
        let again = run(&workspace, task);
        assert_eq!(again["runs"][0]["steps"], json!([]), "{task}: {again:#}");
    }
    for task in ["snapshot", "integrity", "sql"] {
        run(&workspace, task);
    }
}

/// The server's own way where it is possible, ours where it is not.
#[tokio::test]
async fn repack_is_used_where_it_can_be() {
    if !has_19() {
        return;
    }
    let db = fresh_database(19).await;
    for (table, key) in [("keyed", "PRIMARY KEY"), ("bare", "")] {
        db.execute(&format!(
            "CREATE TABLE {table} (id bigint {key}, note text); INSERT INTO {table} SELECT g, md5(g::text) FROM generate_series(1, 30000) g;
             CREATE INDEX ON {table} (note); DELETE FROM {table} WHERE id % 10 > 1"
        )).await;
    }
    // What the server refuses to repack concurrently.
    for (table, key, identity) in [
        (
            "late",
            "PRIMARY KEY DEFERRABLE INITIALLY DEFERRED",
            "DEFAULT",
        ),
        ("whole", "PRIMARY KEY", "FULL"),
    ] {
        db.execute(&format!(
            "CREATE TABLE {table} (id bigint {key}, note text); ALTER TABLE {table} REPLICA IDENTITY {identity};
             INSERT INTO {table} SELECT g, md5(g::text) FROM generate_series(1, 30000) g; DELETE FROM {table} WHERE id % 10 > 1"
        )).await;
    }
    db.execute("ANALYZE").await;
    for table in ["bare", "late", "whole"] {
        db.execute(&format!("VACUUM {table}")).await;
    }
    let sums = "SELECT sum(hashtextextended(ROW(id, note)::text, 0)::numeric)::text
        FROM (SELECT * FROM keyed UNION ALL SELECT * FROM bare UNION ALL SELECT * FROM late UNION ALL SELECT * FROM whole) r";
    let before = db.strings(sums).await;
    let sizes = "SELECT pg_relation_size('keyed') + pg_relation_size('bare')";
    let size = db.number(sizes).await;
    let workspace = workspace(&db.url);
    let done = run(&workspace, "repack");
    assert_eq!(
        objects(&done, "repack", "succeeded"),
        ["public.keyed".to_owned()].into(),
        "{done:#}"
    );
    assert_eq!(
        objects(&done, "move_rows", "succeeded"),
        ["public.bare", "public.late", "public.whole"]
            .map(str::to_owned)
            .into(),
        "{done:#}"
    );
    assert_eq!(db.strings(sums).await, before);
    let after = db.number(sizes).await;
    assert!(after * 3 < size, "{size} -> {after}");
    assert_eq!(run(&workspace, "repack")["runs"][0]["steps"], json!([]));
    // The dead rows of the file that was replaced are not believed to be there still.
    let dead = "SELECT n_dead_tup FROM pg_stat_user_tables WHERE relname = 'keyed'";
    assert_eq!(db.number(dead).await, 0);
    let visible = "SELECT relallvisible::int8 FROM pg_class WHERE relname = 'keyed'";
    assert!(db.number(visible).await > 0);
    let seen = run(&workspace, "snapshot");
    let told = seen["runs"][0]["findings"].to_string();
    assert!(!told.contains("table.dead_rows"), "{told}");
}

/// Who follows the log waits for writers of every database, which nobody sees from the table.
#[tokio::test]
async fn repack_names_the_writer_of_another_database() {
    if !has_19() {
        return;
    }
    let cluster = private_cluster(
        19,
        &[("max_prepared_transactions", "5"), ("wal_level", "logical")],
    );
    let db = connect(&cluster.url("postgres")).await;
    db.batch_execute("CREATE TABLE t (id bigint PRIMARY KEY, note text); INSERT INTO t SELECT g, md5(g::text) FROM generate_series(1, 30000) g; DELETE FROM t WHERE id % 10 > 1")
        .await
        .unwrap();
    looked_at(&db, "t").await;
    db.batch_execute("CREATE DATABASE other").await.unwrap();
    let other = connect(&cluster.url("other")).await;
    other
        .batch_execute("CREATE TABLE o (id int); BEGIN; INSERT INTO o VALUES (1); PREPARE TRANSACTION 'left in other'")
        .await
        .unwrap();
    let with = |limits: &str| {
        Workspace::for_target(&cluster.url("postgres")).task(
            "repack",
            &format!("kind: repack\ntarget: app\noptions: {{ min_size: 100kB }}\nlimits: {{ {limits} }}\n"),
        )
    };
    let step = |done: &Value| {
        let steps = done["runs"][0]["steps"].as_array().unwrap();
        let step = steps.iter().find(|step| step["action"] == "repack");
        let step = step.unwrap_or_else(|| panic!("{done:#}"));
        let text = |key: &str| step[key].as_str().unwrap_or_default().to_owned();
        (text("status"), text("error"))
    };
    // Too old: not begun at all.
    let workspace = with("max_transaction_age: 1ms, lock_retries: 0");
    let (status, error) = step(
        &workspace
            .run(["run", "repack", "--now", "--output", "json"])
            .json(),
    );
    assert_eq!(status, "deferred", "{error}");
    assert!(error.contains("'left in other'"), "{error}");
    // Young enough to wait for, and then named.
    let waiting = with("transaction_wait: 1s, lock_retries: 0");
    let (status, error) = step(
        &waiting
            .run(["run", "repack", "--now", "--output", "json"])
            .json(),
    );
    assert_eq!(status, "failed", "{error}");
    assert!(error.contains("'left in other'"), "{error}");
    other
        .batch_execute("ROLLBACK PREPARED 'left in other'")
        .await
        .unwrap();
    let (status, error) = step(
        &workspace
            .run(["run", "repack", "--now", "--output", "json"])
            .json(),
    );
    assert_eq!(status, "succeeded", "{error}");
}

/// Code of others is seen there as everywhere.
#[tokio::test]
async fn code_of_others_is_seen() {
    if !has_19() {
        return;
    }
    let db = fresh_database(19).await;
    let role = format!("{}_mallory", db.name);
    db.execute(&format!("CREATE ROLE \"{role}\"; CREATE TABLE logs (id bigint PRIMARY KEY, at timestamptz NOT NULL);
        INSERT INTO logs VALUES (1, now() - interval '90 days');
        CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END'; ALTER FUNCTION f OWNER TO \"{role}\";
        CREATE TRIGGER t BEFORE DELETE ON logs FOR EACH ROW EXECUTE FUNCTION f(); ALTER TABLE logs OWNER TO \"{role}\"")).await;
    let workspace = workspace(&db.url);
    let done = workspace
        .run(["run", "cleanup", "--now", "--output", "json"])
        .expect(1)
        .json();
    assert_eq!(
        finding(&done, "role.untrusted_code")["object"],
        "public.logs"
    );
    assert_eq!(db.number("SELECT count(*) FROM logs").await, 1);
    db.execute(&format!("DROP OWNED BY \"{role}\"; DROP ROLE \"{role}\""))
        .await;
}

/// Nobody has added a setting to it that nobody here has thought about.
#[tokio::test]
async fn every_setting_is_classified() {
    if !has_19() {
        return;
    }
    let db = fresh_database(19).await;
    let known: BTreeSet<&str> = PINNED
        .iter()
        .map(|pin| pin.name)
        .chain(DEMANDED.iter().map(|(name, ..)| *name))
        .chain(LEFT.iter().flat_map(|(names, _)| names.split_whitespace()))
        .collect();
    let server = db
        .strings("SELECT name FROM pg_settings WHERE context IN ('user', 'superuser', 'superuser-backend') AND name NOT LIKE '%.%' ORDER BY 1")
        .await;
    let unknown: Vec<&String> = server
        .iter()
        .filter(|name| !known.contains(name.as_str()))
        .collect();
    assert!(
        unknown.is_empty(),
        "say in settings.rs what becomes of {unknown:?}"
    );
}

/// What autovacuum itself thinks of a table is told beside what we do.
#[tokio::test]
async fn the_score_of_autovacuum_is_told() {
    if !has_19() {
        return;
    }
    let cluster = private_cluster(19, &[("autovacuum_naptime", "1d")]);
    let db = connect(&cluster.url("postgres")).await;
    // What is counted late would be added to what the vacuum has said.
    for (statement, counted) in [
        (
            "CREATE TABLE rare (id int); INSERT INTO rare SELECT g FROM generate_series(1, 35000) g",
            "n_tup_ins = 35000",
        ),
        ("VACUUM ANALYZE rare", "vacuum_count = 1"),
        ("DELETE FROM rare WHERE id <= 5000", "n_dead_tup = 5000"),
    ] {
        db.batch_execute(statement).await.unwrap();
        let patience = Patience::until(counted);
        let sql = format!("SELECT count(*) FROM pg_stat_user_tables WHERE {counted}");
        while db.query_one(&sql, &[]).await.unwrap().get::<_, i64>(0) < 1 {
            patience.pause().await;
        }
    }
    let workspace = Workspace::for_target(&cluster.url("postgres")).task(
        "snapshot",
        "kind: snapshot\ntarget: app\noptions: { min_dead_rows: 1000 }\n",
    );
    let document = run(&workspace, "snapshot");
    let message = finding(&document, "autovacuum.rare")["message"]
        .as_str()
        .unwrap();
    // 5,000 of the 7,050 at which it would come.
    assert!(
        message.contains("its own score for a vacuum is 0.7, from 1 on it would come"),
        "{message}"
    );
}

/// NOT NULL that has not been validated keeps no rows out of a walk along the
/// key: rows with nulls go with the others.
#[tokio::test]
async fn nulls_behind_a_constraint_that_is_not_valid_are_walked_over() {
    if !has_19() {
        return;
    }
    let db = fresh_database(19).await;
    db.execute("CREATE TABLE nn (id int, at timestamptz);
        INSERT INTO nn SELECT CASE WHEN g % 2 = 0 THEN g END, now() - interval '2 years' FROM generate_series(1, 3000) g;
        CREATE INDEX ON nn (at, id); ALTER TABLE nn ADD CONSTRAINT later NOT NULL id NOT VALID").await;
    for walk in ["key", "auto"] {
        let workspace = Workspace::for_target(&db.url).task(
            "cleanup",
            &format!("kind: cleanup\ntarget: app\noptions: {{ rules: [{{ table: nn, column: at, older_than: 1y, walk: {walk} }}] }}\n"),
        );
        let output = workspace.run(["run", "cleanup", "--now", "--output", "json"]);
        let run = output.json()["runs"][0].clone();
        let left = db.number("SELECT count(*) FROM nn").await;
        // Along a key that may be null there is no way, and that is said; never is a part left quietly.
        assert!(
            (run["status"] == "succeeded" && left == 0)
                || (walk == "key" && run["status"] == "failed" && left == 3000),
            "{walk}: {left} {run:#}"
        );
    }
    assert_eq!(db.number("SELECT count(*) FROM nn").await, 0);
}

/// A table that a publication of all tables leaves out is published by nobody: its partition goes
/// as a whole, and that of one which is published by rows.
#[tokio::test]
async fn what_a_publication_leaves_out_is_not_published() {
    if !has_19() {
        return;
    }
    let db = fresh_database(19).await;
    for table in ["told", "untold"] {
        db.execute(&format!("CREATE TABLE {table} (id int, at timestamptz NOT NULL, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
            CREATE TABLE {table}_2020 PARTITION OF {table} FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
            INSERT INTO {table} SELECT g, '2020-05-05' FROM generate_series(1, 9) g")).await;
    }
    db.execute("CREATE PUBLICATION nearly_all FOR ALL TABLES EXCEPT (TABLE untold)")
        .await;
    let rules = "[{ table: told, column: at, older_than: 1y }, { table: untold, column: at, older_than: 1y }]";
    let workspace = Workspace::for_target(&db.url).task(
        "cleanup",
        &format!("kind: cleanup\ntarget: app\noptions: {{ rules: {rules} }}\n"),
    );
    let document = run(&workspace, "cleanup");
    let steps = document["runs"][0]["steps"].as_array().unwrap();
    let done: BTreeSet<String> = steps
        .iter()
        .map(|s| {
            format!(
                "{} {}",
                s["action"].as_str().unwrap(),
                s["object"].as_str().unwrap()
            )
        })
        .collect();
    let expected = [
        "delete public.told_2020",
        "drop_partition public.untold_2020",
    ];
    assert_eq!(done, expected.map(str::to_owned).into(), "{document:#}");
    assert_eq!(db.number("SELECT count(*) FROM told").await, 0);
}

/// Has the table vacuumed and looked at. What the session has not handed in yet would count as changes since.
async fn looked_at(db: &tokio_postgres::Client, table: &str) {
    db.batch_execute("SELECT pg_stat_force_next_flush()")
        .await
        .unwrap();
    db.batch_execute(&format!("VACUUM ANALYZE {table}"))
        .await
        .unwrap();
}

/// A table with gaps that the server's own way closes.
async fn gappy(db: &tokio_postgres::Client, table: &str) {
    db.batch_execute(&format!("CREATE TABLE {table} (id bigint PRIMARY KEY, note text); INSERT INTO {table} SELECT g, md5(g::text) FROM generate_series(1, 30000) g;
        DELETE FROM {table} WHERE id % 10 > 1")).await.unwrap();
    looked_at(db, table).await;
}

/// The one step of repack, and what it was left for.
fn left(done: &Value) -> (String, String, String) {
    let steps = done["runs"][0]["steps"].as_array().unwrap();
    let step = steps.iter().find(|step| step["action"] == "repack");
    let step = step.unwrap_or_else(|| panic!("{done:#}"));
    let text = |key: &str| step[key].as_str().unwrap_or_default().to_owned();
    (text("status"), text("kept_by"), text("error"))
}

/// Where all slots are taken, who has them is named, and the step is left for the next run.
#[tokio::test]
async fn repack_names_who_has_all_slots() {
    if !has_19() {
        return;
    }
    let settings = [
        ("autovacuum", "off"),
        ("max_prepared_transactions", "5"),
        ("max_repack_replication_slots", "1"),
        ("wal_level", "logical"),
    ];
    let cluster = private_cluster(19, &settings);
    let url = cluster.url("postgres");
    let db = connect(&url).await;
    for table in ["ours", "theirs"] {
        gappy(&db, table).await;
    }
    db.batch_execute("CREATE DATABASE other").await.unwrap();
    let other = connect(&cluster.url("other")).await;
    other
        .batch_execute("CREATE TABLE o (id int); BEGIN; INSERT INTO o VALUES (1); PREPARE TRANSACTION 'kept open'")
        .await
        .unwrap();
    // Somebody else's waits for that writer, and has the only slot meanwhile.
    let theirs = connect(&url).await;
    theirs
        .batch_execute("SET application_name = 'by hand'")
        .await
        .unwrap();
    let theirs =
        tokio::spawn(async move { theirs.batch_execute("REPACK (CONCURRENTLY) theirs").await });
    let taken = "SELECT count(*) FROM pg_replication_slots WHERE plugin = 'pgrepack' AND restart_lsn IS NOT NULL";
    let patience = Patience::until("somebody to have the slot");
    while db.query_one(taken, &[]).await.unwrap().get::<_, i64>(0) == 0 {
        patience.pause().await;
    }
    let workspace = Workspace::for_target(&url).task(
        "repack",
        "kind: repack\ntarget: app\noptions: { min_size: 100kB, include: [ours] }\n",
    );
    let file = "SELECT pg_relation_filenode('ours')::int8";
    let before: i64 = db.query_one(file, &[]).await.unwrap().get(0);
    let done = workspace
        .run(["run", "repack", "--now", "--output", "json"])
        .json();
    let (status, kept_by, error) = left(&done);
    assert_eq!(status, "deferred", "{error}");
    assert_eq!(kept_by, "server", "{error}");
    assert!(
        error.contains("max_repack_replication_slots") && error.contains("by hand"),
        "{error}"
    );
    assert_eq!(done["runs"][0]["status"], "incomplete", "{done:#}");
    finding(&done, "kept_out.server");
    assert_eq!(
        db.query_one(file, &[]).await.unwrap().get::<_, i64>(0),
        before
    );

    other
        .batch_execute("ROLLBACK PREPARED 'kept open'")
        .await
        .unwrap();
    theirs.await.unwrap().unwrap();
    // The worker that follows the log gives the slot back a little later.
    let patience = Patience::until("the slot to be given back");
    let slots = "SELECT count(*) FROM pg_replication_slots";
    while db.query_one(slots, &[]).await.unwrap().get::<_, i64>(0) > 0 {
        patience.pause().await;
    }
    let (status, _, error) = left(&run(&workspace, "repack"));
    assert_eq!(status, "succeeded", "{error}");
    assert_ne!(
        db.query_one(file, &[]).await.unwrap().get::<_, i64>(0),
        before
    );
    // It may be analyzed once more, and is not made anew again.
    let after: i64 = db.query_one(file, &[]).await.unwrap().get(0);
    run(&workspace, "repack");
    assert_eq!(
        db.query_one(file, &[]).await.unwrap().get::<_, i64>(0),
        after
    );
}

/// The log that is kept while a table is made anew does not fill the disk: beyond the limit the step
/// gives way, and its slot is gone.
#[tokio::test]
async fn repack_gives_way_where_too_much_log_is_kept() {
    if !has_19() {
        return;
    }
    let settings = [
        ("max_prepared_transactions", "5"),
        ("wal_level", "logical"),
        ("autovacuum", "off"),
    ];
    let cluster = private_cluster(19, &settings);
    let url = cluster.url("postgres");
    let db = connect(&url).await;
    gappy(&db, "t").await;
    db.batch_execute("CREATE DATABASE other").await.unwrap();
    let other = connect(&cluster.url("other")).await;
    other
        .batch_execute("CREATE TABLE o (id int); BEGIN; INSERT INTO o VALUES (1); PREPARE TRANSACTION 'kept open'")
        .await
        .unwrap();
    let workspace = Workspace::for_target(&url).task(
        "repack",
        "kind: repack\ntarget: app\noptions: { min_size: 100kB, include: [t], max_slot_retention: 4MB }\n",
    );
    let state = "SELECT concat_ws(' ', pg_relation_filenode('t'), (SELECT sum(hashtextextended(note, id)::numeric) FROM t))";
    let text = |row: tokio_postgres::Row| row.get::<_, String>(0);
    let before = text(db.query_one(state, &[]).await.unwrap());
    let running = workspace
        .process(["run", "repack", "--now", "--output", "json"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let kept = "SELECT count(*) FROM pg_replication_slots WHERE plugin = 'pgrepack' AND restart_lsn IS NOT NULL";
    let patience = Patience::until("the table to be followed");
    while db.query_one(kept, &[]).await.unwrap().get::<_, i64>(0) == 0 {
        patience.pause().await;
    }
    let others_write = "SELECT count(pg_logical_emit_message(false, 'busy', repeat('x', 1000000))) FROM generate_series(1, 10)";
    db.batch_execute(others_write).await.unwrap();
    let ended = tokio::task::spawn_blocking(move || running.wait_with_output().unwrap())
        .await
        .unwrap();
    let done: Value = serde_json::from_slice(&ended.stdout).unwrap();
    let (status, kept_by, error) = left(&done);
    assert_eq!(status, "deferred", "{error}");
    assert_eq!(kept_by, "server", "{error}");
    assert!(
        error.contains("max_slot_retention") && error.contains("4 MB"),
        "{error}"
    );
    assert_eq!(done["runs"][0]["status"], "incomplete", "{done:#}");
    assert_eq!(text(db.query_one(state, &[]).await.unwrap()), before);
    let slots = "SELECT count(*) FROM pg_replication_slots";
    let patience = Patience::until("the slot to be gone");
    while db.query_one(slots, &[]).await.unwrap().get::<_, i64>(0) > 0 {
        patience.pause().await;
    }

    other
        .batch_execute("ROLLBACK PREPARED 'kept open'")
        .await
        .unwrap();
    let (status, _, error) = left(&run(&workspace, "repack"));
    assert_eq!(status, "succeeded", "{error}");
    let after = text(db.query_one(state, &[]).await.unwrap());
    assert_ne!(after, before);
    assert_eq!(after.split(' ').nth(1), before.split(' ').nth(1));
    assert_eq!(run(&workspace, "repack")["runs"][0]["steps"], json!([]));
}

/// Where the server would give up the slot of a REPACK before the copy is written, it is not begun:
/// rows are moved instead, or it is said what is in the way.
#[tokio::test]
async fn repack_heeds_what_the_server_keeps_for_a_slot() {
    if !has_19() {
        return;
    }
    let settings = [("autovacuum", "off"), ("max_slot_wal_keep_size", "1MB")];
    let cluster = private_cluster(19, &settings);
    let url = cluster.url("postgres");
    let db = connect(&url).await;
    // What is left of it is more than a megabyte.
    db.batch_execute(
        "CREATE TABLE t (id bigint PRIMARY KEY, note text);
         INSERT INTO t SELECT g, repeat('x', 200) FROM generate_series(1, 30000) g; DELETE FROM t WHERE id % 10 > 3",
    )
    .await
    .unwrap();
    looked_at(&db, "t").await;
    let task = |way: &str| {
        let options = format!("min_size: 100kB, min_bloat: 5%, include: [t], way: {way}");
        let yaml = format!("kind: repack\ntarget: app\noptions: {{ {options} }}\n");
        Workspace::for_target(&url).task("repack", &yaml)
    };
    let workspace = task("repack");
    let file = "SELECT pg_relation_filenode('t')::int8";
    let before: i64 = db.query_one(file, &[]).await.unwrap().get(0);
    let run = workspace.run(["run", "repack", "--now", "--output", "json"]);
    let done = run.expect(1).json();
    assert!(
        done.to_string().contains("max_slot_wal_keep_size"),
        "{done:#}"
    );
    assert_eq!(
        db.query_one(file, &[]).await.unwrap().get::<_, i64>(0),
        before
    );
    let plan = task("auto").run(["plan", "repack"]).expect(0);
    assert!(plan.stdout.contains("max_slot_wal_keep_size"), "{plan:#?}");
    assert!(
        !plan.stdout.contains("REPACK (CONCURRENTLY) public.t"),
        "{plan:#?}"
    );
    db.batch_execute("ALTER SYSTEM SET max_slot_wal_keep_size = '1GB'")
        .await
        .unwrap();
    db.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    let patience = Patience::until("the setting to be read");
    while db
        .query_one("SHOW max_slot_wal_keep_size", &[])
        .await
        .unwrap()
        .get::<_, String>(0)
        != "1GB"
    {
        patience.pause().await;
    }
    let plan = workspace
        .run(["plan", "repack", "--output", "json"])
        .expect(0);
    assert!(
        plan.stdout
            .contains("it is cancelled (the server's max_slot_wal_keep_size)"),
        "{plan:#?}"
    );
    workspace.run(["run", "repack", "--now"]).expect(0);
    assert_ne!(
        db.query_one(file, &[]).await.unwrap().get::<_, i64>(0),
        before
    );
}
