//! Which indexes nobody needs, from what members of a set have counted; no server is needed for it.

use std::collections::{BTreeMap, HashMap};

use mongodb::bson::{Bson, Document, doc};

use super::super::facts::Use;
use super::*;
use crate::plan::Kind;

fn index(name: &str, keys: &[&str]) -> Index {
    Index {
        name: name.to_owned(),
        keys: keys
            .iter()
            .map(|k| ((*k).to_owned(), Bson::Int32(1)))
            .collect(),
        bytes: 10 << 20,
        ..Index::default()
    }
}

fn findings(
    indexes: Vec<Index>,
    uses: &[(&str, i64, i64)],
    unasked: usize,
) -> Vec<(String, String)> {
    let now = 1_800_000_000;
    let mut all: BTreeMap<(String, String), Vec<Use>> = BTreeMap::new();
    for (name, times, days) in uses {
        let seen = Use {
            times: *times,
            since: now - days * 86_400,
        };
        all.entry(("c".to_owned(), (*name).to_owned()))
            .or_default()
            .push(seen);
    }
    let facts = Facts {
        database: "app".to_owned(),
        collections: BTreeMap::from([(
            "c".to_owned(),
            Collection {
                indexes,
                ..Collection::default()
            },
        )]),
        uses: all,
        unasked,
        ..Facts::default()
    };
    let moment = Moment {
        now: chrono::DateTime::from_timestamp(now, 0).unwrap(),
        round: 1,
        baselines: HashMap::new(),
        memories: HashMap::new(),
        former: Default::default(),
        zone: chrono_tz::UTC,
    };
    let plan = Snapshot::default().plan(facts, &moment);
    plan.findings
        .into_iter()
        .map(|f| (f.code, f.object))
        .collect()
}

#[test]
fn unused_means_on_every_member_and_for_long() {
    let one = || vec![index("a_1", &["a"])];
    let unused = [("index.unused".to_owned(), "app.c.a_1".to_owned())];
    assert_eq!(
        findings(one(), &[("a_1", 0, 40), ("a_1", 0, 50)], 0),
        unused
    );
    assert!(findings(one(), &[("a_1", 0, 40), ("a_1", 3, 50)], 0).is_empty());
    assert!(findings(one(), &[("a_1", 0, 40), ("a_1", 0, 2)], 0).is_empty());
    assert!(
        findings(one(), &[("a_1", 0, 40)], 1).is_empty(),
        "one member was not asked"
    );
    let mut unique = index("a_1", &["a"]);
    unique.unique = true;
    assert!(findings(vec![unique], &[("a_1", 0, 40)], 0).is_empty());
}

#[test]
fn what_the_keys_do_not_say_is_no_duplicate() {
    let wildcard = |name: &str, only: &str| Index {
        whole: mongodb::bson::doc! { "name": name, "wildcardProjection": { only: 1 } },
        ..index(name, &["$**"])
    };
    assert!(findings(vec![wildcard("a", "x"), wildcard("b", "y")], &[], 0).is_empty());
    let collated = Index {
        collated: true,
        ..index("c", &["a"])
    };
    assert!(findings(vec![index("b", &["a"]), collated], &[], 0).is_empty());
}

/// As the server tells of it.
fn told(name: &str, key: Document, more: Document) -> Index {
    let mut whole = doc! { "v": 2, "name": name, "key": key };
    whole.extend(more);
    Index {
        bytes: 10 << 20,
        ..Index::read(&whole)
    }
}

#[test]
fn two_are_the_same_where_nothing_changes_without_one() {
    let place = || doc! { "at": "2dsphere" };
    let sphere = || doc! { "2dsphereIndexVersion": 3 };
    let with = |mut a: Document, b: Document| {
        a.extend(b);
        a
    };
    let german = || doc! { "collation": { "locale": "de" } };
    let open = || doc! { "partialFilterExpression": { "open": true } };
    let sparse = || doc! { "sparse": true };
    let unique = || doc! { "unique": true };
    let only = |field: &str| doc! { "wildcardProjection": { field: 1 } };
    let a = || doc! { "a": 1 };
    let ab = || doc! { "a": 1, "b": 1 };
    let none = Document::new;
    for (one, other, which) in [
        // As the old shell has written it, and drivers do.
        ((doc! { "a": 1.0 }, none()), (ab(), none()), Some("one")),
        ((a(), none()), (doc! { "a": 5 }, none()), Some("other")),
        ((a(), none()), (doc! { "a": -1 }, none()), None),
        // Indexes of places leave out what has none, whatever they are called.
        (
            (place(), sphere()),
            (place(), with(sphere(), sparse())),
            Some("other"),
        ),
        (
            (place(), sphere()),
            (doc! { "at": "2dsphere", "k": 1 }, sphere()),
            Some("one"),
        ),
        (
            (place(), sphere()),
            (place(), doc! { "2dsphereIndexVersion": 2 }),
            None,
        ),
        (
            (a(), none()),
            (doc! { "a": 1, "at": "2dsphere" }, sphere()),
            None,
        ),
        (
            (doc! { "a": "hashed" }, none()),
            (doc! { "a": "hashed", "b": 1 }, none()),
            Some("one"),
        ),
        ((doc! { "a": "hashed" }, none()), (ab(), none()), None),
        (
            (doc! { "$**": 1 }, only("x")),
            (doc! { "$**": 1 }, only("y")),
            None,
        ),
        (
            (doc! { "$**": 1 }, only("x")),
            (doc! { "$**": 1 }, with(only("x"), sparse())),
            Some("other"),
        ),
        ((a(), german()), (ab(), german()), Some("one")),
        ((a(), german()), (ab(), none()), None),
        ((a(), open()), (ab(), open()), Some("one")),
        ((a(), open()), (ab(), none()), None),
        ((a(), sparse()), (ab(), none()), None),
        ((a(), none()), (ab(), sparse()), None),
        ((a(), sparse()), (ab(), sparse()), None),
        ((a(), sparse()), (a(), none()), Some("one")),
        ((a(), unique()), (ab(), unique()), None),
        ((a(), unique()), (a(), none()), Some("other")),
        (
            (a(), with(unique(), sparse())),
            (a(), unique()),
            Some("one"),
        ),
        ((a(), with(unique(), sparse())), (a(), none()), None),
        ((a(), none()), (ab(), doc! { "hidden": true }), None),
        (
            (
                doc! { "_fts": "text", "_ftsx": 1 },
                doc! { "weights": { "x": 1 } },
            ),
            (
                doc! { "_fts": "text", "_ftsx": 1 },
                doc! { "weights": { "x": 2 } },
            ),
            None,
        ),
        (
            (
                doc! { "_fts": "text", "_ftsx": 1 },
                doc! { "weights": { "x": 1 } },
            ),
            (
                doc! { "_fts": "text", "_ftsx": 1 },
                doc! { "weights": { "x": 1 } },
            ),
            Some("other"),
        ),
    ] {
        let named = |name: &str, of: &(Document, Document)| told(name, of.0.clone(), of.1.clone());
        let found = findings(vec![named("one", &one), named("other", &other)], &[], 0);
        let found: Vec<&str> = found.iter().map(|(_, object)| object.as_str()).collect();
        let expected = which.map(|which| format!("app.c.{which}"));
        assert_eq!(
            found,
            expected.iter().map(String::as_str).collect::<Vec<_>>(),
            "{one:?} {other:?}"
        );
    }
}

#[test]
fn prefixes_and_duplicates_are_told_apart() {
    let told = findings(
        vec![
            index("a_1", &["a"]),
            index("a_1_b_1", &["a", "b"]),
            index("z", &["a", "b"]),
        ],
        &[],
        0,
    );
    assert_eq!(
        told,
        [
            ("index.overlapping".to_owned(), "app.c.a_1".to_owned()),
            ("index.duplicate".to_owned(), "app.c.z".to_owned()),
        ]
    );
}
