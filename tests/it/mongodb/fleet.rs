//! A target that stands for many databases of one server.

use mongodb::bson::{DateTime, Document, doc};
use serde_json::Value;

use crate::support::mongo::TestBase;
use crate::support::workspace::Workspace;

/// A target for the databases of these patterns.
fn fleet(base: &TestBase, databases: &str) -> Workspace {
    Workspace::new(&format!(
        "history: sqlite:maint.db\ntargets:\n  fleet: {{ engine: mongodb, url: \"{}\", databases: [{databases}] }}\n",
        base.url()
    ))
}

/// Runs a task on all of them, and gives the runs.
fn runs(workspace: &Workspace, task: &str, code: i32) -> Vec<Value> {
    let said = workspace.run(["run", task, "--now", "--output", "json"]);
    said.expect(code).json()["runs"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_database_that_is_meant_is_worked_on_and_no_other() {
    let base = TestBase::new(60).await;
    let client = base.servers.root().await;
    // Others share the server: only what begins with our name is looked at.
    let own = base.name.clone();
    let names = [
        format!("{own}_a"),
        format!("{own}_b"),
        format!("{own}_keep"),
    ];
    let old = DateTime::from_millis(DateTime::now().timestamp_millis() - 100 * 86_400_000);
    for name in &names {
        let events = client.database(name).collection::<Document>("events");
        let documents = (0..10).map(|n| doc! { "_id": n, "at": old });
        events.insert_many(documents).await.unwrap();
        let index = mongodb::IndexModel::builder()
            .keys(doc! { "at": 1 })
            .build();
        events.create_index(index).await.unwrap();
    }
    // The URL may name a database, and means none by that.
    let workspace = fleet(&base, &format!("\"{own}_*\", \"!*_keep\"")).task(
        "cleanup",
        "kind: cleanup\ntarget: fleet\noptions:\n  rules: [{ collection: events, field: at, older_than: 90d }]\n",
    );
    let said = runs(&workspace, "cleanup", 0);
    let ran: Vec<(&str, i64)> = said
        .iter()
        .map(|run| {
            (
                run["target"].as_str().unwrap(),
                run["rows"].as_i64().unwrap(),
            )
        })
        .collect();
    let (a, b) = (format!("fleet/{own}_a"), format!("fleet/{own}_b"));
    assert_eq!(ran, [("fleet", 0), (a.as_str(), 10), (b.as_str(), 10)]);
    for (name, left) in names.iter().zip([0, 0, 10]) {
        let events = client.database(name).collection::<Document>("events");
        assert_eq!(
            events.count_documents(doc! {}).await.unwrap(),
            left,
            "{name}"
        );
    }
    for run in runs(&workspace, "cleanup", 0) {
        assert_eq!(run["steps"].as_array().unwrap().len(), 0, "{run:#}");
    }
    for name in &names {
        client.database(name).drop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_belongs_to_the_server_is_told_once() {
    let base = TestBase::new(60).await;
    let client = base.servers.root().await;
    let own = base.name.clone();
    let names = [format!("{own}_a"), format!("{own}_b")];
    for name in &names {
        let events = client.database(name).collection::<Document>("events");
        events
            .insert_many((0..2000).map(|n| doc! { "a": n, "b": n }))
            .await
            .unwrap();
        for keys in [doc! { "a": 1 }, doc! { "a": 1, "b": 1 }] {
            let index = mongodb::IndexModel::builder().keys(keys).build();
            events.create_index(index).await.unwrap();
        }
    }
    let options = "{ max_connections: 0%, min_size: 1kB }";
    let workspace = fleet(&base, &format!("\"{own}_*\"")).task(
        "snapshot",
        &format!("kind: snapshot\ntarget: fleet\noptions: {options}\n"),
    );
    let said = runs(&workspace, "snapshot", 0);
    let told: Vec<(&str, Vec<&str>)> = said
        .iter()
        .map(|run| {
            let findings = run["findings"].as_array().unwrap().iter();
            let codes = findings.map(|f| f["code"].as_str().unwrap());
            // Which databases are there is news the first time.
            let codes = codes.filter(|code| !code.starts_with("database"));
            (run["target"].as_str().unwrap(), codes.collect())
        })
        .collect();
    let (a, b) = (format!("fleet/{own}_a"), format!("fleet/{own}_b"));
    assert_eq!(
        told,
        [
            ("fleet", vec!["connections.many"]),
            (a.as_str(), vec!["index.overlapping"]),
            (b.as_str(), vec!["index.overlapping"])
        ],
        "{said:#?}"
    );
    for name in &names {
        client.database(name).drop().await.unwrap();
    }
}

/// Of results that all go to one collection only the last would be left: none is made.
#[tokio::test(flavor = "multi_thread")]
async fn no_database_replaces_the_result_of_another() {
    let base = TestBase::new(60).await;
    let client = base.servers.root().await;
    let own = base.name.clone();
    let names = [format!("{own}_a"), format!("{own}_b")];
    for name in &names {
        let events = client.database(name).collection::<Document>("events");
        events
            .insert_one(doc! { "_id": 1, "of": name })
            .await
            .unwrap();
    }
    let refresh = |into: &str| {
        fleet(&base, &format!("\"{own}_*\"")).task("sums", &format!(
            "kind: refresh\ntarget: fleet\noptions: {{ aggregations: [{{ collection: events, pipeline: [{{ $out: {into} }}] }}] }}\n"
        ))
    };
    let refused = runs(&refresh(&format!("{{ db: {own}, coll: sums }}")), "sums", 1);
    for one in refused.iter().filter(|run| run["target"] != "fleet") {
        let told = one["findings"].to_string();
        assert!(
            told.contains("refresh.source") && told.contains("each would replace"),
            "{one:#}"
        );
        assert_eq!(one["steps"].as_array().unwrap().len(), 0, "{one:#}");
    }
    assert_eq!(base.count("sums", doc! {}).await, 0);
    runs(&refresh("sums"), "sums", 0);
    for name in &names {
        let sums = client.database(name).collection::<Document>("sums");
        assert_eq!(sums.count_documents(doc! { "of": name }).await.unwrap(), 1);
        client.database(name).drop().await.unwrap();
    }
}
