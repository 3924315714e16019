//! Kinds for MongoDB. A new kind is one file here and one line in the table.

mod archive;
mod cleanup;
mod common;
mod compact;
mod expiring;
mod fields;
mod filter;
mod integrity;
mod refresh;
mod snapshot;

pub(crate) use archive::elsewhere;

use crate::engines::mongodb::Session;
use crate::plan::Entry;

/// Every kind that works on MongoDB.
pub const KINDS: &[Entry<Session>] = &[
    Entry::of::<archive::Archive>(),
    Entry::of::<cleanup::Cleanup>(),
    Entry::of::<compact::CompactKind>(),
    Entry::of::<integrity::Integrity>(),
    Entry::of::<refresh::Refresh>(),
    Entry::of::<snapshot::Snapshot>(),
];
