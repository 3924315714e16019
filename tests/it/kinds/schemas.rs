//! Work limited to schemas, as of tenants that have one each.

use std::collections::BTreeSet;

use serde_json::Value;

use super::many_tables::questions_of;
use super::objects;
use crate::support::servers::{TestDatabase, fresh_database, has_19};
use crate::support::workspace::Workspace;

/// Tenants with five tables each, and others of whom nobody is one: in other letters, without the
/// prefix, a test.
async fn tenants(major: u32, count: u32) -> TestDatabase {
    let db = fresh_database(major).await;
    db.execute(&format!(
        "CREATE EXTENSION pg_stat_statements; DO $$ DECLARE s text; BEGIN
            FOR s IN SELECT format('tenant_%s', g) FROM generate_series(3, {count}) g
                UNION ALL VALUES ('tenant_\"; DROP SCHEMA public; --'), ('tenant_%I ü.t1'),
                    ('tenant_test'), ('Tenant_1'), ('my_tenant_1'), ('public') LOOP
                EXECUTE format('CREATE SCHEMA IF NOT EXISTS %I', s);
                FOR n IN 1..5 LOOP
                    EXECUTE format('CREATE TABLE %I.%I (id int PRIMARY KEY)', s, 't' || n);
                    EXECUTE format('INSERT INTO %I.%I SELECT generate_series(1, 20)', s, 't' || n);
                END LOOP;
            END LOOP; END $$"
    ))
    .await;
    db
}

fn with_schemas(db: &TestDatabase, schemas: &str) -> Workspace {
    let mut workspace = Workspace::for_target(&db.url);
    for (kind, more) in [
        ("analyze", ""),
        ("vacuum", ""),
        ("reindex", ", min_size: 1kB, min_bloat: 0%"),
        ("repack", ""),
        ("integrity", ""),
        ("snapshot", ""),
        ("refresh", ""),
    ] {
        let task = format!("kind: {kind}\ntarget: app\noptions: {{ schemas: {schemas}{more} }}\n");
        workspace = workspace.task(kind, &task);
    }
    workspace
}

/// Names of relations in the schemas of tenants, quoted as the server does.
async fn theirs(db: &TestDatabase, kind: &str) -> BTreeSet<String> {
    let sql = format!(
        "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname LIKE 'tenant\\_%' AND n.nspname <> 'tenant_test' AND c.relkind = '{kind}'"
    );
    let rows = db.client.query(&sql, &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

fn run(workspace: &Workspace, task: &str) -> Value {
    workspace
        .run(["run", task, "--now", "--output", "json"])
        .json()
}

/// Code, severity and object of each finding about patterns.
fn told(document: &Value) -> Vec<String> {
    let findings = document["runs"][0]["findings"].as_array().unwrap();
    let word = |f: &Value, key: &str| f[key].as_str().unwrap().to_owned();
    findings
        .iter()
        .filter(|f| word(f, "code").ends_with(".nothing"))
        .map(|f| {
            format!(
                "{} {} {}",
                word(f, "code"),
                word(f, "severity"),
                word(f, "object")
            )
        })
        .collect()
}

for_versions! {
    [pg14 = 14, pg18 = 18, pg19 = 19]
    /// Of two hundred tenants as much is asked as of two, what is theirs is worked on and nothing
    /// else, and a second run does nothing.
    async fn two_hundred_schemas_cost_as_many_questions_as_two(major: u32) {
        if major == 19 && !has_19() {
            return;
        }
        let few = tenants(major, 2).await;
        let many = tenants(major, 200).await;
        let schemas = r#"["tenant_*", "!tenant_test*"]"#;
        let (two, two_hundred) = (with_schemas(&few, schemas), with_schemas(&many, schemas));
        for task in ["analyze", "vacuum", "reindex", "repack", "integrity", "snapshot", "refresh"] {
            let small = questions_of(&few, &two, task).await;
            let large = questions_of(&many, &two_hundred, task).await;
            small.are_as_many_as(&large, task);
        }
        let tables = theirs(&many, "r").await;
        assert_eq!(tables.len(), 1000);
        let document = run(&two_hundred, "analyze");
        assert!(objects(&document, "analyze", "succeeded").iter().eq(tables.iter()), "{document:#}");
        assert_eq!(many.number("SELECT count(*) FROM pg_stat_user_tables WHERE last_analyze IS NOT NULL").await, 1000);
        assert_eq!(told(&document), Vec::<String>::new());
        let again = run(&two_hundred, "analyze");
        assert_eq!(again["runs"][0]["steps"].as_array().unwrap().len(), 0, "{again:#}");
        assert_eq!(again["runs"][0]["status"], "succeeded");

        let indexes = theirs(&few, "i").await;
        assert_eq!(indexes.len(), 10);
        let newest = few.number("SELECT max(oid)::int8 FROM pg_class").await;
        run(&two, "analyze");
        let document = run(&two, "reindex");
        assert!(objects(&document, "reindex", "succeeded").iter().eq(indexes.iter()), "{document:#}");
        let rebuilt = "SELECT count(*) FROM pg_class WHERE relkind = 'i' AND relname LIKE 't%pkey' AND oid::int8 > ";
        assert_eq!(few.number(&format!("{rebuilt}{newest}")).await, 10);
    }
}

/// A pattern that meets no schema is told, and where none is meant the run has failed.
#[tokio::test]
async fn a_schema_that_is_not_there_is_told() {
    let db = tenants(17, 2).await;
    for (schemas, status, findings) in [
        (
            r#"["tenant_*", "gone_*"]"#,
            "succeeded",
            vec!["include.nothing warning gone_*"],
        ),
        (
            r#"["tenant_*", "!gone"]"#,
            "succeeded",
            vec!["exclude.nothing info !gone"],
        ),
        (
            r#"["gone_*"]"#,
            "failed",
            vec!["include.nothing warning gone_*"],
        ),
        (
            r#"["public", "!pub*"]"#,
            "failed",
            vec!["include.nothing warning public, !pub*"],
        ),
    ] {
        let workspace = with_schemas(&db, schemas);
        let document = run(&workspace, "snapshot");
        assert_eq!(
            document["runs"][0]["status"], status,
            "{schemas} {document:#}"
        );
        assert_eq!(told(&document), findings, "{schemas}");
    }
    let problems = with_schemas(&db, r#"["!gone"]"#).run(["check"]).expect(2);
    let text = format!("{problems:?}");
    assert!(text.contains("names none that are meant"), "{text}");
}
