//! Times that are numbers, and whether they can be what they are taken for.

use std::ops::RangeInclusive;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a number counts since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Epoch {
    /// Seconds.
    Seconds,
    /// Milliseconds.
    Millis,
    /// Microseconds.
    Micros,
}

/// 1980-01-01, in seconds. What counts larger units than it is taken to do is of January 1970.
const EARLY: i64 = 315_532_800;
/// About the least number that databases keep exactly, whatever they keep it in.
const LEAST: i64 = -9_000_000_000_000_000_000;
/// 1990-01-01, in seconds: since then databases are kept that are still there.
const KEPT: i64 = 631_152_000;
/// A year, in seconds.
const YEAR: i64 = 366 * 86_400;

impl Epoch {
    /// The other units.
    pub fn others(self) -> impl Iterator<Item = Epoch> {
        let all = [Epoch::Seconds, Epoch::Millis, Epoch::Micros];
        all.into_iter().filter(move |other| *other != self)
    }

    fn per_second(self) -> i64 {
        match self {
            Epoch::Seconds => 1,
            Epoch::Millis => 1_000,
            Epoch::Micros => 1_000_000,
        }
    }

    /// Numbers that are times of 1980 or later, and of no later than a hundred years after `now`:
    /// of any unit but the right one, times of our days are not among them.
    pub fn plausible(self, now: DateTime<Utc>) -> RangeInclusive<i64> {
        let late = now.timestamp().saturating_add(100 * YEAR);
        self.scaled(EARLY, late)
    }

    /// Numbers that are times of our days: since 1990, until a year after `now`.
    pub fn of_our_days(self, now: DateTime<Utc>) -> RangeInclusive<i64> {
        let late = now.timestamp().saturating_add(YEAR);
        self.scaled(KEPT, late)
    }

    /// Numbers that are times before 1980: they were written in a unit that counts less, or are no times, as
    /// zero and -1 often stand for never. They are nobody's age.
    pub fn doubtful(self) -> RangeInclusive<i64> {
        LEAST..=self.earliest() - 1
    }

    /// The first moment of 1980. Nothing below that tells an age.
    pub fn earliest(self) -> i64 {
        EARLY.saturating_mul(self.per_second())
    }

    /// That some numbers of `field` are such, and what becomes of them.
    pub fn doubted(self, field: &str) -> String {
        format!(
            "some numbers in `{field}` are, as {}, times before 1980, or zero or less: they were written in another unit, or are no times, so that nobody knows how old they are. They stay; write them anew in one unit",
            self.name()
        )
    }

    /// The units that count more in the same time: times of our days in them are, in this one, far ahead.
    pub fn finer(self) -> impl Iterator<Item = Epoch> {
        let finer = move |other: &Epoch| other.per_second() > self.per_second();
        self.others().filter(finer)
    }

    /// That some numbers of `field` are times of our days in a [finer](Epoch::finer) unit, and what becomes of
    /// them.
    pub fn ahead(self, finer: Epoch, field: &str) -> String {
        format!(
            "some numbers in `{field}` are, as {}, hundreds of years ahead, and as {} times of our days: they were written in another unit, and never become old. They stay; write them anew in one unit",
            self.name(),
            finer.name()
        )
    }

    fn scaled(self, early: i64, late: i64) -> RangeInclusive<i64> {
        let unit = self.per_second();
        early.saturating_mul(unit)..=late.saturating_mul(unit)
    }

    /// That `field` holds times of our days in another unit, and none in this one.
    pub fn mistaken(self, other: Epoch, field: &str) -> String {
        format!(
            "as {} no number in `{field}` is a time of 1980 or later, or all are more than a hundred years ahead, and as {} there are times of our days: is it `epoch: {}`?",
            self.name(),
            other.name(),
            other.name()
        )
    }

    /// Numbers that are times at all: none, and what stands for it, is no time of any unit.
    pub fn times() -> RangeInclusive<i64> {
        1..=i64::MAX
    }

    /// That `field` holds no time of our days in any unit, though it holds numbers: dates that are written
    /// as numbers, days, or no times at all. As old as they seem none of them is.
    pub fn unknown(self, field: &str) -> String {
        format!(
            "as {} no number in `{field}` is a time of 1980 or later, and in no other unit that `epoch` knows it is one: what it counts is not known, and everything there would pass for old. A date that is written as a number (20260131), or a count of days, is no `epoch`",
            self.name()
        )
    }

    /// As it is written in YAML.
    pub fn name(self) -> &'static str {
        match self {
            Epoch::Seconds => "seconds",
            Epoch::Millis => "millis",
            Epoch::Micros => "micros",
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    #[test]
    fn times_of_our_days_are_plausible_in_their_own_unit_alone() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let ours = [KEPT, 1_000_000_000, 1_799_999_999, 1_800_000_000 + YEAR];
        for epoch in [Epoch::Seconds, Epoch::Millis, Epoch::Micros] {
            for seconds in ours {
                let number = seconds * epoch.per_second();
                assert!(epoch.of_our_days(now).contains(&number));
                assert!(epoch.plausible(now).contains(&number));
                for other in epoch.others() {
                    // What counts less would pass for old, and is doubted instead; what counts more is ahead.
                    assert_eq!(
                        other.doubtful().contains(&number),
                        other.per_second() > epoch.per_second()
                    );
                    assert!(
                        !other.plausible(now).contains(&number),
                        "{epoch:?} {other:?} {number}"
                    );
                }
            }
        }
    }
}
