//! What leaves is elsewhere, exactly as it was; else nothing leaves.

use serde_json::json;

use super::{attempt, cleanup, finding, run, workspace};
use crate::support::servers::fresh_database;

const SOURCE: &str = "CREATE TABLE t (id int PRIMARY KEY, at timestamptz NOT NULL, v text);
    INSERT INTO t SELECT g, now() - interval '2 years', 'v' || g FROM generate_series(1, 10) g";

/// Whatever a trigger in the destination, or in one of its leaves, makes of
/// the rows: nothing goes.
#[tokio::test]
async fn what_the_destination_changes_stays_here() {
    let (db, there) = (fresh_database(17).await, fresh_database(17).await);
    db.execute(SOURCE).await;
    let functions = "CREATE FUNCTION loses() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN CASE WHEN new.id % 2 = 0 THEN NULL ELSE new END; END';
        CREATE FUNCTION changes() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN new.v = upper(new.v); RETURN new; END';
        CREATE FUNCTION later() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN UPDATE public.old SET v = ''x'' WHERE id = new.id; RETURN NULL; END';
        CREATE FUNCTION removes() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN DELETE FROM public.old WHERE id = new.id; RETURN NULL; END'";
    for place in [&db, &there] {
        place.execute(functions).await;
    }
    let table = "CREATE TABLE old (id int, at timestamptz, v text) PARTITION BY RANGE (at); CREATE TABLE old_rest PARTITION OF old DEFAULT; ";
    for trigger in [
        "BEFORE INSERT ON old_rest FOR EACH ROW EXECUTE FUNCTION loses()",
        "BEFORE INSERT ON old_rest FOR EACH ROW EXECUTE FUNCTION changes()",
        "AFTER INSERT ON old_rest FOR EACH ROW EXECUTE FUNCTION later()",
        "AFTER INSERT ON old_rest FOR EACH ROW EXECUTE FUNCTION removes()",
    ] {
        for (place, destination) in [
            (&db, json!({ "table": "old" })),
            (&there, json!({ "table": "old", "database": "there" })),
        ] {
            place
                .execute(&format!(
                    "DROP TABLE IF EXISTS old; {table} CREATE TRIGGER t {trigger}"
                ))
                .await;
            let options = json!({ "table": "t", "column": "at", "older_than": "1y", "destination": destination });
            let workspace = workspace(&db, &there, "archive", &options);
            let run = run(&workspace, "archive", 1);
            assert_eq!(run["steps"][0]["status"], "failed", "{trigger}: {run:#}");
            assert_eq!(
                db.number("SELECT count(*) FROM t WHERE v = 'v' || id")
                    .await,
                10,
                "{trigger}"
            );
            assert_eq!(
                place.number("SELECT count(*) FROM old").await,
                0,
                "{trigger}"
            );
        }
    }
    // Triggers that do something else are as the application wants them.
    db.execute(&format!(
        "DROP TABLE old; {table} CREATE TABLE audit (id int);
         CREATE FUNCTION notes() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.audit VALUES (new.id); RETURN NULL; END';
         CREATE TRIGGER t AFTER INSERT ON old_rest FOR EACH ROW EXECUTE FUNCTION notes()"
    )).await;
    let options = json!({ "table": "t", "column": "at", "older_than": "1y", "destination": { "table": "old" } });
    let workspace = workspace(&db, &there, "archive", &options);
    assert_eq!(run(&workspace, "archive", 0)["rows"], 10);
    assert_eq!(
        db.number("SELECT count(*) FROM old JOIN audit USING (id) WHERE v = 'v' || id")
            .await,
        10
    );
    assert_eq!(db.number("SELECT count(*) FROM t").await, 0);
    assert_eq!(run(&workspace, "archive", 0)["steps"], json!([]));
}

/// Identity columns keep their values; a destination that is below or above
/// the table, and columns that only a member has, are refused; a row of a
/// diamond goes once.
#[tokio::test]
async fn odd_destinations_and_members() {
    let (db, there) = (fresh_database(17).await, fresh_database(17).await);
    db.execute(SOURCE).await;
    let to = |destination: serde_json::Value| json!({ "table": "t", "column": "at", "older_than": "1y", "destination": destination });
    for (place, name, destination) in [
        (&db, "here", json!({ "table": "kept.old" })),
        (
            &there,
            "there",
            json!({ "table": "kept.old", "database": "there" }),
        ),
    ] {
        place.execute("CREATE SCHEMA kept; CREATE TABLE kept.old (id int GENERATED ALWAYS AS IDENTITY, at timestamptz, v text)").await;
        let workspace = workspace(&db, &there, "archive", &to(destination));
        assert_eq!(run(&workspace, "archive", 0)["rows"], 10, "{name}");
        assert_eq!(
            place
                .number("SELECT count(*) FROM kept.old WHERE v = 'v' || id")
                .await,
            10,
            "{name}"
        );
        db.execute("INSERT INTO t SELECT g, now() - interval '2 years', 'v' || g FROM generate_series(1, 10) g").await;
    }
    // A schema that is not there is made.
    let made = workspace(&db, &there, "archive", &to(json!({ "table": "fresh.old" })));
    assert_eq!(run(&made, "archive", 0)["rows"], 10);
    assert_eq!(db.number("SELECT count(*) FROM fresh.old").await, 10);
    let elsewhere = to(json!({ "table": "fresh.old", "database": "there" }));
    db.execute("INSERT INTO t SELECT g, now() - interval '2 years', 'v' || g FROM generate_series(1, 10) g").await;
    assert_eq!(
        run(&workspace(&db, &there, "archive", &elsewhere), "archive", 0)["rows"],
        10
    );
    assert_eq!(there.number("SELECT count(*) FROM fresh.old").await, 10);

    db.execute("INSERT INTO t SELECT g, now() - interval '2 years', 'v' || g FROM generate_series(1, 10) g;
        CREATE TABLE below () INHERITS (t)").await;
    let refused = attempt(
        &workspace(&db, &there, "archive", &to(json!({ "table": "below" }))),
        "archive",
    );
    assert!(
        refused["findings"].to_string().contains("inherit"),
        "{refused:#}"
    );
    // The same table by another name of its server.
    let same = workspace(
        &db,
        &db,
        "archive",
        &to(json!({ "table": "t", "database": "there" })),
    );
    let refused = run(&same, "archive", 1);
    assert!(refused.to_string().contains("same table"), "{refused:#}");
    assert_eq!(db.number("SELECT count(*) FROM t").await, 10);

    db.execute("DROP TABLE below; CREATE TABLE a () INHERITS (t); CREATE TABLE b () INHERITS (t); CREATE TABLE c () INHERITS (a, b);
        CREATE TABLE d (more text) INHERITS (t);
        INSERT INTO c SELECT g, now() - interval '2 years', 'c' FROM generate_series(1, 5) g;
        INSERT INTO d VALUES (1, now() - interval '2 years', 'd', 'more')").await;
    let diamond = workspace(&db, &there, "archive", &to(json!({ "table": "diamond" })));
    let run = attempt(&diamond, "archive");
    assert_eq!(run["rows"], 15, "{run:#}");
    assert!(run["findings"].to_string().contains("more"), "{run:#}");
    assert_eq!(
        db.number("SELECT count(*) FROM d WHERE more = 'more'")
            .await,
        1
    );
    assert_eq!(db.number("SELECT count(*) FROM t").await, 1);
    assert_eq!(db.number("SELECT count(*) FROM diamond").await, 15);
}

/// A delete that fails only when it commits: nothing is in two places.
#[tokio::test]
async fn a_commit_that_fails_is_settled_at_once() {
    let (db, there) = (fresh_database(17).await, fresh_database(16).await);
    db.execute("CREATE TABLE p (id int PRIMARY KEY, at timestamptz NOT NULL); CREATE TABLE k (pid int REFERENCES p DEFERRABLE INITIALLY DEFERRED);
        CREATE INDEX ON k (pid);
        INSERT INTO p SELECT g, now() - interval '2 years' FROM generate_series(1, 50) g; INSERT INTO k VALUES (7)").await;
    let folder = tempfile::tempdir().unwrap();
    let files = format!("file://{}", folder.path().display());
    for (n, destination) in [
        json!({ "table": "old", "database": "there" }),
        json!({ "table": "old" }),
        json!({ "files": files }),
    ]
    .into_iter()
    .enumerate()
    {
        let options =
            json!({ "table": "p", "column": "at", "older_than": "1y", "destination": destination });
        let workspace = workspace(&db, &there, "archive", &options);
        let first = run(&workspace, "archive", 0);
        assert_eq!(first["rows"], 49, "{n}: {first:#}");
        let kept = finding(&first, "rows.referenced");
        assert!(
            kept.contains("k_pid_fkey") && kept.contains("1 row of"),
            "{kept}"
        );
        assert_eq!(db.number("SELECT sum(id) FROM p").await, 7);
        let again = run(&workspace, "archive", 0);
        assert_eq!(again["rows"], 0, "{n}: {again:#}");
        db.execute("INSERT INTO p SELECT g, now() - interval '2 years' FROM generate_series(1, 50) g WHERE g <> 7").await;
    }
    assert_eq!(there.number("SELECT count(*) FROM old").await, 49);
    assert_eq!(db.number("SELECT count(*) FROM old").await, 49);
}

/// Triggers and rules that keep rows without an error are told.
#[tokio::test]
async fn rows_that_refuse_to_go_are_told() {
    let db = fresh_database(17).await;
    db.execute("CREATE FUNCTION stays() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
        CREATE FUNCTION complains() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN IF old.id = 77 THEN RAISE EXCEPTION ''not this one''; END IF; RETURN old; END'").await;
    for (hang, left, word) in [
        (
            "CREATE TRIGGER kept BEFORE DELETE ON t FOR EACH ROW EXECUTE FUNCTION stays()",
            401,
            "trigger kept",
        ),
        (
            "CREATE RULE kept AS ON DELETE TO t DO INSTEAD NOTHING",
            401,
            "rule kept",
        ),
        (
            "CREATE TRIGGER kept BEFORE DELETE ON t FOR EACH ROW EXECUTE FUNCTION complains()",
            1,
            "not this one",
        ),
    ] {
        db.execute("DROP TABLE IF EXISTS t CASCADE; CREATE TABLE t (id int PRIMARY KEY, at timestamptz NOT NULL);
            INSERT INTO t SELECT g, now() - interval '2 years' FROM generate_series(1, 401) g").await;
        db.execute(hang).await;
        for walk in ["blocks", "key"] {
            let workspace = cleanup(
                &db,
                &json!([{ "table": "t", "column": "at", "older_than": "1y", "walk": walk }]),
            );
            let run = run(&workspace, "cleanup", 1);
            assert_eq!(db.number("SELECT count(*) FROM t").await, left, "{run:#}");
            let told = finding(&run, "rows.refused");
            assert!(
                told.contains(&format!("{left} row")) && told.contains(word),
                "{told}"
            );
            assert_eq!(run["steps"][0]["status"], "failed");
        }
    }
}

/// However large rows are, memory stays bounded; what does not fit is named,
/// and keeps nobody else.
#[tokio::test]
async fn memory_is_bounded_by_bytes() {
    let (db, there) = (fresh_database(17).await, fresh_database(17).await);
    db.execute(
        "CREATE TABLE t (id int PRIMARY KEY, at timestamptz NOT NULL, b bytea, v text);
        ALTER TABLE t ALTER b SET STORAGE EXTERNAL; ALTER TABLE t ALTER v SET STORAGE EXTERNAL",
    )
    .await;
    let folder = tempfile::tempdir().unwrap();
    let files = format!("file://{}", folder.path().display());
    for destination in [
        json!({ "files": files }),
        json!({ "table": "old", "database": "there" }),
    ] {
        db.execute("INSERT INTO t SELECT g, now() - interval '2 years', convert_to(repeat(md5(g::text), 98304), 'UTF8'), NULL FROM generate_series(1, 60) g;
            INSERT INTO t SELECT g, now() - interval '2 years', NULL, repeat('x', 40000000) FROM generate_series(101, 102) g").await;
        for walk in ["blocks", "key"] {
            let options = json!({ "table": "t", "column": "at", "older_than": "1y", "walk": walk, "destination": destination });
            let workspace = workspace(&db, &there, "archive", &options);
            let (peak, out) = crate::support::memory::peak_of(
                &workspace,
                &["run", "archive", "--now", "--output", "json"],
            );
            assert!(peak < 128 << 20, "{} MB, {walk}, {destination}", peak >> 20);
            let run: serde_json::Value = serde_json::from_str(&out).unwrap();
            let run = &run["runs"][0];
            assert_eq!(
                run["rows"],
                if walk == "blocks" { 60 } else { 0 },
                "{run:#}"
            );
            assert!(
                finding(run, "rows.too_large").contains("2 rows of public.t"),
                "{run:#}"
            );
            assert_eq!(db.number("SELECT count(*) FROM t").await, 2);
        }
        db.execute("TRUNCATE t").await;
    }
    let restored = crate::support::workspace::Workspace::for_target(&db.url);
    let (peak, _) = crate::support::memory::peak_of(
        &restored,
        &["archive", "restore", "--files", &files, "--into", "back"],
    );
    assert_eq!(db.number("SELECT count(*) FROM back").await, 60);
    assert!(peak < 128 << 20, "{} MB to restore", peak >> 20);
}

/// Arrays come with four bytes before each element, and documents and numbers as text: what packs
/// to next to nothing is weighed as what comes, and no array is taken apart in memory.
#[tokio::test]
async fn memory_is_bounded_by_bytes_of_arrays() {
    let db = fresh_database(18).await;
    db.execute(
        "CREATE TABLE t (id int PRIMARY KEY, at timestamptz NOT NULL, b bytea, n bigint[], w varchar(9)[], j jsonb, m numeric[], x bytea[]);
        ALTER TABLE t ALTER b SET STORAGE EXTERNAL;
        INSERT INTO t SELECT g, now() - interval '2 years', NULL, (SELECT array_agg(g::bigint * 1000000007 * e) FROM generate_series(1, 300000) e), '{a,NULL}' FROM generate_series(1, 6) g;
        INSERT INTO t SELECT g, now() - interval '2 years', NULL, array_fill(0::bigint, '{300000}'), NULL FROM generate_series(11, 20) g;
        INSERT INTO t SELECT g, now() - interval '2 years', convert_to(repeat(md5(g::text), 262144), 'UTF8'), NULL, NULL FROM generate_series(21, 24) g;
        INSERT INTO t SELECT 31, now() - interval '2 years', NULL, array_fill(0::bigint, '{1500000}'), NULL;
        INSERT INTO t (id, at, j) SELECT 32, now() - interval '2 years', to_jsonb(repeat(chr(1), 5000000));
        INSERT INTO t (id, at, j) SELECT 33, now() - interval '2 years', to_jsonb(array_fill('1e131000'::numeric, '{200}'));
        INSERT INTO t (id, at, m) SELECT 34, now() - interval '2 years', array_fill('1e131000'::numeric, '{200}');
        INSERT INTO t (id, at, j, m, x) SELECT g, now() - interval '2 years', to_jsonb(repeat(md5(g::text), 3000)), '{1.50,NULL,NaN}', ARRAY[decode(repeat('00', 9000000), 'hex')] FROM generate_series(25, 28) g",
    )
    .await;
    let values = |table: &str| {
        format!("SELECT sum(hashtext(x::text)::int8)::int8 FROM {table} x WHERE id < 31")
    };
    let before = db.number(&values("t")).await;
    let folder = tempfile::tempdir().unwrap();
    let files = format!("file://{}", folder.path().display());
    let options = json!({ "table": "t", "column": "at", "older_than": "1y", "destination": { "files": files } });
    let workspace = workspace(&db, &db, "archive", &options);
    for rows in [24, 0] {
        let (peak, out) = crate::support::memory::peak_of(
            &workspace,
            &["run", "archive", "--now", "--output", "json"],
        );
        let run: serde_json::Value = serde_json::from_str(&out).unwrap();
        let run = &run["runs"][0];
        assert_eq!(run["rows"], rows, "{run:#}");
        let heavy = finding(run, "rows.too_large");
        assert!(heavy.contains("4 rows of public.t"), "{run:#}");
        assert!(peak < 128 << 20, "{} MB", peak >> 20);
        assert_eq!(db.number("SELECT sum(id)::int8 FROM t").await, 130);
    }
    let restored = crate::support::workspace::Workspace::for_target(&db.url);
    let (peak, _) = crate::support::memory::peak_of(
        &restored,
        &["archive", "restore", "--files", &files, "--into", "back"],
    );
    assert_eq!(db.number(&values("back")).await, before);
    assert!(peak < 128 << 20, "{} MB to restore", peak >> 20);
}

/// Parents that take children along go when their children have gone; where
/// all still have some, the rule is refused; without an index it is, too.
#[tokio::test]
async fn parents_go_when_their_children_have_gone() {
    let db = fresh_database(17).await;
    db.execute("CREATE TABLE p (id int PRIMARY KEY, at timestamptz NOT NULL); CREATE TABLE k (pid int REFERENCES p ON DELETE CASCADE); CREATE INDEX k_pid ON k (pid);
        INSERT INTO p SELECT g, now() - interval '2 years' FROM generate_series(1, 100) g; INSERT INTO k SELECT g FROM generate_series(1, 100) g").await;
    let options = json!({ "table": "p", "column": "at", "older_than": "1y", "destination": { "table": "old" } });
    let workspace = workspace(&db, &db, "archive", &options);
    let refused = attempt(&workspace, "archive");
    assert_eq!(refused["steps"], json!([]), "{refused:#}");
    assert!(
        refused["findings"].to_string().contains("k_pid_fkey"),
        "{refused:#}"
    );
    db.execute("DELETE FROM k WHERE pid > 3").await;
    let some = run(&workspace, "archive", 0);
    assert_eq!(some["rows"], 97, "{some:#}");
    assert!(
        finding(&some, "rows.referenced").contains("3 by k_pid_fkey"),
        "{some:#}"
    );
    assert_eq!(db.number("SELECT count(*) FROM k").await, 3);
    db.execute("DELETE FROM k; INSERT INTO k SELECT 1 FROM generate_series(1, 100000); DROP INDEX k_pid; DELETE FROM k WHERE random() < 0.1; ANALYZE").await;
    let unindexed = attempt(&workspace, "archive");
    assert_eq!(unindexed["steps"], json!([]), "{unindexed:#}");
    assert!(
        unindexed["findings"].to_string().contains("CREATE INDEX"),
        "{unindexed:#}"
    );
    db.execute("TRUNCATE k; CREATE INDEX ON k (pid)").await;
    assert_eq!(run(&workspace, "archive", 0)["rows"], 3);
}
