//! Kinds for PostgreSQL: one file, and one line in the table, each.

mod analyze;
mod archive;
mod cleanup;
mod by_schema;
mod common;
mod dependents;
mod forsaken;
mod half_built;
mod held;
mod horizon;
mod integrity;
mod layout;
mod leaving;
mod partitions;
mod refresh;
mod reindex;
mod repack;
mod retention;
mod rights;
mod snapshot;
mod sql;
mod trust;
mod uncounted;
mod vacuum;

pub use self::forsaken::forsaken;
use crate::engines::postgres::Session;
use crate::plan::Entry;

/// What the comments begin with of tables that were partitions, and that a run has taken out of their tables to be
/// dropped or archived: runs look after them.
pub const ON_THEIR_WAY_OUT: [&str; 3] = [retention::mark::MARK, partitions::RETIRED, archive::MARK];

/// Every kind that works on PostgreSQL.
pub const KINDS: &[Entry<Session>] = &[
    Entry::of::<analyze::Analyze>(),
    Entry::of::<archive::Archive>(),
    Entry::of::<cleanup::Cleanup>(),
    Entry::of::<integrity::Integrity>(),
    Entry::of::<partitions::Partitions>(),
    Entry::of::<refresh::Refresh>(),
    Entry::of::<reindex::Reindex>(),
    Entry::of::<repack::Repack>(),
    Entry::of::<snapshot::Snapshot>(),
    Entry::of::<sql::Sql>(),
    Entry::of::<vacuum::Vacuum>(),
];
