//! Rows go only when they are safely elsewhere, and come back as they were.

mod compared;
mod confined;
mod database;
mod disk;
mod fitting;
mod foretold;
mod looked_at;
mod meanwhile;
mod moved;
mod places;
mod put_back;
mod quick;
mod readers;
mod renamed;
mod s3;
mod set_back;
mod silent;
mod stopping;
mod undone;
mod heirs;
mod twins;
mod unknown;
mod whole;
mod without_history;

use serde_json::{Value, json};

use crate::support::servers::{TestDatabase, fresh_database};
use crate::support::workspace::Workspace;

/// A workspace with one task `archive` with these options.
fn workspace(db: &TestDatabase, options: &Value) -> Workspace {
    waiting(db, options, "5min")
}

/// The same, with a limit for how long it waits for locks.
fn waiting(db: &TestDatabase, options: &Value, lock_timeout: &str) -> Workspace {
    Workspace::for_target(&db.url).task(
        "archive",
        &format!(
            "kind: archive\ntarget: app\noptions: {options}\n\
             limits: {{ lock_timeout: {lock_timeout}, lock_retries: 0 }}\n"
        ),
    )
}

/// The same, into a folder of the workspace.
fn into_files(db: &TestDatabase, rule: &Value) -> (Workspace, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let mut options = rule.clone();
    options["destination"] = json!({ "files": format!("file://{}", folder.path().display()) });
    (workspace(db, &options), folder)
}

fn archive(workspace: &Workspace) -> Value {
    let output = workspace.run(["run", "archive", "--now", "--output", "json"]);
    output.expect(0).json()["runs"][0].clone()
}

/// One run that must not do what was asked for, and so has not succeeded.
fn refused(workspace: &Workspace) -> Value {
    let output = workspace.run(["run", "archive", "--now", "--output", "json"]);
    let run = output.expect(1).json()["runs"][0].clone();
    assert_eq!(run["steps"], json!([]), "{run:#}");
    assert_eq!(run["status"], "failed", "{run:#}");
    run
}

fn nothing_is_left(workspace: &Workspace) {
    let again = archive(workspace);
    assert_eq!(again["steps"], json!([]), "{again:#}");
}

/// A checksum over whatever rows there are.
async fn checksum(db: &TestDatabase, rows: &str) -> String {
    db.strings(&format!(
        "SELECT count(*) || ' ' || coalesce(md5(string_agg(r::text, ',' ORDER BY r::text)), '') FROM ({rows}) AS r"
    ))
    .await
    .remove(0)
}

/// Files below a folder, without manifests.
fn parquet_files(folder: &std::path::Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(one) = folders.pop() {
        for entry in std::fs::read_dir(&one).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if !path.to_string_lossy().ends_with(".manifest.json") {
                let below = path.strip_prefix(folder).unwrap();
                found.push(below.to_string_lossy().into_owned());
            }
        }
    }
    found.sort();
    found
}

/// Every type that can be kept, with the values that are easily lost.
const EVERY_TYPE: &str = r#"
    CREATE TYPE mood AS ENUM ('fine', 'it''s "odd"', '\back');
    CREATE DOMAIN price AS numeric(12, 4) CHECK (value > -100);
    CREATE DOMAIN tag AS text;
    CREATE TABLE everything (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz NOT NULL, "Weird ""name" text, b bool,
        i2 int2, i4 int4, i8 int8, f4 float4, f8 float8, n numeric, n10 numeric(10, 2), n60 numeric(60, 20), n_ numeric(5, 0),
        d date, t time, tz timetz, ts timestamp, iv interval, u uuid, bin bytea, js json, jb jsonb, c5 char(5), v varchar(20),
        nm name, ip inet, net cidr, mac macaddr, bits bit varying, m mood, p price, g tag, ai int[], at2 text[], am mood[],
        ats timestamptz[], r int4range, mr nummultirange, rt tstzrange, vec tsvector, pt point,
        an numeric[], a60 numeric(60, 20)[], ab bytea[], aj jsonb[], twice int8 GENERATED ALWAYS AS (i4 * 2) STORED);
    INSERT INTO everything (at, "Weird ""name", b, i2, i4, i8, f4, f8, n, n10, n60, n_, d, t, tz, ts, iv, u, bin, js, jb, c5, v,
        nm, ip, net, mac, bits, m, p, g, ai, at2, am, ats, r, mr, rt, vec, pt) VALUES
    ('2020-01-31 23:59:59.999999+00', E'tab\t nl\n cr\r \\ \\N "q" ü 🦀', true, -32768, 2147483647 / 2, -9223372036854775808, 'NaN', '-0', 'NaN',
     -12345678.90, 1234567890123456789012345678901234567890.12345678901234567890, -99999, 'infinity', '24:00', '12:00:00.5+05:30',
     '-infinity', '1 year -2 mons 3 days -04:05:06.000007', 'ffffffff-ffff-ffff-ffff-ffffffffffff', '\x00ff5c6e', '{"a" :  1.0, "a": 2}', '{"a": 1.0}', 'ab', ' x ',
     'n', '10.0.0.1/8', '10.0.0.0/8', '08:00:2b:01:02:03', '10110', 'it''s "odd"', -99.9999, '\N', '{1,NULL,-3}', ARRAY['a,b', NULL, 'NULL', '', '\', '"'], '{fine,"\\back"}',
     '{infinity,"2020-01-01 00:00:00.000001+00"}', '[1,5)', '{[1.5,2.5),[3,)}', '(,2020-01-01 00:00+00]', 'a:1A fat:2 ''q''''s'':3', '(0.1,-1e300)'),
    ('1981-03-15 12:00:00+00', '', false, 32767, 0, 9223372036854775807, '-Infinity', 0.1, '-Infinity', 0.00, 0, 0, '4714-11-24 BC', '00:00', '00:00-12',
     '0001-12-31 23:59:59.999999 BC', '0', '00000000-0000-0000-0000-000000000000', '', 'null', '"\u0001"', '', '', '', '::1', '::/0', 'ff:ff:ff:ff:ff:ff', '', 'fine', 0, '', '{}', '{{a,b},{c,d}}',
     '{}', NULL, 'empty', '{}', '(,)', '', '(Infinity,NaN)'),
    ('1999-12-31 23:59:59.999999+00', NULL, NULL, NULL, NULL, NULL, 1e-45, 1.7976931348623157e308, 1e-1000, NULL, -0.00000000000000000001, NULL, '9999-12-31', '23:59:59.999999',
     NULL, '1969-12-31 23:59:59.999999', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '\back', NULL, NULL, '[0:1]={7,8}', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
    INSERT INTO everything (at) SELECT '2021-01-01'::timestamptz + n * interval '7 hours' FROM generate_series(1, 500) n;
    UPDATE everything SET an = '{1.50,NULL,NaN}', a60 = '{0.1}', ab = ARRAY['\x005c'::bytea, NULL], aj = ARRAY['{"a": 1.0}'::jsonb, 'null'] WHERE i2 = -32768;
    -- A value that is kept outside of its row has all rows weighed.
    INSERT INTO everything (at, i4, bin) SELECT now(), 1, decode(string_agg(md5(g::text), ''), 'hex') FROM generate_series(1, 1000) g"#;

for_versions! {
    [pg14 = 14, pg15 = 15, pg18 = 18]
    /// A table with every type that can be kept leaves for files, by month,
    /// and comes back equal, field for field.
    async fn every_type_comes_back(major: u32) {
        let db = fresh_database(major).await;
        db.execute(EVERY_TYPE).await;
        let old = checksum(&db, "SELECT * FROM everything WHERE at < now() - interval '1 day'").await;
        let young = checksum(&db, "SELECT * FROM everything WHERE at >= now() - interval '1 day'").await;
        let (workspace, folder) = into_files(&db, &json!({ "table": "everything", "column": "at", "older_than": "1d" }));
        let dry = workspace.run(["run", "archive", "--dry-run", "--output", "json"]).expect(0).json();
        assert_eq!(dry["plans"][0]["rows"], 503);
        let run = archive(&workspace);
        assert_eq!(run["rows"], 503, "{run:#}");
        assert_eq!(checksum(&db, "SELECT * FROM everything").await, young);
        nothing_is_left(&workspace);

        let files = parquet_files(folder.path());
        assert!(files.iter().any(|f| f.starts_with("table=public.everything/year=2021/month=03/")), "{files:#?}");
        let listed = workspace.run(["archive", "list", "--output", "json"]).expect(0).json();
        let manifest = &listed["archived"][0]["manifest"];
        assert_eq!(manifest["rows"], 503);
        assert_eq!(manifest["settled"], true);
        workspace.run(["archive", "verify"]).expect(0);

        let output = workspace.run(["archive", "restore", "--into", "back", "--output", "json"]).expect(0).json();
        assert_eq!(output["rows"], 503);
        assert_eq!(checksum(&db, "SELECT * FROM back").await, old);
        // The types are the same, too.
        let types = "SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod), ', ' ORDER BY attnum) FROM pg_attribute WHERE attnum > 0 AND attrelid = ";
        assert_eq!(db.strings(&format!("{types} 'back'::regclass")).await, db.strings(&format!("{types} 'everything'::regclass")).await);

        // A file that somebody changed is noticed, and restores nothing.
        let file = folder.path().join(&files[0]);
        let mut content = std::fs::read(&file).unwrap();
        let middle = content.len() / 2;
        content[middle] ^= 1;
        std::fs::write(&file, content).unwrap();
        let verified = workspace.run(["archive", "verify"]).expect(1);
        assert!(verified.stdout.contains("SHA-256"), "{verified:#?}");
        workspace.run(["archive", "restore", "--into", "again"]).expect(1);
        assert_eq!(db.number("SELECT count(*) FROM pg_class WHERE relname = 'again'").await, 0);
    }
}

/// A folder takes 255 bytes: of names that need more its beginning, and what tells them apart.
#[tokio::test]
async fn the_longest_names_have_folders_of_their_own() {
    let db = fresh_database(17).await;
    let schema = "ü".repeat(31);
    let tables = ["日".repeat(21), format!("{}月", "日".repeat(20))];
    db.execute(&format!("CREATE SCHEMA \"{schema}\"")).await;
    let folder = tempfile::tempdir().unwrap();
    for (n, table) in tables.iter().enumerate() {
        let name = format!("\"{schema}\".\"{table}\"");
        db.execute(&format!("CREATE TABLE {name} (id int PRIMARY KEY, at timestamptz); INSERT INTO {name} SELECT g, '2001-01-01' FROM generate_series(1, {}) g", n + 3)).await;
        let options = json!({ "table": name, "column": "at", "older_than": "1d", "destination": { "files": format!("file://{}", folder.path().display()) } });
        let workspace = workspace(&db, &options);
        assert_eq!(archive(&workspace)["rows"], n + 3);
        assert_eq!(db.number(&format!("SELECT count(*) FROM {name}")).await, 0);
        workspace.run(["archive", "verify"]).expect(0);
        let back = format!("back_{n}");
        workspace
            .run(["archive", "restore", "--into", &back])
            .expect(0);
        assert_eq!(
            db.number(&format!("SELECT count(*) FROM {back}")).await,
            n as i64 + 3
        );
        nothing_is_left(&workspace);
    }
    assert_eq!(
        std::fs::read_dir(folder.path())
            .unwrap()
            .filter(|entry| entry.as_ref().unwrap().path().is_dir())
            .count(),
        2
    );
}

for_oldest_and_newest! {
    /// What cannot be kept exactly is refused by name before anything starts.
    async fn what_cannot_be_kept_is_refused(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TYPE pair AS (a int, b int);
            CREATE TABLE t (id int, at date, cash money, rel regclass, p pair, ps pair[], fine text);
            INSERT INTO t VALUES (1, '2020-01-01', 1, 'pg_class', (1, 2), NULL, 'x');
            CREATE TABLE parent (id int PRIMARY KEY, at date); CREATE TABLE child (id int REFERENCES parent ON DELETE CASCADE);
            INSERT INTO parent VALUES (1, '2020-01-01'); INSERT INTO child VALUES (1);
            CREATE TABLE parts (id int, at date, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
            CREATE TABLE part1 PARTITION OF parts FOR VALUES FROM ('2019-01-01') TO ('2021-01-01');
            CREATE TABLE of_part (id int, at date, FOREIGN KEY (id, at) REFERENCES part1 ON DELETE CASCADE);
            INSERT INTO parts VALUES (1, '2020-01-01'); INSERT INTO of_part VALUES (1, '2020-01-01')").await;
        for (table, parts) in [
            ("t", vec!["cash (money)", "rel (regclass)", "p (public.pair)", "ps (public.pair[])"]),
            ("parent", vec!["child_id_fkey", "public.child"]),
            ("parts", vec!["of_part_id_at_fkey", "public.of_part"]),
        ] {
            let (workspace, folder) = into_files(&db, &json!({ "table": table, "column": "at", "older_than": "1d" }));
            let run = refused(&workspace);
            let finding = &run["findings"][0];
            assert_eq!(finding["severity"], "critical");
            for part in parts {
                assert!(finding["message"].as_str().unwrap().contains(part), "{finding:#}");
            }
            assert_eq!(parquet_files(folder.path()), Vec::<String>::new());
            assert_eq!(db.number(&format!("SELECT count(*) FROM {table}")).await, 1);
        }
    }
}

for_oldest_and_newest! {
    /// A number that its form cannot hold keeps its row, and no other.
    async fn a_value_that_cannot_be_kept_keeps_its_row(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE t (id int, at date, n numeric(10, 2));
            INSERT INTO t SELECT g, '2020-01-01', CASE WHEN g = 70 THEN 'NaN'::numeric ELSE g END FROM generate_series(1, 100) g").await;
        let (workspace, folder) = into_files(&db, &json!({ "table": "t", "column": "at", "older_than": "1d" }));
        let output = workspace.run(["run", "archive", "--now", "--output", "json"]).expect(1).json();
        let error = output["runs"][0]["steps"][0]["error"].as_str().unwrap();
        assert!(error.contains("column n: NaN"), "{error}");
        assert_eq!(db.number("SELECT sum(id) FROM t").await, 70);
        assert!(!parquet_files(folder.path()).is_empty());
    }
}

for_versions! {
    [pg16 = 16]
    /// Into another table of the same database, which is made; hostile names;
    /// and a table that would lose rows or columns is refused.
    async fn into_another_table(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE SCHEMA \"select\"; CREATE SCHEMA archive;
            CREATE TABLE \"select\".\"weird \"\"name; DROP TABLE x\" (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, \"At\" timestamptz, v text, w text GENERATED ALWAYS AS (v || 'w') STORED);
            INSERT INTO \"select\".\"weird \"\"name; DROP TABLE x\" (\"At\", v) SELECT now() - n * interval '1 day', n FROM generate_series(1, 3000) n").await;
        let source = "\"select\".\"weird \"\"name; DROP TABLE x\"";
        for walk in ["blocks", "key"] {
            let days = if walk == "blocks" { 1000 } else { 500 };
            let old = format!("\"At\" < now() - interval '{days} days'");
            let before = checksum(&db, &format!("SELECT * FROM {source}")).await;
            let workspace = workspace(&db, &json!({ "table": source, "column": "At", "older_than": format!("{days}d"),
                "walk": walk, "destination": { "table": format!("archive.old_{walk}") }, "batch_goal": "50ms" }));
            let run = archive(&workspace);
            assert_eq!(db.number(&format!("SELECT count(*) FROM {source} WHERE {old}")).await, 0, "{run:#}");
            assert_eq!(checksum(&db, &format!("SELECT * FROM {source} UNION ALL SELECT * FROM archive.old_{walk}")).await, before);
            nothing_is_left(&workspace);
        }
        for (make, why) in [
            ("CREATE TABLE archive.bad (id bigint, \"At\" timestamptz, v text)", "has no column w"),
            ("CREATE TABLE archive.bad (id bigint, \"At\" timestamptz, v varchar(3), w text)", "is of type text here and character varying(3)"),
            ("CREATE TABLE archive.bad (id bigint, \"At\" timestamptz, v text, w text); CREATE RULE r AS ON INSERT TO archive.bad DO INSTEAD NOTHING", "may keep rows out"),
            ("CREATE VIEW archive.bad AS SELECT 1 AS id", "is a view; a destination is a table"),
        ] {
            db.execute("DROP TABLE IF EXISTS archive.bad").await;
            db.execute(make).await;
            let workspace = workspace(&db, &json!({ "table": source, "column": "At", "older_than": "1d", "destination": { "table": "archive.bad" } }));
            let run = refused(&workspace);
            assert!(run["findings"][0]["message"].as_str().unwrap().contains(why), "{run:#}");
        }
    }
}
