//! Periods of a calendar, and how a partition key writes their edges.

use chrono::{DateTime, Datelike, Days, Months, NaiveDate, NaiveTime, Utc};
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

/// What an integer key counts since 1970: of the units that [`crate::values::Epoch`] has, those that bounds are made in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum KeyEpoch {
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
/// 1990, in seconds: no partition that is the newest of its table begins before.
const OLDEST: i64 = 631_152_000;

/// The type of a partition key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Date,
    Timestamp,
    TimestampTz,
    Integer(KeyEpoch),
    /// Version 7: the upper 48 bits are milliseconds since 1970.
    Uuid,
}

const MICROS: Point = 1_000_000;
/// A day in microseconds.
pub(super) const DAY: Point = 86_400 * MICROS;

impl Key {
    /// The key of a column of this type, or what is missing.
    pub(super) fn of(type_name: &str, epoch: Option<KeyEpoch>) -> Result<Key, String> {
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
            Key::Integer(KeyEpoch::Seconds) => Point::from(at.timestamp()),
            Key::Integer(KeyEpoch::Millis) => Point::from(at.timestamp_millis()),
            Key::Uuid => (Point::from(at.timestamp_millis()) << 80).saturating_add(Point::MIN),
        }
    }

    /// Why the beginnings of partitions cannot be times, as this key counts them: numbers and
    /// UUIDs look alike, whatever they count. Nobody makes partitions a hundred years ahead, and
    /// where the newest begins before 1990 there is none for today.
    pub(super) fn implausible(self, newest: Point, now: DateTime<Utc>) -> Option<String> {
        let century = Days::new(36_525);
        let ahead = now
            .checked_add_days(century)
            .is_some_and(|far| newest > self.instant(far, Tz::UTC));
        let behind = DateTime::from_timestamp(OLDEST, 0)
            .is_some_and(|early| newest < self.instant(early, Tz::UTC));
        let (unit, other) = match self {
            Key::Uuid if ahead => {
                let why = "its partitions begin at UUIDs that are not of version 7, which begin with their time";
                return Some(why.to_owned());
            }
            Key::Integer(KeyEpoch::Seconds) if ahead || behind => ("seconds", "millis"),
            Key::Integer(KeyEpoch::Millis) if ahead || behind => ("milliseconds", "seconds"),
            _ => return None,
        };
        Some(format!(
            "its newest partition begins at {newest}, and that is no time of our days in {unit} since 1970; is it `epoch: {other}`?"
        ))
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
            Key::Integer(KeyEpoch::Seconds) => instant(point.checked_mul(MICROS)?)?,
            Key::Integer(KeyEpoch::Millis) => instant(point.checked_mul(1_000)?)?,
            Key::Uuid => instant(
                (point.wrapping_sub(Point::MIN).cast_unsigned() >> 80).cast_signed() * 1_000,
            )?,
        };
        Some(local.with_timezone(&zone).date_naive())
    }

    /// The place as a literal of SQL, the same in every session.
    pub(super) fn literal(self, point: Point) -> String {
        match (point, self) {
            (FIRST, _) => "MINVALUE".to_owned(),
            (LAST, _) => "MAXVALUE".to_owned(),
            (_, Key::Date) => {
                let (date, era) = date_text(point);
                format!("'{date}{era}'")
            }
            (_, Key::Timestamp | Key::TimestampTz) => {
                let (date, era) = date_text(point.div_euclid(DAY));
                let within = point.rem_euclid(DAY);
                let (seconds, micros) = (within / MICROS, within % MICROS);
                let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
                let fraction = match micros {
                    0 => String::new(),
                    _ => format!(".{micros:06}"),
                };
                let zone = if self == Key::TimestampTz { "+00" } else { "" };
                format!("'{date} {hour:02}:{minute:02}:{second:02}{fraction}{zone}{era}'")
            }
            (_, Key::Integer(_)) => format!("'{point}'"),
            (_, Key::Uuid) => format!(
                "'{}'",
                Uuid::from_u128(point.wrapping_sub(Point::MIN).cast_unsigned())
            ),
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
            Key::Date => date_point(text),
            Key::Timestamp | Key::TimestampTz => {
                let (text, era) = match text.strip_suffix(" BC") {
                    Some(text) => (text, " BC"),
                    None => (text, ""),
                };
                let text = text.strip_suffix("+00").unwrap_or(text);
                let (date, time) = text.split_once(' ')?;
                let time = NaiveTime::parse_from_str(time, "%H:%M:%S%.f").ok()?;
                let within = time.signed_duration_since(NaiveTime::MIN);
                let within = Point::from(within.num_microseconds()?);
                Some(date_point(&format!("{date}{era}"))? * DAY + within)
            }
            Key::Integer(_) => text.parse().ok(),
            Key::Uuid => Some(uuid_point(text.parse().ok()?)),
        }
    }

    /// SQL for the place of `column` on the axis, as text: what bounds are compared by.
    pub(super) fn place(self, column: &str) -> String {
        match self {
            Key::Date => format!("({column} - DATE '1970-01-01')::text"),
            Key::Timestamp | Key::TimestampTz => {
                format!("(extract(epoch FROM {column}) * 1000000)::int8::text")
            }
            Key::Integer(_) => format!("{column}::text"),
            Key::Uuid => format!("{column}::text"),
        }
    }

    /// SQL for a value that is ordered as `column` is, and has a smallest and a largest.
    pub(super) fn ordered(self, column: &str) -> String {
        match self {
            // There is no smallest UUID before 18.
            Key::Uuid => format!("{column}::text COLLATE \"C\""),
            _ => column.to_owned(),
        }
    }

    /// Reads what [`Key::place`] answered.
    pub(super) fn read_place(self, text: &str) -> Option<Point> {
        match self {
            Key::Uuid => Some(uuid_point(text.parse().ok()?)),
            _ => text.parse().ok(),
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
            Key::Integer(KeyEpoch::Seconds) => format!("{column}::int8"),
            Key::Integer(KeyEpoch::Millis) => format!("pg_catalog.floor({column} / 1000.0)::int8"),
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
}

/// Half of all UUIDs are below zero, so that every one of them is a place in the same order.
fn uuid_point(uuid: Uuid) -> Point {
    uuid.as_u128().cast_signed().wrapping_add(Point::MIN)
}

/// `2026-11-01`, `10000-01-01` or `0044-03-15 BC` as days since 1970. The
/// server knows years that no library for dates does, so this is its own
/// arithmetic: the proleptic Gregorian calendar, in eras of 400 years.
fn date_point(text: &str) -> Option<Point> {
    let (text, before) = match text.strip_suffix(" BC") {
        Some(text) => (text, true),
        None => (text, false),
    };
    let mut parts = text.split('-').map(|part| part.parse::<Point>().ok());
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    if parts.next().is_some() || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let year = if before { 1 - year } else { year };
    // Years begin in March here, so that a leap day is the last of them.
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = of_era * 365 + of_era / 4 - of_era / 100 + of_year;
    Some(era * 146_097 + day_of_era - 719_468)
}

/// The other way round: the date, and ` BC` where it is before our era.
fn date_text(days: Point) -> (String, &'static str) {
    let shifted = days + 719_468;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = (shifted_month + 2) % 12 + 1;
    let year = era * 400 + year + Point::from(u8::from(month <= 2));
    if year > 0 {
        (format!("{year:04}-{month:02}-{day:02}"), "")
    } else {
        (format!("{:04}-{month:02}-{day:02}", 1 - year), " BC")
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
mod tests;
