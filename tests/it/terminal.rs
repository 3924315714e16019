//! What a person at a terminal meets: pipes, signals, slips, refusals.

use std::io::Read;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::support::pooler::Pooler;
use crate::support::servers::fresh_database;
use crate::support::workspace::{Workspace, maint};

const NOWHERE: &str = "postgres://app:geheim@127.0.0.1:1/app?sslmode=disable";

fn scheduled() -> Workspace {
    Workspace::new(&format!(
        "history: sqlite:maint.db\ntargets:\n  app: {{ engine: postgres, url: \"{NOWHERE}\" }}\n\
         schedules:\n  often: {{ cron: \"* * * * *\", tasks: [analyze] }}\n"
    ))
    .task("analyze", "kind: analyze\ntarget: app\n")
}

/// Whoever reads may have had enough; that is no error, and certainly no panic.
#[test]
fn a_closed_pipe_ends_quietly() {
    let workspace = scheduled();
    let mut child = workspace
        .process(["next", "--count", "10000"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 10];
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut first).unwrap();
    drop(stdout);
    let ended = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&ended.stderr), "");
    assert_eq!(ended.status.code(), Some(0));

    // Nor is it one where nobody reads what goes wrong.
    let mut child = workspace
        .process(["run", "nope"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stderr.take());
    assert_eq!(child.wait().unwrap().code(), Some(2));
}

/// A result that is lost is an error, though.
#[test]
fn a_full_disk_is_told() {
    let full = std::fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let ended = scheduled()
        .process(["next"])
        .stdout(full)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert_eq!(ended.status.code(), Some(1));
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(said.contains("could not be written"), "{said}");
}

/// A terminal that is closed asks to stop as SIGTERM does: cleaned up, recorded. `nohup` still works.
#[tokio::test]
async fn a_closed_terminal_stops_a_run_cleanly() {
    let db = fresh_database(17).await;
    let workspace = Workspace::for_target(&db.url).task(
        "wait",
        "kind: sql\ntarget: app\nlimits: { grace: 1s }\noptions: { statements: [{ name: all, sql: SELECT pg_catalog.pg_sleep(120) }] }\n",
    );
    let asleep = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(120)%' AND pid <> pg_backend_pid() AND state = 'active' AND datname = current_database()";
    for ignored in [false, true] {
        let command = workspace.process(["run", "wait", "--now"]);
        let mut shell = std::process::Command::new("sh");
        // The tests themselves may have been started by `nohup`.
        let how = match ignored {
            true => "trap '' HUP; exec",
            false => "exec env --default-signal=HUP",
        };
        shell.arg("-c").arg(format!("{how} \"$0\" \"$@\""));
        shell.arg(command.get_program()).args(command.get_args());
        shell.current_dir(workspace.path()).env_clear();
        for (name, value) in command.get_envs() {
            shell.env(name, value.unwrap_or_default());
        }
        let mut child = shell
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let until = Instant::now() + Duration::from_secs(30);
        while db.number(asleep).await == 0 {
            assert!(Instant::now() < until, "the statement does not run");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGHUP).unwrap();
        if ignored {
            let until = Instant::now() + Duration::from_secs(3);
            while Instant::now() < until {
                assert!(child.try_wait().unwrap().is_none(), "it has ended");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            assert_eq!(db.number(asleep).await, 1);
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        }
        assert_eq!(child.wait().unwrap().code(), Some(143));
        let shown = workspace
            .run(["show", "last", "--output", "json"])
            .expect(0);
        assert_eq!(shown.json()["runs"][0]["status"], "cancelled");
        assert_eq!(db.number(asleep).await, 0);
    }
}

#[tokio::test]
async fn nothing_runs_that_was_not_named() {
    let db = fresh_database(17).await;
    db.execute("CREATE TABLE t (id int); INSERT INTO t SELECT generate_series(1, 5000)")
        .await;
    let workspace = Workspace::for_target(&db.url)
        .task(
            "analyze",
            "kind: analyze\ntarget: app\ndescription: Statistics\n",
        )
        .task("off", "kind: vacuum\ntarget: app\nenabled: false\n");
    let which = workspace.run(["run"]).expect(2);
    assert!(
        which.stderr.contains("analyze  (analyze)  Statistics"),
        "{which:#?}"
    );
    assert!(
        which.stderr.contains("off  (vacuum, not enabled)"),
        "{which:#?}"
    );
    assert!(which.stderr.contains("maint run --all"), "{which:#?}");
    workspace.run(["run", "--now"]).expect(2);
    let unscheduled = workspace.run(["run", "--all"]).expect(4);
    assert!(
        unscheduled.stderr.contains("no schedule has it"),
        "{unscheduled:#?}"
    );
    assert!(!workspace.history().exists(), "nothing has run");
    let all = workspace
        .run(["run", "--all", "--now", "--output", "json"])
        .expect(0)
        .json();
    let runs = all["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 1);
    assert_eq!(runs[0]["task"], "analyze");
    // Who names one that is off is told so, and gets it.
    let off = workspace.run(["run", "off", "--now"]).expect(0);
    assert!(
        off.stderr.contains("`off` has `enabled: false`"),
        "{off:#?}"
    );

    let empty = Workspace::for_target(&db.url);
    for args in [&["run"][..], &["run", "--all", "--now"]] {
        let none = empty.run(args).expect(2);
        assert!(none.stderr.contains("there are no tasks"), "{none:#?}");
    }
    let none = empty.run(["plan"]).expect(2);
    assert!(none.stderr.contains("there are no tasks"), "{none:#?}");
}

/// What was asked for is not there: that is the caller's slip, not a history out of reach.
#[test]
fn wrong_arguments_exit_2_and_say_what_there_is() {
    let workspace = scheduled();
    for (args, expected) in [
        (&["show", "last"][..], "nothing has run yet"),
        (&["show", "nope"], "nothing has run yet"),
        (&["pause", "ofen"], "did you mean `often`?"),
        (&["report", "--name", "x"], "there are no reports at all"),
        (&["run", "analyse", "--now"], "did you mean `analyze`?"),
        (&["run", "--nwo"], "did you mean `--now`?"),
        (&["run", "--force"], "did you mean `--now`?"),
        (
            &["export", "kubernetes", "--dir", "x"],
            "`maint export kubernetes --help` shows",
        ),
        (
            &["history", "copy", "--form", "x"],
            "`maint history copy --help` shows",
        ),
        (&["plan", "--json"], "did you mean `--output json`?"),
        (&["chek"], "did you mean `check`?"),
        (
            &["history", "--limit", "x"],
            "not a whole number from 1 on, such as 20",
        ),
        (
            &["history", "--limit", "0"],
            "not a whole number from 1 on, such as 20",
        ),
        (&["show", "last", "x"], "not a whole number such as 20"),
        (
            &["run", "analyze", "--target", "apps"],
            "did you mean `app`?",
        ),
        (
            &["archive", "postgres//u:geheim@h/d"],
            "there is no command",
        ),
    ] {
        let ended = workspace.run(args).expect(2);
        assert!(ended.stderr.contains(expected), "{args:?}: {ended:#?}");
        assert!(!ended.stderr.contains("geheim"), "{args:?}: {ended:#?}");
        assert!(!ended.stderr.contains("use '--"), "{args:?}: {ended:#?}");
        assert!(ended.stderr.ends_with('\n') && ended.stdout.is_empty());
    }
    assert!(
        workspace
            .run(["history"])
            .expect(0)
            .stdout
            .starts_with("No runs: ")
    );
    // Now there is a history, with a failed run in it.
    workspace.run(["run", "analyze", "--now"]).expect(3);
    workspace.run(["show", "nope"]).expect(2);
    let none = workspace.run(["history", "--task", "nope"]).expect(0);
    assert!(none.stdout.contains("tasks: analyze"), "{none:#?}");
    let problem = Workspace::new("targts: {}\n").run(["check"]).expect(2);
    assert!(problem.stderr.ends_with('\n'), "{problem:#?}");
}

/// Dead rows are what a vacuum is for: a table that stays as large as it was reads as a failure.
#[tokio::test]
async fn a_vacuum_says_how_many_dead_rows_it_removed() {
    let db = fresh_database(17).await;
    db.execute("CREATE TABLE t (id int); INSERT INTO t SELECT generate_series(1, 20000)")
        .await;
    db.execute("DELETE FROM t WHERE id % 2 = 0").await;
    let workspace = Workspace::for_target(&db.url).task("vacuum", "kind: vacuum\ntarget: app\n");
    let ran = workspace.run(["run", "vacuum", "--now"]).expect(0);
    assert!(ran.stderr.contains(", 10 000 dead rows"), "{ran:#?}");
    assert!(ran.stdout.contains("10 000 dead"), "{ran:#?}");
    let sizes = ran.stdout.lines().filter(|line| line.contains("public.t "));
    assert!(
        sizes.clone().count() == 1 && sizes.clone().all(|line| !line.contains('→')),
        "{ran:#?}"
    );
    let shown = workspace
        .run(["show", "last", "--output", "json"])
        .expect(0)
        .json();
    assert_eq!(shown["runs"][0]["steps"][0]["rows"], 10_000);
}

/// Checks that passed are a number, not a list.
#[tokio::test]
async fn checks_that_passed_are_counted() {
    let db = fresh_database(17).await;
    db.execute("CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (a int REFERENCES a); CREATE EXTENSION amcheck")
        .await;
    let workspace =
        Workspace::for_target(&db.url).task("integrity", "kind: integrity\ntarget: app\n");
    let ran = workspace.run(["run", "integrity", "--now"]).expect(0);
    let first = ran.stdout.lines().next().unwrap();
    assert!(first.contains(" checks, all passed in "), "{ran:#?}");
    assert!(!ran.stdout.contains("public.b"), "{ran:#?}");
}

/// What people write at first is answered with what to write instead.
#[test]
fn slips_in_files_are_answered_with_what_to_write() {
    for (task, expected) in [
        (
            "kind: sql\ntarget: app\noptions: { statements: update x }\n",
            "write `[{ name: …, sql: … }]`",
        ),
        (
            "kind: sql\ntarget: app\noptions: { statements: [update x] }\n",
            "write `{ name: …, sql: … }`",
        ),
        (
            "kind: reindex\ntarget: app\noptions: { min_size: 10M }\n",
            "did you mean `10MB`?",
        ),
        (
            "kind: reindex\ntarget: app\nretries: 3\n",
            "write `{ max: 3 }`",
        ),
        (
            "kind: reindex\ntarget: app\ncron: x\n",
            "said in schedules.yaml",
        ),
    ] {
        let workspace = Workspace::for_target(NOWHERE).task("t", task);
        let said = workspace.run(["check"]).expect(2);
        assert!(said.stderr.contains(expected), "{task}: {said:#?}");
    }
}

/// The history and the calendar need no database.
#[test]
fn what_only_targets_need_may_be_unset_for_who_only_looks() {
    let workspace = Workspace::new(
        "history: sqlite:maint.db\ntargets:\n  app: { engine: postgres, url: \"${NOT_SET_HERE}\" }\n\
         schedules:\n  often: { cron: \"0 1 * * *\", tasks: [analyze] }\n",
    )
    .task("analyze", "kind: analyze\ntarget: app\n");
    assert!(workspace.run(["next"]).expect(0).stdout.contains("often"));
    workspace.run(["history"]).expect(0);
    let check = workspace.run(["check"]).expect(2);
    assert!(
        check.stderr.contains("`NOT_SET_HERE` is not set"),
        "{check:#?}"
    );
    let none = Workspace::for_target(NOWHERE);
    assert!(
        none.run(["next"])
            .expect(0)
            .stdout
            .starts_with("No schedules")
    );
}

/// A password is never shown, however the URL around it is broken.
#[test]
fn no_broken_url_shows_its_password() {
    for url in [
        "postgres//app:S3cret@db/app?sslmode=require",
        "postgres:/app:S3cret@db/app?sslmode=require",
        "postgres:app:S3cret@db/app",
        "app:S3cret@db:5432/app?sslmode=require",
        "jdbc:postgresql://db/app?user=app&password=S3cret",
        "postgres+asyncpg://app:S3cret@db/app",
        "postgres://app:x@S3cret@db/app",
        "postgres://app:S3cret/x@db/app",
        "postgres://app:1?S3cret=1@db/app",
        "postgres://db/app?S3cret @=1",
        "host=db password=my S3cret=x",
        "postgres://app:S3cret%zz@db/app",
        "mysql://app:S3cret@db/app",
    ] {
        let workspace = Workspace::new(&format!(
            "history: sqlite:maint.db\ntargets:\n  app: {{ engine: postgres, url: \"{url}\" }}\n"
        ))
        .task("analyze", "kind: analyze\ntarget: app\n");
        for args in [
            &["check"][..],
            &["check", "--output", "json"],
            &["run", "analyze", "--now"],
            &["plan", "analyze"],
            &["doctor"],
            &["show", "last"],
        ] {
            let ended = workspace.run(args);
            assert_ne!(ended.code, 101, "{url} {args:?}: {ended:#?}");
            assert!(
                !format!("{ended:?}").contains("S3cret"),
                "{url} {args:?}: {ended:#?}"
            );
        }
        workspace.run(["check"]).expect(2);
        let history = Workspace::new(&format!("history: \"{url}\"\ntargets: {{}}\n"));
        for args in [&["check"][..], &["history"], &["run", "--due"]] {
            let ended = history.run(args);
            assert!(
                !format!("{ended:?}").contains("S3cret"),
                "{url} {args:?}: {ended:#?}"
            );
        }
    }
}

/// A URL that makes no sense is found by `check`, with its place; a run of it has failed, is
/// recorded, and the other targets of the group are worked on.
#[tokio::test]
async fn a_url_that_makes_no_sense_is_a_problem_and_a_failed_run() {
    let db = fresh_database(17).await;
    db.execute("CREATE TABLE something (id int)").await;
    let bad = [
        (
            "schema",
            format!("{}&schema=public", db.url),
            "leave `schema` out",
        ),
        ("service", "service=nope".to_owned(), "the service `nope`"),
        (
            "mode",
            "postgres://h/d?sslmode=bogus".to_owned(),
            "gives `sslmode` a value (not shown)",
        ),
    ];
    for (name, url, why) in &bad {
        let workspace = Workspace::new(&format!(
            "history: sqlite:maint.db\nnotify: {{ on: [failed], file: told.jsonl }}\ntargets:\n  good: {{ engine: postgres, url: \"{}\" }}\n  {name}: {{ engine: postgres, url: \"{url}\" }}\ngroups:\n  all: [good, {name}]\n",
            db.url
        ))
        .task("analyze", "kind: analyze\ntarget: all\n");
        let check = workspace.run(["check"]).expect(2);
        assert!(check.stderr.contains("schedules.yaml:5:"), "{check:#?}");
        assert!(
            check.stderr.contains(&format!("`targets.{name}.url`")),
            "{check:#?}"
        );
        assert!(check.stderr.contains(why), "{check:#?}");
        let ran = workspace
            .run(["run", "analyze", "--now", "--output", "json"])
            .expect(2);
        let ran = ran.json();
        let runs = ran["runs"].as_array().unwrap();
        let of = |target: &str| runs.iter().find(|run| run["target"] == target).unwrap();
        assert_eq!(of("good")["status"], "succeeded");
        assert_eq!(of(name)["status"], "failed");
        let error = of(name)["error"].as_str().unwrap();
        assert!(error.contains(&format!("target `{name}`")), "{error}");
        // It is in the history, under the id that is printed, and told.
        for run in runs {
            let id = &run["id"].as_str().unwrap()[..13];
            let shown = workspace
                .run(["show", id, "--output", "json"])
                .expect(0)
                .json();
            assert_eq!(shown["runs"][0]["id"], run["id"]);
        }
        let told = std::fs::read_to_string(workspace.path().join("told.jsonl")).unwrap();
        assert!(told.contains(name), "{told}");
    }
}

#[tokio::test]
async fn looking_at_the_targets_says_what_is_there() {
    let db = fresh_database(17).await;
    db.execute("CREATE TABLE something (id int)").await;
    let workspace = Workspace::for_target(&db.url).task("analyze", "kind: analyze\ntarget: app\n");
    let plain = workspace.run(["check"]).expect(0);
    assert!(
        plain
            .stdout
            .contains("is fine: 1 task, 1 target, 0 schedules"),
        "{plain:#?}"
    );
    let seen = workspace.run(["check", "--connect"]).expect(0);
    assert!(
        seen.stdout.contains("target `app`: PostgreSQL 17."),
        "{seen:#?}"
    );
    assert!(seen.stdout.contains("a superuser"), "{seen:#?}");
    assert!(
        seen.stdout
            .contains("is not there yet; the first run makes it"),
        "{seen:#?}"
    );
    workspace.run(["run", "analyze", "--now"]).expect(0);
    let seen = workspace.run(["check", "--connect"]).expect(0);
    assert!(seen.stdout.contains("the newest run began"), "{seen:#?}");

    let (user, rest) = db.url.split_once("://").unwrap().1.split_once(':').unwrap();
    let place = rest.split_once('@').unwrap().1;
    let workspace = Workspace::for_target(&format!("postgres://{user}:wrong@{place}"))
        .task("analyze", "kind: analyze\ntarget: app\n");
    let refused = workspace.run(["check", "--connect"]).expect(3);
    assert!(!refused.stdout.contains("is fine"), "{refused:#?}");
    assert!(refused.stderr.contains("target `app`"), "{refused:#?}");

    let pooler = Pooler::start(&db, "transaction");
    let workspace =
        Workspace::for_target(&pooler.url).task("analyze", "kind: analyze\ntarget: app\n");
    let refused = workspace.run(["check", "--connect"]).expect(3);
    assert!(
        refused.stderr.contains("a pooler in transaction mode"),
        "{refused:#?}"
    );
}

/// The reason for what did not run is part of the document.
#[test]
fn a_refused_run_has_its_reason_in_the_document() {
    let now = chrono::Utc::now();
    let day = (now + chrono::TimeDelta::days(2)).format("%a");
    let workspace = Workspace::new(&format!(
        "timezone: UTC\nhistory: sqlite:maint.db\ntargets:\n  app: {{ engine: postgres, url: \"{NOWHERE}\" }}\n\
         schedules:\n  yearly: {{ cron: \"0 0 1 1 *\", tasks: [analyze], window: \"{day} 01:00-02:00\" }}\n"
    ))
    .task("analyze", "kind: analyze\ntarget: app\n");
    let refused = workspace
        .run(["run", "analyze", "--output", "json"])
        .expect(4)
        .json();
    assert_eq!(refused["runs"].as_array().unwrap().len(), 0);
    let refused = &refused["not_started"][0];
    assert_eq!(refused["task"], "analyze");
    assert!(
        refused["reason"]
            .as_str()
            .unwrap()
            .contains("outside its window")
    );
}

/// Colour is for terminals: log lines in a file have none.
#[test]
fn log_lines_in_a_file_have_no_colour() {
    for more in [&[][..], &["--color", "never"]] {
        let mut command = maint();
        let workspace = scheduled();
        workspace.file(
            "templates/report/subject.txt.j2",
            "{{ a | no_such_filter }}",
        );
        command
            .current_dir(workspace.path())
            .env_remove("NO_COLOR")
            .env("TERM", "xterm-256color")
            .args(["run", "analyze", "--now"])
            .args(more);
        let output = command.output().unwrap();
        assert!(!output.stderr.is_empty());
        assert!(
            !output.stderr.contains(&0x1b),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}
