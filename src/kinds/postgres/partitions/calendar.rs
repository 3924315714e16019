//! Periods of a calendar, and how a partition key writes their edges.

use chrono::{DateTime, Datelike, Days, Months, NaiveDate, NaiveDateTime, NaiveTime, Utc};
use chrono_tz::Tz;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::values::first_instant;

/// How long a partition is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Interval {
    /// From midnight to midnight.
    Day,
    /// From Monday to Monday.
    Week,
    /// A calendar month.
    Month,
    /// January, April, July and October begin one.
    Quarter,
    /// A calendar year.
    Year,
}

impl Interval {
    /// The first day of the period that `day` is in.
    pub(super) fn start(self, day: NaiveDate) -> NaiveDate {
        let first = |month| NaiveDate::from_ymd_opt(day.year(), month, 1).unwrap_or(day);
        match self {
            Interval::Day => day,
            Interval::Week => day - Days::new(u64::from(day.weekday().num_days_from_monday())),
            Interval::Month => first(day.month()),
            Interval::Quarter => first((day.month0() / 3) * 3 + 1),
            Interval::Year => first(1),
        }
    }

    /// The first day of the next period; `start` begins one.
    pub(super) fn next(self, start: NaiveDate) -> NaiveDate {
        match self {
            Interval::Day => start + Days::new(1),
            Interval::Week => start + Days::new(7),
            Interval::Month => start + Months::new(1),
            Interval::Quarter => start + Months::new(3),
            Interval::Year => start + Months::new(12),
        }
    }

    /// What a partition's name ends in where the task gives no pattern.
    pub(super) fn suffix(self) -> &'static str {
        match self {
            Interval::Day => "_y{year}m{month}d{day}",
            Interval::Week => "_y{week_year}w{week}",
            Interval::Month => "_y{year}m{month}",
            Interval::Quarter => "_y{year}q{quarter}",
            Interval::Year => "_y{year}",
        }
    }

    /// `pattern` with the numbers of the period that begins on `start`.
    pub(super) fn name(pattern: &str, start: NaiveDate) -> String {
        let week = start.iso_week();
        pattern
            .replace("{year}", &format!("{:04}", start.year()))
            .replace("{month}", &format!("{:02}", start.month()))
            .replace("{day}", &format!("{:02}", start.day()))
            .replace("{quarter}", &(start.month0() / 3 + 1).to_string())
            .replace("{week_year}", &format!("{:04}", week.year()))
            .replace("{week}", &format!("{:02}", week.week()))
    }
}

/// What an integer key counts since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Epoch {
    /// Seconds.
    Seconds,
    /// Milliseconds.
    Millis,
}

/// A place on the axis of a key: what bounds are compared by. Days, seconds,
/// microseconds or the bits of a UUID, as the key has it.
pub(super) type Point = i128;

/// Before everything: `MINVALUE`, `-infinity`.
pub(super) const FIRST: Point = Point::MIN;
/// After everything: `MAXVALUE`, `infinity`.
pub(super) const LAST: Point = Point::MAX;

/// The type of a partition key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Date,
    Timestamp,
    TimestampTz,
    Integer(Epoch),
    /// Version 7: the upper 48 bits are milliseconds since 1970.
    Uuid,
}

const MICROS: Point = 1_000_000;

impl Key {
    /// The key of a column of this type, or what is missing.
    pub(super) fn of(type_name: &str, epoch: Option<Epoch>) -> Result<Key, String> {
        match (type_name, epoch) {
            ("int8" | "int4", Some(epoch)) => Ok(Key::Integer(epoch)),
            ("int8" | "int4", None) => Err(
                "its key is an integer; say with `epoch` whether it counts seconds or millis since 1970"
                    .to_owned(),
            ),
            (_, Some(_)) => Err(format!("`epoch` is for integer keys, but its key is a {type_name}")),
            ("date", _) => Ok(Key::Date),
            ("timestamp", _) => Ok(Key::Timestamp),
            ("timestamptz", _) => Ok(Key::TimestampTz),
            ("uuid", _) => Ok(Key::Uuid),
            (other, _) => Err(format!(
                "its key is of type {other}; expected a date, a timestamp, a UUIDv7 or an integer"
            )),
        }
    }

    /// The midnight that begins `day` on the clocks of `zone`. A midnight that
    /// the clocks skip is the instant after the gap; one that they show twice
    /// is the first.
    pub(super) fn at(self, day: NaiveDate, zone: Tz) -> Point {
        let midnight = day.and_time(NaiveTime::MIN);
        match self {
            Key::Date => days(day),
            // Written without a zone: the same on every clock.
            Key::Timestamp => Point::from(midnight.and_utc().timestamp_micros()),
            _ => self.instant(
                first_instant(midnight, zone).unwrap_or(midnight.and_utc()),
                zone,
            ),
        }
    }

    /// The place of an instant; dates and plain timestamps are what the clocks of `zone` show.
    pub(super) fn instant(self, at: DateTime<Utc>, zone: Tz) -> Point {
        let local = at.with_timezone(&zone).naive_local();
        match self {
            Key::Date => days(local.date()),
            Key::Timestamp => Point::from(local.and_utc().timestamp_micros()),
            Key::TimestampTz => Point::from(at.timestamp_micros()),
            Key::Integer(Epoch::Seconds) => Point::from(at.timestamp()),
            Key::Integer(Epoch::Millis) => Point::from(at.timestamp_millis()),
            Key::Uuid => Point::from(at.timestamp_millis()) << 80,
        }
    }

    /// The day whose period begins at, or last before, a place.
    pub(super) fn day(self, point: Point, zone: Tz) -> Option<NaiveDate> {
        let instant = |micros: Point| DateTime::from_timestamp_micros(i64::try_from(micros).ok()?);
        let local = match self {
            Key::Date => {
                let days = i64::try_from(point).ok()?.checked_mul(86_400)?;
                return Some(DateTime::from_timestamp(days, 0)?.date_naive());
            }
            Key::Timestamp => return Some(instant(point)?.date_naive()),
            Key::TimestampTz => instant(point)?,
            Key::Integer(Epoch::Seconds) => instant(point.checked_mul(MICROS)?)?,
            Key::Integer(Epoch::Millis) => instant(point.checked_mul(1_000)?)?,
            Key::Uuid => instant((point >> 80) * 1_000)?,
        };
        Some(local.with_timezone(&zone).date_naive())
    }

    /// The place as a literal of SQL, the same in every session.
    pub(super) fn literal(self, point: Point) -> String {
        let utc = |micros: Point| {
            let micros = i64::try_from(micros).unwrap_or(i64::MAX);
            let at = DateTime::from_timestamp_micros(micros).unwrap_or(DateTime::<Utc>::MAX_UTC);
            at.format("%Y-%m-%d %H:%M:%S%.f").to_string()
        };
        match (point, self) {
            (FIRST, _) => "MINVALUE".to_owned(),
            (LAST, _) => "MAXVALUE".to_owned(),
            (_, Key::Date) => format!(
                "'{}'",
                utc(point * 86_400 * MICROS)
                    .split(' ')
                    .next()
                    .unwrap_or_default()
            ),
            (_, Key::Timestamp) => format!("'{}'", utc(point)),
            (_, Key::TimestampTz) => format!("'{}+00'", utc(point)),
            (_, Key::Integer(_)) => format!("'{point}'"),
            (_, Key::Uuid) => format!("'{}'", Uuid::from_u128(u128::try_from(point).unwrap_or(0))),
        }
    }

    /// The other way round: a literal as the server writes it in UTC.
    pub(super) fn point(self, literal: &str) -> Option<Point> {
        let text = match literal {
            "MINVALUE" => return Some(FIRST),
            "MAXVALUE" => return Some(LAST),
            quoted => quoted
                .strip_prefix('\'')
                .and_then(|t| t.strip_suffix('\''))
                .unwrap_or(quoted),
        };
        match text {
            "-infinity" => return Some(FIRST),
            "infinity" => return Some(LAST),
            _ => {}
        }
        match self {
            Key::Date => Some(days(text.parse().ok()?)),
            Key::Timestamp | Key::TimestampTz => {
                let text = text.strip_suffix("+00").unwrap_or(text);
                let at = NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f").ok()?;
                Some(Point::from(at.and_utc().timestamp_micros()))
            }
            Key::Integer(_) => text.parse().ok(),
            Key::Uuid => Point::try_from(text.parse::<Uuid>().ok()?.as_u128()).ok(),
        }
    }

    /// SQL for the quarter of an hour of the axis that `column` is in, counted
    /// from 1970: fine enough for every edge, as no zone is off by less.
    pub(super) fn bucket(self, column: &str) -> String {
        let seconds = match self {
            Key::Date => format!("({column} - DATE '1970-01-01')::int8 * 86400"),
            Key::Timestamp | Key::TimestampTz => {
                format!("pg_catalog.floor(extract(epoch FROM {column}))::int8")
            }
            Key::Integer(Epoch::Seconds) => format!("{column}::int8"),
            Key::Integer(Epoch::Millis) => format!("pg_catalog.floor({column} / 1000.0)::int8"),
            Key::Uuid => format!(
                "('x' || pg_catalog.substr(pg_catalog.replace({column}::text, '-', ''), 1, 12))::bit(48)::int8 / 1000"
            ),
        };
        format!("pg_catalog.floor(({seconds}) / 900.0)::int8")
    }

    /// Whether the value is finite: infinite ones are in no period.
    pub(super) fn finite(self, column: &str) -> String {
        match self {
            Key::Date | Key::Timestamp | Key::TimestampTz => {
                format!("pg_catalog.isfinite({column})")
            }
            _ => format!("{column} IS NOT NULL"),
        }
    }

    /// Where a quarter of an hour begins.
    pub(super) fn of_bucket(self, bucket: i64) -> Point {
        let seconds = Point::from(bucket) * 900;
        match self {
            Key::Date => seconds.div_euclid(86_400),
            Key::Timestamp | Key::TimestampTz => seconds * MICROS,
            Key::Integer(Epoch::Seconds) => seconds,
            Key::Integer(Epoch::Millis) => seconds * 1_000,
            Key::Uuid => (seconds * 1_000) << 80,
        }
    }
}

fn days(day: NaiveDate) -> Point {
    Point::from(day.and_time(NaiveTime::MIN).and_utc().timestamp()).div_euclid(86_400)
}

/// The two literals of `FOR VALUES FROM (…) TO (…)` with one column.
pub(super) fn range(bounds: &str) -> Option<(&str, &str)> {
    let (from, to) = bounds
        .strip_prefix("FOR VALUES FROM (")?
        .split_once(") TO (")?;
    let to = to.strip_suffix(')')?;
    (!from.contains(',') && !to.contains(',')).then_some((from, to))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    fn day(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    #[test]
    fn periods_begin_where_the_calendar_says() {
        for (interval, within, start, next) in [
            (Interval::Day, "2026-03-29", "2026-03-29", "2026-03-30"),
            (Interval::Week, "2026-01-01", "2025-12-29", "2026-01-05"),
            (Interval::Month, "2024-02-29", "2024-02-01", "2024-03-01"),
            (Interval::Quarter, "2026-12-31", "2026-10-01", "2027-01-01"),
            (Interval::Year, "2026-11-21", "2026-01-01", "2027-01-01"),
        ] {
            assert_eq!(interval.start(day(within)), day(start));
            assert_eq!(interval.next(day(start)), day(next));
        }
        assert_eq!(
            Interval::name("t{week_year}w{week}q{quarter}", day("2025-12-29")),
            "t2026w01q4"
        );
    }

    #[test]
    fn edges_are_midnights_of_the_zone() {
        for (zone, date, literal) in [
            (
                chrono_tz::America::New_York,
                "2026-03-08",
                "'2026-03-08 05:00:00+00'",
            ),
            (
                chrono_tz::America::New_York,
                "2026-03-09",
                "'2026-03-09 04:00:00+00'",
            ),
            (
                chrono_tz::Europe::Berlin,
                "2026-10-25",
                "'2026-10-24 22:00:00+00'",
            ),
            (
                chrono_tz::Europe::Berlin,
                "2026-10-26",
                "'2026-10-25 23:00:00+00'",
            ),
            (
                chrono_tz::Asia::Kathmandu,
                "2026-01-01",
                "'2025-12-31 18:15:00+00'",
            ),
            // The clocks skip midnight here.
            (
                chrono_tz::America::Santiago,
                "2025-09-07",
                "'2025-09-07 04:00:00+00'",
            ),
        ] {
            let point = Key::TimestampTz.at(day(date), zone);
            assert_eq!(Key::TimestampTz.literal(point), literal);
            assert_eq!(Key::TimestampTz.point(literal), Some(point));
            assert_eq!(Key::TimestampTz.day(point, zone), Some(day(date)));
        }
    }

    #[test]
    fn literals_are_read_back_whatever_the_key() {
        let zone = chrono_tz::Asia::Kathmandu;
        for key in [
            Key::Date,
            Key::Timestamp,
            Key::TimestampTz,
            Key::Integer(Epoch::Seconds),
            Key::Integer(Epoch::Millis),
            Key::Uuid,
        ] {
            for date in ["1969-12-31", "1970-01-01", "2026-03-29", "2099-01-01"] {
                if key == Key::Uuid && date < "1970-01-02" {
                    continue;
                }
                let point = key.at(day(date), zone);
                assert_eq!(
                    key.point(&key.literal(point)),
                    Some(point),
                    "{key:?} {date}"
                );
                assert_eq!(key.day(point, zone), Some(day(date)), "{key:?} {date}");
            }
            assert_eq!(key.point("MINVALUE"), Some(FIRST));
            assert_eq!(key.literal(LAST), "MAXVALUE");
        }
        assert_eq!(
            range("FOR VALUES FROM ('1') TO (MAXVALUE)"),
            Some(("'1'", "MAXVALUE"))
        );
        assert_eq!(range("FOR VALUES FROM ('1', 'a') TO ('2', 'b')"), None);
        assert_eq!(range("DEFAULT"), None);
    }
}
