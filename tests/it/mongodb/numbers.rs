//! Times that are numbers: in another unit, in none, and in several.

use mongodb::bson::doc;

use super::misspelt::{cleanup, finding};
use super::run;
use crate::support::mongo::TestBase;

/// Numbers that count another unit than the rule says are all old, or never.
#[tokio::test(flavor = "multi_thread")]
async fn numbers_of_another_unit_are_refused() {
    let base = TestBase::new(60).await;
    let events = base.collection("events");
    let now = chrono::Utc::now().timestamp();
    let documents = (0..20).map(|n| doc! { "_id": n, "at": now - n * 86_400 + 3_600 });
    events.insert_many(documents).await.unwrap();
    for (epoch, meant) in [("millis", true), ("micros", true), ("seconds", false)] {
        let workspace = cleanup(
            &base,
            &format!(
                "rules: [{{ collection: events, field: at, older_than: 10d, epoch: {epoch} }}]"
            ),
        );
        if meant {
            let done = run(&workspace, "cleanup", 1);
            let told = finding(&done, "cleanup.rule")["message"].as_str().unwrap();
            assert!(told.contains("is it `epoch: seconds`?"), "{told}");
            assert_eq!(base.count("events", doc! {}).await, 20);
        } else {
            run(&workspace, "cleanup", 0);
            assert_eq!(base.count("events", doc! {}).await, 11);
        }
    }
}

/// Numbers that are no times in any unit are not taken for old ones.
#[tokio::test(flavor = "multi_thread")]
async fn numbers_that_are_no_times_are_refused() {
    let base = TestBase::new(60).await;
    let events = base.collection("events");
    for (begins, epoch) in [
        (20_260_101_i64, "seconds"),
        (20_000, "millis"),
        (202_601, "seconds"),
    ] {
        events.drop().await.unwrap();
        let documents = (0..20).map(|n| doc! { "_id": n, "at": begins + n });
        events.insert_many(documents).await.unwrap();
        let workspace = cleanup(
            &base,
            &format!(
                "rules: [{{ collection: events, field: at, older_than: 10d, epoch: {epoch} }}]"
            ),
        );
        let done = run(&workspace, "cleanup", 1);
        let told = finding(&done, "cleanup.rule")["message"].as_str().unwrap();
        assert!(told.contains("what it counts is not known"), "{told}");
        assert_eq!(base.count("events", doc! {}).await, 20);
    }
}

/// Beside times of our days, numbers of a smaller unit, or of none, are not old: they stay, and are told.
#[tokio::test(flavor = "multi_thread")]
async fn numbers_of_several_units_stay() {
    let base = TestBase::new(60).await;
    let events = base.collection("events");
    let now = chrono::Utc::now().timestamp();
    for (epoch, unit) in [("seconds", 1), ("millis", 1_000), ("micros", 1_000_000)] {
        for indexed in [false, true] {
            events.drop().await.unwrap();
            if indexed {
                let index = mongodb::IndexModel::builder()
                    .keys(doc! { "at": 1 })
                    .build();
                events.create_index(index).await.unwrap();
            }
            let mut documents = vec![
                doc! { "_id": "new", "at": now * unit },
                doc! { "_id": "old", "at": (now - 40 * 86_400) * unit },
                doc! { "_id": "none", "at": 0 },
                doc! { "_id": "never", "at": -1 },
                doc! { "_id": "date", "at": 20_260_101 },
            ];
            if unit > 1 {
                documents.push(doc! { "_id": "smaller", "at": now * unit / 1_000 });
            }
            events.insert_many(&documents).await.unwrap();
            let workspace = cleanup(
                &base,
                &format!(
                    "rules: [{{ collection: events, field: at, older_than: 10d, epoch: {epoch} }}]"
                ),
            );
            let done = run(&workspace, "cleanup", 0);
            assert_eq!(done["rows"], 1, "{epoch} {indexed}: {done:#}");
            let told = finding(&done, "cleanup.types");
            assert!(
                told["message"]
                    .as_str()
                    .unwrap()
                    .contains("nobody knows how old"),
                "{told}"
            );
            assert!(
                told["suggestion"]
                    .as_str()
                    .unwrap()
                    .contains("$lt: 315532800"),
                "{told}"
            );
            for (id, left) in [
                ("old", 0),
                ("none", 1),
                ("never", 1),
                ("new", 1),
                ("date", 1),
            ] {
                assert_eq!(
                    base.count("events", doc! { "_id": id }).await,
                    left,
                    "{id} {epoch}"
                );
            }
            assert_eq!(
                base.count("events", doc! {}).await,
                documents.len() as u64 - 1
            );
            events
                .delete_many(doc! { "_id": { "$in": ["date", "smaller", "none", "never"] } })
                .await
                .unwrap();
            let done = run(&workspace, "cleanup", 0);
            assert!(done["findings"].as_array().unwrap().is_empty(), "{done:#}");
        }
    }
}

/// Numbers of a finer unit never become old, which nobody would see.
#[tokio::test(flavor = "multi_thread")]
async fn numbers_of_a_finer_unit_are_told() {
    let base = TestBase::new(60).await;
    let events = base.collection("events");
    let old = chrono::Utc::now().timestamp() - 100 * 86_400;
    for (epoch, unit, finer) in [("seconds", 1, "millis"), ("millis", 1_000, "micros")] {
        events.drop().await.unwrap();
        let documents = [
            doc! { "_id": "old", "at": old * unit },
            doc! { "_id": "finer", "at": old * unit * 1_000 },
            // A time that stands for never is no mistake.
            doc! { "_id": "never", "at": 9_999_999_999_999_i64 },
        ];
        events.insert_many(documents).await.unwrap();
        let rules = format!(
            "rules: [{{ collection: events, field: at, older_than: 10d, epoch: {epoch} }}]"
        );
        let done = run(&cleanup(&base, &rules), "cleanup", 0);
        assert_eq!(done["rows"], 1, "{done:#}");
        let told = finding(&done, "cleanup.types")["message"].as_str().unwrap();
        let words = format!("as {finer} times of our days");
        assert!(told.contains(&words), "{told}");
        events.drop().await.unwrap();
        let documents = [
            doc! { "_id": "old", "at": old * unit },
            doc! { "_id": "never", "at": 9_999_999_999_999_i64 },
        ];
        events.insert_many(documents).await.unwrap();
        let done = run(&cleanup(&base, &rules), "cleanup", 0);
        assert!(done["findings"].as_array().unwrap().is_empty(), "{done:#}");
    }
}
