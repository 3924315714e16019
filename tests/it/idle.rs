//! What nobody looks after, although nothing has failed: dead schedulers, forgotten pauses, targets
//! without a URL, and messages that could reach nobody.

mod left_behind;
mod windows;

use std::sync::Arc;

use chrono::{DateTime, NaiveTime, TimeDelta, Utc};
use maint::history::{
    LockWait, Occurrence, OccurrenceStatus, Pause, RunRecord, RunStatus, StepRecord, StepStatus,
    Store, Trigger, open,
};
use serde_json::Value;
use uuid::Uuid;

use crate::support::servers::fresh_database;
use crate::support::workspace::Workspace;

const NOWHERE: &str = "postgres://app@127.0.0.1:1/app?sslmode=disable";

fn schedules(url: &str, more: &str) -> String {
    format!(
        "timezone: UTC\nhistory: sqlite:maint.db\ntargets:\n  app: {{ engine: postgres, url: \"{url}\" }}\n\
         schedules:\n  daily: {{ cron: \"0 2 * * *\", tasks: [analyze]{more} }}\n"
    )
}

fn workspace() -> Workspace {
    Workspace::new(&schedules(NOWHERE, "")).task("analyze", "kind: analyze\ntarget: app\n")
}

async fn history(workspace: &Workspace) -> Arc<dyn Store> {
    open(&format!("sqlite:{}", workspace.history().display()))
        .await
        .unwrap()
}

fn run(days_ago: i64) -> RunRecord {
    let at = Utc::now() - TimeDelta::days(days_ago);
    RunRecord {
        id: Uuid::now_v7(),
        task: "analyze".into(),
        kind: "analyze".into(),
        target: "app".into(),
        trigger: Trigger::Manual,
        status: RunStatus::Succeeded,
        scheduled_for: None,
        started_at: at,
        finished_at: Some(at),
        duration_ms: 100,
        inspect_ms: 5,
        rows: 0,
        bytes_before: 0,
        bytes_after: 0,
        error: None,
        host: "h".into(),
        pid: 1,
        process: None,
        schedule: None,
        part: None,
        steps: Vec::new(),
        findings: Vec::new(),
    }
}

/// When the schedule was due last.
fn last_due() -> DateTime<Utc> {
    let two = NaiveTime::from_hms_opt(2, 0, 0).unwrap();
    let today = Utc::now().date_naive().and_time(two).and_utc();
    match today <= Utc::now() {
        true => today,
        false => today - TimeDelta::days(1),
    }
}

/// As a scheduler records it that is there.
async fn looked_after(store: &dyn Store) {
    let one = Occurrence {
        schedule: "daily".into(),
        scheduled_for: last_due(),
        status: OccurrenceStatus::Skipped,
        catch_up: false,
        claimed_by: None,
        lease_until: None,
        claims: 0,
        recorded_at: Utc::now(),
        finished_at: None,
        succeeded: None,
        reason: None,
        runs: Vec::new(),
    };
    store.record_occurrences(&[one]).await.unwrap();
}

/// What `status` and the report say, and whether the report wants attention.
fn told(workspace: &Workspace) -> (String, String, bool) {
    let status = workspace.run(["status", "--output", "json"]).json();
    let report = workspace.run(["report", "--output", "json"]).expect(0);
    let report = report.json();
    let texts = |of: &Value| -> String {
        let reasons = of["reasons"].as_array().unwrap().iter();
        let reasons = reasons.map(|one| one["text"].as_str().unwrap());
        reasons.collect::<Vec<_>>().join("\n")
    };
    let attention = report["verdict"] == "attention";
    (texts(&status), texts(&report), attention)
}

#[tokio::test]
async fn a_scheduler_that_died_before_its_first_occurrence_is_told_everywhere() {
    let workspace = workspace();
    let store = history(&workspace).await;
    store.close_run(&run(10)).await.unwrap();
    // It was there for a moment, ten days ago.
    let ten_days_ago = Utc::now() - TimeDelta::days(10);
    let known = [("daily".to_owned(), "0 2 * * * UTC".to_owned())];
    store.know_schedules(&known, ten_days_ago).await.unwrap();
    let text = "schedule daily was due and nobody has looked";
    let (status, report, attention) = told(&workspace);
    assert!(
        status.contains(text) && report.contains(text),
        "{status}\n{report}"
    );
    assert!(attention);
    let said = workspace.run(["status", "--output", "nagios"]).expect(2);
    assert!(said.stdout.starts_with("MAINT CRITICAL"), "{said:#?}");
    let next = workspace.run(["next", "--output", "json"]).expect(0).json();
    assert_eq!(next["overdue"].as_array().unwrap().len(), 5, "{next:#}");
    assert_eq!(next["overdue"][0]["schedule"], "daily");

    // Somebody looks again: all is well.
    looked_after(store.as_ref()).await;
    assert_eq!(told(&workspace), (String::new(), String::new(), false));
    workspace.run(["status"]).expect(0);
    let next = workspace.run(["next", "--output", "json"]).expect(0).json();
    assert_eq!(next["overdue"].as_array().unwrap().len(), 0, "{next:#}");
}

#[tokio::test]
async fn a_schedule_that_nobody_ever_looked_after_is_told() {
    let workspace = workspace();
    let store = history(&workspace).await;
    store.close_run(&run(9)).await.unwrap();
    // It has just been written: nobody could have looked after it.
    workspace.run(["status"]).expect(0);
    let file = std::fs::File::options()
        .write(true)
        .open(workspace.path().join("schedules.yaml"))
        .unwrap();
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(20 * 86_400);
    file.set_modified(long_ago).unwrap();
    let text = "schedule daily was due, and nobody has ever looked after it here";
    let (status, report, attention) = told(&workspace);
    assert!(
        status.contains(text) && report.contains(text),
        "{status}\n{report}"
    );
    assert!(attention);
    let next = workspace.run(["next"]).expect(0);
    assert!(next.stdout.contains("nobody has ever looked"), "{next:#?}");
    // One that is off is nobody's business.
    workspace.file("schedules.yaml", &schedules(NOWHERE, ", enabled: false"));
    file.set_modified(long_ago).unwrap();
    workspace.run(["status"]).expect(0);
}

#[tokio::test]
async fn the_report_knows_of_a_pause_that_was_forgotten() {
    let workspace = workspace();
    let store = history(&workspace).await;
    store.close_run(&run(70)).await.unwrap();
    looked_after(store.as_ref()).await;
    let pause = Pause {
        schedule: "daily".into(),
        since: Utc::now() - TimeDelta::days(60),
        until: None,
        by: "ann".into(),
    };
    store.pause_schedule(&pause).await.unwrap();
    let (status, report, attention) = told(&workspace);
    assert!(
        status.contains("schedule daily is paused by ann"),
        "{status}"
    );
    assert!(
        report.contains("schedule daily is paused by ann since") && attention,
        "{report}"
    );
    let json = workspace
        .run(["report", "--output", "json"])
        .expect(0)
        .json();
    assert_eq!(json["planned"][0]["paused"], true, "{json:#}");
    assert!(json["tasks"][0]["next_at"].is_null(), "{json:#}");
    let text = workspace.run(["report"]).expect(0).stdout;
    assert!(text.contains("paused (analyze)"), "{text}");

    store.resume_schedule("daily").await.unwrap();
    assert_eq!(told(&workspace), (String::new(), String::new(), false));
    let json = workspace
        .run(["report", "--output", "json"])
        .expect(0)
        .json();
    assert_eq!(json["planned"][0]["paused"], false, "{json:#}");
    assert!(json["tasks"][0]["next_at"].is_string(), "{json:#}");
}

#[tokio::test]
async fn without_any_url_nothing_is_well() {
    let workspace =
        Workspace::new(&schedules("", "")).task("analyze", "kind: analyze\ntarget: app\n");
    let store = history(&workspace).await;
    looked_after(store.as_ref()).await;
    let text = "no target is configured";
    let (status, report, attention) = told(&workspace);
    assert!(
        status.contains(text) && report.contains(text) && attention,
        "{status}\n{report}"
    );
    let said = workspace.run(["doctor"]).expect(1);
    assert!(!said.stdout.contains("all is well"), "{said:#?}");
    // What ran there before is told by its name.
    store.close_run(&run(0)).await.unwrap();
    let text = "target app is not configured any more";
    let (status, report, attention) = told(&workspace);
    assert!(
        status.contains(text) && report.contains(text) && attention,
        "{status}\n{report}"
    );
}

/// What would tell nobody, or never come to an end, is no configuration.
#[test]
fn what_would_tell_nobody_is_a_problem() {
    for (more, why) in [
        (
            "smtp: { url: \"smtp://u:geheim@h:notaport\", from: a@example.com }\n",
            "`smtp.url` cannot be used: invalid port number",
        ),
        (
            "smtp: { url: \"smtp://u:geheim@h?tsl=none\", from: a@example.com }\n",
            "`tsl` is none of auth, tls, ca, timeout",
        ),
        (
            "smtp: { url: \"smtp://u:geheim@h?tls=none\", from: a@example.com }\n",
            "only for a relay on this machine",
        ),
        (
            "smtp: { url: \"smtps://u:geheim@h?ca=/no/such.pem\", from: a@example.com }\n",
            "`smtp.url` cannot be used: `ca=/no/such.pem`: ",
        ),
        (
            "smtp: { url: \"smtps://u:geheim@h?timeout=0s\", from: a@example.com }\n",
            "`timeout=0s` is no time for a mail to be handed over in; expected one such as `30s`",
        ),
        (
            "notify: { webhook: { url: \"https://geheim:99999/x\" } }\n",
            "`notify.webhook.url` cannot be used: invalid port number",
        ),
        ("notify: { on: [failed] }\n", "`notify` tells nobody"),
    ] {
        let workspace = Workspace::new(&format!("{}{more}", schedules(NOWHERE, "")))
            .task("analyze", "kind: analyze\ntarget: app\n");
        let said = workspace.run(["check"]).expect(2);
        assert!(said.stderr.contains(why), "{said:#?}");
        assert!(said.stderr.contains("schedules.yaml:"), "{said:#?}");
        assert!(!said.stderr.contains("geheim"), "{said:#?}");
    }
    for limits in ["step_timeout: 0s", "budget: 0s"] {
        let task = format!("kind: analyze\ntarget: app\nlimits: {{ {limits} }}\n");
        let workspace = Workspace::new(&schedules(NOWHERE, "")).task("analyze", &task);
        let said = workspace.run(["check"]).expect(2);
        assert!(said.stderr.contains("is no time at all"), "{said:#?}");
    }
    let other = schedules("mongodb://h/d", "");
    let workspace = Workspace::new(&other).task("analyze", "kind: analyze\ntarget: app\n");
    let said = workspace.run(["check"]).expect(2);
    assert!(said.stderr.contains("write `engine: mongodb`"), "{said:#?}");
    let fine = "smtp: { url: \"smtp://127.0.0.1:2525?tls=none&timeout=5s\", from: a@example.com }\n\
                notify: { file: told.jsonl }\n";
    Workspace::new(&format!("{}{fine}", schedules(NOWHERE, "")))
        .task("analyze", "kind: analyze\ntarget: app\n")
        .run(["check"])
        .expect(0);
}

fn step(seq: u32, status: StepStatus) -> StepRecord {
    StepRecord {
        seq,
        object: format!("public.t{seq}"),
        action: "analyze".into(),
        status,
        reason: "stale".into(),
        statement: "ANALYZE".into(),
        rows: None,
        bytes_before: None,
        bytes_after: None,
        started_at: Some(Utc::now()),
        duration_ms: 1,
        attempts: 1,
        error: (status == StepStatus::Failed).then(|| "a lock".to_owned()),
        lock_waits: match status {
            // A role without `pg_read_all_stats` is not shown since when.
            StepStatus::Failed => vec![LockWait {
                attempt: 1,
                blocker_pid: 4711,
                blocker_user: "postgres".into(),
                blocker_application: "psql".into(),
                blocker_state: "hidden from this role".into(),
                blocker_query_age_ms: 0,
                blocker_transaction_age_ms: 0,
                waited_ms: 100,
                stepped_back: false,
                relation: None,
            }],
            _ => Vec::new(),
        },
        throttled: Vec::new(),
        predicted_ms: None,
        planned_bytes: None,
        cut_off: false,
        kept_by: None,
        piled_up: false,
    }
}

#[tokio::test]
async fn of_two_thousand_steps_those_that_failed_are_shown_first() {
    let workspace = workspace();
    let store = history(&workspace).await;
    let mut all = run(0);
    all.status = RunStatus::Partial;
    let failed = |seq| [5, 1500].contains(&seq);
    let status = |seq| match failed(seq) {
        true => StepStatus::Failed,
        false => StepStatus::Succeeded,
    };
    all.steps = (1..=2000).map(|seq| step(seq, status(seq))).collect();
    store.close_run(&all).await.unwrap();
    let shown = workspace.run(["show", "last"]).expect(0).stdout;
    assert!(shown.lines().count() < 400, "{shown}");
    assert!(
        shown.contains("2 000: 2 failed, 1 998 succeeded"),
        "{shown}"
    );
    let place = |text: &str| shown.find(text).unwrap();
    assert!(place("public.t5:") < place("public.t1500:"), "{shown}");
    assert!(place("public.t1500:") < place("public.t1:"), "{shown}");
    assert!(shown.contains("more steps: maint show"), "{shown}");
    // What is not known is not told as nothing.
    assert!(shown.contains("since when is not known"), "{shown}");
    assert!(!shown.contains("0 ms before"), "{shown}");
    let every = workspace.run(["show", "last", "--all"]).expect(0).stdout;
    for seq in [1, 5, 1500, 2000] {
        assert!(every.contains(&format!("public.t{seq}:")), "{seq}");
    }
    assert!(!every.contains("more steps"), "{every}");
}

/// A task that no schedule has: nothing runs it, and nothing failed.
#[tokio::test]
async fn a_task_in_no_schedule_is_told_everywhere() {
    let workspace = workspace()
        .task("cleanup", "kind: vacuum\ntarget: app\n")
        .task("off", "kind: vacuum\ntarget: app\nenabled: false\n");
    let said = workspace.run(["check"]).expect(0);
    assert!(
        said.stdout.contains("task `cleanup` is in no schedule"),
        "{said:#?}"
    );
    assert!(!said.stdout.contains("`off`"), "{said:#?}");
    let next = workspace.run(["next"]).expect(0).stdout;
    assert!(
        next.contains("In no schedule, so not run by itself: cleanup\n"),
        "{next}"
    );
    let next = workspace.run(["next", "--output", "json"]).expect(0).json();
    assert_eq!(next["unscheduled"], serde_json::json!(["cleanup"]));

    // Whoever has just run it by hand may do so again; nobody has for long.
    let told = |workspace: &Workspace| {
        let status = workspace.run(["status", "--output", "json"]).json();
        let reasons = status["reasons"].as_array().unwrap().clone();
        let texts = reasons.iter().filter_map(|one| one["text"].as_str());
        let texts: Vec<String> = texts
            .filter(|text| text.contains("is in no schedule"))
            .map(str::to_owned)
            .collect();
        let report = workspace.run(["report", "--output", "json"]).expect(0);
        assert_eq!(
            report.stdout.contains("is in no schedule"),
            !texts.is_empty(),
            "{report:#?}"
        );
        texts
    };
    let store = history(&workspace).await;
    let record = |task: &str, days_ago| RunRecord {
        task: task.into(),
        ..run(days_ago)
    };
    store.close_run(&record("analyze", 0)).await.unwrap();
    assert_eq!(
        told(&workspace),
        ["task cleanup is in no schedule, and has never run"]
    );
    store.close_run(&record("cleanup", 60)).await.unwrap();
    assert_eq!(
        told(&workspace),
        ["task cleanup is in no schedule, and last ran 60 d ago"]
    );
    store.close_run(&record("cleanup", 2)).await.unwrap();
    assert_eq!(told(&workspace), [""; 0]);
    store.close().await;
}

/// A terminal in which the variable of a target is not set looks at the history all the same, and
/// does not say that the target has no URL; a default that is empty says that it may have none.
#[tokio::test]
async fn a_variable_that_is_not_set_here_is_no_missing_url() {
    for (url, silent) in [("${NOWHERE_SET}", true), ("${NOWHERE_SET:-}", false)] {
        let workspace =
            Workspace::new(&schedules(url, "")).task("analyze", "kind: analyze\ntarget: app\n");
        let store = history(&workspace).await;
        store.close_run(&run(0)).await.unwrap();
        store.close().await;
        for verb in ["history", "next", "status", "report"] {
            let said = workspace.run([verb]);
            assert!(said.code < 2, "{url} {verb}: {said:#?}");
            let told =
                said.stdout.contains("url` is empty") || said.stdout.contains("not configured");
            assert_eq!(
                told,
                !silent && matches!(verb, "status" | "report"),
                "{url} {verb}: {said:#?}"
            );
        }
        // Whoever works is told.
        let said = workspace.run(["plan", "analyze"]);
        assert_ne!(said.code, 0, "{said:#?}");
    }
}

/// A database that is another than was thought has nothing to look after, which is not "all is well".
async fn an_empty_database_is_told(major: u32) {
    let database = fresh_database(major).await;
    // What belongs to an extension, and what goes with a session, is nobody's to look after.
    database
        .execute("CREATE EXTENSION pg_stat_statements")
        .await;
    let kinds = [
        "analyze",
        "vacuum",
        "reindex",
        "repack",
        "refresh",
        "integrity",
        "snapshot",
    ];
    let mut workspace = Workspace::new(&schedules(&database.url, ""));
    for kind in kinds {
        workspace = workspace.task(kind, &format!("kind: {kind}\ntarget: app\n"));
    }
    let empty = |kind: &str, code: i32| {
        let run = workspace.run(["run", kind, "--now", "--output", "json"]);
        let run = run.expect(code).json()["runs"][0].clone();
        let found = run["findings"].as_array().unwrap();
        let found = found.iter().filter(|f| f["code"] == "database.empty");
        (found.count(), run["status"].as_str().unwrap().to_owned())
    };
    for kind in kinds {
        for _ in 0..2 {
            assert_eq!(empty(kind, 1), (1, "failed".to_owned()), "{kind}");
        }
        let plan = workspace.run(["plan", kind]).stdout;
        assert!(
            plan.contains("has no table: there is nothing to look after"),
            "{kind}: {plan}"
        );
    }
    let doctor = workspace.run(["doctor"]).expect(1).stdout;
    assert!(doctor.contains("has no table"), "{doctor}");
    let status = workspace.run(["status"]).expect(1).stdout;
    assert!(status.contains("not well"), "{status}");
    // One table is enough, also for those that have nothing to do with it.
    database.execute("CREATE TABLE t (id int)").await;
    for kind in kinds {
        assert_eq!(empty(kind, 0), (0, "succeeded".to_owned()), "{kind}");
    }
    let doctor = workspace.run(["doctor"]).stdout;
    assert!(!doctor.contains("has no table"), "{doctor}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_database_is_told_14() {
    an_empty_database_is_told(14).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_database_is_told_18() {
    an_empty_database_is_told(18).await;
}

/// Reports and closed windows are part of what lies ahead; records that wait beside the history are told.
#[test]
fn what_lies_ahead_has_reports_and_windows() {
    let workspace = Workspace::new(&format!(
        "timezone: UTC\nhistory: sqlite:maint.db\ntargets:\n  app: {{ engine: postgres, url: \"{NOWHERE}\" }}\nschedules:\n  noon: {{ cron: \"0 12 * * *\", tasks: [analyze], window: \"22:00-23:00\" }}\nreports:\n  weekly: {{ cron: \"0 8 * * MON\", period: 7d, email: {{ to: [dba@example.com] }} }}\n  off: {{ cron: \"0 8 * * MON\", period: 7d, enabled: false, email: {{ to: [dba@example.com] }} }}\nsmtp: {{ url: \"smtp://127.0.0.1:1\", from: \"maint <maint@example.com>\" }}\n"
    ))
    .task("analyze", "kind: analyze\ntarget: app\n");
    let next = workspace.run(["next"]).expect(0).stdout;
    let words = next.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("report:weekly the report"), "{next}");
    assert!(!next.contains("report:off"), "{next}");
    assert!(
        words.contains("12:00 UTC noon analyze, waits for its window until"),
        "{next}"
    );
    assert!(words.contains("22:00 UTC"), "{next}");
    let json = workspace.run(["next", "--output", "json"]).expect(0).json();
    let of = |schedule: &str| {
        let all = json["next"].as_array().unwrap();
        all.iter().find(|one| one["schedule"] == schedule).unwrap()
    };
    assert!(
        of("noon")["waits_until"]
            .as_str()
            .unwrap()
            .contains("T22:00:00"),
        "{json:#}"
    );
    assert!(of("report:weekly").get("waits_until").is_none(), "{json:#}");

    let folder = workspace.path().join("maint.db-spool");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("x.entries.jsonl"), "{}\n{}\n").unwrap();
    let history = workspace.run(["history"]).expect(0);
    assert!(
        history
            .stderr
            .contains("2 records of what ran wait beside the history"),
        "{history:#?}"
    );
}
