//! A calendar of days, each in the colours of its runs, by their share.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use chrono::{Datelike, Days, NaiveDate};

use crate::history::{Day, RunStatus};
use crate::report::text::human_count;

const CELL: u64 = 13;
const SIZE: u64 = 11;
/// Where the cells begin: beside the names of weekdays, below those of months.
const LEFT: u64 = 34;
const TOP: u64 = 18;
/// So many pixels has whatever happened, however rarely.
const LEAST: u64 = 2;
/// Names of months need so many columns.
const MONTH_COLUMNS: u64 = 3;

/// A calendar as SVG, a column per week, and the same in a sentence.
pub(super) fn calendar<'d>(
    days: impl IntoIterator<Item = &'d Day>,
    today: NaiveDate,
    weeks: u32,
) -> (String, String) {
    let mut by_day: BTreeMap<&str, [i64; 4]> = BTreeMap::new();
    for day in days {
        let place = match day.status {
            RunStatus::Succeeded => 0,
            RunStatus::Failed | RunStatus::Interrupted => 3,
            RunStatus::Partial => 2,
            RunStatus::Running | RunStatus::Skipped => continue,
            _ => 1,
        };
        by_day.entry(&day.day).or_default()[place] += day.runs;
    }
    let back = u64::from((weeks - 1) * 7 + today.weekday().num_days_from_monday());
    let first = today.checked_sub_days(Days::new(back)).unwrap_or(today);
    let mut empty = String::new();
    let mut cells = String::new();
    let mut labels = String::new();
    let mut labelled: Option<u64> = None;
    let mut sums = [0_i64; 4];
    for n in 0..=back {
        let Some(day) = first.checked_add_days(Days::new(n)) else {
            break;
        };
        let (x, y) = (LEFT + n / 7 * CELL, TOP + n % 7 * CELL);
        // Above the first week that begins in a month, where there is room.
        let begins = n % 7 == 0 && day.day() <= 7;
        if begins && labelled.is_none_or(|before| n / 7 >= before + MONTH_COLUMNS) {
            labelled = Some(n / 7);
            let month = day.format("%b");
            let _ = write!(labels, r#"<text x="{x}" y="12">{month}</text>"#);
        }
        let name = day.to_string();
        let Some(counts) = by_day.get(name.as_str()) else {
            let _ = write!(empty, "M{x} {y}h{SIZE}v{SIZE}h-{SIZE}z");
            continue;
        };
        for (sum, count) in sums.iter_mut().zip(counts) {
            *sum += count;
        }
        let _ = write!(
            cells,
            "<g><title>{name}: {} succeeded, {} ended early, {} failed in part, {} failed</title>",
            counts[0], counts[1], counts[2], counts[3]
        );
        let mut top = y;
        for (class, height) in ["good", "early", "partly", "bad"]
            .iter()
            .zip(heights(counts))
        {
            if height > 0 {
                let _ = write!(
                    cells,
                    r#"<rect class="{class}" x="{x}" y="{top}" width="{SIZE}" height="{height}"/>"#
                );
                top += height;
            }
        }
        cells.push_str("</g>");
    }
    for (row, weekday) in [(0, "Mon"), (2, "Wed"), (4, "Fri")] {
        let y = TOP + row * CELL + SIZE;
        let _ = write!(labels, r#"<text x="0" y="{y}">{weekday}</text>"#);
    }
    let told = format!(
        "{weeks} weeks: {} runs succeeded, {} ended early, {} failed in part, {} failed (days of UTC)",
        human_count(sums[0]),
        human_count(sums[1]),
        human_count(sums[2]),
        human_count(sums[3])
    );
    let (width, height) = (LEFT + u64::from(weeks) * CELL, TOP + 7 * CELL);
    let svg = format!(
        r#"<svg class="heat" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" aria-label="{told}"><path class="none" d="{empty}"/>{cells}{labels}</svg>"#
    );
    (svg, told)
}

/// How high each part of a day is: by its share of the runs, and seen wherever there was one.
fn heights(counts: &[i64; 4]) -> [u64; 4] {
    let all = counts.iter().sum::<i64>().max(1).unsigned_abs();
    let mut heights = counts.map(|count| match count.unsigned_abs() {
        0 => 0,
        count => (count * SIZE / all).max(LEAST),
    });
    // What rounding has left over, or taken too much of, is the largest part's.
    let sum: u64 = heights.iter().sum();
    if let Some(largest) = heights.iter_mut().max() {
        *largest = (*largest + SIZE).saturating_sub(sum);
    }
    heights
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_colour_their_day_by_share() {
        let day = |day: &str, status, runs| Day {
            day: day.to_owned(),
            name: "reindex".to_owned(),
            status,
            runs,
            duration_ms: 0,
            rows: 0,
            bytes_reclaimed: 0,
        };
        let days = [
            day("2026-03-02", RunStatus::Succeeded, 9),
            day("2026-03-02", RunStatus::Failed, 1),
            day("2026-03-03", RunStatus::Incomplete, 1),
            day("2026-03-04", RunStatus::Partial, 2),
            day("2020-01-01", RunStatus::Failed, 7),
        ];
        let today = NaiveDate::from_ymd_opt(2026, 3, 4).unwrap_or_default();
        let (svg, told) = calendar(&days, today, 2);
        assert_eq!(
            told,
            "2 weeks: 9 runs succeeded, 1 ended early, 2 failed in part, 1 failed (days of UTC)"
        );
        // One of ten is seen, and no more than that.
        let there = |class: &str, week: u64, row: u64, top: u64, height: u64| {
            let (x, y) = (LEFT + week * CELL, TOP + row * CELL + top);
            let cell = format!(r#"class="{class}" x="{x}" y="{y}" width="11" height="{height}""#);
            assert!(svg.contains(&cell), "{cell}\n{svg}");
        };
        assert_eq!(svg.matches("<rect").count(), 4);
        there("good", 1, 0, 0, 9);
        there("bad", 1, 0, 9, 2);
        // What ran out of time looks different from what failed in part.
        there("early", 1, 1, 0, 11);
        there("partly", 1, 2, 0, 11);
        for label in ["Mon", "Wed", "Fri", "Mar"] {
            assert!(svg.contains(&format!(">{label}</text>")), "{label}: {svg}");
        }
        // However many ways a day went, its parts fill it.
        for counts in [
            [1, 1, 1, 1],
            [1000, 1, 1, 1],
            [0, 1, 0, 2],
            [1, 0, 0, 0],
            [1, 9999, 1, 9999],
        ] {
            let heights = heights(&counts);
            assert_eq!(heights.iter().sum::<u64>(), SIZE, "{counts:?}: {heights:?}");
            for (count, height) in counts.iter().zip(heights) {
                assert_eq!(*count > 0, height > 0, "{counts:?}: {heights:?}");
            }
        }
    }
}
