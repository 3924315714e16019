//! A process that is told to end in the middle of a run: what was not done is
//! said to be so, and left to whoever comes next.

use std::process::{Child, Stdio};

use chrono::{TimeDelta, Utc};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::Served;
use crate::support::patience::Patience;
use crate::support::servers::{TestDatabase, fresh_database};
use crate::support::workspace::Workspace;

const TOKEN: &str = "a-token-of-some-length";

/// A schedule that was due a minute ago, and is not again for a day: no minute that passes
/// meanwhile makes another run due.
fn once() -> String {
    let last = Utc::now() - TimeDelta::minutes(1);
    last.format("%-M %-H * * *").to_string()
}

fn workspace(db: &TestDatabase, statement: &str, cron: &str) -> Workspace {
    let workspace = Workspace::new(&format!(
        "timezone: UTC\nhistory: sqlite:maint.db\ntargets:\n  app: {{ engine: postgres, url: \"{}\" }}\n\
         schedules:\n  often: {{ cron: \"{cron}\", tasks: [wait] }}\n",
        db.url
    ));
    task(&workspace, statement);
    workspace
}

fn task(workspace: &Workspace, statement: &str) {
    workspace.file(
        "tasks/wait.yaml",
        &format!("kind: sql\ntarget: app\nlimits: {{ grace: 1s }}\noptions: {{ statements: [{{ name: one, sql: {statement} }}] }}\n"),
    );
}

async fn asleep(db: &TestDatabase) {
    let sleeps = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(120)%' AND pid <> pg_backend_pid() AND state = 'active' AND datname = current_database()";
    let patience = Patience::until("the statement to be at work");
    while db.number(sleeps).await == 0 {
        patience.pause().await;
    }
}

const DUE: [&str; 6] = ["run", "--due", "--schedule", "often", "--output", "json"];

async fn due(workspace: &Workspace, db: &TestDatabase) -> Child {
    let process = workspace
        .process(DUE)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    asleep(db).await;
    process
}

async fn end(process: Child) -> (Option<i32>, Value) {
    let output = tokio::task::spawn_blocking(|| process.wait_with_output().unwrap());
    let output = output.await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let document = serde_json::from_slice(&output.stdout);
    let document = document.unwrap_or_else(|error| panic!("{error}\n{said}"));
    (output.status.code(), document)
}

/// The moments that runs of a document stand for, with how each ended.
fn ends(document: &Value) -> Vec<(String, String)> {
    let word = |value: &Value| value.as_str().unwrap().to_owned();
    let runs = document["runs"].as_array().unwrap().iter();
    runs.map(|run| (word(&run["scheduled_for"]), word(&run["status"])))
        .collect()
}

#[tokio::test]
async fn what_a_signal_has_cut_short_is_left_to_the_next_process() {
    let db = fresh_database(17).await;
    let workspace = workspace(&db, "SELECT pg_catalog.pg_sleep(120)", &once());
    let process = due(&workspace, &db).await;
    kill(Pid::from_raw(process.id() as i32), Signal::SIGTERM).unwrap();
    let (code, document) = end(process).await;
    assert_eq!(code, Some(143), "{document:#}");
    let first = ends(&document);
    assert_eq!(first[0].1, "cancelled", "{document:#}");
    assert_eq!(
        document["occurrences"].as_array().unwrap().len(),
        0,
        "{document:#}"
    );

    task(&workspace, "SELECT 1");
    let again = workspace.run(DUE).expect(0).json();
    let moment = &first[0].0;
    assert!(
        ends(&again)
            .iter()
            .any(|(at, status)| at == moment && status == "succeeded"),
        "{again:#}"
    );
    // And once only.
    let later = workspace.run(DUE).expect(0).json();
    assert!(ends(&later).iter().all(|(at, _)| at != moment), "{later:#}");
}

/// What a person has stopped is not taken up by the next process.
#[tokio::test]
async fn what_a_person_has_stopped_stays_stopped() {
    let db = fresh_database(17).await;
    let workspace = workspace(&db, "SELECT pg_catalog.pg_sleep(120)", &once());
    let process = due(&workspace, &db).await;
    workspace.run(["cancel", "last"]).expect(0);
    let (code, document) = end(process).await;
    assert_eq!(code, Some(130), "{document:#}");
    let stopped = ends(&document);
    assert_eq!(stopped[0].1, "cancelled", "{document:#}");
    task(&workspace, "SELECT 1");
    let again = workspace.run(DUE).expect(0).json();
    assert!(
        ends(&again).iter().all(|(at, _)| *at != stopped[0].0),
        "{again:#}"
    );
}

/// A run that was started on the status page belongs to the process like any
/// other: it is waited for, and its statement does not go on by itself.
#[tokio::test]
async fn a_run_started_on_the_page_ends_with_the_process() {
    let db = fresh_database(17).await;
    let workspace =
        workspace(&db, "SELECT pg_catalog.pg_sleep(120)", "* * * * *").env("MAINT_TOKEN", TOKEN);
    let file = workspace.path().join("schedules.yaml");
    let served = Served::start(&workspace, &file);
    workspace.run(["pause", "often"]).expect(0);
    let bearer = format!("Authorization: Bearer {TOKEN}");
    let started = served.ask("POST", "/runs", &[&bearer], "what=wait%40app");
    assert!([200, 303].contains(&started.code), "{started:?}");
    asleep(&db).await;
    let (code, said) = tokio::task::spawn_blocking(|| served.stop()).await.unwrap();
    assert_eq!(code, Some(0), "{said}");
    let runs = workspace
        .run(["history", "--output", "json"])
        .expect(0)
        .json();
    let of = |status: &str| {
        let runs = runs["runs"].as_array().unwrap().iter();
        runs.filter(|run| run["status"] == status).count()
    };
    assert!(of("cancelled") >= 1 && of("running") == 0, "{runs:#}");
    assert_eq!(
        db.number("SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(120)%' AND pid <> pg_backend_pid() AND state = 'active' AND datname = current_database()").await,
        0
    );
}

/// Targets without a URL: nothing ran, and nobody is told otherwise.
#[tokio::test]
async fn an_occurrence_that_ran_nothing_did_not_run() {
    let db = fresh_database(17).await;
    let workspace = workspace(&db, "SELECT 1", "* * * * *");
    workspace.run(["run", "wait", "--now"]).expect(0);
    let url = |url: &str| {
        format!(
            "history: sqlite:maint.db\ntargets:\n  app: {{ engine: postgres, url: \"{url}\" }}\n\
             schedules:\n  often: {{ cron: \"* * * * *\", tasks: [wait] }}\n"
        )
    };
    workspace.file("schedules.yaml", &url("${NO_SUCH_URL:-}"));
    let due = workspace.run(DUE).expect(0).json();
    let occurrences = due["occurrences"].as_array().unwrap();
    assert!(!occurrences.is_empty(), "{due:#}");
    assert!(
        occurrences.iter().all(|one| one["status"] == "skipped"),
        "{due:#}"
    );
    let said = workspace.run(["status"]).expect(1);
    assert!(
        said.stdout
            .contains("target app is not configured any more"),
        "{said:#?}"
    );
    // A variable that is set, to nothing, is no way to say so.
    workspace.file("schedules.yaml", &url("${EMPTY_URL}"));
    let workspace = workspace.env("EMPTY_URL", "");
    let refused = workspace.run(["check"]).expect(2);
    assert!(
        refused.stdout.contains("`EMPTY_URL` is empty")
            || refused.stderr.contains("`EMPTY_URL` is empty"),
        "{refused:#?}"
    );
}
