//! What comes between the plan and the step that moves rows, or between two of its batches, and would fire or have
//! values computed anew: no row is written that would be changed by it, and the next plan refuses the table.

use serde_json::Value;
use url::Url;

use super::throttle::Running;
use crate::support::patience::Patience;
use crate::support::servers::{TestDatabase, fresh_database, wait_for_statistics};
use crate::support::workspace::Workspace;

const FUNCTIONS: &str = "CREATE FUNCTION more() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.n := NEW.n + 1000000; RETURN NEW; END';
    CREATE FUNCTION made(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1 * 2';
    CREATE TABLE hit (who text)";

/// A table that has lost nine rows of ten.
async fn lost(db: &TestDatabase, name: &str, columns: &str) {
    db.execute(&format!("CREATE TABLE {name} (id int, n int, m int, pad text{columns}) WITH (autovacuum_enabled = false);
        INSERT INTO {name} (id, n, m, pad) SELECT g, 0, g, repeat('x', 400) FROM generate_series(1, 20000) g;
        DELETE FROM {name} WHERE id % 10 > 0"))
    .await;
    db.execute(&format!("VACUUM (ANALYZE) {name}")).await;
}

/// A workspace whose runs wait while the file is there.
fn waiting(url: &str, options: &str) -> (Workspace, std::path::PathBuf) {
    let workspace = Workspace::for_target(url);
    let pause = workspace.path().join("pause");
    let task = format!(
        "kind: repack\ntarget: app\noptions: {{ min_size: 100kB, way: move{options} }}\nlimits: {{ jobs: 1, lock_timeout: 5s, transaction_wait: 30s }}\nthrottle: {{ pause_file: {} }}\n",
        pause.display()
    );
    (workspace.task("repack", &task), pause)
}

fn step<'a>(done: &'a Value, object: &str) -> &'a Value {
    let steps = done["runs"][0]["steps"].as_array().unwrap();
    let mut steps = steps.iter();
    steps
        .find(|s| s["action"] == "move_rows" && s["object"] == object)
        .unwrap_or_else(|| panic!("{object}: {done:#}"))
}

/// The step was put off, and says why.
fn deferred(done: &Value, object: &str, words: &str) {
    let step = step(done, object);
    assert_eq!(step["status"], "deferred", "{step:#}");
    let why = step["error"].as_str().unwrap();
    assert!(why.contains(words), "{why}");
}

/// The next plan refuses the table, by the same words.
fn refused(workspace: &Workspace, object: &str, words: &str) {
    let planned = workspace
        .run(["plan", "repack", "--output", "json"])
        .expect(0)
        .json();
    let refused = planned["plans"][0]["plan"]["refused"].as_array().unwrap();
    let why = refused.iter().find(|r| r["object"] == object);
    let why = why.unwrap_or_else(|| panic!("{object}: {planned:#}"));
    assert!(why["reason"].as_str().unwrap().contains(words), "{why:#}");
}

for_versions! {
    [pg15 = 15]
    /// A superuser keeps ordinary triggers from firing; one that fires always, a rule, and a trigger that has the server
    /// compute columns anew come after the plan.
    async fn what_comes_before_the_step_holds_it(major: u32) {
        let db = fresh_database(major).await;
        db.execute(FUNCTIONS).await;
        let made = ", g int GENERATED ALWAYS AS (made(m)) STORED";
        for (name, columns) in [("always", ""), ("ruled", ""), ("computed", made), ("ordinary", ""), ("free", made)] {
            lost(&db, name, columns).await;
        }
        db.execute("CREATE OR REPLACE FUNCTION made(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1 * 3'").await;
        let (workspace, pause) = waiting(&db.url, "");
        std::fs::write(&pause, "").unwrap();
        let mut running = Running::begin(&workspace, "repack");
        running.until("paused: ");
        db.execute("CREATE TRIGGER b BEFORE UPDATE ON always FOR EACH ROW EXECUTE FUNCTION more(); ALTER TABLE always ENABLE ALWAYS TRIGGER b;
            CREATE RULE r AS ON UPDATE TO ruled DO ALSO INSERT INTO hit VALUES ('rule');
            CREATE TRIGGER b BEFORE UPDATE ON computed FOR EACH ROW EXECUTE FUNCTION more();
            CREATE TRIGGER b BEFORE UPDATE ON ordinary FOR EACH ROW EXECUTE FUNCTION more()").await;
        std::fs::remove_file(&pause).unwrap();
        let done = running.end(0);
        let held = [
            ("always", "trigger b would fire"),
            ("ruled", "rule r would fire"),
            ("computed", "compute g anew"),
        ];
        for (name, words) in held {
            let object = format!("public.{name}");
            deferred(&done, &object, words);
            refused(&workspace, &object, if name == "computed" { "computes g anew" } else { words });
        }
        for name in ["ordinary", "free"] {
            let step = step(&done, &format!("public.{name}"));
            assert_eq!(step["status"], "succeeded", "{step:#}");
        }
        for name in ["always", "ruled", "computed", "ordinary", "free"] {
            let changed = format!("SELECT count(*) FROM {name} WHERE n <> 0");
            assert_eq!(db.number(&changed).await, 0, "{name}: {done:#}");
            assert_eq!(db.number(&format!("SELECT count(*) FROM {name}")).await, 2_000);
        }
        for name in ["computed", "free"] {
            let changed = format!("SELECT count(*) FROM {name} WHERE g <> m * 2");
            assert_eq!(db.number(&changed).await, 0, "{name}: {done:#}");
        }
        assert_eq!(db.number("SELECT count(*) FROM hit").await, 0);
        // No row of theirs was written at all.
        for name in ["always", "ruled", "computed"] {
            let written = format!("SELECT count(DISTINCT xmin::text) FROM {name}");
            assert_eq!(db.number(&written).await, 1, "{name}");
        }
    }
}

for_versions! {
    [pg14 = 14]
    /// Where the role may not keep triggers from firing, an ordinary one is enough.
    async fn an_ordinary_trigger_holds_a_plain_role(major: u32) {
        let db = fresh_database(major).await;
        db.execute(FUNCTIONS).await;
        lost(&db, "t", "").await;
        let role = format!("{}_maint", db.name);
        db.execute(&format!("CREATE ROLE \"{role}\" LOGIN PASSWORD 'p'; GRANT ALL ON SCHEMA public TO \"{role}\"; ALTER TABLE t OWNER TO \"{role}\"")).await;
        let mut url = Url::parse(&db.url).unwrap();
        url.set_username(&role).unwrap();
        url.set_password(Some("p")).unwrap();
        // Its address is another one.
        wait_for_statistics(&db.url);
        let (workspace, pause) = waiting(url.as_str(), "");
        std::fs::write(&pause, "").unwrap();
        let mut running = Running::begin(&workspace, "repack");
        running.until("paused: ");
        db.execute("CREATE TRIGGER b BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION more()").await;
        std::fs::remove_file(&pause).unwrap();
        let done = running.end(0);
        deferred(&done, "public.t", "trigger b would fire");
        assert_eq!(db.number("SELECT count(*) FROM t WHERE n <> 0").await, 0);
        refused(&workspace, "public.t", "trigger b would fire");
        // Without it, the next run moves them.
        db.execute("DROP TRIGGER b ON t").await;
        let again = workspace.run(["run", "repack", "--now", "--output", "json"]).expect(0).json();
        assert_eq!(step(&again, "public.t")["status"], "succeeded", "{again:#}");
        assert_eq!(db.number("SELECT count(*) FROM t WHERE n <> 0").await, 0);
        db.execute(&format!("DROP OWNED BY \"{role}\"; DROP ROLE \"{role}\"")).await;
    }
}

for_versions! {
    [pg18 = 18]
    /// Rows have moved already, and the next batch meets what has come since, or waits for who is about to make it.
    async fn what_comes_between_batches_holds_the_next(major: u32) {
        let db = fresh_database(major).await;
        db.execute(FUNCTIONS).await;
        db.execute("CREATE FUNCTION slow(int) RETURNS bool IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN
            IF pg_catalog.current_setting('application_name') LIKE 'maint %' THEN PERFORM pg_catalog.pg_sleep(0.002); END IF; RETURN true; END $$").await;
        let ways = [
            ("one", "CREATE TRIGGER b BEFORE UPDATE ON one FOR EACH ROW EXECUTE FUNCTION more(); ALTER TABLE one ENABLE ALWAYS TRIGGER b", "trigger b would fire"),
            ("two", "CREATE TRIGGER b BEFORE UPDATE ON two FOR EACH ROW EXECUTE FUNCTION more(); ALTER TABLE two ENABLE REPLICA TRIGGER b", "trigger b would fire"),
            ("three", "CREATE RULE r AS ON UPDATE TO three DO ALSO INSERT INTO hit VALUES ('rule')", "rule r would fire"),
        ];
        for (name, change, words) in ways {
            lost(&db, name, "").await;
            // Each row that is written takes a while.
            db.execute(&format!("ALTER TABLE {name} ADD CHECK (slow(n))")).await;
            let (workspace, pause) = waiting(&db.url, &format!(", include: [public.{name}], batch_goal: 10ms"));
            let mut running = Running::begin(&workspace, "repack");
            let moved = format!("SELECT count(DISTINCT xmin::text) FROM {name}");
            let patience = Patience::until("the first batch to have moved");
            while db.number(&moved).await == 1 {
                patience.pause().await;
            }
            std::fs::write(&pause, "").unwrap();
            running.until("paused: ");
            let batches = db.number(&moved).await;
            let holder = db.connect().await;
            holder.batch_execute(&format!("BEGIN; {change}")).await.unwrap();
            if name == "one" {
                // It is there before the batch begins.
                holder.batch_execute("COMMIT").await.unwrap();
            }
            std::fs::remove_file(&pause).unwrap();
            if name != "one" {
                let waits = "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
                    WHERE NOT l.granted AND a.datname = current_database() AND a.application_name LIKE 'maint %'";
                let patience = Patience::until("the batch to wait");
                while db.number(waits).await == 0 {
                    patience.pause().await;
                }
                holder.batch_execute("COMMIT").await.unwrap();
            }
            let done = running.end(0);
            deferred(&done, &format!("public.{name}"), words);
            deferred(&done, &format!("public.{name}"), "moved");
            assert_eq!(db.number(&format!("SELECT count(*) FROM {name} WHERE n <> 0")).await, 0, "{done:#}");
            assert_eq!(db.number(&format!("SELECT count(*) FROM {name}")).await, 2_000, "{done:#}");
            assert_eq!(db.number("SELECT count(*) FROM hit").await, 0, "{done:#}");
            assert_eq!(db.number(&moved).await, batches, "{name}: {done:#}");
            db.execute(&format!("ANALYZE {name}")).await;
            refused(&workspace, &format!("public.{name}"), words);
        }
    }
}
