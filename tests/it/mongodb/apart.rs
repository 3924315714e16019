//! One rule that cannot be looked at is told by its name, and keeps no other from its work; no
//! message holds what documents hold.

use mongodb::IndexModel;
use mongodb::bson::{Document, doc};
use mongodb::options::IndexOptions;

use super::cleanup::days_ago;
use super::{codes, for_base, run, steps, workspace};
use crate::support::mongo::{PASSWORD, TestBase};

async fn old(base: &TestBase, name: &str) {
    let documents = (0..10).map(|n| doc! { "_id": n, "at": days_ago(if n < 6 { 100 } else { 1 }) });
    base.collection(name).insert_many(documents).await.unwrap();
}

async fn apart(version: u32) {
    let base = TestBase::new(version).await;
    for name in ["a", "b", "c"] {
        old(&base, name).await;
    }
    base.collection("t")
        .insert_one(doc! { "e": days_ago(5) })
        .await
        .unwrap();
    let task = "kind: cleanup\ntarget: app\noptions:\n  rules:\n    - { collection: a, field: at, older_than: 90d, where: { n: { $nosuch: 1 } } }\n    - { collection: b, field: at, older_than: 90d }\n    - { collection: c, orphaned: { field: at, parent: b, parent_database: away } }\n  ttl: [{ collection: t, field: e, expire_after: 30d }]\n";
    // A user of this one database, who may not look at the other.
    let name = format!("few{}", base.name);
    let roles = vec![doc! { "role": "readWrite", "db": &base.name }];
    let create = doc! { "createUser": &name, "pwd": PASSWORD, "roles": roles };
    let root = base.servers.root().await;
    root.database("admin").run_command(create).await.unwrap();
    let url = base.servers.url(Some(&name), &base.name, "");
    let few = workspace(&url).task("cleanup", task);
    let done = run(&few, "cleanup", 1);
    assert_eq!(done["status"], "partial", "{done:#}");
    let of = |action: &str, name: &str| format!("{action} {}.{name}", base.name);
    assert_eq!(
        steps(&done, "succeeded"),
        [of("create_ttl", "t"), of("delete", "b")],
        "{done:#}"
    );
    assert_eq!(base.count("a", doc! {}).await, 10);
    assert_eq!(base.count("b", doc! {}).await, 4);
    assert_eq!(base.count("c", doc! {}).await, 10);
    let critical: Vec<&str> = done["findings"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|finding| finding["severity"] == "critical")
        .map(|finding| finding["message"].as_str().unwrap())
        .collect();
    assert_eq!(critical.len(), 2, "{done:#}");
    let said = critical.join("\n");
    for part in [
        &format!(
            "the rule for {}.a cannot be followed: unknown operator: $nosuch",
            base.name
        ),
        &format!(
            "the rule for {}.c cannot be followed: not authorised for `listCollections` on away",
            base.name
        ),
    ] {
        assert!(said.contains(part.as_str()), "{part}: {said}");
    }
    let again = run(&few, "cleanup", 1);
    assert!(steps(&again, "succeeded").is_empty(), "{again:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_cannot_be_looked_at_keeps_no_other_4_4() {
    apart(44).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_cannot_be_looked_at_keeps_no_other_6_0() {
    apart(60).await;
}

/// Before 5.1 the index of the field is in the way: that is the one reason why nothing expires.
#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_is_the_only_reason_that_is_told() {
    let base = TestBase::new(44).await;
    let sessions = base.collection("sessions");
    sessions
        .insert_one(doc! { "e": days_ago(5) })
        .await
        .unwrap();
    let index = IndexModel::builder().keys(doc! { "e": 1 }).build();
    sessions.create_index(index).await.unwrap();
    let workspace = for_base(&base).task(
        "cleanup",
        "kind: cleanup\ntarget: app\noptions: { ttl: [{ collection: sessions, field: e, expire_after: 1h }] }\n",
    );
    let done = run(&workspace, "cleanup", 1);
    assert_eq!(codes(&done), ["ttl.conflict"], "{done:#}");
    assert_eq!(base.count("sessions", doc! {}).await, 1);
}

async fn secrets(version: u32) {
    let base = TestBase::new(version).await;
    let source = base.collection("source");
    let documents: Vec<Document> = (0..3)
        .map(|n| doc! { "_id": n, "k": "s3cr3t word", "at": days_ago(100) })
        .collect();
    source.insert_many(documents).await.unwrap();
    let unique = IndexOptions::builder().unique(true).build();
    let index = IndexModel::builder()
        .keys(doc! { "k": 1 })
        .options(unique)
        .build();
    for name in ["result", "kept"] {
        let result = base.collection(name);
        result
            .insert_one(doc! { "_id": "x", "k": "s3cr3t word" })
            .await
            .unwrap();
        result.create_index(index.clone()).await.unwrap();
    }
    let aggregate = |pipeline: &str| {
        format!(
            "kind: refresh\ntarget: app\noptions: {{ aggregations: [{{ collection: source, pipeline: {pipeline} }}] }}\n"
        )
    };
    for (task, said) in [
        (aggregate("[{ $merge: result }]"), "has a value already that another document would have"),
        (
            aggregate("[{ $project: { n: { $toInt: $k } } }, { $out: numbers }]"),
            "Failed to parse number",
        ),
        (
            aggregate("[{ $project: { n: { $toDate: $k } } }, { $out: numbers }]"),
            "date string",
        ),
        (
            "kind: archive\ntarget: app\noptions: { rules: [{ collection: source, field: at, older_than: 90d }], destination: { collection: kept } }\n".to_owned(),
            "did not take them: a unique index has their values already; their `_id`: 0",
        ),
    ] {
        let workspace = for_base(&base).task("task", &task);
        let output = workspace.run(["run", "task", "--now", "--output", "json"]);
        let text = format!("{}{}", output.stdout, output.stderr);
        let failed = output.json()["runs"][0].clone();
        assert!(text.contains(said), "{text}");
        assert!(!text.contains("s3cr3t"), "{text}");
        assert_eq!(failed["status"], "failed", "{text}");
        let shown = workspace.run(["show", "last"]).stdout;
        assert!(!shown.contains("s3cr3t"), "{shown}");
        // Nothing of the driver's inside.
        assert!(!text.contains("Some(") && !text.contains("Kind:"), "{text}");
    }
    assert_eq!(base.count("source", doc! {}).await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_message_holds_what_documents_hold_4_4() {
    secrets(44).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_message_holds_what_documents_hold_6_0() {
    secrets(60).await;
}

/// One document that the destination's validator refuses stays, and is named; the others go, and
/// no copy of anything that stays is there.
async fn refused_by_a_validator(version: u32) {
    let base = TestBase::new(version).await;
    let documents = (0..100).map(|n| match n {
        41 => doc! { "_id": n, "state": 7, "at": days_ago(100) },
        n => doc! { "_id": n, "state": "done", "at": days_ago(100) },
    });
    base.collection("source")
        .insert_many(documents)
        .await
        .unwrap();
    let texts = doc! { "state": { "$type": "string" } };
    let create = doc! { "create": "kept", "validator": texts };
    base.db.run_command(create).await.unwrap();
    let workspace = for_base(&base).task(
        "archive",
        "kind: archive\ntarget: app\noptions: { rules: [{ collection: source, field: at, older_than: 90d }], destination: { collection: kept } }\n",
    );
    for gone in [99, 0] {
        let refused = run(&workspace, "archive", 1);
        assert_eq!(refused["status"], "failed", "{refused:#}");
        assert_eq!(refused["rows"], gone, "{refused:#}");
        assert_eq!(codes(&refused), ["archive.differs"], "{refused:#}");
        let message = refused["findings"][0]["message"].as_str().unwrap();
        assert!(message.contains("1 document stays"), "{message}");
        assert!(message.contains("its validator"), "{message}");
        assert!(message.ends_with("their `_id`: 41"), "{message}");
        assert_eq!(base.ids("source").await.len(), 1);
        assert_eq!(base.count("source", doc! { "_id": 41 }).await, 1);
        assert_eq!(base.count("kept", doc! {}).await, 99);
    }
    let modify = doc! { "collMod": "kept", "validator": {} };
    base.db.run_command(modify).await.unwrap();
    let done = run(&workspace, "archive", 0);
    assert_eq!(done["rows"], 1, "{done:#}");
    assert_eq!(base.count("source", doc! {}).await, 0);
    assert_eq!(base.count("kept", doc! {}).await, 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_a_validator_refuses_keeps_nobody_4_4() {
    refused_by_a_validator(44).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_a_validator_refuses_keeps_nobody_6_0() {
    refused_by_a_validator(60).await;
}

/// Documents that may each come to the destination, and not together: the first of them goes, and
/// what it keeps out stays, also where others are refused beside them.
async fn conflicting_with_each_other(version: u32) {
    let base = TestBase::new(version).await;
    let documents = (0..100).map(|n| {
        let key = match n {
            11 | 12 => "s3cr3t a".to_owned(),
            40 | 41 | 77 => "s3cr3t b".to_owned(),
            50 => "s3cr3t there".to_owned(),
            n => n.to_string(),
        };
        doc! { "_id": n, "k": key, "n": if n == 60 { -1 } else { n + 1 }, "at": days_ago(100) }
    });
    let source = base.collection("source");
    source.insert_many(documents).await.unwrap();
    let create = doc! { "create": "kept", "validator": { "n": { "$gt": 0 } } };
    base.db.run_command(create).await.unwrap();
    let kept = base.collection("kept");
    let unique = IndexOptions::builder().unique(true).build();
    let index = IndexModel::builder()
        .keys(doc! { "k": 1 })
        .options(unique)
        .build();
    kept.create_index(index).await.unwrap();
    kept.insert_one(doc! { "_id": "x", "k": "s3cr3t there", "n": 1 })
        .await
        .unwrap();
    let workspace = for_base(&base).task(
        "archive",
        "kind: archive\ntarget: app\noptions: { rules: [{ collection: source, field: at, older_than: 90d }], destination: { collection: kept } }\n",
    );
    for gone in [95, 0] {
        let done = run(&workspace, "archive", 1);
        assert_eq!(done["status"], "failed", "{done:#}");
        assert_eq!(done["rows"], gone, "{done:#}");
        assert_eq!(codes(&done), ["archive.differs"; 2], "{done:#}");
        let text = done["findings"].to_string();
        for part in [
            "4 documents stay",
            "a unique index has their values",
            "1 document stays",
            "its validator",
        ] {
            assert!(text.contains(part), "{part}: {done:#}");
        }
        assert!(!done.to_string().contains("s3cr3t"), "{done:#}");
        let mut all = base.ids("source").await;
        assert_eq!(all.len(), 5, "{all:?}");
        let there = base.ids("kept").await;
        assert_eq!(there.len(), 96, "{there:?}");
        all.extend(there);
        let all: std::collections::BTreeSet<_> = all.into_iter().collect();
        assert_eq!(all.len(), 101, "{all:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_of_documents_that_conflict_goes_4_4() {
    conflicting_with_each_other(44).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_of_documents_that_conflict_goes_6_0() {
    conflicting_with_each_other(60).await;
}
