//! What some may not read where it was, they do not read where it went; and rules that are in the way are named.

use serde_json::json;

use super::{archive, into_files, refused, workspace};
use crate::support::servers::{TestDatabase, fresh_database};
use crate::support::workspace::Workspace;

/// How many rows a role sees; `seen` is what that has to be.
async fn sees(db: &TestDatabase, role: &str, table: &str, seen: i64) {
    db.execute(&format!(
        "SET ROLE {role}; DO $$BEGIN IF (SELECT count(*) FROM {table}) <> {seen} THEN
            RAISE EXCEPTION 'of {table} % rows are seen', (SELECT count(*) FROM {table}); END IF; END $$; RESET ROLE"
    ))
    .await;
}

for_versions! {
    [pg14 = 14]
    /// A table that is made for rows that policies, or grants on columns, kept from readers is not read by them by
    /// default privileges: beside the table, in another database, and by a restore. Other tables are.
    async fn readers_see_no_more_than_before(major: u32) {
        let db = fresh_database(major).await;
        let there = fresh_database(major).await;
        let role = format!("reader_{}", db.name);
        let arch = format!("CREATE SCHEMA arch; GRANT USAGE ON SCHEMA arch TO {role}; ALTER DEFAULT PRIVILEGES IN SCHEMA arch GRANT SELECT, INSERT, TRUNCATE ON TABLES TO {role}");
        // No policy is asked whether somebody may TRUNCATE.
        let may_more = |table: &str| format!("SELECT count(*) FROM unnest('{{INSERT,TRUNCATE}}'::text[]) p WHERE has_table_privilege('{role}', '{table}', p)");
        db.execute(&format!("CREATE ROLE {role}; {arch}; CREATE TABLE open (id int PRIMARY KEY, at timestamptz); CREATE TABLE secured (LIKE open); CREATE TABLE partly (LIKE open);
            ALTER TABLE secured ENABLE ROW LEVEL SECURITY; CREATE POLICY one ON secured TO {role} USING (id = 1);
            GRANT SELECT ON open, secured TO {role}; GRANT SELECT (at) ON partly TO {role}")).await;
        there.execute(&arch).await;
        for (table, seen) in [("open", 10), ("secured", 0), ("partly", 0)] {
            let rows = format!("INSERT INTO {table} SELECT g, now() - interval '2 years' FROM generate_series(1, 10) g");
            let rule = json!({ "table": table, "column": "at", "older_than": "1y" });
            let mut options = rule.clone();
            options["destination"] = json!({ "table": format!("arch.{table}") });
            db.execute(&rows).await;
            archive(&workspace(&db, &options));
            assert_eq!(db.number(&format!("SELECT count(*) FROM arch.{table}")).await, 10, "{table}");
            sees(&db, &role, &format!("arch.{table}"), seen).await;
            assert_eq!(db.number(&may_more(&format!("arch.{table}"))).await, 0, "{table}");
            // The next run puts more into it.
            db.execute(&rows.replace("(1, 10)", "(11, 20)")).await;
            archive(&workspace(&db, &options));
            assert_eq!(db.number(&format!("SELECT count(*) FROM arch.{table}")).await, 20, "{table}");

            db.execute(&rows).await;
            options["destination"] = json!({ "table": format!("arch.{table}"), "database": "there" });
            let far = workspace(&db, &options);
            let content = std::fs::read_to_string(far.path().join("schedules.yaml")).unwrap();
            let targets = format!("targets:\n  there: {{ engine: postgres, url: \"{}\" }}", there.url);
            far.file("schedules.yaml", &content.replacen("targets:", &targets, 1));
            archive(&far);
            assert_eq!(there.number(&format!("SELECT count(*) FROM arch.{table}")).await, 10, "{table}");
            sees(&there, &role, &format!("arch.{table}"), seen).await;

            db.execute(&rows).await;
            let (near, _folder) = into_files(&db, &rule);
            archive(&near);
            let into = format!("arch.back_{table}");
            near.run(["archive", "restore", "--into", &into]).expect(0);
            assert_eq!(db.number(&format!("SELECT count(*) FROM {into}")).await, 10);
            sees(&db, &role, &into, seen).await;
            assert_eq!(db.number(&may_more(&into)).await, 0, "{table}");
        }
        there.execute("DROP SCHEMA arch CASCADE").await;
        db.execute(&format!("DROP OWNED BY {role}")).await;
    }
}

fn told(workspace: &Workspace) -> String {
    let run = refused(workspace);
    assert_eq!(run["findings"][0]["code"], "cleanup.rule", "{run:#}");
    run["findings"][0]["message"].as_str().unwrap().to_owned()
}

for_oldest_and_newest! {
    /// What a rule for DELETE does to rows that go cannot be compared with what was stored: it is named beforehand.
    async fn rules_for_delete_are_named(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE SCHEMA arch; CREATE TABLE log (id int); CREATE TABLE also (id int PRIMARY KEY, at timestamptz); CREATE TABLE instead (LIKE also); CREATE TABLE off (LIKE also);
            CREATE RULE \"Audit\" AS ON DELETE TO also DO ALSO INSERT INTO log VALUES (old.id);
            CREATE RULE soft AS ON DELETE TO instead WHERE old.id % 2 = 0 DO INSTEAD NOTHING;
            CREATE RULE soft AS ON DELETE TO off DO INSTEAD NOTHING; ALTER TABLE off DISABLE RULE soft;
            INSERT INTO also SELECT g, now() - interval '2 years' FROM generate_series(1, 10) g; INSERT INTO instead TABLE also; INSERT INTO off TABLE also").await;
        let rule = |table: &str| json!({ "table": table, "column": "at", "older_than": "1y" });
        let beside = |table: &str| {
            let mut options = rule(table);
            options["destination"] = json!({ "table": format!("arch.{table}") });
            workspace(&db, &options)
        };
        let said = told(&beside("also"));
        assert!(said.contains("\"Audit\"") && said.contains("public.also") && said.contains("DISABLE RULE"), "{said}");
        assert!(told(&beside("instead")).contains("soft"));
        assert_eq!(db.number("SELECT count(*) FROM pg_class WHERE relnamespace = 'arch'::regnamespace").await, 0);
        let (files, _folder) = into_files(&db, &rule("instead"));
        assert!(told(&files).contains("soft"));
        assert_eq!(db.number("SELECT (SELECT count(*) FROM also) + (SELECT count(*) FROM instead)").await, 20);
        // What is done also is done, where the rows go into files; what is off does nothing.
        let (files, _folder) = into_files(&db, &rule("also"));
        assert_eq!(archive(&files)["rows"], 10);
        assert_eq!(db.number("SELECT count(*) FROM log").await, 10);
        assert_eq!(archive(&beside("off"))["rows"], 10);
        assert_eq!(db.number("SELECT count(*) FROM arch.off").await, 10);
    }
}

for_versions! {
    [pg16 = 16]
    /// A trigger that takes other rows of the table along: of those that nobody archives, none goes.
    async fn rows_that_a_trigger_would_take_along_stay(major: u32) {
        let db = fresh_database(major).await;
        // Ten groups of ten; those of the last three groups are old altogether, and go alone; of the others the half.
        let rows = "INSERT INTO {} SELECT g, g / 10, now() - CASE WHEN g % 10 < 5 OR g >= 70 THEN interval '2 years' ELSE interval '1 hour' END FROM generate_series(0, 99) g";
        db.execute("CREATE SCHEMA arc").await;
        let make = async |table: &str, partitioned: bool| {
            let by = if partitioned { "PARTITION BY LIST (grp)" } else { "" };
            db.execute(&format!("CREATE TABLE {table} (id int, grp int, at timestamptz) {by}")).await;
            if partitioned {
                db.execute(&format!("CREATE TABLE {table}_a PARTITION OF {table} FOR VALUES IN (0, 2, 4, 6, 8, 70); CREATE TABLE {table}_b PARTITION OF {table} DEFAULT")).await;
            }
            // Those of the next group are in the other partition.
            let also = if partitioned { "grp IN (OLD.grp, OLD.grp + 1)" } else { "grp = OLD.grp" };
            db.execute(&format!("{}; CREATE FUNCTION along_{table}() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN DELETE FROM public.{table} WHERE {also}; RETURN OLD; END$$;
                CREATE TRIGGER along AFTER DELETE ON {table} FOR EACH ROW WHEN (OLD.grp < 7) EXECUTE FUNCTION along_{table}()", rows.replace("{}", table))).await;
        };
        for (table, partitioned, to_files) in [("groups", false, true), ("flocks", false, false), ("leaves", true, true)] {
            make(table, partitioned).await;
            let rule = json!({ "table": table, "column": "at", "older_than": "1y" });
            let (files, _folder) = into_files(&db, &rule);
            let mut options = rule.clone();
            options["destination"] = json!({ "table": format!("arc.{table}") });
            let workspace = if to_files { files } else { workspace(&db, &options) };
            // What nobody counts nobody knows to have gone.
            db.execute(&format!("ALTER DATABASE {} SET track_counts = off", db.name)).await;
            let blind = workspace.run(["run", "archive", "--now"]).expect(1);
            assert!(blind.stdout.contains("`track_counts` is off"), "{blind:#?}");
            assert_eq!(db.number(&format!("SELECT count(*) FROM {table}")).await, 100, "{table}");
            db.execute(&format!("ALTER DATABASE {} RESET track_counts", db.name)).await;
            for archived in [30, 0] {
                let output = workspace.run(["run", "archive", "--now", "--output", "json"]);
                let run = output.expect(1).json()["runs"][0].clone();
                assert_eq!(run["rows"], archived, "{table} {run:#}");
                let findings = run["findings"].as_array().unwrap();
                assert!(findings.iter().any(|f| f["code"] == "rows.refused"), "{table} {run:#}");
                let told = run.to_string();
                assert!(told.contains("deletes other rows of"), "{table} {run:#}");
                // The old ones of the first groups stay with those of today that would have gone along.
                assert_eq!(db.number(&format!("SELECT count(*) FROM {table}")).await, 70, "{table}");
                assert_eq!(db.number(&format!("SELECT count(*) FROM {table} WHERE grp >= 7")).await, 0, "{table}");
            }
        }
    }
}
