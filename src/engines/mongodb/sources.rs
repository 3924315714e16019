//! Which collections have put documents into an archive: written down beside it, before the first of
//! them is. A document does not say itself where it comes from, and two collections may have equal ones.

use mongodb::bson::{Bson, Document, doc};

use super::marks::{LOOK, MARKS, MOST_MARKS, concern, is_small};
use super::{MongoError, Session, namespace};

/// A collection that documents come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    /// The target, by its name in the configuration.
    pub(crate) target: String,
    /// The replica set that has it.
    pub(crate) set: Option<String>,
    /// Its database.
    pub(crate) database: String,
    /// Its name.
    pub(crate) collection: String,
    /// Its identity.
    pub(crate) uuid: String,
    /// The database that has the marks of its batches: who cannot see them cannot tell its copies from
    /// those that are taken back. Older versions have not written it down.
    pub(crate) marks: Option<String>,
}

impl Source {
    /// Whether it is the very collection, or one that was made in its place.
    pub(crate) fn is_same(&self, other: &Source) -> bool {
        let place = |of: &Source| {
            let Source {
                target,
                set,
                database,
                collection,
                uuid: _,
                marks: _,
            } = of.clone();
            (target, set, database, collection)
        };
        let marks = self.marks.as_ref().zip(other.marks.as_ref());
        marks.is_none_or(|(own, others)| own == others)
            && (self.uuid == other.uuid || place(self) == place(other))
    }

    /// For people.
    pub(crate) fn shown(&self) -> String {
        let whole = namespace(&self.database, &self.collection);
        format!("{whole} of target {}", self.target)
    }

    fn document(&self) -> Document {
        doc! {
            "target": &self.target, "set": self.set.as_deref(), "database": &self.database,
            "collection": &self.collection, "uuid": &self.uuid, "marks": self.marks.as_deref(),
        }
    }

    fn read(mark: &Document) -> Option<Source> {
        let from = mark.get_document("from").ok()?;
        let text = |name: &str| from.get_str(name).ok().map(str::to_owned);
        Some(Source {
            target: text("target")?,
            set: text("set"),
            database: text("database")?,
            collection: text("collection")?,
            uuid: text("uuid")?,
            marks: text("marks"),
        })
    }
}

/// What such a mark says of itself.
const STATE: &str = "source";

impl Session {
    /// Writes down that this source puts documents into the collection of this database that has
    /// this identity.
    ///
    /// # Errors
    /// When the server refuses.
    pub(crate) async fn mark_source(
        &self,
        database: &str,
        into: &str,
        source: &Source,
    ) -> Result<(), MongoError> {
        let mark = doc! { "state": STATE, "from": source.document(), "into": { "uuid": into } };
        let marks = source.marks.as_deref().unwrap_or_default();
        let id = format!("{} into {into} by {marks}", source.uuid);
        let command = doc! {
            "findAndModify": MARKS, "query": { "_id": id }, "update": { "$set": mark },
            "upsert": true, "writeConcern": concern(),
        };
        let doing = "writing down where archived documents come from";
        self.command(doing, database, command, LOOK)
            .await
            .map(|_| ())
    }

    /// All sources that put documents there, or have; and whether there may be more, as whoever may write there can
    /// name others.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub(crate) async fn sources_of(
        &self,
        database: &str,
        into: &str,
    ) -> Result<(Vec<Source>, bool), MongoError> {
        let of = doc! { "state": STATE, "into.uuid": Bson::from(into) };
        let command = doc! {
            "find": MARKS, "filter": { "$and": [of, is_small(&["from"])] },
            "projection": { "from": 1 }, "limit": MOST_MARKS as i64,
            "readConcern": { "level": "majority" },
        };
        let doing = "looking where archived documents come from";
        let found = self.all(doing, database, command, LOOK).await?;
        let more = found.len() >= MOST_MARKS;
        Ok((found.iter().filter_map(Source::read).collect(), more))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_collection_is_the_same_by_its_identity_or_in_its_place() {
        let one = Source {
            target: "a".to_owned(),
            set: Some("rs".to_owned()),
            database: "app".to_owned(),
            collection: "events".to_owned(),
            uuid: "1".to_owned(),
            marks: Some("app".to_owned()),
        };
        let renamed = Source {
            collection: "was".to_owned(),
            ..one.clone()
        };
        let anew = Source {
            uuid: "2".to_owned(),
            ..one.clone()
        };
        let elsewhere = Source {
            target: "b".to_owned(),
            ..anew.clone()
        };
        let unseen = Source {
            marks: Some("other".to_owned()),
            ..one.clone()
        };
        let older = Source {
            marks: None,
            ..one.clone()
        };
        assert!(one.is_same(&renamed) && one.is_same(&anew) && one.is_same(&older));
        assert!(!one.is_same(&unseen));
        assert!(!one.is_same(&elsewhere));
        assert_eq!(Source::read(&doc! { "from": one.document() }), Some(one));
    }
}
