//! What is read on the way. Foreign keys between tables of people who do not trust each other: what the server asks
//! for a key it asks as the owner of the table that is asked, in our transaction. Code that
//! hangs there can leave something behind that runs at COMMIT, with our rights.

use super::trust::{Scene, as_role, told};
use super::whose::all_ways;
use crate::support::patience::Patience;
use crate::support::servers::fresh_database;
use crate::support::workspace::Workspace;

/// Ways to hang code where the planner evaluates it; `app.p()` leaves behind what runs later.
const HOOKS: &[(&str, &str)] = &[
    ("predicate", "CREATE INDEX ON {t} (id) WHERE app.p() = 0"),
    (
        "statistics",
        "CREATE STATISTICS app.{n}_stats ON (id + app.p()), id FROM {t}",
    ),
];

/// Tables of bob's, and tables of mallory's that refer to them and that they refer to.
async fn set(major: u32) -> Scene {
    let scene = Scene::set(major).await;
    scene.by(&scene.mallory, "
        CREATE TABLE app.again_too (id int);
        CREATE CONSTRAINT TRIGGER y AFTER INSERT ON app.again_too DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION app.trg();
        CREATE FUNCTION app.leaves() RETURNS int LANGUAGE plpgsql AS $$ BEGIN
            PERFORM app.pwn();
            BEGIN INSERT INTO app.again_too VALUES (1); EXCEPTION WHEN OTHERS THEN NULL; END;
            BEGIN EXECUTE format('DECLARE %I CURSOR WITH HOLD FOR SELECT app.pwn()', random()); EXCEPTION WHEN OTHERS THEN NULL; END;
            RETURN 0; END $$;
        CREATE FUNCTION app.p() RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN app.leaves(); END'").await;
    for (name, sql) in HOOKS {
        let of = |table: &str| sql.replace("{t}", table).replace("{n}", &table[4..]);
        scene.by(&scene.mallory, &format!("
            CREATE TABLE app.{name}_pointed (id int PRIMARY KEY); INSERT INTO app.{name}_pointed SELECT generate_series(1, 20);
            GRANT REFERENCES, SELECT ON app.{name}_pointed TO {bob}; {hang}", bob = scene.bob, hang = of(&format!("app.{name}_pointed")))).await;
        scene.by(&scene.bob, &format!("
            CREATE TABLE app.{name}_old (id int PRIMARY KEY, at timestamptz NOT NULL);
            INSERT INTO app.{name}_old SELECT n, now() - interval '2 years' FROM generate_series(1, 5) n;
            CREATE TABLE app.{name}_away (LIKE app.{name}_old INCLUDING ALL); INSERT INTO app.{name}_away SELECT * FROM app.{name}_old;
            CREATE TABLE app.{name}_dest (id int PRIMARY KEY REFERENCES app.{name}_pointed, at timestamptz NOT NULL);
            CREATE TABLE app.{name}_parts (id int REFERENCES app.{name}_pointed, at timestamptz NOT NULL) PARTITION BY RANGE (at);
            CREATE TABLE app.{name}_defaults (id int PRIMARY KEY, at timestamptz NOT NULL);
            INSERT INTO app.{name}_defaults SELECT * FROM app.{name}_old;
            CREATE TABLE app.{name}_both (id int DEFAULT 20 REFERENCES app.{name}_defaults ON DELETE SET DEFAULT REFERENCES app.{name}_pointed);
            CREATE TABLE app.{name}_cascades (id int PRIMARY KEY, at timestamptz NOT NULL);
            INSERT INTO app.{name}_cascades SELECT * FROM app.{name}_old;
            CREATE TABLE app.{name}_below (id int PRIMARY KEY REFERENCES app.{name}_cascades ON DELETE CASCADE);
            INSERT INTO app.{name}_below SELECT id FROM app.{name}_old;
            GRANT REFERENCES, SELECT ON app.{name}_old, app.{name}_below TO {mallory}", mallory = scene.mallory)).await;
        scene.by(&scene.mallory, &format!("
            CREATE TABLE app.{name}_refers (id int REFERENCES app.{name}_old); {}
            CREATE TABLE app.{name}_lowest (id int REFERENCES app.{name}_below) PARTITION BY LIST (id);
            CREATE TABLE app.{name}_leaf PARTITION OF app.{name}_lowest DEFAULT; {}",
            of(&format!("app.{name}_refers")) + ";", of(&format!("app.{name}_leaf")))).await;
    }
    scene
}

const RULED: [&str; 3] = ["old", "defaults", "cascades"];

fn tasks(mut workspace: Workspace) -> (Workspace, Vec<String>) {
    let mut tasks = Vec::new();
    for (name, _) in HOOKS {
        for table in RULED {
            let task = format!("{name}-{table}");
            workspace = workspace.task(&task, &format!("kind: cleanup\ntarget: app\noptions: {{ rules: [{{ table: app.{name}_{table}, column: at, older_than: 1y, max_share: 100% }}] }}\n"));
            tasks.push(task);
        }
        let into = format!("{name}-into");
        workspace = workspace.task(&into, &format!("kind: archive\ntarget: app\noptions: {{ table: app.{name}_away, column: at, older_than: 1y, destination: {{ table: app.{name}_dest }} }}\n"));
        let parts = format!("{name}-parts");
        workspace = workspace.task(&parts, &format!("kind: partitions\ntarget: app\noptions: {{ tables: [app.{name}_parts], interval: month }}\n"));
        tasks.extend([into, parts]);
    }
    (workspace, tasks)
}

async fn keys(major: u32) {
    let scene = set(major).await;
    scene.nothing_stolen("before").await;
    let folder = tempfile::tempdir().unwrap();
    let files = format!("file://{}", folder.path().display());
    // Bob puts rows away, which somebody powerful would bring back into a table with such a key.
    scene
        .db
        .execute(&format!("ALTER ROLE {} LOGIN PASSWORD 'x'", scene.bob))
        .await;
    Workspace::for_target(&as_role(&scene.db.url, &scene.bob))
        .task("file", &format!("kind: archive\ntarget: app\noptions: {{ table: app.predicate_away, column: at, older_than: 1y, destination: {{ files: \"{files}\" }} }}\n"))
        .run(["run", "file", "--now"]).expect(0);
    for who in ["member", "superuser"] {
        let (workspace, tasks) = tasks(Workspace::for_target(&scene.url(who)));
        for run in all_ways(&scene, &workspace, &tasks, who).await {
            let said = told(&run);
            // Nothing is left of these to be archived.
            if run["task"] == "predicate-into" {
                continue;
            }
            assert!(
                said.contains(" left alone: ")
                    && said.contains("which is asked for a foreign key, calls app.p"),
                "as {who}: {run:#}"
            );
            assert_eq!(run["status"], "failed", "as {who}: {run:#}");
        }
        let into = "app.predicate_dest";
        let args = [
            "archive", "restore", "--files", &files, "--target", "app", "--into", into,
        ];
        let refused = workspace.run(args);
        assert_ne!(refused.code, 0, "{refused:#?}");
        assert!(
            refused.stderr.contains("which is asked for a foreign key"),
            "{refused:#?}"
        );
        scene.nothing_stolen(&format!("restore as {who}")).await;
    }
    for (name, _) in HOOKS {
        for (table, rows) in [
            ("old", 5),
            ("defaults", 5),
            ("cascades", 5),
            ("below", 5),
            ("dest", 0),
        ] {
            let count = format!("SELECT count(*) FROM app.{name}_{table}");
            assert_eq!(scene.db.number(&count).await, rows, "{name}_{table}");
        }
    }
    // The trap works: whoever trusts mallory falls into it.
    let trusting = Workspace::new(&format!(
        "history: sqlite:maint.db\ntargets:\n  app: {{ engine: postgres, url: \"{}\", trust_owners: [{}] }}\n",
        scene.db.url, scene.mallory
    ));
    let (trusting, _) = self::tasks(trusting);
    // From 19 on the server looks at some keys without a plan.
    let falls = match major {
        19.. => &["predicate-old"][..],
        _ => &["predicate-old", "statistics-into", "predicate-parts"],
    };
    for task in falls {
        let before = scene.calls().await;
        trusting.run(["run", *task, "--now"]).expect(0);
        assert!(scene.calls().await > before, "{task}");
    }
}

#[tokio::test]
async fn nothing_is_lent_for_foreign_keys_14() {
    keys(14).await;
}

#[tokio::test]
async fn nothing_is_lent_for_foreign_keys_18() {
    keys(18).await;
}

/// Where nothing hangs on the other table it is kept so, and everything is done as ever.
async fn plain(major: u32) {
    let db = fresh_database(major).await;
    let role = |who: &str| format!("{who}_{}", &db.name[20..]);
    let (one, other, keeper) = (role("one"), role("other"), role("keeper"));
    db.execute(&format!("
        CREATE ROLE {one}; CREATE ROLE {other}; CREATE ROLE {keeper} LOGIN PASSWORD 'x'; CREATE SCHEMA app; GRANT ALL ON SCHEMA app TO {one}, {other};
        GRANT {other}, {one} TO {keeper};
        SET SESSION AUTHORIZATION {one};
        CREATE TABLE app.old (id int PRIMARY KEY, at timestamptz NOT NULL);
        INSERT INTO app.old SELECT n, now() - interval '2 years' FROM generate_series(1, 5) n;
        GRANT REFERENCES, SELECT ON app.old TO {other};
        SET SESSION AUTHORIZATION {other};
        CREATE TABLE app.refers (id int REFERENCES app.old); CREATE INDEX ON app.refers (id) WHERE id > abs(-7)")).await;
    let task = "kind: cleanup\ntarget: app\noptions: { rules: [{ table: app.old, column: at, older_than: 1y, max_share: 100% }] }\n";
    let (_, server) = db.url.split_once('@').unwrap();
    let workspace =
        Workspace::for_target(&format!("postgres://{keeper}:x@{server}")).task("cleanup", task);
    let run = workspace
        .run(["run", "cleanup", "--now", "--output", "json"])
        .expect(0)
        .json();
    assert_eq!(run["runs"][0]["rows"], 5);
    assert_eq!(told(&run["runs"][0]), "");
    let again = workspace
        .run(["run", "cleanup", "--now", "--output", "json"])
        .expect(0)
        .json();
    assert_eq!(again["runs"][0]["steps"], serde_json::json!([]));
    // Who may not keep the other table as it is says so, and what to grant.
    db.execute(&format!(
        "REVOKE {other}, {one} FROM {keeper}; GRANT USAGE ON SCHEMA app TO {keeper}; GRANT SELECT, DELETE ON app.old TO {keeper};
         INSERT INTO app.old SELECT n, now() - interval '2 years' FROM generate_series(1, 5) n"
    )).await;
    let run = workspace
        .run(["run", "cleanup", "--now", "--output", "json"])
        .expect(1)
        .json();
    let error = run["runs"][0]["steps"][0]["error"].as_str().unwrap();
    assert!(error.contains(", app.refers TO keeper_"), "{run:#}");
    assert_eq!(db.number("SELECT count(*) FROM app.old").await, 5);
}

#[tokio::test]
async fn plain_tables_with_foreign_keys_are_worked_on_14() {
    plain(14).await;
}

#[tokio::test]
async fn plain_tables_with_foreign_keys_are_worked_on_18() {
    plain(18).await;
}

/// What was detached belongs to its owner, who may hang something on it before it is dropped.
async fn detached(major: u32) {
    let scene = Scene::set(major).await;
    scene.by(&scene.mallory, "
        CREATE TABLE app.pay (id int, at timestamptz NOT NULL) PARTITION BY RANGE (at);
        CREATE TABLE app.pay_old PARTITION OF app.pay FOR VALUES FROM ('2020-01-01 00:00+00') TO ('2020-02-01 00:00+00');
        CREATE TABLE app.pay_older PARTITION OF app.pay FOR VALUES FROM ('2019-01-01 00:00+00') TO ('2019-02-01 00:00+00');
        CREATE TABLE app.pay_new PARTITION OF app.pay FOR VALUES FROM ('2026-01-01 00:00+00') TO ('2100-01-01 00:00+00');
        INSERT INTO app.pay SELECT n, '2020-01-02' FROM generate_series(1, 5) n").await;
    let workspace = Workspace::for_target(&scene.db.url).task(
        "partitions",
        "kind: partitions\ntarget: app\noptions: { tables: [app.pay], interval: month, keep: 1y, grace: 1s }\n",
    );
    workspace.run(["run", "partitions", "--now"]).expect(0);
    let left = "SELECT count(*) FROM pg_class WHERE relname IN ('pay_old', 'pay_older') AND NOT relispartition";
    assert_eq!(scene.db.number(left).await, 2, "detached");
    scene
        .by(
            &scene.mallory,
            "CREATE INDEX ON app.pay_old ((id + app.q()))",
        )
        .await;
    scene.nothing_stolen("before").await;
    let patience = Patience::until("a second to be over");
    let run = loop {
        let run = workspace
            .run(["run", "partitions", "--now", "--output", "json"])
            .json()["runs"][0]
            .clone();
        scene.nothing_stolen("dropping what was detached").await;
        if told(&run).contains("app.pay_old left alone: ") {
            break run;
        }
        assert_eq!(
            scene
                .db
                .number("SELECT count(*) FROM pg_class WHERE relname = 'pay_old'")
                .await,
            1
        );
        patience.pause().await;
    };
    assert_ne!(run["status"], "succeeded", "{run:#}");
    assert_eq!(scene.rows("pay_old").await, 5);
    // What nothing hangs on goes.
    assert_eq!(scene.db.number(left).await, 1, "{run:#}");
}

#[tokio::test]
async fn what_was_detached_lends_nothing_14() {
    detached(14).await;
}

#[tokio::test]
async fn what_was_detached_lends_nothing_18() {
    detached(18).await;
}

/// Rows that a foreign key sets to null or a default are updated, and what refers to them changes with them: code
/// that hangs there runs with ours.
async fn changes(major: u32) {
    let scene = Scene::set(major).await;
    let actions = ["CASCADE", "SET NULL", "SET DEFAULT"];
    let mut tables = Vec::new();
    for (d, delete) in actions.iter().skip(1).enumerate() {
        for (u, update) in actions.iter().enumerate() {
            let n = format!("{d}{u}");
            scene.by(&scene.bob, &format!("
                CREATE TABLE app.p{n} (id int PRIMARY KEY, at timestamptz NOT NULL);
                INSERT INTO app.p{n} SELECT n, now() - interval '2 years' FROM generate_series(1, 5) n;
                CREATE TABLE app.c{n} (pid int UNIQUE REFERENCES app.p{n} ON DELETE {delete}); INSERT INTO app.c{n} SELECT generate_series(1, 5);
                GRANT REFERENCES, SELECT ON app.c{n} TO {}", scene.mallory)).await;
            scene.by(&scene.mallory, &format!("
                CREATE TABLE app.g{n} (x int REFERENCES app.c{n} (pid) ON UPDATE {update}); INSERT INTO app.g{n} VALUES (5);
                CREATE CONSTRAINT TRIGGER t AFTER UPDATE ON app.g{n} DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION app.trg()")).await;
            tables.push(n);
        }
    }
    // Below a row that goes, ON UPDATE is nothing that happens.
    scene.by(&scene.bob, &format!("
        CREATE TABLE app.gone (id int PRIMARY KEY, at timestamptz NOT NULL); INSERT INTO app.gone SELECT n, now() - interval '2 years' FROM generate_series(1, 5) n;
        CREATE TABLE app.goes (pid int UNIQUE REFERENCES app.gone ON DELETE CASCADE); INSERT INTO app.goes SELECT generate_series(1, 5);
        GRANT REFERENCES, SELECT ON app.goes TO {}", scene.mallory)).await;
    scene.by(&scene.mallory, "
        CREATE TABLE app.stays (x int REFERENCES app.goes (pid) ON UPDATE CASCADE);
        CREATE CONSTRAINT TRIGGER t AFTER UPDATE ON app.stays DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION app.trg()").await;
    for who in ["member", "superuser"] {
        let mut workspace = Workspace::for_target(&scene.url(who));
        for n in &tables {
            let options = format!(
                "rules: [{{ table: app.p{n}, column: at, older_than: 1y, max_share: 100% }}]"
            );
            workspace = workspace.task(
                &format!("c{n}"),
                &format!("kind: cleanup\ntarget: app\noptions: {{ {options} }}\n"),
            );
            let options = format!(
                "table: app.p{n}, column: at, older_than: 1y, destination: {{ table: app.kept{n} }}"
            );
            workspace = workspace.task(
                &format!("a{n}"),
                &format!("kind: archive\ntarget: app\noptions: {{ {options} }}\n"),
            );
        }
        let tasks: Vec<String> = tables
            .iter()
            .flat_map(|n| [format!("c{n}"), format!("a{n}")])
            .collect();
        for run in all_ways(&scene, &workspace, &tasks, who).await {
            assert_eq!(run["status"], "failed", "as {who}: {run:#}");
        }
        for n in &tables {
            assert_eq!(
                scene
                    .db
                    .number(&format!("SELECT count(*) FROM app.p{n}"))
                    .await,
                5
            );
            assert_eq!(
                scene
                    .db
                    .number(&format!("SELECT count(pid) FROM app.c{n}"))
                    .await,
                5
            );
        }
    }
    let workspace = Workspace::for_target(&scene.url("superuser"))
        .task("gone", "kind: cleanup\ntarget: app\noptions: { rules: [{ table: app.gone, column: at, older_than: 1y, max_share: 100% }] }\n");
    let run = workspace
        .run(["run", "gone", "--now", "--output", "json"])
        .expect(0)
        .json();
    assert_eq!(run["runs"][0]["rows"], 5, "{run:#}");
    scene.nothing_stolen("below what goes").await;
}

#[tokio::test]
async fn nothing_is_lent_for_rows_that_change_14() {
    changes(14).await;
}

#[tokio::test]
async fn nothing_is_lent_for_rows_that_change_17() {
    changes(17).await;
}
