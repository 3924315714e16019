//! Plans that are saved are for the very objects and columns that were looked at: what has taken
//! their names since is nobody's to drop, to rebuild or to judge by.

use serde_json::json;

use crate::support::servers::{TestDatabase, cluster, connect, fresh_database};
use crate::support::workspace::Workspace;

/// A task, what is done once its plan was saved, and what is said of it.
struct Case {
    kind: &'static str,
    options: serde_json::Value,
    meanwhile: &'static str,
    told: &'static str,
}

/// Sums up what all is there, by numbers that are others once anything has gone.
const ALL: &str = "SELECT (SELECT count(*) FROM ev) || ' ' || (SELECT count(*) FROM d) || ' ' || (SELECT count(*) FROM child)
    || ' ' || (SELECT coalesce(sum(relfilenode::int8), 0) FROM pg_class WHERE relname = 'd_v')
    || ' ' || (SELECT count(*) FROM pg_class WHERE relname LIKE 'ev\\_20%')";

async fn tables(db: &TestDatabase) {
    db.execute(
        "CREATE TABLE ev (id int, at timestamptz NOT NULL) PARTITION BY RANGE (at);
         CREATE TABLE ev_2020 PARTITION OF ev FOR VALUES FROM ('2020-01-01 00:00+00') TO ('2021-01-01 00:00+00');
         CREATE TABLE ev_now PARTITION OF ev FOR VALUES FROM ('2021-01-01 00:00+00') TO ('2100-01-01 00:00+00');
         INSERT INTO ev SELECT n, '2020-06-01' FROM generate_series(1, 10) n; INSERT INTO ev VALUES (11, now());
         CREATE TABLE d (id bigint PRIMARY KEY, at timestamptz NOT NULL, held boolean NOT NULL, v bigint);
         INSERT INTO d SELECT n, now() - n * interval '1 hour', n % 7 = 0, n FROM generate_series(1, 20000) n;
         CREATE INDEX d_v ON d (v);
         DELETE FROM d WHERE id % 5 <> 0;
         CREATE TABLE parent (id bigint PRIMARY KEY); INSERT INTO parent SELECT generate_series(1, 100);
         CREATE TABLE child (id bigint PRIMARY KEY, parent bigint); INSERT INTO child SELECT n, n FROM generate_series(1, 110) n",
    )
    .await;
    for table in ["ev", "d", "parent", "child"] {
        db.execute(&format!("VACUUM ANALYZE {table}")).await;
    }
}

const ANOTHER_PARTITION: &str = "ALTER TABLE ev DETACH PARTITION ev_2020; ALTER TABLE ev_2020 RENAME TO aside;
    CREATE TABLE ev_2020 PARTITION OF ev FOR VALUES FROM ('2020-01-01 00:00+00') TO ('2021-01-01 00:00+00');
    INSERT INTO ev SELECT n, '2020-07-01' FROM generate_series(1, 12) n; ANALYZE ev_2020";

const ANOTHER_AGE: &str = "ALTER TABLE d RENAME at TO at_old;
    ALTER TABLE d ADD at timestamptz NOT NULL DEFAULT '2020-01-01'; ANALYZE d";

fn cases(folder: &str) -> Vec<Case> {
    let by_age = json!({ "table": "d", "column": "at", "older_than": "90d", "keep": ["HELD"] });
    let mut into = by_age.clone();
    into["destination"] = json!({ "table": "d_archive" });
    let case = |kind, options, meanwhile, told| Case {
        kind,
        options,
        meanwhile,
        told,
    };
    let partition = "the id of public.ev_2020 is ";
    vec![
        case(
            "partitions",
            json!({ "tables": ["ev"], "interval": "year", "ahead": 0, "keep": "2y", "grace": "0s", "time_zone": "UTC" }),
            ANOTHER_PARTITION,
            partition,
        ),
        case(
            "cleanup",
            json!({ "rules": [{ "table": "ev", "column": "at", "older_than": "2y" }] }),
            ANOTHER_PARTITION,
            partition,
        ),
        case(
            "archive",
            json!({ "table": "ev", "column": "at", "older_than": "2y", "destination": { "files": format!("file://{folder}") } }),
            ANOTHER_PARTITION,
            partition,
        ),
        case(
            "reindex",
            json!({ "min_size": "8kB", "min_bloat": "30%", "include": ["d"] }),
            "DROP INDEX d_v; INSERT INTO d SELECT n, now(), false, n FROM generate_series(30001, 50000) n;
             CREATE INDEX d_v ON d (v); DELETE FROM d WHERE id > 30000",
            "the id of public.d_v is ",
        ),
        case(
            "cleanup",
            json!({ "rules": [by_age.clone()] }),
            ANOTHER_AGE,
            "the number of column at of public.d is 5, and was 2: another column has taken the name",
        ),
        case(
            "archive",
            into,
            ANOTHER_AGE,
            "the number of column at of public.d is 5, and was 2: another column has taken the name",
        ),
        case(
            "cleanup",
            json!({ "rules": [by_age] }),
            "ALTER TABLE d RENAME held TO held_old; ALTER TABLE d ADD held boolean NOT NULL DEFAULT false; ANALYZE d",
            "the number of column held of public.d is 5, and was 3: another column has taken the name",
        ),
        case(
            "cleanup",
            json!({ "rules": [{ "table": "child", "orphaned": { "columns": ["parent"], "parent": "parent" } }] }),
            "ALTER TABLE parent RENAME TO parent_old;
             CREATE TABLE parent (id bigint PRIMARY KEY); INSERT INTO parent SELECT generate_series(1, 60)",
            "the id of public.parent is ",
        ),
        case(
            "cleanup",
            json!({ "rules": [{ "table": "child", "orphaned": { "columns": ["parent"], "parent": "parent" } }] }),
            "ALTER TABLE parent RENAME id TO id_old; ALTER TABLE parent ADD id bigint; UPDATE parent SET id = id_old - 20",
            "the number of column id of public.parent is 2, and was 1: another column has taken the name",
        ),
    ]
}

for_oldest_and_newest! {
    async fn what_has_taken_a_name_since_is_not_what_was_approved(major: u32) {
        let folder = tempfile::tempdir().unwrap();
        for Case { kind, options, meanwhile, told } in cases(folder.path().to_str().unwrap()) {
            let db = fresh_database(major).await;
            tables(&db).await;
            let workspace = Workspace::for_target(&db.url)
                .task("task", &format!("kind: {kind}\ntarget: app\noptions: {options}\n"));
            let saved = workspace.run(["plan", "task", "--save", "plan.json"]).expect(0);
            assert!(!saved.stdout.contains("nothing to do"), "{kind} {options}: {saved:#?}");
            // What nobody has touched is the same, however often it is asked.
            workspace.run(["plan", "--check", "plan.json"]).expect(0);
            for statement in meanwhile.split(';') {
                db.execute(statement).await;
            }
            db.execute("VACUUM ANALYZE d").await;
            let before = db.strings(ALL).await;
            let checked = workspace.run(["plan", "--check", "plan.json"]).expect(5);
            assert!(checked.stdout.contains(told), "{kind} {options}: {checked:#?}");
            let refused = workspace.run(["run", "--plan", "plan.json"]).expect(2);
            assert!(refused.stderr.contains(told) && refused.stderr.contains("has taken the name"), "{kind} {options}: {refused:#?}");
            assert_eq!(db.strings(ALL).await, before, "{kind} {options}");
            // A plan of what is there now is for what is there now.
            workspace.run(["plan", "task", "--save", "again.json"]).expect(0);
            workspace.run(["run", "--plan", "again.json"]).expect(0);
            assert_ne!(db.strings(ALL).await, before, "{kind} {options}");
        }
    }
}

for_versions! {
    [pg17 = 17]
    /// Databases made from one template have tables of the same ids: a plan is for the one that was looked at, whichever
    /// has its name by now.
    async fn another_database_of_the_name_is_left_alone(major: u32) {
        let mut db = fresh_database(major).await;
        db.execute("CREATE TABLE t (id int PRIMARY KEY, at timestamptz NOT NULL, whose text)").await;
        let (name, other, aside) = (db.name.clone(), format!("{}_b", db.name), format!("{}_c", db.name));
        db.alone(major, &[format!("CREATE DATABASE {other} TEMPLATE {name}")]).await;
        let fill = |whose: &str| format!("INSERT INTO t SELECT n, now() - interval '2 years', '{whose}' FROM generate_series(1, 100) n; ANALYZE t");
        db.execute(&fill("a")).await;
        connect(&cluster(major).url(&other)).await.batch_execute(&fill("b")).await.unwrap();
        let workspace = Workspace::for_target(&db.url)
            .task("task", "kind: cleanup\ntarget: app\noptions: { rules: [{ table: t, column: at, older_than: 1y }] }\n");
        workspace.run(["plan", "task", "--save", "plan.json"]).expect(0);
        workspace.run(["plan", "--check", "plan.json"]).expect(0);
        let swap = [(&name, &aside), (&other, &name), (&aside, &other)];
        db.alone(major, &swap.map(|(from, to)| format!("ALTER DATABASE {from} RENAME TO {to}"))).await;
        assert_eq!(db.strings("SELECT DISTINCT whose FROM t").await, ["b"]);
        let check = workspace.run(["plan", "--check", "plan.json"]).expect(5);
        assert!(check.stdout.contains("target `app` is another database"), "{check:#?}");
        let run = workspace.run(["run", "--plan", "plan.json"]);
        assert!(run.code != 0 && format!("{run:#?}").contains("is another database"), "{run:#?}");
        assert_eq!(db.number("SELECT count(*) FROM t").await, 100);
        // What is there now was looked at, too.
        workspace.run(["plan", "task", "--save", "again.json"]).expect(0);
        workspace.run(["run", "--plan", "again.json"]).expect(0);
        assert_eq!(db.number("SELECT count(*) FROM t").await, 0);
    }
}
