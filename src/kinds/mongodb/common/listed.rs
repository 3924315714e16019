//! The collections of a database, as its server lists them.

use std::collections::BTreeMap;

use mongodb::bson::{Bson, Document, RawBsonRef, RawDocument, doc};

use super::{Collection, Shape};
use crate::engines::EngineError;
use crate::engines::mongodb::{Limit, Session, Spread, identity_of};

/// So many bytes of validators, and of what else makes collections what they are, are kept of a database:
/// whoever may make collections decides how large they are.
const MOST_BYTES: usize = 16 << 20;

/// What is no larger is always kept: names, and what tells a view, a capped or a clustered collection. Else large
/// validators of some would make others vanish.
const SMALL: usize = 1 << 10;

/// The collections of a database by name, without what only [`fill`](super::fill) tells.
pub(in crate::kinds::mongodb) async fn collections(
    session: &Session,
    database: &str,
) -> Result<BTreeMap<String, Collection>, EngineError> {
    let command = doc! { "listCollections": 1, "authorizedCollections": false };
    let doing = "looking at collections";
    let (mut found, mut room) = (Vec::new(), MOST_BYTES);
    let read = session.each(doing, database, command, Limit::ASIDE, |one| {
        found.push(within(&one, &mut room));
        true
    });
    read.await?;
    let spreads = session.spreads(database).await?;
    let named = found.into_iter().filter_map(|(document, left_out)| {
        let name = document.get_str("name").ok()?.to_owned();
        let options = document
            .get_document("options")
            .cloned()
            .unwrap_or_default();
        let shape = match document.get_str("type").ok() {
            Some("view") => Shape::View,
            Some("timeseries") => Shape::TimeSeries,
            _ if options.get_bool("capped").unwrap_or(false) => Shape::Capped,
            _ if options.contains_key("clusteredIndex") => Shape::Clustered,
            _ => Shape::Plain,
        };
        let uuid = identity_of(&document).unwrap_or_default();
        let spread = match shape {
            Shape::View => Spread::No,
            _ => spreads.of(&name),
        };
        let collection = Collection {
            shape,
            spread,
            options,
            left_out,
            uuid,
            ..Collection::default()
        };
        Some((name, collection))
    });
    Ok(named.collect())
}

/// What is kept of a collection as it is listed, where there is `room` for it, and whether some is not.
fn within(listed: &RawDocument, room: &mut usize) -> (Document, bool) {
    let (mut document, mut left_out) = (Document::new(), false);
    let mut keep = |into: &mut Document, name: &str, value: RawBsonRef<'_>| {
        let size = match value {
            RawBsonRef::Document(inner) => inner.as_bytes().len(),
            RawBsonRef::Array(inner) => inner.as_bytes().len(),
            RawBsonRef::String(text) => text.len(),
            _ => 0,
        };
        match Bson::try_from(value) {
            Ok(value) if size <= SMALL => drop(into.insert(name, value)),
            Ok(value) if size <= *room => {
                *room -= size;
                into.insert(name, value);
            }
            // That it is there counts, too.
            _ => {
                left_out = true;
                into.insert(name, Bson::Null);
            }
        }
    };
    for (name, value) in listed.iter().flatten() {
        match (name.as_str(), value) {
            ("options", RawBsonRef::Document(options)) => {
                let mut kept = Document::new();
                for (name, value) in options.iter().flatten() {
                    keep(&mut kept, name.as_str(), value);
                }
                document.insert("options", kept);
            }
            (name, value) => keep(&mut document, name, value),
        }
    }
    (document, left_out)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use mongodb::bson::RawDocumentBuf;

    use super::*;

    #[test]
    fn what_finds_no_room_is_left_out_and_told() {
        let validator = doc! { "a": "x".repeat(1200) };
        let listed = doc! { "name": "a", "type": "view", "options": { "capped": true, "validator": validator } };
        let raw = RawDocumentBuf::try_from(&listed).unwrap();
        let mut room = 1500;
        assert_eq!(within(&raw, &mut room), (listed.clone(), false));
        let options = doc! { "capped": true, "validator": Bson::Null };
        // However little room others have left.
        for left in [room, 0] {
            room = left;
            let kept = doc! { "name": "a", "type": "view", "options": options.clone() };
            assert_eq!(within(&raw, &mut room), (kept, true));
        }
    }
}
