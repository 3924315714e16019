//! A target that stands for many databases of one server.

use mongodb::bson::{DateTime, Document, doc};

use crate::support::mongo::TestBase;
use crate::support::workspace::Workspace;

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
    let workspace = Workspace::new(&format!(
        "history: sqlite:maint.db\ntargets:\n  fleet: {{ engine: mongodb, url: \"{}\", \
         databases: [\"{own}_*\", \"!*_keep\"] }}\n",
        base.url()
    ))
    .task(
        "cleanup",
        "kind: cleanup\ntarget: fleet\noptions:\n  rules: [{ collection: events, field: at, older_than: 90d }]\n",
    );
    let said = workspace
        .run(["run", "cleanup", "--now", "--output", "json"])
        .expect(0)
        .json();
    let ran: Vec<(&str, i64)> = said["runs"]
        .as_array()
        .unwrap()
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
    let again = workspace
        .run(["run", "cleanup", "--now", "--output", "json"])
        .expect(0)
        .json();
    for run in again["runs"].as_array().unwrap() {
        assert_eq!(run["steps"].as_array().unwrap().len(), 0, "{run:#}");
    }
    for name in &names {
        client.database(name).drop().await.unwrap();
    }
}
