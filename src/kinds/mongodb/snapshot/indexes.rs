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
mod tests;
