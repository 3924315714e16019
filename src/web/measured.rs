//! What the last snapshots said of the databases, for Prometheus.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;

use chrono::TimeDelta;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::config::Config;
use crate::history::{HistoryError, Period, Store};
use crate::report::gather_trends;
use crate::values::wall_clock;

/// What was measured longer ago says nothing of now.
const FRESH_HOURS: i64 = 72;

/// One number of the history as Prometheus has it.
struct Measured {
    /// In the history.
    metric: &'static str,
    name: &'static str,
    help: &'static str,
    /// From the history's unit to Prometheus'.
    factor: f64,
}

const fn measured(
    metric: &'static str,
    name: &'static str,
    help: &'static str,
    factor: f64,
) -> Measured {
    Measured {
        metric,
        name,
        help,
        factor,
    }
}

/// Statements are left out: their texts are no labels.
const ALL: [Measured; 29] = [
    measured(
        "database.free_bytes",
        "database_free_bytes",
        "Space in the files of collections that nothing uses, at the last snapshot",
        1.0,
    ),
    measured(
        "collection.bytes",
        "collection_size_bytes",
        "Size of its largest collections with their indexes at the last snapshot",
        1.0,
    ),
    measured(
        "collection.index_bytes",
        "collection_index_bytes",
        "Size of the indexes of its largest collections at the last snapshot",
        1.0,
    ),
    measured(
        "collection.documents",
        "collection_documents",
        "Documents of its largest collections at the last snapshot",
        1.0,
    ),
    measured(
        "collection.free_bytes",
        "collection_free_bytes",
        "Space in their files that nothing uses, at the last snapshot",
        1.0,
    ),
    measured(
        "cache.dirty_ratio",
        "cache_dirty_ratio",
        "Share of the cache that was changed and not yet written at the last snapshot, from 0 to 1",
        1.0,
    ),
    measured(
        "cache.used_ratio",
        "cache_used_ratio",
        "Share of the cache in use at the last snapshot, from 0 to 1",
        1.0,
    ),
    measured(
        "tickets.available",
        "tickets_available",
        "Free tickets to read and to write at the last snapshot",
        1.0,
    ),
    measured(
        "connections.limit",
        "connections_limit",
        "Connections that the server allows",
        1.0,
    ),
    measured(
        "oplog.window_ms",
        "oplog_window_seconds",
        "How far the oplog reached back at the last snapshot",
        0.001,
    ),
    measured(
        "backup.age_ms",
        "backup_age_seconds",
        "How long before the last snapshot a backup cursor was seen",
        0.001,
    ),
    measured(
        "database.bytes",
        "database_size_bytes",
        "Size of the database at the last snapshot",
        1.0,
    ),
    measured(
        "table.bytes",
        "table_size_bytes",
        "Size of its largest tables at the last snapshot",
        1.0,
    ),
    measured(
        "table.bloat",
        "table_bloat_ratio",
        "Bloat of its most bloated tables at the last snapshot, from 0 to 1",
        1.0,
    ),
    measured(
        "index.bloat",
        "index_bloat_ratio",
        "Bloat of its most bloated indexes at the last snapshot, from 0 to 1",
        1.0,
    ),
    measured(
        "cache.hit_ratio",
        "cache_hit_ratio",
        "Share of pages found in memory up to the last snapshot, from 0 to 1",
        1.0,
    ),
    measured(
        "connections.used",
        "connections_used",
        "Connections at the last snapshot",
        1.0,
    ),
    measured(
        "connections.by_state",
        "connections_in_state",
        "Connections of clients at the last snapshot, by their state",
        1.0,
    ),
    measured(
        "connections.longest_ms",
        "connections_longest_seconds",
        "How long the first of them had been in its state at the last snapshot",
        0.001,
    ),
    measured(
        "connections.waiting",
        "connections_waiting",
        "Clients that waited for a lock at the last snapshot",
        1.0,
    ),
    measured(
        "table.rows",
        "table_rows",
        "Rows of its largest tables at the last snapshot, as the server estimates them",
        1.0,
    ),
    measured(
        "table.hit_ratio",
        "table_hit_ratio",
        "Share of pages of its largest tables found in memory, from 0 to 1",
        1.0,
    ),
    measured(
        "index.scans",
        "index_scans",
        "Scans of its largest indexes since the server counts",
        1.0,
    ),
    measured(
        "index.tuples",
        "index_entries_read",
        "Entries read from its largest indexes since the server counts",
        1.0,
    ),
    measured(
        "indexes.never_used",
        "indexes_never_used",
        "Indexes that were not scanned since the server counts",
        1.0,
    ),
    measured(
        "freeze.age",
        "freeze_age_transactions",
        "Age of the oldest transaction id at the last snapshot",
        1.0,
    ),
    measured(
        "replication.lag_ms",
        "replication_lag_seconds",
        "How far standbys and secondaries were behind at the last snapshot",
        0.001,
    ),
    measured(
        "slot.retained_bytes",
        "slot_retained_bytes",
        "Log held back by replication slots at the last snapshot",
        1.0,
    ),
    measured(
        "view.stale_ms",
        "view_stale_seconds",
        "Age of the oldest materialized views at the last snapshot",
        0.001,
    ),
];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Object {
    target: String,
    /// Empty for the whole target.
    object: String,
}

/// Adds the numbers of the last snapshot of every target.
pub(super) async fn register(
    registry: &mut Registry,
    config: &Config,
    store: &dyn Store,
) -> Result<(), HistoryError> {
    let targets: Vec<String> = config.targets.keys().cloned().collect();
    let now = wall_clock();
    let lately = Period {
        since: now - TimeDelta::hours(FRESH_HOURS),
        until: now,
    };
    let mut families: BTreeMap<&str, Family<Object, Gauge<f64, AtomicU64>>> = BTreeMap::new();
    for trend in gather_trends(store, config, &targets, &lately).await? {
        let Some(one) = ALL.iter().find(|one| one.metric == trend.metric) else {
            continue;
        };
        families
            .entry(one.metric)
            .or_default()
            .get_or_create(&Object {
                target: trend.target,
                object: trend.object,
            })
            .set(trend.last * one.factor);
    }
    for one in &ALL {
        if let Some(family) = families.remove(one.metric) {
            registry.register(one.name, one.help, family);
        }
    }
    Ok(())
}
