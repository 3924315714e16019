//! Times that are numbers, of which some count something else.

use serde_json::json;

use super::{clean, doubted, workspace};
use crate::support::servers::{TestDatabase, fresh_database};

async fn ids(db: &TestDatabase) -> Vec<String> {
    db.strings("SELECT id::text FROM t ORDER BY id").await
}

for_versions! {
    [pg17 = 17]
    /// Beside times of our days, numbers of a smaller unit, or of none, are not old: they stay, and are told.
    /// Zero and less stand for no time, often for never.
    async fn numbers_of_several_units_stay(major: u32) {
        let db = fresh_database(major).await;
        for (epoch, unit, smaller) in [("seconds", "1", "NULL"), ("millis", "1000", "extract(epoch FROM now())::bigint"),
                ("micros", "1000000", "extract(epoch FROM now())::bigint * 1000")] {
            for index in ["", "CREATE INDEX ON t (at);"] {
                db.execute(&format!("DROP TABLE IF EXISTS t; CREATE TABLE t (id text PRIMARY KEY, at bigint); {index}
                    INSERT INTO t VALUES ('new', extract(epoch FROM now())::bigint * {unit}), ('old', extract(epoch FROM now() - interval '2 years')::bigint * {unit}),
                        ('none', 0), ('never', -1), ('date', 20260101), ('smaller', {smaller})")).await;
                let workspace = workspace(&db, &json!([{ "table": "t", "column": "at", "older_than": "1y", "epoch": epoch }]));
                let done = clean(&workspace);
                assert_eq!(ids(&db).await, ["date", "never", "new", "none", "smaller"], "{epoch}: {done:#}");
                let (told, shown) = doubted(&done).unwrap();
                assert!(told.contains("nobody knows how old"), "{told}");
                let shown = db.strings(&shown.replace('*', "id")).await;
                assert_eq!(shown.len(), if unit == "1" { 3 } else { 4 }, "{shown:?}");
                db.execute("DELETE FROM t WHERE id <> 'new'").await;
                let done = clean(&workspace);
                assert_eq!((doubted(&done), done["steps"].as_array().unwrap().len()), (None, 0), "{done:#}");
            }
        }
    }
}

for_oldest_and_newest! {
    /// A partition that can hold such numbers is not dropped for what its bounds say: its rows are looked at.
    async fn a_partition_that_can_hold_them_goes_by_rows(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE t (id text, at bigint NOT NULL) PARTITION BY RANGE (at);
            CREATE TABLE t_first PARTITION OF t FOR VALUES FROM (MINVALUE) TO (1577836800000);
            CREATE TABLE t_2020 PARTITION OF t FOR VALUES FROM (1577836800000) TO (1609459200000);
            CREATE TABLE t_now PARTITION OF t FOR VALUES FROM (1609459200000) TO (MAXVALUE);
            INSERT INTO t VALUES ('seconds', extract(epoch FROM now())::bigint), ('2019', 1560000000000), ('2020', 1600000000000),
                ('new', extract(epoch FROM now())::bigint * 1000)").await;
        let rules = json!([{ "table": "t", "column": "at", "older_than": "1y", "epoch": "millis" }]);
        let done = clean(&workspace(&db, &rules));
        assert_eq!(ids(&db).await, ["new", "seconds"], "{done:#}");
        assert!(doubted(&done).is_some(), "{done:#}");
        assert_eq!(db.strings("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 't'::regclass ORDER BY 1").await, ["t_first", "t_now"]);
    }
}
