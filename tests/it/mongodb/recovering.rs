//! A member that recovers: it is no missing right, doctor does not call it well, and nobody waits for
//! it again and again.

use mongodb::bson::doc;

use super::{codes, run, steps, workspace};
use crate::support::mongo::Servers;
use crate::support::patience::Patience;

async fn recovering(version: u32) {
    let set = Servers::set(version).await;
    set.whole().await;
    let db = set.root().await.database("app");
    let pad = "0123456789abcdef".repeat(40);
    let everywhere = mongodb::options::WriteConcern::builder()
        .w(mongodb::options::Acknowledgment::Nodes(3))
        .build();
    let flushed = async || {
        for n in 0..3 {
            let admin = set.direct(n, Some("root")).await.database("admin");
            admin.run_command(doc! { "fsync": 1 }).await.unwrap();
        }
    };
    for name in ["a", "b"] {
        let documents = db.collection(name);
        let many = (0..8000).map(|n| doc! { "_id": n, "pad": format!("{n}{pad}{n}") });
        documents.insert_many(many).await.unwrap();
    }
    flushed().await;
    for name in ["a", "b"] {
        db.collection::<mongodb::bson::Document>(name)
            .delete_many(doc! { "_id": { "$gte": 100 } })
            .write_concern(everywhere.clone())
            .await
            .unwrap();
    }
    flushed().await;
    let primary = set.primary().await;
    let away = (0..3).find(|n| *n != primary).unwrap();
    let member = set.direct(away, Some("root")).await.database("admin");
    member
        .run_command(doc! { "replSetMaintenance": true })
        .await
        .unwrap();
    let primary = set.direct(primary, Some("root")).await.database("admin");
    let patience = Patience::until("a member that recovers");
    loop {
        let status = primary
            .run_command(doc! { "replSetGetStatus": 1 })
            .await
            .unwrap();
        if status.to_string().contains("RECOVERING") {
            break;
        }
        patience.pause().await;
    }
    let workspace = workspace(&set.maint_url("app"))
        .task(
            "compact",
            "kind: compact\ntarget: app\noptions: { min_free: 10kB, min_share: 5% }\n",
        )
        .task("snapshot", "kind: snapshot\ntarget: app\n");
    let told = workspace.run(["doctor"]).expect(1).stdout;
    let line = told
        .lines()
        .find(|line| line.contains("RECOVERING"))
        .unwrap();
    assert!(line.trim_start().starts_with("problem"), "{told}");
    let snapshot = run(&workspace, "snapshot", 0);
    let codes = codes(&snapshot);
    assert!(codes.contains(&"member.down".to_owned()), "{snapshot:#}");
    assert!(
        !codes.contains(&"privilege.missing".to_owned()),
        "{snapshot:#}"
    );
    // Two hours for each step, if each waited.
    let waited = run(&workspace, "compact", 0);
    let deferred = steps(&waited, "deferred");
    assert!(deferred.len() >= 2, "{waited:#}");
    assert!(steps(&waited, "succeeded").is_empty(), "{waited:#}");
    let why = waited["steps"][1]["error"].as_str().unwrap();
    assert!(
        why.contains("the set was not ready") && why.contains("RECOVERING"),
        "{why}"
    );
    // Once it is back, the work is done.
    member
        .run_command(doc! { "replSetMaintenance": false })
        .await
        .unwrap();
    set.whole().await;
    let done = run(&workspace, "compact", 0);
    assert!(steps(&done, "succeeded").len() >= 2, "{done:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_recovers_holds_a_run_up_once_6_0() {
    recovering(60).await;
}
