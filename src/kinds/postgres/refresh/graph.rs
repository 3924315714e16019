//! From views to what they are made from.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest, Sha256};

use super::facts::{Counters, Facts, View};

/// What a materialized view is made from, seen through plain views.
#[derive(Debug, Default)]
pub(super) struct Sources {
    /// Materialized views it reads directly.
    pub(super) views: BTreeSet<u32>,
    /// Tables that hold its rows, those of the views above included where
    /// they are refreshed along with it.
    pub(super) tables: BTreeSet<u32>,
    /// How it, and the plain views below it, are defined, by their ids.
    pub(super) definitions: BTreeMap<u32, i64>,
    /// Why counters alone cannot tell whether it is up to date.
    pub(super) moods: BTreeSet<String>,
}

impl Sources {
    /// What changes when a source does; equal evidence means that nothing did.
    pub(super) fn evidence(&self, view: u32, facts: &Facts) -> String {
        let mut hash = Sha256::new();
        hash.update(view.to_le_bytes());
        for table in &self.tables {
            hash.update(table.to_le_bytes());
            if let Some(counters) = facts.counters.get(table) {
                hash.update(counters.filenode.to_le_bytes());
                hash.update(counters.changes.to_le_bytes());
            }
        }
        for (view, definition) in &self.definitions {
            hash.update(view.to_le_bytes());
            hash.update(definition.to_le_bytes());
        }
        hash.finalize()[..16]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

/// Materialized views in an order in which each comes after those it reads,
/// with their sources. `refreshed` tells which ones the task keeps up to date.
pub(super) fn in_order(facts: &Facts, refreshed: impl Fn(&View) -> bool) -> Vec<(u32, Sources)> {
    let mut direct: BTreeMap<u32, Sources> = BTreeMap::new();
    for (&oid, view) in facts.views.iter().filter(|(_, view)| view.materialized) {
        let mut sources = Sources::default();
        sources.moods.extend(view.moods.iter().cloned());
        sources.definitions.insert(oid, view.definition);
        let mut seen = BTreeSet::from([oid]);
        let mut todo = facts.reads.get(&oid).cloned().unwrap_or_default();
        while let Some(source) = todo.pop() {
            if !seen.insert(source) {
                continue;
            }
            match facts.views.get(&source) {
                Some(view) if view.materialized => {
                    sources.views.insert(source);
                }
                Some(plain) => {
                    sources.moods.extend(plain.moods.iter().cloned());
                    sources.definitions.insert(source, plain.definition);
                    todo.extend(facts.reads.get(&source).into_iter().flatten());
                }
                None => {
                    todo.extend(facts.children.get(&source).into_iter().flatten());
                    if let Some(secured) = facts.secured.get(&source) {
                        sources.moods.extend(secured.moods.iter().cloned());
                        sources.definitions.insert(source, secured.definition);
                    }
                    // A partitioned table has no rows of its own.
                    if let Some(Counters { uncounted, .. }) = facts.counters.get(&source) {
                        sources.moods.extend(uncounted.clone());
                        // Others may be counted, and a TRUNCATE shows in any case.
                        sources.tables.insert(source);
                    }
                }
            }
        }
        direct.insert(oid, sources);
    }
    let mut ordered: Vec<(u32, Sources)> = Vec::new();
    let mut placed: BTreeMap<u32, usize> = BTreeMap::new();
    while !direct.is_empty() {
        let ready = |(_, sources): &(&u32, &Sources)| {
            sources
                .views
                .iter()
                .all(|view| placed.contains_key(view) || !direct.contains_key(view))
        };
        // Views cannot read each other in a circle; if they ever did, any order is as good.
        let next = direct.iter().find(ready).or_else(|| direct.iter().next());
        let Some(oid) = next.map(|(oid, _)| *oid) else {
            break;
        };
        let Some(mut sources) = direct.remove(&oid) else {
            break;
        };
        for above in sources.views.clone() {
            let kept_up = facts.views.get(&above).is_some_and(&refreshed);
            match placed.get(&above).and_then(|n| ordered.get(*n)) {
                // Refreshed along with this one: what it is made from tells more than
                // its own counters, which that very refresh will move.
                Some((_, theirs)) if kept_up => {
                    let (tables, moods) = (theirs.tables.clone(), theirs.moods.clone());
                    let definitions = theirs.definitions.clone();
                    sources.definitions.extend(definitions);
                    sources.tables.extend(tables);
                    sources.moods.extend(moods);
                }
                _ => drop(sources.tables.insert(above)),
            }
        }
        placed.insert(oid, ordered.len());
        ordered.push((oid, sources));
    }
    ordered
}
