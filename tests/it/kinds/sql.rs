//! Statements of one's own: order, transactions, values, and what is refused.

use std::process::Stdio;

use serde_json::Value;

use crate::settings::role;
use crate::support::patience::Patience;
use crate::support::servers::{TestDatabase, fresh_database};
use crate::support::workspace::Workspace;

const TABLES: &str = "CREATE SCHEMA \"select\";
    CREATE TABLE \"select\".\"weird \"\"name; DROP TABLE x\" (id int, day date, note text);
    CREATE TABLE x (id int);
    INSERT INTO \"select\".\"weird \"\"name; DROP TABLE x\"
        SELECT n, DATE '2026-01-01' + n, 'note ' || n FROM generate_series(0, 9) n";

fn steps(document: &Value) -> Vec<(String, String, Option<i64>)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let steps = document["runs"][0]["steps"].as_array().unwrap();
    steps
        .iter()
        .map(|s| (text(&s["object"]), text(&s["status"]), s["rows"].as_i64()))
        .collect()
}

fn step(object: &str, status: &str, rows: Option<i64>) -> (String, String, Option<i64>) {
    (object.to_owned(), status.to_owned(), rows)
}

for_each_version! {
    /// Values are bound as what the statement wants, whatever is in them.
    async fn statements_run_in_order_with_bound_values(major: u32) {
        let db = fresh_database(major).await;
        db.execute(TABLES).await;
        let workspace = Workspace::for_target(&db.url).task("own", r#"
kind: sql
target: app
options:
  parameters: { before: "2026-01-05", note: "it's; DROP TABLE x --", least: 8 }
  statements:
    - name: delete old
      sql: 'DELETE FROM "select"."weird ""name; DROP TABLE x" WHERE day < $1'
      with: [before]
    - name: rename
      sql: 'UPDATE "select"."weird ""name; DROP TABLE x" SET note = $1 WHERE id >= $2'
      with: [note, least]
    - name: only where needed
      sql: "DELETE FROM public.x"
      only_if: "SELECT count(*) > 0 FROM public.x"
    - name: by itself
      sql: 'VACUUM "select"."weird ""name; DROP TABLE x"'
"#);
        let plan = workspace.run(["plan", "own"]).expect(0).stdout;
        assert!(plan.contains("DELETE") || plan.contains("delete old"), "{plan}");
        let document = workspace.run(["run", "own", "--now", "--output", "json"]).expect(0).json();
        assert_eq!(steps(&document), [
            step("delete old", "succeeded", Some(4)), step("rename", "succeeded", Some(2)),
            step("only where needed", "succeeded", None), step("by itself", "succeeded", None),
        ]);
        assert_eq!(db.number("SELECT count(*) FROM \"select\".\"weird \"\"name; DROP TABLE x\" WHERE note = 'it''s; DROP TABLE x --'").await, 2);
        assert_eq!(db.number("SELECT count(*) FROM x").await, 0);
        // What was not run is not told as if it were; what follows it is.
        assert_eq!(document["runs"][0]["steps"][2]["error"], "not run: its `only_if` did not answer `true`");
        db.execute("INSERT INTO x VALUES (1)").await;
        let again = workspace.run(["run", "own", "--now", "--set", "parameters.before=2026-01-07", "--output", "json"]).expect(0).json();
        assert_eq!(steps(&again)[0], step("delete old", "succeeded", Some(2)));
        assert_eq!(steps(&again)[2], step("only where needed", "succeeded", Some(1)));
        assert_eq!(again["runs"][0]["steps"][2]["error"], serde_json::Value::Null);
        let number = Workspace::for_target(&db.url).task("own", "kind: sql\ntarget: app\noptions: { statements: [{ name: a, sql: DELETE FROM public.x, only_if: SELECT 1 }] }\n");
        let number = number.run(["run", "own", "--now", "--output", "json"]).expect(1);
        assert!(number.stdout.contains("its `only_if` has to answer `true` or `false`"), "{number:?}");
        // A question changes nothing.
        db.execute("CREATE TABLE asked (id int); INSERT INTO asked VALUES (1); CREATE TABLE done (id int);
            CREATE FUNCTION take() RETURNS boolean LANGUAGE sql AS 'DELETE FROM public.asked RETURNING true'").await;
        let changing = Workspace::for_target(&db.url).task("own", "kind: sql\ntarget: app\noptions: { statements: [{ name: a, sql: INSERT INTO public.done VALUES (1), only_if: SELECT public.take() }] }\n");
        let changing = changing.run(["run", "own", "--now", "--output", "json"]).expect(1);
        assert!(changing.stdout.contains("25006"), "{changing:?}");
        assert_eq!(db.number("SELECT (SELECT count(*) FROM asked) * 10 + (SELECT count(*) FROM done)").await, 10);
        assert_eq!(db.number("SELECT count(*) FROM \"select\".\"weird \"\"name; DROP TABLE x\"").await, 4);
    }
}

for_oldest_and_newest! {
    async fn a_failure_ends_it_and_a_transaction_is_all_or_nothing(major: u32) {
        let db = fresh_database(major).await;
        db.execute(TABLES).await;
        let task = |transaction: bool| format!("
kind: sql
target: app
options:
  transaction: {transaction}
  statements:
    - {{ name: one, sql: INSERT INTO public.x VALUES (1) }}
    - {{ name: two, sql: INSERT INTO public.misspelt VALUES (2) }}
    - {{ name: three, sql: INSERT INTO public.x VALUES (3) }}
");
        let workspace = Workspace::for_target(&db.url).task("each", &task(false)).task("whole", &task(true));
        let document = workspace.run(["run", "whole", "--now", "--output", "json"]).expect(1).json();
        assert_eq!(steps(&document), [step("all statements", "failed", None)]);
        assert!(document["runs"][0]["steps"][0]["error"].as_str().unwrap().contains("relation \"public.misspelt\" does not exist"));
        assert_eq!(db.number("SELECT count(*) FROM x").await, 0);
        let document = workspace.run(["run", "each", "--now", "--output", "json"]).expect(1).json();
        assert_eq!(steps(&document), [step("one", "succeeded", Some(1)), step("two", "failed", None), step("three", "skipped", None)]);
        assert_eq!(db.number("SELECT count(*) FROM x").await, 1);
    }
}

for_oldest_and_newest! {
    /// Nothing is touched where a statement cannot be read.
    async fn sql_that_cannot_be_read_ends_the_run_before_anything_happens(major: u32) {
        let db = fresh_database(major).await;
        db.execute(TABLES).await;
        let last = |sql: &str| format!("
kind: sql
target: app
options:
  parameters: {{ one: 1 }}
  statements:
    - {{ name: good, sql: INSERT INTO public.x VALUES (1) }}
    - {{ name: bad, sql: \"{sql}\", with: [one] }}
");
        for (sql, said) in [
            ("DELET FROM public.x WHERE id = $1", "syntax error at or near \"DELET\""),
            ("DELETE FROM public.x", "0 placeholders ($1, …), but 1 values, while reading the SQL of `bad`"),
        ] {
            let workspace = Workspace::for_target(&db.url).task("own", &last(sql));
            let document = workspace.run(["run", "own", "--now", "--output", "json"]).expect(1).json();
            let error = document["runs"][0]["error"].as_str().unwrap();
            assert!(error.contains(said), "{error}");
        }
        assert_eq!(db.number("SELECT count(*) FROM x").await, 0);
    }
}

#[test]
fn options_that_make_no_sense_are_refused() {
    for (options, said) in [
        ("statements: []", "`statements` is empty: name at least one"),
        (
            "statements: [{ name: a, sql: SELECT 1 }, { name: a, sql: SELECT 2 }]",
            "two statements are called `a`",
        ),
        (
            "statements: [{ name: a, sql: begin }]",
            "`a` begins with BEGIN, but transactions are maint's business: use `transaction: true`",
        ),
        (
            "statements: [{ name: a, sql: 'SELECT $1', with: [days] }]",
            "`a` names the parameter `days`, which `parameters` does not have",
        ),
        (
            "parameters: { days: 1 }, statements: [{ name: a, sql: SELECT 1 }]",
            "parameter `days` is used by no statement",
        ),
        (
            "statements: [{ name: a, sql: \"UPDATE x SET y = 1; UPDATE x SET y = 2\" }]",
            "`a` has several statements in its `sql`: give each an entry of its own",
        ),
        (
            "transaction: true, statements: [{ name: a, sql: SELECT 1, only_if: SELECT true }]",
            "`a` has an `only_if`, but with `transaction: true` it is all or nothing",
        ),
        (
            "statements: [{ name: a, sql: '-- CALL s.p()' }]",
            "the `sql` of `a` has no statement, only a comment",
        ),
        (
            "statements: [{ name: a, sql: '/* x */ commit' }]",
            "`a` begins with COMMIT",
        ),
        (
            "statements: [{ name: a, sql: COPY s.t TO STDOUT }]",
            "`a` copies through its client",
        ),
        (
            "statements: [{ name: a, sql: \"EXPLAIN (ANALYZE, BUFFERS) DELETE FROM s.t\" }]",
            "`a` explains with ANALYZE what changes rows",
        ),
        (
            "transaction: true, statements: [{ name: a, sql: REINDEX TABLE CONCURRENTLY s.t }]",
            "`a` works CONCURRENTLY, which the server refuses in a transaction",
        ),
    ] {
        let workspace = Workspace::for_target("postgres://localhost/x").task(
            "own",
            &format!("kind: sql\ntarget: app\noptions: {{ {options} }}\n"),
        );
        let output = workspace.run(["check"]).expect(2);
        assert!(output.stderr.contains(said), "{output:#?}");
    }
}

/// Procedures and blocks that commit what they did before they meet a lock, or work for long.
const PROCEDURES: &str = "CREATE TABLE done (how text);
    CREATE TABLE held (id int);
    CREATE PROCEDURE locks() LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO public.done VALUES ('locks'); COMMIT; LOCK TABLE public.held; END $$;
    CREATE PROCEDURE works() LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO public.done VALUES ('works'); COMMIT;
        UPDATE public.held SET id = 1; PERFORM pg_catalog.pg_sleep(300); END $$;
    CREATE PROCEDURE breaks() LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO public.done VALUES ('breaks'); COMMIT; PERFORM 1 / 0; END $$;
    CREATE TABLE parents (id int PRIMARY KEY);
    CREATE TABLE children (id int REFERENCES parents DEFERRABLE INITIALLY DEFERRED);
    CREATE PROCEDURE ends() LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO public.done VALUES ('ends'); COMMIT; INSERT INTO public.children VALUES (-5); END $$;
    CREATE PROCEDURE dies() LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO public.done VALUES ('dies'); COMMIT; PERFORM pg_catalog.pg_terminate_backend(pg_catalog.pg_backend_pid()); PERFORM pg_catalog.pg_sleep(60); END $$;
    CREATE PROCEDURE takes(int) LANGUAGE plpgsql AS $$ BEGIN NULL; END $$;
    INSERT INTO held VALUES (0)";

fn own(statement: &str, more: &str) -> String {
    format!(
        "kind: sql\ntarget: app\nlimits: {{ lock_timeout: 200ms, lock_retries: 2, max_block: 500ms }}\n\
         options:\n{more}  statements:\n    - name: own\n      sql: |\n        {statement}\n"
    )
}

/// The only step of the run, its status, and its error.
fn only_step(document: &Value) -> (String, String) {
    let step = &document["runs"][0]["steps"][0];
    let text = |key: &str| step[key].as_str().unwrap_or_default().to_owned();
    (text("status"), text("error"))
}

fn codes(document: &Value) -> Vec<String> {
    let findings = document["runs"][0]["findings"].as_array().unwrap();
    let code = |finding: &Value| finding["code"].as_str().unwrap().to_owned();
    findings.iter().map(code).collect()
}

for_oldest_and_newest! {
    /// What a procedure has committed is not done a second time, whatever ends the first.
    async fn what_may_be_done_in_part_is_begun_once(major: u32) {
        let db = fresh_database(major).await;
        db.execute(PROCEDURES).await;
        let workspace = Workspace::for_target(&db.url)
            .task("locks", &own("CALL public.locks()", ""))
            .task("block", &own("DO $$ BEGIN INSERT INTO public.done VALUES ('block'); COMMIT; LOCK TABLE public.held; END $$", ""))
            .task("breaks", &own("CALL public.breaks()", ""))
            .task("ends", &own("CALL public.ends()", ""))
            .task("dies", &own("CALL public.dies()", ""))
            .task("missing", &own("CALL public.nowhere()", ""))
            .task("misfit", &own("CALL public.takes('x')", ""))
            .task("whole", &own("DO $$ BEGIN INSERT INTO public.done VALUES ('whole'); LOCK TABLE public.held; END $$", "  transaction: true\n"));
        let holder = db.connect().await;
        holder.batch_execute("BEGIN; LOCK TABLE public.held IN ACCESS SHARE MODE").await.unwrap();
        for task in ["locks", "block", "breaks", "ends", "dies"] {
            let document = workspace.run(["run", task, "--now", "--output", "json"]).expect(1).json();
            let (status, error) = only_step(&document);
            assert_eq!(status, "failed", "{task}: {error}");
            assert!(error.contains("may have done part of its work"), "{task}: {error}");
            assert_eq!(codes(&document), ["statement.in_part"], "{task}");
            assert_eq!(document["runs"][0]["steps"][0]["attempts"], 1, "{task}");
            let done = format!("SELECT count(*) FROM public.done WHERE how = '{task}'");
            assert_eq!(db.number(&done).await, 1, "{task} was begun again");
        }
        // What never began, or is one transaction, is told and tried as ever.
        let document = workspace.run(["run", "missing", "--now", "--output", "json"]).expect(1).json();
        assert!(!only_step(&document).1.contains("part of its work") && codes(&document).is_empty(), "{document:#}");
        let document = workspace.run(["run", "misfit", "--now", "--output", "json"]).expect(1).json();
        assert!(!only_step(&document).1.contains("part of its work") && codes(&document).is_empty(), "{document:#}");
        let document = workspace.run(["run", "whole", "--now", "--output", "json"]).expect(1).json();
        assert_eq!(document["runs"][0]["steps"][0]["attempts"], 3, "{document:#}");
        assert!(codes(&document).is_empty(), "{document:#}");
        holder.batch_execute("COMMIT").await.unwrap();
        workspace.run(["run", "whole", "--now"]).expect(0);
        workspace.run(["run", "locks", "--now"]).expect(0);
        assert_eq!(db.number("SELECT count(*) FROM public.done WHERE how = 'whole'").await, 1);
    }
}

/// Who steps back for others does not begin again what may be done in part.
#[tokio::test]
async fn what_stepped_back_in_the_middle_is_begun_once() {
    let db = fresh_database(17).await;
    db.execute(PROCEDURES).await;
    let workspace = Workspace::for_target(&db.url).task("works", &own("CALL public.works()", ""));
    let running = workspace
        .process(["run", "works", "--now", "--output", "json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let patience = Patience::until("the procedure to be at work");
    while db
        .number(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                AND application_name LIKE 'maint %' AND wait_event = 'PgSleep'",
        )
        .await
        == 0
    {
        patience.pause().await;
    }
    db.execute("SET lock_timeout = '60s'; UPDATE public.held SET id = 2")
        .await;
    let ended = running.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    let document: Value = serde_json::from_slice(&ended.stdout).unwrap();
    let (status, error) = only_step(&document);
    assert_eq!(status, "failed");
    assert!(
        error.contains("may have done part of its work") && error.contains("limits.max_block"),
        "{error}"
    );
    assert_eq!(codes(&document), ["statement.in_part"]);
    assert_eq!(db.number("SELECT count(*) FROM public.done").await, 1);
}

/// A task with one concurrent change that waits for others for a moment only.
fn impatient(statement: &str) -> String {
    format!(
        "kind: sql\ntarget: app\nlimits: {{ lock_timeout: 200ms, transaction_wait: 500ms, lock_retries: 3 }}\n\
         options:\n  statements:\n    - {{ name: own, sql: \"{statement}\" }}\n"
    )
}

async fn invalid(db: &TestDatabase) -> Vec<String> {
    db.strings("SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid ORDER BY 1")
        .await
}

for_each_version! {
    /// A half-built index is told, however the statement ended, and never counts as done.
    async fn concurrent_builds_are_begun_once_and_looked_at(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE SCHEMA \"S x\"; CREATE TABLE \"S x\".t (a int); CREATE TABLE other (a int);
            CREATE INDEX whole ON other (a)").await;
        let workspace = Workspace::for_target(&db.url)
            .task("named", &impatient("CREATE INDEX CONCURRENTLY IF NOT EXISTS t_a ON \\\"S x\\\".t (a)"))
            .task("reindex", &impatient("REINDEX INDEX CONCURRENTLY public.whole"))
            .task("dropped", &impatient("DROP INDEX CONCURRENTLY IF EXISTS \\\"S x\\\".t_a"));
        // Whoever has written to the table is waited for.
        let writer = db.connect().await;
        writer.batch_execute("BEGIN; INSERT INTO \"S x\".t VALUES (1); INSERT INTO public.other VALUES (1)").await.unwrap();
        for (task, left) in [("named", "\"S x\".t_a"), ("reindex", "public.whole_ccnew")] {
            let document = workspace.run(["run", task, "--now", "--output", "json"]).expect(1).json();
            let (status, error) = only_step(&document);
            assert_eq!(status, "failed", "{error}");
            assert!(error.contains(left) && error.contains("may have done part of its work"), "{error}");
            assert_eq!(document["runs"][0]["steps"][0]["attempts"], 1);
            assert_eq!(codes(&document), ["statement.left"]);
            let finding = &document["runs"][0]["findings"][0];
            assert_eq!(finding["object"], left);
            assert_eq!(finding["suggestion"], format!("DROP INDEX CONCURRENTLY {left}"));
        }
        assert_eq!(invalid(&db).await, ["\"S x\".t_a", "whole_ccnew"]);
        writer.batch_execute("COMMIT").await.unwrap();
        // It exists, so the server has nothing to do; that is not what was wanted.
        let document = workspace.run(["run", "named", "--now", "--output", "json"]).expect(1).json();
        assert_eq!(only_step(&document).0, "failed", "{document:#}");
        assert_eq!(codes(&document), ["statement.left"]);
        workspace.run(["run", "dropped", "--now"]).expect(0);
        workspace.run(["run", "named", "--now"]).expect(0);
        workspace.run(["run", "named", "--now"]).expect(0);
        assert_eq!(invalid(&db).await, ["whole_ccnew"]);
    }
}

for_each_version! {
    /// A partition that is half detached is told.
    async fn a_partition_that_is_half_detached_is_told(major: u32) {
        let db = fresh_database(major).await;
        db.execute("CREATE TABLE p (a int) PARTITION BY RANGE (a);
            CREATE TABLE q PARTITION OF p FOR VALUES FROM (0) TO (10);
            CREATE TABLE r PARTITION OF p FOR VALUES FROM (10) TO (20)").await;
        let workspace = Workspace::for_target(&db.url)
            .task("own", &impatient("ALTER TABLE public.p DETACH PARTITION public.q CONCURRENTLY"));
        // Whoever reads the table is waited for.
        let reader = db.connect().await;
        reader.batch_execute("BEGIN; SELECT * FROM public.p").await.unwrap();
        let document = workspace.run(["run", "own", "--now", "--output", "json"]).expect(1).json();
        let finding = &document["runs"][0]["findings"][0];
        assert_eq!(finding["code"], "statement.left", "{document:#}");
        let help = finding["suggestion"].as_str().unwrap();
        assert_eq!(help, "ALTER TABLE public.p DETACH PARTITION public.q FINALIZE");
        reader.batch_execute("COMMIT").await.unwrap();
        db.execute(help).await;
        assert_eq!(db.number("SELECT count(*) FROM pg_inherits").await, 1);
    }
}

for_oldest_and_newest! {
    /// What a statement names and the role may not vacuum or analyze has not been done: the run says so. A
    /// statement that names nothing means what the role may.
    async fn what_the_server_leaves_out_is_no_success(major: u32) {
        let db = fresh_database(major).await;
        let (role, url) = role(&db, "").await;
        db.execute(&format!("CREATE TABLE theirs (id int); CREATE TABLE own (id int); ALTER TABLE own OWNER TO {role}; GRANT SELECT ON theirs TO {role}")).await;
        for (sql, succeeds) in [("ANALYZE public.theirs", false), ("VACUUM public.theirs, public.own", false), ("VACUUM (ANALYZE)", true), ("ANALYZE public.own", true)] {
            let task = format!("kind: sql\ntarget: app\noptions: {{ statements: [{{ name: one, sql: \"{sql}\" }}] }}\n");
            let output = Workspace::for_target(&url).task("own", &task).run(["run", "own", "--now", "--output", "json"]);
            let run = output.json()["runs"][0].clone();
            assert_eq!(run["status"], if succeeds { "succeeded" } else { "failed" }, "{sql}: {run:#}");
            assert_eq!(run["steps"][0]["status"], run["status"], "{run:#}");
            if !succeeds {
                let why = run["steps"][0]["error"].as_str().unwrap();
                assert!(why.contains("left out") && why.contains("GRANT MAINTAIN"), "{why}");
            }
        }
    }
}
