//! The metrics that reports show, and what they mean.

use super::model::Unit;

/// A metric worth showing.
pub(super) struct Metric {
    /// Its name in the history.
    pub(super) name: &'static str,
    /// In words.
    pub(super) title: &'static str,
    pub(super) unit: Unit,
    /// How many objects are shown; the highest ones.
    pub(super) most: u32,
    /// Which way is worse; `None` where neither is.
    pub(super) worse: Option<Direction>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Up,
    Down,
}

const fn metric(
    name: &'static str,
    title: &'static str,
    unit: Unit,
    most: u32,
    worse: Option<Direction>,
) -> Metric {
    Metric {
        name,
        title,
        unit,
        most,
        worse,
    }
}

use Direction::{Down, Up};

/// In the order of the report.
pub(super) const METRICS: &[Metric] = &[
    metric("database.bytes", "database size", Unit::Bytes, 1, None),
    metric("table.bytes", "largest tables", Unit::Bytes, 5, None),
    metric("table.bloat", "table bloat", Unit::Share, 3, Some(Up)),
    metric("index.bloat", "index bloat", Unit::Share, 3, Some(Up)),
    metric("cache.hit_ratio", "cache hits", Unit::Share, 1, Some(Down)),
    metric("connections.used", "connections", Unit::Count, 1, None),
    metric(
        "freeze.age",
        "oldest transaction id",
        Unit::Count,
        1,
        Some(Up),
    ),
    metric(
        "statement.mean_ms",
        "slowest statements",
        Unit::Ms,
        5,
        Some(Up),
    ),
    metric(
        "replication.lag_ms",
        "replication lag",
        Unit::Ms,
        3,
        Some(Up),
    ),
    metric(
        "slot.retained_bytes",
        "log held by slots",
        Unit::Bytes,
        3,
        Some(Up),
    ),
    metric("view.stale_ms", "age of views", Unit::Ms, 3, Some(Up)),
];
