//! TTL indexes are made, changed, or it is told why not.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use mongodb::bson::doc;
use serde_json::json;

use super::super::common::Index;
use super::tests::{facts, index, kind, moment};
use super::*;

#[test]
fn ttl_is_made_changed_or_explained() {
    let options =
        json!({ "ttl": [{ "collection": "events", "field": "expires_at", "expire_after": "0s" }] });
    let of = |indexes: Vec<Index>, release| {
        let collection = Collection {
            indexes,
            ..Collection::default()
        };
        let mut facts = facts(collection, &[("date", 5)]);
        facts.release = release;
        kind(options.clone()).plan(facts, &moment())
    };
    let made = of(vec![], (4, 4));
    assert_eq!(made.steps[0].action, "create_ttl");
    for wrong in [Some(3600.0), Some(f64::NAN)] {
        let changed = of(vec![index("expires_at", wrong)], (4, 4));
        assert_eq!(changed.steps[0].action, "alter_ttl");
    }
    assert!(
        of(vec![index("expires_at", Some(0.0))], (4, 4))
            .steps
            .is_empty()
    );
    // Before 5.1 an index that does not expire anything cannot be changed; 7.0 and 8.0 can.
    let stuck = of(vec![index("expires_at", None)], (5, 0));
    assert!(stuck.steps.is_empty());
    assert_eq!(stuck.findings[0].code, "ttl.conflict");
    for release in [(5, 1), (6, 0), (7, 0), (8, 0)] {
        assert_eq!(
            of(vec![index("expires_at", None)], release).steps[0].action,
            "alter_ttl"
        );
    }
}

#[test]
fn ttl_that_does_not_happen_is_told() {
    let options =
        json!({ "ttl": [{ "collection": "events", "field": "expires_at", "expire_after": "0s" }] });
    let collection = Collection {
        indexes: vec![index("expires_at", Some(0.0))],
        ..Collection::default()
    };
    let mut facts = facts(collection, &[("date", 5), ("string", 2)]);
    let look = facts.ttl_looks.get_mut(&0).unwrap();
    look.overdue = 7;
    look.monitor = Some(false);
    let of = |minutes: Option<i64>| {
        let mut at = moment();
        let made = |minutes| json!({ "at": at.now.timestamp() - minutes * 60 });
        if let Some(made) = minutes.map(made) {
            at.memories
                .insert("ttl of app.events by expires_at".to_owned(), made);
        }
        let plan = kind(options.clone()).plan(facts.clone(), &at);
        let codes = plan.findings.into_iter().map(|finding| finding.code);
        codes.collect::<Vec<_>>()
    };
    let all = ["ttl.monitor_off", "ttl.stalled", "ttl.wrong_type"];
    assert_eq!(of(None), all);
    assert_eq!(of(Some(61)), all);
    // Within the time that an expired document may stay nobody is late.
    assert_eq!(of(Some(59)), ["ttl.monitor_off", "ttl.wrong_type"]);
}

#[test]
fn what_is_in_the_way_of_a_ttl_keeps_all_that_it_has() {
    let options =
        json!({ "ttl": [{ "collection": "events", "field": "at", "expire_after": "1min" }] });
    let of = |whole: Document, others: &[Document], release| {
        let collection = Collection {
            indexes: std::iter::once(&whole)
                .chain(others)
                .map(Index::read)
                .collect(),
            ..Collection::default()
        };
        let mut facts = facts(collection, &[("date", 5)]);
        facts.release = release;
        let plan = kind(options.clone()).plan(facts, &moment());
        match (plan.steps.first(), plan.findings.first()) {
            (Some(step), _) => step.statement_text(),
            (None, Some(found)) => {
                format!(
                    "{} {}",
                    found.code,
                    found.suggestion.clone().unwrap_or_default()
                )
            }
            (None, None) => String::new(),
        }
    };
    let shell = r#"db.getSiblingDB("app").getCollection("events")"#;
    let beside = format!("{shell}.createIndex({{at: -1}}, {{expireAfterSeconds: 60}})");
    let plain =
        doc! { "v": 2, "key": { "at": -1 }, "name": "by_at", "sparse": true, "hidden": true };
    assert_eq!(
        of(plain, &[], (4, 4)),
        format!(
            r#"ttl.conflict {shell}.dropIndex("by_at"); {shell}.createIndex({{at: -1}}, {{expireAfterSeconds: 60, name: "by_at", sparse: true, hidden: true}})"#
        )
    );
    let unique = doc! { "v": 2, "key": { "at": 1 }, "name": "at_1", "unique": true };
    assert_eq!(
        of(unique.clone(), &[], (4, 4)),
        format!("ttl.conflict {beside}")
    );
    // Both directions are taken: then it has to be dropped, and stays unique.
    let back = doc! { "v": 2, "key": { "at": -1 }, "name": "at_-1" };
    let told = of(unique, std::slice::from_ref(&back), (4, 4));
    assert!(told.contains(r#"name: "at_1", unique: true"#), "{told}");
    // Two partial ones leave room for a third from 5.0 on.
    let part = |mut index: Document| {
        index.insert("partialFilterExpression", doc! { "k": 1 });
        index
    };
    let (one, other) = (
        part(doc! { "v": 2, "key": { "at": 1 }, "name": "at_1" }),
        part(back),
    );
    let told = of(one.clone(), std::slice::from_ref(&other), (4, 4));
    assert!(told.starts_with("ttl.conflict"), "{told}");
    let told = of(one, &[other], (5, 0));
    assert!(told.contains("createIndexes"), "{told}");
}
