//! Code that others hang on their tables never runs with our rights: a hostile
//! owner, every way to hang it, every kind, and a powerful role.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::finding;
use crate::support::servers::{TestDatabase, fresh_database};
use crate::support::workspace::Workspace;

/// Ways to hang code on a table: its name, what its owner does, and whether a
/// DELETE would run it.
pub(super) const HOOKS: &[(&str, &str, bool)] = &[
    ("plain", "", false),
    (
        "before",
        "CREATE TRIGGER x BEFORE DELETE ON {t} FOR EACH ROW EXECUTE FUNCTION app.trg()",
        true,
    ),
    (
        "statement",
        "CREATE TRIGGER x AFTER DELETE ON {t} EXECUTE FUNCTION app.trg()",
        true,
    ),
    (
        "deferred",
        "CREATE CONSTRAINT TRIGGER x AFTER DELETE ON {t} DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION app.trg()",
        true,
    ),
    (
        "again",
        "CREATE TABLE app.again_too (id int);
        CREATE CONSTRAINT TRIGGER y AFTER INSERT ON app.again_too DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION app.trg();
        CREATE CONSTRAINT TRIGGER x AFTER DELETE ON {t} DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION app.defers()",
        true,
    ),
    ("expression", "CREATE INDEX ON {t} ((id + app.q()))", true),
    (
        "predicate",
        "CREATE INDEX ON {t} (id) WHERE id > app.q()",
        true,
    ),
    ("always", "CREATE INDEX ON {t} (id) WHERE app.q() = 0", true),
    (
        "operator",
        "CREATE INDEX ON {t} ((1 OPERATOR(app.@@@) 1))",
        true,
    ),
    (
        "stats",
        "CREATE STATISTICS app.{n}_stats ON (id + app.q()), at FROM {t}",
        true,
    ),
    (
        "checked",
        "ALTER TABLE {t} ADD CHECK (v + app.q() >= 0) NOT VALID",
        true,
    ),
    (
        "ruled",
        "CREATE RULE x AS ON DELETE TO {t} DO ALSO SELECT app.pwn()",
        true,
    ),
    (
        "defaulted",
        "ALTER TABLE {t} ALTER v SET DEFAULT app.pwn()",
        false,
    ),
    (
        "xml",
        "ALTER TABLE {t} ADD w xml DEFAULT query_to_xml('SELECT app.pwn()', true, true, '')",
        false,
    ),
    (
        "generated",
        "ALTER TABLE {t} ADD w int GENERATED ALWAYS AS (id + app.q()) STORED",
        false,
    ),
    ("domain", "ALTER TABLE {t} ADD w app.hostile", false),
    (
        "cascade",
        "CREATE TABLE app.{n}_child (id int REFERENCES {t} ON DELETE CASCADE);
        CREATE INDEX ON app.{n}_child (id);
        INSERT INTO app.{n}_child SELECT id FROM {t};
        CREATE TRIGGER x AFTER DELETE ON app.{n}_child FOR EACH ROW EXECUTE FUNCTION app.trg()",
        true,
    ),
];

/// A database of somebody hostile and somebody with secrets.
pub(super) struct Scene {
    pub(super) db: TestDatabase,
    pub(super) mallory: String,
    pub(super) bob: String,
    pub(super) keeper: String,
}

impl Scene {
    pub(super) async fn set(major: u32) -> Scene {
        let db = fresh_database(major).await;
        let role = |who: &str| format!("{who}_{}", &db.name[20..]);
        let (mallory, bob, keeper) = (role("mallory"), role("bob"), role("keeper"));
        db.execute(&format!(
            "CREATE ROLE {mallory}; CREATE ROLE {bob}; CREATE ROLE {keeper} LOGIN PASSWORD 'x';
             GRANT {mallory}, {bob} TO {keeper};
             CREATE EXTENSION amcheck;
             GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO {keeper};
             ALTER DATABASE {} SET track_functions = 'pl';
             CREATE SCHEMA app; GRANT ALL ON SCHEMA app TO {mallory}, {bob}",
            db.name
        ))
        .await;
        db.execute(&format!(
            "SET ROLE {bob}; CREATE TABLE app.secrets AS SELECT 'of bob'::text AS secret; RESET ROLE;
             SET ROLE {mallory};
             CREATE TABLE app.loot (secret text);
             CREATE FUNCTION app.stolen() RETURNS void LANGUAGE plpgsql AS 'BEGIN END';
             CREATE FUNCTION app.pwn() RETURNS int LANGUAGE plpgsql AS $$ BEGIN
                 BEGIN RESET ROLE; EXCEPTION WHEN OTHERS THEN NULL; END;
                 IF current_user <> '{mallory}' THEN PERFORM app.stolen(); END IF;
                 BEGIN ALTER ROLE {mallory} SUPERUSER; EXCEPTION WHEN OTHERS THEN NULL; END;
                 BEGIN INSERT INTO app.loot SELECT secret FROM app.secrets; EXCEPTION WHEN OTHERS THEN NULL; END;
                 RETURN 0; END $$;
             CREATE FUNCTION app.q() RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN app.pwn(); END';
             CREATE FUNCTION app.sum(int, int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN app.pwn(); END';
             CREATE OPERATOR app.@@@ (LEFTARG = int, RIGHTARG = int, FUNCTION = app.sum);
             CREATE FUNCTION app.trg() RETURNS trigger LANGUAGE plpgsql AS
                 'BEGIN PERFORM app.pwn(); RETURN coalesce(OLD, NEW); END';
             CREATE FUNCTION app.defers() RETURNS trigger LANGUAGE plpgsql AS
                 'BEGIN INSERT INTO app.again_too VALUES (1); RETURN NULL; END';
             CREATE DOMAIN app.hostile AS int CHECK (app.q() = 0)"
        )).await;
        Scene {
            db,
            mallory,
            bob,
            keeper,
        }
    }

    /// As the owner does it, in a session that is nobody else's.
    pub(super) async fn by(&self, role: &str, sql: &str) {
        // A session of the role's own: RESET ROLE does not lead out of it.
        self.db
            .execute(&format!("SET SESSION AUTHORIZATION {role}; {sql}"))
            .await;
    }

    pub(super) async fn hang_all(&self) {
        for (name, sql, _) in HOOKS {
            let owner = if *name == "cascade" {
                &self.bob
            } else {
                &self.mallory
            };
            let table = format!("app.{name}");
            self.by(owner, &format!(
                "CREATE TABLE {table} (id int PRIMARY KEY, at timestamptz NOT NULL, v int);
                 INSERT INTO {table} SELECT n, now() - CASE WHEN n <= 5 THEN interval '2 years' ELSE '1 day' END, n
                     FROM generate_series(1, 10) n;
                 GRANT REFERENCES, SELECT ON {table} TO {}", self.mallory
            )).await;
            self.by(
                &self.mallory,
                &sql.replace("{t}", &table).replace("{n}", name),
            )
            .await;
        }
        self.db.execute("ANALYZE").await;
    }

    /// Counted as the owner: asking as a superuser would be the fault itself.
    pub(super) async fn rows(&self, table: &str) -> i64 {
        let client = self.db.connect().await;
        let role = format!("SET SESSION AUTHORIZATION {}", self.mallory);
        client.batch_execute(&role).await.unwrap();
        let count = format!("SELECT count(*) FROM app.{table}");
        client.query_one(&count, &[]).await.unwrap().get(0)
    }

    pub(super) fn url(&self, powerful: &str) -> String {
        match powerful {
            "superuser" => self.db.url.clone(),
            _ => as_role(&self.db.url, &self.keeper),
        }
    }

    /// Nobody's rights have grown, and no code of mallory's ran as somebody else.
    pub(super) async fn nothing_stolen(&self, when: &str) {
        let mallory = &self.mallory;
        let powers =
            format!("SELECT count(*) FROM pg_roles WHERE rolname = '{mallory}' AND rolsuper");
        assert_eq!(
            self.db.number(&powers).await,
            0,
            "{when}: mallory is a superuser"
        );
        assert_eq!(self.rows("loot").await, 0, "{when}: secrets are read");
        assert_eq!(
            self.calls().await,
            0,
            "{when}: code of mallory's ran as somebody else"
        );
    }

    /// How often code ran with the rights of somebody else; told even by
    /// transactions that were rolled back.
    pub(super) async fn calls(&self) -> i64 {
        // A session counts when it ends, and on 14 what it counted is written later.
        self.db.execute("SELECT pg_stat_clear_snapshot()").await;
        crate::support::servers::wait_for_statistics(&self.db.url);
        self.db.number("SELECT coalesce(sum(calls), 0)::int8 FROM pg_stat_user_functions WHERE funcname = 'stolen'").await
    }
}

/// The same database as another role.
pub(super) fn as_role(url: &str, role: &str) -> String {
    let (_, server) = url.split_once('@').unwrap();
    format!("postgres://{role}:x@{server}")
}

pub(super) fn rules(names: impl Iterator<Item = String>) -> String {
    let rules: Vec<String> = names
        .map(|n| format!("  - {{ table: app.{n}, column: at, older_than: 1y }}"))
        .collect();
    format!(
        "kind: cleanup\ntarget: app\noptions:\n  rules:\n{}\n",
        rules.join("\n")
    )
}

/// What findings say of untrusted code.
pub(super) fn told(run: &Value) -> String {
    let findings = run["findings"].as_array().unwrap().iter();
    let told = findings.filter(|f| f["code"] == "role.untrusted_code");
    told.map(|f| format!("{}\n", f["message"].as_str().unwrap()))
        .collect()
}

for_oldest_and_newest! {
    /// Cleanup with every hook: what a DELETE or its planning would run is left
    /// alone and told; the rest is done.
    async fn cleanup_never_lends_its_rights(major: u32) {
        let scene = Scene::set(major).await;
        scene.hang_all().await;
        scene.nothing_stolen("before").await;
        let all = rules(HOOKS.iter().map(|(n, ..)| (*n).to_owned()));
        for powerful in ["member", "superuser"] {
            let workspace = Workspace::for_target(&scene.url(powerful)).task("cleanup", &all);
            let planned = workspace.run(["plan", "cleanup", "--output", "json"]).expect(0).json();
            scene.nothing_stolen(&format!("plan as {powerful}")).await;
            // Said beforehand, in the words of the plan.
            let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
            let messages: Vec<String> = planned["plans"][0]["plan"]["findings"].as_array().unwrap().iter()
                .filter(|f| f["code"] == "role.untrusted_code")
                .map(|f| words(f["message"].as_str().unwrap())).collect();
            assert!(!messages.is_empty(), "{planned:#}");
            let checked = words(&workspace.run(["check", "--connect"]).expect(0).stdout);
            let noted = workspace.run(["check", "--connect", "--output", "json"]).expect(0).json();
            let doctor = words(&workspace.run(["doctor"]).expect(1).stdout);
            scene.nothing_stolen(&format!("check and doctor as {powerful}")).await;
            for message in &messages {
                assert!(checked.contains(&format!("note: task `cleanup` on target `app`: {message}")), "{checked}");
                assert!(noted["notes"].to_string().contains(&message.replace('"', "\\\"")), "{noted:#}");
            }
            for message in messages.iter().take(5) {
                assert!(doctor.contains(message), "{message} in {doctor}");
            }
            workspace.run(["run", "cleanup", "--dry-run"]).expect(0);
            scene.nothing_stolen(&format!("dry run as {powerful}")).await;
            let run = workspace.run(["run", "cleanup", "--now", "--output", "json"]).expect(1).json();
            scene.nothing_stolen(&format!("run as {powerful}")).await;
            let run = &run["runs"][0];
            assert_ne!(run["status"], "succeeded");
            let told = told(run);
            for (name, _, runs) in HOOKS {
                let left = scene.rows(name).await;
                let said = told.contains(&format!("app.{name} left alone"));
                assert_eq!((left, said), if *runs { (10, true) } else { (5, false) }, "{name} as {powerful}: {told}");
            }
            let again = workspace.run(["run", "cleanup", "--now", "--output", "json"]).expect(1).json();
            assert_eq!(again["runs"][0]["rows"], 0, "nothing is left to do");
            assert!(told.contains("trigger x of app.before calls app.trg"), "{told}");
            assert!(told.contains(&format!("code of {}", scene.mallory)), "{told}");
            assert!(told.contains("trust_owners"), "{told}");
        }
    }
}

for_each_version! {
    /// The attack is real: who trusts mallory runs her code, as before.
    async fn trusted_owners_are_trusted(major: u32) {
        let scene = Scene::set(major).await;
        scene.hang_all().await;
        let config = format!(
            "history: sqlite:maint.db\ntargets:\n  app: {{ engine: postgres, url: \"{}\", trust_owners: [{}] }}\n",
            scene.db.url, scene.mallory
        );
        let workspace = Workspace::new(&config).task("cleanup", &rules(["before".to_owned()].into_iter()));
        let run = workspace.run(["run", "cleanup", "--now", "--output", "json"]).expect(0).json();
        assert_eq!(run["runs"][0]["rows"], 5);
        assert!(scene.calls().await > 0, "her trigger fired");
        assert_eq!(scene.db.number(&format!("SELECT count(*) FROM pg_roles WHERE rolname = '{}' AND rolsuper", scene.mallory)).await, 1);
    }
}

for_oldest_and_newest! {
    /// All other kinds, among tables full of such code.
    async fn no_kind_lends_its_rights(major: u32) {
        let scene = Scene::set(major).await;
        scene.hang_all().await;
        scene.by(&scene.mallory, "
            CREATE MATERIALIZED VIEW app.mv AS SELECT id, app.q() AS q FROM app.plain;
            CREATE UNIQUE INDEX ON app.mv (id);
            CREATE TABLE app.parted (id int, at timestamptz NOT NULL) PARTITION BY RANGE (at);
            CREATE TABLE app.parted_old PARTITION OF app.parted FOR VALUES FROM ('2020-01-01') TO ('2020-02-01');
            CREATE TABLE app.parted_rest PARTITION OF app.parted DEFAULT;
            INSERT INTO app.parted SELECT n, now() FROM generate_series(1, 5) n;
            INSERT INTO app.parted SELECT n, '2020-01-02' FROM generate_series(1, 5) n;
            CREATE INDEX ON app.parted_rest ((id + app.q()));
            CREATE TRIGGER x BEFORE INSERT ON app.parted FOR EACH ROW EXECUTE FUNCTION app.trg();
            ALTER TABLE app.parted ADD CHECK (app.q() = 0)").await;
        scene.by(&scene.mallory, "
            CREATE TABLE app.dest (id int DEFAULT app.pwn(), at timestamptz, v app.hostile);
            ALTER TABLE app.dest ALTER v TYPE int;
            CREATE TRIGGER x AFTER INSERT ON app.dest FOR EACH ROW EXECUTE FUNCTION app.trg()").await;
        let archive = |table: &str, to: &str| format!(
            "kind: archive\ntarget: app\noptions: {{ table: app.{table}, column: at, older_than: 1y, destination: {to} }}\n"
        );
        let mut wrong = Vec::new();
        for powerful in ["member", "superuser"] {
            let workspace = Workspace::for_target(&scene.url(powerful));
            let files = format!("{{ files: \"file://{}/files\" }}", workspace.path().display());
            let mut workspace = workspace
                .task("integrity", "kind: integrity\ntarget: app\noptions: { validate: true, amcheck: full }\n")
                .task("partitions", "kind: partitions\ntarget: app\noptions: { tables: [app.parted], interval: month, keep: 1y, move_default_rows: true }\n")
                .task("refresh", "kind: refresh\ntarget: app\noptions: { always: true }\n")
                .task("reindex", "kind: reindex\ntarget: app\noptions: { min_size: 0MB, min_bloat: 0% }\n")
                .task("analyze", "kind: analyze\ntarget: app\n")
                .task("vacuum", "kind: vacuum\ntarget: app\n")
                .task("snapshot", "kind: snapshot\ntarget: app\n")
                .task("into", &archive("plain", "{ table: app.dest }"));
            let mut tasks: Vec<String> = ["integrity", "partitions", "refresh", "reindex", "analyze", "vacuum", "snapshot", "into"]
                .map(str::to_owned)
                .to_vec();
            // Rebuilt concurrently, an index whose predicate is always true has none:
            // with the predicate the code is gone, and the rows may go too.
            for (name, ..) in HOOKS.iter().filter(|(name, _, runs)| *runs && *name != "always") {
                workspace = workspace.task(&format!("file-{name}"), &archive(name, &files));
                tasks.push(format!("file-{name}"));
            }
            workspace = workspace.task("file-parted", &archive("parted", &files));
            tasks.push("file-parted".to_owned());
            for how in [&["plan"][..], &["run", "--dry-run"], &["run", "--now", "--output", "json"]] {
                let (verb, flags) = how.split_first().unwrap();
                let args = std::iter::once(*verb).chain(tasks.iter().map(String::as_str)).chain(flags.iter().copied());
                let output = workspace.run(args);
                scene.nothing_stolen(&format!("{how:?} as {powerful}: {}", output.stderr)).await;
                if !how.contains(&"json") {
                    continue;
                }
                let document = output.json();
                for run in document["runs"].as_array().unwrap() {
                    let (task, said) = (run["task"].as_str().unwrap(), told(run));
                    let mut expect = |holds: bool, what: &str| {
                        if !holds {
                            wrong.push(format!("{task} as {powerful}: {what}: {run:#}"));
                        }
                    };
                    if task == "file-cascade" {
                        // Refused before anybody asks whose code it is: rows would go that nobody archives.
                        expect(run["error"].as_str().is_some_and(|e| e.contains("cascade_child_id_fkey")), "refused");
                    } else if task.starts_with("file-") || matches!(task, "partitions" | "into" | "integrity") {
                        expect(said.contains("left alone"), "left alone");
                    }
                    if let Some(name) = task.strip_prefix("file-") {
                        expect(run["status"] != "succeeded", "not called done");
                        expect(scene.rows(name).await == 10, "all rows are there");
                    }
                    if task == "into" {
                        expect(said.contains("trigger x of app.dest"), "names the trigger");
                    }
                }
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        assert_eq!(scene.rows("plain").await, 10);
    }
}

for_each_version! {
    /// An event trigger whose function is mallory's keeps every command away.
    async fn event_triggers_are_code_too(major: u32) {
        let scene = Scene::set(major).await;
        scene.by(&scene.mallory, "
            CREATE TABLE app.parted (id int, at timestamptz NOT NULL) PARTITION BY RANGE (at);
            CREATE MATERIALIZED VIEW app.mv AS SELECT 1 AS id;
            CREATE FUNCTION app.evt() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN PERFORM app.pwn(); END'").await;
        scene.db.execute("CREATE EVENT TRIGGER hook ON ddl_command_end EXECUTE FUNCTION app.evt()").await;
        let workspace = Workspace::for_target(&scene.db.url)
            .task("partitions", "kind: partitions\ntarget: app\noptions: { tables: [app.parted], interval: month }\n")
            .task("refresh", "kind: refresh\ntarget: app\noptions: { always: true, allow_blocking: true }\n");
        for how in [&["plan"][..], &["run", "--dry-run"], &["run", "--now", "--output", "json"]] {
            let (verb, flags) = how.split_first().unwrap();
            let args = [*verb, "partitions", "refresh"].into_iter().chain(flags.iter().copied());
            let output = workspace.run(args);
            scene.nothing_stolen(&format!("{how:?}")).await;
            if how.contains(&"json") {
                for run in output.json()["runs"].as_array().unwrap() {
                    assert!(told(run).contains("event trigger hook calls app.evt"), "{run:#}");
                    assert_eq!(run["status"], "failed");
                }
            }
        }
    }
}

for_each_version! {
    /// What comes in between the look and the statement is seen under the lock.
    async fn code_that_comes_in_between_is_seen(major: u32) {
        let scene = Scene::set(major).await;
        scene.hang_all().await;
        let mut attacker = scene.db.connect().await;
        attacker.batch_execute(&format!("SET SESSION AUTHORIZATION {}", scene.mallory)).await.unwrap();
        let transaction = attacker.transaction().await.unwrap();
        transaction.batch_execute("CREATE TRIGGER late BEFORE DELETE ON app.plain FOR EACH ROW EXECUTE FUNCTION app.trg()").await.unwrap();
        let task = format!("{}limits: {{ lock_timeout: 30s }}\n", rules(["plain".to_owned()].into_iter()));
        let workspace = Workspace::for_target(&scene.db.url).task("cleanup", &task);
        let mut process = workspace.process(["run", "cleanup", "--now", "--output", "json"]);
        let child = process.stdout(std::process::Stdio::piped()).spawn().unwrap();
        // The look gives up after half a second; the step waits for longer.
        let waiting = "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid)
            WHERE NOT l.granted AND l.relation = 'app.plain'::regclass AND a.application_name LIKE 'maint %'
                AND clock_timestamp() - a.query_start > interval '1 s'";
        let until = Instant::now() + Duration::from_secs(60);
        while scene.db.number(waiting).await == 0 {
            assert!(Instant::now() < until, "the step never waited for the table");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        transaction.commit().await.unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        let step = &document["runs"][0]["steps"][0];
        assert_eq!(step["status"], "failed");
        assert!(step["error"].as_str().unwrap().contains("trigger late of app.plain calls app.trg"), "{step:#}");
        assert_eq!(scene.rows("plain").await, 10);
        scene.nothing_stolen("a trigger in between").await;
    }
}

for_each_version! {
    /// Ordinary people: the code of who connects, of superusers, and of the one
    /// owner whose member a role is works as the application expects.
    async fn ones_own_code_works(major: u32) {
        let db = fresh_database(major).await;
        let (owner, member) = (format!("owner_{}", &db.name[20..]), format!("member_{}", &db.name[20..]));
        db.execute(&format!(
            "CREATE ROLE {owner} LOGIN PASSWORD 'x'; CREATE ROLE {member} LOGIN PASSWORD 'x'; GRANT {owner} TO {member};
             CREATE SCHEMA app; GRANT ALL ON SCHEMA app TO {owner};
             CREATE FUNCTION app.fine() RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN 0; END'"
        )).await;
        for (n, role) in [&owner, &member, &"postgres".to_owned()].into_iter().enumerate() {
            db.execute(&format!(
                "SET SESSION AUTHORIZATION {maker};
                 CREATE TABLE app.t{n} (id int PRIMARY KEY, at timestamptz NOT NULL, CHECK (app.fine() = 0));
                 CREATE INDEX ON app.t{n} ((id + app.fine()));
                 CREATE TABLE app.audit{n} (id int);
                 CREATE FUNCTION app.note{n}() RETURNS trigger LANGUAGE plpgsql AS
                     'BEGIN INSERT INTO app.audit{n} VALUES (OLD.id); RETURN OLD; END';
                 INSERT INTO app.t{n} SELECT n, now() - CASE WHEN n <= 5 THEN interval '2 years' ELSE '1 day' END
                     FROM generate_series(1, 10) n;
                 CREATE TRIGGER note BEFORE DELETE ON app.t{n} FOR EACH ROW EXECUTE FUNCTION app.note{n}()",
                maker = if role == "postgres" { role } else { &owner }
            )).await;
            let url = match role.as_str() {
                "postgres" => db.url.clone(),
                role => as_role(&db.url, role),
            };
            let task = rules([format!("t{n}")].into_iter());
            let workspace = Workspace::for_target(&url).task("cleanup", &task)
                .task("integrity", &format!("kind: integrity\ntarget: app\noptions: {{ include: [\"app.t{n}\"], amcheck: off }}\n"));
            let run = workspace.run(["run", "cleanup", "integrity", "--now", "--output", "json"]).expect(0).json();
            assert_eq!(run["runs"][0]["rows"], 5, "{role}");
            assert_eq!(db.number(&format!("SELECT count(*) FROM app.t{n}")).await, 5, "{role}");
            assert_eq!(db.number(&format!("SELECT count(*) FROM app.audit{n}")).await, 5, "{role}");
            for run in run["runs"].as_array().unwrap() {
                assert_eq!(told(run), "", "{role}");
            }
        }
        // A superuser is more than the owner of t1: the same trigger would run as a superuser.
        let workspace = Workspace::for_target(&db.url).task("cleanup", &rules(["t1".to_owned()].into_iter()));
        let run = workspace.run(["run", "cleanup", "--now", "--output", "json"]).expect(1).json();
        assert_eq!(finding(&run, "role.untrusted_code")["object"], "app.t1");
    }
}

for_each_version! {
    /// A comment proves nothing: what claims to be a partition on its way out
    /// and belongs to somebody else is neither archived nor dropped.
    async fn a_mark_by_somebody_else_counts_for_nothing(major: u32) {
        let scene = Scene::set(major).await;
        let (bob, mallory) = (&scene.bob, &scene.mallory);
        scene.by(bob, "
            CREATE TABLE app.pay (id bigint, at timestamptz NOT NULL, amount int) PARTITION BY RANGE (at);
            CREATE TABLE app.pay_now PARTITION OF app.pay DEFAULT").await;
        let marks = ["maint: expired partition of app.pay", "maint: to be archived, once a partition of app.pay",
            "maint: retired partition of app.pay since 2020-01-01T00:00:00+00:00"];
        for role in [mallory, bob] {
            for (n, mark) in marks.iter().enumerate() {
                scene.by(role, &format!(
                    "CREATE TABLE app.fake{n}_{role} (id bigint, at timestamptz NOT NULL, amount int);
                     INSERT INTO app.fake{n}_{role} VALUES (1, '2020-01-01', 1);
                     COMMENT ON TABLE app.fake{n}_{role} IS '{mark}'"
                )).await;
            }
        }
        let workspace = Workspace::for_target(&scene.db.url);
        let files = format!("file://{}/files", workspace.path().display());
        let workspace = workspace
            .task("cleanup", &rules(["pay".to_owned()].into_iter()))
            .task("partitions", "kind: partitions\ntarget: app\noptions: { tables: [app.pay], interval: month, keep: 1y }\n")
            .task("archive", &format!("kind: archive\ntarget: app\noptions: {{ table: app.pay, column: at, older_than: 1y, destination: {{ files: \"{files}\" }} }}\n"));
        let ran = workspace.run(["run", "cleanup", "partitions", "archive", "--now", "--output", "json"]).expect(0).json();
        let left = "SELECT relname::text FROM pg_class WHERE relname LIKE 'fake%' ORDER BY 1";
        let left = scene.db.strings(left).await;
        let mut expected: Vec<String> = (0..3).flat_map(|n| [mallory, bob].map(|who| format!("fake{n}_{who}"))).collect();
        expected.sort();
        assert_eq!(left, expected, "nothing goes that the history does not know");
        // Of the owner's own it is said what they are and what to do.
        let told: Vec<&str> = ran["runs"].as_array().unwrap().iter()
            .flat_map(|run| run["findings"].as_array().unwrap())
            .filter(|finding| finding["code"] == "partitions.unknown_mark")
            .map(|finding| finding["object"].as_str().unwrap()).collect();
        let mut expected: Vec<String> = (0..3).map(|n| format!("app.fake{n}_{bob}")).collect();
        expected.sort();
        let mut sorted = told.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, expected, "{ran:#}");
    }
}
