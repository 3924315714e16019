//! The rest of the matrix of `trust`: where rows arrive, where tables are made
//! and rewritten, where commands are given, where a session begins, and what is
//! read on another server. With a hostile owner, and with ordinary people.

use serde_json::{Value, json};

use super::trust::{HOOKS, Scene, as_role, rules, told};
use crate::support::servers::{TestDatabase, fresh_database, has_19};
use crate::support::workspace::Workspace;

/// Ways to hang code where rows arrive.
const ARRIVALS: &[(&str, &str)] = &[
    (
        "before",
        "CREATE TRIGGER x BEFORE INSERT ON {t} FOR EACH ROW EXECUTE FUNCTION app.trg()",
    ),
    (
        "statement",
        "CREATE TRIGGER x AFTER INSERT ON {t} EXECUTE FUNCTION app.trg()",
    ),
    (
        "deferred",
        "CREATE CONSTRAINT TRIGGER x AFTER INSERT ON {t} DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION app.trg()",
    ),
    (
        "again",
        "CREATE TABLE IF NOT EXISTS app.again_too (id int);
        CREATE CONSTRAINT TRIGGER y{n} AFTER INSERT ON app.again_too DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION app.trg();
        CREATE CONSTRAINT TRIGGER x AFTER INSERT ON {t} DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION app.defers()",
    ),
    ("expression", "CREATE INDEX ON {t} ((id + app.q()))"),
    ("predicate", "CREATE INDEX ON {t} (id) WHERE id > app.q()"),
    (
        "stats",
        "CREATE STATISTICS app.{n}_stats ON (id + app.q()), at FROM {t}",
    ),
    (
        "checked",
        "ALTER TABLE {t} ADD CHECK (v + app.q() >= 0) NOT VALID",
    ),
    (
        "ruled",
        "CREATE RULE x AS ON INSERT TO {t} DO ALSO SELECT app.pwn()",
    ),
    (
        "defaulted",
        "ALTER TABLE {t} ALTER v SET DEFAULT app.pwn()",
    ),
    (
        "generated",
        "ALTER TABLE {t} ADD w int GENERATED ALWAYS AS (id + app.q()) STORED",
    ),
    ("domain", "ALTER TABLE {t} ADD w app.hostile"),
    (
        "ranged",
        "CREATE FUNCTION app.{n}_diff(int, int) RETURNS float8 LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN app.pwn(); END';
        CREATE TYPE app.{n}_range AS RANGE (subtype = int, subtype_diff = app.{n}_diff);
        ALTER TABLE {t} ADD w app.{n}_range",
    ),
    (
        "casts",
        "CREATE TYPE app.{n}_row AS (a int);
        CREATE FUNCTION app.{n}_text(app.{n}_row) RETURNS text LANGUAGE plpgsql AS 'BEGIN PERFORM app.pwn(); RETURN 1; END';
        CREATE CAST (app.{n}_row AS text) WITH FUNCTION app.{n}_text(app.{n}_row) AS ASSIGNMENT;
        ALTER TABLE {t} ADD w app.{n}_row",
    ),
];

/// The same for a table of its own, by this name.
async fn hang(scene: &Scene, name: &str, on: &str, sql: &str) {
    let sql = sql.replace("{t}", on).replace("{n}", name);
    scene.by(&scene.mallory, &sql).await;
}

/// Of each command that plans, tries or does it, for all tasks at once: nothing is stolen.
/// The runs of the last.
pub(super) async fn all_ways(
    scene: &Scene,
    workspace: &Workspace,
    tasks: &[String],
    who: &str,
) -> Vec<Value> {
    let mut runs = Vec::new();
    for how in [
        &["plan"][..],
        &["run", "--dry-run"],
        &["run", "--now", "--output", "json"],
    ] {
        let (verb, flags) = how.split_first().unwrap();
        let tasks = tasks.iter().map(String::as_str);
        let args = std::iter::once(*verb)
            .chain(tasks)
            .chain(flags.iter().copied());
        let output = workspace.run(args);
        assert!([0, 1, 3].contains(&output.code), "{output:#?}");
        scene
            .nothing_stolen(&format!("{how:?} as {who}: {}", output.stderr))
            .await;
        if how.contains(&"json") {
            runs = output.json()["runs"].as_array().unwrap().clone();
            assert_eq!(runs.len(), tasks_of(&runs).len());
        }
    }
    runs
}

fn tasks_of(runs: &[Value]) -> std::collections::BTreeSet<&str> {
    runs.iter()
        .map(|run| run["task"].as_str().unwrap())
        .collect()
}

/// Rows that leave for tables of mallory's, come back into them, or move between
/// partitions of hers; what hangs there runs with nobody else's rights.
async fn where_rows_arrive(major: u32) {
    let scene = Scene::set(major).await;
    let keeper = &scene.keeper;
    scene
        .db
        .execute(&format!(
            "CREATE TABLE public.src (id int PRIMARY KEY, at timestamptz NOT NULL, v int);
             CREATE TABLE public.src2 (LIKE public.src INCLUDING ALL);
             INSERT INTO public.src SELECT n, now() - interval '2 years', n FROM generate_series(1, 5) n;
             INSERT INTO public.src2 SELECT * FROM public.src;
             CREATE INDEX ON public.src (at); GRANT ALL ON public.src, public.src2 TO {keeper}"
        ))
        .await;
    for (name, sql) in ARRIVALS {
        let table = format!("app.{name}");
        scene
            .by(
                &scene.mallory,
                &format!(
                    "CREATE TABLE {table} (id int, at timestamptz NOT NULL, v int);
                     CREATE TABLE {table}_parts (id int, at timestamptz NOT NULL, v int) PARTITION BY RANGE (at);
                     CREATE TABLE {table}_rest PARTITION OF {table}_parts DEFAULT;
                     CREATE TABLE {table}_old PARTITION OF {table}_parts FOR VALUES FROM ('2020-01-01 00:00+00') TO ('2020-02-01 00:00+00');
                     INSERT INTO {table}_parts SELECT n, now(), n FROM generate_series(1, 5) n"
                ),
            )
            .await;
        hang(&scene, name, &table, sql).await;
        // A partition has the columns and checks of its table, and its own triggers and indexes.
        let below = if sql.contains("ALTER TABLE {t}") {
            "parts"
        } else {
            "rest"
        };
        hang(
            &scene,
            &format!("{name}2"),
            &format!("{table}_{below}"),
            sql,
        )
        .await;
    }
    scene.by(&scene.mallory, "
        CREATE TABLE app.keyed (id int, at timestamptz NOT NULL, v int) PARTITION BY HASH ((id + app.q()));
        CREATE TABLE app.keyed_0 PARTITION OF app.keyed FOR VALUES WITH (MODULUS 1, REMAINDER 0)").await;
    scene.nothing_stolen("before").await;
    let names: Vec<&str> = ARRIVALS
        .iter()
        .map(|(name, _)| *name)
        .chain(["keyed"])
        .collect();
    let tables: Vec<String> = ARRIVALS
        .iter()
        .map(|(n, _)| format!("app.{n}_parts"))
        .collect();
    let mut wrong = Vec::new();
    for who in ["member", "superuser"] {
        let mut workspace = Workspace::for_target(&scene.url(who)).task("partitions", &format!(
            "kind: partitions\ntarget: app\noptions: {{ tables: [{}], interval: month, keep: 1y, move_default_rows: true }}\n",
            tables.join(", ")
        ));
        let mut tasks = vec!["partitions".to_owned()];
        for name in &names {
            workspace = workspace.task(&format!("into-{name}"), &format!(
                "kind: archive\ntarget: app\noptions: {{ table: public.src, column: at, older_than: 1y, destination: {{ table: app.{name} }} }}\n"
            ));
            tasks.push(format!("into-{name}"));
        }
        for run in all_ways(&scene, &workspace, &tasks, who).await {
            let (task, said) = (run["task"].as_str().unwrap(), run.to_string());
            let expected: Vec<String> = match task.strip_prefix("into-") {
                Some(name) => vec![format!("app.{name} ")],
                None => tables.iter().map(|t| format!("{t} left alone")).collect(),
            };
            for what in &expected {
                if !said.contains(what.as_str()) {
                    wrong.push(format!("{task} as {who} says nothing of {what}: {run:#}"));
                }
            }
            assert_ne!(run["status"], "succeeded", "{run:#}");
        }
        let kept = "SELECT count(*) FROM public.src";
        assert_eq!(scene.db.number(kept).await, 5, "as {who}");
        for name in &names {
            assert_eq!(scene.rows(name).await, 0, "{name} as {who}");
        }
        let made = "SELECT count(*) FROM pg_class WHERE relname ~ '_parts_y?20'";
        assert_eq!(scene.db.number(made).await, 0, "no partition as {who}");
    }
    // Somebody who may do it puts rows away, and whoever is powerful would bring them back.
    let folder = tempfile::tempdir().unwrap();
    let file = format!(
        "kind: archive\ntarget: app\noptions: {{ table: public.src2, column: at, older_than: 1y, destination: {{ files: \"file://{}\" }} }}\n",
        folder.path().display()
    );
    let workspace = Workspace::for_target(&scene.db.url).task("file", &file);
    workspace.run(["run", "file", "--now"]).expect(0);
    let list = workspace
        .run(["archive", "list", "--output", "json"])
        .expect(0)
        .json();
    let id = list["archived"][0]["manifest"]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let files = format!("file://{}", folder.path().display());
    for who in ["member", "superuser"] {
        let workspace = Workspace::for_target(&scene.url(who));
        // For a member as for a superuser, but for what triggers there may be.
        let some = if who == "member" { 4 } else { names.len() };
        for name in names.iter().take(some) {
            let into = format!("app.{name}");
            let mut args = vec![
                "archive", "restore", &id, "--files", &files, "--target", "app", "--into", &into,
            ];
            if who == "superuser" {
                args.push("--disable-triggers");
            }
            let output = workspace.run(&args);
            assert_ne!(output.code, 0, "{args:?}: {output:#?}");
            scene.nothing_stolen(&format!("{args:?} as {who}")).await;
            assert_eq!(scene.rows(name).await, 0, "{args:?} as {who}");
            if !output.stderr.contains("code of mallory") {
                wrong.push(format!("{args:?} as {who}: {}", output.stderr));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // The same rows come back where nothing of the kind hangs.
    let back = ["archive", "restore", &id, "--into", "public.src2"];
    workspace.run(back).expect(0);
    assert_eq!(scene.db.number("SELECT count(*) FROM public.src2").await, 5);
}

#[tokio::test]
async fn nothing_is_lent_where_rows_arrive_14() {
    where_rows_arrive(14).await;
}

#[tokio::test]
async fn nothing_is_lent_where_rows_arrive_18() {
    where_rows_arrive(18).await;
}

#[tokio::test]
async fn nothing_is_lent_where_rows_arrive_19() {
    if has_19() {
        where_rows_arrive(19).await;
    }
}

/// Rows that are written again in the same table.
async fn where_rows_move(major: u32) {
    let scene = Scene::set(major).await;
    scene.hang_all().await;
    for (name, ..) in HOOKS {
        let owner = if *name == "cascade" {
            &scene.bob
        } else {
            &scene.mallory
        };
        scene
            .by(
                owner,
                &format!(
                    "
            INSERT INTO app.{name} (id, at, v) SELECT n, now(), n FROM generate_series(11, 2500) n;
            DELETE FROM app.{name} WHERE id > 10 AND id % 10 > 1"
                ),
            )
            .await;
    }
    scene.db.execute("VACUUM ANALYZE").await;
    scene.nothing_stolen("before").await;
    let size = |name: &str| format!("SELECT pg_relation_size('app.{name}')");
    let mut before = Vec::new();
    for (name, ..) in HOOKS {
        before.push(scene.db.number(&size(name)).await);
    }
    for who in ["member", "superuser"] {
        let workspace = Workspace::for_target(&scene.url(who)).task(
            "repack",
            "kind: repack\ntarget: app\noptions: { min_size: 40kB, include: [\"app.*\"] }\n",
        );
        let runs = all_ways(&scene, &workspace, &["repack".to_owned()], who).await;
        let said = runs[0].to_string();
        for ((name, ..), before) in HOOKS
            .iter()
            .zip(&before)
            // No key changes, so nobody is asked for what hangs on the table that refers to it.
            .filter(|((name, ..), _)| !matches!(*name, "plain" | "cascade"))
        {
            assert_eq!(
                scene.db.number(&size(name)).await,
                *before,
                "{name} as {who}: {said}"
            );
            assert!(
                said.contains(&format!("app.{name}")),
                "{name} as {who}: {:#}",
                runs[0]
            );
        }
    }
    assert!(
        scene.db.number(&size("plain")).await < before[0],
        "what nothing hangs on is repacked"
    );
}

#[tokio::test]
async fn nothing_is_lent_where_rows_move_14() {
    where_rows_move(14).await;
}

#[tokio::test]
async fn nothing_is_lent_where_rows_move_18() {
    where_rows_move(18).await;
}

/// Commands of every kind, where an event trigger calls mallory's function.
async fn where_commands_are_given(major: u32) {
    let scene = Scene::set(major).await;
    scene.by(&scene.mallory, "
        CREATE TABLE app.parts (id int, at timestamptz NOT NULL) PARTITION BY RANGE (at);
        CREATE TABLE app.parts_rest PARTITION OF app.parts DEFAULT;
        CREATE TABLE app.parts_old PARTITION OF app.parts FOR VALUES FROM ('2020-01-01 00:00+00') TO ('2020-02-01 00:00+00');
        INSERT INTO app.parts SELECT n, '2020-01-02' FROM generate_series(1, 5) n;
        CREATE TABLE app.keyed (id int PRIMARY KEY, at timestamptz NOT NULL);
        INSERT INTO app.keyed SELECT n, now() FROM generate_series(1, 20000) n; DELETE FROM app.keyed WHERE id % 20 > 0;
        CREATE TABLE app.referring (id int); ALTER TABLE app.referring ADD FOREIGN KEY (id) REFERENCES app.keyed NOT VALID;
        CREATE MATERIALIZED VIEW app.mv AS SELECT 1 AS id; CREATE UNIQUE INDEX ON app.mv (id);
        CREATE FUNCTION app.evt() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN PERFORM app.pwn(); END'").await;
    scene
        .db
        .execute(
            "CREATE TABLE public.src (id int PRIMARY KEY, at timestamptz NOT NULL);
        INSERT INTO public.src SELECT n, now() - interval '2 years' FROM generate_series(1, 5) n",
        )
        .await;
    scene.db.execute("VACUUM ANALYZE").await;
    let folder = tempfile::tempdir().unwrap();
    let files = format!("file://{}", folder.path().display());
    let away = |table: &str| {
        format!(
            "kind: archive\ntarget: app\noptions: {{ table: {table}, column: at, older_than: 1y, destination: {{ files: \"{files}\" }} }}\n"
        )
    };
    let first = Workspace::for_target(&scene.db.url).task("file", &away("public.src"));
    first.run(["run", "file", "--now"]).expect(0);
    for event in [
        "ddl_command_start",
        "ddl_command_end",
        "sql_drop",
        "table_rewrite",
    ] {
        scene
            .db
            .execute(&format!(
                "CREATE EVENT TRIGGER hook_{event} ON {event} EXECUTE FUNCTION app.evt()"
            ))
            .await;
    }
    let relations = "SELECT relname || coalesce(pg_get_expr(relpartbound, oid), '') FROM pg_class
        WHERE relnamespace = 'app'::regnamespace AND relkind IN ('r', 'p') ORDER BY 1";
    let before = scene.db.strings(relations).await;
    for who in ["member", "superuser"] {
        let workspace = Workspace::for_target(&scene.url(who))
            .task("partitions", "kind: partitions\ntarget: app\noptions: { tables: [app.parts], interval: month, keep: 1y }\n")
            .task("refresh", "kind: refresh\ntarget: app\noptions: { always: true, allow_blocking: true }\n")
            .task("reindex", "kind: reindex\ntarget: app\noptions: { min_size: 8kB, min_bloat: 0% }\n")
            .task("drop", &rules(["parts".to_owned()].into_iter()))
            .task("whole", &away("app.parts"))
            .task("integrity", "kind: integrity\ntarget: app\noptions: { validate: true, amcheck: off }\n")
            .task("repack", "kind: repack\ntarget: app\noptions: { min_size: 40kB, include: [\"app.*\"] }\n")
            .task("analyze", "kind: analyze\ntarget: app\n")
            .task("vacuum", "kind: vacuum\ntarget: app\n")
            .task("snapshot", "kind: snapshot\ntarget: app\n");
        let tasks = [
            "partitions",
            "refresh",
            "reindex",
            "drop",
            "whole",
            "integrity",
            "repack",
            "analyze",
            "vacuum",
            "snapshot",
        ]
        .map(str::to_owned);
        for run in all_ways(&scene, &workspace, &tasks, who).await {
            if [
                "partitions",
                "refresh",
                "reindex",
                "drop",
                "whole",
                "integrity",
            ]
            .contains(&run["task"].as_str().unwrap())
            {
                assert!(
                    told(&run).contains("event trigger hook_ddl_command_end calls app.evt"),
                    "as {who}: {run:#}"
                );
                assert_ne!(run["status"], "succeeded", "as {who}: {run:#}");
            }
        }
        for args in [
            &["check", "--connect"][..],
            &["doctor"],
            &["init", "--dir", "drafted", "--force"],
        ] {
            let output = workspace
                .command(args)
                .env("DATABASE_URL", scene.url(who))
                .output()
                .unwrap();
            scene
                .nothing_stolen(&format!("{args:?} as {who}: {output:#?}"))
                .await;
        }
        let args = [
            "archive", "restore", "--files", &files, "--target", "app", "--into", "app.made",
        ];
        let output = workspace.run(args);
        assert_ne!(output.code, 0, "{output:#?}");
        scene
            .nothing_stolen(&format!("{args:?} as {who}: {}", output.stderr))
            .await;
    }
    let after = scene.db.strings(relations).await;
    assert_eq!(before, after);
}

#[tokio::test]
async fn nothing_is_lent_where_commands_are_given_14() {
    where_commands_are_given(14).await;
}

#[tokio::test]
async fn nothing_is_lent_where_commands_are_given_18() {
    where_commands_are_given(18).await;
}

#[tokio::test]
async fn nothing_is_lent_where_commands_are_given_19() {
    if has_19() {
        where_commands_are_given(19).await;
    }
}

/// Policies are code for whom they are in force; the rest bypasses them.
async fn policies(major: u32) {
    let scene = Scene::set(major).await;
    scene.by(&scene.mallory, "
        CREATE TABLE app.policed (id int PRIMARY KEY, at timestamptz NOT NULL, v int CHECK (v > 0));
        INSERT INTO app.policed SELECT n, now() - interval '2 years', n FROM generate_series(1, 5) n;
        CREATE TABLE app.held (LIKE app.policed);
        CREATE TABLE app.parts (id int, at timestamptz NOT NULL) PARTITION BY RANGE (at);
        CREATE TABLE app.parts_rest PARTITION OF app.parts DEFAULT;
        INSERT INTO app.parts SELECT n, now() FROM generate_series(1, 5) n;
        CREATE TABLE app.leaving (LIKE app.policed INCLUDING ALL); INSERT INTO app.leaving SELECT * FROM app.policed").await;
    for table in ["policed", "held", "parts", "parts_rest"] {
        scene.by(&scene.mallory, &format!("
            ALTER TABLE app.{table} ENABLE ROW LEVEL SECURITY; ALTER TABLE app.{table} FORCE ROW LEVEL SECURITY;
            CREATE POLICY x ON app.{table} USING (app.q() = 0) WITH CHECK (app.q() = 0)")).await;
    }
    let folder = tempfile::tempdir().unwrap();
    let workspace = Workspace::for_target(&scene.url("member"))
        .task("cleanup", &rules(["policed".to_owned()].into_iter()))
        .task("file", &format!("kind: archive\ntarget: app\noptions: {{ table: app.policed, column: at, older_than: 1y, destination: {{ files: \"file://{}\" }} }}\n", folder.path().display()))
        .task("into", "kind: archive\ntarget: app\noptions: { table: app.leaving, column: at, older_than: 1y, destination: { table: app.held } }\n")
        .task("integrity", "kind: integrity\ntarget: app\noptions: { validate: true }\n")
        .task("partitions", "kind: partitions\ntarget: app\noptions: { tables: [app.parts], interval: month, move_default_rows: true }\n")
        .task("orphans", "kind: cleanup\ntarget: app\noptions: { rules: [{ table: app.leaving, orphaned: { columns: [id], parent: app.policed } }] }\n");
    let tasks = [
        "cleanup",
        "file",
        "into",
        "integrity",
        "partitions",
        "orphans",
    ]
    .map(str::to_owned);
    for run in all_ways(&scene, &workspace, &tasks, "member").await {
        let task = run["task"].as_str().unwrap();
        assert_ne!(run["status"], "succeeded", "{task}: {run:#}");
        let findings = run["findings"].to_string() + run["error"].as_str().unwrap_or_default();
        assert!(
            findings.contains("polic")
                || findings.contains("row security")
                || findings.contains("row-level security"),
            "{task}: {run:#}"
        );
    }
    assert_eq!(scene.rows("policed").await, 5);
    assert_eq!(scene.rows("leaving").await, 5);
    assert_eq!(scene.rows("held").await, 0);
    // A superuser bypasses all of them, and the rows go.
    let workspace = Workspace::for_target(&scene.db.url)
        .task("cleanup", &rules(["policed".to_owned()].into_iter()));
    let run = workspace
        .run(["run", "cleanup", "--now", "--output", "json"])
        .expect(0)
        .json();
    assert_eq!(run["runs"][0]["rows"], 5);
    scene.nothing_stolen("a superuser").await;
}

for_oldest_and_newest! {
    /// What is in force for whom.
    async fn policies_are_code_where_they_are_in_force(major: u32) {
        policies(major).await;
    }
}

/// What runs when a session begins has run before anybody could ask: it is told, whatever the task.
async fn at_login(major: u32) {
    let db = fresh_database(major).await;
    let mallory = format!("mallory_{}", &db.name[20..]);
    db.execute(&format!("CREATE ROLE {mallory}; CREATE SCHEMA app; GRANT ALL ON SCHEMA app TO {mallory};
        CREATE TABLE public.t (id int PRIMARY KEY, at timestamptz NOT NULL); CREATE TABLE public.seen (who text); GRANT INSERT ON public.seen TO PUBLIC;
        SET SESSION AUTHORIZATION {mallory};
        CREATE FUNCTION app.begun() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.seen VALUES (current_user); END';
        RESET SESSION AUTHORIZATION; CREATE EVENT TRIGGER begins ON login EXECUTE FUNCTION app.begun()")).await;
    let tasks = [
        "analyze",
        "vacuum",
        "snapshot",
        "reindex",
        "refresh",
        "repack",
        "integrity",
        "sql",
        "cleanup",
        "partitions",
    ];
    let setting = |trusted: &str| {
        let mut workspace = Workspace::new(&format!(
            "history: sqlite:maint.db\ntargets:\n  app: {{ engine: postgres, url: \"{}\", trust_owners: [{trusted}] }}\n",
            db.url
        ));
        for kind in tasks {
            let options = match kind {
                "sql" => "options: { statements: [{ name: one, sql: SELECT 1 }] }\n",
                "cleanup" => {
                    "options: { rules: [{ table: public.t, column: at, older_than: 1y }] }\n"
                }
                "partitions" => "options: { tables: [public.t], interval: month }\n",
                _ => "",
            };
            workspace = workspace.task(kind, &format!("kind: {kind}\ntarget: app\n{options}"));
        }
        workspace
    };
    let workspace = setting("");
    let args = ["run"]
        .into_iter()
        .chain(tasks)
        .chain(["--now", "--output", "json"]);
    let ran = workspace.run(args).json();
    let runs = ran["runs"].as_array().unwrap();
    assert_eq!(runs.len(), tasks.len());
    for run in runs {
        let told: Vec<&Value> = run["findings"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|f| f["code"] == "role.login_trigger")
            .collect();
        assert_eq!(told.len(), 1, "once: {run:#}");
        let message = told[0]["message"].as_str().unwrap();
        assert!(message.starts_with(&format!("login trigger begins calls app.begun (code of {mallory}) has run with the rights of postgres")), "{message}");
        assert_eq!(told[0]["suggestion"], "ALTER EVENT TRIGGER begins DISABLE");
        assert!(
            !run["findings"].to_string().contains("role.untrusted_code"),
            "no command of ours runs it: {run:#}"
        );
    }
    assert!(
        db.number("SELECT count(*) FROM seen WHERE who = 'postgres'")
            .await
            > 0,
        "the trap works"
    );
    let doctor = workspace.run(["doctor"]).expect(1).stdout;
    assert!(
        doctor.contains("login trigger begins calls app.begun"),
        "{doctor}"
    );
    // Whoever trusts her has nothing to be told, and neither has who follows the suggestion.
    let trusting = setting(&mallory)
        .run(["run", "analyze", "--now", "--output", "json"])
        .expect(0)
        .json();
    assert!(
        !trusting.to_string().contains("role.login_trigger"),
        "{trusting:#}"
    );
    db.execute("ALTER EVENT TRIGGER begins DISABLE").await;
    let disabled = workspace
        .run(["run", "analyze", "--now", "--output", "json"])
        .expect(0)
        .json();
    assert!(
        !disabled.to_string().contains("role.login_trigger"),
        "{disabled:#}"
    );
    // A history there is not ours while one of these runs whenever we connect.
    db.execute("ALTER EVENT TRIGGER begins ENABLE").await;
    let history = Workspace::new(&format!(
        "history: \"{0}\"\ntargets:\n  app: {{ engine: postgres, url: \"{0}\" }}\n",
        db.url
    ))
    .task("analyze", "kind: analyze\ntarget: app\n");
    let refused = history.run(["run", "analyze", "--now"]).expect(3);
    assert!(
        refused
            .stderr
            .contains(&format!("the login trigger begins belongs to {mallory}")),
        "{}",
        refused.stderr
    );
}

#[tokio::test]
async fn what_runs_at_login_is_told_17() {
    at_login(17).await;
}

#[tokio::test]
async fn what_runs_at_login_is_told_18() {
    at_login(18).await;
}

#[tokio::test]
async fn what_runs_at_login_is_told_19() {
    if has_19() {
        at_login(19).await;
    }
}

/// A foreign table may lead back to this server: what it names there is read by a session of
/// ours, as powerful as we are. Without a password, that is what a superuser gets.
async fn foreign_tables(major: u32) {
    let scene = Scene::set(major).await;
    let url = url::Url::parse(&scene.db.url).unwrap();
    scene
        .db
        .execute(&format!(
            "CREATE EXTENSION postgres_fdw; GRANT USAGE ON FOREIGN DATA WRAPPER postgres_fdw TO {}",
            scene.mallory
        ))
        .await;
    scene.by(&scene.mallory, &format!("
        CREATE VIEW app.lure AS SELECT 1 + app.pwn() AS id, '2020-01-02'::timestamptz AS at, 1 AS v;
        CREATE SERVER back_{name} FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '{host}', port '{port}', dbname '{name}', use_remote_estimate 'true');
        CREATE USER MAPPING FOR PUBLIC SERVER back_{name} OPTIONS (user '{user}', password '{word}');
        CREATE TABLE app.ev (id int, at timestamptz NOT NULL, v int, CHECK (id > 0)) PARTITION BY RANGE (at);
        CREATE TABLE app.ev_new PARTITION OF app.ev FOR VALUES FROM ('2025-01-01') TO ('2100-01-01');
        CREATE FOREIGN TABLE app.ev_old PARTITION OF app.ev FOR VALUES FROM ('2020-01-01') TO ('2020-02-01')
            SERVER back_{name} OPTIONS (schema_name 'app', table_name 'lure');
        CREATE TABLE app.eve (id int, at timestamptz NOT NULL, v int) PARTITION BY RANGE (at);
        CREATE FOREIGN TABLE app.eve_rest PARTITION OF app.eve DEFAULT SERVER back_{name} OPTIONS (schema_name 'app', table_name 'lure');
        CREATE FOREIGN TABLE app.far (id int CHECK (id > 0), at timestamptz NOT NULL, v int) SERVER back_{name} OPTIONS (schema_name 'app', table_name 'lure');
        CREATE VIEW app.near AS SELECT * FROM app.far;
        CREATE TABLE app.child (id int PRIMARY KEY, at timestamptz NOT NULL); INSERT INTO app.child VALUES (7, '2020-01-01')",
        name = scene.db.name, host = url.host_str().unwrap(), port = url.port().unwrap(), user = url.username(), word = url.password().unwrap()
    )).await;
    let folder = tempfile::tempdir().unwrap();
    let workspace = |trusted: &str| {
        Workspace::new(&format!("history: sqlite:maint.db\ntargets:\n  app: {{ engine: postgres, url: \"{}\", trust_owners: [{trusted}] }}\n", scene.db.url))
            .task("cleanup", &rules(["ev", "far", "near"].map(str::to_owned).into_iter()))
            .task("orphans", "kind: cleanup\ntarget: app\noptions: { rules: [{ table: app.child, orphaned: { columns: [id], parent: app.far } }] }\n")
            .task("file", &format!("kind: archive\ntarget: app\noptions: {{ table: app.ev, column: at, older_than: 1y, destination: {{ files: \"file://{}\" }} }}\n", folder.path().display()))
            .task("into", "kind: archive\ntarget: app\noptions: { table: app.child, column: at, older_than: 1y, destination: { table: app.ev } }\n")
            .task("integrity", "kind: integrity\ntarget: app\noptions: { validate: true }\n")
            .task("partitions", "kind: partitions\ntarget: app\noptions: { tables: [app.ev, app.eve], interval: month, keep: 1y, move_default_rows: true }\n")
            .task("analyze", "kind: analyze\ntarget: app\n")
            .task("vacuum", "kind: vacuum\ntarget: app\n")
            .task("repack", "kind: repack\ntarget: app\n")
            .task("snapshot", "kind: snapshot\ntarget: app\n")
    };
    scene.nothing_stolen("before").await;
    let alone = workspace("");
    let tasks = [
        "cleanup",
        "orphans",
        "file",
        "into",
        "integrity",
        "partitions",
        "analyze",
        "vacuum",
        "repack",
        "snapshot",
    ]
    .map(str::to_owned);
    let runs = all_ways(&scene, &alone, &tasks, "superuser").await;
    alone.run(["check", "--connect"]);
    alone.run(["doctor"]);
    scene.nothing_stolen("check and doctor").await;
    let integrity = runs.iter().find(|run| run["task"] == "integrity").unwrap();
    let said = told(integrity);
    assert!(
        said.contains("app.ev left alone, with app.ev (app.ev_old)")
            && said.contains("the foreign table app.ev_old, on the server back_"),
        "{integrity:#}"
    );
    assert_eq!(said.matches("app.ev left alone").count(), 1, "once: {said}");
    let partitions = runs.iter().find(|run| run["task"] == "partitions").unwrap();
    assert!(
        told(partitions).contains("app.eve left alone"),
        "{partitions:#}"
    );
    assert_eq!(scene.db.number("SELECT count(*) FROM app.child").await, 1);
    // The trap works: whoever trusts mallory falls into it.
    workspace(&scene.mallory).run(["run", "integrity", "--now"]);
    assert!(
        scene.calls().await > 0,
        "her view was read as somebody else"
    );
}

for_oldest_and_newest! {
    /// What is read on another server, that may be this one.
    async fn nothing_is_lent_through_foreign_tables(major: u32) {
        foreign_tables(major).await;
    }
}

/// Everything that an owner may hang on tables, in use.
async fn ordinary(db: &TestDatabase, owner: &str) {
    db.execute(&format!("
        CREATE SCHEMA app; GRANT ALL ON SCHEMA app TO {owner};
        SET SESSION AUTHORIZATION {owner};
        CREATE TABLE app.audit (what text, id int);
        CREATE FUNCTION app.note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            INSERT INTO app.audit VALUES (TG_NAME, coalesce(NEW.id, OLD.id)); RETURN coalesce(NEW, OLD); END $$;
        CREATE FUNCTION app.fine() RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN 0; END';
        CREATE DOMAIN app.positive AS int CHECK (value > app.fine());
        CREATE TABLE app.src (id int PRIMARY KEY, at timestamptz NOT NULL, v app.positive, w int GENERATED ALWAYS AS (id + app.fine()) STORED, CHECK (id > app.fine()));
        CREATE INDEX ON app.src ((id + app.fine())); CREATE INDEX ON app.src (at);
        CREATE STATISTICS app.src_stats ON (id + app.fine()), at FROM app.src;
        ALTER TABLE app.src ENABLE ROW LEVEL SECURITY; CREATE POLICY nobody ON app.src USING (false);
        CREATE TABLE app.src2 (LIKE app.src INCLUDING ALL);
        INSERT INTO app.src SELECT n, now() - CASE WHEN n <= 5 THEN interval '2 years' ELSE '1 day' END, n FROM generate_series(1, 10) n;
        INSERT INTO app.src2 SELECT id, at, v FROM app.src;
        CREATE TABLE app.gone (LIKE app.src2 INCLUDING ALL); INSERT INTO app.gone SELECT id, at, v FROM app.src;
        CREATE TRIGGER before_delete BEFORE DELETE ON app.src FOR EACH ROW EXECUTE FUNCTION app.note();
        CREATE CONSTRAINT TRIGGER at_the_end AFTER DELETE ON app.src DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION app.note();
        CREATE TABLE app.dest (id int PRIMARY KEY, at timestamptz NOT NULL, v app.positive, CHECK (id > app.fine()), x int DEFAULT app.fine());
        CREATE CONSTRAINT TRIGGER arrived AFTER INSERT ON app.dest DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION app.note();
        CREATE TABLE app.back (id int PRIMARY KEY, at timestamptz NOT NULL, v app.positive, w int);
        CREATE TRIGGER returned AFTER INSERT ON app.back FOR EACH ROW EXECUTE FUNCTION app.note();
        CREATE TABLE app.moved (id int PRIMARY KEY, at timestamptz NOT NULL, v app.positive); INSERT INTO app.moved SELECT id, at, v FROM app.src2;
        CREATE TABLE app.parts (id int, at timestamptz NOT NULL, v app.positive, CHECK (id > app.fine())) PARTITION BY RANGE (at);
        CREATE INDEX ON app.parts ((id + app.fine()));
        CREATE TABLE app.parts_rest PARTITION OF app.parts DEFAULT;
        CREATE TABLE app.parts_old PARTITION OF app.parts FOR VALUES FROM ('2020-01-01 00:00+00') TO ('2020-02-01 00:00+00');
        CREATE MATERIALIZED VIEW app.mv AS SELECT id + app.fine() AS id FROM app.moved; CREATE UNIQUE INDEX ON app.mv (id);
        RESET SESSION AUTHORIZATION;
        CREATE TABLE public.commands (tag text); GRANT INSERT ON public.commands TO PUBLIC;
        CREATE FUNCTION public.command() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.commands VALUES (TG_TAG); END';
        CREATE EVENT TRIGGER log_{owner} ON ddl_command_end EXECUTE FUNCTION public.command();
        ANALYZE; TRUNCATE public.commands")).await;
}

/// What people hang on their tables does what their application expects, in every kind.
async fn ordinary_people(major: u32) {
    for who in ["owner", "member", "trusting superuser"] {
        let db = fresh_database(major).await;
        let (owner, member) = (
            format!("owner_{}", &db.name[20..]),
            format!("member_{}", &db.name[20..]),
        );
        db.execute(&format!("CREATE ROLE {owner} LOGIN PASSWORD 'x'; CREATE ROLE {member} LOGIN PASSWORD 'x'; GRANT {owner} TO {member}")).await;
        ordinary(&db, &owner).await;
        let (url, trusted) = match who {
            "owner" => (as_role(&db.url, &owner), ""),
            "member" => (as_role(&db.url, &member), ""),
            _ => (db.url.clone(), owner.as_str()),
        };
        let folder = tempfile::tempdir().unwrap();
        let files = format!("file://{}", folder.path().display());
        let workspace = Workspace::new(&format!("history: sqlite:maint.db\ntargets:\n  app: {{ engine: postgres, url: \"{url}\", trust_owners: [{trusted}] }}\n"))
            .task("cleanup", &rules(["src".to_owned()].into_iter()))
            .task("into", "kind: archive\ntarget: app\noptions: { table: app.moved, column: at, older_than: 1y, destination: { table: app.dest } }\n")
            .task("file", &format!("kind: archive\ntarget: app\noptions: {{ table: app.gone, column: at, older_than: 1y, destination: {{ files: \"{files}\" }} }}\n"))
            .task("partitions", "kind: partitions\ntarget: app\noptions: { tables: [app.parts], interval: month, keep: 1y, move_default_rows: true }\n")
            .task("refresh", "kind: refresh\ntarget: app\noptions: { always: true }\n")
            .task("integrity", "kind: integrity\ntarget: app\noptions: { validate: true, amcheck: off, include: [\"app.*\"] }\n")
            .task("reindex", "kind: reindex\ntarget: app\noptions: { min_size: 8kB, include: [\"app.*\"] }\n")
            .task("analyze", "kind: analyze\ntarget: app\noptions: { include: [\"app.*\"] }\n")
            .task("vacuum", "kind: vacuum\ntarget: app\noptions: { include: [\"app.*\"] }\n")
            .task("snapshot", "kind: snapshot\ntarget: app\n");
        let tasks = [
            "cleanup",
            "into",
            "file",
            "partitions",
            "refresh",
            "integrity",
            "reindex",
            "analyze",
            "vacuum",
            "snapshot",
        ];
        for verb in [&["plan"][..], &["run", "--dry-run"]] {
            let output = workspace
                .run(
                    verb.iter()
                        .copied()
                        .take(1)
                        .chain(tasks)
                        .chain(verb.iter().copied().skip(1)),
                )
                .expect(0);
            assert!(
                !output.stdout.contains("role.untrusted_code"),
                "as {who}: {output:#?}"
            );
        }
        assert_eq!(
            db.number("SELECT count(*) FROM app.audit").await,
            0,
            "planning fires nothing, as {who}"
        );
        let ran = workspace
            .run(
                ["run"]
                    .into_iter()
                    .chain(tasks)
                    .chain(["--now", "--output", "json"]),
            )
            .json();
        for run in ran["runs"].as_array().unwrap() {
            assert_eq!(told(run), "", "as {who}: {run:#}");
            assert_eq!(run["status"], "succeeded", "as {who}: {run:#}");
        }
        let seen = db.strings("SELECT what || ' ' || count(*) || ' ' || sum(id) FROM app.audit GROUP BY what ORDER BY 1").await;
        assert_eq!(
            seen,
            ["arrived 5 15", "at_the_end 5 15", "before_delete 5 15"],
            "as {who}"
        );
        for (table, rows) in [
            ("src", 5),
            ("moved", 5),
            ("dest", 5),
            ("gone", 5),
            ("mv", 5),
        ] {
            assert_eq!(
                db.number(&format!("SELECT count(*) FROM app.{table}"))
                    .await,
                rows,
                "{table} as {who}"
            );
        }
        assert!(
            db.number("SELECT count(*) FROM public.commands WHERE tag = 'CREATE TABLE'")
                .await
                > 0,
            "the event trigger fired, as {who}"
        );
        let args = [
            "archive", "restore", "--files", &files, "--target", "app", "--into", "app.back",
        ];
        workspace.run(args).expect(0);
        assert_eq!(
            db.number("SELECT count(*) FROM app.audit WHERE what = 'returned'")
                .await,
            5,
            "as {who}"
        );
        let again = workspace
            .run([
                "run", "cleanup", "into", "file", "--now", "--output", "json",
            ])
            .expect(0)
            .json();
        for run in again["runs"].as_array().unwrap() {
            assert_eq!(run["steps"], json!([]), "as {who}: {run:#}");
        }
    }
}

for_oldest_and_newest! {
    /// The same of ordinary people.
    async fn ordinary_code_works_in_every_kind(major: u32) {
        ordinary_people(major).await;
    }
}

#[tokio::test]
async fn ordinary_code_works_in_every_kind_19() {
    if has_19() {
        ordinary_people(19).await;
    }
}
