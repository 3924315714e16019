//! What a rule believes: that equal is what the types say, that nothing is
//! hidden, that the clocks agree, and that so many rows can be meant.

use serde_json::{Value, json};

use super::workspace;
use crate::settings::role;
use crate::support::patience::Patience;
use crate::support::servers::{TestDatabase, database_on, fresh_database, private_cluster};
use crate::support::workspace::Workspace;

/// One run, which may refuse.
fn run(workspace: &Workspace) -> Value {
    let output = workspace.run(["run", "cleanup", "--now", "--output", "json"]);
    output.json()["runs"][0].clone()
}

fn says(run: &Value, code: &str, words: &[&str]) {
    let findings = run["findings"].as_array().unwrap();
    let found = findings.iter().find(|f| f["code"] == code);
    let message = found.unwrap_or_else(|| panic!("no {code} in {run:#}"))["message"].to_string();
    for word in words {
        assert!(message.contains(word), "{word} is not in {message}");
    }
}

async fn left(db: &TestDatabase, sql: &str) -> String {
    db.strings(&format!(
        "SELECT coalesce(string_agg(x::text, ' ' ORDER BY x::text), '') FROM ({sql}) AS y(x)"
    ))
    .await
    .remove(0)
}

for_versions! {
    [pg18 = 18]
    /// citext, a domain over it, an enum and ltree in schemas of their own:
    /// conditions and orphans compare as the types do.
    async fn equal_is_what_the_type_says(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE SCHEMA ext; CREATE SCHEMA kinds; CREATE EXTENSION citext SCHEMA ext; CREATE EXTENSION ltree SCHEMA ext;
            CREATE DOMAIN kinds.mail AS ext.citext; CREATE TYPE kinds.color AS ENUM ('red', 'green');
            CREATE TABLE members (name ext.citext PRIMARY KEY, mail kinds.mail, color kinds.color, path ext.ltree, seen timestamptz);
            INSERT INTO members VALUES ('Root', 'Root@X.org', 'red', 'a.b', now() - interval '2 years'), ('guest', 'Guest@x.org', 'green', 'c', now() - interval '2 years'),
                ('Third', 'third@x.org', 'green', 'a', now() - interval '2 years')").await;
        for (keep, stays) in [
            ("name = 'root'", "Root"),
            ("name IN ('ROOT', 'GUEST')", "Root guest"),
            ("mail = 'root@x.org'", "Root"),
            ("color = 'red'", "Root"),
            ("path OPERATOR(ext.<@) 'a'::ext.ltree", "Root Third"),
            ("path <@ 'a'", "Root Third"),
            ("EXISTS (SELECT FROM public.holds h WHERE h.who = members.name)", "Root"),
        ] {
            db.execute("DROP TABLE IF EXISTS holds, copy; CREATE TABLE holds (who ext.citext); INSERT INTO holds VALUES ('rOOT');
                CREATE TABLE copy AS SELECT * FROM members").await;
            let keep = keep.replace("members.", "copy.");
            let rules = json!([{ "table": "copy", "column": "seen", "older_than": "1y", "keep": [keep] }]);
            run(&workspace(&db, &rules));
            assert_eq!(left(&db, "SELECT name FROM copy").await, stays, "{keep}");
        }
        // With and without a foreign key, and with the types mixed.
        for (child, key) in [("ext.citext", true), ("ext.citext", false), ("kinds.mail", false), ("text", false), ("varchar(20)", false)] {
            db.execute(&format!("DROP TABLE IF EXISTS logins, users; CREATE TABLE users (email ext.citext PRIMARY KEY);
                INSERT INTO users VALUES ('Ann@x.org'), ('Bob@x.org');
                CREATE TABLE logins (email {child} {});
                INSERT INTO logins VALUES ('ann@x.org'), ('BOB@X.ORG'), ('bob@x.org')", if key { "REFERENCES users" } else { "" })).await;
            if !key {
                db.execute("INSERT INTO logins VALUES ('nobody@x.org')").await;
            }
            let rules = json!([{ "table": "logins", "orphaned": { "columns": ["email"], "parent": "users", "parent_columns": ["email"] } }]);
            run(&workspace(&db, &rules));
            assert_eq!(left(&db, "SELECT lower(email::text) FROM logins").await, "ann@x.org bob@x.org bob@x.org", "{child} {key}");
        }
    }
}

for_versions! {
    [pg14 = 14]
    /// The types whose operators are meant may be inside others: rows, arrays, ranges, domains.
    async fn equal_is_what_the_type_inside_says(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE SCHEMA ext; CREATE EXTENSION citext SCHEMA ext; CREATE SCHEMA app;
            CREATE TYPE person AS (name ext.citext, born date); CREATE DOMAIN someone AS person;
            CREATE TABLE people (name ext.citext, born date); CREATE TYPE span AS RANGE (subtype = ext.citext);
            CREATE FUNCTION as_person(text) RETURNS person LANGUAGE sql IMMUTABLE AS 'SELECT ROW($1, NULL)::public.person';
            CREATE DOMAIN app.ci AS text; CREATE TYPE app.who AS (name text, n int);
            CREATE FUNCTION app.same(a app.ci, b app.ci) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT pg_catalog.lower(a::text) = pg_catalog.lower(b::text)';
            CREATE OPERATOR app.= (FUNCTION = app.same, LEFTARG = app.ci, RIGHTARG = app.ci);
            CREATE FUNCTION app.same(a app.who, b app.who) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT pg_catalog.lower(a.name) = pg_catalog.lower(b.name)';
            CREATE OPERATOR app.= (FUNCTION = app.same, LEFTARG = app.who, RIGHTARG = app.who);
            CREATE TABLE members (label text, who person, dom someone, list person[], p people, r span, own app.ci, mine app.who, j jsonb, seen timestamptz);
            INSERT INTO members SELECT n, ROW(n, NULL)::person, ROW(n, NULL)::person, ARRAY[ROW(n, NULL)::person], ROW(n, NULL)::people, span(n::ext.citext, NULL),
                n, ROW(n, 1)::app.who, jsonb_build_object('name', n), now() - interval '2 years' FROM unnest(ARRAY['Root', 'guest']) n;
            CREATE VIEW seen AS SELECT label, who FROM members").await;
        for keep in [
            "(who).name = 'root'", "(dom).name = 'root'", "(list[1]).name = 'root'", "(p).name = 'root'", "lower(r) = 'root'",
            "own = 'root'", "mine = ROW('root', 2)::app.who", "(jsonb_populate_record(NULL::public.person, j)).name = 'root'",
            "(public.as_person(label)).name = 'root'", "label IN (SELECT s.label FROM public.seen s WHERE (s.who).name = 'root')",
        ] {
            db.execute("DROP TABLE IF EXISTS copy; CREATE TABLE copy AS SELECT * FROM members").await;
            let rules = json!([{ "table": "copy", "column": "seen", "older_than": "1y", "keep": [keep] }]);
            let done = run(&workspace(&db, &rules));
            assert_eq!(left(&db, "SELECT label FROM copy").await, "Root", "{keep} {done:#}");
        }
        // Whose schema it is decides, too.
        db.execute("GRANT CREATE ON SCHEMA app TO PUBLIC").await;
        let done = run(&workspace(&db, &json!([{ "table": "copy", "column": "seen", "older_than": "1y", "keep": ["own = 'nobody'"] }])));
        says(&done, "cleanup.rule", &["app", "everybody (PUBLIC)"]);
        assert_eq!(left(&db, "SELECT label FROM copy").await, "Root");
    }
}

for_versions! {
    [pg15 = 15]
    /// Keys of other types: padded, of two widths, numeric, enums, arrays, a
    /// collation that ignores case; and two that nothing compares.
    async fn keys_of_every_type_are_compared_as_a_foreign_key_would(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TYPE color AS ENUM ('red', 'green'); CREATE DOMAIN number AS bigint; CREATE DOMAIN hue AS color;
            CREATE COLLATION lower (provider = icu, locale = 'und-u-ks-level2', deterministic = false)").await;
        for (parent, child, values, orphan) in [
            ("char(8)", "char(8)", "'a'", "'z'"), ("char(8)", "text", "'a'", "'z'"), ("text", "char(8)", "'a'", "'z'"),
            ("bigint", "int", "1", "2"), ("int", "smallint", "1", "2"), ("numeric", "int", "1", "2"), ("int", "numeric", "1", "2"),
            ("number", "int", "1", "2"), ("uuid", "uuid", "'00000000-0000-0000-0000-000000000001'", "'00000000-0000-0000-0000-000000000002'"),
            ("color", "color", "'red'", "'green'"), ("color", "hue", "'red'", "'green'"), ("hue", "color", "'red'", "'green'"), ("hue", "hue", "'red'", "'green'"), ("int[]", "int[]", "'{1}'", "'{2}'"), ("int4range", "int4range", "'[1,2)'", "'[2,3)'"),
            ("timestamptz", "timestamptz", "'2026-01-01 00:00+00'", "'2026-01-02 00:00+00'"), ("date", "timestamptz", "'2026-01-01 00:00+00'", "'2026-01-02 00:00+00'"),
            ("inet", "cidr", "'10.0.0.0/8'", "'11.0.0.0/8'"), ("name", "text", "'a'", "'z'"), ("xid8", "xid8", "'1'", "'2'"),
            ("text COLLATE lower", "text", "'a'", "'z'"), ("text COLLATE lower", "text COLLATE \"C\"", "'A'", "'z'"),
            // No orphan by the child's collation, by which queries go.
            ("text", "text COLLATE lower", "'A'", "'z'"),
        ] {
            db.execute(&format!("DROP TABLE IF EXISTS c, p; CREATE TABLE p (k {parent}); CREATE TABLE c (id int, k {child});
                INSERT INTO p VALUES ({}); INSERT INTO c VALUES (1, {values}), (2, {orphan}), (3, NULL)",
                values.to_lowercase())).await;
            let rules = json!([{ "table": "c", "orphaned": { "columns": ["k"], "parent": "p", "parent_columns": ["k"] } }]);
            let done = run(&workspace(&db, &rules));
            assert_eq!(left(&db, "SELECT id FROM c").await, "1 3", "{parent} {child} {done:#}");
        }
        // Names that look like places to be filled in.
        db.execute("DROP TABLE c, p; CREATE TABLE p (\"{child}\" int); CREATE TABLE c (id int, \"{parent}\" int);
            INSERT INTO p VALUES (1); INSERT INTO c VALUES (1, 1), (2, 2)").await;
        let rules = json!([{ "table": "c", "orphaned": { "columns": ["{parent}"], "parent": "p", "parent_columns": ["{child}"] }, "max_share": "100%" }]);
        run(&workspace(&db, &rules));
        assert_eq!(left(&db, "SELECT id FROM c").await, "1");
        db.execute("DROP TABLE c, p; CREATE TABLE p (k int); CREATE TABLE c (k color); INSERT INTO c VALUES ('red')").await;
        let rules = json!([{ "table": "c", "orphaned": { "columns": ["k"], "parent": "p", "parent_columns": ["k"] }, "max_share": "100%" }]);
        says(&run(&workspace(&db, &rules)), "cleanup.rule", &["nothing says when", "integer"]);
        assert_eq!(db.number("SELECT count(*) FROM c").await, 1);
    }
}

for_oldest_and_newest! {
    /// Operators in a schema where anybody may make some are not trusted.
    async fn operators_that_anybody_may_make_are_refused(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE SCHEMA open; GRANT ALL ON SCHEMA open TO PUBLIC; CREATE EXTENSION citext SCHEMA open;
            CREATE TABLE m (name open.citext, plain text, at timestamptz);
            INSERT INTO m VALUES ('Root', 'x', now() - interval '2 years'), ('guest', 'y', now() - interval '2 years')").await;
        let rules = json!([{ "table": "m", "column": "at", "older_than": "1y", "keep": ["name = 'root'"] }]);
        let refused = run(&workspace(&db, &rules));
        says(&refused, "cleanup.rule", &["open", "PUBLIC", "citext"]);
        assert_eq!(db.number("SELECT count(*) FROM m").await, 2);
        db.execute("REVOKE ALL ON SCHEMA open FROM PUBLIC").await;
        run(&workspace(&db, &rules));
        assert_eq!(left(&db, "SELECT name FROM m").await, "Root");
    }
}

for_versions! {
    [pg14 = 14, pg18 = 18]
    /// A policy that hides parents, or what is to be kept, makes no orphans.
    async fn what_is_hidden_is_not_gone(major: u32) {
        let db = fresh_database(major).await;
        let (janitor, url) = role(&db, "").await;
        db.execute(&format!("CREATE TABLE tenants (id int PRIMARY KEY, mine bool); INSERT INTO tenants SELECT n, n % 2 = 0 FROM generate_series(1, 10) n;
            ALTER TABLE tenants ENABLE ROW LEVEL SECURITY; CREATE POLICY half ON tenants USING (mine);
            CREATE TABLE notes (id int, tenant_id int, at timestamptz DEFAULT now() - interval '2 years');
            INSERT INTO notes SELECT n, n FROM generate_series(1, 12) n;
            CREATE FUNCTION public.known(int) RETURNS bool LANGUAGE sql STABLE AS 'SELECT EXISTS (SELECT FROM public.tenants WHERE id = $1)';
            GRANT SELECT, DELETE ON tenants, notes TO {janitor}")).await;
        for (rule, code) in [
            (json!({ "table": "notes", "orphaned": { "columns": ["tenant_id"], "parent": "tenants" } }), "cleanup.rule"),
            (json!({ "table": "notes", "column": "at", "older_than": "1y", "keep": ["EXISTS (SELECT FROM public.tenants t WHERE t.id = tenant_id)"] }), "cleanup.rule"),
            (json!({ "table": "notes", "column": "at", "older_than": "1y", "keep": ["public.known(tenant_id)"] }), "cleanup.rule"),
        ] {
            let workspace = Workspace::for_target(&url).task("cleanup", &format!("kind: cleanup\ntarget: app\noptions: {}\n", json!({ "rules": [rule] })));
            let refused = run(&workspace);
            assert_eq!(db.number("SELECT count(*) FROM notes").await, 12, "{refused:#}");
            says(&refused, code, &["tenants"]);
        }
        // So it is where the policy is met on the way: nothing is counted, and it is told what helps.
        if major >= 15 {
            db.execute(&format!("CREATE VIEW asking WITH (security_invoker) AS SELECT * FROM tenants; GRANT SELECT ON asking TO {janitor}")).await;
        }
        let view = "EXISTS (SELECT FROM public.asking a WHERE a.id = tenant_id)";
        for keep in ["public.known(tenant_id)", view].iter().take(if major >= 15 { 2 } else { 1 }) {
            let rule = json!({ "table": "notes", "column": "at", "older_than": "1y", "keep": [keep], "max_rows": 100 });
            let workspace = Workspace::for_target(&url).task("cleanup", &format!("kind: cleanup\ntarget: app\noptions: {}\n", json!({ "rules": [rule] })));
            let refused = run(&workspace);
            says(&refused, "cleanup.rule", &["row-level security hides rows that its condition reads", "BYPASSRLS"]);
            assert_eq!(refused["findings"][0]["suggestion"], format!("ALTER ROLE {janitor} BYPASSRLS"), "{refused:#}");
            assert_eq!(db.number("SELECT count(*) FROM notes").await, 12, "{refused:#}");
        }
        // A function that switches the policies on again, however it is reached.
        db.execute(&format!("GRANT CREATE ON SCHEMA public TO {janitor};
            CREATE FUNCTION public.inner_on(int) RETURNS bool LANGUAGE sql STABLE SET row_security = on AS 'SELECT EXISTS (SELECT FROM public.tenants WHERE id = $1)';
            CREATE FUNCTION public.outer_on(int) RETURNS bool LANGUAGE plpgsql STABLE AS 'BEGIN RETURN public.inner_on($1); END';
            CREATE FUNCTION public.standard(int) RETURNS bool LANGUAGE sql STABLE RETURN public.inner_on($1);
            CREATE FUNCTION public.definer(int) RETURNS bool LANGUAGE sql STABLE SECURITY DEFINER SET row_security = true AS 'SELECT EXISTS (SELECT FROM public.tenants WHERE id = $1)';
            ALTER FUNCTION public.definer(int) OWNER TO {janitor};
            CREATE FUNCTION public.body(int) RETURNS bool LANGUAGE plpgsql AS $$BEGIN SET LOCAL row_security = on; RETURN EXISTS (SELECT FROM public.tenants WHERE id = $1); END$$;
            CREATE VIEW seen AS SELECT n AS id FROM generate_series(1, 12) n WHERE public.inner_on(n); GRANT SELECT ON seen TO {janitor}")).await;
        let calls = ["public.inner_on(tenant_id)", "public.outer_on(tenant_id)", "public.standard(tenant_id)", "public.definer(tenant_id)", "public.body(tenant_id)",
            "EXISTS (SELECT FROM public.seen s WHERE s.id = tenant_id)"];
        let by = |call: &str| {
            let rule = json!({ "table": "notes", "column": "at", "older_than": "1y", "where": format!("NOT {call}") });
            Workspace::for_target(&url).task("cleanup", &format!("kind: cleanup\ntarget: app\noptions: {}\n", json!({ "rules": [rule] })))
        };
        for call in calls {
            let refused = run(&by(call));
            assert_eq!(db.number("SELECT count(*) FROM notes").await, 12, "{call}: {refused:#}");
            says(&refused, "cleanup.rule", &["row_security", if call.contains("definer") { "definer" } else if call.contains("body") { "body" } else { "inner_on" }]);
        }
        let query = json!({ "queries": [{ "name": "lost", "sql": "SELECT id FROM public.notes WHERE NOT public.outer_on(tenant_id)" }] });
        let asked = Workspace::for_target(&url).task("cleanup", &format!("kind: integrity\ntarget: app\noptions: {query}\n"));
        says(&run(&asked), "query.refused", &["inner_on", "ALTER FUNCTION", "RESET row_security"]);
        // Whoever sees all rows anyway calls what he likes.
        db.execute("CREATE FUNCTION public.all_rows(int) RETURNS bool LANGUAGE sql STABLE SECURITY DEFINER SET row_security = on
            AS 'SELECT $1 <> 11 OR EXISTS (SELECT FROM public.tenants WHERE id = $1)'").await;
        run(&by("public.all_rows(tenant_id)"));
        assert_eq!(db.number("SELECT count(*) FROM notes").await, 11);
        db.execute("INSERT INTO notes VALUES (11, 11)").await;
        let orphans = json!({ "rules": [{ "table": "notes", "orphaned": { "columns": ["tenant_id"], "parent": "tenants" } }] });
        let workspace = Workspace::for_target(&url).task("cleanup", &format!("kind: cleanup\ntarget: app\noptions: {orphans}\n"));
        says(&run(&workspace), "cleanup.rule", &["half", "BYPASSRLS", "tenants"]);
        db.execute(&format!("ALTER ROLE {janitor} BYPASSRLS")).await;
        run(&workspace);
        assert_eq!(left(&db, "SELECT id FROM notes WHERE id > 9").await, "10");
    }
}

for_oldest_and_newest! {
    /// FORCE on a partitioned table is not got round by naming its partitions;
    /// a policy on an ordinary table applies as the application expects.
    async fn policies_of_the_named_table_count(major: u32) {
        let db = fresh_database(major).await;
        let (owner, url) = role(&db, "").await;
        db.execute(&format!("CREATE TABLE ev (id int, at timestamptz NOT NULL, held bool) PARTITION BY RANGE (at);
            CREATE TABLE ev_2020 PARTITION OF ev FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
            CREATE TABLE ev_rest PARTITION OF ev DEFAULT;
            INSERT INTO ev SELECT n, '2020-05-01', n % 2 = 0 FROM generate_series(1, 10) n;
            INSERT INTO ev SELECT n, '2021-05-01', n % 2 = 0 FROM generate_series(11, 20) n;
            CREATE TABLE one (id int, at timestamptz, held bool); INSERT INTO one SELECT * FROM (SELECT id, at, held FROM ev) x;
            ALTER TABLE ev ENABLE ROW LEVEL SECURITY; ALTER TABLE ev FORCE ROW LEVEL SECURITY; CREATE POLICY free ON ev USING (NOT held);
            ALTER TABLE one ENABLE ROW LEVEL SECURITY; ALTER TABLE one FORCE ROW LEVEL SECURITY; CREATE POLICY free ON one USING (NOT held);
            GRANT ALL ON SCHEMA public TO {owner};
            ALTER TABLE ev OWNER TO {owner}; ALTER TABLE ev_2020 OWNER TO {owner}; ALTER TABLE ev_rest OWNER TO {owner}; ALTER TABLE one OWNER TO {owner}")).await;
        let rules = json!({ "rules": [{ "table": "ev", "column": "at", "older_than": "1y" }, { "table": "one", "column": "at", "older_than": "1y" }] });
        let workspace = Workspace::for_target(&url).task("cleanup", &format!("kind: cleanup\ntarget: app\noptions: {rules}\n"));
        let done = run(&workspace);
        says(&done, "cleanup.rule", &["public.ev", "free", "FORCE"]);
        assert_eq!(db.number("SELECT count(*) FROM ev").await, 20, "{done:#}");
        assert_eq!(db.number("SELECT count(*) FROM one WHERE held").await, 10, "{done:#}");
        assert_eq!(db.number("SELECT count(*) FROM one").await, 10, "{done:#}");
        let archive = json!({ "table": "ev", "column": "at", "older_than": "1y", "destination": { "table": "kept" } });
        let workspace = workspace.task("archive", &format!("kind: archive\ntarget: app\noptions: {archive}\n"));
        workspace.run(["run", "archive", "--now"]);
        assert_eq!(db.number("SELECT count(*) FROM ev").await, 20);
    }
}

for_versions! {
    [pg15 = 15]
    /// A clock that is days ahead makes nothing older.
    async fn clocks_that_differ_delete_nothing(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE t (id int, at timestamptz); INSERT INTO t SELECT n, now() - n * interval '1 day' FROM generate_series(0, 9) n;
            CREATE TABLE a (LIKE t); INSERT INTO a SELECT * FROM t;
            CREATE TABLE p (at timestamptz NOT NULL) PARTITION BY RANGE (at); CREATE TABLE p_2020 PARTITION OF p FOR VALUES FROM ('2020-01-01') TO ('2021-01-01')").await;
        let rules = json!([{ "table": "t", "column": "at", "older_than": "7d" }]);
        let workspace = workspace(&db, &rules)
            .task("archive", "kind: archive\ntarget: app\noptions: { table: a, column: at, older_than: 7d, destination: { table: kept } }\n")
            .task("partitions", "kind: partitions\ntarget: app\noptions: { tables: [p], interval: year, keep: 1y }\n");
        for shift in ["+5 days", "-5 days", "+20 seconds"] {
            for (verb, task) in [("plan", "cleanup"), ("run", "cleanup"), ("run", "archive"), ("run", "partitions")] {
                let inner = workspace.process([verb, task, "--output", "json"]);
                let mut faked = std::process::Command::new("/usr/bin/faketime");
                faked.arg(shift).arg(inner.get_program()).args(inner.get_args());
                if verb == "run" {
                    faked.arg("--now");
                }
                faked.current_dir(workspace.path()).env_clear();
                for (name, value) in inner.get_envs() {
                    if let Some(value) = value {
                        faked.env(name, value);
                    }
                }
                let output = faked.output().unwrap();
                let said = String::from_utf8_lossy(&output.stdout).into_owned();
                assert!(said.contains("clock.differs"), "{shift} {verb} {task}: {said} {}", String::from_utf8_lossy(&output.stderr));
            }
            assert_eq!(db.number("SELECT count(*) FROM t").await, 10, "{shift}");
            assert_eq!(db.number("SELECT count(*) FROM a").await, 10, "{shift}");
            assert_eq!(db.number("SELECT count(*) FROM pg_class WHERE relname = 'p_2020'").await, 1, "{shift}");
        }
        // Rows get their time on the server: what is made is for its months and years.
        let made = "SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class WHERE relname ~ '^p_y' AND relname !~ (SELECT string_agg(to_char(now() + n * interval '1 year', 'YYYY'), '|') FROM generate_series(0, 4) n)";
        let inner = workspace.process(["run", "partitions", "--now"]);
        let mut faked = std::process::Command::new("/usr/bin/faketime");
        let long_ago = "-2000 days";
        faked.arg(long_ago).arg(inner.get_program()).args(inner.get_args()).current_dir(workspace.path()).env_clear();
        faked.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
        faked.output().unwrap();
        assert_eq!(left(&db, &format!("SELECT * FROM ({made}) m")).await, "");
        assert!(db.number("SELECT count(*) FROM pg_class WHERE relname ~ '^p_y'").await > 0);
        let done = run(&workspace);
        assert_eq!(done["rows"], 3, "{done:#}");
        // That the role is a superuser is a problem of its own, and no matter here.
        assert!(workspace.run(["doctor"]).stdout.contains("ok  app: the clocks of this machine and the server agree"));
    }
}

for_oldest_and_newest! {
    /// No rule takes more than it may; orphans of an emptied parent stay.
    async fn no_rule_takes_more_than_it_may(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE p (id int PRIMARY KEY); CREATE TABLE c (id int, p_id int, at timestamptz);
            INSERT INTO c SELECT n, n, now() - n * interval '1 day' FROM generate_series(1, 100) n").await;
        let orphans = json!({ "table": "c", "orphaned": { "columns": ["p_id"], "parent": "p" } });
        let refuse = async |rule: Value, words: &[&str]| {
            let done = run(&workspace(&db, &json!([rule])));
            says(&done, "rows.too_many", words);
            assert_eq!(db.number("SELECT count(*) FROM c").await, 100, "{done:#}");
        };
        refuse(orphans.clone(), &["100 of 100", "public.p is empty"]).await;
        db.execute("INSERT INTO p SELECT generate_series(1, 40)").await;
        refuse(orphans.clone(), &["60 of 100", "50%"]).await;
        refuse(json!({ "table": "c", "column": "at", "older_than": "50d", "max_rows": 50 }), &["51 of 100", "50"]).await;
        refuse(json!({ "table": "c", "column": "at", "older_than": "50d", "max_share": "10%" }), &["51 of 100", "10%"]).await;
        let archive = "kind: archive\ntarget: app\noptions: { table: c, column: at, older_than: 50d, max_rows: 50, destination: { table: kept } }\n";
        let archived = Workspace::for_target(&db.url).task("archive", archive).run(["run", "archive", "--now", "--output", "json"]);
        says(&archived.json()["runs"][0], "rows.too_many", &["51 of 100"]);
        assert_eq!(db.number("SELECT count(*) FROM c").await, 100);
        // 60 orphans, of which the rule may take them all.
        let mut all = orphans;
        all["max_share"] = json!("60%");
        let done = run(&workspace(&db, &json!([all])));
        assert_eq!(done["rows"], 60, "{done:#}");
    }
}

/// What came in after the plan had counted is in no count: the walk holds to
/// the bound as well, and stops with nothing more gone.
#[tokio::test]
async fn a_bound_holds_to_the_end_of_the_run() {
    let db = fresh_database(17).await;
    db.execute(
        "CREATE TABLE first (id int PRIMARY KEY, at timestamptz NOT NULL); INSERT INTO first VALUES (1, now() - interval '2 years');
         CREATE TABLE bound (id int PRIMARY KEY, at timestamptz NOT NULL);
         INSERT INTO bound SELECT n, now() - interval '2 years' FROM generate_series(1, 5) n;
         INSERT INTO bound SELECT n, now() FROM generate_series(6, 100) n",
    )
    .await;
    for (limit, allows) in [
        (json!({ "max_rows": 10 }), 10),
        (json!({ "max_share": "7%" }), 7),
    ] {
        let mut rule = json!({ "table": "bound", "column": "at", "older_than": "1y" });
        rule.as_object_mut()
            .unwrap()
            .extend(limit.as_object().unwrap().clone());
        let rules = json!([{ "table": "first", "column": "at", "older_than": "1y" }, rule]);
        let task = format!(
            "kind: cleanup\ntarget: app\nlimits: {{ jobs: 1, lock_timeout: 60s }}\noptions: {}\n",
            json!({ "rules": rules })
        );
        let workspace = Workspace::for_target(&db.url).task("cleanup", &task);
        // The plan may read the first table, the run waits before it.
        let holder = db.connect().await;
        holder
            .batch_execute("BEGIN; LOCK TABLE first IN SHARE MODE")
            .await
            .unwrap();
        let mut process = workspace.process(["run", "cleanup", "--now", "--output", "json"]);
        let mut child = process
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let waiting = "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid)
            WHERE NOT l.granted AND l.relation = 'first'::regclass AND a.datname = current_database()";
        let patience = Patience::until("the run to wait for the first table");
        while db.number(waiting).await == 0 {
            assert!(child.try_wait().unwrap().is_none(), "it ended");
            patience.pause().await;
        }
        db.execute("UPDATE bound SET at = now() - interval '2 years' WHERE id <= 50")
            .await;
        holder.batch_execute("COMMIT").await.unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        let run = &document["runs"][0];
        assert_eq!(run["status"], "partial", "{run:#}");
        says(
            run,
            "rows.too_many",
            &["public.bound", "50 more", &format!("allows {allows}")],
        );
        assert_eq!(db.number("SELECT count(*) FROM bound").await, 100);
        db.execute("UPDATE bound SET at = now() WHERE id BETWEEN 6 AND 50; INSERT INTO first VALUES (1, now() - interval '2 years')").await;
    }
    // What was counted still goes.
    let rules = json!([{ "table": "bound", "column": "at", "older_than": "1y", "max_rows": 5 }]);
    assert_eq!(run(&workspace(&db, &rules))["rows"], 5);
    assert_eq!(db.number("SELECT count(*) FROM bound").await, 95);
}

for_versions! {
    [pg18 = 18]
    /// A view that shows each reader his own rows proves no absence; one that only has such words in a
    /// literal does.
    async fn a_view_that_asks_who_reads_it_proves_no_absence(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE p (id int PRIMARY KEY, owner text); INSERT INTO p SELECT g, CASE WHEN g > 6 THEN 'bob' ELSE current_user::text END FROM generate_series(1, 10) g;
            CREATE VIEW own_ones WITH (security_barrier) AS SELECT * FROM p WHERE owner = current_user::text;
            CREATE VIEW of_tenant AS SELECT * FROM p WHERE owner = coalesce(current_setting('app.tenant', true), 'me');
            CREATE VIEW above AS SELECT id FROM own_ones;
            CREATE VIEW plain AS SELECT id, 'CURRENT_USER' AS \"USER\" FROM p WHERE owner <> 'SESSION_USER';
            CREATE TABLE c (id int PRIMARY KEY, pid int); INSERT INTO c SELECT g, g FROM generate_series(1, 11) g").await;
        let run = |rule: &str| {
            let workspace = Workspace::for_target(&db.url)
                .task("clean", &format!("kind: cleanup\ntarget: app\noptions: {{ rules: [{{ table: c, {rule}, max_share: 100% }}] }}\n"));
            workspace.run(["run", "clean", "--now", "--output", "json"]).json()["runs"][0].clone()
        };
        for (rule, view) in [
            ("orphaned: { columns: [pid], parent: own_ones }", "own_ones"), ("orphaned: { columns: [pid], parent: above }", "own_ones"),
            ("orphaned: { columns: [pid], parent: of_tenant }", "of_tenant"),
            ("where: \"pid NOT IN (SELECT id FROM public.above)\"", "own_ones"),
            ("where: \"true\", keep: [\"EXISTS (SELECT FROM public.of_tenant AS q WHERE q.id = pid)\"]", "of_tenant"),
        ] {
            let done = run(rule);
            assert!(done["findings"].to_string().contains(&format!("the view public.{view} shows rows by who asks")), "{rule}: {done:#}");
            assert_eq!(done["status"], "failed", "{rule}: {done:#}");
            assert_eq!(db.number("SELECT count(*) FROM c").await, 11, "{rule}");
        }
        for rows in [1, 0] {
            assert_eq!(run("orphaned: { columns: [pid], parent: plain }")["rows"], rows);
        }
        assert_eq!(db.number("SELECT sum(id) FROM c").await, 55);
    }
}

for_oldest_and_newest! {
    /// A materialized view has the parents of its last refresh: who points at one that came since is no
    /// orphan, also where a view or a function stands before it.
    async fn what_was_is_no_proof_of_what_is_gone(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE u (id int PRIMARY KEY); INSERT INTO u SELECT generate_series(1, 10);
            CREATE MATERIALIZED VIEW um AS SELECT * FROM u; CREATE VIEW uv AS SELECT * FROM um; CREATE VIEW direct AS SELECT * FROM u;
            CREATE TABLE l (id int, uid int); INSERT INTO l SELECT n, n FROM generate_series(1, 14) n; INSERT INTO u SELECT generate_series(11, 13)").await;
        for (parent, rows) in [("um", 14), ("uv", 14), ("direct", 13)] {
            let rule = json!({ "table": "l", "orphaned": { "columns": ["uid"], "parent": parent, "parent_columns": ["id"] } });
            let workspace = Workspace::for_target(&db.url).task(
                "cleanup", &format!("kind: cleanup\ntarget: app\noptions: {}\n", json!({ "rules": [rule] })));
            let done = workspace.run(["run", "cleanup", "--now", "--output", "json"]);
            assert_eq!(db.number("SELECT count(*) FROM l").await, rows, "{parent}: {}", done.stdout);
            assert_eq!(done.stdout.contains("public.um is a materialized view"), parent != "direct", "{}", done.stdout);
            assert_eq!(done.code, i32::from(parent != "direct"), "{}", done.stdout);
        }
    }
}

/// A subscriber that has not copied all parents yet knows children whose parents are still to come.
#[tokio::test]
async fn parents_that_are_still_to_come_are_not_gone() {
    let cluster = private_cluster(
        17,
        &[
            ("wal_level", "logical"),
            ("wal_retrieve_retry_interval", "100ms"),
        ],
    );
    let (here, there) = (
        database_on(&cluster, 17).await,
        database_on(&cluster, 17).await,
    );
    for one in [&here, &there] {
        one.execute("CREATE TABLE users (id int PRIMARY KEY, at date); CREATE TABLE logins (id int PRIMARY KEY, uid int)").await;
    }
    here.execute("INSERT INTO users SELECT n FROM generate_series(1, 100) n; INSERT INTO logins SELECT n, n % 100 + 1 FROM generate_series(1, 500) n;
        CREATE PUBLICATION news FOR TABLE users, logins").await;
    here.execute("SELECT pg_create_logical_replication_slot('feed', 'pgoutput')")
        .await;
    // One key that is there already has the copy of all parents fail, and begin again.
    there
        .execute("INSERT INTO users SELECT n FROM generate_series(40, 100) n")
        .await;
    there
        .execute(&format!(
            "CREATE SUBSCRIPTION readers CONNECTION '{}' PUBLICATION news WITH (create_slot = false, slot_name = 'feed')",
            here.url
        ))
        .await;
    let state = |table: &str| {
        format!(
            "SELECT count(*) FROM pg_subscription_rel WHERE srrelid = '{table}'::regclass AND srsubstate = 'r'"
        )
    };
    let patience = Patience::until("the subscriber to have the children");
    while there.number(&state("logins")).await == 0 {
        patience.pause().await;
    }
    let rules = json!({ "rules": [
        { "table": "logins", "orphaned": { "columns": ["uid"], "parent": "users" }, "max_share": "90%" },
    ] });
    let workspace = Workspace::for_target(&there.url).task(
        "cleanup",
        &format!("kind: cleanup\ntarget: app\noptions: {rules}\n"),
    );
    let refused = workspace.run(["run", "cleanup", "--now", "--output", "json"]);
    assert!(
        refused
            .stdout
            .contains("the subscription readers has not copied all of public.users yet"),
        "{}",
        refused.stdout
    );
    refused.expect(1);
    assert_eq!(there.number("SELECT count(*) FROM logins").await, 500);
    there.execute("DELETE FROM users").await;
    let patience = Patience::until("the subscriber to have the parents");
    while there.number(&state("users")).await == 0 {
        patience.pause().await;
    }
    there.execute("INSERT INTO logins VALUES (501, 777)").await;
    workspace.run(["run", "cleanup", "--now"]).expect(0);
    assert_eq!(there.number("SELECT count(*) FROM logins").await, 500);
    there
        .execute(
            "ALTER SUBSCRIPTION readers DISABLE; ALTER SUBSCRIPTION readers SET (slot_name = NONE)",
        )
        .await;
    there.execute("DROP SUBSCRIPTION readers").await;
}

for_oldest_and_newest! {
    /// Numbers that are no times in any unit are not taken for old ones: dates written as numbers, days
    /// and minutes since 1970, ids.
    async fn numbers_that_are_no_times_are_not_old(major: u32) {
        let db = fresh_database(major).await;
        for (numbers, epoch) in [
            ("to_char(now() - n * interval '1 day', 'YYYYMMDD')::bigint", "seconds"),
            ("to_char(now() - n * interval '1 day', 'YYYYMM')::bigint", "seconds"),
            ("to_char(now() - n * interval '1 day', 'YYYYMMDDHH24MISS')::bigint", "micros"),
            ("(extract(epoch FROM now()) / 86400)::bigint - n", "seconds"),
            ("n", "millis"),
        ] {
            db.execute(&format!("DROP TABLE IF EXISTS t; CREATE TABLE t (id int, at bigint); INSERT INTO t SELECT n, {numbers} FROM generate_series(1, 100) n")).await;
            let rule = json!({ "table": "t", "column": "at", "older_than": "1y", "epoch": epoch });
            let workspace = Workspace::for_target(&db.url).task(
                "cleanup", &format!("kind: cleanup\ntarget: app\noptions: {}\n", json!({ "rules": [rule] })));
            let done = workspace.run(["run", "cleanup", "--now", "--output", "json"]).expect(1);
            assert!(done.stdout.contains("what it counts is not known"), "{numbers}: {}", done.stdout);
            assert_eq!(db.number("SELECT count(*) FROM t").await, 100, "{numbers}");
        }
        // Zero and less stand for none, often for never.
        db.execute("TRUNCATE t; INSERT INTO t VALUES (1, 0), (2, -1)").await;
        let rule = json!({ "table": "t", "column": "at", "older_than": "1y", "epoch": "seconds" });
        let workspace = Workspace::for_target(&db.url).task(
            "cleanup", &format!("kind: cleanup\ntarget: app\noptions: {}\n", json!({ "rules": [rule] })));
        let done = workspace.run(["run", "cleanup", "--now", "--output", "json"]).expect(0);
        assert!(done.stdout.contains("rows.doubted"), "{}", done.stdout);
        assert_eq!(db.number("SELECT count(*) FROM t").await, 2);
    }
}

for_oldest_and_newest! {
    /// A view meets policies as its owner: what would make maint's role see more helps nobody there, and is
    /// not asked for.
    async fn policies_for_the_owner_of_a_view_are_not_ours(major: u32) {
        let db = fresh_database(major).await;
        let (janitor, url) = role(&db, "BYPASSRLS").await;
        let viewer = format!("viewer_{}", db.name);
        db.execute(&format!("CREATE ROLE {viewer}; GRANT CREATE ON SCHEMA public TO {viewer}; CREATE TABLE held (id int, mine bool); INSERT INTO held SELECT n, n < 3 FROM generate_series(1, 5) n;
            ALTER TABLE held ENABLE ROW LEVEL SECURITY; CREATE POLICY part ON held TO {viewer} USING (mine); GRANT SELECT ON held TO {viewer}, {janitor};
            CREATE TABLE notes (id int, at timestamptz DEFAULT now() - interval '2 years'); INSERT INTO notes SELECT generate_series(1, 12); GRANT SELECT, DELETE ON notes TO {janitor};
            SET ROLE {viewer}; CREATE VIEW heldv AS SELECT id FROM public.held; GRANT SELECT ON heldv TO {janitor}")).await;
        let by = |keep: &str| {
            let rule = json!({ "table": "notes", "column": "at", "older_than": "1y", "keep": [keep] });
            Workspace::for_target(&url).task("cleanup", &format!("kind: cleanup\ntarget: app\noptions: {}\n", json!({ "rules": [rule] })))
        };
        let refused = run(&by("id IN (SELECT h.id FROM public.heldv h)"));
        says(&refused, "cleanup.rule", &["reads as its owner", "itself sees all rows"]);
        assert!(refused["findings"][0]["suggestion"].is_null(), "{refused:#}");
        assert_eq!(db.number("SELECT count(*) FROM notes").await, 12);
        assert_eq!(run(&by("id IN (SELECT h.id FROM public.held h)"))["rows"], 7);
    }
}
