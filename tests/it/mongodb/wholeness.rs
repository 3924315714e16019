//! What `integrity` asks of documents is answered as the server itself would.

use mongodb::IndexModel;
use mongodb::bson::{Bson, Document, bson, doc};
use mongodb::options::IndexOptions;
use serde_json::json;

use super::{for_base, run};
use crate::support::mongo::TestBase;

/// Fields, and documents that have them in one way or another.
fn cases() -> Vec<(&'static [&'static str], Vec<Document>)> {
    let a = |value: Bson| doc! { "a": value };
    let compound: &[&str] = &["a", "b.c"];
    let below: &[&str] = &["a.x", "a.y"];
    vec![
        (&["a"], vec![a(bson!(["p", "q"])), a(bson!(["p", "r"]))]),
        (&["a"], vec![a(bson!(["p", "q"])), a(bson!("q"))]),
        (&["a"], vec![a(bson!(["p", "p"])), a(bson!("q"))]),
        (&["a"], vec![a(bson!(["p", "q"])), a(bson!(["r"]))]),
        (&["a"], vec![a(bson!([])), a(bson!(null))]),
        (&["a"], vec![a(bson!([])), a(bson!([]))]),
        (&["a"], vec![a(bson!([null])), doc! {}]),
        (&["a"], vec![a(bson!(null)), doc! {}]),
        (&["a"], vec![a(bson!([[1, 2]])), a(bson!([[1], 2]))]),
        (&["a"], vec![a(bson!([[1, 2]])), a(bson!([1, 2]))]),
        (&["a"], vec![a(bson!([[1, 2]])), a(bson!([[1, 2], 3]))]),
        (&["a"], vec![a(bson!(1)), a(bson!(1.0))]),
        (
            &["a"],
            vec![a(bson!({ "x": 1, "y": 2 })), a(bson!({ "y": 2, "x": 1 }))],
        ),
        (&["a"], vec![a(bson!({ "x": 1 })), a(bson!({ "x": 1.0 }))]),
        (
            compound,
            vec![doc! { "a": 1 }, doc! { "a": 1, "b": { "c": null } }],
        ),
        (compound, vec![doc! { "a": 1 }, doc! { "a": 1, "b": 7 }]),
        (compound, vec![doc! { "a": 1 }, doc! { "a": 2 }]),
        (
            compound,
            vec![
                doc! { "a": 2, "b": [{ "c": 1 }, { "c": 2 }] },
                doc! { "a": 2, "b": { "c": 1 } },
            ],
        ),
        (
            compound,
            vec![
                doc! { "a": 2, "b": [{ "c": 1 }, { "d": 2 }] },
                doc! { "a": 2 },
            ],
        ),
        (
            compound,
            vec![
                doc! { "a": 2, "b": [{ "c": 1 }, 5] },
                doc! { "a": 2, "b": [] },
            ],
        ),
        (
            compound,
            vec![
                doc! { "a": [1, 2], "b": { "c": 3 } },
                doc! { "a": [2, 5], "b": { "c": 3 } },
            ],
        ),
        (
            compound,
            vec![
                doc! { "a": [1, 2], "b": { "c": 3 } },
                doc! { "a": [2, 5], "b": { "c": 4 } },
            ],
        ),
        (
            below,
            vec![
                doc! { "a": [{ "x": 1, "y": 2 }, { "x": 3, "y": 4 }] },
                doc! { "a": [{ "x": 1, "y": 4 }] },
            ],
        ),
        (
            below,
            vec![
                doc! { "a": [{ "x": 1, "y": 2 }, { "x": 3, "y": 4 }] },
                doc! { "a": { "x": 3, "y": 4 } },
            ],
        ),
        (
            below,
            vec![
                doc! { "a": [{ "x": [1, 2], "y": 2 }] },
                doc! { "a": { "x": 2, "y": 2 } },
            ],
        ),
        (
            &["a.b.c"],
            vec![
                doc! { "a": [{ "b": [{ "c": 1 }, { "c": 2 }] }] },
                doc! { "a": { "b": { "c": [2, 3] } } },
            ],
        ),
        (
            &["a.b.c"],
            vec![doc! { "a": [{ "b": [{ "c": 1 }] }, {}] }, doc! { "z": 1 }],
        ),
        (
            &["a.b"],
            vec![doc! { "a": [[{ "b": 1 }]] }, doc! { "a": { "b": 1 } }],
        ),
        (&["a.b"], vec![doc! { "a": [[{ "b": 1 }]] }, doc! {}]),
        (
            &["a", "a.b"],
            vec![doc! { "a": [{ "b": 1 }, 5] }, doc! { "a": 5 }],
        ),
        (
            &["a", "a.b"],
            vec![doc! { "a": [{ "b": 1 }, 5] }, doc! { "a": { "b": 1 } }],
        ),
        (
            &["a", "a.b"],
            vec![doc! { "a": [{ "b": 1 }, 5] }, doc! { "a": { "b": 2 } }],
        ),
    ]
}

/// Of every case the check says what the server says when it is to make a unique index.
async fn as_the_server_does(version: u32) {
    let base = TestBase::new(version).await;
    let mut unique = Vec::new();
    for (n, (fields, documents)) in cases().into_iter().enumerate() {
        let name = format!("c{n:02}");
        base.collection(&name).insert_many(documents).await.unwrap();
        unique.push(json!({ "collection": name, "fields": fields }));
    }
    let options = json!({ "unique": unique, "validate": "off" });
    let task = format!("kind: integrity\ntarget: app\noptions: {options}\n");
    let workspace = for_base(&base).task("integrity", &task);
    let done = run(&workspace, "integrity", 0);
    let steps = done["steps"].as_array().unwrap();
    assert_eq!(steps.len(), cases().len());
    let told = |name: &str| {
        let object = format!("{}.{name}", base.name);
        let all = done["findings"].as_array().unwrap().iter();
        let mut all = all.filter(|finding| finding["code"] == "collection.duplicates");
        all.any(|finding| finding["object"].as_str() == Some(object.as_str()))
    };
    let (mut refused, mut taken) = (0, 0);
    for (n, (fields, documents)) in cases().into_iter().enumerate() {
        let name = format!("c{n:02}");
        let keys: Document = fields.iter().map(|f| ((*f).to_owned(), 1.into())).collect();
        let options = IndexOptions::builder().unique(true).build();
        let index = IndexModel::builder().keys(keys).options(options).build();
        let made = base.collection(&name).create_index(index).await;
        let says = format!("{n}: {fields:?} {documents:?}: {made:?}");
        match &made {
            Ok(_) => taken += 1,
            Err(_) => {
                refused += 1;
                assert!(says.contains("11000"), "{says}");
            }
        }
        assert_eq!(told(&name), made.is_err(), "{says}");
    }
    assert!(refused > 9 && taken > 9, "{refused} {taken}");
}

#[tokio::test(flavor = "multi_thread")]
async fn duplicates_are_what_a_unique_index_refuses_4_4() {
    as_the_server_does(44).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn duplicates_are_what_a_unique_index_refuses_5_0() {
    as_the_server_does(50).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn duplicates_are_what_a_unique_index_refuses_6_0() {
    as_the_server_does(60).await;
}

/// Every reference counts, however deep in arrays it is, and whatever stands beside it.
async fn references(version: u32) {
    let base = TestBase::new(version).await;
    base.collection("products")
        .insert_many([doc! { "_id": 1 }, doc! { "_id": 2 }])
        .await
        .unwrap();
    for (name, items, missing) in [
        ("whole", bson!([{ "p": 1 }, { "p": [1, 2] }]), 0),
        ("nested", bson!([{ "p": [1, 5] }]), 1),
        ("deep", bson!([[{ "p": 7 }], { "p": [[1, 8], 9] }]), 2),
        ("beside null", bson!([{ "p": null }, { "p": 5 }]), 1),
        ("beside nothing", bson!([{ "q": 1 }, { "p": 5 }]), 1),
        ("null in it", bson!({ "p": [null, 1, 6] }), 1),
        ("none", bson!([{ "q": 1 }]), 0),
        ("plain", bson!({ "p": 6 }), 1),
    ] {
        let orders = base.collection(name);
        orders.insert_one(doc! { "items": items }).await.unwrap();
        let reference = json!({ "collection": name, "field": "items.p", "parent": "products" });
        let options = json!({ "references": [reference], "validate": "off" });
        let task = format!("kind: integrity\ntarget: app\noptions: {options}\n");
        let workspace = for_base(&base).task("integrity", &task);
        let done = run(&workspace, "integrity", 0);
        let told = done["findings"].as_array().unwrap();
        let told: Vec<&str> = told
            .iter()
            .map(|f| f["message"].as_str().unwrap())
            .collect();
        let told: Vec<&&str> = told.iter().filter(|m| m.contains("point at no")).collect();
        match missing {
            0 => assert!(told.is_empty(), "{name}: {told:?}"),
            n => {
                let says = format!("{n} references in `items.p`");
                assert!(
                    told.len() == 1 && told[0].starts_with(&says),
                    "{name}: {told:?}"
                );
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn references_in_arrays_of_arrays_are_looked_for_4_4() {
    references(44).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn references_in_arrays_of_arrays_are_looked_for_6_0() {
    references(60).await;
}
