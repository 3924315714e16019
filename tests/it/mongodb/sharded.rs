//! A shard that is asked directly: what is not to be found there may be on another.

use mongodb::bson::doc;

use super::{codes, run, workspace};
use crate::support::mongo::Servers;

async fn a_shard_alone(version: u32) {
    let servers = Servers::cluster(version, &["app", "old"]).await;
    let db = servers.direct(1, None).await.database("app");
    let ids = async |name: &str| {
        let collection = db.collection::<mongodb::bson::Document>(name);
        collection.count_documents(doc! {}).await.unwrap()
    };
    for name in ["parents", "children", "events", "plain", "kept"] {
        let documents =
            (0..20).map(|n| doc! { "_id": n, "p": n + 10, "n": 1_500_000_000 + n, "x": "kept" });
        db.collection(name).insert_many(documents).await.unwrap();
    }
    servers.shard("app", "parents").await;
    servers.shard("app", "events").await;
    let index = mongodb::IndexModel::builder().keys(doc! { "n": 1 }).build();
    let plain = db.collection::<mongodb::bson::Document>("plain");
    plain.create_index(index).await.unwrap();
    let url = servers.direct_url(1, "app");
    let parents = "rules: [{ collection: children, orphaned: { field: p, parent: parents } }]";
    for (kind, options, code, words) in [
        // Half of the children have no parent here: theirs may be on another shard.
        ("cleanup", parents, "cleanup.rule", "through a mongos"),
        (
            "cleanup",
            "rules: [{ collection: children, orphaned: { field: p, parent: plain } }]",
            "cleanup.rule",
            "this server is a shard",
        ),
        (
            "cleanup",
            "rules: [{ collection: events, where: { x: kept } }]",
            "cleanup.rule",
            "it is sharded",
        ),
        (
            "cleanup",
            "ttl: [{ collection: events, field: at, expire_after: 1d }]",
            "cleanup.rule",
            "it is sharded",
        ),
        (
            "archive",
            "rules: [{ collection: events, where: { x: kept } }], destination: { collection: kept }",
            "cleanup.rule",
            "it is sharded",
        ),
        (
            "archive",
            "rules: [{ collection: plain, where: { x: kept } }], destination: { collection: events }",
            "archive.rule",
            "it is sharded",
        ),
        (
            "archive",
            "rules: [{ collection: plain, where: { x: kept } }], destination: { collection: not_there }",
            "archive.rule",
            "make it through a mongos",
        ),
        (
            "refresh",
            "aggregations: [{ collection: events, pipeline: [{ $group: { _id: $p } }, { $merge: result }] }]",
            "refresh.source",
            "it is sharded",
        ),
        (
            "integrity",
            "validate: \"off\", references: [{ collection: children, field: p, parent: parents }]",
            "integrity.rule",
            "may be on its other shards",
        ),
    ] {
        let task = format!("kind: {kind}\ntarget: app\noptions: {{ {options} }}\n");
        let workspace = workspace(&url).task("one", &task);
        let done = run(&workspace, "one", 1);
        assert_eq!(codes(&done), [code], "{options}: {done:#}");
        let said = done["findings"].to_string();
        assert!(said.contains(words), "{options}: {said}");
        for name in ["parents", "children", "events", "plain", "kept"] {
            assert_eq!(ids(name).await, 20, "{options}: {name}");
        }
    }
    // What is in one place is worked on as ever.
    let task = "kind: cleanup\ntarget: app\noptions: { rules: [{ collection: plain, field: n, older_than: 30d, epoch: seconds }] }\n";
    let workspace = workspace(&url).task("one", task);
    let done = run(&workspace, "one", 0);
    assert_eq!(done["rows"], 20, "{done:#}");
    assert_eq!((ids("plain").await, ids("children").await), (0, 20));
    assert!(
        run(&workspace, "one", 0)["steps"]
            .as_array()
            .unwrap()
            .is_empty(),
        "a second run has nothing to do"
    );
    let doctor = workspace.run(["doctor"]);
    assert!(
        doctor.stdout.contains("a shard of a cluster"),
        "{doctor:#?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_alone_proves_no_absence_4_4() {
    a_shard_alone(44).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_alone_proves_no_absence_5_0() {
    a_shard_alone(50).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_alone_proves_no_absence_6_0() {
    a_shard_alone(60).await;
}
