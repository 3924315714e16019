//! Times that stand for never as often as not.

use serde_json::json;

use super::{clean, doubted, workspace};
use crate::support::servers::{TestDatabase, fresh_database};
use crate::support::workspace::Workspace;

async fn ids(db: &TestDatabase) -> Vec<String> {
    db.strings("SELECT id FROM t ORDER BY id").await
}

/// What is no age, and what is: only `old` goes.
const ROWS: &str = "INSERT INTO t VALUES ('net', '-infinity'), ('go', '0001-01-01'), ('unix', '1970-01-01'), ('bc', '0044-03-15 BC'),
    ('old', '2001-01-01'), ('early', '1980-01-02'), ('endless', 'infinity'), ('null', NULL), ('new', now())";
const STAY: [&str; 7] = ["bc", "endless", "go", "net", "new", "null", "unix"];

for_versions! {
    [pg18 = 18]
    /// They stay, and are told, in every type that tells an age; and are told no more once they are gone.
    async fn what_stands_for_never_is_nobodys_age(major: u32) {
        let db = fresh_database(major).await;
        for column in ["timestamptz", "timestamp", "date"] {
            for index in ["", "CREATE INDEX ON t (at);"] {
                db.execute(&format!("DROP TABLE IF EXISTS t; CREATE TABLE t (id text PRIMARY KEY, at {column}); {index} {ROWS}; ANALYZE t")).await;
                let workspace = workspace(&db, &json!([{ "table": "t", "column": "at", "older_than": "30d" }]));
                let dry = workspace.run(["run", "cleanup", "--now", "--dry-run"]).expect(0).stdout;
                assert!(dry.contains("exactly 2 rows"), "{dry}");
                let done = clean(&workspace);
                assert_eq!(ids(&db).await, STAY, "{column}: {done:#}");
                let (told, shown) = doubted(&done).unwrap();
                assert!(told.contains("some times in `at` are before 1980-01-01") && told.contains("they stay"), "{told}");
                assert_eq!(db.strings(&shown.replace('*', "id")).await.len(), 4, "{shown}");
                db.execute("DELETE FROM t WHERE at < '1980-01-01'").await;
                let done = clean(&workspace);
                assert_eq!((doubted(&done), done["steps"].as_array().unwrap().len()), (None, 0), "{done:#}");
            }
        }
        // Who means dates as old as that gets them, but for those before 1900; and whoever names the rows gets all.
        db.execute("DROP TABLE t; CREATE TABLE t (id text PRIMARY KEY, at date)").await;
        db.execute(ROWS).await;
        let done = clean(&workspace(&db, &json!([{ "table": "t", "column": "at", "older_than": "50y" }])));
        assert_eq!(ids(&db).await, ["bc", "early", "endless", "go", "net", "new", "null", "old"], "{done:#}");
        assert!(doubted(&done).unwrap().0.contains("before 1900-01-01"), "{done:#}");
        let done = clean(&workspace(&db, &json!([{ "table": "t", "where": "at < '1900-01-01'" }])));
        assert_eq!(ids(&db).await, ["early", "endless", "new", "null", "old"], "{done:#}");
    }
}

for_oldest_and_newest! {
    /// A partition that has them does not go as a whole; one that only could does.
    async fn a_partition_that_has_them_goes_by_rows(major: u32) {
        for has in [true, false] {
            let db = fresh_database(major).await;
            db.execute("CREATE TABLE t (id text, at timestamptz NOT NULL) PARTITION BY RANGE (at);
                CREATE TABLE t_first PARTITION OF t FOR VALUES FROM (MINVALUE) TO ('2010-01-01 00:00+00');
                CREATE TABLE t_next PARTITION OF t FOR VALUES FROM ('2010-01-01 00:00+00') TO ('2020-01-01 00:00+00');
                CREATE TABLE t_now PARTITION OF t FOR VALUES FROM ('2020-01-01 00:00+00') TO (MAXVALUE);
                INSERT INTO t VALUES ('old', '2001-01-01'), ('younger', '2015-01-01'), ('new', now())").await;
            if has {
                db.execute("INSERT INTO t VALUES ('net', '-infinity')").await;
            }
            let done = clean(&workspace(&db, &json!([{ "table": "t", "column": "at", "older_than": "1y" }])));
            let left = db.strings("SELECT relname::text FROM pg_class WHERE relname ~ '^t_' ORDER BY 1").await;
            match has {
                true => assert_eq!((left, ids(&db).await), (vec!["t_first".into(), "t_now".into()], vec!["net".into(), "new".into()]), "{done:#}"),
                false => assert_eq!((left, ids(&db).await), (vec!["t_now".to_owned()], vec!["new".to_owned()]), "{done:#}"),
            }
            assert_eq!(doubted(&done).is_some(), has, "{done:#}");
        }
    }
}

for_oldest_and_newest! {
    /// An archive takes them no more than a cleanup does.
    async fn they_are_not_archived(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE t (id text PRIMARY KEY, at timestamptz)").await;
        db.execute(ROWS).await;
        let archive = "kind: archive\ntarget: app\noptions: { table: t, column: at, older_than: 1y, destination: { table: kept } }\n";
        let workspace = Workspace::for_target(&db.url).task("archive", archive);
        let done = workspace.run(["run", "archive", "--now", "--output", "json"]).expect(0).json();
        assert_eq!(ids(&db).await, STAY, "{done:#}");
        assert_eq!(db.strings("SELECT id FROM kept ORDER BY id").await, ["early", "old"]);
        assert!(doubted(&done["runs"][0]).is_some(), "{done:#}");
    }
}
