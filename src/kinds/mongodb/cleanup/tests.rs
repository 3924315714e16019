//! What is decided about old and orphaned documents, from facts alone: no server is needed to see
//! which go, which stay and what is refused.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use mongodb::bson::{Bson, doc};
use serde_json::{Value, json};

use super::super::common::{Index, Shape};
use super::age::Age;
use super::*;

pub(super) fn kind(options: Value) -> Cleanup {
    let kind: Cleanup = serde_json::from_value(options).unwrap();
    kind.check().unwrap();
    kind
}

pub(super) fn moment() -> Moment {
    Moment {
        now: DateTime::from_timestamp(1_800_000_000, 0).unwrap(),
        round: 1,
        baselines: HashMap::new(),
        memories: HashMap::new(),
        former: Default::default(),
        zone: chrono_tz::UTC,
    }
}

pub(super) fn index(field: &str, expires: Option<f64>) -> Index {
    Index {
        name: format!("{field}_1"),
        keys: vec![(field.to_owned(), Bson::Int32(1))],
        expires,
        ..Index::default()
    }
}

pub(super) fn facts(collection: Collection, types: &[(&str, i64)]) -> Facts {
    let types: Vec<(String, i64)> = types
        .iter()
        .map(|(kind, n)| ((*kind).to_owned(), *n))
        .collect();
    let look = Look {
        types: types.clone(),
        any: Some(true),
        ..Look::default()
    };
    Facts {
        database: "app".to_owned(),
        release: (6, 0),
        replicated: true,
        shard: false,
        collections: BTreeMap::from([(("app".to_owned(), "events".to_owned()), collection)]),
        looks: HashMap::from([(0, look)]),
        ttl_looks: HashMap::from([(
            0,
            ttl::Look {
                types,
                ..ttl::Look::default()
            },
        )]),
        closed: HashMap::new(),
        at: DateTime::from_timestamp(1_800_000_000, 0).unwrap(),
        clock: None,
    }
}

fn aged() -> Cleanup {
    kind(
        json!({ "rules": [{ "collection": "events", "field": "at", "older_than": "90d", "keep": [{ "pinned": true }] }] }),
    )
}

#[test]
fn old_documents_go_along_the_index() {
    let collection = Collection {
        indexes: vec![index("at", None)],
        bytes: 1 << 40,
        ..Collection::default()
    };
    let plan = aged().plan(facts(collection, &[("date", 200)]), &moment());
    assert!(plan.findings.is_empty(), "{:?}", plan.findings);
    insta::assert_snapshot!(plan.steps[0].statement_text(), @r#"db.getSiblingDB("app").getCollection("events").deleteMany({$and: [{$and: [{at: {$gte: ISODate("1980-01-01T00:00:00Z"), $lt: ISODate("2026-10-17T08:00:00Z")}}, {$nor: [{pinned: true}]}]}, {at: {$gt: …, $lte: …}}]}, {writeConcern: {w: "majority"}})"#);
    insta::assert_snapshot!(plan.steps[0].reason, @"`at` is older than 90d");
}

#[test]
fn a_large_collection_is_not_read_whole_and_the_index_is_named() {
    let collection = Collection {
        bytes: 2 << 30,
        ..Collection::default()
    };
    let plan = aged().plan(facts(collection, &[("date", 200)]), &moment());
    assert!(plan.steps.is_empty());
    let finding = &plan.findings[0];
    assert_eq!(finding.code, "cleanup.index");
    assert_eq!(
        finding.suggestion.as_deref(),
        Some(r#"db.getSiblingDB("app").getCollection("events").createIndex({at: 1})"#)
    );
}

#[test]
fn numbers_need_an_epoch_and_texts_have_no_age() {
    for (kind, words) in [
        ("long", "say with `epoch`"),
        ("string", "is of type string"),
    ] {
        let plan = aged().plan(facts(Collection::default(), &[(kind, 200)]), &moment());
        assert!(plan.steps.is_empty());
        assert!(
            plan.findings[0].message.contains(words),
            "{:?}",
            plan.findings
        );
    }
    let plan = aged().plan(
        facts(Collection::default(), &[("date", 190), ("string", 10)]),
        &moment(),
    );
    assert_eq!(plan.steps.len(), 1);
    assert_eq!(plan.findings[0].code, "cleanup.types");
}

#[test]
fn what_is_no_plain_collection_is_refused_by_name() {
    for (shape, word) in [
        (Shape::Capped, "capped"),
        (Shape::View, "view"),
        (Shape::TimeSeries, "time-series"),
    ] {
        let collection = Collection {
            shape,
            ..Collection::default()
        };
        let plan = aged().plan(facts(collection, &[("date", 1)]), &moment());
        assert!(plan.steps.is_empty());
        assert!(
            plan.findings[0].message.contains(word),
            "{:?}",
            plan.findings
        );
    }
}

#[test]
fn more_than_allowed_is_refused() {
    let options = json!({ "rules": [{ "collection": "events", "field": "at", "older_than": "90d", "max_rows": 10, "max_share": "50%" }] });
    let of = |count, all| {
        let collection = Collection {
            documents: all,
            ..Collection::default()
        };
        let mut facts = facts(collection, &[("date", 1)]);
        facts.looks.get_mut(&0).unwrap().count = count;
        kind(options.clone()).plan(facts, &moment())
    };
    assert_eq!(of(Some(10), 100).steps.len(), 1);
    for (count, all) in [(Some(11), 100), (Some(8), 10), (None, 100)] {
        let plan = of(count, all);
        assert!(plan.steps.is_empty());
        assert_eq!(plan.findings[0].code, "cleanup.too_many");
    }
}

#[test]
fn orphans_need_a_parent_that_exists() {
    let options = json!({ "rules": [{ "collection": "events", "orphaned": { "field": "user", "parent": "users" } }] });
    let plan = kind(options.clone()).plan(facts(Collection::default(), &[]), &moment());
    assert!(plan.steps.is_empty());
    assert!(
        plan.findings[0]
            .message
            .contains("its parent app.users does not exist")
    );
    let mut known = facts(Collection::default(), &[]);
    known.collections.insert(
        ("app".to_owned(), "users".to_owned()),
        Collection::default(),
    );
    let look = known.looks.get_mut(&0).unwrap();
    look.count = Some(1);
    look.pointing = Some(parents::Pointing {
        met: vec!["objectId".to_owned()],
        ..parents::Pointing::default()
    });
    let events = ("app".to_owned(), "events".to_owned());
    known.collections.get_mut(&events).unwrap().documents = 2;
    assert_eq!(kind(options).plan(known, &moment()).steps.len(), 1);
}

#[test]
fn orphans_that_are_all_or_cannot_be_told_stay() {
    let pointing = |met: &[&str], strays: &[&str]| parents::Pointing {
        met: met.iter().map(|kind| (*kind).to_owned()).collect(),
        strays: strays.iter().map(|kind| ((*kind).to_owned(), 1)).collect(),
        ..parents::Pointing::default()
    };
    let empty = parents::Pointing {
        parent_is_empty: true,
        ..pointing(&[], &["objectId"])
    };
    let referring = parents::Pointing {
        references: true,
        ..pointing(&["objectId"], &[])
    };
    let collation = doc! { "collation": { "locale": "en", "strength": 2 } };
    for (share, pointing, options, count, word) in [
        (None, pointing(&["objectId"], &[]), doc! {}, 50, None),
        (
            None,
            pointing(&["objectId"], &[]),
            doc! {},
            51,
            Some("orphans may be"),
        ),
        (Some("60%"), pointing(&["objectId"], &[]), doc! {}, 60, None),
        (
            Some("60%"),
            pointing(&["objectId"], &[]),
            doc! {},
            61,
            Some("`max_share` (60%)"),
        ),
        (
            Some("100%"),
            pointing(&["objectId"], &[]),
            doc! {},
            100,
            None,
        ),
        (
            None,
            pointing(&[], &["string"]),
            doc! {},
            1,
            Some("values of type string"),
        ),
        (
            Some("100%"),
            pointing(&[], &["string"]),
            doc! {},
            1,
            Some("values of type string"),
        ),
        (None, empty.clone(), doc! {}, 1, Some("app.users is empty")),
        (Some("100%"), empty, doc! {}, 100, None),
        (Some("100%"), referring, doc! {}, 1, Some("DBRef")),
        (
            None,
            pointing(&["objectId"], &[]),
            collation.clone(),
            1,
            None,
        ),
        (
            None,
            pointing(&["string"], &[]),
            collation.clone(),
            1,
            Some("collation"),
        ),
        (
            None,
            pointing(&["objectId"], &["object"]),
            collation,
            1,
            Some("collation"),
        ),
    ] {
        let mut rule =
            json!({ "collection": "events", "orphaned": { "field": "user", "parent": "users" } });
        if let Some(share) = share {
            rule["max_share"] = json!(share);
        }
        let children = Collection {
            documents: 100,
            options,
            ..Collection::default()
        };
        let mut facts = facts(children, &[]);
        let users = ("app".to_owned(), "users".to_owned());
        facts.collections.insert(users, Collection::default());
        let look = facts.looks.get_mut(&0).unwrap();
        look.count = Some(count);
        look.pointing = Some(pointing.clone());
        let plan = kind(json!({ "rules": [rule] })).plan(facts, &moment());
        let told = format!("{share:?} {pointing:?} {count}: {:?}", plan.findings);
        match word {
            None => assert_eq!(plan.steps.len(), 1, "{told}"),
            Some(word) => {
                assert!(plan.steps.is_empty(), "{told}");
                assert!(plan.findings[0].message.contains(word), "{told}");
            }
        }
    }
}

#[test]
fn more_documents_than_may_go_are_counted_in_words_of_the_shell() {
    let options = json!({ "ttl": [{ "collection": "events", "field": "at", "expire_after": "30d", "max_rows": 10 }] });
    let mut facts = facts(Collection::default(), &[("date", 20)]);
    facts.ttl_looks.get_mut(&0).unwrap().expired = Some(20);
    let plan = kind(options).plan(facts, &moment());
    assert!(plan.steps.is_empty());
    let finding = &plan.findings[0];
    assert_eq!(finding.code, "cleanup.too_many");
    assert_eq!(
        finding.suggestion.as_deref(),
        Some(
            r#"db.getSiblingDB("app").getCollection("events").countDocuments({at: {$lt: ISODate("2026-12-16T08:00:00Z")}})"#
        )
    );
}

#[test]
fn what_most_documents_have_tells_the_age() {
    let rule: Rule = serde_json::from_value(
        json!({ "collection": "events", "field": "at", "older_than": "90d" }),
    )
    .unwrap();
    let seen = |types: &[(&str, i64)]| {
        let one = |(kind, n): &(&str, i64)| ((*kind).to_owned(), *n);
        types.iter().map(one).collect::<Vec<_>>()
    };
    for (types, counted, age) in [
        (seen(&[("objectId", 199), ("date", 1)]), None, Age::ObjectId),
        (seen(&[("date", 199), ("objectId", 1)]), None, Age::Date),
        // Whatever a sample of many sees of two that are rare.
        (
            seen(&[("missing", 199), ("date", 1)]),
            Some((1, 100)),
            Age::ObjectId,
        ),
        (seen(&[("missing", 200)]), Some((0, 100)), Age::ObjectId),
        (seen(&[("missing", 200)]), Some((100, 0)), Age::Date),
        (seen(&[("missing", 200)]), Some((0, 0)), Age::Date),
        // Of both there are more than are counted.
        (
            seen(&[("objectId", 150), ("date", 50)]),
            Some((10_000, 10_000)),
            Age::ObjectId,
        ),
        (
            seen(&[("date", 150), ("objectId", 50)]),
            Some((10_000, 10_000)),
            Age::Date,
        ),
    ] {
        assert_eq!(
            rule.age(&types, counted),
            Ok(Some(age)),
            "{types:?} {counted:?}"
        );
    }
}

#[test]
fn rules_that_would_empty_a_collection_are_refused() {
    for (rule, word) in [
        (json!({ "collection": "x" }), "would empty"),
        (
            json!({ "collection": "x", "where": {} }),
            "match every document",
        ),
        (
            json!({ "collection": "x", "field": "at" }),
            "no `older_than`",
        ),
        (
            json!({ "collection": "x", "field": "$at", "older_than": "1d" }),
            "no field",
        ),
        (
            json!({ "collection": "x", "where": { "a": { "$oid": "1" } } }),
            "no filter",
        ),
    ] {
        let kind: Cleanup = serde_json::from_value(json!({ "rules": [rule] })).unwrap();
        let why = kind.check().unwrap_err().to_string();
        assert!(why.contains(word), "{why}");
    }
}
