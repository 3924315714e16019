//! What is called back is back: after all triggers, with the values that went.

use serde_json::json;

use super::{run, workspace};
use crate::support::servers::{TestDatabase, fresh_database};
use crate::support::workspace::Workspace;

/// Six rows in an archive, with microseconds.
async fn archived(db: &TestDatabase) -> (Workspace, tempfile::TempDir) {
    db.execute("CREATE TABLE t (id int, at timestamptz NOT NULL);
        INSERT INTO t SELECT g, '2020-05-05 10:11:12.345678+00'::timestamptz + g * interval '1 day' FROM generate_series(1, 6) g").await;
    let folder = tempfile::tempdir().unwrap();
    let files = format!("file://{}", folder.path().display());
    let options = json!({ "table": "t", "column": "at", "older_than": "1y", "destination": { "files": files } });
    let workspace = workspace(db, db, "archive", &options);
    run(&workspace, "archive", 0);
    (workspace, folder)
}

const RESTORE: [&str; 6] = ["archive", "restore", "--from", "t", "--into", "back.t"];

for_versions! {
    [pg15 = 15]
    /// Triggers that delete or change rows, at once or at the end of the
    /// transaction, and columns that round: nothing is restored, the reason is
    /// said, and once it is mended all rows come back.
    async fn what_comes_back_otherwise_does_not_come_back(major: u32) {
        let db = fresh_database(major).await;
        let (workspace, _folder) = archived(&db).await;
        db.execute("CREATE SCHEMA back;
            CREATE FUNCTION loses() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN DELETE FROM back.t WHERE id = 2 AND new.id = 2; RETURN NULL; END $$;
            CREATE FUNCTION turns() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE back.t SET id = -3 WHERE id = 3 AND new.id = 3; RETURN NULL; END $$").await;
        let trigger = |kind: &str, function: &str| format!("CREATE {kind} FOR EACH ROW EXECUTE FUNCTION {function}()");
        let deferred = "CONSTRAINT TRIGGER late AFTER INSERT ON back.t DEFERRABLE INITIALLY DEFERRED";
        for (columns, trigger, said) in [
            ("id int, at timestamptz", trigger("TRIGGER now AFTER INSERT ON back.t", "loses"), "of 6 archived rows 5 are in back.t"),
            ("id int, at timestamptz", trigger(deferred, "loses"), "of 6 archived rows 5 are in back.t"),
            ("id int, at timestamptz", trigger(deferred, "turns"), "of 6 archived rows 5 are in back.t"),
            ("id int, at timestamptz(0)", String::new(), "at is timestamp(0) with time zone there and timestamp with time zone in the archive"),
            ("id int, at date", String::new(), "at is date there and timestamp with time zone in the archive"),
        ] {
            db.execute(&format!("DROP TABLE IF EXISTS back.t; CREATE TABLE back.t ({columns}); {trigger}")).await;
            for _ in 0..2 {
                let refused = workspace.run(RESTORE).expect(1).stderr;
                assert!(refused.contains("nothing was restored") && refused.contains(said), "{refused}");
                assert_eq!(db.number("SELECT count(*) FROM back.t").await, 0, "{said}");
            }
        }
        // Mended, they come, and twice they do not.
        db.execute("DROP TABLE back.t; CREATE TABLE back.t (id bigint, at timestamptz)").await;
        db.execute(&trigger("TRIGGER now AFTER INSERT ON back.t", "loses")).await;
        workspace.run(RESTORE.into_iter().chain(["--disable-triggers"])).expect(0);
        assert_eq!(
            db.strings("SELECT string_agg(id || ' ' || extract(microseconds FROM at)::int8, ',' ORDER BY id) FROM back.t").await,
            ["1 12345678,2 12345678,3 12345678,4 12345678,5 12345678,6 12345678"]
        );
        assert_eq!(db.strings("SELECT tgenabled::text FROM pg_trigger WHERE tgname = 'now'").await, ["O"]);
        assert!(workspace.run(RESTORE).expect(2).stderr.contains("back already"));
        assert_eq!(db.number("SELECT count(*) FROM back.t").await, 6);
    }
}

/// Into partitions, beside rows that are there, past a rule and a constraint
/// that is checked at the end; columns of other types that hold the same.
#[tokio::test]
async fn what_comes_back_as_it_was_comes_back() {
    let db = fresh_database(17).await;
    let (workspace, _folder) = archived(&db).await;
    db.execute("CREATE SCHEMA back; CREATE TABLE back.known (id int PRIMARY KEY); INSERT INTO back.known SELECT generate_series(1, 10);
        CREATE TABLE back.t (id numeric, at text, note text DEFAULT 'none') PARTITION BY LIST (id);
        CREATE TABLE back.t_1 PARTITION OF back.t FOR VALUES IN (1, 2, 3); CREATE TABLE back.t_2 PARTITION OF back.t DEFAULT;
        INSERT INTO back.t SELECT 4, 'there before' FROM generate_series(1, 500); DELETE FROM back.t WHERE ctid::text LIKE '(0,%';
        CREATE RULE away AS ON INSERT TO back.t DO INSTEAD NOTHING").await;
    db.execute("VACUUM back.t").await;
    let before = db.number("SELECT count(*) FROM back.t").await;
    let refused = workspace.run(RESTORE).expect(1).stderr;
    assert!(refused.contains("rule away"), "{refused}");
    workspace
        .run(RESTORE.into_iter().chain(["--disable-triggers"]))
        .expect(0);
    assert_eq!(db.number("SELECT count(*) FROM back.t").await, before + 6);
    assert_eq!(
        db.strings("SELECT at FROM back.t WHERE id = 2").await,
        ["2020-05-07 10:11:12.345678+00"]
    );
    assert_eq!(
        db.number("SELECT count(*) FROM back.t WHERE note = 'none'")
            .await,
        before + 6
    );
    assert_eq!(
        db.strings("SELECT ev_enabled::text FROM pg_rewrite WHERE rulename = 'away'")
            .await,
        ["O"]
    );
}

for_oldest_and_newest! {
    /// A label that was renamed since: the archive, the column and what helps
    /// are named, and both ways that are offered work.
    async fn a_label_that_was_renamed_is_named(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TYPE mood AS ENUM ('ok', 'sad'); CREATE TABLE t (id int, at timestamptz NOT NULL, mood mood);
            INSERT INTO t VALUES (1, '2020-01-01', 'ok'), (2, '2020-01-01', 'sad')").await;
        let folder = tempfile::tempdir().unwrap();
        let files = format!("file://{}", folder.path().display());
        let options = json!({ "table": "t", "column": "at", "older_than": "1y", "destination": { "files": files } });
        let workspace = workspace(&db, &db, "archive", &options);
        run(&workspace, "archive", 0);
        db.execute("ALTER TYPE mood RENAME VALUE 'sad' TO 'unhappy'").await;
        let restore = |into: &str| workspace.run(["archive", "restore", "--from", "t", "--into", into]);
        let refused = restore("again").expect(1).stderr;
        let words = refused.split_whitespace().collect::<Vec<_>>().join(" ");
        for part in ["nothing was restored", "column mood of public.again", ".manifest.json", "ADD VALUE", "is of type text"] {
            assert!(words.contains(part), "{part}: {refused}");
        }
        assert_eq!(db.number("SELECT count(*) FROM pg_class WHERE relname = 'again'").await, 0);
        db.execute("CREATE TABLE texts (id int, at timestamptz, mood text)").await;
        restore("texts").expect(0);
        assert_eq!(db.strings("SELECT mood FROM texts ORDER BY id").await, ["ok", "sad"]);
        db.execute("ALTER TYPE mood ADD VALUE 'sad'").await;
        restore("again").expect(0);
        assert_eq!(db.strings("SELECT mood::text FROM again ORDER BY id").await, ["ok", "sad"]);
    }
}

for_oldest_and_newest! {
    /// A column that got a time zone between two archives: what it meant before, people know. Each
    /// part comes back by itself, as it was.
    async fn times_without_a_zone_become_no_moments(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE t (id int PRIMARY KEY, at timestamp NOT NULL); INSERT INTO t VALUES (1, '2020-05-05 10:00')").await;
        let folder = tempfile::tempdir().unwrap();
        let files = format!("file://{}", folder.path().display());
        let options = json!({ "table": "t", "column": "at", "older_than": "1y", "destination": { "files": files } });
        let workspace = workspace(&db, &db, "archive", &options);
        run(&workspace, "archive", 0);
        db.execute("ALTER TABLE t ALTER at TYPE timestamptz USING at AT TIME ZONE 'Asia/Tokyo'; INSERT INTO t VALUES (2, '2020-05-05 10:00+02');
            CREATE SCHEMA back; CREATE TABLE back.t (id int, at timestamptz); CREATE TABLE back.wall (id int, at timestamp(3))").await;
        run(&workspace, "archive", 0);
        for (into, said) in [
            ("back.t", "column at of back.t is timestamp with time zone, and was timestamp without time zone"),
            ("back.two", "column at of back.two is timestamp with time zone, and was timestamp without time zone"),
            ("back.wall", "column at of back.wall is timestamp(3) without time zone, and was timestamp with time zone"),
        ] {
            let refused = workspace.run(["archive", "restore", "--from", "t", "--into", into]).expect(1).stderr;
            assert!(refused.contains(said), "{refused}");
        }
        assert_eq!(db.number("SELECT (SELECT count(*) FROM back.t) + (SELECT count(*) FROM back.wall)").await, 0);
        let listed = workspace.run(["archive", "list", "--output", "json"]).expect(0).json();
        let mut back = Vec::new();
        for one in listed["archived"].as_array().unwrap() {
            let id = one["manifest"]["id"].as_str().unwrap();
            let into = format!("back.\"{id}\"");
            workspace.run(["archive", "restore", id, "--into", &into]).expect(0);
            back.extend(db.strings(&format!("SELECT pg_typeof(at)::text || ' ' || extract(epoch FROM at)::bigint FROM {into}")).await);
        }
        back.sort();
        assert_eq!(back, ["timestamp with time zone 1588665600", "timestamp without time zone 1588672800"]);
    }
}
