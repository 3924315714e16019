//! What is rare and has to be right all the same: a set of one, indexes that nobody's task names,
//! the turn of each member, a collection that was put back.

use mongodb::IndexModel;
use mongodb::bson::{DateTime, Document, doc};
use mongodb::options::IndexOptions;

use super::archive::raw;
use super::{codes, for_base, run, steps, workspace};
use crate::support::mongo::{Servers, TestBase};
use crate::support::patience::Patience;

async fn a_set_of_one(version: u32) {
    let one = Servers::single(version).await;
    let client = one.direct(0, None).await;
    let events = client.database("app").collection::<Document>("events");
    let pad = || {
        let word = |_| uuid::Uuid::now_v7().simple().to_string();
        (0..20).map(word).collect::<String>()
    };
    for from in 0..20 {
        let documents = (0..1000).map(|n| doc! { "_id": from * 1000 + n, "pad": pad() });
        events.insert_many(documents).await.unwrap();
    }
    let admin = client.database("admin");
    admin.run_command(doc! { "fsync": 1 }).await.unwrap();
    let few = doc! { "_id": { "$gte": 500 } };
    events.delete_many(few).await.unwrap();
    admin.run_command(doc! { "fsync": 1 }).await.unwrap();
    let url = one.url(None, "app", "replicaSet=one");
    let task = |more: &str| {
        format!(
            "kind: compact\ntarget: app\noptions: {{ min_free: 100kB, min_share: 10%{more} }}\n"
        )
    };
    let left = workspace(&url).task("compact", &task(""));
    let plan = left.run(["plan", "compact", "--all"]).expect(0);
    assert!(plan.stdout.contains("no other that could be"), "{plan:#?}");
    let term = async || {
        let status = admin.run_command(doc! { "replSetGetStatus": 1 }).await;
        status.unwrap().get_i64("term").unwrap()
    };
    let before = term().await;
    let workspace = workspace(&url).task("compact", &task(", step_down: true"));
    let done = run(&workspace, "compact", 0);
    assert_eq!(done["status"], "succeeded", "{done:#}");
    assert_eq!(steps(&done, "succeeded").len(), 1, "{done:#}");
    let step = &done["steps"][0];
    let size = |key: &str| step[key].as_i64().unwrap();
    assert!(size("bytes_after") < size("bytes_before"), "{done:#}");
    assert_eq!(term().await, before, "nobody has stepped down");
    assert_eq!(events.count_documents(doc! {}).await.unwrap(), 500);
    let again = run(&workspace, "compact", 0);
    assert!(again["steps"].as_array().unwrap().is_empty(), "{again:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_of_one_is_compacted_without_a_step_down_4_4() {
    a_set_of_one(44).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_of_one_is_compacted_without_a_step_down_6_0() {
    a_set_of_one(60).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_ttl_index_is_looked_at_whoever_made_it() {
    for version in [44, 60] {
        let servers = Servers::single(version).await;
        let client = servers.direct(0, None).await;
        let admin = client.database("admin");
        let monitor = |on: bool| doc! { "setParameter": 1, "ttlMonitorEnabled": on };
        admin.run_command(monitor(false)).await.unwrap();
        let db = client.database("app");
        let day = std::time::Duration::from_secs(86_400);
        for name in ["stalled", "fine", "part"] {
            let part = (name == "part").then(|| doc! { "draft": true });
            let options = IndexOptions::builder()
                .expire_after(day)
                .partial_filter_expression(part)
                .build();
            let index = IndexModel::builder()
                .keys(doc! { "at": 1 })
                .options(options)
                .build();
            let of = db.collection::<Document>(name);
            of.create_index(index).await.unwrap();
            let age = if name == "fine" { 3600 } else { 30 * 86_400 };
            let at = DateTime::from_millis(DateTime::now().timestamp_millis() - age * 1000);
            let documents = (0..7).map(|n| doc! { "_id": n, "at": at });
            of.insert_many(documents).await.unwrap();
        }
        let workspace = workspace(&servers.url(None, "app", "replicaSet=one"))
            .task("snapshot", "kind: snapshot\ntarget: app\n")
            .task(
                "late",
                "kind: snapshot\ntarget: app\noptions: { max_overdue: 1ms }\n",
            );
        let done = run(&workspace, "snapshot", 0);
        assert_eq!(codes(&done), ["ttl.monitor_off"], "{done:#}");
        // It is on, and does nothing: it is held up.
        let hang = doc! { "configureFailPoint": "hangTTLMonitorWithLock", "mode": "alwaysOn" };
        admin.run_command(hang).await.unwrap();
        admin.run_command(monitor(true)).await.unwrap();
        // The indexes are seconds old, and may be an hour late.
        let young = run(&workspace, "snapshot", 0);
        let done = run(&workspace, "late", 0);
        let free = doc! { "configureFailPoint": "hangTTLMonitorWithLock", "mode": "off" };
        admin.run_command(free).await.unwrap();
        assert_eq!(codes(&young), [""; 0], "{young:#}");
        assert_eq!(codes(&done), ["ttl.stalled"], "{done:#}");
        let told = &done["findings"][0];
        assert_eq!(told["object"], "app.stalled", "{done:#}");
        let message = told["message"].as_str().unwrap();
        assert!(message.starts_with("7 documents"), "{message}");
        let of = db.collection::<Document>("stalled");
        let patience = Patience::until("documents that expire");
        while of.count_documents(doc! {}).await.unwrap() > 0 {
            patience.pause().await;
        }
        let done = run(&workspace, "snapshot", 0);
        assert_eq!(codes(&done), [""; 0], "{done:#}");
        let part = db.collection::<Document>("part");
        assert_eq!(part.count_documents(doc! {}).await.unwrap(), 7);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_member_is_validated_in_its_turn() {
    for version in [44, 60] {
        let base = TestBase::new(version).await;
        base.collection("a")
            .insert_one(doc! { "x": 1 })
            .await
            .unwrap();
        let workspace = for_base(&base).task("integrity", "kind: integrity\ntarget: app\n");
        let mut turns = Vec::new();
        for n in 0..4 {
            let done = run(&workspace, "integrity", 0);
            let reason = done["steps"][0]["reason"].as_str().unwrap().to_owned();
            assert_eq!(reason.starts_with("never"), n < 3, "{reason}");
            let member = reason.split(" on ").nth(1).unwrap();
            turns.push(member.split(' ').next().unwrap().to_owned());
            let expected = if (1..3).contains(&n) {
                &["integrity.coverage"][..]
            } else {
                &[]
            };
            assert_eq!(codes(&done), expected, "{n}: {done:#}");
        }
        let mut members: Vec<String> = turns[..3].to_vec();
        members.sort();
        members.dedup();
        assert_eq!(members.len(), 3, "{turns:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_that_was_put_back_is_told() {
    for version in [44, 60] {
        let base = TestBase::new(version).await;
        let fill = async |from: i32, to: i32| {
            let documents = (from..to).map(|n| doc! { "_id": n, "old": true });
            base.collection("events")
                .insert_many(documents)
                .await
                .unwrap();
        };
        fill(0, 30).await;
        let before = raw(&base.db, "events").await;
        let folder = tempfile::tempdir().unwrap();
        let workspace = for_base(&base).task("archive", &format!(
            "kind: archive\ntarget: app\noptions:\n  rules: [{{ collection: events, where: {{ old: true }} }}]\n  destination: {{ files: \"file://{}\" }}\n",
            folder.path().display()
        ));
        let done = run(&workspace, "archive", 0);
        assert_eq!(
            (&done["rows"], codes(&done)),
            (&30.into(), vec![]),
            "{done:#}"
        );
        // The next ones of the same collection are nothing to be told.
        fill(30, 40).await;
        let done = run(&workspace, "archive", 0);
        assert_eq!(codes(&done), [""; 0], "{done:#}");
        // As a backup that is put back does it.
        base.collection("events").drop().await.unwrap();
        fill(0, 30).await;
        let plan = workspace
            .run(["plan", "archive", "--output", "json"])
            .expect(0);
        assert!(plan.stdout.contains("archive.replaced"), "{plan:#?}");
        let done = run(&workspace, "archive", 0);
        assert_eq!(codes(&done), ["archive.replaced"], "{done:#}");
        let told = done["findings"].to_string();
        assert!(
            told.contains("that 40 documents were archived from"),
            "{told}"
        );
        assert_eq!(base.count("events", doc! {}).await, 0);
        // It has been said, and one of each comes back.
        let again = run(&workspace, "archive", 0);
        assert_eq!(codes(&again), [""; 0], "{again:#}");
        let back = ["archive", "restore", "--from", "events", "--into", "back"];
        workspace.run(back).expect(0);
        let back = raw(&base.db, "back").await;
        assert_eq!(back.len(), 40);
        assert!(back[..30] == before[..], "what came back is not the same");
    }
}
