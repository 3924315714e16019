//! Filters as people write them, and what is read out of them.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use mongodb::bson::doc;

use super::super::fields::listed;
use super::*;

fn told(filter: Document) -> Vec<String> {
    let named = named(&filter);
    let shown = |(field, met): (String, Met)| {
        let kinds = met.kinds.map_or("anything".to_owned(), |all| listed(&all));
        match met.without {
            Without::Met => format!("{field}: {kinds}, or none"),
            Without::Unmet => format!("{field}: {kinds}"),
            Without::Unknown => format!("{field}: {kinds}, who knows"),
        }
    };
    let opaque = named.opaque.map(|operator| format!("? {operator}"));
    named.fields.into_iter().map(shown).chain(opaque).collect()
}

#[test]
fn fields_are_found_wherever_a_filter_names_them() {
    for (filter, expected) in [
        (
            doc! { "a": 1, "b.c": { "$gt": "x" }, "$comment": "d" },
            vec!["a: number", "b.c: string"],
        ),
        (
            doc! { "$or": [{ "a": Bson::Null }, { "$and": [{ "b": { "$ne": true } }] }], "c": { "$in": [1, Bson::Null] } },
            vec![
                "a: anything, or none",
                "b: bool, or none",
                "c: anything, or none",
            ],
        ),
        (
            doc! { "$nor": [{ "a": 1 }, { "a": "x" }], "b": { "$exists": false }, "c": { "$exists": true } },
            vec![
                "a: number or string, or none",
                "b: anything, or none",
                "c: anything",
            ],
        ),
        (
            doc! { "a": { "$elemMatch": { "b": 1 } }, "c": { "$in": ["x", "y"] } },
            vec!["a: anything", "a.b: number", "c: string"],
        ),
        (
            doc! { "a": { "$all": [{ "$elemMatch": { "b": true } }] }, "o": { "p": "x" } },
            vec!["a: anything", "a.b: bool", "o: anything", "o.p: string"],
        ),
        (
            doc! { "a": { "$regex": "x", "$options": "i" }, "b": { "$size": 1 }, "c": { "$mod": [2, 0] } },
            vec!["a: string", "b: array", "c: number"],
        ),
    ] {
        assert_eq!(told(filter), expected);
    }
}

#[test]
fn what_is_made_of_a_document_without_the_field_is_told_apart() {
    for (condition, expected) in [
        (doc! { "$ne": Bson::Null }, "a: anything"),
        (doc! { "$ne": true }, "a: bool, or none"),
        (doc! { "$nin": [Bson::Null, false] }, "a: anything"),
        (doc! { "$nin": [true] }, "a: bool, or none"),
        (doc! { "$not": { "$ne": true } }, "a: bool"),
        (doc! { "$not": { "$exists": false } }, "a: anything"),
        (doc! { "$not": { "$gt": 1 } }, "a: number, or none"),
        (doc! { "$gte": Bson::Null }, "a: anything, or none"),
        (doc! { "$ne": 1, "$exists": true }, "a: anything"),
        (doc! { "$gt": Bson::MinKey }, "a: anything, who knows"),
    ] {
        assert_eq!(told(doc! { "a": condition }), [expected]);
    }
    assert_eq!(
        told(doc! { "$nor": [{ "a": { "$ne": true } }] }),
        ["a: bool"]
    );
    assert_eq!(
        told(doc! { "$nor": [{ "$nor": [{ "a": true }] }] }),
        ["a: bool"]
    );
    assert_eq!(
        told(doc! { "$or": [{ "a": 1 }, { "a": Bson::Null }] }),
        ["a: anything, who knows"]
    );
}

#[test]
fn expressions_name_fields_in_many_ways() {
    let of = |expression: Bson| told(doc! { "$expr": expression });
    let unknown = |field: &str| vec![format!("{field}: anything, who knows")];
    assert_eq!(
        of(Bson::from(
            doc! { "$lt": ["$a.b", { "$add": ["$$ROOT.c", "$$NOW", { "$literal": "$d" }] }] }
        )),
        ["a.b: anything, who knows", "c: anything, who knows"]
    );
    assert_eq!(of(Bson::from("$pinned")), unknown("pinned"));
    assert_eq!(
        of(Bson::from(doc! { "$eq": ["$a", "x"] })),
        ["a: string, who knows"]
    );
    assert_eq!(
        of(Bson::from(doc! { "$gt": [5, "$a"] })),
        ["a: number, who knows"]
    );
    assert_eq!(
        of(Bson::from(doc! { "$in": ["$a", ["x", "y"]] })),
        ["a: string, who knows"]
    );
    assert_eq!(
        of(Bson::from(doc! { "$in": ["x", "$tags"] })),
        unknown("tags")
    );
    for get in [
        Bson::from(doc! { "$getField": "a" }),
        Bson::from(doc! { "$getField": { "field": "a", "input": "$$ROOT" } }),
    ] {
        assert_eq!(of(get), unknown("a"));
    }
    assert_eq!(
        of(Bson::from(doc! { "$getField": { "$concat": ["a", "b"] } })),
        ["? $getField"]
    );
    assert_eq!(
        of(Bson::from(
            doc! { "$anyElementTrue": { "$map": { "input": "$tags", "as": "t", "in": "$$t.held" } } }
        )),
        ["tags: anything, who knows", "? $$t"]
    );
}

#[test]
fn schemas_name_fields_and_code_hides_them() {
    let schema = doc! {
        "required": ["a"],
        "properties": { "b": { "required": ["c"] } },
        "anyOf": [{ "required": ["d"] }],
    };
    assert_eq!(
        told(doc! { "$jsonSchema": schema }),
        ["a", "b", "b.c", "d"].map(|field| format!("{field}: anything, who knows"))
    );
    assert_eq!(told(doc! { "$where": "this.a" }), ["? $where"]);
}

#[test]
fn what_no_rule_can_use_is_found_wherever_it_stands() {
    let near = doc! { "$or": [{ "a": 1 }, { "loc": { "$near": [1, 2] } }] };
    assert_eq!(unusable(&near).unwrap().0, "$near");
    let text = doc! { "$text": { "$search": "x" } };
    assert_eq!(unusable(&text).unwrap().0, "$text");
    assert!(unusable(&doc! { "loc": { "$geoWithin": { "$box": [[0, 0], [1, 1]] } } }).is_none());
}
