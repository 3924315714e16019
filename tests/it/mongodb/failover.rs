//! Step-downs, lagging and dead members, dead runs, and two histories.

use std::process::Stdio;
use std::time::{Duration, Instant};

use mongodb::bson::{DateTime, Document, doc};
use serde_json::Value;

use super::{codes, run, steps, workspace};
use crate::support::mongo::Servers;

const CLEANUP: &str = "kind: cleanup\ntarget: app\noptions:\n  batch_goal: 10ms\n  rules: [{ collection: events, field: at, older_than: 90d }]\n";

async fn filled(set: &Servers, old: i32) -> mongodb::Database {
    let db = set.root().await.database("app");
    let events = db.collection::<Document>("events");
    let old_date = DateTime::from_millis(1_600_000_000_000);
    for from in (0..old).step_by(5000) {
        let documents = (from..(from + 5000).min(old)).map(|n| doc! { "_id": n, "at": DateTime::from_millis(old_date.timestamp_millis() + i64::from(n)), "pad": "x".repeat(200) });
        events.insert_many(documents).await.unwrap();
    }
    events
        .insert_many((0..100).map(|n| doc! { "_id": -1 - n, "at": DateTime::now() }))
        .await
        .unwrap();
    let index = mongodb::IndexModel::builder()
        .keys(doc! { "at": 1 })
        .build();
    events.create_index(index).await.unwrap();
    db
}

async fn wait_below(db: &mongodb::Database, most: u64) {
    let began = Instant::now();
    while db
        .collection::<Document>("events")
        .estimated_document_count()
        .await
        .unwrap()
        > most
    {
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "waited in vain until documents go"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn ended(child: std::process::Child) -> Value {
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let document: Value = serde_json::from_str(&text).unwrap_or_else(|error| {
        panic!(
            "{error}: {text}\n{}",
            String::from_utf8_lossy(&output.stderr)
        )
    });
    document["runs"][0].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_down_in_the_middle_loses_and_doubles_nothing() {
    let set = Servers::set(60).await;
    let db = filled(&set, 20_000).await;
    let workspace = workspace(&set.maint_url("app")).task("cleanup", CLEANUP);
    let mut process = workspace.process(["run", "cleanup", "--now", "--output", "json"]);
    let mut child = process
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_below(&db, 19_500).await;
    set.step_down().await;
    assert!(
        child.try_wait().unwrap().is_none(),
        "it ended before the primary stepped down"
    );
    let done = ended(child);
    assert_eq!(done["status"], "succeeded", "{done:#}");
    let events = db.collection::<Document>("events");
    assert_eq!(events.count_documents(doc! {}).await.unwrap(), 100);
    assert_eq!(done["rows"], 20_000, "{done:#}");
    let again = run(&workspace, "cleanup", 0);
    assert!(again["steps"].as_array().unwrap().is_empty(), "{again:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_secondary_throttles_and_a_dead_one_is_a_finding() {
    let mut set = Servers::set(60).await;
    let db = filled(&set, 2000).await;
    set.whole().await;
    let primary = set.primary().await;
    let slow = (primary + 1) % 3;
    let fail = |mode: &str| doc! { "configureFailPoint": "rsSyncApplyStop", "mode": mode };
    let member = set.direct(slow, Some("root")).await.database("admin");
    member.run_command(fail("alwaysOn")).await.unwrap();
    let throttled = format!("{CLEANUP}throttle: {{ max_replica_lag: 1s }}\n");
    let workspace = workspace(&set.maint_url("app")).task("cleanup", &throttled);
    // Lag is seen once the primary has written something that the other lacks.
    tokio::time::sleep(Duration::from_secs(2)).await;
    db.collection::<Document>("other")
        .insert_one(doc! { "x": 1 })
        .await
        .unwrap();
    let mut process = workspace.process(["run", "cleanup", "--now", "--output", "json"]);
    let child = process
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    tokio::time::sleep(Duration::from_secs(4)).await;
    let events = db.collection::<Document>("events");
    assert_eq!(
        events.count_documents(doc! {}).await.unwrap(),
        2100,
        "it did not wait"
    );
    member.run_command(fail("off")).await.unwrap();
    let done = ended(child);
    assert_eq!(done["status"], "succeeded", "{done:#}");
    let paused = &done["steps"][0]["throttled"][0];
    assert_eq!(paused["setting"], "max_replica_lag", "{done:#}");
    assert_eq!(events.count_documents(doc! {}).await.unwrap(), 100);

    set.kill(slow);
    let began = Instant::now();
    loop {
        let after = run(&workspace, "cleanup", 0);
        if codes(&after).contains(&"member.down".to_owned()) {
            let text = after["findings"].to_string();
            assert!(text.contains(&set.address(slow)), "{text}");
            break;
        }
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "waited in vain for the finding"
        );
    }
    set.restart(slow);
    set.whole().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_histories_do_not_collide_and_a_dead_run_is_taken_over() {
    let set = Servers::set(60).await;
    let db = filled(&set, 20_000).await;
    let url = set.maint_url("app");
    let (one, other) = (
        workspace(&url).task("cleanup", CLEANUP),
        workspace(&url).task("cleanup", CLEANUP),
    );
    let mut process = one.process(["run", "cleanup", "--now", "--output", "json"]);
    let mut child = process
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_below(&db, 19_500).await;
    let second = other
        .run(["run", "cleanup", "--now", "--output", "json"])
        .expect(4)
        .json()["runs"][0]
        .clone();
    assert_eq!(second["status"], "skipped", "{second:#}");
    assert!(
        second["error"]
            .as_str()
            .unwrap()
            .contains("already at work"),
        "{second:#}"
    );
    child.kill().unwrap();
    child.wait().unwrap();
    let left = db
        .collection::<Document>("events")
        .count_documents(doc! {})
        .await
        .unwrap();
    assert!(left > 100, "the run had ended before it was killed");
    let third = run(&other, "cleanup", 0);
    assert_eq!(third["status"], "succeeded", "{third:#}");
    assert_eq!(
        db.collection::<Document>("events")
            .count_documents(doc! {})
            .await
            .unwrap(),
        100
    );
    let claims = db
        .collection::<Document>("maint.claims")
        .count_documents(doc! {})
        .await
        .unwrap();
    assert_eq!(claims, 0, "the claim was given back");
    let own = one
        .run(["run", "cleanup", "--now", "--output", "json"])
        .expect(0);
    let runs = one.run(["history", "--output", "json"]).stdout;
    assert!(runs.contains("interrupted"), "{own:#?} {runs}");
}

/// An index is made while a member that would have to build it is away.
async fn a_ttl_index_while_a_member_is_down(version: u32) {
    let mut set = Servers::set(version).await;
    let db = set.root().await.database("app");
    let sessions = db.collection::<Document>("sessions");
    let later = DateTime::from_millis(4_000_000_000_000);
    let all = (0..50).map(|n| doc! { "_id": n, "expires_at": later });
    sessions.insert_many(all).await.unwrap();
    set.whole().await;
    set.kill((set.primary().await + 1) % 3);
    let workspace = workspace(&set.maint_url("app")).task(
        "ttl",
        "kind: cleanup\ntarget: app\noptions: { ttl: [{ collection: sessions, field: expires_at, expire_after: 1h }] }\nlimits: { step_timeout: 30s }\n",
    );
    let done = run(&workspace, "ttl", 0);
    assert_eq!(
        steps(&done, "succeeded"),
        ["create_ttl app.sessions"],
        "{done:#}"
    );
    let names = sessions.list_index_names().await.unwrap();
    assert_eq!(names, ["_id_", "expires_at_1"]);
    let again = run(&workspace, "ttl", 0);
    assert!(again["steps"].as_array().unwrap().is_empty(), "{again:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ttl_index_is_made_while_a_member_is_down_4_4() {
    a_ttl_index_while_a_member_is_down(44).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ttl_index_is_made_while_a_member_is_down_6_0() {
    a_ttl_index_while_a_member_is_down(60).await;
}

/// A failover may come while a run connects, claims its task, or looks: it is no end.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_cut_short_before_the_work_begins_is_begun_again() {
    let one = Servers::single(60).await;
    let client = one.direct(0, None).await;
    let admin = client.database("admin");
    let db = client.database("app");
    let events = db.collection::<Document>("events");
    let copies = db.collection::<Document>("kept");
    let index = mongodb::IndexModel::builder()
        .keys(doc! { "at": 1 })
        .build();
    events.create_index(index).await.unwrap();
    let url = one.url(None, "app", "replicaSet=one&serverSelectionTimeoutMS=700");
    let workspace = workspace(&url).task("keep", "kind: archive\ntarget: app\noptions:\n  rules: [{ collection: events, field: at, older_than: 90d }]\n  destination: { collection: kept }\n");
    let closed = |commands: &[&str], times: i32| doc! { "failCommands": commands.to_vec(), "closeConnection": true, "times": times };
    let down = |commands: &[&str], times: i32| doc! { "failCommands": commands.to_vec(), "errorCode": 11600, "times": times };
    let failures = [
        closed(&["findAndModify"], 2),
        down(&["findAndModify"], 1),
        closed(&["listCollections"], 3),
        down(&["aggregate", "listIndexes"], 1),
        closed(&["replSetGetStatus"], 2),
        closed(&["create"], 2),
        down(&["create"], 1),
    ];
    let mut kept = 0_i64;
    let mut begin = async || {
        let some = (kept..kept + 10)
            .map(|n| doc! { "_id": n, "at": DateTime::from_millis(1_000_000_000_000) });
        events.insert_many(some).await.unwrap();
        kept += 10;
        u64::try_from(kept).unwrap()
    };
    for failure in failures {
        let all = begin().await;
        // Marks are made room for once.
        let marks = db.collection::<Document>("maint.archives");
        marks.drop().await.unwrap();
        let mut data = failure.clone();
        let times = data.remove("times").unwrap();
        let fail =
            doc! { "configureFailPoint": "failCommand", "mode": { "times": times }, "data": data };
        admin.run_command(fail).await.unwrap();
        let output = workspace.run(["run", "keep", "--now"]);
        let off = doc! { "configureFailPoint": "failCommand", "mode": "off" };
        admin.run_command(off).await.unwrap();
        assert_eq!(output.code, 0, "{failure}: {output:#?}");
        assert!(
            output.stderr.contains("trying again"),
            "{failure}: {output:#?}"
        );
        assert!(!output.stderr.contains("rustls"), "{failure}: {output:#?}");
        assert_eq!(
            events.count_documents(doc! {}).await.unwrap(),
            0,
            "{failure}"
        );
        let there = copies.count_documents(doc! {});
        assert_eq!(there.await.unwrap(), all, "{failure}");
    }
    // Nobody is primary for a while; a plan waits, too.
    let all = begin().await;
    for verb in [&["plan", "keep"][..], &["run", "keep", "--now"]] {
        let down = doc! { "replSetStepDown": 4, "force": true };
        admin.run_command(down).await.unwrap();
        let output = workspace.run(verb).expect(0);
        assert!(
            output.stderr.contains("no primary"),
            "{verb:?}: {output:#?}"
        );
    }
    assert_eq!(events.count_documents(doc! {}).await.unwrap(), 0);
    let there = copies.count_documents(doc! {});
    assert_eq!(there.await.unwrap(), all);
}
