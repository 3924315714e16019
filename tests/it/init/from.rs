use super::{Folder, without_comments};
use crate::support::servers::{connect, fresh_database, private_cluster};

const CRONTAB: &str = r#"MAILTO=dba@example.com
CRON_TZ=Europe/Berlin
30 3 * * * psql -d shop -c "DELETE FROM public.sessions WHERE created_at < now() - interval '90 days'" >/dev/null 2>&1
0 4 * * SUN vacuumdb --analyze shop
0 5 1 * * psql postgres://app:geheim@db/shop -c 'REFRESH MATERIALIZED VIEW CONCURRENTLY public.mv'
0 6 * * * pg_dump shop > /backup/shop.sql
*/10 * * * * /opt/job.sh --password=geheim
"#;

/// What is set around a command says which database it is for, or is told.
#[test]
fn variables_of_a_crontab_are_heeded() {
    let folder = Folder::new();
    let crontab = "PGHOST=db1\nPGDATABASE=shop\n\
        0 3 * * * psql -c \"DELETE FROM ev WHERE at < now() - interval '90 days'\"\n\
        5 3 * * * PGDATABASE=two psql -c \"DELETE FROM ev WHERE at < now() - interval '9 days'\"\n\
        6 3 * * * env PGPORT=6000 vacuumdb two\n\
        7 3 * * * PGOPTIONS='-c search_path=tenant7' psql -c \"DELETE FROM ev WHERE at < now() - interval '1 day'\"\n\
        PGSERVICE=other\n\
        8 3 * * * psql -c \"DELETE FROM ev WHERE at < now() - interval '2 days'\"\n";
    let written = folder
        .run_with(&["init", "--from", "crontab", "-"], crontab)
        .expect(0);
    let files = folder.files();
    let mut targets: Vec<(String, String)> = Vec::new();
    for (name, text) in files.iter().filter(|(name, _)| name.starts_with("tasks/")) {
        let target = text.lines().find_map(|line| line.strip_prefix("target: "));
        let older = text.split("older_than: ").nth(1);
        let older = older.map_or(name.as_str(), |rest| {
            rest.split([' ', '}', ',']).next().unwrap()
        });
        targets.push((older.to_owned(), target.unwrap().to_owned()));
    }
    targets.sort();
    let of = |what: &str| {
        &targets
            .iter()
            .find(|(older, _)| older.starts_with(what))
            .unwrap()
            .1
    };
    assert_eq!(targets.len(), 3, "{targets:?}");
    assert!(
        of("90d") != of("9d") && of("9d") != of("tasks/vacuum"),
        "{targets:?}"
    );
    for (line, why) in [
        ("line 6", "`PGOPTIONS` is set"),
        ("line 8", "`PGSERVICE` is set"),
    ] {
        let told = written.stdout.lines().find(|told| told.contains(line));
        assert!(
            told.is_some_and(|told| told.contains(why)),
            "{}",
            written.stdout
        );
    }
}

/// Each line is a task that does the same, or is told with its reason.
#[test]
fn a_crontab_becomes_tasks() {
    let folder = Folder::new();
    let written = folder
        .run_with(&["init", "--from", "crontab", "-"], CRONTAB)
        .expect(0);
    let files = folder.files();
    assert!(!format!("{written:?} {files:?}").contains("geheim"));
    let schedules = &files["schedules.yaml"];
    assert!(schedules.contains("timezone: Europe/Berlin"), "{schedules}");
    // Two ways to get there are two targets: nobody knows that they are the same.
    assert!(
        schedules.contains("\"${SHOP_URL}\"") && schedules.contains("\"${SHOP_2_URL}\""),
        "{schedules}"
    );
    assert!(
        schedules.contains("cron: \"30 3 * * *\"\n    tasks: [cleanup-sessions]"),
        "{schedules}"
    );
    assert!(
        schedules.contains("cron: \"0 4 * * SUN\"\n    tasks: [vacuum, analyze]"),
        "{schedules}"
    );
    let cleanup = without_comments(&files["tasks/cleanup-sessions.yaml"]);
    assert!(
        cleanup.contains("{ table: public.sessions, column: created_at, older_than: 90d }"),
        "{cleanup}"
    );
    assert!(cleanup.contains("enabled: false"), "{cleanup}");
    for (line, why) in [
        ("line 6", "a backup"),
        ("line 7", "`job.sh` is not known here"),
    ] {
        let told = written.stdout.lines().find(|told| told.contains(line));
        assert!(
            told.is_some_and(|told| told.contains(why)),
            "{}",
            written.stdout
        );
    }
    let folder = folder
        .env("SHOP_URL", "postgres://localhost/shop")
        .env("SHOP_2_URL", "postgres://localhost/shop");
    folder.run(&["check"]).expect(0);

    let nothing = Folder::new();
    let said = nothing
        .run_with(&["init", "--from", "crontab", "-"], "0 1 * * * /bin/true\n")
        .expect(2);
    assert!(
        said.stdout.contains("line 1") && said.stderr.contains("nothing was written"),
        "{said:#?}"
    );
    assert!(nothing.files().is_empty());
}

/// A line that makes no task is told, and takes nothing from the others; a value of an option is no
/// database, and what is left out of a command is said.
#[test]
fn a_line_that_makes_no_task_costs_no_other() {
    let folder = Folder::new();
    let crontab = "1 3 * * * psql shop -c 'DELETE FROM ev WHERE at < now() - interval $$9 days$$ AND tenant = $1'\n\
        2 3 * * * psql shop -c \"DELETE FROM ev WHERE at < now() - interval '90 days' AND id NOT IN (SELECT ev_id FROM audit)\"\n\
        3 3 * * * vacuumdb --freeze --min-xid-age 1000000 --no-index-cleanup shop\n\
        4 3 * * * reindexdb --tablespace fast shop\n\
        5 3 * * * vacuumdb 2024\n\
        6 3 * * * vacuumdb --not-known-yet 7 shop\n";
    let written = folder
        .run_with(&["init", "--from", "crontab", "-"], crontab)
        .expect(0);
    for (line, why) in [
        ("line 1", "a placeholder (`$1`)"),
        ("line 6", "`--not-known-yet` of vacuumdb is not known here"),
    ] {
        let from = written.stdout.find(&format!("- {line}:"));
        let told = from.map(|at| &written.stdout[at..]).unwrap_or_default();
        let told = told.split("\n  - ").next().unwrap();
        let told = told.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(told.contains(why), "{told}\n{}", written.stdout);
    }
    let files = folder.files();
    let tasks = files.iter().filter(|(name, _)| name.starts_with("tasks/"));
    let names: Vec<&str> = tasks.map(|(name, _)| name.as_str()).collect();
    assert_eq!(names.len(), 4, "{names:?}");
    let text = |name: &str| {
        let text = folder.text(&format!("tasks/{name}.yaml"));
        text.replace("\n# ", " ")
    };
    let schedules = &files["schedules.yaml"];
    assert!(
        schedules.contains("  shop: {") && schedules.contains("  db-2024: {"),
        "{schedules}"
    );
    assert!(!schedules.contains("1000000"), "{schedules}");
    let names = files.keys().cloned().collect::<Vec<_>>().join(" ");
    let cleanup = names
        .split(' ')
        .find_map(|name| name.strip_prefix("tasks/cleanup"))
        .map(|rest| text(&format!("cleanup{}", rest.trim_end_matches(".yaml"))));
    let cleanup = cleanup.unwrap();
    assert!(
        cleanup.contains("older_than: 90d") && cleanup.contains("such as public.audit,"),
        "{cleanup}"
    );
    let vacuum = text("vacuum");
    for said in [
        "target: shop",
        "`--min-xid-age 1000000` is left out",
        "`--no-index-cleanup` is left out",
        "FREEZE: rows are frozen when they are old",
    ] {
        assert!(vacuum.contains(said), "{said}: {vacuum}");
    }
    let reindex = text("reindex");
    assert!(
        reindex.contains("target: shop") && reindex.contains("`--tablespace fast` is left out"),
        "{reindex}"
    );
    let folder = folder
        .env("SHOP_URL", "postgres://localhost/shop")
        .env("DB_2024_URL", "postgres://localhost/2024");
    folder.run(&["check"]).expect(0);
}

/// Of which type a column is a crontab does not say: what that may cost is said in the task, which is
/// off. And a schedule is called what it is.
#[test]
fn what_a_crontab_does_not_say_is_said() {
    let folder = Folder::new();
    let crontab = "PGDATABASE=shop\n*/5 * * * * psql -c \"DELETE FROM public.carts WHERE touched < now() - interval '1 day'\"\n";
    folder
        .run_with(&["init", "--from", "crontab", "-"], crontab)
        .expect(0);
    let files = folder.files();
    let task = &files["tasks/cleanup-carts.yaml"];
    let words = task.replace("\n# ", " ");
    assert!(
        words.contains("is of type timestamp (without time zone), the rule needs `time_zone`"),
        "{task}"
    );
    assert!(without_comments(task).contains("enabled: false"), "{task}");
    let schedules = files["schedules.yaml"].replace("\n# ", " ");
    assert!(
        schedules.contains("1 line with a command") && schedules.contains("frequent:"),
        "{schedules}"
    );
    assert!(!schedules.contains("hourly"), "{schedules}");
}

/// Nothing that deletes is switched on, whatever it came with: a copy that is made first is not
/// made by who only deletes.
#[tokio::test]
async fn archive_then_delete_deletes_nothing() {
    let db = fresh_database(17).await;
    db.execute(
        "CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, at timestamptz NOT NULL);
         CREATE TABLE s.kept (id int PRIMARY KEY, at timestamptz NOT NULL);
         INSERT INTO s.t SELECT n, now() - interval '1 year' FROM generate_series(1, 100) n",
    )
    .await;
    let copy = "INSERT INTO s.kept SELECT * FROM s.t WHERE at < now() - interval '90 days'";
    let delete = "DELETE FROM s.t WHERE at < now() - interval '90 days'";
    for (crontab, behind) in [
        (format!("0 1 * * * psql -c \"{copy}; {delete}\"\n"), true),
        (
            format!("0 1 * * * psql -c \"{copy}\" -c \"{delete}\"\n"),
            true,
        ),
        (
            format!("0 1 * * * psql -c \"{copy}\"\n5 1 * * * psql -c \"{delete}\"\n"),
            false,
        ),
    ] {
        let folder = Folder::new().env("DATABASE_URL", &db.url);
        folder
            .run_with(&["init", "--from", "crontab", "-"], &crontab)
            .expect(0);
        let cleanup = folder.text("tasks/cleanup-t.yaml");
        assert!(
            cleanup.contains("\nenabled: false\n") && cleanup.contains("# "),
            "{cleanup}"
        );
        assert_eq!(cleanup.contains("`kind: archive`"), behind, "{cleanup}");
        folder.run(&["check"]).expect(0);
        folder.run(&["run", "--all", "--now"]);
        assert_eq!(
            db.number("SELECT count(*) FROM s.t").await,
            100,
            "{crontab}"
        );
        assert_eq!(
            db.number("SELECT count(*) FROM s.kept").await,
            0,
            "{crontab}"
        );
    }
}

const PG_CRON: &str = r#"CREATE SCHEMA cron;
CREATE TABLE cron.job (jobid bigserial PRIMARY KEY, schedule text NOT NULL, command text NOT NULL, nodename text DEFAULT 'localhost',
    nodeport int DEFAULT current_setting('port')::int, database text NOT NULL, username text NOT NULL, active bool NOT NULL DEFAULT true, jobname name);
"#;

const PG_PARTMAN: &str = r#"CREATE SCHEMA "part man";
CREATE TABLE "part man".part_config (parent_table text PRIMARY KEY, control text NOT NULL, partition_interval text NOT NULL,
    partition_type text NOT NULL DEFAULT 'range', premake int NOT NULL DEFAULT 4, automatic_maintenance text NOT NULL DEFAULT 'on',
    retention text, retention_schema text, retention_keep_table bool NOT NULL DEFAULT true, epoch text NOT NULL DEFAULT 'none',
    undo_in_progress bool NOT NULL DEFAULT false);
CREATE TABLE "part man".part_config_sub (sub_parent text PRIMARY KEY);
"#;

/// A server with extensions of these names: only the tables of real ones are read.
async fn with_extensions() -> (maint::demo::Cluster, tempfile::TempDir, String) {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let extensions = folder.path().join("extension");
    std::fs::create_dir(&extensions).unwrap();
    std::fs::set_permissions(&extensions, std::fs::Permissions::from_mode(0o755)).unwrap();
    for (name, sql) in [("pg_cron", PG_CRON), ("pg_partman", PG_PARTMAN)] {
        for (file, text) in [
            // As pg_partman's own: whoever owns a database may install it.
            (
                format!("{name}.control"),
                "default_version = '1.0'\nsuperuser = false\n",
            ),
            (format!("{name}--1.0.sql"), sql),
        ] {
            let path = extensions.join(file);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        }
    }
    let path = format!("{}:$system", folder.path().display());
    let cluster = private_cluster(18, &[("extension_control_path", &path)]);
    let url = cluster.url("postgres");
    let client = connect(&url).await;
    client
        .batch_execute("CREATE EXTENSION pg_cron; CREATE EXTENSION pg_partman")
        .await
        .unwrap();
    (cluster, folder, url)
}

/// An extension's table has an owner like any other, who may hang code on it: what only reads
/// the table has the planner evaluate it.
#[tokio::test]
async fn an_extension_of_somebody_is_theirs() {
    let (cluster, _extensions, url) = with_extensions().await;
    let client = connect(&url).await;
    for sql in [
        "CREATE ROLE mallory LOGIN PASSWORD 'x'",
        "CREATE DATABASE hers OWNER mallory",
        "ALTER DATABASE hers SET track_functions = 'pl'",
    ] {
        client.batch_execute(sql).await.unwrap();
    }
    let hers = cluster.url("hers");
    let place = hers.split_once('@').unwrap().1;
    let owner = connect(&format!("postgres://mallory:x@{place}")).await;
    owner
        .batch_execute(
            r#"CREATE EXTENSION pg_partman; CREATE EXTENSION pg_cron;
            INSERT INTO "part man".part_config (parent_table, control, partition_interval) VALUES ('public.ev', 'at', '1 mon');
            CREATE SCHEMA app;
            CREATE FUNCTION app.stolen() RETURNS void LANGUAGE plpgsql AS 'BEGIN END';
            CREATE FUNCTION app.q() RETURNS int LANGUAGE plpgsql IMMUTABLE AS
                $$BEGIN IF current_user <> 'mallory' THEN PERFORM app.stolen(); END IF; RETURN 0; END$$;
            CREATE INDEX ON "part man".part_config ((premake + app.q()));
            CREATE INDEX ON "part man".part_config_sub ((length(sub_parent) + app.q()));
            CREATE STATISTICS cron.hook ON (jobid + app.q()), jobid FROM cron.job"#,
        )
        .await
        .unwrap();
    let client = connect(&hers).await;
    let calls = async || {
        let sql = "SELECT coalesce(sum(calls), 0)::int8 FROM pg_stat_user_functions WHERE funcname = 'stolen'";
        client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0)
    };
    let folder = Folder::new().env("DATABASE_URL", &hers);
    for (from, table) in [
        ("pg_partman", r#""part man".part_config"#),
        ("pg_cron", "cron.job"),
    ] {
        let said = folder
            .run(&["init", "--from", from, "--dir", from])
            .expect(2);
        assert!(
            said.stderr.contains(&format!(
                "{table} is not read: with the rights of postgres that would run code of others"
            )) && said.stderr.contains("app.q (code of mallory)"),
            "{said:#?}"
        );
    }
    folder.run(&["init", "--dir", "plain"]);
    assert_eq!(calls().await, 0);
    // For its owner it is no risk; and the trap works.
    let own = Folder::new().env("DATABASE_URL", &format!("postgres://mallory:x@{place}"));
    own.run(&["init", "--from", "pg_partman"]).expect(0);
    client
        .batch_execute(r#"SET track_functions = 'pl'; SELECT * FROM "part man".part_config"#)
        .await
        .unwrap();
    let patience = crate::support::patience::Patience::until("the trap to be counted");
    while calls().await == 0 {
        client
            .batch_execute("SELECT pg_stat_force_next_flush()")
            .await
            .unwrap();
        patience.pause().await;
    }
}

#[tokio::test]
async fn pg_cron_and_pg_partman_become_tasks() {
    let (_cluster, _extensions, url) = with_extensions().await;
    let client = connect(&url).await;
    client
        .batch_execute(
            r#"INSERT INTO cron.job (schedule, command, database, username, active, jobname) VALUES
            ('0 3 $ * *', $$DELETE FROM app.log WHERE at < now() - interval '6 months'$$, 'postgres', 'postgres', true, 'old log'),
            ('30 seconds', 'SELECT 1', 'postgres', 'postgres', true, NULL),
            ('0 4 * * *', 'VACUUM app.log', 'postgres', 'postgres', false, NULL),
            ('0 5 * * *', 'CALL "part man".run_maintenance_proc()', 'postgres', 'postgres', true, NULL),
            ('0 6 * * *', 'UPDATE app.t SET a = ''x;y'' WHERE b', 'postgres', 'postgres', true, NULL);
            CREATE TABLE events (at timestamptz NOT NULL) PARTITION BY RANGE (at);
            CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM ('2026-01-01 00:00:00+00') TO ('2026-02-01 00:00:00+00');
            INSERT INTO "part man".part_config (parent_table, control, partition_interval, premake, retention, retention_keep_table) VALUES
            ('public.events', 'at', '1 mon', 5, '1 year', false), ('public.ids', 'id', '10000', 4, NULL, true)"#,
        )
        .await
        .unwrap();
    let folder = Folder::new().env("DATABASE_URL", &url);
    let cron = folder
        .run(&["init", "--from", "pg_cron", "--dir", "c"])
        .expect(0);
    let schedules = folder.text("c/schedules.yaml");
    assert!(
        schedules.contains("timezone: UTC") && schedules.contains("cron: \"0 3 L * *\""),
        "{schedules}"
    );
    assert!(schedules.contains("\"${DATABASE_URL}\""), "{schedules}");
    let cleanup = folder.text("c/tasks/cleanup-log.yaml");
    assert!(
        cleanup.contains("{ table: app.log, column: at, older_than: 6mo }"),
        "{cleanup}"
    );
    assert!(cleanup.contains("job 1 (old log)"), "{cleanup}");
    assert!(cleanup.contains("\nenabled: false"), "{cleanup}");
    assert!(
        folder
            .text("c/tasks/vacuum-app-log.yaml")
            .contains("enabled: false")
    );
    let own = folder.text("c/tasks/sql-update.yaml");
    assert!(
        own.contains(r#"sql: "UPDATE app.t SET a = 'x;y' WHERE b""#)
            && own.contains("enabled: false"),
        "{own}"
    );
    for (job, why) in [
        ("job 2", "once a minute"),
        ("job 4", "pg_partman's maintenance"),
    ] {
        let told = cron.stdout.lines().find(|told| told.contains(job));
        assert!(
            told.is_some_and(|told| told.contains(why)),
            "{}",
            cron.stdout
        );
    }
    folder.run(&["check", "--config", "c"]).expect(0);

    // Jobs of another server are another target's, be it the only one.
    client
        .batch_execute("UPDATE cron.job SET nodename = 'worker-7.internal', nodeport = 6432; UPDATE \"part man\".part_config SET undo_in_progress = parent_table = 'public.ids'")
        .await
        .unwrap();
    folder
        .run(&["init", "--from", "pg_cron", "--dir", "n"])
        .expect(0);
    let schedules = folder.text("n/schedules.yaml");
    assert!(
        schedules.contains("worker-7.internal") && !schedules.contains("\"${DATABASE_URL}\""),
        "{schedules}"
    );

    let partman = folder
        .run(&["init", "--from", "pg_partman", "--dir", "p"])
        .expect(0);
    let events = without_comments(&folder.text("p/tasks/partitions-events.yaml"));
    assert!(
        events.contains("tables: [\"public.events\"]\n  interval: month\n  ahead: 5\n")
            && !events.contains("keep:")
            && !events.contains("enabled"),
        "{events}"
    );
    let told = folder.text("p/tasks/partitions-events.yaml");
    assert!(told.contains("`keep: 1y`"), "{told}");
    assert!(
        partman.stdout.contains("public.ids: every 10000"),
        "{}",
        partman.stdout
    );
    folder.run(&["check", "--config", "p"]).expect(0);
    folder.run(&["plan", "--config", "p"]).expect(0);
    // Together with what is there today.
    let both = folder.run(&["init", "--dir", "both"]).expect(0);
    assert!(
        both.stdout.contains("maint init --from pg_cron"),
        "{}",
        both.stdout
    );
    assert!(
        folder
            .text("both/tasks/partitions.yaml")
            .contains("enabled: false")
    );

    // Whoever may not read them is told what would help.
    client
        .batch_execute("CREATE ROLE poor LOGIN PASSWORD 'x'")
        .await
        .unwrap();
    let place = url.split_once('@').unwrap().1;
    let poor = Folder::new().env("DATABASE_URL", &format!("postgres://poor:x@{place}"));
    let said = poor.run(&["init", "--from", "pg_cron"]).expect(2);
    assert!(
        said.stderr.contains("GRANT SELECT ON cron.job TO poor"),
        "{said:#?}"
    );
    let said = poor.run(&["init", "--from", "pg_partman"]).expect(2);
    assert!(
        said.stderr
            .contains(r#"GRANT USAGE ON SCHEMA "part man" TO poor"#),
        "{said:#?}"
    );
}
