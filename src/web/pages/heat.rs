//! A calendar of days, each in the colour of its worst run.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use chrono::{Datelike, Days, NaiveDate};

use crate::history::{Day, RunStatus};
use crate::report::text::human_count;

const CELL: u32 = 13;
const SIZE: u32 = 11;

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
    let mut sums = [0_i64; 4];
    for n in 0..=back {
        let Some(day) = first.checked_add_days(Days::new(n)) else {
            break;
        };
        let (x, y) = (n / 7 * u64::from(CELL), n % 7 * u64::from(CELL));
        let name = day.to_string();
        let Some(counts) = by_day.get(name.as_str()) else {
            let _ = write!(empty, "M{x} {y}h{SIZE}v{SIZE}h-{SIZE}z");
            continue;
        };
        for (sum, count) in sums.iter_mut().zip(counts) {
            *sum += count;
        }
        let class = match counts {
            [_, _, _, failed] if *failed > 0 => "bad",
            [_, _, partly, _] if *partly > 0 => "partly",
            [_, early, ..] if *early > 0 => "early",
            _ => "good",
        };
        let _ = write!(
            cells,
            r#"<rect class="{class}" x="{x}" y="{y}" width="{SIZE}" height="{SIZE}"><title>{name}: {} succeeded, {} ended early, {} failed in part, {} failed</title></rect>"#,
            counts[0], counts[1], counts[2], counts[3]
        );
    }
    let told = format!(
        "{weeks} weeks: {} runs succeeded, {} ended early, {} failed in part, {} failed",
        human_count(sums[0]),
        human_count(sums[1]),
        human_count(sums[2]),
        human_count(sums[3])
    );
    let (width, height) = (weeks * CELL, 7 * CELL);
    let svg = format!(
        r#"<svg class="heat" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" aria-label="{told}"><path class="none" d="{empty}"/>{cells}</svg>"#
    );
    (svg, told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_run_colours_its_day() {
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
            "2 weeks: 9 runs succeeded, 1 ended early, 2 failed in part, 1 failed"
        );
        assert_eq!(svg.matches("<rect").count(), 3);
        assert!(svg.contains(r#"class="bad" x="13" y="0""#), "{svg}");
        // What ran out of time looks different from what failed in part.
        assert!(svg.contains(r#"class="early" x="13" y="13""#), "{svg}");
        assert!(svg.contains(r#"class="partly" x="13" y="26""#), "{svg}");
    }
}
