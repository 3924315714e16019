//! What a user lacks, and what an error of the server's keeps from being known.

use std::collections::BTreeMap;

use crate::engines::mongodb::{MongoError, Right, Rights, Session, grant, namespace, role_for};

/// What is not known because of an error, with what helps.
pub(super) fn told(what: &str, error: &MongoError) -> String {
    match error.hint() {
        Some(hint) => format!("{what}: {error} ({hint})"),
        None => format!("{what}: {error}"),
    }
}

/// What is missing of these rights, with what grants it: a sentence for each role.
pub(super) fn lacking(rights: &Rights, needed: &[Right], session: &Session) -> Vec<String> {
    let mut lacking: BTreeMap<(String, &str), BTreeMap<String, Vec<&str>>> = BTreeMap::new();
    for right in rights.missing(needed) {
        let place = match (right.database.as_str(), right.collection.as_str()) {
            ("", _) => "the whole set".to_owned(),
            (database, "") => database.to_owned(),
            (_, collection) => namespace(&right.database, collection),
        };
        let (role, on) = role_for(right.action, &place);
        let places = lacking.entry((on, role)).or_default();
        places.entry(place).or_default().push(right.action);
    }
    // Who may write may read.
    let written: Vec<String> = lacking
        .keys()
        .filter(|(_, role)| *role == "readWrite")
        .map(|(on, _)| on.clone())
        .collect();
    lacking.retain(|(on, role), _| *role != "read" || !written.contains(on));
    let line = |((on, role), places): ((String, &str), BTreeMap<String, Vec<&str>>)| {
        let what = places
            .iter()
            .map(|(place, actions)| format!("{} on {place}", actions.join(", ")));
        let what = what.collect::<Vec<_>>().join("; ");
        format!("{what}: {}", grant(session.lives_in(), role, &on))
    };
    lacking.into_iter().map(line).collect()
}
