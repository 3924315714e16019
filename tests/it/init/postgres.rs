use std::os::unix::fs::PermissionsExt;

use super::{Folder, without_comments};
use crate::settings::role;
use crate::support::servers::{fresh_database, wait_for_statistics};

/// Tables that grow, tables that only look so, partitions of three sorts, views of two.
const PLANTED: &str = r#"
CREATE TABLE events (id bigserial PRIMARY KEY, at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz, payload text);
INSERT INTO events (at, payload) SELECT date_trunc('day', now()) - (n % 1000) * interval '1 day' + (8 + n % 12) * interval '1 hour' + interval '1 second', 'row ' || n FROM generate_series(1, 20000) n;
CREATE INDEX events_at ON events (at);
CREATE TABLE logins (id int, expires_at timestamptz, created_at timestamptz DEFAULT now());
INSERT INTO logins SELECT n, now() + (n % 100 - 50) * interval '1 day' FROM generate_series(1, 12000) n;
CREATE TABLE people (id int PRIMARY KEY, created_at timestamptz DEFAULT now());
INSERT INTO people SELECT generate_series(1, 12000);
CREATE TABLE orders (id int PRIMARY KEY, person int REFERENCES people, born date);
INSERT INTO orders SELECT n, n FROM generate_series(1, 12000) n;
CREATE TABLE counters (id int, created_at timestamptz DEFAULT now(), n int);
INSERT INTO counters SELECT n FROM generate_series(1, 12000) n;
UPDATE counters SET n = 1; UPDATE counters SET n = 2;
CREATE TABLE few (created_at timestamptz DEFAULT now()); INSERT INTO few DEFAULT VALUES;
CREATE SCHEMA "odd ${HOME} . schema";
CREATE TABLE "odd ${HOME} . schema"."a: {""b""} # ${SECRET}
- c" (id int, "on" timestamp DEFAULT now());
INSERT INTO "odd ${HOME} . schema"."a: {""b""} # ${SECRET}
- c" SELECT generate_series(1, 12000);
CREATE TABLE metrics (at date NOT NULL) PARTITION BY RANGE (at);
CREATE TABLE metrics_a PARTITION OF metrics FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE metrics_b PARTITION OF metrics FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
CREATE TABLE clicks (at timestamptz NOT NULL) PARTITION BY RANGE (at);
CREATE TABLE clicks_a PARTITION OF clicks FOR VALUES FROM ('2026-01-01 00:00:00+00') TO ('2026-01-02 00:00:00+00');
CREATE TABLE leaving (at timestamptz DEFAULT now()); INSERT INTO leaving SELECT now() FROM generate_series(1, 12000);
COMMENT ON TABLE leaving IS E'maint: expired partition of public.events\nas public.leaving';
CREATE TABLE leaving_too (at date NOT NULL) PARTITION BY RANGE (at);
CREATE TABLE leaving_too_a PARTITION OF leaving_too FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
COMMENT ON TABLE leaving_too IS 'maint: retired partition of public.metrics since 2026-01-01';
CREATE TABLE regions (region text) PARTITION BY LIST (region);
CREATE TABLE numbered (id bigint) PARTITION BY RANGE (id);
CREATE TABLE fresh (at date) PARTITION BY RANGE (at);
CREATE MATERIALIZED VIEW totals AS SELECT count(*) AS n FROM orders;
CREATE MATERIALIZED VIEW by_person AS SELECT person, count(*) AS n FROM orders GROUP BY 1;
CREATE UNIQUE INDEX ON by_person (person);
"#;

for_versions! {
    [pg14 = 14, pg16 = 16, pg18 = 18]
    /// What is there is seen, and nothing else; the files pass the check, and can be run.
    async fn a_database_becomes_a_configuration(major: u32) {
        let db = fresh_database(major).await;
        db.execute(PLANTED).await;
        db.execute("VACUUM ANALYZE").await;
        db.execute(&format!("ALTER DATABASE {} SET TimeZone = 'Europe/Berlin'", db.name)).await;
        wait_for_statistics(&db.url);
        let folder = Folder::new().env("DATABASE_URL", &db.url);
        let written = folder.run(&["init"]).expect(0);
        let files = folder.files();
        let names: Vec<&str> = files.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            [
                "schedules.yaml", "schema/schedules.json", "schema/task.json", "tasks/analyze.yaml", "tasks/cleanup.yaml",
                "tasks/integrity.yaml", "tasks/partitions-day.yaml", "tasks/partitions-month.yaml", "tasks/refresh-views.yaml",
                "tasks/reindex.yaml", "tasks/repack.yaml", "tasks/snapshot.yaml", "tasks/vacuum.yaml",
            ]
        );
        let password = db.url.split(':').nth(2).unwrap().split('@').next().unwrap();
        for (name, text) in &files {
            assert!(!text.contains(password) && !text.contains("127.0.0.1"), "{name}");
            let mode = std::fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o644, "{name}");
        }
        assert!(!format!("{written:?}").contains(password));
        let schedules = &files["schedules.yaml"];
        assert!(schedules.starts_with("# yaml-language-server: $schema=schema/schedules.json\n"));
        assert!(schedules.contains("url: \"${DATABASE_URL}\""), "{schedules}");
        assert!(schedules.contains("timezone: Europe/Berlin"), "{schedules}");
        // Rows come in from 8 to 20 UTC: the night of every day is as quiet as it can be.
        assert!(schedules.contains("0.0% are between 02:00 and 05:00"), "{schedules}");

        let cleanup = &files["tasks/cleanup.yaml"];
        assert!(cleanup.contains("enabled: false"), "{cleanup}");
        let rules = without_comments(cleanup);
        assert!(rules.contains("{ table: public.events, column: at, older_than: 24mo }"), "{cleanup}");
        assert!(cleanup.contains("% are older than 24mo"), "{cleanup}");
        assert!(rules.contains("{ table: public.logins, column: expires_at, older_than: 0d }"), "{cleanup}");
        assert!(
            rules.contains(r#"{ table: "\"odd $${HOME} . schema\".\"a: {\"\"b\"\"} # $${SECRET}\n- c\"", column: "on", older_than: 12mo, time_zone: Europe/Berlin }"#),
            "{cleanup}"
        );
        assert_eq!(rules.matches("table:").count(), 3, "{cleanup}");
        let month = without_comments(&files["tasks/partitions-month.yaml"]);
        assert!(month.contains("- public.metrics\n  interval: month"), "{month}");
        assert!(!month.contains("time_zone"), "{month}");
        let day = without_comments(&files["tasks/partitions-day.yaml"]);
        assert!(day.contains("- public.clicks\n  interval: day") && day.contains("time_zone: UTC"), "{day}");
        let views = &files["tasks/refresh-views.yaml"];
        assert!(views.contains("2 materialized views") && views.contains("blocked: public.totals."), "{views}");
        for (place, why) in [
            ("public.people", "foreign keys point at it, from public.orders"),
            ("public.regions", "not by range"),
            ("public.numbered", "by a number or a uuid"),
            ("public.fresh", "no partition that would tell"),
            ("public.leaving", "maint has taken it out of its table"),
            ("public.leaving_too", "maint has taken it out of its table"),
        ] {
            let line = written.stdout.lines().find(|line| line.contains(&format!("- {place}:")));
            assert!(line.is_some_and(|line| line.contains(why)), "{place}: {}", written.stdout);
        }
        assert!(!files.values().any(|text| text.contains("public.leaving")));
        for never in ["counters", "public.few", "row 1"] {
            assert!(!files.values().any(|text| text.contains(never)) && !written.stdout.contains(never), "{never}");
        }

        folder.run(&["check"]).expect(0);
        let plan = folder.run(&["plan"]).expect(0);
        assert!(plan.stdout.contains("public.by_person") || plan.stdout.contains("refresh-views"), "{}", plan.stdout);
        let next = folder.run(&["next"]).expect(0);
        assert!(next.stdout.contains("daily") && next.stdout.contains("weekly"), "{}", next.stdout);
        let before = db.number("SELECT count(*)::int8 FROM events").await;
        folder.run(&["run", "--all", "--now"]).expect(0);
        assert_eq!(db.number("SELECT count(*)::int8 FROM events").await, before, "cleanup is not enabled");
        let coming = "SELECT count(*)::int8 FROM pg_inherits WHERE inhparent = 'clicks'::regclass";
        assert!(db.number(coming).await > 14);
        // Looked at once more, with its name: it would delete what it says.
        let would = folder.run(&["plan", "cleanup"]).expect(0);
        assert!(would.stdout.contains("public.events") && would.stdout.contains("public.logins"), "{}", would.stdout);

        let again = folder.run(&["init"]).expect(2);
        assert!(again.stderr.contains("schedules.yaml") && again.stderr.contains("tasks/cleanup.yaml") && again.stderr.contains("are there already"), "{}", again.stderr);
        assert!(again.stdout.is_empty());
        for (name, text) in folder.files() {
            if name.ends_with(".yaml") {
                assert_eq!(files[&name], text, "{name}");
            }
        }
    }
}

/// A database without anything, of a role without anything.
#[tokio::test]
async fn an_empty_database_and_a_role_without_rights() {
    let db = fresh_database(17).await;
    let folder = Folder::new();
    let empty = folder
        .run(&["init", &db.url, "--url-env", "SHOP_URL", "--dir", "a/b"])
        .expect(0);
    assert!(empty.stdout.contains("export SHOP_URL="), "{empty:#?}");
    assert!(
        empty
            .stdout
            .contains("The password was on the command line"),
        "{empty:#?}"
    );
    let password = db.url.split(':').nth(2).unwrap().split('@').next().unwrap();
    assert!(!format!("{empty:?} {:?}", folder.files()).contains(password));
    let schedules = folder.text("a/b/schedules.yaml");
    assert!(schedules.contains("\"${SHOP_URL}\""), "{schedules}");
    assert!(schedules.contains("nights are a guess"), "{schedules}");
    assert!(!folder.path().join("a/b/tasks/cleanup.yaml").exists());
    let unset = folder.run(&["check", "--config", "a/b"]).expect(2);
    assert!(unset.stderr.contains("`SHOP_URL` is not set"), "{unset:#?}");
    let folder = folder.env("SHOP_URL", &db.url);
    folder.run(&["plan", "--config", "a/b"]).expect(0);
    // Whoever meant a database that is filled is to notice.
    let none = folder
        .run(&["run", "--all", "--now", "--config", "a/b"])
        .expect(1);
    assert!(none.stdout.contains("has no table"), "{none:#?}");
    db.execute("CREATE TABLE first (id int)").await;
    folder
        .run(&["run", "--all", "--now", "--config", "a/b"])
        .expect(0);

    db.execute("DROP TABLE first; CREATE TABLE mine (id int PRIMARY KEY, created_at timestamptz DEFAULT now()); INSERT INTO mine SELECT generate_series(1, 12000); ANALYZE mine")
        .await;
    let (name, url) = role(&db, "").await;
    let folder = Folder::new().env("DATABASE_URL", &url);
    let poor = folder.run(&["init"]).expect(0);
    assert!(
        poor.stdout
            .contains("The role sees no statistics of 1 table:")
            && poor.stdout.contains(&format!("TO {name}")),
        "{poor:#?}"
    );
    assert!(
        folder
            .text("tasks/cleanup.yaml")
            .contains("how far the rows go back is not known"),
        "{poor:#?}"
    );
    folder.run(&["check"]).expect(0);
}

/// Defaults, policies, views and functions of others are looked at, and never run.
#[tokio::test]
async fn nothing_of_others_is_evaluated() {
    let db = fresh_database(17).await;
    db.execute("CREATE TABLE evil (id int);
        CREATE FUNCTION spy() RETURNS timestamptz LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.evil VALUES (1); RETURN pg_catalog.now(); END $$;
        CREATE TABLE log (id int, created_at timestamptz DEFAULT spy(), CHECK (created_at <= spy()));
        ALTER TABLE log DISABLE TRIGGER ALL;
        INSERT INTO log SELECT n, '2020-01-01' FROM generate_series(1, 12000) n; ANALYZE log;
        CREATE SCHEMA cron; CREATE SCHEMA partman;
        CREATE VIEW cron.job AS SELECT 1 AS jobid, spy()::text AS schedule, '' AS command, '' AS database, '' AS username, true AS active, '' AS jobname;
        CREATE VIEW partman.part_config AS SELECT spy()::text AS parent_table;
        CREATE FUNCTION public.format(text, name, name) RETURNS text LANGUAGE sql AS $$ SELECT public.spy()::text $$;
        TRUNCATE evil").await;
    let folder = Folder::new().env("DATABASE_URL", &db.url);
    folder.run(&["init"]).expect(0);
    for from in ["pg_cron", "pg_partman"] {
        let none = folder
            .run(&["init", "--from", from, "--dir", from])
            .expect(2);
        assert!(
            none.stderr.contains(&format!("there is no {from}")),
            "{none:#?}"
        );
    }
    assert_eq!(db.number("SELECT count(*)::int8 FROM evil").await, 0);
}

/// What is missing, wrong or in the way is said, and nothing is written.
#[tokio::test]
async fn what_keeps_it_from_writing_is_said() {
    let folder = Folder::new();
    let welcome = folder.run(&[]).expect(2);
    assert!(welcome.stdout.contains("maint init URL"), "{welcome:#?}");
    for (args, code, why) in [
        (&["init"][..], 2, "which database?"),
        (
            &["init", "--url-env", "NOT_SET"],
            2,
            "the variable NOT_SET is not set",
        ),
        (
            &["init", "--url-env", "a b", "postgres://h/d"],
            2,
            "is no name of a variable",
        ),
        (
            &[
                "init",
                "postgres://app:geheim@127.0.0.1:1/app?sslmode=disable",
            ],
            3,
            "127.0.0.1",
        ),
        (
            &["init", "jdbc:postgresql://h/d?password=geheim"],
            2,
            "does not start with `postgres://`",
        ),
        (&["init", "--from", "crontab"], 2, "which crontab?"),
        (
            &["init", "--from", "crontab", "nowhere"],
            2,
            "nowhere cannot be read",
        ),
        (
            &["init", "--from", "pg_cron", "mongodb://h/d"],
            2,
            "this URL is of MongoDB",
        ),
    ] {
        let said = folder.run(args).expect(code);
        assert!(said.stderr.contains(why), "{args:?}: {said:#?}");
        assert!(!format!("{said:?}").contains("geheim"), "{args:?}");
        assert!(folder.files().is_empty(), "{args:?}");
    }
    // A task that is there would be read with the new ones.
    let db = fresh_database(17).await;
    std::fs::create_dir(folder.path().join("tasks")).unwrap();
    std::fs::write(folder.path().join("tasks/mine.yaml"), "kind: x\n").unwrap();
    let there = folder.run(&["init", &db.url]).expect(2);
    assert!(
        there.stderr.contains("tasks/mine.yaml is there already"),
        "{there:#?}"
    );
    assert_eq!(folder.files().len(), 1);
    // One that cannot be written leaves nothing behind.
    let document = folder
        .run(&["init", &db.url, "--dir", "ok", "--output", "json"])
        .expect(0)
        .json();
    assert_eq!(document["variables"][0], "DATABASE_URL");
    assert!(
        document["files"]
            .as_array()
            .unwrap()
            .iter()
            .any(|file| file == "tasks/vacuum.yaml")
    );
    std::fs::write(folder.path().join("blocked"), "").unwrap();
    folder.run(&["init", &db.url, "--dir", "blocked"]).expect(1);
}

/// Beside the files that the package ships, and that nobody has touched, a draft is written in
/// their place, with the history where the service may write; what somebody changed stays.
#[tokio::test]
async fn the_packages_own_files_give_way() {
    let db = fresh_database(17).await;
    db.execute("CREATE TABLE t (id int PRIMARY KEY, note text)")
        .await;
    let package = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/debian");
    let names = [
        "schedules.yaml",
        "tasks/analyze.yaml",
        "tasks/reindex.yaml",
        "tasks/vacuum.yaml",
    ];
    let folder = Folder::new().env("DATABASE_URL", &db.url);
    std::fs::create_dir(folder.path().join("tasks")).unwrap();
    let ship = |name: &str| std::fs::copy(package.join(name), folder.path().join(name)).unwrap();
    for name in names {
        ship(name);
    }
    let alone = folder.run(&[]).expect(0).stdout;
    assert!(alone.contains("maint init --dir"), "{alone}");
    // What somebody has changed is theirs, and then nothing is written at all.
    let own = folder.path().join("tasks/vacuum.yaml");
    std::fs::write(&own, "kind: vacuum\ntarget: app\n").unwrap();
    let before = folder.files();
    let refused = folder.run(&["init", "--dir", "."]).expect(2).stderr;
    assert!(
        refused.contains("tasks/vacuum.yaml is there already"),
        "{refused}"
    );
    assert_eq!(folder.files(), before);
    ship("tasks/vacuum.yaml");
    let written = folder.run(&["init", "--dir", "."]).expect(0).stdout;
    assert!(written.contains("have given way"), "{written}");
    let files = folder.files();
    let schedules = &files["schedules.yaml"];
    assert!(
        schedules.contains("history: sqlite:/var/lib/maint/maint.db\n"),
        "{schedules}"
    );
    assert_ne!(
        *schedules,
        std::fs::read_to_string(package.join("schedules.yaml")).unwrap()
    );
    folder.run(&["check"]).expect(0);
    let alone = folder.run(&[]).expect(0).stdout;
    assert!(!alone.contains("maint init"), "{alone}");
    // A second time it is somebody's work.
    folder.run(&["init", "--dir", "."]).expect(2);
    assert_eq!(folder.files(), files);
}

/// Whatever is counted in a file is named there, up to five, with the reason.
#[tokio::test]
async fn what_is_counted_is_named() {
    let db = fresh_database(17).await;
    for n in 1..=7 {
        db.execute(&format!(
            "CREATE TABLE t{n} (id int, note text); INSERT INTO t{n} SELECT g, md5(g::text) FROM generate_series(1, 200000) g;
             CREATE INDEX t{n}_note ON t{n} (note); DELETE FROM t{n} WHERE id % 20 <> 0"
        ))
        .await;
    }
    db.execute("VACUUM ANALYZE").await;
    let folder = Folder::new().env("DATABASE_URL", &db.url);
    folder.run(&["init"]).expect(0);
    let reindex = &folder.files()["tasks/reindex.yaml"];
    let text: String = reindex
        .split_whitespace()
        .filter(|word| *word != "#")
        .collect::<Vec<_>>()
        .join(" ");
    assert!(text.contains("7 steps"), "{reindex}");
    assert!(
        text.contains("reindex public.t1_note: ") && text.contains("% bloat"),
        "{reindex}"
    );
    assert_eq!(text.matches("reindex public.t").count(), 5, "{reindex}");
    assert!(text.contains("and 2 more"), "{reindex}");
    folder.run(&["check"]).expect(0);
}
