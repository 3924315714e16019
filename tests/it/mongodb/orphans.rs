//! What only looks like an orphan stays.

use mongodb::bson::oid::ObjectId;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, Document, RawDocumentBuf, doc};

use super::{codes, for_base, run};
use crate::kinds::throttle::Running;
use crate::support::mongo::TestBase;
use crate::support::workspace::Workspace;

fn rule(base: &TestBase, text: &str) -> Workspace {
    for_base(base).task(
        "cleanup",
        &format!("kind: cleanup\ntarget: app\noptions:\n  rules: [{{ {text} }}]\n"),
    )
}

async fn fill(base: &TestBase, name: &str, documents: impl IntoIterator<Item = Document>) {
    let collection = base.collection(name);
    collection.insert_many(documents).await.unwrap();
}

async fn all_children(version: u32) {
    let base = TestBase::new(version).await;
    let ids: Vec<ObjectId> = (0..200).map(|_| ObjectId::new()).collect();
    let with = |value: &dyn Fn(&ObjectId) -> Bson| -> Vec<Document> {
        ids.iter().map(|id| doc! { "p": value(id) }).collect()
    };
    fill(
        &base,
        "parents",
        ids.iter().map(|id| doc! { "_id": *id, "name": "x" }),
    )
    .await;
    let texts = with(&|id| Bson::String(id.to_hex()));
    fill(&base, "texts", texts).await;
    let references = with(&|id| Bson::Document(doc! { "$ref": "parents", "$id": *id }));
    fill(&base, "references", references).await;
    fill(&base, "children", with(&|id| Bson::ObjectId(*id))).await;
    base.db.create_collection("empty").await.unwrap();
    for (name, parent, word) in [
        ("texts", "parent: parents", "values of type string"),
        ("references", "parent: parents", "DBRef"),
        (
            "children",
            "parent: parents, parent_field: uid",
            "has one in `uid`",
        ),
        ("children", "parent: empty", "is empty"),
    ] {
        let before = base.ids(name).await;
        let workspace = rule(
            &base,
            &format!("collection: {name}, orphaned: {{ field: p, {parent} }}"),
        );
        let done = run(&workspace, "cleanup", 1);
        assert_eq!(codes(&done), ["cleanup.rule"], "{name}: {done:#}");
        assert!(
            done["findings"].to_string().contains(word),
            "{name} {word}: {done:#}"
        );
        assert_eq!(base.ids(name).await, before, "{name}");
    }
    // Who says so means it.
    let workspace = rule(
        &base,
        "collection: children, orphaned: { field: p, parent: empty }, max_share: 100%",
    );
    assert_eq!(run(&workspace, "cleanup", 0)["rows"], 200);
    assert_eq!(base.count("children", doc! {}).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_makes_an_orphan_of_every_child_is_refused_4_4() {
    all_children(44).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_makes_an_orphan_of_every_child_is_refused_6_0() {
    all_children(60).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn orphans_may_be_half_and_values_that_no_parent_has_stay() {
    let base = TestBase::new(60).await;
    fill(&base, "parents", (0..40).map(|n| doc! { "_id": n })).await;
    fill(
        &base,
        "children",
        (0..100).map(|n| doc! { "_id": n, "p": n }),
    )
    .await;
    let plain = "collection: children, orphaned: { field: p, parent: parents }";
    let done = run(&rule(&base, plain), "cleanup", 1);
    assert_eq!(codes(&done), ["cleanup.too_many"], "{done:#}");
    assert_eq!(base.count("children", doc! {}).await, 100);
    fill(&base, "parents", (40..60).map(|n| doc! { "_id": n })).await;
    fill(&base, "children", [doc! { "_id": "text", "p": "7" }]).await;
    let done = run(&rule(&base, plain), "cleanup", 0);
    assert_eq!(done["rows"], 40, "{done:#}");
    assert_eq!(codes(&done), ["cleanup.types"], "{done:#}");
    assert_eq!(
        base.count("children", doc! { "p": { "$lt": 60 } }).await,
        60
    );
    assert_eq!(base.count("children", doc! { "_id": "text" }).await, 1);
    assert_eq!(base.count("children", doc! {}).await, 61);
    let again = run(&rule(&base, plain), "cleanup", 0);
    assert!(again["steps"].as_array().unwrap().is_empty(), "{again:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn parents_of_another_database_are_counted_too() {
    let base = TestBase::new(60).await;
    let other = format!("{}o", base.name);
    let root = base.servers.root().await;
    let parents = root.database(&other).collection::<Document>("parents");
    // Equal for the server, whatever the type.
    let parent = |n: i32| match n % 3 {
        0 => doc! { "_id": n },
        1 => doc! { "_id": f64::from(n) },
        _ => doc! { "_id": Bson::Decimal128(n.to_string().parse().unwrap()) },
    };
    parents.insert_many((0..1500).map(parent)).await.unwrap();
    fill(
        &base,
        "children",
        (0..2000).map(|n| doc! { "_id": n, "p": n }),
    )
    .await;
    let orphaned = format!(
        "collection: children, orphaned: {{ field: p, parent: parents, parent_database: {other} }}"
    );
    for (limit, code) in [
        ("max_rows: 499", 1),
        ("max_share: 24%", 1),
        ("max_rows: 500, max_share: 25%", 0),
    ] {
        let workspace = rule(&base, &format!("{orphaned}, {limit}"));
        let done = run(&workspace, "cleanup", code);
        let left = base.count("children", doc! {}).await;
        match code {
            0 => assert_eq!(
                (&done["rows"], left),
                (&500.into(), 1500),
                "{limit}: {done:#}"
            ),
            _ => {
                assert_eq!(codes(&done), ["cleanup.too_many"], "{limit}: {done:#}");
                assert!(
                    done["findings"].to_string().contains("500"),
                    "{limit}: {done:#}"
                );
                assert_eq!(left, 2000, "{limit}");
            }
        }
    }
    assert_eq!(
        base.count("children", doc! { "p": { "$gte": 1500 } }).await,
        0
    );
    root.database(&other).drop().await.unwrap();
}

/// A collection that is ordered by its `_id` is counted as others are: no share of none went before.
#[tokio::test(flavor = "multi_thread")]
async fn orphans_of_a_clustered_collection_are_a_share_of_it() {
    let base = TestBase::new(60).await;
    let root = base.servers.root().await.database(&base.name);
    let clustered =
        doc! { "create": "children", "clusteredIndex": { "key": { "_id": 1 }, "unique": true } };
    root.run_command(clustered).await.unwrap();
    fill(&base, "parents", (0..300).map(|n| doc! { "_id": n })).await;
    let children = (0..400).map(|n| doc! { "_id": format!("c{n:04}"), "p": n });
    fill(&base, "children", children).await;
    let orphaned = "collection: children, orphaned: { field: p, parent: parents }";
    let refused = run(
        &rule(&base, &format!("{orphaned}, max_share: 24%")),
        "cleanup",
        1,
    );
    assert!(
        refused["findings"]
            .to_string()
            .contains("100 of 400 documents"),
        "{refused:#}"
    );
    assert_eq!(base.count("children", doc! {}).await, 400);
    let done = run(
        &rule(&base, &format!("{orphaned}, max_share: 25%")),
        "cleanup",
        0,
    );
    assert_eq!(done["rows"], 100, "{done:#}");
    assert_eq!(
        base.count("children", doc! { "p": { "$lt": 300 } }).await,
        300
    );
}

/// "Ann" and "ann" are one for the child, and two for the parent.
#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_compares_by_a_collation_is_refused_where_texts_are_compared() {
    let base = TestBase::new(60).await;
    let collation = doc! { "locale": "en", "strength": 2 };
    for name in ["texts", "numbers"] {
        let create = doc! { "create": name, "collation": collation.clone() };
        base.db.run_command(create).await.unwrap();
    }
    fill(&base, "parents", [doc! { "_id": "Ann" }, doc! { "_id": 1 }]).await;
    fill(
        &base,
        "texts",
        (0..5).map(|n| doc! { "_id": n, "p": "ann" }),
    )
    .await;
    fill(
        &base,
        "numbers",
        (0..5).map(|n| doc! { "_id": n, "p": n / 3 + 1 }),
    )
    .await;
    let done = run(
        &rule(
            &base,
            "collection: texts, orphaned: { field: p, parent: parents }",
        ),
        "cleanup",
        1,
    );
    assert!(
        done["findings"].to_string().contains("collation"),
        "{done:#}"
    );
    assert_eq!(base.count("texts", doc! {}).await, 5);
    let done = run(
        &rule(
            &base,
            "collection: numbers, orphaned: { field: p, parent: parents }",
        ),
        "cleanup",
        0,
    );
    assert_eq!(done["rows"], 2, "{done:#}");
    assert_eq!(base.count("numbers", doc! { "p": 1 }).await, 3);
}

/// Whoever points at several parents stays, and so does a rule's silence not: it is told, also where
/// nothing else is there.
#[tokio::test(flavor = "multi_thread")]
async fn children_with_arrays_stay_and_are_told() {
    let base = TestBase::new(60).await;
    fill(&base, "parents", (0..3).map(|n| doc! { "_id": n })).await;
    fill(&base, "one", [doc! { "_id": 1, "p": [0, 9] }]).await;
    let several = [
        doc! { "_id": 1, "p": [9] },
        doc! { "_id": 2, "p": [] },
        doc! { "_id": 3, "p": 9 },
        doc! { "_id": 4, "p": 0 },
        doc! { "_id": 5 },
    ];
    fill(&base, "several", several).await;
    for (name, word, left) in [
        ("one", "1 document has an array in `p`", &["1"][..]),
        (
            "several",
            "2 documents have an array in `p`",
            &["1", "2", "4", "5"][..],
        ),
    ] {
        let workspace = rule(
            &base,
            &format!("collection: {name}, orphaned: {{ field: p, parent: parents }}"),
        );
        for _ in 0..2 {
            let done = run(&workspace, "cleanup", 0);
            assert_eq!(codes(&done), ["cleanup.types"], "{name}: {done:#}");
            assert!(done["findings"].to_string().contains(word), "{done:#}");
            assert_eq!(base.ids(name).await, left, "{name}");
        }
    }
}

/// Text that is not valid UTF-8 makes no orphan, and which collection has it is said.
#[tokio::test(flavor = "multi_thread")]
async fn text_that_is_no_utf8_refuses_the_rule_by_name() {
    for elsewhere in [false, true] {
        let base = TestBase::new(60).await;
        let other = format!("{}o", base.name);
        let of = if elsewhere { &other } else { &base.name };
        let root = base.servers.root().await;
        let parents = root.database(of).collection::<Document>("parents");
        let names = (0..10).map(|n| doc! { "_id": format!("n{n}") });
        parents.insert_many(names).await.unwrap();
        fill(
            &base,
            "children",
            (0..8).map(|n| doc! { "_id": n, "p": format!("n{n}") }),
        )
        .await;
        let odd = RawDocumentBuf::try_from(&doc! { "_id": 8, "p": "#" }).unwrap();
        let mut odd = odd.into_bytes();
        let place = odd.iter().rposition(|byte| *byte == b'#').unwrap();
        odd[place] = 0xe9;
        let odd = RawDocumentBuf::from_bytes(odd).unwrap();
        let raw = base.db.collection::<RawDocumentBuf>("children");
        raw.insert_one(odd).await.unwrap();
        let text = |more: &str| {
            format!(
                "collection: children, orphaned: {{ field: p, parent: parents, parent_database: {of} }}{more}"
            )
        };
        let done = run(&rule(&base, &text("")), "cleanup", 1);
        let said = done.to_string();
        let whole = format!("a document of {}.children has text", base.name);
        for word in [&*whole, "not valid UTF-8"] {
            assert!(said.contains(word), "{word}: {done:#}");
        }
        assert!(!said.contains("unexpected while"), "{done:#}");
        assert_eq!(base.count("children", doc! {}).await, 9);
        // What is said to help does.
        parents.delete_one(doc! { "_id": "n3" }).await.unwrap();
        let helped = text(", keep: [{ _id: { $gte: 8 } }]");
        assert_eq!(run(&rule(&base, &helped), "cleanup", 0)["rows"], 1);
        assert_eq!(base.count("children", doc! {}).await, 8);
    }
}

/// The same UUID is another value as old drivers wrote it: whoever points at parents in that form is no orphan for it.
#[tokio::test(flavor = "multi_thread")]
async fn uuids_of_a_form_that_no_parent_has_stay() {
    for version in [44, 60] {
        let base = TestBase::new(version).await;
        let uuid = |n: u8, subtype: BinarySubtype| Binary {
            subtype,
            bytes: vec![n; 16],
        };
        let parents = (0..100).map(|n| doc! { "_id": uuid(n, BinarySubtype::Uuid) });
        fill(&base, "parents", parents).await;
        let children = (0..130).map(|n| {
            let old = n < 20;
            let form = if old {
                BinarySubtype::UuidOld
            } else {
                BinarySubtype::Uuid
            };
            doc! { "_id": i32::from(n), "p": uuid(n, form) }
        });
        fill(&base, "children", children).await;
        let workspace = rule(
            &base,
            "collection: children, orphaned: { field: p, parent: parents }",
        );
        let done = run(&workspace, "cleanup", 0);
        assert_eq!(done["rows"], 30, "{done:#}");
        assert_eq!(codes(&done), ["cleanup.types"], "{done:#}");
        let told = done["findings"][0]["message"].as_str().unwrap();
        assert!(
            told.contains("20 documents have") && told.contains("binary subtype 3"),
            "{told}"
        );
        assert_eq!(base.count("children", doc! {}).await, 100);
        assert_eq!(run(&workspace, "cleanup", 0)["rows"], 0);
    }
}

/// A text is the id of a parent in its own form only: one parent with a name makes no orphans of children that point
/// at others by an ObjectId, a number or a UUID as text.
async fn texts_of_a_form(version: u32) {
    let base = TestBase::new(version).await;
    let ids: Vec<ObjectId> = (0..100).map(|_| ObjectId::new()).collect();
    let uuid = |n: i32| format!("{n:08x}-aaaa-4bbb-8ccc-{n:012x}");
    let parents = ids.iter().map(|id| doc! { "_id": *id });
    fill(&base, "users", parents).await;
    fill(&base, "users", [doc! { "_id": "system" }]).await;
    fill(&base, "users", (0..10).map(|n| doc! { "_id": n })).await;
    let child = |p: Bson| doc! { "p": p };
    let ours = ids.iter().map(|id| child((*id).into()));
    fill(&base, "comments", ours).await;
    let texts = ids.iter().take(10).map(|id| child(id.to_hex().into()));
    fill(&base, "comments", texts).await;
    let capitals = ids
        .iter()
        .take(5)
        .map(|id| child(id.to_hex().to_uppercase().into()));
    fill(&base, "comments", capitals).await;
    let numbers = (0..7).map(|n| child(n.to_string().into()));
    fill(&base, "comments", numbers).await;
    fill(&base, "comments", (0..3).map(|n| child(uuid(n).into()))).await;
    let names = ["system", "gone"].map(|name| child(name.into()));
    fill(&base, "comments", names).await;
    fill(&base, "comments", [child(ObjectId::new().into())]).await;
    let plain = "collection: comments, orphaned: { field: p, parent: users }";
    let done = run(&rule(&base, plain), "cleanup", 0);
    assert_eq!(done["rows"], 2, "{done:#}");
    assert_eq!(codes(&done), ["cleanup.types"; 4], "{done:#}");
    for told in [
        "10 documents have a text of 24 hexadecimal digits in `p`",
        "5 documents have a text of 24 hexadecimal digits in capitals in `p`",
        "7 documents have a number as text in `p`",
        "3 documents have a UUID as text in `p`",
    ] {
        assert!(
            done["findings"].to_string().contains(told),
            "{told}: {done:#}"
        );
    }
    assert_eq!(base.count("comments", doc! {}).await, 126);
    // Where a parent has the form, what points at none is an orphan again.
    fill(&base, "users", [doc! { "_id": uuid(1) }]).await;
    let done = run(&rule(&base, plain), "cleanup", 0);
    assert_eq!(done["rows"], 2, "{done:#}");
    assert_eq!(codes(&done), ["cleanup.types"; 3], "{done:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_of_a_form_that_no_parent_has_stay_4_4() {
    texts_of_a_form(44).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_of_a_form_that_no_parent_has_stay_6_0() {
    texts_of_a_form(60).await;
}

/// Parents that are taken away and brought back between the plan and its step make no orphans: neither
/// where all of them are away for a moment, nor where many are.
async fn parents_are_filled_anew(version: u32) {
    for left in [0, 7] {
        let base = TestBase::new(version).await;
        fill(&base, "parents", (0..3000).map(|n| doc! { "_id": n })).await;
        fill(
            &base,
            "children",
            (0..3005).map(|n| doc! { "_id": n, "p": n }),
        )
        .await;
        let workspace = for_base(&base);
        let pause = workspace.path().join("pause");
        let yaml = format!(
            "kind: cleanup\ntarget: app\noptions:\n  rules: [{{ collection: children, orphaned: {{ field: p, parent: parents }} }}]\nthrottle: {{ pause_file: {} }}\n",
            pause.display()
        );
        let workspace = workspace.task("cleanup", &yaml);
        std::fs::write(&pause, "").unwrap();
        let mut running = Running::begin(&workspace, "cleanup");
        running.until("paused: ");
        let parents = base.collection("parents");
        parents
            .delete_many(doc! { "_id": { "$gte": left } })
            .await
            .unwrap();
        std::fs::remove_file(&pause).unwrap();
        let done = running.end(1);
        assert_eq!(base.count("children", doc! {}).await, 3005, "{done:#}");
        let said = done["runs"][0]["steps"][0]["error"].as_str().unwrap();
        let word = if left == 0 {
            "parents is empty by now"
        } else {
            "far more point at no document of parents"
        };
        assert!(
            said.contains("0 documents have gone, and no other goes") && said.contains(word),
            "{said}"
        );
        fill(&base, "parents", (left..3000).map(|n| doc! { "_id": n })).await;
        assert_eq!(run(&workspace, "cleanup", 0)["rows"], 5);
        assert_eq!(
            base.count("children", doc! { "p": { "$lt": 3000 } }).await,
            3000
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn parents_that_are_filled_anew_leave_no_orphans_4_4() {
    parents_are_filled_anew(44).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parents_that_are_filled_anew_leave_no_orphans_6_0() {
    parents_are_filled_anew(60).await;
}

/// Where an earlier rule of the task makes more orphans than a later one may take, that one waits, and names its limit;
/// the next run refuses it with the count.
#[tokio::test(flavor = "multi_thread")]
async fn more_orphans_than_a_rule_may_take_are_left_by_its_limit() {
    for limit in ["max_rows: 5", "max_share: 10%"] {
        let base = TestBase::new(60).await;
        fill(&base, "a", (0..50).map(|n| doc! { "_id": n })).await;
        fill(&base, "b", (0..60).map(|n| doc! { "_id": n, "a": n })).await;
        fill(&base, "c", (0..65).map(|n| doc! { "_id": n, "b": n })).await;
        let workspace = for_base(&base).task("cleanup", &format!(
            "kind: cleanup\ntarget: app\noptions:\n  rules:\n    - {{ collection: b, orphaned: {{ field: a, parent: a }} }}\n    - {{ collection: c, orphaned: {{ field: b, parent: b }}, {limit} }}\n"
        ));
        let done = workspace.run(["run", "cleanup", "--now", "--output", "json"]);
        let done = done.json()["runs"][0].clone();
        assert_eq!(done["status"], "incomplete", "{limit}: {done:#}");
        let step = &done["steps"][1];
        assert_eq!(step["status"], "deferred", "{limit}: {done:#}");
        let error = step["error"].as_str().unwrap();
        assert!(error.contains("allows no more"), "{limit}: {error}");
        assert_eq!(base.count("b", doc! {}).await, 50, "{limit}: {done:#}");
        assert_eq!(base.count("c", doc! {}).await, 65, "{limit}: {done:#}");
        let again = run(&workspace, "cleanup", 1);
        assert!(
            codes(&again).contains(&"cleanup.too_many".to_owned()),
            "{limit}: {again:#}"
        );
        assert_eq!(base.count("c", doc! {}).await, 65, "{limit}: {again:#}");
    }
}
