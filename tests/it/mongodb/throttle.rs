//! What ends a run, and what only holds it up, on a set that others use: operations at work, a member
//! that falls behind, writes that the server itself slows down.

use std::time::Duration;

use mongodb::bson::{Document, doc};
use serde_json::Value;

use super::workspace;
use crate::support::mongo::Servers;
use crate::support::patience::Patience;
use crate::support::wire::Wire;
use crate::support::workspace::Workspace;

const DOCUMENTS: u64 = 50;

async fn filled(servers: &Servers) -> mongodb::Collection<Document> {
    let events = servers.root().await.database("app").collection("events");
    let old = (0..i64::try_from(DOCUMENTS).unwrap()).map(|n| doc! { "_id": n, "old": true });
    events.insert_many(old).await.unwrap();
    events
}

fn with(url: &str, throttle: &str) -> Workspace {
    workspace(url).task(
        "cleanup",
        &format!(
            "kind: cleanup\ntarget: app\noptions: {{ rules: [{{ collection: events, where: {{ old: true }} }}] }}\nlimits: {{ budget: 5s }}\nthrottle: {throttle}\n"
        ),
    )
}

fn ran(workspace: &Workspace) -> Value {
    let words = ["run", "cleanup", "--now", "--output", "json"];
    workspace.run(words).expect(0).json()["runs"][0].clone()
}

/// Nothing has gone, and the setting is named, with what was seen.
async fn ended(done: &Value, setting: &str, seen: &str, events: &mongodb::Collection<Document>) {
    assert_eq!(done["status"], "incomplete", "{done:#}");
    let said = done["findings"].to_string();
    assert!(said.contains(setting) && said.contains(seen), "{done:#}");
    assert_eq!(events.count_documents(doc! {}).await.unwrap(), DOCUMENTS);
}

/// As many operations as are too many for a run, and no more once they are over.
#[tokio::test(flavor = "multi_thread")]
async fn too_many_operations_end_a_run() {
    let servers = Servers::single(60).await;
    let events = filled(&servers).await;
    let url = servers.direct_url(0, "app");
    let ends = with(&url, "{ abort_active_sessions: 3 }");
    // They read for some seconds.
    let admin = servers.direct(0, None).await.database("admin");
    for _ in 0..6 {
        let reads = events.clone();
        tokio::spawn(async move {
            let forever = doc! { "$where": "sleep(200) || true", "busy": { "$exists": false } };
            let _ = reads.find(forever).await;
        });
    }
    let active = async || {
        let status = admin.run_command(doc! { "serverStatus": 1 }).await.unwrap();
        let clients = status.get_document("globalLock").unwrap();
        let clients = clients.get_document("activeClients").unwrap();
        clients.get_i32("total").unwrap()
    };
    let patience = Patience::until("six operations at work");
    while active().await < 6 {
        patience.pause().await;
    }
    let done = ran(&ends);
    ended(
        &done,
        "throttle.abort_active_sessions",
        "more than 3",
        &events,
    )
    .await;
    let patience = Patience::until("nobody at work");
    while active().await > 0 {
        patience.pause().await;
    }
    let done = ran(&ends);
    assert_eq!(done["status"], "succeeded", "{done:#}");
    assert_eq!(events.count_documents(doc! {}).await.unwrap(), 0);
}

/// A member that gets nothing more is behind by what is written meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_is_far_behind_ends_a_run() {
    let servers = Servers::set(60).await;
    servers.whole().await;
    let events = filled(&servers).await;
    let primary = servers.primary().await;
    let behind = (0..3).find(|n| *n != primary).unwrap();
    let member = servers.direct(behind, Some("root")).await.database("admin");
    let stop = |mode: &str| doc! { "configureFailPoint": "rsSyncApplyStop", "mode": mode };
    let url = servers.maint_url("app");
    let ends = with(&url, "{ abort_replica_lag: 2s }");
    member.run_command(stop("alwaysOn")).await.unwrap();
    let others = servers.root().await.database("other").collection("a");
    for n in 0..8 {
        others.insert_one(doc! { "_id": n }).await.unwrap();
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let done = ran(&ends);
    ended(
        &done,
        "throttle.abort_replica_lag",
        "s behind, more than 2s",
        &events,
    )
    .await;
    member.run_command(stop("off")).await.unwrap();
    servers.whole().await;
    let patience = Patience::until("a run that is not ended");
    while ran(&ends)["status"] != "succeeded" {
        patience.pause().await;
    }
    assert_eq!(events.count_documents(doc! {}).await.unwrap(), 0);
}

/// Where the server itself slows writes down, whoever minds lag waits. That is no lag that somebody
/// has measured, and ends no run.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_slows_writes_down_holds_a_run_up_and_ends_none() {
    let servers = Servers::single(60).await;
    let events = filled(&servers).await;
    let wire = Wire::to(servers.port(0)).await;
    let url = format!(
        "mongodb://127.0.0.1:{}/app?directConnection=true",
        wire.port
    );
    wire.heard(b"\x08isLagged\0\0", b"\x08isLagged\0\x01");
    let waits = with(&url, "{ max_replica_lag: 1h }");
    let done = ran(&waits);
    assert_eq!(done["status"], "incomplete", "{done:#}");
    assert_eq!(done["steps"][0]["kept_by"], "throttle", "{done:#}");
    let pause = &done["steps"][0]["throttled"][0];
    assert_eq!(pause["setting"], "max_replica_lag", "{done:#}");
    let reason = pause["reason"].as_str().unwrap();
    assert!(reason.contains("flow control"), "{reason}");
    assert_eq!(events.count_documents(doc! {}).await.unwrap(), DOCUMENTS);

    wire.heard_truly();
    let done = ran(&waits);
    assert_eq!(done["status"], "succeeded", "{done:#}");
    assert_eq!(events.count_documents(doc! {}).await.unwrap(), 0);

    let events = filled(&servers).await;
    wire.heard(b"\x08isLagged\0\0", b"\x08isLagged\0\x01");
    let done = ran(&with(&url, "{ abort_replica_lag: 1h }"));
    assert_eq!(done["status"], "succeeded", "{done:#}");
    assert_eq!(events.count_documents(doc! {}).await.unwrap(), 0);
}
