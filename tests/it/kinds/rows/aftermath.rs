//! What triggers do behind a statement's back: rows that they put back, settings that they leave
//! in the session, errors that sound like the server's own.

use serde_json::{Value, json};

use super::{attempt, cleanup, finding, run, workspace};
use crate::support::servers::{TestDatabase, fresh_database};

pub(super) const OLD: &str = "now() - interval '2 years'";

/// Every way of a batch: what it is called, and how its task is written.
pub(super) fn ways(files: &str) -> [(&'static str, &'static str, Value); 4] {
    let rule = json!({ "table": "t", "column": "at", "older_than": "1y" });
    let archive = |destination: Value| {
        let mut options = rule.clone();
        options["destination"] = destination;
        options["batch_goal"] = json!("30ms");
        options
    };
    [
        (
            "delete",
            "cleanup",
            json!({ "rules": [rule], "batch_goal": "30ms" }),
        ),
        ("files", "archive", archive(json!({ "files": files }))),
        ("table", "archive", archive(json!({ "table": "kept" }))),
        (
            "database",
            "archive",
            archive(json!({ "database": "there", "table": "kept" })),
        ),
    ]
}

async fn trigger(db: &TestDatabase, body: &str, when: &str) {
    db.execute(&format!(
        "CREATE OR REPLACE FUNCTION acts() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN {body}; RETURN old; END$$;
         DROP TRIGGER IF EXISTS acts ON t; CREATE {when} FOR EACH ROW EXECUTE FUNCTION acts()"
    ))
    .await;
}

for_versions! {
    [pg15 = 15]
    /// A trigger puts five of a hundred rows back: they stay, are named, and are nowhere else; the
    /// others go. Where it puts all of them back, nothing has gone, and the run has not succeeded.
    async fn what_a_trigger_puts_back_has_not_gone(major: u32) {
        let db = fresh_database(major).await;
        let there = fresh_database(major).await;
        let folder = tempfile::tempdir().unwrap();
        let files = format!("file://{}", folder.path().display());
        let deferred = "CONSTRAINT TRIGGER acts AFTER DELETE ON t DEFERRABLE INITIALLY DEFERRED";
        let (some, all) = (("old.id % 20 = 7", 5, deferred), ("true", 100, "TRIGGER acts AFTER DELETE ON t"));
        for ((name, kind, options), (which, stays, when)) in ways(&files).into_iter().zip([some, all, some, all]) {
            for one in [&db, &there] {
                one.execute("DROP TABLE IF EXISTS t, kept; CREATE TABLE t (id int, at timestamptz NOT NULL);
                    CREATE TABLE kept (id int, at timestamptz NOT NULL)").await;
            }
            db.execute(&format!("INSERT INTO t SELECT g, {OLD} FROM generate_series(1, 100) g")).await;
            // In a block of its own, and so in a transaction of its own below ours.
            let body = format!("IF {which} THEN BEGIN INSERT INTO public.t VALUES (old.*); EXCEPTION WHEN division_by_zero THEN NULL; END; END IF");
            trigger(&db, &body, when).await;
            let workspace = workspace(&db, &there, kind, &options);
            let first = run(&workspace, kind, 1);
            assert_eq!(db.number("SELECT count(*) FROM t").await, stays, "{name} {which} {when}: {first:#}");
            assert_eq!(first["rows"].as_i64().unwrap_or(0), 100 - stays, "{name} {which}: {first:#}");
            let told = finding(&first, "rows.refused");
            assert!(told.starts_with(&format!("{stays} rows of public.t")) && told.contains("puts rows that meet the rule into public.t"), "{told}");
            let twice = "SELECT count(*) FROM (SELECT id FROM kept) AS k";
            let kept = db.number(twice).await + there.number(twice).await;
            let moved = matches!(name, "table" | "database");
            assert_eq!(kept, if moved { 100 - stays } else { 0 }, "{name} {which}");
            let again = run(&workspace, kind, 1);
            assert_eq!(again["rows"].as_i64().unwrap_or(0), 0, "{name} {which}: {again:#}");
            assert_eq!(db.number("SELECT count(*) FROM t").await, stays, "{name} {which}");
        }
        // A summary that does not meet the rule may be written.
        db.execute(&format!("TRUNCATE t; INSERT INTO t SELECT g, {OLD} FROM generate_series(1, 100) g")).await;
        trigger(&db, "INSERT INTO public.t VALUES (1000 + old.id, pg_catalog.now())", "TRIGGER acts AFTER DELETE ON t").await;
        let done = run(&cleanup(&db, &json!([{ "table": "t", "column": "at", "older_than": "1y" }])), "cleanup", 0);
        assert_eq!(done["rows"], 100, "{done:#}");
        assert_eq!(db.number("SELECT count(*) FROM t WHERE id > 1000").await, 100);
    }
}

for_versions! {
    [pg18 = 18]
    /// What a trigger sets in the session is no setting of the next batch: values are archived as
    /// they are, into files, a table and another database.
    async fn what_a_trigger_sets_spoils_no_value(major: u32) {
        let db = fresh_database(major).await;
        let there = fresh_database(major).await;
        let folder = tempfile::tempdir().unwrap();
        let files = format!("file://{}", folder.path().display());
        let columns = "(id int, at timestamptz NOT NULL, f float8[], p point, r tstzrange)";
        for (name, kind, options) in ways(&files) {
            for one in [&db, &there] {
                one.execute(&format!("DROP TABLE IF EXISTS t, kept, same; CREATE TABLE t {columns}; CREATE TABLE kept {columns}")).await;
            }
            db.execute(&format!(
                "INSERT INTO t SELECT g, {OLD}, ARRAY[1.0/3.0 * g, pi() * g], point(pi() * g, g / 7.0), tstzrange('2024-02-03', '2024-03-02')
                    FROM generate_series(1, 6000) g; CREATE TABLE same AS SELECT * FROM t"
            )).await;
            trigger(&db, "PERFORM pg_catalog.set_config('extra_float_digits', '-3', false); SET DateStyle = 'SQL, DMY'; SET client_encoding = 'LATIN1'",
                "TRIGGER acts AFTER DELETE ON t").await;
            let workspace = workspace(&db, &there, kind, &options);
            let done = run(&workspace, kind, 0);
            assert_eq!(done["rows"], 6_000, "{name}: {done:#}");
            let all = "SELECT md5(string_agg(ROW(id, f, p, r)::text, ',' ORDER BY id)) FROM";
            let was = db.strings(&format!("{all} same")).await;
            let is = match name {
                "files" => {
                    workspace.run(["archive", "restore", "--from", "t", "--into", "came"]).expect(0);
                    db.strings(&format!("{all} came")).await
                }
                "table" => db.strings(&format!("{all} kept")).await,
                "database" => there.strings(&format!("{all} kept")).await,
                _ => was.clone(),
            };
            assert_eq!(is, was, "{name}");
        }
    }
}

for_oldest_and_newest! {
    /// How a condition is read is settled before any trigger: `keep` keeps in every batch.
    async fn what_a_trigger_sets_changes_no_condition(major: u32) {
        let db = fresh_database(major).await;
        db.execute(&format!("CREATE SCHEMA ext; CREATE EXTENSION citext SCHEMA ext; CREATE TABLE t (id int, name ext.citext, at timestamptz NOT NULL);
            INSERT INTO t SELECT g, CASE WHEN g % 10 = 0 THEN 'Root' ELSE 'guest' END, {OLD} FROM generate_series(1, 20000) g")).await;
        trigger(&db, "SET search_path TO public; SET row_security = off; SET ROLE pg_read_all_data", "TRIGGER acts BEFORE DELETE ON t").await;
        let rules = json!([{ "table": "t", "column": "at", "older_than": "1y", "keep": ["name = 'root'"] }]);
        let done = run(&cleanup(&db, &rules), "cleanup", 0);
        assert_eq!(done["rows"], 18_000, "{done:#}");
        assert_eq!(db.number("SELECT count(*) FROM t WHERE lower(name::text) = 'root'").await, 2_000);
    }
}

for_oldest_and_newest! {
    /// Where a trigger has the server watch no keys any more, nothing of that batch stays.
    async fn no_row_goes_while_keys_are_not_watched(major: u32) {
        let db = fresh_database(major).await;
        db.execute(&format!("CREATE TABLE t (id int PRIMARY KEY, at timestamptz NOT NULL);
            CREATE TABLE child (id int REFERENCES t ON DELETE CASCADE); CREATE INDEX ON child (id);
            INSERT INTO t SELECT g, {OLD} FROM generate_series(1, 3000) g; INSERT INTO child SELECT id FROM t")).await;
        trigger(&db, "IF old.id = 1500 THEN SET session_replication_role = replica; END IF", "TRIGGER acts BEFORE DELETE ON t").await;
        let first = run(&cleanup(&db, &json!([{ "table": "t", "column": "at", "older_than": "1y" }])), "cleanup", 1);
        let told = finding(&first, "rows.refused");
        assert!(told.contains("sets session_replication_role for the session"), "{told}");
        assert_eq!(db.strings("SELECT string_agg(id::text, ' ') FROM t").await, ["1500"], "{first:#}");
        assert_eq!(db.number("SELECT count(*) FROM child WHERE id NOT IN (SELECT id FROM t)").await, 0);
    }
}

for_versions! {
    [pg16 = 16]
    /// A trigger that holds a row with a code which elsewhere means "later": the others go, and
    /// the row is named.
    async fn a_row_held_by_the_codes_of_conflicts_keeps_nobody(major: u32) {
        let db = fresh_database(major).await;
        let there = fresh_database(major).await;
        let folder = tempfile::tempdir().unwrap();
        let files = format!("file://{}", folder.path().display());
        for (code, (name, kind, options)) in ["40001", "55P03", "40P01", "40001"].into_iter().zip(ways(&files)) {
            for one in [&db, &there] {
                one.execute("DROP TABLE IF EXISTS t, kept; CREATE TABLE t (id int, at timestamptz NOT NULL);
                    CREATE TABLE kept (id int, at timestamptz NOT NULL)").await;
            }
            db.execute(&format!("INSERT INTO t SELECT g, {OLD} FROM generate_series(1, 300) g")).await;
            trigger(&db, &format!("IF old.id = 77 THEN RAISE EXCEPTION 'held by legal' USING ERRCODE = '{code}'; END IF"),
                "TRIGGER acts AFTER DELETE ON t").await;
            let first = attempt(&workspace(&db, &there, kind, &options), kind);
            assert_eq!(db.strings("SELECT string_agg(id::text, ' ') FROM t").await, ["77"], "{code} {name}: {first:#}");
            assert_eq!(first["status"], "failed", "{code} {name}: {first:#}");
            assert!(finding(&first, "rows.refused").contains("held by legal"), "{first:#}");
        }
    }
}

for_versions! {
    [pg17 = 17]
    /// A trigger of a child that goes along puts its parent, and itself, back: nothing hangs on the
    /// parent but the key.
    async fn what_the_trigger_of_a_child_puts_back_has_not_gone(major: u32) {
        let db = fresh_database(major).await;
        for timing in ["TRIGGER back AFTER DELETE ON child", "CONSTRAINT TRIGGER back AFTER DELETE ON child DEFERRABLE INITIALLY DEFERRED"] {
            db.execute(&format!("DROP TABLE IF EXISTS t, child; CREATE TABLE t (id int PRIMARY KEY, at timestamptz NOT NULL);
                CREATE TABLE child (id int REFERENCES t ON DELETE CASCADE); CREATE INDEX ON child (id);
                INSERT INTO t SELECT g, {OLD} FROM generate_series(1, 100) g; INSERT INTO child SELECT id FROM t;
                CREATE OR REPLACE FUNCTION back() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
                    IF old.id % 20 = 7 THEN INSERT INTO public.t VALUES (old.id, {OLD}); INSERT INTO public.child VALUES (old.id); END IF;
                    RETURN NULL; END$$;
                CREATE {timing} FOR EACH ROW EXECUTE FUNCTION back()")).await;
            let workspace = cleanup(&db, &json!([{ "table": "t", "column": "at", "older_than": "1y" }]));
            for gone in [95, 0] {
                let done = run(&workspace, "cleanup", 1);
                assert_eq!(done["rows"].as_i64().unwrap_or(0), gone, "{timing}: {done:#}");
                let told = finding(&done, "rows.refused");
                assert!(told.starts_with("5 rows of public.t ") && told.contains("puts rows that meet the rule into public.t"), "{told}");
                for table in ["t", "child"] {
                    let left = db.strings(&format!("SELECT string_agg(id::text, ' ' ORDER BY id) FROM {table}")).await;
                    assert_eq!(left, ["7 27 47 67 87"], "{timing} {table}: {done:#}");
                }
            }
        }
    }
}

for_versions! {
    [pg17 = 17]
    /// What a rule inserts before the rows go, and what goes with them, was not meant and is not
    /// counted; what it leaves in the table stays, and is named.
    async fn what_a_rule_inserts_is_not_counted_as_gone(major: u32) {
        let db = fresh_database(major).await;
        for (rows, stays) in [(100, 0), (4_000, 20)] {
            db.execute(&format!("DROP TABLE IF EXISTS t; CREATE TABLE t (id int, at timestamptz NOT NULL);
                INSERT INTO t SELECT g, {OLD} FROM generate_series(1, {rows}) g;
                CREATE RULE again AS ON DELETE TO t WHERE old.id % 100 = 7 AND old.id <= 2000 DO ALSO INSERT INTO t VALUES (old.id, old.at)")).await;
            let workspace = cleanup(&db, &json!([{ "table": "t", "column": "at", "older_than": "1y" }]));
            let done = attempt(&workspace, "cleanup");
            let left = db.number("SELECT count(*) FROM t").await;
            assert_eq!(done["rows"].as_i64().unwrap_or(0), rows - left, "{done:#}");
            assert!(left <= stays, "{done:#}");
            assert_eq!(done["status"] == "succeeded", left == 0, "{done:#}");
            if left > 0 {
                assert!(finding(&done, "rows.refused").contains("rule again"), "{done:#}");
            }
        }
    }
}
