//! How indexes are used, on all members together: those that nobody misses are told of.

use mongodb::bson::Bson;

use super::super::common::{Collection, Index};
use super::Snapshot;
use super::facts::Facts;
use super::told::note;
use super::told::say;
use crate::engines::mongodb::{Spread, namespace, number};
use crate::plan::mongodb::{Body, shell_name, shell_text};
use crate::plan::{Moment, Plan, Severity};
use crate::values::Bytes;

/// How many of the largest indexes do.
const MOST_INDEXES: usize = 20;

impl Snapshot {
    /// How often the largest indexes were used, on all members together.
    pub(super) fn used(&self, facts: &Facts, plan: &mut Plan<Body>) {
        if facts.unasked > 0 {
            // What a member that was not asked adds is missing.
            return;
        }
        let indexes = facts.collections.iter().flat_map(|(name, collection)| {
            let indexes = collection.indexes.iter();
            indexes.map(move |index| (name, index))
        });
        let mut all: Vec<(i64, String, i64)> = indexes
            .filter_map(|(name, index)| {
                let uses = facts.uses.get(&(name.clone(), index.name.clone()))?;
                let object = format!("{}.{}", namespace(&facts.database, name), index.name);
                Some((index.bytes, object, uses.iter().map(|one| one.times).sum()))
            })
            .collect();
        let never = all.iter().filter(|(_, _, times)| *times == 0).count();
        note(
            plan,
            "indexes.never_used",
            "",
            i64::try_from(never).unwrap_or(i64::MAX),
        );
        all.sort_by(|a, b| (b.0, &a.1).cmp(&(a.0, &b.1)));
        for (_, object, times) in all.iter().take(MOST_INDEXES) {
            note(plan, "index.scans", object, *times);
        }
    }

    pub(super) fn indexes(
        &self,
        facts: &Facts,
        name: &str,
        collection: &Collection,
        at: &Moment,
        plan: &mut Plan<Body>,
    ) {
        let object = namespace(&facts.database, name);
        let shell = shell_name(&facts.database, name);
        for index in &collection.indexes {
            if index.name == "_id_" || u64::try_from(index.bytes).unwrap_or(0) < self.min_size.get()
            {
                continue;
            }
            let shown = format!("{object}.{}", index.name);
            if let Some(other) = collection.indexes.iter().find(|other| covers(other, index)) {
                let same = other.keys.len() == index.keys.len();
                let (code, words) = match same {
                    true => ("index.duplicate", "has the same keys"),
                    false => ("index.overlapping", "begins with the same keys"),
                };
                say(
                    plan,
                    (code, Severity::Info),
                    &shown,
                    format!(
                        "`{}` {words}: this one ({}) costs every write and helps no query",
                        other.name,
                        Bytes(u64::try_from(index.bytes).unwrap_or(0))
                    ),
                    Some(format!(
                        "{shell}.hideIndex({})  // drop it when nobody misses it",
                        shell_text(&index.name)
                    )),
                );
                continue;
            }
            let Some(uses) = facts.uses.get(&(name.to_owned(), index.name.clone())) else {
                continue;
            };
            let times: i64 = uses.iter().map(|u| u.times).sum();
            let youngest = uses.iter().map(|u| u.since).max().unwrap_or(0);
            let days = (at.now.timestamp() - youngest) / 86_400;
            let long_enough = at.now.timestamp() - youngest
                >= i64::try_from(self.unused_after.get().as_secs()).unwrap_or(i64::MAX);
            // What holds a promise is not judged by its use.
            if times == 0
                && long_enough
                && facts.unasked == 0
                // Queries of the other shards are not seen here.
                && collection.spread == Spread::No
                && !index.unique
                && index.expires.is_none()
                && !index.hidden
            {
                say(
                    plan,
                    ("index.unused", Severity::Info),
                    &shown,
                    format!(
                        "no member has used the index for {days} days; it takes {} and costs every write",
                        Bytes(u64::try_from(index.bytes).unwrap_or(0))
                    ),
                    Some(format!(
                        "{shell}.hideIndex({})  // drop it when nobody misses it",
                        shell_text(&index.name)
                    )),
                );
            }
        }
    }
}

/// What the server says of an index that does not change which queries it answers, or is looked at by itself.
const BESIDE: [&str; 7] = [
    "name",
    "key",
    "ns",
    "background",
    "unique",
    "sparse",
    "hidden",
];

/// Whether all is as before without `index`, as `other` answers everything that it does, and keeps what it keeps.
fn covers(other: &Index, index: &Index) -> bool {
    let apart = |i: &Index| i.hidden || i.expires.is_some();
    if other.name == index.name || apart(index) || apart(other) || !are_alike(other, index) {
        return false;
    }
    let begins = other.keys.len() >= index.keys.len()
        && other
            .keys
            .iter()
            .zip(&index.keys)
            .all(|((a, way), (b, other))| a == b && is_same_way(way, other));
    let same = other.keys.len() == index.keys.len();
    let wildcard = index.keys.iter().any(|(name, _)| name.contains("$**"));
    // Texts, places and wildcards leave out what has nothing of theirs, whether they are called sparse or not.
    let whole = index.has_all();
    let leaves_out = |i: &Index| whole && i.sparse;
    if !begins || whole != other.has_all() || (wildcard && !same) {
        return false;
    }
    match (leaves_out(index), leaves_out(other)) {
        (false, true) => return false,
        (true, _) if !same => return false,
        _ => {}
    }
    // Whoever keeps values apart is missed, unless the other does that, too.
    if index.unique && !(same && other.unique) {
        return false;
    }
    let first = (!other.unique, leaves_out(other), &other.name);
    !same || first < (!index.unique, leaves_out(index), &index.name)
}

/// Whether two indexes differ by their keys and names at most: in collation, documents, weights, bounds, versions
/// they do not.
fn are_alike(one: &Index, other: &Index) -> bool {
    let rest = |i: &Index| {
        let mut rest: Vec<(String, Bson)> = i.whole.clone().into_iter().collect();
        rest.retain(|(name, _)| !BESIDE.contains(&name.as_str()));
        rest.sort_by(|a, b| a.0.cmp(&b.0));
        rest
    };
    one.partial == other.partial && one.collated == other.collated && rest(one) == rest(other)
}

/// Whether a key goes the same way: any number above zero is one, and drivers write it as one type or another.
fn is_same_way(one: &Bson, other: &Bson) -> bool {
    let up = |way: &Bson| match way {
        Bson::Double(way) => Some(*way > 0.0),
        way => number(Some(way)).map(|way| way > 0),
    };
    match (up(one), up(other)) {
        (Some(one), Some(other)) => one == other,
        (None, None) => one == other,
        _ => false,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
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
            let named =
                |name: &str, of: &(Document, Document)| told(name, of.0.clone(), of.1.clone());
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
}
