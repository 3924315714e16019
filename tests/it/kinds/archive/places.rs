//! What is no place for rows is told by what it is, and nothing is made for rows that stay.

use serde_json::{Value, json};

use super::{archive, refused, workspace};
use crate::support::servers::fresh_database;

fn options(table: &str) -> Value {
    json!({ "table": "app.s", "column": "at", "older_than": "30d", "destination": { "table": table } })
}

for_versions! {
    [pg14 = 14]
    async fn a_destination_is_told_by_what_it_is(major: u32) {
        let db = fresh_database(major).await;
        db.execute(&format!("CREATE SCHEMA app; CREATE SCHEMA arc; CREATE TABLE app.s (id int, at timestamptz);
            INSERT INTO app.s SELECT n, now() - n * interval '10 days' FROM generate_series(1, 9) n;
            CREATE VIEW arc.seen AS SELECT * FROM app.s; CREATE MATERIALIZED VIEW arc.kept AS SELECT * FROM app.s;
            CREATE SEQUENCE arc.counted; CREATE EXTENSION postgres_fdw;
            CREATE SERVER lo FOREIGN DATA WRAPPER postgres_fdw OPTIONS (dbname '{}');
            CREATE FOREIGN TABLE arc.far (id int, at timestamptz) SERVER lo OPTIONS (schema_name 'app', table_name 's');
            CREATE TABLE arc.parted (id int, at timestamptz) PARTITION BY RANGE (id);
            CREATE TABLE arc.near PARTITION OF arc.parted FOR VALUES FROM (0) TO (5);
            CREATE FOREIGN TABLE arc.beyond PARTITION OF arc.parted DEFAULT SERVER lo OPTIONS (schema_name 'app', table_name 's')", db.name)).await;
        for (table, part) in [
            ("arc.seen", "arc.seen is a view; a destination is a table"),
            ("arc.kept", "arc.kept is a materialized view; a destination is a table"),
            ("arc.counted", "arc.counted is a sequence; a destination is a table"),
            ("arc.far", "arc.far is a foreign table; a destination is a table"),
            ("arc.parted", "arc.parted has a partition that is a foreign table, arc.beyond"),
        ] {
            let run = refused(&workspace(&db, &options(table)));
            assert!(run["findings"].to_string().contains(part), "{part}: {run:#}");
            assert_eq!(db.number("SELECT count(*) FROM app.s").await, 9);
        }
        // Into one whose partitions are all here, rows go.
        db.execute("DROP FOREIGN TABLE arc.beyond; CREATE TABLE arc.rest PARTITION OF arc.parted DEFAULT").await;
        archive(&workspace(&db, &options("arc.parted")));
        assert_eq!(db.number("SELECT count(*) FROM app.s").await, 2);
        assert_eq!(db.number("SELECT count(*) FROM arc.parted").await, 7);
    }
}

for_oldest_and_newest! {
    /// Rows that would run code of others stay where they are, and no table is made for them.
    async fn nothing_is_made_for_rows_that_stay(major: u32) {
        let db = fresh_database(major).await;
        let mallory = format!("mallory_{}", db.name);
        db.execute(&format!("CREATE ROLE {mallory}; CREATE SCHEMA app; GRANT ALL ON SCHEMA app TO {mallory};
            CREATE TABLE app.s (id int, at timestamptz); INSERT INTO app.s VALUES (1, now() - interval '1 year');
            CREATE FUNCTION app.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN old; END';
            CREATE TRIGGER f BEFORE DELETE ON app.s FOR EACH ROW EXECUTE FUNCTION app.f();
            ALTER FUNCTION app.f() OWNER TO {mallory}; ALTER TABLE app.s OWNER TO {mallory}")).await;
        let run = refused(&workspace(&db, &options("arc.s")));
        assert!(run["findings"].to_string().contains("role.untrusted_code"), "{run:#}");
        assert_eq!(db.number("SELECT count(*) FROM app.s").await, 1);
        assert_eq!(db.number("SELECT count(*) FROM pg_namespace WHERE nspname = 'arc'").await, 0);
        db.execute(&format!("DROP OWNED BY {mallory} CASCADE; DROP ROLE {mallory}")).await;
    }
}
