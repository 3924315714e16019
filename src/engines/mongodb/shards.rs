//! Servers that hold a part of a sharded cluster's documents.
//!
//! A shard that is asked directly answers for itself alone: what is not to be found here may live
//! on another shard, and what is done here is done behind the cluster's back.

use std::collections::BTreeSet;

use mongodb::bson::doc;

use super::{Limit, MongoError, Session};

/// Whether a collection is spread over the shards of a cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Spread {
    /// It is in one place, or the server is no shard.
    #[default]
    No,
    /// It is sharded: other documents of it may be elsewhere.
    Yes,
    /// The server is a shard, and the user may not see which collections are sharded.
    Unknown,
}

impl Spread {
    /// Why nothing is done to single documents here, if so.
    pub fn why_not(self) -> Option<&'static str> {
        match self {
            Spread::No => None,
            Spread::Yes => Some(
                "it is sharded, and this server is one of the cluster's shards: its other documents are elsewhere, some of those here may be leftovers of a chunk that has moved, and the cluster would not know of what is done here. Give the command to a mongos by hand, or let documents expire: a TTL index that is made through a mongos is on every shard",
            ),
            Spread::Unknown => Some(
                "this server is a shard of a cluster, and whether the collection is sharded may not be seen: the role clusterMonitor on admin has the right to read config.cache.collections",
            ),
        }
    }
}

/// Which collections of a database are sharded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spreads(Option<BTreeSet<String>>);

impl Spreads {
    /// Whether this one is.
    pub fn of(&self, collection: &str) -> Spread {
        match &self.0 {
            None => Spread::Unknown,
            Some(names) if names.contains(collection) => Spread::Yes,
            Some(_) => Spread::No,
        }
    }
}

impl Session {
    /// Why a collection that is not there is not made here, if so.
    pub fn unmakeable(&self) -> Option<String> {
        self.server.shard.then(|| {
            "it does not exist, and this server is a shard of a cluster, which would not know of a collection that is made here: make it through a mongos first".to_owned()
        })
    }

    /// Which collections of a database are sharded, as far as this server takes part in that.
    ///
    /// # Errors
    /// When the server reports one, or cannot be asked.
    pub async fn spreads(&self, database: &str) -> Result<Spreads, MongoError> {
        if !self.server.shard {
            return Ok(Spreads(Some(BTreeSet::new())));
        }
        let from = format!("{database}.");
        // The character that comes after the dot.
        let until = format!("{database}/");
        let find = doc! {
            "find": "cache.collections",
            // One that has only been moved as a whole is in one place.
            "filter": { "_id": { "$gte": &from, "$lt": until }, "unsplittable": { "$ne": true } },
            "projection": { "_id": 1 },
        };
        let doing = "asking which collections are sharded";
        match self.all(doing, "config", find, Limit::ASIDE).await {
            Ok(found) => Ok(Spreads(Some(
                found
                    .iter()
                    .filter_map(|one| one.get_str("_id").ok()?.strip_prefix(&from))
                    .map(str::to_owned)
                    .collect(),
            ))),
            Err(MongoError::Unauthorized { .. }) => Ok(Spreads(None)),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_not_taken_for_unsharded() {
        let known = Spreads(Some(BTreeSet::from(["events".to_owned()])));
        assert_eq!(known.of("events"), Spread::Yes);
        assert_eq!(known.of("users"), Spread::No);
        assert_eq!(Spreads(None).of("users"), Spread::Unknown);
        assert!(Spread::No.why_not().is_none());
        assert!(Spread::Yes.why_not().is_some() && Spread::Unknown.why_not().is_some());
    }
}
