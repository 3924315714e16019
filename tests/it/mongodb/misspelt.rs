//! What is misspelt, or may not be done, is said and is no success.

use mongodb::IndexModel;
use mongodb::bson::oid::ObjectId;
use mongodb::bson::{Document, doc};
use mongodb::options::IndexOptions;
use serde_json::Value;

use super::cleanup::days_ago;
use super::{codes, for_base, run, steps, workspace};
use crate::support::mongo::{PASSWORD, Servers, TestBase};
use crate::support::workspace::Workspace;

pub(super) fn cleanup(base: &TestBase, options: &str) -> Workspace {
    for_base(base).task(
        "cleanup",
        &format!("kind: cleanup\ntarget: app\noptions:\n  {options}\n"),
    )
}

pub(super) fn finding<'a>(run: &'a Value, code: &str) -> &'a Value {
    let all = run["findings"].as_array().unwrap();
    let found = all.iter().find(|finding| finding["code"] == code);
    found.unwrap_or_else(|| panic!("{code}: {run:#}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_that_tells_no_age_anywhere_is_no_success() {
    let base = TestBase::new(60).await;
    let events = base.collection("events");
    let documents = (0..300).map(|n| doc! { "_id": n, "at": days_ago(100), "text": "x" });
    events.insert_many(documents).await.unwrap();
    for rule in [
        "field: att, older_than: 30d",
        "field: at, older_than: 30d, epoch: seconds",
    ] {
        let workspace = cleanup(&base, &format!("rules: [{{ collection: events, {rule} }}]"));
        let done = run(&workspace, "cleanup", 1);
        assert_eq!(done["status"], "failed", "{rule}: {done:#}");
        assert_eq!(
            finding(&done, "cleanup.types")["severity"],
            "critical",
            "{rule}"
        );
        assert_eq!(base.count("events", doc! {}).await, 300, "{rule}");
    }
    // Somebody who made an index for it knows it, though it is in no document today.
    let index = IndexModel::builder().keys(doc! { "closed": 1 }).build();
    events.create_index(index).await.unwrap();
    let workspace = cleanup(
        &base,
        "rules: [{ collection: events, field: closed, older_than: 30d }]",
    );
    let done = run(&workspace, "cleanup", 0);
    assert_eq!(
        finding(&done, "cleanup.types")["severity"],
        "info",
        "{done:#}"
    );
    // One document among many is enough, whether it was looked at or not.
    let rare = doc! { "_id": "rare", "left": days_ago(100) };
    let many = (1000..4000).map(|n| doc! { "_id": n });
    events.insert_many(many).await.unwrap();
    events.insert_one(rare).await.unwrap();
    let workspace = cleanup(
        &base,
        "rules: [{ collection: events, field: left, older_than: 30d }]",
    );
    assert_eq!(run(&workspace, "cleanup", 0)["rows"], 1);
    assert_eq!(base.count("events", doc! {}).await, 3300);
}

/// What `keep` is to keep stays where its field is misspelt; so does everything where `where` holds
/// for documents without a field, and none has it.
async fn a_field_that_no_document_has(version: u32) {
    let base = TestBase::new(version).await;
    let events = base.collection("events");
    let documents: Vec<Document> = (0..100)
        .map(
            |n| doc! { "_id": n, "at": days_ago(100), "pinned": n < 10, "tags": [{ "name": "x" }] },
        )
        .collect();
    events.insert_many(&documents).await.unwrap();
    let aged = "collection: events, field: at, older_than: 30d";
    for (rule, field) in [
        (format!("{aged}, keep: [{{ pinnned: true }}]"), "pinnned"),
        (
            format!(
                "{aged}, keep: [{{ _id: -1 }}, {{ $or: [{{ pinned: true }}, {{ tags.nam: x }}] }}]"
            ),
            "tags.nam",
        ),
        (
            format!("{aged}, keep: [{{ tags: {{ $elemMatch: {{ nam: x }} }} }}]"),
            "tags.nam",
        ),
        (
            format!("{aged}, where: {{ statuss: {{ $ne: open }} }}"),
            "statuss",
        ),
        (
            format!("{aged}, keep: [{{ pinnned: {{ $ne: null }} }}]"),
            "pinnned",
        ),
        (
            format!("{aged}, keep: [{{ pinnned: {{ $not: {{ $ne: true }} }} }}]"),
            "pinnned",
        ),
        (
            format!("{aged}, keep: [{{ $nor: [{{ pinnned: {{ $ne: true }} }}] }}]"),
            "pinnned",
        ),
        (
            format!("{aged}, keep: [{{ $expr: {{ $eq: [\"$pinnned\", true] }} }}]"),
            "pinnned",
        ),
        (
            format!("{aged}, keep: [{{ tags: {{ $all: [{{ $elemMatch: {{ held: true }} }}] }} }}]"),
            "tags.held",
        ),
        (
            format!(
                "{aged}, where: {{ $jsonSchema: {{ properties: {{ nope: {{ bsonType: string }} }} }} }}"
            ),
            "nope",
        ),
        (
            format!("{aged}, where: {{ $expr: {{ $lt: [\"$prise\", 5] }} }}"),
            "prise",
        ),
        (
            "collection: events, where: { gone: null }".to_owned(),
            "gone",
        ),
        (
            format!("{aged}, orphaned: {{ field: pidd, parent: parents }}"),
            "pidd",
        ),
    ] {
        base.collection("parents")
            .insert_one(doc! {})
            .await
            .unwrap();
        let workspace = cleanup(&base, &format!("rules: [{{ {rule} }}]"));
        let planned = workspace.run(["plan", "cleanup", "--output", "json"]);
        assert!(planned.stdout.contains("has `"), "{rule}: {planned:?}");
        let done = run(&workspace, "cleanup", 1);
        let told = finding(&done, "cleanup.rule");
        assert_eq!(told["severity"], "critical", "{rule}: {done:#}");
        let message = told["message"].as_str().unwrap();
        assert!(
            message.contains(&format!("has `{field}`")),
            "{rule}: {message}"
        );
        assert_eq!(base.count("events", doc! {}).await, 100, "{rule}");
    }
    // A value of a type that no document has there is another one.
    for keep in [
        "pinned: \"yes\"",
        "pinned: 1",
        "at: { $gt: \"2020-01-01\" }",
        "oid: \"6b0a084ae1b0a7e3fc0d3a03\"",
        "tags.name: { $in: [1, 2] }",
        "tags.name: { $size: 1 }",
        "pinned: { $regex: \"1\" }",
        "$expr: { $eq: [\"$pinned\", \"true\"] }",
    ] {
        events
            .update_many(doc! {}, doc! { "$set": { "oid": ObjectId::new() } })
            .await
            .unwrap();
        let workspace = cleanup(
            &base,
            &format!("rules: [{{ {aged}, keep: [{{ {keep} }}] }}]"),
        );
        let done = run(&workspace, "cleanup", 1);
        let told = finding(&done, "cleanup.rule");
        assert_eq!(told["severity"], "critical", "{keep}: {done:#}");
        assert!(
            told["message"].to_string().contains("has a value of type"),
            "{keep}: {done:#}"
        );
        assert_eq!(base.count("events", doc! {}).await, 100, "{keep}");
    }
    // Where only the server knows which fields are named, one document shows that they are right.
    let script = |field: &str, more: &str| {
        cleanup(
            &base,
            &format!(
                "rules: [{{ {aged}, keep: [{{ $where: \"this.{field} === true\" }}], where: {{ _id: {{ $lt: -1 }} }}{more} }}]"
            ),
        )
    };
    let done = run(&script("pinnned", ""), "cleanup", 1);
    let told = finding(&done, "cleanup.rule")["message"].as_str().unwrap();
    assert!(
        told.contains("with `$where` only the server knows"),
        "{told}"
    );
    run(&script("pinned", ""), "cleanup", 0);
    run(
        &script("pinnned", ", may_be_absent: [$where]"),
        "cleanup",
        0,
    );
    // What no rule can use is refused before anything is asked.
    for (only, operator) in [
        ("loc: { $near: [1, 2] }", "$near"),
        ("$text: { $search: x }", "$text"),
    ] {
        let workspace = cleanup(
            &base,
            &format!("rules: [{{ {aged}, where: {{ {only} }} }}]"),
        );
        let checked = workspace.run(["check"]).expect(2);
        assert!(checked.stderr.contains(operator), "{checked:#?}");
    }
    // Nothing meets this, which is told and hurts nobody.
    let workspace = cleanup(
        &base,
        &format!("rules: [{{ {aged}, where: {{ statuss: open }} }}]"),
    );
    let done = run(&workspace, "cleanup", 0);
    assert_eq!(
        finding(&done, "cleanup.rule")["severity"],
        "warning",
        "{done:#}"
    );
    assert_eq!(base.count("events", doc! {}).await, 100);
    // Who says so, or has an index for it, knows the field.
    let workspace = cleanup(
        &base,
        &format!(
            "rules: [{{ {aged}, keep: [{{ held: true }}], may_be_absent: [held], where: {{ _id: {{ $lt: 1 }} }} }}]"
        ),
    );
    assert_eq!(run(&workspace, "cleanup", 0)["rows"], 1);
    let index = IndexModel::builder().keys(doc! { "held": 1 }).build();
    events.create_index(index).await.unwrap();
    let workspace = cleanup(
        &base,
        &format!("rules: [{{ {aged}, keep: [{{ held: true }}], where: {{ _id: {{ $lt: 2 }} }} }}]"),
    );
    assert_eq!(run(&workspace, "cleanup", 0)["rows"], 1);
    // What was there in an earlier run is spelt as it should be.
    let workspace = cleanup(
        &base,
        &format!("rules: [{{ {aged}, keep: [{{ pinned: true }}] }}]"),
    );
    let done = run(&workspace, "cleanup", 0);
    assert_eq!(
        (&done["rows"], codes(&done).len()),
        (&90.into(), 0),
        "{done:#}"
    );
    events
        .update_many(doc! {}, doc! { "$unset": { "pinned": 1 } })
        .await
        .unwrap();
    assert_eq!(run(&workspace, "cleanup", 0)["rows"], 8);
    assert_eq!(base.count("events", doc! {}).await, 0);
    // Where there is nothing, nothing is missing.
    assert!(codes(&run(&workspace, "cleanup", 0)).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_that_no_document_has_4_4() {
    a_field_that_no_document_has(44).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_that_no_document_has_6_0() {
    a_field_that_no_document_has(60).await;
}

/// A check of a field that no document has finds nothing, which is told.
async fn a_check_of_a_field_that_no_document_has(version: u32) {
    let base = TestBase::new(version).await;
    base.collection("parents")
        .insert_one(doc! { "_id": 1, "key": 1 })
        .await
        .unwrap();
    let kids: Vec<Document> = (0..5)
        .map(|n| doc! { "_id": n, "pid": 1, "name": n })
        .collect();
    base.collection("kids").insert_many(kids).await.unwrap();
    let check = |options: &str| {
        for_base(&base).task(
            "integrity",
            &format!("kind: integrity\ntarget: app\noptions: {{ validate: off, {options} }}\n"),
        )
    };
    for options in [
        "references: [{ collection: kids, field: pidd, parent: parents }]",
        "references: [{ collection: kids, field: pid, parent: parents, parent_field: kee }]",
        "unique: [{ collection: kids, fields: [name, naem] }]",
    ] {
        let done = run(&check(options), "integrity", 0);
        let told = finding(&done, "integrity.rule");
        assert_eq!(told["severity"], "warning", "{options}: {done:#}");
        let message = told["message"].as_str().unwrap();
        assert!(message.contains("no document of"), "{options}: {message}");
        let doctor = check(options).run(["doctor"]).expect(1).stdout;
        assert!(doctor.contains("no document of"), "{options}: {doctor}");
        assert!(!doctor.contains("integrity: works"), "{options}: {doctor}");
    }
    let workspace = check(
        "references: [{ collection: kids, field: pid, parent: parents, parent_field: key }], unique: [{ collection: kids, fields: [name] }]",
    );
    assert_eq!(
        steps(&run(&workspace, "integrity", 0), "succeeded").len(),
        2
    );
    base.collection("kids")
        .update_many(doc! {}, doc! { "$unset": { "pid": 1 } })
        .await
        .unwrap();
    assert_eq!(
        steps(&run(&workspace, "integrity", 0), "succeeded").len(),
        2
    );
    // What is wrong is told without what documents hold.
    let anna = doc! { "_id": "anna@example.com", "pid": 99, "name": 0 };
    base.collection("kids").insert_one(anna).await.unwrap();
    let done = run(&workspace, "integrity", 0);
    assert_eq!(
        codes(&done),
        ["collection.duplicates", "reference.orphaned"]
    );
    assert!(!done.to_string().contains("anna"), "{done:#}");
    let suggestion = finding(&done, "reference.orphaned")["suggestion"].to_string();
    assert!(suggestion.contains(".aggregate(["), "{suggestion}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_of_a_field_that_no_document_has_4_4() {
    a_check_of_a_field_that_no_document_has(44).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_of_a_field_that_no_document_has_6_0() {
    a_check_of_a_field_that_no_document_has(60).await;
}

/// Of dates and ObjectIds the more frequent tell the age, however rare both are, and whatever a
/// sample happens to see.
async fn the_frequent_one_tells_the_age(version: u32) {
    let base = TestBase::new(version).await;
    let id = |days: i64, n: i32| {
        let at = days_ago(days).timestamp_millis() / 1000;
        let mut bytes = [0; 12];
        bytes[..4].copy_from_slice(&u32::try_from(at).unwrap().to_be_bytes());
        bytes[8..].copy_from_slice(&n.to_be_bytes());
        ObjectId::from_bytes(bytes)
    };
    // All of them are looked at: one is a date, and the older one.
    let drafts = base.collection("drafts");
    drafts
        .insert_one(doc! { "_id": days_ago(400) })
        .await
        .unwrap();
    let some = (0..4).map(|n| doc! { "_id": id(if n == 0 { 40 } else { 1 }, n) });
    drafts.insert_many(some).await.unwrap();
    // Hardly any of them is looked at.
    let late = base.collection("late");
    let many = (0..20_000).map(|n| doc! { "_id": n });
    late.insert_many(many).await.unwrap();
    let some = (0..20).map(|n| doc! { "_id": 30_000 + n, "at": id(9, n) });
    late.insert_many(some).await.unwrap();
    late.insert_one(doc! { "_id": "date", "at": days_ago(9) })
        .await
        .unwrap();
    for indexed in [false, true] {
        if indexed {
            late.delete_many(doc! { "_id": { "$gte": 30_000 } })
                .await
                .unwrap();
            let some = (0..20).map(|n| doc! { "_id": 40_000 + n, "at": id(9, n) });
            late.insert_many(some).await.unwrap();
            let index = IndexModel::builder().keys(doc! { "at": 1 }).build();
            late.create_index(index).await.unwrap();
        }
        let workspace = cleanup(
            &base,
            "rules: [{ collection: late, field: at, older_than: 1d }]",
        );
        let done = run(&workspace, "cleanup", 0);
        assert_eq!(done["rows"], 20, "{indexed}: {done:#}");
        assert_eq!(codes(&done), ["cleanup.types"], "{indexed}");
        assert_eq!(base.count("late", doc! {}).await, 20_001, "{indexed}");
        assert_eq!(base.count("late", doc! { "_id": "date" }).await, 1);
    }
    let workspace = cleanup(
        &base,
        "rules: [{ collection: drafts, field: _id, older_than: 30d }]",
    );
    let done = run(&workspace, "cleanup", 0);
    assert_eq!(done["rows"], 1, "{done:#}");
    assert_eq!(base.count("drafts", doc! { "_id": id(40, 0) }).await, 0);
    assert_eq!(base.count("drafts", doc! {}).await, 4);
    let told = finding(&done, "cleanup.types")["message"].to_string();
    assert!(told.contains("(1 date)"), "{told}");
    assert_eq!(run(&workspace, "cleanup", 0)["rows"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_frequent_one_tells_the_age_4_4() {
    the_frequent_one_tells_the_age(44).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_frequent_one_tells_the_age_5_0() {
    the_frequent_one_tells_the_age(50).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_frequent_one_tells_the_age_6_0() {
    the_frequent_one_tells_the_age(60).await;
}

/// What expired long ago is late only once the index has been there for a while.
async fn a_new_ttl_is_not_late(version: u32) {
    let server = Servers::alone(version);
    let root = server.root().await;
    let off = doc! { "setParameter": 1, "ttlMonitorEnabled": false };
    root.database("admin").run_command(off).await.unwrap();
    let sessions = root.database("app").collection("sessions");
    sessions
        .insert_one(doc! { "_id": 1, "at": days_ago(1) })
        .await
        .unwrap();
    let workspace = workspace(&server.maint_url("app")).task("cleanup", "kind: cleanup\ntarget: app\noptions: { ttl: [{ collection: sessions, field: at, expire_after: 0s }] }\n");
    let first = run(&workspace, "cleanup", 0);
    assert_eq!(steps(&first, "succeeded"), ["create_ttl app.sessions"]);
    let second = run(&workspace, "cleanup", 0);
    assert_eq!(codes(&second), ["ttl.monitor_off"], "{second:#}");
    // Neither is one that somebody else has just made.
    sessions.drop_index("at_1").await.unwrap();
    let options = IndexOptions::builder()
        .name("theirs".to_owned())
        .expire_after(std::time::Duration::ZERO)
        .build();
    let model = IndexModel::builder().keys(doc! { "at": 1 });
    sessions
        .create_index(model.options(options).build())
        .await
        .unwrap();
    let fresh = super::workspace(&server.maint_url("app"))
        .task("cleanup", "kind: cleanup\ntarget: app\noptions: { ttl: [{ collection: sessions, field: at, expire_after: 0s }] }\n")
        .task("late", "kind: cleanup\ntarget: app\noptions: { ttl: [{ collection: sessions, field: at, expire_after: 0s, max_overdue: 1ms }] }\n");
    let theirs = run(&fresh, "cleanup", 0);
    assert_eq!(codes(&theirs), ["ttl.monitor_off"]);
    let late = run(&fresh, "late", 0);
    assert_eq!(codes(&late), ["ttl.monitor_off", "ttl.stalled"]);
    // Changed by hand, it has all the time that an index may have once more.
    let changed =
        doc! { "collMod": "sessions", "index": { "name": "theirs", "expireAfterSeconds": 1 } };
    let age = async || {
        let stats = doc! { "aggregate": "sessions", "pipeline": [{ "$indexStats": {} }, { "$match": { "name": "theirs" } }], "cursor": {} };
        let told = root.database("app").run_command(stats).await.unwrap();
        let batch = told
            .get_document("cursor")
            .unwrap()
            .get_array("firstBatch")
            .unwrap();
        let index = batch[0].as_document().unwrap();
        *index
            .get_document("accesses")
            .unwrap()
            .get_datetime("since")
            .unwrap()
    };
    let before = age().await;
    root.database("app").run_command(changed).await.unwrap();
    let after = age().await;
    assert!(after > before, "{before} {after}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_ttl_is_not_late_4_4() {
    a_new_ttl_is_not_late(44).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_ttl_is_not_late_6_0() {
    a_new_ttl_is_not_late(60).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ttl_for_no_collection_makes_none() {
    let base = TestBase::new(60).await;
    base.db.create_collection("sessions").await.unwrap();
    let workspace = cleanup(
        &base,
        "ttl: [{ collection: sesions, field: at, expire_after: 1d }]",
    );
    let done = run(&workspace, "cleanup", 1);
    assert_eq!(codes(&done), ["cleanup.rule"], "{done:#}");
    let names = base.db.list_collection_names().await.unwrap();
    assert!(!names.contains(&"sesions".to_owned()), "{names:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_indexes_the_one_that_expires_counts() {
    for version in [50, 60] {
        let base = TestBase::new(version).await;
        let sessions = base.collection("sessions");
        sessions
            .insert_one(doc! { "_id": 1, "at": days_ago(1) })
            .await
            .unwrap();
        let after = |seconds| {
            let after = std::time::Duration::from_secs(seconds);
            IndexOptions::builder().expire_after(after).build()
        };
        let hashed = IndexModel::builder().keys(doc! { "at": "hashed" }).build();
        let plain = IndexModel::builder().keys(doc! { "at": 1 }).build();
        let expiring = IndexModel::builder()
            .keys(doc! { "at": -1 })
            .options(after(864_000))
            .build();
        for index in [hashed, plain, expiring] {
            sessions.create_index(index).await.unwrap();
        }
        let ttl = |days: u32| {
            format!("ttl: [{{ collection: sessions, field: at, expire_after: {days}d }}]")
        };
        let done = run(&cleanup(&base, &ttl(10)), "cleanup", 0);
        assert!(codes(&done).is_empty(), "{done:#}");
        assert!(done["steps"].as_array().unwrap().is_empty(), "{done:#}");
        let done = run(&cleanup(&base, &ttl(3650)), "cleanup", 0);
        let object = format!("alter_ttl {}.sessions", base.name);
        assert_eq!(steps(&done, "succeeded"), [object], "{done:#}");
        let listed = base
            .db
            .run_command(doc! { "listIndexes": "sessions" })
            .await
            .unwrap();
        let indexes = listed
            .get_document("cursor")
            .unwrap()
            .get_array("firstBatch")
            .unwrap();
        let expire: Vec<String> = indexes
            .iter()
            .filter_map(|index| index.as_document()?.get("expireAfterSeconds"))
            .map(ToString::to_string)
            .collect();
        assert_eq!(expire, ["315360000"], "{version}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_in_include_that_meet_nothing_are_told() {
    let base = TestBase::new(60).await;
    base.collection("events")
        .insert_one(doc! { "_id": 1 })
        .await
        .unwrap();
    for kind in ["compact", "integrity", "snapshot"] {
        let workspace = for_base(&base).task(
            "t",
            &format!("kind: {kind}\ntarget: app\noptions: {{ exclude: [evnets] }}\n"),
        );
        let done = run(&workspace, "t", 0);
        assert_eq!(
            finding(&done, "exclude.nothing")["object"],
            "evnets",
            "{kind}"
        );
        for (include, code) in [("[nosuch]", 1), ("[events, nosuch]", 0), ("[events]", 0)] {
            let workspace = for_base(&base).task(
                "t",
                &format!("kind: {kind}\ntarget: app\noptions: {{ include: {include} }}\n"),
            );
            let done = run(&workspace, "t", code);
            let told = codes(&done).contains(&"include.nothing".to_owned());
            assert_eq!(
                told,
                include.contains("nosuch"),
                "{kind} {include}: {done:#}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_without_collections_is_not_all_is_well() {
    let base = TestBase::new(60).await;
    for kind in ["compact", "integrity", "snapshot"] {
        let workspace = for_base(&base).task("t", &format!("kind: {kind}\ntarget: app\n"));
        // The second time there is what the first run has made itself.
        for _ in 0..2 {
            let done = run(&workspace, "t", 1);
            assert_eq!(
                finding(&done, "database.empty")["severity"],
                "warning",
                "{kind}"
            );
        }
        let doctor = workspace.run(["doctor"]);
        assert!(doctor.stdout.contains("has no collection"), "{doctor:?}");
    }
    base.collection("events")
        .insert_one(doc! { "_id": 1 })
        .await
        .unwrap();
    let workspace = for_base(&base).task("t", "kind: snapshot\ntarget: app\n");
    assert!(!codes(&run(&workspace, "t", 0)).contains(&"database.empty".to_owned()));
    assert!(
        !workspace
            .run(["doctor"])
            .stdout
            .contains("has no collection")
    );
}

/// Whoever may not read what the profiler has written is told a role that may.
async fn the_profiler_is_not_read_by_readers(version: u32) {
    let base = TestBase::new(version).await;
    let some = doc! { "_id": 1 };
    base.collection("a").insert_one(some).await.unwrap();
    let admin = base.servers.root().await.database("admin");
    let user = format!("profile{}", base.name);
    let create = doc! { "createUser": &user, "pwd": PASSWORD, "roles": [{ "role": "readWrite", "db": &base.name }], "writeConcern": { "w": 3 } };
    admin.run_command(create).await.unwrap();
    let url = base.servers.url(Some(&user), &base.name, "");
    let workspace = workspace(&url).task("t", "kind: snapshot\ntarget: app\n");
    let slow = |done: &Value| -> Option<Value> {
        let all = done["findings"].as_array().unwrap().iter();
        let mut all = all.filter(|f| f["message"].to_string().contains("are slow"));
        all.next().cloned()
    };
    let told = slow(&run(&workspace, "t", 0)).unwrap();
    let grant = doc! { "role": "clusterMonitor", "db": "admin" };
    let shown = told["suggestion"].as_str().unwrap();
    assert!(
        shown.contains("[{ role: \"clusterMonitor\", db: \"admin\" }]"),
        "{told:#}"
    );
    let grant = doc! { "grantRolesToUser": &user, "roles": [grant], "writeConcern": { "w": 3 } };
    admin.run_command(grant).await.unwrap();
    let done = run(&workspace, "t", 0);
    assert_eq!(slow(&done), None, "{done:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_profiler_is_not_read_by_readers_4_4() {
    the_profiler_is_not_read_by_readers(44).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_profiler_is_not_read_by_readers_6_0() {
    the_profiler_is_not_read_by_readers(60).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_that_lacks_a_role_is_told_which() {
    let base = TestBase::new(60).await;
    for name in ["a", "b", "c"] {
        base.collection(name)
            .insert_one(doc! { "_id": 1 })
            .await
            .unwrap();
    }
    let admin = base.servers.root().await.database("admin");
    let mut users: Vec<(String, String)> = Vec::new();
    for (what, roles) in [
        ("reads", vec![doc! { "role": "read", "db": &base.name }]),
        (
            "writes",
            vec![doc! { "role": "readWrite", "db": &base.name }],
        ),
        (
            "validates",
            vec![
                doc! { "role": "readWrite", "db": &base.name },
                doc! { "role": "dbAdmin", "db": &base.name },
            ],
        ),
    ] {
        let user = format!("{what}{}", base.name);
        let create = doc! { "createUser": &user, "pwd": PASSWORD, "roles": roles, "writeConcern": { "w": 3 } };
        admin.run_command(create).await.unwrap();
        users.push((
            what.to_owned(),
            base.servers.url(Some(&user), &base.name, ""),
        ));
    }
    for (what, url) in users {
        let workspace = workspace(&url).task("t", "kind: integrity\ntarget: app\n");
        let output = workspace.run(["run", "t", "--now", "--output", "json"]);
        let shown = format!("{}{}", output.stdout, output.stderr);
        match what.as_str() {
            "reads" => {
                assert_ne!(output.code, 0, "{shown}");
                assert!(
                    shown.contains("readWrite")
                        && shown.contains(&format!("{}.maint.claims", base.name)),
                    "{shown}"
                );
            }
            "writes" => {
                assert_eq!(output.code, 1, "{shown}");
                let done = output.json()["runs"][0].clone();
                assert!(
                    done["steps"]
                        .as_array()
                        .unwrap()
                        .iter()
                        .all(|step| step["action"] != "validate"),
                    "{done:#}"
                );
                let all = done["findings"].as_array().unwrap();
                let lacking: Vec<&Value> = all
                    .iter()
                    .filter(|f| {
                        f["message"]
                            .to_string()
                            .contains("no collection was validated")
                    })
                    .collect();
                assert_eq!(lacking.len(), 1, "{done:#}");
                assert!(lacking[0].to_string().contains("dbAdmin"), "{done:#}");
            }
            _ => {
                assert_eq!(output.code, 0, "{shown}");
                assert_eq!(
                    steps(&output.json()["runs"][0], "succeeded")
                        .iter()
                        .filter(|s| s.starts_with("validate"))
                        .count(),
                    3,
                    "{shown}"
                );
            }
        }
    }
    let collection = base.db.collection::<Document>("a");
    assert_eq!(collection.count_documents(doc! {}).await.unwrap(), 1);
}

/// Names that no collection of ours has are refused before any server is asked.
#[test]
fn names_that_belong_to_the_server_are_refused_by_check() {
    let archive = |destination: &str| {
        format!(
            "kind: archive\ntarget: app\noptions: {{ rules: [{{ collection: a, where: {{ x: 1 }} }}], destination: {destination} }}\n"
        )
    };
    for (task, said) in [
        (
            "kind: cleanup\ntarget: app\noptions: { rules: [{ collection: system.buckets.x, where: { y: 1 } }] }\n".to_owned(),
            "`collection: system.buckets.x` belongs to the server",
        ),
        (
            "kind: cleanup\ntarget: app\noptions: { rules: [{ collection: a, database: local, where: { y: 1 } }] }\n".to_owned(),
            "`database: local` belongs to the server",
        ),
        (
            "kind: cleanup\ntarget: app\noptions: { rules: [{ collection: a, orphaned: { field: f, parent: system.views } }] }\n".to_owned(),
            "`parent: system.views` belongs to the server",
        ),
        (
            "kind: cleanup\ntarget: app\noptions: { ttl: [{ collection: system.sessions, field: at, expire_after: 1d }] }\n".to_owned(),
            "`collection: system.sessions` belongs to the server",
        ),
        (
            "kind: integrity\ntarget: app\noptions: { unique: [{ collection: a, fields: [x, $g] }] }\n".to_owned(),
            "`$g` is no field",
        ),
        (
            "kind: integrity\ntarget: app\noptions: { references: [{ collection: a, field: u.$id, parent: b }] }\n".to_owned(),
            "`u.$id` is no field",
        ),
        (archive("{ collection: \"a$b\" }"), "`collection: a$b` has a `$`"),
        (archive("{ database: \"a.b\" }"), "`database: a.b` has a character"),
    ] {
        let workspace = workspace("mongodb://127.0.0.1:1/app").task("task", &task);
        let output = workspace.run(["check"]).expect(2);
        let text = format!("{}{}", output.stdout, output.stderr);
        assert!(text.contains(said), "{said}: {text}");
    }
}

/// What an earlier run has seen, `doctor` knows, as `plan` does.
#[tokio::test(flavor = "multi_thread")]
async fn doctor_knows_what_earlier_runs_have_seen() {
    let base = TestBase::new(60).await;
    let documents = [
        doc! { "_id": "old", "at": days_ago(100), "status": "abandoned" },
        doc! { "_id": "new", "at": days_ago(1) },
    ];
    base.collection("a").insert_many(documents).await.unwrap();
    let task = "kind: cleanup\ntarget: app\noptions: { rules: [{ collection: a, field: at, older_than: 90d, where: { status: abandoned } }] }\n";
    let workspace = for_base(&base).task("cleanup", task);
    assert_eq!(run(&workspace, "cleanup", 0)["rows"], 1);
    assert_eq!(base.ids("a").await, ["\"new\""]);
    let doctor = workspace.run(["doctor"]).stdout;
    assert!(doctor.contains("cleanup: works"), "{doctor}");
    assert!(!doctor.contains("no document of"), "{doctor}");
    // Who has seen nothing takes it for a word that is misspelt.
    let anew = for_base(&base).task("cleanup", task);
    let doctor = anew.run(["doctor"]).expect(1).stdout;
    assert!(doctor.contains("no document of"), "{doctor}");
}

/// One field expires by one time, in whole seconds; and a name that another index has is not taken.
#[tokio::test(flavor = "multi_thread")]
async fn a_ttl_that_cannot_be_is_refused() {
    let base = TestBase::new(60).await;
    let events = base.collection("events");
    events
        .insert_one(doc! { "_id": 1, "at": days_ago(0), "n": 1 })
        .await
        .unwrap();
    for (options, why) in [
        (
            "ttl: [{ collection: events, field: at, expire_after: 1d }, { collection: events, field: at, expire_after: 2d }]",
            "twice",
        ),
        (
            "ttl: [{ collection: events, field: at, expire_after: 1500ms }]",
            "whole seconds",
        ),
    ] {
        let checked = cleanup(&base, options).run(["check"]).expect(2);
        assert!(checked.stderr.contains(why), "{checked:#?}");
    }
    let other = IndexOptions::builder().name("at_1".to_owned()).build();
    let index = IndexModel::builder()
        .keys(doc! { "n": 1 })
        .options(other)
        .build();
    events.create_index(index).await.unwrap();
    let workspace = cleanup(
        &base,
        "ttl: [{ collection: events, field: at, expire_after: 90d }]",
    );
    assert_eq!(steps(&run(&workspace, "cleanup", 0), "succeeded").len(), 1);
    assert!(steps(&run(&workspace, "cleanup", 0), "succeeded").is_empty());
}
