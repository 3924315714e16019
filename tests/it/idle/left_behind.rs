//! Whoever was at work elsewhere and is not heard of any more: a pod that was killed tells nobody.

use std::time::Duration;

use chrono::Utc;
use maint::history::{Claim, RunRecord, RunStatus};
use sqlx::ConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;

use super::{history, last_due, run, told, workspace};
use crate::support::workspace::Workspace;

async fn raw(workspace: &Workspace, sql: &'static str) {
    let file = SqliteConnectOptions::new().filename(workspace.history());
    let mut connection = file.connect().await.unwrap();
    sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
}

#[tokio::test]
async fn a_run_of_a_pod_that_is_silent_is_told_and_recorded_by_whoever_runs_next() {
    let workspace = workspace().task("vacuum", "kind: vacuum\ntarget: app\n");
    let store = history(&workspace).await;
    store.close_run(&run(1)).await.unwrap();
    let pod = RunRecord {
        status: RunStatus::Running,
        finished_at: None,
        host: "pod-a1".into(),
        pid: 1,
        process: Some("another machine's".into()),
        ..run(0)
    };
    store.open_run(&pod).await.unwrap();
    let not_well = "analyze on app has not succeeded since it failed";
    let why = "nothing has been heard for 5 minutes of its process on pod-a1";
    let (status, ..) = told(&workspace);
    assert!(!status.contains(not_well), "{status}");
    let shown = workspace.run(["show", "last"]).expect(0).stdout;
    assert!(shown.contains("running") && !shown.contains(why), "{shown}");

    // It says nothing any more.
    raw(
        &workspace,
        "UPDATE runs SET alive_until = '2020-01-01T00:00:00.000Z'",
    )
    .await;
    let (status, _, attention) = told(&workspace);
    assert!(status.contains(not_well) && attention, "{status}");
    workspace.run(["status"]).expect(1);
    for args in [&["show", "last"][..], &["show", "last", "--output", "json"]] {
        let shown = workspace.run(args).expect(0).stdout;
        assert!(
            shown.contains("interrupted") && shown.contains(why),
            "{shown}"
        );
    }
    let on_record = store.run(&pod.id.to_string()).await.unwrap();
    assert_eq!(
        on_record.status,
        RunStatus::Running,
        "looking changes nothing"
    );

    // Whoever runs next records it, whatever it runs, and wherever.
    workspace.run(["run", "vacuum", "--now"]).expect(3);
    let on_record = store.run(&pod.id.to_string()).await.unwrap();
    assert_eq!(on_record.status, RunStatus::Interrupted);
    assert!(on_record.error.unwrap().contains(why));
}

#[tokio::test]
async fn an_occurrence_that_somebody_left_behind_is_told_until_it_is_taken_over() {
    let workspace = workspace();
    let store = history(&workspace).await;
    store.close_run(&run(1)).await.unwrap();
    let claim = Claim {
        schedule: "daily".into(),
        scheduled_for: last_due(),
        catch_up: false,
        owner: "pod-a1 1 abc".into(),
        lease: Duration::from_secs(60),
        now: Utc::now(),
    };
    assert!(store.claim_occurrence(&claim).await.unwrap().is_some());
    let text = "schedule daily was begun by pod-a1 1 abc, which has not been heard of since, and is not finished";
    let (status, report, _) = told(&workspace);
    assert!(!status.contains(text) && !report.contains(text), "{status}");

    raw(
        &workspace,
        "UPDATE occurrences SET lease_until = '2020-01-01T00:00:00.000Z'",
    )
    .await;
    let (status, report, attention) = told(&workspace);
    assert!(
        status.contains(text) && report.contains(text) && attention,
        "{status}\n{report}"
    );
    let said = workspace.run(["status"]).expect(1).stdout;
    assert!(said.contains("maint run --due --schedule daily"), "{said}");
    let next = workspace.run(["next"]).expect(0).stdout;
    assert!(next.contains("begun by pod-a1"), "{next}");
    let next = workspace.run(["next", "--output", "json"]).expect(0).json();
    assert_eq!(next["overdue"][0]["schedule"], "daily", "{next:#}");

    // What the advice says takes it over; that its task then fails is another matter.
    workspace
        .run(["run", "--due", "--schedule", "daily"])
        .expect(1);
    let (status, report, _) = told(&workspace);
    assert!(!status.contains(text) && !report.contains(text), "{status}");
}
