//! Plans that are saved, looked at, and carried out later: exactly those steps on a database that
//! is as it was, and a refusal that says what has changed on any other.

use mongodb::IndexModel;
use mongodb::bson::{Document, doc};

use super::cleanup::days_ago;
use super::{for_base, steps};
use crate::support::mongo::TestBase;
use crate::support::workspace::Workspace;

const CLEANUP: &str = "kind: cleanup\ntarget: app\noptions:\n  rules:\n    - { collection: events, field: at, older_than: 90d, keep: [{ pinned: true }] }\n    - { collection: comments, orphaned: { field: lesson, parent: lessons } }\n  ttl: [{ collection: sessions, field: expires_at, expire_after: 1h }]\n";

/// 600 old documents of 700 along an index, 5 orphans of 20, and sessions that nothing expires.
async fn aged(base: &TestBase) -> Workspace {
    make(base, "events", 600).await;
    let lessons = (0..3).map(|n| doc! { "_id": n });
    base.collection("lessons")
        .insert_many(lessons)
        .await
        .unwrap();
    let comments = (0..20).map(|n| doc! { "_id": n, "lesson": n % 4 });
    base.collection("comments")
        .insert_many(comments)
        .await
        .unwrap();
    base.collection("sessions")
        .insert_one(doc! { "expires_at": days_ago(-1) })
        .await
        .unwrap();
    for_base(base)
        .task("cleanup", CLEANUP)
        .task("integrity", "kind: integrity\ntarget: app\noptions: { include: [events], unique: [{ collection: events, fields: [n] }] }\n")
        .task("refresh", "kind: refresh\ntarget: app\noptions:\n  aggregations:\n    - { collection: lessons, pipeline: [{ $project: { x: 1 } }, { $out: copies }] }\n    - { collection: copies, pipeline: [{ $merge: further }] }\n")
}

/// A collection of 700 documents, so many of them old, with an index that tells.
async fn make(base: &TestBase, name: &str, old: i32) {
    let documents = (0..700).map(|n| {
        let days = if n < old { 100 } else { 1 };
        doc! { "_id": n, "at": days_ago(days), "n": n, "pinned": n == 0 }
    });
    let collection = base.collection(name);
    collection.insert_many(documents).await.unwrap();
    index(base, name, doc! { "at": 1 }).await;
}

async fn index(base: &TestBase, name: &str, keys: Document) {
    let index = IndexModel::builder().keys(keys).build();
    base.collection(name).create_index(index).await.unwrap();
}

fn save(workspace: &Workspace, tasks: &[&str]) {
    let mut arguments = vec!["plan"];
    arguments.extend(tasks);
    arguments.extend(["--save", "plan.json"]);
    workspace.run(arguments).expect(0);
}

async fn applied(version: u32) {
    let base = TestBase::new(version).await;
    let workspace = aged(&base).await;
    save(&workspace, &["cleanup", "integrity", "refresh"]);
    let document = std::fs::read_to_string(workspace.path().join("plan.json")).unwrap();
    assert!(document.contains("90d before the run"), "{document}");
    assert!(document.contains(r#""rows": 599"#), "{document}");
    // The limits of ages have moved meanwhile; nothing else has.
    workspace.run(["plan", "--check", "plan.json"]).expect(0);
    assert_eq!(base.count("events", doc! {}).await, 700);
    // What has come up since is told, and left alone.
    make(&base, "later", 600).await;
    workspace.file(
        "tasks/other.yaml",
        "kind: cleanup\ntarget: app\noptions: { rules: [{ collection: later, field: at, older_than: 90d }] }\n",
    );
    let ran = workspace
        .run(["run", "--plan", "plan.json", "--output", "json"])
        .expect(0);
    let runs = ran.json()["runs"].as_array().unwrap().clone();
    assert_eq!(runs.len(), 3, "{ran:#?}");
    let mut done: Vec<String> = runs
        .iter()
        .flat_map(|run| steps(run, "succeeded"))
        .map(|step| step.replace(&base.name, "db"))
        .collect();
    done.sort();
    assert_eq!(
        done,
        [
            "check_unique db.events (n)",
            "create_ttl db.sessions",
            "delete db.comments",
            "delete db.events",
            "refresh db.copies",
            "refresh db.further",
            "validate db.events",
        ]
    );
    assert_eq!(base.count("events", doc! {}).await, 101);
    assert_eq!(base.count("events", doc! { "pinned": true }).await, 1);
    assert_eq!(base.count("comments", doc! {}).await, 15);
    assert_eq!(base.count("comments", doc! { "lesson": 3 }).await, 0);
    assert_eq!(base.count("further", doc! {}).await, 3);
    assert_eq!(base.count("later", doc! {}).await, 700);
    // Done is done: what it rested on is gone.
    let again = workspace.run(["run", "--plan", "plan.json"]).expect(2);
    assert!(
        again.stderr.contains("would not be done any more"),
        "{again:#?}"
    );
    assert_eq!(base.count("events", doc! {}).await, 101);
}

#[tokio::test(flavor = "multi_thread")]
async fn exactly_what_was_saved_is_carried_out_4_4() {
    applied(44).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exactly_what_was_saved_is_carried_out_6_0() {
    applied(60).await;
}

/// Refuses the saved plan, and tells `why`; nothing goes.
#[track_caller]
fn refused(workspace: &Workspace, why: &[&str]) {
    let checked = workspace.run(["plan", "--check", "plan.json"]).expect(5);
    let refused = workspace.run(["run", "--plan", "plan.json"]).expect(2);
    for why in why {
        assert!(checked.stdout.contains(why), "{why}: {checked:#?}");
        assert!(refused.stderr.contains(why), "{why}: {refused:#?}");
    }
}

async fn drifted(version: u32) {
    let base = TestBase::new(version).await;
    let workspace = aged(&base).await;
    let events = format!("delete {}.events", base.name);

    // Another collection of the same name, with the same in it.
    save(&workspace, &["cleanup"]);
    base.collection("events").drop().await.unwrap();
    make(&base, "events", 600).await;
    let uuid = format!("{events}: the UUID of {}.events is ", base.name);
    refused(&workspace, &[&uuid, ", and was "]);
    assert_eq!(base.count("events", doc! {}).await, 700);

    // The index is gone that it was to go along, then there is another of that name.
    save(&workspace, &["cleanup"]);
    let collection = base.collection("events");
    collection.drop_index("at_1").await.unwrap();
    let gone = format!("{events}: the index that it goes along is none, and was at_1 {{\"at\":1}}");
    refused(&workspace, &[&gone]);
    let named = mongodb::options::IndexOptions::builder()
        .name("at_1".to_owned())
        .build();
    let wider = IndexModel::builder()
        .keys(doc! { "at": 1, "n": 1 })
        .options(named)
        .build();
    collection.create_index(wider).await.unwrap();
    let other = r#"the index that it goes along is at_1 {"at":1,"n":1}, and was at_1 {"at":1}"#;
    refused(&workspace, &[other]);

    // Without an index at all the collection would be read from one end to the other.
    save_only_events(&workspace);
    collection.drop_index("at_1").await.unwrap();
    refused(
        &workspace,
        &[
            "would not be done any more: ",
            "there is no index that begins with `at`",
        ],
    );
    index(&base, "events", doc! { "at": 1 }).await;

    // A parent that was made anew.
    workspace.file("tasks/cleanup.yaml", CLEANUP);
    save(&workspace, &["cleanup"]);
    base.collection("lessons").drop().await.unwrap();
    base.collection("lessons")
        .insert_many((0..3).map(|n| doc! { "_id": n }))
        .await
        .unwrap();
    let parent = format!(
        "delete {0}.comments: the UUID of {0}.lessons is ",
        base.name
    );
    refused(&workspace, &[&parent]);
    assert_eq!(base.count("comments", doc! {}).await, 20);

    // Another rule.
    save(&workspace, &["cleanup"]);
    workspace.file("tasks/cleanup.yaml", &CLEANUP.replace("90d", "30d"));
    refused(
        &workspace,
        &["the options of task `cleanup` have changed: rules[0].older_than is 30d, and was 90d"],
    );
    workspace.file("tasks/cleanup.yaml", CLEANUP);

    // Many more documents than somebody has looked at. A few are no reason.
    let more = |from: i32, to: i32| (from..to).map(|n| doc! { "_id": n, "at": days_ago(200) });
    let events = base.collection("events");
    events.insert_many(more(1000, 1500)).await.unwrap();
    workspace.run(["plan", "--check", "plan.json"]).expect(0);
    events.insert_many(more(1500, 2500)).await.unwrap();
    refused(&workspace, &["2099 would go, and 599 were to go"]);
    assert_eq!(base.count("events", doc! {}).await, 2200);
    assert_eq!(base.count("comments", doc! {}).await, 20);
    let indexes = base.collection("sessions").list_index_names().await;
    assert_eq!(indexes.unwrap(), ["_id_"]);
    let history = workspace.run(["history", "--output", "json"]);
    assert!(!history.stdout.contains("cleanup"), "{history:#?}");
}

/// Saves the plan of a task that may read nothing from one end to the other.
fn save_only_events(workspace: &Workspace) {
    workspace.file(
        "tasks/cleanup.yaml",
        "kind: cleanup\ntarget: app\noptions: { max_scan: 1kB, rules: [{ collection: events, field: at, older_than: 90d }] }\n",
    );
    save(workspace, &["cleanup"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_changed_is_refused_4_4() {
    drifted(44).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_changed_is_refused_6_0() {
    drifted(60).await;
}
