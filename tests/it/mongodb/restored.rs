//! A mark that is there again as it was in the middle of its batch, because somebody has restored it from a dump: what
//! its transaction has deleted is known without it, and no copy goes that is the only one.

use futures_util::TryStreamExt;
use mongodb::Database;
use mongodb::bson::{Bson, DateTime, Document, RawDocumentBuf, doc};
use serde_json::json;

use super::archive::raw;
use super::files::{bytes, old_documents};
use super::halfway::{fail, nothing_fails};
use super::{codes, run, workspace};
use crate::support::mongo::Servers;
use crate::support::patience::Patience;
use crate::support::workspace::Workspace;

const MARKS: &str = "maint.archives";
const ALL: i32 = 50;

/// How the marks come back.
#[derive(Clone, Copy, Debug)]
enum How {
    /// Their collection is dropped, and made anew: `mongorestore --drop`.
    Dropped,
    /// The same, and it gets the identity that it had: `mongorestore --drop --preserveUUID`.
    Preserved,
    /// The mark itself is put back, in a collection that is the same.
    PutBack,
    /// Only what is not there any more is put back: `mongorestore`.
    Missing,
}

struct Place {
    _set: Servers,
    /// Has the marks, and the copies.
    db: Database,
    /// Has the originals.
    source: Database,
    workspace: Workspace,
    /// The marks, as they were in the middle of the batch.
    dump: Vec<Document>,
    original: Vec<RawDocumentBuf>,
}

impl Place {
    fn events(&self) -> mongodb::Collection<Document> {
        self.source.collection("events")
    }

    async fn put_back(&self, how: How) {
        let marks = self.db.collection::<Document>(MARKS);
        match how {
            How::Dropped => marks.drop().await.unwrap(),
            How::Preserved => {
                let before = uuid(&self.db).await;
                marks.drop().await.unwrap();
                let create = doc! {
                    "op": "c", "ns": format!("{}.$cmd", self.db.name()), "ui": before.clone(),
                    "o": { "create": MARKS },
                };
                let admin = self.db.client().database("admin");
                let made = doc! { "applyOps": [create] };
                admin.run_command(made).await.unwrap();
                assert_eq!(uuid(&self.db).await, before);
            }
            How::PutBack | How::Missing => {}
        }
        for mark in &self.dump {
            let by_id = doc! { "_id": mark.get_str("_id").unwrap() };
            if matches!(how, How::PutBack) {
                marks.delete_one(by_id.clone()).await.unwrap();
            }
            if marks.find_one(by_id).await.unwrap().is_none() {
                marks.insert_one(mark).await.unwrap();
            }
        }
    }
}

/// The identity of the collection that has the marks.
async fn uuid(db: &Database) -> Bson {
    let listed = db.list_collections().filter(doc! { "name": MARKS });
    let listed: Vec<_> = listed.await.unwrap().try_collect().await.unwrap();
    Bson::Binary(listed[0].info.uuid.clone().unwrap())
}

/// Archives documents, and kills the run when it has committed, and before it has noted that; `at_its_mark`: when
/// it is about to remove the mark of its batch.
async fn killed_after_it_has_committed(source: &str, at_its_mark: bool) -> Place {
    let set = Servers::set(60).await;
    let root = set.root().await;
    let (db, source) = (root.database("app"), root.database(source));
    let admin = root.database("admin");
    old_documents(&source, "events", 0, ALL).await;
    let original = raw(&source, "events").await;
    let options = json!({
        "rules": [{ "database": source.name(), "collection": "events", "field": "at", "older_than": "90d" }],
        "destination": { "collection": "kept" },
    });
    let workspace = workspace(&set.maint_url("app")).task(
        "archive",
        &format!("kind: archive\ntarget: app\noptions: {options}\n"),
    );
    // Somebody else's transaction keeps ours from its end, until all is copied.
    let mut theirs = root.start_session().await.unwrap();
    theirs.start_transaction().await.unwrap();
    source
        .collection::<Document>("events")
        .delete_one(doc! { "_id": 0 })
        .session(&mut theirs)
        .await
        .unwrap();
    let mut process = workspace.begins(["run", "archive", "--now"]);
    let patience = Patience::until("the copies");
    while raw(&db, "kept").await.len() != original.len() {
        assert!(process.try_wait().unwrap().is_none(), "it ended by itself");
        patience.pause().await;
    }
    let patience = Patience::until("the mark of what was copied");
    let marks = db.collection::<Document>(MARKS);
    let copying = doc! { "state": "copying", "made": { "$ne": false } };
    let dump = loop {
        if let Some(mark) = marks.find_one(copying.clone()).await.unwrap() {
            break vec![mark];
        }
        patience.pause().await;
    };
    match at_its_mark {
        true => {
            let blocked = doc! { "blockConnection": true, "blockTimeMS": 600_000, "namespace": "app.maint.archives" };
            fail(&admin, "delete", &json!("alwaysOn"), blocked).await;
        }
        false => {
            let lost = doc! { "writeConcernError": { "code": 91, "errmsg": "going down" } };
            fail(&admin, "commitTransaction", &json!("alwaysOn"), lost).await;
        }
    }
    theirs.abort_transaction().await.unwrap();
    let patience = Patience::until("the deletion of the originals");
    while !raw(&source, "events").await.is_empty() {
        assert!(process.try_wait().unwrap().is_none(), "it ended by itself");
        patience.pause().await;
    }
    let mut waiting: Vec<Document> = Vec::new();
    if at_its_mark {
        let patience = Patience::until("the removal of the mark");
        let removing = doc! { "currentOp": 1, "command.delete": MARKS };
        loop {
            let ops = admin.run_command(removing.clone()).await.unwrap();
            let ops = ops.get_array("inprog").unwrap();
            if !ops.is_empty() {
                waiting.extend(ops.iter().map(|op| op.as_document().unwrap().clone()));
                break;
            }
            patience.pause().await;
        }
    }
    process.kill().unwrap();
    process.wait().unwrap();
    for op in waiting {
        let kill = doc! { "killOp": 1, "op": op.get("opid").unwrap().clone() };
        admin.run_command(kill).await.unwrap();
    }
    nothing_fails(&admin).await;
    if at_its_mark {
        // As if it had come to that.
        marks.delete_many(doc! {}).await.unwrap();
    }
    Place {
        _set: set,
        db,
        source,
        workspace,
        dump,
        original,
    }
}

async fn new_documents(place: &Place) {
    let new = (0..ALL).map(|n| doc! { "_id": n, "at": DateTime::now() });
    place.events().insert_many(new).await.unwrap();
}

async fn the_only_copies_stay(source: &str, at_its_mark: bool, how: How) {
    let place = killed_after_it_has_committed(source, at_its_mark).await;
    new_documents(&place).await;
    place.put_back(how).await;
    let done = run(&place.workspace, "archive", 0);
    let kept = raw(&place.db, "kept").await;
    assert!(bytes(&kept) == bytes(&place.original), "{how:?}: {done:#}");
    assert_eq!(place.events().count_documents(doc! {}).await.unwrap(), 50);
    if matches!(how, How::Dropped | How::Preserved) {
        assert_eq!(codes(&done), ["archive.only_copy"], "{done:#}");
        let told = done["findings"][0]["message"].as_str().unwrap();
        assert!(told.starts_with("50 copies "), "{told}");
    }
    let again = run(&place.workspace, "archive", 0);
    assert!(bytes(&raw(&place.db, "kept").await) == bytes(&place.original));
    if !at_its_mark {
        assert_eq!(again["steps"], json!([]), "{again:#}");
        assert!(codes(&again).is_empty(), "{again:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn marks_whose_collection_is_restored_take_no_only_copy() {
    the_only_copies_stay("app", false, How::Dropped).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn marks_that_are_restored_as_what_they_were_take_no_only_copy() {
    the_only_copies_stay("app", false, How::Preserved).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mark_that_is_put_back_takes_no_only_copy() {
    the_only_copies_stay("app", false, How::PutBack).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mark_that_was_removed_and_is_restored_takes_no_only_copy() {
    the_only_copies_stay("app", true, How::Missing).await;
}

/// The originals are in another database, which was not restored: it tells what was committed.
#[tokio::test(flavor = "multi_thread")]
async fn marks_of_a_source_in_another_database_take_no_only_copy() {
    let place = killed_after_it_has_committed("live", false).await;
    new_documents(&place).await;
    place.put_back(How::Dropped).await;
    let done = run(&place.workspace, "archive", 0);
    assert!(
        bytes(&raw(&place.db, "kept").await) == bytes(&place.original),
        "{done:#}"
    );
    // It is known that they were archived.
    assert!(codes(&done).is_empty(), "{done:#}");
}

/// The originals were restored, too: they are the same, and archived once.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_restored_with_its_originals_is_archived_once() {
    let place = killed_after_it_has_committed("app", false).await;
    let events = place.source.collection::<RawDocumentBuf>("events");
    events.insert_many(&place.original).await.unwrap();
    place.put_back(How::Dropped).await;
    let done = run(&place.workspace, "archive", 0);
    assert!(
        bytes(&raw(&place.db, "kept").await) == bytes(&place.original),
        "{done:#}"
    );
    assert!(raw(&place.source, "events").await.is_empty());
    let again = run(&place.workspace, "archive", 0);
    assert_eq!(again["steps"], json!([]), "{again:#}");
}
