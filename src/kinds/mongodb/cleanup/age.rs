//! How the age of a document is written, and what is older than a moment.

use chrono::{DateTime, Utc};
use mongodb::bson::oid::ObjectId;
use mongodb::bson::{DateTime as BsonDate, Document, doc};

use crate::plan::mongodb::{shell_document, shell_key};
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

/// 1900-01-01 and the day around 1970-01-01, in milliseconds: where dates before 1980 are meant, what
/// is before the one, or in the other wherever the clock hangs, stands for never all the same.
const FIRST: i64 = -2_208_988_800_000;
const ZERO: [i64; 2] = [-86_400_000, 86_400_000];
/// 2009-01-01, in seconds: ObjectIds are no older.
const FIRST_ID: i64 = 1_230_768_000;

fn date(millis: i64) -> BsonDate {
    BsonDate::from_millis(millis)
}

/// The first moment of 1980. As of numbers, nothing before it tells an age.
fn earliest() -> BsonDate {
    date(Epoch::Millis.earliest())
}

/// Whether the rule means dates before 1980.
fn means_old(cutoff: DateTime<Utc>) -> bool {
    cutoff.timestamp_millis() <= Epoch::Millis.earliest()
}

impl Age {
    /// Those whose value is no time that anybody knows: it stands for never, as zero and the year 1
    /// often do, or was made up.
    pub(super) fn doubtful(self, field: &str, cutoff: DateTime<Utc>) -> Document {
        match self {
            Age::Date if means_old(cutoff) => {
                let zero = doc! { field: { "$gte": date(ZERO[0]), "$lt": date(ZERO[1]) } };
                doc! { "$or": [{ field: { "$lt": date(FIRST) } }, zero] }
            }
            Age::Date => undated(field),
            Age::ObjectId => doc! { field: { "$lt": object_id(FIRST_ID) } },
            Age::Number(epoch) => {
                let range = epoch.doubtful();
                doc! { field: { "$gte": *range.start(), "$lte": *range.end() } }
            }
        }
    }

    /// What finds them, for people.
    pub(super) fn finds(self, field: &str, cutoff: DateTime<Utc>) -> String {
        match self {
            Age::Number(epoch) => {
                format!("{{{}: {{$lt: {}}}}}", shell_key(field), epoch.earliest())
            }
            Age::Date | Age::ObjectId => shell_document(&self.doubtful(field, cutoff)),
        }
    }

    /// That some values of `field` are such, and what becomes of them.
    pub(super) fn doubted(self, field: &str, cutoff: DateTime<Utc>) -> String {
        match self {
            Age::Date if means_old(cutoff) => format!(
                "some dates in `{field}` are before 1900, or of 1970-01-01, and stand for never as often as not, so that nobody knows how old they are. They stay; take the field away where there is no time"
            ),
            Age::Date => format!("some dates in `{field}` are {BEFORE}. They stay; {HELPS}"),
            Age::ObjectId => format!(
                "some ObjectIds in `{field}` tell a time before 2009, when there were none: they were made up, so that nobody knows how old they are. They stay"
            ),
            Age::Number(epoch) => epoch.doubted(field),
        }
    }
}

/// What is said of dates that tell no age.
pub(super) const BEFORE: &str = "times before 1980, as 0001-01-01 and 1970-01-01 are, which often stand for never: nobody knows how old they are";
/// What is to be done about them.
pub(super) const HELPS: &str = "take the field away where there is no time";

/// Dates that tell no age.
pub(super) fn undated(field: &str) -> Document {
    doc! { field: { "$lt": earliest() } }
}

/// Values of one type only: a comparison never matches others. Of those, none that tells no age.
pub(super) fn older(age: Age, cutoff: DateTime<Utc>) -> Document {
    match age {
        Age::Date => {
            let limit = date(cutoff.timestamp_millis());
            match means_old(cutoff) {
                false => doc! { "$gte": earliest(), "$lt": limit },
                true => doc! {
                    "$gte": date(FIRST), "$lt": limit,
                    "$not": { "$gte": date(ZERO[0]), "$lt": date(ZERO[1]) },
                },
            }
        }
        Age::ObjectId => {
            doc! { "$gte": object_id(FIRST_ID), "$lt": object_id(cutoff.timestamp()) }
        }
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
fn object_id(seconds: i64) -> ObjectId {
    let seconds = u32::try_from(seconds.max(0)).unwrap_or(u32::MAX);
    let mut bytes = [0; 12];
    bytes[..4].copy_from_slice(&seconds.to_be_bytes());
    ObjectId::from_bytes(bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use chrono::TimeZone;

    use super::*;

    #[test]
    fn a_rule_for_old_dates_goes_by_old_dates() {
        let at = |year| Utc.with_ymd_and_hms(year, 7, 1, 0, 0, 0).unwrap();
        let limits = |cutoff| {
            let older = older(Age::Date, cutoff);
            let first = older.get_datetime("$gte").unwrap().timestamp_millis();
            (first, older.contains_key("$not"))
        };
        assert_eq!(limits(at(2020)), (315_532_800_000, false));
        assert_eq!(limits(at(1976)), (FIRST, true));
        assert_eq!(limits(at(1960)), (FIRST, true));
        assert_eq!(
            date(FIRST).try_to_rfc3339_string().unwrap(),
            "1900-01-01T00:00:00Z"
        );
        assert_eq!(
            object_id(FIRST_ID)
                .timestamp()
                .try_to_rfc3339_string()
                .unwrap(),
            "2009-01-01T00:00:00Z"
        );
    }
}
