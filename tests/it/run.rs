//! `maint run` without `--now`: inside the window, once per occurrence.

use chrono::{TimeDelta, Timelike, Utc};

use crate::support::patience::Patience;
use crate::support::servers::fresh_database;
use crate::support::workspace::{Workspace, maint};

/// A window around now, or one that opens in an hour.
fn window(open: bool) -> String {
    let now = Utc::now();
    let (from, to) = if open {
        (now - TimeDelta::minutes(30), now + TimeDelta::minutes(90))
    } else {
        (now + TimeDelta::minutes(60), now + TimeDelta::minutes(120))
    };
    format!(
        "{:02}:{:02}-{:02}:{:02}",
        from.hour(),
        from.minute(),
        to.hour(),
        to.minute()
    )
}

fn workspace(url: &str, schedule: &str, task: &str) -> Workspace {
    Workspace::new(&format!(
        "timezone: UTC\nhistory: sqlite:maint.db\ntargets:\n  app: {{ engine: postgres, url: \"{url}\" }}\n\
         schedules:\n  yearly: {{ cron: \"0 0 1 1 *\", tasks: [analyze], window: \"{schedule}\" }}\n"
    ))
    .task("analyze", &format!("kind: analyze\ntarget: app\nwindow: \"{task}\"\n"))
}

#[tokio::test]
async fn an_occurrence_runs_once_and_only_inside_both_windows() {
    let db = fresh_database(17).await;
    db.execute("CREATE TABLE t (id int); INSERT INTO t SELECT generate_series(1, 5000)")
        .await;
    for (schedule, task) in [(false, true), (true, false)] {
        let outside = workspace(&db.url, &window(schedule), &window(task))
            .run(["run", "analyze"])
            .expect(4);
        assert!(
            outside
                .stderr
                .contains("analyze: not started: outside its window"),
            "{outside:#?}"
        );
        assert!(
            outside.stderr.contains("which opens next at"),
            "{outside:#?}"
        );
        assert!(
            outside.stderr.contains("`--now` runs it at once"),
            "{outside:#?}"
        );
        // To a scheduler that knows no code but 0 it is told the same way.
        let for_jobs = workspace(&db.url, &window(schedule), &window(task))
            .run(["run", "analyze", "--not-started-ok"])
            .expect(0);
        assert!(
            for_jobs.stderr.contains("not started: outside its window"),
            "{for_jobs:#?}"
        );
    }
    let inside = workspace(&db.url, &window(true), &window(true));
    let first = inside
        .run(["run", "analyze", "--output", "json"])
        .expect(0)
        .json();
    assert_eq!(first["runs"][0]["steps"][0]["object"], "public.t");
    assert!(
        first["runs"][0]["scheduled_for"]
            .as_str()
            .unwrap()
            .ends_with("-01-01T00:00:00Z")
    );
    let second = inside.run(["run", "analyze"]).expect(0);
    assert!(second.stderr.contains("the occurrence of"), "{second:#?}");
    assert!(
        second.stderr.contains("ran already: succeeded"),
        "{second:#?}"
    );
    // Whoever says so runs it again, whatever the schedule says.
    inside.run(["run", "analyze", "--now"]).expect(0);
    let runs = inside.run(["history", "--output", "json"]).json();
    assert_eq!(runs["runs"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_target_out_of_reach_is_told_and_recorded() {
    let workspace = Workspace::for_target("postgres://app:geheim@127.0.0.1:1/app?sslmode=disable")
        .task("analyze", "kind: analyze\ntarget: app\n");
    let ran = workspace.run(["run", "analyze", "--now"]).expect(3);
    assert!(ran.stdout.contains("127.0.0.1:1"), "{ran:#?}");
    assert!(
        !ran.stdout.contains("geheim") && !ran.stderr.contains("geheim"),
        "{ran:#?}"
    );
    let runs = workspace.run(["history", "--output", "json"]).json();
    assert_eq!(runs["runs"][0]["status"], "failed");
}

/// Who comes second is told exactly who holds the task, and since when.
#[tokio::test]
async fn a_second_instance_is_told_who_is_at_work() {
    let db = fresh_database(17).await;
    db.execute("CREATE TABLE held (id int)").await;
    let other = db.connect().await;
    other
        .batch_execute("BEGIN; LOCK TABLE held IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    let workspace = Workspace::for_target(&db.url).task(
        "tidy",
        "kind: sql\ntarget: app\nlimits: { lock_timeout: 1h }\noptions: { statements: [{ name: all, sql: DELETE FROM public.held }] }\n",
    );
    let mut first = workspace
        .process(["run", "tidy", "--now"])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let claims = "FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE l.locktype = 'advisory' AND a.datname = current_database()";
    let patience = Patience::until("the first run to take its claim");
    while db.number(&format!("SELECT count(*) {claims}")).await == 0 {
        assert!(first.try_wait().unwrap().is_none(), "it has ended");
        patience.pause().await;
    }
    let holder = db
        .strings(&format!(
            "SELECT format('pid %s, role postgres, %s, since %s UTC', a.pid, a.application_name,
                to_char(a.backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS')) {claims}"
        ))
        .await;
    assert!(holder[0].contains("role postgres, maint "), "{holder:?}");
    let expected = format!("`tidy` is already at work on this target: {}", holder[0]);
    let document = workspace
        .run(["run", "tidy", "--now", "--output", "json"])
        .expect(4)
        .json();
    assert_eq!(document["runs"][0]["status"], "skipped");
    assert_eq!(document["runs"][0]["error"], expected);
    let said = workspace.run(["run", "tidy", "--now"]).expect(4).stdout;
    let words: Vec<&str> = said.split_whitespace().collect();
    assert!(words.join(" ").contains(&expected), "{said}");
    other.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(first.wait().unwrap().code(), Some(0));
}

/// What `completions` prints can be loaded, and knows the verbs.
#[test]
fn completions_can_be_loaded() {
    let script = |shell: &str| {
        let printed = maint().args(["completions", shell]).output().unwrap();
        assert!(printed.status.success(), "{printed:?}");
        String::from_utf8(printed.stdout).unwrap()
    };
    // Every machine that runs these tests has a bash; what it completes is asked of it.
    let asked = format!(
        "{}\nCOMP_WORDS=(maint re); COMP_CWORD=1; _maint maint re maint; printf '%s\\n' \"${{COMPREPLY[@]}}\"; complete -p maint",
        script("bash")
    );
    let output = std::process::Command::new("bash")
        .args(["--norc", "-c", &asked])
        .output()
        .unwrap();
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{output:?}"
    );
    let said = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines.contains(&"report"), "{said}");
    assert!(lines.last().unwrap().contains("-F _maint"), "{said}");
    assert!(script("zsh").starts_with("#compdef maint"));
    assert!(script("fish").contains("complete -c maint"));
    // What only these scripts call is no verb for people.
    for shell in ["bash", "zsh", "fish"] {
        let script = script(shell);
        assert!(
            !script.contains("The names that may come next") && !script.contains("maint,complete)"),
            "{shell}"
        );
    }
}

/// Names of tasks, targets, schedules and runs are completed, and nothing is connected to.
#[test]
fn names_are_completed() {
    let url = "postgres://app@127.0.0.1:1/app?sslmode=disable";
    let workspace = Workspace::new(&format!(
        "history: sqlite:maint.db\ntargets:\n  app: {{ engine: postgres, url: \"{url}\" }}\n  stats: {{ engine: postgres, url: \"{url}\" }}\nschedules:\n  nightly: {{ cron: \"0 2 * * *\", tasks: [tidy] }}\n"
    ));
    let task = "kind: analyze\ntarget: app\n";
    let workspace = workspace.task("tidy", task).task("weekly-tidy", task);
    workspace.run(["run", "tidy", "--now"]);
    let run = workspace
        .run(["history", "--output", "json"])
        .expect(0)
        .json();
    let run = run["runs"][0]["short_id"].as_str().unwrap().to_owned();
    let printed = maint().args(["completions", "bash"]).output().unwrap();
    let script = String::from_utf8(printed.stdout).unwrap();
    let program = workspace.process(["--version"]);
    let program = program.get_program().to_str().unwrap().to_owned();
    let completed = |words: &[&str]| {
        let quoted = words.iter().map(|word| format!("'{word}'"));
        let all = quoted.collect::<Vec<_>>().join(" ");
        let at = words.len();
        let asked = format!(
            "{script}\nCOMP_WORDS=('{program}' {all}); COMP_CWORD={at}; _maint_names '{program}' '{}' x; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            words.last().unwrap()
        );
        let output = std::process::Command::new("bash")
            .args(["--norc", "-c", &asked])
            .current_dir(workspace.path())
            .output()
            .unwrap();
        assert!(
            output.status.success() && output.stderr.is_empty(),
            "{output:?}"
        );
        let said = String::from_utf8(output.stdout).unwrap();
        said.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(completed(&["run", ""]), ["tidy", "weekly-tidy"]);
    assert_eq!(completed(&["plan", "we"]), ["weekly-tidy"]);
    assert_eq!(
        completed(&["run", "tidy", "--target", ""]),
        ["app", "stats"]
    );
    assert_eq!(completed(&["history", "--task", "t"]), ["tidy"]);
    assert_eq!(completed(&["pause", ""]), ["nightly"]);
    assert_eq!(completed(&["show", ""]), ["last", &run]);
    assert_eq!(completed(&["cancel", &run[..3]]), [run.as_str()]);
    assert!(completed(&["run", "--no"]).contains(&"--now".to_owned()));
    for (shell, asks) in [
        (
            "zsh",
            [
                "'*::tasks -- Tasks to run:_maint_names'",
                "]:TARGET:_maint_names'",
            ],
        ),
        (
            "fish",
            [
                "-l target -d 'Only on this target' -r -f -a \"(__maint_names)\"",
                "count (__maint_names) >/dev/null\" -f -a \"(__maint_names)\"",
            ],
        ),
    ] {
        let printed = maint().args(["completions", shell]).output().unwrap();
        let script = String::from_utf8(printed.stdout).unwrap();
        for ask in asks {
            assert!(script.contains(ask), "{shell}: {ask}");
        }
    }
}
