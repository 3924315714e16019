//! Dates that stand for never are nobody's age: what has one stays, and is told.

use mongodb::bson::oid::ObjectId;
use mongodb::bson::{DateTime, doc};
use mongodb::{IndexModel, bson};
use serde_json::json;

use super::cleanup::days_ago;
use super::misspelt::cleanup;
use super::{codes, for_base, run};
use crate::support::mongo::TestBase;

/// The zero time of Go and .NET, that of Unix, and the last one that is none.
const NEVER: [i64; 4] = [-62_135_596_800_000, 0, -1, 315_532_799_999];
const FIRST: i64 = 315_532_800_000;

async fn users(base: &TestBase, field: &str) {
    let users = base.collection("users");
    let none = NEVER.iter().enumerate();
    let none =
        none.map(|(n, at)| doc! { "_id": format!("lives {n}"), field: DateTime::from_millis(*at) });
    users.insert_many(none).await.unwrap();
    let old = (0..5).map(|n| doc! { "_id": format!("old {n}"), field: days_ago(100) });
    users.insert_many(old).await.unwrap();
    users
        .insert_one(doc! { "_id": "oldest", field: DateTime::from_millis(FIRST) })
        .await
        .unwrap();
}

async fn lives(base: &TestBase) -> usize {
    let ids = base.ids("users").await;
    assert!(ids.iter().all(|id| id.contains("lives")), "{ids:?}");
    ids.len()
}

async fn in_cleanup(version: u32) {
    for indexed in [true, false] {
        let base = TestBase::new(version).await;
        users(&base, "deleted_at").await;
        if indexed {
            let index = IndexModel::builder().keys(doc! { "deleted_at": 1 }).build();
            base.collection("users").create_index(index).await.unwrap();
        }
        let rules = "rules: [{ collection: users, field: deleted_at, older_than: 30d }]";
        let done = run(&cleanup(&base, rules), "cleanup", 0);
        assert_eq!(done["rows"], 6, "{done:#}");
        assert_eq!(codes(&done), ["cleanup.types"], "{done:#}");
        let told = done["findings"][0]["message"].as_str().unwrap();
        assert!(told.contains("times before 1980, as 0001-01-01"), "{told}");
        assert_eq!(lives(&base).await, 4);
        let again = run(&cleanup(&base, rules), "cleanup", 0);
        assert_eq!(codes(&again), ["cleanup.types"], "{again:#}");
        assert_eq!(again["steps"], json!([]), "{again:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_never_deleted_stays_4_4() {
    in_cleanup(44).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_never_deleted_stays_6_0() {
    in_cleanup(60).await;
}

/// A rule that means dates before 1980 goes by them, and not by those that stand for never.
#[tokio::test(flavor = "multi_thread")]
async fn old_dates_go_where_they_are_meant() {
    for version in [44, 60] {
        let base = TestBase::new(version).await;
        let at = |text: &str| DateTime::parse_rfc3339_str(text).unwrap();
        let papers = base.collection("papers");
        for (id, date) in [
            ("goes 1", "1931-02-03T00:00:00Z"),
            ("goes 2", "1969-07-20T20:17:00Z"),
            ("goes 3", "1971-01-01T00:00:00Z"),
            ("stays 1", "0001-01-01T00:00:00Z"),
            ("stays 2", "1970-01-01T00:00:00Z"),
            ("stays 3", "1969-12-31T23:00:00Z"),
            ("stays 4", "1999-01-01T00:00:00Z"),
            ("stays 5", "1899-12-30T00:00:00Z"),
        ] {
            let paper = doc! { "_id": id, "at": at(date) };
            papers.insert_one(paper).await.unwrap();
        }
        let index = IndexModel::builder().keys(doc! { "at": 1 }).build();
        papers.create_index(index).await.unwrap();
        let years = (DateTime::now().timestamp_millis()
            - at("1979-12-01T00:00:00Z").timestamp_millis())
            / 31_557_600_000;
        let rules = format!(
            "rules: [{{ collection: papers, field: at, older_than: {}y }}]",
            years + 1
        );
        let done = run(&cleanup(&base, &rules), "cleanup", 0);
        assert_eq!(done["rows"], 3, "{done:#}");
        assert_eq!(codes(&done), ["cleanup.types"], "{done:#}");
        let ids = base.ids("papers").await;
        assert!(ids.iter().all(|id| id.contains("stays")), "{ids:?}");
    }
}

/// ObjectIds that were made up have no time.
#[tokio::test(flavor = "multi_thread")]
async fn made_up_ids_stay() {
    for version in [44, 60] {
        let base = TestBase::new(version).await;
        let users = base.collection("users");
        let made_up =
            (1..4).map(|n| doc! { "_id": ObjectId::parse_str(format!("{n:024x}")).unwrap() });
        users.insert_many(made_up).await.unwrap();
        let old = u32::try_from(days_ago(100).timestamp_millis() / 1000).unwrap();
        let mut bytes = [7; 12];
        bytes[..4].copy_from_slice(&old.to_be_bytes());
        let old = doc! { "_id": ObjectId::from_bytes(bytes) };
        users.insert_one(old).await.unwrap();
        let rules = "rules: [{ collection: users, field: _id, older_than: 30d }]";
        let done = run(&cleanup(&base, rules), "cleanup", 0);
        assert_eq!(done["rows"], 1, "{done:#}");
        assert_eq!(codes(&done), ["cleanup.types"], "{done:#}");
        assert_eq!(base.count("users", doc! {}).await, 3);
    }
}

async fn in_archive(version: u32) {
    let folder = tempfile::tempdir().unwrap();
    let files = format!("file://{}", folder.path().display());
    for destination in [json!({ "collection": "kept" }), json!({ "files": files })] {
        let base = TestBase::new(version).await;
        users(&base, "deleted_at").await;
        let options = json!({ "rules": [{ "collection": "users", "field": "deleted_at", "older_than": "30d" }], "destination": destination });
        let workspace = for_base(&base).task(
            "archive",
            &format!("kind: archive\ntarget: app\noptions: {options}\n"),
        );
        let done = run(&workspace, "archive", 0);
        assert_eq!(done["rows"], 6, "{done:#}");
        assert_eq!(codes(&done), ["cleanup.types"], "{done:#}");
        assert_eq!(lives(&base).await, 4);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_never_deleted_is_not_archived_4_4() {
    in_archive(44).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_never_deleted_is_not_archived_6_0() {
    in_archive(60).await;
}

async fn in_ttl(version: u32) {
    let base = TestBase::new(version).await;
    users(&base, "expires_at").await;
    let users = base.collection("users");
    let ttl = "ttl: [{ collection: users, field: expires_at, expire_after: 10d }]";
    let indexes = async || users.list_index_names().await.unwrap().len();
    let done = run(&cleanup(&base, ttl), "cleanup", 1);
    assert_eq!(codes(&done), ["ttl.wrong_type"], "{done:#}");
    let told = done["findings"][0]["message"].as_str().unwrap();
    assert!(
        told.contains("would remove those documents at once"),
        "{told}"
    );
    assert_eq!(indexes().await, 1);
    // One that is there is not changed either.
    let later = mongodb::options::IndexOptions::builder();
    let later = later.expire_after(std::time::Duration::from_secs(1_700_000_000));
    let index = IndexModel::builder().keys(doc! { "expires_at": 1 });
    let index = index.options(later.build()).build();
    let before_1980 = doc! { "expires_at": { "$lt": DateTime::from_millis(FIRST) } };
    users.delete_many(before_1980.clone()).await.unwrap();
    users.create_index(index).await.unwrap();
    let never = doc! { "_id": "lives", "expires_at": DateTime::from_millis(FIRST - 1) };
    users.insert_one(never).await.unwrap();
    let done = run(&cleanup(&base, ttl), "cleanup", 1);
    assert_eq!(codes(&done), ["ttl.wrong_type"], "{done:#}");
    // What is said to help does.
    let none = doc! { "$unset": { "expires_at": "" } };
    users.update_many(before_1980, none).await.unwrap();
    let done = run(&cleanup(&base, ttl), "cleanup", 0);
    assert_eq!(done["status"], "succeeded", "{done:#}");
    let listed = base
        .db
        .run_command(doc! { "listIndexes": "users" })
        .await
        .unwrap();
    let listed = bson::Bson::Document(listed).to_string();
    assert!(
        listed.contains("\"expireAfterSeconds\": 864000"),
        "{listed}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_never_expires_keeps_an_index_from_being_made_4_4() {
    in_ttl(44).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_never_expires_keeps_an_index_from_being_made_6_0() {
    in_ttl(60).await;
}
