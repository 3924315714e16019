//! Charts as SVG, written by hand: a page shows them as they are, a mail
//! carries them as PNG. The numbers stand in a table nearby, so a chart never
//! says anything that text does not.

mod days;
mod gains;
mod png;
mod svg;
mod trend;

pub use png::png;

use super::model::{Report, Trend};

/// A picture of numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chart {
    /// Its name within the message.
    pub id: String,
    /// What it shows, for who does not see it.
    pub alt: String,
    /// The picture; colours that can be read on white and on black.
    pub svg: String,
}

/// At most so many targets get a chart of their size; the table has all.
const MOST_TRENDS: usize = 4;

/// How the runs of the period ended, by day.
pub fn days(report: &Report) -> Option<Chart> {
    days::chart(report)
}

/// What became smaller.
pub fn gains(report: &Report) -> Option<Chart> {
    gains::chart(&report.gains)
}

/// How the sizes of the targets changed.
pub fn sizes(report: &Report) -> Vec<Chart> {
    let sizes = report
        .trends
        .iter()
        .filter(|trend| trend.metric == "database.bytes" && trend.points.len() > 1);
    sizes
        .take(MOST_TRENDS)
        .enumerate()
        .map(|(n, trend)| Chart {
            id: format!("size-{n}"),
            ..trend::chart(trend)
        })
        .collect()
}

/// One trend as a line.
pub fn trend(trend: &Trend) -> Chart {
    trend::chart(trend)
}
