//! Programs before and after a run, and an occurrence.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::support::patience::Patience;
use crate::support::servers::{TestDatabase, fresh_database};
use crate::support::workspace::Workspace;

const ANALYZED: &str = "SELECT count(*) FROM pg_stats WHERE tablename = 't'";

async fn unanalyzed() -> TestDatabase {
    let db = fresh_database(17).await;
    db.execute("CREATE TABLE t (id int); INSERT INTO t SELECT generate_series(1, 5000)")
        .await;
    db
}

fn workspace(url: &str, commands: &Value) -> Workspace {
    Workspace::for_target(url).task(
        "analyze",
        &format!("kind: analyze\ntarget: app\ncommands: {commands}\n"),
    )
}

fn shell(script: &str) -> Value {
    json!({ "run": ["sh", "-c", script] })
}

fn run(workspace: &Workspace, code: i32) -> Value {
    let ran = workspace.run(["run", "analyze", "--now", "--output", "json"]);
    ran.expect(code).json()["runs"][0].clone()
}

/// What was told of the programs, as `code object: message`.
fn told(run: &Value) -> Vec<String> {
    let findings = run["findings"].as_array().unwrap().iter();
    findings
        .filter(|one| one["code"].as_str().unwrap().starts_with("command."))
        .map(|one| {
            let text = |key: &str| one[key].as_str().unwrap().to_owned();
            format!("{} {}: {}", text("code"), text("object"), text("message"))
        })
        .collect()
}

#[tokio::test]
async fn they_know_of_the_run_and_are_recorded() {
    let db = unanalyzed().await;
    let workspace = workspace(
        &db.url,
        &json!({
            "before": shell("echo \"$MAINT_TASK of $MAINT_KIND on $MAINT_TARGET, $MAINT_TRIGGER: $MAINT_STATUS\" | tee before.txt"),
            "after": shell("echo \"$MAINT_RUN $MAINT_STATUS\" >after.txt; echo done >&2"),
            "on_error": shell("touch on_error.txt"),
        }),
    );
    let file = |name: &str| std::fs::read_to_string(workspace.path().join(name)).ok();
    // Who only looks runs nothing.
    workspace.run(["plan", "analyze"]).expect(0);
    workspace
        .run(["run", "analyze", "--now", "--dry-run"])
        .expect(0);
    assert_eq!((file("before.txt"), file("after.txt")), (None, None));

    let ran = run(&workspace, 0);
    assert_eq!(ran["status"], "succeeded", "{ran:#}");
    assert_eq!(
        file("before.txt").unwrap(),
        "analyze of analyze on app, manual: running\n"
    );
    assert_eq!(
        file("after.txt").unwrap(),
        format!("{} succeeded\n", ran["id"].as_str().unwrap())
    );
    assert_eq!(file("on_error.txt"), None);
    let all = told(&ran);
    assert_eq!(all.len(), 2, "{all:?}");
    assert!(
        all[0].starts_with("command.ran commands.before: `commands.before`: sh ended well after "),
        "{all:?}"
    );
    assert!(
        all[0].ends_with("; it said: analyze of analyze on app, manual: running"),
        "{all:?}"
    );
    assert!(
        all[1].starts_with("command.ran commands.after: ") && all[1].ends_with("it said: done"),
        "{all:?}"
    );
    assert_eq!(db.number(ANALYZED).await, 1);
    // In the history, too.
    let shown = workspace.run(["show", "last", "--output", "json"]).json();
    assert_eq!(told(&shown["runs"][0]), all);
}

/// Whoever is woken up is told what went wrong, also where it is a step that failed.
#[tokio::test]
async fn the_one_for_errors_knows_the_error() {
    let db = unanalyzed().await;
    let told = json!({ "run": ["sh", "-c", "echo \"$MAINT_ERROR\" >told.txt"] });
    let raise = "DO $$ BEGIN RAISE EXCEPTION 'geheim@example.org'; END $$";
    for (name, sql, code) in [
        ("divide", "SELECT 1 / 0", "22012"),
        ("raise", raise, "P0001"),
    ] {
        let options = json!({ "statements": [{ "name": name, "sql": sql }] });
        let workspace = Workspace::for_target(&db.url).task(
            "own",
            &format!(
                "kind: sql\ntarget: app\noptions: {options}\ncommands: {{ on_error: {told} }}\n"
            ),
        );
        workspace.run(["run", "own", "--now"]).expect(1);
        let said = std::fs::read_to_string(workspace.path().join("told.txt")).unwrap();
        assert!(
            said.starts_with(&format!("{name}: ")) && said.contains(code),
            "{said}"
        );
        // It may go to anybody.
        assert!(!said.contains("geheim"), "{said}");
    }
}

#[tokio::test]
async fn nothing_is_done_where_the_first_one_fails() {
    let db = unanalyzed().await;
    let after = json!({ "run": ["sh", "-c", "echo $MAINT_STATUS \"$MAINT_ERROR\" >>after.txt"] });
    let on_error = json!({ "run": ["sh", "-c", "echo told >>after.txt"] });
    for (before, why) in [
        (
            shell("echo not now; exit 7"),
            "sh ended with the exit code 7",
        ),
        (shell("kill -9 $$"), "sh was ended by the signal 9"),
        (
            json!({ "run": ["/nowhere/drain", "geheim"] }),
            "/nowhere/drain cannot be started: No such file",
        ),
        // What it started is ended with it.
        (
            json!({ "run": ["sh", "-c", "sleep 300 & echo $! >pid.txt; wait"], "timeout": "500ms" }),
            "sh did not end within 500ms (`timeout`), and was ended",
        ),
    ] {
        let workspace = workspace(
            &db.url,
            &json!({ "before": before, "after": after, "on_error": on_error }),
        );
        let ran = run(&workspace, 1);
        assert_eq!(
            (ran["status"].as_str(), &ran["steps"]),
            (Some("failed"), &json!([])),
            "{ran:#}"
        );
        let error = ran["error"].as_str().unwrap();
        assert!(
            error.starts_with("nothing was done: `commands.before`: ") && error.contains(why),
            "{error}"
        );
        assert!(!ran.to_string().contains("geheim"), "{ran:#}");
        assert_eq!(db.number(ANALYZED).await, 0);
        let said = std::fs::read_to_string(workspace.path().join("after.txt")).unwrap();
        assert!(
            said.starts_with("told\nfailed nothing was done: "),
            "{said}"
        );
        if let Ok(pid) = std::fs::read_to_string(workspace.path().join("pid.txt")) {
            let pid = Pid::from_raw(pid.trim().parse().unwrap());
            let patience = Patience::until("what the program had started to be gone");
            while kill(pid, None).is_ok() {
                patience.pause().await;
            }
        }
    }
}

#[tokio::test]
async fn a_run_whose_last_one_fails_has_not_succeeded() {
    let db = unanalyzed().await;
    let workspace = workspace(
        &db.url,
        &json!({ "after": shell("echo the balancer does not answer; exit 1") }),
    );
    let ran = run(&workspace, 1);
    assert_eq!(ran["status"], "partial", "{ran:#}");
    assert!(
        ran["error"]
            .as_str()
            .unwrap()
            .contains("`commands.after`: sh ended with the exit code 1"),
        "{ran:#}"
    );
    assert!(
        told(&ran)[0].contains("it said: the balancer does not answer"),
        "{ran:#}"
    );
    // The work itself is done.
    assert_eq!(db.number(ANALYZED).await, 1);
}

/// How the command ends that is asked to stop as soon as its program before the work has begun.
async fn stopped_before(workspace: &Workspace, command: &[&str]) -> Option<i32> {
    let mut process = workspace.process(command).spawn().unwrap();
    let patience = Patience::until("the program to begin");
    while !workspace.path().join("begun.txt").exists() {
        patience.pause().await;
    }
    kill(Pid::from_raw(process.id() as i32), Signal::SIGTERM).unwrap();
    let patience = Patience::until("the command to end");
    loop {
        if let Some(status) = process.try_wait().unwrap() {
            return status.code();
        }
        patience.pause().await;
    }
}

/// A signal ends what is before the work, and no work is begun.
#[tokio::test]
async fn a_signal_does_not_wait_for_them() {
    let db = unanalyzed().await;
    let commands = json!({ "before": { "run": ["sh", "-c", "touch begun.txt; exec sleep 300"], "timeout": "10min" } });
    let workspace = workspace(&db.url, &commands);
    let code = stopped_before(&workspace, &["run", "analyze", "--now"]).await;
    assert_eq!(code, Some(143));
    assert_eq!(db.number(ANALYZED).await, 0);
}

#[test]
fn what_cannot_be_run_is_refused() {
    for (commands, said) in [
        ("{ before: [drain] }", "`commands.before`"),
        ("{ before: { run: [] } }", "run"),
        ("{ befor: { run: [x] } }", "before"),
        ("{ before: { run: drain } }", "run"),
    ] {
        let workspace = Workspace::for_target("postgres://app@127.0.0.1:1/app").task(
            "analyze",
            &format!("kind: analyze\ntarget: app\ncommands: {commands}\n"),
        );
        let refused = workspace.run(["check"]).expect(2);
        assert!(
            refused.stderr.contains("tasks/analyze.yaml:3:") && refused.stderr.contains(said),
            "{commands}: {}",
            refused.stderr
        );
    }
}

/// A schedule that fell due a minute ago, and once a day: no minute decides anything.
fn scheduled(db: &TestDatabase, history: &str, commands: &Value, statement: &str) -> Workspace {
    use chrono::Timelike;
    let due = chrono::Utc::now() - chrono::TimeDelta::minutes(1);
    let options = json!({ "statements": [{ "name": "one", "sql": statement }] });
    Workspace::new(&format!(
        "timezone: UTC\nhistory: \"{history}\"\nnotify: {{ on: [missed], file: told.jsonl }}\n\
         targets: {{ app: {{ engine: postgres, url: \"{}\" }} }}\n\
         schedules:\n  nightly: {{ cron: \"{} {} * * *\", tasks: [one, two], commands: {commands} }}\n",
        db.url,
        due.minute(),
        due.hour()
    ))
    .task("one", &format!("kind: sql\ntarget: app\noptions: {options}\n"))
    .task("two", &format!("kind: sql\ntarget: app\noptions: {options}\n"))
}

#[tokio::test]
async fn those_of_a_schedule_surround_all_of_its_tasks() {
    let db = fresh_database(17).await;
    db.execute("CREATE TABLE t (id int)").await;
    let commands = json!({
        "before": shell("echo \"before $MAINT_SCHEDULE $MAINT_TRIGGER $MAINT_STATUS\" | tee -a order.txt; test -n \"$MAINT_SCHEDULED_FOR\""),
        "after": shell("set -- $MAINT_RUNS; echo \"after $MAINT_STATUS $#\" >>order.txt"),
        "on_error": shell("echo \"on_error $MAINT_STATUS: $MAINT_ERROR\" >>order.txt"),
    });
    let order = |workspace: &Workspace| {
        std::fs::read_to_string(workspace.path().join("order.txt")).unwrap()
    };
    let workspace = scheduled(
        &db,
        "sqlite:maint.db",
        &commands,
        "INSERT INTO public.t VALUES (1)",
    );
    workspace
        .run(["run", "--due", "--schedule", "nightly"])
        .expect(0);
    assert_eq!(
        order(&workspace),
        "before nightly schedule running\nafter succeeded 2\n"
    );
    assert_eq!(db.number("SELECT count(*) FROM t").await, 2);
    // Nothing is due any more: none is run.
    workspace
        .run(["run", "--due", "--schedule", "nightly"])
        .expect(0);
    assert_eq!(order(&workspace).lines().count(), 2);

    let workspace = scheduled(&db, "sqlite:maint.db", &commands, "SELECT 1 / 0");
    workspace
        .run(["run", "--due", "--schedule", "nightly"])
        .expect(1);
    assert_eq!(
        order(&workspace),
        "before nightly schedule running\non_error failed: `one`, `two` did not succeed\nafter failed 2\n"
    );
    let status = workspace.run(["status"]).expect(1).stdout;
    assert!(
        status.contains(
            "schedule nightly did not do all that it was to do: `one`, `two` did not succeed"
        ),
        "{status}"
    );
}

#[tokio::test]
async fn no_task_is_run_where_the_first_of_a_schedule_fails() {
    let db = fresh_database(17).await;
    db.execute("CREATE TABLE t (id int)").await;
    let commands = json!({
        "before": shell("echo the standby is away; exit 3"),
        "after": shell("echo after $MAINT_STATUS: \"$MAINT_ERROR\" >>order.txt"),
    });
    let workspace = scheduled(
        &db,
        "sqlite:maint.db",
        &commands,
        "INSERT INTO public.t VALUES (1)",
    );
    let ran = workspace
        .run(["run", "--due", "--schedule", "nightly"])
        .expect(1);
    let why = "nothing was done: `commands.before`: sh ended with the exit code 3; it said: the standby is away";
    assert!(
        ran.stdout.contains(why) || ran.stderr.contains(why),
        "{ran:#?}"
    );
    assert_eq!(db.number("SELECT count(*) FROM t").await, 0);
    // Whatever it began is ended, and who wants to hear of it is told of each task.
    let order = std::fs::read_to_string(workspace.path().join("order.txt")).unwrap();
    assert_eq!(order, format!("after failed: {why}\n"));
    let told = std::fs::read_to_string(workspace.path().join("told.jsonl")).unwrap();
    for task in ["one", "two"] {
        let missed = format!("`{task}` was not run: nothing was done");
        assert!(told.contains(&missed), "{told}");
    }
}

/// A schedule that is called for while the history is away does its work, and so do its programs.
#[tokio::test]
async fn those_of_a_schedule_are_run_without_the_history() {
    let db = fresh_database(17).await;
    db.execute("CREATE TABLE t (id int)").await;
    let commands = json!({
        "before": shell("echo before $MAINT_SCHEDULE >>order.txt"),
        "after": shell("set -- $MAINT_STATUS $MAINT_RUNS; echo after $1 $# >>order.txt"),
    });
    let nowhere = "postgres://maint@127.0.0.1:1/history?sslmode=disable";
    let workspace = scheduled(&db, nowhere, &commands, "INSERT INTO public.t VALUES (1)");
    let state = workspace.path().join("state");
    std::fs::create_dir(&state).unwrap();
    let workspace = workspace.env("STATE_DIRECTORY", state.to_str().unwrap());
    let ran = workspace.run(["run", "--due", "--schedule", "nightly"]);
    let order = std::fs::read_to_string(workspace.path().join("order.txt"));
    let order = order.unwrap_or_else(|_| panic!("no program was run: {ran:#?}"));
    assert_eq!(db.number("SELECT count(*) FROM t").await, 2, "{ran:#?}");
    assert!(order.starts_with("before nightly\nafter "), "{order}");
    assert!(order.ends_with(" 3\n"), "{order} {ran:#?}");
}

/// Neither does a schedule whose history is away.
#[tokio::test]
async fn a_signal_does_not_wait_for_those_of_a_schedule() {
    let db = fresh_database(17).await;
    db.execute("CREATE TABLE t (id int)").await;
    let commands = json!({ "before": { "run": ["sh", "-c", "touch begun.txt; exec sleep 300"], "timeout": "10min" } });
    let nowhere = "postgres://maint@127.0.0.1:1/history?sslmode=disable";
    let workspace = scheduled(&db, nowhere, &commands, "INSERT INTO public.t VALUES (1)");
    let state = workspace.path().join("state");
    std::fs::create_dir(&state).unwrap();
    let workspace = workspace.env("STATE_DIRECTORY", state.to_str().unwrap());
    let code = stopped_before(&workspace, &["run", "--due", "--schedule", "nightly"]).await;
    assert_eq!(code, Some(143));
    assert_eq!(db.number("SELECT count(*) FROM t").await, 0);
}

/// Who waits with what is due says for what; and who is told to end meanwhile has done nothing of it:
/// that is no success.
#[tokio::test]
async fn who_is_ended_while_waiting_has_not_succeeded() {
    let db = unanalyzed().await;
    let day = (chrono::Utc::now() + chrono::TimeDelta::days(3)).format("%a");
    let workspace = Workspace::new(&format!(
        "timezone: UTC\nhistory: sqlite:maint.db\ntargets:\n  app: {{ engine: postgres, url: \"{}\" }}\n\
         schedules:\n  nightly: {{ cron: \"* * * * *\", tasks: [analyze], window: \"{day} 03:00-05:00\" }}\n",
        db.url
    ))
    .task("analyze", "kind: analyze\ntarget: app\n");
    for (signal, code) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130)] {
        let said = workspace.path().join("said.txt");
        let mut process = workspace
            .process(["run", "--due", "--schedule", "nightly"])
            .stderr(std::fs::File::create(&said).unwrap())
            .spawn()
            .unwrap();
        let patience = Patience::until("the program to say that it waits");
        let text = || std::fs::read_to_string(&said).unwrap();
        while !text().contains("nightly: what is due waits for its window, which opens at ") {
            patience.pause().await;
        }
        kill(Pid::from_raw(process.id() as i32), signal).unwrap();
        let patience = Patience::until("the command to end");
        let status = loop {
            if let Some(status) = process.try_wait().unwrap() {
                break status;
            }
            patience.pause().await;
        };
        assert_eq!(status.code(), Some(code), "{}", text());
        assert!(text().contains("nothing is at work"), "{}", text());
        assert!(!text().contains("cancelled"), "{}", text());
        assert_eq!(
            text().matches("waits for its window").count(),
            1,
            "{}",
            text()
        );
    }
    assert_eq!(db.number(ANALYZED).await, 0);
    let history = workspace.run(["history"]).expect(0);
    assert!(history.stdout.contains("No runs"), "{history:#?}");
}
