//! A database, or a table, is put back under its name on a server that goes on running: from a dump,
//! or as a copy that was made before. Rows that had been archived come back with it.

use serde_json::{Value, json};

use super::moved::{know, manifests, remembered};
use super::undone::told;
use super::{archive, checksum, into_files, nothing_is_left, parquet_files};
use crate::support::servers::{TestDatabase, cluster, connect, fresh_database};
use crate::support::workspace::Workspace;

/// One table with a key and one without, for each of two ways.
const ROWS: &str = "CREATE SCHEMA s;
    CREATE TABLE s.k (id int PRIMARY KEY, at timestamptz NOT NULL, v text);
    INSERT INTO s.k SELECT n, '2020-01-01'::timestamptz + n * interval '1 minute', 'v' || n FROM generate_series(1, 100) n;
    CREATE TABLE s.nk (id int, at timestamptz NOT NULL, v text); INSERT INTO s.nk SELECT * FROM s.k;
    CREATE TABLE s.db (LIKE s.k INCLUDING ALL); INSERT INTO s.db SELECT * FROM s.k;
    CREATE TABLE s.dbn (LIKE s.nk); INSERT INTO s.dbn SELECT * FROM s.k";

/// A task for each of the tables: two into files, two into another database.
fn tasks(db: &TestDatabase, there: &TestDatabase) -> (Workspace, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let files = format!("file://{}", folder.path().display());
    let workspace = Workspace::new(&format!(
        "history: sqlite:maint.db\ntargets:\n  app: {{ engine: postgres, url: \"{}\" }}\n  warehouse: {{ engine: postgres, url: \"{}\" }}\n",
        db.url, there.url
    ));
    for table in ["k", "nk", "db", "dbn"] {
        let destination = match table.starts_with('d') {
            true => json!({ "database": "warehouse", "table": table }),
            false => json!({ "files": files }),
        };
        let options = json!({ "table": format!("s.{table}"), "column": "at", "older_than": "30d", "destination": destination });
        let task = format!("kind: archive\ntarget: app\noptions: {options}\n");
        workspace.file(&format!("tasks/{table}.yaml"), &task);
    }
    (workspace, folder)
}

fn run(workspace: &Workspace, task: &str, code: i32) -> Value {
    let output = workspace.run(["run", task, "--now", "--output", "json"]);
    output.expect(code).json()["runs"][0].clone()
}

/// The error of the step that did not do its work.
fn error(run: &Value) -> &str {
    let steps = run["steps"].as_array().unwrap().iter();
    steps
        .filter_map(|step| step["error"].as_str())
        .next()
        .unwrap()
}

for_versions! {
    [pg17 = 17]
    /// What had left is in the database that is there now: by a key it is taken back and archived
    /// once, and without one a person says what is so, and nothing is doubled before.
    async fn a_database_that_is_put_back_doubles_nothing(major: u32) {
        for dumped in [false, true] {
            let (mut db, there) = (fresh_database(major).await, fresh_database(major).await);
            db.execute(ROWS).await;
            let (name, copy, old) = (db.name.clone(), format!("{}_copy", db.name), format!("{}_old", db.name));
            match dumped {
                false => db.alone(major, &[format!("CREATE DATABASE {copy} TEMPLATE {name}")]).await,
                true => {
                    // As a dump writes it: all ids are others, and so are the transactions.
                    db.alone(major, &[format!("CREATE DATABASE {copy}")]).await;
                    let client = connect(&cluster(major).url(&copy)).await;
                    client.batch_execute("CREATE TABLE before (a int)").await.unwrap();
                    client.batch_execute(ROWS).await.unwrap();
                }
            }
            let (workspace, folder) = tasks(&db, &there);
            for table in ["k", "nk", "db", "dbn"] {
                assert_eq!(run(&workspace, table, 0)["rows"], 100, "{table}");
                assert_eq!(run(&workspace, table, 0)["steps"], json!([]), "{table}");
            }
            let files = parquet_files(folder.path());
            let names = [format!("ALTER DATABASE {name} RENAME TO {old}"), format!("ALTER DATABASE {copy} RENAME TO {name}")];
            db.alone(major, &names).await;
            for table in ["k", "db"] {
                let done = run(&workspace, table, 0);
                assert_eq!(told(&done), (vec!["settle", "archive"], vec!["archive.undone"]), "{done:#}");
                assert_eq!(done["rows"], 100, "{done:#}");
                assert_eq!(db.number(&format!("SELECT count(*) FROM s.{table}")).await, 0);
                assert_eq!(run(&workspace, table, 0)["steps"], json!([]), "{table}");
            }
            assert_eq!(there.number("SELECT count(*) FROM db").await, 100);
            for table in ["nk", "dbn"] {
                for _ in 0..3 {
                    let said = run(&workspace, table, 1);
                    let why = error(&said);
                    assert!(why.contains(&format!("100 rows of s.{table} are like the 100")) && why.contains("maint archive settle"), "{why}");
                    assert_eq!(db.number(&format!("SELECT count(*) FROM s.{table}")).await, 100);
                }
            }
            assert_eq!(there.number("SELECT count(*) FROM dbn").await, 100);
            assert_eq!(parquet_files(folder.path()).len(), files.len());
            // A person has looked, and says it.
            there.execute("DELETE FROM dbn").await;
            for (key, known) in manifests(&workspace).await {
                if known["settled"] == json!(false) {
                    let id = key.trim_start_matches("archive ");
                    workspace.run(["archive", "settle", id, "--kept"]).expect(0);
                }
            }
            for table in ["nk", "dbn"] {
                let done = run(&workspace, table, 0);
                assert_eq!((told(&done), &done["rows"]), ((vec!["archive"], vec![]), &json!(100)), "{done:#}");
                assert_eq!(run(&workspace, table, 0)["steps"], json!([]), "{table}");
            }
            assert_eq!(there.number("SELECT count(*) FROM dbn").await, 100);
            assert_eq!(manifests(&workspace).await.len(), 4);
            workspace.run(["archive", "verify"]).expect(0);
            db.alone(major, &[format!("DROP DATABASE {old}")]).await;
        }
    }
}

/// What a dump has of the table `t`.
fn dumped(key: &str) -> String {
    format!(
        "CREATE TABLE t (id int {key}, at timestamptz NOT NULL, v text);
        INSERT INTO t SELECT n, '2020-01-01'::timestamptz + n * interval '1 minute', 'v' || n FROM generate_series(1, 100) n"
    )
}

fn rule() -> Value {
    json!({ "table": "t", "column": "at", "older_than": "30d" })
}

for_versions! {
    [pg18 = 18]
    /// A single table is dropped, or renamed, and put back: the same.
    async fn a_table_that_is_put_back_doubles_nothing(major: u32) {
        for away in ["DROP TABLE t", "ALTER TABLE t RENAME TO broken"] {
            let db = fresh_database(major).await;
            db.execute(&dumped("PRIMARY KEY")).await;
            let (workspace, folder) = into_files(&db, &rule());
            archive(&workspace);
            let files = parquet_files(folder.path());
            let before = checksum(&db, "SELECT n AS id, '2020-01-01'::timestamptz + n * interval '1 minute' AS at, 'v' || n AS v FROM generate_series(1, 100) n").await;
            db.execute(&format!("{away}; ALTER TABLE IF EXISTS broken DROP CONSTRAINT t_pkey; {}", dumped("PRIMARY KEY"))).await;
            let run = archive(&workspace);
            assert_eq!((told(&run), &run["rows"]), ((vec!["settle", "archive"], vec!["archive.undone"]), &json!(100)), "{run:#}");
            assert!(files.iter().all(|file| !folder.path().join(file).exists()), "{files:?}");
            assert_eq!(manifests(&workspace).await.len(), 1);
            nothing_is_left(&workspace);
            workspace.run(["archive", "restore", "--into", "back"]).expect(0);
            assert_eq!(checksum(&db, "SELECT * FROM back").await, before);
        }
        // Without a key it is a person's to say, and stays so.
        let db = fresh_database(major).await;
        db.execute(&dumped("")).await;
        let (workspace, folder) = into_files(&db, &rule());
        archive(&workspace);
        let files = parquet_files(folder.path());
        db.execute(&format!("DROP TABLE t; {}", dumped(""))).await;
        for _ in 0..3 {
            let output = workspace.run(["run", "archive", "--now", "--output", "json"]).expect(1).json();
            let why = error(&output["runs"][0]).to_owned();
            assert!(why.contains("100 rows of public.t are like the 100"), "{why}");
            assert_eq!(db.number("SELECT count(*) FROM t").await, 100);
            assert_eq!(parquet_files(folder.path()), files);
        }
    }
}

for_versions! {
    [pg15 = 15]
    /// A table that was made anew costs a look, and keeps nothing from being archived: with new keys,
    /// with the same keys for other rows, without a key, and with other columns.
    async fn a_table_that_is_made_anew_is_looked_at_once(major: u32) {
        for (before, after, codes) in [
            ("PRIMARY KEY", "INSERT INTO t SELECT n + 1000, '2020-01-01', 'other' FROM generate_series(1, 100) n", vec![]),
            ("PRIMARY KEY", "INSERT INTO t SELECT n, '2020-01-01', 'other' FROM generate_series(1, 100) n", vec!["archive.unclear"]),
            ("", "INSERT INTO t SELECT n, '2020-01-01', 'other' FROM generate_series(1, 100) n", vec!["archive.unclear"]),
            ("", "ALTER TABLE t DROP v; INSERT INTO t SELECT n, '2020-01-01' FROM generate_series(1, 100) n", vec!["archive.unclear"]),
        ] {
            let db = fresh_database(major).await;
            db.execute(&dumped(before)).await;
            let (workspace, folder) = into_files(&db, &rule());
            archive(&workspace);
            let files = parquet_files(folder.path());
            db.execute(&format!("DROP TABLE t; {}; DELETE FROM t; {after}", dumped(before))).await;
            let run = archive(&workspace);
            assert_eq!((told(&run), &run["rows"]), ((vec!["settle", "archive"], codes), &json!(100)), "{after}: {run:#}");
            assert!(files.iter().all(|file| folder.path().join(file).exists()), "{files:?}");
            nothing_is_left(&workspace);
            // What comes later is archived as ever.
            let columns = if after.contains("DROP v") { "5000, '2020-01-01'" } else { "5000, '2020-01-01', 'more'" };
            db.execute(&format!("INSERT INTO t VALUES ({columns})")).await;
            let run = archive(&workspace);
            assert_eq!((told(&run), &run["rows"]), ((vec!["archive"], vec![]), &json!(1)), "{run:#}");
            workspace.run(["archive", "verify"]).expect(0);
        }
    }
}

for_oldest_and_newest! {
    /// Rows that are swapped into a copy of the table, as a repack by hand does it, are none that had left.
    async fn a_table_that_is_swapped_for_its_copy_goes_on(major: u32) {
        let db = fresh_database(major).await;
        db.execute(&dumped("PRIMARY KEY")).await;
        let (workspace, _folder) = into_files(&db, &rule());
        archive(&workspace);
        db.execute("INSERT INTO t VALUES (200, '2020-01-01', 'x'), (201, now(), 'x'); CREATE TABLE copy (LIKE t INCLUDING ALL);
            INSERT INTO copy SELECT * FROM t; ALTER TABLE t RENAME TO old; ALTER TABLE copy RENAME TO t").await;
        let run = archive(&workspace);
        assert_eq!((told(&run), &run["rows"]), ((vec!["settle", "archive"], vec![]), &json!(1)), "{run:#}");
        nothing_is_left(&workspace);
    }
}

for_versions! {
    [pg15 = 15]
    /// A partition is put back, long after others have been archived: its rows are in the archive once.
    async fn a_partition_that_is_put_back_doubles_nothing(major: u32) {
        let db = fresh_database(major).await;
        let first = "CREATE TABLE p1 PARTITION OF p FOR VALUES FROM ('2020-01-01 00:00+00') TO ('2020-02-01 00:00+00');
            INSERT INTO p SELECT n, '2020-01-02 00:00+00' FROM generate_series(1, 100) n;";
        db.execute(&format!("CREATE TABLE p (id int, at timestamptz NOT NULL, PRIMARY KEY (id, at)) PARTITION BY RANGE (at); {first}
            CREATE TABLE p2 PARTITION OF p FOR VALUES FROM ('2020-02-01 00:00+00') TO ('2100-01-01 00:00+00')")).await;
        let mut rule = json!({ "table": "p", "column": "at", "older_than": "30d", "drop_partitions": false });
        let (workspace, folder) = into_files(&db, &rule);
        assert_eq!(archive(&workspace)["rows"], 100);
        let old = parquet_files(folder.path());
        db.execute("INSERT INTO p SELECT n, '2020-02-02 00:00+00' FROM generate_series(1, 10) n").await;
        assert_eq!(archive(&workspace)["rows"], 10);
        // The earlier batch is from long before the later one.
        for (key, mut known) in manifests(&workspace).await {
            if known["rows"] == 100 {
                known["created_at"] = json!("2020-06-01T00:00:00Z");
                know(&workspace, &key, &known).await;
            }
        }
        db.execute(&format!("DROP TABLE p1; {first}")).await;
        let run = archive(&workspace);
        assert_eq!((told(&run), &run["rows"]), ((vec!["settle", "archive"], vec!["archive.undone"]), &json!(100)), "{run:#}");
        assert!(old.iter().all(|file| !folder.path().join(file).exists()), "{old:?}");
        nothing_is_left(&workspace);
        // One that is empty, and gets other rows, is looked at and archived.
        db.execute("DROP TABLE p1; CREATE TABLE p1 PARTITION OF p FOR VALUES FROM ('2020-01-01 00:00+00') TO ('2020-02-01 00:00+00');
            INSERT INTO p SELECT n, '2020-01-03 00:00+00' FROM generate_series(1, 5) n").await;
        let run = archive(&workspace);
        assert_eq!((told(&run), &run["rows"]), ((vec!["settle", "archive"], vec![]), &json!(5)), "{run:#}");
        nothing_is_left(&workspace);

        // And one that had left as a whole.
        let db = fresh_database(major).await;
        db.execute(&format!("CREATE TABLE p (id int, at timestamptz NOT NULL, PRIMARY KEY (id, at)) PARTITION BY RANGE (at); {first}")).await;
        rule["drop_partitions"] = json!(true);
        let (workspace, folder) = into_files(&db, &rule);
        archive(&workspace);
        assert_eq!(db.number("SELECT count(*) FROM pg_class WHERE relname = 'p1'").await, 0);
        let old = parquet_files(folder.path());
        db.execute(first).await;
        let run = archive(&workspace);
        assert_eq!(told(&run), (vec!["settle", "archive_partition"], vec!["archive.undone"]), "{run:#}");
        assert!(old.iter().all(|file| !folder.path().join(file).exists()), "{old:?}");
        assert_eq!(manifests(&workspace).await.len(), 1);
        nothing_is_left(&workspace);
        workspace.run(["archive", "verify"]).expect(0);
    }
}

for_oldest_and_newest! {
    /// The table that rows came into is put back as it was before the last of them, on a server that
    /// goes on running: that is told. One that was made anew with all of them is the same.
    async fn a_destination_that_is_put_back_is_told(major: u32) {
        let (db, there) = (fresh_database(major).await, fresh_database(major).await);
        db.execute(ROWS).await;
        let (workspace, _folder) = tasks(&db, &there);
        assert_eq!(run(&workspace, "db", 0)["rows"], 100);
        let more = |from: i32| format!("INSERT INTO s.db SELECT n, '2020-01-01', 'more' FROM generate_series({from}, {from} + 9) n");
        there.execute("CREATE TABLE moved AS SELECT * FROM db; DROP TABLE db; ALTER TABLE moved RENAME TO db").await;
        db.execute(&more(201)).await;
        let done = run(&workspace, "db", 0);
        assert_eq!((told(&done), &done["rows"]), ((vec!["archive"], vec![]), &json!(10)), "{done:#}");
        there.execute("CREATE TABLE moved AS SELECT * FROM db WHERE id <= 100; DROP TABLE db; ALTER TABLE moved RENAME TO db").await;
        for (from, codes) in [(301, vec!["archive.lost_there"]), (401, vec!["archive.lost_there"])] {
            db.execute(&more(from)).await;
            let done = run(&workspace, "db", 0);
            assert_eq!((told(&done), &done["rows"]), ((vec!["archive"], codes), &json!(10)), "{done:#}");
            assert_eq!(done["findings"][0]["severity"], "critical", "{done:#}");
            let said = done["findings"][0]["message"].as_str().unwrap();
            assert!(said.contains("its database or the table there is another one"), "{said}");
        }
        assert_eq!(there.number("SELECT count(*) FROM db").await, 120);
    }
}

for_oldest_and_newest! {
    /// What an earlier version has remembered is read, and said in full from then on.
    async fn what_an_earlier_version_remembered_is_read(major: u32) {
        let db = fresh_database(major).await;
        db.execute(&dumped("PRIMARY KEY")).await;
        let (workspace, _folder) = into_files(&db, &rule());
        archive(&workspace);
        let (key, mut known) = manifests(&workspace).await.remove(0);
        for field in ["database_oid", "table_oid"] {
            assert!(known.as_object_mut().unwrap().remove(field).is_some(), "{known:#}");
        }
        let here = known["server"].clone();
        known["server"] = json!("7000000000000000000/1");
        know(&workspace, &key, &known).await;
        know(&workspace, "archived from public.t", &here).await;
        nothing_is_left(&workspace);
        know(&workspace, "archived from public.t", &json!("7000000000000000000/1")).await;
        let run = archive(&workspace);
        assert_eq!(told(&run), (vec!["settle"], vec![]), "{run:#}");
        let (_, seen) = remembered(&workspace, "archived from ").await.remove(0);
        assert_eq!(seen["server"], here, "{seen:#}");
        assert!(seen["database"].as_i64().unwrap() > 0 && seen["tables"].as_array().unwrap().len() == 1, "{seen:#}");
        nothing_is_left(&workspace);
    }
}

for_versions! {
    [pg16 = 16]
    /// A tenant goes, and another gets its name: what is archived of the one does not come back to the other,
    /// unless somebody says so; nor is it mixed with the other's.
    async fn archives_of_a_database_made_anew_are_not_those_of_the_one_before(major: u32) {
        let mut db = fresh_database(major).await;
        let rows = |first: i32| format!("CREATE TABLE t (id int PRIMARY KEY, at timestamptz NOT NULL);
            INSERT INTO t SELECT n, '2020-01-01'::timestamptz + n * interval '1 minute' FROM generate_series({first}, {first} + 99) n");
        db.execute(&rows(1)).await;
        let (workspace, folder) = into_files(&db, &json!({ "table": "t", "column": "at", "older_than": "30d" }));
        assert_eq!(archive(&workspace)["rows"], 100);
        let name = db.name.clone();
        let anew = [format!("DROP DATABASE {name}"), format!("CREATE DATABASE {name} TEMPLATE template0")];
        db.alone(major, &anew).await;
        db.execute(&rows(1_001)).await;
        let restore = |more: &[&str]| {
            let args = ["archive", "restore", "--from", "t", "--into", "back", "--output", "json"];
            workspace.run(args.iter().chain(more).copied().collect::<Vec<_>>())
        };
        // Nothing is archived of this one yet.
        let said = restore(&[]);
        assert!(said.code == 2 && said.stdout.contains("1 archive with 100 rows left out: what app was before is another database") && said.stdout.contains("--former"), "{said:#?}");
        assert_eq!(db.number("SELECT count(*) FROM pg_class WHERE relname = 'back'").await, 0);
        assert_eq!(archive(&workspace)["rows"], 100);
        nothing_is_left(&workspace);
        let former = || {
            let listed = workspace.run(["archive", "list", "--output", "json"]).expect(0).json();
            let all = listed["archived"].as_array().unwrap().iter();
            all.map(|one| one["former"].as_bool().unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(former(), [true, false]);
        let told = workspace.run(["archive", "list"]).expect(0).stdout;
        assert!(told.contains("1 of them, 100 rows, of a database that app was before"), "{told}");
        let dry = restore(&["--dry-run"]).expect(0).json();
        assert_eq!((dry["rows"].as_i64(), dry["former"].as_array().unwrap().len()), (Some(100), 1), "{dry:#}");
        let back = restore(&[]).expect(0).json();
        assert_eq!((back["rows"].as_i64(), back["former"].as_array().unwrap().len()), (Some(100), 1), "{back:#}");
        assert_eq!(db.strings("SELECT min(id) || ' ' || count(*) FROM back").await, ["1001 100"]);
        // From the files alone it is not said which of the two is meant.
        let url = format!("file://{}", folder.path().display());
        let both = restore(&["--files", &url, "--target", "app", "--again"]);
        assert!(both.code == 2 && both.stdout.contains("databases that had the same name one after the other"), "{both:#?}");
        assert_eq!(db.number("SELECT count(*) FROM back").await, 100);
        // Who says so has all.
        let all = restore(&["--former"]).expect(0).json();
        assert_eq!(all["rows"], 100, "{all:#}");
        assert_eq!(db.strings("SELECT min(id) || ' ' || count(*) FROM back").await, ["1 200"]);
    }
}
