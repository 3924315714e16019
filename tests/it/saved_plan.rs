//! Plans that are saved, looked at, and carried out later.

use crate::saved_meaning::refused_after;
use crate::support::servers::{TestDatabase, fresh_database};
use crate::support::workspace::Workspace;

/// Two tables with a bloated index each, and a task that rebuilds them.
async fn bloated() -> (TestDatabase, Workspace) {
    let db = fresh_database(17).await;
    for table in ["alpha", "beta"] {
        bloat(&db, table).await;
    }
    let workspace = Workspace::for_target(&db.url).task(
        "reindex",
        "kind: reindex\ntarget: app\noptions: { min_size: 100kB, min_bloat: 30% }\n",
    );
    (db, workspace)
}

async fn bloat(db: &TestDatabase, table: &str) {
    db.execute(&format!(
        "CREATE TABLE {table} (id bigint); INSERT INTO {table} SELECT generate_series(1, 20000);
         CREATE INDEX {table}_id ON {table} (id); DELETE FROM {table} WHERE id % 5 <> 0"
    ))
    .await;
    db.execute(&format!("VACUUM ANALYZE {table}")).await;
}

async fn file_of(db: &TestDatabase, index: &str) -> i64 {
    db.number(&format!("SELECT pg_relation_filenode('{index}')::int8"))
        .await
}

#[tokio::test]
async fn exactly_what_was_saved_is_carried_out() {
    let (db, workspace) = bloated().await;
    let saved = workspace
        .run(["plan", "reindex", "--save", "plan.json"])
        .expect(0);
    assert!(saved.stdout.contains("2 steps"), "{saved:#?}");
    workspace.run(["plan", "--check", "plan.json"]).expect(0);
    // What has come up since is another difference, but not carried out.
    bloat(&db, "gamma").await;
    let checked = workspace.run(["plan", "--check", "plan.json"]).expect(5);
    assert!(
        checked.stdout.contains("public.gamma_id: new"),
        "{checked:#?}"
    );
    let gamma = file_of(&db, "gamma_id").await;
    let alpha = file_of(&db, "alpha_id").await;
    let ran = workspace
        .run(["run", "--plan", "plan.json", "--output", "json"])
        .expect(0);
    let run = &ran.json()["runs"][0];
    assert_eq!(run["status"], "succeeded", "{ran:#?}");
    let steps: Vec<&str> = run["steps"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|step| step["object"].as_str())
        .collect();
    assert_eq!(steps.len(), 2, "{steps:?}");
    assert!(!steps.contains(&"public.gamma_id"), "{steps:?}");
    assert_eq!(file_of(&db, "gamma_id").await, gamma);
    assert_ne!(file_of(&db, "alpha_id").await, alpha);
    let document: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(workspace.path().join("plan.json")).unwrap())
            .unwrap();
    let findings = run["findings"].to_string();
    assert!(
        findings.contains(document["hash"].as_str().unwrap()),
        "the run does not name what it carried out: {findings}"
    );
    // Done is done: what it rested on is gone.
    let again = workspace.run(["run", "--plan", "plan.json"]).expect(2);
    assert!(
        again.stderr.contains("would not be done any more"),
        "{again:#?}"
    );
}

#[tokio::test]
async fn what_does_not_fit_is_refused_and_nothing_is_touched() {
    let (db, workspace) = bloated().await;
    workspace
        .run(["plan", "reindex", "--save", "plan.json"])
        .expect(0);
    let beta = file_of(&db, "beta_id").await;
    let refused = |why: &'static str| {
        let refused = workspace.run(["run", "--plan", "plan.json"]).expect(2);
        assert!(refused.stderr.contains(why), "{refused:#?}");
    };
    // Another index of the same name.
    db.execute("DROP INDEX alpha_id; CREATE INDEX alpha_id ON alpha (id)")
        .await;
    refused("alpha_id");
    // Other options.
    workspace.file(
        "tasks/reindex.yaml",
        "kind: reindex\ntarget: app\noptions: { min_size: 50kB, min_bloat: 30% }\n",
    );
    refused("options of task `reindex` have changed");
    // Another database behind the same name.
    let other = fresh_database(17).await;
    workspace.file(
        "schedules.yaml",
        &format!(
            "history: sqlite:maint.db\ntargets:\n  app: {{ engine: postgres, url: \"{}\" }}\n",
            other.url
        ),
    );
    refused("is another database");
    // A document that somebody edited.
    let path = workspace.path().join("plan.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("REINDEX INDEX", "DROP INDEX")).unwrap();
    refused("was changed after it was made");
    std::fs::write(&path, "{}").unwrap();
    refused("no saved plan");
    assert_eq!(file_of(&db, "beta_id").await, beta);
    let history = workspace.run(["history", "--output", "json"]);
    assert!(!history.stdout.contains("reindex"), "{history:#?}");
}

/// A plan that was reviewed can be carried out later, whatever the kind: nothing in it is another
/// only because time has gone on, or because the statistics say something else.
#[tokio::test]
async fn a_plan_of_every_kind_can_be_carried_out_later() {
    let db = fresh_database(17).await;
    for table in ["gone", "kept", "filed"] {
        db.execute(&format!(
            "CREATE TABLE {table} (id bigint PRIMARY KEY, at timestamptz NOT NULL);
             INSERT INTO {table} SELECT n, now() - n * interval '1 hour' FROM generate_series(1, 3000) n;
             CREATE INDEX ON {table} (at); ANALYZE {table}"
        ))
        .await;
    }
    for table in ["months", "filled", "thrown", "stored"] {
        db.execute(&format!(
            "CREATE TABLE {table} (id bigint, at timestamptz NOT NULL) PARTITION BY RANGE (at);
             CREATE TABLE {table}_2020 PARTITION OF {table} FOR VALUES FROM ('2020-01-01') TO ('2020-02-01');
             CREATE TABLE {table}_2099 PARTITION OF {table} FOR VALUES FROM ('2099-01-01') TO ('2099-02-01');
             INSERT INTO {table} VALUES (1, '2020-01-05')"
        ))
        .await;
    }
    db.execute(
        "CREATE TABLE filled_rest PARTITION OF filled DEFAULT;
         CREATE TABLE source (n int); INSERT INTO source SELECT generate_series(1, 500);
         CREATE MATERIALIZED VIEW sums AS SELECT sum(n) AS n FROM source; INSERT INTO source VALUES (1);
         CREATE TABLE parent (id int PRIMARY KEY);
         CREATE TABLE child (id int, parent int REFERENCES parent)",
    )
    .await;
    bloat(&db, "alpha").await;
    db.execute("UPDATE alpha SET id = -id WHERE id % 10 = 0")
        .await;
    let files = |name: &str| format!("\"file:///{{folder}}/{name}\"");
    let mut workspace = Workspace::for_target(&db.url);
    let folder = workspace.path().display().to_string();
    let folder = folder.trim_start_matches('/');
    let tasks = [
        ("analyze", "analyze", "{ min_changed_rows: 1 }".to_owned()),
        ("vacuum", "vacuum", "{ min_dead_rows: 1 }".to_owned()),
        ("reindex", "reindex", "{ min_size: 8kB, min_bloat: 20% }".to_owned()),
        ("refresh", "refresh", "{ allow_blocking: true }".to_owned()),
        ("integrity", "integrity", "{}".to_owned()),
        ("sql", "sql", "{ statements: [{ name: one, sql: UPDATE public.source SET n = 0 }] }".to_owned()),
        ("rows", "cleanup", "{ rules: [{ table: public.gone, column: at, older_than: 30d }] }".to_owned()),
        ("thrown", "cleanup", "{ rules: [{ table: public.thrown, column: at, older_than: 30d }] }".to_owned()),
        ("kept", "archive", "{ table: public.kept, column: at, older_than: 30d, destination: { table: public.kept_archive } }".to_owned()),
        ("filed", "archive", format!("{{ table: public.filed, column: at, older_than: 30d, destination: {{ files: {} }} }}", files("filed"))),
        ("stored", "archive", format!("{{ table: public.stored, column: at, older_than: 30d, destination: {{ files: {} }} }}", files("stored"))),
        ("at_once", "partitions", "{ tables: [public.months], interval: month, keep: 2mo, grace: 0s }".to_owned()),
        ("later", "partitions", "{ tables: [public.filled], interval: month, keep: 2mo, grace: 7d }".to_owned()),
    ];
    for (name, kind, options) in &tasks {
        let options = options.replace("{folder}", folder);
        workspace = workspace.task(
            name,
            &format!("kind: {kind}\ntarget: app\noptions: {options}\n"),
        );
    }
    for (name, ..) in &tasks {
        let file = format!("{name}.json");
        workspace.run(["plan", name, "--save", &file]).expect(0);
        let text = std::fs::read_to_string(workspace.path().join(&file)).unwrap();
        let saved: serde_json::Value = serde_json::from_str(&text).unwrap();
        let steps = saved["plans"][0]["steps"].as_array().unwrap();
        assert!(!steps.is_empty(), "{name}: {text}");
        if *name == "rows" {
            // Another way to walk is no other work.
            db.execute("ALTER TABLE gone DROP CONSTRAINT gone_pkey; DROP INDEX gone_at_idx")
                .await;
        }
        workspace.run(["plan", "--check", &file]).expect(0);
        let ran = workspace
            .run(["run", "--plan", &file, "--output", "json"])
            .expect(0);
        let status = &ran.json()["runs"][0]["status"];
        assert_eq!(status, "succeeded", "{name}: {ran:#?}");
    }
    assert_eq!(
        db.number("SELECT count(*) FROM gone WHERE at < now() - interval '30 days'")
            .await,
        0
    );
    let left = "SELECT count(*) FROM pg_class WHERE relname IN ('months_2020', 'thrown_2020', 'stored_2020')";
    assert_eq!(db.number(left).await, 0);
    assert_eq!(
        db.number("SELECT count(*) FROM pg_inherits WHERE inhrelid = 'filled_2020'::regclass")
            .await,
        0
    );
}

/// Whoever approved a delete has not approved what somebody hung on the table since: triggers, and
/// rows of other tables that go with it.
#[tokio::test]
async fn what_a_delete_sets_off_belongs_to_its_plan() {
    let db = fresh_database(17).await;
    for table in ["gone", "kept"] {
        db.execute(&format!(
            "CREATE TABLE {table} (id bigint PRIMARY KEY, at timestamptz NOT NULL);
             INSERT INTO {table} SELECT n, now() - n * interval '1 hour' FROM generate_series(1, 1000) n;
             CREATE INDEX ON {table} (at); ANALYZE {table}"
        ))
        .await;
    }
    db.execute(
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END'",
    )
    .await;
    let workspace = Workspace::for_target(&db.url)
        .task("gone", "kind: cleanup\ntarget: app\noptions: { rules: [{ table: public.gone, column: at, older_than: 30d }] }\n")
        .task("kept", "kind: archive\ntarget: app\noptions: { table: public.kept, column: at, older_than: 30d, destination: { table: public.kept_archive } }\n");
    for (task, table) in [("gone", "gone"), ("kept", "kept")] {
        let saves = |file: &str| {
            workspace.run(["plan", task, "--save", file]).expect(0);
        };
        let refused = |file: &str, why: &str| {
            let refused = workspace.run(["run", "--plan", file]).expect(2);
            assert!(refused.stderr.contains(why), "{refused:#?}");
        };
        saves("before.json");
        db.execute(&format!(
            "CREATE TRIGGER noted BEFORE DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION note()"
        ))
        .await;
        refused(
            "before.json",
            "fires the trigger noted (public.note), which the plan does not know of",
        );
        db.execute(&format!(
            "CREATE RULE also AS ON DELETE TO {table} DO ALSO NOTIFY gone"
        ))
        .await;
        // Beside a rule an archive into a table is not done at all.
        let why = match task {
            "gone" => "follows the rule also, which the plan does not know of",
            _ => "the rule also of public.kept is for DELETE",
        };
        refused("before.json", why);
        db.execute(&format!("DROP RULE also ON {table}")).await;
        saves("with.json");
        db.execute(&format!("DROP TRIGGER noted ON {table}")).await;
        refused("with.json", "not so any more: fires the trigger noted");
        // The same trigger, with another function, or another function of the name.
        db.execute(&format!(
            "CREATE TRIGGER noted BEFORE DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION note()"
        ))
        .await;
        workspace.run(["plan", "--check", "with.json"]).expect(0);
        for change in [
            "CREATE OR REPLACE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN DELETE FROM public.kept; RETURN OLD; END'",
            "CREATE OR REPLACE FUNCTION note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS 'BEGIN RETURN OLD; END'",
        ] {
            db.execute(change).await;
            refused("with.json", "which calls public.note() is another one");
        }
        db.execute(&format!("CREATE OR REPLACE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END'; DROP TRIGGER noted ON {table}")).await;
        if task == "gone" {
            // What hangs on a table whose rows go along counts as well.
            db.execute("CREATE TABLE child (parent bigint CONSTRAINT family REFERENCES gone ON DELETE CASCADE); CREATE INDEX ON child (parent)").await;
            saves("along.json");
            db.execute(
                "CREATE TRIGGER noted BEFORE DELETE ON child FOR EACH ROW EXECUTE FUNCTION note()",
            )
            .await;
            refused(
                "along.json",
                "fires the trigger noted of public.child (public.note), which the plan does not know of",
            );
            db.execute("DROP TABLE child").await;
        }
        for (action, words) in [
            ("CASCADE", "deletes rows of public.child (parent)"),
            ("SET NULL", "sets parent to null in public.child (parent)"),
        ] {
            db.execute(&format!("CREATE TABLE child (parent bigint CONSTRAINT family REFERENCES {table} ON DELETE {action}); CREATE INDEX ON child (parent)"))
                .await;
            refused(
                "before.json",
                &format!("{words}, by family, which the plan does not know of"),
            );
            db.execute("DROP TABLE child").await;
        }
        assert_eq!(
            db.number(&format!("SELECT count(*) FROM {table}")).await,
            1000
        );
        workspace.run(["run", "--plan", "before.json"]).expect(0);
        assert_eq!(
            db.number(&format!(
                "SELECT count(*) FROM {table} WHERE at < now() - interval '30 days'"
            ))
            .await,
            0
        );
    }
}

/// What `keep` reads and calls decides which rows stay: replaced since the review, it is another plan.
#[tokio::test]
async fn what_conditions_read_and_call_belongs_to_their_plan() {
    let db = fresh_database(17).await;
    db.execute(
        "CREATE TABLE public.s (id int PRIMARY KEY, at timestamptz NOT NULL);
         INSERT INTO public.s SELECT n, '2020-01-01' FROM generate_series(1, 100) n;
         CREATE TABLE public.kp (id int); INSERT INTO public.kp SELECT generate_series(1, 50);
         CREATE VIEW public.below AS SELECT id FROM public.kp;
         CREATE VIEW public.vk AS SELECT id FROM public.below;
         CREATE TYPE public.state AS ENUM ('held', 'free');
         ALTER TABLE public.s ADD st public.state NOT NULL DEFAULT 'free'; UPDATE public.s SET st = 'held' WHERE id <= 50;
         CREATE TABLE public.parent (id int); INSERT INTO public.parent SELECT generate_series(1, 50);
         CREATE VIEW public.parents AS SELECT id FROM public.parent;
         CREATE FUNCTION public.is_held(int) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT $1 <= 50';
         CREATE FUNCTION public.up_to(int, int) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT $1 <= $2';
         CREATE OPERATOR public.<<=| (LEFTARG = int, RIGHTARG = int, FUNCTION = public.up_to)",
    )
    .await;
    let task = |keep: &str| {
        format!(
            "kind: cleanup\ntarget: app\noptions: {{ rules: [{{ table: public.s, column: at, older_than: 30d, keep: [\"{keep}\"] }}] }}\n"
        )
    };
    let workspace = Workspace::for_target(&db.url)
        .task("calls", &task("public.is_held(id)"))
        .task("compares", &task("id OPERATOR(public.<<=|) 50"))
        .task("views", &task("id IN (SELECT id FROM public.vk)"))
        .task("reads", &task("id IN (SELECT id FROM public.kp)"))
        .task("labels", &task("st = 'held'"))
        .task("orphans", "kind: cleanup\ntarget: app\noptions: { rules: [{ table: public.s, orphaned: { columns: [id], parent: public.parents, parent_columns: [id] }, max_share: 100% }] }\n");
    for (name, what, change) in [
        (
            "calls",
            "public.is_held(integer) is another one",
            "CREATE OR REPLACE FUNCTION public.is_held(int) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT false'",
        ),
        (
            "compares",
            "public.up_to(integer,integer) is another one",
            "CREATE OR REPLACE FUNCTION public.up_to(int, int) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT false'",
        ),
        (
            "views",
            "public.below is another one",
            "CREATE OR REPLACE VIEW public.below AS SELECT id FROM public.kp WHERE false",
        ),
        (
            "labels",
            "public.state is another one",
            "ALTER TYPE public.state RENAME VALUE 'held' TO 'x'; ALTER TYPE public.state RENAME VALUE 'free' TO 'held'",
        ),
        (
            "orphans",
            "public.parents is another one",
            "CREATE OR REPLACE VIEW public.parents AS SELECT id FROM public.parent WHERE id < 10",
        ),
        (
            "reads",
            "public.kp is another one",
            "DROP TABLE public.kp CASCADE; CREATE TABLE public.kp (id int)",
        ),
    ] {
        refused_after(change, &db, (&workspace, name), what).await;
        assert_eq!(db.number("SELECT count(*) FROM public.s").await, 100);
    }
    // Reviewed anew, it is carried out.
    workspace
        .run(["plan", "calls", "--save", "anew.json"])
        .expect(0);
    workspace.run(["run", "--plan", "anew.json"]).expect(0);
    assert_eq!(db.number("SELECT count(*) FROM public.s").await, 0);
}

/// A file that somebody names is overwritten only where it holds what would be written again.
#[tokio::test]
async fn a_file_that_holds_something_else_is_not_overwritten() {
    let (_db, workspace) = bloated().await;
    let text = |file: &str| std::fs::read_to_string(workspace.path().join(file)).unwrap();
    let schedules = text("schedules.yaml");
    let task = text("tasks/reindex.yaml");
    let refused = workspace
        .run(["plan", "reindex", "--save", "schedules.yaml"])
        .expect(2);
    assert!(
        refused.stderr.contains(
            "schedules.yaml is there already, and is not a saved plan of maint: nothing was written"
        ),
        "{refused:#?}"
    );
    workspace
        .run(["plan", "reindex", "--save", "tasks/reindex.yaml"])
        .expect(2);
    workspace.file("other.json", "{\"version\": 1}");
    workspace
        .run(["plan", "reindex", "--save", "other.json"])
        .expect(2);
    assert_eq!(text("other.json"), "{\"version\": 1}");
    // Empty, as `mktemp` makes it; a plan; and one that somebody has edited.
    workspace.file("plan.json", "");
    for _ in 0..2 {
        workspace
            .run(["plan", "reindex", "--save", "plan.json"])
            .expect(0);
    }
    let edited = text("plan.json").replace("REINDEX INDEX", "DROP INDEX");
    workspace.file("plan.json", &edited);
    workspace
        .run(["plan", "reindex", "--save", "plan.json"])
        .expect(0);
    assert!(text("plan.json").contains("REINDEX INDEX"));
    workspace
        .run(["plan", "reindex", "--save", "nowhere/plan.json"])
        .expect(2);

    workspace.run(["run", "reindex", "--now"]).expect(0);
    for _ in 0..2 {
        workspace.run(["report", "--html", "report.html"]).expect(0);
    }
    workspace
        .run(["report", "--html", "tasks/reindex.yaml"])
        .expect(2);
    workspace.file(
        "schedules.yaml",
        &format!("{schedules}schedules:\n  nightly: {{ cron: \"0 3 * * *\", tasks: [reindex] }}\n"),
    );
    for format in ["systemd", "crontab"] {
        for _ in 0..2 {
            workspace
                .run(["export", "--out", "units", format])
                .expect(0);
        }
    }
    workspace.file("etc/crontab", "0 1 * * * root true\n");
    let refused = workspace
        .run(["export", "--out", "etc", "crontab"])
        .expect(2);
    assert!(
        refused.stderr.contains("etc/crontab is there"),
        "{refused:#?}"
    );
    assert_eq!(text("etc/crontab"), "0 1 * * * root true\n");
    assert_eq!(text("tasks/reindex.yaml"), task);
}

/// What the steps of a plan do is no difference to the steps that come after them; what others do
/// is, and so is what cannot be done any more.
#[tokio::test]
async fn what_a_plan_has_done_itself_does_not_keep_the_rest_of_it_from_being_done() {
    let db = fresh_database(17).await;
    let fill = "CREATE TABLE log (id bigint, at timestamptz NOT NULL);
         INSERT INTO log SELECT n, now() - n * interval '1 minute' FROM generate_series(1, 20000) n;
         CREATE INDEX log_id ON log (id); CREATE INDEX ON log (at);
         DELETE FROM log WHERE id % 5 <> 0";
    db.execute(fill).await;
    db.execute("VACUUM ANALYZE log").await;
    let workspace = Workspace::for_target(&db.url)
        .task(
            "a-clean",
            "kind: cleanup\ntarget: app\noptions: { rules: [{ table: public.log, column: at, older_than: 1d, max_share: 100% }] }\n",
        )
        .task(
            "b-index",
            "kind: reindex\ntarget: app\noptions: { min_size: 100kB, min_bloat: 30%, include: [public.log_id] }\n",
        );
    let save = |file: &'static str| {
        workspace
            .run(["plan", "a-clean", "b-index", "--save", file])
            .expect(0)
    };
    save("plan.json");
    workspace.run(["plan", "--check", "plan.json"]).expect(0);
    let index = file_of(&db, "log_id").await;
    let ran = workspace.run(["run", "--plan", "plan.json"]).expect(0);
    assert_ne!(file_of(&db, "log_id").await, index, "{ran:#?}");
    assert_eq!(
        db.number("SELECT count(*) FROM log WHERE at < now() - interval '25 hours'")
            .await,
        0
    );

    // The same done by somebody else is a difference.
    db.execute(&format!("DROP TABLE log; {fill}")).await;
    db.execute("VACUUM ANALYZE log").await;
    save("again.json");
    db.execute("DELETE FROM log WHERE at < now() - interval '1 day'")
        .await;
    let index = file_of(&db, "log_id").await;
    let patience = crate::support::patience::Patience::until("the statistics to arrive");
    while db
        .number("SELECT pg_stat_get_mod_since_analyze('log'::regclass)")
        .await
        == 0
    {
        patience.pause().await;
    }
    let refused = workspace.run(["run", "--plan", "again.json"]).expect(2);
    assert!(
        refused.stderr.contains("would not be done any more"),
        "{refused:#?}"
    );
    assert_eq!(file_of(&db, "log_id").await, index);

    // What a task of the plan has made impossible is told in one line, and for that task alone.
    db.execute(&format!("DROP TABLE log; {fill}")).await;
    db.execute("VACUUM ANALYZE log").await;
    let workspace = workspace.task(
        "a-drop",
        "kind: sql\ntarget: app\noptions: { statements: [{ name: gone, sql: DROP TABLE public.log }] }\n",
    );
    workspace
        .run(["plan", "a-drop", "a-clean", "--save", "gone.json"])
        .expect(0);
    let ran = workspace.run(["run", "--plan", "gone.json"]).expect(1);
    let said = format!("{}{}", ran.stdout, ran.stderr);
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        said.contains("none of its steps for this task was carried out"),
        "{said}"
    );
    assert!(
        !said.contains("\\n") && !said.contains("nothing was touched"),
        "{said}"
    );
}

/// Many more rows than were counted are a difference, and so is a plan that was carried out already: a
/// statement that is done twice may be one too many.
#[tokio::test]
async fn a_plan_is_for_so_many_rows_and_for_once() {
    let db = fresh_database(17).await;
    db.execute(
        "CREATE TABLE log (id bigint PRIMARY KEY, at timestamptz NOT NULL);
         INSERT INTO log SELECT n, now() - n * interval '1 hour' FROM generate_series(1, 2000) n;
         CREATE INDEX ON log (at); ANALYZE log; CREATE TABLE told (id int)",
    )
    .await;
    let workspace = Workspace::for_target(&db.url)
        .task(
            "clean",
            "kind: cleanup\ntarget: app\noptions: { rules: [{ table: public.log, column: at, older_than: 60d }] }\n",
        )
        .task(
            "tell",
            "kind: sql\ntarget: app\noptions: { statements: [{ name: one, sql: INSERT INTO public.told VALUES (1) }] }\n",
        );
    workspace
        .run(["plan", "clean", "--save", "plan.json"])
        .expect(0);
    workspace.run(["plan", "--check", "plan.json"]).expect(0);
    db.execute("UPDATE log SET at = '2001-01-01' WHERE id % 10 <> 0")
        .await;
    let checked = workspace.run(["plan", "--check", "plan.json"]).expect(5);
    assert!(
        checked.stdout.contains("more than twice as many"),
        "{checked:#?}"
    );
    let refused = workspace.run(["run", "--plan", "plan.json"]).expect(2);
    assert!(
        refused.stderr.contains("more than twice as many"),
        "{refused:#?}"
    );
    assert_eq!(db.number("SELECT count(*) FROM log").await, 2000);

    let told = "SELECT count(*) FROM told";
    workspace
        .run(["plan", "tell", "--save", "tell.json"])
        .expect(0);
    workspace.run(["run", "--plan", "tell.json"]).expect(0);
    for (command, code) in [(["plan", "--check"], 5), (["run", "--plan"], 2)] {
        let said = workspace
            .run([command[0], command[1], "tell.json"])
            .expect(code);
        let text = format!("{}{}", said.stdout, said.stderr);
        assert!(text.contains("was carried out already, at "), "{text}");
    }
    assert_eq!(db.number(told).await, 1);
    // Approved once more.
    workspace
        .run(["plan", "tell", "--save", "tell.json"])
        .expect(0);
    workspace.run(["run", "--plan", "tell.json"]).expect(0);
    assert_eq!(db.number(told).await, 2);
}

/// The tasks of a set may all want the same first: whoever comes first does it for the others.
#[tokio::test]
async fn tasks_of_a_plan_that_want_the_same_analyze_are_all_carried_out() {
    let db = fresh_database(18).await;
    db.execute(
        "CREATE TABLE big (id bigint, note text) WITH (autovacuum_enabled = false);
         INSERT INTO big SELECT n, 'note ' || n FROM generate_series(1, 60000) n;
         CREATE INDEX big_id ON big (id); DELETE FROM big WHERE id % 2 = 0",
    )
    .await;
    let with = |kind: &str, options: &str| {
        format!("kind: {kind}\ntarget: app\noptions: {{ {options} }}\n")
    };
    let workspace = Workspace::for_target(&db.url)
        .task("a-analyze", &with("analyze", ""))
        .task("b-vacuum", &with("vacuum", ""))
        .task(
            "c-index",
            &with("reindex", "min_size: 100kB, min_bloat: 10%"),
        )
        .task(
            "d-repack",
            &with("repack", "min_size: 100kB, min_bloat: 10%"),
        );
    workspace.run(["plan", "--save", "plan.json"]).expect(0);
    let plan = std::fs::read_to_string(workspace.path().join("plan.json")).unwrap();
    let analyzes = plan.matches("\"action\": \"analyze\"").count();
    assert!(analyzes > 1, "{plan}");
    let ran = workspace
        .run(["run", "--plan", "plan.json", "--output", "json"])
        .expect(0);
    let runs = ran.json()["runs"].as_array().unwrap().clone();
    assert_eq!(runs.len(), 4, "{ran:#?}");
    assert!(
        runs.iter().all(|run| run["status"] == "succeeded"),
        "{ran:#?}"
    );
}

/// Where a task of a plan fails, the others are done, what is left is said, and the plan goes on with that:
/// nothing is done twice.
#[tokio::test]
async fn what_is_left_of_a_plan_is_said_and_gone_on_with() {
    let db = fresh_database(17).await;
    db.execute(
        "CREATE TABLE told (by text); CREATE TABLE zero (n int); INSERT INTO zero VALUES (0)",
    )
    .await;
    let with = |statements: &str| {
        format!("kind: sql\ntarget: app\noptions: {{ statements: [{statements}] }}\n")
    };
    let tells = |name: &str| {
        format!("{{ name: {name}, sql: \"INSERT INTO public.told VALUES ('{name}')\" }}")
    };
    let fails = "{ name: third, sql: \"INSERT INTO public.told SELECT 'third' FROM public.zero WHERE 1 / n > 0\" }";
    let workspace = Workspace::for_target(&db.url)
        .task("a-one", &with(&tells("first")))
        .task("b-two", &with(&format!("{}, {fails}", tells("second"))))
        .task("c-three", &with(&tells("fourth")));
    workspace
        .run(["plan", "a-one", "b-two", "c-three", "--save", "plan.json"])
        .expect(0);
    let failed = workspace.run(["run", "--plan", "plan.json"]).expect(1);
    let said = failed.stderr;
    for word in [
        "left of plan.json: b-two on app (1 step)",
        "`maint run --plan plan.json` goes on with what is left",
    ] {
        assert!(said.contains(word), "{word}: {said}");
    }
    db.execute("UPDATE zero SET n = 1").await;
    // What does not fit is refused all the same.
    workspace.file("tasks/b-two.yaml", &with(&tells("second")));
    let refused = workspace.run(["run", "--plan", "plan.json"]).expect(2);
    assert!(
        refused.stderr.contains("options of task `b-two`"),
        "{refused:#?}"
    );
    workspace.file(
        "tasks/b-two.yaml",
        &with(&format!("{}, {fails}", tells("second"))),
    );
    let rest = workspace.run(["run", "--plan", "plan.json"]).expect(0);
    for word in [
        "a-one on app: was carried out already",
        "b-two on app: 1 step was done before, and not again",
        "c-three on app: was carried out already",
    ] {
        assert!(rest.stderr.contains(word), "{word}: {rest:#?}");
    }
    let told = "SELECT string_agg(by, ' ' ORDER BY by) FROM told";
    assert_eq!(db.strings(told).await, ["first fourth second third"]);
    let over = workspace.run(["run", "--plan", "plan.json"]).expect(2);
    assert!(over.stderr.contains("was carried out already"), "{over:#?}");
    assert_eq!(db.strings(told).await, ["first fourth second third"]);
}

/// A rule that cannot be followed is in no step: that is said when the plan is saved, and stands in it.
#[tokio::test]
async fn what_a_saved_plan_cannot_do_is_said_and_stands_in_it() {
    let db = fresh_database(17).await;
    db.execute("CREATE TABLE log (id bigint PRIMARY KEY, at timestamptz NOT NULL)")
        .await;
    let workspace = Workspace::for_target(&db.url).task(
        "clean",
        "kind: cleanup\ntarget: app\noptions: { rules: [{ table: public.log, column: gone, older_than: 60d }] }\n",
    );
    let saved = workspace
        .run(["plan", "clean", "--save", "plan.json"])
        .expect(0);
    assert!(
        saved
            .stdout
            .contains("not in it, since it cannot be done: clean on app: public.log: "),
        "{saved:#?}"
    );
    let document: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(workspace.path().join("plan.json")).unwrap())
            .unwrap();
    let unfollowed = &document["plans"][0]["unfollowed"][0];
    assert_eq!(unfollowed["object"], "public.log", "{document:#}");
    assert!(
        unfollowed["reason"].as_str().unwrap().contains("gone"),
        "{document:#}"
    );
    let json = workspace
        .run(["plan", "clean", "--save", "plan.json", "--output", "json"])
        .expect(0)
        .json();
    assert_eq!(json["unfollowed"].as_array().unwrap().len(), 1, "{json:#}");
    workspace.run(["plan", "--check", "plan.json"]).expect(0);
}
