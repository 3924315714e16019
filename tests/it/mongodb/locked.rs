//! A server that takes no writes: why, and what ends it, is said.

use mongodb::bson::doc;

use super::{run, workspace};
use crate::support::mongo::Servers;

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
