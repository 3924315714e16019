//! A walk goes to its end, and past what has no single age.

use mongodb::IndexModel;
use mongodb::bson::{DateTime, Document, doc};

use super::cleanup::days_ago;
use super::{codes, for_base, run, run_with};
use crate::support::mongo::TestBase;

/// More than the server gives at once, without an index, by a condition, and as orphans.
async fn to_the_end(version: u32) {
    let base = TestBase::new(version).await;
    let mut aged: Vec<Document> = (0..5000)
        .map(|n| doc! { "_id": n, "at": days_ago(100) })
        .collect();
    aged.extend((5000..5500).map(|n| doc! { "_id": n, "at": days_ago(1) }));
    let conditional = (0..3000).map(|n| doc! { "_id": n, "gone": n % 3 != 0 });
    let children = (0..4000).map(|n| doc! { "_id": n, "parent": n % 1000 });
    let parents = (0..600).map(|n| doc! { "_id": n });
    base.collection("aged").insert_many(aged).await.unwrap();
    base.collection("conditional")
        .insert_many(conditional)
        .await
        .unwrap();
    base.collection("children")
        .insert_many(children)
        .await
        .unwrap();
    base.collection("parents")
        .insert_many(parents)
        .await
        .unwrap();
    for (name, rule, gone, kept) in [
        (
            "aged",
            "field: at, older_than: 90d",
            5000,
            doc! { "_id": { "$gte": 5000 } },
        ),
        (
            "conditional",
            "where: { gone: true }",
            2000,
            doc! { "gone": false },
        ),
        (
            "children",
            "orphaned: { field: parent, parent: parents }",
            1600,
            doc! { "parent": { "$lt": 600 } },
        ),
    ] {
        let all = base.count(name, doc! {}).await;
        let workspace = for_base(&base).task("cleanup", &format!("kind: cleanup\ntarget: app\noptions:\n  rules: [{{ collection: {name}, {rule} }}]\n"));
        let done = run(&workspace, "cleanup", 0);
        assert_eq!(done["status"], "succeeded", "{name}: {done:#}");
        assert_eq!(done["rows"], gone, "{name}: {done:#}");
        assert_eq!(base.count(name, doc! {}).await, all - gone, "{name}");
        assert_eq!(base.count(name, kept).await, all - gone, "{name}");
        let again = run(&workspace, "cleanup", 0);
        assert!(again["steps"].as_array().unwrap().is_empty(), "{again:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_walk_by_ids_goes_to_the_end_4_4() {
    to_the_end(44).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_walk_by_ids_goes_to_the_end_6_0() {
    to_the_end(60).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_several_dates_stays_wherever_the_array_is() {
    let base = TestBase::new(60).await;
    let (old, new) = (days_ago(100), DateTime::now());
    let mut flat: Vec<Document> = (0..300).map(|n| doc! { "_id": n, "at": new }).collect();
    flat.push(doc! { "_id": "mixed", "at": [old, new] });
    flat.push(doc! { "_id": "old", "at": old });
    let mut within: Vec<Document> = (0..300)
        .map(|n| doc! { "_id": n, "e": { "at": new } })
        .collect();
    within.push(doc! { "_id": "around", "e": [{ "at": old }, { "at": new }] });
    within.push(doc! { "_id": "in", "e": { "at": [old, new] } });
    within.push(doc! { "_id": "old", "e": { "at": old } });
    base.collection("flat").insert_many(flat).await.unwrap();
    base.collection("within").insert_many(within).await.unwrap();
    let workspace = for_base(&base).task("cleanup", "kind: cleanup\ntarget: app\noptions:\n  rules:\n    - { collection: flat, field: at, older_than: 30d }\n    - { collection: within, field: e.at, older_than: 30d }\n");
    let done = run(&workspace, "cleanup", 0);
    assert_eq!(done["rows"], 2, "{done:#}");
    for (name, ids) in [("flat", vec!["mixed"]), ("within", vec!["around", "in"])] {
        assert_eq!(base.count(name, doc! { "_id": "old" }).await, 0, "{name}");
        let stayed = base.count(name, doc! { "_id": { "$in": &ids } }).await;
        assert_eq!(stayed, ids.len() as u64, "{name}");
        assert_eq!(
            base.count(name, doc! { "_id": { "$type": "number" } })
                .await,
            300
        );
    }
    let again = run(&workspace, "cleanup", 0);
    assert!(again["steps"].as_array().unwrap().is_empty(), "{again:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_array_that_comes_in_after_the_plan_stays() {
    let base = TestBase::new(60).await;
    let events = base.collection("events");
    let old = days_ago(100);
    let documents = (0..10).map(|n| doc! { "_id": n, "at": old });
    events.insert_many(documents).await.unwrap();
    let index = IndexModel::builder().keys(doc! { "at": 1 }).build();
    events.create_index(index).await.unwrap();
    let workspace = for_base(&base).task("cleanup", "kind: cleanup\ntarget: app\noptions:\n  rules: [{ collection: events, field: at, older_than: 30d }]\nthrottle: { pause_file: held }\n");
    let done = run_with(&workspace, "cleanup", async {
        let late = doc! { "_id": "late", "at": [old, DateTime::now()] };
        events.insert_one(late).await.unwrap();
    })
    .await;
    assert_eq!(base.ids("events").await, ["\"late\""], "{done:#}");
}

/// Of an index with several fields, only the one that tells the age must be no array.
#[tokio::test(flavor = "multi_thread")]
async fn arrays_in_other_fields_of_the_index_are_in_nobodys_way() {
    let base = TestBase::new(60).await;
    for (name, indexes) in [
        ("compound", vec![doc! { "at": 1, "tags": 1 }]),
        ("both", vec![doc! { "at": 1, "tags": 1 }, doc! { "at": 1 }]),
        ("several", vec![doc! { "at": 1, "tags": 1 }]),
    ] {
        let events = base.collection(name);
        let documents = (0..1200).map(|n| {
            let days = if n < 1000 { 100 } else { 1 };
            doc! { "_id": n, "at": days_ago(days), "tags": ["a", "b", n] }
        });
        events.insert_many(documents).await.unwrap();
        if name == "several" {
            let mixed = doc! { "_id": "mixed", "at": [days_ago(100), days_ago(1)], "tags": 1 };
            events.insert_one(mixed).await.unwrap();
        }
        for keys in indexes {
            let index = IndexModel::builder().keys(keys).build();
            events.create_index(index).await.unwrap();
        }
        let workspace = for_base(&base).task("cleanup", &format!("kind: cleanup\ntarget: app\noptions:\n  rules: [{{ collection: {name}, field: at, older_than: 30d }}]\n"));
        if name == "several" {
            let done = run(&workspace, "cleanup", 1);
            assert!(
                codes(&done).contains(&"cleanup.rule".to_owned()),
                "{done:#}"
            );
            assert_eq!(base.count(name, doc! {}).await, 1201, "{done:#}");
            continue;
        }
        let done = run(&workspace, "cleanup", 0);
        assert_eq!(done["rows"], 1000, "{name}: {done:#}");
        assert_eq!(
            base.count(name, doc! { "_id": { "$gte": 1000 } }).await,
            200
        );
        assert_eq!(base.count(name, doc! {}).await, 200, "{name}");
        let again = run(&workspace, "cleanup", 0);
        assert!(again["steps"].as_array().unwrap().is_empty(), "{again:#}");
    }
}
