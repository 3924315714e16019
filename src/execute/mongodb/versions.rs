//! Archives that have other versions of the same document: a collection holds one of each `_id`.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use mongodb::bson::RawDocumentBuf;
use sha2::{Digest, Sha256};

use super::copies::named;
use super::source::{same_id, value_at};
use crate::plan::mongodb::Manifest;

/// Documents that are compared at once: what is kept of each takes some twenty bytes. Where there
/// are more, the files are read more than once.
const AT_ONCE: i64 = 2_000_000;
/// Documents that are named.
const NAMED: usize = 5;

/// What was seen of the documents of several archives.
pub(super) struct Versions {
    rounds: u64,
    round: u64,
    /// Content by `_id`, each by a part of its hash.
    seen: HashMap<u64, u64>,
    /// Of which there are several.
    several: BTreeSet<u64>,
    /// Of some of those: the `_id` and the archives.
    found: BTreeMap<u64, (String, BTreeSet<usize>)>,
}

impl Versions {
    pub(super) fn of(manifests: &[Manifest]) -> Self {
        let all: i64 = manifests.iter().map(|manifest| manifest.rows.max(0)).sum();
        Self::in_rounds(u64::try_from(all / AT_ONCE).unwrap_or(0) + 1)
    }

    fn in_rounds(rounds: u64) -> Self {
        Versions {
            rounds,
            round: 0,
            seen: HashMap::new(),
            several: BTreeSet::new(),
            found: BTreeMap::new(),
        }
    }

    /// Looks at documents.
    pub(super) fn see(&mut self, documents: &[RawDocumentBuf]) {
        for document in documents {
            let Some(id) = id_of(document) else { continue };
            if id % self.rounds != self.round {
                continue;
            }
            let content = short(document.as_bytes());
            if *self.seen.entry(id).or_insert(content) != content {
                self.several.insert(id);
            }
        }
    }

    /// Whether all of them have to be looked at once more.
    pub(super) fn goes_on(&mut self) -> bool {
        self.seen.clear();
        self.round += 1;
        self.round < self.rounds
    }

    /// Whether there are documents in several versions.
    pub(super) fn differ(&self) -> bool {
        !self.several.is_empty()
    }

    /// Finds out which they are, of the documents of one archive.
    pub(super) fn look_for(&mut self, archive: usize, documents: &[RawDocumentBuf]) {
        for document in documents {
            let Some(id) = id_of(document).filter(|id| self.several.contains(id)) else {
                continue;
            };
            if self.found.len() < NAMED || self.found.contains_key(&id) {
                let shown = || {
                    let id = value_at(document, "_id");
                    (
                        id.map(|id| id.to_string()).unwrap_or_default(),
                        BTreeSet::new(),
                    )
                };
                let (_, archives) = self.found.entry(id).or_insert_with(shown);
                archives.insert(archive);
            }
        }
    }

    /// Which they are.
    pub(super) fn told(&self, manifests: &[Manifest]) -> String {
        let of = |n: &usize| {
            let manifest = manifests.get(*n)?;
            let at = manifest.created_at.format("%Y-%m-%d %H:%M UTC");
            Some(format!("{} ({at})", manifest.id))
        };
        let each = self.found.values().map(|(id, archives)| {
            let archives: Vec<String> = archives.iter().filter_map(of).collect();
            format!(
                "{} in {}",
                named(std::slice::from_ref(id)),
                archives.join(" and ")
            )
        });
        let each: Vec<String> = each.collect();
        let more = self.several.len().saturating_sub(each.len());
        let more = match more {
            0 => String::new(),
            more => format!("; and {more} more"),
        };
        format!("{}{more}", each.join("; "))
    }

    /// How many they are.
    pub(super) fn count(&self) -> usize {
        self.several.len()
    }
}

/// The `_id`, the same for those that the server holds to be the same.
fn id_of(document: &RawDocumentBuf) -> Option<u64> {
    same_id(document).map(|id| short(id.as_bytes()))
}

fn short(bytes: &[u8]) -> u64 {
    let digest = Sha256::digest(bytes);
    let first = digest.iter().take(8);
    first.fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;
    use mongodb::bson::{Bson, doc};

    fn documents(v: i32, ids: impl Iterator<Item = Bson>) -> Vec<RawDocumentBuf> {
        ids.map(|id| RawDocumentBuf::try_from(&doc! { "_id": id, "v": v }).unwrap())
            .collect()
    }

    #[test]
    fn other_versions_are_seen_in_any_number_of_rounds() {
        let one = documents(1, (0..100).map(Bson::Int32));
        let same = documents(1, (50..120).map(Bson::Int32));
        // The server holds 7 and 7.0 to be the same `_id`.
        let other = documents(2, (7..14).map(|n| Bson::Double(f64::from(n))));
        for rounds in [1, 2, 7] {
            let mut versions = Versions::in_rounds(rounds);
            loop {
                for some in [&one, &same, &other] {
                    versions.see(some);
                }
                if !versions.goes_on() {
                    break;
                }
            }
            assert_eq!(versions.count(), 7, "{rounds}");
            for (n, some) in [&one, &same, &other].into_iter().enumerate() {
                versions.look_for(n, some);
            }
            assert_eq!(versions.found.len(), NAMED);
            let each = versions.found.values();
            assert!(
                each.clone()
                    .all(|(_, archives)| *archives == BTreeSet::from([0, 2]))
            );
            assert!(versions.told(&[]).ends_with("; and 2 more"));
        }
    }
}
