//! What can be asked of the kind: thresholds, mostly.

use crate::plan::Unfit;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::values::{Bytes, NamePattern, Percent, SchemaPattern, TimeSpan};

/// Options of `kind: snapshot`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Snapshot {
    /// Findings only about tables, indexes and views that match one of these patterns.
    pub(super) include: Vec<NamePattern>,
    /// No findings about what matches one of these patterns.
    pub(super) exclude: Vec<NamePattern>,
    /// Only in schemas that one of these patterns names and none with a `!` does; all where there is none.
    pub(super) schemas: Vec<SchemaPattern>,
    /// How many of the largest tables and busiest statements go into the
    /// time series; up to 500.
    pub(super) top: u32,
    /// A statement that takes longer than this on average is slow.
    pub(super) max_statement_mean: TimeSpan,
    /// A statement is not judged before it was called this often.
    pub(super) min_calls: u64,
    /// A statement that takes this many times as long as last month got slower.
    pub(super) slower_by: f64,
    /// Share of the connections that may be in use.
    pub(super) max_connections: Percent,
    /// Share of the blocks that should be found in the server's cache.
    pub(super) min_cache_hit: Percent,
    /// How far a replica may be behind.
    pub(super) max_replication_lag: TimeSpan,
    /// How much log an idle replication slot may hold back.
    pub(super) max_slot_retention: Bytes,
    /// Share of a table's rows that may be dead.
    pub(super) max_dead: Percent,
    /// Fewer dead rows than this never matter.
    pub(super) min_dead_rows: u64,
    /// How many transactions old the oldest row may be before it is a warning.
    /// The server stops accepting writes at about 2,100,000,000.
    pub(super) max_freeze_age: u64,
    /// How long a transaction may be open.
    pub(super) max_transaction: TimeSpan,
    /// How old a materialized view may be once its sources have changed.
    pub(super) view_fresh_within: TimeSpan,
    /// Share by which the database may grow within `growth_period`.
    pub(super) max_growth: Percent,
    /// Less growth than this never matters.
    pub(super) min_growth: Bytes,
    /// The period over which growth is measured; up to 30 days.
    pub(super) growth_period: TimeSpan,
    /// An index nobody used for this long is unused: on no server, and not
    /// before statistics are that old.
    pub(super) unused_after: TimeSpan,
    /// Indexes smaller than this, and foreign keys of tables smaller than
    /// this, are not worth a finding.
    pub(super) min_size: Bytes,
}

impl Default for Snapshot {
    fn default() -> Self {
        Snapshot {
            include: Vec::new(),
            exclude: Vec::new(),
            schemas: Vec::new(),
            top: 50,
            max_statement_mean: TimeSpan::from_secs(1),
            // A mean over fewer calls is chance.
            min_calls: 10,
            slower_by: 2.0,
            max_connections: Percent::new(80.0),
            min_cache_hit: Percent::new(90.0),
            max_replication_lag: TimeSpan::from_secs(30),
            max_slot_retention: Bytes(10 << 30),
            // Autovacuum acts at 20 % by default; at twice that it does not keep up.
            max_dead: Percent::new(40.0),
            min_dead_rows: 10_000,
            // Several forced vacuums in a row did not get through.
            max_freeze_age: 500_000_000,
            max_transaction: TimeSpan::from_mins(60),
            view_fresh_within: TimeSpan::from_mins(4 * 60),
            max_growth: Percent::new(20.0),
            min_growth: Bytes(1 << 30),
            growth_period: TimeSpan::from_mins(7 * 24 * 60),
            // Month-end work uses indexes that nothing else does.
            unused_after: TimeSpan::from_mins(35 * 24 * 60),
            min_size: Bytes(1 << 20),
        }
    }
}

impl Snapshot {
    /// Whether the options make sense together.
    pub(super) fn sensible(&self) -> Result<(), Unfit> {
        if self.top > 500 {
            return Err(Unfit::at(
                "top",
                format!("`top` is {}; at most 500 can be kept", self.top),
            ));
        }
        if self.slower_by.is_nan() || self.slower_by <= 1.0 {
            return Err(Unfit::at(
                "slower_by",
                format!("`slower_by` is {}; it must be more than 1", self.slower_by),
            ));
        }
        if self.growth_period > TimeSpan::from_mins(30 * 24 * 60) {
            return Err(Unfit::at(
                "growth_period",
                format!(
                    "`growth_period` is {}; sizes are kept for 30 days",
                    self.growth_period
                ),
            ));
        }
        Ok(())
    }
}
