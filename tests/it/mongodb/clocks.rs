//! A clock that is wrong makes no document older.

use mongodb::bson::{Document, doc};

use super::cleanup::days_ago;
use super::{codes, for_base, run};
use crate::support::mongo::TestBase;
use crate::support::workspace::{Workspace, run_off};

const TASKS: [&str; 4] = ["cleanup", "archive", "files", "orphans"];

/// Documents of the last ten days, and tasks that take those of more than a week.
async fn aging(base: &TestBase) -> Workspace {
    for name in ["cleanup", "archive", "files", "orphans"] {
        let documents = (0..10).map(|n| doc! { "_id": n, "at": days_ago(n), "of": 1 });
        let documents: Vec<Document> = documents.collect();
        base.collection(name).insert_many(documents).await.unwrap();
    }
    base.collection("parents")
        .insert_one(doc! { "_id": 2 })
        .await
        .unwrap();
    let rule = |name: &str| format!("collection: {name}, field: at, older_than: 7d");
    let workspace = for_base(base);
    let files = workspace.path().join("files").display().to_string();
    workspace
        .task("cleanup", &format!("kind: cleanup\ntarget: app\noptions:\n  rules: [{{ {} }}]\n", rule("cleanup")))
        .task("archive", &format!("kind: archive\ntarget: app\noptions:\n  rules: [{{ {} }}]\n  destination: {{ collection: kept }}\n", rule("archive")))
        .task("files", &format!("kind: archive\ntarget: app\noptions:\n  rules: [{{ {} }}]\n  destination: {{ files: \"file://{files}\" }}\n", rule("files")))
        .task("orphans", &format!("kind: cleanup\ntarget: app\noptions:\n  rules: [{{ {}, orphaned: {{ field: of, parent: parents }}, max_share: 100% }}]\n", rule("orphans")))
}

async fn clocks_that_differ_take_nothing(version: u32) {
    let base = TestBase::new(version).await;
    let workspace = aging(&base).await;
    for shift in ["+5d", "-5d", "+20s"] {
        for task in TASKS {
            let planned = run_off(&workspace, shift, &["plan", task, "--output", "json"]);
            assert!(
                planned.stdout.contains("clock.differs"),
                "{shift} {task}: {planned:?}"
            );
            assert_eq!(
                planned.json()["plans"][0]["plan"]["steps"],
                serde_json::json!([]),
                "{shift} {task}"
            );
            let done = run_off(
                &workspace,
                shift,
                &["run", task, "--now", "--output", "json"],
            )
            .expect(1);
            let done = done.json()["runs"][0].clone();
            assert_eq!(done["status"], "failed", "{shift} {task}: {done:#}");
            assert_eq!(codes(&done), ["clock.differs"], "{shift} {task}: {done:#}");
            assert_eq!(base.count(task, doc! {}).await, 10, "{shift} {task}");
        }
        let told = run_off(&workspace, shift, &["doctor"]).stdout;
        assert!(
            told.contains("the clock of this machine is about"),
            "{shift}: {told}"
        );
    }
    assert_eq!(base.count("kept", doc! {}).await, 0);
    let told = workspace.run(["doctor"]).stdout;
    assert!(
        told.contains("the clocks of this machine and the server agree"),
        "{told}"
    );
    for task in TASKS {
        assert_eq!(run(&workspace, task, 0)["rows"], 3, "{task}");
        assert_eq!(
            base.count(task, doc! { "_id": { "$gte": 7 } }).await,
            0,
            "{task}"
        );
        assert_eq!(base.count(task, doc! {}).await, 7, "{task}");
    }
    assert_eq!(base.count("kept", doc! {}).await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn clocks_that_differ_take_nothing_4_4() {
    clocks_that_differ_take_nothing(44).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clocks_that_differ_take_nothing_6_0() {
    clocks_that_differ_take_nothing(60).await;
}

/// What the server removes by itself goes by the server's clock, and so does the look at it.
#[tokio::test(flavor = "multi_thread")]
async fn what_expires_is_counted_by_the_clock_of_the_server() {
    let base = TestBase::new(60).await;
    let documents: Vec<Document> = (1..=10)
        .map(|n| doc! { "_id": n, "at": days_ago(n) })
        .collect();
    base.collection("events")
        .insert_many(documents)
        .await
        .unwrap();
    let workspace = for_base(&base).task(
        "expire",
        "kind: cleanup\ntarget: app\noptions:\n  ttl: [{ collection: events, field: at, expire_after: 12d, max_rows: 0 }]\n",
    );
    // By this clock five of them would go at once.
    let done = run_off(
        &workspace,
        "+7d",
        &["run", "expire", "--now", "--output", "json"],
    )
    .expect(0);
    let done = done.json()["runs"][0].clone();
    assert_eq!(super::steps(&done, "succeeded").len(), 1, "{done:#}");
    assert!(codes(&done).is_empty(), "{done:#}");
    // And by this one they should have gone long ago.
    let again = run_off(
        &workspace,
        "+7d",
        &["run", "expire", "--now", "--output", "json"],
    )
    .expect(0);
    assert!(codes(&again.json()["runs"][0]).is_empty(), "{again:?}");
    assert_eq!(base.count("events", doc! {}).await, 10);
}
