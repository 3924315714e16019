//! What is counted: by each filter that deletes take, rule by rule, and of what tells no age all of it
//! where an index tells.

use mongodb::IndexModel;
use mongodb::bson::{Document, doc};

use super::cleanup::days_ago;
use super::{codes, for_base, run};
use crate::support::mongo::TestBase;

async fn by_the_servers_time(version: u32) {
    let base = TestBase::new(version).await;
    for name in ["due", "aged"] {
        let documents = (0..20).map(|n| {
            let days = if n < 15 { 100 + n } else { -1 };
            doc! { "_id": n, "at": days_ago(days), "until": days_ago(if n < 3 { -9 } else { 9 }) }
        });
        let documents: Vec<Document> = documents.collect();
        let collection = base.collection(name);
        collection.insert_many(documents).await.unwrap();
        let index = IndexModel::builder().keys(doc! { "at": 1 }).build();
        collection.create_index(index).await.unwrap();
    }
    let workspace = for_base(&base).task("sweep", "kind: cleanup\ntarget: app\noptions:\n  rules:\n    - { collection: due, where: { $expr: { $lt: [$at, $$NOW] } } }\n    - { collection: aged, field: at, older_than: 30d, keep: [{ $expr: { $gt: [$until, $$NOW] } }], max_rows: 12 }\n");
    let counted = workspace.run(["run", "sweep", "--dry-run"]).expect(0);
    for word in ["exactly 15 documents now", "exactly 12 documents now"] {
        assert!(counted.stdout.contains(word), "{word}: {counted:#?}");
    }
    let done = run(&workspace, "sweep", 0);
    assert_eq!(done["rows"], 27, "{done:#}");
    assert_eq!(base.count("due", doc! {}).await, 5);
    assert_eq!(base.count("aged", doc! {}).await, 8);
    let again = run(&workspace, "sweep", 0);
    assert!(again["steps"].as_array().unwrap().is_empty(), "{again:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn by_the_servers_time_4_4() {
    by_the_servers_time(44).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn by_the_servers_time_5_0() {
    by_the_servers_time(50).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn by_the_servers_time_6_0() {
    by_the_servers_time(60).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_command_counts_by_is_refused_where_it_is_read() {
    let base = TestBase::new(60).await;
    let said = for_base(&base)
        .task("sweep", "kind: cleanup\ntarget: app\noptions:\n  rules:\n    - { collection: due, where: { $where: 'true' }, keep: [{ $expr: { $gt: [$until, $$NOW] } }] }\n")
        .run(["check"])
        .expect(2);
    assert!(said.stderr.contains("`$where` and `$$NOW`"), "{said:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_cannot_be_counted_keeps_no_other_from_it() {
    let base = TestBase::new(60).await;
    let texts = (0..9).map(|n| doc! { "_id": n, "n": if n < 8 { "5" } else { "many" } });
    base.collection("texts").insert_many(texts).await.unwrap();
    let old = (0..7).map(|n| doc! { "_id": n, "x": 1 });
    base.collection("old").insert_many(old).await.unwrap();
    let workspace = for_base(&base).task("sweep", "kind: cleanup\ntarget: app\noptions:\n  rules:\n    - { collection: texts, where: { $expr: { $gt: [{ $toInt: $n }, 0] } } }\n    - { collection: old, where: { x: 1 } }\n");
    let counted = workspace.run(["run", "sweep", "--dry-run"]).expect(1);
    for word in ["not counted: ", "exactly 7 documents now"] {
        assert!(counted.stdout.contains(word), "{word}: {counted:#?}");
    }
    let counted = workspace
        .run(["run", "sweep", "--dry-run", "--output", "json"])
        .expect(1)
        .json();
    let plan = &counted["plans"][0];
    assert_eq!(plan["counts"].as_array().unwrap().len(), 1, "{plan:#}");
    assert!(plan.get("rows").is_none(), "{plan:#}");
}

/// A sample sees the few among many by luck only.
async fn all_that_tell_no_age(version: u32) {
    let base = TestBase::new(version).await;
    let events = base.collection("events");
    let mut documents: Vec<Document> = (0..20_000)
        .map(|n| doc! { "_id": n, "at": days_ago(1) })
        .collect();
    documents.extend((0..3).map(|n| doc! { "_id": format!("t{n}"), "at": "yesterday" }));
    documents.push(doc! { "_id": "none" });
    documents.push(doc! { "_id": "number", "at": 7 });
    events.insert_many(documents).await.unwrap();
    let index = IndexModel::builder().keys(doc! { "at": 1 }).build();
    events.create_index(index).await.unwrap();
    let workspace = for_base(&base).task("sweep", "kind: cleanup\ntarget: app\noptions: { rules: [{ collection: events, field: at, older_than: 30d }] }\n");
    let done = run(&workspace, "sweep", 0);
    assert_eq!(codes(&done), ["cleanup.types"], "{done:#}");
    let said = done["findings"][0]["message"].as_str().unwrap();
    assert_eq!(
        said,
        "5 documents tell no age in `at` (1 int, 3 string, 1 missing or null): what tells none stays for ever"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_tell_no_age_are_told_4_4() {
    all_that_tell_no_age(44).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_tell_no_age_are_told_6_0() {
    all_that_tell_no_age(60).await;
}
