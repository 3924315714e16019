//! Whether rows that have left their table may be in it again, told by where they have left from:
//! which server, which database, which table. A database that was put back from a dump, or a copy
//! that got its name, has another id than the one that they left; so has a table.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Manifest, Received};
use crate::engines::postgres::timeline::Standpoint;
use crate::plan::archived;

/// Where the archived rows of a table were last looked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Looked {
    /// On which server, as [`Manifest::server`] has it.
    pub server: String,
    /// In which database, by its id.
    #[serde(default)]
    pub database: u32,
    /// In which tables, by their ids.
    #[serde(default)]
    pub tables: BTreeSet<u32>,
    /// Whether they are to be looked for once more, wherever that was.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub anew: bool,
}

impl Looked {
    /// What is remembered of a table; earlier versions noted the server alone.
    pub fn among(source: &str, memories: &HashMap<String, Value>) -> Option<Looked> {
        let value = memories.get(&archived::seen_as(source))?;
        match value.as_str() {
            Some(server) => Some(Looked {
                server: server.to_owned(),
                ..Looked::default()
            }),
            None => Looked::deserialize(value).ok(),
        }
    }

    /// What is to be remembered when they were looked for here, in these tables besides.
    #[must_use]
    pub fn now(before: Option<Looked>, here: &Standpoint, tables: &[u32]) -> Looked {
        let before = before.filter(|looked| looked.is_in(here));
        let mut all = before.map(|looked| looked.tables).unwrap_or_default();
        all.extend(tables);
        Looked {
            server: here.server.clone(),
            database: here.database,
            tables: all,
            anew: false,
        }
    }

    fn is_in(&self, here: &Standpoint) -> bool {
        self.server == here.server && self.database == here.database
    }
}

/// A table as it is now.
pub struct Place<'a> {
    /// The server and the database.
    pub here: &'a Standpoint,
    /// Its id.
    pub oid: u32,
    /// Its partitions by their names, as manifests have them, with their ids.
    pub parts: HashMap<String, u32>,
}

/// What of a table may have rows again that have left.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct PutBack {
    /// Whether any may.
    pub any: bool,
    /// Partitions that are other tables by now, with their ids.
    pub parts: BTreeMap<String, u32>,
}

impl PutBack {
    /// Says it of batches that have left: where they left another server, database or table than
    /// this is, or this server may not know that they have, and nobody has looked yet.
    pub fn of(left: &[Manifest], place: &Place<'_>, looked: Option<&Looked>) -> PutBack {
        let here = place.here;
        let anew = looked.is_some_and(|looked| looked.anew);
        let on_server = looked.is_some_and(|looked| looked.server == here.server);
        let in_database = looked.is_some_and(|looked| looked.is_in(here));
        let in_table =
            |oid: u32| in_database && looked.is_some_and(|looked| looked.tables.contains(&oid));
        let mut found = PutBack {
            any: anew && !left.is_empty(),
            parts: BTreeMap::new(),
        };
        for manifest in left {
            let moved = manifest.server.as_deref() != Some(&*here.server);
            let lost = here.may_have_lost(manifest.server.as_deref(), &manifest.transaction);
            let other = |then: Option<u32>, now: u32| then.is_some_and(|then| then != now);
            found.any |= lost && !(moved && on_server)
                || other(manifest.database_oid, here.database) && !in_database
                || other(manifest.oid, place.oid) && !in_table(place.oid);
            if manifest.table != manifest.source
                && let Some(now) = place.parts.get(&manifest.table)
                && other(manifest.own(), *now)
                && !in_table(*now)
            {
                found.any = true;
                found.parts.insert(manifest.table.clone(), *now);
            }
        }
        found
    }
}

impl Manifest {
    /// What of a table may have rows again that have left with these batches of it: `parts` are its
    /// partitions by their names, as manifests have them, with their ids.
    pub fn put_back(
        left: &[Manifest],
        (source, oid): (&str, u32),
        parts: HashMap<String, u32>,
        here: &Standpoint,
        memories: &HashMap<String, Value>,
    ) -> PutBack {
        let looked = Looked::among(source, memories);
        PutBack::of(left, &Place { here, oid, parts }, looked.as_ref())
    }

    /// What is to be remembered when rows of a table were looked for here, in these tables.
    pub fn looked(
        source: &str,
        here: &Standpoint,
        tables: &[u32],
        memories: &HashMap<String, Value>,
    ) -> Value {
        let looked = Looked::now(Looked::among(source, memories), here, tables);
        serde_json::to_value(looked).unwrap_or_default()
    }

    /// What is to be remembered where the next run is to look for them once more.
    pub fn to_be_looked_for() -> Value {
        let looked = Looked {
            anew: true,
            ..Looked::default()
        };
        serde_json::to_value(looked).unwrap_or_default()
    }

    /// Whether its rows left this database of this server: elsewhere ids are others'.
    pub fn is_of(&self, here: &Standpoint) -> bool {
        let same = self.server.is_none() || here.is_of(self.server.as_deref());
        same && self.database_oid.is_none_or(|own| own == here.database)
    }

    /// Whether the rows left another table than the one of the id `now`: theirs, or where their
    /// partition is no more, all of the table that it was of. `root` says which table that is to be.
    pub fn left_another(&self, root: Option<u32>, now: u32) -> bool {
        let other = |then: Option<u32>, now: u32| then.is_some_and(|then| then != now);
        let all = root == Some(now) || self.oid == Some(now);
        let left = if all { self.oid } else { self.own() };
        other(left, now) || root.is_some_and(|root| other(self.oid, root))
    }

    /// The id of the table that held the rows, where it is known.
    pub fn own(&self) -> Option<u32> {
        let whole = self.whole.as_ref().map(|whole| whole.oid);
        let same = self.oid.filter(|_| self.table == self.source);
        whole.or(self.table_oid).or(same)
    }
}

impl Received {
    /// Whether rows came into another table than the one of this id, or into that of another database.
    pub fn is_elsewhere(&self, there: &Standpoint, table: u32) -> bool {
        let other = |then: Option<u32>, now: u32| then.is_some_and(|then| then != now);
        other(self.database_oid, there.database) || other(self.oid, table)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use serde_json::json;

    use super::*;

    fn here() -> Standpoint {
        Standpoint {
            server: "1/1".to_owned(),
            database: 5,
            since: "then".to_owned(),
            next_transaction: 1000,
        }
    }

    /// A batch of a partition of `public.t`, with what it says of where it left.
    fn batch(change: Value) -> Manifest {
        let mut value = json!({
            "id": "0199c0de-0000-7000-8000-000000000001", "run": "0199c0de-0000-7000-8000-000000000002",
            "maint": "0.1.0", "created_at": "2026-01-01T00:00:00Z", "settled": true, "source": "public.t",
            "oid": 10, "table": "public.t1", "table_oid": 11, "condition": "true", "columns": [], "rows": 1,
            "transaction": "900", "server": "1/1", "storage": "file:///x", "database_oid": 5, "files": []
        });
        let all = value.as_object_mut().unwrap();
        all.extend(change.as_object().unwrap().clone());
        serde_json::from_value(value).unwrap()
    }

    fn said(manifest: &Manifest, looked: Option<&Looked>) -> (bool, Vec<u32>) {
        let here = here();
        let place = Place {
            here: &here,
            oid: 10,
            parts: HashMap::from([("public.t1".to_owned(), 11)]),
        };
        let found = PutBack::of(std::slice::from_ref(manifest), &place, looked);
        (found.any, found.parts.into_values().collect())
    }

    #[test]
    fn another_place_is_looked_at_once() {
        let old = Looked {
            server: "1/1".to_owned(),
            ..Looked::default()
        };
        let seen = Looked::now(Some(old.clone()), &here(), &[10, 11]);
        let part = vec![11];
        // What differs, what it is, and whether it counts as looked at where only the server is known.
        for (change, parts, known_by_server) in [
            (json!({ "server": "2/1" }), vec![], true),
            (json!({ "server": "1/2" }), vec![], true),
            (json!({ "database_oid": 6 }), vec![], false),
            (json!({ "oid": 9 }), vec![], false),
            (json!({ "table_oid": 12 }), part.clone(), false),
            (
                json!({ "whole": { "oid": 12, "bounds": null, "place": 0 } }),
                part,
                false,
            ),
        ] {
            let manifest = batch(change.clone());
            assert_eq!(said(&manifest, None), (true, parts), "{change}");
            assert_eq!(said(&manifest, Some(&old)).0, !known_by_server, "{change}");
            assert_eq!(said(&manifest, Some(&seen)), (false, vec![]), "{change}");
        }
        // Nobody is told more than what was noted.
        for change in [
            json!({}),
            json!({ "database_oid": null }),
            json!({ "oid": null, "table_oid": null }),
        ] {
            assert_eq!(said(&batch(change), None), (false, vec![]));
        }
        // A server that has not come to the transaction was set back, whoever has looked.
        let ahead = batch(json!({ "transaction": "1000" }));
        assert_eq!(said(&ahead, Some(&seen)), (true, vec![]));
        let anew = Looked { anew: true, ..seen };
        assert_eq!(said(&batch(json!({})), Some(&anew)), (true, vec![]));
    }

    #[test]
    fn a_dropped_partition_left_the_table_that_it_was_of() {
        let part = batch(json!({}));
        let whole = batch(json!({ "whole": { "oid": 12, "bounds": null, "place": 0 } }));
        for (manifest, own) in [(&part, 11), (&whole, 12)] {
            // Itself, what was put in its place, the table that it was of, and what is in that one's.
            for (now, another) in [(own, false), (20, true), (10, false), (9, true)] {
                assert_eq!(manifest.left_another(None, now), another, "{now}");
            }
            assert!(!manifest.left_another(Some(10), own));
            assert!(!manifest.left_another(Some(10), 10));
            assert!(manifest.left_another(Some(10), 20));
            assert!(manifest.left_another(Some(9), 9));
        }
        let unknown = batch(json!({ "oid": null, "table_oid": null }));
        assert!(!unknown.left_another(None, 20));
    }

    #[test]
    fn what_was_remembered_of_another_place_is_forgotten() {
        let there = Standpoint {
            database: 6,
            ..here()
        };
        let seen = Looked::now(None, &there, &[1]);
        let now = Looked::now(Some(seen), &here(), &[2]);
        assert_eq!(now.tables, BTreeSet::from([2]));
        let more = Looked::now(Some(now), &here(), &[3]);
        assert_eq!(more.tables, BTreeSet::from([2, 3]));
        let key = archived::seen_as("public.t");
        for value in [json!("1/1"), serde_json::to_value(&more).unwrap()] {
            let memories = HashMap::from([(key.clone(), value)]);
            assert_eq!(Looked::among("public.t", &memories).unwrap().server, "1/1");
        }
        let none = HashMap::from([(key, Value::Null)]);
        assert_eq!(Looked::among("public.t", &none), None);
    }
}
