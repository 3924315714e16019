//! Partitions of the table of one name in many schemas, as of tenants that have one each.

use serde_json::Value;

use super::many_tables::questions_of;
use crate::support::servers::{TestDatabase, fresh_database};
use crate::support::workspace::Workspace;

fn workspace(db: &TestDatabase, options: &str) -> Workspace {
    let task = format!(
        "kind: partitions\ntarget: app\noptions: {{ interval: month, ahead: 1, {options} }}\n"
    );
    Workspace::for_target(&db.url).task("partitions", &task)
}

fn run(workspace: &Workspace, code: i32) -> Value {
    let output = workspace.run(["run", "partitions", "--now", "--output", "json"]);
    output.expect(code).json()["runs"][0].clone()
}

fn codes(run: &Value) -> Vec<String> {
    let findings = run["findings"].as_array().unwrap().iter();
    let mut codes: Vec<String> = findings
        .map(|f| {
            format!(
                "{} {}",
                f["code"].as_str().unwrap(),
                f["object"].as_str().unwrap()
            )
        })
        .collect();
    codes.sort();
    codes
}

/// A partitioned table without partitions.
async fn tenant(db: &TestDatabase, schema: &str) {
    let quoted = format!("\"{}\"", schema.replace('"', "\"\""));
    db.execute(&format!("CREATE SCHEMA IF NOT EXISTS {quoted}; CREATE TABLE {quoted}.events (id int, at date NOT NULL) PARTITION BY RANGE (at)")).await;
}

async fn partitions(db: &TestDatabase, schema: &str) -> i64 {
    let schema = schema.replace('\'', "''");
    db.number(&format!(
        "SELECT count(*) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhparent
            JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = '{schema}' AND c.relname = 'events'"
    ))
    .await
}

for_oldest_and_newest! {
    /// Each tenant has its partitions, made and retired, and nobody else; one whose table is no partitioned
    /// one is told, and keeps no other; what is a part of another table is left to that one.
    async fn every_tenant_has_partitions_and_nobody_else(major: u32) {
        let db = fresh_database(major).await;
        let theirs = ["tenant_1", "tenant_2", "tenant_\"; DROP SCHEMA public; --", "tenant_%I ü.t1"];
        let others = ["tenant_test", "Tenant_1", "my_tenant_1", "public"];
        for schema in theirs.into_iter().chain(others) {
            tenant(&db, schema).await;
        }
        db.execute("CREATE SCHEMA tenant_plain; CREATE TABLE tenant_plain.events (id int, at date);
            CREATE SCHEMA tenant_part; CREATE TABLE tenant_part.events PARTITION OF tenant_1.events FOR VALUES FROM ('2019-01-01') TO ('2019-02-01');
            CREATE TABLE tenant_2.old PARTITION OF tenant_2.events FOR VALUES FROM ('2019-01-01') TO ('2019-02-01')").await;
        let workspace = workspace(&db, r#"tables: [events], schemas: ["tenant_*", "!tenant_test*"], keep: 1y, grace: 0s"#);
        let done = run(&workspace, 1);
        assert_eq!(codes(&done), ["partitions.unsuitable tenant_plain.events"], "{done:#}");
        // What is over goes once there is what takes today's rows.
        let done = run(&workspace, 1);
        for schema in theirs {
            assert_eq!(partitions(&db, schema).await, 2, "{schema} {done:#}");
        }
        for schema in others {
            assert_eq!(partitions(&db, schema).await, 0, "{schema}");
        }
        db.execute("DROP SCHEMA tenant_plain CASCADE").await;
        let again = run(&workspace, 0);
        assert_eq!(again["steps"], serde_json::json!([]), "{again:#}");
        // Who comes later is looked after, too.
        tenant(&db, "tenant_new").await;
        let new = run(&workspace, 0);
        assert_eq!((partitions(&db, "tenant_new").await, new["steps"].as_array().unwrap().len()), (2, 2), "{new:#}");
    }
}

for_oldest_and_newest! {
    /// As many questions for two hundred tenants as for two.
    async fn many_tenants_cost_no_more_questions(major: u32) {
        let (few, many) = (fresh_database(major).await, fresh_database(major).await);
        for (db, count) in [(&few, 2), (&many, 200)] {
            db.execute(&format!("CREATE EXTENSION pg_stat_statements; DO $$ BEGIN FOR n IN 1..{count} LOOP
                EXECUTE format('CREATE SCHEMA tenant_%s; CREATE TABLE tenant_%s.events (id int, at date NOT NULL) PARTITION BY RANGE (at)', n, n);
                END LOOP; END $$")).await;
        }
        let options = r#"tables: [events], schemas: ["tenant_*"]"#;
        let small = questions_of(&few, &workspace(&few, options), "partitions").await;
        let large = questions_of(&many, &workspace(&many, options), "partitions").await;
        small.are_as_many_as(&large, "partitions");
    }
}

/// A pattern that means no schema, a table that none has, a schema said twice: each is told.
#[tokio::test]
async fn who_is_not_there_is_told() {
    let db = fresh_database(17).await;
    tenant(&db, "tenant_1").await;
    for (options, told) in [
        (
            r#"tables: [events, evens], schemas: ["tenant_*"]"#,
            "include.nothing evens",
        ),
        (
            r#"tables: [events], schemas: ["tenant_*", "gone_*"]"#,
            "include.nothing gone_*",
        ),
    ] {
        let output =
            workspace(&db, options).run(["run", "partitions", "--now", "--output", "json"]);
        let done = output.json()["runs"][0].clone();
        assert_eq!(codes(&done), [told], "{done:#}");
        assert_eq!(partitions(&db, "tenant_1").await, 2);
    }
    for (options, why) in [
        (
            r#"tables: [a.events], schemas: ["tenant_*"]"#,
            "write `tables: [events]`",
        ),
        (
            r#"tables: [events], schemas: ["tenant_*"], keep: 1y, expired: keep, keep_in: attic"#,
            "under the same names",
        ),
        (
            r#"tables: [events], schemas: ["!tenant_*"]"#,
            "names none that are meant",
        ),
    ] {
        let refused = format!("{:?}", workspace(&db, options).run(["check"]).expect(2));
        assert!(refused.contains(why), "{refused}");
    }
}
