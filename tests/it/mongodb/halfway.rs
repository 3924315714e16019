//! Broken off between the copy and the deletion: what was copied for nothing is taken back, where
//! nobody has touched it, and everything else stays as it is.

use std::collections::BTreeSet;

use mongodb::Database;
use mongodb::bson::{DateTime, Document, RawDocumentBuf, doc};
use serde_json::{Value, json};

use super::archive::raw;
use super::files::{bytes, old_documents, task};
use super::{codes, run, steps, workspace};
use crate::support::mongo::Servers;
use crate::support::patience::Patience;
use crate::support::workspace::Workspace;

const COMMIT: &str = "commitTransaction";

/// Lets commands of this name fail in this way.
pub(super) async fn fail(admin: &Database, command: &str, mode: &Value, how: Document) {
    let mode = mongodb::bson::serialize_to_bson(mode).unwrap();
    let mut data = doc! { "failCommands": [command] };
    data.extend(how);
    let fail = doc! { "configureFailPoint": "failCommand", "mode": mode, "data": data };
    admin.run_command(fail).await.unwrap();
}

pub(super) async fn nothing_fails(admin: &Database) {
    let off = doc! { "configureFailPoint": "failCommand", "mode": "off" };
    admin.run_command(off).await.unwrap();
}

/// Starts a run, and kills it when all it has to do is to commit what it deletes.
pub(super) async fn killed_before_it_commits(set: &Servers, workspace: &Workspace) {
    killed_before_it_deletes(set, workspace, false).await;
}

/// The same where the copies may be on another server.
async fn killed_before_it_deletes(set: &Servers, workspace: &Workspace, elsewhere: bool) {
    let admin = set.root().await.database("admin");
    let blocked = doc! { "blockConnection": true, "blockTimeMS": 600_000 };
    // On the server of their originals copies are committed, too, before that.
    let mode = match elsewhere {
        true => json!("alwaysOn"),
        false => json!({ "skip": 1 }),
    };
    fail(&admin, COMMIT, &mode, blocked).await;
    let mut process = workspace.begins(["run", "archive", "--now"]);
    let patience = Patience::until("the commit that does not come to its end");
    let committing = doc! { "currentOp": 1, "command.commitTransaction": 1 };
    let ops = loop {
        let ops = admin.run_command(committing.clone()).await.unwrap();
        let ops = ops.get_array("inprog").unwrap().clone();
        if !ops.is_empty() {
            break ops;
        }
        assert!(process.try_wait().unwrap().is_none(), "it ended by itself");
        patience.pause().await;
    };
    process.kill().unwrap();
    process.wait().unwrap();
    // The commit that was on its way is lost, as with a connection that breaks.
    for op in ops {
        let id = op.as_document().unwrap().get("opid").unwrap().clone();
        let kill = doc! { "killOp": 1, "op": id };
        admin.run_command(kill).await.unwrap();
    }
    nothing_fails(&admin).await;
}

/// The server ends what the dead run has left open; by itself that would take it a minute.
pub(super) async fn left_open_is_ended(set: &Servers) {
    let admin = set.root().await.database("admin");
    let all = doc! { "killAllSessions": [] };
    admin.run_command(all).await.unwrap();
}

async fn open_marks(db: &Database) -> u64 {
    let open = doc! { "state": { "$in": ["copying", "left"] } };
    let marks = db.collection::<Document>("maint.archives");
    marks.count_documents(open).await.unwrap()
}

async fn the_application_goes_on(db: &Database, old: &Database, kept: &str) {
    let events = db.collection::<Document>("events");
    let copies = old.collection::<Document>(kept);
    let some = |from: i32, to: i32| doc! { "_id": { "$gte": from, "$lt": to } };
    events
        .update_many(some(0, 20), doc! { "$inc": { "v": 1 } })
        .await
        .unwrap();
    events.delete_many(some(30, 35)).await.unwrap();
    events
        .update_many(some(50, 60), doc! { "$set": { "at": DateTime::now() } })
        .await
        .unwrap();
    copies
        .update_many(some(40, 47), doc! { "$set": { "theirs": true } })
        .await
        .unwrap();
}

async fn taken_back(version: u32, database: &str, kept: &str) {
    let set = Servers::set(version).await;
    let root = set.root().await;
    let (db, old) = (root.database("app"), root.database(database));
    old_documents(&db, "events", 0, 500).await;
    let original = raw(&db, "events").await;
    // Somebody else's, of the same bytes as one that is to come.
    old.collection::<RawDocumentBuf>(kept)
        .insert_one(original[200].clone())
        .await
        .unwrap();
    let destination = json!({ "database": database, "collection": kept });
    let workspace = task(workspace(&set.maint_url("app")), "events", &destination);
    killed_before_it_commits(&set, &workspace).await;
    assert_eq!(raw(&old, kept).await.len(), 500);
    assert_eq!(open_marks(&db).await, 1);
    left_open_is_ended(&set).await;
    the_application_goes_on(&db, &old, kept).await;
    let copies = raw(&old, kept).await;

    let done = run(&workspace, "archive", 1);
    assert_eq!(steps(&done, "succeeded"), ["take back app"], "{done:#}");
    assert_eq!(steps(&done, "failed"), ["archive app.events"], "{done:#}");
    assert_eq!(done["rows"], 500 - 5 - 10 - 7, "{done:#}");
    // Once for the copies that somebody has changed, once for the documents that stay for them; and
    // those whose originals somebody has deleted.
    let told = ["archive.differs", "archive.differs", "archive.only_copy"];
    assert_eq!(codes(&done), told, "{done:#}");
    for finding in done["findings"].as_array().unwrap() {
        let message = finding["message"].as_str().unwrap();
        if finding["code"] == "archive.only_copy" {
            assert!(message.starts_with("5 copies are in "), "{message}");
            assert!(message.ends_with("`_id`: 30, 31, 32, 33, 34"), "{message}");
            continue;
        }
        assert!(message.starts_with("7 "), "{message}");
        let named = "their `_id`: 40, 41, 42, 43, 44 and 2 more";
        assert!(message.ends_with(named), "{message}");
    }
    // Nothing is in both, but what somebody has changed there; and nothing is in neither.
    let ids = |of: &[RawDocumentBuf]| -> Vec<i32> {
        of.iter().map(|d| d.get_i32("_id").unwrap()).collect()
    };
    let here: Vec<i32> = (40..47).chain(50..60).collect();
    assert_eq!(ids(&raw(&db, "events").await), here);
    let there = raw(&old, kept).await;
    let all: Vec<i32> = (0..50).chain(60..500).collect();
    assert_eq!(ids(&there), all);
    for (n, copy) in there.iter().enumerate() {
        let id = all[n];
        let same = |other: &RawDocumentBuf| copy.as_bytes() == other.as_bytes();
        match id {
            0..20 => assert_eq!(copy.get_i32("v").unwrap(), 1, "{id}"),
            40..47 => assert!(same(&copies[id as usize]), "{id}"),
            _ => assert!(same(&original[id as usize]), "{id}"),
        }
    }
    assert_eq!(open_marks(&db).await, 0);
    let again = run(&workspace, "archive", 1);
    assert_eq!(steps(&again, "failed"), ["archive app.events"]);
    assert_eq!(again["steps"].as_array().unwrap().len(), 1, "{again:#}");
    assert_eq!(again["rows"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_for_nothing_are_taken_back_4_4() {
    taken_back(44, "app", "kept").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_for_nothing_are_taken_back_5_0() {
    taken_back(50, "old", "events").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_for_nothing_are_taken_back_6_0() {
    taken_back(60, "old", "events").await;
}

/// Copies on another server, which knows no transactions; and no document is left that the rule
/// would look at, so that nothing else is to be done.
async fn taken_back_elsewhere(version: u32, other: u32) {
    let (set, cold) = (Servers::set(version).await, Servers::alone(other));
    let db = set.root().await.database("app");
    old_documents(&db, "events", 0, 300).await;
    let workspace = task(
        Workspace::new(&format!(
            "history: sqlite:maint.db\ntargets:\n  app: {{ engine: mongodb, url: \"{}\" }}\n  cold: {{ engine: mongodb, url: \"{}\" }}\n",
            set.maint_url("app"),
            cold.maint_url("kept")
        )),
        "events",
        &json!({ "target": "cold", "database": "kept" }),
    );
    killed_before_it_deletes(&set, &workspace, true).await;
    left_open_is_ended(&set).await;
    let kept = cold.root().await.database("kept");
    assert_eq!(raw(&kept, "events").await.len(), 300);
    let theirs = doc! { "$set": { "theirs": true } };
    let copies = kept.collection::<Document>("events");
    copies.update_one(doc! { "_id": 7 }, theirs).await.unwrap();
    let events = db.collection::<Document>("events");
    let new = doc! { "$set": { "at": DateTime::now() } };
    events.update_many(doc! {}, new).await.unwrap();
    let done = run(&workspace, "archive", 0);
    assert_eq!(steps(&done, "succeeded"), ["take back app"], "{done:#}");
    assert_eq!(codes(&done), ["archive.differs"], "{done:#}");
    let there = raw(&kept, "events").await;
    assert_eq!(there.len(), 1, "{done:#}");
    assert!(there[0].get_bool("theirs").unwrap());
    assert_eq!(events.count_documents(doc! {}).await.unwrap(), 300);
    assert_eq!(run(&workspace, "archive", 0)["steps"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_on_another_server_are_taken_back_6_0() {
    taken_back_elsewhere(60, 50).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_on_another_server_are_taken_back_5_0() {
    taken_back_elsewhere(50, 44).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_on_another_server_are_taken_back_4_4() {
    taken_back_elsewhere(44, 60).await;
}

/// Where it dies that copies to another replica set.
#[derive(Clone, Copy, PartialEq)]
enum Dies {
    /// Before its copies are committed.
    Before,
    /// Behind that, and before its mark says that they are its own.
    Behind,
}

/// Copies on another replica set, of a batch that dies while it copies: all of them are known to be its own, or none
/// is there.
async fn dies_while_it_copies(dies: Dies, version: u32, other: u32) {
    let (set, cold) = (Servers::set(version).await, Servers::single(other).await);
    let db = set.root().await.database("app");
    let cold_client = cold.direct(0, None).await;
    let kept = cold_client.database("kept");
    old_documents(&db, "events", 0, 300).await;
    // Somebody else's, of the same bytes as one that is to come.
    let original = raw(&db, "events").await;
    kept.collection::<RawDocumentBuf>("events")
        .insert_one(original[200].clone())
        .await
        .unwrap();
    let workspace = task(
        Workspace::new(&format!(
            "history: sqlite:maint.db\ntargets:\n  app: {{ engine: mongodb, url: \"{}\" }}\n  cold: {{ engine: mongodb, url: \"{}\" }}\n",
            set.maint_url("app"),
            cold.direct_url(0, "kept")
        )),
        "events",
        &json!({ "target": "cold", "database": "kept" }),
    );
    let (admin, command, namespace) = match dies {
        Dies::Before => (cold_client.database("admin"), COMMIT, None),
        Dies::Behind => (
            set.root().await.database("admin"),
            "update",
            Some("app.maint.archives"),
        ),
    };
    let mut blocked = doc! { "blockConnection": true, "blockTimeMS": 600_000 };
    blocked.extend(namespace.map(|all| ("namespace".to_owned(), all.into())));
    fail(&admin, command, &json!("alwaysOn"), blocked).await;
    let mut process = workspace.begins(["run", "archive", "--now"]);
    let patience = Patience::until("the command that does not come to its end");
    let mut ours = doc! { "currentOp": 1, "appName": { "$regex": "^maint " } };
    match dies {
        Dies::Before => ours.insert("command.commitTransaction", 1),
        Dies::Behind => ours.insert("ns", "app.$cmd"),
    };
    let copied = if dies == Dies::Before { 1 } else { 300 };
    let ops = loop {
        let ops = admin.run_command(ours.clone()).await.unwrap();
        let ops = ops.get_array("inprog").unwrap().clone();
        if !ops.is_empty() && raw(&kept, "events").await.len() == copied {
            break ops;
        }
        assert!(process.try_wait().unwrap().is_none(), "it ended by itself");
        patience.pause().await;
    };
    process.kill().unwrap();
    process.wait().unwrap();
    for op in ops {
        let id = op.as_document().unwrap().get("opid").unwrap().clone();
        let kill = doc! { "killOp": 1, "op": id };
        admin.run_command(kill).await.unwrap();
    }
    nothing_fails(&admin).await;
    // What the dead run has left open; by itself that would take a minute.
    let all = doc! { "killAllSessions": [] };
    cold_client
        .database("admin")
        .run_command(all)
        .await
        .unwrap();
    assert_eq!(raw(&kept, "events").await.len(), copied);
    // Nothing is left that the rule would take: copies would stay for good.
    let events = db.collection::<Document>("events");
    let new = doc! { "$set": { "at": DateTime::now() } };
    events.update_many(doc! {}, new).await.unwrap();
    let done = run(&workspace, "archive", 0);
    assert_eq!(steps(&done, "succeeded"), ["take back app"], "{done:#}");
    assert!(codes(&done).is_empty(), "{done:#}");
    let there = raw(&kept, "events").await;
    assert!(bytes(&there) == bytes(&original[200..201]), "{done:#}");
    assert_eq!(events.count_documents(doc! {}).await.unwrap(), 300);
    assert_eq!(open_marks(&db).await, 0);
    let marks = kept.collection::<Document>("maint.archives");
    let made = doc! { "state": "committed" };
    assert_eq!(marks.count_documents(made).await.unwrap(), 0);
    assert_eq!(run(&workspace, "archive", 0)["steps"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_dies_behind_its_copies_on_another_set_takes_them_back_6_0() {
    dies_while_it_copies(Dies::Behind, 60, 50).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_dies_behind_its_copies_on_another_set_takes_them_back_4_4() {
    dies_while_it_copies(Dies::Behind, 44, 44).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_dies_before_its_copies_on_another_set_leaves_none() {
    dies_while_it_copies(Dies::Before, 50, 60).await;
}

/// Nothing has changed meanwhile, and the transaction of the dead run is still open.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_broken_off_goes_on() {
    let set = Servers::set(50).await;
    let db = set.root().await.database("app");
    old_documents(&db, "events", 0, 500).await;
    let original = raw(&db, "events").await;
    let destination = json!({ "collection": "kept" });
    let workspace = task(workspace(&set.maint_url("app")), "events", &destination);
    killed_before_it_commits(&set, &workspace).await;
    let plan = workspace.run(["plan", "archive"]).expect(0);
    assert!(plan.stdout.contains("take back"), "{plan:?}");
    let done = run(&workspace, "archive", 0);
    assert_eq!(
        steps(&done, "succeeded"),
        ["take back app", "archive app.events"]
    );
    assert_eq!(done["rows"], 500, "{done:#}");
    assert!(bytes(&raw(&db, "kept").await) == bytes(&original));
    assert!(raw(&db, "events").await.is_empty());
    assert_eq!(open_marks(&db).await, 0);
    assert_eq!(run(&workspace, "archive", 0)["steps"], json!([]));
}

/// A batch that fails for good after it was copied takes its copies back itself.
async fn failed(version: u32, command: &str, mode: &Value, gone: usize) {
    let set = Servers::set(version).await;
    let root = set.root().await;
    let (db, admin) = (root.database("app"), root.database("admin"));
    old_documents(&db, "events", 0, 2500).await;
    let original = raw(&db, "events").await;
    let destination = json!({ "collection": "kept" });
    let workspace = task(workspace(&set.maint_url("app")), "events", &destination);
    let mut how = doc! { "errorCode": 2 };
    if command == "delete" {
        how.insert("namespace", "app.events");
    }
    fail(&admin, command, mode, how).await;
    let done = run(&workspace, "archive", 1);
    assert_eq!(steps(&done, "failed"), ["archive app.events"], "{done:#}");
    nothing_fails(&admin).await;
    // The batch that failed is where it was.
    let (here, there) = (raw(&db, "events").await, raw(&db, "kept").await);
    assert_eq!((here.len(), there.len()), (2500 - gone, gone), "{done:#}");
    assert_eq!(open_marks(&db).await, 0);
    let done = run(&workspace, "archive", 0);
    assert_eq!(done["rows"], 2500 - gone, "{done:#}");
    assert!(bytes(&raw(&db, "kept").await) == bytes(&original));
    assert!(raw(&db, "events").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_fails_takes_its_copies_back_4_4() {
    failed(44, COMMIT, &json!({ "times": 1 }), 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_fails_takes_its_copies_back_5_0() {
    // The first is none: it is asked whether documents may be removed.
    failed(50, "delete", &json!({ "skip": 1 }), 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_fails_takes_its_copies_back_6_0() {
    // Each batch writes its mark twice: when its copies are made, and when their originals are deleted.
    failed(60, "update", &json!({ "skip": 3 }), 1000).await;
}

/// What becomes of the commit of a deletion that never succeeds.
#[derive(Clone, Copy, PartialEq)]
enum Commit {
    /// The server refuses it, each time.
    Refused,
    /// It is made, and each answer says that this is not certain.
    Unconfirmed,
}

/// A deletion whose commit fails for good, with whatever would make up for it: nothing is lost or doubled.
async fn commit_fails_for_good(version: u32, how: Commit) {
    const ALL: i32 = 500;
    let set = Servers::set(version).await;
    let root = set.root().await;
    let (db, admin) = (root.database("app"), root.database("admin"));
    old_documents(&db, "events", 0, ALL).await;
    let original = raw(&db, "events").await;
    let destination = json!({ "collection": "kept" });
    let workspace = task(workspace(&set.maint_url("app")), "events", &destination);
    // Somebody else's transaction keeps the deletion from its end, until all is copied.
    let mut theirs = root.start_session().await.unwrap();
    theirs.start_transaction().await.unwrap();
    db.collection::<Document>("events")
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
    let error = match how {
        Commit::Refused => doc! { "errorCode": 2 },
        Commit::Unconfirmed => {
            doc! { "writeConcernError": { "code": 64, "errmsg": "waiting for replication timed out" } }
        }
    };
    fail(&admin, COMMIT, &json!("alwaysOn"), error).await;
    theirs.abort_transaction().await.unwrap();
    process.wait().unwrap();
    nothing_fails(&admin).await;
    let last = workspace
        .run(["show", "last", "--output", "json"])
        .expect(0);
    let failed = last.json()["runs"][0].clone();
    assert_eq!(failed["status"], "failed", "{failed:#}");
    assert_eq!(steps(&failed, "failed"), ["archive app.events"]);
    assert!(!failed["steps"][0]["error"].is_null(), "{failed:#}");
    let both = [raw(&db, "events").await, raw(&db, "kept").await].concat();
    let ids: BTreeSet<i32> = both.iter().map(|d| d.get_i32("_id").unwrap()).collect();
    assert_eq!(ids, (0..ALL).collect(), "{failed:#}");
    let done = run(&workspace, "archive", 0);
    assert!(codes(&done).is_empty(), "{done:#}");
    assert!(bytes(&raw(&db, "kept").await) == bytes(&original));
    assert!(raw(&db, "events").await.is_empty());
    assert_eq!(open_marks(&db).await, 0);
    let again = run(&workspace, "archive", 0);
    assert_eq!(again["steps"], json!([]), "{again:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_can_never_be_committed_loses_nothing_4_4() {
    commit_fails_for_good(44, Commit::Refused).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_can_never_be_committed_loses_nothing_6_0() {
    commit_fails_for_good(60, Commit::Refused).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_is_never_confirmed_loses_nothing() {
    commit_fails_for_good(60, Commit::Unconfirmed).await;
}

/// A commit of which the answer is lost, again and again, is no batch that was broken off.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_is_lost_takes_nothing_back() {
    let set = Servers::set(60).await;
    let root = set.root().await;
    let (db, admin) = (root.database("app"), root.database("admin"));
    old_documents(&db, "events", 0, 500).await;
    let original = raw(&db, "events").await;
    let destination = json!({ "collection": "kept" });
    let workspace = task(workspace(&set.maint_url("app")), "events", &destination);
    let late = doc! { "writeConcernError": { "code": 91, "errmsg": "going down" } };
    fail(&admin, COMMIT, &json!({ "times": 4 }), late).await;
    let done = run(&workspace, "archive", 0);
    nothing_fails(&admin).await;
    assert_eq!(done["rows"], 500, "{done:#}");
    assert!(bytes(&raw(&db, "kept").await) == bytes(&original));
    assert!(raw(&db, "events").await.is_empty());
    assert_eq!(open_marks(&db).await, 0);
}
