//! Indexes that members of a replica set have otherwise than the others.

use std::collections::{BTreeMap, BTreeSet};

use mongodb::bson::{Bson, Document};

use super::super::common::Index;
use crate::engines::mongodb::{key, namespace};
use crate::plan::mongodb::Body;
use crate::plan::{Finding, Plan, Severity};

/// What says nothing of what an index does: its name, which is asked by, how it was built, and in
/// which format it is kept.
const BESIDES: [&str; 4] = ["name", "v", "ns", "background"];

/// Tells them.
pub(super) fn differing(
    database: &str,
    name: &str,
    members: &BTreeMap<String, Vec<Index>>,
    plan: &mut Plan<Body>,
) {
    let names: BTreeSet<&str> = members
        .values()
        .flatten()
        .map(|index| index.name.as_str())
        .collect();
    for index in names {
        let (mut missing, mut there) = (Vec::new(), Vec::new());
        for (member, indexes) in members {
            match indexes.iter().find(|other| other.name == index) {
                Some(found) => there.push((member.as_str(), described(&found.whole))),
                None => missing.push(member.as_str()),
            }
        }
        let Some(usual) = most_frequent(&there) else {
            continue;
        };
        let others: Vec<String> = there
            .iter()
            .filter(|(_, one)| *one != usual)
            .map(|(member, one)| format!("{member} ({})", apart(&usual, one).join(", ")))
            .collect();
        let mut why = Vec::new();
        if !missing.is_empty() {
            why.push(format!("is missing on {}", missing.join(", ")));
        }
        if !others.is_empty() {
            why.push(format!("is another one on {}", others.join(", ")));
        }
        if !why.is_empty() {
            plan.findings.push(Finding {
                code: "index.differs".to_owned(),
                severity: Severity::Warning,
                object: namespace(database, name),
                message: format!(
                    "the index `{index}` {}: after a failover the same queries and writes behave differently",
                    why.join(", and ")
                ),
                suggestion: None,
            });
        }
    }
}

/// What most of them have, the first of those that are as frequent.
fn most_frequent(all: &[(&str, BTreeMap<String, String>)]) -> Option<BTreeMap<String, String>> {
    let times = |one: &BTreeMap<String, String>| all.iter().filter(|(_, it)| it == one).count();
    let one = all.iter().rev().max_by_key(|(_, one)| times(one));
    one.map(|(_, one)| one.clone())
}

/// What an index does, by the words of the server, the same for values that are the same.
fn described(index: &Document) -> BTreeMap<String, String> {
    index
        .iter()
        .filter(|(name, _)| !BESIDES.contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), written(value)))
        // What is not so need not be said.
        .filter(|(_, value)| value != "false")
        .collect()
}

fn written(value: &Bson) -> String {
    match value {
        Bson::Document(document) => {
            let parts = document.iter();
            let parts: Vec<String> = parts
                .map(|(name, value)| format!("{name:?}: {}", written(value)))
                .collect();
            format!("{{{}}}", parts.join(", "))
        }
        Bson::Array(values) => {
            let values: Vec<String> = values.iter().map(written).collect();
            format!("[{}]", values.join(", "))
        }
        Bson::Boolean(yes) => yes.to_string(),
        other => key(other),
    }
}

/// In what the two differ.
fn apart(one: &BTreeMap<String, String>, other: &BTreeMap<String, String>) -> Vec<String> {
    let names: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
    let differ = names
        .into_iter()
        .filter(|name| one.get(*name) != other.get(*name));
    differ.cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use mongodb::bson::doc;

    /// What is told of members with these indexes.
    fn told(members: &[(&str, &[Document])]) -> Vec<String> {
        let members = members.iter().map(|(member, indexes)| {
            let indexes = indexes.iter().map(Index::read).collect();
            ((*member).to_owned(), indexes)
        });
        let mut plan = Plan::default();
        differing("app", "events", &members.collect(), &mut plan);
        let all = plan.findings.into_iter().map(|finding| finding.message);
        all.collect()
    }

    #[test]
    fn whatever_makes_it_another_index_is_told() {
        let plain = doc! { "v": 2, "key": { "at": 1 }, "name": "an index" };
        for (option, value) in [
            ("unique", Bson::Boolean(true)),
            ("sparse", Bson::Boolean(true)),
            ("hidden", Bson::Boolean(true)),
            ("expireAfterSeconds", Bson::Int32(60)),
            ("partialFilterExpression", doc! { "a": 1 }.into()),
            ("collation", doc! { "locale": "de" }.into()),
        ] {
            let mut other = plain.clone();
            other.insert(option, value);
            let (plain, other) = ([plain.clone()], [other]);
            let all = told(&[("a:1", &plain), ("b:1", &other), ("c:1", &plain)]);
            assert_eq!(
                all,
                [format!(
                    "the index `an index` is another one on b:1 ({option}): after a failover the same queries and writes behave differently"
                )]
            );
            assert!(told(&[("a:1", &other), ("b:1", &other)]).is_empty());
        }
        let other_keys = doc! { "v": 2, "key": { "at": -1 }, "name": "an index" };
        let (plain, other) = ([plain], [other_keys]);
        let all = told(&[("a:1", &plain), ("b:1", &other), ("c:1", &[])]);
        assert_eq!(all.len(), 1, "{all:?}");
        let said = "is missing on c:1, and is another one on b:1 (key)";
        assert!(all[0].contains(said), "{all:?}");
    }

    #[test]
    fn what_is_written_otherwise_and_means_the_same_is_not_told() {
        let one = doc! { "v": 2, "key": { "at": 1 }, "name": "x", "expireAfterSeconds": 60, "sparse": false };
        let other = doc! { "v": 1, "key": { "at": 1.0 }, "name": "x", "expireAfterSeconds": 60_i64, "background": true, "ns": "app.events" };
        assert!(told(&[("a:1", &[one]), ("b:1", &[other])]).is_empty());
    }
}
