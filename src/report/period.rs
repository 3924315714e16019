//! Which stretch of time a report is about.

use std::str::FromStr;

use chrono::{DateTime, NaiveDate, TimeZone, Utc};
use chrono_tz::Tz;

use crate::history::Period;
use crate::values::{CalendarSpan, TimeSpan};

/// A period as a person asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// So far back from now: `7d`, `1mo`.
    Back(CalendarSpan),
    /// Since the last report that was sent, or the last week.
    SinceLast,
    /// A calendar month: `2026-10`.
    Month(NaiveDate),
}

impl FromStr for Asked {
    type Err = String;

    fn from_str(text: &str) -> Result<Asked, String> {
        if text == "since-last" {
            return Ok(Asked::SinceLast);
        }
        if let Ok(first) = NaiveDate::parse_from_str(&format!("{text}-01"), "%Y-%m-%d") {
            return Ok(Asked::Month(first));
        }
        if matches!(
            text.parse(),
            Ok(CalendarSpan::Months(0) | CalendarSpan::Fixed(TimeSpan::ZERO))
        ) {
            return Err(format!(
                "`{text}` is no time at all; expected how far back (`7d`, `1mo`)"
            ));
        }
        text.parse().map(Asked::Back).map_err(|_| {
            format!(
                "`{text}` is no period; expected how far back (`7d`, `1mo`), `since-last`, or a month (`2026-10`)"
            )
        })
    }
}

impl Asked {
    /// Why there is nothing to tell of it yet: it is still to come.
    pub fn to_come(self, now: DateTime<Utc>, zone: Tz) -> Option<String> {
        match self {
            Asked::Month(first) if midnight(first, zone) > now => Some(format!(
                "{} is yet to come: there is nothing to report",
                first.format("%B %Y")
            )),
            _ => None,
        }
    }

    /// The period, and what it is called.
    pub fn period(
        self,
        now: DateTime<Utc>,
        zone: Tz,
        last_report: Option<DateTime<Utc>>,
    ) -> (Period, String) {
        match self {
            Asked::Back(span) => {
                let period = Period {
                    since: span.before(now),
                    until: now,
                };
                (period, last(span))
            }
            Asked::SinceLast => match last_report {
                Some(since) => (
                    Period { since, until: now },
                    "since the last report".to_owned(),
                ),
                None => {
                    let since = now - chrono::TimeDelta::days(7);
                    (Period { since, until: now }, "the last 7 days".to_owned())
                }
            },
            Asked::Month(first) => {
                let next = first
                    .checked_add_months(chrono::Months::new(1))
                    .unwrap_or(first);
                let period = Period {
                    since: midnight(first, zone),
                    until: midnight(next, zone),
                };
                (period, first.format("%B %Y").to_string())
            }
        }
    }
}

fn last(span: CalendarSpan) -> String {
    let (n, unit) = match span {
        CalendarSpan::Months(n) if n % 12 == 0 => (u64::from(n / 12), "year"),
        CalendarSpan::Months(n) => (u64::from(n), "month"),
        CalendarSpan::Fixed(span) => match span.get().as_secs() {
            secs if secs > 0 && secs % 86_400 == 0 => (secs / 86_400, "day"),
            secs if secs > 0 && secs % 3_600 == 0 => (secs / 3_600, "hour"),
            _ => return format!("the last {span}"),
        },
    };
    match n {
        1 => format!("the last {unit}"),
        n => format!("the last {n} {unit}s"),
    }
}

/// The first instant of a day, also where the clocks skip midnight.
fn midnight(day: NaiveDate, zone: Tz) -> DateTime<Utc> {
    (0..24)
        .filter_map(|hour| day.and_hms_opt(hour, 0, 0))
        .find_map(|local| zone.from_local_datetime(&local).earliest())
        .map_or(DateTime::<Utc>::MIN_UTC, |at| at.to_utc())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_month_is_one_of_the_zone() {
        let now = Utc.with_ymd_and_hms(2026, 11, 21, 12, 0, 0).unwrap();
        for (month, to_come) in [("2026-11", false), ("2026-12", true), ("2099-01", true)] {
            let asked: Asked = month.parse().unwrap();
            assert_eq!(asked.to_come(now, Tz::Europe__Berlin).is_some(), to_come);
        }
        let asked: Asked = "2026-10".parse().unwrap();
        let (period, text) = asked.period(now, Tz::Europe__Berlin, None);
        assert_eq!(text, "October 2026");
        // Summer time at its beginning, winter time at its end.
        assert_eq!(period.since.to_rfc3339(), "2026-09-30T22:00:00+00:00");
        assert_eq!(period.until.to_rfc3339(), "2026-10-31T23:00:00+00:00");
    }

    #[test]
    fn words_that_are_no_period_are_refused_with_examples() {
        for text in ["0d", "0mo"] {
            let refused = text.parse::<Asked>().unwrap_err();
            assert!(refused.contains("no time at all"), "{refused}");
        }
        for text in ["", "2026-13", "7", "since", "-3d"] {
            let refused = text.parse::<Asked>().unwrap_err();
            assert!(refused.contains("`since-last`"), "{refused}");
        }
    }

    #[test]
    fn since_last_falls_back_to_a_week() {
        let now = Utc.with_ymd_and_hms(2026, 11, 21, 12, 0, 0).unwrap();
        let (period, _) = Asked::SinceLast.period(now, Tz::UTC, None);
        assert_eq!((period.until - period.since).num_days(), 7);
        let last = now - chrono::TimeDelta::hours(5);
        let (period, _) = Asked::SinceLast.period(now, Tz::UTC, Some(last));
        assert_eq!(period.since, last);
    }
}
