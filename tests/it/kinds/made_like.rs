//! A table that is made like another one repeats who may see and do what with it. What somebody changes there
//! between the plan and the step is not undone by it: the next run makes it as it is by then.

use serde_json::{Value, json};

use super::throttle::Running;
use crate::support::servers::{TestDatabase, fresh_database};
use crate::support::workspace::Workspace;

/// A change, of which table it is, and a question that answers `true` of what is made with it heeded.
const CHANGES: [(&str, &str); 8] = [
    (
        "REVOKE SELECT ON {like} FROM {reader}",
        "SELECT NOT has_table_privilege('{reader}', '{new}', 'SELECT')",
    ),
    (
        "ALTER TABLE {like} ENABLE ROW LEVEL SECURITY",
        "SELECT relrowsecurity FROM pg_class WHERE oid = '{new}'::regclass",
    ),
    (
        "ALTER TABLE {like} FORCE ROW LEVEL SECURITY",
        "SELECT relforcerowsecurity FROM pg_class WHERE oid = '{new}'::regclass",
    ),
    (
        "CREATE POLICY p ON {like} AS RESTRICTIVE USING (id > 7)",
        "SELECT count(*) = 1 FROM pg_policy WHERE polrelid = '{new}'::regclass",
    ),
    (
        "REVOKE SELECT ON {like} FROM {reader}; GRANT SELECT (id) ON {like} TO {reader}",
        "SELECT NOT has_column_privilege('{reader}', '{new}', 'note', 'SELECT')",
    ),
    (
        "ALTER TABLE {like} OWNER TO {reader}",
        "SELECT pg_get_userbyid(relowner) = '{reader}' FROM pg_class WHERE oid = '{new}'::regclass",
    ),
    (
        "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO {other}",
        "SELECT NOT has_table_privilege('{other}', '{new}', 'SELECT')",
    ),
    (
        "GRANT INSERT ON {like} TO {other}",
        "SELECT has_table_privilege('{other}', '{new}', 'INSERT')",
    ),
];

async fn so(db: &TestDatabase, question: &str) -> bool {
    db.number(&format!(
        "SELECT coalesce(({question}), false)::int::bigint"
    ))
    .await
        == 1
}

/// A task that pauses before its first step while a file exists; the change is made meanwhile.
async fn changed_meanwhile(
    db: &TestDatabase,
    kind: &str,
    options: &Value,
    change: &str,
) -> (Workspace, Value) {
    let workspace = Workspace::for_target(&db.url);
    let pause = workspace.path().join("pause");
    let yaml = format!(
        "kind: {kind}\ntarget: app\noptions: {options}\nthrottle: {{ pause_file: {} }}\n",
        pause.display()
    );
    let workspace = workspace.task(kind, &yaml);
    std::fs::write(&pause, "").unwrap();
    let mut running = Running::begin(&workspace, kind);
    running.until("paused: ");
    db.execute(change).await;
    std::fs::remove_file(&pause).unwrap();
    let document = running.end(0);
    (workspace, document["runs"][0].clone())
}

fn of<'a>(run: &'a Value, action: &str) -> &'a Value {
    let steps = run["steps"].as_array().unwrap();
    let mut found = steps.iter().filter(|s| s["action"] == action);
    found.next().unwrap_or_else(|| panic!("{action}: {run:#}"))
}

async fn exists(db: &TestDatabase, table: &str) -> bool {
    so(db, &format!("SELECT to_regclass('{table}') IS NOT NULL")).await
}

/// The database, a role that reads, and one that may do nothing.
async fn tables(major: u32) -> (TestDatabase, String, String) {
    let db = fresh_database(major).await;
    let (reader, other) = (format!("{}_reader", db.name), format!("{}_other", db.name));
    db.execute(&format!(
        "CREATE ROLE {reader}; CREATE ROLE {other}; GRANT CREATE, USAGE ON SCHEMA public TO {reader};
        CREATE TABLE ev (id int, at timestamptz NOT NULL, note text) PARTITION BY RANGE (at);
        CREATE TABLE ev_now PARTITION OF ev FOR VALUES FROM ('2022-01-01 00:00+00') TO ('2100-01-01 00:00+00');
        CREATE TABLE t (id int, at timestamptz NOT NULL, note text);
        INSERT INTO t SELECT g, now() - interval '2 years', 'x' FROM generate_series(1, 10) g;
        GRANT SELECT ON t, ev_now TO {reader}"
    ))
    .await;
    (db, reader, other)
}

/// Roles are the server's: they go once the database has.
async fn end(db: &TestDatabase, roles: [&str; 2]) {
    for role in roles {
        db.execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}"))
            .await;
    }
}

for_versions! {
    [pg14 = 14]
    async fn a_partition_has_the_rights_that_hold_when_it_is_made(major: u32) {
        for (change, question) in CHANGES {
            let (db, reader, other) = tables(major).await;
            let filled = |text: &str| text.replace("{like}", "ev_now").replace("{new}", "ev_y2100").replace("{reader}", &reader).replace("{other}", &other);
            let options = json!({ "tables": ["ev"], "interval": "year", "ahead": 80 });
            let (workspace, run) = changed_meanwhile(&db, "partitions", &options, &filled(change)).await;
            let step = of(&run, "create_partition");
            assert_eq!((&step["status"], &run["status"]), (&json!("deferred"), &json!("incomplete")), "{change}: {run:#}");
            assert!(step["error"].as_str().unwrap().contains("who may see and do what with public.ev_now"), "{run:#}");
            assert!(!exists(&db, "ev_y2100").await, "{change}");
            workspace.run(["run", "partitions", "--now"]).expect(0);
            assert!(so(&db, &filled(question)).await, "{change}");
            end(&db, [&reader, &other]).await;
        }
    }
}

for_versions! {
    [pg16 = 16]
    /// Where it gets row security of its own, that is heeded like all that is said of the table.
    async fn so_has_the_destination_of_an_archive(major: u32) {
        for (change, question) in CHANGES.iter().filter(|(change, _)| !change.contains("FORCE") && !change.contains("POLICY") && !change.contains("GRANT INSERT") && !change.contains("OWNER")) {
            let (db, reader, other) = tables(major).await;
            let filled = |text: &str| text.replace("{like}", "t").replace("{new}", "kept").replace("{reader}", &reader).replace("{other}", &other);
            db.execute(&format!("ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO {reader}")).await;
            let options = json!({ "table": "t", "column": "at", "older_than": "1y", "destination": { "table": "kept" } });
            let (workspace, run) = changed_meanwhile(&db, "archive", &options, &filled(change)).await;
            let step = of(&run, "create_table");
            assert_eq!((&step["status"], &run["status"]), (&json!("deferred"), &json!("incomplete")), "{change}: {run:#}");
            assert!(!exists(&db, "kept").await, "{change}");
            assert_eq!(db.number("SELECT count(*) FROM t").await, 10, "{change}: {run:#}");
            workspace.run(["run", "archive", "--now"]).expect(0);
            assert_eq!(db.number("SELECT count(*) FROM kept").await, 10, "{change}");
            let question = match change.contains("(id)") {
                // Who reads some columns there is kept from the rows.
                true => "SELECT relrowsecurity FROM pg_class WHERE oid = '{new}'::regclass",
                false => question,
            };
            assert!(so(&db, &filled(question)).await, "{change}");
            end(&db, [&reader, &other]).await;
        }
    }
}

for_versions! {
    [pg14 = 14]
    /// Its name is taken by something that is no partition of the table: the next run takes another one. One that
    /// somebody made of the table itself is what was wanted.
    async fn a_name_that_is_taken_meanwhile_leaves_no_gap(major: u32) {
        let options = json!({ "tables": ["ev"], "interval": "year", "ahead": 80 });
        let (db, ..) = tables(major).await;
        let (workspace, run) = changed_meanwhile(&db, "partitions", &options, "CREATE VIEW ev_y2100 AS SELECT 1").await;
        assert_eq!((&of(&run, "create_partition")["status"], &run["status"]), (&json!("deferred"), &json!("incomplete")), "{run:#}");
        workspace.run(["run", "partitions", "--now"]).expect(0);
        assert!(so(&db, "SELECT count(*) = 1 FROM pg_inherits WHERE inhrelid = 'ev_y2100_2'::regclass").await);

        let (db, ..) = tables(major).await;
        let made = "CREATE TABLE ev_y2100 PARTITION OF ev FOR VALUES FROM ('2100-01-01 00:00+00') TO ('2101-01-01 00:00+00')";
        let (_, run) = changed_meanwhile(&db, "partitions", &options, made).await;
        assert_eq!(of(&run, "create_partition")["status"], "skipped", "{run:#}");
    }
}
