//! A field that very many documents have the same value in.

use std::process::Stdio;

use mongodb::IndexModel;
use mongodb::bson::{DateTime, Document, doc};

use super::cleanup::days_ago;
use super::{for_base, workspace};
use crate::support::mongo::{Servers, TestBase};
use crate::support::patience::Patience;

const ALL: i64 = 20_000;

/// Documents of one day, and few of the day before and of today.
async fn filled(days: &mongodb::Collection<Document>) {
    let (before, day) = (days_ago(101), days_ago(100));
    let at = |n: i64| if n < 3 { before } else { day };
    let pad = "x".repeat(100);
    let old = (0..ALL).map(|n| doc! { "_id": n, "at": at(n), "pad": &pad });
    days.insert_many(old).await.unwrap();
    let new = (0..5).map(|n| doc! { "_id": -1 - n, "at": DateTime::now() });
    days.insert_many(new).await.unwrap();
    let index = IndexModel::builder().keys(doc! { "at": 1 }).build();
    days.create_index(index).await.unwrap();
}

const TASK: &str = "kind: cleanup\ntarget: app\noptions:\n  batch_goal: 10ms\n  rules: [{ collection: days, field: at, older_than: 90d }]\n";

/// A process that has begun to delete, and has not come to its end.
async fn begun(
    base: &mongodb::Collection<Document>,
    process: &mut std::process::Command,
) -> (std::process::Child, u64) {
    let mut child = process
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let patience = Patience::until("the first batches");
    loop {
        let left = base.count_documents(doc! {}).await.unwrap();
        if left < u64::try_from(ALL).unwrap() {
            return (child, left);
        }
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
        patience.pause().await;
    }
}

async fn goes_in_batches(version: u32) {
    let base = TestBase::new(version).await;
    let days = base.collection("days");
    filled(&days).await;
    let workspace = for_base(&base).task("cleanup", TASK);
    // Each batch is seen by the server as one command: none deletes very many.
    base.db.run_command(doc! { "profile": 2 }).await.unwrap();
    let words = ["run", "cleanup", "--now", "--output", "json"];
    let done = workspace.run(words).expect(0).json()["runs"][0].clone();
    base.db.run_command(doc! { "profile": 0 }).await.unwrap();
    assert_eq!(done["rows"], ALL, "{done:#}");
    assert_eq!(base.count("days", doc! {}).await, 5);
    let removed = base.collection("system.profile");
    let large = removed
        .count_documents(doc! { "op": "remove", "ndeleted": { "$gt": ALL / 2 } })
        .await
        .unwrap();
    assert_eq!(large, 0, "a batch of one value is without bound");
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_of_one_value_go_in_batches_4_4() {
    goes_in_batches(44).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_of_one_value_go_in_batches_6_0() {
    goes_in_batches(60).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_down_among_documents_of_one_value_is_counted() {
    let set = Servers::set(60).await;
    let days = set.root().await.database("app").collection("days");
    filled(&days).await;
    let workspace = workspace(&set.maint_url("app")).task("cleanup", TASK);
    let mut process = workspace.process(["run", "cleanup", "--now", "--output", "json"]);
    let (child, _) = begun(&days, &mut process).await;
    set.step_down().await;
    let output = child.wait_with_output().unwrap();
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let done = &told["runs"][0];
    assert_eq!(done["status"], "succeeded", "{done:#}");
    assert_eq!(done["rows"], ALL, "{done:#}");
    assert_eq!(days.count_documents(doc! {}).await.unwrap(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_is_heeded_among_documents_of_one_value() {
    let base = TestBase::new(60).await;
    let days = base.collection("days");
    filled(&days).await;
    let task = format!("{TASK}throttle: {{ pause_file: held }}\n");
    let workspace = for_base(&base).task("cleanup", &task);
    let mut process = workspace.process(["run", "cleanup", "--now", "--output", "json"]);
    let (child, _) = begun(&days, &mut process).await;
    workspace.file("held", "");
    let mut before = u64::MAX;
    let patience = Patience::until("nothing goes any more");
    loop {
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        let left = days.count_documents(doc! {}).await.unwrap();
        if left == before {
            break;
        }
        before = left;
        patience.pause().await;
    }
    assert!(before > 5, "all of it went in spite of the pause");
    std::fs::remove_file(workspace.path().join("held")).unwrap();
    let output = child.wait_with_output().unwrap();
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["runs"][0]["rows"], ALL, "{told:#}");
}
