//! Partitions that are over by their bounds, and stay: they hold rows whose age nobody knows, or lead to rows of another
//! server.

use serde_json::{Value, json};

use super::throttle::Running;
use crate::support::servers::{TestDatabase, fresh_database};
use crate::support::workspace::Workspace;

fn task(db: &TestDatabase, options: &Value) -> (Workspace, std::path::PathBuf) {
    let workspace = Workspace::for_target(&db.url);
    let pause = workspace.path().join("pause");
    let task = format!(
        "kind: partitions\ntarget: app\noptions: {options}\nlimits: {{ jobs: 1 }}\nthrottle: {{ pause_file: {} }}\n",
        pause.display()
    );
    (workspace.task("partitions", &task), pause)
}

fn run(workspace: &Workspace, grace: &str, code: i32) -> Value {
    let grace = format!("grace={grace}");
    let arguments = [
        "run",
        "partitions",
        "--now",
        "--set",
        &grace,
        "--output",
        "json",
    ];
    workspace.run(arguments).expect(code).json()["runs"][0].clone()
}

/// The finding of this code on a partition, and nothing of the kind on another.
fn told<'a>(run: &'a Value, code: &str, partition: &str) -> &'a Value {
    let all = run["findings"].as_array().unwrap().iter();
    let of: Vec<&Value> = all.filter(|finding| finding["code"] == code).collect();
    assert_eq!(of.len(), 1, "{run:#}");
    assert_eq!(of[0]["object"], format!("public.{partition}"), "{run:#}");
    of[0]
}

async fn there(db: &TestDatabase, partition: &str) -> bool {
    let sql = format!("SELECT count(*) FROM pg_class WHERE relname = '{partition}'");
    db.number(&sql).await == 1
}

/// A type of key, where the first partition begins, the bounds after that, values of no known age, and `epoch`.
type Keyed = (
    &'static str,
    &'static str,
    [&'static str; 3],
    &'static [&'static str],
    &'static str,
);

/// Type, where the first partition begins, where it ends and the others do, values that stand for no time, and the epoch.
const KEYS: [Keyed; 5] = [
    (
        "timestamptz",
        "MINVALUE",
        [
            "'2020-01-01 00:00+00'",
            "'2021-01-01 00:00+00'",
            "'2100-01-01 00:00+00'",
        ],
        &[
            "'-infinity'",
            "'0001-01-01 00:00+00'",
            "'1970-01-01 00:00+00'",
        ],
        "",
    ),
    (
        "timestamp",
        "'-infinity'",
        ["'2020-01-01'", "'2021-01-01'", "'2100-01-01'"],
        &["'0001-01-01'"],
        "",
    ),
    (
        "date",
        "MINVALUE",
        ["'2020-01-01'", "'2021-01-01'", "'2100-01-01'"],
        &["'-infinity'"],
        "",
    ),
    (
        "date",
        "'1970-01-01'",
        ["'1990-01-01'", "'2021-01-01'", "'2100-01-01'"],
        &["'1970-01-01'"],
        "",
    ),
    (
        "bigint",
        "MINVALUE",
        ["1577836800", "1609459200", "4102444800"],
        &["0"],
        "seconds",
    ),
];

for_versions! {
    [pg16 = 16]
    /// What `cleanup` and `archive` leave, as nobody knows how old it is, does not go with its partition either; the
    /// partition beside it goes.
    async fn rows_that_tell_no_age_hold_their_partition(major: u32) {
        for (key, begins, [first, second, third], ageless, epoch) in KEYS {
            // Beside a default partition it is detached in another way, whatever the key.
            let beside: &[bool] = match begins {
                "'-infinity'" => &[false, true],
                _ => &[false],
            };
            for default in beside.iter().copied() {
                let db = fresh_database(major).await;
                db.execute(&format!("CREATE TABLE o (at {key} NOT NULL) PARTITION BY RANGE (at); CREATE TABLE o1 PARTITION OF o FOR VALUES FROM ({begins}) TO ({first});
                    CREATE TABLE o2 PARTITION OF o FOR VALUES FROM ({first}) TO ({second}); CREATE TABLE o3 PARTITION OF o FOR VALUES FROM ({second}) TO ({third});
                    INSERT INTO o VALUES ({first}), ({second})")).await;
                if default {
                    db.execute("CREATE TABLE rest PARTITION OF o DEFAULT").await;
                }
                for value in ageless {
                    db.execute(&format!("INSERT INTO o VALUES ({value})")).await;
                }
                let mut options = json!({ "tables": ["o"], "interval": "year", "ahead": 0, "keep": "4y", "time_zone": "UTC" });
                if !epoch.is_empty() {
                    options["epoch"] = epoch.into();
                }
                let (workspace, _) = task(&db, &options);
                for _ in 0..2 {
                    let done = run(&workspace, "0s", 0);
                    let finding = told(&done, "partitions.doubted", "o1");
                    let sql = finding["suggestion"].as_str().unwrap();
                    assert_eq!(db.client.query(sql, &[]).await.unwrap().len(), ageless.len(), "{sql}");
                    let steps = done["steps"].as_array().unwrap();
                    let step = steps.iter().find(|step| step["object"] == "public.o1").unwrap();
                    assert_eq!((step["status"].as_str(), &step["error"]), (Some("skipped"), &finding["message"]), "{done:#}");
                    assert!(!there(&db, "o2").await, "{key} {begins}: {done:#}");
                    let attached = "SELECT count(*) FROM pg_inherits WHERE inhrelid = 'o1'::regclass AND NOT inhdetachpending AND obj_description(inhrelid, 'pg_class') IS NULL";
                    assert_eq!(db.number(attached).await, 1, "{key} {begins}: {done:#}");
                    assert_eq!(db.number("SELECT count(*) FROM o").await, 1 + ageless.len() as i64, "{key} {begins}: {done:#}");
                }
                // Detached already, it may have been given such a row: then it is not dropped.
                db.execute("DELETE FROM o1").await;
                run(&workspace, "7d", 0);
                assert_eq!(db.number("SELECT count(*) FROM o").await, 1);
                db.execute(&format!("INSERT INTO o1 VALUES ({})", ageless[0])).await;
                let again = ["run", "partitions", "--now", "--set", "grace=0s", "--output", "json"];
                let held = workspace.run(again).json()["runs"][0].clone();
                told(&held, "partitions.doubted", "o1");
                assert_eq!(db.number("SELECT count(*) FROM o1").await, 1);
                db.execute("DELETE FROM o1").await;
                run(&workspace, "0s", 0);
                assert!(!there(&db, "o1").await && there(&db, "o3").await);
            }
        }
    }
}

for_versions! {
    [pg16 = 16]
    /// Rows that a policy of the partition hides from its own owner are there, too: it is not dropped unseen.
    async fn what_a_policy_hides_holds_its_partition(major: u32) {
        let db = fresh_database(major).await;
        let role = format!("{}_maint", db.name);
        db.execute(&format!("CREATE TABLE o (at timestamptz NOT NULL) PARTITION BY RANGE (at);
            CREATE TABLE o1 PARTITION OF o FOR VALUES FROM (MINVALUE) TO ('2020-01-01 00:00+00');
            CREATE TABLE o2 PARTITION OF o FOR VALUES FROM ('2020-01-01 00:00+00') TO ('2100-01-01 00:00+00');
            INSERT INTO o VALUES ('-infinity'), ('2019-05-01');
            ALTER TABLE o1 ENABLE ROW LEVEL SECURITY; ALTER TABLE o1 FORCE ROW LEVEL SECURITY; CREATE POLICY dated ON o1 USING (at > '2000-01-01');
            CREATE ROLE \"{role}\" LOGIN PASSWORD 'p'; GRANT ALL ON SCHEMA public TO \"{role}\";
            ALTER TABLE o OWNER TO \"{role}\"; ALTER TABLE o1 OWNER TO \"{role}\"; ALTER TABLE o2 OWNER TO \"{role}\"")).await;
        let mut url = url::Url::parse(&db.url).unwrap();
        url.set_username(&role).unwrap();
        url.set_password(Some("p")).unwrap();
        let options = json!({ "tables": ["o"], "interval": "year", "ahead": 0, "keep": "4y", "grace": "0s", "time_zone": "UTC" });
        let workspace = Workspace::for_target(url.as_str()).task("partitions", &format!("kind: partitions\ntarget: app\noptions: {options}\n"));
        let done = workspace.run(["run", "partitions", "--now", "--output", "json"]).expect(1).json();
        assert!(done.to_string().contains("row-level security"), "{done:#}");
        assert_eq!(db.number("SELECT count(*) FROM o").await, 2, "{done:#}");
        db.execute("ALTER TABLE o1 NO FORCE ROW LEVEL SECURITY; DELETE FROM o1 WHERE at = '-infinity'").await;
        workspace.run(["run", "partitions", "--now"]).expect(0);
        assert!(!there(&db, "o1").await);
        db.execute(&format!("DROP OWNED BY \"{role}\"; DROP ROLE \"{role}\"")).await;
    }
}

/// A partition with a partition of its own here; `o31` is a foreign table for beside that.
const AWAY: &str = "CREATE EXTENSION file_fdw; CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
    CREATE TABLE o (at date NOT NULL, r text) PARTITION BY RANGE (at);
    CREATE TABLE o3 PARTITION OF o FOR VALUES FROM ('2019-01-01') TO ('2020-01-01') PARTITION BY LIST (r);
    CREATE TABLE o30 PARTITION OF o3 FOR VALUES IN ('here');
    CREATE TABLE o4 PARTITION OF o FOR VALUES FROM ('2020-01-01') TO ('2100-01-01');
    CREATE FOREIGN TABLE o31 (at date NOT NULL, r text) SERVER files OPTIONS (filename '/dev/null');
    INSERT INTO o VALUES ('2019-05-01', 'here')";
const ATTACH: &str = "ALTER TABLE o3 ATTACH PARTITION o31 FOR VALUES IN ('there')";

for_versions! {
    [pg15 = 15]
    /// A foreign table below a partition would go with it, and its rows stay where nothing leads to them.
    async fn what_has_a_foreign_table_below_is_not_dropped(major: u32) {
        let db = fresh_database(major).await;
        db.execute(AWAY).await;
        let options = json!({ "tables": ["o"], "interval": "year", "ahead": 0, "keep": "6mo", "time_zone": "UTC" });
        let (workspace, pause) = task(&db, &options);
        // Attached between the plan and the step.
        std::fs::write(&pause, "").unwrap();
        workspace.file("tasks/partitions.yaml", &format!("kind: partitions\ntarget: app\noptions: {options}\nthrottle: {{ pause_file: {} }}\n", pause.display()));
        let mut running = Running::begin(&workspace, "partitions");
        running.until("paused: ");
        db.execute(ATTACH).await;
        std::fs::remove_file(&pause).unwrap();
        let done = running.end(0)["runs"][0].clone();
        told(&done, "rows.foreign", "o3");
        assert_eq!(done["steps"][0]["status"], "skipped", "{done:#}");
        // There when the plan is made.
        for grace in ["7d", "0s"] {
            let done = run(&workspace, grace, 1);
            let finding = told(&done, "rows.foreign", "o3");
            assert!(finding["message"].as_str().unwrap().contains("public.o31 is a foreign table"), "{done:#}");
            assert_eq!(done["steps"], json!([]), "{done:#}");
            let attached = "SELECT count(*) FROM pg_inherits WHERE inhrelid IN ('o3'::regclass, 'o31'::regclass) AND NOT inhdetachpending";
            assert_eq!(db.number(attached).await, 2, "{done:#}");
        }
        // Attached while it waits to be dropped.
        db.execute("ALTER TABLE o3 DETACH PARTITION o31").await;
        let done = run(&workspace, "7d", 0);
        assert_eq!(done["steps"][0]["status"], "succeeded", "{done:#}");
        // The server has made a check of its bounds, which the foreign table has not.
        db.execute("ALTER TABLE o3 DROP CONSTRAINT o3_at_check").await;
        db.execute(ATTACH).await;
        let done = run(&workspace, "0s", 1);
        told(&done, "rows.foreign", "o3");
        assert!(there(&db, "o3").await && there(&db, "o31").await && there(&db, "o30").await, "{done:#}");
        db.execute("ALTER TABLE o3 DETACH PARTITION o31").await;
        run(&workspace, "0s", 0);
        assert!(!there(&db, "o3").await && there(&db, "o31").await);
    }
}
