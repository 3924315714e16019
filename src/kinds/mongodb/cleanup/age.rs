//! How the age of a document is written, and what is older than a moment.

use chrono::{DateTime, Utc};
use mongodb::bson::oid::ObjectId;
use mongodb::bson::{DateTime as BsonDate, Document, doc};

use crate::values::Epoch;

/// How the age of a document is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Age {
    Date,
    ObjectId,
    Number(Epoch),
}

impl Age {
    /// The types that tell it, as the server names them.
    pub(super) fn types(self) -> &'static [&'static str] {
        match self {
            Age::Date => &["date"],
            Age::ObjectId => &["objectId"],
            Age::Number(_) => &["int", "long", "double", "decimal"],
        }
    }

    /// Whether a type tells it.
    pub(super) fn fits(self, kind: &str) -> bool {
        self.types().contains(&kind)
    }
}

/// Those whose numbers are no times that anybody knows.
pub(super) fn doubtful(field: &str, epoch: Epoch) -> Document {
    let range = epoch.doubtful();
    doc! { field: { "$gte": *range.start(), "$lte": *range.end() } }
}

/// Values of one type only: a comparison never matches others.
pub(super) fn older(age: Age, cutoff: DateTime<Utc>) -> Document {
    match age {
        Age::Date => doc! { "$lt": BsonDate::from_millis(cutoff.timestamp_millis()) },
        Age::ObjectId => doc! { "$lt": object_id(cutoff) },
        Age::Number(epoch) => {
            let limit = match epoch {
                Epoch::Seconds => cutoff.timestamp(),
                Epoch::Millis => cutoff.timestamp_millis(),
                Epoch::Micros => cutoff.timestamp_micros(),
            };
            // Nor are NaN and minus infinity an age.
            doc! { "$gte": epoch.earliest(), "$lt": limit }
        }
    }
}

/// The smallest ObjectId of that second; they know no time before 1970.
fn object_id(at: DateTime<Utc>) -> ObjectId {
    let seconds = u32::try_from(at.timestamp().max(0)).unwrap_or(u32::MAX);
    let mut bytes = [0; 12];
    bytes[..4].copy_from_slice(&seconds.to_be_bytes());
    ObjectId::from_bytes(bytes)
}
