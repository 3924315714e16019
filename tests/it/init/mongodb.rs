use mongodb::IndexModel;
use mongodb::bson::{DateTime, doc};
use mongodb::options::IndexOptions;

use super::{Folder, without_comments};
use crate::support::mongo::TestBase;

#[tokio::test(flavor = "multi_thread")]
async fn a_database_becomes_a_configuration() {
    let base = TestBase::new(60).await;
    let at = |n: i64| DateTime::from_millis(1_700_000_000_000 + n * 1000);
    base.collection("events")
        .insert_many((0..10_500).map(|n| doc! { "created_at": at(n), "who": "geheim" }))
        .await
        .unwrap();
    base.collection("plain")
        .insert_many((0..10_500).map(|n| doc! { "n": n, "created_at": "2024-01-01" }))
        .await
        .unwrap();
    base.collection("few")
        .insert_one(doc! { "created_at": at(0) })
        .await
        .unwrap();
    base.collection("sessions")
        .insert_one(doc! { "expires_at": at(0) })
        .await
        .unwrap();
    let hour = std::time::Duration::from_secs(3600);
    let expires = IndexOptions::builder().expire_after(hour).build();
    let index = IndexModel::builder()
        .keys(doc! { "expires_at": 1 })
        .options(expires)
        .build();
    base.collection("sessions")
        .create_index(index)
        .await
        .unwrap();

    let folder = Folder::new().env("MONGODB_URL", &base.url());
    let written = folder.run(&["init"]).expect(0);
    let files = folder.files();
    assert!(!files.values().any(|text| text.contains("geheim")));
    assert!(files["schedules.yaml"].contains("{ engine: mongodb, url: \"${MONGODB_URL}\" }"));
    let cleanup = &files["tasks/cleanup.yaml"];
    let rules = without_comments(cleanup);
    assert!(cleanup.contains("enabled: false"), "{cleanup}");
    assert!(
        rules.contains("{ collection: events, field: created_at, older_than: 12mo }"),
        "{cleanup}"
    );
    assert!(
        rules.contains("{ collection: plain, field: \"_id\", older_than: 12mo }"),
        "{cleanup}"
    );
    assert_eq!(rules.matches("collection:").count(), 2, "{cleanup}");
    // How old the first by its `_id` is says nothing of another field.
    let said = |text: &str| cleanup.lines().any(|line| line.contains(text));
    let by_id =
        said("age by created_at") && said("by `_id`, whatever that field says, the first is of");
    assert!(
        by_id && said("age by _id") && said("; the first is of"),
        "{cleanup}"
    );
    let ttl = &files["tasks/ttl.yaml"];
    assert!(
        ttl.contains(
            "ttl:\n    - { collection: sessions, field: expires_at, expire_after: 3600s }"
        ),
        "{ttl}"
    );
    for name in ["snapshot", "integrity", "compact"] {
        assert!(
            files.contains_key(&format!("tasks/{name}.yaml")),
            "{written:#?}"
        );
    }
    folder.run(&["check"]).expect(0);
    folder.run(&["plan"]).expect(0);
    folder.run(&["run", "--all", "--now"]).expect(0);
    assert_eq!(base.count("events", doc! {}).await, 10_500);
    let would = folder.run(&["plan", "cleanup"]).expect(0);
    assert!(would.stdout.contains("events"), "{}", would.stdout);
}
