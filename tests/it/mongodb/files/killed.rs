//! Killed at any moment, and with a primary that steps down: what has left the
//! collection is in the files, what is in the files has left the collection.

use std::collections::BTreeSet;
use std::time::Instant;

use mongodb::bson::{Document, RawDocumentBuf, doc};
use serde_json::json;

use super::{address, archived, bytes, nothing_else, old_documents, raw, run, task, workspace};
use crate::support::mongo::Servers;
use crate::support::patience::Patience;
use crate::support::s3::{BUCKET, S3};
use crate::support::workspace::Workspace;

const DOCUMENTS: i32 = 30_000;

/// How often a run is killed: six times, or as `MAINT_TEST_KILLS` says.
fn times() -> u32 {
    std::env::var("MAINT_TEST_KILLS").map_or(6, |n| n.parse().unwrap())
}

/// How long the `n`th run lives, in hundredths of what a plan takes: from before it has connected to
/// well into its batches. `MAINT_TEST_SEED` gives other moments.
fn moment(n: u32) -> u32 {
    let seed = std::env::var("MAINT_TEST_SEED").map_or(0, |n| n.parse::<u32>().unwrap());
    60 + n.wrapping_mul(137).wrapping_add(seed.wrapping_mul(7919)) % 600
}

async fn killed(version: u32, on_disk: bool) {
    let set = Servers::set(version).await;
    let db = set.root().await.database("app");
    old_documents(&db, "events", 0, DOCUMENTS).await;
    let mut original = raw(&db, "events").await;
    let s3 = S3::start();
    let folder = tempfile::tempdir().unwrap();
    let files = match on_disk {
        true => address(folder.path()),
        false => format!("s3://{BUCKET}/a"),
    };
    let place = match on_disk {
        true => folder.path().to_owned(),
        false => s3.folder.path().join(BUCKET).join("a"),
    };
    let url = set.maint_url("app");
    let workspace = s3.known_to(task(workspace(&url), "events", &json!({ "files": files })));
    let events = db.collection::<Document>("events");
    // What it takes to come to work, however fast the machine.
    let began = Instant::now();
    workspace.run(["plan", "archive"]).expect(0);
    let start = began.elapsed();
    let (mut killed, mut lot, mut n, mut unsettled) = (0, 0, 0, 0);
    while killed < times() {
        let mut process = workspace.begins(["run", "archive", "--now"]);
        n += 1;
        tokio::time::sleep(start * moment(n) / 100).await;
        killed += u32::from(process.try_wait().unwrap().is_none());
        process.kill().unwrap();
        process.wait().unwrap();
        let open = archived(&workspace);
        unsettled += open
            .iter()
            .filter(|a| a["manifest"]["settled"] == false)
            .count();
        if events.count_documents(doc! {}).await.unwrap() < 10_000 {
            lot += 1;
            old_documents(&db, "events", lot * DOCUMENTS, (lot + 1) * DOCUMENTS).await;
            let new = db.collection::<RawDocumentBuf>("events");
            let found = new
                .find(doc! { "_id": { "$gte": lot * DOCUMENTS } })
                .sort(doc! { "_id": 1 });
            let found = found.await.unwrap();
            original.extend(
                futures_util::TryStreamExt::try_collect::<Vec<_>>(found)
                    .await
                    .unwrap(),
            );
        }
    }
    eprintln!(
        "{version}: {killed} of {n} runs were killed, {unsettled} manifests were unsettled, {} documents",
        original.len()
    );
    let done = run(&workspace, "archive", 0);
    assert_eq!(done["status"], "succeeded", "{done:#}");
    assert_eq!(events.count_documents(doc! {}).await.unwrap(), 0);
    let all = archived(&workspace);
    let sum: i64 = all
        .iter()
        .map(|a| a["manifest"]["rows"].as_i64().unwrap())
        .sum();
    assert_eq!(usize::try_from(sum).unwrap(), original.len());
    assert!(all.iter().all(|a| a["manifest"]["settled"] == true));
    workspace.run(["archive", "verify"]).expect(0);
    nothing_else(&workspace, &place);
    workspace
        .run(["archive", "restore", "--into", "back"])
        .expect(0);
    let back = raw(&db, "back").await;
    assert!(
        bytes(&back) == bytes(&original),
        "{} of {}",
        back.len(),
        original.len()
    );
    assert_eq!(run(&workspace, "archive", 0)["steps"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_on_the_way_to_s3_6_0() {
    killed(60, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_on_the_way_to_disk_5_0() {
    killed(50, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_on_the_way_to_disk_4_4() {
    killed(44, true).await;
}

/// The same on the way to another server: a document is in one of the two at any moment, and in the
/// end in the other alone.
async fn killed_to_another_target(version: u32, other: u32) {
    let (set, cold) = (Servers::set(version).await, Servers::set(other).await);
    let db = set.root().await.database("app");
    let kept = cold.root().await.database("kept");
    old_documents(&db, "events", 0, DOCUMENTS).await;
    db.collection("events")
        .insert_one(doc! { "_id": "stays" })
        .await
        .unwrap();
    let destination = json!({ "target": "cold", "database": "kept" });
    let workspace = task(
        Workspace::new(&format!(
            "history: sqlite:maint.db\ntargets:\n  app: {{ engine: mongodb, url: \"{}\" }}\n  cold: {{ engine: mongodb, url: \"{}\" }}\n",
            set.maint_url("app"),
            cold.maint_url("kept")
        )),
        "events",
        &destination,
    );
    let began = Instant::now();
    workspace.run(["plan", "archive"]).expect(0);
    let start = began.elapsed();
    let mut original = raw(&db, "events").await;
    original.pop();
    let (mut killed, mut lot, mut n, mut halfway, mut moved) = (0, 0, 0, 0, 0);
    // Where others keep the machine busy, a run takes longer to get anywhere than the plan did.
    while killed < times() || (moved == 0 && n < 5 * times()) {
        let mut process = workspace.begins(["run", "archive", "--now"]);
        n += 1;
        let longer = 1 + n / (times() + 1);
        tokio::time::sleep(start * longer * moment(n) / 100).await;
        killed += u32::from(process.try_wait().unwrap().is_none());
        process.kill().unwrap();
        process.wait().unwrap();
        let (here, there) = (raw(&db, "events").await, raw(&kept, "events").await);
        let ids = |of: &[RawDocumentBuf]| -> BTreeSet<String> {
            of.iter()
                .map(|d| format!("{:?}", d.get("_id").unwrap()))
                .collect()
        };
        let (here, there) = (ids(&here), ids(&there));
        let both = here.intersection(&there).count();
        assert_eq!(
            here.len() - 1 + there.len() - both,
            original.len(),
            "after kill {n}"
        );
        halfway += u32::from(both > 0);
        moved = there.len() - both;
        if here.len() < 10_000 {
            lot += 1;
            let from = lot * DOCUMENTS;
            old_documents(&db, "events", from, from + DOCUMENTS).await;
            let new = raw(&db, "events").await.into_iter();
            original.extend(new.filter(|d| d.get_i32("_id").is_ok_and(|id| id >= from)));
        }
    }
    eprintln!(
        "{version} to {other}: {killed} of {n} runs were killed, {halfway} with documents in both, {moved} of {} documents had gone",
        original.len()
    );
    assert!(
        moved > 0,
        "every run was killed before its first batch had gone"
    );
    let done = run(&workspace, "archive", 0);
    assert_eq!(done["status"], "succeeded", "{done:#}");
    assert_eq!(raw(&db, "events").await.len(), 1);
    let there = raw(&kept, "events").await;
    assert!(
        bytes(&there) == bytes(&original),
        "{} of {}",
        there.len(),
        original.len()
    );
    assert_eq!(run(&workspace, "archive", 0)["steps"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_on_the_way_to_another_target() {
    killed_to_another_target(60, 50).await;
}

/// Killed right before its transaction is committed: the server keeps it open,
/// and the next run neither waits for that nor takes the batch for gone.
#[tokio::test(flavor = "multi_thread")]
async fn killed_with_a_transaction_open() {
    let set = Servers::set(60).await;
    let db = set.root().await.database("app");
    old_documents(&db, "events", 0, 500).await;
    let original = raw(&db, "events").await;
    let folder = tempfile::tempdir().unwrap();
    let workspace = task(
        workspace(&set.maint_url("app")),
        "events",
        &json!({ "files": address(folder.path()) }),
    );
    let admin = set.root().await.database("admin");
    let block = |mode: &str| {
        doc! { "configureFailPoint": "failCommand", "mode": mode,
        "data": { "failCommands": ["commitTransaction"], "blockConnection": true, "blockTimeMS": 600_000 } }
    };
    admin.run_command(block("alwaysOn")).await.unwrap();
    let mut process = workspace.begins(["run", "archive", "--now"]);
    let patience = Patience::until("the commit that does not come to its end");
    loop {
        let status = admin.run_command(doc! { "serverStatus": 1 }).await.unwrap();
        let open = status
            .get_document("transactions")
            .unwrap()
            .get_i64("currentOpen")
            .unwrap();
        let committing = doc! { "currentOp": 1, "command.commitTransaction": 1 };
        let committing = admin.run_command(committing).await.unwrap();
        if open > 0 && !committing.get_array("inprog").unwrap().is_empty() {
            break;
        }
        assert!(
            process.try_wait().unwrap().is_none(),
            "it ended before it was killed"
        );
        patience.pause().await;
    }
    process.kill().unwrap();
    process.wait().unwrap();
    // The commit that was on its way is lost, as with a connection that breaks.
    let ops = doc! { "currentOp": 1, "command.commitTransaction": 1 };
    let ops = admin.run_command(ops).await.unwrap();
    for op in ops.get_array("inprog").unwrap() {
        let id = op.as_document().unwrap().get("opid").unwrap().clone();
        admin
            .run_command(doc! { "killOp": 1, "op": id })
            .await
            .unwrap();
    }
    admin
        .run_command(doc! { "configureFailPoint": "failCommand", "mode": "off" })
        .await
        .unwrap();
    let unsettled = archived(&workspace);
    assert_eq!(unsettled.len(), 1);
    assert_eq!(unsettled[0]["manifest"]["settled"], false);
    let done = run(&workspace, "archive", 0);
    assert_eq!(done["steps"][0]["action"], "settle", "{done:#}");
    assert_eq!(
        db.collection::<Document>("events")
            .count_documents(doc! {})
            .await
            .unwrap(),
        0
    );
    nothing_else(&workspace, folder.path());
    workspace
        .run(["archive", "restore", "--into", "back"])
        .expect(0);
    assert!(bytes(&original) == bytes(&raw(&db, "back").await));
}

/// The primary steps down again and again while documents leave.
#[tokio::test(flavor = "multi_thread")]
async fn a_step_down_in_the_middle_loses_and_doubles_nothing() {
    let set = Servers::set(60).await;
    let db = set.root().await.database("app");
    old_documents(&db, "events", 0, 60_000).await;
    let original = raw(&db, "events").await;
    let folder = tempfile::tempdir().unwrap();
    let workspace = task(
        workspace(&set.maint_url("app")),
        "events",
        &json!({ "files": address(folder.path()) }),
    );
    let mut process = workspace.begins(["run", "archive", "--now"]);
    let events = db.collection::<Document>("events");
    let patience = Patience::until("the first batch");
    while events.estimated_document_count().await.unwrap() == 60_000 {
        patience.pause().await;
    }
    assert!(
        process.try_wait().unwrap().is_none(),
        "it ended before the primary stepped down"
    );
    set.step_down().await;
    let code = process.wait().unwrap().code();
    if code != Some(0) {
        panic!("{code:?}: {}", workspace.run(["show", "last"]).stdout);
    }
    run(&workspace, "archive", 0);
    assert_eq!(events.count_documents(doc! {}).await.unwrap(), 0);
    nothing_else(&workspace, folder.path());
    workspace.run(["archive", "verify"]).expect(0);
    workspace
        .run(["archive", "restore", "--into", "back"])
        .expect(0);
    assert!(bytes(&original) == bytes(&raw(&db, "back").await));
}

/// What passes by itself is told in words and by its code: what the server answers may hold what
/// documents hold. That others write the same documents is told to nobody who cannot act.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_tried_again_is_told_without_the_answer() {
    let set = Servers::set(60).await;
    let db = set.root().await.database("app");
    let folder = tempfile::tempdir().unwrap();
    let workspace = task(
        workspace(&set.maint_url("app")),
        "events",
        &json!({ "files": address(folder.path()) }),
    );
    let admin = set.root().await.database("admin");
    for (code, told) in [
        (112, None),
        (
            189,
            Some("trying again: a member shuts down or is no primary any more"),
        ),
    ] {
        old_documents(&db, "events", 0, 50).await;
        let fail = doc! { "configureFailPoint": "failCommand", "mode": { "times": 4 },
        "data": { "failCommands": ["delete"], "namespace": "app.events", "errorCode": code, "errorLabels": ["TransientTransactionError"] } };
        admin.run_command(fail).await.unwrap();
        let output = workspace.run(["run", "archive", "--now"]).expect(0);
        match told {
            None => assert!(!output.stderr.contains("again"), "{output:?}"),
            Some(told) => assert!(output.stderr.contains(told), "{output:?}"),
        }
        for word in ["WARN trying again error", "RawDocumentBuf", "WriteConflict"] {
            assert!(!output.stderr.contains(word), "{word}: {output:?}");
        }
        assert_eq!(
            db.collection::<Document>("events")
                .count_documents(doc! {})
                .await
                .unwrap(),
            0
        );
    }
}
