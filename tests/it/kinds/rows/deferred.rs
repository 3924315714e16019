//! Deferred triggers that put more off while they run: what they do then would happen at COMMIT, after everything was
//! compared. It happens before, or nothing is committed.

use serde_json::Value;

use super::aftermath::ways;
use super::{attempt, workspace};
use crate::support::servers::{TestDatabase, fresh_database};

/// Where the first trigger hangs, and what the last one of a chain of so many does. Each puts the next off again.
struct Chain {
    on: &'static str,
    links: u32,
    does: &'static str,
}

async fn hang(db: &TestDatabase, chain: &Chain) {
    let Chain { on, links, does } = chain;
    for link in (1..=*links).rev() {
        let body = match link == *links {
            true => (*does).to_owned(),
            false => format!(
                "SET CONSTRAINTS ALL DEFERRED; UPDATE link_{} SET n = n + 1",
                link + 1
            ),
        };
        let on = match link {
            1 => (*on).to_owned(),
            _ => format!("UPDATE ON link_{link}"),
        };
        db.execute(&format!(
            "DROP TABLE IF EXISTS link_{link} CASCADE; CREATE TABLE link_{link} (n int); INSERT INTO link_{link} VALUES (1);
             CREATE OR REPLACE FUNCTION does_{link}() RETURNS trigger LANGUAGE plpgsql SET search_path = public AS $$ BEGIN {body}; RETURN NULL; END $$;
             DROP TRIGGER IF EXISTS chained_{link} ON {table}; CREATE CONSTRAINT TRIGGER chained_{link} AFTER {on} DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION does_{link}()",
            table = on.rsplit(' ').next().unwrap_or_default()
        ))
        .await;
    }
}

const SOURCE: &str = "DROP TABLE IF EXISTS t CASCADE; CREATE TABLE t (id int PRIMARY KEY, at timestamptz NOT NULL, pad text);
    INSERT INTO t SELECT n, now() - CASE WHEN n <= 20 THEN interval '2 years' ELSE interval '1 hour' END, 'p' || n FROM generate_series(1, 25) n;
    DROP TABLE IF EXISTS audit; CREATE TABLE audit (n int)";
const KEPT: &str = "DROP TABLE IF EXISTS kept CASCADE; CREATE TABLE kept (id int, at timestamptz NOT NULL, pad text); DROP TABLE IF EXISTS audit; CREATE TABLE audit (n int)";

const BACK: &str = "INSERT INTO t SELECT n, now() - interval '2 years', 'p' || n FROM generate_series(1, 10) n ON CONFLICT DO NOTHING";
const AWAY: &str = "DELETE FROM kept WHERE id % 2 = 1";
const TOLD: &str = "INSERT INTO audit VALUES (1)";

/// How many rows there are, and of how many ids.
async fn rows(db: &TestDatabase, table: &str) -> (i64, i64) {
    let all = db.number(&format!("SELECT count(*) FROM {table}")).await;
    let ids = format!("SELECT count(DISTINCT id) FROM {table}");
    (all, db.number(&ids).await)
}

async fn fresh(db: &TestDatabase, there: &TestDatabase) {
    db.execute(SOURCE).await;
    for one in [db, there] {
        one.execute(KEPT).await;
    }
}

fn status(run: &Value) -> (&str, &str) {
    // What archives a batch comes after what settles those of before.
    let last = run["steps"].as_array().and_then(|steps| steps.last());
    let status = last
        .and_then(|step| step["status"].as_str())
        .unwrap_or("none");
    (run["status"].as_str().unwrap_or("none"), status)
}

for_versions! {
    [pg14 = 14, pg18 = 18]
    /// At the source they put rows back, at the destination they take rows away: each row is in one place, and the run has
    /// failed.
    async fn what_is_put_off_again_is_seen(major: u32) {
        let (db, there) = (fresh_database(major).await, fresh_database(major).await);
        let folder = tempfile::tempdir().unwrap();
        let links = if major == 14 { 2 } else { 5 };
        let files = format!("file://{}/{links}", folder.path().display());
        for (name, kind, options) in ways(&files) {
            fresh(&db, &there).await;
            hang(&db, &Chain { on: "DELETE ON t", links, does: BACK }).await;
            let workspace = workspace(&db, &there, kind, &options);
            // The first ten are put back whenever they go; the others may go alone.
            for _ in 0..2 {
                let before = rows(&db, "t").await.0;
                let run = attempt(&workspace, kind);
                assert_eq!(status(&run).1, "failed", "{name} {links}: {run:#}");
                let (all, ids) = rows(&db, "t").await;
                assert_eq!(all, ids, "{name} {links}: {run:#}");
                assert_eq!(run["rows"].as_i64().unwrap_or(0), before - all, "{name} {links}: {run:#}");
                assert_eq!(db.number("SELECT count(*) FROM t WHERE id <= 10").await, 10, "{name} {links}: {run:#}");
                if name == "table" || name == "database" {
                    let at = if name == "table" { &db } else { &there };
                    assert_eq!(rows(at, "kept").await, (25 - all, 25 - all), "{name} {links}: {run:#}");
                }
            }
            if name != "table" && name != "database" {
                continue;
            }
            fresh(&db, &there).await;
            let at = if name == "table" { &db } else { &there };
            hang(at, &Chain { on: "INSERT ON kept", links, does: AWAY }).await;
            for _ in 0..2 {
                let before = rows(&db, "t").await.0;
                let run = attempt(&workspace, kind);
                assert_eq!(status(&run).1, "failed", "{name} {links}: {run:#}");
                let (source, kept) = (rows(&db, "t").await, rows(at, "kept").await);
                assert_eq!(source.0 + kept.0, 25, "{name} {links}: {run:#}");
                assert_eq!(run["rows"].as_i64().unwrap_or(0), before - source.0, "{name} {links}: {run:#}");
            }
        }
    }
}

for_versions! {
    [pg17 = 17]
    /// Chains that write elsewhere keep nothing; one that has no end is given back.
    async fn what_writes_elsewhere_keeps_nothing(major: u32) {
        let (db, there) = (fresh_database(major).await, fresh_database(major).await);
        let folder = tempfile::tempdir().unwrap();
        let files = format!("file://{}", folder.path().display());
        for (name, kind, options) in ways(&files) {
            fresh(&db, &there).await;
            hang(&db, &Chain { on: "DELETE ON t", links: 4, does: TOLD }).await;
            let workspace = workspace(&db, &there, kind, &options);
            let run = attempt(&workspace, kind);
            assert_eq!((status(&run), run["rows"].as_i64()), (("succeeded", "succeeded"), Some(20)), "{name}: {run:#}");
            assert_eq!(rows(&db, "t").await, (5, 5), "{name}");
            assert_eq!(db.number("SELECT count(*) FROM audit").await, 20, "{name}");
            // The last one begins the chain anew.
            fresh(&db, &there).await;
            hang(&db, &Chain { on: "DELETE ON t", links: 3, does: "SET CONSTRAINTS ALL DEFERRED; UPDATE link_2 SET n = n + 1" }).await;
            let run = attempt(&workspace, kind);
            assert_eq!(status(&run).1, "failed", "{name}: {run:#}");
            assert_eq!(rows(&db, "t").await, (25, 25), "{name}");
        }
    }
}
