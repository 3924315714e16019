//! Rows that may each come to a destination, and not together: the first of them goes, and what it
//! keeps out stays, with what keeps it.

use serde_json::json;

use super::{finding, run, workspace};
use crate::support::servers::{TestDatabase, fresh_database};

/// 300 rows: pairs and a triple that are the same to the destination, one that is there already, and
/// ones that it takes by no means, all in one block of the table.
const ROWS: &str = "DROP TABLE IF EXISTS t; CREATE TABLE t (id int PRIMARY KEY, at timestamptz NOT NULL, mail text, n int);
    INSERT INTO t SELECT g, now() - interval '2 years',
        CASE WHEN g IN (11, 12) THEN 'Same@x' WHEN g IN (40, 141, 299) THEN 'more@x' WHEN g = 77 THEN 'there@x' ELSE 'm' || g END,
        CASE WHEN g = 200 THEN -1 WHEN g IN (250, 251) THEN NULL ELSE g END FROM generate_series(1, 300) g;
    UPDATE t SET mail = 'sAME@x' WHERE id = 12;
    INSERT INTO t VALUES (1000, now(), 'young@x', 1000)";

/// What remains, whichever of rows that are the same was the first.
const LEFT: [&str; 9] = [
    "more@x", "more@x", "same@x", "there@x", "m200", "m250", "m251", "young@x", "",
];

for_versions! {
    [pg15 = 15]
    async fn the_first_of_rows_that_conflict_goes(major: u32) {
        let (db, there) = (fresh_database(major).await, fresh_database(major).await);
        let kept = "CREATE TABLE kept (id int, at timestamptz, mail text, n int NOT NULL, CONSTRAINT positive CHECK (n > 0));
            CREATE UNIQUE INDEX once_each ON kept (lower(mail)); INSERT INTO kept VALUES (9077, now(), 'There@x', 1)";
        for (elsewhere, walk) in [(false, "key"), (true, "blocks")] {
            db.execute(ROWS).await;
            db.execute("DROP TABLE IF EXISTS kept").await;
            there.execute("DROP TABLE IF EXISTS kept").await;
            let into: &TestDatabase = if elsewhere { &there } else { &db };
            into.execute(kept).await;
            let destination = match elsewhere {
                true => json!({ "table": "kept", "database": "there" }),
                false => json!({ "table": "kept" }),
            };
            let options = json!({ "table": "t", "column": "at", "older_than": "1y", "walk": walk, "destination": destination });
            let workspace = workspace(&db, &there, "archive", &options);
            for rows in [293, 0] {
                let done = run(&workspace, "archive", 1);
                assert_eq!((&done["rows"], &done["status"]), (&json!(rows), &json!("failed")), "{elsewhere} {walk} {done:#}");
                let told = finding(&done, "rows.refused");
                for part in ["7 rows", "ctid (", "4 because of once_each", "1 because of positive", "2 because of NOT NULL of n"] {
                    assert!(told.contains(part), "{part} in {told}");
                }
                for value in ["@x", "m200", "m250"] {
                    assert!(!done.to_string().contains(value), "{value} in {done:#}");
                }
                let mut left = db.strings("SELECT lower(mail) FROM t").await;
                left.push(String::new());
                left.sort();
                let mut meant = LEFT;
                meant.sort_unstable();
                assert_eq!(left, meant, "{elsewhere} {walk}");
                assert_eq!(into.number("SELECT count(DISTINCT id) FROM kept").await, 294);
                assert_eq!(into.number("SELECT count(*) FROM kept").await, 294);
                let ids = [&db.strings("SELECT id::text FROM t WHERE id <= 300").await[..],
                    &into.strings("SELECT id::text FROM kept WHERE id <= 300").await[..]].concat();
                let all: std::collections::BTreeSet<_> = ids.iter().collect();
                assert_eq!((ids.len(), all.len()), (300, 300), "{elsewhere} {walk}");
            }
        }
    }
}

for_versions! {
    [pg18 = 18]
    /// Deferred constraints, exclusions, a key of a partition there, a log that a trigger keeps there.
    async fn whatever_it_is_that_tells_them_apart(major: u32) {
        let (db, there) = (fresh_database(major).await, fresh_database(major).await);
        for (elsewhere, name, kept) in [
            (true, "late", "CREATE TABLE kept (id int, at timestamptz, mail text, n int, CONSTRAINT late UNIQUE (mail) DEFERRABLE INITIALLY DEFERRED)"),
            (false, "apart", "CREATE TABLE kept (id int, at timestamptz, mail text, n int, CONSTRAINT apart EXCLUDE (mail WITH =))"),
            (true, "kept_a_mail_key", "CREATE TABLE kept (id int, at timestamptz, mail text, n int) PARTITION BY RANGE (id);
                CREATE TABLE kept_a PARTITION OF kept (UNIQUE (mail)) FOR VALUES FROM (0) TO (1000)"),
            (false, "log_pkey", "CREATE TABLE kept (id int, at timestamptz, mail text, n int); DROP TABLE IF EXISTS log; CREATE TABLE log (mail text PRIMARY KEY);
                CREATE OR REPLACE FUNCTION logged() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.log VALUES (new.mail); RETURN NULL; END $$;
                CREATE TRIGGER logged AFTER INSERT ON kept FOR EACH ROW EXECUTE FUNCTION logged()"),
        ] {
            db.execute("DROP TABLE IF EXISTS t, kept; CREATE TABLE t (id int PRIMARY KEY, at timestamptz NOT NULL, mail text, n int);
                INSERT INTO t SELECT g, now() - interval '2 years', 'm' || g / 2, g FROM generate_series(0, 19) g").await;
            there.execute("DROP TABLE IF EXISTS kept").await;
            let into: &TestDatabase = if elsewhere { &there } else { &db };
            into.execute(kept).await;
            let destination = match elsewhere {
                true => json!({ "table": "kept", "database": "there" }),
                false => json!({ "table": "kept" }),
            };
            let options = json!({ "table": "t", "column": "at", "older_than": "1y", "destination": destination });
            let workspace = workspace(&db, &there, "archive", &options);
            for rows in [10, 0] {
                let done = run(&workspace, "archive", 1);
                assert_eq!(done["rows"], rows, "{name} {elsewhere} {done:#}");
                let told = finding(&done, "rows.refused");
                assert!(told.contains("10 rows") && told.contains(name), "{name} {elsewhere} {told}");
                assert_eq!(db.number("SELECT count(DISTINCT mail) FROM t").await, 10);
                assert_eq!(db.number("SELECT count(*) FROM t").await, 10);
                assert_eq!(into.number("SELECT count(DISTINCT mail) FROM kept").await, 10);
                assert_eq!(into.number("SELECT count(*) FROM kept").await, 10);
            }
        }
    }
}
