//! Documents whose `_id` is text that is not valid UTF-8, as any client may write it: nobody can ask for
//! one, and it keeps no other from going.

use mongodb::IndexModel;
use mongodb::bson::{RawDocumentBuf, doc};
use serde_json::json;

use super::archive::raw;
use super::cleanup::days_ago;
use super::misspelt::cleanup;
use super::{codes, for_base, run};
use crate::support::mongo::TestBase;

/// Seven documents, and one like that: the first by age, or by `_id` the last but one.
async fn events(base: &TestBase, first: bool) {
    let days = if first { 300 } else { 100 };
    let odd = doc! { "insert": "events", "documents": [{ "_id": "#", "at": days_ago(days) }] };
    let odd = RawDocumentBuf::try_from(&odd).unwrap();
    let mut odd = odd.into_bytes();
    let place = odd.iter().position(|byte| *byte == b'#').unwrap();
    odd[place] = 0xff;
    let odd = RawDocumentBuf::from_bytes(odd).unwrap();
    // Drivers refuse to insert it, and send it all the same.
    base.db.run_raw_command(odd).await.unwrap();
    let new = (0..7).map(|n| doc! { "_id": n, "at": days_ago(200 - n) });
    base.collection("events").insert_many(new).await.unwrap();
    if first {
        let index = IndexModel::builder().keys(doc! { "at": 1 }).build();
        base.collection("events").create_index(index).await.unwrap();
    }
}

async fn archived(version: u32) {
    let folder = tempfile::tempdir().unwrap();
    let files = format!("file://{}", folder.path().display());
    for first in [true, false] {
        for destination in [json!({ "collection": "kept" }), json!({ "files": files })] {
            let base = TestBase::new(version).await;
            events(&base, first).await;
            let options = json!({ "rules": [{ "collection": "events", "field": "at", "older_than": "30d" }], "destination": destination });
            let workspace = for_base(&base).task(
                "archive",
                &format!("kind: archive\ntarget: app\noptions: {options}\n"),
            );
            for rows in [7, 0] {
                let done = run(&workspace, "archive", 1);
                assert_eq!(done["rows"], rows, "{done:#}");
                assert_eq!(codes(&done), ["archive.differs"], "{done:#}");
                let told = done["findings"][0]["message"].as_str().unwrap();
                assert!(told.starts_with("1 document stays: "), "{told}");
                assert!(told.contains("not valid UTF-8"), "{told}");
                assert_eq!(raw(&base.db, "events").await.len(), 1);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_is_no_text_is_told_and_the_others_are_archived_4_4() {
    archived(44).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_is_no_text_is_told_and_the_others_are_archived_6_0() {
    archived(60).await;
}

/// A range needs no ids.
#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_is_no_text_goes_along_an_index() {
    for version in [44, 60] {
        let base = TestBase::new(version).await;
        events(&base, true).await;
        let rules = "rules: [{ collection: events, field: at, older_than: 30d }]";
        let done = run(&cleanup(&base, rules), "cleanup", 0);
        assert_eq!(done["rows"], 8, "{done:#}");
        assert_eq!(base.count("events", doc! {}).await, 0);
    }
}

/// A list in an `_id` whose places are not numbered 0, 1, 2: read and written again it is another.
async fn odd_list(base: &TestBase) {
    let id = doc! { "id": { "5": 1, "x": 2 } };
    let odd = doc! { "insert": "events", "documents": [{ "_id": id, "at": days_ago(100) }] };
    let mut odd = RawDocumentBuf::try_from(&odd).unwrap().into_bytes();
    let document = [3, b'i', b'd', 0];
    let place = odd.windows(4).position(|part| part == document).unwrap();
    odd[place] = 4;
    let odd = RawDocumentBuf::from_bytes(odd).unwrap();
    base.db.run_raw_command(odd).await.unwrap();
}

/// Without an index documents go by their ids: all that can be asked for, and the others are told.
#[tokio::test(flavor = "multi_thread")]
async fn ids_that_nobody_can_ask_for_keep_no_other_from_going() {
    let base = TestBase::new(60).await;
    events(&base, false).await;
    odd_list(&base).await;
    let rules = "rules: [{ collection: events, field: at, older_than: 30d }]";
    for rows in [7, 0] {
        let done = run(&cleanup(&base, rules), "cleanup", 1);
        assert_eq!(done["rows"], rows, "{done:#}");
        assert_eq!(codes(&done), ["cleanup.unreadable"], "{done:#}");
        let told = done["findings"][0]["message"].as_str().unwrap();
        assert!(told.starts_with("2 documents stay: "), "{told}");
        assert_eq!(raw(&base.db, "events").await.len(), 2);
    }
    // An archive says why, and leaves no copy of it.
    let options = json!({ "rules": [{ "collection": "events", "field": "at", "older_than": "30d" }], "destination": { "collection": "kept" } });
    let workspace = for_base(&base).task(
        "archive",
        &format!("kind: archive\ntarget: app\noptions: {options}\n"),
    );
    let done = run(&workspace, "archive", 1);
    let told = done["findings"][0]["message"].as_str().unwrap();
    assert!(told.contains("not numbered 0, 1, 2"), "{told}");
    assert_eq!(raw(&base.db, "kept").await.len(), 0);
    // Along an index nobody has to ask for them.
    let index = IndexModel::builder().keys(doc! { "at": 1 }).build();
    base.collection("events").create_index(index).await.unwrap();
    let done = run(&cleanup(&base, rules), "cleanup", 0);
    assert_eq!(done["rows"], 2, "{done:#}");
}
