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

const SECRET: &str = "nobody's business";

/// A document that an index there cannot hold stays, and nobody reads in any message what it holds;
/// the others go, and the next night as well.
async fn one_that_no_index_holds(version: u32) {
    let base = TestBase::new(version).await;
    let old = days_ago(100);
    let indexes = [
        (
            "parallel",
            doc! { "x": 1, "z": 1 },
            doc! { "x": [1, 2], "z": [1, 2] },
            171,
        ),
        ("flat", doc! { "x": "2d" }, doc! { "x": [1000, 2] }, 0),
        (
            "texts",
            doc! { "x": 1, "y": "text" },
            doc! { "x": [1], "y": SECRET },
            0,
        ),
        ("hashed", doc! { "x": "hashed" }, doc! { "x": [1] }, 16766),
    ];
    for (name, key, bad, code) in indexes {
        let kept = format!("kept_{name}");
        let index = IndexModel::builder().keys(key).build();
        base.collection(&kept).create_index(index).await.unwrap();
        let mut bad = bad;
        bad.extend(doc! { "_id": "bad", "at": old, "secret": SECRET });
        let good = |n: i32| doc! { "_id": n, "at": old };
        let documents = [good(1), bad.clone(), good(2)];
        base.collection(name).insert_many(documents).await.unwrap();
        let workspace =
            for_base(&base).task("archive", &archive(name, &json!({ "collection": &kept })));
        let mut texts = String::new();
        for rows in [2, 0] {
            let done = run(&workspace, "archive", 1);
            assert_eq!(done["rows"], rows, "{name}: {done:#}");
            assert_eq!(codes(&done), ["archive.differs"], "{name}: {done:#}");
            let message = done["findings"][0]["message"].as_str().unwrap();
            assert!(message.contains("1 document stays"), "{message}");
            let told = format!("the server's code {code}");
            assert!(code == 0 || message.contains(&told), "{message}");
            assert_eq!(base.ids(name).await, ["\"bad\""], "{name}");
            assert_eq!(base.ids(&kept).await, ["1", "2"], "{name}");
            texts.push_str(&done.to_string());
        }
        let history = std::fs::read(workspace.path().join("maint.db")).unwrap();
        texts.push_str(&String::from_utf8_lossy(&history));
        let shown = workspace.run(["show", "last"]).expect(0);
        texts.push_str(&shown.stdout);
        for content in [SECRET, "1000, 2", "1000.0"] {
            assert!(!texts.contains(content), "{name}: {content}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_no_index_there_holds_keeps_nobody_4_4() {
    one_that_no_index_holds(44).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_no_index_there_holds_keeps_nobody_6_0() {
    one_that_no_index_holds(60).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_does_not_come_back_keeps_nobody() {
    let base = TestBase::new(60).await;
    let old = days_ago(100);
    let bad = doc! { "_id": "bad", "at": old, "x": [1, 2], "z": [1, 2], "secret": SECRET };
    let documents = [
        doc! { "_id": 1, "at": old },
        bad,
        doc! { "_id": 2, "at": old },
    ];
    base.collection("events")
        .insert_many(documents)
        .await
        .unwrap();
    let workspace = for_base(&base);
    let files = format!("file://{}/files", workspace.path().display());
    let workspace = workspace.task("archive", &archive("events", &json!({ "files": files })));
    assert_eq!(run(&workspace, "archive", 0)["rows"], 3);
    let index = IndexModel::builder().keys(doc! { "x": 1, "z": 1 }).build();
    base.collection("back").create_index(index).await.unwrap();
    let restore = ["archive", "restore", "--from", "events", "--into", "back"];
    for _ in 0..2 {
        let output = workspace.run(restore).expect(1);
        assert!(
            output.stderr.contains("1 document does not come back"),
            "{output:?}"
        );
        assert!(output.stderr.contains("code 171"), "{output:?}");
        assert!(!output.stderr.contains(SECRET), "{output:?}");
        assert_eq!(base.ids("back").await, ["1", "2"]);
    }
    base.collection("back").drop_indexes().await.unwrap();
    workspace.run(restore).expect(0);
    assert_eq!(base.ids("back").await, ["1", "2", "\"bad\""]);
}

/// A server before 5.0 refuses names of fields that newer ones take: such documents stay, the reason is
/// said, and the others go; and so do those that come back.
#[tokio::test(flavor = "multi_thread")]
async fn names_of_fields_that_an_older_server_refuses_are_said() {
    let (base, old) = (TestBase::new(60).await, TestBase::new(44).await);
    base.collection("events")
        .insert_many([
            doc! { "_id": 1, "a": 1, "v": 1 },
            doc! { "_id": 2, "a": 1, "$v": 1 },
            doc! { "_id": 3, "a": 1, "v": 3 },
        ])
        .await
        .unwrap();
    let before = raw(&base.db, "events").await;
    let (url, there) = (base.url(), old.url());
    let workspace = Workspace::new(&format!(
        "history: sqlite:maint.db\ntargets:\n  app: {{ engine: mongodb, url: \"{url}\" }}\n  old: {{ engine: mongodb, url: \"{there}\" }}\n"
    ));
    let task = |destination: serde_json::Value| {
        let rule = json!({ "collection": "events", "where": { "a": 1 } });
        let options = json!({ "rules": [rule], "destination": destination });
        format!("kind: archive\ntarget: app\noptions: {options}\n")
    };
    let kept = task(json!({ "target": "old", "database": &old.name, "collection": "kept" }));
    let workspace = workspace.task("archive", &kept);
    let done = run(&workspace, "archive", 1);
    assert_eq!(codes(&done), ["archive.differs"], "{done:#}");
    let said = done["findings"].to_string();
    for word in [
        "1 document stays",
        "before MongoDB 5.0",
        "begin with `$` or have a dot",
        "their `_id`: 2",
    ] {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert_eq!(raw(&base.db, "events").await, before[1..2]);
    let both = [before[0].clone(), before[2].clone()];
    assert_eq!(raw(&old.db, "kept").await, both);
    // From files, too.
    let folder = tempfile::tempdir().unwrap();
    let files = format!("file://{}", folder.path().display());
    let workspace = workspace.task("archive", &task(json!({ "files": files })));
    base.collection("events")
        .insert_many(both.iter().map(|d| Document::try_from(d).unwrap()))
        .await
        .unwrap();
    assert_eq!(run(&workspace, "archive", 0)["rows"], 3);
    let back = [
        "archive", "restore", "--files", &files, "--target", "old", "--into", "back",
    ];
    let said = workspace.run(back).expect(1).stderr;
    for word in [
        "before MongoDB 5.0",
        "their `_id`: 2;",
        "all others are back (2 documents)",
    ] {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert_eq!(raw(&old.db, "back").await, both);
}
