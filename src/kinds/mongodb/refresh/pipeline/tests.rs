//! What pipelines read, where their results go, and whether they may run twice.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use serde_json::{Value, json};

use super::super::Refresh;
use super::*;
use crate::plan::Kind;

fn refresh(pipeline: Value) -> Refresh {
    let options = json!({ "aggregations": [{ "collection": "events", "pipeline": pipeline }] });
    serde_json::from_value(options).unwrap()
}

#[test]
fn results_go_to_no_collection_of_maint_or_the_server() {
    for (last, said) in [
        (json!({ "$out": "maint.claims" }), "belongs to maint"),
        (
            json!({ "$out": { "db": "other", "coll": "maint.archives" } }),
            "belongs to maint",
        ),
        (json!({ "$merge": "maint.archives" }), "belongs to maint"),
        (
            json!({ "$merge": { "into": { "db": "other", "coll": "maint.claims" } } }),
            "belongs to maint",
        ),
        (json!({ "$out": "system.views" }), "belongs to the server"),
        (
            json!({ "$out": { "db": "admin", "coll": "x" } }),
            "belongs to the server",
        ),
        (json!({ "$out": "maintenance" }), ""),
    ] {
        let checked = refresh(json!([{ "$group": { "_id": 1 } }, last])).check();
        let why = checked.err().map(|e| e.to_string()).unwrap_or_default();
        assert_eq!(why.is_empty(), said.is_empty(), "{last}: {why}");
        assert!(why.contains(said), "{last}: {why}");
    }
}

#[test]
fn several_merge_into_one_and_out_is_alone() {
    let both = |first: Value, second: Value| {
        let one = |last: Value| json!({ "collection": "a", "pipeline": [{ "$group": { "_id": 1 } }, last] });
        let options = json!({ "aggregations": [one(first), one(second)] });
        let kind: Refresh = serde_json::from_value(options).unwrap();
        kind.check().err().map(|e| e.to_string())
    };
    let (out, merge) = (json!({ "$out": "o" }), json!({ "$merge": "o" }));
    for (first, second) in [(&out, &out), (&out, &merge), (&merge, &out)] {
        let why = both(first.clone(), second.clone()).unwrap();
        assert!(why.contains("`$out` replaces"), "{why}");
    }
    assert_eq!(both(merge, json!({ "$merge": { "into": "o" } })), None);
    assert_eq!(both(out, json!({ "$out": "p" })), None);
}

#[test]
fn what_adds_to_what_is_there_is_not_done_twice() {
    let merge = |matched: Value| json!({ "$merge": { "into": "m", "whenMatched": matched } });
    let group = json!({ "$group": { "_id": "$day" } });
    let bare = json!({ "$project": { "_id": 0, "n": 1 } });
    let add = json!([{ "$set": { "n": { "$add": ["$n", "$$new.n"] } } }]);
    for (pipeline, repeatable) in [
        (json!([merge(add)]), false),
        (json!([merge(json!("replace"))]), true),
        (json!([{ "$merge": "m" }]), true),
        (json!([{ "$out": "m" }]), true),
        (json!([merge(json!("fail"))]), false),
        // All is taken from what comes.
        (
            json!([merge(
                json!([{ "$set": { "n": "$$new.n", "at": "$$NOW" } }])
            )]),
            true,
        ),
        (json!([merge(json!([{ "$replaceWith": "$$new" }]))]), true),
        (
            json!([merge(json!([{ "$replaceWith": "$$newer" }]))]),
            false,
        ),
        (
            json!([merge(json!([{ "$set": { "n": { "$getField": "n" } } }]))]),
            false,
        ),
        // Each time with another `_id`.
        (json!([bare, { "$merge": "m" }]), false),
        (json!([bare, group, { "$merge": "m" }]), true),
        (
            json!([bare, { "$set": { "_id": "$n" } }, { "$merge": "m" }]),
            true,
        ),
        (
            json!([{ "$unset": ["a", "_id"] }, { "$merge": "m" }]),
            false,
        ),
        (json!([{ "$count": "n" }, { "$merge": "m" }]), false),
        (json!([{ "$project": { "n": 1 } }, { "$merge": "m" }]), true),
        (
            json!([{ "$replaceWith": { "_id": "$a" } }, { "$merge": "m" }]),
            true,
        ),
        (
            json!([bare, { "$merge": { "into": "m", "on": ["a", "b"] } }]),
            true,
        ),
        (
            json!([bare, { "$merge": { "into": "m", "whenNotMatched": "discard" } }]),
            true,
        ),
        // What it reads is what it has written.
        (json!([group, { "$merge": "events" }]), false),
        (
            json!([{ "$unionWith": "young" }, group, { "$merge": "people" }]),
            false,
        ),
    ] {
        let views = BTreeMap::from([(
            ("app".to_owned(), "young".to_owned()),
            vec!["people".to_owned()],
        )]);
        let kind = refresh(pipeline.clone());
        let one = &kind.aggregations[0];
        let into = one.result("app").unwrap();
        assert_eq!(
            one.repeatable("app", &into, &views),
            repeatable,
            "{pipeline}"
        );
    }
}

#[test]
fn sources_are_found_wherever_they_are_named() {
    let kind = refresh(json!([
        { "$lookup": { "from": "users", "let": {}, "pipeline": [{ "$unionWith": "guests" }], "as": "u" } },
        { "$facet": { "a": [{ "$graphLookup": { "from": "tree", "as": "x" } }] } },
        { "$out": { "db": "other", "coll": "m" } },
    ]));
    let names: Vec<String> = kind.aggregations[0]
        .sources("app")
        .into_iter()
        .map(|(_, name)| name)
        .collect();
    assert_eq!(names, ["events", "guests", "tree", "users"]);
    assert_eq!(
        kind.aggregations[0].result("app"),
        Some(("other".to_owned(), "m".to_owned()))
    );
    assert!(refresh(json!([{ "$match": {} }])).check().is_err());
}

#[test]
fn a_result_does_not_get_in_the_way_of_its_sources() {
    let group = json!({ "$group": { "_id": "$day" } });
    let lookup =
        json!({ "$lookup": { "from": "m", "localField": "a", "foreignField": "_id", "as": "x" } });
    let set = json!({ "$set": { "x": 1 } });
    let merge = |into: &str| json!({ "$merge": { "into": into } });
    let known = |into: &str| json!({ "$merge": { "into": into, "whenNotMatched": "discard" } });
    for (pipeline, said) in [
        (
            json!([group, { "$out": "events" }]),
            "what it reads would be lost",
        ),
        (
            json!([lookup, { "$out": "m" }]),
            "what it reads would be lost",
        ),
        (
            json!([{ "$out": { "db": "app", "coll": "events" } }]),
            "what it reads would be lost",
        ),
        (json!([{ "$out": { "db": "other", "coll": "events" } }]), ""),
        (json!([group, { "$out": "m" }]), ""),
        (json!([set, merge("events")]), "whenNotMatched: discard"),
        (
            json!([set, { "$merge": "events" }]),
            "whenNotMatched: discard",
        ),
        (json!([set, known("events")]), ""),
        (json!([group, merge("events")]), ""),
        (json!([group, lookup, merge("m")]), "Look it up before"),
        (json!([lookup, known("m")]), "Look it up before"),
        (json!([lookup, group, merge("m")]), ""),
        // A view of the source is the source.
        (
            json!([{ "$unionWith": "young" }, { "$out": "people" }]),
            "what it reads would be lost",
        ),
        (
            json!([{ "$unionWith": "young" }, group, merge("people")]),
            "",
        ),
    ] {
        let views = BTreeMap::from([
            (
                ("app".to_owned(), "young".to_owned()),
                vec!["adults".to_owned()],
            ),
            (
                ("app".to_owned(), "adults".to_owned()),
                vec!["people".to_owned(), "young".to_owned()],
            ),
        ]);
        let kind = refresh(pipeline.clone());
        let aggregation = &kind.aggregations[0];
        let into = aggregation.result("app").unwrap();
        let why = aggregation
            .overwrites("app", &into, &views)
            .unwrap_or_default();
        assert_eq!(why.is_empty(), said.is_empty(), "{pipeline}: {why}");
        assert!(why.contains(said), "{pipeline}: {why}");
    }
    // Where no database has to be asked for it, the file is wrong already.
    let wrong = refresh(json!([{ "$out": "events" }]))
        .check()
        .unwrap_err()
        .to_string();
    assert!(wrong.contains("what it reads would be lost"), "{wrong}");
}
