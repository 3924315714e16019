//! The time of a run goes to what fits into it.

use serde_json::Value;

use super::{finding, objects};
use crate::support::servers::fresh_database;
use crate::support::workspace::Workspace;

fn run(workspace: &Workspace, budget: &str) -> Value {
    let budget = format!("limits.budget={budget}");
    let set = ["--set", &budget];
    let words = ["run", "reindex", "--now", "--output", "json"];
    let output = workspace.run(words.into_iter().chain(set));
    output.expect(0).json()
}

/// An index whose rebuild takes longer than the budget is begun once; from
/// then on the others have the time, and it is told. A larger budget, of which
/// the plan knows, does it.
#[tokio::test]
async fn what_never_fits_is_tried_once_and_told() {
    let db = fresh_database(17).await;
    db.execute(
        // While the gate has a row, a rebuild of the first takes a minute.
        "CREATE TABLE gate (id int); CREATE TABLE big (id int); INSERT INTO big SELECT generate_series(1, 1200);
         CREATE FUNCTION slow(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS
             'BEGIN IF EXISTS (SELECT FROM public.gate) THEN PERFORM pg_catalog.pg_sleep(0.05); END IF; RETURN $1; END';
         CREATE INDEX big_id ON big (slow(id));
         CREATE TABLE x (id int); INSERT INTO x SELECT generate_series(1, 3000); CREATE INDEX x_id ON x (id);
         CREATE TABLE y (id int); INSERT INTO y SELECT generate_series(1, 1000); CREATE INDEX y_id ON y (id)",
    )
    .await;
    db.execute("VACUUM ANALYZE").await;
    let workspace = Workspace::for_target(&db.url).task(
        "reindex",
        "kind: reindex\ntarget: app\noptions: { min_size: 0MB, min_bloat: 0% }\n",
    );
    db.execute("INSERT INTO gate VALUES (1)").await;

    // The first by name, and nothing is known yet.
    let first = run(&workspace, "6s");
    assert_eq!(first["runs"][0]["status"], "incomplete", "{first:#}");
    assert_eq!(first["runs"][0]["steps"][0]["object"], "public.big_id");
    assert_eq!(first["runs"][0]["steps"][0]["cut_off"], true, "{first:#}");
    assert!(
        objects(&first, "reindex", "succeeded").is_empty(),
        "{first:#}"
    );
    let left = finding(&first, "time.left_over");
    let text = left["message"].as_str().unwrap();
    assert!(text.contains("reindex public.x_id"), "{text}");

    let words = [
        "plan",
        "reindex",
        "--output",
        "json",
        "--set",
        "limits.budget=4s",
    ];
    let planned = workspace.run(words).expect(0).json()["plans"][0]["plan"].clone();
    let step = &planned["steps"][0];
    assert_eq!(step["object"], "public.big_id", "{planned:#}");
    assert_eq!(step["predicted_from"], "itself");
    assert!(step["predicted_ms"].as_i64().unwrap() > 4_000, "{step:#}");
    let forecast = &planned["forecast"];
    assert_eq!(forecast["available_ms"], 4_000);
    assert_eq!(
        forecast["will_not_fit"][0]["object"], "public.big_id",
        "{forecast:#}"
    );
    let told = workspace
        .run(["plan", "reindex", "--set", "limits.budget=4s"])
        .expect(0)
        .stdout;
    assert!(told.contains("of the 4.0 s that a run has"), "{told}");
    assert!(told.contains("will not fit"), "{told}");

    let why = workspace.run(["show", "last", "1"]).expect(0).stdout;
    for words in [
        "SHARE UPDATE EXCLUSIVE",
        "REINDEX INDEX CONCURRENTLY",
        "the run's time was up",
    ] {
        assert!(why.contains(words), "{words}: {why}");
    }
    let why = workspace
        .run(["show", "last", "1", "--output", "json"])
        .expect(0)
        .json();
    assert_eq!(why["step"]["object"], "public.big_id", "{why:#}");
    assert!(
        why["locks"][0].as_str().unwrap().contains("EXCLUSIVE"),
        "{why:#}"
    );
    let none = workspace.run(["show", "last", "99"]).expect(2);
    assert!(none.stderr.contains("has no step 99"), "{}", none.stderr);

    workspace.run(["status"]).expect(0);
    // However busy the machine is: two small rebuilds get their turn.
    let second = run(&workspace, "4s");
    // It is not tried, and all is not well as long as that is so.
    let status = workspace.run(["status"]).expect(1).stdout;
    assert!(
        status.contains("time.never_fits") && status.contains("public.big_id"),
        "{status}"
    );
    let never = finding(&second, "time.never_fits");
    assert_eq!(never["object"], "public.big_id", "{second:#}");
    assert!(
        !objects(&second, "reindex", "succeeded").is_empty(),
        "{second:#}"
    );
    let of_big = |run: &Value| {
        let steps = run["runs"][0]["steps"].as_array().unwrap().clone();
        let big = |step: &Value| step["object"] == "public.big_id";
        steps.into_iter().find(big).unwrap()
    };
    assert_eq!(of_big(&second)["status"], "deferred");
    assert_eq!(
        of_big(&second)["started_at"],
        Value::Null,
        "it was tried: {second:#}"
    );

    db.execute("DELETE FROM gate").await;
    let third = run(&workspace, "1h");
    assert_eq!(third["runs"][0]["status"], "succeeded", "{third:#}");
    assert_eq!(of_big(&third)["status"], "succeeded");
    workspace.run(["status"]).expect(0);
    assert!(of_big(&third)["predicted_ms"].as_i64().unwrap() > 4_000);
    assert_eq!(
        run(&workspace, "4s")["runs"][0]["steps"],
        serde_json::json!([])
    );
}

/// A concurrent rebuild that would wait for a forgotten transaction is not
/// begun; the session is named. One that it need not wait for is no matter.
#[tokio::test]
async fn a_forgotten_transaction_is_named_and_nothing_begun() {
    let db = fresh_database(17).await;
    db.execute("CREATE TABLE t (id int); INSERT INTO t SELECT generate_series(1, 3000); CREATE INDEX t_id ON t (id); ANALYZE; CREATE TABLE other (id int)")
        .await;
    let workspace = Workspace::for_target(&db.url).task(
        "reindex",
        "kind: reindex\ntarget: app\noptions: { min_size: 0MB, min_bloat: 0% }\nlimits: { max_transaction_age: 1ms }\n",
    );
    let go = |code: i32, set: &[&str]| {
        let words = ["run", "reindex", "--now", "--output", "json"];
        let words = words.iter().chain(set).copied();
        workspace.run(words).expect(code).json()
    };
    let forgotten = db.connect().await;
    let name = "SET application_name = 'left open'";
    forgotten.batch_execute(name).await.unwrap();
    for holds in [
        "BEGIN; LOCK TABLE t IN ACCESS SHARE MODE",
        "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1",
    ] {
        forgotten.batch_execute(holds).await.unwrap();
        let run = go(0, &[]);
        assert_eq!(run["runs"][0]["status"], "incomplete", "{run:#}");
        let step = &run["runs"][0]["steps"][0];
        assert_eq!(step["status"], "deferred", "{run:#}");
        let why = step["error"].as_str().unwrap();
        assert!(
            why.contains("left open") && why.contains("max_transaction_age"),
            "{why}"
        );
        assert_eq!(step["lock_waits"][0]["blocker_application"], "left open");
        forgotten.batch_execute("ROLLBACK").await.unwrap();
    }
    // Neither snapshot nor a lock that matters: nobody waits for it.
    forgotten
        .batch_execute("BEGIN; LOCK TABLE other IN ACCESS SHARE MODE")
        .await
        .unwrap();
    let run = go(0, &[]);
    assert_eq!(run["runs"][0]["status"], "succeeded", "{run:#}");
    forgotten.batch_execute("COMMIT").await.unwrap();
}

/// Runs a task in as many runs of this budget as it takes, and gives how many that were: none of
/// them may take it for something that never fits.
fn until_done(workspace: &Workspace, task: &str, budget: &str) -> usize {
    let budget = format!("limits.budget={budget}");
    for n in 1..=80 {
        let words = ["run", task, "--now", "--output", "json", "--set", &budget];
        let done = workspace.run(words).expect(0).json()["runs"][0].clone();
        let findings = done["findings"].to_string();
        assert!(!findings.contains("time.never_fits"), "run {n}: {done:#}");
        if done["status"] == "succeeded" {
            return n;
        }
        assert_eq!(done["status"], "incomplete", "run {n}: {done:#}");
    }
    panic!("{task} has not come to its end in 80 runs");
}

for_versions! {
    [pg17 = 17]
    /// A partition on its way out is stored to its end, in as many runs as that takes: until
    /// then its rows are in no query of the parent's.
    async fn a_partition_goes_in_as_many_runs_as_it_takes(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE e (id int, at timestamptz NOT NULL, note text) PARTITION BY RANGE (at);
            CREATE TABLE e1 PARTITION OF e FOR VALUES FROM ('2020-01-01 00:00+00') TO ('2021-01-01 00:00+00');
            CREATE TABLE e2 PARTITION OF e FOR VALUES FROM ('2021-01-01 00:00+00') TO ('2100-01-01 00:00+00');
            INSERT INTO e SELECT n, '2020-01-15 00:00+00'::timestamptz + n * interval '1 minute', md5(n::text) FROM generate_series(1, 30000) n;
            INSERT INTO e VALUES (0, now())").await;
        let folder = tempfile::tempdir().unwrap();
        let options = serde_json::json!({ "table": "e", "column": "at", "older_than": "1y", "destination": { "files": format!("file://{}", folder.path().display()) } });
        let workspace = Workspace::for_target(&db.url).task("archive", &format!("kind: archive\ntarget: app\noptions: {options}\n"));
        until_done(&workspace, "archive", "3s");
        assert_eq!(db.number("SELECT count(*) FROM pg_class WHERE relname = 'e1'").await, 0);
        assert_eq!(db.number("SELECT count(*) FROM e").await, 1);
        workspace.run(["archive", "verify"]).expect(0);
        workspace.run(["archive", "restore", "--from", "e", "--into", "back"]).expect(0);
        assert_eq!(db.number("SELECT count(DISTINCT id) FROM back WHERE note = md5(id::text)").await, 30000);
    }
}

for_versions! {
    [pg16 = 16]
    /// What moved to the front of a table stays there: the next run goes on from there.
    async fn rows_move_in_as_many_runs_as_it_takes(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE t (id int PRIMARY KEY, note text) WITH (autovacuum_enabled = off);
            INSERT INTO t SELECT n, repeat(md5(n::text), 20) FROM generate_series(1, 30000) n; DELETE FROM t WHERE id < 15000").await;
        db.execute("VACUUM (ANALYZE, TRUNCATE off) t").await;
        let before = db.number("SELECT pg_relation_size('t')").await;
        let workspace = Workspace::for_target(&db.url).task("repack", "kind: repack\ntarget: app\noptions: { min_size: 100kB, way: move }\n");
        until_done(&workspace, "repack", "3s");
        assert!(db.number("SELECT pg_relation_size('t')").await < before * 3 / 4);
        assert_eq!(db.number("SELECT count(*) FROM t WHERE note = repeat(md5(id::text), 20)").await, 15001);
    }
}

for_versions! {
    [pg18 = 18]
    /// A look, or a program of one's own before it, that takes the whole budget leaves time for
    /// work, in every run.
    async fn a_long_look_leaves_time_for_work(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE t (id int PRIMARY KEY, at timestamptz); INSERT INTO t SELECT n, '2020-01-01' FROM generate_series(1, 3000) n").await;
        let rules = serde_json::json!({ "rules": [{ "table": "t", "column": "at", "older_than": "1y" }] });
        let workspace = Workspace::for_target(&db.url).task("cleanup", &format!(
            "kind: cleanup\ntarget: app\noptions: {rules}\ncommands: {{ before: {{ run: [sh, -c, \"sleep 4\"] }} }}\nlimits: {{ budget: 3s }}\n"
        ));
        workspace.run(["run", "cleanup", "--now"]).expect(0);
        assert!(db.number("SELECT count(*) FROM t").await < 3000);
    }
}

/// What is begun in every run and gets nothing done in any is told once that was so three times in
/// a row, and status does not say that all is well.
#[tokio::test]
async fn what_gets_nothing_done_again_and_again_is_told() {
    let db = fresh_database(17).await;
    db.execute(
        "CREATE TABLE gate (id int); CREATE TABLE big (id int PRIMARY KEY, at timestamptz); INSERT INTO big SELECT n, '2020-01-01' FROM generate_series(1, 3000) n;
         CREATE FUNCTION slow(int) RETURNS int LANGUAGE plpgsql AS
             'BEGIN IF EXISTS (SELECT FROM public.gate) THEN PERFORM pg_catalog.pg_sleep(0.5); END IF; RETURN $1; END'",
    )
    .await;
    let rules = serde_json::json!({ "rules": [{ "table": "big", "column": "at", "older_than": "1y", "where": "public.slow(id) > 0" }] });
    let workspace = Workspace::for_target(&db.url).task(
        "cleanup",
        &format!("kind: cleanup\ntarget: app\noptions: {rules}\nlimits: {{ budget: 6s }}\n"),
    );
    let go = || {
        let words = ["run", "cleanup", "--now", "--output", "json"];
        workspace.run(words).expect(0).json()
    };
    db.execute("INSERT INTO gate VALUES (1)").await;
    for n in 1..=3 {
        let done = go();
        let step = &done["runs"][0]["steps"][0];
        assert_eq!(
            (&step["status"], &step["cut_off"], &step["rows"]),
            (&"deferred".into(), &true.into(), &0.into()),
            "{done:#}"
        );
        let left = finding(&done, "time.left_over");
        let severity = if n < 3 { "info" } else { "warning" };
        assert_eq!(left["severity"], severity, "run {n}: {done:#}");
        let status = workspace.run(["status"]).expect(i32::from(n == 3)).stdout;
        assert_eq!(
            status.contains("in 3 runs in a row"),
            n == 3,
            "run {n}: {status}"
        );
    }
    db.execute("DELETE FROM gate").await;
    assert_eq!(go()["runs"][0]["status"], "succeeded");
    workspace.run(["status"]).expect(0);
    assert_eq!(db.number("SELECT count(*) FROM big").await, 0);
}
