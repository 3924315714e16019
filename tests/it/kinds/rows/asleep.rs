//! Foreign keys whose triggers are switched off, as a load leaves them that was cut off.

use super::aftermath::ways;
use super::{finding, run, workspace};
use crate::support::servers::fresh_database;

for_oldest_and_newest! {
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
