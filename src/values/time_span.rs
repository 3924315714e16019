//! Lengths of time that are the same whenever they begin; months and years are none.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::text::{Invalid, number_and_unit, written_as_text};

/// Longest span that is accepted, in milliseconds: a hundred years. Beyond it date arithmetic
/// could overflow, and it would be a typing error anyway.
const LONGEST_MS: u64 = 36_500 * 86_400_000;

/// Units of fixed length, longest first, in milliseconds.
const UNITS: [(&str, u64); 6] = [
    ("w", 604_800_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("min", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// A length of time without a calendar: `250ms`, `3s`, `15min`, `2h`, `90d`, `1w`.
///
/// A day is 24 hours. Months and years are refused because they have no fixed length;
/// [`CalendarSpan`](super::CalendarSpan) knows them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimeSpan(Duration);

written_as_text!(
    TimeSpan,
    ToString::to_string,
    "maint-duration",
    "A duration: a whole number with ms, s, min, h, d or w.",
    ["250ms", "3s", "15min", "2h", "90d", "1w"]
);

impl TimeSpan {
    /// No time at all.
    pub const ZERO: Self = Self(Duration::ZERO);

    /// So many milliseconds.
    pub const fn from_millis(ms: u64) -> Self {
        Self(Duration::from_millis(ms))
    }

    /// So many seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// So many minutes.
    pub const fn from_mins(minutes: u64) -> Self {
        Self(Duration::from_secs(minutes * 60))
    }

    /// The length as the standard library has it.
    pub const fn get(self) -> Duration {
        self.0
    }

    /// The same as one tells it: to the nearest day where it is two or more,
    /// else to the nearest hour, minute or second.
    pub fn about(self) -> Self {
        let ms = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        let unit = [86_400_000, 3_600_000, 60_000, 1_000]
            .into_iter()
            .find(|unit| ms >= 2 * unit)
            .unwrap_or(1_000);
        let whole = ms / unit + u64::from(ms % unit >= unit / 2);
        Self::from_millis(whole.saturating_mul(unit))
    }
}

impl From<Duration> for TimeSpan {
    fn from(length: Duration) -> Self {
        Self(length)
    }
}

impl FromStr for TimeSpan {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let wrong = || {
            Invalid::new(format!(
                "`{text}` is not a duration; expected a whole number and a unit, such as `15min`"
            ))
        };
        let (number, unit) = number_and_unit(text);
        if number.is_empty() {
            return Err(wrong());
        }
        if let Some(advice) = advice(number, unit) {
            return Err(wrong().hint(advice));
        }
        let length = UNITS.iter().find(|(name, _)| *name == unit);
        let Some((_, length)) = length else {
            return Err(wrong().hint("the units are ms, s, min, h, d and w"));
        };
        if is_too_long(number, unit) {
            return Err(Invalid::new(format!(
                "`{text}` is too long; a duration may be at most 36500d"
            )));
        }
        let count = number.parse::<u64>().map_err(|_| wrong())?;
        Ok(Self::from_millis(count.saturating_mul(*length)))
    }
}

/// Whether a whole number of a unit of fixed length is more than any span may be.
pub(super) fn is_too_long(number: &str, unit: &str) -> bool {
    let Some((_, length)) = UNITS.iter().find(|(name, _)| *name == unit) else {
        return false;
    };
    let whole = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let count = number.parse::<u64>().ok();
    let ms = count.and_then(|count| count.checked_mul(*length));
    whole && ms.is_none_or(|ms| ms > LONGEST_MS)
}

/// What to write instead, for the mistakes people really make.
pub(super) fn advice(number: &str, unit: &str) -> Option<String> {
    match unit.to_ascii_lowercase().as_str() {
        // What settings of servers are written in, and what nobody means in seconds.
        "" if number.len() >= 3 => Some(format!("add the unit, as in `{number}ms` or `{number}s`")),
        "" => Some(format!("add the unit, as in `{number}s` or `{number}min`")),
        "mo" | "mon" | "month" | "months" | "y" | "year" | "years" => {
            Some("months and years have no fixed length; write days here, such as `30d`".to_owned())
        }
        "m" if unit == "m" => Some(format!("write `{number}min` for minutes")),
        "sec" | "second" | "seconds" => Some(format!("write `{number}s`")),
        "mins" | "minute" | "minutes" => Some(format!("write `{number}min`")),
        "hr" | "hrs" | "hour" | "hours" => Some(format!("write `{number}h`")),
        "day" | "days" => Some(format!("write `{number}d`")),
        "week" | "weeks" => Some(format!("write `{number}w`")),
        _ if number.contains('.') => {
            Some("fractions are not accepted; use a smaller unit, such as `90min`".to_owned())
        }
        _ => None,
    }
}

/// In the largest unit that is exact: `90min`, `2h`, `1w`. Below a millisecond it is cut off.
impl fmt::Display for TimeSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.as_millis();
        if ms == 0 {
            return f.write_str("0s");
        }
        for (name, length) in UNITS {
            let length = u128::from(length);
            if ms.is_multiple_of(length) {
                return write!(f, "{}{name}", ms / length);
            }
        }
        Ok(())
    }
}

impl fmt::Debug for TimeSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_every_unit_and_writes_the_largest_exact_one() {
        for (text, ms, written) in [
            ("250ms", 250, "250ms"),
            ("3s", 3_000, "3s"),
            ("15min", 900_000, "15min"),
            ("90min", 5_400_000, "90min"),
            ("120 min", 7_200_000, "2h"),
            ("90d", 7_776_000_000, "90d"),
            ("7d", 604_800_000, "1w"),
            ("0s", 0, "0s"),
        ] {
            let span: TimeSpan = text.parse().unwrap();
            assert_eq!(span.get(), Duration::from_millis(ms), "{text}");
            assert_eq!(span.to_string(), written);
        }
    }

    #[test]
    fn is_told_in_units_that_fit() {
        for (seconds, told) in [
            (431_999, "5d"),
            (172_799, "2d"),
            (100_000, "28h"),
            (7_199, "2h"),
            (3_700, "62min"),
            (90, "90s"),
            (0, "0s"),
        ] {
            assert_eq!(TimeSpan::from_secs(seconds).about().to_string(), told);
        }
    }

    #[test]
    fn refuses_with_advice() {
        let of = |text: &str| text.parse::<TimeSpan>().unwrap_err();
        assert_eq!(
            of("30").to_string(),
            "`30` is not a duration; expected a whole number and a unit, such as `15min` \
             (hint: add the unit, as in `30s` or `30min`)"
        );
        assert_eq!(
            of("3000").hint.as_deref(),
            Some("add the unit, as in `3000ms` or `3000s`")
        );
        assert!(of("6mo").to_string().contains("no fixed length"));
        assert!(of("1y").to_string().contains("no fixed length"));
        assert_eq!(of("5m").hint.as_deref(), Some("write `5min` for minutes"));
        assert!(of("1.5h").to_string().contains("90min"));
        for text in ["40000d", "99999999999999999999s"] {
            assert!(of(text).to_string().contains("at most 36500d"), "{text}");
        }
        for text in [
            "",
            "s",
            "-3s",
            "ten",
            "3 bananas",
            "99999999999999999999s",
            "40000d",
        ] {
            assert!(text.parse::<TimeSpan>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(ms in 0..=LONGEST_MS) {
            let span = TimeSpan::from_millis(ms);
            prop_assert_eq!(span.to_string().parse::<TimeSpan>(), Ok(span));
        }
    }
}
