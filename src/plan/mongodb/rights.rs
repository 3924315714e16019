//! What the user of a target needs to be allowed for a piece of work.

use mongodb::bson::{Bson, Document};

use super::{Destination, Walk};
use crate::engines::mongodb::{MARKS, Right};

/// To look at a collection, and at what is in it.
pub(crate) fn to_read(database: &str, collection: &str) -> Vec<Right> {
    let mut rights = Right::each(database, collection, &["find", "listIndexes", "collStats"]);
    rights.extend(Right::each(database, "", &["listCollections"]));
    rights
}

/// To delete documents.
pub(crate) fn to_delete(database: &str, collection: &str) -> Vec<Right> {
    let mut rights = to_read(database, collection);
    rights.extend(Right::each(database, collection, &["remove"]));
    rights
}

/// To keep documents there that are deleted elsewhere, and to take them back.
pub(crate) fn to_keep(into: &Destination) -> Vec<Right> {
    let (database, collection) = (into.database.as_str(), into.collection.as_str());
    let mut rights = to_read(database, collection);
    rights.extend(Right::each(database, collection, &["insert", "remove"]));
    rights
}

/// For the marks in the target's `own` database.
pub(crate) fn to_mark(own: &str) -> Vec<Right> {
    Right::each(own, MARKS, &["find", "insert", "update", "remove"])
}

/// To let the last stage of a pipeline write its result.
pub(crate) fn to_write(last: &Document, database: &str, collection: &str) -> Vec<Right> {
    let mut rights = to_read(database, collection);
    let merge = match last.get("$merge") {
        None => {
            rights.extend(Right::each(database, collection, &["insert", "remove"]));
            return rights;
        }
        Some(Bson::Document(merge)) => merge.clone(),
        Some(_) => Document::new(),
    };
    let says = |key| merge.get_str(key).unwrap_or_default();
    if !matches!(says("whenMatched"), "keepExisting" | "fail") {
        rights.extend(Right::each(database, collection, &["update"]));
    }
    if !matches!(says("whenNotMatched"), "discard" | "fail") {
        rights.extend(Right::each(database, collection, &["insert"]));
    }
    rights
}

impl Walk {
    /// What it takes where it begins; of another target its own user is asked for nothing.
    pub(crate) fn rights(&self, own: &str) -> Vec<Right> {
        let mut rights = to_delete(&self.database, &self.collection);
        if self.into.is_some() || self.files.is_some() {
            rights.extend(to_mark(own));
        }
        let here = self.into.iter().filter(|into| into.target.is_none());
        rights.extend(here.flat_map(to_keep));
        rights
    }
}

#[cfg(test)]
mod tests {
    use mongodb::bson::doc;

    use super::*;

    #[test]
    fn a_result_takes_what_its_stage_does() {
        let of = |last: Document| {
            let rights = to_write(&last, "d", "c").into_iter();
            let writes =
                rights.filter(|right| ["insert", "update", "remove"].contains(&right.action));
            writes.map(|right| right.action).collect::<Vec<_>>()
        };
        assert_eq!(of(doc! { "$out": "c" }), ["insert", "remove"]);
        assert_eq!(of(doc! { "$merge": "c" }), ["update", "insert"]);
        let known = doc! { "$merge": { "into": "c", "whenNotMatched": "discard" } };
        assert_eq!(of(known), ["update"]);
        let new = doc! { "$merge": { "into": "c", "whenMatched": "keepExisting" } };
        assert_eq!(of(new), ["insert"]);
    }
}
