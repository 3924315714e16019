//! Where archived documents must not go: to where they are, and to where they would not stay.

use mongodb::IndexModel;
use mongodb::bson::{DateTime, Document, doc};
use mongodb::options::IndexOptions;
use serde_json::json;

use super::archive::raw;
use super::cleanup::days_ago;
use super::{codes, for_base, run};
use crate::support::mongo::TestBase;
use crate::support::workspace::Workspace;

/// The same database by another name: one member, directly.
async fn another_name(base: &TestBase) -> String {
    let all: Vec<String> = (0..3).map(|n| base.servers.address(n)).collect();
    let primary = base.servers.address(base.servers.primary().await);
    let direct = base.url().replace(&all.join(","), &primary);
    direct.replace("replicaSet=rs0", "directConnection=true")
}

async fn with_both(base: &TestBase) -> Workspace {
    let (url, other) = (base.url(), another_name(base).await);
    Workspace::new(&format!(
        "history: sqlite:maint.db\ntargets:\n  app: {{ engine: mongodb, url: \"{url}\" }}\n  same: {{ engine: mongodb, url: \"{other}\" }}\n"
    ))
}

fn archive(from: &str, destination: &serde_json::Value) -> String {
    let rule = json!({ "collection": from, "field": "at", "older_than": "90d" });
    let options = json!({ "rules": [rule], "destination": destination });
    format!("kind: archive\ntarget: app\noptions: {options}\n")
}

async fn fill(base: &TestBase, name: &str) {
    let documents = (0..700).map(|n| {
        let days = if n < 600 { 100 } else { 1 };
        doc! { "_id": n, "at": days_ago(days), "n": n }
    });
    let collection = base.collection(name);
    collection.insert_many(documents).await.unwrap();
}

async fn into_itself(version: u32) {
    let base = TestBase::new(version).await;
    fill(&base, "events").await;
    let before = raw(&base.db, "events").await;
    let mut workspace = with_both(&base).await;
    for destination in [
        json!({ "target": "app", "database": &base.name }),
        json!({ "target": "same", "database": &base.name }),
        json!({ "target": "same", "database": &base.name, "collection": "events" }),
    ] {
        workspace = workspace.task("archive", &archive("events", &destination));
        let done = run(&workspace, "archive", 1);
        assert_eq!(done["status"], "failed", "{destination}: {done:#}");
        assert_eq!(codes(&done), ["archive.rule"], "{destination}: {done:#}");
        let said = done["findings"].to_string();
        assert!(
            said.contains("is where the documents are already"),
            "{said}"
        );
        assert_eq!(raw(&base.db, "events").await, before, "{destination}");
    }
    // Another collection there is another place.
    let kept = json!({ "target": "same", "database": &base.name, "collection": "kept" });
    let workspace = workspace.task("archive", &archive("events", &kept));
    let done = run(&workspace, "archive", 0);
    assert_eq!(done["rows"], 600, "{done:#}");
    assert_eq!(raw(&base.db, "kept").await, before[..600]);
    assert_eq!(raw(&base.db, "events").await, before[600..]);
    let again = run(&workspace, "archive", 0);
    assert!(again["steps"].as_array().unwrap().is_empty(), "{again:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_into_itself_is_refused_whatever_its_name_4_4() {
    into_itself(44).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_into_itself_is_refused_whatever_its_name_6_0() {
    into_itself(60).await;
}

async fn unfit(base: &TestBase) {
    let ttl = IndexModel::builder()
        .keys(doc! { "seen": 1 })
        .options(
            IndexOptions::builder()
                .expire_after(std::time::Duration::from_secs(5))
                .build(),
        )
        .build();
    base.collection("expiring").create_index(ttl).await.unwrap();
    for command in [
        doc! { "create": "capped", "capped": true, "size": 4096 },
        doc! { "create": "view", "viewOn": "events", "pipeline": [] },
        doc! { "create": "series", "timeseries": { "timeField": "at" } },
        doc! { "create": "clustered", "clusteredIndex": { "key": { "_id": 1 }, "unique": true }, "expireAfterSeconds": 5 },
    ] {
        base.db.run_command(command).await.unwrap();
    }
}

const UNFIT: [(&str, &str); 5] = [
    ("expiring", "TTL index `seen_1`"),
    ("capped", "it is capped"),
    ("view", "it is a view"),
    ("series", "time-series collection"),
    ("clustered", "expireAfterSeconds"),
];

#[tokio::test(flavor = "multi_thread")]
async fn no_document_goes_to_where_it_would_not_stay() {
    let base = TestBase::new(60).await;
    fill(&base, "events").await;
    unfit(&base).await;
    let before = raw(&base.db, "events").await;
    let mut workspace = with_both(&base).await;
    for (name, word) in UNFIT {
        for destination in [
            json!({ "collection": name }),
            json!({ "target": "same", "database": &base.name, "collection": name }),
        ] {
            workspace = workspace.task("archive", &archive("events", &destination));
            let done = run(&workspace, "archive", 1);
            let said = done["findings"].to_string();
            assert!(
                said.contains(word) && said.contains(&format!("{}.{name}", base.name)),
                "{destination}: {done:#}"
            );
            assert_eq!(raw(&base.db, "events").await, before, "{destination}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_document_comes_back_to_where_it_would_not_stay() {
    let base = TestBase::new(60).await;
    fill(&base, "events").await;
    unfit(&base).await;
    let before = raw(&base.db, "events").await;
    let workspace = for_base(&base);
    let files = format!("file://{}/files", workspace.path().display());
    let workspace = workspace.task("archive", &archive("events", &json!({ "files": files })));
    assert_eq!(run(&workspace, "archive", 0)["rows"], 600);
    for (name, word) in UNFIT {
        let restore = ["archive", "restore", "--from", "events", "--into", name];
        let output = workspace.run(restore).expect(1);
        assert!(output.stderr.contains(word), "{name}: {output:?}");
        if name != "view" {
            assert_eq!(base.count(name, doc! {}).await, 0, "{name}");
        }
    }
    let restore = ["archive", "restore", "--from", "events", "--into", "back"];
    workspace.run(restore).expect(0);
    assert_eq!(raw(&base.db, "back").await, before[..600]);
}

/// A document of which a part is an array of dates has no single age.
#[tokio::test(flavor = "multi_thread")]
async fn arrays_of_dates_are_not_archived() {
    let base = TestBase::new(60).await;
    let (old, new) = (days_ago(100), DateTime::now());
    let mut documents: Vec<Document> = (0..300).map(|n| doc! { "_id": n, "at": new }).collect();
    documents.push(doc! { "_id": "mixed", "at": [old, new] });
    documents.push(doc! { "_id": "old", "at": old });
    base.collection("events")
        .insert_many(documents)
        .await
        .unwrap();
    let workspace = for_base(&base).task(
        "archive",
        &archive("events", &json!({ "collection": "kept" })),
    );
    let done = run(&workspace, "archive", 0);
    assert_eq!(done["rows"], 1, "{done:#}");
    assert_eq!(base.ids("kept").await, ["\"old\""]);
    assert_eq!(base.count("events", doc! { "_id": "mixed" }).await, 1);
}
