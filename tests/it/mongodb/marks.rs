//! Whoever may write to the database can write into `maint.archives`: what stands there and the history
//! does not know takes nothing back.

use mongodb::Database;
use mongodb::bson::{DateTime, Document, RawDocumentBuf, doc};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::archive::raw;
use super::files::{bytes, old_documents, task};
use super::halfway::{killed_before_it_commits, left_open_is_ended};
use super::{codes, run, steps, workspace};
use crate::support::mongo::Servers;
use crate::support::workspace::Workspace;

const MARKS: &str = "maint.archives";

struct Place {
    set: Servers,
    db: Database,
    old: Database,
    workspace: Workspace,
}

impl Place {
    async fn new(version: u32) -> Place {
        let set = Servers::set(version).await;
        let root = set.root().await;
        let (db, old) = (root.database("app"), root.database("old"));
        old_documents(&db, "events", 0, 50).await;
        let destination = json!({ "database": "old" });
        let workspace = task(workspace(&set.maint_url("app")), "events", &destination);
        Place {
            set,
            db,
            old,
            workspace,
        }
    }

    fn marks(&self) -> mongodb::Collection<Document> {
        self.db.collection(MARKS)
    }

    async fn mark(&self) -> Document {
        let copying = doc! { "state": "copying" };
        self.marks().find_one(copying).await.unwrap().unwrap()
    }

    /// New documents by the ids of those that are archived, as anybody may write them.
    async fn are_inserted(&self, from: i32, to: i32) {
        let events = self.db.collection::<Document>("events");
        let new = (from..to).map(|n| doc! { "_id": n, "at": DateTime::now() });
        events.insert_many(new).await.unwrap();
    }
}

/// A mark as it was, and one that names all that is in the archive.
async fn forged(version: u32) {
    let place = Place::new(version).await;
    killed_before_it_commits(&place.set, &place.workspace).await;
    left_open_is_ended(&place.set).await;
    let genuine = place.mark().await;
    let done = run(&place.workspace, "archive", 0);
    assert_eq!(done["rows"], 50, "{done:#}");
    let kept = raw(&place.old, "events").await;
    assert_eq!(kept.len(), 50);
    place.are_inserted(0, 50).await;
    let digest = |document: &RawDocumentBuf| {
        let bytes = Sha256::digest(document.as_bytes()).to_vec();
        mongodb::bson::Binary {
            subtype: mongodb::bson::spec::BinarySubtype::Generic,
            bytes,
        }
    };
    let all: Vec<Document> = kept
        .iter()
        .map(|document| doc! { "id": document.get_i32("_id").unwrap(), "hash": digest(document) })
        .collect();
    let mut made_up = genuine.clone();
    made_up.insert("_id", "copies x");
    made_up.insert("owner", "maint 1");
    made_up.insert("copies", all);
    for mark in [genuine, made_up] {
        place.marks().insert_one(&mark).await.unwrap();
        for command in ["plan", "run"] {
            let told = match command {
                "plan" => place.workspace.run(["plan", "archive"]).expect(0).stdout,
                _ => {
                    let done = run(&place.workspace, "archive", 0);
                    assert_eq!(done["steps"], json!([]), "{done:#}");
                    assert_eq!(codes(&done), ["archive.unknown_mark"], "{done:#}");
                    done.to_string()
                }
            };
            assert!(told.contains("1 mark tells of batches"), "{told}");
        }
        assert!(bytes(&raw(&place.old, "events").await) == bytes(&kept));
        // It is the person's to remove.
        let id = mark.get_str("_id").unwrap();
        assert!(
            place
                .marks()
                .find_one(doc! { "_id": id })
                .await
                .unwrap()
                .is_some()
        );
        place.marks().delete_one(doc! { "_id": id }).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mark_that_the_history_does_not_know_takes_nothing_back_4_4() {
    forged(44).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mark_that_the_history_does_not_know_takes_nothing_back_6_0() {
    forged(60).await;
}

/// A mark that is known is changed: it names what the batch has not copied, or another place.
async fn changed(version: u32) {
    let place = Place::new(version).await;
    let done = run(&place.workspace, "archive", 0);
    assert_eq!(done["rows"], 50, "{done:#}");
    let kept = raw(&place.old, "events").await;
    old_documents(&place.db, "events", 100, 150).await;
    let original = raw(&place.db, "events").await;
    killed_before_it_commits(&place.set, &place.workspace).await;
    left_open_is_ended(&place.set).await;
    let genuine = place.mark().await;
    let by_id = doc! { "_id": genuine.get_str("_id").unwrap() };
    place.are_inserted(0, 50).await;
    let hash = mongodb::bson::Binary {
        subtype: mongodb::bson::spec::BinarySubtype::Generic,
        bytes: Sha256::digest(kept[7].as_bytes()).to_vec(),
    };
    let more = doc! { "$push": { "copies": { "id": 7, "hash": hash } } };
    place.marks().update_one(by_id.clone(), more).await.unwrap();
    let elsewhere = doc! { "$set": { "into.collection": "others" } };
    place
        .marks()
        .update_one(by_id.clone(), elsewhere)
        .await
        .unwrap();
    let told = run(&place.workspace, "archive", 0);
    assert_eq!(codes(&told), ["archive.unknown_mark"], "{told:#}");
    assert_eq!(raw(&place.old, "events").await.len(), 100, "{told:#}");
    let back = doc! { "$set": { "into.collection": "events" } };
    place.marks().update_one(by_id, back).await.unwrap();
    let done = run(&place.workspace, "archive", 0);
    assert_eq!(
        steps(&done, "succeeded"),
        ["take back app", "archive app.events"]
    );
    // What is not as it was written by this batch stays.
    assert_eq!(codes(&done), ["archive.differs"], "{done:#}");
    let message = done["findings"][0]["message"].as_str().unwrap();
    assert!(message.starts_with("1 copies in old.events"), "{message}");
    assert_eq!(done["rows"], 50, "{done:#}");
    let all: Vec<Vec<u8>> = bytes(&kept).into_iter().chain(bytes(&original)).collect();
    assert!(bytes(&raw(&place.old, "events").await) == all);
    assert_eq!(
        place
            .marks()
            .count_documents(doc! { "state": "copying" })
            .await
            .unwrap(),
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mark_that_was_changed_takes_back_what_its_batch_has_copied_4_4() {
    changed(44).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mark_that_was_changed_takes_back_what_its_batch_has_copied_6_0() {
    changed(60).await;
}

/// Thousands of marks that somebody else has written, before ours and as large as may be: ours is found by its
/// id, its copies are taken back, and the others are told.
#[tokio::test(flavor = "multi_thread")]
async fn marks_of_others_hide_none_of_ours() {
    let place = Place::new(60).await;
    killed_before_it_commits(&place.set, &place.workspace).await;
    left_open_is_ended(&place.set).await;
    let genuine = place.mark().await;
    let forged = |id: String| {
        let mut mark = genuine.clone();
        mark.insert("_id", id);
        mark.insert("copies", Vec::<Document>::new());
        mark
    };
    let many = (0..2_100).map(|n| forged(format!("!{n:05}")));
    place.marks().insert_many(many).await.unwrap();
    let mut large = forged("large".to_owned());
    large.insert("owner", "x".repeat(20 << 10));
    place.marks().insert_one(large).await.unwrap();
    // The originals are in use again: nothing of them is to be in the archive.
    let new = doc! { "$set": { "at": DateTime::now() } };
    let events = place.db.collection::<Document>("events");
    events.update_many(doc! {}, new).await.unwrap();
    assert_eq!(raw(&place.old, "events").await.len(), 50);
    let done = run(&place.workspace, "archive", 0);
    assert_eq!(steps(&done, "succeeded"), ["take back app"], "{done:#}");
    assert!(raw(&place.old, "events").await.is_empty(), "{done:#}");
    assert_eq!(raw(&place.db, "events").await.len(), 50);
    assert_eq!(codes(&done), ["archive.unknown_mark"], "{done:#}");
    let told = done["findings"][0]["message"].as_str().unwrap();
    assert!(told.starts_with("at least 2001 marks tell"), "{told}");
    assert!(told.contains("1 larger than any of maint's"), "{told}");
    // Nothing is left of ours, here and in the history; the others are the person's to remove.
    let id = doc! { "_id": genuine.get_str("_id").unwrap() };
    let marks = place.marks();
    assert_eq!(marks.count_documents(id).await.unwrap(), 0);
    assert_eq!(
        marks
            .count_documents(doc! { "state": "copying" })
            .await
            .unwrap(),
        2_101
    );
    let again = run(&place.workspace, "archive", 0);
    assert_eq!(again["steps"], json!([]), "{again:#}");
    assert_eq!(codes(&again), ["archive.unknown_mark"], "{again:#}");
}

/// A mark of a batch whose originals were deleted is set back, with all that it had named: the copies are all
/// there is of them, stay, and are told.
#[tokio::test(flavor = "multi_thread")]
async fn a_mark_that_is_set_back_loses_nothing() {
    let place = Place::new(60).await;
    killed_before_it_commits(&place.set, &place.workspace).await;
    left_open_is_ended(&place.set).await;
    let original = raw(&place.db, "events").await;
    // As if the transaction had been committed, and the run killed right after.
    let events = place.db.collection::<Document>("events");
    events.delete_many(doc! {}).await.unwrap();
    let done = run(&place.workspace, "archive", 0);
    assert_eq!(codes(&done), ["archive.only_copy"], "{done:#}");
    let told = done["findings"][0]["message"].as_str().unwrap();
    assert!(told.starts_with("50 copies are in old.events"), "{told}");
    assert!(bytes(&raw(&place.old, "events").await) == bytes(&original));
}
