//! What takes documents says nothing any more: the step ends all the same, and nothing is lost.

use mongodb::bson::doc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::run;
use crate::support::mongo::{Servers, TestBase};
use crate::support::patience::Patience;
use crate::support::s3::{BUCKET, S3};
use crate::support::wire::{Mode, Wire};
use crate::support::workspace::Workspace;

const DOCUMENTS: i32 = 6_000;

/// Four kilobytes each, which no compression makes much less of.
async fn filled(version: u32) -> TestBase {
    let base = TestBase::new(version).await;
    let mut seed = 1_u64;
    let mut pad = || {
        let word = |_| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            format!("{seed:016x}")
        };
        (0..256).map(word).collect::<String>()
    };
    let events = base.collection("events");
    for from in (0..DOCUMENTS).step_by(1000) {
        let lot = (from..from + 1000).map(|n| doc! { "_id": n, "old": true, "pad": pad() });
        events.insert_many(lot).await.unwrap();
    }
    base
}

fn task(destination: &str, limits: &str) -> String {
    format!(
        "kind: archive\ntarget: app\noptions:\n  rules: [{{ collection: events, where: {{ old: true }} }}]\n  destination: {destination}\nlimits: {limits}\n"
    )
}

/// A run of which so many bytes come through, and then nothing: gives it when it has ended by
/// itself, or after a signal.
async fn stalled(workspace: &Workspace, wire: &Wire, bytes: i64, signal: Option<Signal>) -> Value {
    wire.stall_after(bytes);
    let mut child = workspace.begins(["run", "archive", "--now"]);
    let patience = Patience::until("a wire that says nothing");
    while !wire.is_stalled() {
        assert!(child.try_wait().unwrap().is_none(), "it ended too early");
        patience.pause().await;
    }
    if let Some(signal) = signal {
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
        kill(pid, signal).unwrap();
    }
    let patience = Patience::until("the end of the step");
    while child.try_wait().unwrap().is_none() {
        patience.pause().await;
    }
    wire.set(Mode::Cut);
    let shown = workspace
        .run(["show", "last", "--output", "json"])
        .expect(0);
    shown.json()["runs"][0].clone()
}

async fn a_stalled_target(version: u32, signal: Option<Signal>) {
    let base = filled(version).await;
    let other = Servers::alone(version);
    let wire = Wire::to(other.port(0)).await;
    let there = other.direct(0, None).await.database("kept");
    let there = there.collection::<mongodb::bson::Document>("events");
    let url = |port: u16| format!("mongodb://127.0.0.1:{port}/kept?directConnection=true");
    let workspace = Workspace::new(&format!(
        "history: sqlite:maint.db\ntargets:\n  app: {{ engine: mongodb, url: \"{}\" }}\n  cold: {{ engine: mongodb, url: \"{}\" }}\n",
        base.url(),
        url(wire.port),
    ));
    // The limit is far less than what a wire that says nothing takes to be noticed by itself.
    let limits = match signal {
        None => "{ step_timeout: 20s }",
        Some(_) => "{ step_timeout: 1h }",
    };
    let workspace = workspace.task("archive", &task("{ target: cold, database: kept }", limits));
    let done = stalled(&workspace, &wire, 6 << 20, signal).await;
    let (status, word) = match signal {
        None => ("deferred", "step_timeout"),
        Some(_) => ("cancelled", "stopped"),
    };
    assert_eq!(done["steps"][0]["status"], status, "{done:#}");
    assert!(
        done["steps"][0]["error"].to_string().contains(word),
        "{done:#}"
    );
    // What had been copied is beside its original, and known to be.
    let here = base.count("events", doc! {}).await;
    assert!(here > 0, "nothing was left to be done: {done:#}");
    // The next run takes it back, and archives all.
    let wire = Wire::to(other.port(0)).await;
    workspace.file(
        "schedules.yaml",
        &format!(
            "history: sqlite:maint.db\ntargets:\n  app: {{ engine: mongodb, url: \"{}\" }}\n  cold: {{ engine: mongodb, url: \"{}\" }}\n",
            base.url(),
            url(wire.port)
        ),
    );
    let workspace = workspace.task(
        "archive",
        &task("{ target: cold, database: kept }", "{ step_timeout: 1h }"),
    );
    let done = run(&workspace, "archive", 0);
    assert_eq!(done["status"], "succeeded", "{done:#}");
    let kept = there.count_documents(doc! {}).await.unwrap();
    assert_eq!(kept, DOCUMENTS as u64);
    assert_eq!(base.count("events", doc! {}).await, 0);
    assert!(
        run(&workspace, "archive", 0)["steps"]
            .as_array()
            .unwrap()
            .is_empty(),
        "a second run has nothing to do"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_says_nothing_ends_the_step_in_time_4_4() {
    a_stalled_target(44, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_says_nothing_ends_the_step_in_time_6_0() {
    a_stalled_target(60, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_says_nothing_does_not_keep_a_run_from_being_stopped() {
    a_stalled_target(60, Some(Signal::SIGTERM)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_says_nothing_ends_the_step_in_time() {
    let base = filled(60).await;
    let s3 = S3::start();
    let wire = Wire::to(s3.port()).await;
    let slow = format!("http://127.0.0.1:{}", wire.port);
    let destination = format!("{{ files: \"s3://{BUCKET}/a\" }}");
    let workspace = s3
        .known_to(super::for_base(&base))
        .env("AWS_ENDPOINT_URL", &slow)
        .task("archive", &task(&destination, "{ step_timeout: 20s }"));
    let done = stalled(&workspace, &wire, 1 << 20, None).await;
    let steps = done["steps"].as_array().unwrap();
    let step = steps.iter().find(|s| s["action"] == "archive");
    let step = step.unwrap_or_else(|| panic!("{done:#}"));
    assert_eq!(step["status"], "deferred", "{done:#}");
    let gone = step["rows"].as_u64().unwrap();
    let here = base.count("events", doc! {}).await;
    assert!(here > 0, "{done:#}");
    // What is counted has gone; of the last batch the next run may know more.
    assert!(
        here + gone <= DOCUMENTS as u64,
        "{here} and {gone}: {done:#}"
    );
    let workspace = s3
        .known_to(workspace)
        .task("archive", &task(&destination, "{ step_timeout: 1h }"));
    let done = run(&workspace, "archive", 0);
    assert_eq!(done["status"], "succeeded", "{done:#}");
    assert_eq!(base.count("events", doc! {}).await, 0);
    workspace.run(["archive", "verify"]).expect(0);
    let back = ["archive", "restore", "--from", "events", "--into", "back"];
    workspace.run(back).expect(0);
    assert_eq!(base.count("back", doc! {}).await, DOCUMENTS as u64);
}
