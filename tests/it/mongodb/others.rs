//! Somebody who moves documents into the same place by own means while a batch is under way: what they have put there
//! is theirs, whatever becomes of the batch.

use mongodb::Database;
use mongodb::bson::{DateTime, Document, RawDocumentBuf, doc};
use serde_json::{Value, json};

use super::archive::raw;
use super::files::{bytes, old_documents, task};
use super::halfway::{fail, nothing_fails};
use super::{codes, run, workspace};
use crate::support::mongo::Servers;
use crate::support::patience::Patience;
use crate::support::workspace::Workspace;

const ALL: i32 = 50;
const THEIRS: usize = 5;

/// Copies one as they do, and has not deleted the original yet.
async fn they_copy(there: &Database, original: &RawDocumentBuf) {
    let whole = Document::try_from(original).unwrap();
    let copies = there.collection::<Document>("kept");
    let by_id = doc! { "_id": original.get_i32("_id").unwrap() };
    let upsert = copies.find_one_and_replace(by_id, whole).upsert(true);
    upsert.await.unwrap();
}

/// The insert of the copies that waits at the server.
async fn inserting(admin: &Database) -> Vec<Document> {
    let patience = Patience::until("the insert of the copies");
    let inserting = doc! { "currentOp": 1, "command.insert": "kept" };
    loop {
        let ops = admin.run_command(inserting.clone()).await.unwrap();
        let ops = ops.get_array("inprog").unwrap();
        if !ops.is_empty() {
            return ops
                .iter()
                .map(|op| op.as_document().unwrap().clone())
                .collect();
        }
        patience.pause().await;
    }
}

fn blocked(milliseconds: i32) -> Document {
    doc! { "blockConnection": true, "blockTimeMS": milliseconds, "namespace": "app.kept" }
}

/// The run is killed before it knows which copies are its own.
#[tokio::test(flavor = "multi_thread")]
async fn what_others_have_copied_stays_after_a_kill() {
    let set = Servers::set(60).await;
    let root = set.root().await;
    let (db, admin) = (root.database("app"), root.database("admin"));
    old_documents(&db, "events", 0, ALL).await;
    db.create_collection("kept").await.unwrap();
    let original = raw(&db, "events").await;
    let workspace = task(
        workspace(&set.maint_url("app")),
        "events",
        &json!({ "collection": "kept" }),
    );
    fail(&admin, "insert", &json!("alwaysOn"), blocked(600_000)).await;
    let mut process = workspace.begins(["run", "archive", "--now"]);
    let ops = inserting(&admin).await;
    they_copy(&db, &original[THEIRS]).await;
    process.kill().unwrap();
    process.wait().unwrap();
    for op in ops {
        let kill = doc! { "killOp": 1, "op": op.get("opid").unwrap().clone() };
        admin.run_command(kill).await.unwrap();
    }
    nothing_fails(&admin).await;
    // The rule takes none of them any more.
    let events = db.collection::<Document>("events");
    let new = doc! { "$set": { "at": DateTime::now() } };
    let others = doc! { "_id": { "$ne": THEIRS as i32 } };
    events.update_many(others, new).await.unwrap();
    let workspace = without_rule(workspace);
    let done = run(&workspace, "archive", 0);
    let kept = raw(&db, "kept").await;
    assert!(
        bytes(&kept) == bytes(&original[THEIRS..=THEIRS]),
        "{done:#}"
    );
    assert_eq!(codes(&done), ["archive.differs"], "{done:#}");
    assert_eq!(raw(&db, "events").await.len(), original.len());
    let again = run(&workspace, "archive", 0);
    assert_eq!(again["steps"], json!([]), "{again:#}");
    assert!(codes(&again).is_empty(), "{again:#}");
}

/// The same task, which keeps what it would take.
fn without_rule(workspace: Workspace) -> Workspace {
    let options = json!({
        "rules": [{ "collection": "events", "field": "at", "older_than": "90d", "keep": [{ "v": 0 }] }],
        "destination": { "collection": "kept" },
    });
    workspace.task(
        "archive",
        &format!("kind: archive\ntarget: app\noptions: {options}\n"),
    )
}

/// They come first while the copies are on their way; and some originals change, so that their copies go again.
async fn met(destination: &Value, there: &str, version: u32) {
    let set = Servers::set(version).await;
    let root = set.root().await;
    let (db, admin) = (root.database("app"), root.database("admin"));
    let there = root.database(there);
    old_documents(&db, "events", 0, ALL).await;
    there.create_collection("kept").await.unwrap();
    let original = raw(&db, "events").await;
    let workspace = task(workspace(&set.maint_url("app")), "events", destination);
    let mut how = blocked(3_000);
    how.insert("namespace", format!("{}.kept", there.name()));
    fail(&admin, "insert", &json!({ "times": 1 }), how).await;
    let mut process = workspace.begins(["run", "archive", "--now"]);
    inserting(&admin).await;
    they_copy(&there, &original[THEIRS]).await;
    let events = db.collection::<Document>("events");
    let set_new = doc! { "$set": { "at": DateTime::now() } };
    events.update_one(doc! { "_id": 7 }, set_new).await.unwrap();
    assert!(process.wait().unwrap().success());
    nothing_fails(&admin).await;
    let mut expected = original.clone();
    expected.remove(7);
    assert!(bytes(&raw(&there, "kept").await) == bytes(&expected));
    assert_eq!(raw(&db, "events").await.len(), 1);
    let again = run(&workspace, "archive", 0);
    assert_eq!(again["steps"], json!([]), "{again:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_have_copied_meanwhile_is_a_copy_4_4() {
    met(&json!({ "collection": "kept" }), "app", 44).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_have_copied_meanwhile_is_a_copy_6_0() {
    met(
        &json!({ "database": "old", "collection": "kept" }),
        "old",
        60,
    )
    .await;
}
