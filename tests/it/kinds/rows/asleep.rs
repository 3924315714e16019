//! Foreign keys whose triggers are switched off, as a load leaves them that was cut off.

use super::aftermath::ways;
use super::{finding, run, workspace};
use crate::support::servers::fresh_database;

for_versions! {
    [pg17 = 17]
    /// Nothing would be asked of such a key, nor taken along: its parents stay, and it is said how it is
    /// switched on. Those of another table, and of rows of their own, are nobody's reason.
    async fn a_key_that_is_asleep_keeps_its_parents(major: u32) {
        let (db, there) = (fresh_database(major).await, fresh_database(major).await);
        let folder = tempfile::tempdir().unwrap();
        let files = format!("file://{}", folder.path().display());
        for (parted, of) in [("", "t"), (" PARTITION BY HASH (id)", "t_0")] {
            for action in ["NO ACTION", "CASCADE"] {
                for (name, kind, options) in ways(&files) {
                    for one in [&db, &there] {
                        one.execute("DROP TABLE IF EXISTS child, t, kept; CREATE TABLE kept (id int, at timestamptz NOT NULL)").await;
                    }
                    let part = if parted.is_empty() { "" } else { "CREATE TABLE t_0 PARTITION OF t FOR VALUES WITH (MODULUS 1, REMAINDER 0);" };
                    db.execute(&format!("CREATE TABLE t (id int PRIMARY KEY, at timestamptz NOT NULL){parted}; {part}
                        INSERT INTO t SELECT n, now() - interval '2 years' FROM generate_series(1, 10) n;
                        CREATE TABLE child (id int, pid int REFERENCES t ON DELETE {action}); CREATE INDEX ON child (pid);
                        INSERT INTO child SELECT n, n FROM generate_series(1, 5) n; ALTER TABLE {of} DISABLE TRIGGER ALL")).await;
                    let workspace = workspace(&db, &there, kind, &options);
                    let done = run(&workspace, kind, 1);
                    let told = finding(&done, "rows.unguarded");
                    assert!(told.contains("child_pid_fkey of public.child"), "{told}");
                    let counts = ["SELECT count(*) FROM t", "SELECT count(*) FROM child"];
                    assert_eq!((db.number(counts[0]).await, db.number(counts[1]).await), (10, 5), "{name} {action}");
                    db.execute(&format!("ALTER TABLE {of} ENABLE TRIGGER ALL")).await;
                    let done = run(&workspace, kind, 0);
                    // What is archived takes nothing along.
                    let (parents, children) = match (action, kind) {
                        ("CASCADE", "cleanup") => (0, 0),
                        _ => (5, 5),
                    };
                    assert_eq!((db.number(counts[0]).await, db.number(counts[1]).await), (parents, children), "{name} {action}: {done:#}");
                }
            }
        }
    }
}

for_versions! {
    [pg15 = 15]
    /// Nothing comes back into a table whose constraints would not be asked: foreign keys, and keys that are deferred.
    async fn a_key_that_is_asleep_lets_nothing_come_back(major: u32) {
        let db = fresh_database(major).await;
        let folder = tempfile::tempdir().unwrap();
        let files = format!("file://{}", folder.path().display());
        db.execute("CREATE TABLE parent (id int PRIMARY KEY); INSERT INTO parent VALUES (1);
            CREATE TABLE t (id int, pid int REFERENCES parent, at timestamptz NOT NULL, UNIQUE (id) DEFERRABLE INITIALLY DEFERRED);
            INSERT INTO t VALUES (1, 1, now() - interval '2 years')").await;
        let options = serde_json::json!({ "table": "t", "column": "at", "older_than": "1y", "destination": { "files": files } });
        let workspace = workspace(&db, &db, "archive", &options);
        run(&workspace, "archive", 0);
        db.execute("DELETE FROM parent; CREATE TABLE parted (LIKE t) PARTITION BY LIST (id); CREATE TABLE leaf PARTITION OF parted DEFAULT;
            ALTER TABLE parted ADD CONSTRAINT parted_pid FOREIGN KEY (pid) REFERENCES parent").await;
        for (into, asleep, key) in [("t", "t", "t_pid_fkey"), ("t", "t", "t_id_key"), ("parted", "leaf", "parted_pid")] {
            db.execute(&format!("ALTER TABLE {asleep} DISABLE TRIGGER ALL")).await;
            for more in [&["--dry-run"][..], &[], &["--disable-triggers"]] {
                let restore = ["archive", "restore", "--into", into].into_iter().chain(more.iter().copied());
                let refused = workspace.run(restore).expect(1).stderr;
                assert!(refused.contains(key) && refused.contains("ENABLE TRIGGER ALL"), "{refused}");
                assert_eq!(db.number(&format!("SELECT count(*) FROM {into}")).await, 0);
            }
            db.execute(&format!("ALTER TABLE {asleep} ENABLE TRIGGER ALL")).await;
        }
        let refused = workspace.run(["archive", "restore", "--into", "t"]).expect(1).stderr;
        assert!(refused.contains("bring those back first"), "{refused}");
        db.execute("INSERT INTO parent VALUES (1)").await;
        workspace.run(["archive", "restore", "--into", "t"]).expect(0);
        assert_eq!(db.number("SELECT count(*) FROM t").await, 1);
    }
}
