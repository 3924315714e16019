//! How long partitions are, from their bounds.

use chrono::{DateTime, Datelike, Months, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, Weekday};
use chrono_tz::Tz;

/// A moment as the server writes it, in UTC where it has an offset; `None` for what is no moment,
/// such as `infinity`.
pub(super) fn moment(text: &str) -> Option<NaiveDateTime> {
    if let Ok(date) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        return Some(date.and_time(NaiveTime::MIN));
    }
    if let Ok(local) = NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f") {
        return Some(local);
    }
    DateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f%#z")
        .ok()
        .map(|at| at.naive_utc())
}

/// The ends of a range: `FOR VALUES FROM ('2026-01-01') TO ('2026-02-01')`.
pub(super) fn range(bounds: &str) -> Option<(NaiveDateTime, NaiveDateTime)> {
    let (from, to) = bounds
        .strip_prefix("FOR VALUES FROM ('")?
        .split_once("') TO ('")?;
    Some((moment(from)?, moment(to.strip_suffix("')")?)?))
}

/// The word of `partitions` for this length, where it begins and ends as such periods do.
fn interval(from: NaiveDateTime, to: NaiveDateTime) -> Option<&'static str> {
    if from.time() != NaiveTime::MIN || to.time() != NaiveTime::MIN {
        return None;
    }
    let (from, to) = (from.date(), to.date());
    let months = |n| from.checked_add_months(Months::new(n)) == Some(to);
    match to - from {
        days if days == TimeDelta::days(1) => Some("day"),
        days if days == TimeDelta::days(7) && from.weekday() == Weekday::Mon => Some("week"),
        _ if from.day() != 1 => None,
        _ if months(1) => Some("month"),
        _ if months(3) && from.month() % 3 == 1 => Some("quarter"),
        _ if months(12) && from.month() == 1 => Some("year"),
        _ => None,
    }
}

/// What most of the newest partitions are, and in which of these zones: the first in which they
/// make sense. A zone matters only where the bounds are moments.
pub(super) fn shared(bounds: &[String], zones: &[Tz], moments: bool) -> Option<(&'static str, Tz)> {
    let mut ranges: Vec<_> = bounds.iter().filter_map(|text| range(text)).collect();
    ranges.sort_unstable();
    let newest = &ranges[ranges.len().saturating_sub(6)..];
    zones.iter().find_map(|zone| {
        let local = |at: NaiveDateTime| match moments {
            true => at.and_utc().with_timezone(zone).naive_local(),
            false => at,
        };
        let mut words = newest
            .iter()
            .map(|(from, to)| interval(local(*from), local(*to)));
        let first = words.next()??;
        words
            .all(|word| word == Some(first))
            .then_some((first, *zone))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    #[test]
    fn bounds_tell_the_interval_and_the_zone() {
        let berlin: Tz = "Europe/Berlin".parse().unwrap();
        let zones = [berlin, Tz::UTC];
        for (bounds, moments, expected) in [
            (
                &[
                    "FOR VALUES FROM ('2026-01-01') TO ('2026-02-01')",
                    "DEFAULT",
                ][..],
                false,
                Some(("month", berlin)),
            ),
            (
                &[
                    "FOR VALUES FROM ('2026-02-28 23:00:00+00') TO ('2026-03-31 22:00:00+00')",
                    "FOR VALUES FROM ('2026-03-31 22:00:00+00') TO ('2026-04-30 22:00:00+00')",
                ],
                true,
                Some(("month", berlin)),
            ),
            (
                &["FOR VALUES FROM ('2026-01-01 00:00:00+00') TO ('2026-01-02 00:00:00+00')"],
                true,
                Some(("day", Tz::UTC)),
            ),
            (
                &["FOR VALUES FROM ('2026-01-05') TO ('2026-01-12')"],
                false,
                Some(("week", berlin)),
            ),
            (
                &["FOR VALUES FROM ('2026-04-01') TO ('2026-07-01')"],
                false,
                Some(("quarter", berlin)),
            ),
            (
                &["FOR VALUES FROM ('2026-01-06') TO ('2026-01-13')"],
                false,
                None,
            ),
            (
                &[
                    "FOR VALUES FROM ('2026-01-01') TO ('2026-02-01')",
                    "FOR VALUES FROM ('2026-02-01') TO ('2026-02-02')",
                ],
                false,
                None,
            ),
            (
                &["FOR VALUES FROM (MINVALUE) TO ('2026-02-01')"],
                false,
                None,
            ),
            (&[], false, None),
        ] {
            let bounds: Vec<String> = bounds.iter().map(ToString::to_string).collect();
            assert_eq!(shared(&bounds, &zones, moments), expected, "{bounds:?}");
        }
    }
}
