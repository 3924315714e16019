//! Runs by day as bars: how many went well, ended early, were done in part, or failed.

use chrono::{Days, NaiveDate};

use super::Chart;
use super::svg::{Anchor, BAD, Drawing, EARLY, GOOD, PARTLY, WIDTH};
use crate::report::model::{DayLine, Report};

const TOP: f64 = 26.0;
const PLOT: f64 = 110.0;
const LEGEND: f64 = 22.0;
/// More bars than this would be hairs.
const MOST_BARS: usize = 62;

pub(super) fn chart(report: &Report) -> Option<Chart> {
    let bars = bars(report)?;
    let most = bars.iter().map(all_of).max()?;
    if most == 0 {
        return None;
    }
    let mut drawing = Drawing::new(TOP + PLOT + 24.0 + LEGEND);
    let slot = WIDTH / bars.len() as f64;
    let width = (slot * 0.72).min(44.0);
    for (n, bar) in bars.iter().enumerate() {
        let x = slot * n as f64 + (slot - width) / 2.0;
        let mut y = TOP + PLOT;
        for (count, color) in [
            (bar.succeeded, GOOD),
            (bar.early, EARLY),
            (bar.partly, PARTLY),
            (bar.failed, BAD),
        ] {
            // One failure among a thousand runs is still seen.
            let height = if count == 0 {
                0.0
            } else {
                (count as f64 / most as f64 * PLOT).max(3.0)
            };
            y -= height;
            drawing.bar(x, y.max(0.0), width, height, color);
        }
        let all = all_of(bar);
        if bars.len() <= 10 && all > 0 {
            drawing.text(
                x + width / 2.0,
                (y - 6.0).max(12.0),
                Anchor::Middle,
                &all.to_string(),
            );
        }
        let every = bars.len().div_ceil(6);
        if n % every == 0 {
            drawing.text(
                x + width / 2.0,
                TOP + PLOT + 18.0,
                Anchor::Middle,
                &short(&bar.day),
            );
        }
    }
    drawing.rule(TOP + PLOT);
    let sum = |of: fn(&DayLine) -> i64| bars.iter().map(of).sum::<i64>();
    // Of what there is alone: a good week needs no word for failures.
    let legend = [
        (GOOD, "succeeded", sum(|bar| bar.succeeded)),
        (EARLY, "ended early", sum(|bar| bar.early)),
        (PARTLY, "failed in part", sum(|bar| bar.partly)),
        (BAD, "failed", sum(|bar| bar.failed)),
    ];
    let legend = legend.into_iter().filter(|(.., count)| *count > 0);
    let legend: Vec<(&str, &str)> = legend.map(|(color, word, _)| (color, word)).collect();
    drawing.legend(TOP + PLOT + 24.0 + 17.0, &legend);
    let alt = format!(
        "Runs by day (UTC): {} succeeded, {} ended early, {} failed in part, {} failed",
        sum(|bar| bar.succeeded),
        sum(|bar| bar.early),
        sum(|bar| bar.partly),
        sum(|bar| bar.failed)
    );
    Some(Chart {
        id: "days".to_owned(),
        svg: drawing.finish(&alt),
        alt,
    })
}

fn all_of(bar: &DayLine) -> i64 {
    bar.succeeded + bar.early + bar.partly + bar.failed
}

/// A bar per day, also for days without a run; several days in one where
/// there are too many.
fn bars(report: &Report) -> Option<Vec<DayLine>> {
    let begin = report.period.since.date_naive();
    let last = report.period.until.date_naive();
    let seen = report.days.first()?.day.parse::<NaiveDate>().ok()?;
    // A report over ten years begins with the first run.
    let short = (last - begin).num_days() < MOST_BARS as i64;
    let first = if short { begin } else { seen.max(begin) };
    let days = usize::try_from((last - first).num_days() + 1).ok()?;
    let each = days.div_ceil(MOST_BARS).max(1);
    let mut bars: Vec<DayLine> = (0..days.div_ceil(each))
        .filter_map(|n| first.checked_add_days(Days::new((n * each) as u64)))
        .map(|day| DayLine {
            day: day.to_string(),
            ..DayLine::default()
        })
        .collect();
    for line in &report.days {
        let day: NaiveDate = line.day.parse().ok()?;
        let place = usize::try_from((day - first).num_days()).unwrap_or(0) / each;
        if let Some(bar) = bars.get_mut(place) {
            bar.succeeded += line.succeeded;
            bar.early += line.early;
            bar.partly += line.partly;
            bar.failed += line.failed;
        }
    }
    (bars.len() > 1).then_some(bars)
}

fn short(day: &str) -> String {
    day.parse::<NaiveDate>()
        .map_or_else(|_| day.to_owned(), |day| day.format("%-d %b").to_string())
}
