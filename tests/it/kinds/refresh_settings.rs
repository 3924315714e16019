//! What a refresh stores is what whoever else refreshes the view would store.

use serde_json::Value;

use crate::support::servers::{TestDatabase, database_on, fresh_database, private_cluster};
use crate::support::workspace::Workspace;

fn refresh(workspace: &Workspace) -> Vec<Value> {
    let run = workspace
        .run(["run", "refresh", "--now", "--output", "json"])
        .expect(0)
        .json();
    let steps = run["runs"][0]["steps"].as_array().unwrap().clone();
    assert!(
        steps.iter().all(|s| s["status"] == "succeeded"),
        "{steps:#?}"
    );
    steps
}

async fn contents(db: &TestDatabase) -> Vec<String> {
    let all = "SELECT name || ': ' || encode(convert_to(v.text, 'UTF8'), 'hex') FROM (
            SELECT 'indexed' AS name, m::text AS text FROM indexed m UNION ALL SELECT 'plain', m::text FROM plain m
            UNION ALL SELECT 'first', m::text FROM first m) v ORDER BY 1";
    // Compared as one and the same session shows it.
    let client = db.connect().await;
    client
        .batch_execute("SET TimeZone = 'UTC'; SET extra_float_digits = 3; SET DateStyle = 'ISO'; SET IntervalStyle = 'postgres'; SET bytea_output = 'hex'")
        .await
        .unwrap();
    let rows = client.query(all, &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

for_versions! {
    [pg14 = 14, pg17 = 17, pg18 = 18]
    /// Which day a moment belongs to, and how values look as text, is the database's own choice.
    async fn what_it_stores_is_what_an_owner_would(major: u32) {
        let db = fresh_database(major).await;
        for (name, value) in [("TimeZone", "America/New_York"), ("DateStyle", "German, DMY"), ("IntervalStyle", "iso_8601"), ("bytea_output", "escape"),
            ("extra_float_digits", "-3"), ("xmlbinary", "hex"), ("quote_all_identifiers", "on")] {
            db.execute(&format!("ALTER DATABASE {} SET {name} = '{value}'", db.name)).await;
        }
        let query = "SELECT 1 AS k, d::date AS day, d::text AS moment, date_trunc('day', d) AS begins, extract(hour FROM d) AS hour, i::text AS span,
            b::text AS bytes, f::text AS float, path() AS path FROM base";
        db.execute(&format!("CREATE TABLE base (d timestamptz, i interval, b bytea, f float8);
            INSERT INTO base VALUES ('2026-01-01 02:30+00', '1 day', decode('00ff', 'hex'), 0.1::float8 + 0.2::float8);
            CREATE FUNCTION path() RETURNS text STABLE LANGUAGE sql SET search_path = pg_catalog, pg_temp
                AS $$ SELECT current_setting('search_path') $$;
            CREATE MATERIALIZED VIEW indexed AS {query}; CREATE UNIQUE INDEX ON indexed (k);
            CREATE MATERIALIZED VIEW plain AS {query}; CREATE MATERIALIZED VIEW first AS {query}")).await;
        // In a session of its own, which has what the database says.
        let owner = db.connect().await;
        owner.batch_execute("REFRESH MATERIALIZED VIEW indexed; REFRESH MATERIALIZED VIEW plain; REFRESH MATERIALIZED VIEW first").await.unwrap();
        let wanted = contents(&db).await;
        let day = db.strings("SELECT day::text || ' ' || hour || ' ' || span FROM indexed").await;
        assert!(day[0].starts_with("2025-12-31 21") || day[0].starts_with("31.12.2025 21"), "{day:?}");
        owner.batch_execute("REFRESH MATERIALIZED VIEW first WITH NO DATA").await.unwrap();
        let workspace = Workspace::for_target(&db.url).task("refresh", "kind: refresh\ntarget: app\noptions: { allow_blocking: true, uncounted_max_age: 1h }\n");
        assert_eq!(refresh(&workspace).len(), 3);
        assert_eq!(contents(&db).await, wanted);
        assert!(refresh(&workspace).is_empty());
        // Another choice is another view, and no row has changed.
        db.execute(&format!("ALTER DATABASE {} SET TimeZone = 'UTC'", db.name)).await;
        let steps = refresh(&workspace);
        assert_eq!(steps.len(), 3, "{steps:#?}");
        assert!(steps[0]["reason"].as_str().unwrap().contains("TimeZone"), "{steps:#?}");
        assert_eq!(db.strings("SELECT extract(day FROM day)::int::text FROM plain").await, ["1"]);
        assert!(refresh(&workspace).is_empty());
    }
}

for_versions! {
    [pg16 = 16]
    /// Nobody counts what a role changes for which counting is off.
    async fn changes_that_one_role_has_not_counted_are_not_taken_for_none(major: u32) {
        // Of its own: what is said of a role counts in all databases.
        let cluster = private_cluster(major, &[]);
        let db = database_on(&cluster, major).await;
        let role = "quiet";
        db.execute(&format!("CREATE TABLE s (id int PRIMARY KEY); INSERT INTO s VALUES (1); CREATE MATERIALIZED VIEW m AS SELECT id FROM s;
            CREATE UNIQUE INDEX ON m (id); CREATE ROLE {role} LOGIN; ALTER ROLE {role} SET track_counts = off")).await;
        let patient = Workspace::for_target(&db.url).task("refresh", "kind: refresh\ntarget: app\noptions: { uncounted_max_age: 1h }\n");
        let hasty = |workspace: &Workspace| {
            let run = workspace.run(["run", "refresh", "--now", "--set", "uncounted_max_age=0s", "--output", "json"]).expect(0).json();
            run["runs"][0]["steps"].as_array().unwrap().clone()
        };
        assert_eq!(refresh(&patient).len(), 1);
        let quiet = db.connect().await;
        quiet.batch_execute("SET track_counts = off; INSERT INTO s VALUES (2)").await.unwrap();
        let plan = patient.run(["plan", "refresh"]).expect(0);
        assert!(plan.stdout.contains(&format!("track_counts is off for {role}")), "{plan:#?}");
        // The same holds for what is decided by how much has changed.
        let others = Workspace::for_target(&db.url).task("analyze", "kind: analyze\ntarget: app\n").task("vacuum", "kind: vacuum\ntarget: app\n");
        let unknown = |task: &str| {
            let run = others.run(["run", task, "--now", "--output", "json"]).expect(0).json();
            let findings = run["runs"][0]["findings"].as_array().unwrap().clone();
            findings.into_iter().filter(|f| f["code"] == "changes.uncounted").collect::<Vec<_>>()
        };
        db.execute("VACUUM ANALYZE").await;
        for task in ["analyze", "vacuum"] {
            let told = unknown(task);
            assert_eq!(told.len(), 1, "{task}: {told:#?}");
            assert_eq!(told[0]["object"], role);
            assert_eq!(told[0]["suggestion"], format!("ALTER ROLE {role} RESET track_counts"));
            assert!(told[0]["message"].as_str().unwrap().contains("is not known"), "{told:#?}");
        }
        let steps = hasty(&patient);
        assert_eq!(steps.len(), 1, "{steps:#?}");
        assert_eq!(db.number("SELECT count(*) FROM m").await, 2);
        // In this database it is counted all the same.
        db.execute(&format!("ALTER ROLE {role} IN DATABASE {} SET track_counts = on", db.name)).await;
        hasty(&patient);
        assert!(hasty(&patient).is_empty());
        assert!(unknown("analyze").is_empty() && unknown("vacuum").is_empty());
    }
}
