//! A TTL index where others on its field are there already: it is made beside them where the server
//! takes it, and nothing that another index was for gets lost.

use futures_util::TryStreamExt;
use mongodb::IndexModel;
use mongodb::bson::{Document, doc};
use mongodb::options::IndexOptions;
use serde_json::Value;

use super::cleanup::days_ago;
use super::{codes, for_base, run, steps, workspace};
use crate::support::mongo::{Servers, TestBase};

async fn with_index(base: &TestBase, name: &str, index: Document) {
    let collection = base.collection(name);
    let documents = (0..3).map(|n| doc! { "_id": n, "at": days_ago(-1 - n), "k": n });
    collection
        .insert_many(documents.collect::<Vec<_>>())
        .await
        .unwrap();
    let command = doc! { "createIndexes": name, "indexes": [index] };
    base.db.run_command(command).await.unwrap();
}

/// Names of the indexes but that of `_id`, sorted, with the seconds that documents of them expire after.
async fn indexes(base: &TestBase, name: &str) -> Vec<(String, Option<u64>)> {
    let found = base.collection(name).list_indexes().await.unwrap();
    let found: Vec<IndexModel> = found.try_collect().await.unwrap();
    let of = |index: IndexModel| {
        let options: IndexOptions = index.options?;
        let after = options.expire_after.map(|after| after.as_secs());
        Some((options.name?, after))
    };
    let mut found: Vec<_> = found.into_iter().filter_map(of).collect();
    found.retain(|(name, _)| name != "_id_");
    found.sort();
    found
}

fn task(names: &[&str]) -> String {
    let each = names
        .iter()
        .map(|name| format!("{{ collection: {name}, field: at, expire_after: 60s }}"));
    let each = each.collect::<Vec<_>>().join(", ");
    format!("kind: cleanup\ntarget: app\noptions: {{ ttl: [{each}] }}\n")
}

fn finding(run: &Value, code: &str) -> Value {
    let mut findings = run["findings"].as_array().unwrap().iter();
    let found = findings.find(|one| one["code"] == code);
    found
        .unwrap_or_else(|| panic!("no {code}: {run:#}"))
        .clone()
}

async fn beside_what_is_not_in_the_way(version: u32) {
    let base = TestBase::new(version).await;
    let part = doc! { "k": 1 };
    with_index(
        &base,
        "hashed",
        doc! { "key": { "at": "hashed" }, "name": "h" },
    )
    .await;
    with_index(
        &base,
        "part",
        doc! { "key": { "at": 1 }, "name": "p", "partialFilterExpression": part.clone() },
    )
    .await;
    with_index(
        &base,
        "narrow",
        doc! { "key": { "at": 1 }, "name": "n", "partialFilterExpression": part, "expireAfterSeconds": 60 },
    )
    .await;
    let workspace = for_base(&base).task("expire", &task(&["hashed", "part"]));
    let done = run(&workspace, "expire", 0);
    let made = ["hashed", "part"].map(|name| format!("create_ttl {}.{name}", base.name));
    assert_eq!(steps(&done, "succeeded"), made, "{done:#}");
    assert_eq!(codes(&done), [] as [&str; 0], "{done:#}");
    let named = |name: &str, after| (name.to_owned(), after);
    let hashed = [named("at_1", Some(60)), named("h", None)];
    assert_eq!(indexes(&base, "hashed").await, hashed);
    let part = [named("at_-1", Some(60)), named("p", None)];
    assert_eq!(indexes(&base, "part").await, part);
    assert!(
        run(&workspace, "expire", 0)["steps"]
            .as_array()
            .unwrap()
            .is_empty()
    );

    // What a partial one leaves out may be meant to stay: that is nobody's to decide.
    let workspace = workspace.task("expire", &task(&["narrow"]));
    let done = run(&workspace, "expire", 1);
    assert!(done["steps"].as_array().unwrap().is_empty(), "{done:#}");
    let told = finding(&done, "ttl.partial");
    let message = told["message"].as_str().unwrap();
    assert!(
        message.contains("covers only documents that match {k: 1}"),
        "{told:#}"
    );
    let help = told["suggestion"].as_str().unwrap();
    assert!(
        help.ends_with(".createIndex({at: -1}, {expireAfterSeconds: 60})"),
        "{told:#}"
    );
    assert_eq!(indexes(&base, "narrow").await, [named("n", Some(60))]);
    let whole = doc! { "key": { "at": -1 }, "name": "all", "expireAfterSeconds": 60 };
    let command = doc! { "createIndexes": "narrow", "indexes": [whole] };
    base.db.run_command(command).await.unwrap();
    assert_eq!(codes(&run(&workspace, "expire", 0)), [] as [&str; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn beside_what_is_not_in_the_way_4_4() {
    beside_what_is_not_in_the_way(44).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn beside_what_is_not_in_the_way_6_0() {
    beside_what_is_not_in_the_way(60).await;
}

async fn what_an_index_has_is_kept(version: u32) {
    let base = TestBase::new(version).await;
    with_index(
        &base,
        "tokens",
        doc! { "key": { "at": 1 }, "name": "u", "unique": true },
    )
    .await;
    with_index(
        &base,
        "drafts",
        doc! { "key": { "at": 1 }, "name": "s", "sparse": true, "collation": { "locale": "de" } },
    )
    .await;
    let workspace = for_base(&base).task("expire", &task(&["tokens"]));
    let told = finding(&run(&workspace, "expire", 1), "ttl.conflict");
    let help = told["suggestion"].as_str().unwrap();
    assert!(!help.contains("dropIndex"), "{told:#}");
    assert!(
        help.ends_with(".createIndex({at: -1}, {expireAfterSeconds: 60})"),
        "{told:#}"
    );
    // Whoever follows it has both.
    let beside = doc! { "key": { "at": -1 }, "name": "at_-1", "expireAfterSeconds": 60 };
    let command = doc! { "createIndexes": "tokens", "indexes": [beside] };
    base.db.run_command(command).await.unwrap();
    assert_eq!(codes(&run(&workspace, "expire", 0)), [] as [&str; 0]);
    let tokens = base.collection("tokens");
    let mut twice = Vec::new();
    for id in [9, 10] {
        twice.push(tokens.insert_one(doc! { "_id": id, "at": 7, "k": 7 }).await);
    }
    assert!(twice[0].is_ok() && twice[1].is_err(), "{twice:?}");

    let workspace = workspace.task("expire", &task(&["drafts"]));
    let told = finding(&run(&workspace, "expire", 1), "ttl.conflict");
    let help = told["suggestion"].as_str().unwrap();
    for word in [
        "dropIndex(\"s\"); ",
        ".createIndex({at: 1}, {expireAfterSeconds: 60, ",
        "name: \"s\"",
        "sparse: true",
        "collation: {locale: \"de\"",
    ] {
        assert!(help.contains(word), "{word}: {told:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_index_has_is_kept_4_4() {
    what_an_index_has_is_kept(44).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_index_has_is_kept_5_0() {
    what_an_index_has_is_kept(50).await;
}

/// A member that is down does not have an index waited for.
#[tokio::test(flavor = "multi_thread")]
async fn an_index_is_there_with_a_majority() {
    let mut set = Servers::set(60).await;
    let db = set.root().await.database("app");
    let sessions = db.collection::<Document>("sessions");
    sessions
        .insert_one(doc! { "_id": 1, "at": days_ago(-1) })
        .await
        .unwrap();
    set.whole().await;
    let away = (set.primary().await + 1) % 3;
    set.kill(away);
    let task = "kind: cleanup\ntarget: app\nlimits: { step_timeout: 20s }\noptions: { ttl: [{ collection: sessions, field: at, expire_after: 60s }] }\n";
    let ran = workspace(&set.maint_url("app"))
        .task("expire", task)
        .run(["run", "expire", "--now", "--output", "json"]);
    let done = ran.json()["runs"][0].clone();
    assert_eq!(
        steps(&done, "succeeded"),
        ["create_ttl app.sessions"],
        "{done:#}"
    );
}

/// What the server lets expire before it is old enough to be archived is kept nowhere: told, not done.
#[tokio::test(flavor = "multi_thread")]
async fn what_expires_before_its_archive_is_told() {
    let day = 86_400;
    let base = TestBase::new(60).await;
    for (name, after, field, told) in [
        ("early", 30 * day, "at", true),
        ("at_once", 0, "at", true),
        ("late", 91 * day, "at", false),
        ("other", 30 * day, "seen", false),
    ] {
        let events = base.collection(name);
        let documents = (0..3).map(|n| doc! { "_id": n, "at": days_ago(-1), "seen": days_ago(-1) });
        events.insert_many(documents).await.unwrap();
        let index = doc! { "key": { field: 1 }, "name": "goes", "expireAfterSeconds": after };
        let command = doc! { "createIndexes": name, "indexes": [index] };
        base.db.run_command(command).await.unwrap();
        let rule = format!("{{ collection: {name}, field: at, older_than: 90d }}");
        let text = format!(
            "kind: archive\ntarget: app\noptions: {{ rules: [{rule}], destination: {{ collection: kept }} }}\n"
        );
        let done = run(&for_base(&base).task("archive", &text), "archive", 0);
        match told {
            false => assert!(codes(&done).is_empty(), "{done:#}"),
            true => {
                assert_eq!(codes(&done), ["archive.expires"], "{done:#}");
                let told = finding(&done, "archive.expires");
                let message = told["message"].as_str().unwrap();
                assert!(message.contains("the TTL index `goes`"), "{message}");
                assert!(message.contains("older than 90d"), "{message}");
                // What is suggested ends it.
                let change = doc! { "collMod": name, "index": { "name": "goes", "expireAfterSeconds": i32::MAX } };
                assert!(
                    told["suggestion"].as_str().unwrap().contains("2147483647"),
                    "{told}"
                );
                base.db.run_command(change).await.unwrap();
                let done = run(&for_base(&base).task("archive", &text), "archive", 0);
                assert!(codes(&done).is_empty(), "{done:#}");
            }
        }
    }
}
