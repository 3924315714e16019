//! A recorder writes what it is told, now or later.

use super::*;
use crate::history::{RunFilter, RunStatus, StepStatus, Trigger, open};
use crate::values::wall_clock;

fn run(id: Uuid) -> RunRecord {
    RunRecord {
        id,
        task: "reindex".to_owned(),
        kind: "reindex".to_owned(),
        target: "app".to_owned(),
        trigger: Trigger::Manual,
        status: RunStatus::Running,
        scheduled_for: None,
        started_at: wall_clock(),
        finished_at: None,
        duration_ms: 0,
        inspect_ms: 0,
        rows: 0,
        bytes_before: 0,
        bytes_after: 0,
        error: None,
        host: "here".to_owned(),
        pid: 1,
        process: None,
        schedule: None,
        part: None,
        steps: Vec::new(),
        findings: Vec::new(),
    }
}

/// Who has waited in vain spares the others the wait, and who is refused at once does not.
#[test]
fn only_a_history_that_says_nothing_is_left_alone_by_all() {
    let away = Away::default();
    assert!(away.until().is_none() && away.silent_until().is_none());
    away.begins(Duration::from_millis(5));
    assert!(away.until().is_some() && away.silent_until().is_none());
    away.begins(LONG);
    assert!(away.until().is_some() && away.silent_until().is_some());
    away.ends();
    assert!(away.until().is_none() && away.silent_until().is_none());
}

fn step(seq: u32, status: StepStatus) -> StepRecord {
    StepRecord {
        seq,
        object: format!("public.t{seq}"),
        action: "analyze".to_owned(),
        status,
        reason: String::new(),
        statement: String::new(),
        rows: None,
        bytes_before: None,
        bytes_after: None,
        started_at: None,
        duration_ms: 0,
        attempts: 1,
        error: None,
        lock_waits: Vec::new(),
        throttled: Vec::new(),
        predicted_ms: None,
        planned_bytes: None,
        cut_off: false,
        kept_by: None,
        piled_up: false,
    }
}

#[tokio::test]
async fn what_gathers_is_written_in_order_and_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = open("sqlite::memory:").await.unwrap();
    let recorder = Recorder::start(Arc::clone(&store), folder.path().join("spool"));
    let id = Uuid::now_v7();
    recorder.open_run(&run(id));
    for seq in 1..=50 {
        recorder.step(id, &step(seq, StepStatus::Running));
        recorder.step(id, &step(seq, StepStatus::Succeeded));
    }
    assert_eq!(recorder.settle().await, None);
    let written = store.run(&id.to_string()).await.unwrap();
    assert_eq!(written.steps.len(), 50);
    assert!(
        written
            .steps
            .iter()
            .all(|step| step.status == StepStatus::Succeeded)
    );
    assert!(!folder.path().join("spool").exists());
}

#[tokio::test]
async fn a_history_that_is_away_is_written_when_it_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("maint.db");
    let location = format!("sqlite:{}", file.display());
    open(&location).await.unwrap().close().await;
    let spool = folder.path().join("spool");
    let away = folder.path().join("away.db");
    std::fs::rename(&file, &away).unwrap();
    // A folder in its place: the file cannot be opened.
    std::fs::create_dir(&file).unwrap();
    let store = crate::history::open_unseen(&location).unwrap();
    let recorder = Recorder::start(store, spool.clone());
    let id = Uuid::now_v7();
    recorder.open_run(&run(id));
    let mut ended = run(id);
    ended.status = RunStatus::Succeeded;
    ended.steps = vec![step(1, StepStatus::Succeeded)];
    recorder.close_run(&ended);
    let kept = match recorder.settle().await {
        Some(Kept::InFile(kept)) => kept,
        other => unreachable!("{other:?}"),
    };
    assert!(kept.starts_with(&spool), "{}", kept.display());
    let refused = recorder.proof("app", "archive", wall_clock(), &[]).await;
    assert!(refused.is_err(), "a proof is never kept aside");

    std::fs::remove_dir(&file).unwrap();
    std::fs::rename(&away, &file).unwrap();
    assert_eq!(recorder.settle().await, None);
    let store = open(&location).await.unwrap();
    let runs = store.runs(&RunFilter::default()).await.unwrap();
    assert_eq!(runs.len(), 1);
    assert_eq!(runs[0].status, RunStatus::Succeeded);
    assert!(!kept.exists());
}

/// Who says nothing is taken for dead after a while by whoever cannot know; who is at work says it.
#[tokio::test]
async fn a_run_at_work_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("maint.db");
    let store = open(&format!("sqlite:{}", file.display())).await.unwrap();
    let every = Duration::from_millis(20);
    let recorder = Recorder::saying(every, Arc::clone(&store), folder.path().join("spool"));
    let (at_work, silent, over) = (Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7());
    recorder.open_run(&run(at_work));
    recorder.open_run(&run(over));
    assert_eq!(recorder.settle().await, None);
    store.open_run(&run(silent)).await.unwrap();
    let nobody_knows = |_: &RunRecord| None;
    assert_eq!(store.dead(&nobody_knows).await.unwrap(), []);
    recorder.close_run(&RunRecord {
        status: RunStatus::Succeeded,
        ..run(over)
    });
    assert_eq!(recorder.settle().await, None);

    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&file);
    let mut other = sqlx::ConnectOptions::connect(&options).await.unwrap();
    sqlx::query("UPDATE runs SET alive_until = '2020-01-01T00:00:00.000Z'")
        .execute(&mut other)
        .await
        .unwrap();
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let dead = store.dead(&nobody_knows).await.unwrap();
        let dead: Vec<_> = dead.iter().map(|run| (run.id, run.error.clone())).collect();
        if let [(id, Some(why))] = &dead[..] {
            assert_eq!(*id, silent);
            assert!(
                why.contains("nothing has been heard for 5 minutes"),
                "{why}"
            );
            break;
        }
        assert!(
            Instant::now() < until,
            "the run at work says nothing: {dead:?}"
        );
        tokio::time::sleep(every).await;
    }
    let closed = store
        .interrupt_dead(&nobody_knows, wall_clock())
        .await
        .unwrap();
    assert_eq!(closed.len(), 1);
    assert_eq!(closed[0].status, RunStatus::Interrupted);
    assert!(closed[0].error.as_deref().unwrap().contains("on here"));
}
