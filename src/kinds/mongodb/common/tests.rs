use super::*;
use crate::engines::mongodb::Refusal;

#[test]
fn a_member_that_does_not_answer_is_no_missing_privilege() {
    let refused = |refusal| MongoError::Connect {
        server: "b:1".to_owned(),
        refusal,
    };
    for (error, code) in [
        (refused(Refusal::Refused), "member.down"),
        (refused(Refusal::NoAnswer), "member.down"),
        (
            MongoError::Command {
                doing: "looking".to_owned(),
                code: 13436,
                name: "NotPrimaryOrSecondary".to_owned(),
                message: "node is recovering".to_owned(),
            },
            "member.down",
        ),
        (refused(Refusal::Credentials), "privilege.missing"),
        (
            MongoError::Unauthorized {
                doing: "measuring".to_owned(),
                command: "collStats".to_owned(),
                namespace: "app.a".to_owned(),
                lives_in: "admin".to_owned(),
            },
            "privilege.missing",
        ),
    ] {
        let told = not_answered(&error, "what is free on this member", "b:1");
        assert_eq!((told.code.as_str(), told.object.as_str()), (code, "b:1"));
        assert!(
            told.message
                .starts_with("what is free on this member could not be told")
        );
    }
}
#[test]
fn an_index_with_the_collation_of_its_collection_orders_and_others_are_told() {
    let index = |document: Document| Index::read(&document);
    let german = doc! { "locale": "de" };
    let mut collection = Collection {
        options: doc! { "collation": german.clone() },
        ..Collection::default()
    };
    let inherits = doc! { "name": "at_1", "key": { "at": 1 }, "collation": german };
    let french = doc! { "name": "fr", "key": { "at": 1 }, "collation": { "locale": "fr" } };
    let partial = doc! { "name": "p", "key": { "at": 1 }, "partialFilterExpression": {} };
    let hidden = doc! { "name": "h", "key": { "at": -1 }, "hidden": true };
    collection.indexes = vec![index(inherits)];
    assert_eq!(collection.ordering("at").count(), 1);
    assert_eq!(collection.ordering("b").count(), 0);
    assert_eq!(collection.new_keys("b"), doc! { "b": 1 });
    assert_eq!(
        collection.lacks_order("b"),
        "there is no index that begins with `b`"
    );
    collection.indexes = vec![index(french), index(partial)];
    assert_eq!(collection.ordering("at").count(), 0);
    assert_eq!(collection.new_keys("at"), doc! { "at": -1 });
    assert_eq!(
        collection.lacks_order("at"),
        "there is no index that begins with `at` and has all documents in that order (`fr` has a collation of its own, `p` is partial)"
    );
    collection.indexes.push(index(hidden));
    assert_eq!(collection.new_keys("at"), doc! { "at": 1, "_id": 1 });
}
