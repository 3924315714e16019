//! Settings of roles and databases, and whose names are looked up.

use std::collections::BTreeSet;

use maint::engines::postgres::settings::{DEMANDED, LEFT, PINNED};

use crate::support::servers::{TestDatabase, connect, fresh_database};
use crate::support::workspace::Workspace;

for_each_version! {
    /// Nobody adds a setting to the server that nobody here has thought about.
    async fn every_setting_is_classified(major: u32) {
        let db = fresh_database(major).await;
        let known: BTreeSet<&str> = PINNED.iter().map(|pin| pin.name)
            .chain(DEMANDED.iter().map(|(name, ..)| *name))
            .chain(LEFT.iter().flat_map(|(names, _)| names.split_whitespace()))
            .collect();
        let server = db.strings("SELECT name FROM pg_settings
            WHERE context IN ('user', 'superuser', 'superuser-backend') AND name NOT LIKE '%.%' ORDER BY 1").await;
        let unknown: Vec<&String> = server.iter().filter(|name| !known.contains(name.as_str())).collect();
        assert!(unknown.is_empty(), "say in settings.rs what becomes of {unknown:?}");
        for pin in PINNED.iter().filter(|pin| pin.since <= i32::try_from(major).unwrap()) {
            assert!(server.iter().any(|name| name == pin.name), "{} is no setting of {major}", pin.name);
        }
    }
}

#[test]
fn the_documentation_names_what_is_pinned() {
    let text = std::fs::read_to_string("docs/settings.md").unwrap();
    for pin in PINNED {
        let mark = if pin.theirs {
            "not in `kind: sql`"
        } else {
            "always"
        };
        let line = format!("| `{}` | `{}` | {mark} |", pin.name, pin.value);
        assert!(text.contains(&line), "docs/settings.md lacks {line}");
    }
    for (name, value, _) in DEMANDED {
        assert!(
            text.contains(&format!("| `{name}` | `{value}` |")),
            "{name}"
        );
    }
}

/// A login role with a password, and the URL of `db` for it.
pub(crate) async fn role(db: &TestDatabase, more: &str) -> (String, String) {
    let role = format!("r_{}", uuid::Uuid::now_v7().simple());
    db.execute(&format!("CREATE ROLE {role} LOGIN PASSWORD 'word' {more}"))
        .await;
    let mut url = url::Url::parse(&db.url).unwrap();
    url.set_username(&role).unwrap();
    url.set_password(Some("word")).unwrap();
    (role, url.to_string())
}

/// Functions and operators in front of everything: each with the very types
/// that a call has, so that it fits better than the server's own. Whoever calls
/// one leaves a trace, also in a transaction that is given back.
const EVIL: &str = "
    CREATE SCHEMA evil; CREATE SEQUENCE evil.called; GRANT ALL ON SCHEMA evil TO PUBLIC;
    CREATE FUNCTION evil.seen(what text) RETURNS void LANGUAGE plpgsql AS $f$
        BEGIN PERFORM pg_catalog.nextval('evil.called'::pg_catalog.regclass); RAISE WARNING 'evil %', what; END $f$;
    DO $do$
    DECLARE o record; n int := 0; made text;
    BEGIN
        FOR o IN SELECT opr.oprname, opr.oprleft::regtype AS l, opr.oprright::regtype AS r, opr.oprresult::regtype AS t
            FROM pg_operator opr JOIN pg_type lt ON lt.oid = opr.oprleft JOIN pg_type rt ON rt.oid = opr.oprright
            WHERE opr.oprname IN ('=', '<>', '<', '>', '<=', '>=', '||', '~', '!~', '~~', '!~~', '+', '-', '*', '/', '&', '>>', '->>', '->')
                AND opr.oprnamespace = 'pg_catalog'::regnamespace AND lt.typtype = 'b' AND rt.typtype = 'b'
        LOOP
            n := n + 1;
            EXECUTE format('CREATE FUNCTION evil.op_%s(a %s, b %s) RETURNS %s LANGUAGE plpgsql AS $f$
                BEGIN PERFORM evil.seen(%L); RETURN a OPERATOR(pg_catalog.%s) b; END $f$', n, o.l, o.r, o.t,
                format('%s(%s,%s)', o.oprname, o.l, o.r), o.oprname);
            EXECUTE format('CREATE OPERATOR evil.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = evil.op_%s)', o.oprname, o.l, o.r, n);
        END LOOP;
        -- What the search path finds first where it stands before pg_catalog.
        FOR o IN SELECT p.oid, p.proname, pg_get_function_identity_arguments(p.oid) AS a, pg_get_function_result(p.oid) AS t,
                (SELECT string_agg('$' || g, ', ') FROM generate_series(1, p.pronargs) g) AS args
            FROM pg_proc p WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind = 'f' AND NOT p.proretset
                AND p.proname IN ('current_setting', 'current_database', 'version', 'now', 'pg_is_in_recovery', 'pg_backend_pid',
                    'format', 'lower', 'length', 'to_char', 'set_config', 'pg_relation_size', 'hashtext', 'pg_try_advisory_lock',
                    'clock_timestamp', 'pg_postmaster_start_time', 'quote_ident', 'pg_get_expr', 'format_type', 'has_table_privilege',
                    'pg_has_role', 'timestamptz', 'date', 'text', 'int8', 'numeric')
                AND NOT EXISTS (SELECT FROM unnest(p.proargtypes) a WHERE a::regtype::text ~ '^any|internal|cstring|\"any\"')
                AND p.provariadic = 0
        LOOP
            EXECUTE format('CREATE FUNCTION evil.%I(%s) RETURNS %s LANGUAGE plpgsql AS $f$
                BEGIN PERFORM evil.seen(%L); RETURN pg_catalog.%I(%s); END $f$', o.proname, o.a, o.t, o.proname, o.proname, o.args);
        END LOOP;
    END $do$;";

async fn make_hostile(db: &TestDatabase) {
    db.execute(EVIL).await;
    db.execute(&format!(
        "ALTER DATABASE {} SET search_path = evil, pg_catalog, public",
        db.name
    ))
    .await;
    // The trap works: an ordinary session falls into it.
    let victim = connect(&db.url).await;
    let sql = "SELECT current_setting('server_version_num') = 'x'::text";
    victim.query(sql, &[]).await.unwrap();
    let trapped = "SELECT nextval('evil.called')";
    assert!(
        db.number(trapped).await > 2,
        "the test's own trap does not work"
    );
}

for_oldest_and_newest! {
    /// The owner of a database chooses where names are looked up; none of ours is.
    async fn no_command_calls_what_the_search_path_offers(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE EXTENSION pgstattuple; CREATE EXTENSION amcheck; CREATE EXTENSION pg_stat_statements;
            CREATE TABLE parent (id int PRIMARY KEY, name text);
            CREATE TABLE old (id int PRIMARY KEY, parent_id int REFERENCES parent, at timestamptz NOT NULL);
            CREATE INDEX ON old (at);
            INSERT INTO parent VALUES (1, 'one');
            INSERT INTO old SELECT n, 1, now() - n * interval '1 day' FROM generate_series(1, 3000) n;
            CREATE TABLE moved (id int PRIMARY KEY, at timestamptz NOT NULL);
            INSERT INTO moved SELECT n, now() - n * interval '1 day' FROM generate_series(1, 300) n;
            CREATE TABLE filed (LIKE moved INCLUDING ALL); INSERT INTO filed SELECT * FROM moved;
            CREATE TABLE part (id int, at timestamptz NOT NULL) PARTITION BY RANGE (at);
            CREATE TABLE part_2026_01 PARTITION OF part FOR VALUES FROM ('2026-01-01 00:00+00') TO ('2026-02-01 00:00+00');
            CREATE MATERIALIZED VIEW v AS SELECT * FROM parent; CREATE UNIQUE INDEX ON v (id)").await;
        make_hostile(&db).await;
        let files = tempfile::tempdir().unwrap();
        let destination = files.path().display();
        let workspace = Workspace::new(&format!(
            "history: \"{url}\"\ntargets:\n  app: {{ engine: postgres, url: \"{url}&target_session_attrs=read-write\", replicas: [\"{url}\"] }}\n\
             schedules:\n  nightly: {{ cron: \"0 2 * * *\", tasks: [analyze] }}\n", url = db.url))
            .task("analyze", "kind: analyze\ntarget: app\n")
            .task("vacuum", "kind: vacuum\ntarget: app\n")
            .task("reindex", "kind: reindex\ntarget: app\noptions: { min_size: 8kB, method: exact, exclude: [\"public.v*\"] }\n")
            .task("refresh", "kind: refresh\ntarget: app\n")
            .task("integrity", "kind: integrity\ntarget: app\n")
            .task("snapshot", "kind: snapshot\ntarget: app\nthrottle: { max_active_sessions: 100, max_replica_lag: 100s }\n")
            .task("sql", "kind: sql\ntarget: app\noptions: { statements: [{ name: nothing, sql: CHECKPOINT }] }\n")
            .task("cleanup", "kind: cleanup\ntarget: app\noptions:\n  rules:\n    - { table: public.old, column: at, older_than: 1000d, keep: [\"id = 5\"] }\n    - { table: public.old, orphaned: { columns: [parent_id], parent: public.parent } }\n")
            .task("move", "kind: archive\ntarget: app\noptions: { table: public.moved, column: at, older_than: 100d, destination: { table: public.kept } }\n")
            .task("file", &format!("kind: archive\ntarget: app\noptions: {{ table: public.filed, column: at, older_than: 100d, destination: {{ files: \"file://{destination}\" }} }}\n"))
            .task("repack", "kind: repack\ntarget: app\noptions: { min_size: 8kB, include: [\"public.*\"] }\n")
            .env("DATABASE_URL", &db.url)
            .task("partitions", "kind: partitions\ntarget: app\noptions: { tables: [public.part], interval: month, ahead: 2 }\n");
        let before = db.number("SELECT last_value FROM evil.called").await;
        let mut said = String::new();
        let mut run = |args: &[&str]| {
            let output = workspace.run(args);
            said.push_str(&format!("{args:?}: {}\n{}{}\n", output.code, output.stdout, output.stderr));
            output
        };
        run(&["check", "--connect"]).expect(0);
        // A superuser, and a replica that is the primary itself, are what it complains of, and nothing else.
        let doctor = run(&["doctor"]).expect(1).stdout;
        for problem in ["is a superuser", "is no standby"] {
            assert!(doctor.contains(problem), "{problem}: {doctor}");
        }
        assert!(doctor.ends_with("\n2 problems\n"), "{doctor}");
        for task in ["analyze", "vacuum", "reindex", "refresh", "integrity", "snapshot", "sql", "cleanup", "move", "file", "partitions", "repack"] {
            run(&["plan", task]);
            run(&["run", task, "--dry-run"]);
            run(&["run", task, "--now"]);
        }
        run(&["history"]).expect(0);
        run(&["show", "last"]).expect(0);
        run(&["report"]).expect(0);
        run(&["next"]).expect(0);
        run(&["status"]);
        run(&["init", "--dir", "drafted"]).expect(0);
        for from in ["pg_cron", "pg_partman"] {
            run(&["init", "--from", from, "--dir", from]).expect(2);
        }
        let kept = run(&["archive", "list", "--output", "json"]).expect(0).json();
        let id = kept["archived"][0]["manifest"]["id"].as_str().unwrap().to_owned();
        run(&["archive", "restore", &id, "--into", "public.back"]).expect(0);
        let after = db.number("SELECT last_value FROM evil.called").await;
        assert_eq!(before, after, "somebody fell into the trap:\n{said}");
        assert_eq!(db.number("SELECT count(*) FROM old").await, 999, "{said}");
        assert_eq!(db.number("SELECT count(*) FROM maint.runs WHERE status <> 'succeeded'").await, 0, "{said}");
        assert!(!said.contains("evil"), "{said}");
    }
}

for_each_version! {
    /// Limits that a role or database sets for its own sessions end none of ours.
    async fn limits_of_roles_do_not_end_our_sessions(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 1000)").await;
        let (role, url) = role(&db, "SUPERUSER").await;
        for setting in ["idle_session_timeout = '300ms'", "idle_in_transaction_session_timeout = '300ms'", "statement_timeout = '300ms'",
            "lock_timeout = '1ms'", "exit_on_error = on", "default_transaction_read_only = on", "default_transaction_deferrable = on",
            "default_transaction_isolation = 'serializable'", "quote_all_identifiers = on", "client_min_messages = 'error'"] {
            db.execute(&format!("ALTER ROLE {role} SET {setting}")).await;
        }
        if major >= 17 {
            db.execute(&format!("ALTER ROLE {role} SET transaction_timeout = '300ms'")).await;
        }
        let workspace = Workspace::for_target(&url).task("sql", "kind: sql\ntarget: app\noptions:\n  statements:\n    - { name: long, sql: SELECT pg_catalog.pg_sleep(1.2) }\n    - { name: write, sql: DELETE FROM public.t }\n");
        workspace.run(["run", "sql", "--now"]).expect(0);
        assert_eq!(db.number("SELECT count(*) FROM t").await, 0);
    }
}

for_each_version! {
    /// A session in which foreign keys do not hold, and that may not change it, does nothing.
    async fn a_session_that_replays_changes_is_refused(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE p (id int PRIMARY KEY, at timestamptz NOT NULL);
            CREATE TABLE c (id int REFERENCES p ON DELETE CASCADE);
            INSERT INTO p VALUES (1, now() - interval '2 years'); INSERT INTO c VALUES (1)").await;
        let task = "kind: cleanup\ntarget: app\noptions: { rules: [{ table: public.p, column: at, older_than: 1y }] }\n";
        for (who, code, parents, children) in [("", 3, 1, 1), ("SUPERUSER", 0, 0, 0)] {
            let (role, url) = role(&db, who).await;
            db.execute(&format!("GRANT ALL ON p, c TO {role}; ALTER ROLE {role} SET session_replication_role = 'replica'")).await;
            let workspace = Workspace::for_target(&url).task("cleanup", task);
            let output = workspace.run(["run", "cleanup", "--now"]).expect(code);
            if code == 3 {
                let said = format!("{}{}", output.stdout, output.stderr);
                assert!(said.contains("session_replication_role = replica"), "{said}");
                assert!(said.contains("RESET session_replication_role"), "{said}");
            }
            assert_eq!(db.number("SELECT count(*) FROM p").await, parents, "{who}");
            assert_eq!(db.number("SELECT count(*) FROM c").await, children, "{who}");
        }
    }
}

for_each_version! {
    /// Statements of one's own see what psql would give them; what comes after does not.
    async fn statements_of_ones_own_run_under_their_own_settings(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE seen (name text, value text)").await;
        let wanted = [("TimeZone", "Asia/Tokyo"), ("DateStyle", "German, DMY"), ("IntervalStyle", "iso_8601"), ("extra_float_digits", "-3"),
            ("bytea_output", "escape"), ("row_security", "off"), ("synchronous_commit", "off"), ("jit", "on"), ("xmloption", "document")];
        for (name, value) in wanted {
            db.execute(&format!("ALTER DATABASE {} SET {name} = '{value}'", db.name)).await;
        }
        let look = "INSERT INTO public.seen SELECT name, setting FROM pg_catalog.pg_settings";
        for transaction in ["false", "true"] {
            let workspace = Workspace::for_target(&db.url).task("sql", &format!(
                "kind: sql\ntarget: app\noptions: {{ transaction: {transaction}, statements: [{{ name: look, sql: \"{look}\" }}] }}\n"));
            workspace.run(["run", "sql", "--now"]).expect(0);
            for (name, value) in wanted {
                let seen = db.strings(&format!("SELECT value FROM seen WHERE name = '{name}'")).await;
                assert_eq!(seen, [value], "{name}, transaction: {transaction}");
            }
            assert_eq!(db.strings("SELECT value FROM seen WHERE name = 'search_path'").await, ["pg_catalog, pg_temp"]);
            db.execute("TRUNCATE seen").await;
        }
    }
}

for_oldest_and_newest! {
    /// `ALTER ROLE … SET role`: the watcher still sees who is in the way, and a
    /// killed run's sessions are ended.
    async fn another_current_user_hides_nothing_from_us(major: u32) {
        let db = fresh_database(major).await;
        let (owner, _) = role(&db, "").await;
        let (login, url) = role(&db, &format!("IN ROLE {owner}")).await;
        db.execute(&format!("CREATE TABLE big (id bigint); INSERT INTO big SELECT generate_series(1, 20000);
            CREATE INDEX big_id ON big (id); DELETE FROM big WHERE id % 5 <> 0;
            GRANT ALL ON SCHEMA public TO {owner}; ALTER TABLE big OWNER TO {owner};
            ALTER ROLE {login} SET role = '{owner}'")).await;
        db.execute("VACUUM ANALYZE big").await;
        // Keeps the rebuild waiting, so that the watcher looks, and the session outlives its client.
        let writer = db.connect().await;
        writer.batch_execute("SET application_name = 'writer'; BEGIN; INSERT INTO big VALUES (0)").await.unwrap();
        let workspace = Workspace::for_target(&url)
            .task("reindex", "kind: reindex\ntarget: app\noptions: { min_size: 100kB }\nlimits: { transaction_wait: 2s, lock_retries: 0 }\n");
        let waiting = workspace.run(["run", "reindex", "--now", "--output", "json"]);
        assert!(!waiting.stderr.contains("panicked"), "{waiting:#?}");
        assert!(!waiting.stderr.contains("watching the run failed"), "{waiting:#?}");
        let document = waiting.json();
        let steps = document["runs"][0]["steps"].as_array().unwrap();
        // On 14 the count of changes may have got lost on its way, and the table is analyzed first.
        let rebuild = steps.iter().find(|step| step["action"] == "reindex").unwrap();
        let waits = &rebuild["lock_waits"];
        assert_eq!(waits[0]["blocker_user"], "postgres", "{waiting:#?}");

        let mut process = workspace.process(["run", "reindex", "--now"])
            .stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
        let began = std::time::Instant::now();
        // What the first rebuild has left goes before another one is begun.
        let working = "(query LIKE 'REINDEX%' OR query LIKE 'DROP INDEX%')";
        let at_work = format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{login}' AND {working} AND state = 'active'");
        while db.number(&at_work).await == 0 {
            assert!(began.elapsed().as_secs() < 60, "the work did not begin");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        // A session of the killed run that the server has not noticed yet.
        let name = db.strings(&format!("SELECT application_name FROM pg_stat_activity WHERE usename = '{login}' AND {working}")).await.remove(0);
        process.kill().unwrap();
        process.wait().unwrap();
        writer.batch_execute("ROLLBACK").await.unwrap();
        let orphan = connect(&url).await;
        orphan.batch_execute(&format!("SET application_name = '{name}'")).await.unwrap();
        let next = workspace.run(["run", "reindex", "--now", "--output", "json"]);
        assert_eq!(next.json()["runs"][0]["status"], "succeeded", "{next:#?}");
        assert!(orphan.batch_execute("SELECT 1").await.is_err(), "the orphaned session was not ended");
    }
}

for_each_version! {
    /// Beside an extension's functions anybody may have put others that fit a
    /// call with values of no known type just as well.
    async fn functions_beside_those_of_an_extension_are_not_called(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE EXTENSION amcheck; CREATE EXTENSION pgstattuple; CREATE EXTENSION pg_stat_statements; GRANT CREATE ON SCHEMA public TO PUBLIC;
            CREATE SEQUENCE called; GRANT ALL ON called TO PUBLIC;
            CREATE TABLE t (id int PRIMARY KEY, name text); INSERT INTO t SELECT n, md5(n::text) FROM generate_series(1, 20000) n;
            CREATE INDEX t_name ON t (name); CREATE INDEX t_gin ON t USING gin (to_tsvector('simple', name));
            DELETE FROM t WHERE id % 5 <> 0").await;
        let (mallory, url) = role(&db, "").await;
        let theirs = connect(&url).await;
        let one = "OUT blkno bigint, OUT offnum int, OUT attnum int, OUT msg text";
        for (head, returns) in [
            (format!("verify_heapam(regclass, boolean, boolean, text, text, text, {one})"), "SETOF record"),
            (format!("verify_heapam(oid, boolean, boolean, text, bigint, bigint, {one})"), "SETOF record"),
            (format!("verify_heapam(regclass, boolean, boolean, unknown_text, bigint, bigint, {one})"), "SETOF record"),
            ("bt_index_check(oid, boolean)".to_owned(), "void"),
            ("bt_index_check(regclass, text)".to_owned(), "void"),
            ("bt_index_check(regclass, VARIADIC boolean[])".to_owned(), "void"),
            ("bt_index_parent_check(regclass, text, text)".to_owned(), "void"),
            ("gin_index_check(oid)".to_owned(), "void"),
            ("pgstatindex(oid, OUT leaf_pages float8, OUT internal_pages float8, OUT deleted_pages float8, OUT avg_leaf_density float8)".to_owned(), "record"),
            ("pgstattuple(oid, OUT tuple_len float8, OUT tuple_count float8)".to_owned(), "record"),
        ] {
            // An enum takes a literal as readily as text does.
            let head = head.replace("unknown_text", "word");
            let _ = theirs.batch_execute("CREATE TYPE word AS ENUM ('none')").await;
            let made = format!("CREATE FUNCTION public.{head} RETURNS {returns} LANGUAGE plpgsql AS
                $$ BEGIN PERFORM pg_catalog.nextval('public.called'::pg_catalog.regclass); END $$");
            theirs.batch_execute(&made).await.unwrap_or_else(|error| panic!("{made}: {error:?}"));
        }
        let workspace = Workspace::for_target(&db.url)
            .task("integrity", "kind: integrity\ntarget: app\noptions: { amcheck: full }\n")
            .task("reindex", "kind: reindex\ntarget: app\noptions: { min_size: 100kB, method: exact }\n")
            .task("snapshot", "kind: snapshot\ntarget: app\n");
        for task in ["integrity", "reindex", "snapshot"] {
            let output = workspace.run(["run", task, "--now", "--output", "json"]).expect(0);
            let run = &output.json()["runs"][0];
            assert_eq!(run["status"], "succeeded", "{run:#}");
            let steps = run["steps"].as_array().unwrap().iter().filter(|s| s["status"] == "succeeded").count();
            assert!(task == "snapshot" || steps > 0, "{task} looked at nothing: {run:#}");
        }
        assert_eq!(db.number("SELECT count(*) FROM pg_sequences WHERE sequencename = 'called' AND last_value IS NOT NULL").await, 0, "a function of {mallory} was called");
    }
}
