//! What somebody does between the plan and a step: the step ends with plain words, and takes nothing out of its
//! table that it could not bring to an end.

use std::process::Stdio;

use serde_json::{Value, json};

use super::outside::{options, rows, told, years};
use crate::support::patience::Patience;
use crate::support::servers::{TestDatabase, fresh_database};
use crate::support::workspace::Workspace;

fn task(db: &TestDatabase, kind: &str, options: &str) -> Workspace {
    let limits = "limits: { jobs: 1, lock_timeout: 5min, lock_retries: 5 }";
    let yaml = format!("kind: {kind}\ntarget: app\noptions: {options}\n{limits}\n");
    Workspace::for_target(&db.url).task(kind, &yaml)
}

/// Runs the task, whose first step waits for what `hold` has locked; `then` is done meanwhile.
async fn meanwhile(
    db: &TestDatabase,
    workspace: &Workspace,
    kind: &str,
    hold: &str,
    then: &str,
) -> Value {
    let holder = db.connect().await;
    holder
        .batch_execute(&format!("BEGIN; {hold}"))
        .await
        .unwrap();
    let process = workspace.process(["run", kind, "--now", "--output", "json"]);
    let running = { process }
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let waits = "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
        WHERE NOT l.granted AND a.datname = current_database() AND a.application_name LIKE 'maint %'";
    let patience = Patience::until("the step to wait");
    while db.number(waits).await == 0 {
        patience.pause().await;
    }
    db.execute(then).await;
    holder.batch_execute("COMMIT").await.unwrap();
    let ended = tokio::task::spawn_blocking(|| running.wait_with_output().unwrap());
    let ended = ended.await.unwrap();
    let document: Value = serde_json::from_slice(&ended.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&ended.stderr)));
    assert_eq!(ended.status.code(), Some(0), "{document:#}");
    document["runs"][0].clone()
}

/// A view that somebody makes on a partition after the plan: what could not be dropped is not detached either, by
/// any kind, and beside a default partition as well.
#[tokio::test]
async fn what_got_a_view_meanwhile_is_not_detached() {
    for (kind, default) in [
        ("cleanup", false),
        ("archive", false),
        ("archive", true),
        ("partitions", false),
    ] {
        let db = fresh_database(17).await;
        years(&db).await;
        db.execute("DROP TABLE ev_2021").await;
        if default {
            db.execute("CREATE TABLE ev_rest PARTITION OF ev DEFAULT")
                .await;
        }
        let folder = tempfile::tempdir().unwrap();
        let workspace = task(&db, kind, &options(kind, folder.path(), &json!({})));
        let hold = "LOCK TABLE ev_2019 IN SHARE UPDATE EXCLUSIVE MODE";
        let views = "CREATE VIEW v_2019 AS SELECT * FROM ev_2019; CREATE VIEW v_2020 AS SELECT * FROM ev_2020";
        let run = meanwhile(&db, &workspace, kind, hold, views).await;
        for part in ["ev_2019", "ev_2020"] {
            let of = |f: &&Value| {
                f["code"] == "partitions.depended_on" && f["object"] == format!("public.{part}")
            };
            let found = run["findings"].as_array().unwrap().iter().find(of);
            let found = found.unwrap_or_else(|| panic!("{kind} {part}: {run:#}"));
            let message = found["message"].as_str().unwrap();
            assert!(message.contains("it is not detached"), "{kind}: {message}");
        }
        assert_eq!(rows(&db, "ev").await, 201, "{kind}: {run:#}");
        let marks = "SELECT count(*) FROM pg_description WHERE description LIKE 'maint:%'";
        assert_eq!(db.number(marks).await, 0, "{kind}: {run:#}");
        db.execute("DROP VIEW v_2019, v_2020").await;
        workspace.run(["run", kind, "--now"]).expect(0);
        assert_eq!(rows(&db, "ev").await, 1, "{kind}");
    }
}

/// An empty partition that somebody renames after the plan: its step is skipped, and says why.
#[tokio::test]
async fn a_partition_that_vanishes_is_skipped() {
    let db = fresh_database(17).await;
    years(&db).await;
    db.execute("DROP TABLE ev_2021; TRUNCATE ev_2020; CREATE SCHEMA archive; CREATE TABLE archive.old (LIKE ev)")
        .await;
    let rule = json!({ "table": "ev", "column": "at", "older_than": "4y", "destination": { "table": "archive.old" } });
    let workspace = task(&db, "archive", &rule.to_string());
    let hold = "SELECT * FROM ev_2019 WHERE id = 1 FOR UPDATE";
    let then = "ALTER TABLE ev_2020 RENAME TO elsewhere";
    let run = meanwhile(&db, &workspace, "archive", hold, then).await;
    let steps = run["steps"].as_array().unwrap();
    let step = steps.iter().find(|s| s["object"] == "public.ev_2020");
    let step = step.unwrap_or_else(|| panic!("{run:#}"));
    assert_eq!(step["status"], "skipped", "{run:#}");
    let why = step["error"].as_str().unwrap();
    assert!(
        why.contains("public.ev_2020 has vanished, or has another name by now"),
        "{why}"
    );
    assert_eq!(rows(&db, "archive.old").await, 100);
}

/// A partition over UUIDs with a row that tells no age stays, and every run finds that, as the one cause there is.
#[tokio::test]
async fn a_key_that_tells_no_age_is_found() {
    let db = fresh_database(17).await;
    db.execute("CREATE FUNCTION u(text) RETURNS uuid LANGUAGE sql AS $$ SELECT (substr(h, 1, 8) || '-' || substr(h, 9, 4) || '-0000-0000-000000000000')::uuid
            FROM (SELECT lpad(to_hex((extract(epoch FROM ($1 || '-01-01 00:00+00')::timestamptz) * 1000)::int8), 12, '0') AS h) x $$;
        CREATE TABLE ids (id uuid PRIMARY KEY) PARTITION BY RANGE (id);
        DO $$ DECLARE y int; BEGIN FOREACH y IN ARRAY ARRAY[2020, 2021, 2026, 2027] LOOP
            EXECUTE format('CREATE TABLE ids_%s PARTITION OF ids FOR VALUES FROM (%L) TO (%L)', y, u(y::text), u((y + 1)::text)); END LOOP; END $$;
        INSERT INTO ids SELECT overlay(u(y::text)::text placing '7000-8000' from 15)::uuid FROM generate_series(2020, 2021) y;
        INSERT INTO ids SELECT overlay(u('2020')::text placing '4000-8000' from 15)::uuid").await;
    let options = json!({ "tables": ["ids"], "interval": "year", "ahead": 0, "keep": "4y", "grace": "0s", "time_zone": "UTC" });
    let workspace = task(&db, "partitions", &options.to_string());
    for _ in 0..2 {
        let output = workspace.run(["run", "partitions", "--now", "--output", "json"]);
        let run = output.expect(0).json()["runs"][0].clone();
        let found = told(&run, "partitions.doubted");
        assert_eq!(
            (found["object"].as_str(), found["severity"].as_str()),
            (Some("public.ids_2020"), Some("warning"))
        );
        let sql = found["suggestion"].as_str().unwrap();
        assert_eq!(db.client.query(sql, &[]).await.unwrap().len(), 1, "{sql}");
        let steps = run["steps"].as_array().unwrap();
        let step = steps.iter().find(|s| s["object"] == "public.ids_2020");
        let step = step.unwrap_or_else(|| panic!("{run:#}"));
        assert_eq!(
            (step["status"].as_str(), &step["error"]),
            (Some("skipped"), &found["message"]),
            "{run:#}"
        );
        assert!(
            !step["error"].as_str().unwrap().contains("detached it"),
            "{run:#}"
        );
    }
    assert_eq!(rows(&db, "ids").await, 2);
    db.execute("DELETE FROM ids WHERE substr(id::text, 15, 1) <> '7'")
        .await;
    workspace.run(["run", "partitions", "--now"]).expect(0);
    assert_eq!(rows(&db, "ids").await, 0);
}

/// A row of no age that somebody has written, and not committed, when a partition beside a default one is to be
/// detached and dropped: the partition stays. One that is too large to be read while the whole table waits has left by
/// then, and is not dropped either.
#[tokio::test]
async fn a_row_of_no_age_that_comes_meanwhile_stays() {
    for (largest, attached) in [("1MB", 1), ("1B", 0)] {
        let db = fresh_database(17).await;
        db.execute("CREATE TABLE o (id int, at timestamptz NOT NULL) PARTITION BY RANGE (at);
            CREATE TABLE o1 PARTITION OF o FOR VALUES FROM (MINVALUE) TO ('2020-01-01 00:00+00');
            CREATE TABLE o2 PARTITION OF o FOR VALUES FROM ('2020-01-01 00:00+00') TO ('2021-01-01 00:00+00');
            CREATE TABLE o3 PARTITION OF o FOR VALUES FROM ('2021-01-01 00:00+00') TO ('2100-01-01 00:00+00');
            CREATE TABLE rest PARTITION OF o DEFAULT; COMMENT ON TABLE o1 IS 'the first';
            INSERT INTO o VALUES (1, '2019-05-01'), (2, '2020-05-01'), (3, now())").await;
        let options = json!({ "tables": ["o"], "interval": "year", "ahead": 0, "keep": "4y", "grace": "0s",
            "max_default_size": largest, "time_zone": "UTC" });
        let workspace = task(&db, "partitions", &options.to_string());
        let hold = "INSERT INTO o VALUES (4, '-infinity')";
        let run = meanwhile(&db, &workspace, "partitions", hold, "SELECT 1").await;
        assert_eq!(told(&run, "partitions.doubted")["object"], "public.o1");
        let sql = "SELECT count(*) FROM o1 WHERE at = '-infinity'";
        assert_eq!(db.number(sql).await, 1, "{largest}: {run:#}");
        assert_eq!(rows(&db, "o").await, 1 + 2 * attached, "{run:#}");
        let marks = "SELECT count(*) FROM pg_description WHERE description LIKE 'maint:%'";
        assert_eq!(db.number(marks).await, 1 - attached, "{run:#}");
        if attached == 0 {
            assert_eq!(told(&run, "partitions.outside")["object"], "public.o1");
        } else {
            let comment = "SELECT count(*) FROM pg_description WHERE description = 'the first'";
            assert_eq!(db.number(comment).await, 1, "{run:#}");
        }
        let again = ["run", "partitions", "--now", "--output", "json"];
        let run = workspace.run(again).json()["runs"][0].clone();
        told(&run, "partitions.doubted");
        assert_eq!(rows(&db, "o1").await, 2, "{run:#}");
        db.execute("DELETE FROM o1 WHERE at = '-infinity'").await;
        workspace.run(["run", "partitions", "--now"]).expect(0);
        assert_eq!(rows(&db, "o").await, 1);
        let gone = "SELECT count(*) FROM pg_class WHERE relname IN ('o1', 'o2')";
        assert_eq!(db.number(gone).await, 0, "{largest}");
    }
}
