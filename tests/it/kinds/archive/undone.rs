//! A server takes over that does not know that archived rows have left.

use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::moved::{know, manifests, remembered};
use super::{archive, checksum, into_files, nothing_is_left, parquet_files};
use crate::kinds::failover::{number, place};
use crate::support::patience::Patience;
use crate::support::servers::{connect, fresh_database, private_cluster};
use crate::support::standby::standby;
use crate::support::workspace::Workspace;

/// Old rows with keys whose order and comparison are not the database's own.
const ROWS: &str = r#"CREATE SCHEMA "odd"".one";
    CREATE TABLE "odd"".one".t (part text COLLATE "C", "id""s" numeric(8, 2), at timestamptz NOT NULL, v text,
        PRIMARY KEY (part, "id""s"));
    INSERT INTO "odd"".one".t SELECT E'ä\t' || n % 3, n / 2.0, '2020-01-01'::timestamptz + n * interval '1 minute', 'v' || n
        FROM generate_series(1, 100) n;
    INSERT INTO "odd"".one".t VALUES ('young', 1, now(), NULL)"#;
const TABLE: &str = r#""odd"".one".t"#;

fn rule() -> Value {
    json!({ "table": TABLE, "column": "at", "older_than": "30d" })
}

/// Has a standby hear nothing any more.
async fn cut_off(standby: &tokio_postgres::Client) {
    for sql in [
        "ALTER SYSTEM SET primary_conninfo = ''",
        "SELECT pg_reload_conf()",
    ] {
        standby.batch_execute(sql).await.unwrap();
    }
    let patience = Patience::until("the standby to be on its own");
    while number(standby, "SELECT count(*) FROM pg_stat_wal_receiver").await > 0 {
        patience.pause().await;
    }
}

/// The actions of a run, and the codes of its findings.
pub(super) fn told(run: &Value) -> (Vec<&str>, Vec<&str>) {
    let all = |of: &'static str, name: &'static str| -> Vec<&str> {
        let list = run[of].as_array().unwrap().iter();
        list.map(|one| one[name].as_str().unwrap()).collect()
    };
    (all("steps", "action"), all("findings", "code"))
}

for_versions! {
    [pg18 = 18]
    /// Rows that are there again are archived again, and are in the archive once.
    async fn what_is_there_again_is_archived_once(major: u32) {
        let db = fresh_database(major).await;
        db.execute(ROWS).await;
        let (workspace, folder) = into_files(&db, &rule());
        let rows = format!("SELECT * FROM {TABLE} WHERE at < '2021-01-01'");
        let before = checksum(&db, &rows).await;
        db.execute(&format!("CREATE TABLE public.copy AS {rows}")).await;
        archive(&workspace);
        let (key, mut known) = manifests(&workspace).await.remove(0);
        let files = parquet_files(folder.path());
        let back = format!("INSERT INTO {TABLE} SELECT * FROM public.copy");
        let here = known["server"].clone();

        // On another server from which the rows have gone as well, nothing is to be done, and
        // nobody looks twice.
        known["server"] = json!("7000000000000000000/1");
        know(&workspace, &key, &known).await;
        let run = archive(&workspace);
        assert_eq!(told(&run), (vec!["settle"], vec![]), "{run:#}");
        assert_eq!(parquet_files(folder.path()), files);
        nothing_is_left(&workspace);

        // A server that was set back has not come to the transaction yet.
        db.execute(&back).await;
        known["server"] = here;
        known["transaction"] = json!("4000000000");
        know(&workspace, &key, &known).await;
        let run = archive(&workspace);
        assert_eq!(told(&run), (vec!["settle", "archive"], vec!["archive.undone"]), "{run:#}");
        let said = run["findings"][0]["message"].as_str().unwrap();
        assert!(said.contains("100 rows") && said.contains("in the table again"), "{said}");
        assert!(files.iter().all(|file| !folder.path().join(file).exists()), "{files:?}");
        nothing_is_left(&workspace);
        workspace.run(["archive", "verify"]).expect(0);
        workspace.run(["archive", "restore", "--from", TABLE, "--into", "public.again"]).expect(0);
        assert_eq!(checksum(&db, "SELECT * FROM public.again").await, before);

        // Where one of them is not as it was, a person says what is so, and nothing goes before.
        let (key, mut known) = manifests(&workspace).await.remove(0);
        db.execute(&back).await;
        db.execute(&format!("UPDATE {TABLE} SET v = 'changed' WHERE v = 'v50'")).await;
        known["transaction"] = json!("4000000000");
        known["restored"] = json!([]);
        know(&workspace, &key, &known).await;
        for _ in 0..2 {
            let output = workspace.run(["run", "archive", "--now", "--output", "json"]).expect(1);
            let run = output.json()["runs"][0].clone();
            let said = run["steps"][0]["error"].as_str().unwrap();
            assert!(said.contains("of the 100 rows 99 are in"), "{said}");
            assert!(said.contains("and 1 with other values") && said.contains("maint archive settle"), "{said}");
            assert_eq!(db.number(&format!("SELECT count(*) FROM {TABLE}")).await, 101);
        }
        let id = known["id"].as_str().unwrap();
        workspace.run(["archive", "settle", id, "--kept"]).expect(0);
        archive(&workspace);
        nothing_is_left(&workspace);
        let all = manifests(&workspace).await;
        assert_eq!(all.iter().map(|(_, m)| m["rows"].as_i64().unwrap()).sum::<i64>(), 100);
    }
}

for_versions! {
    [pg18 = 18]
    /// Without a key nobody knows whether rows that are alike are the same: a person says it, and
    /// nothing goes before. Rows that a person brought back stay archived.
    async fn without_a_key_and_after_a_restore(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE t (id int, at timestamptz NOT NULL);
            INSERT INTO t SELECT n % 50, '2020-01-01' FROM generate_series(1, 100) n; INSERT INTO t VALUES (1, now())").await;
        let rule = json!({ "table": "t", "column": "at", "older_than": "30d" });
        let (workspace, folder) = into_files(&db, &rule);
        archive(&workspace);
        let (key, mut known) = manifests(&workspace).await.remove(0);
        let files = parquet_files(folder.path());
        known["server"] = json!("7000000000000000000/1");
        know(&workspace, &key, &known).await;
        db.execute("INSERT INTO t SELECT n % 50, '2020-01-01' FROM generate_series(1, 100) n").await;
        for _ in 0..2 {
            let output = workspace.run(["run", "archive", "--now", "--output", "json"]).expect(1);
            let said = output.json()["runs"][0]["steps"][0]["error"].as_str().unwrap().to_owned();
            assert!(said.contains("100 rows of public.t are like the 100 that were archived"), "{said}");
            assert_eq!(parquet_files(folder.path()), files);
            assert_eq!(db.number("SELECT count(*) FROM t").await, 101);
        }
        let id = known["id"].as_str().unwrap();
        workspace.run(["archive", "settle", id, "--kept"]).expect(0);
        assert_eq!(archive(&workspace)["rows"], 100);
        assert_eq!(manifests(&workspace).await.len(), 1);

        workspace.run(["archive", "restore", "--from", "public.t", "--into", "public.t"]).expect(0);
        let (key, mut known) = manifests(&workspace).await.remove(0);
        known["transaction"] = json!("4000000000");
        know(&workspace, &key, &known).await;
        let plan = workspace.run(["plan", "archive", "--output", "json"]).expect(0).json();
        assert!(!plan.to_string().contains("\"settle\""), "{plan:#}");
    }
}

for_versions! {
    [pg15 = 15]
    /// Rows that somebody has changed since a server took over are not found without a key: that is
    /// unknown, and not that they have gone. An empty table has none of them.
    async fn changed_rows_without_a_key_are_unclear(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE t (id int, at timestamptz NOT NULL); INSERT INTO t SELECT n, '2020-01-01' FROM generate_series(1, 100) n").await;
        let (workspace, folder) = into_files(&db, &json!({ "table": "t", "column": "at", "older_than": "30d" }));
        archive(&workspace);
        let (key, known) = manifests(&workspace).await.remove(0);
        let files = parquet_files(folder.path());
        let on_another = async |number: &str, settled: bool| {
            let mut other = known.clone();
            (other["server"], other["settled"]) = (json!(number), json!(settled));
            know(&workspace, &key, &other).await;
        };
        on_another("7000000000000000000/1", true).await;
        let run = archive(&workspace);
        assert_eq!(told(&run), (vec!["settle"], vec![]), "{run:#}");
        db.execute("INSERT INTO t SELECT n + 1000, '2020-01-01' FROM generate_series(1, 100) n").await;
        on_another("7000000000000000000/2", true).await;
        // What was interrupted is a person's to settle then.
        on_another("7000000000000000000/2", false).await;
        let output = workspace.run(["run", "archive", "--now", "--output", "json"]).expect(1);
        let said = output.json()["runs"][0]["steps"][0]["error"].as_str().unwrap().to_owned();
        assert!(said.contains("no row of public.t is like one of the 100") && said.contains("maint archive settle"), "{said}");
        assert_eq!(db.number("SELECT count(*) FROM t").await, 100);
        // Else it is said, once.
        on_another("7000000000000000000/2", true).await;
        let seen = remembered(&workspace, "archived from ").await.remove(0);
        know(&workspace, &seen.0, &json!("7000000000000000000/1")).await;
        let run = archive(&workspace);
        assert_eq!(told(&run), (vec!["settle", "archive"], vec!["archive.unclear"]), "{run:#}");
        assert_eq!((&run["findings"][0]["severity"], run["rows"].as_i64()), (&json!("warning"), Some(100)), "{run:#}");
        let said = run["findings"][0]["message"].as_str().unwrap();
        assert!(said.contains(known["id"].as_str().unwrap()) && said.contains("no row of public.t is like one"), "{said}");
        assert!(files.iter().all(|file| folder.path().join(file).exists()), "{files:?}");
        nothing_is_left(&workspace);
    }
}

for_versions! {
    [pg15 = 15]
    /// A server that was set back to a snapshot, and has gone on from there, tells it by no number:
    /// the newest batch is looked for in its table before the next rows go, whatever the table is
    /// called by then. Where the files are away, nothing is done.
    async fn a_snapshot_is_seen_by_the_rows(major: u32) {
        let db = fresh_database(major).await;
        db.execute(ROWS).await;
        let (workspace, folder) = into_files(&db, &rule());
        db.execute(&format!("CREATE TABLE public.copy AS SELECT * FROM {TABLE} WHERE at < '2021-01-01'")).await;
        archive(&workspace);
        let files = parquet_files(folder.path());
        let back = format!("INSERT INTO {TABLE} SELECT * FROM public.copy");
        db.execute(&back).await;
        let run = archive(&workspace);
        assert_eq!(told(&run), (vec!["archive"], vec!["archive.undone"]), "{run:#}");
        assert_eq!(run["rows"], 100, "{run:#}");
        assert!(files.iter().all(|file| !folder.path().join(file).exists()), "{files:?}");
        assert_eq!(manifests(&workspace).await.len(), 1);
        // What is new is archived beside it, as ever.
        let more = format!("INSERT INTO {TABLE} SELECT 'more', n, '2020-01-01', NULL FROM generate_series(1, 10) n");
        db.execute(&more).await;
        let run = archive(&workspace);
        assert_eq!((told(&run), run["rows"].as_i64()), ((vec!["archive"], vec![]), Some(10)), "{run:#}");
        assert_eq!(manifests(&workspace).await.len(), 2);

        // The same under another name, on another server.
        db.execute(r#"ALTER TABLE "odd"".one".t RENAME TO "new name""#).await;
        let renamed = r#""odd"".one"."new name""#;
        for (key, mut known) in manifests(&workspace).await {
            known["server"] = json!("7000000000000000000/1");
            know(&workspace, &key, &known).await;
        }
        db.execute(&format!("INSERT INTO {renamed} SELECT 'more', n, '2020-01-01', NULL FROM generate_series(1, 10) n")).await;
        let place = format!("file://{}", folder.path().display());
        let options = json!({ "table": renamed, "column": "at", "older_than": "30d", "destination": { "files": place } });
        workspace.file("tasks/archive.yaml", &format!("kind: archive\ntarget: app\noptions: {options}\n"));
        let away = folder.path().with_extension("away");
        std::fs::rename(folder.path(), &away).unwrap();
        let output = workspace.run(["run", "archive", "--now", "--output", "json"]).expect(1);
        let run = output.json()["runs"][0].clone();
        let said = run["steps"][0]["error"].as_str().unwrap();
        assert!(said.contains("cannot be seen, and nothing was archived"), "{run:#}");
        assert_eq!(db.number(&format!("SELECT count(*) FROM {renamed}")).await, 11);
        let _ = std::fs::remove_dir_all(folder.path());
        std::fs::rename(&away, folder.path()).unwrap();
        let run = archive(&workspace);
        assert_eq!(told(&run), (vec!["settle", "archive"], vec!["archive.undone"]), "{run:#}");
        assert!(run["findings"][0]["message"].as_str().unwrap().starts_with("10 rows"), "{run:#}");
        assert_eq!(manifests(&workspace).await.len(), 2);
        nothing_is_left(&workspace);
        workspace.run(["archive", "verify"]).expect(0);
    }
}

for_versions! {
    [pg18 = 18]
    /// Keys of domains, enums, padded characters and bits find their rows, also where somebody has
    /// changed them: those are not taken for gone.
    async fn keys_of_every_kind_find_their_rows(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE DOMAIN number AS int CHECK (VALUE > 0); CREATE DOMAIN smaller AS number CHECK (VALUE < 1000); CREATE TYPE mood AS ENUM ('a', 'b')").await;
        for (key, value) in [("smaller", "n::int"), ("char(5)", "'k' || n"), ("mood", "CASE WHEN n = 1 THEN 'a'::mood ELSE 'b' END"), ("bit(8)", "n::bit(8)")] {
            db.execute(&format!("DROP TABLE IF EXISTS t; CREATE TABLE t (id {key} PRIMARY KEY, at timestamptz NOT NULL, v text);
                INSERT INTO t SELECT {value}, '2020-01-01', 'v' FROM generate_series(1, 2) n; DROP TABLE IF EXISTS copy; CREATE TABLE copy AS SELECT * FROM t")).await;
            let rule = json!({ "table": "t", "column": "at", "older_than": "30d" });
            let (workspace, folder) = into_files(&db, &rule);
            assert_eq!(archive(&workspace)["rows"], 2, "{key}");
            let files = parquet_files(folder.path());
            // Changed by somebody, they are not taken for gone.
            db.execute("INSERT INTO t SELECT * FROM copy; UPDATE t SET v = 'w'").await;
            let (name, mut known) = manifests(&workspace).await.remove(0);
            known["server"] = json!("7000000000000000000/1");
            know(&workspace, &name, &known).await;
            let output = workspace.run(["run", "archive", "--now", "--output", "json"]).expect(1);
            let said = output.json()["runs"][0]["steps"][0]["error"].as_str().unwrap().to_owned();
            assert!(said.contains("0 are in public.t as they were archived, and 2 with other values"), "{key}: {said}");
            assert_eq!(parquet_files(folder.path()), files, "{key}");
            db.execute("UPDATE t SET v = 'v'").await;
            assert_eq!(archive(&workspace)["rows"], 2, "{key}");
            assert_eq!(manifests(&workspace).await.len(), 1, "{key}");
        }
    }
}

for_oldest_and_newest! {
    /// Whether rows that were brought back are there still, nobody knows on a server that may have
    /// lost them: then that is said, and not that they are back.
    async fn a_restore_that_may_be_undone_is_not_taken_for_done(major: u32) {
        let db = fresh_database(major).await;
        db.execute(ROWS).await;
        let (workspace, _folder) = into_files(&db, &rule());
        archive(&workspace);
        let restore = ["archive", "restore", "--from", TABLE, "--into", TABLE];
        workspace.run(restore).expect(0);
        assert!(workspace.run(restore).expect(2).stderr.contains("is back already"));
        let (key, marks) = remembered(&workspace, "restored ").await.remove(0);
        for (field, value) in [("server", "7000000000000000000/1"), ("transaction", "4000000000")] {
            let mut other = marks.clone();
            other[0][field] = json!(value);
            know(&workspace, &key, &other).await;
            let said = workspace.run(restore).expect(2).stderr;
            assert!(said.contains("may be back already") && said.contains("is there still is not known"), "{field}: {said}");
        }
        db.execute(&format!("DELETE FROM {TABLE} WHERE at < '2021-01-01'")).await;
        workspace.run(["archive", "restore", "--from", TABLE, "--into", TABLE, "--again"]).expect(0);
        assert_eq!(db.number(&format!("SELECT count(*) FROM {TABLE}")).await, 101);
    }
}

/// A standby that has not received the last batches becomes the primary: what it has of their
/// rows is archived anew, whether they went into files or into another database.
#[tokio::test]
async fn a_failover_that_lost_the_last_batches_doubles_nothing() {
    let cluster = private_cluster(16, &[("wal_level", "replica"), ("autovacuum", "off")]);
    let first = cluster.url("postgres");
    let client = connect(&first).await;
    client
        .batch_execute(
            "CREATE TABLE a (id int PRIMARY KEY, at timestamptz NOT NULL);
            INSERT INTO a SELECT n, now() - n * interval '1 day' + interval '12 hours' FROM generate_series(1, 100) n;
            CREATE TABLE b (LIKE a INCLUDING ALL); INSERT INTO b SELECT * FROM a",
        )
        .await
        .unwrap();
    let there = fresh_database(17).await;
    let mut replica = standby(16, &cluster, |_| {}).await;
    let second = replica.url("postgres");
    let mut url: url::Url = first.parse().unwrap();
    url.set_query(Some("sslmode=disable"));
    let hosts = format!("{},{}", place(&second), place(&first));
    let url = url.as_str().replacen(&place(&first), &hosts, 1);
    let folder = tempfile::tempdir().unwrap();
    let workspace = Workspace::new(&format!(
        "history: sqlite:maint.db\ntargets:\n  app: {{ engine: postgres, url: \"{url}\" }}\n  warehouse: {{ engine: postgres, url: \"{}\" }}\n",
        there.url
    ));
    let tasks = |days: u32| {
        for (table, destination) in [
            (
                "a",
                json!({ "files": format!("file://{}", folder.path().display()) }),
            ),
            ("b", json!({ "database": "warehouse", "table": "b" })),
        ] {
            let options = json!({ "table": table, "column": "at", "older_than": format!("{days}d"), "destination": destination });
            let task = format!("kind: archive\ntarget: app\noptions: {options}\n");
            fs::write(workspace.path().join(format!("tasks/{table}.yaml")), task).unwrap();
        }
    };
    let run = |task: &str, code: i32| {
        let output = workspace.run(["run", task, "--now", "--output", "json"]);
        output.expect(code).json()["runs"][0].clone()
    };
    tasks(80);
    assert_eq!(
        (run("a", 0)["rows"].clone(), run("b", 0)["rows"].clone()),
        (json!(20), json!(20))
    );
    let other = connect(&second).await;
    let patience = Patience::until("the first batches on the standby");
    while number(
        &other,
        "SELECT (SELECT count(*) FROM a) + (SELECT count(*) FROM b)",
    )
    .await
        > 160
    {
        patience.pause().await;
    }
    // From here on the standby hears nothing.
    cut_off(&other).await;
    for days in [60, 40] {
        tasks(days);
        assert_eq!(
            (run("a", 0)["rows"].clone(), run("b", 0)["rows"].clone()),
            (json!(20), json!(20))
        );
    }
    kill(Pid::from_raw(cluster.pid().cast_signed()), Signal::SIGQUIT).unwrap();
    other
        .batch_execute("SELECT pg_catalog.pg_promote(true, 60)")
        .await
        .unwrap();
    assert_eq!(number(&other, "SELECT count(*) FROM a").await, 80);

    for table in ["a", "b"] {
        let done = run(table, 0);
        let (actions, codes) = told(&done);
        assert_eq!(actions, ["settle", "archive"], "{done:#}");
        assert_eq!(codes, ["archive.undone"], "{done:#}");
        let said = done["findings"][0]["message"].as_str().unwrap();
        assert!(
            said.starts_with("40 rows") && said.contains("in 2 batches"),
            "{said}"
        );
        assert_eq!(done["rows"], 40, "{done:#}");
        assert_eq!(
            number(&other, &format!("SELECT count(*) FROM {table}")).await,
            40
        );
        let again = run(table, 0);
        assert_eq!(again["steps"], json!([]), "{again:#}");
    }
    assert_eq!(there.number("SELECT count(*) FROM b").await, 60);
    assert_eq!(there.number("SELECT count(DISTINCT id) FROM b").await, 60);
    workspace.run(["archive", "verify"]).expect(0);
    workspace
        .run([
            "archive",
            "restore",
            "--from",
            "public.a",
            "--into",
            "public.back",
        ])
        .expect(0);
    assert_eq!(number(&other, "SELECT count(*) FROM back").await, 60);
    assert_eq!(
        number(&other, "SELECT count(DISTINCT id) FROM back").await,
        60
    );
    replica.stop();
}

/// The database that rows were archived into is replaced by a server that has not got the last
/// of them: that is told, with how many are missing, until a person has seen to it.
#[tokio::test]
async fn what_a_failover_of_the_destination_has_lost_is_told() {
    let cluster = private_cluster(15, &[("wal_level", "replica"), ("autovacuum", "off")]);
    let there = connect(&cluster.url("postgres")).await;
    let db = fresh_database(18).await;
    db.execute(
        "CREATE TABLE a (id int PRIMARY KEY, at timestamptz NOT NULL);
        INSERT INTO a SELECT n, now() - n * interval '1 day' + interval '12 hours' FROM generate_series(1, 100) n",
    )
    .await;
    let replica = standby(15, &cluster, |_| {}).await;
    let workspace = Workspace::new("targets: {}\n");
    let target = |url: &str, days: u32| {
        let targets = format!(
            "history: sqlite:maint.db\ntargets:\n  app: {{ engine: postgres, url: \"{}\" }}\n  warehouse: {{ engine: postgres, url: \"{url}\" }}\n",
            db.url
        );
        workspace.file("schedules.yaml", &targets);
        let options = json!({ "table": "a", "column": "at", "older_than": format!("{days}d"),
            "destination": { "database": "warehouse", "table": "a" } });
        let task = format!("kind: archive\ntarget: app\noptions: {options}\n");
        fs::create_dir_all(workspace.path().join("tasks")).unwrap();
        fs::write(workspace.path().join("tasks/archive.yaml"), task).unwrap();
    };
    target(&cluster.url("postgres"), 80);
    assert_eq!(archive(&workspace)["rows"], 20);
    let other = connect(&replica.url("postgres")).await;
    let patience = Patience::until("the first batch on the standby");
    while number(&other, "SELECT count(*) FROM pg_class WHERE relname = 'a'").await == 0
        || number(&other, "SELECT count(*) FROM a").await < 20
    {
        patience.pause().await;
    }
    // The same server: nothing is looked for, and nothing is told.
    target(&cluster.url("postgres"), 60);
    assert_eq!(archive(&workspace)["findings"], json!([]));
    let patience = Patience::until("the second batch on the standby");
    while number(&other, "SELECT count(*) FROM a").await < 40 {
        patience.pause().await;
    }
    cut_off(&other).await;
    target(&cluster.url("postgres"), 40);
    assert_eq!(archive(&workspace)["rows"], 20);
    drop(there);
    kill(Pid::from_raw(cluster.pid().cast_signed()), Signal::SIGQUIT).unwrap();
    other
        .batch_execute("SELECT pg_catalog.pg_promote(true, 60)")
        .await
        .unwrap();

    for days in [20, 15, 10] {
        let codes = match days {
            10 => vec![],
            _ => vec!["archive.lost_there"],
        };
        target(&replica.url("postgres"), days);
        let run = archive(&workspace);
        assert_eq!(told(&run), (vec!["archive"], codes), "{run:#}");
        if days == 20 {
            let said = run["findings"][0]["message"].as_str().unwrap();
            assert!(said.contains("of the 20 rows of the last batch,"), "{said}");
            assert!(said.contains("0 are there as they came"), "{said}");
            assert_eq!(run["findings"][0]["severity"], "critical", "{run:#}");
        }
        if days == 15 {
            let all = manifests(&workspace).await;
            let ids: Vec<&str> = all.iter().map(|(_, m)| m["id"].as_str().unwrap()).collect();
            workspace
                .run(["archive", "settle", ids[0], "--seen-to"])
                .expect(2);
            let said = run["findings"][0]["message"].as_str().unwrap();
            assert!(
                said.contains(&format!("settle {} --seen-to", ids[2])),
                "{said}"
            );
            let verified = workspace.run(["archive", "verify"]).expect(0).stdout;
            assert!(
                verified.contains("are in tables of other databases, which are not looked at"),
                "{verified}"
            );
            let seen = workspace
                .run(["archive", "settle", ids[2], "--seen-to"])
                .expect(0);
            assert!(seen.stdout.contains("1 batches of public.a"), "{seen:?}");
        }
    }
    assert_eq!(number(&other, "SELECT count(*) FROM a").await, 70);
}
