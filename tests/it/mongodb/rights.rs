//! What the user of a target may not: doctor asks for what the tasks need, wherever that is, and that
//! is enough.

use mongodb::bson::{DateTime, doc};

use super::{run, workspace};
use crate::support::mongo::{PASSWORD, TestBase};
use crate::support::workspace::Workspace;

/// What doctor says, in one line.
fn doctor(workspace: &Workspace) -> String {
    let told = workspace.run(["doctor"]).stdout;
    told.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The roles that doctor would have granted, and the database that the user is said to live in.
fn asked_for(told: &str) -> Vec<(String, String, String)> {
    let mut found = Vec::new();
    for part in told.split("db.getSiblingDB(\"").skip(1) {
        let quoted: Vec<&str> = part.split('"').collect();
        let [lives_in, _, role, _, on, ..] = quoted[..] else {
            panic!("{part}");
        };
        found.push((lives_in.to_owned(), role.to_owned(), on.to_owned()));
    }
    found.sort();
    found.dedup();
    found
}

/// In three other databases than the target's own, by a user who was made in the target's.
#[tokio::test(flavor = "multi_thread")]
async fn who_has_what_doctor_asks_for_can_do_the_work() {
    let base = TestBase::new(60).await;
    let name = &base.name;
    let client = base.db.client();
    let old = || {
        (0..5).map(|n| doc! { "_id": n, "at": DateTime::from_millis(1_000_000_000_000), "n": 1 })
    };
    let others = ["x", "y", "z"].map(|end| format!("{name}_{end}"));
    let [swept, kept, made] = &others;
    base.collection("b").insert_many(old()).await.unwrap();
    let elsewhere = |database: &str| client.database(database);
    elsewhere(swept)
        .collection("a")
        .insert_many(old())
        .await
        .unwrap();
    let create = doc! {
        "createUser": "local", "pwd": PASSWORD,
        "roles": [
            { "role": "readWrite", "db": name }, { "role": "dbAdmin", "db": name },
            { "role": "clusterMonitor", "db": "admin" },
        ],
        "writeConcern": { "w": "majority" },
    };
    base.db.run_command(create).await.unwrap();
    let url = base.servers.url(Some("local"), name, "");
    let url = url.replace("authSource=admin", &format!("authSource={name}"));
    let task = |name: &str, of: String| (name.to_owned(), format!("kind: {of}"));
    let tasks = [
        task(
            "sweep",
            format!(
                "cleanup\ntarget: app\noptions: {{ rules: [{{ database: {swept}, collection: a, field: at, older_than: 30d }}] }}\n"
            ),
        ),
        task(
            "keep",
            format!(
                "archive\ntarget: app\noptions:\n  rules: [{{ collection: b, field: at, older_than: 30d }}]\n  destination: {{ database: {kept} }}\n"
            ),
        ),
        task(
            "make",
            format!(
                "refresh\ntarget: app\noptions:\n  aggregations:\n    - collection: b\n      pipeline: [{{ $group: {{ _id: null, n: {{ $sum: $n }} }} }}, {{ $out: {{ db: {made}, coll: sums }} }}]\n"
            ),
        ),
    ];
    let workspace = tasks
        .iter()
        .fold(workspace(&url), |all, (name, yaml)| all.task(name, yaml));
    // It is told which right is missing, and where.
    let failed = run(&workspace, "make", 1).to_string();
    assert!(
        failed.contains(&format!("`listCollections` on {made}"))
            || failed.contains(&format!("`insert` on {made}.sums")),
        "{failed}"
    );
    let told = doctor(&workspace);
    workspace.run(["doctor"]).expect(1);
    let asked = asked_for(&told);
    for (lives_in, role, on) in &asked {
        assert_eq!(lives_in, name, "{told}");
        let grant = doc! {
            "grantRolesToUser": "local", "roles": [{ "role": role, "db": on }],
            "writeConcern": { "w": "majority" },
        };
        base.db.run_command(grant).await.unwrap();
    }
    let on: Vec<&String> = asked.iter().map(|(_, _, on)| on).collect();
    assert!(others.iter().all(|other| on.contains(&other)), "{told}");
    let told = workspace.run(["doctor"]).expect(0);
    assert!(told.stdout.contains("all is well"), "{told:#?}");
    run(&workspace, "make", 0);
    run(&workspace, "keep", 0);
    run(&workspace, "sweep", 0);
    let count = async |database: &str, collection: &str| {
        let documents = elsewhere(database).collection::<mongodb::bson::Document>(collection);
        documents.count_documents(doc! {}).await.unwrap()
    };
    assert_eq!(count(swept, "a").await, 0);
    assert_eq!((count(name, "b").await, count(kept, "b").await), (0, 5));
    assert_eq!(count(made, "sums").await, 1);
    for other in &others {
        elsewhere(other).drop().await.unwrap();
    }
}

/// Originals that may not be removed would stand beside their copies: nothing is copied.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_copied_where_originals_may_not_be_removed() {
    let base = TestBase::new(60).await;
    let name = &base.name;
    let old = (0..5).map(|n| doc! { "_id": n, "at": DateTime::from_millis(1_000_000_000_000) });
    base.collection("b").insert_many(old).await.unwrap();
    let all = ["find", "insert", "update", "remove"];
    let on = |collection: &str, actions: &[&str]| doc! { "resource": { "db": name, "collection": collection }, "actions": actions };
    let role = format!("writes_{name}");
    let create = doc! {
        "createRole": &role, "roles": [{ "role": "clusterMonitor", "db": "admin" }],
        "privileges": [
            on("", &["find", "insert", "update", "listCollections", "listIndexes", "collStats", "createCollection"]),
            on("maint.claims", &all), on("maint.archives", &all),
        ],
    };
    let admin = base.db.client().database("admin");
    admin.run_command(create).await.unwrap();
    let user = format!("user_{name}");
    let create = doc! { "createUser": &user, "pwd": PASSWORD, "roles": [role], "writeConcern": { "w": "majority" } };
    admin.run_command(create).await.unwrap();
    let workspace = workspace(&base.servers.url(Some(&user), name, "")).task(
        "archive",
        "kind: archive\ntarget: app\noptions:\n  rules: [{ collection: b, field: at, older_than: 30d }]\n  destination: { collection: bold }\n",
    );
    for _ in 0..2 {
        let failed = run(&workspace, "archive", 1);
        let error = failed["steps"][0]["error"].as_str().unwrap();
        assert!(error.contains(&format!("`remove` on {name}.b")), "{error}");
        assert_eq!(base.count("bold", doc! {}).await, 0);
        assert_eq!(base.count("b", doc! {}).await, 5);
    }
    let told = doctor(&workspace);
    let words = format!("archive: the user lacks remove on {name}.b; remove on {name}.bold");
    assert!(told.contains(&words), "{told}");
    assert!(told.contains("getSiblingDB(\"admin\").grant"), "{told}");
}
