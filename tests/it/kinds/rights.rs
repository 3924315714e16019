//! Rights that a role lacks are told when the plan is made, each with the statement that grants it;
//! once that has run, the work is done.

use serde_json::{Value, json};

use crate::settings::role;
use crate::support::servers::{TestDatabase, fresh_database};
use crate::support::workspace::Workspace;

fn run(workspace: &Workspace, task: &str) -> Value {
    let output = workspace.run(["run", task, "--now", "--output", "json"]);
    output.json()["runs"][0].clone()
}

/// Grants what is told until nothing is: every round has to bring something new, and changes nothing
/// before the last one. Answers with all that was granted, and the last run.
async fn granted(db: &TestDatabase, workspace: &Workspace, task: &str) -> (Vec<String>, Value) {
    let mut all: Vec<String> = Vec::new();
    for _ in 0..6 {
        let planned = workspace.run(["plan", task]).stdout;
        let run = run(workspace, task);
        // The bare number may be a part of any time.
        assert!(!run.to_string().contains("SQLSTATE 42501"), "{run:#}");
        let findings = run["findings"].as_array().unwrap();
        let Some(told) = findings.iter().find(|f| f["code"] == "privilege.missing") else {
            return (all, run);
        };
        assert!(planned.contains("privilege.missing"), "{planned}");
        assert_ne!(run["status"], "succeeded", "{run:#}");
        assert_eq!(run["rows"].as_i64().unwrap_or(0), 0, "{run:#}");
        let grant = told["suggestion"].as_str().unwrap().to_owned();
        assert!(!all.contains(&grant), "{grant} did not help: {run:#}");
        db.execute(&grant).await;
        all.push(grant);
    }
    panic!("{all:?} did not help");
}

for_each_version! {
    /// The table that rows go to: with no right, with some, and where it is to be made.
    async fn rights_at_the_destination_are_told(major: u32) {
        let lock = if major >= 17 { "MAINTAIN" } else { "UPDATE" };
        for (some, first) in [
            ("", format!("GRANT USAGE ON SCHEMA ar TO {{role}}; GRANT INSERT, SELECT, {lock} ON ar.t TO {{role}}")),
            ("GRANT USAGE ON SCHEMA ar TO {role}; GRANT INSERT, UPDATE ON ar.t TO {role}", "GRANT SELECT ON ar.t TO {role}".to_owned()),
            ("GRANT USAGE ON SCHEMA ar TO {role}; GRANT INSERT, SELECT ON ar.t TO {role}", format!("GRANT {lock} ON ar.t TO {{role}}")),
            ("DROP TABLE ar.t", "GRANT USAGE ON SCHEMA ar TO {role}; GRANT CREATE ON SCHEMA ar TO {role}".to_owned()),
            ("DROP SCHEMA ar CASCADE", "GRANT CREATE ON DATABASE {db} TO {role}".to_owned()),
        ] {
            let db = fresh_database(major).await;
            let ((keeper, url), (other, _)) = (role(&db, "").await, role(&db, "").await);
            let filled = |text: &str| text.replace("{role}", &keeper).replace("{db}", &db.name);
            db.execute(&format!("CREATE SCHEMA ar; CREATE TABLE t (id int, at timestamptz NOT NULL); CREATE TABLE ar.t (id int, at timestamptz);
                INSERT INTO t SELECT g, now() - interval '2 years' FROM generate_series(1, 100) g; ALTER TABLE t OWNER TO {keeper};
                ALTER TABLE ar.t OWNER TO {other}; GRANT USAGE ON SCHEMA public TO {keeper}; {}", filled(some))).await;
            let options = json!({ "table": "t", "column": "at", "older_than": "1y", "destination": { "table": "ar.t" } });
            let workspace = Workspace::for_target(&url).task("a", &format!("kind: archive\ntarget: app\noptions: {options}\n"));
            let (all, last) = granted(&db, &workspace, "a").await;
            assert_eq!(all, [filled(&first)], "{some}: {last:#}");
            assert_eq!((&last["status"], &last["rows"]), (&json!("succeeded"), &json!(100)), "{some}: {last:#}");
            assert_eq!(db.number("SELECT count(*) FROM ar.t").await, 100);
            assert_eq!(db.number("SELECT count(*) FROM t").await, 0);
            db.execute(&format!("DROP OWNED BY {keeper}, {other} CASCADE; DROP ROLE {keeper}, {other}")).await;
        }
    }
}

for_each_version! {
    /// A table whose schema the role may not use: its rows, and the parents of its orphans.
    async fn schemas_that_are_closed_are_told(major: u32) {
        let db = fresh_database(major).await;
        let (keeper, url) = role(&db, "").await;
        db.execute(&format!("CREATE SCHEMA hid; CREATE SCHEMA par; CREATE TABLE hid.q (id int, pid int, at timestamptz NOT NULL); CREATE TABLE par.p (id int PRIMARY KEY);
            INSERT INTO par.p SELECT generate_series(1, 60);
            GRANT SELECT, DELETE ON hid.q TO {keeper}; GRANT UPDATE ON hid.q, par.p TO {keeper}")).await;
        let rules = [
            json!({ "table": "hid.q", "column": "at", "older_than": "1y" }),
            json!({ "table": "hid.q", "orphaned": { "columns": ["pid"], "parent": "par.p" } }),
        ];
        for (rule, gone, grants) in [
            (&rules[0], 50, vec![format!("GRANT USAGE ON SCHEMA hid TO {keeper}")]),
            (&rules[1], 40, vec![format!("GRANT USAGE ON SCHEMA hid TO {keeper}"), format!("GRANT USAGE ON SCHEMA par TO {keeper}; GRANT SELECT ON par.p TO {keeper}")]),
        ] {
            db.execute(&format!("TRUNCATE hid.q; REVOKE USAGE ON SCHEMA hid FROM {keeper};
                INSERT INTO hid.q SELECT g, g, now() - g % 2 * interval '2 years' FROM generate_series(1, 100) g")).await;
            let options = json!({ "rules": [rule] });
            let workspace = Workspace::for_target(&url).task("c", &format!("kind: cleanup\ntarget: app\noptions: {options}\n"));
            let mut all = Vec::new();
            let last = loop {
                let run = run(&workspace, "c");
                let told: Vec<Value> = run["findings"].as_array().unwrap().iter()
                    .filter(|f| f["suggestion"].as_str().is_some_and(|s| s.starts_with("GRANT"))).cloned().collect();
                if told.is_empty() {
                    break run;
                }
                for one in told {
                    let grant = one["suggestion"].as_str().unwrap().to_owned();
                    assert!(!all.contains(&grant), "{grant} did not help: {run:#}");
                    db.execute(&grant).await;
                    all.push(grant);
                }
            };
            all.sort();
            assert_eq!(all, grants, "{last:#}");
            assert_eq!((&last["status"], &last["rows"]), (&json!("succeeded"), &json!(gone)), "{last:#}");
            assert_eq!(db.number("SELECT count(*) FROM hid.q").await, 100 - gone);
        }
        db.execute(&format!("DROP OWNED BY {keeper} CASCADE; DROP ROLE {keeper}")).await;
    }
}

for_each_version! {
    /// Statistics that row-level security hides are told so: no GRANT would show them.
    async fn statistics_that_policies_hide_are_told_so(major: u32) {
        let db = fresh_database(major).await;
        let (keeper, url) = role(&db, if major >= 17 { "IN ROLE pg_maintain" } else { "" }).await;
        db.execute("CREATE TABLE t (id int PRIMARY KEY, name text) WITH (autovacuum_enabled = off);
            INSERT INTO t SELECT n, md5(n::text) || repeat('x', n % 40) FROM generate_series(1, 60000) n; CREATE INDEX t_name ON t (name); DELETE FROM t WHERE id % 8 <> 0").await;
        db.execute("VACUUM (TRUNCATE false, ANALYZE) t").await;
        // Under FORCE its owner is subject to it, too.
        let owner = if major >= 17 { "GRANT SELECT ON t TO" } else { "ALTER TABLE t FORCE ROW LEVEL SECURITY; ALTER TABLE t OWNER TO" };
        db.execute(&format!("GRANT USAGE, CREATE ON SCHEMA public TO {keeper}; ALTER TABLE t ENABLE ROW LEVEL SECURITY; {owner} {keeper}")).await;
        let options = "options: { min_size: 1MB }\n";
        let workspace = Workspace::for_target(&url)
            .task("reindex", &format!("kind: reindex\ntarget: app\n{options}"))
            .task("repack", &format!("kind: repack\ntarget: app\n{options}"));
        for task in ["reindex", "repack"] {
            let run = run(&workspace, task);
            let findings = run["findings"].as_array().unwrap();
            let missing: Vec<&Value> = findings.iter().filter(|f| f["code"] == "privilege.missing").collect();
            assert_eq!(missing.len(), 1, "{run:#}");
            assert_eq!(missing[0]["suggestion"], format!("ALTER ROLE {keeper} BYPASSRLS"), "{run:#}");
            assert!(missing[0]["message"].as_str().unwrap().contains("row-level security"), "{run:#}");
        }
        let doctor = workspace.run(["doctor"]).stdout;
        assert!(doctor.contains(&format!("ALTER ROLE {keeper} BYPASSRLS")) && !doctor.contains("pg_read_all_data"), "{doctor}");
        db.execute(&format!("ALTER ROLE {keeper} BYPASSRLS")).await;
        let seen = run(&workspace, "reindex");
        assert!(seen["steps"].as_array().unwrap().iter().any(|s| s["object"] == "public.t_name" && s["status"] == "succeeded"), "{seen:#}");
        let doctor = workspace.run(["doctor"]).stdout;
        assert!(!doctor.contains("sees no statistics"), "{doctor}");
        db.execute(&format!("DROP OWNED BY {keeper} CASCADE; DROP ROLE {keeper}")).await;
    }
}
