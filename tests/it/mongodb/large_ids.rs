//! Ids of any size fit into the commands that delete by them.

use mongodb::bson::doc;

use super::cleanup::days_ago;
use super::misspelt::cleanup;
use super::run;
use crate::support::mongo::TestBase;

async fn large(version: u32) {
    let base = TestBase::new(version).await;
    let text = |n: i32| format!("{n}{}", "x".repeat(5 << 20));
    let events = base.collection("events");
    for n in 0..4 {
        let event = doc! { "_id": text(n), "at": days_ago(100) };
        events.insert_one(event).await.unwrap();
    }
    let small = (0..100).map(|n| doc! { "_id": n, "at": days_ago(100) });
    events.insert_many(small).await.unwrap();
    let rules = "rules: [{ collection: events, field: at, older_than: 30d }]";
    let done = run(&cleanup(&base, rules), "cleanup", 0);
    assert_eq!(done["rows"], 104, "{done:#}");
    assert_eq!(base.count("events", doc! {}).await, 0);

    base.collection("sites")
        .insert_one(doc! { "_id": text(9) })
        .await
        .unwrap();
    let pages = base.collection("pages");
    for n in 6..10 {
        let page = doc! { "_id": n, "site": text(n) };
        pages.insert_one(page).await.unwrap();
    }
    let rules =
        "rules: [{ collection: pages, orphaned: { field: site, parent: sites }, max_share: 90% }]";
    let done = run(&cleanup(&base, rules), "cleanup", 0);
    assert_eq!(done["rows"], 3, "{done:#}");
    assert_eq!(base.ids("pages").await, ["9"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn large_ids_keep_nothing_from_going_4_4() {
    large(44).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_ids_keep_nothing_from_going_6_0() {
    large(60).await;
}
