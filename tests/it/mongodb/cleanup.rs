//! Exactly the documents that are meant, and nothing the second time.

use mongodb::IndexModel;
use mongodb::bson::oid::ObjectId;
use mongodb::bson::{Bson, DateTime, Document, doc};

use super::misspelt::cleanup;
use super::{codes, for_base, run, run_with, steps};
use crate::support::mongo::TestBase;

const DAY: i64 = 86_400_000;

pub(super) fn days_ago(days: i64) -> DateTime {
    DateTime::from_millis(DateTime::now().timestamp_millis() - days * DAY)
}

fn id_of(days: i64, n: u8) -> ObjectId {
    let seconds = u32::try_from(days_ago(days).timestamp_millis() / 1000).unwrap();
    let mut bytes = [n; 12];
    bytes[..4].copy_from_slice(&seconds.to_be_bytes());
    ObjectId::from_bytes(bytes)
}

async fn old_documents_go_and_nothing_else(version: u32) {
    let base = TestBase::new(version).await;
    let events = base.collection("events");
    let mut documents: Vec<Document> = (0..3000)
        .map(|n| doc! { "_id": n, "at": days_ago(100), "n": n })
        .collect();
    documents.extend((3000..4000).map(|n| doc! { "_id": n, "at": days_ago(1) }));
    documents.push(doc! { "_id": 5000, "at": days_ago(100), "pinned": true });
    documents.push(doc! { "_id": 5001, "at": "long ago" });
    documents.push(doc! { "_id": 5002 });
    documents.push(doc! { "_id": 5003, "at": Bson::Null });
    documents.push(doc! { "_id": 5004, "at": DateTime::from_millis(-DAY) });
    events.insert_many(documents).await.unwrap();
    events
        .create_index(IndexModel::builder().keys(doc! { "at": -1 }).build())
        .await
        .unwrap();
    let workspace = for_base(&base).task(
        "cleanup",
        "kind: cleanup\ntarget: app\noptions:\n  rules: [{ collection: events, field: at, older_than: 90d, keep: [{ pinned: true }] }]\n",
    );
    let counted = workspace
        .run(["run", "cleanup", "--dry-run", "--output", "json"])
        .expect(0);
    assert!(counted.stdout.contains("3000"), "{counted:#?}");
    assert_eq!(base.count("events", doc! {}).await, 4005);
    let done = run(&workspace, "cleanup", 0);
    assert_eq!(
        (&done["status"], &done["rows"]),
        (&"succeeded".into(), &3000.into()),
        "{done:#}"
    );
    assert_eq!(base.count("events", doc! {}).await, 1005);
    assert_eq!(
        base.count(
            "events",
            doc! { "_id": { "$in": [5000, 5001, 5002, 5003, 5004] } }
        )
        .await,
        5
    );
    assert_eq!(
        base.count("events", doc! { "_id": { "$gte": 3000, "$lt": 4000 } })
            .await,
        1000
    );
    let again = run(&workspace, "cleanup", 0);
    assert!(again["steps"].as_array().unwrap().is_empty(), "{again:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn old_documents_go_4_4() {
    old_documents_go_and_nothing_else(44).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn old_documents_go_5_0() {
    old_documents_go_and_nothing_else(50).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn old_documents_go_6_0() {
    old_documents_go_and_nothing_else(60).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ages_in_ids_numbers_and_embedded_documents() {
    let base = TestBase::new(60).await;
    let seconds = |days: i64| days_ago(days).timestamp_millis() / 1000;
    base.collection("ids")
        .insert_many((0..20_u8).map(|n| doc! { "_id": id_of(if n < 10 { 50 } else { 1 }, n) }))
        .await
        .unwrap();
    base.collection("ids")
        .insert_one(doc! { "_id": "text" })
        .await
        .unwrap();
    let numbers = base.collection("numbers");
    numbers
        .insert_many([
            doc! { "_id": 1, "m": { "at": seconds(50) } },
            doc! { "_id": 2, "m": { "at": seconds(50) as f64 } },
            doc! { "_id": 3, "m": { "at": seconds(1) } },
            doc! { "_id": 4, "m": { "at": f64::NAN } },
            doc! { "_id": 5, "m": { "at": f64::NEG_INFINITY } },
            doc! { "_id": 6, "m": { "at": days_ago(50) } },
            doc! { "_id": 7, "m": { "at": -5 } },
        ])
        .await
        .unwrap();
    numbers
        .create_index(IndexModel::builder().keys(doc! { "m.at": 1 }).build())
        .await
        .unwrap();
    let lists = base.collection("lists");
    lists
        .insert_one(doc! { "_id": 1, "at": [days_ago(50), days_ago(1)] })
        .await
        .unwrap();
    lists
        .insert_one(doc! { "_id": 2, "at": days_ago(50) })
        .await
        .unwrap();
    lists
        .create_index(IndexModel::builder().keys(doc! { "at": 1 }).build())
        .await
        .unwrap();
    let workspace = for_base(&base).task("cleanup", "kind: cleanup\ntarget: app\noptions:\n  rules:\n    - { collection: ids, field: _id, older_than: 30d }\n    - { collection: numbers, field: m.at, older_than: 30d, epoch: seconds }\n    - { collection: lists, field: at, older_than: 30d }\n");
    let done = run(&workspace, "cleanup", 1);
    assert_eq!(done["rows"], 12, "{done:#}");
    assert_eq!(base.ids("ids").await.len(), 11);
    assert_eq!(base.ids("numbers").await, ["3", "4", "5", "6", "7"]);
    assert_eq!(
        base.ids("lists").await,
        ["1", "2"],
        "an array has no single age"
    );
    let told = |done: &serde_json::Value| {
        let findings = done["findings"].as_array().unwrap();
        let found = findings.iter().find(|one| one["code"] == "cleanup.rule");
        found
            .unwrap_or_else(|| panic!("nothing is told: {done:#}"))
            .clone()
    };
    let finding = told(&done);
    let suggestion = finding["suggestion"].as_str().unwrap();
    assert!(
        suggestion.ends_with(
            ".getCollection(\"lists\").find({$or: [{at: {$type: \"array\"}}]}, {_id: 1}).limit(10)"
        ),
        "{finding:#}"
    );
    // The index remembers it when the document has gone, until it is made anew.
    lists.delete_one(doc! { "_id": 1 }).await.unwrap();
    let finding = told(&run(&workspace, "cleanup", 1));
    assert!(
        finding["message"]
            .as_str()
            .unwrap()
            .contains("drop it, and make it anew"),
        "{finding:#}"
    );
    lists.drop_index("at_1").await.unwrap();
    lists
        .create_index(IndexModel::builder().keys(doc! { "at": 1 }).build())
        .await
        .unwrap();
    let done = run(&workspace, "cleanup", 0);
    assert_eq!(done["rows"], 1, "{done:#}");
    assert!(base.ids("lists").await.is_empty());
    // What goes are documents, on the lines of progress as well.
    lists
        .insert_one(doc! { "_id": 3, "at": days_ago(50) })
        .await
        .unwrap();
    let said = workspace.run(["run", "cleanup", "--now"]).expect(0);
    let line = said
        .stderr
        .lines()
        .find(|line| line.contains("done delete"));
    assert!(
        line.is_some_and(|line| line.contains(", 1 document")),
        "{said:#?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn orphans_go_whatever_the_types_of_ids() {
    let base = TestBase::new(60).await;
    base.collection("users")
        .insert_many([
            doc! { "_id": 1 },
            doc! { "_id": 2_i64 },
            doc! { "_id": "x" },
        ])
        .await
        .unwrap();
    base.collection("posts")
        .insert_many([
            doc! { "_id": 1, "user": 1_i64 },
            doc! { "_id": 2.5, "user": 2.0 },
            doc! { "_id": "a", "user": "x" },
            doc! { "_id": "b", "user": "gone" },
            doc! { "_id": { "k": 1 }, "user": 9 },
            doc! { "_id": 7, "user": Bson::Null },
            doc! { "_id": 8 },
            doc! { "_id": 9, "user": [9, 10] },
            doc! { "_id": true, "user": 77, "keep": "me" },
        ])
        .await
        .unwrap();
    let workspace = for_base(&base).task("cleanup", "kind: cleanup\ntarget: app\noptions:\n  rules: [{ collection: posts, orphaned: { field: user, parent: users }, keep: [{ keep: me }] }]\n");
    let counted = workspace
        .run(["run", "cleanup", "--dry-run", "--output", "json"])
        .expect(0);
    assert_eq!(counted.code, 0);
    let done = run(&workspace, "cleanup", 0);
    assert_eq!(done["rows"], 2, "{done:#}");
    assert_eq!(base.count("posts", doc! {}).await, 7);
    assert_eq!(
        base.count("posts", doc! { "_id": { "$in": ["b", { "k": 1 }] } })
            .await,
        0
    );
    assert!(
        run(&workspace, "cleanup", 0)["steps"]
            .as_array()
            .unwrap()
            .is_empty()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parent_that_the_server_holds_to_be_equal_is_a_parent() {
    let base = TestBase::new(60).await;
    let decimal = |text: &str| Bson::Decimal128(text.parse().unwrap());
    base.collection("users")
        .insert_many([
            doc! { "_id": decimal("5.0") },
            doc! { "_id": 0 },
            doc! { "_id": { "shop": 1_i64, "no": 7 } },
            doc! { "_id": "several", "lines": [{ "no": 70 }, { "no": 71 }] },
        ])
        .await
        .unwrap();
    base.collection("posts")
        .insert_many([
            doc! { "_id": "decimal", "user": 5 },
            doc! { "_id": "minus", "user": -0.0 },
            doc! { "_id": "within", "user": { "shop": 1, "no": 7.0 } },
            doc! { "_id": "gone", "user": { "shop": 2, "no": 7 } },
            doc! { "_id": "gone too", "user": 6 },
        ])
        .await
        .unwrap();
    base.collection("notes")
        .insert_many([
            doc! { "_id": "listed", "line": 71 },
            doc! { "_id": "gone", "line": 72 },
        ])
        .await
        .unwrap();
    let workspace = for_base(&base).task("cleanup", "kind: cleanup\ntarget: app\noptions:\n  rules:\n    - { collection: posts, orphaned: { field: user, parent: users } }\n    - { collection: notes, orphaned: { field: line, parent: users, parent_field: lines.no } }\n");
    let done = run(&workspace, "cleanup", 0);
    assert_eq!(
        base.ids("posts").await,
        ["\"decimal\"", "\"minus\"", "\"within\""],
        "{done:#}"
    );
    assert_eq!(base.ids("notes").await, ["\"listed\""], "{done:#}");
    assert_eq!(done["rows"], 3, "{done:#}");
    let again = run(&workspace, "cleanup", 0);
    assert!(again["steps"].as_array().unwrap().is_empty(), "{again:#}");
}

/// What was counted when the plan was made need not be what is there when it is carried out.
#[tokio::test(flavor = "multi_thread")]
async fn no_more_go_than_max_rows_whatever_came_in_since_the_count() {
    let base = TestBase::new(60).await;
    for name in ["indexed", "tied", "read"] {
        let same = days_ago(100);
        let at = |n: i64| match name {
            "tied" => same,
            _ => days_ago(100 + n),
        };
        let documents = |from: i64, to: i64| {
            (from..to)
                .map(|n| doc! { "_id": n, "at": at(n) })
                .collect::<Vec<_>>()
        };
        let collection = base.collection(name);
        collection.insert_many(documents(0, 10)).await.unwrap();
        if name != "read" {
            let index = IndexModel::builder().keys(doc! { "at": 1 }).build();
            collection.create_index(index).await.unwrap();
        }
        let workspace = for_base(&base).task("cleanup", &format!("kind: cleanup\ntarget: app\noptions:\n  rules: [{{ collection: {name}, field: at, older_than: 30d, max_rows: 10 }}]\nthrottle: {{ pause_file: held }}\n"));
        let done = run_with(&workspace, "cleanup", async {
            collection.insert_many(documents(10, 15)).await.unwrap();
        })
        .await;
        let step = &done["steps"][0];
        assert_eq!(step["status"], "deferred", "{name}: {done:#}");
        assert!(
            step["error"].to_string().contains("max_rows"),
            "{name}: {done:#}"
        );
        // Of those that are of one age, none goes rather than another.
        let left = base.count(name, doc! {}).await;
        let expected = if name == "tied" { 15 } else { 5 };
        assert_eq!(left, expected, "{name}: {done:#}");
        assert_eq!(done["rows"], 15 - left, "{name}: {done:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_or_must_not_be_deleted_is_refused_by_name() {
    let base = TestBase::new(60).await;
    base.db
        .create_collection("capped")
        .capped(true)
        .size(4096)
        .await
        .unwrap();
    base.db
        .run_command(doc! { "create": "series", "timeseries": { "timeField": "at" } })
        .await
        .unwrap();
    base.db
        .run_command(doc! { "create": "seen", "viewOn": "events", "pipeline": [] })
        .await
        .unwrap();
    base.collection("events")
        .insert_many((0..10).map(|n| doc! { "_id": n, "x": 1 }))
        .await
        .unwrap();
    let workspace = for_base(&base)
        .task("cleanup", "kind: cleanup\ntarget: app\noptions:\n  rules:\n    - { collection: capped, where: { x: 1 } }\n    - { collection: series, where: { x: 1 } }\n    - { collection: seen, where: { x: 1 } }\n    - { collection: missing, where: { x: 1 } }\n    - { collection: events, where: { x: 1 }, max_rows: 9 }\n    - { collection: events, where: { x: 1 }, max_share: 50% }\n    - { collection: events, orphaned: { field: x, parent: nowhere } }\n  ttl:\n    - { collection: capped, field: at, expire_after: 1d }\n    - { collection: series, field: at, expire_after: 1d }\n    - { collection: seen, field: at, expire_after: 1d }\n")
        .task("integrity", "kind: integrity\ntarget: app\noptions:\n  validate: off\n  references: [{ collection: events, field: x, parent: seen }]\n  unique: [{ collection: seen, fields: [x] }, { collection: missing, fields: [x] }]\n");
    let done = workspace
        .run(["run", "cleanup", "--now", "--output", "json"])
        .json()["runs"][0]
        .clone();
    let text = done["findings"].to_string();
    for word in [
        "is capped",
        "time-series",
        "is a view",
        "no such collection",
        "max_rows",
        "max_share",
        "nowhere does not exist",
    ] {
        assert!(text.contains(word), "{word}: {done:#}");
    }
    for (name, word) in [
        ("capped", "is capped"),
        ("series", "time-series"),
        ("seen", "is a view"),
    ] {
        let said = done["findings"].as_array().unwrap().iter().any(|finding| {
            let message = finding["message"].as_str().unwrap();
            finding["code"] == "cleanup.rule"
                && message.starts_with(&format!("`ttl` for {}.{name} ", base.db.name()))
                && message.contains(word)
        });
        assert!(said, "{name}: {done:#}");
    }
    let done = workspace
        .run(["run", "integrity", "--now", "--output", "json"])
        .expect(1)
        .json();
    let text = done["runs"][0]["findings"].to_string();
    let view = format!(
        "a check names {}.seen, and it is a view; name the collection that it reads, events",
        base.db.name()
    );
    assert_eq!(text.matches(&view).count(), 2, "{done:#}");
    assert_eq!(text.matches("no such collection").count(), 1, "{done:#}");
    assert_eq!(base.count("events", doc! {}).await, 10);
}

/// Bytes are bytes: written as a list of numbers they would keep nothing.
async fn bytes_are_kept(version: u32) {
    let base = TestBase::new(version).await;
    let token = |n: u8| {
        Bson::Binary(mongodb::bson::Binary {
            subtype: mongodb::bson::spec::BinarySubtype::Generic,
            bytes: vec![n; 3],
        })
    };
    let documents = (0..9).map(|n| doc! { "_id": i32::from(n), "at": days_ago(100), "token": token(n), "n": if n == 1 { f64::NAN } else { 0.0 } });
    let events = base.collection("events");
    events
        .insert_many(documents.collect::<Vec<_>>())
        .await
        .unwrap();
    let workspace = for_base(&base).task("cleanup", "kind: cleanup\ntarget: app\noptions:\n  rules: [{ collection: events, field: at, older_than: 90d, keep: [{ token: { $binary: { base64: BwcH, subType: \"00\" } } }, { n: { $numberDouble: NaN } }] }]\n");
    let plan = workspace
        .run(["plan", "cleanup", "--output", "json"])
        .expect(0);
    for word in ["BinData(0, ", "n: NaN", "ISODate("] {
        assert!(plan.stdout.contains(word), "{word}: {plan:#?}");
    }
    let done = run(&workspace, "cleanup", 0);
    assert_eq!(done["rows"], 7, "{done:#}");
    let kept = doc! { "_id": { "$in": [1, 7] } };
    assert_eq!(base.count("events", kept).await, 2);
    assert_eq!(run(&workspace, "cleanup", 0)["rows"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_are_kept_4_4() {
    bytes_are_kept(44).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_are_kept_6_0() {
    bytes_are_kept(60).await;
}

async fn ttl(version: u32) {
    let base = TestBase::new(version).await;
    let sessions = base.collection("sessions");
    sessions
        .insert_many([
            doc! { "_id": "expired", "expires_at": days_ago(1) },
            doc! { "_id": "alive", "expires_at": days_ago(-1) },
        ])
        .await
        .unwrap();
    let task = |after: &str| {
        format!(
            "kind: cleanup\ntarget: app\noptions:\n  ttl: [{{ collection: sessions, field: expires_at, expire_after: {after} }}]\n"
        )
    };
    let workspace = for_base(&base).task("cleanup", &task("0s"));
    let plan = workspace.run(["plan", "cleanup"]).expect(0);
    let told = "1 document has expired: the server removes it at once";
    assert!(plan.stdout.contains(told), "{plan:#?}");
    let done = run(&workspace, "cleanup", 0);
    let object = format!("create_ttl {}.sessions", base.name);
    assert_eq!(steps(&done, "succeeded"), [object], "{done:#}");
    let began = std::time::Instant::now();
    while base.count("sessions", doc! {}).await > 1 {
        assert!(
            began.elapsed().as_secs() < 30,
            "waited in vain for the TTL monitor"
        );
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    let again = run(&workspace, "cleanup", 0);
    assert!(again["steps"].as_array().unwrap().is_empty(), "{again:#}");
    assert!(
        again["findings"].as_array().unwrap().is_empty(),
        "{again:#}"
    );
    let workspace = workspace.task("cleanup", &task("1h"));
    let plan = workspace.run(["plan", "cleanup"]).expect(0);
    let told = "no document has expired yet";
    assert!(plan.stdout.contains(told), "{plan:#?}");
    let changed = run(&workspace, "cleanup", 0);
    assert_eq!(
        steps(&changed, "succeeded"),
        [format!("alter_ttl {}.sessions", base.name)],
        "{changed:#}"
    );
    use futures_util::TryStreamExt;
    let indexes: Vec<IndexModel> = sessions
        .list_indexes()
        .await
        .unwrap()
        .try_collect()
        .await
        .unwrap();
    let after = indexes
        .iter()
        .find_map(|i| i.options.as_ref()?.expire_after);
    assert_eq!(after, Some(std::time::Duration::from_secs(3600)));
}

#[tokio::test(flavor = "multi_thread")]
async fn ttl_is_made_and_changed_4_4() {
    ttl(44).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ttl_is_made_and_changed_5_0() {
    ttl(50).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ttl_is_made_and_changed_6_0() {
    ttl(60).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ttl_in_the_way_of_another_index_is_explained() {
    for (version, action) in [(50, None), (60, Some("alter_ttl"))] {
        let base = TestBase::new(version).await;
        let sessions = base.collection("sessions");
        sessions
            .insert_one(doc! { "_id": 1, "expires_at": "tomorrow" })
            .await
            .unwrap();
        sessions
            .create_index(IndexModel::builder().keys(doc! { "expires_at": 1 }).build())
            .await
            .unwrap();
        let workspace = for_base(&base).task("cleanup", "kind: cleanup\ntarget: app\noptions:\n  ttl: [{ collection: sessions, field: expires_at, expire_after: 0s }]\n");
        let done = workspace
            .run(["run", "cleanup", "--now", "--output", "json"])
            .json()["runs"][0]
            .clone();
        match action {
            None => assert_eq!(codes(&done), ["ttl.conflict", "ttl.wrong_type"], "{done:#}"),
            Some(action) => {
                assert_eq!(
                    steps(&done, "succeeded"),
                    [format!("{action} {}.sessions", base.name)],
                    "{done:#}"
                );
                assert_eq!(codes(&run(&workspace, "cleanup", 0)), ["ttl.wrong_type"]);
            }
        }
    }
}

/// What maint keeps its own records in is no collection of the application's.
#[tokio::test(flavor = "multi_thread")]
async fn its_own_collections_are_left_alone() {
    let base = TestBase::new(60).await;
    for task in [
        "kind: cleanup\ntarget: app\noptions: { rules: [{ collection: maint.claims, where: { a: 1 } }] }\n",
        "kind: archive\ntarget: app\noptions: { rules: [{ collection: events, where: { a: 1 } }], destination: { collection: maint.archives } }\n",
    ] {
        let said = for_base(&base).task("t", task).run(["check"]).expect(2);
        assert!(said.stderr.contains("belongs to maint"), "{said:?}");
    }
}

/// An index of texts or places leaves out documents without one, whatever else it begins with.
#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_leaves_documents_out_is_not_walked_along() {
    for version in [44, 60] {
        let base = TestBase::new(version).await;
        for (name, keys) in [
            ("texts", doc! { "at": 1, "note": "text" }),
            ("places", doc! { "at": 1, "place": "2dsphere" }),
        ] {
            let documents = base.collection(name);
            let index = IndexModel::builder().keys(keys).build();
            documents.create_index(index).await.unwrap();
            let old = mongodb::bson::DateTime::from_millis(1_600_000_000_000);
            documents
                .insert_many((0..100).map(|n| match n % 2 {
                    0 => doc! { "_id": n, "at": old },
                    _ => doc! { "_id": n, "at": old, "note": "x", "place": { "type": "Point", "coordinates": [1, 1] } },
                }))
                .await
                .unwrap();
            let workspace = cleanup(
                &base,
                &format!("rules: [{{ collection: {name}, field: at, older_than: 90d }}]"),
            );
            let done = run(&workspace, "cleanup", 0);
            assert_eq!(done["rows"], 100, "{name}: {done:#}");
            assert_eq!(base.count(name, doc! {}).await, 0, "{name}");
        }
    }
}

/// The values that tell an age are compared by no collation; where another index is in the way of the one
/// that is suggested, another is suggested, which helps.
async fn an_index_of_a_collection_with_a_collation(version: u32) {
    let base = TestBase::new(version).await;
    let german = doc! { "locale": "de", "strength": 1 };
    let create = doc! { "create": "texts", "collation": german };
    base.db.run_command(create).await.unwrap();
    let old = (0..1000).map(|n| doc! { "_id": format!("Ä{n}"), "at": days_ago(100), "n": n });
    base.collection("texts").insert_many(old).await.unwrap();
    let index = IndexModel::builder().keys(doc! { "at": 1 }).build();
    base.collection("texts").create_index(index).await.unwrap();
    let rule = |name: &str| {
        format!("max_scan: 1kB\n  rules: [{{ collection: {name}, field: at, older_than: 90d }}]")
    };
    let done = run(&cleanup(&base, &rule("texts")), "cleanup", 0);
    assert_eq!(done["rows"], 1000, "{done:#}");
    assert_eq!(base.count("texts", doc! {}).await, 0);

    let old = (0..1000).map(|n| doc! { "_id": n, "at": days_ago(100) });
    base.collection("parts").insert_many(old).await.unwrap();
    let partial = doc! { "createIndexes": "parts", "indexes": [{ "key": { "at": 1 }, "name": "at_1", "partialFilterExpression": { "_id": { "$gt": 5 } } }] };
    base.db.run_command(partial).await.unwrap();
    let workspace = cleanup(&base, &rule("parts"));
    let refused = run(&workspace, "cleanup", 1);
    assert_eq!(codes(&refused), ["cleanup.index"], "{refused:#}");
    let told = &refused["findings"][0];
    let message = told["message"].as_str().unwrap();
    assert!(message.contains("(`at_1` is partial)"), "{message}");
    let suggested = told["suggestion"].as_str().unwrap();
    assert!(suggested.ends_with(".createIndex({at: -1})"), "{suggested}");
    let index = IndexModel::builder().keys(doc! { "at": -1 }).build();
    base.collection("parts").create_index(index).await.unwrap();
    let done = run(&workspace, "cleanup", 0);
    assert_eq!(done["rows"], 1000, "{done:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_of_a_collection_with_a_collation_4_4() {
    an_index_of_a_collection_with_a_collation(44).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_of_a_collection_with_a_collation_6_0() {
    an_index_of_a_collection_with_a_collation(60).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_greatest_id_there_can_be_ends_a_walk() {
    for version in [44, 60] {
        let base = TestBase::new(version).await;
        for task in ["cleanup", "archive"] {
            let ids = [Bson::MinKey, Bson::Int32(1), Bson::MaxKey];
            let old = ids.map(|id| doc! { "_id": id, "at": days_ago(100) });
            base.collection("ends").insert_many(old).await.unwrap();
            let more = match task {
                "archive" => ", destination: { collection: kept }",
                _ => "",
            };
            let workspace = for_base(&base).task(task, &format!("kind: {task}\ntarget: app\noptions: {{ rules: [{{ collection: ends, field: at, older_than: 90d }}]{more} }}\n"));
            let done = run(&workspace, task, 0);
            assert_eq!(done["rows"], 3, "{version} {task}: {done:#}");
            assert_eq!(base.count("ends", doc! {}).await, 0);
        }
    }
}
