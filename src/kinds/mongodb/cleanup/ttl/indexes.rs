//! Which indexes let documents expire by a field, and what makes one.

use mongodb::bson::{Document, doc};

use super::super::super::common::{Collection, Index};
use super::Ttl;
use crate::engines::mongodb::{Json, number};
use crate::plan::mongodb::{Command, Work, shell_document, shell_key, shell_name, shell_text};

/// Which way the only field of an index goes; none where it is of another type, such as a hashed
/// one, by which nothing expires.
pub(super) fn way(index: &Index) -> Option<i32> {
    match number(index.keys.first().map(|(_, way)| way)) {
        Some(1) => Some(1),
        Some(-1) => Some(-1),
        _ => None,
    }
}

impl Ttl {
    /// The index for this field alone by which each document that has a date there expires, or
    /// could. Of several the one that expires documents counts.
    pub(in crate::kinds::mongodb::cleanup) fn index<'a>(
        &self,
        collection: &'a Collection,
    ) -> Option<&'a Index> {
        let whole = self.ordered(collection).filter(|index| !index.partial);
        whole.min_by_key(|index| index.expires.is_none())
    }

    /// A TTL index for this field by which some documents expire, and the others never do.
    pub(super) fn partial<'a>(&self, collection: &'a Collection) -> Option<&'a Index> {
        let mut found = self.ordered(collection);
        found.find(|index| index.partial && index.expires.is_some())
    }

    /// The indexes for this field alone that go along its values.
    fn ordered<'a>(&self, collection: &'a Collection) -> impl Iterator<Item = &'a Index> {
        let field = self.field.clone();
        collection.indexes.iter().filter(move |index| {
            matches!(index.keys.as_slice(), [(name, _)] if *name == field) && way(index).is_some()
        })
    }

    /// Which way an index over all documents can go along the field, beside those that are there: in
    /// a direction that no other has, and from 5.0 on beside partial ones.
    pub(super) fn free_way(&self, collection: &Collection, release: (u32, u32)) -> Option<i32> {
        let free = |beside_partial: bool| {
            [1, -1].into_iter().find(|wanted| {
                let mut there = self.ordered(collection);
                there.all(|i| way(i) != Some(*wanted) || (beside_partial && i.partial))
            })
        };
        free(false).or_else(|| (release >= (5, 0)).then(|| free(true))?)
    }

    /// A name for an index on the field: the usual one, unless another index has it.
    pub(super) fn free_name(&self, collection: &Collection, way: i32) -> String {
        let usual = format!("{}_{way}", self.field);
        let is_taken = |name: &String| collection.indexes.iter().any(|i| i.name == *name);
        match is_taken(&usual) {
            false => usual,
            true => format!("{usual}_expires"),
        }
    }

    /// What makes an index by which every document expires, beside those that are there.
    pub(super) fn beside(&self, database: &str, way: i32) -> String {
        format!(
            "{}.createIndex({{{}: {way}}}, {{expireAfterSeconds: {}}})",
            shell_name(database, &self.collection),
            shell_key(&self.field),
            self.seconds()
        )
    }

    /// Makes an index by which every document expires. A member that is down, or far behind, would
    /// otherwise have its end waited for as long as it is: a majority decides.
    pub(super) fn create(&self, database: &str, way: i32, name: &str, replicated: bool) -> Work {
        let index = doc! { "key": { &self.field: way }, "name": name, "expireAfterSeconds": self.seconds() };
        let mut command = doc! {
            "createIndexes": &self.collection,
            "indexes": [index],
            "writeConcern": { "w": "majority" },
        };
        if replicated {
            command.insert("commitQuorum", "majority");
        }
        Work::Commands(vec![Command {
            database: database.to_owned(),
            command: Json::of(&command),
        }])
    }

    /// What drops an index and makes it anew with all that it has, and a time to expire by.
    pub(super) fn anew(&self, database: &str, index: &Index) -> String {
        let shell = shell_name(database, &self.collection);
        let keys: Document = index.keys.iter().cloned().collect();
        let mut options = doc! { "expireAfterSeconds": self.seconds() };
        let kept = index.whole.iter().filter(|(option, _)| {
            !matches!(
                option.as_str(),
                "v" | "key" | "ns" | "background" | "expireAfterSeconds"
            )
        });
        options.extend(kept.map(|(option, value)| (option.clone(), value.clone())));
        format!(
            "{shell}.dropIndex({}); {shell}.createIndex({}, {})",
            shell_text(&index.name),
            shell_document(&keys),
            shell_document(&options)
        )
    }

    /// Whether documents expire as they should: nothing has to be made or changed.
    pub(in crate::kinds::mongodb::cleanup) fn is_as_wanted(&self, collection: &Collection) -> bool {
        self.index(collection)
            .is_some_and(|index| self.expires_as_wanted(index))
    }

    #[expect(clippy::cast_precision_loss, reason = "seconds")]
    pub(super) fn expires_as_wanted(&self, index: &Index) -> bool {
        index.expires == Some(self.seconds() as f64)
    }
}
