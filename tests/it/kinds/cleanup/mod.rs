//! What goes, and that nothing else does.

mod belief;
mod computed;
mod effects;
mod never;
mod orphans;
mod partitions;
mod stopping;
mod tenants;
mod units;
mod whole_row;

use serde_json::{Value, json};

use crate::support::servers::{TestDatabase, fresh_database};
use crate::support::workspace::Workspace;

/// A workspace with one task `cleanup` with these rules (JSON is YAML, too).
fn workspace(db: &TestDatabase, rules: &Value) -> Workspace {
    with_options(db, &json!({ "rules": rules }))
}

fn with_options(db: &TestDatabase, options: &Value) -> Workspace {
    Workspace::for_target(&db.url).task(
        "cleanup",
        &format!(
            "kind: cleanup\ntarget: app\noptions: {options}\n\
             limits: {{ lock_timeout: 5min }}\n"
        ),
    )
}

fn clean(workspace: &Workspace) -> Value {
    let output = workspace.run(["run", "cleanup", "--now", "--output", "json"]);
    output.expect(0).json()["runs"][0].clone()
}

/// Runs again and proves that there is nothing left to do.
fn nothing_is_left(workspace: &Workspace) {
    let again = clean(workspace);
    assert_eq!(again["steps"], json!([]), "{again:#}");
}

/// A checksum over whatever rows there are.
async fn checksum(db: &TestDatabase, rows: &str) -> String {
    db.strings(&format!(
        "SELECT count(*) || ' ' || coalesce(md5(string_agg(r::text, ',' ORDER BY r::text)), '') FROM ({rows}) AS r"
    ))
    .await
    .remove(0)
}

/// What is told of rows whose age nobody knows: the message and the suggestion.
fn doubted(run: &Value) -> Option<(&str, &str)> {
    let findings = run["findings"].as_array().unwrap();
    let one = findings.iter().find(|f| f["code"] == "rows.doubted")?;
    Some((
        one["message"].as_str().unwrap(),
        one["suggestion"].as_str().unwrap(),
    ))
}

for_versions! {
    [pg15 = 15]
    /// Every type that can tell an age, by blocks and along a key: exactly the
    /// old rows go; those without an age, and at the cut-off day, stay.
    async fn every_type_of_age(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE DOMAIN moment AS timestamptz NOT NULL").await;
        let v7 = "(lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || substr(md5(n::text), 1, 3)
            || '8' || substr(md5(n::text), 4, 15))::uuid";
        for (table, kind, value, extra) in [
            ("a_tz", "timestamptz", "at", json!({})),
            ("a_ts", "timestamp", "at AT TIME ZONE 'America/New_York'", json!({ "time_zone": "America/New_York" })),
            ("a_date", "date", "(at AT TIME ZONE 'UTC')::date", json!({})),
            ("a_s", "bigint", "extract(epoch FROM at)::bigint", json!({ "epoch": "seconds" })),
            ("a_s4", "int", "extract(epoch FROM at)::int", json!({ "epoch": "seconds" })),
            ("a_ms", "bigint", "(extract(epoch FROM at) * 1000)::bigint", json!({ "epoch": "millis" })),
            ("a_us", "bigint", "(extract(epoch FROM at) * 1000000)::bigint", json!({ "epoch": "micros" })),
            ("a_uuid", "uuid", v7, json!({})),
            ("a_domain", "moment", "at", json!({})),
        ] {
            for walk in ["blocks", "key"] {
                let nullable = if kind == "moment" { "" } else { "UNION ALL SELECT 0, NULL, 'no age'" };
                db.execute(&format!(
                    "DROP TABLE IF EXISTS {table};
                     CREATE TABLE {table} (n int, age {kind}, name text);
                     INSERT INTO {table} SELECT n, {value}, CASE WHEN at < now() - interval '90 days' THEN 'old' ELSE 'young' END
                        FROM (SELECT n, now() - n * interval '1 day' + CASE WHEN n < 90 THEN interval '0' ELSE interval '-1 hour' END AS at
                              FROM generate_series(1, 180) n ORDER BY md5(n::text)) AS x, generate_series(1, 20)
                        {nullable};
                     CREATE INDEX ON {table} (age);
                     ANALYZE {table}")).await;
                if kind == "uuid" {
                    // A random identifier tells no age, however small it is.
                    db.execute("INSERT INTO a_uuid VALUES (0, '00000000-0000-4000-8000-000000000000', 'v4'), (0, '00000000-0000-7000-0000-000000000000', 'of another variant')").await;
                }
                // The day of the cut-off itself is not over yet: a date of that day stays.
                let stays = if kind == "date" { "name <> 'old' OR age >= (now() AT TIME ZONE 'UTC')::date - 90" } else { "name <> 'old'" };
                let mut rule = json!({ "table": table, "column": "age", "older_than": "90d", "walk": walk });
                rule.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
                let kept = checksum(&db, &format!("SELECT * FROM {table} WHERE {stays}")).await;
                let gone = db.number(&format!("SELECT count(*) FROM {table} WHERE NOT coalesce({stays}, true)")).await;
                assert!(gone > 1000, "{gone}");
                let workspace = workspace(&db, &json!([rule]));
                let dry = workspace.run(["run", "cleanup", "--dry-run", "--output", "json"]).expect(0).json();
                assert_eq!(dry["plans"][0]["rows"], gone, "{table} {walk}");
                let run = clean(&workspace);
                assert_eq!(run["rows"], gone, "{table} {walk} {run:#}");
                assert_eq!(checksum(&db, &format!("SELECT * FROM {table}")).await, kept, "{table} {walk}");
                nothing_is_left(&workspace);
            }
        }
    }
}

for_versions! {
    [pg17 = 17]
    /// Names that break scripts, in every place where a rule has one.
    async fn hostile_names(major: u32) {
        let db = fresh_database(major).await;
        let long = "ü".repeat(31);
        for (schema, table, column) in [
            ("select", "weird \"name; DROP TABLE x", "or 1=1; --"),
            ("public", "MixedCase", "At"),
            ("public", long.as_str(), long.as_str()),
            ("Ünïcode", "parent", "ctid2"),
        ] {
            let quote = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
            let (s, t, c) = (quote(schema), quote(table), quote(column));
            db.execute(&format!(
                "CREATE SCHEMA IF NOT EXISTS {s};
                 CREATE TABLE {s}.{t} ({c} timestamptz, id bigint PRIMARY KEY, up bigint);
                 INSERT INTO {s}.{t} SELECT now() - n * interval '1 day', n, n - 1 FROM generate_series(1, 2000) n;
                 CREATE INDEX ON {s}.{t} ({c})")).await;
            let name = format!("{s}.{t}");
            for walk in ["blocks", "key"] {
                let days = if walk == "blocks" { 1000 } else { 500 };
                let rules = json!([{ "table": name, "column": column, "older_than": format!("{days}d"), "walk": walk }]);
                let workspace = workspace(&db, &rules);
                clean(&workspace);
                assert_eq!(db.number(&format!("SELECT count(*) FROM {name}")).await, days - 1);
                nothing_is_left(&workspace);
            }
            // A row whose parent is in the same table.
            db.execute(&format!("DELETE FROM {name} WHERE id = 100")).await;
            let rules = json!([{ "table": name, "orphaned": { "columns": ["up"], "parent": name }, "where": "id > 50" }]);
            let run = clean(&workspace(&db, &rules));
            assert_eq!(run["rows"], 1, "{run:#}");
            assert_eq!(db.number(&format!("SELECT count(*) FROM {name} WHERE id = 101")).await, 0);
        }
    }
}

for_oldest_and_newest! {
    /// A key of several columns, none of them a number, longer than a batch.
    async fn composite_keys(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TYPE level AS ENUM ('low', 'mid', 'high');
            CREATE TABLE t (tenant text COLLATE \"C\", level level, id uuid, amount numeric(10,2), at timestamptz NOT NULL,
                PRIMARY KEY (tenant, level, id, amount));
            INSERT INTO t SELECT chr(65 + n % 26) || E'\\\\\\'' || n % 7, (ARRAY['low', 'mid', 'high'])[1 + n % 3]::level,
                md5(n::text)::uuid, n * 0.01, now() - n * interval '1 minute' FROM generate_series(1, 6000) n;
            CREATE INDEX ON t (at DESC, tenant DESC); ANALYZE t").await;
        let kept = checksum(&db, "SELECT * FROM t WHERE at >= now() - interval '1 day' OR tenant LIKE 'C%'").await;
        let gone = db.number("SELECT count(*) FROM t WHERE at < now() - interval '1 day' AND tenant NOT LIKE 'C%'").await;
        // By the primary key, because the rule names no age.
        let rules = json!([{ "table": "t", "where": "at < pg_catalog.now() - interval '1 day' -- old", "keep": ["tenant LIKE 'C%'"], "walk": "key" }]);
        let workspace = workspace(&db, &rules);
        let people = workspace.run(["plan", "cleanup", "--output", "json"]).expect(0).json();
        let step = &people["plans"][0]["plan"]["steps"][0];
        let keys: Vec<&String> = step.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["seq", "object", "action", "reason", "statement", "estimate", "predicted_ms", "predicted_from", "details", "may_stay", "needs"]);
        let plan = workspace.run(["plan", "cleanup", "--output", "json", "--full"]).expect(0).json();
        let walk = &plan["plans"][0]["plan"]["steps"][0]["work"]["walk"];
        assert_eq!(walk["path"]["key"].as_array().unwrap().len(), 4, "{plan:#}");
        let run = clean(&workspace);
        assert_eq!(run["rows"], gone);
        assert_eq!(checksum(&db, "SELECT * FROM t").await, kept);
        nothing_is_left(&workspace);
        // By the index on the age, whose second column tells rows of one moment apart.
        let rules = json!([{ "table": "t", "column": "at", "older_than": "1h", "walk": "key" }]);
        let workspace = self::workspace(&db, &rules);
        let young = checksum(&db, "SELECT * FROM t WHERE at >= now() - interval '1 hour'").await;
        clean(&workspace);
        assert_eq!(checksum(&db, "SELECT * FROM t").await, young);
    }
}
