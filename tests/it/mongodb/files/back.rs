//! What comes back: once, from where it was moved to, and never over others'.

use mongodb::bson::{DateTime, Document, RawDocumentBuf, Timestamp, doc};
use serde_json::json;

use super::{address, archived, bytes, files_below, old_documents, raw, run, task};
use crate::mongodb::cleanup::days_ago;
use crate::mongodb::for_base;
use crate::support::mongo::TestBase;
use crate::support::patience::Patience;
use crate::support::s3::{BUCKET, Fault, S3};

/// Back in the collection that they came from, where the task takes them
/// again: afterwards each comes back once.
#[tokio::test(flavor = "multi_thread")]
async fn documents_that_went_twice_come_back_once() {
    let base = TestBase::new(60).await;
    old_documents(&base.db, "events", 0, 100).await;
    let before = raw(&base.db, "events").await;
    let folder = tempfile::tempdir().unwrap();
    let workspace = task(
        for_base(&base),
        "events",
        &json!({ "files": address(folder.path()) }),
    );
    run(&workspace, "archive", 0);
    workspace
        .run(["archive", "restore", "--into", "events"])
        .expect(0);
    assert!(bytes(&before) == bytes(&raw(&base.db, "events").await));
    run(&workspace, "archive", 0);
    assert_eq!(base.count("events", doc! {}).await, 0);
    assert_eq!(archived(&workspace).len(), 2);
    let back = workspace
        .run(["archive", "restore", "--into", "again"])
        .expect(0)
        .stdout;
    assert!(
        back.contains("was left out") && back.contains("100 documents are back"),
        "{back}"
    );
    assert!(bytes(&before) == bytes(&raw(&base.db, "again").await));
    // A collection that was dropped is another.
    base.collection("again").drop().await.unwrap();
    workspace
        .run(["archive", "restore", "--into", "again"])
        .expect(0);
    assert!(bytes(&before) == bytes(&raw(&base.db, "again").await));
    // Into another database.
    let other = format!("{}x", base.name);
    workspace
        .run(["archive", "restore", "--into", "c", "--database", &other])
        .expect(0);
    let there = base.servers.root().await.database(&other);
    assert!(bytes(&before) == bytes(&raw(&there, "c").await));
}

/// Somebody else's document of the same _id is neither overwritten nor taken
/// for one that is back, and nothing comes back beside it.
#[tokio::test(flavor = "multi_thread")]
async fn others_documents_are_not_overwritten() {
    let base = TestBase::new(60).await;
    old_documents(&base.db, "events", 0, 50).await;
    let folder = tempfile::tempdir().unwrap();
    let workspace = task(
        for_base(&base),
        "events",
        &json!({ "files": address(folder.path()) }),
    );
    run(&workspace, "archive", 0);
    base.collection("mine")
        .insert_one(doc! { "_id": 30, "mine": true })
        .await
        .unwrap();
    let restore = ["archive", "restore", "--into", "mine"];
    let refused = workspace.run(restore).expect(1).stderr;
    assert!(
        refused.contains("other documents with the same _id as 1 of those"),
        "{refused}"
    );
    assert_eq!(base.count("mine", doc! {}).await, 1);
    base.collection("mine")
        .delete_one(doc! { "_id": 30 })
        .await
        .unwrap();
    let unique = mongodb::IndexModel::builder()
        .keys(doc! { "v": 1 })
        .options(
            mongodb::options::IndexOptions::builder()
                .unique(true)
                .build(),
        )
        .build();
    base.collection("unique")
        .create_index(unique)
        .await
        .unwrap();
    let kept_out = workspace
        .run(["archive", "restore", "--into", "unique"])
        .expect(1)
        .stderr;
    assert!(
        kept_out.contains("a unique index keeps a document out"),
        "{kept_out}"
    );
    let capped = doc! { "create": "capped", "capped": true, "size": 4096 };
    base.db.run_command(capped).await.unwrap();
    for (into, said) in [
        ("capped", "is capped"),
        ("system.x", "belongs to the server"),
        ("", "is no name"),
        ("bad$name", "has a `$`"),
    ] {
        let output = workspace.run(["archive", "restore", "--into", into]);
        assert!(output.stderr.contains(said), "{into}: {output:?}");
    }
    let nowhere = ["archive", "restore", "--into", "x", "--database", "a.b"];
    let refused = workspace.run(nowhere).expect(2).stderr;
    assert!(refused.contains("`--database a.b`"), "{refused}");
    workspace.run(restore).expect(0);
    assert_eq!(base.count("mine", doc! {}).await, 50);
}

/// How old what a file holds is, is told by the field that its own rule goes by.
#[tokio::test(flavor = "multi_thread")]
async fn each_rule_tells_ages_by_its_own_field() {
    let base = TestBase::new(60).await;
    let documents = [("a", 200, 10), ("b", 10, 300)].map(|(kind, at, done)| {
        doc! { "t": kind, "at": days_ago(at), "done": days_ago(done) }
    });
    base.collection("events")
        .insert_many(documents)
        .await
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let rule = |kind: &str, field: &str| json!({ "collection": "events", "field": field, "older_than": "90d", "where": { "t": kind } });
    let options = json!({ "rules": [rule("a", "at"), rule("b", "done")], "destination": { "files": address(folder.path()) } });
    let workspace = for_base(&base).task(
        "archive",
        &format!("kind: archive\ntarget: app\noptions: {options}\n"),
    );
    run(&workspace, "archive", 0);
    let mut spans: Vec<String> = archived(&workspace)
        .iter()
        .map(|one| one["manifest"]["files"][0]["span"][0].as_str().unwrap()[..10].to_owned())
        .collect();
    spans.sort();
    let day = |days| days_ago(days).try_to_rfc3339_string().unwrap()[..10].to_owned();
    assert_eq!(spans, [day(300), day(200)]);
}

/// Of a document that went, was made anew, and went again, there are two versions: neither comes
/// back unseen, and nothing else does beside them.
async fn versions_stay_apart(version: u32) {
    let base = TestBase::new(version).await;
    let old = DateTime::from_millis(1_600_000_000_000);
    let events = base.collection("events");
    let folder = tempfile::tempdir().unwrap();
    let workspace = task(
        for_base(&base),
        "events",
        &json!({ "files": address(folder.path()) }),
    );
    let embedded = |n: i32| doc! { "_id": { "b": n, "a": [1] }, "at": old };
    let mut first: Vec<_> = (0..30).map(embedded).collect();
    first.push(doc! { "_id": 5, "at": old });
    events.insert_many(&first).await.unwrap();
    run(&workspace, "archive", 0);
    // Ten are the same again, seven are not; and the server holds 5 and 5.0 to be one `_id`.
    let mut second: Vec<_> = (0..10).map(embedded).collect();
    for n in 10..17 {
        let mut document = embedded(n);
        document.insert("v", 2);
        second.push(document);
    }
    second.push(doc! { "_id": 5.0, "at": old });
    events.insert_many(&second).await.unwrap();
    run(&workspace, "archive", 0);
    let ids: Vec<String> = archived(&workspace)
        .iter()
        .map(|one| one["manifest"]["id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(ids.len(), 2);
    let refused = workspace
        .run(["archive", "restore", "--into", "back"])
        .expect(1)
        .stderr;
    assert!(refused.contains("8 documents are in several"), "{refused}");
    assert!(refused.contains("; and 3 more; restore"), "{refused}");
    assert!(ids.iter().all(|id| refused.contains(id)), "{refused}");
    assert!(!refused.contains("RawDocument"), "{refused}");
    let names = base.db.list_collection_names().await.unwrap();
    assert!(!names.contains(&"back".to_owned()), "{names:?}");
    // Each by itself.
    for (id, into, count) in [(&ids[0], "one", 31), (&ids[1], "two", 18)] {
        let restore = ["archive", "restore", id, "--into", into];
        workspace.run(restore).expect(0);
        let back = base.count(into, doc! {}).await;
        assert!(back == count || back == 49 - count, "{into}: {back}");
    }
    // Another version that is there is told before anything comes back, whatever its type of number.
    let other = base.collection("other");
    other.insert_one(doc! { "_id": 5_i64 }).await.unwrap();
    other
        .insert_one(doc! { "_id": { "b": 1, "a": [1] }, "mine": 1 })
        .await
        .unwrap();
    for id in &ids {
        let restore = ["archive", "restore", id, "--into", "other", "--again"];
        let refused = workspace.run(restore).expect(1).stderr;
        let said = "other documents with the same _id as 2 of those to come back: ";
        assert!(refused.contains(said), "{refused}");
        assert!(!refused.contains("RawDocument"), "{refused}");
        assert_eq!(base.count("other", doc! {}).await, 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_of_a_document_stay_apart_4_4() {
    versions_stay_apart(44).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_of_a_document_stay_apart_5_0() {
    versions_stay_apart(50).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_of_a_document_stay_apart_6_0() {
    versions_stay_apart(60).await;
}

/// Through a store that asks for credentials; the history lost, the files moved.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_history_loses_no_archive() {
    let base = TestBase::new(60).await;
    old_documents(&base.db, "events", 0, 300).await;
    let before = raw(&base.db, "events").await;
    let s3 = S3::start();
    let destination = json!({ "files": format!("s3://{BUCKET}/a") });
    let workspace = s3.known_to(task(for_base(&base), "events", &destination));
    assert_eq!(run(&workspace, "archive", 0)["rows"], 300);
    workspace.run(["archive", "verify"]).expect(0);
    let said = format!("{:?}", workspace.run(["show", "last", "--output", "json"]));
    assert!(
        !said.contains("s3cret") && !said.contains("ecret:z9q"),
        "{said}"
    );
    let bucket = s3.folder.path().join(BUCKET);
    std::fs::rename(bucket.join("a"), bucket.join("b")).unwrap();
    let moved = format!("s3://{BUCKET}/b");
    let fresh = s3.known_to(task(for_base(&base), "events", &destination));
    let all = fresh
        .run(["archive", "list", "--files", &moved, "--output", "json"])
        .expect(0)
        .json();
    assert_eq!(all["archived"][0]["manifest"]["settled"], true, "{all:#}");
    fresh
        .run(["archive", "verify", "--files", &moved])
        .expect(0);
    let restore = ["archive", "restore", "--files", &moved, "--into", "back"];
    fresh
        .run(restore.into_iter().chain(["--from", "nothing"]))
        .expect(2);
    fresh
        .run(restore.into_iter().chain(["--from", "events"]))
        .expect(0);
    assert!(bytes(&before) == bytes(&raw(&base.db, "back").await));
    fresh.run(restore).expect(2);
}

/// Whatever goes wrong with the store: nothing is deleted, and when all is
/// well again the next run does the work and leaves no other file.
#[tokio::test(flavor = "multi_thread")]
async fn faults_of_the_store_delete_nothing() {
    let base = TestBase::new(60).await;
    old_documents(&base.db, "events", 0, 200).await;
    let s3 = S3::start();
    let destination = json!({ "files": format!("s3://{BUCKET}/a") });
    let workspace = s3.known_to(task(for_base(&base), "events", &destination));
    for (fault, after) in [(Fault::Lies, 0), (Fault::Halves, 0), (Fault::Lies, 2)] {
        s3.fail(fault, after);
        let output = workspace.run(["run", "archive", "--now", "--output", "json"]);
        // A lie about the manifest beside the file is no lie about documents.
        if output.code == 0 {
            assert_eq!((fault, after), (Fault::Lies, 2));
            continue;
        }
        let said = output.expect(1).json()["runs"][0]["steps"].to_string();
        assert!(
            said.contains("nothing was deleted") || said.contains("as written"),
            "{fault:?}: {said}"
        );
        assert_eq!(base.count("events", doc! {}).await, 200, "{fault:?}");
    }
    s3.fail(Fault::None, 0);
    run(&workspace, "archive", 0);
    assert_eq!(base.count("events", doc! {}).await, 0);
    workspace.run(["archive", "verify"]).expect(0);
    workspace
        .run(["archive", "restore", "--into", "back"])
        .expect(0);
    assert_eq!(base.count("back", doc! {}).await, 200);
    let data = files_below(&s3.folder.path().join(BUCKET));
    let data = data.iter().filter(|f| f.ends_with(".jsonl.zst")).count();
    assert_eq!(data, archived(&workspace).len());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_a_unique_index_refuses_keeps_no_other_out() {
    let base = TestBase::new(60).await;
    let at = mongodb::bson::DateTime::from_millis(1_600_000_000_000);
    let documents = (0..2500).map(|n| doc! { "_id": n, "at": at, "k": n });
    let events = base.collection("events");
    events
        .insert_many(documents.collect::<Vec<_>>())
        .await
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let files = json!({ "files": address(folder.path()) });
    let workspace = task(for_base(&base), "events", &files);
    run(&workspace, "archive", 0);
    let unique = mongodb::options::IndexOptions::builder().unique(true);
    let unique = mongodb::IndexModel::builder()
        .keys(doc! { "k": 1 })
        .options(unique.build())
        .build();
    let back = base.collection("back");
    back.create_index(unique).await.unwrap();
    let other = doc! { "_id": "other", "k": 3 };
    back.insert_one(other.clone()).await.unwrap();
    let restore = ["archive", "restore", "--into", "back"];
    let said = workspace.run(restore).expect(1).stderr;
    for word in [
        "1 document does not come back",
        "a unique index keeps a document out",
        "all others are back",
        "their `_id`: 3",
    ] {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert_eq!(base.count("back", doc! {}).await, 2500);
    back.delete_one(other).await.unwrap();
    workspace.run(restore).expect(0);
    assert_eq!(base.count("back", doc! {}).await, 2500);
    assert_eq!(base.count("back", doc! { "_id": 3 }).await, 1);
}

/// The server fills in empty timestamps when it inserts: what cannot be put back as it was stays out by
/// name, and an earlier restore that was broken off before it had put them back can be given again.
#[tokio::test(flavor = "multi_thread")]
async fn a_timestamp_that_cannot_be_made_empty_again_keeps_no_other_out() {
    let base = TestBase::new(60).await;
    let old = DateTime::from_millis(1_600_000_000_000);
    let empty = Timestamp {
        time: 0,
        increment: 0,
    };
    let events = base.collection("events");
    let documents = (0..5).map(|n| doc! { "_id": n, "s": "ü", "at": old, "t": 1, "z": n });
    events.insert_many(documents).await.unwrap();
    for (id, field) in [(1, "t"), (3, "a.b")] {
        let set = doc! { "$setField": { "field": field, "input": "$$ROOT", "value": empty } };
        events
            .update_one(doc! { "_id": id }, vec![doc! { "$replaceWith": set }])
            .await
            .unwrap();
    }
    let before = raw(&base.db, "events").await;
    assert_eq!(before[3].get_timestamp("a.b").unwrap(), empty);
    let folder = tempfile::tempdir().unwrap();
    let files = json!({ "files": address(folder.path()) });
    let workspace = task(for_base(&base), "events", &files);
    assert_eq!(run(&workspace, "archive", 0)["rows"], 5);
    // As it is where the process has died before it had put the timestamp back.
    let mut cut_off = Document::try_from(&before[1]).unwrap();
    cut_off.insert("t", Timestamp { time: 9, ..empty });
    base.collection("back").insert_one(cut_off).await.unwrap();
    let restore = ["archive", "restore", "--into", "back"];
    for _ in 0..2 {
        let said = workspace.run(restore).expect(1).stderr;
        for word in [
            "1 document does not come back",
            "fills in an empty timestamp",
            "their `_id`: 3;",
            "all others are back (4 documents)",
        ] {
            assert!(said.contains(word), "{word}: {said}");
        }
        assert!(said.contains("the files of the archive have it"), "{said}");
        let mut others = before.clone();
        others.remove(3);
        assert!(bytes(&others) == bytes(&raw(&base.db, "back").await));
    }
}

/// Whoever writes a document of the same `_id` while others come back keeps that one out, and only it.
#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_is_taken_meanwhile_keeps_no_other_out() {
    const MANY: i32 = 40_000;
    let base = TestBase::new(60).await;
    old_documents(&base.db, "events", 0, MANY).await;
    let before = raw(&base.db, "events").await;
    let folder = tempfile::tempdir().unwrap();
    let files = json!({ "files": address(folder.path()) });
    let workspace = task(for_base(&base), "events", &files);
    run(&workspace, "archive", 0);
    let restore = ["archive", "restore", "--into", "back"];
    let mut process = workspace.process(restore);
    process.stdout(std::process::Stdio::null());
    let process = process
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let back = base.collection("back");
    let patience = Patience::until("the first documents are back");
    while back.find_one(doc! {}).await.unwrap().is_none() {
        patience.pause().await;
    }
    let mine = doc! { "_id": MANY - 1, "mine": true };
    back.insert_one(mine.clone()).await.unwrap();
    let output = process.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    for word in [
        "1 document does not come back",
        "another document of the same `_id` is there",
        "their `_id`: 39999;",
        "all others are back (39999 documents)",
    ] {
        assert!(said.contains(word), "{word}: {said}");
    }
    let mut wanted = before;
    wanted.pop();
    wanted.push(RawDocumentBuf::try_from(&mine).unwrap());
    assert!(bytes(&wanted) == bytes(&raw(&base.db, "back").await));
}
