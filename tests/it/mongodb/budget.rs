//! A backlog goes in as many runs as it takes, whatever is known of its time.

use mongodb::bson::{Document, doc};

use super::cleanup::days_ago;
use super::for_base;
use crate::support::mongo::TestBase;

const OLD: i32 = 20_000;

async fn fill(base: &TestBase) {
    for name in ["big", "moved"] {
        let documents: Vec<Document> = (0..OLD)
            .map(|n| doc! { "_id": n, "at": days_ago(100) })
            .collect();
        base.collection(name).insert_many(documents).await.unwrap();
    }
    let few: Vec<Document> = (0..10)
        .map(|n| doc! { "_id": n, "at": days_ago(100) })
        .collect();
    base.collection("few").insert_many(few).await.unwrap();
}

async fn every_run_gets_further(version: u32) {
    let base = TestBase::new(version).await;
    fill(&base).await;
    // A look that takes longer than the budget: every run of it has time for work.
    let rules = ["big", "few"]
        .map(|name| format!("{{ collection: {name}, field: at, older_than: 90d }}"))
        .join(", ");
    let workspace = for_base(&base)
        .task("cleanup", &format!("kind: cleanup\ntarget: app\noptions: {{ rules: [{rules}] }}\ncommands: {{ before: {{ run: [sh, -c, \"test -e quick || sleep 4\"] }} }}\n"))
        .task("archive", "kind: archive\ntarget: app\noptions:\n  rules: [{ collection: moved, field: at, older_than: 90d }]\n  destination: { collection: kept }\n");
    // How long it takes is known from a night in which all of it went.
    workspace.file("quick", "");
    workspace
        .run(["run", "cleanup", "archive", "--now"])
        .expect(0);
    assert_eq!(
        base.count("big", doc! {}).await
            + base.count("few", doc! {}).await
            + base.count("moved", doc! {}).await,
        0
    );
    base.collection("kept").drop().await.unwrap();
    fill(&base).await;
    std::fs::remove_file(workspace.path().join("quick")).unwrap();
    for (task, names, budget) in [
        ("cleanup", &["big", "few"][..], "3s"),
        ("archive", &["moved"], "4s"),
    ] {
        let left = async || {
            let mut left = 0_u64;
            for name in names {
                left += base.count(name, doc! {}).await;
            }
            left
        };
        let set = format!("limits.budget={budget}");
        let mut before = left().await;
        for n in 1.. {
            let words = ["run", task, "--now", "--output", "json", "--set", &set];
            let done = workspace.run(words).expect(0).json()["runs"][0].clone();
            assert!(
                !done["findings"].to_string().contains("time.never_fits"),
                "{task} {n}: {done:#}"
            );
            let now = left().await;
            if done["status"] == "succeeded" {
                assert_eq!(now, 0, "{done:#}");
                break;
            }
            assert_eq!(done["status"], "incomplete", "{done:#}");
            // However busy the machine is: some of these runs get further.
            assert!(
                now <= before && n < 60,
                "{task} {n}: {now} of {before} are left: {done:#}"
            );
            before = now;
        }
    }
    workspace.run(["status"]).expect(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_run_gets_further_6_0() {
    every_run_gets_further(60).await;
}

/// The server ends a batch in the middle where the time is up, and does not say how far it came.
async fn what_a_batch_did_that_was_cut_off_counts(version: u32) {
    let base = TestBase::new(version).await;
    let documents: Vec<Document> = (0..60_000)
        .map(|n| doc! { "_id": n, "at": days_ago(100 + i64::from(n) / 7) })
        .collect();
    let slow = base.collection("slow");
    let keys = doc! { "at": 1 };
    let index = mongodb::IndexModel::builder().keys(keys).build();
    slow.create_index(index).await.unwrap();
    let condition = "where: { $where: \"sleep(2) || true\" }";
    let mut workspace = for_base(&base);
    for (rule, said) in [
        (condition.to_owned(), "; "),
        (
            format!("field: at, older_than: 90d, {condition}"),
            "; at least ",
        ),
    ] {
        workspace = workspace.task("cleanup", &format!("kind: cleanup\ntarget: app\noptions: {{ batch_goal: 10s, rules: [{{ collection: slow, {rule} }}] }}\n"));
        // As many tries as are needed take away what there is: each rule begins with all of it.
        slow.delete_many(doc! {}).await.unwrap();
        slow.insert_many(&documents).await.unwrap();
        let mut cut = 0;
        // The first looks where the batch ends take all of it, and later ones reach into the batch.
        for n in 0..30 {
            let before = base.count("slow", doc! {}).await;
            let set = format!("limits.step_timeout={}ms", 1000 + 100 * n);
            let words = ["run", "cleanup", "--now", "--output", "json", "--set", &set];
            let done = workspace.run(words).json()["runs"][0].clone();
            let gone = i64::try_from(before - base.count("slow", doc! {}).await).unwrap();
            // On a busy machine the time may be over before there is anything to go.
            let Some(rows) = done["steps"][0]["rows"].as_i64() else {
                assert_eq!(gone, 0, "{done:#}");
                continue;
            };
            let error = done["steps"][0]["error"].as_str().unwrap();
            match error.contains("at least") {
                // Seven of each day: as many as one range may have more.
                true => assert!(rows <= gone, "{gone}: {done:#}"),
                false => assert_eq!(rows, gone, "{done:#}"),
            }
            if error.contains(&format!("{said}{rows} documents have gone, and")) && rows % 100 > 0 {
                cut += 1;
                assert!((rows - gone).abs() <= 7, "{gone}: {done:#}");
                break;
            }
        }
        assert_eq!(cut, 1, "no batch was cut off");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_batch_did_that_was_cut_off_counts_4_4() {
    what_a_batch_did_that_was_cut_off_counts(44).await;
}
