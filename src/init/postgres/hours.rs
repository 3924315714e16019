//! When a database is quiet, from the times in its statistics.

use chrono::{Datelike, NaiveDateTime, NaiveTime, Timelike};
use chrono_tz::Tz;

use super::bounds::moment;
use super::facts::TimeColumn;

/// When work is done, and how that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Quiet {
    /// The hour that nights begin at.
    pub(super) hour: u32,
    /// `Sun`.
    pub(super) day: &'static str,
    pub(super) why: String,
}

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
/// Fewer times than this say nothing.
const FEWEST: usize = 100;
/// How long a night is.
const HOURS: u32 = 3;
/// At so small a share of what happens in a day the night is quiet; by chance it would be 12.5%.
const QUIET: f64 = 0.06;

/// How often something happened in each hour and on each day of the week. The bounds of a
/// histogram cut the rows into parts of the same size, so that there are many where much happened.
pub(super) fn quiet<'a>(columns: impl Iterator<Item = &'a TimeColumn>, zone: Tz) -> Quiet {
    let (mut hours, mut days) = ([0_usize; 24], [0_usize; 7]);
    for column in columns.filter(|column| column.kind != "date") {
        let times: Vec<NaiveDateTime> = column
            .bounds
            .iter()
            .filter_map(|text| moment(text))
            .map(|at| match column.kind.as_str() {
                "timestamptz" => at.and_utc().with_timezone(&zone).naive_local(),
                _ => at,
            })
            .collect();
        let dates = times.iter().filter(|at| at.time() == NaiveTime::MIN);
        // Dates in disguise know no hour.
        if dates.count() * 4 > times.len() {
            continue;
        }
        for at in times {
            hours[at.hour() as usize] += 1;
            days[at.weekday().num_days_from_monday() as usize] += 1;
        }
    }
    let all: usize = hours.iter().sum();
    let unknown = |why: String| Quiet {
        hour: 2,
        day: "Sun",
        why,
    };
    if all < FEWEST {
        return unknown(
            "When this database is quiet is not known (no statistics of enough times when rows came in): nights are a guess.".to_owned(),
        );
    }
    let share = |hour: u32| {
        let rows: usize = (hour..hour + HOURS).map(|h| hours[(h % 24) as usize]).sum();
        rows as f64 / all as f64
    };
    // The night that everybody takes, unless another one is clearly better.
    let best = (0..24).min_by(|a, b| share(*a).total_cmp(&share(*b)));
    let hour = best
        .filter(|best| share(*best) + 0.01 < share(2))
        .unwrap_or(2);
    if share(hour) > QUIET {
        return unknown(format!(
            "No hours of the day stand out as quiet: of the times in the statistics {:.0}% are between {:02}:00 and {:02}:00. Nights are a guess.",
            share(hour) * 100.0,
            hour,
            (hour + HOURS) % 24
        ));
    }
    let rarest = (0..7)
        .min_by_key(|day| (days[*day], *day != 6))
        .unwrap_or(6);
    // A seventh is what every day would have.
    let day = if days[rarest] * 10 < all { rarest } else { 6 };
    Quiet {
        hour,
        day: DAYS[day],
        why: format!(
            "Of {all} times in the statistics {:.1}% are between {:02}:00 and {:02}:00, and {:.0}% on {}.",
            share(hour) * 100.0,
            hour,
            (hour + HOURS) % 24,
            days[day] as f64 * 100.0 / all as f64,
            DAYS[day]
        ),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    fn column(kind: &str, hours: impl Iterator<Item = u32>) -> TimeColumn {
        let bounds = hours
            .enumerate()
            .map(|(n, hour)| {
                let day = 1 + n % 28;
                match kind {
                    "date" => format!("2026-06-{day:02}"),
                    "timestamp" => format!("2026-06-{day:02} {hour:02}:30:00"),
                    _ => format!("2026-06-{day:02} {hour:02}:30:00.5+00"),
                }
            })
            .collect();
        TimeColumn {
            name: "created_at".to_owned(),
            kind: kind.to_owned(),
            not_null: true,
            now: true,
            indexed: true,
            bounds,
        }
    }

    #[test]
    fn the_quiet_hours_are_those_without_rows() {
        let berlin: Tz = "Europe/Berlin".parse().unwrap();
        // Busy from 08 to 22 UTC: 10 to 24 in Berlin's summer.
        let busy = column("timestamptz", (0..300).map(|n| 8 + n % 14));
        let found = quiet([&busy].into_iter(), berlin);
        assert_eq!((found.hour, found.day), (2, "Sun"), "{found:?}");
        assert!(found.why.contains("0.0% are between 02:00"), "{found:?}");
        // Busy at night: the day is quiet.
        let night = column("timestamp", (0..300).map(|n| (20 + n % 9) % 24));
        assert_eq!(quiet([&night].into_iter(), berlin).hour, 5);
        // Always busy, too few, only dates.
        for (kind, many) in [("timestamptz", 300_u32), ("timestamptz", 60), ("date", 300)] {
            let flat = column(kind, (0..many).map(|n| n % 24));
            let found = quiet([&flat].into_iter(), berlin);
            assert_eq!((found.hour, found.day), (2, "Sun"), "{kind} {many}");
            assert!(found.why.contains("a guess"), "{found:?}");
        }
    }
}
