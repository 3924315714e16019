//! Conditions that read the table that the rows go from: what they mean when the run begins goes, and no more.

use serde_json::json;

use super::aftermath::ways;
use super::{run, workspace};
use crate::support::servers::{TestDatabase, fresh_database};

const CONDITIONS: [&str; 5] = [
    "t.score < (SELECT percentile_disc(0.1) WITHIN GROUP (ORDER BY o.score) FROM public.t o)",
    "t.score < (SELECT avg(o.score) FROM public.t AS o)",
    "t.score < public.usual()",
    "t.score < (SELECT v.usual FROM public.v)",
    "t.id <> (SELECT max(o.id) FROM public.t o WHERE o.who = t.who)",
];

/// A table of 1,200 rows, whole or in partitions, with a function and a view that read it.
async fn fill(db: &TestDatabase, parted: bool) {
    let (by, parts) = match parted {
        true => (
            "PARTITION BY RANGE (id)",
            "CREATE TABLE t_a PARTITION OF t FOR VALUES FROM (MINVALUE) TO (400); CREATE TABLE t_b PARTITION OF t DEFAULT;",
        ),
        false => ("", ""),
    };
    db.execute(&format!(
        "DROP TABLE IF EXISTS t CASCADE; CREATE TABLE t (id int PRIMARY KEY, who int, score int, at timestamptz NOT NULL, pad text) {by}; {parts}
         INSERT INTO t SELECT n, n % 50, n * 7919 % 4001, now() - interval '2 years', repeat('x', 300) FROM generate_series(1, 1200) n;
         CREATE OR REPLACE FUNCTION usual() RETURNS int LANGUAGE plpgsql STABLE AS 'BEGIN RETURN (SELECT avg(score) FROM public.t); END';
         CREATE VIEW v AS SELECT avg(score) AS usual FROM t; ANALYZE t"
    ))
    .await;
}

for_versions! {
    [pg17 = 17]
    /// For every destination, in small batches: exactly the rows go that are meant at the beginning.
    async fn what_is_meant_at_first_goes_and_no_more(major: u32) {
        let (db, there) = (fresh_database(major).await, fresh_database(major).await);
        let folder = tempfile::tempdir().unwrap();
        for parted in [false, true] {
            // Of a table in partitions every second: how it is asked does not depend on it.
            for (n, condition) in CONDITIONS.into_iter().enumerate().filter(|(n, _)| !parted || n % 2 == 1) {
                // Deleted or moved: how it is asked does not depend on where to.
                let ways = ways(&format!("file://{}/{n}{parted}", folder.path().display())).into_iter().enumerate();
                for (_, (name, kind, mut options)) in ways.filter(|(way, _)| n == 1 || way % 4 == n % 4) {
                    fill(&db, parted).await;
                    for one in [&db, &there] {
                        one.execute("DROP TABLE IF EXISTS kept; CREATE TABLE kept (id int, who int, score int, at timestamptz NOT NULL, pad text)").await;
                    }
                    let rest = db.strings(&format!("SELECT id::text FROM t WHERE NOT coalesce({condition}, false) ORDER BY id")).await;
                    assert!(rest.len() < 1180 && !rest.is_empty(), "{condition} {}", rest.len());
                    let rule = match kind {
                        "cleanup" => options["rules"].get_mut(0).unwrap(),
                        _ => &mut options,
                    };
                    rule["where"] = condition.into();
                    options["batch_goal"] = "10ms".into();
                    let workspace = workspace(&db, &there, kind, &options);
                    let done = run(&workspace, kind, 0);
                    let left = db.strings("SELECT id::text FROM t ORDER BY id").await;
                    assert_eq!(left.len(), rest.len(), "{name} {condition} {parted}: {done:#}");
                    assert_eq!(left, rest, "{name} {condition} {parted}");
                    assert_eq!(done["rows"], 1200 - rest.len(), "{name} {condition}");
                }
            }
        }
    }
}

/// A saved plan asks when it is carried out, once.
#[tokio::test]
async fn a_saved_plan_asks_once() {
    let db = fresh_database(17).await;
    fill(&db, false).await;
    let rules = serde_json::json!([{ "table": "t", "where": CONDITIONS[1] }]);
    let workspace = super::cleanup(&db, &rules);
    workspace
        .run(["plan", "cleanup", "--save", "p.json"])
        .expect(0);
    let rest = db
        .number("SELECT count(*) FROM t WHERE score >= (SELECT avg(score) FROM t)")
        .await;
    workspace.run(["run", "--plan", "p.json"]).expect(0);
    assert_eq!(db.number("SELECT count(*) FROM t").await, rest);
}

for_versions! {
    [pg15 = 15]
    /// So it is where another rule of the task comes first, and where the condition puts rows together that go along:
    /// what is meant when the run begins goes, from every partition. A condition that asks for children of the row
    /// itself is asked as ever.
    async fn whatever_goes_before_or_along(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE first (id int PRIMARY KEY, at timestamptz NOT NULL); INSERT INTO first SELECT n, '2020-01-01' FROM generate_series(1, 10) n;
            CREATE TABLE t (id int, score int, pad text) PARTITION BY RANGE (id);
            CREATE TABLE t_a PARTITION OF t FOR VALUES FROM (MINVALUE) TO (601); CREATE TABLE t_b PARTITION OF t DEFAULT;
            INSERT INTO t SELECT n, n, repeat('x', 300) FROM generate_series(1, 1200) n;
            CREATE TABLE parents (id int PRIMARY KEY, score int, pad text); INSERT INTO parents SELECT n, n, repeat('x', 300) FROM generate_series(1, 1200) n;
            CREATE TABLE children (id int PRIMARY KEY, parent int REFERENCES parents ON DELETE CASCADE, score int) PARTITION BY RANGE (id);
            CREATE TABLE children_a PARTITION OF children DEFAULT; CREATE INDEX ON children (parent);
            INSERT INTO children SELECT n, n, n FROM generate_series(1, 1200) n; ANALYZE").await;
        let rules = json!([
            { "table": "first", "column": "at", "older_than": "30d" },
            { "table": "t", "where": "score < (SELECT avg(score) FROM public.t)" },
            { "table": "parents", "where": "score < (SELECT avg(score) FROM public.children)" },
        ]);
        let options = json!({ "rules": rules, "batch_goal": "10ms" });
        let done = run(&workspace(&db, &db, "cleanup", &options), "cleanup", 0);
        assert_eq!(done["rows"], 10 + 600 + 600, "{done:#}");
        for table in ["t", "parents", "children"] {
            let left = db.strings(&format!("SELECT min(id) || ' ' || count(*) FROM {table}")).await;
            assert_eq!(left, ["601 600"], "{table} {done:#}");
        }
        let rules = json!([{ "table": "parents", "where": "NOT EXISTS (SELECT FROM public.children c WHERE c.parent = parents.id AND c.score < 1190)" }]);
        let workspace = workspace(&db, &db, "cleanup", &json!({ "rules": rules }));
        let plan = workspace.run(["plan", "cleanup"]).expect(0).stdout;
        assert!(!plan.contains("reads the table itself"), "{plan}");
        let done = run(&workspace, "cleanup", 0);
        assert_eq!(done["rows"], 11, "{done:#}");
    }
}

for_versions! {
    [pg16 = 16]
    /// Nor does more go where the condition reads what a trigger or a rule changes as rows go, by a query or a function,
    /// or a function reads rows that go along. What fires elsewhere, or not at all, changes nothing.
    async fn nor_where_something_else_changes_along(major: u32) {
        let conditions = [
            ("score < (SELECT usual FROM public.stats)", ""),
            ("score < (SELECT usual FROM public.shown)", ""),
            ("score < public.told()", ""),
            ("score < (SELECT usual FROM public.stats)", "DROP TRIGGER follow ON t; CREATE RULE follow AS ON DELETE TO t DO ALSO UPDATE public.stats SET usual = usual + 1"),
            ("score < public.of_children()", "DROP TRIGGER follow ON t"),
        ];
        for (condition, otherwise) in conditions {
            let db = fresh_database(major).await;
            db.execute("CREATE TABLE t (id int PRIMARY KEY, score int, pad text); INSERT INTO t SELECT n, n, repeat('x', 300) FROM generate_series(1, 1200) n;
                CREATE TABLE children (id int PRIMARY KEY, parent int REFERENCES t ON DELETE CASCADE, score int); CREATE INDEX ON children (parent);
                INSERT INTO children SELECT n, n, n FROM generate_series(1, 1200) n;
                CREATE TABLE stats (usual int); INSERT INTO stats VALUES (601); CREATE VIEW shown AS SELECT * FROM stats;
                CREATE FUNCTION told() RETURNS int LANGUAGE plpgsql STABLE AS 'BEGIN RETURN (SELECT usual FROM public.stats); END';
                CREATE FUNCTION of_children() RETURNS int LANGUAGE plpgsql STABLE AS 'BEGIN RETURN (SELECT avg(score) + 0.5 FROM public.children); END';
                CREATE FUNCTION follows() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN UPDATE public.stats SET usual = usual + 1; RETURN NULL; END';
                CREATE TRIGGER follow AFTER DELETE ON t FOR EACH ROW EXECUTE FUNCTION follows(); ANALYZE").await;
            if !otherwise.is_empty() {
                db.execute(otherwise).await;
            }
            let options = json!({ "rules": [{ "table": "t", "where": condition }], "batch_goal": "10ms" });
            let workspace = workspace(&db, &db, "cleanup", &options);
            let plan = workspace.run(["plan", "cleanup"]).expect(0).stdout;
            assert!(plan.contains("or what changes along"), "{condition} {otherwise}: {plan}");
            let done = run(&workspace, "cleanup", 0);
            assert_eq!(done["rows"], 600, "{condition} {otherwise}: {done:#}");
            let left = db.strings("SELECT min(id) || ' ' || count(*) FROM t").await;
            assert_eq!(left, ["601 600"], "{condition} {otherwise}: {done:#}");
        }
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE t (id int PRIMARY KEY, score int); INSERT INTO t SELECT n, n FROM generate_series(1, 1200) n;
            CREATE TABLE stats (usual int); INSERT INTO stats VALUES (601); CREATE TABLE log (id int);
            CREATE FUNCTION follows() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.log VALUES (OLD.id); RETURN NULL; END';
            CREATE TRIGGER follow AFTER DELETE ON t FOR EACH ROW EXECUTE FUNCTION follows(); ANALYZE").await;
        let options = json!({ "rules": [{ "table": "t", "where": "score < (SELECT usual FROM public.stats)" }] });
        let workspace = workspace(&db, &db, "cleanup", &options);
        let plan = workspace.run(["plan", "cleanup"]).expect(0).stdout;
        assert!(!plan.contains("or what changes along"), "{plan}");
        let done = run(&workspace, "cleanup", 0);
        assert_eq!(done["rows"], 600, "{done:#}");
        assert_eq!(db.number("SELECT count(*) FROM log").await, 600);
    }
}
