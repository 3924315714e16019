//! `maint status`, `explain`, `advise`, `man`, `doctor`, and `maint` alone.

use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::patience::Patience;
use crate::support::servers::fresh_database;
use crate::support::workspace::{Workspace, maint};

const NOWHERE: &str = "postgres://app@127.0.0.1:1/app?sslmode=disable";

fn schedules(url: &str, more: &str) -> String {
    format!(
        "timezone: UTC\nhistory: sqlite:maint.db\ntargets:\n  app: {{ engine: postgres, url: \"{url}\" }}\n\
         schedules:\n  yearly: {{ cron: \"0 0 1 1 *\", tasks: [analyze] }}\n{more}"
    )
}

#[tokio::test]
async fn one_line_says_whether_all_is_well() {
    let db = fresh_database(17).await;
    db.execute("CREATE TABLE something (id int)").await;
    let workspace =
        Workspace::new(&schedules(&db.url, "")).task("analyze", "kind: analyze\ntarget: app\n");
    let nagios = |code: i32, begin: &str| {
        let said = workspace.run(["status", "--output", "nagios"]).expect(code);
        assert!(said.stdout.starts_with(begin), "{said:#?}");
        assert_eq!(said.stdout.lines().count(), 1, "{said:#?}");
    };
    let said = workspace.run(["status"]).expect(1);
    assert!(said.stdout.contains("nothing has run yet"), "{said:#?}");
    nagios(1, "MAINT WARNING - nothing has run yet");
    workspace.run(["run", "analyze", "--now"]).expect(0);
    let said = workspace.run(["status"]).expect(0);
    assert!(
        said.stdout
            .starts_with("all is well: 1 task on 1 target; last run just now: analyze on app"),
        "{said:#?}"
    );
    nagios(0, "MAINT OK - all is well");

    // It fails: not well since then, until it succeeds again.
    workspace.file("schedules.yaml", &schedules(NOWHERE, ""));
    workspace.run(["run", "analyze", "--now"]).expect(3);
    let since = || {
        let said = workspace.run(["status", "--output", "json"]).expect(1);
        said.json()["since"].clone()
    };
    let first = since();
    for _ in 0..2 {
        // Since it failed first, however often it has failed since then.
        workspace.run(["run", "analyze", "--now"]).expect(3);
        assert_eq!(since(), first);
    }
    let said = workspace
        .run(["status", "--output", "json"])
        .expect(1)
        .json();
    assert_eq!(said["well"], false);
    assert!(said["since"].is_string(), "{said}");
    assert_eq!(said["reasons"][0]["severity"], "critical");
    nagios(
        2,
        "MAINT CRITICAL - analyze on app has not succeeded since it failed",
    );
    workspace.file("schedules.yaml", &schedules(&db.url, ""));
    // Named twice, it is still one task.
    let twice = ["run", "analyze", "analyze", "--now", "--output", "json"];
    let done = workspace.run(twice).expect(0).json();
    assert_eq!(done["runs"].as_array().unwrap().len(), 1, "{done:#}");
    workspace.run(["status"]).expect(0);

    // A task that a schedule has had every minute, and that never ran.
    workspace.file(
        "schedules.yaml",
        &schedules(
            &db.url,
            "  often: { cron: \"* * * * *\", tasks: [vacuum] }\n",
        ),
    );
    workspace.file("tasks/vacuum.yaml", "kind: vacuum\ntarget: app\n");
    let until = std::time::Instant::now() + std::time::Duration::from_secs(75);
    loop {
        let said = workspace.run(["status"]);
        if said.stdout.contains("vacuum on app has never run") {
            assert_eq!(said.code, 1);
            break;
        }
        assert!(
            std::time::Instant::now() < until,
            "nobody missed it: {said:#?}"
        );
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    }
    workspace.run(["history", "--output", "nagios"]).expect(2);
}

/// What failed alike on many targets is one line: the one that is different is seen.
#[test]
fn what_fails_on_many_targets_is_told_once() {
    let targets: String = (1..=6)
        .map(|n| format!("  t{n}: {{ engine: postgres, url: \"{NOWHERE}\" }}\n"))
        .collect();
    let workspace = Workspace::new(&format!(
        "timezone: UTC\nhistory: sqlite:maint.db\ntargets:\n{targets}groups: {{ all: [t1, t2, t3, t4, t5, t6] }}\n"
    ))
    .task("analyze", "kind: analyze\ntarget: all\n")
    .task("vacuum", "kind: vacuum\ntarget: t3\n");
    workspace.run(["run", "--all", "--now"]).expect(3);
    let told = workspace
        .run(["status", "--output", "json"])
        .expect(1)
        .json();
    let reasons = told["reasons"].as_array().unwrap();
    let not_well = |n: usize, text: &str, targets: &[&str]| {
        assert_eq!(reasons[n]["text"], text, "{told:#}");
        assert_eq!(
            reasons[n]["targets"],
            serde_json::json!(targets),
            "{told:#}"
        );
        assert!(reasons[n]["since"].is_string(), "{told:#}");
    };
    assert_eq!(reasons.len(), 2, "{told:#}");
    not_well(
        0,
        "analyze on t1, t2, t3, t4 and 2 more has not succeeded since it failed",
        &["t1", "t2", "t3", "t4", "t5", "t6"],
    );
    not_well(1, "vacuum on t3 has not succeeded since it failed", &["t3"]);
}

/// Who was killed, cancelled or skipped has not done the work: what it came to before counts.
#[tokio::test(flavor = "multi_thread")]
async fn only_success_makes_a_failure_good() {
    let db = fresh_database(17).await;
    let sleeping = |sql: &str| {
        Workspace::new(&schedules(&db.url, "")).task(
            "own",
            &format!("kind: sql\ntarget: app\noptions: {{ statements: [{{ name: own, sql: {sql} }}] }}\n"),
        ).task("analyze", "kind: analyze\ntarget: app\n")
    };
    let asleep = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()";
    let begin = async |workspace: &Workspace| {
        let patience = Patience::until("the session of the one before to end");
        while db.number(asleep).await != 0 {
            patience.pause().await;
        }
        let process = workspace.process(["run", "own", "--now"]).spawn().unwrap();
        let patience = Patience::until("the statement to begin");
        while db.number(asleep).await == 0 {
            patience.pause().await;
        }
        process
    };
    let signalled = async |workspace: &Workspace, signals: &[Signal]| {
        let mut process = begin(workspace).await;
        for signal in signals {
            kill(Pid::from_raw(process.id() as i32), *signal).unwrap();
        }
        process.wait().unwrap();
    };
    let not_well = |workspace: &Workspace, after: &str| {
        let said = workspace.run(["status"]).expect(1);
        assert!(
            said.stdout
                .contains("own on app has not succeeded since it failed"),
            "{after}: {said:#?}"
        );
        let report = workspace.run(["report", "--output", "json"]).json();
        assert_eq!(report["verdict"], "attention", "{after}: {report:#}");
    };
    let workspace = sleeping("SELECT pg_sleep(600)");
    // On record it is still at work.
    signalled(&workspace, &[Signal::SIGKILL]).await;
    not_well(&workspace, "killed");
    let list = workspace.run(["history", "--output", "json"]).expect(0);
    assert_eq!(list.json()["runs"][0]["status"], "interrupted", "{list:#?}");
    assert!(
        workspace
            .run(["history"])
            .expect(0)
            .stdout
            .contains("interrupted")
    );
    for args in [&["show", "last"][..], &["show", "last", "--output", "json"]] {
        let shown = workspace.run(args).expect(0);
        assert!(
            shown.stdout.contains("interrupted") && shown.stdout.contains("its process is gone"),
            "{shown:#?}"
        );
    }
    signalled(&workspace, &[Signal::SIGTERM, Signal::SIGTERM]).await;
    not_well(&workspace, "cancelled");
    let other = sleeping("SELECT pg_sleep(600)");
    let mut process = begin(&other).await;
    workspace.run(["run", "own", "--now"]).expect(4);
    not_well(&workspace, "skipped");
    // Whoever was skipped says nothing of the run that was at work, and is killed then.
    other.run(["run", "own", "--now"]).expect(4);
    process.kill().unwrap();
    process.wait().unwrap();
    let newest = other.run(["history", "--output", "json"]).expect(0).json();
    assert_eq!(newest["runs"][0]["status"], "skipped", "{newest:#}");
    not_well(&other, "killed beside somebody who was skipped");
    workspace.file(
        "tasks/own.yaml",
        "kind: sql\ntarget: app\noptions: { statements: [{ name: own, sql: SELECT 1 }] }\n",
    );
    db.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()").await;
    let patience = Patience::until("the task to be free again");
    while workspace.run(["run", "own", "--now"]).code != 0 {
        patience.pause().await;
    }
    workspace.run(["status"]).expect(0);
    // Who is at work has not failed.
    workspace.file(
        "tasks/own.yaml",
        "kind: sql\ntarget: app\noptions: { statements: [{ name: own, sql: SELECT pg_sleep(600) }] }\n",
    );
    let mut process = begin(&workspace).await;
    workspace.run(["status"]).expect(0);
    let shown = workspace.run(["show", "last"]).expect(0);
    assert!(shown.stdout.contains("running for"), "{shown:#?}");
    process.kill().unwrap();
    process.wait().unwrap();
}

/// The same on several targets is one line that names them, and what is of one alone says of which.
#[tokio::test]
async fn the_same_on_several_targets_is_told_once() {
    let mut targets = String::new();
    let mut all = Vec::new();
    for name in ["t1", "t2", "t3", "t4", "t5", "t6"] {
        let db = fresh_database(17).await;
        if name == "t2" {
            db.execute("CREATE TABLE bad (n int); INSERT INTO bad VALUES (1)")
                .await;
        } else {
            db.execute("CREATE TABLE bad (n int)").await;
        }
        targets += &format!("  {name}: {{ engine: postgres, url: \"{}\" }}\n", db.url);
        all.push(db);
    }
    let workspace = Workspace::new(&format!(
        "timezone: UTC\nhistory: sqlite:maint.db\ntargets:\n{targets}groups:\n  fleet: [t1, t2, t3, t4, t5, t6]\n"
    ))
    .task(
        "look",
        "kind: integrity\ntarget: fleet\noptions:\n  queries:\n    - { name: everywhere, sql: SELECT 1 }\n    - { name: somewhere, sql: SELECT n FROM public.bad }\n",
    );
    workspace.run(["run", "look", "--now"]).expect(0);
    let told = |said: &str, what: &str| -> Vec<String> {
        let lines = said.lines().map(str::trim);
        lines
            .filter(|line| line.contains(what) && line.contains("query.rows]"))
            .map(str::to_owned)
            .collect()
    };
    let said = workspace.run(["status"]).expect(1).stdout;
    let everywhere = told(&said, "`everywhere`");
    assert_eq!(everywhere.len(), 1, "{said}");
    assert!(
        everywhere[0].starts_with("everywhere on t1, t2, t3, t4 and 2 more: "),
        "{said}"
    );
    let somewhere = told(&said, "`somewhere`");
    assert_eq!(somewhere.len(), 1, "{said}");
    assert!(somewhere[0].starts_with("somewhere on t2: "), "{said}");
    // What cannot be told is unknown, and no alarm: one line all the same.
    let broken = Workspace::new("targets: 7\n").run(["status", "--output", "nagios"]);
    let broken = broken.expect(3).stdout;
    assert!(
        broken.starts_with("MAINT UNKNOWN - ") && broken.contains("schedules.yaml:1:"),
        "{broken}"
    );
    assert_eq!(broken.lines().count(), 1, "{broken}");
    let said = workspace
        .run(["status", "--output", "nagios"])
        .expect(2)
        .stdout;
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(
        said.ends_with("(and 1 more) | reasons=2\n") && said.contains(" on t"),
        "{said}"
    );
    let said = workspace
        .run(["status", "--output", "json"])
        .expect(1)
        .json();
    let reasons = said["reasons"].as_array().unwrap();
    let of = |what: &str| {
        let mut these = reasons.iter();
        these
            .find(|one| one["text"].as_str().unwrap().starts_with(what))
            .unwrap()["targets"]
            .clone()
    };
    assert_eq!(
        of("everywhere"),
        serde_json::json!(["t1", "t2", "t3", "t4", "t5", "t6"])
    );
    assert_eq!(of("somewhere"), serde_json::json!(["t2"]));
}

#[test]
fn every_code_of_the_source_is_explained() {
    fn read(folder: &Path, texts: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => read(&path, texts),
                false => texts.push(std::fs::read_to_string(path).unwrap()),
            }
        }
    }
    let mut texts = Vec::new();
    read(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        &mut texts,
    );
    let known = maint()
        .args(["explain", "--output", "json"])
        .output()
        .unwrap();
    let known: serde_json::Value = serde_json::from_slice(&known.stdout).unwrap();
    let known: Vec<&str> = known["codes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["code"].as_str().unwrap())
        .collect();
    let mut found = 0;
    for text in &texts {
        let named = text
            .split("code: \"")
            .skip(1)
            .map(|piece| piece.split('"').next().unwrap());
        // Functions that make findings take the code before the severity.
        let handed = text.split("Severity::").filter_map(|before| {
            let quoted = before.trim_end().strip_suffix("\",")?;
            quoted.rsplit('"').next()
        });
        for code in named.chain(handed) {
            if code.contains('.') && !code.contains(' ') {
                found += 1;
                assert!(
                    known.contains(&code),
                    "`{code}` is in none of the lists of src/plan (codes.rs)"
                );
            }
        }
    }
    assert!(found > 30, "only {found} codes were found in the source");
    for status in maint::history::RunStatus::ALL {
        assert!(known.contains(&status.as_str()), "{status}");
    }
    for status in maint::history::StepStatus::ALL {
        assert!(known.contains(&status.as_str()), "{status}");
    }
    let text = maint().args(["explain", "index.unused"]).output().unwrap();
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(
        text.contains("Why it matters: ") && text.contains("What to do: "),
        "{text}"
    );
    let wrong = maint().args(["explain", "index.unsed"]).output().unwrap();
    assert_eq!(wrong.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("did you mean `index.unused`?"));
}

#[test]
fn the_published_codes_are_current() {
    let made = maint().args(["explain", "--markdown"]).output().unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/codes.md");
    if std::env::var_os("MAINT_UPDATE_EXPECTED").is_some() {
        std::fs::write(&path, &made.stdout).unwrap();
    }
    assert!(
        std::fs::read(&path).unwrap_or_default() == made.stdout,
        "docs/codes.md is out of date: write it anew with MAINT_UPDATE_EXPECTED=1"
    );
}

/// A folder with all pages of the manual.
fn manual() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let made = maint()
        .args(["man", "--out"])
        .arg(folder.path())
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    folder
}

#[test]
fn every_command_has_a_page_that_man_can_read() {
    let folder = manual();
    let run = std::fs::read_to_string(folder.path().join("maint-run.1")).unwrap();
    for part in [
        ".TH MAINT",
        ".SH SYNOPSIS",
        ".SH OPTIONS",
        "\\-\\-now",
        ".SH EXAMPLES",
    ] {
        assert!(run.contains(part), "{part}: {run}");
    }
    assert!(folder.path().join("maint.1").exists());
}

#[test]
fn alone_it_says_what_to_do_next() {
    let empty = tempfile::tempdir().unwrap();
    let said = maint().current_dir(empty.path()).output().unwrap();
    assert_eq!(said.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&said.stdout).contains("maint demo"));
    let workspace = Workspace::for_target(NOWHERE);
    let said = workspace.run([""; 0]).expect(0);
    assert!(said.stdout.contains("maint status"), "{said:#?}");
}

/// What a role may not do is said with the statement that helps, and the exit code says whether
/// all is well.
#[tokio::test]
async fn the_doctor_rehearses_every_task() {
    let db = fresh_database(17).await;
    db.execute("CREATE TABLE t (id int PRIMARY KEY, at timestamptz)")
        .await;
    let workspace = Workspace::for_target(&db.url).task("analyze", "kind: analyze\ntarget: app\n");
    let well = workspace.run(["doctor"]).expect(1);
    assert!(well.stdout.contains("app: analyze: works:"), "{well:#?}");
    assert!(well.stdout.contains("is a superuser"), "{well:#?}");
    assert!(well.stdout.ends_with("1 problem\n"), "{well:#?}");
    // A rule for a table that is not there.
    let workspace = Workspace::for_target(&db.url).task(
        "cleanup",
        "kind: cleanup\ntarget: app\noptions: { rules: [{ table: nope, older_than: 90d, column: at }] }\n",
    );
    let ill = workspace.run(["doctor"]).expect(1);
    assert!(
        ill.stdout.contains("problem") && ill.stdout.contains("nope"),
        "{ill:#?}"
    );
    let out = Workspace::for_target(NOWHERE).task("analyze", "kind: analyze\ntarget: app\n");
    out.run(["doctor"]).expect(3);
}

#[tokio::test]
async fn advice_is_one_file_that_psql_takes() {
    let db = fresh_database(17).await;
    db.execute("CREATE TABLE p (id int PRIMARY KEY); CREATE TABLE c (id int PRIMARY KEY, p int REFERENCES p); INSERT INTO p SELECT generate_series(1, 1000); INSERT INTO c SELECT g, g FROM generate_series(1, 1000) g; ANALYZE")
        .await;
    let workspace = Workspace::for_target(&db.url)
        .task("snapshot", "kind: snapshot\ntarget: app\n")
        .task("integrity", "kind: integrity\ntarget: app\n");
    workspace.run(["advise"]).expect(2);
    workspace.run(["run", "--all", "--now"]);
    let said = workspace.run(["advise"]).expect(0).stdout;
    assert!(said.starts_with("-- Advice of maint"), "{said}");
    for line in said
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with("--"))
    {
        assert!(line.ends_with(';') && !line.contains("DROP"), "{line}");
    }
}

#[test]
fn slips_in_a_task_get_the_hint_that_fits() {
    for (task, hint) in [
        (
            "kind: analyze\ntarget: app\nretries: 3\n",
            "write `{ max: 3 }`",
        ),
        (
            "kind: analyze\ntarget: app\ncron: \"0 2 * * *\"\n",
            "said in schedules.yaml",
        ),
        (
            "kind: analyze\ntarget: app\nschedule: nightly\n",
            "said in schedules.yaml",
        ),
        (
            "kind: reindex\ntarget: app\noptions: { lock_timeout: 3s }\n",
            "limits: { lock_timeout",
        ),
        (
            "kind: analyze\ntarget: app\nlock_timeout: 3s\n",
            "limits: { lock_timeout",
        ),
    ] {
        let workspace = Workspace::for_target(NOWHERE).task("t", task);
        let said = workspace.run(["check"]).expect(2);
        assert!(said.stderr.contains(hint), "{task}: {said:#?}");
    }
}

/// What is wrong, as programs read it that show it beside the line.
#[test]
fn a_check_speaks_to_continuous_integration() {
    let workspace = Workspace::new(&schedules(NOWHERE, "  odd: { corn: \"50% off, now\" }\n"))
        .task(
            "analyze",
            "kind: analyze\ntarget: app\noptions: { min_chnged: 1%, x<y: 1 }\n",
        );
    let said = |format: &str, code: i32| {
        let said = workspace.run(["check", "--output", format]).expect(code);
        assert_eq!(said.stderr, "", "{said:#?}");
        said.stdout
    };
    let github = said("github", 2);
    let lines: Vec<&str> = github.lines().collect();
    assert!(
        lines.len() >= 3 && lines.iter().all(|line| line.starts_with("::error file=")),
        "{github}"
    );
    let wrong = lines
        .iter()
        .find(|line| line.contains("min_chnged"))
        .unwrap();
    assert!(
        wrong.contains("tasks/analyze.yaml,line=3,col=12,title=maint check::"),
        "{wrong}"
    );
    assert!(
        wrong.contains("%0A") && wrong.contains("min_changed"),
        "{wrong}"
    );

    let sarif: serde_json::Value = serde_json::from_str(&said("sarif", 2)).unwrap();
    assert_eq!(sarif["version"], "2.1.0");
    let results = sarif["runs"][0]["results"].as_array().unwrap();
    assert_eq!(results.len(), lines.len());
    let rules = sarif["runs"][0]["tool"]["driver"]["rules"].to_string();
    for result in results {
        assert!(rules.contains(&result["ruleId"].to_string()), "{result}");
    }
    let of = |word: &str| {
        let has =
            |one: &&serde_json::Value| one["message"]["text"].as_str().unwrap().contains(word);
        results.iter().find(has).unwrap()["locations"][0]["physicalLocation"].clone()
    };
    let place = of("min_chnged");
    assert!(
        place["artifactLocation"]["uri"]
            .as_str()
            .unwrap()
            .ends_with("tasks/analyze.yaml")
    );
    assert_eq!(
        place["region"],
        serde_json::json!({ "startLine": 3, "startColumn": 12, "endColumn": 22 })
    );

    // Read by somebody else's parser.
    let tools = std::env::var("MAINT_TEST_TOOLS").expect("MAINT_TEST_TOOLS: run ./scripts/test");
    let counted = |xml: &str| {
        let file = workspace.path().join("junit.xml");
        std::fs::write(&file, xml).unwrap();
        let script = "import sys, xml.etree.ElementTree as t; r = t.parse(sys.argv[1]).getroot(); \
            print(r.get('tests'), r.get('failures'), len(r.findall('.//testcase')), len(r.findall('.//failure')), 'x<y' in ''.join(r.itertext()))";
        let read = std::process::Command::new(format!("{tools}/bin/python"))
            .args(["-c", script])
            .arg(&file)
            .output()
            .unwrap();
        assert!(read.status.success(), "{read:?}");
        String::from_utf8(read.stdout).unwrap().trim().to_owned()
    };
    let n = lines.len();
    assert_eq!(counted(&said("junit", 2)), format!("{n} {n} {n} {n} True"));

    // All is well, and what is out of reach.
    workspace.file("schedules.yaml", &schedules(NOWHERE, ""));
    workspace.file("tasks/analyze.yaml", "kind: analyze\ntarget: app\n");
    assert_eq!(said("github", 0), "");
    assert_eq!(counted(&said("junit", 0)), "1 0 1 0 False");
    let sarif: serde_json::Value = serde_json::from_str(&said("sarif", 0)).unwrap();
    assert_eq!(sarif["runs"][0]["results"], serde_json::json!([]));
    let away = workspace
        .run(["check", "--connect", "--output", "github"])
        .expect(3);
    assert!(
        away.stdout.starts_with("::error file=") && away.stdout.contains("target `app`"),
        "{away:#?}"
    );
    let misused = workspace.run(["plan", "--output", "sarif"]).expect(2);
    assert!(
        misused.stderr.contains("are for `maint check`"),
        "{misused:#?}"
    );
}

/// What is switched off does not run, and is not listed as if it did.
#[test]
fn a_task_that_is_off_is_not_said_to_run() {
    let workspace = Workspace::new(&format!(
        "targets:\n  app: {{ engine: postgres, url: \"{NOWHERE}\" }}\nschedules:\n  s: {{ cron: \"0 2 * * *\", tasks: [an, idle] }}\n"
    ))
    .task("an", "kind: analyze\ntarget: app\n")
    .task("idle", "kind: vacuum\ntarget: app\nenabled: false\n");
    let said = workspace.run(["next"]).expect(0).stdout;
    assert!(said.contains("an, idle (off)"), "{said}");
    let said = workspace.run(["next", "--output", "json"]).expect(0).json();
    assert_eq!(said["next"][0]["tasks"], serde_json::json!(["an"]));
}

/// The help of every command, and of every command below one, has examples; and each has a page of
/// its own, with the options that it takes, what they may be and what they are by default.
#[test]
fn every_help_has_examples() {
    let folder = manual();
    let mut pages: Vec<String> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    pages.sort();
    assert!(pages.len() > 30, "{pages:?}");
    for page in &pages {
        let text = std::fs::read_to_string(folder.path().join(page)).unwrap();
        let examples = text.split(".SH EXAMPLES").nth(1).unwrap_or_default();
        assert!(examples.contains("maint"), "{page} has no examples: {text}");
        let words = page.strip_suffix(".1").unwrap().split('-').skip(1);
        let help = maint().args(words).arg("--help").output().unwrap();
        let help = String::from_utf8(help.stdout).unwrap();
        assert!(help.contains("Examples:\n  "), "{page}: {help}");
        // Each has the options that it uses: what is not known ends before the help is shown.
        let lines = help.lines().map(str::trim);
        for line in lines.filter(|line| line.starts_with("maint ")) {
            let line = line.split(['|', '>', '#', ';']).next().unwrap_or_default();
            // What it does may stand behind it.
            let line = line.split("   ").next().unwrap_or_default();
            let line = line.strip_prefix("maint ").unwrap_or_default();
            let run = format!("exec \"$MAINT\" {} --help", line.trim_end());
            let mut shell = std::process::Command::new("sh");
            let shell = shell.args(["-c", &run]).env("MAINT", maint().get_program());
            let said = shell.output().unwrap();
            assert!(said.status.success(), "{page}: {line}: {said:?}");
        }
    }
    let page = |words: &[&str]| {
        let shown = maint().arg("man").args(words).output().unwrap();
        assert!(shown.status.success(), "{words:?}: {shown:?}");
        String::from_utf8(shown.stdout).unwrap()
    };
    let restore = page(&["archive", "restore"]);
    assert_eq!(restore, page(&["archive restore"]));
    assert!(restore.contains("\\-\\-into"), "{restore}");
    let kubernetes = page(&["export", "kubernetes"]);
    for part in ["one of: cronjobs", "by default: cronjobs"] {
        assert!(kubernetes.contains(part), "{part}: {kubernetes}");
    }
    assert!(
        page(&[]).contains(".SH EXIT STATUS\n.nf\n0 succeeded"),
        "{}",
        page(&[])
    );
    let wrong = maint().args(["man", "archive", "restor"]).output().unwrap();
    assert_eq!(wrong.status.code(), Some(2), "{wrong:?}");
}

/// Runs of a clock that was ahead say nothing of now: that is told, and not that all is well.
#[tokio::test]
async fn runs_that_began_later_than_now_are_told() {
    let db = fresh_database(17).await;
    let url = &db.url;
    let workspace = Workspace::new(&format!(
        "timezone: UTC\nhistory: \"{url}\"\ntargets:\n  app: {{ engine: postgres, url: \"{url}\" }}\n"
    ))
    .task("analyze", "kind: analyze\ntarget: app\n");
    workspace.run(["run", "analyze", "--now"]).expect(0);
    workspace.run(["status"]).expect(0);
    db.execute("UPDATE maint.runs SET started_at = started_at + interval '400 days', finished_at = finished_at + interval '400 days', status = 'failed'").await;
    let said = workspace.run(["status"]).expect(1);
    assert!(
        said.stdout
            .contains("1 run of the history began later than now, the newest (analyze on app)"),
        "{said:#?}"
    );
}
