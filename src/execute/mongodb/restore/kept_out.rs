//! Documents that do not come back, one by one, where others do.

use std::collections::BTreeMap;

use mongodb::bson::RawDocumentBuf;

use super::super::copies::named;
use super::super::source::value_at;
use super::Place;
use crate::values::{several, several_do};

/// A document of the same value under a unique index is there already.
pub(super) const UNIQUE: i32 = 11000;

/// Why one document does not come back, where others do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Why {
    /// The server's code: its own words may hold the document.
    Refused(i32),
    /// The server is too old for the name of a field.
    Name,
    /// The server fills in an empty timestamp that cannot be put back.
    Stamp,
    /// Another document has its `_id`.
    Taken,
}

impl Why {
    pub(super) fn told(self) -> String {
        match self {
            Why::Refused(UNIQUE) => {
                "a unique index keeps a document out, as another one has the same there".to_owned()
            }
            Why::Refused(121) => {
                "the validation rules of the collection keep a document out".to_owned()
            }
            Why::Refused(code) => format!(
                "the server refuses a document (code {code}), as it does where an index cannot hold a value, or versions have other rules for names of fields"
            ),
            Why::Name => "servers before MongoDB 5.0 refuse a document with a field whose name begins with `$` or has a dot".to_owned(),
            Why::Stamp => "the server fills in an empty timestamp at the top of a document, and where the name of its field is empty, begins with `$` or has a dot, it cannot be made empty again".to_owned(),
            Why::Taken => "another document of the same `_id` is there, which somebody has written meanwhile, or the server keeps the document in another form".to_owned(),
        }
    }

    /// What helps.
    fn helps(self) -> &'static str {
        match self {
            Why::Refused(_) | Why::Taken => "restore into another collection",
            Why::Name => "restore into a target that is newer",
            Why::Stamp => "the files of the archive have it whole",
        }
    }
}

/// Documents that do not come back, one by one.
#[derive(Default)]
pub(super) struct KeptOut {
    pub(super) ids: BTreeMap<Why, Vec<String>>,
}

impl KeptOut {
    pub(super) fn add(&mut self, why: Why, document: &RawDocumentBuf) {
        let shown = value_at(document, "_id").map(|id| id.to_string());
        self.ids
            .entry(why)
            .or_default()
            .push(shown.unwrap_or_default());
    }

    /// Which stay out and why, and how many of all came back.
    pub(super) fn told(&self, into: &Place, all: i64) -> String {
        let out: usize = self.ids.values().map(Vec::len).sum();
        let each = self.ids.iter().map(|(why, ids)| {
            let (told, helps) = (why.told(), why.helps());
            format!("{told}; their `_id`: {}; {helps}", named(ids))
        });
        let each: Vec<String> = each.collect();
        format!(
            "{} not come back into {into}: {}; all others are back ({})",
            several_do(out as i64, "document", ("does", "do")),
            each.join("; "),
            several(all - out as i64, "document")
        )
    }
}
