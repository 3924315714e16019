//! Documents that somebody else takes while they are archived: each is in one place, or was erased, and each run
//! tells what it has moved itself.

use std::collections::BTreeSet;
use std::process::Stdio;

use mongodb::ClientSession;
use mongodb::bson::{RawDocumentBuf, doc};
use serde_json::{Value, json};

use super::archive::raw;
use super::files::{bytes, old_documents, task};
use super::{codes, for_base, run, steps};
use crate::support::mongo::{Servers, TestBase};
use crate::support::patience::Patience;
use crate::support::workspace::Workspace;

const ALL: i32 = 200;
const ERASED: i32 = 20;

fn ids(documents: &[RawDocumentBuf]) -> BTreeSet<i32> {
    let ids = documents.iter().map(|d| d.get_i32("_id").unwrap());
    ids.collect()
}

/// The application erases some documents, and has not committed that yet.
async fn erasing(base: &TestBase) -> ClientSession {
    let mut theirs = base.db.client().start_session().await.unwrap();
    theirs.start_transaction().await.unwrap();
    base.collection("events")
        .delete_many(doc! { "_id": { "$lt": ERASED } })
        .session(&mut theirs)
        .await
        .unwrap();
    theirs
}

/// Runs the archive, and lets the application's transaction come to its end once all documents were copied.
async fn erased_meanwhile(
    base: &TestBase,
    workspace: &Workspace,
    copied: impl AsyncFn() -> bool,
) -> Value {
    let mut theirs = erasing(base).await;
    let mut process = workspace.begins(["run", "archive", "--now"]);
    let patience = Patience::until("the copies of documents that are being erased");
    while !copied().await {
        assert!(process.try_wait().unwrap().is_none(), "it ended by itself");
        patience.pause().await;
    }
    theirs.commit_transaction().await.unwrap();
    process.wait().unwrap();
    let last = workspace
        .run(["show", "last", "--output", "json"])
        .expect(0);
    last.json()["runs"][0].clone()
}

fn only_ours_are_told(done: &Value) {
    assert_eq!(done["status"], "succeeded", "{done:#}");
    assert_eq!(done["rows"], ALL - ERASED, "{done:#}");
    assert!(codes(done).is_empty(), "{done:#}");
}

async fn no_mark_is_left(base: &TestBase) {
    let open = doc! { "state": { "$in": ["copying", "left"] } };
    assert_eq!(base.count("maint.archives", open).await, 0);
}

async fn into_a_collection(version: u32) {
    let base = TestBase::new(version).await;
    old_documents(&base.db, "events", 0, ALL).await;
    let original = raw(&base.db, "events").await;
    // One that is in the archive already, to the byte, is nobody's copy to remove.
    let before = original[3].clone();
    let kept = base.db.collection::<RawDocumentBuf>("kept");
    kept.insert_one(&before).await.unwrap();
    let workspace = task(for_base(&base), "events", &json!({ "collection": "kept" }));
    let copied = async || raw(&base.db, "kept").await.len() == original.len();
    let done = erased_meanwhile(&base, &workspace, copied).await;
    only_ours_are_told(&done);
    assert!(raw(&base.db, "events").await.is_empty());
    let there = raw(&base.db, "kept").await;
    let mut expected = vec![before];
    expected.extend_from_slice(&original[ERASED as usize..]);
    assert!(bytes(&there) == bytes(&expected), "{done:#}");
    no_mark_is_left(&base).await;
    assert_eq!(run(&workspace, "archive", 0)["steps"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_erased_meanwhile_is_not_archived_4_4() {
    into_a_collection(44).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_erased_meanwhile_is_not_archived_6_0() {
    into_a_collection(60).await;
}

/// Another server, which knows no transactions.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_erased_meanwhile_is_not_archived_elsewhere() {
    let (base, cold) = (TestBase::new(60).await, Servers::alone(50));
    old_documents(&base.db, "events", 0, ALL).await;
    let original = raw(&base.db, "events").await;
    let workspace = Workspace::new(&format!(
        "history: sqlite:maint.db\ntargets:\n  app: {{ engine: mongodb, url: \"{}\" }}\n  cold: {{ engine: mongodb, url: \"{}\" }}\n",
        base.url(),
        cold.maint_url("kept")
    ));
    let destination = json!({ "target": "cold", "database": "kept" });
    let workspace = task(workspace, "events", &destination);
    let there = cold.root().await.database("kept");
    let copied = async || raw(&there, "events").await.len() == original.len();
    let done = erased_meanwhile(&base, &workspace, copied).await;
    only_ours_are_told(&done);
    assert!(bytes(&raw(&there, "events").await) == bytes(&original[ERASED as usize..]));
    no_mark_is_left(&base).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_erased_meanwhile_is_in_no_file() {
    let base = TestBase::new(60).await;
    old_documents(&base.db, "events", 0, ALL).await;
    let workspace = for_base(&base);
    let folder = workspace.path().join("kept");
    let destination = json!({ "files": format!("file://{}", folder.display()) });
    let workspace = task(workspace, "events", &destination);
    let written = async || {
        let listed = super::files::files_below(&folder);
        listed.iter().any(|name| name.ends_with(".json"))
    };
    let done = erased_meanwhile(&base, &workspace, written).await;
    only_ours_are_told(&done);
    workspace
        .run(["archive", "restore", "--from", "events", "--into", "back"])
        .expect(0);
    let back = ids(&raw(&base.db, "back").await);
    assert_eq!(back, (ERASED..ALL).collect());
}

/// Runs tasks of one target at the same moment, and gives their runs.
fn at_once(workspace: &Workspace, tasks: [&str; 2]) -> Vec<Value> {
    let processes = tasks.map(|task| {
        workspace
            .process(["run", task, "--now", "--output", "json"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    });
    let ended = processes.map(|process| process.wait_with_output().unwrap());
    let all = ended.iter().map(|ended| {
        let told: Value = serde_json::from_slice(&ended.stdout).unwrap();
        told["runs"][0].clone()
    });
    all.collect()
}

const MANY: i32 = 8_000;

fn keeping(workspace: Workspace, task: &str, into: &str) -> Workspace {
    workspace.task(task, &format!("kind: archive\ntarget: app\noptions:\n  rules: [{{ collection: events, field: at, older_than: 90d }}]\n  destination: {{ collection: {into} }}\n"))
}

/// Two archives of one collection: each document is in one of them, and the sums are true.
async fn two_archives(version: u32, into: [&str; 2]) {
    let base = TestBase::new(version).await;
    old_documents(&base.db, "events", 0, MANY).await;
    let original = raw(&base.db, "events").await;
    let workspace = keeping(keeping(for_base(&base), "one", into[0]), "two", into[1]);
    let done = at_once(&workspace, ["one", "two"]);
    let mut all: Vec<RawDocumentBuf> = Vec::new();
    let different: BTreeSet<&str> = into.into_iter().collect();
    for (name, run) in into.iter().zip(&done) {
        assert!(codes(run).is_empty(), "{run:#}");
        if different.len() == 2 {
            assert_eq!(
                raw(&base.db, name).await.len() as u64,
                run["rows"].as_u64().unwrap(),
                "{run:#}"
            );
        }
    }
    for name in different {
        all.extend(raw(&base.db, name).await);
    }
    all.sort_by_key(|d| d.get_i32("_id").unwrap());
    assert!(
        bytes(&all) == bytes(&original),
        "{} of {MANY}: {done:#?}",
        all.len()
    );
    let rows: i64 = done.iter().map(|run| run["rows"].as_i64().unwrap()).sum();
    assert_eq!(rows, i64::from(MANY), "{done:#?}");
    assert!(raw(&base.db, "events").await.is_empty());
    no_mark_is_left(&base).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_archives_of_one_collection_share_it() {
    two_archives(60, ["dst1", "dst2"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_archives_into_one_collection_double_nothing() {
    two_archives(50, ["dst", "dst"]).await;
}

/// What is cleaned up is not archived, what is archived not cleaned up.
#[tokio::test(flavor = "multi_thread")]
async fn a_cleanup_beside_an_archive_is_told_apart() {
    let base = TestBase::new(44).await;
    old_documents(&base.db, "events", 0, MANY).await;
    let workspace = keeping(for_base(&base), "keep", "kept").task("sweep", "kind: cleanup\ntarget: app\noptions:\n  rules: [{ collection: events, field: at, older_than: 90d }]\n");
    let done = at_once(&workspace, ["keep", "sweep"]);
    let kept = raw(&base.db, "kept").await.len() as u64;
    let rows = |n: usize| done[n]["rows"].as_u64().unwrap();
    assert_eq!(rows(0), kept, "{done:#?}");
    assert_eq!(rows(0) + rows(1), MANY as u64, "{done:#?}");
    assert!(raw(&base.db, "events").await.is_empty());
    assert_eq!(steps(&done[0], "failed"), Vec::<String>::new());
    no_mark_is_left(&base).await;
}

/// Archives of an archive: copies of a batch that has not come to its end are no documents yet.
#[tokio::test(flavor = "multi_thread")]
async fn copies_of_a_batch_under_way_are_not_archived_on() {
    let base = TestBase::new(60).await;
    old_documents(&base.db, "events", 0, ALL).await;
    let original = raw(&base.db, "events").await;
    let workspace = task(for_base(&base), "events", &json!({ "collection": "dst" }));
    let folder = workspace.path().join("kept");
    let files = format!("files: \"file://{}\"", folder.display());
    let onward = |workspace: Workspace, name: &str, destination: &str| {
        workspace.task(name, &format!("kind: archive\ntarget: app\noptions:\n  rules: [{{ collection: dst, field: at, older_than: 90d }}]\n  destination: {{ {destination} }}\n"))
    };
    let workspace = onward(workspace, "files", &files);
    let workspace = onward(workspace, "colder", "collection: cold");
    // One that is in the archive for good.
    let settled =
        doc! { "_id": -1, "at": mongodb::bson::DateTime::from_millis(1_600_000_000_000_i64) };
    base.collection("dst").insert_one(settled).await.unwrap();
    let mut theirs = erasing(&base).await;
    let mut process = workspace.begins(["run", "archive", "--now"]);
    let patience = Patience::until("the copies of a batch under way");
    while raw(&base.db, "dst").await.len() <= original.len() {
        assert!(process.try_wait().unwrap().is_none(), "it ended by itself");
        patience.pause().await;
    }
    for (name, rows) in [("colder", 1), ("files", 0)] {
        let done = run(&workspace, name, 0);
        assert_eq!(done["rows"], rows, "{name}: {done:#}");
        assert_eq!(codes(&done), ["archive.under_way"], "{name}: {done:#}");
        let told = done["findings"][0]["message"].as_str().unwrap();
        assert!(told.starts_with("200 documents stay in"), "{told}");
    }
    assert_eq!(raw(&base.db, "dst").await.len(), original.len());
    theirs.abort_transaction().await.unwrap();
    assert!(process.wait().unwrap().success());
    let done = run(&workspace, "files", 0);
    assert_eq!(done["rows"], ALL, "{done:#}");
    assert!(codes(&done).is_empty(), "{done:#}");
    workspace
        .run(["archive", "restore", "--from", "dst", "--into", "back"])
        .expect(0);
    assert!(bytes(&raw(&base.db, "back").await) == bytes(&original));
    assert!(raw(&base.db, "dst").await.is_empty());
}

/// The marks are in another database than that of the archive of the archive, or on another server.
async fn not_archived_on_from(version: u32) {
    let (base, next) = (TestBase::new(60).await, TestBase::new(version).await);
    old_documents(&base.db, "events", 0, ALL).await;
    let original = raw(&base.db, "events").await;
    let workspace = Workspace::new(&format!(
        "history: sqlite:maint.db\ntargets:\n  app: {{ engine: mongodb, url: \"{}\" }}\n  next: {{ engine: mongodb, url: \"{}\" }}\n",
        base.url(),
        next.url()
    ));
    let destination = json!({ "target": "next", "database": next.name, "collection": "dst" });
    let workspace = task(workspace, "events", &destination).task("colder", "kind: archive\ntarget: next\noptions:\n  rules: [{ collection: dst, field: at, older_than: 90d }]\n  destination: { collection: cold }\n");
    let theirs = erasing(&base).await;
    let mut process = workspace.begins(["run", "archive", "--now"]);
    let patience = Patience::until("the copies of a batch under way");
    while raw(&next.db, "dst").await.len() < original.len() {
        assert!(process.try_wait().unwrap().is_none(), "it ended by itself");
        patience.pause().await;
    }
    let done = run(&workspace, "colder", 0);
    assert_eq!(done["rows"], 0, "{done:#}");
    assert_eq!(codes(&done), ["archive.under_way"], "{done:#}");
    let told = done["findings"][0]["message"].as_str().unwrap();
    assert!(told.starts_with("200 documents stay in"), "{told}");
    let marks = format!("{}.maint.archives", base.name);
    assert!(told.contains(&marks), "{told}");
    let mut theirs = theirs;
    theirs.abort_transaction().await.unwrap();
    assert!(process.wait().unwrap().success());
    // One that nobody here can ask is told.
    let marks = next.collection("maint.archives");
    let source = doc! { "state": "source" };
    let mut unknown = marks.find_one(source).await.unwrap().unwrap();
    unknown.insert("_id", "another");
    let from = unknown.get_document_mut("from").unwrap();
    from.insert("target", "gone");
    from.insert("set", "rs9");
    from.insert("uuid", "another");
    marks.insert_one(unknown).await.unwrap();
    let done = run(&workspace, "colder", 0);
    assert_eq!(done["rows"], ALL, "{done:#}");
    assert_eq!(codes(&done), ["archive.under_way"], "{done:#}");
    let told = done["findings"][0]["message"].as_str().unwrap();
    let named = format!("{}.maint.archives of target gone", base.name);
    assert!(told.contains(&named), "{told}");
    assert!(bytes(&raw(&next.db, "cold").await) == bytes(&original));
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_under_way_are_known_by_marks_of_another_database() {
    not_archived_on_from(60).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_under_way_are_known_by_marks_of_another_server() {
    not_archived_on_from(50).await;
}

/// Thousands of sources that others have written down: whose a document is that was there before is not known then.
#[tokio::test(flavor = "multi_thread")]
async fn more_sources_than_are_looked_at_are_told() {
    let base = TestBase::new(60).await;
    old_documents(&base.db, "events", 0, 20).await;
    let original = raw(&base.db, "events").await;
    let workspace = task(for_base(&base), "events", &json!({ "collection": "kept" }));
    assert_eq!(run(&workspace, "archive", 0)["rows"], 20);
    let marks = base.collection("maint.archives");
    let source = doc! { "state": "source" };
    let own = marks.find_one(source).await.unwrap().unwrap();
    let many = (0..2_000).map(|n| {
        let mut one = own.clone();
        one.insert("_id", format!("!{n}"));
        one
    });
    marks.insert_many(many).await.unwrap();
    let events = base.db.collection::<RawDocumentBuf>("events");
    events.insert_many(&original).await.unwrap();
    let done = run(&workspace, "archive", 1);
    assert_eq!(done["rows"], 0, "{done:#}");
    assert_eq!(codes(&done), ["archive.differs"], "{done:#}");
    let told = done["findings"][0]["message"].as_str().unwrap();
    assert!(
        told.contains("maint.archives names more than are looked at"),
        "{told}"
    );
    assert_eq!(raw(&base.db, "events").await.len(), 20);
}
