//! What adds to its result and is cut off is never made again unseen, whatever the history knows.

use std::process::Child;

use mongodb::ClientSession;
use mongodb::bson::{Document, doc};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{codes, for_base, run, steps};
use crate::support::mongo::TestBase;
use crate::support::patience::Patience;
use crate::support::workspace::Workspace;

const DOCUMENTS: i32 = 200;

fn adding(workspace: Workspace, first: &str) -> Workspace {
    workspace.task(
        "refresh",
        &format!(
            "kind: refresh\ntarget: app\noptions:\n  aggregations:\n    - collection: events\n      pipeline:\n        - {first}\n        - {{ $sort: {{ _id: 1 }} }}\n        - $merge: {{ into: sums, whenMatched: [{{ $set: {{ n: {{ $add: [$n, $$new.n] }} }} }}] }}\n"
        ),
    )
}

const AS_IT_IS: &str = "{ $match: {} }";

/// How many documents of the result have each sum from 1 on.
async fn sums(base: &TestBase) -> Vec<u64> {
    let mut all = Vec::new();
    for n in 1..=4 {
        all.push(base.count("sums", doc! { "n": n }).await);
    }
    all
}

async fn changed(base: &TestBase) {
    let touch = doc! { "$inc": { "touched": 1 } };
    base.collection("events")
        .update_one(doc! { "_id": 0 }, touch)
        .await
        .unwrap();
}

/// Somebody else's transaction has the last document that is added to.
async fn held(base: &TestBase) -> ClientSession {
    let mut theirs = base.db.client().start_session().await.unwrap();
    theirs.start_transaction().await.unwrap();
    base.collection("sums")
        .update_one(doc! { "_id": DOCUMENTS - 1 }, doc! { "$set": { "x": 1 } })
        .session(&mut theirs)
        .await
        .unwrap();
    theirs
}

/// A run that has added to all but the last document, which it cannot have.
async fn begun(base: &TestBase, workspace: &Workspace, n: i32) -> Child {
    let mut process = workspace.begins(["run", "refresh", "--now"]);
    let patience = Patience::until("the first half of what is added");
    let last_but_one = doc! { "_id": DOCUMENTS - 2, "n": n };
    while base.count("sums", last_but_one.clone()).await == 0 {
        assert!(process.try_wait().unwrap().is_none(), "it ended by itself");
        patience.pause().await;
    }
    process
}

async fn not_added_twice(version: u32) {
    let base = TestBase::new(version).await;
    let all = u64::try_from(DOCUMENTS).unwrap();
    let events = (0..DOCUMENTS).map(|n| doc! { "_id": n, "n": 1 });
    base.collection("events").insert_many(events).await.unwrap();
    let mut workspace = adding(for_base(&base), AS_IT_IS);
    run(&workspace, "refresh", 0);
    assert_eq!(sums(&base).await, [all, 0, 0, 0]);
    let again = run(&workspace, "refresh", 0);
    assert!(again["steps"].as_array().unwrap().is_empty(), "{again:#}");
    let marks = base.collection("maint.archives");

    // Killed in the middle: nobody knows how much is there.
    changed(&base).await;
    let mut theirs = held(&base).await;
    let mut process = begun(&base, &workspace, 2).await;
    process.kill().unwrap();
    process.wait().unwrap();
    for _ in 0..2 {
        let refused = run(&workspace, "refresh", 1);
        assert_eq!(codes(&refused), ["refresh.cut_off"], "{refused:#}");
        assert!(refused["steps"].as_array().unwrap().is_empty());
        assert_eq!(sums(&base).await[2..], [0, 0], "{refused:#}");
    }
    theirs.abort_transaction().await.unwrap();
    // Also where the history is lost.
    std::fs::remove_file(workspace.path().join("maint.db")).unwrap();
    let refused = run(&workspace, "refresh", 1);
    assert_eq!(codes(&refused), ["refresh.cut_off"], "{refused:#}");
    assert_eq!(sums(&base).await[2..], [0, 0]);
    // Completed by hand, and said so: it is made again only after a change.
    base.collection("sums")
        .update_many(doc! {}, doc! { "$set": { "n": 2 } })
        .await
        .unwrap();
    let open = doc! { "state": "adding" };
    let mark = marks.find_one(open.clone()).await.unwrap().unwrap();
    let id = doc! { "_id": mark.get_str("_id").unwrap() };
    let message = refused["findings"][0]["message"].as_str().unwrap();
    assert!(message.contains(mark.get_str("_id").unwrap()), "{message}");
    marks
        .update_one(id.clone(), doc! { "$set": { "state": "made" } })
        .await
        .unwrap();
    let known = run(&workspace, "refresh", 0);
    assert!(known["steps"].as_array().unwrap().is_empty(), "{known:#}");
    assert_eq!(sums(&base).await, [0, all, 0, 0]);

    // Stopped in the middle: the same, and told at once.
    changed(&base).await;
    let mut theirs = held(&base).await;
    let mut process = begun(&base, &workspace, 3).await;
    let pid = Pid::from_raw(i32::try_from(process.id()).unwrap());
    kill(pid, Signal::SIGTERM).unwrap();
    process.wait().unwrap();
    theirs.abort_transaction().await.unwrap();
    let stopped = workspace
        .run(["show", "last", "--output", "json"])
        .expect(0);
    let stopped = &stopped.json()["runs"][0];
    assert_eq!(codes(stopped), ["refresh.cut_off"], "{stopped:#}");
    let refused = run(&workspace, "refresh", 1);
    assert_eq!(codes(&refused), ["refresh.cut_off"], "{refused:#}");
    assert_eq!(sums(&base).await[3], 0);
    // Put back as it was, and the mark removed: then it is made again.
    base.collection("sums")
        .update_many(doc! {}, doc! { "$set": { "n": 2 } })
        .await
        .unwrap();
    marks.delete_one(id).await.unwrap();
    let made = run(&workspace, "refresh", 0);
    assert_eq!(steps(&made, "succeeded").len(), 1, "{made:#}");
    assert_eq!(sums(&base).await, [0, 0, all, 0]);

    // What has failed before anything was added may be made again.
    workspace = adding(workspace, "{ $set: { n: { $divide: [1, 0] } } }");
    for _ in 0..2 {
        let failed = run(&workspace, "refresh", 1);
        assert!(codes(&failed).is_empty(), "{failed:#}");
        assert_eq!(steps(&failed, "failed").len(), 1, "{failed:#}");
    }
    assert_eq!(marks.count_documents(open.clone()).await.unwrap(), 0);

    // Of what is emptied nothing can be there twice.
    workspace = adding(workspace, AS_IT_IS);
    let left = doc! { "_id": "addition, another pipeline", "state": "adding", "owner": "maint gone", "from": format!("{}.events", base.name), "into": format!("{}.sums", base.name) };
    marks.insert_one(left).await.unwrap();
    let refused = run(&workspace, "refresh", 1);
    assert_eq!(codes(&refused), ["refresh.cut_off"], "{refused:#}");
    base.collection("sums").delete_many(doc! {}).await.unwrap();
    let made = run(&workspace, "refresh", 0);
    assert_eq!(steps(&made, "succeeded").len(), 1, "{made:#}");
    assert_eq!(sums(&base).await, [all, 0, 0, 0]);
    assert_eq!(marks.count_documents(open).await.unwrap(), 0);
    let again = run(&workspace, "refresh", 0);
    assert!(again["steps"].as_array().unwrap().is_empty(), "{again:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_cut_off_is_not_added_twice_4_4() {
    not_added_twice(44).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_cut_off_is_not_added_twice_6_0() {
    not_added_twice(60).await;
}

/// A result that somebody has emptied, cut, or put another in the place of, is made anew, though no
/// source has changed.
#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_is_not_what_was_left_is_made_anew() {
    let base = TestBase::new(60).await;
    let events = (0..20).map(|n| doc! { "_id": n, "day": n % 5 });
    base.collection("events").insert_many(events).await.unwrap();
    let group = "{ $group: { _id: $day, n: { $sum: 1 } } }";
    let task = format!(
        "kind: refresh\ntarget: app\noptions:\n  aggregations:\n    - collection: events\n      pipeline: [{group}, {{ $out: days }}]\n    - collection: events\n      pipeline: [{group}, {{ $merge: {{ into: kept, whenMatched: replace }} }}]\n"
    );
    let workspace = for_base(&base).task("refresh", &task);
    let first = run(&workspace, "refresh", 0);
    assert_eq!(steps(&first, "succeeded").len(), 2, "{first:#}");
    let nothing = || {
        let again = run(&workspace, "refresh", 0);
        assert!(again["steps"].as_array().unwrap().is_empty(), "{again:#}");
    };
    nothing();
    for name in ["days", "kept"] {
        let result = base.collection(name);
        let object = format!("refresh {}.{name}", base.name);
        let made = |why: &str| {
            let made = run(&workspace, "refresh", 0);
            assert_eq!(steps(&made, "succeeded"), [object.as_str()], "{made:#}");
            let reason = made["steps"][0]["reason"].as_str().unwrap();
            assert!(reason.contains(why), "{reason}");
        };
        result.delete_many(doc! {}).await.unwrap();
        made("when it was made, and is empty");
        assert_eq!(base.count(name, doc! { "n": 4 }).await, 5);
        nothing();
        result.delete_one(doc! { "_id": 3 }).await.unwrap();
        made("it held 5 documents when it was made, and holds 4");
        assert_eq!(base.count(name, doc! { "n": 4 }).await, 5);
        nothing();
        // Another one of that name, put back from somewhere.
        result.drop().await.unwrap();
        let others = (0..5).map(|n| doc! { "_id": n, "n": 99 });
        result.insert_many(others).await.unwrap();
        made("another collection");
        assert_eq!(base.count(name, doc! { "n": 4 }).await, 5);
        nothing();
    }
    // A result that is added to may have more; one that is replaced may not.
    let more: Document = doc! { "_id": 99, "n": 4 };
    base.collection("kept")
        .insert_one(more.clone())
        .await
        .unwrap();
    nothing();
    base.collection("days").insert_one(more).await.unwrap();
    let made = run(&workspace, "refresh", 0);
    assert_eq!(steps(&made, "succeeded").len(), 1, "{made:#}");
    assert_eq!(base.count("days", doc! {}).await, 5);
    nothing();
}

/// Somebody sets the mark of what was made back: nothing is added, the history is named as witness, and what is
/// told mends it.
#[tokio::test(flavor = "multi_thread")]
async fn a_mark_that_was_set_back_is_told_with_what_the_history_knows() {
    let base = TestBase::new(60).await;
    let all = u64::try_from(DOCUMENTS).unwrap();
    let events = (0..DOCUMENTS).map(|n| doc! { "_id": n, "n": 1 });
    base.collection("events").insert_many(events).await.unwrap();
    let workspace = adding(for_base(&base), AS_IT_IS);
    run(&workspace, "refresh", 0);
    changed(&base).await;
    let marks = base.collection("maint.archives");
    let back = doc! { "$set": { "state": "adding" } };
    marks
        .update_one(doc! { "state": "made" }, back)
        .await
        .unwrap();
    for _ in 0..2 {
        let refused = run(&workspace, "refresh", 1);
        assert_eq!(codes(&refused), ["refresh.cut_off"], "{refused:#}");
        let told = refused["findings"][0]["message"].as_str().unwrap();
        assert!(told.contains("the history that all of it was"), "{told}");
        assert_eq!(sums(&base).await, [all, 0, 0, 0]);
    }
    let made = doc! { "$set": { "state": "made" } };
    marks
        .update_one(doc! { "state": "adding" }, made)
        .await
        .unwrap();
    run(&workspace, "refresh", 0);
    assert_eq!(sums(&base).await, [0, all, 0, 0]);
}
