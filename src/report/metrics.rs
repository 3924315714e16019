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

/// What pages and Prometheus have besides; a report would be too long with it.
pub(super) const DETAILS: &[Metric] = &[
    metric("collection.documents", "documents", Unit::Count, 5, None),
    metric(
        "collection.index_bytes",
        "indexes of collections",
        Unit::Bytes,
        5,
        None,
    ),
    metric(
        "collection.free_bytes",
        "free in files of collections",
        Unit::Bytes,
        5,
        Some(Up),
    ),
    metric("cache.used_ratio", "cache in use", Unit::Share, 1, None),
    metric(
        "connections.limit",
        "connections that are allowed",
        Unit::Count,
        1,
        None,
    ),
    metric(
        "operation.calls",
        "slow operations by shape",
        Unit::Count,
        5,
        Some(Up),
    ),
    metric(
        "backup.age_ms",
        "since a backup cursor was seen",
        Unit::Ms,
        1,
        Some(Up),
    ),
    metric("table.rows", "rows", Unit::Count, 5, None),
    metric(
        "table.hit_ratio",
        "table found in memory",
        Unit::Share,
        5,
        Some(Down),
    ),
    metric("index.scans", "index scans", Unit::Count, 5, None),
    metric("index.tuples", "index entries read", Unit::Count, 5, None),
    metric(
        "indexes.never_used",
        "indexes never used",
        Unit::Count,
        1,
        None,
    ),
    metric(
        "connections.by_state",
        "connections by state",
        Unit::Count,
        6,
        None,
    ),
    metric(
        "connections.longest_ms",
        "longest in its state",
        Unit::Ms,
        6,
        None,
    ),
    metric(
        "connections.waiting",
        "waiting for locks",
        Unit::Count,
        1,
        Some(Up),
    ),
    metric(
        "statement.calls",
        "calls of statements",
        Unit::Count,
        5,
        None,
    ),
    metric(
        "statement.total_ms",
        "time of statements",
        Unit::Ms,
        5,
        None,
    ),
    metric(
        "statement.deviation_ms",
        "deviation of statements",
        Unit::Ms,
        5,
        None,
    ),
    metric(
        "statement.rows_per_call",
        "rows per call",
        Unit::Count,
        5,
        None,
    ),
    metric(
        "statement.hit_ratio",
        "statement found in memory",
        Unit::Share,
        5,
        Some(Down),
    ),
];

/// In the order of the report.
pub(super) const METRICS: &[Metric] = &[
    metric("database.bytes", "database size", Unit::Bytes, 1, None),
    metric("table.bytes", "largest tables", Unit::Bytes, 5, None),
    metric(
        "collection.bytes",
        "largest collections",
        Unit::Bytes,
        5,
        None,
    ),
    metric(
        "database.free_bytes",
        "free in files",
        Unit::Bytes,
        1,
        Some(Up),
    ),
    metric("table.bloat", "table bloat", Unit::Share, 3, Some(Up)),
    metric("index.bloat", "index bloat", Unit::Share, 3, Some(Up)),
    metric("cache.hit_ratio", "cache hits", Unit::Share, 1, Some(Down)),
    metric(
        "cache.dirty_ratio",
        "cache not yet written",
        Unit::Share,
        1,
        Some(Up),
    ),
    metric(
        "tickets.available",
        "free tickets",
        Unit::Count,
        2,
        Some(Down),
    ),
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
        "operation.mean_ms",
        "slowest operations",
        Unit::Ms,
        5,
        Some(Up),
    ),
    metric(
        "oplog.window_ms",
        "reach of the oplog",
        Unit::Ms,
        1,
        Some(Down),
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
