//! Rights that a role lacks are told when the plan is made, each with the statement that grants it;
//! once that has run, the work is done.

use serde_json::{Value, json};

use crate::settings::role;
use crate::support::patience::Patience;
use crate::support::servers::{TestDatabase, connect, fresh_database, private_cluster};
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

for_versions! {
    [pg14 = 14, pg18 = 18]
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

for_versions! {
    [pg16 = 16]
    /// Partitions: to be no member, to be one without inheriting, without a right in the schema, without
    /// one to give what is made to the owner, and an owner that may have nothing there.
    async fn rights_on_partitions_are_told(major: u32) {
        let member = match major {
            16.. => "GRANT {owner} TO {role} WITH INHERIT FALSE",
            _ => "ALTER ROLE {role} NOINHERIT; GRANT {owner} TO {role}",
        };
        let inherits = match major {
            16.. => "GRANT {owner} TO {role} WITH INHERIT TRUE",
            _ => "ALTER ROLE {role} INHERIT",
        };
        let mut cases = vec![
            ("GRANT USAGE ON SCHEMA app TO {role}", "GRANT {owner} TO {role}"),
            ("REVOKE CREATE ON SCHEMA app FROM {owner}", "GRANT {owner} TO {role}; GRANT CREATE ON SCHEMA app TO {owner}"),
            (member, inherits),
            ("GRANT {owner} TO {role}; REVOKE CREATE ON SCHEMA app FROM {owner}; GRANT CREATE ON SCHEMA app TO {role}", "GRANT CREATE ON SCHEMA app TO {owner}"),
        ];
        if major >= 16 {
            cases.push(("GRANT {owner} TO {role} WITH SET FALSE, INHERIT TRUE", "GRANT {owner} TO {role} WITH SET TRUE"));
        }
        for (some, expected) in cases {
            let db = fresh_database(major).await;
            let ((keeper, url), (owner, _)) = (role(&db, "").await, role(&db, "").await);
            let filled = |text: &str| text.replace("{role}", &keeper).replace("{owner}", &owner);
            // The owner may have made the table before the schema was closed to it.
            db.execute(&format!("CREATE SCHEMA app; GRANT USAGE, CREATE ON SCHEMA app TO {owner};
                SET ROLE {owner}; CREATE TABLE app.ev (id int, at timestamptz NOT NULL) PARTITION BY RANGE (at);
                CREATE TABLE app.ev_old PARTITION OF app.ev FOR VALUES FROM ('2020-01-01') TO ('2020-02-01'); RESET ROLE; {}", filled(some))).await;
            let task = "kind: partitions\ntarget: app\noptions: { tables: [app.ev], interval: month, ahead: 0 }\n";
            let workspace = Workspace::for_target(&url).task("p", task);
            let (all, last) = granted(&db, &workspace, "p").await;
            assert_eq!(all, [filled(expected)], "{some}: {last:#}");
            assert_eq!(last["status"], "succeeded", "{some}: {last:#}");
            let owners = "SELECT DISTINCT pg_get_userbyid(c.relowner)::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid";
            assert_eq!(db.strings(owners).await, [owner.as_str()], "{some}");
            assert_eq!(db.number("SELECT count(*) FROM pg_inherits").await, 2, "{some}");
            assert_eq!(run(&workspace, "p")["steps"], json!([]), "{some}");
            db.execute(&format!("DROP OWNED BY {keeper}, {owner} CASCADE; DROP ROLE {keeper}, {owner}")).await;
        }
    }
}

for_versions! {
    [pg17 = 17]
    /// Who may not create tables in the schema retires partitions all the same; that right is asked for where one is to
    /// be made, and nowhere else.
    async fn the_right_to_create_is_asked_for_by_who_makes(major: u32) {
        for owns in [true, false] {
            let db = fresh_database(major).await;
            let ((keeper, url), (other, _)) = (role(&db, "").await, role(&db, "").await);
            let owner = if owns { &keeper } else { &other };
            db.execute(&format!("CREATE SCHEMA app; GRANT USAGE, CREATE ON SCHEMA app TO {owner};
                SET ROLE {owner}; CREATE TABLE app.ev (id int, at timestamptz NOT NULL) PARTITION BY RANGE (at);
                CREATE TABLE app.ev_old PARTITION OF app.ev FOR VALUES FROM ('2020-01-01') TO ('2020-02-01');
                CREATE TABLE app.ev_now PARTITION OF app.ev FOR VALUES FROM ('2020-02-01') TO ('2100-01-01'); RESET ROLE;
                REVOKE CREATE ON SCHEMA app FROM {owner}; {}", if owns { String::new() } else { format!("GRANT {owner} TO {keeper}") })).await;
            let task = "kind: partitions\ntarget: app\noptions: { tables: [app.ev], interval: month, ahead: 0, keep: 1y, grace: 0s }\n";
            let workspace = Workspace::for_target(&url).task("p", task);
            for _ in 0..2 {
                let done = run(&workspace, "p");
                assert_eq!((&done["status"], &done["findings"]), (&json!("succeeded"), &json!([])), "{owns}: {done:#}");
            }
            assert_eq!(db.strings("SELECT relname::text FROM pg_class WHERE relname LIKE 'ev%' ORDER BY 1").await, ["ev", "ev_now"], "{owns}");
            // One is to be made, and one to go.
            db.execute(&format!("DROP TABLE app.ev_now; CREATE TABLE app.ev_old PARTITION OF app.ev FOR VALUES FROM ('2020-01-01') TO ('2020-02-01'); ALTER TABLE app.ev_old OWNER TO {owner};
                CREATE TABLE app.ev_last PARTITION OF app.ev FOR VALUES FROM ('2020-02-01') TO ('2020-03-01'); ALTER TABLE app.ev_last OWNER TO {owner}")).await;
            let first = run(&workspace, "p");
            let told: Vec<&Value> = first["findings"].as_array().unwrap().iter().filter(|f| f["code"] == "privilege.missing").collect();
            assert_eq!(told.len(), 1, "{owns}: {first:#}");
            assert_eq!(told[0]["suggestion"], format!("GRANT CREATE ON SCHEMA app TO {owner}"), "{owns}: {first:#}");
            assert!(told[0]["message"].as_str().unwrap().contains("new partitions of app.ev are needed"), "{owns}: {first:#}");
            run(&workspace, "p");
            assert_eq!(db.number("SELECT count(*) FROM pg_class WHERE relname = 'ev_old'").await, 0, "{owns}: {first:#}");
            db.execute(told[0]["suggestion"].as_str().unwrap()).await;
            let last = run(&workspace, "p");
            assert_eq!((&last["status"], &last["findings"]), (&json!("succeeded"), &json!([])), "{owns}: {last:#}");
            assert_eq!(db.number("SELECT count(*) FROM pg_inherits WHERE inhrelid <> 'app.ev_last'::regclass").await, 1, "{owns}");
            db.execute(&format!("DROP OWNED BY {keeper}, {other} CASCADE; DROP ROLE {keeper}, {other}")).await;
        }
    }
}

for_oldest_and_newest! {
    /// What is missing at a table, and at the place where its rows go, is told at once.
    async fn all_rights_of_an_archive_are_told_at_once(major: u32) {
        let db = fresh_database(major).await;
        let (keeper, url) = role(&db, "").await;
        db.execute("CREATE TABLE t (id int, at timestamptz NOT NULL); INSERT INTO t SELECT g, now() - interval '2 years' FROM generate_series(1, 10) g").await;
        let options = json!({ "table": "t", "column": "at", "older_than": "1y", "destination": { "table": "ar.t" } });
        let workspace = Workspace::for_target(&url).task("a", &format!("kind: archive\ntarget: app\noptions: {options}\n"));
        let run = run(&workspace, "a");
        let told: Vec<String> = run["findings"].as_array().unwrap().iter()
            .filter(|f| f["code"] == "privilege.missing").map(|f| f["suggestion"].as_str().unwrap().to_owned()).collect();
        assert!(told.iter().any(|grant| grant.contains("GRANT SELECT, DELETE ON public.t")), "{run:#}");
        assert!(told.iter().any(|grant| grant.contains("GRANT CREATE ON DATABASE")), "{run:#}");
        assert_eq!(db.number("SELECT count(*) FROM t").await, 10);
        db.execute(&format!("DROP OWNED BY {keeper} CASCADE; DROP ROLE {keeper}")).await;
    }
}

for_oldest_and_newest! {
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

for_versions! {
    [pg14 = 14, pg16 = 16, pg18 = 18]
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

for_oldest_and_newest! {
    /// A role that may have few connections: told before it runs, and heeded while it does.
    async fn a_limit_of_connections_is_told_and_heeded(major: u32) {
        let db = fresh_database(major).await;
        let (keeper, url) = role(&db, "CONNECTION LIMIT 3").await;
        let tables: Vec<String> = (1..=4).map(|n| format!("CREATE TABLE t{n} (id int); INSERT INTO t{n} SELECT generate_series(1, 100); ALTER TABLE t{n} OWNER TO {keeper}")).collect();
        db.execute(&format!("GRANT CREATE, USAGE ON SCHEMA public TO {keeper}; {}", tables.join("; "))).await;
        let task = "kind: analyze\ntarget: app\nlimits: { jobs: 3 }\n";
        let workspace = Workspace::for_target(&url).task("a", task);
        let alone = async || {
            let patience = Patience::until("the sessions of the role to end");
            let sql = format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{keeper}'");
            while db.number(&sql).await > 0 {
                patience.pause().await;
            }
        };
        let doctor = workspace.run(["doctor"]).stdout.replace("\n          ", " ");
        let few = format!("a: role {keeper} may have 3 connections at once (CONNECTION LIMIT), and a run needs 5: ALTER ROLE {keeper} CONNECTION LIMIT 5");
        assert!(doctor.contains(&few), "{doctor}");
        alone().await;
        let run = run(&workspace, "a");
        assert_eq!(run["status"], "succeeded", "{run:#}");
        assert_eq!(run["steps"].as_array().unwrap().len(), 4, "{run:#}");

        alone().await;
        db.execute(&format!("ALTER ROLE {keeper} CONNECTION LIMIT 2")).await;
        let few = format!("role {keeper} may have 2 connections at once (CONNECTION LIMIT), and a run needs 3: ALTER ROLE {keeper} CONNECTION LIMIT 3");
        let doctor = workspace.run(["doctor"]).expect(1).stdout.replace("\n          ", " ");
        assert!(doctor.contains(&few), "{doctor}");
        alone().await;
        // A session that has just ended may still count as one that is taken.
        let check = workspace.run(["check", "--connect"]).expect(0).stdout;
        let few = format!("role {keeper} may have 2 connections at once (CONNECTION LIMIT)");
        assert!(check.contains(&few) && check.contains(", and a run needs 3: ALTER ROLE"), "{check}");

        // That of the database, with room for all that is there besides.
        alone().await;
        db.execute(&format!("ALTER ROLE {keeper} CONNECTION LIMIT -1; ALTER DATABASE {} CONNECTION LIMIT 30", db.name)).await;
        let many = Workspace::for_target(&url).task("a", "kind: analyze\ntarget: app\nlimits: { jobs: 40 }\n");
        let doctor = many.run(["doctor"]).stdout.replace("\n          ", " ");
        let few = format!("a: database {} may have 30 connections at once (CONNECTION LIMIT)", db.name);
        assert!(doctor.contains(&few) && doctor.contains("a run needs 42: ALTER DATABASE"), "{doctor}");
        db.execute(&format!("ALTER DATABASE {} CONNECTION LIMIT -1", db.name)).await;
        let check = workspace.run(["check", "--connect"]).expect(0).stdout;
        assert!(!check.contains("CONNECTION LIMIT"), "{check}");
        db.execute(&format!("DROP OWNED BY {keeper} CASCADE; DROP ROLE {keeper}")).await;
    }
}

for_oldest_and_newest! {
    /// A server that has few connections left, without those that it keeps for others: told before a run, and heeded by it.
    async fn what_the_server_has_left_is_told_and_heeded(major: u32) {
        let mut settings = vec![("max_connections", "12"), ("superuser_reserved_connections", "2"), ("max_wal_senders", "0")];
        let mut most = 10;
        if major >= 16 {
            settings.push(("reserved_connections", "2"));
            most -= 2;
        }
        let cluster = private_cluster(major, &settings);
        let admin = connect(&cluster.url("postgres")).await;
        admin.batch_execute("CREATE ROLE keeper LOGIN PASSWORD 'k'; GRANT CREATE, USAGE ON SCHEMA public TO keeper").await.unwrap();
        for n in 1..=4 {
            admin.batch_execute(&format!("CREATE TABLE t{n} (id int); INSERT INTO t{n} SELECT generate_series(1, 100); ALTER TABLE t{n} OWNER TO keeper")).await.unwrap();
        }
        let mut url = url::Url::parse(&cluster.url("postgres")).unwrap();
        url.set_username("keeper").unwrap();
        url.set_password(Some("k")).unwrap();
        let workspace = Workspace::for_target(url.as_str()).task("a", "kind: analyze\ntarget: app\nlimits: { jobs: 3 }\n");
        // This one, and as many as leave two.
        let mut others = Vec::new();
        for _ in 0..most - 3 {
            others.push(connect(&cluster.url("postgres")).await);
        }
        let alone = async || {
            let patience = Patience::until("the sessions of the role to end");
            let sql = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'keeper'";
            while admin.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) > 0 {
                patience.pause().await;
            }
        };
        let few = |needed: u32| format!("a: the server takes {most} connections at once (max_connections, without those that it keeps for others), {} of which are taken, and a run needs {needed}: raise max_connections", most - 2);
        let said = |doctor: &str| doctor.replace("\n          ", " ");
        let doctor = said(&workspace.run(["doctor"]).expect(1).stdout);
        assert!(doctor.contains(&few(3)), "{doctor}");
        alone().await;
        if major >= 16 {
            // What is kept for those that may use it is there for the role then.
            admin.batch_execute("GRANT pg_use_reserved_connections TO keeper").await.unwrap();
            let doctor = said(&workspace.run(["doctor"]).stdout);
            assert!(!doctor.contains("a run needs 3"), "{doctor}");
            assert!(doctor.contains("and a run needs 5"), "{doctor}");
            alone().await;
            admin.batch_execute("REVOKE pg_use_reserved_connections FROM keeper").await.unwrap();
        }
        drop(others.pop());
        let patience = Patience::until("one of the others to end");
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'";
        while admin.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) > most - 3 {
            patience.pause().await;
        }
        // There is room for one step at once.
        let run = run(&workspace, "a");
        assert_eq!(run["status"], "succeeded", "{run:#}");
        assert_eq!(run["steps"].as_array().unwrap().len(), 4, "{run:#}");
    }
}

for_oldest_and_newest! {
    /// Who looks at the table does not see what refuses its commands.
    async fn the_event_trigger_that_refuses_is_named(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE ev (id int, at timestamptz NOT NULL) PARTITION BY RANGE (at);
            CREATE FUNCTION dba_says() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''not tonight''; END';
            CREATE FUNCTION quiet() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
            CREATE EVENT TRIGGER a_quiet_one ON ddl_command_start EXECUTE FUNCTION quiet();
            CREATE EVENT TRIGGER no_tables ON ddl_command_start WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION dba_says()").await;
        let task = "kind: partitions\ntarget: app\noptions: { tables: [ev], interval: month, ahead: 0 }\n";
        let workspace = Workspace::for_target(&db.url).task("p", task);
        let refused = run(&workspace, "p");
        let error = refused["steps"][0]["error"].as_str().unwrap();
        assert!(error.contains("not tonight"), "{refused:#}");
        assert!(error.contains("the event trigger no_tables (ddl_command_start, function public.dba_says(), of "), "{refused:#}");
        assert!(error.contains("ALTER EVENT TRIGGER no_tables DISABLE"), "{refused:#}");
        assert_eq!(db.number("SELECT count(*) FROM pg_inherits").await, 0);
        db.execute("ALTER EVENT TRIGGER no_tables DISABLE").await;
        assert_eq!(run(&workspace, "p")["status"], "succeeded");
        assert_eq!(db.number("SELECT count(*) FROM pg_inherits").await, 1);
        assert_eq!(run(&workspace, "p")["steps"], json!([]));
    }
}

for_oldest_and_newest! {
    /// A role that may maintain nothing is told so by `doctor`, whether or not anything is due just then.
    async fn who_may_maintain_nothing_is_told_so_before_anything_is_due(major: u32) {
        let db = fresh_database(major).await;
        let (keeper, url) = role(&db, "").await;
        db.execute(&format!("CREATE TABLE t (id int); CREATE TABLE u (id int); GRANT SELECT ON t, u TO {keeper}")).await;
        db.execute("VACUUM ANALYZE t").await;
        db.execute("VACUUM ANALYZE u").await;
        let workspace = Workspace::for_target(&url)
            .task("reindex", "kind: reindex\ntarget: app\n")
            .task("vacuum", "kind: vacuum\ntarget: app\n");
        let told = "reindex, vacuum: the role may maintain none of 2 tables, whatever is due: ";
        let told = match major >= 17 {
            true => format!("{told}GRANT pg_maintain TO {keeper}"),
            false => format!("{told}give {keeper} the role that owns them"),
        };
        let said = workspace.run(["doctor", "--output", "json"]).expect(1).json();
        let lines = said["checks"].as_array().unwrap();
        let has = |lines: &[Value]| lines.iter().any(|line| line["level"] == "problem" && line["text"] == told.as_str());
        assert!(has(lines), "{said:#}");
        // One table will do: of the others the plan tells.
        db.execute(&format!("ALTER TABLE t OWNER TO {keeper}")).await;
        let said = workspace.run(["doctor", "--output", "json"]).json();
        assert!(!said.to_string().contains("may maintain none"), "{said:#}");
    }
}
