//! A run leaves the disk of the server what it may not use.

use serde_json::Value;

use super::for_base;
use crate::support::mongo::TestBase;
use crate::support::workspace::Workspace;

use mongodb::bson::doc;

async fn with(base: &TestBase, throttle: &str) -> Workspace {
    let old = (0..100).map(|n| doc! { "_id": n, "old": true });
    let _ = base
        .collection("events")
        .delete_many(doc! {})
        .await
        .unwrap();
    base.collection("events").insert_many(old).await.unwrap();
    for_base(base).task(
        "cleanup",
        &format!(
            "kind: cleanup\ntarget: app\noptions: {{ rules: [{{ collection: events, where: {{ old: true }} }}] }}\nlimits: {{ budget: 6s }}\nthrottle: {throttle}\n"
        ),
    )
}

fn ran(workspace: &Workspace, code: i32) -> Value {
    let words = ["run", "cleanup", "--now", "--output", "json"];
    workspace.run(words).expect(code).json()["runs"][0].clone()
}

async fn heeds_the_disk(version: u32) {
    let base = TestBase::new(version).await;
    let enough = with(&base, "{ min_free_disk: 1kB, abort_free_disk: 1kB }").await;
    let done = ran(&enough, 0);
    assert_eq!(
        (&done["status"], &done["rows"]),
        (&"succeeded".into(), &100.into()),
        "{done:#}"
    );

    // No disk has so much: it waits until its time is up, and has done nothing.
    let waits = with(&base, "{ min_free_disk: 4000TB }").await;
    let left = ran(&waits, 0);
    assert_eq!(left["status"], "incomplete", "{left:#}");
    assert_eq!(left["steps"][0]["kept_by"], "throttle", "{left:#}");
    let pause = &left["steps"][0]["throttled"][0];
    assert_eq!(pause["setting"], "min_free_disk", "{left:#}");
    let reason = pause["reason"].as_str().unwrap();
    assert!(reason.contains("are free on the disk of"), "{reason}");
    assert_eq!(base.count("events", doc! {}).await, 100);

    let ends = with(&base, "{ abort_free_disk: 4000TB }").await;
    let ended = ran(&ends, 0);
    assert_eq!(ended["status"], "incomplete", "{ended:#}");
    assert!(
        ended["findings"]
            .to_string()
            .contains("throttle.abort_free_disk"),
        "{ended:#}"
    );
    assert_eq!(base.count("events", doc! {}).await, 100);

    let unknown = with(&base, "{ min_free_disk: 1kB, free_disk_query: SELECT 1 }").await;
    let failed = ran(&unknown, 1);
    assert!(
        failed.to_string().contains("throttle.free_disk_query"),
        "{failed:#}"
    );
    assert_eq!(base.count("events", doc! {}).await, 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_holds_up_a_run_4_4() {
    heeds_the_disk(44).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_holds_up_a_run_6_0() {
    heeds_the_disk(60).await;
}
