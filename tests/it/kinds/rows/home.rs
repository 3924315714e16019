//! What went back into a part of the table that it came from, or into one that this is a part of, is back.

use serde_json::json;

use super::{run, workspace};
use crate::support::servers::{TestDatabase, fresh_database};
use crate::support::workspace::{Output, Workspace};

/// Thirty old rows, and a young one, of `table`, archived row by row.
async fn archived(db: &TestDatabase, tables: &str, table: &str) -> (Workspace, tempfile::TempDir) {
    db.execute(tables).await;
    db.execute(&format!(
        "INSERT INTO \"{table}\" SELECT g, now() - interval '2 years' FROM generate_series(1, 30) g;
        INSERT INTO \"{table}\" VALUES (99, now() - interval '1 day')"
    ))
    .await;
    let folder = tempfile::tempdir().unwrap();
    let files = format!("file://{}", folder.path().display());
    let options = json!({ "table": table, "column": "at", "older_than": "1y", "destination": { "files": files } });
    let workspace = workspace(db, db, "archive", &options);
    assert_eq!(run(&workspace, "archive", 0)["rows"], 30);
    (workspace, folder)
}

fn restore(workspace: &Workspace, from: &str, into: &str) -> Output {
    workspace.run([
        "archive", "restore", "--target", "app", "--from", from, "--into", into,
    ])
}

const PARTITIONED: &str = "CREATE TABLE p (id int, at timestamptz) PARTITION BY RANGE (at);
    CREATE TABLE p_a PARTITION OF p FOR VALUES FROM (MINVALUE) TO ('2200-01-01') PARTITION BY RANGE (at);
    CREATE TABLE \"P_b\" PARTITION OF p_a FOR VALUES FROM (MINVALUE) TO ('2100-01-01')";
const INHERITED: &str = "CREATE TABLE p (id int, at timestamptz); CREATE TABLE p_a () INHERITS (p); CREATE TABLE \"P_b\" () INHERITS (p_a)";

/// The two tables of any depth, the task's and the restore's, in both directions; with the run after it.
async fn knows_its_family(major: u32, tables: &str) {
    let names = ["p", "p_a", "P_b"];
    for of in ["p", "P_b"] {
        for into in names {
            let db = fresh_database(major).await;
            let (workspace, _folder) = archived(&db, tables, of).await;
            restore(&workspace, of, into).expect(0);
            for other in names {
                let twice = restore(&workspace, of, other).expect(2).stderr;
                assert!(
                    twice.contains("back already"),
                    "{of} {into} {other}: {twice}"
                );
            }
            assert_eq!(db.number("SELECT count(*) FROM p").await, 31, "{of} {into}");
            // The next run does not take it for a server that was set back.
            let next = run(&workspace, "archive", 0);
            assert_eq!(next["findings"], json!([]), "{of} {into}: {next:#}");
            let left = db.number(&format!("SELECT count(*) FROM \"{of}\"")).await;
            let rows = next["rows"].as_i64().unwrap();
            assert!(left == 1 || of != "p", "{of} {into}: {left}");
            if rows == 0 {
                continue;
            }
            assert_eq!(rows, 30, "{of} {into}");
            let back = restore(&workspace, of, "fresh").expect(0).stdout;
            assert!(back.contains("was left out"), "{of} {into}: {back}");
            assert_eq!(
                db.strings("SELECT count(*) || ' ' || count(DISTINCT id) FROM fresh")
                    .await,
                ["30 30"],
                "{of} {into}"
            );
        }
    }
}

for_versions! {
    [pg15 = 15]
    /// Partitions of partitions.
    async fn partitions_are_their_table(major: u32) {
        knows_its_family(major, PARTITIONED).await;
    }
}

for_versions! {
    [pg17 = 17]
    /// Children of children.
    async fn children_are_their_table(major: u32) {
        knows_its_family(major, INHERITED).await;
    }
}

for_oldest_and_newest! {
    /// A table that was renamed is the same; every name that is listed can be asked for; a partition that
    /// has left as a whole took with it what had come back.
    async fn by_any_name_and_when_it_is_gone(major: u32) {
        let db = fresh_database(major).await;
        let (workspace, _folder) = archived(&db, PARTITIONED, "p").await;
        let listed = workspace.run(["archive", "list"]).expect(0).stdout;
        assert!(listed.contains("public.\"P_b\""), "{listed}");
        restore(&workspace, "public.\"P_b\"", "aside").expect(0);
        db.execute("ALTER TABLE aside RENAME TO other").await;
        let twice = restore(&workspace, "public.P_b", "other").expect(2).stderr;
        assert!(twice.contains("back already"), "{twice}");
        assert_eq!(db.number("SELECT count(*) FROM other").await, 30);

        let db = fresh_database(major).await;
        let flat = "CREATE TABLE p (id int, at timestamptz) PARTITION BY RANGE (at);
            CREATE TABLE p_old PARTITION OF p FOR VALUES FROM (MINVALUE) TO ('2200-01-01')";
        let (workspace, _folder) = archived(&db, flat, "p").await;
        restore(&workspace, "p", "p_old").expect(0);
        let bound = db.strings("SELECT to_char(now() - interval '18 months', 'YYYY-MM-DD')").await.remove(0);
        db.execute(&format!("DELETE FROM p WHERE id = 99; ALTER TABLE p DETACH PARTITION p_old;
            ALTER TABLE p ATTACH PARTITION p_old FOR VALUES FROM (MINVALUE) TO ('{bound}')")).await;
        assert_eq!(run(&workspace, "archive", 0)["rows"], 30);
        assert_eq!(db.number("SELECT count(*) FROM pg_inherits WHERE inhparent = 'p'::regclass").await, 0, "it left as a whole");
        let back = restore(&workspace, "p", "fresh").expect(0).stdout;
        assert!(back.contains("was left out"), "{back}");
        assert_eq!(db.strings("SELECT count(*) || ' ' || count(DISTINCT id) FROM fresh").await, ["30 30"]);
    }
}
