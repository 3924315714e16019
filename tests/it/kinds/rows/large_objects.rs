//! Rows that hold nothing but the number of a large object: an archive of them would be an empty one.

use super::aftermath::ways;
use super::{attempt, workspace};
use crate::support::servers::fresh_database;

for_versions! {
    [pg14 = 14]
    /// Triggers take the objects away with their rows, and `vacuumlo` what nothing in the database points
    /// at: such rows are archived nowhere where that is so.
    async fn contents_that_would_be_lost_keep_their_rows(major: u32) {
        let (db, there) = (fresh_database(major).await, fresh_database(major).await);
        let folder = tempfile::tempdir().unwrap();
        let files = format!("file://{}", folder.path().display());
        db.execute("CREATE EXTENSION lo; CREATE FUNCTION unlinks() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM lo_unlink(old.body); RETURN NULL; END'").await;
        let managed = "CREATE TRIGGER acts BEFORE UPDATE OR DELETE ON t FOR EACH ROW EXECUTE FUNCTION lo_manage(body)";
        let unlinks = "CREATE TRIGGER acts AFTER DELETE ON t FOR EACH ROW EXECUTE FUNCTION unlinks()";
        let rule = "CREATE RULE acts AS ON DELETE TO t DO ALSO SELECT lo_unlink(old.body)";
        for (kind_of, trigger, told) in [
            ("lo", managed, "the trigger acts of public.t removes large objects with its rows"),
            ("oid", unlinks, "the trigger acts of public.t removes large objects with its rows"),
            ("oid", rule, "the rule acts of public.t removes large objects with its rows"),
            ("lo", "", "the column body is of type public.lo"),
            ("oid", "", ""),
        ] {
            for (name, kind, options) in ways(&files) {
                db.execute(&format!("DROP TABLE IF EXISTS t, kept; CREATE TABLE t (id int PRIMARY KEY, at timestamptz NOT NULL, body {kind_of});
                    CREATE TABLE kept (id int, at timestamptz NOT NULL, body {kind_of}); {trigger};
                    INSERT INTO t SELECT n, now() - interval '2 years', lo_from_bytea(0, 'content') FROM generate_series(1, 5) n")).await;
                there.execute("DROP TABLE IF EXISTS kept; CREATE TABLE kept (id int, at timestamptz NOT NULL, body oid)").await;
                let objects = db.number("SELECT count(*) FROM pg_largeobject_metadata").await;
                let done = attempt(&workspace(&db, &there, kind, &options), kind);
                let rows = db.number("SELECT count(*) FROM t").await;
                // A table of the database points at them as well as the one that the rows were in.
                let goes = kind == "cleanup" || told.is_empty() || (trigger.is_empty() && name == "table");
                assert_eq!(rows, if goes { 0 } else { 5 }, "{name} {kind_of} {trigger}: {done:#}");
                if !goes {
                    assert!(done.to_string().contains(told), "{name}: {done:#}");
                    assert_eq!(db.number("SELECT count(*) FROM pg_largeobject_metadata").await, objects);
                    assert_ne!(done["status"], "succeeded", "{done:#}");
                }
            }
        }
    }
}
