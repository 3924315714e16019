//! Archived documents are the same to the byte, and none is lost or doubled.

use std::str::FromStr;
use std::time::{Duration, Instant};

use futures_util::TryStreamExt;
use mongodb::bson::oid::ObjectId;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{
    Binary, Bson, DateTime, Decimal128, Document, RawDocumentBuf, Regex, Timestamp, cstr, doc,
};

use super::{codes, for_base, run, run_with, workspace};
use crate::support::mongo::{Servers, TestBase, shared_set};

pub(super) async fn raw(db: &mongodb::Database, collection: &str) -> Vec<RawDocumentBuf> {
    let found = db
        .collection::<RawDocumentBuf>(collection)
        .find(doc! {})
        .sort(doc! { "_id": 1 })
        .await
        .unwrap();
    found.try_collect().await.unwrap()
}

pub(super) fn hostile() -> Vec<RawDocumentBuf> {
    let mut documents: Vec<RawDocumentBuf> = [
        doc! { "_id": 1, "d": Decimal128::from_str("1.10").unwrap(), "e": Decimal128::from_str("-0E-6176").unwrap(), "n": Decimal128::from_str("NaN").unwrap() },
        doc! { "_id": 2_i64, "old": DateTime::from_millis(-62_135_596_800_000), "future": DateTime::MAX },
        doc! { "_id": 3.5, "nan": f64::NAN, "zero": -0.0, "inf": f64::INFINITY },
        doc! { "_id": "b", "bin": Binary { subtype: BinarySubtype::UserDefined(0x80), bytes: vec![0, 255] }, "uuid": Binary { subtype: BinarySubtype::Uuid, bytes: vec![7; 16] } },
        doc! { "_id": ObjectId::from_bytes([1; 12]), "ref": { "$ref": "users", "$id": ObjectId::from_bytes([2; 12]), "$db": "x" } },
        doc! { "_id": { "k": [1] }, "$dollar": 1, "a.b": { "c.d": "ü" }, "": "empty", "日本語": "🦀\0" },
        doc! { "_id": true, "r": Regex { pattern: cstr!("^a/.*").to_owned(), options: cstr!("imx").to_owned() }, "t": Timestamp { time: 5, increment: 6 }, "js": Bson::JavaScriptCode("1".to_owned()), "min": Bson::MinKey, "s": Bson::Symbol("s".to_owned()), "u": Bson::Undefined },
        doc! { "_id": 9, "big": "x".repeat(15 << 20) },
    ]
    .into_iter()
    .map(|mut document| {
        document.insert("old_enough", true);
        RawDocumentBuf::try_from(&document).unwrap()
    })
    .collect();
    let mut twice = RawDocumentBuf::new();
    twice.append(cstr!("_id"), 77);
    twice.append(cstr!("old_enough"), true);
    twice.append(cstr!("x"), 1);
    twice.append(cstr!("x"), "again");
    documents.push(twice);
    documents
}

async fn kept_to_the_byte(version: u32) {
    let base = TestBase::new(version).await;
    let name = format!("{}-{}", "ev nts.ünï", "x".repeat(40));
    let events = base.db.collection::<RawDocumentBuf>(&name);
    for document in hostile() {
        // Only from 5.0 on may a name begin with a dollar, or have a dot.
        if version == 44 && document.get("$dollar").unwrap().is_some() {
            continue;
        }
        events.insert_one(document).await.unwrap();
    }
    base.collection(&name)
        .insert_one(doc! { "_id": "stays" })
        .await
        .unwrap();
    let mut before = raw(&base.db, &name).await;
    before.retain(|d| d.get_bool("old_enough").is_ok());
    let all = if version == 44 { 8 } else { 9 };
    assert_eq!(before.len(), all);
    let workspace = for_base(&base).task(
        "archive",
        &format!("kind: archive\ntarget: app\noptions:\n  rules: [{{ collection: \"{name}\", where: {{ old_enough: true }} }}]\n  destination: {{ collection: \"kept.ü\" }}\n"),
    );
    let done = run(&workspace, "archive", 0);
    assert_eq!(
        (&done["status"], &done["rows"]),
        (&"succeeded".into(), &all.into()),
        "{done:#}"
    );
    assert_eq!(base.ids(&name).await, ["\"stays\""]);
    let after = raw(&base.db, "kept.ü").await;
    let bytes = |list: &[RawDocumentBuf]| {
        list.iter()
            .map(|d| d.as_bytes().to_vec())
            .collect::<Vec<_>>()
    };
    assert!(bytes(&before) == bytes(&after), "something is not the same");
    assert!(
        run(&workspace, "archive", 0)["steps"]
            .as_array()
            .unwrap()
            .is_empty()
    );

    // Somebody else's document of the same _id is neither overwritten nor taken for a copy.
    base.collection(&name)
        .insert_many([
            doc! { "_id": 1, "old_enough": true },
            doc! { "_id": 5000, "old_enough": true },
        ])
        .await
        .unwrap();
    let kept = raw(&base.db, "kept.ü").await;
    let third = run(&workspace, "archive", 1);
    assert_eq!(
        (&third["status"], &third["rows"]),
        (&"failed".into(), &1.into()),
        "{third:#}"
    );
    assert_eq!(codes(&third), ["archive.differs"], "{third:#}");
    let why = third["steps"][0]["error"].as_str().unwrap();
    assert!(why.starts_with("1 document stays: "), "{why}");
    assert!(why.ends_with("; 1 document was archived"), "{why}");
    let now = raw(&base.db, "kept.ü").await;
    assert_eq!(now.len(), kept.len() + 1);
    // Now nothing but what cannot go is left: that is no success either, and changes nothing.
    let fourth = run(&workspace, "archive", 1);
    assert_eq!(
        (&fourth["status"], &fourth["rows"]),
        (&"failed".into(), &0.into()),
        "{fourth:#}"
    );
    assert_eq!(codes(&fourth), ["archive.differs"], "{fourth:#}");
    let after = raw(&base.db, "kept.ü").await;
    assert!(bytes(&now) == bytes(&after), "the destination was changed");
    assert_eq!(base.count(&name, doc! { "_id": 1 }).await, 1);
    // Once the other document is out of the way, it goes.
    base.collection("kept.ü")
        .delete_one(doc! { "_id": 1 })
        .await
        .unwrap();
    let fifth = run(&workspace, "archive", 0);
    assert_eq!(
        (&fifth["status"], &fifth["rows"]),
        (&"succeeded".into(), &1.into()),
        "{fifth:#}"
    );
    assert_eq!(base.ids(&name).await, ["\"stays\""]);
}

#[tokio::test(flavor = "multi_thread")]
async fn archived_documents_are_equal_to_the_byte_4_4() {
    kept_to_the_byte(44).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn archived_documents_are_equal_to_the_byte_5_0() {
    kept_to_the_byte(50).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn archived_documents_are_equal_to_the_byte_6_0() {
    kept_to_the_byte(60).await;
}

/// A server fills in an empty timestamp at the top of a document that is inserted: the copy has
/// it as it was all the same, and where that cannot be, the document stays and is named.
#[tokio::test(flavor = "multi_thread")]
async fn empty_timestamps_are_kept_as_they_are() {
    for version in [44, 60] {
        let base = TestBase::new(version).await;
        let empty = Timestamp {
            time: 0,
            increment: 0,
        };
        base.collection("events")
            .insert_many([
                doc! { "_id": 1, "a": 1, "t": 1, "z": 1, "inner": { "t": empty } },
                doc! { "_id": 2, "a": 1 },
                doc! { "_id": empty, "a": 1 },
            ])
            .await
            .unwrap();
        // Only an update leaves it empty.
        base.collection("events")
            .update_one(doc! { "_id": 1 }, doc! { "$set": { "t": empty } })
            .await
            .unwrap();
        let before = raw(&base.db, "events").await;
        assert_eq!(before[0].get_timestamp("t").unwrap(), empty);
        let workspace = for_base(&base).task(
            "archive",
            "kind: archive\ntarget: app\noptions:\n  rules: [{ collection: events, where: { a: 1 } }]\n  destination: { collection: kept }\n",
        );
        let done = run(&workspace, "archive", 0);
        assert_eq!(
            (&done["status"], &done["rows"]),
            (&"succeeded".into(), &3.into()),
            "{done:#}"
        );
        assert_eq!(base.ids("events").await, [""; 0]);
        let after = raw(&base.db, "kept").await;
        let bytes = |list: &[RawDocumentBuf]| {
            list.iter()
                .map(|d| d.as_bytes().to_vec())
                .collect::<Vec<_>>()
        };
        assert!(bytes(&before) == bytes(&after), "{before:?} {after:?}");
    }
}

/// What was counted when the plan was made need not be what is there when it is carried out.
#[tokio::test(flavor = "multi_thread")]
async fn no_more_are_archived_than_max_rows_whatever_came_in_since_the_count() {
    let base = TestBase::new(60).await;
    for (name, rule) in [
        ("indexed", "field: n, older_than: 30d, epoch: seconds"),
        ("read", "where: { old: true }"),
    ] {
        let documents = |from: i64, to: i64| {
            (from..to)
                .map(|n| doc! { "_id": n, "n": 1_500_000_000 + n, "old": true })
                .collect::<Vec<_>>()
        };
        let collection = base.collection(name);
        collection.insert_many(documents(0, 10)).await.unwrap();
        let index = mongodb::IndexModel::builder().keys(doc! { "n": 1 }).build();
        collection.create_index(index).await.unwrap();
        let workspace = for_base(&base).task("archive", &format!("kind: archive\ntarget: app\noptions:\n  rules: [{{ collection: {name}, {rule}, max_rows: 10 }}]\n  destination: {{ collection: \"kept {name}\" }}\nthrottle: {{ pause_file: held }}\n"));
        let done = run_with(&workspace, "archive", async {
            collection.insert_many(documents(10, 15)).await.unwrap();
        })
        .await;
        assert_eq!(done["steps"][0]["status"], "deferred", "{name}: {done:#}");
        assert_eq!(done["rows"], 10, "{name}: {done:#}");
        assert_eq!(base.count(name, doc! {}).await, 5, "{name}");
        let kept = base.count(&format!("kept {name}"), doc! {}).await;
        assert_eq!(kept, 10, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_down_and_kills_lose_and_double_nothing() {
    let set = Servers::set(60).await;
    let db = set.root().await.database("app");
    let events = db.collection::<Document>("events");
    for from in (0..20_000).step_by(5000) {
        events.insert_many((from..from + 5000).map(|n| doc! { "_id": n, "at": DateTime::from_millis(1_000_000_000_000 + i64::from(n / 1700)), "pad": "x".repeat(100) })).await.unwrap();
    }
    events
        .create_index(
            mongodb::IndexModel::builder()
                .keys(doc! { "at": 1 })
                .build(),
        )
        .await
        .unwrap();
    let before: Vec<Vec<u8>> = raw(&db, "events")
        .await
        .iter()
        .map(|d| d.as_bytes().to_vec())
        .collect();
    let task = "kind: archive\ntarget: app\noptions:\n  rules: [{ collection: events, field: at, older_than: 90d }]\n  destination: { database: old }\n";
    let workspace = workspace(&set.maint_url("app")).task("archive", task);
    let kept = set.root().await.database("old");
    for round in 0..3 {
        let goal = 3000 * (round + 1);
        let mut child = workspace.begins(["run", "archive", "--now", "--output", "json"]);
        let began = Instant::now();
        while kept
            .collection::<Document>("events")
            .estimated_document_count()
            .await
            .unwrap()
            < goal
        {
            assert!(
                began.elapsed() < Duration::from_secs(60),
                "waited in vain for {goal} archived documents"
            );
            assert!(
                child.try_wait().unwrap().is_none(),
                "it ended before it was disturbed"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        if round == 2 {
            set.step_down().await;
            assert_eq!(child.wait().unwrap().code(), Some(0));
        } else {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
    let done = run(&workspace, "archive", 0);
    assert_eq!(done["status"], "succeeded", "{done:#}");
    assert_eq!(events.count_documents(doc! {}).await.unwrap(), 0);
    let after: Vec<Vec<u8>> = raw(&kept, "events")
        .await
        .iter()
        .map(|d| d.as_bytes().to_vec())
        .collect();
    assert!(
        before == after,
        "{} before, {} after",
        before.len(),
        after.len()
    );
}

/// Two collections may have documents that are equal to the byte: in one archive they would be one, and
/// nobody would know whose.
async fn equal_ones_of_two_sources(version: u32) {
    let base = TestBase::new(version).await;
    let old = (0..10).map(|n| doc! { "_id": n, "at": DateTime::from_millis(1_000_000_000_001) });
    let old: Vec<Document> = old.collect();
    for name in ["one", "other"] {
        base.collection(name).insert_many(&old).await.unwrap();
    }
    let rule = |name: &str| {
        format!(
            "kind: archive\ntarget: app\noptions:\n  rules: [{{ collection: {name}, field: at, older_than: 90d }}]\n  destination: {{ collection: kept }}\n"
        )
    };
    let workspace = for_base(&base)
        .task("one", &rule("one"))
        .task("other", &rule("other"));
    assert_eq!(run(&workspace, "one", 0)["rows"], 10);
    // What was brought home by hand goes there again: it is known to be its own.
    base.collection("one").insert_many(&old).await.unwrap();
    assert_eq!(run(&workspace, "one", 0)["rows"], 10);
    let single = doc! { "_id": "its own", "at": DateTime::from_millis(1_000_000_000_001) };
    base.collection("other").insert_one(single).await.unwrap();
    for rows in [1, 0] {
        let refused = run(&workspace, "other", 1);
        assert_eq!(refused["rows"], rows, "{refused:#}");
        assert_eq!(codes(&refused), ["archive.differs"], "{refused:#}");
        let told = refused["findings"][0]["message"].as_str().unwrap();
        assert!(told.contains(".one of target app"), "{told}");
        assert_eq!(base.count("other", doc! {}).await, 10);
        assert_eq!(base.count("kept", doc! {}).await, 11);
    }
    // The collection that was renamed is the same.
    let name = base.db.name();
    let rename =
        doc! { "renameCollection": format!("{name}.other"), "to": format!("{name}.renamed") };
    let admin = shared_set(version).root().await.database("admin");
    admin.run_command(rename).await.unwrap();
    base.collection("kept")
        .delete_many(doc! { "_id": { "$type": "int" } })
        .await
        .unwrap();
    let workspace = workspace.task("other", &rule("renamed"));
    let done = run(&workspace, "other", 0);
    assert_eq!(done["rows"], 10, "{done:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_documents_of_two_sources_are_not_one_4_4() {
    equal_ones_of_two_sources(44).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_documents_of_two_sources_are_not_one_6_0() {
    equal_ones_of_two_sources(60).await;
}
