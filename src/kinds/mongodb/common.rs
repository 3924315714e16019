//! What several kinds want to know of collections.

mod listed;

use std::collections::BTreeMap;

use mongodb::bson::{Bson, Document, doc};

pub(super) use self::listed::collections;
use crate::engines::EngineError;
use crate::engines::mongodb::{Limit, MongoError, Session, Spread, number, writes};
use crate::plan::mongodb::index_described;
use crate::plan::{Finding, Severity};
use crate::values::with_causes;

/// What a collection is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Shape {
    /// Nothing special.
    #[default]
    Plain,
    /// Stored in the order of its `_id`, without an index for it.
    Clustered,
    /// Of limited size: the server removes the oldest documents itself.
    Capped,
    /// Measurements in buckets.
    TimeSeries,
    /// A query by another name.
    View,
}

impl Shape {
    /// Why single documents are not deleted from it; `None` where they may be.
    fn undeletable(self) -> Option<&'static str> {
        match self {
            Shape::Plain | Shape::Clustered => None,
            Shape::Capped => Some("it is capped: the server itself removes the oldest documents"),
            Shape::TimeSeries => Some(
                "it is a time-series collection; let it expire: collMod with expireAfterSeconds",
            ),
            Shape::View => Some("it is a view; name the collection that it reads"),
        }
    }
}

/// A collection and its indexes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Collection {
    pub(super) shape: Shape,
    /// Whether other shards of a cluster have documents of it, too.
    pub(super) spread: Spread,
    pub(super) options: Document,
    /// Whether some of its options are larger than what is kept of a database, and left out.
    pub(super) left_out: bool,
    pub(super) indexes: Vec<Index>,
    /// Files without indexes, and how much of them is free.
    pub(super) bytes: i64,
    pub(super) free: i64,
    pub(super) index_bytes: i64,
    pub(super) documents: i64,
    /// What the server counts of it since it started, where it says so.
    pub(super) writes: Option<i64>,
    /// Identity of the collection itself.
    pub(super) uuid: String,
}

impl Collection {
    /// Why single documents are not deleted from it; `None` where they may be.
    pub(super) fn undeletable(&self) -> Option<&'static str> {
        self.shape.undeletable().or_else(|| self.spread.why_not())
    }

    /// The indexes along which every document with a value in `field` is found, in the field's order.
    pub(super) fn ordering<'a>(&'a self, field: &'a str) -> impl Iterator<Item = &'a Index> {
        let unfit = move |index: &&Index| index.unfit(self.options.get("collation")).is_none();
        self.beginning_with(field).filter(unfit)
    }

    fn beginning_with<'a>(&'a self, field: &'a str) -> impl Iterator<Item = &'a Index> {
        let begins =
            move |index: &&Index| index.keys.first().is_some_and(|(name, _)| name == field);
        self.indexes.iter().filter(begins)
    }

    /// That there is no index to go along, and why those that seem to be one are none.
    pub(super) fn lacks_order(&self, field: &str) -> String {
        let unfit = self.beginning_with(field).filter_map(|index| {
            let why = index.unfit(self.options.get("collation"))?;
            Some(format!("`{}` {why}", index.name))
        });
        let unfit = unfit.collect::<Vec<_>>().join(", ");
        let unfit = match unfit.is_empty() {
            true => unfit,
            false => format!(" and has all documents in that order ({unfit})"),
        };
        format!("there is no index that begins with `{field}`{unfit}")
    }

    /// The keys of an index by which the field has an order, beside those that are there.
    pub(super) fn new_keys(&self, field: &str) -> Document {
        let usual = doc! { field: 1 };
        let is_free = |keys: &Document| {
            let keys: Vec<(&String, i64)> = keys
                .iter()
                .filter_map(|(name, way)| Some((name, number(Some(way))?)))
                .collect();
            !self.indexes.iter().any(|index| {
                let there = index
                    .keys
                    .iter()
                    .map(|(name, way)| (name, number(Some(way))));
                there.eq(keys.iter().map(|(name, way)| (*name, Some(*way))))
            })
        };
        let all = [
            usual.clone(),
            doc! { field: -1 },
            doc! { field: 1, "_id": 1 },
        ];
        all.into_iter().find(is_free).unwrap_or(usual)
    }
}

/// An index.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Index {
    pub(super) name: String,
    pub(super) keys: Vec<(String, Bson)>,
    pub(super) unique: bool,
    pub(super) sparse: bool,
    pub(super) partial: bool,
    pub(super) hidden: bool,
    pub(super) collated: bool,
    /// `expireAfterSeconds`: as it is written, NaN included.
    pub(super) expires: Option<f64>,
    pub(super) bytes: i64,
    /// All that the server says of it.
    pub(super) whole: Document,
}

impl Index {
    pub(super) fn read(document: &Document) -> Index {
        let expires = document.get("expireAfterSeconds").map(|value| match value {
            Bson::Double(n) => *n,
            #[expect(clippy::cast_precision_loss, reason = "seconds")]
            other => number(Some(other)).unwrap_or(0) as f64,
        });
        let keys = document.get_document("key").cloned().unwrap_or_default();
        Index {
            name: document.get_str("name").unwrap_or_default().to_owned(),
            keys: keys.into_iter().collect(),
            unique: document.get_bool("unique").unwrap_or(false),
            sparse: document.get_bool("sparse").unwrap_or(false),
            partial: document.contains_key("partialFilterExpression"),
            hidden: document.get_bool("hidden").unwrap_or(false),
            collated: document.contains_key("collation"),
            expires,
            bytes: 0,
            whole: document.clone(),
        }
    }

    /// Its name and keys, and what else makes it another index, in words.
    pub(super) fn described(&self) -> String {
        index_described(&self.whole)
    }

    /// Whether it has one entry, or more, for each document, whatever that has besides: texts, places and
    /// wildcards have none where there is nothing of theirs, and have whole documents left out.
    pub(super) fn has_all(&self) -> bool {
        self.keys.iter().all(|(name, way)| {
            !name.contains("$**") && (number(Some(way)).is_some() || way.as_str() == Some("hashed"))
        })
    }

    /// Why not every document with a value in its first field is found along it, in that order, by who
    /// compares as its collection does by default.
    fn unfit(&self, default: Option<&Bson>) -> Option<&'static str> {
        let way = number(self.keys.first().map(|(_, way)| way));
        if !matches!(way, Some(1 | -1)) || !self.has_all() {
            Some("is of another type")
        } else if self.partial {
            Some("is partial")
        } else if self.hidden {
            Some("is hidden")
        } else if self.collated && self.whole.get("collation") != default {
            Some("has a collation of its own")
        } else {
            None
        }
    }
}

/// Sizes and indexes of one collection. One that vanishes meanwhile stays empty.
pub(super) async fn fill(
    session: &Session,
    database: &str,
    name: &str,
    collection: &mut Collection,
) -> Result<(), EngineError> {
    if collection.shape == Shape::View {
        return Ok(());
    }
    let doing = "looking at indexes";
    let listed = session
        .all(doing, database, doc! { "listIndexes": name }, Limit::ASIDE)
        .await;
    let listed = match listed {
        Err(error) if error.is_vanished() => return Ok(()),
        listed => listed?,
    };
    collection.indexes = listed.iter().map(Index::read).collect();
    let pipeline = vec![doc! { "$collStats": { "storageStats": {} } }];
    let stats = session
        .aggregate(
            "measuring collections",
            database,
            name,
            pipeline,
            Limit::ASIDE,
        )
        .await;
    let stats = match stats {
        Err(error) if error.is_vanished() => return Ok(()),
        stats => stats?,
    };
    let Some(stats) = stats
        .first()
        .and_then(|d| d.get_document("storageStats").ok())
    else {
        return Ok(());
    };
    let of = |key: &str| number(stats.get(key)).unwrap_or(0);
    collection.bytes = of("storageSize");
    collection.index_bytes = of("totalIndexSize");
    collection.documents = of("count");
    let tiger = stats.get_document("wiredTiger").ok();
    let free = tiger
        .and_then(|tiger| tiger.get_document("block-manager").ok())
        .and_then(|blocks| number(blocks.get("file bytes available for reuse")));
    collection.free = stats
        .get("freeStorageSize")
        .and_then(|n| number(Some(n)))
        .or(free)
        .unwrap_or(0);
    collection.writes = writes(stats);
    if let Ok(sizes) = stats.get_document("indexSizes") {
        for index in &mut collection.indexes {
            index.bytes = number(sizes.get(&index.name)).unwrap_or(0);
        }
    }
    Ok(())
}

/// What a role may not, or a server does not, tell is a finding, not the end of the run.
pub(super) fn not_allowed(error: &MongoError, what: &str, object: &str) -> Finding {
    Finding {
        code: "privilege.missing".to_owned(),
        severity: Severity::Info,
        object: object.to_owned(),
        message: format!("{what} could not be told: {}", with_causes(error)),
        suggestion: error.hint(),
    }
}

/// The same of a member, which may have gone since the others were asked for it.
pub(super) fn not_answered(error: &MongoError, what: &str, member: &str) -> Finding {
    let why = match (error.is_silence(), error.is_passing()) {
        (true, _) => "does not answer",
        // It recovers, is in maintenance, starts or ends.
        (false, true) => "takes no questions in its present state",
        (false, false) => return not_allowed(error, what, member),
    };
    Finding {
        code: "member.down".to_owned(),
        severity: Severity::Warning,
        object: member.to_owned(),
        message: format!(
            "{what} could not be told, as the member {why}: {}",
            with_causes(error)
        ),
        suggestion: Some("rs.status()".to_owned()),
    }
}

/// Whether a database has no collection but the server's and maint's own.
pub(super) fn is_empty(collections: &BTreeMap<String, Collection>) -> bool {
    collections.keys().all(|name| is_internal(name))
}

/// A server makes a database of every name that it is asked for, misspelt ones, too.
pub(super) fn empty(database: &str) -> Finding {
    Finding {
        code: "database.empty".to_owned(),
        severity: Severity::Warning,
        object: database.to_owned(),
        message: format!(
            "the database {database} has no collection: there is nothing to look after. Look at the spelling of the database in the `url` of the target"
        ),
        suggestion: Some("db.adminCommand({listDatabases: 1, nameOnly: true})".to_owned()),
    }
}

/// Whether a name is one of the server's, or of maint's, own.
pub(super) fn is_internal(name: &str) -> bool {
    name.starts_with("system.") || name.starts_with("maint.")
}

#[cfg(test)]
mod tests;
