//! Code at the destination that stores rows once more than they came.

use serde_json::json;

use super::aftermath::ways;
use super::{attempt, workspace};
use crate::support::servers::fresh_database;

/// What hangs on `kept`: for each row, for each statement, at the end, and through another table.
const DOUBLES: [&str; 4] = [
    "CREATE TRIGGER doubles AFTER INSERT ON kept FOR EACH ROW WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION doubles()",
    "CREATE TRIGGER doubles AFTER INSERT ON kept REFERENCING NEW TABLE AS news FOR EACH STATEMENT WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION doubles_all()",
    "CREATE CONSTRAINT TRIGGER doubles AFTER INSERT ON kept DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.pad <> 'again') EXECUTE FUNCTION doubles()",
    "CREATE RULE doubles AS ON INSERT TO kept WHERE NEW.pad <> 'again' DO ALSO INSERT INTO kept VALUES (NEW.id, NEW.at, 'again')",
];

const MADE: &str = "DROP TABLE IF EXISTS t, kept CASCADE; CREATE TABLE t (id int PRIMARY KEY, at timestamptz NOT NULL, pad text);
    INSERT INTO t SELECT n, now() - interval '2 years', 'p' || n FROM generate_series(1, 20) n;
    CREATE TABLE kept (id int, at timestamptz NOT NULL, pad text);
    CREATE OR REPLACE FUNCTION doubles() RETURNS trigger LANGUAGE plpgsql SET search_path = public AS $$ BEGIN
        INSERT INTO kept VALUES (NEW.id, NEW.at, 'again'); RETURN NULL; END $$;
    CREATE OR REPLACE FUNCTION doubles_all() RETURNS trigger LANGUAGE plpgsql SET search_path = public AS $$ BEGIN
        INSERT INTO kept SELECT id, at, 'again' FROM news; RETURN NULL; END $$";

for_versions! {
    [pg16 = 16]
    /// Nothing is moved or brought back by it, and the run says why; what hangs there for other rows is none.
    async fn doubled_rows_are_given_back(major: u32) {
        let (db, there) = (fresh_database(major).await, fresh_database(major).await);
        for (name, kind, options) in ways("file:///nowhere") {
            if name != "table" && name != "database" {
                continue;
            }
            let at = if name == "table" { &db } else { &there };
            for doubles in DOUBLES {
                for one in [&db, &there] {
                    one.execute(MADE).await;
                }
                at.execute(doubles).await;
                let workspace = workspace(&db, &there, kind, &options);
                for _ in 0..2 {
                    let run = attempt(&workspace, kind);
                    // A rule is refused by the plan already.
                    assert!(matches!(run["status"].as_str(), Some("failed" | "partial")), "{name} {doubles}: {run:#}");
                    assert_eq!(db.number("SELECT count(*) FROM t").await, 20, "{name} {doubles}: {run:#}");
                    assert_eq!(at.number("SELECT count(*) FROM kept").await, 0, "{name} {doubles}: {run:#}");
                }
            }
            // Rows that go elsewhere as well are no doubles.
            for one in [&db, &there] {
                one.execute(MADE).await;
            }
            at.execute("CREATE TABLE IF NOT EXISTS other (LIKE kept); CREATE OR REPLACE FUNCTION also() RETURNS trigger LANGUAGE plpgsql SET search_path = public AS 'BEGIN INSERT INTO other VALUES (NEW.*); RETURN NULL; END';
                CREATE TRIGGER also AFTER INSERT ON kept FOR EACH ROW EXECUTE FUNCTION also()").await;
            let workspace = workspace(&db, &there, kind, &options);
            let run = attempt(&workspace, kind);
            assert_eq!((&run["status"], &run["rows"]), (&json!("succeeded"), &json!(20)), "{name}: {run:#}");
            assert_eq!(at.number("SELECT count(*) FROM kept").await, 20, "{name}");
        }
    }
}

for_versions! {
    [pg16 = 16]
    /// A restore into such a table has brought nothing back, and says so.
    async fn doubled_rows_are_not_back(major: u32) {
        let (db, there) = (fresh_database(major).await, fresh_database(major).await);
        let folder = tempfile::tempdir().unwrap();
        let files = format!("file://{}", folder.path().display());
        let (_, kind, options) = ways(&files)[1].clone();
        db.execute(MADE).await;
        let workspace = workspace(&db, &there, kind, &options);
        assert_eq!(attempt(&workspace, kind)["rows"], 20);
        for doubles in &DOUBLES[..3] {
            db.execute(&format!("DROP TABLE kept; CREATE TABLE kept (LIKE t); {doubles}")).await;
            let said = workspace.run(["archive", "restore", "--from", "t", "--into", "kept"]).expect(1);
            assert!(said.stderr.contains("nothing was restored: public.kept got 40 rows for 20 rows"), "{doubles}: {said:#?}");
            assert_eq!(db.number("SELECT count(*) FROM kept").await, 0, "{doubles}");
        }
        db.execute("DROP TABLE kept; CREATE TABLE kept (LIKE t)").await;
        workspace.run(["archive", "restore", "--from", "t", "--into", "kept"]).expect(0);
        assert_eq!(db.number("SELECT count(*) FROM kept").await, 20);
    }
}
