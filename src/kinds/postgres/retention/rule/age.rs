//! Of which type a column is that tells how old a row is.

use chrono::{DateTime, Utc};

use crate::plan::Param;
use crate::values::{Epoch, TimeZone};

/// Types that tell an age.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::kinds::postgres) enum AgeType {
    TimestampTz,
    Timestamp,
    Date,
    Integer,
    Uuid,
}

impl AgeType {
    /// By the name that the catalog gives the base type.
    pub(in crate::kinds::postgres::retention) fn of(type_name: &str) -> Option<AgeType> {
        Some(match type_name {
            "timestamptz" => AgeType::TimestampTz,
            "timestamp" => AgeType::Timestamp,
            "date" => AgeType::Date,
            "int4" | "int8" => AgeType::Integer,
            "uuid" => AgeType::Uuid,
            _ => return None,
        })
    }

    /// What is before this stands for never as often as not. Where the limit is itself before 1980, dates are meant
    /// that old.
    pub(in crate::kinds::postgres::retention) fn earliest(
        self,
        cut: DateTime<Utc>,
    ) -> Option<&'static str> {
        match self {
            AgeType::TimestampTz | AgeType::Timestamp | AgeType::Date => {
                Some(match cut.timestamp() <= Epoch::Seconds.earliest() {
                    true => "1900-01-01",
                    false => "1980-01-01",
                })
            }
            // Numbers have a rule of their own, and a UUID knows no time before 1970.
            AgeType::Integer | AgeType::Uuid => None,
        }
    }

    /// The cut-off as a value of this type, and the cast that makes it one.
    pub(in crate::kinds::postgres::retention) fn bound(
        self,
        cut: DateTime<Utc>,
        epoch: Option<Epoch>,
        zone: Option<&TimeZone>,
    ) -> (Param, &'static str) {
        let local = match zone {
            Some(zone) => cut.with_timezone(&zone.get()).naive_local(),
            None => cut.naive_utc(),
        };
        let text = |text: String| Param::Text(text);
        match self {
            AgeType::TimestampTz => (
                text(cut.format("%Y-%m-%d %H:%M:%S%.6f+00").to_string()),
                "timestamptz",
            ),
            AgeType::Timestamp => (
                text(local.format("%Y-%m-%d %H:%M:%S%.6f").to_string()),
                "timestamp",
            ),
            AgeType::Date => (text(local.format("%Y-%m-%d").to_string()), "date"),
            AgeType::Integer => {
                let number = match epoch {
                    Some(Epoch::Millis) => cut.timestamp_millis(),
                    Some(Epoch::Micros) => cut.timestamp_micros(),
                    Some(Epoch::Seconds) | None => cut.timestamp(),
                };
                (Param::Int(number), "int8")
            }
            AgeType::Uuid => {
                let ms = u64::try_from(cut.timestamp_millis()).unwrap_or(0);
                let least = (u128::from(ms & 0xffff_ffff_ffff) << 80) | (0x7000_u128 << 64);
                (text(uuid::Uuid::from_u128(least).to_string()), "uuid")
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    #[test]
    fn the_cut_off_in_every_type() {
        let now: DateTime<Utc> = "2026-03-31T22:30:00Z".parse().unwrap();
        let berlin: TimeZone = "Europe/Berlin".parse().unwrap();
        let bound = |age: AgeType, epoch, zone| match age.bound(now, epoch, zone).0 {
            Param::Text(text) => text,
            Param::Int(number) => number.to_string(),
            Param::Oid(oid) => oid.to_string(),
        };
        for (age, epoch, zone, expected) in [
            (
                AgeType::TimestampTz,
                None,
                Some(&berlin),
                "2026-03-31 22:30:00.000000+00",
            ),
            (AgeType::Timestamp, None, None, "2026-03-31 22:30:00.000000"),
            (
                AgeType::Timestamp,
                None,
                Some(&berlin),
                "2026-04-01 00:30:00.000000",
            ),
            (AgeType::Date, None, None, "2026-03-31"),
            (AgeType::Date, None, Some(&berlin), "2026-04-01"),
            (AgeType::Integer, Some(Epoch::Seconds), None, "1774996200"),
            (AgeType::Integer, Some(Epoch::Millis), None, "1774996200000"),
            (
                AgeType::Uuid,
                None,
                None,
                "019d4604-9a40-7000-0000-000000000000",
            ),
        ] {
            assert_eq!(bound(age, epoch, zone), expected);
        }
    }
}
