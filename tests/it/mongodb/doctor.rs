//! What doctor says of a target beside its own rights: who is at work there, and whether what its tasks
//! archive can be kept on another target.

use mongodb::bson::{DateTime, doc};

use super::{codes, for_base, run};
use crate::support::mongo::{PASSWORD, TestBase};
use crate::support::patience::Patience;
use crate::support::workspace::Workspace;

/// What doctor says, in one line.
fn doctor(workspace: &Workspace) -> String {
    let told = workspace.run(["doctor"]).stdout;
    told.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[tokio::test(flavor = "multi_thread")]
async fn who_holds_a_task_is_named() {
    let base = TestBase::new(60).await;
    let old = (0..5).map(|n| doc! { "_id": n, "at": DateTime::from_millis(1_000_000_000_000) });
    base.collection("a").insert_many(old).await.unwrap();
    let workspace = for_base(&base).task(
        "sweep",
        "kind: cleanup\ntarget: app\noptions: { rules: [{ collection: a, field: at, older_than: 30d }] }\n",
    );
    assert!(!doctor(&workspace).contains("at work just now"));
    let claim_of = |owner: &str, minutes: i64| {
        let at = |ms: i64| DateTime::from_millis(DateTime::now().timestamp_millis() + ms);
        doc! {
            "_id": "sweep", "owner": owner, "host": "db-tools-2", "process": "pid:[1] 7",
            "since": at(-60_000), "expires": at(minutes * 60_000),
        }
    };
    let claim = |minutes| claim_of("maint the-other-run", minutes);
    let claims = base.collection("maint.claims");
    let of = || doc! { "_id": "sweep" };
    let _ = claims.delete_many(of()).await.unwrap();
    let other = "maint 0190a4c0-0000-7000-8000-000000000000";
    claims.insert_one(claim_of(other, 5)).await.unwrap();
    let told = doctor(&workspace);
    let words = format!("note app: sweep: at work just now: {other} on db-tools-2, since 20");
    assert!(told.contains(&words), "{told}");
    // One that names no run is none of maint's: the task would fail each time.
    claims.replace_one(of(), claim(5)).await.unwrap();
    workspace.run(["doctor"]).expect(1);
    let told = doctor(&workspace);
    let words = "problem app: sweep: its claim in `maint.claims` is of maint the-other-run on db-tools-2, since 20";
    assert!(told.contains(words), "{told}");
    assert!(!told.contains("at work just now"), "{told}");
    for words in ["its claim holds until 20", "deleteOne({_id: \"sweep\"})"] {
        let told = told.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(told.contains(words), "{told}");
    }
    // One that has run out, and one that nobody of ours would have written, are none.
    for minutes in [-1, 60] {
        claims.replace_one(of(), claim(minutes)).await.unwrap();
        let told = doctor(&workspace);
        assert!(!told.contains("sweep: its claim"), "{minutes}: {told}");
    }
    let mut large = claim(5);
    large.insert("more", "x".repeat(20_000));
    claims.replace_one(of(), large).await.unwrap();
    assert!(!doctor(&workspace).contains("sweep: its claim"));
    // One that holds for longer than ours, and that nobody renews, is taken within the time of a lease.
    claims.replace_one(of(), claim(9)).await.unwrap();
    let began = std::time::Instant::now();
    run(&workspace, "sweep", 0);
    let took = began.elapsed().as_secs();
    assert!((25..120).contains(&took), "{took}");
    assert_eq!(base.count("a", doc! {}).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_target_cannot_keep_is_told_before_a_run() {
    let (base, there) = (TestBase::new(60).await, TestBase::new(44).await);
    let name = &there.name;
    let old = (0..5).map(|n| doc! { "_id": n, "at": DateTime::from_millis(1_000_000_000_000) });
    base.collection("a").insert_many(old).await.unwrap();
    let user = format!("few{name}");
    let admin = there.db.client().database("admin");
    let roles = vec![doc! { "role": "read", "db": name }];
    let create =
        doc! { "createUser": &user, "pwd": PASSWORD, "roles": roles, "writeConcern": { "w": 3 } };
    admin.run_command(create).await.unwrap();
    let of = |cold: &str, destination: &str| {
        Workspace::new(&format!(
            "history: sqlite:maint.db\ntargets:\n  app: {{ engine: mongodb, url: \"{}\" }}\n  cold: {{ engine: mongodb, url: \"{cold}\" }}\n",
            base.url()
        ))
        .task("keep", &format!("kind: archive\ntarget: app\noptions:\n  rules: [{{ collection: a, field: at, older_than: 30d }}]\n  destination: {{ target: cold, database: {name}{destination} }}\n"))
    };
    let begins = "app: keep: archives to target `cold`: ";
    // Rights: whoever grants what is asked for can have it run.
    let few = of(&there.servers.url(Some(&user), name, ""), "");
    let told = doctor(&few);
    let lacks = format!(
        "problem {begins}its user lacks insert, remove on {name}.a: db.getSiblingDB(\"admin\").grant"
    );
    assert!(told.contains(&lacks), "{told}");
    assert!(!told.contains("keep: works"), "{told}");
    few.run(["doctor"]).expect(1);
    run(&few, "keep", 1);
    assert_eq!(base.count("a", doc! {}).await, 5);
    let grant = doc! {
        "grantRolesToUser": &user, "roles": [{ "role": "readWrite", "db": name }], "writeConcern": { "w": 3 },
    };
    admin.run_command(grant).await.unwrap();
    let told = doctor(&few);
    let fine = format!("ok {begins}{name}.a does not exist yet, and can be made");
    assert!(told.contains(&fine), "{told}");
    few.run(["doctor"]).expect(0);

    // What documents would not stay in.
    let capped = doc! { "create": "small", "capped": true, "size": 4096 };
    there.db.run_command(capped).await.unwrap();
    let told = doctor(&of(&there.url(), ", collection: small"));
    let unfit = format!("problem {begins}{name}.small cannot keep them: it is capped");
    assert!(told.contains(&unfit), "{told}");

    // Nobody is there.
    let gone = "mongodb://127.0.0.1:1/x?serverSelectionTimeoutMS=500&connectTimeoutMS=500";
    let told = doctor(&of(gone, ""));
    assert!(
        told.contains(&format!("problem {begins}it cannot be reached")),
        "{told}"
    );
    let failed = run(&of(gone, ""), "keep", 1);
    let named = failed
        .to_string()
        .contains("target `cold`, which documents are archived to, 127.0.0.1:1");
    assert!(named, "{failed:#}");

    run(&few, "keep", 0);
    assert_eq!(there.count("a", doc! {}).await, 5);
    assert!(doctor(&few).contains(&format!("ok {begins}{name}.a can keep them")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_step_down_takes_is_among_the_rights() {
    let base = TestBase::new(60).await;
    base.collection("a")
        .insert_one(doc! { "_id": 1 })
        .await
        .unwrap();
    let of = |options: &str| {
        let task = format!("kind: compact\ntarget: app\noptions: {{ {options} }}\n");
        doctor(&for_base(&base).task("shrink", &task))
    };
    let lacks = "app: shrink: the user lacks replSetStateChange on the whole set: db.getSiblingDB(\"admin\").grantRolesToUser(USER, [{ role: \"clusterManager\", db: \"admin\" }])";
    let told = of("step_down: true");
    assert!(told.contains(lacks), "{told}");
    assert!(!of("min_free: 100MB").contains("replSetStateChange"));
}

/// A claim that somebody writes, and renews: whose it is is judged, and told; one of a run that is over is none.
#[tokio::test(flavor = "multi_thread")]
async fn a_claim_of_nobodys_is_told_and_one_of_a_run_that_is_over_is_none() {
    let base = TestBase::new(60).await;
    let old = (0..5).map(|n| doc! { "_id": n, "at": DateTime::from_millis(1_000_000_000_000) });
    base.collection("a").insert_many(old).await.unwrap();
    let workspace = for_base(&base).task(
        "sweep",
        "kind: cleanup\ntarget: app\noptions: { rules: [{ collection: a, field: at, older_than: 30d }] }\n",
    );
    let claims = base.collection("maint.claims");
    let written = async |owner: String| {
        let at = |ms: i64| DateTime::from_millis(DateTime::now().timestamp_millis() + ms);
        let claim = doc! {
            "_id": "sweep", "owner": owner, "host": "somewhere\nelse", "process": "7",
            "since": at(-60_000), "expires": at(35_000),
        };
        let of = doc! { "_id": "sweep" };
        claims.replace_one(of, claim).upsert(true).await.unwrap();
    };
    let deletes = "deleteOne({_id: \"sweep\"})";
    written(format!("x{}", "y".repeat(900))).await;
    let done = run(&workspace, "sweep", 1);
    assert_eq!(done["status"], "failed", "{done:#}");
    assert_eq!(codes(&done), ["claim.stranger"], "{done:#}");
    let end = done["findings"][0]["suggestion"].as_str().unwrap();
    assert!(end.ends_with(deletes), "{end}");
    let told = done["findings"][0]["message"].as_str().unwrap();
    assert!(
        told.contains("somewhere else") && told.len() < 900,
        "{told}"
    );

    // A run of another history may be at work: nobody knows.
    written("maint 0190a4c0-0000-7000-8000-000000000000".to_owned()).await;
    let done = run(&workspace, "sweep", 4);
    assert_eq!(done["status"], "skipped", "{done:#}");
    let why = done["error"].as_str().unwrap();
    assert!(why.contains("this history does not know that run"), "{why}");
    assert!(why.contains(deletes), "{why}");
    assert_eq!(base.count("a", doc! {}).await, 5);

    // One that this history knows to be over holds nothing.
    written(format!("maint {}", done["id"].as_str().unwrap())).await;
    let done = run(&workspace, "sweep", 0);
    assert_eq!(done["rows"], 5, "{done:#}");
}

/// Somebody writes a claim in the name of a run that is over, again and again: it cannot be taken, and is told.
#[tokio::test(flavor = "multi_thread")]
async fn a_claim_in_the_name_of_a_run_that_is_over_is_told_where_it_comes_back() {
    let base = TestBase::new(60).await;
    let old = doc! { "_id": 1, "at": DateTime::from_millis(1_000_000_000_000) };
    base.collection("a").insert_one(old).await.unwrap();
    let workspace = for_base(&base).task(
        "sweep",
        "kind: cleanup\ntarget: app\noptions: { rules: [{ collection: a, field: at, older_than: 30d }] }\n",
    );
    let over = run(&workspace, "sweep", 0);
    let owner = format!("maint {}", over["id"].as_str().unwrap());
    let writers: Vec<_> = (0..8)
        .map(|_| {
            let claims = base.collection("maint.claims");
            let owner = owner.clone();
            tokio::spawn(async move {
                loop {
                    let until = DateTime::from_millis(DateTime::now().timestamp_millis() + 35_000);
                    let claim = doc! {
                        "_id": "sweep", "owner": &owner, "host": "db-tools-2", "process": "7",
                        "since": DateTime::now(), "expires": until,
                    };
                    let of = doc! { "_id": "sweep" };
                    // Two that come at once: one of them has made it.
                    let _ = claims.replace_one(of, claim).upsert(true).await;
                }
            })
        })
        .collect();
    // It may be had for a moment in between.
    let patience = Patience::until("the claim that comes back");
    let told = loop {
        let output = workspace.run(["run", "sweep", "--now", "--output", "json"]);
        let done = output.json()["runs"][0].clone();
        if codes(&done) == ["claim.left_over"] {
            break done;
        }
        patience.pause().await;
    };
    writers.iter().for_each(|writer| writer.abort());
    assert_eq!(told["status"], "failed", "{told:#}");
    let finding = &told["findings"][0];
    let message = finding["message"].as_str().unwrap();
    assert!(
        message.contains(&format!("held by {owner} on db-tools-2, since 20")),
        "{message}"
    );
    let end = finding["suggestion"].as_str().unwrap();
    assert!(end.ends_with("deleteOne({_id: \"sweep\"})"), "{end}");
    for writer in writers {
        let _ = writer.await;
    }
    // It holds nobody up once nobody writes it any more.
    let done = run(&workspace, "sweep", 0);
    assert!(codes(&done).is_empty(), "{done:#}");
}
