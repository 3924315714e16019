//! Rules for the table of one name in many schemas.

use serde_json::{Value, json};

use super::{clean, nothing_is_left, with_options, workspace};
use crate::kinds::many_tables::questions_of;
use crate::support::servers::{TestDatabase, fresh_database};
use crate::support::workspace::Workspace;

/// Schemas whose names break scripts.
const HOSTILE: [&str; 3] = [
    "tenant_\"; DROP SCHEMA public; --",
    "tenant_%I ü.t1",
    "tenant_$1",
];

/// A tenant with users, sessions that point at nothing by a foreign key, and tokens that point at
/// sessions: of ten sessions five are old, and one has no user.
async fn tenant(db: &TestDatabase, schema: &str) {
    let quoted = format!("\"{}\"", schema.replace('"', "\"\""));
    db.execute(&format!(
        "CREATE SCHEMA IF NOT EXISTS {quoted};
         CREATE TABLE {quoted}.users (id int PRIMARY KEY);
         CREATE TABLE {quoted}.sessions (id int PRIMARY KEY, user_id int, at timestamptz NOT NULL);
         CREATE TABLE {quoted}.tokens (session int REFERENCES {quoted}.sessions, at timestamptz NOT NULL);
         CREATE INDEX tokens_session ON {quoted}.tokens (session);
         INSERT INTO {quoted}.users SELECT generate_series(1, 9);
         INSERT INTO {quoted}.sessions SELECT g, g, now() - CASE WHEN g <= 5 THEN interval '100 days' ELSE interval '1 day' END
            FROM generate_series(1, 10) g;
         INSERT INTO {quoted}.tokens SELECT g, now() - CASE WHEN g <= 5 THEN interval '100 days' ELSE interval '1 day' END
            FROM generate_series(1, 9) g"
    ))
    .await;
}

/// The ids of the sessions of a schema.
async fn sessions(db: &TestDatabase, schema: &str) -> Vec<String> {
    let quoted = format!("\"{}\"", schema.replace('"', "\"\""));
    let ids = format!("SELECT s.id::text FROM {quoted}.sessions s ORDER BY s.id");
    db.strings(&ids).await
}

fn rules() -> Value {
    let schemas = ["tenant_*", "!tenant_test*"];
    json!([
        { "table": "sessions", "schemas": schemas, "column": "at", "older_than": "90d" },
        { "table": "tokens", "schemas": schemas, "column": "at", "older_than": "90d" },
        { "table": "sessions", "schemas": schemas, "orphaned": { "columns": ["user_id"], "parent": "users" } },
    ])
}

fn codes(run: &Value) -> Vec<String> {
    let findings = run["findings"].as_array().unwrap();
    let word = |f: &Value, key: &str| f[key].as_str().unwrap().to_owned();
    findings
        .iter()
        .map(|f| format!("{} {}", word(f, "code"), word(f, "object")))
        .collect()
}

for_oldest_and_newest! {
    /// Each tenant loses what the rules mean there, its children first, and nobody else anything.
    async fn every_tenant_is_cleaned_and_nobody_else(major: u32) {
        let db = fresh_database(major).await;
        let others = ["tenant_test", "Tenant_1", "my_tenant_1", "public", "maint"];
        for schema in ["tenant_1", "tenant_2"].into_iter().chain(HOSTILE).chain(others) {
            tenant(&db, schema).await;
        }
        // What looks like a tenant's table, and is another's: a view of it, and an heir of another one.
        db.execute("CREATE SCHEMA tenant_view; CREATE VIEW tenant_view.sessions AS SELECT * FROM public.sessions;
            CREATE SCHEMA tenant_heir; CREATE TABLE tenant_heir.sessions () INHERITS (tenant_1.sessions);
            INSERT INTO tenant_heir.sessions SELECT 100 + g, g, now() - interval '100 days' FROM generate_series(1, 5) g;
            INSERT INTO tenant_heir.sessions VALUES (106, 6, now()); CREATE TEMP TABLE sessions (id int, at timestamptz)").await;
        let workspace = workspace(&db, &rules());
        let run = clean(&workspace);
        assert_eq!(codes(&run), Vec::<String>::new(), "{run:#}");
        for schema in ["tenant_1", "tenant_2"].into_iter().chain(HOSTILE) {
            let left: &[&str] = match schema {
                "tenant_1" => &["6", "7", "8", "9", "106"],
                _ => &["6", "7", "8", "9"],
            };
            assert_eq!(sessions(&db, schema).await, left, "{schema}");
        }
        for schema in others {
            assert_eq!(sessions(&db, schema).await.len(), 10, "{schema}");
            let tokens = format!("SELECT count(*) FROM \"{schema}\".tokens");
            assert_eq!(db.number(&tokens).await, 9, "{schema}");
        }
        // Five tenants and the heir: tokens, old sessions, orphans.
        assert_eq!(run["rows"], 5 * (5 + 5 + 1) + 5, "{run:#}");
        nothing_is_left(&workspace);
    }
}

for_oldest_and_newest! {
    /// A tenant whose table is not what the rule expects keeps nobody else, however many are asked
    /// about together; limits hold for each table.
    async fn who_is_odd_keeps_no_other(major: u32) {
        let db = fresh_database(major).await;
        for schema in ["tenant_1", "tenant_2", "tenant_3", "tenant_4", "tenant_5"] {
            tenant(&db, schema).await;
        }
        db.execute("ALTER TABLE tenant_2.sessions RENAME COLUMN at TO created;
            ALTER TABLE tenant_3.sessions ADD kept bool NOT NULL DEFAULT false;
            DELETE FROM tenant_3.tokens WHERE session <= 5;
            INSERT INTO tenant_4.sessions SELECT g, 1, now() - interval '100 days' FROM generate_series(11, 20) g;
            DROP TABLE tenant_5.sessions CASCADE").await;
        let rule = json!({ "table": "sessions", "schemas": ["tenant_*"], "column": "at", "older_than": "90d",
            "keep": ["id <= 4"], "max_rows": 5 });
        for schema in ["tenant_1", "tenant_2", "tenant_4"] {
            db.execute(&format!("DELETE FROM {schema}.tokens WHERE session <= 5")).await;
        }
        let workspace = workspace(&db, &json!([rule]));
        let output = workspace.run(["run", "cleanup", "--now", "--output", "json"]).expect(1);
        let run = output.json()["runs"][0].clone();
        let mut told = codes(&run);
        told.sort();
        assert_eq!(told, ["cleanup.rule tenant_2.sessions", "rows.too_many tenant_4.sessions"], "{run:#}");
        assert_eq!(sessions(&db, "tenant_1").await, ["1", "2", "3", "4", "6", "7", "8", "9", "10"]);
        assert_eq!(sessions(&db, "tenant_3").await.len(), 9);
        assert_eq!(sessions(&db, "tenant_2").await.len(), 10);
        assert_eq!(sessions(&db, "tenant_4").await.len(), 20);

        // Of conditions that only one of them has a column for, the others are told in one.
        for n in 6..20 {
            db.execute(&format!("CREATE SCHEMA tenant_{n}; CREATE TABLE tenant_{n}.sessions (id int, at timestamptz)")).await;
        }
        let only = json!({ "table": "sessions", "schemas": ["tenant_*"], "where": "kept OR id = 10" });
        let one = super::workspace(&db, &json!([only]));
        let output = one.run(["run", "cleanup", "--now", "--output", "json"]).expect(1);
        let run = output.json()["runs"][0].clone();
        assert_eq!(sessions(&db, "tenant_3").await.len(), 8, "{run:#}");
        let rules = run["findings"].as_array().unwrap();
        assert_eq!(rules.len(), 1, "{run:#}");
        assert!(rules[0]["message"].as_str().unwrap().contains("the same holds for 16 tables"), "{run:#}");
    }
}

for_oldest_and_newest! {
    /// Two hundred tenants cost as many questions as two.
    async fn two_hundred_tenants_cost_as_many_questions_as_two(major: u32) {
        let mut asked = Vec::new();
        for count in [2, 190] {
            let db = fresh_database(major).await;
            db.execute(&format!(
                "CREATE EXTENSION pg_stat_statements; DO $$ DECLARE s text; BEGIN FOR n IN 1..{count} LOOP
                    s := format('tenant_%s', n);
                    EXECUTE format('CREATE SCHEMA %I', s);
                    EXECUTE format('CREATE TABLE %I.users (id int PRIMARY KEY)', s);
                    EXECUTE format('CREATE TABLE %I.sessions (id int PRIMARY KEY, user_id int, at int8)', s);
                    EXECUTE format('INSERT INTO %I.users VALUES (1)', s);
                    EXECUTE format('INSERT INTO %I.sessions VALUES (1, 1, 1500000000), (2, 1, 4000000000)', s);
                END LOOP; END $$"
            )).await;
            let schemas = ["tenant_*"];
            let rules = json!([
                { "table": "sessions", "schemas": schemas, "column": "at", "epoch": "seconds", "older_than": "90d" },
                { "table": "sessions", "schemas": schemas, "orphaned": { "columns": ["user_id"], "parent": "users" } },
                { "table": "sessions", "schemas": schemas, "where": "id < 0", "max_share": "5%" },
            ]);
            asked.push(questions_of(&db, &workspace(&db, &rules), "cleanup").await);
        }
        asked[0].are_as_many_as(&asked[1], "cleanup");
    }
}

/// A plan that is saved is for the tenants of that day: who comes later waits for the next one.
#[tokio::test]
async fn a_tenant_who_comes_after_the_plan_waits() {
    let db = fresh_database(17).await;
    tenant(&db, "tenant_1").await;
    let workspace = workspace(&db, &rules());
    workspace
        .run(["plan", "cleanup", "--save", "plan.json"])
        .expect(0);
    workspace.run(["plan", "--check", "plan.json"]).expect(0);
    tenant(&db, "tenant_2").await;
    workspace.run(["plan", "--check", "plan.json"]).expect(5);
    workspace.run(["run", "--plan", "plan.json"]).expect(0);
    assert_eq!(sessions(&db, "tenant_1").await.len(), 4);
    assert_eq!(sessions(&db, "tenant_2").await.len(), 10);
    clean(&workspace);
    assert_eq!(sessions(&db, "tenant_2").await.len(), 4);
    nothing_is_left(&workspace);
}

/// A rule for which there is no schema, or no table, has not been followed, and a tenant's table with
/// rows of a schema that is left out is not touched.
#[tokio::test]
async fn what_means_nothing_or_too_much_is_told() {
    let db = fresh_database(17).await;
    tenant(&db, "tenant_1").await;
    let old = |table: &str, schemas: &[&str]| {
        let rule =
            json!({ "table": table, "schemas": schemas, "column": "at", "older_than": "90d" });
        workspace(&db, &json!([rule]))
    };
    for (table, schemas, expected) in [
        ("sessions", vec!["gone_*"], "include.nothing gone_*"),
        ("sesions", vec!["tenant_*"], "include.nothing sesions"),
        (
            "sessions",
            vec!["pg_*", "information_schema"],
            "include.nothing sessions",
        ),
    ] {
        let output = old(table, &schemas).run(["run", "cleanup", "--now", "--output", "json"]);
        let run = output.expect(1).json()["runs"][0].clone();
        assert_eq!(codes(&run), [expected], "{run:#}");
        assert_eq!(run["status"], "failed");
    }
    db.execute(
        "CREATE SCHEMA tenant_test; CREATE TABLE tenant_test.sessions () INHERITS (tenant_1.sessions)",
    )
    .await;
    let output = old("sessions", &["tenant_*", "!tenant_test"])
        .run(["run", "cleanup", "--now", "--output", "json"]);
    let run = output.expect(1).json()["runs"][0].clone();
    assert_eq!(codes(&run), ["cleanup.rule tenant_1.sessions"], "{run:#}");
    assert!(
        run.to_string().contains("leaves that schema out"),
        "{run:#}"
    );
    assert_eq!(sessions(&db, "tenant_1").await.len(), 10);
}

/// A schema that is said twice, or patterns that only leave out, are refused; so is the option where
/// rows go to one place.
#[test]
fn a_rule_says_its_schemas_once() {
    let refused = |yaml: &str| {
        let workspace = Workspace::for_target("postgres://nobody@127.0.0.1:1/none").task("t", yaml);
        format!("{:?}", workspace.run(["check"]).expect(2))
    };
    let cleanup = |rule: &str| {
        refused(&format!(
            "kind: cleanup\ntarget: app\noptions: {{ rules: [{{ {rule}, column: at, older_than: 90d }}] }}\n"
        ))
    };
    let twice = cleanup("table: public.sessions, schemas: [\"tenant_*\"]");
    assert!(twice.contains("write `table: sessions`"), "{twice}");
    let none = cleanup("table: sessions, schemas: [\"!tenant_test\"]");
    assert!(none.contains("names none that are meant"), "{none}");
    let told = refused(
        "kind: archive\ntarget: app\noptions: { table: sessions, schemas: [\"tenant_*\"], column: at, older_than: 90d, destination: { table: old.sessions } }\n",
    );
    assert!(
        told.contains("unknown") && told.contains("each tenant"),
        "{told}"
    );
}

/// Options that are written once hold for each table.
#[tokio::test]
async fn an_index_that_is_missing_at_one_tenant_keeps_that_one() {
    let db = fresh_database(17).await;
    tenant(&db, "tenant_1").await;
    tenant(&db, "tenant_2").await;
    db.execute("DELETE FROM tenant_1.tokens; DELETE FROM tenant_2.tokens; DROP INDEX tenant_2.tokens_session;
        INSERT INTO tenant_2.tokens SELECT 9, now() FROM generate_series(1, 1000)").await;
    let rule = json!({ "table": "sessions", "schemas": ["tenant_?"], "column": "at", "older_than": "90d" });
    let workspace = with_options(&db, &json!({ "rules": [rule], "max_unindexed": "8kB" }));
    workspace.run(["run", "cleanup", "--now"]).expect(1);
    assert_eq!(sessions(&db, "tenant_1").await.len(), 5);
    assert_eq!(sessions(&db, "tenant_2").await.len(), 10);
}
