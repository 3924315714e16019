//! The mark of a batch is gone, or the history asks for it once more: what is in the files only stays.

use std::process::Child;

use mongodb::Database;
use mongodb::bson::{Document, RawDocumentBuf, doc};
use serde_json::{Value, json};

use super::{address, archived, bytes, files_below, nothing_else, old_documents, raw, run, task};
use crate::mongodb::halfway::{fail, nothing_fails};
use crate::mongodb::{codes, steps, workspace};
use crate::support::mongo::Servers;
use crate::support::patience::Patience;
use crate::support::workspace::Workspace;

const AFTER: &str = "waitAfterCommandFinishesExecution";

/// A set with documents and a task that archives them into files.
struct Place {
    set: Servers,
    db: Database,
    original: Vec<RawDocumentBuf>,
    folder: tempfile::TempDir,
    workspace: Workspace,
}

impl Place {
    async fn new(version: u32) -> Place {
        let set = Servers::set(version).await;
        let db = set.root().await.database("app");
        old_documents(&db, "events", 0, 500).await;
        let original = raw(&db, "events").await;
        let folder = tempfile::tempdir().unwrap();
        let destination = json!({ "files": address(folder.path()) });
        let workspace = task(workspace(&set.maint_url("app")), "events", &destination);
        Place {
            set,
            db,
            original,
            folder,
            workspace,
        }
    }

    async fn admin(&self) -> Database {
        self.set.root().await.database("admin")
    }

    /// Starts a run, which learns nothing of its commit until it may.
    async fn committed_and_not_told(&self) -> Child {
        let wait = doc! { "configureFailPoint": AFTER, "mode": "alwaysOn", "data": { "commands": ["commitTransaction"] } };
        self.admin().await.run_command(wait).await.unwrap();
        let mut process = self.workspace.begins(["run", "archive", "--now"]);
        let patience = Patience::until("the commit");
        while self.left().await > 0 {
            assert!(process.try_wait().unwrap().is_none(), "it ended by itself");
            patience.pause().await;
        }
        process
    }

    async fn goes_on(&self) {
        let off = doc! { "configureFailPoint": AFTER, "mode": "off" };
        self.admin().await.run_command(off).await.unwrap();
    }

    async fn left(&self) -> u64 {
        let events = self.db.collection::<Document>("events");
        events.count_documents(doc! {}).await.unwrap()
    }

    async fn marks_are_removed(&self) {
        let marks = self.db.collection::<Document>("maint.archives");
        let gone = marks.delete_many(doc! {}).await.unwrap();
        assert_eq!(gone.deleted_count, 1);
    }

    /// All is archived, and comes back as it was.
    async fn is_archived(&self) {
        let all = archived(&self.workspace);
        assert_eq!(all.len(), 1);
        assert_eq!(all[0]["manifest"]["settled"], true);
        nothing_else(&self.workspace, self.folder.path());
        let restore = ["archive", "restore", "--into", "back"];
        self.workspace.run(restore).expect(0);
        assert!(bytes(&raw(&self.db, "back").await) == bytes(&self.original));
        assert_eq!(run(&self.workspace, "archive", 0)["steps"], json!([]));
    }
}

fn told_once(told: &Value, documents: u32) {
    assert_eq!(codes(told), ["archive.only_copy"], "{told:#}");
    assert_eq!(steps(told, "failed"), ["settle app"], "{told:#}");
    let message = told["findings"][0]["message"].as_str().unwrap();
    let many = match documents {
        1 => "1 document is".to_owned(),
        n => format!("{n} documents are"),
    };
    let many = format!("{many} not in app.events any more, of the 500 ");
    assert!(message.starts_with(&many), "{message}");
}

async fn without_a_mark(version: u32) {
    let place = Place::new(version).await;
    let mut process = place.committed_and_not_told().await;
    process.kill().unwrap();
    process.wait().unwrap();
    place.goes_on().await;
    place.marks_are_removed().await;
    told_once(&run(&place.workspace, "archive", 1), 500);
    place.is_archived().await;
}

/// Whoever may write to the database may remove the mark of a batch.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_without_its_mark_keeps_the_only_copy_4_4() {
    without_a_mark(44).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_without_its_mark_keeps_the_only_copy_6_0() {
    without_a_mark(60).await;
}

/// Some of its documents are in the collection, and cannot be told from those that never left it.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_without_its_mark_is_kept_for_one_document() {
    let place = Place::new(60).await;
    let mut process = place.committed_and_not_told().await;
    process.kill().unwrap();
    process.wait().unwrap();
    place.goes_on().await;
    place.marks_are_removed().await;
    old_documents(&place.db, "events", 0, 499).await;
    told_once(&run(&place.workspace, "archive", 1), 1);
    assert_eq!(run(&place.workspace, "archive", 0)["rows"], 499);
    nothing_else(&place.workspace, place.folder.path());
    let restore = ["archive", "restore", "--into", "back"];
    place.workspace.run(restore).expect(0);
    assert!(bytes(&raw(&place.db, "back").await) == bytes(&place.original));
}

/// Files that cannot be read may be all there is: they are looked at until they can.
#[tokio::test(flavor = "multi_thread")]
async fn files_that_nobody_can_read_stay() {
    let place = Place::new(60).await;
    let mut process = place.committed_and_not_told().await;
    process.kill().unwrap();
    process.wait().unwrap();
    place.goes_on().await;
    place.marks_are_removed().await;
    let files = files_below(place.folder.path());
    let file = files.iter().find(|file| file.ends_with(".jsonl.zst"));
    let file = place.folder.path().join(file.unwrap());
    let written = std::fs::read(&file).unwrap();
    std::fs::write(&file, &written[1..]).unwrap();
    for _ in 0..2 {
        let told = run(&place.workspace, "archive", 0);
        assert_eq!(codes(&told), ["archive.left_over"], "{told:#}");
        assert_eq!(files_below(place.folder.path()), files);
    }
    std::fs::write(&file, &written).unwrap();
    let told = run(&place.workspace, "archive", 1);
    assert_eq!(codes(&told), ["archive.only_copy"], "{told:#}");
    place.is_archived().await;
}

async fn an_answer_is_lost_and_the_mark_with_it(version: u32) {
    let place = Place::new(version).await;
    let late = doc! { "writeConcernError": { "code": 91, "errmsg": "going down" } };
    let admin = place.admin().await;
    fail(&admin, "commitTransaction", &json!("alwaysOn"), late).await;
    let mut process = place.committed_and_not_told().await;
    place.marks_are_removed().await;
    place.goes_on().await;
    assert_eq!(process.wait().unwrap().code(), Some(1));
    nothing_fails(&admin).await;
    told_once(&run(&place.workspace, "archive", 1), 500);
    place.is_archived().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_and_mark_are_lost_keeps_the_only_copy_4_4() {
    an_answer_is_lost_and_the_mark_with_it(44).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_and_mark_are_lost_keeps_the_only_copy_6_0() {
    an_answer_is_lost_and_the_mark_with_it(60).await;
}

async fn a_backup_of_the_history(version: u32) {
    let place = Place::new(version).await;
    let mut process = place.committed_and_not_told().await;
    let kept = place.workspace.keep_history();
    place.goes_on().await;
    assert_eq!(process.wait().unwrap().code(), Some(0));
    let marks = place.db.collection::<Document>("maint.archives");
    assert_eq!(marks.count_documents(doc! {}).await.unwrap(), 0);
    place.workspace.set_history_back(kept.path());
    let settled = run(&place.workspace, "archive", 0);
    assert_eq!(steps(&settled, "succeeded"), ["settle app"], "{settled:#}");
    place.is_archived().await;
}

/// It was made in the middle of a batch, and is put back when the mark has long been removed.
#[tokio::test(flavor = "multi_thread")]
async fn a_history_that_was_put_back_removes_no_archive_4_4() {
    a_backup_of_the_history(44).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_that_was_put_back_removes_no_archive_6_0() {
    a_backup_of_the_history(60).await;
}
