//! What a report is made from.

use chrono::{DateTime, Utc};

use crate::config::Config;
use crate::history::{
    Day, Gain, Overdue, Pause, Period, Series, TaskTotals, TrackedFindings, Trouble,
};

/// Into how many parts a trend is divided.
pub(super) const PARTS: u32 = 28;

pub(super) const MOST_TROUBLES: usize = 15;

/// What a report is about.
#[derive(Clone, Debug)]
pub struct Scope {
    /// Which stretch of time.
    pub period: Period,
    /// What it is called.
    pub text: String,
    /// What time it is.
    pub now: DateTime<Utc>,
}

/// Everything a report is made from.
pub(super) struct Material<'a> {
    pub(super) config: &'a Config,
    pub(super) scope: &'a Scope,
    pub(super) days: Vec<Day>,
    pub(super) before: Vec<Day>,
    pub(super) tasks: Vec<TaskTotals>,
    pub(super) gains: Vec<Gain>,
    pub(super) troubles: Vec<Trouble>,
    pub(super) findings: TrackedFindings,
    pub(super) missed: i64,
    pub(super) missed_before: i64,
    pub(super) series: Vec<Series>,
    pub(super) overdue: Vec<Overdue>,
    pub(super) pauses: Vec<Pause>,
}

/// Where a trend's part lies in the period: its middle.
pub(super) fn part_middle(period: &Period, part: i64) -> DateTime<Utc> {
    let length = (period.until - period.since) / i32::try_from(PARTS).unwrap_or(1);
    let part = i32::try_from(part).unwrap_or(0);
    period.since + length * part + length / 2
}
