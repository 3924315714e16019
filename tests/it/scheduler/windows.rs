//! Tasks with windows of their own: an occurrence that finds them closed says so.

use std::path::Path;
use std::sync::Arc;

use chrono::{Timelike, Utc};
use maint::config::{Config, load_for_check};
use maint::execute::{Live, Stop};
use maint::history::{Ended, OccurrenceStatus, RunFilter, Store, open};
use maint::notify::Teller;
use maint::report::Templates;
use maint::scheduler::{Job, Outcome, PipelineWorker, Silence, Worker};

use super::{recorder, utc};
use crate::support::servers::fresh_database;
use crate::support::workspace::Workspace;

/// Half an hour of every day that is six hours away.
fn closed_now() -> String {
    let hour = (Utc::now().hour() + 6) % 24;
    format!("{hour:02}:00-{hour:02}:30")
}

fn write(folder: &Path, url: &str, cron: &str, tasks: &[(&str, &str)]) -> std::path::PathBuf {
    std::fs::create_dir_all(folder.join("tasks")).unwrap();
    let names: Vec<&str> = tasks.iter().map(|(name, _)| *name).collect();
    let yaml = format!(
        "targets:\n  app: {{ engine: postgres, url: \"{url}\" }}\nnotify: {{ file: told.json }}\n\
         schedules:\n  s: {{ {cron}, tasks: [{}] }}\n",
        names.join(", ")
    );
    let file = folder.join("schedules.yaml");
    std::fs::write(&file, yaml).unwrap();
    for (name, window) in tasks {
        let window = match *window {
            "" => String::new(),
            window => format!("window: \"{window}\"\n"),
        };
        let task = format!("kind: analyze\ntarget: app\n{window}");
        std::fs::write(folder.join(format!("tasks/{name}.yaml")), task).unwrap();
    }
    file
}

async fn carried_out(config: Config, store: &Arc<dyn Store>) -> Ended {
    let config = Arc::new(config);
    let teller = Teller::new(Arc::clone(&config), Templates::default(), "host".into());
    let worker = PipelineWorker::new(
        recorder(store),
        Arc::new(Silence),
        "host".into(),
        Live::default(),
        Arc::new(teller),
        Templates::default(),
    );
    let job = Job {
        schedule: config.schedules["s"].clone(),
        config,
        at: utc("2026-06-10T02:00:00Z"),
        catch_up: false,
        claims: 1,
        stop: Stop::default(),
    };
    match worker.carry_out(job).await {
        Outcome::Ended(ended) => ended,
        Outcome::Unfinished => panic!("nobody stopped it"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_finds_its_window_closed_is_missed_and_told() {
    let db = fresh_database(17).await;
    db.execute("CREATE TABLE something (id int)").await;
    let closed = closed_now();
    let yearly = "cron: \"0 2 10 6 *\"";
    for (tasks, status, succeeded, runs) in [
        (vec![("late", &*closed)], OccurrenceStatus::Missed, None, 0),
        (
            vec![("late", &*closed), ("free", "")],
            OccurrenceStatus::Ran,
            Some(false),
            1,
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let store = open("sqlite::memory:").await.unwrap();
        let file = write(folder.path(), &db.url, yearly, &tasks);
        let config = maint::config::load(&file, &maint::kinds::catalog(), &|_| None).unwrap();
        let ended = carried_out(config, &store).await;
        assert_eq!((ended.status, ended.succeeded), (status, succeeded));
        let reason = ended.reason.unwrap();
        let begin =
            format!("`late` was not run: outside its window `{closed}`, which opens next at ");
        assert!(reason.starts_with(&begin), "{reason}");
        let ran = store.runs(&RunFilter::default()).await.unwrap();
        assert_eq!((ran.len(), ended.runs.len()), (runs, runs));
        assert!(ran.iter().all(|run| run.task == "free"));
        let told = store.pending_notices().await.unwrap();
        let told: Vec<_> = told.iter().filter(|one| one.event == "missed").collect();
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(
            (told[0].task.as_str(), told[0].target.as_str()),
            ("late", "app")
        );
    }
}

/// What no window lets run before the next occurrence is left to that one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_a_later_occurrence_does_is_left_to_it() {
    let db = fresh_database(17).await;
    db.execute("CREATE TABLE something (id int)").await;
    let folder = tempfile::tempdir().unwrap();
    let store = open("sqlite::memory:").await.unwrap();
    // Of a quarter of an hour of the 10th, and open at another time.
    let window = match Utc::now().hour() {
        12..=18 => "20:00-21:00",
        _ => "14:00-15:00",
    };
    let tasks = [("free", ""), ("late", window)];
    let file = write(folder.path(), &db.url, "cron: \"*/15 * * * *\"", &tasks);
    let config = maint::config::load(&file, &maint::kinds::catalog(), &|_| None).unwrap();
    let ended = carried_out(config, &store).await;
    assert_eq!(
        (ended.status, ended.succeeded),
        (OccurrenceStatus::Ran, Some(true))
    );
    assert_eq!((ended.reason, ended.runs.len()), (None, 1));
}

#[test]
fn a_task_that_no_occurrence_finds_open_is_refused_by_the_check() {
    for (schedule, windows, refused) in [
        ("cron: \"0 2 * * *\"", ["", "04:00-05:00"], None),
        ("cron: \"0 2 * * SUN\"", ["", "Wed 04:00-05:00"], None),
        (
            "cron: \"0 2 * * *\", window: \"02:00-03:00\"",
            ["", "02:30-05:00"],
            None,
        ),
        (
            "cron: \"*/15 * * * *\"",
            ["03:00-04:00", "04:00-05:00"],
            None,
        ),
        (
            "cron: \"* * * * *\"",
            ["Sun 03:00-03:01", "Mon 04:00-05:00"],
            None,
        ),
        (
            "cron: \"0 2 1 1 *\"",
            ["", "04:00-05:00 America/New_York"],
            None,
        ),
        // An hour that only the clocks of one half of the year have in common.
        (
            "cron: \"0 2 * * *\", window: \"02:00-03:00 Europe/Berlin\"",
            ["", "01:00-02:00 UTC"],
            None,
        ),
        (
            "cron: \"0 2 * * *\", window: \"02:00-03:00\"",
            ["", "04:00-05:00"],
            Some("task `b` would never run: its window is `04:00-05:00`"),
        ),
        (
            "cron: \"0 2 * * *\"",
            ["03:00-04:00", "04:00-05:00"],
            Some("task `b` would never run: its window is `04:00-05:00`"),
        ),
        (
            "cron: \"0 2 * * *\", window: \"Sun 02:00-05:00\"",
            ["Mon 02:00-05:00", ""],
            Some("task `a` would never run: its window is `Mon 02:00-05:00`"),
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let tasks = [("a", windows[0]), ("b", windows[1])];
        let file = write(
            folder.path(),
            "postgres://127.0.0.1:1/none",
            schedule,
            &tasks,
        );
        let checked = load_for_check(&file, &maint::kinds::catalog(), &|_| None);
        let said = checked.err().map(|problems| problems.to_string());
        match (refused, said) {
            (None, None) => {}
            (Some(expected), Some(said)) => {
                assert!(said.contains(expected) && said.contains("hint:"), "{said}");
            }
            (_, said) => panic!("{schedule} {windows:?}: {said:?}"),
        }
    }
}

/// Where every occurrence waits for another day, that is said.
#[test]
fn a_schedule_whose_times_are_never_within_its_window_is_told() {
    for (schedule, told) in [
        ("cron: \"0 2 * * SUN\", window: \"Sat 03:00-05:00\"", true),
        ("cron: \"0 2 * * *\", window: \"03:00-05:00\"", true),
        ("cron: \"* * * * *\", window: \"Sat 03:00-05:00\"", false),
        ("cron: \"0 3 1 1 *\", window: \"Sat 03:00-05:00\"", false),
        ("cron: \"0 3 * * *\", window: \"Sat 03:00-05:00\"", false),
        ("cron: \"0 4 * * SAT\", window: \"Sat 03:00-05:00\"", false),
        ("cron: \"0 2 * * SUN\"", false),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let tasks = [("a", "")];
        let file = write(
            folder.path(),
            "postgres://127.0.0.1:1/none",
            schedule,
            &tasks,
        );
        let config = load_for_check(&file, &maint::kinds::catalog(), &|_| None).unwrap();
        let said = config.warnings.iter();
        let said = said.filter(|one| one.contains("none of its times is within its window"));
        assert_eq!(said.count() == 1, told, "{schedule}: {:?}", config.warnings);
    }
}

/// What was missed because of a window is no secret: `maint status` says it until it has run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_status_names_what_was_left_undone() {
    let db = fresh_database(17).await;
    db.execute("CREATE TABLE something (id int)").await;
    let workspace = Workspace::new("targets: {}\n");
    let closed = closed_now();
    let tasks = [("free", ""), ("late", &*closed)];
    let file = write(workspace.path(), &db.url, "cron: \"0 2 10 6 *\"", &tasks);
    let mut config = maint::config::load(&file, &maint::kinds::catalog(), &|_| None).unwrap();
    let history = format!("sqlite:{}", workspace.path().join("maint.db").display());
    config.history = maint::values::Secret::new(history.clone());
    let store = open(&history).await.unwrap();
    let claim = maint::history::Claim {
        schedule: "s".to_owned(),
        scheduled_for: Utc::now() - chrono::TimeDelta::hours(1),
        catch_up: false,
        owner: "host/1".to_owned(),
        lease: std::time::Duration::from_secs(60),
        now: Utc::now(),
    };
    store.claim_occurrence(&claim).await.unwrap().unwrap();
    let ended = carried_out(config, &store).await;
    assert!(store.finish_occurrence(&claim, &ended).await.unwrap());
    store.close().await;
    workspace.file(
        "tasks/late.yaml",
        "kind: analyze\ntarget: app\nenabled: false\n",
    );
    let said = workspace.run(["status"]).expect(1);
    assert!(
        said.stdout.contains(
            "schedule s did not do all that it was to do: `late` was not run: outside its window"
        ),
        "{said:#?}"
    );
}
