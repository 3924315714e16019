//! How indexes are used, on all members together: those that nobody misses are told of.

use super::super::common::{Collection, Index};
use super::Snapshot;
use super::facts::Facts;
use super::told::note;
use super::told::say;
use crate::engines::mongodb::{Spread, namespace};
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
                let same = other.keys == index.keys;
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

/// Whether `other` answers everything that `index` does.
fn covers(other: &Index, index: &Index) -> bool {
    let special = |i: &Index| {
        i.sparse || i.partial || i.collated || i.hidden || i.expires.is_some() || !i.has_all()
    };
    if other.name == index.name || index.unique || special(index) || special(other) {
        return false;
    }
    let begins = other.keys.len() >= index.keys.len()
        && other.keys.iter().zip(&index.keys).all(|(a, b)| a == b);
    // Of two that are the same, the one that sorts later is the duplicate.
    begins && (other.keys.len() > index.keys.len() || other.unique || other.name < index.name)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use std::collections::{BTreeMap, HashMap};

    use mongodb::bson::Bson;

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
