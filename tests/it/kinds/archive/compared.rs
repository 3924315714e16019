//! What moves is compared with what it has become, value for value, and not as the types compare.

use serde_json::json;

use super::database::task;
use super::{EVERY_TYPE, archive, checksum, nothing_is_left, workspace};
use crate::support::servers::fresh_database;

for_oldest_and_newest! {
    /// Every type moves into another table as it is: also those that the server can only write as
    /// text, and those that people have made.
    async fn every_type_moves(major: u32) {
        let db = fresh_database(major).await;
        db.execute(EVERY_TYPE).await;
        db.execute(r#"CREATE TYPE pair AS (a int, m mood);
            ALTER TABLE everything ADD acl aclitem, ADD acls aclitem[], ADD pr pair, ADD pairs pair[], ADD q tsquery,
                ADD x xml, ADD cash money, ADD lsn pg_lsn, ADD jp jsonpath, ADD c "char", ADD way path, ADD prices price[],
                ADD vol oidvector, ADD words "char"[];
            UPDATE everything SET acl = 'postgres=r/postgres', acls = ARRAY['=r/postgres'::aclitem, NULL], pr = (1, 'fine'),
                pairs = ARRAY[(NULL, '\back')::pair], q = 'fat & !rat', cash = 1.5, lsn = '1/F', jp = '$.a[*]', c = 'x',
                way = '((0,0),(1,1))', prices = '{1.5000,NULL}', vol = '1 2', words = '{a,NULL}' WHERE i2 = -32768"#).await;
        let columns = "SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute WHERE attrelid = 'everything'::regclass AND attnum > 0";
        let columns = db.strings(columns).await.remove(0);
        let old = checksum(&db, &format!("SELECT {columns} FROM everything WHERE at < now() - interval '1 day'")).await;
        let workspace = workspace(&db, &json!({ "table": "everything", "column": "at", "older_than": "1d",
            "destination": { "table": "moved" } }));
        let run = archive(&workspace);
        assert_eq!(run["rows"], 503, "{run:#}");
        assert_eq!(checksum(&db, &format!("SELECT {columns} FROM moved")).await, old);
        assert_eq!(db.number("SELECT count(*) FROM everything").await, 1);
        nothing_is_left(&workspace);
    }
}

for_versions! {
    [pg17 = 17]
    /// What is equal, and not the same, is another value: it was changed on its way, and nothing moves.
    async fn what_is_only_equal_is_not_the_same(major: u32) {
        let db = fresh_database(major).await;
        for (n, (of_type, was, becomes)) in [
            ("numeric", "1.50", "1.5"),
            ("float8", "0", "'-0'"),
            ("jsonb", r#"'{"a": 1.0}'"#, r#"'{"a": 1.00}'"#),
            ("numeric[]", "'{1.50}'", "'{1.5}'"),
            // A hash of one for the server, which folds its halves.
            ("bigint", "1", "4294967296"),
            ("timestamptz", "'2000-01-01 00:00:00.000001+00'", "'2000-01-01 01:11:34.967296+00'"),
            ("numrange", "'[1.0,2.0]'", "'[1.00,2.0]'"),
        ].into_iter().enumerate() {
            db.execute(&format!("CREATE TABLE t{n} (id int, at date, v {of_type});
                INSERT INTO t{n} SELECT g, '2020-01-01', {was} FROM generate_series(1, 3) g;
                CREATE TABLE old{n} (id int, at date, v {of_type}) PARTITION BY RANGE (at);
                CREATE TABLE part{n} PARTITION OF old{n} FOR VALUES FROM (MINVALUE) TO (MAXVALUE);
                CREATE FUNCTION f{n}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                    IF NEW.id = 2 THEN NEW.v = {becomes}; END IF; RETURN NEW; END $$;
                CREATE TRIGGER f BEFORE INSERT ON part{n} FOR EACH ROW EXECUTE FUNCTION f{n}()")).await;
            let workspace = workspace(&db, &json!({ "table": format!("t{n}"), "column": "at", "older_than": "1d",
                "destination": { "table": format!("old{n}") } }));
            let output = workspace.run(["run", "archive", "--now", "--output", "json"]).expect(1);
            assert!(output.stdout.contains("holds them with other values"), "{of_type}: {output:#?}");
            assert_eq!(db.number(&format!("SELECT count(*) FROM t{n}")).await, 3, "{of_type}");
            assert_eq!(db.number(&format!("SELECT count(*) FROM old{n}")).await, 0, "{of_type}");
            db.execute(&format!("DROP TRIGGER f ON part{n}")).await;
            assert_eq!(archive(&workspace)["rows"], 3, "{of_type}");
            assert_eq!(db.number(&format!("SELECT count(*) FROM old{n}")).await, 3, "{of_type}");
        }
    }
}

for_oldest_and_newest! {
    /// Values that have changed places, each within its column, are no longer those of their rows, although
    /// every column holds the same ones.
    async fn values_that_changed_places_are_not_the_same(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE t (id int, at date, v int, w text);
            INSERT INTO t SELECT g, '2020-01-01', g, g::text FROM generate_series(1, 4) g;
            CREATE TABLE old (LIKE t) PARTITION BY RANGE (at);
            CREATE TABLE part PARTITION OF old FOR VALUES FROM (MINVALUE) TO (MAXVALUE);
            CREATE FUNCTION swap() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.v = 5 - NEW.v; RETURN NEW; END $$;
            CREATE TRIGGER swap BEFORE INSERT ON part FOR EACH ROW EXECUTE FUNCTION swap()").await;
        let workspace = workspace(&db, &json!({ "table": "t", "column": "at", "older_than": "1d",
            "destination": { "table": "old" } }));
        let output = workspace.run(["run", "archive", "--now", "--output", "json"]).expect(1);
        assert!(output.stdout.contains("holds them with other values"), "{output:#?}");
        assert_eq!(db.number("SELECT count(*) FROM t").await, 4);
        assert_eq!(db.number("SELECT count(*) FROM old").await, 0);
        db.execute("DROP TRIGGER swap ON part").await;
        assert_eq!(archive(&workspace)["rows"], 4);
    }
}

/// A value that another database refuses while the rows are still being read keeps its row, and no other.
#[tokio::test]
async fn a_value_that_is_refused_there_keeps_its_row() {
    let (db, there) = (fresh_database(18).await, fresh_database(14).await);
    there
        .execute("CREATE TYPE mood AS ENUM ('fine'); CREATE TABLE t (id int, at date, m mood)")
        .await;
    db.execute(
        "CREATE TYPE mood AS ENUM ('fine', 'odd'); CREATE TABLE t (id int, at date, m mood);
        INSERT INTO t SELECT g, '2020-01-01', CASE WHEN g = 7 THEN 'odd' ELSE 'fine' END::mood FROM generate_series(1, 10) g",
    )
    .await;
    let workspace = task(
        &db,
        &there,
        json!({ "table": "t", "column": "at", "older_than": "1d",
            "destination": { "database": "warehouse", "table": "t" } }),
    );
    let output = workspace.run(["run", "archive", "--now", "--output", "json"]);
    let run = output.expect(1).json()["runs"][0].clone();
    assert!(
        run["steps"][0]["error"]
            .as_str()
            .unwrap()
            .contains("1 row refused to go"),
        "{run:#}"
    );
    assert_eq!(db.number("SELECT sum(id) FROM t").await, 7);
    assert_eq!(there.number("SELECT count(*) FROM t").await, 9);
    assert_eq!(there.number("SELECT sum(id) FROM t").await, 55 - 7);
}

/// A batch that turns out too large while it is on its way is given up there, and goes in smaller ones.
#[tokio::test]
async fn what_is_too_large_for_a_batch_arrives() {
    let (db, there) = (fresh_database(18).await, fresh_database(14).await);
    db.execute(
        "CREATE TABLE t (id int, at date, v bytea);
        ALTER TABLE t ALTER v SET STORAGE PLAIN;
        INSERT INTO t SELECT g, '2020-01-01', decode(repeat(md5(g::text), 118), 'hex') FROM generate_series(1, 32000) g",
    )
    .await;
    let old = checksum(&db, "SELECT * FROM t").await;
    let workspace = task(
        &db,
        &there,
        json!({ "table": "t", "column": "at", "older_than": "1d", "batch_goal": "1min",
            "destination": { "database": "warehouse", "table": "t" } }),
    );
    assert_eq!(archive(&workspace)["rows"], 32_000);
    assert_eq!(db.number("SELECT count(*) FROM t").await, 0);
    assert_eq!(checksum(&there, "SELECT * FROM t").await, old);
    nothing_is_left(&workspace);
}
