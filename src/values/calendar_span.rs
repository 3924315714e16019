//! Spans that may be months and years, whose length depends on when they are counted from.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Months, TimeDelta, Utc};

use super::TimeSpan;
use super::text::{Invalid, number_and_unit, written_as_text};
use super::time_span::{advice, is_too_long};

/// Longest calendar span: a hundred years, like [`TimeSpan`].
const MOST_MONTHS: u32 = 1_200;

/// How far to look back on the calendar: `90d`, `6mo`, `1y`, and everything a
/// [`TimeSpan`] can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CalendarSpan {
    /// So many calendar months; a year is twelve.
    Months(u32),
    /// A fixed length.
    Fixed(TimeSpan),
}

written_as_text!(
    CalendarSpan,
    ToString::to_string,
    "maint-calendar-span",
    "A calendar span: a whole number with h, d, w, mo or y.",
    ["90d", "6mo", "1y"]
);

impl CalendarSpan {
    /// The instant this far before `now`.
    ///
    /// Months count on the UTC calendar; where the day does not exist the last day of the month
    /// is taken (one month before 31 March is 28 or 29 February).
    pub fn before(self, now: DateTime<Utc>) -> DateTime<Utc> {
        let earlier = match self {
            Self::Months(months) => now.checked_sub_months(Months::new(months)),
            Self::Fixed(span) => TimeDelta::from_std(span.get())
                .ok()
                .and_then(|length| now.checked_sub_signed(length)),
        };
        earlier.unwrap_or(DateTime::<Utc>::MIN_UTC)
    }
}

impl FromStr for CalendarSpan {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let (number, unit) = number_and_unit(text);
        let too_long = || {
            Invalid::new(format!(
                "`{text}` is too long; a calendar span may be at most 100y, or 36500d"
            ))
        };
        if is_too_long(number, unit) {
            return Err(too_long());
        }
        let months_each = match unit {
            "mo" => 1,
            "y" => 12,
            _ => {
                return text.parse().map(Self::Fixed).map_err(|_| {
                    let wrong = Invalid::new(format!(
                        "`{text}` is not a calendar span; expected a whole number and a unit, \
                         such as `90d`, `6mo` or `1y`"
                    ));
                    wrong.hint(hint(number, unit))
                });
            }
        };
        if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Invalid::new(format!(
                "`{text}` is not a calendar span; expected a whole number before `{unit}`"
            )));
        }
        let count = number.parse::<u32>().ok();
        match count.and_then(|n| n.checked_mul(months_each)) {
            Some(months) if months <= MOST_MONTHS => Ok(Self::Months(months)),
            _ => Err(too_long()),
        }
    }
}

/// What to write instead of a unit that is none.
fn hint(number: &str, unit: &str) -> String {
    const UNITS: &str = "the units are ms, s, min, h, d, w, mo and y";
    if number.is_empty() {
        return UNITS.to_owned();
    }
    match (unit, &*unit.to_ascii_lowercase()) {
        ("", _) => format!("add the unit, as in `{number}d`"),
        ("m", _) => format!("write `{number}mo` for months, `{number}min` for minutes"),
        ("M", _) | (_, "mo" | "mon" | "mons" | "month" | "months") => {
            format!("write `{number}mo` for months")
        }
        (_, "y" | "yr" | "yrs" | "year" | "years") => format!("write `{number}y`"),
        _ => advice(number, unit).unwrap_or_else(|| UNITS.to_owned()),
    }
}

impl fmt::Display for CalendarSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Months(months) if *months > 0 && months.is_multiple_of(12) => {
                write!(f, "{}y", months / 12)
            }
            Self::Months(months) => write!(f, "{months}mo"),
            Self::Fixed(span) => span.fmt(f),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    #[test]
    fn counts_back_on_the_calendar() {
        let march: DateTime<Utc> = "2026-03-31T12:00:00Z".parse().unwrap();
        for (text, expected, written) in [
            ("1mo", "2026-02-28T12:00:00Z", "1mo"),
            ("6mo", "2025-09-30T12:00:00Z", "6mo"),
            ("12mo", "2025-03-31T12:00:00Z", "1y"),
            ("2y", "2024-03-31T12:00:00Z", "2y"),
            ("90d", "2025-12-31T12:00:00Z", "90d"),
        ] {
            let span: CalendarSpan = text.parse().unwrap();
            assert_eq!(
                span.before(march),
                expected.parse::<DateTime<Utc>>().unwrap()
            );
            assert_eq!(span.to_string(), written);
        }
    }

    #[test]
    fn what_is_too_long_names_the_bound() {
        for text in [
            "9999999d",
            "99999999999999999999d",
            "40000d",
            "101y",
            "9999999999mo",
            "876001h",
        ] {
            let why = text.parse::<CalendarSpan>().unwrap_err().to_string();
            let wanted =
                format!("`{text}` is too long; a calendar span may be at most 100y, or 36500d");
            assert_eq!(why, wanted);
        }
        assert!("36500d".parse::<CalendarSpan>().is_ok());
    }

    #[test]
    fn refuses_what_has_no_meaning() {
        for text in ["", "6", "6m", "mo", "1.5y", "-1mo", "101y", "6 moons"] {
            assert!(text.parse::<CalendarSpan>().is_err(), "{text}");
        }
        assert!(
            "6".parse::<CalendarSpan>()
                .unwrap_err()
                .to_string()
                .contains("`6d`")
        );
    }
}
