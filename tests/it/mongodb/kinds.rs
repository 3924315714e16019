//! The other kinds: what they do, and that they do nothing the second time.

use mongodb::IndexModel;
use mongodb::bson::{Document, doc};

use super::{codes, for_base, run, steps};
use crate::support::mongo::TestBase;

const REFRESH: &str = "kind: refresh
target: app
options:
  aggregations:
    - collection: events
      pipeline:
        - { $group: { _id: $day, n: { $sum: 1 } } }
        - { $merge: { into: dashboard_metrics, whenMatched: replace } }
";

async fn refreshed_after_a_change(version: u32) {
    let base = TestBase::new(version).await;
    base.collection("events")
        .insert_many([doc! { "day": 1 }, doc! { "day": 1 }, doc! { "day": 2 }])
        .await
        .unwrap();
    let workspace = for_base(&base).task("refresh", REFRESH);
    let done = run(&workspace, "refresh", 0);
    assert_eq!(
        steps(&done, "succeeded"),
        [format!("refresh {}.dashboard_metrics", base.name)],
        "{done:#}"
    );
    let found = base
        .collection("dashboard_metrics")
        .find_one(doc! { "_id": 1 })
        .await
        .unwrap()
        .unwrap();
    assert_eq!(found.get_i32("n").ok(), Some(2));
    let again = run(&workspace, "refresh", 0);
    assert!(again["steps"].as_array().unwrap().is_empty(), "{again:#}");
    base.collection("events")
        .insert_one(doc! { "day": 1 })
        .await
        .unwrap();
    let third = run(&workspace, "refresh", 0);
    assert_eq!(
        third["steps"][0]["reason"], "its sources have changed",
        "{third:#}"
    );
    let found = base
        .collection("dashboard_metrics")
        .find_one(doc! { "_id": 1 })
        .await
        .unwrap()
        .unwrap();
    assert_eq!(found.get_i32("n").ok(), Some(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn results_are_made_anew_after_a_change_4_4() {
    refreshed_after_a_change(44).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn results_are_made_anew_after_a_change_5_0() {
    refreshed_after_a_change(50).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn results_are_made_anew_after_a_change_6_0() {
    refreshed_after_a_change(60).await;
}

async fn snapshot(version: u32) {
    let base = TestBase::new(version).await;
    let events = base.collection("events");
    events
        .insert_many((0..2000).map(|n| doc! { "a": n, "b": n, "pad": "x".repeat(50) }))
        .await
        .unwrap();
    for keys in [doc! { "a": 1 }, doc! { "a": 1, "b": 1 }] {
        events
            .create_index(IndexModel::builder().keys(keys).build())
            .await
            .unwrap();
    }
    let workspace = for_base(&base).task(
        "snapshot",
        "kind: snapshot\ntarget: app\noptions: { min_size: 1kB, unused_after: 0s }\n",
    );
    let done = run(&workspace, "snapshot", 0);
    assert_eq!(done["status"], "succeeded");
    assert_eq!(
        codes(&done),
        ["index.overlapping", "index.unused"],
        "{done:#}"
    );
    let text = done["findings"].to_string();
    assert!(text.contains("events.a_1\""), "{text}");
    events
        .find_one(doc! { "a": 5, "b": 5 })
        .hint(mongodb::options::Hint::Keys(doc! { "a": 1, "b": 1 }))
        .await
        .unwrap();
    assert_eq!(
        codes(&run(&workspace, "snapshot", 0)),
        ["index.overlapping"]
    );
    let report = workspace.run(["report", "--period", "7d"]).expect(0);
    assert!(!report.stdout.contains("tables"), "{report:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_tells_of_indexes_that_no_member_uses_4_4() {
    snapshot(44).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_tells_of_indexes_that_no_member_uses_5_0() {
    snapshot(50).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_tells_of_indexes_that_no_member_uses_6_0() {
    snapshot(60).await;
}

async fn integrity(version: u32) {
    let base = TestBase::new(version).await;
    base.db
        .run_command(doc! { "create": "users", "validator": { "name": { "$type": "string" } } })
        .await
        .unwrap();
    let users = base.collection("users");
    users
        .insert_many([
            doc! { "_id": 1, "name": "a" },
            doc! { "_id": 2, "name": "a" },
        ])
        .await
        .unwrap();
    let insert = doc! { "insert": "users", "documents": [{ "_id": 3, "name": 7 }], "bypassDocumentValidation": true };
    base.db.run_command(insert).await.unwrap();
    base.collection("posts")
        .insert_many([doc! { "_id": 1, "user": 1 }, doc! { "_id": 2, "user": 99 }])
        .await
        .unwrap();
    let workspace = for_base(&base).task("integrity", "kind: integrity\ntarget: app\noptions:\n  references: [{ collection: posts, field: user, parent: users }]\n  unique: [{ collection: users, fields: [name] }]\n");
    let done = run(&workspace, "integrity", 0);
    assert_eq!(done["status"], "succeeded", "{done:#}");
    // 5.0 warns of documents that do not meet the schema in words of its own, too.
    let mut found = codes(&done);
    found.retain(|code| version != 50 || code != "collection.validate_warning");
    assert_eq!(
        found,
        [
            "collection.duplicates",
            "collection.schema",
            "reference.orphaned"
        ],
        "{done:#}"
    );
    let validated = steps(&done, "succeeded")
        .into_iter()
        .filter(|s| s.starts_with("validate"))
        .count();
    assert_eq!(validated, 2, "{done:#}");
    let full = workspace.task(
        "full",
        "kind: integrity\ntarget: app\noptions: { validate: full, include: [\"*.posts\"] }\n",
    );
    let done = run(&full, "full", 0);
    assert_eq!(done["status"], "succeeded", "{done:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn integrity_finds_what_is_broken_4_4() {
    integrity(44).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn integrity_finds_what_is_broken_5_0() {
    integrity(50).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn integrity_finds_what_is_broken_6_0() {
    integrity(60).await;
}

async fn compact(version: u32) {
    let base = TestBase::new(version).await;
    let events = base.collection("events");
    let pad = || {
        (0..20)
            .map(|_| uuid::Uuid::now_v7().simple().to_string())
            .collect::<String>()
    };
    for from in 0..20 {
        let documents = (0..1000).map(|n| doc! { "_id": from * 1000 + n, "pad": pad() });
        events.insert_many(documents).await.unwrap();
    }
    for n in 0..3 {
        let admin = base.servers.direct(n, Some("root")).await.database("admin");
        admin.run_command(doc! { "fsync": 1 }).await.unwrap();
    }
    let everywhere = mongodb::options::WriteConcern::builder()
        .w(mongodb::options::Acknowledgment::Nodes(3))
        .build();
    events
        .delete_many(doc! { "_id": { "$gte": 500 } })
        .write_concern(everywhere)
        .await
        .unwrap();
    // Freed blocks count once a checkpoint has been made.
    for n in 0..3 {
        let admin = base.servers.direct(n, Some("root")).await.database("admin");
        admin.run_command(doc! { "fsync": 1 }).await.unwrap();
    }
    let workspace = for_base(&base).task(
        "compact",
        "kind: compact\ntarget: app\noptions: { min_free: 100kB, min_share: 10% }\n",
    );
    let done = run(&workspace, "compact", 0);
    assert_eq!(done["status"], "succeeded", "{done:#}");
    let compacted = steps(&done, "succeeded");
    assert_eq!(compacted.len(), 2, "{done:#}");
    let primary = base.servers.address(base.servers.primary().await);
    assert!(
        compacted
            .iter()
            .all(|s| s.starts_with("compact ") && !s.ends_with(&primary)),
        "{compacted:?}"
    );
    assert_eq!(
        base.collection("events")
            .count_documents(Document::new())
            .await
            .unwrap(),
        500
    );
    let again = run(&workspace, "compact", 0);
    assert!(again["steps"].as_array().unwrap().is_empty(), "{again:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn compaction_takes_the_secondaries_one_by_one_4_4() {
    compact(44).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn compaction_takes_the_secondaries_one_by_one_6_0() {
    compact(60).await;
}
