//! Materialized views: order, evidence, and what a failure takes down.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;
use url::Url;

use super::finding;
use crate::support::servers::{TestDatabase, fresh_database};
use crate::support::workspace::Workspace;

fn workspace(url: &str, options: &str) -> Workspace {
    Workspace::for_target(url).task(
        "views",
        &format!("kind: refresh\ntarget: app\noptions: {{ {options} }}\nlimits: {{ jobs: 4, lock_timeout: 1s, lock_retries: 0 }}\n"),
    )
}

fn run(workspace: &Workspace, code: i32) -> Value {
    workspace
        .run(["run", "views", "--now", "--output", "json"])
        .expect(code)
        .json()
}

/// Views by name, with how their refresh ended.
fn ended(document: &Value) -> BTreeMap<String, String> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let steps = document["runs"][0]["steps"].as_array().unwrap();
    steps
        .iter()
        .map(|s| (text(&s["object"]), text(&s["status"])))
        .collect()
}

fn names(document: &Value) -> Vec<String> {
    ended(document).into_keys().collect()
}

/// Counters become visible to others some time after the commit: when the
/// session is next heard of, and half a second or a second have passed.
async fn change(db: &TestDatabase, sql: &str) {
    db.execute(sql).await;
    for _ in 0..2 {
        tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
        db.execute("SELECT 1").await;
    }
    tokio::time::sleep(std::time::Duration::from_millis(600)).await;
}

/// Two sources, and twelve views over them: a fans out to b1..b6, which meet
/// in c1..c4 through plain views, and all in d.
async fn diamond(db: &TestDatabase) {
    db.execute("CREATE TABLE s (id int PRIMARY KEY, v int); INSERT INTO s SELECT n, n FROM generate_series(1, 50) n;
        CREATE TABLE other (id int PRIMARY KEY); INSERT INTO other SELECT generate_series(1, 5);
        CREATE MATERIALIZED VIEW a AS SELECT id, v FROM s;
        CREATE UNIQUE INDEX ON a (id)").await;
    for n in 1..=6 {
        let more = if n == 6 {
            " CROSS JOIN (SELECT count(*) FROM other) o"
        } else {
            ""
        };
        db.execute(&format!(
            "CREATE MATERIALIZED VIEW b{n} AS SELECT id, 100 / (v - {n}000) AS v FROM a{more};
            CREATE UNIQUE INDEX ON b{n} (id); CREATE VIEW vb{n} AS SELECT * FROM b{n}"
        ))
        .await;
    }
    for (n, m) in [(1, 2), (2, 3), (3, 4), (5, 6)] {
        db.execute(&format!(
            "CREATE MATERIALIZED VIEW c{n} AS SELECT id, x.v FROM vb{n} x JOIN vb{m} y USING (id);
            CREATE UNIQUE INDEX ON c{n} (id)"
        ))
        .await;
    }
    db.execute("CREATE MATERIALIZED VIEW d AS SELECT id FROM c1 JOIN c2 USING (id) JOIN c3 USING (id) JOIN c5 USING (id);
        CREATE UNIQUE INDEX ON d (id)").await;
}

for_versions! {
    [pg17 = 17]
    async fn a_diamond_is_refreshed_in_order_and_only_where_sources_changed(major: u32) {
        let db = fresh_database(major).await;
        diamond(&db).await;
        change(&db, "SELECT 1").await;
        let workspace = workspace(&db.url, "");
        let first = run(&workspace, 0);
        assert_eq!(ended(&first).len(), 12, "{first:#}");
        assert!(ended(&first).values().all(|status| status == "succeeded"), "{first:#}");
        let steps = first["runs"][0]["steps"].as_array().unwrap();
        let span = |name: &str| {
            let step = steps.iter().find(|s| s["object"] == format!("public.{name}").as_str()).unwrap();
            let begun: DateTime<Utc> = step["started_at"].as_str().unwrap().parse().unwrap();
            (begun, begun + TimeDelta::milliseconds(step["duration_ms"].as_i64().unwrap()))
        };
        for (before, after) in [("a", "b1"), ("a", "b6"), ("b1", "c1"), ("b2", "c1"), ("b6", "c5"), ("c3", "d"), ("c5", "d")] {
            assert!(span(before).1 <= span(after).0, "{before} before {after}: {steps:#?}");
        }
        assert!(names(&run(&workspace, 0)).is_empty());
        // Only what reads the second source, and what reads that.
        change(&db, "INSERT INTO other VALUES (6)").await;
        assert_eq!(names(&run(&workspace, 0)), ["public.b6", "public.c5", "public.d"]);
        // No counter of rows shows a TRUNCATE.
        change(&db, "TRUNCATE other").await;
        assert_eq!(names(&run(&workspace, 0)), ["public.b6", "public.c5", "public.d"]);
        assert!(names(&run(&workspace, 0)).is_empty());
    }
}

/// One that fails, and one that is skipped for it: the run has done nothing, and is no partial one.
#[tokio::test]
async fn a_run_that_did_nothing_has_failed() {
    let db = fresh_database(17).await;
    db.execute(
        "CREATE TABLE s (v int); INSERT INTO s VALUES (1);
         CREATE MATERIALIZED VIEW one AS SELECT 1 / v AS v FROM s;
         CREATE MATERIALIZED VIEW two AS SELECT v FROM one;
         CREATE UNIQUE INDEX ON one (v); CREATE UNIQUE INDEX ON two (v)",
    )
    .await;
    let workspace = workspace(&db.url, "");
    run(&workspace, 0);
    change(&db, "UPDATE s SET v = 0").await;
    let document = run(&workspace, 1);
    let ended = ended(&document);
    let statuses: Vec<&str> = ended.values().map(String::as_str).collect();
    assert_eq!(statuses, ["failed", "skipped"], "{document:#}");
    assert_eq!(document["runs"][0]["status"], "failed", "{document:#}");
}

for_versions! {
    [pg16 = 16]
    async fn one_that_fails_takes_down_only_what_reads_it(major: u32) {
        let db = fresh_database(major).await;
        diamond(&db).await;
        let workspace = workspace(&db.url, "");
        run(&workspace, 0);
        // From now on b3 divides by zero.
        change(&db, "UPDATE s SET v = 3000 WHERE id = 7").await;
        let document = run(&workspace, 1);
        assert_eq!(document["runs"][0]["status"], "partial");
        let ended = ended(&document);
        let those = |status: &str| ended.iter().filter(|(_, s)| *s == status).map(|(name, _)| name.as_str()).collect::<Vec<_>>();
        assert_eq!(those("failed"), ["public.b3"], "{document:#}");
        assert_eq!(those("skipped"), ["public.c2", "public.c3", "public.d"]);
        assert_eq!(those("succeeded"), ["public.a", "public.b1", "public.b2", "public.b4", "public.b5", "public.b6", "public.c1", "public.c5"]);
        let steps = document["runs"][0]["steps"].as_array().unwrap();
        let error = |name: &str| steps.iter().find(|s| s["object"] == name).unwrap()["error"].as_str().unwrap().to_owned();
        assert!(error("public.b3").contains("division by zero"));
        assert_eq!(error("public.c2"), "needs refresh of public.b3, which ended as failed");
        assert!(error("public.d").starts_with("needs refresh of public.c"), "{document:#}");
        // Once mended, the rest follows, and only the rest.
        change(&db, "UPDATE s SET v = 7 WHERE id = 7").await;
        assert_eq!(run(&workspace, 0)["runs"][0]["steps"].as_array().unwrap().len(), 12);
        assert!(names(&run(&workspace, 0)).is_empty());
    }
}

for_oldest_and_newest! {
    /// Each of two views can be filled only while the other is being filled.
    async fn independent_ones_are_refreshed_at_once(major: u32) {
        let db = fresh_database(major).await;
        // A lock of the session stays, so neither misses that the other was there.
        db.execute("CREATE FUNCTION meet(me int, other int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN
                PERFORM pg_catalog.pg_advisory_lock(42, me);
                FOR attempt IN 1 .. 2400 LOOP
                    IF EXISTS (SELECT FROM pg_catalog.pg_locks WHERE locktype = 'advisory' AND classid = 42 AND objid = other
                            AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())) THEN RETURN me; END IF;
                    PERFORM pg_catalog.pg_sleep(0.05);
                END LOOP;
                RAISE EXCEPTION 'nobody came'; END $$;
            CREATE MATERIALIZED VIEW v1 AS SELECT public.meet(1, 2) AS id WITH NO DATA;
            CREATE MATERIALIZED VIEW v2 AS SELECT public.meet(2, 1) AS id WITH NO DATA").await;
        let document = run(&workspace(&db.url, ""), 0);
        assert_eq!(names(&document), ["public.v1", "public.v2"]);
    }
}

for_oldest_and_newest! {
    /// Nobody is blocked unless somebody said so.
    async fn without_a_unique_index_it_says_which_to_create(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE SCHEMA \"select\"; CREATE TABLE s AS SELECT generate_series(1, 9) AS \"the Id\";
            CREATE MATERIALIZED VIEW \"select\".\"weird \"\"name; DROP TABLE x\" AS SELECT \"the Id\" FROM s;
            CREATE MATERIALIZED VIEW \"Ünïcode view with a name that is exactly sixty-three bytes\" AS SELECT * FROM s WITH NO DATA;
            CREATE MATERIALIZED VIEW partial AS SELECT * FROM s; CREATE UNIQUE INDEX ON partial (\"the Id\") WHERE \"the Id\" > 3;
            CREATE MATERIALIZED VIEW expression AS SELECT * FROM s; CREATE UNIQUE INDEX ON expression ((\"the Id\" + 1));
            ANALYZE").await;
        let relaxed = workspace(&db.url, "");
        let document = run(&relaxed, 0);
        // The first population blocks nobody: an unpopulated view cannot be read.
        assert_eq!(names(&document), ["public.\"Ünïcode view with a name that is exactly sixty-three bytes\""]);
        assert_eq!(db.number("SELECT count(*) FROM \"Ünïcode view with a name that is exactly sixty-three bytes\"").await, 9);
        let found = finding(&document, "view.no_unique_index");
        assert_eq!(document["runs"][0]["findings"].as_array().unwrap().len(), 3, "{document:#}");
        let sql = format!("CREATE UNIQUE INDEX ON {} (\"the Id\")", found["object"].as_str().unwrap());
        assert_eq!(found["suggestion"], format!("if no two rows can ever have the same \"the Id\", as they have not today: {sql}"));
        // Nobody runs what may break every refresh of tomorrow.
        let advised = relaxed.run(["advise"]).expect(0).stdout;
        assert!(advised.contains("\n-- if no two rows") && !advised.contains("\nCREATE UNIQUE INDEX"), "{advised}");
        // What it suggests is what it takes.
        for found in document["runs"][0]["findings"].as_array().unwrap() {
            let (_, sql) = found["suggestion"].as_str().unwrap().split_once(": ").unwrap();
            db.execute(sql).await;
        }
        let document = run(&relaxed, 0);
        assert_eq!(names(&document).len(), 3, "{document:#}");
        let statements: Vec<&str> = document["runs"][0]["steps"].as_array().unwrap().iter().map(|s| s["statement"].as_str().unwrap()).collect();
        assert!(statements.iter().all(|sql| sql.contains("CONCURRENTLY")), "{statements:?}");
        let blocking = workspace(&db.url, "allow_blocking: true, include: [\"Ünïcode*\"], always: true");
        let document = run(&blocking, 0);
        let statement = document["runs"][0]["steps"][0]["statement"].as_str().unwrap();
        assert!(!statement.contains("CONCURRENTLY"), "{statement}");
    }
}

for_versions! {
    [pg14 = 14]
    /// A view below, or a function, that is replaced makes the view another.
    async fn what_is_defined_anew_is_a_change(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE b AS SELECT generate_series(1, 20) AS id; CREATE FUNCTION twice(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 * 2';
            CREATE VIEW below AS SELECT id FROM b WHERE id < 5; CREATE MATERIALIZED VIEW few AS SELECT count(*) AS n FROM below;
            CREATE MATERIALIZED VIEW above AS SELECT n FROM few; CREATE MATERIALIZED VIEW doubled AS SELECT sum(twice(id)) AS n FROM b;
            CREATE MATERIALIZED VIEW other AS SELECT count(*) AS n FROM b").await;
        change(&db, "SELECT 1").await;
        let workspace = workspace(&db.url, "allow_blocking: true");
        assert_eq!(names(&run(&workspace, 0)).len(), 4);
        assert!(names(&run(&workspace, 0)).is_empty());
        db.execute("CREATE OR REPLACE VIEW below AS SELECT id FROM b WHERE id < 9").await;
        assert_eq!(names(&run(&workspace, 0)), ["public.above", "public.few"]);
        assert_eq!(db.number("SELECT n FROM above").await, 8);
        db.execute("CREATE OR REPLACE FUNCTION twice(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 * 3'").await;
        assert_eq!(names(&run(&workspace, 0)), ["public.doubled"]);
        assert_eq!(db.number("SELECT n FROM doubled").await, 630);
        assert!(names(&run(&workspace, 0)).is_empty());
    }
}

for_versions! {
    [pg18 = 18]
    /// Views whose sources nobody counts are not taken for fresh.
    async fn what_reads_the_clock_is_refreshed_by_age(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE s AS SELECT generate_series(1, 9) AS id, now() AS at;
            CREATE FUNCTION mine(int) RETURNS int LANGUAGE sql STABLE AS 'SELECT count(*)::int + $1 FROM public.s';
            CREATE TABLE p (id int) PARTITION BY RANGE (id); CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10);
            CREATE MATERIALIZED VIEW day AS SELECT id, at::date AS d, date_trunc('day', at) FROM s WHERE at - interval '1 day' < at;
            CREATE MATERIALIZED VIEW clock AS SELECT id FROM s WHERE at < now();
            CREATE MATERIALIZED VIEW today AS SELECT id FROM s WHERE at < current_date;
            CREATE MATERIALIZED VIEW own AS SELECT mine(id) AS id FROM s;
            CREATE MATERIALIZED VIEW catalog AS SELECT oid::int8 AS id FROM pg_catalog.pg_class;
            CREATE MATERIALIZED VIEW parts AS SELECT id FROM p;
            CREATE UNIQUE INDEX ON day (id); CREATE UNIQUE INDEX ON clock (id); CREATE UNIQUE INDEX ON today (id);
            CREATE UNIQUE INDEX ON own (id); CREATE UNIQUE INDEX ON catalog (id); CREATE UNIQUE INDEX ON parts (id)").await;
        change(&db, "SELECT 1").await;
        let patient = workspace(&db.url, "");
        assert_eq!(names(&run(&patient, 0)).len(), 6);
        // At once again nothing is done, whatever they depend on.
        assert!(names(&run(&patient, 0)).is_empty());
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        let hasty = patient.run(["run", "views", "--now", "--set", "uncounted_max_age=1s", "--output", "json"]).expect(0).json();
        assert_eq!(names(&hasty), ["public.catalog", "public.clock", "public.own", "public.today"]);
        let reason = hasty["runs"][0]["steps"].as_array().unwrap().iter().find(|s| s["object"] == "public.clock").unwrap();
        assert!(reason["reason"].as_str().unwrap().starts_with("it depends on now, so it may be out of date"), "{reason:#}");
        change(&db, "INSERT INTO p VALUES (1)").await;
        let stale = patient.run(["run", "views", "--now", "--set", "fresh_within=1s", "--output", "json"]).expect(0).json();
        assert_eq!(names(&stale), ["public.parts"]);
        assert_eq!(finding(&stale, "view.stale")["object"], "public.parts");
    }
}

for_oldest_and_newest! {
    async fn a_role_that_may_not_is_told(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE s (id int PRIMARY KEY); CREATE MATERIALIZED VIEW m AS SELECT id FROM s; CREATE UNIQUE INDEX ON m (id)").await;
        let role = format!("{}_reader", db.name);
        db.execute(&format!("CREATE ROLE \"{role}\" LOGIN PASSWORD 'p'")).await;
        let mut url = Url::parse(&db.url).unwrap();
        url.set_username(&role).unwrap();
        url.set_password(Some("p")).unwrap();
        // Nothing of what was asked for could be done.
        let document = run(&workspace(url.as_str(), ""), 1);
        assert!(names(&document).is_empty());
        assert_eq!(finding(&document, "privilege.missing")["object"], "public.m");
        if major >= 17 {
            db.execute(&format!("GRANT MAINTAIN ON m TO \"{role}\"")).await;
            assert_eq!(names(&run(&workspace(url.as_str(), ""), 0)), ["public.m"]);
        }
        db.execute(&format!("DROP OWNED BY \"{role}\"; DROP ROLE \"{role}\"")).await;
    }
}

/// What is made of a view that nobody can refresh would be as old as that: it is skipped and says so, also where it
/// reads it through a plain view, and what reads neither is refreshed.
#[tokio::test]
async fn what_reads_a_view_that_cannot_be_refreshed_waits() {
    let db = fresh_database(17).await;
    let owner = format!("owner_of_{}", db.name);
    db.execute(&format!("CREATE ROLE {owner}; GRANT CREATE ON SCHEMA public TO {owner}; CREATE TABLE s (id int PRIMARY KEY); GRANT SELECT ON s TO {owner};
        CREATE MATERIALIZED VIEW a AS SELECT id FROM s; CREATE UNIQUE INDEX ON a (id); ALTER MATERIALIZED VIEW a OWNER TO {owner};
        CREATE VIEW through AS SELECT id FROM a; CREATE MATERIALIZED VIEW b AS SELECT id FROM through; CREATE UNIQUE INDEX ON b (id);
        CREATE MATERIALIZED VIEW c AS SELECT id FROM b; CREATE UNIQUE INDEX ON c (id);
        CREATE MATERIALIZED VIEW other AS SELECT id FROM s; CREATE UNIQUE INDEX ON other (id);
        REVOKE SELECT ON s FROM {owner}; INSERT INTO s VALUES (1)")).await;
    let workspace = workspace(&db.url, "always: true");
    let document = run(&workspace, 1);
    assert_eq!(names(&document), ["public.other"], "{document:#}");
    finding(&document, "privilege.missing");
    assert_eq!(db.number("SELECT count(*) FROM c").await, 0);
    let plan = workspace
        .run(["plan", "views", "--output", "json"])
        .expect(0)
        .json();
    let skipped = plan["plans"][0]["plan"]["skipped"].to_string();
    for part in [
        "it reads public.a, which is to be refreshed first and cannot be",
        "it reads public.b, which",
    ] {
        assert!(skipped.contains(part), "{part}: {skipped}");
    }
    db.execute(&format!("GRANT SELECT ON s TO {owner}")).await;
    let document = run(&workspace, 0);
    assert_eq!(names(&document).len(), 4, "{document:#}");
    assert_eq!(db.number("SELECT count(*) FROM c").await, 1);
    db.execute(&format!("DROP OWNED BY {owner} CASCADE; DROP ROLE {owner}"))
        .await;
}
