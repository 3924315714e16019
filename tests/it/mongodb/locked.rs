//! A server that takes no writes: why, and what ends it, is said.

use mongodb::bson::{Document, doc};

use super::{codes, run, workspace};
use crate::support::mongo::Servers;
use crate::support::patience::Patience;

#[tokio::test(flavor = "multi_thread")]
async fn what_keeps_every_write_out_is_named() {
    let set = Servers::set(60).await;
    let primary = set.primary().await;
    let root = set.direct(primary, Some("root")).await.database("admin");
    let workspace =
        workspace(&set.maint_url("app")).task("integrity", "kind: integrity\ntarget: app\n");
    set.root()
        .await
        .database("app")
        .collection("events")
        .insert_one(doc! { "n": 1 })
        .await
        .unwrap();
    run(&workspace, "integrity", 0);
    let told = |words: &str| {
        let failed = run(&workspace, "integrity", 1);
        let why = failed["error"].as_str().unwrap().to_owned();
        assert!(why.contains(words), "{why}");
        let doctor = workspace.run(["doctor"]);
        assert!(doctor.stdout.contains(words), "{}", doctor.stdout);
        assert_ne!(doctor.code, 0, "{}", doctor.stdout);
    };
    let block = |on: bool| doc! { "setUserWriteBlockMode": 1, "global": on };
    root.run_command(block(true)).await.unwrap();
    told("setUserWriteBlockMode");
    root.run_command(block(false)).await.unwrap();
    run(&workspace, "integrity", 0);

    root.run_command(doc! { "fsync": 1, "lock": true })
        .await
        .unwrap();
    told("db.fsyncUnlock()");
    root.run_command(doc! { "fsyncUnlock": 1 }).await.unwrap();
    run(&workspace, "integrity", 0);
}

/// A member that is configured to be behind has what the others had, and confirms nothing: it is no
/// sign of damage, and where it would have to confirm, that is said, and not that the server is
/// locked.
#[tokio::test(flavor = "multi_thread")]
async fn a_majority_that_does_not_confirm_is_named() {
    let mut set = Servers::set(60).await;
    set.whole().await;
    let primary = set.primary().await;
    let (late, other) = ((primary + 1) % 3, (primary + 2) % 3);
    let admin = set.direct(primary, Some("root")).await.database("admin");
    let config = admin.run_command(doc! { "replSetGetConfig": 1 }).await;
    let mut config = config.unwrap().get_document("config").unwrap().clone();
    let version = config.get_i32("version").unwrap();
    config.insert("version", version + 1);
    for member in config.get_array_mut("members").unwrap() {
        let member = member.as_document_mut().unwrap();
        if member.get_str("host").unwrap() == set.address(late) {
            member.insert("priority", 0);
            member.insert("hidden", true);
            member.insert("secondaryDelaySecs", 3600_i64);
        }
    }
    let command = doc! { "replSetReconfig": config };
    admin.run_command(command).await.unwrap();
    let events = set.root().await.database("app").collection("events");
    events.insert_one(doc! { "n": 1 }).await.unwrap();
    let workspace = workspace(&set.maint_url("app")).task(
        "integrity",
        "kind: integrity\ntarget: app\noptions: { validate: off }\n",
    );
    let done = run(&workspace, "integrity", 0);
    assert!(codes(&done).is_empty(), "{done:#}");
    let doctor = workspace.run(["doctor"]).expect(0);
    let said = format!(
        "member {}: SECONDARY, hidden, delayed by 3600 s",
        set.address(late)
    );
    assert!(doctor.stdout.contains(&said), "{}", doctor.stdout);

    set.kill(other);
    // The primary has to find out.
    let patience = Patience::until("a member that is seen to be gone");
    loop {
        let status = admin.run_command(doc! { "replSetGetStatus": 1 }).await;
        let status = status.unwrap();
        let members = status.get_array("members").unwrap();
        let gone = |member: &Document| member.get_str("stateStr").unwrap().starts_with('(');
        if members.iter().any(|m| gone(m.as_document().unwrap())) {
            break;
        }
        patience.pause().await;
    }
    let failed = run(&workspace, "integrity", 1);
    let why = failed["error"].as_str().unwrap().to_owned();
    let majority = "a majority of the 3 voting members does not confirm what is written";
    for part in [majority, &set.address(other), "is delayed by 3600 s"] {
        assert!(why.contains(part), "{part}: {why}");
    }
    assert!(!why.contains("fsyncLock"), "{why}");
    let doctor = workspace.run(["doctor"]).expect(1);
    assert!(doctor.stdout.contains(majority), "{}", doctor.stdout);
}
