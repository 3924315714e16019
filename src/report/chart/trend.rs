//! One series of numbers over time, as a line from nothing on, so that small changes do not look
//! large.

use super::Chart;
use super::svg::{Anchor, Drawing, MAIN, WIDTH};
use crate::report::filters::value;
use crate::report::model::Trend;

const TOP: f64 = 22.0;
const PLOT: f64 = 84.0;

pub(super) fn chart(trend: &Trend) -> Chart {
    let mut drawing = Drawing::new(TOP + PLOT + 22.0);
    let values = trend.points.iter().map(|point| point.value);
    // From nothing on: a change of four in a hundred looks like one.
    let (low, high) = values.fold((0.0_f64, 0.0_f64), |(low, high), value| {
        (low.min(value), high.max(value))
    });
    let room = if high > low { high - low } else { 1.0 };
    let begin = trend.points.first().map(|point| point.at);
    let length = begin
        .zip(trend.points.last())
        .map_or(1.0, |(begin, last)| (last.at - begin).num_seconds() as f64)
        .max(1.0);
    let points: Vec<(f64, f64)> = trend
        .points
        .iter()
        .map(|point| {
            let elapsed = begin.map_or(0, |begin| (point.at - begin).num_seconds());
            let share = (point.value - low) / room;
            (
                8.0 + elapsed as f64 / length * (WIDTH - 16.0),
                TOP + PLOT * 0.06 + PLOT * 0.94 * (1.0 - share),
            )
        })
        .collect();
    drawing.area(&points, TOP + PLOT, MAIN);
    drawing.line(&points, MAIN);
    drawing.rule(TOP + PLOT);
    if let Some((x, y)) = points.last() {
        drawing.dot(*x, *y, MAIN);
    }
    let unit = trend.unit.as_str();
    drawing.text(0.0, 13.0, Anchor::Start, &value(trend.first, unit));
    drawing.text(WIDTH, 13.0, Anchor::End, &value(trend.last, unit));
    for (point, anchor, x) in [
        (trend.points.first(), Anchor::Start, 0.0),
        (trend.points.last(), Anchor::End, WIDTH),
    ] {
        if let Some(point) = point {
            let day = point.at.format("%-d %b").to_string();
            drawing.text(x, TOP + PLOT + 17.0, anchor, &day);
        }
    }
    let alt = format!(
        "{} of {}: from {} to {}",
        trend.title,
        trend.target,
        value(trend.first, unit),
        value(trend.last, unit)
    );
    Chart {
        id: "trend".to_owned(),
        svg: drawing.finish(&alt),
        alt,
    }
}
